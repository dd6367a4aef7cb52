//! A borrowed view of a frame, whatever its format, and its one conversion to the planes a model reads.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::error::{Error, Result, count};
use super::math;
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

impl Band<'_> {
    /// Writes row `y`, each sample through `value`.
    pub fn row<T>(&self, sample: Sample, y: usize, value: impl Fn(f32) -> T + Copy, to: &mut [T]) {
        let (from, step) = (&self.data[y * self.stride..], self.step);
        match sample {
            Sample::U8 => samples(from, step, move |[b]| value(b as f32), to),
            Sample::U16Le => samples(from, step, move |b| value(u16::from_le_bytes(b) as f32), to),
            Sample::U16Be => samples(from, step, move |b| value(u16::from_be_bytes(b) as f32), to),
            Sample::I16Le => samples(from, step, move |b| value(i16::from_le_bytes(b) as f32), to),
            Sample::F32Le => samples(from, step, move |b| value(f32::from_le_bytes(b)), to),
        }
    }
}

/// Writes samples of `N` bytes that lie `step` bytes apart.
fn samples<const N: usize, T>(from: &[u8], step: usize, value: impl Fn([u8; N]) -> T + Copy, to: &mut [T]) {
    /// Where `K`, the samples of a pixel, is constant, the compiler takes pixels apart with vector instructions.
    fn pixels<const K: usize, S: Copy, T>(from: &[S], value: impl Fn(S) -> T + Copy, to: &mut [T]) {
        // The last pixel may be cut: a band's view starts at the band, not at the pixel.
        let Some((last, others)) = to.split_last_mut() else { return };
        let end = others.len() * K;
        math::map(from[..end].as_chunks::<K>().0, others, move |pixel| value(pixel[0]));
        *last = value(from[end]);
    }
    let (all, _) = from.as_chunks::<N>();
    match step {
        _ if step == N => pixels::<1, _, _>(all, value, to),
        _ if step == 3 * N => pixels::<3, _, _>(all, value, to),
        _ if step == 4 * N => pixels::<4, _, _>(all, value, to),
        _ => to.iter_mut().enumerate().for_each(|(x, to)| {
            *to = value(*from[x * step..].first_chunk().expect("FrameView::check has measured the band"));
        }),
    }
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

    /// The bytes of the pixel that all of a checked frame consists of; `None` where two pixels differ.
    pub fn constant(&self) -> Option<Vec<u8>> {
        let f = &self.format;
        let size = f.sample.size();
        let all_alike = |band: &Band<'_>| {
            let first = &band.data[..size];
            (0..f.height).all(|y| {
                let row = &band.data[y * band.stride..];
                (0..f.width).all(|x| row[x * band.step..].starts_with(first))
            })
        };
        let alike = self.bands.iter().all(all_alike);
        alike.then(|| self.bands.iter().flat_map(|band| band.data[..size].to_vec()).collect())
    }
}

/// Something that lends out a frame's pixels from any thread, for as long as it lives.
pub trait Frame: Send + Sync {
    fn view(&self) -> FrameView<'_>;

