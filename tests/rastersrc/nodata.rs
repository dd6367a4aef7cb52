//! Pixels without data: by value, NaN, alpha, masks, and blocks that were never written.

use gdal::DriverManager;
use gdal::raster::{Buffer, RasterCreationOptions};
use gst::prelude::*;

use crate::raster::{Folder, Raster, texture};
use crate::{Known, all, check, common, tiles, tool};

const SIZE: (usize, usize) = (90, 70);

/// A wide margin on the left, so that whole tiles are empty, and specks elsewhere.
fn gone(x: usize, y: usize) -> bool {
    x < 40 || (x * 3 + y).is_multiple_of(7)
}

fn value(b: usize, x: usize, y: usize) -> u8 {
    texture(b, x, y).max(2)
}

/// All samples of a pixel lack data, or none.
fn compare(properties: &str, bands: usize, sample: impl Fn(usize, usize, usize) -> f64, fill: impl Fn(usize) -> f64) {
    for (tile, overlap) in [(16, 0), (24, 8), (128, 64)] {
        let found = tiles(&format!("{properties} tile-size={tile} overlap={overlap}"));
        let known = |b, x, y| (!gone(x, y)).then(|| sample(b, x, y));
        check(&found, tile, overlap, &Known { size: SIZE, bands, sample: &known, fill: &|b, _, _| fill(b) });
    }
}

#[test]
fn by_value() {
    let _watchdog = common::start();
    let folder = Folder::new("by-value");
    let path = folder.path("in.tif");
    let at = |v: u8| move |b, x, y| if gone(x, y) { v } else { value(b, x, y) };
    let whole = |b, x, y| value(b, x, y) as f64;
    // An integer 0 stays 0, whatever the fill; others become it.
    Raster::new(3, SIZE, at(0)).write(&path, Some(0.0), false);
    compare(&format!("location={path} nodata-fill=77"), 3, whole, |_| 0.0);
    Raster::new(3, SIZE, at(1)).write(&path, Some(1.0), false);
    compare(&format!("location={path} nodata-fill=\"10,20,30\""), 3, whole, |b| 10.0 * (b + 1) as f64);
    compare(&format!("location={path}"), 3, whole, |_| 0.0);
    // What the user says wins.
    Raster::new(1, SIZE, at(1)).write(&path, Some(2.0), false);
    compare(&format!("location={path} nodata=1 nodata-fill=9"), 1, whole, |_| 9.0);
    // What no 8-bit pixel can be marks none.
    Raster::new(1, SIZE, at(0)).write(&path, Some(-9999.0), false);
    let found = tiles(&format!("location={path} tile-size=32 overlap=0"));
    assert!(found.iter().all(|t| !t.gap && t.valid.is_none()));
    Raster::new(1, SIZE, at(1)).write(&path, Some(1.0), false);
    let found = tiles(&format!("location={path} nodata=none tile-size=32 overlap=0"));
    assert!(found.iter().all(|t| !t.gap && t.valid.is_none()));
}

#[test]
fn by_value_in_other_types() {
    let _watchdog = common::start();
    let folder = Folder::new("by-types");
    let path = folder.path("in.tif");
    let number = |b: usize, x: usize, y: usize| (b * 900 + x * 31 + y * 7) as f64 - 1000.0;
    let f = |v: f64| move |b, x, y| if gone(x, y) { v } else { number(b, x, y) + 0.5 };
    let (int, half) = (number, |b, x, y| number(b, x, y) + 0.5);
    let i16 = |b, x, y| if gone(x, y) { -9999 } else { number(b, x, y) as i16 };
    Raster::<i16>::new(2, SIZE, i16).write(&path, Some(-9999.0), false);
    compare(&format!("location={path} bands=\"1,2\" nodata-fill=5"), 2, int, |_| 5.0);
    // The least float, as many rasters have it.
    let least = |b, x, y| f(f32::MIN as f64)(b, x, y) as f32;
    Raster::<f32>::new(1, SIZE, least).write(&path, Some(-3.4028234663852886e38), false);
    compare(&format!("location={path} nodata-fill=-2"), 1, half, |_| -2.0);
    Raster::<f32>::new(2, SIZE, |b, x, y| f(f64::NAN)(b, x, y) as f32).write(&path, None, false);
    compare(
        &format!("location={path} bands=\"2,1\" nodata-fill=\"1,0\""),
        2,
        |b, x, y| half(1 - b, x, y),
        |b| 1.0 - b as f64,
    );
    Raster::<f64>::new(1, SIZE, f(1e300)).write(&path, Some(1e300), false);
    compare(&format!("location={path}"), 1, half, |_| 0.0);
    // A difference that 32 bit cannot tell.
    let i32 = |_, x, y| if gone(x, y) { 100_000_001 } else { 100_000_000 };
    Raster::<i32>::new(1, SIZE, i32).write(&path, Some(100_000_001.0), false);
    compare(&format!("location={path}"), 1, |_, _, _| 1e8, |_| 0.0);
}

