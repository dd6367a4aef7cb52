//! From pixels to the ground: coordinates, metres around a polygon, and areas on the ellipsoid.

use gdal::spatial_ref::{AxisMappingStrategy, CoordTransform, SpatialRef};

use super::shape::{Point, Ring, Shape};
use crate::raster::Georeference;
use crate::raster::source::ground;
use crate::raster::source::messages::catch;

/// WGS 84.
const A: f64 = 6_378_137.0;
const F: f64 = 1.0 / 298.257_223_563;
const E2: f64 = F * (2.0 - F);

/// What coordinates are measured in.
enum Unit {
    /// Anything that can be brought to longitude and latitude.
    Earth(CoordTransform),
    /// Metres of one unit of a plane on another body.
    Plane(f64),
    /// Nothing says how large pixels are.
    Unknown,
}

/// Where the pixels of a raster lie.
pub struct Place {
    /// x = g₀ + column·g₁ + row·g₂, y = g₃ + column·g₄ + row·g₅
    g: [f64; 6],
    crs: Option<SpatialRef>,
    unit: Unit,
}

impl Place {
    /// Coordinates of a raster without georeference are its pixels, with rows growing downwards.
    pub fn new(georeference: &Georeference) -> Self {
        const PIXELS: [f64; 6] = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let Some((crs, g)) = ground::placed(georeference) else {
            return Place { g: georeference.geotransform.unwrap_or(PIXELS), crs: None, unit: Unit::Unknown };
        };
        let (crs, _) = catch(|| {
            let mut crs = SpatialRef::from_wkt(crs).ok()?;
            crs.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
            Some(crs)
        });
        let earth = || {
            let mut wgs84 = SpatialRef::from_epsg(4326).ok()?;
            wgs84.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
            CoordTransform::new(crs.as_ref()?, &wgs84).ok()
        };
        let (earth, _) = catch(earth);
        let plane = crs.as_ref().filter(|crs| crs.is_projected() || crs.is_local()).map(|crs| crs.linear_units());
        let unit = match (earth, plane) {
            (Some(transform), _) => Unit::Earth(transform),
            (None, Some(metres)) => Unit::Plane(metres),
            (None, None) => Unit::Unknown,
        };
        Place { g, crs, unit }
    }

    pub fn crs(&self) -> Option<&SpatialRef> {
        self.crs.as_ref()
    }

    /// Whether coordinates are pixels.
    pub fn is_pixels(&self) -> bool {
        self.g[0] == 0.0 && self.g[1] == 1.0 && self.g[3] == 0.0 && self.crs.is_none()
    }

    /// Whether longitudes and latitudes are known.
    pub fn is_on_earth(&self) -> bool {
        matches!(self.unit, Unit::Earth(_))
    }

    /// Whether metres are known.
    pub fn has_metres(&self) -> bool {
        !matches!(self.unit, Unit::Unknown)
    }

    /// Coordinates of a point that is given in pixels.
    pub fn at(&self, [column, row]: Point) -> Point {
        let g = &self.g;
        [g[0] + column * g[1] + row * g[2], g[3] + column * g[4] + row * g[5]]
    }

    /// Longitudes and latitudes of points in pixels; `None` where there are none, or these points have none.
    fn degrees(&self, points: &[Point]) -> Option<Vec<Point>> {
        let Unit::Earth(transform) = &self.unit else { return None };
        let (mut x, mut y): (Vec<f64>, Vec<f64>) = points.iter().map(|p| self.at(*p).into()).unzip();
        catch(|| transform.transform_coords(&mut x, &mut y, &mut vec![0.0; points.len()])).0.ok()?;
        let points: Vec<Point> = x.into_iter().zip(y).map(Point::from).collect();
        points.iter().flatten().all(|v| v.is_finite()).then_some(points)
    }

