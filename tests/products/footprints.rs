//! Polygons against the reference, against GDALPolygonize, and against the mask that they came of.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr::null_mut;

use gdal::raster::{Buffer, rasterize};
use gdal::vector::{LayerAccess, LayerOptions};
use gdal::{Dataset, DriverManager};
use gstonnxsegment::engine::metrics::evaluation::Settings;
use gstonnxsegment::engine::metrics::{Evaluation, LabelMap};
use gstonnxsegment::raster::Error;
use gstonnxsegment::raster::clean::Connectivity;
use gstonnxsegment::raster::footprints::{self, Options};
use gstonnxsegment::raster::measure::{Area, Length};
use proptest::prelude::*;

use crate::masks::*;

fn eight() -> Options {
    Options { connectivity: Connectivity::Eight, ..Options::default() }
}

#[test]
fn polygons_are_those_of_the_reference() {
    let folder = Folder::new();
    for case in golden().cases {
        let mask = file(&format!("{}.png", case.mask));
        let probability = file(&format!("{}-probability.png", case.mask.trim_end_matches("-mask")));
        let probability = case.polygons[0].mean.is_some().then_some(probability.as_path());
        let (found, _) = made(&mask, probability, &folder.path("a.geojson"), &Options::default());
        let by_id: BTreeMap<_, _> = found.iter().map(|found| (found.id.as_str(), found)).collect();
        assert_eq!((by_id.len(), found.len()), (case.polygons.len(), case.polygons.len()), "{}", case.mask);
        for known in &case.polygons {
            let id = format!("{}-{}-{}", known.class, known.column, known.row);
            let found = by_id.get(id.as_str()).unwrap_or_else(|| panic!("{}: no {id}", case.mask));
            assert_eq!(
                (found.class, found.area, found.plane_area()),
                (known.class, known.pixels, known.pixels),
                "{id}"
            );
            assert!((found.length() - known.length).abs() < 1e-6, "{id}");
            match (found.confidence, known.mean) {
                (Some(found), Some(known)) => assert!((found - known).abs() < 6e-5, "{id}: {found} {known}"),
                (found, known) => assert_eq!(found, known),
            }
        }
        let (found, _) = made(&mask, None, &folder.path("b.geojson"), &eight());
        assert_eq!(found.len(), case.eight_connected, "{}", case.mask);
    }
}

#[test]
fn areas_are_those_on_the_ellipsoid_in_metres_and_in_degrees() {
    let folder = Folder::new();
    let case = &golden().cases[1];
    let (size, mut labels) = pixels(&file("demo-mask.png"));
    labels.iter_mut().for_each(|v| *v /= 255);
    for (epsg, g, degrees) in
        [(32616, [733601.0, 0.5, 0.0, 3725139.0, 0.0, -0.5], false), (4326, [10.0, 5e-6, 0.0, 60.0, 0.0, -5e-6], true)]
    {
        let mask = folder.mask("mask.tif", size, &labels, 256);
        place(&mask, epsg, g);
        let (found, counts) = made(&mask, None, &folder.path("a.geojson"), &Options::default());
        assert_eq!((counts.metres, counts.pixels, counts.crs), (true, false, Some(format!("EPSG:{epsg}"))));
        for known in &case.polygons {
            let id = format!("1-{}-{}", known.column, known.row);
            let found = found.iter().find(|found| found.id == id).unwrap();
            let area = if degrees { known.degrees } else { known.utm };
            assert!((found.area - area).abs() <= 0.005 + 2e-6 * area, "{epsg} {id}: {} {area}", found.area);
        }
    }
}

