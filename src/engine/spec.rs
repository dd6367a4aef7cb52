//! What a model wants and means: inputs, scaling, classes, activation; and where each fact came from.
//!
//! Facts are taken from properties, the configuration file, a STAC item ([`super::card`]), ONNX metadata and GStreamer's
//! `.modelinfo`, in that order, and from the graph where it is the authority (shapes and types). Nothing is guessed from
//! values.

use std::path::{Path, PathBuf};

use super::card::scaling::Scaling;
use super::card::{Card, Colours, modelinfo};
use super::dropout;
use super::error::{Error, Result};
use super::metadata::Metadata;
use super::onnx::OnnxFile;
use super::settings::{Activation, ChannelOrder, Fact, Facts, Layout, ModelCard, Named, Source};
use super::tta::{self, Transform};

/// How the error for an unknown activation begins.
pub(super) const UNKNOWN_ACTIVATION: &str = "nothing says whether";

/// Types a model's input may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementType {
    F32,
    F16,
    U8,
}

impl ElementType {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            ElementType::F32 => 4,
            ElementType::F16 => 2,
            ElementType::U8 => 1,
        }
    }
}

/// An input or output of a session, as the runtime tells it. Dimensions below 1 are dynamic.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    pub name: String,
    /// ONNX Runtime's name of the element type, `float32` for example.
    pub element: String,
    pub shape: Vec<i64>,
}

/// What a model takes.
#[derive(Debug, Clone)]
pub struct InputSpec {
    /// The model's file, for messages.
    pub file: String,
    pub name: String,
    pub element: ElementType,
    pub layout: Fact<Layout>,
    pub channels: usize,
    /// `None` = any.
    pub batch: Option<usize>,
    pub height: Option<usize>,
    pub width: Option<usize>,
    pub size_multiple: Fact<usize>,
    pub scale: Option<Fact<f32>>,
    pub input_range: Option<Fact<(f32, f32)>>,
    pub mean: Option<Fact<Vec<f32>>>,
    pub std: Option<Fact<Vec<f32>>>,
    pub channel_order: Fact<ChannelOrder>,
}

impl InputSpec {
    /// Whether colours run blue to red.
    pub fn reversed(&self) -> bool {
        self.channel_order.value == ChannelOrder::Bgr
    }

    /// The tensor's shape for `batch` inputs of `height` × `width`.
    pub fn shape(&self, batch: usize, height: usize, width: usize) -> [i64; 4] {
        let [n, c, h, w] = [batch, self.channels, height, width].map(|d| d as i64);
        match self.layout.value {
            Layout::Nchw => [n, c, h, w],
            Layout::Nhwc => [n, h, w, c],
        }
    }
}

/// How one-class and many-class scores turn into probabilities, whatever form they come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Sigmoid,
    Softmax,
}

impl Named for Link {
    const NAMES: &'static [(&'static str, Self)] = &[("sigmoid", Link::Sigmoid), ("softmax", Link::Softmax)];
}

/// What the numbers of an output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Probability,
    Logit,
    LogProbability,
    /// Class indices: a model that has taken its argmax already. They count as votes.
    Label,
}

/// Which output of a model is used, and what it means.
#[derive(Debug, Clone)]
pub struct OutputSpec {
    pub name: String,
    pub form: Form,
    pub link: Link,
    pub activation: Fact<Activation>,
    /// Divides logits before they are activated.
    pub temperature: Fact<f32>,
    /// Sessions leave the graph's softmax out, and the merge does it.
    pub bare: bool,
}

impl OutputSpec {
    /// What the numbers are that sessions give.
    pub fn as_run(&self) -> Form {
        if self.bare { Form::Logit } else { self.form }
    }
}

/// What a probe run told about an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputShape {
    pub layout: Layout,
    /// Channels; 1 for labels and for outputs without a channel axis.
    pub channels: usize,
    /// Input size divided by output size.
    pub reduction: usize,
}

/// How far neighbouring tiles overlap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Overlap {
    /// Of a tile's side.
    Percent(f32),
    Pixels(usize),
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Overlap::Percent(percent) => write!(f, "{percent} %"),
            Overlap::Pixels(pixels) => write!(f, "{pixels} px"),
        }
    }
}

/// How a model would have a large raster cut, as its card or metadata tells.
#[derive(Debug, Clone, Default)]
pub struct Tiling {
    /// Side of a tile in pixels.
    pub tile: Option<Fact<usize>>,
    pub overlap: Option<Fact<Overlap>>,
    /// Ground size of a pixel in centimetres.
    pub resolution: Option<Fact<f32>>,
}

