//! Pauses, flushes and stops at any moment of a run, also while the rasters are made.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::child;
use crate::common::{self, Pipeline};
use crate::raster::{Folder, Raster};

/// A raster that is its own mask, of pixels that do not compress.
fn noise(folder: &Folder, side: usize) -> (String, Vec<u8>) {
    let path = folder.path("noise.tif");
    let raster = Raster::new(1, (side, side), |_, x, y| {
        let h = ((x as u64) << 32 | y as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((h ^ h >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as u8 % 255
    });
    raster.write(&path, None, false);
    (path, raster.data)
}

/// Copies a raster, and takes its time to make the mask.
fn slow(source: &str, out: &str) -> Pipeline {
    common::launch(&format!(
        "rastersrc name=source location={source} tile-size=128 overlap=0 \
         ! rastersink name=sink location={out} part-size=256,128 co=COMPRESS=LZMA,LEVEL=9,NUM_THREADS=1"
    ))
}

/// Waits until the rasters are being made.
fn until_finishing(pipeline: &Pipeline) {
    common::message(&pipeline.bus().unwrap(), "finishing", |message| {
        message
            .structure()
            .is_some_and(|s| s.name() == "rastersink-progress" && s.get::<&str>("stage") == Ok("finishing"))
    });
}

fn until_eos(pipeline: &Pipeline) {
    let types = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(common::LONG, &types).expect("the pipeline ends");
    if let gst::MessageView::Error(error) = message.view() {
        panic!("{}", error.error());
    }
}

/// What lies beside the source.
fn left(folder: &Folder) -> Vec<String> {
    let names = std::fs::read_dir(folder.path("")).unwrap();
    let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "noise.tif");
    names.sort();
    names
}

#[test]
fn a_pause_while_the_rasters_are_made_is_one() {
    let _watchdog = common::start();
    let folder = Folder::new("pause");
    let (source, pixels) = noise(&folder, 1000);
    let out = folder.path("out.tif");
    let pipeline = slow(&source, &out);
    pipeline.set_state(gst::State::Playing).unwrap();
    until_finishing(&pipeline);
    let begin = Instant::now();
    pipeline.reach(gst::State::Paused);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    while pipeline.bus().unwrap().pop().is_some() {}
    std::thread::sleep(Duration::from_millis(300));
    assert!(pipeline.bus().unwrap().pop().is_none(), "it goes on while it pauses");
    assert!(!Path::new(&out).exists());
    pipeline.set_state(gst::State::Playing).unwrap();
    until_eos(&pipeline);
    assert!(Raster::<u8>::read(&out).data == pixels);
    assert_eq!(left(&folder), ["out.json", "out.tif"]);
}

#[test]
fn what_the_disk_does_not_take_is_one_error_and_the_parts_are_kept() {
    let _watchdog = common::start();
    let folder = Folder::new("full");
    let (source, pixels) = noise(&folder, 1000);
    let out = folder.path("out.tif");
    let pipeline = format!(
        "rastersrc location=\"{source}\" tile-size=128 overlap=0 ! rastersink name=sink location=\"{out}\" part-size=256,128"
    );
    // Parts are of 32 KiB, the raster of 1 MiB.
    let said = child::run_on_full_disk(&pipeline, 20);
    let problem =
        "out.tif: a part cannot be written: the file would become larger than the system allows; 0 of 32 parts";
    assert!(said.contains(problem), "{said}");
    assert_eq!(left(&folder), [""; 0], "where there are no parts there is no folder");
    let said = child::run_on_full_disk(&pipeline, 300);
    let problem = "out.tif: the file would become larger than the system allows; all parts are kept in";
    assert!(said.contains(problem), "{said}");
    assert_eq!(left(&folder), ["out.tif.parts"]);
    // Where there is room again, nothing is left to do but to finish.
    let last = common::launch(&pipeline);
    last.finish();
    assert_eq!(last.get("sink").property::<gst::Structure>("stats").get::<u64>("tiles"), Ok(0));
    assert!(Raster::<u8>::read(&out).data == pixels);
}

#[test]
fn a_stop_while_the_rasters_are_made_keeps_the_parts_and_a_paused_pipeline_makes_none() {
    let _watchdog = common::start();
    let folder = Folder::new("stop");
    let (source, pixels) = noise(&folder, 1000);
    let out = folder.path("out.tif");
    let pipeline = slow(&source, &out);
    pipeline.set_state(gst::State::Playing).unwrap();
    until_finishing(&pipeline);
    let begin = Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(left(&folder), ["out.tif.parts"]);

    // All is there but the raster: nothing is made before the pipeline plays.
    let pipeline = slow(&source, &out);
    pipeline.reach(gst::State::Paused);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(left(&folder), ["out.tif.parts"]);
    // And again in the same process, from a pause.
    pipeline.set_state(gst::State::Null).unwrap();
    pipeline.reach(gst::State::Paused);
    pipeline.set_state(gst::State::Playing).unwrap();
    until_eos(&pipeline);
    assert_eq!(pipeline.get("sink").property::<gst::Structure>("stats").get::<u64>("tiles"), Ok(0));
    assert!(Raster::<u8>::read(&out).data == pixels);
    assert_eq!(left(&folder), ["out.json", "out.tif"]);
}

#[test]
fn a_run_that_is_sought_in_is_whole_all_the_same() {
    let _watchdog = common::start();
    let folder = Folder::new("seek");
    let (source, pixels) = noise(&folder, 700);
    let out = folder.path("out.tif");
    let pipeline = common::launch(&format!(
        "rastersrc name=source location={source} tile-size=64 overlap=0 \
         ! queue max-size-buffers=2 ! rastersink name=sink location={out} part-size=256,64"
    ));
    let seen = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    pipeline.get("source").static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    // Forwards over tiles that will be lacking, in the middle of a row of parts, and back to the first.
    for (after, to) in [(20, 70), (30, 0), (50, 33), (10, 0)] {
        let goal = seen.load(Ordering::SeqCst) + after;
        common::until("tiles", || seen.load(Ordering::SeqCst) >= goal);
        let to = gst::ClockTime::from_mseconds(40 * to);
        pipeline.seek_simple(gst::SeekFlags::FLUSH, to).unwrap();
    }
    until_eos(&pipeline);
    assert!(Raster::<u8>::read(&out).data == pixels);
    assert_eq!(left(&folder), ["out.json", "out.tif"]);
}

#[test]
fn runs_that_are_stopped_at_any_moment_go_on_in_the_same_process() {
    let _watchdog = common::start();
    let folder = Folder::new("often");
    let (source, pixels) = noise(&folder, 500);
    let out = folder.path("out.tif");
    let text = format!(
        "rastersrc name=source location={source} tile-size=64 overlap=0 \
         ! queue ! rastersink name=sink location={out} part-size=128,64"
    );
    let pipeline = common::launch(&text);
    let states = [gst::State::Null, gst::State::Ready, gst::State::Paused];
    for k in 0..40 {
        pipeline.set_state(gst::State::Playing).unwrap();
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..6000)));
        pipeline.set_state(states[k % 3]).unwrap();
        if Path::new(&out).exists() {
            assert!(Raster::<u8>::read(&out).data == pixels);
            std::fs::remove_file(&out).unwrap();
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    common::launch(&text).finish();
    assert!(Raster::<u8>::read(&out).data == pixels);
    assert_eq!(left(&folder), ["out.json", "out.tif"]);
}
