//! `rastersink`: tiles of scores or labels become georeferenced rasters.

mod imp;
mod products;
mod settings;
mod writer;

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| gst::DebugCategory::new("rastersink", gst::DebugColorFlags::empty(), Some("Mosaics of tiles")));

glib::wrapper! {
    /// The element. See `gst-inspect-1.0 rastersink` for its properties.
    pub struct RasterSink(ObjectSubclass<imp::RasterSink>) @extends gst_base::BaseSink, gst::Element, gst::Object;
}

/// What to do with parts that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstRasterSinkResume")]
#[repr(i32)]
pub enum Resume {
    #[default]
    #[enum_value(name = "Auto: go on with parts of this run, refuse those of another", nick = "auto")]
    Auto,
    #[enum_value(name = "True: there must be parts to go on with", nick = "true")]
    True,
    #[enum_value(name = "False: throw parts away and begin anew (not with shards)", nick = "false")]
    False,
}

impl From<Resume> for crate::raster::parts::Resume {
    fn from(resume: Resume) -> Self {
        match resume {
            Resume::Auto => crate::raster::parts::Resume::Auto,
            Resume::True => crate::raster::parts::Resume::True,
            Resume::False => crate::raster::parts::Resume::False,
        }
    }
}

impl RasterSink {
    /// What the element declares, without what it inherits.
    pub fn specs() -> &'static [glib::ParamSpec] {
        <imp::RasterSink as gst::subclass::prelude::ObjectImpl>::properties()
    }
}

/// Registers the element.
///
/// # Errors
/// What GStreamer says of the registration.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    super::blend::BlendMode::register();
    Resume::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(Some(plugin), "rastersink", gst::Rank::NONE, RasterSink::static_type())
}
