//! Reading one rectangle of the file: pixels, validity, and what invalid pixels become.

use std::sync::atomic::Ordering;

use gdal::raster::RasterBand;
use gdal_sys::{CPLErr, GDALDataType, GDALRWFlag};

use super::messages::catch;
use super::sample::{Layout, Sample};
use super::{Mask, Source};
use crate::raster::{Error, Rect, Result};

/// A rectangle of pixels.
#[derive(Debug)]
pub struct Unit<T> {
    pub rect: Rect,
    /// Tightly packed.
    pub pixels: Vec<T>,
    /// One byte per pixel, 0 where there is no data; `None` = data everywhere.
    pub valid: Option<Vec<u8>>,
}

/// What is known of a rectangle without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// As far as GDAL can say.
    Full,
    /// There are empty blocks in it.
    Partial,
    Empty,
}

/// What an invalid sample becomes.
#[derive(Debug, Clone, Copy)]
pub enum Fill<'a, T> {
    /// Per band; but an integer 0 stays 0.
    With(&'a [T]),
    /// The one value, in all bands of pixels without data and in single bands without data.
    Marked(T),
}

impl Source {
    /// Whether anything is known to be in a rectangle of the file.
    pub fn coverage(&self, rect: Rect) -> Coverage {
        if let Some(pieces) = &self.pieces {
            let found = pieces.iter().filter(|p| p.rect.touches(&rect));
            let mut coverage = Coverage::Empty;
            for piece in found {
                if piece.rect.contains(&rect) {
                    return Coverage::Full;
                }
                coverage = Coverage::Partial;
            }
            return coverage;
        }
        // gdal.h: GDAL_DATA_COVERAGE_STATUS_…
        const UNKNOWN: i32 = 1;
        const DATA: i32 = 2;
        const EMPTY: i32 = 4;
        if !self.knows_empty.load(Ordering::Relaxed) {
            return Coverage::Full;
        }
        let mut status = 0;
        let (x, y, w, h) = (rect.x as i32, rect.y as i32, rect.width as i32, rect.height as i32);
        for band in &self.bands {
            let Ok(band) = self.dataset.rasterband(*band) else { return Coverage::Full };
            // SAFETY: the band lives, and no share is asked for.
            let (found, _) = catch(|| unsafe {
                gdal_sys::GDALGetDataCoverageStatus(band.c_rasterband(), x, y, w, h, 0, std::ptr::null_mut())
            });
            status |= found;
        }
        if status & UNKNOWN != 0 || status == 0 {
            self.knows_empty.store(false, Ordering::Relaxed);
            return Coverage::Full;
        }
        match (status & DATA != 0, status & EMPTY != 0) {
            (false, _) => Coverage::Empty,
            (true, true) => Coverage::Partial,
            (true, false) => Coverage::Full,
        }
    }

    /// Whether a rectangle is known to have no data, without reading it.
    pub fn is_empty(&self, rect: Rect) -> bool {
        let file = Rect::new(0, 0, self.width, self.height);
        self.coverage(self.scale.sources(rect).intersect(&file)) == Coverage::Empty
    }

