//! Counts everything that is scored, image by image or tile by tile, and ends in a [`Report`].

use super::super::error::{Error, Result, count};
use super::blocks::Blocks;
use super::bootstrap::{BLOCK, RESAMPLES};
use super::boundary;
use super::calibration::Calibration;
use super::confusion::{ClassCounts, Confusion, Counts, MAX_CLASSES};
use super::map::LabelMap;
use super::objects::{self, Objects};
use super::report::Report;

/// How to evaluate.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How many classes there are. `None`: up to the largest label that is found.
    pub classes: Option<usize>,
    /// Side of the bootstrap's blocks in pixels.
    pub block: usize,
    /// Draws of the bootstrap; 0 leaves intervals out.
    pub resamples: usize,
    pub seed: u64,
    /// Distance of boundary IoU in pixels. `None`: 2 % of each image's diagonal.
    pub boundary: Option<usize>,
    pub objects: Objects,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            classes: None,
            block: BLOCK,
            resamples: RESAMPLES,
            seed: 0,
            boundary: None,
            objects: Objects::default(),
        }
    }
}

/// Sums of a class's scores over the images that have it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct OverFrames {
    pub frames: u64,
    pub iou: f64,
    pub dice: f64,
}

/// What was counted so far.
#[derive(Debug, Clone)]
pub struct Evaluation {
    pub(super) settings: Settings,
    pub(super) confusion: Confusion,
    pub(super) blocks: Blocks,
    pub(super) calibration: Option<Calibration>,
    /// Whole images, and mosaics of tiles.
    pub(super) frames: u64,
    /// Size of the image at hand.
    size: (usize, usize),
    pub(super) tiles: u64,
    /// Smallest and largest distance of boundary IoU.
    pub(super) distances: Option<(usize, usize)>,
    pub(super) over_frames: Vec<OverFrames>,
}

impl Evaluation {
    /// # Errors
    /// Settings out of range.
    pub fn new(settings: Settings) -> Result<Self> {
        if let Some(classes) = settings.classes.filter(|c| !(1..=MAX_CLASSES).contains(c)) {
            return Err(Error::setting("classes", classes, format!("1 to {MAX_CLASSES} classes are counted")));
        }
        if settings.block == 0 {
            return Err(Error::setting("block-size", 0, "a block has at least 1 pixel"));
        }
        let confusion = Confusion::new(settings.classes.unwrap_or(0));
        Ok(Evaluation {
            confusion,
            blocks: Blocks::new(settings.block),
            calibration: None,
            frames: 0,
            size: (0, 0),
            tiles: 0,
            distances: None,
            over_frames: Vec::new(),
            settings,
        })
    }

    /// Scores a whole image. `confidence` is each pixel's probability of its predicted class, NaN where it is not known.
    ///
    /// # Errors
    /// Sizes that differ, a label beyond the classes, a confidence that is no probability.
    pub fn add_frame(&mut self, predicted: &LabelMap, truth: &LabelMap, confidence: Option<&[f32]>) -> Result<()> {
        same_size(predicted, truth)?;
        self.begin_mosaic(truth.width, truth.height)?;
        let counts: Vec<Counts> = self.count_pixels(predicted, truth, confidence, (0, 0))?.0;
        self.over_frames.resize(self.over_frames.len().max(counts.len()), OverFrames::default());
        for (sum, counts) in self.over_frames.iter_mut().zip(&counts) {
            if let (Some(iou), Some(dice)) = (counts.iou(), counts.dice()) {
                *sum = OverFrames { frames: sum.frames + 1, iou: sum.iou + iou, dice: sum.dice + dice };
            }
        }

        let (predicted, truth) = (predicted.without_nodata_of(truth), truth.without_nodata_of(predicted));
        let distance = self.settings.boundary.unwrap_or_else(|| boundary::default_distance(truth.width, truth.height));
        let (low, high) = self.distances.unwrap_or((distance, distance));
        self.distances = Some((low.min(distance), high.max(distance)));
        boundary::count(&predicted, &truth, distance, &mut self.blocks);
        objects::count(&predicted, &truth, &self.settings.objects, &mut self.blocks);
        Ok(())
    }

