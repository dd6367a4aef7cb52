//! Parts to and from GDAL: each part as a small GeoTIFF, and all of them together as the raster that they are to
//! become.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::{File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gdal::cpl::CslStringList;
use gdal::raster::{Buffer, GdalType, RasterCreationOptions};
use gdal::{Dataset, DriverManager, Metadata};

use super::{Kind, LOCK, MANIFEST, Parts, Product, SUFFIX, Standing, stem, vrt};
use crate::files::{self, words};
use crate::raster::cells::Samples;
use crate::raster::error::{Error, Result};
use crate::raster::georeference::Georeference;
use crate::raster::grid::{Cell, Rect};
use crate::raster::memory;
use crate::raster::source::messages::catch;
use crate::raster::store::{Draft, Store, siblings};

/// Names the run in a raster's metadata.
const RUN: &str = "ONNXSEGMENT_RUN";

/// Side of a raster's blocks in pixels.
pub(super) const BLOCK: i64 = 512;

/// How long a process waits before it looks again whether another one is through with finishing.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a raster tells of its values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Look {
    /// What each band shows.
    pub bands: Vec<String>,
    /// A colour for each value; empty for none.
    pub palette: Vec<[u8; 3]>,
    /// A name for each value; empty for none.
    pub categories: Vec<String>,
    /// What a value of 1 stands for.
    pub scale: Option<f64>,
    pub metadata: Vec<(String, String)>,
}

/// What came of finishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The rasters are there.
    Finished,
    /// So many cells of all are still to come.
    Missing { missing: usize, total: usize },
}

/// The format of finished rasters.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    cog: bool,
    /// As the user wrote them.
    text: String,
    options: Vec<(String, String)>,
}

impl Format {
    /// `options` are GDAL creation options as `NAME=VALUE,NAME=VALUE`, which replace the usual ones.
    ///
    /// # Errors
    /// Options that GDAL's driver does not have, and values that it says are wrong.
    pub fn new(cog: bool, options: &str) -> Result<Self> {
        let wrong = |problem: String| Error::setting("co", options, problem);
        let mut pairs = Vec::new();
        for item in options.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match item.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() => {
                    pairs.push((name.trim().to_uppercase(), value.trim().to_string()));
                }
                _ => {
                    return Err(wrong(format!("`{item}` is not NAME=VALUE; write COMPRESS=ZSTD,LEVEL=9, for example")));
                }
            }
        }
        let format = Format { cog, text: options.into(), options: pairs };
        let driver = DriverManager::get_driver_by_name(format.driver()).map_err(|_| {
            let hint = if cog { "; it takes GDAL 3.1 or newer, or cog=false" } else { "" };
            Error::setting("cog", cog, format!("this GDAL has no driver {}{hint}", format.driver()))
        })?;
        let list = list(&format.options);
        // SAFETY: the driver lives as long as the process, and the list until the end of the call.
        let (valid, said) =
            catch(|| unsafe { gdal_sys::GDALValidateCreationOptions(driver.c_driver(), list.as_ptr()) });
        match valid {
            0 => Err(wrong(format!(
                "{}; `gdalinfo --format {}` lists what there is",
                said.warnings.into_iter().chain(said.failures).next().unwrap_or("not valid".into()),
                format.driver()
            ))),
            _ => Ok(format),
        }
    }

    fn driver(&self) -> &'static str {
        if self.cog { "COG" } else { "GTiff" }
    }

    /// The creation options of a product.
    pub(super) fn options(&self, kind: Kind) -> Vec<(String, String)> {
        let labels = kind == Kind::Labels;
        let mut all: Vec<(&str, &str)> =
            vec![("COMPRESS", "DEFLATE"), ("BIGTIFF", "IF_SAFER"), ("SPARSE_OK", "TRUE"), ("NUM_THREADS", "ALL_CPUS")];
        match self.cog {
            true => all.extend([("BLOCKSIZE", "512"), ("RESAMPLING", if labels { "NEAREST" } else { "AVERAGE" })]),
            false => all.extend([("TILED", "YES"), ("BLOCKXSIZE", "512"), ("BLOCKYSIZE", "512")]),
        }
        // Which other compressions would not take.
        if !labels && !self.options.iter().any(|(name, _)| name == "COMPRESS") {
            all.push(("PREDICTOR", if self.cog { "YES" } else { "2" }));
        }
        let usual = all.into_iter().filter(|(name, _)| !self.options.iter().any(|(own, _)| own == name));
        usual.map(|(name, value)| (name.to_string(), value.to_string())).chain(self.options.iter().cloned()).collect()
    }

    /// Makes a small raster in memory, to see before any work is done whether GDAL takes the options.
    ///
    /// # Errors
    /// What GDAL says of them.
    pub fn rehearse(&self, product: &Product, look: &Look) -> Result<()> {
        let rect = Rect::new(0, 0, 16, 16);
        let vrt = vrt::mosaic(&rect, &Georeference::default(), product.depth, look, &[]);
        let path = files::in_memory("tif");
        let result = copy(&vrt, self.driver(), &self.options(product.kind), &path, &mut |_| true);
        for name in siblings(&path) {
            let _ = catch(|| gdal::vsi::unlink_mem_file(name));
        }
        result.map_err(|problem| {
            let problem = problem.unwrap_or_default();
            Error::setting(
                "co",
                &self.text,
                format!("GDAL cannot write the {} with it: {problem}", product.kind.name()),
            )
        })
    }
}

