//! The temperature that makes a model's probabilities fit what it was not trained on.
//!
//! Logits are divided by T, which minimises the mean negative log-likelihood of the true classes (Guo et al., *On
//! Calibration of Modern Neural Networks*, ICML 2017). In 1 ÷ T that is a convex function, so it has one minimum.

use crate::engine::spec::Link;

/// The least and the largest T that is tried.
pub const RANGE: (f64, f64) = (0.05, 20.0);

/// A member's logits at some pixels, and the pixels' true classes.
pub struct Logits<'a> {
    /// `channels × pixels`
    pub values: &'a [f32],
    pub channels: usize,
    pub link: Link,
    pub truth: &'a [u16],
}

impl Logits<'_> {
    /// The mean negative log-likelihood per pixel, in nats, of logits divided by `temperature`. Under a softmax, and for a
    /// lone channel, that of the true class; for several sigmoids, summed over the classes.
    pub fn nll(&self, temperature: f64) -> f64 {
        let n = self.truth.len();
        let z = |channel: usize, pixel: usize| f64::from(self.values[channel * n + pixel]) / temperature;
        let pixel = |(k, truth): (usize, &u16)| -> f64 {
            let truth = usize::from(*truth);
            match (self.channels, self.link) {
                (1, _) => softplus(if truth == 1 { -z(0, k) } else { z(0, k) }),
                (channels, Link::Sigmoid) => {
                    (0..channels).map(|c| softplus(if truth == c { -z(c, k) } else { z(c, k) })).sum()
                }
                (channels, Link::Softmax) => {
                    let most = (0..channels).map(|c| z(c, k)).fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = (0..channels).map(|c| (z(c, k) - most).exp()).sum();
                    most + sum.ln() - z(truth, k)
                }
            }
        };
        self.truth.iter().enumerate().map(pixel).sum::<f64>() / n as f64
    }

    /// The T of the least [`Logits::nll`], to four digits. At an end of [`RANGE`] where it lies beyond.
    pub fn fit(&self) -> f32 {
        let (low, high) = RANGE;
        let logarithm = golden_section(low.ln(), high.ln(), 1e-5, |t| self.nll(t.exp()));
        let best = [logarithm.exp(), low, high].into_iter().min_by(|a, b| self.nll(*a).total_cmp(&self.nll(*b)));
        let best = best.unwrap_or(1.0);
        // Four digits, as it will stand in a file.
        let digits = 10f64.powi(3 - best.log10().floor() as i32);
        ((best * digits).round() / digits) as f32
    }
}

/// ln (1 + eˣ)
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Where a function with one minimum in `low…high` has it, give or take `tolerance` (Kiefer 1953).
fn golden_section(mut low: f64, mut high: f64, tolerance: f64, f: impl Fn(f64) -> f64) -> f64 {
    let share = (5f64.sqrt() - 1.0) / 2.0;
    let inner = |low: f64, high: f64| (high - share * (high - low), low + share * (high - low));
    let (mut a, mut b) = inner(low, high);
    let (mut at_a, mut at_b) = (f(a), f(b));
    while high - low > tolerance {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = inner(low, high).0;
            at_a = f(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = inner(low, high).1;
            at_b = f(b);
        }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_section_finds_a_minimum_inside_and_at_an_end() {
        assert!((golden_section(-3.0, 5.0, 1e-6, |x| (x - 1.25).powi(2)) - 1.25).abs() < 1e-6);
        assert!((golden_section(0.0, 1.0, 1e-6, |x| x) - 0.0).abs() < 1e-6);
    }

    #[test]
    fn the_likelihood_is_that_of_two_pixels_by_hand() {
        let truth = [1, 0];
        let one = Logits { values: &[2.0, -1.0], channels: 1, link: Link::Sigmoid, truth: &truth };
        let by_hand = ((1.0 + (-1f64).exp()).ln() + (1.0 + (-0.5f64).exp()).ln()) / 2.0;
        assert!((one.nll(2.0) - by_hand).abs() < 1e-12);
        // A lone logit z is the pair (0, z) under softmax.
        let two = Logits { values: &[0.0, 0.0, 2.0, -1.0], channels: 2, link: Link::Softmax, truth: &truth };
        assert!((two.nll(2.0) - by_hand).abs() < 1e-12);
    }

    #[test]
    fn logits_that_are_always_right_want_the_least_temperature() {
        let right = Logits { values: &[3.0, -3.0], channels: 1, link: Link::Sigmoid, truth: &[1, 0] };
        assert_eq!(right.fit(), RANGE.0 as f32);
        let wrong = Logits { values: &[3.0, -3.0], channels: 1, link: Link::Sigmoid, truth: &[0, 1] };
        assert_eq!(wrong.fit(), RANGE.1 as f32);
    }
}
