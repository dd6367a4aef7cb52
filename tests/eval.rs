//! `onnxsegment eval`: masks and models against the truth, by hand and by the engine.

mod scenes;

use std::path::Path;

use gstonnxsegment::engine::Settings;
use gstonnxsegment::engine::metrics::{Counts, Report};
use gstonnxsegment::engine::select::labels;
use gstonnxsegment::engine::settings::Source;
use scenes::*;

fn report(folder: &Folder, line: &str) -> Report {
    let ran = folder.run("eval", &format!("{line} --json"));
    assert!(ran.status.success(), "{line}: {}", text(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn a_mask_is_scored_as_by_hand() {
    let folder = Folder::new("eval-mask");
    // 255 in the left 40 columns against class 1 in the left 50, the last row of which is not known.
    folder.raster("mask.tif", 1, |k, _| if k % WIDTH < 40 { 255 } else { 0 });
    folder.raster("known.tif", 1, |k, _| match (k % WIDTH, k / WIDTH) {
        (_, 63) => 9,
        (x, _) => u8::from(x < 50),
    });
    let line = "--mask mask.tif --truth known.tif --truth-values 0=0,1=1,9=ignore --block 16 --resamples 50";
    let found = report(&folder, line);
    assert_eq!((found.pixels, found.ignored_pixels), (80 * 63, 80));
    assert_eq!(found.confusion, [[30 * 63, 0], [10 * 63, 40 * 63]]);
    assert_eq!(found.classes[1].scores.iou.value, Some(0.8));
    assert!(found.classes[1].scores.iou.interval.is_some() && found.calibration.is_none());
    // In a window all is right.
    let found = report(&folder, &format!("{line} --windows 0,0,40,10;60,0,5,5"));
    assert_eq!((found.pixels, found.accuracy.value), (425, Some(1.0)));
}

#[test]
fn models_are_scored_as_the_engine_runs_them() {
    let folder = Folder::new("eval-models");
    let line =
        "%/sigmoid.onnx %/logit1-meta.onnx --image scene.tif --truth truth.tif --set tta=flips --set threshold=0.4";
    let found = report(&folder, &format!("{line} --resamples 0"));
    let mut settings = Settings::default();
    let models = ["sigmoid", "logit1-meta"].map(|m| root(&format!("tests/models/{m}.onnx")).display().to_string());
    for (name, value) in [("model-file", models.join(",").as_str()), ("tta", "flips"), ("threshold", "0.4")] {
        settings.set(name, value, Source::Property, Path::new("")).unwrap();
    }
    let labels = labels(&settings, FORMAT, Box::new(Picture::new())).unwrap();
    let pixels = labels.iter().zip(classes(2)).map(|(label, truth)| (*label == 1, truth == Some(1)));
    let counts = Counts::of(pixels);
    assert!(counts.true_positive > 0);
    assert_eq!(found.classes[1].scores.iou.value, counts.iou());
    assert!(found.bootstrap.is_none());
    // Each pixel's confidence is that of its class.
    let calibration = found.calibration.unwrap();
    assert_eq!(calibration.pixels as usize, WIDTH * HEIGHT);
    assert!((0.0..0.7).contains(&calibration.expected_error.unwrap()));
    let table = text(&folder.run("eval", line).stdout);
    assert!(table.contains("IoU") && table.contains(&format!("{:.3}", counts.iou().unwrap())), "{table}");
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    let folder = Folder::new("eval-bad");
    folder.raster("none.tif", 1, |_, _| 255);
    for (line, words) in [
        ("--truth truth.tif", &["name models and --image", "--mask"][..]),
        ("%/sigmoid.onnx --truth truth.tif", &["name models and --image"]),
        ("--image scene.tif --truth truth.tif", &["no model is named"]),
        ("--mask truth.tif --truth truth.tif --windows 70,0,20,4", &["70,0,20,4", "80x64"]),
        ("--mask truth.tif --truth none.tif --truth-values 255=ignore", &["no pixel has a known class"]),
        ("--mask no.tif --truth truth.tif", &["no.tif", "cannot be opened"]),
        ("--mask truth.tif --truth truth.tif --mask-values 0=0", &["value 255", "255=ignore"]),
        ("%/sigmoid.onnx --image scene.tif --truth truth.tif --set model-file=x", &["name models without --set"]),
    ] {
        let ran = folder.run("eval", line);
        let error = text(&ran.stderr);
        assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(1), ""), "{line}: {error}");
        let last = error.lines().last().unwrap_or_default();
        assert!(last.starts_with("onnxsegment: ") && words.iter().all(|word| last.contains(word)), "{line}: {last}");
    }
    assert_eq!(folder.run("eval", "--mask truth.tif --image scene.tif --truth truth.tif").status.code(), Some(2));
}
