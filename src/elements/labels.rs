//! Blended scores to the values of a mask, and masks to their labels, for the elements that put tiles together again.

use crate::engine::decide::{Decision, NODATA_16, Work};
use crate::engine::merge::{Domain, Merged};
use crate::engine::pixels::{FrameView, Sample};
use crate::engine::settings::Named;
use crate::engine::spec::Link;
use crate::engine::{Error, Result};
use crate::raster::Rect;
use crate::raster::blend::Planes;

use super::meta::SegmentationInfo;

/// Scores decided at a time: what stays in a CPU's cache.
const BAND: usize = 1 << 16;

/// Decides as the models said that it is to be done.
pub struct Labels {
    decision: Decision,
    domain: Domain,
    link: Link,
    channels: usize,
    scores: Vec<f32>,
    labels: Vec<u16>,
    work: Work,
}

impl Labels {
    /// For scores of `channels` bands.
    ///
    /// # Errors
    /// Facts that contradict each other or the number of bands.
    pub fn new(info: &SegmentationInfo, channels: usize) -> Result<Self> {
        if info.channels != 0 && info.channels != channels {
            return Err(Error::Frame(format!(
                "the stream's GstSegmentationInfo tells of {} bands of scores, and the caps say {channels}; take out \
                 what changes the bands between onnxsegment and here",
                info.channels
            )));
        }
        let classes = channels.max(2);
        Ok(Labels {
            decision: Decision::new(
                info.threshold.clone(),
                info.label_offset,
                info.mask_values.clone(),
                Some(classes),
            )?,
            domain: Domain::parse("merge-domain", &info.domain)?,
            link: Link::parse("activation", &info.link)?,
            channels,
            scores: Vec::new(),
            labels: Vec::new(),
            work: Work::default(),
        })
    }

    /// Whether 8 bits hold every value.
    pub fn fits_8_bit(&self) -> bool {
        self.decision.fits_8_bit(self.channels.max(2))
    }

    /// Calls `row` with the number and the values of each row of a piece: 65535, which cut to 8 bits is 255, where there
    /// is no data.
    pub fn rows(
        &mut self,
        scores: Option<Planes<'_>>,
        (width, height): (usize, usize),
        mut row: impl FnMut(usize, &[u16]),
    ) {
        let Some(planes) = scores else {
            self.labels.clear();
            self.labels.resize(width, NODATA_16);
            (0..height).for_each(|y| row(y, &self.labels));
            return;
        };
        self.bands(planes, (width, height), |decision, merged, work, labels, first, rows| {
            decision.classes(merged, 0, rows, labels, work);
            match &decision.values {
                Some(_) => labels.iter_mut().for_each(|label| *label = decision.value(*label)),
                None => labels.iter_mut().for_each(|label| *label += decision.offset),
            }
            for (label, score) in labels.iter_mut().zip(&merged.scores) {
                *label = if score.is_nan() { NODATA_16 } else { *label };
            }
            labels.chunks_exact(width).enumerate().for_each(|(y, values)| row(first + y, values));
        });
    }

    /// Calls `row` with the channel, the number and the probabilities of each row of a piece; NaN where there is no data.
    pub fn probabilities(
        &mut self,
        planes: Planes<'_>,
        (width, height): (usize, usize),
        mut row: impl FnMut(usize, usize, &[f32]),
    ) {
        self.bands(planes, (width, height), |_, merged, work, _, first, rows| {
            merged.probability_rows(0, rows, &mut work.scores, &mut work.scratch);
            for (channel, plane) in work.scores.chunks_exact_mut(rows * width).enumerate() {
                for (p, score) in plane.iter_mut().zip(&merged.scores) {
                    *p = if score.is_nan() { f32::NAN } else { *p };
                }
                plane.chunks_exact(width).enumerate().for_each(|(y, values)| row(channel, first + y, values));
            }
        });
    }

    /// Calls `f` with a few rows at a time, as merged scores, and with the number of the first and of all of them.
    fn bands(
        &mut self,
        planes: Planes<'_>,
        (width, height): (usize, usize),
        mut f: impl FnMut(&Decision, &Merged, &mut Work, &mut Vec<u16>, usize, usize),
    ) {
        let most = (BAND / (self.channels * width)).max(1);
        for first in (0..height).step_by(most) {
            let rows = most.min(height - first);
            let mut scores = std::mem::take(&mut self.scores);
            scores.clear();
            for channel in 0..self.channels {
                (first..first + rows).for_each(|y| scores.extend_from_slice(planes.row(channel, y, width)));
            }
            let merged = Merged::from_scores(self.domain, self.link, self.channels, rows, width, scores);
            f(&self.decision, &merged, &mut self.work, &mut self.labels, first, rows);
            self.scores = merged.scores;
        }
    }
}

/// The labels of a part of a mask, row by row without padding. With `nodata`, 255 of 8 bits becomes 65535. `None` where the
/// mask is smaller than it says.
pub fn of_part(mask: &FrameView<'_>, part: &Rect, nodata: bool) -> Option<Vec<u16>> {
    let band = mask.bands.first()?;
    let mut labels = Vec::with_capacity(part.area());
    for y in part.y as usize..part.bottom() as usize {
        let at = y * band.stride + part.x as usize * band.step;
        let row = band.data.get(at..at + part.width as usize * band.step)?;
        match mask.format.sample {
            Sample::U8 if nodata => {
                labels.extend(row.iter().map(|v| if *v == 255 { NODATA_16 } else { u16::from(*v) }))
            }
            Sample::U8 => labels.extend(row.iter().map(|v| u16::from(*v))),
            _ => labels.extend(row.as_chunks::<2>().0.iter().map(|v| u16::from_le_bytes(*v))),
        }
    }
    Some(labels)
}

