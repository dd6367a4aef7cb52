//! Running merges of passes, and what passes disagree about.
//!
//! A merge keeps sums, never passes: memory does not grow with their number. Formulas: references.md, "Merges" and
//! "Uncertainty".

use super::math;
use super::settings::Named;
use super::spec::{Form, Link};

/// How passes become one, from their scores p and their weights w, which are normalised to sum 1. Below 1e-7, p counts as
/// 1e-7 where a logarithm or a quotient is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Merge {
    /// Σwp
    #[default]
    Mean,
    /// exp Σw ln p
    Gmean,
    /// 1 / Σ(w/p)
    Hmean,
    Max,
    Min,
    /// Σw√p, never squared back: ttach's
    Tsharpen,
    /// The share of passes, by weight, that decide for a class: the best one, or p ≥ 0.5 of one channel.
    Vote,
}

impl Named for Merge {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("mean", Merge::Mean),
        ("gmean", Merge::Gmean),
        ("hmean", Merge::Hmean),
        ("max", Merge::Max),
        ("min", Merge::Min),
        ("tsharpen", Merge::Tsharpen),
        ("vote", Merge::Vote),
    ];
}

impl Merge {
    /// Why scores of a domain are not merged so; `None` where they are.
    pub fn refuses(self, domain: Domain) -> Option<&'static str> {
        match (self, domain) {
            (_, Domain::Probability) | (Merge::Mean | Merge::Max | Merge::Min, _) => None,
            (Merge::Gmean, _) => Some("takes logarithms of probabilities"),
            (Merge::Hmean, _) => Some("divides by probabilities"),
            (Merge::Tsharpen, _) => Some("takes roots of probabilities"),
            (Merge::Vote, _) => Some("counts labels, which are the same in either domain"),
        }
    }

    /// Whether a pass may count more than another.
    pub fn weighs(self) -> bool {
        !matches!(self, Merge::Max | Merge::Min)
    }

    /// Whether votes of models that give labels can be merged so.
    pub fn counts_labels(self) -> bool {
        matches!(self, Merge::Mean | Merge::Vote)
    }
}

/// What is made of passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub merge: Merge,
    pub domain: Domain,
    /// How merged logits become probabilities.
    pub link: Link,
}

/// What is merged: probabilities, or logits that are activated afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Domain {
    #[default]
    Probability,
    Logit,
}

impl Named for Domain {
    const NAMES: &'static [(&'static str, Self)] = &[("probability", Domain::Probability), ("logit", Domain::Logit)];
}

/// Measures of uncertainty, each 0…1, from per-pass probabilities p and their mean m. One channel counts as two
/// classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Uncertainty {
    /// Predictive entropy: H(m) / ln C
    #[default]
    Entropy,
    /// Disagreement: (H(m) − Σw·H(p)) / ln C, not below 0
    MutualInformation,
    /// 4 · Σw(p − m)² of the winning class
    Variance,
    /// 1 − (first − second) of m
    Margin,
}

impl Named for Uncertainty {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("entropy", Uncertainty::Entropy),
        ("mutual-information", Uncertainty::MutualInformation),
        ("variance", Uncertainty::Variance),
        ("margin", Uncertainty::Margin),
    ];
}

/// Some full rows of a pass's scores, in the frame's orientation.
pub struct Rows<'a> {
    /// First row.
    pub y: usize,
    /// `channels × rows × width`
    pub scores: &'a mut Vec<f32>,
    pub channels: usize,
}

/// Working memory of a fold, kept by whoever folds many.
#[derive(Default)]
pub struct Scratch {
    probabilities: Vec<f32>,
    softmax: Vec<f32>,
    labels: Vec<u16>,
}

