//! The element: a frame comes in, and its tiles go out from the same thread, one after the other.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::prelude::*;

use super::CAT;
use super::cut::{self, Plane};
use crate::elements::caps::{self, MappedFrame, Pixels};
use crate::elements::meta::{Plan, TileMeta};
use crate::elements::{self, pads, resize};
use crate::engine::lock;
use crate::raster::grid::Stated;
use crate::raster::{Error, Grid, Result};

/// What a user has set.
#[derive(Debug, Clone)]
struct Settings {
    /// Pixels; 0 = not set.
    tile_size: i32,
    /// Pixels; -1 = not set.
    overlap: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { tile_size: 0, overlap: -1 }
    }
}

impl Settings {
    fn stated(&self) -> Stated {
        Stated {
            tile: (self.tile_size != 0).then_some(self.tile_size.into()),
            overlap: (self.overlap != -1).then_some(self.overlap.into()),
        }
    }
}

/// What holds from one caps event to the next.
struct Stream {
    pixels: Pixels,
    grid: Grid,
    /// By width and height: whole tiles, and those that are cut at the frame's ends.
    sizes: BTreeMap<(i64, i64), Size>,
}

/// How tiles of one size leave.
struct Size {
    caps: gst::Caps,
    pixels: Pixels,
    pool: gst::BufferPool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        for size in self.sizes.values() {
            let _ = size.pool.set_active(false);
        }
    }
}

#[derive(Default)]
struct State {
    stream: Option<Arc<Stream>>,
    /// An error was posted.
    failed: bool,
}

pub struct TileSplit {
    sink: gst::Pad,
    src: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

#[glib::object_subclass]
impl ObjectSubclass for TileSplit {
    const NAME: &'static str = "GstOnnxSegmentTileSplit";
    type Type = super::TileSplit;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = class.pad_template("sink").expect("declared below");
        let sink = pads::sink(&template, Self::chain, Self::sink_event, Self::sink_query);
        let template = class.pad_template("src").expect("declared below");
        let src = pads::src(&template, Self::src_query);
        TileSplit { sink, src, settings: Mutex::default(), state: Mutex::default() }
    }
}

impl ObjectImpl for TileSplit {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let default = Settings::default();
            vec![
                glib::ParamSpecInt::builder("tile-size")
                    .nick("Tile size")
                    .blurb(
                        "Width and height of a tile in pixels, overlap included; 0 = not set: what the models that \
                         follow take or name, else 1024",
                    )
                    .minimum(0)
                    .default_value(default.tile_size)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecInt::builder("overlap")
                    .nick("Overlap")
                    .blurb(
                        "Pixels that neighbouring tiles have in common, an even number up to half a tile; -1 = not set: \
                         what the models that follow name, else 64",
                    )
                    .minimum(-1)
                    .default_value(default.overlap)
                    .mutable_ready()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = lock(&self.settings);
        let number = value.get().expect("both properties are whole numbers");
        match pspec.name() {
            "tile-size" => settings.tile_size = number,
            _ => settings.overlap = number,
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = lock(&self.settings);
        match pspec.name() {
            "tile-size" => settings.tile_size.to_value(),
            _ => settings.overlap.to_value(),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.add_pad(&self.sink).expect("a new element has no pads");
        obj.add_pad(&self.src).expect("a new element has no pads");
    }
}

impl GstObjectImpl for TileSplit {}

impl ElementImpl for TileSplit {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Tile splitter",
                "Filter/Video",
                "Cuts a frame of any size into overlapping tiles, for onnxsegment and tilemerge",
                "The onnxsegment authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                .map(|(name, direction)| {
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps::pixels())
                        .expect("valid names and caps")
                })
                .into()
        });
        &TEMPLATES
    }

    fn change_state(&self, change: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let success = self.parent_change_state(change);
        if change == gst::StateChange::PausedToReady {
            *lock(&self.state) = State::default();
        }
        success
    }
}

impl TileSplit {
    /// Posts the one element error that a user sees.
    fn post(&self, error: &Error) {
        if !std::mem::replace(&mut lock(&self.state).failed, true) {
            elements::post(&*self.obj(), error);
        }
    }

