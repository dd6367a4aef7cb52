//! Soups, through the library and the command line. The references are `tests/golden/make_soup.py`'s (numpy, PyTorch).
#![cfg(feature = "raster")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gstonnxsegment::engine::onnx::model::{self, tensors_mut};
use gstonnxsegment::engine::onnx::schema::tensor_proto::DataType;
use gstonnxsegment::engine::onnx::schema::{GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use gstonnxsegment::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};
use gstonnxsegment::engine::settings::{Facts, Source};
use gstonnxsegment::engine::soup::{self, Members, Soup, Tiles};
use gstonnxsegment::engine::{Ensemble, Settings};
use ndarray::Array3;
use ndarray_npy::ReadNpyExt;
use proptest::prelude::*;
use tempfile::TempDir;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Files of the golden folder of soups.
fn files(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| golden().join(format!("soup/{name}.onnx"))).collect()
}

fn members(names: &[&str]) -> Members {
    Members::read(&files(names)).unwrap()
}

/// Values of every floating-point tensor that is a weight, as raw bytes with their type and shape.
fn weights(model: &ModelProto) -> BTreeMap<String, (i32, Vec<i64>, Vec<u8>)> {
    let mut model = model.clone();
    let types = [DataType::Float, DataType::Double, DataType::Float16, DataType::Bfloat16].map(|t| t as i32);
    let mut found = BTreeMap::new();
    for tensor in tensors_mut(&mut model).into_iter().filter(|t| types.contains(&t.data_type())) {
        let name = format!("{}#{}", tensor.name(), found.len());
        found.insert(name, (tensor.data_type(), tensor.dims.clone(), tensor.raw_data().to_vec()));
    }
    found
}

fn metadata(model: &ModelProto) -> BTreeMap<&str, &str> {
    model.metadata_props.iter().map(|entry| (entry.key(), entry.value())).collect()
}

/// A picture of 8 bits, pixel after pixel.
#[derive(Clone)]
struct Picture(FrameFormat, Vec<u8>);

impl Picture {
    fn golden(name: &str) -> Self {
        let array = Array3::<u8>::read_npy(File::open(golden().join(format!("{name}.npy"))).unwrap()).unwrap();
        let (height, width, bands) = array.dim();
        Picture(FrameFormat { width, height, bands, sample: Sample::U8 }, array.into_iter().collect())
    }
}

impl Frame for Picture {
    fn view(&self) -> FrameView<'_> {
        let (bands, stride) = (self.0.bands, self.0.bands * self.0.width);
        let band = |k: usize| Band { data: &self.1[k..], step: bands, stride };
        FrameView { format: self.0, bands: (0..bands).map(band).collect() }
    }
}

/// Class 1's scores of a picture, by the engine.
fn scores(path: &Path, picture: &Picture) -> Vec<f32> {
    let mut settings = Settings::default();
    settings.set("model-file", path.to_str().unwrap(), Source::Property, Path::new("")).unwrap();
    let ensemble = Ensemble::load(&settings).unwrap();
    let plan = ensemble.plan(picture.0).unwrap();
    let job = ensemble.submit(&plan, Box::new(picture.clone()), false, None);
    ensemble.seal();
    job.wait().unwrap().scores.clone()
}

// ---- averages

#[test]
fn averages_are_those_of_numpy_in_every_type_and_place() {
    for (reference, shares) in [("mean", [1.0, 1.0, 1.0]), ("mean", [0.5, 0.5, 0.5]), ("weighted", [1.0, 2.0, 0.5])] {
        let soup = members(&["a", "b", "c"]).average(&shares).unwrap();
        let expected = weights(&model::read(&files(&[reference])[0]).unwrap());
        let found = weights(&soup.model);
        // 11 of layers, those of other types, and one in each branch of the If.
        assert_eq!(expected.len(), 17);
        let differs: Vec<_> = expected.iter().filter(|(name, value)| found.get(*name) != Some(value)).collect();
        assert!(differs.is_empty(), "{reference}: {differs:?}");
        assert_eq!(found.len(), 17);
    }
}

