//! Soups: the weights of models of one graph averaged into one model, which runs at the cost of one.
//!
//! Uniform and weighted averages, and the greedy recipe of Wortsman et al., *Model soups*, ICML 2022
//! (arXiv:2203.05482). Averaging helps models that lie in one basin of the loss, such as checkpoints of one run's flat
//! tail (Izmailov et al., *Averaging weights leads to wider optima and better generalization*, UAI 2018,
//! arXiv:1803.05407). Nothing here can tell whether that holds: only scores can.

mod norm;
mod same;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use prost::bytes::Bytes;
use serde::Serialize;

use super::error::{Error, Result, count};
use super::onnx::OnnxFile;
use super::onnx::model::{self, floats};
use super::onnx::schema::tensor_proto::DataType;
use super::onnx::schema::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};

pub use norm::{Normalizations, Tiles};

/// The metadata key that tells what a soup was made of.
pub const KEY: &str = "soup";

/// Models whose weights can be averaged.
pub struct Members {
    /// The first of them; averages take the place of its weights.
    model: ModelProto,
    members: Vec<Member>,
}

struct Member {
    path: PathBuf,
    sha256: String,
    /// By place in the graph.
    weights: BTreeMap<String, TensorProto>,
    metadata: HashMap<String, String>,
}

/// An averaged model.
pub struct Soup {
    pub model: ModelProto,
    /// Metadata keys that not all members have alike, and the soup does not have.
    pub dropped: Vec<String>,
    record: Record,
}

/// What is written down of a soup, as JSON.
#[derive(Serialize)]
struct Record {
    members: Vec<Ingredient>,
    /// Of how many tiles the statistics of BatchNormalization were taken, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_norm_tiles: Option<usize>,
}

#[derive(Serialize)]
struct Ingredient {
    file: String,
    sha256: String,
    /// Its share: all sum to 1.
    weight: f64,
}

impl Soup {
    /// Writes the record into the model.
    fn note(&mut self) {
        let record = serde_json::to_string(&self.record).expect("text, numbers and lists are JSON");
        let props = &mut self.model.metadata_props;
        props.retain(|entry| entry.key() != KEY);
        props.push(StringStringEntryProto { key: Some(KEY.into()), value: Some(record) });
    }
}

