//! What travels with tiles: the tile meta on buffers, facts about a whole stream in sticky events, and the query that
//! plans a run. Defined here once, for all elements.

use std::path::PathBuf;

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::cascade::Cascade;
use crate::engine::decide::Threshold;
use crate::raster::grid::Tile;
use crate::raster::{
    Axis, Cell, Error, Georeference, Grid, Lattice, Legend, MaskGrid, Preference, Rect, Result, Share,
};

/// Name of the tile meta.
pub const TILE: &str = "GstRasterTileMeta";
const RASTER: &str = "GstRasterInfo";
const SEGMENTATION: &str = "GstSegmentationInfo";
const PLAN: &str = "GstRasterPlan";

/// Where a buffer lies in its mosaic. Fields of the meta: `x y width height` (this buffer in mosaic pixels, halo
/// included; it may reach beyond the mosaic), `core-x core-y core-width core-height`, `mosaic-width mosaic-height`,
/// `index count` (row by row), the grid as `tile-width tile-height overlap-x overlap-y size-multiple fixed-width
/// fixed-height`, and, where a pixel has no data, `valid`: one byte per pixel of the buffer, 0 for no data.
#[derive(Debug, Clone)]
pub struct TileMeta {
    pub grid: Grid,
    pub index: usize,
    /// One byte per pixel, row by row without padding, 0 where there is no data; `None` = data everywhere.
    pub valid: Option<glib::Bytes>,
}

impl TileMeta {
    /// Makes the meta known to GStreamer. Needed once, before the first use.
    pub fn register() {
        static REGISTERED: LazyLock<()> = LazyLock::new(|| gst::meta::CustomMeta::register(TILE, &["video"]));
        *REGISTERED
    }

    pub fn tile(&self) -> Tile {
        self.grid.tile(self.index)
    }

    /// Puts the meta on a buffer.
    ///
    /// # Errors
    /// A buffer that takes no meta.
    pub fn attach(&self, buffer: &mut gst::BufferRef) -> Result<(), glib::BoolError> {
        Self::register();
        let tile = self.tile();
        let mut meta = gst::meta::CustomMeta::add(buffer, TILE)?;
        let s = meta.mut_structure();
        for (prefix, rect) in [("", tile.area), ("core-", tile.core)] {
            for (name, value) in [("x", rect.x), ("y", rect.y), ("width", rect.width), ("height", rect.height)] {
                s.set(format!("{prefix}{name}"), value);
            }
        }
        s.set("mosaic-width", self.grid.x.length);
        s.set("mosaic-height", self.grid.y.length);
        s.set("index", self.index as u64);
        s.set("count", self.grid.count() as u64);
        s.set("tile-width", self.grid.x.tile);
        s.set("tile-height", self.grid.y.tile);
        s.set("overlap-x", self.grid.x.overlap);
        s.set("overlap-y", self.grid.y.overlap);
        s.set("size-multiple", self.grid.x.multiple);
        s.set("fixed-width", self.grid.x.fixed);
        s.set("fixed-height", self.grid.y.fixed);
        if let Some(valid) = &self.valid {
            s.set("valid", valid);
        }
        Ok(())
    }

    /// Reads a buffer's meta and compares it with the size that the caps say; `None` where the buffer has none.
    ///
    /// # Errors
    /// A meta that lacks fields, contradicts itself, or does not fit the caps.
    pub fn of(buffer: &gst::BufferRef, width: u32, height: u32) -> Result<Option<TileMeta>> {
        Self::register();
        let Ok(meta) = gst::meta::CustomMeta::from_buffer(buffer, TILE) else {
            return Ok(None);
        };
        let s = meta.structure();
        let wrong = |problem: String| Error::Tile(format!("a buffer's {TILE} {problem}"));
        let number = |name: &str| s.get::<i64>(name).map_err(|_| wrong(format!("has no whole number `{name}`")));
        let flag = |name: &str| s.get::<bool>(name).map_err(|_| wrong(format!("has no flag `{name}`")));
        let axis = |length, tile, overlap, fixed| -> Result<Axis> {
            let axis = Axis {
                length: number(length)?,
                tile: number(tile)?,
                overlap: number(overlap)?,
                multiple: number("size-multiple")?,
                fixed: flag(fixed)?,
            };
            let legal = axis.length > 0 && axis.tile > 0 && axis.multiple > 0;
            match legal && (0..=axis.tile / 2).contains(&axis.overlap) && axis.overlap % 2 == 0 {
                true => Ok(axis),
                false => Err(wrong(format!("describes no grid: {s}"))),
            }
        };
        let grid = Grid {
            x: axis("mosaic-width", "tile-width", "overlap-x", "fixed-width")?,
            y: axis("mosaic-height", "tile-height", "overlap-y", "fixed-height")?,
        };
        let index = s.get::<u64>("index").map_err(|_| wrong("has no whole number `index`".into()))?;
        if index >= grid.count() as u64 {
            return Err(wrong(format!("names tile {index} of {}", grid.count())));
        }
        let valid = s.get::<glib::Bytes>("valid").ok();
        let meta = TileMeta { grid, index: index as usize, valid };
        let area = meta.tile().area;
        let stated = Rect::new(number("x")?, number("y")?, number("width")?, number("height")?);
        if stated != area {
            return Err(wrong(format!("says that tile {index} is {stated:?}, where its grid has {area:?}")));
        }
        if (area.width, area.height) != (width as i64, height as i64) {
            return Err(wrong(format!(
                "says {}x{}, and the caps say {width}x{height}: something between the tiler and here has scaled or \
                 cropped it; take that element out",
                area.width, area.height
            )));
        }
        if meta.valid.as_ref().is_some_and(|v| v.len() != area.area()) {
            return Err(wrong(format!(
                "has {} bytes of `valid`, not {}",
                meta.valid.map_or(0, |v| v.len()),
                area.area()
            )));
        }
        Ok(Some(meta))
    }
}

