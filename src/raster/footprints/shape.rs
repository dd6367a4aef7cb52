//! Polygons as numbers and as OGR's geometries: simplified, compared, checked.

use gdal::vector::Geometry;
use gdal_sys::OGRwkbGeometryType::{wkbLinearRing, wkbMultiPolygon, wkbPolygon};

use super::place::signed_area;
use crate::raster::source::messages::catch;

pub type Point = [f64; 2];
/// The last point is not repeated.
pub type Ring = Vec<Point>;
/// One outer ring, then the holes.
pub type Rings = Vec<Ring>;
/// Polygons that are one region.
pub type Shape = Vec<Rings>;

/// What GDAL says where it cannot do something.
pub type Result<T> = std::result::Result<T, String>;

/// Does something with OGR; its own words where that fails.
fn ogr<T>(work: impl FnOnce() -> gdal::errors::Result<T>) -> Result<T> {
    let (result, said) = catch(work);
    result.map_err(|e| if said.failures.is_empty() { e.to_string() } else { said.words() })
}

/// A polygon as OGR has it, the outer ring counter-clockwise with y growing upwards.
pub fn polygon(rings: &Rings) -> Result<Geometry> {
    ogr(|| {
        let mut polygon = Geometry::empty(wkbPolygon)?;
        for (k, ring) in rings.iter().enumerate() {
            let mut line = Geometry::empty(wkbLinearRing)?;
            let forward = (signed_area(ring) > 0.0) == (k == 0);
            let points: &mut dyn Iterator<Item = &Point> =
                if forward { &mut ring.iter() } else { &mut ring.iter().rev() };
            let mut first = None;
            for [x, y] in points {
                first.get_or_insert((*x, *y));
                line.add_point_2d((*x, *y));
            }
            first.into_iter().for_each(|first| line.add_point_2d(first));
            polygon.add_geometry(line)?;
        }
        Ok(polygon)
    })
}

/// All polygons as one geometry.
pub fn multi_polygon(shape: &Shape) -> Result<Geometry> {
    let mut all = ogr(|| Geometry::empty(wkbMultiPolygon))?;
    for rings in shape {
        let polygon = polygon(rings)?;
        ogr(|| all.add_geometry(polygon))?;
    }
    Ok(all)
}

/// The rings of one of OGR's polygons.
fn rings(polygon: &Geometry) -> Rings {
    let ring = |k: usize| {
        let mut points = Vec::new();
        polygon.get_geometry(k).get_points(&mut points);
        points.pop();
        points.into_iter().map(|(x, y, _)| [x, y]).collect()
    };
    (0..polygon.geometry_count()).map(ring).collect()
}

/// Leaves out points, as long as no edge moves by more than `distance` and no ring crosses another one or itself: GEOS's
/// `TopologyPreservingSimplifier`, after Douglas and Peucker. Every point that stays is one of the polygon's, in the polygon's order.
///
/// # Errors
/// What GDAL says; a GDAL without GEOS cannot do it.
pub fn simplify(original: &Rings, distance: f64) -> Result<Rings> {
    let polygon = polygon(original)?;
    let simple = ogr(|| polygon.simplify_preserve_topology(distance))?;
    if simple.geometry_type() != wkbPolygon {
        return Ok(original.clone());
    }
    let mut found = rings(&simple);
    // It was too small for the distance.
    if found.len() != original.len() || found.iter().any(|ring| ring.len() < 3) {
        return Ok(original.clone());
    }
    for (ring, original) in found.iter_mut().zip(original) {
        if (signed_area(ring) > 0.0) != (signed_area(original) > 0.0) {
            ring.reverse();
        }
    }
    Ok(found)
}

/// Whether a polygon's rings neither cross nor overlap.
pub fn is_valid(rings: &Rings) -> bool {
    let valid = || polygon(rings).is_ok_and(|polygon| polygon.is_valid());
    rings.iter().all(|ring| ring.len() >= 3) && catch(valid).0
}

/// Intersection over union; 0 where there is none.
pub fn iou(a: &Rings, b: &Rings) -> f64 {
    let (Ok(a), Ok(b)) = (polygon(a), polygon(b)) else { return 0.0 };
    let common = catch(|| a.intersection(&b)).0.map_or(0.0, |common| common.area());
    let all = a.area() + b.area() - common;
    if all > 0.0 { common / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(x: f64, y: f64, side: f64) -> Ring {
        vec![[x, y], [x + side, y], [x + side, y + side], [x, y + side]]
    }

    #[test]
    fn rings_are_turned_as_ogc_has_them() {
        // Both run counter-clockwise here.
        let polygon = polygon(&vec![square(0.0, 0.0, 9.0), square(2.0, 2.0, 3.0)]).unwrap();
        assert_eq!(polygon.wkt().unwrap(), "POLYGON ((0 0,9 0,9 9,0 9,0 0),(2 5,5 5,5 2,2 2,2 5))");
    }

    #[test]
    fn holes_stay_within_a_simplified_polygon() {
        // The distance would let the notch go, in which the hole is not.
        let outer = vec![[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [5.0, 9.0], [0.0, 10.0]];
        let hole: Ring = square(4.5, 8.0, 0.9).into_iter().rev().collect();
        let found = simplify(&vec![outer.clone(), hole], 3.0).unwrap();
        assert!(is_valid(&found) && found.len() == 2, "{found:?}");
        let found = simplify(&vec![outer], 3.0).unwrap();
        assert_eq!(found[0].len(), 4);
    }

    #[test]
    fn simplified_rings_run_as_they_did() {
        let outer = vec![[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [5.0, 9.9], [0.0, 10.0]];
        for backwards in [false, true] {
            let mut ring: Ring = outer.clone();
            if backwards {
                ring.reverse();
            }
            let found = simplify(&vec![ring.clone()], 1.0).unwrap();
            assert_eq!((found[0].len(), signed_area(&found[0]) > 0.0), (4, !backwards));
        }
    }

    #[test]
    fn intersection_over_union() {
        let of = |x: f64| vec![square(x, 0.0, 2.0)];
        assert_eq!(iou(&of(0.0), &of(0.0)), 1.0);
        assert!((iou(&of(0.0), &of(1.0)) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(iou(&of(0.0), &of(7.0)), 0.0);
    }

    #[test]
    fn rings_that_cross_are_not_valid() {
        assert!(is_valid(&vec![square(0.0, 0.0, 1.0)]));
        assert!(!is_valid(&vec![vec![[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]]));
        assert!(!is_valid(&vec![vec![[0.0, 0.0], [1.0, 1.0]]]));
    }
}
