//! The STAC item beside a finished raster: where it lies, what its values mean, what it was made of.
//!
//! STAC 1.1 (<https://stacspec.org>) with the extensions classification, processing, projection and raster. What is said of the
//! raster is read from the file itself; what made it comes with [`About`].

mod footprint;
mod taken;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gdal::raster::GdalDataType;
use gdal::{Dataset, Metadata};
use serde_json::{Map, Value, json};

use super::error::{Error, Result};
use super::parts::{Kind, Product};
use super::source::messages::catch;
use super::store::{Store, address};
use crate::{files, stac};

/// Names this program among what made an item, and so tells items that it may replace.
const SOFTWARE: &str = "onnxsegment";
/// The property that says what `datetime` was taken from.
const SAID_BY: &str = "onnxsegment:datetime_from";
/// Its value where nothing says when the image was taken.
const MADE: &str = "when this item was made; nothing says when the image was taken";

/// What made a raster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct About {
    /// The raster that was read; empty where not known.
    pub source: String,
    /// A sentence on how.
    pub lineage: String,
    /// STAC items of the models, by the models' names.
    pub cards: Vec<(String, PathBuf)>,
    pub classes: Vec<Class>,
    /// Further properties, by name.
    pub more: Map<String, Value>,
}

/// A class of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    pub value: u16,
    pub name: String,
    pub colour: Option<[u8; 3]>,
}

/// What came of writing an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Written(PathBuf),
    /// A file of that name is there that this program has not made; it is as it was.
    Kept(PathBuf),
}

/// The item of a run's rasters: beside the first, with its name and the ending `.json`.
pub fn path(products: &[Product]) -> Option<PathBuf> {
    products.first().map(|product| product.path.with_extension("json"))
}

/// Writes the item of rasters that are there, at once, in the place of an earlier item of this program's.
///
/// # Errors
/// A raster that cannot be read any more, and a disk that does not take the file.
pub fn write(products: &[Product], about: &About) -> Result<Outcome> {
    let Some(path) = path(products) else {
        return Err(Error::setting("stac-item", true, "there is no raster to write an item of"));
    };
    let wrong = |problem: &str| Error::write("stac-item", &path, format!("{problem}; the rasters are there and whole"));
    let store = Store::of(&path);
    if store.exists(&path) && !is_ours(&path) {
        return Ok(Outcome::Kept(path));
    }
    let item = item(products, about, &path).map_err(|problem| wrong(&problem))?;
    let text = serde_json::to_string_pretty(&item).map_err(|e| wrong(&e.to_string()))? + "\n";
    store.replace(&path, text.as_bytes()).map_err(|e| wrong(&files::words(&e)))?;
    Ok(Outcome::Written(path))
}

/// Whether a file is an item that this program has made.
fn is_ours(path: &Path) -> bool {
    let item = Store::of(path).read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    item.is_some_and(|item| {
        item["type"] == "Feature" && item["properties"]["processing:software"][SOFTWARE].is_string()
    })
}

fn item(products: &[Product], about: &About, path: &Path) -> std::result::Result<Value, String> {
    let folder = files::parent(path);
    let now = stac::rfc3339(SystemTime::now());
    let mut properties = json!({
        "created": now,
        "processing:datetime": now,
        "processing:level": "L4",
        "processing:software": {SOFTWARE: env!("CARGO_PKG_VERSION")},
        "processing:lineage": about.lineage,
    });
    // A mask is of the moment that its image shows.
    let made =
        || taken::Taken { fields: [("datetime".into(), json!(now))].into_iter().collect(), said_by: MADE.into() };
    let taken = taken::of(&about.source, path).unwrap_or_else(made);
    properties[SAID_BY] = taken.said_by.into();
    for (name, value) in taken.fields {
        properties[name] = value;
    }
    let mut assets = Map::new();
    let (mut geometry, mut bbox, mut scaled) = (Value::Null, None, false);
    for (k, product) in products.iter().enumerate() {
        let _quiet = Store::of(&product.path).quiet();
        let (read, said) = catch(|| Dataset::open(&product.path).map_err(|e| e.to_string()));
        let raster = read.map_err(|e| if said.failures.is_empty() { e } else { said.words() })?;
        if k == 0 {
            let (width, height) = raster.raster_size();
            let projection = catch(|| footprint::projection(&raster)).0;
            properties["proj:shape"] = json!([height, width]);
            properties["proj:code"] = projection.code.into();
            if let Some(wkt) = projection.wkt {
                properties["proj:wkt2"] = wkt.into();
            }
            if let Some(g) = projection.geotransform {
                properties["proj:transform"] = json!([g[1], g[2], g[0], g[4], g[5], g[3]]);
                properties["proj:bbox"] = json!(footprint::bounds(&footprint::corners(g, (width, height), 1)));
            }
            if let Some((shape, bounds)) = projection.footprint {
                (geometry, bbox) = (shape, Some(bounds));
            }
        }
        scaled |= product.kind != Kind::Labels;
        assets.insert(product.kind.name().into(), asset(product, &raster, about, &folder)?);
    }
    for (name, value) in &about.more {
        properties[name.as_str()] = value.clone();
    }
    let mut links = Vec::new();
    if !about.source.is_empty() {
        links.push(
            json!({"rel": "derived_from", "href": href(&folder, Path::new(&about.source)), "title": "the image"}),
        );
    }
    for (name, card) in &about.cards {
        links.push(json!({
            "rel": "derived_from", "href": href(&folder, card), "type": "application/geo+json", "title": format!("the model {name}"),
            "mlm:name": name,
        }));
    }
    let extension =
        |name: &str, version: &str| format!("https://stac-extensions.github.io/{name}/v{version}/schema.json");
    let mut extensions = vec![extension("processing", "1.2.0"), extension("projection", "2.0.0")];
    if assets.values().any(|asset| asset.get("classification:classes").is_some()) {
        extensions.push(extension("classification", "1.1.0"));
    }
    if scaled {
        extensions.push(extension("raster", "2.0.0"));
    }
    let mut item = json!({
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": extensions,
        "id": path.file_stem().unwrap_or_default().to_string_lossy(),
        "geometry": geometry,
        "properties": properties,
        "links": links,
        "assets": assets,
    });
    // Where nothing says where it lies, there is none.
    if let Some(bbox) = bbox {
        item["bbox"] = json!(bbox);
    }
    Ok(item)
}

