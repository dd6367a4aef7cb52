//! `onnxsegment soup`: averages models into one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gstonnxsegment::engine::Settings;
use gstonnxsegment::engine::metrics::ClassCounts;
use gstonnxsegment::engine::onnx::model;
use gstonnxsegment::engine::select::{
    self,
    windows::{self, Area, Relation, Window},
};
use gstonnxsegment::engine::settings::{Facts, Source};
use gstonnxsegment::engine::soup::{self, Members, Soup, Tiles, Trial};
use gstonnxsegment::files;

use crate::scene::{Image, Scene, Values};

#[derive(clap::Args)]
pub struct Arguments {
    /// Models of one architecture: files, or globs in quotes
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// The averaged model
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    /// Replace OUT.onnx where it exists
    #[arg(long)]
    force: bool,
    /// One weight per model, in their order [default: all alike]
    #[arg(long, value_delimiter = ',', conflicts_with = "greedy")]
    weights: Option<Vec<f64>>,
    /// Images to take the statistics of BatchNormalization from: files, or globs in quotes
    #[arg(long, value_name = "IMAGE", num_args = 1..)]
    images: Vec<String>,
    /// Side of the tiles that the images are cut into, in pixels [default: the models' metadata, else 256]
    #[arg(long, value_name = "PIXELS", requires = "images", value_parser = clap::value_parser!(u32).range(1..=16384))]
    tile_size: Option<u32>,
    /// Tiles whose statistics are taken together [default: 8]
    #[arg(long, value_name = "TILES", requires = "images", value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch_size: Option<u32>,
    /// Keep a model only if the score of the soup does not fall; models come by their own scores, the best first
    #[arg(long, requires_all = ["image", "truth"])]
    greedy: bool,
    /// The scene to score on
    #[arg(long, requires = "greedy")]
    image: Option<PathBuf>,
    /// The scene's true classes: a mask of 0 and 255, or of class numbers
    #[arg(long, requires = "greedy")]
    truth: Option<PathBuf>,
    /// Which class the values of the mask mean
    #[arg(long, value_name = "VALUE=CLASS,…", requires = "greedy")]
    truth_values: Option<Values>,
    /// Where to score, in pixels of the scene [default: the validation windows that all models share]
    #[arg(long, value_name = "X,Y,WIDTH,HEIGHT;…", value_delimiter = ';', requires = "greedy")]
    windows: Option<Vec<Window>>,
    /// Classes whose mean IoU is the score; all but class 0 if not given
    #[arg(long, value_name = "CLASS,...", value_delimiter = ',', requires = "greedy")]
    classes: Option<Vec<usize>>,
    /// A property of the element `onnxsegment`, such as activation=sigmoid or scale=65535, where the models do not tell
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let paths = models(&arguments.models)?;
    check_output(&arguments, &paths)?;
    let recipe = Recipe::open(&arguments, &paths)?;
    let (soup, weights) = match arguments.greedy {
        true => recipe.greedy(&arguments, &paths)?,
        false => {
            let weights = arguments.weights.clone().unwrap_or(vec![1.0; paths.len()]);
            (recipe.make(&weights)?, weights)
        }
    };
    model::write(&soup.model, &arguments.output)?;

    let used = weights.iter().filter(|w| **w > 0.0).count();
    for key in &soup.dropped {
        warn(&format!("the models' metadata differ in `{key}`; it is left out"));
    }
    if used > 1 && soup.has_batch_norm() && arguments.images.is_empty() {
        warn(
            "the statistics of BatchNormalization are averaged like weights and may not fit; --images takes them anew from \
             images like those of the training",
        );
    }
    if used > 1 && are_folds(&paths)? {
        warn(
            "no two of the models share a validation window, so they seem to be folds of a cross-validation: the average of \
             such models is seldom a model. Compare its masks with theirs, or run them as an ensemble",
        );
    }
    match used {
        1 => println!("{}: one model alone", arguments.output.display()),
        _ => println!("{}: the average of {used} models", arguments.output.display()),
    }
    Ok(())
}

fn warn(text: &str) {
    eprintln!("onnxsegment: warning: {text}");
}

/// Files by their names and globs, in order.
fn models(texts: &[String]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for text in texts {
        let mut settings = Settings::default();
        settings.set("model-file", text, Source::Property, Path::new(""))?;
        paths.extend(settings.models);
    }
    Ok(paths)
}

