//! Confusion matrices, and the scores that follow from counts of pixels.

use std::iter::Sum;
use std::ops::AddAssign;

use super::super::decide::{NODATA, NODATA_16};
use super::super::error::{Error, Result, count};

/// More classes than this are taken for a mistake: the matrix would fill the memory.
pub const MAX_CLASSES: usize = 1024;

/// Agreement of one class over some pixels, or over some objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub true_positive: u64,
    pub false_positive: u64,
    pub false_negative: u64,
}

impl Counts {
    /// Counts pixels, given as (predicted, true) pairs.
    pub fn of(pixels: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut counts = Counts::default();
        for (predicted, truth) in pixels {
            counts.add(predicted, truth);
        }
        counts
    }

    /// Counts one pixel.
    pub fn add(&mut self, predicted: bool, truth: bool) {
        match (predicted, truth) {
            (true, true) => self.true_positive += 1,
            (true, false) => self.false_positive += 1,
            (false, true) => self.false_negative += 1,
            (false, false) => {}
        }
    }

    fn union(&self) -> u64 {
        self.true_positive + self.false_positive + self.false_negative
    }

    /// A quotient, `None` for a class that is absent from both masks. Of a class that is in one of them only, 0 / 0 is
    /// 0, as in scikit-learn: what was never found must not leave the mean.
    fn ratio(&self, part: u64, whole: u64) -> Option<f64> {
        (self.union() > 0).then(|| if whole > 0 { part as f64 / whole as f64 } else { 0.0 })
    }

    /// Intersection over union (Jaccard), TP / (TP + FP + FN). `None` for a class that is absent from both.
    pub fn iou(&self) -> Option<f64> {
        self.ratio(self.true_positive, self.union())
    }

    /// Dice = F1 = 2 TP / (2 TP + FP + FN). `None` for a class that is absent from both.
    pub fn dice(&self) -> Option<f64> {
        self.ratio(2 * self.true_positive, self.union() + self.true_positive)
    }

    /// TP / (TP + FP). `None` for a class that is absent from both, 0 for one that was never predicted.
    pub fn precision(&self) -> Option<f64> {
        self.ratio(self.true_positive, self.true_positive + self.false_positive)
    }

    /// TP / (TP + FN). `None` for a class that is absent from both, 0 for one that the truth lacks.
    pub fn recall(&self) -> Option<f64> {
        self.ratio(self.true_positive, self.true_positive + self.false_negative)
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        self.true_positive += other.true_positive;
        self.false_positive += other.false_positive;
        self.false_negative += other.false_negative;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(counts: I) -> Self {
        counts.fold(Counts::default(), |mut sum, counts| {
            sum += &counts;
            sum
        })
    }
}

/// The counts of every class over the same pixels or objects. Sums of different lengths grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassCounts(pub Vec<Counts>);

impl ClassCounts {
    /// The counts of a class; it is there afterwards.
    pub fn class(&mut self, class: usize) -> &mut Counts {
        if class >= self.0.len() {
            self.0.resize(class + 1, Counts::default());
        }
        &mut self.0[class]
    }

    /// Counts one pixel.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        if truth == predicted {
            self.class(truth).true_positive += 1;
        } else {
            self.class(truth).false_negative += 1;
            self.class(predicted).false_positive += 1;
        }
    }

    /// The mean of a score over the classes that are in truth or prediction: `mean(Counts::iou)` is the mean IoU.
    pub fn mean(&self, score: impl Fn(&Counts) -> Option<f64>) -> Option<f64> {
        let (sum, n) = self.0.iter().filter_map(score).fold((0.0, 0), |(sum, n), score| (sum + score, n + 1));
        (n > 0).then(|| sum / n as f64)
    }

    /// The share of pixels with the right class. `None` without any pixel.
    pub fn accuracy(&self) -> Option<f64> {
        let (right, all) = self
            .0
            .iter()
            .fold((0, 0), |(right, all), c| (right + c.true_positive, all + c.true_positive + c.false_negative));
        (all > 0).then(|| right as f64 / all as f64)
    }

    /// Cohen's kappa, (accuracy − chance) / (1 − chance), where chance is the accuracy of two independent masks with
    /// these class frequencies. `None` where chance alone is always right.
    pub fn kappa(&self) -> Option<f64> {
        let accuracy = self.accuracy()?;
        let all = self.0.iter().map(|c| c.true_positive + c.false_negative).sum::<u64>() as f64;
        let chance: f64 = self
            .0
            .iter()
            .map(|c| {
                let [truth, predicted] = [c.false_negative, c.false_positive].map(|n| (n + c.true_positive) as f64);
                truth / all * (predicted / all)
            })
            .sum();
        (chance < 1.0).then(|| (accuracy - chance) / (1.0 - chance))
    }
}

