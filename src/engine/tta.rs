//! Test-time augmentation: the eight symmetries of the square (the dihedral group D4) and their inverses.
//!
//! A transform is never applied to a frame as such. It is an index mapping: each is an origin and two steps,
//! used while a plane is copied into a model's input and again while the model's output is read back.

use super::error::{Error, Result};

/// One of the eight symmetries. Rotations are counter-clockwise, as numpy's `rot90`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transform {
    Identity,
    HFlip,
    VFlip,
    Rot180,
    Rot90,
    Rot270,
    Transpose,
    AntiTranspose,
}

/// Where the pixels of a transformed plane lie in the plane it was made from:
/// pixel (row i, column j) is at `origin + i * row + j * col`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    pub origin: isize,
    pub row: isize,
    pub col: isize,
}

impl Transform {
    pub const ALL: [Transform; 8] = [
        Transform::Identity,
        Transform::HFlip,
        Transform::VFlip,
        Transform::Rot180,
        Transform::Rot90,
        Transform::Rot270,
        Transform::Transpose,
        Transform::AntiTranspose,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Transform::Identity => "identity",
            Transform::HFlip => "hflip",
            Transform::VFlip => "vflip",
            Transform::Rot180 => "rot180",
            Transform::Rot90 => "rot90",
            Transform::Rot270 => "rot270",
            Transform::Transpose => "transpose",
            Transform::AntiTranspose => "antitranspose",
        }
    }

    /// The transform that undoes this one.
    pub fn inverse(self) -> Self {
        match self {
            Transform::Rot90 => Transform::Rot270,
            Transform::Rot270 => Transform::Rot90,
            other => other,
        }
    }

    /// Whether height and width change places.
    pub fn swaps_axes(self) -> bool {
        matches!(self, Transform::Rot90 | Transform::Rot270 | Transform::Transpose | Transform::AntiTranspose)
    }

    /// Height and width of the transformed plane.
    pub fn size(self, (height, width): (usize, usize)) -> (usize, usize) {
        if self.swaps_axes() { (width, height) } else { (height, width) }
    }

    /// The walk over a plane of `height` × `width` pixels whose neighbours in a row are `step` apart and whose
    /// rows are `stride` apart, that visits it in the order of the transformed plane.
    pub fn walk(self, height: usize, width: usize, stride: isize, step: isize) -> Walk {
        let bottom = (height as isize - 1) * stride;
        let right = (width as isize - 1) * step;
        let (origin, row, col) = match self {
            Transform::Identity => (0, stride, step),
            Transform::HFlip => (right, stride, -step),
            Transform::VFlip => (bottom, -stride, step),
            Transform::Rot180 => (bottom + right, -stride, -step),
            Transform::Rot90 => (right, -step, stride),
            Transform::Rot270 => (bottom, step, -stride),
            Transform::Transpose => (0, step, stride),
            Transform::AntiTranspose => (bottom + right, -step, -stride),
        };
        Walk { origin, row, col }
    }
}

/// The named sets of `tta`, each with the identity.
const SETS: [(&str, &[Transform]); 6] = [
    ("none", &[]),
    ("hflip", &[Transform::HFlip]),
    ("vflip", &[Transform::VFlip]),
    ("flip3", &[Transform::HFlip, Transform::VFlip]),
    ("flips", &[Transform::HFlip, Transform::VFlip, Transform::Rot180]),
    ("d4", &Transform::ALL),
];