/// # Errors
/// An output that cannot or shall not be written, before any work is done.
fn check_output(arguments: &Arguments, models: &[PathBuf]) -> Result<()> {
    let output = &arguments.output;
    let folder = output.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    ensure!(
        !files::is_virtual(output),
        "{}: models are written to a disk, and this is no path on one",
        output.display()
    );
    ensure!(folder.is_dir(), "{}: there is no such folder; make it first", folder.display());
    ensure!(!output.is_dir(), "{}: is a folder; name a file", output.display());
    let same = |model: &PathBuf| output.canonicalize().ok().is_some_and(|path| model.canonicalize().ok() == Some(path));
    ensure!(!models.iter().any(same), "{}: is one of the models; name another output", output.display());
    ensure!(arguments.force || !output.exists(), "{}: exists already; --force replaces it", output.display());
    Ok(())
}

/// Whether models name validation windows, and no two of them overlap.
fn are_folds(paths: &[PathBuf]) -> Result<bool> {
    let all = paths.iter().map(|path| windows::of_model(path)).collect::<Result<Option<Vec<_>>, _>>()?;
    let Some(all) = all else { return Ok(false) };
    let meet = |a: usize, b: usize, c: usize, d: usize| a < c.saturating_add(d) && c < a.saturating_add(b);
    let overlap = |a: &Window, b: &Window| meet(a.x, a.width, b.x, b.width) && meet(a.y, a.height, b.y, b.height);
    let apart = |a: &[Window], b: &[Window]| !a.iter().any(|a| b.iter().any(|b| overlap(a, b)));
    Ok((1..all.len()).all(|k| all[..k].iter().all(|other| apart(other, &all[k]))))
}

/// Images by their names and globs.
fn images(texts: &[String]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for text in texts {
        let found: Vec<PathBuf> = match Path::new(text).exists() || !text.contains(['*', '?', '[']) {
            true => vec![text.into()],
            false => glob::glob(text)
                .with_context(|| format!("--images {text}: is no valid glob"))?
                .filter_map(Result::ok)
                .collect(),
        };
        ensure!(!found.is_empty(), "--images {text}: matches no file; check the pattern and the folder");
        paths.extend(found);
    }
    Ok(paths)
}

/// What soups are made of, and how.
struct Recipe {
    members: Members,
    /// What messages call an average: the first model.
    name: PathBuf,
    settings: Settings,
    facts: Facts,
    images: Vec<PathBuf>,
    tiles: Tiles,
}

impl Recipe {
    fn open(arguments: &Arguments, paths: &[PathBuf]) -> Result<Self> {
        let mut settings = Settings::default();
        for text in &arguments.settings {
            let (name, value) =
                text.split_once('=').with_context(|| format!("--set {text}: use NAME=VALUE, such as scale=65535"))?;
            ensure!(
                !["model-file", "weights"].contains(&name),
                "--set {text}: models and weights are stated without --set"
            );
            settings.set(name, value, Source::Property, Path::new("")).with_context(|| format!("--set {text}"))?;
        }
        let images = images(&arguments.images)?;
        let members = Members::read(paths)?;
        let alone = Settings { models: vec![paths[0].clone()], ..settings.clone() };
        let facts = alone.resolve_members()?.swap_remove(0).facts;
        let number = |n: Option<u32>| n.map(|n| n as usize);
        let tiles = Tiles { side: number(arguments.tile_size), batch: number(arguments.batch_size) };
        Ok(Recipe { members, name: paths[0].clone(), settings, facts, images, tiles })
    }

    /// The average with these weights, its statistics taken anew where there are images.
    fn make(&self, weights: &[f64]) -> Result<Soup> {
        let mut soup = self.members.average(weights)?;
        if self.images.is_empty() {
            return Ok(soup);
        }
        let Some(mut normalizations) = soup.normalizations(&self.name, &self.facts, self.tiles)? else {
            warn(
                "the models have no BatchNormalization (most exporters fold it into convolutions): --images is not used",
            );
            return Ok(soup);
        };
        for path in &self.images {
            let image = Image::read(path)?;
            normalizations.add(&image, image.valid.as_deref()).with_context(|| path.display().to_string())?;
        }
        soup.renormalize(normalizations)?;
        Ok(soup)
    }