    /// Metres around a point that is given in pixels, on the plane that touches the ellipsoid there; pixels where nobody knows how large those
    /// are.
    pub fn frame(&self, origin: Point) -> Frame {
        let pixels = Frame { origin, across: [1.0, 0.0], down: [0.0, 1.0] };
        match &self.unit {
            Unit::Unknown => pixels,
            Unit::Plane(metres) => {
                let g = self.g.map(|v| v * metres);
                Frame { origin, across: [g[1], g[4]], down: [g[2], g[5]] }
            }
            Unit::Earth(_) => {
                let [c, r] = origin;
                let ends = [[c - 0.5, r], [c + 0.5, r], [c, r - 0.5], [c, r + 0.5], [c, r]];
                let Some(ends) = self.degrees(&ends) else { return pixels };
                let (sine, cosine) = ends[4][1].to_radians().sin_cos();
                let w = (1.0 - E2 * sine * sine).sqrt();
                let (east, north) = (A / w * cosine, A * (1.0 - E2) / w.powi(3));
                let step =
                    |a: Point, b: Point| [turn(b[0] - a[0]).to_radians() * east, (b[1] - a[1]).to_radians() * north];
                let frame = Frame { origin, across: step(ends[0], ends[1]), down: step(ends[2], ends[3]) };
                if frame.pixel().is_normal() { frame } else { pixels }
            }
        }
    }

    /// The area of polygons that are given in pixels, in square metres; in pixels where nobody knows how large those are. On the Earth that is the
    /// area on the ellipsoid, between edges that are straight in the cylindrical equal-area projection.
    pub fn area(&self, shape: &Shape) -> f64 {
        shape.iter().map(|rings| rings.iter().map(|ring| self.ring_area(ring)).enumerate().map(sign).sum::<f64>()).sum()
    }

    pub fn ring_area(&self, ring: &Ring) -> f64 {
        match &self.unit {
            Unit::Earth(_) => match self.degrees(ring) {
                Some(ring) => on_ellipsoid(&ring),
                // Beyond where the coordinate system is good for anything.
                None => f64::NAN,
            },
            Unit::Plane(metres) => {
                let pixel = (self.g[1] * self.g[5] - self.g[2] * self.g[4]).abs() * metres * metres;
                signed_area(ring).abs() * pixel
            }
            Unit::Unknown => signed_area(ring).abs(),
        }
    }
}

/// Holes take area away.
fn sign((k, area): (usize, f64)) -> f64 {
    if k == 0 { area } else { -area }
}

/// Twice the shoelace, halved: positive where the ring runs counter-clockwise with y growing upwards.
pub fn signed_area(ring: &[Point]) -> f64 {
    let Some(&[x0, y0]) = ring.first() else { return 0.0 };
    let next = ring.iter().cycle().skip(1);
    let twice: f64 = ring.iter().zip(next).map(|(a, b)| (a[0] - x0) * (b[1] - y0) - (b[0] - x0) * (a[1] - y0)).sum();
    twice / 2.0
}

/// A difference of longitudes, the shorter way around.
fn turn(degrees: f64) -> f64 {
    degrees - 360.0 * (degrees / 360.0).round()
}

/// The area within a ring of longitudes and latitudes in square metres. x = aλ, y = a·q/2 with q = (1 − e²)(sin φ / (1 − e² sin² φ) −
/// ln((1 − e sin φ) / (1 + e sin φ)) / 2e) keeps areas (Snyder, *Map Projections*, 1987, equations 3-12 and 10-14, 10-15 at the equator).
fn on_ellipsoid(ring: &[Point]) -> f64 {
    let e = E2.sqrt();
    let height = |latitude: f64| {
        let sine = latitude.to_radians().sin();
        let q = sine / (1.0 - E2 * sine * sine) - ((1.0 - e * sine) / (1.0 + e * sine)).ln() / (2.0 * e);
        A * (1.0 - E2) * q / 2.0
    };
    let first = ring.first().map_or(0.0, |p| p[0]);
    let plane: Vec<Point> = ring.iter().map(|p| [A * turn(p[0] - first).to_radians(), height(p[1])]).collect();
    signed_area(&plane).abs()
}

/// Metres, or whatever else, on a plane around a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// In pixels.
    origin: Point,
    /// What a pixel is, from left to right and from top to bottom.
    across: Point,
    down: Point,
}

impl Frame {
    /// The side of a square as large as a pixel.
    pub fn pixel(&self) -> f64 {
        self.determinant().abs().sqrt()
    }

