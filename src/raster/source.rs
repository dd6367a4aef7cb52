//! Reading rasters with GDAL: what a raster is, its pixels with their validity, and a thread that reads tiles ahead.
//!
//! Pixels are read in units of whole blocks, each once, whatever tiles need them; resampling is done on top.

mod area;
mod glance;
pub(super) mod ground;
mod load;
pub mod messages;
mod read_ahead;
mod resample;
mod sample;
mod units;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use gdal::raster::ColorInterpretation;
use gdal::{Dataset, DatasetOptions, GdalOpenFlags, Metadata};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::{Gcp, Georeference, Legend, Rect, memory, store};
use messages::catch;
use resample::Scale;
use units::{Piece, Units};

pub use area::PixelAreas;
pub use glance::{Glance, Meaning, Pick};
pub use read_ahead::{ReadAhead, Reading, TilePixels};
pub use sample::{SampleType, Samples};

/// A raster is resampled where its pixels are off by more than this share of the resolution that is wanted.
const TOLERANCE: f64 = 0.1;

/// Which pixel values mean "no data".
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Nodata {
    /// Those that the raster states.
    #[default]
    Stated,
    /// None, whatever the raster states.
    None,
    /// One for all bands, or one per selected band.
    Values(Vec<f64>),
}

impl Nodata {
    /// Reads a property: nothing, `none`, or numbers (also `nan`) joined by commas.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim() {
            "" => Ok(Nodata::Stated),
            "none" => Ok(Nodata::None),
            text => {
                let numbers: Option<Vec<f64>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
                numbers.map(Nodata::Values).ok_or_else(|| {
                    Error::setting(
                        "nodata",
                        text,
                        "use a number, nan, one number per band joined by commas, or none; empty = the raster's own",
                    )
                })
            }
        }
    }
}

/// What to open, and how to see it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// Anything that GDAL opens.
    pub location: String,
    /// Bands in order, from 1, repeats allowed; `None` follows the colour interpretation.
    pub bands: Option<Vec<usize>>,
    pub nodata: Nodata,
}

/// What a raster is, after resampling where that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// As the user gave it.
    pub location: String,
    pub width: i64,
    pub height: i64,
    /// Bands that leave the source.
    pub bands: usize,
    pub sample: SampleType,
    /// Of the first selected band.
    pub nodata: Option<f64>,
    pub georeference: Georeference,
    /// Width and height of a pixel at the centre in metres.
    pub ground: Option<(f64, f64)>,
}

/// How often the source has read.
#[derive(Debug, Default)]
pub struct Counters {
    /// Units read, each time that one was.
    pub read: AtomicU64,
    /// Units that had been read before, and had to go because the cache was full.
    pub again: AtomicU64,
    /// The cache had to drop what was still needed.
    pub crowded: AtomicBool,
}

/// What hides pixels besides their own values.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mask {
    /// An alpha band.
    Alpha(usize),
    /// The mask that this band shares with all.
    Shared(usize),
    /// The mask of a band alone, and its place in the selection.
    Own { band: usize, place: usize },
}

/// A raster that is open for reading.
#[derive(Debug)]
pub struct Source {
    dataset: Dataset,
    info: Info,
    /// Pixels of the file.
    width: i64,
    height: i64,
    /// The file's bands, in order; one alone where a palette makes three of it.
    bands: Vec<usize>,
    palette: Option<Vec<[u8; 4]>>,
    /// Per selected band.
    nodata: Vec<Option<f64>>,
    masks: Vec<Mask>,
    /// Pixels are wider than what leaves the source, and are compared before they are narrowed.
    wide: bool,
    units: Units,
    block: (i64, i64),
    /// Where a mosaic has files; elsewhere it has no pixels.
    pieces: Option<Vec<Piece>>,
    /// GDAL can say which blocks are empty.
    knows_empty: AtomicBool,
    scale: Scale,
    fingerprint: Value,
    counters: Arc<Counters>,
    warnings: Mutex<Vec<String>>,
}

