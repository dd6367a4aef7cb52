//! `onnxsegment work`: cells of mosaics, as another program names them, with models that stay loaded from one list of
//! cells to the next.
//!
//! One line of JSON on the standard input is one job; what becomes of it is told in lines of JSON on the standard output.
//! Which process does what is not decided here. The process ends with the one that started it.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gstonnxsegment::raster::Share;
use serde::Deserialize;
use serde_json::{Value, json};

use super::drive::{Counts, End, Failure, Fault, Models, Watcher, drive};
use super::jobs::{self, Product};
use super::options::Properties;
use super::start;
use super::versions::Versions;

/// How often progress is told.
const PAUSE: Duration = Duration::from_secs(1);

/// What a line asks for.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Request {
    Job(Box<Job>),
    /// Stop a job; its finished parts stay.
    Cancel {
        cancel: String,
    },
}

/// Cells of a mosaic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    /// What the answers call it.
    job: String,
    input: PathBuf,
    output: PathBuf,
    /// Files or patterns, as the models of `run`; none where a configuration file names them.
    #[serde(default)]
    models: Vec<String>,
    /// Properties of the elements by name, their values as text.
    #[serde(default)]
    settings: BTreeMap<String, String>,
    /// Places in the region's list of cells.
    cells: Vec<usize>,
    /// Make the raster when all parts are there.
    #[serde(default)]
    finish: bool,
}

/// Names of jobs that are to be stopped.
type Cancelled = Arc<Mutex<Vec<String>>>;

/// # Errors
/// ONNX Runtime or GStreamer is not to be found. What goes wrong with a job is told, and does not end the process.
pub fn work() -> Result<()> {
    end_with_parent();
    start(None)?;
    let Versions { onnxsegment, onnxruntime, providers } = Versions::here()?;
    let ready = json!({
        "event": "ready", "onnxsegment": onnxsegment, "onnxruntime": onnxruntime, "providers": providers,
        "process": std::process::id(),
    });
    say(&ready);
    let cancelled = Cancelled::default();
    let gone = Arc::new(AtomicBool::new(false));
    let lines = listen(cancelled.clone(), gone.clone());
    let mut loaded: Option<Models> = None;
    for job in lines {
        let name = job.job.clone();
        say(&json!({"event": "started", "job": name}));
        let mut told = Told {
            job: &name,
            started: Instant::now(),
            last: Instant::now(),
            cancelled: &cancelled,
            gone: &gone,
            parts: 0,
        };
        match one(&job, &mut told, &mut loaded) {
            Ok(done) => say(&done),
            Err(e) => {
                let fault = e.downcast_ref::<Failure>().map_or(Fault::Settings, |failure| failure.fault);
                say(&json!({"event": "failed", "job": name, "fault": fault, "error": format!("{e:#}")}));
            }
        }
        cancelled.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != name);
    }
    Ok(())
}

/// Has the system end this process with the one that started it, even when that is killed. Its end of the pipe is closed
/// then too, but a process in the middle of a pass would not notice.
fn end_with_parent() {
    // SAFETY: sets a number of this process, and takes no memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

/// Jobs in their order, read by a thread of their own, so that the end of the input and cancellations are heard at once.
fn listen(cancelled: Cancelled, gone: Arc<AtomicBool>) -> Receiver<Job> {
    let (sender, jobs) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
            match serde_json::from_str(&line) {
                Ok(Request::Job(job)) => {
                    if sender.send(*job).is_err() {
                        break;
                    }
                }
                Ok(Request::Cancel { cancel }) => {
                    cancelled.lock().unwrap_or_else(PoisonError::into_inner).push(cancel);
                }
                Err(_) => {
                    // The job's own error says more than that neither kind fits.
                    let problem = serde_json::from_str::<Job>(&line).err().map(|e| e.to_string()).unwrap_or_default();
                    let error = format!(
                        "this line is no job ({problem}); a job is {{\"job\":…,\"input\":…,\"output\":…,\"models\":[…],\
                         \"settings\":{{…}},\"cells\":[…]}}"
                    );
                    let job = serde_json::from_str::<Value>(&line).ok().and_then(|v| v.get("job").cloned());
                    say(&json!({"event": "failed", "job": job, "fault": Fault::Settings, "error": error}));
                }
            }
        }
        gone.store(true, Ordering::SeqCst);
    });
    jobs
}

/// Tells whoever started this process; when nobody listens any more, there is nothing left to do.
fn say(what: &Value) {
    if writeln!(std::io::stdout(), "{what}").is_err() {
        std::process::exit(1);
    }
}

/// Does one job.
fn one(job: &Job, told: &mut Told, loaded: &mut Option<Models>) -> Result<Value> {
    for name in ["shard", "cells", "finish"] {
        if job.settings.contains_key(name) {
            bail!("settings: {name} is not for settings; a job has its cells, and finish, beside them");
        }
    }
    let settings = job.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut properties = Properties::read(settings).context("settings")?;
    // A list with nothing in it is for making the raster alone.
    let cells: Vec<String> = job.cells.iter().map(usize::to_string).collect();
    let share = if cells.is_empty() { Share::Empty } else { Share::parse(&cells.join(","))? };
    properties.set("cells", share);
    properties.set("finish", job.finish);
    let target = jobs::Job { input: job.input.clone(), output: job.output.clone(), product: Product::Mask };
    let chain = target.chain(&job.models.join(","), &properties, &job.output);
    let ended = drive(&chain, told)?;
    let (counts, end) = (&ended.counts, ended.end);
    let done = json!({
        "event": "done", "job": job.job, "seconds": counts.seconds, "parts": told.parts,
        "tiles": counts.frames, "tiles-without-data": counts.frames_without_data, "pixels": counts.pixels,
        "provider": counts.provider, "end": end,
        "stopped": told.is_to_stop() && !matches!(end, End::Finished),
    });
    // The models of the pipeline before stay loaded until this one has them.
    *loaded = Some(ended.release());
    Ok(done)
}

/// Tells of a job.
struct Told<'a> {
    job: &'a str,
    started: Instant,
    last: Instant,
    cancelled: &'a Cancelled,
    /// Nobody listens any more.
    gone: &'a AtomicBool,
    parts: usize,
}

impl Watcher for Told<'_> {
    fn progress(&mut self, counts: &Counts) {
        if self.last.elapsed() >= PAUSE {
            self.last = Instant::now();
            let told = json!({
                "event": "progress", "job": self.job, "seconds": counts.seconds, "tiles": counts.frames,
                "tiles-total": counts.frames_total, "pixels": counts.pixels,
            });
            say(&told);
        }
    }

    fn finishing(&mut self, percent: u64) {
        say(&json!({"event": "finishing", "job": self.job, "percent": percent}));
    }

    fn warning(&mut self, text: &str) {
        say(&json!({"event": "warning", "job": self.job, "text": text}));
    }

    fn stopping(&mut self) {}

    fn is_to_stop(&self) -> bool {
        let cancelled = self.cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        self.gone.load(Ordering::SeqCst) || cancelled.iter().any(|job| job == self.job)
    }

    fn told(&mut self, what: &gst::StructureRef) {
        if what.name() != "rastersink-part" {
            return;
        }
        self.parts += 1;
        let told = json!({
            "event": "part", "job": self.job,
            "cell": what.get::<u64>("cell").unwrap_or_default(),
            "pixels": what.get::<u64>("pixels").unwrap_or_default(),
            "without-data": what.get::<bool>("without-data").unwrap_or_default(),
            "seconds": self.started.elapsed().as_secs_f64(),
        });
        say(&told);
    }
}
