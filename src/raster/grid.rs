//! The tile grid and the part lattice. Both begin at the raster's pixel (0, 0), whatever region is processed, so that
//! a pixel is computed from the same tiles however the work is cut.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::share::Share;

/// Tile side where neither user nor model names one, in pixels.
pub const TILE: i64 = 1024;
/// Overlap of neighbouring tiles where neither user nor model names one, in pixels.
pub const OVERLAP: i64 = 64;

/// Which of `n` pixels is seen at `i`, where what lies beyond them is reflected: numpy's `reflect`, folded as often as
/// needed; a single pixel repeats.
pub fn reflect(i: i64, n: i64) -> i64 {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n - 1);
    let i = i.rem_euclid(period);
    i.min(period - i)
}

/// A rectangle of pixels. It may reach beyond the raster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Rect {
    pub x: i64,
    pub y: i64,
    pub width: i64,
    pub height: i64,
}

impl Rect {
    pub const fn new(x: i64, y: i64, width: i64, height: i64) -> Self {
        Rect { x, y, width, height }
    }

    /// The first column beyond it.
    pub fn right(&self) -> i64 {
        self.x + self.width
    }

    /// The first row beyond it.
    pub fn bottom(&self) -> i64 {
        self.y + self.height
    }

    pub fn is_empty(&self) -> bool {
        self.width <= 0 || self.height <= 0
    }

    /// Number of pixels.
    pub fn area(&self) -> usize {
        if self.is_empty() { 0 } else { (self.width * self.height) as usize }
    }

    /// What both have in common; empty where they have nothing.
    pub fn intersect(&self, other: &Rect) -> Rect {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        let (right, bottom) = (self.right().min(other.right()), self.bottom().min(other.bottom()));
        Rect::new(x, y, (right - x).max(0), (bottom - y).max(0))
    }

    pub fn touches(&self, other: &Rect) -> bool {
        !self.intersect(other).is_empty()
    }

    pub fn contains(&self, other: &Rect) -> bool {
        self.intersect(other) == *other
    }

    /// The same rectangle, seen from another origin.
    pub fn relative_to(&self, x: i64, y: i64) -> Rect {
        Rect::new(self.x - x, self.y - y, self.width, self.height)
    }
}

/// One direction of a grid: tile k covers [kS − h, kS − h + T) with core [kS, (k+1)S), where T is the tile, o the
/// overlap, S = T − o and h = o/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// Pixels of the raster.
    pub length: i64,
    pub tile: i64,
    /// Even, and at most half a tile.
    pub overlap: i64,
    /// Sides of tiles are multiples of this.
    pub multiple: i64,
    /// Whether the last tile is as large as the others, and padded; else it ends soon after the raster.
    pub fixed: bool,
}

impl Axis {
    /// S, from one core to the next.
    pub fn step(&self) -> i64 {
        self.tile - self.overlap
    }

    /// h, the width of the halo around a core.
    pub fn halo(&self) -> i64 {
        self.overlap / 2
    }

    /// Number of tiles.
    pub fn count(&self) -> i64 {
        (self.length + self.step() - 1) / self.step()
    }

    /// The pixels of a tile, halo included: they may begin before the raster and end after it.
    pub fn tile(&self, k: i64) -> Range<i64> {
        let start = k * self.step() - self.halo();
        let to_end = self.length + self.halo() - start;
        let cut = (to_end + self.multiple - 1) / self.multiple * self.multiple;
        start..start + if self.fixed { self.tile } else { self.tile.min(cut) }
    }

    /// The pixels that are a tile's own.
    pub fn core(&self, k: i64) -> Range<i64> {
        k * self.step()..((k + 1) * self.step()).min(self.length)
    }

    /// The tiles that reach into `range`, by their whole extent or by their cores alone.
    pub fn touching(&self, range: Range<i64>, cores: bool) -> Range<i64> {
        let (step, halo) = (self.step(), if cores { 0 } else { self.halo() });
        let last = self.count();
        let first = (range.start - halo).max(0) / step;
        let end = (range.end + halo + step - 1) / step;
        first.min(last)..end.min(last)
    }
}

/// The tiles of a raster, numbered row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    pub x: Axis,
    pub y: Axis,
}

/// One tile of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Row by row from 0.
    pub index: usize,
    /// The tile's pixels, halo included: they may reach beyond the raster.
    pub area: Rect,
    /// The pixels of the raster that are nearest to this tile; cores tile the raster without gap or overlap.
    pub core: Rect,
}

