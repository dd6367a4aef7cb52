//! The element's properties, what their texts say, and what becomes of them for one mask.

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use super::{Nodata, Shape};
use crate::elements::meta::SegmentationInfo;
use crate::engine::decide::NODATA_16;
use crate::raster::clean::{Connectivity, MOST_RADIUS, Recipe};
use crate::raster::measure::Area;
use crate::raster::{Error, Result};

/// What a user has set.
#[derive(Debug, Clone)]
pub struct Settings {
    median: u32,
    opening: u32,
    closing: u32,
    shape: Shape,
    hole_area: Option<String>,
    min_area: Option<String>,
    connectivity: u32,
    classes: Option<String>,
    /// -1 = the value of class 0.
    background: i32,
    nodata: Nodata,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            median: 0,
            opening: 0,
            closing: 0,
            shape: Shape::default(),
            hole_area: None,
            min_area: None,
            connectivity: 4,
            classes: None,
            background: -1,
            nodata: Nodata::default(),
        }
    }
}

/// What the texts say.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// As far as it is known before the mask.
    recipe: Recipe,
    /// `None` = however large.
    hole_area: Option<Area>,
    min_area: Option<Area>,
    background: Option<u16>,
    nodata: Nodata,
    /// As they were set, for messages and manifests.
    settings: Settings,
}

/// What is known of the masks that come.
pub struct Masks<'a> {
    /// Labels have 16 bits.
    pub wide: bool,
    /// They are tiles of something larger.
    pub tiles: bool,
    pub info: Option<&'a SegmentationInfo>,
    /// Width and height of a pixel in metres.
    pub ground: Option<(f64, f64)>,
}

impl Settings {
    /// Reads the texts.
    ///
    /// # Errors
    /// A text that cannot be read, and settings that contradict each other.
    pub fn wanted(&self) -> Result<Wanted> {
        let connectivity = match self.connectivity {
            4 => Connectivity::Four,
            8 => Connectivity::Eight,
            other => return Err(Error::setting("connectivity", other, "use 4 or 8 neighbours")),
        };
        let classes = self.classes.as_deref().map(|text| {
            let labels: Option<Vec<u16>> = text.split(',').map(|label| label.trim().parse().ok()).collect();
            labels.ok_or_else(|| {
                Error::setting("classes", text, "use values of the mask from 0 to 65535 joined by commas, such as 1,3")
            })
        });
        let recipe = Recipe {
            median: self.median as usize,
            opening: self.opening as usize,
            closing: self.closing as usize,
            shape: self.shape.into(),
            connectivity,
            classes: classes.transpose()?,
            ..Recipe::default()
        };
        let wanted = Wanted {
            recipe,
            hole_area: area("hole-area", self.hole_area.as_deref(), true)?,
            min_area: area("min-area", self.min_area.as_deref(), false)?,
            background: u16::try_from(self.background).ok(),
            nodata: self.nodata,
            settings: self.clone(),
        };
        wanted.background.map_or(Ok(()), |background| wanted.check_class(background, "the background"))?;
        Ok(wanted)
    }

    pub fn set(&mut self, value: &glib::Value, pspec: &glib::ParamSpec) {
        let text = || value.get::<Option<String>>().ok().flatten().filter(|text| !text.trim().is_empty());
        match pspec.name() {
            "median" => self.median = value.get().unwrap_or(self.median),
            "opening" => self.opening = value.get().unwrap_or(self.opening),
            "closing" => self.closing = value.get().unwrap_or(self.closing),
            "shape" => self.shape = value.get().unwrap_or(self.shape),
            "hole-area" => self.hole_area = text(),
            "min-area" => self.min_area = text(),
            "connectivity" => self.connectivity = value.get().unwrap_or(self.connectivity),
            "classes" => self.classes = text(),
            "background" => self.background = value.get().unwrap_or(self.background),
            "nodata" => self.nodata = value.get().unwrap_or(self.nodata),
            _ => {}
        }
    }

    pub fn get(&self, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "median" => self.median.to_value(),
            "opening" => self.opening.to_value(),
            "closing" => self.closing.to_value(),
            "shape" => self.shape.to_value(),
            "hole-area" => self.hole_area.to_value(),
            "min-area" => self.min_area.to_value(),
            "connectivity" => self.connectivity.to_value(),
            "classes" => self.classes.to_value(),
            "background" => self.background.to_value(),
            _ => self.nodata.to_value(),
        }
    }
}

