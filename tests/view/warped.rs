//! Rasters of another coordinate system than the image's, or turned against it: what a click and a tile show is what the raster
//! holds at that place of the ground.

use std::path::{Path, PathBuf};

use gdal::spatial_ref::{AxisMappingStrategy, CoordTransform, SpatialRef};

use super::server::*;
use super::{folder, picture};

/// Degrees of longitude and latitude at a metre of UTM zone 16 N.
fn to_degrees() -> impl Fn((f64, f64)) -> (f64, f64) {
    let [utm, degrees] = [32616, 4326].map(|code| {
        let mut crs = SpatialRef::from_epsg(code).unwrap();
        crs.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
        crs
    });
    let way = CoordTransform::new(&utm, &degrees).unwrap();
    move |(x, y)| {
        let (mut xs, mut ys) = ([x], [y]);
        way.transform_coords(&mut xs, &mut ys, &mut [0.0]).unwrap();
        (xs[0], ys[0])
    }
}

/// The ground under the middle of a pixel.
fn ground(g: [f64; 6], (x, y): (usize, usize)) -> (f64, f64) {
    let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
    (g[0] + x * g[1] + y * g[2], g[3] + x * g[4] + y * g[5])
}

/// Column and row, with fractions, of a place in a raster without a turn.
fn pixel(g: [f64; 6], (x, y): (f64, f64)) -> (f64, f64) {
    ((x - g[0]) / g[1], (y - g[3]) / g[5])
}

/// Whether a place lies so near to a pixel's edge that either side is right: warping may be off by a hundredth of a pixel.
fn on_edge((x, y): (f64, f64)) -> bool {
    [x, y].iter().any(|v| (v - v.round()).abs() < 0.03)
}

fn value(x: i64, y: i64) -> u8 {
    1 + (noise(x as usize, y as usize, 3) % 4)
}

/// A mask in degrees, with pixels of about 0.5 m, over a part of the image.
fn in_degrees(folder: &Path, nodata: Option<f64>) -> (PathBuf, [f64; 6], (usize, usize)) {
    let (lon, lat) = to_degrees()((GROUND[0] + 50.0, GROUND[3] - 40.0));
    let g = [lon, 5.4e-6, 0.0, lat, 0.0, -4.5e-6];
    let raster =
        Raster { name: "degrees.tif", size: (300, 260), geotransform: Some(g), crs: 4326, nodata, ..Raster::default() };
    let path = raster.write(folder, &[raster.plane(|x, y| if y < 20 { 255 } else { value(x as i64, y as i64) })]);
    (path, g, raster.size)
}

#[test]
fn a_mask_in_degrees_lies_on_an_image_in_metres() {
    let folder = folder();
    let image = picture(folder.path());
    for nodata in [Some(255.0), None] {
        let (mask, g, (width, height)) = in_degrees(folder.path(), nodata);
        let server = Server::start([&image, &mask]);
        let info = server.json("/info");
        assert_eq!(info["layers"][1]["warped"], true);
        let classes = info["layers"][1]["classes"].as_array().unwrap();
        let of =
            |v: u8| classes.iter().find(|class| class["value"] == v).unwrap()["colour"].as_str().unwrap().to_string();
        let degrees = to_degrees();
        let expected = |x: usize, y: usize| -> Option<Option<u8>> {
            let at = pixel(g, degrees(ground(GROUND, (x, y))));
            let (column, row) = (at.0.floor() as i64, at.1.floor() as i64);
            let inside = (0..width as i64).contains(&column) && (0..height as i64).contains(&row);
            let held = match (inside, row < 20) {
                (false, _) => None,
                (true, true) => nodata.is_none().then_some(255),
                (true, false) => Some(value(column, row)),
            };
            (!on_edge(at)).then_some(held)
        };
        let (mut some, mut none) = (0, 0);
        for k in 0..400 {
            let (x, y) = (k * 7919 % 600, k * 104_729 % 500);
            let Some(expected) = expected(x, y) else { continue };
            let found = &server.json(&format!("/at?column={x}&row={y}"))["mask"];
            match expected {
                Some(value) => assert_eq!(found["value"], value, "{x},{y}"),
                None => assert!(found.is_null(), "{x},{y}: {found}"),
            }
            *(if expected.is_some() { &mut some } else { &mut none }) += 1;
        }
        assert!(some > 60 && none > 60, "{some} {none}");
        let level = info["layers"][1]["levels"].as_u64().unwrap() - 1;
        assert_eq!(info["layers"][1]["finest"], 1.0);
        let tile = server.tile(&format!("/tiles/mask/{level}/0/0.png"));
        let mut seen = 0;
        for (k, [r, g, b, a]) in tile.iter().enumerate() {
            let Some(expected) = expected(k % TILE, k / TILE) else { continue };
            match expected {
                Some(value) => {
                    assert_eq!(format!("#{r:02x}{g:02x}{b:02x}"), of(value), "{},{}", k % TILE, k / TILE);
                    seen += 1;
                }
                None => assert_eq!(*a, 0, "{},{}", k % TILE, k / TILE),
            }
        }
        assert!(seen > 10_000, "{seen}");
    }
}

