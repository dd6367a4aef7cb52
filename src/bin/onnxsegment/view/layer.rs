//! One raster of the page: where it lies, what its values mean, and how they are painted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use gstonnxsegment::raster::Legend;
use gstonnxsegment::raster::source::{Glance, Info, Meaning, Nodata, Options, Pick, SampleType, Source};
use serde_json::{Value, json};

use super::colours::{self, MAGMA, Ramp, VIRIDIS};
use super::grid::{Extent, Levels, Part, Place, TILE};
use super::warp::Warp;
use crate::scene::of_file;

/// Sides of what is read to learn how values spread.
const SAMPLE: f64 = 512.0;
/// More for masks, whose classes are to be found.
const CLASS_SAMPLE: f64 = 2048.0;
/// Classes that a legend lists.
const CLASSES: usize = 256;
/// GDAL reads whole blocks: what a raster may need for one.
const BLOCK_BYTES: i64 = 512 << 20;
/// Bands whose values a click shows.
const BANDS: usize = 16;

/// What a raster is to the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Image,
    Mask,
    Probability,
    Uncertainty,
}

pub struct Layer {
    pub kind: Kind,
    path: PathBuf,
    options: Options,
    /// Brings it to the image's grid, where it is in another.
    warp: Option<Warp>,
    pub info: Info,
    pub place: Place,
    pub levels: Levels,
    meanings: Vec<Meaning>,
    legend: Legend,
    /// `ONNXSEGMENT_CLASSES`, for files whose class names were beside them and are lost.
    class_names: Vec<String>,
    palette: bool,
    look: Mutex<Option<std::sync::Arc<Look>>>,
}

/// How values are painted.
pub enum Look {
    /// Places of one or three bands, and where they are not of 8 bits the values that become black and white.
    Picture {
        bands: Vec<usize>,
        ranges: Option<Vec<(f64, f64)>>,
        coarse: bool,
    },
    Classes {
        classes: BTreeMap<i64, Class>,
        coarse: bool,
    },
    /// Of each band the values, not samples, at the ends of the ramp.
    Ramp {
        ramp: &'static Ramp,
        ranges: Vec<(f64, f64)>,
        coarse: bool,
    },
}

pub struct Class {
    pub name: String,
    pub colour: [u8; 3],
    /// Not at first where it is what is around the others.
    pub shown: bool,
}

/// What of a layer is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Choice {
    /// Classes that are not to be seen.
    pub hidden: BTreeSet<i64>,
    /// Place of the band of a ramp; `None` for [`Layer::first_band`].
    pub band: Option<usize>,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Image => "image",
            Kind::Mask => "mask",
            Kind::Probability => "probability",
            Kind::Uncertainty => "uncertainty",
        }
    }
}

impl Layer {
    /// Opens a raster. All but the image are placed in the image.
    ///
    /// # Errors
    /// Files that GDAL cannot read, in its own words, and rasters that do not fit the image.
    pub fn open(kind: Kind, path: &Path, bands: Option<Vec<usize>>, image: Option<&Layer>) -> Result<Self> {
        let text = path.to_str().with_context(|| format!("{}: its name is not UTF-8", path.display()))?;
        let mut options = Options { location: text.into(), bands, ..Options::default() };
        if matches!(kind, Kind::Mask | Kind::Uncertainty) {
            options.bands = Some(vec![1]);
        }
        let mut source = Source::open(&options).map_err(of_file)?;
        // As elsewhere: many programs write it into masks, and mean class 0.
        if kind == Kind::Mask && source.info().nodata == Some(0.0) {
            options.nodata = Nodata::None;
            source = Source::open(&options).map_err(of_file)?;
        }
        let needs = source.block_bytes();
        ensure!(
            needs <= BLOCK_BYTES,
            "{text}: its blocks are so large that every look at it would take {} MB; cut it into tiles first: \
             gdal_translate -of COG {text} tiled.tif",
            needs >> 20
        );
        let class_names = source.metadata_item("ONNXSEGMENT_CLASSES").unwrap_or_default();
        let (mut warp, mut place) = (None, Place::SAME);
        if let Some(image) = image {
            let (own, of_image) = (extent(source.info()), extent(&image.info));
            let found = Place::of(own, of_image).with_context(|| text.to_string())?;
            place = match found {
                Some(place) => place,
                None => {
                    let size = (own.width, own.height);
                    let made = Warp::new(path, size, of_image).with_context(|| text.to_string())?;
                    let place = made.place;
                    source = read(&options, Some(&made)).with_context(|| text.to_string())?;
                    warp = Some(made);
                    place
                }
            };
        }
        let info = source.info().clone();
        let (width, height) = image.map_or((info.width, info.height), |image| (image.info.width, image.info.height));
        Ok(Layer {
            kind,
            path: path.to_path_buf(),
            levels: Levels::new(width, height, &place),
            place,
            meanings: source.meanings(),
            legend: source.legend().unwrap_or_default(),
            class_names: class_names.split(',').filter(|name| !name.is_empty()).map(String::from).collect(),
            palette: source.shows_palette(),
            look: Mutex::new(None),
            options,
            warp,
            info,
        })
    }

