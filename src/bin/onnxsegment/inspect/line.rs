//! Command lines that a user may copy.

use gstonnxsegment::engine::spec::Form;

use super::Report;

/// The lines that run these models, by this program and by GStreamer's launcher.
pub struct Lines {
    pub run: String,
    pub launch: String,
    /// What they take for granted, where something is missing.
    pub provided: Option<&'static str>,
}

impl Lines {
    /// `stated` are the properties that were set to get as far.
    pub fn new(report: &Report, stated: &[(String, String)]) -> Option<Self> {
        let mut properties = stated.to_vec();
        let mut provided = None;
        for model in &report.models {
            for missing in &model.missing {
                // What the model alone can answer makes no line that runs.
                let name = missing.answer.split('=').next().filter(|name| !name.is_empty())?;
                if properties.iter().all(|(known, _)| known != name) {
                    let several = model.output.is_some_and(|o| o.channels > 1);
                    let value = if several { "softmax" } else { "sigmoid" };
                    properties.push((name.to_string(), value.to_string()));
                    provided = Some("if the output is logits");
                }
            }
        }
        let from_config = properties.iter().any(|(name, _)| name == "config-file");
        let paths: Vec<String> = report.models.iter().map(|model| model.path.display().to_string()).collect();
        let mut run = vec!["onnxsegment run IMAGE.tif -o mask.tif".to_string()];
        let mut launch = vec!["gst-launch-1.0 rastersrc location=IMAGE.tif ! onnxsegment".to_string()];
        if !from_config {
            run.extend(paths.iter().map(|path| format!("-m {}", quoted(path))));
            launch.push(format!("model-file={}", quoted(&paths.join(","))));
        }
        for (name, value) in &properties {
            run.push(format!("--{name} {}", quoted(value)));
            launch.push(format!("{name}={}", quoted(value)));
        }
        let labels = report.models.iter().all(|m| m.spec.as_ref().is_some_and(|spec| spec.output.form == Form::Label));
        launch.push("! rastersink location=mask.tif".into());
        if labels {
            launch.push("blend=crop".into());
            run.push("--blend crop".into());
        }
        Some(Lines { run: run.join(" "), launch: launch.join(" "), provided })
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./,=:@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell_where_they_have_to_be() {
        assert_eq!(quoted("models/a-1.onnx"), "models/a-1.onnx");
        assert_eq!(quoted("my model.onnx"), "'my model.onnx'");
        assert_eq!(quoted("farmer's"), r"'farmer'\''s'");
        assert_eq!(quoted("#ff0000"), "'#ff0000'");
        assert_eq!(quoted(""), "''");
    }
}
