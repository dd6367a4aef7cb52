//! What the element tells of its models to whoever cuts tiles and puts them together again.

use crate::elements::meta::{ModelName, RunModels, SegmentationInfo};
use crate::engine::cascade::Mode;
use crate::engine::ensemble::Member;
use crate::engine::pixels::Unit;
use crate::engine::settings::Named;
use crate::engine::spec::{ElementType, Overlap};
use crate::engine::views::Palette;
use crate::engine::{Ensemble, Result};
use crate::raster::Preference;

/// What the models would have of tiles: fixed sizes, and what their cards or metadata tell. The first model that says something
/// speaks for all.
///
/// # Errors
/// Metadata about tiles that cannot be read.
pub fn preference(ensemble: &Ensemble) -> Result<Preference> {
    let members = ensemble.members();
    let (height, width) = ensemble.fixed_size();
    let mut preference = Preference {
        fixed_width: width.map(|n| n as i64),
        fixed_height: height.map(|n| n as i64),
        multiple: members.iter().map(|m| m.spec.input.size_multiple.value as i64).fold(1, common_multiple),
        fill: Some(zero(ensemble)),
        ..Preference::default()
    };
    for member in members {
        let tiling = member.spec.tiling.clone()?;
        preference.tile = preference.tile.or(tiling.tile.map(|f| f.value as i64));
        if (preference.overlap, preference.overlap_pixels) == (None, None) {
            match tiling.overlap.map(|fact| fact.value) {
                Some(Overlap::Percent(percent)) => preference.overlap = Some(f64::from(percent) / 100.0),
                Some(Overlap::Pixels(pixels)) => preference.overlap_pixels = Some(pixels as i64),
                None => {}
            }
        }
        preference.resolution = preference.resolution.or(tiling.resolution.map(|f| f.value as f64 / 100.0));
    }
    Ok(preference)
}

/// The pixel value of each band that the first model sees as 0: its mean.
fn zero(ensemble: &Ensemble) -> Vec<f64> {
    let input = &ensemble.members()[0].spec.input;
    let unit = match (&input.input_range, &input.scale, input.element) {
        (Some(range), ..) => Unit::Range(range.value.0, range.value.1),
        (None, Some(scale), _) => Unit::Divisor(scale.value),
        (None, None, ElementType::U8) => Unit::Divisor(1.0),
        (None, None, _) => Unit::Divisor(255.0),
    };
    let mean = |channel: usize| {
        let list = input.mean.as_ref().map_or(&[0.0][..], |f| &f.value);
        list.get(channel).or(list.first()).copied().unwrap_or(0.0)
    };
    let mut zero: Vec<f64> = (0..input.channels)
        .map(|channel| match unit {
            Unit::Divisor(divisor) => (mean(channel) * divisor) as f64,
            Unit::Range(lo, hi) => (lo + mean(channel) * (hi - lo)) as f64,
        })
        .collect();
    if input.reversed() && zero.len() >= 3 {
        zero.swap(0, 2);
    }
    zero
}

fn common_multiple(a: i64, b: i64) -> i64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

/// What the scores and labels of an ensemble mean.
///
/// # Errors
/// A model's file that cannot be read any more.
pub fn segmentation_info(ensemble: &Ensemble, palette: &Palette) -> Result<SegmentationInfo> {
    let name = |m: &Member| Ok(ModelName { file: m.spec.name(), sha256: m.sha256()?, weight: m.weight });
    let models: Result<Vec<_>> = ensemble.members().iter().map(name).collect();
    let decision = ensemble.decision();
    let transforms: Vec<_> = ensemble.transforms().iter().map(|t| t.name()).collect();
    Ok(SegmentationInfo {
        class_names: ensemble.class_names().map(<[String]>::to_vec),
        colours: (0..ensemble.classes().unwrap_or(2) as u16).map(|class| palette.colour(class)).collect(),
        models: models?,
        cards: ensemble.members().iter().filter_map(|m| Some((m.spec.name(), m.spec.card.clone()?))).collect(),
        stacker: ensemble.stacker().map(name).transpose()?,
        channels: ensemble.channels().unwrap_or(0),
        domain: ensemble.domain().name().into(),
        link: ensemble.link().name().into(),
        threshold: decision.threshold.clone(),
        label_offset: decision.offset,
        mask_values: decision.values.clone(),
        tta: transforms.join(","),
        samples: ensemble.samples(),
        merge: ensemble.merge().name().into(),
        uncertainty: ensemble.uncertainty().name().into(),
        cascade: ensemble.cascade().map_or(Mode::None.name().into(), |cascade| cascade.text()),
    })
}

/// Everything that decides the scores of a run.
///
/// # Errors
/// A model's file that cannot be read any more.
pub fn run_models(ensemble: &Ensemble, palette: &Palette) -> Result<RunModels> {
    let info = segmentation_info(ensemble, palette)?;
    let facts = ensemble.members().iter().map(|member| {
        let facts = member.spec.describe().into_iter().map(|(name, value, _)| (name.to_string(), value.into()));
        serde_json::Value::Object(facts.collect())
    });
    let mut settings = info.settings();
    settings["uncertainty-kind"] = info.uncertainty.as_str().into();
    settings["class-names"] = info.class_names.clone().into();
    settings["model"] = facts.collect();
    Ok(RunModels { info, settings, wide: false })
}
