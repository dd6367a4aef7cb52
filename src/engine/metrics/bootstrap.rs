//! How far chance alone would move a score: intervals by a block bootstrap.
//!
//! Neighbouring pixels are not independent, so whole square blocks of them are drawn with replacement, as many as there
//! are, and the score is computed anew from their sum (Efron and Tibshirani 1993, percentile interval).

use std::ops::AddAssign;

use super::confusion::Counts;

/// Side of a block in pixels where nothing else is asked for: larger than a house at half a metre, see models/README.md.
pub const BLOCK: usize = 75;
/// Draws where nothing else is asked for.
pub const RESAMPLES: usize = 2000;

/// The 2.5th and the 97.5th percentile.
pub type Interval = (f64, f64);

/// The 95 % intervals of several scores of a sum of blocks, all from the same draws: `scores` gives, of a sum, each
/// score or `None` where it is not defined, always equally many. An interval is over the draws that define its
/// score, and `None` where none does. The same seed gives the same intervals.
///
/// To compare two masks, take blocks that hold both and the difference as the score.
pub fn bootstrap<B: Default + for<'a> AddAssign<&'a B>>(
    blocks: &[B],
    resamples: usize,
    seed: u64,
    scores: impl Fn(&B) -> Vec<Option<f64>>,
) -> Vec<Option<Interval>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut drawn = vec![Vec::new(); scores(&B::default()).len()];
    for _ in 0..resamples {
        let mut sum = B::default();
        for _ in 0..blocks.len() {
            sum += &blocks[random.usize(..blocks.len())];
        }
        for (drawn, score) in drawn.iter_mut().zip(scores(&sum)) {
            drawn.extend(score);
        }
    }
    drawn.into_iter().map(interval).collect()
}

/// The 95 % interval of the IoU of one class. `None` without a single positive pixel.
pub fn bootstrap_iou(blocks: &[Counts], resamples: usize, seed: u64) -> Option<Interval> {
    bootstrap(blocks, resamples, seed, |sum| vec![sum.iou()]).pop().flatten()
}

fn interval(mut drawn: Vec<f64>) -> Option<Interval> {
    drawn.sort_by(f64::total_cmp);
    let last = drawn.len().checked_sub(1)?;
    Some((percentile(&drawn, last, 0.025), percentile(&drawn, last, 0.975)))
}

/// Of sorted values, between neighbours by a straight line (the default of `numpy.percentile`).
fn percentile(sorted: &[f64], last: usize, q: f64) -> f64 {
    let at = q * last as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::metrics::ClassCounts;

    fn blocks() -> Vec<Counts> {
        (1..30).map(|k| Counts { true_positive: k, false_positive: 3, false_negative: k % 5 }).collect()
    }

    #[test]
    fn an_interval_holds_the_score_and_is_repeatable() {
        let blocks = blocks();
        let score = blocks.iter().copied().sum::<Counts>().iou().unwrap();
        let (lo, hi) = bootstrap_iou(&blocks, 1000, 7).unwrap();
        assert!(lo < score && score < hi && hi - lo < 0.3, "{lo} {score} {hi}");
        assert_eq!(bootstrap_iou(&blocks, 1000, 7), Some((lo, hi)));
        assert_ne!(bootstrap_iou(&blocks, 1000, 8), Some((lo, hi)));
        let same = [blocks[0]; 4];
        let score = same[0].iou().unwrap();
        assert_eq!(bootstrap_iou(&same, 100, 1), Some((score, score)));
    }

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy.percentile([1, 2, 4, 8, 16], [2.5, 97.5]) = [1.1, 15.2]
        let (lo, hi) = interval(vec![16.0, 1.0, 8.0, 4.0, 2.0]).unwrap();
        assert!((lo - 1.1).abs() < 1e-12 && (hi - 15.2).abs() < 1e-12, "{lo} {hi}");
        assert_eq!(interval(vec![0.5]), Some((0.5, 0.5)));
    }

    #[test]
    fn several_scores_share_the_draws() {
        let blocks: Vec<ClassCounts> = blocks().into_iter().map(|c| ClassCounts(vec![c, c])).collect();
        let all = bootstrap(&blocks, 200, 3, |sum| {
            let class = |k: usize| sum.0.get(k).and_then(Counts::iou);
            vec![class(0), sum.mean(Counts::iou), class(2)]
        });
        assert_eq!(all[0], all[1]);
        assert_eq!(all[2], None, "a class that is nowhere has no interval");
    }

    #[test]
    fn nothing_to_draw_gives_no_interval() {
        assert_eq!(bootstrap_iou(&[], 100, 1), None);
        assert_eq!(bootstrap_iou(&blocks(), 0, 1), None);
        assert_eq!(bootstrap_iou(&[Counts::default(); 3], 100, 1), None);
    }
}