fn list(options: &[(String, String)]) -> CslStringList {
    let mut list = CslStringList::new();
    for (name, value) in options {
        // Fails for names that GDAL has no option with, and for zero bytes, which properties cannot hold.
        let _ = list.set_name_value(name, value);
    }
    list
}

/// One part as a GeoTIFF.
pub fn encode(kind: Kind, rect: &Rect, samples: &Samples) -> std::result::Result<Vec<u8>, String> {
    fn write<T: GdalType + Copy>(
        path: &Path,
        rect: &Rect,
        v: &[T],
        options: &RasterCreationOptions,
        nodata: f64,
    ) -> gdal::errors::Result<()> {
        let (size, n) = ((rect.width as usize, rect.height as usize), rect.area());
        let driver = DriverManager::get_driver_by_name("GTiff")?;
        let dataset = driver.create_with_band_type_with_options::<T, _>(path, size.0, size.1, v.len() / n, options)?;
        for (k, plane) in v.chunks_exact(n).enumerate() {
            let mut band = dataset.rasterband(k + 1)?;
            band.set_no_data_value(Some(nodata))?;
            band.write((0, 0), size, &mut Buffer::new(size, plane.to_vec()))?;
        }
        dataset.close()
    }

    // Blocks no larger than the part.
    let side = |length: i64| ((length + 15) / 16 * 16).min(BLOCK);
    let mut options = vec![
        "TILED=YES".to_string(),
        format!("BLOCKXSIZE={}", side(rect.width)),
        format!("BLOCKYSIZE={}", side(rect.height)),
        "INTERLEAVE=BAND".into(),
        "SPARSE_OK=TRUE".into(),
    ];
    // Parts do not live long: what is quick to pack.
    options.extend(match kind {
        Kind::Labels => vec!["COMPRESS=PACKBITS".to_string()],
        Kind::Probability | Kind::Uncertainty => {
            ["COMPRESS=DEFLATE", "ZLEVEL=1", "PREDICTOR=2"].map(String::from).into()
        }
    });
    let options = RasterCreationOptions::from_iter(options);
    let path = files::in_memory("tif");
    let nodata = samples.depth().nodata().into();
    let (result, said) = catch(|| {
        match samples {
            Samples::U8(v) => write(&path, rect, v, &options, nodata)?,
            Samples::U16(v) => write(&path, rect, v, &options, nodata)?,
        }
        gdal::vsi::get_vsi_mem_file_bytes_owned(&path)
    });
    match result {
        Ok(bytes) if said.failures.is_empty() => Ok(bytes),
        Ok(_) => Err(said.words()),
        Err(e) => {
            let _ = catch(|| gdal::vsi::unlink_mem_file(&path));
            Err(if said.failures.is_empty() { e.to_string() } else { said.words() })
        }
    }
}

