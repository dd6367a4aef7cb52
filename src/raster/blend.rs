//! How overlapping tiles become one picture: the window functions, and an accumulator that holds nothing but the
//! strips where tiles overlap.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use multiversion::multiversion;

use super::error::{Error, Result};
use super::grid::{Axis, Grid, Rect};

/// How much a tile counts where it overlaps its neighbours. Every pixel becomes Σwp / Σw over the tiles that reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Blend {
    /// Every pixel from the one tile whose core it lies in.
    Crop,
    /// w rises and falls in a straight line over the overlap, and sums to 1.
    #[default]
    Linear,
    /// w rises and falls as sin² over the overlap, and sums to 1.
    Hann,
    /// MONAI's `gaussian`: σ = T/8 around the tile's middle, the product over both axes not below 1e-3.
    Gaussian,
    /// nnU-Net's: σ = T/8 around the pixel T//2.
    GaussianNnunet,
}

impl Blend {
    /// What users call them.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("crop", Blend::Crop),
        ("linear", Blend::Linear),
        ("hann", Blend::Hann),
        ("gaussian", Blend::Gaussian),
        ("gaussian-nnunet", Blend::GaussianNnunet),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, blend)| *blend == self).map_or("linear", |(name, _)| name)
    }

    /// The window of a `width` × `height` tile, row by row, for tiles that overlap by `overlap` (in x, in y). A tile
    /// that is cut at the raster's end uses the window's beginning.
    pub fn window(self, width: i64, height: i64, overlap: (i64, i64)) -> Vec<f32> {
        let (x, y) = (self.profile(width, overlap.0), self.profile(height, overlap.1));
        let floor = self.floor();
        y.iter().flat_map(|y| x.iter().map(move |x| (x * y).max(floor))).collect()
    }

    /// The window along one axis; the window of a tile is the product of both, not below [`Blend::floor`].
    fn profile(self, tile: i64, overlap: i64) -> Vec<f32> {
        let (t, o, halo) = (tile as f64, overlap as f64, overlap / 2);
        let rise = |i: f64| if overlap == 0 { 1.0 } else { ((i + 0.5) / o).min((t - i - 0.5) / o).min(1.0) };
        let bell = |distance: f64| (-0.5 * (distance / (t / 8.0)).powi(2)).exp();
        let weight = |i: i64| match self {
            Blend::Crop => f64::from((halo..tile - halo).contains(&i)),
            Blend::Linear => rise(i as f64),
            Blend::Hann => (rise(i as f64) * std::f64::consts::FRAC_PI_2).sin().powi(2),
            Blend::Gaussian => bell(i as f64 - (t - 1.0) / 2.0),
            // nnU-Net filters a single 1 and divides by the maximum. Its filter ends 4σ = T/2 from the middle, which
            // is the tile's end or beyond, so that this is all of it and there are no zeros to raise.
            Blend::GaussianNnunet => bell((i - tile / 2) as f64),
        };
        (0..tile).map(|i| weight(i) as f32).collect()
    }

    /// The least that a tile counts.
    fn floor(self) -> f32 {
        if self == Blend::Gaussian { 1e-3 } else { 0.0 }
    }
}

impl FromStr for Blend {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, blend)| *blend).ok_or_else(|| {
            let names: Vec<_> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            Error::setting("blend", text, format!("use one of {}", names.join(", ")))
        })
    }
}

/// Planes of scores with room between rows and between bands: `data[band * plane + y * row + x]`.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    pub data: &'a [f32],
    /// Floats from a row to the next.
    pub row: usize,
    /// Floats from a band to the next.
    pub plane: usize,
}

impl<'a> Planes<'a> {
    /// The first `width` numbers of a row.
    pub fn row(&self, band: usize, y: usize, width: usize) -> &'a [f32] {
        let at = band * self.plane + y * self.row;
        &self.data[at..at + width]
    }
}

