//! What a model says of itself in its ONNX metadata: this program's own keys, and those of the QGIS plugin Deepness.

use std::path::Path;

use super::error::{Error, Result};
use super::literal;
use super::onnx::OnnxFile;
use super::settings::{Activation, Fact, Named, Source};
use super::spec::{Overlap, Tiling};

/// Keys that are the Deepness plugin's and no other's: a model that has one follows its convention.
const DEEPNESS: [&str; 9] = [
    "model_type",
    "resolution",
    "seg_small_segment",
    "seg_thresh",
    "standardization_mean",
    "standardization_std",
    "tile_size",
    "tiles_overlap",
    "tiles_size",
];

/// Readers of metadata values, which are JSON text (references.md, "Model metadata").
pub(super) struct Metadata<'a> {
    pub path: &'a Path,
    pub onnx: &'a OnnxFile,
}

impl Metadata<'_> {
    fn json(&self, key: &'static str) -> Result<Option<serde_json::Value>> {
        let Some(text) = self.onnx.metadata.get(key) else {
            return Ok(None);
        };
        // Some exporters write Python's own notation; a bare word is a text that someone forgot to quote.
        let json = serde_json::from_str(text).ok().or_else(|| literal::parse(text));
        Ok(Some(json.unwrap_or_else(|| serde_json::Value::String(text.clone()))))
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let text = self.onnx.metadata.get(key).map_or("", String::as_str);
        let instead = match key {
            "standardization_mean" => ", or set mean",
            "standardization_std" => ", or set std",
            "size_multiple" => ", or set size-multiple",
            "input_range" => ", or set input-range",
            "activation" => ", or set activation",
            "class_names" | "names" => ", or set labels-file",
            "tile_size" | "tiles_size" => ", or set tile-size on the element that cuts tiles",
            "tiles_overlap" => ", or set overlap on the element that cuts tiles",
            "resolution" => ", or set resolution on rastersrc",
            _ => "",
        };
        Error::model(self.path, format!("metadata {key} is `{text}`; expected {expected}. Correct it{instead}"))
    }

    pub fn is_deepness(&self) -> bool {
        DEEPNESS.iter().any(|key| self.onnx.metadata.contains_key(*key))
    }

    fn number(&self, key: &'static str, expected: &str) -> Result<Option<Fact<f32>>> {
        let Some(value) = self.json(key)? else {
            return Ok(None);
        };
        let number = value.as_f64().or_else(|| value.as_str().and_then(|s| s.parse().ok()));
        let number = number.ok_or_else(|| self.wrong(key, expected))?;
        Ok(Some(Fact::new(number as f32, Source::Metadata(key))))
    }

    pub fn numbers(&self, key: &'static str) -> Result<Option<Fact<Vec<f32>>>> {
        let Some(value) = self.json(key)? else {
            return Ok(None);
        };
        let list: Option<Vec<f32>> = match &value {
            serde_json::Value::Array(list) => list.iter().map(|v| v.as_f64().map(|v| v as f32)).collect(),
            other => other.as_f64().map(|v| vec![v as f32]),
        };
        let list = list.filter(|list| !list.is_empty() && list.iter().all(|v| v.is_finite()));
        let list = list.ok_or_else(|| self.wrong(key, "a list of numbers"))?;
        if key == "standardization_std" && list.iter().any(|v| *v <= 0.0) {
            return Err(self.wrong(key, "numbers greater than 0"));
        }
        Ok(Some(Fact::new(list, Source::Metadata(key))))
    }

    pub fn range(&self, key: &'static str) -> Result<Option<Fact<(f32, f32)>>> {
        let wrong = || self.wrong(key, "two numbers [lo, hi], lo < hi");
        let Some(list) = self.numbers(key).map_err(|_| wrong())? else {
            return Ok(None);
        };
        match list.value[..] {
            [lo, hi] if lo < hi => Ok(Some(Fact::new((lo, hi), list.source))),
            _ => Err(wrong()),
        }
    }

    pub fn threshold(&self) -> Result<Option<Fact<f32>>> {
        match self.number("seg_thresh", "a number from 0 to 1")? {
            Some(told) if !(0.0..=1.0).contains(&told.value) => Err(self.wrong("seg_thresh", "a number from 0 to 1")),
            told => Ok(told),
        }
    }

    pub fn size_multiple(&self) -> Result<Option<Fact<usize>>> {
        self.whole("size_multiple", 4096)
    }

    /// A whole number from 1 to `most`.
    fn whole(&self, key: &'static str, most: u32) -> Result<Option<Fact<usize>>> {
        let expected = format!("a whole number from 1 to {most}");
        match self.number(key, &expected)? {
            None => Ok(None),
            Some(told) if (1.0..=most as f32).contains(&told.value) && told.value.fract() == 0.0 => {
                Ok(Some(Fact::new(told.value as usize, told.source)))
            }
            Some(_) => Err(self.wrong(key, &expected)),
        }
    }

    pub fn tiling(&self) -> Result<Tiling> {
        let overlap = match self.number("tiles_overlap", "a percentage from 0 to 50")? {
            Some(told) if !(0.0..=50.0).contains(&told.value) => {
                return Err(self.wrong("tiles_overlap", "a percentage from 0 to 50"));
            }
            told => told.map(|told| Fact::new(Overlap::Percent(told.value), told.source)),
        };
        let resolution = match self.number("resolution", "centimetres per pixel, more than 0")? {
            Some(told) if told.value.is_nan() || told.value <= 0.0 => {
                return Err(self.wrong("resolution", "centimetres per pixel, more than 0"));
            }
            told => told,
        };
        // Both spellings are in the wild.
        let tile = match self.whole("tile_size", 1 << 16)? {
            None => self.whole("tiles_size", 1 << 16)?,
            told => told,
        };
        Ok(Tiling { tile, overlap, resolution })
    }

    pub fn activation(&self) -> Result<Option<Fact<Activation>>> {
        let Some(value) = self.json("activation")? else {
            return Ok(None);
        };
        let activation = value.as_str().and_then(|text| Activation::parse("activation", text).ok());
        let activation = activation.ok_or_else(|| {
            let names: Vec<_> = Activation::NAMES.iter().map(|(n, _)| *n).collect();
            self.wrong("activation", &format!("one of {}", names.join(", ")))
        })?;
        Ok(Some(Fact::new(activation, Source::Metadata("activation"))))
    }

    /// Names of the classes of an output, by its index: `class_names`, else `names`. Several outputs may have a list with one
    /// entry each, as the Deepness plugin has it.
    pub fn class_names(&self, output: usize) -> Result<Option<Fact<Vec<String>>>> {
        for key in ["class_names", "names"] {
            let Some(value) = self.json(key)? else { continue };
            let of_output = match &value {
                serde_json::Value::Array(list) if list.first().is_some_and(|first| !first.is_string()) => {
                    list.get(output).filter(|_| list.iter().all(|item| item.is_object() || item.is_array()))
                }
                value => Some(value),
            };
            let names = of_output
                .and_then(names)
                .ok_or_else(|| self.wrong(key, "a list of names, or an object that names every class from \"0\" on"))?;
            return Ok(Some(Fact::new(names, Source::Metadata(key))));
        }
        Ok(None)
    }
}

/// Class names in their order.
fn names(value: &serde_json::Value) -> Option<Vec<String>> {
    match value {
        serde_json::Value::Array(list) => list.iter().map(|v| v.as_str().map(str::to_string)).collect(),
        serde_json::Value::Object(map) => {
            let pair = |(key, name): (&String, &serde_json::Value)| {
                Some((key.parse::<usize>().ok()?, name.as_str()?.to_string()))
            };
            let mut pairs: Vec<_> = map.iter().map(pair).collect::<Option<_>>()?;
            pairs.sort();
            let complete = pairs.iter().enumerate().all(|(k, (index, _))| k == *index);
            complete.then(|| pairs.into_iter().map(|(_, name)| name).collect())
        }
        _ => None,
    }
}
