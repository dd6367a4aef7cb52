//! `onnxsegment run` and `onnxsegment pipeline`: images, rasters and videos through the elements.
//!
//! Nothing is computed here: a run is the pipeline that `pipeline` prints, and what is told of it.

mod chain;
mod drive;
mod jobs;
mod options;
mod plan;
mod progress;
mod versions;
mod work;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use gstonnxsegment::raster::rle::Writer;
use gstonnxsegment::raster::store::Store;
use gstonnxsegment::{files, raster};
use serde_json::json;

use self::chain::{Chain, shell};
use self::drive::{Counts, End, Ended, Watcher};
use self::jobs::{Format, Job, Plan, Product};
use self::options::Properties;
pub use self::plan::{PlanArguments, plan};
use self::progress::{Progress, clock};
pub use self::work::work;
use crate::footprints::{self, Shaping};
use crate::output::Output;
use crate::report::{self, Told};
use crate::scene::of_file;
use crate::{rle, signals};

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

    /// The class whose pixels become run-length rows [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..65535))]
    class: Option<u16>,

    #[command(flatten)]
    shaping: Shaping,

    #[command(flatten)]
    properties: Properties,
}

#[derive(clap::Args)]
pub struct RunArguments {
    #[command(flatten)]
    what: Arguments,

    /// Write one page that shows the run: pictures, class areas, speed, settings
    #[arg(long, value_name = "PAGE.html")]
    report: Option<PathBuf>,

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

    /// The probabilities that footprints take their confidence from.
    fn probability(&self, mask: &Path) -> PathBuf {
        self.properties.get("probability-location").map_or_else(|| jobs::probability_beside(mask), PathBuf::from)
    }

    fn footprints_line(&self, job: &Job) -> Vec<String> {
        let paths = [("", &job.output), ("-o", &self.output), ("--probability", &self.probability(&job.output))];
        let words = paths.into_iter().flat_map(|(name, path)| [name.to_string(), path.display().to_string()]);
        let line = ["onnxsegment", "footprints"].map(str::to_string).into_iter().chain(words);
        line.filter(|word| !word.is_empty()).chain(self.shaping.line()).collect()
    }

    fn rows_line(&self, jobs: &[Job]) -> Vec<String> {
        let line = ["onnxsegment", "rle"].map(str::to_string).into_iter();
        let line = line.chain(jobs.iter().map(|job| job.output.display().to_string()));
        line.chain(["-o".into(), self.output.display().to_string(), "--class".into(), self.class().to_string()])
            .collect()
    }

    fn class(&self) -> u16 {
        self.class.unwrap_or(1)
    }

    fn plan(&self) -> Result<Plan> {
        let plan = Plan::new(&self.inputs, &self.output, self.format, &self.properties)?;
        if let Some(option) = self.shaping.line().first().filter(|_| plan.product != Some(Product::Footprints)) {
            bail!("{option} is for footprints; write some by -o NAME.geojson, NAME.gpkg or NAME.fgb");
        }
        ensure!(
            self.class.is_none() || plan.product == Some(Product::Rows),
            "--class is for run-length rows; write some by -o NAME.csv"
        );
        Ok(plan)
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
    let words = match plan.product {
        Some(Product::Footprints) => arguments.footprints_line(&plan.jobs[0]),
        Some(Product::Rows) => arguments.rows_line(&plan.jobs),
        _ => return Ok(()),
    };
    println!("{}", words.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" "));
    Ok(())
}

pub fn run(arguments: RunArguments) -> Result<ExitCode> {
    let models = arguments.what.models()?;
    let plan = arguments.what.plan()?;
    signals::listen()?;
    // What cannot be written is told before anything is computed.
    let last = plan.work.is_some().then_some(&plan.output);
    last.into_iter().chain(&arguments.report).try_for_each(|file| Output::create(file).map(drop))?;
    start(plan.work.as_deref().or((plan.product.is_none()).then_some(plan.output.as_path())))?;
    Run { arguments: &arguments, models, plan: &plan, progress: Progress::new(arguments.json, arguments.quiet) }.all()
}

