//! Connected regions of a mask, found row by row: what a region is made of, and the mean of a second raster in it.
//!
//! Held are the runs of pixels of the regions that are not finished, and nothing of the others.

use crate::raster::clean::Connectivity;

/// Pixels of one row that follow each other: `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    pub row: u32,
    pub start: u32,
    pub end: u32,
}

/// The sum of a raster's values, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sum {
    pub values: f64,
    pub count: u64,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.values += other.values;
        self.count += other.count;
    }

    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.values / self.count as f64)
    }
}

/// All pixels of one class that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    pub class: u16,
    /// From top to bottom, from left to right.
    pub runs: Vec<Run>,
    pub sum: Sum,
    /// The last row that has come to it.
    last: u32,
}

/// A place in the list of regions.
#[derive(Debug)]
enum Slot {
    Open(Region),
    /// It has become a part of another one.
    Joined(usize),
    Free,
}

/// Finds the regions of a mask whose rows come from top to bottom.
pub struct Regions {
    connectivity: Connectivity,
    row: u32,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// The runs of the row above, with their class and their place in the list.
    above: Vec<(Run, u16, usize)>,
}

impl Regions {
    pub fn new(connectivity: Connectivity) -> Self {
        Regions { connectivity, row: 0, slots: Vec::new(), free: Vec::new(), above: Vec::new() }
    }

    /// Takes the next row. `class` tells of a label which class it is, if any; `sum` sums a second raster over a run of this row.
    /// Regions that this row does not reach are finished and go out, in the order of their first pixels.
    pub fn push(
        &mut self,
        labels: &[u16],
        class: impl Fn(u16) -> Option<u16>,
        sum: impl Fn(u16, Run) -> Sum,
        out: &mut dyn FnMut(Region),
    ) {
        // By how far a run's neighbours may lie beside it.
        let reach = match self.connectivity {
            Connectivity::Four => 0,
            Connectivity::Eight => 1,
        };
        let above = std::mem::take(&mut self.above);
        let mut current = Vec::new();
        let (mut start, mut first) = (0, 0);
        for run in labels.chunk_by(|a, b| a == b) {
            let end = start + run.len() as u32;
            let found = Run { row: self.row, start, end };
            start = end;
            let Some(class) = class(run[0]) else { continue };
            let mut place = self.begin(class, found, sum(class, found));
            // Runs above that end before this one does are of no use for the next, but for a corner.
            while above.get(first).is_some_and(|(run, ..)| run.end + reach <= found.start) {
                first += 1;
            }
            for (run, other, at) in &above[first..] {
                if run.start >= found.end + reach {
                    break;
                }
                if *other == class {
                    place = self.join(place, *at);
                }
            }
            current.push((found, class, place));
        }
        self.finish_others(&above, out);
        for (.., place) in &mut current {
            *place = self.root(*place);
        }
        // Nothing names them any more.
        for place in 0..self.slots.len() {
            if matches!(self.slots[place], Slot::Joined(_)) {
                self.release(place);
            }
        }
        self.above = current;
        self.row += 1;
    }

    /// The last row has come: all regions go out.
    pub fn finish(&mut self, out: &mut dyn FnMut(Region)) {
        let above = std::mem::take(&mut self.above);
        self.finish_others(&above, out);
    }

    /// Lets go of the regions of the row above that the current row has not come to.
    fn finish_others(&mut self, above: &[(Run, u16, usize)], out: &mut dyn FnMut(Region)) {
        let mut finished = Vec::new();
        for (.., place) in above {
            let place = self.root(*place);
            if matches!(&self.slots[place], Slot::Open(region) if region.last < self.row)
                && let Slot::Open(mut region) = self.release(place)
            {
                region.runs.sort_unstable();
                finished.push(region);
            }
        }
        finished.sort_unstable_by_key(|region| region.runs[0]);
        finished.into_iter().for_each(out);
    }

