//! What a user asks for, as text: the element's properties, and the same names in a `config-file` (TOML).
//!
//! A setting left alone is `None`; what then holds is decided where it is used (`spec`, `ensemble`).
//! Properties win over the file, the file over what a model says of itself.

mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::cascade::Mode;
use super::error::{Error, Result, count};
use super::merge::{Domain, Merge, Uncertainty};
use super::runtime::{Execution, OptimizationLevel, Policy, Provider};
use super::tta::{self, Transform};

/// Where a fact about a model came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Property,
    ConfigFile,
    /// A field of a STAC item that speaks of the model.
    Card(&'static str),
    /// A key of the ONNX file's metadata.
    Metadata(&'static str),
    /// A key of GStreamer's `.modelinfo`.
    ModelInfo(&'static str),
    /// The graph itself: its shapes, types and last operator, or a probe run.
    Graph,
    /// The Deepness plugin's convention, when its keys are present.
    Deepness,
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Property => f.write_str("property"),
            Source::ConfigFile => f.write_str("config-file"),
            Source::Card(key) => write!(f, "model card {key}"),
            Source::ModelInfo(key) => write!(f, "modelinfo {key}"),
            Source::Metadata(key) => write!(f, "metadata {key}"),
            Source::Graph => f.write_str("graph"),
            Source::Deepness => f.write_str("Deepness convention"),
            Source::Default => f.write_str("default"),
        }
    }
}

/// A value, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact<T> {
    pub value: T,
    pub source: Source,
}

impl<T> Fact<T> {
    pub fn new(value: T, source: Source) -> Self {
        Fact { value, source }
    }
}

/// What turns a model's raw output into probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The output is probabilities already.
    None,
    /// Logits, each channel on its own.
    Sigmoid,
    /// Logits, one class per channel.
    Softmax,
    /// Log-probabilities (the graph ends in LogSoftmax).
    LogSoftmax,
}

/// The file that speaks of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelCard {
    /// No file is read, none beside the model either.
    None,
    /// A STAC item with the MLM extension.
    File(PathBuf),
}

impl ModelCard {
    fn parse(text: &str, base: &Path) -> Self {
        match text.trim() {
            "none" => ModelCard::None,
            path => ModelCard::File(base.join(path)),
        }
    }

    fn text(&self) -> String {
        match self {
            ModelCard::None => "none".into(),
            ModelCard::File(file) => file.display().to_string(),
        }
    }
}

/// The order of the colour channels that a model was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelOrder {
    Rgb,
    Bgr,
}

/// The order of a tensor's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Nchw,
    Nhwc,
}

/// Types whose values have names that users write.
pub trait Named: Sized + Copy + PartialEq + 'static {
    /// Every value with its name.
    const NAMES: &'static [(&'static str, Self)];

    fn name(self) -> &'static str {
        // A value missing from its own table would be a mistake in this crate; the tests walk every table.
        Self::NAMES.iter().find(|(_, v)| *v == self).map_or("", |(n, _)| n)
    }

    fn parse(setting: &str, text: &str) -> Result<Self> {
        let found = Self::NAMES.iter().find(|(n, _)| *n == text.trim());
        found.map(|(_, v)| *v).ok_or_else(|| {
            let names: Vec<_> = Self::NAMES.iter().map(|(n, _)| *n).collect();
            let found = match text.trim() {
                "" => "is empty".into(),
                text => format!("`{text}` is not known"),
            };
            Error::setting(setting, text, format!("{found}; use one of {}", names.join(", ")))
        })
    }
}

impl Named for Activation {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("none", Activation::None),
        ("sigmoid", Activation::Sigmoid),
        ("softmax", Activation::Softmax),
        ("log-softmax", Activation::LogSoftmax),
    ];
}

impl Named for ChannelOrder {
    const NAMES: &'static [(&'static str, Self)] = &[("rgb", ChannelOrder::Rgb), ("bgr", ChannelOrder::Bgr)];
}