/// The `F32LE` scores of a buffer where they lie; a copy where this machine cannot read them there.
pub fn floats<'a>(data: &'a [u8], copy: &'a mut Vec<f32>) -> &'a [f32] {
    // SAFETY: any four bytes are a float.
    let (_, in_place, _) = unsafe { data.align_to::<f32>() };
    if cfg!(target_endian = "little") && in_place.len() == data.len() / 4 {
        return in_place;
    }
    copy.clear();
    copy.extend(data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::decide::Threshold;

    fn info(channels: usize, domain: &str, link: &str) -> SegmentationInfo {
        SegmentationInfo { channels, domain: domain.into(), link: link.into(), ..SegmentationInfo::default() }
    }

    fn all(labels: &mut Labels, scores: &[f32], width: usize, height: usize) -> Vec<u16> {
        let planes = Planes { data: scores, row: width, plane: width * height };
        let mut found = vec![7; width * height];
        labels.rows(Some(planes), (width, height), |y, row| found[y * width..(y + 1) * width].copy_from_slice(row));
        found
    }

    #[test]
    fn one_channel_by_threshold_in_either_domain() {
        let p = [0.2, 0.5, f32::NAN, 0.9];
        let mut labels = Labels::new(&info(1, "probability", "sigmoid"), 1).unwrap();
        assert_eq!(all(&mut labels, &p, 4, 1), [0, 1, 65535, 1]);
        let logit = [-0.1, 0.0, f32::NAN, 1.3];
        let info = SegmentationInfo { threshold: Threshold::All(0.75), label_offset: 3, ..info(1, "logit", "sigmoid") };
        // sigmoid(1.3) = 0.786
        assert_eq!(all(&mut Labels::new(&info, 1).unwrap(), &logit, 4, 1), [3, 3, 65535, 4]);
    }

    #[test]
    fn classes_threshold_and_values() {
        let p = [0.6, 0.4, f32::NAN, 0.3, 0.4, f32::NAN, 0.1, 0.2, f32::NAN];
        let plain = info(0, "probability", "softmax");
        assert_eq!(all(&mut Labels::new(&plain, 3).unwrap(), &p, 1, 3), [0, 0, 65535]);
        let info = SegmentationInfo { threshold: Threshold::All(0.5), mask_values: Some(vec![10, 255, 300]), ..plain };
        let mut labels = Labels::new(&info, 3).unwrap();
        assert_eq!(all(&mut labels, &p, 3, 1), [10, 10, 65535]);
        assert!(!labels.fits_8_bit());
        let mut rows = 0;
        labels.rows(None, (2, 3), |_, row| rows += usize::from(row == [65535, 65535]));
        assert_eq!(rows, 3);
    }

    #[test]
    fn pieces_of_many_rows_and_probabilities_without_data() {
        let (width, height) = (700, 90);
        let scores: Vec<f32> = (0..2 * width * height).map(|k| (k % 97) as f32 / 50.0 - 1.0).collect();
        let mut labels = Labels::new(&info(2, "logit", "softmax"), 2).unwrap();
        let found = all(&mut labels, &scores, width, height);
        let (a, b) = scores.split_at(width * height);
        assert!(a.iter().zip(b).zip(&found).all(|((a, b), label)| *label == u16::from(b > a)));
        let planes = Planes { data: &[0.0, f32::NAN, 1.0, f32::NAN], row: 2, plane: 2 };
        let mut found = Vec::new();
        labels.probabilities(planes, (2, 1), |_, _, row| found.extend_from_slice(row));
        assert!((found[0] - 0.268_941_4).abs() < 1e-6 && (found[2] - 0.731_058_6).abs() < 1e-6, "{found:?}");
        assert!(found[1].is_nan() && found[3].is_nan());
    }

    #[test]
    fn scores_are_read_wherever_they_lie() {
        let values = [1.5f32, -0.25, f32::MIN_POSITIVE];
        let bytes: Vec<u8> = [0; 3].into_iter().chain(values.iter().flat_map(|v| v.to_le_bytes())).collect();
        for start in 0..4 {
            // Of these four places one is aligned.
            let mut room = vec![9; start];
            room.extend_from_slice(&bytes[3..]);
            let mut copy = vec![7.0];
            assert_eq!(floats(&room[start..], &mut copy), values);
        }
    }

    #[test]
    fn labels_of_a_part() {
        use crate::engine::pixels::{Band, FrameFormat};
        let data = [1, 2, 255, 9, 3, 4, 5, 9];
        let view = |sample, width, step| FrameView {
            format: FrameFormat { width, height: 2, bands: 1, sample },
            bands: vec![Band { data: &data, step, stride: 4 }],
        };
        let bytes = view(Sample::U8, 3, 1);
        assert_eq!(of_part(&bytes, &Rect::new(1, 0, 2, 2), true).unwrap(), [2, 65535, 4, 5]);
        assert_eq!(of_part(&bytes, &Rect::new(2, 0, 1, 2), false).unwrap(), [255, 5]);
        assert_eq!(of_part(&view(Sample::U16Le, 2, 2), &Rect::new(1, 0, 1, 2), true).unwrap(), [0x9ff, 0x905]);
        assert_eq!(of_part(&bytes, &Rect::new(0, 0, 3, 3), true), None);
    }

    #[test]
    fn facts_that_do_not_fit() {
        let error = |info: &SegmentationInfo, channels| Labels::new(info, channels).err().unwrap().to_string();
        let text = error(&info(3, "probability", "softmax"), 2);
        assert!(text.contains("3 bands") && text.contains("caps say 2"), "{text}");
        let text = error(&info(2, "odds", "softmax"), 2);
        assert!(text.contains("odds") && text.contains("probability"), "{text}");
    }
}
