//! The Rust types of ONNX files are what prost makes of the schema beside them, so that a build needs neither
//! protoc nor a build script.
//!
//! `UPDATE_SCHEMA=1 cargo test --test schema` writes them anew, after a new `onnx.proto` or a new prost.

use std::path::Path;

#[test]
fn the_types_of_onnx_files_are_those_of_the_schema() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/onnx");
    let out = tempfile::tempdir().unwrap();
    let schema = protox::compile([folder.join("onnx.proto")], [&folder]).unwrap();
    // Weights stay slices of the file's bytes. Comments are read in the schema itself; as rustdoc they hold links
    // that lead nowhere.
    prost_build::Config::new().bytes(["."]).disable_comments(["."]).out_dir(out.path()).compile_fds(schema).unwrap();
    let fresh = std::fs::read_to_string(out.path().join("onnx.rs")).unwrap();
    let file = folder.join("schema.rs");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&file, &fresh).unwrap();
    }
    assert!(std::fs::read_to_string(&file).unwrap() == fresh, "{} is not current; see above", file.display());
}
