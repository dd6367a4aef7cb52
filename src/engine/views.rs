//! Draws what a pipeline shows of merged scores: the mask, one class's probability, the uncertainty, an overlay.
//!
//! Probability and uncertainty are written as 0…254 (16 bit: 0…65534) for 0…1; the highest value is left for
//! pixels without data.

use super::decide::{Decision, Work};
use super::error::{Error, Result};
use super::merge::Merged;
use super::pixels::{FrameView, Sample};
use super::stage::BAND;

/// Samples of a one-band picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    U8,
    U16Le,
}

/// A one-band picture to write into.
pub struct Canvas<'a> {
    pub data: &'a mut [u8],
    /// Bytes from a row to the next.
    pub stride: usize,
    pub depth: Depth,
}

impl Canvas<'_> {
    fn write(&mut self, y: usize, values: impl Iterator<Item = u16>) {
        let row = &mut self.data[y * self.stride..];
        match self.depth {
            Depth::U8 => row.iter_mut().zip(values).for_each(|(to, v)| *to = v as u8),
            Depth::U16Le => {
                let (words, _) = row.as_chunks_mut::<2>();
                words.iter_mut().zip(values).for_each(|(to, v)| *to = v.to_le_bytes());
            }
        }
    }

    /// Writes rows of numbers from 0 to 1.
    fn write_unit(&mut self, y: usize, width: usize, values: &[f32]) {
        let most = match self.depth {
            Depth::U8 => 254.0,
            Depth::U16Le => 65534.0,
        };
        for (r, row) in values.chunks_exact(width).enumerate() {
            self.write(y + r, row.iter().map(|v| (v * most + 0.5) as u16));
        }
    }
}

/// The rows of a frame, a few at a time: the first and how many.
pub(super) fn bands(merged: &Merged) -> impl Iterator<Item = (usize, usize)> + use<> {
    let height = merged.height;
    (0..height).step_by(BAND).map(move |y| (y, BAND.min(height - y)))
}

/// The mask: each pixel its class's value.
pub fn mask(merged: &Merged, decision: &Decision, canvas: &mut Canvas<'_>, work: &mut Work) {
    decided(merged, decision, canvas, work, |class| decision.value(class));
}

/// Each pixel its class's index, whatever masks write for it.
pub fn classes(merged: &Merged, decision: &Decision, canvas: &mut Canvas<'_>, work: &mut Work) {
    decided(merged, decision, canvas, work, |class| class);
}

fn decided(merged: &Merged, decision: &Decision, canvas: &mut Canvas<'_>, work: &mut Work, value: impl Fn(u16) -> u16) {
    let mut labels = std::mem::take(&mut work.labels);
    for (y, rows) in bands(merged) {
        decision.classes(merged, y, rows, &mut labels, work);
        for (r, row) in labels.chunks_exact(merged.width).enumerate() {
            canvas.write(y + r, row.iter().map(|class| value(*class)));
        }
    }
    work.labels = labels;
}

/// The probability of one class.
///
/// # Errors
/// A class that there is not.
pub fn probability(merged: &Merged, class: usize, canvas: &mut Canvas<'_>, work: &mut Work) -> Result<()> {
    if class >= merged.classes() {
        return Err(Error::setting(
            "class-index",
            class,
            format!("there are {} classes; use 0 to {}", merged.classes(), merged.classes() - 1),
        ));
    }
    for (y, rows) in bands(merged) {
        merged.probability_rows(y, rows, &mut work.scores, &mut work.scratch);
        let n = rows * merged.width;
        if merged.channels == 1 && class == 0 {
            super::math::complement(&mut work.scores);
            canvas.write_unit(y, merged.width, &work.scores);
        } else {
            let channel = if merged.channels == 1 { 0 } else { class };
            canvas.write_unit(y, merged.width, &work.scores[channel * n..(channel + 1) * n]);
        }
    }
    Ok(())
}

/// The uncertainty that the frame was submitted with.
///
/// # Errors
/// A frame that was submitted without.
pub fn uncertainty(merged: &Merged, canvas: &mut Canvas<'_>, work: &mut Work) -> Result<()> {
    for (y, rows) in bands(merged) {
        merged
            .uncertainty_rows(y, rows, &mut work.scores)
            .ok_or_else(|| Error::Frame("this frame was inferred without uncertainty".into()))?;
        canvas.write_unit(y, merged.width, &work.scores);
    }
    Ok(())
}

