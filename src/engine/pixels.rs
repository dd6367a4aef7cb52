//! A borrowed view of a frame, whatever its format, and its one conversion to the planes a model reads.

use half::f16;

use super::error::{Error, Result};
use super::spec::{ElementType, InputSpec};

/// How one sample is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sample {
    U8,
    U16Le,
    U16Be,
    I16Le,
    F32Le,
}

impl Sample {
    /// Bytes per sample.
    pub fn size(self) -> usize {
        match self {
            Sample::U8 => 1,
            Sample::U16Le | Sample::U16Be | Sample::I16Le => 2,
            Sample::F32Le => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Sample::U8 => "8-bit",
            Sample::U16Le | Sample::U16Be | Sample::I16Le => "16-bit",
            Sample::F32Le => "float",
        }
    }
}

/// What all frames between two caps changes have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameFormat {
    pub width: usize,
    pub height: usize,
    pub bands: usize,
    pub sample: Sample,
}

/// One band of a frame: `height` rows of `width` samples.
#[derive(Debug, Clone, Copy)]
pub struct Band<'a> {
    /// Bytes from the first sample on.
    pub data: &'a [u8],
    /// Bytes from a sample to its neighbour in the row.
    pub step: usize,
    /// Bytes from a row to the next.
    pub stride: usize,
}

/// A frame, borrowed: interleaved and planar formats, padding and offsets are all bands with a step and a stride.
/// Colour bands are in the order red, green, blue, alpha.
#[derive(Debug, Clone)]
pub struct FrameView<'a> {
    pub format: FrameFormat,
    pub bands: Vec<Band<'a>>,
}

impl FrameView<'_> {
    /// # Errors
    /// A band that is too short for its size and stride.
    pub fn check(&self) -> Result<()> {
        let f = &self.format;
        for (k, band) in self.bands.iter().enumerate() {
            let last = (f.height - 1) * band.stride + (f.width - 1) * band.step + f.sample.size();
            if f.bands != self.bands.len() || band.data.len() < last {
                return Err(Error::Frame(format!(
                    "band {k} of a {}x{} frame holds {} bytes, but its strides need {last}",
                    f.width,
                    f.height,
                    band.data.len()
                )));
            }
        }
        Ok(())
    }
}

/// Something that lends out a frame's pixels from any thread, for as long as it lives.
pub trait Frame: Send + Sync {
    fn view(&self) -> FrameView<'_>;
}

/// How pixel values become model input (references: `x = (v / divisor − mean) / std`, or linear from a range).
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// Divisor, or the values that become 0 and 1 (clipped).
    pub unit: Unit,
    /// Per channel.
    pub mean: Vec<f32>,
    /// Per channel.
    pub std: Vec<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    Divisor(f32),
    Range(f32, f32),
}

impl Scaling {
    fn apply(&self, v: f32, channel: usize) -> f32 {
        let x = match self.unit {
            Unit::Divisor(d) => v / d,
            Unit::Range(lo, hi) => ((v - lo) / (hi - lo)).clamp(0.0, 1.0),
        };
        (x - self.mean[channel]) / self.std[channel]
    }
}

/// Everything that decides the values of a model's input planes: two members for which this is equal share one
/// conversion.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    pub element: ElementType,
    pub scaling: Scaling,
    /// For each channel of the model, the frame's band.
    pub bands: Vec<usize>,
    /// Size after padding.
    pub height: usize,
    pub width: usize,
}

impl Conversion {
    /// Plans the conversion of frames of `format` for a model.
    ///
    /// # Errors
    /// Band counts that do not fit the model, and 16-bit or float pixels without a stated scale.
    pub fn plan(input: &InputSpec, format: &FrameFormat) -> Result<Self> {
        let c = input.channels;
        let bands: Vec<usize> = match (c, format.bands) {
            (3, 3 | 4) if input.reversed() => vec![2, 1, 0],
            (4, 4) if input.reversed() => vec![2, 1, 0, 3],
            (3, 4) => vec![0, 1, 2], // alpha is no input of a three-channel model
            (c, b) if c == b => (0..c).collect(),
            (c, b) => {
                return Err(Error::Frame(format!(
                    "{} wants {c} channels, the frame has {b}; {}",
                    input.file,
                    match c {
                        1 => "put `videoconvert ! video/x-raw,format=GRAY8` before onnxsegment",
                        3 => "put `videoconvert` before onnxsegment",
                        4 => "a four-channel model takes RGBA: put `videoconvert` before onnxsegment",
                        _ => "use a source with that many bands",
                    }
                )));
            }
        };
        let unit = match (&input.input_range, &input.scale, format.sample) {
            (Some(range), ..) => Unit::Range(range.value.0, range.value.1),
            (None, Some(scale), _) => Unit::Divisor(scale.value),
            (None, None, Sample::U8) if input.element == ElementType::U8 => Unit::Divisor(1.0),
            (None, None, Sample::U8) => Unit::Divisor(255.0),
            (None, None, sample) => {
                return Err(Error::Frame(format!(
                    "the frame has {} pixels and nothing says how {} scales them; set scale (a divisor, \
                     such as scale=65535) or input-range (lo,hi: the values that become 0 and 1)",
                    sample.name(),
                    input.file
                )));
            }
        };
        let per_channel = |name: &str, list: Option<&Vec<f32>>, default: f32| match list {
            None => Ok(vec![default; c]),
            Some(list) if list.len() == 1 => Ok(vec![list[0]; c]),
            Some(list) if list.len() == c => Ok(list.clone()),
            Some(list) => Err(Error::setting(
                name,
                super::settings::join(list),
                format!("{} values, but {} has {c} channels; give one, or one per channel", list.len(), input.file),
            )),
        };
        let multiple = |n: usize, fixed: Option<usize>| fixed.unwrap_or(n.div_ceil(input.size_multiple.value) * input.size_multiple.value);
        Ok(Conversion {
            element: input.element,
            scaling: Scaling {
                unit,
                mean: per_channel("mean", input.mean.as_ref().map(|f| &f.value), 0.0)?,
                std: per_channel("std", input.std.as_ref().map(|f| &f.value), 1.0)?,
            },
            bands,
            height: multiple(format.height, input.height),
            width: multiple(format.width, input.width),
        })
    }

