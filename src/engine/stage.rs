//! What happens on either side of a model's run: inputs are prepared, outputs are folded into the merge.
//!
//! This is the seam for other devices: here both are Rust kernels over host memory. On a GPU they are to become
//! small ONNX graphs joined to the models, so that only 8-bit pixels go up and masks come down.

use half::f16;
use ort::value::{DynValue, TensorElementType, TensorRef};

use super::error::{Error, Result};
use super::math;
use super::merge::{Merger, Rows, Scratch};
use super::pixels::Planes;
use super::settings::Layout;
use super::spec::{Form, ModelSpec, OutputShape};
use super::tta::{self, Transform};

/// Rows that are read back, activated and added at a time: few enough to stay in cache, enough for a transposing
/// read to use whole cache lines.
pub const BAND: usize = 16;

/// One input of a run: a frame's planes, seen through a transform.
pub struct Slot<'a> {
    pub planes: &'a Planes,
    pub transform: Transform,
}

/// Buffers of one worker.
#[derive(Default)]
pub struct Stage {
    /// Probabilities have to lie between 0 and 1.
    bounded: bool,
    f32: Vec<f32>,
    f16: Vec<f16>,
    u8: Vec<u8>,
    rows: Vec<f32>,
    small: Vec<f32>,
    scratch: Scratch,
}

impl Stage {
    /// Where `bounded`, a pass fails whose probabilities lie beyond 0 and 1.
    pub fn new(bounded: bool) -> Self {
        Stage { bounded, ..Stage::default() }
    }

    /// Writes the slots into one tensor of `batch` inputs and lends it out. All slots have planes of
    /// `size` = height × width and the same transformed size; inputs beyond the slots repeat the last.
    ///
    /// # Errors
    /// A tensor that the runtime refuses.
    pub fn prepare<'a>(
        &'a mut self,
        spec: &ModelSpec,
        slots: &[Slot<'a>],
        batch: usize,
        size: (usize, usize),
    ) -> ort::Result<ort::session::SessionInputValue<'a>> {
        let (height, width) = slots[0].transform.size(size);
        let shape = spec.input.shape(batch, height, width);
        let layout = spec.input.layout.value;
        let one = batch == 1 && slots[0].transform == Transform::Identity && layout == Layout::Nchw;
        macro_rules! tensor {
            ($kind:ident, $buffer:expr) => {{
                let planes = |slot: &Slot<'a>| match slot.planes {
                    Planes::$kind(v) => v.as_slice(),
                    _ => unreachable!("planes are converted for the element type of this input"),
                };
                if one {
                    // The planes are the tensor already.
                    TensorRef::from_array_view((shape, planes(&slots[0])))?.into()
                } else {
                    fill($buffer, slots, batch, spec.input.channels, size, layout, planes);
                    TensorRef::from_array_view((shape, $buffer.as_slice()))?.into()
                }
            }};
        }
        Ok(match slots[0].planes {
            Planes::F32(_) => tensor!(F32, &mut self.f32),
            Planes::F16(_) => tensor!(F16, &mut self.f16),
            Planes::U8(_) => tensor!(U8, &mut self.u8),
        })
    }

    /// Adds output `slot` of a run's tensor to a merge, the transform undone and the padding left out.
    ///
    /// `size` is the padded frame's height × width.
    ///
    /// # Errors
    /// NaN, infinities, and labels that are no class; the model is named.
    #[allow(clippy::too_many_arguments)] // one fold has these facts; a struct would only rename them
    pub fn fold(
        &mut self,
        spec: &ModelSpec,
        shape: OutputShape,
        output: &DynValue,
        slot: usize,
        transform: Transform,
        size: (usize, usize),
        frame: (usize, usize),
        weight: f32,
        merger: &mut Merger,
    ) -> Result<()> {
        let wrong = |e: ort::Error| Error::model(&spec.path, format!("its output cannot be read: {e}"));
        let view = View { shape, slot, transform, size, frame };
        let element = match output.dtype() {
            ort::value::ValueType::Tensor { ty, .. } => *ty,
            other => return Err(Error::model(&spec.path, format!("its output is no tensor but {other}"))),
        };
        macro_rules! fold {
            ($t:ty, $convert:expr) => {{
                let (_, data) = output.try_extract_tensor::<$t>().map_err(wrong)?;
                self.fold_values(spec, &view, data, $convert, weight, merger)
            }};
        }
        match element {
            TensorElementType::Float32 => fold!(f32, |v| v),
            TensorElementType::Float16 => fold!(f16, f16::to_f32),
            TensorElementType::Uint8 => fold!(u8, f32::from),
            TensorElementType::Int64 => fold!(i64, |v| v as f32),
            TensorElementType::Int32 => fold!(i32, |v| v as f32),
            other => Err(Error::model(&spec.path, format!("its output is of type {other}"))),
        }
    }

    fn fold_values<T: Copy>(
        &mut self,
        spec: &ModelSpec,
        view: &View,
        data: &[T],
        convert: impl Fn(T) -> f32 + Copy,
        weight: f32,
        merger: &mut Merger,
    ) -> Result<()> {
        let (height, width) = view.frame;
        let channels = view.shape.channels;
        let enlarge = view.shape.reduction > 1;
        if enlarge {
            let (h, w) = view.small();
            view.read(data, (0, h), w, &mut self.small, convert);
            check(spec, channels, &self.small)?;
        }
        for y in (0..height).step_by(BAND) {
            let rows = BAND.min(height - y);
            if enlarge && spec.output.form == Form::Label {
                nearest(&self.small, view, channels, y, rows, &mut self.rows);
            } else if enlarge {
                bilinear(&self.small, view, channels, y, rows, &mut self.rows);
            } else {
                view.read(data, (y, rows), width, &mut self.rows, convert);
                check(spec, channels, &self.rows)?;
            }
            if self.bounded {
                check_bounds(spec, &self.rows)?;
            }
            if spec.output.form == Form::Label {
                merger.fold_labels(y, &self.rows, weight).map_err(|label| {
                    Error::model(
                        &spec.path,
                        format!("its output holds the label {label}, which is no class of this ensemble; name them all in labels-file"),
                    )
                })?;
            } else {
                let rows = Rows { y, scores: &mut self.rows, channels };
                let output = (spec.output.as_run(), spec.output.link, spec.output.temperature.value);
                merger.fold(rows, output, weight, &mut self.scratch);
            }
        }
        merger.end_pass(weight);
        Ok(())
    }
}