/// What models would have of a grid and of the pixels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Preference {
    /// The only size that a model takes.
    pub fixed_width: Option<i64>,
    pub fixed_height: Option<i64>,
    /// Side of a tile, from metadata.
    pub tile: Option<i64>,
    /// Overlap, from metadata: a share of the tile, 0 to 1.
    pub overlap: Option<f64>,
    /// The same in pixels, instead.
    #[serde(default)]
    pub overlap_pixels: Option<i64>,
    /// Sides must be multiples of this; 0 = any.
    pub multiple: i64,
    /// Metres per pixel that the models were trained on.
    pub resolution: Option<f64>,
    /// Per channel, the pixel value that the models see as 0: what invalid pixels are filled with.
    pub fill: Option<Vec<f64>>,
    /// Pixels are wanted as labels: a palette's indices, not its colours.
    #[serde(default)]
    pub labels: bool,
}

/// What a user said of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stated {
    pub tile: Option<i64>,
    pub overlap: Option<i64>,
}

impl Grid {
    /// Fits a grid to a raster of `width` × `height` pixels. What the user states holds or is refused; what models
    /// prefer is rounded up to what their sizes allow; else tiles of [`TILE`] that overlap by [`OVERLAP`].
    ///
    /// # Errors
    /// A tile or an overlap that the models cannot take.
    pub fn fit(width: i64, height: i64, stated: Stated, model: &Preference) -> Result<Grid> {
        let multiple = model.multiple.max(1);
        let all_fixed = model.fixed_width.is_some() && model.fixed_height.is_some();
        // h must be a multiple, so that cores are aligned to the model's stride.
        let unit = if all_fixed { 2 } else { 2 * multiple };
        let up = |n: i64, unit: i64| (n + unit - 1) / unit * unit;
        let axis = |length: i64, fixed: Option<i64>| -> Result<Axis> {
            let tile = match (fixed, stated.tile) {
                (Some(fixed), Some(tile)) if fixed != tile => {
                    return Err(Error::setting(
                        "tile-size",
                        tile,
                        format!("the model takes tiles of {fixed} pixels only"),
                    ));
                }
                (Some(fixed), _) => fixed,
                (None, Some(tile)) if tile <= 0 || tile % multiple != 0 => {
                    let near = up(tile.max(1), multiple);
                    return Err(Error::setting(
                        "tile-size",
                        tile,
                        format!("the model takes multiples of {multiple} pixels; use {near}"),
                    ));
                }
                (None, Some(tile)) => tile,
                (None, None) => up(model.tile.unwrap_or(TILE).max(1), multiple),
            };
            let most = tile / 2 / unit * unit;
            let overlap = match stated.overlap {
                Some(overlap) if overlap < 0 || overlap % unit != 0 || overlap > most => {
                    let near = up(overlap.max(0), unit).min(most);
                    let why = match unit {
                        2 => format!("tiles of {tile} pixels overlap by an even number up to {most}"),
                        _ => format!(
                            "tiles of {tile} pixels overlap by a multiple of {unit} (twice the model's size multiple) up to {most}"
                        ),
                    };
                    return Err(Error::setting("overlap", overlap, format!("{why}; use {near}")));
                }
                Some(overlap) => overlap,
                None => {
                    let share = model.overlap.map(|share| (share.clamp(0.0, 0.5) * tile as f64).round() as i64);
                    up(model.overlap_pixels.or(share).unwrap_or(OVERLAP), unit).min(most)
                }
            };
            Ok(Axis { length, tile, overlap, multiple, fixed: fixed.is_some() })
        };
        Ok(Grid { x: axis(width, model.fixed_width)?, y: axis(height, model.fixed_height)? })
    }

    /// Number of tiles.
    pub fn count(&self) -> usize {
        (self.x.count() * self.y.count()) as usize
    }

    /// The whole raster.
    pub fn bounds(&self) -> Rect {
        Rect::new(0, 0, self.x.length, self.y.length)
    }

    pub fn tile(&self, index: usize) -> Tile {
        let (column, row) = self.place(index);
        let rect = |x: Range<i64>, y: Range<i64>| Rect::new(x.start, y.start, x.end - x.start, y.end - y.start);
        Tile {
            index,
            area: rect(self.x.tile(column), self.y.tile(row)),
            core: rect(self.x.core(column), self.y.core(row)),
        }
    }

    /// Column and row of a tile.
    pub fn place(&self, index: usize) -> (i64, i64) {
        (index as i64 % self.x.count(), index as i64 / self.x.count())
    }

