//! Against the definitions, written down pixel by pixel for the whole mask at once; SciPy's results are in `tests/maskclean`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::raster::{Axis, Grid, Rect};

type Mask = Vec<Vec<u16>>;

fn clean(recipe: &Recipe, mask: &Mask) -> Mask {
    let mut cleaner = Cleaner::new(recipe, mask[0].len());
    let mut found = Mask::new();
    for row in mask {
        cleaner.push(row.clone(), |row| found.push(row)).unwrap();
        let (held, most) = (cleaner.rows_held() as u64, recipe.most_rows());
        assert!(held <= most, "{held} rows are held, and {most} are said");
    }
    cleaner.finish(|row| found.push(row));
    assert_eq!(cleaner.rows_held(), 0);
    found
}

/// The operations by their definitions.
struct Plain<'a> {
    recipe: &'a Recipe,
    mask: Mask,
}

impl Plain<'_> {
    fn size(&self) -> (isize, isize) {
        (self.mask[0].len() as isize, self.mask.len() as isize)
    }

    fn places(&self) -> impl Iterator<Item = (isize, isize)> + use<> {
        let (w, h) = self.size();
        (0..h).flat_map(move |y| (0..w).map(move |x| (x, y)))
    }

    fn at(&self, x: isize, y: isize) -> Option<u16> {
        self.mask.get(usize::try_from(y).ok()?)?.get(usize::try_from(x).ok()?).copied()
    }

    fn is_class(&self, label: u16) -> bool {
        let Recipe { classes, background, nodata, .. } = self.recipe;
        label != *background && Some(label) != *nodata && classes.as_ref().is_none_or(|all| all.contains(&label))
    }

    fn set(&mut self, changes: Vec<(isize, isize, u16)>) {
        for (x, y, label) in changes {
            self.mask[y as usize][x as usize] = label;
        }
    }

    fn shape(&self, radius: usize) -> Vec<(isize, isize)> {
        let r = radius as isize;
        let square = (-r..=r).flat_map(|y| (-r..=r).map(move |x| (x, y)));
        let inside = |(x, y): &(isize, isize)| match self.recipe.shape {
            Shape::Disk => x * x + y * y <= r * r,
            Shape::Square => true,
            Shape::Diamond => x.abs() + y.abs() <= r,
        };
        square.filter(inside).collect()
    }

    fn median(&mut self) {
        let r = self.recipe.median as isize;
        let (w, h) = self.size();
        let fold = |mut i: isize, n: isize| {
            while !(0..n).contains(&i) {
                i = if i < 0 { -1 - i } else { 2 * n - 1 - i };
            }
            i
        };
        let mut changes = Vec::new();
        for (x, y) in self.places() {
            let own = self.mask[y as usize][x as usize];
            let window: Vec<u16> = (-r..=r)
                .flat_map(|dy| (-r..=r).map(move |dx| (dx, dy)))
                .map(|(dx, dy)| self.mask[fold(y + dy, h) as usize][fold(x + dx, w) as usize])
                .collect();
            let takes_part = |label: u16| label == self.recipe.background || self.is_class(label);
            for label in window.iter().copied().collect::<BTreeSet<_>>() {
                let count = window.iter().filter(|l| **l == label).count();
                if takes_part(own) && takes_part(label) && 2 * count > window.len() {
                    changes.push((x, y, label));
                }
            }
        }
        self.set(changes);
    }

    /// Whether the shape around some pixel lies in the class and covers (x, y).
    fn opened(&self, shape: &[(isize, isize)], label: u16, x: isize, y: isize) -> bool {
        shape.iter().any(|(dx, dy)| shape.iter().all(|(ex, ey)| self.at(x + dx + ex, y + dy + ey) == Some(label)))
    }

    fn opening(&mut self) {
        let shape = self.shape(self.recipe.opening);
        let background = self.recipe.background;
        let gone = |(x, y): &(isize, isize)| {
            let label = self.mask[*y as usize][*x as usize];
            self.is_class(label) && !self.opened(&shape, label, *x, *y)
        };
        let changes = self.places().filter(gone).map(|(x, y)| (x, y, background)).collect();
        self.set(changes);
    }

    fn closing(&mut self) {
        let shape = self.shape(self.recipe.closing);
        let classes: BTreeSet<u16> = self.mask.iter().flatten().copied().filter(|l| self.is_class(*l)).collect();
        let mut changes = Vec::new();
        for (x, y) in self.places().filter(|(x, y)| self.at(*x, *y) == Some(self.recipe.background)) {
            // Every shape that covers the pixel meets the class.
            let closed = |label: &&u16| {
                shape
                    .iter()
                    .all(|(dx, dy)| shape.iter().any(|(ex, ey)| self.at(x + dx + ex, y + dy + ey) == Some(**label)))
            };
            changes.extend(classes.iter().find(closed).map(|label| (x, y, *label)));
        }
        self.set(changes);
    }

    /// The pixels of each region of the labels that `of` says.
    fn regions(&self, of: impl Fn(u16) -> bool) -> Vec<Vec<(isize, isize)>> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for place in self.places() {
            let label = self.at(place.0, place.1).unwrap();
            if !of(label) || !seen.insert(place) {
                continue;
            }
            let mut region = vec![place];
            let mut next = 0;
            while let Some(place) = region.get(next).copied() {
                next += 1;
                for near in self.near(place) {
                    if self.at(near.0, near.1) == Some(label) && seen.insert(near) {
                        region.push(near);
                    }
                }
            }
            found.push(region);
        }
        found
    }

    fn near(&self, (x, y): (isize, isize)) -> Vec<(isize, isize)> {
        let all = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy)));
        let four = self.recipe.connectivity == Connectivity::Four;
        all.filter(|(dx, dy)| (*dx, *dy) != (0, 0) && (!four || dx * dy == 0))
            .map(|(dx, dy)| (x + dx, y + dy))
            .collect()
    }

    fn holes(&mut self) {
        let mut changes = Vec::new();
        for region in self.regions(|label| label == self.recipe.background) {
            let around: BTreeSet<Option<u16>> = region
                .iter()
                .flat_map(|place| self.near(*place))
                .map(|(x, y)| self.at(x, y))
                .filter(|label| *label != Some(self.recipe.background))
                .collect();
            let one = around.iter().next().copied().flatten().filter(|l| around.len() == 1 && self.is_class(*l));
            if let Some(label) = one.filter(|_| region.len() as u64 <= self.recipe.hole_area) {
                changes.extend(region.iter().map(|(x, y)| (*x, *y, label)));
            }
        }
        self.set(changes);
    }

    fn areas(&mut self) {
        let small = |region: &Vec<(isize, isize)>| (region.len() as u64) < self.recipe.min_area;
        let regions = self.regions(|label| self.is_class(label)).into_iter().filter(small).flatten();
        let changes = regions.map(|(x, y)| (x, y, self.recipe.background)).collect();
        self.set(changes);
    }
}

