//! A model's facts as others read them: the Deepness plugin's metadata keys, and a STAC item with the MLM extension.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::engine::error::{Error, Result};
use crate::engine::onnx::schema::{ModelProto, StringStringEntryProto};
use crate::engine::settings::{ChannelOrder, Layout, Named};
use crate::engine::spec::{ElementType, Form, InputSpec, Link, ModelSpec, OutputShape, Overlap, Port};
use crate::engine::tta;
use crate::stac;

/// Keys that this program reads beside Deepness's own, and that would contradict what is written.
const REPLACED: [&str; 10] = [
    "class_names",
    "input_range",
    "names",
    "resolution",
    "seg_thresh",
    "standardization_mean",
    "standardization_std",
    "tile_size",
    "tiles_overlap",
    "tiles_size",
];

/// As its shortest decimal text: 0.1 is not to become 0.10000000149011612.
fn number(value: f64) -> Value {
    let short = (value as f32).to_string().parse::<f64>().unwrap_or(value);
    // Whole numbers without a point, as Python writes what it was given.
    if short.fract() == 0.0 && short.abs() < 1e9 { json!(short as i64) } else { json!(short) }
}

fn numbers(values: &[f64]) -> Value {
    values.iter().map(|v| number(*v)).collect()
}

/// How bytes become input: x = (v − offset) ÷ divisor for each channel, and the values beyond which they are clipped.
struct Bytes {
    steps: Vec<(f64, f64)>,
    clip: Option<(f64, f64)>,
}

impl Bytes {
    fn of(input: &InputSpec) -> Self {
        let (lo, unit) = match (&input.input_range, &input.scale) {
            (Some(range), _) => (f64::from(range.value.0), f64::from(range.value.1) - f64::from(range.value.0)),
            (None, Some(scale)) => (0.0, f64::from(scale.value)),
            (None, None) if input.element == ElementType::U8 => (0.0, 1.0),
            (None, None) => (0.0, 255.0),
        };
        let of = |list: &Option<crate::engine::settings::Fact<Vec<f32>>>, k: usize, default: f64| {
            let list = list.as_ref().map_or(&[][..], |fact| &fact.value);
            list.get(k).or(list.first()).map_or(default, |v| f64::from(*v))
        };
        let step = |k| (lo + of(&input.mean, k, 0.0) * unit, of(&input.std, k, 1.0) * unit);
        Bytes {
            steps: (0..input.channels).map(step).collect(),
            // Bytes that cannot leave the range are not clipped.
            clip: input
                .input_range
                .as_ref()
                .map(|r| (f64::from(r.value.0), f64::from(r.value.1)))
                .filter(|(lo, hi)| *lo > 0.0 || *hi < 255.0),
        }
    }
}