    /// Another handle of the same raster, for another thread.
    pub fn source(&self) -> Result<Source> {
        read(&self.options, self.warp.as_ref())
    }

    /// The band of a ramp that is shown when none is named: of several, class 1's.
    pub fn first_band(&self) -> usize {
        usize::from(self.meanings.len() > 1)
    }

    pub fn band_count(&self) -> usize {
        self.meanings.len()
    }

    /// A tile as RGBA; `None` where nothing is to be seen.
    ///
    /// # Errors
    /// What GDAL says of a file that is damaged.
    pub fn tile(&self, source: &Source, tile: (u32, u32, u32), choice: &Choice) -> Result<Option<Vec<u8>>> {
        let Some(part) = self.levels.part(tile, &self.place, (self.info.width, self.info.height)) else {
            return Ok(None);
        };
        let look = self.look(source)?;
        let (bands, pick) = match &*look {
            Look::Picture { bands, .. } => (bands.clone(), Pick::Average),
            Look::Classes { .. } => (vec![0], Pick::Nearest),
            Look::Ramp { .. } => (vec![choice.band.unwrap_or(self.first_band())], Pick::Average),
        };
        let Some(glance) = source.glance(part.window, part.size, &bands, pick).map_err(of_file)? else {
            return Ok(None);
        };
        Ok(Some(self.paint(&look, &glance, &part, choice)))
    }

