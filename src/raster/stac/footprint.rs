//! Where a raster lies: its reference system, and its outline in longitude and latitude as GeoJSON has it.

use std::ffi::{CStr, c_char};

use gdal::Dataset;
use gdal::spatial_ref::{AxisMappingStrategy, CoordTransform, SpatialRef};
use serde_json::{Value, json};

/// Pieces that a side is cut into, so that its curve in another system is followed.
const PIECES: usize = 16;

type Point = (f64, f64);

/// What ties a raster to the ground.
#[derive(Debug, Default)]
pub struct Projection {
    /// `EPSG:32616`; `None` for systems without a number, and where there is none.
    pub code: Option<String>,
    /// The system's definition, where it has no number.
    pub wkt: Option<String>,
    pub geotransform: Option<[f64; 6]>,
    /// A geometry and its bounds: west, south, east, north. West is the larger where the antimeridian lies between them.
    pub footprint: Option<(Value, [f64; 4])>,
}

/// Reads all of it from a raster.
pub fn projection(raster: &Dataset) -> Projection {
    let geotransform = raster.geo_transform().ok();
    let Ok(system) = raster.spatial_ref() else {
        return Projection { geotransform, ..Projection::default() };
    };
    let code = match (system.auth_name(), system.auth_code()) {
        (Some(name), Ok(code)) => Some(format!("{name}:{code}")),
        _ => None,
    };
    let ring = geotransform.and_then(|g| {
        let ring = corners(g, raster.raster_size(), PIECES);
        in_degrees(&system, &ring)
    });
    Projection {
        wkt: if code.is_none() { wkt2(&system) } else { None },
        code,
        geotransform,
        footprint: ring.and_then(outline),
    }
}

/// The outline of a raster from its upper left corner on, each side in so many pieces; the last point is not the first.
pub fn corners(g: [f64; 6], (width, height): (usize, usize), pieces: usize) -> Vec<Point> {
    let (w, h) = (width as f64, height as f64);
    // Counterclockwise where rows run down, as GeoJSON wants it.
    let around = [(0.0, 0.0), (0.0, h), (w, h), (w, 0.0), (0.0, 0.0)];
    let sides = around.windows(2).flat_map(|side| {
        (0..pieces).map(|k| {
            let t = k as f64 / pieces as f64;
            (side[0].0 + t * (side[1].0 - side[0].0), side[0].1 + t * (side[1].1 - side[0].1))
        })
    });
    sides.map(|(x, y)| (g[0] + x * g[1] + y * g[2], g[3] + x * g[4] + y * g[5])).collect()
}

/// West, south, east, north of points.
pub fn bounds(ring: &[Point]) -> [f64; 4] {
    let start = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    ring.iter().fold(start, |b, (x, y)| [b[0].min(*x), b[1].min(*y), b[2].max(*x), b[3].max(*y)])
}

/// Points of a system as longitude and latitude; `None` where one has none.
fn in_degrees(system: &SpatialRef, ring: &[Point]) -> Option<Vec<Point>> {
    let mut from = system.clone();
    from.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
    let mut to = SpatialRef::from_epsg(4326).ok()?;
    to.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
    let (mut x, mut y): (Vec<f64>, Vec<f64>) = ring.iter().copied().unzip();
    let mut z = vec![0.0; x.len()];
    CoordTransform::new(&from, &to).ok()?.transform_coords(&mut x, &mut y, &mut z).ok()?;
    let valid = x.iter().chain(&y).all(|v| v.is_finite()) && y.iter().all(|y| y.abs() <= 90.0);
    // Degrees to a tenth of a millimetre.
    let round = |v: f64| (v * 1e9).round() / 1e9;
    valid.then(|| x.into_iter().zip(y).map(|(x, y)| (round(x), round(y))).collect())
}

/// A ring of longitudes and latitudes as a geometry with its bounds. One that crosses the antimeridian is cut there; one around a
/// pole has no outline in these coordinates.
fn outline(mut ring: Vec<Point>) -> Option<(Value, [f64; 4])> {
    // Neighbours that seem to lie half a world apart lie on either side of the antimeridian.
    for k in 1..ring.len() {
        let turns = ((ring[k].0 - ring[k - 1].0) / 360.0).round();
        ring[k].0 -= 360.0 * turns;
    }
    if (ring.first()?.0 - ring.last()?.0).abs() > 180.0 {
        return None;
    }
    let [west, south, east, north] = bounds(&ring);
    let turn = 360.0 * ((west + 180.0) / 360.0).floor();
    ring.iter_mut().for_each(|point| point.0 -= turn);
    let (west, east) = (west - turn, east - turn);
    if east <= 180.0 {
        return Some((json!({"type": "Polygon", "coordinates": [closed(&ring)]}), [west, south, east, north]));
    }
    let near = cut(&ring, |x| x <= 180.0);
    let mut far = cut(&ring, |x| x >= 180.0);
    far.iter_mut().for_each(|point| point.0 -= 360.0);
    let parts = [[closed(&near)], [closed(&far)]];
    Some((json!({"type": "MultiPolygon", "coordinates": parts}), [west, south, east - 360.0, north]))
}

