//! The element's properties, and what they become when the element starts.

use std::path::PathBuf;
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use crate::engine::metrics::bootstrap::{BLOCK, RESAMPLES};
use crate::engine::metrics::confusion::MAX_CLASSES;
use crate::engine::metrics::{Connectivity, Evaluation, Objects, evaluation};
use crate::engine::settings::items;
use crate::engine::{Error, Result};

/// What a user has set.
#[derive(Debug, Clone)]
pub struct Settings {
    location: Option<String>,
    table_location: Option<String>,
    /// 0 = not set.
    classes: u32,
    class_names: Option<String>,
    mask_values: Option<String>,
    truth_values: Option<String>,
    /// -1 = the largest value of the samples.
    nodata: i32,
    class_index: u32,
    block_size: u32,
    bootstrap: u32,
    seed: u64,
    /// 0 = 2 % of the diagonal.
    boundary_distance: u32,
    connectivity: u32,
    min_object_area: u32,
    /// -1 = none.
    background: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            location: None,
            table_location: None,
            classes: 0,
            class_names: None,
            mask_values: None,
            truth_values: None,
            nodata: -1,
            class_index: 1,
            block_size: BLOCK as u32,
            bootstrap: RESAMPLES as u32,
            seed: 0,
            boundary_distance: 0,
            connectivity: 4,
            min_object_area: 0,
            background: 0,
        }
    }
}

/// What the texts and numbers say.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where the report goes as JSON, and as a table.
    pub location: Option<PathBuf>,
    pub table_location: Option<PathBuf>,
    pub class_names: Option<Vec<String>>,
    pub mask_values: Option<Vec<u16>>,
    pub truth_values: Option<Vec<u16>>,
    pub nodata: Option<u16>,
    pub class_index: usize,
    pub evaluation: evaluation::Settings,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// Texts that cannot be read, numbers that contradict each other, a folder that is not there.
    pub fn wanted(&self) -> Result<Wanted> {
        let nodata = u16::try_from(self.nodata).ok();
        let mask_values = values("mask-values", self.mask_values.as_deref(), nodata)?;
        let truth_values = values("truth-values", self.truth_values.as_deref(), nodata)?;
        if let (Some(mask), Some(truth)) = (&mask_values, &truth_values)
            && mask.len() != truth.len()
        {
            let problem =
                format!("{} values, and mask-values has {}; give both one per class", truth.len(), mask.len());
            return Err(Error::setting("truth-values", self.truth_values.as_deref().unwrap_or_default(), problem));
        }
        let listed = mask_values.as_ref().or(truth_values.as_ref()).map(Vec::len);
        let classes = (self.classes > 0).then_some(self.classes as usize);
        if let (Some(listed), Some(classes)) = (listed, classes)
            && listed != classes
        {
            let problem = format!("and {listed} values are listed; leave classes out, or list one value per class");
            return Err(Error::setting("classes", classes, problem));
        }
        let names: Option<Vec<String>> = self.class_names.as_ref().map(|text| items(text).map(String::from).collect());
        let classes = classes.or(listed).or(names.as_ref().map(Vec::len));
        if let (Some(names), Some(text)) = (&names, &self.class_names)
            && classes != Some(names.len())
        {
            let problem = format!("{} names for {} classes; give one per class", names.len(), classes.unwrap_or(0));
            return Err(Error::setting("class-names", text, problem));
        }
        let connectivity = match self.connectivity {
            4 => Connectivity::Four,
            8 => Connectivity::Eight,
            other => {
                return Err(Error::setting("connectivity", other, "4 or 8 neighbours of a pixel are its object's"));
            }
        };
        let evaluation = evaluation::Settings {
            classes,
            block: self.block_size as usize,
            resamples: self.bootstrap as usize,
            seed: self.seed,
            boundary: (self.boundary_distance > 0).then_some(self.boundary_distance as usize),
            objects: Objects {
                connectivity,
                min_area: self.min_object_area.into(),
                background: u16::try_from(self.background).ok(),
            },
        };
        // What the engine refuses is to be known before the first frame.
        Evaluation::new(evaluation.clone())?;
        Ok(Wanted {
            location: output("location", self.location.as_deref())?,
            table_location: output("table-location", self.table_location.as_deref())?,
            class_names: names,
            mask_values,
            truth_values,
            nodata,
            class_index: self.class_index as usize,
            evaluation,
        })
    }

    pub fn set(&mut self, value: &glib::Value, pspec: &glib::ParamSpec) {
        let text = || value.get::<Option<String>>().ok().flatten().filter(|text| !text.trim().is_empty());
        match pspec.name() {
            "location" => self.location = text(),
            "table-location" => self.table_location = text(),
            "classes" => self.classes = value.get().unwrap_or(self.classes),
            "class-names" => self.class_names = text(),
            "mask-values" => self.mask_values = text(),
            "truth-values" => self.truth_values = text(),
            "nodata" => self.nodata = value.get().unwrap_or(self.nodata),
            "class-index" => self.class_index = value.get().unwrap_or(self.class_index),
            "block-size" => self.block_size = value.get().unwrap_or(self.block_size),
            "bootstrap" => self.bootstrap = value.get().unwrap_or(self.bootstrap),
            "seed" => self.seed = value.get().unwrap_or(self.seed),
            "boundary-distance" => self.boundary_distance = value.get().unwrap_or(self.boundary_distance),
            "connectivity" => self.connectivity = value.get().unwrap_or(self.connectivity),
            "min-object-area" => self.min_object_area = value.get().unwrap_or(self.min_object_area),
            "background" => self.background = value.get().unwrap_or(self.background),
            other => unreachable!("{other} is no writable property"),
        }
    }

    pub fn get(&self, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "location" => self.location.to_value(),
            "table-location" => self.table_location.to_value(),
            "classes" => self.classes.to_value(),
            "class-names" => self.class_names.to_value(),
            "mask-values" => self.mask_values.to_value(),
            "truth-values" => self.truth_values.to_value(),
            "nodata" => self.nodata.to_value(),
            "class-index" => self.class_index.to_value(),
            "block-size" => self.block_size.to_value(),
            "bootstrap" => self.bootstrap.to_value(),
            "seed" => self.seed.to_value(),
            "boundary-distance" => self.boundary_distance.to_value(),
            "connectivity" => self.connectivity.to_value(),
            "min-object-area" => self.min_object_area.to_value(),
            "background" => self.background.to_value(),
            other => unreachable!("{other} is no property of these"),
        }
    }
}

