//! What a reader is told of the ground: a system's name, and degrees.

use gdal::spatial_ref::{AxisMappingStrategy, CoordTransform, SpatialRef};
use gstonnxsegment::raster::Georeference;
use gstonnxsegment::raster::source::messages::catch;

/// A coordinate system's name and, where it has one, its code.
pub fn name(georeference: &Georeference) -> Option<String> {
    let (found, _) = catch(|| {
        let crs = SpatialRef::from_wkt(georeference.crs.as_ref()?).ok()?;
        let code = crs.auth_name().zip(crs.auth_code().ok()).map(|(name, code)| format!("{name}:{code}"));
        Some([crs.name(), code].into_iter().flatten().collect::<Vec<_>>().join(", "))
    });
    found.filter(|name| !name.is_empty())
}

/// Longitude and latitude on WGS 84; `None` where there is no way to them.
pub fn lonlat(georeference: &Georeference, (x, y): (f64, f64)) -> Option<(f64, f64)> {
    let (found, _) = catch(|| {
        let mut crs = SpatialRef::from_wkt(georeference.crs.as_ref()?).ok()?;
        let mut wgs84 = SpatialRef::from_epsg(4326).ok()?;
        crs.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
        wgs84.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
        let (mut xs, mut ys) = ([x], [y]);
        CoordTransform::new(&crs, &wgs84).ok()?.transform_coords(&mut xs, &mut ys, &mut [0.0]).ok()?;
        Some((xs[0], ys[0]))
    });
    found.filter(|(lon, lat)| lon.is_finite() && lat.is_finite())
}