/// A finished rectangle of the mosaic.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Where it lies, inside the raster.
    pub rect: Rect,
    /// `None` = no data in the whole piece; NaN = no data in a pixel.
    pub scores: Option<Planes<'a>>,
}

/// A stretch of an axis that is reached by the same tiles throughout: one, or a tile and the one before it.
#[derive(Debug, Clone)]
struct Zone {
    /// 2k where only tile k reaches, 2k − 1 where tiles k − 1 and k do.
    number: i64,
    pixels: Range<i64>,
}

impl Zone {
    fn tiles(&self) -> Range<i64> {
        self.number / 2..(self.number + 1) / 2 + 1
    }
}

/// The zones that tile `k` reaches, in order.
fn zones(axis: &Axis, k: i64, blend: Blend) -> impl Iterator<Item = Zone> + use<> {
    let (axis, last) = (*axis, axis.count() - 1);
    // An overlap is at most half a tile, so that no pixel is reached by three tiles of an axis.
    let halo = if blend == Blend::Crop { 0 } else { axis.halo() };
    (2 * k - 1..=2 * k + 1).filter_map(move |number| {
        let (first, second) = (number.div_euclid(2), (number + 1).div_euclid(2));
        let at = |k: i64, halo: i64| if k == 0 { 0 } else { (k * axis.step() + halo).min(axis.length) };
        let pixels = if first == second {
            at(first, halo)..if first == last { axis.length } else { at(first + 1, -halo) }
        } else {
            at(second, -halo)..at(second, halo)
        };
        (first >= 0 && second <= last && !pixels.is_empty()).then_some(Zone { number, pixels })
    })
}

/// A piece that still waits for tiles.
#[derive(Debug)]
struct Held {
    /// Σwp of the tiles so far, `bands × height × width`; `None` once a tile had no data.
    sum: Option<Vec<f32>>,
    waits_for: usize,
}

/// Blends tiles and gives away what is finished. It holds only pieces that more than one tile reaches and whose tiles
/// have not all come: memory grows with the mosaic's width × overlap.
///
/// A piece's pixels are added in the order of its tiles, whichever part of the mosaic is computed, and pixels that only
/// one tile reaches are passed on untouched: the same pixels come out however the work is cut.
pub struct Blender {
    grid: Grid,
    blend: Blend,
    bands: usize,
    wanted: Box<dyn Fn(&Rect) -> bool + Send>,
    x: Vec<f32>,
    y: Vec<f32>,
    /// By zone in y and zone in x.
    held: BTreeMap<(i64, i64), Held>,
    /// Σw of a row.
    weights: Vec<f32>,
}

impl Blender {
    /// Pieces for which `wanted` is false are neither held nor given away.
    pub fn new(grid: Grid, blend: Blend, bands: usize, wanted: impl Fn(&Rect) -> bool + Send + 'static) -> Self {
        Blender {
            grid,
            blend,
            bands,
            wanted: Box::new(wanted),
            x: blend.profile(grid.x.tile, grid.x.overlap),
            y: blend.profile(grid.y.tile, grid.y.overlap),
            held: BTreeMap::new(),
            weights: Vec::new(),
        }
    }

    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    pub fn bands(&self) -> usize {
        self.bands
    }

    /// Number of floats in memory for pieces that wait for more tiles.
    pub fn held(&self) -> usize {
        self.held.values().filter_map(|held| held.sum.as_ref()).map(Vec::len).sum()
    }

    /// Whether no piece waits for more tiles.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Forgets the pieces that wait for more tiles.
    pub fn clear(&mut self) {
        self.held.clear();
    }