    /// Bytes of the converted planes.
    pub fn size(&self) -> usize {
        self.bands.len() * self.height * self.width * self.element.size()
    }

    /// Converts a frame: scaled, channels in the model's order, padded at the right and the bottom.
    pub fn run(&self, frame: &FrameView<'_>) -> Planes {
        match self.element {
            ElementType::F32 => Planes::F32(self.planes(frame, |v| v)),
            ElementType::F16 => Planes::F16(self.planes(frame, f16::from_f32)),
            // A model that takes bytes takes them as they are; a stated range fills the bytes' own range.
            ElementType::U8 => {
                let full = matches!(self.scaling.unit, Unit::Range(..));
                Planes::U8(self.planes(frame, move |v| (if full { v * 255.0 } else { v }).round() as u8))
            }
        }
    }

    fn planes<T: Copy + Default>(&self, frame: &FrameView<'_>, finish: impl Fn(f32) -> T) -> Vec<T> {
        let plane = self.height * self.width;
        let mut planes = vec![T::default(); self.bands.len() * plane];
        let (height, width) = (frame.format.height, frame.format.width);
        let columns: Vec<usize> = (width..self.width).map(|x| reflect(x, width)).collect();
        for (channel, to) in planes.chunks_exact_mut(plane).enumerate() {
            let band = &frame.bands[self.bands[channel]];
            let value = |v: f32| finish(self.scaling.apply(v, channel));
            let table: [T; 256] = match frame.format.sample {
                Sample::U8 => std::array::from_fn(|v| value(v as f32)),
                _ => [T::default(); 256],
            };
            for y in 0..height {
                let from = &band.data[y * band.stride..];
                let row = &mut to[y * self.width..(y + 1) * self.width];
                match frame.format.sample {
                    Sample::U8 => bytes(from, band.step, &mut row[..width], &table),
                    Sample::U16Le => words(from, band.step, &mut row[..width], |b: [u8; 2]| value(u16::from_le_bytes(b) as f32)),
                    Sample::U16Be => words(from, band.step, &mut row[..width], |b: [u8; 2]| value(u16::from_be_bytes(b) as f32)),
                    Sample::I16Le => words(from, band.step, &mut row[..width], |b: [u8; 2]| value(i16::from_le_bytes(b) as f32)),
                    Sample::F32Le => words(from, band.step, &mut row[..width], |b: [u8; 4]| value(f32::from_le_bytes(b))),
                }
                for (k, x) in columns.iter().enumerate() {
                    row[width + k] = row[*x];
                }
            }
            for y in height..self.height {
                let from = reflect(y, height) * self.width;
                to.copy_within(from..from + self.width, y * self.width);
            }
        }
        planes
    }
}

/// A model's input values, channel by channel: `channels × height × width`.
#[derive(Debug)]
pub enum Planes {
    F32(Vec<f32>),
    F16(Vec<f16>),
    U8(Vec<u8>),
}

/// The index that stands for `i` beyond a line of `n`: reflection without repeating the edge (numpy `reflect`,
/// "reflect-101"), folded as often as needed. A line of 1 repeats.
pub fn reflect(i: usize, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n - 1);
    let k = i % period;
    if k < n { k } else { period - k }
}

fn bytes<T: Copy>(from: &[u8], step: usize, to: &mut [T], table: &[T; 256]) {
    // A constant step lets the compiler drop the bounds checks.
    fn fixed<const STEP: usize, T: Copy>(from: &[u8], to: &mut [T], table: &[T; 256]) {
        let (last, body) = to.split_last_mut().expect("a row holds at least one pixel");
        for (to, from) in body.iter_mut().zip(from.chunks_exact(STEP)) {
            *to = table[from[0] as usize];
        }
        // The last pixel's chunk may be cut: a band's view starts at the band, not at the pixel.
        *last = table[from[body.len() * STEP] as usize];
    }
    match step {
        1 => fixed::<1, T>(from, to, table),
        3 => fixed::<3, T>(from, to, table),
        4 => fixed::<4, T>(from, to, table),
        _ => to.iter_mut().enumerate().for_each(|(x, to)| *to = table[from[x * step] as usize]),
    }
}

fn words<const N: usize, T>(from: &[u8], step: usize, to: &mut [T], value: impl Fn([u8; N]) -> T) {
    for (x, to) in to.iter_mut().enumerate() {
        let word: &[u8; N] = from[x * step..].first_chunk().expect("FrameView::check has measured the band");
        *to = value(*word);
    }
}