impl AddAssign<&ClassCounts> for ClassCounts {
    fn add_assign(&mut self, other: &ClassCounts) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), Counts::default());
        }
        for (sum, counts) in self.0.iter_mut().zip(&other.0) {
            *sum += counts;
        }
    }
}

/// A value of a mask: a class index, or nodata.
pub trait Label: Copy {
    /// `None` for nodata.
    fn class(self) -> Option<usize>;
}

impl Label for u8 {
    fn class(self) -> Option<usize> {
        (self != NODATA).then_some(self as usize)
    }
}

impl Label for u16 {
    fn class(self) -> Option<usize> {
        (self != NODATA_16).then_some(self as usize)
    }
}

/// How often each class was taken for which: pixels by true and predicted class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `classes × classes`, a row per true class.
    pixels: Vec<u64>,
    ignored: u64,
}

impl Confusion {
    pub fn new(classes: usize) -> Self {
        Confusion { classes, pixels: vec![0; classes * classes], ignored: 0 }
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Pixels of a true class that were predicted as another (or the same).
    pub fn pixels(&self, truth: usize, predicted: usize) -> u64 {
        self.pixels[truth * self.classes + predicted]
    }

    /// A row per true class, a column per predicted class.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        self.pixels.chunks_exact(self.classes.max(1))
    }

    /// Pixels that are counted.
    pub fn total(&self) -> u64 {
        self.pixels.iter().sum()
    }

    /// Pixels that were nodata in truth or prediction.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Makes room for more classes.
    ///
    /// # Errors
    /// More than [`MAX_CLASSES`].
    pub fn grow(&mut self, classes: usize) -> Result<()> {
        if classes <= self.classes {
            return Ok(());
        }
        if classes > MAX_CLASSES {
            let problem = format!(
                "label {} was found; labels are class indices, and more than {MAX_CLASSES} classes are not counted",
                classes - 1
            );
            return Err(Error::Frame(problem));
        }
        let mut grown = Confusion::new(classes);
        for (row, old) in grown.pixels.chunks_exact_mut(classes).zip(self.rows()) {
            row[..old.len()].copy_from_slice(old);
        }
        self.pixels = grown.pixels;
        self.classes = classes;
        Ok(())
    }

    /// Counts pixels: `predicted` and `truth` belong together one by one. Nodata in either is ignored.
    ///
    /// # Errors
    /// Slices of different lengths, or a label beyond the classes; nothing is counted then.
    pub fn add<P: Label, T: Label>(&mut self, predicted: &[P], truth: &[T]) -> Result<()> {
        if predicted.len() != truth.len() {
            let problem = format!("{} predicted for {} of truth", count(predicted.len(), "pixel"), truth.len());
            return Err(Error::Frame(problem));
        }
        let pairs = || predicted.iter().zip(truth).map(|(p, t)| (p.class(), t.class()));
        let largest = pairs().filter_map(|(p, t)| Some(p?.max(t?))).max();
        if let Some(label) = largest.filter(|l| *l >= self.classes) {
            let problem = format!(
                "label {label} was found, and {} are known: 0 to {}",
                count(self.classes, "class"),
                self.last()
            );
            return Err(Error::Frame(problem));
        }
        for (predicted, truth) in pairs() {
            match (predicted, truth) {
                (Some(predicted), Some(truth)) => self.pixels[truth * self.classes + predicted] += 1,
                _ => self.ignored += 1,
            }
        }
        Ok(())
    }

    fn last(&self) -> usize {
        self.classes.saturating_sub(1)
    }

    /// True and false finds of one class.
    pub fn counts(&self, class: usize) -> Counts {
        let true_positive = self.pixels(class, class);
        let row: u64 = (0..self.classes).map(|predicted| self.pixels(class, predicted)).sum();
        let column: u64 = (0..self.classes).map(|truth| self.pixels(truth, class)).sum();
        Counts { true_positive, false_positive: column - true_positive, false_negative: row - true_positive }
    }

    /// True and false finds of every class: what scores are made of.
    pub fn class_counts(&self) -> ClassCounts {
        ClassCounts((0..self.classes).map(|class| self.counts(class)).collect())
    }