impl Members {
    /// Reads models, and checks that they differ in nothing but floating-point weights (`float16`, `bfloat16`,
    /// `float32`, `float64` initialisers, matched by name and shape), metadata, and the names of intermediate values.
    /// Constants that stand in nodes are part of the graph, not weights: they have to be equal.
    ///
    /// # Errors
    /// Fewer than two files, files that cannot be read, and the first difference between two graphs.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let [first, others @ ..] = paths else {
            return Err(Error::setting("model-file", "", "a soup takes at least two models"));
        };
        if others.is_empty() {
            return Err(Error::file(
                "model-file",
                first,
                "is the only model, and a soup takes at least two; name more",
            ));
        }
        let mut model = model::read(first)?;
        let mut members = vec![Member::of(first, &mut model)?];
        for path in others {
            let mut other = model::read(path)?;
            same::models(&model, &other).map_err(|difference| {
                let problem = format!(
                    "cannot be averaged with {}: {difference}. Only models of one architecture, exported in one way, \
                     can; run others as an ensemble",
                    first.display()
                );
                Error::file("model-file", path, problem)
            })?;
            members.push(Member::of(path, &mut other)?);
        }
        Ok(Members { model, members })
    }

    /// The average with `weights`, one per model, which need not sum to 1. A member of weight 0 is as if it were not
    /// there. Averages are formed in float64 and rounded to the weights' own type; what all members have alike stays as
    /// it is.
    ///
    /// Of the metadata, that stays which all members have alike; the key [`KEY`] tells the members' names, hashes and
    /// weights.
    ///
    /// # Errors
    /// Weights that are too few or too many, negative or not finite, or all 0.
    pub fn average(&self, weights: &[f64]) -> Result<Soup> {
        let text = || weights.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        let refuse = |problem: String| Err(Error::setting("weights", text(), problem));
        if weights.len() != self.members.len() {
            let (found, models) = (count(weights.len(), "weight"), count(self.members.len(), "model"));
            return refuse(format!("{found} for {models}; give one per model"));
        }
        if weights.iter().any(|w| !w.is_finite() || *w < 0.0) {
            return refuse("every weight must be a number of at least 0".into());
        }
        let total: f64 = weights.iter().sum();
        if total <= 0.0 || !total.is_finite() {
            return refuse(format!("their sum is {total}; one at least must be greater than 0"));
        }
        let used: Vec<(&Member, f64)> =
            self.members.iter().zip(weights.iter().copied()).filter(|(_, w)| *w > 0.0).collect();

        let mut model = self.model.clone();
        for (place, tensor) in floating_of(&mut model) {
            let parts: Vec<(&TensorProto, f64)> = used.iter().map(|(m, w)| (&m.weights[&place], *w)).collect();
            average(tensor, &parts);
        }
        let ingredient = |(member, weight): &(&Member, f64)| Ingredient {
            file: member.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: member.sha256.clone(),
            weight: weight / total,
        };
        let record = Record { members: used.iter().map(ingredient).collect(), batch_norm_tiles: None };
        let keys: BTreeSet<&String> = used.iter().flat_map(|(member, _)| member.metadata.keys()).collect();
        let (kept, dropped): (Vec<_>, Vec<_>) = keys.into_iter().filter(|key| *key != KEY).partition(|key| {
            let value = |member: &Member| member.metadata.get(*key).cloned();
            used.iter().all(|(member, _)| value(member) == value(used[0].0))
        });
        let entry = |key: &String| StringStringEntryProto {
            key: Some(key.clone()),
            value: used[0].0.metadata.get(key).cloned(),
        };
        model.metadata_props = kept.into_iter().map(entry).collect();
        model.producer_name = Some(env!("CARGO_PKG_NAME").into());
        model.producer_version = Some(env!("CARGO_PKG_VERSION").into());
        let mut soup = Soup { model, dropped: dropped.into_iter().cloned().collect(), record };
        soup.note();
        Ok(soup)
    }
}

impl Member {
    fn of(path: &Path, model: &mut ModelProto) -> Result<Self> {
        // What trains a model further is not averaged.
        model.training_info.clear();
        let metadata = std::mem::take(&mut model.metadata_props);
        let metadata = metadata.into_iter().map(|e| (e.key.unwrap_or_default(), e.value.unwrap_or_default()));
        let mut weights = BTreeMap::new();
        for (place, tensor) in floating_of(model) {
            let (found, expected) = (floats(tensor).map(|v| v.len()), model::elements(tensor));
            if found.is_none() || found != expected {
                let problem = format!(
                    "weight `{}` holds {} and its shape takes {}; export the model anew",
                    tensor.name.as_deref().unwrap_or_default(),
                    found.map_or("what is no number".into(), |n| count(n, "value")),
                    expected.unwrap_or_default()
                );
                return Err(Error::file("model-file", path, problem));
            }
            weights.insert(place, tensor.clone());
        }
        Ok(Member { path: path.into(), sha256: OnnxFile::sha256(path)?, metadata: metadata.collect(), weights })
    }
}

