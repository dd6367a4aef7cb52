//! Pixels of another size on the ground, against `gdalwarp` on the same grid.

use gst::prelude::*;
use gstonnxsegment::elements::meta::{PlanRef, RasterInfo};
use gstonnxsegment::raster::Preference;

use crate::plan::answer;
use crate::raster::{Folder, Raster, texture};
use crate::{Got, all, common, tiles, tool, translated, warnings};

/// Tiles and the raster that they say they come from. The models name a resolution.
fn resampled(properties: &str, models: Option<f64>) -> (Vec<Got>, RasterInfo) {
    let pipeline = common::launch(&format!("rastersrc {properties} ! appsink name=out sync=false"));
    let said = warnings(&pipeline);
    let told = std::sync::Arc::new(std::sync::Mutex::new(None));
    let writer = told.clone();
    let sink = pipeline.appsink("out");
    let pad = sink.static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(raster) = info.event().and_then(|e| RasterInfo::of(e)) {
            *writer.lock().unwrap() = Some(raster);
        }
        gst::PadProbeReturn::Ok
    });
    answer(&pad, move |plan: &mut PlanRef<'_>| {
        if plan.request().is_none() {
            plan.set_preference(&Preference { resolution: models, ..Preference::default() });
        }
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let found = common::rest(&sink).iter().map(Got::of).collect();
    assert!(said.lock().unwrap().is_empty());
    (found, told.lock().unwrap().take().unwrap())
}

/// Compares the parts of tiles that lie in the raster with `gdalwarp`; 1 for rounding.
fn compare(folder: &Folder, path: &str, method: &str, found: &[Got], info: &RasterInfo, skip: i64) {
    let g = info.georeference.geotransform.unwrap();
    let (w, h) = (info.width, info.height);
    let text = |v: f64| format!("{v:.12}");
    let (x0, y0, x1, y1) = (text(g[0]), text(g[3] + g[5] * h as f64), text(g[0] + g[1] * w as f64), text(g[3]));
    let warped = folder.path("warped.tif");
    let (ws, hs) = (w.to_string(), h.to_string());
    let grid = ["-te", &x0, &y0, &x1, &y1, "-ts", &ws, &hs, "-r", method, "-ovr", "NONE", "-et", "0"];
    tool("gdalwarp", &[&["-q", "-overwrite"], &grid[..], &[path, &warped]].concat());
    let samples = translated(folder, &warped, &[]);
    let bands = samples.len() / (w * h) as usize;
    let mut worst = 0.0f64;
    for tile in found {
        let a = tile.area;
        for b in 0..bands {
            for y in a.y.max(skip)..a.bottom().min(h - skip) {
                for x in a.x.max(skip)..a.right().min(w - skip) {
                    let own = tile.values[b * a.area() + ((y - a.y) * a.width + x - a.x) as usize];
                    let other = samples[b * (w * h) as usize + (y * w + x) as usize];
                    worst = worst.max((own - other).abs());
                }
            }
        }
    }
    assert!(worst <= 1.0, "{method}: {worst} grey values off");
}

#[test]
fn larger_pixels_are_averages_and_smaller_ones_interpolations() {
    let _watchdog = common::start();
    let folder = Folder::new("resampled");
    let path = folder.path("in.tif");
    let size = (173, 141);
    Raster::new(3, size, texture).write(&path, None, false);
    // Half a metre by the CRS, whose metres are 1.0004 on the ground here: at its middle meridian.
    for (metres, method) in
        [(1.0, "average"), (1.7, "average"), (2.0, "average"), (0.3, "bilinear"), (0.25, "bilinear")]
    {
        let (found, info) = resampled(&format!("location={path} resolution={metres} tile-size=64 overlap=16"), None);
        let g = info.georeference.geotransform.unwrap();
        assert!((g[1] / (metres * 0.9996) - 1.0).abs() < 1e-4 && g[0] == 500_000.0 && g[3] == 5_400_000.0, "{g:?}");
        let expected = |n: usize| (n as f64 * 0.5 / g[1]).ceil() as i64;
        assert_eq!((info.width, info.height), (expected(size.0), expected(size.1)));
        // At the rim GDAL has its own ideas of what lies beyond.
        compare(&folder, &path, method, &found, &info, 2);
    }
}

#[test]
fn models_name_a_resolution_users_have_the_last_word_and_a_tenth_is_near_enough() {
    let _watchdog = common::start();
    let folder = Folder::new("whose-resolution");
    let path = folder.path("in.tif");
    Raster::new(1, (100, 100), texture).write(&path, None, false);
    let width = |properties: &str, models| resampled(&format!("location={path} {properties}"), models).1.width;
    assert_eq!(width("", None), 100);
    assert_eq!(width("", Some(1.0)), 51);
    assert_eq!(width("resolution=0", Some(1.0)), 100);
    assert_eq!(width("resolution=2", Some(1.0)), 26);
    assert_eq!(width("", Some(0.54)), 100);
    assert_eq!(width("", Some(0.46)), 100);
    assert_ne!(width("", Some(0.56)), 100);
}

