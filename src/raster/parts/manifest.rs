//! What makes parts belong to one run, and how two runs differ in words for the user.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Depth, Kind};
use crate::raster::{Grid, Lattice, MaskGrid, Rect};

/// Version of the folder's layout and of the parts in it.
const FORMAT: u32 = 1;

/// Differences that a message lists before it says how many more there are.
const LISTED: usize = 3;

/// Everything that decides the pixels of a run's parts. Which shard computes them is not among it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// What makes parts belong to a source; null where nobody told.
    pub source: Value,
    /// The models in order: file, hash, weight.
    pub models: Value,
    /// Settings by property name, every automatic choice resolved.
    pub settings: Value,
    pub blend: String,
    pub grid: Grid,
    pub region: Rect,
    /// What the rasters are brought back to; `None` for the grid above.
    pub mask_grid: Option<MaskGrid>,
    pub lattice: Lattice,
    pub products: Vec<Entry>,
}

/// A product as the manifest has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub kind: Kind,
    pub depth: Depth,
}

impl Manifest {
    pub fn new(grid: Grid, region: Rect, lattice: Lattice, blend: &str, products: Vec<Entry>) -> Self {
        Manifest {
            format: FORMAT,
            source: Value::Null,
            models: Value::Null,
            settings: Value::Null,
            blend: blend.into(),
            grid,
            region,
            mask_grid: None,
            lattice,
            products,
        }
    }

    /// As it is written.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("all keys are text")
    }

    /// A name for the run: the same for the same manifest.
    pub fn identity(&self) -> String {
        Sha256::digest(self.text()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// In what this run differs from the one whose manifest reads `there`; `None` where parts of either are parts of
    /// the other.
    ///
    /// # Errors
    /// A text that is no manifest.
    pub fn difference(&self, there: &str) -> Result<Option<String>, serde_json::Error> {
        let here = self.text();
        if there == here {
            return Ok(None);
        }
        // Both are read back, so that numbers are alike when their digits are.
        let there: Value = serde_json::from_str(there)?;
        let here: Value = serde_json::from_str(&here)?;
        let format = there.get("format").and_then(Value::as_u64);
        if format.is_some_and(|format| format != u64::from(FORMAT)) {
            let format = format.unwrap_or_default();
            return Ok(Some(format!("the format of parts is {format} there and {FORMAT} here")));
        }
        let mut found = Vec::new();
        for key in ["source", "models", "settings", "blend", "grid", "region", "mask_grid", "lattice", "products"] {
            let of = |manifest: &Value| manifest.get(key).cloned().unwrap_or(Value::Null);
            compare(key, &of(&there), &of(&here), &mut found);
        }
        if found.is_empty() {
            return Ok(None);
        }
        let more = found.len().saturating_sub(LISTED);
        found.truncate(LISTED);
        let mut text = found.join("; ");
        if more > 0 {
            text += &format!("; and {more} more");
        }
        Ok(Some(text))
    }
}

/// Adds a sentence for each leaf in which two values differ.
fn compare(path: &str, there: &Value, here: &Value, found: &mut Vec<String>) {
    if there == here {
        return;
    }
    let whole = ["region", "mask_grid", "lattice", "products"].contains(&path);
    match (there, here) {
        (Value::Object(a), Value::Object(b)) if !whole => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).collect();
            keys.sort();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                compare(&format!("{path}.{key}"), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if !whole && a.len() == b.len() && a.iter().any(|v| !is_plain(v)) => {
            for (k, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{k}]"), a, b, found);
            }
        }
        _ => found.push(format!("{} is {} there and {} here", words(path), show(path, there), show(path, here))),
    }
}

fn is_plain(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_))
}

/// What users call a fact of a manifest.
fn words(path: &str) -> String {
    match path {
        "source" => "the source".into(),
        "models" => "the list of models".into(),
        "region" => "the region (x,y,width,height)".into(),
        "mask_grid" => "the mask's grid".into(),
        "lattice" => "part-size".into(),
        "products" => "the list of outputs".into(),
        "grid.x.length" => "the raster's width".into(),
        "grid.y.length" => "the raster's height".into(),
        "grid.x.tile" => "the tiles' width".into(),
        "grid.y.tile" => "the tiles' height".into(),
        "grid.x.overlap" => "the overlap across".into(),
        "grid.y.overlap" => "the overlap down".into(),
        _ => match path.split_once('.') {
            Some(("settings", name)) => name.into(),
            Some(("source", name)) => format!("the source's {name}"),
            Some((model, name)) if model.starts_with("models[") => {
                let number = model["models[".len()..].trim_end_matches(']').parse().unwrap_or(0) + 1;
                format!("model {number}'s {name}")
            }
            _ => path.into(),
        },
    }
}

