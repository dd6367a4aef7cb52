//! Model cards: numbers against `tests/golden/make_cards.py`, facts and their order of precedence, and what is refused.

use std::fs::File;
use std::path::{Path, PathBuf};

use gstonnxsegment::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};
use gstonnxsegment::engine::settings::Source;
use gstonnxsegment::engine::{Ensemble, Settings};
use ndarray::{Array3, ArrayD};
use ndarray_npy::ReadNpyExt;
use proptest::prelude::*;
use serde_json::{Value, json};

fn tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

fn model(name: &str) -> PathBuf {
    tests(&format!("models/cards/{name}.onnx"))
}

fn item(name: &str) -> Value {
    let file = tests(&format!("models/cards/card-{name}.json"));
    serde_json::from_reader(File::open(file).unwrap()).unwrap()
}

fn settings(model: &Path, more: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    let model = model.display().to_string();
    for (name, value) in [("model-file", model.as_str())].iter().chain(more) {
        settings.set(name, value, Source::Property, Path::new("")).unwrap();
    }
    settings
}

fn load(model: &Path, more: &[(&str, &str)]) -> Ensemble {
    Ensemble::load(&settings(model, more)).unwrap_or_else(|e| panic!("{}: {e}", model.display()))
}

/// A fact of the first model, as people read it: value and source.
fn fact(ensemble: &Ensemble, name: &str) -> String {
    let spec = &ensemble.members()[0].spec;
    let all = spec.describe().into_iter().chain(spec.describe_card());
    all.filter(|(known, ..)| *known == name).map(|(_, value, source)| format!("{value} ({source})")).collect()
}

/// Three planes of bytes.
struct Planar(Array3<u8>);

impl Frame for Planar {
    fn view(&self) -> FrameView<'_> {
        let (bands, height, width) = self.0.dim();
        let data = self.0.as_slice().unwrap();
        let band = |k| Band { data: &data[k * height * width..], step: 1, stride: width };
        FrameView {
            format: FrameFormat { width, height, bands, sample: Sample::U8 },
            bands: (0..bands).map(band).collect(),
        }
    }
}

fn golden<T: ReadNpyExt>(name: &str) -> T {
    T::read_npy(File::open(tests(&format!("golden/cards/{name}.npy"))).unwrap()).unwrap()
}

fn scores(ensemble: &Ensemble) -> Vec<f32> {
    let frame = Planar(golden("frame"));
    let plan = ensemble.plan(frame.view().format).unwrap();
    let job = ensemble.submit(&plan, Box::new(frame), false, None);
    ensemble.seal();
    let merged = job.wait().unwrap();
    let mut scores = Vec::new();
    merged.probability_rows(0, merged.height, &mut scores, &mut Vec::new());
    scores
}

#[test]
fn scores_equal_the_reference_without_a_flag_but_the_cards_name() {
    let cases: Vec<Value> = serde_json::from_reader(File::open(tests("golden/cards/cases.json")).unwrap()).unwrap();
    assert!(cases.len() >= 15);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let card = case["card"].as_str().map(|card| tests(&format!("models/cards/{card}")).display().to_string());
        // One pass: the reference makes no flips, and a card may ask for some.
        let mut more = vec![("tta", "none")];
        more.extend(card.as_deref().map(|card| ("model-card", card)));
        let found = scores(&load(&model(case["model"].as_str().unwrap()), &more));
        let expected: ArrayD<f32> = golden(name);
        assert_eq!(found.len(), expected.len(), "{name}");
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-5, "{name}: differs by {worst:e}");
    }
}

#[test]
fn models_of_the_deepness_zoo_say_what_they_are() {
    let of = |name: &str, facts: &[&str]| {
        let ensemble = load(&model(name), &[]);
        let found: Vec<String> = facts.iter().map(|f| fact(&ensemble, f)).collect();
        (ensemble.class_names().unwrap().join("|"), found.join("; "))
    };
    let facts = ["tile-size", "tile-overlap", "resolution-cm", "threshold", "activation"];
    let (names, told) = of("zoo-full", &facts);
    assert_eq!(names, "_background|building|road");
    assert_eq!(
        told,
        "64 (metadata tile_size); 15 % (metadata tiles_overlap); 50 (metadata resolution); 0.4 (metadata seg_thresh); \
         none (Deepness convention)"
    );
    let (names, told) = of("zoo-tiles-size", &facts[..3]);
    assert_eq!(names, "_background|building|road");
    assert_eq!(told, "128 (metadata tiles_size); 10 % (metadata tiles_overlap); 21.5 (metadata resolution)");
    assert_eq!(of("zoo-names", &[]).0, "background|farmer's field|the \"other\"");
    assert_eq!(of("zoo-outputs", &[]).0, "ground|house|water");
    let (names, told) = of("zoo-bare", &["activation", "class-names"]);
    assert_eq!(names, "none|field");
    assert_eq!(told, "none (Deepness convention); none,field (metadata class_names)");
    assert_eq!(of("zoo-one", &[]).0, "background|building");
}

