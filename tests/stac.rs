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

/// Runs over an image and returns the properties of the mask's item.
fn properties(folder: &Folder, source: &str) -> Value {
    let out = folder.path("m.tif");
    let _ = std::fs::remove_file(&out);
    common::launch(&format!(
        "rastersrc location={source} ! onnxsegment model-file={{deepness}} ! rastersink location={out}"
    ))
    .finish();
    let item = read(&folder.path("m.json"));
    assert_eq!(faults(&item), [""; 0]);
    item["properties"].clone()
}

fn set_metadata(path: &str, domain: &str, items: &[(&str, &str)]) {
    let flags = gdal::GdalOpenFlags::GDAL_OF_UPDATE;
    let mut raster =
        gdal::Dataset::open_ex(path, gdal::DatasetOptions { open_flags: flags, ..Default::default() }).unwrap();
    for (name, value) in items {
        gdal::Metadata::set_metadata_item(&mut raster, name, value, domain).unwrap();
    }
    raster.close().unwrap();
}

#[test]
fn a_mask_is_of_the_moment_that_its_image_shows() {
    let _watchdog = common::start();
    let folder = Folder::new("stac-taken");
    let source = input(&folder);
    let told = |properties: &Value| ["datetime", "onnxsegment:datetime_from"].map(|name| properties[name].clone());

    // Nothing says it: STAC wants a time all the same, and the item says which it is.
    let found = properties(&folder, &source);
    assert_eq!(found["datetime"], found["created"]);
    assert_eq!(found["processing:datetime"], found["created"]);
    assert!(found["onnxsegment:datetime_from"].as_str().unwrap().contains("nothing says when the image was taken"));

    set_metadata(&source, "", &[("TIFFTAG_DATETIME", "2019:05:28 10:11:12")]);
    let found = properties(&folder, &source);
    assert_eq!(told(&found), [json!("2019-05-28T10:11:12Z"), json!("TIFFTAG_DATETIME of the image")]);
    assert_ne!(found["created"], found["datetime"]);
    assert_eq!(found["processing:datetime"], found["created"]);

    let exif = [("EXIF_DateTimeOriginal", "2019:05:27 09:00:00"), ("EXIF_OffsetTimeOriginal", "+02:00")];
    set_metadata(&source, "", &exif);
    assert_eq!(properties(&folder, &source)["datetime"], "2019-05-27T07:00:00Z");

    set_metadata(&source, "IMAGERY", &[("ACQUISITIONDATETIME", "2019-05-26 08:00:00")]);
    let found = told(&properties(&folder, &source));
    assert_eq!(found, [json!("2019-05-26T08:00:00Z"), json!("ACQUISITIONDATETIME of the image")]);

    // What is known of an image better than by itself, as a moment or as a span of time.
    let item = |properties: Value| {
        let item = json!({"type": "Feature", "stac_version": "1.1.0", "properties": properties});
        std::fs::write(folder.path("in.json"), item.to_string()).unwrap();
    };
    item(json!({"datetime": "2019-05-25T07:00:00.5+01:00"}));
    let found = told(&properties(&folder, &source));
    assert_eq!(found, [json!("2019-05-25T06:00:00.5Z"), json!("STAC item in.json")]);
    let span =
        json!({"datetime": null, "start_datetime": "2019-05-01T00:00:00Z", "end_datetime": "2019-06-01T00:00:00Z"});
    item(span.clone());
    let found = properties(&folder, &source);
    for name in ["datetime", "start_datetime", "end_datetime"] {
        assert_eq!(found[name], span[name], "{name}");
    }

    // An item without a time, no item, and a mask's own time of making tell nothing.
    item(json!({"datetime": null}));
    assert_eq!(properties(&folder, &source)["datetime"], "2019-05-26T08:00:00Z");
    std::fs::write(folder.path("in.json"), "{\"datetime\": \"2001-01-01T00:00:00Z\"").unwrap();
    assert_eq!(properties(&folder, &source)["datetime"], "2019-05-26T08:00:00Z");
    let made = "when this item was made; nothing says when the image was taken";
    item(json!({"datetime": "2001-01-01T00:00:00Z", "onnxsegment:datetime_from": made}));
    assert_eq!(properties(&folder, &source)["datetime"], "2019-05-26T08:00:00Z");
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