/// Makes ready for pipelines that write into `folder`, where it is one of their own.
fn start(folder: Option<&Path>) -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    gstonnxsegment::plugin_register_static().context("the elements cannot be registered")?;
    if let Some(folder) = folder {
        Store::of(folder)
            .make_folders(folder)
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
        let mut done = Vec::new();
        let mut last_error = String::new();
        for (k, job) in jobs.iter().enumerate() {
            let name = job.input.display();
            if self.arguments.skip_existing && Store::of(&job.output).exists(&job.output) {
                skipped += 1;
                continue;
            }
            let title = match jobs.len() {
                1 => name.to_string(),
                all => format!("{} of {all}: {name}", k + 1),
            };
            self.progress.begin(&name.to_string(), title);
            match self.one(job) {
                Ok(Outcome::Done(ended)) => {
                    self.tell(job, &ended);
                    done.push((job, ended.counts.clone()));
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
        // While the masks are there: footprints and rows do not keep them.
        if let Some(page) = self.arguments.report.as_deref().filter(|_| failed == 0) {
            self.report(page, &done)?;
        }
        let whole = failed > 0 || self.products()?;
        self.progress.end();
        if !whole {
            let work = self.plan.work.as_deref().unwrap_or(&self.plan.output).display();
            self.progress.say(&format!(
                "onnxsegment: stopped; the masks are in {work}; run the same command with --skip-existing to go on"
            ));
            return Ok(ExitCode::from(signals::INTERRUPTED));
        }
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
            (1, Product::Mask | Product::Footprints) => "run the same command again (or the other shards) to go on",
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
                let parts = ended.parts.as_deref().unwrap_or("some parts are still missing");
                let how = format!("{parts}; {again}");
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

    /// Writes the page about the inputs that were done now.
    fn report(&self, page: &Path, done: &[(&Job, Counts)]) -> Result<()> {
        let what = &self.arguments.what;
        let raster = |name: &str| what.properties.get(name).map(Path::new);
        let inputs: Vec<report::Input<'_>> = done
            .iter()
            .map(|(job, _)| report::Input {
                image: &job.input,
                mask: (job.product != Product::Overlay)
                    .then_some(job.output.as_path())
                    .filter(|mask| Store::of(mask).exists(mask)),
                probability: raster("probability-location"),
                uncertainty: raster("uncertainty-location"),
            })
            .collect();
        let told = match inputs.iter().find_map(|input| input.mask) {
            Some(mask) => Told::of_file(mask)?,
            None => Told::default(),
        };
        let stated = what.properties.all().map(|(name, value)| report::Setting {
            name: name.into(),
            value: value.into(),
            from: "command line".into(),
        });
        let mut settings: Vec<report::Setting> = stated.collect();
        settings.extend(told.settings.into_iter().filter(|s| what.properties.get(&s.name).is_none()));
        let sum = |of: fn(&Counts) -> u64| done.iter().map(|(_, counts)| of(counts)).sum::<u64>();
        let command: Vec<String> = std::env::args().map(|word| shell(&word)).collect();
        report::write(
            page,
            &report::Run {
                inputs: &inputs,
                class_names: &told.class_names,
                pixels: Some(sum(|c| c.pixels)),
                seconds: Some(done.iter().map(|(_, counts)| counts.seconds).sum()),
                frames: Some(sum(|c| c.frames)),
                skipped: Some(sum(|c| c.frames_without_data)),
                passes: Some(sum(|c| c.passes)),
                saved: Some(sum(|c| c.passes_saved)),
                provider: done.first().map(|(_, counts)| counts.provider.as_str()),
                settings: &settings,
                models: &told.models,
                warnings: self.progress.warnings(),
                command: &command.join(" "),
            },
        )
    }

    fn chain(&self, job: &Job, target: &Path) -> Chain {
        job.chain(&self.models, &self.arguments.what.properties, target)
    }

    /// What is made of all masks together; false if the user stopped it.
    fn products(&mut self) -> Result<bool> {
        let (what, output) = (&self.arguments.what, &self.plan.output);
        match self.plan.product {
            Some(Product::Footprints) => {
                let job = &self.plan.jobs[0];
                let probability = what.probability(&job.output);
                let told = RefCell::new(&mut self.progress);
                let progress = |done: f64| {
                    told.borrow_mut().stage("drawing footprints", (done * 100.0) as u64);
                    !signals::stop()
                };
                let written = raster::footprints::write(
                    &job.output,
                    Some(&probability),
                    output,
                    &what.shaping.options(),
                    &progress,
                );
                let counts = match written {
                    Err(raster::Error::Cancelled) => return Ok(false),
                    written => written.map_err(of_file)?,
                };
                if let Some(note) = footprints::note(&counts) {
                    self.progress.warning(note);
                }
                match self.arguments.json {
                    true => println!("{}", json!({"event": "footprints", "output": output, "counts": counts})),
                    false => self.result(&format!("{}: {}", output.display(), footprints::words(&counts).trim_end())),
                }
            }
            Some(Product::Rows) => {
                let file = Output::create(output)?;
                let mut rows = Writer::new(Vec::new());
                for (k, job) in self.plan.jobs.iter().enumerate() {
                    if signals::stop() {
                        return Ok(false);
                    }
                    self.progress.stage("writing rows", (k * 100 / self.plan.jobs.len()) as u64);
                    let name = job.output.file_stem().unwrap_or_default().to_string_lossy();
                    rows.append_runs(&name, &rle::runs(&job.output, what.class())?)?;
                }
                file.write(&rows.into_inner())?;
                match self.arguments.json {
                    true => println!("{}", json!({"event": "rows", "output": output, "rows": self.plan.jobs.len()})),
                    false => {
                        let rows = self.plan.jobs.len();
                        self.result(&format!("{}: {rows} row{}", output.display(), if rows == 1 { "" } else { "s" }));
                    }
                }
            }
            _ => return Ok(true),
        }
        if let Some(work) = &self.plan.work {
            let _ = files::remove_folder(work);
        }
        Ok(true)
    }

    /// A line that says what was written.
    fn result(&self, text: &str) {
        if !self.arguments.quiet {
            self.progress.say(text);
        }
    }

    fn tell(&self, job: &Job, ended: &Ended) {
        let counts = &ended.counts;
        // Masks that footprints and rows are made of do not stay.
        let passing = self.plan.work.is_some();
        if self.arguments.json {
            let warnings = self.progress.warnings();
            let output = if passing { &self.plan.output } else { &job.output };
            let done = json!({
                "event": "done", "input": job.input, "output": output, "end": ended.end, "counts": counts,
                "warnings": warnings, "pipeline": self.chain(job, &job.output).to_string(),
            });
            println!("{done}");
        } else {
            let (megapixels, time) = (counts.pixels as f64 / 1e6, clock(counts.seconds));
            let per_second = |amount: f64| amount / counts.seconds.max(1e-3);
            let mut text = match job.product {
                Product::Overlay => {
                    let frames = counts.frames;
                    format!("{frames} frames in {time}, {:.1} frames/s", per_second(frames as f64))
                }
                _ => format!("{megapixels:.2} MP in {time}, {:.2} MP/s", per_second(megapixels)),
            };
            if counts.frames_without_data > 0 {
                text += &format!(", {} of {} tiles without data", counts.frames_without_data, counts.frames);
            }
            if counts.passes_saved > 0 {
                text += &format!(", {} passes saved", counts.passes_saved);
            }
            let there = !passing && ended.end == End::Finished;
            let file = if there { &job.output } else { &job.input };
            self.result(&format!("{}: {text}, {}", file.display(), counts.provider));
        }
    }
}
