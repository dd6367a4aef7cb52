//! How well a mask agrees with the truth, and how far chance alone would move that number.

/// Agreement of one class over some pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub true_positive: u64,
    pub false_positive: u64,
    pub false_negative: u64,
}

impl Counts {
    /// Counts pixels, given as (predicted, true) pairs.
    pub fn of(pixels: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut counts = Counts::default();
        for pixel in pixels {
            match pixel {
                (true, true) => counts.true_positive += 1,
                (true, false) => counts.false_positive += 1,
                (false, true) => counts.false_negative += 1,
                (false, false) => {}
            }
        }
        counts
    }

    /// Intersection over union, TP / (TP + FP + FN). `None` for a class that is absent from both.
    pub fn iou(&self) -> Option<f64> {
        let union = self.true_positive + self.false_positive + self.false_negative;
        (union > 0).then(|| self.true_positive as f64 / union as f64)
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(counts: I) -> Self {
        counts.fold(Counts::default(), |a, b| Counts {
            true_positive: a.true_positive + b.true_positive,
            false_positive: a.false_positive + b.false_positive,
            false_negative: a.false_negative + b.false_negative,
        })
    }
}

/// The 95 % percentile interval of the IoU under a block bootstrap: whole blocks of neighbouring pixels are drawn
/// with replacement, because neighbours are not independent. `None` without a single positive pixel.
pub fn bootstrap_iou(blocks: &[Counts], resamples: usize, seed: u64) -> Option<(f64, f64)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut scores: Vec<f64> = (0..resamples)
        .filter_map(|_| (0..blocks.len()).map(|_| blocks[random.usize(..blocks.len())]).sum::<Counts>().iou())
        .collect();
    scores.sort_by(f64::total_cmp);
    let last = scores.len().checked_sub(1)?;
    let at = |q: f64| scores[(q * last as f64).round() as usize];
    Some((at(0.025), at(0.975)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_by_hand() {
        let counts = Counts::of([(true, true), (true, false), (false, true), (false, false), (true, true)].into_iter());
        assert_eq!(counts.iou(), Some(0.5));
        assert_eq!(Counts::default().iou(), None);
    }

    #[test]
    fn an_interval_holds_the_score_and_is_repeatable() {
        let blocks: Vec<Counts> =
            (1..30).map(|k| Counts { true_positive: k, false_positive: 3, false_negative: k % 5 }).collect();
        let score = blocks.iter().copied().sum::<Counts>().iou().unwrap();
        let (lo, hi) = bootstrap_iou(&blocks, 1000, 7).unwrap();
        assert!(lo < score && score < hi && hi - lo < 0.3, "{lo} {score} {hi}");
        assert_eq!(bootstrap_iou(&blocks, 1000, 7), Some((lo, hi)));
        let same = [blocks[0]; 4];
        let score = same[0].iou().unwrap();
        assert_eq!(bootstrap_iou(&same, 100, 1), Some((score, score)));
    }
}
