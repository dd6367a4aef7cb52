//! Frames that stop before all passes have run, and frames that need none.

use gst::prelude::*;

use crate::common::*;

const SIZE: (usize, usize) = (64, 48);
const ENSEMBLE: [(&str, &str); 2] = [("tta", "d4"), ("threads", "2")];

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&ENSEMBLE[..], more].concat()
}

/// The masks of some pictures and what the element counted.
fn masks(properties: &[(&str, &str)], pictures: &[gst::Buffer]) -> (Vec<Vec<u8>>, gst::Structure) {
    let element = element("sigmoid", properties);
    let mut harness = fed(&element, "RGB", SIZE);
    let mut masks = Vec::new();
    for picture in pictures {
        assert_eq!(harness.push(picture.clone()), Ok(gst::FlowSuccess::Ok));
        let mask = harness.pull().unwrap();
        masks.push(pixels(&mask, &caps_of(&harness)));
    }
    (masks, element.property("stats"))
}

fn counted(stats: &gst::StructureRef, name: &str) -> u64 {
    stats.get(name).unwrap()
}

fn pictures() -> Vec<gst::Buffer> {
    (0..6).map(|seed| picture(SIZE, seed)).collect()
}

#[test]
fn a_confident_frame_stops_and_an_audit_counts_what_that_changed() {
    let _w = start();
    let (all, _) = masks(&ENSEMBLE, &pictures());
    let stop = with(&[("cascade", "confident"), ("cascade-margin", "0.01"), ("cascade-limit", "0.2")]);
    let (stopped, stats) = masks(&stop, &pictures());
    let (passes, saved) = (counted(&stats, "passes"), counted(&stats, "passes-saved"));
    assert_eq!(passes + saved, 6 * 8);
    assert!(saved > 0 && passes >= 6, "{saved} saved, {passes} run");
    assert_eq!((counted(&stats, "audited-pixels"), counted(&stats, "labels-changed")), (0, 0));

    let changed = |frames: &mut dyn Iterator<Item = usize>| {
        let differing = |k: usize| all[k].iter().zip(&stopped[k]).filter(|(a, b)| a != b).count();
        frames.map(differing).sum::<usize>() as u64
    };
    for every in [1, 2] {
        let every_text = every.to_string();
        let audit = [&stop[..], &[("cascade-audit", &every_text)]].concat();
        let (audited, stats) = masks(&audit, &pictures());
        assert!(audited == stopped, "an audit must not show in the masks");
        let frames = 6 / every;
        assert!(counted(&stats, "passes") > passes);
        assert_eq!(counted(&stats, "labels-changed"), changed(&mut (0..6).step_by(every)), "every {every}");
        let pixels = counted(&stats, "audited-pixels") as usize / (SIZE.0 * SIZE.1);
        assert!((1..=frames).contains(&pixels), "{pixels} of {frames} frames could have stopped");
    }
    assert!(changed(&mut (0..6)) > 0, "a margin as thin as this changes labels");
}

#[test]
fn an_exact_cascade_saves_passes_and_tells_so_at_the_end() {
    let _w = start();
    // A threshold that hardly a pixel comes near.
    let sure = with(&[("threshold", "0.999")]);
    let (all, _) = masks(&sure, &pictures());
    let exact = [&sure[..], &[("cascade", "exact")]].concat();
    assert!(masks(&exact, &pictures()).0 == all);

    let element = element("sigmoid", &exact);
    let bus = bus(&element);
    let mut harness = fed(&element, "RGB", SIZE);
    for picture in pictures() {
        harness.push(picture).unwrap();
        harness.pull().unwrap();
    }
    harness.push_event(gst::event::Eos::new());
    let told = message(&bus, "passes", |m| m.structure().is_some_and(|s| s.name() == "onnxsegment-passes"));
    let told = told.structure().unwrap();
    let (passes, saved) = (counted(told, "passes"), counted(told, "passes-saved"));
    assert_eq!((counted(told, "frames"), passes + saved), (6, 6 * 8));
    assert!(saved > 0, "nothing saved");
}

#[test]
fn an_exact_cascade_shows_labels_alone() {
    let _w = start();
    for name in ["probability", "uncertainty", "overlay"] {
        let element = element("sigmoid", &with(&[("cascade", "exact")]));
        let bus = bus(&element);
        let mut harness = harness(&element);
        let _view = view(&element, name);
        harness.play();
        harness.set_src_caps_str(&caps("RGB", SIZE));
        assert_eq!(harness.push(picture(SIZE, 0)), Err(gst::FlowError::Error));
        let errors = errors(&bus);
        assert!(
            matches!(&errors[..], [(_, text)] if text.contains("cascade=exact") && text.contains(name)),
            "{errors:?}"
        );
    }
}

#[test]
fn a_constant_frame_is_inferred_once_per_value() {
    let _w = start();
    let flat = |k: usize, value: [u8; 3]| stamped(gst::Buffer::from_mut_slice(value.repeat(SIZE.0 * SIZE.1)), k);
    let mut almost = flat(6, [9, 9, 9]);
    almost.make_mut().map_writable().unwrap()[SIZE.0 * SIZE.1 * 3 - 1] = 10;
    let frames = [
        flat(0, [0, 0, 0]),
        flat(1, [200, 10, 50]),
        flat(2, [0, 0, 0]),
        picture(SIZE, 3),
        flat(4, [200, 10, 50]),
        flat(5, [9, 9, 9]),
        almost,
        flat(7, [0, 0, 0]),
    ];
    let (all, stats) = masks(&ENSEMBLE, &frames);
    assert_eq!((counted(&stats, "passes"), counted(&stats, "passes-saved")), (8 * 8, 0));
    let (skipped, stats) = masks(&with(&[("skip-constant", "true")]), &frames);
    assert!(skipped == all, "masks differ");
    assert_eq!((counted(&stats, "passes"), counted(&stats, "passes-saved")), (5 * 8, 3 * 8));
    assert_eq!(counted(&stats, "frames"), 8);
}

#[test]
fn a_configuration_file_may_say_so_too() {
    let _w = start();
    let file = std::env::temp_dir().join(format!("onnxsegment-cascade-{}.toml", std::process::id()));
    std::fs::write(
        &file,
        "cascade = \"confident\"\ncascade-margin = 0.01\ncascade-limit = 0.2\nskip-constant = true\n",
    )
    .unwrap();
    let path = file.display().to_string();
    let (masked, stats) = masks(&[&ENSEMBLE[..], &[("config-file", &path)]].concat(), &pictures());
    std::fs::remove_file(&file).unwrap();
    let stop = with(&[("cascade", "confident"), ("cascade-margin", "0.01"), ("cascade-limit", "0.2")]);
    assert!(masked == masks(&stop, &pictures()).0);
    assert!(counted(&stats, "passes-saved") > 0);
}
