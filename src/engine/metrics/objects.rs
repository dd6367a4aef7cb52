//! Whole objects, found or not: SpaceNet's F1 at IoU 0.5.
//!
//! An object is a connected component of a class. A predicted and a true object are a match when their IoU is at least
//! 0.5; true positives are matches, false positives predicted objects without one, false negatives true objects without
//! one; F1 = 2 TP / (2 TP + FP + FN).
//!
//! The contest's code goes from prediction to prediction and takes the best true object that is left. Here no order
//! matters, because at 0.5 an object has at most one match: with T1 and T2 both at IoU ≥ 0.5 with P, each would be half
//! of P and inside it, so P would be the two of them together, and connected, while they are two components.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::blocks::Blocks;
use super::confusion::{Counts, Label};
use super::map::LabelMap;

/// The IoU of a match.
pub const MATCH_IOU: f64 = 0.5;

/// Which neighbours of a pixel belong to its object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Connectivity {
    /// Above, below, left, right: as `gdal_polygonize` does by default.
    #[default]
    #[serde(rename = "4")]
    Four,
    /// And the four diagonal ones.
    #[serde(rename = "8")]
    Eight,
}

/// What is an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Objects {
    pub connectivity: Connectivity,
    /// Smaller ones, in pixels, are left out of prediction and truth.
    pub min_area: u64,
    /// The class that is no object.
    pub background: Option<u16>,
}

impl Default for Objects {
    fn default() -> Self {
        Objects { connectivity: Connectivity::default(), min_area: 0, background: Some(0) }
    }
}

#[derive(Debug, Clone, Copy)]
struct Object {
    class: usize,
    area: u64,
    /// Its first pixel, row by row.
    first: usize,
    matched: bool,
}

/// The objects of a mask, and for each pixel the index of its object.
struct Components {
    objects: Vec<Object>,
    at: Vec<Option<u32>>,
}

/// Finds connected components: provisional numbers row by row, joined where they meet (union-find).
fn components(map: &LabelMap, settings: &Objects) -> Components {
    let width = map.width;
    let mut parent: Vec<u32> = Vec::new();
    let mut at: Vec<Option<u32>> = vec![None; map.data.len()];
    for i in 0..map.data.len() {
        let label = map.data[i];
        if label.class().is_none() || Some(label) == settings.background {
            continue;
        }
        let (left, right) = (i % width > 0, i % width + 1 < width);
        let above = i >= width;
        let diagonal = above && settings.connectivity == Connectivity::Eight;
        let neighbours = [(left, 1), (diagonal && left, width + 1), (above, width), (diagonal && right, width - 1)];
        for back in neighbours.into_iter().filter_map(|(there, back)| there.then_some(back)) {
            if map.data[i - back] != label {
                continue;
            }
            at[i] = match (at[i], at[i - back]) {
                (Some(a), Some(b)) => Some(join(&mut parent, a, b)),
                (None, other) => other,
                (own, None) => own,
            };
        }
        if at[i].is_none() {
            at[i] = Some(parent.len() as u32);
            parent.push(parent.len() as u32);
        }
    }
    let mut number = vec![None; parent.len()];
    let mut objects: Vec<Object> = Vec::new();
    for (i, at) in at.iter_mut().enumerate() {
        let Some(own) = at else { continue };
        let object = *number[root(&mut parent, *own) as usize].get_or_insert(objects.len());
        if object == objects.len() {
            objects.push(Object { class: map.data[i] as usize, area: 0, first: i, matched: false });
        }
        objects[object].area += 1;
        *own = object as u32;
    }
    Components { objects, at }
}

fn root(parent: &mut [u32], mut of: u32) -> u32 {
    while parent[of as usize] != of {
        parent[of as usize] = parent[parent[of as usize] as usize];
        of = parent[of as usize];
    }
    of
}

/// The smaller number wins, so that a component keeps that of its first pixel.
fn join(parent: &mut [u32], a: u32, b: u32) -> u32 {
    let (a, b) = (root(parent, a), root(parent, b));
    let (low, high) = (a.min(b), a.max(b));
    parent[high as usize] = low;
    low
}

