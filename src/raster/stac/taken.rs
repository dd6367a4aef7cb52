//! When an image was taken, as far as something says so.

use std::path::Path;

use gdal::{Dataset, Metadata};
use serde_json::{Map, Value, json};

use crate::raster::source::messages::catch;
use crate::stac;

/// The fields of STAC items that tell when something was, and what said it.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// `datetime`, `start_datetime`, `end_datetime`: those that are known.
    pub fields: Map<String, Value>,
    pub said_by: String,
}

/// Where rasters keep it: domain, name, a name that the time zone goes by, and what that is called. TIFF's own tag comes last: to
/// many programs it is when the file was written.
const ITEMS: [(&str, &str, &str); 3] = [
    ("IMAGERY", "ACQUISITIONDATETIME", ""),
    ("", "EXIF_DateTimeOriginal", "EXIF_OffsetTimeOriginal"),
    ("", "TIFFTAG_DATETIME", ""),
];

/// Looks for it in a STAC item beside the image, other than `own`, and in the image's metadata.
pub fn of(source: &str, own: &Path) -> Option<Taken> {
    if source.is_empty() {
        return None;
    }
    let path = Path::new(source);
    let beside = ["json", "stac.json"].map(|ending| path.with_extension(ending));
    let item = beside.iter().filter(|item| *item != own).find_map(|item| of_item(item));
    item.or_else(|| catch(|| of_metadata(&Dataset::open(path).ok()?)).0)
}

fn of_item(path: &Path) -> Option<Taken> {
    let item: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let properties = &item["properties"];
    if item["type"] != "Feature" || item.get("stac_version").is_none() || properties[super::SAID_BY] == super::MADE {
        return None;
    }
    let moment = |name: &str| Some((name.to_string(), stac::moment(properties[name].as_str()?)?.into()));
    let range: Option<Vec<_>> = ["start_datetime", "end_datetime"].into_iter().map(moment).collect();
    let one = moment("datetime").or_else(|| range.is_some().then(|| ("datetime".into(), Value::Null)))?;
    let fields = std::iter::once(one).chain(range.into_iter().flatten()).collect();
    Some(Taken { fields, said_by: format!("STAC item {}", path.file_name()?.to_string_lossy()) })
}

fn of_metadata(raster: &Dataset) -> Option<Taken> {
    ITEMS.iter().find_map(|(domain, name, zone)| {
        let item = |name: &str| raster.metadata_item(name, domain).filter(|text| !text.trim().is_empty());
        let zone = item(zone).filter(|_| !zone.is_empty()).unwrap_or_default();
        let moment = stac::moment(&(item(name)?.trim().to_string() + zone.trim()))?;
        let fields = [("datetime".to_string(), json!(moment))].into_iter().collect();
        Some(Taken { fields, said_by: format!("{name} of the image") })
    })
}
