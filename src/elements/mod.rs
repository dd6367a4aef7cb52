//! The GStreamer elements. Each is settings, state, and calls into the engine.

mod blend;
mod caps;
pub mod labels;
pub mod meta;
pub mod onnxsegment;
#[cfg(feature = "raster")]
pub mod rastersink;
#[cfg(feature = "raster")]
pub mod rastersrc;
mod resize;
pub mod tilemerge;
pub mod tilesplit;

use std::sync::LazyLock;

use gst::glib;

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
    tilemerge::register(plugin)
}