/// The part of a ring on one side of 180 degrees (Sutherland and Hodgman).
fn cut(ring: &[Point], inside: impl Fn(f64) -> bool) -> Vec<Point> {
    let mut part = Vec::new();
    for (k, b) in ring.iter().enumerate() {
        let a = ring[(k + ring.len() - 1) % ring.len()];
        if inside(a.0) != inside(b.0) {
            let t = (180.0 - a.0) / (b.0 - a.0);
            part.push((180.0, a.1 + t * (b.1 - a.1)));
        }
        if inside(b.0) {
            part.push(*b);
        }
    }
    part
}

/// A ring as GeoJSON has it, counterclockwise and with its first point again at the end.
fn closed(ring: &[Point]) -> Vec<[f64; 2]> {
    let mut points: Vec<[f64; 2]> = ring.iter().map(|(x, y)| [*x, *y]).collect();
    let area: f64 = (0..ring.len())
        .map(|k| (ring[k], ring[(k + 1) % ring.len()]))
        .map(|((x0, y0), (x1, y1))| x0 * y1 - x1 * y0)
        .sum();
    if area < 0.0 {
        points.reverse();
    }
    points.extend(points.first().copied());
    points
}

/// A system's definition in the text form of ISO 19162:2019.
fn wkt2(system: &SpatialRef) -> Option<String> {
    let format = c"FORMAT=WKT2_2019";
    let options: [*const c_char; 2] = [format.as_ptr(), std::ptr::null()];
    let mut text: *mut c_char = std::ptr::null_mut();
    // SAFETY: the system and the options live until the end of the call; the text is GDAL's until it is freed below.
    unsafe {
        let done = gdal_sys::OSRExportToWktEx(system.to_c_hsrs(), &mut text, options.as_ptr().cast());
        if text.is_null() {
            return None;
        }
        let wkt = CStr::from_ptr(text).to_string_lossy().into_owned();
        gdal_sys::VSIFree(text.cast());
        (done == gdal_sys::OGRErr::OGRERR_NONE && !wkt.is_empty()).then_some(wkt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn box_of(west: f64, south: f64, east: f64, north: f64) -> Vec<Point> {
        vec![(west, north), (west, south), (east, south), (east, north)]
    }

    #[test]
    fn a_ring_is_closed_and_counterclockwise() {
        let (shape, bounds) = outline(box_of(8.0, 47.0, 9.0, 48.0)).unwrap();
        assert_eq!(bounds, [8.0, 47.0, 9.0, 48.0]);
        let expected = json!([[[8.0, 48.0], [8.0, 47.0], [9.0, 47.0], [9.0, 48.0], [8.0, 48.0]]]);
        assert_eq!(shape["coordinates"], expected);
        let mut clockwise = box_of(8.0, 47.0, 9.0, 48.0);
        clockwise.reverse();
        assert_eq!(outline(clockwise).unwrap().0["coordinates"][0].as_array().unwrap().len(), 5);
    }

    #[test]
    fn a_ring_across_the_antimeridian_is_cut_there() {
        let ring = vec![(179.0, 2.0), (179.0, 0.0), (-178.0, 0.0), (-178.0, 2.0)];
        let (shape, bounds) = outline(ring).unwrap();
        assert_eq!(bounds, [179.0, 0.0, -178.0, 2.0]);
        assert_eq!(shape["type"], "MultiPolygon");
        let of = |k: usize| -> Vec<f64> {
            let ring = shape["coordinates"][k][0].as_array().unwrap();
            ring.iter().map(|p| p[0].as_f64().unwrap()).collect()
        };
        assert!(of(0).iter().all(|x| (179.0..=180.0).contains(x)), "{shape}");
        assert!(of(1).iter().all(|x| (-180.0..=-178.0).contains(x)), "{shape}");
    }

    #[test]
    fn a_ring_around_a_pole_has_no_outline() {
        assert_eq!(outline((0..8).map(|k| (f64::from(k) * 45.0 - 180.0, 80.0)).collect()), None);
    }

    #[test]
    fn sides_are_cut_into_pieces() {
        let ring = corners([100.0, 2.0, 0.0, 50.0, 0.0, -1.0], (10, 20), 2);
        assert_eq!(ring.len(), 8);
        assert_eq!(ring[..3], [(100.0, 50.0), (100.0, 40.0), (100.0, 30.0)]);
        assert_eq!(bounds(&ring), [100.0, 30.0, 120.0, 50.0]);
    }
}