impl Source {
    /// Opens a raster and chooses its bands.
    ///
    /// # Errors
    /// Files that cannot be read, in GDAL's own words, and bands that are not there.
    pub fn open(options: &Options) -> Result<Source> {
        let location = options.location.trim();
        let wrong = |problem: String| Error::read("location", location, problem);
        let open = DatasetOptions {
            open_flags: GdalOpenFlags::GDAL_OF_RASTER
                | GdalOpenFlags::GDAL_OF_READONLY
                | GdalOpenFlags::GDAL_OF_VERBOSE_ERROR,
            ..DatasetOptions::default()
        };
        let (dataset, said) = catch(|| Dataset::open_ex(location, open));
        let dataset = dataset.map_err(|_| wrong(format!("cannot be opened: {}", said.words())))?;
        let count = dataset.raster_count();
        if count == 0 {
            let list = dataset.metadata_domain("SUBDATASETS").unwrap_or_default();
            let names: Vec<&str> = list.iter().filter_map(|l| l.split_once("_NAME=")).map(|(_, n)| n).collect();
            return Err(wrong(match names.is_empty() {
                true => "has no bands".into(),
                false => format!("holds several rasters; set location to one of {}", names.join(" ")),
            }));
        }
        let (width, height) = dataset.raster_size();
        let (width, height) = (width as i64, height as i64);

        let kinds = (1..=count)
            .map(|k| dataset.rasterband(k).map(|b| b.color_interpretation()))
            .collect::<gdal::errors::Result<Vec<_>>>()
            .map_err(|e| wrong(e.to_string()))?;
        let chosen = choose(&kinds, options.bands.as_deref()).map_err(|band| {
            let all = describe(&dataset, &kinds);
            Error::setting("bands", band, format!("{location} has {all}; bands count from 1"))
        })?;
        let palette = chosen.palette.then(|| palette(&dataset, chosen.bands[0])).flatten();
        let types: Vec<_> = chosen.bands.iter().map(|b| type_of(&dataset, *b)).collect();
        let (sample, wide) = match palette.is_some() {
            true => (SampleType::U8, false),
            false => common(&types).ok_or_else(|| {
                let all = describe(&dataset, &kinds);
                wrong(format!("has pixels that are complex numbers, which no model takes: {all}"))
            })?,
        };
        let nodata = nodata(&dataset, &chosen.bands, &options.nodata)?;
        let masks = masks(&dataset, &chosen, &options.nodata);

        let georeference = georeference(&dataset);
        let info = Info {
            location: location.into(),
            width,
            height,
            bands: if palette.is_some() { 3 } else { chosen.bands.len() },
            sample,
            nodata: nodata[0],
            ground: ground::resolution(&georeference, width, height),
            georeference,
        };

        let block = block(&dataset, chosen.bands[0]);
        let bytes = (chosen.bands.len() * if wide { 8 } else { sample.size() }) as i64;
        let vrt = (dataset.driver().short_name() == "VRT").then(|| dataset.metadata_domain("xml:VRT")).flatten();
        let pieces = vrt.and_then(|text| units::pieces(text.first()?, &chosen.bands));
        let of_mosaic = pieces.as_ref().and_then(|pieces| Units::of_mosaic(width, height, pieces));
        let follows = of_mosaic.is_some();
        let units = of_mosaic.unwrap_or_else(|| Units::uniform(width, height, block, bytes));
        // `Source` keeps what tiles share by itself.
        memory::bound_cache(match &pieces {
            // What files have in common with several units is served from there.
            Some(_) if !follows => width * 1500 * bytes,
            _ => block.0 * block.1 * bytes * 5 / 4,
        });

        let mut source = Source {
            fingerprint: Value::Null,
            info,
            width,
            height,
            bands: chosen.bands,
            palette,
            nodata,
            masks,
            wide,
            units,
            block,
            pieces,
            knows_empty: AtomicBool::new(true),
            scale: Scale::default(),
            counters: Arc::default(),
            warnings: Mutex::new(said.warnings.iter().map(|w| format!("location={location}: {w}")).collect()),
            dataset,
        };
        source.fingerprint = source.mark();
        Ok(source)
    }

