//! Buildings with right angles.

use gstonnxsegment::raster::footprints::Options;
use gstonnxsegment::raster::measure::Length;
use proptest::prelude::*;

use crate::masks::*;

const SIDE: usize = 96;

/// The corners of a rectangle around the middle.
fn rectangle(width: f64, height: f64, degrees: f64) -> Ring {
    let (s, c) = degrees.to_radians().sin_cos();
    let corner = |x: f64, y: f64| [48.3 + x * c - y * s, 47.6 + x * s + y * c];
    let (x, y) = (width / 2.0, height / 2.0);
    vec![corner(-x, -y), corner(x, -y), corner(x, y), corner(-x, y)]
}

/// The pixels whose centres lie within a convex ring.
fn mask(folder: &Folder, ring: &Ring) -> std::path::PathBuf {
    let inside = |x: f64, y: f64| {
        let side = |(a, b): (&[f64; 2], &[f64; 2])| (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) > 0.0;
        ring.iter().zip(ring.iter().cycle().skip(1)).all(side)
    };
    let pixel = |k: usize| u8::from(inside((k % SIDE) as f64 + 0.5, (k / SIDE) as f64 + 0.5));
    folder.mask("mask.tif", (SIDE, SIDE), &(0..SIDE * SIDE).map(pixel).collect::<Vec<_>>(), 16)
}

fn square() -> Options {
    Options { orthogonalise: Some(15.0), ..Options::default() }
}

fn of(ring: Ring) -> Found {
    Found { id: String::new(), class: 1, name: None, area: 0.0, confidence: None, polygons: vec![vec![ring]] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn rectangles_at_any_angle_come_back_as_rectangles(
        width in 14.0..60.0, height in 14.0..60.0, degrees in 0.0..90.0,
    ) {
        let folder = Folder::new();
        let known = rectangle(width, height, degrees);
        let (found, counts) = made(&mask(&folder, &known), None, &folder.path("a.geojson"), &square());
        prop_assert_eq!((found.len(), counts.orthogonalised), (1, 1));
        let ring = &found[0].polygons[0][0];
        prop_assert_eq!(ring.len(), 4, "{:?}", ring);
        let edge = |k: usize| [ring[(k + 1) % 4][0] - ring[k][0], ring[(k + 1) % 4][1] - ring[k][1]];
        for k in 0..4 {
            let (a, b) = (edge(k), edge((k + 1) % 4));
            let cosine = (a[0] * b[0] + a[1] * b[1]) / a[0].hypot(a[1]) / b[0].hypot(b[1]);
            prop_assert!(cosine.abs() < 1e-6, "{:?}", ring);
        }
        let (a, b) = (found[0].geometry(), of(known).geometry());
        let common = a.intersection(&b).unwrap().area();
        let iou = common / (a.area() + b.area() - common);
        prop_assert!(iou > 0.88, "{iou} {:?}", ring);
    }
}

#[test]
fn metres_count_where_pixels_are_not_square_on_the_ground() {
    // At 60° north a degree of longitude is half as long: what is a rectangle on the ground is none in pixels.
    let folder = Folder::new();
    let on_ground = rectangle(56.0, 28.0, 30.0);
    let in_pixels: Ring = on_ground.iter().map(|[x, y]| [x + 0.0, (y - 47.6) / 2.0 + 47.6]).collect();
    let path = mask(&folder, &in_pixels);
    // A pixel is 0.56 m wide and 1.11 m high.
    place(&path, 4326, [10.0, 1e-5, 0.0, 60.0, 0.0, -1e-5]);
    let (found, counts) = made(&path, None, &folder.path("a.geojson"), &square());
    assert_eq!(counts.orthogonalised, 1);
    let ring: Ring =
        found[0].polygons[0][0].iter().map(|[x, y]| [(x - 10.0) * 55_800.0, (y - 60.0) * 111_412.0]).collect();
    assert_eq!(ring.len(), 4);
    let (a, b) =
        ([ring[1][0] - ring[0][0], ring[1][1] - ring[0][1]], [ring[2][0] - ring[1][0], ring[2][1] - ring[1][1]]);
    let cosine = (a[0] * b[0] + a[1] * b[1]) / a[0].hypot(a[1]) / b[0].hypot(b[1]);
    assert!(cosine.abs() < 1e-3, "{cosine} {ring:?}");
}

#[test]
fn what_has_no_right_angles_stays_simplified() {
    let folder = Folder::new();
    // A circle has no direction, and a triangle's third edge is off by 45°.
    let disc = |k: usize| {
        let (x, y) = ((k % SIDE) as f64 - 47.5, (k / SIDE) as f64 - 47.5);
        u8::from(x.hypot(y) < 30.0)
    };
    let path = folder.mask("mask.tif", (SIDE, SIDE), &(0..SIDE * SIDE).map(disc).collect::<Vec<_>>(), 16);
    let (found, _) = made(&path, None, &folder.path("a.geojson"), &square());
    let geometry = found[0].geometry();
    assert!(geometry.is_valid());
    assert!((found[0].plane_area() / (std::f64::consts::PI * 900.0) - 1.0).abs() < 0.1, "{}", found[0].plane_area());
}

#[test]
fn simplified_polygons_have_fewer_points_and_stay_valid_with_their_holes() {
    let folder = Folder::new();
    let case = &golden().cases[0];
    let before = made(&file("noise.png"), None, &folder.path("a.geojson"), &Options::default()).0;
    let options = Options { simplify: Some(Length::Pixels(1.0)), ..Options::default() };
    let after = made(&file("noise.png"), None, &folder.path("a.geojson"), &options).0;
    let points = |all: &[Found]| all.iter().flat_map(|f| f.polygons.iter().flatten()).map(Vec::len).sum::<usize>();
    let holes = |all: &[Found]| all.iter().map(|f| f.polygons[0].len() - 1).sum::<usize>();
    assert!(points(&after) * 10 < points(&before) * 9, "{} of {}", points(&after), points(&before));
    assert!(holes(&before) > 5 && holes(&after) == holes(&before));
    assert_eq!(after.len(), case.polygons.len());
    assert!(after.iter().all(|found| found.geometry().is_valid()));
}
