//! Cleaning a mask of labels: median, opening, closing, hole filling and minimum area, each class by itself.
//!
//! Rows go in from top to bottom and come out in the same order, some rows later, as the whole mask would have them; no
//! more rows are held than [`Recipe::most_rows`] says, however high the mask is. Files and units of area are not known
//! here.

mod bits;
mod median;
mod morphology;
mod mosaic;
mod regions;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::{Error, Result};
use median::Median;
use morphology::Morphology;
use regions::{Regions, Rule};

pub use mosaic::{Cleaned, Mosaic};

/// The largest radius of the median, of opening and of closing, in pixels.
pub const MOST_RADIUS: usize = 255;

/// Labels that a mask may have: an image that is none has more.
const MOST_CLASSES: usize = 1024;

/// The neighbourhood of opening and closing, by its radius r.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// x² + y² ≤ r², as scikit-image's `disk(r)`.
    #[default]
    Disk,
    /// (2r + 1) × (2r + 1) pixels.
    Square,
    /// |x| + |y| ≤ r: r times SciPy's default, the cross of five pixels.
    Diamond,
}

impl Shape {
    /// How far the shape reaches to either side in the row `dy` from its middle.
    fn reach(self, radius: usize, dy: usize) -> usize {
        match self {
            Shape::Disk => (radius * radius - dy * dy).isqrt(),
            Shape::Square => radius,
            Shape::Diamond => radius - dy,
        }
    }
}

/// Which pixels belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connectivity {
    /// Those that share an edge.
    #[default]
    Four,
    /// Those that share an edge or a corner.
    Eight,
}

/// What is done, in this order; 0 leaves an operation out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recipe {
    /// Radius: a pixel becomes the class, or the background, that fills more than half of the (2r + 1)² pixels around it.
    /// Beyond the mask, the mask is reflected with its edge repeated (SciPy's `reflect`).
    pub median: usize,
    /// Radius: of each class stays what the shape fits into. Beyond the mask there is no class.
    pub opening: usize,
    /// Radius: each class takes the pixels of the background into which the shape does not fit. Beyond the mask there
    /// is background.
    pub closing: usize,
    pub shape: Shape,
    /// The most pixels of a region of background that becomes the one class around it. One that touches the mask's
    /// edge, a pixel without data or a second class is no hole.
    pub hole_area: u64,
    /// The least pixels of a region of a class; smaller ones become background.
    pub min_area: u64,
    pub connectivity: Connectivity,
    /// The labels that are cleaned; `None` for all but the background.
    pub classes: Option<Vec<u16>>,
    /// The label that is no class: removed pixels get it, and only its pixels are filled.
    pub background: u16,
    /// The value of pixels without data, which no operation changes, and which are of no class.
    pub nodata: Option<u16>,
}

impl Recipe {
    /// The most rows that a cleaner holds between two calls.
    pub fn most_rows(&self) -> u64 {
        let median = if self.median > 0 { 2 * self.median as u64 + 1 } else { 0 };
        let morphology = 2 * (self.opening + self.closing) as u64;
        median.saturating_add(morphology).saturating_add(self.hole_area).saturating_add(self.min_area.saturating_sub(1))
    }
}

/// The labels that are cleaned.
#[derive(Clone)]
struct Selection {
    /// One bit for each label.
    bits: Box<[u64]>,
    background: u16,
}

impl Selection {
    fn new(recipe: &Recipe) -> Self {
        let mut bits = vec![0; 1 << 10].into_boxed_slice();
        match &recipe.classes {
            None => bits.fill(u64::MAX),
            Some(classes) => classes.iter().for_each(|c| bits[*c as usize / 64] |= 1 << (c % 64)),
        }
        for label in [Some(recipe.background), recipe.nodata].into_iter().flatten() {
            bits[label as usize / 64] &= !(1 << (label % 64));
        }
        Selection { bits, background: recipe.background }
    }

