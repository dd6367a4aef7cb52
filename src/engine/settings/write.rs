//! Settings as the text of a `config-file`: what [`Settings::from_config`] reads.

use std::path::Path;

use toml::{Table, Value};

use super::{Facts, MemberSettings, ModelCard, Named, Settings};
use crate::engine::error::{Error, Result};
use crate::files;

impl Settings {
    /// The text of a configuration file in `folder`, with every member in a table of its own and paths from that folder on.
    ///
    /// # Errors
    /// Members that cannot be told (see [`Settings::resolve_members`]), and paths that are not UTF-8.
    pub fn to_config(&self, folder: &Path) -> Result<String> {
        let mut table = Table::new();
        let mut put = |name: &str, value: Option<Value>| {
            value.map(|value| table.insert(name.into(), value));
        };
        put("tta", self.tta.as_deref().map(|tta| super::tta::name(tta).into()));
        put("samples", self.samples.map(whole));
        // Beyond TOML's whole numbers, as text.
        put("seed", self.seed.map(|seed| i64::try_from(seed).map_or(seed.to_string().into(), Value::Integer)));
        put("merge", self.merge.map(name));
        put("merge-domain", self.domain.map(name));
        put("threshold", self.threshold.as_ref().map(|fact| float(fact.value)));
        put("class-thresholds", self.class_thresholds.as_deref().map(floats));
        put("label-offset", self.label_offset.map(whole));
        put("mask-values", self.mask_values.as_ref().map(|values| list(values, whole)));
        let labels = self.labels_file.as_ref().map(|file| text("labels-file", &files::relative(folder, file)));
        put("labels-file", labels.transpose()?);
        put("uncertainty-kind", self.uncertainty.map(name));
        let stacker = self.stacker.as_ref().map(|file| text("stacker", &files::relative(folder, file)));
        put("stacker", stacker.transpose()?);
        put("cascade", self.cascade.map(name));
        put("cascade-margin", self.cascade_margin.map(float));
        put("cascade-limit", self.cascade_limit.map(float));
        put("cascade-audit", self.cascade_audit.map(whole));
        put("skip-constant", self.skip_constant.map(Value::Boolean));
        put("batch-size", self.batch_size.map(whole));
        put("threads", self.threads.map(whole));
        put("execution-provider", self.providers.as_ref().map(|values| list(values, name)));
        put("provider-policy", self.policy.map(name));
        put("device-id", self.device_id.map(whole));
        put("optimization-level", self.optimization.map(name));
        put("cuda", options(&self.execution.cuda));
        put("tensorrt", options(&self.execution.tensorrt));
        let members: Result<Vec<Value>> = self.resolve_members()?.iter().map(|m| member(m, folder)).collect();
        put("member", Some(Value::Array(members?)));
        // Strings, numbers and tables of them, all of which TOML can hold.
        toml::to_string(&table).map_err(|e| Error::setting("config-file", "", e.to_string()))
    }
}

fn member(member: &MemberSettings, folder: &Path) -> Result<Value> {
    let mut table = Table::new();
    table.insert("model-file".into(), text("model-file", &files::relative(folder, &member.model))?);
    if member.weight != 1.0 {
        table.insert("weight".into(), float(member.weight));
    }
    let Facts {
        activation,
        temperature,
        mean,
        std,
        scale,
        input_range,
        channel_order,
        layout,
        output_name,
        size_multiple,
        model_card,
    } = &member.facts;
    let card = match model_card.as_ref().map(|fact| &fact.value) {
        None => None,
        Some(ModelCard::None) => Some("none".into()),
        Some(ModelCard::File(file)) => Some(text("model-card", &files::relative(folder, file))?),
    };
    let facts = [
        ("model-card", card),
        ("activation", activation.as_ref().map(|f| name(f.value))),
        ("temperature", temperature.as_ref().map(|f| float(f.value))),
        ("mean", mean.as_ref().map(|f| floats(&f.value))),
        ("std", std.as_ref().map(|f| floats(&f.value))),
        ("scale", scale.as_ref().map(|f| float(f.value))),
        ("input-range", input_range.as_ref().map(|f| floats(&[f.value.0, f.value.1]))),
        ("channel-order", channel_order.as_ref().map(|f| name(f.value))),
        ("layout", layout.as_ref().map(|f| name(f.value))),
        ("output-name", output_name.as_ref().map(|f| f.value.clone().into())),
        ("size-multiple", size_multiple.as_ref().map(|f| whole(f.value))),
    ];
    table.extend(facts.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))));
    Ok(table.into())
}

