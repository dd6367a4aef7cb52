//! `onnxsegment plan`: what there is to do of a mosaic's run, without doing it.
//!
//! Whoever gives the work to several machines asks this first, and then has each run its list of cells.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::drive::{Counts, Models, Watcher, drive};
use super::jobs::{Job, Product};
use super::options::Properties;
use super::versions::Versions;
use super::{Arguments, start};

#[derive(clap::Args)]
pub struct PlanArguments {
    #[command(flatten)]
    what: Arguments,

    /// Begin the run: make its folder of parts, and finish the parts known to have no data
    #[arg(long)]
    begin: bool,

    /// Print JSON, one object a line for each input
    #[arg(long)]
    json: bool,
}

/// # Errors
/// What a run would say too.
pub fn plan(arguments: PlanArguments) -> Result<()> {
    let what = &arguments.what;
    let (models, plan) = (what.models()?, what.plan()?);
    for name in ["shard", "cells", "finish"] {
        ensure!(what.properties.get(name).is_none(), "--{name} is for those who do the work; a plan is of all of it");
    }
    let folder = (plan.product.is_none() && arguments.begin).then_some(plan.output.as_path());
    start(folder)?;
    let mut loaded = None;
    for job in &plan.jobs {
        ensure!(
            job.product == Product::Mask,
            "{}: only masks in GeoTIFFs are made of parts; write to NAME.tif, or use --format tif",
            job.output.display()
        );
        let mut properties = what.properties.clone();
        properties.set("cells", if arguments.begin { "empty" } else { "none" });
        properties.set("finish", false);
        let (mut found, models) = look(job, &models, &properties)?;
        loaded = Some(models);
        found["input"] = json!(job.input);
        found["output"] = json!(job.output);
        found["begun"] = json!(arguments.begin);
        if arguments.json {
            found["versions"] = json!(Versions::here()?);
            println!("{found}");
        } else {
            println!("{}", words(&found));
        }
    }
    drop(loaded);
    Ok(())
}

/// Runs the pipeline of a job whose properties leave it no tile.
fn look(job: &Job, models: &str, properties: &Properties) -> Result<(Value, Models)> {
    let mut told = Told::default();
    let ended = drive(&job.chain(models, properties, &job.output), &mut told)?;
    let plan = told.plan.context("the pipeline ended without a plan; please report it")?;
    Ok((serde_json::from_str(&plan)?, ended.release()))
}

/// Hears of the plan.
#[derive(Default)]
struct Told {
    plan: Option<String>,
}

impl Watcher for Told {
    fn progress(&mut self, _counts: &Counts) {}
    fn finishing(&mut self, _percent: u64) {}
    fn warning(&mut self, text: &str) {
        eprintln!("onnxsegment: warning: {text}");
    }
    fn stopping(&mut self) {}
    fn told(&mut self, what: &gst::StructureRef) {
        if what.name() == "rastersrc-plan" {
            self.plan = what.get("plan").ok();
        }
    }
}

/// A plan for people.
fn words(plan: &Value) -> String {
    let number = |path: &str| plan.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    let count = |name: &str| plan[name].as_array().map_or(0, Vec::len);
    let text = |name: &str| plan[name].as_str().unwrap_or_default();
    let (all, done, empty) = (number("/cells"), count("done"), count("empty"));
    let open = all - (done + empty) as i64;
    let (verb, rest) = match plan["begun"].as_bool() {
        Some(true) => ("are finished now", "the run is begun"),
        _ => ("need no model", "nothing was written"),
    };
    format!(
        "{} -> {}: {}x{} pixels in {all} cells of {}x{}; {done} finished, {empty} without data {verb}, {open} to do\n\
         tiles of {}x{} pixels that overlap by {}; run {}; {rest}",
        text("input"),
        text("output"),
        number("/region/width"),
        number("/region/height"),
        number("/lattice/part_width"),
        number("/lattice/part_height"),
        number("/grid/x/tile"),
        number("/grid/y/tile"),
        number("/grid/x/overlap"),
        &text("identity").get(..12).unwrap_or_default(),
    )
}
