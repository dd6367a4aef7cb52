//! A run as one page: pictures, areas, speed, settings. The page needs no other file and no network.
//!
//! `run --report` fills a [`Run`]; `onnxsegment report` makes one from what a mask tells of itself.

mod areas;
mod page;
mod picture;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use gdal::Metadata;
use gst::glib;

use crate::output::Output;
use crate::scene::note_bands;
use areas::{ClassArea, MaskAreas};
use page::{Pictures, Shown};

/// Longest side of the pictures, of one input and of each of several.
const SIDE: usize = 960;
const SIDE_OF_SEVERAL: usize = 640;
/// Inputs whose pictures are shown.
const SHOWN: usize = 4;
/// Words of one setting on the page: a list of a thousand files says no more than its beginning.
const LONGEST: usize = 2000;

/// One image, and what a run made of it.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub image: &'a Path,
    /// Labels in a raster that GDAL opens; `None` for videos.
    pub mask: Option<&'a Path>,
    pub probability: Option<&'a Path>,
    pub uncertainty: Option<&'a Path>,
}

/// One setting of a run.
#[derive(Debug, Clone)]
pub struct Setting {
    pub name: String,
    pub value: String,
    /// `property`, `config-file`, `default`, …
    pub from: String,
}

/// One model of a run.
#[derive(Debug, Clone)]
pub struct Model {
    pub file: String,
    pub sha256: String,
    pub weight: String,
}

/// What a page tells. What is `None` or empty is left out of it.
#[derive(Debug, Clone, Default)]
pub struct Run<'a> {
    pub inputs: &'a [Input<'a>],
    /// Names by class, over those that the masks hold.
    pub class_names: &'a [String],
    /// Pixels that were segmented; those of the masks if `None`.
    pub pixels: Option<u64>,
    pub seconds: Option<f64>,
    /// Frames, or tiles of a mosaic.
    pub frames: Option<u64>,
    /// Tiles without data.
    pub skipped: Option<u64>,
    pub passes: Option<u64>,
    /// Passes that did not have to run.
    pub saved: Option<u64>,
    pub provider: Option<&'a str>,
    pub settings: &'a [Setting],
    pub models: &'a [Model],
    pub warnings: &'a [String],
    pub command: &'a str,
}

/// Writes a run's page: at once, or not at all.
///
/// # Errors
/// A mask that cannot be read, and a file that cannot be written. A picture that cannot be drawn is a warning on the page.
pub fn write(path: &Path, run: &Run<'_>) -> Result<()> {
    let output = Output::create(path)?;
    output.write(render(run)?.as_bytes())
}

