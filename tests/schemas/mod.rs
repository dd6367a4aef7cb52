//! STAC items held against the published schemas in `tests/golden/schemas`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

const STAC: &str = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema";

/// A folder of published schemas by the addresses that they have.
fn schemas() -> Vec<(String, Value)> {
    fn walk(folder: &Path, all: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            match path.is_dir() {
                true => walk(&path, all),
                false if path.extension().is_some_and(|e| e == "json") => all.push(path),
                false => {}
            }
        }
    }
    let mut files = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schemas"), &mut files);
    let schema = |file: PathBuf| {
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        // One of STAC's own has a misspelt $id: they are known by the addresses they are published at.
        let name = match file.parent().unwrap().ends_with("stac-1.1.0") {
            true => format!("{STAC}/{}", file.file_name().unwrap().to_str().unwrap()),
            false => schema["$id"].as_str().unwrap().trim_end_matches('#').to_string(),
        };
        (name, schema)
    };
    let mut all: Vec<_> = files.into_iter().map(schema).collect();
    // PROJ's own schema is not here; no item of ours has what it describes.
    all.push(("https://proj.org/schemas/v0.7/projjson.schema.json".into(), json!({"type": "object"})));
    all
}

/// What the published schemas have against an item: those of STAC and of every extension that it names.
pub fn faults(item: &Value) -> Vec<String> {
    let all = schemas();
    let extensions = item["stac_extensions"].as_array().unwrap().iter().map(|url| url.as_str().unwrap().to_string());
    let mut faults = Vec::new();
    for url in extensions.chain([format!("{STAC}/item.json")]) {
        let (_, schema) = all.iter().find(|(name, _)| *name == url).unwrap_or_else(|| panic!("no schema of {url}"));
        let known = all
            .iter()
            .fold(jsonschema::Registry::new(), |known, (name, schema)| known.add(name.as_str(), schema).unwrap());
        let registry = known.prepare().unwrap();
        let validator = jsonschema::options().with_registry(&registry).build(schema).unwrap();
        faults.extend(validator.iter_errors(item).map(|e| format!("{url}: {} {e}", e.instance_path())));
    }
    faults
}
