//! How pixel values become a model's input, where one source tells all of it: what STAC's `value_scaling` and GStreamer's
//! `ranges` come to as `scale` or `input-range`, `mean` and `std`.

use serde_json::Value;

use crate::engine::settings::{Fact, Facts, Source};

/// x = (v ÷ scale − mean) ÷ std, or from a range, clipped, in the place of the division.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// Values that become 0 and 1.
    pub input_range: Option<(f32, f32)>,
    /// `None` where a range is stated, and where frames of 8 bits alone are meant.
    pub scale: Option<f32>,
    /// One for all channels, or one each.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    pub source: Source,
}

impl Scaling {
    /// Whether any part of it is stated otherwise. Its parts belong together: a mean in units of the pixel says nothing beside
    /// another divisor.
    pub fn is_stated(facts: &Facts) -> bool {
        facts.scale.is_some() || facts.input_range.is_some() || facts.mean.is_some() || facts.std.is_some()
    }

    pub fn put(self, facts: &mut Facts) {
        facts.scale = self.scale.map(|scale| Fact::new(scale, self.source));
        facts.input_range = self.input_range.map(|range| Fact::new(range, self.source));
        facts.mean = Some(Fact::new(self.mean, self.source));
        facts.std = Some(Fact::new(self.std, self.source));
    }
}

/// One entry of `value_scaling`: either (v − offset) ÷ divisor, or a clip and nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Linear { offset: f64, divisor: f64 },
    Clip { lo: f64, hi: f64 },
}

/// Reads `value_scaling`, which has an entry for each of `channels`, or one for all (STAC MLM 1.5, "Value Scaling Object").
/// An explicit null says that the model takes pixels as they are.
///
/// # Errors
/// In words, what is not valid or cannot be expressed.
pub fn of_value_scaling(value: &Value, channels: usize, source: Source) -> Result<Scaling, String> {
    let entries = match value {
        Value::Null => &[Value::Null][..],
        Value::Array(entries) if !entries.is_empty() => entries,
        _ => return Err("is not null or a list of objects".into()),
    };
    if entries.len() != 1 && entries.len() != channels {
        return Err(format!(
            "has {} entries for {channels} channels; expected one for all, or one each",
            entries.len()
        ));
    }
    let steps: Result<Vec<Step>, String> = entries.iter().enumerate().map(|(k, entry)| step(k, entry)).collect();
    let steps = steps?;
    let plain = Scaling { input_range: None, scale: None, mean: vec![0.0], std: vec![1.0], source };
    if let Step::Clip { lo, hi } = steps[0] {
        if steps.iter().any(|step| *step != steps[0]) {
            return Err("clips some channels otherwise than others, and one range holds for all here".into());
        }
        // The range takes lo…hi to 0…1; mean and std take it back.
        let std = (1.0 / (hi - lo)) as f32;
        let input_range = Some((lo as f32, hi as f32));
        return Ok(Scaling { input_range, mean: vec![((0.0 - lo) / (hi - lo)) as f32], std: vec![std], ..plain });
    }
    let mut linear = Vec::new();
    for step in &steps {
        match step {
            Step::Linear { offset, divisor } => linear.push((*offset, *divisor)),
            Step::Clip { .. } => {
                return Err("clips some channels and not others, which cannot be expressed here".into());
            }
        }
    }
    // Where it is nothing but one division, it is the divisor that a user would write.
    let same = linear.iter().all(|step| *step == linear[0]);
    if same && linear[0].0 == 0.0 {
        return Ok(Scaling { scale: Some(linear[0].1 as f32), ..plain });
    }
    let (mean, std) = linear.iter().map(|(offset, divisor)| (*offset as f32, *divisor as f32)).unzip();
    Ok(Scaling { scale: Some(1.0), mean, std, ..plain })
}

fn step(k: usize, entry: &Value) -> Result<Step, String> {
    let kind = match entry.get("type") {
        _ if entry.is_null() => "",
        Some(Value::Null) => "",
        Some(Value::String(kind)) => kind.as_str(),
        _ => return Err(format!("entry {k} has no type")),
    };
    let number = |key: &str| {
        let found = entry.get(key).and_then(Value::as_f64).filter(|v| v.is_finite() && (*v as f32).is_finite());
        found.ok_or_else(|| format!("entry {k}, {kind}, has no number `{key}`"))
    };
    let divisor = |value: f64| match value as f32 > 0.0 {
        true => Ok(value),
        false => Err(format!("entry {k}, {kind}, divides by {value}; expected more than 0")),
    };
    let linear = |offset: f64, value: f64| Ok(Step::Linear { offset, divisor: divisor(value)? });
    match kind {
        "" => linear(0.0, 1.0),
        "z-score" => linear(number("mean")?, number("stddev")?),
        "min-max" => linear(number("minimum")?, number("maximum")? - number("minimum")?),
        "offset" => linear(number("value")?, 1.0),
        "scale" => linear(0.0, number("value")?),
        "clip" => {
            let (lo, hi) = (number("minimum")?, number("maximum")?);
            match (lo as f32) < hi as f32 {
                true => Ok(Step::Clip { lo, hi }),
                false => Err(format!("entry {k}, clip, goes from {lo} to {hi}; expected minimum < maximum")),
            }
        }
        kind @ ("clip-min" | "clip-max" | "processing") => {
            Err(format!("entry {k} is of type {kind}, which cannot be expressed here"))
        }
        kind => Err(format!("entry {k} is of type `{kind}`, which STAC MLM 1.5 does not have")),
    }
}

/// What GStreamer's `ranges` come to: a byte of 0…255 becomes min…max, out = in · (max − min) ÷ 255 + min. `None` for inputs
/// of bytes that are to stay as they are.
///
/// # Errors
/// In words, ranges that cannot be expressed.
pub fn of_ranges(
    ranges: &[(f64, f64)],
    channels: usize,
    bytes: bool,
    source: Source,
) -> Result<Option<Scaling>, String> {
    if ranges.len() != 1 && ranges.len() != channels {
        return Err(format!("has {} ranges for {channels} channels; expected one for all, or one each", ranges.len()));
    }
    if let Some((min, max)) = ranges.iter().find(|(min, max)| !((max - min) as f32 > 0.0 && max.is_finite())) {
        return Err(format!("has the range {min},{max}; expected min,max with min < max"));
    }
    if bytes {
        return match ranges.iter().all(|range| *range == (0.0, 255.0)) {
            true => Ok(None),
            false => {
                Err("has other ranges than 0.0,255.0 for an input of bytes, which takes pixels as they are".into())
            }
        };
    }
    let mean = ranges.iter().map(|(min, max)| ((0.0 - min) / (max - min)) as f32).collect();
    let std = ranges.iter().map(|(min, max)| (1.0 / (max - min)) as f32).collect();
    Ok(Some(Scaling { input_range: None, scale: None, mean, std, source }))
}