#[test]
fn weights_may_lie_in_a_file_beside_the_model() {
    let soup = members(&["a", "external", "c"]).average(&[1.0; 3]).unwrap();
    assert!(weights(&soup.model) == weights(&model::read(&files(&["mean"])[0]).unwrap()));
}

#[test]
fn a_member_of_weight_0_is_as_if_it_were_not_there() {
    let without = members(&["a", "c"]).average(&[1.0, 1.0]).unwrap();
    let with = members(&["a", "b", "c"]).average(&[3.0, 0.0, 3.0]).unwrap();
    assert!(with.model == without.model);
    let alone = members(&["a", "b"]).average(&[0.0, 1.0]).unwrap();
    let scores = |model: &ModelProto| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("m.onnx");
        model::write(model, &path).unwrap();
        self::scores(&path, &Picture::golden("frame-rgb-26x17"))
    };
    assert_eq!(scores(&alone.model), scores(&model::read(&files(&["b"])[0]).unwrap()));
}

#[test]
fn a_soup_runs_as_its_reference_does() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("soup.onnx");
    model::write(&members(&["a", "b", "c"]).average(&[1.0; 3]).unwrap().model, &path).unwrap();
    let picture = Picture::golden("frame-rgb-37x53");
    let found = scores(&path, &picture);
    assert_eq!(found, scores(&files(&["mean"])[0], &picture));
    assert_ne!(found, scores(&files(&["a"])[0], &picture));
}

#[test]
fn metadata_stay_where_all_agree_and_the_making_is_noted() {
    let soup = members(&["a", "b", "c"]).average(&[1.0, 2.0, 1.0]).unwrap();
    assert_eq!(soup.dropped, ["run"]);
    let metadata = metadata(&soup.model);
    assert_eq!(
        metadata.keys().copied().collect::<Vec<_>>(),
        ["class_names", "size_multiple", "soup", "validation_windows"]
    );
    assert_eq!(metadata["validation_windows"], "[[0, 0, 8, 8]]");
    let record: serde_json::Value = serde_json::from_str(metadata["soup"]).unwrap();
    let digest = gstonnxsegment::engine::onnx::OnnxFile::sha256(&files(&["b"])[0]).unwrap();
    assert_eq!(record["members"][1], serde_json::json!({"file": "b.onnx", "sha256": digest, "weight": 0.5}));
    assert_eq!(record["members"].as_array().unwrap().len(), 3);
}

#[test]
fn wrong_weights_are_refused() {
    let members = members(&["a", "b"]);
    for (weights, says) in [
        (&[1.0][..], "weights=1: 1 weight for 2 models; give one per model"),
        (&[1.0, 1.0, 1.0], "3 weights for 2 models"),
        (&[0.0, 0.0], "weights=0,0: their sum is 0"),
        (&[2.0, -1.0], "every weight must be a number of at least 0"),
        (&[f64::NAN, 1.0], "every weight must be"),
        (&[f64::INFINITY, 1.0], "every weight must be"),
        (&[f64::MAX, f64::MAX], "their sum is inf"),
    ] {
        let error = members.average(weights).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
}

// ---- models that do not fit

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn node<'a>(model: &'a mut ModelProto, operator: &str) -> &'a mut NodeProto {
    graph(model).node.iter_mut().find(|node| node.op_type() == operator).unwrap()
}

fn weight<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut TensorProto {
    graph(model).initializer.iter_mut().find(|tensor| tensor.name() == name).unwrap()
}

/// What is said of `a.onnx` and a changed `b.onnx`; `None` when they can be averaged.
fn refusal(change: impl FnOnce(&mut ModelProto)) -> Option<String> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("changed.onnx");
    let mut changed = model::read(&files(&["b"])[0]).unwrap();
    change(&mut changed);
    model::write(&changed, &path).unwrap();
    let result = Members::read(&[files(&["a"])[0].clone(), path]);
    let error = result.err()?.to_string();
    assert!(error.contains("changed.onnx: ") && error.contains("a.onnx"), "{error} names not both files");
    Some(error)
}