    /// Takes tile `index` with its scores (`bands × height × width` of the tile's area; `None` for a tile without data)
    /// and calls `done` for every piece that this tile completes, row by row.
    ///
    /// Tiles come in ascending order, each once. NaN is a pixel without data and stays so. A tile without data has none
    /// in the raster there, so that what its neighbours say of the same pixels does not count.
    ///
    /// # Errors
    /// The first of `done`, after which this blender is of no more use.
    ///
    /// # Panics
    /// When `scores` has another length than the tile's area and bands say.
    pub fn add<E>(
        &mut self,
        index: usize,
        scores: Option<&[f32]>,
        mut done: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let tile = self.grid.tile(index).area;
        let (row, plane) = (tile.width as usize, tile.area());
        if let Some(scores) = scores {
            assert_eq!(scores.len(), self.bands * plane, "scores of tile {index}");
        }
        let (column, line) = self.grid.place(index);
        for zone_y in zones(&self.grid.y, line, self.blend) {
            for zone_x in zones(&self.grid.x, column, self.blend) {
                let (x, y) = (zone_x.pixels.clone(), zone_y.pixels.clone());
                let rect = Rect::new(x.start, y.start, x.end - x.start, y.end - y.start);
                if !(self.wanted)(&rect) {
                    continue;
                }
                let from = rect.relative_to(tile.x, tile.y);
                let scores =
                    scores.map(|data| Planes { data: &data[from.y as usize * row + from.x as usize..], row, plane });
                let count = zone_x.tiles().count() * zone_y.tiles().count();
                if count == 1 {
                    done(Piece { rect, scores })?;
                    continue;
                }
                let key = (zone_y.number, zone_x.number);
                match self.held.get_mut(&key) {
                    None => {
                        let sum = scores.map(|scores| self.begin(&from, scores));
                        self.held.insert(key, Held { sum, waits_for: count - 1 });
                    }
                    Some(held) => {
                        held.waits_for -= 1;
                        match (&mut held.sum, scores) {
                            (Some(sum), Some(scores)) => {
                                let (window_x, window_y, floor) = (&self.x, &self.y, self.blend.floor());
                                each_row(&from, self.bands, scores, window_y, |at, p, y| {
                                    add(&mut sum[at], p, &window_x[from.x as usize..], y, floor);
                                });
                            }
                            (sum, _) => *sum = None,
                        }
                        if held.waits_for == 0 {
                            let sum = self.held.remove(&key).and_then(|held| held.sum);
                            let scores = sum.map(|mut sum| {
                                self.divide(&zone_x, &zone_y, &mut sum);
                                sum
                            });
                            let (row, plane) = (rect.width as usize, rect.area());
                            let scores = scores.as_ref().map(|data| Planes { data, row, plane });
                            done(Piece { rect, scores })?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// w·p of a piece's first tile. `from` is the piece as seen from the tile.
    fn begin(&self, from: &Rect, scores: Planes<'_>) -> Vec<f32> {
        let mut sum = vec![0.0; self.bands * from.area()];
        each_row(from, self.bands, scores, &self.y, |at, p, y| {
            set(&mut sum[at], p, &self.x[from.x as usize..], y, self.blend.floor());
        });
        sum
    }

    /// Σwp to Σwp / Σw.
    fn divide(&mut self, zone_x: &Zone, zone_y: &Zone, sum: &mut [f32]) {
        let (width, height) = (zone_x.pixels.clone().count(), zone_y.pixels.clone().count());
        for y in 0..height {
            self.weights.clear();
            self.weights.resize(width, 0.0);
            for line in zone_y.tiles() {
                let weight = self.y[(zone_y.pixels.start - self.grid.y.tile(line).start) as usize + y];
                for column in zone_x.tiles() {
                    let at = (zone_x.pixels.start - self.grid.x.tile(column).start) as usize;
                    weigh(&mut self.weights, &self.x[at..at + width], weight, self.blend.floor());
                }
            }
            for plane in sum.chunks_exact_mut(width * height) {
                divide(&mut plane[y * width..(y + 1) * width], &self.weights);
            }
        }
    }
}

/// Calls `f` with each row of a piece: where it lies in the piece's sums, its scores, and the window in y.
fn each_row(
    from: &Rect,
    bands: usize,
    scores: Planes<'_>,
    window: &[f32],
    mut f: impl FnMut(Range<usize>, &[f32], f32),
) {
    let (width, height) = (from.width as usize, from.height as usize);
    for band in 0..bands {
        for y in 0..height {
            let at = (band * height + y) * width;
            f(at..at + width, scores.row(band, y, width), window[from.y as usize + y]);
        }
    }
}

/// sum = w·p with w = max(x·y, floor)
#[multiversion(targets("x86_64+avx2+fma"))]
fn set(sum: &mut [f32], p: &[f32], x: &[f32], y: f32, floor: f32) {
    for ((s, p), x) in sum.iter_mut().zip(p).zip(x) {
        *s = (x * y).max(floor) * p;
    }
}

/// sum += w·p with w = max(x·y, floor)
#[multiversion(targets("x86_64+avx2+fma"))]
fn add(sum: &mut [f32], p: &[f32], x: &[f32], y: f32, floor: f32) {
    for ((s, p), x) in sum.iter_mut().zip(p).zip(x) {
        *s += (x * y).max(floor) * p;
    }
}

/// sum += w with w = max(x·y, floor)
#[multiversion(targets("x86_64+avx2+fma"))]
fn weigh(sum: &mut [f32], x: &[f32], y: f32, floor: f32) {
    for (s, x) in sum.iter_mut().zip(x) {
        *s += (x * y).max(floor);
    }
}

/// v /= by
#[multiversion(targets("x86_64+avx2+fma"))]
fn divide(v: &mut [f32], by: &[f32]) {
    for (v, by) in v.iter_mut().zip(by) {
        *v /= by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grids() -> impl Strategy<Value = Grid> {
        let axis = |longest: i64| {
            (1..=longest, 1i64..9, 0i64..5).prop_map(|(length, tile, overlap)| (length, 4 * tile, overlap))
        };
        (axis(150), axis(110), 1i64..4, any::<bool>()).prop_map(|(x, y, m, fixed)| {
            let axis = |(length, tile, overlap): (i64, i64, i64)| {
                let overlap = (2 * m * overlap).min(tile * m / 2 / (2 * m) * (2 * m));
                Axis { length, tile: tile * m, overlap, multiple: m, fixed }
            };
            Grid { x: axis(x), y: axis(y) }
        })
    }

    fn blends() -> impl Strategy<Value = Blend> {
        (0..Blend::NAMES.len()).prop_map(|k| Blend::NAMES[k].1)
    }

    /// A score that no other tile, band or pixel has, and NaN or a tile without data here and there: by pixel of the
    /// mosaic, so that tiles agree.
    struct Scores {
        seed: u64,
        /// Pixels without data, of the mosaic.
        empty: Option<Rect>,
    }

    impl Scores {
        fn at(&self, tile: usize, band: usize, x: i64, y: i64) -> f32 {
            if self.empty.is_some_and(|r| r.contains(&Rect::new(x, y, 1, 1))) {
                return f32::NAN;
            }
            let mut h =
                self.seed ^ (tile as u64) << 40 ^ (band as u64) << 32 ^ (x as u64 & 0xffff) << 16 ^ (y as u64 & 0xffff);
            h = (h ^ h >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            h = (h ^ h >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (h >> 40) as f32 / (1u64 << 24) as f32
        }

        /// `None` where the tile has no data inside the mosaic.
        fn tile(&self, grid: &Grid, index: usize, bands: usize) -> Option<Vec<f32>> {
            let area = grid.tile(index).area;
            if self.empty.is_some_and(|empty| empty.contains(&area.intersect(&grid.bounds()))) {
                return None;
            }
            let mut scores = Vec::new();
            for band in 0..bands {
                for y in area.y..area.bottom() {
                    scores.extend((area.x..area.right()).map(|x| self.at(index, band, x, y)));
                }
            }
            Some(scores)
        }
    }

    /// The whole mosaic, `bands × height × width`, pixels that never came as infinity, and the most floats held.
    fn mosaic(
        grid: Grid,
        blend: Blend,
        bands: usize,
        scores: &Scores,
        tiles: impl IntoIterator<Item = usize>,
        wanted: impl Fn(&Rect) -> bool + Send + 'static,
    ) -> (Vec<f32>, usize) {
        let (width, area) = (grid.x.length as usize, grid.bounds().area());
        let mut mosaic = vec![f32::INFINITY; bands * area];
        let mut blender = Blender::new(grid, blend, bands, wanted);
        let mut most = 0;
        for index in tiles {
            let scores = scores.tile(&grid, index, bands);
            let put = |piece: Piece<'_>| -> Result<(), ()> {
                assert!(!piece.rect.is_empty() && grid.bounds().contains(&piece.rect));
                let (w, h) = (piece.rect.width as usize, piece.rect.height as usize);
                for band in 0..bands {
                    for y in 0..h {
                        let at = band * area + (piece.rect.y as usize + y) * width + piece.rect.x as usize;
                        let to = &mut mosaic[at..at + w];
                        assert!(to.iter().all(|v| *v == f32::INFINITY), "a pixel came twice");
                        match piece.scores {
                            Some(planes) => to.copy_from_slice(planes.row(band, y, w)),
                            None => to.fill(f32::NAN),
                        }
                    }
                }
                Ok(())
            };
            blender.add(index, scores.as_deref(), put).unwrap();
            most = most.max(blender.held());
        }
        (mosaic, most)
    }

    /// Σwp / Σw over all tiles that have the pixel, by definition and in f64.
    fn naive(grid: &Grid, (blend, window): (Blend, &[f32]), scores: &Scores, (band, x, y): (usize, i64, i64)) -> f64 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for index in 0..grid.count() {
            let tile = grid.tile(index);
            let reaches = if blend == Blend::Crop { tile.core } else { tile.area };
            if reaches.contains(&Rect::new(x, y, 1, 1)) {
                let w = window[((y - tile.area.y) * grid.x.tile + x - tile.area.x) as usize] as f64;
                sum += w * scores.at(index, band, x, y) as f64;
                weights += w;
            }
        }
        sum / weights
    }

    fn same(found: f32, expected: f64) -> bool {
        found.is_nan() && expected.is_nan() || (found as f64 - expected).abs() < 1e-5
    }

    proptest! {
        #[test]
        fn the_blended_mosaic_is_the_weighted_mean_of_all_tiles(
            grid in grids(), blend in blends(), bands in 1usize..4, seed in any::<u64>(),
            empty in prop::option::of((0i64..150, 0i64..110, 1i64..150, 1i64..110)),
        ) {
            let empty = empty.map(|(x, y, w, h)| Rect::new(x, y, w, h));
            let scores = Scores { seed, empty };
            let (mosaic, _) = mosaic(grid, blend, bands, &scores, 0..grid.count(), |_| true);
            let (width, area) = (grid.x.length as usize, grid.bounds().area());
            let window = blend.window(grid.x.tile, grid.y.tile, (grid.x.overlap, grid.y.overlap));
            // The pixels around zones' ends, and every seventh.
            for at in (0..area).filter(|at| at % 7 == 0 || at % width % 4 == 0) {
                let (x, y) = ((at % width) as i64, (at / width) as i64);
                for band in 0..bands {
                    let expected = naive(&grid, (blend, &window), &scores, (band, x, y));
                    prop_assert!(same(mosaic[band * area + at], expected), "({x}, {y}): {} {expected}", mosaic[at]);
                }
            }
        }

        #[test]
        fn a_part_is_bit_by_bit_what_the_whole_has_there(
            grid in grids(), blend in blends(), seed in any::<u64>(),
            x in 0i64..150, y in 0i64..110, w in 1i64..150, h in 1i64..110,
        ) {
            let part = Rect::new(x, y, w, h).intersect(&grid.bounds());
            prop_assume!(!part.is_empty());
            let scores = Scores { seed, empty: None };
            let (whole, _) = mosaic(grid, blend, 2, &scores, 0..grid.count(), |_| true);
            let tiles = grid.touching([part], blend == Blend::Crop);
            let (found, _) = mosaic(grid, blend, 2, &scores, tiles, move |rect| rect.touches(&part));
            let (width, area) = (grid.x.length as usize, grid.bounds().area());
            for at in 0..area {
                let pixel = Rect::new((at % width) as i64, (at / width) as i64, 1, 1);
                for band in [0, area] {
                    let (found, whole) = (found[band + at].to_bits(), whole[band + at].to_bits());
                    prop_assert!(found == whole || !part.contains(&pixel) && found == f32::INFINITY.to_bits());
                }
            }
        }

        #[test]
        fn only_strips_are_held(grid in grids(), blend in blends(), bands in 1usize..3) {
            let scores = Scores { seed: 1, empty: None };
            let mut blender = Blender::new(grid, blend, bands, |_| true);
            for index in 0..grid.count() {
                let tile = scores.tile(&grid, index, bands);
                blender.add(index, tile.as_deref(), |_| Ok::<_, ()>(())).unwrap();
                // The strip along the lower ends of this line of tiles and the rest of the one above, and one column.
                let strips = 2 * grid.x.length * grid.y.overlap + grid.x.overlap * grid.y.tile;
                let most = if blend == Blend::Crop { 0 } else { bands * strips as usize };
                prop_assert!(blender.held() <= most, "{} {most}", blender.held());
            }
            prop_assert!(blender.is_empty() && blender.held() == 0);
        }
    }

    #[test]
    fn linear_and_hann_sum_to_1_on_the_grid() {
        for (t, o) in [(1024, 64), (64, 32), (20, 6), (16, 2), (8, 0)] {
            for blend in [Blend::Linear, Blend::Hann] {
                let window = blend.window(t, 1, (o, 0));
                let s = (t - o) as usize;
                let mut sum = vec![0.0; 3 * s + o as usize];
                for k in 0..3 {
                    window.iter().zip(&mut sum[k * s..]).for_each(|(w, sum)| *sum += w);
                }
                let inner = &sum[o as usize..3 * s];
                assert!(inner.iter().all(|sum| (sum - 1.0).abs() < 1e-6), "{blend:?} {t} {o}: {inner:?}");
                assert!(window.iter().all(|w| *w > 0.0));
            }
        }
    }

    #[test]
    fn crop_is_the_cores_exactly() {
        let axis = |length| Axis { length, tile: 16, overlap: 4, multiple: 2, fixed: false };
        let grid = Grid { x: axis(53), y: axis(31) };
        let scores = Scores { seed: 3, empty: None };
        let (mosaic, held) = mosaic(grid, Blend::Crop, 1, &scores, 0..grid.count(), |_| true);
        assert_eq!(held, 0);
        for index in 0..grid.count() {
            let core = grid.tile(index).core;
            for y in core.y..core.bottom() {
                for x in core.x..core.right() {
                    assert_eq!(mosaic[(y * 53 + x) as usize].to_bits(), scores.at(index, 0, x, y).to_bits());
                }
            }
        }
    }

    #[test]
    fn pixels_of_one_tile_pass_untouched_and_uncopied() {
        let axis = |length| Axis { length, tile: 16, overlap: 4, multiple: 1, fixed: false };
        let grid = Grid { x: axis(40), y: axis(12) };
        let scores = Scores { seed: 3, empty: None }.tile(&grid, 1, 2).unwrap();
        let mut seen = Vec::new();
        let mut blender = Blender::new(grid, Blend::Hann, 2, |_| true);
        let look = |piece: Piece<'_>| {
            let planes = piece.scores.unwrap();
            assert!(scores.as_ptr_range().contains(&planes.data.as_ptr()));
            // Tile 1 begins at (10, -2).
            let row = planes.row(1, 3, piece.rect.width as usize);
            let at = (16 + 5) * 16 + (piece.rect.x - 10) as usize;
            assert_eq!(row, &scores[at..at + row.len()]);
            seen.push(piece.rect);
            Ok::<_, ()>(())
        };
        blender.add(1, Some(&scores), look).unwrap();
        assert_eq!(seen, [Rect::new(14, 0, 8, 12)]);
        assert_eq!(blender.held(), 2 * (4 * 12 + 4 * 12));
        blender.clear();
        assert!(blender.is_empty());
    }

    #[test]
    fn a_failure_of_the_receiver_comes_back() {
        let axis = Axis { length: 8, tile: 8, overlap: 0, multiple: 1, fixed: false };
        let mut blender = Blender::new(Grid { x: axis, y: axis }, Blend::Linear, 1, |_| true);
        assert_eq!(
            blender.add(0, None, |piece| if piece.scores.is_none() { Err("full") } else { Ok(()) }),
            Err("full")
        );
    }

    /// Values printed by MONAI 1.6.1's `compute_importance_map` and by nnU-Net 2.8.1's `compute_gaussian` in float32.
    #[test]
    fn windows_of_monai_and_nnunet() {
        // width, height, (x, y, gaussian, gaussian-nnunet)…, the sums of both maps
        type Window = (i64, i64, &'static [(i64, i64, f32, f32)], f64, f64);
        let windows: [Window; 4] = [
            (
                48,
                64,
                &[
                    (0, 0, 0.001, 1.125_351_76e-7),
                    (24, 32, 0.994_589_3, 1.0),
                    (12, 21, 0.067_331_06, 0.052_585_624),
                    (47, 63, 0.001, 3.536_229e-7),
                    (24, 0, 0.001, 0.000_335_462_62),
                ],
                302.279_727_222_863_6,
                301.553_526_377_504_7,
            ),
            (
                8,
                5,
                &[(4, 2, 0.882_496_9, 1.0), (2, 1, 0.090_265_5, 0.037_628_256), (4, 0, 0.005_273_822, 0.005_976_022_7)],
                3.938_798_055_418_455_6,
                3.929_922_194_224_673,
            ),
            (2, 1, &[(0, 0, 0.135_335_28, 0.000_335_462_62), (1, 0, 0.135_335_28, 1.0)], 0.270_670_57, 1.000_335_46),
            (
                1024,
                1024,
                &[
                    (512, 512, 0.999_984_74, 1.0),
                    (256, 341, 0.056_171_335, 0.055_444_96),
                    (1023, 1023, 0.001, 1.197_857_5e-7),
                ],
                103_178.233_330_733_6,
                102_930.665_949_436_74,
            ),
        ];
        for (width, height, points, monai, nnunet) in windows {
            let maps = [Blend::Gaussian, Blend::GaussianNnunet].map(|blend| blend.window(width, height, (0, 0)));
            for (x, y, monai, nnunet) in points {
                let at = (y * width + x) as usize;
                for (found, expected) in [(maps[0][at], *monai), (maps[1][at], *nnunet)] {
                    assert!(
                        (found - expected).abs() <= 1e-6 * expected,
                        "{width}x{height} ({x}, {y}): {found} {expected}"
                    );
                }
            }
            for (map, expected) in maps.iter().zip([monai, nnunet]) {
                let sum: f64 = map.iter().map(|w| *w as f64).sum();
                assert!((sum / expected - 1.0).abs() < 1e-6, "{width}x{height}: {sum} {expected}");
            }
        }
    }

    #[test]
    fn names() {
        for (name, blend) in Blend::NAMES {
            assert_eq!((name.parse::<Blend>().unwrap(), blend.name()), (*blend, *name));
        }
        let error = "cosine".parse::<Blend>().unwrap_err().to_string();
        assert!(error.contains("blend=cosine") && error.contains("gaussian-nnunet"), "{error}");
    }
}