/// The Deepness plugin's keys for a model, each value JSON text.
///
/// # Errors
/// Everything about the model that the plugin would do otherwise.
pub fn deepness(spec: &ModelSpec, outputs: &[Port]) -> Result<Vec<(&'static str, String)>> {
    let input = &spec.input;
    let bytes = Bytes::of(input);
    let mut wrong: Vec<String> = Vec::new();
    let mut check = |fits: bool, problem: String| {
        if !fits {
            wrong.push(problem);
        }
    };
    let activation = &spec.output.activation;
    check(
        matches!(spec.output.form, Form::Probability),
        match spec.output.form {
            Form::Label => "the output holds labels, and it takes probabilities".into(),
            _ => format!(
                "activation={} ({}) is still to be applied, and it takes the output as activated already: export the model with \
                 its activation in the graph",
                activation.value.name(),
                activation.source
            ),
        },
    );
    check(bytes.clip.is_none(), "input-range clips pixel values, which it does not".into());
    check(input.element == ElementType::F32, "the input is not float32, which is all that it gives".into());
    check(input.layout.value == Layout::Nchw, "layout=nhwc: it gives channels first".into());
    check(
        input.channel_order.value == ChannelOrder::Rgb,
        "channel-order=bgr: it gives bands in the raster's order".into(),
    );
    check(spec.output.temperature.value == 1.0, "temperature: it has none".into());
    check(
        outputs.first().is_some_and(|first| first.name == spec.output.name),
        format!("output-name={}: it takes the first output", spec.output.name),
    );
    let tiling = spec.tiling.clone()?;
    let tile = tiling.tile.map(|fact| fact.value).or(input.height.filter(|side| input.width == Some(*side)));
    let overlap = tiling.overlap.map(|fact| match (fact.value, tile) {
        (Overlap::Percent(percent), _) => Some(f64::from(percent)),
        (Overlap::Pixels(pixels), Some(tile)) => Some(pixels as f64 * 100.0 / tile as f64),
        (Overlap::Pixels(_), None) => None,
    });
    check(overlap != Some(None), "an overlap in pixels without a tile size: it has percent of a tile".into());
    if !wrong.is_empty() {
        let problem = format!("the Deepness convention cannot say this of it: {}", wrong.join("; "));
        return Err(Error::model(&spec.path, problem));
    }
    let mut keys = vec![("model_type", json!("Segmentor"))];
    if let Some(names) = spec.class_names.clone()? {
        let names: serde_json::Map<String, Value> =
            names.value.iter().enumerate().map(|(k, name)| (k.to_string(), name.as_str().into())).collect();
        keys.push(("class_names", Value::Object(names)));
    }
    keys.extend(tiling.resolution.map(|fact| ("resolution", number(fact.value.into()))));
    keys.extend(tile.map(|tile| ("tile_size", json!(tile))));
    keys.extend(overlap.flatten().map(|percent| ("tiles_overlap", number(percent))));
    // After a division by 255.
    let (mean, std): (Vec<f64>, Vec<f64>) = bytes.steps.iter().map(|(offset, by)| (offset / 255.0, by / 255.0)).unzip();
    if mean.iter().any(|v| *v != 0.0) || std.iter().any(|v| *v != 1.0) {
        keys.push(("standardization_mean", numbers(&mean)));
        keys.push(("standardization_std", numbers(&std)));
    }
    keys.extend(spec.threshold.as_ref().map(|fact| ("seg_thresh", number(fact.value.into()))));
    Ok(keys.into_iter().map(|(key, value)| (key, value.to_string())).collect())
}

