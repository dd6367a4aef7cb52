//! `tilesplit`: one big frame in, its tiles out.

mod cut;
mod imp;

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("tilesplit", gst::DebugColorFlags::empty(), Some("Cuts frames into tiles"))
});

glib::wrapper! {
    /// The element. See `gst-inspect-1.0 tilesplit` for its properties.
    pub struct TileSplit(ObjectSubclass<imp::TileSplit>) @extends gst::Element, gst::Object;
}

/// Registers the element.
///
/// # Errors
/// What GStreamer says of the registration.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "tilesplit", gst::Rank::NONE, TileSplit::static_type())
}