    /// The same raster seen as labels, its palette's indices in place of their colours; itself where it shows no palette.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn as_labels(self, options: &Options) -> Result<Source> {
        match self.palette {
            Some(_) => Source::open(&Options { bands: Some(self.bands), ..options.clone() }),
            None => Ok(self),
        }
    }

    /// What the labels of a raster of one band are called and painted with, as far as it says so.
    pub fn legend(&self) -> Option<Legend> {
        let [band] = self.bands[..] else { return None };
        let (found, _) = catch(|| legend(&self.dataset, band));
        found
    }

    /// Scale and offset of each band, where values stand for others: 1 and 0 where they do not.
    pub fn scales(&self) -> Vec<(f64, f64)> {
        let of = |band: &usize| {
            let band = self.dataset.rasterband(*band).ok();
            band.map_or((1.0, 0.0), |b| (b.scale().unwrap_or(1.0), b.offset().unwrap_or(0.0)))
        };
        self.bands.iter().map(of).collect()
    }

    /// What each band shows; empty where the raster does not say.
    pub fn band_names(&self) -> Vec<String> {
        let of = |band: &usize| self.dataset.rasterband(*band).and_then(|b| b.description()).unwrap_or_default();
        self.bands.iter().map(of).collect()
    }

    /// What the raster is now.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// What makes results belong to this raster: its files by name, size and time, and how it is seen.
    pub fn fingerprint(&self) -> &Value {
        &self.fingerprint
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What GDAL has warned of since the last call.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn warn(&self, warnings: Vec<String>) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(warnings);
    }

    /// Sees the raster with pixels of `metres` × `metres` from now on, with the same origin, where its own are off by more
    /// than a tenth: averaged where they are smaller, interpolated bilinearly where they are larger. Returns whether
    /// it does.
    ///
    /// # Errors
    /// A raster that does not say how large its pixels are, or would become too large.
    pub fn resample(&mut self, metres: f64) -> Result<bool> {
        let Some((x, y)) = self.info.ground else {
            let location = &self.info.location;
            return Err(Error::setting(
                "resolution",
                metres,
                format!(
                    "{location} does not say where it lies, so nothing is known of its pixels' size; use resolution=0"
                ),
            ));
        };
        let off = |own: f64| (own / metres - 1.0).abs() > TOLERANCE;
        if !off(x) && !off(y) {
            return Ok(false);
        }
        let scale = Scale::new((self.width, self.height), (metres / x, metres / y));
        let (width, height) = scale.size();
        if width > i32::MAX as i64 || height > i32::MAX as i64 {
            let problem = format!("{} would have {width}x{height} pixels", self.info.location);
            return Err(Error::setting("resolution", metres, problem));
        }
        (self.info.width, self.info.height) = (width, height);
        let (sx, sy) = scale.factors();
        let georeference = &mut self.info.georeference;
        if let Some(g) = &mut georeference.geotransform {
            *g = [g[0], g[1] * sx, g[2] * sy, g[3], g[4] * sx, g[5] * sy];
        }
        for gcp in &mut georeference.gcps {
            gcp.pixel /= sx;
            gcp.line /= sy;
        }
        self.info.ground = ground::resolution(georeference, width, height);
        self.scale = scale;
        self.fingerprint = self.mark();
        Ok(true)
    }

    /// Pixels of the file per pixel, across and down.
    pub fn factors(&self) -> (f64, f64) {
        self.scale.factors()
    }

    /// The pixels of a window that is given in the file's pixels.
    ///
    /// # Errors
    /// A window that is empty or reaches beyond the raster.
    pub fn window(&self, window: Rect) -> Result<Rect> {
        let (w, h) = (self.width, self.height);
        let text = format!("{},{},{},{}", window.x, window.y, window.width, window.height);
        if window.is_empty() {
            return Err(Error::setting("window", text, "has no pixels; use x,y,width,height with sides of 1 or more"));
        }
        if !Rect::new(0, 0, w, h).contains(&window) {
            let problem = format!(
                "reaches beyond {}, which has {w}x{h} pixels; use x,y,width,height within 0,0,{w},{h}",
                self.info.location
            );
            return Err(Error::setting("window", text, problem));
        }
        Ok(self.scale.of_file(window).intersect(&Rect::new(0, 0, self.info.width, self.info.height)))
    }

    /// The pixels that reach into a box in the raster's coordinates: least x, least y, greatest x, greatest y. What lies
    /// beyond the raster is left out.
    ///
    /// # Errors
    /// A raster without coordinates, an empty box, and one that the raster has no pixel in.
    pub fn bbox(&self, corners: [f64; 4]) -> Result<Rect> {
        let [x0, y0, x1, y1] = corners;
        let wrong = |problem: String| Error::setting("bbox", corners.map(|c| c.to_string()).join(","), problem);
        let location = &self.info.location;
        if !(x0 < x1 && y0 < y1) {
            return Err(wrong("use min-x,min-y,max-x,max-y, each minimum less than its maximum".into()));
        }
        let Some(g) = self.info.georeference.geotransform else {
            return Err(wrong(format!("{location} has no geotransform to find coordinates by; use window")));
        };
        let determinant = g[1] * g[5] - g[2] * g[4];
        if determinant == 0.0 || !determinant.is_finite() {
            return Err(wrong(format!("{location} has a geotransform without area; use window")));
        }
        let pixel = |x: f64, y: f64| {
            let (x, y) = (x - g[0], y - g[3]);
            ((x * g[5] - y * g[2]) / determinant, (y * g[1] - x * g[4]) / determinant)
        };
        let places = [pixel(x0, y0), pixel(x1, y0), pixel(x0, y1), pixel(x1, y1)];
        let (columns, rows): (Vec<f64>, Vec<f64>) = places.into_iter().unzip();
        // A box that ends on a pixel's edge, as far as numbers can tell, does not reach into that pixel.
        let span = |values: &[f64]| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            ((low + 1e-6).floor() as i64, (high - 1e-6).ceil() as i64)
        };
        let ((left, right), (top, bottom)) = (span(&columns), span(&rows));
        let bounds = Rect::new(0, 0, self.info.width, self.info.height);
        let inside = |v: i64| v.clamp(-1, i32::MAX as i64);
        let (left, top) = (inside(left), inside(top));
        let found = Rect::new(left, top, inside(right) - left, inside(bottom) - top).intersect(&bounds);
        if found.is_empty() {
            let (w, h) = (bounds.width as f64, bounds.height as f64);
            let at = |c: f64, r: f64| (g[0] + c * g[1] + r * g[2], g[3] + c * g[4] + r * g[5]);
            let (xs, ys): (Vec<f64>, Vec<f64>) = [at(0.0, 0.0), at(w, 0.0), at(0.0, h), at(w, h)].into_iter().unzip();
            let least = |v: &[f64]| v.iter().copied().fold(f64::INFINITY, f64::min);
            let most = |v: &[f64]| v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            return Err(wrong(format!(
                "lies outside {location}, which covers {},{},{},{} in its own coordinates",
                least(&xs),
                least(&ys),
                most(&xs),
                most(&ys)
            )));
        }
        Ok(found)
    }

    fn mark(&self) -> Value {
        let info = &self.info;
        let name = Path::new(&info.location).file_name().map(|n| n.to_string_lossy().into_owned());
        json!({
            "name": name.unwrap_or_else(|| info.location.clone()),
            "files": files(&self.dataset),
            "width": info.width,
            "height": info.height,
            "bands": self.bands,
            "palette": self.palette.is_some(),
            "sample": info.sample.name(),
            // NaN is no number in JSON.
            "nodata": self.nodata.iter().map(|n| n.map(|n| n.to_string())).collect::<Vec<_>>(),
            "crs": info.georeference.crs,
            "geotransform": info.georeference.geotransform,
            "resampled": self.scale.is_some().then(|| self.scale.factors()),
        })
    }
}