#[test]
fn single_bands_without_data_are_filled_and_the_pixel_counts() {
    let _watchdog = common::start();
    let folder = Folder::new("some-bands");
    let path = folder.path("in.tif");
    let lost = |b: usize, x: usize, y: usize| gone(x, y) && (x < 40 || b == y % 3);
    let at = |b, x, y| if lost(b, x, y) { 1 } else { value(b, x, y) };
    Raster::new(3, SIZE, at).write(&path, Some(1.0), false);
    let found = tiles(&format!("location={path} nodata-fill=\"3,4,5\" tile-size=24 overlap=8"));
    let sample = |b, x, y| (!lost(b, x, y)).then(|| value(b, x, y) as f64);
    check(&found, 24, 8, &Known { size: SIZE, bands: 3, sample: &sample, fill: &|b, _, _| 3.0 + b as f64 });
}

#[test]
fn by_alpha_and_by_masks() {
    let _watchdog = common::start();
    let folder = Folder::new("by-masks");
    let (path, masked) = (folder.path("in.tif"), folder.path("masked.tif"));
    let at = |b, x, y| match b {
        3 => {
            if gone(x, y) {
                0u8
            } else {
                1 + (x % 200) as u8
            }
        }
        _ => value(b, x, y),
    };
    let whole = |b, x, y| value(b, x, y) as f64;
    Raster::new(4, SIZE, at).write(&path, None, true);
    let named = format!("location={path} bands=\"1,2,3\" nodata-fill=8");
    compare(&named, 3, whole, |_| 8.0);
    compare(&format!("location={path} nodata-fill=8"), 3, whole, |_| 8.0);
    // Alpha that is named is a band like others.
    let found = tiles(&format!("location={path} bands=\"1,2,3,4\" tile-size=32 overlap=0"));
    assert!(found.iter().all(|t| !t.gap && t.valid.is_none() && t.bands == 4));

    for internal in ["YES", "NO"] {
        let config = ["--config", "GDAL_TIFF_INTERNAL_MASK", internal];
        let bands = ["-b", "1", "-b", "2", "-b", "3", "-mask", "4"];
        tool("gdal_translate", &[&["-q"][..], &config, &bands, &[&path, &masked]].concat());
        compare(&format!("location={masked} nodata-fill=8"), 3, whole, |_| 8.0);
        // A mosaic of it: what its files hide is 0 there, which stays.
        let vrt = folder.path("masked.vrt");
        tool("gdalbuildvrt", &["-q", "-overwrite", &vrt, &masked]);
        compare(&format!("location={vrt} nodata-fill=8"), 3, whole, |_| 0.0);
    }
}

/// A file where only some blocks of 64 pixels were ever written: those whose row and column add up to a multiple of 3.
fn sparse(path: &str, side: usize, written: impl Fn(usize, usize) -> bool, nodata: Option<f64>) {
    let options = RasterCreationOptions::from_iter([
        "TILED=YES",
        "BLOCKXSIZE=64",
        "BLOCKYSIZE=64",
        "SPARSE_OK=TRUE",
        "BIGTIFF=YES",
    ]);
    let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
    let file = driver.create_with_band_type_with_options::<u8, _>(path, side, side, 3, &options).unwrap();
    for b in 0..3 {
        let mut band = file.rasterband(b + 1).unwrap();
        if nodata.is_some() {
            band.set_no_data_value(nodata).unwrap();
        }
        for (x, y) in (0..side / 64).flat_map(|y| (0..side / 64).map(move |x| (x, y))).filter(|(x, y)| written(*x, *y))
        {
            let data = (0..64 * 64).map(|k| value(b, x * 64 + k % 64, y * 64 + k / 64)).collect();
            let place = ((x * 64) as isize, (y * 64) as isize);
            band.write(place, (64, 64), &mut Buffer::new((64, 64), data)).unwrap();
        }
    }
    file.close().unwrap();
}

