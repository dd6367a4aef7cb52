//! `onnxsegment run` and `onnxsegment pipeline`: what they write, what they say, and how they end.

mod scenes;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gdal::vector::LayerAccess;
use gdal::{Dataset, Metadata};
use gst::prelude::*;
use scenes::*;
use serde_json::Value;

/// A raster of another size: the scene's pixels, over and over.
fn large(folder: &Folder, name: &str, side: usize) {
    let driver = gdal::DriverManager::get_driver_by_name("GTiff").unwrap();
    let dataset = driver.create_with_band_type::<u8, _>(folder.path(name), side, side, 3).unwrap();
    for band in 0..3 {
        let data = (0..side * side).map(|k| colour(k % side % WIDTH, k / side % HEIGHT)[band]).collect();
        let mut pixels = gdal::raster::Buffer::new((side, side), data);
        dataset.rasterband(band + 1).unwrap().write((0, 0), (side, side), &mut pixels).unwrap();
    }
}

fn labels(folder: &Folder, name: &str) -> Vec<u8> {
    let dataset = Dataset::open(folder.path(name)).unwrap();
    let band = dataset.rasterband(1).unwrap();
    band.read_band_as::<u8>().unwrap().data().to_vec()
}

fn ran(folder: &Folder, line: &str) -> String {
    let ran = folder.run("run", line);
    let error = text(&ran.stderr);
    assert!(ran.status.success(), "{line}: {error}");
    error
}

fn refused(folder: &Folder, line: &str) -> (Option<i32>, String) {
    let before = folder.files();
    let ran = folder.run("run", line);
    assert_eq!(folder.files(), before, "{line} left something behind");
    (ran.status.code(), text(&ran.stderr))
}

#[test]
fn a_raster_becomes_a_mask_and_a_picture_of_the_same_labels() {
    let folder = Folder::new("run-mask");
    let said = ran(
        &folder,
        "scene.tif -o mask.tif -m %/sigmoid.onnx --tta flips --tile-size 32 --overlap 8 --size-multiple 4",
    );
    assert!(said.contains("mask.tif: 0.01 MP in 0:0") && said.contains("cpu"), "{said}");
    ran(&folder, "scene.tif -o mask.png -m %/sigmoid.onnx --tta flips --tile-size 32 --overlap 8 --size-multiple 4");
    let mask = labels(&folder, "mask.tif");
    assert!(mask.contains(&0) && mask.contains(&1));
    assert_eq!(mask, labels(&folder, "mask.png"));
    assert!(
        folder.files().iter().all(|name| !name.starts_with('.') && !name.ends_with(".parts")),
        "{:?}",
        folder.files()
    );
}

#[test]
fn options_are_the_elements_properties() {
    let folder = Folder::new("run-options");
    ran(
        &folder,
        "scene.tif -o plain.tif -m %/sigmoid.onnx %/logit1-meta.onnx --weights 1,3 --window 8,4,40,30 --cog false \
                  --probability-location p.tif --uncertainty-location u.tif --uncertainty-kind variance",
    );
    let mask = Dataset::open(folder.path("plain.tif")).unwrap();
    assert_eq!(mask.raster_size(), (40, 30));
    assert_eq!(mask.metadata_item("ONNXSEGMENT_WEIGHTS", "").as_deref(), Some("1,3"));
    let uncertainty = Dataset::open(folder.path("u.tif")).unwrap();
    assert_eq!(uncertainty.metadata_item("ONNXSEGMENT_UNCERTAINTY", "").as_deref(), Some("variance"));
    assert_eq!(Dataset::open(folder.path("p.tif")).unwrap().raster_size(), (40, 30));
}

#[test]
fn a_folder_of_images_becomes_a_folder_of_masks() {
    let folder = Folder::new("run-folder");
    std::fs::create_dir(folder.path("images")).unwrap();
    std::fs::create_dir(folder.path("images/.hidden")).unwrap();
    for name in ["a.tif", "b.tif"] {
        std::fs::copy(folder.path("scene.tif"), folder.path("images").join(name)).unwrap();
    }
    std::fs::write(folder.path("images/notes.txt"), "no image").unwrap();
    ran(&folder, "images -o masks -m %/sigmoid.onnx");
    assert_eq!(labels(&folder, "masks/a.tif"), labels(&folder, "masks/b.tif"));
    // One mask is there: only the other is made again.
    std::fs::remove_file(folder.path("masks/a.tif")).unwrap();
    let kept = std::fs::metadata(folder.path("masks/b.tif")).unwrap().modified().unwrap();
    let said = ran(&folder, "images/*.tif -o masks -m %/sigmoid.onnx --skip-existing --format tif");
    assert!(said.contains("1 of 2 were there already"), "{said}");
    assert!(folder.path("masks/a.tif").exists());
    assert_eq!(std::fs::metadata(folder.path("masks/b.tif")).unwrap().modified().unwrap(), kept);
}