/// The page's HTML.
fn render(run: &Run<'_>) -> Result<String> {
    let mut warnings = run.warnings.to_vec();
    let side = if run.inputs.len() > 1 { SIDE_OF_SEVERAL } else { SIDE };
    let mut shown = Vec::new();
    let mut all = MaskAreas::default();
    for (k, input) in run.inputs.iter().enumerate() {
        let areas = input.mask.map(|mask| areas::count(mask, run.class_names)).transpose()?;
        if let Some(areas) = &areas {
            add(&mut all, areas);
        }
        let pictures = (k < SHOWN).then(|| pictures(input, areas.as_ref(), side, &mut warnings)).flatten();
        shown.push(Shown { name: name(input.image), areas, pictures });
    }
    let now = glib::DateTime::now_utc().and_then(|now| now.format("%Y-%m-%d %H:%M UTC"));
    let written = now.map(|text| text.to_string()).unwrap_or_default();
    let clipped: Vec<Setting> = run.settings.iter().map(|s| Setting { value: clip(&s.value), ..s.clone() }).collect();
    let run = Run { settings: &clipped, ..run.clone() };
    Ok(page::html(&run, &shown, &all, &warnings, &written))
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// The file name of a path.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Adds one mask to all.
fn add(all: &mut MaskAreas, one: &MaskAreas) {
    all.nodata += one.nodata;
    let first = all.width == 0;
    (all.width, all.height) = (all.width.max(one.width), all.height + one.height);
    for class in &one.classes {
        match all.classes.binary_search_by_key(&class.value, |c| c.value) {
            Ok(k) => {
                let sum = &mut all.classes[k];
                sum.pixels += class.pixels;
                sum.area = sum.area.zip(class.area).map(|(a, b)| a + b);
            }
            Err(k) => {
                // A class that some masks have no area of has none in all.
                let known = first || all.classes.iter().all(|c| c.area.is_some());
                all.classes.insert(k, ClassArea { area: class.area.filter(|_| known), ..class.clone() });
            }
        }
    }
}

/// The pictures of an input; what cannot be drawn becomes a warning.
fn pictures(input: &Input<'_>, areas: Option<&MaskAreas>, side: usize, warnings: &mut Vec<String>) -> Option<Pictures> {
    let mut or_warn = |e: anyhow::Error| warnings.push(format!("no picture: {e:#}"));
    let mut drawn = Pictures::default();
    match picture::photograph(input.image, side) {
        Ok((bytes, size)) => (drawn.image, drawn.size) = (Some(bytes), size),
        Err(e) => or_warn(e),
    }
    if let (Some(mask), Some(areas)) = (input.mask, areas) {
        let colours: Vec<_> = areas.classes.iter().filter_map(|c| Some((c.value, c.colour?))).collect();
        drawn.metres = areas.ground.map(|(x, _)| x * areas.width as f64);
        if drawn.image.is_none() {
            drawn.size = picture::fit((areas.width, areas.height), side);
        }
        match picture::mask(mask, side, &colours) {
            Ok(bytes) => drawn.mask = Some(bytes),
            Err(e) => or_warn(e),
        }
    }
    for (path, ramp, place) in [
        (input.probability, page::PROBABILITY, &mut drawn.probability),
        (input.uncertainty, page::UNCERTAINTY, &mut drawn.uncertainty),
    ] {
        match path.map(|path| picture::share(path, side, ramp)).transpose() {
            Ok(found) => *place = found,
            Err(e) => or_warn(e),
        }
    }
    (drawn.size != (0, 0)).then_some(drawn)
}

#[derive(clap::Args)]
pub struct Arguments {
    /// The image that was segmented: any raster that GDAL opens
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    /// Its mask: labels of 8 or 16 bits
    #[arg(value_name = "MASK")]
    mask: PathBuf,

    /// Its probabilities
    #[arg(long, value_name = "RASTER")]
    probability: Option<PathBuf>,

    /// Its uncertainties
    #[arg(long, value_name = "RASTER")]
    uncertainty: Option<PathBuf>,

    /// Names by class, where the mask does not hold them
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    class_names: Vec<String>,

    /// The page
    #[arg(short, long, value_name = "FILE.html")]
    output: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let rasters =
        [&arguments.image, &arguments.mask].into_iter().chain(&arguments.probability).chain(&arguments.uncertainty);
    for raster in rasters {
        if *raster == arguments.output {
            bail!("{}: is an input, and the page would take its place; name another file by -o", raster.display());
        }
    }
    let image = picture::open(&arguments.image)?.raster_size();
    note_bands(&arguments.mask);
    let mask = picture::open(&arguments.mask)?;
    ensure!(
        image.0 * mask.raster_size().1 == image.1 * mask.raster_size().0,
        "{} has {}x{} pixels and {} has {}x{}; they have to cover the same ground",
        arguments.image.display(),
        image.0,
        image.1,
        arguments.mask.display(),
        mask.raster_size().0,
        mask.raster_size().1
    );
    let told = Told::of(&mask);
    let class_names = if arguments.class_names.is_empty() { &told.class_names } else { &arguments.class_names };
    let inputs = [Input {
        image: &arguments.image,
        mask: Some(&arguments.mask),
        probability: arguments.probability.as_deref(),
        uncertainty: arguments.uncertainty.as_deref(),
    }];
    let run = Run { inputs: &inputs, class_names, settings: &told.settings, models: &told.models, ..Run::default() };
    write(&arguments.output, &run)
}

/// What a mask tells of the run that made it: its metadata `ONNXSEGMENT_…`.
#[derive(Default)]
pub struct Told {
    pub class_names: Vec<String>,
    pub models: Vec<Model>,
    pub settings: Vec<Setting>,
}

impl Told {
    /// # Errors
    /// A mask that cannot be opened.
    pub fn of_file(mask: &Path) -> Result<Self> {
        Ok(Told::of(&picture::open(mask)?))
    }

    fn of(mask: &gdal::Dataset) -> Self {
        let mut told = Told::default();
        let mut lists: [Vec<String>; 3] = Default::default();
        let mut own: Vec<String> = mask.metadata_domain("").unwrap_or_default();
        own.sort();
        for line in own {
            let Some((key, value)) = line.strip_prefix("ONNXSEGMENT_").and_then(|line| line.split_once('=')) else {
                continue;
            };
            let list = || value.split(',').map(str::to_string).collect();
            match key {
                "CLASSES" => told.class_names = list(),
                "MODELS" => lists[0] = list(),
                "SHA256" => lists[1] = list(),
                "WEIGHTS" => lists[2] = list(),
                _ => told.settings.push(Setting {
                    name: key.to_lowercase().replace('_', "-"),
                    value: value.to_string(),
                    from: "the mask".into(),
                }),
            }
        }
        let [files, hashes, weights] = lists;
        let at = |list: &[String], k: usize| list.get(k).cloned().unwrap_or_default();
        told.models = files
            .iter()
            .enumerate()
            .map(|(k, file)| Model { file: file.clone(), sha256: at(&hashes, k), weight: at(&weights, k) })
            .collect();
        told
    }
}