/// A model's facts that do not depend on a frame.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    pub path: PathBuf,
    pub input: InputSpec,
    pub output: OutputSpec,
    /// An error here matters only where no names are stated.
    pub class_names: Result<Option<Fact<Vec<String>>>>,
    pub threshold: Option<Fact<f32>>,
    /// Transforms that the card would have.
    pub tta: Option<Fact<Vec<Transform>>>,
    /// The card that speaks of the model.
    pub card: Option<PathBuf>,
    /// What the input's channels are.
    pub bands: Option<Fact<Vec<String>>>,
    pub colours: Option<Fact<Colours>>,
    /// An error here matters only to whoever cuts tiles.
    pub tiling: Result<Tiling>,
    /// Whether the output comes from an activation inside the graph.
    pub graph_activates: bool,
    /// Dropout nodes that draw from a second input.
    pub dropouts: usize,
}

impl ModelSpec {
    /// Puts a model's facts together.
    ///
    /// # Errors
    /// Inputs or outputs that are no raster, types this program does not know, an `output-name` that the model
    /// lacks, a card or metadata that cannot be read, and an activation that nothing tells.
    pub fn resolve(path: &Path, onnx: &OnnxFile, inputs: &[Port], outputs: &[Port], stated: &Facts) -> Result<Self> {
        let metadata = Metadata { path, onnx };
        let (random, inputs): (Vec<&Port>, Vec<&Port>) = inputs.iter().partition(|port| port.name == dropout::INPUT);
        let words = random.first().and_then(|port| port.shape.last()).map_or(0, |words| *words as usize);
        // Of a card, what speaks of the output that is used.
        let used = stated.output_name.as_ref().and_then(|name| outputs.iter().find(|port| port.name == name.value));
        let spoken_of = used.map_or(outputs, std::slice::from_ref);
        let card = Card::of(path, stated.model_card.as_ref().map(|fact| &fact.value), &inputs, spoken_of)?;
        let stated = &with_card(stated, card.as_ref())?;
        let input = resolve_input(path, &metadata, &inputs, stated)?;
        let output = resolve_output(path, &metadata, outputs, stated)?;
        let graph_activates = matches!(onnx.last_operator(&output.name), Some("Sigmoid" | "HardSigmoid" | "Softmax"));
        let index = outputs.iter().position(|port| port.name == output.name).unwrap_or(0);
        let class_names = match card.as_ref().and_then(|card| card.class_names.clone()) {
            Some(names) => Ok(Some(names)),
            None => metadata.class_names(index),
        };
        let threshold = match card.as_ref().and_then(|card| card.threshold.clone()) {
            Some(told) => Some(told),
            None => metadata.threshold()?,
        };
        let own = card.as_ref().map(|card| card.tiling.clone()).unwrap_or_default();
        Ok(ModelSpec {
            path: path.to_path_buf(),
            input,
            output,
            graph_activates,
            dropouts: words / dropout::COEFFICIENTS,
            class_names,
            threshold,
            tiling: metadata.tiling().map(|told| Tiling {
                tile: own.tile.or(told.tile),
                overlap: own.overlap.or(told.overlap),
                resolution: own.resolution.or(told.resolution),
            }),
            tta: card.as_ref().and_then(|card| card.tta.clone()),
            bands: card.as_ref().and_then(|card| card.bands.clone()),
            colours: card.as_ref().and_then(|card| card.colours.clone()),
            card: card.map(|card| card.file),
        })
    }

    /// The model's file name, without its folder.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What the card tells that decides no score, as [`ModelSpec::describe`] has it; what it leaves open is not here.
    pub fn describe_card(&self) -> Vec<(&'static str, String, String)> {
        let mut facts = Vec::new();
        if let Some(file) = &self.card {
            facts.push(("model-card", file.display().to_string(), "file".into()));
        }
        if let Some(bands) = &self.bands {
            facts.push(("bands", bands.value.join(","), bands.source.to_string()));
        }
        if let Some(colours) = &self.colours {
            let hex = |c: &Option<[u8; 3]>| c.map_or("none".into(), |[r, g, b]| format!("#{r:02x}{g:02x}{b:02x}"));
            let all: Vec<String> = colours.value.iter().map(hex).collect();
            facts.push(("colours", all.join(","), colours.source.to_string()));
        }
        if let Some(transforms) = &self.tta {
            facts.push(("tta", tta::name(&transforms.value), transforms.source.to_string()));
        }
        facts
    }

