//! Blended scores and labels to the samples of each raster, and what the rasters tell of themselves.

use std::path::Path;

use crate::elements::labels::Labels;
use crate::elements::meta::SegmentationInfo;
use crate::engine::decide::NODATA_16;
use crate::raster::blend::Piece;
use crate::raster::cells::{Depth, Layout, Samples};
use crate::raster::parts::{Kind, Look, Product};
use crate::raster::stac::{About, Class};
use crate::raster::{Error, Result};

/// Turns pieces of blended scores into samples.
pub struct Sampler {
    labels: Labels,
    /// Depth of each raster, in their order.
    products: Vec<(Kind, Depth)>,
    channels: usize,
}

impl Sampler {
    /// For scores of `channels` bands, after which one of uncertainty may follow.
    ///
    /// # Errors
    /// Facts about the scores that contradict each other.
    pub fn new(info: &SegmentationInfo, channels: usize, products: &[Product]) -> Result<Self> {
        let labels = Labels::new(info, channels).map_err(|e| Error::Tile(e.to_string()))?;
        let products = products.iter().map(|p| (p.kind, p.depth)).collect();
        Ok(Sampler { labels, products, channels })
    }

    /// Depth and bands of each raster.
    pub fn layout(&self) -> Vec<Layout> {
        let bands = |kind| if kind == Kind::Probability { self.channels } else { 1 };
        self.products.iter().map(|(kind, depth)| (*depth, bands(*kind))).collect()
    }

    /// A piece's samples for each raster; `None` where no pixel has data.
    pub fn sample(&mut self, piece: &Piece<'_>) -> Option<Vec<Samples>> {
        let planes = piece.scores?;
        let size = (piece.rect.width as usize, piece.rect.height as usize);
        let n = size.0 * size.1;
        let products = self.products.clone();
        let sample = |(kind, depth): (Kind, Depth)| match kind {
            Kind::Labels => {
                let mut values = Vec::with_capacity(n);
                self.labels.rows(Some(planes), size, |_, row| values.extend_from_slice(row));
                narrow(values, depth)
            }
            Kind::Probability => {
                let mut values = vec![NODATA_16; self.channels * n];
                self.labels.probabilities(planes, size, |channel, y, row| {
                    let at = channel * n + y * size.0;
                    quantise(&mut values[at..at + size.0], row, depth);
                });
                narrow(values, depth)
            }
            Kind::Uncertainty => {
                let mut values = vec![NODATA_16; n];
                for (y, to) in values.chunks_exact_mut(size.0).enumerate() {
                    quantise(to, planes.row(self.channels, y, size.0), depth);
                }
                narrow(values, depth)
            }
        };
        Some(products.into_iter().map(sample).collect())
    }
}

/// 0 to 1 as 0 to 254 or 0 to 65534; NaN is no data.
fn quantise(to: &mut [u16], from: &[f32], depth: Depth) {
    let most = depth.nodata() - 1;
    for (to, v) in to.iter_mut().zip(from) {
        *to = if v.is_nan() { NODATA_16 } else { (v * most as f32 + 0.5) as u16 };
    }
}

/// Samples of 16 bits cut to a depth that holds them: 65535 becomes 255.
fn narrow(values: Vec<u16>, depth: Depth) -> Samples {
    match depth {
        Depth::U8 => Samples::U8(values.into_iter().map(|v| v as u8).collect()),
        Depth::U16 => Samples::U16(values),
    }
}

/// Labels that were decided before they came.
///
/// # Errors
/// A label that the raster cannot hold.
pub fn labels(values: Vec<u16>, depth: Depth) -> Result<Samples> {
    match values.iter().find(|v| depth == Depth::U8 && **v >= 255 && **v != NODATA_16) {
        None => Ok(narrow(values, depth)),
        Some(label) => Err(Error::Tile(format!(
            "label {label} is more than the mask's 8 bits hold, where 255 is no data; send scores \
             (`raster/x-raw,format=F32LE`), or use smaller labels"
        ))),
    }
}