    /// Reads a rectangle of the file. `None` where GDAL knows that it is empty, and reads nothing.
    ///
    /// # Errors
    /// What GDAL says of a file that is damaged or cut short.
    pub(super) fn load<T: Sample>(&self, rect: Rect, layout: Layout, fill: Fill<'_, T>) -> Result<Option<Unit<T>>> {
        let coverage = self.coverage(rect);
        if coverage == Coverage::Empty {
            return Ok(None);
        }
        let (width, height) = (rect.width as usize, rect.height as usize);
        let n = width * height;
        let bands = layout.bands;
        let strides = layout.strides(width, height, 1);
        let mut pixels = vec![T::default(); n * bands];
        // Per band, 1 where its own value is no data; and for the whole pixel, 0 where something hides it.
        let mut bad: Vec<Option<Vec<u8>>> = vec![None; bands];
        let mut shown: Option<Vec<u8>> = None;
        if let Some(palette) = &self.palette {
            let mut index = vec![0u16; n];
            self.read(rect, u16::GDAL, &mut index, 1, 1)?;
            let nodata = self.nodata[0].and_then(u16::exactly);
            let mut seen = vec![1u8; n];
            for (p, i) in index.iter().enumerate() {
                // An index without a colour shows nothing.
                let colour = palette.get(*i as usize).copied().unwrap_or([0; 4]);
                for (band, v) in colour[..3].iter().enumerate() {
                    pixels[p * strides.pixel + band * strides.band] = T::from_f64(*v as f64);
                }
                if colour[3] == 0 || nodata == Some(*i) {
                    seen[p] = 0;
                }
            }
            hide(&mut shown, seen);
        } else if self.wide {
            let mut values = vec![0f64; n * bands];
            self.read(rect, GDALDataType::GDT_Float64, &mut values, 1, n)?;
            for band in 0..bands {
                let nodata = self.nodata[band];
                let values = &values[band * n..(band + 1) * n];
                bad[band] = marked(values.iter(), |v| v.is_nan() || Some(*v) == nodata);
                for (p, v) in values.iter().enumerate() {
                    pixels[p * strides.pixel + band * strides.band] = T::from_f64(*v);
                }
            }
        } else {
            self.read(rect, T::GDAL, &mut pixels, strides.pixel, strides.band)?;
            for (band, bad) in bad.iter_mut().enumerate() {
                let nodata = self.nodata[band].and_then(T::exactly);
                // Most rectangles lack nothing, which is quickly seen without regard to bands.
                let possible = !T::INTEGER || nodata.is_some_and(|v| pixels.contains(&v));
                if possible {
                    let values = pixels[band * strides.band..].chunks(strides.pixel).take(n).map(|p| &p[0]);
                    *bad = marked(values, |v| Some(*v) == nodata || v.is_nan());
                }
            }
        }
        for mask in &self.masks {
            match *mask {
                Mask::Alpha(band) => hide(&mut shown, self.read_mask(rect, band, false)?),
                Mask::Shared(band) => hide(&mut shown, self.read_mask(rect, band, true)?),
                Mask::Own { band, place } => {
                    let mask = self.read_mask(rect, band, true)?;
                    let more = marked(mask.iter(), |v| *v == 0);
                    if let (Some(bad), Some(more)) = (&mut bad[place], &more) {
                        bad.iter_mut().zip(more).for_each(|(b, m)| *b |= m);
                    } else if more.is_some() {
                        bad[place] = more;
                    }
                }
            }
        }
        if coverage == Coverage::Partial {
            hide(&mut shown, self.covered(rect));
        }

        // No data where all bands have none, or where the pixel is hidden.
        let mut valid = shown;
        if bad.iter().all(Option::is_some) {
            let mut any = vec![0u8; n];
            for bad in bad.iter().flatten() {
                any.iter_mut().zip(bad).for_each(|(any, bad)| *any |= 1 - bad);
            }
            hide(&mut valid, any);
        }
        let valid = valid.filter(|v| v.contains(&0));
        for (band, bad) in bad.iter().enumerate() {
            if bad.is_none() && valid.is_none() {
                continue;
            }
            for p in 0..n {
                let invalid = bad.as_ref().is_some_and(|b| b[p] != 0) || valid.as_ref().is_some_and(|v| v[p] == 0);
                if invalid {
                    let v = &mut pixels[p * strides.pixel + band * strides.band];
                    *v = fill.of(band, *v);
                }
            }
        }
        Ok(Some(Unit { rect, pixels, valid }))
    }

    /// What a band reads as where nothing was written.
    pub(super) fn unwritten<T: Sample>(&self, band: usize) -> T {
        match self.palette {
            Some(_) => T::default(),
            None => self.nodata[band].map_or(T::default(), T::from_f64),
        }
    }

    /// 1 for each pixel that lies in a file of the mosaic, or in a block that is not empty.
    fn covered(&self, rect: Rect) -> Vec<u8> {
        let width = rect.width as usize;
        let mut covered = vec![0u8; rect.area()];
        let mut cover = |part: Rect| {
            let part = part.intersect(&rect).relative_to(rect.x, rect.y);
            for y in part.y as usize..part.bottom() as usize {
                covered[y * width + part.x as usize..y * width + part.right() as usize].fill(1);
            }
        };
        if let Some(pieces) = &self.pieces {
            pieces.iter().filter(|p| p.rect.touches(&rect)).for_each(|p| cover(p.rect));
        } else {
            let (w, h) = self.block;
            for row in rect.y / h..=(rect.bottom() - 1) / h {
                for column in rect.x / w..=(rect.right() - 1) / w {
                    let block = Rect::new(column * w, row * h, w, h).intersect(&rect);
                    if self.coverage(block) != Coverage::Empty {
                        cover(block);
                    }
                }
            }
        }
        covered
    }

