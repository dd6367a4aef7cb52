//! Whole ONNX models: read with the weights of the files beside them, changed, and written again, whole or not at
//! all. What a model means is not looked at here.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use half::{bf16, f16};
use prost::Message;
use prost::bytes::Bytes;

use super::schema::tensor_proto::{DataLocation, DataType};
use super::schema::{
    AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, StringStringEntryProto, TensorProto,
};
use crate::engine::error::{Error, Result};
use crate::files::{self, Temporary};

/// Bytes of the largest message that protobuf's readers take.
const LIMIT: usize = i32::MAX as usize;
/// Values of fewer bytes stay in the model's own file: among them are the shapes that ONNX looks into.
const SMALL: usize = 1024;
/// Where values begin in a file of weights, so that it can be mapped into memory: multiples of this, as ONNX advises.
const ALIGNMENT: usize = 4096;

/// Reads a model. Every tensor holds its values, whichever file they lie in.
///
/// # Errors
/// A file that cannot be read or is not ONNX; weights beside it that are missing, too short, or said to lie outside
/// its folder.
pub fn read(path: &Path) -> Result<ModelProto> {
    let mut model = super::decode_file(path)?;
    let mut opened = HashMap::new();
    for tensor in tensors_mut(&mut model) {
        if location(tensor).is_some() {
            load(tensor, path, &mut opened)?;
        }
    }
    Ok(model)
}

/// Writes a model under its name once all of it is on the disk, in the place of what had the name. A model above
/// protobuf's limit of 2 GiB has its weights in a file beside it, `NAME.data`, or `NAME.1.data` and so on where that
/// is taken: a model is never seen with another's weights.
///
/// # Errors
/// A disk that does not take it, and more than 2 GiB that are no weights. Nothing of the file is there then.
pub fn write(model: &ModelProto, path: &Path) -> Result<()> {
    write_within(model, path, LIMIT)
}

fn write_within(model: &ModelProto, path: &Path, limit: usize) -> Result<()> {
    let failed = |e| Error::file("output", path, format!("cannot be written: {}", files::words(&e)));
    let folder = files::parent(path);
    if model.encoded_len() <= limit {
        let file = Temporary::write(&folder, &model.encode_to_vec()).map_err(failed)?;
        file.rename(path).map_err(failed)?;
        return files::sync_folder(Some(&folder)).map_err(failed);
    }
    let data_path = free_name(path);
    let mut model = model.clone();
    let name = data_path.file_name().unwrap_or_default().to_string_lossy();
    let pieces = move_out(&mut model, &name);
    if model.encoded_len() > limit {
        let problem = "cannot be written: more than 2 GiB of it are no weights, and protobuf takes no more";
        return Err(Error::file("output", path, problem));
    }
    let data = Temporary::write_all(&folder, pieces.iter().map(Bytes::as_ref)).map_err(failed)?;
    let file = Temporary::write(&folder, &model.encode_to_vec()).map_err(failed)?;
    data.rename(&data_path).map_err(failed)?;
    file.rename(path).map_err(|e| {
        // Nothing refers to it.
        let _ = std::fs::remove_file(&data_path);
        failed(e)
    })?;
    files::sync_folder(Some(&folder)).map_err(failed)
}

/// The name for the weights of a model at `path`.
fn free_name(path: &Path) -> PathBuf {
    let named = |suffix: &str| {
        let mut name = path.file_name().map_or(OsString::from("model"), |name| name.to_os_string());
        name.push(suffix);
        files::parent(path).join(name)
    };
    let numbered = (1u64..).map(|n| named(&format!(".{n}.data")));
    let mut names = std::iter::once(named(".data")).chain(numbered);
    names.find(|name| !name.exists()).expect("a folder holds fewer files than there are numbers")
}

/// Takes large values out of a model, to lie one after the other in the file `name`.
fn move_out(model: &mut ModelProto, name: &str) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut end = 0;
    let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
    for tensor in tensors_mut(model) {
        let Some(bytes) = tensor.raw_data.take_if(|bytes| bytes.len() >= SMALL) else { continue };
        let offset = usize::next_multiple_of(end, ALIGNMENT);
        pieces.push(Bytes::from(vec![0; offset - end]));
        end = offset + bytes.len();
        tensor.data_location = Some(DataLocation::External as i32);
        tensor.external_data = vec![
            entry("location", name.into()),
            entry("offset", offset.to_string()),
            entry("length", bytes.len().to_string()),
        ];
        pieces.push(bytes);
    }
    pieces
}

/// The file beside the model that holds a tensor's values.
pub(super) fn location(tensor: &TensorProto) -> Option<&str> {
    let external = tensor.data_location == Some(DataLocation::External as i32);
    external.then(|| entry(tensor, "location").unwrap_or_default())
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    let found = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
    found.and_then(|entry| entry.value.as_deref())
}

