//! The element beside GStreamer's own `onnxinference`: the same model, the same frames, in one process and turn by turn.
//!
//! * (a) `appsrc ! onnxinference ! fakesink` at its defaults: frames with a tensor of scores,
//! * (b) the same with `optimization-level=enable-all`, which is `onnxsegment`'s default,
//! * (c) `appsrc ! onnxsegment`, its pad `image` followed by a fakesink: frames with that tensor and a segmentation,
//! * (d) `appsrc ! onnxsegment ! fakesink`: masks.
//!
//! `onnxinference` has no setting for threads: it runs one frame at a time on ONNX Runtime's default, a thread per core, and
//! `onnxsegment` by default uses as many. `--cores` binds every thread to the first so many cores.
//!
//! `tools/debian13.sh bench [--model FILE] [--size WxH] [--rounds N] [--seconds S] [--cores N] [--properties TEXT]`. The model's
//! input is RGB / 255, N × 3 × H × W, its output is named `scores`; `--properties` are more of `onnxsegment`'s, for a model of
//! logits `merge-domain=logit`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gst::prelude::*;
use gst_analytics::TensorMeta;

#[path = "../tests/interop/named.rs"]
mod named;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|k| arguments.get(k + 1)).cloned();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = value("--model").map_or(root.join("models/fold0.onnx"), PathBuf::from);
    let size = value("--size").unwrap_or("512x512".into());
    let (width, height) = size.split_once('x').context("--size wants WIDTHxHEIGHT")?;
    let size: (usize, usize) = (width.parse()?, height.parse()?);
    let rounds: usize = value("--rounds").map_or(Ok(9), |n| n.parse())?;
    let seconds: f64 = value("--seconds").map_or(Ok(1.0), |n| n.parse())?;
    let cores: Option<usize> = value("--cores").map(|n| n.parse()).transpose()?;
    cores.map_or(Ok(()), bind)?; // for those who count the cores
    gst::init()?;
    gstonnxsegment::plugin_register_static()?;

    let folder = tempfile::tempdir()?;
    let named = named::named(folder.path(), &model);
    let named = named.display();
    let theirs = format!("onnxinference model-file={named} input-image-format=chw input-tensor-scale=255");
    let ours = format!("onnxsegment name=s model-file={named} {}", value("--properties").unwrap_or_default());
    let mut lines = [
        ("(a) onnxinference", Line::start(size, &format!("{theirs} ! {END}"))?),
        (
            "(b) onnxinference, enable-all",
            Line::start(size, &format!("{theirs} optimization-level=enable-all ! {END}"))?,
        ),
        ("(c) onnxsegment, pad image", Line::start(size, &format!("{ours} s.image ! {END}"))?),
        ("(d) onnxsegment, mask", Line::start(size, &format!("{ours} ! {END}"))?),
    ];
    println!(
        "{}, {} cores, {}, {} x {} RGB frames, {rounds} rounds of {seconds} s each; median (range)\n",
        gst::version_string(),
        std::thread::available_parallelism()?,
        model.file_name().unwrap_or_default().display(),
        size.0,
        size.1
    );
    let (a, b) = (lines[1].1.scores()?, lines[2].1.scores()?);
    ensure!(a.len() == b.len() && !a.is_empty(), "{} scores beside {}", a.len(), b.len());
    let largest = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    let range = a.iter().fold((f32::MAX, f32::MIN), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
    println!("{} scores from {:.3} to {:.3}, largest difference {largest:.1e}\n", a.len(), range.0, range.1);

    cores.map_or(Ok(()), bind)?; // ONNX Runtime binds its threads itself
    let mut rates = [const { Vec::new() }; 4];
    for round in 0..=rounds {
        for (rates, (_, line)) in rates.iter_mut().zip(&mut lines) {
            let rate = line.run(Duration::from_secs_f64(seconds))?;
            if round > 0 {
                rates.push(rate); // the first round warms up
            }
        }
    }
    println!("| | frames/s | over (b) of the same round |\n|---|---|---|");
    for ((name, _), own) in lines.iter().zip(&rates) {
        let ratios = own.iter().zip(&rates[1]).map(|(own, b)| own / b);
        println!("| {name} | {} | {} |", summary(own.iter().copied(), 1), summary(ratios, 3));
    }
    Ok(())
}

/// Binds every thread of this process to the first `cores` cores.
fn bind(cores: usize) -> Result<()> {
    for thread in std::fs::read_dir("/proc/self/task")? {
        let id: libc::pid_t = thread?.file_name().to_str().context("a number")?.parse()?;
        // SAFETY: a set of zeros is an empty set, and the call reads it for its size.
        let done = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            (0..cores).for_each(|core| libc::CPU_SET(core, &mut set));
            libc::sched_setaffinity(id, std::mem::size_of_val(&set), &set)
        };
        ensure!(done == 0, "--cores {cores}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

const END: &str = "fakesink name=end signal-handoffs=true sync=false async=false";

/// A pipeline fed with one frame over and over.
struct Line {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    done: std::sync::mpsc::Receiver<gst::Buffer>,
    buffer: gst::Buffer,
}

impl Line {
    fn start((width, height): (usize, usize), line: &str) -> Result<Self> {
        let caps = format!("video/x-raw,format=RGB,width={width},height={height},framerate=25/1");
        let line = format!("appsrc name=in format=time block=true max-buffers=2 caps={caps} ! {line}");
        let pipeline = gst::parse::launch(&line)?.downcast::<gst::Pipeline>().ok().context("a pipeline")?;
        let source = pipeline.by_name("in").and_then(|e| e.downcast().ok()).context("an appsrc")?;
        let (send, done) = std::sync::mpsc::channel();
        pipeline.by_name("end").context("a sink")?.connect("handoff", false, move |values| {
            let _ = send.send(values[1].get::<gst::Buffer>().expect("handoff gives a buffer"));
            None
        });
        pipeline.set_state(gst::State::Playing)?;
        let noise: Vec<u8> = (0..3 * width * height).map(|k| ((k * 2_654_435_761) >> 7) as u8).collect();
        Ok(Line { pipeline, source, done, buffer: gst::Buffer::from_slice(noise) })
    }

    fn next(&self) -> Result<gst::Buffer> {
        self.done.recv_timeout(Duration::from_secs(60)).context("no frame for a minute")
    }

    /// The last tensor of a frame.
    fn scores(&self) -> Result<Vec<f32>> {
        self.source.push_buffer(self.buffer.clone())?;
        let buffer = self.next()?;
        let meta = buffer.meta::<TensorMeta>().context("a frame with a tensor")?;
        let data = meta.as_slice().last().context("a tensor")?.data().map_readable()?;
        Ok(data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Frames per second over about `time`.
    fn run(&mut self, time: Duration) -> Result<f64> {
        let begin = Instant::now();
        let (source, buffer) = (self.source.clone(), self.buffer.clone());
        let feed = std::thread::spawn(move || {
            let mut frames = 0;
            while begin.elapsed() < time && source.push_buffer(buffer.clone()).is_ok() {
                frames += 1;
            }
            frames
        });
        let mut received = 0;
        while !feed.is_finished() {
            if self.done.recv_timeout(Duration::from_millis(10)).is_ok() {
                received += 1;
            }
        }
        let sent: usize = feed.join().expect("no panic");
        while received < sent {
            self.next()?;
            received += 1;
        }
        Ok(sent as f64 / begin.elapsed().as_secs_f64())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn summary(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    format!("{:.digits$} ({least:.digits$} to {most:.digits$})", values[values.len() / 2])
}
