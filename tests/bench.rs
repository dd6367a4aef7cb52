//! `onnxsegment bench`: what it measures on a tiny model, what it prints and draws, and what it refuses.

mod scenes;

use std::path::Path;

use serde_json::Value;

use scenes::{Folder, text};

/// As little as it takes to be a measurement.
const QUICK: &str = "--seconds 0.05 --rounds 2";

fn refused(folder: &Folder, line: &str, code: i32) -> String {
    let output = folder.run("bench", line);
    assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output.stdout));
    assert_eq!(text(&output.stdout), "", "{line}");
    text(&output.stderr)
}

/// Width, height and the colours of a PNG.
fn picture(path: &Path) -> (usize, usize, std::collections::BTreeSet<[u8; 3]>) {
    let raster = gdal::Dataset::open(path).unwrap();
    let (width, height) = raster.raster_size();
    let planes = [1, 2, 3].map(|band| {
        let band = raster.rasterband(band).unwrap();
        band.read_as::<u8>((0, 0), (width, height), (width, height), None).unwrap().data().to_vec()
    });
    (width, height, (0..width * height).map(|k| [planes[0][k], planes[1][k], planes[2][k]]).collect())
}

#[test]
fn a_table_a_recommendation_and_a_plot() {
    let folder = Folder::new("bench-table");
    let line = format!("%/softmax2.onnx --tile-size 64,128 --threads 1,2 {QUICK} --plot speed.png");
    let output = folder.run("bench", &line);
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("4 settings of 0.2 seconds each on cpu"), "{said}");
    for setting in ["64x64, threads 1, batch 1: ", "128x128, threads 2, batch 1: "] {
        assert!(said.contains(setting), "{setting} is not in {said}");
    }
    let rows: Vec<Vec<&str>> = told
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.first().is_some_and(|word| ["64x64", "128x128"].contains(word)))
        .collect();
    let settings: Vec<_> = rows.iter().map(|words| (words[0], words[1], words[2])).collect();
    assert_eq!(settings, [("64x64", "1", "1"), ("64x64", "2", "1"), ("128x128", "1", "1"), ("128x128", "2", "1")]);
    // Tiles of 64 that overlap by 64 leave nothing of a mosaic.
    assert!(rows.iter().all(|words| (words[7] == "-") == (words[0] == "64x64")), "{told}");
    assert_eq!(rows.iter().filter(|words| words.last() == Some(&"*")).count(), 1, "{told}");
    let recommended = told.lines().last().unwrap();
    assert!(recommended.starts_with("Recommended (*): --tile-size "), "{told}");

    let (width, height, colours) = picture(&folder.path("speed.png"));
    assert!(width > 400 && height > 300 && colours.len() > 50, "{width}x{height}, {} colours", colours.len());
    // Axes and the two lines' own colours are there.
    assert!([[255; 3], [0; 3]].iter().all(|colour| colours.contains(colour)));
    assert_eq!(folder.files(), ["scene.tif", "speed.png", "truth.tif"]);
}

#[test]
fn json_says_what_the_table_says() {
    let folder = Folder::new("bench-json");
    let line =
        format!("%/member-a.onnx %/member-b.onnx --set tta=hflip --tile-size 96 --batch-size 1,2 {QUICK} --json");
    let output = folder.run("bench", &line);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["passes"], &told["provider"]), (&4.into(), &"cpu".into()));
    let models = ["member-a.onnx", "member-b.onnx"].map(|name| scenes::root("tests/models").join(name));
    assert_eq!(told["models"], serde_json::json!(models));
    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["batch_size"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    for row in rows {
        assert_eq!((&row["width"], &row["height"]), (&96.into(), &96.into()));
        for name in ["element", "plain", "ratio"] {
            let [least, median, most] = ["least", "median", "most"].map(|of| row[name][of].as_f64().unwrap());
            assert!(0.0 < least && least <= median && median <= most, "{name}: {row}");
        }
        // A third of each side is in two tiles.
        let share = row["mosaic"]["median"].as_f64().unwrap() / row["element"]["median"].as_f64().unwrap();
        assert!((share - 1.0 / 9.0).abs() < 1e-9, "{row}");
    }
    assert!(rows.contains(&told["recommended"]));
    assert!(told["options"].as_str().unwrap().starts_with("--tile-size 96"), "{told}");
}

#[test]
fn models_of_a_fixed_size_are_measured_at_that_size() {
    let folder = Folder::new("bench-fixed");
    let output = folder.run("bench", &format!("%/fixed-48x80.onnx --tile-size 64,128 {QUICK} --json"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sizes: Vec<_> = told["rows"].as_array().unwrap().iter().map(|row| (&row["width"], &row["height"])).collect();
    // 48 rows of 80; their size is no choice.
    assert_eq!(sizes, [(&80.into(), &48.into())]);
    assert_eq!(told["options"], "");
}

#[test]
fn what_cannot_be_measured_is_refused_before_it_is_tried() {
    let folder = Folder::new("bench-refused");
    std::fs::create_dir(folder.path("empty")).unwrap();
    for (line, code, told) in [
        ("", 1, "no model is named"),
        ("nowhere.onnx", 1, "nowhere.onnx"),
        ("empty/*.onnx", 1, "empty/*.onnx"),
        ("scene.tif", 1, "scene.tif"),
        ("%/logit1.onnx", 1, "activation"),
        ("%/softmax2.onnx --seconds 0", 1, "--seconds 0: use more than 0"),
        ("%/softmax2.onnx --seconds soon", 2, "--seconds"),
        ("%/softmax2.onnx --tile-size 8", 2, "8 is not in 16..=16384"),
        ("%/softmax2.onnx --tile-size 256,big", 2, "big"),
        ("%/softmax2.onnx --threads 0", 2, "--threads"),
        ("%/softmax2.onnx --set threads=2", 1, "threads is what is compared here"),
        ("%/softmax2.onnx --set no-such=2", 1, "no-such"),
        ("%/softmax2.onnx --plot none/speed.png", 1, "none/speed.png cannot be written"),
        ("%/softmax2.onnx --plot empty", 1, "empty cannot be written"),
    ] {
        let said = refused(&folder, line, code);
        assert!(said.contains(told), "{line}: {said}");
    }
    assert_eq!(folder.files(), ["empty", "scene.tif", "truth.tif"]);
}