#[test]
fn objects_are_found_as_often_as_by_shapely_and_by_the_metric_of_masks() {
    let folder = Folder::new();
    let of = |name: &str| made(&file(name), None, &folder.path("a.geojson"), &Options::default()).0;
    let (predicted, truth) = (of("demo-mask.png"), of("demo-truth.png"));
    let known = golden().f1;
    assert_eq!(matches(&predicted, &truth), known);
    let map = |name: &str| {
        let ((width, height), labels) = pixels(&file(name));
        LabelMap::new(width, height, labels.into_iter().map(|v| u16::from(v > 0)).collect()).unwrap()
    };
    let mut evaluation = Evaluation::new(Settings { resamples: 0, ..Settings::default() }).unwrap();
    evaluation.add_frame(&map("demo-mask.png"), &map("demo-truth.png"), None).unwrap();
    let report = serde_json::to_value(evaluation.report(&[])).unwrap();
    let objects = &report["classes"][1]["objects"];
    let count = |name: &str| objects[name].as_u64().unwrap_or_else(|| panic!("{objects}"));
    let found = F1 {
        true_positive: count("true_positive"),
        false_positive: count("false_positive"),
        false_negative: count("false_negative"),
    };
    assert_eq!(found, known);
    // With right angles they are still these buildings.
    let square = Options { orthogonalise: Some(15.0), ..Options::default() };
    let (squared, counts) = made(&file("demo-mask.png"), None, &folder.path("a.geojson"), &square);
    assert!(counts.orthogonalised > 35, "{counts:?}");
    assert!(matches(&squared, &truth).true_positive + 2 >= known.true_positive);
}

/// SpaceNet's matching: from prediction to prediction, the best true polygon that is left.
fn matches(predicted: &[Found], truth: &[Found]) -> F1 {
    let mut left: Vec<_> = truth.iter().map(Found::geometry).collect();
    let mut hits = 0;
    for found in predicted.iter().map(Found::geometry) {
        let iou = |other: &gdal::vector::Geometry| {
            let common = found.intersection(other).map_or(0.0, |common| common.area());
            common / (found.area() + other.area() - common)
        };
        let best = left.iter().map(iou).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((k, iou)) = best
            && iou >= 0.5
        {
            left.remove(k);
            hits += 1;
        }
    }
    F1 { true_positive: hits, false_positive: predicted.len() as u64 - hits, false_negative: left.len() as u64 }
}

/// Classes, areas and lengths of GDAL's own polygons.
fn by_gdal((width, height): (usize, usize), labels: &[u8]) -> Vec<(u16, i64, i64)> {
    let memory = DriverManager::get_driver_by_name("MEM").unwrap();
    let raster = memory.create_with_band_type::<u8, _>("", width, height, 1).unwrap();
    let mut band = raster.rasterband(1).unwrap();
    band.write((0, 0), (width, height), &mut Buffer::new((width, height), labels.to_vec())).unwrap();
    let mut vectors = DriverManager::get_driver_by_name("Memory").unwrap().create_vector_only("").unwrap();
    let layer = vectors.create_layer(LayerOptions::default()).unwrap();
    layer.create_defn_fields(&[("class", gdal::vector::OGRFieldType::OFTInteger)]).unwrap();
    // SAFETY: band and layer live; the band is its own mask, so that 0 is left out.
    let result = unsafe {
        let band = band.c_rasterband();
        gdal_sys::GDALPolygonize(band, band, layer.c_layer(), 0, null_mut(), None, null_mut())
    };
    assert_eq!(result, 0);
    let mut layer = vectors.layer(0).unwrap();
    let mut all: Vec<_> = layer
        .features()
        .map(|feature| {
            let polygon = feature.geometry().unwrap();
            let length: f64 = (0..polygon.geometry_count()).map(|k| polygon.get_geometry(k).length()).sum();
            (feature.field_as_integer(0).unwrap().unwrap() as u16, polygon.area() as i64, length as i64)
        })
        .collect();
    all.sort_unstable();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn polygons_are_valid_and_cover_the_pixels_of_their_class_and_no_others(
        (width, height, labels) in (1usize..20, 1usize..20, 2u8..4).prop_flat_map(|(w, h, classes)| {
            (Just(w), Just(h), proptest::collection::vec(0..classes, w * h))
        }),
    ) {
        let folder = Folder::new();
        let mask = folder.mask("mask.tif", (width, height), &labels, 16);
        for options in [Options::default(), eight()] {
            let (found, _) = made(&mask, None, &folder.path("a.geojson"), &options);
            let driver = DriverManager::get_driver_by_name("MEM").unwrap();
            let mut again: Dataset = driver.create_with_band_type::<u8, _>("", width, height, 1).unwrap();
            let geometries: Vec<_> = found.iter().map(Found::geometry).collect();
            prop_assert!(geometries.iter().all(|geometry| geometry.is_valid()));
            let values: Vec<f64> = found.iter().map(|found| found.class.into()).collect();
            rasterize(&mut again, &[1], &geometries, &values, None).unwrap();
            let size = (width, height);
            let pixels = again.rasterband(1).unwrap().read_as::<u8>((0, 0), size, size, None).unwrap();
            prop_assert_eq!(pixels.data(), &labels[..]);
            if options == Options::default() {
                let mut ours: Vec<_> =
                    found.iter().map(|f| (f.class, f.plane_area() as i64, f.length() as i64)).collect();
                ours.sort_unstable();
                prop_assert_eq!(ours, by_gdal(size, &labels));
            }
        }
    }
}