    /// A new region of one run.
    fn begin(&mut self, class: u16, run: Run, sum: Sum) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        });
        self.slots[place] = Slot::Open(Region { class, runs: vec![run], sum, last: run.row });
        place
    }

    fn release(&mut self, place: usize) -> Slot {
        self.free.push(place);
        std::mem::replace(&mut self.slots[place], Slot::Free)
    }

    fn root(&self, mut place: usize) -> usize {
        while let Slot::Joined(other) = self.slots[place] {
            place = other;
        }
        place
    }

    /// Makes one region of two, the smaller one a part of the larger; returns its place.
    fn join(&mut self, a: usize, b: usize) -> usize {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return a;
        }
        let size = |place: usize| match &self.slots[place] {
            Slot::Open(region) => region.runs.len(),
            _ => 0,
        };
        let (large, small) = if size(a) < size(b) { (b, a) } else { (a, b) };
        let part = std::mem::replace(&mut self.slots[small], Slot::Joined(large));
        if let (Slot::Open(part), Slot::Open(region)) = (part, &mut self.slots[large]) {
            region.runs.extend(part.runs);
            region.sum.add(part.sum);
            region.last = region.last.max(part.last);
        }
        large
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The regions of a mask of digits, 0 being none: class, first pixel and pixels of each, in their order.
    fn regions(rows: &[&str], connectivity: Connectivity) -> Vec<(u16, (u32, u32), u32)> {
        let mut found = Vec::new();
        let mut out = |region: Region| {
            assert!(region.runs.is_sorted());
            let pixels: u32 = region.runs.iter().map(|run| run.end - run.start).sum();
            assert_eq!(region.sum, Sum { values: f64::from(pixels), count: u64::from(pixels) });
            found.push((region.class, (region.runs[0].row, region.runs[0].start), pixels));
        };
        let mut regions = Regions::new(connectivity);
        for row in rows {
            let labels: Vec<u16> = row.bytes().map(|b| u16::from(b - b'0')).collect();
            let class = |label: u16| (label != 0).then_some(label);
            let one =
                |_, run: Run| Sum { values: f64::from(run.end - run.start), count: u64::from(run.end - run.start) };
            regions.push(&labels, class, one, &mut out);
        }
        regions.finish(&mut out);
        found
    }

    #[test]
    fn regions_go_out_where_they_end_in_the_order_of_their_first_pixels() {
        let rows = ["10022", "10000", "10333", "00000"];
        assert_eq!(regions(&rows, Connectivity::Four), [(2, (0, 3), 2), (1, (0, 0), 3), (3, (2, 2), 3)]);
    }

    #[test]
    fn arms_that_meet_late_are_one_region() {
        let rows = ["10101", "10101", "11111"];
        assert_eq!(regions(&rows, Connectivity::Four), [(1, (0, 0), 11)]);
        let rows = ["11111", "10001", "10101", "10111"];
        assert_eq!(regions(&rows, Connectivity::Four), [(1, (0, 0), 14)]);
    }

    #[test]
    fn corners_join_only_where_8_neighbours_count() {
        let rows = ["10010", "01100", "10010"];
        assert_eq!(regions(&rows, Connectivity::Four).len(), 5);
        assert_eq!(regions(&rows, Connectivity::Eight), [(1, (0, 0), 6)]);
        // Nothing reaches around the edge.
        assert_eq!(regions(&["001", "100"], Connectivity::Eight).len(), 2);
    }

    #[test]
    fn nothing_is_held_of_regions_that_are_finished() {
        let mut regions = Regions::new(Connectivity::Eight);
        let mut finished = 0;
        for row in 0..5000_u16 {
            // Squares that stand apart, in places that differ from row to row, and arms that join.
            let label = |x: u16| u16::from((x + row / 8 * 3) % 8 < 5 && row % 8 < 5 && !(row % 8 < 2 && x % 8 == 3));
            let labels: Vec<u16> = (0..64).map(label).collect();
            regions.push(&labels, |label| (label > 0).then_some(1), |_, _| Sum::default(), &mut |_| finished += 1);
        }
        assert!(finished > 4000 && regions.slots.len() <= 32, "{finished} {}", regions.slots.len());
    }

    #[test]
    fn classes_are_apart() {
        assert_eq!(regions(&["1122", "2211"], Connectivity::Eight).len(), 2);
        assert_eq!(regions(&["1122", "2211"], Connectivity::Four).len(), 4);
    }
}
