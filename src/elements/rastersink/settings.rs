//! The element's properties, and what they become when the element starts.

use std::path::PathBuf;
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use super::Resume;
use crate::elements::blend::BlendMode;
use crate::raster::blend::Blend;
use crate::raster::cells::Depth;
use crate::raster::parts::{self, Format, Kind};
use crate::raster::{Error, Lattice, Result};

/// What a user has set.
#[derive(Debug, Clone)]
pub struct Settings {
    location: Option<String>,
    probability_location: Option<String>,
    uncertainty_location: Option<String>,
    probability_depth: u32,
    blend: BlendMode,
    cog: bool,
    co: Option<String>,
    resume: Resume,
    finish: bool,
    part_size: Option<String>,
    stac_item: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            location: None,
            probability_location: None,
            uncertainty_location: None,
            probability_depth: 8,
            blend: BlendMode::default(),
            cog: true,
            co: None,
            resume: Resume::default(),
            finish: true,
            part_size: None,
            stac_item: true,
        }
    }
}

/// What the texts say.
#[derive(Debug)]
pub struct Wanted {
    /// The rasters to write, labels first. The labels' depth is not known yet.
    pub outputs: Vec<(Kind, PathBuf)>,
    /// Of probabilities and uncertainties.
    pub depth: Depth,
    pub lattice: Lattice,
    pub format: Format,
    pub blend: Blend,
    pub resume: parts::Resume,
    pub finish: bool,
    pub stac_item: bool,
}

impl Settings {
    /// Reads the texts.
    ///
    /// # Errors
    /// A text that cannot be read, and what GDAL does not have.
    pub fn wanted(&self) -> Result<Wanted> {
        Ok(Wanted {
            outputs: self.outputs()?,
            lattice: self.lattice()?,
            depth: self.depth()?,
            format: Format::new(self.cog, self.co.as_deref().unwrap_or_default())?,
            blend: self.blend.into(),
            resume: self.resume.into(),
            finish: self.finish,
            stac_item: self.stac_item,
        })
    }

    pub fn set(&mut self, value: &glib::Value, pspec: &glib::ParamSpec) {
        let text = || value.get::<Option<String>>().ok().flatten().filter(|text| !text.trim().is_empty());
        match pspec.name() {
            "location" => self.location = text(),
            "probability-location" => self.probability_location = text(),
            "uncertainty-location" => self.uncertainty_location = text(),
            "probability-depth" => self.probability_depth = value.get().unwrap_or(self.probability_depth),
            "blend" => self.blend = value.get().unwrap_or(self.blend),
            "cog" => self.cog = value.get().unwrap_or(self.cog),
            "co" => self.co = text(),
            "resume" => self.resume = value.get().unwrap_or(self.resume),
            "finish" => self.finish = value.get().unwrap_or(self.finish),
            "part-size" => self.part_size = text(),
            "stac-item" => self.stac_item = value.get().unwrap_or(self.stac_item),
            _ => {}
        }
    }

    /// `None` for what the element itself knows.
    pub fn get(&self, pspec: &glib::ParamSpec) -> Option<glib::Value> {
        Some(match pspec.name() {
            "location" => self.location.to_value(),
            "probability-location" => self.probability_location.to_value(),
            "uncertainty-location" => self.uncertainty_location.to_value(),
            "probability-depth" => self.probability_depth.to_value(),
            "blend" => self.blend.to_value(),
            "cog" => self.cog.to_value(),
            "co" => self.co.to_value(),
            "resume" => self.resume.to_value(),
            "finish" => self.finish.to_value(),
            "part-size" => self.part_size.to_value(),
            "stac-item" => self.stac_item.to_value(),
            _ => return None,
        })
    }

    /// # Errors
    /// No raster named, or two with one name.
    fn outputs(&self) -> Result<Vec<(Kind, PathBuf)>> {
        let outputs: Vec<(Kind, PathBuf)> =
            Kind::ALL.into_iter().filter_map(|kind| Some((kind, PathBuf::from(self.location(kind)?)))).collect();
        if outputs.is_empty() {
            return Err(Error::setting(
                "location",
                "",
                "names no file; set it to the mask's, such as mask.tif, or set probability-location or \
                 uncertainty-location",
            ));
        }
        for (k, (kind, path)) in outputs.iter().enumerate() {
            if let Some((other, _)) = outputs[..k].iter().find(|(_, other)| other == path) {
                return Err(Error::setting(
                    kind.property(),
                    path.display(),
                    format!("is {} too; give each raster a file of its own", other.property()),
                ));
            }
        }
        Ok(outputs)
    }