    /// The tiles, in order, that reach into any of `rects`: by their whole extent or, `cores`, by their cores alone.
    pub fn touching(&self, rects: impl IntoIterator<Item = Rect>, cores: bool) -> Vec<usize> {
        let mut found = BTreeSet::new();
        for rect in rects.into_iter().map(|r| r.intersect(&self.bounds())).filter(|r| !r.is_empty()) {
            for row in self.y.touching(rect.y..rect.bottom(), cores) {
                let columns = self.x.touching(rect.x..rect.right(), cores);
                found.extend(columns.map(|column| (row * self.x.count() + column) as usize));
            }
        }
        found.into_iter().collect()
    }
}

/// A cell of the part lattice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cell {
    pub row: i64,
    pub column: i64,
}

/// The fixed lattice of parts over a raster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lattice {
    pub part_width: i64,
    pub part_height: i64,
}

impl Default for Lattice {
    fn default() -> Self {
        Lattice { part_width: 4096, part_height: 512 }
    }
}

impl Lattice {
    /// A cell's pixels, as far as they lie in `region`.
    pub fn rect(&self, cell: Cell, region: &Rect) -> Rect {
        let (w, h) = (self.part_width, self.part_height);
        Rect::new(cell.column * w, cell.row * h, w, h).intersect(region)
    }

    /// A cell's place in the list of those that reach into `region`.
    pub fn place(&self, cell: Cell, region: &Rect) -> usize {
        let (left, right) = (region.x / self.part_width, (region.right() - 1) / self.part_width);
        let rows = cell.row - region.y / self.part_height;
        (rows * (right - left + 1) + cell.column - left) as usize
    }

    /// The cells that reach into `region` (which lies in the raster), row by row.
    pub fn cells(&self, region: &Rect) -> Vec<Cell> {
        if region.is_empty() {
            return Vec::new();
        }
        let (w, h) = (self.part_width, self.part_height);
        let columns = region.x / w..=(region.right() - 1) / w;
        (region.y / h..=(region.bottom() - 1) / h)
            .flat_map(|row| columns.clone().map(move |column| Cell { row, column }))
            .collect()
    }
}

/// One of several processes that share a run: the `index`-th of `count`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    pub index: usize,
    pub count: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Shard { index: 1, count: 1 }
    }
}

impl Shard {
    /// Reads `i/n`.
    ///
    /// # Errors
    /// Anything but two whole numbers with 1 ≤ i ≤ n.
    pub fn parse(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match numbers {
            Some((index, count)) if 1 <= index && index <= count => Ok(Shard { index, count }),
            _ => Err(Error::setting(
                "shard",
                text,
                "use i/n, such as 2/4 for the second of four shards; i runs from 1 to n",
            )),
        }
    }

    /// This shard's contiguous share of a list. The shares of all shards make up the list.
    pub fn of<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        let at = |k: usize| (all.len() as u128 * k as u128 / self.count as u128) as usize;
        &all[at(self.index - 1)..at(self.index)]
    }
}

/// What one process of a run has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The pixels wanted, inside the raster.
    pub region: Rect,
    pub share: Share,
    pub lattice: Lattice,
}

impl Work {
    /// The cells of this process's share.
    ///
    /// # Errors
    /// As [`Share::of`].
    pub fn cells(&self) -> Result<Vec<Cell>> {
        self.share.of(&self.lattice.cells(&self.region))
    }

