//! The GStreamer elements. Each is settings, state, and calls into the engine.

mod blend;
mod caps;
pub mod labels;
pub mod maskclean;
pub mod maskmetrics;
pub mod meta;
pub mod onnxsegment;
mod pads;
#[cfg(feature = "raster")]
pub mod rastersink;
#[cfg(feature = "raster")]
pub mod rastersrc;
mod resize;
pub mod tilemerge;
pub mod tilesplit;

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use crate::raster::Error;

/// ONNX Runtime's own log.
static RUNTIME_LOG: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("onnxruntime", gst::DebugColorFlags::empty(), Some("ONNX Runtime's own messages"))
});

/// Registers every element of the plugin.
///
/// # Errors
/// What GStreamer says of a registration.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    crate::engine::runtime::set_log_sink(|level, text| {
        use ort::logging::LogLevel;
        match level {
            LogLevel::Verbose => gst::trace!(RUNTIME_LOG, "{text}"),
            LogLevel::Info => gst::debug!(RUNTIME_LOG, "{text}"),
            // What matters of these comes back as an error of the call that caused it.
            LogLevel::Warning => gst::info!(RUNTIME_LOG, "{text}"),
            LogLevel::Error | LogLevel::Fatal => gst::warning!(RUNTIME_LOG, "{text}"),
        }
    });
    #[cfg(feature = "raster")]
    {
        rastersrc::register(plugin)?;
        rastersink::register(plugin)?;
    }
    onnxsegment::register(plugin)?;
    tilesplit::register(plugin)?;
    tilemerge::register(plugin)?;
    maskclean::register(plugin)?;
    maskmetrics::register(plugin)
}

/// Posts the one element error that a user sees for what went wrong with a raster.
fn post(element: &impl IsA<gst::Element>, error: &Error) {
    match error {
        Error::Setting { .. } | Error::Refused(_) => {
            gst::element_error!(element, gst::ResourceError::Settings, ("{error}"))
        }
        Error::Read { .. } => gst::element_error!(element, gst::ResourceError::OpenRead, ("{error}")),
        Error::Write { .. } => gst::element_error!(element, gst::ResourceError::Write, ("{error}")),
        Error::Tile(_) => gst::element_error!(element, gst::StreamError::Format, ("{error}")),
        Error::Cancelled => {}
    }
}
