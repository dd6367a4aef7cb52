//! Any part of a raster at any scale, in bounded memory and time: for those who look at it, not for models.

use gdal::Metadata;
use gdal::raster::RasterBand;
use gdal_sys::{CPLErr, GDALDataType, GDALRIOResampleAlg, GDALRWFlag, GDALRasterIOExtraArg};

use super::load::{Coverage, hide};
use super::{Mask, SampleType, Source};
use crate::raster::{Rect, Result};

/// Pixels that one glance decodes at most, all bands together, where blocks are smaller than that.
const MOST: f64 = (64u32 << 20) as f64;
/// Pixels that are averaged into one across, and down; from more than that one is taken.
const AVERAGED: f64 = 4.0;
/// GDAL takes an overview that is coarser than what is wanted by less than this.
const OVERSAMPLING: f64 = 1.2;

/// How pixels become one where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// One of them: for classes.
    Nearest,
    /// Their average, where they are not too many.
    Average,
}

/// What is seen of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    /// Row by row for each band that was asked for, or red, green and blue of a palette. NaN where a band has no data.
    pub bands: Vec<Vec<f64>>,
    /// One byte per pixel, 0 where there is no data; `None` = data everywhere.
    pub valid: Option<Vec<u8>>,
    /// Fewer pixels were read than asked for, each shown several times: the raster lacks overviews.
    pub coarse: bool,
}

/// What a band's samples stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Meaning {
    /// The number of the band in the file, from 1.
    pub band: usize,
    /// Empty where the file does not say.
    pub name: String,
    /// A sample v stands for `scale`·v + `offset`. `None` where the file does not say.
    pub scale: Option<f64>,
    pub offset: f64,
    /// Empty where the file does not say.
    pub unit: String,
}

/// How a window is read.
struct Plan {
    size: (usize, usize),
    pick: Pick,
}

impl Source {
    /// Reads a window, given as x, y, width and height in pixels of the raster, fractions allowed, at another size. What is
    /// read comes from overviews where there are any. `bands` are places in the selection, from 0; a palette has one.
    /// `None` where GDAL knows that nothing is there.
    ///
    /// # Errors
    /// What GDAL says of a file that is damaged or cut short.
    ///
    /// # Panics
    /// A window that is empty or leaves the raster, a size of 0, and places that are not there.
    pub fn glance(
        &self,
        window: [f64; 4],
        size: (usize, usize),
        bands: &[usize],
        pick: Pick,
    ) -> Result<Option<Glance>> {
        let [x, y, w, h] = window;
        assert!(w > 0.0 && h > 0.0 && x >= 0.0 && y >= 0.0, "the window has pixels");
        assert!(x + w <= self.width as f64 && y + h <= self.height as f64, "the window lies in the raster");
        assert!(size.0 > 0 && size.1 > 0 && bands.iter().all(|b| *b < self.bands.len()), "something is asked for");
        let whole = Rect::new(
            x.floor() as i64,
            y.floor() as i64,
            (x + w).ceil() as i64 - x.floor() as i64,
            (y + h).ceil() as i64 - y.floor() as i64,
        );
        let coverage = self.coverage(whole);
        if coverage == Coverage::Empty {
            return Ok(None);
        }
        let pick = if self.palette.is_some() { Pick::Nearest } else { pick };
        let plan = self.plan((w, h), size, bands.len(), pick);
        let n = plan.size.0 * plan.size.1;
        let numbers: Vec<usize> = bands.iter().map(|b| self.bands[*b]).collect();
        let mut read = vec![0f64; n * bands.len()];
        self.said(whole, || self.read_scaled(window, whole, &plan, &numbers, &mut read))?;

        let mut planes: Vec<Vec<f64>> = read.chunks_exact(n).map(<[f64]>::to_vec).collect();
        let mut valid = None;
        for (plane, band) in planes.iter_mut().zip(bands) {
            if let Some(nodata) = self.nodata[*band] {
                // Files state it with more digits than their samples have.
                let single = self.info.sample == SampleType::F32 && !self.wide;
                let same = |v: f64| v == nodata || (single && v as f32 == nodata as f32);
                plane.iter_mut().filter(|v| same(**v)).for_each(|v| *v = f64::NAN);
            }
        }
        for mask in &self.masks {
            let (band, own) = match *mask {
                Mask::Alpha(band) | Mask::Shared(band) => (band, None),
                Mask::Own { band, place } => match bands.iter().position(|b| *b == place) {
                    Some(plane) => (band, Some(plane)),
                    None => continue,
                },
            };
            let seen = self.read_scaled_mask(window, whole, plan.size, band, !matches!(mask, Mask::Alpha(_)))?;
            match own {
                None => hide(&mut valid, seen),
                Some(plane) => {
                    planes[plane].iter_mut().zip(seen).filter(|(_, seen)| *seen == 0).for_each(|(v, _)| *v = f64::NAN)
                }
            }
        }
        // What was never written reads as nodata, where there is such a value.
        if coverage == Coverage::Partial && bands.iter().any(|band| self.nodata[*band].is_none()) {
            hide(&mut valid, self.covered_scaled(window, plan.size));
        }
        if planes.iter().any(|plane| plane.iter().any(|v| v.is_nan())) {
            let seen = (0..n).map(|p| planes.iter().any(|plane| !plane[p].is_nan()) as u8);
            hide(&mut valid, seen.collect());
        }
        if let Some(palette) = &self.palette {
            let colour = |v: &f64| palette.get(*v as usize).copied().filter(|_| !v.is_nan()).unwrap_or([0; 4]);
            let colours: Vec<[u8; 4]> = planes[0].iter().map(colour).collect();
            hide(&mut valid, colours.iter().map(|c| (c[3] != 0) as u8).collect());
            planes = (0..3).map(|k| colours.iter().map(|c| f64::from(c[k])).collect()).collect();
        }
        let coarse = plan.size != size;
        if coarse {
            planes = planes.iter().map(|plane| enlarge(plane, plan.size, size)).collect();
            valid = valid.map(|valid| enlarge(&valid, plan.size, size));
        }
        Ok(Some(Glance { bands: planes, valid: valid.filter(|v| v.contains(&0)), coarse }))
    }