/// The running merge of one frame's passes.
#[derive(Debug)]
pub struct Merger {
    rule: Rule,
    channels: usize,
    /// Label models without class names: a class appears when a pixel votes for it.
    grows: bool,
    height: usize,
    width: usize,
    /// Σw so far.
    weight: f32,
    /// Σw·score, or what the merge keeps instead, `channels × height × width`
    sum: Vec<f32>,
    /// Σw·p where `sum` holds something else.
    mean: Option<Vec<f32>>,
    /// Σw·p²
    square: Option<Vec<f32>>,
    /// Σw·H(p), `height × width`
    entropy: Option<Vec<f32>>,
    uncertainty: Option<Uncertainty>,
}

impl Merger {
    /// `channels` = `None` lets label classes appear as they are met.
    pub fn new(rule: Rule, channels: Option<usize>, size: (usize, usize), uncertainty: Option<Uncertainty>) -> Self {
        Self::over(Vec::new(), rule, channels, size, uncertainty)
    }

    /// The same in the memory of an earlier merge's scores, whatever they are: the first pass writes over them.
    pub fn over(
        mut sum: Vec<f32>,
        rule: Rule,
        channels: Option<usize>,
        (height, width): (usize, usize),
        uncertainty: Option<Uncertainty>,
    ) -> Self {
        let count = channels.unwrap_or(2);
        sum.resize(count * height * width, 0.0);
        let planes = || vec![0.0; count * height * width];
        let of_its_own = rule.domain == Domain::Logit || rule.merge != Merge::Mean;
        Merger {
            rule,
            channels: count,
            grows: channels.is_none(),
            height,
            width,
            weight: 0.0,
            sum,
            mean: (uncertainty.is_some() && of_its_own).then(planes),
            square: (uncertainty == Some(Uncertainty::Variance)).then(planes),
            entropy: (uncertainty == Some(Uncertainty::MutualInformation)).then(|| vec![0.0; height * width]),
            uncertainty,
        }
    }

    /// Adds some rows of a pass's scores, which are `form` under `link`. Their logits are divided by `temperature`, which
    /// makes a model less sure where it is above 1 (Guo et al., "On Calibration of Modern Neural Networks", 2017).
    pub fn fold(
        &mut self,
        rows: Rows<'_>,
        (form, link, temperature): (Form, Link, f32),
        weight: f32,
        scratch: &mut Scratch,
    ) {
        let Rows { y, scores, channels } = rows;
        let form = match temperature {
            1.0 => form,
            _ => {
                to_logit(scores, channels, form, link);
                math::multiply(scores, 1.0 / temperature);
                Form::Logit
            }
        };
        if self.rule.domain == Domain::Logit {
            if self.uncertainty.is_some() {
                let mut p = std::mem::take(&mut scratch.probabilities);
                p.clear();
                p.extend_from_slice(scores);
                to_probability(&mut p, channels, form, link, &mut scratch.softmax);
                self.widen(&mut p, channels, |v| v.iter().map(|p| 1.0 - p).collect());
                self.fold_probabilities(y, &p, weight);
                scratch.probabilities = p;
            }
            to_logit(scores, channels, form, link);
            // A lone logit z is the pair (0, z) under softmax.
            self.widen(scores, channels, |v| vec![0.0; v.len()]);
        } else {
            to_probability(scores, channels, form, link, &mut scratch.softmax);
            self.widen(scores, channels, |v| v.iter().map(|p| 1.0 - p).collect());
            self.fold_probabilities(y, scores, weight);
        }
        let (plane, at, n) = (self.height * self.width, y * self.width, scores.len() / self.channels);
        match self.rule.merge {
            Merge::Mean | Merge::Max | Merge::Min => {}
            Merge::Gmean => math::log(scores),
            Merge::Hmean => math::inverse(scores),
            Merge::Tsharpen => math::root(scores),
            Merge::Vote => vote(scores, self.channels, &mut scratch.labels),
        }
        let first = self.is_first();
        for (sum, v) in self.sum.chunks_exact_mut(plane).zip(scores.chunks_exact(n)) {
            let sum = &mut sum[at..at + n];
            match self.rule.merge {
                Merge::Max | Merge::Min if first => sum.copy_from_slice(v),
                Merge::Max => math::maximum(sum, v),
                Merge::Min => math::minimum(sum, v),
                _ if first => math::set(sum, v, weight),
                _ => math::add(sum, v, weight),
            }
        }
    }