/// Puts keys into a model's metadata, in the place of what was said under these and their other spellings.
pub fn put(model: &mut ModelProto, keys: &[(&'static str, String)]) {
    model.metadata_props.retain(|entry| {
        let key = entry.key.as_deref().unwrap_or_default();
        !REPLACED.contains(&key) && keys.iter().all(|(new, _)| *new != key)
    });
    let entry =
        |(key, value): &(&str, String)| StringStringEntryProto { key: Some((*key).into()), value: Some(value.clone()) };
    model.metadata_props.extend(keys.iter().map(entry));
}

/// A STAC item with the MLM extension 1.5.2, as this program reads it. It lies nowhere: `geometry` is null.
///
/// # Errors
/// A scaling that `value_scaling` cannot express.
pub fn mlm(spec: &ModelSpec, output: Option<OutputShape>, outputs: &[Port]) -> Result<Value> {
    let input = &spec.input;
    let bytes = Bytes::of(input);
    let name = spec.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let scaling: Vec<Value> = match bytes.clip {
        None => bytes.steps.iter().map(|(offset, by)| scaling(*offset, *by)).collect(),
        Some((lo, hi)) if bytes.steps.iter().all(|(o, by)| o.abs() < 1e-4 && (by - 1.0).abs() < 1e-6) => {
            vec![json!({"type": "clip", "minimum": number(lo), "maximum": number(hi)})]
        }
        Some(_) => {
            let problem = "STAC MLM cannot say this of it: input-range clips pixel values and scales them, and value_scaling has one \
                           step for each channel";
            return Err(Error::model(&spec.path, problem));
        }
    };
    let same = scaling.iter().all(|step| *step == scaling[0]);
    let dim = |d: Option<usize>| d.map_or(json!(-1), |d| json!(d));
    let channel = if spec.bands.is_some() { "bands" } else { "channel" };
    let (shape, order) = match input.layout.value {
        Layout::Nchw => (
            [dim(input.batch), json!(input.channels), dim(input.height), dim(input.width)],
            ["batch", channel, "height", "width"],
        ),
        Layout::Nhwc => (
            [dim(input.batch), dim(input.height), dim(input.width), json!(input.channels)],
            ["batch", "height", "width", channel],
        ),
    };
    let element = match input.element {
        ElementType::F32 => "float32",
        ElementType::F16 => "float16",
        ElementType::U8 => "uint8",
    };
    let bands: Vec<&str> = spec.bands.iter().flat_map(|fact| &fact.value).map(String::as_str).collect();
    let port = outputs.iter().find(|port| port.name == spec.output.name);
    let result_order = match port.map_or(4, |port| port.shape.len()) {
        3 => vec!["batch", "height", "width"],
        _ if output.is_some_and(|o| o.layout == Layout::Nhwc) => vec!["batch", "height", "width", "class"],
        _ => vec!["batch", "class", "height", "width"],
    };
    let result_shape: Vec<i64> =
        port.map_or(vec![-1; 4], |port| port.shape.iter().map(|d| if *d < 1 { -1 } else { *d }).collect());
    let colours = spec.colours.as_ref().map_or(&[][..], |fact| &fact.value);
    let class = |(k, name): (usize, &String)| stac::class(k as u16, name, colours.get(k).copied().flatten());
    let mut result = json!({
        "name": spec.output.name,
        "tasks": ["semantic-segmentation"],
        "result": {"shape": result_shape, "dim_order": result_order, "data_type": port.map_or("float32", |port| port.element.as_str())},
    });
    if let Some(names) = spec.class_names.clone()? {
        result["classification:classes"] = names.value.iter().enumerate().map(class).collect();
    }
    let tiling = spec.tiling.clone()?;
    let mut more = json!({"activation": activation(spec), "size_multiple": input.size_multiple.value});
    let mut add = |key: &str, value: Option<Value>| value.map(|value| more[key] = value);
    add("channel_order", (bands.is_empty()).then(|| input.channel_order.value.name().into()));
    add("temperature", (spec.output.temperature.value != 1.0).then(|| number(spec.output.temperature.value.into())));
    add("threshold", spec.threshold.as_ref().map(|fact| number(fact.value.into())));
    add("tile_size", tiling.tile.map(|fact| json!(fact.value)));
    match tiling.overlap.map(|fact| fact.value) {
        Some(Overlap::Percent(percent)) => add("tiles_overlap", Some(number(percent.into()))),
        Some(Overlap::Pixels(pixels)) => add("overlap", Some(json!(pixels))),
        None => None,
    };
    add("resolution", tiling.resolution.map(|fact| number(fact.value.into())));
    add("tta", spec.tta.as_ref().map(|fact| tta::name(&fact.value).into()));
    let mut model_input = json!({
        "name": input.name,
        "input": {"shape": shape, "dim_order": order, "data_type": element},
        "value_scaling": if same { json!([scaling[0]]) } else { json!(scaling) },
    });
    let mut properties = json!({
        "datetime": stac::rfc3339(SystemTime::now()),
        "mlm:name": name,
        "mlm:architecture": "unknown",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "ONNX",
        "mlm:output": [result],
        "mlm:hyperparameters": more,
    });
    let mut asset = json!({
        "href": format!("./{}", spec.name()),
        "type": "application/octet-stream; framework=onnx",
        "roles": ["mlm:model", "data"],
        "mlm:artifact_type": "onnx",
    });
    if !bands.is_empty() {
        model_input["bands"] = json!(bands);
        let described: Vec<Value> = bands.iter().map(|band| json!({"name": band})).collect();
        properties["bands"] = json!(described);
        asset["bands"] = json!(described);
    }
    properties["mlm:input"] = json!([model_input]);
    Ok(json!({
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/mlm/v1.5.2/schema.json",
            "https://stac-extensions.github.io/classification/v1.1.0/schema.json",
        ],
        "id": name,
        "geometry": null,
        "properties": properties,
        "links": [],
        "assets": {"model": asset},
    }))
}

/// One step of `value_scaling`.
fn scaling(offset: f64, divisor: f64) -> Value {
    match (offset, divisor) {
        (0.0, divisor) => json!({"type": "scale", "value": number(divisor)}),
        (offset, divisor) => json!({"type": "z-score", "mean": number(offset), "stddev": number(divisor)}),
    }
}

/// What is still to be applied. Probabilities without an operator that shows it are told as such.
fn activation(spec: &ModelSpec) -> &'static str {
    match (spec.output.form, spec.output.link) {
        (Form::Logit, Link::Sigmoid) => "sigmoid",
        (Form::Logit, Link::Softmax) => "softmax",
        (Form::LogProbability, _) => "log-softmax",
        (Form::Probability | Form::Label, _) => "none",
    }
}
