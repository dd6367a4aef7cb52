//! Whole mosaics against an independent reference: `tests/golden/make_mosaic.py` (numpy, ONNX Runtime, MONAI).

use std::collections::BTreeMap;
use std::fs::File;

use gdal::raster::GdalType;
use gst::prelude::*;
use ndarray::{Array2, Array3};
use ndarray_npy::{NpzReader, ReadableElement};
use serde::Deserialize;

use crate::common;
use crate::raster::{Folder, Raster};

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

/// Largest difference of scores.
const TOLERANCE: f32 = 1e-5;
/// Labels may differ where a score is as near as this to the decision.
const MARGIN: f32 = 1e-4;

fn cases() -> Vec<Case> {
    let file = File::open(common::root().join("tests/golden/mosaic/cases.json")).unwrap();
    serde_json::from_reader(file).unwrap()
}

fn npz(name: &str) -> NpzReader<File> {
    let path = common::root().join(format!("tests/golden/mosaic/{name}.npz"));
    NpzReader::new(File::open(path).unwrap_or_else(|e| panic!("{name}: {e}"))).unwrap()
}

struct Expected {
    scores: Array3<f32>,
    labels: Array2<u8>,
    uncertainty: Option<Array2<f32>>,
}

impl Case {
    fn expected(&self) -> Expected {
        let mut file = npz(&self.name);
        Expected {
            scores: file.by_name("scores").unwrap(),
            labels: file.by_name("labels").unwrap(),
            uncertainty: self.uncertainty.then(|| file.by_name("uncertainty").unwrap()),
        }
    }

    fn pixels<T: ReadableElement + GdalType + Copy>(&self) -> Raster<T> {
        let pixels: Array3<T> = npz(&format!("raster-{}", self.raster)).by_name("pixels").unwrap();
        let (bands, height, width) = pixels.dim();
        Raster { bands, width, height, data: pixels.iter().copied().collect() }
    }

    fn write(&self, path: &str) {
        let nodata = self.nodata.as_ref().map(|text| text.parse().unwrap());
        match self.sample.as_str() {
            "u8" => self.pixels::<u8>().write(path, nodata, self.alpha),
            "u16" => self.pixels::<u16>().write(path, nodata, self.alpha),
            "i16" => self.pixels::<i16>().write(path, nodata, self.alpha),
            _ => self.pixels::<f32>().write(path, nodata, self.alpha),
        }
    }

    fn element(&self) -> String {
        let models: Vec<_> = self.models.iter().map(|m| common::root().join(m).display().to_string()).collect();
        let settings: String = self.settings.iter().map(|(name, value)| format!(" {name}=\"{value}\"")).collect();
        format!("onnxsegment model-file=\"{}\"{settings}", models.join(","))
    }

    fn tiles(&self) -> String {
        let number = |name: &str, n: Option<i64>| n.map_or(String::new(), |n| format!(" {name}={n}"));
        number("tile-size", self.tile) + &number("overlap", self.overlap)
    }

    fn source(&self, path: &str) -> String {
        let bands = self.bands.as_ref().map_or(String::new(), |bands| format!(" bands=\"{bands}\""));
        format!("rastersrc location=\"{path}\"{bands}{}", self.tiles())
    }