/// One colour per class; `None` leaves the image as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Palette(Vec<Option<[u8; 3]>>);

/// Distinct colours for classes from 1 on (Kelly's list of maximum contrast, the greys left out).
const COLOURS: [[u8; 3]; 16] = [
    [255, 64, 64],
    [0, 120, 255],
    [255, 179, 0],
    [0, 200, 83],
    [166, 67, 214],
    [0, 188, 212],
    [255, 112, 174],
    [139, 90, 43],
    [190, 255, 0],
    [128, 0, 32],
    [0, 83, 138],
    [255, 142, 0],
    [0, 125, 52],
    [246, 118, 142],
    [83, 55, 122],
    [206, 162, 98],
];

impl Default for Palette {
    fn default() -> Self {
        Palette(std::iter::once(None).chain(COLOURS.map(Some)).collect())
    }
}

/// A colour of six hexadecimal digits.
pub(super) fn hex(text: &str) -> Option<[u8; 3]> {
    let digits = text.len() == 6 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let byte = |k: usize| u8::from_str_radix(&text[k..k + 2], 16).ok();
    digits.then(|| Some([byte(0)?, byte(2)?, byte(4)?])).flatten()
}

impl Palette {
    /// The colours that a model card has for its classes, and the default ones where it has none.
    pub fn of_card(colours: &[Option<[u8; 3]>]) -> Self {
        let usual = Self::default();
        let all = (0..).zip(colours).map(|(class, colour)| colour.or(usual.colour(class)));
        Palette(all.collect())
    }

    /// Reads a `palette` setting: colours `#rrggbb` from class 0 on, joined by commas, `none` for a class that is
    /// not painted. An empty text is the default: class 0 is not painted, the others in distinct colours.
    ///
    /// # Errors
    /// A colour that cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        let items: Vec<_> = super::settings::items(text).collect();
        if items.is_empty() {
            return Ok(Self::default());
        }
        let colour = |item: &str| {
            if item == "none" {
                return Some(None);
            }
            item.strip_prefix('#').and_then(hex).map(Some)
        };
        let colours: Option<Vec<_>> = items.iter().map(|item| colour(item)).collect();
        match colours {
            Some(colours) => Ok(Palette(colours)),
            None => Err(Error::setting(
                "palette",
                text,
                "use colours such as #ff4040 from class 0 on, joined by commas, and none for a class that is not painted",
            )),
        }
    }

    /// The colour of a class. Classes beyond the list start over after its first colour, the background's.
    pub fn colour(&self, class: u16) -> Option<[u8; 3]> {
        let k = class as usize;
        match self.0.get(k) {
            Some(colour) => *colour,
            None if self.0.len() > 1 => self.0[1 + (k - 1) % (self.0.len() - 1)],
            None => self.0[0],
        }
    }
}

/// A colour picture to write into: red, green, blue, and opaque alpha where a pixel has 4 bytes.
pub struct ColourCanvas<'a> {
    pub data: &'a mut [u8],
    pub stride: usize,
    /// Bytes per pixel, 3 or 4.
    pub step: usize,
}

/// How an overlay looks.
pub struct Style<'a> {
    pub palette: &'a Palette,
    /// Opacity of classes, 0…1.
    pub alpha: f32,
    /// The values of pixels deeper than 8 bits that are shown as black and white.
    pub range: (f32, f32),
}

