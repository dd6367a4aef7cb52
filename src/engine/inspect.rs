//! What can be told of a model before it runs: all facts, what would be assumed, and what is missing. Where the engine refuses a
//! model, this goes on as far as it can.

use std::path::PathBuf;

use super::card::scaling::Scaling;
use super::ensemble::member;
use super::error::{Error, Result};
use super::onnx::OnnxFile;
use super::runtime::{Model, Provider, SessionOptions};
use super::settings::{Activation, Fact, Facts, MemberSettings, ModelCard, Named, Settings, Source};
use super::spec::{ElementType, Form, ModelSpec, OutputShape, Port};

/// What is missing, and the setting that answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub problem: String,
    /// As `name=value`, with values to choose from; empty where the model itself has to change.
    pub answer: &'static str,
}

/// A model looked at.
pub struct Inspection {
    pub path: PathBuf,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// `None` where the engine cannot make out what it takes.
    pub spec: Option<ModelSpec>,
    /// What a run on zeros gave.
    pub output: Option<OutputShape>,
    pub missing: Vec<Missing>,
    /// Why the model's card cannot be followed: one of `missing`.
    pub card: Option<String>,
    /// Settings that will be taken for lack of a statement: name, value and what it means.
    pub assumed: Vec<(&'static str, String, &'static str)>,
    pub notes: Vec<String>,
}

impl Inspection {
    /// Classes that the output tells, 2 for one channel.
    pub fn classes(&self) -> Option<usize> {
        let spec = self.spec.as_ref()?;
        match spec.output.form {
            Form::Label => self.class_names().map(|names| names.len()),
            _ => self.output.map(|output| output.channels.max(2)),
        }
    }

    pub fn class_names(&self) -> Option<&[String]> {
        let names = self.spec.as_ref()?.class_names.as_ref().ok()?.as_ref()?;
        Some(&names.value)
    }

