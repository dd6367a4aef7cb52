//! Whatever reads files and texts takes anything: arbitrary input is an error, never a panic, and never endless.

use std::path::Path;
use std::sync::LazyLock;

use gstonnxsegment::engine::onnx::OnnxFile;
use gstonnxsegment::engine::settings::{Facts, Source};
use gstonnxsegment::engine::spec::{ModelSpec, Port, output_shape};
use gstonnxsegment::engine::views::Palette;
use gstonnxsegment::engine::{Ensemble, Settings, settings, tta};
use proptest::collection::vec;
use proptest::prelude::*;

/// Every small model of the tests.
static MODELS: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let mut models: Vec<_> = files
        .filter(|f| f.extension().is_some_and(|e| e == "onnx"))
        .map(|f| (f.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&f).unwrap()))
        .collect();
    models.sort();
    assert!(models.len() > 30);
    models
});

const METADATA: [&str; 10] = [
    "activation",
    "class_names",
    "input_range",
    "model_type",
    "names",
    "resolution",
    "seg_thresh",
    "size_multiple",
    "standardization_mean",
    "standardization_std",
];

/// Texts near those that mean something: numbers at their limits, lists, names, brackets, and any characters.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => r"-?[0-9]{1,3}(\.[0-9]{1,3})?",
        2 => prop::sample::select(vec![
            "nan", "inf", "-inf", "1e39", "-0", "1e-46", "4294967296", "65535", "65536", "99999999999999999999", "0x10", "",
            "sigmoid", "softmax", "none", "d4", "flips", "rot90", "cpu", "cuda", "#ff0000", "#ÿÿÿ", "*.onnx", "[a", "**", "mean",
            "true", "null", "{", "}", "[", "]", "\"", "'", "\\", "é", "\u{0}", "🙂",
        ]).prop_map(str::to_string),
        1 => r"\PC{0,8}",
    ];
    vec((piece, prop::sample::select(vec![",", "+", " ", ":", ""])), 0..6)
        .prop_map(|pieces| pieces.into_iter().fold(String::new(), |text, (piece, joint)| text + &piece + joint))
}

/// JSON, whole or not, as metadata has it.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_string()),
        any::<f64>().prop_map(|v| v.to_string()),
        any::<i64>().prop_map(|v| v.to_string()),
        "[a-z0-9]{0,4}".prop_map(|s| format!("\"{s}\"")),
    ];
    let whole = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|list| format!("[{}]", list.join(","))),
            vec(("[0-9]{1,20}|[a-z]", inner), 0..4).prop_map(|map| {
                let pairs: Vec<_> = map.into_iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    });
    let cut = (whole.clone(), any::<prop::sample::Index>()).prop_map(|(text, at)| {
        let ends: Vec<_> = text.char_indices().map(|(k, _)| k).collect();
        text[..ends[at.index(ends.len())]].to_string()
    });
    prop_oneof![3 => whole, 1 => cut, 1 => text()]
}

fn set(settings: &mut Settings, name: &str, text: &str) -> Result<(), String> {
    // Names of files stay within a folder that does not exist: what lies on this machine is no input of a test.
    let text = if name.ends_with("-file") { text.replace('/', "") } else { text.to_string() };
    let base = Path::new("/nonexistent-onnxsegment");
    settings.set(name, &text, Source::Property, base).map_err(|e| {
        let e = e.to_string();
        assert!(e.contains(name), "{name} is not in: {e}");
        e
    })
}