#[test]
fn what_many_images_lack_is_said_twice_at_most() {
    let folder = Folder::new("run-warned");
    std::fs::create_dir(folder.path("images")).unwrap();
    for name in ["a.tif", "b.tif", "c.tif", "d.tif"] {
        std::fs::copy(folder.path("scene.tif"), folder.path("images").join(name)).unwrap();
    }
    let said = ran(&folder, "images -o masks -m %/sigmoid.onnx");
    let told: Vec<&str> = said.lines().filter(|line| line.contains("has no coordinate reference system")).collect();
    assert_eq!(told.len(), 2, "{said}");
    assert!(told[0].contains("images/a.tif") && !told[0].contains("not said again"), "{said}");
    assert!(told[1].contains("images/b.tif") && told[1].ends_with("of which this is not said again)"), "{said}");
}

#[test]
fn one_bad_image_of_many_does_not_stop_the_others() {
    let folder = Folder::new("run-bad-one");
    std::fs::create_dir(folder.path("images")).unwrap();
    std::fs::write(folder.path("images/a.tif"), "no raster").unwrap();
    std::fs::copy(folder.path("scene.tif"), folder.path("images/b.tif")).unwrap();
    let ran = folder.run("run", "images -o masks -m %/sigmoid.onnx");
    let said = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("images/a.tif") && said.contains("1 of 2 inputs failed"), "{said}");
    assert!(folder.path("masks/b.tif").exists() && !folder.path("masks/a.tif").exists());
    // What is wrong with every image is not said for every image.
    for name in ["c.tif", "d.tif", "e.tif"] {
        std::fs::copy(folder.path("scene.tif"), folder.path("images").join(name)).unwrap();
    }
    let ran = folder.run("run", "images/b.tif images/c.tif images/d.tif images/e.tif -o none -m nosuch.onnx");
    let said = text(&ran.stderr);
    assert!(said.contains("the same error twice in a row; 2 inputs were not tried"), "{said}");
}

#[test]
fn footprints_are_those_of_the_mask() {
    let folder = Folder::new("run-footprints");
    let models = "-m %/sigmoid.onnx --threshold 0.5";
    let said = ran(&folder, &format!("scene.tif -o shapes.gpkg {models} --min-area 4"));
    assert!(said.contains("shapes.gpkg: ") && said.contains("polygon") && said.contains("its pixels"), "{said}");
    ran(&folder, &format!("scene.tif -o mask.tif {models} --probability-location p.tif"));
    let made = folder.run("footprints", "mask.tif -o again.gpkg --probability p.tif --min-area 4 --json");
    assert!(made.status.success());
    let features = |name: &str| {
        let dataset = Dataset::open(folder.path(name)).unwrap();
        let mut layer = dataset.layer(0).unwrap();
        let all = layer.features().map(|feature| {
            let index = |name| feature.field_index(name).unwrap();
            let (id, sure) = (feature.field_as_string(index("id")), feature.field_as_double(index("confidence")));
            (id.unwrap().unwrap(), sure.unwrap().unwrap(), feature.geometry().unwrap().wkt().unwrap())
        });
        all.collect::<Vec<_>>()
    };
    let found = features("shapes.gpkg");
    assert!(!found.is_empty() && found.iter().all(|(_, sure, _)| (0.5..=1.0).contains(sure)), "{found:?}");
    assert_eq!(found, features("again.gpkg"));
    // What was made on the way is gone, and the printed lines would do the same.
    assert!(!folder.path("shapes.gpkg.work").exists());
    let printed = text(&folder.run("pipeline", "scene.tif -o s.gpkg -m m.onnx --min-area 4 --orthogonalise").stdout);
    assert_eq!(
        printed.lines().last(),
        Some(
            "onnxsegment footprints s.gpkg.work/scene.tif -o s.gpkg --probability s.gpkg.work/scene.probability.tif --min-area 4 \
             --angle-tolerance 15 --orthogonalise"
        )
    );
}