#[test]
fn blocks_that_were_never_written_have_no_data() {
    let _watchdog = common::start();
    let folder = Folder::new("unwritten");
    let path = folder.path("in.tif");
    let written = |x: usize, y: usize| (x + y).is_multiple_of(3);
    for nodata in [None, Some(0.0), Some(1.0)] {
        sparse(&path, 384, written, nodata);
        for (tile, overlap) in [(64, 0), (96, 32), (1024, 64)] {
            let found = tiles(&format!("location={path} nodata-fill=6 tile-size={tile} overlap={overlap}"));
            let sample = |b, x, y| written(x / 64, y / 64).then(|| value(b, x, y) as f64);
            // GDAL reads unwritten blocks as the nodata value, else as 0, which stays.
            let fill = if nodata == Some(1.0) { 6.0 } else { 0.0 };
            let known = Known { size: (384, 384), bands: 3, sample: &sample, fill: &|_, _, _| fill };
            check(&found, tile, overlap, &known);
        }
    }
}

#[test]
fn a_huge_raster_costs_what_was_written() {
    let _watchdog = common::start();
    let folder = Folder::new("huge");
    let path = folder.path("in.tif");
    // 64000 x 64000 pixels, 12 GB if they were all there.
    sparse(&path, 64_000, |x, y| x == y && x.is_multiple_of(250), Some(0.0));
    let begin = std::time::Instant::now();
    let pipeline = common::launch(&format!(
        "rastersrc name=source location={path} tile-size=1024 overlap=64 ! fakesink sync=false"
    ));
    pipeline.finish();
    let time = begin.elapsed().as_secs_f64();
    let stats = pipeline.get("source").property::<gst::Structure>("stats");
    let number = |name: &str| stats.get::<u64>(name).unwrap();
    assert_eq!(number("tiles"), 67 * 67);
    assert_eq!(number("sent"), 67 * 67);
    let with_data = number("sent") - number("without-data");
    assert!((4..=16).contains(&with_data), "{stats}");
    assert!(number("blocks-read") <= 4 && number("blocks-read-again") == 0, "{stats}");
    assert!(time < 15.0, "{time} s");
}

#[test]
fn gaps_between_the_files_of_a_mosaic() {
    let _watchdog = common::start();
    let folder = Folder::new("gaps");
    let whole = folder.path("whole.tif");
    Raster::new(2, (100, 80), value).write(&whole, None, false);
    let parts: Vec<String> = [(0, 0, 37, 41), (60, 5, 40, 30), (20, 50, 51, 30)]
        .iter()
        .enumerate()
        .map(|(k, (x, y, w, h))| {
            let part = folder.path(&format!("part{k}.tif"));
            let place = [x, y, w, h].map(|v: &i32| v.to_string());
            let window = ["-srcwin", &place[0], &place[1], &place[2], &place[3]];
            tool("gdal_translate", &[&["-q"][..], &window, &[&whole, &part]].concat());
            part
        })
        .collect();
    let vrt = folder.path("in.vrt");
    tool("gdalbuildvrt", &["-q", &vrt, &parts[0], &parts[1], &parts[2]]);
    let inside = |x: usize, y: usize| {
        let within = |l, t, w, h| (l..l + w).contains(&x) && (t..t + h).contains(&y);
        within(0, 0, 37, 41) || within(60, 5, 40, 30) || within(20, 50, 51, 30)
    };
    for (tile, overlap) in [(16, 0), (24, 8), (128, 0)] {
        let (found, _, stats) = all(&format!("location={vrt} bands=\"1,2\" tile-size={tile} overlap={overlap}"));
        let sample = |b, x, y| inside(x, y).then(|| value(b, x, y) as f64);
        check(&found, tile, overlap, &Known { size: (100, 80), bands: 2, sample: &sample, fill: &|_, _, _| 0.0 });
        assert_eq!(stats.get::<u64>("blocks-read-again"), Ok(0));
    }
}
