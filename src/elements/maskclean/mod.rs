//! `maskclean`: a mask in, the same mask without specks, gaps and ragged edges out.

mod imp;
mod settings;
mod stream;

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use crate::raster::clean;

static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| gst::DebugCategory::new("maskclean", gst::DebugColorFlags::empty(), Some("Cleans masks")));

glib::wrapper! {
    /// The element. See `gst-inspect-1.0 maskclean` for its properties.
    pub struct MaskClean(ObjectSubclass<imp::MaskClean>) @extends gst::Element, gst::Object;
}

/// The neighbourhood of opening and closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstOnnxSegmentMaskShape")]
#[repr(i32)]
pub enum Shape {
    #[default]
    #[enum_value(name = "Disk: x² + y² ≤ r²", nick = "disk")]
    Disk,
    #[enum_value(name = "Square: 2r + 1 pixels wide and high", nick = "square")]
    Square,
    #[enum_value(name = "Diamond: |x| + |y| ≤ r", nick = "diamond")]
    Diamond,
}

impl Shape {
    fn nick(self) -> &'static str {
        match self {
            Shape::Disk => "disk",
            Shape::Square => "square",
            Shape::Diamond => "diamond",
        }
    }
}

impl From<Shape> for clean::Shape {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Disk => clean::Shape::Disk,
            Shape::Square => clean::Shape::Square,
            Shape::Diamond => clean::Shape::Diamond,
        }
    }
}

/// Which value stands for pixels without data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstOnnxSegmentMaskNodata")]
#[repr(i32)]
pub enum Nodata {
    #[default]
    #[enum_value(name = "Auto: 255, in 16 bits 65535, unless a class is known to have that value", nick = "auto")]
    Auto,
    #[enum_value(name = "None: 255 and 65535 are classes as others", nick = "none")]
    None,
}

/// Registers the element.
///
/// # Errors
/// What GStreamer says of the registration.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    Shape::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    Nodata::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(Some(plugin), "maskclean", gst::Rank::NONE, MaskClean::static_type())
}