    // ---- the sink pad

    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        if lock(&self.state).failed {
            return Err(gst::FlowError::Error);
        }
        // Other models may follow now.
        if self.src.check_reconfigure()
            && let Some(caps) = self.sink.current_caps()
            && !self.set_caps(&caps)
        {
            return Err(gst::FlowError::NotNegotiated);
        }
        let stream = lock(&self.state).stream.clone().ok_or(gst::FlowError::NotNegotiated)?;
        let failed = |problem: &str| {
            self.post(&Error::Tile(problem.into()));
            gst::FlowError::Error
        };
        let frame = MappedFrame::new(buffer.clone(), &stream.pixels)
            .ok_or_else(|| failed("a frame cannot be read as its caps say; put `videoconvert` before tilesplit"))?;
        let from = planes(&frame, &stream.pixels);
        let (width, height) = (stream.grid.x.length, stream.grid.y.length);
        let whole = |p: &Plane<'_>| p.data.len() >= (height as usize - 1) * p.stride + width as usize * p.pixel;
        if !from.iter().all(whole) {
            return Err(failed("a frame is smaller than its caps say; put `videoconvert` before tilesplit"));
        }
        for index in 0..stream.grid.count() {
            let area = stream.grid.tile(index).area;
            let size = &stream.sizes[&(area.width, area.height)];
            // Sizes change at the ends of rows. A peer that refuses says so when the buffer comes.
            if self.src.current_caps().as_ref() != Some(&size.caps) {
                self.src.push_event(gst::event::Caps::new(&size.caps));
            }
            let mut tile = size.pool.acquire_buffer(None)?;
            {
                let tile = tile.make_mut();
                let mut data = tile.map_writable().map_err(|_| failed("a tile cannot be mapped for writing"))?;
                for (plane, (offset, stride)) in from.iter().zip(places(&size.pixels)) {
                    cut::cut(plane, (width, height), &area, &mut data[offset..], stride);
                }
                drop(data);
                describe(&buffer, tile, index);
                let meta = TileMeta { grid: stream.grid, index, valid: None };
                meta.attach(tile).map_err(|_| failed("a tile takes no meta"))?;
            }
            gst::trace!(CAT, imp = self, "tile {index} of {}: {area:?}", stream.grid.count());
            self.src.push(tile)?;
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Caps(caps) => self.set_caps(caps.caps()),
            _ => gst::Pad::event_default(pad, Some(&*self.obj()), event),
        }
    }

    /// Fits a grid to frames of these caps, and tells the first tile's.
    fn set_caps(&self, caps: &gst::CapsRef) -> bool {
        // What is asked below is asked for good, until somebody else follows.
        self.src.check_reconfigure();
        match self.stream(caps) {
            Ok(stream) => {
                let first = stream.grid.tile(0).area;
                let caps = stream.sizes[&(first.width, first.height)].caps.clone();
                gst::info!(CAT, imp = self, "{} tiles, the first {caps}", stream.grid.count());
                lock(&self.state).stream = Some(Arc::new(stream));
                self.src.push_event(gst::event::Caps::new(&caps))
            }
            Err(error) => {
                self.post(&error);
                false
            }
        }
    }

    fn stream(&self, caps: &gst::CapsRef) -> Result<Stream> {
        let frames = Pixels::from_caps(caps).ok_or_else(|| {
            Error::Tile(format!(
                "the caps {caps} are no raw frames that tilesplit can cut; put `videoconvert` before it"
            ))
        })?;
        let mut plan = Plan::preference();
        plan.send(&self.src);
        let preference = plan.preferred().unwrap_or_default();
        let stated = lock(&self.settings).stated();
        let grid = Grid::fit(frames.width().into(), frames.height().into(), stated, &preference)?;
        let mut sizes = BTreeMap::new();
        for x in [0, grid.x.count() - 1] {
            for y in [0, grid.y.count() - 1] {
                let area = grid.tile((y * grid.x.count() + x) as usize).area;
                sizes.insert((area.width, area.height), size(resize::with_size(caps, area.width, area.height))?);
            }
        }
        Ok(Stream { pixels: frames, grid, sizes })
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Caps(query) => {
                query.set_result(&allowed(query.filter(), pad, &self.src));
                true
            }
            gst::QueryViewMut::AcceptCaps(query) => {
                let accepted = query.caps().is_subset(&pad.pad_template_caps());
                query.set_result(accepted);
                true
            }
            gst::QueryViewMut::Allocation(query) => {
                // Any stride and offset will do.
                query.add_allocation_meta::<gst_video::VideoMeta>(None);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    // ---- the source pad

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Caps(query) => {
                query.set_result(&allowed(query.filter(), pad, &self.sink));
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }
}

/// What the peer on the other side can do, in any size.
fn allowed(filter: Option<&gst::CapsRef>, pad: &gst::Pad, other: &gst::Pad) -> gst::Caps {
    let template = pad.pad_template_caps();
    let of_any_size = filter.map(|filter| resize::any_size(&filter.to_owned()));
    let asked = pads::filtered(template.clone(), of_any_size.as_deref());
    let caps = resize::any_size(&other.peer_query_caps(Some(&asked)));
    pads::filtered(caps.intersect_with_mode(&template, gst::CapsIntersectMode::First), filter)
}

/// How tiles of these caps leave: in memory that is used again.
fn size(caps: gst::Caps) -> Result<Size> {
    let too_large = || Error::Tile(format!("tiles of {caps} are more than memory can hold; lower tile-size"));
    let pixels = Pixels::from_caps(&caps).ok_or_else(too_large)?;
    let bytes = u32::try_from(pixels.size()).map_err(|_| too_large())?;
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    config.set_params(Some(&caps), bytes, 0, 0);
    pool.set_config(config).and_then(|()| pool.set_active(true)).map_err(|_| too_large())?;
    Ok(Size { caps, pixels, pool })
}

/// The planes of a frame.
fn planes<'a>(frame: &'a MappedFrame, pixels: &Pixels) -> Vec<Plane<'a>> {
    match frame {
        MappedFrame::Video(frame, _) => (0..frame.n_planes())
            .map(|k| Plane {
                data: frame.plane_data(k).unwrap_or(&[]),
                stride: frame.plane_stride()[k as usize] as usize,
                pixel: pixel(pixels),
            })
            .collect(),
        MappedFrame::Raster(data, _) => places(pixels)
            .into_iter()
            .map(|(offset, stride)| Plane { data: data.get(offset..).unwrap_or(&[]), stride, pixel: pixel(pixels) })
            .collect(),
    }
}

