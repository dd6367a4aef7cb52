//! `rastersrc`: every pixel that it sends against another reading of the same raster, by GDAL's own tools or from the
//! pattern that the test wrote; what it agrees on with others; and what it refuses. Whole mosaics are tested elsewhere.
#![cfg(feature = "raster")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../mosaic/raster.rs"]
#[allow(dead_code)] // it is shared
mod raster;

mod blocks;
mod files;
mod nodata;
mod plan;
mod refused;
mod resampled;
mod stream;
mod tiles;

use std::process::Command;
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstonnxsegment::elements::meta::TileMeta;
use gstonnxsegment::raster::Rect;

use crate::common::Pipeline;

/// A tile as it has come.
pub struct Got {
    pub index: usize,
    pub area: Rect,
    pub gap: bool,
    /// One byte per pixel, 0 for no data.
    pub valid: Option<Vec<u8>>,
    pub caps: String,
    pub bands: usize,
    /// Band after band.
    pub values: Vec<f64>,
}

impl Got {
    pub fn of(sample: &gst::Sample) -> Got {
        let caps = sample.caps().unwrap();
        let s = caps.structure(0).unwrap();
        let size = |name: &str| s.get::<i32>(name).unwrap() as usize;
        let (width, height) = (size("width"), size("height"));
        let buffer = sample.buffer().unwrap();
        let meta = TileMeta::of(buffer, width as u32, height as u32).unwrap().expect("tiles carry their place");
        let map = buffer.map_readable().unwrap();
        let format = s.get::<&str>("format").unwrap();
        // Bands, bytes per sample, samples between pixels; rows of video are padded to 4 bytes.
        let (bands, bytes, step) = match format {
            "GRAY8" => (1, 1, 1),
            "RGB" => (3, 1, 3),
            "GRAY16_LE" => (1, 2, 1),
            "U8" => (size("bands"), 1, 1),
            "U16LE" | "I16LE" => (size("bands"), 2, 1),
            "F32LE" => (size("bands"), 4, 1),
            other => panic!("{other}"),
        };
        let video = s.name() == "video/x-raw";
        let row = if video { (width * step * bytes).next_multiple_of(4) } else { width * bytes };
        assert_eq!(map.len(), row * height * if video { 1 } else { bands }, "{caps}");
        let mut values = Vec::with_capacity(bands * width * height);
        for band in 0..bands {
            for y in 0..height {
                for x in 0..width {
                    let plane = if video { band } else { band * row * height };
                    let v = &map[plane + y * row + x * step * bytes..];
                    values.push(match format {
                        "U16LE" | "GRAY16_LE" => u16::from_le_bytes([v[0], v[1]]) as f64,
                        "I16LE" => i16::from_le_bytes([v[0], v[1]]) as f64,
                        "F32LE" => f32::from_le_bytes([v[0], v[1], v[2], v[3]]) as f64,
                        _ => v[0] as f64,
                    });
                }
            }
        }
        Got {
            index: meta.index,
            area: meta.tile().area,
            gap: buffer.flags().contains(gst::BufferFlags::GAP),
            valid: meta.valid.map(|v| v.to_vec()),
            caps: caps.to_string(),
            bands,
            values,
        }
    }
}

/// The warnings that a pipeline posts from now on.
pub fn warnings(pipeline: &Pipeline) -> Arc<Mutex<Vec<String>>> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let writer = said.clone();
    pipeline.bus().unwrap().set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Warning(w) => writer.lock().unwrap().push(w.error().message().to_string()),
            gst::MessageView::Error(e) => panic!("{}", e.error()),
            _ => {}
        }
        gst::BusSyncReply::Pass
    });
    said
}

/// Everything that `rastersrc` sends with some properties, what it warns of, and its statistics.
pub fn all(properties: &str) -> (Vec<Got>, Vec<String>, gst::Structure) {
    let pipeline = common::launch(&format!("rastersrc name=source {properties} ! appsink name=out sync=false"));
    let said = warnings(&pipeline);
    pipeline.set_state(gst::State::Playing).unwrap();
    let tiles = common::rest(&pipeline.appsink("out")).iter().map(Got::of).collect();
    let stats = pipeline.get("source").property::<gst::Structure>("stats");
    let said = said.lock().unwrap().clone();
    (tiles, said, stats)
}

pub fn tiles(properties: &str) -> Vec<Got> {
    all(properties).0
}