    fn paint(&self, look: &Look, glance: &Glance, part: &Part, choice: &Choice) -> Vec<u8> {
        let colour: Box<dyn Fn(usize) -> Option<[u8; 3]> + '_> = match look {
            Look::Picture { ranges, .. } => Box::new(move |p| {
                Some(std::array::from_fn(|k| {
                    let band = k.min(glance.bands.len() - 1);
                    let v = glance.bands[band][p];
                    let (low, high) = ranges.as_ref().map_or((0.0, 255.0), |ranges| ranges[band]);
                    // Rounded; NaN becomes 0.
                    (((v - low) / (high - low)).clamp(0.0, 1.0) * 255.0 + 0.5) as u8
                }))
            }),
            Look::Classes { classes, .. } => Box::new(move |p| {
                let value = glance.bands[0][p] as i64;
                let own = || classes.get(&value).map_or_else(|| colours::of_class(value), |class| class.colour);
                (!choice.hidden.contains(&value)).then(own)
            }),
            Look::Ramp { ramp, ranges, .. } => {
                let band = choice.band.unwrap_or(self.first_band());
                let ((low, high), meaning) = (ranges[band], &self.meanings[band]);
                Box::new(move |p| {
                    let v = value(meaning, glance.bands[0][p]);
                    v.is_finite().then(|| ramp.at((v - low) / (high - low)))
                })
            }
        };
        let side = TILE as usize;
        let mut pixels = vec![0u8; side * side * 4];
        for y in 0..part.size.1 {
            for x in 0..part.size.0 {
                let p = y * part.size.0 + x;
                if glance.valid.as_ref().is_some_and(|valid| valid[p] == 0) {
                    continue;
                }
                if let Some([r, g, b]) = colour(p) {
                    let at = ((part.at.1 + y) * side + part.at.0 + x) * 4;
                    pixels[at..at + 4].copy_from_slice(&[r, g, b, 255]);
                }
            }
        }
        pixels
    }

    /// How the layer is painted: learnt from a sample of its values when it is first asked for.
    pub fn look(&self, source: &Source) -> Result<std::sync::Arc<Look>> {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = &*look {
            return Ok(look.clone());
        }
        let found = std::sync::Arc::new(self.learn(source)?);
        *look = Some(found.clone());
        Ok(found)
    }

    fn learn(&self, source: &Source) -> Result<Look> {
        let all: Vec<usize> = (0..self.meanings.len()).collect();
        match self.kind {
            Kind::Image => {
                let bands = if all.len() >= 3 { vec![0, 1, 2] } else { vec![0] };
                if self.palette || self.info.sample == SampleType::U8 {
                    return Ok(Look::Picture { bands, ranges: None, coarse: self.lacks_overviews(source)? });
                }
                let glance = self.sample(source, SAMPLE, &bands)?;
                let ranges = glance.as_ref().map_or(vec![(0.0, 1.0); bands.len()], |glance| {
                    glance.bands.iter().map(|plane| percentiles(glance, plane, 0.02, 0.98)).collect()
                });
                Ok(Look::Picture { bands, ranges: Some(ranges), coarse: glance.is_some_and(|glance| glance.coarse) })
            }
            Kind::Mask => {
                let glance = self.sample(source, CLASS_SAMPLE, &[0])?;
                let seen = glance.as_ref().map(|glance| known(glance, &glance.bands[0]).map(|v| v as i64).collect());
                let classes = self.classes(&seen.unwrap_or_default());
                Ok(Look::Classes { classes, coarse: glance.is_some_and(|glance| glance.coarse) })
            }
            Kind::Probability | Kind::Uncertainty => {
                let glance = self.sample(source, SAMPLE, &all)?;
                let range = |band: &usize| {
                    let meaning = &self.meanings[*band];
                    let values = glance.as_ref().map(|glance| percentiles(glance, &glance.bands[*band], 0.0, 0.98));
                    let high = values.map_or(1.0, |(_, high)| value(meaning, high));
                    match self.kind {
                        // Little of it is near the most that there could be.
                        Kind::Uncertainty if high > 0.0 => (0.0, high),
                        _ if meaning.scale.is_some() || self.info.sample == SampleType::F32 => (0.0, 1.0),
                        _ => (0.0, [1.0, 100.0, 255.0].into_iter().find(|most| high <= *most).unwrap_or(65535.0)),
                    }
                };
                let ramp = if self.kind == Kind::Probability { &VIRIDIS } else { &MAGMA };
                let ranges = all.iter().map(range).collect();
                Ok(Look::Ramp { ramp, ranges, coarse: glance.is_some_and(|glance| glance.coarse) })
            }
        }
    }

    /// The whole raster, small.
    fn sample(&self, source: &Source, side: f64, bands: &[usize]) -> Result<Option<Glance>> {
        let (width, height) = (self.info.width as f64, self.info.height as f64);
        let factor = (width.max(height) / side).max(1.0);
        let fit = |length: f64| ((length / factor) as usize).max(1);
        source.glance([0.0, 0.0, width, height], (fit(width), fit(height)), bands, Pick::Nearest).map_err(of_file)
    }

    fn lacks_overviews(&self, source: &Source) -> Result<bool> {
        let small = self.info.width.max(self.info.height) <= 4096;
        Ok(!small && self.sample(source, SAMPLE, &[0])?.is_some_and(|glance| glance.coarse))
    }

    /// The classes of a mask by its values: those that it names or paints, and those that were seen in it.
    fn classes(&self, seen: &BTreeSet<i64>) -> BTreeMap<i64, Class> {
        let Legend { names, colours } = &self.legend;
        let painted = |k: usize| colours.get(k).filter(|c| **c != [0; 3]);
        let stated = (0..names.len().max(colours.len()))
            .filter(|k| names.get(*k).is_some_and(|name| !name.is_empty()) || painted(*k).is_some());
        let mut values: BTreeSet<i64> = stated.map(|k| k as i64).collect();
        values.extend(seen);
        let of = |value: i64| {
            let place = usize::try_from(value).unwrap_or(usize::MAX);
            let own = names.get(place).filter(|name| !name.is_empty()).cloned();
            let colour = painted(place).copied();
            let class = Class {
                name: own.or_else(|| self.lost_name(value, seen)).unwrap_or_else(|| format!("class {value}")),
                colour: colour.unwrap_or_else(|| colours::of_class(value)),
                shown: value != 0 || colour.is_some(),
            };
            (value, class)
        };
        values.into_iter().take(CLASSES).map(of).collect()
    }

    /// A class's name from the metadata, where the file has no names by value, and values can be told to be classes.
    fn lost_name(&self, value: i64, seen: &BTreeSet<i64>) -> Option<String> {
        let names = &self.class_names;
        if self.legend.names.iter().any(|name| !name.is_empty()) {
            return None;
        }
        let black_and_white = names.len() == 2 && seen.contains(&255) && seen.iter().all(|v| [0, 255].contains(v));
        let all_classes = seen.iter().all(|v| (0..names.len() as i64).contains(v));
        match black_and_white {
            true => names.get(usize::from(value == 255)).cloned(),
            false => names.get(usize::try_from(value).ok()?).filter(|_| all_classes).cloned(),
        }
    }

    /// What the page is told of the layer.
    pub fn describe(&self, source: &Source) -> Result<Value> {
        let look = self.look(source)?;
        let mut all = json!({
            "id": self.kind.name(),
            "file": self.path.file_name().map(|name| name.to_string_lossy()),
            "width": self.info.width,
            "height": self.info.height,
            "levels": self.levels.count,
            "finest": self.levels.finest,
            "nodata": self.info.nodata.map(|v| v.to_string()),
        });
        let mut add = |name: &str, value: Value| all[name] = value;
        add("warped", self.warp.is_some().into());
        if self.place != Place::SAME {
            add("placed", json!({ "origin": self.place.origin, "scale": self.place.scale }));
        }
        let coarse = match &*look {
            Look::Picture { bands, ranges, coarse } => {
                let shown = bands.iter().map(|k| self.meanings[*k].band).collect::<Vec<_>>();
                add("bands", json!(shown));
                add("stretch", json!(ranges));
                coarse
            }
            Look::Classes { classes, coarse } => {
                let one = |(value, class): (&i64, &Class)| json!({ "value": value, "name": class.name, "colour": colours::css(class.colour), "shown": class.shown });
                add("classes", classes.iter().map(one).collect());
                coarse
            }
            Look::Ramp { ramp, ranges, coarse } => {
                let names: Vec<_> = (0..self.meanings.len()).map(|k| self.band_name(k)).collect();
                add(
                    "ramp",
                    json!({ "colours": ramp.steps(), "ranges": ranges, "bands": names, "band": self.first_band() }),
                );
                coarse
            }
        };
        add("coarse", json!(coarse));
        Ok(all)
    }

    fn band_name(&self, place: usize) -> String {
        let meaning = &self.meanings[place];
        match meaning.name.is_empty() {
            true => format!("band {}", meaning.band),
            false => meaning.name.clone(),
        }
    }

    /// What the layer holds at a pixel of the image, as the page is told: null where it has no data.
    pub fn at(&self, source: &Source, column: i64, row: i64) -> Result<Value> {
        let (x, y) = self.place.to_layer((column as f64 + 0.5, row as f64 + 0.5));
        let (x, y) = (x.floor(), y.floor());
        if x < 0.0 || y < 0.0 || x >= self.info.width as f64 || y >= self.info.height as f64 {
            return Ok(Value::Null);
        }
        let bands: Vec<usize> = (0..self.meanings.len().min(BANDS)).collect();
        let glance = source.glance([x, y, 1.0, 1.0], (1, 1), &bands, Pick::Nearest).map_err(of_file)?;
        let Some(glance) = glance.filter(|glance| glance.valid.is_none()) else { return Ok(Value::Null) };
        if self.kind == Kind::Mask {
            let value = glance.bands[0][0] as i64;
            let look = self.look(source)?;
            let Look::Classes { classes, .. } = &*look else { return Ok(Value::Null) };
            let class = classes.get(&value);
            let name = class.map_or_else(|| format!("class {value}"), |class| class.name.clone());
            let colour = colours::css(class.map_or_else(|| colours::of_class(value), |class| class.colour));
            return Ok(json!({ "value": value, "name": name, "colour": colour }));
        }
        let one = |(k, plane): (usize, &Vec<f64>)| match self.palette {
            true => json!({ "name": (["red", "green", "blue"][k]), "value": plane[0] }),
            false => json!({ "name": self.band_name(k), "value": value(&self.meanings[k], plane[0]) }),
        };
        Ok(glance.bands.iter().enumerate().map(one).collect())
    }
}

