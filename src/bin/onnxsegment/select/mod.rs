//! `onnxsegment select`: which models, transforms and merges to run, by a scene with known truth.

mod plot;
mod table;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use gstonnxsegment::engine::metrics::bootstrap::{BLOCK, RESAMPLES};
use gstonnxsegment::engine::select::{Cost, Judged, Options, Selection, Study, Truth, Unseen, Window, windows};
use gstonnxsegment::engine::{Settings, tta};

use crate::models::ModelArguments;
use crate::output::Output;
use crate::scene::{Scene, Values};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    models: ModelArguments,

    /// The scene: any raster that GDAL opens
    #[arg(long, value_name = "IMAGE")]
    image: PathBuf,

    /// Its true classes: a mask of the same size
    #[arg(long, value_name = "MASK")]
    truth: PathBuf,

    /// What the mask's values mean, such as 0=0,255=1,128=ignore
    #[arg(long, value_name = "VALUE=CLASS,...")]
    truth_values: Option<Values>,

    /// Where models were not trained: [MODEL=]x,y,width,height[;...] in pixels of the scene. MODEL is a file name, with or without
    /// .onnx, or a glob; without it, all models. Instead of the metadata key validation_windows
    #[arg(long, value_name = "WINDOWS")]
    windows: Vec<String>,

    /// Pixels that decide nothing and are reported at the end: x,y,width,height[;...]
    #[arg(long, value_name = "WINDOWS", value_delimiter = ';')]
    holdout: Vec<Window>,

    /// Sets of transforms to compare; a set joins its parts by +
    #[arg(long, value_name = "SET,...", value_delimiter = ',', default_value = "none,hflip,flip3,flips,d4")]
    tta: Vec<TransformSet>,

    /// Classes whose mean IoU is the score; all but class 0 if not given
    #[arg(long, value_name = "CLASS,...", value_delimiter = ',')]
    classes: Option<Vec<usize>>,

    /// What is to be low: passes per frame, or seconds per megapixel as measured here
    #[arg(long, value_enum, default_value = "passes")]
    cost: CostOption,

    /// Treat the models as folds of a cross-validation, whatever pixels they share
    #[arg(long)]
    cross_validation: bool,

    /// Side of the bootstrap's blocks in pixels: larger than what is looked for
    #[arg(long, value_name = "PIXELS", default_value_t = BLOCK as u32, value_parser = clap::value_parser!(u32).range(1..))]
    block: u32,

    /// Draws of the bootstrap
    #[arg(long, value_name = "N", default_value_t = RESAMPLES as u32, value_parser = clap::value_parser!(u32).range(1..))]
    resamples: u32,

    /// Seed of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Write the recommended setting as a configuration file for the element
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write a plot of quality against cost
    #[arg(long, value_name = "PNG")]
    plot: Option<PathBuf>,

    /// Print JSON with every candidate instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Clone)]
struct TransformSet(Vec<tta::Transform>);

impl FromStr for TransformSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        tta::parse(text).map(TransformSet).map_err(|e| e.to_string())
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum CostOption {
    Passes,
    Seconds,
}

/// What the recommended setting and a plain single model score on the pixels that decided nothing.
pub struct Report {
    pub chosen: Judged,
    pub baseline: Judged,
}

