//! What values are painted with.

/// Colours from the least value to the greatest.
pub struct Ramp(&'static [[u8; 3]]);

/// Matplotlib's viridis and magma at equal steps (CC0, <https://bids.github.io/colormap>).
pub const VIRIDIS: Ramp = Ramp(&[
    [68, 1, 84],
    [71, 45, 123],
    [59, 82, 139],
    [44, 114, 142],
    [33, 145, 140],
    [40, 174, 128],
    [94, 201, 98],
    [173, 220, 48],
    [253, 231, 37],
]);
pub const MAGMA: Ramp = Ramp(&[
    [0, 0, 4],
    [28, 16, 68],
    [79, 18, 123],
    [129, 37, 129],
    [181, 54, 122],
    [229, 80, 100],
    [251, 135, 97],
    [254, 194, 135],
    [252, 253, 191],
]);

/// For classes that have none of their own: Paul Tol's `bright` and `muted` without grey, colour-blind safe
/// (<https://personal.sron.nl/~pault/>).
const CLASSES: [[u8; 3]; 15] = [
    [238, 102, 119],
    [68, 119, 170],
    [34, 136, 51],
    [204, 187, 68],
    [102, 204, 238],
    [170, 51, 119],
    [221, 204, 119],
    [51, 34, 136],
    [17, 119, 51],
    [136, 34, 85],
    [136, 204, 238],
    [153, 153, 51],
    [204, 102, 119],
    [68, 170, 153],
    [170, 68, 153],
];

impl Ramp {
    /// The colour of a share of the way from the least to the greatest value.
    pub fn at(&self, share: f64) -> [u8; 3] {
        let last = self.0.len() - 1;
        let place = share.clamp(0.0, 1.0) * last as f64;
        let low = (place as usize).min(last - 1);
        let part = place - low as f64;
        std::array::from_fn(|k| {
            (f64::from(self.0[low][k]) * (1.0 - part) + f64::from(self.0[low + 1][k]) * part + 0.5) as u8
        })
    }

    /// The colours at equal steps, as a page writes them.
    pub fn steps(&self) -> Vec<String> {
        self.0.iter().copied().map(css).collect()
    }
}

/// The colour of a class that has none of its own: grey for 0, which is what is around the others.
pub fn of_class(value: i64) -> [u8; 3] {
    match value {
        0 => [128; 3],
        255 => CLASSES[0],
        value => CLASSES[(value - 1).rem_euclid(CLASSES.len() as i64) as usize],
    }
}

pub fn css([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramps_run_between_their_ends() {
        assert_eq!((VIRIDIS.at(-1.0), VIRIDIS.at(0.0), VIRIDIS.at(1.0)), ([68, 1, 84], [68, 1, 84], [253, 231, 37]));
        assert_eq!((MAGMA.at(0.5), MAGMA.at(0.5625)), ([181, 54, 122], [205, 67, 111]));
        assert_eq!(VIRIDIS.steps()[4], "#21918c");
    }

    #[test]
    fn neighbouring_classes_differ() {
        assert!((0..40).all(|value| of_class(value) != of_class(value + 1)));
        assert_eq!(of_class(255), of_class(1));
    }
}
