//! `maskmetrics` and the scores behind it.

#[path = "../common/mod.rs"]
mod common;
mod golden;
