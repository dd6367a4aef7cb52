//! Hole filling and minimum area: connected regions by union-find over rows, of which only those are held that a region
//! reaches whose fate is open.
//!
//! A region that is to be small is decided as soon as it is not, so that one which is open has few pixels, and not more
//! rows than pixels.

use std::collections::VecDeque;

use super::{Connectivity, Selection, Step, runs};

/// Which regions become what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Background of at most so many pixels becomes the one class around it.
    Fill { most: u64 },
    /// Regions of a class with fewer pixels become background.
    Remove { least: u64 },
}

impl Rule {
    pub fn does_something(self) -> bool {
        match self {
            Rule::Fill { most } => most > 0,
            Rule::Remove { least } => least > 1,
        }
    }
}

/// What lies around a region.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Around {
    Nothing,
    One(u16),
    /// Two classes, no data, a label that is not cleaned, or the mask's edge.
    Other,
}

impl Around {
    fn and(self, other: Around) -> Around {
        match (self, other) {
            (Around::Nothing, a) | (a, Around::Nothing) => a,
            (a, b) if a == b => a,
            _ => Around::Other,
        }
    }
}

/// A region, or a part of one.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Itself, where it is a region's root.
    parent: u32,
    area: u64,
    first_row: u64,
    around: Around,
}

/// Pixels of one label in a row. `node` is `NONE` where the label is none that the rule is about.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    label: u16,
    node: u32,
}

const NONE: u32 = u32::MAX;

struct Held {
    row: Vec<u16>,
    /// The runs whose fate was open when the row came.
    open: Vec<Run>,
}

pub struct Regions {
    rule: Rule,
    /// By how many columns runs may miss each other and still touch.
    slack: usize,
    selection: Selection,
    nodes: Vec<Node>,
    /// The runs of the row that came last.
    front: Vec<Run>,
    held: VecDeque<Held>,
    /// The number of the first row that is held, and of the row that comes next.
    first: u64,
    next: u64,
    /// Nodes that are worth tidying up.
    many: usize,
}

/// Nodes that are never too many. Tests tidy up as often as they can.
const FEW: usize = if cfg!(test) { 1 } else { 1 << 12 };

impl Regions {
    pub fn new(rule: Rule, connectivity: Connectivity, selection: Selection) -> Self {
        Regions {
            rule,
            slack: usize::from(connectivity == Connectivity::Eight),
            selection,
            nodes: Vec::new(),
            front: Vec::new(),
            held: VecDeque::new(),
            first: 0,
            next: 0,
            many: FEW,
        }
    }

    fn root(&mut self, mut node: u32) -> u32 {
        loop {
            let parent = self.nodes[node as usize].parent;
            if parent == node {
                return node;
            }
            let above = self.nodes[parent as usize].parent;
            self.nodes[node as usize].parent = above;
            node = above;
        }
    }

    fn unite(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        let (large, small) = if self.nodes[a as usize].area < self.nodes[b as usize].area { (b, a) } else { (a, b) };
        let Node { area, first_row, around, .. } = self.nodes[small as usize];
        self.nodes[small as usize].parent = large;
        let node = &mut self.nodes[large as usize];
        node.area += area;
        node.first_row = node.first_row.min(first_row);
        node.around = node.around.and(around);
    }

    /// Notes what a hole may touch.
    fn note(&mut self, node: u32, label: u16) {
        if let Rule::Fill { .. } = self.rule {
            self.surround(node, if self.selection.has(label) { Around::One(label) } else { Around::Other });
        }
    }

    fn surround(&mut self, node: u32, around: Around) {
        let root = self.root(node) as usize;
        self.nodes[root].around = self.nodes[root].around.and(around);
    }

    /// Whether a region stays as it is, whatever comes.
    fn stays(&self, root: u32) -> bool {
        let Node { area, around, .. } = self.nodes[root as usize];
        match self.rule {
            Rule::Fill { most } => area > most || around == Around::Other,
            Rule::Remove { least } => area >= least,
        }
    }