fn name<T: Named>(value: T) -> Value {
    value.name().into()
}

fn whole(value: impl TryInto<i64>) -> Value {
    // Every setting that is a whole number is far below the largest.
    value.try_into().unwrap_or(i64::MAX).into()
}

/// As its shortest decimal text, which single precision reads back; 0.1 is not to become 0.10000000149011612.
fn float(value: f32) -> Value {
    value.to_string().parse::<f64>().unwrap_or(f64::from(value)).into()
}

fn floats(values: &[f32]) -> Value {
    list(values, float)
}

fn list<T: Copy>(values: &[T], value: impl Fn(T) -> Value) -> Value {
    Value::Array(values.iter().copied().map(value).collect())
}

/// A table of options, where any differs from its default.
fn options<T: serde::Serialize + Default + PartialEq>(options: &T) -> Option<Value> {
    (*options != T::default()).then(|| Value::try_from(options).ok()).flatten()
}

fn text(setting: &'static str, path: &Path) -> Result<Value> {
    let text = path
        .to_str()
        .ok_or_else(|| Error::file(setting, path, "is not UTF-8, which a configuration file has to be"))?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::engine::settings::NAMES;

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
    }

    /// What is read of a file: members with all their facts, and everything else.
    fn seen(settings: &Settings) -> String {
        let members = settings.resolve_members().unwrap();
        let rest = Settings {
            models: Vec::new(),
            members: Vec::new(),
            weights: None,
            activations: None,
            temperatures: None,
            model_cards: None,
            facts: Facts::default(),
            ..settings.clone()
        };
        format!("{members:#?}{rest:#?}")
    }

    #[test]
    fn every_configuration_file_is_written_as_it_is_read() {
        let mut count = 0;
        for file in std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|e| e == "toml") {
                let settings = Settings::from_config(&file).unwrap();
                let text = settings.to_config(&golden()).unwrap();
                let again = std::env::temp_dir().join(format!("onnxsegment-write-{}.toml", std::process::id()));
                // From another folder on, the models are the same files.
                std::fs::write(&again, settings.to_config(&std::env::temp_dir()).unwrap()).unwrap();
                let read = Settings::from_config(&again).unwrap();
                std::fs::remove_file(&again).unwrap();
                assert_eq!(read.to_config(&golden()).unwrap(), text, "{}", file.display());
                count += 1;
            }
        }
        assert!(count >= 5);
    }

    #[test]
    fn every_setting_is_written() {
        let text = r#"
            tta = "flip3"
            samples = 5
            seed = "18446744073709551615"
            stacker = "../models/stack2.onnx"
            cascade = "confident"
            cascade-margin = 0.15
            cascade-limit = 0.02
            cascade-audit = 10
            skip-constant = true
            merge = "max"
            merge-domain = "logit"
            class-thresholds = [0.1, 0.25]
            mask-values = [0, 255]
            uncertainty-kind = "margin"
            batch-size = 4
            threads = 2
            execution-provider = ["cuda", "cpu"]
            provider-policy = "strict"
            device-id = 1
            optimization-level = "enable-basic"
            [cuda]
            tf32 = true
            cudnn-search = "exhaustive"
            [tensorrt]
            engine-cache = "/var/cache"
            [[member]]
            model-file = "../models/softmax2.onnx"
            model-card = "../models/softmax2-card.json"
            weight = 0.1
            activation = "softmax"
            temperature = 1.7
            mean = [0.485, 0.456, 0.406]
            std = 0.2
            input-range = [1.5, 300]
            channel-order = "bgr"
            layout = "nhwc"
            output-name = "scores"
            size-multiple = 8
            [[member]]
            model-file = "../models/five.onnx"
            model-card = "none"
            scale = 0.5
        "#;
        let file = golden().join(format!("write-{}.tmp", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let settings = Settings::from_config(&file);
            std::fs::remove_file(&file).unwrap();
            settings.unwrap()
        };
        // Of those that exclude each other one stands here; lists by model become facts of members.
        let elsewhere = ["weights", "threshold", "label-offset", "labels-file"];
        let missing = |name: &&&str| !text.contains(&format!("{name} =")) && !elsewhere.contains(*name);
        assert_eq!(NAMES.iter().find(missing), None, "a setting that this test does not know");
        let settings = read(text);
        let written = settings.to_config(&golden()).unwrap();
        assert_eq!(seen(&read(&written)), seen(&settings), "{written}");
        assert!(written.contains("temperature = 1.7") && written.contains("0.485"), "{written}");
    }
}
