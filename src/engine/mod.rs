//! The ensemble engine: frames in, merged scores and masks out. No GStreamer type is in here, so that any Rust
//! program can use it.
//!
//! A **member** is one model with a weight, a **transform** one of the eight symmetries, a **pass** one member on
//! one transform. [`Ensemble::load`] opens the members, [`Ensemble::plan`] fits them to a frame format, and
//! [`Ensemble::submit`] runs a frame; [`Job::wait`] gives its merged scores, and [`views`] draws them.

pub mod card;
pub mod cascade;
pub mod decide;
mod dropout;
pub mod ensemble;
pub mod error;
pub mod inspect;
mod literal;
mod math;
mod memory;
pub mod merge;
mod metadata;
pub mod metrics;
pub mod onnx;
pub mod pixels;
pub mod runtime;
pub mod select;
pub mod settings;
pub mod soup;
pub mod spec;
mod stage;
pub mod tta;
pub mod views;

use std::sync::{Mutex, MutexGuard};

pub use ensemble::{Ensemble, Job, Plan};
pub use error::{Error, Result};
pub use merge::Merged;
pub use settings::Settings;

/// Locks, also after a panic elsewhere: every value guarded in this crate is valid between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