/// Counts found, wrong and missed objects of each class, in the block of their first pixel (of a match: the true
/// object's). Both masks are of one size, with the same pixels nodata.
pub(super) fn count(predicted: &LabelMap, truth: &LabelMap, settings: &Objects, blocks: &mut Blocks) {
    let mut found = components(predicted, settings);
    let mut wanted = components(truth, settings);
    let mut shared: HashMap<(u32, u32), u64> = HashMap::new();
    for pair in found.at.iter().zip(&wanted.at).filter_map(|(p, t)| Some(((*p)?, (*t)?))) {
        *shared.entry(pair).or_default() += 1;
    }
    let counted = |object: &Object| object.area >= settings.min_area;
    for ((p, t), shared) in shared {
        let (p, t) = (&mut found.objects[p as usize], &mut wanted.objects[t as usize]);
        // IoU ≥ 0.5 in whole numbers: 2 shared ≥ union.
        if p.class == t.class && counted(p) && counted(t) && 3 * shared >= p.area + t.area {
            p.matched = true;
            t.matched = true;
        }
    }
    let mut counts = |object: &Object, add: fn(&mut Counts)| {
        let block = blocks.at(object.first % truth.width, object.first / truth.width);
        add(block.objects.class(object.class));
    };
    for object in wanted.objects.iter().filter(|o| counted(o)) {
        match object.matched {
            true => counts(object, |c| c.true_positive += 1),
            false => counts(object, |c| c.false_negative += 1),
        }
    }
    for object in found.objects.iter().filter(|o| counted(o) && !o.matched) {
        counts(object, |c| c.false_positive += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[&str]) -> LabelMap {
        let value = |c: char| if c == 'x' { 65535 } else { c.to_digit(10).unwrap_or(0) as u16 };
        LabelMap::new(rows[0].len(), rows.len(), rows.iter().flat_map(|r| r.chars().map(value)).collect()).unwrap()
    }

    fn counts(predicted: &[&str], truth: &[&str], settings: Objects) -> Vec<(u64, u64, u64)> {
        let (predicted, truth) = (map(predicted), map(truth));
        let mut blocks = Blocks::new(4);
        blocks.begin(truth.width, truth.height);
        count(&predicted, &truth, &settings, &mut blocks);
        let of = |c: &Counts| (c.true_positive, c.false_positive, c.false_negative);
        blocks.sum().objects.0.iter().map(of).collect()
    }

    #[test]
    fn an_iou_of_exactly_a_half_is_a_match_and_less_is_none() {
        assert_eq!(counts(&["11.."], &["1..."], Objects::default())[1], (1, 0, 0));
        assert_eq!(counts(&["111."], &["1..."], Objects::default())[1], (0, 1, 1));
        assert_eq!(counts(&["111."], &[".111"], Objects::default())[1], (1, 0, 0));
        assert_eq!(counts(&["11.."], &[".11."], Objects::default())[1], (0, 1, 1));
    }

    #[test]
    fn one_wide_find_over_two_objects_is_no_match_at_all() {
        // The union of both would be 6 of 7.
        assert_eq!(counts(&["1111111"], &["111.111"], Objects::default())[1], (0, 1, 2));
    }

    #[test]
    fn corners_join_objects_only_where_8_neighbours_count() {
        let rows = ["1..1", ".11.", "1..1"];
        let eight = Objects { connectivity: Connectivity::Eight, ..Objects::default() };
        assert_eq!(counts(&rows, &rows, Objects::default())[1], (5, 0, 0));
        assert_eq!(counts(&rows, &rows, eight)[1], (1, 0, 0));
        // Nothing reaches around the right edge to the next row's left.
        assert_eq!(counts(&["..1", "1.."], &["..1", "1.."], eight)[1], (2, 0, 0));
    }

    #[test]
    fn arms_that_meet_late_are_one_object() {
        let rows = ["1.1.1", "1.1.1", "11111"];
        assert_eq!(counts(&rows, &rows, Objects::default())[1], (1, 0, 0));
    }

    #[test]
    fn small_objects_are_left_out_of_both() {
        let settings = Objects { min_area: 2, ..Objects::default() };
        assert_eq!(counts(&["1.11..", "......"], &["..11.1", "......"], settings)[1], (1, 0, 0));
    }

    #[test]
    fn classes_do_not_match_each_other_and_background_is_a_choice() {
        assert_eq!(counts(&["11.2"], &["22.2"], Objects::default())[1..], [(0, 1, 0), (1, 0, 1)]);
        assert_eq!(counts(&["11.2"], &["22.2"], Objects { background: None, ..Objects::default() })[0], (1, 0, 0));
    }
}
