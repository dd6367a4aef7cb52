//! A mask as the metrics take it: one class index per pixel.

use super::super::decide::NODATA_16;
use super::super::error::{Error, Result};

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
        if width == 0 || data.is_empty() || data.len() != width * height {
            return Err(Error::Frame(format!("{} labels for a mask of {width} x {height}", data.len())));
        }
        Ok(LabelMap { width, height, data })
    }

    /// Makes nodata of the pixels that are nodata in the other.
    pub(super) fn without_nodata_of(&self, other: &LabelMap) -> LabelMap {
        let data =
            self.data.iter().zip(&other.data).map(|(l, o)| if *o == NODATA_16 { NODATA_16 } else { *l }).collect();
        LabelMap { data, ..*self }
    }
}