    /// What tells this frame from others where something is drawn at random: the same frame has the same key in every run.
    fn key(&self) -> u64 {
        0
    }
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
    /// Writes row `y` of a band as one channel's input. A function for each case, because a choice within the loop costs
    /// more than the arithmetic.
    fn row(&self, channel: usize, band: &Band<'_>, sample: Sample, y: usize, to: &mut [f32]) {
        let (mean, std) = (self.mean[channel], self.std[channel]);
        // Most models state neither; a division is dear, and this one would change nothing.
        let normal = mean == 0.0 && std == 1.0;
        match self.unit {
            Unit::Divisor(d) if normal => band.row(sample, y, move |v| v / d, to),
            Unit::Divisor(d) => band.row(sample, y, move |v| (v / d - mean) / std, to),
            Unit::Range(lo, hi) => {
                let unit = move |v: f32| ((v - lo) / (hi - lo)).clamp(0.0, 1.0);
                band.row(sample, y, move |v| (unit(v) - mean) / std, to);
            }
        }
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
                    "model-file={}: takes {}, and the frame has {b}; {}",
                    input.file,
                    count(c, "channel"),
                    match c {
                        1 =>
                            "put `videoconvert ! video/x-raw,format=GRAY8` before onnxsegment, or choose a raster's band, as bands=1",
                        3 => "put `videoconvert` before onnxsegment, or choose a raster's bands, as bands=1,2,3",
                        4 => "a four-channel model takes RGBA: put `videoconvert` before onnxsegment",
                        _ => "choose a raster's bands, as bands=1,2,…, or use a source with that many bands",
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
                    "model-file={}: nothing says how it scales the frame's {} pixels; set scale (a divisor, such as \
                     scale=65535) or input-range (lo,hi: the values that become 0 and 1)",
                    input.file,
                    sample.name()
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
                format!(
                    "{}, but {} has {}; give one for all, or one per channel",
                    count(list.len(), "value"),
                    input.file,
                    count(c, "channel")
                ),
            )),
        };
        let multiple = |n: usize, fixed: Option<usize>| {
            fixed.unwrap_or(n.div_ceil(input.size_multiple.value) * input.size_multiple.value)
        };
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
        let plane = self.height.saturating_mul(self.width);
        plane.saturating_mul(self.bands.len() * self.element.size())
    }

    /// Converts a frame: scaled, channels in the model's order, padded at the right and the bottom. `spare` is what
    /// became of an earlier frame, to be written over: fresh memory takes longer to get than to fill.
    pub fn run(&self, frame: &FrameView<'_>, spare: Option<Planes>) -> Planes {
        let scaled = |channel: usize, y: usize, to: &mut [f32]| {
            self.scaling.row(channel, &frame.bands[self.bands[channel]], frame.format.sample, y, to);
        };
        let mut row = vec![0.0; frame.format.width];
        let mut planes = spare.unwrap_or_else(|| Planes::zeros(self.element, 0));
        match &mut planes {
            Planes::F32(planes) => self.fill(&frame.format, planes, scaled),
            Planes::F16(planes) => self.fill(&frame.format, planes, |channel, y, to| {
                scaled(channel, y, &mut row);
                to.convert_from_f32_slice(&row);
            }),
            // A model that takes bytes takes them as they are; a stated range fills the bytes' own range.
            Planes::U8(planes) => {
                let most = if matches!(self.scaling.unit, Unit::Range(..)) { 255.0 } else { 1.0 };
                self.fill(&frame.format, planes, |channel, y, to| {
                    scaled(channel, y, &mut row);
                    math::map(&row, to, move |v| (v * most).round() as u8);
                });
            }
        }
        planes
    }

    /// Fills planes with rows that `row` writes, by channel and row of the frame, and pads them.
    fn fill<T: Copy + Default>(
        &self,
        frame: &FrameFormat,
        planes: &mut Vec<T>,
        mut row: impl FnMut(usize, usize, &mut [T]),
    ) {
        planes.resize(self.bands.len() * self.height * self.width, T::default());
        let size = self.height * self.width;
        // All bands of a row while the frame's row is in the cache.
        for y in 0..frame.height {
            for (channel, plane) in planes.chunks_exact_mut(size).enumerate() {
                let to = &mut plane[y * self.width..(y + 1) * self.width];
                row(channel, y, &mut to[..frame.width]);
                for x in frame.width..self.width {
                    to[x] = to[reflect(x, frame.width)];
                }
            }
        }
        for plane in planes.chunks_exact_mut(size) {
            for y in frame.height..self.height {
                let from = reflect(y, frame.height) * self.width;
                plane.copy_within(from..from + self.width, y * self.width);
            }
        }
    }
}

/// A model's input values, channel by channel: `channels × height × width`.
#[derive(Debug)]
pub enum Planes {
    F32(Vec<f32>),
    F16(Vec<f16>),
    U8(Vec<u8>),
}

