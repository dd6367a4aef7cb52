//! Mosaics: speed beside plain ONNX Runtime, GeoDeep and MONAI; memory and time by size; a sparse raster of ten thousand
//! million pixels; runs that are killed; what blending does to the result; passes that cascades save.
//!
//! `cargo bench --bench mosaic -- [--only speed,peers,size,sparse,killed,blends,cascades] [--model FILE] [--models GLOB] [--side N] [--rounds N] [--kills N]`
//!
//! With `--models`, speed is that of an ensemble: the plain loops run every model on every tile. All else takes `--model`.
//!
//! Rasters are made from the demo scene (`make setup`) and kept in `.cache/mosaic`. Pipelines run in processes of their own, so
//! that each has its own peak of memory. The peers need `.cache/venv` as `make peers` makes it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gdal::raster::{Buffer, RasterCreationOptions};
use gdal::{Dataset, DriverManager};
use gst::prelude::*;
use gstonnxsegment::engine::onnx::{model, softmax};
use gstonnxsegment::engine::runtime::environment;
use gstonnxsegment::raster::grid::Stated;
use gstonnxsegment::raster::{Grid, Preference, Rect};
use ort::session::Session;
use ort::value::TensorRef;

const TILE: i64 = 1024;
const OVERLAP: i64 = 64;
const HOME: &str = env!("CARGO_MANIFEST_DIR");

struct Options {
    model: String,
    /// What speed is measured with, as `model-file` takes it.
    models: String,
    /// Side of the raster that speed is measured on.
    side: usize,
    rounds: usize,
    kills: usize,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|k| arguments.get(k + 1)).cloned();
    gst::init()?;
    gstonnxsegment::plugin_register_static()?;
    if let Some(pipeline) = value("--child") {
        return child(&pipeline);
    }
    std::fs::create_dir_all(cache(""))?;
    let number = |name: &str, default: usize| value(name).map_or(Ok(default), |n| n.parse());
    let model = value("--model").unwrap_or(format!("{HOME}/models/fold0.onnx"));
    let options = Options {
        models: value("--models").unwrap_or(model.clone()),
        model,
        side: number("--side", 12_000)?,
        rounds: number("--rounds", 3)?,
        kills: number("--kills", 50)?,
    };
    let only = value("--only");
    type Section = (&'static str, fn(&Options) -> Result<()>);
    let sections: [Section; 7] = [
        ("speed", speed),
        ("peers", peers),
        ("size", size),
        ("sparse", sparse),
        ("killed", killed),
        ("blends", blends),
        ("cascades", cascades),
    ];
    for (name, run) in sections {
        if only.as_ref().is_none_or(|o| o.split(',').any(|o| o == name)) {
            println!("\n## {name}\n");
            run(&options)?;
        }
    }
    Ok(())
}

// ---- pipelines in processes of their own

/// What a process tells of itself.
struct Run {
    seconds: f64,
    /// Seconds of all its threads on the processor, which other programs' load moves less.
    busy: f64,
    peak_mib: f64,
    /// Passes that ran and that were saved, where the pipeline has an element `models`.
    passes: u64,
    saved: u64,
}

/// Seconds that this process has had on the processor.
fn busy() -> Result<f64> {
    const TICKS: f64 = 100.0; // a second, as Linux tells them to programs
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').context("a name in brackets")?.1.split_whitespace();
    Ok(fields.skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()? / TICKS)
}

/// Plays a pipeline; prints how long it took and the most memory that was resident.
fn child(pipeline: &str) -> Result<()> {
    let pipeline = gst::parse::launch(pipeline)?;
    let bus = pipeline.bus().context("a pipeline")?;
    let begin = Instant::now();
    pipeline.set_state(gst::State::Playing)?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &ends).context("an end")?;
    let models = pipeline.downcast_ref::<gst::Bin>().and_then(|bin| bin.by_name("models"));
    let stats = models.map(|models| models.property::<gst::Structure>("stats"));
    let count = |name: &str| stats.as_ref().and_then(|s| s.get::<u64>(name).ok()).unwrap_or(0);
    let (passes, saved) = (count("passes"), count("passes-saved"));
    pipeline.set_state(gst::State::Null)?;
    let seconds = begin.elapsed().as_secs_f64();
    if let gst::MessageView::Error(error) = message.view() {
        anyhow::bail!("{} ({:?})", error.error(), error.debug());
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("VmHWM")?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse()?;
    let told = serde_json::json!({
        "seconds": seconds, "busy": busy()?, "peak_mib": kib / 1024.0, "passes": passes, "saved": saved,
    });
    println!("{told}");
    Ok(())
}

