//! How large a pixel is on the ground.

use gdal::spatial_ref::{AxisMappingStrategy, CoordTransform, SpatialRef};

use super::messages::catch;
use crate::raster::Georeference;

/// Width and height of the pixel at the centre of a raster in metres along the ellipsoid; `None` where the raster does not
/// say where it lies. On other bodies than the Earth only projected rasters have a size, that of their own units.
pub fn resolution(georeference: &Georeference, width: i64, height: i64) -> Option<(f64, f64)> {
    let (crs, g) = placed(georeference)?;
    let (column, row) = (width as f64 / 2.0, height as f64 / 2.0);
    let at = |c: f64, r: f64| (g[0] + c * g[1] + r * g[2], g[3] + c * g[4] + r * g[5]);
    // Left and right, top and bottom of a pixel around the centre.
    let ends = [at(column - 0.5, row), at(column + 0.5, row), at(column, row - 0.5), at(column, row + 0.5)];
    let (found, _) = catch(|| {
        let mut crs = SpatialRef::from_wkt(crs).ok()?;
        crs.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
        on_earth(&crs, &ends).or_else(|| {
            let units = (crs.is_projected() || crs.is_local()).then(|| crs.linear_units())?;
            let length = |a: (f64, f64), b: (f64, f64)| (b.0 - a.0).hypot(b.1 - a.1) * units;
            Some((length(ends[0], ends[1]), length(ends[2], ends[3])))
        })
    });
    found.filter(|(x, y)| x.is_finite() && y.is_finite() && *x > 0.0 && *y > 0.0)
}

/// The coordinate reference system of a raster, and the affine transform to it, fitted to control points where it has those alone.
pub fn placed(georeference: &Georeference) -> Option<(&str, [f64; 6])> {
    match (&georeference.crs, georeference.geotransform) {
        (Some(crs), Some(g)) => Some((crs, g)),
        _ => Some((georeference.gcp_crs.as_ref()?, fitted(georeference)?)),
    }
}

fn on_earth(crs: &SpatialRef, ends: &[(f64, f64); 4]) -> Option<(f64, f64)> {
    let mut wgs84 = SpatialRef::from_epsg(4326).ok()?;
    wgs84.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
    let transform = CoordTransform::new(crs, &wgs84).ok()?;
    let (mut x, mut y): (Vec<f64>, Vec<f64>) = ends.iter().copied().unzip();
    transform.transform_coords(&mut x, &mut y, &mut [0.0; 4]).ok()?;
    Some((geodesic(x[0], y[0], x[1], y[1])?, geodesic(x[2], y[2], x[3], y[3])?))
}

/// The affine transform that fits the control points best.
pub(super) fn fitted(georeference: &Georeference) -> Option<[f64; 6]> {
    let mut gcps: Vec<gdal_sys::GDAL_GCP> = georeference
        .gcps
        .iter()
        .map(|p| gdal_sys::GDAL_GCP {
            pszId: std::ptr::null_mut(),
            pszInfo: std::ptr::null_mut(),
            dfGCPPixel: p.pixel,
            dfGCPLine: p.line,
            dfGCPX: p.x,
            dfGCPY: p.y,
            dfGCPZ: p.z,
        })
        .collect();
    let mut g = [0.0; 6];
    // SAFETY: the points and the six numbers are as many as said; GDAL does not read the names.
    let fits = unsafe { gdal_sys::GDALGCPsToGeoTransform(gcps.len() as i32, gcps.as_mut_ptr(), g.as_mut_ptr(), 1) };
    (fits != 0).then_some(g)
}

