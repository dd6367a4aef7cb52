//! What `rastersrc` agrees on with models and sinks, and the tiles that follow from it.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstonnxsegment::elements::meta::{PlanRef, RunAnswer, RunRequest};
use gstonnxsegment::raster::{Cell, Lattice, Preference, Rect, Shard, Share};

use crate::common::Pipeline;
use crate::raster::{Folder, Raster, texture};
use crate::{Got, Known, all, check_one, common, tiles};

/// Answers plans on a pad as models and a sink would.
pub fn answer(pad: &gst::Pad, answers: impl Fn(&mut PlanRef<'_>) + Send + Sync + 'static) {
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Query(query)) = &mut info.data
            && let Some(mut plan) = PlanRef::of(query)
        {
            answers(&mut plan);
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
}

type Requests = Arc<Mutex<Vec<Option<RunRequest>>>>;

/// A pipeline whose end answers; the plans that it has got, in order.
fn planned(properties: &str, preference: Preference, run: RunAnswer) -> (Pipeline, Requests) {
    let pipeline = common::launch(&format!("rastersrc name=source {properties} ! queue ! appsink name=out sync=false"));
    let seen = Requests::default();
    let writer = seen.clone();
    answer(&pipeline.appsink("out").static_pad("sink").unwrap(), move |plan| {
        let request = plan.request();
        match &request {
            Some(_) => plan.set_answer(&run),
            None => plan.set_preference(&preference),
        }
        writer.lock().unwrap().push(request);
    });
    (pipeline, seen)
}

fn play(pipeline: &Pipeline) -> Vec<Got> {
    pipeline.set_state(gst::State::Playing).unwrap();
    common::rest(&pipeline.appsink("out")).iter().map(Got::of).collect()
}

fn lattice(part_width: i64, part_height: i64) -> RunAnswer {
    RunAnswer { lattice: Lattice { part_width, part_height }, ..RunAnswer::default() }
}

#[test]
fn two_rounds_before_the_first_tile() {
    let _watchdog = common::start();
    let folder = Folder::new("rounds");
    let path = folder.path("in.tif");
    Raster::new(3, (150, 90), |b, x, y| if x < 9 { 7 } else { texture(b, x, y).max(8) }).write(&path, Some(7.0), false);
    let models = Preference {
        fixed_width: Some(48),
        fixed_height: Some(32),
        overlap: Some(0.25),
        multiple: 16,
        fill: Some(vec![100.0, 110.0, 120.0]),
        ..Preference::default()
    };
    let window = Rect::new(20, 10, 100, 70);
    let properties = format!("location={path} window=20,10,100,70 shard=2/2");
    let (pipeline, seen) = planned(&properties, models, lattice(32, 32));
    let found = play(&pipeline);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    let request = seen[1].clone().unwrap();
    assert_eq!((request.region, &request.share), (window, &Share::Shard(Shard { index: 2, count: 2 })));
    assert_eq!(request.name, path);
    assert_eq!(request.georeference.geotransform, Some([500_000.0, 0.5, 0.0, 5_400_000.0, 0.0, -0.5]));
    let grid = request.grid;
    assert_eq!((grid.x.length, grid.y.length, grid.x.tile, grid.y.tile), (150, 90, 48, 32));
    assert_eq!((grid.x.overlap, grid.y.overlap, grid.x.fixed, grid.y.fixed), (12, 8, true, true));
    assert!(found.iter().all(|t| (t.area.width, t.area.height) == (48, 32)), "a fixed size is for every tile");
    // Invalid pixels are what the models see as nothing.
    let sample = |b, x, y| (x >= 9).then(|| texture(b, x, y).max(8) as f64);
    let fill = |b, _, _| 100.0 + 10.0 * b as f64;
    found.iter().for_each(|t| check_one(t, &Known { size: (150, 90), bands: 3, sample: &sample, fill: &fill }));
}

#[test]
fn what_makes_a_run_another_run() {
    let _watchdog = common::start();
    let folder = Folder::new("marks");
    let path = folder.path("in.tif");
    Raster::new(3, (50, 40), texture).write(&path, Some(3.0), false);
    let mark = |properties: &str| {
        let (pipeline, seen) =
            planned(&format!("location={path} {properties}"), Preference::default(), lattice(64, 64));
        play(&pipeline);
        seen.lock().unwrap()[1].clone().unwrap().source
    };
    let first = mark("");
    assert_eq!(first, mark("window=3,3,9,9 shard=1/1 cache-size=99"), "regions and means are not the source's");
    assert_eq!(first["name"], "in.tif");
    for other in ["bands=\"3,2,1\"", "nodata=4", "nodata=none", "nodata-fill=9", "resolution=2"] {
        assert_ne!(first, mark(other), "{other}");
    }
    Raster::new(3, (50, 40), |b, x, y| texture(b, x, y) / 2).write(&path, Some(3.0), false);
    assert_ne!(first, mark(""), "the file has changed");
}

/// The cells of a region in order, each cut to it.
fn cells(region: Rect, (w, h): (i64, i64), size: (i64, i64)) -> Vec<(Cell, Rect)> {
    let mut found = Vec::new();
    for row in 0..size.1 {
        for column in 0..size.0 {
            let rect = Rect::new(column * w, row * h, w, h).intersect(&region);
            if !rect.is_empty() {
                found.push((Cell { row, column }, rect));
            }
        }
    }
    found
}

#[test]
fn a_shard_sends_the_tiles_of_its_cells_that_are_not_done() {
    let _watchdog = common::start();
    let folder = Folder::new("cells");
    let path = folder.path("in.tif");
    let size = (131, 97);
    Raster::new(1, size, texture).write(&path, None, false);
    let (width, height) = (size.0 as i64, size.1 as i64);
    let sample = |b, x, y| Some(texture(b, x, y) as f64);
    let known = Known { size, bands: 1, sample: &sample, fill: &|_, _, _| 0.0 };
    // Everything that there is, by its place.
    let whole = tiles(&format!("location={path} tile-size=24 overlap=8"));
    let (step, columns) = (16, (width + 15) / 16);
    for region in [Rect::new(0, 0, width, height), Rect::new(30, 41, 57, 29), Rect::new(130, 96, 1, 1)] {
        let all = cells(region, (32, 16), (width, height));
        for shards in [1, 2, 3, 7] {
            let mut seen = Vec::new();
            for shard in 1..=shards {
                let share = &all[all.len() * (shard - 1) / shards..all.len() * shard / shards];
                for (cores, every) in [(false, 0), (true, 0), (false, 2), (false, 1)] {
                    let done: Vec<Cell> = share
                        .iter()
                        .enumerate()
                        .filter(|(k, _)| every > 0 && k % every == 0)
                        .map(|(_, c)| c.0)
                        .collect();
                    let open: Vec<Rect> = share.iter().filter(|(c, _)| !done.contains(c)).map(|c| c.1).collect();
                    let answer = RunAnswer { cores, done, ..lattice(32, 16) };
                    let r = region;
                    let properties = format!(
                        "location={path} tile-size=24 overlap=8 window={},{},{},{} shard={shard}/{shards}",
                        r.x, r.y, r.width, r.height
                    );
                    let (pipeline, _) = planned(&properties, Preference::default(), answer);
                    let found = play(&pipeline);
                    let needed = |t: &&Got| {
                        let (x, y) = (t.index as i64 % columns * step, t.index as i64 / columns * step);
                        let core = Rect::new(x, y, step, step);
                        let wide = Rect::new(x - 4, y - 4, 24, 24);
                        open.iter().any(|cell| if cores { core.touches(cell) } else { wide.touches(cell) })
                    };
                    let expected: Vec<usize> = whole.iter().filter(needed).map(|t| t.index).collect();
                    let indices: Vec<usize> = found.iter().map(|t| t.index).collect();
                    assert_eq!(indices, expected, "{region:?} {shard}/{shards} {cores} {every}");
                    for tile in &found {
                        assert_eq!((tile.area, &tile.values), (whole[tile.index].area, &whole[tile.index].values));
                    }
                    if (cores, every) == (false, 0) {
                        found.iter().for_each(|t| check_one(t, &known));
                        seen.extend(indices);
                    }
                }
            }
            seen.sort_unstable();
            seen.dedup();
            let touched = |t: &&Got| t.area.touches(&region);
            assert_eq!(seen, whole.iter().filter(touched).map(|t| t.index).collect::<Vec<_>>());
        }
    }
}

#[test]
fn nothing_left_to_do_ends_the_stream() {
    let _watchdog = common::start();
    let folder = Folder::new("nothing");
    let path = folder.path("in.tif");
    Raster::new(1, (60, 60), texture).write(&path, None, false);
    let done = vec![Cell { row: 0, column: 0 }];
    let answer = RunAnswer { done, ..lattice(64, 64) };
    let (pipeline, _) = planned(&format!("location={path}"), Preference::default(), answer);
    pipeline.finish();
    assert!(pipeline.appsink("out").try_pull_sample(gst::ClockTime::ZERO).is_none());
    // A shard beyond the last cell.
    assert!(tiles(&format!("location={path} shard=1/2")).is_empty());
}

#[test]
fn a_refused_run_sends_nothing_and_leaves_the_words_to_whoever_refused() {
    let _watchdog = common::start();
    let folder = Folder::new("refused-run");
    let path = folder.path("in.tif");
    Raster::new(1, (60, 60), texture).write(&path, None, false);
    let answer = RunAnswer { refused: true, ..lattice(64, 64) };
    let (pipeline, seen) = planned(&format!("location={path}"), Preference::default(), answer);
    let came = common::Flag::default();
    let raised = came.clone();
    let types = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pipeline.appsink("out").static_pad("sink").unwrap().add_probe(types, move |_, info| {
        // Neither a tile nor an end, which a sink would take for a whole run.
        if info.buffer().is_some() || info.event().is_some_and(|e| e.type_() == gst::EventType::Eos) {
            raised.raise();
        }
        gst::PadProbeReturn::Ok
    });
    let _ = pipeline.set_state(gst::State::Playing);
    common::until("the run is announced", || seen.lock().unwrap().len() == 2);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!came.is_up());
    assert!(common::errors(&pipeline.bus().unwrap()).is_empty());
    let _ = pipeline.set_state(gst::State::Null);
}