/// Facts, all of which `stated` may have replaced, of a model with one input and one output.
fn resolve(onnx: &OnnxFile, input: Vec<i64>, element: &str, stated: &Facts) {
    let port = |name: &str, shape: Vec<i64>| Port { name: name.into(), element: element.into(), shape };
    let outputs = [port("scores", vec![-1, 2, -1, -1])];
    match ModelSpec::resolve(Path::new("some/model.onnx"), onnx, &[port("image", input)], &outputs, stated) {
        Ok(spec) => {
            assert!((1..=4096).contains(&spec.input.size_multiple.value));
            assert!(spec.threshold.as_ref().is_none_or(|t| (0.0..=1.0).contains(&t.value)));
            assert!(spec.input.std.as_ref().is_none_or(|s| s.value.iter().all(|v| *v > 0.0 && v.is_finite())));
            assert!(spec.input.mean.as_ref().is_none_or(|m| m.value.iter().all(|v| v.is_finite())));
            assert!(spec.input.input_range.as_ref().is_none_or(|r| r.value.0 < r.value.1));
            assert_eq!(spec.describe().len(), 18);
        }
        Err(e) => {
            let e = e.to_string();
            assert!(e.contains("some/model.onnx") || e.contains("scale") || e.starts_with("model-card="), "{e}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_onnx(bytes in vec(any::<u8>(), 0..2000)) {
        let _ = OnnxFile::parse(&bytes);
    }

    /// Files that begin like one: tags and lengths that lie.
    #[test]
    fn any_fields_as_onnx(fields in vec((prop::sample::select(vec![7u8, 14, 1, 2, 4]), any::<u8>(), vec(any::<u8>(), 0..20)), 0..20)) {
        let mut bytes = Vec::new();
        for (tag, length, value) in fields {
            bytes.extend([tag << 3 | 2, length]);
            bytes.extend(value);
        }
        let _ = OnnxFile::parse(&bytes);
    }

    #[test]
    fn mutated_models(
        which in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let (_, whole) = &MODELS[which.index(MODELS.len())];
        let mut bytes = whole.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        if let Some(file) = OnnxFile::parse(&bytes) {
            let _ = file.last_operator("scores");
            resolve(&file, vec![-1, 3, -1, -1], "float32", &Facts::default());
        }
    }

    #[test]
    fn any_text_as_a_setting(name in prop::sample::select(settings::NAMES.to_vec()), text in text()) {
        let mut settings = Settings::default();
        if set(&mut settings, name, &text).is_ok() {
            let _ = settings.resolve_members();
        }
    }

    /// Each may be valid and all together nonsense.
    #[test]
    fn any_settings_together(list in vec((prop::sample::select(settings::NAMES.to_vec()), text()), 0..12)) {
        let mut settings = Settings::default();
        let _ = set(&mut settings, "model-file", "a.onnx,b.onnx");
        for (name, text) in list {
            let _ = set(&mut settings, name, &text);
        }
        if let Ok(members) = settings.resolve_members() {
            assert!(members.iter().map(|m| m.weight).sum::<f32>() > 0.0);
            for member in members {
                resolve(&OnnxFile::default(), vec![1, 3, 64, 64], "float32", &member.facts);
            }
        }
    }

    #[test]
    fn any_name_as_a_setting(name in r"\PC{0,12}", text in text()) {
        prop_assume!(!settings::NAMES.contains(&name.as_str()));
        prop_assert!(set(&mut Settings::default(), &name, &text).is_err());
    }

    #[test]
    fn any_text_as_a_palette_and_a_list_of_transforms(text in text()) {
        if let Ok(palette) = Palette::parse(&text) {
            for class in [0, 1, 255, 65535] {
                let _ = palette.colour(class);
            }
        }
        if let Ok(transforms) = tta::parse(&text) {
            prop_assert_eq!(transforms[0], tta::Transform::Identity);
        }
        prop_assert!(settings::items(&text).all(|item| !item.is_empty()));
    }

    #[test]
    fn any_metadata(
        pairs in vec((prop::sample::select(METADATA.to_vec()), json()), 1..6),
        shape in vec(-1i64..5, 0..6),
        element in prop::sample::select(vec!["float32", "float16", "uint8", "int32", "string"]),
    ) {
        let mut onnx = OnnxFile::default();
        for (key, value) in pairs {
            onnx.metadata.insert(key.into(), value);
        }
        resolve(&onnx, shape, element, &Facts::default());
        resolve(&onnx, vec![-1, 3, -1, -1], element, &Facts::default());
    }

    #[test]
    fn any_output_shape(shape in vec(-2i64..70, 0..6), height in 1usize..70, width in 1usize..70, label in any::<bool>()) {
        use settings::Layout;
        for layout in [Layout::Nchw, Layout::Nhwc] {
            if let Ok(found) = output_shape(Path::new("m.onnx"), "scores", label, layout, (height, width), &shape) {
                prop_assert!(found.channels > 0 && height % found.reduction == 0 && width % found.reduction == 0);
            }
        }
    }
}

/// Pieces of configuration files, valid and not, in any order.
fn config() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        text().prop_map(|t| format!("{t:?}")),
        text(),
        any::<f64>().prop_map(|v| v.to_string()),
        any::<i64>().prop_map(|v| v.to_string()),
        vec(any::<i32>(), 0..4).prop_map(|v| format!("{v:?}")),
        Just("true".to_string()),
        Just("1979-05-27".to_string()),
        Just("[[1, [2]], {a = 1}]".to_string()),
        Just("'a.onnx'".to_string()),
    ];
    let names: Vec<&str> = settings::NAMES
        .iter()
        .copied()
        .filter(|n| *n != "labels-file")
        .chain(["member", "weight", "cuda", "tf32", "fp16"])
        .collect();
    let line = prop_oneof![
        6 => (prop::sample::select(names), value).prop_map(|(name, value)| format!("{name} = {}", value.replace('/', ""))),
        2 => prop::sample::select(vec!["[[member]]", "[cuda]", "[tensorrt]", "[member]", "[[cuda]]"]).prop_map(str::to_string),
        1 => r"\PC{0,12}",
    ];
    vec(line, 0..10).prop_map(|lines| lines.join("\n"))
}

