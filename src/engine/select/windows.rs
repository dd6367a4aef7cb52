//! Which pixels of a scene a model was not trained on, and what several models have in common there.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::engine::error::{Error, Result};
use crate::engine::onnx::OnnxFile;

/// The metadata key that holds a model's windows: a JSON list of [x, y, width, height].
pub const KEY: &str = "validation_windows";

/// A rectangle of pixels of a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

impl Window {
    /// `None` without any pixel.
    pub fn new([x, y, width, height]: [usize; 4]) -> Option<Self> {
        (width > 0 && height > 0).then_some(Window { x, y, width, height })
    }

    /// The least window that holds all of these, which lie within a scene; `None` of none.
    pub fn around(windows: &[Window]) -> Option<Self> {
        windows.iter().copied().reduce(|a, b| {
            let (x, y) = (a.x.min(b.x), a.y.min(b.y));
            let (right, bottom) = ((a.x + a.width).max(b.x + b.width), (a.y + a.height).max(b.y + b.height));
            Window { x, y, width: right - x, height: bottom - y }
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.width, self.height)
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers: Option<Vec<usize>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
        let window = numbers.and_then(|n| n.try_into().ok()).and_then(Window::new);
        window.ok_or_else(|| format!("`{text}` is no window; use x,y,width,height in pixels, such as 0,498,190,230"))
    }
}

/// The windows that a model's metadata names; `None` where it names none.
///
/// # Errors
/// A file that is no model, and a key that cannot be read.
pub fn of_model(path: &Path) -> Result<Option<Vec<Window>>> {
    let file = OnnxFile::read(path)?;
    let Some(text) = file.metadata.get(KEY) else { return Ok(None) };
    let lists: Option<Vec<[usize; 4]>> = serde_json::from_str(text).ok();
    let windows: Option<Vec<Window>> = lists.and_then(|lists| lists.into_iter().map(Window::new).collect());
    match windows {
        Some(windows) if !windows.is_empty() => Ok(Some(windows)),
        _ => Err(Error::model(
            path,
            format!(
                "metadata {KEY} is `{text}`; expected a list of [x, y, width, height] in pixels of the scene. Correct it, \
                 or state the windows"
            ),
        )),
    }
}

/// Some pixels of a scene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    pub width: usize,
    pub height: usize,
    /// Row by row.
    inside: Vec<bool>,
}

impl Area {
    /// The pixels in any of the windows.
    ///
    /// # Errors
    /// The first window that reaches beyond the scene.
    pub fn of(windows: &[Window], (width, height): (usize, usize)) -> std::result::Result<Self, Window> {
        let mut inside = vec![false; width * height];
        for w in windows {
            let ends = (w.x.checked_add(w.width), w.y.checked_add(w.height));
            let (Some(right), Some(bottom)) = ends else { return Err(*w) };
            if right > width || bottom > height {
                return Err(*w);
            }
            (w.y..bottom).for_each(|y| inside[y * width + w.x..y * width + right].fill(true));
        }
        Ok(Area { width, height, inside })
    }

    /// The pixels of both.
    pub fn and(&self, other: &Area) -> Area {
        self.with(|pixel| other.inside[pixel])
    }

    /// The pixels that `keep` keeps; it gets their number, row by row.
    pub fn with(&self, keep: impl Fn(usize) -> bool) -> Area {
        let inside = self.inside.iter().enumerate().map(|(pixel, inside)| *inside && keep(pixel)).collect();
        Area { inside, ..*self }
    }

    pub fn contains(&self, pixel: usize) -> bool {
        self.inside[pixel]
    }

    pub fn is_empty(&self) -> bool {
        !self.inside.contains(&true)
    }

    /// The numbers of its pixels, rising.
    pub fn pixels(&self) -> impl Iterator<Item = usize> {
        self.inside.iter().enumerate().filter(|(_, inside)| **inside).map(|(pixel, _)| pixel)
    }

    /// Left and top end; `None` of no pixels.
    pub fn corner(&self) -> Option<(usize, usize)> {
        self.pixels().map(|pixel| (pixel % self.width, pixel / self.width)).reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)))
    }
}

/// What the windows of several models have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// Pixels that none of them was trained on.
    Shared(Area),
    /// No two have any: folds of a cross-validation.
    Folds,
    /// These two have some, but not all of them together.
    Mixed(usize, usize),
}

