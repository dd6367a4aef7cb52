//! Large rasters, on a small scale; `benches/mosaic.rs` has the large one.

use std::time::Instant;

use gdal::DriverManager;
use gdal::raster::{Buffer, RasterCreationOptions};

use crate::raster::{Folder, Raster, texture};
use crate::{child, common};

/// A sparse raster with islands of data: three bands, nodata 0.
fn islands(path: &str, side: usize, islands: &[(usize, usize)], size: usize) {
    let options = RasterCreationOptions::from_iter(["TILED=YES", "COMPRESS=DEFLATE", "SPARSE_OK=TRUE", "BIGTIFF=YES"]);
    let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
    let mut file = driver.create_with_band_type_with_options::<u8, _>(path, side, side, 3, &options).unwrap();
    file.set_geo_transform(&[500_000.0, 0.5, 0.0, 5_400_000.0, 0.0, -0.5]).unwrap();
    for b in 0..3 {
        let mut band = file.rasterband(b + 1).unwrap();
        band.set_no_data_value(Some(0.0)).unwrap();
        for (left, top) in islands {
            let data = (0..size * size).map(|k| texture(b, left + k % size, top + k / size).max(1)).collect();
            let place = (*left as isize, *top as isize);
            band.write(place, (size, size), &mut Buffer::new((size, size), data)).unwrap();
        }
    }
    file.close().unwrap();
}

#[test]
fn a_sparse_raster_costs_what_its_islands_cost() {
    let _watchdog = common::start();
    let folder = Folder::new("sparse");
    let (input, output) = (folder.path("in.tif"), folder.path("out.tif"));
    // 400 million pixels, a million of them with data.
    let places = [(0, 0), (7_777, 3_333), (12_000, 15_901), (19_500, 19_500)];
    islands(&input, 20_000, &places, 500);
    let begin = Instant::now();
    let peak = child::run(&format!(
        "rastersrc location=\"{input}\" tile-size=1024 overlap=64 ! onnxsegment model-file={{sigmoid}} \
         ! rastersink location=\"{output}\""
    ));
    let time = begin.elapsed().as_secs_f64();
    assert!(peak < 1024.0, "{peak} MiB");
    assert!(time < 40.0, "{time} s");
    let file = gdal::Dataset::open(&output).unwrap();
    assert_eq!(file.raster_size(), (20_000, 20_000));
    let band = file.rasterband(1).unwrap();
    for (left, top) in places {
        let window = (left as isize, top as isize);
        let labels = band.read_as::<u8>(window, (500, 500), (500, 500), None).unwrap();
        assert!(labels.data().iter().all(|label| *label <= 1));
    }
    let labels = band.read_as::<u8>((9_000, 9_000), (700, 700), (700, 700), None).unwrap();
    assert!(labels.data().iter().all(|label| *label == 255));
    let rim = band.read_as::<u8>((7_776, 3_332), (1, 502), (1, 502), None).unwrap();
    assert!(rim.data().iter().all(|label| *label == 255));
}

#[test]
fn memory_does_not_grow_with_height() {
    let _watchdog = common::start();
    let folder = Folder::new("height");
    let peak = |height: usize| {
        let (input, output) = (folder.path("in.tif"), folder.path("out.tif"));
        Raster::new(1, (1500, height), texture).write(&input, None, false);
        let run = || {
            child::run(&format!(
                "rastersrc location=\"{input}\" tile-size=256 overlap=64 ! onnxsegment model-file={{gray}} \
                 ! rastersink location=\"{output}\" part-size=512,256 resume=false"
            ))
        };
        // How much is under way at a time differs from run to run.
        run().min(run())
    };
    let (low, high) = (peak(2000), peak(7000));
    // 5000 rows more are 29 MiB of scores alone, and 7 MiB each of pixels and labels.
    assert!(high - low < 20.0, "{low} MiB at 2000 rows, {high} MiB at 7000");
}
