//! The pad `image` on GStreamer 1.26 or later, and the element beside GStreamer's own `onnxinference`.
//!
//! `tools/debian13.sh test` runs these in a root of Debian 13, which has GStreamer 1.26 and that element.

#[path = "../common/mod.rs"]
mod common;

mod attached;
mod image;
mod leaks;
mod named;
mod peers;
mod read;