    /// The runs of a row, those that the rule is about with a node each.
    fn runs(&mut self, row: &[u16]) -> Vec<Run> {
        let mut found: Vec<Run> = Vec::new();
        for (start, end, label) in runs(row) {
            let counts = match self.rule {
                Rule::Fill { .. } => label == self.selection.background,
                Rule::Remove { .. } => self.selection.has(label),
            };
            let node = if counts { self.nodes.len() as u32 } else { NONE };
            if counts {
                let on_edge = self.next == 0 || start == 0 || end == row.len();
                let around = if on_edge { Around::Other } else { Around::Nothing };
                self.nodes.push(Node { parent: node, area: (end - start) as u64, first_row: self.next, around });
                // To the left; to the right, the next run notes.
                if let Some(left) = found.last() {
                    self.note(node, left.label);
                }
            } else if let Some(left) = found.last().filter(|left| left.node != NONE) {
                self.note(left.node, label);
            }
            found.push(Run { start, end, label, node });
        }
        found
    }

    /// Joins the runs of a row to those of the row above.
    fn join(&mut self, above: &[Run], row: &[Run]) {
        let slack = self.slack;
        let mut from = 0;
        for run in row {
            while from < above.len() && above[from].end + slack <= run.start {
                from += 1;
            }
            for other in above[from..].iter().take_while(|other| other.start < run.end + slack) {
                match (other.node, run.node) {
                    (NONE, NONE) => {}
                    (a, b) if other.label == run.label => self.unite(a, b),
                    (a, b) => {
                        if a != NONE {
                            self.note(a, run.label);
                        }
                        if b != NONE {
                            self.note(b, other.label);
                        }
                    }
                }
            }
        }
    }

    /// Gives the rows before `end`, whose regions are all decided.
    fn emit(&mut self, end: u64, out: &mut dyn FnMut(Vec<u16>)) {
        while self.first < end
            && let Some(Held { mut row, open }) = self.held.pop_front()
        {
            for run in open {
                let root = self.root(run.node);
                if !self.stays(root) {
                    let becomes = match (self.rule, self.nodes[root as usize].around) {
                        (Rule::Remove { .. }, _) => self.selection.background,
                        (Rule::Fill { .. }, Around::One(label)) => label,
                        (Rule::Fill { .. }, _) => run.label,
                    };
                    row[run.start..run.end].fill(becomes);
                }
            }
            self.first += 1;
            out(row);
        }
    }

    /// Forgets the nodes that no run refers to any more.
    fn tidy(&mut self) {
        let mut old = std::mem::take(&mut self.nodes);
        let mut new: Vec<Node> = Vec::new();
        // A region's new node, from the first run of it on.
        let mut moved = vec![NONE; old.len()];
        let runs = self.held.iter_mut().flat_map(|held| &mut held.open).chain(&mut self.front);
        for run in runs.filter(|run| run.node != NONE) {
            let mut root = run.node;
            while old[root as usize].parent != root {
                root = old[root as usize].parent;
            }
            old[run.node as usize].parent = root;
            if moved[root as usize] == NONE {
                moved[root as usize] = new.len() as u32;
                new.push(Node { parent: new.len() as u32, ..old[root as usize] });
            }
            run.node = moved[root as usize];
        }
        self.many = 2 * new.len() + FEW;
        self.nodes = new;
    }
}

impl Step for Regions {
    fn push(&mut self, row: Vec<u16>, out: &mut dyn FnMut(Vec<u16>)) {
        let runs = self.runs(&row);
        let above = std::mem::take(&mut self.front);
        self.join(&above, &runs);
        let mut open = Vec::new();
        let mut oldest = self.next + 1;
        for run in runs.iter().filter(|run| run.node != NONE) {
            let root = self.root(run.node);
            if !self.stays(root) {
                oldest = oldest.min(self.nodes[root as usize].first_row);
                open.push(*run);
            }
        }
        self.front = runs;
        self.held.push_back(Held { row, open });
        self.next += 1;
        self.emit(oldest, out);
        if self.nodes.len() > self.many {
            self.tidy();
        }
    }

    fn finish(&mut self, out: &mut dyn FnMut(Vec<u16>)) {
        for run in std::mem::take(&mut self.front) {
            if run.node != NONE {
                self.surround(run.node, Around::Other);
            }
        }
        self.emit(self.next, out);
        (self.first, self.next) = (0, 0);
        self.nodes.clear();
    }

    fn held(&self) -> usize {
        self.held.len()
    }
}
