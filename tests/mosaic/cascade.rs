//! Mosaics whose tiles stop early.

use gst::prelude::*;

use crate::common::{self, End};
use crate::raster::{Folder, Raster, texture};

/// A run over part of the demo scene with the three folds: its labels, and passes run and saved.
fn run(folder: &Folder, name: &str, settings: &str, sink: &str) -> (Raster<u8>, u64, u64) {
    let (scene, models) = (common::root().join("out/scene.tif"), common::root().join("models/fold*.onnx"));
    let path = folder.path(name);
    let pipeline = common::launch(&format!(
        "rastersrc location=\"{}\" window=600,0,256,256 tile-size=128 overlap=32 \
         ! onnxsegment name=s model-file=\"{}\" tta=hflip {settings} ! rastersink location=\"{path}\" {sink}",
        scene.display(),
        models.display(),
    ));
    let element = pipeline.get("s");
    // The counts go with the models when the pipeline stops.
    let bus = pipeline.0.bus().unwrap();
    pipeline.0.set_state(gst::State::Playing).unwrap();
    let end = bus.timed_pop_filtered(common::LONG, &[gst::MessageType::Eos, gst::MessageType::Error]).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    let stats: gst::Structure = element.property("stats");
    pipeline.0.set_state(gst::State::Null).unwrap();
    (Raster::read(&path), stats.get("passes").unwrap(), stats.get("passes-saved").unwrap())
}

#[test]
fn exact_with_crop_is_the_whole_ensemble() {
    let _watchdog = common::start_for(120);
    let folder = Folder::new("cascade");
    for merge in ["mean", "vote"] {
        let merge = format!("merge={merge}");
        let (all, passes, _) = run(&folder, "all.tif", &merge, "blend=crop");
        let (early, run, saved) = run(&folder, "early.tif", &format!("{merge} cascade=exact"), "blend=crop");
        assert_eq!(run + saved, passes);
        assert!(saved > 0 && 2 * saved <= passes, "{merge}: {saved} of {passes} passes saved");
        assert!(early.data == all.data, "{merge}: labels differ");
    }
}

#[test]
fn exact_is_refused_where_scores_matter() {
    let _watchdog = common::start();
    let folder = Folder::new("cascade-refused");
    let source = folder.path("in.tif");
    Raster::new(3, (150, 90), texture).write(&source, None, false);
    let out = folder.path("out.tif");
    let front = format!(
        "rastersrc location={source} tile-size=64 overlap=16 ! onnxsegment model-file={{sigmoid}} size-multiple=4 cascade=exact"
    );
    let error = |description: &str| match common::launch(description).run() {
        End::Error(own, others) => own.into_iter().chain(others).next().unwrap_or_default(),
        _ => panic!("no error: {description}"),
    };
    for back in [
        format!("rastersink location={out}"),
        "tilemerge ! fakesink".into(),
        format!("rastersink blend=hann location={out}"),
    ] {
        let text = error(&format!("{front} ! {back}"));
        assert!(text.starts_with("blend=") && text.contains("set blend=crop"), "{text}");
    }
    for product in ["probability-location", "uncertainty-location"] {
        let text = error(&format!("{front} ! rastersink blend=crop location={out} {product}={out}.2.tif"));
        assert!(text.contains(product) && text.contains("cascade=exact"), "{text}");
    }
    assert!(!std::path::Path::new(&out).exists());
}