#[test]
fn an_item_says_everything_and_a_property_outranks_it() {
    let card = tests("models/cards/card-z-score.json").display().to_string();
    let ensemble = load(&model("bare"), &[("model-card", &card)]);
    let expected = [
        ("activation", "softmax (model card post_processing_function)"),
        ("mean", "123.675,116.28,103.53 (model card value_scaling)"),
        ("std", "58.395,57.12,57.375 (model card value_scaling)"),
        ("scale", "1 (model card value_scaling)"),
        ("channel-order", "rgb (model card bands)"),
        ("size-multiple", "8 (model card size_multiple)"),
        ("class-names", "background,building,road (model card classification:classes)"),
        ("threshold", "0.45 (model card threshold)"),
        ("tile-size", "96 (model card tile_size)"),
        ("tile-overlap", "32 px (model card halo)"),
        ("resolution-cm", "30 (model card resolution)"),
        ("tta", "flip3 (model card tta)"),
        ("bands", "red,green,blue (model card bands)"),
        ("colours", "#000000,#ff8001,none (model card color_hint)"),
    ];
    for (name, told) in expected {
        assert_eq!(fact(&ensemble, name), told, "{name}");
    }
    assert_eq!(ensemble.passes(), 3);
    let colours = |palette: Option<&str>| {
        let palette = ensemble.palette(palette).unwrap();
        [0, 1, 2].map(|class| palette.colour(class))
    };
    assert_eq!(colours(None)[..2], [Some([0; 3]), Some([255, 128, 1])]);
    assert_ne!(colours(None)[2], None);
    assert_eq!(colours(Some("none,#0000ff"))[..2], [None, Some([0, 0, 255])]);

    let more = [
        ("model-card", card.as_str()),
        ("tta", "none"),
        ("threshold", "0.2"),
        ("mean", "0.5"),
        ("channel-order", "bgr"),
    ];
    let ensemble = load(&model("bare"), &more);
    assert_eq!(ensemble.passes(), 1);
    assert_eq!(fact(&ensemble, "channel-order"), "bgr (property)");
    // The parts of a scaling belong together: none of the item's is left beside a stated one.
    assert_eq!(fact(&ensemble, "mean"), "0.5 (property)");
    assert_eq!(fact(&ensemble, "std"), "unset (default)");
    assert_eq!(fact(&ensemble, "scale"), "255 for 8-bit frames (default)");
}

#[test]
fn the_item_beside_a_model_outranks_metadata_and_these_gstreamers_file() {
    let beside = load(&model("beside"), &[]);
    assert_eq!(fact(&beside, "tile-size"), "96 (model card tile_size)");
    assert_eq!(fact(&beside, "tile-overlap"), "25 % (metadata tiles_overlap)");
    assert_eq!(fact(&beside, "std"), "58.395,57.12,57.375 (model card value_scaling)");
    assert_eq!(beside.class_names().unwrap()[1], "building");

    let none = load(&model("beside"), &[("model-card", "none")]);
    assert_eq!(fact(&none, "tile-size"), "512 (metadata tile_size)");
    assert_eq!(fact(&none, "mean"), "0.1,0.2,0.3 (metadata standardization_mean)");
    assert_eq!(none.class_names().unwrap()[1], "the");

    let alone = load(&model("modelinfo"), &[]);
    assert_eq!(fact(&alone, "mean"), "0.5,0,0.8 (modelinfo ranges)");
    assert_eq!(fact(&load(&model("modelinfo"), &[("model-card", "none")]), "mean"), "unset (default)");
}

/// A folder with a model and what lies beside it.
fn folder(model_name: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    std::fs::copy(model(model_name), &path).unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    (folder, path)
}