    /// Whether no pass before this one counts.
    fn is_first(&self) -> bool {
        self.weight == 0.0
    }

    /// Puts the channel of class 0 before the only channel of a pass, where the merge has two.
    fn widen(&self, scores: &mut Vec<f32>, channels: usize, first: impl Fn(&[f32]) -> Vec<f32>) {
        if channels == 1 && self.channels == 2 {
            let background = first(scores);
            scores.splice(0..0, background);
        }
    }

    /// Adds to the sums that only uncertainty needs.
    fn fold_probabilities(&mut self, y: usize, p: &[f32], weight: f32) {
        let (plane, at, n) = (self.height * self.width, y * self.width, p.len() / self.channels);
        for (k, p) in p.chunks_exact(n).enumerate() {
            let range = k * plane + at..k * plane + at + n;
            if let Some(mean) = &mut self.mean {
                math::add(&mut mean[range.clone()], p, weight);
            }
            if let Some(square) = &mut self.square {
                math::add_square(&mut square[range], p, weight);
            }
            if let Some(entropy) = &mut self.entropy {
                let entropy = &mut entropy[at..at + n];
                match self.channels {
                    1 => math::add_binary_entropy(entropy, p, weight),
                    _ => math::add_entropy(entropy, p, weight),
                }
            }
        }
    }

    /// Adds some rows of a pass's labels as votes.
    ///
    /// # Errors
    /// The first label that is no class.
    pub fn fold_labels(&mut self, y: usize, labels: &[f32], weight: f32) -> Result<(), f32> {
        let plane = self.height * self.width;
        if self.is_first() {
            let at = y * self.width;
            self.sum.chunks_exact_mut(plane).for_each(|sum| sum[at..at + labels.len()].fill(0.0));
        }
        for (k, label) in labels.iter().enumerate() {
            let class = *label as usize;
            let most = if self.grows { 255 } else { self.channels.max(2) };
            if *label < 0.0 || class >= most {
                return Err(*label);
            }
            if self.grows && class >= self.channels {
                self.channels = class + 1;
                self.sum.resize(self.channels * plane, 0.0);
                for sums in [&mut self.mean, &mut self.square].into_iter().flatten() {
                    sums.resize(self.channels * plane, 0.0);
                }
            }
            let at = y * self.width + k;
            // One-channel merges hold the probability of class 1 alone. A vote is its own square and has no entropy.
            let channel = match (self.channels, class) {
                (1, 0) => continue,
                (1, _) => 0,
                (_, class) => class,
            };
            self.sum[channel * plane + at] += weight;
            for sums in [&mut self.mean, &mut self.square].into_iter().flatten() {
                sums[channel * plane + at] += weight;
            }
        }
        Ok(())
    }

    /// Counts a pass's weight, once all its rows are folded.
    pub fn end_pass(&mut self, weight: f32) {
        self.weight += weight;
    }

    /// Turns the sums into scores.
    pub fn finish(mut self) -> Merged {
        let scores = self.rule.merge.weighs().then_some(&mut self.sum);
        let sums = [scores, self.mean.as_mut(), self.square.as_mut(), self.entropy.as_mut()];
        // A single pass of weight 1 is its own mean.
        for sum in sums.into_iter().flatten().filter(|_| self.weight != 1.0) {
            math::divide(sum, self.weight);
        }
        match self.rule.merge {
            Merge::Gmean => math::exponential(&mut self.sum),
            Merge::Hmean => math::inverse(&mut self.sum),
            Merge::Mean | Merge::Max | Merge::Min | Merge::Tsharpen | Merge::Vote => {}
        }
        Merged {
            domain: self.rule.domain,
            link: self.rule.link,
            channels: self.channels,
            height: self.height,
            width: self.width,
            scores: self.sum,
            mean: self.mean,
            square: self.square,
            entropy: self.entropy,
            uncertainty: self.uncertainty,
        }
    }
}

