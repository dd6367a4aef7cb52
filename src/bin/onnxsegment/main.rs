//! The command line: what is done with models and ensembles outside a pipeline.

mod eval;
mod models;
mod output;
mod scene;
mod select;
mod soup;
mod view;

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
    /// Compare models, ensembles, transforms and merges on a scene with known truth, and write the cheapest good one
    Select(select::Arguments),
    /// Average the weights of models of one architecture into one model, which runs at the cost of one
    Soup(soup::Arguments),
    /// Look at an image, its mask, probabilities and uncertainties in a browser
    View(view::Arguments),
}

fn main() -> ExitCode {
    let result = match Line::parse().command {
        Command::Eval(arguments) => eval::run(arguments),
        Command::Select(arguments) => select::run(arguments),
        Command::Soup(arguments) => soup::run(arguments),
        Command::View(arguments) => view::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("onnxsegment: {e:#}");
            ExitCode::FAILURE
        }
    }
}
