//! When an image was taken, as far as something says so.

use std::path::Path;

use chrono::{DateTime, NaiveDateTime};
use gdal::{Dataset, Metadata};
use serde_json::{Map, Value, json};

use crate::raster::source::messages::catch;

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
    let moment = |name: &str| Some((name.to_string(), utc(properties[name].as_str()?)?.into()));
    let range: Option<Vec<_>> = ["start_datetime", "end_datetime"].into_iter().map(moment).collect();
    let one = moment("datetime").or_else(|| range.is_some().then(|| ("datetime".into(), Value::Null)))?;
    let fields = std::iter::once(one).chain(range.into_iter().flatten()).collect();
    Some(Taken { fields, said_by: format!("STAC item {}", path.file_name()?.to_string_lossy()) })
}

fn of_metadata(raster: &Dataset) -> Option<Taken> {
    ITEMS.iter().find_map(|(domain, name, zone)| {
        let item = |name: &str| raster.metadata_item(name, domain).filter(|text| !text.trim().is_empty());
        let zone = item(zone).filter(|_| !zone.is_empty()).unwrap_or_default();
        let moment = utc(&(item(name)?.trim().to_string() + zone.trim()))?;
        let fields = [("datetime".to_string(), json!(moment))].into_iter().collect();
        Some(Taken { fields, said_by: format!("{name} of the image") })
    })
}

/// How images write a moment, beside RFC 3339.
const FORMS: [&str; 3] = ["%Y:%m:%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];

/// A moment as images and STAC items tell it, `2019:05:28 10:11:12` and `2019-05-28T10:11:12.5+02:00` among them, as RFC 3339 has it
/// in UTC; without a zone it is taken to be UTC. `None` of what is no moment, such as TIFF's `0000:00:00 00:00:00`.
fn utc(text: &str) -> Option<String> {
    // Numbers of fixed width; chrono reads others as well, and leap seconds, which few programs know.
    let is_fixed = |(k, byte): (usize, u8)| byte.is_ascii_digit() != [4, 7, 10, 13, 16].contains(&k);
    if !text.get(..19)?.bytes().enumerate().all(is_fixed) || &text[17..19] == "60" {
        return None;
    }
    let zoned = |form: &str| DateTime::parse_from_str(text, &format!("{form}%#z")).map(|time| time.to_utc());
    let bare = |form: &str| NaiveDateTime::parse_from_str(text, form).map(|time| time.and_utc());
    let other = || FORMS.iter().find_map(|form| zoned(form).or_else(|_| bare(form)).ok());
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).ok().or_else(other)?;
    // As precise as it is told.
    let rest = &text[19..];
    let fraction = &rest[..rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len())];
    Some(format!("{}{fraction}Z", time.format("%Y-%m-%dT%H:%M:%S")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_files_tell_them() {
        for (text, expected) in [
            ("2019:05:28 10:11:12", "2019-05-28T10:11:12Z"),
            ("2019-05-28 10:11:12", "2019-05-28T10:11:12Z"),
            ("2019-05-28T10:11:12.250Z", "2019-05-28T10:11:12.250Z"),
            ("2019:05:28 00:11:12+02:00", "2019-05-27T22:11:12Z"),
            ("2019-12-31T20:00:00-0430", "2020-01-01T00:30:00Z"),
            ("1944-02-29 23:59:59", "1944-02-29T23:59:59Z"),
            ("2100:03:01 00:00:00", "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "0000:00:00 00:00:00",
            "2019-02-29 10:11:12",
            "2019-05-28",
            "2019-05-28 10:11:12.",
            "2019-05-28 24:00:00",
            "2016-12-31 23:59:60",
            "2019:05:28 1:02:03",
            "2019-05-28 10:11:12 CEST",
            "2019-05-28 10:11:1é",
            "+019-05-28 10:11:12",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
    }
}