#[test]
fn the_same_mask_in_other_blocks_is_the_same_file() {
    let folder = Folder::new();
    let (size, labels) = pixels(&file("noise.png"));
    let options = Options { simplify: Some(Length::Pixels(1.0)), orthogonalise: Some(15.0), ..Options::default() };
    let bytes = |block| {
        let mask = folder.mask("mask.tif", size, &labels, block);
        footprints::write(&mask, None, &folder.path("a.geojson"), &options, &|_| true).unwrap();
        std::fs::read(folder.path("a.geojson")).unwrap()
    };
    assert_eq!(bytes(16), bytes(64));
}

#[test]
fn small_holes_are_filled_before_small_polygons_go() {
    let folder = Folder::new();
    let ring =
        |x: usize, y: usize, left: usize, side: usize| (left..left + side).contains(&x) && (1..1 + side).contains(&y);
    // A square of 5 × 5 with a hole of one pixel, one of 3 × 3 with the same, and one of 9 pixels.
    let label = |k: usize| {
        let (x, y) = (k % 20, k / 20);
        let hole = [(3, 3), (9, 2)].contains(&(x, y));
        u8::from(!hole && (ring(x, y, 1, 5) || ring(x, y, 8, 3) || ring(x, y, 13, 3)))
    };
    let mask = folder.mask("mask.tif", (20, 8), &(0..160).map(label).collect::<Vec<_>>(), 16);
    let with = |min_hole_area: u64, min_area: u64| {
        let options = Options {
            min_hole_area: Area::Pixels(min_hole_area),
            min_area: Area::Pixels(min_area),
            ..Options::default()
        };
        let (found, counts) = made(&mask, None, &folder.path("a.geojson"), &options);
        let areas: Vec<f64> = found.iter().map(|found| found.area).collect();
        (areas, counts.holes_filled, counts.too_small)
    };
    assert_eq!(with(1, 9), (vec![9.0, 24.0], 0, 1));
    assert_eq!(with(2, 9), (vec![9.0, 9.0, 25.0], 2, 0));
    assert_eq!(with(2, 10), (vec![25.0], 2, 2));
    // 0.25 m² a pixel, as good as exactly.
    place(&mask, 32616, [500000.0, 0.5, 0.0, 3725139.0, 0.0, -0.5]);
    for (least, polygons) in [(2.0, 3), (2.3, 1), (6.1, 0)] {
        let options = Options { min_area: Area::SquareMetres(least), ..Options::default() };
        assert_eq!(made(&mask, None, &folder.path("a.geojson"), &options).1.polygons, polygons, "{least}");
    }
}

#[test]
fn geojson_has_longitudes_first_and_outer_rings_counter_clockwise() {
    let folder = Folder::new();
    let label = |k: usize| u8::from((1..5).contains(&(k % 10)) && (1..5).contains(&(k / 10)) && k != 22);
    let labels: Vec<u8> = (0..100).map(label).collect();
    // North is up, and north is down.
    for (epsg, g, (longitude, latitude)) in [
        (4326, [20.0, 1e-4, 0.0, 50.0, 0.0, -1e-4], (20.0001, 49.9999)),
        (4326, [20.0, 1e-4, 0.0, 50.0, 0.0, 1e-4], (20.0001, 50.0001)),
        (32634, [500000.0, 10.0, 0.0, 5538630.0, 0.0, -10.0], (21.00014, 49.9998)),
    ] {
        let mask = folder.mask("mask.tif", (10, 10), &labels, 16);
        place(&mask, epsg, g);
        let (found, _) = made(&mask, None, &folder.path("a.geojson"), &Options::default());
        let rings = &found[0].polygons[0];
        assert!(rings[0].iter().any(|[x, y]| (x - longitude).abs() < 1e-4 && (y - latitude).abs() < 2e-4), "{rings:?}");
        assert!(signed_area(&rings[0]) > 0.0 && signed_area(&rings[1]) < 0.0, "{epsg} {g:?}");
    }
}

