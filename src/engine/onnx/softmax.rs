//! The softmax over channels that ends a graph, found and taken away.
//!
//! ONNX Runtime's CPU kernel brings an axis that is not the last one to the end and back, and takes a quarter of the time of
//! a small segmentation network for it; the merge does the same on rows that are in the cache, for next to nothing.

use std::collections::HashSet;

use super::schema::tensor_proto::DataType;
use super::schema::type_proto::Value;
use super::schema::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use super::{is, operator_set};

/// The first operator set whose Softmax is over one axis; before, it is over that axis and all behind it.
const SINCE: i64 = 13;

/// Outputs of rank 4 that come straight from a softmax over their second axis, and whose scores before it nothing else takes.
pub fn outputs(model: &ModelProto) -> HashSet<String> {
    let version = operator_set(model);
    let Some(graph) = &model.graph else { return HashSet::new() };
    let names = graph.output.iter().map(|output| output.name());
    names.filter(|name| find(graph, version, name).is_some()).map(String::from).collect()
}

/// Has an output give what its softmax takes. Whether it has one.
pub fn remove(model: &mut ModelProto, output: &str) -> bool {
    let version = operator_set(model);
    let Some(graph) = &mut model.graph else { return false };
    let Some(found) = find(graph, version, output) else { return false };
    graph.node = std::mem::take(&mut graph.node)
        .into_iter()
        .enumerate()
        .filter_map(|(k, node)| (!found.nodes.contains(&k)).then_some(node))
        .collect();
    for node in &mut graph.node {
        for name in node.output.iter_mut().chain(&mut node.input).filter(|name| **name == found.scores) {
            *name = output.into();
        }
    }
    graph.value_info.retain(|value| value.name() != found.scores);
    true
}

/// A softmax and what brings its axis to the end and back.
struct Tail {
    /// Places of its nodes.
    nodes: Vec<usize>,
    /// What it takes.
    scores: String,
}

fn find(graph: &GraphProto, version: i64, output: &str) -> Option<Tail> {
    // Graphs within nodes may name values of this one.
    if graph.node.iter().any(|node| node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty())) {
        return None;
    }
    let is_picture = graph.output.iter().any(|value| value.name() == output && is_picture(value));
    let last = producer(graph, output)?;
    let (nodes, scores) = match &graph.node[last] {
        node if is(node, "Softmax") && version >= SINCE && matches!(axis(node), Some(1 | -3)) => {
            (vec![last], node.input.first()?)
        }
        // As exporters had it before.
        back if is(back, "Transpose") => {
            let softmax = producer(graph, back.input.first()?)?;
            let forth = producer(graph, graph.node[softmax].input.first()?)?;
            let (to, from) = (order(&graph.node[forth])?, order(back)?);
            let is_last = matches!(axis(&graph.node[softmax]), Some(3 | -1))
                || (axis(&graph.node[softmax]).is_none() && version >= SINCE);
            let undone = (0..4).all(|k| to.get(from[k]) == Some(&k));
            let suits = is(&graph.node[softmax], "Softmax") && is_last && to[3] == 1 && undone;
            let tail = [softmax, forth].iter().all(|k| is_used_once(graph, graph.node[*k].output.first()));
            let scores = graph.node[forth].input.first().filter(|_| suits && tail)?;
            (vec![forth, softmax, last], scores)
        }
        _ => return None,
    };
    let suits = is_picture
        && producer(graph, scores).is_some()
        && is_used_once(graph, Some(scores))
        && uses(graph, output) == 0;
    suits.then(|| Tail { nodes, scores: scores.clone() })
}

/// The place of the node that gives a value.
fn producer(graph: &GraphProto, name: &str) -> Option<usize> {
    graph.node.iter().position(|node| node.output.iter().any(|output| output == name))
}

/// How many nodes take a value.
fn uses(graph: &GraphProto, name: &str) -> usize {
    graph.node.iter().flat_map(|node| &node.input).filter(|input| *input == name).count()
}

/// Whether one node takes a value, and whoever runs the model does not.
fn is_used_once(graph: &GraphProto, name: Option<&String>) -> bool {
    name.is_some_and(|name| uses(graph, name) == 1 && graph.output.iter().all(|output| output.name() != name))
}

