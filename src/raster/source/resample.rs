//! Resampling to another pixel size with the same origin: the average of what a pixel covers where pixels grow, bilinear
//! interpolation where they shrink, each direction by itself. Pixels without data have no part in either.
//!
//! A result depends on its place alone, not on the rectangle that is asked for, so that tiles agree where they overlap.
//!
//! This is GDAL's `average` and `bilinear` and not GDAL's warper itself, because a warped raster knows less than the file:
//! blocks that were never written and places where no file of a mosaic lies come as zeros, to be averaged into their
//! neighbours, and cannot be told from data; a mask of one band cannot be said at all; both directions take the same method, so
//! that an average repeats pixels where one of them shrinks. To warp copies of pixels that are marked instead would hold all
//! pixels of a tile at the file's size, where sums are as large as the tile. Tests compare the two.

use std::ops::Range;

use super::load::Unit;
use crate::raster::Rect;

/// Factors this close to 1 change nothing.
const SAME: f64 = 1e-9;
/// Edges this close together, in pixels, are one.
const EDGE: f64 = 1e-6;

/// One direction.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Direction {
    /// Pixels of the file per pixel.
    factor: f64,
    /// Pixels of the file.
    file: i64,
}

impl Direction {
    fn averages(&self) -> bool {
        self.factor > 1.0 + SAME
    }

    fn interpolates(&self) -> bool {
        self.factor < 1.0 - SAME
    }

    fn length(&self) -> i64 {
        ((self.file as f64 / self.factor - EDGE).ceil() as i64).max(1)
    }

    /// Where pixel `k` lies between two pixels of the file: the first, the second, and the share of the second.
    fn between(&self, k: i64) -> (i64, i64, f32) {
        let centre = (k as f64 + 0.5) * self.factor - 0.5;
        let first = centre.floor();
        let inside = |i: i64| i.clamp(0, self.file - 1);
        (inside(first as i64), inside(first as i64 + 1), (centre - first) as f32)
    }

    /// The pixel of the file that the centre of pixel `k` falls into.
    fn nearest(&self, k: i64) -> i64 {
        (((k as f64 + 0.5) * self.factor).floor() as i64).clamp(0, self.file - 1)
    }

    /// The pixels that pixel `i` of the file is averaged into, with its share in them.
    fn shares(&self, i: i64) -> [(i64, f32); 2] {
        let first = (i as f64 / self.factor).floor();
        let share = ((first + 1.0) * self.factor - i as f64).clamp(0.0, 1.0);
        let first = first as i64;
        [(first, share as f32), (first + 1, (1.0 - share) as f32)]
    }

    /// The pixels of the file that some pixels are made of.
    fn sources(&self, range: &Range<i64>) -> Range<i64> {
        let all = if self.averages() {
            let edge = |k: i64| k as f64 * self.factor;
            (edge(range.start) + EDGE).floor() as i64..(edge(range.end) - EDGE).ceil() as i64
        } else if self.interpolates() {
            self.between(range.start).0..self.between(range.end - 1).1 + 1
        } else {
            range.clone()
        };
        let start = all.start.clamp(0, self.file - 1);
        start..all.end.clamp(start + 1, self.file)
    }
}

/// Both directions; by default, no resampling.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scale(Option<[Direction; 2]>);

impl Scale {
    /// From the size of a raster and the pixels of it, per direction, that make one pixel.
    pub fn new(file: (i64, i64), factors: (f64, f64)) -> Self {
        let direction = |file, factor| Direction { file, factor };
        Scale(Some([direction(file.0, factors.0), direction(file.1, factors.1)]))
    }

    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Size of the whole raster; (0, 0) without resampling.
    pub fn size(&self) -> (i64, i64) {
        self.0.map_or((0, 0), |[x, y]| (x.length(), y.length()))
    }

    pub fn factors(&self) -> (f64, f64) {
        self.0.map_or((1.0, 1.0), |[x, y]| (x.factor, y.factor))
    }

