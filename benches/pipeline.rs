//! The whole pipeline against plain ONNX Runtime, in one process and turn by turn:
//!
//! * (a) a loop over one session per model with ONNX Runtime's defaults (all cores in each run),
//! * (b) one single-threaded session per model and core, passes dealt out to the cores,
//! * (c) `appsrc ! onnxsegment ! fakesink`.
//!
//! (a) and (b) run the same passes on ready tensors: they convert, transform and merge nothing. A ratio of 1 would
//! mean that everything around the models costs no time.
//!
//! Then what the uncertainty costs; a model that costs almost nothing, where only this program is left; and memory over many passes and frames.
//!
//! `cargo bench --bench pipeline -- [--unet FILE] [--rounds N] [--only 1x1|3x4|3x8|uncertainty|cheap|memory]`

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gst::prelude::*;
use gstonnxsegment::engine::runtime::environment;
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;

const SIDE: usize = 512;

struct Case {
    name: &'static str,
    models: usize,
    tta: &'static str,
    passes: usize,
    frames: usize,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|k| arguments.get(k + 1)).cloned();
    let unet = value("--unet").unwrap_or(".cache/unet2m.onnx".into());
    let rounds: usize = value("--rounds").map_or(Ok(5), |n| n.parse())?;
    let only = value("--only");
    gst::init()?;
    gstonnxsegment::plugin_register_static()?;
    let environment = environment()?;
    let cores = std::thread::available_parallelism()?.get();
    println!("{cores} cores, {SIDE} x {SIDE} RGB frames, {rounds} rounds; median and range of the ratios of a round\n");

    println!(
        "| models x transforms | (a) all cores in one run | (b) a session per core | (c) element | (c) / better of (a), (b) |"
    );
    println!("|---|---|---|---|---|");
    for case in [
        Case { name: "1x1", models: 1, tta: "none", passes: 1, frames: 24 },
        Case { name: "3x4", models: 3, tta: "flips", passes: 12, frames: 2 },
        Case { name: "3x8", models: 3, tta: "d4", passes: 24, frames: 2 },
    ] {
        if only.as_ref().is_none_or(|o| o == case.name) {
            compare(environment, &unet, cores, rounds, &case)?;
        }
    }
    if only.as_ref().is_none_or(|o| o == "uncertainty") {
        uncertainty(&unet, rounds)?;
    }
    if only.as_ref().is_none_or(|o| o == "cheap") {
        cheap(environment, rounds)?;
    }
    if only.as_ref().is_none_or(|o| o == "memory") {
        memory()?;
    }
    Ok(())
}

