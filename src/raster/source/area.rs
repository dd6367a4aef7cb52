//! How much ground the pixels of a raster cover.

use std::collections::BTreeMap;

use gdal::spatial_ref::{AxisMappingStrategy, CoordTransform, SpatialRef};

use super::ground::fitted;
use super::messages::catch;
use crate::raster::Georeference;

/// Nodes of the lattice on which areas are computed lie no further apart, in metres and in pixels.
const REACH: f64 = 5_000.0;
const MOST_PIXELS: f64 = 256.0;

/// Areas of pixels in square metres on the ellipsoid of WGS 84.
///
/// The corners of a pixel are brought to longitude and latitude, and from there to the cylindrical equal-area projection of
/// the ellipsoid (Snyder 1987, formulas 3-12 and 10-14 f.), where the area of the quadrangle is taken: exact in degrees, and
/// without gaps or overlaps between neighbours in any CRS. That is done for the pixels of a lattice; in between, areas are
/// interpolated.
pub struct PixelAreas {
    /// Pixels to map coordinates.
    geotransform: [f64; 6],
    place: Place,
    /// The columns and rows of the lattice, from the first pixel to the last.
    columns: Vec<i64>,
    rows: Vec<i64>,
    /// Areas by row of the lattice: the two that a row lies between.
    known: BTreeMap<i64, Vec<f64>>,
}

/// What a map coordinate means on the ground.
enum Place {
    /// Map coordinates to degrees.
    Earth(CoordTransform),
    /// On other bodies, and in local coordinates: units of this many metres.
    Flat(f64),
}

impl PixelAreas {
    /// `None` where the raster does not say where it lies.
    pub fn new(georeference: &Georeference, width: i64, height: i64) -> Option<Self> {
        let (crs, geotransform) = match (&georeference.crs, georeference.geotransform) {
            (Some(crs), Some(g)) => (crs, g),
            _ => (georeference.gcp_crs.as_ref()?, fitted(georeference)?),
        };
        let (place, _) = catch(|| place(crs));
        let (x, y) = super::ground::resolution(georeference, width, height)?;
        let nodes = |length: i64, size: f64| {
            let step = (REACH / size).clamp(1.0, MOST_PIXELS) as usize;
            let mut nodes: Vec<i64> = (0..length).step_by(step).collect();
            nodes.extend((nodes.last() != Some(&(length - 1))).then_some(length - 1));
            nodes
        };
        let (columns, rows) = (nodes(width, x), nodes(height, y));
        Some(PixelAreas { geotransform, place: place?, columns, rows, known: BTreeMap::new() })
    }

    /// The columns that [`PixelAreas::row`] tells the area at, from 0 to the last, in order.
    pub fn columns(&self) -> &[i64] {
        &self.columns
    }

    /// The area of a row's pixels at [`PixelAreas::columns`]; in between they change linearly. 0 where the projection has no
    /// ground. Rows are best asked for in order.
    pub fn row(&mut self, row: i64) -> Vec<f64> {
        let after = self.rows.partition_point(|r| *r < row).min(self.rows.len() - 1);
        let (low, high) = (self.rows[after.saturating_sub(usize::from(self.rows[after] > row))], self.rows[after]);
        self.known.retain(|r, _| *r == low || *r == high);
        for r in [low, high] {
            if !self.known.contains_key(&r) {
                let areas = self.lattice_row(r);
                self.known.insert(r, areas);
            }
        }
        let share = if high > low { (row - low) as f64 / (high - low) as f64 } else { 0.0 };
        self.known[&low].iter().zip(&self.known[&high]).map(|(a, b)| a + (b - a) * share).collect()
    }