    /// What the samples of the selected bands stand for.
    pub fn meanings(&self) -> Vec<Meaning> {
        let of = |number: &usize| {
            let band = self.dataset.rasterband(*number).ok();
            let band = band.as_ref();
            let scale = band.and_then(|b| b.scale()).filter(|s| s.is_finite() && *s != 0.0);
            let offset = band.and_then(|b| b.offset()).filter(|o| o.is_finite()).unwrap_or(0.0);
            Meaning {
                band: *number,
                name: band.and_then(|b| b.description().ok()).unwrap_or_default(),
                // GDAL's drivers say 1 and 0 where the file says nothing.
                scale: scale.filter(|s| (*s, offset) != (1.0, 0.0)),
                offset,
                unit: band.map(|b| b.unit()).unwrap_or_default(),
            }
        };
        self.bands.iter().map(of).collect()
    }

    /// An item of the file's own metadata.
    pub fn metadata_item(&self, name: &str) -> Option<String> {
        self.dataset.metadata_item(name, "")
    }

    /// Whether the selected bands are shown as their palette's colours.
    pub fn shows_palette(&self) -> bool {
        self.palette.is_some()
    }

    /// Memory in bytes that GDAL needs to read a single pixel.
    pub fn block_bytes(&self) -> i64 {
        let size = if self.wide { 8 } else { self.info.sample.size() as i64 };
        self.block.0 * self.block.1 * size
    }

    /// Fewer pixels than are wanted where more would have to be decoded than anyone waits for.
    fn plan(&self, window: (f64, f64), size: (usize, usize), bands: usize, pick: Pick) -> Plan {
        let factor = (window.0 / size.0 as f64).min(window.1 / size.1 as f64);
        let (mut ratio, mut block) = (1.0, (self.block.0 as f64, self.block.1 as f64));
        for (width, of_overview) in self.overviews() {
            let coarser = self.width as f64 / width;
            if coarser > ratio && coarser < factor * OVERSAMPLING {
                (ratio, block) = (coarser, of_overview);
            }
        }
        if pick == Pick::Average && factor > 1.0 && factor / ratio <= AVERAGED {
            return Plan { size, pick };
        }
        let touched =
            |length: f64, block: f64, samples: usize| ((length / ratio / block).ceil() + 1.0).min(samples as f64);
        let cost = |(w, h): (usize, usize)| {
            touched(window.0, block.0, w) * touched(window.1, block.1, h) * block.0 * block.1 * bands as f64
        };
        let mut fewer = size;
        while cost(fewer) > MOST && fewer.0.max(fewer.1) > 1 {
            let less = |n: usize| (n - n.div_ceil(4)).max(1);
            fewer = (less(fewer.0), less(fewer.1));
        }
        Plan { size: fewer, pick: Pick::Nearest }
    }

    /// The overviews of the first band: width, and the size of the blocks.
    fn overviews(&self) -> Vec<(f64, (f64, f64))> {
        let Ok(band) = self.dataset.rasterband(self.bands[0]) else { return Vec::new() };
        let count = band.overview_count().unwrap_or(0).max(0) as usize;
        let overviews = (0..count).filter_map(|k| band.overview(k).ok());
        let floats = |(w, h): (usize, usize)| (w as f64, h as f64);
        overviews.map(|o| (o.x_size().max(1) as f64, floats(o.block_size()))).collect()
    }

