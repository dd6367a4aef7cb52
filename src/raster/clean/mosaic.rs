//! Tiles of a mosaic to rows and back: what is cleaned are whole rows, whatever the tiles.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Cleaner, Recipe};
use crate::raster::{Error, Grid, Rect, Result};

/// The part of a tile that lies in the region, cleaned.
#[derive(Debug, PartialEq)]
pub struct Cleaned {
    /// The tile's number in its grid.
    pub index: usize,
    /// The pixels of the mosaic that it has of the region.
    pub rect: Rect,
    /// Row by row without padding.
    pub labels: Vec<u16>,
}

/// Cleans a region of a mosaic from tiles that do not overlap, as if it were one mask. What lies beyond the region counts
/// as beyond the mask. Memory holds the rows of the tiles that are coming in, of those that are going out, and what the
/// operations need between them.
pub struct Mosaic {
    grid: Grid,
    region: Rect,
    columns: Range<i64>,
    rows: Range<i64>,
    cleaner: Cleaner,
    /// Tiles that have come.
    come: usize,
    /// Rows of tiles that have gone.
    gone: i64,
    /// The rows of the tiles that are coming.
    strip: Vec<Vec<u16>>,
    /// Cleaned rows, from the first of the tiles that go next.
    cleaned: VecDeque<Vec<u16>>,
}

impl Mosaic {
    /// For the tiles of a grid that reach into `region`.
    ///
    /// # Errors
    /// Tiles that overlap.
    pub fn new(recipe: &Recipe, grid: Grid, region: Rect) -> Result<Self> {
        let overlap = grid.x.overlap.max(grid.y.overlap);
        if overlap > 0 {
            return Err(Error::Tile(format!(
                "these tiles overlap by {overlap} pixels, and their labels are no one mask; put maskclean behind \
                 `tilemerge`, or read the finished mask with `rastersrc overlap=0`"
            )));
        }
        let region = region.intersect(&grid.bounds());
        Ok(Mosaic {
            columns: grid.x.touching(region.x..region.right(), true),
            rows: grid.y.touching(region.y..region.bottom(), true),
            cleaner: Cleaner::new(recipe, region.width as usize),
            grid,
            region,
            come: 0,
            gone: 0,
            strip: Vec::new(),
            cleaned: VecDeque::new(),
        })
    }

    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// Number of tiles.
    pub fn count(&self) -> usize {
        ((self.columns.end - self.columns.start) * (self.rows.end - self.rows.start)) as usize
    }

    /// Tiles that have come.
    pub fn come(&self) -> usize {
        self.come
    }

    /// The number of the tile that comes next; `None` after the last.
    pub fn due(&self) -> Option<usize> {
        let across = self.columns.end - self.columns.start;
        let (column, row) = (self.come as i64 % across, self.rows.start + self.come as i64 / across);
        (row < self.rows.end).then_some((row * self.grid.x.count() + self.columns.start + column) as usize)
    }

    /// The pixels that a tile has of the region.
    pub fn part(&self, index: usize) -> Rect {
        self.grid.tile(index).core.intersect(&self.region)
    }

    /// Takes the labels of the tile that is due, of its [`Mosaic::part`], and gives the tiles that are decided by them.
    ///
    /// # Errors
    /// More labels than a mask has.
    ///
    /// # Panics
    /// Fewer labels than pixels, or a tile after the last.
    pub fn add(&mut self, labels: &[u16], mut out: impl FnMut(Cleaned)) -> Result<()> {
        let index = self.due().expect("the caller counts tiles");
        let part = self.part(index);
        let width = part.width as usize;
        assert_eq!(labels.len(), part.area());
        self.strip.resize_with(part.height as usize, || Vec::with_capacity(self.region.width as usize));
        for (row, labels) in self.strip.iter_mut().zip(labels.chunks_exact(width)) {
            row.extend_from_slice(labels);
        }
        self.come += 1;
        if part.right() < self.region.right() {
            return Ok(());
        }
        for row in std::mem::take(&mut self.strip) {
            self.cleaner.push(row, |row| self.cleaned.push_back(row))?;
        }
        if self.due().is_none() {
            self.cleaner.finish(|row| self.cleaned.push_back(row));
        }
        self.give(&mut out);
        Ok(())
    }

    /// Gives the rows of tiles all of whose rows are cleaned.
    fn give(&mut self, out: &mut impl FnMut(Cleaned)) {
        while self.rows.start + self.gone < self.rows.end {
            let row = self.rows.start + self.gone;
            let first = self.part((row * self.grid.x.count() + self.columns.start) as usize);
            if (self.cleaned.len() as i64) < first.height {
                return;
            }
            for column in self.columns.clone() {
                let index = (row * self.grid.x.count() + column) as usize;
                let rect = self.part(index);
                let of_region = rect.relative_to(self.region.x, self.region.y);
                let (from, to) = (of_region.x as usize, of_region.right() as usize);
                let rows = self.cleaned.iter().take(rect.height as usize);
                out(Cleaned { index, rect, labels: rows.flat_map(|row| &row[from..to]).copied().collect() });
            }
            self.cleaned.drain(..first.height as usize);
            self.gone += 1;
        }
    }
}