/// Bands as they are chosen.
#[derive(Debug, PartialEq)]
struct Chosen {
    bands: Vec<usize>,
    alpha: Option<usize>,
    /// The one band is to become its palette's colours.
    palette: bool,
}

/// Chooses bands by what the user names, else by colour interpretation: red, green and blue where all three are there,
/// else every band. Alpha is the mask, unless it is named. The error is a band that is not there.
fn choose(kinds: &[ColorInterpretation], named: Option<&[usize]>) -> std::result::Result<Chosen, usize> {
    use ColorInterpretation::*;
    let find = |kind| kinds.iter().position(|k| *k == kind).map(|k| k + 1);
    let alpha = find(AlphaBand);
    if let Some(bands) = named {
        if let Some(missing) = bands.iter().find(|b| **b == 0 || **b > kinds.len()) {
            return Err(*missing);
        }
        let alpha = alpha.filter(|a| !bands.contains(a));
        return Ok(Chosen { bands: bands.to_vec(), alpha, palette: false });
    }
    if let (Some(r), Some(g), Some(b)) = (find(RedBand), find(GreenBand), find(BlueBand)) {
        return Ok(Chosen { bands: vec![r, g, b], alpha, palette: false });
    }
    let all: Vec<usize> = (1..=kinds.len()).filter(|b| kinds[b - 1] != AlphaBand).collect();
    match all[..] {
        [] => Ok(Chosen { bands: vec![1], alpha: None, palette: false }),
        [one] => Ok(Chosen { bands: all, alpha, palette: kinds[one - 1] == PaletteIndex }),
        _ => Ok(Chosen { bands: all, alpha, palette: false }),
    }
}