/// Whether a tensor's type is averaged.
fn is_floating(tensor: &TensorProto) -> bool {
    matches!(
        tensor.data_type.and_then(|t| DataType::try_from(t).ok()),
        Some(DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
    )
}

/// The floating-point initialisers of a model, those of graphs within nodes included, each with its place.
fn floating_of(model: &mut ModelProto) -> BTreeMap<String, &mut TensorProto> {
    let mut found = BTreeMap::new();
    if let Some(graph) = &mut model.graph {
        floating_of_graph(graph, "", &mut found);
    }
    found
}

fn floating_of_graph<'a>(graph: &'a mut GraphProto, place: &str, found: &mut BTreeMap<String, &'a mut TensorProto>) {
    for tensor in graph.initializer.iter_mut().filter(|tensor| is_floating(tensor)) {
        found.insert(format!("{place}{}", tensor.name.as_deref().unwrap_or_default()), tensor);
    }
    for (n, node) in graph.node.iter_mut().enumerate() {
        for attribute in &mut node.attribute {
            let name = attribute.name.as_deref().unwrap_or_default();
            for (g, graph) in attribute.g.iter_mut().chain(&mut attribute.graphs).enumerate() {
                floating_of_graph(graph, &format!("{place}{n}/{name}/{g}/"), found);
            }
        }
    }
}

/// Sets a tensor to the weighted mean of others of its type and size.
fn average(tensor: &mut TensorProto, parts: &[(&TensorProto, f64)]) {
    let mut total = 0.0;
    let mut first = Vec::new();
    let mut sum = Vec::new();
    let mut alike = Vec::new();
    for (k, (part, weight)) in parts.iter().enumerate() {
        // Sizes and types are known to be equal.
        let values = floats(part).unwrap_or_default();
        total += weight;
        if k == 0 {
            sum = values.iter().map(|v| weight * v).collect();
            alike = vec![true; values.len()];
            first = values;
            continue;
        }
        for (k, value) in values.iter().enumerate() {
            sum[k] += weight * value;
            alike[k] &= value.to_bits() == first[k].to_bits();
        }
    }
    // Masks hold infinities, and a mean of equal values is that value: no rounding changes them.
    for ((sum, first), alike) in sum.iter_mut().zip(&first).zip(&alike) {
        *sum = if *alike { *first } else { *sum / total };
    }
    set_floats(tensor, &sum);
}

/// Gives a floating-point tensor other values, rounded to its type.
fn set_floats(tensor: &mut TensorProto, values: &[f64]) {
    fn raw<const N: usize>(values: &[f64], bytes: impl Fn(f64) -> [u8; N]) -> Bytes {
        values.iter().flat_map(|v| bytes(*v)).collect::<Vec<u8>>().into()
    }
    let kind = tensor.data_type.and_then(|t| DataType::try_from(t).ok());
    tensor.raw_data = Some(match kind {
        Some(DataType::Double) => raw(values, f64::to_le_bytes),
        Some(DataType::Float16) => raw(values, |v| f16::from_f64(v).to_le_bytes()),
        Some(DataType::Bfloat16) => raw(values, |v| bf16::from_f64(v).to_le_bytes()),
        _ => raw(values, |v| (v as f32).to_le_bytes()),
    });
    tensor.float_data.clear();
    tensor.double_data.clear();
    tensor.int32_data.clear();
}

/// One step of the greedy recipe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    pub member: usize,
    /// Of the soup with this member.
    pub score: f64,
    pub kept: bool,
}

/// The greedy recipe (Wortsman et al. 2022, recipe 1): members in the order of their own scores, the best first; each
/// stays only if the score of the soup with it does not fall.
///
/// `soup` scores the uniform average of some members, by their indices. At least the first trial is kept.
///
/// # Errors
/// What `soup` meets.
pub fn greedy<E>(own: &[f64], mut soup: impl FnMut(&[usize]) -> Result<f64, E>) -> Result<Vec<Trial>, E> {
    let mut order: Vec<usize> = (0..own.len()).collect();
    order.sort_by(|a, b| own[*b].total_cmp(&own[*a]));
    let mut trials: Vec<Trial> = Vec::new();
    let mut members = Vec::new();
    let mut best = f64::NEG_INFINITY;
    for member in order {
        members.push(member);
        // The best member alone is no soup.
        let score = if members.len() == 1 { own[member] } else { soup(&members)? };
        let kept = trials.is_empty() || score >= best;
        if kept {
            best = score;
        } else {
            members.pop();
        }
        trials.push(Trial { member, score, kept });
    }
    Ok(trials)
}
