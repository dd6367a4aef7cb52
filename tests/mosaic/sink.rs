//! What rasters tell of themselves, and runs that end before they are whole.

use gdal::{Dataset, Metadata};
use gst::prelude::*;

use crate::common;
use crate::raster::{Folder, Raster, texture};

fn input(folder: &Folder, size: (usize, usize)) -> String {
    let path = folder.path("in.tif");
    Raster::new(3, size, |b, x, y| texture(b, x, y).max(1)).write(&path, Some(0.0), false);
    path
}

#[test]
fn three_rasters_of_one_run_tell_what_they_show() {
    let _watchdog = common::start();
    let folder = Folder::new("three");
    let source = input(&folder, (130, 100));
    for cog in [true, false] {
        let [labels, p, u] = ["labels.tif", "p.tif", "u.tif"].map(|name| folder.path(name));
        common::launch(
            &format!(
                "rastersrc location={source} window=20,10,100,80 ! onnxsegment model-file={{deepness}} tta=flips \
             uncertainty-kind=margin palette=\"none,#102030,#ffffff\" \
             ! rastersink location={labels} probability-location={p} uncertainty-location={u} probability-depth=16 \
             cog={cog} co=BLOCKSIZE=128",
            )
            .replace("co=BLOCKSIZE=128", if cog { "co=BLOCKSIZE=128" } else { "" }),
        )
        .finish();
        let [labels, p, u] = [labels, p, u].map(|path| Dataset::open(path).unwrap());
        for file in [&labels, &p, &u] {
            assert_eq!(file.raster_size(), (100, 80));
            assert_eq!(file.geo_transform().unwrap(), [500_010.0, 0.5, 0.0, 5_399_995.0, 0.0, -0.5]);
            assert_eq!(file.spatial_ref().unwrap().auth_code().unwrap(), 32633);
            let item = |name: &str| file.metadata_item(&format!("ONNXSEGMENT_{name}"), "").unwrap_or_default();
            assert_eq!((item("MODELS"), item("BLEND")), ("deepness.onnx".into(), "linear".into()));
            assert_eq!(
                (item("TTA"), item("CLASSES")),
                ("identity,hflip,vflip,rot180".into(), "_background,building,road".into())
            );
            assert_eq!(item("SHA256").len(), 64);
            let layout = file.metadata_item("LAYOUT", "IMAGE_STRUCTURE");
            assert_eq!(layout.as_deref() == Some("COG"), cog);
        }
        assert_eq!(u.metadata_item("ONNXSEGMENT_UNCERTAINTY", "").as_deref(), Some("margin"));
        let band = labels.rasterband(1).unwrap();
        assert_eq!(band.no_data_value(), Some(255.0));
        let colours = band.color_table().unwrap();
        let entry = |k| colours.entry_as_rgb(k).map(|c| (c.r, c.g, c.b)).unwrap();
        assert_eq!((entry(0), entry(1), entry(2)), ((0, 0, 0), (16, 32, 48), (255, 255, 255)));
        assert_eq!((p.raster_count(), u.raster_count()), (3, 1));
        for (k, name) in ["_background", "building", "road"].iter().enumerate() {
            let band = p.rasterband(k + 1).unwrap();
            assert_eq!((band.description().unwrap().as_str(), band.no_data_value()), (*name, Some(65535.0)));
            assert!((band.scale().unwrap() - 1.0 / 65534.0).abs() < 1e-12);
        }
        // Probabilities of a pixel sum to 1, and its label is that of the largest, where it reaches the model's threshold.
        let planes: Vec<Vec<u16>> =
            (1..4).map(|k| p.rasterband(k).unwrap().read_band_as::<u16>().unwrap().data().to_vec()).collect();
        let labels = band.read_band_as::<u8>().unwrap();
        let margin = u.rasterband(1).unwrap().read_band_as::<u16>().unwrap();
        for (k, label) in labels.data().iter().enumerate() {
            let v: Vec<f64> = planes.iter().map(|plane| plane[k] as f64 / 65534.0).collect();
            assert!((v.iter().sum::<f64>() - 1.0).abs() < 1e-4, "{v:?}");
            let best = (0..3).max_by(|a, b| v[*a].total_cmp(&v[*b])).unwrap();
            assert!(*label as usize == best || v[best] < 0.601 || *label == 0, "pixel {k}: {label} {v:?}");
            let second = (0..3).filter(|c| *c != best).map(|c| v[c]).fold(0.0, f64::max);
            assert!((margin.data()[k] as f64 / 65534.0 - (1.0 - (v[best] - second))).abs() < 1e-3, "pixel {k}: {v:?}");
        }
    }
}

