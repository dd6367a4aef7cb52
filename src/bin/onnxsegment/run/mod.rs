//! `onnxsegment run` and `onnxsegment pipeline`: images, rasters and videos through the elements.
//!
//! Nothing is computed here: a run is the pipeline that `pipeline` prints, and what is told of it.

mod chain;
mod drive;
mod jobs;
mod options;
mod plan;
mod progress;
mod signals;
mod versions;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use gstonnxsegment::files;
use serde_json::json;

use self::chain::{Chain, shell};
use self::drive::{End, Ended};
use self::jobs::{Format, Job, Plan, Product};
use self::options::Properties;
pub use self::plan::{PlanArguments, plan};
use self::progress::{Progress, clock};
pub use self::work::work;

/// How the program ends when parts are still missing.
const INCOMPLETE: u8 = 3;

#[derive(clap::Args)]
pub struct Arguments {
    /// Rasters that GDAL opens, images, folders, patterns, or a video
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<String>,

    /// What to write, by its ending: .tif a mask, .png a mask as a picture, .geojson .gpkg .fgb footprints, .csv
    /// run-length rows, .mkv .webm a video with its classes over it; without an ending, a folder of masks
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    /// Models: ONNX files or patterns; all of them run on every image
    #[arg(short, long, value_name = "MODEL", num_args = 1..)]
    model: Vec<String>,

    /// Masks in a folder of outputs
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    format: Format,

    #[command(flatten)]
    properties: Properties,
}

#[derive(clap::Args)]
pub struct RunArguments {
    #[command(flatten)]
    what: Arguments,

    /// Leave inputs out whose masks are there already, such as those of a run that was stopped
    #[arg(long)]
    skip_existing: bool,

    /// Say nothing but warnings and errors
    #[arg(short, long)]
    quiet: bool,

    /// Print progress and results as JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn models(&self) -> Result<String> {
        for model in &self.model {
            ensure!(!model.contains(','), "{model}: a comma separates models; rename the file");
        }
        ensure!(
            !self.model.is_empty() || self.properties.get("config-file").is_some(),
            "no model is named; use -m MODEL.onnx, or --config-file"
        );
        Ok(self.model.join(","))
    }

    fn plan(&self) -> Result<Plan> {
        Plan::new(&self.inputs, &self.output, self.format, &self.properties)
    }
}

/// Prints the lines that `run` would run.
pub fn pipeline(arguments: Arguments) -> Result<()> {
    let models = arguments.models()?;
    let plan = arguments.plan()?;
    let folder = plan.work.as_deref().or((plan.product.is_none()).then_some(plan.output.as_path()));
    if let Some(folder) = folder {
        println!("mkdir -p {}", shell(&folder.to_string_lossy()));
    }
    for job in &plan.jobs {
        println!("{}", job.chain(&models, &arguments.properties, &job.output));
    }
    Ok(())
}

pub fn run(arguments: RunArguments) -> Result<ExitCode> {
    let models = arguments.what.models()?;
    let plan = arguments.what.plan()?;
    signals::listen()?;
    start(plan.work.as_deref().or((plan.product.is_none()).then_some(plan.output.as_path())))?;
    Run { arguments: &arguments, models, plan: &plan, progress: Progress::new(arguments.json, arguments.quiet) }.all()
}

/// Makes ready for pipelines that write into `folder`, where it is one of their own.
fn start(folder: Option<&Path>) -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    gstonnxsegment::plugin_register_static().context("the elements cannot be registered")?;
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)
            .map_err(|e| anyhow::anyhow!("{}: the folder cannot be made: {}", folder.display(), files::words(&e)))?;
    }
    Ok(())
}

/// What became of an input.
enum Outcome {
    Done(Ended),
    /// To be gone on with.
    Open(Ended, String),
}

struct Run<'a> {
    arguments: &'a RunArguments,
    models: String,
    plan: &'a Plan,
    progress: Progress,
}

