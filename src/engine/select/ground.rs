//! Pixels that something is scored on: their truth, and the blocks that the bootstrap draws.

use super::candidate::{Score, score};
use super::passes::Kept;
use super::study::Options;
use super::windows::Area;
use crate::engine::metrics::{ClassCounts, bootstrap};

/// A scene as far as it is known: the class of each pixel row by row, `None` where it is unknown or there is no data.
#[derive(Debug, Clone, Copy)]
pub struct Truth<'a> {
    pub width: usize,
    pub height: usize,
    pub classes: &'a [Option<u16>],
}

/// The pixels of an area.
pub(super) struct Ground {
    /// For each member that is scored here its number, and where these pixels are among those that it has kept.
    pub places: Vec<(usize, Vec<usize>)>,
    pub truth: Vec<u16>,
    /// The block of each pixel.
    blocks: Vec<usize>,
    /// Number of blocks.
    pub count: usize,
}

impl Ground {
    /// Blocks are squares from the area's corner on.
    ///
    /// # Panics
    /// Where a member has not kept a pixel of the area, or the truth of one is not known.
    pub fn new(area: &Area, truth: &Truth<'_>, members: &[(usize, &Kept)], side: usize) -> Self {
        let pixels: Vec<usize> = area.pixels().collect();
        let (left, top) = area.corner().unwrap_or((0, 0));
        let across = (area.width - left).div_ceil(side);
        let block = |pixel: &usize| (pixel / area.width - top) / side * across + (pixel % area.width - left) / side;
        let mut blocks: Vec<usize> = pixels.iter().map(block).collect();
        // Blocks without any pixel are nothing to draw.
        let mut used = blocks.clone();
        used.sort_unstable();
        used.dedup();
        blocks.iter_mut().for_each(|block| *block = used.partition_point(|u| u < block));
        let places = |kept: &Kept| -> Vec<usize> {
            let place =
                |pixel: &usize| kept.pixels.binary_search(pixel).expect("an area is part of its members' areas");
            pixels.iter().map(place).collect()
        };
        Ground {
            places: members.iter().map(|(m, kept)| (*m, places(kept))).collect(),
            truth: pixels.iter().map(|pixel| truth.classes[*pixel].expect("areas hold known pixels")).collect(),
            blocks,
            count: used.len(),
        }
    }

    /// What a mask of these pixels agrees with, by block.
    pub fn count(&self, labels: impl IntoIterator<Item = u16>) -> Vec<ClassCounts> {
        let mut counts = vec![ClassCounts::default(); self.count];
        for ((label, truth), block) in labels.into_iter().zip(&self.truth).zip(&self.blocks) {
            counts[*block].add(usize::from(*truth), usize::from(label));
        }
        counts
    }

    /// Pixels of any of these classes.
    pub fn of_classes(&self, classes: &[usize]) -> usize {
        self.truth.iter().filter(|class| classes.contains(&usize::from(**class))).count()
    }
}

pub(super) fn sum<'a>(blocks: impl IntoIterator<Item = &'a ClassCounts>) -> ClassCounts {
    blocks.into_iter().fold(ClassCounts::default(), |mut sum, block| {
        sum += block;
        sum
    })
}

/// The score of the sum of blocks with its interval; `None` where no class that counts is in truth or prediction.
pub(super) fn scored(blocks: &[ClassCounts], classes: &[usize], options: &Options) -> Option<Score> {
    let iou = score(&sum(blocks), classes)?;
    let intervals = bootstrap(blocks, options.resamples, options.seed, |sum| vec![score(sum, classes)]);
    Some(Score { iou, interval: intervals.into_iter().next().flatten().unwrap_or((iou, iou)) })
}