impl Planes {
    pub fn zeros(element: ElementType, count: usize) -> Self {
        match element {
            ElementType::F32 => Planes::F32(vec![0.0; count]),
            ElementType::F16 => Planes::F16(vec![f16::ZERO; count]),
            ElementType::U8 => Planes::U8(vec![0; count]),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reflection_is_numpys() {
        let line = |n: usize, len: usize| (0..len).map(|i| reflect(i, n)).collect::<Vec<_>>();
        // np.pad(range(3), (0, 6), "reflect"), and of a single element
        assert_eq!(line(3, 9), [0, 1, 2, 1, 0, 1, 2, 1, 0]);
        assert_eq!(line(1, 4), [0, 0, 0, 0]);
        assert_eq!(line(2, 5), [0, 1, 0, 1, 0]);
    }

    proptest! {
        #[test]
        fn conversion_is_the_formula_at_every_pixel(
            width in 1usize..80, height in 1usize..12, pad in 0usize..9, sample in 0usize..5, planar in any::<bool>(),
            range in any::<bool>(), grow in 0usize..40, seed in any::<u64>(),
        ) {
            let sample = [Sample::U8, Sample::U16Le, Sample::U16Be, Sample::I16Le, Sample::F32Le][sample];
            let n = sample.size();
            let bands = 3;
            let (step, stride, start): (usize, usize, Box<dyn Fn(usize) -> usize>) = if planar {
                let stride = width * n + pad;
                (n, stride, Box::new(move |b| b * stride * height))
            } else {
                (bands * n, width * bands * n + pad, Box::new(move |b| b * n))
            };
            let mut random = fastrand::Rng::with_seed(seed);
            let mut data = vec![0u8; stride * height * if planar { bands } else { 1 }];
            let mut expected = vec![0f32; bands * width * height];
            for b in 0..bands {
                for y in 0..height {
                    for x in 0..width {
                        let at = start(b) + y * stride + x * step;
                        let (v, bytes): (f32, Vec<u8>) = match sample {
                            Sample::U8 => { let v = random.u8(..); (v as f32, vec![v]) }
                            Sample::U16Le => { let v = random.u16(..); (v as f32, v.to_le_bytes().to_vec()) }
                            Sample::U16Be => { let v = random.u16(..); (v as f32, v.to_be_bytes().to_vec()) }
                            Sample::I16Le => { let v = random.i16(..); (v as f32, v.to_le_bytes().to_vec()) }
                            Sample::F32Le => { let v = random.f32() * 100.0 - 50.0; (v, v.to_le_bytes().to_vec()) }
                        };
                        data[at..at + n].copy_from_slice(&bytes);
                        expected[(b * height + y) * width + x] = v;
                    }
                }
            }
            let view = FrameView {
                format: FrameFormat { width, height, bands, sample },
                bands: (0..bands).map(|b| Band { data: &data[start(b)..], step, stride }).collect(),
            };
            view.check().unwrap();
            let scaling = Scaling {
                unit: if range { Unit::Range(-10.0, 90.0) } else { Unit::Divisor(7.0) },
                mean: vec![0.1, 0.2, 0.0],
                std: vec![0.5, 2.0, 1.0],
            };
            let plan = Conversion {
                element: ElementType::F32,
                scaling,
                bands: vec![2, 0, 1],
                height: height + grow % 7,
                width: width + grow,
            };
            let spare = seed % 2 == 0; // what is written over must leave no trace
            let spare = spare.then(|| Planes::F32(vec![f32::NAN; bands * plan.height * plan.width]));
            let Planes::F32(planes) = plan.run(&view, spare) else { panic!("float planes") };
            prop_assert_eq!(planes.len(), bands * plan.height * plan.width);
            for c in 0..bands {
                for y in 0..plan.height {
                    for x in 0..plan.width {
                        let v = expected[(plan.bands[c] * height + reflect(y, height)) * width + reflect(x, width)];
                        let unit = if range { ((v + 10.0) / 100.0).clamp(0.0, 1.0) } else { v / 7.0 };
                        let value = (unit - [0.1, 0.2, 0.0][c]) / [0.5, 2.0, 1.0][c];
                        prop_assert_eq!(planes[(c * plan.height + y) * plan.width + x], value);
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_and_halves_are_what_their_models_take() {
        let data = [0u8, 100, 200, 255];
        let view = FrameView {
            format: FrameFormat { width: 4, height: 1, bands: 1, sample: Sample::U8 },
            bands: vec![Band { data: &data, step: 1, stride: 4 }],
        };
        let plan = |element, unit| Conversion {
            element,
            scaling: Scaling { unit, mean: vec![0.0], std: vec![1.0] },
            bands: vec![0],
            height: 1,
            width: 4,
        };
        let Planes::U8(raw) = plan(ElementType::U8, Unit::Divisor(1.0)).run(&view, None) else { panic!("bytes") };
        assert_eq!(raw, data);
        let Planes::U8(stretched) = plan(ElementType::U8, Unit::Range(100.0, 200.0)).run(&view, None) else {
            panic!("bytes")
        };
        assert_eq!(stretched, [0, 0, 255, 255]);
        let Planes::F16(halves) = plan(ElementType::F16, Unit::Divisor(255.0)).run(&view, None) else {
            panic!("halves")
        };
        assert_eq!(halves[3], f16::ONE);
    }
}