#[test]
fn pixels_without_data_have_no_part_in_averages() {
    let _watchdog = common::start();
    let folder = Folder::new("resampled-nodata");
    let path = folder.path("in.tif");
    Raster::new(1, (128, 64), |_, x, _| if x < 60 || x % 2 == 1 { 0u8 } else { 200 }).write(&path, Some(0.0), false);
    let found = all(&format!("location={path} resolution=2 tile-size=16 overlap=0")).0;
    for tile in &found {
        let right = tile.area.right().min(14);
        if right == tile.area.right() {
            assert!(tile.gap, "{:?}", tile.area);
            continue;
        }
        for (k, v) in tile.values.iter().enumerate() {
            let x = tile.area.x + k as i64 % tile.area.width;
            // Four columns and a little less each: pixel 14 ends before column 60, 32 holds a sliver of column 127 alone.
            if (15..32).contains(&x) {
                assert_eq!(*v, 200.0, "{x}");
                assert!(tile.valid.as_ref().is_none_or(|valid| valid[k] != 0));
            }
        }
    }
    // A window is in the file's pixels.
    let found = all(&format!("location={path} resolution=2 tile-size=8 overlap=0 window=100,40,20,8")).0;
    assert!(found.iter().all(|t| t.area.right() * 4 > 100 && t.area.bottom() * 4 > 40));
}

#[test]
fn what_was_never_written_has_no_part_in_averages_as_it_has_with_gdalwarp() {
    let _watchdog = common::start();
    let folder = Folder::new("resampled-sparse");
    let (full, path) = (folder.path("full.tif"), folder.path("in.tif"));
    Raster::new(1, (128, 64), |_, x, _| if x < 64 { 200u8 } else { 0 }).write(&full, None, false);
    tool(
        "gdal_translate",
        &[
            "-q",
            "-co",
            "TILED=YES",
            "-co",
            "BLOCKXSIZE=64",
            "-co",
            "BLOCKYSIZE=64",
            "-co",
            "SPARSE_OK=TRUE",
            &full,
            &path,
        ],
    );
    // One and a half pixels of the file: the border of the data lies within pixel 42.
    let found = tiles(&format!("location={path} resolution=0.7497 tile-size=128 overlap=0"));
    let [tile] = &found[..] else { panic!("{} tiles", found.len()) };
    let valid = tile.valid.as_ref().expect("not all has data");
    for (k, v) in tile.values.iter().enumerate() {
        let (x, y) = (k as i64 % tile.area.width, k as i64 / tile.area.width);
        if x < 86 && y < 43 {
            assert_eq!((*v, valid[k]), if x <= 42 { (200.0, 1) } else { (0.0, 0) }, "{x}, {y}");
        }
    }
    let warped = folder.path("warped.tif");
    let grid = [
        "-q",
        "-te",
        "500000",
        "5399967.75",
        "500064.5",
        "5400000",
        "-ts",
        "86",
        "43",
        "-r",
        "average",
        "-ovr",
        "NONE",
    ];
    tool("gdalwarp", &[&grid[..], &[&path, &warped]].concat());
    assert_eq!(translated(&folder, &warped, &[])[41..44], [200.0, 133.0, 0.0]);
}

#[test]
fn a_raster_that_lies_nowhere_keeps_its_pixels_and_says_so() {
    let _watchdog = common::start();
    let folder = Folder::new("nowhere");
    let (path, bare) = (folder.path("in.tif"), folder.path("bare.png"));
    Raster::new(1, (40, 40), texture).write(&path, None, false);
    tool("gdal_translate", &["-q", "-of", "PNG", &path, &bare]);
    std::fs::remove_file(folder.path("bare.png.aux.xml")).unwrap();
    let pipeline = common::launch(&format!("rastersrc location={bare} ! appsink name=out sync=false"));
    let said = warnings(&pipeline);
    answer(&pipeline.appsink("out").static_pad("sink").unwrap(), |plan| {
        if plan.request().is_none() {
            plan.set_preference(&Preference { resolution: Some(3.0), ..Preference::default() });
        }
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let found: Vec<Got> = common::rest(&pipeline.appsink("out")).iter().map(Got::of).collect();
    assert_eq!(found[0].area.width, 40 + 64);
    let said = said.lock().unwrap();
    let tells = |text: &str| said.iter().any(|s| s.contains("bare.png") && s.contains(text));
    assert!(tells("trained on 3 m") && tells("no coordinate reference system"), "{said:?}");
}