fn type_of(dataset: &Dataset, band: usize) -> gdal_sys::GDALDataType::Type {
    // SAFETY: the band lives as long as the data set.
    dataset.rasterband(band).map_or(0, |b| unsafe { gdal_sys::GDALGetRasterDataType(b.c_rasterband()) })
}

fn type_name(kind: gdal_sys::GDALDataType::Type) -> String {
    // SAFETY: GDAL returns a constant text, or null for a type that it does not know.
    let name = unsafe { gdal_sys::GDALGetDataTypeName(kind) };
    match name.is_null() {
        true => "unknown".into(),
        // SAFETY: see above.
        false => unsafe { std::ffi::CStr::from_ptr(name) }.to_string_lossy().into_owned(),
    }
}

/// The bands of a raster in words.
fn describe(dataset: &Dataset, kinds: &[ColorInterpretation]) -> String {
    let one = |k: usize| format!("{} ({}, {})", k + 1, kinds[k].name(), type_name(type_of(dataset, k + 1)));
    let shown: Vec<String> = (0..kinds.len().min(20)).map(one).collect();
    let more = if kinds.len() > shown.len() { ", …" } else { "" };
    let s = if kinds.len() == 1 { "" } else { "s" };
    format!("{} band{s}: {}{more}", kinds.len(), shown.join(", "))
}

/// The type that holds the pixels of all bands, and whether they must be read wider than that.
fn common(types: &[gdal_sys::GDALDataType::Type]) -> Option<(SampleType, bool)> {
    use gdal_sys::GDALDataType::*;
    // Int8, which only later GDALs have.
    const INT8: Type = 14;
    let complex = [GDT_CInt16, GDT_CInt32, GDT_CFloat32, GDT_CFloat64];
    if types.iter().any(|t| complex.contains(t)) {
        return None;
    }
    let only = |allowed: &[Type]| types.iter().all(|t| allowed.contains(t));
    Some(if only(&[GDT_Byte]) {
        (SampleType::U8, false)
    } else if only(&[GDT_Byte, GDT_UInt16]) {
        (SampleType::U16, false)
    } else if only(&[GDT_Byte, GDT_Int16, INT8]) {
        (SampleType::I16, false)
    } else {
        (SampleType::F32, !only(&[GDT_Byte, GDT_UInt16, GDT_Int16, GDT_Float32, INT8]))
    })
}