    /// Whether nothing is missing.
    pub fn runs(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Looks at a model. `general` is what is stated for all models, such as a threshold.
///
/// # Errors
/// A file that is no model, or no ONNX Runtime to open it: nothing can be told then.
pub fn inspect(stated: &MemberSettings, general: &Settings, options: &SessionOptions) -> Result<Inspection> {
    let path = &stated.model;
    let onnx = OnnxFile::read(path)?;
    let model = Model::open(path, options, 1)?;
    let mut found = Inspection {
        path: path.clone(),
        inputs: model.inputs.clone(),
        outputs: model.outputs.clone(),
        spec: None,
        output: None,
        missing: Vec::new(),
        card: None,
        assumed: Vec::new(),
        notes: model.warning.clone().into_iter().collect(),
    };
    // What stands in the way is told and put aside, until the rest can be seen.
    let mut facts = stated.facts.clone();
    loop {
        match ModelSpec::resolve(path, &onnx, &model.inputs, &model.outputs, &facts) {
            Ok(mut spec) => {
                spec.threshold = general.threshold.clone().or(spec.threshold);
                if let Some(names) = &general.class_names {
                    spec.class_names = Ok(Some(names.clone()));
                }
                if let Some(transforms) = &general.tta {
                    spec.tta = Some(Fact::new(transforms.clone(), Source::Property));
                }
                found.spec = Some(spec);
                break;
            }
            Err(e) => {
                found.misses(&e);
                if !put_aside(&e, &stated.facts, &mut facts) {
                    break;
                }
            }
        }
    }
    if let Some(spec) = found.spec.clone() {
        match model.session().and_then(|mut session| member::probe_smallest(&mut session, &spec)) {
            Ok((_, output)) => found.output = Some(output),
            Err(e) => found.misses(&e),
        }
        for wrong in [spec.class_names.as_ref().err(), spec.tiling.as_ref().err()].into_iter().flatten() {
            found.misses(wrong);
        }
        found.assumed = assumed(&spec, found.output);
    }
    found.note(&onnx);
    Ok(found)
}

/// Answers an error for the time being; `false` where nothing does.
fn put_aside(error: &Error, stated: &Facts, facts: &mut Facts) -> bool {
    let no_card = Some(Fact::new(ModelCard::None, Source::Default));
    match error {
        e if is_unknown_activation(e) => facts.activation = Some(Fact::new(Activation::None, Source::Default)),
        // A scaling that cannot be expressed leaves the rest of a card as it is.
        Error::File { setting: "model-card", .. } if !Scaling::is_stated(facts) => {
            facts.scale = Some(Fact::new(255.0, Source::Default));
        }
        Error::File { setting: "model-card", .. } if facts.model_card != no_card => {
            facts.model_card = no_card;
            facts.scale = stated.scale.clone();
        }
        _ => return false,
    }
    true
}

fn is_unknown_activation(error: &Error) -> bool {
    matches!(error, Error::Model { problem, .. } if problem.starts_with(super::spec::UNKNOWN_ACTIVATION))
}

impl Inspection {
    fn misses(&mut self, error: &Error) {
        let problem = match error {
            Error::Model { problem, .. } => problem.clone(),
            other => other.to_string(),
        };
        if matches!(error, Error::File { setting: "model-card", .. }) {
            self.card.get_or_insert(problem.clone());
        }
        let answer = if is_unknown_activation(error) { "activation=sigmoid|softmax|log-softmax|none" } else { "" };
        let missing = Missing { problem, answer };
        if !self.missing.contains(&missing) {
            self.missing.push(missing);
        }
    }

    fn note(&mut self, onnx: &OnnxFile) {
        if onnx.is_random {
            self.notes.push(
                "has Dropout that is active when it runs: set samples for repeatable stochastic passes; without, results differ \
                 from run to run"
                    .into(),
            );
        }
        let normalizations = onnx.count("BatchNormalization");
        if normalizations > 0 {
            let n = super::error::count(normalizations, "BatchNormalization layer");
            self.notes.push(format!("{n} in the graph: `onnxsegment soup --images` can take their statistics anew"));
        }
        let Some(spec) = &self.spec else { return };
        if spec.graph_activates && spec.output.form == Form::Logit {
            self.notes.push(format!(
                "activation={} ({}) is applied to an output that the graph has activated already",
                spec.output.activation.value.name(),
                spec.output.activation.source
            ));
        }
        if self.missing.iter().any(|m| !m.answer.is_empty()) {
            self.notes.push("what follows is told as for activation=none, which may be wrong".into());
        }
        if self.outputs.len() > 1 {
            let names: Vec<_> = self.outputs.iter().map(|port| port.name.as_str()).collect();
            self.notes.push(format!("has several outputs ({}); output-name chooses one", names.join(", ")));
        }
    }
}

/// What is taken where nothing is said. Tiles are the affair of whoever cuts them.
fn assumed(spec: &ModelSpec, output: Option<OutputShape>) -> Vec<(&'static str, String, &'static str)> {
    let input = &spec.input;
    let mut all = Vec::new();
    if input.scale.is_none() && input.input_range.is_none() && input.element != ElementType::U8 {
        all.push(("scale", "255".to_string(), "for 8-bit images; deeper ones need scale or input-range"));
    }
    if input.mean.is_none() && input.std.is_none() {
        all.push(("mean, std", "0, 1".into(), "no standardisation after scaling"));
    }
    if input.channels >= 3 && input.channel_order.source == Source::Default {
        all.push(("channel-order", input.channel_order.value.name().into(), "set bgr for models trained so"));
    }
    if input.size_multiple.source == Source::Default && (input.height.is_none() || input.width.is_none()) {
        all.push(("size-multiple", input.size_multiple.value.to_string(), "images are padded to multiples of it"));
    }
    if output.is_some_and(|output| output.channels == 1) && spec.output.form != Form::Label && spec.threshold.is_none()
    {
        all.push(("threshold", "0.5".into(), "from here up a pixel is class 1"));
    }
    if matches!(spec.class_names, Ok(None)) {
        all.push(("labels-file", "none".into(), "classes are called by their numbers"));
    }
    if spec.tta.is_none() {
        all.push(("tta", "none".into(), "flips or d4 cost 4 or 8 times as much"));
    }
    all
}

/// The execution providers that this program can ask for, and why one cannot be had here.
///
/// # Errors
/// No ONNX Runtime.
pub fn providers() -> Result<Vec<(Provider, Result<(), String>)>> {
    let all = Provider::NAMES.iter().map(|(_, provider)| *provider);
    all.map(|provider| Ok((provider, super::runtime::try_provider(provider)?))).collect()
}
