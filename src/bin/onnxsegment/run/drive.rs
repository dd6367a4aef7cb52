//! Runs one pipeline to its end, and counts what comes out of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;
use gstonnxsegment::elements::meta;
use serde::Serialize;

use super::chain::Chain;
use crate::signals;

/// How often a pipeline is looked at.
const TICK: Duration = Duration::from_millis(100);

/// What has been done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Seconds since the pipeline started.
    pub seconds: f64,
    /// Frames or tiles that have left the models, those without data included.
    pub frames: u64,
    /// Of how many; 0 = not known.
    pub frames_total: u64,
    pub frames_without_data: u64,
    /// Pixels of the output that have left the models.
    pub pixels: u64,
    pub passes: u64,
    /// Passes that need not run.
    pub passes_saved: u64,
    /// Parts of an earlier run that were there already.
    pub parts_resumed: u64,
    pub parts: u64,
    pub parts_total: u64,
    /// The execution providers that really ran the models.
    pub provider: String,
}

/// How a pipeline ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// All is written.
    Finished,
    /// The parts are there, and are to be left: `finish=false`.
    Parts,
    /// Parts are missing, of other shards or because the run was stopped.
    Incomplete,
    /// Stopped, with nothing to go on from.
    Stopped,
}

/// Who is told while a pipeline runs.
pub trait Watcher {
    fn progress(&mut self, counts: &Counts);
    /// The raster is being made of its parts; percent.
    fn finishing(&mut self, percent: u64);
    fn warning(&mut self, text: &str);
    /// The user wants to stop, and what is under way is finished.
    fn stopping(&mut self);
    /// Whether to stop.
    fn is_to_stop(&self) -> bool {
        signals::stop()
    }
    /// Something else that an element tells.
    fn told(&mut self, _what: &gst::StructureRef) {}
}

/// What is at fault when a pipeline ends by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The input cannot be read, now at least.
    Source,
    /// The output cannot be written.
    Output,
    /// What was asked for.
    Settings,
    /// Models, or what runs them.
    Models,
    Other,
}

/// An element's error.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub text: String,
    pub fault: Fault,
}

impl Failure {
    fn of(error: &gst::message::Error) -> Self {
        let source = error.src().and_then(|src| src.downcast_ref::<gst::Element>()).and_then(|e| e.factory());
        let is = |kind| error.error().matches(kind);
        let fault = match source.as_ref().map(|factory| factory.name()).as_deref() {
            _ if is(gst::ResourceError::Settings) => Fault::Settings,
            Some("rastersrc") if is(gst::ResourceError::OpenRead) => Fault::Source,
            Some("rastersink") if is(gst::ResourceError::Write) => Fault::Output,
            Some("onnxsegment") => Fault::Models,
            _ => Fault::Other,
        };
        Failure { text: explained(error), fault }
    }
}

/// A pipeline that has ended. Its models stay loaded until it is dropped.
pub struct Ended {
    pipeline: Running,
    pub end: End,
    pub counts: Counts,
    /// How many parts of all shards are where, when some are missing.
    pub parts: Option<String>,
}

impl Ended {
    /// Keeps models loaded for the next pipeline, and lets go of everything else.
    pub fn release(self) -> Models {
        for element in self.pipeline.0.iterate_elements().into_iter().flatten() {
            if element.factory().is_none_or(|factory| factory.name() != "onnxsegment") {
                element.set_locked_state(true);
                let _ = element.set_state(gst::State::Null);
            }
        }
        Models { _pipeline: self.pipeline }
    }
}

/// The models of a pipeline that has ended, loaded until this is dropped.
pub struct Models {
    _pipeline: Running,
}

/// Stops the pipeline when it goes.
struct Running(gst::Pipeline);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// What leaves the models.
#[derive(Default)]
struct Passed {
    frames: AtomicU64,
    without_data: AtomicU64,
    pixels: AtomicU64,
}

/// Runs a pipeline.
///
/// # Errors
/// The first error that an element posts.
pub fn drive(chain: &Chain, watcher: &mut dyn Watcher) -> Result<Ended> {
    let running = Running(chain.build()?);
    let pipeline = &running.0;
    let segment = element(pipeline, "onnxsegment").context("the pipeline has no onnxsegment")?;
    let passed = Arc::new(Passed::default());
    count(&segment, &passed);
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let started = Instant::now();
    let counts = || counts(pipeline, &segment, &passed, started);
    let mut stopped = false;
    let (mut stage, mut parts) = (None, None);
    // An error of an element that starts is on the bus too, and says more.
    let failed_to_start = pipeline.set_state(gst::State::Playing).is_err();
    loop {
        if watcher.is_to_stop() && !stopped {
            stopped = true;
            watcher.stopping();
            pipeline.send_event(gst::event::Eos::new());
        }
        let patience =
            if failed_to_start { gst::ClockTime::ZERO } else { gst::ClockTime::from_mseconds(TICK.as_millis() as u64) };
        let Some(message) = bus.timed_pop(patience) else {
            if failed_to_start {
                return Err(anyhow!("the pipeline does not start, and no element says why: {chain}"));
            }
            watcher.progress(&counts());
            continue;
        };
        match message.view() {
            gst::MessageView::Error(e) => return Err(Failure::of(e).into()),
            gst::MessageView::Warning(w) => {
                let error = w.error();
                // That parts are missing; what to do about it is told by whoever runs this.
                match of(&message, "rastersink") && error.matches(gst::ResourceError::NotFound) {
                    true => parts = error.message().split(';').next().map(str::to_string),
                    false => watcher.warning(error.message()),
                }
            }
            gst::MessageView::Element(e) => {
                let Some(told) = e.structure() else { continue };
                if told.name() != "rastersink-progress" {
                    watcher.told(told);
                    continue;
                }
                let name = told.get::<String>("stage").unwrap_or_default();
                if name == "finishing" {
                    watcher.finishing(told.get("done").unwrap_or_default());
                }
                stage = Some(name);
            }
            gst::MessageView::Eos(_) => break,
            _ => {}
        }
    }
    let end = match (element(pipeline, "rastersink"), stage.as_deref()) {
        (Some(_), Some("finished")) => End::Finished,
        (Some(_), Some("parts")) => End::Parts,
        (Some(_), _) => End::Incomplete,
        (None, _) if stopped => End::Stopped,
        (None, _) => End::Finished,
    };
    let counts = counts();
    watcher.progress(&counts);
    Ok(Ended { pipeline: running, end, counts, parts })
}