/// A type that a structure carries as JSON text, besides the fields that others may read.
fn put<T: Serialize>(s: &mut gst::StructureRef, name: &str, value: &T) {
    s.set(name, serde_json::to_string(value).expect("these types have text keys and no failing parts"));
}

fn take<T: DeserializeOwned>(s: &gst::StructureRef, name: &str) -> Option<T> {
    serde_json::from_str(&s.get::<String>(name).ok()?).ok()
}

/// The sticky event `GstRasterInfo`: the raster that tiles come from. Fields: `source` (its name), `width height`,
/// `nodata` (a double, where there is one), `crs` (WKT), `geotransform` (six doubles), `georeference` (all of it, JSON),
/// `ground` (width and height of a pixel at the centre in metres, where known, JSON), `legend` (JSON, of labels).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RasterInfo {
    pub source: String,
    pub width: i64,
    pub height: i64,
    pub nodata: Option<f64>,
    pub georeference: Georeference,
    /// Width and height of a pixel at the centre in metres.
    pub ground: Option<(f64, f64)>,
    /// Of a raster that is sent as labels.
    pub legend: Option<Legend>,
}

impl RasterInfo {
    pub fn event(&self) -> gst::Event {
        let mut s = gst::Structure::new_empty(RASTER);
        s.set("source", &self.source);
        s.set("width", self.width);
        s.set("height", self.height);
        if let Some(nodata) = self.nodata {
            s.set("nodata", nodata);
        }
        if let Some(crs) = &self.georeference.crs {
            s.set("crs", crs);
        }
        if let Some(g) = &self.georeference.geotransform {
            s.set("geotransform", gst::Array::new(g.iter().copied()));
        }
        put(&mut s, "georeference", &self.georeference);
        put(&mut s, "ground", &self.ground);
        put(&mut s, "legend", &self.legend);
        gst::event::CustomDownstreamSticky::new(s)
    }

    /// `None` where the event is another.
    pub fn of(event: &gst::EventRef) -> Option<Self> {
        let s = event.structure().filter(|s| s.name() == RASTER)?;
        Some(RasterInfo {
            source: s.get("source").ok()?,
            width: s.get("width").ok()?,
            height: s.get("height").ok()?,
            nodata: s.get("nodata").ok(),
            georeference: take(s, "georeference").unwrap_or_default(),
            ground: take(s, "ground").unwrap_or_default(),
            legend: take(s, "legend").unwrap_or_default(),
        })
    }
}

/// A model, as masks name it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelName {
    /// File name without folders.
    pub file: String,
    pub sha256: String,
    pub weight: f32,
}

/// The sticky event `GstSegmentationInfo`: what scores and labels mean. Fields: `class-names`, `colours` (`#rrggbb` from
/// class 0, `none` for a class that is not painted), `models` and `hashes` (arrays of text), `channels` (bands of scores),
/// `domain` (`probability`, `logit`), `link` (`sigmoid`, `softmax`), `threshold` (a number, or an
/// array with one per class), `label-offset`, `mask-values`, `tta`, `merge`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SegmentationInfo {
    pub class_names: Option<Vec<String>>,
    pub colours: Vec<Option<[u8; 3]>>,
    pub models: Vec<ModelName>,
    /// The models' STAC items, by the models' names, where there are such.
    #[serde(default)]
    pub cards: Vec<(String, PathBuf)>,
    /// What makes the final scores of the models', where it is not a merge.
    pub stacker: Option<ModelName>,
    /// Bands of scores; 0 where not known before the first frame.
    pub channels: usize,
    pub domain: String,
    pub link: String,
    pub threshold: Threshold,
    pub label_offset: u16,
    pub mask_values: Option<Vec<u16>>,
    pub tta: String,
    /// Stochastic passes of each model and transform, and the seed of their draws.
    pub samples: Option<(usize, u64)>,
    pub merge: String,
    pub uncertainty: String,
    /// When frames stopped early: `none`, `exact`, or `confident` with its margin and limit.
    pub cascade: String,
}

