//! The command line: what is done with models and ensembles outside a pipeline.

mod bench;
mod doctor;
mod eval;
mod models;
mod output;
mod plot;
mod report;
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
    /// Measure models on this machine: tile sizes, threads and batches, against plain ONNX Runtime
    Bench(bench::Arguments),
    /// Say what this machine has of what is needed, what is missing, and how to get it
    Doctor(doctor::Arguments),
    /// Score a mask, or models on an image, against the truth
    Eval(eval::Arguments),
    /// Write a page about a mask: pictures, class areas, models, settings
    Report(report::Arguments),
    /// Compare models, ensembles, transforms and merges on a scene with known truth, and write the cheapest good one
    Select(select::Arguments),
    /// Average the weights of models of one architecture into one model, which runs at the cost of one
    Soup(soup::Arguments),
}

fn main() -> ExitCode {
    let result = match Line::parse().command {
        Command::Bench(arguments) => bench::run(arguments),
        Command::Doctor(arguments) => return doctor::run(arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        Command::Select(arguments) => select::run(arguments),
        Command::Soup(arguments) => soup::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("onnxsegment: {e:#}");
            ExitCode::FAILURE
        }
    }
}
