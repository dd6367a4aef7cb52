//! A mask as the metrics take it: one class index per pixel.

use std::ops::Range;

use super::super::decide::NODATA_16;
use super::super::error::{Error, Result};
use super::confusion::Label;

/// `height × width` class indices, row by row; 65535 is nodata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u16>,
}

impl LabelMap {
    /// # Errors
    /// No pixels, or another number of them than `width × height`.
    pub fn new(width: usize, height: usize, data: Vec<u16>) -> Result<Self> {
        if data.is_empty() || data.len() != width * height {
            return Err(Error::Frame(format!("{} labels for a mask of {width} x {height}", data.len())));
        }
        Ok(LabelMap { width, height, data })
    }

    /// The (predicted, true) class of each pixel, or `None` where either is nodata.
    pub(super) fn pairs<'a>(&'a self, truth: &'a LabelMap) -> impl Iterator<Item = Option<(usize, usize)>> + 'a {
        self.pairs_in(truth, 0..self.data.len())
    }

    /// Of some of the pixels.
    pub(super) fn pairs_in<'a>(
        &'a self,
        truth: &'a LabelMap,
        pixels: Range<usize>,
    ) -> impl Iterator<Item = Option<(usize, usize)>> + 'a {
        let pairs = self.data[pixels.clone()].iter().zip(&truth.data[pixels]);
        pairs.map(|(p, t)| Some((p.class()?, t.class()?)))
    }

    /// Makes nodata of the pixels that are nodata in the other.
    pub(super) fn without_nodata_of(&self, other: &LabelMap) -> LabelMap {
        let data = self.data.iter().zip(&other.data).map(|(l, o)| if *o == NODATA_16 { NODATA_16 } else { *l });
        LabelMap { data: data.collect(), ..*self }
    }
}
