//! Counts by square blocks of pixels: what the bootstrap draws from.

use std::ops::{AddAssign, Range};

use super::confusion::ClassCounts;

/// More blocks than this are joined with their neighbours, so that memory is bounded on videos and mosaics of any size.
pub const MAX_BLOCKS: usize = 4096;

/// What was counted in one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub pixels: ClassCounts,
    pub boundary: ClassCounts,
    pub objects: ClassCounts,
}

impl AddAssign<&Block> for Block {
    fn add_assign(&mut self, other: &Block) {
        self.pixels += &other.pixels;
        self.boundary += &other.boundary;
        self.objects += &other.objects;
    }
}

/// The blocks of all images so far, image by image and row by row.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    side: usize,
    /// In a row of the image at hand.
    across: usize,
    /// The first block of the image at hand, and the first of the next one.
    first: usize,
    next: usize,
    /// log2 of how many neighbours are joined to one.
    joined: u32,
    all: Vec<Block>,
}

impl Blocks {
    /// Blocks of `side × side` pixels; those at the right and at the bottom are cut.
    pub fn new(side: usize) -> Self {
        Blocks { side: side.max(1), across: 0, first: 0, next: 0, joined: 0, all: Vec::new() }
    }

    /// A new image. What is at its pixels comes into blocks of its own.
    pub fn begin(&mut self, width: usize, height: usize) {
        self.across = width.div_ceil(self.side);
        self.first = self.next;
        self.next += self.across * height.div_ceil(self.side);
        while (self.next - 1) >> self.joined >= MAX_BLOCKS {
            self.joined += 1;
            self.all = self.all.chunks(2).map(|pair| pair.iter().fold(Block::default(), add)).collect();
        }
        self.all.resize(((self.next - 1) >> self.joined) + 1, Block::default());
    }

    /// The block of a pixel of the image at hand.
    pub fn at(&mut self, x: usize, y: usize) -> &mut Block {
        &mut self.all[(self.first + y / self.side * self.across + x / self.side) >> self.joined]
    }

    /// Goes over a rectangle of the image at hand, row by row, block by block: gives each block, and which pixels of the
    /// rectangle, row-major, are in it.
    pub fn visit(
        &mut self,
        (x, y): (usize, usize),
        (width, height): (usize, usize),
        mut f: impl FnMut(&mut Block, Range<usize>),
    ) {
        for row in 0..height {
            let mut from = 0;
            while from < width {
                let to = ((x + from) / self.side * self.side + self.side - x).min(width);
                f(self.at(x + from, y + row), row * width + from..row * width + to);
                from = to;
            }
        }
    }

    pub fn all(&self) -> &[Block] {
        &self.all
    }

    /// How many neighbouring blocks of `side × side` are drawn as one.
    pub fn joined(&self) -> usize {
        1 << self.joined
    }

    pub fn sum(&self) -> Block {
        self.all.iter().fold(Block::default(), add)
    }
}

fn add(mut sum: Block, block: &Block) -> Block {
    sum += block;
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(blocks: &mut Blocks, at: (usize, usize), size: (usize, usize)) {
        blocks.visit(at, size, |block, pixels| pixels.for_each(|_| block.pixels.add(0, 0)));
    }

    fn pixels(blocks: &Blocks) -> Vec<u64> {
        blocks.all().iter().map(|b| b.pixels.0.first().map_or(0, |c| c.true_positive)).collect()
    }

    #[test]
    fn blocks_are_squares_cut_at_the_far_edges_and_images_do_not_share_them() {
        let mut blocks = Blocks::new(4);
        blocks.begin(6, 5);
        count(&mut blocks, (0, 0), (6, 5));
        assert_eq!(pixels(&blocks), [16, 8, 4, 2]);
        blocks.begin(3, 3);
        count(&mut blocks, (0, 0), (3, 3));
        assert_eq!(pixels(&blocks), [16, 8, 4, 2, 9]);
    }

    #[test]
    fn rectangles_of_any_cut_fill_the_same_blocks() {
        let mut whole = Blocks::new(4);
        whole.begin(10, 9);
        count(&mut whole, (0, 0), (10, 9));
        let mut parts = Blocks::new(4);
        parts.begin(10, 9);
        for (at, size) in [((0, 0), (7, 3)), ((7, 0), (3, 3)), ((0, 3), (5, 6)), ((5, 3), (5, 6))] {
            count(&mut parts, at, size);
        }
        assert_eq!(parts.all(), whole.all());
    }

    #[test]
    fn many_blocks_are_joined_and_lose_no_pixel() {
        let mut blocks = Blocks::new(1);
        for _ in 0..3 {
            blocks.begin(MAX_BLOCKS / 2 + 1, 1);
            count(&mut blocks, (0, 0), (MAX_BLOCKS / 2 + 1, 1));
        }
        assert_eq!(blocks.joined(), 2);
        assert!(blocks.all().len() <= MAX_BLOCKS);
        assert_eq!(pixels(&blocks).iter().sum::<u64>(), 3 * (MAX_BLOCKS as u64 / 2 + 1));
        assert!(pixels(&blocks)[..MAX_BLOCKS / 2].iter().all(|n| *n == 2));
    }
}