/// Reads a `tta` setting: set names and transforms, joined by `,` or `+`.
///
/// The identity is always in the result, which is free of repeats and in the order of [`Transform::ALL`].
///
/// # Errors
/// A name that is none of the sets or transforms; the text lists them all.
pub fn parse(text: &str) -> Result<Vec<Transform>> {
    let mut chosen = vec![Transform::Identity];
    for name in text.split([',', '+']).map(str::trim).filter(|n| !n.is_empty()) {
        if let Some((_, set)) = SETS.iter().find(|(n, _)| *n == name) {
            chosen.extend_from_slice(set);
        } else if let Some(one) = Transform::ALL.into_iter().find(|t| t.name() == name) {
            chosen.push(one);
        } else {
            let sets: Vec<_> = SETS.iter().map(|(n, _)| *n).collect();
            let transforms: Vec<_> = Transform::ALL.iter().map(|t| t.name()).collect();
            return Err(Error::setting(
                "tta",
                text,
                format!(
                    "there is no transform or set `{name}`. The sets are {}; the transforms are {}; join several with , or +",
                    sets.join(", "),
                    transforms.join(", ")
                ),
            ));
        }
    }
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

/// The shortest text that [`parse`] reads as these transforms.
pub fn name(transforms: &[Transform]) -> String {
    let chosen = |set: &[Transform]| {
        let rest = transforms.iter().filter(|t| **t != Transform::Identity);
        rest.eq(set.iter().filter(|t| **t != Transform::Identity))
    };
    match SETS.iter().find(|(_, set)| chosen(set)) {
        Some((name, _)) => name.to_string(),
        None => {
            let names = transforms.iter().filter(|t| **t != Transform::Identity).map(|t| t.name());
            names.collect::<Vec<_>>().join("+")
        }
    }
}

/// A square block of this side is moved at a time when axes change places, so that both sides stay in cache.
const BLOCK: usize = 16;

/// Copies `rows` × `cols` elements found by `walk` in `from` to `to`, whose neighbours in a row are `step` apart
/// and whose rows are `stride` apart.
///
/// # Panics
/// When the walk leaves `from`, or `to` is too short.
pub fn gather<S: Copy, D>(
    from: &[S],
    walk: Walk,
    to: &mut [D],
    (stride, step): (usize, usize),
    (rows, cols): (usize, usize),
    convert: impl Fn(S) -> D,
) {
    if rows == 0 || cols == 0 {
        return;
    }
    let at = |i: usize, j: usize| (walk.origin + i as isize * walk.row + j as isize * walk.col) as usize;
    if walk.col.abs() == 1 && step == 1 {
        for i in 0..rows {
            let to = &mut to[i * stride..i * stride + cols];
            if walk.col == 1 {
                let from = &from[at(i, 0)..at(i, 0) + cols];
                to.iter_mut().zip(from).for_each(|(d, &s)| *d = convert(s));
            } else {
                let first = at(i, cols - 1);
                let from = &from[first..first + cols];
                to.iter_mut().zip(from.iter().rev()).for_each(|(d, &s)| *d = convert(s));
            }
        }
        return;
    }
    for i0 in (0..rows).step_by(BLOCK) {
        for j0 in (0..cols).step_by(BLOCK) {
            for i in i0..rows.min(i0 + BLOCK) {
                for j in j0..cols.min(j0 + BLOCK) {
                    to[i * stride + j * step] = convert(from[at(i, j)]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition by coordinates, as numpy's flip, rot90 and transpose have it.
    fn naive(t: Transform, h: usize, w: usize, i: usize, j: usize) -> (usize, usize) {
        match t {
            Transform::Identity => (i, j),
            Transform::HFlip => (i, w - 1 - j),
            Transform::VFlip => (h - 1 - i, j),
            Transform::Rot180 => (h - 1 - i, w - 1 - j),
            Transform::Rot90 => (j, w - 1 - i),
            Transform::Rot270 => (h - 1 - j, i),
            Transform::Transpose => (j, i),
            Transform::AntiTranspose => (h - 1 - j, w - 1 - i),
        }
    }

    #[test]
    fn names_are_read_back() {
        for text in ["none", "hflip", "vflip", "flip3", "flips", "d4", "rot90", "hflip+rot90", "flip3+transpose"] {
            let transforms = parse(text).unwrap();
            assert_eq!(parse(&name(&transforms)).unwrap(), transforms, "{text}");
        }
        assert_eq!(name(&parse("vflip,hflip").unwrap()), "flip3");
        assert_eq!(name(&[Transform::Identity]), "none");
    }

    proptest! {
        #[test]
        fn gather_is_the_transform_and_the_inverse_undoes_it(
            h in 1usize..40, w in 1usize..40, pad in 0usize..3, step in 1usize..4, t in 0usize..8
        ) {
            let t = Transform::ALL[t];
            let stride = w * step + pad;
            let plane: Vec<u32> = (0..(h * stride) as u32).collect();
            let (rows, cols) = t.size((h, w));
            let mut out = vec![0u32; rows * cols * 2];
            // A destination step of 2 stands for interleaved tensors.
            gather(&plane, t.walk(h, w, stride as isize, step as isize), &mut out, (cols * 2, 2), (rows, cols), |v| v);
            for i in 0..rows {
                for j in 0..cols {
                    let (y, x) = naive(t, h, w, i, j);
                    prop_assert_eq!(out[(i * cols + j) * 2], plane[y * stride + x * step]);
                }
            }
            let mut back = vec![0u32; h * w];
            gather(&out, t.inverse().walk(rows, cols, 2 * cols as isize, 2), &mut back, (w, 1), (h, w), |v| v);
            for y in 0..h {
                for x in 0..w {
                    prop_assert_eq!(back[y * w + x], plane[y * stride + x * step]);
                }
            }
        }
    }

    #[test]
    fn sets_hold_the_identity_and_no_repeats() {
        assert_eq!(parse("").unwrap(), [Transform::Identity]);
        assert_eq!(parse("none").unwrap(), [Transform::Identity]);
        assert_eq!(parse("flip3").unwrap(), [Transform::Identity, Transform::HFlip, Transform::VFlip]);
        assert_eq!(parse("flips+d4, hflip").unwrap(), Transform::ALL);
        assert_eq!(parse("rot90").unwrap(), [Transform::Identity, Transform::Rot90]);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let text = parse("flips,mirror").unwrap_err().to_string();
        for word in ["tta=flips,mirror", "mirror", "flip3", "d4", "antitranspose"] {
            assert!(text.contains(word), "{word} is not in: {text}");
        }
    }
}
