//! Against SciPy and scikit-image (`tests/golden/make_maskclean.py`).

use std::collections::BTreeMap;
use std::fs::File;

use ndarray::Array2;
use ndarray_npy::NpzReader;
use serde::Deserialize;

use crate::{Mask, by_tiles, cleaner, common, frame, grid};

#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    mask: String,
    settings: BTreeMap<String, String>,
}

pub fn cases() -> Vec<Case> {
    let file = File::open(common::root().join("tests/golden/maskclean/cases.json")).unwrap();
    serde_json::from_reader(file).unwrap()
}

impl Case {
    pub fn properties(&self) -> String {
        self.settings.iter().map(|(name, value)| format!(" {name}=\"{value}\"")).collect()
    }

    pub fn wide(&self) -> bool {
        self.mask == "wide"
    }

    pub fn before(&self) -> Mask {
        self.read("masks", &self.mask)
    }

    pub fn after(&self) -> Mask {
        self.read("results", &self.name)
    }

    fn read(&self, file: &str, name: &str) -> Mask {
        let file = File::open(common::root().join(format!("tests/golden/maskclean/{file}.npz"))).unwrap();
        let mut file = NpzReader::new(file).unwrap();
        let pixels: Array2<u16> = match self.wide() {
            true => file.by_name(name).unwrap(),
            false => file.by_name::<_, ndarray::Ix2>(name).map(|a: Array2<u8>| a.mapv(u16::from)).unwrap(),
        };
        let no = |v: u16| if v == 255 && !self.wide() { 65535 } else { v };
        Mask::new((pixels.ncols(), pixels.nrows()), |x, y| no(pixels[(y, x)]))
    }
}

#[test]
fn frames_equal_the_reference() {
    let _w = common::start();
    let cases = cases();
    assert!(cases.len() >= 50, "{}", cases.len());
    for case in cases {
        let found = frame(&mut cleaner(&case.properties()), &case.before(), case.wide());
        assert!(found == case.after(), "{}:{}", case.name, case.properties());
    }
}

#[test]
fn tiles_of_any_size_equal_the_reference() {
    let _w = common::start();
    for (k, case) in cases().iter().enumerate() {
        let before = case.before();
        let sizes = [(7, 5), (13, 31), (1, 11), (29, 1), (64, 17), (1000, 1000)];
        for size in [sizes[k % 6], sizes[(k + 1) % 6]] {
            let grid = grid(&before, size, 0);
            let found = by_tiles(&mut cleaner(&case.properties()), &before, &grid, case.wide());
            assert!(found == case.after(), "{}:{} by {size:?}", case.name, case.properties());
        }
    }
}
