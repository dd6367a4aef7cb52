//! The report of an evaluation: JSON for programs, a table for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::error::count;
use super::blocks::Block;
use super::bootstrap::{Interval, bootstrap};
use super::calibration::Reliability;
use super::confusion::{ClassCounts, Counts};
use super::evaluation::Evaluation;
use super::objects::{Connectivity, MATCH_IOU};

/// With fewer blocks than this to draw from, the report warns.
const FEW_BLOCKS: usize = 20;

/// A score and its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// `None` where it is not defined, or was left out.
    pub value: Option<f64>,
    /// `None` without a bootstrap, or where no draw defines the score.
    pub interval: Option<Interval>,
}

/// The scores of one class, or their means over the classes that are present.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub iou: Score,
    pub dice: Score,
    pub precision: Score,
    pub recall: Score,
    pub boundary_iou: Score,
    /// F1 of whole objects, matched at IoU 0.5.
    pub object_f1: Score,
}

/// Whole objects of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectCounts {
    pub true_positive: u64,
    pub false_positive: u64,
    pub false_negative: u64,
}

/// The mean of a class's scores over the images that have it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FrameMeans {
    /// Images that have the class in truth or prediction.
    pub frames: u64,
    pub iou: f64,
    pub dice: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    pub index: usize,
    pub name: String,
    /// Absent from truth and prediction: no scores, and not in any mean.
    pub skipped: bool,
    pub truth_pixels: u64,
    pub predicted_pixels: u64,
    #[serde(flatten)]
    pub scores: Scores,
    /// `None` where objects were left out, or the class is the background.
    pub objects: Option<ObjectCounts>,
    /// `None` for fewer than two images.
    pub over_frames: Option<FrameMeans>,
}

/// How the intervals came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootstrapReport {
    pub resamples: usize,
    pub seed: u64,
    /// Side of a block in pixels.
    pub block_size: usize,
    /// What was drawn from.
    pub blocks: usize,
    /// So many neighbouring blocks were drawn as one, because there were too many of them.
    pub joined: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundaryReport {
    /// In pixels; they differ where images of different sizes were scored.
    pub smallest_distance: usize,
    pub largest_distance: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectsReport {
    pub match_iou: f64,
    pub connectivity: Connectivity,
    pub min_area: u64,
    pub background: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationReport {
    pub pixels: u64,
    pub expected_error: Option<f64>,
    pub maximum_error: Option<f64>,
    pub reliability: Vec<Reliability>,
}

/// A score that is missing, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    pub score: String,
    pub reason: String,
}

/// Everything an evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Images, or mosaics of tiles.
    pub frames: u64,
    pub tiles: u64,
    /// Pixels that were scored.
    pub pixels: u64,
    /// Pixels that are nodata in truth or prediction.
    pub ignored_pixels: u64,
    pub classes: Vec<ClassReport>,
    /// Names of the classes that are in neither truth nor prediction, and therefore in no mean.
    pub skipped_classes: Vec<String>,
    /// Over the classes that are not skipped; of objects, over those that have any.
    pub mean: Scores,
    pub accuracy: Score,
    /// Cohen's.
    pub kappa: Score,
    /// Means over images of each image's scores; see `over_frames` of the classes. `None` for fewer than two images.
    pub mean_over_frames: Option<FrameMeans>,
    /// Pixels: a row per true class, a column per predicted class.
    pub confusion: Vec<Vec<u64>>,
    /// `None` where it was off.
    pub bootstrap: Option<BootstrapReport>,
    pub boundary: Option<BoundaryReport>,
    pub objects: Option<ObjectsReport>,
    pub calibration: Option<CalibrationReport>,
    pub left_out: Vec<LeftOut>,
    /// What else the reader should know.
    pub notes: Vec<String>,
}

/// Of which counts a score is, and by which formula.
type Formula = (fn(&Block) -> &ClassCounts, fn(&Counts) -> Option<f64>);

