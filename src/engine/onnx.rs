//! The few fields of an ONNX file that a session does not tell: its metadata as text, and which operator an
//! output comes from. Everything else in the file is skipped while reading.
//!
//! Field numbers are those of `onnx.proto` (ONNX IR version 3 and later).

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use prost::Message;
use sha2::{Digest, Sha256};

use super::error::{Error, Result};

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
struct StringStringEntryProto {
    #[prost(string, optional, tag = "1")]
    key: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
}

/// A weight, of which only the file that holds its values is read.
#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, optional, tag = "4")]
    op_type: Option<String>,
}

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
    /// By output name: operator type and first input.
    nodes: HashMap<String, (String, Option<String>)>,
    /// Files beside the model that hold weights.
    external: BTreeSet<String>,
}

impl OnnxFile {
    /// # Errors
    /// A file that cannot be read or is not ONNX.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |problem: String| Error::file("model-file", path, problem);
        if path.is_dir() {
            let all = path.join("*.onnx");
            return Err(wrong(format!("is a folder; name a file in it, or {} for all of them", all.display())));
        }
        let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}; check the path")))?;
        Self::parse(&bytes).ok_or_else(|| {
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
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let model = ModelProto::decode(bytes).ok()?;
        let graph = model.graph?;
        if graph.node.is_empty() {
            return None;
        }
        let mut file = OnnxFile::default();
        for entry in model.metadata_props {
            file.metadata.insert(entry.key.unwrap_or_default(), entry.value.unwrap_or_default());
        }
        let external = graph.initializer.into_iter().flat_map(|tensor| tensor.external_data);
        file.external = external.filter(|e| e.key.as_deref() == Some("location")).filter_map(|e| e.value).collect();
        for node in graph.node {
            let operator = node.op_type.unwrap_or_default();
            for output in node.output {
                file.nodes.insert(output, (operator.clone(), node.input.first().cloned()));
            }
        }
        Some(file)
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