impl Relation {
    /// Of at least one area.
    pub fn of(areas: &[Area]) -> Self {
        let all = areas[1..].iter().fold(areas[0].clone(), |all, area| all.and(area));
        if !all.is_empty() {
            return Relation::Shared(all);
        }
        let pairs = (0..areas.len()).flat_map(|a| (a + 1..areas.len()).map(move |b| (a, b)));
        match pairs.into_iter().find(|(a, b)| !areas[*a].and(&areas[*b]).is_empty()) {
            Some((a, b)) => Relation::Mixed(a, b),
            None => Relation::Folds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn root(file: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
    }

    fn area(windows: &[&str]) -> Area {
        let windows: Vec<Window> = windows.iter().map(|w| w.parse().unwrap()).collect();
        Area::of(&windows, (20, 10)).unwrap()
    }

    #[test]
    fn windows_are_read_from_text_and_metadata() {
        assert_eq!("1, 2,3,4".parse(), Ok(Window { x: 1, y: 2, width: 3, height: 4 }));
        for wrong in ["", "1,2,3", "1,2,3,4,5", "1,2,0,4", "-1,2,3,4", "a,2,3,4"] {
            assert!(wrong.parse::<Window>().unwrap_err().contains("x,y,width,height"), "{wrong}");
        }
        let run = Window { x: 0, y: 498, width: 190, height: 230 };
        assert_eq!(of_model(&root("models/snap1.onnx")).unwrap(), Some(vec![run]));
        assert_eq!(of_model(&root("tests/models/softmax2.onnx")).unwrap(), None);
        let error = of_model(&root("Cargo.toml")).unwrap_err().to_string();
        assert!(error.contains("Cargo.toml") && error.contains("not an ONNX model"), "{error}");
    }

    #[test]
    fn a_window_is_drawn_around_others() {
        let around = |text: &str| Window::around(&text.split(';').map(|w| w.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(around("3,4,5,6"), "3,4,5,6".parse().ok());
        assert_eq!(around("3,4,5,6;0,9,4,4;1,1,1,1"), "0,1,8,12".parse().ok());
        assert_eq!(Window::around(&[]), None);
    }

    #[test]
    fn snapshots_share_windows_and_folds_do_not() {
        let [a, b, c] = [area(&["0,0,5,10"]), area(&["5,0,5,10"]), area(&["3,2,4,4", "15,0,2,2"])];
        assert_eq!(Relation::of(&[a.clone(), a.clone()]), Relation::Shared(a.clone()));
        assert_eq!(Relation::of(&[a.clone(), b.clone()]), Relation::Folds);
        assert_eq!(Relation::of(&[b.clone(), c.clone()]), Relation::Shared(area(&["5,2,2,4"])));
        assert_eq!(Relation::of(&[a, b, c.clone()]), Relation::Mixed(0, 2));
        assert_eq!(c.corner(), Some((3, 0)));
    }

    #[test]
    fn a_window_beyond_the_scene_is_told() {
        for wrong in ["0,0,21,1", "19,9,1,2", "5,5,18446744073709551615,1"] {
            let window: Window = wrong.parse().unwrap();
            assert_eq!(Area::of(&["0,0,1,1".parse().unwrap(), window], (20, 10)), Err(window));
        }
    }

    proptest! {
        #[test]
        fn an_area_holds_what_its_windows_hold(
            windows in prop::collection::vec((0usize..20, 0usize..10, 1usize..8, 1usize..6), 0..4)
        ) {
            let cut = |(x, y, w, h): &(usize, usize, usize, usize)| {
                Window { x: *x, y: *y, width: (*w).min(20 - x), height: (*h).min(10 - y) }
            };
            let windows: Vec<Window> = windows.iter().map(cut).collect();
            let area = Area::of(&windows, (20, 10)).unwrap();
            let holds = |x: usize, y: usize| {
                windows.iter().any(|w| (w.x..w.x + w.width).contains(&x) && (w.y..w.y + w.height).contains(&y))
            };
            let expected: Vec<usize> = (0..200).filter(|p| holds(p % 20, p / 20)).collect();
            prop_assert_eq!(area.pixels().collect::<Vec<_>>(), expected);
        }
    }
}
