//! Outlines of a vector file, brought to the image's pixels.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use gdal::spatial_ref::{AxisMappingStrategy, CoordTransform, SpatialRef};
use gdal::vector::{FieldValue, LayerAccess};
use gdal::{Dataset, DatasetOptions, GdalOpenFlags};
use gstonnxsegment::raster::Georeference;
use gstonnxsegment::raster::source::messages::catch;
use serde_json::{Map, Value, json};

use super::grid::{apply, invert};

/// Outlines that are shown at once.
pub const MOST: usize = 5000;
/// Properties of an outline that a click shows.
const FIELDS: usize = 12;
/// Points of a box's edges that are brought from one system to another.
const DENSITY: i32 = 21;

pub struct Footprints {
    dataset: Mutex<Dataset>,
    pub count: u64,
    /// Pixels to the image's coordinates, and back.
    to_ground: [f64; 6],
    to_pixels: [f64; 6],
    /// The image's system.
    crs: Option<String>,
}

/// A part of the image in its pixels.
#[derive(Debug, Clone, Copy)]
pub struct Box {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Footprints {
    /// Opens the first layer of a vector file. An image that does not say where it lies takes its coordinates for
    /// columns and rows.
    ///
    /// # Errors
    /// Files that GDAL does not read as vectors.
    pub fn open(path: &Path, image: &Georeference) -> Result<Self> {
        let options = DatasetOptions {
            open_flags: GdalOpenFlags::GDAL_OF_VECTOR | GdalOpenFlags::GDAL_OF_READONLY,
            ..DatasetOptions::default()
        };
        let name = path.display();
        let dataset = catch(|| Dataset::open_ex(path, options)).0;
        let dataset = dataset.map_err(|e| match path.exists() {
            true => {
                anyhow!("{name}: cannot be read as vectors ({e}); footprints are GeoJSON, GeoPackage or FlatGeobuf")
            }
            false => anyhow!("{name}: there is no such file"),
        })?;
        ensure!(dataset.layer_count() > 0, "{name}: holds no layer of features");
        let count = dataset.layer(0).with_context(|| format!("{name}: its layer cannot be read"))?.feature_count();
        let to_ground = image.geotransform.unwrap_or([0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        let to_pixels = invert(to_ground).context("the image's geotransform has no area")?;
        let crs = image.geotransform.and(image.crs.clone());
        Ok(Footprints { dataset: Mutex::new(dataset), count, to_ground, to_pixels, crs })
    }

    /// GeoJSON of what reaches into a box, whose coordinates are columns and rows of the image; details below `resolution`
    /// pixels are left out, and so is what is more than [`MOST`], of which `more` tells.
    ///
    /// # Errors
    /// What GDAL says of a damaged file, and systems between which there is no way.
    pub fn within(&self, part: Box, resolution: f64) -> Result<Value> {
        let dataset = self.dataset.lock().unwrap_or_else(PoisonError::into_inner);
        catch(|| self.read(&dataset, part, resolution)).0
    }

    fn read(&self, dataset: &Dataset, part: Box, resolution: f64) -> Result<Value> {
        let mut layer = dataset.layer(0)?;
        let (to_image, from_image) = match (layer.spatial_ref(), &self.crs) {
            (Some(mut own), Some(image)) => {
                let mut image = SpatialRef::from_wkt(image)?;
                for system in [&mut own, &mut image] {
                    system.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
                }
                (Some(CoordTransform::new(&own, &image)?), Some(CoordTransform::new(&image, &own)?))
            }
            _ => (None, None),
        };
        let corners =
            [(part.left, part.top), (part.right, part.top), (part.right, part.bottom), (part.left, part.bottom)]
                .map(|corner| apply(self.to_ground, corner));
        let (xs, ys) = (corners.map(|c| c.0), corners.map(|c| c.1));
        let least = |v: [f64; 4]| v.into_iter().fold(f64::INFINITY, f64::min);
        let most = |v: [f64; 4]| v.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let mut bounds = [least(xs), least(ys), most(xs), most(ys)];
        if let Some(transform) = &from_image {
            bounds = transform.transform_bounds(&bounds, DENSITY)?;
        }
        layer.set_spatial_filter_rect(bounds[0], bounds[1], bounds[2], bounds[3]);
        // Half a pixel of the screen, in the image's coordinates.
        let tolerance = 0.5 * resolution * (self.to_ground[1].hypot(self.to_ground[4]));
        let (mut features, mut more) = (Vec::new(), false);
        for feature in layer.features() {
            if features.len() == MOST {
                more = true;
                break;
            }
            let Some(geometry) = feature.geometry() else { continue };
            let mut geometry = geometry.clone();
            if let Some(transform) = &to_image {
                geometry.transform_inplace(transform)?;
            }
            // What is only a dot at this scale stays as it is.
            let simple = (resolution > 1.0).then(|| geometry.simplify_preserve_topology(tolerance).ok()).flatten();
            let mut shape: Value = serde_json::from_str(&simple.unwrap_or(geometry).json()?)?;
            to_pixels(&mut shape["coordinates"], self.to_pixels);
            if let Some(parts) = shape.get_mut("geometries").and_then(Value::as_array_mut) {
                parts.iter_mut().for_each(|part| to_pixels(&mut part["coordinates"], self.to_pixels));
            }
            let mut properties = Map::new();
            for (name, value) in feature.fields().take(FIELDS) {
                properties.insert(name, value.map_or(Value::Null, field));
            }
            features.push(json!({ "type": "Feature", "geometry": shape, "properties": properties }));
        }
        Ok(json!({ "type": "FeatureCollection", "more": more, "features": features }))
    }
}

/// Positions within GeoJSON's nested lists.
fn to_pixels(coordinates: &mut Value, to_pixels_of: [f64; 6]) {
    let Some(list) = coordinates.as_array_mut() else { return };
    if let [Value::Number(x), Value::Number(y), ..] = &list[..]
        && let (Some(x), Some(y)) = (x.as_f64(), y.as_f64())
    {
        let (column, row) = apply(to_pixels_of, (x, y));
        // A hundredth of a pixel.
        let round = |v: f64| (v * 100.0).round() / 100.0;
        *list = vec![json!(round(column)), json!(round(row))];
        return;
    }
    list.iter_mut().for_each(|inner| to_pixels(inner, to_pixels_of));
}

fn field(value: FieldValue) -> Value {
    match value {
        FieldValue::IntegerValue(v) => json!(v),
        FieldValue::Integer64Value(v) => json!(v),
        FieldValue::RealValue(v) => json!(v),
        FieldValue::StringValue(v) => json!(v),
        other => json!(format!("{other:?}")),
    }
}
