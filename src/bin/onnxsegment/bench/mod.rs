//! `onnxsegment bench`: how fast models run on this machine by tile size, threads and batch, beside plain ONNX Runtime in the
//! same minutes.

mod measure;
mod plot;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gstonnxsegment::engine::{Ensemble, Settings};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::measure::{Element, Plain, forget_peak, peak};
use crate::models::ModelArguments;
use crate::output::Output;

/// What neighbouring tiles of a mosaic have in common unless a user or a model says otherwise, in pixels.
const OVERLAP: usize = 64;
/// A frame that takes longer ends its setting.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    models: ModelArguments,

    /// Sides of the frames in pixels; models of a fixed size have just that
    #[arg(long, value_name = "PIXELS,...", value_delimiter = ',', default_values_t = [256, 512, 1024], value_parser = clap::value_parser!(u32).range(16..=16384))]
    tile_size: Vec<u32>,

    /// Threads for all passes together [default: one per core]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Vec<u32>,

    /// Inputs of one run of a model
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1], value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch_size: Vec<u32>,

    /// Seconds that each of the three contenders runs with each setting
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,

    /// Turns that they take
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Draw speed by tile size into a PNG
    #[arg(long, value_name = "PNG")]
    plot: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Median and range over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// `None` of no values.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
        Some(Spread { median, least, most })
    }

    fn times(self, factor: f64) -> Self {
        Spread { median: self.median * factor, least: self.least * factor, most: self.most * factor }
    }
}

/// One setting, measured.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub width: usize,
    pub height: usize,
    pub threads: u32,
    pub batch_size: u32,
    /// The element, in millions of pixels a second.
    pub element: Spread,
    /// The same of a mosaic's pixels, of which tiles that overlap infer some twice.
    pub mosaic: Option<Spread>,
    /// Plain ONNX Runtime: one session on all threads, or one per thread, whichever is faster in each round.
    pub plain: Spread,
    /// The element over plain ONNX Runtime, round by round.
    pub ratio: Spread,
    /// What the element added to the process's memory at most, in MiB.
    pub memory: Option<f64>,
}

impl Row {
    /// What settings are compared by.
    fn rate(&self) -> Spread {
        self.mosaic.unwrap_or(self.element)
    }
}

#[derive(Serialize)]
struct Report<'a> {
    models: Vec<String>,
    provider: &'a str,
    passes: usize,
    rows: &'a [Row],
    recommended: &'a Row,
    /// Whether a faster median lies within the ranges.
    within_noise: bool,
    options: String,
}

pub fn run(arguments: Arguments) -> Result<()> {
    ensure!(
        arguments.seconds > 0.0 && arguments.seconds <= 3600.0,
        "--seconds {}: use more than 0, up to 3600",
        arguments.seconds
    );
    let elsewhere = ["threads", "batch-size", "batch-timeout"];
    let settings = arguments.models.settings(&elsewhere)?;
    let plot = arguments.plot.as_deref().map(Output::create).transpose()?;
    gst::init().context("GStreamer does not start")?;
    gstonnxsegment::plugin_register_static().context("the elements cannot be registered")?;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let threads = if arguments.threads.is_empty() { vec![cores] } else { arguments.threads.clone() };
    let first = Ensemble::load(&settings)?;
    first.warnings().iter().for_each(|warning| eprintln!("onnxsegment: {warning}"));
    let sizes = sizes(&first, &arguments.tile_size);
    let batches: BTreeSet<u32> = arguments.batch_size.iter().copied().collect();
    let threads: BTreeSet<u32> = threads.into_iter().collect();
    let combinations: Vec<_> = sizes
        .iter()
        .flat_map(|size| threads.iter().map(move |threads| (*size, *threads)))
        .flat_map(|(size, threads)| batches.iter().map(move |batch| (size, threads, *batch)))
        .collect();
    let seconds = combinations.len() as f64 * 3.0 * arguments.seconds;
    eprintln!(
        "{} setting{} of {:.1} seconds each on {}, besides loading: about {}",
        combinations.len(),
        if combinations.len() == 1 { "" } else { "s" },
        3.0 * arguments.seconds,
        first.active_provider(),
        if seconds < 120.0 { format!("{:.0} s", seconds.ceil()) } else { format!("{:.0} min", seconds / 60.0) }
    );

    let bar = ProgressBar::new(combinations.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos} of {len} · {msg}")?);
    let mut rows = Vec::new();
    for (size, threads, batch) in combinations {
        let name = format!("{}x{}, threads {threads}, batch {batch}", size.0, size.1);
        bar.set_message(name.clone());
        let mut settings = settings.clone();
        settings.threads = Some(threads as usize);
        settings.batch_size = Some(batch as usize);
        let row = measure(&settings, size, (threads, batch), &arguments).with_context(|| name.clone())?;
        match (row, std::io::stderr().is_terminal()) {
            (None, _) => bar.suspend(|| eprintln!("{name}: a frame takes more than {} s; left out", LIMIT.as_secs())),
            (Some(row), terminal) => {
                if !terminal {
                    eprintln!("{name}: {:.2} MP/s", row.element.median);
                }
                rows.push(row);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let Some((recommended, within_noise)) = recommend(&rows) else { bail!("no setting could be measured") };
    let names = first.members().iter().map(|member| member.spec.input.file.clone()).collect();
    let report = Report {
        models: names,
        provider: first.active_provider(),
        passes: first.passes(),
        rows: &rows,
        recommended,
        within_noise,
        options: options(recommended, cores, first.fixed_size() != (None, None)),
    };
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&report).context("the report cannot be written as JSON")?),
        false => print!("{}", table(&report)),
    }
    match plot {
        Some(file) => file.write(&plot::draw(&rows)?),
        None => Ok(()),
    }
}

