//! Rasters of another coordinate system than the image's, or turned against it: GDAL warps them to the image's pixels while they
//! are read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use gdal::cpl::CslStringList;
use gdal::vsi::create_mem_file;
use gdal::{Dataset, Metadata};
use gdal_sys::GDALResampleAlg;
use gstonnxsegment::files;
use gstonnxsegment::raster::source::messages::catch;

use super::grid::{Extent, FINEST, Place};

/// How far off a pixel may come from, in pixels of the raster: transforming each one would take longer than reading it.
const ERROR: f64 = 0.01;
/// Points along each side by which the place of a raster in the image is found.
const STEPS: usize = 32;

/// A raster on a part of the image's grid.
pub struct Warp {
    path: PathBuf,
    /// Of the grid; without it the raster's coordinates are taken to be the image's.
    crs: Option<String>,
    /// The geotransform of the part, and its size.
    grid: [f64; 6],
    size: (i32, i32),
    pub place: Place,
}

impl Warp {
    /// On the image's grid, or on that cut into halves, quarters, … where the raster's pixels are finer. The nearest pixel is
    /// taken, so that values are the file's; where the raster has none, an alpha band is 0.
    ///
    /// # Errors
    /// Rasters between whose coordinate systems GDAL knows no way, such as lie elsewhere, and such as are no files, in words that
    /// follow the raster's name.
    pub fn new(path: &Path, size: (i64, i64), image: Extent<'_>) -> Result<Self> {
        let georeference = image.georeference;
        let grid = georeference.geotransform.context("cannot be placed: the image has no geotransform")?;
        let crs = georeference.crs.as_deref();
        ensure!(
            path.is_file(),
            "is in another grid than the image, and only files of a disk are brought there while they are read; warp it with gdalwarp"
        );
        let path = std::path::absolute(path).context("has no path")?;
        let way = Way::new(&open(&path)?, crs, grid)?;
        let (bounds, finer) =
            way.lies(size).context("has no place in the image's coordinate reference system; warp it with gdalwarp")?;
        let [left, top, right, bottom] = bounds;
        let (width, height) = (image.width as f64, image.height as f64);
        ensure!(
            left < width && top < height && right > 0.0 && bottom > 0.0,
            "lies elsewhere than the image: its corner would be the image's column {left:.0}, row {top:.0}"
        );
        let (left, top) = (left.floor().max(0.0), top.floor().max(0.0));
        let (across, down) = (right.ceil().min(width) - left, bottom.ceil().min(height) - top);
        let most = f64::from(i32::MAX) / across.max(down);
        let pieces = 2f64.powi(finer.min(most.log2().floor()) as i32);
        let [x, dx, skew, y, turn, dy] = grid;
        Ok(Warp {
            path,
            crs: crs.map(String::from),
            grid: [
                x + left * dx + top * skew,
                dx / pieces,
                skew / pieces,
                y + left * turn + top * dy,
                turn / pieces,
                dy / pieces,
            ],
            size: ((across * pieces) as i32, (down * pieces) as i32),
            place: Place { origin: (left, top), scale: (1.0 / pieces, 1.0 / pieces) },
        })
    }

    /// What one handle of the warped raster is opened by: a virtual raster in memory, there for as long as the program runs.
    ///
    /// # Errors
    /// What GDAL says of a file that it cannot open any more.
    pub fn location(&self) -> Result<String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Virtual rasters that name one file share one handle of it, on whatever thread they are: each gets a name of its own.
        let folder = files::parent(&self.path).join("./".repeat(count));
        let name = self.path.file_name().context("has no name")?;
        let source = open(&folder.join(name))?;
        let way = Way::new(&source, self.crs.as_deref(), self.grid)?;
        let (made, said) = catch(|| way.warped(&source, self.size, self.grid));
        let text = made.with_context(|| format!("cannot be warped to the image's pixels: {}", said.words()))?;
        let location = format!("/vsimem/warped/{count}/{}", name.to_string_lossy());
        create_mem_file(&location, text.into_bytes()).context("cannot be warped to the image's pixels")?;
        Ok(location)
    }
}

fn open(path: &Path) -> Result<Dataset> {
    catch(|| Dataset::open(path)).0.context("cannot be opened once more")
}

/// From pixels of a raster to pixels of a grid.
struct Way(*mut std::ffi::c_void);

impl Way {
    fn new(source: &Dataset, crs: Option<&str>, grid: [f64; 6]) -> Result<Self> {
        let (made, said) = catch(|| {
            let mut options = CslStringList::new();
            if let Some(crs) = crs {
                options.set_name_value("DST_SRS", crs).ok()?;
            }
            // SAFETY: the data set and the texts live; GDAL copies what it keeps.
            let exact = unsafe {
                gdal_sys::GDALCreateGenImgProjTransformer2(source.c_dataset(), std::ptr::null_mut(), options.as_ptr())
            };
            if exact.is_null() {
                return None;
            }
            // SAFETY: a transformer of that kind; the near one takes it over.
            unsafe {
                gdal_sys::GDALSetGenImgProjTransformerDstGeoTransform(exact, grid.as_ptr());
                let near = gdal_sys::GDALCreateApproxTransformer(Some(gdal_sys::GDALGenImgProjTransform), exact, ERROR);
                gdal_sys::GDALApproxTransformerOwnsSubtransformer(near, 1);
                Some(Way(near))
            }
        });
        made.with_context(|| {
            format!(
                "is in another coordinate reference system than the image, and GDAL cannot bring it there: {}",
                said.words()
            )
        })
    }