fn compare(environment: &Environment, unet: &str, cores: usize, rounds: usize, case: &Case) -> Result<()> {
    let session = |threads: Option<usize>| -> Result<Session> {
        let mut builder = Session::builder(environment)?;
        if let Some(threads) = threads {
            builder = builder.with_intra_threads(threads).map_err(|e| anyhow::anyhow!("{e}"))?;
        }
        builder.commit_from_file(unet).with_context(|| format!("{unet}; `make bench` makes it"))
    };
    let input = vec![0.5f32; 3 * SIDE * SIDE];
    let run = |session: &mut Session| -> Result<()> {
        let tensor = TensorRef::from_array_view(([1i64, 3, SIDE as i64, SIDE as i64], input.as_slice()))?;
        session.run(ort::inputs![tensor])?;
        Ok(())
    };
    let mut wide: Vec<Session> = (0..case.models).map(|_| session(None)).collect::<Result<_>>()?;
    let mut narrow: Vec<Vec<Session>> =
        (0..cores).map(|_| (0..case.models).map(|_| session(Some(1))).collect::<Result<_>>()).collect::<Result<_>>()?;
    let models = vec![unet; case.models].join(",");
    let mut element = Element::start(SIDE, &format!("model-file=\"{models}\" tta={}", case.tta))?;

    let per_model = case.passes / case.models;
    let mut times = Vec::new();
    for round in 0..=rounds {
        let begin = Instant::now();
        for _ in 0..case.frames {
            for session in &mut wide {
                (0..per_model).try_for_each(|_| run(session))?;
            }
        }
        let a = begin.elapsed();

        let begin = Instant::now();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = narrow
                .iter_mut()
                .map(|sessions| {
                    scope.spawn(|| -> Result<()> {
                        loop {
                            let k = next.fetch_add(1, Ordering::Relaxed);
                            if k >= case.frames * case.passes {
                                return Ok(());
                            }
                            run(&mut sessions[k % case.passes / per_model])?;
                        }
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|t| t.join().expect("no panic"))
        })?;
        let b = begin.elapsed();

        let c = element.run(case.frames)?;
        if round > 0 {
            times.push((a, b, c)); // the first round warms up
        }
    }
    let ratio = summary(times.iter().map(|(a, b, c)| a.min(b).as_secs_f64() / c.as_secs_f64()));
    let rate = |f: fn(&(Duration, Duration, Duration)) -> Duration| {
        let passes = (case.frames * case.passes) as f64;
        median(times.iter().map(|t| passes / f(t).as_secs_f64()).collect())
    };
    println!(
        "| {} = {} passes | {:.2} passes/s | {:.2} passes/s | {:.2} passes/s | **{ratio}** |",
        case.name,
        case.passes,
        rate(|t| t.0),
        rate(|t| t.1),
        rate(|t| t.2)
    );
    let stats = element.stats();
    let get = |name: &str| stats.get::<f64>(name).unwrap_or(0.0);
    let (convert, merge) = (get("convert-seconds"), get("merge-seconds"));
    let all = convert + merge + get("inference-seconds");
    println!("| | | | conversion {:.2} %, merge {:.2} % of the time | |", 100.0 * convert / all, 100.0 * merge / all);
    Ok(())
}

/// Time with the uncertainty shown beside the mask, over time without, at three models × four transforms.
fn uncertainty(unet: &str, rounds: usize) -> Result<()> {
    println!("\n| uncertainty-kind | time with / without, 3x4 passes |\n|---|---|");
    let models = format!("model-file=\"{unet},{unet},{unet}\" tta=flips");
    let mut without = Element::start(SIDE, &models)?;
    for kind in ["entropy", "mutual-information", "variance", "margin"] {
        let view = "s.uncertainty ! queue ! fakesink sync=false async=false";
        let mut with = Element::start_with(SIDE, &format!("{models} uncertainty-kind={kind}"), view)?;
        let mut ratios = Vec::new();
        for round in 0..=rounds {
            // One frame each by turns, because the machine's speed changes.
            let (mut a, mut b) = (Duration::ZERO, Duration::ZERO);
            for _ in 0..3 {
                a += without.run(1)?;
                b += with.run(1)?;
            }
            if round > 0 {
                ratios.push(b.as_secs_f64() / a.as_secs_f64());
            }
        }
        println!("| {kind} | {} |", summary(ratios.into_iter()));
    }
    Ok(())
}

/// A 1 × 1 convolution with a sigmoid.
const CHEAP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/identity1x1.onnx");

/// A model that costs almost nothing: what remains is this program. Its own time, which is the pipeline's less that
/// of ONNX Runtime alone, beside the time to touch the same bytes.
fn cheap(environment: &Environment, rounds: usize) -> Result<()> {
    // Short turns, because the machine's speed changes faster than a round: it differs by more than is measured.
    const TURNS: usize = 10;
    const FRAMES: usize = 40;
    let mut element = Element::start(SIDE, &format!("model-file=\"{CHEAP}\" threads=1"))?;
    let builder = Session::builder(environment)?.with_intra_threads(1).map_err(|e| anyhow::anyhow!("{e}"))?;
    let mut session = { builder }.commit_from_file(CHEAP)?;
    let input = vec![0.5f32; 3 * SIDE * SIDE];
    // The bytes that one frame's way cannot avoid: RGB in, float planes out and in, scores out and in, mask out.
    let rgb = vec![7u8; 3 * SIDE * SIDE];
    let mut planes = vec![0f32; 3 * SIDE * SIDE];
    let mut scores = vec![0f32; SIDE * SIDE];
    let mut mask = vec![0u8; SIDE * SIDE];
    let (mut rates, mut whole, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let [mut touch, mut plain, mut time] = [0.0; 3];
        for _ in 0..TURNS {
            let begin = Instant::now();
            for _ in 0..FRAMES {
                planes.iter_mut().zip(&rgb).for_each(|(p, v)| *p = *v as f32);
                let (r, gb) = planes.split_at(SIDE * SIDE);
                let (g, b) = gb.split_at(SIDE * SIDE);
                for (s, ((r, g), b)) in scores.iter_mut().zip(r.iter().zip(g).zip(b)) {
                    *s = r + g + b;
                }
                mask.iter_mut().zip(&scores).for_each(|(m, s)| *m = u8::from(*s > 0.5));
                std::hint::black_box(&mask);
            }
            touch += begin.elapsed().as_secs_f64();
            let begin = Instant::now();
            for _ in 0..FRAMES {
                let tensor = TensorRef::from_array_view(([1i64, 3, SIDE as i64, SIDE as i64], input.as_slice()))?;
                session.run(ort::inputs![tensor])?;
            }
            plain += begin.elapsed().as_secs_f64();
            time += element.run(FRAMES)?.as_secs_f64();
        }
        if round > 0 {
            rates.push((TURNS * FRAMES) as f64 / time);
            whole.push(time / (plain + touch));
            own.push((time - plain) / touch);
        }
    }
    println!("\n1x1 convolution, one worker thread: {:.0} frames/s", median(rates));
    println!("time / (ONNX Runtime alone + touching the bytes): {}", summary(whole.into_iter()));
    println!("(time - ONNX Runtime alone) / touching the bytes: {}", summary(own.into_iter()));
    let stats = element.stats();
    let frames = stats.get::<u64>("frames").unwrap_or(0).max(1) as f64;
    for name in ["convert-seconds", "inference-seconds", "merge-seconds"] {
        println!("{name} per frame: {:.3} ms", 1e3 * stats.get::<f64>(name).unwrap_or(0.0) / frames);
    }
    Ok(())
}

/// Resident memory over passes and over frames.
fn memory() -> Result<()> {
    println!("\n| 1x1 convolution, 512 x 512 | passes per frame | resident memory |");
    println!("|---|---|---|");
    for (tta, passes) in [("none", 1), ("flips", 4), ("d4", 8)] {
        let mut element = Element::start(SIDE, &format!("model-file=\"{CHEAP}\" tta={tta}"))?;
        element.run(100)?;
        println!("| tta={tta} | {passes} | {:.1} MiB |", resident()?);
    }
    let mut element = Element::start(128, &format!("model-file=\"{CHEAP}\" tta=flips"))?;
    for frames in [1000, 9000] {
        element.run(frames)?;
        println!("| 128 x 128, tta=flips, after {frames} more frames | 4 | {:.1} MiB |", resident()?);
    }
    Ok(())
}

/// Resident memory of this process in MiB.
fn resident() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024.0)
}

