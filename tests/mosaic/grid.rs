//! Masks brought back to the pixels of a raster that was resampled for the models.

use gdal::Dataset;

use crate::common;
use crate::raster::{Folder, Raster, texture};

const SIZE: (usize, usize) = (173, 141);

fn launch(folder: &Folder, [labels, scores]: &[String; 2], source: &str, sink: &str) -> common::Pipeline {
    common::launch(&format!(
        "rastersrc location={} tile-size=64 overlap=16 {source} ! onnxsegment model-file={{sigmoid}} size-multiple=2 ! rastersink \
         location={labels} probability-location={scores} probability-depth=16 {sink}",
        folder.path("in.tif")
    ))
}

fn run(folder: &Folder, name: &str, source: &str, sink: &str) -> [String; 2] {
    let outputs = [folder.path(&format!("{name}.tif")), folder.path(&format!("{name}-scores.tif"))];
    launch(folder, &outputs, source, sink).finish();
    outputs
}

/// Pixels of the source per pixel of the models' grid.
fn factor(path: &str) -> f64 {
    Dataset::open(path).unwrap().geo_transform().unwrap()[1] / 0.5
}

#[test]
fn a_mask_is_brought_back_to_the_rasters_own_pixels() {
    let _watchdog = common::start();
    let folder = Folder::new("grid");
    // What has no data stays without, well inside of it.
    let pixel = |b: usize, x: usize, y: usize| if x >= 100 && y < 60 { 0 } else { texture(b, x, y).max(1) };
    Raster::new(3, SIZE, pixel).write(folder.path("in.tif"), Some(0.0), false);
    let own = Dataset::open(folder.path("in.tif")).unwrap();
    for metres in ["1", "1.7", "0.3"] {
        let there = run(&folder, &format!("model-{metres}"), &format!("resolution={metres}"), "");
        let back = run(&folder, &format!("back-{metres}"), &format!("resolution={metres} grid=source"), "");
        let f = factor(&there[0]);
        for path in &back {
            let found = Dataset::open(path).unwrap();
            assert_eq!((found.raster_size(), found.geo_transform().unwrap()), (SIZE, own.geo_transform().unwrap()));
            assert_eq!(found.spatial_ref().unwrap().auth_code().unwrap(), 32633);
            assert_eq!(found.rasterband(1).unwrap().color_table().is_some(), path == &back[0]);
        }
        let (coarse, fine) = (Raster::<u8>::read(&there[0]), Raster::<u8>::read(&back[0]));
        assert!(coarse.data.contains(&0) && coarse.data.contains(&1), "both classes");
        for y in 0..SIZE.1 {
            for x in 0..SIZE.0 {
                let at = |v: usize| ((v as f64 + 0.5) / f) as usize;
                let expected = coarse.data[at(y) * coarse.width + at(x)];
                assert_eq!(fine.data[y * SIZE.0 + x], expected, "{metres} m, column {x}, row {y}");
            }
        }
        assert_eq!(fine.data[20 * SIZE.0 + 140], 255);
        scores(&there[1], &back[1], f);

        // A window, in parts that do not end where it does.
        let window = run(
            &folder,
            &format!("window-{metres}"),
            &format!("resolution={metres} grid=source window=31,17,90,101"),
            "part-size=\"32,48\" cog=false",
        );
        let part = Raster::<u8>::read(&window[0]);
        assert_eq!((part.width, part.height), (90, 101));
        for y in 0..101 {
            let whole = &fine.data[(y + 17) * SIZE.0 + 31..][..90];
            assert_eq!(&part.data[y * 90..][..90], whole, "{metres} m, row {y} of the window");
        }
        let g = Dataset::open(&window[0]).unwrap().geo_transform().unwrap();
        assert_eq!((g[0], g[3]), (500_000.0 + 31.0 * 0.5, 5_400_000.0 - 17.0 * 0.5));
    }
}

/// Interpolated between the centres of larger pixels, or the average of smaller ones, away from nodata and borders.
fn scores(there: &str, back: &str, f: f64) {
    let (from, to) = (Raster::<u16>::read(there), Raster::<u16>::read(back));
    let value = |x: usize, y: usize| f64::from(from.data[y * from.width + x]);
    // Which pixels make one, with their weights.
    let weights = |v: usize| -> Vec<(usize, f64)> {
        if f > 1.0 {
            let centre = (v as f64 + 0.5) / f - 0.5;
            let first = centre.floor();
            return vec![(first as usize, 1.0 - (centre - first)), (first as usize + 1, centre - first)];
        }
        let (start, end) = (v as f64 / f, (v + 1) as f64 / f);
        let share = |k: usize| (end.min(k as f64 + 1.0) - start.max(k as f64)).max(0.0) / (end - start);
        (start as usize..end.ceil() as usize).map(|k| (k, share(k))).collect()
    };
    let mut worst = 0.0f64;
    for y in 70..SIZE.1 - 8 {
        for x in 8..SIZE.0 - 8 {
            let sum: f64 = weights(y)
                .iter()
                .flat_map(|(j, w)| weights(x).into_iter().map(move |(i, v)| value(i, *j) * v * w))
                .sum();
            worst = worst.max((sum - f64::from(to.data[y * SIZE.0 + x])).abs());
        }
    }
    assert!(worst <= 1.0, "{worst} of 65534 off at a factor of {f}");
}

#[test]
fn without_resampling_both_grids_are_one_and_parts_of_either_are_told_apart() {
    let _watchdog = common::start();
    let folder = Folder::new("grids");
    Raster::new(3, SIZE, texture).write(folder.path("in.tif"), None, false);
    let plain = run(&folder, "plain", "grid=source", "");
    assert_eq!(Raster::<u8>::read(&plain[0]).width, SIZE.0);

    let started = run(&folder, "started", "resolution=1", "finish=false");
    let other = launch(&folder, &started, "resolution=1 grid=source", "").run();
    let problems = format!("{other:?}");
    assert!(problems.contains("the mask's grid is the model's there and the source's here"), "{problems}");
}