/// Frames that the models take, each once.
fn sizes(ensemble: &Ensemble, sides: &[u32]) -> Vec<(usize, usize)> {
    let (height, width) = ensemble.fixed_size();
    let sizes = sides.iter().map(|side| (width.unwrap_or(*side as usize), height.unwrap_or(*side as usize)));
    sizes.collect::<BTreeSet<_>>().into_iter().collect()
}

/// `None` where a frame takes too long.
fn measure(
    settings: &Settings,
    (width, height): (usize, usize),
    (threads, batch): (u32, u32),
    arguments: &Arguments,
) -> Result<Option<Row>> {
    let ensemble = Ensemble::load(settings)?;
    let bands = ensemble.members()[0].spec.input.channels;
    let before = forget_peak();
    let element = Element::start(settings, (width, height), bands)?;
    // Frames enough to fill what may be under way at once, which warms everything up.
    let flight = ensemble.frames_in_flight().max(1) * ensemble.frames_per_batch().max(1);
    let Some(time) = element.run(flight, LIMIT * flight as u32)? else { return Ok(None) };
    let memory = before.zip(peak()).map(|(before, peak)| peak.saturating_sub(before) as f64 / f64::from(1 << 20));
    let turn = arguments.seconds / f64::from(arguments.rounds);
    let frames = (turn * flight as f64 / time.as_secs_f64()).ceil() as usize;
    let frames = frames.clamp(1, 1_000_000).next_multiple_of(flight);
    let mut plain = Plain::open(&ensemble, settings, (width, height), threads as usize, batch as usize)?;
    plain.wide(Duration::ZERO)?;
    plain.narrow(Duration::from_millis(1))?;

    let megapixels = (width * height) as f64 / 1e6;
    let turn = Duration::from_secs_f64(turn);
    let (mut rates, mut limits, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        let Some(time) = element.run(frames, LIMIT * frames as u32)? else { return Ok(None) };
        let rate = frames as f64 / time.as_secs_f64();
        let limit = plain.wide(turn)?.max(plain.narrow(turn)?.unwrap_or(0.0));
        rates.push(rate * megapixels);
        limits.push(limit * megapixels);
        ratios.push(rate / limit);
    }
    let spread = |values| Spread::of(values).context("there was no round");
    let element = spread(rates)?;
    let share = |side: usize| side.checked_sub(OVERLAP).filter(|left| *left > 0).map(|left| left as f64 / side as f64);
    let mosaic = share(width).zip(share(height)).map(|(x, y)| element.times(x * y));
    Ok(Some(Row {
        width,
        height,
        threads,
        batch_size: batch,
        element,
        mosaic,
        plain: spread(limits)?,
        ratio: spread(ratios)?,
        memory,
    }))
}