    /// The tiles that `cells` need, in order.
    pub fn tiles(&self, grid: &Grid, cells: &[Cell], cores: bool) -> Vec<usize> {
        grid.touching(cells.iter().map(|cell| self.lattice.rect(*cell, &self.region)), cores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grids() -> impl Strategy<Value = Grid> {
        (1i64..400, 1i64..300, 1i64..9, 0i64..5, 1i64..5, any::<bool>()).prop_map(|(w, h, tile, overlap, m, fixed)| {
            let tile = 4 * m * tile;
            let overlap = (2 * m * overlap).min(tile / 2 / (2 * m) * (2 * m));
            let axis = |length| Axis { length, tile, overlap, multiple: m, fixed };
            Grid { x: axis(w), y: axis(h) }
        })
    }

    proptest! {
        #[test]
        fn cores_tile_the_raster_inside_their_tiles(grid in grids()) {
            let mut seen = vec![0u8; grid.bounds().area()];
            for k in 0..grid.count() {
                let tile = grid.tile(k);
                prop_assert!(tile.area.contains(&tile.core) && !tile.core.is_empty());
                prop_assert_eq!((tile.area.width % grid.x.multiple, tile.area.height % grid.y.multiple), (0, 0));
                for y in tile.core.y..tile.core.bottom() {
                    for x in tile.core.x..tile.core.right() {
                        seen[(y * grid.x.length + x) as usize] += 1;
                    }
                }
            }
            prop_assert!(seen.iter().all(|n| *n == 1));
        }

        #[test]
        fn touching_tiles_are_those_that_reach_into_a_rectangle(
            grid in grids(), x in 0i64..400, y in 0i64..300, w in 1i64..200, h in 1i64..200, cores in any::<bool>(),
        ) {
            let rect = Rect::new(x, y, w, h).intersect(&grid.bounds());
            let reach = |t: &Tile| {
                // Not the padding beyond the halo, which no raster pixel needs.
                let (hx, hy) = (grid.x.halo(), grid.y.halo());
                let core = t.core;
                let wide = Rect::new(core.x - hx, core.y - hy, grid.x.step() + 2 * hx, grid.y.step() + 2 * hy);
                if cores { core } else { wide }
            };
            let expected: Vec<usize> =
                (0..grid.count()).filter(|k| !rect.is_empty() && reach(&grid.tile(*k)).touches(&rect)).collect();
            prop_assert_eq!(grid.touching([rect], cores), expected);
        }

        #[test]
        fn shards_make_up_the_cells_of_a_region(
            x in 0i64..5000, y in 0i64..2000, w in 1i64..9000, h in 1i64..3000, n in 1usize..12,
        ) {
            let region = Rect::new(x, y, w, h);
            let share = |index| Share::Shard(Shard { index, count: n });
            let work = |index| Work { region, share: share(index), lattice: Lattice { part_width: 700, part_height: 130 } };
            let all: Vec<Cell> = (1..=n).flat_map(|i| work(i).cells().unwrap()).collect();
            prop_assert_eq!(&all, &work(1).lattice.cells(&region));
            let pixels: usize = all.iter().map(|c| work(1).lattice.rect(*c, &region).area()).sum();
            prop_assert_eq!(pixels, region.area());
            prop_assert!(all.iter().enumerate().all(|(k, cell)| work(1).lattice.place(*cell, &region) == k));
        }
    }

    #[test]
    fn reflection_is_numpys() {
        // numpy.pad(numpy.arange(4), (7, 6), "reflect")
        let found: Vec<i64> = (-7..10).map(|i| reflect(i, 4)).collect();
        assert_eq!(found, [1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3]);
        assert_eq!((-3..4).map(|i| reflect(i, 2)).collect::<Vec<_>>(), [1, 0, 1, 0, 1, 0, 1]);
        assert!((-5..5).all(|i| reflect(i, 1) == 0));
    }

    #[test]
    fn defaults_preferences_and_what_users_state() {
        let model = Preference { multiple: 32, ..Preference::default() };
        let grid = Grid::fit(5000, 900, Stated::default(), &model).unwrap();
        assert_eq!((grid.x.tile, grid.x.overlap, grid.x.count(), grid.y.count()), (1024, 64, 6, 1));
        // The last tile ends soon after the raster: 4800 - 32 up to 5000 + 32, in multiples of 32.
        assert_eq!(grid.x.tile(5), 4768..4768 + 288);

        let model = Preference { tile: Some(500), overlap: Some(0.1), multiple: 32, ..Preference::default() };
        let grid = Grid::fit(5000, 900, Stated::default(), &model).unwrap();
        assert_eq!((grid.x.tile, grid.x.overlap), (512, 64));

        let fixed = Preference { fixed_width: Some(300), fixed_height: Some(200), ..Preference::default() };
        let grid = Grid::fit(700, 100, Stated { tile: None, overlap: Some(20) }, &fixed).unwrap();
        assert_eq!((grid.x.tile, grid.y.tile), (300, 200));
        assert_eq!((grid.tile(0).area, grid.tile(0).core), (Rect::new(-10, -10, 300, 200), Rect::new(0, 0, 280, 100)));

        let error = |stated, model: &Preference| Grid::fit(700, 100, stated, model).unwrap_err().to_string();
        let model = Preference { multiple: 32, ..Preference::default() };
        let text = error(Stated { tile: Some(1000), overlap: None }, &model);
        assert!(text.contains("tile-size=1000") && text.contains("use 1024"), "{text}");
        let text = error(Stated { tile: None, overlap: Some(30) }, &model);
        assert!(text.contains("overlap=30") && text.contains("use 64"), "{text}");
        let text = error(Stated { tile: Some(256), overlap: None }, &fixed);
        assert!(text.contains("300 pixels only"), "{text}");
    }

    #[test]
    fn shard_texts() {
        assert_eq!(Shard::parse("2/4").unwrap(), Shard { index: 2, count: 4 });
        for wrong in ["", "0/4", "5/4", "1", "a/b", "1/0"] {
            assert!(Shard::parse(wrong).is_err(), "{wrong}");
        }
    }
}
