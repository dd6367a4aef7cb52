//! Models for `onnxinference`.

use std::path::{Path, PathBuf};

/// The id that the tensors of such a model get.
pub const NAME: &str = "of-onnxinference";

/// A copy of a model that names its output's tensor, without which `onnxinference` 1.26 takes no model.
pub fn named(folder: &Path, model: &Path) -> PathBuf {
    let mut bytes = std::fs::read(model).unwrap();
    bytes.extend(metadata("scores", NAME));
    let path = folder.join(model.file_name().unwrap());
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A key and a value of ONNX metadata as protobuf, to be put behind a file: messages one after the other are merged.
fn metadata(key: &str, value: &str) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let head = [number << 3 | 2, u8::try_from(bytes.len()).ok().filter(|n| *n < 128).unwrap()];
        [&head[..], bytes].concat()
    };
    // ModelProto.metadata_props; StringStringEntryProto.key and .value.
    field(14, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
}