/// A file to write, in a folder that is there.
fn output(setting: &'static str, text: Option<&str>) -> Result<Option<PathBuf>> {
    let Some(path) = text.map(PathBuf::from) else { return Ok(None) };
    if crate::files::is_virtual(&path) {
        return Err(Error::file(setting, &path, "reports are written to a disk, and this is no path on one"));
    }
    let folder = crate::files::parent(&path);
    if !folder.is_dir() {
        return Err(Error::file(
            setting,
            &path,
            format!("its folder {} is not there; make it first", folder.display()),
        ));
    }
    match path.is_dir() {
        true => Err(Error::file(setting, &path, "this is a folder; name the file to write")),
        false => Ok(Some(path)),
    }
}

/// A list of pixel values, one per class.
fn values(name: &str, text: Option<&str>, nodata: Option<u16>) -> Result<Option<Vec<u16>>> {
    let Some(text) = text else { return Ok(None) };
    let expected = "use whole numbers from 0 to 65535 joined by commas, one per class, each once";
    let values: Option<Vec<u16>> = items(text).map(|item| item.parse().ok()).collect();
    let values = values.filter(|v| !v.is_empty()).ok_or_else(|| Error::setting(name, text, expected))?;
    if (1..values.len()).any(|k| values[..k].contains(&values[k])) {
        return Err(Error::setting(name, text, format!("a value is there twice; {expected}")));
    }
    match nodata.filter(|nodata| values.contains(nodata)) {
        Some(nodata) => Err(Error::setting(name, text, format!("{nodata} is nodata too; change one of them"))),
        None => Ok(Some(values)),
    }
}

pub fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let d = Settings::default();
        let text = |name: &str, nick: &str, blurb: &str| {
            glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready().build()
        };
        let number = |name: &str, nick: &str, blurb: &str, (low, high): (u32, u32), default: u32| {
            glib::ParamSpecUInt::builder(name)
                .nick(nick)
                .blurb(blurb)
                .minimum(low)
                .maximum(high)
                .default_value(default)
                .mutable_ready()
                .build()
        };
        let or_none = |name: &str, nick: &str, blurb: &str, high: i32, default: i32| {
            glib::ParamSpecInt::builder(name)
                .nick(nick)
                .blurb(blurb)
                .minimum(-1)
                .maximum(high)
                .default_value(default)
                .mutable_ready()
                .build()
        };
        let most = MAX_CLASSES as u32;
        vec![
            text("location", "Location", "File that the report is written to as JSON at the end of the stream"),
            text("table-location", "Table location", "File that the report is written to as a table to read"),
            number(
                "classes",
                "Classes",
                "Number of classes (0 = as upstream's class names or the lists of values say, else up to the largest label)",
                (0, most),
                d.classes,
            ),
            text("class-names", "Class names", "Names of the classes joined by commas, in order (unset = upstream's)"),
            text(
                "mask-values",
                "Mask values",
                "Value of each class in the prediction, joined by commas (unset = as upstream's onnxsegment says, else the class index)",
            ),
            text(
                "truth-values",
                "Truth values",
                "Value of each class in the truth, joined by commas, 0,255 for instance (unset = as in the prediction)",
            ),
            or_none(
                "nodata",
                "Nodata",
                "Value of pixels in prediction and truth that are not scored (-1 = 255, in 16 bit 65535, unless it is a listed value; a value that the samples cannot have: none)",
                65535,
                d.nodata,
            ),
            number(
                "class-index",
                "Class index",
                "Class whose probability comes on the pad `probability` as GRAY8 or GRAY16_LE, of two classes",
                (0, 1),
                d.class_index,
            ),
            number("block-size", "Block size", "Side of the bootstrap's blocks in pixels", (1, 1 << 20), d.block_size),
            number(
                "bootstrap",
                "Bootstrap",
                "Draws of the block bootstrap for the 95 % intervals (0 = no intervals)",
                (0, 1_000_000),
                d.bootstrap,
            ),
            glib::ParamSpecUInt64::builder("seed")
                .nick("Seed")
                .blurb("Seed of the bootstrap: the same one gives the same intervals")
                .default_value(d.seed)
                .mutable_ready()
                .build(),
            number(
                "boundary-distance",
                "Boundary distance",
                "Distance of boundary IoU in pixels (0 = 2 % of the image's diagonal)",
                (0, 1 << 20),
                d.boundary_distance,
            ),
            number(
                "connectivity",
                "Connectivity",
                "Neighbours of a pixel that belong to its object: 4, as gdal_polygonize and rasterio.features have it, or 8",
                (4, 8),
                d.connectivity,
            ),
            number(
                "min-object-area",
                "Least area of objects",
                "Smaller objects, in pixels, are left out of prediction and truth",
                (0, u32::MAX),
                d.min_object_area,
            ),
            or_none("background", "Background", "Class that is no object (-1 = none)", most as i32 - 1, d.background),
            glib::ParamSpecString::builder("report")
                .nick("Report")
                .blurb("The report as JSON; unset before the end of the stream")
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
