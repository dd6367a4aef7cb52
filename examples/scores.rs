//! What ensembles and test-time augmentation are worth on the demo scene: the IoU of the building class on the third
//! of the scene that no model was trained on, for several settings of the element.
//!
//! `cargo run --release --example scores [SCENE.png TRUTH.png]`

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gstonnxsegment::engine::metrics::{Counts, bootstrap_iou};

/// Left edge of the unseen third, in pixels of the 900 × 900 scene.
const UNSEEN: usize = 600;
/// Side of the blocks of the bootstrap, in pixels: larger than any building.
const BLOCK: usize = 75;
const RESAMPLES: usize = 2000;

/// Name, models, and the element's other properties.
const SETTINGS: [(&str, &str, &str); 8] = [
    ("fold 0", "models/fold0.onnx", ""),
    ("fold 1", "models/fold1.onnx", ""),
    ("fold 2", "models/fold2.onnx", ""),
    ("three folds", "models/fold*.onnx", ""),
    ("three folds x flip3, probability", "models/fold*.onnx", "tta=flip3"),
    ("three folds x flip3, logit", "models/fold*.onnx", "tta=flip3 merge-domain=logit"),
    ("three folds x d4", "models/fold*.onnx", "tta=d4"),
    ("three snapshots", "models/snap*.onnx", ""),
];

struct Picture {
    width: usize,
    height: usize,
    stride: usize,
    data: Vec<u8>,
}

/// Runs `filesrc ! pngdec ! … ! appsink` and gives the one 8-bit picture that comes out.
fn run(file: &str, filter: &str) -> Result<Picture> {
    let line = format!(
        "filesrc location=\"{file}\" ! pngdec ! videoconvert ! {filter} ! video/x-raw,format=GRAY8 ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&line)?.downcast::<gst::Pipeline>().ok().context("a pipeline")?;
    let sink = pipeline.by_name("out").and_then(|e| e.downcast::<gst_app::AppSink>().ok()).context("an appsink")?;
    pipeline.set_state(gst::State::Playing)?;
    let sample = sink.pull_sample();
    if let Some(message) = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]))
        && let gst::MessageView::Error(error) = message.view()
    {
        pipeline.set_state(gst::State::Null)?;
        bail!("{}", error.error());
    }
    let sample = sample?;
    let info = gst_video::VideoInfo::from_caps(sample.caps().context("caps")?)?;
    let buffer = sample.buffer().context("a buffer")?.map_readable()?;
    let picture = Picture {
        width: info.width() as usize,
        height: info.height() as usize,
        stride: info.stride()[0] as usize,
        data: buffer.to_vec(),
    };
    drop(buffer);
    pipeline.set_state(gst::State::Null)?;
    Ok(picture)
}

/// Counts of each block of the unseen third.
fn blocks(mask: &Picture, truth: &Picture) -> Vec<Counts> {
    let mut blocks = Vec::new();
    for y0 in (0..mask.height).step_by(BLOCK) {
        for x0 in (UNSEEN..mask.width).step_by(BLOCK) {
            let rows = y0..mask.height.min(y0 + BLOCK);
            let pixels = rows.flat_map(|y| (x0..mask.width.min(x0 + BLOCK)).map(move |x| (x, y)));
            let set = |p: &Picture, x: usize, y: usize| p.data[y * p.stride + x] > 0;
            blocks.push(Counts::of(pixels.map(|(x, y)| (set(mask, x, y), set(truth, x, y)))));
        }
    }
    blocks
}

fn main() -> Result<()> {
    gst::init()?;
    gstonnxsegment::plugin_register_static()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (scene, truth) = match &arguments[..] {
        [] => ("out/scene.png", "out/truth.png"),
        [scene, truth] => (scene.as_str(), truth.as_str()),
        _ => bail!("usage: scores [SCENE.png TRUTH.png]"),
    };
    let truth = run(truth, "identity").with_context(|| format!("{truth}; `make setup` writes it"))?;
    println!("IoU of buildings on the unseen third, with the 95 % interval of a block bootstrap");
    println!("({RESAMPLES} resamples of {BLOCK} x {BLOCK} pixel blocks)\n");
    println!("| setting | passes | IoU | 95 % interval |");
    println!("|---|---|---|---|");
    for (name, models, more) in SETTINGS {
        let count = if models.contains('*') { 3 } else { 1 };
        let transforms = match more {
            "" => 1,
            m if m.contains("flip3") => 3,
            _ => 8,
        };
        let mask = run(scene, &format!("onnxsegment model-file=\"{models}\" {more}"))?;
        let blocks = blocks(&mask, &truth);
        let iou = blocks.iter().copied().sum::<Counts>().iou().context("no building in truth or mask")?;
        let (lo, hi) = bootstrap_iou(&blocks, RESAMPLES, 1).context("no building to resample")?;
        println!("| {name} | {} | {iou:.3} | {lo:.3} to {hi:.3} |", count * transforms);
    }
    println!("\nSettings whose intervals overlap are not told apart by a scene this small.");
    Ok(())
}
