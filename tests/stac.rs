//! The STAC item beside a mask, held against the published schemas in `tests/golden/schemas` and against what is known of the run.
#![cfg(feature = "raster")]

#[path = "common/mod.rs"]
mod common;
#[path = "mosaic/raster.rs"]
#[allow(dead_code)] // it has more for the mosaics' tests
mod raster;
mod schemas;

use std::path::Path;

use gst::prelude::*;
use serde_json::{Value, json};

use raster::{Folder, Raster, texture};
use schemas::faults;

fn read(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))).unwrap()
}

fn input(folder: &Folder) -> String {
    let path = folder.path("in.tif");
    Raster::new(3, (130, 100), |b, x, y| texture(b, x, y).max(1)).write(&path, Some(0.0), false);
    path
}

#[test]
fn a_run_with_three_rasters_has_one_item_that_the_published_schemas_accept() {
    let _watchdog = common::start();
    let folder = Folder::new("stac");
    let source = input(&folder);
    let [labels, p, u] = ["m.tif", "p.tif", "u.tif"].map(|name| folder.path(name));
    common::launch(&format!(
        "rastersrc location={source} window=20,10,100,80 ! onnxsegment model-file={{deepness}} tta=hflip \
         palette=\"none,#102030,#ffffff\" ! rastersink location={labels} probability-location={p} uncertainty-location={u}"
    ))
    .finish();
    let item = read(&folder.path("m.json"));
    assert_eq!(faults(&item), [""; 0]);

    // pyproj 3.7: Transformer.from_crs(32633, 4326, always_xy=True)
    let corners = [
        [15.000136047825437, 48.7529680242224],
        [15.000136046853894, 48.75260818405382],
        [15.000816281123408, 48.75260818124324],
        [15.000816286952656, 48.75296802141179],
    ];
    let bbox: Vec<f64> = item["bbox"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let fold = |k: usize, f: fn(f64, f64) -> f64| corners.iter().map(|c| c[k]).reduce(f).unwrap();
    for (found, expected) in
        bbox.iter().zip([fold(0, f64::min), fold(1, f64::min), fold(0, f64::max), fold(1, f64::max)])
    {
        assert!((found - expected).abs() < 1e-8, "{bbox:?}");
    }
    let ring = item["geometry"]["coordinates"][0].as_array().unwrap();
    assert_eq!(ring.first(), ring.last());
    for corner in corners {
        let near = |point: &Value| (0..2).all(|k| (point[k].as_f64().unwrap() - corner[k]).abs() < 1e-8);
        assert!(ring.iter().any(near), "{corner:?} is no corner of {ring:?}");
    }

    let properties = &item["properties"];
    assert_eq!(properties["proj:code"], "EPSG:32633");
    assert_eq!(properties["proj:shape"], json!([80, 100]));
    assert_eq!(properties["proj:transform"], json!([0.5, 0.0, 500_010.0, 0.0, -0.5, 5_399_995.0]));
    assert_eq!(properties["processing:level"], "L4");
    assert_eq!(properties["processing:software"]["onnxsegment"], env!("CARGO_PKG_VERSION"));
    let lineage = properties["processing:lineage"].as_str().unwrap();
    assert_eq!(
        lineage,
        "Segmented from in.tif by deepness.onnx (weight 1); transforms identity,hflip; merge mean of probabilities; threshold \
         0.6; tiles blended by linear"
    );
    assert_eq!(properties["onnxsegment:models"][0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(item["links"], json!([{"rel": "derived_from", "href": "./in.tif", "title": "the image"}]));

    let asset = &item["assets"]["labels"];
    assert_eq!((&asset["href"], &asset["roles"]), (&json!("./m.tif"), &json!(["data", "labels"])));
    assert_eq!(asset["type"], "image/tiff; application=geotiff; profile=cloud-optimized");
    assert_eq!(asset["bands"], json!([{"name": "labels", "data_type": "uint8", "nodata": 255}]));
    assert_eq!(
        asset["classification:classes"],
        json!([
            {"value": 0, "name": "_background", "title": "_background"},
            {"value": 1, "name": "building", "title": "building", "color_hint": "102030"},
            {"value": 2, "name": "road", "title": "road", "color_hint": "FFFFFF"},
            {"value": 255, "name": "nodata", "title": "no data", "nodata": true},
        ])
    );
    let bands = item["assets"]["probability"]["bands"].as_array().unwrap();
    assert_eq!(bands.len(), 3);
    assert_eq!((&bands[2]["name"], &bands[2]["nodata"]), (&json!("road"), &json!(255)));
    assert!((bands[2]["raster:scale"].as_f64().unwrap() * 254.0 - 1.0).abs() < 1e-12);
    assert_eq!(item["assets"]["uncertainty"]["href"], "./u.tif");
}

#[test]
fn the_schemas_refuse_an_item_that_is_wrong() {
    let _watchdog = common::start();
    let folder = Folder::new("stac-wrong");
    let (source, out) = (input(&folder), folder.path("m.tif"));
    common::launch(&format!(
        "rastersrc location={source} ! onnxsegment model-file={{deepness}} ! rastersink location={out}"
    ))
    .finish();
    let item = read(&folder.path("m.json"));
    assert_eq!(faults(&item), [""; 0]);
    for (pointer, value) in [
        ("/bbox", json!([1, 2, 3])),
        ("/geometry", json!(null)),
        ("/properties/datetime", json!("yesterday")),
        ("/properties/proj:shape", json!([80.5, 100])),
        ("/properties/processing:software", json!("onnxsegment")),
        ("/assets/labels/classification:classes/0/name", json!("farmer's field")),
        ("/links/0/href", json!(5)),
    ] {
        let mut wrong = item.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        assert_ne!(faults(&wrong), [""; 0], "{pointer}");
    }
}

#[test]
fn a_raster_that_lies_nowhere_has_an_item_without_a_place() {
    let _watchdog = common::start();
    let folder = Folder::new("stac-nowhere");
    let (source, out) = (folder.path("in.tif"), folder.path("m.tif"));
    let driver = gdal::DriverManager::get_driver_by_name("GTiff").unwrap();
    let raster = driver.create_with_band_type::<u8, _>(&source, 64, 48, 3).unwrap();
    raster.rasterband(1).unwrap().fill(90.0, None).unwrap();
    drop(raster);
    common::launch(&format!(
        "rastersrc location={source} ! onnxsegment model-file={{deepness1}} ! rastersink location={out}"
    ))
    .finish();
    let item = read(&folder.path("m.json"));
    assert_eq!(faults(&item), [""; 0]);
    assert_eq!((&item["geometry"], &item["properties"]["proj:code"]), (&Value::Null, &Value::Null));
    assert_eq!(item.get("bbox"), None);
}

#[test]
fn another_programs_file_is_kept_and_an_own_item_is_replaced() {
    let _watchdog = common::start();
    let folder = Folder::new("stac-kept");
    let (source, out, beside) = (input(&folder), folder.path("m.tif"), folder.path("m.json"));
    let run = |more: &str| {
        let _ = std::fs::remove_file(&out);
        common::launch(&format!(
            "rastersrc location={source} ! onnxsegment model-file={{deepness}} ! rastersink location={out} {more}"
        ))
    };
    std::fs::write(&beside, "{\"mine\": true}").unwrap();
    let pipeline = run("");
    let bus = pipeline.0.bus().unwrap();
    pipeline.0.set_state(gst::State::Playing).unwrap();
    let types = [gst::MessageType::Eos, gst::MessageType::Error, gst::MessageType::Warning];
    let mut warned = String::new();
    while let Some(message) = bus.timed_pop_filtered(common::LONG, &types) {
        match message.view() {
            gst::MessageView::Warning(warning) => warned += warning.error().message(),
            gst::MessageView::Error(error) => panic!("{}", error.error()),
            _ => break,
        }
    }
    assert!(warned.contains("m.json is there and was not made by this program"), "{warned}");
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "{\"mine\": true}");

    std::fs::remove_file(&beside).unwrap();
    run("stac-item=false").finish();
    assert!(!Path::new(&beside).exists());
    run("").finish();
    let mut changed = read(&beside);
    changed["id"] = json!("older");
    std::fs::write(&beside, changed.to_string()).unwrap();
    run("").finish();
    assert_eq!(read(&beside)["id"], "m");
}