/// Brings a tensor's values from the file beside the model into the model.
fn load(tensor: &mut TensorProto, path: &Path, opened: &mut HashMap<PathBuf, Bytes>) -> Result<()> {
    let wrong = |problem: String| {
        Error::file("model-file", path, format!("weight `{}`: {problem}", tensor.name.as_deref().unwrap_or_default()))
    };
    let location = location(tensor).unwrap_or_default();
    let file = Path::new(location);
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || !file.components().all(inside) {
        return Err(wrong(format!(
            "its values are said to lie in `{location}`, which is no file in the model's folder; export the model anew"
        )));
    }
    let file = files::parent(path).join(file);
    let number = |key: &str| match entry(tensor, key) {
        None => Ok(None),
        Some(text) => text.parse::<usize>().map(Some).map_err(|_| {
            wrong(format!("{key} `{text}` in {} is not a whole number; export the model anew", file.display()))
        }),
    };
    let size = size(tensor).ok_or_else(|| wrong("its type or shape is not of ONNX; export the model anew".into()))?;
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(size);
    if length != size {
        return Err(wrong(format!("its shape takes {size} bytes, and {length} are named; export the model anew")));
    }
    if !opened.contains_key(&file) {
        let bytes = std::fs::read(&file).map_err(|e| {
            wrong(format!(
                "its values lie in {}, which cannot be read: {}; keep the file beside the model",
                file.display(),
                files::words(&e)
            ))
        })?;
        opened.insert(file.clone(), Bytes::from(bytes));
    }
    let bytes = &opened[&file];
    let end = offset.checked_add(length).filter(|end| *end <= bytes.len()).ok_or_else(|| {
        wrong(format!(
            "its values are {length} bytes from byte {offset} of {} on, which has only {}; it may be truncated: \
             download it again",
            file.display(),
            bytes.len()
        ))
    })?;
    tensor.raw_data = Some(bytes.slice(offset..end));
    tensor.external_data.clear();
    tensor.data_location = None;
    Ok(())
}

/// Bytes of a tensor's values as `raw_data`; `None` for text and for types that are not of ONNX.
pub fn size(tensor: &TensorProto) -> Option<usize> {
    let bits = match DataType::try_from(tensor.data_type?).ok()? {
        DataType::Undefined | DataType::String => return None,
        DataType::Uint2 | DataType::Int2 => 2,
        DataType::Uint4 | DataType::Int4 | DataType::Float4e2m1 => 4,
        DataType::Float6e2m3 | DataType::Float6e3m2 => 6,
        DataType::Uint8
        | DataType::Int8
        | DataType::Bool
        | DataType::Float8e4m3fn
        | DataType::Float8e4m3fnuz
        | DataType::Float8e5m2
        | DataType::Float8e5m2fnuz
        | DataType::Float8e8m0 => 8,
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => 16,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 32,
        DataType::Double | DataType::Int64 | DataType::Uint64 | DataType::Complex64 => 64,
        DataType::Complex128 => 128,
    };
    Some(elements(tensor)?.checked_mul(bits)?.div_ceil(8))
}

/// Number of a tensor's values; `None` where its dimensions are no sizes.
pub fn elements(tensor: &TensorProto) -> Option<usize> {
    tensor.dims.iter().try_fold(1usize, |n, dim| n.checked_mul(usize::try_from(*dim).ok()?))
}

/// Every tensor that a model holds, wherever it stands: weights, constants, and those of graphs within nodes.
pub fn tensors_mut(model: &mut ModelProto) -> Vec<&mut TensorProto> {
    let mut found = Vec::new();
    if let Some(graph) = &mut model.graph {
        of_graph(graph, &mut found);
    }
    for training in &mut model.training_info {
        for graph in [&mut training.initialization, &mut training.algorithm].into_iter().flatten() {
            of_graph(graph, &mut found);
        }
    }
    for function in &mut model.functions {
        of_attributes(&mut function.attribute_proto, &mut found);
        of_nodes(&mut function.node, &mut found);
    }
    found
}

fn of_graph<'a>(graph: &'a mut GraphProto, found: &mut Vec<&'a mut TensorProto>) {
    found.extend(&mut graph.initializer);
    for sparse in &mut graph.sparse_initializer {
        of_sparse(sparse, found);
    }
    of_nodes(&mut graph.node, found);
}

fn of_nodes<'a>(nodes: &'a mut [NodeProto], found: &mut Vec<&'a mut TensorProto>) {
    for node in nodes {
        of_attributes(&mut node.attribute, found);
    }
}

fn of_attributes<'a>(attributes: &'a mut [AttributeProto], found: &mut Vec<&'a mut TensorProto>) {
    for attribute in attributes {
        found.extend(attribute.t.iter_mut().chain(&mut attribute.tensors));
        for sparse in attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors) {
            of_sparse(sparse, found);
        }
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            of_graph(graph, found);
        }
    }
}

