//! `onnxsegment`: frames in, ensembled segmentation masks out.

mod imp;
mod output;
mod properties;
mod tiles;

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("onnxsegment", gst::DebugColorFlags::empty(), Some("Ensembled segmentation"))
});

glib::wrapper! {
    /// The element. See `gst-inspect-1.0 onnxsegment` for its properties.
    pub struct OnnxSegment(ObjectSubclass<imp::OnnxSegment>) @extends gst::Element, gst::Object;
}

impl OnnxSegment {
    /// What the element declares, without what it inherits.
    pub fn specs() -> &'static [glib::ParamSpec] {
        <imp::OnnxSegment as gst::subclass::prelude::ObjectImpl>::properties()
    }
}

/// Registers the element.
///
/// # Errors
/// What GStreamer says of the registration.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    for enumeration in [
        Merge::static_type(),
        MergeDomain::static_type(),
        ChannelOrder::static_type(),
        Layout::static_type(),
        ProviderPolicy::static_type(),
        OptimizationLevel::static_type(),
        UncertaintyKind::static_type(),
        Cascade::static_type(),
    ] {
        enumeration.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(Some(plugin), "onnxsegment", gst::Rank::NONE, OnnxSegment::static_type())
}

/// Declares a property's enumeration, and tests that its nicks are names that the engine knows.
macro_rules! enumeration {
    ($(#[$meta:meta])* $name:ident = $type_name:literal, $engine:ty, { $($(#[$variant_meta:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
        #[enum_type(name = $type_name)]
        #[repr(i32)]
        pub enum $name {
            $($(#[$variant_meta])* $variant),+
        }

        impl $name {
            #[cfg(test)]
            fn check() {
                for value in glib::EnumClass::new::<$name>().values() {
                    let nick = value.nick();
                    assert!(nick == "auto" || <$engine as crate::engine::settings::Named>::parse("", nick).is_ok(), "{nick}");
                }
            }
        }
    };
}

enumeration! {
    /// How passes become one.
    Merge = "GstOnnxSegmentMerge", crate::engine::merge::Merge, {
        #[default]
        #[enum_value(name = "Mean: weighted arithmetic mean", nick = "mean")]
        Mean,
        #[enum_value(name = "Gmean: weighted geometric mean", nick = "gmean")]
        Gmean,
        #[enum_value(name = "Hmean: weighted harmonic mean", nick = "hmean")]
        Hmean,
        #[enum_value(name = "Max: the largest score of all passes", nick = "max")]
        Max,
        #[enum_value(name = "Min: the smallest score of all passes", nick = "min")]
        Min,
        #[enum_value(name = "Tsharpen: weighted mean of square roots, as ttach has it", nick = "tsharpen")]
        Tsharpen,
        #[enum_value(name = "Vote: the share of passes, by weight, that decide for a class", nick = "vote")]
        Vote,
    }
}

enumeration! {
    /// What is merged.
    MergeDomain = "GstOnnxSegmentMergeDomain", crate::engine::merge::Domain, {
        #[default]
        #[enum_value(name = "Probability: activate, then merge", nick = "probability")]
        Probability,
        #[enum_value(name = "Logit: merge, then activate", nick = "logit")]
        Logit,
    }
}

enumeration! {
    /// The order of colour channels that the models want.
    ChannelOrder = "GstOnnxSegmentChannelOrder", crate::engine::settings::ChannelOrder, {
        #[default]
        #[enum_value(name = "Auto: what the configuration says, else RGB", nick = "auto")]
        Auto,
        #[enum_value(name = "RGB", nick = "rgb")]
        Rgb,
        #[enum_value(name = "BGR", nick = "bgr")]
        Bgr,
    }
}

enumeration! {
    /// The order of the axes of the models' input.
    Layout = "GstOnnxSegmentLayout", crate::engine::settings::Layout, {
        #[default]
        #[enum_value(name = "Auto: read from the model's shapes", nick = "auto")]
        Auto,
        #[enum_value(name = "Batch, channels, height, width", nick = "nchw")]
        Nchw,
        #[enum_value(name = "Batch, height, width, channels", nick = "nhwc")]
        Nhwc,
    }
}

enumeration! {
    /// What to do when an execution provider is not to be had.
    ProviderPolicy = "GstOnnxSegmentProviderPolicy", crate::engine::runtime::Policy, {
        #[default]
        #[enum_value(name = "Fallback: warn and use the next", nick = "fallback")]
        Fallback,
        #[enum_value(name = "Strict: refuse to run", nick = "strict")]
        Strict,
    }
}

enumeration! {
    /// ONNX Runtime's graph optimisation.
    OptimizationLevel = "GstOnnxSegmentOptimizationLevel", crate::engine::runtime::OptimizationLevel, {
        #[enum_value(name = "Disable all optimisations", nick = "disable-all")]
        DisableAll,
        #[enum_value(name = "Enable basic optimisations", nick = "enable-basic")]
        EnableBasic,
        #[enum_value(name = "Enable basic and extended optimisations", nick = "enable-extended")]
        EnableExtended,
        #[default]
        #[enum_value(name = "Enable all optimisations", nick = "enable-all")]
        EnableAll,
    }
}

enumeration! {
    /// What the `uncertainty` pad shows.
    UncertaintyKind = "GstOnnxSegmentUncertaintyKind", crate::engine::merge::Uncertainty, {
        #[default]
        #[enum_value(name = "Predictive entropy of the mean, over ln C", nick = "entropy")]
        Entropy,
        #[enum_value(name = "Disagreement of the passes, over ln C", nick = "mutual-information")]
        MutualInformation,
        #[enum_value(name = "Four times the variance of the winning class", nick = "variance")]
        Variance,
        #[enum_value(name = "One minus the lead of the first class over the second", nick = "margin")]
        Margin,
    }
}

enumeration! {
    /// Whether a frame stops before all passes have run.
    Cascade = "GstOnnxSegmentCascade", crate::engine::cascade::Mode, {
        #[default]
        #[enum_value(name = "None: every pass runs", nick = "none")]
        None,
        #[enum_value(name = "Exact: a frame stops when no pass to come could change a label", nick = "exact")]
        Exact,
        #[enum_value(name = "Confident: a frame stops when few pixels are near another label", nick = "confident")]
        Confident,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_nick_is_known_to_the_engine() {
        super::Merge::check();
        super::MergeDomain::check();
        super::ChannelOrder::check();
        super::Layout::check();
        super::ProviderPolicy::check();
        super::OptimizationLevel::check();
        super::UncertaintyKind::check();
        super::Cascade::check();
    }
}