    /// Every fact as (name, value, where it came from), for people.
    pub fn describe(&self) -> Vec<(&'static str, String, String)> {
        let dim = |d: Option<usize>| d.map_or("any".to_string(), |d| d.to_string());
        let graph = Source::Graph.to_string();
        let none = || ("unset".to_string(), Source::Default.to_string());
        let list = |f: &Option<Fact<Vec<f32>>>| match f {
            Some(f) => (super::settings::join(&f.value), f.source.to_string()),
            None => none(),
        };
        let i = &self.input;
        let size = format!("{} x {} x {}", dim(i.batch), dim(i.height), dim(i.width));
        let element = match i.element {
            ElementType::F32 => "float32",
            ElementType::F16 => "float16",
            ElementType::U8 => "uint8",
        };
        let (scale, scale_source) = match (&i.input_range, &i.scale) {
            (Some(r), _) => (format!("{}..{}", r.value.0, r.value.1), r.source.to_string()),
            (None, Some(s)) => (s.value.to_string(), s.source.to_string()),
            (None, None) if i.element == ElementType::U8 => ("1".into(), Source::Default.to_string()),
            (None, None) => ("255 for 8-bit frames".into(), Source::Default.to_string()),
        };
        let (mean, mean_source) = list(&i.mean);
        let (std, std_source) = list(&i.std);
        let (names, names_source) = match self.class_names.as_ref().ok().and_then(Option::as_ref) {
            Some(f) => (f.value.join(","), f.source.to_string()),
            None => none(),
        };
        fn told<T: std::fmt::Display>(fact: Option<&Fact<T>>) -> (String, String) {
            match fact {
                Some(f) => (f.value.to_string(), f.source.to_string()),
                None => ("unset".to_string(), Source::Default.to_string()),
            }
        }
        let (threshold, threshold_source) = told(self.threshold.as_ref());
        let tiling = self.tiling.as_ref().ok();
        let (tile, tile_source) = told(tiling.and_then(|t| t.tile.as_ref()));
        let (overlap, overlap_source) = told(tiling.and_then(|t| t.overlap.as_ref()));
        let (resolution, resolution_source) = told(tiling.and_then(|t| t.resolution.as_ref()));
        vec![
            ("input-name", i.name.clone(), graph.clone()),
            ("input-type", element.into(), graph.clone()),
            ("layout", i.layout.value.name().into(), i.layout.source.to_string()),
            ("channels", i.channels.to_string(), graph.clone()),
            ("batch-height-width", size, graph.clone()),
            ("size-multiple", i.size_multiple.value.to_string(), i.size_multiple.source.to_string()),
            ("scale", scale, scale_source),
            ("mean", mean, mean_source),
            ("std", std, std_source),
            ("channel-order", i.channel_order.value.name().into(), i.channel_order.source.to_string()),
            ("output-name", self.output.name.clone(), graph),
            ("activation", self.output.activation.value.name().into(), self.output.activation.source.to_string()),
            ("temperature", self.output.temperature.value.to_string(), self.output.temperature.source.to_string()),
            ("class-names", names, names_source),
            ("threshold", threshold, threshold_source),
            ("tile-size", tile, tile_source),
            ("tile-overlap", overlap, overlap_source),
            ("resolution-cm", resolution, resolution_source),
        ]
    }
}

/// What is stated, and where that is silent, what the card says.
fn with_card(stated: &Facts, card: Option<&Card>) -> Result<Facts> {
    let Some(card) = card else { return Ok(stated.clone()) };
    let mut facts = card.facts.clone();
    if !Scaling::is_stated(stated)
        && let Some(scaling) = card.scaling.clone()?
    {
        scaling.put(&mut facts);
    }
    Ok(stated.or(&facts))
}

