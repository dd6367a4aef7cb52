//! `onnxsegment inspect`: what it tells of models, and what it writes.

mod scenes;
mod schemas;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use gstonnxsegment::engine::onnx::OnnxFile;
use gstonnxsegment::engine::settings::Source;
use gstonnxsegment::engine::{Ensemble, Settings};
use serde_json::{Value, json};

use scenes::{Folder, root, text};

fn inspect(folder: &Folder, line: &str) -> String {
    let output = folder.run("inspect", line);
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn as_json(folder: &Folder, line: &str) -> Value {
    serde_json::from_str(&inspect(folder, &format!("{line} --json"))).unwrap()
}

fn refused(folder: &Folder, line: &str) -> String {
    let output = folder.run("inspect", line);
    assert_eq!(output.status.code(), Some(1), "{line}: {}", text(&output.stdout));
    assert_eq!(text(&output.stdout), "", "{line}");
    text(&output.stderr)
}

fn fact(model: &Value, name: &str) -> String {
    let found = model["facts"].as_array().unwrap().iter().find(|fact| fact["name"] == name);
    found.map_or("".into(), |f| format!("{} ({})", f["value"].as_str().unwrap(), f["source"].as_str().unwrap()))
}

#[test]
fn every_fact_is_told_with_its_source() {
    let folder = Folder::new("inspect-facts");
    let told = as_json(&folder, "%/cards/beside.onnx --set threshold=0.3");
    let model = &told["models"][0];
    assert_eq!(fact(model, "std"), "58.395,57.12,57.375 (model card value_scaling)");
    assert_eq!(fact(model, "tile-overlap"), "25 % (metadata tiles_overlap)");
    assert_eq!(fact(model, "channels"), "3 (graph)");
    assert_eq!(model["gives"], "logits of 3 classes, of the input's size");
    assert_eq!(model["classes"][1], json!({"value": 1, "name": "building", "colour": "#ff8001"}));
    assert_eq!(model["inputs"], json!([{"name": "image", "type": "float32", "shape": [-1, 3, -1, -1]}]));
    assert_eq!(model["missing"], json!([]));
    let assumed: Vec<&str> = model["assumed"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
    assert!(assumed.contains(&"size-multiple") && !assumed.contains(&"scale"), "{assumed:?}");
    let cpu = json!({"name": "cpu", "available": true, "reason": null});
    assert!(told["providers"].as_array().unwrap().contains(&cpu));
    let path = root("tests/models/cards/beside.onnx");
    let run = format!("onnxsegment run IMAGE.tif -o mask.tif -m {} --threshold 0.3", path.display());
    assert_eq!(told["run"], run);
    let launch = format!(
        "gst-launch-1.0 rastersrc location=IMAGE.tif ! onnxsegment model-file={} threshold=0.3 ! rastersink location=mask.tif",
        path.display()
    );
    assert_eq!(told["gst-launch"], launch);
}

#[test]
fn a_model_that_lacks_a_fact_is_inspected_and_says_what_answers_it() {
    let folder = Folder::new("inspect-lacks");
    let told = inspect(&folder, "%/logit1.onnx");
    for part in [
        "Missing",
        "nothing says whether output",
        "--set activation=sigmoid|softmax",
        "--activation sigmoid",
        "Assumed",
    ] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    let told = as_json(&folder, "%/logit1.onnx");
    assert_eq!(told["models"][0]["missing"][0]["answer"], "activation=sigmoid|softmax|log-softmax|none");
    assert_eq!(as_json(&folder, "%/logit1.onnx --set activation=sigmoid")["models"][0]["missing"], json!([]));

    // What no setting answers is told too, with what can be seen.
    let told = as_json(&folder, "%/scalar-out.onnx");
    assert!(told["models"][0]["missing"][0]["problem"].as_str().unwrap().contains("rank 2"), "{told}");
    assert_eq!((&told["run"], &told["models"][0]["outputs"][0]["name"]), (&Value::Null, &json!("scores")));
}

#[test]
fn a_card_that_cannot_be_followed_in_one_thing_is_told_in_all_others() {
    let folder = Folder::new("inspect-card");
    let card = std::fs::read_to_string(root("tests/models/cards/card-null.json")).unwrap();
    let card = card.replace("\"value_scaling\": null", r#""value_scaling": [{"type": "clip-min", "minimum": 0}]"#);
    std::fs::write(folder.path("card.json"), card).unwrap();
    let output = folder.run("inspect", "%/cards/bare.onnx --model-card card.json --json");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("of type clip-min"), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let model = &told["models"][0];
    assert_eq!(model["missing"].as_array().unwrap().len(), 1, "{told}");
    assert!(model["missing"][0]["problem"].as_str().unwrap().contains("of type clip-min"), "{told}");
    assert_eq!(fact(model, "activation"), "softmax (model card activation)");
    assert_eq!(model["classes"][1]["name"], "building");
}

#[test]
fn a_card_that_cannot_be_read_is_an_error() {
    let folder = Folder::new("inspect-no-card");
    std::fs::write(folder.path("card.json"), "{\"type\": \"Feature\"").unwrap();
    for (card, told) in [("nowhere.json", "nowhere.json"), ("card.json", "card.json"), ("scene.tif", "scene.tif")] {
        let output = folder.run("inspect", &format!("%/softmax2.onnx --model-card {card}"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("onnxsegment: model-card=") && said.contains(told), "{said}");
        // What the model tells by itself is told all the same.
        assert!(text(&output.stdout).contains("softmax"), "{}", text(&output.stdout));
    }
}

#[test]
fn dropout_and_models_that_do_not_fit_together_are_told() {
    let folder = Folder::new("inspect-notes");
    assert!(inspect(&folder, "%/dropout.onnx").contains("has Dropout that is active when it runs: set samples"));
    let told = inspect(&folder, "%/softmax2.onnx %/softmax4.onnx");
    assert!(told.contains("cannot run together so: ") && told.contains("different numbers of classes"), "{told}");
    assert!(!told.contains("onnxsegment run"), "{told}");
}

/// The metadata of a file.
fn metadata(path: &Path) -> BTreeMap<String, String> {
    OnnxFile::read(path).unwrap().metadata.into_iter().collect()
}

#[test]
fn deepness_keys_are_read_back_by_this_program_and_by_onnx() {
    let folder = Folder::new("inspect-deepness");
    let out = folder.path("out.onnx");
    let line = "%/softmax4.onnx --set mean=120,110,100 --set std=60,50,40 --set scale=1 --set threshold=0.4 --write deepness -o out.onnx";
    let told = inspect(&folder, line);
    assert!(told.starts_with("out.onnx: 4 keys of the Deepness convention\n"), "{told}");
    let found = metadata(&out);
    let number = |key: &str| -> Vec<f64> { serde_json::from_str(&found[key]).unwrap() };
    let near = |a: Vec<f64>, b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b / 255.0).abs() < 1e-7);
    assert!(near(number("standardization_mean"), [120.0, 110.0, 100.0]), "{found:?}");
    assert!(near(number("standardization_std"), [60.0, 50.0, 40.0]), "{found:?}");
    assert_eq!((found["model_type"].as_str(), found["seg_thresh"].as_str()), ("\"Segmentor\"", "0.4"));

    // Written again from itself, it says the same; what was there under another spelling is gone.
    inspect(&folder, "%/cards/zoo-tiles-size.onnx --write deepness -o tiles.onnx");
    let tiles = metadata(&folder.path("tiles.onnx"));
    assert_eq!((tiles.get("tile_size").map(String::as_str), tiles.get("tiles_size")), (Some("128"), None));
    assert_eq!(tiles["class_names"], r#"{"0":"_background","1":"building","2":"road"}"#);
    inspect(&folder, "tiles.onnx --write deepness --in-place");
    assert_eq!(metadata(&folder.path("tiles.onnx")), tiles);
    assert_eq!(folder.files(), ["out.onnx", "scene.tif", "tiles.onnx", "truth.tif"]);

    let script = "import onnx, json, sys; m = onnx.load(sys.argv[1]); onnx.checker.check_model(m); \
                  print(json.dumps({p.key: p.value for p in m.metadata_props}))";
    let has_onnx =
        |python: &&str| Command::new(python).args(["-c", "import onnx"]).output().is_ok_and(|o| o.status.success());
    if let Some(python) = ["python3", "python"].iter().find(|python| has_onnx(python)) {
        let read = Command::new(python).args(["-c", script]).arg(&out).output().unwrap();
        let read: BTreeMap<String, String> = serde_json::from_slice(&read.stdout).unwrap();
        assert_eq!(read, found);
    }
}

#[test]
fn what_the_deepness_convention_cannot_say_is_named() {
    let folder = Folder::new("inspect-refused");
    for (line, told) in [
        ("%/logit1-meta.onnx", "activation=sigmoid (metadata activation) is still to be applied"),
        ("%/label-u8.onnx", "the output holds labels"),
        ("%/u8.onnx", "the input is not float32"),
        ("%/nhwc.onnx", "layout=nhwc"),
        ("%/softmax2.onnx --set channel-order=bgr", "channel-order=bgr"),
        ("%/softmax2.onnx --set input-range=10,200", "input-range clips"),
        ("%/multi.onnx --set output-name=main", "it takes the first output"),
    ] {
        let error = refused(&folder, &format!("{line} --write deepness -o out.onnx"));
        assert!(
            error.contains("the Deepness convention cannot say this of it: ") && error.contains(told),
            "{line}: {error}"
        );
    }
    assert!(
        refused(&folder, "%/logit1.onnx --write deepness -o out.onnx").contains("(--set activation=sigmoid|softmax")
    );
    assert!(refused(&folder, "%/softmax2.onnx --write deepness").contains("-o OUT.onnx, or say --in-place"));
    assert!(
        refused(&folder, "%/softmax2.onnx %/softmax4.onnx --write deepness -o out.onnx").contains("2 models are named")
    );
    assert!(refused(&folder, "%/softmax2.onnx --write deepness -o none/out.onnx").contains("cannot be written"));
    assert!(refused(&folder, "nowhere.onnx").contains("cannot be read"));
    assert_eq!(folder.files(), ["scene.tif", "truth.tif"]);
}

#[test]
fn an_item_that_is_written_says_what_the_model_said() {
    let folder = Folder::new("inspect-mlm");
    for name in
        ["cards/zoo-full", "cards/zoo-names", "cards/modelinfo", "cards/beside", "logit1-meta", "nhwc", "label-i64"]
    {
        let model = root(&format!("tests/models/{name}.onnx"));
        inspect(&folder, &format!("{} --write mlm -o card.json", model.display()));
        let item = serde_json::from_slice(&std::fs::read(folder.path("card.json")).unwrap()).unwrap();
        assert_eq!(schemas::faults(&item), [""; 0], "{name}");
        let facts = |card: Option<&Path>| {
            let mut settings = Settings::default();
            let mut set = |name: &str, value: &Path| {
                settings.set(name, &value.display().to_string(), Source::Property, Path::new("")).unwrap();
            };
            set("model-file", &model);
            card.iter().for_each(|card| set("model-card", card));
            let ensemble = Ensemble::load(&settings).unwrap();
            let spec = &ensemble.members()[0].spec;
            let told = spec.describe().into_iter().chain(spec.describe_card());
            // Scalings are compared as what becomes of bytes.
            let plan = ensemble.plan(scenes::FORMAT).unwrap();
            let job = ensemble.submit(&plan, scenes::frame(), false, None);
            ensemble.seal();
            let scores = job.wait().unwrap().scores.clone();
            let kept = [
                "activation",
                "class-names",
                "threshold",
                "tile-size",
                "tile-overlap",
                "resolution-cm",
                "tta",
                "colours",
            ];
            let told: Vec<_> =
                told.filter(|(name, ..)| kept.contains(name)).map(|(name, value, _)| (name, value)).collect();
            (told, scores)
        };
        let (own, scores) = facts(None);
        let (read, again) = facts(Some(&folder.path("card.json")));
        assert_eq!(read, own, "{name}");
        let worst = scores.iter().zip(&again).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{name}: {worst}");
    }
    std::fs::copy(root("tests/models/softmax2.onnx"), folder.path("m.onnx")).unwrap();
    inspect(&folder, "m.onnx --write mlm");
    assert!(folder.path("m.stac.json").exists());
    assert!(refused(&folder, "m.onnx --write mlm").contains("m.stac.json is there already"));
}