#[test]
fn graphs_that_differ_are_refused_by_their_first_difference() {
    type Change = fn(&mut ModelProto);
    let cases: [(Change, &str); 16] = [
        (|m| node(m, "Relu").op_type = Some("Elu".into()), "its node 2 is Elu, there Relu"),
        (|m| node(m, "Conv").attribute[0].ints[1] = 2, "attribute `pads` is [1, 2, 1, 1], there [1, 1, 1, 1]"),
        (|m| node(m, "Conv").attribute.clear(), "attribute `pads` is not stated, there it is"),
        (|m| node(m, "BatchNormalization").attribute[0].f = Some(0.5), "attribute `epsilon` is 0.5, there 0.001"),
        (|m| node(m, "Conv").domain = Some("com.example".into()), "com.example.Conv, there Conv"),
        (|m| node(m, "Mul").input[1] = "shift32".into(), "reads `shift32`, there gain32"),
        (|m| drop(node(m, "Max").input.pop()), "number of inputs of 1, there 2"),
        (|m| drop(graph(m).node.pop()), "number of nodes is 16, there 17"),
        (|m| m.opset_import[0].version = Some(17), "operator sets are ai.onnx 17, there ai.onnx 18"),
        (|m| graph(m).input[0].name = Some("picture".into()), "inputs is `picture`, there `image`"),
        (
            |m| weight(m, "head.weight").dims = vec![4, 1],
            "weight `head.weight` is float [4, 1], there float [1, 4, 1, 1]",
        ),
        (|m| weight(m, "head.weight").data_type = Some(DataType::Int32 as i32), "is int32 [1, 4, 1, 1], there float"),
        (|m| weight(m, "tilt").name = Some("slope".into()), "has no weight `tilt`"),
        (
            |m| graph(m).initializer.push(TensorProto { name: Some("more".into()), ..Default::default() }),
            "`more` besides",
        ),
        (|m| weight(m, "axis").int64_data = vec![2], "weight `axis` has other values, and being int64 it cannot be"),
        (
            |m| {
                let branch = node(m, "If").attribute.iter_mut().find(|a| a.name() == "then_branch").unwrap();
                branch.g.as_mut().unwrap().node[0].op_type = Some("Mul".into());
            },
            "attribute `then_branch` holds another graph: its node 0 is Mul, there Add",
        ),
    ];
    for (change, says) in cases {
        let error = refusal(change).expect(says);
        assert!(error.contains(says), "{error}\nlacks: {says}");
    }
}

#[test]
fn constants_in_nodes_have_to_be_equal() {
    let with = |value: f32| {
        move |m: &mut ModelProto| {
            let tensor = TensorProto {
                data_type: Some(DataType::Float as i32),
                dims: vec![1],
                name: Some(format!("constant {value}")),
                float_data: vec![value],
                ..Default::default()
            };
            let attribute = gstonnxsegment::engine::onnx::schema::AttributeProto {
                name: Some("value".into()),
                r#type: Some(gstonnxsegment::engine::onnx::schema::attribute_proto::AttributeType::Tensor as i32),
                t: Some(tensor),
                ..Default::default()
            };
            graph(m).node.push(NodeProto {
                op_type: Some("Constant".into()),
                output: vec!["constant".into()],
                attribute: vec![attribute],
                ..Default::default()
            });
        }
    };
    let folder = TempDir::new().unwrap();
    let paths = ["a", "b", "c"].map(|name| folder.path().join(format!("{name}.onnx")));
    for (path, value) in paths.iter().zip([1.0, 1.0, 2.0]) {
        let mut model = model::read(&files(&["a"])[0]).unwrap();
        with(value)(&mut model);
        model::write(&model, path).unwrap();
    }
    Members::read(&paths[..2]).unwrap();
    let error = Members::read(&paths).err().unwrap().to_string();
    assert!(error.contains("c.onnx: ") && error.contains("only weights are averaged, not constants"), "{error}");
}

