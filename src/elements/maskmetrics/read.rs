//! Frames to what the engine scores: class indices, and the probability of each.

use gst_video::VideoFormat;

use crate::elements::caps::{MappedFrame, Pixels, RasterFormat};
use crate::elements::labels::{self, Labels};
use crate::elements::meta::{SegmentationInfo, TileMeta};
use crate::engine::decide::{NODATA, NODATA_16};
use crate::engine::metrics::LabelMap;
use crate::engine::metrics::confusion::MAX_CLASSES;
use crate::engine::pixels::{Frame as _, Sample};
use crate::raster::Rect;
use crate::raster::blend::Planes;

/// A value that is neither a class nor nodata. No class index is as large.
const UNKNOWN: u16 = NODATA_16 - 1;

/// How the values of a mask say classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Coding {
    /// The value of each class; `None`: the class index plus `offset`.
    pub values: Option<Vec<u16>>,
    pub offset: u16,
    /// The number of classes, where it is known.
    pub classes: Option<usize>,
    /// The value of nodata; `None`: the largest of the samples, unless it is a class's.
    pub nodata: Option<u16>,
}

impl Coding {
    /// The class of every value.
    fn table(&self, wide: bool) -> Vec<u16> {
        let (size, default) = if wide { (1 << 16, NODATA_16) } else { (1 << 8, NODATA.into()) };
        let mut table = vec![UNKNOWN; size];
        let mut set = |value: usize, class: u16| {
            if let Some(entry) = table.get_mut(value) {
                *entry = class;
            }
        };
        let mut nodata = Some(self.nodata.unwrap_or(default));
        match &self.values {
            Some(values) => {
                nodata = nodata.filter(|nodata| !values.contains(nodata));
                values.iter().zip(0..).for_each(|(value, class)| set(usize::from(*value), class));
            }
            None => {
                let classes = self.classes.unwrap_or(MAX_CLASSES) as u16;
                (0..classes).for_each(|class| set(usize::from(class) + usize::from(self.offset), class));
            }
        }
        if let Some(nodata) = nodata {
            set(usize::from(nodata), NODATA_16);
        }
        table
    }

    /// What there may be besides nodata, in words.
    fn expected(&self) -> String {
        let list = |values: &[u16]| values.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        match (&self.values, self.classes) {
            (Some(values), _) => format!("the values of the classes are {}", list(values)),
            (None, Some(classes)) => {
                let first = usize::from(self.offset);
                format!("there are {classes} classes, with values {first} to {}", first + classes - 1)
            }
            (None, None) => format!("a value is a class index, and at most {MAX_CLASSES} classes are counted"),
        }
    }
}

/// The masks of one pad to class indices.
pub struct Reader {
    coding: Coding,
    wide: bool,
    table: Vec<u16>,
    /// Whether a value was nodata: not by the tile's meta, by itself.
    pub saw_nodata: bool,
}

impl Reader {
    pub fn new(coding: Coding, wide: bool) -> Self {
        Reader { table: coding.table(wide), coding, wide, saw_nodata: false }
    }

    pub fn reads(&self, coding: &Coding, wide: bool) -> bool {
        self.coding == *coding && self.wide == wide
    }

    /// The class indices of a part of a frame; without data where its tile says so.
    ///
    /// # Errors
    /// A value that is no class, in words that go on after the name of the mask.
    pub fn read(&mut self, frame: &MappedFrame, part: Rect, tile: Option<&TileMeta>) -> Result<LabelMap, String> {
        let view = frame.view();
        let too_small = || "is smaller than its caps say".to_string();
        let band = view.bands.first().ok_or_else(too_small)?;
        let (x, width) = (part.x as usize, part.width as usize);
        let size = view.format.sample.size();
        let mut data = Vec::with_capacity(part.area());
        for y in part.y as usize..part.bottom() as usize {
            let from = y * band.stride + x * band.step;
            let row = band.data.get(from..from + (width - 1) * band.step + size).ok_or_else(too_small)?;
            let values = row.chunks(band.step);
            data.extend(values.map(|v| match view.format.sample {
                Sample::U16Le => u16::from_le_bytes([v[0], v[1]]),
                Sample::U16Be => u16::from_be_bytes([v[0], v[1]]),
                _ => v[0].into(),
            }));
        }
        let valid = tile.and_then(|tile| tile.valid.as_ref().map(|valid| (valid, tile.tile().area.width as usize)));
        for (i, value) in data.iter_mut().enumerate() {
            let there = |(valid, across): (&gst::glib::Bytes, usize)| {
                valid[(part.y as usize + i / width) * across + x + i % width] != 0
            };
            if !valid.is_none_or(there) {
                *value = NODATA_16;
                continue;
            }
            let class = self.table[usize::from(*value)];
            match class {
                UNKNOWN => {
                    return Err(format!(
                        "holds the value {value}, and {}; set mask-values or truth-values to the value of each class, or nodata \
                         to the value of pixels that do not count",
                        self.coding.expected()
                    ));
                }
                NODATA_16 => self.saw_nodata = true,
                _ => {}
            }
            *value = class;
        }
        LabelMap::new(width, part.height as usize, data).map_err(|_| too_small())
    }
}