    /// The pixels that a rectangle of the file reaches into.
    pub fn of_file(&self, rect: Rect) -> Rect {
        let Some([x, y]) = self.0 else { return rect };
        let span = |d: Direction, start: i64, end: i64| {
            let at = |v: i64| v as f64 / d.factor;
            ((at(start) + EDGE).floor() as i64, (at(end) - EDGE).ceil() as i64)
        };
        let ((left, right), (top, bottom)) = (span(x, rect.x, rect.right()), span(y, rect.y, rect.bottom()));
        Rect::new(left, top, (right - left).max(1), (bottom - top).max(1))
    }

    /// The pixels of the file that a rectangle is made of.
    pub fn sources(&self, rect: Rect) -> Rect {
        let Some([x, y]) = self.0 else { return rect };
        let (x, y) = (x.sources(&(rect.x..rect.right())), y.sources(&(rect.y..rect.bottom())));
        Rect::new(x.start, y.start, x.end - x.start, y.end - y.start)
    }

    /// Begins to make a rectangle; `None` without resampling.
    pub fn begin(&self, rect: Rect, bands: usize) -> Option<Sums> {
        let [x, y] = self.0?;
        let file = self.sources(rect);
        // Averaged directions are summed up at once; interpolated ones wait for their neighbours.
        let (left, width) = if x.averages() { (rect.x, rect.width) } else { (file.x, file.width) };
        let (top, height) = if y.averages() { (rect.y, rect.height) } else { (file.y, file.height) };
        let held = Rect::new(left, top, width, height);
        let n = held.area() * bands;
        Some(Sums { x, y, rect, held, bands, sum: vec![0.0; n], weight: vec![0.0; n], row: Vec::new() })
    }
}

/// A rectangle that is being made.
pub struct Sums {
    x: Direction,
    y: Direction,
    rect: Rect,
    /// What the planes below hold.
    held: Rect,
    bands: usize,
    sum: Vec<f32>,
    weight: Vec<f32>,
    row: Vec<(f32, f32)>,
}

impl Sums {
    /// Adds what `part` of the file has. Units hold band after band, NaN for no data.
    pub fn add(&mut self, unit: &Unit<f32>, part: Rect) {
        let (width, height) = (self.held.width as usize, self.held.height as usize);
        let (unit_width, unit_area) = (unit.rect.width as usize, unit.rect.area());
        let column = |i: i64| match self.x.averages() {
            true => self.x.shares(i),
            false => [(i, 1.0), (i + 1, 0.0)],
        };
        let columns: Vec<[(i64, f32); 2]> = (part.x..part.right()).map(column).collect();
        let places = self.held.x..self.held.right();
        let low = columns[0][0].0.max(places.start);
        let high = (columns[columns.len() - 1][1].0 + 1).min(places.end);
        for band in 0..self.bands {
            for y in part.y..part.bottom() {
                let start =
                    band * unit_area + (y - unit.rect.y) as usize * unit_width + (part.x - unit.rect.x) as usize;
                self.row.clear();
                self.row.resize((high - low).max(0) as usize, (0.0, 0.0));
                for (v, into) in unit.pixels[start..start + part.width as usize].iter().zip(&columns) {
                    if v.is_nan() {
                        continue;
                    }
                    for (place, share) in into {
                        if *share > 0.0 && (low..high).contains(place) {
                            let (sum, weight) = &mut self.row[(place - low) as usize];
                            *sum += share * v;
                            *weight += share;
                        }
                    }
                }
                let into = if self.y.averages() { self.y.shares(y) } else { [(y, 1.0), (y + 1, 0.0)] };
                for (place, share) in into {
                    let line = place - self.held.y;
                    if share <= 0.0 || !(0..height as i64).contains(&line) {
                        continue;
                    }
                    let at = (band * height + line as usize) * width + (low - self.held.x) as usize;
                    for (k, (sum, weight)) in self.row.iter().enumerate() {
                        self.sum[at + k] += share * sum;
                        self.weight[at + k] += share * weight;
                    }
                }
            }
        }
    }

