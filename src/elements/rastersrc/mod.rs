//! `rastersrc`: any raster that GDAL opens, as tiles.

mod imp;
mod settings;

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| gst::DebugCategory::new("rastersrc", gst::DebugColorFlags::empty(), Some("Tiles of rasters")));

glib::wrapper! {
    /// The element. See `gst-inspect-1.0 rastersrc` for its properties.
    pub struct RasterSrc(ObjectSubclass<imp::RasterSrc>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object;
}

/// Which pixels a mask has when the raster is resampled for the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstRasterSrcGrid")]
#[repr(i32)]
pub enum Grid {
    #[default]
    #[enum_value(name = "Model: the pixels that the models see", nick = "model")]
    Model,
    #[enum_value(name = "Source: the raster's own pixels", nick = "source")]
    Source,
}

impl RasterSrc {
    /// What the element declares, without what it inherits.
    pub fn specs() -> &'static [glib::ParamSpec] {
        <imp::RasterSrc as gst::subclass::prelude::ObjectImpl>::properties()
    }
}

/// Registers the element.
///
/// # Errors
/// What GStreamer says of the registration.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    Grid::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(Some(plugin), "rastersrc", gst::Rank::NONE, RasterSrc::static_type())
}