#[test]
fn names_of_intermediate_values_of_nodes_and_of_free_sizes_do_not_count() {
    let none = refusal(|m| {
        let graph = graph(m);
        for node in &mut graph.node {
            node.name = Some(format!("other {}", node.op_type()));
            node.doc_string = Some("says something".into());
            for name in node.input.iter_mut().chain(&mut node.output).filter(|name| name.starts_with('t')) {
                if !["tilt", "tilt32", "tilted"].contains(&name.as_str()) {
                    *name = format!("{name}-again");
                }
            }
        }
        graph.initializer.reverse();
        graph.name = Some("another".into());
        m.producer_name = Some("another".into());
        m.ir_version = Some(9);
    });
    assert_eq!(none, None);
}

#[test]
fn files_that_are_no_models_are_named() {
    let folder = TempDir::new().unwrap();
    let text = folder.path().join("text.onnx");
    std::fs::write(&text, "no model").unwrap();
    let a = files(&["a"])[0].clone();
    for (paths, says) in [
        (vec![a.clone(), text], "text.onnx: is not an ONNX model"),
        (vec![a.clone(), folder.path().join("none.onnx")], "none.onnx: cannot be read"),
        (vec![a], "is the only model, and a soup takes at least two"),
        (vec![], "a soup takes at least two models"),
    ] {
        let error = Members::read(&paths).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_member_is_refused_or_averaged(damage in prop::collection::vec((0usize..3000, any::<u8>()), 1..4)) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("damaged.onnx");
        let mut bytes = std::fs::read(&files(&["b"])[0]).unwrap();
        damage.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        std::fs::write(&path, bytes).unwrap();
        for paths in [[files(&["a"])[0].clone(), path.clone()], [path.clone(), files(&["a"])[0].clone()]] {
            match Members::read(&paths) {
                Ok(members) => prop_assert!(members.average(&[1.0, 1.0]).is_ok()),
                Err(e) => prop_assert!(e.to_string().contains("damaged.onnx"), "{} does not name the file", e),
            }
        }
    }
}

// ---- BatchNormalization

#[derive(serde::Deserialize)]
struct Norm {
    frames: Vec<String>,
    side: usize,
    batch: usize,
    tiles: usize,
    statistics: BTreeMap<String, Vec<f64>>,
}

fn norm() -> Norm {
    serde_json::from_reader(File::open(golden().join("soup/norm.json")).unwrap()).unwrap()
}

fn average() -> Soup {
    members(&["a", "b", "c"]).average(&[1.0; 3]).unwrap()
}

fn floats(model: &mut ModelProto, name: &str) -> Vec<f32> {
    weight(model, name).raw_data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn statistics_of_batch_normalization_are_those_of_pytorch() {
    let reference = norm();
    let mut soup = average();
    let before = weights(&soup.model);
    let tiles = Tiles { side: Some(reference.side), batch: Some(reference.batch) };
    let mut normalizations = soup.normalizations(Path::new("soup"), &Facts::default(), tiles).unwrap().unwrap();
    for name in &reference.frames {
        normalizations.add(&Picture::golden(name), None).unwrap();
    }
    assert_eq!(soup.renormalize(normalizations).unwrap(), reference.tiles);
    for (name, expected) in &reference.statistics {
        for (found, expected) in floats(&mut soup.model, name).iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 2e-5 * expected.abs().max(1.0),
                "{name}: {found} {expected}"
            );
        }
    }
    let after = weights(&soup.model);
    let changed = before.iter().filter(|(name, value)| after.get(*name) != Some(value)).count();
    assert_eq!((changed, reference.statistics.len()), (4, 4), "nothing else changes");
    assert!(metadata(&soup.model)["soup"].ends_with("\"batch_norm_tiles\":15}"));
}