    /// From here on, tiles are of a new mosaic of this size.
    ///
    /// # Errors
    /// A side of 0.
    pub fn begin_mosaic(&mut self, width: usize, height: usize) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(Error::Frame(format!("an image of {width} x {height} has no pixels")));
        }
        self.frames += 1;
        self.size = (width, height);
        self.blocks.begin(width, height);
        Ok(())
    }

    /// Scores a part of the mosaic at hand, whose first pixel is at `x`, `y` of it. Parts must not overlap. Boundaries and
    /// objects are not counted, because a part does not hold them whole.
    ///
    /// # Errors
    /// As of [`Evaluation::add_frame`], and a part that reaches beyond its mosaic.
    pub fn add_tile(
        &mut self,
        predicted: &LabelMap,
        truth: &LabelMap,
        confidence: Option<&[f32]>,
        at: (usize, usize),
    ) -> Result<()> {
        same_size(predicted, truth)?;
        let ((x, y), (width, height)) = (at, self.size);
        if x + truth.width > width || y + truth.height > height {
            let problem = format!(
                "a tile of {} x {} at ({x}, {y}) reaches beyond its mosaic of {width} x {height}",
                truth.width, truth.height
            );
            return Err(Error::Frame(problem));
        }
        self.tiles += 1;
        self.count_pixels(predicted, truth, confidence, at).map(drop)
    }

    fn count_pixels(
        &mut self,
        predicted: &LabelMap,
        truth: &LabelMap,
        confidence: Option<&[f32]>,
        at: (usize, usize),
    ) -> Result<ClassCounts> {
        let pairs = || predicted.pairs(truth);
        if self.settings.classes.is_none()
            && let Some(largest) = pairs().flatten().map(|(p, t)| p.max(t)).max()
        {
            self.confusion.grow(largest + 1)?;
        }
        let mut confusion = Confusion::new(self.confusion.classes());
        confusion.add(&predicted.data, &truth.data)?;
        self.confusion += &confusion;
        self.blocks.visit(at, (truth.width, truth.height), |block, pixels| {
            for (predicted, truth) in predicted.pairs_in(truth, pixels).flatten() {
                block.pixels.add(truth, predicted);
            }
        });
        if let Some(confidence) = confidence {
            self.calibrate(confidence, predicted, truth)?;
        }
        Ok(confusion.class_counts())
    }

    fn calibrate(&mut self, confidence: &[f32], predicted: &LabelMap, truth: &LabelMap) -> Result<()> {
        if confidence.len() != truth.data.len() {
            let found = count(confidence.len(), "probability value");
            return Err(Error::Frame(format!("{found} for a mask of {} x {}", truth.width, truth.height)));
        }
        let calibration = self.calibration.get_or_insert_default();
        for (pair, confidence) in predicted.pairs(truth).zip(confidence) {
            let Some((predicted, truth)) = pair.filter(|_| !confidence.is_nan()) else { continue };
            if !(0.0..=1.0).contains(confidence) {
                return Err(Error::Frame(format!(
                    "a probability of {confidence} was found; probabilities are 0 to 1, and scores that are none cannot be calibrated"
                )));
            }
            calibration.add(f64::from(*confidence), predicted == truth);
        }
        Ok(())
    }

    /// What was counted, as scores. `names` are those of the classes, in order; others are called `class N`.
    pub fn report(&self, names: &[String]) -> Report {
        Report::of(self, names)
    }
}

fn same_size(predicted: &LabelMap, truth: &LabelMap) -> Result<()> {
    if (predicted.width, predicted.height) == (truth.width, truth.height) {
        return Ok(());
    }
    Err(Error::Frame(format!(
        "the prediction is {} x {} and the truth {} x {}; both must be of one size",
        predicted.width, predicted.height, truth.width, truth.height
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(width: usize, height: usize) -> LabelMap {
        LabelMap::new(width, height, vec![1; width * height]).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_counts_nothing() {
        let mut evaluation = Evaluation::new(Settings::default()).unwrap();
        let error = evaluation.add_frame(&map(4, 3), &map(3, 4), None).unwrap_err().to_string();
        assert_eq!(error, "the prediction is 4 x 3 and the truth 3 x 4; both must be of one size");
        let error = evaluation.add_tile(&map(2, 2), &map(2, 2), None, (0, 0)).unwrap_err().to_string();
        assert_eq!(error, "a tile of 2 x 2 at (0, 0) reaches beyond its mosaic of 0 x 0");
        evaluation.begin_mosaic(5, 5).unwrap();
        assert!(evaluation.add_tile(&map(2, 2), &map(2, 2), None, (4, 0)).is_err());
        evaluation.add_tile(&map(2, 2), &map(2, 2), None, (3, 3)).unwrap();
        let report = evaluation.report(&[]);
        assert_eq!((report.frames, report.tiles, report.pixels), (1, 1, 4));
        assert!(evaluation.begin_mosaic(0, 5).is_err());
    }

    #[test]
    fn settings_out_of_range() {
        let of = |settings| Evaluation::new(settings).unwrap_err().to_string();
        assert!(of(Settings { classes: Some(5000), ..Settings::default() }).starts_with("classes=5000: 1 to 1024"));
        assert!(of(Settings { block: 0, ..Settings::default() }).starts_with("block-size=0: "));
    }

    #[test]
    fn a_confidence_is_a_probability() {
        let mut evaluation = Evaluation::new(Settings::default()).unwrap();
        let error = evaluation.add_frame(&map(2, 1), &map(2, 1), Some(&[0.5, 1.5])).unwrap_err().to_string();
        assert!(error.contains("a probability of 1.5 was found"), "{error}");
        let error = evaluation.add_frame(&map(2, 1), &map(2, 1), Some(&[0.5])).unwrap_err().to_string();
        assert_eq!(error, "1 probability value for a mask of 2 x 1");
    }
}
