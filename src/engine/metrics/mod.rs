//! How well a mask agrees with the truth, and how far chance alone would move that number.
//!
//! Everything that is scored ends as [`Counts`] of true and false finds: pixels of a class, pixels near its outline,
//! whole objects. So one set of formulas and one bootstrap serve all of them.

pub mod bootstrap;
pub mod confusion;

pub use bootstrap::{Interval, bootstrap, bootstrap_iou};
pub use confusion::{ClassCounts, Confusion, Counts, Label};
