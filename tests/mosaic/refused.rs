//! What cannot be: each one error that names the property and the file, and nothing half-written.

use gdal::raster::RasterCreationOptions;
use gdal::{Dataset, DriverManager};
use gst::prelude::*;

use crate::common::{self, End};
use crate::raster::{Folder, Raster, texture};

fn input(folder: &Folder) -> String {
    let path = folder.path("in.tif");
    Raster::new(3, (150, 90), texture).write(&path, Some(0.0), false);
    path
}

/// The one error of a pipeline; all of `parts` are in it.
fn one_error(description: &str, parts: &[&str]) {
    let End::Error(own, others) = common::launch(description).run() else { panic!("no error: {description}") };
    let all: Vec<String> = own.into_iter().chain(others).collect();
    // Who stops for another element's error says so too, after it.
    let echo = |text: &str| text.starts_with("Internal data stream error") || text.contains("what follows onnxsegment");
    let told: Vec<&String> = all.iter().filter(|text| !echo(text)).collect();
    assert_eq!(told.len(), 1, "{description}: {all:?}");
    for part in parts {
        assert!(told[0].contains(part), "{part:?} is not in: {}", told[0]);
    }
}

fn pipeline(source: &str, model: &str, sink: &str) -> String {
    format!("rastersrc {source} ! onnxsegment model-file={{sigmoid}} {model} ! rastersink {sink}")
}

/// What a folder holds besides its inputs.
fn left(folder: &Folder) -> Vec<String> {
    let names = std::fs::read_dir(folder.path("")).unwrap();
    let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.contains("out"));
    names.sort();
    names
}

#[test]
fn sources_that_cannot_be_read() {
    let _watchdog = common::start();
    let folder = Folder::new("no-source");
    let (good, out) = (input(&folder), folder.path("out.tif"));
    let sink = format!("location={out}");
    let refused = |source: &str, parts: &[&str]| one_error(&pipeline(source, "", &sink), parts);

    refused("", &["location=", "set it to a raster"]);
    let missing = folder.path("missing.tif");
    refused(&format!("location={missing}"), &["location=", "missing.tif"]);
    let garbage = folder.path("garbage.tif");
    std::fs::write(&garbage, "no raster at all").unwrap();
    refused(&format!("location={garbage}"), &["location=", "garbage.tif"]);

    let bands = |list: &str| format!("location={good} bands={list}");
    refused(&bands("1,2,7"), &["bands=7", "in.tif has 3 bands"]);
    refused(&bands("0"), &["bands=0", "from 1"]);
    refused(&bands("1,2"), &["model-file", "3 channels", "2"]);
    let window = |text: &str| format!("location={good} window={text}");
    refused(&window("10,10,0,5"), &["window=10,10,0,5"]);
    refused(&window("150,0,10,10"), &["window=150,0,10,10", "150"]);
    refused(&window("1,2,3"), &["window=1,2,3", "x,y,width,height"]);
    refused(&format!("location={good} bbox=0,0,1,1"), &["bbox=0,0,1,1"]);
    refused(&format!("location={good} window=0,0,9,9 bbox=0,0,1,1"), &["window=0,0,9,9", "bbox"]);
    refused(&format!("location={good} shard=3/2"), &["shard=3/2", "i/n"]);
    refused(&format!("location={good} tile-size=100"), &["tile-size=100", "multiples of 32", "128"]);
    refused(&format!("location={good} overlap=30"), &["overlap=30", "64"]);
    assert!(left(&folder).is_empty(), "{:?}", left(&folder));
}

