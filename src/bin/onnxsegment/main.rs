//! The command line: what is done with models and ensembles outside a pipeline.

mod eval;
mod models;
mod output;
mod run;
mod scene;
mod select;
mod soup;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    version,
    about = "Ensembles of segmentation models: measures, chooses and prepares what the GStreamer element runs"
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Score a mask, or models on an image, against the truth
    Eval(eval::Arguments),
    /// Print the gst-launch-1.0 lines that `run` would run
    Pipeline(run::Arguments),
    /// Show what a mosaic's run has to do, cell by cell; --begin begins it for others to work on
    Plan(run::PlanArguments),
    /// Segment images, rasters, folders of them, or a video
    Run(run::RunArguments),
    /// Compare models, ensembles, transforms and merges on a scene with known truth, and write the cheapest good one
    Select(select::Arguments),
    /// Average the weights of models of one architecture into one model, which runs at the cost of one
    Soup(soup::Arguments),
    /// Work on cells of mosaics that lines of JSON on the standard input name, with models that stay loaded
    Work,
}

fn main() -> ExitCode {
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    let result = match Line::parse().command {
        Command::Eval(arguments) => done(eval::run(arguments)),
        Command::Pipeline(arguments) => done(run::pipeline(arguments)),
        Command::Plan(arguments) => done(run::plan(arguments)),
        Command::Run(arguments) => run::run(arguments),
        Command::Select(arguments) => done(select::run(arguments)),
        Command::Soup(arguments) => done(soup::run(arguments)),
        Command::Work => done(run::work()),
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("onnxsegment: {e:#}");
            ExitCode::FAILURE
        }
    }
}
