//! Masks of labels of any size, row by row.

use std::path::Path;

use super::source::{Info, Nodata, Options, ReadAhead, Reading, SampleType, Samples, Source, TilePixels};
use super::{Axis, Error, Grid, Result};

/// Stands for pixels without data, whatever stood for them in the file.
pub const NODATA: u16 = u16::MAX;

/// Bytes of rows that are read at once, as long as that is a row.
const STRIP: i64 = 8 << 20;

/// Bytes of blocks that are kept for rows to come.
const CACHE: usize = 1 << 30;

/// Opens a raster by its path.
///
/// # Errors
/// What cannot be read.
pub(super) fn open(path: &Path, bands: Option<Vec<usize>>, nodata: Nodata) -> Result<Source> {
    let Some(location) = path.to_str() else {
        return Err(Error::read("location", path, "the path is not UTF-8"));
    };
    let location = location.to_string();
    Source::open(&Options { location, bands, nodata })
}

/// The rows of a raster, several at a time.
pub(super) struct Strips {
    reader: ReadAhead,
    count: usize,
}

impl Strips {
    /// Begins to read.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(source: Source, rows: i64) -> Result<Self> {
        let info = source.info();
        let axis = |length: i64, tile: i64| Axis { length, tile, overlap: 0, multiple: 1, fixed: false };
        let grid = Grid { x: axis(info.width, info.width), y: axis(info.height, rows) };
        let reading = Reading {
            grid,
            tiles: (0..grid.count()).collect::<Vec<_>>().into(),
            fill: vec![0.0; info.bands],
            interleaved: false,
            row_multiple: 1,
            cache: CACHE,
            ahead: 0,
        };
        Ok(Strips { reader: ReadAhead::start(source, reading, 0)?, count: grid.count() })
    }

    /// The next rows, band after band; `None` after the last.
    ///
    /// # Errors
    /// A file that cannot be read any further.
    pub fn next(&self) -> Result<Option<TilePixels>> {
        self.reader.next(self.count)
    }
}

/// A mask that is open.
pub struct Mask {
    pub info: Info,
    /// Names of labels, from 0 on, as far as the file has them.
    pub names: Vec<String>,
    source: Source,
    /// Of 8 bits, what 255 stands for where the file does not say that it is no data.
    of_255: u16,
}

impl Mask {
    /// Opens a mask, palette or not. 255 in 8 bits is class 1 where there is nothing else but 0 and no nodata value is stated; in other
    /// masks it is no data, unless it is among the labels `named`.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn open(path: &Path, named: &[u16]) -> Result<Self> {
        let source = open(path, Some(vec![1]), Nodata::Stated)?;
        let info = source.info().clone();
        let of_255 = match info.sample == SampleType::U8 && info.nodata != Some(255.0) {
            true if named.contains(&255) => 255,
            true if has_only_0_and_255(path)? => 1,
            _ => NODATA,
        };
        let names = source.legend().map(|legend| legend.names).unwrap_or_default();
        Ok(Mask { info, names, source, of_255 })
    }

    /// Rows that are read at once.
    pub fn rows(&self) -> i64 {
        (STRIP / (self.info.width * self.info.sample.size() as i64)).clamp(1, self.info.height)
    }
}

/// Reads until something else comes.
fn has_only_0_and_255(path: &Path) -> Result<bool> {
    let source = open(path, Some(vec![1]), Nodata::Stated)?;
    let rows = (STRIP / source.info().width).clamp(1, source.info().height);
    let strips = Strips::start(source, rows)?;
    while let Some(strip) = strips.next()? {
        if let Some(Samples::U8(values)) = strip.pixels
            && values.iter().any(|v| ![0, 255].contains(v))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Labels of a mask, read at once.
pub struct Labels {
    /// The first row.
    pub first: i64,
    /// Row by row.
    pub values: Vec<u16>,
}

/// Reads a mask from top to bottom.
pub struct MaskReader {
    strips: Strips,
    path: String,
    of_255: u16,
}

impl MaskReader {
    /// Begins to read.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(mask: Mask) -> Result<Self> {
        let rows = mask.rows();
        Ok(MaskReader { path: mask.info.location, of_255: mask.of_255, strips: Strips::start(mask.source, rows)? })
    }

    /// The next rows; `None` after the last.
    ///
    /// # Errors
    /// A file that cannot be read any further, and values that are no label.
    pub fn next(&self) -> Result<Option<Labels>> {
        let Some(strip) = self.strips.next()? else { return Ok(None) };
        let area = strip.tile.area;
        let mut values = match strip.pixels {
            None => vec![NODATA; area.area()],
            Some(Samples::U8(values)) => {
                let of = |v: u8| if v == 255 { self.of_255 } else { u16::from(v) };
                values.into_iter().map(of).collect()
            }
            Some(Samples::U16(values)) => values,
            Some(Samples::I16(values)) => self.whole(values.into_iter().map(f64::from), strip.valid.as_deref())?,
            Some(Samples::F32(values)) => self.whole(values.into_iter().map(f64::from), strip.valid.as_deref())?,
        };
        if let Some(valid) = &strip.valid {
            values.iter_mut().zip(valid).filter(|(_, valid)| **valid == 0).for_each(|(label, _)| *label = NODATA);
        }
        Ok(Some(Labels { first: area.y, values }))
    }

    /// Values that may be labels, or not.
    fn whole(&self, values: impl Iterator<Item = f64>, valid: Option<&[u8]>) -> Result<Vec<u16>> {
        let one = |(k, v): (usize, f64)| match valid.is_some_and(|valid| valid[k] == 0) {
            true => Ok(NODATA),
            false if v.fract() == 0.0 && (0.0..f64::from(NODATA)).contains(&v) => Ok(v as u16),
            false => Err(Error::read(
                "location",
                &self.path,
                format!("has a pixel of value {v}, which is no class; classes are whole numbers from 0 to 65534"),
            )),
        };
        values.enumerate().map(one).collect()
    }
}
