//! Whether probabilities mean what they say: expected calibration error (Guo et al., *On Calibration of Modern Neural
//! Networks*, ICML 2017, arXiv:1706.04599).
//!
//! Pixels go into M bins of equal width by their confidence c, the probability of the class that was predicted: bin m
//! holds (m − 1)/M < c ≤ m/M, the first one 0 too. ECE = Σ n/N · |accuracy − mean confidence|; MCE is the largest of
//! these differences.

use serde::{Deserialize, Serialize};

/// Bins where nothing else is asked for, as in the paper.
pub const BINS: usize = 15;

/// One bin of confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bin {
    pixels: u64,
    confidence: f64,
    right: u64,
}

impl Bin {
    fn gap(&self) -> Option<f64> {
        (self.pixels > 0).then(|| (self.right as f64 - self.confidence).abs() / self.pixels as f64)
    }
}

/// Confidence against accuracy, over pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    bins: Vec<Bin>,
}

/// A row of the reliability table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Confidence above this, up to `to`.
    pub from: f64,
    pub to: f64,
    pub pixels: u64,
    /// `None` without pixels.
    pub confidence: Option<f64>,
    pub accuracy: Option<f64>,
}

impl Default for Calibration {
    fn default() -> Self {
        Calibration::new(BINS)
    }
}

impl Calibration {
    pub fn new(bins: usize) -> Self {
        Calibration { bins: vec![Bin::default(); bins.max(1)] }
    }

    /// Counts a pixel: `confidence` from 0 to 1 in its predicted class, and whether that was right.
    pub fn add(&mut self, confidence: f64, right: bool) {
        let bins = self.bins.len();
        let at = ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        let bin = &mut self.bins[at];
        bin.pixels += 1;
        bin.confidence += confidence;
        bin.right += u64::from(right);
    }

    pub fn pixels(&self) -> u64 {
        self.bins.iter().map(|b| b.pixels).sum()
    }

    /// Expected calibration error. `None` without pixels.
    pub fn expected_error(&self) -> Option<f64> {
        let pixels = self.pixels();
        let sum: f64 = self.bins.iter().map(|b| (b.right as f64 - b.confidence).abs()).sum();
        (pixels > 0).then(|| sum / pixels as f64)
    }

    /// Maximum calibration error. `None` without pixels.
    pub fn maximum_error(&self) -> Option<f64> {
        self.bins.iter().filter_map(Bin::gap).reduce(f64::max)
    }

    /// A row per bin.
    pub fn reliability(&self) -> Vec<Reliability> {
        let edge = |k: usize| k as f64 / self.bins.len() as f64;
        let row = |(k, bin): (usize, &Bin)| {
            let mean = |sum: f64| (bin.pixels > 0).then(|| sum / bin.pixels as f64);
            Reliability {
                from: edge(k),
                to: edge(k + 1),
                pixels: bin.pixels,
                confidence: mean(bin.confidence),
                accuracy: mean(bin.right as f64),
            }
        };
        self.bins.iter().enumerate().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_hand() {
        let mut calibration = Calibration::new(10);
        for (confidence, right) in [(0.95, true), (0.95, true), (0.95, false), (0.65, true)] {
            calibration.add(confidence, right);
        }
        // Bin 10: accuracy 2/3, confidence 0.95; bin 7: accuracy 1, confidence 0.65.
        let ece = calibration.expected_error().unwrap();
        assert!((ece - (0.75 * (0.95 - 2.0 / 3.0) + 0.25 * 0.35)).abs() < 1e-12);
        assert!((calibration.maximum_error().unwrap() - 0.35).abs() < 1e-12);
    }

    #[test]
    fn an_edge_belongs_to_the_bin_below_it() {
        let mut calibration = Calibration::new(4);
        for confidence in [0.0, 0.25, 0.5, 1.0] {
            calibration.add(confidence, true);
        }
        assert_eq!(calibration.reliability().iter().map(|r| r.pixels).collect::<Vec<_>>(), [2, 1, 0, 1]);
        assert_eq!(calibration.reliability()[2].accuracy, None);
        assert_eq!(Calibration::default().expected_error(), None);
    }
}
