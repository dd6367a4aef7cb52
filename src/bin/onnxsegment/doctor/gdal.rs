//! GDAL: its formats, and whether PROJ can tell where a raster lies.

use gdal::DriverManager;
use gdal::spatial_ref::{AxisMappingStrategy, CoordTransform, SpatialRef};
use gdal::version::VersionInfo;
use gstonnxsegment::raster::source::messages::catch;

use super::{Part, apt};

/// Formats: GDAL's name, what it is for, and whether this program cannot do without.
const FORMATS: &[(&str, &str, bool)] = &[
    ("GTiff", "GeoTIFF, and parts of mosaics", true),
    ("COG", "masks of mosaics", true),
    ("VRT", "parts put together, resampling", true),
    ("MEM", "thumbnails of reports", true),
    ("PNG", "pictures", true),
    ("JPEG", "pictures, thumbnails of reports", true),
    ("JP2OpenJPEG", "JPEG 2000, such as Sentinel-2", false),
    ("GPKG", "footprints as GeoPackage", false),
    ("FlatGeobuf", "footprints as FlatGeobuf", false),
    ("GeoJSON", "footprints as GeoJSON", false),
    ("WMS", "tile servers", false),
    ("netCDF", "netCDF", false),
    ("HDF5", "HDF5", false),
];

pub fn look() -> Part {
    let mut part = Part::new("GDAL");
    let version = VersionInfo::release_name();
    part.ok("GDAL", version, "rasters of any format");
    DriverManager::register_all();
    for (name, purpose, needed) in FORMATS {
        let (found, _) = catch(|| DriverManager::get_driver_by_name(name).is_ok());
        let get = "this GDAL is built without it; Debian's has it: apt-get install libgdal-dev";
        match (found, needed) {
            (true, _) => part.ok(name, "found", purpose),
            (false, true) => part.missing(name, "not found", purpose, get),
            (false, false) => part.note(name, "not found", purpose, get),
        }
    }
    const PURPOSE: &str = "resolution on the ground, areas, bounding boxes";
    let (done, said) = catch(transforms);
    match done {
        Some(true) => part.ok("PROJ", "transforms coordinates", PURPOSE),
        found => {
            let wrong = if found.is_some() { "gives wrong coordinates".into() } else { said.words() };
            let path = ["PROJ_DATA", "PROJ_LIB"].into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)));
            let get = match path {
                Some((name, value)) => {
                    format!("{name} is {value}: unset it, or set it to the folder that holds proj.db")
                }
                None => apt("proj-data"),
            };
            part.missing("PROJ", wrong, PURPOSE, &get);
        }
    }
    part
}

/// Whether 12° E, 50° N lies in UTM zone 33 where it does (pyproj 3.7); `None` where it cannot be computed.
fn transforms() -> Option<bool> {
    let crs = |epsg| {
        let mut crs = SpatialRef::from_epsg(epsg).ok()?;
        crs.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
        Some(crs)
    };
    let transform = CoordTransform::new(&crs(4326)?, &crs(32633)?).ok()?;
    let (mut x, mut y) = ([12.0], [50.0]);
    transform.transform_coords(&mut x, &mut y, &mut [0.0]).ok()?;
    Some((x[0] - 285_015.763_265).abs() < 0.01 && (y[0] - 5_542_944.018_649).abs() < 0.01)
}