/// Scores to 1 for the best class of a pixel, the first of equals, and 0 for the others; of one channel, from 0.5 up.
fn vote(scores: &mut [f32], channels: usize, labels: &mut Vec<u16>) {
    if channels == 1 {
        scores.iter_mut().for_each(|p| *p = f32::from(*p >= 0.5));
        return;
    }
    let n = scores.len() / channels;
    math::best(scores, n, labels);
    for (k, plane) in scores.chunks_exact_mut(n).enumerate() {
        plane.iter_mut().zip(labels.iter()).for_each(|(p, label)| *p = f32::from(usize::from(*label) == k));
    }
}

fn to_probability(v: &mut [f32], channels: usize, form: Form, link: Link, scratch: &mut Vec<f32>) {
    match (form, link) {
        (Form::Logit, Link::Sigmoid) => math::sigmoid(v),
        // A softmax over one channel is 1 everywhere; whoever says softmax of one logit means its sigmoid.
        (Form::Logit, Link::Softmax) if channels == 1 => math::sigmoid(v),
        (Form::Logit, Link::Softmax) => math::softmax(v, channels, scratch),
        (Form::LogProbability, _) => math::exponential(v),
        (Form::Probability | Form::Label, _) => {}
    }
}

pub(super) fn to_logit(v: &mut [f32], channels: usize, form: Form, link: Link) {
    match form {
        Form::Probability if link == Link::Sigmoid || channels == 1 => math::logit(v),
        Form::Probability => math::log(v),
        // Logarithms of probabilities are logits of softmax.
        Form::Logit | Form::LogProbability | Form::Label => {}
    }
}

/// The merged scores of one frame.
#[derive(Debug)]
pub struct Merged {
    pub domain: Domain,
    link: Link,
    /// 1 (the probability of class 1) or the number of classes.
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// Merged scores in their domain, `channels × height × width`.
    pub scores: Vec<f32>,
    mean: Option<Vec<f32>>,
    square: Option<Vec<f32>>,
    entropy: Option<Vec<f32>>,
    uncertainty: Option<Uncertainty>,
}

impl Merged {
    /// Scores that were merged elsewhere, `channels × height × width`.
    pub fn from_scores(
        domain: Domain,
        link: Link,
        channels: usize,
        height: usize,
        width: usize,
        scores: Vec<f32>,
    ) -> Self {
        debug_assert_eq!(scores.len(), channels * height * width);
        Merged {
            domain,
            link,
            channels,
            height,
            width,
            scores,
            mean: None,
            square: None,
            entropy: None,
            uncertainty: None,
        }
    }

    /// Number of classes; a lone channel stands for two.
    pub fn classes(&self) -> usize {
        self.channels.max(2)
    }

    /// Rows `y…y+rows` of merged scores as they are, into `out`: `channels × rows × width`.
    pub fn score_rows(&self, y: usize, rows: usize, out: &mut Vec<f32>) {
        copy_rows(&self.scores, self.height, self.width, y, rows, out);
    }

    /// Rows `y…y+rows` as probabilities, into `out`: `channels × rows × width`.
    pub fn probability_rows(&self, y: usize, rows: usize, out: &mut Vec<f32>, scratch: &mut Vec<f32>) {
        self.score_rows(y, rows, out);
        if self.domain == Domain::Logit {
            to_probability(out, self.channels, Form::Logit, self.link, scratch);
        }
    }