#[test]
fn tiles_without_data_everywhere_are_left_out() {
    let picture = Picture::golden("frame-rgb-96x96");
    let take = |valid: Option<&[u8]>| {
        let mut soup = average();
        let tiles = Tiles { side: Some(32), batch: None };
        let mut normalizations = soup.normalizations(Path::new("soup"), &Facts::default(), tiles).unwrap().unwrap();
        normalizations.add(&picture, valid).unwrap();
        soup.renormalize(normalizations)
    };
    let mut valid = vec![1; 96 * 96];
    assert_eq!(take(None).unwrap(), 9);
    valid[40 * 96 + 95] = 0;
    assert_eq!(take(Some(&valid)).unwrap(), 8);
    let error = take(Some(&vec![0; 96 * 96])).unwrap_err().to_string();
    assert!(error.contains("no tile of 32x32 pixels full of data"), "{error}");
}

#[test]
fn statistics_that_cannot_be_taken_are_refused() {
    let refused = |change: &dyn Fn(&mut ModelProto)| {
        let mut soup = average();
        change(&mut soup.model);
        soup.normalizations(Path::new("soup.onnx"), &Facts::default(), Tiles::default()).err().map(|e| e.to_string())
    };
    assert_eq!(refused(&|_| {}), None);
    let error = refused(&|m| m.opset_import[0].version = Some(13)).unwrap();
    assert!(error.contains("soup.onnx: is of operator set 13") && error.contains("from 14 on"), "{error}");
    let error = refused(&|m| node(m, "BatchNormalization").input[3] = "t1".into()).unwrap();
    assert!(error.contains("computes its statistics"), "{error}");
    let error = refused(&|m| {
        let branch = node(m, "If").attribute[0].g.as_mut().unwrap();
        branch.node.push(NodeProto { op_type: Some("BatchNormalization".into()), ..Default::default() });
    });
    assert!(error.unwrap().contains("graphs within nodes"));
}

#[test]
fn a_graph_without_batch_normalization_has_no_statistics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let soup = Members::read(&[0, 1].map(|k| root.join(format!("models/snap{k}.onnx")))).unwrap().average(&[1.0; 2]);
    let soup = soup.unwrap();
    assert!(!soup.has_batch_norm() && average().has_batch_norm());
    assert!(soup.normalizations(Path::new("soup"), &Facts::default(), Tiles::default()).unwrap().is_none());
}

// ---- the greedy recipe

proptest! {
    #[test]
    fn greedy_never_lowers_the_score(own in prop::collection::vec(0.0f64..1.0, 1..8), seed in any::<u64>()) {
        let mut asked = Vec::new();
        let mut random = fastrand::Rng::with_seed(seed);
        let trials = soup::greedy(&own, |members| {
            asked.push(members.to_vec());
            Ok::<_, ()>(random.f64())
        })
        .unwrap();
        // Every member is tried once, by falling scores.
        let order: Vec<f64> = trials.iter().map(|trial| own[trial.member]).collect();
        prop_assert!(order.is_sorted_by(|a, b| a >= b) && order.len() == own.len());
        prop_assert!(trials[0].kept && trials[0].score == order[0]);
        let mut kept = vec![trials[0].member];
        let mut best = trials[0].score;
        for (trial, asked) in trials[1..].iter().zip(&asked) {
            prop_assert_eq!(asked, &[&kept[..], &[trial.member]].concat());
            prop_assert_eq!(trial.kept, trial.score >= best);
            if trial.kept {
                best = trial.score;
                kept.push(trial.member);
            }
        }
    }
}

// ---- the command line

fn onnxsegment(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onnxsegment")).current_dir(folder).args(arguments).output().unwrap()
}

/// Fails with a sentence, and leaves nothing but `files`.
fn fails(folder: &Path, arguments: &[&str], says: &str, files: &[&str]) {
    let output = onnxsegment(folder, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("onnxsegment: ") && error.contains(says), "{error}\nlacks: {says}");
    assert_eq!(names(folder), files, "{says}");
}