    fn determinant(&self) -> f64 {
        self.across[0] * self.down[1] - self.across[1] * self.down[0]
    }

    pub fn to_plane(self, [column, row]: Point) -> Point {
        let (c, r) = (column - self.origin[0], row - self.origin[1]);
        [c * self.across[0] + r * self.down[0], c * self.across[1] + r * self.down[1]]
    }

    pub fn to_pixels(self, [x, y]: Point) -> Point {
        let d = self.determinant();
        let column = (x * self.down[1] - y * self.down[0]) / d;
        let row = (y * self.across[0] - x * self.across[1]) / d;
        [self.origin[0] + column, self.origin[1] + row]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(epsg: u32, geotransform: [f64; 6]) -> Place {
        let crs = SpatialRef::from_epsg(epsg).unwrap().to_wkt().unwrap();
        Place::new(&Georeference { crs: Some(crs), geotransform: Some(geotransform), ..Georeference::default() })
    }

    fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Ring {
        vec![[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    }

    /// Expected values: pyproj 3.7, `Geod(ellps="WGS84").polygon_area_perimeter`, 2000 points on each edge.
    #[test]
    fn areas_are_those_of_the_ellipsoid() {
        for (epsg, g, (x, y, width, height), expected) in [
            (4326, [10.0, 1e-5, 0.0, 50.0, 0.0, -1e-5], (3.0, 5.0, 20.0, 30.0), 478.4810623783851),
            (4326, [10.0, 0.01, 0.0, 70.0, 0.0, -0.01], (0.0, 0.0, 100.0, 100.0), 4361755227.976356),
            (3857, [1113194.9, 0.5, 0.0, 6446275.8, 0.0, -0.5], (100.0, 100.0, 40.0, 20.0), 82.73180453055829),
            (32616, [739600.0, 0.5, 0.0, 3738000.0, 0.0, -0.5], (10.0, 20.0, 25.0, 16.0), 99.93843989237632),
            (32633, [500000.0, 0.4, 0.3, 5500000.0, 0.3, -0.4], (1.0, 2.0, 50.0, 60.0), 750.6004254589498),
            (2263, [980000.0, 1.0, 0.0, 200000.0, 0.0, -1.0], (7.0, 8.0, 100.0, 90.0), 836.1346381019389),
        ] {
            let found = place(epsg, g).ring_area(&rectangle(x, y, width, height));
            assert!((found / expected - 1.0).abs() < 1e-5, "{epsg}: {found} is not {expected}");
        }
    }

    #[test]
    fn holes_take_area_away() {
        let pixels = Place::new(&Georeference::default());
        let hole: Ring = rectangle(2.0, 2.0, 1.0, 3.0).into_iter().rev().collect();
        assert_eq!(pixels.area(&vec![vec![rectangle(0.0, 0.0, 10.0, 10.0), hole]]), 97.0);
        assert!(!pixels.has_metres() && pixels.is_pixels());
    }

    #[test]
    fn frames_are_metres_east_and_north() {
        // At 60° north a degree of longitude is half as long.
        let place = place(4326, [10.0, 1e-5, 0.0, 60.005, 0.0, -1e-5]);
        let frame = place.frame([500.0, 500.0]);
        let [east, north] = frame.to_plane([600.0, 400.0]);
        // pyproj's Geod: 1e-3 degrees along the parallel and the meridian.
        assert!((east - 55.80).abs() < 0.01 && (north - 111.41).abs() < 0.01, "{east} {north}");
        let [column, row] = frame.to_pixels([east, north]);
        assert!((column - 600.0).abs() < 1e-9 && (row - 400.0).abs() < 1e-9);
    }

    #[test]
    fn a_raster_across_the_date_line_has_no_hole_there() {
        let place = place(4326, [179.5, 0.1, 0.0, 0.5, 0.0, -0.1]);
        let across = place.ring_area(&rectangle(0.0, 0.0, 10.0, 10.0));
        let here = self::place(4326, [9.5, 0.1, 0.0, 0.5, 0.0, -0.1]).ring_area(&rectangle(0.0, 0.0, 10.0, 10.0));
        assert!((across / here - 1.0).abs() < 1e-9, "{across} {here}");
    }
}
