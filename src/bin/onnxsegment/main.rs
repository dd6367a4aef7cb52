//! The command line: everything that is done with models and masks besides writing pipelines by hand.

mod bench;
mod completions;
mod doctor;
mod eval;
mod footprints;
mod inspect;
mod man;
mod models;
mod output;
mod plot;
mod report;
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
    after_help = "Begin with: onnxsegment run IMAGE -o mask.tif -m MODEL.onnx\n\n\
        Exit codes: 0 done; 1 an error, told in a sentence; 2 wrong usage; 3 parts that other shards are to make are missing; \
        130 stopped by Ctrl-C."
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Segment images, rasters, folders of them, or a video
    Run(run::RunArguments),
    /// Print the gst-launch-1.0 lines that `run` would run
    Pipeline(run::Arguments),
    /// Tell what is known of models, from where, what would be assumed and what is missing
    Inspect(inspect::Arguments),
    /// Look at an image, its mask, probabilities and uncertainties in a browser
    View(view::Arguments),
    /// Write a page about a mask: pictures, class areas, models, settings
    Report(report::Arguments),
    /// Turn the regions of a finished mask into polygons
    Footprints(footprints::Arguments),
    /// Write masks as run-length rows, or rows as masks
    Rle(rle::Arguments),
    /// Score a mask, or models on an image, against the truth
    Eval(eval::Arguments),
    /// Compare models, ensembles, transforms and merges on a scene with known truth, and write the cheapest good one
    Select(select::Arguments),
    /// Average the weights of models of one architecture into one model, which runs at the cost of one
    Soup(soup::Arguments),
    /// Measure models on this machine: tile sizes, threads and batches, against plain ONNX Runtime
    Bench(bench::Arguments),
    /// Say what this machine has of what is needed, what is missing, and how to get it
    Doctor(doctor::Arguments),
    /// Show what a mosaic's run has to do, cell by cell; --begin begins it for others to work on
    Plan(run::PlanArguments),
    /// Work on cells of mosaics that lines of JSON on the standard input name, with models that stay loaded
    Work,
    /// Print what a shell needs to complete this command
    Completions(completions::Arguments),
    /// Print the manual page, or write one page per verb
    #[command(hide = true)]
    Man(man::Arguments),
}

/// Ends the process without a word when whoever read its output has gone, such as `| head`: there is nobody to tell of it.
/// `println!` knows only to panic then.
fn end_with_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|t| t.starts_with("failed printing to stdout") && t.contains("Broken pipe")) {
            std::process::exit(0);
        }
        usual(panic);
    }));
}

fn main() -> ExitCode {
    end_with_reader();
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    let result = match Line::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Pipeline(arguments) => done(run::pipeline(arguments)),
        Command::Inspect(arguments) => done(inspect::run(arguments)),
        Command::View(arguments) => done(view::run(arguments)),
        Command::Report(arguments) => done(report::run(arguments)),
        Command::Footprints(arguments) => footprints::run(arguments),
        Command::Rle(arguments) => done(rle::run(arguments)),
        Command::Eval(arguments) => done(eval::run(arguments)),
        Command::Select(arguments) => done(select::run(arguments)),
        Command::Soup(arguments) => done(soup::run(arguments)),
        Command::Bench(arguments) => done(bench::run(arguments)),
        Command::Doctor(arguments) => return doctor::run(arguments),
        Command::Plan(arguments) => done(run::plan(arguments)),
        Command::Work => done(run::work()),
        Command::Completions(arguments) => done(completions::run(arguments)),
        Command::Man(arguments) => done(man::run(arguments)),
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("onnxsegment: {e:#}");
            ExitCode::FAILURE
        }
    }
}