    /// The raster as one frame, and its caps: video where video can say it.
    fn frame(&self) -> (String, Vec<u8>) {
        fn all<T: Copy, const N: usize>(
            raster: Raster<T>,
            to: impl Fn(T) -> [u8; N],
        ) -> (usize, usize, usize, Vec<u8>) {
            (raster.bands, raster.width, raster.height, raster.data.iter().flat_map(|v| to(*v)).collect())
        }
        let (bands, width, height, data) = match self.sample.as_str() {
            "u8" => all(self.pixels::<u8>(), |v| [v]),
            "u16" => all(self.pixels::<u16>(), u16::to_le_bytes),
            "i16" => all(self.pixels::<i16>(), i16::to_le_bytes),
            _ => all(self.pixels::<f32>(), f32::to_le_bytes),
        };
        let size = format!("width={width},height={height},framerate=0/1");
        if self.sample == "u8" && bands == 3 {
            // Rows end at multiples of four bytes.
            let stride = (3 * width).next_multiple_of(4);
            let mut rgb = vec![0; stride * height];
            for (k, plane) in data.chunks_exact(width * height).enumerate() {
                for (at, v) in plane.iter().enumerate() {
                    rgb[at / width * stride + at % width * 3 + k] = *v;
                }
            }
            return (format!("video/x-raw,format=RGB,{size}"), rgb);
        }
        let format = match self.sample.as_str() {
            "u8" => "U8",
            "u16" => "U16LE",
            "i16" => "I16LE",
            _ => "F32LE",
        };
        (format!("raster/x-raw,format={format},layout=planar,bands={bands},{size}"), data)
    }

    /// Probabilities from what leaves `tilemerge` as scores, which in the logit domain are merged logits.
    fn activate(&self, mut scores: Vec<f32>, pixels: usize) -> Vec<f32> {
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
fn worst<'a>(found: &[f32], expected: impl IntoIterator<Item = &'a f32>) -> f32 {
    let difference = |(a, b): (&f32, &f32)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) => (a - b).abs(),
        _ => f32::INFINITY,
    };
    found.iter().zip(expected).map(difference).fold(0.0, f32::max)
}

/// What is wrong with scores, in words.
fn compare(name: &str, what: &str, found: &[f32], expected: &Array3<f32>, tolerance: f32) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{name}: {what}: {} scores, expected {:?}", found.len(), expected.dim()));
    }
    let difference = worst(found, expected);
    (difference > tolerance).then(|| format!("{name}: {what}: scores differ by {difference:e}"))
}

fn compare_labels(case: &Case, what: &str, found: &[u8], expected: &Expected) -> Option<String> {
    if found.len() != expected.labels.len() {
        return Some(format!("{}: {what}: {} labels", case.name, found.len()));
    }
    for (value, (at, label)) in found.iter().zip(expected.labels.indexed_iter()) {
        let mut p: Vec<f32> = (0..expected.scores.dim().0).map(|c| expected.scores[[c, at.0, at.1]]).collect();
        let threshold = case.threshold.unwrap_or(if p.len() == 1 { 0.5 } else { -1.0 });
        let near = p.iter().any(|p| (p - threshold).abs() < MARGIN);
        p.sort_by(|a, b| b.total_cmp(a));
        let tie = p.len() > 1 && p[0] - p[1] < MARGIN && p[0] != p[1];
        if value != label && !near && !tie {
            return Some(format!("{}: {what}: label at {at:?} is {value}, expected {label} ({p:?})", case.name));
        }
    }
    None
}

/// Plays to the end; everything that came to the sink `out`.
fn samples(pipeline: &common::Pipeline) -> Vec<gst::Sample> {
    let sink = pipeline.appsink("out");
    pipeline.set_state(gst::State::Playing).unwrap();
    let samples = common::rest(&sink);
    if let Some(message) = pipeline.bus().unwrap().pop_filtered(&[gst::MessageType::Error]) {
        panic!("{message:?}");
    }
    samples
}

