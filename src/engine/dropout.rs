//! Dropout that is random and repeatable: its nodes are replaced by ones that take their randomness from an input of
//! the model, and the input is made from what a pass is of, not from when it runs.
//!
//! ONNX Runtime's own Dropout draws anew at every run, so that its results depend on the order of runs. Here an element
//! is dropped by a hash of its index within the frame: a cubic polynomial modulo the prime 2³¹ − 1 with coefficients drawn for
//! each frame, pass and node, whose values are uniform and 4-wise independent (Carter and Wegman, "Universal classes of
//! hash functions", 1979; Wegman and Carter, 1981). It takes three multiplications and divisions of integers per
//! element, in the graph itself, so that activations of any size need no mask from outside.

use std::path::Path;

use ort::value::Tensor;
use prost::bytes::Bytes;
use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::onnx;
use super::onnx::model::floats;
use super::onnx::schema::attribute_proto::AttributeType;
use super::onnx::schema::tensor_proto::DataType;
use super::onnx::schema::type_proto::{self, Tensor as TensorType};
use super::onnx::schema::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto,
};
use super::tta::Transform;

/// The model's input that the randomness comes by: int64, batch × 4·nodes, the coefficients of each node's polynomial
/// from the highest down.
pub const INPUT: &str = "onnxsegment/dropout";

/// Coefficients per node.
pub const COEFFICIENTS: usize = 4;

const PRIME: i64 = (1 << 31) - 1;

/// The first operator set whose Dropout can be random when a model is used.
const SINCE: i64 = 12;

/// What a draw is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    pub seed: u64,
    pub member: usize,
    pub transform: Transform,
    pub sample: usize,
    /// What tells the frame or tile from others.
    pub frame: u64,
}

impl Draw {
    /// The coefficients for so many nodes: SHA-256 of the draw and the node's number, cut into four words modulo the prime.
    fn coefficients(&self, nodes: usize) -> impl Iterator<Item = i64> + use<'_> {
        (0..nodes).flat_map(|node| {
            let mut digest = Sha256::new_with_prefix("onnxsegment dropout");
            let pass = [self.member, self.transform as usize, self.sample].map(|n| n as u64);
            for word in [self.seed, pass[0], pass[1], pass[2], self.frame, node as u64] {
                digest.update(word.to_le_bytes());
            }
            let digest: [u8; 32] = digest.finalize().into();
            let words = digest.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word) % PRIME as u64);
            words.map(|word| word as i64).collect::<Vec<_>>()
        })
    }
}

/// The input for a batch of draws; the last is repeated where the batch is larger.
///
/// # Errors
/// A tensor that the runtime refuses.
pub fn input(draws: &[Draw], batch: usize, nodes: usize) -> ort::Result<Tensor<i64>> {
    let rows = (0..batch).map(|k| draws[k.min(draws.len() - 1)]);
    let values: Vec<i64> = rows.flat_map(|draw| draw.coefficients(nodes).collect::<Vec<_>>()).collect();
    Tensor::from_array(([batch, COEFFICIENTS * nodes], values))
}

/// Gives a model the input that its Dropout is to draw from.
///
/// # Errors
/// A model without Dropout that is random when used, or with one that cannot be replaced.
pub fn sample(path: &Path, model: &mut ModelProto) -> Result<()> {
    replace(model).map_err(|problem| Error::model(path, problem))
}

/// Whether a model's results differ from run to run.
pub fn is_random(model: &ModelProto) -> bool {
    let Some(graph) = &model.graph else { return false };
    let mut dropouts = graph.node.iter().filter(|node| is_dropout(node)).peekable();
    let constants = dropouts.peek().map(|_| Constants::of(graph));
    constants.is_some_and(|constants| dropouts.any(|node| constants.rate(node) != Ok(None)))
}

/// Puts nodes that draw from [`INPUT`] in the place of each active Dropout.
fn replace(model: &mut ModelProto) -> Result<(), String> {
    let version = onnx::operator_set(model);
    let in_function =
        model.functions.iter().any(|function| function.node.iter().any(|node| onnx::holds(node, is_dropout)));
    let graph = model.graph.as_mut().ok_or("has no graph")?;
    if in_function || graph.node.iter().any(|node| !is_dropout(node) && onnx::holds(node, is_dropout)) {
        return Err(
            "has Dropout in functions or in graphs within nodes, where it cannot be replaced; export the model with \
                    these inlined"
                .into(),
        );
    }
    let constants = Constants::of(graph);
    let mut nodes = Vec::new();
    let mut weights = Vec::new();
    let mut replaced = 0;
    for node in std::mem::take(&mut graph.node) {
        match is_dropout(&node) && version >= SINCE {
            true => match constants.rate(&node)? {
                Some(rate) => {
                    let element = constants.element_type(&node);
                    nodes.extend(random(&node, replaced, rate, element, &mut weights));
                    replaced += 1;
                }
                None => nodes.push(node),
            },
            false => nodes.push(node),
        }
    }
    graph.node = nodes;
    if replaced == 0 {
        let found = match graph.node.iter().filter(|node| is_dropout(node)).count() {
            0 => "has no Dropout".to_string(),
            n => format!("has {n} Dropout, and none that is active when the model is used"),
        };
        return Err(format!(
            "{found}, so that every sample would be the same; export it with its Dropout in training mode (PyTorch: \
             call train() on the Dropout modules and export with training=TrainingMode.PRESERVE or dynamo=True), or set \
             samples=1"
        ));
    }
    graph.initializer.extend(weights);
    graph.initializer.push(whole_number("onnxsegment/zero", 0, &[]));
    graph.initializer.push(whole_number("onnxsegment/one", 1, &[]));
    graph.initializer.push(whole_number("onnxsegment/prime", PRIME, &[]));
    graph.initializer.push(whole_numbers("onnxsegment/rows", vec![0, -1], &[2]));
    graph.input.push(port(replaced));
    Ok(())
}

