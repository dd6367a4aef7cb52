//! The property `blend`, of `tilemerge` and `rastersink`.

use gst::glib;
use gst::prelude::*;

use super::meta::SegmentationInfo;
use crate::raster::blend::Blend;
use crate::raster::{Error, Result};

/// How much a tile counts where it overlaps its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstOnnxSegmentBlend")]
#[repr(i32)]
pub enum BlendMode {
    #[enum_value(name = "Crop: every pixel from the tile whose core it lies in", nick = "crop")]
    Crop,
    #[default]
    #[enum_value(name = "Linear: weights rise and fall in a straight line over the overlap", nick = "linear")]
    Linear,
    #[enum_value(name = "Hann: weights rise and fall as sin² over the overlap", nick = "hann")]
    Hann,
    #[enum_value(name = "Gaussian: MONAI's window", nick = "gaussian")]
    Gaussian,
    #[enum_value(name = "Gaussian: nnU-Net's window", nick = "gaussian-nnunet")]
    GaussianNnunet,
}

impl BlendMode {
    /// Makes the enumeration part of the plugin's documented interface.
    pub fn register() {
        BlendMode::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
}

impl From<BlendMode> for Blend {
    fn from(mode: BlendMode) -> Blend {
        match mode {
            BlendMode::Crop => Blend::Crop,
            BlendMode::Linear => Blend::Linear,
            BlendMode::Hann => Blend::Hann,
            BlendMode::Gaussian => Blend::Gaussian,
            BlendMode::GaussianNnunet => Blend::GaussianNnunet,
        }
    }
}

/// Whether tiles of such scores may be blended so.
///
/// # Errors
/// Scores that stand for labels alone: their cores are right, and a mean of them is not.
pub fn check(blend: Blend, info: &SegmentationInfo) -> Result<()> {
    match info.labels_alone_are_exact() && blend != Blend::Crop {
        false => Ok(()),
        true => Err(Error::setting(
            "blend",
            blend.name(),
            "onnxsegment runs with cascade=exact, which keeps the labels of each tile and not its scores; set blend=crop, \
             or cascade=confident or none",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicks_are_the_names_of_blends() {
        let class = glib::EnumClass::new::<BlendMode>();
        assert_eq!(class.values().len(), Blend::NAMES.len());
        for (value, (name, blend)) in class.values().iter().zip(Blend::NAMES) {
            let mode = value.to_value(&class).get::<BlendMode>().unwrap();
            assert_eq!((value.nick(), Blend::from(mode)), (*name, *blend));
        }
        assert_eq!(Blend::from(BlendMode::default()), Blend::default());
    }
}