    /// Rows `y…y+rows` of the uncertainty that was asked for, into `out`: `rows × width`, 0…1.
    ///
    /// `None` when none was asked for.
    pub fn uncertainty_rows(&self, y: usize, rows: usize, out: &mut Vec<f32>) -> Option<()> {
        let kind = self.uncertainty?;
        let n = rows * self.width;
        let mut mean = Vec::new();
        copy_rows(self.mean.as_ref().unwrap_or(&self.scores), self.height, self.width, y, rows, &mut mean);
        out.clear();
        out.resize(n, 0.0);
        let classes = self.classes() as f32;
        match kind {
            Uncertainty::Entropy | Uncertainty::MutualInformation => {
                for p in mean.chunks_exact(n) {
                    match self.channels {
                        1 => math::add_binary_entropy(out, p, 1.0),
                        _ => math::add_entropy(out, p, 1.0),
                    }
                }
                if kind == Uncertainty::MutualInformation {
                    let at = y * self.width;
                    let expected = self.entropy.as_ref()?;
                    out.iter_mut().zip(&expected[at..at + n]).for_each(|(h, e)| *h -= e);
                }
                out.iter_mut().for_each(|h| *h = (*h / classes.ln()).clamp(0.0, 1.0));
            }
            Uncertainty::Variance => {
                let mut square = Vec::new();
                copy_rows(self.square.as_ref()?, self.height, self.width, y, rows, &mut square);
                for (i, out) in out.iter_mut().enumerate() {
                    let winner =
                        (0..self.channels).fold(0, |w, c| if mean[c * n + i] > mean[w * n + i] { c } else { w });
                    let m = mean[winner * n + i];
                    *out = (4.0 * (square[winner * n + i] - m * m)).clamp(0.0, 1.0);
                }
            }
            Uncertainty::Margin => {
                for (i, out) in out.iter_mut().enumerate() {
                    let (mut first, mut second) = match self.channels {
                        1 => (mean[i].max(1.0 - mean[i]), mean[i].min(1.0 - mean[i])),
                        _ => (0.0, 0.0),
                    };
                    if self.channels > 1 {
                        for p in mean[i..].iter().step_by(n) {
                            if *p > first {
                                (first, second) = (*p, first);
                            } else if *p > second {
                                second = *p;
                            }
                        }
                    }
                    *out = (1.0 - (first - second)).clamp(0.0, 1.0);
                }
            }
        }
        Some(())
    }
}

