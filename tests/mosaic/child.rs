//! Pipelines in a process of their own: to be killed, or to have their memory measured.

use std::process::{Child, Command, Stdio};

use gst::prelude::*;

use crate::common;

const PIPELINE: &str = "ONNXSEGMENT_TEST_PIPELINE";

/// Starts a pipeline in another process of this program.
pub fn start(pipeline: &str) -> Child {
    spawn(Command::new(std::env::current_exe().unwrap()), pipeline)
}

/// The same where no file can become larger than so many KiB; what the process says.
pub fn run_on_full_disk(pipeline: &str, kib: usize) -> String {
    let mut command = Command::new("sh");
    // POSIX counts in blocks of 512 bytes. Without the trap, a signal kills who writes more.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 2 * kib);
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap());
    let output = spawn(command, pipeline).wait_with_output().unwrap();
    assert!(!output.status.success(), "it writes all the same");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn spawn(mut command: Command, pipeline: &str) -> Child {
    command
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
    if let gst::MessageView::Error(error) = message.view() {
        panic!("{}", error.error());
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("\n{}", status.lines().find(|l| l.starts_with("VmHWM:")).unwrap());
    drop(watchdog);
}
