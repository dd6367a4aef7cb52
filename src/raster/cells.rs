//! Collects the finished pieces of a mosaic into the cells of the part lattice.

use std::collections::{BTreeMap, BTreeSet};

use super::grid::{Cell, Lattice, Rect};

/// Samples of a product, `bands × height × width`.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
}

/// Bits of a product's samples. The largest value means "no data".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Depth {
    #[serde(rename = "uint8")]
    U8,
    #[serde(rename = "uint16")]
    U16,
}

impl Depth {
    /// The value of pixels without data.
    pub fn nodata(self) -> u16 {
        match self {
            Depth::U8 => u8::MAX.into(),
            Depth::U16 => u16::MAX,
        }
    }

    /// `n` samples without data.
    pub fn empty(self, n: usize) -> Samples {
        match self {
            Depth::U8 => Samples::U8(vec![u8::MAX; n]),
            Depth::U16 => Samples::U16(vec![u16::MAX; n]),
        }
    }
}

impl Samples {
    pub fn len(&self) -> usize {
        match self {
            Samples::U8(v) => v.len(),
            Samples::U16(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn depth(&self) -> Depth {
        match self {
            Samples::U8(_) => Depth::U8,
            Samples::U16(_) => Depth::U16,
        }
    }

    /// Whether no sample has data.
    fn is_blank(&self) -> bool {
        match self {
            Samples::U8(v) => v.iter().all(|s| *s == u8::MAX),
            Samples::U16(v) => v.iter().all(|s| *s == u16::MAX),
        }
    }

    /// Copies a rectangle, band by band. `of` and `to` say where both lie in the mosaic.
    fn paste(&mut self, to: &Rect, from: &Samples, of: &Rect, rect: &Rect) {
        fn copy<T: Copy>(out: &mut [T], to: &Rect, v: &[T], of: &Rect, rect: &Rect) {
            let (width, n) = (rect.width as usize, to.area());
            for (out, v) in out.chunks_exact_mut(n).zip(v.chunks_exact(of.area())) {
                for y in rect.y..rect.bottom() {
                    let at = |r: &Rect| ((y - r.y) * r.width + rect.x - r.x) as usize;
                    out[at(to)..at(to) + width].copy_from_slice(&v[at(of)..at(of) + width]);
                }
            }
        }
        match (self, from) {
            (Samples::U8(out), Samples::U8(v)) => copy(out, to, v, of, rect),
            (Samples::U16(out), Samples::U16(v)) => copy(out, to, v, of, rect),
            _ => debug_assert!(false, "pieces of a product have one depth"),
        }
    }
}

/// A cell all of whose pixels have come.
#[derive(Debug, PartialEq)]
pub struct Whole {
    pub cell: Cell,
    pub rect: Rect,
    /// Per product; `None` where no pixel has data.
    pub samples: Option<Vec<Samples>>,
}

/// The layout of a product's samples.
pub type Layout = (Depth, usize);

struct Open {
    rect: Rect,
    /// Pixels that have not come.
    missing: usize,
    /// From the first piece with data on.
    samples: Option<Vec<Samples>>,
}

/// The cells that are being filled. Memory holds those between their first and their last piece, and of these only
/// such as have data.
pub struct Cells {
    lattice: Lattice,
    region: Rect,
    wanted: BTreeSet<Cell>,
    /// Depth and bands of each product.
    layout: Vec<Layout>,
    open: BTreeMap<Cell, Open>,
}

impl Cells {
    pub fn new(lattice: Lattice, region: Rect, wanted: impl IntoIterator<Item = Cell>, layout: Vec<Layout>) -> Self {
        Cells { lattice, region, wanted: wanted.into_iter().collect(), layout, open: BTreeMap::new() }
    }

    /// Says anew how many bands each product has, before the first piece with data.
    pub fn set_layout(&mut self, layout: Vec<Layout>) {
        self.layout = layout;
    }

    /// The cells that have not been handed out.
    pub fn wanted(&self) -> &BTreeSet<Cell> {
        &self.wanted
    }

    /// Gives cells up whose pixels will not all come.
    pub fn give_up(&mut self, cells: impl IntoIterator<Item = Cell>) {
        for cell in cells {
            self.wanted.remove(&cell);
            self.open.remove(&cell);
        }
    }

    /// Forgets all pieces, for a stream that begins again.
    pub fn clear(&mut self) {
        self.open.clear();
    }

    /// Takes a piece of the mosaic: per product its samples, `None` where no pixel has data. No pixel comes twice.
    /// Returns the cells that are whole now.
    pub fn add(&mut self, rect: &Rect, samples: Option<&[Samples]>) -> Vec<Whole> {
        let mut whole = Vec::new();
        for cell in self.lattice.cells(&rect.intersect(&self.region)) {
            if !self.wanted.contains(&cell) {
                continue;
            }
            let of_cell = self.lattice.rect(cell, &self.region);
            let open = self.open.entry(cell).or_insert(Open { rect: of_cell, missing: of_cell.area(), samples: None });
            let both = rect.intersect(&open.rect);
            if let Some(samples) = samples {
                let n = open.rect.area();
                let all = open
                    .samples
                    .get_or_insert_with(|| self.layout.iter().map(|(d, bands)| d.empty(bands * n)).collect());
                for (to, from) in all.iter_mut().zip(samples) {
                    to.paste(&open.rect, from, rect, &both);
                }
            }
            open.missing = open.missing.saturating_sub(both.area());
            if open.missing == 0
                && let Some(open) = self.open.remove(&cell)
            {
                self.wanted.remove(&cell);
                let samples = open.samples.filter(|all| !all.iter().all(Samples::is_blank));
                whole.push(Whole { cell, rect: open.rect, samples });
            }
        }
        whole
    }
}

/// Whether a rectangle reaches into one of `cells`.
pub fn touches(lattice: &Lattice, region: &Rect, cells: &BTreeSet<Cell>, rect: &Rect) -> bool {
    lattice.cells(&rect.intersect(region)).iter().any(|cell| cells.contains(cell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A value that tells where a sample belongs.
    fn value(band: usize, x: i64, y: i64) -> u16 {
        (band as i64 * 7919 + y * 131 + x * 17) as u16 % 60_000
    }

    fn samples(rect: &Rect, layout: &[Layout]) -> Vec<Samples> {
        let planes = |bands: usize| {
            let at = |k: usize| {
                let (band, k) = (k / rect.area(), (k % rect.area()) as i64);
                value(band, rect.x + k % rect.width, rect.y + k / rect.width)
            };
            (0..bands * rect.area()).map(at)
        };
        let of = |(depth, bands): &Layout| match depth {
            Depth::U8 => Samples::U8(planes(*bands).map(|v| (v % 250) as u8).collect()),
            Depth::U16 => Samples::U16(planes(*bands).collect()),
        };
        layout.iter().map(of).collect()
    }

    proptest! {
        #[test]
        fn cells_hold_what_their_pieces_say(
            (width, height, step_x, step_y) in (1i64..60, 1i64..60, 1i64..20, 1i64..20),
            (part_width, part_height) in (1i64..30, 1i64..30),
            (x, y, w, h) in (0i64..60, 0i64..60, 1i64..60, 1i64..60),
            blank in any::<u64>(),
        ) {
            let bounds = Rect::new(0, 0, width, height);
            let region = Rect::new(x, y, w, h).intersect(&bounds);
            let lattice = Lattice { part_width, part_height };
            let layout = vec![(Depth::U8, 1), (Depth::U16, 3)];
            let cells = lattice.cells(&region);
            let mut collected = Cells::new(lattice, region, cells.clone(), layout.clone());
            let mut whole = BTreeMap::new();
            let mut blank_at = vec![false; bounds.area()];
            for (k, row) in (0..height).step_by(step_y as usize).enumerate() {
                for (l, column) in (0..width).step_by(step_x as usize).enumerate() {
                    let piece = Rect::new(column, row, step_x, step_y).intersect(&bounds);
                    let has_none = blank >> ((k * 8 + l) % 64) & 1 == 1;
                    for y in piece.y..piece.bottom() {
                        for x in piece.x..piece.right() {
                            blank_at[(y * width + x) as usize] = has_none;
                        }
                    }
                    let samples = samples(&piece, &layout);
                    for cell in collected.add(&piece, (!has_none).then_some(&samples)) {
                        prop_assert!(whole.insert(cell.cell, cell).is_none());
                    }
                }
            }
            prop_assert!(collected.wanted().is_empty() && collected.open.is_empty());
            prop_assert_eq!(whole.keys().copied().collect::<Vec<_>>(), cells);
            for (cell, whole) in whole {
                let rect = lattice.rect(cell, &region);
                prop_assert_eq!(whole.rect, rect);
                let at = |x: i64, y: i64| blank_at[(y * width + x) as usize];
                let all_blank = (rect.y..rect.bottom()).all(|y| (rect.x..rect.right()).all(|x| at(x, y)));
                prop_assert_eq!(whole.samples.is_none(), all_blank);
                let Some(found) = whole.samples else { continue };
                let mut expected = samples(&rect, &layout);
                for samples in &mut expected {
                    let n = rect.area();
                    for k in 0..samples.len() {
                        let (x, y) = (rect.x + (k % n) as i64 % rect.width, rect.y + (k % n) as i64 / rect.width);
                        if at(x, y) {
                            match samples {
                                Samples::U8(v) => v[k] = 255,
                                Samples::U16(v) => v[k] = 65535,
                            }
                        }
                    }
                }
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn cells_that_are_not_wanted_or_given_up_hold_nothing() {
        let lattice = Lattice { part_width: 10, part_height: 10 };
        let region = Rect::new(0, 0, 30, 10);
        let cell = |column| Cell { row: 0, column };
        let mut cells = Cells::new(lattice, region, [cell(0), cell(2)], vec![(Depth::U8, 1)]);
        let half = Rect::new(0, 0, 30, 5);
        let half_samples = samples(&half, &[(Depth::U8, 1)]);
        assert!(cells.add(&half, Some(&half_samples)).is_empty());
        assert_eq!(cells.open.len(), 2);
        cells.give_up([cell(2)]);
        let rest = Rect::new(0, 5, 30, 5);
        let whole = cells.add(&rest, None);
        assert_eq!(whole.iter().map(|w| w.cell).collect::<Vec<_>>(), [cell(0)]);
        assert!(cells.wanted().is_empty());
        assert!(touches(&lattice, &region, &[cell(1)].into(), &Rect::new(9, 3, 2, 2)));
        assert!(!touches(&lattice, &region, &[cell(2)].into(), &Rect::new(9, 3, 2, 2)));
    }
}