fn resolve_input(path: &Path, metadata: &Metadata, inputs: &[&Port], stated: &Facts) -> Result<InputSpec> {
    let [port] = inputs else {
        let names: Vec<_> = inputs.iter().map(|p| p.name.as_str()).collect();
        return Err(Error::model(
            path,
            format!("has {} inputs ({}); a segmentation model has one, the image", inputs.len(), names.join(", ")),
        ));
    };
    let element = match port.element.as_str() {
        "float32" => ElementType::F32,
        "float16" => ElementType::F16,
        "uint8" => ElementType::U8,
        other => {
            return Err(Error::model(
                path,
                format!("input `{}` is of type {other}; export it with float32, float16 or uint8", port.name),
            ));
        }
    };
    let [n, d1, d2, d3] = port.shape[..] else {
        return Err(Error::model(
            path,
            format!(
                "input `{}` has rank {} {:?}; expected rank 4: batch, channels, height, width (or channels last); export it so",
                port.name,
                port.shape.len(),
                port.shape
            ),
        ));
    };
    let fixed = |d: i64| (d > 0).then_some(d as usize);
    let layout = match (&stated.layout, fixed(d1), fixed(d3)) {
        (Some(layout), ..) => layout.clone(),
        (None, None, Some(_)) => Fact::new(Layout::Nhwc, Source::Graph),
        (None, Some(c), Some(w)) if w < c => Fact::new(Layout::Nhwc, Source::Graph),
        (None, Some(_), _) => Fact::new(Layout::Nchw, Source::Graph),
        (None, None, None) => Fact::new(Layout::Nchw, Source::Default),
    };
    let (channels, height, width) = match layout.value {
        Layout::Nchw => (d1, d2, d3),
        Layout::Nhwc => (d3, d1, d2),
    };
    let channels = fixed(channels).ok_or_else(|| {
        Error::model(
            path,
            format!(
                "input `{}` does not fix its number of channels {:?}; export it with that axis fixed",
                port.name, port.shape
            ),
        )
    })?;
    let size_multiple = match &stated.size_multiple {
        Some(stated) => stated.clone(),
        None => metadata.size_multiple()?.unwrap_or(Fact::new(32, Source::Default)),
    };
    if let (Some(scale), Some(range)) = (&stated.scale, &stated.input_range) {
        return Err(Error::setting(
            "scale",
            scale.value,
            format!("and input-range={},{} exclude each other; set one of them", range.value.0, range.value.1),
        ));
    }
    let bytes = element == ElementType::U8;
    let Facts { scale, input_range, mean, std, .. } =
        resolve_scaling(path, metadata, stated, &port.name, channels, bytes)?;
    Ok(InputSpec {
        file: path.display().to_string(),
        name: port.name.clone(),
        element,
        layout,
        channels,
        batch: fixed(n),
        height: fixed(height),
        width: fixed(width),
        size_multiple,
        scale,
        input_range,
        mean,
        std,
        channel_order: stated.channel_order.clone().unwrap_or(Fact::new(ChannelOrder::Rgb, Source::Default)),
    })
}

/// How pixel values become input: as stated, else as the metadata has it, else as GStreamer's file has it.
fn resolve_scaling(
    path: &Path,
    metadata: &Metadata,
    stated: &Facts,
    input: &str,
    channels: usize,
    bytes: bool,
) -> Result<Facts> {
    // What is stated outranks metadata, also metadata that cannot be read.
    let numbers = |stated: &Option<Fact<Vec<f32>>>, key| match stated {
        Some(stated) => Ok(Some(stated.clone())),
        None => metadata.numbers(key),
    };
    let mut facts = Facts {
        scale: stated.scale.clone(),
        input_range: match (&stated.input_range, &stated.scale) {
            (Some(range), _) => Some(range.clone()),
            (None, Some(_)) => None,
            (None, None) => metadata.range("input_range")?,
        },
        mean: numbers(&stated.mean, "standardization_mean")?,
        std: numbers(&stated.std, "standardization_std")?,
        ..Facts::default()
    };
    let no_file = matches!(&stated.model_card, Some(Fact { value: ModelCard::None, .. }));
    if !no_file
        && !Scaling::is_stated(&facts)
        && let Some(scaling) = modelinfo::scaling(path, input, channels, bytes)?
    {
        scaling.put(&mut facts);
    }
    Ok(facts)
}

/// The output that is stated by its name or index, or the first.
pub(super) fn chosen<'a, T>(outputs: &'a [T], name: impl Fn(&T) -> &str, stated: &Facts) -> Option<&'a T> {
    let Some(Fact { value: wanted, .. }) = &stated.output_name else { return outputs.first() };
    let index = || wanted.parse::<usize>().ok().and_then(|k| outputs.get(k));
    outputs.iter().find(|output| name(output) == wanted).or_else(index)
}