/// The first element of a kind.
fn element(pipeline: &gst::Pipeline, factory: &str) -> Option<gst::Element> {
    pipeline.iterate_all_by_element_factory_name(factory).into_iter().find_map(Result::ok)
}

fn of(message: &gst::Message, factory: &str) -> bool {
    let element = message.src().and_then(|src| src.downcast_ref::<gst::Element>());
    element.and_then(|element| element.factory()).is_some_and(|f| f.name() == factory)
}

/// An element's words; those of others than our own often need their details.
fn explained(error: &gst::message::Error) -> String {
    let text = error.error().message().to_string();
    let ours = ["onnxsegment", "rastersrc", "rastersink", "tilemerge"];
    let source = error.src().and_then(|src| src.downcast_ref::<gst::Element>()).and_then(|e| e.factory());
    match (source, error.debug()) {
        (Some(factory), _) if ours.contains(&factory.name().as_str()) => text,
        (Some(factory), Some(debug)) => {
            // "file.c (12): function (): /GstPipeline:…:\nwhat happened"
            let details = debug.split_once('\n').map_or("", |(_, details)| details).trim();
            match details.is_empty() {
                true => format!("{}: {text}", factory.name()),
                false => format!("{}: {text} ({details})", factory.name()),
            }
        }
        _ => text,
    }
}

/// Counts what leaves the models, on whichever pad it does.
fn count(segment: &gst::Element, passed: &Arc<Passed>) {
    let Some(pad) = segment.src_pads().into_iter().find(|pad| pad.is_linked()) else { return };
    let passed = Arc::clone(passed);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(buffer) = info.buffer() {
            passed.frames.fetch_add(1, Ordering::Relaxed);
            let tile = gst::meta::CustomMeta::from_buffer(buffer, meta::TILE).ok();
            let core = tile.and_then(|tile| {
                let side = |name| tile.structure().get::<i64>(name).ok();
                Some((side("core-width")? * side("core-height")?) as u64)
            });
            // GAP means no data together with a tile's meta only.
            if core.is_some() && buffer.flags().contains(gst::BufferFlags::GAP) {
                passed.without_data.fetch_add(1, Ordering::Relaxed);
            }
            passed.pixels.fetch_add(core.or_else(|| frame(pad)).unwrap_or(0), Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
}

/// Pixels of a frame.
fn frame(pad: &gst::Pad) -> Option<u64> {
    let caps = pad.current_caps()?;
    let side = |name| caps.structure(0)?.get::<i32>(name).ok();
    Some(side("width")? as u64 * side("height")? as u64)
}

fn counts(pipeline: &gst::Pipeline, segment: &gst::Element, passed: &Passed, started: Instant) -> Counts {
    let stats = |element: &gst::Element| element.property::<gst::Structure>("stats");
    let models = stats(segment);
    let of = |s: &Option<gst::Structure>, name: &str| s.as_ref().and_then(|s| s.get::<u64>(name).ok()).unwrap_or(0);
    let sink = element(pipeline, "rastersink").map(|sink| stats(&sink));
    let source = element(pipeline, "rastersrc").map(|source| stats(&source));
    let models = Some(models);
    let frames_total = match &source {
        Some(_) => of(&source, "tiles"),
        None => expected(pipeline),
    };
    Counts {
        seconds: started.elapsed().as_secs_f64(),
        frames: passed.frames.load(Ordering::Relaxed),
        frames_total,
        frames_without_data: passed.without_data.load(Ordering::Relaxed),
        pixels: passed.pixels.load(Ordering::Relaxed),
        passes: of(&models, "passes"),
        passes_saved: of(&models, "passes-saved"),
        parts: of(&sink, "parts-done"),
        parts_total: of(&sink, "parts-total"),
        parts_resumed: of(&sink, "parts-resumed"),
        provider: segment.property::<Option<String>>("active-provider").unwrap_or_default(),
    }
}

/// Frames that a video has, by its length and rate; 0 where either is not known.
fn expected(pipeline: &gst::Pipeline) -> u64 {
    let caps = element(pipeline, "onnxsegment").and_then(|e| e.static_pad("sink")?.current_caps());
    let rate = caps.and_then(|caps| caps.structure(0)?.get::<gst::Fraction>("framerate").ok());
    let length = pipeline.query_duration::<gst::ClockTime>();
    match (rate, length) {
        (Some(rate), Some(length)) if rate.numer() > 0 => {
            (length.nseconds() as f64 / 1e9 * f64::from(rate.numer()) / f64::from(rate.denom())).round() as u64
        }
        _ => 0,
    }
}