/// A handle of a raster as its options have it, or of the same warped.
fn read(options: &Options, warp: Option<&Warp>) -> Result<Source> {
    let mut options = options.clone();
    if let Some(warp) = warp {
        options.location = warp.location()?;
    }
    Source::open(&options).map_err(of_file)
}

fn extent(info: &Info) -> Extent<'_> {
    Extent { width: info.width, height: info.height, georeference: &info.georeference }
}

/// What a sample stands for.
fn value(meaning: &Meaning, sample: f64) -> f64 {
    sample * meaning.scale.unwrap_or(1.0) + meaning.offset
}

/// The samples of a band that are data.
fn known<'a>(glance: &'a Glance, plane: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let valid = |p: usize| glance.valid.as_ref().is_none_or(|valid| valid[p] != 0);
    plane.iter().enumerate().filter(move |(p, v)| v.is_finite() && valid(*p)).map(|(_, v)| *v)
}

/// The values below which the given shares lie; never the same.
fn percentiles(glance: &Glance, plane: &[f64], low: f64, high: f64) -> (f64, f64) {
    let mut values: Vec<f64> = known(glance, plane).collect();
    if values.is_empty() {
        return (0.0, 1.0);
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let (low, high) = (at(low), at(high));
    if high > low { (low, high) } else { (low, low + 1.0) }
}
