//! Mosaics on the demo scene: against inference on the whole picture, and without seams; nodata and sizes.

use std::path::Path;

use gst::prelude::*;
use gstonnxsegment::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};
use gstonnxsegment::engine::settings::Source;
use gstonnxsegment::engine::{Ensemble, Settings};

use crate::common;
use crate::raster::{Folder, Raster, texture};

/// How far the demo models see, in pixels.
const RADIUS: usize = 87;

fn scene() -> String {
    let scene = common::root().join("out/scene.tif");
    assert!(scene.exists(), "{} is missing: run `make setup`", scene.display());
    scene.display().to_string()
}

fn fold() -> String {
    common::root().join("models/fold0.onnx").display().to_string()
}

/// Scores of the building class of the demo scene by tiles, and the scene's size.
fn tiled(tile: usize, overlap: usize, blend: &str) -> (Vec<f32>, usize, usize) {
    let pipeline = common::launch(&format!(
        "rastersrc location=\"{}\" tile-size={tile} overlap={overlap} ! onnxsegment model-file=\"{}\" \
         ! tilemerge blend={blend} ! raster/x-raw ! appsink name=out sync=false",
        scene(),
        fold(),
    ));
    let sink = pipeline.appsink("out");
    pipeline.set_state(gst::State::Playing).unwrap();
    let samples = common::rest(&sink);
    let [sample] = &samples[..] else { panic!("{} frames, not one", samples.len()) };
    let s = sample.caps().unwrap().structure(0).unwrap();
    let size = |name: &str| s.get::<i32>(name).unwrap() as usize;
    let (width, height) = (size("width"), size("height"));
    assert_eq!(size("bands"), 2);
    let map = sample.buffer().unwrap().map_readable().unwrap();
    let scores = map.as_chunks::<4>().0[width * height..].iter().map(|b| f32::from_le_bytes(*b)).collect();
    (scores, width, height)
}

struct Planar(FrameFormat, Vec<u8>);

impl Frame for Planar {
    fn view(&self) -> FrameView<'_> {
        let plane = self.0.width * self.0.height;
        let band = |k: usize| Band { data: &self.1[k * plane..], step: 1, stride: self.0.width };
        FrameView { format: self.0, bands: (0..self.0.bands).map(band).collect() }
    }
}

/// The same scores from one run over the whole scene.
fn whole() -> Vec<f32> {
    let scene = Raster::<u8>::read(scene());
    let mut settings = Settings::default();
    settings.set("model-file", &fold(), Source::Property, Path::new("")).unwrap();
    let ensemble = Ensemble::load(&settings).unwrap();
    let format = FrameFormat { width: scene.width, height: scene.height, bands: scene.bands, sample: Sample::U8 };
    let plan = ensemble.plan(format).unwrap();
    let job = ensemble.submit(&plan, Box::new(Planar(format, scene.data)), false, None);
    ensemble.seal();
    let merged = job.wait().unwrap();
    merged.scores[format.width * format.height..].to_vec()
}

/// The largest difference of pixels that lie at least `border` from the edge.
fn apart(a: &[f32], b: &[f32], (width, height): (usize, usize), border: usize) -> f32 {
    let rows = border..height - border;
    rows.flat_map(|y| (y * width + border..(y + 1) * width - border).map(|k| (a[k] - b[k]).abs())).fold(0.0, f32::max)
}

#[test]
fn cores_within_a_wide_enough_halo_equal_the_whole_picture() {
    let _watchdog = common::start();
    let expected = whole();
    let distance = |overlap, blend| {
        let (found, width, height) = tiled(512, overlap, blend);
        assert_eq!(found.len(), expected.len());
        apart(&found, &expected, (width, height), RADIUS + 1)
    };
    // h = 96 ≥ 87
    let exact = distance(192, "crop");
    assert!(exact <= 1e-5, "{exact:e}");
    // Narrower halos and other windows see the tiles' ends, and say so.
    let narrow = distance(64, "crop");
    let blended = distance(192, "linear");
    assert!(narrow > 1e-3 && blended > 1e-5 && blended < 0.2, "{narrow:e} {blended:e}");
}

