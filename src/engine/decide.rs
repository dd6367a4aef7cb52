//! Scores to labels: a threshold for one channel, the best class for several; and the value each class is written as.

use serde::{Deserialize, Serialize};

use super::error::{Error, Result, count};
use super::math;
use super::merge::{Domain, Merged};
use super::settings::join;

/// Label of pixels without data; in 16 bit [`NODATA_16`].
pub const NODATA: u8 = 255;
/// Label of pixels without data in 16-bit masks.
pub const NODATA_16: u16 = 65535;

/// What scores have to reach.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Threshold {
    /// 0.5 for one channel, nothing for several.
    #[default]
    None,
    All(f32),
    /// One per class.
    Each(Vec<f32>),
}

impl Threshold {
    /// What a class has to reach.
    pub fn of(&self, class: usize) -> Option<f32> {
        match self {
            Threshold::None => None,
            Threshold::All(threshold) => Some(*threshold),
            Threshold::Each(all) => all.get(class).copied(),
        }
    }

    /// Numbers joined by commas; `None` where there is none.
    pub fn text(&self) -> Option<String> {
        match self {
            Threshold::None => None,
            Threshold::All(threshold) => Some(threshold.to_string()),
            Threshold::Each(all) => Some(join(all)),
        }
    }
}

/// How a frame's scores become the values of its mask.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// One channel: class 1 from here up. Several: scores below it count as 0.
    pub threshold: Threshold,
    /// Added to the class index.
    pub offset: u16,
    /// The value of each class, instead of its index.
    pub values: Option<Vec<u16>>,
}

impl Decision {
    /// # Errors
    /// Settings that exclude each other, or values that do not fit the number of classes (`None` = not known yet).
    pub fn new(threshold: Threshold, offset: u16, values: Option<Vec<u16>>, classes: Option<usize>) -> Result<Self> {
        if let (Threshold::Each(all), Some(classes)) = (&threshold, classes)
            && all.len() != classes
        {
            let problem = format!("{} for {}; give one per class", count(all.len(), "value"), count(classes, "class"));
            return Err(Error::setting("class-thresholds", join(all), problem));
        }
        let list = |v: &[u16]| v.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        if let Some(values) = &values {
            if offset != 0 {
                return Err(Error::setting(
                    "mask-values",
                    list(values),
                    format!("and label-offset={offset} exclude each other; write the offset into mask-values"),
                ));
            }
            if classes.is_some_and(|c| c != values.len()) {
                return Err(Error::setting(
                    "mask-values",
                    list(values),
                    format!(
                        "{} for {}; give one per class",
                        count(values.len(), "value"),
                        count(classes.unwrap_or(0), "class")
                    ),
                ));
            }
        } else if classes.is_some_and(|c| c - 1 + offset as usize >= NODATA_16 as usize) {
            return Err(Error::setting(
                "label-offset",
                offset,
                "the largest label must stay below 65535, which is nodata",
            ));
        }
        Ok(Decision { threshold, offset, values })
    }

    /// The largest value that a mask of `classes` classes can hold.
    pub fn largest(&self, classes: usize) -> u16 {
        match &self.values {
            Some(values) => values.iter().copied().max().unwrap_or(0),
            None => (classes - 1) as u16 + self.offset,
        }
    }

    /// Whether all values fit 8-bit masks. Index-valued masks keep 255 for nodata.
    pub fn fits_8_bit(&self, classes: usize) -> bool {
        match &self.values {
            Some(_) => self.largest(classes) <= 255,
            None => self.largest(classes) < NODATA as u16,
        }
    }

    /// The class indices of rows `y…y+rows`, into `labels`: `rows × width`.
    pub fn classes(&self, merged: &Merged, y: usize, rows: usize, labels: &mut Vec<u16>, work: &mut Work) {
        let n = rows * merged.width;
        // Without a threshold the best logit is the best probability.
        if merged.domain == Domain::Logit && merged.channels > 1 && self.threshold == Threshold::None {
            merged.score_rows(y, rows, &mut work.scores);
        } else {
            merged.probability_rows(y, rows, &mut work.scores, &mut work.scratch);
        }
        if merged.channels == 1 {
            labels.clear();
            match &self.threshold {
                // As of the two channels 1 − p and p.
                Threshold::Each(_) => {
                    let [first, second] = [0, 1].map(|class| self.threshold.of(class).unwrap_or(0.0));
                    let is_second = |p: &f32| *p >= second && (*p > 1.0 - p || 1.0 - p < first);
                    labels.extend(work.scores.iter().map(|p| u16::from(is_second(p))));
                }
                threshold => {
                    let threshold = threshold.of(1).unwrap_or(0.5);
                    labels.extend(work.scores.iter().map(|p| u16::from(*p >= threshold)));
                }
            }
            return;
        }
        for (class, plane) in work.scores.chunks_exact_mut(n).enumerate() {
            if let Some(threshold) = self.threshold.of(class) {
                plane.iter_mut().for_each(|p| *p = if *p >= threshold { *p } else { 0.0 });
            }
        }
        math::best(&mut work.scores, n, labels);
    }