/// The smallest setting that cannot be told from the fastest, and whether it is another.
fn recommend(rows: &[Row]) -> Option<(&Row, bool)> {
    let best = rows.iter().max_by(|a, b| a.rate().median.total_cmp(&b.rate().median))?;
    let within = |row: &&Row| row.rate().most >= best.rate().least && row.rate().median >= 0.9 * best.rate().median;
    let cost = |row: &&Row| (row.batch_size, row.width * row.height, row.threads);
    let chosen = rows.iter().filter(within).min_by_key(cost)?;
    Some((chosen, !std::ptr::eq(chosen, best)))
}

/// What sets it, without what is the default: models of a fixed size leave no choice of tiles.
fn options(row: &Row, cores: u32, fixed: bool) -> String {
    let mut options = Vec::new();
    if !fixed {
        options.push(format!("--tile-size {}", row.width.max(row.height)));
    }
    if row.threads != cores {
        options.push(format!("--threads {}", row.threads));
    }
    if row.batch_size != 1 {
        options.push(format!("--batch-size {}", row.batch_size));
    }
    options.join(" ")
}

fn table(report: &Report<'_>) -> String {
    let mut text = format!(
        "{} on {}, {} pass{} a frame. MP/s: millions of pixels a second, median (range).\n\n\
         {:>11} {:>7} {:>5}  {:>24} {:>10}  {:>24}  {:>20} {:>9}\n",
        report.models.join(", "),
        report.provider,
        report.passes,
        if report.passes == 1 { "" } else { "es" },
        "frame",
        "threads",
        "batch",
        "onnxsegment, MP/s",
        "mosaic",
        "plain ONNX Runtime, MP/s",
        "ratio",
        "memory",
    );
    let spread = |s: Spread| format!("{:.2} ({:.2} to {:.2})", s.median, s.least, s.most);
    for row in report.rows {
        text += &format!(
            "{:>11} {:>7} {:>5}  {:>24} {:>10}  {:>24}  {:>20} {:>9}{}\n",
            format!("{}x{}", row.width, row.height),
            row.threads,
            row.batch_size,
            spread(row.element),
            row.mosaic.map_or("-".into(), |s| format!("{:.2}", s.median)),
            spread(row.plain),
            spread(row.ratio),
            row.memory.map_or("-".into(), |m| format!("{m:.0} MiB")),
            if std::ptr::eq(row, report.recommended) { "  *" } else { "" },
        );
    }
    text += &format!("\nmosaic: what is left of it where tiles overlap by {OVERLAP} pixels.\n");
    text += &format!(
        "Recommended (*): {}{}\n",
        if report.options.is_empty() { "the defaults" } else { &report.options },
        if report.within_noise { "; faster ones lie within the noise or a tenth" } else { "" }
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(width: usize, batch_size: u32, rates: [f64; 3]) -> Row {
        let spread = Spread::of(rates.to_vec()).unwrap();
        Row {
            width,
            height: width,
            threads: 2,
            batch_size,
            element: spread,
            mosaic: None,
            plain: spread,
            ratio: spread,
            memory: None,
        }
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of(vec![3.0, 1.0]).unwrap().median, 2.0);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn the_smallest_setting_within_the_noise_is_recommended() {
        let rows = [row(256, 1, [4.0, 4.1, 4.2]), row(512, 1, [4.9, 5.0, 5.1]), row(1024, 4, [5.0, 5.2, 5.3])];
        let (chosen, within_noise) = recommend(&rows).unwrap();
        assert_eq!((chosen.width, within_noise), (512, true));
        let rows = [row(256, 1, [4.0, 4.1, 4.2]), row(512, 1, [5.9, 6.0, 6.1])];
        let (chosen, within_noise) = recommend(&rows).unwrap();
        assert_eq!((chosen.width, within_noise), (512, false));
        assert_eq!(options(chosen, 2, false), "--tile-size 512");
        assert_eq!(options(chosen, 8, false), "--tile-size 512 --threads 2");
        assert_eq!(options(chosen, 2, true), "");
    }
}
