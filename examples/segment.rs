//! The engine alone, without GStreamer: an ensemble on a picture, and how many pixels of it are of which class.
//!
//! `cargo run --example segment -- "models/fold*.onnx" out/scene.png`
//!
//! The picture is read by GDAL, which the crate uses for rasters anyway; any library that gives bytes would do.

use std::path::Path;

use anyhow::{Context, Result, bail};
use gdal::Dataset;
use gstonnxsegment::engine::decide::Work;
use gstonnxsegment::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};
use gstonnxsegment::engine::settings::Source;
use gstonnxsegment::engine::views::{self, Canvas, Depth};
use gstonnxsegment::engine::{Ensemble, Settings};

/// Three planes of 8 bits, red, green, blue, one after the other.
struct Picture {
    format: FrameFormat,
    bytes: Vec<u8>,
}

impl Frame for Picture {
    fn view(&self) -> FrameView<'_> {
        let (stride, plane) = (self.format.width, self.format.width * self.format.height);
        let bands = self.bytes.chunks(plane).map(|data| Band { data, step: 1, stride }).collect();
        FrameView { format: self.format, bands }
    }
}

fn read(path: &str) -> Result<Picture> {
    let dataset = Dataset::open(path)?;
    let (width, height) = dataset.raster_size();
    let mut bytes = Vec::with_capacity(3 * width * height);
    for band in 1..=3 {
        let samples = dataset.rasterband(band)?.read_as::<u8>((0, 0), (width, height), (width, height), None)?;
        bytes.extend_from_slice(samples.data());
    }
    Ok(Picture { format: FrameFormat { width, height, bands: 3, sample: Sample::U8 }, bytes })
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [models, picture] = arguments.as_slice() else { bail!("usage: segment MODELS PICTURE") };

    // Settings are the element's properties, as texts.
    let mut settings = Settings::default();
    for (name, value) in [("model-file", models.as_str()), ("tta", "flips")] {
        settings.set(name, value, Source::Property, Path::new("."))?;
    }
    let ensemble = Ensemble::load(&settings)?;

    let picture = read(picture).with_context(|| format!("{picture} cannot be read"))?;
    let format = picture.format;
    let plan = ensemble.plan(format)?;
    let job = ensemble.submit(&plan, Box::new(picture), false, None);
    ensemble.seal(); // no further frame joins its batch
    let merged = job.wait()?;

    let mut mask = vec![0; format.width * format.height];
    let mut canvas = Canvas { data: &mut mask, stride: format.width, depth: Depth::U8 };
    views::mask(&merged, ensemble.decision(), &mut canvas, &mut Work::default());

    let mut pixels = [0_usize; 256];
    mask.iter().for_each(|&class| pixels[class as usize] += 1);
    for (class, count) in pixels.iter().enumerate().filter(|(_, count)| **count > 0) {
        println!("class {class}: {count} pixels");
    }
    Ok(())
}
