//! Masks and truth in tiles.

use crate::common::*;
use crate::*;

fn tiled(prediction: &str, truth: &str) -> Pipeline {
    launch(&format!(
        "appsrc name=prediction format=time ! {prediction} ! maskmetrics name=m block-size=16 ! appsink name=out sync=false wait-on-eos=false \
         appsrc name=truth format=time ! {truth} ! m.truth"
    ))
}

fn push(pipeline: Pipeline, frames: &[(Grey, Grey)]) -> Scoring {
    let scoring = Scoring(pipeline);
    for (prediction, truth) in frames {
        scoring.push_grey("prediction", "GRAY8", prediction);
        scoring.push_grey("truth", "GRAY8", truth);
    }
    scoring
}

fn frames() -> Vec<(Grey, Grey)> {
    (1..4).map(|k| (discs(90, 70, k), discs(90, 70, 0))).collect()
}

#[test]
fn tiles_score_each_pixel_once_whatever_their_overlap() {
    let _w = start();
    let whole = push(tiled("identity", "identity"), &frames()).report();
    for (prediction, truth, tiles) in [
        ("tile-size=32 overlap=0", "tile-size=32 overlap=0", 3 * 9),
        ("tile-size=48 overlap=16", "tile-size=48 overlap=16", 3 * 9),
        // The same cores, with another halo.
        ("tile-size=48 overlap=16", "tile-size=32 overlap=0", 3 * 9),
    ] {
        let pipeline = tiled(&format!("tilesplit {prediction}"), &format!("tilesplit {truth}"));
        let report = push(pipeline, &frames()).report();
        assert_eq!((report.frames, report.tiles), (3, tiles));
        assert_eq!(report.confusion, whole.confusion);
        assert_eq!(report.mean.iou, whole.mean.iou);
        assert_eq!(report.mean.boundary_iou.value, None);
        let left_out: Vec<_> = report.left_out.iter().map(|l| l.score.as_str()).collect();
        assert_eq!(left_out, ["boundary_iou", "object_f1", "calibration"]);
        assert!(report.left_out[0].reason.contains("tiles cut outlines"), "{:?}", report.left_out);
    }
}

#[test]
fn merged_tiles_are_whole_again() {
    let _w = start();
    let whole = push(tiled("identity", "identity"), &frames()).report();
    let merged = push(tiled("tilesplit tile-size=32 overlap=0 ! tilemerge", "identity"), &frames()).report();
    assert_eq!(merged, whole);
}

#[test]
fn tiles_that_do_not_belong_together_are_an_error() {
    let _w = start();
    let of = |prediction: &str, truth: &str| push(tiled(prediction, truth), &frames()).error();
    let error = of("tilesplit tile-size=32 overlap=0", "tilesplit tile-size=48 overlap=0");
    assert!(error.contains("32 x 32 pixels at (0, 0)") && error.contains("48 x 48"), "{error}");
    let error = of("tilesplit tile-size=32 overlap=0", "identity");
    assert!(error.contains("the prediction comes in tiles and the truth does not"), "{error}");
    let error = of("identity", "tilesplit tile-size=32 overlap=0");
    assert!(error.contains("the truth comes in tiles and the prediction does not"), "{error}");
    let pair = [(discs(90, 70, 0), discs(91, 70, 0))];
    let split = "tilesplit tile-size=32 overlap=0";
    let error = push(tiled(split, split), &pair).error();
    assert!(error.contains("raster of 90 x 70") && error.contains("91 x 70"), "{error}");
}

#[cfg(feature = "raster")]
mod rasters {
    use std::path::PathBuf;