/// The scores of [`Scores`] in its order.
const FORMULAS: [Formula; 6] = [
    (|b| &b.pixels, Counts::iou),
    (|b| &b.pixels, Counts::dice),
    (|b| &b.pixels, Counts::precision),
    (|b| &b.pixels, Counts::recall),
    (|b| &b.boundary, Counts::iou),
    (|b| &b.objects, Counts::dice),
];

/// Accuracy, kappa, the means, and then each class, for the bootstrap.
fn scores(block: &Block, classes: usize) -> Vec<Option<f64>> {
    let mut all = vec![block.pixels.accuracy(), block.pixels.kappa()];
    all.extend(FORMULAS.map(|(counts, formula)| counts(block).mean(formula)));
    for class in 0..classes {
        all.extend(FORMULAS.map(|(counts, formula)| counts(block).0.get(class).and_then(formula)));
    }
    all
}

fn take(scores: &mut impl Iterator<Item = Score>) -> Scores {
    let mut next = || scores.next().unwrap_or_default();
    Scores { iou: next(), dice: next(), precision: next(), recall: next(), boundary_iou: next(), object_f1: next() }
}

impl Report {
    pub(super) fn of(evaluation: &Evaluation, names: &[String]) -> Report {
        let Evaluation { settings, confusion, blocks, .. } = evaluation;
        let classes = confusion.classes();
        let sum = blocks.sum();
        let values = scores(&sum, classes);
        let intervals = match settings.resamples {
            0 => vec![None; values.len()],
            n => bootstrap(blocks.all(), n, settings.seed, |block| scores(block, classes)),
        };
        let mut scores = values.into_iter().zip(intervals).map(|(value, interval)| Score { value, interval });
        let accuracy = scores.next().unwrap_or_default();
        let kappa = scores.next().unwrap_or_default();
        let mean = take(&mut scores);

        let whole = evaluation.tiles == 0;
        let several = whole && evaluation.frames > 1;
        let classes: Vec<ClassReport> = (0..classes)
            .map(|index| {
                let counts = confusion.counts(index);
                let objects = sum.objects.0.get(index).copied().unwrap_or_default();
                let over = evaluation.over_frames.get(index).filter(|over| several && over.frames > 0);
                ClassReport {
                    index,
                    name: names.get(index).cloned().unwrap_or_else(|| format!("class {index}")),
                    skipped: counts == Counts::default(),
                    truth_pixels: counts.true_positive + counts.false_negative,
                    predicted_pixels: counts.true_positive + counts.false_positive,
                    scores: take(&mut scores),
                    objects: (whole && settings.objects.background.map(usize::from) != Some(index)).then_some(
                        ObjectCounts {
                            true_positive: objects.true_positive,
                            false_positive: objects.false_positive,
                            false_negative: objects.false_negative,
                        },
                    ),
                    over_frames: over.map(|over| FrameMeans {
                        frames: over.frames,
                        iou: over.iou / over.frames as f64,
                        dice: over.dice / over.frames as f64,
                    }),
                }
            })
            .collect();
        let present: Vec<FrameMeans> = classes.iter().filter_map(|c| c.over_frames).collect();
        let mean_of = |value: fn(&FrameMeans) -> f64| present.iter().map(value).sum::<f64>() / present.len() as f64;

        let mut left_out = Vec::new();
        let mut leave_out = |score: &str, reason: &str| {
            left_out.push(LeftOut { score: score.into(), reason: reason.into() });
        };
        if !whole {
            let reason = "it needs whole images, and tiles cut outlines and objects; merge the tiles first";
            leave_out("boundary_iou", reason);
            leave_out("object_f1", reason);
        }
        if evaluation.calibration.is_none() {
            leave_out("calibration", "it needs probabilities, and none were given");
        }
        let drawn = blocks.all().len();
        let mut notes = Vec::new();
        if settings.resamples > 0 && drawn < FEW_BLOCKS {
            notes.push(format!("intervals say little where only {} can be drawn", count(drawn, "block")));
        }
        Report {
            frames: evaluation.frames,
            tiles: evaluation.tiles,
            pixels: confusion.total(),
            ignored_pixels: confusion.ignored(),
            skipped_classes: classes.iter().filter(|c| c.skipped).map(|c| c.name.clone()).collect(),
            classes,
            mean,
            accuracy,
            kappa,
            mean_over_frames: (!present.is_empty()).then(|| FrameMeans {
                frames: evaluation.frames,
                iou: mean_of(|m| m.iou),
                dice: mean_of(|m| m.dice),
            }),
            confusion: confusion.rows().map(<[u64]>::to_vec).collect(),
            bootstrap: (settings.resamples > 0).then(|| BootstrapReport {
                resamples: settings.resamples,
                seed: settings.seed,
                block_size: settings.block,
                blocks: blocks.all().len(),
                joined: blocks.joined(),
            }),
            boundary: evaluation
                .distances
                .map(|(low, high)| BoundaryReport { smallest_distance: low, largest_distance: high }),
            objects: whole.then_some(ObjectsReport {
                match_iou: MATCH_IOU,
                connectivity: settings.objects.connectivity,
                min_area: settings.objects.min_area,
                background: settings.objects.background,
            }),
            calibration: evaluation.calibration.as_ref().map(|calibration| CalibrationReport {
                pixels: calibration.pixels(),
                expected_error: calibration.expected_error(),
                maximum_error: calibration.maximum_error(),
                reliability: calibration.reliability(),
            }),
            left_out,
            notes,
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.value, self.interval) {
            (Some(value), Some((low, high))) => format!("{value:.3} ({low:.3} to {high:.3})"),
            (Some(value), None) => format!("{value:.3}"),
            (None, _) => "-".into(),
        };
        f.pad(&text)
    }
}

