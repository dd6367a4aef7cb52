//! What decides pixels besides models and settings: whoever works on one raster has to have the same.

use anyhow::Result;
use gstonnxsegment::engine::runtime;
use serde::Serialize;

/// Versions of one machine's programs.
#[derive(Debug, Clone, Serialize)]
pub struct Versions {
    /// This program and its plugin, with the commit that they were built from.
    pub onnxsegment: &'static str,
    pub onnxruntime: String,
    /// What ONNX Runtime was built with, best first.
    pub providers: Vec<&'static str>,
}

impl Versions {
    /// # Errors
    /// ONNX Runtime is not to be found.
    pub fn here() -> Result<Self> {
        Ok(Versions {
            onnxsegment: concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
            onnxruntime: runtime::version()?,
            providers: runtime::providers()?,
        })
    }
}
