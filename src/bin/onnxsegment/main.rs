//! The command line: everything that is done with models and masks besides writing pipelines by hand.

mod completions;
mod eval;
<<<<<<< HEAD
mod footprints;
mod inspect;
=======
mod man;
>>>>>>> 1b2dceb67645a4e451afe2c1f9fae59b5e0a19b1
mod models;
mod output;
mod rle;
mod run;
mod scene;
mod select;
mod signals;
mod soup;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "onnxsegment",
    version,
    about = "Segmentation masks of images, rasters of any size and videos, by ensembles of ONNX models",
    after_help = "Begin with: onnxsegment run IMAGE -o mask.tif -m MODEL.onnx"
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
<<<<<<< HEAD
    /// Turn the regions of a finished mask into polygons
    Footprints(footprints::Arguments),
    /// Tell what is known of models, from where, what would be assumed and what is missing
    Inspect(inspect::Arguments),
    /// Print the gst-launch-1.0 lines that `run` would run
    Pipeline(run::Arguments),
    /// Show what a mosaic's run has to do, cell by cell; --begin begins it for others to work on
    Plan(run::PlanArguments),
    /// Write masks as run-length rows, or rows as masks
    Rle(rle::Arguments),
    /// Segment images, rasters, folders of them, or a video
    Run(run::RunArguments),
=======
    /// Print the manual page, or write one page per verb
    #[command(hide = true)]
    Man(man::Arguments),
>>>>>>> 1b2dceb67645a4e451afe2c1f9fae59b5e0a19b1
    /// Compare models, ensembles, transforms and merges on a scene with known truth, and write the cheapest good one
    Select(select::Arguments),
    /// Average the weights of models of one architecture into one model, which runs at the cost of one
    Soup(soup::Arguments),
    /// Look at an image, its mask, probabilities and uncertainties in a browser
    View(view::Arguments),
    /// Work on cells of mosaics that lines of JSON on the standard input name, with models that stay loaded
    Work,
}

fn main() -> ExitCode {
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    let result = match Line::parse().command {
<<<<<<< HEAD
        Command::Eval(arguments) => done(eval::run(arguments)),
        Command::Footprints(arguments) => footprints::run(arguments),
        Command::Inspect(arguments) => done(inspect::run(arguments)),
        Command::Pipeline(arguments) => done(run::pipeline(arguments)),
        Command::Plan(arguments) => done(run::plan(arguments)),
        Command::Rle(arguments) => done(rle::run(arguments)),
        Command::Run(arguments) => run::run(arguments),
        Command::Select(arguments) => done(select::run(arguments)),
        Command::Soup(arguments) => done(soup::run(arguments)),
        Command::View(arguments) => done(view::run(arguments)),
        Command::Work => done(run::work()),
=======
        Command::Completions(arguments) => completions::run(arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Man(arguments) => man::run(arguments),
        Command::Select(arguments) => select::run(arguments),
        Command::Soup(arguments) => soup::run(arguments),
>>>>>>> 1b2dceb67645a4e451afe2c1f9fae59b5e0a19b1
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("onnxsegment: {e:#}");
            ExitCode::FAILURE
        }
    }
}