/// A table: a row per class and one of means, and what else was found below it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.classes.iter().filter(|c| !c.skipped).map(|c| (c.name.as_str(), &c.scores));
        let rows: Vec<(&str, &Scores)> = rows.chain([("mean", &self.mean)]).collect();
        let wide = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max("class".len());
        let cell = if self.bootstrap.is_some() { 22 } else { 12 };
        write!(f, "{:wide$}", "class")?;
        for head in ["IoU", "Dice", "precision", "recall", "boundary IoU", "object F1"] {
            write!(f, "  {head:cell$}")?;
        }
        for (name, s) in rows {
            write!(f, "\n{name:wide$}")?;
            for score in [s.iou, s.dice, s.precision, s.recall, s.boundary_iou, s.object_f1] {
                write!(f, "  {score:cell$}")?;
            }
        }
        write!(f, "\naccuracy {}, kappa {}", self.accuracy, self.kappa)?;
        write!(f, "\n{} pixels scored, {} without data", self.pixels, self.ignored_pixels)?;
        if let Some(calibration) = &self.calibration
            && let (Some(expected), Some(maximum)) = (calibration.expected_error, calibration.maximum_error)
        {
            write!(f, "\ncalibration error: expected {expected:.4}, maximum {maximum:.4}")?;
        }
        for class in &self.classes {
            if let Some(o) = class.objects.filter(|_| !class.skipped) {
                let (right, wrong, missed) = (o.true_positive, o.false_positive, o.false_negative);
                write!(f, "\nobjects of {}: {right} found, {wrong} wrong, {missed} missed", class.name)?;
            }
        }
        if !self.skipped_classes.is_empty() {
            write!(f, "\nskipped, in neither truth nor prediction: {}", self.skipped_classes.join(", "))?;
        }
        if let Some(b) = &self.bootstrap {
            write!(
                f,
                "\nin brackets: 95 % intervals of a block bootstrap, {} resamples of {} blocks of {} x {} pixels",
                b.resamples, b.blocks, b.block_size, b.block_size
            )?;
        }
        for left_out in &self.left_out {
            write!(f, "\nno {}: {}", left_out.score, left_out.reason)?;
        }
        for note in &self.notes {
            write!(f, "\n{note}")?;
        }
        Ok(())
    }
}
