//! A row of yes and no, 64 pixels to a word.

use std::ops::Range;

/// Bits, with a word of zeros before the first and behind the last of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// `len` times no.
    pub fn new(len: usize) -> Self {
        Bits(vec![0; len.div_ceil(64) + 2])
    }

    /// Sets the bits of a range.
    pub fn set(&mut self, range: Range<usize>) {
        for (word, mask) in words(range) {
            self.0[word] |= mask;
        }
    }

    /// Calls `f` with the place of each bit of a range that is `value`, in order.
    pub fn each(&self, range: Range<usize>, value: bool, mut f: impl FnMut(usize)) {
        for (word, mask) in words(range) {
            let mut found = if value { self.0[word] } else { !self.0[word] } & mask;
            while found != 0 {
                f((word - 1) * 64 + found.trailing_zeros() as usize);
                found &= found - 1;
            }
        }
    }

    pub fn and(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
    }

    pub fn or(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    /// Writes into `to` the bits that are set with both their neighbours.
    pub fn shrink(&self, to: &mut Bits) {
        self.near(to, |a, left, right| a & left & right);
    }

    /// Writes into `to` the bits that are set or have a neighbour that is. None may be set at either end.
    pub fn grow(&self, to: &mut Bits) {
        self.near(to, |a, left, right| a | left | right);
    }

    fn near(&self, to: &mut Bits, f: impl Fn(u64, u64, u64) -> u64) {
        let inner = self.0.len() - 1;
        for (to, near) in to.0[1..inner].iter_mut().zip(self.0.windows(3)) {
            *to = f(near[1], near[1] << 1 | near[0] >> 63, near[1] >> 1 | near[2] << 63);
        }
    }
}

/// The words that a range of bits reaches into, each with its bits of the range.
fn words(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = range;
    let last = if end > start { end.div_ceil(64) } else { start / 64 };
    (start / 64..last).map(move |word| {
        let from = start.max(word * 64) - word * 64;
        let to = end.min(word * 64 + 64) - word * 64;
        (word + 1, (u64::MAX << from) & (u64::MAX >> (64 - to)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(pixels: &[bool]) -> Bits {
        let mut bits = Bits::new(pixels.len());
        pixels.iter().enumerate().filter(|(_, p)| **p).for_each(|(k, _)| bits.set(k..k + 1));
        bits
    }

    fn places(bits: &Bits, range: Range<usize>, value: bool) -> Vec<usize> {
        let mut found = Vec::new();
        bits.each(range, value, |k| found.push(k));
        found
    }

    proptest! {
        #[test]
        fn bits_are_pixels(pixels in prop::collection::vec(any::<bool>(), 1..300), from in 0usize..300, to in 0usize..300) {
            let n = pixels.len();
            let (from, to) = (from % n, to % (n + 1));
            let bits = of(&pixels);
            for value in [true, false] {
                let expected: Vec<_> = (from..to).filter(|k| pixels[*k] == value).collect();
                prop_assert_eq!(places(&bits, from..to, value), expected);
            }
            let mut filled = bits.clone();
            filled.set(from..to);
            let expected: Vec<_> = (0..n).filter(|k| pixels[*k] || (from..to).contains(k)).collect();
            prop_assert_eq!(places(&filled, 0..n, true), expected);
        }

        #[test]
        fn neighbours_are_those_beside(mut pixels in prop::collection::vec(prop::bool::weighted(0.7), 3..300)) {
            let n = pixels.len();
            (pixels[0], pixels[n - 1]) = (false, false);
            let bits = of(&pixels);
            let at = |k: usize| k < n && pixels[k];
            let (mut less, mut more) = (Bits::new(n), Bits::new(n));
            bits.shrink(&mut less);
            bits.grow(&mut more);
            let all = |k: &usize| at(*k) && at(k.wrapping_sub(1)) && at(k + 1);
            let any = |k: &usize| at(*k) || at(k.wrapping_sub(1)) || at(k + 1);
            prop_assert_eq!(places(&less, 0..n, true), (0..n).filter(all).collect::<Vec<_>>());
            prop_assert_eq!(places(&more, 0..n, true), (0..n).filter(any).collect::<Vec<_>>());
        }
    }
}
