//! Masks to make products of, what is made of them, and the reference (`tests/golden/make_products.py`).

use std::path::{Path, PathBuf};

use gdal::raster::Buffer;
use gdal::spatial_ref::SpatialRef;
use gdal::{Dataset, DriverManager};
use gstonnxsegment::raster::footprints::{self, Counts, Options};
use serde::Deserialize;
use serde_json::Value;

use crate::scenes;

pub type Ring = Vec<[f64; 2]>;

#[derive(Deserialize)]
pub struct Golden {
    pub cases: Vec<Case>,
    pub f1: F1,
}

#[derive(Debug, Deserialize, PartialEq)]
pub struct F1 {
    pub true_positive: u64,
    pub false_positive: u64,
    pub false_negative: u64,
}

#[derive(Deserialize)]
pub struct Case {
    pub mask: String,
    pub polygons: Vec<Known>,
    pub eight_connected: usize,
    pub rows: std::collections::BTreeMap<u16, String>,
}

#[derive(Deserialize)]
pub struct Known {
    pub class: u16,
    pub column: u32,
    pub row: u32,
    pub pixels: f64,
    pub length: f64,
    pub mean: Option<f64>,
    pub utm: f64,
    pub degrees: f64,
}

pub fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(file("cases.json")).unwrap()).unwrap()
}

pub fn file(name: &str) -> PathBuf {
    scenes::root("tests/golden/products").join(name)
}

/// An empty folder, which goes when the test ends.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn files(&self) -> Vec<String> {
        let mut names = gstonnxsegment::files::names(self.0.path()).unwrap();
        names.sort();
        names
    }

    /// Writes labels as a GeoTIFF with blocks of `block` pixels.
    pub fn mask(&self, name: &str, (width, height): (usize, usize), labels: &[u8], block: usize) -> PathBuf {
        let path = self.path(name);
        let options = ["TILED=YES".to_string(), format!("BLOCKXSIZE={block}"), format!("BLOCKYSIZE={block}")];
        let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
        let options = gdal::raster::RasterCreationOptions::from_iter(options);
        let dataset = driver.create_with_band_type_with_options::<u8, _>(&path, width, height, 1, &options).unwrap();
        let mut pixels = Buffer::new((width, height), labels.to_vec());
        let mut band = dataset.rasterband(1).unwrap();
        band.write((0, 0), (width, height), &mut pixels).unwrap();
        band.set_no_data_value(Some(255.0)).unwrap();
        path
    }
}

/// Puts a raster somewhere on the ground.
pub fn place(path: &Path, epsg: u32, geotransform: [f64; 6]) {
    let options = gdal::DatasetOptions {
        open_flags: gdal::GdalOpenFlags::GDAL_OF_UPDATE | gdal::GdalOpenFlags::GDAL_OF_RASTER,
        ..Default::default()
    };
    let mut dataset = Dataset::open_ex(path, options).unwrap();
    dataset.set_spatial_ref(&SpatialRef::from_epsg(epsg).unwrap()).unwrap();
    dataset.set_geo_transform(&geotransform).unwrap();
}

/// The pixels of a raster of one band.
pub fn pixels(path: &Path) -> ((usize, usize), Vec<u8>) {
    let dataset = Dataset::open(path).unwrap();
    let size = dataset.raster_size();
    (size, dataset.rasterband(1).unwrap().read_as::<u8>((0, 0), size, size, None).unwrap().data().to_vec())
}

/// A polygon as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub id: String,
    pub class: u16,
    pub name: Option<String>,
    pub area: f64,
    pub confidence: Option<f64>,
    /// The rings of each polygon, the last point not repeated.
    pub polygons: Vec<Vec<Ring>>,
}

impl Found {
    /// Without its holes, in the file's coordinates.
    pub fn plane_area(&self) -> f64 {
        let of = |rings: &Vec<Ring>| {
            signed_area(&rings[0]).abs() - rings[1..].iter().map(|r| signed_area(r).abs()).sum::<f64>()
        };
        self.polygons.iter().map(of).sum()
    }

    pub fn length(&self) -> f64 {
        let step = |(a, b): (&[f64; 2], &[f64; 2])| (a[0] - b[0]).hypot(a[1] - b[1]);
        let of = |ring: &Ring| ring.iter().zip(ring.iter().cycle().skip(1)).map(step).sum::<f64>();
        self.polygons.iter().flatten().map(of).sum()
    }

    pub fn geometry(&self) -> gdal::vector::Geometry {
        let closed = |ring: &Ring| {
            let points = ring.iter().chain(ring.first()).map(|[x, y]| format!("{x} {y}")).collect::<Vec<_>>();
            format!("({})", points.join(","))
        };
        let polygon = |rings: &Vec<Ring>| format!("({})", rings.iter().map(closed).collect::<Vec<_>>().join(","));
        let all: Vec<String> = self.polygons.iter().map(polygon).collect();
        gdal::vector::Geometry::from_wkt(&format!("MULTIPOLYGON ({})", all.join(","))).unwrap()
    }
}

pub fn signed_area(ring: &Ring) -> f64 {
    let [x0, y0] = ring[0];
    let twice = |(a, b): (&[f64; 2], &[f64; 2])| (a[0] - x0) * (b[1] - y0) - (b[0] - x0) * (a[1] - y0);
    ring.iter().zip(ring.iter().cycle().skip(1)).map(twice).sum::<f64>() / 2.0
}

/// Writes the footprints of a mask and reads them.
pub fn made(mask: &Path, probability: Option<&Path>, out: &Path, options: &Options) -> (Vec<Found>, Counts) {
    let counts = footprints::write(mask, probability, out, options, &|_| true).unwrap();
    let found = read(out);
    assert_eq!(found.len() as u64, counts.polygons);
    (found, counts)
}

/// Reads GeoJSON.
pub fn read(path: &Path) -> Vec<Found> {
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let ring = |ring: &Value| -> Ring {
        let mut points: Ring = serde_json::from_value(ring.clone()).unwrap();
        assert_eq!(points.first(), points.last());
        points.pop();
        points
    };
    let rings = |polygon: &Value| polygon.as_array().unwrap().iter().map(ring).collect::<Vec<Ring>>();
    let feature = |feature: &Value| {
        let (properties, geometry) = (&feature["properties"], &feature["geometry"]);
        let coordinates = &geometry["coordinates"];
        Found {
            id: properties["id"].as_str().unwrap().into(),
            class: properties["class"].as_u64().unwrap() as u16,
            name: properties["name"].as_str().map(String::from),
            area: properties.get("area_m2").or(properties.get("area_px")).and_then(Value::as_f64).unwrap(),
            confidence: properties.get("confidence").and_then(Value::as_f64),
            polygons: match geometry["type"].as_str().unwrap() {
                "Polygon" => vec![rings(coordinates)],
                _ => coordinates.as_array().unwrap().iter().map(rings).collect(),
            },
        }
    };
    all["features"].as_array().unwrap().iter().map(feature).collect()
}
