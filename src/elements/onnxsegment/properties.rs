//! The element's properties, and what they become: text by name for the engine, which validates it when the element
//! goes to PAUSED, and a few values of the element's own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use super::{Cascade, ChannelOrder, Layout, Merge, MergeDomain, OptimizationLevel, ProviderPolicy, UncertaintyKind};
use crate::engine::cascade;
use crate::engine::settings::Source;
use crate::engine::views::Palette;
use crate::engine::{Ensemble, Result, Settings};

/// What a user has set.
#[derive(Debug, Clone)]
pub struct Properties {
    /// The engine's settings that were set, as text.
    engine: BTreeMap<String, String>,
    pub config_file: Option<String>,
    pub class_index: u32,
    pub palette: Option<String>,
    pub overlay_alpha: f64,
    /// Nanoseconds; `u64::MAX` = until the batch is full.
    pub batch_timeout: u64,
    pub qos: bool,
}

impl Default for Properties {
    fn default() -> Self {
        Properties {
            engine: BTreeMap::new(),
            config_file: None,
            class_index: 1,
            palette: None,
            overlay_alpha: 0.5,
            batch_timeout: u64::MAX,
            qos: true,
        }
    }
}

impl Properties {
    /// The engine's settings, with those of `config-file` where a property was left alone.
    ///
    /// # Errors
    /// Values that cannot be used; the text names the property.
    pub fn engine(&self) -> Result<Settings> {
        let mut settings = Settings::default();
        for (name, text) in &self.engine {
            settings.set(name, text, Source::Property, Path::new(""))?;
        }
        match &self.config_file {
            Some(file) => Ok(settings.or(Settings::from_config(Path::new(file))?)),
            None => Ok(settings),
        }
    }

    /// # Errors
    /// A palette that cannot be read.
    pub fn palette(&self, ensemble: &Ensemble) -> Result<Palette> {
        ensemble.palette(self.palette.as_deref())
    }

    /// How long an unfilled batch waits.
    pub fn patience(&self) -> Option<Duration> {
        (self.batch_timeout != u64::MAX).then(|| Duration::from_nanos(self.batch_timeout))
    }

    pub fn set(&mut self, value: &glib::Value, pspec: &glib::ParamSpec) {
        let text = || value.get::<Option<String>>().ok().flatten().filter(|t| !t.trim().is_empty());
        match pspec.name() {
            "config-file" => self.config_file = text(),
            "palette" => self.palette = text(),
            "class-index" => self.class_index = value.get().unwrap_or(self.class_index),
            "overlay-alpha" => self.overlay_alpha = value.get().unwrap_or(self.overlay_alpha),
            "batch-timeout" => self.batch_timeout = value.get().unwrap_or(self.batch_timeout),
            "qos" => self.qos = value.get().unwrap_or(self.qos),
            _ => {
                let name = pspec.name().to_string();
                // Left-alone values stay out of the map, so that a configuration file may speak.
                match engine_text(value, pspec) {
                    Some(text) => self.engine.insert(name, text),
                    None => self.engine.remove(&name),
                };
            }
        }
    }

    /// `None` for properties that are not settings.
    pub fn get(&self, pspec: &glib::ParamSpec) -> Option<glib::Value> {
        Some(match pspec.name() {
            "config-file" => self.config_file.to_value(),
            "palette" => self.palette.to_value(),
            "class-index" => self.class_index.to_value(),
            "overlay-alpha" => self.overlay_alpha.to_value(),
            "batch-timeout" => self.batch_timeout.to_value(),
            "qos" => self.qos.to_value(),
            "stats" | "active-provider" | "model-info" => return None,
            name => match self.engine.get(name) {
                // GLib turns text into the property's type; set() made the text from a value of that type.
                Some(text) => value_of(text, pspec).unwrap_or_else(|| pspec.default_value().clone()),
                None => pspec.default_value().clone(),
            },
        })
    }
}

/// Properties whose default stands for "not set": no model would want the value itself.
const UNSET_AT_DEFAULT: &[&str] = &["threshold", "scale", "size-multiple", "samples"];

/// A property's value as the engine's text; `None` for values that mean "not set".
fn engine_text(value: &glib::Value, pspec: &glib::ParamSpec) -> Option<String> {
    let default = pspec.default_value();
    let same = value.get::<f64>().ok() == default.get().ok() && value.get::<u32>().ok() == default.get().ok();
    if UNSET_AT_DEFAULT.contains(&pspec.name()) && same {
        return None;
    }
    if let Some((_, variant)) = glib::EnumValue::from_value(value) {
        return Some(variant.nick().to_string()).filter(|nick| nick != "auto");
    }
    if let Ok(text) = value.get::<Option<String>>() {
        return text.filter(|t| !t.trim().is_empty());
    }
    let number = value.get::<f64>().map(|v| v.to_string());
    number
        .or_else(|_| value.get::<bool>().map(|v| v.to_string()))
        .or_else(|_| value.get::<u32>().map(|v| v.to_string()))
        .or_else(|_| value.get::<u64>().map(|v| v.to_string()))
        .or_else(|_| value.get::<i32>().map(|v| v.to_string()))
        .ok()
}

