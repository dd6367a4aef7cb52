//! The median of each class: a pixel becomes what fills more than half of the square around it.
//!
//! How many pixels of each label a column of the window has is kept up to date row by row, and summed along the row:
//! the cost does not depend on the radius.

use std::collections::VecDeque;

use super::{Selection, Step, runs};

/// Where a label is in the window.
struct Count {
    label: u16,
    /// Pixels of it in each column.
    columns: Vec<u16>,
    /// And in all columns together.
    total: usize,
}

pub struct Median {
    radius: usize,
    selection: Selection,
    width: usize,
    counts: Vec<Count>,
    /// Rows from r before the one that goes out next, and the number of the first of them.
    rows: VecDeque<Vec<u16>>,
    first: usize,
    /// The row that goes out next.
    next: usize,
    /// The columns that the window sees to the left and to the right of the mask, from -r on and from the width on.
    left: Vec<usize>,
    right: Vec<usize>,
}

/// Which of `n` pixels is seen at `i`, where what lies beyond them is reflected with the edge repeated: SciPy's `reflect`,
/// folded as often as needed.
fn mirror(i: isize, n: usize) -> usize {
    let i = i.rem_euclid(2 * n as isize) as usize;
    i.min(2 * n - 1 - i)
}

impl Median {
    pub fn new(radius: usize, selection: Selection, width: usize) -> Self {
        let r = radius as isize;
        Median {
            radius,
            selection,
            width,
            counts: Vec::new(),
            rows: VecDeque::new(),
            first: 0,
            next: 0,
            left: (-r..0).map(|x| mirror(x, width)).collect(),
            right: (0..r).map(|k| mirror(width as isize + k, width)).collect(),
        }
    }

    /// Counts a row of the window in, or out.
    fn count(&mut self, number: usize, comes: bool) {
        let row = &self.rows[number - self.first];
        for (start, end, label) in runs(row) {
            if label != self.selection.background && !self.selection.has(label) {
                continue;
            }
            let k = self.counts.iter().position(|count| count.label == label).unwrap_or_else(|| {
                self.counts.push(Count { label, columns: vec![0; self.width], total: 0 });
                self.counts.len() - 1
            });
            let count = &mut self.counts[k];
            let columns = &mut count.columns[start..end];
            match comes {
                true => columns.iter_mut().for_each(|n| *n += 1),
                false => columns.iter_mut().for_each(|n| *n -= 1),
            }
            count.total = if comes { count.total + end - start } else { count.total + start - end };
        }
    }

    /// Gives the next row, of a mask of `height` rows as far as that matters.
    fn emit(&mut self, height: usize) -> Vec<u16> {
        let (r, y) = (self.radius as isize, self.next as isize);
        if y == 0 {
            (-r..=r).for_each(|dy| self.count(mirror(dy, height), true));
        } else {
            self.count(mirror(y + r, height), true);
            self.count(mirror(y - 1 - r, height), false);
            self.counts.retain(|count| count.total > 0);
        }
        let mut row = self.rows[self.next - self.first].clone();
        self.decide(&mut row);
        self.next += 1;
        // The next window's first row, or one that is seen in its place.
        while self.first + self.radius + 1 < self.next {
            self.rows.pop_front();
            self.first += 1;
        }
        row
    }

    fn decide(&self, row: &mut [u16]) {
        let (w, r, side) = (self.width, self.radius, 2 * self.radius + 1);
        let half = (side * side / 2) as u32;
        let free: Vec<bool> =
            row.iter().map(|label| *label == self.selection.background || self.selection.has(*label)).collect();
        for Count { label, columns, .. } in self.counts.iter().filter(|count| count.total > 0) {
            // The columns as the window sees them.
            let seen: Vec<u16> = self
                .left
                .iter()
                .map(|x| columns[*x])
                .chain(columns.iter().copied())
                .chain(self.right.iter().map(|x| columns[*x]))
                .collect();
            let mut sum: u32 = seen[..side - 1].iter().map(|n| u32::from(*n)).sum();
            for x in 0..w {
                sum += u32::from(seen[x + 2 * r]);
                if sum > half && free[x] {
                    row[x] = *label;
                }
                sum -= u32::from(seen[x]);
            }
        }
    }
}

impl Step for Median {
    fn push(&mut self, row: Vec<u16>, out: &mut dyn FnMut(Vec<u16>)) {
        self.rows.push_back(row);
        let come = self.first + self.rows.len();
        if come > self.next + self.radius {
            // What lies below is not seen yet.
            out(self.emit(come));
        }
    }

    fn finish(&mut self, out: &mut dyn FnMut(Vec<u16>)) {
        let height = self.first + self.rows.len();
        while self.next < height {
            out(self.emit(height));
        }
        *self = Median::new(self.radius, self.selection.clone(), self.width);
    }

    fn held(&self) -> usize {
        self.rows.len()
    }
}