/// The colours of a band; `None` where its table has no colours in red, green and blue.
fn palette(dataset: &Dataset, band: usize) -> Option<Vec<[u8; 4]>> {
    let band = dataset.rasterband(band).ok()?;
    let table = band.color_table()?;
    let entry = |k: usize| {
        let c = table.entry_as_rgb(k)?;
        Some([c.r, c.g, c.b, c.a].map(|v| v.clamp(0, 255) as u8))
    };
    (0..table.entry_count()).map(entry).collect::<Option<Vec<_>>>().filter(|colours| !colours.is_empty())
}

/// Category names and colours of a band, without those at the end of the table that say nothing.
fn legend(dataset: &Dataset, band: usize) -> Option<Legend> {
    // No label is 255, and tables have it all the same.
    const MOST: usize = 255;
    let mut colours: Vec<[u8; 3]> =
        palette(dataset, band).unwrap_or_default().iter().map(|[r, g, b, _]| [*r, *g, *b]).take(MOST).collect();
    let used = colours.iter().rposition(|colour| *colour != [0; 3]).map_or(0, |last| last + 1);
    colours.truncate(used);
    let owner = dataset.rasterband(band).ok()?;
    // SAFETY: the band lives as long as the data set, which keeps the list.
    let mut names = unsafe { texts(gdal_sys::GDALGetRasterCategoryNames(owner.c_rasterband())) };
    // A GeoTIFF keeps them in a file beside it, which may have got lost; `rastersink` repeats them.
    if names.is_empty() {
        let list = dataset.metadata_item("ONNXSEGMENT_CLASSES", "").unwrap_or_default();
        names = list.split(',').filter(|_| !list.is_empty()).map(String::from).collect();
    }
    (!names.is_empty() || !colours.is_empty()).then_some(Legend { names, colours })
}

/// The texts of one of GDAL's lists.
///
/// # Safety
/// The list is null, or ends with null.
unsafe fn texts(list: *mut *mut std::ffi::c_char) -> Vec<String> {
    let mut texts = Vec::new();
    for k in 0.. {
        // SAFETY: no place behind the null is looked at.
        let text = if list.is_null() { std::ptr::null_mut() } else { unsafe { *list.add(k) } };
        if text.is_null() {
            break;
        }
        // SAFETY: GDAL's texts end with zero.
        texts.push(unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned());
    }
    texts
}

fn nodata(dataset: &Dataset, bands: &[usize], wanted: &Nodata) -> Result<Vec<Option<f64>>> {
    Ok(match wanted {
        Nodata::None => vec![None; bands.len()],
        Nodata::Values(values) => match values[..] {
            [one] => vec![Some(one); bands.len()],
            _ if values.len() == bands.len() => values.iter().copied().map(Some).collect(),
            _ => {
                let text: Vec<String> = values.iter().map(f64::to_string).collect();
                let problem =
                    format!("names {} values for {} bands; use one, or one per band", values.len(), bands.len());
                return Err(Error::setting("nodata", text.join(","), problem));
            }
        },
        Nodata::Stated => {
            let of = |b: &usize| dataset.rasterband(*b).ok().and_then(|b| b.no_data_value());
            bands.iter().map(of).collect()
        }
    })
}