fn plainly(recipe: &Recipe, mask: &Mask) -> Mask {
    let mut plain = Plain { recipe, mask: mask.clone() };
    if recipe.median > 0 {
        plain.median();
    }
    if recipe.opening > 0 {
        plain.opening();
    }
    if recipe.closing > 0 {
        plain.closing();
    }
    plain.holes();
    plain.areas();
    plain.mask
}

/// Masks of blots and of noise, with up to four labels and pixels without data.
fn masks() -> impl Strategy<Value = Mask> {
    (1usize..70, 1usize..24, any::<u64>(), 0u64..3, 2u64..6, 1usize..6).prop_map(|(w, h, seed, rough, labels, blot)| {
        let noise = |x: usize, y: usize| {
            let h = (seed ^ (x as u64) << 20 ^ y as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (h ^ h >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
        };
        let label = |x: usize, y: usize| {
            let v = if noise(x, y) % 8 < rough { noise(x + 97, y) } else { noise(x / blot + 500, y / blot) };
            [0, 0, 3, 7, 300, 65535][(v % (labels + 1)).min(5) as usize]
        };
        (0..h).map(|y| (0..w).map(|x| label(x, y)).collect()).collect()
    })
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let shapes = prop::sample::select(vec![Shape::Disk, Shape::Square, Shape::Diamond]);
    let connectivity = prop::sample::select(vec![Connectivity::Four, Connectivity::Eight]);
    let classes = prop::sample::select(vec![None, Some(vec![3]), Some(vec![7, 300])]);
    let areas = (0u64..40, 0u64..40);
    (0usize..4, 0usize..4, 0usize..4, areas, shapes, connectivity, classes, 0u8..32, any::<bool>()).prop_map(
        |(median, opening, closing, (hole_area, min_area), shape, connectivity, classes, used, nodata)| {
            // A mask that goes through all operations is soon empty.
            let is = |k: u8| usize::from(used >> k & 1 == 1);
            Recipe {
                median: median * is(0),
                opening: opening * is(1),
                closing: closing * is(2),
                shape,
                hole_area: hole_area * is(3) as u64,
                min_area: min_area * is(4) as u64,
                connectivity,
                classes,
                background: 0,
                nodata: nodata.then_some(65535),
            }
        },
    )
}

/// The mask cleaned by tiles; where they did not come, 9999.
fn by_tiles(recipe: &Recipe, mask: &Mask, (tile_width, tile_height): (i64, i64), region: Rect) -> Mask {
    let axis = |length: usize, tile| Axis { length: length as i64, tile, overlap: 0, multiple: 1, fixed: false };
    let grid = Grid { x: axis(mask[0].len(), tile_width), y: axis(mask.len(), tile_height) };
    let mut mosaic = Mosaic::new(recipe, grid, region).unwrap();
    let mut found = vec![vec![9999; mask[0].len()]; mask.len()];
    let (mut come, mut gone) = (Vec::new(), Vec::new());
    while let Some(index) = mosaic.due() {
        come.push(index);
        let part = mosaic.part(index);
        let rows = part.y as usize..part.bottom() as usize;
        let labels: Vec<u16> = rows.flat_map(|y| &mask[y][part.x as usize..part.right() as usize]).copied().collect();
        let take = |cleaned: Cleaned| {
            gone.push(cleaned.index);
            let Rect { x, y, width, .. } = cleaned.rect;
            for (k, row) in cleaned.labels.chunks(width as usize).enumerate() {
                found[y as usize + k][x as usize..(x + width) as usize].copy_from_slice(row);
            }
        };
        mosaic.add(&labels, take).unwrap();
    }
    assert_eq!((come.len(), come), (mosaic.count(), gone));
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn tiles_give_what_the_whole_gives(
        recipe in recipes(), mask in masks(), tile in (1i64..40, 1i64..30), (x, y, w, h) in (0i64..70, 0i64..24, 1i64..70, 1i64..24),
        whole in any::<bool>(),
    ) {
        let bounds = Rect::new(0, 0, mask[0].len() as i64, mask.len() as i64);
        let region = if whole { bounds } else { Rect::new(x % bounds.width, y % bounds.height, w, h).intersect(&bounds) };
        let found = by_tiles(&recipe, &mask, tile, region);
        let of = |mask: &Mask| -> Mask {
            let row = |y: i64| mask[y as usize][region.x as usize..region.right() as usize].to_vec();
            (region.y..region.bottom()).map(row).collect()
        };
        prop_assert_eq!(of(&found), clean(&recipe, &of(&mask)));
    }

    #[test]
    fn rows_give_what_the_definitions_say_of_the_whole(recipe in recipes(), mask in masks()) {
        prop_assert_eq!(clean(&recipe, &mask), plainly(&recipe, &mask));
    }
}

/// A mask, drawn.
fn drawn(text: &str) -> Mask {
    text.split_whitespace()
        .map(|row| row.bytes().map(|b| if b == b'.' { 0 } else { u16::from(b - b'0') }).collect())
        .collect()
}

#[test]
fn a_cleaner_takes_one_mask_after_another() {
    let recipe = Recipe { median: 1, opening: 1, closing: 1, hole_area: 3, min_area: 4, ..Recipe::default() };
    let masks =
        [drawn("11111 11.11 11111 11111 22222 22222 22222"), drawn("..... .111. .111. .111. ....."), drawn("1")];
    let mut cleaner = Cleaner::new(&recipe, 5);
    for mask in [&masks[0], &masks[1], &masks[0]] {
        let mut found = Mask::new();
        mask.iter().for_each(|row| cleaner.push(row.clone(), |row| found.push(row)).unwrap());
        cleaner.finish(|row| found.push(row));
        assert_eq!(found, plainly(&recipe, mask));
    }
    assert_eq!(clean(&recipe, &masks[2]), plainly(&recipe, &masks[2]));
}

#[test]
fn closing_does_not_eat_what_touches_the_edge() {
    let recipe = Recipe { closing: 2, shape: Shape::Square, ..Recipe::default() };
    assert_eq!(clean(&recipe, &drawn("1..1 1..1 1111")), drawn("1111 1111 1111"));
}

#[test]
fn a_hole_is_filled_where_one_class_is_all_around() {
    let recipe = Recipe { hole_area: 2, ..Recipe::default() };
    let before = drawn("1111.1 1..1.1 111111 112222 1.2..2 112222");
    // The first hole lies in class 1, one at the edge is none, one lies between two classes.
    assert_eq!(clean(&recipe, &before), drawn("1111.1 1111.1 111111 112222 1.2222 112222"));
}

#[test]
fn memory_does_not_grow_with_the_height_of_the_mask() {
    let recipe = Recipe { median: 2, opening: 1, closing: 2, hole_area: 9, min_area: 12, ..Recipe::default() };
    let mut cleaner = Cleaner::new(&recipe, 40);
    let (mut most, mut out) = (0, 0);
    // Stripes from top to bottom, which are regions of any height, and noise.
    for y in 0..20_000u64 {
        let noise = |x: u64| (x * 7919 + y).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61 == 0;
        let row = (0..40).map(|x| u16::from((x / 5 % 2 == 0) ^ noise(x))).collect();
        cleaner.push(row, |_| out += 1).unwrap();
        most = most.max(cleaner.rows_held());
    }
    cleaner.finish(|_| out += 1);
    assert_eq!(out, 20_000);
    assert!(most as u64 <= recipe.most_rows(), "{most}");
}

#[test]
fn a_picture_is_no_mask() {
    let recipe = Recipe { opening: 1, nodata: Some(65535), ..Recipe::default() };
    let mut cleaner = Cleaner::new(&recipe, 2000);
    let row: Vec<u16> = (0..2000).map(|x| x * 30).collect();
    let error = cleaner.push(row.clone(), |_| {}).unwrap_err().to_string();
    assert!(error.contains("more than 1024 labels") && error.contains("`classes`"), "{error}");
    let some = Recipe { classes: Some(vec![30, 60]), ..recipe };
    Cleaner::new(&some, 2000).push(row, |_| {}).unwrap();
}

#[test]
fn tiles_that_overlap_are_refused() {
    let axis = Axis { length: 100, tile: 32, overlap: 8, multiple: 1, fixed: false };
    let grid = Grid { x: axis, y: axis };
    let error = Mosaic::new(&Recipe::default(), grid, grid.bounds()).err().unwrap().to_string();
    assert!(error.contains("overlap by 8 pixels") && error.contains("rastersrc overlap=0"), "{error}");
}