    /// Reads the selected bands; strides are in samples, which are what GDAL calls `kind`.
    fn read<T>(
        &self,
        rect: Rect,
        kind: GDALDataType::Type,
        samples: &mut [T],
        pixel: usize,
        band: usize,
    ) -> Result<()> {
        let mut bands: Vec<i32> = self.bands.iter().map(|b| *b as i32).collect();
        let (w, h) = (rect.width as usize, rect.height as usize);
        let row = w * pixel;
        let last = (bands.len() - 1) * band + (h - 1) * row + (w - 1) * pixel;
        assert!(last < samples.len(), "the rectangle fits its buffer");
        // SAFETY: asks for a constant.
        assert_eq!(unsafe { gdal_sys::GDALGetDataTypeSizeBytes(kind) } as usize, size_of::<T>());
        let bytes = |samples: usize| (samples * size_of::<T>()) as i64;
        self.said(rect, || {
            // SAFETY: the rectangle lies in the raster, the bands exist, the last sample lies in the
            // buffer, and `kind` has the size of `T`.
            unsafe {
                gdal_sys::GDALDatasetRasterIOEx(
                    self.dataset.c_dataset(),
                    GDALRWFlag::GF_Read,
                    rect.x as i32,
                    rect.y as i32,
                    w as i32,
                    h as i32,
                    samples.as_mut_ptr().cast(),
                    w as i32,
                    h as i32,
                    kind,
                    bands.len() as i32,
                    bands.as_mut_ptr(),
                    bytes(pixel),
                    bytes(row),
                    bytes(band),
                    std::ptr::null_mut(),
                )
            }
        })
    }

    /// Reads a band, or the mask of a band: 0 where the band is 0, else 1.
    fn read_mask(&self, rect: Rect, band: usize, mask: bool) -> Result<Vec<u8>> {
        // As a float, in which any type's smallest step above 0 is not 0.
        let mut values = vec![0f32; rect.area()];
        self.with_band(band, mask, |band| self.said(rect, || read_band(band, rect, &mut values)))?;
        Ok(values.iter().map(|v| (*v != 0.0) as u8).collect())
    }

    /// Does something with a band, or with the mask of a band.
    pub(super) fn with_band<R>(
        &self,
        band: usize,
        mask: bool,
        work: impl FnOnce(&RasterBand<'_>) -> Result<R>,
    ) -> Result<R> {
        let failed = |e: gdal::errors::GdalError| Error::read("location", &self.info.location, e.to_string());
        let band = self.dataset.rasterband(band).map_err(failed)?;
        match mask {
            true => work(&band.open_mask_band().map_err(failed)?),
            false => work(&band),
        }
    }

    /// Turns GDAL's failure to read into an error for the user, and keeps its warnings.
    pub(super) fn said(&self, rect: Rect, read: impl FnOnce() -> CPLErr::Type) -> Result<()> {
        let (result, mut said) = catch(read);
        // GDAL makes up what is missing from a JPEG.
        let cut = said.warnings.iter().any(|w| w.contains("Premature end of"));
        if cut {
            said.failures.append(&mut said.warnings);
        }
        let location = &self.info.location;
        self.warn(said.warnings.iter().map(|w| format!("location={location}: {w}")).collect());
        if !cut && (result == CPLErr::CE_None || result == CPLErr::CE_Warning) {
            return Ok(());
        }
        let problem = format!(
            "columns {} to {} of rows {} to {} cannot be read: {}; the file, or one that it refers to, is damaged, cut \
             short or gone: get it anew",
            rect.x,
            rect.right() - 1,
            rect.y,
            rect.bottom() - 1,
            said.words()
        );
        Err(Error::read("location", location, problem))
    }
}

fn read_band(band: &RasterBand<'_>, rect: Rect, samples: &mut [f32]) -> CPLErr::Type {
    assert_eq!(samples.len(), rect.area());
    // SAFETY: the band lives, the rectangle lies in it, and the buffer holds it without gaps.
    unsafe {
        gdal_sys::GDALRasterIOEx(
            band.c_rasterband(),
            GDALRWFlag::GF_Read,
            rect.x as i32,
            rect.y as i32,
            rect.width as i32,
            rect.height as i32,
            samples.as_mut_ptr().cast(),
            rect.width as i32,
            rect.height as i32,
            f32::GDAL,
            0,
            0,
            std::ptr::null_mut(),
        )
    }
}

impl<T: Sample> Fill<'_, T> {
    pub fn of(&self, band: usize, v: T) -> T {
        match self {
            Fill::With(_) if T::INTEGER && v == T::default() => v,
            Fill::With(values) => values[band],
            Fill::Marked(mark) => *mark,
        }
    }
}

/// 1 for each value that is `wrong`; `None` where none is.
fn marked<'a, T: 'a>(values: impl Iterator<Item = &'a T>, wrong: impl Fn(&T) -> bool) -> Option<Vec<u8>> {
    let marks: Vec<u8> = values.map(|v| wrong(v) as u8).collect();
    marks.contains(&1).then_some(marks)
}

/// Both masks: 0 where either is.
pub(super) fn hide(mask: &mut Option<Vec<u8>>, more: Vec<u8>) {
    match mask {
        Some(mask) => mask.iter_mut().zip(&more).for_each(|(m, v)| *m &= v),
        None => *mask = Some(more),
    }
}