#[test]
fn a_polygon_across_the_date_line_is_cut_there_in_geojson() {
    let folder = Folder::new();
    let mask = folder.mask("mask.tif", (20, 10), &[1; 200], 16);
    place(&mask, 32660, [830000.0, 200.0, 0.0, 1000.0, 0.0, -200.0]);
    let (found, _) = made(&mask, None, &folder.path("a.geojson"), &Options::default());
    let longitudes: Vec<f64> = found[0].polygons.iter().flatten().flatten().map(|[x, _]| *x).collect();
    let (east, west) =
        (longitudes.iter().filter(|x| **x > 179.0).count(), longitudes.iter().filter(|x| **x < -179.0).count());
    assert!(
        found[0].polygons.len() == 2 && east >= 4 && west >= 4 && east + west == longitudes.len(),
        "{longitudes:?}"
    );
}

#[test]
fn geopackage_and_flatgeobuf_have_the_coordinates_of_the_mask() {
    let folder = Folder::new();
    let mask = folder.mask("mask.tif", (4, 4), &[0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0], 16);
    place(&mask, 32616, [733601.0, 0.5, 0.0, 3725139.0, 0.0, -0.5]);
    for ending in ["gpkg", "fgb"] {
        let out = folder.path(&format!("houses.{ending}"));
        let counts = footprints::write(&mask, None, &out, &Options::default(), &|_| true).unwrap();
        assert_eq!(counts.classes.iter().map(|of| (of.class, of.polygons)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
        let dataset = Dataset::open(&out).unwrap();
        let mut layer = dataset.layer(0).unwrap();
        assert_eq!((layer.name().as_str(), layer.feature_count()), ("houses", 2));
        assert_eq!(layer.spatial_ref().unwrap().auth_code().unwrap(), 32616);
        let first = layer.features().find(|f| f.field_as_integer(1).unwrap() == Some(1)).unwrap();
        let envelope = first.geometry().unwrap().envelope();
        let bounds = [envelope.MinX, envelope.MaxX, envelope.MinY, envelope.MaxY];
        assert_eq!(bounds, [733601.5, 733602.5, 3725138.0, 3725139.0]);
    }
    assert_eq!(folder.files(), ["houses.fgb", "houses.gpkg", "mask.tif"]);
}

#[test]
fn what_is_stopped_leaves_nothing_and_keeps_what_was_there() {
    let folder = Folder::new();
    let (size, labels) = pixels(&file("noise.png"));
    let mask = folder.mask("mask.tif", size, &labels, 16);
    for ending in ["geojson", "gpkg", "fgb"] {
        let out = folder.path(&format!("a.{ending}"));
        std::fs::write(&out, "earlier").unwrap();
        let asked = Cell::new(0);
        let stop = |_| {
            asked.set(asked.get() + 1);
            false
        };
        let error = footprints::write(&mask, None, &out, &Options::default(), &stop).unwrap_err();
        assert!(matches!(error, Error::Cancelled) && asked.get() == 1);
        assert_eq!(std::fs::read(&out).unwrap(), b"earlier");
    }
    assert_eq!(folder.files(), ["a.fgb", "a.geojson", "a.gpkg", "mask.tif"]);
}

#[test]
fn pixels_without_data_are_no_polygon_and_have_no_part_in_a_mean() {
    let folder = Folder::new();
    let mask = folder.mask("mask.tif", (4, 1), &[1, 1, 255, 1], 16);
    let probability = folder.mask("p.tif", (4, 1), &[100, 255, 7, 255], 16);
    let (found, _) = made(&mask, Some(&probability), &folder.path("a.geojson"), &Options::default());
    let all: Vec<_> = found.iter().map(|found| (found.area, found.confidence)).collect();
    assert_eq!(all, [(2.0, Some(0.3922)), (1.0, None)]);
}