/// What is known of values without running the model.
struct Constants {
    tensors: Vec<TensorProto>,
    types: Vec<(String, i32)>,
    /// The type of the first floating-point weight.
    usual: i32,
}

impl Constants {
    fn of(graph: &GraphProto) -> Self {
        let of_node = |node: &NodeProto| {
            let value = node.attribute.iter().find(|a| a.name() == "value")?.t.clone()?;
            Some(TensorProto { name: node.output.first().cloned(), ..value })
        };
        let nodes = graph.node.iter().filter(|node| node.op_type() == "Constant").filter_map(of_node);
        let types = graph.value_info.iter().chain(&graph.input).chain(&graph.output).filter_map(|value| {
            let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()? else { return None };
            Some((value.name().to_string(), tensor.elem_type()))
        });
        let usual = graph.initializer.iter().find(|tensor| floats(tensor).is_some()).map(|tensor| tensor.data_type());
        Constants {
            types: types.collect(),
            usual: usual.unwrap_or(DataType::Float as i32),
            tensors: graph.initializer.iter().cloned().chain(nodes).collect(),
        }
    }

    fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.tensors.iter().find(|tensor| tensor.name() == name)
    }

    /// The share of elements that a Dropout drops; `None` where it drops none.
    fn rate(&self, node: &NodeProto) -> Result<Option<f64>, String> {
        let input = |k: usize| node.input.get(k).filter(|name| !name.is_empty());
        let computed = |what: &str| {
            let name = node.output.first().map_or("", |name| name);
            format!("computes the {what} of the Dropout that gives `{name}`; export it with a constant one")
        };
        let training = match input(2) {
            None => false,
            Some(name) => {
                let tensor = self.tensor(name).ok_or_else(|| computed("training mode"))?;
                let raw = tensor.raw_data.as_ref().and_then(|bytes| bytes.first().copied());
                raw.map_or_else(|| tensor.int32_data.first().copied().unwrap_or(0), i32::from) != 0
            }
        };
        let rate = match input(1) {
            None => 0.5,
            Some(name) => {
                let values = self.tensor(name).and_then(floats).ok_or_else(|| computed("ratio"))?;
                *values.first().ok_or_else(|| computed("ratio"))?
            }
        };
        match training && rate > 0.0 {
            true if rate < 1.0 => Ok(Some(rate)),
            true => Err(format!("has a Dropout of ratio {rate}; expected one below 1")),
            false => Ok(None),
        }
    }

    /// The element type of what a node takes.
    fn element_type(&self, node: &NodeProto) -> i32 {
        let told = |name: &String| self.types.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
        node.input.first().and_then(told).or_else(|| node.output.first().and_then(told)).unwrap_or(self.usual)
    }
}