/// A mask of a tile without data.
pub fn nothing(part: Rect) -> Result<LabelMap, String> {
    LabelMap::new(part.width as usize, part.height as usize, vec![NODATA_16; part.area()])
        .map_err(|_| "has no pixels".into())
}

/// Whether masks of these pixels can be read.
pub fn is_mask(pixels: &Pixels) -> bool {
    matches!(pixels, Pixels::Video(info) if crate::elements::caps::GRAY.contains(&info.format()))
}

/// Whether samples have 16 bits.
pub fn is_wide(pixels: &Pixels) -> bool {
    pixels.format().sample.size() == 2
}

/// What comes on the pad `probability`.
pub enum Probability {
    /// Of one class of two, 0…254 or 0…65534.
    View { class: usize, wide: bool },
    /// Scores of all classes.
    Scores(Box<Labels>, RasterFormat),
}

impl Probability {
    /// # Errors
    /// Caps that are neither, and facts about scores that contradict them.
    pub fn new(pixels: &Pixels, info: Option<&SegmentationInfo>, class: usize) -> Result<Self, String> {
        match pixels {
            Pixels::Video(video) if [VideoFormat::Gray8, VideoFormat::Gray16Le].contains(&video.format()) => {
                Ok(Probability::View { class, wide: is_wide(pixels) })
            }
            Pixels::Raster(format) if format.sample == Sample::F32Le && format.planar => {
                let channels = format.bands - usize::from(format.uncertainty);
                let plain = SegmentationInfo {
                    domain: "probability".into(),
                    link: if channels == 1 { "sigmoid" } else { "softmax" }.into(),
                    ..SegmentationInfo::default()
                };
                let labels = Labels::new(info.unwrap_or(&plain), channels).map_err(|e| e.to_string())?;
                Ok(Probability::Scores(Box::new(labels), format.clone()))
            }
            _ => {
                Err("they are neither a probability of one class (GRAY8, GRAY16_LE) nor scores of all (raster/x-raw, \
                      F32LE, planar); link onnxsegment's pad `probability` or its scores"
                    .into())
            }
        }
    }

    /// Each pixel's probability of its label, NaN where there is none.
    ///
    /// # Errors
    /// A label whose probability is not there.
    pub fn of_labels(&mut self, frame: &MappedFrame, part: Rect, labels: &LabelMap) -> Result<Vec<f32>, String> {
        let too_small = || "a buffer on the pad probability is smaller than its caps say".to_string();
        let unknown = |label: u16, known: &str| {
            format!(
                "calibration needs the probability of every class, and the pad probability brings {known} only, not that \
                 of class {label}; link the scores of all classes to it (raster/x-raw, F32LE)"
            )
        };
        let mut found = vec![f32::NAN; labels.data.len()];
        match self {
            Probability::View { class, wide } => {
                let view = frame.view();
                let band = view.bands.first().ok_or_else(too_small)?;
                let most = if *wide { 65534 } else { 254 };
                for (i, (found, label)) in found.iter_mut().zip(&labels.data).enumerate() {
                    let (x, y) = (part.x as usize + i % labels.width, part.y as usize + i / labels.width);
                    let at = y * band.stride + x * band.step;
                    let value = match *wide {
                        true => band.data.get(at..at + 2).map(|v| u16::from_le_bytes([v[0], v[1]])),
                        false => band.data.get(at).map(|v| u16::from(*v)),
                    };
                    let value = value.ok_or_else(too_small)?;
                    if *label == NODATA_16 || value > most {
                        continue;
                    }
                    let p = f32::from(value) / f32::from(most);
                    *found = match label {
                        0 | 1 => {
                            if usize::from(*label) == *class {
                                p
                            } else {
                                1.0 - p
                            }
                        }
                        label => return Err(unknown(*label, &format!("that of class {class} of two"))),
                    };
                }
            }
            Probability::Scores(scores, format) => {
                let MappedFrame::Raster(data, _) = frame else { return Err(too_small()) };
                let mut copy = Vec::new();
                let floats = labels::floats(data, &mut copy);
                let channels = format.bands - usize::from(format.uncertainty);
                let most = channels.max(2) as u16;
                if let Some(label) = labels.data.iter().find(|l| (most..NODATA_16).contains(l)) {
                    return Err(unknown(*label, &format!("those of {most} classes")));
                }
                let from = part.y as usize * format.width + part.x as usize;
                let planes = Planes {
                    data: floats.get(from..).ok_or_else(too_small)?,
                    row: format.width,
                    plane: format.width * format.height,
                };
                scores.probabilities(planes, (labels.width, labels.height), |channel, y, row| {
                    let at = y * labels.width..(y + 1) * labels.width;
                    for ((found, label), p) in found[at.clone()].iter_mut().zip(&labels.data[at]).zip(row) {
                        match (channels, label) {
                            (1, 0) => *found = 1.0 - p,
                            (1, 1) => *found = *p,
                            _ if usize::from(*label) == channel => *found = *p,
                            _ => {}
                        }
                    }
                });
            }
        }
        Ok(found)
    }
}
