//! A mask and the raster of its probabilities, row by row.

use std::path::Path;

use super::regions::{Run, Sum};
use crate::raster::mask::{Labels, Mask, MaskReader, Strips, open};
use crate::raster::source::{Info, Nodata, SampleType, Samples, Source, TilePixels};
use crate::raster::{Error, Result};

/// Which band holds the probabilities of a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    index: usize,
    scale: f64,
    offset: f64,
}

/// The raster of probabilities that belongs to a mask.
pub struct Probability {
    source: Source,
    names: Vec<String>,
    bands: Vec<Band>,
}

impl Probability {
    /// Opens it.
    ///
    /// # Errors
    /// What cannot be read, and a raster of other pixels than the mask's.
    pub fn open(path: &Path, mask: &Info) -> Result<Self> {
        let source = open(path, None, Nodata::Stated)?;
        let info = source.info();
        let wrong = |problem: String| Err(Error::read("location", path, problem));
        if (info.width, info.height) != (mask.width, mask.height) {
            return wrong(format!(
                "has {}x{} pixels, and the mask has {}x{}; name the probabilities of the same run",
                info.width, info.height, mask.width, mask.height
            ));
        }
        if let (Some(a), Some(b)) = (info.georeference.geotransform, mask.georeference.geotransform)
            && a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-9 * b.abs().max(1.0))
        {
            return wrong("does not lie where the mask lies; name the probabilities of the same run".into());
        }
        // A view of probabilities has no scale: its highest value is 1.
        let most = match info.sample {
            SampleType::U8 => 255.0,
            SampleType::U16 => 65535.0,
            SampleType::I16 => 32767.0,
            SampleType::F32 => 1.0,
        };
        let stated = |(index, (scale, offset)): (usize, (f64, f64))| match (scale, offset) {
            (1.0, 0.0) => Band { index, scale: 1.0 / most, offset },
            _ => Band { index, scale, offset },
        };
        let bands = source.scales().into_iter().enumerate().map(stated).collect();
        Ok(Probability { names: source.band_names(), bands, source })
    }

    /// The band of a class: the one of its name; else the one of its number. A lone band is that of every class but 0, unless it has the name
    /// of another class.
    pub fn band(&self, class: u16, names: &[String]) -> Option<Band> {
        let name = names.get(usize::from(class)).filter(|name| !name.is_empty());
        let by_name = self.names.iter().position(|band| Some(band) == name);
        let by_number = match self.bands.len() {
            1 if class == 0 || names.contains(&self.names[0]) => None,
            1 => Some(0),
            _ => Some(usize::from(class)),
        };
        self.bands.get(by_name.or(by_number)?).copied()
    }
}

/// Rows of both, read at once.
pub struct Rows {
    pub labels: Labels,
    width: usize,
    probability: Option<TilePixels>,
}

impl Rows {
    /// The sum of a class's probabilities over a run of the mask's row `row`.
    pub fn sum(&self, band: Band, run: Run) -> Sum {
        let Some((tile, samples)) = self.probability.as_ref().and_then(|tile| Some((tile, tile.pixels.as_ref()?)))
        else {
            return Sum::default();
        };
        let row = run.row as usize - self.labels.first as usize;
        let pixels = row * self.width + run.start as usize..row * self.width + run.end as usize;
        let plane = band.index * self.labels.values.len();
        let of = |pixel: usize| match samples {
            Samples::U8(v) => f64::from(v[plane + pixel]),
            Samples::U16(v) => f64::from(v[plane + pixel]),
            Samples::I16(v) => f64::from(v[plane + pixel]),
            Samples::F32(v) => f64::from(v[plane + pixel]),
        };
        let valid = |pixel: &usize| tile.valid.as_ref().is_none_or(|valid| valid[*pixel] != 0) && !of(*pixel).is_nan();
        let add = |sum: Sum, pixel: usize| Sum { values: sum.values + of(pixel), count: sum.count + 1 };
        // Whole numbers add up exactly; they are scaled once.
        pixels.filter(valid).fold(Sum::default(), add)
    }
}

impl Band {
    pub fn scaled(&self, mean: f64) -> f64 {
        mean * self.scale + self.offset
    }
}

/// Reads both from top to bottom.
pub struct Reader {
    mask: MaskReader,
    probability: Option<Strips>,
    width: usize,
}

impl Reader {
    /// Begins to read.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(mask: Mask, probability: Option<Probability>) -> Result<Self> {
        let (rows, width) = (mask.rows(), mask.info.width as usize);
        let probability = probability.map(|probability| Strips::start(probability.source, rows)).transpose()?;
        Ok(Reader { mask: MaskReader::start(mask)?, probability, width })
    }

    /// The next rows; `None` after the last.
    ///
    /// # Errors
    /// Files that cannot be read any further, and values that are no label.
    pub fn next(&self) -> Result<Option<Rows>> {
        let Some(labels) = self.mask.next()? else { return Ok(None) };
        let probability = match &self.probability {
            Some(strips) => strips.next()?,
            None => None,
        };
        Ok(Some(Rows { labels, width: self.width, probability }))
    }
}
