//! Opening and closing: an erosion and a dilation of each class, either first.
//!
//! A row of a class is 64 pixels to a word. As it comes, it is narrowed or widened step by step to each width that the
//! shape has, and each of these goes into the rows of the result that the shape reaches with that width: the cost per
//! pixel is about r/20 operations of a processor, and memory holds 2r + 1 rows of bits for each class.

use std::collections::VecDeque;

use super::bits::Bits;
use super::{Selection, Shape, Step, runs};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Opening,
    Closing,
}

/// A row of one class.
struct Plane {
    label: u16,
    bits: Bits,
    /// Rows that have gone into it.
    rows: usize,
}

/// An erosion or a dilation of the rows of every class.
struct Pass {
    erodes: bool,
    /// By how far the shape reaches to either side, from 0 to r: the rows in which it does, from 0 to 2r.
    rows: Vec<Vec<usize>>,
    /// The rows of the result from r before to r behind the row that comes next.
    pending: VecDeque<Vec<Plane>>,
}

impl Pass {
    fn new(erodes: bool, shape: Shape, radius: usize) -> Self {
        let mut rows = vec![Vec::new(); radius + 1];
        for row in 0..=2 * radius {
            rows[shape.reach(radius, row.abs_diff(radius))].push(row);
        }
        Pass { erodes, rows, pending: (0..2 * radius).map(|_| Vec::new()).collect() }
    }

    /// Takes the next row's classes, and gives the row of the result that is r before it.
    fn push(&mut self, planes: Vec<Plane>) -> Vec<Plane> {
        self.pending.push_back(Vec::new());
        let Pass { erodes, rows, pending } = self;
        for Plane { label, mut bits, .. } in planes {
            let mut next = bits.clone();
            for (reach, rows) in rows.iter().enumerate() {
                if reach > 0 {
                    if *erodes {
                        bits.shrink(&mut next)
                    } else {
                        bits.grow(&mut next)
                    }
                    std::mem::swap(&mut bits, &mut next);
                }
                for row in rows {
                    // Of a class that was not in the first row that counts, nothing can be left.
                    let begins = !*erodes || row + 1 == pending.len();
                    let planes = &mut pending[*row];
                    match planes.iter_mut().find(|plane| plane.label == label) {
                        Some(plane) => {
                            if *erodes {
                                plane.bits.and(&bits)
                            } else {
                                plane.bits.or(&bits)
                            }
                            plane.rows += 1;
                        }
                        None if begins => planes.push(Plane { label, bits: bits.clone(), rows: 1 }),
                        None => {}
                    }
                }
            }
        }
        let mut whole = pending.pop_front().unwrap_or_default();
        // Nor of one that was not in each of them.
        whole.retain(|plane| !*erodes || plane.rows == pending.len() + 1);
        whole
    }
}

/// Opens or closes. The mask is seen with r columns and r rows more on each side, in which a dilation has room.
pub struct Morphology {
    kind: Kind,
    shape: Shape,
    radius: usize,
    selection: Selection,
    width: usize,
    first: Pass,
    second: Pass,
    /// Rows of either pass that come before those that count.
    early: (usize, usize),
    /// Rows that wait for their result.
    rows: VecDeque<Vec<u16>>,
}

impl Morphology {
    pub fn new(kind: Kind, shape: Shape, radius: usize, selection: Selection, width: usize) -> Self {
        let (first, second) =
            (Pass::new(kind == Kind::Opening, shape, radius), Pass::new(kind == Kind::Closing, shape, radius));
        let rows = VecDeque::new();
        let mut new =
            Morphology { kind, shape, radius, selection, width, first, second, early: (radius, 2 * radius), rows };
        for _ in 0..radius {
            new.advance(Vec::new());
        }
        new
    }

    /// The classes of a row.
    fn planes(&self, row: &[u16]) -> Vec<Plane> {
        let mut planes: Vec<Plane> = Vec::new();
        for (start, end, label) in runs(row).filter(|(.., label)| self.selection.has(*label)) {
            let range = start + self.radius..end + self.radius;
            match planes.iter_mut().find(|plane| plane.label == label) {
                Some(plane) => plane.bits.set(range),
                None => {
                    let mut bits = Bits::new(self.width + 2 * self.radius);
                    bits.set(range);
                    planes.push(Plane { label, bits, rows: 1 });
                }
            }
        }
        planes
    }

    /// Takes the next row's classes, and gives the row that is decided by it.
    fn advance(&mut self, planes: Vec<Plane>) -> Option<Vec<u16>> {
        let once = self.first.push(planes);
        if self.early.0 > 0 {
            self.early.0 -= 1;
            return None;
        }
        let twice = self.second.push(once);
        if self.early.1 > 0 {
            self.early.1 -= 1;
            return None;
        }
        let row = self.rows.pop_front()?;
        Some(match self.kind {
            Kind::Opening => self.remove(row, &twice),
            Kind::Closing => self.fill(row, twice),
        })
    }

    /// Takes from each class what is not in its opening.
    fn remove(&self, mut row: Vec<u16>, opened: &[Plane]) -> Vec<u16> {
        let before = row.clone();
        for (start, end, label) in runs(&before).filter(|(.., label)| self.selection.has(*label)) {
            match opened.iter().find(|plane| plane.label == label) {
                Some(plane) => plane.bits.each(start + self.radius..end + self.radius, false, |k| {
                    row[k - self.radius] = self.selection.background;
                }),
                None => row[start..end].fill(self.selection.background),
            }
        }
        row
    }

    /// Gives the background to the classes whose closing it is in, to the smallest label where there are several.
    fn fill(&self, mut row: Vec<u16>, mut closed: Vec<Plane>) -> Vec<u16> {
        closed.sort_by_key(|plane| std::cmp::Reverse(plane.label));
        let before = row.clone();
        for (start, end, _) in runs(&before).filter(|(.., label)| *label == self.selection.background) {
            for plane in &closed {
                plane.bits.each(start + self.radius..end + self.radius, true, |k| row[k - self.radius] = plane.label);
            }
        }
        row
    }
}

impl Step for Morphology {
    fn push(&mut self, row: Vec<u16>, out: &mut dyn FnMut(Vec<u16>)) {
        let planes = self.planes(&row);
        self.rows.push_back(row);
        self.advance(planes).into_iter().for_each(out);
    }

    fn finish(&mut self, out: &mut dyn FnMut(Vec<u16>)) {
        while !self.rows.is_empty() {
            self.advance(Vec::new()).into_iter().for_each(&mut *out);
        }
        *self = Morphology::new(self.kind, self.shape, self.radius, self.selection.clone(), self.width);
    }

    fn held(&self) -> usize {
        self.rows.len()
    }
}
