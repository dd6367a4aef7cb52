//! `onnxsegment eval`: a mask, or what models make of an image, against the truth.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use gstonnxsegment::engine::Ensemble;
use gstonnxsegment::engine::decide::{NODATA_16, Work};
use gstonnxsegment::engine::metrics::bootstrap::{BLOCK, RESAMPLES};
use gstonnxsegment::engine::metrics::evaluation::Settings as EvaluationSettings;
use gstonnxsegment::engine::metrics::{Evaluation, LabelMap};
use gstonnxsegment::engine::select::Window;
use gstonnxsegment::engine::select::windows::Area;

use crate::models::ModelArguments;
use crate::scene::{Image, Truth, Values, check_sizes, note_bands};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    models: ModelArguments,

    /// The image that models run on: any raster that GDAL opens
    #[arg(long, value_name = "IMAGE", conflicts_with = "mask")]
    image: Option<PathBuf>,

    /// A finished mask, instead of models
    #[arg(long, value_name = "MASK", conflicts_with_all = ["models", "config_file", "settings"])]
    mask: Option<PathBuf>,

    /// What the finished mask's values mean, such as 0=0,255=1
    #[arg(long, value_name = "VALUE=CLASS,...", requires = "mask")]
    mask_values: Option<Values>,

    /// The true classes: a mask of the same size
    #[arg(long, value_name = "MASK")]
    truth: PathBuf,

    /// What the true mask's values mean, such as 0=0,255=1,128=ignore
    #[arg(long, value_name = "VALUE=CLASS,...")]
    truth_values: Option<Values>,

    /// Pixels that count: x,y,width,height[;...]; all if not given
    #[arg(long, value_name = "WINDOWS", value_delimiter = ';')]
    windows: Vec<Window>,

    /// Side of the bootstrap's blocks in pixels: larger than what is looked for
    #[arg(long, value_name = "PIXELS", default_value_t = BLOCK as u32, value_parser = clap::value_parser!(u32).range(1..))]
    block: u32,

    /// Draws of the bootstrap; 0 leaves intervals out
    #[arg(long, value_name = "N", default_value_t = RESAMPLES as u32)]
    resamples: u32,

    /// Seed of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Classes by pixel, and where models gave them how probable each was.
struct Predicted {
    classes: Vec<Option<u16>>,
    confidence: Option<Vec<f32>>,
    /// Names of the classes, as far as they are known.
    names: Vec<String>,
}

pub fn run(arguments: Arguments) -> Result<()> {
    note_bands(&arguments.truth);
    let mut truth = Truth::read(&arguments.truth, arguments.truth_values.as_ref())?;
    let size = (truth.width, truth.height);
    // Blocks of the bootstrap begin at the windows' corner, and there are none far from any window.
    let mut part = Window { x: 0, y: 0, width: size.0, height: size.1 };
    if !arguments.windows.is_empty() {
        let area = Area::of(&arguments.windows, size).map_err(|window| {
            anyhow::anyhow!("--windows {window}: reaches beyond the mask, which has {}x{} pixels", size.0, size.1)
        })?;
        truth.classes.iter_mut().enumerate().for_each(|(pixel, class)| *class = class.filter(|_| area.contains(pixel)));
        part = Window::around(&arguments.windows).unwrap_or(part);
    }
    let predicted = match (&arguments.mask, &arguments.image) {
        (Some(path), _) => {
            note_bands(path);
            let mask = Truth::read(path, arguments.mask_values.as_ref())?;
            check_sizes((path, (mask.width, mask.height)), (&arguments.truth, size))?;
            Predicted { classes: mask.classes, confidence: None, names: Vec::new() }
        }
        (None, Some(path)) => {
            let image = Image::read(path)?;
            check_sizes((path, (image.format.width, image.format.height)), (&arguments.truth, size))?;
            predict(&arguments.models, image)?
        }
        (None, None) => bail!("nothing is to be scored; name models and --image, or --mask"),
    };
    let known =
        truth.classes.iter().zip(&predicted.classes).filter(|(truth, class)| truth.is_some() && class.is_some());
    ensure!(known.count() > 0, "no pixel has a known class in both truth and prediction; nothing can be scored");

    let settings = EvaluationSettings {
        block: arguments.block as usize,
        resamples: arguments.resamples as usize,
        seed: arguments.seed,
        ..EvaluationSettings::default()
    };
    let mut evaluation = Evaluation::new(settings)?;
    let map = |classes: &[Option<u16>]| {
        let labels = cut(classes, part, size.0).into_iter().map(|class| class.unwrap_or(NODATA_16));
        LabelMap::new(part.width, part.height, labels.collect())
    };
    let confidence = predicted.confidence.as_ref().map(|all| cut(all, part, size.0));
    evaluation.add_frame(&map(&predicted.classes)?, &map(&truth.classes)?, confidence.as_deref())?;
    let report = evaluation.report(&predicted.names);
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&report).context("the report cannot be written as JSON")?),
        false => println!("{report}"),
    }
    Ok(())
}

/// What lies in a part of rows of `width`.
fn cut<T: Copy>(all: &[T], part: Window, width: usize) -> Vec<T> {
    let rows = all.chunks_exact(width).skip(part.y).take(part.height);
    rows.flat_map(|row| &row[part.x..part.x + part.width]).copied().collect()
}

/// Runs models over an image as the element does.
fn predict(models: &ModelArguments, image: Image) -> Result<Predicted> {
    let ensemble = Ensemble::load(&models.settings(&[])?)?;
    ensemble.warnings().iter().for_each(|warning| eprintln!("onnxsegment: {warning}"));
    let valid = image.valid.clone();
    let merged = ensemble.run(image.format, Box::new(image))?;
    let (mut labels, mut work) = (Vec::new(), Work::default());
    ensemble.decision().classes(&merged, 0, merged.height, &mut labels, &mut work);
    merged.probability_rows(0, merged.height, &mut work.scores, &mut work.scratch);
    let size = labels.len();
    let confidence = |(pixel, label): (usize, &u16)| match (merged.channels, label) {
        (1, 0) => 1.0 - work.scores[pixel],
        (1, _) => work.scores[pixel],
        (_, label) => work.scores[usize::from(*label) * size + pixel],
    };
    let has_data = |pixel: usize| valid.as_ref().is_none_or(|valid| valid[pixel] != 0);
    Ok(Predicted {
        confidence: Some(labels.iter().enumerate().map(confidence).collect()),
        classes: labels.iter().enumerate().map(|(pixel, label)| Some(*label).filter(|_| has_data(pixel))).collect(),
        names: ensemble.class_names().unwrap_or_default().to_vec(),
    })
}