/// The nodes in the place of Dropout number `k`, which drops the share `rate`.
fn random(node: &NodeProto, k: usize, rate: f64, element: i32, weights: &mut Vec<TensorProto>) -> Vec<NodeProto> {
    let name = |part: &str| format!("onnxsegment/dropout{k}/{part}");
    let [x, out] = [&node.input[0], &node.output[0]].map(String::as_str);
    let mut nodes = Vec::new();
    let mut op = |kind: &str, inputs: &[&str], output: &str, attribute: Option<(&str, i64)>| {
        let attribute = attribute.map(|(name, value)| AttributeProto {
            name: Some(name.into()),
            r#type: Some(AttributeType::Int as i32),
            i: Some(value),
            ..Default::default()
        });
        nodes.push(NodeProto {
            name: Some(name(&nodes.len().to_string())),
            op_type: Some(kind.into()),
            input: inputs.iter().map(|input| input.to_string()).collect(),
            output: vec![output.into()],
            attribute: attribute.into_iter().collect(),
            ..Default::default()
        });
        output.to_string()
    };
    // The index of each element within its frame.
    let shape = op("Shape", &[x], &name("shape"), None);
    let rows = op("Reshape", &[x, "onnxsegment/rows"], &name("rows"), None);
    let sizes = op("Shape", &[&rows], &name("sizes"), None);
    let size = op("Gather", &[&sizes, "onnxsegment/one"], &name("size"), None);
    let index = op("Range", &["onnxsegment/zero", &size, "onnxsegment/one"], &name("index"), None);
    // Its hash, by Horner's rule: below the prime at each step, so that products stay within 62 bits.
    let mut hash = String::new();
    for c in 0..COEFFICIENTS {
        let at = name(&format!("at{c}"));
        weights.push(whole_number(&at, (COEFFICIENTS * k + c) as i64, &[1]));
        let coefficient = op("Gather", &[INPUT, &at], &name(&format!("coefficient{c}")), Some(("axis", 1)));
        hash = match c {
            0 => coefficient,
            c => {
                let product = op("Mul", &[&hash, &index], &name(&format!("product{c}")), None);
                let sum = op("Add", &[&product, &coefficient], &name(&format!("sum{c}")), None);
                op("Mod", &[&sum, "onnxsegment/prime"], &name(&format!("hash{c}")), None)
            }
        };
    }
    // What stays is raised, so that the mean stays.
    let (below, scale) = (name("below"), name("scale"));
    weights.push(whole_number(&below, (rate * PRIME as f64).round() as i64, &[]));
    weights.push(number(&scale, 1.0 / (1.0 - rate)));
    let dropped = op("Less", &[&hash, &below], &name("dropped"), None);
    let kept = op("Not", &[&dropped], &name("kept"), None);
    let kept = op("Reshape", &[&kept, &shape], node.output.get(1).map_or(&name("mask"), |mask| mask), None);
    let ones = op("Cast", &[&kept], &name("ones"), Some(("to", element.into())));
    let scale = op("Cast", &[&scale], &name("factor"), Some(("to", element.into())));
    let factors = op("Mul", &[&ones, &scale], &name("factors"), None);
    op("Mul", &[x, &factors], out, None);
    nodes
}

fn whole_number(name: &str, value: i64, dims: &[i64]) -> TensorProto {
    whole_numbers(name, vec![value], dims)
}

fn whole_numbers(name: &str, values: Vec<i64>, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(DataType::Int64 as i32),
        dims: dims.to_vec(),
        int64_data: values,
        ..Default::default()
    }
}

fn number(name: &str, value: f64) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(DataType::Double as i32),
        raw_data: Some(Bytes::copy_from_slice(&value.to_le_bytes())),
        ..Default::default()
    }
}

/// The description of [`INPUT`] for so many nodes.
fn port(nodes: usize) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dimension = |value| Dimension { value: Some(value), ..Default::default() };
    let shape = TensorShapeProto {
        dim: vec![
            dimension(Value::DimParam("onnxsegment/batch".into())),
            dimension(Value::DimValue((COEFFICIENTS * nodes) as i64)),
        ],
    };
    let tensor = TensorType { elem_type: Some(DataType::Int64 as i32), shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(INPUT.into()), r#type: Some(kind), ..Default::default() }
}

fn is_dropout(node: &NodeProto) -> bool {
    let whole = !node.input.is_empty() && !node.output.is_empty();
    onnx::is(node, "Dropout") && whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of elements that draws drop, and of neighbours that are dropped together.
    fn dropped(draw: Draw, rate: f64, count: i64) -> (f64, f64) {
        let c: Vec<i64> = draw.coefficients(1).collect();
        let below = (rate * PRIME as f64).round() as i64;
        let is_dropped = |x: i64| c[1..].iter().fold(c[0], |hash, c| (hash * x + c) % PRIME) < below;
        let drops: Vec<bool> = (0..count).map(is_dropped).collect();
        let share = |n: usize| n as f64 / count as f64;
        (share(drops.iter().filter(|d| **d).count()), share(drops.windows(2).filter(|d| d[0] && d[1]).count()))
    }

    #[test]
    fn draws_drop_the_share_asked_for_and_neighbours_independently() {
        for frame in 0..20 {
            let draw = Draw { seed: 3, member: 0, transform: Transform::Identity, sample: 1, frame };
            let (share, pairs) = dropped(draw, 0.3, 100_000);
            // Five standard deviations.
            assert!((share - 0.3).abs() < 0.0075, "frame {frame}: {share}");
            assert!((pairs - 0.09).abs() < 0.0065, "frame {frame}: {pairs}");
        }
    }

    #[test]
    fn every_part_of_a_draw_changes_it() {
        let draw = Draw { seed: 1, member: 2, transform: Transform::HFlip, sample: 3, frame: 4 };
        let all = |draw: Draw| draw.coefficients(2).collect::<Vec<_>>();
        let own = all(draw);
        assert_eq!(own, all(draw));
        assert_ne!(own[..4], own[4..]);
        for other in [
            Draw { seed: 2, ..draw },
            Draw { member: 1, ..draw },
            Draw { sample: 4, ..draw },
            Draw { transform: Transform::Rot90, ..draw },
            Draw { frame: 5, ..draw },
            Draw { member: 3, sample: 2, ..draw },
        ] {
            assert_ne!(own, all(other), "{other:?}");
        }
        assert!(own.iter().all(|c| (0..PRIME).contains(c)));
    }
}