fn floats(sample: &gst::Sample) -> Vec<f32> {
    let map = sample.buffer().unwrap().map_readable().unwrap();
    map.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Compares the one frame of scores that came.
fn merged(case: &Case, pipeline: &common::Pipeline, expected: &Expected) -> Vec<String> {
    let samples = samples(pipeline);
    let [sample] = &samples[..] else {
        return vec![format!("{}: {} frames, not one", case.name, samples.len())];
    };
    let scores = case.activate(floats(sample), expected.labels.len());
    compare(&case.name, "tilemerge", &scores, &expected.scores, TOLERANCE).into_iter().collect()
}

/// Raster to rasters: labels, probabilities in 16 bit, uncertainty.
fn by_files(case: &Case, folder: &Folder) -> Vec<String> {
    let expected = case.expected();
    let (input, labels) = (folder.path("in.tif"), folder.path("labels.tif"));
    let (probability, uncertainty) = (folder.path("probability.tif"), folder.path("uncertainty.tif"));
    case.write(&input);
    let more = if case.uncertainty { format!("uncertainty-location=\"{uncertainty}\"") } else { String::new() };
    let pipeline = common::launch(&format!(
        "{} ! {} ! rastersink location=\"{labels}\" probability-location=\"{probability}\" probability-depth=16 {more} \
         blend={} resume=false cog=false",
        case.source(&input),
        case.element(),
        case.blend,
    ));
    pipeline.finish();
    drop(pipeline);
    let found = Raster::<u8>::read(&labels);
    let mut wrong: Vec<String> = compare_labels(case, "rastersink", &found.data, &expected).into_iter().collect();
    // Half a step more: the values are rounded.
    let read = |path: &str| -> Vec<f32> {
        let value = |v: &u16| if *v == 65535 { f32::NAN } else { *v as f32 / 65534.0 };
        Raster::<u16>::read(path).data.iter().map(value).collect()
    };
    let tolerance = TOLERANCE + 0.5 / 65534.0;
    wrong.extend(compare(&case.name, "rastersink", &read(&probability), &expected.scores, tolerance));
    if let Some(expected) = &expected.uncertainty {
        let difference = worst(&read(&uncertainty), expected);
        if difference > tolerance {
            wrong.push(format!("{}: rastersink: uncertainty differs by {difference:e}", case.name));
        }
    }
    wrong
}

/// Raster to one frame of float scores.
fn by_raster_tiles(case: &Case, folder: &Folder) -> Vec<String> {
    let input = folder.path("in.tif");
    case.write(&input);
    let pipeline = common::launch(&format!(
        "{} ! {} ! tilemerge blend={} ! raster/x-raw ! appsink name=out sync=false",
        case.source(&input),
        case.element(),
        case.blend,
    ));
    merged(case, &pipeline, &case.expected())
}

/// One frame to one frame, of float scores and of labels.
fn by_frames(case: &Case) -> Vec<String> {
    let expected = case.expected();
    let (caps, data) = case.frame();
    let run = |output: &str| {
        let pipeline = common::launch(&format!(
            "appsrc name=in format=time caps=\"{caps}\" ! tilesplit{} ! {} ! tilemerge blend={} ! {output} \
             ! appsink name=out sync=false",
            case.tiles(),
            case.element(),
            case.blend,
        ));
        pipeline.set_state(gst::State::Playing).unwrap();
        let source = pipeline.appsrc("in");
        source.push_buffer(gst::Buffer::from_slice(data.clone())).unwrap();
        source.end_of_stream().unwrap();
        pipeline
    };
    let mut wrong = merged(case, &run("raster/x-raw"), &expected);
    let pipeline = run("video/x-raw,format=GRAY8");
    for sample in samples(&pipeline) {
        let found = common::pixels(sample.buffer().unwrap(), sample.caps().unwrap());
        wrong.extend(compare_labels(case, "tilemerge", &found, &expected));
    }
    wrong
}

fn check(what: &str, suits: impl Fn(&Case) -> bool, run: impl Fn(&Case, &Folder) -> Vec<String>) {
    let _watchdog = common::start();
    let folder = Folder::new(what);
    let cases = cases();
    let cases: Vec<_> = cases.iter().filter(|case| suits(case)).collect();
    assert!(cases.len() > 30, "only {} cases", cases.len());
    let wrong: Vec<String> = cases.iter().flat_map(|case| run(case, &folder)).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rasters_equal_the_reference() {
    check("golden-files", |_| true, by_files);
}

#[test]
fn merged_tiles_of_rasters_equal_the_reference() {
    check("golden-tiles", |_| true, by_raster_tiles);
}

#[test]
fn merged_tiles_of_frames_equal_the_reference() {
    let plain = |case: &Case| case.nodata.is_none() && !case.alpha && case.bands.is_none();
    check("golden-frames", plain, |case, _| by_frames(case));
}