/// The depth of labels, by what is known of the classes.
///
/// # Errors
/// A class whose value stands for "no data".
pub fn label_depth(info: Option<&SegmentationInfo>) -> Result<Depth> {
    let Some(info) = info.filter(|info| info.channels > 0 || info.mask_values.is_some()) else {
        return Ok(Depth::U8);
    };
    let classes = info.mask_values.as_ref().map_or(info.channels.max(2), Vec::len);
    let values: Vec<u16> = match &info.mask_values {
        Some(values) => values.clone(),
        None => (0..classes as u16).map(|class| class.saturating_add(info.label_offset)).collect(),
    };
    let depth = if values.iter().all(|v| *v <= 255) && !(info.mask_values.is_none() && values.contains(&255)) {
        Depth::U8
    } else {
        Depth::U16
    };
    match values.contains(&depth.nodata()) {
        false => Ok(depth),
        true => {
            let list: Vec<_> = values.iter().map(u16::to_string).collect();
            Err(Error::setting(
                "mask-values",
                list.join(","),
                format!(
                    "{} stands for no data in a raster of labels; use another value for that class",
                    depth.nodata()
                ),
            ))
        }
    }
}

/// The value of a class in the mask.
fn value(info: &SegmentationInfo, class: usize) -> Option<usize> {
    match &info.mask_values {
        Some(values) => values.get(class).map(|v| usize::from(*v)),
        None => Some(class + usize::from(info.label_offset)),
    }
}

/// What made rasters of `source`, for their STAC item.
pub fn about(source: &str, info: Option<&SegmentationInfo>, blend: &str) -> About {
    let name = Path::new(source).file_name().map_or("frames".into(), |name| name.to_string_lossy());
    let mut about = About { source: source.into(), lineage: format!("Made of {name}"), ..About::default() };
    let Some(info) = info else { return about };
    let names = info.class_names.clone().unwrap_or_default();
    let class = |class: usize| {
        Some(Class {
            value: u16::try_from(value(info, class)?).ok()?,
            name: names.get(class).cloned().unwrap_or_else(|| format!("class {class}")),
            colour: info.colours.get(class).copied().flatten(),
        })
    };
    about.classes = (0..info.colours.len().max(names.len())).filter_map(class).collect();
    if info.models.is_empty() {
        return about;
    }
    let models: Vec<String> = info.models.iter().map(|m| format!("{} (weight {})", m.file, m.weight)).collect();
    let decision = info.threshold.text().map_or("argmax".into(), |text| format!("threshold {text}"));
    about.lineage = format!(
        "Segmented from {name} by {}; transforms {}; merge {} of {}; {decision}; tiles blended by {blend}",
        models.join(", "),
        info.tta,
        info.merge,
        if info.domain == "logit" { "logits" } else { "probabilities" },
    );
    about.cards = info.cards.clone();
    let mut settings = info.settings();
    settings["blend"] = blend.into();
    about.more.insert("onnxsegment:models".into(), serde_json::json!(info.models));
    about.more.insert("onnxsegment:settings".into(), settings);
    about
}

/// What a raster tells of its values. `bands` is how many its parts have.
pub fn look(kind: Kind, depth: Depth, bands: Option<usize>, info: Option<&SegmentationInfo>, blend: &str) -> Look {
    let mut look = Look { metadata: metadata(kind, info, blend), ..Look::default() };
    let names = info.and_then(|info| info.class_names.clone()).unwrap_or_default();
    let name = |class: usize| names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
    match kind {
        Kind::Labels => {
            look.bands = vec!["labels".into()];
            if let Some(info) = info {
                let classes = info.colours.len().max(names.len());
                let value = |class: usize| value(info, class);
                let most = (0..classes).filter_map(value).max().unwrap_or(0);
                // A palette has 256 entries, the last of which is no data.
                let known = depth == Depth::U8 && most < 255;
                if known && classes > 0 {
                    look.palette = vec![[0; 3]; most + 1];
                    look.categories = vec![String::new(); most + 1];
                    for class in 0..classes {
                        let Some(value) = value(class) else { continue };
                        look.palette[value] = info.colours.get(class).copied().flatten().unwrap_or([0; 3]);
                        look.categories[value] = name(class);
                    }
                }
            }
        }
        Kind::Probability => {
            let bands = bands.or(info.map(|info| info.channels)).unwrap_or(1).max(1);
            // A lone band is class 1's.
            let first = usize::from(bands == 1);
            look.bands = (0..bands).map(|k| name(k + first)).collect();
        }
        Kind::Uncertainty => look.bands = vec!["uncertainty".into()],
    }
    if kind != Kind::Labels {
        look.scale = Some(1.0 / (depth.nodata() - 1) as f64);
    }
    look
}