/// Reads an area; no text is 0, and `None` however large.
///
/// # Errors
/// Anything but a number of pixels, square metres and, where there may be such a thing, `all`.
fn area(name: &'static str, text: Option<&str>, may_be_all: bool) -> Result<Option<Area>> {
    let Some(text) = text else { return Ok(Some(Area::Pixels(0))) };
    if may_be_all && text.trim() == "all" {
        return Ok(None);
    }
    let all = if may_be_all { ", or all" } else { "" };
    text.parse().map(Some).map_err(|problem| Error::setting(name, text, format!("{problem}{all}")))
}

impl Wanted {
    /// What is done with masks.
    ///
    /// # Errors
    /// Square metres where nobody knows a pixel's, holes of any size in a mosaic, and labels that contradict each other.
    pub fn recipe(&self, masks: &Masks<'_>) -> Result<Recipe> {
        let info = masks.info;
        let values = info.and_then(|info| info.mask_values.as_ref());
        let of_class_0 = || values.and_then(|values| values.first().copied()).or(info.map(|info| info.label_offset));
        let background = self.background.or_else(of_class_0).unwrap_or(0);
        let most = if masks.wide { NODATA_16 } else { 255 };
        if background > most {
            return Err(Error::setting("background", background, "is more than the 8 bits of this mask hold"));
        }
        self.check_class(background, "the background")?;
        let nodata = self.has_nodata(masks.wide, info);
        if nodata {
            self.check_class(most, "what pixels without data have")?;
            if background == most {
                let problem = "is what pixels without data have; use another value, or nodata=none";
                return Err(Error::setting("background", background, problem));
            }
        }
        let (pixels, metres) = match masks.ground {
            Some((x, y)) => (x * y, true),
            None => (1.0, false),
        };
        // A little less or more than a whole number of pixels is that number.
        let count = |name: &'static str, area: Option<Area>, text: &Option<String>, round: fn(f64) -> f64| match area {
            Some(Area::Pixels(pixels)) => Ok(pixels),
            None => Ok(u64::MAX),
            Some(Area::SquareMetres(_)) if !metres => Err(Error::setting(
                name,
                text.clone().unwrap_or_default(),
                "nothing says how large these pixels are on the ground; use a number of pixels, or read a raster that \
                 has a coordinate reference system with rastersrc",
            )),
            Some(Area::SquareMetres(metres)) => Ok(round(metres / pixels) as u64),
        };
        if masks.tiles && self.hole_area.is_none() {
            let problem = "would keep a whole mosaic in memory; name the largest hole that is to be filled";
            return Err(Error::setting("hole-area", "all", problem));
        }
        Ok(Recipe {
            hole_area: count("hole-area", self.hole_area, &self.settings.hole_area, |n| (n + 1e-6).floor())?,
            min_area: count("min-area", self.min_area, &self.settings.min_area, |n| (n - 1e-6).ceil())?,
            background,
            // Of 8 bits, 255 is taken for 65535 where it stands for no data.
            nodata: (nodata || !masks.wide).then_some(NODATA_16),
            ..self.recipe.clone()
        })
    }

    /// Whether the highest value of a mask stands for pixels without data.
    pub fn has_nodata(&self, wide: bool, info: Option<&SegmentationInfo>) -> bool {
        let most = if wide { NODATA_16 } else { 255 };
        let values = info.and_then(|info| info.mask_values.as_ref());
        self.nodata == Nodata::Auto && !values.is_some_and(|values| values.contains(&most))
    }

    /// Whether nobody has said that the highest value is no class.
    pub fn guesses_nodata(&self) -> bool {
        self.nodata == Nodata::Auto
    }

    fn check_class(&self, label: u16, is: &str) -> Result<()> {
        match self.recipe.classes.as_ref().is_some_and(|classes| classes.contains(&label)) {
            false => Ok(()),
            true => {
                let text = self.settings.classes.clone().unwrap_or_default();
                let problem = format!("{label} is {is}, which is no class; leave it out");
                Err(Error::setting("classes", text, problem))
            }
        }
    }

    /// Everything that decides pixels, for the manifest of a run.
    pub fn manifest(&self) -> serde_json::Value {
        let s = &self.settings;
        serde_json::json!({
            "median": s.median,
            "opening": s.opening,
            "closing": s.closing,
            "shape": s.shape.nick(),
            "hole-area": s.hole_area,
            "min-area": s.min_area,
            "connectivity": s.connectivity,
            "classes": s.classes,
            "background": s.background,
            "nodata": if s.nodata == Nodata::Auto { "auto" } else { "none" },
        })
    }
}