/// The pixel that coordinate `i` shows on a side of `n` pixels: a walk from pixel 0 that turns at both ends.
pub fn walk(i: i64, n: i64) -> usize {
    let (mut at, mut direction) = (0, 1);
    for _ in 0..i.abs() {
        if n == 1 {
            break;
        }
        if !(0..n).contains(&(at + direction)) {
            direction = -direction;
        }
        at += direction;
    }
    at as usize
}

/// A raster as the test knows it.
pub struct Known<'a> {
    pub size: (usize, usize),
    pub bands: usize,
    /// Band, column, row; `None` where this sample has no data.
    pub sample: &'a dyn Fn(usize, usize, usize) -> Option<f64>,
    /// What comes where a sample has none.
    pub fill: &'a dyn Fn(usize, usize, usize) -> f64,
}

/// Checks tiles of `tile` pixels that overlap by `overlap`, sample by sample, and that they are all that there are.
pub fn check(found: &[Got], tile: i64, overlap: i64, known: &Known<'_>) {
    let (width, height) = (known.size.0 as i64, known.size.1 as i64);
    let (step, halo) = (tile - overlap, overlap / 2);
    let columns = (width + step - 1) / step;
    assert_eq!(found.len() as i64, columns * ((height + step - 1) / step), "{width}x{height}");
    for (k, got) in found.iter().enumerate() {
        assert_eq!(got.index, k);
        check_one(got, known);
        let (x, y) = (k as i64 % columns * step - halo, k as i64 / columns * step - halo);
        let cut = |start: i64, length: i64| tile.min(length + halo - start);
        assert_eq!(got.area, Rect::new(x, y, cut(x, width), cut(y, height)), "{width}x{height}");
    }
}

/// Checks the samples of one tile.
pub fn check_one(got: &Got, known: &Known<'_>) {
    let (width, height) = (known.size.0 as i64, known.size.1 as i64);
    let a = got.area;
    let gone = |x: usize, y: usize| (0..known.bands).all(|b| (known.sample)(b, x, y).is_none());
    let inside = a.intersect(&Rect::new(0, 0, width, height));
    let mut pixels = (inside.y..inside.bottom()).flat_map(|y| (inside.x..inside.right()).map(move |x| (x, y)));
    let empty = pixels.all(|(x, y)| gone(x as usize, y as usize));
    assert_eq!(got.gap, empty, "{a:?}");
    if empty {
        return; // its pixels are nobody's
    }
    assert_eq!(got.bands, known.bands);
    let (columns, rows): (Vec<usize>, Vec<usize>) =
        ((a.x..a.right()).map(|x| walk(x, width)).collect(), (a.y..a.bottom()).map(|y| walk(y, height)).collect());
    let mut some_gone = false;
    for (j, y) in rows.iter().enumerate() {
        for (i, x) in columns.iter().enumerate() {
            let at = j * columns.len() + i;
            let lost = gone(*x, *y);
            some_gone |= lost;
            assert_eq!(got.valid.as_ref().is_some_and(|v| v[at] == 0), lost, "validity of {x}, {y} in {a:?}");
            for b in 0..known.bands {
                let expected = (known.sample)(b, *x, *y).unwrap_or_else(|| (known.fill)(b, *x, *y));
                let value = got.values[b * columns.len() * rows.len() + at];
                assert_eq!(value, expected, "band {b} of {x}, {y} in {a:?}");
            }
        }
    }
    assert_eq!(got.valid.is_some(), some_gone, "{a:?}");
}

/// Runs one of GDAL's own programs.
pub fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// All samples of a raster as `gdal_translate` writes them, without any format around them: band after band.
pub fn translated(folder: &raster::Folder, path: &str, options: &[&str]) -> Vec<f64> {
    let raw = folder.path("raw.bin");
    let arguments = ["-q", "-of", "ENVI", "-co", "INTERLEAVE=BSQ", "-ot", "Float64", path, &raw];
    tool("gdal_translate", &[&arguments[..], options].concat());
    let bytes = std::fs::read(&raw).unwrap();
    bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
}

/// Checks tiles against `gdal_translate`'s reading of a raster without gaps.
pub fn check_translated(found: &[Got], tile: i64, overlap: i64, size: (usize, usize), samples: &[f64]) {
    let area = size.0 * size.1;
    let sample = |b: usize, x: usize, y: usize| Some(samples[b * area + y * size.0 + x]);
    check(found, tile, overlap, &Known { size, bands: samples.len() / area, sample: &sample, fill: &|_, _, _| 0.0 });
}