fn masks(dataset: &Dataset, chosen: &Chosen, nodata: &Nodata) -> Vec<Mask> {
    // As gdal.h has them.
    const GMF_ALL_VALID: i32 = 1;
    const GMF_PER_DATASET: i32 = 2;
    const GMF_ALPHA: i32 = 4;
    const GMF_NODATA: i32 = 8;
    let mut found: Vec<Mask> = chosen.alpha.map(Mask::Alpha).into_iter().collect();
    for (place, &band) in chosen.bands.iter().enumerate() {
        let Ok(b) = dataset.rasterband(band) else { continue };
        // SAFETY: the band lives as long as the data set.
        let flags = unsafe { gdal_sys::GDALGetMaskFlags(b.c_rasterband()) };
        let has = |flag: i32| flags & flag != 0;
        if has(GMF_ALL_VALID) || has(GMF_ALPHA) {
            continue; // alpha was found above, unless it is named as a band
        }
        if has(GMF_PER_DATASET) {
            // With GMF_NODATA: values for all bands together, which the raster states.
            let stated = !has(GMF_NODATA) || *nodata == Nodata::Stated;
            if stated && !found.iter().any(|m| matches!(m, Mask::Shared(_))) {
                found.push(Mask::Shared(band));
            }
        } else if !has(GMF_NODATA) {
            found.push(Mask::Own { band, place });
        }
    }
    found
}

fn block(dataset: &Dataset, band: usize) -> (i64, i64) {
    let (width, height) = dataset.rasterband(band).map_or((1, 1), |b| b.block_size());
    (width as i64, height as i64)
}

fn georeference(dataset: &Dataset) -> Georeference {
    let (found, _) = catch(|| {
        let crs = dataset.spatial_ref().ok().and_then(|s| s.to_wkt().ok()).filter(|w| !w.is_empty());
        let crs = crs.or_else(|| Some(dataset.projection()).filter(|w| !w.is_empty()));
        let gcps = dataset.gcps();
        let gcp =
            |p: &gdal::GcpRef<'_>| Gcp { id: p.id(), pixel: p.pixel(), line: p.line(), x: p.x(), y: p.y(), z: p.z() };
        Georeference {
            // Some drivers answer with no transform at all, in these words.
            geotransform: dataset.geo_transform().ok().filter(|g| {
                crs.is_some() || (*g != [0.0, 1.0, 0.0, 0.0, 0.0, 1.0] && *g != [0.0, 1.0, 0.0, 0.0, 0.0, -1.0])
            }),
            crs,
            gcp_crs: match gcps.is_empty() {
                true => None,
                false => dataset.gcp_projection().filter(|w| !w.is_empty()),
            },
            gcps: gcps.iter().map(gcp).collect(),
            area_or_point: dataset.metadata_item("AREA_OR_POINT", ""),
        }
    });
    found
}