impl Named for Layout {
    const NAMES: &'static [(&'static str, Self)] = &[("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)];
}

/// Facts about a model that a user may state, for one member or for all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    pub activation: Option<Fact<Activation>>,
    /// Divides logits.
    pub temperature: Option<Fact<f32>>,
    pub mean: Option<Fact<Vec<f32>>>,
    pub std: Option<Fact<Vec<f32>>>,
    /// The divisor of pixel values.
    pub scale: Option<Fact<f32>>,
    /// Pixel values that become 0 and 1.
    pub input_range: Option<Fact<(f32, f32)>>,
    pub channel_order: Option<Fact<ChannelOrder>>,
    pub layout: Option<Fact<Layout>>,
    /// Name or index of the output to use.
    pub output_name: Option<Fact<String>>,
    pub size_multiple: Option<Fact<usize>>,
    pub model_card: Option<Fact<ModelCard>>,
}

impl Facts {
    /// Takes one setting; `false` when the name is none of these. Relative paths start at `base`.
    fn set(&mut self, name: &str, text: &str, source: Source, base: &Path) -> Result<bool> {
        match name {
            "model-card" => self.model_card = Some(Fact::new(ModelCard::parse(text, base), source)),
            "activation" => self.activation = Some(Fact::new(Activation::parse(name, text)?, source)),
            "temperature" => self.temperature = Some(Fact::new(positive(name, text)?, source)),
            "mean" => self.mean = Some(Fact::new(numbers(name, text)?, source)),
            "std" => {
                let std = numbers(name, text)?;
                if std.iter().any(|v| *v <= 0.0) {
                    return Err(Error::setting(name, text, "every value must be greater than 0"));
                }
                self.std = Some(Fact::new(std, source));
            }
            "scale" => self.scale = Some(Fact::new(positive(name, text)?, source)),
            "input-range" => self.input_range = Some(Fact::new(range(name, text)?, source)),
            "channel-order" => self.channel_order = Some(Fact::new(ChannelOrder::parse(name, text)?, source)),
            "layout" => self.layout = Some(Fact::new(Layout::parse(name, text)?, source)),
            "output-name" => self.output_name = Some(Fact::new(text.to_string(), source)),
            "size-multiple" => {
                let value: usize = number(name, text, "a whole number from 1 to 4096")?;
                if !(1..=4096).contains(&value) {
                    return Err(Error::setting(name, text, "use a whole number from 1 to 4096"));
                }
                self.size_multiple = Some(Fact::new(value, source));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// These facts, and where they are silent, those of `other`.
    pub fn or(&self, other: &Facts) -> Facts {
        fn pick<T: Clone>(a: &Option<T>, b: &Option<T>) -> Option<T> {
            a.clone().or_else(|| b.clone())
        }
        Facts {
            activation: pick(&self.activation, &other.activation),
            temperature: pick(&self.temperature, &other.temperature),
            mean: pick(&self.mean, &other.mean),
            std: pick(&self.std, &other.std),
            // Two ways to say the same: whoever states one of them has not left the other open.
            scale: if self.input_range.is_some() { self.scale.clone() } else { pick(&self.scale, &other.scale) },
            input_range: if self.scale.is_some() {
                self.input_range.clone()
            } else {
                pick(&self.input_range, &other.input_range)
            },
            channel_order: pick(&self.channel_order, &other.channel_order),
            layout: pick(&self.layout, &other.layout),
            output_name: pick(&self.output_name, &other.output_name),
            size_multiple: pick(&self.size_multiple, &other.size_multiple),
            model_card: pick(&self.model_card, &other.model_card),
        }
    }
}

/// One `[[member]]` of a configuration file.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberSettings {
    pub model: PathBuf,
    pub weight: f32,
    pub facts: Facts,
}

/// Everything a user can ask of an ensemble.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Model files in order, after globs are resolved.
    pub models: Vec<PathBuf>,
    pub members: Vec<MemberSettings>,
    pub weights: Option<Vec<f32>>,
    pub tta: Option<Vec<Transform>>,
    /// Stochastic passes of each model and transform.
    pub samples: Option<usize>,
    pub seed: Option<u64>,
    pub merge: Option<Merge>,
    pub domain: Option<Domain>,
    /// One for all members, or one each.
    pub activations: Option<Fact<Vec<Activation>>>,
    /// One for all members, or one each.
    pub temperatures: Option<Fact<Vec<f32>>>,
    /// One for all members, or one each.
    pub model_cards: Option<Fact<Vec<ModelCard>>>,
    pub facts: Facts,
    pub threshold: Option<Fact<f32>>,
    pub class_thresholds: Option<Vec<f32>>,
    pub label_offset: Option<u16>,
    pub mask_values: Option<Vec<u16>>,
    pub class_names: Option<Fact<Vec<String>>>,
    /// Where they were read from.
    pub labels_file: Option<PathBuf>,
    pub uncertainty: Option<Uncertainty>,
    /// A model over the members' probabilities.
    pub stacker: Option<PathBuf>,
    pub cascade: Option<Mode>,
    pub cascade_margin: Option<f32>,
    pub cascade_limit: Option<f32>,
    pub cascade_audit: Option<u32>,
    pub skip_constant: Option<bool>,
    pub batch_size: Option<usize>,
    pub threads: Option<usize>,
    pub providers: Option<Vec<Provider>>,
    pub policy: Option<Policy>,
    pub device_id: Option<i32>,
    pub optimization: Option<OptimizationLevel>,
    /// Provider options that only a configuration file can hold.
    pub execution: Execution,
}

/// The settings that a configuration file may hold, besides `[[member]]`, `[cuda]` and `[tensorrt]`.
pub const NAMES: &[&str] = &[
    "model-file",
    "model-card",
    "weights",
    "tta",
    "samples",
    "seed",
    "merge",
    "merge-domain",
    "activation",
    "temperature",
    "threshold",
    "class-thresholds",
    "mean",
    "std",
    "scale",
    "input-range",
    "channel-order",
    "layout",
    "output-name",
    "size-multiple",
    "label-offset",
    "mask-values",
    "labels-file",
    "uncertainty-kind",
    "stacker",
    "cascade",
    "cascade-margin",
    "cascade-limit",
    "cascade-audit",
    "skip-constant",
    "batch-size",
    "threads",
    "execution-provider",
    "provider-policy",
    "device-id",
    "optimization-level",
];

impl Settings {
    /// Takes one setting by its property name. Relative paths start at `base`.
    ///
    /// # Errors
    /// An unknown name or a value that cannot be used; the text lists what can.
    pub fn set(&mut self, name: &str, text: &str, source: Source, base: &Path) -> Result<()> {
        match name {
            "model-file" => self.models = models(text, base)?,
            "model-card" => {
                let whole = base.join(text);
                let cards: Vec<ModelCard> = match whole.is_file() {
                    true => vec![ModelCard::File(whole)], // also when the name holds a comma
                    false => items(text).map(|item| ModelCard::parse(item, base)).collect(),
                };
                if cards.is_empty() {
                    return Err(Error::setting(
                        name,
                        text,
                        "use a STAC item's path, one per model joined by commas, or none",
                    ));
                }
                self.model_cards = Some(Fact::new(cards, source));
            }
            "weights" => self.weights = Some(numbers(name, text)?),
            "tta" => self.tta = Some(tta::parse(text)?),
            "samples" => {
                let value: usize = number(name, text, "a whole number from 1 to 1024")?;
                if !(1..=1024).contains(&value) {
                    return Err(Error::setting(name, text, "use a whole number from 1 to 1024"));
                }
                self.samples = Some(value);
            }
            "seed" => self.seed = Some(number(name, text, "a whole number of 0 or more")?),
            "merge" => self.merge = Some(Merge::parse(name, text)?),
            "merge-domain" => self.domain = Some(Domain::parse(name, text)?),
            "activation" => {
                self.activations = Some(Fact::new(names(name, text)?, source));
            }
            "temperature" => {
                let values: Result<Vec<f32>> = items(text).map(|item| positive(name, item)).collect();
                let values = values.map_err(|e| e.in_list(text))?;
                if values.is_empty() {
                    return Err(Error::setting(name, text, "use numbers greater than 0, joined by commas"));
                }
                self.temperatures = Some(Fact::new(values, source));
            }
            "threshold" => self.threshold = Some(Fact::new(within(name, text, 1.0)?, source)),
            "class-thresholds" => {
                let values = numbers(name, text)?;
                if values.iter().any(|v| !(0.0..=1.0).contains(v)) {
                    return Err(Error::setting(name, text, "use numbers from 0 to 1, one per class"));
                }
                self.class_thresholds = Some(values);
            }
            "label-offset" => {
                self.label_offset = Some(number(name, text, "a whole number from 0 to 65534")?);
            }
            "mask-values" => {
                let expected = "whole numbers from 0 to 65535, one per class";
                let values: Result<Vec<u16>> = items(text).map(|t| number(name, t, expected)).collect();
                let values = values.map_err(|e| e.in_list(text))?;
                if values.is_empty() {
                    return Err(Error::setting(name, text, format!("use {expected}, joined by commas")));
                }
                self.mask_values = Some(values);
            }
            "labels-file" => {
                let file = base.join(text);
                self.class_names = Some(Fact::new(labels(&file)?, source));
                self.labels_file = Some(file);
            }
            "uncertainty-kind" => self.uncertainty = Some(Uncertainty::parse(name, text)?),
            "stacker" => self.stacker = Some(base.join(text)),
            "cascade" => self.cascade = Some(Mode::parse(name, text)?),
            "cascade-margin" => self.cascade_margin = Some(within(name, text, 0.5)?),
            "cascade-limit" => self.cascade_limit = Some(within(name, text, 1.0)?),
            "cascade-audit" => self.cascade_audit = Some(number(name, text, "a whole number; 0 means none")?),
            "skip-constant" => self.skip_constant = Some(number(name, text, "true or false")?),
            "batch-size" => {
                let value: usize = number(name, text, "a whole number of 1 or more")?;
                if value == 0 {
                    return Err(Error::setting(name, text, "use a whole number of 1 or more"));
                }
                self.batch_size = Some(value);
            }
            "threads" => self.threads = Some(number(name, text, "a whole number; 0 means every core")?),
            "execution-provider" => {
                self.providers = Some(names(name, text)?);
            }
            "provider-policy" => self.policy = Some(Policy::parse(name, text)?),
            "device-id" => {
                let value: i32 = number(name, text, "a whole number of 0 or more")?;
                if value < 0 {
                    return Err(Error::setting(name, text, "use a whole number of 0 or more"));
                }
                self.device_id = Some(value);
            }
            "optimization-level" => self.optimization = Some(OptimizationLevel::parse(name, text)?),
            _ => {
                if !self.facts.set(name, text, source, base)? {
                    return Err(Error::setting(
                        name,
                        text,
                        format!("there is no such setting; the settings are {}", NAMES.join(", ")),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Reads a configuration file.
    ///
    /// Top-level keys are the element's property names; `[[member]]` tables hold `model-file`, `weight` and any
    /// fact about that model; `[cuda]` and `[tensorrt]` hold provider options. Paths start at the file's folder.
    ///
    /// # Errors
    /// A file that cannot be read, is not TOML, or holds an unknown key or an unusable value.
    pub fn from_config(path: &Path) -> Result<Settings> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::file("config-file", path, format!("cannot be read: {e}; expected a TOML file")))?;
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            Error::file("config-file", path, format!("is not valid TOML: {}", e.to_string().trim_end()))
        })?;
        let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let in_file = |e: Error| Error::file("config-file", path, e.to_string());

        let mut settings = Settings::default();
        for (name, value) in &table {
            match (name.as_str(), value) {
                ("member", toml::Value::Array(members)) => {
                    for (k, member) in members.iter().enumerate() {
                        let in_member = |e| Error::file("config-file", path, format!("[[member]] {}: {e}", k + 1));
                        settings.members.push(member_settings(member, &base).map_err(in_member)?);
                    }
                }
                ("cuda", value) => {
                    settings.execution.cuda = table_of("cuda", value).map_err(in_file)?;
                }
                ("tensorrt", value) => {
                    settings.execution.tensorrt = table_of("tensorrt", value).map_err(in_file)?;
                }
                ("member", value) => {
                    return Err(in_file(Error::setting("member", value, "is not a list of tables; write [[member]]")));
                }
                (name, value) => plain(name, value)
                    .and_then(|text| settings.set(name, &text, Source::ConfigFile, &base))
                    .map_err(in_file)?,
            }
        }
        if !settings.members.is_empty() && !settings.models.is_empty() {
            return Err(Error::file(
                "config-file",
                path,
                "holds both model-file and [[member]]; name every model in one of the two",
            ));
        }
        Ok(settings)
    }

    /// These settings, and where they are silent, those of `file`.
    pub fn or(mut self, file: Settings) -> Settings {
        // Models named by property replace those of the file, and with them what the file says member by member.
        if self.models.is_empty() && self.members.is_empty() {
            self.models = file.models;
            self.members = file.members;
            self.weights = self.weights.or(file.weights);
            self.activations = self.activations.or(file.activations);
            self.temperatures = self.temperatures.or(file.temperatures);
            self.model_cards = self.model_cards.or(file.model_cards);
        }
        self.tta = self.tta.or(file.tta);
        self.samples = self.samples.or(file.samples);
        self.seed = self.seed.or(file.seed);
        self.merge = self.merge.or(file.merge);
        self.domain = self.domain.or(file.domain);
        self.facts = self.facts.or(&file.facts);
        // Two ways to say what scores have to reach.
        if self.threshold.is_none() && self.class_thresholds.is_none() {
            self.threshold = file.threshold;
            self.class_thresholds = file.class_thresholds;
        }
        // Two ways to say what a class is written as.
        if self.label_offset.is_none() && self.mask_values.is_none() {
            self.label_offset = file.label_offset;
            self.mask_values = file.mask_values;
        }
        self.class_names = self.class_names.or(file.class_names);
        self.labels_file = self.labels_file.or(file.labels_file);
        self.uncertainty = self.uncertainty.or(file.uncertainty);
        self.stacker = self.stacker.or(file.stacker);
        self.cascade = self.cascade.or(file.cascade);
        self.cascade_margin = self.cascade_margin.or(file.cascade_margin);
        self.cascade_limit = self.cascade_limit.or(file.cascade_limit);
        self.cascade_audit = self.cascade_audit.or(file.cascade_audit);
        self.skip_constant = self.skip_constant.or(file.skip_constant);
        self.batch_size = self.batch_size.or(file.batch_size);
        self.threads = self.threads.or(file.threads);
        self.providers = self.providers.or(file.providers);
        self.policy = self.policy.or(file.policy);
        self.device_id = self.device_id.or(file.device_id);
        self.optimization = self.optimization.or(file.optimization);
        self.execution = file.execution;
        self
    }

    /// Every member with its weight and the facts stated for it, most specific first.
    ///
    /// # Errors
    /// No model at all, or lists of the wrong length.
    pub fn resolve_members(&self) -> Result<Vec<MemberSettings>> {
        let mut members = self.members.clone();
        members.extend(self.models.iter().map(|model| MemberSettings {
            model: model.clone(),
            weight: 1.0,
            facts: Facts::default(),
        }));
        if members.is_empty() {
            return Err(Error::setting(
                "model-file",
                "",
                "no model is named; set model-file to a path, a glob, or several joined by commas, or set config-file",
            ));
        }
        let count = members.len();
        let files: Vec<_> = members.iter().map(|m| m.model.display().to_string()).collect();
        let wrong = |name: &str, found: usize, list: String, give: &str| {
            let (values, models) = (super::error::count(found, "value"), super::error::count(count, "model"));
            Error::setting(name, list, format!("{values} for {models} ({}); give {give}", files.join(", ")))
        };
        if let Some(weights) = &self.weights {
            if weights.len() != count {
                return Err(wrong("weights", weights.len(), join(weights), "one per model"));
            }
            members.iter_mut().zip(weights).for_each(|(m, w)| m.weight = *w);
        }
        check_weights(&members)?;
        const SEVERAL: &str = "one for all, or one per model";
        if let Some(list) = &self.activations {
            if ![1, count].contains(&list.value.len()) {
                let names: Vec<_> = list.value.iter().map(|a| a.name()).collect();
                return Err(wrong("activation", names.len(), names.join(","), SEVERAL));
            }
            deal(list, &mut members, |facts| &mut facts.activation);
        }
        if let Some(list) = &self.temperatures {
            if ![1, count].contains(&list.value.len()) {
                return Err(wrong("temperature", list.value.len(), join(&list.value), SEVERAL));
            }
            deal(list, &mut members, |facts| &mut facts.temperature);
        }
        if let Some(list) = &self.model_cards {
            if ![1, count].contains(&list.value.len()) {
                let names: Vec<_> = list.value.iter().map(ModelCard::text).collect();
                return Err(wrong("model-card", names.len(), names.join(","), SEVERAL));
            }
            deal(list, &mut members, |facts| &mut facts.model_card);
        }
        for member in &mut members {
            member.facts = by_rank(&self.facts, &member.facts);
        }
        Ok(members)
    }
}

/// Gives each member its value of a list, or the only one. A property outranks the file's member table; the file's general
/// line does not.
fn deal<T: Clone>(
    list: &Fact<Vec<T>>,
    members: &mut [MemberSettings],
    fact: impl Fn(&mut Facts) -> &mut Option<Fact<T>>,
) {
    for (k, member) in members.iter_mut().enumerate() {
        let own = fact(&mut member.facts);
        if list.source == Source::Property || own.is_none() {
            *own = Some(Fact::new(list.value[k.min(list.value.len() - 1)].clone(), list.source));
        }
    }
}

/// Facts for all and facts for one: a property wins, then the member's own, then the file's general ones.
fn by_rank(general: &Facts, own: &Facts) -> Facts {
    fn property<T: Clone>(fact: &Option<Fact<T>>) -> Option<Fact<T>> {
        fact.clone().filter(|f| f.source == Source::Property)
    }
    let properties = Facts {
        activation: property(&general.activation),
        temperature: property(&general.temperature),
        mean: property(&general.mean),
        std: property(&general.std),
        scale: property(&general.scale),
        input_range: property(&general.input_range),
        channel_order: property(&general.channel_order),
        layout: property(&general.layout),
        output_name: property(&general.output_name),
        size_multiple: property(&general.size_multiple),
        model_card: property(&general.model_card),
    };
    properties.or(own).or(general)
}

fn check_weights(members: &[MemberSettings]) -> Result<()> {
    let weights: Vec<_> = members.iter().map(|m| m.weight).collect();
    if weights.iter().any(|w| !w.is_finite() || *w < 0.0) {
        return Err(Error::setting("weights", join(&weights), "every weight must be 0 or more"));
    }
    if !weights.iter().sum::<f32>().is_finite() {
        return Err(Error::setting("weights", join(&weights), "their sum is too large; only their ratios count"));
    }
    if weights.iter().sum::<f32>() <= 0.0 {
        return Err(Error::setting(
            "weights",
            join(&weights),
            "the weights sum to zero; at least one must be greater than 0",
        ));
    }
    Ok(())
}

fn member_settings(value: &toml::Value, base: &Path) -> Result<MemberSettings> {
    let table = value.as_table().ok_or_else(|| Error::setting("member", value, "is not a table; write [[member]]"))?;
    let mut member = MemberSettings { model: PathBuf::new(), weight: 1.0, facts: Facts::default() };
    for (name, value) in table {
        let text = plain(name, value)?;
        match name.as_str() {
            "model-file" => {
                let mut found = models(&text, base)?;
                if found.len() != 1 {
                    return Err(Error::setting(
                        "model-file",
                        &text,
                        format!("names {}; a [[member]] is one model", count(found.len(), "file")),
                    ));
                }
                member.model = found.remove(0);
            }
            "weight" => {
                member.weight = number(name, &text, "a number of 0 or more")?;
                if !member.weight.is_finite() || member.weight < 0.0 {
                    return Err(Error::setting(name, &text, "use a number of 0 or more"));
                }
            }
            _ => {
                if !member.facts.set(name, &text, Source::ConfigFile, base)? {
                    return Err(Error::setting(
                        name,
                        &text,
                        "there is no such setting; a [[member]] holds model-file, model-card, weight, activation, \
                         temperature, mean, std, scale, input-range, channel-order, layout, output-name, size-multiple",
                    ));
                }
            }
        }
    }
    if member.model.as_os_str().is_empty() {
        return Err(Error::setting("model-file", "", "is missing; every [[member]] names one"));
    }
    Ok(member)
}

/// A TOML value as the text that the property of this name would hold.
fn plain(name: &str, value: &toml::Value) -> Result<String> {
    Ok(match value {
        toml::Value::String(s) => s.clone(),
        toml::Value::Integer(i) => i.to_string(),
        toml::Value::Float(f) => f.to_string(),
        toml::Value::Boolean(b) => b.to_string(),
        toml::Value::Array(list) => {
            let texts: Result<Vec<_>> = list.iter().map(|v| plain(name, v)).collect();
            texts?.join(",")
        }
        other => {
            return Err(Error::setting(name, other, "must be a text, a number, true or false, or a list of them"));
        }
    })
}

/// Resolves a `model-file` setting: a path, a glob, or several joined by commas. A glob's files come in
/// alphabetical order.
fn models(text: &str, base: &Path) -> Result<Vec<PathBuf>> {
    let whole = base.join(text);
    if whole.is_file() {
        return Ok(vec![whole]); // also when the name holds a comma or a bracket
    }
    let mut files = Vec::new();
    for item in items(text) {
        let path = base.join(item);
        if path.is_file() || !item.contains(['*', '?', '[']) {
            files.push(path);
            continue;
        }
        let pattern = path.to_string_lossy().into_owned();
        let found = glob::glob(&pattern).map_err(|e| {
            Error::setting("model-file", item, format!("is not a valid glob: {e}; a bracket of a name is written [[]"))
        })?;
        let before = files.len();
        files.extend(found.filter_map(|f| f.ok()).filter(|f| f.is_file()));
        if files.len() == before {
            let folder = std::path::absolute(crate::files::parent(&path)).unwrap_or_default();
            return Err(Error::setting(
                "model-file",
                item,
                format!("matches no file in {}; check the pattern and the folder", folder.display()),
            ));
        }
    }
    Ok(files)
}

/// Class names from a text file, one per line.
fn labels(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::file("labels-file", path, format!("cannot be read: {e}; it holds one class name per line"))
    })?;
    let names: Vec<_> = text.lines().map(|l| l.trim().to_string()).filter(|l| !l.is_empty()).collect();
    if names.is_empty() {
        return Err(Error::file("labels-file", path, "is empty; it holds one class name per line"));
    }
    Ok(names)
}

/// The items of a list written as text.
pub fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty())
}

