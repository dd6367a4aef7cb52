//! `tilesplit ! onnxsegment ! tilemerge` against an independent reference: `tests/golden/make_mosaic.py`.

use std::collections::BTreeMap;
use std::fs::File;

use ndarray::{Array2, Array3};
use ndarray_npy::{NpzReader, ReadableElement};
use serde::Deserialize;

use crate::common::*;
use crate::*;

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    models: Vec<String>,
    raster: String,
    #[serde(rename = "type")]
    sample: String,
    nodata: Option<String>,
    alpha: bool,
    bands: Option<String>,
    blend: String,
    tile: Option<i64>,
    overlap: Option<i64>,
    uncertainty: bool,
    settings: BTreeMap<String, String>,
    link: String,
    threshold: Option<f32>,
}

impl Case {
    /// A frame has no nodata, no alpha that means any, and its bands are its caps'.
    fn is_a_frame(&self) -> bool {
        self.nodata.is_none() && !self.alpha && self.bands.is_none() && !self.uncertainty
    }

    fn npz(&self, name: &str) -> NpzReader<File> {
        NpzReader::new(File::open(root().join(format!("tests/golden/mosaic/{name}.npz"))).unwrap()).unwrap()
    }

    /// The raster as a frame: bytes, and caps.
    fn frame(&self) -> (Vec<u8>, String) {
        match self.sample.as_str() {
            "u8" => self.packed(|v: u8| vec![v]),
            "u16" => self.packed(|v: u16| v.to_le_bytes().to_vec()),
            other => panic!("{other} without nodata"),
        }
    }

    fn packed<T: ReadableElement + Copy>(&self, bytes: impl Fn(T) -> Vec<u8>) -> (Vec<u8>, String) {
        let pixels: Array3<T> = self.npz(&format!("raster-{}", self.raster)).by_name("pixels").unwrap();
        let (bands, height, width) = pixels.dim();
        let (format, raster) = match (bands, self.sample.as_str()) {
            (1, "u8") => ("GRAY8", "U8"),
            (1, _) => ("GRAY16_LE", "U16LE"),
            (3, "u8") => ("RGB", "U8"),
            (_, "u8") => ("", "U8"),
            _ => ("", "U16LE"),
        };
        if format.is_empty() {
            let caps = format!(
                "raster/x-raw,format={raster},layout=planar,bands={bands},width={width},height={height},framerate=25/1"
            );
            return (pixels.iter().flat_map(|v| bytes(*v)).collect(), caps);
        }
        let mut data = Vec::new();
        for y in 0..height {
            for x in 0..width {
                (0..bands).for_each(|b| data.extend(bytes(pixels[(b, y, x)])));
            }
            data.resize(data.len().next_multiple_of(4), 0);
        }
        (data, caps(format, (width, height)))
    }

    fn run(&self, follows: &str) -> (gst::Buffer, gst::Caps) {
        let models: Vec<_> = self.models.iter().map(|m| root().join(m).display().to_string()).collect();
        let settings: String = self.settings.iter().map(|(name, value)| format!("{name}=\"{value}\" ")).collect();
        let number = |name: &str, value: Option<i64>| value.map_or(String::new(), |v| format!("{name}={v} "));
        let mut h = parsed(&format!(
            "tilesplit {}{} ! onnxsegment model-file=\"{}\" {settings} ! tilemerge blend={} ! capsfilter caps={follows}",
            number("tile-size", self.tile),
            number("overlap", self.overlap),
            models.join(","),
            self.blend
        ));
        h.play();
        let (data, caps) = self.frame();
        h.set_src_caps_str(&caps);
        let found = h.push_and_pull(gst::Buffer::from_mut_slice(data)).unwrap();
        (found, caps_of(&h))
    }

    /// Scores to probabilities, where they are logits.
    fn activate(&self, scores: &mut [f32], n: usize) {
        if self.settings.get("merge-domain").is_none_or(|d| d != "logit") {
            return;
        }
        if self.link == "sigmoid" {
            return scores.iter_mut().for_each(|z| *z = 1.0 / (1.0 + (-*z).exp()));
        }
        for k in 0..n {
            let sum: f32 = scores[k..].iter().step_by(n).map(|z| z.exp()).sum();
            scores[k..].iter_mut().step_by(n).for_each(|z| *z = z.exp() / sum);
        }
    }
}

/// Largest difference of scores.
const TOLERANCE: f32 = 1e-5;
/// Labels may differ where a score is as near as this to the decision.
const MARGIN: f32 = 1e-4;

#[test]
fn frames_equal_the_reference() {
    let _w = start();
    let file = File::open(root().join("tests/golden/mosaic/cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_reader(file).unwrap();
    let cases: Vec<_> = cases.iter().filter(|c| c.is_a_frame()).collect();
    assert!(cases.len() >= 40, "{}", cases.len());
    for case in cases {
        let expected: Array3<f32> = case.npz(&case.name).by_name("scores").unwrap();
        let labels: Array2<u8> = case.npz(&case.name).by_name("labels").unwrap();
        let (bands, height, width) = expected.dim();
        let (found, _) = case.run("raster/x-raw");
        let mut scores: Vec<f32> =
            found.map_readable().unwrap().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        case.activate(&mut scores, width * height);
        assert_eq!(scores.len(), bands * width * height, "{}", case.name);
        let worst = scores.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{}: {worst:.1e}", case.name);
        assert!(worst <= TOLERANCE, "{}: {worst}", case.name);

        let (found, caps) = case.run("video/x-raw,format=GRAY8");
        let found = pixels(&found, &caps);
        for (k, (found, expected_label)) in found.iter().zip(&labels).enumerate() {
            let p: Vec<f32> = (0..bands).map(|b| expected[(b, k / width, k % width)]).collect();
            let mut sorted = p.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let near = case.threshold.is_some_and(|t| p.iter().any(|p| (p - t).abs() < MARGIN))
                || bands > 1 && sorted[0] - sorted[1] < MARGIN;
            assert!(found == expected_label || near, "{} pixel {k}: {found} {expected_label} {p:?}", case.name);
        }
    }
}