impl SegmentationInfo {
    pub fn event(&self) -> gst::Event {
        let mut s = gst::Structure::new_empty(SEGMENTATION);
        if let Some(names) = &self.class_names {
            s.set("class-names", gst::Array::new(names));
        }
        let hex = |c: &Option<[u8; 3]>| c.map_or("none".into(), |[r, g, b]| format!("#{r:02x}{g:02x}{b:02x}"));
        s.set("colours", gst::Array::new(self.colours.iter().map(hex)));
        s.set("models", gst::Array::new(self.models.iter().map(|m| m.file.as_str())));
        s.set("hashes", gst::Array::new(self.models.iter().map(|m| m.sha256.as_str())));
        if let Some(stacker) = &self.stacker {
            s.set("stacker", &stacker.file);
            s.set("stacker-hash", &stacker.sha256);
        }
        s.set("channels", self.channels as u32);
        for (name, value) in [
            ("domain", &self.domain),
            ("link", &self.link),
            ("tta", &self.tta),
            ("merge", &self.merge),
            ("cascade", &self.cascade),
        ] {
            s.set(name, value);
        }
        match &self.threshold {
            Threshold::None => {}
            Threshold::All(threshold) => s.set("threshold", f64::from(*threshold)),
            Threshold::Each(all) => s.set("threshold", gst::Array::new(all.iter().map(|t| f64::from(*t)))),
        }
        if let Some((samples, seed)) = self.samples {
            s.set("samples", samples as u32);
            s.set("seed", seed);
        }
        s.set("label-offset", self.label_offset as u32);
        if let Some(values) = &self.mask_values {
            s.set("mask-values", gst::Array::new(values.iter().map(|v| *v as u32)));
        }
        put(&mut s, "all", self);
        gst::event::CustomDownstreamSticky::new(s)
    }

    /// What a raster of labels says of them itself.
    pub fn of_legend(legend: Legend) -> Self {
        let Legend { names, colours } = legend;
        SegmentationInfo {
            class_names: Some(names).filter(|names| !names.is_empty()),
            colours: colours.into_iter().map(Some).collect(),
            ..SegmentationInfo::default()
        }
    }

    /// `None` where the event is another.
    pub fn of(event: &gst::EventRef) -> Option<Self> {
        take(event.structure().filter(|s| s.name() == SEGMENTATION)?, "all")
    }

    /// Whether labels are certain of each tile's scores alone, which are those of some passes only.
    pub fn labels_alone_are_exact(&self) -> bool {
        self.cascade == Cascade::Exact.text()
    }

    /// What of it decides pixel values, by property name.
    pub fn settings(&self) -> serde_json::Value {
        // As the user wrote it, not as the nearest number of 32 bits.
        let exact = |t: f32| t.to_string().parse::<f64>().ok();
        let threshold = match &self.threshold {
            Threshold::None => serde_json::Value::Null,
            Threshold::All(t) => exact(*t).into(),
            Threshold::Each(all) => all.iter().map(|t| exact(*t)).collect(),
        };
        serde_json::json!({
            "tta": self.tta,
            "merge": self.merge,
            "samples": self.samples.map(|(samples, _)| samples),
            "seed": self.samples.map(|(_, seed)| seed),
            "stacker": self.stacker.as_ref().map(|s| &s.sha256),
            "merge-domain": self.domain,
            "threshold": threshold,
            "label-offset": self.label_offset,
            "mask-values": self.mask_values,
            "cascade": self.cascade,
        })
    }
}

/// The query `GstRasterPlan`, by which a tiler and what follows it agree before the first tile. It goes out twice, and
/// where a run is begun for others a third time:
///
/// 1. [`Plan::preference`]: the models, or `maskclean` where labels are read, add what they would have of tiles
///    ([`Preference`]). Nobody else need answer.
/// 2. [`Plan::run`]: with everything resolved. `onnxsegment` and `maskclean` add models and settings; a sink that keeps parts checks
///    that they belong to this run and answers with its lattice and the parts that are finished, or refuses.
/// 3. [`Plan::without_data`]: cells that the sink finishes by itself; models pass it on.
pub struct Plan {
    query: gst::query::Custom<gst::Query>,
}