/// Names joined by commas, at least one.
fn names<T: Named>(setting: &str, text: &str) -> Result<Vec<T>> {
    let list: Result<Vec<T>> = items(text).map(|t| T::parse(setting, t)).collect();
    let list = list.map_err(|e| e.in_list(text))?;
    // An empty text is no name either, and its error lists those there are.
    if list.is_empty() { T::parse(setting, text).map(|v| vec![v]) } else { Ok(list) }
}

/// A table of a configuration file whose keys are fixed.
fn table_of<T: serde::de::DeserializeOwned>(name: &str, value: &toml::Value) -> Result<T> {
    value.clone().try_into().map_err(|e: toml::de::Error| {
        let problem = e.to_string();
        Error::setting(&format!("[{name}]"), "", problem.trim_end().replace('\n', ", "))
    })
}

fn number<T: FromStr>(name: &str, text: &str, expected: &str) -> Result<T> {
    text.trim()
        .parse()
        .map_err(|_| Error::setting(name, text, format!("`{}` is not usable; use {expected}", text.trim())))
}

fn within(name: &str, text: &str, most: f32) -> Result<f32> {
    let expected = format!("a number from 0 to {most}");
    let value: f32 = number(name, text, &expected)?;
    match (0.0..=most).contains(&value) {
        true => Ok(value),
        false => Err(Error::setting(name, text, format!("use {expected}"))),
    }
}

fn positive(name: &str, text: &str) -> Result<f32> {
    let value: f32 = number(name, text, "a number greater than 0")?;
    if !value.is_finite() || value <= 0.0 {
        return Err(Error::setting(name, text, "use a number greater than 0"));
    }
    Ok(value)
}

fn numbers(name: &str, text: &str) -> Result<Vec<f32>> {
    let list: Result<Vec<f32>> = items(text).map(|t| number(name, t, "numbers joined by commas")).collect();
    let list = list.map_err(|e| e.in_list(text))?;
    if list.is_empty() || list.iter().any(|v| !v.is_finite()) {
        return Err(Error::setting(name, text, "use finite numbers joined by commas"));
    }
    Ok(list)
}

fn range(name: &str, text: &str) -> Result<(f32, f32)> {
    match numbers(name, text).as_deref() {
        Ok([lo, hi]) if lo < hi => Ok((*lo, *hi)),
        _ => {
            Err(Error::setting(name, text, "use two numbers lo,hi with lo < hi: the pixel values that become 0 and 1"))
        }
    }
}

/// Numbers as a user would write them in a list.
pub fn join(list: &[f32]) -> String {
    let texts: Vec<_> = list.iter().map(|v| v.to_string()).collect();
    texts.join(",")
}