    /// The value that a class is written as.
    pub fn value(&self, class: u16) -> u16 {
        match &self.values {
            Some(values) => values.get(class as usize).copied().unwrap_or(class),
            None => class + self.offset,
        }
    }
}

/// Working memory, kept by whoever decides many frames.
#[derive(Default)]
pub struct Work {
    pub scores: Vec<f32>,
    pub scratch: Vec<f32>,
    pub labels: Vec<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::merge::{Merge, Merger, Rows, Rule, Scratch};
    use crate::engine::spec::{Form, Link};

    fn merged(channels: usize, scores: &[f32]) -> Merged {
        let width = scores.len() / channels;
        let mut merger = Merger::new(
            Rule { merge: Merge::Mean, domain: Domain::Probability, link: Link::Softmax },
            Some(channels),
            (1, width),
            None,
        );
        let rows = Rows { y: 0, scores: &mut scores.to_vec(), channels };
        merger.fold(rows, (Form::Probability, Link::Softmax, 1.0), 1.0, &mut Scratch::default());
        merger.end_pass(1.0);
        merger.finish()
    }

    fn labels(decision: &Decision, merged: &Merged) -> Vec<u16> {
        let mut labels = Vec::new();
        decision.classes(merged, 0, 1, &mut labels, &mut Work::default());
        labels
    }

    #[test]
    fn one_channel_is_cut_at_the_threshold() {
        let merged = merged(1, &[0.49, 0.5, 0.7]);
        let at = |threshold| Decision::new(threshold, 0, None, Some(2)).unwrap();
        assert_eq!(labels(&at(Threshold::None), &merged), [0, 1, 1]);
        assert_eq!(labels(&at(Threshold::All(0.7)), &merged), [0, 0, 1]);
    }

    #[test]
    fn ties_go_to_the_lowest_class_and_low_scores_count_as_nothing() {
        let merged = merged(3, &[0.4, 0.2, 0.3, 0.4, 0.2, 0.3, 0.2, 0.6, 0.4]);
        let at = |threshold| Decision::new(threshold, 0, None, Some(3)).unwrap();
        assert_eq!(labels(&at(Threshold::None), &merged), [0, 2, 2]);
        assert_eq!(labels(&at(Threshold::All(0.5)), &merged), [0, 2, 0]);
    }

    #[test]
    fn each_class_may_have_a_threshold_of_its_own() {
        // Pixels: class 0 wins, class 1 wins but does not reach its own, class 2 is second but the first is too low, none.
        let scores = [0.6, 0.1, 0.1, 0.2, 0.2, 0.6, 0.5, 0.3, 0.2, 0.3, 0.4, 0.3];
        let decision = Decision::new(Threshold::Each(vec![0.5, 0.7, 0.35]), 0, None, Some(3)).unwrap();
        assert_eq!(labels(&decision, &merged(3, &scores)), [0, 0, 2, 0]);
        // One channel is as the pair.
        for pair in [[0.3, 0.6], [0.8, 0.2], [0.0, 0.5], [0.5, 0.9]] {
            let decision = Decision::new(Threshold::Each(pair.to_vec()), 0, None, Some(2)).unwrap();
            let p: Vec<f32> = (0..64).map(|k| k as f32 / 64.0).collect();
            let two: Vec<f32> = p.iter().map(|p| 1.0 - p).chain(p.iter().copied()).collect();
            assert_eq!(labels(&decision, &merged(1, &p)), labels(&decision, &merged(2, &two)), "{pair:?}");
        }
        let error = Decision::new(Threshold::Each(vec![0.5]), 0, None, Some(3)).unwrap_err().to_string();
        assert!(error.contains("class-thresholds=0.5") && error.contains("3 classes"), "{error}");
    }

    #[test]
    fn values_and_offsets() {
        let plain = Decision::new(Threshold::None, 1, None, Some(2)).unwrap();
        assert_eq!((plain.value(0), plain.value(1), plain.largest(2)), (1, 2, 2));
        let mask = Decision::new(Threshold::None, 0, Some(vec![0, 255]), Some(2)).unwrap();
        assert_eq!(mask.value(1), 255);
        assert!(mask.fits_8_bit(2));
        assert!(!Decision::new(Threshold::None, 250, None, Some(6)).unwrap().fits_8_bit(6));
        let error = Decision::new(Threshold::None, 0, Some(vec![0, 1, 2]), Some(2)).unwrap_err().to_string();
        assert!(error.contains("mask-values=0,1,2") && error.contains("2 classes"), "{error}");
        assert!(Decision::new(Threshold::None, 1, Some(vec![0, 1]), Some(2)).is_err());
    }
}
