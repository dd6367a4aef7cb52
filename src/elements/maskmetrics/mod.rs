//! `maskmetrics`: masks and their truth in, the masks out again, and at the end a report of how well the two agree.

mod imp;
mod read;
mod settings;
mod sides;

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| gst::DebugCategory::new("maskmetrics", gst::DebugColorFlags::empty(), Some("Masks and truth")));

glib::wrapper! {
    /// The element. See `gst-inspect-1.0 maskmetrics` for its properties.
    pub struct MaskMetrics(ObjectSubclass<imp::MaskMetrics>) @extends gst::Element, gst::Object;
}

/// Registers the element.
///
/// # Errors
/// What GStreamer says of the registration.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "maskmetrics", gst::Rank::NONE, MaskMetrics::static_type())
}