fn asset(product: &Product, raster: &Dataset, about: &About, folder: &Path) -> std::result::Result<Value, String> {
    let layout = raster.metadata_item("LAYOUT", "IMAGE_STRUCTURE");
    let kind = match layout.as_deref() {
        Some("COG") => "image/tiff; application=geotiff; profile=cloud-optimized",
        _ => "image/tiff; application=geotiff",
    };
    let mut bands = Vec::new();
    for k in 1..=raster.raster_count() {
        let band = raster.rasterband(k).map_err(|e| e.to_string())?;
        let mut said = json!({"data_type": data_type(band.band_type())});
        let name = band.description().ok().filter(|name| !name.is_empty());
        said["name"] = name.unwrap_or_else(|| format!("{} {k}", product.kind.name())).into();
        if let Some(nodata) = band.no_data_value() {
            said["nodata"] = json!(nodata as i64);
        }
        if let (Some(scale), true) = (band.scale(), product.kind != Kind::Labels) {
            said["raster:scale"] = json!(scale);
        }
        bands.push(said);
    }
    let title = match product.kind {
        Kind::Labels => "Classes",
        Kind::Probability => "Probabilities of the classes",
        Kind::Uncertainty => "Uncertainty",
    };
    let mut asset = json!({
        "href": href(folder, &product.path),
        "type": kind,
        "title": title,
        "roles": ["data", product.kind.name()],
        "bands": bands,
    });
    if product.kind == Kind::Labels && !about.classes.is_empty() {
        let mut classes: Vec<Value> =
            about.classes.iter().map(|class| stac::class(class.value, &class.name, class.colour)).collect();
        classes.push(json!({"value": product.depth.nodata(), "name": "nodata", "title": "no data", "nodata": true}));
        asset["classification:classes"] = classes.into();
    }
    Ok(asset)
}

fn data_type(kind: GdalDataType) -> &'static str {
    match kind {
        GdalDataType::UInt8 => "uint8",
        GdalDataType::UInt16 => "uint16",
        GdalDataType::Int16 => "int16",
        GdalDataType::Float32 => "float32",
        _ => "other",
    }
}

/// A file as an item in `folder` refers to it; what is no file, such as an address, as it is.
fn href(folder: &Path, file: &Path) -> String {
    let is_file = match Store::of(file) {
        Store::Disk => file.exists(),
        Store::Objects => address(file).is_some(),
    };
    let reference = match is_file {
        true if root(folder) == root(file) => files::relative(folder, file),
        true => address(file).unwrap_or_else(|| std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf())),
        false => file.to_path_buf(),
    };
    let mut text = String::new();
    // A colon in the first part would make it an address.
    if is_file && reference.is_relative() && root(folder) == root(file) && !reference.starts_with("..") {
        text.push_str("./");
    }
    for c in reference.to_string_lossy().chars() {
        match c {
            ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' | '#' | '?' | '%' => {
                text.push_str(&format!("%{:02X}", c as u32))
            }
            c if c.is_control() => text.push_str(&format!("%{:02X}", c as u32)),
            c => text.push(c),
        }
    }
    text
}

/// Within which files refer to one another by relative paths: a store's bucket, or this machine.
fn root(file: &Path) -> Option<PathBuf> {
    files::is_virtual(file).then(|| file.components().take(3).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_referred_to_within_their_bucket_or_by_their_address() {
        let out = Path::new("/vsis3/bucket/out");
        assert_eq!(href(out, Path::new("/vsis3/bucket/out/mask.tif")), "./mask.tif");
        assert_eq!(href(out, Path::new("/vsis3/bucket/my scene.tif")), "../my%20scene.tif");
        assert_eq!(href(out, Path::new("/vsis3/other/scene.tif")), "s3://other/scene.tif");
        assert_eq!(href(Path::new("/tmp"), Path::new("/vsigs/bucket/scene.tif")), "gs://bucket/scene.tif");
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(href(out, &here), here.to_str().unwrap());
    }

    #[test]
    fn files_are_referred_to_from_the_items_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("out")).unwrap();
        std::fs::write(folder.path().join("my image#1.tif"), "").unwrap();
        std::fs::write(folder.path().join("out/mask.tif"), "").unwrap();
        let out = folder.path().join("out");
        assert_eq!(href(&out, &folder.path().join("my image#1.tif")), "../my%20image%231.tif");
        assert_eq!(href(&out, &out.join("mask.tif")), "./mask.tif");
        assert_eq!(href(&out, Path::new("/vsicurl/https://example.com/a.tif")), "/vsicurl/https://example.com/a.tif");
    }
}
