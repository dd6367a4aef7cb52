//! ONNX files: what a session does not tell of them ([`OnnxFile`]: metadata as text, and which operator an output
//! comes from), and whole models to be changed ([`model`]).
//!
//! [`schema`] is what prost makes of `onnx.proto`, which lies beside it: of the PyPI package `onnx` 1.23.2,
//! copyright the ONNX contributors, Apache-2.0 (`LICENSE.onnx`). `tests/schema.rs` makes it anew and compares. One
//! set of types serves both uses: the bytes of weights stay slices of the file's, so that reading a model whole
//! costs hardly more than skipping its weights. Fields that a later schema adds are lost when a model is written.

pub mod model;
#[rustfmt::skip]
pub mod schema;
pub mod softmax;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;
use sha2::{Digest, Sha256};

use super::dropout;
use super::error::{Error, Result};
use schema::{GraphProto, ModelProto, NodeProto};

/// Operators that move or retype values without changing what they mean.
const TRANSPARENT: &[&str] = &[
    "Identity",
    "Cast",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Reshape",
    "Flatten",
    "Slice",
    "Resize",
    "Upsample",
    "Dropout",
];

/// What an ONNX file says about itself.
#[derive(Debug, Default)]
pub struct OnnxFile {
    pub metadata: HashMap<String, String>,
    /// The model has Dropout that is active when it runs.
    pub is_random: bool,
    /// By output name: operator type and first input.
    nodes: HashMap<String, (String, Option<String>)>,
    /// Files beside the model that hold weights.
    external: BTreeSet<String>,
    /// Names of the outputs, in order.
    pub outputs: Vec<String>,
    /// Those of them whose softmax can be left out.
    softmax: HashSet<String>,
}

impl OnnxFile {
    /// # Errors
    /// A file that cannot be read or is not ONNX.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self::of(decode_file(path)?))
    }

    /// `None` when the bytes are no ONNX model.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        decode(Bytes::copy_from_slice(bytes)).map(Self::of)
    }

    /// What a model in memory says of itself.
    pub fn of(mut model: ModelProto) -> Self {
        let mut file = OnnxFile {
            is_random: dropout::is_random(&model),
            softmax: softmax::outputs(&model),
            ..OnnxFile::default()
        };
        let external = model::tensors_mut(&mut model).into_iter().filter_map(|tensor| model::location(tensor));
        file.external = external.map(str::to_string).collect();
        for entry in model.metadata_props {
            file.metadata.insert(entry.key.unwrap_or_default(), entry.value.unwrap_or_default());
        }
        let graph = model.graph.unwrap_or_default();
        file.outputs = graph.output.iter().map(|output| output.name().to_string()).collect();
        for node in graph.node {
            let operator = node.op_type.unwrap_or_default();
            for output in node.output {
                file.nodes.insert(output, (operator.clone(), node.input.first().cloned()));
            }
        }
        file
    }

    /// SHA-256 of a model in hexadecimal, weights in files beside it included.
    ///
    /// # Errors
    /// A file that cannot be read or is not ONNX.
    pub fn sha256(path: &Path) -> Result<String> {
        let external = Self::read(path)?.external;
        let mut digest = Sha256::new();
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in std::iter::once(path.to_path_buf()).chain(external.iter().map(|name| folder.join(name))) {
            let copied = File::open(&file).and_then(|mut file| std::io::copy(&mut file, &mut Digesting(&mut digest)));
            copied.map_err(|e| Error::file("model-file", &file, format!("cannot be read: {e}; check the path")))?;
        }
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether an output ends in a softmax that can be left out of the graph.
    pub fn ends_in_softmax(&self, output: &str) -> bool {
        // A changed model is read from memory, where files beside it are not found.
        self.external.is_empty() && self.softmax.contains(output)
    }

    /// Nodes of the graph itself that are this operator.
    pub fn count(&self, operator: &str) -> usize {
        self.nodes.values().filter(|(own, _)| own == operator).count()
    }

    /// The operator that gave `output` its meaning: the last one that is not a mere change of shape or type.
    pub fn last_operator(&self, output: &str) -> Option<&str> {
        let mut name = output;
        // A graph has no cycles; the bound holds for files that have one all the same.
        for _ in 0..self.nodes.len() {
            let (operator, input) = self.nodes.get(name)?;
            match input {
                Some(input) if TRANSPARENT.contains(&operator.as_str()) => name = input,
                _ => return Some(operator),
            }
        }
        None
    }
}

/// The version of ONNX's own operators that a model uses.
pub fn operator_set(model: &ModelProto) -> i64 {
    model.opset_import.iter().find(|set| is_standard(set.domain())).map_or(0, |set| set.version())
}

/// Whether a node is one of ONNX's own operators.
pub fn is(node: &NodeProto, operator: &str) -> bool {
    node.op_type() == operator && is_standard(node.domain())
}

fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Whether a node is such a one, or has one in a graph of its own.
pub fn holds(node: &NodeProto, suits: fn(&NodeProto) -> bool) -> bool {
    let within = |graph: &GraphProto| graph.node.iter().any(|node| holds(node, suits));
    suits(node) || node.attribute.iter().any(|a| a.g.iter().chain(&a.graphs).any(within))
}

/// A model as it stands in its file: weights that lie in files beside it are not read.
fn decode_file(path: &Path) -> Result<ModelProto> {
    let wrong = |problem: String| Error::file("model-file", path, problem);
    if path.is_dir() {
        let all = path.join("*.onnx");
        return Err(wrong(format!("is a folder; name a file in it, or {} for all of them", all.display())));
    }
    let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}; check the path")))?;
    let bytes = Bytes::from(bytes);
    decode(bytes.clone()).ok_or_else(|| {
        wrong(match bytes.len() {
            0 => "is empty; download it again, or export it anew".into(),
            _ if bytes.starts_with(b"version https://git-lfs") => {
                "is a Git LFS pointer and not the model itself; fetch it with `git lfs pull`".into()
            }
            n => format!(
                "is not an ONNX model: its {n} bytes do not parse, or hold no graph. It may be truncated or of \
                 another format: download it again, or export it anew"
            ),
        })
    })
}

/// `None` when the bytes are no ONNX model.
fn decode(bytes: Bytes) -> Option<ModelProto> {
    let model = ModelProto::decode(bytes).ok()?;
    model.graph.as_ref().is_some_and(|graph| !graph.node.is_empty()).then_some(model)
}

/// Feeds what is written to a digest.
struct Digesting<'a>(&'a mut Sha256);

impl Write for Digesting<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