    /// The greedy recipe, and what it tried as a table.
    fn greedy(&self, arguments: &Arguments, paths: &[PathBuf]) -> Result<(Soup, Vec<f64>)> {
        let (Some(image), Some(truth)) = (&arguments.image, &arguments.truth) else {
            bail!("--greedy needs --image and --truth");
        };
        let scene = Scene::read(image, truth, arguments.truth_values.as_ref())?;
        let judge = Judge {
            settings: &self.settings,
            area: area(arguments, paths, &scene)?,
            scene,
            classes: arguments.classes.clone(),
        };
        let own = paths.iter().map(|path| judge.score(path)).collect::<Result<Vec<f64>>>()?;
        let weights = |members: &[usize]| {
            (0..paths.len()).map(|m| f64::from(u8::from(members.contains(&m)))).collect::<Vec<f64>>()
        };
        let folder = tempfile::tempdir().context("no temporary folder can be made; set TMPDIR to one with space")?;
        let mut trials = 0;
        let trials = soup::greedy(&own, |members| {
            trials += 1;
            let path = folder.path().join(format!("soup{trials}.onnx"));
            model::write(&self.make(&weights(members))?.model, &path)?;
            let score = judge.score(&path)?;
            std::fs::remove_file(&path)?;
            anyhow::Ok(score)
        })?;
        table(&trials, &own, paths);
        let kept: Vec<usize> = trials.iter().filter(|trial| trial.kept).map(|trial| trial.member).collect();
        let weights = weights(&kept);
        // The best model alone keeps its own statistics, with which it was scored.
        let soup = if kept.len() == 1 { self.members.average(&weights)? } else { self.make(&weights)? };
        Ok((soup, weights))
    }
}

/// Shows what was tried.
fn table(trials: &[Trial], own: &[f64], paths: &[PathBuf]) {
    let name = |member: usize| paths[member].display().to_string();
    let width = trials.iter().map(|trial| name(trial.member).chars().count()).max().unwrap_or(0).max("model".len());
    println!("{:width$}  own IoU  soup IoU", "model");
    for trial in trials {
        let verdict = if trial.kept { "kept" } else { "left out" };
        println!("{:width$}  {:7.4}  {:8.4}  {verdict}", name(trial.member), own[trial.member], trial.score);
    }
}

/// Where models are scored: what is stated, else what no model was trained on.
fn area(arguments: &Arguments, paths: &[PathBuf], scene: &Scene) -> Result<Area> {
    let size = (scene.truth.width, scene.truth.height);
    let area = |windows: &[Window], whose: &str| {
        Area::of(windows, size).map_err(|window| {
            anyhow::anyhow!("{whose} {window} reaches beyond the scene of {}x{} pixels", size.0, size.1)
        })
    };
    let all = match &arguments.windows {
        Some(windows) => area(windows, "--windows")?,
        None => {
            let mut areas = Vec::new();
            for path in paths {
                let Some(windows) = windows::of_model(path)? else {
                    bail!(
                        "{}: its metadata name no {}, the pixels that it was not trained on; state some with --windows",
                        path.display(),
                        windows::KEY
                    );
                };
                areas.push(area(&windows, &format!("{}: the validation window", path.display()))?);
            }
            match Relation::of(&areas) {
                Relation::Shared(area) => area,
                Relation::Folds => bail!(
                    "the models share no validation window, as folds of a cross-validation do: each pixel was trained on by \
                     one of them at least, so no pixel tells what their average is worth. State pixels that none has seen \
                     with --windows, if there are any"
                ),
                Relation::Mixed(a, b) => bail!(
                    "no pixel lies in the validation windows of all models, though {} and {} share some; average fewer, or \
                     state pixels that none has seen with --windows",
                    paths[a].display(),
                    paths[b].display()
                ),
            }
        }
    };
    let counted = all.with(|pixel| scene.counts(pixel));
    ensure!(!counted.is_empty(), "no pixel of the windows has data and a known class");
    Ok(counted)
}

/// Scores models on a scene.
struct Judge<'a> {
    settings: &'a Settings,
    scene: Scene,
    area: Area,
    classes: Option<Vec<usize>>,
}

impl Judge<'_> {
    /// The mean IoU of the classes that count.
    fn score(&self, path: &Path) -> Result<f64> {
        let settings = Settings { models: vec![path.into()], ..self.settings.clone() };
        let labels = select::labels(&settings, self.scene.image.format, Box::new(self.scene.image.clone()))?;
        let mut counts = ClassCounts::default();
        for pixel in self.area.pixels() {
            if let Some(truth) = self.scene.truth.classes[pixel] {
                counts.add(truth.into(), labels[pixel].into());
            }
        }
        let classes = self.classes.clone().unwrap_or((1..counts.0.len()).collect());
        select::score(&counts, &classes).with_context(|| {
            format!(
                "{}: no pixel of the windows is of a class that counts, in truth or mask; state other windows or classes",
                path.display()
            )
        })
    }
}
