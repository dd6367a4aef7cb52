//! Which models, transforms and merges to run.

pub mod windows;