/// Whether a mask can be made of values, `channels × n`.
fn check(spec: &ModelSpec, channels: usize, values: &[f32]) -> Result<()> {
    if math::all_finite(values) || spec.output.bare && leaves_a_class(channels, values) {
        return Ok(());
    }
    let what = if values.iter().any(|v| v.is_nan()) { "NaN (not a number)" } else { "infinite values" };
    Err(Error::model(
        &spec.path,
        format!(
            "output `{}` holds {what}; no mask can be made of it. Check the model on this image, its scaling \
             (scale, mean, std, input-range) and, in half precision, its range",
            spec.output.name
        ),
    ))
}

/// Whether a softmax has a result: −∞ is a class that cannot be, and every pixel has another.
fn leaves_a_class(channels: usize, values: &[f32]) -> bool {
    let n = values.len() / channels.max(1);
    let is_class = |v: &f32| v.is_finite() || *v == f32::NEG_INFINITY;
    values.iter().all(is_class) && (0..n).all(|k| values[k..].iter().step_by(n).any(|v| v.is_finite()))
}

/// Whether an output that is taken for probabilities may be one, but for rounding.
fn check_bounds(spec: &ModelSpec, values: &[f32]) -> Result<()> {
    let (least, most) = match spec.output.as_run() {
        Form::Probability => (0.0, 1.0),
        Form::LogProbability => (f32::MIN, 0.0),
        Form::Logit | Form::Label => return Ok(()),
    };
    match values.iter().find(|v| !(least - 1e-6..=most + 1e-6).contains(*v)) {
        None => Ok(()),
        Some(v) => Err(Error::model(
            &spec.path,
            format!(
                "output `{}` holds {v} where cascade=exact relies on {}; set activation if these are logits, or \
                 cascade=none",
                spec.output.name,
                if most > 0.0 { "probabilities from 0 to 1" } else { "logarithms of probabilities, at most 0" },
            ),
        )),
    }
}

/// How one slot of an output tensor lies relative to the frame.
struct View {
    shape: OutputShape,
    slot: usize,
    transform: Transform,
    /// Padded frame, height × width.
    size: (usize, usize),
    /// Frame, height × width.
    frame: (usize, usize),
}

