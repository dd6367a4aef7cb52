//! One way to run some models, and what it scored.

use crate::engine::decide::Threshold;
use crate::engine::merge::{Domain, Merge};
use crate::engine::metrics::{ClassCounts, Counts, Interval};
use crate::engine::settings::Named;
use crate::engine::tta::{self, Transform};

/// A setting of an ensemble that is compared with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Members by their number, rising.
    pub members: Vec<usize>,
    pub transforms: Vec<Transform>,
    pub merge: Merge,
    pub domain: Domain,
    /// Logits are divided by the temperatures that were fitted, instead of those that are stated.
    pub calibrated: bool,
    pub cut: Cut,
}

/// Where two classes are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Where settings or metadata say, else at 0.5.
    Stated,
    /// Where it scores best, in hundredths.
    Fitted(u8),
}

impl Candidate {
    /// The mean of all passes' probabilities.
    pub fn plain(members: Vec<usize>, transforms: Vec<Transform>) -> Self {
        Candidate {
            members,
            transforms,
            merge: Merge::default(),
            domain: Domain::default(),
            calibrated: false,
            cut: Cut::Stated,
        }
    }

    /// Passes per frame.
    pub fn passes(&self) -> usize {
        self.members.len() * self.transforms.len()
    }

    /// Everything but the members, in words: `flips, mean of logits, temperatures, threshold 0.34`.
    pub fn words(&self) -> String {
        let mut words = vec![match self.transforms.len() {
            1 => "no TTA".to_string(),
            _ => tta::name(&self.transforms),
        }];
        if (self.merge, self.domain) != Default::default() {
            let of = if self.domain == Domain::Logit { " of logits" } else { "" };
            words.push(format!("{}{of}", self.merge.name()));
        }
        if self.calibrated {
            words.push("temperatures".into());
        }
        if let Cut::Fitted(hundredths) = self.cut {
            words.push(format!("threshold {}", f32::from(hundredths) / 100.0));
        }
        words.join(", ")
    }
}

impl Cut {
    /// The setting of the decision, over as many merged channels; `None` where it is what is stated.
    pub fn threshold(self, channels: usize) -> Option<Threshold> {
        let part = |hundredths: u8| f32::from(hundredths) / 100.0;
        match self {
            Cut::Stated => None,
            Cut::Fitted(at) if channels == 1 => Some(Threshold::All(part(at))),
            // Of two channels one threshold for both cannot go below one half.
            Cut::Fitted(at) => Some(Threshold::Each(vec![part(100 - at), part(at)])),
        }
    }
}

/// The mean IoU of some classes, over those of them that are in truth or prediction.
pub fn score(counts: &ClassCounts, classes: &[usize]) -> Option<f64> {
    let of = |class: &usize| counts.0.get(*class).copied();
    ClassCounts(classes.iter().filter_map(of).collect()).mean(Counts::iou)
}

/// A score with what chance makes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    pub iou: f64,
    /// 95 %.
    pub interval: Interval,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_told_in_words() {
        let plain = Candidate::plain(vec![0, 2], vec![Transform::Identity]);
        assert_eq!((plain.words().as_str(), plain.passes()), ("no TTA", 2));
        let all = Candidate {
            transforms: tta::parse("flips").unwrap(),
            domain: Domain::Logit,
            calibrated: true,
            cut: Cut::Fitted(34),
            ..plain.clone()
        };
        assert_eq!((all.words().as_str(), all.passes()), ("flips, mean of logits, temperatures, threshold 0.34", 8));
        let vote = Candidate { transforms: tta::parse("hflip+rot90").unwrap(), merge: Merge::Vote, ..plain };
        assert_eq!(vote.words(), "hflip+rot90, vote");
    }

    #[test]
    fn the_score_is_the_mean_iou_of_the_classes_that_are_there() {
        let mut counts = ClassCounts::default();
        for (truth, predicted) in [(0, 0), (1, 1), (1, 0), (2, 2)] {
            counts.add(truth, predicted);
        }
        assert_eq!(score(&counts, &[1]), Some(0.5));
        assert_eq!(score(&counts, &[1, 2, 3]), Some(0.75));
        assert_eq!(score(&counts, &[3]), None);
    }

    #[test]
    fn a_fitted_cut_is_a_threshold_of_one_channel_or_a_pair_of_two() {
        assert_eq!(Cut::Stated.threshold(1), None);
        assert_eq!(Cut::Fitted(34).threshold(1), Some(Threshold::All(0.34)));
        assert_eq!(Cut::Fitted(34).threshold(2), Some(Threshold::Each(vec![0.66, 0.34])));
    }
}