#[test]
fn finer_pixels_of_a_turned_mask_are_shown_as_they_are() {
    let folder = folder();
    let image = picture(folder.path());
    // By 30 degrees, a quarter of the image's pixels.
    let (sin, cos) = 30f64.to_radians().sin_cos();
    let side = 0.125;
    let g = [GROUND[0] + 100.0, side * cos, side * sin, GROUND[3] - 60.0, side * sin, -side * cos];
    let raster = Raster { name: "turned.tif", size: (320, 240), geotransform: Some(g), ..Raster::default() };
    // Even halves of 40 pixels.
    let half = |x: usize, y: usize| 1 + ((x / 40 + y / 40) % 2) as u8;
    let mask = raster.write(folder.path(), &[raster.plane(half)]);
    let server = Server::start([&image, &mask]);
    assert_eq!(server.json("/info")["layers"][1]["finest"], 0.25);
    let mut compared = 0;
    for (x, y) in (0..320).step_by(11).flat_map(|x| (0..240).step_by(7).map(move |y| (x, y))) {
        let on = ground(g, (x, y));
        let (column, row) = pixel(GROUND, on);
        // The middle of the image's pixel is what a click asks for.
        let (middle, own) = ((column.floor() + 0.5, row.floor() + 0.5), raster_pixel(g, GROUND, (column, row)));
        if own.0 < 0.0 || own.1 < 0.0 || own.0 >= 320.0 || own.1 >= 240.0 || on_edge((own.0 / 40.0, own.1 / 40.0)) {
            continue;
        }
        let found = &server.json(&format!("/at?column={}&row={}", middle.0.floor(), middle.1.floor()))["mask"];
        assert_eq!(found["value"], half(own.0 as usize, own.1 as usize), "{x},{y}");
        compared += 1;
    }
    assert!(compared > 500, "{compared}");
}

/// Column and row in a turned raster of the middle of a pixel of another.
fn raster_pixel(g: [f64; 6], image: [f64; 6], (column, row): (f64, f64)) -> (f64, f64) {
    let (x, y) = ground(image, (column as usize, row as usize));
    let determinant = g[1] * g[5] - g[2] * g[4];
    let (dx, dy) = (x - g[0], y - g[3]);
    ((dx * g[5] - dy * g[2]) / determinant, (dy * g[1] - dx * g[4]) / determinant)
}

#[test]
fn probabilities_keep_their_values_and_scale() {
    let folder = folder();
    let image = picture(folder.path());
    // The same pixels from the south upwards.
    let g = [GROUND[0], 0.5, 0.0, GROUND[3] - 250.0, 0.0, 0.5];
    let raster = Raster { name: "up.tif", geotransform: Some(g), nodata: Some(255.0), ..Raster::default() };
    let path = folder.path().join(raster.name);
    raster.create::<u8>(&path, 2, |dataset| {
        for k in 0..2 {
            let mut band = dataset.rasterband(k + 1).unwrap();
            let plane = raster.plane(|x, y| noise(x, y, 7 + k));
            band.write((0, 0), raster.size, &mut gdal::raster::Buffer::new(raster.size, plane)).unwrap();
            band.set_scale(1.0 / 254.0).unwrap();
        }
    });
    let server = Server::start([&image, &path.with_file_name("picture.tif"), &path]);
    for (x, y) in [(0, 0), (123, 456), (599, 499), (300, 7), (41, 77)] {
        let found = server.json(&format!("/at?column={x}&row={y}"));
        for k in 0..2 {
            let (value, held) = (&found["probability"][k]["value"], noise(x, 499 - y, 7 + k));
            match held {
                255 => assert!(value.is_null(), "{found}"),
                _ => assert!((value.as_f64().unwrap() - f64::from(held) / 254.0).abs() < 1e-12, "{found}"),
            }
        }
    }
}

#[test]
fn what_cannot_be_brought_onto_the_image_is_refused() {
    let folder = folder();
    let image = picture(folder.path());
    let elsewhere = Raster {
        name: "far.tif",
        geotransform: Some([12.0, 1e-5, 0.0, 48.0, 0.0, -1e-5]),
        crs: 4326,
        ..Raster::default()
    };
    let far = elsewhere.write(folder.path(), &[elsewhere.plane(|_, _| 1u8)]);
    let text = complaint(&[&image, &far], &[]);
    assert!(text.contains("far.tif: ") && (text.contains("lies elsewhere") || text.contains("has no place")), "{text}");
    let (mask, ..) = in_degrees(folder.path(), None);
    let zip = PathBuf::from(format!("/vsisubfile/0,{}", mask.display()));
    let text = complaint(&[&image, &zip], &[]);
    assert!(text.contains("only files of a disk") && text.contains("gdalwarp"), "{text}");
}