    /// The rectangle, band after band, NaN for no data.
    pub fn finish(self) -> Vec<f32> {
        let (x, y, rect, held) = (self.x, self.y, self.rect, self.held);
        let (mut sum, mut weight, mut width, mut height) =
            (self.sum, self.weight, held.width as usize, held.height as usize);
        if x.interpolates() {
            let steps = steps(&x, rect.x..rect.right(), held.x);
            (sum, weight) = interpolated(&sum, &weight, self.bands * height, &steps, 1, width);
            width = rect.width as usize;
        }
        if y.interpolates() {
            let steps = steps(&y, rect.y..rect.bottom(), held.y);
            (sum, weight) = interpolated(&sum, &weight, self.bands, &steps, width, height * width);
            height = rect.height as usize;
        }
        debug_assert_eq!((width, height), (rect.width as usize, rect.height as usize));
        // A sliver of a pixel says nothing of it.
        sum.iter().zip(&weight).map(|(s, w)| if *w > 1e-4 { s / w } else { f32::NAN }).collect()
    }
}

/// First, second, share of the second, nearest, all from where the held pixels begin.
type Step = (usize, usize, f32, usize);

fn steps(direction: &Direction, range: Range<i64>, origin: i64) -> Vec<Step> {
    let step = |k: i64| {
        let (first, second, share) = direction.between(k);
        let at = |i: i64| (i - origin) as usize;
        (at(first), at(second), share, at(direction.nearest(k)))
    };
    range.map(step).collect()
}