/// Every property. Texts are checked when the element goes to PAUSED.
pub static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let text = |name: &str, nick: &str, blurb: &str| -> glib::ParamSpec {
        glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready().build()
    };
    let radius = |name: &str, nick: &str, blurb: &str, default: u32| -> glib::ParamSpec {
        glib::ParamSpecUInt::builder(name)
            .nick(nick)
            .blurb(blurb)
            .maximum(MOST_RADIUS as u32)
            .default_value(default)
            .mutable_ready()
            .build()
    };
    let default = Settings::default();
    vec![
        radius("median", "Median", "First: a pixel becomes the class, or the background, that fills more than half of the square of 2 * median + 1 pixels around it, and stays where none does; 0 = off", default.median),
        radius("opening", "Opening", "Second: radius in pixels of the shape that has to fit into a class; what is narrower becomes background; 0 = off", default.opening),
        radius("closing", "Closing", "Third: radius in pixels of the shape that has to fit into the background between parts of a class; what is narrower becomes the class; 0 = off", default.closing),
        glib::ParamSpecEnum::builder_with_default("shape", default.shape)
            .nick("Shape")
            .blurb("The shape of opening and closing with a radius r")
            .mutable_ready()
            .build(),
        text("hole-area", "Hole area", "Fourth: holes in a class up to this area are filled: pixels, such as 20, square metres, such as 5m2, or all (frames only) (default: off)"),
        text("min-area", "Minimum area", "Last: regions of a class below this area become background: pixels, such as 50, or square metres, such as 30m2 (default: off)"),
        glib::ParamSpecUInt::builder("connectivity")
            .nick("Connectivity")
            .blurb("Neighbours that belong together, in regions and in holes alike: 4 by edges, 8 by corners too")
            .minimum(4)
            .maximum(8)
            .default_value(default.connectivity)
            .mutable_ready()
            .build(),
        text("classes", "Classes", "Values of the mask that are cleaned, joined by commas; others stay as they are (default: all but the background)"),
        glib::ParamSpecInt::builder("background")
            .nick("Background")
            .blurb("Value of the mask that is no class: removed pixels get it, and only its pixels are filled; -1 = the value of class 0, else 0")
            .minimum(-1)
            .maximum(65535)
            .default_value(default.background)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("nodata", default.nodata)
            .nick("No data")
            .blurb("What the highest value of the mask stands for")
            .mutable_ready()
            .build(),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(change: impl FnOnce(&mut Settings)) -> Result<Wanted> {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.wanted()
    }

    fn masks<'a>(info: Option<&'a SegmentationInfo>) -> Masks<'a> {
        Masks { wide: false, tiles: false, info, ground: None }
    }

    #[test]
    fn areas_are_pixels_or_square_metres() {
        let recipe = |min: &str, hole: &str, ground| {
            let wanted = wanted(|s| (s.min_area, s.hole_area) = (Some(min.into()), Some(hole.into()))).unwrap();
            let recipe = wanted.recipe(&Masks { ground, ..masks(None) }).unwrap();
            (recipe.min_area, recipe.hole_area)
        };
        assert_eq!(recipe("50", " 20 ", None), (50, 20));
        assert_eq!(recipe("0", "all", None), (0, u64::MAX));
        // A pixel of 0.25 m²: at least 30 m², and at most so.
        assert_eq!(recipe("30m2", "30 m²", Some((0.5, 0.5))), (120, 120));
        assert_eq!(recipe("30.1m2", "30.1m2", Some((0.5, 0.5))), (121, 120));
        assert_eq!(recipe("1e2m2", "0.1m2", Some((0.5, 0.5))), (400, 0));
        // 0.3 / 0.1² is a little less than 30.
        assert_eq!(recipe("0.3m2", "0.3m2", Some((0.1, 0.1))), (30, 30));
    }

    #[test]
    fn texts_that_cannot_be_read() {
        let error = |change: fn(&mut Settings)| wanted(change).unwrap_err().to_string();
        for (text, says) in [
            (error(|s| s.min_area = Some("-3".into())), "min-area=-3: use a whole number of pixels, such as 50"),
            (error(|s| s.min_area = Some("all".into())), "min-area=all: use a whole number of pixels"),
            (error(|s| s.min_area = Some("3.5".into())), "square metres, such as 30m2"),
            (error(|s| s.min_area = Some("infm2".into())), "min-area=infm2: "),
            (error(|s| s.hole_area = Some("5 ha".into())), "30m2, or all"),
            (error(|s| s.connectivity = 6), "connectivity=6: use 4 or 8 neighbours"),
            (error(|s| s.classes = Some("1,road".into())), "classes=1,road: use values of the mask from 0 to 65535"),
            (error(|s| s.classes = Some("1,65536".into())), "classes=1,65536: "),
            (
                error(|s| (s.classes, s.background) = (Some("1,2".into()), 2)),
                "classes=1,2: 2 is the background, which is no class; leave it out",
            ),
        ] {
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn what_a_mask_does_not_allow() {
        let error = |change: fn(&mut Settings), masks: &Masks<'_>| {
            wanted(change).unwrap().recipe(masks).unwrap_err().to_string()
        };
        let frames = masks(None);
        let text = error(|s| s.min_area = Some("30m2".into()), &frames);
        assert!(text.starts_with("min-area=30m2: nothing says how large these pixels are"), "{text}");
        let text = error(|s| s.hole_area = Some("5m2".into()), &frames);
        assert!(text.starts_with("hole-area=5m2: nothing says") && text.contains("rastersrc"), "{text}");
        let text = error(|s| s.hole_area = Some("all".into()), &Masks { tiles: true, ..masks(None) });
        assert!(text.starts_with("hole-area=all: would keep a whole mosaic in memory"), "{text}");
        let text = error(|s| s.background = 300, &frames);
        assert!(text.contains("background=300: is more than the 8 bits"), "{text}");
        let text = error(|s| s.background = 255, &frames);
        assert!(text.contains("background=255: is what pixels without data have"), "{text}");
        let text = error(|s| s.classes = Some("0,1".into()), &frames);
        assert!(text.contains("classes=0,1: 0 is the background"), "{text}");
        let text = error(|s| s.classes = Some("1,255".into()), &frames);
        assert!(text.contains("classes=1,255: 255 is what pixels without data have"), "{text}");
    }

    #[test]
    fn background_and_nodata_follow_what_is_known_of_the_classes() {
        let recipe = |wide, info: Option<&SegmentationInfo>, change: fn(&mut Settings)| {
            wanted(change).unwrap().recipe(&Masks { wide, ..masks(info) }).unwrap()
        };
        let named = |values: Option<Vec<u16>>, label_offset| {
            Some(SegmentationInfo { mask_values: values, label_offset, ..SegmentationInfo::default() })
        };
        let default: fn(&mut Settings) = |_| {};
        let moved = named(None, 3);
        let white = named(Some(vec![10, 255]), 0);
        let white_16 = named(Some(vec![10, 65535]), 0);
        for (wide, info, change, background, nodata) in [
            (false, None, default, 0, true),
            (false, moved.as_ref(), default, 3, true),
            (false, white.as_ref(), default, 10, false),
            (true, white_16.as_ref(), default, 10, false),
            (true, white.as_ref(), default, 10, true),
            (true, None, |s: &mut Settings| s.nodata = Nodata::None, 0, false),
            (false, moved.as_ref(), |s: &mut Settings| s.background = 9, 9, true),
        ] {
            assert_eq!(recipe(wide, info, change).background, background);
            assert_eq!(wanted(change).unwrap().has_nodata(wide, info), nodata);
        }
        assert_eq!(recipe(true, white_16.as_ref(), default).nodata, None);
    }
}