/// Whether a value is a tensor of float32 and rank 4. In half precision the runtime's own softmax decides the digits.
fn is_picture(value: &ValueInfoProto) -> bool {
    let Some(Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return false;
    };
    tensor.elem_type() == DataType::Float as i32 && tensor.shape.as_ref().is_some_and(|shape| shape.dim.len() == 4)
}

fn axis(node: &NodeProto) -> Option<i64> {
    node.attribute.iter().find(|a| a.name() == "axis").map(|a| a.i())
}

/// The order in which a transposition takes four axes.
fn order(node: &NodeProto) -> Option<[usize; 4]> {
    let axes = node.attribute.iter().find(|a| is(node, "Transpose") && a.name() == "perm")?;
    let axes: Vec<usize> = axes.ints.iter().map(|k| usize::try_from(*k).ok()).collect::<Option<_>>()?;
    axes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ort::session::Session;
    use ort::value::TensorRef;

    use super::*;
    use crate::engine::onnx::model;
    use crate::engine::onnx::schema::attribute_proto::AttributeType;
    use crate::engine::onnx::schema::{AttributeProto, TensorProto};
    use crate::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};
    use crate::engine::settings::Source;
    use crate::engine::{Ensemble, Settings, runtime};

    const SIDE: usize = 32;

    /// A model of four classes that ends in a softmax over its second axis.
    fn whole() -> ModelProto {
        model::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/softmax4.onnx")).unwrap()
    }

    fn softmax(model: &mut ModelProto) -> &mut NodeProto {
        model.graph.as_mut().unwrap().node.iter_mut().find(|node| is(node, "Softmax")).unwrap()
    }

    fn attribute(name: &str, i: Option<i64>, ints: Vec<i64>) -> AttributeProto {
        let kind = if i.is_some() { AttributeType::Int } else { AttributeType::Ints };
        AttributeProto { name: Some(name.into()), r#type: Some(kind as i32), i, ints, ..Default::default() }
    }

    fn with_axis(axis: Option<i64>) -> ModelProto {
        let mut model = whole();
        softmax(&mut model).attribute =
            axis.map(|axis| attribute("axis", Some(axis), Vec::new())).into_iter().collect();
        model
    }

    fn node(kind: &str, inputs: [&str; 2], output: &str, attributes: Vec<AttributeProto>) -> NodeProto {
        NodeProto {
            op_type: Some(kind.into()),
            input: inputs.into_iter().filter(|name| !name.is_empty()).map(String::from).collect(),
            output: vec![output.into()],
            attribute: attributes,
            ..Default::default()
        }
    }

    /// The axis brought to the end and back, as exporters do where a softmax is over its last axis only.
    fn transposed(there: [i64; 4], back: [i64; 4], axis: Option<i64>) -> ModelProto {
        let mut model = with_axis(axis);
        let own = softmax(&mut model);
        let scores = std::mem::replace(&mut own.input[0], "there".into());
        let output = std::mem::replace(&mut own.output[0], "back".into());
        let order = |order: [i64; 4]| vec![attribute("perm", None, order.to_vec())];
        let nodes = &mut model.graph.as_mut().unwrap().node;
        nodes.insert(nodes.len() - 1, node("Transpose", [&scores, ""], "there", order(there)));
        nodes.push(node("Transpose", ["back", ""], &output, order(back)));
        model
    }

    /// What is added to the scores of each class.
    fn shifted(by: [f32; 4]) -> ModelProto {
        let mut model = whole();
        let scores = std::mem::replace(&mut softmax(&mut model).input[0], "shifted".into());
        let graph = model.graph.as_mut().unwrap();
        graph.node.insert(graph.node.len() - 1, node("Add", [&scores, "shift"], "shifted", Vec::new()));
        graph.initializer.push(TensorProto {
            name: Some("shift".into()),
            data_type: Some(DataType::Float as i32),
            dims: vec![1, 4, 1, 1],
            float_data: by.to_vec(),
            ..Default::default()
        });
        model
    }

    /// The scores before the softmax as a second output.
    fn looked_at() -> ModelProto {
        let mut model = whole();
        let scores = softmax(&mut model).input[0].clone();
        let graph = model.graph.as_mut().unwrap();
        let second = ValueInfoProto { name: Some(scores), ..graph.output[0].clone() };
        graph.output.push(second);
        model
    }

    struct Picture(Vec<u8>);

    impl Frame for Picture {
        fn view(&self) -> FrameView<'_> {
            let format = FrameFormat { width: SIDE, height: SIDE, bands: 3, sample: Sample::U8 };
            let band = |k: usize| Band { data: &self.0[k * SIDE * SIDE..], step: 1, stride: SIDE };
            FrameView { format, bands: (0..3).map(band).collect() }
        }
    }

    /// Whether the softmax was left out, and how far the probabilities are from ONNX Runtime's own.
    fn run(model: &ModelProto, settings: &[(&str, &str)]) -> crate::engine::Result<(bool, f32)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        model::write(model, &path).unwrap();
        let mut all = Settings::default();
        let file = path.display().to_string();
        for (name, value) in settings.iter().chain(&[("model-file", file.as_str()), ("size-multiple", "8")]) {
            all.set(name, value, Source::Property, Path::new("")).unwrap();
        }
        let pixels: Vec<u8> = (0..3 * SIDE * SIDE).map(|k| ((k * 2_654_435_761) >> 7) as u8).collect();
        let tensor: Vec<f32> = pixels.iter().map(|v| f32::from(*v) / 255.0).collect();
        let ensemble = Ensemble::load(&all)?;
        let picture = Picture(pixels);
        let merged = ensemble.run(picture.view().format, Box::new(picture))?;
        let (mut found, mut scratch) = (Vec::new(), Vec::new());
        merged.probability_rows(0, SIDE, &mut found, &mut scratch);
        let mut session = Session::builder(runtime::environment()?).unwrap().commit_from_file(&path).unwrap();
        let shape = [1, 3, SIDE as i64, SIDE as i64];
        let outputs = session.run(ort::inputs![TensorRef::from_array_view((shape, &*tensor)).unwrap()]).unwrap();
        let (_, expected) = outputs[0].try_extract_tensor::<f32>().unwrap();
        let far = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        Ok((ensemble.members()[0].spec.output.bare, far))
    }

    #[test]
    fn a_softmax_over_channels_is_left_to_the_merge() {
        let (there, back) = ([0, 2, 3, 1], [0, 3, 1, 2]);
        for model in [
            with_axis(Some(1)),
            with_axis(Some(-3)),
            transposed(there, back, None),
            transposed(there, back, Some(3)),
            transposed([0, 3, 2, 1], [0, 3, 2, 1], Some(-1)),
            shifted([f32::NEG_INFINITY, 0.0, 30.0, -30.0]),
        ] {
            let (bare, far) = run(&model, &[]).unwrap();
            assert!(bare && far < 1e-6, "{bare} {far}");
        }
    }

    #[test]
    fn what_is_no_softmax_over_channels_alone_stays_in_the_graph() {
        let mut old = whole();
        old.opset_import[0].version = Some(12);
        for model in
            [with_axis(Some(3)), with_axis(None), transposed([0, 1, 3, 2], [0, 1, 3, 2], None), looked_at(), old]
        {
            assert!(outputs(&model).is_empty());
            let (bare, far) = run(&model, &[]).unwrap();
            assert!(!bare && far < 1e-6, "{bare} {far}");
        }
        // Rows and columns come back changed, which no mask is made of.
        assert!(outputs(&transposed([0, 2, 3, 1], [0, 3, 2, 1], None)).is_empty());
        for settings in [&[("temperature", "2")], &[("merge-domain", "logit")], &[("activation", "softmax")]] {
            let (bare, _) = run(&whole(), settings).unwrap();
            assert!(!bare, "{settings:?}");
        }
    }

    #[test]
    fn scores_that_have_no_softmax_are_refused() {
        for by in [[f32::NEG_INFINITY; 4], [0.0, f32::INFINITY, 0.0, 0.0], [0.0, f32::NAN, 0.0, 0.0]] {
            let error = run(&shifted(by), &[]).unwrap_err().to_string();
            assert!(error.contains("no mask can be made of it"), "{error}");
        }
    }
}
