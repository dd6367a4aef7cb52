//! Scores against an independent reference: `tests/golden/make_metrics.py` (scikit-learn, SciPy).

use std::fs::File;

use gstonnxsegment::engine::metrics::evaluation::Settings;
use gstonnxsegment::engine::metrics::{Connectivity, Evaluation, LabelMap, Objects, Report, calibration, report};
use ndarray::Array2;
use ndarray_npy::{NpzReader, ReadableElement};
use serde::Deserialize;

use crate::common;

#[derive(Debug, Deserialize)]
pub struct Case {
    pub name: String,
    settings: Stated,
    distance: usize,
    pixels: u64,
    ignored_pixels: u64,
    number_of_classes: usize,
    classes: Vec<Class>,
    accuracy: f64,
    kappa: Option<f64>,
    confusion: Vec<Vec<u64>>,
    calibration: Option<Calibration>,
    mean_iou_interval: (f64, f64),
}

#[derive(Debug, Deserialize)]
struct Stated {
    boundary: Option<usize>,
    block: Option<usize>,
    background: Option<i32>,
    connectivity: Option<u8>,
    min_area: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Class {
    index: usize,
    iou: f64,
    dice: f64,
    precision: f64,
    recall: f64,
    boundary_iou: f64,
    objects: Option<report::ObjectCounts>,
    object_f1: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Calibration {
    expected_error: f64,
    maximum_error: f64,
}

/// The masks of a case.
pub struct Masks {
    pub predicted: LabelMap,
    pub truth: LabelMap,
    pub confidence: Option<Vec<f32>>,
}

pub fn cases() -> Vec<Case> {
    let path = common::root().join("tests/golden/metrics/cases.json");
    serde_json::from_reader(File::open(path).unwrap()).unwrap()
}

impl Case {
    pub fn masks(&self) -> Masks {
        let path = common::root().join(format!("tests/golden/metrics/{}.npz", self.name));
        let mut file = NpzReader::new(File::open(path).unwrap()).unwrap();
        fn array<T: ReadableElement>(file: &mut NpzReader<File>, name: &str) -> Option<Array2<T>> {
            file.by_name(name).ok()
        }
        let mut map = |name: &str| {
            let labels: Array2<u16> = array(&mut file, name).unwrap();
            let (height, width) = labels.dim();
            LabelMap::new(width, height, labels.into_iter().collect()).unwrap()
        };
        let (predicted, truth) = (map("predicted"), map("truth"));
        Masks { predicted, truth, confidence: array(&mut file, "confidence").map(|c| c.into_iter().collect()) }
    }

    pub fn settings(&self) -> Settings {
        let stated = &self.settings;
        Settings {
            boundary: stated.boundary,
            block: stated.block.unwrap_or(75),
            objects: Objects {
                connectivity: match stated.connectivity {
                    Some(8) => Connectivity::Eight,
                    _ => Connectivity::Four,
                },
                min_area: stated.min_area.unwrap_or(0),
                background: u16::try_from(stated.background.unwrap_or(0)).ok(),
            },
            ..Settings::default()
        }
    }

    /// The same for the element.
    pub fn properties(&self) -> String {
        let stated = &self.settings;
        let mut text = String::new();
        for (name, value) in [
            ("boundary-distance", stated.boundary.map(|v| v as i64)),
            ("block-size", stated.block.map(|v| v as i64)),
            ("background", stated.background.map(i64::from)),
            ("connectivity", stated.connectivity.map(i64::from)),
            ("min-object-area", stated.min_area.map(|v| v as i64)),
        ] {
            if let Some(value) = value {
                text += &format!(" {name}={value}");
            }
        }
        text
    }

    fn evaluate(&self, settings: Settings) -> Report {
        let masks = self.masks();
        let mut evaluation = Evaluation::new(settings).unwrap();
        evaluation.add_frame(&masks.predicted, &masks.truth, masks.confidence.as_deref()).unwrap();
        evaluation.report(&[])
    }

    /// Every score but the intervals.
    pub fn compare(&self, report: &Report) {
        let name = &self.name;
        let close = |what: &str, found: Option<f64>, expected: Option<f64>| match (found, expected) {
            (Some(found), Some(expected)) => {
                assert!((found - expected).abs() <= 1e-12, "{name}: {what} {found}, not {expected}");
            }
            (found, expected) => assert_eq!(found, expected, "{name}: {what}"),
        };
        assert_eq!((report.pixels, report.ignored_pixels), (self.pixels, self.ignored_pixels), "{name}");
        assert_eq!(report.classes.len(), self.number_of_classes, "{name}");
        close("accuracy", report.accuracy.value, Some(self.accuracy));
        close("kappa", report.kappa.value, self.kappa);
        let present: Vec<_> = report.classes.iter().filter(|c| !c.skipped).collect();
        assert_eq!(present.len(), self.classes.len(), "{name}");
        for (found, expected) in present.iter().zip(&self.classes) {
            assert_eq!(found.index, expected.index, "{name}");
            let scores = &found.scores;
            close("IoU", scores.iou.value, Some(expected.iou));
            close("Dice", scores.dice.value, Some(expected.dice));
            close("precision", scores.precision.value, Some(expected.precision));
            close("recall", scores.recall.value, Some(expected.recall));
            close("boundary IoU", scores.boundary_iou.value, Some(expected.boundary_iou));
            close("object F1", scores.object_f1.value, expected.object_f1);
            assert_eq!(found.objects, expected.objects, "{name}");
        }
        type Pick = (fn(&Class) -> Option<f64>, fn(&report::Scores) -> report::Score);
        let picks: [Pick; 6] = [
            (|c| Some(c.iou), |s| s.iou),
            (|c| Some(c.dice), |s| s.dice),
            (|c| Some(c.precision), |s| s.precision),
            (|c| Some(c.recall), |s| s.recall),
            (|c| Some(c.boundary_iou), |s| s.boundary_iou),
            (|c| c.object_f1, |s| s.object_f1),
        ];
        for (expected, found) in picks {
            let values: Vec<f64> = self.classes.iter().filter_map(expected).collect();
            let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
            close("mean", found(&report.mean).value, mean);
        }
        let confusion: Vec<Vec<u64>> =
            present.iter().map(|t| present.iter().map(|p| report.confusion[t.index][p.index]).collect()).collect();
        assert_eq!(confusion, self.confusion, "{name}");
    }

    pub fn compare_calibration(&self, report: &Report) {
        let (Some(found), Some(expected)) = (&report.calibration, &self.calibration) else {
            assert!(report.calibration.is_none() && self.calibration.is_none(), "{}", self.name);
            return;
        };
        for (found, expected) in
            [(found.expected_error, expected.expected_error), (found.maximum_error, expected.maximum_error)]
        {
            assert!((found.unwrap() - expected).abs() <= 1e-12, "{}: {found:?}, not {expected}", self.name);
        }
        assert_eq!(found.pixels, self.pixels);
        assert_eq!(found.reliability.len(), calibration::BINS);
    }
}

#[test]
fn scores_equal_the_reference() {
    let cases = cases();
    assert!(cases.len() >= 9, "{}", cases.len());
    for case in cases {
        let report = case.evaluate(Settings { resamples: 0, ..case.settings() });
        case.compare(&report);
        case.compare_calibration(&report);
        if let Some(boundary) = report.boundary {
            assert_eq!((boundary.smallest_distance, boundary.largest_distance), (case.distance, case.distance));
        }
        assert_eq!(report.mean.iou.interval, None);
    }
}

#[test]
fn intervals_agree_with_numpys_up_to_chance() {
    for case in cases() {
        let report = case.evaluate(Settings { resamples: 20_000, ..case.settings() });
        let (low, high) = report.mean.iou.interval.unwrap();
        let (expected_low, expected_high) = case.mean_iou_interval;
        // 20 000 draws place a percentile to about a fiftieth of the interval.
        let near = 0.04 * (expected_high - expected_low) + 1e-12;
        assert!((low - expected_low).abs() <= near, "{}: {low}, not {expected_low}", case.name);
        assert!((high - expected_high).abs() <= near, "{}: {high}, not {expected_high}", case.name);
    }
}

#[test]
fn tiles_score_as_the_whole_and_say_what_they_leave_out() {
    for case in cases() {
        let masks = case.masks();
        let whole = case.evaluate(case.settings());
        let mut evaluation = Evaluation::new(case.settings()).unwrap();
        let (width, height) = (masks.truth.width, masks.truth.height);
        evaluation.begin_mosaic(width, height).unwrap();
        for y in (0..height).step_by(17) {
            for x in (0..width).step_by(23) {
                let (w, h) = (23.min(width - x), 17.min(height - y));
                let rows = || (y..y + h).map(|y| y * width + x..y * width + x + w);
                let cut =
                    |map: &LabelMap| LabelMap::new(w, h, rows().flat_map(|r| map.data[r].to_vec()).collect()).unwrap();
                let confidence =
                    masks.confidence.as_ref().map(|c| rows().flat_map(|r| c[r].to_vec()).collect::<Vec<f32>>());
                let (predicted, truth) = (cut(&masks.predicted), cut(&masks.truth));
                evaluation.add_tile(&predicted, &truth, confidence.as_deref(), (x, y)).unwrap();
            }
        }
        let tiles = evaluation.report(&[]);
        assert_eq!(tiles.confusion, whole.confusion);
        assert_eq!(tiles.mean.iou, whole.mean.iou, "{}: the same blocks, so the same draws", case.name);
        assert_eq!(tiles.kappa, whole.kappa);
        case.compare_calibration(&tiles);
        assert_eq!((tiles.frames, tiles.boundary, tiles.objects), (1, None, None));
        let left_out: Vec<_> = tiles.left_out.iter().map(|l| l.score.as_str()).collect();
        assert_eq!(left_out[..2], ["boundary_iou", "object_f1"]);
        assert!(tiles.classes.iter().all(|c| c.objects.is_none() && c.scores.boundary_iou.value.is_none()));
    }
}

#[test]
fn a_report_survives_json() {
    let case = &cases()[0];
    let report = case.evaluate(case.settings());
    let text = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&text).unwrap();
    case.compare(&read);
    assert_eq!(read.to_string(), report.to_string());
}
