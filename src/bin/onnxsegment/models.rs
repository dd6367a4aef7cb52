//! How models, and what is said of them, are named on the command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gstonnxsegment::engine::Settings;
use gstonnxsegment::engine::settings::Source;

#[derive(clap::Args)]
pub struct ModelArguments {
    /// Models: ONNX files or globs
    #[arg(value_name = "MODEL")]
    pub models: Vec<String>,

    /// Take models, and what is said of them, from a configuration file of the element
    #[arg(long, value_name = "FILE", conflicts_with = "models")]
    pub config_file: Option<PathBuf>,

    /// Another setting of the element, such as scale=65535 or execution-provider=cuda,cpu
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub settings: Vec<String>,
}

impl ModelArguments {
    /// The element's settings as they are stated. Those of `elsewhere` are stated by other means.
    ///
    /// # Errors
    /// No model, and settings that are not known or cannot be used.
    pub fn settings(&self, elsewhere: &[&str]) -> Result<Settings> {
        ensure!(
            !self.models.is_empty() || self.config_file.is_some(),
            "no model is named; name ONNX files, or a file that does by --config-file"
        );
        let mut settings = Settings::default();
        let here = Path::new("");
        let mut models = Vec::new();
        for model in &self.models {
            settings.set("model-file", model, Source::Property, here)?;
            models.append(&mut settings.models);
        }
        settings.models = models;
        for setting in &self.settings {
            let (name, value) = setting.split_once('=').with_context(|| format!("--set {setting}: use NAME=VALUE"))?;
            ensure!(name != "model-file", "--set {setting}: name models without --set");
            ensure!(!elsewhere.contains(&name), "--set {setting}: {name} is what is compared here; see --help");
            settings.set(name, value, Source::Property, here).with_context(|| format!("--set {setting}"))?;
        }
        match &self.config_file {
            Some(file) => Ok(settings.or(Settings::from_config(file)?)),
            None => Ok(settings),
        }
    }
}