    /// Whether a label is one of the classes.
    fn has(&self, label: u16) -> bool {
        self.bits[label as usize / 64] >> (label % 64) & 1 == 1
    }
}

/// The pixels of a row that follow each other with one label, as `(start, end, label)`.
fn runs(row: &[u16]) -> impl Iterator<Item = (usize, usize, u16)> {
    let mut start = 0;
    row.chunk_by(|a, b| a == b).map(move |run| {
        let found = (start, start + run.len(), run[0]);
        start += run.len();
        found
    })
}

/// One operation. Rows come out in the order in which they go in.
trait Step: Send {
    fn push(&mut self, row: Vec<u16>, out: &mut dyn FnMut(Vec<u16>));

    /// The last row has come; all that are held go out. The next row begins another mask.
    fn finish(&mut self, out: &mut dyn FnMut(Vec<u16>));

    /// Rows in memory.
    fn held(&self) -> usize;
}

/// Cleans a mask of any height.
pub struct Cleaner {
    steps: Vec<Box<dyn Step>>,
    width: usize,
    selection: Selection,
    /// Labels above 255 that have come: below, there are never too many.
    seen: BTreeSet<u16>,
}

impl Cleaner {
    /// For rows of `width` pixels.
    pub fn new(recipe: &Recipe, width: usize) -> Self {
        let selection = Selection::new(recipe);
        let mut steps: Vec<Box<dyn Step>> = Vec::new();
        if recipe.median > 0 {
            steps.push(Box::new(Median::new(recipe.median, selection.clone(), width)));
        }
        for (radius, kind) in [(recipe.opening, morphology::Kind::Opening), (recipe.closing, morphology::Kind::Closing)]
        {
            if radius > 0 {
                steps.push(Box::new(Morphology::new(kind, recipe.shape, radius, selection.clone(), width)));
            }
        }
        for rule in [Rule::Fill { most: recipe.hole_area }, Rule::Remove { least: recipe.min_area }] {
            if rule.does_something() {
                steps.push(Box::new(Regions::new(rule, recipe.connectivity, selection.clone())));
            }
        }
        Cleaner { steps, width, selection, seen: BTreeSet::new() }
    }

    /// Takes the next row, and gives those that are decided by it.
    ///
    /// # Errors
    /// More labels than a mask has.
    ///
    /// # Panics
    /// A row of another width.
    pub fn push(&mut self, row: Vec<u16>, mut out: impl FnMut(Vec<u16>)) -> Result<()> {
        assert_eq!(row.len(), self.width);
        if row.iter().any(|label| *label > 255) {
            let more = runs(&row).map(|(.., label)| label).filter(|label| *label > 255 && self.selection.has(*label));
            self.seen.extend(more);
            if self.seen.len() > MOST_CLASSES {
                return Err(Error::Tile(format!(
                    "the mask has more than {MOST_CLASSES} labels, as pictures have; send a mask, or name the labels \
                     to clean by `classes`"
                )));
            }
        }
        feed(&mut self.steps, row, &mut out);
        Ok(())
    }

    /// Gives the rows that are left. The next row begins another mask.
    pub fn finish(&mut self, mut out: impl FnMut(Vec<u16>)) {
        for k in 0..self.steps.len() {
            if let Some((step, rest)) = self.steps[k..].split_first_mut() {
                step.finish(&mut |row| feed(rest, row, &mut out));
            }
        }
        self.seen.clear();
    }

    /// Rows in memory.
    pub fn rows_held(&self) -> usize {
        self.steps.iter().map(|step| step.held()).sum()
    }
}

/// Sends a row through what is left of the operations.
fn feed(steps: &mut [Box<dyn Step>], row: Vec<u16>, out: &mut dyn FnMut(Vec<u16>)) {
    match steps.split_first_mut() {
        None => out(row),
        Some((step, rest)) => step.push(row, &mut |row| feed(rest, row, out)),
    }
}