    /// Places of the raster's pixels; `None` where there is no way.
    fn at(&self, points: &[(f64, f64)]) -> Vec<Option<(f64, f64)>> {
        let one = |&(x, y): &(f64, f64)| {
            let (mut x, mut y, mut z, mut fine) = ([x], [y], [0.0], [0]);
            // SAFETY: one number each.
            let (done, _) = catch(|| unsafe {
                gdal_sys::GDALUseTransformer(
                    self.0,
                    0,
                    1,
                    x.as_mut_ptr(),
                    y.as_mut_ptr(),
                    z.as_mut_ptr(),
                    fine.as_mut_ptr(),
                )
            });
            (done != 0 && fine[0] != 0 && x[0].is_finite() && y[0].is_finite()).then_some((x[0], y[0]))
        };
        points.iter().map(one).collect()
    }

    /// Least and greatest column and row of a raster, and how often the grid's pixels have to be halved to be as fine as its own.
    fn lies(&self, (width, height): (i64, i64)) -> Option<([f64; 4], f64)> {
        let (w, h) = (width as f64, height as f64);
        let share = |k: usize| k as f64 / STEPS as f64;
        let all = (0..=STEPS).flat_map(|i| (0..=STEPS).map(move |j| (share(i) * w, share(j) * h)));
        let found: Vec<_> = self.at(&all.collect::<Vec<_>>()).into_iter().flatten().collect();
        let fold = |of: fn(&(f64, f64)) -> f64, f: fn(f64, f64) -> f64| found.iter().map(of).reduce(f);
        let bounds =
            [fold(|p| p.0, f64::min)?, fold(|p| p.1, f64::min)?, fold(|p| p.0, f64::max)?, fold(|p| p.1, f64::max)?];
        let (x, y) = (w / 2.0, h / 2.0);
        let finer = match self.at(&[(x, y), (x + 1.0, y), (x, y + 1.0)])[..] {
            [Some(a), Some(b), Some(c)] => {
                let side = (b.0 - a.0).hypot(b.1 - a.1).min((c.0 - a.0).hypot(c.1 - a.1));
                // Pixels that are smaller by a quarter need no grid of their own.
                ((1.0 / side).log2() - 0.4).ceil().clamp(0.0, f64::from(FINEST))
            }
            _ => 0.0,
        };
        Some((bounds, finer))
    }

    /// A virtual raster of that size and geotransform, as text.
    fn warped(self, source: &Dataset, (width, height): (i32, i32), mut grid: [f64; 6]) -> Option<String> {
        let bands = source.raster_count();
        let alpha = (1..=bands).find(|band| {
            let of = source.rasterband(*band).map(|band| band.color_interpretation());
            of.is_ok_and(|kind| kind == gdal::raster::ColorInterpretation::AlphaBand)
        });
        let data: Vec<i32> = (1..=bands).filter(|band| Some(*band) != alpha).map(|band| band as i32).collect();
        let count = data.len() as i32;
        // SAFETY: the options are GDAL's own until they are destroyed, their arrays are GDAL's to free, and of the size told. The
        // virtual raster takes the transformer over and keeps the source open by itself.
        let raster = unsafe {
            let options = gdal_sys::GDALCreateWarpOptions();
            let array = |numbers: &mut dyn Iterator<Item = i32>| {
                let array = gdal_sys::CPLMalloc(data.len() * size_of::<i32>()).cast::<i32>();
                numbers.enumerate().for_each(|(k, number)| array.add(k).write(number));
                array
            };
            (*options).eResampleAlg = GDALResampleAlg::GRA_NearestNeighbour;
            (*options).hSrcDS = source.c_dataset();
            (*options).nBandCount = count;
            (*options).panSrcBands = array(&mut data.iter().copied());
            (*options).panDstBands = array(&mut (1..=count));
            (*options).nSrcAlphaBand = alpha.unwrap_or(0) as i32;
            (*options).nDstAlphaBand = count + 1;
            (*options).pfnTransformer = Some(gdal_sys::GDALApproxTransform);
            (*options).pTransformerArg = self.0;
            (*options).papszWarpOptions =
                gdal_sys::CSLSetNameValue((*options).papszWarpOptions, c"INIT_DEST".as_ptr(), c"0".as_ptr());
            let raster = gdal_sys::GDALCreateWarpedVRT(source.c_dataset(), width, height, grid.as_mut_ptr(), options);
            gdal_sys::GDALDestroyWarpOptions(options);
            std::mem::forget(self);
            if raster.is_null() {
                return None;
            }
            Dataset::from_c_dataset(raster)
        };
        raster.metadata_domain("xml:VRT")?.into_iter().next()
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        // SAFETY: made by GDAL and not given away.
        unsafe { gdal_sys::GDALDestroyTransformer(self.0) }
    }
}
