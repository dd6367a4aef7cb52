//! When enough passes have been seen: a frame stops early where what is still to come could change no label
//! (exact), or hardly any (confident).

use super::decide::{Decision, Threshold, Work};
use super::math;
use super::merge::{Domain, Merge, Merger, Rule};
use super::settings::Named;
use super::stage::BAND;

/// How a frame may stop early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    #[default]
    None,
    Exact,
    Confident,
}

impl Named for Mode {
    const NAMES: &'static [(&'static str, Self)] =
        &[("none", Mode::None), ("exact", Mode::Exact), ("confident", Mode::Confident)];
}

/// How far from another label a pixel has to be to count as decided, where nothing else is stated.
pub const MARGIN: f32 = 0.2;
/// The share of pixels that may be undecided, where nothing else is stated.
pub const LIMIT: f32 = 0.001;

/// The rule by which a frame stops.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cascade {
    /// No pass to come could flip the label of any pixel, whatever it gives between 0 and 1.
    ///
    /// A pass moves the sums by its weight at most, so nothing is certain before the passes to come weigh less than those
    /// that were seen: with a threshold of 0.5, or between two classes, half of the passes always run.
    Exact,
    /// At most `limit` of the pixels lie within `margin` of another label by the passes so far.
    Confident { margin: f32, limit: f32 },
}

impl Cascade {
    /// The rule as text.
    pub fn text(self) -> String {
        match self {
            Cascade::Exact => Mode::Exact.name().into(),
            Cascade::Confident { margin, limit } => format!("{},{margin},{limit}", Mode::Confident.name()),
        }
    }

    /// Why passes merged by a rule cannot stop so; `None` where they can.
    pub fn refuses(self, rule: Rule) -> Option<&'static str> {
        match (self, rule.merge, rule.domain) {
            (Cascade::Exact, _, Domain::Logit) => {
                Some("logits have no bounds, so that the next pass could flip any pixel")
            }
            (Cascade::Exact, Merge::Mean | Merge::Tsharpen | Merge::Vote, _) => None,
            (Cascade::Exact, ..) => Some("one more pass could flip any pixel under this merge"),
            (Cascade::Confident { .. }, Merge::Vote, _) => Some("after one pass every vote is unanimous"),
            (Cascade::Confident { .. }, ..) => None,
        }
    }

    /// Whether the passes to come, which weigh `left` together, may be left out.
    pub fn suffices(self, merger: &Merger, left: f32, decision: &Decision) -> bool {
        if merger.weight() == 0.0 {
            return false;
        }
        let (height, width) = merger.size();
        let mut work = Work::default();
        let mut may_doubt = match self {
            Cascade::Exact => 0,
            Cascade::Confident { limit, .. } => (limit * (height * width) as f32) as usize,
        };
        for y in (0..height).step_by(BAND) {
            let rows = BAND.min(height - y);
            let doubtful = match self {
                Cascade::Exact => {
                    merger.sum_rows(y, rows, &mut work.scores);
                    open(&mut work, merger, left, &decision.threshold, rows * width)
                }
                Cascade::Confident { margin, .. } => {
                    merger.probability_rows(y, rows, &mut work.scores, &mut work.scratch);
                    unsure(&mut work, merger, margin, &decision.threshold, rows * width)
                }
            };
            if doubtful > may_doubt {
                return false;
            }
            may_doubt -= doubtful;
        }
        true
    }
}