#[test]
fn a_table_has_a_row_for_each_input() {
    let folder = Folder::new("run-rows");
    let said = ran(&folder, "scene.tif truth.tif -o rows.csv -m %/sigmoid.onnx --bands 1,1,1");
    assert!(said.contains("rows.csv: 2 rows"), "{said}");
    let rows = std::fs::read_to_string(folder.path("rows.csv")).unwrap();
    let names: Vec<&str> = rows.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(names, ["scene", "truth"]);
    assert!(!folder.path("rows.csv.work").exists());
    // By hand: column by column, from 1.
    ran(&folder, "scene.tif -o mask.tif -m %/sigmoid.onnx --bands 1,1,1");
    let mask = labels(&folder, "mask.tif");
    let set = |k: usize| mask[k % HEIGHT * WIDTH + k / HEIGHT] == 1;
    let mut runs: Vec<String> = Vec::new();
    let mut k = 0;
    while k < WIDTH * HEIGHT {
        let length = (k..WIDTH * HEIGHT).take_while(|k| set(*k)).count();
        if length > 0 {
            runs.extend([(k + 1).to_string(), length.to_string()]);
        }
        k += length.max(1);
    }
    assert_eq!(rows.lines().next().unwrap(), format!("scene\t{}", runs.join(" ")));
}

#[test]
fn a_video_gets_its_classes_painted_over_it() {
    let folder = Folder::new("run-video");
    gst::init().unwrap();
    let film = format!(
        "videotestsrc num-buffers=6 ! video/x-raw,width=64,height=48,framerate=5/1 ! vp8enc deadline=1 ! webmmux \
         ! filesink location={}",
        folder.path("film.webm").display()
    );
    let pipeline = gst::parse::launch(&film).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(gst::ClockTime::from_seconds(30), &[gst::MessageType::Eos, gst::MessageType::Error]);
    assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    let said = ran(&folder, "film.webm -o painted.mkv -m %/sigmoid.onnx --overlay-alpha 0.7");
    assert!(said.contains("painted.mkv: 6 frames"), "{said}");
    assert!(std::fs::metadata(folder.path("painted.mkv")).unwrap().len() > 500);
}

#[test]
fn a_page_shows_the_run() {
    let folder = Folder::new("run-report");
    ran(&folder, "scene.tif -o mask.tif -m %/sigmoid.onnx --tta hflip --uncertainty-location u.tif --report page.html");
    let page = std::fs::read_to_string(folder.path("page.html")).unwrap();
    for words in ["scene.tif", "sigmoid.onnx", "hflip", "no coordinate reference system", "data:image/"] {
        assert!(page.contains(words), "{words}");
    }
    assert!(!page.contains("src=\"http"));
    let (code, said) = refused(&folder, "scene.tif -o mask2.tif -m %/sigmoid.onnx --report nosuch/page.html");
    assert!(code == Some(1) && said.contains("nosuch/page.html cannot be written"), "{said}");
}

