//! What soups of the demo models are worth: the IoU of the building class of members, their soup, and their ensemble, in the
//! validation window and on the third of the scene that no model was trained on; and how long a frame takes. The table
//! stands in docs/soup.md.
//!
//! `cargo run --release --example soups [-- CROPS]`; CROPS is a folder that `models/crops.py` has written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gdal::Dataset;
use gstonnxsegment::engine::metrics::{Counts, bootstrap_iou};
use gstonnxsegment::engine::onnx::model;
use gstonnxsegment::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};
use gstonnxsegment::engine::settings::Facts;
use gstonnxsegment::engine::soup::{Members, Tiles};
use gstonnxsegment::engine::{Ensemble, Settings};

/// A window of the scene: x, y, width, height.
type Window = [usize; 4];

/// Of `snap*` and `swa*`.
const VALIDATION: Window = [0, 498, 190, 230];
/// Of all models.
const UNSEEN: Window = [600, 0, 300, 900];
/// What `swa*` were trained on, without labels: where the statistics of BatchNormalization are taken.
const TRAINED: [Window; 3] = [[0, 0, 190, 498], [0, 728, 190, 172], [190, 0, 410, 900]];
/// Side of the crops in training.
const TILE: usize = 128;
/// Side of the blocks of the bootstrap, in pixels: larger than any building.
const BLOCK: usize = 75;
const RESAMPLES: usize = 2000;
/// Frames that are timed, each setting in turn.
const FRAMES: usize = 15;

/// 8-bit pixels, band by band.
#[derive(Clone)]
struct Picture {
    width: usize,
    height: usize,
    bands: Vec<Vec<u8>>,
}

impl Picture {
    fn read(path: &str, [x, y, width, height]: Window) -> Result<Self> {
        let dataset = Dataset::open(path).with_context(|| format!("{path}; `make setup` writes it"))?;
        let band = |k: usize| {
            let buffer =
                dataset.rasterband(k)?.read_as((x as isize, y as isize), (width, height), (width, height), None);
            anyhow::Ok(buffer?.data().to_vec())
        };
        let bands = (1..=dataset.raster_count()).map(band).collect::<Result<_>>()?;
        Ok(Picture { width, height, bands })
    }

    fn format(&self) -> FrameFormat {
        FrameFormat { width: self.width, height: self.height, bands: self.bands.len(), sample: Sample::U8 }
    }
}

impl Frame for Picture {
    fn view(&self) -> FrameView<'_> {
        let bands = self.bands.iter().map(|data| Band { data, step: 1, stride: self.width }).collect();
        FrameView { format: self.format(), bands }
    }
}

/// The building's probability at each pixel.
fn run(ensemble: &Ensemble, scene: &Picture) -> Result<Vec<f32>> {
    let plan = ensemble.plan(scene.format())?;
    let job = ensemble.submit(&plan, Box::new(scene.clone()), false, None);
    ensemble.seal();
    let merged = job.wait()?;
    Ok(merged.scores[merged.scores.len() - scene.width * scene.height..].to_vec())
}

/// IoU in a window with its interval.
fn score(scores: &[f32], truth: &Picture, [x0, y0, width, height]: Window) -> Result<String> {
    let mut blocks = Vec::new();
    for top in (y0..y0 + height).step_by(BLOCK) {
        for left in (x0..x0 + width).step_by(BLOCK) {
            let rows = top..(top + BLOCK).min(y0 + height);
            let pixels = rows.flat_map(|y| (left..(left + BLOCK).min(x0 + width)).map(move |x| y * truth.width + x));
            blocks.push(Counts::of(pixels.map(|pixel| (scores[pixel] >= 0.5, truth.bands[0][pixel] > 0))));
        }
    }
    let iou = blocks.iter().copied().sum::<Counts>().iou().context("no building in truth or mask")?;
    let (low, high) = bootstrap_iou(&blocks, RESAMPLES, 1).context("no building to resample")?;
    Ok(format!("{iou:.3} ({low:.3} to {high:.3})"))
}

fn load(models: &[PathBuf]) -> Result<Ensemble> {
    Ok(Ensemble::load(&Settings { models: models.to_vec(), ..Settings::default() })?)
}

fn main() -> Result<()> {
    let whole = [0, 0, 900, 900];
    let scene = Picture::read("out/scene.png", whole)?;
    let truth = Picture::read("out/truth.png", whole)?;
    let scenes = TRAINED.map(|window| Picture::read("out/scene.png", window));
    let mut images = vec![("tiles of the scene", scenes.into_iter().collect::<Result<Vec<_>>>()?)];
    if let Some(crops) = std::env::args().nth(1) {
        let mut files = std::fs::read_dir(crops)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        files.sort();
        let crop = |path: &PathBuf| Picture::read(&path.to_string_lossy(), [0, 0, TILE, TILE]);
        images.push(("crops as in training", files.iter().map(crop).collect::<Result<_>>()?));
    }
    let folder = tempfile::tempdir()?;
    println!("| models | validation window | unseen third |\n|---|---|---|");
    let mut timed = Vec::new();
    for group in ["swa", "snap", "fold"] {
        let members: Vec<PathBuf> = (0..3).map(|k| Path::new("models").join(format!("{group}{k}.onnx"))).collect();
        let mut rows: Vec<(String, Vec<PathBuf>)> =
            (0..3).map(|k| (format!("{group}{k}"), vec![members[k].clone()])).collect();
        rows.push((format!("ensemble of {group}0…2"), members.clone()));
        let mut soup = Members::read(&members)?.average(&[1.0; 3])?;
        let path = folder.path().join(format!("{group}.onnx"));
        model::write(&soup.model, &path)?;
        rows.push((format!("soup of {group}0…2"), vec![path]));
        for (what, pictures) in &images {
            let tiles = Tiles { side: Some(TILE), batch: None };
            let Some(mut normalizations) = soup.normalizations(&members[0], &Facts::default(), tiles)? else { break };
            pictures.iter().try_for_each(|picture| normalizations.add(picture, None))?;
            let tiles = soup.renormalize(normalizations)?;
            let path = folder.path().join(format!("{group}-{tiles}.onnx"));
            model::write(&soup.model, &path)?;
            rows.push((format!("soup of {group}0…2, statistics of {tiles} {what}"), vec![path]));
        }
        for (name, models) in rows {
            let ensemble = load(&models)?;
            let scores = run(&ensemble, &scene)?;
            // Folds have no window in common.
            let validation = if group == "fold" { "–".into() } else { score(&scores, &truth, VALIDATION)? };
            println!("| {name} | {validation} | {} |", score(&scores, &truth, UNSEEN)?);
            if group == "swa" && !name.contains("statistics") {
                timed.push((name, ensemble));
            }
        }
    }

    println!("\n| models | milliseconds per frame of 900 x 900: median of {FRAMES} | least to most |\n|---|---|---|");
    let mut times = vec![Vec::new(); timed.len()];
    for _ in 0..FRAMES {
        for ((_, ensemble), times) in timed.iter().zip(&mut times) {
            let begin = Instant::now();
            run(ensemble, &scene)?;
            times.push(begin.elapsed());
        }
    }
    for ((name, _), mut times) in timed.into_iter().zip(times) {
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("| {name} | {:.0} | {:.0} to {:.0} |", ms(times[FRAMES / 2]), ms(times[0]), ms(times[FRAMES - 1]));
    }
    Ok(())
}