/// Pixels of `n` whose label the passes to come could change. `work.scores` holds sums of weighted scores, `channels × n`.
fn open(work: &mut Work, merger: &Merger, left: f32, threshold: &Threshold, n: usize) -> usize {
    let (seen, all) = (merger.weight(), merger.weight() + left);
    // What rounding may add to sums of numbers that a model may have rounded beyond 1.
    let slack = 1e-5 * all;
    if merger.channels() == 1 && !matches!(threshold, Threshold::Each(_)) {
        let reach = threshold.of(1).unwrap_or(0.5) * all;
        return math::count_between(&work.scores, reach - left - slack, reach + slack);
    }
    complement(work, merger, seen);
    if *threshold == Threshold::None {
        lead(work, n);
        return math::count_between(&work.scratch[..n], f32::MIN, left + slack);
    }
    let sums = |pixel: usize| work.scores[pixel..].iter().step_by(n).copied().enumerate();
    let reach = |class: usize| threshold.of(class).unwrap_or(0.0) * all;
    let is_open = |pixel: &usize| {
        // Too low for its threshold, whatever comes.
        let hopeless = |class: usize, sum: f32| sum + left < reach(class) - slack;
        let best = sums(*pixel).fold((0, f32::MIN), |best, next| if next.1 > best.1 { next } else { best });
        let wins = best.1 >= reach(best.0) + slack
            && sums(*pixel).all(|(class, sum)| class == best.0 || sum + left + slack < best.1 || hopeless(class, sum));
        // Where nothing reaches its threshold, class 0 it is.
        !wins && !sums(*pixel).all(|(class, sum)| hopeless(class, sum))
    };
    (0..n).filter(is_open).count()
}

/// Pixels of `n` within `margin` of another label. `work.scores` holds probabilities, `channels × n`.
fn unsure(work: &mut Work, merger: &Merger, margin: f32, threshold: &Threshold, n: usize) -> usize {
    if merger.channels() == 1 && !matches!(threshold, Threshold::Each(_)) {
        let cut = threshold.of(1).unwrap_or(0.5);
        return math::count_between(&work.scores, cut - margin, cut + margin);
    }
    complement(work, merger, 1.0);
    lead(work, n);
    // Of two classes, half the lead is the distance from 0.5.
    if *threshold == Threshold::None {
        return math::count_between(&work.scratch[..n], f32::MIN, 2.0 * margin);
    }
    let near = |pixel: &usize| {
        let scores = work.scores[*pixel..].iter().step_by(n).enumerate();
        work.scratch[*pixel] < 2.0 * margin
            || scores.into_iter().any(|(class, p)| (p - threshold.of(class).unwrap_or(f32::MIN)).abs() < margin)
    };
    (0..n).filter(near).count()
}

/// Puts what is missing to `whole` before the scores of a lone channel.
fn complement(work: &mut Work, merger: &Merger, whole: f32) {
    if merger.channels() == 1 {
        let background: Vec<f32> = work.scores.iter().map(|s| whole - s).collect();
        work.scores.splice(0..0, background);
    }
}