    /// Whether a raster of this kind is asked for.
    pub fn wants(&self, kind: Kind) -> bool {
        self.location(kind).is_some()
    }

    fn location(&self, kind: Kind) -> Option<&String> {
        match kind {
            Kind::Labels => self.location.as_ref(),
            Kind::Probability => self.probability_location.as_ref(),
            Kind::Uncertainty => self.uncertainty_location.as_ref(),
        }
    }

    /// # Errors
    /// A number of bits that is neither 8 nor 16.
    fn depth(&self) -> Result<Depth> {
        match self.probability_depth {
            8 => Ok(Depth::U8),
            16 => Ok(Depth::U16),
            other => Err(Error::setting("probability-depth", other, "use 8 or 16 bits")),
        }
    }

    /// # Errors
    /// A text that is no size, or a size that GeoTIFF's blocks do not take.
    fn lattice(&self) -> Result<Lattice> {
        let Some(text) = &self.part_size else {
            return Ok(Lattice::default());
        };
        let sides: Option<Vec<i64>> = text.split(',').map(|side| side.trim().parse().ok()).collect();
        match sides.as_deref() {
            Some(&[width, height]) if [width, height].iter().all(|n| *n > 0 && n % 16 == 0 && *n <= 1 << 16) => {
                Ok(Lattice { part_width: width, part_height: height })
            }
            _ => Err(Error::setting(
                "part-size",
                text,
                "use width,height in pixels, both multiples of 16 up to 65536, such as 4096,512",
            )),
        }
    }
}

/// Every property. Lists are texts, checked when the element goes to PAUSED.
pub static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let text = |name: &str, nick: &str, blurb: &str| -> glib::ParamSpec {
        glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready().build()
    };
    let flag = |name: &str, nick: &str, blurb: &str, default: bool| -> glib::ParamSpec {
        glib::ParamSpecBoolean::builder(name).nick(nick).blurb(blurb).default_value(default).mutable_ready().build()
    };
    let default = Settings::default();
    vec![
        text("location", "Location", "The mask: a GeoTIFF of labels, uint8 with 255 where there is no data (uint16 with 65535 where a label is above 254), with colours and class names; or NAME.vrt, a list of the parts, which stay"),
        text("probability-location", "Probability location", "A GeoTIFF of probabilities, one band per class (of one-channel models class 1 alone)"),
        text("uncertainty-location", "Uncertainty location", "A GeoTIFF of the uncertainty that onnxsegment's uncertainty-kind names"),
        glib::ParamSpecUInt::builder("probability-depth")
            .nick("Probability depth")
            .blurb("Bits of probabilities and uncertainties, 8 or 16: 0 to 1 as 0 to 254 or 0 to 65534; the highest value is no data")
            .minimum(8)
            .maximum(16)
            .default_value(default.probability_depth)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("blend", default.blend)
            .nick("Blend")
            .blurb("How much a tile counts where it overlaps its neighbours; labels are always cropped")
            .mutable_ready()
            .build(),
        flag("cog", "Cloud-optimised", "Write cloud-optimised GeoTIFFs with overviews, nearest for labels and average for the others; else plain tiled ones", default.cog),
        text("co", "Creation options", "GDAL creation options of the rasters, NAME=VALUE joined by commas, such as COMPRESS=ZSTD,LEVEL=9, over the usual COMPRESS=DEFLATE, blocks of 512, BIGTIFF=IF_SAFER, SPARSE_OK=TRUE and all cores"),
        glib::ParamSpecEnum::builder_with_default("resume", default.resume)
            .nick("Resume")
            .blurb("What to do with parts that an earlier run has left beside the raster")
            .mutable_ready()
            .build(),
        flag("finish", "Finish", "Make the rasters when every part is there; else leave the parts", default.finish),
        text("part-size", "Part size", "width,height of a part in pixels, multiples of 16 (default: 4096,512)"),
        flag("stac-item", "STAC item", "Write a STAC item beside the first raster, with its name and the ending .json: where it lies, its classes, what made it", default.stac_item),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("tiles taken, parts-done and parts-total of this process's share, parts-resumed that were there before")
            .read_only()
            .build(),
    ]
});