/// One text for the names, sizes and times of all files that a raster is made of. Side-cars that viewers write when they
/// only look do not count: what they say of the raster does.
fn files(dataset: &Dataset) -> String {
    let (names, _) = catch(|| {
        // SAFETY: the data set lives; the list is ours to free.
        unsafe {
            let list = gdal_sys::GDALGetFileList(dataset.c_dataset());
            let names = texts(list);
            gdal_sys::CSLDestroy(list);
            names
        }
    });
    let mut digest = Sha256::new();
    for name in names.iter().filter(|n| !n.ends_with(".aux.xml") && !n.ends_with(".ovr")) {
        let short = Path::new(name).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        digest.update(format!("{short}\0{}\n", age(name)));
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Size and time of a file; of the archive that holds it, where it is within one.
fn age(name: &str) -> String {
    let mut path = Path::new(name);
    while let Some(inner) = path.to_str().filter(|p| p.starts_with("/vsi")).and_then(|p| p[1..].split_once('/')) {
        if is_remote(path)
            && let Some((length, time)) = store::age(path)
        {
            return format!("{length}\0{time}");
        }
        path = Path::new(inner.1);
    }
    let found = path.ancestors().find_map(|p| std::fs::metadata(p).ok().filter(|m| m.is_file()));
    let Some(data) = found else { return "?".into() };
    let time = data.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{}\0{}", data.len(), time.map_or(0, |t| t.as_nanos()))
}

/// Whether a path is in a store, which tells size and time of objects.
fn is_remote(path: &Path) -> bool {
    ["/vsis3/", "/vsigs/", "/vsioss/", "/vsiaz/"].iter().any(|prefix| path.starts_with(prefix))
}

impl Counters {
    fn count(&self, again: bool) {
        self.read.fetch_add(1, Ordering::Relaxed);
        self.again.fetch_add(again as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColorInterpretation::*;

    fn chosen(bands: &[usize], alpha: Option<usize>, palette: bool) -> Chosen {
        Chosen { bands: bands.to_vec(), alpha, palette }
    }

    #[test]
    fn bands_follow_the_colour_interpretation() {
        for (kinds, expected) in [
            (&[RedBand, GreenBand, BlueBand][..], chosen(&[1, 2, 3], None, false)),
            (&[BlueBand, GreenBand, RedBand, Undefined], chosen(&[3, 2, 1], None, false)),
            (&[RedBand, GreenBand, BlueBand, AlphaBand], chosen(&[1, 2, 3], Some(4), false)),
            (&[GrayIndex], chosen(&[1], None, false)),
            (&[GrayIndex, AlphaBand], chosen(&[1], Some(2), false)),
            (&[PaletteIndex], chosen(&[1], None, true)),
            (&[GrayIndex, Undefined, Undefined, Undefined], chosen(&[1, 2, 3, 4], None, false)),
            (&[Undefined, AlphaBand, Undefined], chosen(&[1, 3], Some(2), false)),
            (&[AlphaBand], chosen(&[1], None, false)),
        ] {
            assert_eq!(choose(kinds, None).unwrap(), expected, "{kinds:?}");
        }
    }

    #[test]
    fn bands_by_name() {
        let rgba = [RedBand, GreenBand, BlueBand, AlphaBand];
        assert_eq!(choose(&rgba, Some(&[3, 2, 2])).unwrap(), chosen(&[3, 2, 2], Some(4), false));
        assert_eq!(choose(&rgba, Some(&[4])).unwrap(), chosen(&[4], None, false));
        assert_eq!(choose(&[PaletteIndex], Some(&[1])).unwrap(), chosen(&[1], None, false));
        assert_eq!(choose(&rgba, Some(&[1, 5])), Err(5));
        assert_eq!(choose(&rgba, Some(&[0])), Err(0));
    }

    #[test]
    fn types_that_hold_all_bands() {
        use gdal_sys::GDALDataType::*;
        for (types, expected) in [
            (&[GDT_Byte, GDT_Byte][..], Some((SampleType::U8, false))),
            (&[GDT_Byte, GDT_UInt16], Some((SampleType::U16, false))),
            (&[GDT_Int16, GDT_Byte], Some((SampleType::I16, false))),
            (&[GDT_Int16, GDT_UInt16], Some((SampleType::F32, false))),
            (&[GDT_Float32, GDT_Byte], Some((SampleType::F32, false))),
            (&[GDT_Float64], Some((SampleType::F32, true))),
            (&[GDT_UInt32, GDT_Byte], Some((SampleType::F32, true))),
            (&[GDT_CFloat32, GDT_Byte], None),
        ] {
            assert_eq!(common(types), expected, "{types:?}");
        }
    }

    #[test]
    fn nodata_texts() {
        assert_eq!(Nodata::parse(" ").unwrap(), Nodata::Stated);
        assert_eq!(Nodata::parse("none").unwrap(), Nodata::None);
        assert_eq!(Nodata::parse("-9999").unwrap(), Nodata::Values(vec![-9999.0]));
        assert_eq!(Nodata::parse("1, 2.5,3").unwrap(), Nodata::Values(vec![1.0, 2.5, 3.0]));
        assert!(matches!(&Nodata::parse("nan").unwrap(), Nodata::Values(v) if v[0].is_nan()));
        assert!(Nodata::parse("black").unwrap_err().to_string().contains("nodata=black"));
    }
}
