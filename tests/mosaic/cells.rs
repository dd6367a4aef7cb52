//! Runs cut into lists of cells, as many machines do them.

use gst::prelude::*;
use serde_json::Value;

use crate::common;
use crate::raster::{Folder, Raster, texture};

/// 320 × 200 pixels in parts of 64 × 48: 5 × 5 cells. `gone` says where nothing was written.
struct Scene {
    folder: Folder,
}

impl Scene {
    /// Blocks of 64 × 48 pixels, of which those of the second column and of the last row's first three are not there.
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let is_there = |x: usize, y: usize| x / 64 != 1 && !(y >= 192 && x < 192);
        Raster::new(3, (320, 200), |b, x, y| if is_there(x, y) { texture(b, x, y).max(1) } else { 0 }).write(
            folder.path("dense.tif"),
            Some(0.0),
            false,
        );
        // Blocks in which no pixel has data become holes in the file.
        let options =
            ["-q", "-co", "TILED=YES", "-co", "BLOCKXSIZE=64", "-co", "BLOCKYSIZE=48", "-co", "SPARSE_OK=TRUE"];
        let status = std::process::Command::new("gdal_translate")
            .args(options)
            .args([folder.path("dense.tif"), folder.path("in.tif")])
            .status();
        assert!(status.expect("gdal_translate runs").success());
        Scene { folder }
    }

    fn launch(&self, source: &str, sink: &str) -> common::Pipeline {
        common::launch(&format!(
            "rastersrc name=source location={} tile-size=64 overlap=32 {source} ! onnxsegment model-file={} tta=hflip \
             ! rastersink part-size=64,48 {sink}",
            self.folder.path("in.tif"),
            common::root().join("models/snap0.onnx").display(),
        ))
    }

    fn run(&self, source: &str, output: &str) {
        self.launch(source, &format!("location={}", self.folder.path(output))).finish();
    }

    /// What `rastersrc` tells of a run.
    fn plan(&self, source: &str, output: &str) -> Value {
        let pipeline = self.launch(source, &format!("location={} finish=false", self.folder.path(output)));
        pipeline.set_state(gst::State::Playing).unwrap();
        let told = common::message(&pipeline.bus().unwrap(), "a plan", |message| {
            message.structure().is_some_and(|s| s.name() == "rastersrc-plan")
        });
        let text: String = told.structure().unwrap().get("plan").unwrap();
        let end = pipeline.bus().unwrap().timed_pop_filtered(common::LONG, &[gst::MessageType::Eos]);
        assert!(end.is_some(), "the pipeline ends");
        serde_json::from_str(&text).unwrap()
    }

    fn pixels(&self, output: &str) -> Vec<u8> {
        Raster::<u8>::read(self.folder.path(output)).data
    }

    fn is_there(&self, name: &str) -> bool {
        std::fs::exists(self.folder.path(name)).unwrap()
    }
}

#[test]
fn listed_cells_make_up_the_same_pixels_in_any_order() {
    let _watchdog = common::start_for(120);
    let scene = Scene::new("cells-listed");
    scene.run("", "whole.tif");
    for cells in ["cells=20-24,3", "cells=0-2,4-9", "cells=7-12", "cells=13-19"] {
        assert!(!scene.is_there("cells.tif"));
        scene.run(cells, "cells.tif");
    }
    assert!(scene.pixels("cells.tif") == scene.pixels("whole.tif"));
    assert!(!scene.is_there("cells.tif.parts"));
}

#[test]
fn a_run_that_is_looked_at_leaves_nothing_and_tells_what_there_is_to_do() {
    let _watchdog = common::start();
    let scene = Scene::new("cells-none");
    let plan = scene.plan("cells=none", "mask.tif");
    assert!(!scene.is_there("mask.tif.parts"));
    assert_eq!((&plan["cells"], &plan["done"]), (&25.into(), &serde_json::json!([])));
    assert_eq!(plan["empty"], serde_json::json!([1, 6, 11, 16, 20, 21, 22]));
    assert_eq!(plan["lattice"]["part_width"], 64);
    assert_eq!(plan["grid"]["x"]["tile"], 64);
    scene.launch("cells=3,8", &format!("location={} finish=false", scene.folder.path("mask.tif"))).finish();
    let later = scene.plan("cells=none", "mask.tif");
    assert_eq!((&later["done"], &later["identity"]), (&serde_json::json!([3, 8]), &plan["identity"]));
}

#[test]
fn a_run_that_is_begun_has_its_manifest_and_the_parts_without_data() {
    let _watchdog = common::start_for(120);
    let scene = Scene::new("cells-empty");
    scene.run("", "whole.tif");
    let plan = scene.plan("cells=empty", "mask.tif");
    assert!(scene.is_there("mask.tif.parts/manifest.json"));
    assert!(scene.is_there("mask.tif.parts/labels_r00004_c00001.none"));
    let later = scene.plan("cells=none", "mask.tif");
    assert_eq!((&later["done"], &later["empty"]), (&plan["empty"], &serde_json::json!([])));
    scene.run("", "mask.tif");
    assert!(scene.pixels("mask.tif") == scene.pixels("whole.tif"));
    // Somebody who comes when all is done.
    let last = scene.plan("cells=none", "mask.tif");
    assert_eq!(last["done"].as_array().map(Vec::len), Some(25));
}

#[test]
fn a_vrt_lists_the_parts_which_stay() {
    let _watchdog = common::start_for(120);
    let scene = Scene::new("cells-vrt");
    scene.run("", "whole.tif");
    scene.run("cells=4-24", "mask.vrt");
    scene.run("cells=0-3", "mask.vrt");
    assert!(scene.pixels("mask.vrt") == scene.pixels("whole.tif"));
    std::fs::create_dir(scene.folder.path("moved")).unwrap();
    for name in ["mask.vrt", "mask.vrt.parts"] {
        std::fs::rename(scene.folder.path(name), scene.folder.path(&format!("moved/{name}"))).unwrap();
    }
    assert!(scene.pixels("moved/mask.vrt") == scene.pixels("whole.tif"), "both can be moved together");
}

#[test]
fn each_part_is_told_of_when_it_is_there() {
    let _watchdog = common::start();
    let scene = Scene::new("cells-told");
    let pipeline = scene.launch("cells=2,6,24", &format!("location={}", scene.folder.path("mask.tif")));
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut told = Vec::new();
    let types = [gst::MessageType::Element, gst::MessageType::Eos, gst::MessageType::Error];
    while let Some(message) = pipeline.bus().unwrap().timed_pop_filtered(common::LONG, &types) {
        assert!(message.type_() != gst::MessageType::Error);
        if message.type_() == gst::MessageType::Eos {
            break;
        }
        if let Some(s) = message.structure().filter(|s| s.name() == "rastersink-part") {
            let get = |name: &str| s.get::<u64>(name).unwrap();
            told.push((get("cell"), get("pixels"), s.get::<bool>("without-data").unwrap()));
        }
    }
    told.sort_unstable();
    assert_eq!(told, [(2, 64 * 48, false), (6, 64 * 48, true), (24, 64 * 8, false)]);
}

#[test]
fn a_cell_that_is_not_there_is_refused() {
    let _watchdog = common::start();
    let scene = Scene::new("cells-refused");
    let pipeline = scene.launch("cells=3,25", &format!("location={}", scene.folder.path("mask.tif")));
    let common::End::Error(_, said) = pipeline.run() else { panic!("it runs") };
    assert_eq!(said, ["cells=3,25: there is no cell 25 among the 25 of the region"]);
    assert!(!scene.is_there("mask.tif.parts"));
}