#[test]
fn programs_get_one_json_object_a_line() {
    let folder = Folder::new("run-json");
    let ran = folder.run("run", "scene.tif -o mask.tif -m %/sigmoid.onnx --tta hflip --json");
    assert!(ran.status.success());
    let lines: Vec<Value> = text(&ran.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let done = lines.last().unwrap();
    assert_eq!((done["event"].as_str(), done["end"].as_str()), (Some("done"), Some("finished")));
    assert_eq!((done["input"].as_str(), done["output"].as_str()), (Some("scene.tif"), Some("mask.tif")));
    assert_eq!(done["counts"]["pixels"].as_u64(), Some((WIDTH * HEIGHT) as u64));
    assert_eq!((done["counts"]["frames"].as_u64(), done["counts"]["passes"].as_u64()), (Some(1), Some(2)));
    assert_eq!(done["counts"]["provider"].as_str(), Some("cpu"));
    assert!(done["pipeline"].as_str().unwrap().starts_with("gst-launch-1.0 -e rastersrc location=scene.tif !"));
    assert!(done["warnings"][0].as_str().unwrap().contains("no coordinate reference system"));
}

#[test]
fn the_printed_pipeline_is_the_one_that_runs() {
    let folder = Folder::new("run-pipeline");
    let line = "scene.tif -o mask.tif -m %/sigmoid.onnx --threshold 0.4 --tile-size 64";
    let printed = folder.run("pipeline", line);
    assert!(printed.status.success());
    let printed = text(&printed.stdout);
    let ran = folder.run("run", &format!("{line} --json"));
    let done: Value = serde_json::from_str(text(&ran.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(printed.trim_end(), done["pipeline"].as_str().unwrap());
    assert!(printed.contains("onnxsegment model-file=") && printed.contains("threshold=0.4 ! rastersink"), "{printed}");
    // Where a folder is needed, the lines make it.
    let printed = text(&folder.run("pipeline", "scene.tif truth.tif -o masks -m %/sigmoid.onnx").stdout);
    assert_eq!(printed.lines().next(), Some("mkdir -p masks"));
    assert_eq!(printed.lines().count(), 3);
}

#[test]
fn a_shard_ends_with_a_code_of_its_own_until_the_last_one_finishes() {
    let folder = Folder::new("run-shards");
    large(&folder, "in.tif", 300);
    let line = "in.tif -o mask.tif -m %/sigmoid.onnx --tile-size 64 --overlap 16 --size-multiple 8 --part-size 64,64";
    let ran = folder.run("run", &format!("{line} --shard 1/2"));
    let said = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(3), "{said}");
    assert!(said.contains("13 of 25 parts are in mask.tif.parts") || said.contains("12 of 25 parts"), "{said}");
    assert!(!folder.path("mask.tif").exists());
    let ran = folder.run("run", &format!("{line} --shard 2/2"));
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    assert!(folder.path("mask.tif").exists() && !folder.path("mask.tif.parts").exists());
}

#[test]
fn ctrl_c_keeps_the_parts_and_the_same_command_goes_on_to_the_same_pixels() {
    let folder = Folder::new("run-interrupted");
    large(&folder, "in.tif", 1500);
    let models = root("models/fold0.onnx").display().to_string();
    let line = |output: &str| {
        format!("in.tif -o {output} -m {models} --tile-size 96 --overlap 32 --part-size 256,64 --threads 1")
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_onnxsegment"));
    child.current_dir(folder.path("")).arg("run").args(line("mask.tif").split_whitespace()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    let parts = || std::fs::read_dir(folder.path("mask.tif.parts")).map_or(0, |entries| entries.count());
    let begin = Instant::now();
    while parts() < 8 {
        assert!(begin.elapsed() < Duration::from_secs(60), "no part comes");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The shell's own: a bare system has no other.
    assert!(Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("Ctrl-C again stops at once"), "{said}");
    assert!(said.contains("parts are in mask.tif.parts; run the same command again"), "{said}");
    assert!(!folder.path("mask.tif").exists());
    let resumed = folder.run("run", &format!("{} --json", line("mask.tif")));
    let done: Value = serde_json::from_str(text(&resumed.stdout).lines().last().unwrap()).unwrap();
    assert!(done["counts"]["parts_resumed"].as_u64().unwrap() >= 6, "{done}");
    ran(&folder, &line("whole.tif"));
    assert!(labels(&folder, "mask.tif") == labels(&folder, "whole.tif"));
}

#[test]
fn what_cannot_be_done_is_said_in_one_line_and_leaves_nothing() {
    let folder = Folder::new("run-refused");
    for (line, words) in [
        ("scene.tif -o mask.tif", &["no model is named", "-m MODEL.onnx"][..]),
        ("nosuch.tif -o mask.tif -m %/sigmoid.onnx", &["nosuch.tif"]),
        ("scene.tif -o mask.tif -m nosuch.onnx", &["nosuch.onnx"]),
        ("scene.tif -o nosuch/mask.png -m %/sigmoid.onnx", &["no folder nosuch"]),
        ("scene.tif -o nosuch/mask.tif -m %/sigmoid.onnx", &["nosuch"]),
        ("scene.tif -o mask.jpg -m %/sigmoid.onnx", &[".jpg", ".tif or .png"]),
        ("scene.tif -o scene.tif -m %/sigmoid.onnx", &["is the input itself"]),
        ("scene.tif truth.tif -o mask.tif -m %/sigmoid.onnx", &["gdalbuildvrt"]),
        ("scene.tif -o mask.png -m %/sigmoid.onnx --cog false", &["--cog is a setting of rastersink"]),
        ("scene.tif -o mask.tif -m %/sigmoid.onnx --tta spin", &["tta=spin", "d4"]),
        ("scene.tif -o mask.tif -m %/sigmoid.onnx --min-area 4", &["--min-area is for footprints"]),
        ("scene.tif -o mask.tif -m %/sigmoid.onnx --class 2", &["--class is for run-length rows"]),
        ("scene.tif -o nosuch/s.gpkg -m %/sigmoid.onnx", &["nosuch/s.gpkg cannot be written"]),
    ] {
        let (code, said) = refused(&folder, line);
        assert_eq!(code, Some(1), "{line}: {said}");
        assert!(said.starts_with("onnxsegment: ") && words.iter().all(|word| said.contains(word)), "{line}: {said}");
    }
    let (code, said) = refused(&folder, "scene.tif -o mask.tif -m %/sigmoid.onnx --merge median");
    assert_eq!(code, Some(2));
    assert!(said.contains("gmean"), "{said}");
}