pub fn run(arguments: Arguments) -> Result<()> {
    // Before the work: it may take long.
    let [output, plot] =
        [&arguments.output, &arguments.plot].map(|path| path.as_deref().map(Output::create).transpose());
    let (output, plot) = (output?, plot?);
    let settings = arguments.models.settings(&["tta", "merge", "merge-domain"])?;
    let windows = stated_windows(&settings, &arguments.windows)?;
    let scene = Scene::read(&arguments.image, &arguments.truth, arguments.truth_values.as_ref())?;
    let classes: Vec<Option<u16>> =
        scene.truth.classes.iter().enumerate().map(|(k, class)| class.filter(|_| scene.counts(k))).collect();
    let truth = Truth { width: scene.truth.width, height: scene.truth.height, classes: &classes };
    let options = Options {
        sets: arguments.tta.iter().map(|set| set.0.clone()).collect(),
        classes: arguments.classes.clone(),
        cost: match arguments.cost {
            CostOption::Passes => Cost::Passes,
            CostOption::Seconds => Cost::Seconds,
        },
        folds: arguments.cross_validation,
        block: arguments.block as usize,
        resamples: arguments.resamples as usize,
        seed: arguments.seed,
    };
    let format = scene.image.format;
    let mut study = Study::new(&settings, &windows, &arguments.holdout, truth, format, options)?;
    let (names, count) = (study.names.clone(), study.names.len() * study.transforms().len());
    let mut done = 0;
    study.run(&|| Box::new(scene.image.clone()), |member, transform| {
        done += 1;
        eprintln!("pass {done} of {count}: {} {}", names[member], transform.name());
    })?;
    let selection = study.select()?;

    let chosen = &selection.rows[selection.chosen].candidate;
    let report = match arguments.holdout.is_empty() {
        true => None,
        false => {
            let unseen = Unseen::open(&study, &selection, &arguments.holdout, truth)?;
            let judge = |candidate| unseen.judge(&study.settings(candidate), format, Box::new(scene.image.clone()));
            Some(Report { chosen: judge(chosen)?, baseline: judge(&selection.baseline)? })
        }
    };
    if let (Some(output), Some(path)) = (output, &arguments.output) {
        let folder = path.parent().unwrap_or(Path::new(""));
        let text = study.settings(chosen).to_config(folder)?;
        output.write(format!("{}{text}", table::comment(&study, &selection)).as_bytes())?;
    }
    if let Some(plot) = plot {
        plot.write(&plot::draw(&study, &selection)?)?;
    }
    match arguments.json {
        true => println!("{}", table::json(&study, &selection, report.as_ref())),
        false => print!("{}", table::text(&study, &selection, report.as_ref())),
    }
    Ok(())
}

/// The windows of each member: those of the command line, else those of its metadata.
fn stated_windows(settings: &Settings, stated: &[String]) -> Result<Vec<Vec<Window>>> {
    let mut used = vec![false; stated.len()];
    let mut all = Vec::new();
    for member in settings.resolve_members()? {
        let path = &member.model;
        let mut own = Vec::new();
        for (text, used) in stated.iter().zip(&mut used) {
            let (model, list) = text.rsplit_once('=').unwrap_or(("*", text));
            let pattern = glob::Pattern::new(model).with_context(|| format!("--windows {text}"))?;
            let names = [path.file_name(), path.file_stem(), Some(path.as_os_str())];
            if names.into_iter().flatten().any(|name| pattern.matches(&name.to_string_lossy())) {
                *used = true;
                for window in list.split(';') {
                    own.push(window.parse().map_err(anyhow::Error::msg).with_context(|| format!("--windows {text}"))?);
                }
            }
        }
        if own.is_empty() {
            own = windows::of_model(path)?.with_context(|| {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                format!(
                    "{}: nothing says which pixels it was not trained on, and a model must not be judged on those that it was; \
                     state them by --windows {name}=x,y,width,height or in its metadata as {}",
                    path.display(),
                    windows::KEY
                )
            })?;
        }
        all.push(own);
    }
    if let Some((text, _)) = stated.iter().zip(used).find(|(_, used)| !used) {
        bail!("--windows {text}: no model has that name");
    }
    Ok(all)
}

/// The name of a candidate's members.
pub fn members(study: &Study, members: &[usize]) -> String {
    let names: Vec<&str> = members.iter().map(|m| study.names[*m].as_str()).collect();
    match names.len() {
        n if n > 3 && n == study.names.len() => format!("all {n}"),
        _ => names.join(" + "),
    }
}

/// Rows that are worth a line, from the best score on.
pub fn listed(selection: &Selection) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..selection.rows.len()).filter(|k| selection.rows[*k].intervals.is_some()).collect();
    rows.sort_by(|a, b| selection.rows[*b].iou.total_cmp(&selection.rows[*a].iou));
    rows
}