/// The inverse of [`engine_text`].
fn value_of(text: &str, pspec: &glib::ParamSpec) -> Option<glib::Value> {
    let kind = pspec.value_type();
    if let Some(class) = glib::EnumClass::with_type(kind) {
        return class.to_value_by_nick(text);
    }
    match kind {
        glib::Type::STRING => Some(text.to_value()),
        glib::Type::BOOL => text.parse::<bool>().ok().map(|v| v.to_value()),
        glib::Type::F64 => text.parse::<f64>().ok().map(|v| v.to_value()),
        glib::Type::U64 => text.parse::<u64>().ok().map(|v| v.to_value()),
        glib::Type::U32 => text.parse::<u32>().ok().map(|v| v.to_value()),
        glib::Type::I32 => text.parse::<i32>().ok().map(|v| v.to_value()),
        _ => None,
    }
}

/// Every property. Lists are texts, items joined by commas, and are checked when the element goes to PAUSED.
pub static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let text = |name: &str, nick: &str, blurb: &str| -> glib::ParamSpec {
        glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready().build()
    };
    vec![
        text("model-file", "Model files", "ONNX models: a path, a glob, or several joined by commas; a glob's files come in alphabetical order"),
        text("config-file", "Configuration file", "TOML file: the names of these properties as keys (all but config-file, class-index, palette, overlay-alpha, batch-timeout and qos), and [[member]] tables for facts about single models; properties win over it"),
        text("model-card", "Model card", "STAC item with the MLM extension that says what a model takes and means; one for all, or one per model joined by commas; none = no file, none beside the model either (default: the file beside each model, NAME.stac.json or NAME.json)"),
        text("weights", "Weights", "Weight of each model in the merge, numbers of 0 or more joined by commas, of which only the ratios count (default: all equal)"),
        text("tta", "Test-time augmentation", "Transforms of each frame: none, hflip, vflip, flip3, flips, d4, or any of identity, hflip, vflip, rot180, rot90, rot270, transpose, antitranspose, joined by , or + (default: a model card's, else none)"),
        glib::ParamSpecUInt::builder("samples")
            .nick("Samples")
            .blurb("Stochastic passes of each model and transform, for models exported with active Dropout; 0 = not set: models run as they are")
            .maximum(1024)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("seed")
            .nick("Seed")
            .blurb("What the samples are drawn from: the same seed gives the same result")
            .mutable_ready()
            .build(),
        enumeration("merge", "Merge", "How the passes of a frame become one", Merge::default()),
        enumeration("merge-domain", "Merge domain", "Whether probabilities are merged, or logits that are activated afterwards", MergeDomain::default()),
        text("activation", "Activation", "What is still to be applied to the models' output: sigmoid, softmax, log-softmax, or none where it is probabilities already; one for all, or one per model joined by commas (default: read from metadata or the graph's last operator)"),
        text("temperature", "Temperature", "Divides the models' logits, and so makes them less sure above 1: numbers greater than 0, one for all, or one per model joined by commas (default: 1)"),
        glib::ParamSpecDouble::builder("threshold")
            .nick("Threshold")
            .blurb("Probability, 0 to 1: from here up one-channel models say class 1 (0.5 unless a model says otherwise); with several classes, scores below it count as 0. -1 = not set")
            .minimum(-1.0)
            .maximum(1.0)
            .default_value(-1.0)
            .mutable_ready()
            .build(),
        text("class-thresholds", "Class thresholds", "Probabilities, 0 to 1, one per class joined by commas: scores of a class below its own count as 0 (instead of threshold)"),
        glib::ParamSpecUInt::builder("class-index")
            .nick("Class index")
            .blurb("The class whose probability the probability pad shows, from 0")
            .maximum(65534)
            .default_value(Properties::default().class_index)
            .mutable_playing()
            .build(),
        text("mean", "Mean", "Subtracted after scaling, x = (v / scale - mean) / std: one number, or one per channel joined by commas, in the model's order (default: metadata, else 0)"),
        text("std", "Standard deviation", "Divides after the mean is subtracted: one number greater than 0, or one per channel joined by commas, in the model's order (default: metadata, else 1)"),
        glib::ParamSpecDouble::builder("scale")
            .nick("Scale")
            .blurb("Divisor of pixel values; 0 = not set: 255 for 8-bit frames; deeper ones need scale or input-range")
            .minimum(0.0)
            .maximum(f32::MAX as f64)
            .default_value(0.0)
            .mutable_ready()
            .build(),
        text("input-range", "Input range", "lo,hi: the pixel values that become 0 and 1; values beyond are clipped (instead of scale)"),
        enumeration("channel-order", "Channel order", "Order of the colour channels that the models want", ChannelOrder::default()),
        enumeration("layout", "Layout", "Order of the axes of the models' input", Layout::default()),
        text("output-name", "Output name", "Name of the models' output to use, or its index from 0 (default: the first)"),
        glib::ParamSpecUInt::builder("size-multiple")
            .nick("Size multiple")
            .blurb("Frames are padded by reflection to a multiple of this many pixels for models of any size; 0 = not set: metadata, else 32")
            .maximum(4096)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("label-offset")
            .nick("Label offset")
            .blurb("Added to the class index in the mask (instead of mask-values)")
            .maximum(65534)
            .mutable_ready()
            .build(),
        text("mask-values", "Mask values", "Value of each class in the mask, 0 to 65535 joined by commas, such as 0,255 (default: the class index, plus label-offset)"),
        text("labels-file", "Labels file", "Text file of class names, one per line (default: metadata)"),
        text("execution-provider", "Execution providers", "cpu, cuda, tensorrt, joined by commas in order of preference (default: cpu)"),
        enumeration("provider-policy", "Provider policy", "What to do when a listed execution provider is not to be had", ProviderPolicy::default()),
        glib::ParamSpecInt::builder("device-id")
            .nick("Device")
            .blurb("Number of the GPU, from 0")
            .minimum(0)
            .mutable_ready()
            .build(),
        enumeration("optimization-level", "Optimization level", "ONNX Runtime's graph optimisation", OptimizationLevel::default()),
        glib::ParamSpecUInt::builder("threads")
            .nick("Threads")
            .blurb("Processor threads for all passes together; 0 = one per core")
            .maximum(256)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("batch-size")
            .nick("Batch size")
            .blurb("Inputs (frames x transforms) of one run of a model; frames are gathered until it is full. For GPUs")
            .minimum(1)
            .maximum(1024)
            .default_value(1)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("batch-timeout")
            .nick("Batch timeout")
            .blurb("Longest wait for a batch to fill, in nanoseconds; the largest number = until it is full or the stream ends")
            .default_value(Properties::default().batch_timeout)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("qos")
            .nick("Quality of service")
            .blurb("Drop frames, before inference, that a synchronising sink would show too late")
            .default_value(Properties::default().qos)
            .mutable_playing()
            .build(),
        enumeration("uncertainty-kind", "Uncertainty", "What the uncertainty pad shows, 0 to 1", UncertaintyKind::default()),
        text("stacker", "Stacker", "ONNX model that makes the final scores, N x C x H x W, of the models' probabilities, N x models*C x H x W, instead of a merge"),
        enumeration("cascade", "Cascade", "Whether a frame stops before all of its passes have run; they run in the order of the models, best or cheapest first", Cascade::default()),
        glib::ParamSpecDouble::builder("cascade-margin")
            .nick("Cascade margin")
            .blurb("With cascade=confident: how far a pixel's probability has to be from where its label changes, 0 to 0.5")
            .minimum(0.0)
            .maximum(0.5)
            .default_value(cascade::MARGIN.into())
            .mutable_ready()
            .build(),
        glib::ParamSpecDouble::builder("cascade-limit")
            .nick("Cascade limit")
            .blurb("With cascade=confident: the share of a frame's pixels, 0 to 1, that may be nearer than that when it stops")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(cascade::LIMIT.into())
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("cascade-audit")
            .nick("Cascade audit")
            .blurb("Every so many frames, one runs all its passes although it could stop, to count the labels that stopping changes; 0 = none")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("skip-constant")
            .nick("Skip constant frames")
            .blurb("Infer frames whose pixels all have one value once per value and size, and use the result again")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("palette")
            .nick("Palette")
            .blurb("Colours of the overlay, #rrggbb from class 0 on joined by commas, none for a class that is not painted; classes beyond the list start over after its first colour (default: a model card's, else class 0 not painted and distinct colours for the others)")
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("overlay-alpha")
            .nick("Overlay opacity")
            .blurb("Opacity of classes over the image, 0 to 1")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(Properties::default().overlay_alpha)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("received and dropped frames; frames and passes that are done, passes-saved, audited-pixels and labels-changed by stopping early; convert-seconds, inference-seconds and merge-seconds, summed over threads; latency in nanoseconds")
            .read_only()
            .build(),
        glib::ParamSpecString::builder("active-provider")
            .nick("Active provider")
            .blurb("The execution providers that really run the models, the busiest first; empty before PAUSED")
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("model-info")
            .nick("Model information")
            .blurb("What is known of each model, and in brackets where each fact came from; empty before PAUSED")
            .read_only()
            .build(),
    ]
});

fn enumeration<T>(name: &str, nick: &str, blurb: &str, default: T) -> glib::ParamSpec
where
    T: StaticType + glib::translate::FromGlib<i32> + glib::translate::IntoGlib<GlibType = i32>,
{
    glib::ParamSpecEnum::builder_with_default(name, default).nick(nick).blurb(blurb).mutable_ready().build()
}