/// Length of the shortest line between two points on WGS 84, given in degrees (Vincenty's inverse formula, 1975).
/// `None` for points that are nearly opposite, where it does not converge.
fn geodesic(lon1: f64, lat1: f64, lon2: f64, lat2: f64) -> Option<f64> {
    const A: f64 = 6_378_137.0;
    const F: f64 = 1.0 / 298.257_223_563;
    const B: f64 = A * (1.0 - F);
    let l = (lon2 - lon1).to_radians();
    let reduced = |lat: f64| ((1.0 - F) * lat.to_radians().tan()).atan();
    let ((s1, c1), (s2, c2)) = (reduced(lat1).sin_cos(), reduced(lat2).sin_cos());
    let mut lambda = l;
    for _ in 0..200 {
        let (sl, cl) = lambda.sin_cos();
        let sin_sigma = (c2 * sl).hypot(c1 * s2 - s1 * c2 * cl);
        if sin_sigma == 0.0 {
            return Some(0.0);
        }
        let cos_sigma = s1 * s2 + c1 * c2 * cl;
        let sigma = sin_sigma.atan2(cos_sigma);
        let sin_alpha = c1 * c2 * sl / sin_sigma;
        let cos2_alpha = 1.0 - sin_alpha * sin_alpha;
        // Along the equator there is no midpoint term.
        let mid = if cos2_alpha < 1e-15 { 0.0 } else { cos_sigma - 2.0 * s1 * s2 / cos2_alpha };
        let c = F / 16.0 * cos2_alpha * (4.0 + F * (4.0 - 3.0 * cos2_alpha));
        let inner = mid + c * cos_sigma * (2.0 * mid * mid - 1.0);
        let next = l + (1.0 - c) * F * sin_alpha * (sigma + c * sin_sigma * inner);
        let done = (next - lambda).abs() <= 1e-12 * next.abs();
        lambda = next;
        if done {
            let u2 = cos2_alpha * (A * A - B * B) / (B * B);
            let a = 1.0 + u2 / 16384.0 * (4096.0 + u2 * (u2 * (320.0 - 175.0 * u2) - 768.0));
            let b = u2 / 1024.0 * (256.0 + u2 * (u2 * (74.0 - 47.0 * u2) - 128.0));
            let far = b / 6.0 * mid * (4.0 * sin_sigma * sin_sigma - 3.0) * (4.0 * mid * mid - 3.0);
            let delta = b * sin_sigma * (mid + b / 4.0 * (cos_sigma * (2.0 * mid * mid - 1.0) - far));
            return Some(B * a * (sigma - delta));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-7, "{found} is not {expected}");
    }

    /// Expected values: pyproj 3.7, `Geod(ellps="WGS84").inv`.
    #[test]
    fn lengths_on_the_ellipsoid() {
        for (a, b, expected) in [
            ((0.0, 0.0), (1.0, 0.0), 111319.49079327357),
            ((10.0, 40.0), (10.5, 40.25), 50861.964337070116),
            ((-70.0, -33.0), (-70.00001, -33.0), 0.9345321477583719),
            ((-70.0, -33.0), (-70.0, -33.00001), 1.109044572178139),
            ((20.0, 89.0), (21.0, 89.5), 55863.89755525853),
            ((0.0, 0.0), (179.0, 0.5), 19902751.03259346),
            ((5.0, -10.0), (60.0, 70.0), 9800708.223988542),
        ] {
            near(geodesic(a.0, a.1, b.0, b.1).unwrap(), expected);
        }
        assert_eq!(geodesic(7.0, 8.0, 7.0, 8.0), Some(0.0));
    }

    fn raster(epsg: u32, geotransform: [f64; 6]) -> Georeference {
        let crs = SpatialRef::from_epsg(epsg).unwrap().to_wkt().unwrap();
        Georeference { crs: Some(crs), geotransform: Some(geotransform), ..Georeference::default() }
    }

    /// Expected values: pyproj 3.7, the two middle lines of the centre pixel transformed to EPSG:4326 and measured.
    #[test]
    fn pixels_in_degrees_feet_and_metres() {
        for (epsg, geotransform, (width, height), (x, y)) in [
            (4326, [10.0, 1e-5, 0.0, 50.0, 0.0, -1e-5], (1000, 1000), (0.7170318901223176, 1.1122896756616798)),
            (3857, [1113194.9, 0.5, 0.0, 6446275.8, 0.0, -0.5], (400, 300), (0.32202985073155016, 0.32113560091605586)),
            (32616, [739600.0, 0.5, 0.0, 3738000.0, 0.0, -0.5], (900, 900), (0.49984549221143326, 0.4998454918587888)),
            (2263, [980000.0, 1.0, 0.0, 200000.0, 0.0, -1.0], (500, 500), (0.304801318795381, 0.3048013206129132)),
            (32633, [500000.0, 0.4, 0.3, 5500000.0, 0.3, -0.4], (100, 100), (0.500200080687199, 0.5002000803340751)),
            (4326, [-180.0, 1.0, 0.0, 90.0, 0.0, -1.0], (360, 180), (111319.49079327357, 110574.30400690097)),
        ] {
            let (found_x, found_y) = resolution(&raster(epsg, geotransform), width, height).unwrap();
            near(found_x, x);
            near(found_y, y);
        }
    }

    #[test]
    fn control_points_do_as_well() {
        let by_transform = raster(32616, [739600.0, 0.5, 0.0, 3738000.0, 0.0, -0.5]);
        let gcp = |pixel: f64, line: f64| crate::raster::Gcp {
            id: String::new(),
            pixel,
            line,
            x: 739600.0 + pixel * 0.5,
            y: 3738000.0 - line * 0.5,
            z: 0.0,
        };
        let by_points = Georeference {
            gcps: vec![gcp(0.0, 0.0), gcp(900.0, 0.0), gcp(0.0, 900.0), gcp(900.0, 900.0)],
            gcp_crs: by_transform.crs.clone(),
            ..Georeference::default()
        };
        let (x, y) = resolution(&by_points, 900, 900).unwrap();
        near(x, 0.49984549221143326);
        near(y, 0.4998454918587888);
    }

    #[test]
    fn elsewhere_only_projected_units_count() {
        assert_eq!(resolution(&Georeference::default(), 10, 10), None);
        let no_crs = Georeference { geotransform: Some([0.0, 2.0, 0.0, 0.0, 0.0, -2.0]), ..Georeference::default() };
        assert_eq!(resolution(&no_crs, 10, 10), None);
        let moon = r#"PROJCS["Moon",GEOGCS["Moon",DATUM["Moon",SPHEROID["Moon",1737400,0]],PRIMEM["Reference",0],UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],PARAMETER["central_meridian",0],UNIT["metre",1]]"#;
        let moon = Georeference { crs: Some(moon.into()), ..no_crs };
        let (x, y) = resolution(&moon, 10, 10).unwrap();
        assert!((x - 2.0).abs() < 1e-9 && (y - 2.0).abs() < 1e-9, "{x} {y}");
    }
}