impl Run<'_> {
    /// Goes through the inputs. One that fails does not keep the others from being tried.
    fn all(mut self) -> Result<ExitCode> {
        let jobs = &self.plan.jobs;
        // The models of the pipeline before stay loaded until the next one has them.
        let mut loaded = None;
        let (mut failed, mut skipped) = (0, 0);
        let mut last_error = String::new();
        for (k, job) in jobs.iter().enumerate() {
            let name = job.input.display();
            if self.arguments.skip_existing && job.output.exists() {
                skipped += 1;
                continue;
            }
            self.progress.begin(match jobs.len() {
                1 => name.to_string(),
                all => format!("{} of {all}: {name}", k + 1),
            });
            match self.one(job) {
                Ok(Outcome::Done(ended)) => {
                    self.tell(job, &ended);
                    loaded = Some(ended.release());
                }
                Ok(Outcome::Open(ended, how)) => {
                    self.progress.end();
                    self.tell(job, &ended);
                    self.progress.say(&format!("onnxsegment: {how}"));
                    return Ok(ExitCode::from(if signals::stop() { signals::INTERRUPTED } else { INCOMPLETE }));
                }
                Err(e) if jobs.len() == 1 => {
                    self.progress.end();
                    return Err(e);
                }
                Err(e) => {
                    let text = format!("{e:#}");
                    self.progress.say(&format!("onnxsegment: {name}: {text}"));
                    // What is wrong with all of them is told once.
                    ensure!(
                        text != last_error,
                        "the same error twice in a row; {} inputs were not tried",
                        jobs.len() - k - 1
                    );
                    last_error = text;
                    failed += 1;
                }
            }
        }
        drop(loaded);
        if failed == 0 {
            self.products()?;
        }
        self.progress.end();
        if skipped > 0 && !self.arguments.quiet {
            self.progress.say(&format!("{skipped} of {} were there already and were left out", jobs.len()));
        }
        ensure!(failed == 0, "{failed} of {} inputs failed; see above", jobs.len());
        Ok(ExitCode::SUCCESS)
    }

    /// Runs one input's pipeline. Its file appears whole or not at all.
    fn one(&mut self, job: &Job) -> Result<Outcome> {
        let written =
            matches!(job.product, Product::Picture | Product::Overlay).then(|| files::Temporary::beside(&job.output));
        if written.is_some() {
            let folder = files::parent(&job.output);
            ensure!(
                folder.is_dir(),
                "{} cannot be written: there is no folder {}",
                job.output.display(),
                folder.display()
            );
        }
        let target = written.as_ref().map_or(job.output.as_path(), files::Temporary::path);
        let chain = self.chain(job, target);
        let ended = drive::drive(&chain, &mut self.progress)?;
        let publish = |file: files::Temporary, to: &Path| {
            file.publish(to).map_err(|e| anyhow::anyhow!("{} cannot be written: {}", to.display(), files::words(&e)))
        };
        let again = match (self.plan.jobs.len(), job.product) {
            (1, Product::Mask | Product::Footprints) => "run the same command again to go on",
            _ => "run the same command with --skip-existing to go on",
        };
        let counts = &ended.counts;
        Ok(match (ended.end, written) {
            (End::Finished, None) | (End::Parts, _) => Outcome::Done(ended),
            (End::Finished, Some(file)) => {
                publish(file, &job.output)?;
                Outcome::Done(ended)
            }
            (End::Incomplete, _) => {
                let how = format!(
                    "{} of {} parts are in {}.parts; {again}",
                    counts.parts,
                    counts.parts_total,
                    job.output.display()
                );
                Outcome::Open(ended, how)
            }
            (End::Stopped, Some(file)) if job.product == Product::Overlay && counts.frames > 0 => {
                let part = job.output.with_extension(format!("partial.{}", jobs::ending(&job.output)));
                publish(file, &part)?;
                let how = format!("stopped; the first {} frames are in {}", counts.frames, part.display());
                Outcome::Open(ended, how)
            }
            (End::Stopped, _) => {
                Outcome::Open(ended, format!("stopped; {} was not written; {again}", job.output.display()))
            }
        })
    }

    fn chain(&self, job: &Job, target: &Path) -> Chain {
        job.chain(&self.models, &self.arguments.what.properties, target)
    }

    /// What is made of all masks together.
    fn products(&mut self) -> Result<()> {
        Ok(())
    }

    fn tell(&self, job: &Job, ended: &Ended) {
        let counts = &ended.counts;
        if self.arguments.json {
            let warnings = self.progress.warnings();
            let done = json!({
                "event": "done", "input": job.input, "output": job.output, "end": ended.end, "counts": counts,
                "warnings": warnings, "pipeline": self.chain(job, &job.output).to_string(),
            });
            println!("{done}");
        } else if !self.arguments.quiet {
            let speed = match job.product {
                Product::Overlay => format!("{} frames in {}", counts.frames, clock(counts.seconds)),
                _ => format!("{:.2} MP in {}", counts.pixels as f64 / 1e6, clock(counts.seconds)),
            };
            self.progress.say(&format!("{}: {speed}, {}", job.output.display(), counts.provider));
        }
    }
}