#[test]
fn a_file_beside_a_model_that_is_no_item_of_a_model_is_left_alone() {
    let other = json!({"type": "Feature", "stac_extensions": [], "properties": {"datetime": null}}).to_string();
    for text in ["", "not json", "[1, 2]", "{\"epochs\": 3}", &other] {
        let (_folder, path) = folder("zoo-bare", &[("m.json", text), ("m.stac.json", text)]);
        assert_eq!(fact(&load(&path, &[]), "model-card"), "", "{text}");
    }
    let (_folder, path) = folder("bare", &[("m.json", &item("z-score").to_string())]);
    assert_eq!(fact(&load(&path, &[]), "tile-size"), "96 (model card tile_size)");
}

#[test]
fn a_configuration_file_names_a_card_for_each_model() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::copy(model("bare"), folder.path().join(format!("{name}.onnx"))).unwrap();
    }
    for name in ["z-score", "min-max"] {
        std::fs::write(folder.path().join(format!("{name}.json")), item(name).to_string()).unwrap();
    }
    let config = folder.path().join("all.toml");
    let scales = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let ensemble = Ensemble::load(&Settings::from_config(&config).unwrap()).unwrap();
        let scale = |m: &gstonnxsegment::engine::ensemble::Member| m.spec.input.scale.clone().unwrap().value;
        ensemble.members().iter().map(scale).collect::<Vec<_>>()
    };
    assert_eq!(scales("model-file = \"*.onnx\"\nmodel-card = [\"z-score.json\", \"min-max.json\"]"), [1.0, 255.0]);
    assert_eq!(scales("model-file = \"*.onnx\"\nmodel-card = \"min-max.json\""), [255.0, 255.0]);
    let members = "model-card = \"min-max.json\"\n[[member]]\nmodel-file = \"a.onnx\"\n[[member]]\nmodel-file = \"b.onnx\"\n\
                   model-card = \"z-score.json\"";
    assert_eq!(scales(members), [255.0, 1.0]);
    std::fs::write(&config, "model-file = \"*.onnx\"\nmodel-card = [\"none\", \"none\", \"none\"]").unwrap();
    let error = Ensemble::load(&Settings::from_config(&config).unwrap()).err().unwrap().to_string();
    assert!(error.starts_with("model-card=none,none,none: 3 values for 2 models"), "{error}");
}