    fn lattice_row(&self, row: i64) -> Vec<f64> {
        let g = &self.geotransform;
        // Around each pixel, corner by corner.
        let corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)];
        let points = self.columns.iter().flat_map(|c| corners.map(|(x, y)| (*c as f64 + x, row as f64 + y)));
        let (mut x, mut y): (Vec<f64>, Vec<f64>) =
            points.map(|(c, r)| (g[0] + c * g[1] + r * g[2], g[3] + c * g[4] + r * g[5])).unzip();
        let unit = match &self.place {
            Place::Flat(unit) => *unit,
            Place::Earth(transform) => {
                // Where it fails for some points, those become infinite.
                let _ = catch(|| transform.transform_coords(&mut x, &mut y, &mut vec![0.0; self.columns.len() * 4]));
                y.iter_mut().for_each(|latitude| *latitude = equal_area(latitude.to_radians()));
                1.0
            }
        };
        let quad = |k: usize| {
            let (x, y) = (&x[4 * k..4 * k + 4], &y[4 * k..4 * k + 4]);
            let across = |n: usize| match self.place {
                Place::Flat(_) => x[n] - x[0],
                // The short way round, also over the antimeridian.
                Place::Earth(_) => (x[n] - x[0] + 540.0).rem_euclid(360.0) - 180.0,
            };
            let twice = |a: usize, b: usize| across(a) * (y[b] - y[0]) - across(b) * (y[a] - y[0]);
            let area = (twice(1, 2) + twice(2, 3)).abs() / 2.0;
            match self.place {
                Place::Flat(_) => area * unit * unit,
                Place::Earth(_) => area.to_radians() * A * A,
            }
        };
        let areas: Vec<f64> = (0..self.columns.len()).map(quad).map(|a| if a.is_finite() { a } else { 0.0 }).collect();
        areas
    }
}

/// What coordinates of a CRS mean.
fn place(crs: &str) -> Option<Place> {
    let mut crs = SpatialRef::from_wkt(crs).ok()?;
    crs.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
    let mut wgs84 = SpatialRef::from_epsg(4326).ok()?;
    wgs84.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
    match CoordTransform::new(&crs, &wgs84) {
        Ok(transform) => Some(Place::Earth(transform)),
        Err(_) => (crs.is_projected() || crs.is_local()).then(|| Place::Flat(crs.linear_units())),
    }
}

/// Equatorial radius and squared eccentricity of WGS 84.
const A: f64 = 6_378_137.0;
const E2: f64 = 0.006_694_379_990_141_316;

/// The ordinate of the cylindrical equal-area projection with true scale at the equator, in equatorial radii.
fn equal_area(latitude: f64) -> f64 {
    let (e, s) = (E2.sqrt(), latitude.sin());
    (1.0 - E2) / 2.0 * (s / (1.0 - E2 * s * s) + (e * s).atanh() / e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn areas(epsg: u32, geotransform: [f64; 6], (width, height): (i64, i64)) -> PixelAreas {
        let crs = SpatialRef::from_epsg(epsg).unwrap().to_wkt().unwrap();
        let georeference = Georeference { crs: Some(crs), geotransform: Some(geotransform), ..Georeference::default() };
        PixelAreas::new(&georeference, width, height).unwrap()
    }

    /// Twice the integral of the meridian's circles: the surface of the ellipsoid, 510 065 621.7 km² (NIMA TR8350.2).
    #[test]
    fn all_pixels_together_are_the_earth() {
        let mut areas = areas(4326, [-180.0, 1.0, 0.0, 90.0, 0.0, -1.0], (360, 180));
        let columns = areas.columns().len();
        assert_eq!(columns, 360);
        let sum: f64 = (0..180).flat_map(|row| areas.row(row)).sum();
        assert!((sum / 510_065_621_724_088.0 - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn rows_between_two_of_the_lattice_are_interpolated() {
        let mut areas = areas(32616, [733601.0, 0.5, 0.0, 3725139.0, 0.0, -0.5], (900, 900));
        assert_eq!(areas.columns(), [0, 256, 512, 768, 899]);
        // On the way down as at random.
        let middle = areas.row(450);
        let (first, last) = (areas.row(0), areas.row(899));
        for ((m, a), b) in middle.iter().zip(first).zip(last) {
            // Corners half a metre apart are known to 1e-8 of that in degrees.
            let between = (a.min(b) * (1.0 - 1e-7)..=a.max(b) * (1.0 + 1e-7)).contains(m);
            assert!(*m > 0.24985 && *m < 0.24988 && between, "{a} {m} {b}");
        }
    }

    #[test]
    fn a_raster_that_lies_nowhere_has_no_areas() {
        assert!(PixelAreas::new(&Georeference::default(), 10, 10).is_none());
    }
}