proptest! {
    // Each case writes a file.
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_configuration_file(text in config()) {
        let file = std::env::temp_dir().join(format!("onnxsegment-parsers-{}.toml", std::process::id()));
        std::fs::write(&file, &text).unwrap();
        match Settings::from_config(&file) {
            Ok(settings) => {
                let _ = settings.resolve_members();
            }
            Err(e) => {
                let e = e.to_string();
                prop_assert!(e.starts_with("config-file=") && e.contains(".toml"), "{} does not name the file", e);
            }
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn any_bytes_as_a_configuration_file(bytes in vec(any::<u8>(), 0..200)) {
        let file = std::env::temp_dir().join(format!("onnxsegment-parsers-bytes-{}.toml", std::process::id()));
        std::fs::write(&file, &bytes).unwrap();
        let _ = Settings::from_config(&file);
        std::fs::remove_file(&file).unwrap();
    }
}

/// Two settings that say the same thing in two ways: the stronger source's puts the other's aside.
#[test]
fn settings_that_exclude_each_other_follow_their_source() {
    let file = std::env::temp_dir().join(format!("onnxsegment-exclude-{}.toml", std::process::id()));
    let text = "input-range = [0, 2000]\nmask-values = [0, 255]\n[[member]]\nmodel-file = 'a.onnx'\n\
                [[member]]\nmodel-file = 'b.onnx'\nscale = 4095";
    std::fs::write(&file, text).unwrap();
    let of = |properties: &[(&str, &str)]| {
        let mut settings = Settings::default();
        for (name, value) in properties {
            settings.set(name, value, Source::Property, Path::new("")).unwrap();
        }
        let settings = settings.or(Settings::from_config(&file).unwrap());
        let members = settings.resolve_members().unwrap();
        let scaling = members
            .iter()
            .map(|m| (m.facts.scale.as_ref().map(|f| f.value), m.facts.input_range.as_ref().map(|f| f.value)));
        (scaling.collect::<Vec<_>>(), settings.label_offset, settings.mask_values)
    };
    let range = (None, Some((0.0, 2000.0)));
    assert_eq!(of(&[]), (vec![range, (Some(4095.0), None)], None, Some(vec![0, 255])));
    let scale = (Some(10.0), None);
    assert_eq!(of(&[("scale", "10"), ("label-offset", "1")]), (vec![scale, scale], Some(1), None));
    std::fs::remove_file(&file).unwrap();
}

/// Wherever a download stopped, the file is refused before ONNX Runtime sees it, or by it.
#[test]
fn every_truncation_of_a_model_is_an_error() {
    let (_, whole) = MODELS.iter().find(|(name, _)| name == "identity1x1").unwrap();
    let file = std::env::temp_dir().join(format!("onnxsegment-truncated-{}.onnx", std::process::id()));
    let mut read = 0;
    for length in 0..whole.len() {
        let part = &whole[..length];
        if OnnxFile::parse(part).is_none() {
            continue;
        }
        read += 1;
        // Cut between two fields: what is there parses.
        std::fs::write(&file, part).unwrap();
        let mut settings = Settings::default();
        settings.set("model-file", file.to_str().unwrap(), Source::Property, Path::new("")).unwrap();
        if let Err(e) = Ensemble::load(&settings) {
            assert!(e.to_string().contains(file.to_str().unwrap()), "{e}");
        }
    }
    let _ = std::fs::remove_file(&file);
    assert!(read < 10, "{read} truncations were taken for whole models");
}