fn resolve_output(path: &Path, metadata: &Metadata, outputs: &[Port], stated: &Facts) -> Result<OutputSpec> {
    let names = || outputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
    let port = chosen(outputs, |port| &port.name, stated).ok_or_else(|| {
        let wanted = stated.output_name.as_ref().map_or("", |f| &f.value);
        Error::model(path, format!("has no output-name={wanted}; use one of {}, or an index from 0", names()))
    })?;
    let operator = metadata.onnx.last_operator(&port.name);
    let is_label = match port.element.as_str() {
        "float32" | "float16" => false,
        "uint8" | "int64" | "int32" => true,
        other => {
            return Err(Error::model(
                path,
                format!(
                    "output `{}` is of type {other}; expected scores (float32, float16) or labels (uint8, int64)",
                    port.name
                ),
            ));
        }
    };
    let temperature = stated.temperature.clone().unwrap_or(Fact::new(1.0, Source::Default));
    if is_label {
        if temperature.value != 1.0 {
            return Err(Error::setting(
                "temperature",
                temperature.value,
                format!("{} gives labels, which have no temperature; use 1 for it", path.display()),
            ));
        }
        return Ok(OutputSpec {
            name: port.name.clone(),
            form: Form::Label,
            link: Link::Softmax,
            activation: Fact::new(Activation::None, Source::Graph),
            temperature,
            bare: false,
        });
    }
    let from_graph = match operator {
        Some("Sigmoid" | "HardSigmoid" | "Softmax") => Some(Activation::None),
        Some("LogSoftmax") => Some(Activation::LogSoftmax),
        _ => None,
    };
    let told = if stated.activation.is_some() { None } else { metadata.activation()? };
    let activation = match (&stated.activation, told, from_graph) {
        (Some(stated), ..) => stated.clone(),
        (None, Some(told), _) => told,
        (None, None, Some(found)) => Fact::new(found, Source::Graph),
        (None, None, None) if metadata.is_deepness() => Fact::new(Activation::None, Source::Deepness),
        _ => {
            return Err(Error::model(
                path,
                format!(
                    "{UNKNOWN_ACTIVATION} output `{}` (last operator {}) holds logits or probabilities; set \
                     activation to sigmoid or softmax for logits, none for probabilities, or log-softmax",
                    port.name,
                    operator.unwrap_or("unknown")
                ),
            ));
        }
    };
    // Scores that are probabilities already say by their operator what they would have been as logits.
    let (form, link) = match (activation.value, operator) {
        (Activation::Sigmoid, _) => (Form::Logit, Link::Sigmoid),
        (Activation::Softmax, _) => (Form::Logit, Link::Softmax),
        (Activation::LogSoftmax, _) => (Form::LogProbability, Link::Softmax),
        (Activation::None, Some("Sigmoid" | "HardSigmoid")) => (Form::Probability, Link::Sigmoid),
        (Activation::None, _) => (Form::Probability, Link::Softmax),
    };
    Ok(OutputSpec { name: port.name.clone(), form, link, activation, temperature, bare: false })
}

/// Finds the axes of an output by the size that was put in.
///
/// # Errors
/// A rank or size that is no raster of the input's size divided by a whole number; the text names both sizes.
pub fn output_shape(
    path: &Path,
    name: &str,
    label: bool,
    layout: Layout,
    (height, width): (usize, usize),
    shape: &[i64],
) -> Result<OutputShape> {
    let dims: Vec<usize> = shape.iter().map(|d| (*d).max(0) as usize).collect();
    let ratio = |h: usize, w: usize| {
        let k = height.checked_div(h)?;
        (k >= 1 && h * k == height && w.checked_mul(k) == Some(width)).then_some(k)
    };
    let nchw = |d: &[usize]| ratio(d[2], d[3]).map(|k| (Layout::Nchw, d[1], k));
    let nhwc = |d: &[usize]| ratio(d[1], d[2]).map(|k| (Layout::Nhwc, d[3], k));
    let found = match dims.len() {
        4 if layout == Layout::Nhwc => nhwc(&dims).or_else(|| nchw(&dims)),
        4 => nchw(&dims).or_else(|| nhwc(&dims)),
        3 => ratio(dims[1], dims[2]).map(|k| (Layout::Nchw, 1, k)),
        rank => {
            return Err(Error::model(
                path,
                format!(
                    "output `{name}` has rank {rank} {shape:?}; expected rank 4 (batch, classes, height, width) or \
                     rank 3 (batch, height, width). This does not look like a segmentation model; take another, or \
                     another of its outputs with output-name"
                ),
            ));
        }
    };
    let (layout, channels, reduction) = found.ok_or_else(|| {
        Error::model(
            path,
            format!(
                "output `{name}` is {shape:?} for an input of height {height} and width {width}; expected the same \
                 height and width, or both divided by the same whole number: pad its convolutions, or choose another \
                 output with output-name"
            ),
        )
    })?;
    if label && channels != 1 {
        return Err(Error::model(
            path,
            format!("label output `{name}` has {channels} channels {shape:?}; expected one"),
        ));
    }
    if channels == 0 {
        return Err(Error::model(path, format!("output `{name}` has no channels {shape:?}")));
    }
    Ok(OutputShape { layout, channels, reduction })
}