/// The frame with its classes painted over.
pub fn overlay(
    merged: &Merged,
    decision: &Decision,
    frame: &FrameView<'_>,
    style: &Style<'_>,
    canvas: &mut ColourCanvas<'_>,
    work: &mut Work,
) {
    let weight = (style.alpha.clamp(0.0, 1.0) * 256.0) as u32;
    // For each class, how much of a pixel stays, of 256, and what its colour adds.
    let paint = |class| match style.palette.colour(class) {
        Some(colour) => (256 - weight, colour.map(|v| v as u32 * weight)),
        None => (256, [0; 3]),
    };
    let paints: Vec<(u32, [u32; 3])> = (0..merged.classes() as u16).map(paint).collect();
    let (lo, hi) = style.range;
    let is_byte = frame.format.sample == Sample::U8;
    let byte = move |v: f32| if is_byte { v as u8 } else { ((v - lo) / (hi - lo) * 255.0).clamp(0.0, 255.0) as u8 };
    let mut lines = [(); 3].map(|()| vec![0; merged.width]);
    let mut labels = std::mem::take(&mut work.labels);
    for (y, rows) in bands(merged) {
        decision.classes(merged, y, rows, &mut labels, work);
        for (y, row) in (y..).zip(labels.chunks_exact(merged.width)) {
            for (k, line) in lines.iter_mut().enumerate() {
                let band = if frame.bands.len() < 3 { 0 } else { k };
                frame.bands[band].row(frame.format.sample, y, byte, line);
            }
            let to = canvas.data[y * canvas.stride..].chunks_exact_mut(canvas.step);
            for (x, (class, to)) in row.iter().zip(to).enumerate() {
                let (stays, added) = paints[*class as usize];
                for (k, line) in lines.iter().enumerate() {
                    to[k] = ((line[x] as u32 * stays + added[k]) >> 8) as u8;
                }
                to[3..].fill(255);
            }
        }
    }
    work.labels = labels;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::decide::Threshold;
    use crate::engine::merge::{Domain, Merge, Merger, Rows, Rule, Scratch};
    use crate::engine::pixels::{Band, FrameFormat};
    use crate::engine::spec::{Form, Link};

    #[test]
    fn an_overlay_mixes_the_frame_with_the_classes_colours() {
        let (width, height) = (37, 19);
        let n = width * height;
        let rule = Rule { merge: Merge::Mean, domain: Domain::Probability, link: Link::Sigmoid };
        let mut merger = Merger::new(rule, Some(1), (height, width), None);
        let mut scores: Vec<f32> = (0..n).map(|k| (k * 7 % 5) as f32 / 4.0).collect();
        let rows = Rows { y: 0, scores: &mut scores, channels: 1 };
        merger.fold(rows, (Form::Probability, Link::Sigmoid, 1.0), 1.0, &mut Scratch::default());
        merger.end_pass(1.0);
        let merged = merger.finish();
        let decision = Decision::new(Threshold::None, 0, None, Some(2)).unwrap();
        let palette = Palette::parse("none,#ff8001").unwrap();
        let style = Style { palette: &palette, alpha: 0.45, range: (1000.0, 50000.0) };
        for (sample, bands, step) in
            [(Sample::U8, 3, 3), (Sample::U8, 1, 4), (Sample::U16Le, 3, 4), (Sample::U16Be, 2, 3)]
        {
            let size = sample.size();
            let data: Vec<u8> = (0..n * bands * size).map(|k| ((k * 2_654_435_761) >> 9) as u8).collect();
            let band = |b: usize| Band { data: &data[b * size..], step: bands * size, stride: width * bands * size };
            let frame = FrameView {
                format: FrameFormat { width, height, bands, sample },
                bands: (0..bands).map(band).collect(),
            };
            let mut drawn = vec![9; n * step];
            let mut canvas = ColourCanvas { data: &mut drawn, stride: width * step, step };
            overlay(&merged, &decision, &frame, &style, &mut canvas, &mut Work::default());
            for (i, pixel) in drawn.chunks_exact(step).enumerate() {
                for k in 0..3 {
                    let at = &data[(i * bands + if bands < 3 { 0 } else { k }) * size..];
                    let shown = |v: u16| ((v as f32 - 1000.0) / 49000.0 * 255.0).clamp(0.0, 255.0) as u32;
                    let v = match sample {
                        Sample::U16Le => shown(u16::from_le_bytes([at[0], at[1]])),
                        Sample::U16Be => shown(u16::from_be_bytes([at[0], at[1]])),
                        _ => at[0] as u32,
                    };
                    let painted = (v * (256 - 115) + [255, 128, 1][k] * 115) >> 8;
                    let class = (i * 7 % 5) as f32 / 4.0 >= 0.5;
                    assert_eq!(pixel[k] as u32, if class { painted } else { v }, "{sample:?}, pixel {i}, colour {k}");
                }
                assert!(pixel[3..].iter().all(|alpha| *alpha == 255));
            }
        }
    }
}