/// The run that made a raster, if one did.
pub fn identity_of(path: &Path) -> Option<String> {
    let store = Store::of(path);
    let _quiet = store.quiet();
    let open = || catch(|| Dataset::open(path).ok()?.metadata_item(RUN, "")).0;
    (store.exists(path) && !path.is_dir()).then(open).flatten()
}

/// Whether `path` is among the files of the raster `source`.
pub fn is_part_of(path: &Path, source: &str) -> bool {
    let store = Store::of(path);
    if !store.exists(path) {
        return false;
    }
    if store.is_same(path, Path::new(source)) {
        return true;
    }
    catch(|| {
        let Ok(dataset) = Dataset::open(source) else { return false };
        // SAFETY: GDAL returns a list of texts that it counts, or null, which has none; it is ours to free.
        unsafe {
            let list = gdal_sys::GDALGetFileList(dataset.c_dataset());
            let file = |k| CStr::from_ptr(gdal_sys::CSLGetField(list, k)).to_string_lossy().into_owned();
            let found = (0..gdal_sys::CSLCount(list)).any(|k| store.is_same(path, Path::new(&file(k))));
            gdal_sys::CSLDestroy(list);
            found
        }
    })
    .0
}

/// Whether a product is no raster of its own, but a list of the parts.
fn is_vrt(product: &Product) -> bool {
    product.path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("vrt"))
}

impl Parts {
    /// Whether a product of this run would replace its own source, which is there under this name.
    ///
    /// # Errors
    /// It would.
    pub fn check_source(products: &[Product], source: &str) -> Result<()> {
        match products.iter().find(|p| is_part_of(&p.path, source)) {
            Some(p) => Err(Error::write(
                p.kind.property(),
                &p.path,
                format!("is what rastersrc reads ({source}); write to another file"),
            )),
            None => Ok(()),
        }
    }