fn of_sparse<'a>(sparse: &'a mut SparseTensorProto, found: &mut Vec<&'a mut TensorProto>) {
    found.extend(sparse.values.iter_mut().chain(&mut sparse.indices));
}

/// Values of a floating-point tensor; `None` for other types.
pub fn floats(tensor: &TensorProto) -> Option<Vec<f64>> {
    fn raw<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Option<Vec<f64>> {
        let (values, rest) = bytes.as_chunks::<N>();
        rest.is_empty().then(|| values.iter().map(|v| value(*v)).collect())
    }
    // Types of 16 bits lie in the lower half of an int32 where they are no raw bytes.
    let halves = |value: fn(u16) -> f64| Some(tensor.int32_data.iter().map(|v| value(*v as u16)).collect());
    match (DataType::try_from(tensor.data_type?).ok()?, &tensor.raw_data) {
        (DataType::Float, Some(bytes)) => raw(bytes, |b| f32::from_le_bytes(b).into()),
        (DataType::Float, None) => Some(tensor.float_data.iter().map(|v| f64::from(*v)).collect()),
        (DataType::Double, Some(bytes)) => raw(bytes, f64::from_le_bytes),
        (DataType::Double, None) => Some(tensor.double_data.clone()),
        (DataType::Float16, Some(bytes)) => raw(bytes, |b| f16::from_le_bytes(b).into()),
        (DataType::Float16, None) => halves(|v| f16::from_bits(v).into()),
        (DataType::Bfloat16, Some(bytes)) => raw(bytes, |b| bf16::from_le_bytes(b).into()),
        (DataType::Bfloat16, None) => halves(|v| bf16::from_bits(v).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::onnx::OnnxFile;

    fn demo() -> ModelProto {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/swa0.onnx")).unwrap()
    }

    /// A folder of its own, gone when the test ends.
    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_model_is_read_as_it_was_written() {
        let folder = folder();
        let path = folder.path().join("a.onnx");
        let model = demo();
        write(&model, &path).unwrap();
        assert!(read(&path).unwrap() == model);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_model_above_the_limit_has_its_weights_beside_it() {
        let folder = folder();
        let path = folder.path().join("a.onnx");
        let model = demo();
        for name in ["a.onnx.data", "a.onnx.1.data"] {
            write_within(&model, &path, 300_000).unwrap();
            let data = std::fs::metadata(folder.path().join(name)).unwrap().len();
            assert!(std::fs::metadata(&path).unwrap().len() < 300_000 && data > 500_000);
            assert!(read(&path).unwrap() == model, "{name}");
            assert_eq!(OnnxFile::read(&path).unwrap().external.into_iter().collect::<Vec<_>>(), [name]);
        }
        let before = OnnxFile::sha256(&path).unwrap();
        std::fs::write(folder.path().join("a.onnx.1.data"), "").unwrap();
        assert_ne!(OnnxFile::sha256(&path).unwrap(), before);
        assert!(read(&path).unwrap_err().to_string().contains("has only 0; it may be truncated"));
        std::fs::remove_file(folder.path().join("a.onnx.1.data")).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("keep the file beside the model"));
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let folder = folder();
        let path = folder.path().join("a.onnx");
        std::fs::create_dir(&path).unwrap();
        for limit in [LIMIT, 300_000, 10] {
            assert!(write_within(&demo(), &path, limit).unwrap_err().to_string().contains("cannot be written"));
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        assert!(write(&demo(), &folder.path().join("none/a.onnx")).is_err());
    }

    #[test]
    fn values_outside_the_models_folder_are_refused() {
        let folder = folder();
        let path = folder.path().join("a.onnx");
        for location in ["../secret", "/etc/passwd", "", "a/../../secret"] {
            let mut model = demo();
            move_out(&mut model, location);
            std::fs::write(&path, model.encode_to_vec()).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("is no file in the model's folder"), "{location}");
        }
    }

    #[test]
    fn a_length_that_does_not_fit_the_shape_is_refused() {
        let folder = folder();
        let path = folder.path().join("a.onnx");
        for (key, value, says) in
            [("length", "7", "7 are named"), ("offset", "x", "not a whole number"), ("offset", "99999999", "has only")]
        {
            let mut model = demo();
            write_within(&model, &path, 300_000).unwrap();
            let mut written = super::super::decode_file(&path).unwrap();
            let name = tensors_mut(&mut written).into_iter().find_map(|t| location(t).map(str::to_string)).unwrap();
            move_out(&mut model, &name);
            let tensor = tensors_mut(&mut model).into_iter().find(|t| location(t).is_some()).unwrap();
            tensor.external_data.iter_mut().find(|e| e.key.as_deref() == Some(key)).unwrap().value = Some(value.into());
            std::fs::write(&path, model.encode_to_vec()).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
