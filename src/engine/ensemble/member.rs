//! One model of an ensemble: opened, probed, and known by what it takes and gives.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use ort::session::{Session, SessionInputValue};
use ort::value::DynValue;

use crate::engine::dropout::{self, Draw};
use crate::engine::error::{Error, Result};
use crate::engine::lock;
use crate::engine::memory;
use crate::engine::onnx::OnnxFile;
use crate::engine::pixels::Planes;
use crate::engine::runtime::{self, Model, Provider, SessionOptions};
use crate::engine::settings::{Layout, MemberSettings, Named, Source};
use crate::engine::spec::{self, Form, Link, ModelSpec, OutputShape};
use crate::engine::stage::{Slot, Stage};
use crate::engine::tta::Transform;

/// One model of the ensemble.
pub struct Member {
    pub spec: ModelSpec,
    pub weight: f32,
    /// What the probe run found.
    pub output: OutputShape,
    sha256: OnceLock<Result<String>>,
    options: SessionOptions,
    /// The opened model by the number of threads that a run spreads over.
    pub(super) models: Mutex<BTreeMap<usize, Arc<Model>>>,
    working_memory: Mutex<Option<usize>>,
}

impl Member {
    /// SHA-256 of the model's file and of its weights' files, in hexadecimal. Computed when first asked for.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub fn sha256(&self) -> Result<String> {
        self.sha256.get_or_init(|| OnnxFile::sha256(&self.spec.path)).clone()
    }

    pub(super) fn model(&self, threads: usize, most: usize) -> Result<Arc<Model>> {
        let mut models = lock(&self.models);
        if let Some(model) = models.get(&threads) {
            return Ok(model.clone());
        }
        let options = SessionOptions { intra_threads: threads, ..self.options.clone() };
        let model = Model::open(&self.spec.path, &options, most)?;
        models.insert(threads, model.clone());
        Ok(model)
    }
}

/// Frames of as many pixels or more may need more memory than there is, so that the models' own is measured first.
pub(super) const LARGE: usize = 16 << 20;

impl Member {
    /// Working memory of a run on the CPU, in bytes per pixel: how much more the process holds after a large run than
    /// after a small one, on a session of its own. 0 where that does not apply: on GPUs and for models of fixed size.
    ///
    /// # Errors
    /// What opening or running the model can meet.
    pub(super) fn working_memory(&self) -> Result<usize> {
        let mut known = lock(&self.working_memory);
        if let Some(known) = *known {
            return Ok(known);
        }
        let model = self.model(1, 1)?;
        let input = &self.spec.input;
        let mut bytes = 0;
        if !model.on_gpu() && input.height.is_none() && input.width.is_none() {
            let mut session = model.separate_session()?;
            let side = |n: usize| n.next_multiple_of(input.size_multiple.value);
            let (small, large) = (side(256), side(1024));
            let mut held = [0; 2];
            for (held, side) in held.iter_mut().zip([small, large]) {
                probe(&mut session, &self.spec, (side, side))?;
                *held = memory::resident().unwrap_or(0);
            }
            let grown = held[1].saturating_sub(held[0]).div_ceil((large * large - small * small).max(1));
            // The arena takes memory in growing steps, of which the last is not filled; half as much again has been
            // seen. A process that is killed says less than one that refuses.
            bytes = grown + grown / 2;
        }
        *known = Some(bytes);
        Ok(bytes)
    }
}

