//! `onnxsegment footprints` and `onnxsegment rle` as they are called.

use std::process::{Command, Output};

use serde_json::Value;

use crate::masks::*;
use crate::scenes::text;

fn run(folder: &Folder, line: &str) -> Output {
    let golden = file("").display().to_string();
    let words = line.split_whitespace().map(|word| word.replace('%', golden.trim_end_matches('/')));
    let mut command = Command::new(env!("CARGO_BIN_EXE_onnxsegment"));
    command.current_dir(folder.0.path()).args(words).output().unwrap()
}

fn done(folder: &Folder, line: &str) -> String {
    let ran = run(folder, line);
    assert!(ran.status.success(), "{line}: {}", text(&ran.stderr));
    text(&ran.stdout)
}

/// Each line fails with the code, a last line with all the words, and leaves no file behind.
fn fails(folder: &Folder, code: i32, cases: &[(&str, &[&str])]) {
    let files = folder.files();
    for (line, words) in cases {
        let ran = run(folder, line);
        let error = text(&ran.stderr);
        assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(code), ""), "{line}: {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{line}: {error}");
        assert!(code == 2 || error.starts_with("onnxsegment: ") && error.lines().count() == 1, "{line}: {error}");
        assert_eq!(folder.files(), files, "{line}");
    }
}

#[test]
fn footprints_tells_what_it_wrote() {
    let folder = Folder::new();
    let ran = run(&folder, "footprints %/demo-mask.png -o a.geojson --min-area 50 --orthogonalise --json");
    let counts: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let (polygons, small) = (counts["polygons"].as_u64().unwrap(), counts["too_small"].as_u64().unwrap());
    assert!(polygons + small == 44 && small > 0, "{counts}");
    assert!(text(&ran.stderr).contains("does not say where it lies"));
    assert_eq!(read(&folder.path("a.geojson")).len() as u64, polygons);
    let words = done(&folder, "footprints %/noise.png -o b.gpkg --classes 2,3 --probability %/noise-probability.png");
    assert!(words.contains("class 2: ") && !words.contains("class 1"), "{words}");
    assert_eq!(folder.files(), ["a.geojson", "b.gpkg"]);
}

#[test]
fn footprints_takes_classes_by_name() {
    let folder = Folder::new();
    let mask = folder.mask("mask.tif", (3, 1), &[1, 0, 2], 16);
    let dataset = gdal::Dataset::open_ex(
        &mask,
        gdal::DatasetOptions { open_flags: gdal::GdalOpenFlags::GDAL_OF_UPDATE, ..Default::default() },
    );
    let mut dataset = dataset.unwrap();
    gdal::Metadata::set_metadata_item(&mut dataset, "ONNXSEGMENT_CLASSES", "ground,house,road", "").unwrap();
    dataset.close().unwrap();
    done(&folder, "footprints mask.tif -o a.geojson --classes road");
    let found = read(&folder.path("a.geojson"));
    assert_eq!(found.iter().map(|f| (f.class, f.name.as_deref())).collect::<Vec<_>>(), [(2, Some("road"))]);
    fails(&folder, 1, &[("footprints mask.tif -o b.gpkg --classes roof", &["classes=roof", "ground, house, road"])]);
}

#[test]
fn footprints_refuses_what_it_cannot_do() {
    let folder = Folder::new();
    folder.mask("mask.tif", (3, 3), &[1; 9], 16);
    folder.mask("other.tif", (4, 3), &[1; 12], 16);
    std::fs::write(folder.path("text.tif"), "no raster").unwrap();
    fails(
        &folder,
        1,
        &[
            ("footprints no.tif -o a.gpkg", &["no.tif", "cannot be opened"]),
            ("footprints text.tif -o a.gpkg", &["text.tif", "cannot be opened"]),
            ("footprints mask.tif -o a.shp", &["a.shp", ".geojson, .gpkg or .fgb"]),
            (
                "footprints mask.tif -o no/a.gpkg",
                &["no/a.gpkg", "cannot be written", "there is no folder no; make it first"],
            ),
            ("footprints mask.tif -o a.gpkg --probability other.tif", &["other.tif", "4x3", "3x3"]),
            ("footprints mask.tif -o a.gpkg --min-area 10m2", &["min-area=10m2", "number of pixels"]),
            ("footprints mask.tif -o a.gpkg --simplify 1m", &["simplify=1m", "number of pixels"]),
            ("footprints mask.tif -o a.gpkg --classes house", &["classes=house", "names no classes"]),
            (
                "footprints mask.tif -o a.gpkg --orthogonalise --angle-tolerance 50",
                &["angle-tolerance=50", "less than 45"],
            ),
        ],
    );
    fails(
        &folder,
        2,
        &[
            ("footprints mask.tif", &["--output"]),
            ("footprints mask.tif -o a.gpkg --min-area ten", &["such as 30m2"]),
            ("footprints mask.tif -o a.gpkg --simplify x", &["such as 0.8m"]),
        ],
    );
}

#[test]
fn masks_become_rows_and_rows_masks() {
    let folder = Folder::new();
    assert_eq!(done(&folder, "rle %/demo-mask.png %/demo-truth.png -o rows.csv --name file"), "2 rows\n");
    let rows = std::fs::read_to_string(folder.path("rows.csv")).unwrap();
    let known = golden().cases;
    let row = |k: usize| format!("{}.png\t{}\n", known[k].mask, known[k].rows[&1]);
    assert!(rows == row(1) + &row(2));
    assert_eq!(done(&folder, "rle rows.csv -o masks --size 900x900"), "2 masks in masks\n");
    assert!(pixels(&folder.path("masks/demo-truth.png")) == pixels(&file("demo-truth.png")));
    done(&folder, "rle %/noise.png -o noise.csv --class 3");
    let rows = std::fs::read_to_string(folder.path("noise.csv")).unwrap();
    assert!(rows == format!("noise\t{}\n", known[0].rows[&3]));
}

#[test]
fn rle_refuses_what_it_cannot_do() {
    let folder = Folder::new();
    for (name, rows) in [
        ("good.csv", "a\t1 2\n"),
        ("odd.csv", "a\t1 2\nb\t3\n"),
        ("far.csv", "a\t15 2\n"),
        ("up.csv", "../a\t1 2\n"),
        ("twice.csv", "a.jpg\t1 2\na.png\t3 1\n"),
        ("none.csv", ""),
    ] {
        std::fs::write(folder.path(name), rows).unwrap();
    }
    fails(
        &folder,
        1,
        &[
            ("rle odd.csv -o masks --size 4x4", &["odd.csv: row 2 (b)", "without its length"]),
            ("rle far.csv -o masks --size 5x3", &["far.csv: row 1 (a)", "5x3 have 15"]),
            ("rle up.csv -o masks --size 4x4", &["row 1 (../a)", "no name of a file"]),
            ("rle twice.csv -o masks --size 4x4", &["row 2 (a.png)", "as row 1 is"]),
            ("rle none.csv -o masks --size 4x4", &["none.csv: has no rows"]),
            ("rle no.csv -o masks --size 4x4", &["no.csv", "no such file"]),
            ("rle good.csv odd.csv -o masks --size 4x4", &["one file of rows"]),
            ("rle good.csv -o rows.csv", &["good.csv", "cannot be opened"]),
            ("rle %/noise.png %/noise.png -o rows.csv", &["both be the row noise"]),
        ],
    );
    fails(&folder, 2, &[("rle good.csv -o masks --size 4", &["such as 512x512"])]);
}