/// How much larger steps are between columns (and rows) at the tiles' borders and at the ends of their overlaps than
/// they are elsewhere: in deviations of the same figure for a grid that is shifted by any other distance.
fn seams(scores: &[f32], (width, height): (usize, usize), step: usize, halo: usize) -> f64 {
    let columns: Vec<f64> = (1..width)
        .map(|x| (0..height).map(|y| (scores[y * width + x] - scores[y * width + x - 1]).abs() as f64).sum())
        .collect();
    let rows: Vec<f64> = (1..height)
        .map(|y| (0..width).map(|x| (scores[y * width + x] - scores[(y - 1) * width + x]).abs() as f64).sum())
        .collect();
    let at = |shift: usize, offset: usize| -> f64 {
        let mean = |steps: &[f64]| {
            let lines: Vec<f64> = (0..)
                .map(|k| k * step + shift + offset)
                .skip_while(|line| *line <= halo)
                .take_while(|line| line + halo < steps.len())
                .map(|line| steps[line - 1])
                .collect();
            lines.iter().sum::<f64>() / lines.len() as f64
        };
        mean(&columns) + mean(&rows)
    };
    let lines = [step - halo, step, step + halo];
    lines
        .iter()
        .map(|line| {
            let others: Vec<f64> = (4..step - 4).map(|shift| at(shift, *line)).collect();
            let mean = others.iter().sum::<f64>() / others.len() as f64;
            let deviation = (others.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / others.len() as f64).sqrt();
            (at(0, *line) - mean) / deviation
        })
        .fold(f64::MIN, f64::max)
}

#[test]
fn no_step_shows_where_tiles_meet() {
    let _watchdog = common::start();
    for (overlap, blend) in [(64, "linear"), (64, "hann")] {
        let (scores, width, height) = tiled(256, overlap, blend);
        let found = seams(&scores, (width, height), 256 - overlap, overlap / 2);
        assert!(found < 3.0, "{blend}: {found}");
    }
    // The figure does show a step where there is one.
    let (scores, width, height) = tiled(256, 0, "crop");
    let found = seams(&scores, (width, height), 256, 0);
    assert!(found > 5.0, "{found}");
}

#[test]
fn nodata_in_is_nodata_out_and_all_else_is_predicted() {
    let _watchdog = common::start();
    let folder = Folder::new("nodata");
    let (input, output) = (folder.path("in.tif"), folder.path("out.tif"));
    let sizes = [1, 2, 3, 5, 8, 13, 31];
    for (width, height) in sizes.iter().flat_map(|w| sizes.iter().map(|h| (*w, *h))) {
        // Blocks, single pixels, and for some sizes nothing at all.
        let gone = |x: usize, y: usize| (x / 7 + y / 5) % 3 == 1 || (x * 13 + y * 29 + width).is_multiple_of(11);
        let raster = Raster::new(3, (width, height), |b, x, y| if gone(x, y) { 0 } else { texture(b, x, y).max(1) });
        raster.write(&input, Some(0.0), false);
        common::launch(&format!(
            "rastersrc location=\"{input}\" tile-size=8 overlap=4 ! onnxsegment model-file={{sigmoid}} size-multiple=2 \
             ! rastersink location=\"{output}\" resume=false cog=false"
        ))
        .finish();
        let labels = Raster::<u8>::read(&output);
        assert_eq!((labels.width, labels.height), (width, height));
        for (k, label) in labels.data.iter().enumerate() {
            let (x, y) = (k % width, k / width);
            assert_eq!(*label == 255, gone(x, y), "{width} x {height}: {label} at {x}, {y}");
        }
    }
}
