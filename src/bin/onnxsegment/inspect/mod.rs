//! `onnxsegment inspect`: what is known of models, from where, what would be assumed, and what is missing; and the same written
//! down as others read it.

mod line;
mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use gstonnxsegment::engine::card::write;
use gstonnxsegment::engine::inspect::{self, Inspection};
use gstonnxsegment::engine::onnx::model;
use gstonnxsegment::engine::runtime::SessionOptions;
use gstonnxsegment::engine::settings::Source;
use gstonnxsegment::engine::{Ensemble, Settings};

use crate::models::ModelArguments;
use crate::output::Output;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    models: ModelArguments,

    /// A STAC item with the MLM extension that speaks of the models; none: no file, none beside a model either
    #[arg(long, value_name = "FILE")]
    model_card: Option<String>,

    /// Print JSON instead of text
    #[arg(long)]
    json: bool,

    /// Write what is known of one model: into a copy of it as the Deepness plugin's metadata, or as a STAC MLM item
    #[arg(long, value_name = "FORMAT")]
    write: Option<Format>,

    /// The file to write; for mlm the item beside the model, MODEL.stac.json, if not given
    #[arg(short, long, value_name = "FILE", requires = "write")]
    output: Option<PathBuf>,

    /// With --write deepness, put the metadata into the model's own file
    #[arg(long, requires = "write", conflicts_with = "output")]
    in_place: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Deepness,
    Mlm,
}

/// What is wanted of the models, and what was found.
struct Report {
    models: Vec<Inspection>,
    /// Why the models cannot run together, where each can alone.
    apart: Option<String>,
    warnings: Vec<String>,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let mut settings = arguments.models.settings(&["model-card"])?;
    if let Some(card) = &arguments.model_card {
        settings.set("model-card", card, Source::Property, Path::new(""))?;
    }
    let report = look(settings)?;
    match arguments.write {
        Some(format) => {
            let [model] = &report.models[..] else {
                bail!("--write: {} models are named; name one", report.models.len());
            };
            save(model, format, &arguments)
        }
        None => {
            match arguments.json {
                true => show::json(&report, &stated(&arguments))?,
                false => show::text(&report, &stated(&arguments))?,
            }
            // A card is there to be followed. All else that is missing a line can still say.
            report.models.iter().find_map(|model| model.card.clone()).map_or(Ok(()), |problem| Err(anyhow!(problem)))
        }
    }
}

/// Everything that was said on this line and that the next one has to say again, as (property, value).
fn stated(arguments: &Arguments) -> Vec<(String, String)> {
    let path = |path: &PathBuf| path.display().to_string();
    let config = arguments.models.config_file.iter().map(|file| ("config-file".to_string(), path(file)));
    let card = arguments.model_card.iter().map(|card| ("model-card".to_string(), card.clone()));
    let set = arguments.models.settings.iter().filter_map(|text| text.split_once('='));
    config.chain(card).chain(set.map(|(name, value)| (name.to_string(), value.to_string()))).collect()
}

fn look(settings: Settings) -> Result<Report> {
    let options = SessionOptions { sampled: settings.samples.is_some(), ..SessionOptions::default() };
    let members = settings.resolve_members()?;
    let models: Result<Vec<_>> =
        members.iter().map(|member| Ok(inspect::inspect(member, &settings, &options)?)).collect();
    let models = models?;
    let (mut apart, mut warnings) = (None, Vec::new());
    if models.iter().all(Inspection::runs) {
        match Ensemble::load(&settings) {
            Ok(ensemble) => warnings = ensemble.warnings().to_vec(),
            Err(e) => apart = Some(e.to_string()),
        }
    }
    Ok(Report { models, apart, warnings })
}

/// Writes what is known of a model.
fn save(found: &Inspection, format: Format, arguments: &Arguments) -> Result<()> {
    let spec = match (&found.spec, found.missing.first()) {
        (Some(spec), None) => spec,
        (_, missing) => {
            let missing = missing.map_or("not all is known of it".into(), |m| match m.answer {
                "" => m.problem.clone(),
                answer => format!("{} (--set {answer})", m.problem),
            });
            bail!("{}: nothing is written, because {missing}", found.path.display());
        }
    };
    match format {
        Format::Deepness => {
            let keys = write::deepness(spec, &found.outputs)?;
            let output = match (&arguments.output, arguments.in_place) {
                (Some(output), _) => output,
                (None, true) => &found.path,
                (None, false) => bail!("--write deepness: name the file to write by -o OUT.onnx, or say --in-place"),
            };
            Output::create(output)?;
            let mut changed = model::read(&found.path)?;
            write::put(&mut changed, &keys);
            model::write(&changed, output)?;
            println!("{}: {} keys of the Deepness convention", output.display(), keys.len());
            for (key, value) in &keys {
                println!("  {key:<20} {value}");
            }
            for (name, value, source) in spec.describe_card().into_iter().filter(|(name, ..)| *name != "model-card") {
                println!("  has no key for {name}: {value} ({source})");
            }
        }
        Format::Mlm => {
            ensure!(
                !arguments.in_place,
                "--in-place: an item is a file of its own; leave it out, or name the file by -o"
            );
            let beside = found.path.with_extension("stac.json");
            let output = arguments.output.as_ref().unwrap_or(&beside);
            let is_own = spec.card.as_ref() == Some(output);
            if arguments.output.is_none() && output.exists() {
                let what = if is_own { "the card that is read now" } else { "another file" };
                bail!("{} is there already: {what}; name a file to write by -o", output.display());
            }
            let item = write::mlm(spec, found.output, &found.outputs)?;
            let text = serde_json::to_string_pretty(&item).map_err(|e| anyhow!(e)).context("the item")? + "\n";
            Output::create(output)?.write(text.as_bytes())?;
            println!("{}: a STAC item with the MLM extension", output.display());
        }
    }
    Ok(())
}