/// What comes of an item in which something at `pointer` is another value.
fn refusal(pointer: &str, value: Value) -> String {
    let mut item = item("z-score");
    *item.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    let (folder, path) = folder("bare", &[("card.json", &item.to_string())]);
    let card = folder.path().join("card.json").display().to_string();
    Ensemble::load(&settings(&path, &[("model-card", &card)])).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn what_an_item_cannot_mean_is_named() {
    let scaling = "/properties/mlm:input/0/value_scaling";
    let input = "/properties/mlm:input/0";
    let more = "/properties/mlm:hyperparameters";
    let classes = "/properties/mlm:output/0/classification:classes";
    let expression = json!({"type": "processing", "format": "gdal-calc", "expression": "A*2"});
    let clip = json!({"type": "clip", "minimum": 0, "maximum": 5});
    let cases = [
        (scaling, json!([expression]), "value_scaling entry 0 is of type processing, which cannot be expressed"),
        (scaling, json!([{"type": "clip-min", "minimum": 0}]), "of type clip-min"),
        (scaling, json!([clip, clip, {"type": "scale", "value": 2}]), "clips some channels"),
        (scaling, json!([{"type": "z-score", "mean": 1, "stddev": 0}]), "divides by 0; expected more than 0"),
        (scaling, json!([{"type": "z-score", "mean": 1}]), "z-score, has no number `stddev`"),
        (scaling, json!([{"type": "sqrt"}]), "`sqrt`, which STAC MLM 1.5 does not have"),
        (scaling, json!([{"type": "scale", "value": 2}, {"type": "scale", "value": 2}]), "2 entries for 3 channels"),
        (scaling, json!("z-score"), "is not null or a list"),
        ("/properties/mlm:input/0/input/shape", json!([-1, 4, -1, -1]), "this is the card of another model"),
        ("/properties/mlm:input/0/input/dim_order", json!(["batch", "time", "height", "width"]), "dim_order is"),
        ("/properties/mlm:input/0/bands", json!(["red", "green"]), "names 2 bands (red,green) for 3 channels"),
        (classes, json!([{"value": 1, "name": "a"}, {"value": 3, "name": "b"}]), "the values 1, 3"),
        (classes, json!([{"name": "a"}]), "no whole number `value`"),
        ("/properties/mlm:output/0/classification:classes/1/color_hint", json!("orange"), "color_hint is `orange`"),
        (more, json!({"tile_size": 0}), "tile_size is 0; expected a whole number from 1"),
        (more, json!({"halo": -3}), "halo is -3"),
        (more, json!({"tta": "d5"}), "d5"),
        (more, json!({"tta": 4}), "tta is 4"),
        (more, json!({"activation": "relu"}), "activation is \"relu\"; expected one of none, sigmoid"),
        (more, json!({"threshold": 2}), "threshold is 2; expected a number from 0 to 1"),
        ("/stac_extensions/0", json!("https://stac-extensions.github.io/mlm/v2.0.0/schema.json"), "version 2.0.0"),
        ("/type", json!("Collection"), "is no STAC item with the MLM extension"),
        (input, json!(7), "mlm:input is not a list of objects"),
    ];
    for (pointer, value, told) in cases {
        let error = refusal(pointer, value.clone());
        assert!(error.starts_with("model-card=") && error.contains("card.json: "), "{pointer} {value}: {error}");
        assert!(error.contains(told), "{pointer} {value}: {error}");
        assert!(error.contains("set ") || error.contains("none"), "no remedy: {error}");
    }
    let error = Ensemble::load(&settings(&model("bare"), &[("model-card", "nowhere.json")])).err().unwrap().to_string();
    assert!(error.starts_with("model-card=nowhere.json: cannot be read"), "{error}");
}

#[test]
fn a_scaling_that_cannot_be_expressed_does_not_matter_where_one_is_stated() {
    let mut item = item("null");
    item["properties"]["mlm:input"][0]["pre_processing_function"] =
        json!({"format": "python", "expression": "my.prepare"});
    let (_folder, path) = folder("bare", &[("m.json", &item.to_string())]);
    let error = Ensemble::load(&settings(&path, &[])).err().unwrap().to_string();
    assert!(error.contains("my.prepare") && error.contains("set scale or input-range"), "{error}");
    assert_eq!(fact(&load(&path, &[("scale", "10")]), "scale"), "10 (property)");
}

#[test]
fn ranges_of_gstreamers_file_that_cannot_be_used_are_named() {
    for (ranges, told) in [
        ("0.0;1.0", "ranges is `0.0;1.0`; expected min,max;min,max"),
        ("1.0,0.0", "has the range 1,0; expected min,max with min < max"),
        ("0,1;0,1", "has 2 ranges for 3 channels"),
    ] {
        let text = format!("[modelinfo]\nversion=1.0\n[image]\nranges={ranges}\n");
        let (_folder, path) = folder("zoo-bare", &[("m.onnx.modelinfo", &text)]);
        let error = Ensemble::load(&settings(&path, &[])).err().unwrap().to_string();
        assert!(error.contains("m.onnx.modelinfo: [image] ") && error.contains(told), "{error}");
    }
    // Sections of other tensors, and what is no INI file, are none of its business.
    for text in ["[other]\nranges=5\n", "\u{0}\u{1}", "ranges=x"] {
        let (_folder, path) = folder("zoo-bare", &[("m.onnx.modelinfo", text)]);
        load(&path, &[]);
    }
}

proptest! {
    /// Numbers, texts and lists in the place of anything are an error or taken, and never a panic.
    #[test]
    fn any_value_anywhere_in_an_item_ends(place in any::<prop::sample::Index>(), value in prop_oneof![
        Just(Value::Null), Just(json!([])), Just(json!({})), any::<f64>().prop_map(|v| json!(v)), any::<i64>().prop_map(|v| json!(v)),
        "[a-z-]{0,6}".prop_map(Value::String), prop::collection::vec(any::<i8>(), 0..5).prop_map(|v| json!(v)),
    ]) {
        fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
            let children: Vec<(String, &Value)> = match value {
                Value::Array(list) => list.iter().enumerate().map(|(k, v)| (k.to_string(), v)).collect(),
                Value::Object(map) => map.iter().map(|(k, v)| (k.replace('/', "~1"), v)).collect(),
                _ => Vec::new(),
            };
            for (key, child) in children {
                pointers(child, format!("{at}/{key}"), all);
            }
            all.push(at);
        }
        use gstonnxsegment::engine::card::mlm;
        use gstonnxsegment::engine::spec::Port;
        let mut item = item("z-score");
        let mut all = Vec::new();
        pointers(&item["properties"], "/properties".into(), &mut all);
        *item.pointer_mut(&all[place.index(all.len())]).unwrap() = value;
        let port = |name: &str| Port { name: name.into(), element: "float32".into(), shape: vec![-1, 3, -1, -1] };
        let _ = mlm::read(Path::new("card.json"), item.to_string().as_bytes(), &[&port("image")], &[port("scores")]);
    }
}
