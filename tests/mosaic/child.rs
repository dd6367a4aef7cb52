//! Pipelines in a process of their own: to be killed, or to have their memory measured.

use std::process::{Child, Command, Stdio};

use gst::prelude::*;

use crate::common;

const PIPELINE: &str = "ONNXSEGMENT_TEST_PIPELINE";

/// Starts a pipeline in another process of this program.
pub fn start(pipeline: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::the_process", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PIPELINE, pipeline)
        // GDAL's own cache fills up to its bound, whatever this program does.
        .env("GDAL_CACHEMAX", "8")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a pipeline to its end in another process; the most memory that the process had, in MiB.
pub fn run(pipeline: &str) -> f64 {
    let output = start(pipeline).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let peak = text.lines().find_map(|l| l.split_once("VmHWM:")).expect("the process tells").1;
    peak.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
}

#[test]
#[ignore = "run by others, in a process of its own"]
fn the_process() {
    let Ok(text) = std::env::var(PIPELINE) else { return };
    let watchdog = common::start();
    let pipeline = common::launch(&text);
    pipeline.set_state(gst::State::Playing).unwrap();
    let types = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(common::LONG * 2, &types).expect("the pipeline ends");
    if message.type_() == gst::MessageType::Error {
        panic!("{message:?}");
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("\n{}", status.lines().find(|l| l.starts_with("VmHWM:")).unwrap());
    drop(watchdog);
}