fn start(pipeline: &str) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.args(["--child", pipeline]).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?)
}

fn finish(process: Child) -> Result<Run> {
    let output = process.wait_with_output()?;
    ensure!(output.status.success(), "a process failed: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let told: serde_json::Value = serde_json::from_str(text.lines().last().context("no figures")?)?;
    let number = |name: &str| told[name].as_f64().context("a number");
    let count = |name: &str| told[name].as_u64().context("a count");
    Ok(Run {
        seconds: number("seconds")?,
        busy: number("busy")?,
        peak_mib: number("peak_mib")?,
        passes: count("passes")?,
        saved: count("saved")?,
    })
}

fn pipeline(input: &Path, source: &str, model: &str, sink: &str) -> String {
    format!(
        "rastersrc location=\"{}\" {source} ! onnxsegment model-file=\"{model}\" ! rastersink {sink} resume=auto",
        input.display()
    )
}

// ---- rasters

fn cache(name: &str) -> PathBuf {
    Path::new(HOME).join(".cache/mosaic").join(name)
}

/// Removes what an earlier run wrote.
fn fresh(name: &str) -> Result<PathBuf> {
    let path = cache(name);
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_dir_all(path.with_extension("tif.parts"));
    Ok(path)
}

/// The demo scene, band after band.
fn scene() -> Result<(Vec<Vec<u8>>, usize)> {
    let file = Dataset::open(Path::new(HOME).join("out/scene.tif")).context("out/scene.tif: run `make setup`")?;
    let side = file.raster_size().0;
    let bands = (1..=3).map(|k| Ok(file.rasterband(k)?.read_band_as::<u8>()?.data().to_vec()));
    Ok((bands.collect::<Result<_>>()?, side))
}

/// A new GeoTIFF of three bands, nodata 0, half-metre pixels.
fn create(path: &Path, (width, height): (usize, usize)) -> Result<Dataset> {
    let options = RasterCreationOptions::from_iter([
        "TILED=YES",
        "BLOCKXSIZE=512",
        "BLOCKYSIZE=512",
        "COMPRESS=DEFLATE",
        "ZLEVEL=1",
        "PREDICTOR=2",
        "INTERLEAVE=PIXEL",
        "SPARSE_OK=TRUE",
        "BIGTIFF=IF_SAFER",
        "PHOTOMETRIC=RGB",
    ]);
    let driver = DriverManager::get_driver_by_name("GTiff")?;
    let mut file = driver.create_with_band_type_with_options::<u8, _>(path, width, height, 3, &options)?;
    file.set_spatial_ref(&gdal::spatial_ref::SpatialRef::from_epsg(32616)?)?;
    file.set_geo_transform(&[733_601.0, 0.5, 0.0, 3_725_139.0, 0.0, -0.5])?;
    for k in 1..=3 {
        file.rasterband(k)?.set_no_data_value(Some(0.0))?;
    }
    Ok(file)
}

/// Writes the demo scene, repeated and mirrored so that it goes on without a step, into a window of a raster.
fn fill(file: &Dataset, window: Rect) -> Result<()> {
    const STRIP: i64 = 512;
    let (scene, side) = scene()?;
    let fold = |k: i64| {
        let k = k as usize % (2 * side);
        if k < side { k } else { 2 * side - 1 - k }
    };
    let width = window.width as usize;
    for top in (window.y..window.bottom()).step_by(STRIP as usize) {
        let rows = STRIP.min(window.bottom() - top);
        for (k, pixels) in scene.iter().enumerate() {
            let row = |y: i64| (window.x..window.right()).map(move |x| pixels[fold(y) * side + fold(x)]);
            let data: Vec<u8> = (top..top + rows).flat_map(row).collect();
            let size = (width, rows as usize);
            file.rasterband(k + 1)?.write((window.x as isize, top as isize), size, &mut Buffer::new(size, data))?;
        }
    }
    Ok(())
}

/// The demo scene repeated to a size, made once.
fn repeated(width: usize, height: usize) -> Result<PathBuf> {
    let path = cache(&format!("scene-{width}x{height}.tif"));
    if !path.exists() {
        let new = cache("new.tif");
        let file = create(&new, (width, height))?;
        fill(&file, Rect::new(0, 0, width as i64, height as i64))?;
        file.close()?;
        std::fs::rename(&new, &path)?;
    }
    Ok(path)
}

fn labels(path: &Path) -> Result<Vec<u8>> {
    Ok(Dataset::open(path)?.rasterband(1)?.read_band_as::<u8>()?.data().to_vec())
}

/// Share of labels that are the same.
fn agreement(a: &Path, b: &Path) -> Result<f64> {
    let (a, b) = (labels(a)?, labels(b)?);
    ensure!(a.len() == b.len(), "rasters of different sizes");
    Ok(a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64)
}

// ---- speed

fn tiles() -> String {
    format!("tile-size={TILE} overlap={OVERLAP}")
}

/// The sizes of all tiles of the square raster.
fn areas(options: &Options) -> Result<Vec<(usize, usize)>> {
    let side = options.side as i64;
    let stated = Stated { tile: Some(TILE), overlap: Some(OVERLAP) };
    let grid = Grid::fit(side, side, stated, &Preference { multiple: 16, ..Preference::default() })?;
    let area = |k| grid.tile(k).area;
    Ok((0..grid.count()).map(|k| (area(k).width as usize, area(k).height as usize)).collect())
}

/// Seconds on the clock, and on the processor.
type Times = (f64, f64);

/// Plain ONNX Runtime: `workers` at a time run every model on the same tiles as ready tensors, and do nothing else.
fn plain(models: &[PathBuf], areas: &[(usize, usize)], workers: usize, threads: Option<usize>) -> Result<Times> {
    let session = |model: &PathBuf| -> Result<Session> {
        // As the pipeline has it: as fast, in half the memory.
        let builder = Session::builder(environment()?)?.with_memory_pattern(false);
        let mut builder = builder.map_err(|e| anyhow::anyhow!("{e}"))?;
        if let Some(threads) = threads {
            builder = builder.with_intra_threads(threads).map_err(|e| anyhow::anyhow!("{e}"))?;
        }
        builder.commit_from_file(model).with_context(|| model.display().to_string())
    };
    let sessions = |_| models.iter().map(session).collect::<Result<Vec<Session>>>();
    let mut workers: Vec<Vec<Session>> = (0..workers).map(sessions).collect::<Result<_>>()?;
    let noise: Vec<f32> = (0..3 * TILE * TILE).map(|k| ((k * 2_654_435_761) >> 9 & 255) as f32 / 255.0).collect();
    let next = AtomicUsize::new(0);
    let (begin, before) = (Instant::now(), busy()?);
    std::thread::scope(|scope| -> Result<()> {
        let work = |sessions: &mut [Session]| -> Result<()> {
            while let Some((width, height)) = areas.get(next.fetch_add(1, Ordering::Relaxed)) {
                let shape = [1, 3, *height as i64, *width as i64];
                for session in &mut *sessions {
                    session.run(ort::inputs![TensorRef::from_array_view((shape, &noise[..3 * width * height]))?])?;
                }
            }
            Ok(())
        };
        let threads: Vec<_> = workers.iter_mut().map(|s| scope.spawn(move || work(s))).collect();
        threads.into_iter().try_for_each(|t| t.join().expect("no panic"))
    })?;
    Ok((begin.elapsed().as_secs_f64(), busy()? - before))
}

/// The models as the pipeline runs them: without the softmax that ends their graphs.
fn bare(models: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let write = |path: &PathBuf| -> Result<PathBuf> {
        let mut model = model::read(path)?;
        for output in softmax::outputs(&model) {
            softmax::remove(&mut model, &output);
        }
        let to = cache(&format!("bare-{}", name(&path.display().to_string())));
        model::write(&model, &to)?;
        Ok(to)
    };
    models.iter().map(write).collect()
}

/// Whole rasters from file to COG, beside plain ONNX Runtime on tiles of the same sizes, turn by turn.
fn speed(options: &Options) -> Result<()> {
    let raster = repeated(options.side, options.side)?;
    let areas = areas(options)?;
    let models: Vec<PathBuf> = glob::glob(&options.models)?.collect::<Result<_, _>>()?;
    ensure!(!models.is_empty(), "--models {}: no such file", options.models);
    let unique = (options.side * options.side) as f64 / 1e6;
    let inferred = areas.iter().map(|(w, h)| w * h).sum::<usize>() as f64 / 1e6;
    let cores = std::thread::available_parallelism()?.get();
    println!(
        "{} x {} pixels, {}, {cores} cores, {} tiles of {TILE} pixels that overlap by {OVERLAP}: {unique:.1} million unique \
         pixels, {inferred:.1} million inferred, {:.1} % more",
        options.side,
        options.side,
        models.iter().map(|m| name(&m.display().to_string()).to_string()).collect::<Vec<_>>().join(" + "),
        areas.len(),
        100.0 * (inferred / unique - 1.0),
    );
    let bare = bare(&models)?;
    plain(&models, &areas[..4.min(areas.len())], 1, None)?; // warms up
    let (mut ratios, mut busy_ratios, mut bare_ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut rates = [const { Vec::new() }; 4];
    let mut peak = 0.0;
    for _ in 0..options.rounds {
        let a = plain(&models, &areas, 1, None)?;
        let b = plain(&models, &areas, cores, Some(1))?;
        let d = plain(&bare, &areas, cores, Some(1))?;
        let out = fresh("speed.tif")?;
        let sink = format!("location=\"{}\"", out.display());
        let c = finish(start(&pipeline(&raster, &tiles(), &options.models, &sink))?)?;
        ratios.push(a.0.min(b.0) / c.seconds);
        bare_ratios.push(d.0 / c.seconds);
        // Of these (a) spins while it waits, so (b) is what the work costs.
        busy_ratios.push(b.1 / c.busy);
        rates.iter_mut().zip([a, b, (c.seconds, c.busy), d]).for_each(|(rates, times)| rates.push(times));
        peak = c.peak_mib.max(peak);
    }
    println!("\n| | seconds | million pixels/s, inferred | unique | processor seconds |\n|---|---|---|---|---|");
    let what = [
        "(a) one session, all cores",
        "(b) one session per core",
        "(c) rastersrc ! onnxsegment ! rastersink, COG",
        "(d) as (b), the graphs without their softmax",
    ];
    for (what, times) in what.iter().zip(rates) {
        let seconds = median(times.iter().map(|t| t.0).collect());
        let busy = median(times.iter().map(|t| t.1).collect());
        println!("| {what} | {seconds:.1} | {:.2} | {:.2} | {busy:.1} |", inferred / seconds, unique / seconds);
    }
    println!("\nProcessor time, (b) / (c): **{}**", summary(&busy_ratios));
    println!("(c) / better of (a), (b): **{}**; peak memory of (c): {peak:.0} MiB", summary(&ratios));
    println!("(c) / (d): **{}**", summary(&bare_ratios));
    Ok(())
}

/// The same raster and model by GeoDeep and MONAI, with the pipeline before each.
fn peers(options: &Options) -> Result<()> {
    let python = Path::new(HOME).join(".cache/venv/bin/python");
    ensure!(python.exists(), "{}: `make peers` makes it", python.display());
    let peer = |arguments: &[&str]| -> Result<String> {
        let output = Command::new(&python)
            .arg(Path::new(HOME).join("benches/peers.py"))
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "peers.py {}: {}", arguments.join(" "), output.status);
        Ok(String::from_utf8(output.stdout)?)
    };
    let raster = repeated(options.side, options.side)?;
    let fixed = cache("fixed.onnx").display().to_string();
    peer(&["tile", &options.model, &TILE.to_string(), &fixed])?;
    let unique = (options.side * options.side) as f64 / 1e6;
    let ours = fresh("ours.tif")?;
    let sink = format!("location=\"{}\"", ours.display());
    println!(
        "| | seconds | million pixels/s | peak memory | (c) is faster by | labels as (c) has them |\n|---|---|---|---|---|---|"
    );
    let row = |what: &str, seconds: f64, peak: f64, rest: String| {
        println!("| {what} | {seconds:.1} | {:.2} | {:.0} MiB | {rest}", unique / seconds, peak);
    };
    for who in ["geodeep", "monai"] {
        fresh("ours.tif")?;
        let c = finish(start(&pipeline(&raster, &tiles(), &options.model, &sink))?)?;
        row("(c)", c.seconds, c.peak_mib, "| |".into());
        let out = fresh(&format!("{who}.tif"))?;
        let told = peer(&[who, &raster.display().to_string(), &fixed, &out.display().to_string()])?;
        let told: serde_json::Value = serde_json::from_str(told.lines().last().context("no figures")?)?;
        let (seconds, peak) = (told["seconds"].as_f64().context("seconds")?, told["peak_mib"].as_f64().unwrap_or(0.0));
        let same = agreement(&ours, &out)?;
        row(who, seconds, peak, format!("**{:.2}** | {:.2} % |", seconds / c.seconds, 100.0 * same));
    }
    Ok(())
}

// ---- memory and time

/// Peak memory and time by height, width and overlap, with a model that costs almost nothing.
fn size(_: &Options) -> Result<()> {
    let model = format!("{HOME}/tests/models/softmax2.onnx");
    let out = cache("size.tif");
    println!(
        "| width | height | tile, overlap | peak memory | seconds | processor ns per pixel |\n|---|---|---|---|---|---|"
    );
    let row = |width: usize, height: usize, overlap: usize| -> Result<()> {
        fresh("size.tif")?;
        let raster = repeated(width, height)?;
        let source = format!("tile-size=512 overlap={overlap}");
        let run = finish(start(&pipeline(&raster, &source, &model, &format!("location=\"{}\"", out.display())))?)?;
        println!(
            "| {width} | {height} | 512, {overlap} | {:.0} MiB | {:.1} | {:.0} |",
            run.peak_mib,
            run.seconds,
            run.busy * 1e9 / (width * height) as f64
        );
        Ok(())
    };
    row(512, 512, 64)?;
    for height in [2048, 4096, 8192, 16_384] {
        row(8192, height, 64)?;
    }
    for width in [4096, 16_384, 32_768] {
        row(width, 2048, 64)?;
    }
    for overlap in [128, 256] {
        row(8192, 2048, overlap)?;
        row(32_768, 2048, overlap)?;
    }
    Ok(())
}

/// 100,000 × 100,000 pixels, of which some islands have data.
fn sparse(options: &Options) -> Result<()> {
    const SIDE: i64 = 100_000;
    const ISLAND: i64 = 1500;
    let path = cache("sparse.tif");
    let islands =
        (0..24).map(|k: i64| Rect::new(k * 61_813 % (SIDE - ISLAND), k * 37_139 % (SIDE - ISLAND), ISLAND, ISLAND));
    let islands: Vec<Rect> = islands.chain([Rect::new(SIDE - ISLAND, SIDE - ISLAND, ISLAND, ISLAND)]).collect();
    if !path.exists() {
        let new = cache("new.tif");
        let file = create(&new, (SIDE as usize, SIDE as usize))?;
        islands.iter().try_for_each(|island| fill(&file, *island))?;
        file.close()?;
        std::fs::rename(&new, &path)?;
    }
    let small = cache("island.tif");
    if !small.exists() {
        let file = create(&small, (ISLAND as usize, ISLAND as usize))?;
        fill(&file, Rect::new(0, 0, ISLAND, ISLAND))?;
        file.close()?;
    }
    let run = |input: &Path, output: &str| -> Result<(Run, PathBuf)> {
        let out = fresh(output)?;
        let sink = format!("location=\"{}\"", out.display());
        Ok((finish(start(&pipeline(input, &tiles(), &options.model, &sink))?)?, out))
    };
    let frames = format!("videotestsrc num-buffers=20 ! video/x-raw,format=RGB,width={TILE},height={TILE}");
    let model = format!("{frames} ! onnxsegment model-file=\"{}\" ! fakesink", options.model);
    let model = finish(start(&model)?)?;
    let (one, _) = run(&small, "island-labels.tif")?;
    let (all, out) = run(&path, "sparse-labels.tif")?;
    println!("| | seconds | peak memory | size of the file |\n|---|---|---|---|");
    println!("| the model alone, 20 frames of {TILE} x {TILE} | {:.1} | {:.0} MiB | |", model.seconds, model.peak_mib);
    println!("| one island, {ISLAND} x {ISLAND} pixels | {:.1} | {:.0} MiB | |", one.seconds, one.peak_mib);
    let bytes = std::fs::metadata(&out)?.len() as f64 / 1e6;
    println!(
        "| {SIDE} x {SIDE} pixels with {} islands | {:.1} | {:.0} MiB | {bytes:.1} MB |",
        islands.len(),
        all.seconds,
        all.peak_mib
    );
    let file = Dataset::open(&out)?;
    let band = file.rasterband(1)?;
    let size = (ISLAND as usize, ISLAND as usize);
    for island in &islands {
        let found = band.read_as::<u8>((island.x as isize, island.y as isize), size, size, None)?;
        ensure!(found.data().iter().all(|label| *label < 2), "a pixel with data has no label");
    }
    Ok(())
}

// ---- killed

/// Killed at random moments and resumed, alone and as shards.
fn killed(options: &Options) -> Result<()> {
    let raster = repeated(3000, 2000)?;
    let command = |out: &Path, source: &str, sink: &str| {
        let sink = format!("location=\"{}\" part-size=1024,256 {sink}", out.display());
        pipeline(&raster, &format!("tile-size=512 overlap=64 {source}"), &options.model, &sink)
    };
    let whole = fresh("whole.tif")?;
    let begin = Instant::now();
    finish(start(&command(&whole, "", ""))?)?;
    let time = begin.elapsed();
    let expected = labels(&whole)?;

    let (mut kills, mut runs, mut in_parts) = (0, 0, Vec::new());
    while kills < options.kills {
        let out = fresh("killed.tif")?;
        loop {
            let mut process = start(&command(&out, "", ""))?;
            if kills < options.kills {
                std::thread::sleep(time.mul_f64(fastrand::f64()));
                if process.try_wait()?.is_none() {
                    process.kill()?;
                    process.wait()?;
                    kills += 1;
                    let parts = std::fs::read_dir(out.with_extension("tif.parts"));
                    in_parts.push(parts.map_or(0, |folder| folder.count()));
                    continue;
                }
            }
            finish(process)?;
            break;
        }
        ensure!(labels(&out)? == expected, "other pixels after {kills} kills");
        runs += 1;
    }
    in_parts.sort_unstable();
    println!(
        "{kills} kills in {runs} runs of {:.1} s: the same pixels each time. Files in the parts' folder when killed: {in_parts:?}",
        time.as_secs_f64()
    );

    let mut rounds = 0;
    for _ in 0..options.kills.div_ceil(10) {
        let out = fresh("shards.tif")?;
        let shards = (1..=4).map(|k| start(&command(&out, &format!("shard={k}/4"), "")));
        let mut shards: Vec<Child> = shards.collect::<Result<_>>()?;
        for shard in [0, 2, 3] {
            std::thread::sleep(Duration::from_secs_f64(time.as_secs_f64() * 0.4 * fastrand::f64()));
            shards[shard].kill()?;
        }
        for shard in &mut shards {
            shard.wait()?;
        }
        if !out.exists() {
            finish(start(&command(&out, "", ""))?)?;
        }
        ensure!(labels(&out)? == expected, "other pixels after killed shards");
        rounds += 1;
    }
    println!(
        "{rounds} times four shards, three of them killed, then a whole run that fills the holes: the same pixels each time."
    );
    Ok(())
}

// ---- blends

/// How far tiles are from the whole picture, by blend and overlap, and how much of a step shows where they meet.
fn blends(options: &Options) -> Result<()> {
    let border = 88;
    let (whole, side) = scores(&options.model, 900, 0, "crop")?;
    println!(
        "Scores of the demo scene by tiles of 256 pixels, against one tile of the whole scene, {border} pixels or more from the border.\n"
    );
    println!(
        "| overlap | blend | largest difference | mean | labels that differ | step where tiles meet |\n|---|---|---|---|---|---|"
    );
    for (overlap, blend) in [0, 32, 64, 128].into_iter().flat_map(|o| {
        let blends: &[&str] =
            if o == 0 { &["crop"] } else { &["crop", "linear", "hann", "gaussian", "gaussian-nnunet"] };
        blends.iter().map(move |b| (o, *b))
    }) {
        let (found, _) = scores(&options.model, 256, overlap, blend)?;
        let inner = (border..side - border).flat_map(|y| (border..side - border).map(move |x| y * side + x));
        let (mut most, mut sum, mut other, mut count) = (0f32, 0f64, 0usize, 0usize);
        for k in inner {
            let difference = (found[k] - whole[k]).abs();
            most = most.max(difference);
            sum += difference as f64;
            other += usize::from((found[k] >= 0.5) != (whole[k] >= 0.5));
            count += 1;
        }
        let step = seams(&found, &whole, side, 256 - overlap as usize, overlap as usize / 2);
        println!(
            "| {overlap} | `{blend}` | {most:.1e} | {:.1e} | {:.3} % | {step:.2} |",
            sum / count as f64,
            100.0 * other as f64 / count as f64
        );
    }
    println!(
        "\nStep: mean difference of neighbours across the lines where tiles or their overlaps begin, divided by the same of the \
         whole picture."
    );
    Ok(())
}

/// The last band of scores of the demo scene, and its side.
fn scores(model: &str, tile: i64, overlap: i64, blend: &str) -> Result<(Vec<f32>, usize)> {
    let scene = Path::new(HOME).join("out/scene.tif");
    let tile = if tile == 900 { 912 } else { tile };
    let line = format!(
        "rastersrc location=\"{}\" tile-size={tile} overlap={overlap} ! onnxsegment model-file=\"{model}\" \
         ! tilemerge blend={blend} ! raster/x-raw ! appsink name=out sync=false",
        scene.display()
    );
    let pipeline = gst::parse::launch(&line)?.downcast::<gst::Pipeline>().ok().context("a pipeline")?;
    let sink = pipeline.by_name("out").and_then(|e| e.downcast::<gst_app::AppSink>().ok()).context("an appsink")?;
    pipeline.set_state(gst::State::Playing)?;
    let sample = sink.pull_sample();
    pipeline.set_state(gst::State::Null)?;
    let sample = sample.context("a frame of scores")?;
    let s = sample.caps().and_then(|c| c.structure(0)).context("caps")?;
    let (bands, side) = (s.get::<i32>("bands")? as usize, s.get::<i32>("width")? as usize);
    let map = sample.buffer().context("a buffer")?.map_readable()?;
    let floats: Vec<f32> = map.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok((floats[(bands - 1) * side * side..].to_vec(), side))
}

fn seams(scores: &[f32], whole: &[f32], side: usize, step: usize, halo: usize) -> f64 {
    let across = |scores: &[f32]| -> f64 {
        let lines = (1..side / step + 1).flat_map(|k| [k * step - halo, k * step, k * step + halo]);
        let lines = lines.filter(|line| *line > 0 && *line < side);
        lines
            .flat_map(|line| {
                (0..side).map(move |k| {
                    let vertical = scores[k * side + line] - scores[k * side + line - 1];
                    let horizontal = scores[line * side + k] - scores[(line - 1) * side + k];
                    (vertical.abs() + horizontal.abs()) as f64
                })
            })
            .sum()
    };
    across(scores) / across(whole)
}

// ---- figures

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn summary(values: &[f64]) -> String {
    let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
    format!("{:.3} ({least:.3} to {most:.3})", median(values.to_vec()))
}

// ---- cascades

/// A square raster with the demo scene in the middle and the same wood without houses, repeated and mirrored, around it.
fn mostly_empty() -> Result<PathBuf> {
    const SIDE: usize = 2700;
    // The largest rectangle of the scene without a pixel of a building.
    const WOOD: Rect = Rect::new(100, 405, 800, 194);
    let path = cache("mostly-empty.tif");
    if path.exists() {
        return Ok(path);
    }
    let (scene, side) = scene()?;
    let truth = Dataset::open(Path::new(HOME).join("out/truth.png"))?;
    let size = (WOOD.width as usize, WOOD.height as usize);
    let wood = truth.rasterband(1)?.read_as::<u8>((WOOD.x as isize, WOOD.y as isize), size, size, None)?;
    ensure!(wood.data().iter().all(|v| *v == 0), "there is a building in the wood");
    let fold = |k: usize, from: i64, length: i64| {
        let (k, length) = (k % (2 * length as usize), length as usize);
        from as usize + if k < length { k } else { 2 * length - 1 - k }
    };
    let (first, last) = ((SIDE - side) / 2, (SIDE + side) / 2);
    let inside = |k: usize| (first..last).contains(&k);
    let at = |x: usize, y: usize| match inside(x) && inside(y) {
        true => (y - first) * side + x - first,
        false => fold(y, WOOD.y, WOOD.height) * side + fold(x, WOOD.x, WOOD.width),
    };
    let new = cache("new.tif");
    let file = create(&new, (SIDE, SIDE))?;
    for (k, pixels) in scene.iter().enumerate() {
        let data = (0..SIDE * SIDE).map(|k| pixels[at(k % SIDE, k / SIDE)]).collect();
        file.rasterband(k + 1)?.write((0, 0), (SIDE, SIDE), &mut Buffer::new((SIDE, SIDE), data))?;
    }
    file.close()?;
    std::fs::rename(&new, &path)?;
    Ok(path)
}

/// Passes that cascades save on three folds and four transforms, and the labels that this changes.
fn cascades(_: &Options) -> Result<()> {
    println!("| raster | tiles | cascade | passes | saved | labels changed | seconds | faster by |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, raster) in [("demo scene", PathBuf::from(HOME).join("out/scene.tif")), ("mostly empty", mostly_empty()?)]
    {
        for tile in [64, 128, 256] {
            let run = |cascade: &str, output: &str| -> Result<(Run, PathBuf)> {
                let out = fresh(output)?;
                let line = format!(
                    "rastersrc location=\"{}\" tile-size={tile} overlap=32 \
                     ! onnxsegment name=models model-file=\"{HOME}/models/fold*.onnx\" tta=flips cascade={cascade} \
                     ! rastersink location=\"{}\" blend=crop",
                    raster.display(),
                    out.display()
                );
                Ok((finish(start(&line)?)?, out))
            };
            let (all, whole) = run("none", "all-passes.tif")?;
            let pixels = labels(&whole)?.len() as f64;
            println!("| {name} | {tile} | none | {} | | | {:.1} | |", all.passes, all.seconds);
            for cascade in ["exact", "confident"] {
                let (run, out) = run(cascade, "cascade.tif")?;
                let changed = ((1.0 - agreement(&whole, &out)?) * pixels).round();
                println!(
                    "| {name} | {tile} | {cascade} | {} | {:.1} % | {changed} of {pixels} | {:.1} | {:.2} |",
                    run.passes,
                    100.0 * run.saved as f64 / (run.passes + run.saved) as f64,
                    run.seconds,
                    all.seconds / run.seconds,
                );
            }
        }
    }
    Ok(())
}