/// `appsrc ! onnxsegment ! fakesink`, fed with one frame over and over.
struct Element {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    done: std::sync::mpsc::Receiver<()>,
    buffer: gst::Buffer,
}

impl Element {
    fn start(side: usize, properties: &str) -> Result<Self> {
        Self::start_with(side, properties, "")
    }

    /// The same with more behind the element, which is named `s`.
    fn start_with(side: usize, properties: &str, more: &str) -> Result<Self> {
        let line = format!(
            "appsrc name=in format=time block=true max-buffers=2 \
             caps=video/x-raw,format=RGB,width={side},height={side},framerate=25/1 \
             ! onnxsegment name=s {properties} ! fakesink name=out signal-handoffs=true sync=false async=false {more}"
        );
        let pipeline = gst::parse::launch(&line)?.downcast::<gst::Pipeline>().ok().context("a pipeline")?;
        let source = pipeline.by_name("in").and_then(|e| e.downcast().ok()).context("an appsrc")?;
        let (send, done) = std::sync::mpsc::channel();
        let sink = pipeline.by_name("out").context("a sink")?;
        sink.connect("handoff", false, move |_| {
            let _ = send.send(());
            None
        });
        pipeline.set_state(gst::State::Playing)?;
        let noise: Vec<u8> = (0..3 * side * side).map(|k| ((k * 2_654_435_761) >> 7) as u8).collect();
        Ok(Element { pipeline, source, done, buffer: gst::Buffer::from_slice(noise) })
    }

    fn run(&mut self, frames: usize) -> Result<Duration> {
        let begin = Instant::now();
        let source = self.source.clone();
        let buffer = self.buffer.clone();
        let feed = std::thread::spawn(move || (0..frames).all(|_| source.push_buffer(buffer.clone()).is_ok()));
        for _ in 0..frames {
            self.done.recv_timeout(Duration::from_secs(300)).context("no frame for five minutes")?;
        }
        let time = begin.elapsed();
        anyhow::ensure!(feed.join().expect("no panic"), "a frame was refused");
        Ok(time)
    }

    fn stats(&self) -> gst::Structure {
        self.pipeline.by_name("s").expect("named above").property("stats")
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn summary(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<f64> = values.collect();
    let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
    format!("{:.3} ({least:.3} to {most:.3})", median(values))
}
