//! Scores to labels: a threshold for one channel, the best class for several; and the value each class is written as.

use super::error::{Error, Result, count};
use super::math;
use super::merge::{Domain, Merged};

/// Label of pixels without data; in 16 bit [`NODATA_16`].
pub const NODATA: u8 = 255;
/// Label of pixels without data in 16-bit masks.
pub const NODATA_16: u16 = 65535;

/// How a frame's scores become the values of its mask.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// One channel: class 1 from here up (`None` = 0.5). Several: scores below it count as 0.
    pub threshold: Option<f32>,
    /// Added to the class index.
    pub offset: u16,
    /// The value of each class, instead of its index.
    pub values: Option<Vec<u16>>,
}

impl Decision {
    /// # Errors
    /// Settings that exclude each other, or values that do not fit the number of classes (`None` = not known yet).
    pub fn new(threshold: Option<f32>, offset: u16, values: Option<Vec<u16>>, classes: Option<usize>) -> Result<Self> {
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
        labels.clear();
        labels.resize(n, 0);
        // Without a threshold the best logit is the best probability.
        if merged.domain == Domain::Logit && merged.channels > 1 && self.threshold.is_none() {
            merged.score_rows(y, rows, &mut work.scores);
        } else {
            merged.probability_rows(y, rows, &mut work.scores, &mut work.scratch);
        }
        if merged.channels == 1 {
            let threshold = self.threshold.unwrap_or(0.5);
            labels.iter_mut().zip(&work.scores).for_each(|(l, p)| *l = u16::from(*p >= threshold));
            return;
        }
        if let Some(threshold) = self.threshold {
            work.scores.iter_mut().for_each(|p| *p = if *p >= threshold { *p } else { 0.0 });
        }
        let (best, others) = work.scores.split_at_mut(n);
        for (k, plane) in others.chunks_exact(n).enumerate() {
            math::keep_best(best, labels, plane, k as u16 + 1);
        }
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
        let at = |t| Decision::new(t, 0, None, Some(2)).unwrap();
        assert_eq!(labels(&at(None), &merged), [0, 1, 1]);
        assert_eq!(labels(&at(Some(0.7)), &merged), [0, 0, 1]);
    }

    #[test]
    fn ties_go_to_the_lowest_class_and_low_scores_count_as_nothing() {
        let merged = merged(3, &[0.4, 0.2, 0.3, 0.4, 0.2, 0.3, 0.2, 0.6, 0.4]);
        let at = |t| Decision::new(t, 0, None, Some(3)).unwrap();
        assert_eq!(labels(&at(None), &merged), [0, 2, 2]);
        assert_eq!(labels(&at(Some(0.5)), &merged), [0, 2, 0]);
    }

    #[test]
    fn values_and_offsets() {
        let plain = Decision::new(None, 1, None, Some(2)).unwrap();
        assert_eq!((plain.value(0), plain.value(1), plain.largest(2)), (1, 2, 2));
        let mask = Decision::new(None, 0, Some(vec![0, 255]), Some(2)).unwrap();
        assert_eq!(mask.value(1), 255);
        assert!(mask.fits_8_bit(2));
        assert!(!Decision::new(None, 250, None, Some(6)).unwrap().fits_8_bit(6));
        let error = Decision::new(None, 0, Some(vec![0, 1, 2]), Some(2)).unwrap_err().to_string();
        assert!(error.contains("mask-values=0,1,2") && error.contains("2 classes"), "{error}");
        assert!(Decision::new(None, 1, Some(vec![0, 1]), Some(2)).is_err());
    }
}