/// Offset and stride of the planes of a frame as GStreamer itself lays it out.
fn places(pixels: &Pixels) -> Vec<(usize, usize)> {
    match pixels {
        Pixels::Video(info) => {
            (0..info.n_planes() as usize).map(|k| (info.offset()[k], info.stride()[k] as usize)).collect()
        }
        Pixels::Raster(format) => {
            let stride = format.width * pixel(pixels);
            let planes = if format.planar { format.bands } else { 1 };
            (0..planes).map(|k| (k * stride * format.height, stride)).collect()
        }
    }
}

/// Bytes of a pixel in a plane.
fn pixel(pixels: &Pixels) -> usize {
    match pixels {
        // No format of the template has planes of different kinds.
        Pixels::Video(info) => info.format_info().pixel_stride()[0] as usize,
        Pixels::Raster(format) if format.planar => format.sample.size(),
        Pixels::Raster(format) => format.sample.size() * format.bands,
    }
}

/// Gives a tile its frame's times, flags and metas.
fn describe(frame: &gst::BufferRef, tile: &mut gst::BufferRef, index: usize) {
    let _ = frame.copy_into(tile, gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS, ..);
    // With tile meta, GAP would say that there is no data. What comes after a gap in the stream is the first tile.
    tile.unset_flags(gst::BufferFlags::GAP);
    if index > 0 {
        tile.unset_flags(gst::BufferFlags::DISCONT | gst::BufferFlags::RESYNC);
    }
    resize::copy_metas(frame, tile);
}