fn copy_rows(planes: &[f32], height: usize, width: usize, y: usize, rows: usize, out: &mut Vec<f32>) {
    out.clear();
    for plane in planes.chunks_exact(height * width) {
        out.extend_from_slice(&plane[y * width..(y + rows) * width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Uncertainties by their definition over stored passes: `passes × channels` of one pixel.
    fn direct(kind: Uncertainty, passes: &[Vec<f64>], weights: &[f64]) -> f64 {
        let total: f64 = weights.iter().sum();
        let full: Vec<Vec<f64>> =
            passes.iter().map(|p| if p.len() == 1 { vec![1.0 - p[0], p[0]] } else { p.clone() }).collect();
        let classes = full[0].len();
        let over = |f: &dyn Fn(&Vec<f64>) -> f64| full.iter().zip(weights).map(|(p, w)| w * f(p)).sum::<f64>() / total;
        let m: Vec<f64> = (0..classes).map(|c| over(&|p| p[c])).collect();
        let h = |p: &Vec<f64>| -> f64 { p.iter().map(|p| if *p > 0.0 { -p * p.ln() } else { 0.0 }).sum() };
        let norm = (classes as f64).ln();
        let winner = (0..classes).max_by(|a, b| m[*a].total_cmp(&m[*b])).unwrap();
        let mut sorted = m.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        match kind {
            Uncertainty::Entropy => h(&m) / norm,
            Uncertainty::MutualInformation => ((h(&m) - over(&h)) / norm).max(0.0),
            Uncertainty::Variance => 4.0 * over(&|p| (p[winner] - m[winner]).powi(2)),
            Uncertainty::Margin => 1.0 - (sorted[0] - sorted[1]),
        }
    }

    fn passes(channels: usize) -> impl Strategy<Value = Vec<(Vec<f64>, f64)>> {
        let pass = (prop::collection::vec(0.01f64..1.0, channels), 0.1f64..3.0).prop_map(move |(mut p, w)| {
            if channels > 1 {
                let sum: f64 = p.iter().sum();
                p.iter_mut().for_each(|p| *p /= sum);
            }
            (p, w)
        });
        prop::collection::vec(pass, 1..9)
    }

    proptest! {
        #[test]
        fn sums_give_what_stored_passes_give(
            passes in (1usize..5).prop_flat_map(passes), kind in 0usize..4, logit in any::<bool>(), merge in 0usize..7
        ) {
            let kind = Uncertainty::NAMES[kind].1;
            let merge = Merge::NAMES[merge].1;
            let channels = passes[0].0.len();
            let domain = if logit { Domain::Logit } else { Domain::Probability };
            let link = if channels == 1 { Link::Sigmoid } else { Link::Softmax };
            // A frame of 1 × 2 pixels, both alike, so that plane strides matter.
            let earlier = vec![f32::NAN; 3];
            prop_assume!(merge.refuses(domain).is_none());
            let rule = Rule { merge, domain, link };
            let mut merger = Merger::over(earlier, rule, Some(channels), (1, 2), Some(kind));
            for (p, w) in &passes {
                let mut scores: Vec<f32> = p.iter().flat_map(|p| [*p as f32; 2]).collect();
                let rows = Rows { y: 0, scores: &mut scores, channels };
                merger.fold(rows, (Form::Probability, link, 1.0), *w as f32, &mut Scratch::default());
                merger.end_pass(*w as f32);
            }
            let merged = merger.finish();
            let (p, w): (Vec<_>, Vec<_>) = passes.into_iter().unzip();
            let total: f64 = w.iter().sum();
            let mut out = Vec::new();
            merged.uncertainty_rows(0, 1, &mut out).unwrap();
            let expected = direct(kind, &p, &w);
            for found in &out {
                prop_assert!((*found as f64 - expected).abs() < 1e-5, "{kind:?}: {found} {expected}");
            }
            let mut scores = Vec::new();
            merged.probability_rows(0, 1, &mut scores, &mut Vec::new());
            let mut means: Vec<f64> = (0..channels).map(|c| {
                let term = |p: f64| match (domain, channels) {
                    (Domain::Probability, _) => p,
                    (Domain::Logit, 1) => (p / (1.0 - p)).ln(),
                    (Domain::Logit, _) => p.ln(),
                };
                // As single precision has them, so that votes are the same.
                let p: Vec<Vec<f64>> = p.iter().map(|p| p.iter().map(|p| f64::from(*p as f32)).collect()).collect();
                let values = p.iter().map(|p| term(p[c].clamp(1e-7, 1.0 - 1e-7)));
                let mean = |f: &dyn Fn(f64) -> f64| values.clone().zip(&w).map(|(v, w)| w * f(v)).sum::<f64>() / total;
                match merge {
                    Merge::Mean => mean(&|v| v),
                    Merge::Gmean => mean(&f64::ln).exp(),
                    Merge::Hmean => 1.0 / mean(&|v| 1.0 / v),
                    Merge::Max => values.fold(f64::NEG_INFINITY, f64::max),
                    Merge::Min => values.fold(f64::INFINITY, f64::min),
                    Merge::Tsharpen => mean(&f64::sqrt),
                    Merge::Vote => {
                        let wins = |p: &[f64]| match channels {
                            1 => p[0] >= 0.5,
                            _ => (0..channels).all(|k| p[c] > p[k] || k == c || (p[c] == p[k] && c < k)),
                        };
                        p.iter().zip(&w).map(|(p, w)| if wins(p) { *w } else { 0.0 }).sum::<f64>() / total
                    }
                }
            }).collect();
            if domain == Domain::Logit {
                if channels == 1 {
                    means[0] = 1.0 / (1.0 + (-means[0]).exp());
                } else {
                    let sum: f64 = means.iter().map(|z| z.exp()).sum();
                    means.iter_mut().for_each(|z| *z = z.exp() / sum);
                }
            }
            for (c, mean) in means.iter().enumerate() {
                prop_assert!((scores[c * 2] as f64 - mean).abs() < 1e-5, "{} {mean}", scores[c * 2]);
            }
        }
    }

    #[test]
    fn a_temperature_divides_logits_whatever_form_scores_have() {
        let softened = |mut scores: Vec<f32>, form, link| {
            let channels = scores.len();
            let rule = Rule { merge: Merge::Mean, domain: Domain::Probability, link };
            let mut merger = Merger::new(rule, Some(channels), (1, 1), None);
            let rows = Rows { y: 0, scores: &mut scores, channels };
            merger.fold(rows, (form, link, 2.5), 1.0, &mut Scratch::default());
            merger.end_pass(1.0);
            merger.finish().scores
        };
        let one = 1.0 / (1.0 + (-1.4f32 / 2.5).exp());
        let p = 1.0 / (1.0 + (-1.4f32).exp());
        for found in [
            softened(vec![1.4], Form::Logit, Link::Sigmoid),
            softened(vec![p], Form::Probability, Link::Sigmoid),
            softened(vec![p], Form::Probability, Link::Softmax),
        ] {
            assert!((found[0] - one).abs() < 1e-6, "{found:?} {one}");
        }
        let z = [0.3f32, -1.0, 2.0];
        let normal = |t: f32| {
            let e = z.map(|z| (z / t).exp());
            e.map(|v| v / e.iter().sum::<f32>())
        };
        for found in [
            softened(z.to_vec(), Form::Logit, Link::Softmax),
            softened(normal(1.0).to_vec(), Form::Probability, Link::Softmax),
            softened(normal(1.0).map(f32::ln).to_vec(), Form::LogProbability, Link::Softmax),
        ] {
            assert!(found.iter().zip(normal(2.5)).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        }
    }

    #[test]
    fn a_lone_channel_and_its_pair_agree() {
        for domain in [Domain::Probability, Domain::Logit] {
            let mut merger =
                Merger::new(Rule { merge: Merge::Mean, domain, link: Link::Softmax }, Some(2), (1, 1), None);
            for p in [0.9f32, 0.2] {
                let mut one = vec![p];
                let rows = Rows { y: 0, scores: &mut one, channels: 1 };
                merger.fold(rows, (Form::Probability, Link::Sigmoid, 1.0), 1.0, &mut Scratch::default());
                merger.end_pass(1.0);
                let mut two = vec![1.0 - p, p];
                let rows = Rows { y: 0, scores: &mut two, channels: 2 };
                merger.fold(rows, (Form::Probability, Link::Softmax, 1.0), 1.0, &mut Scratch::default());
                merger.end_pass(1.0);
            }
            let merged = merger.finish();
            let mut p = Vec::new();
            merged.probability_rows(0, 1, &mut p, &mut Vec::new());
            assert!((p[0] + p[1] - 1.0).abs() < 1e-6, "{p:?}");
            if domain == Domain::Probability {
                assert!((p[1] - 0.55).abs() < 1e-6, "{p:?}");
            }
        }
    }

    #[test]
    fn votes_are_counted_and_new_classes_appear() {
        let rule = Rule { merge: Merge::Vote, domain: Domain::Probability, link: Link::Softmax };
        let mut merger = Merger::over(vec![f32::NAN; 30], rule, None, (1, 3), Some(Uncertainty::Variance));
        for labels in [[0.0, 5.0, 1.0], [0.0, 5.0, 0.0], [1.0, 2.0, 0.0], [0.0, 5.0, 0.0]] {
            merger.fold_labels(0, &labels, 1.0).unwrap();
            merger.end_pass(1.0);
        }
        assert_eq!(merger.fold_labels(0, &[-1.0], 1.0), Err(-1.0));
        let merged = merger.finish();
        assert_eq!(merged.channels, 6);
        assert_eq!(merged.scores[0], 0.75);
        assert_eq!(merged.scores[5 * 3 + 1], 0.75);
        assert_eq!(merged.scores[3 + 2], 0.25);
    }
}
