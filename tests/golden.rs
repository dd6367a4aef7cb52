//! The engine against an independent reference: `tests/golden/make_golden.py` (numpy, ONNX Runtime, ttach).

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use gstonnxsegment::engine::decide::Work;
use gstonnxsegment::engine::merge::{Domain, Merge};
use gstonnxsegment::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};
use gstonnxsegment::engine::settings::Source;
use gstonnxsegment::engine::{Ensemble, Merged, Settings};
use ndarray::{Array2, Array3, ArrayD};
use ndarray_npy::ReadNpyExt;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
struct Case {
    name: String,
    models: Vec<String>,
    settings: HashMap<String, String>,
    frame: String,
    format: String,
    scores: String,
    labels: String,
    threshold: Option<f32>,
    #[serde(default)]
    uncertainty: HashMap<String, String>,
    tolerance: Option<f32>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn golden() -> PathBuf {
    root().join("tests/golden")
}

fn npy<T: ReadNpyExt>(name: &str) -> T {
    T::read_npy(File::open(golden().join(name)).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A frame's bytes, and where its bands lie: `start`, `step`, `stride` in bytes.
struct Stored {
    bytes: Vec<u8>,
    format: FrameFormat,
    bands: Vec<(usize, usize, usize)>,
}

impl Frame for Stored {
    fn view(&self) -> FrameView<'_> {
        let band = |&(start, step, stride): &(usize, usize, usize)| Band { data: &self.bytes[start..], step, stride };
        FrameView { format: self.format, bands: self.bands.iter().map(band).collect() }
    }
}

fn samples(name: &str, sample: Sample) -> (Vec<usize>, Vec<u8>) {
    fn bytes<T: Copy, const N: usize>(array: ArrayD<T>, f: impl Fn(T) -> [u8; N]) -> (Vec<usize>, Vec<u8>) {
        (array.shape().to_vec(), array.iter().flat_map(|v| f(*v)).collect())
    }
    match sample {
        Sample::U8 => bytes(npy(name), |v: u8| [v]),
        Sample::U16Le => bytes(npy(name), u16::to_le_bytes),
        Sample::U16Be => bytes(npy(name), u16::to_be_bytes),
        Sample::I16Le => bytes(npy(name), i16::to_le_bytes),
        Sample::F32Le => bytes(npy(name), f32::to_le_bytes),
    }
}

fn frame(case: &Case) -> Stored {
    let header = std::fs::read(golden().join(&case.frame)).unwrap();
    let header = String::from_utf8_lossy(&header[..128]).into_owned();
    let types = [("u1", Sample::U8), ("<u2", Sample::U16Le), ("<i2", Sample::I16Le), ("<f4", Sample::F32Le)];
    let (_, sample) = types.into_iter().find(|(name, _)| header.contains(name)).expect("a known type of samples");
    let (shape, bytes) = samples(&case.frame, sample);
    let size = sample.size();
    let order: Vec<usize> = match case.format.as_str() {
        "BGR" => vec![2, 1, 0],
        "BGRA" => vec![2, 1, 0, 3],
        "ARGB" => vec![1, 2, 3, 0],
        "ABGR" => vec![3, 2, 1, 0],
        "RGBx" => vec![0, 1, 2],
        "xRGB" => vec![1, 2, 3],
        "BGRx" => vec![2, 1, 0],
        "xBGR" => vec![3, 2, 1],
        _ => (0..).take(shape.len().max(3) + 2).collect(),
    };
    let (height, width, bands): (usize, usize, Vec<(usize, usize, usize)>) = match shape[..] {
        [h, w] => (h, w, vec![(0, size, w * size)]),
        [bands, h, w] if case.format.starts_with("planar") => {
            (h, w, (0..bands).map(|b| (b * h * w * size, size, w * size)).collect())
        }
        [h, w, channels] => {
            let order = order.into_iter().filter(|b| *b < channels);
            let bands = order.take(if case.format.contains('x') { 3 } else { channels });
            (h, w, bands.map(|b| (b * size, channels * size, w * channels * size)).collect())
        }
        _ => panic!("{}: frame of shape {shape:?}", case.name),
    };
    Stored { bytes, format: FrameFormat { width, height, bands: bands.len(), sample }, bands }
}

fn settings(case: &Case) -> Settings {
    let mut settings = Settings::default();
    let models: Vec<_> = case.models.iter().map(|m| root().join(m).display().to_string()).collect();
    if !models.is_empty() {
        settings.set("model-file", &models.join(","), Source::Property, Path::new("")).unwrap();
    }
    let kinds: Vec<_> = case.uncertainty.keys().collect();
    assert!(kinds.len() <= 4);
    for (name, value) in case.settings.iter().filter(|(name, _)| *name != "config-file") {
        settings.set(name, value, Source::Property, &root()).unwrap();
    }
    match case.settings.get("config-file") {
        Some(file) => settings.or(Settings::from_config(&root().join(file)).unwrap()),
        None => settings,
    }
}

fn run(case: &Case, settings: &Settings) -> (Ensemble, std::sync::Arc<Merged>) {
    let ensemble = Ensemble::load(settings).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let frame = frame(case);
    let plan = ensemble.plan(frame.format).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let job = ensemble.submit(&plan, Box::new(frame), !case.uncertainty.is_empty(), None);
    ensemble.seal();
    let merged = job.wait().unwrap_or_else(|e| panic!("{}: {e}", case.name));
    (ensemble, merged)
}

/// The largest difference between probabilities; shapes must agree.
fn worst(found: &[f32], expected: &ArrayD<f32>) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn check(case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut settings = settings(case);
    let (ensemble, merged) = run(case, &settings);
    let tolerance = case.tolerance.unwrap_or(1e-5);

    let expected: ArrayD<f32> = npy(&case.scores);
    let mut scores = Vec::new();
    merged.probability_rows(0, merged.height, &mut scores, &mut Vec::new());
    let shape = [merged.channels, merged.height, merged.width];
    if expected.shape() != shape {
        return vec![format!("{}: scores are {shape:?}, expected {:?}", case.name, expected.shape())];
    }
    let difference = worst(&scores, &expected);
    if difference > tolerance || difference.is_nan() {
        wrong.push(format!("{}: scores differ by {difference:e}", case.name));
    }

    let expected: Array3<f32> = npy(&case.scores);
    let labels: Array2<u8> = npy(&case.labels);
    let (mut found, mut work) = (Vec::new(), Work::default());
    ensemble.decision().classes(&merged, 0, merged.height, &mut found, &mut work);
    for (class, (at, label)) in found.iter().zip(labels.indexed_iter()) {
        let p: Vec<f32> = (0..merged.channels).map(|c| expected[[c, at.0, at.1]]).collect();
        // A pixel within a hair of the decision may fall either way.
        let threshold = case.threshold.unwrap_or(if p.len() == 1 { 0.5 } else { -1.0 });
        let margin = tolerance.max(1e-4);
        let mut sorted = p.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let tie = sorted.len() > 1 && sorted[0] - sorted[1] < margin && sorted[0] != sorted[1];
        let close = p.iter().any(|p| (p - threshold).abs() < margin) || tie;
        let value = ensemble.decision().value(*class);
        if value != *label as u16 && !close {
            wrong.push(format!("{}: label at {at:?} is {value}, expected {label} ({p:?})", case.name));
            break;
        }
    }

    for (kind, file) in &case.uncertainty {
        settings.set("uncertainty-kind", kind, Source::Property, Path::new("")).unwrap();
        let (_, merged) = run(case, &settings);
        let mut found = Vec::new();
        merged.uncertainty_rows(0, merged.height, &mut found).unwrap();
        let difference = worst(&found, &npy(file));
        if difference > tolerance || difference.is_nan() {
            wrong.push(format!("{}: {kind} differs by {difference:e}", case.name));
        }
    }
    wrong
}

fn cases() -> Vec<Case> {
    let file = File::open(golden().join("cases.json")).unwrap();
    serde_json::from_reader(file).unwrap()
}

#[test]
fn results_equal_the_reference() {
    let cases = cases();
    assert!(cases.len() > 100, "only {} cases", cases.len());
    let wrong: Vec<String> = cases.iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The labels of the reference's cases, where a frame may stop early, are those of all passes.
#[test]
fn an_exact_cascade_leaves_every_label() {
    let (mut saved, mut run_in_full) = (0, 0);
    for case in cases() {
        let mut settings = settings(&case);
        let labels = |settings: &Settings| {
            let (ensemble, merged) = run(&Case { uncertainty: Default::default(), ..case.clone() }, settings);
            let (mut found, mut work) = (Vec::new(), Work::default());
            ensemble.decision().classes(&merged, 0, merged.height, &mut found, &mut work);
            (found, ensemble)
        };
        let (all, ensemble) = labels(&settings);
        if ensemble.stacker().is_some() {
            continue; // refused, as another test knows
        }
        settings.set("cascade", "exact", Source::Property, Path::new("")).unwrap();
        let suits = matches!(ensemble.merge(), Merge::Mean | Merge::Tsharpen | Merge::Vote);
        if !suits || ensemble.domain() == Domain::Logit || ensemble.channels().is_none() {
            let error = Ensemble::load(&settings).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with("cascade=exact: "), "{}: {error}", case.name);
            continue;
        }
        let (early, ensemble) = labels(&settings);
        assert!(early == all, "{}: labels differ", case.name);
        (saved, run_in_full) = (saved + ensemble.stats().saved, run_in_full + ensemble.passes() as u64);
    }
    assert!(saved > 0 && saved < run_in_full, "{saved} of {run_in_full} passes saved");
}

#[test]
fn results_do_not_depend_on_threads_or_batches() {
    let names = [
        "merge-weighted-three-prob",
        "tta-d4",
        "fixed-batch4-d4",
        "mixed-d4-uncertainty",
        "quarter-d4-logit",
        "samples-many",
    ];
    for case in cases().iter().filter(|c| names.contains(&c.name.as_str())) {
        let mut results = Vec::new();
        for threads in ["1", "2", "3", "8"] {
            let mut settings = settings(case);
            settings.set("threads", threads, Source::Property, Path::new("")).unwrap();
            results.push(run(case, &settings).1.scores.clone());
        }
        assert!(results.windows(2).all(|r| r[0] == r[1]), "{}: differs with the number of threads", case.name);
        for batch in ["2", "3", "7", "16"] {
            let mut settings = settings(case);
            settings.set("batch-size", batch, Source::Property, Path::new("")).unwrap();
            let scores = run(case, &settings).1.scores.clone();
            let difference = scores.iter().zip(&results[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference <= 1e-6, "{}: batch {batch} differs by {difference:e}", case.name);
        }
    }
}