/// A value in few words.
fn show(path: &str, value: &Value) -> String {
    const LONGEST: usize = 80;
    let number = |key: &str| value.get(key).map_or_else(|| "?".into(), Value::to_string);
    let list = |of: &dyn Fn(&Value) -> String| {
        value.as_array().map(|items| items.iter().map(of).collect::<Vec<_>>().join(", ")).unwrap_or_default()
    };
    let text_of = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("?").to_string();
    let text = match (path, value) {
        ("region", Value::Object(_)) => ["x", "y", "width", "height"].map(number).join(","),
        ("lattice", Value::Object(_)) => ["part_width", "part_height"].map(number).join(","),
        ("mask_grid", Value::Null) => "the model's".into(),
        ("mask_grid", _) => "the source's".into(),
        ("models", Value::Array(_)) => list(&|model| text_of(model, "file")),
        ("products", Value::Array(_)) => list(&|p| format!("{} ({})", text_of(p, "kind"), text_of(p, "depth"))),
        ("source", Value::Object(_)) => text_of(value, "name"),
        (_, Value::Null) => "none".into(),
        (_, Value::String(text)) if path.ends_with("sha256") => text.chars().take(12).chain("…".chars()).collect(),
        (_, Value::String(text)) => text.clone(),
        _ => value.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::grid::Axis;
    use serde_json::json;

    fn manifest() -> Manifest {
        let axis = |length| Axis { length, tile: 64, overlap: 8, multiple: 4, fixed: false };
        let grid = Grid { x: axis(200), y: axis(100) };
        let products = vec![Entry { kind: Kind::Labels, depth: Depth::U8 }];
        Manifest {
            source: json!({"name": "city.tif", "width": 200}),
            models: json!([{"file": "a.onnx", "sha256": "aa", "weight": 1.0}]),
            settings: json!({"tta": "none", "threshold": null, "model": [{"scale": "255"}]}),
            ..Manifest::new(grid, grid.bounds(), Lattice::default(), "linear", products)
        }
    }

    /// What a run says to the parts of [`manifest`].
    fn said(change: impl FnOnce(&mut Manifest)) -> Option<String> {
        let mut here = manifest();
        change(&mut here);
        here.difference(&manifest().text()).unwrap()
    }

    #[test]
    fn the_same_run_fits_however_its_text_is_laid_out() {
        assert_eq!(said(|_| {}), None);
        let value: Value = serde_json::from_str(&manifest().text()).unwrap();
        assert_eq!(manifest().difference(&value.to_string()).unwrap(), None);
        assert!(manifest().difference("{").is_err());
    }

    #[test]
    fn each_difference_has_its_words() {
        let text = |change: fn(&mut Manifest)| said(change).unwrap();
        assert_eq!(text(|m| m.settings["tta"] = json!("d4")), "tta is none there and d4 here");
        assert_eq!(text(|m| m.settings["threshold"] = json!(0.4)), "threshold is none there and 0.4 here");
        assert_eq!(text(|m| m.settings["model"][0]["scale"] = json!("1")), "model[0].scale is 255 there and 1 here");
        assert_eq!(text(|m| m.models[0]["sha256"] = json!("bb")), "model 1's sha256 is aa… there and bb… here");
        assert_eq!(
            text(|m| m.models = json!([{"file": "a.onnx"}, {"file": "b.onnx"}])),
            "the list of models is a.onnx there and a.onnx, b.onnx here"
        );
        assert_eq!(text(|m| m.source["width"] = json!(300)), "the source's width is 200 there and 300 here");
        assert_eq!(text(|m| m.source = Value::Null), "the source is city.tif there and none here");
        assert_eq!(text(|m| m.blend = "hann".into()), "blend is linear there and hann here");
        assert_eq!(text(|m| m.grid.x.tile = 32), "the tiles' width is 64 there and 32 here");
        assert_eq!(
            text(|m| m.region.width = 10),
            "the region (x,y,width,height) is 0,0,200,100 there and 0,0,10,100 here"
        );
        assert_eq!(text(|m| m.lattice.part_width = 512), "part-size is 4096,512 there and 512,512 here");
        assert_eq!(
            text(|m| m.products.push(Entry { kind: Kind::Probability, depth: Depth::U16 })),
            "the list of outputs is labels (uint8) there and labels (uint8), probability (uint16) here"
        );
    }

    #[test]
    fn another_format_and_many_differences() {
        let mut other = manifest();
        other.format = 7;
        let said = manifest().difference(&other.text()).unwrap().unwrap();
        assert_eq!(said, "the format of parts is 7 there and 1 here");
        let said = self::said(|m| {
            m.settings = json!({"a": 1, "b": 2});
            m.blend = "crop".into();
        });
        assert!(said.as_ref().is_some_and(|s| s.ends_with("; and 2 more") && s.matches(';').count() == 3), "{said:?}");
    }
}