#[test]
fn a_file_that_is_cut_short_is_told_of_and_what_was_done_is_kept() {
    let _watchdog = common::start();
    let folder = Folder::new("cut");
    let (path, out) = (folder.path("in.tif"), folder.path("out.tif"));
    Raster::new(3, (200, 600), texture).write(&path, None, false);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let source = format!("location={path} tile-size=64 overlap=0");
    let sink = format!("location={out} part-size=64,64");
    one_error(&pipeline(&source, "", &sink), &["in.tif"]);
    assert_eq!(left(&folder).into_iter().filter(|n| n != "out.tif.parts").collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn masks_that_cannot_be_written() {
    let _watchdog = common::start();
    let folder = Folder::new("no-mask");
    let (good, out) = (input(&folder), folder.path("out.tif"));
    let source = format!("location={good}");
    let refused = |sink: &str, parts: &[&str]| one_error(&pipeline(&source, "", sink), parts);

    refused("", &["location", "names no file"]);
    refused(&format!("location={out} probability-location={out}"), &["probability-location=", "location too"]);
    refused(&format!("location={good}"), &["location=", "in.tif", "write to another file"]);
    let nowhere = folder.path("nowhere/out.tif");
    refused(&format!("location={nowhere}"), &["location=", "nowhere", "make it first"]);
    let below = folder.path("in.tif/out.tif");
    refused(&format!("location={below}"), &["location=", "no folder"]);
    let itself = folder.path("");
    refused(&format!("location={itself}"), &["location=", "folder"]);
    refused("location=/proc/out.tif", &["location=/proc/out.tif", "parts"]);
    refused(&format!("location={out} part-size=100,100"), &["part-size=100,100", "16"]);
    refused(&format!("location={out} co=COMPRESS=NONSENSE"), &["co=COMPRESS=NONSENSE"]);
    refused(&format!("location={out} co=nonsense"), &["co=nonsense", "NAME=VALUE"]);
    refused(&format!("location={out} resume=true"), &["resume=true", "no parts"]);
    let model = pipeline(&source, "mask-values=0,255", &format!("location={out}"));
    one_error(&model, &["mask-values=0,255", "no data"]);
    assert!(left(&folder).is_empty(), "{:?}", left(&folder));
}

#[test]
fn tiles_that_say_nothing_of_where_they_belong() {
    let _watchdog = common::start();
    let folder = Folder::new("no-tiles");
    let out = folder.path("out.tif");
    for sink in [format!("rastersink location={out}"), "tilemerge ! fakesink".to_string()] {
        one_error(
            &format!("videotestsrc num-buffers=2 ! videoconvert ! onnxsegment model-file={{sigmoid}} ! {sink}"),
            &["GstRasterTileMeta", "tilesplit"],
        );
    }
    assert!(left(&folder).is_empty());
}

#[test]
fn parts_of_another_run_are_refused_with_the_difference() {
    let _watchdog = common::start();
    let folder = Folder::new("other-parts");
    let (good, out) = (input(&folder), folder.path("out.tif"));
    let begin = |source: &str, model: &str, sink: &str| {
        pipeline(&format!("location={good} {source}"), model, &format!("location={out} part-size=64,64 {sink}"))
    };
    common::launch(&begin("", "", "finish=false")).finish();
    for (source, model, sink, difference) in [
        ("", "tta=hflip", "", "tta"),
        ("", "threshold=0.4", "", "threshold is none there and 0.4 here"),
        ("", "", "blend=hann", "blend is linear there and hann here"),
        ("tile-size=64 overlap=0", "", "", "the tiles' width is 1024 there and 64 here"),
        ("window=0,0,64,64", "", "", "the region (x,y,width,height) is 0,0,150,90 there"),
        ("bands=3,2,1", "", "", "the source's bands"),
    ] {
        one_error(&begin(source, model, sink), &["out.tif.parts belongs to another run", "resume=false", difference]);
    }
    let other = format!(
        "rastersrc location={good} ! onnxsegment model-file={{sigmoid3}} ! rastersink location={out} part-size=64,64"
    );
    one_error(&other, &["out.tif.parts belongs to another run", "model 1's file is sigmoid.onnx there"]);
    // Nothing was lost: the first run goes on, and nothing is left to infer.
    let last = common::launch(&begin("", "", "name=sink"));
    last.finish();
    let stats = last.get("sink").property::<gst::Structure>("stats");
    assert_eq!((stats.get::<u64>("tiles"), stats.get::<u64>("parts-resumed")), (Ok(0), Ok(6)));
    assert_eq!(left(&folder).iter().filter(|n| !n.ends_with(".xml")).count(), 2, "{:?}", left(&folder));
}

#[test]
fn a_raster_without_a_place_works_and_says_so() {
    let _watchdog = common::start();
    let folder = Folder::new("placeless");
    let (path, out) = (folder.path("in.tif"), folder.path("out.tif"));
    let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
    let options = RasterCreationOptions::from_iter(["PHOTOMETRIC=RGB"]);
    driver.create_with_band_type_with_options::<u8, _>(&path, 70, 50, 3, &options).unwrap().close().unwrap();
    let pipeline = common::launch(&pipeline(&format!("location={path}"), "", &format!("location={out}")));
    let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let writer = said.clone();
    pipeline.bus().unwrap().set_sync_handler(move |_, message| {
        if let gst::MessageView::Warning(warning) = message.view() {
            writer.lock().unwrap().push(warning.error().message().to_string());
        }
        gst::BusSyncReply::Pass
    });
    pipeline.finish();
    let said = said.lock().unwrap();
    assert!(said.len() == 1 && said[0].contains("in.tif"), "{said:?}");
    let file = Dataset::open(&out).unwrap();
    assert_eq!(file.raster_size(), (70, 50));
    assert!(file.projection().is_empty());
}