/// What a tiler tells of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRequest {
    /// Name, size, fingerprint of the source: what makes parts belong to it.
    pub source: serde_json::Value,
    /// The source's name as messages and metadata tell it.
    pub name: String,
    pub georeference: Georeference,
    pub grid: Grid,
    pub region: Rect,
    /// What finished rasters are to be brought back to; `None` for the grid above.
    pub mask_grid: Option<MaskGrid>,
    pub share: Share,
    /// What is sent are labels, at the wish of what follows, and this is what they mean as far as it is known.
    #[serde(default)]
    pub labels: Option<SourceLabels>,
}

/// Labels that a tiler sends as they are in its source.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SourceLabels {
    /// They have 16 bits, not 8.
    pub wide: bool,
    pub legend: Option<Legend>,
}

/// What the models add to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunModels {
    pub info: SegmentationInfo,
    /// Everything that decides pixel values, by property name, every automatic choice resolved.
    pub settings: serde_json::Value,
    /// The labels have 16 bits, whatever the classes say.
    #[serde(default)]
    pub wide: bool,
}

/// What a sink that keeps parts answers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunAnswer {
    pub lattice: Lattice,
    /// Only cores count: a tile is needed where its core lies, not where its halo reaches.
    pub cores: bool,
    /// Cells that are finished already.
    pub done: Vec<Cell>,
    /// The sink has posted an error and wants no tile.
    pub refused: bool,
    /// A name for the run: the same wherever parts are parts of one another.
    #[serde(default)]
    pub identity: String,
}

impl Plan {
    /// Asks what models would have of a grid.
    pub fn preference() -> Self {
        let mut s = gst::Structure::new_empty(PLAN);
        s.set("stage", "preference");
        Plan { query: gst::query::Custom::new(s) }
    }

    /// Announces a run.
    pub fn run(request: &RunRequest) -> Self {
        let mut s = gst::Structure::new_empty(PLAN);
        s.set("stage", "run");
        put(&mut s, "request", request);
        Plan { query: gst::query::Custom::new(s) }
    }

    /// Tells whoever keeps the parts of the run just announced that cells have no data.
    pub fn without_data(cells: &[Cell]) -> Self {
        let mut s = gst::Structure::new_empty(PLAN);
        s.set("stage", "without-data");
        put(&mut s, "without-data", &cells);
        Plan { query: gst::query::Custom::new(s) }
    }

    /// Sends the query downstream; whether anyone answered.
    pub fn send(&mut self, src: &gst::Pad) -> bool {
        src.peer_query(&mut self.query)
    }

    fn structure(&self) -> &gst::StructureRef {
        self.query.structure().expect("made with one")
    }

    /// The answer to [`Plan::preference`].
    pub fn preferred(&self) -> Option<Preference> {
        take(self.structure(), "preference")
    }

    /// The answer to [`Plan::run`].
    pub fn answer(&self) -> Option<RunAnswer> {
        take(self.structure(), "answer")
    }
}

/// A `GstRasterPlan` that has arrived.
pub struct PlanRef<'a>(&'a mut gst::StructureRef);

impl<'a> PlanRef<'a> {
    /// `None` where the query is another.
    pub fn of(query: &'a mut gst::QueryRef) -> Option<Self> {
        if query.structure().is_none_or(|s| s.name() != PLAN) {
            return None;
        }
        Some(PlanRef(query.structure_mut()))
    }

    /// The run that is announced; `None` in the round that only asks for preferences.
    pub fn request(&self) -> Option<RunRequest> {
        take(self.0, "request")
    }

    /// Cells that are known to have no data; `None` in the other rounds.
    pub fn without_data(&self) -> Option<Vec<Cell>> {
        take(self.0, "without-data")
    }

    pub fn models(&self) -> Option<RunModels> {
        take(self.0, "models")
    }

    /// What a sink has answered.
    pub fn answer(&self) -> Option<RunAnswer> {
        take(self.0, "answer")
    }

    /// Says that labels are wanted, a palette's indices and not its colours, in tiles that do not overlap.
    pub fn prefer_labels(&mut self) {
        self.set_preference(&Preference { overlap: Some(0.0), labels: true, ..Preference::default() });
    }

    pub fn set_preference(&mut self, preference: &Preference) {
        put(self.0, "preference", preference);
    }

    pub fn set_models(&mut self, models: &RunModels) {
        put(self.0, "models", models);
    }

    pub fn set_answer(&mut self, answer: &RunAnswer) {
        put(self.0, "answer", answer);
    }
}
