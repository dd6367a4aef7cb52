//! The element in a pipeline, and plain ONNX Runtime on ready tensors, each timed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use gstonnxsegment::engine::Ensemble;
use gstonnxsegment::engine::runtime::{self, Provider};
use gstonnxsegment::engine::settings::Settings;
use gstonnxsegment::engine::spec::{ElementType, InputSpec};
use half::f16;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;

/// How often the pipeline is asked whether it has failed.
const TICK: Duration = Duration::from_millis(100);

/// `appsrc ! onnxsegment ! fakesink`, fed with one frame of noise over and over.
pub struct Element {
    pipeline: gst::Pipeline,
    source: gst::Element,
    done: Receiver<()>,
    buffer: gst::Buffer,
    // Held until the pipeline has gone.
    _folder: tempfile::TempDir,
}

impl Element {
    /// Starts the pipeline for frames of `width` × `height` and `bands` bytes per pixel.
    ///
    /// # Errors
    /// Settings that the element refuses.
    pub fn start(settings: &Settings, (width, height): (usize, usize), bands: usize) -> Result<Self> {
        let folder = tempfile::tempdir().context("the temporary folder takes no files")?;
        let config = folder.path().join("bench.toml");
        std::fs::write(&config, settings.to_config(folder.path())?)?;
        let line = format!(
            "appsrc name=in format=time block=true max-buffers=4 \
             caps=raster/x-raw,format=U8,layout=interleaved,bands={bands},width={width},height={height},framerate=25/1 \
             ! onnxsegment name=s ! fakesink name=out signal-handoffs=true sync=false async=false"
        );
        let pipeline = gst::parse::launch(&line)?.downcast::<gst::Pipeline>().map_err(|_| anyhow!("no pipeline"))?;
        let named = |name: &str| pipeline.by_name(name).context("the pipeline lacks an element");
        named("s")?.set_property("config-file", config.to_str().context("the temporary folder's path is not UTF-8")?);
        let (send, done) = channel();
        named("out")?.connect("handoff", false, move |_| {
            // Nobody waits any more where the pipeline is being stopped.
            let _ = send.send(());
            None
        });
        let noise: Vec<u8> = (0..bands * width * height).map(|k| (k.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
        let source = named("in")?;
        let element = Element { pipeline, source, done, buffer: gst::Buffer::from_slice(noise), _folder: folder };
        if element.pipeline.set_state(gst::State::Playing).is_err() {
            element.failed()?;
            bail!("the pipeline does not start");
        }
        Ok(element)
    }

    /// Time for so many frames; `None` when they are not done by `limit`, after which the pipeline is of no use.
    ///
    /// # Errors
    /// What the element says.
    pub fn run(&self, frames: usize, limit: Duration) -> Result<Option<Duration>> {
        let begin = Instant::now();
        let (source, buffer) = (&self.source, &self.buffer);
        std::thread::scope(|scope| {
            let feed = scope.spawn(move || {
                for _ in 0..frames {
                    let flow = source.emit_by_name::<gst::FlowReturn>("push-buffer", &[buffer]);
                    if flow != gst::FlowReturn::Ok {
                        return;
                    }
                }
            });
            let mut arrived = 0;
            while arrived < frames {
                match self.done.recv_timeout(TICK) {
                    Ok(()) => arrived += 1,
                    Err(RecvTimeoutError::Timeout) if begin.elapsed() < limit => self.failed()?,
                    Err(_) => {
                        // Ends the feed as well.
                        let _ = self.pipeline.set_state(gst::State::Null);
                        return Ok(None);
                    }
                }
            }
            let time = begin.elapsed();
            // It has pushed all that has arrived.
            let _ = feed.join();
            Ok(Some(time))
        })
    }

    /// # Errors
    /// The element's own, where there is one.
    fn failed(&self) -> Result<()> {
        let Some(bus) = self.pipeline.bus() else { return Ok(()) };
        match bus.pop_filtered(&[gst::MessageType::Error]).as_deref().map(|m| m.view()) {
            Some(gst::MessageView::Error(e)) => {
                let text = e.error().message().to_string();
                let _ = self.pipeline.set_state(gst::State::Null);
                bail!(text)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// One model's sessions, and a tensor that they take.
struct PlainModel {
    input: InputSpec,
    batch: usize,
    size: (usize, usize),
    bytes: Vec<u8>,
    /// Runs of a tensor that a frame takes: its passes over the batch.
    runs_per_frame: f64,
}

/// Plain ONNX Runtime with its defaults: no conversion, no transform, no merge.
pub struct Plain {
    models: Vec<PlainModel>,
    /// One session per model, on all threads.
    wide: Vec<Session>,
    /// For each thread one session per model, on that thread. None on GPUs.
    narrow: Vec<Vec<Session>>,
}

impl Plain {
    /// # Errors
    /// Sessions that cannot be opened.
    pub fn open(
        ensemble: &Ensemble,
        settings: &Settings,
        (width, height): (usize, usize),
        threads: usize,
        batch: usize,
    ) -> Result<Self> {
        let providers = settings.providers.clone().unwrap_or(vec![Provider::Cpu]);
        let on_cpu = ensemble.active_provider().split(',').all(|name| name == "cpu");
        let passes = ensemble.passes() / ensemble.members().len();
        let session = |path: &std::path::Path, threads: usize| -> Result<Session> {
            if on_cpu {
                let builder = Session::builder(runtime::environment()?)?;
                let mut builder = builder.with_intra_threads(threads).map_err(|e| anyhow!("{e}"))?;
                return builder.commit_from_file(path).with_context(|| path.display().to_string());
            }
            let options = runtime::SessionOptions {
                providers: providers.clone(),
                policy: runtime::Policy::Fallback,
                device_id: settings.device_id.unwrap_or(0),
                optimization: settings.optimization.unwrap_or_default(),
                intra_threads: threads,
                execution: settings.execution.clone(),
                sampled: false,
                bare: None,
            };
            Ok(runtime::Model::open(path, &options, 1)?.separate_session()?)
        };
        let mut models = Vec::new();
        for member in ensemble.members() {
            let input = member.spec.input.clone();
            let batch = input.batch.unwrap_or(batch);
            let up = |n: usize| n.next_multiple_of(input.size_multiple.value);
            let size = (input.height.unwrap_or(up(height)), input.width.unwrap_or(up(width)));
            let elements = batch * input.channels * size.0 * size.1;
            let bytes = match input.element {
                ElementType::F32 => 0.5f32.to_ne_bytes().repeat(elements),
                ElementType::F16 => f16::from_f32(0.5).to_ne_bytes().repeat(elements),
                ElementType::U8 => vec![128; elements],
            };
            models.push(PlainModel { input, batch, size, bytes, runs_per_frame: passes as f64 / batch as f64 });
        }
        let paths: Vec<_> = ensemble.members().iter().map(|m| m.spec.path.clone()).collect();
        let all = |threads: usize| paths.iter().map(|path| session(path, threads)).collect::<Result<Vec<_>>>();
        let narrow =
            if on_cpu && threads > 1 { (0..threads).map(|_| all(1)).collect::<Result<_>>()? } else { Vec::new() };
        Ok(Plain { models, wide: all(threads)?, narrow })
    }

    /// Frames per second of one session on all threads, over about `time`.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub fn wide(&mut self, time: Duration) -> Result<f64> {
        let begin = Instant::now();
        let mut frames = 0.0;
        // Models in turn, each with its share of a frame's passes.
        let mut owed = vec![0.0; self.models.len()];
        loop {
            for ((model, session), owed) in self.models.iter().zip(&mut self.wide).zip(&mut owed) {
                *owed += model.runs_per_frame.max(1.0);
                while *owed >= 1.0 {
                    run(model, session)?;
                    *owed -= 1.0;
                }
            }
            // A batch of one model may hold several frames.
            frames += 1.0 / self.models[0].runs_per_frame.min(1.0);
            if begin.elapsed() >= time {
                return Ok(frames / begin.elapsed().as_secs_f64());
            }
        }
    }

    /// The same for a session per thread; `None` where there is but one thread.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub fn narrow(&mut self, time: Duration) -> Result<Option<f64>> {
        if self.narrow.is_empty() {
            return Ok(None);
        }
        let begin = Instant::now();
        let models = &self.models;
        let next = AtomicUsize::new(0);
        let runs = |model: &PlainModel| model.runs_per_frame.ceil().max(1.0) as usize;
        // The runs of a frame in order, dealt out to whoever is free.
        let order: Vec<usize> = models.iter().enumerate().flat_map(|(k, m)| vec![k; runs(m)]).collect();
        std::thread::scope(|scope| -> Result<()> {
            let work = |sessions| {
                let (next, order) = (&next, &order);
                let sessions: &mut Vec<Session> = sessions;
                move || -> Result<()> {
                    while begin.elapsed() < time {
                        let k = order[next.fetch_add(1, Ordering::Relaxed) % order.len()];
                        run(&models[k], &mut sessions[k])?;
                    }
                    Ok(())
                }
            };
            let threads: Vec<_> = self.narrow.iter_mut().map(|sessions| scope.spawn(work(sessions))).collect();
            threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow!("a thread of ONNX Runtime failed"))?)
        })?;
        let frames = next.into_inner() as f64 / order.len() as f64 / self.models[0].runs_per_frame.min(1.0);
        Ok(Some(frames / begin.elapsed().as_secs_f64()))
    }
}

/// One run of a model on its tensor.
fn run(model: &PlainModel, session: &mut Session) -> Result<()> {
    let shape = model.input.shape(model.batch, model.size.0, model.size.1);
    let value: SessionInputValue<'_> = match model.input.element {
        ElementType::F32 => TensorRef::from_array_view((shape, numbers::<f32>(&model.bytes)?))?.into(),
        ElementType::F16 => TensorRef::from_array_view((shape, numbers::<f16>(&model.bytes)?))?.into(),
        ElementType::U8 => TensorRef::from_array_view((shape, model.bytes.as_slice()))?.into(),
    };
    session.run(vec![(model.input.name.as_str(), value)])?;
    Ok(())
}

/// Bytes as the numbers that they are.
fn numbers<T: Copy>(bytes: &[u8]) -> Result<&[T]> {
    // SAFETY: f32 and f16, for which this is called, have no invalid bit patterns; `align_to` checks the alignment.
    let (before, numbers, after) = unsafe { bytes.align_to::<T>() };
    if !before.is_empty() || !after.is_empty() {
        bail!("the tensor's memory is not aligned");
    }
    Ok(numbers)
}

/// Gives memory that is free back to the system, and forgets the peak so far. What the process holds then, in bytes.
pub fn forget_peak() -> Option<u64> {
    // SAFETY: may be called at any time.
    unsafe { libc::malloc_trim(0) };
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    status("VmRSS:")
}

/// The most that the process has held since, in bytes.
pub fn peak() -> Option<u64> {
    status("VmHWM:")
}

fn status(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