/// What made a raster.
fn metadata(kind: Kind, info: Option<&SegmentationInfo>, blend: &str) -> Vec<(String, String)> {
    let mut all = vec![
        ("ONNXSEGMENT_VERSION".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("ONNXSEGMENT_BLEND".to_string(), blend.to_string()),
    ];
    let Some(info) = info else { return all };
    let mut add = |name: &str, value: String| all.push((format!("ONNXSEGMENT_{name}"), value));
    if let Some(names) = info.class_names.as_ref().filter(|names| names.iter().any(|name| !name.is_empty())) {
        add("CLASSES", names.join(","));
    }
    if info.models.is_empty() {
        return all;
    }
    let join = |items: Vec<&str>| items.join(",");
    add("MODELS", join(info.models.iter().map(|m| m.file.as_str()).collect()));
    add("SHA256", join(info.models.iter().map(|m| m.sha256.as_str()).collect()));
    let weights: Vec<_> = info.models.iter().map(|m| m.weight.to_string()).collect();
    add("WEIGHTS", weights.join(","));
    add("TTA", info.tta.clone());
    add("MERGE", info.merge.clone());
    add("MERGE_DOMAIN", info.domain.clone());
    if let Some(threshold) = info.threshold.text() {
        add("THRESHOLD", threshold);
    }
    if kind == Kind::Uncertainty {
        add("UNCERTAINTY", info.uncertainty.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> SegmentationInfo {
        SegmentationInfo {
            class_names: Some(vec!["ground".into(), "house".into()]),
            colours: vec![None, Some([255, 64, 64])],
            channels: 2,
            domain: "probability".into(),
            link: "softmax".into(),
            ..SegmentationInfo::default()
        }
    }

    #[test]
    fn names_and_colours_go_with_the_values() {
        let plain = look(Kind::Labels, Depth::U8, None, Some(&info()), "linear");
        assert_eq!(
            (plain.palette, plain.categories),
            (vec![[0; 3], [255, 64, 64]], vec!["ground".into(), "house".into()])
        );
        let moved = SegmentationInfo { mask_values: Some(vec![3, 1]), ..info() };
        let moved = look(Kind::Labels, Depth::U8, None, Some(&moved), "linear");
        assert_eq!(moved.categories, ["", "house", "", "ground"]);
        assert_eq!(moved.palette[1], [255, 64, 64]);
        let one = look(Kind::Probability, Depth::U8, Some(1), Some(&info()), "linear");
        assert_eq!((one.bands, one.scale), (vec!["house".to_string()], Some(1.0 / 254.0)));
    }

    #[test]
    fn a_class_may_not_look_like_no_data() {
        assert_eq!(label_depth(None).unwrap(), Depth::U8);
        assert_eq!(label_depth(Some(&info())).unwrap(), Depth::U8);
        let masked = |values: Vec<u16>| SegmentationInfo { mask_values: Some(values), ..info() };
        assert_eq!(label_depth(Some(&masked(vec![0, 300]))).unwrap(), Depth::U16);
        let error = label_depth(Some(&masked(vec![0, 255]))).unwrap_err().to_string();
        assert!(error.contains("mask-values=0,255") && error.contains("no data"), "{error}");
        let offset = SegmentationInfo { label_offset: 254, ..info() };
        assert_eq!(label_depth(Some(&offset)).unwrap(), Depth::U16);
    }
}