impl View {
    /// Height and width of the output in the frame's orientation.
    fn small(&self) -> (usize, usize) {
        (self.size.0 / self.shape.reduction, self.size.1 / self.shape.reduction)
    }

    /// Reads `rows` rows from `y` on, `width` wide, of every channel, the transform undone.
    fn read<T: Copy>(
        &self,
        data: &[T],
        (y, rows): (usize, usize),
        width: usize,
        out: &mut Vec<f32>,
        convert: impl Fn(T) -> f32 + Copy,
    ) {
        let channels = self.shape.channels;
        let (h, w) = self.transform.size(self.small());
        let (step, plane) = match self.shape.layout {
            Layout::Nchw => (1, h * w),
            Layout::Nhwc => (channels, 1),
        };
        let image = &data[self.slot * channels * h * w..(self.slot + 1) * channels * h * w];
        let mut walk = self.transform.inverse().walk(h, w, (w * step) as isize, step as isize);
        walk.origin += y as isize * walk.row;
        out.resize(channels * rows * width, 0.0);
        for (c, out) in out.chunks_exact_mut(rows * width).enumerate() {
            tta::gather(&image[c * plane..], walk, out, (width, 1), (rows, width), convert);
        }
    }
}

fn fill<'a, T: Copy + Default + 'a>(
    buffer: &mut Vec<T>,
    slots: &[Slot<'a>],
    batch: usize,
    channels: usize,
    (height, width): (usize, usize),
    layout: Layout,
    planes: impl Fn(&Slot<'a>) -> &'a [T],
) {
    let plane = height * width;
    buffer.resize(batch * channels * plane, T::default());
    for (n, image) in buffer.chunks_exact_mut(channels * plane).enumerate() {
        let slot = &slots[n.min(slots.len() - 1)];
        let walk = slot.transform.walk(height, width, width as isize, 1);
        let (rows, cols) = slot.transform.size((height, width));
        for (c, from) in planes(slot).chunks_exact(plane).enumerate() {
            match layout {
                Layout::Nchw => {
                    let to = &mut image[c * plane..(c + 1) * plane];
                    tta::gather(from, walk, to, (cols, 1), (rows, cols), |v| v);
                }
                Layout::Nhwc => {
                    tta::gather(from, walk, &mut image[c..], (cols * channels, channels), (rows, cols), |v| v)
                }
            }
        }
    }
}

/// Rows `y…y+rows` of the frame from an output that is smaller by a whole factor: bilinear, pixel centres at
/// halves (`align_corners=False`), edges repeated.
fn bilinear(small: &[f32], view: &View, channels: usize, y: usize, rows: usize, out: &mut Vec<f32>) {
    let (h, w) = view.small();
    let width = view.frame.1;
    let k = view.shape.reduction as f32;
    let source = |i: usize, n: usize| {
        let at = ((i as f32 + 0.5) / k - 0.5).max(0.0);
        let low = (at as usize).min(n - 1);
        (low, (low + 1).min(n - 1), at - low as f32)
    };
    let columns: Vec<_> = (0..width).map(|x| source(x, w)).collect();
    out.resize(channels * rows * width, 0.0);
    for (plane, out) in small.chunks_exact(h * w).zip(out.chunks_exact_mut(rows * width)) {
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            let (y0, y1, fy) = source(y + r, h);
            let (top, bottom) = (&plane[y0 * w..(y0 + 1) * w], &plane[y1 * w..(y1 + 1) * w]);
            for (out, (x0, x1, fx)) in out.iter_mut().zip(&columns) {
                let a = top[*x0] + (top[*x1] - top[*x0]) * fx;
                let b = bottom[*x0] + (bottom[*x1] - bottom[*x0]) * fx;
                *out = a + (b - a) * fy;
            }
        }
    }
}

/// The same for labels, which have no values in between.
fn nearest(small: &[f32], view: &View, channels: usize, y: usize, rows: usize, out: &mut Vec<f32>) {
    let (h, w) = view.small();
    let (width, k) = (view.frame.1, view.shape.reduction);
    out.resize(channels * rows * width, 0.0);
    for (plane, out) in small.chunks_exact(h * w).zip(out.chunks_exact_mut(rows * width)) {
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            out.iter_mut().enumerate().for_each(|(x, out)| *out = plane[(y + r) / k * w + x / k]);
        }
    }
}