    fn read_scaled(&self, window: [f64; 4], whole: Rect, plan: &Plan, bands: &[usize], to: &mut [f64]) -> CPLErr::Type {
        let (w, h) = plan.size;
        assert_eq!(to.len(), w * h * bands.len());
        let mut bands: Vec<i32> = bands.iter().map(|b| *b as i32).collect();
        let mut extra = extra(window, plan.pick);
        let bytes = |samples: usize| (samples * size_of::<f64>()) as i64;
        // SAFETY: the window lies in the raster, the bands exist, and the buffer holds them one after the other.
        unsafe {
            gdal_sys::GDALDatasetRasterIOEx(
                self.dataset.c_dataset(),
                GDALRWFlag::GF_Read,
                whole.x as i32,
                whole.y as i32,
                whole.width as i32,
                whole.height as i32,
                to.as_mut_ptr().cast(),
                w as i32,
                h as i32,
                GDALDataType::GDT_Float64,
                bands.len() as i32,
                bands.as_mut_ptr(),
                bytes(1),
                bytes(w),
                bytes(w * h),
                &mut extra,
            )
        }
    }

    /// A band, or the mask of a band: 0 where the band is 0, else 1.
    fn read_scaled_mask(
        &self,
        window: [f64; 4],
        whole: Rect,
        size: (usize, usize),
        band: usize,
        mask: bool,
    ) -> Result<Vec<u8>> {
        let mut values = vec![0f32; size.0 * size.1];
        let mut extra = extra(window, Pick::Nearest);
        // SAFETY: the band lives, the window lies in it, and the buffer holds the size without gaps.
        let mut read = |band: &RasterBand<'_>| unsafe {
            gdal_sys::GDALRasterIOEx(
                band.c_rasterband(),
                GDALRWFlag::GF_Read,
                whole.x as i32,
                whole.y as i32,
                whole.width as i32,
                whole.height as i32,
                values.as_mut_ptr().cast(),
                size.0 as i32,
                size.1 as i32,
                GDALDataType::GDT_Float32,
                0,
                0,
                &mut extra,
            )
        };
        self.with_band(band, mask, |band| self.said(whole, || read(band)))?;
        Ok(values.iter().map(|v| (*v != 0.0) as u8).collect())
    }

    /// 1 for each pixel of a glance whose middle lies in a file of the mosaic, or in a block that is not empty.
    fn covered_scaled(&self, window: [f64; 4], size: (usize, usize)) -> Vec<u8> {
        let middle =
            |from: f64, length: f64, k: usize, of: usize| (from + (k as f64 + 0.5) * length / of as f64) as i64;
        let columns: Vec<i64> = (0..size.0).map(|k| middle(window[0], window[2], k, size.0)).collect();
        let rows: Vec<i64> = (0..size.1).map(|k| middle(window[1], window[3], k, size.1)).collect();
        let mut covered = vec![0u8; size.0 * size.1];
        if let Some(pieces) = &self.pieces {
            for piece in pieces {
                let span =
                    |at: &[i64], from: i64, to: i64| at.partition_point(|v| *v < from)..at.partition_point(|v| *v < to);
                let wide = span(&columns, piece.rect.x, piece.rect.right());
                for row in span(&rows, piece.rect.y, piece.rect.bottom()) {
                    covered[row * size.0..][wide.clone()].fill(1);
                }
            }
            return covered;
        }
        let (w, h) = self.block;
        let mut above: Option<i64> = None;
        for (k, y) in rows.iter().enumerate() {
            if above == Some(y / h) {
                covered.copy_within((k - 1) * size.0..k * size.0, k * size.0);
                continue;
            }
            above = Some(y / h);
            let mut last = (-1, 0);
            for (x, to) in columns.iter().zip(&mut covered[k * size.0..]) {
                if x / w != last.0 {
                    let bounds = Rect::new(0, 0, self.width, self.height);
                    let block = Rect::new(x / w * w, y / h * h, w, h).intersect(&bounds);
                    last = (x / w, (self.coverage(block) != Coverage::Empty) as u8);
                }
                *to = last.1;
            }
        }
        covered
    }
}

fn extra([x, y, w, h]: [f64; 4], pick: Pick) -> GDALRasterIOExtraArg {
    GDALRasterIOExtraArg {
        nVersion: 1,
        eResampleAlg: match pick {
            Pick::Nearest => GDALRIOResampleAlg::GRIORA_NearestNeighbour,
            Pick::Average => GDALRIOResampleAlg::GRIORA_Average,
        },
        pfnProgress: None,
        pProgressData: std::ptr::null_mut(),
        bFloatingPointWindowValidity: 1,
        dfXOff: x,
        dfYOff: y,
        dfXSize: w,
        dfYSize: h,
    }
}

fn enlarge<T: Copy>(from: &[T], (w, h): (usize, usize), (width, height): (usize, usize)) -> Vec<T> {
    let column = |x: usize| x * w / width;
    (0..height).flat_map(|y| (0..width).map(move |x| from[y * h / height * w + column(x)])).collect()
}