/// Opens and probes a member: the member, warnings, and the provider that runs it. Where the merge is to do a model's softmax,
/// `bare` says so, and it can, its sessions leave it out.
pub(super) fn open(
    stated: &MemberSettings,
    options: &SessionOptions,
    threads: usize,
    bare: bool,
) -> Result<(Member, Vec<String>, String)> {
    let path = &stated.model;
    let onnx = OnnxFile::read(path)?;
    let opened = match bare {
        true => open_bare(path, &onnx, stated, options, threads)?,
        false => None,
    };
    let Opened { options, model, spec, size, output } = match opened {
        Some(opened) => opened,
        None => Opened::new(path, &onnx, stated, options.clone(), threads)?,
    };
    let provider = model.active_provider(|session| probe(session, &spec, size).map(|_| ()))?;
    let random = (onnx.is_random && !options.sampled).then(|| {
        format!(
            "{}: has Dropout that is active, so that its results differ from run to run; set samples=1 for one repeatable \
             draw, more for their mean",
            path.display()
        )
    });
    let mut warnings: Vec<String> = model.warning.clone().into_iter().chain(random).collect();
    let member = Member {
        spec,
        weight: stated.weight,
        output,
        sha256: OnceLock::new(),
        options,
        models: Mutex::new(BTreeMap::from([(1, model)])),
        working_memory: Mutex::new(None),
    };
    warnings.extend(activation_warning(&member));
    Ok((member, warnings, provider))
}

/// A model that was opened and probed.
struct Opened {
    options: SessionOptions,
    model: Arc<Model>,
    spec: ModelSpec,
    /// Of the probe, height × width.
    size: (usize, usize),
    output: OutputShape,
}

impl Opened {
    fn new(
        path: &Path,
        onnx: &OnnxFile,
        stated: &MemberSettings,
        options: SessionOptions,
        threads: usize,
    ) -> Result<Self> {
        let model = Model::open(path, &options, threads)?;
        let spec = ModelSpec::resolve(path, onnx, &model.inputs, &model.outputs, &stated.facts)?;
        let (size, output) = probe_smallest(&mut *model.session()?, &spec)?;
        Ok(Opened { options, model, spec, size, output })
    }
}

/// A model without the softmax that ends its graph; `None` where it has none, or where that is not what makes its scores
/// probabilities. A GPU does a softmax as fast as anything.
fn open_bare(
    path: &Path,
    onnx: &OnnxFile,
    stated: &MemberSettings,
    options: &SessionOptions,
    threads: usize,
) -> Result<Option<Opened>> {
    let output = spec::chosen(&onnx.outputs, |name| name, &stated.facts);
    let on_cpu = options.providers == [Provider::Cpu];
    let Some(output) = output.filter(|output| on_cpu && onnx.ends_in_softmax(output)) else { return Ok(None) };
    let options = SessionOptions { bare: Some(output.clone()), ..options.clone() };
    let mut opened = Opened::new(path, onnx, stated, options, threads)?;
    let told = &opened.spec.output;
    let is_it = (&told.name, told.form, told.link) == (output, Form::Probability, Link::Softmax)
        && told.temperature.value == 1.0
        // What is smaller than the frame is enlarged as probabilities.
        && opened.output.reduction == 1
        && opened.output.layout == Layout::Nchw
        && opened.output.channels > 1;
    opened.spec.output.bare = true;
    Ok(is_it.then_some(opened))
}

/// Runs a model on zeros at the smallest size it can take; the shapes of its outputs are not trusted, but tried.
pub(in crate::engine) fn probe_smallest(
    session: &mut Session,
    spec: &ModelSpec,
) -> Result<((usize, usize), OutputShape)> {
    const LARGEST: usize = 512;
    let input = &spec.input;
    let mut side = input.size_multiple.value;
    loop {
        // Unequal sides, so that rows and columns cannot be confused.
        let size = (input.height.unwrap_or(side), input.width.unwrap_or(2 * side));
        match probe(session, spec, size) {
            Ok(shape) => return Ok((size, shape)),
            // Pyramids and deep encoders may need more than one multiple.
            Err(Error::Model { .. }) if side < LARGEST && (input.height.is_none() || input.width.is_none()) => {
                side *= 2;
            }
            Err(e) => return Err(e),
        }
    }
}

/// A run's inputs: the images, and what Dropout draws from where a model has it.
pub(super) fn inputs<'a>(
    spec: &ModelSpec,
    images: SessionInputValue<'a>,
    draws: &[Draw],
    batch: usize,
) -> ort::Result<Vec<SessionInputValue<'a>>> {
    let mut inputs = vec![images];
    if spec.dropouts > 0 {
        inputs.push(dropout::input(draws, batch, spec.dropouts)?.into());
    }
    Ok(inputs)
}