fn succeeds(folder: &Path, arguments: &[&str]) -> (String, String) {
    let output = onnxsegment(folder, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    (String::from_utf8(output.stdout).unwrap(), error)
}

fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// A folder with the three members, changed.
fn folder_of_members(change: impl Fn(usize, &mut ModelProto)) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (k, path) in files(&["a", "b", "c"]).iter().enumerate() {
        let mut model = model::read(path).unwrap();
        change(k, &mut model);
        model::write(&model, &folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

const MEMBERS: [&str; 3] = ["a.onnx", "b.onnx", "c.onnx"];

fn raster(path: &Path, size: (usize, usize), bands: &[Vec<u8>]) {
    let driver = gdal::DriverManager::get_driver_by_name("GTiff").unwrap();
    let dataset = driver.create_with_band_type::<u8, _>(path, size.0, size.1, bands.len()).unwrap();
    for (k, band) in bands.iter().enumerate() {
        let mut buffer = gdal::raster::Buffer::new(size, band.clone());
        dataset.rasterband(k + 1).unwrap().write((0, 0), size, &mut buffer).unwrap();
    }
}

/// A scene, and a truth for which the soup of `b` and `c` has every pixel right.
fn scene(folder: &Path) {
    let picture = Picture::golden("frame-rgb-96x96");
    let size = (picture.0.width, picture.0.height);
    let bands: Vec<Vec<u8>> = (0..3).map(|k| picture.1.iter().skip(k).step_by(3).copied().collect()).collect();
    raster(&folder.join("scene.tif"), size, &bands);
    let soup = Members::read(&[folder.join("b.onnx"), folder.join("c.onnx")]).unwrap().average(&[1.0; 2]).unwrap();
    let own = TempDir::new().unwrap();
    model::write(&soup.model, &own.path().join("m.onnx")).unwrap();
    let scores = scores(&own.path().join("m.onnx"), &picture);
    raster(
        &folder.join("truth.tif"),
        size,
        &[scores.iter().map(|score| if *score >= 0.5 { 255 } else { 0 }).collect()],
    );
}

#[test]
fn the_command_averages_and_takes_statistics() {
    let folder = folder_of_members(|_, _| {});
    scene(folder.path());
    let (said, warned) = succeeds(folder.path(), &["soup", "?.onnx", "-o", "out.onnx", "--weights", "1,2,0.5"]);
    assert_eq!(said, "out.onnx: the average of 3 models\n");
    assert!(warned.contains("differ in `run`") && warned.contains("--images takes them anew"), "{warned}");
    let written = |name: &str| weights(&model::read(&folder.path().join(name)).unwrap());
    assert!(written("out.onnx") == weights(&model::read(&files(&["weighted"])[0]).unwrap()));

    let more = ["--images", "sc*.tif", "--tile-size", "32", "--batch-size", "4"];
    let (_, warned) = succeeds(folder.path(), &[&["soup", "?.onnx", "-o", "norm.onnx"][..], &more].concat());
    assert!(!warned.contains("BatchNormalization"), "{warned}");
    let mut soup = average();
    let tiles = Tiles { side: Some(32), batch: Some(4) };
    let mut normalizations = soup.normalizations(Path::new("soup"), &Facts::default(), tiles).unwrap().unwrap();
    normalizations.add(&Picture::golden("frame-rgb-96x96"), None).unwrap();
    soup.renormalize(normalizations).unwrap();
    assert!(written("norm.onnx") == weights(&soup.model));
}

#[test]
fn the_greedy_command_keeps_what_helps() {
    let folder = folder_of_members(|_, _| {});
    scene(folder.path());
    let more = ["--greedy", "--image", "scene.tif", "--truth", "truth.tif", "--windows", "0,0,96,40;0,40,96,56"];
    let (said, _) = succeeds(folder.path(), &[&["soup"][..], &MEMBERS, &["-o", "out.onnx"], &more].concat());
    let rows: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["model", "own", "IoU", "soup", "IoU"]);
    let kept: Vec<f64> =
        rows[1..4].iter().filter(|row| row[3] == "kept").map(|row| row[2].parse::<f64>().unwrap()).collect();
    assert!(kept.is_sorted() && kept.len() == 2 && kept[1] == 1.0, "{said}");
    assert!(said.contains("a.onnx") && said.ends_with("out.onnx: the average of 2 models\n"), "{said}");
    let bc = Members::read(&[1, 2].map(|k| folder.path().join(MEMBERS[k]))).unwrap().average(&[1.0; 2]).unwrap();
    assert!(weights(&model::read(&folder.path().join("out.onnx")).unwrap()) == weights(&bc.model));
}

#[test]
fn members_without_common_unseen_pixels_are_refused() {
    let with = |windows: [Option<&'static str>; 3]| {
        let folder = folder_of_members(|k, model| {
            model.metadata_props.retain(|entry| entry.key() != "validation_windows");
            let entry = |text: &str| StringStringEntryProto {
                key: Some("validation_windows".into()),
                value: Some(text.into()),
            };
            model.metadata_props.extend(windows[k].map(entry));
        });
        scene(folder.path());
        folder
    };
    let mut there = vec!["a.onnx", "b.onnx", "c.onnx", "scene.tif", "truth.tif"];
    let greedy = ["--greedy", "--image", "scene.tif", "--truth", "truth.tif"];
    let arguments = [&["soup"][..], &MEMBERS, &["-o", "out.onnx"], &greedy].concat();
    let [first, second, both, none] = ["[[0,0,48,96]]", "[[48,0,40,96]]", "[[0,0,96,96]]", "[[88,0,8,96]]"].map(Some);
    let folder = with([first, second, none]);
    fails(
        folder.path(),
        &arguments,
        "the models share no validation window, as folds of a cross-validation do",
        &there,
    );
    fails(folder.path(), &arguments, "--windows", &there);
    let folder = with([first, second, both]);
    fails(folder.path(), &arguments, "though a.onnx and c.onnx share some", &there);
    let folder = with([first, None, both]);
    fails(folder.path(), &arguments, "b.onnx: its metadata name no validation_windows", &there);
    let folder = with([first, both, Some("[[0,0,97,1]]")]);
    fails(
        folder.path(),
        &arguments,
        "c.onnx: the validation window 0,0,97,1 reaches beyond the scene of 96x96",
        &there,
    );
    let folder = with([first, both, both]);
    succeeds(folder.path(), &arguments);
    let seem = "seem to be folds of a cross-validation";
    assert!(!succeeds(folder.path(), &["soup", "a.onnx", "b.onnx", "-o", "out.onnx", "--force"]).1.contains(seem));
    // Pixels that are stated make folds' averages a matter of scores again.
    let folder = with([first, second, none]);
    succeeds(folder.path(), &[&arguments[..], &["--windows", "0,0,96,96"]].concat());
    assert!(succeeds(folder.path(), &["soup", "a.onnx", "b.onnx", "-o", "out.onnx", "--force"]).1.contains(seem));
    there.insert(3, "out.onnx");
    assert_eq!(names(folder.path()), there);
}

#[test]
fn wrong_arguments_are_refused_and_leave_nothing() {
    let folder = folder_of_members(|_, _| {});
    std::fs::write(folder.path().join("text.onnx"), "no model").unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let there = ["a.onnx", "b.onnx", "c.onnx", "folder", "text.onnx"];
    let soup = |arguments: &[&'static str]| [&["soup", "a.onnx", "b.onnx"], arguments].concat();
    for (arguments, says) in [
        (soup(&["-o", "c.onnx"]), "c.onnx: exists already; --force replaces it"),
        (soup(&["-o", "a.onnx", "--force"]), "a.onnx: is one of the models"),
        (soup(&["-o", "folder", "--force"]), "folder: is a folder"),
        (soup(&["-o", "none/out.onnx"]), "none: there is no such folder"),
        (soup(&["-o", "out.onnx", "--weights", "0,0"]), "weights=0,0: their sum is 0"),
        (soup(&["-o", "out.onnx", "--weights", "1"]), "1 weight for 2 models"),
        (soup(&["-o", "out.onnx", "--weights=1,-1"]), "at least 0"),
        (soup(&["text.onnx", "-o", "out.onnx"]), "text.onnx: is not an ONNX model"),
        (soup(&["no*.onnx", "-o", "out.onnx"]), "matches no file"),
        (vec!["soup", "a.onnx", "-o", "out.onnx"], "a soup takes at least two"),
        (soup(&["-o", "out.onnx", "--images", "no*.tif"]), "--images no*.tif: matches no file"),
        (soup(&["-o", "out.onnx", "--images", "no.tif"]), "no.tif"),
        (soup(&["-o", "out.onnx", "--set", "scale"]), "--set scale: use NAME=VALUE"),
        (soup(&["-o", "out.onnx", "--set", "scale=-1"]), "scale=-1"),
        (soup(&["-o", "out.onnx", "--set", "weights=1,2"]), "without --set"),
    ] {
        fails(folder.path(), &arguments, says, &there);
    }
    for arguments in [
        soup(&[]),
        soup(&["-o", "out.onnx", "--greedy"]),
        soup(&["-o", "out.onnx", "--weights", "one,two"]),
        soup(&["-o", "out.onnx", "--tile-size", "32"]),
        soup(&["-o", "out.onnx", "--greedy", "--image", "i", "--truth", "t", "--weights", "1,1"]),
        soup(&["-o", "out.onnx", "--greedy", "--image", "i", "--truth", "t", "--windows", "1,2,3"]),
    ] {
        assert_eq!(onnxsegment(folder.path(), &arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(names(folder.path()), there);
}

#[test]
fn force_replaces_and_a_write_that_fails_or_is_killed_leaves_what_was_there() {
    let folder = folder_of_members(|_, _| {});
    let output = folder.path().join("out.onnx");
    std::fs::write(&output, "before").unwrap();
    // Files may not become larger than 1024 bytes: the write fails, or the process is killed within it.
    for (trap, killed) in [("trap '' XFSZ", false), ("true", true)] {
        let script = format!("ulimit -f 1; ulimit -c 0; {trap}; exec \"$0\" soup ?.onnx -o out.onnx --force");
        let shell = Command::new("bash")
            .current_dir(folder.path())
            .args(["-c", &script, env!("CARGO_BIN_EXE_onnxsegment")])
            .output()
            .unwrap();
        let error = String::from_utf8(shell.stderr).unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "before");
        let visible: Vec<_> =
            names(folder.path()).into_iter().filter(|name| killed && !name.starts_with('.')).collect();
        if killed {
            assert_eq!(shell.status.code(), None, "{error}");
            assert_eq!(visible, ["a.onnx", "b.onnx", "c.onnx", "out.onnx"]);
        } else {
            assert!(error.contains("out.onnx: cannot be written: the file would become larger"), "{error}");
            assert_eq!(names(folder.path()), ["a.onnx", "b.onnx", "c.onnx", "out.onnx"]);
        }
    }
    succeeds(folder.path(), &["soup", "?.onnx", "-o", "out.onnx", "--force"]);
    assert!(weights(&model::read(&output).unwrap()) == weights(&average().model));
}

#[test]
fn the_demo_models_of_one_tail_become_one_that_runs() {
    let folder = TempDir::new().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/swa*.onnx");
    succeeds(folder.path(), &["soup", models.to_str().unwrap(), "-o", "swa.onnx"]);
    let scores = scores(&folder.path().join("swa.onnx"), &Picture::golden("frame-rgb-64x48"));
    assert!(scores.len() == 64 * 48 && scores.iter().all(|score| (0.0..=1.0).contains(score)));
}