#[test]
fn shards_in_any_order_are_the_whole() {
    let _watchdog = common::start_for(120);
    let folder = Folder::new("shards");
    let source = input(&folder, (300, 200));
    let run = |output: &str, source_settings: &str, blend: &str| {
        common::launch(&format!(
            "rastersrc location={source} tile-size=64 overlap=16 window=13,7,260,170 {source_settings} \
             ! onnxsegment model-file={{sigmoid}} size-multiple=4 \
             ! rastersink location={output} probability-location={output}.p.tif blend={blend} part-size=48,32"
        ))
        .finish();
    };
    for (blend, order) in [("linear", vec![2, 1]), ("crop", vec![3, 1, 2]), ("gaussian", vec![5, 3, 1, 2, 4])] {
        let (whole, shared) = (folder.path(&format!("{blend}.tif")), folder.path(&format!("{blend}-shards.tif")));
        run(&whole, "", blend);
        for (k, shard) in order.iter().enumerate() {
            assert!(!std::path::Path::new(&shared).exists(), "whole before shard {k} of {order:?}");
            run(&shared, &format!("shard={shard}/{}", order.len()), blend);
        }
        for suffix in ["", ".p.tif"] {
            let read = |path: &str| Raster::<u8>::read(format!("{path}{suffix}")).data;
            assert!(read(&whole) == read(&shared), "{blend}{suffix}");
        }
        assert!(!std::path::Path::new(&format!("{shared}.parts")).exists());
    }
}

#[test]
fn a_stream_that_ends_early_leaves_parts_and_a_warning() {
    let _watchdog = common::start();
    let folder = Folder::new("early");
    let (source, out) = (input(&folder, (300, 200)), folder.path("out.tif"));
    let text = |sink: &str| {
        format!(
            "rastersrc name=source location={source} tile-size=64 overlap=16 \
             ! onnxsegment model-file={{sigmoid}} size-multiple=4 ! rastersink name=sink location={out} part-size=48,32 {sink}"
        )
    };
    let pipeline = common::launch(&text(""));
    let seen = std::sync::atomic::AtomicUsize::new(0);
    pipeline.get("source").static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        match seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            n if n < 12 => gst::PadProbeReturn::Ok,
            // As if the source had no more.
            _ => gst::PadProbeReturn::Drop,
        }
    });
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut warnings = Vec::new();
    loop {
        let message = bus.timed_pop(common::LONG).expect("the stream ends");
        match message.view() {
            gst::MessageView::Warning(w) => warnings.push(w.error().message().to_string()),
            gst::MessageView::Error(e) => panic!("{e:?}"),
            gst::MessageView::Eos(_) => break,
            _ => {}
        }
    }
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("of 49 parts are in") && warnings[0].contains("run again to resume"), "{warnings:?}");
    assert!(!std::path::Path::new(&out).exists());
    drop(pipeline);

    // Without finishing, then with: only what is missing is computed.
    let count = |sink: &str| {
        let pipeline = common::launch(&text(sink));
        pipeline.finish();
        let stats = pipeline.get("sink").property::<gst::Structure>("stats");
        (stats.get::<u64>("parts-resumed").unwrap(), stats.get::<u64>("tiles").unwrap())
    };
    let (resumed, tiles) = count("finish=false");
    assert!(resumed > 0 && tiles > 0 && tiles < 35, "{resumed} parts, {tiles} tiles");
    assert!(!std::path::Path::new(&out).exists());
    assert_eq!(count("resume=true"), (49, 0));
    let found = Raster::<u8>::read(&out).data;
    assert!(count("resume=false").1 > 30);
    assert!(found == Raster::<u8>::read(&out).data);
}

#[test]
fn labels_are_cropped_and_tiles_without_data_stay_empty() {
    let _watchdog = common::start();
    let folder = Folder::new("labels");
    let (source, out) = (folder.path("in.tif"), folder.path("out.tif"));
    let gone = |x: usize, y: usize| x / 64 == 2 || (x < 20 && y < 10);
    let raster = Raster::new(1, (300, 150), |b, x, y| if gone(x, y) { 0 } else { texture(b, x, y).max(1) % 200 + 1 });
    raster.write(&source, Some(0.0), false);
    // The raster's own values as labels.
    common::launch(&format!(
        "rastersrc location={source} tile-size=32 overlap=0 ! rastersink location={out} part-size=64,64"
    ))
    .finish();
    let labels = Raster::<u8>::read(&out);
    for (k, label) in labels.data.iter().enumerate() {
        let (x, y) = (k % 300, k / 300);
        // Blocks without any data are known to be empty; single pixels are what they are.
        assert!(*label == raster.data[k] || (gone(x, y) && *label == 255), "{x}, {y}: {label}");
    }
    assert!(labels.data.contains(&255));
}