    /// Makes the rasters when every cell of the region is there, whoever wrote it, and takes the parts away; but a product
    /// whose name ends in `.vrt` is a list of the parts, which stay. Of several
    /// processes that come to this at once one does it, and the others wait for it.
    ///
    /// `georeference` is that of the whole raster. `look` says what a product tells, where its parts have as many bands.
    /// `progress` hears the share that is done and says whether to go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`], and what keeps a raster from being written. The parts are kept, and nothing has its final name
    /// that is not whole.
    pub fn finish(
        &self,
        georeference: &Georeference,
        format: &Format,
        look: &dyn Fn(Kind, Option<usize>) -> Look,
        progress: &mut dyn FnMut(f64) -> bool,
    ) -> Result<Outcome> {
        let total = self.total();
        let done = self.done()?.len();
        if done < total {
            return Ok(Outcome::Missing { missing: total - done, total });
        }
        let Some(_lock) = self.lock(progress)? else { return Ok(Outcome::Finished) };
        let _quiet = self.store.quiet();
        if !self.is_open()? {
            return Ok(Outcome::Finished);
        }
        let cells = match self.scan() {
            Ok(cells) => cells,
            Err(_) if self.is_finished() => return Ok(Outcome::Finished),
            Err(e) => return Err(self.lost("the parts cannot be read", &e)),
        };
        if cells.len() < total {
            return Ok(Outcome::Missing { missing: total - cells.len(), total });
        }
        let mut drafts = Vec::new();
        let share = 1.0 / self.products.len() as f64;
        for (k, product) in self.products.iter().enumerate() {
            let mut of_all = |done: f64| progress((k as f64 + done) * share);
            match self.draft(product, georeference, format, look, &cells, &mut of_all) {
                Ok(draft) => drafts.push(draft),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                // Without a lock, another process may have been first, and taken the parts away.
                Err(e) => return if self.is_open()? { Err(e) } else { Ok(Outcome::Finished) },
            }
        }
        if !self.is_open()? {
            return Ok(Outcome::Finished);
        }
        for (product, draft) in self.products.iter().zip(drafts) {
            match draft.install(&mut |_| progress(1.0)) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(Error::Cancelled),
                installed => installed.map_err(|e| self.unfinished(product, &words(&e)))?,
            }
        }
        if !self.products.iter().any(is_vrt) && self.is_open()? {
            self.clear();
        }
        Ok(Outcome::Finished)
    }

    /// Whether the run is still to be finished; where processes lock it, it is. False when another one has made the rasters.
    fn is_open(&self) -> Result<bool> {
        if self.store.has_folders() {
            return Ok(true);
        }
        match self.standing()? {
            Standing::Open => Ok(true),
            Standing::Finished => Ok(false),
            Standing::Gone => Err(self.gone()),
            Standing::Replaced(e) => Err(e),
        }
    }

    fn unfinished(&self, product: &Product, problem: &str) -> Error {
        let text = format!("{problem}; all parts are kept in {}: run again to finish", self.folder.display());
        Error::write(product.kind.property(), &product.path, text)
    }

    /// Waits until no other process is finishing this run, where there are locks; `None` when one has.
    fn lock(&self, progress: &mut dyn FnMut(f64) -> bool) -> Result<Option<Option<File>>> {
        let file = match self.store.open_lock(&self.folder.join(LOCK)) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Some(None)),
            Err(_) if self.is_finished() => return Ok(None),
            Err(e) => return Err(self.lost("the parts cannot be read", &e)),
        };
        loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if progress(0.0) => std::thread::sleep(PATIENCE),
                Err(TryLockError::WouldBlock) => return Err(Error::Cancelled),
                // A file system without locks: two that finish at once make the same files under different names.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(Some(Some(file))),
            }
        }
    }

    /// Makes a product under a temporary name.
    fn draft(
        &self,
        product: &Product,
        georeference: &Georeference,
        format: &Format,
        look: &dyn Fn(Kind, Option<usize>) -> Look,
        cells: &[(Cell, bool)],
        progress: &mut dyn FnMut(f64) -> bool,
    ) -> Result<Draft> {
        let mut folder = std::path::absolute(&self.folder).map_err(|e| self.unfinished(product, &words(&e)))?;
        if is_vrt(product) {
            if self.manifest.mask_grid.is_some() {
                let problem = "parts on the models' grid are no VRT on the source's; name a .tif, or set grid=model";
                return Err(self.unfinished(product, problem));
            }
            // All may be moved together.
            if files::parent(&product.path) == files::parent(&self.folder)
                && let Some(name) = self.folder.file_name()
            {
                folder = name.into();
            }
        }
        let region = self.manifest.region;
        let sources: Vec<(PathBuf, Rect)> = cells
            .iter()
            .filter(|(_, has_data)| *has_data)
            .map(|(cell, _)| {
                let path = folder.join(format!("{}.{SUFFIX}", stem(product.kind, *cell)));
                (path, self.manifest.lattice.rect(*cell, &region).relative_to(region.x, region.y))
            })
            .collect();
        let first = sources.first().and_then(|(path, _)| Some(self.folder.join(path.file_name()?)));
        let bands = first.and_then(|path| catch(|| Some(Dataset::open(path).ok()?.raster_count())).0);
        let mut look = look(product.kind, bands);
        look.metadata.push((RUN.into(), self.identity.clone()));
        let (text, _files) = match &self.manifest.mask_grid {
            None => (vrt::mosaic(&region, &georeference.window(&region), product.depth, &look, &sources), Vec::new()),
            Some(grid) => vrt::brought_back(&region, grid, (product.kind, product.depth), &look, &sources)
                .map_err(|problem| self.unfinished(product, &problem))?,
        };
        let draft = Store::of(&product.path).draft(&product.path).map_err(|e| self.unfinished(product, &words(&e)))?;
        let failed = |problem: &str| self.unfinished(product, &draft.explain(problem));
        if is_vrt(product) {
            std::fs::write(draft.path(), text).map_err(|e| failed(&words(&e)))?;
        } else {
            match copy(&text, format.driver(), &format.options(product.kind), draft.path(), progress) {
                Ok(()) => {}
                Err(None) => return Err(Error::Cancelled),
                Err(Some(problem)) => return Err(failed(&problem)),
            }
        }
        draft.sync().map_err(|e| failed(&words(&e)))?;
        Ok(draft)
    }

    /// Takes the parts away, now that the rasters are there. What does not go is deleted when the run is begun anew.
    fn clear(&self) {
        let names = self.store.names(&self.folder).unwrap_or_default();
        if names.iter().all(|name| super::is_ours(name)) {
            let _ = self.store.remove_folder(&self.folder, MANIFEST);
        }
    }
}