    use gdal::DriverManager;
    use gdal::raster::Buffer;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("onnxsegment-metrics-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn write(path: &std::path::Path, grey: &Grey, nodata: Option<f64>) {
        let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
        let mut file = driver.create_with_band_type::<u8, _>(path, grey.width, grey.height, 1).unwrap();
        file.set_geo_transform(&[5.0, 1.0, 0.0, 9.0, 0.0, -1.0]).unwrap();
        let mut band = file.rasterband(1).unwrap();
        band.set_no_data_value(nodata).unwrap();
        let values = grey.values.iter().map(|v| *v as u8).collect();
        band.write((0, 0), (grey.width, grey.height), &mut Buffer::new((grey.width, grey.height), values)).unwrap();
        file.close().unwrap();
    }

    #[test]
    fn mosaics_are_scored_from_file_to_file_without_what_has_no_data() {
        let _w = start();
        let folder = folder("mosaic");
        let (width, height) = (150, 100);
        let mut mask = discs(width, height, 2);
        let mut truth = discs(width, height, 0);
        // A whole tile without data in the mask, some pixels in the truth.
        (0..32).for_each(|y| (32..64).for_each(|x| mask.values[y * width + x] = 255));
        (40..50).for_each(|y| (0..width).for_each(|x| truth.values[y * width + x] = 255));
        write(&folder.join("mask.tif"), &mask, Some(255.0));
        write(&folder.join("truth.tif"), &truth, Some(255.0));
        let path = folder.display();
        let pipeline = launch(&format!(
            "rastersrc location={path}/mask.tif tile-size=32 ! maskmetrics name=m block-size=16 ! fakesink \
             rastersrc location={path}/truth.tif tile-size=32 overlap=0 ! queue ! m.truth"
        ));
        pipeline.finish();
        let report = report(&pipeline);
        std::fs::remove_dir_all(&folder).unwrap();
        let whole = Scoring::of("block-size=16", &mask, &truth).report();
        assert_eq!((report.frames, report.tiles), (1, 5 * 4));
        assert_eq!(report.confusion, whole.confusion);
        assert_eq!(report.mean.iou, whole.mean.iou);
        assert_eq!(report.ignored_pixels, whole.ignored_pixels);
        assert_eq!(report.ignored_pixels, 32 * 32 + 10 * width as u64);
    }

    #[test]
    fn a_run_from_raster_to_raster_is_scored_as_it_goes() {
        let _w = start();
        let folder = folder("run");
        let (width, height) = (96, 64);
        let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
        let mut file = driver.create_with_band_type::<u8, _>(folder.join("in.tif"), width, height, 3).unwrap();
        file.set_geo_transform(&[5.0, 1.0, 0.0, 9.0, 0.0, -1.0]).unwrap();
        for k in 0..3 {
            let data = (0..width * height).map(|i| colour(3, i % width, i / width)[k]).collect();
            file.rasterband(k + 1)
                .unwrap()
                .write((0, 0), (width, height), &mut Buffer::new((width, height), data))
                .unwrap();
        }
        file.close().unwrap();
        write(&folder.join("truth.tif"), &discs(width, height, 0), None);
        let path = folder.display();
        let run = |more: &str| {
            launch(&format!(
                "rastersrc location={path}/in.tif tile-size=32 overlap=0 ! onnxsegment model-file={{sigmoid}} {more} \
                 rastersrc location={path}/truth.tif tile-size=32 overlap=0 ! queue ! m.truth"
            ))
        };
        // The plan of parts passes through.
        let pipeline =
            run(&format!("! maskmetrics name=m bootstrap=0 ! rastersink location={path}/mask.tif cog=false"));
        pipeline.finish();
        let along = report(&pipeline);
        let pipeline = launch(&format!(
            "rastersrc location={path}/mask.tif tile-size=32 ! maskmetrics name=m bootstrap=0 ! fakesink \
             rastersrc location={path}/truth.tif tile-size=32 overlap=0 ! queue ! m.truth"
        ));
        pipeline.finish();
        let after = report(&pipeline);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((along.tiles, along.pixels), (6, (width * height) as u64));
        assert_eq!(along.confusion, after.confusion);
    }
}