    pub fn mean_iou(&self) -> Option<f64> {
        self.class_counts().mean(Counts::iou)
    }

    pub fn mean_dice(&self) -> Option<f64> {
        self.class_counts().mean(Counts::dice)
    }
}

/// Merges what two counted; the larger number of classes stays.
impl AddAssign<&Confusion> for Confusion {
    fn add_assign(&mut self, other: &Confusion) {
        if self.classes < other.classes {
            let small = std::mem::replace(self, Confusion::new(other.classes));
            *self += &small;
        }
        for (row, added) in self.pixels.chunks_exact_mut(self.classes.max(1)).zip(other.rows()) {
            for (sum, pixels) in row.iter_mut().zip(added) {
                *sum += pixels;
            }
        }
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn iou_by_hand() {
        let counts = Counts::of([(true, true), (true, false), (false, true), (false, false), (true, true)].into_iter());
        assert_eq!(counts.iou(), Some(0.5));
        assert_eq!(counts.dice(), Some(4.0 / 6.0));
        assert_eq!(Counts::default().iou(), None);
        assert_eq!(Counts::default().precision(), None);
    }

    #[test]
    fn a_class_that_was_never_predicted_scores_nothing_and_stays_in_the_mean() {
        let missed = Counts { true_positive: 0, false_positive: 0, false_negative: 3 };
        assert_eq!((missed.precision(), missed.recall()), (Some(0.0), Some(0.0)));
        let found = Counts { true_positive: 2, false_positive: 0, false_negative: 0 };
        let absent = Counts::default();
        assert_eq!(ClassCounts(vec![missed, found, absent]).mean(Counts::precision), Some(0.5));
    }

    #[test]
    fn nodata_in_either_is_ignored_in_8_and_16_bit() {
        let mut confusion = Confusion::new(2);
        confusion.add(&[0u8, 1, 255, 1], &[0u16, 0, 1, 65535]).unwrap();
        assert_eq!(confusion.rows().collect::<Vec<_>>(), [[1, 1], [0, 0]]);
        assert_eq!((confusion.ignored(), confusion.total()), (2, 2));
    }

    #[test]
    fn a_label_beyond_the_classes_is_an_error_and_counts_nothing() {
        let mut confusion = Confusion::new(2);
        let error = confusion.add(&[0u8, 2], &[0u8, 1]).unwrap_err().to_string();
        assert_eq!(error, "label 2 was found, and 2 classes are known: 0 to 1");
        assert_eq!(confusion, Confusion::new(2));
        let error = confusion.add(&[0u8, 1], &[0u8]).unwrap_err().to_string();
        assert_eq!(error, "2 pixels predicted for 1 of truth");
        // 255 is a class in 16 bit.
        assert!(confusion.add(&[255u16], &[0u8]).is_err());
    }

    #[test]
    fn a_matrix_grows_up_to_a_limit_and_keeps_its_counts() {
        let mut confusion = Confusion::new(2);
        confusion.add(&[0u8, 1, 1], &[0u8, 0, 1]).unwrap();
        confusion.grow(3).unwrap();
        assert_eq!(confusion.rows().collect::<Vec<_>>(), [[1, 1, 0], [0, 1, 0], [0, 0, 0]]);
        assert!(confusion.grow(MAX_CLASSES + 1).unwrap_err().to_string().contains("label 1024 was found"));
        assert_eq!(confusion.classes(), 3);
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole(pixels in prop::collection::vec((0u8..5, 0u8..4), 0..200), cut in 0usize..200) {
            let (predicted, truth): (Vec<u8>, Vec<u8>) = pixels.into_iter().unzip();
            let of = |range: std::ops::Range<usize>| {
                let largest = predicted[range.clone()].iter().chain(&truth[range.clone()]).max();
                let mut confusion = Confusion::new(largest.map_or(0, |l| *l as usize + 1));
                confusion.add(&predicted[range.clone()], &truth[range]).unwrap();
                confusion
            };
            let cut = cut.min(predicted.len());
            let (mut sum, whole) = (of(0..cut), of(0..predicted.len()));
            sum += &of(cut..predicted.len());
            prop_assert_eq!(&sum, &whole);

            // Pixel by pixel without a matrix: the same counts.
            let mut counts = ClassCounts::default();
            for (p, t) in predicted.iter().zip(&truth) {
                counts.add(*t as usize, *p as usize);
            }
            prop_assert_eq!(counts, whole.class_counts());
        }
    }
}
