//! `onnxsegment footprints`: the regions of a finished mask as polygons.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use gstonnxsegment::raster::clean::Connectivity;
use gstonnxsegment::raster::footprints::{self, Counts, Options};
use gstonnxsegment::raster::measure::{Area, Length};
use indicatif::{ProgressBar, ProgressStyle};

use crate::scene::{note_bands, of_file};
use crate::signals;

#[derive(clap::Args)]
pub struct Arguments {
    /// The mask: any raster of labels that GDAL opens
    #[arg(value_name = "MASK")]
    mask: PathBuf,

    /// What is written: .geojson (longitude and latitude), .gpkg or .fgb (the mask's coordinates)
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    /// Probabilities of the same pixels, whose mean over a polygon becomes its confidence
    #[arg(long, value_name = "RASTER")]
    probability: Option<PathBuf>,

    #[command(flatten)]
    shaping: Shaping,

    /// Print JSON instead of words
    #[arg(long)]
    json: bool,
}

/// Which polygons are written, and what is done to them.
#[derive(clap::Args)]
#[command(next_help_heading = "Footprints")]
pub struct Shaping {
    /// Classes that are written, by number or name; all but 0 if not given
    #[arg(long, value_name = "CLASSES", value_delimiter = ',')]
    classes: Vec<String>,

    /// Smallest polygon that stays: pixels, such as 50, or square metres, such as 10m2
    #[arg(long, value_name = "AREA", default_value_t = Area::Pixels(0))]
    min_area: Area,

    /// Smallest hole that stays; smaller ones are filled
    #[arg(long, value_name = "AREA", default_value_t = Area::Pixels(0))]
    min_hole_area: Area,

    /// Leave out points where no edge moves by more: pixels, such as 1.5, or metres, such as 0.8m
    #[arg(long, value_name = "LENGTH")]
    simplify: Option<Length>,

    /// Make angles right, as buildings have them; simplifies by 2 pixels where --simplify says nothing else
    #[arg(long, alias = "orthogonalize")]
    orthogonalise: bool,

    /// Edges are turned that are off by no more: degrees, less than 45
    #[arg(long, value_name = "DEGREES", default_value_t = 15.0, requires = "orthogonalise")]
    angle_tolerance: f64,

    /// Pixels that share only a corner belong together; each footprint is a multipolygon then
    #[arg(long)]
    eight_connected: bool,
}

impl Shaping {
    pub fn options(&self) -> Options {
        Options {
            classes: self.classes.clone(),
            min_area: self.min_area,
            min_hole_area: self.min_hole_area,
            simplify: self.simplify,
            orthogonalise: self.orthogonalise.then_some(self.angle_tolerance),
            connectivity: if self.eight_connected { Connectivity::Eight } else { Connectivity::Four },
        }
    }

    /// What was said of it, as words of a command line.
    pub fn line(&self) -> Vec<String> {
        let default = Options::default();
        let mut words = Vec::new();
        let mut say = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        if !self.classes.is_empty() {
            say("classes", self.classes.join(","));
        }
        if self.min_area != default.min_area {
            say("min-area", self.min_area.to_string());
        }
        if self.min_hole_area != default.min_hole_area {
            say("min-hole-area", self.min_hole_area.to_string());
        }
        if let Some(length) = self.simplify {
            say("simplify", length.to_string());
        }
        if self.orthogonalise {
            say("angle-tolerance", self.angle_tolerance.to_string());
            words.push("--orthogonalise".into());
        }
        if self.eight_connected {
            words.push("--eight-connected".into());
        }
        words
    }
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    signals::listen()?;
    note_bands(&arguments.mask);
    // Shown on terminals alone.
    let bar = ProgressBar::new(1000).with_style(ProgressStyle::with_template("{bar:40} {percent} % · {eta} left")?);
    let progress = |done: f64| {
        bar.set_position((done * 1000.0) as u64);
        !signals::stop()
    };
    let options = arguments.shaping.options();
    let written =
        footprints::write(&arguments.mask, arguments.probability.as_deref(), &arguments.output, &options, &progress);
    bar.finish_and_clear();
    let counts = match written {
        Err(gstonnxsegment::raster::Error::Cancelled) => {
            eprintln!("onnxsegment: stopped; nothing was written");
            return Ok(ExitCode::from(signals::INTERRUPTED));
        }
        written => written.map_err(of_file)?,
    };
    if let Some(note) = note(&counts) {
        eprintln!("onnxsegment: {note}");
    }
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&counts).context("the counts cannot be written as JSON")?),
        false => print!("{}", words(&counts)),
    }
    Ok(ExitCode::SUCCESS)
}

/// What a user should know of the coordinates.
pub fn note(counts: &Counts) -> Option<&'static str> {
    if counts.pixels {
        Some("the mask does not say where it lies; coordinates are its pixels, counted from its upper left corner")
    } else if counts.crs.is_none() {
        Some("the mask names no coordinate reference system; coordinates are those of its geotransform")
    } else {
        None
    }
}

/// What was written, in a few lines.
pub fn words(counts: &Counts) -> String {
    let s = |n: u64| if n == 1 { "" } else { "s" };
    let mut text = format!("{} polygon{}\n", counts.polygons, s(counts.polygons));
    let unit = if counts.metres { "m²" } else { "pixels" };
    for of in &counts.classes {
        let name = of.name.clone().unwrap_or_else(|| format!("class {}", of.class));
        text += &format!("  {name}: {}, together {:.0} {unit}\n", of.polygons, of.area);
    }
    if counts.too_small > 0 {
        text += &format!("{} smaller one{} left out\n", counts.too_small, s(counts.too_small));
    }
    if counts.holes_filled > 0 {
        text += &format!("{} hole{} filled\n", counts.holes_filled, s(counts.holes_filled));
    }
    if counts.orthogonalised + counts.not_orthogonalised > 0 {
        text += &format!(
            "{} with right angles, {} left simplified where these did not fit\n",
            counts.orthogonalised, counts.not_orthogonalised
        );
    }
    text
}