/// By how much the best class of each pixel leads the second, into the first `n` of `work.scratch`.
fn lead(work: &mut Work, n: usize) {
    work.scratch.clear();
    work.scratch.resize(2 * n, f32::MIN);
    let (best, second) = work.scratch.split_at_mut(n);
    for plane in work.scores.chunks_exact(n) {
        math::keep_two(best, second, plane);
    }
    math::subtract(best, second);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::merge::{Merged, Rows, Scratch};
    use crate::engine::spec::{Form, Link};
    use proptest::prelude::*;

    const WIDTH: usize = 3;

    fn merger(merge: Merge, channels: usize) -> Merger {
        let rule = Rule { merge, domain: Domain::Probability, link: Link::Softmax };
        Merger::new(rule, Some(channels), (1, WIDTH), None)
    }

    fn fold(merger: &mut Merger, pass: &[f32], channels: usize, weight: f32) {
        let rows = Rows { y: 0, scores: &mut pass.to_vec(), channels };
        merger.fold(rows, (Form::Probability, Link::Softmax, 1.0), weight, &mut Scratch::default());
        merger.end_pass(weight);
    }

    fn labels(merged: &Merged, decision: &Decision) -> Vec<u16> {
        let mut labels = Vec::new();
        decision.classes(merged, 0, 1, &mut labels, &mut Work::default());
        labels
    }

    fn threshold(channels: usize) -> impl Strategy<Value = Threshold> {
        prop_oneof![
            Just(Threshold::None),
            (0f32..=1.0).prop_map(Threshold::All),
            prop::collection::vec(0f32..=1.0, channels.max(2)).prop_map(Threshold::Each),
        ]
    }

    /// Passes that mostly agree, as passes do, so that some sets of them stop early; each with its weight.
    fn passes(channels: usize) -> impl Strategy<Value = Vec<(Vec<f32>, f32)>> {
        let sure = prop_oneof![3 => 0f32..0.1, 1 => 0f32..=1.0, 2 => 0.9f32..=1.0];
        let base = prop::collection::vec(sure, channels * WIDTH);
        let pass = (prop::collection::vec(-0.2f32..0.2, channels * WIDTH), prop_oneof![Just(1f32), 0f32..3.0]);
        (base, prop::collection::vec(pass, 2..9)).prop_map(|(base, passes)| {
            let moved = |by: Vec<f32>| base.iter().zip(by).map(|(b, d)| (b + d).clamp(0.0, 1.0)).collect();
            passes.into_iter().map(|(by, weight)| (moved(by), weight)).collect()
        })
    }

    proptest! {
        #[test]
        fn an_exact_stop_leaves_every_label(
            (channels, passes, threshold) in (1usize..4).prop_flat_map(|c| (Just(c), passes(c), threshold(c))),
            merge in prop::sample::select(vec![Merge::Mean, Merge::Tsharpen, Merge::Vote]),
        ) {
            let decision = Decision::new(threshold, 0, None, Some(channels.max(2))).unwrap();
            prop_assume!(passes.iter().map(|p| p.1).sum::<f32>() > 0.0);
            let whole = |count: usize| {
                let mut merger = merger(merge, channels);
                passes[..count].iter().for_each(|(pass, weight)| fold(&mut merger, pass, channels, *weight));
                merger
            };
            let wanted = labels(&whole(passes.len()).finish(), &decision);
            for count in 1..passes.len() {
                let left = passes[count..].iter().map(|p| p.1).sum();
                if Cascade::Exact.suffices(&whole(count), left, &decision) {
                    prop_assert_eq!(labels(&whole(count).finish(), &decision), wanted.clone(), "after {} passes", count);
                }
            }
        }
    }

    #[test]
    fn exact_stops_as_soon_as_nothing_can_change_and_never_before_half() {
        let decision = Decision::new(Threshold::None, 0, None, Some(2)).unwrap();
        for (channels, pass) in [(1, vec![0.99; WIDTH]), (2, [[0.01; WIDTH], [0.99; WIDTH]].concat())] {
            let mut merger = merger(Merge::Mean, channels);
            let mut stopped = None;
            for count in 1..8 {
                fold(&mut merger, &pass, channels, 1.0);
                if stopped.is_none() && Cascade::Exact.suffices(&merger, (8 - count) as f32, &decision) {
                    stopped = Some(count);
                }
            }
            assert_eq!(stopped, Some(5), "{channels} channels");
        }
    }

    #[test]
    fn confident_counts_the_pixels_that_are_near_another_label() {
        let at = |threshold| Decision::new(threshold, 0, None, Some(2)).unwrap();
        let stops = |pass: &[f32], channels, margin, limit, threshold| {
            let mut merger = merger(Merge::Mean, channels);
            fold(&mut merger, pass, channels, 1.0);
            Cascade::Confident { margin, limit }.suffices(&merger, 7.0, &at(threshold))
        };
        let one = [0.05, 0.9, 0.4];
        assert!(!stops(&one, 1, 0.2, 0.0, Threshold::None));
        assert!(stops(&one, 1, 0.2, 0.34, Threshold::None), "one of three pixels is in doubt");
        assert!(stops(&one, 1, 0.05, 0.0, Threshold::None));
        assert!(!stops(&one, 1, 0.05, 0.0, Threshold::All(0.92)));
        // As of one channel.
        let two = [0.95, 0.1, 0.6, 0.05, 0.9, 0.4];
        assert!(!stops(&two, 2, 0.2, 0.0, Threshold::None));
        assert!(stops(&two, 2, 0.2, 0.34, Threshold::None));
        assert!(!stops(&two, 2, 0.05, 0.0, Threshold::Each(vec![0.0, 0.92])));
    }
}
