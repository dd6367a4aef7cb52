//! How well a mask agrees with the truth, and how far chance alone would move that number.
//!
//! Everything that is scored ends as [`Counts`] of true and false finds: pixels of a class, pixels near its outline,
//! whole objects. So one set of formulas and one bootstrap serve all of them.

mod blocks;
pub mod bootstrap;
pub mod boundary;
pub mod calibration;
pub mod confusion;
mod map;
pub mod objects;

pub use bootstrap::{Interval, bootstrap, bootstrap_iou};
pub use calibration::Calibration;
pub use confusion::{ClassCounts, Confusion, Counts, Label};
pub use map::LabelMap;
pub use objects::{Connectivity, Objects};
