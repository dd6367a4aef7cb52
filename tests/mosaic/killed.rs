//! Runs that are killed at any moment and go on later: the same pixels as a run that nobody disturbed.

use std::time::{Duration, Instant};

use crate::common;
use crate::raster::{Folder, Raster, texture};
use crate::{child, common::root};

/// How many kills; more for a longer test.
fn kills() -> usize {
    std::env::var("ONNXSEGMENT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

fn input(folder: &Folder) -> String {
    let path = folder.path("in.tif");
    let gone = |x: usize, y: usize| x / 90 % 4 == 2 && y / 70 % 3 == 1;
    Raster::new(3, (1100, 700), |b, x, y| if gone(x, y) { 0 } else { texture(b, x, y).max(1) }).write(
        &path,
        Some(0.0),
        false,
    );
    path
}

fn pipeline(input: &str, output: &str, source: &str, sink: &str) -> String {
    format!(
        "rastersrc location=\"{input}\" tile-size=96 overlap=32 {source} \
         ! onnxsegment model-file=\"{}\" tta=hflip \
         ! rastersink location=\"{output}.tif\" probability-location=\"{output}-p.tif\" part-size=256,64 {sink}",
        root().join("models/snap0.onnx").display(),
    )
}

type Products = (Raster<u8>, Raster<u8>);

fn products(output: &str) -> Products {
    (Raster::read(format!("{output}.tif")), Raster::read(format!("{output}-p.tif")))
}

fn same(a: &Products, b: &Products) -> bool {
    a.0.data == b.0.data && a.1.data == b.1.data
}

#[test]
fn killed_at_random_moments_and_resumed_the_pixels_are_the_same() {
    let _watchdog = common::start_for(60 + 10 * kills() as u64);
    let folder = Folder::new("killed");
    let input = input(&folder);
    let whole = folder.path("whole");
    let begin = Instant::now();
    child::run(&pipeline(&input, &whole, "", ""));
    let time = begin.elapsed();
    let expected = products(&whole);
    assert!(expected.0.data.contains(&255) && expected.0.data.contains(&1) && expected.0.data.contains(&0));

    let (mut killed, mut finished) = (0, 0);
    while killed < kills() {
        let output = folder.path(&format!("killed-{finished}"));
        // Killed and resumed until it comes through, or all kills are spent.
        loop {
            let mut process = child::start(&pipeline(&input, &output, "", ""));
            let last = killed >= kills();
            if !last {
                std::thread::sleep(time.mul_f64(fastrand::f64()));
                if process.try_wait().unwrap().is_none() {
                    process.kill().unwrap();
                    process.wait().unwrap();
                    killed += 1;
                    continue;
                }
            }
            let ended = process.wait_with_output().unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            break;
        }
        assert!(same(&products(&output), &expected), "after {killed} kills");
        assert!(!std::path::Path::new(&format!("{output}.tif.parts")).exists());
        finished += 1;
    }
}

#[test]
fn holes_that_killed_shards_leave_are_filled() {
    let _watchdog = common::start_for(120);
    let folder = Folder::new("killed-shards");
    let input = input(&folder);
    let whole = folder.path("whole");
    let begin = Instant::now();
    child::run(&pipeline(&input, &whole, "", ""));
    let time = begin.elapsed();
    let output = folder.path("sharded");
    let mut shards: Vec<_> =
        (1..=4).map(|k| child::start(&pipeline(&input, &output, &format!("shard={k}/4"), "finish=false"))).collect();
    // Two are killed, at different moments.
    for shard in [1, 3] {
        std::thread::sleep(time.mul_f64(0.1 + 0.3 * fastrand::f64()));
        shards[shard].kill().unwrap();
    }
    for shard in &mut shards {
        let _ = shard.wait().unwrap();
    }
    assert!(!std::path::Path::new(&format!("{output}.tif")).exists());
    std::thread::sleep(Duration::from_millis(10));
    child::run(&pipeline(&input, &output, "", ""));
    assert!(same(&products(&output), &products(&whole)));
}
