//! `tilemerge`: the tiles of a frame in, the frame out.

mod imp;

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| gst::DebugCategory::new("tilemerge", gst::DebugColorFlags::empty(), Some("Puts tiles together")));

glib::wrapper! {
    /// The element. See `gst-inspect-1.0 tilemerge` for its properties.
    pub struct TileMerge(ObjectSubclass<imp::TileMerge>) @extends gst::Element, gst::Object;
}

impl TileMerge {
    /// What the element declares, without what it inherits.
    pub fn specs() -> &'static [glib::ParamSpec] {
        <imp::TileMerge as gst::subclass::prelude::ObjectImpl>::properties()
    }
}

/// Registers the element.
///
/// # Errors
/// What GStreamer says of the registration.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    crate::elements::blend::BlendMode::register();
    gst::Element::register(Some(plugin), "tilemerge", gst::Rank::NONE, TileMerge::static_type())
}