/// Interpolates along one direction. `groups` times `steps` results, each of `run` neighbouring numbers; a group takes `from`
/// numbers of the input.
fn interpolated(
    sum: &[f32],
    weight: &[f32],
    groups: usize,
    steps: &[Step],
    run: usize,
    from: usize,
) -> (Vec<f32>, Vec<f32>) {
    let mut sums = Vec::with_capacity(groups * steps.len() * run);
    let mut weights = Vec::with_capacity(groups * steps.len() * run);
    for group in 0..groups {
        let at = |k: usize, n: usize| group * from + k * run + n;
        for (first, second, share, nearest) in steps {
            for n in 0..run {
                // Data does not grow into what has none.
                let there = weight[at(*nearest, n)] > 0.0;
                let mix = |v: &[f32]| v[at(*first, n)] * (1.0 - share) + v[at(*second, n)] * share;
                sums.push(if there { mix(sum) } else { 0.0 });
                weights.push(if there { mix(weight) } else { 0.0 });
            }
        }
    }
    (sums, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(rect: Rect, value: impl Fn(i64, i64) -> f32) -> Unit<f32> {
        let pixels = (rect.y..rect.bottom()).flat_map(|y| (rect.x..rect.right()).map(move |x| (x, y)));
        Unit { rect, pixels: pixels.map(|(x, y)| value(x, y)).collect(), valid: None }
    }

    fn value(x: i64, y: i64) -> f32 {
        if (x * 7 + y * 3) % 11 == 0 { f32::NAN } else { ((x * 13 + y * 29) % 97) as f32 }
    }

    /// A raster that is cut into units at odd lines.
    fn made(scale: &Scale, file: (i64, i64), rect: Rect) -> Vec<f32> {
        let mut sums = scale.begin(rect, 1).unwrap();
        let needed = scale.sources(rect);
        for y in (0..file.1).step_by(5) {
            for x in (0..file.0).step_by(7) {
                let whole = Rect::new(x, y, 7, 5).intersect(&Rect::new(0, 0, file.0, file.1));
                let part = whole.intersect(&needed);
                if !part.is_empty() {
                    sums.add(&unit(whole, value), part);
                }
            }
        }
        sums.finish()
    }

    #[test]
    fn averages_are_means_of_what_a_pixel_covers() {
        let file = (23, 17);
        let (fx, fy) = (2.7, 3.3);
        let scale = Scale::new(file, (fx, fy));
        assert_eq!(scale.size(), (9, 6));
        let found = made(&scale, file, Rect::new(0, 0, 9, 6));
        for y in 0..6i64 {
            for x in 0..9i64 {
                let (mut sum, mut weight) = (0.0f64, 0.0f64);
                for i in 0..file.0 {
                    for j in 0..file.1 {
                        let cover = |k: i64, f: f64, i: i64| {
                            ((i + 1) as f64).min((k + 1) as f64 * f) - (i as f64).max(k as f64 * f)
                        };
                        let w = cover(x, fx, i).max(0.0) * cover(y, fy, j).max(0.0);
                        if w > 0.0 && !value(i, j).is_nan() {
                            sum += w * value(i, j) as f64;
                            weight += w;
                        }
                    }
                }
                let at = found[(y * 9 + x) as usize] as f64;
                assert!((at - sum / weight).abs() < 1e-4, "{x},{y}: {at} is not {}", sum / weight);
            }
        }
    }

    #[test]
    fn interpolation_leaves_planes_planes() {
        let file = (12, 9);
        let scale = Scale::new(file, (0.4, 0.3));
        let (width, height) = scale.size();
        assert_eq!((width, height), (30, 30));
        let rect = Rect::new(0, 0, width, height);
        let mut sums = scale.begin(rect, 1).unwrap();
        let whole = Rect::new(0, 0, file.0, file.1);
        sums.add(&unit(whole, |x, y| 3.0 * x as f32 + 5.0 * y as f32), whole);
        let found = sums.finish();
        for y in 0..height {
            for x in 0..width {
                let centre = |k: i64, f: f64, n: i64| ((k as f64 + 0.5) * f - 0.5).clamp(0.0, (n - 1) as f64);
                let expected = 3.0 * centre(x, 0.4, file.0) + 5.0 * centre(y, 0.3, file.1);
                assert!((found[(y * width + x) as usize] as f64 - expected).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn data_does_not_grow_into_what_has_none() {
        let file = (6, 1);
        let scale = Scale::new(file, (0.25, 1.0));
        let mut sums = scale.begin(Rect::new(0, 0, 24, 1), 1).unwrap();
        let whole = Rect::new(0, 0, 6, 1);
        sums.add(&unit(whole, |x, _| if x < 3 { 8.0 } else { f32::NAN }), whole);
        let found = sums.finish();
        assert!(found[..12].iter().all(|v| *v == 8.0), "{found:?}");
        assert!(found[12..].iter().all(|v| v.is_nan()), "{found:?}");
    }

    #[test]
    fn a_part_equals_the_whole() {
        let file = (41, 31);
        for factors in [(2.7, 1.9), (0.6, 0.35), (1.8, 0.7), (0.7, 2.2), (1.0, 3.0), (0.3, 1.0)] {
            let scale = Scale::new(file, factors);
            let (width, height) = scale.size();
            let whole = made(&scale, file, Rect::new(0, 0, width, height));
            let part = Rect::new(width / 3, height / 4, width / 2, height / 2);
            let found = made(&scale, file, part);
            for y in 0..part.height {
                for x in 0..part.width {
                    let of_whole = whole[((part.y + y) * width + part.x + x) as usize];
                    assert_eq!(
                        found[(y * part.width + x) as usize].to_bits(),
                        of_whole.to_bits(),
                        "{factors:?} {x} {y}"
                    );
                }
            }
        }
    }

    #[test]
    fn windows_of_the_file() {
        let scale = Scale::new((100, 100), (2.5, 0.5));
        assert_eq!(scale.size(), (40, 200));
        assert_eq!(scale.of_file(Rect::new(0, 0, 100, 100)), Rect::new(0, 0, 40, 200));
        assert_eq!(scale.of_file(Rect::new(5, 10, 5, 1)), Rect::new(2, 20, 2, 2));
        assert_eq!(scale.of_file(Rect::new(6, 0, 1, 1)), Rect::new(2, 0, 1, 2));
    }
}