/// Copies a VRT to a file of another format.
///
/// # Errors
/// What GDAL says; `None` when it was told to stop.
fn copy(
    vrt: &str,
    driver: &str,
    options: &[(String, String)],
    path: &Path,
    progress: &mut dyn FnMut(f64) -> bool,
) -> std::result::Result<(), Option<String>> {
    struct Listener<'a> {
        progress: &'a mut dyn FnMut(f64) -> bool,
        twentieth: i64,
        stopped: bool,
    }

    unsafe extern "C" fn listen(done: f64, _message: *const c_char, data: *mut c_void) -> c_int {
        // SAFETY: `data` is the listener below, which outlives the call that reports to it, on this thread.
        let listener = unsafe { &mut *data.cast::<Listener<'_>>() };
        let go_on = catch_unwind(AssertUnwindSafe(|| (listener.progress)(done))).unwrap_or(false);
        listener.stopped |= !go_on;
        let twentieth = (done * 20.0) as i64;
        if std::mem::replace(&mut listener.twentieth, twentieth) != twentieth {
            memory::give_back();
        }
        go_on.into()
    }

    let mut listener = Listener { progress, twentieth: -1, stopped: false };
    let options = list(options);
    // How GDAL's COG driver packs the overviews until they are copied into place: its own choice, ZSTD, spends more time on
    // clearing tables than on the small blocks.
    const PACKING: &str = "COG_TMP_COMPRESSION";
    let chosen = gdal::config::get_config_option(PACKING, "").is_ok_and(|v| !v.is_empty());
    if !chosen {
        let _ = gdal::config::set_thread_local_config_option(PACKING, "LZW");
    }
    let (result, said) = catch(|| {
        let source = Dataset::open(vrt).map_err(|e| e.to_string())?;
        let driver = DriverManager::get_driver_by_name(driver).map_err(|e| e.to_string())?;
        let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: all arguments live until the end of the call; the copy is ours to close, which writes what is left.
        unsafe {
            let copy = gdal_sys::GDALCreateCopy(
                driver.c_driver(),
                path.as_ptr(),
                source.c_dataset(),
                0,
                options.as_ptr(),
                Some(listen),
                std::ptr::from_mut(&mut listener).cast(),
            );
            if !copy.is_null() {
                gdal_sys::GDALClose(copy);
            }
            Ok::<bool, String>(!copy.is_null())
        }
    });
    if !chosen {
        let _ = gdal::config::clear_thread_local_config_option(PACKING);
    }
    match result {
        _ if listener.stopped => Err(None),
        Ok(true) if said.failures.is_empty() => Ok(()),
        Err(e) if said.failures.is_empty() => Err(Some(e)),
        _ => Err(Some(files::of_disk(&said.failures).unwrap_or_else(|| said.words()))),
    }
}
