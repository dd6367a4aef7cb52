//! The golden mosaics of `tests/golden/make_mosaic.py` (numpy, ONNX Runtime, MONAI): what goes in, what has to come out, and
//! how both are compared.
#![allow(dead_code)] // each test program uses a part

use std::collections::BTreeMap;
use std::fs::File;

use ndarray::{Array2, Array3};
use ndarray_npy::{NpzReader, ReadableElement};
use serde::Deserialize;

use crate::common;

#[derive(Debug, Deserialize)]
pub struct Case {
    pub name: String,
    pub models: Vec<String>,
    pub raster: String,
    #[serde(rename = "type")]
    pub sample: String,
    pub nodata: Option<String>,
    pub alpha: bool,
    pub bands: Option<String>,
    pub blend: String,
    pub tile: Option<i64>,
    pub overlap: Option<i64>,
    pub uncertainty: bool,
    pub settings: BTreeMap<String, String>,
    pub link: String,
    pub threshold: Option<f32>,
}

/// Largest difference of scores.
pub const TOLERANCE: f32 = 1e-5;
/// Labels may differ where a score is as near as this to the decision.
pub const MARGIN: f32 = 1e-4;

pub fn cases() -> Vec<Case> {
    let file = File::open(common::root().join("tests/golden/mosaic/cases.json")).unwrap();
    serde_json::from_reader(file).unwrap()
}

pub fn npz(name: &str) -> NpzReader<File> {
    let path = common::root().join(format!("tests/golden/mosaic/{name}.npz"));
    NpzReader::new(File::open(path).unwrap_or_else(|e| panic!("{name}: {e}"))).unwrap()
}

pub struct Expected {
    pub scores: Array3<f32>,
    pub labels: Array2<u8>,
    pub uncertainty: Option<Array2<f32>>,
}

impl Case {
    pub fn expected(&self) -> Expected {
        let mut file = npz(&self.name);
        Expected {
            scores: file.by_name("scores").unwrap(),
            labels: file.by_name("labels").unwrap(),
            uncertainty: self.uncertainty.then(|| file.by_name("uncertainty").unwrap()),
        }
    }

    /// The raster, `bands × height × width`.
    pub fn pixels<T: ReadableElement>(&self) -> Array3<T> {
        npz(&format!("raster-{}", self.raster)).by_name("pixels").unwrap()
    }

    pub fn element(&self) -> String {
        let models: Vec<_> = self.models.iter().map(|m| common::root().join(m).display().to_string()).collect();
        let settings: String = self.settings.iter().map(|(name, value)| format!(" {name}=\"{value}\"")).collect();
        format!("onnxsegment model-file=\"{}\"{settings}", models.join(","))
    }

    pub fn tiles(&self) -> String {
        let number = |name: &str, n: Option<i64>| n.map_or(String::new(), |n| format!(" {name}={n}"));
        number("tile-size", self.tile) + &number("overlap", self.overlap)
    }

    /// Probabilities from what leaves `tilemerge` as scores, which in the logit domain are merged logits.
    pub fn activate(&self, mut scores: Vec<f32>, pixels: usize) -> Vec<f32> {
        if self.settings.get("merge-domain").is_none_or(|domain| domain != "logit") {
            return scores;
        }
        let channels = scores.len() / pixels;
        if self.link == "sigmoid" {
            return scores.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
        }
        for at in 0..pixels {
            let sum: f32 = (0..channels).map(|c| scores[c * pixels + at].exp()).sum();
            (0..channels).for_each(|c| scores[c * pixels + at] = scores[c * pixels + at].exp() / sum);
        }
        scores
    }
}

/// The largest difference; NaN has to stand where it is expected, and only there.
pub fn worst<'a>(found: &[f32], expected: impl IntoIterator<Item = &'a f32>) -> f32 {
    let difference = |(a, b): (&f32, &f32)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) => (a - b).abs(),
        _ => f32::INFINITY,
    };
    found.iter().zip(expected).map(difference).fold(0.0, f32::max)
}

/// What is wrong with scores, in words.
pub fn compare(name: &str, what: &str, found: &[f32], expected: &Array3<f32>, tolerance: f32) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{name}: {what}: {} scores, expected {:?}", found.len(), expected.dim()));
    }
    let difference = worst(found, expected);
    (difference > tolerance).then(|| format!("{name}: {what}: scores differ by {difference:e}"))
}

pub fn compare_labels(case: &Case, what: &str, found: &[u8], expected: &Expected) -> Option<String> {
    if found.len() != expected.labels.len() {
        return Some(format!("{}: {what}: {} labels", case.name, found.len()));
    }
    for (value, (at, label)) in found.iter().zip(expected.labels.indexed_iter()) {
        let mut p: Vec<f32> = (0..expected.scores.dim().0).map(|c| expected.scores[[c, at.0, at.1]]).collect();
        let near = case.threshold.is_some_and(|t| p.iter().any(|p| (p - t).abs() < MARGIN));
        p.sort_by(|a, b| b.total_cmp(a));
        let tie = p.len() > 1 && p[0] - p[1] < MARGIN && p[0] != p[1];
        if value != label && !near && !tie {
            return Some(format!("{}: {what}: label at {at:?} is {value}, expected {label} ({p:?})", case.name));
        }
    }
    None
}
