//! Boundary IoU: how well outlines agree (Cheng et al., *Boundary IoU*, CVPR 2021, arXiv:2103.16562).
//!
//! The boundary of a mask is what of it an erosion takes away: its pixels that have a pixel of another value, nodata or
//! the image's border within d pixels, a diagonal step counting as one (a 3 × 3 square, d times, zeros outside). Boundary
//! IoU is the IoU of the boundaries of prediction and truth.

use super::blocks::Blocks;
use super::confusion::Label;
use super::map::LabelMap;

/// The distance where nothing else is asked for, as a share of the image's diagonal.
pub const SHARE_OF_DIAGONAL: f64 = 0.02;

/// 2 % of the diagonal, rounded half to even as the authors' Python does, at least 1 pixel.
pub fn default_distance(width: usize, height: usize) -> usize {
    let diagonal = ((width * width + height * height) as f64).sqrt();
    ((SHARE_OF_DIAGONAL * diagonal).round_ties_even() as usize).max(1)
}

/// Marks the pixels that an erosion by `distance` pixels takes from the mask of their class: those whose square of
/// `2 distance + 1` pixels is not of one value. Of all classes at once.
fn boundary(map: &LabelMap, distance: usize) -> Vec<bool> {
    let side = 2 * distance + 1;
    // Pixels whose row is of one value for `distance` pixels to both sides.
    let mut inner = vec![false; map.data.len()];
    for (row, inner) in map.data.chunks_exact(map.width).zip(inner.chunks_exact_mut(map.width)) {
        let mut run = 0;
        for x in 0..map.width {
            run = if x > 0 && row[x] == row[x - 1] { run + 1 } else { 1 };
            if run >= side {
                inner[x - distance] = true;
            }
        }
    }
    // And of those, the ones with the same above and below.
    let mut boundary = vec![true; map.data.len()];
    let mut runs = vec![0; map.width];
    for i in 0..map.data.len() {
        let run = &mut runs[i % map.width];
        let goes_on = i >= map.width && map.data[i] == map.data[i - map.width];
        *run = match (inner[i], goes_on) {
            (false, _) => 0,
            (true, true) => *run + 1,
            (true, false) => 1,
        };
        if *run >= side {
            boundary[i - distance * map.width] = false;
        }
    }
    boundary
}

/// Counts the pixels of each class's boundaries, by block: the IoU of their sum is boundary IoU. Both masks are of one
/// size, with the same pixels nodata.
pub(super) fn count(predicted: &LabelMap, truth: &LabelMap, distance: usize, blocks: &mut Blocks) {
    let [at_predicted, at_truth] = [predicted, truth].map(|map| boundary(map, distance));
    blocks.visit((0, 0), (truth.width, truth.height), |block, pixels| {
        for i in pixels {
            let predicted = predicted.data[i].class().filter(|_| at_predicted[i]);
            let truth = truth.data[i].class().filter(|_| at_truth[i]);
            match (predicted, truth) {
                (Some(predicted), Some(truth)) => block.boundary.add(truth, predicted),
                (Some(predicted), None) => block.boundary.class(predicted).false_positive += 1,
                (None, Some(truth)) => block.boundary.class(truth).false_negative += 1,
                (None, None) => {}
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_distance_is_2_percent_of_the_diagonal() {
        assert_eq!(default_distance(900, 900), 25);
        assert_eq!(default_distance(60, 80), 2);
        // 2.5, half to even.
        assert_eq!(default_distance(75, 100), 2);
        assert_eq!(default_distance(3, 3), 1);
    }

    #[test]
    fn the_images_border_is_a_boundary() {
        let map = LabelMap::new(5, 4, vec![1; 20]).unwrap();
        let marks: Vec<u8> = boundary(&map, 1).into_iter().map(u8::from).collect();
        assert_eq!(marks, [1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
        assert!(boundary(&map, 2).iter().all(|b| *b));
    }

    proptest! {
        #[test]
        fn a_pixel_is_inner_when_its_whole_square_is_of_its_value(
            (width, data) in (1usize..12).prop_flat_map(|w| (Just(w), (1usize..12).prop_flat_map(move |h| {
                prop::collection::vec(prop_oneof![8 => Just(0u16), 2 => 0u16..3], w * h)
            }))),
            distance in 1usize..4,
        ) {
            let map = LabelMap::new(width, data.len() / width, data).unwrap();
            let (w, h, d) = (map.width as i64, map.height as i64, distance as i64);
            let marks = boundary(&map, distance);
            for (i, mark) in marks.iter().enumerate() {
                let (x, y) = (i as i64 % w, i as i64 / w);
                let same = |x: i64, y: i64| {
                    (0..w).contains(&x) && (0..h).contains(&y) && map.data[(y * w + x) as usize] == map.data[i]
                };
                let inner = (-d..=d).all(|dy| (-d..=d).all(|dx| same(x + dx, y + dy)));
                prop_assert_eq!(*mark, !inner);
            }
        }
    }
}