#[test]
fn boxes_are_in_the_rasters_coordinates() {
    let _watchdog = common::start();
    let folder = Folder::new("boxes");
    let path = folder.path("in.tif");
    Raster::new(1, (200, 100), texture).write(&path, None, false);
    let region = |properties: &str| {
        let (pipeline, seen) =
            planned(&format!("location={path} {properties}"), Preference::default(), lattice(64, 64));
        play(&pipeline);
        seen.lock().unwrap()[1].clone().unwrap().region
    };
    // Half a metre per pixel, from 500000, 5400000 to the right and down.
    assert_eq!(region("bbox=500010,5399980,500020,5399990"), Rect::new(20, 20, 20, 20));
    // A pixel that is touched counts; what lies beyond the raster does not.
    assert_eq!(region("bbox=500010.1,5399980,500019.9,5399989.9"), Rect::new(20, 20, 20, 20));
    assert_eq!(region("bbox=0,5399999.9,500000.1,9999999"), Rect::new(0, 0, 1, 1));
    assert_eq!(region("bbox=0,0,9999999,9999999"), Rect::new(0, 0, 200, 100));

    // Turned by a quarter: to the right is up.
    let mut file = gdal::Dataset::open_ex(
        &path,
        gdal::DatasetOptions { open_flags: gdal::GdalOpenFlags::GDAL_OF_UPDATE, ..Default::default() },
    )
    .unwrap();
    file.set_geo_transform(&[1000.0, 0.0, 2.0, 3000.0, 2.0, 0.0]).unwrap();
    file.close().unwrap();
    let (found, said, _) = all(&format!("location={path} bbox=1010,3020,1020,3040 tile-size=16 overlap=0"));
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(found.len(), 2, "columns 10 to 20, rows 5 to 10");
    assert_eq!(region("bbox=1010,3020,1020,3040"), Rect::new(10, 5, 10, 5));
}
