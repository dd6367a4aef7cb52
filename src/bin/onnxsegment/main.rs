//! The command line: what is done with models and ensembles outside a pipeline.

mod completions;
mod eval;
mod man;
mod models;
mod output;
mod scene;
mod select;
mod soup;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "onnxsegment",
    version,
    about = "Ensembles of segmentation models: measures, chooses and prepares what the GStreamer element runs"
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what a shell needs to complete this command
    Completions(completions::Arguments),
    /// Score a mask, or models on an image, against the truth
    Eval(eval::Arguments),
    /// Print the manual page, or write one page per verb
    #[command(hide = true)]
    Man(man::Arguments),
    /// Compare models, ensembles, transforms and merges on a scene with known truth, and write the cheapest good one
    Select(select::Arguments),
    /// Average the weights of models of one architecture into one model, which runs at the cost of one
    Soup(soup::Arguments),
}

fn main() -> ExitCode {
    let result = match Line::parse().command {
        Command::Completions(arguments) => completions::run(arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Man(arguments) => man::run(arguments),
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
