//! onnxsegment: raster frames in, ensembled segmentation masks out, on any GStreamer pipeline.
//!
//! The library is a GStreamer plugin (`gst-launch-1.0 … ! onnxsegment model-file=… ! …`) and, for Rust programs, the
//! [`engine`] that it is built on.

pub mod elements;
pub mod engine;
// For the command line; not meant for others.
#[doc(hidden)]
pub mod files;
pub mod raster;
mod stac;

use elements::register;

gst::plugin_define!(
    onnxsegment,
    env!("CARGO_PKG_DESCRIPTION"),
    register,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MPL",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("BUILD_REL_DATE")
);