pub(super) fn probe(session: &mut Session, spec: &ModelSpec, (height, width): (usize, usize)) -> Result<OutputShape> {
    let count = spec.input.channels.saturating_mul(height).saturating_mul(width);
    let planes = Planes::zeros(spec.input.element, count);
    let batch = spec.input.batch.unwrap_or(1);
    let slot = Slot { planes: &planes, transform: Transform::Identity };
    let needed = count.saturating_mul(spec.input.element.size());
    if let Some(available) = memory::available().filter(|available| needed > *available) {
        return Err(memory::not_enough(
            &format!("a {width}x{height} input of {}", spec.path.display()),
            needed,
            available,
        ));
    }
    let failed = |e: ort::Error| cannot_run(spec, (height, width), e);
    let mut stage = Stage::default();
    let input = stage.prepare(spec, &[slot], batch, (height, width)).map_err(failed)?;
    let draw = Draw { seed: 0, member: 0, transform: Transform::Identity, sample: 0, frame: 0 };
    let outputs = session.run(inputs(spec, input, &[draw], batch).map_err(failed)?.as_slice()).map_err(failed)?;
    let output = outputs.get(&spec.output.name).ok_or_else(|| Error::model(&spec.path, "gave no output"))?;
    output_shape(spec, (height, width), batch, output)
}

pub(super) fn output_shape(
    spec: &ModelSpec,
    size: (usize, usize),
    batch: usize,
    output: &DynValue,
) -> Result<OutputShape> {
    let dims: Vec<i64> = match output.dtype() {
        ort::value::ValueType::Tensor { shape, .. } => shape.to_vec(),
        _ => Vec::new(),
    };
    let label = spec.output.form == Form::Label;
    let shape = spec::output_shape(&spec.path, &spec.output.name, label, spec.input.layout.value, size, &dims)?;
    if dims[0] != batch as i64 {
        return Err(Error::model(
            &spec.path,
            format!(
                "output `{}` is {dims:?} for a batch of {batch}; expected as many outputs as inputs",
                spec.output.name
            ),
        ));
    }
    Ok(shape)
}

/// An activation that would be applied twice.
fn activation_warning(member: &Member) -> Option<String> {
    let output = &member.spec.output;
    let twice = output.form == Form::Logit && output.activation.source != Source::Graph && member.spec.graph_activates;
    twice.then(|| {
        format!(
            "{}: activation={} ({}) is applied to output `{}`, which the graph has activated already; if that is not \
             meant, leave activation unset or set none",
            member.spec.path.display(),
            output.activation.value.name(),
            output.activation.source,
            output.name
        )
    })
}

/// What ONNX Runtime says of a run that failed.
pub(super) fn cannot_run(spec: &ModelSpec, (height, width): (usize, usize), e: ort::Error) -> Error {
    let hint = match (spec.input.height, spec.input.width) {
        (Some(_), Some(_)) => String::new(),
        _ => format!(
            "; if it needs sides of a larger multiple than {}, set size-multiple",
            spec.input.size_multiple.value
        ),
    };
    Error::model(
        &spec.path,
        format!("ONNX Runtime cannot run it on a {width}x{height} input: {}{hint}", runtime::reason(e)),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::engine::settings::Source;
    use crate::engine::{Ensemble, Settings};

    #[test]
    fn working_memory_is_that_of_a_convolutional_network() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/size-multiple-16.onnx");
        let mut settings = Settings::default();
        settings.set("model-file", &model.display().to_string(), Source::Property, Path::new("")).unwrap();
        let ensemble = Ensemble::load(&settings).unwrap();
        let bytes = ensemble.members()[0].working_memory().unwrap();
        // Its first layers hold a few float32 channels at full size.
        assert!((8..2000).contains(&bytes), "{bytes} bytes per pixel");
    }
}
