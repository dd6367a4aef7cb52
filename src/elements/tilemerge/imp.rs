//! The element: tiles come in, and with the last tile of a frame the frame goes out, from the same thread.

use std::sync::{LazyLock, Mutex};
use std::time::Instant;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use super::CAT;
use crate::elements::blend::{self, BlendMode};
use crate::elements::caps::{self, MappedFrame, Pixels, RasterFormat};
use crate::elements::labels::{self, Labels};
use crate::elements::meta::{RasterInfo, SegmentationInfo, TileMeta};
use crate::elements::{pads, resize};
use crate::engine::lock;
use crate::engine::pixels::{Frame as _, Sample};
use crate::raster::Grid;
use crate::raster::blend::{Blender, Piece};

/// What a user has set.
#[derive(Debug, Clone, Default)]
struct Settings {
    blend: BlendMode,
}

/// Why no frame comes out.
type Fault = pads::Fault<String>;

/// What tiles of all sizes have in common.
#[derive(Debug, Clone, PartialEq)]
struct Kind {
    /// The sink's caps without the size.
    caps: gst::Caps,
    /// Bands of scores; `None` for labels.
    scores: Option<usize>,
}

/// What only the streaming thread knows.
#[derive(Default)]
struct Stream {
    /// Of the tiles that come now, and their caps.
    tile: Option<(Pixels, gst::Caps)>,
    info: Option<SegmentationInfo>,
    /// The tiles are of one raster, each with a time of its own.
    of_raster: bool,
    output: Option<Output>,
    frame: Option<Frame>,
    /// Events that wait for the first caps.
    waiting: Vec<gst::Event>,
    floats: Vec<f32>,
    failed: bool,
}

/// What was agreed with whoever follows, for frames of one size.
struct Output {
    kind: Kind,
    size: (i64, i64),
    info: Option<SegmentationInfo>,
    pixels: Pixels,
    /// How blended scores are decided, where labels leave.
    labels: Option<Labels>,
    pool: gst::BufferPool,
}

/// A frame of which some tiles have come.
struct Frame {
    grid: Grid,
    kind: Kind,
    /// The tile that comes next.
    next: usize,
    /// When its first tile came.
    began: Instant,
    buffer: gst::Buffer,
    /// For scores.
    blender: Option<Blender>,
}

/// What any thread may ask for.
#[derive(Default)]
struct Shared {
    pool: Option<gst::BufferPool>,
    live: bool,
    /// The longest time from a frame's first tile to its last.
    latency: gst::ClockTime,
}

pub struct TileMerge {
    sink: gst::Pad,
    src: gst::Pad,
    settings: Mutex<Settings>,
    stream: Mutex<Stream>,
    shared: Mutex<Shared>,
}

#[glib::object_subclass]
impl ObjectSubclass for TileMerge {
    const NAME: &'static str = "GstOnnxSegmentTileMerge";
    type Type = super::TileMerge;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = class.pad_template("sink").expect("declared below");
        let sink = pads::sink(&template, Self::chain, Self::sink_event, Self::sink_query);
        let template = class.pad_template("src").expect("declared below");
        let src = pads::src(&template, Self::src_query);
        TileMerge { sink, src, settings: Mutex::default(), stream: Mutex::default(), shared: Mutex::default() }
    }
}

impl ObjectImpl for TileMerge {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecEnum::builder_with_default("blend", Settings::default().blend)
                    .nick("Blend")
                    .blurb("How much a tile counts where it overlaps its neighbours; labels are always cropped")
                    .mutable_ready()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, _pspec: &glib::ParamSpec) {
        lock(&self.settings).blend = value.get().expect("the only property is this enumeration");
    }

    fn property(&self, _id: usize, _pspec: &glib::ParamSpec) -> glib::Value {
        lock(&self.settings).blend.to_value()
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.add_pad(&self.sink).expect("a new element has no pads");
        obj.add_pad(&self.src).expect("a new element has no pads");
    }
}

impl GstObjectImpl for TileMerge {}

impl ElementImpl for TileMerge {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Tile merger",
                "Filter/Video",
                "Blends the tiles of a frame and decides its labels; tiles that are labels already are cropped",
                "The onnxsegment authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = |name: &str, direction, caps: &gst::Caps| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).expect("valid names and caps")
            };
            // Scores first: whoever gives both blends before it decides.
            let mut sink = scores();
            sink.merge(caps::video(caps::MASK.iter().copied()));
            let mut src = caps::video(caps::MASK.iter().copied());
            src.merge(scores());
            vec![template("sink", gst::PadDirection::Sink, &sink), template("src", gst::PadDirection::Src, &src)]
        });
        &TEMPLATES
    }

    fn change_state(&self, change: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if change == gst::StateChange::PausedToReady {
            self.set_flushing(true);
        }
        let success = self.parent_change_state(change);
        if change == gst::StateChange::PausedToReady {
            let pool = std::mem::take(&mut *lock(&self.shared)).pool;
            if let Some(pool) = pool {
                let _ = pool.set_active(false);
            }
            *lock(&self.stream) = Stream::default();
        }
        success
    }
}

impl TileMerge {
    /// Lets `f` have what the streaming thread knows, without holding a lock while it pushes.
    fn streaming<R>(&self, f: impl FnOnce(&mut Stream) -> R) -> R {
        let mut stream = std::mem::take(&mut *lock(&self.stream));
        let result = f(&mut stream);
        *lock(&self.stream) = stream;
        result
    }

    /// Posts the one element error that a user sees.
    fn post(&self, text: &str) {
        if !std::mem::replace(&mut lock(&self.stream).failed, true) {
            gst::element_imp_error!(self, gst::StreamError::Format, ("{text}"));
        }
    }

    /// Lets nobody wait for a buffer.
    fn set_flushing(&self, flushing: bool) {
        let pool = lock(&self.shared).pool.clone();
        if let Some(pool) = pool {
            pool.set_flushing(flushing);
        }
    }

    // ---- the sink pad

    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        if lock(&self.stream).failed {
            return Err(gst::FlowError::Error);
        }
        match self.streaming(|stream| self.take(stream, buffer)) {
            Ok(Some(whole)) => self.src.push(whole),
            Ok(None) => Ok(gst::FlowSuccess::Ok),
            Err(Fault::Flow(flow)) => Err(flow),
            Err(Fault::Error(text)) => {
                self.post(&text);
                Err(gst::FlowError::Error)
            }
        }
    }

    /// Takes a tile, and gives the frame that it completes.
    fn take(&self, stream: &mut Stream, buffer: gst::Buffer) -> Result<Option<gst::Buffer>, Fault> {
        let Some((pixels, caps)) = stream.tile.clone() else {
            return Err(gst::FlowError::NotNegotiated.into());
        };
        let meta = TileMeta::of(&buffer, pixels.width(), pixels.height())?.ok_or_else(|| {
            "a buffer without GstRasterTileMeta has come, and tilemerge cannot know where it belongs; put `tilesplit` \
             before it, and take out what drops metas between the two"
                .to_string()
        })?;
        let kind = Kind {
            caps: resize::any_size(&caps),
            scores: match &pixels {
                Pixels::Raster(format) => Some(format.bands),
                Pixels::Video(_) => None,
            },
        };
        match &stream.frame {
            Some(frame) => self.check(frame, &kind, &meta, &buffer, stream.of_raster)?,
            None => {
                if meta.index != 0 {
                    return Err(format!(
                        "tile {} of {} has come where a frame begins; let every tile through from `tilesplit` to \
                         tilemerge, in order",
                        meta.index + 1,
                        meta.grid.count()
                    )
                    .into());
                }
                stream.frame = Some(self.begin(stream, kind, meta.grid, &buffer)?);
            }
        }
        let (Some(frame), Some(output)) = (&mut stream.frame, &mut stream.output) else {
            return Err(gst::FlowError::NotNegotiated.into());
        };
        fill(frame, output, &mut stream.floats, &meta, buffer, &pixels)?;
        frame.next += 1;
        if frame.next < frame.grid.count() {
            return Ok(None);
        }
        let took = frame.began.elapsed();
        let whole = stream.frame.take().map(|frame| frame.buffer);
        self.note_latency(gst::ClockTime::try_from(took).unwrap_or(gst::ClockTime::ZERO));
        Ok(whole)
    }

    /// Whether a tile is the one that is due.
    fn check(
        &self,
        frame: &Frame,
        kind: &Kind,
        meta: &TileMeta,
        buffer: &gst::BufferRef,
        of_raster: bool,
    ) -> Result<(), Fault> {
        let count = frame.grid.count();
        if frame.kind != *kind {
            return Err(format!(
                "the format changed from {} to {} after {} of a frame's {count} tiles; change it between frames",
                frame.kind.caps, kind.caps, frame.next
            )
            .into());
        }
        let of_frame = of_raster || same_time(&frame.buffer, buffer);
        if frame.grid == meta.grid && frame.next == meta.index && of_frame {
            return Ok(());
        }
        let time =
            |buffer: &gst::BufferRef| buffer.pts().map_or(String::new(), |pts| format!(" of the frame at {pts}"));
        Err(format!(
            "tile {} of {}{} has come where tile {} of {count}{} was due; let every tile through from `tilesplit` to \
             tilemerge, in order (a leaky queue, for instance, drops some)",
            meta.index + 1,
            meta.grid.count(),
            time(buffer),
            frame.next + 1,
            time(&frame.buffer),
        )
        .into())
    }

    /// Begins a frame with its first tile.
    fn begin(&self, stream: &mut Stream, kind: Kind, grid: Grid, first: &gst::BufferRef) -> Result<Frame, Fault> {
        let began = Instant::now();
        let changed = self.src.check_reconfigure();
        let size = (grid.x.length, grid.y.length);
        let info = stream.info.clone().filter(|_| kind.scores.is_some());
        let holds = |o: &Output| o.kind == kind && o.size == size && o.info == info;
        if changed || !stream.output.as_ref().is_some_and(holds) {
            let agreed = self.negotiate(&kind, size, info).inspect_err(|_| self.src.mark_reconfigure());
            stream.output = Some(agreed?);
            for event in std::mem::take(&mut stream.waiting) {
                self.src.push_event(event);
            }
        }
        let output = stream.output.as_ref().ok_or(gst::FlowError::NotNegotiated)?;
        let mut buffer = output.pool.acquire_buffer(None)?;
        {
            let buffer = buffer.make_mut();
            let _ = first.copy_into(buffer, gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS, ..);
            // Said of the tile alone.
            buffer.unset_flags(gst::BufferFlags::GAP);
            resize::copy_metas(first, buffer);
        }
        let blend = lock(&self.settings).blend.into();
        let blender = kind.scores.map(|bands| Blender::new(grid, blend, bands, |_| true));
        Ok(Frame { grid, kind, next: 0, began, buffer, blender })
    }

    /// Agrees on what leaves, and tells the caps.
    fn negotiate(&self, kind: &Kind, size: (i64, i64), info: Option<SegmentationInfo>) -> Result<Output, Fault> {
        let whole = resize::with_size(&kind.caps, size.0, size.1);
        let too_large = || {
            format!(
                "a frame of {}x{} pixels is more than GStreamer can hold in memory; let `rastersink` write a mosaic of \
                 this size",
                size.0, size.1
            )
        };
        let mut labels = None;
        let mut unsure = None;
        let allowed = match kind.scores {
            None => whole,
            Some(bands) => {
                match &info {
                    None => unsure = Some("no GstSegmentationInfo has come, which says how to".to_string()),
                    Some(info) => {
                        blend::check(lock(&self.settings).blend.into(), info)?;
                        labels = Some(Labels::new(info, bands)?);
                    }
                }
                let scores = RasterFormat::from_caps(&whole).ok_or_else(too_large)?;
                let formats: &[VideoFormat] = match &labels {
                    Some(labels) if !labels.fits_8_bit() => &[VideoFormat::Gray16Le],
                    _ => caps::MASK,
                };
                let mut caps = gst_video::VideoCapsBuilder::new()
                    .format_list(formats.iter().copied())
                    .width(scores.width as i32)
                    .height(scores.height as i32)
                    .framerate(scores.framerate)
                    .pixel_aspect_ratio(gst::Fraction::new(1, 1))
                    .build();
                caps.merge(whole);
                caps
            }
        };
        let mut caps = self.src.peer_query_caps(Some(&allowed));
        caps = caps.intersect_with_mode(&allowed, gst::CapsIntersectMode::First);
        if caps.is_empty() {
            if self.src.pad_flags().contains(gst::PadFlags::FLUSHING) {
                return Err(gst::FlowError::Flushing.into());
            }
            return Err(format!(
                "tilemerge and what follows it have no format in common: it gives {allowed}, and what follows takes {}; \
                 put `videoconvert` behind it where the formats differ, `videoscale` where the sizes do",
                self.src.peer_query_caps(None)
            )
            .into());
        }
        caps.truncate();
        caps.fixate();
        let pixels = Pixels::from_caps(&caps).ok_or_else(too_large)?;
        if kind.scores.is_some()
            && matches!(pixels, Pixels::Video(_))
            && let Some(why) = unsure
        {
            return Err(format!(
                "scores have come that are to become labels, and {why}; put `onnxsegment` before tilemerge, or \
                 `raster/x-raw` behind it to get the blended scores"
            )
            .into());
        }
        gst::debug!(CAT, imp = self, "negotiated {caps}");
        // A peer that refuses says so when the buffer comes.
        if self.src.current_caps().as_ref() != Some(&caps) {
            self.src.push_event(gst::event::Caps::new(&caps));
        }
        let pool = pads::pool(&self.src, &caps, &pixels, 0).ok_or_else(too_large)?;
        let old = lock(&self.shared).pool.replace(pool.clone());
        if let Some(old) = old.filter(|old| *old != pool) {
            let _ = old.set_active(false);
        }
        Ok(Output { kind: kind.clone(), size, info, pixels, labels, pool })
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        let forward = |event| gst::Pad::event_default(pad, Some(&*self.obj()), event);
        match event.view() {
            gst::EventView::FlushStart(_) => {
                self.set_flushing(true);
                forward(event)
            }
            gst::EventView::FlushStop(_) => {
                {
                    let mut stream = lock(&self.stream);
                    stream.frame = None;
                    stream.waiting.retain(|e| !matches!(e.type_(), gst::EventType::Segment | gst::EventType::Eos));
                }
                self.set_flushing(false);
                forward(event)
            }
            gst::EventView::Caps(caps) => self.set_caps(caps.caps()),
            gst::EventView::StreamStart(_) | gst::EventView::SegmentDone(_) => {
                self.expect_no_frame();
                self.forward(event, forward)
            }
            gst::EventView::Eos(_) => {
                self.expect_no_frame();
                // Without a tile there are no caps to wait for.
                let waiting = std::mem::take(&mut lock(&self.stream).waiting);
                waiting.into_iter().for_each(|event| {
                    self.src.push_event(event);
                });
                forward(event)
            }
            gst::EventView::CustomDownstreamSticky(_) => {
                if let Some(info) = SegmentationInfo::of(&event) {
                    lock(&self.stream).info = Some(info);
                }
                if RasterInfo::of(&event).is_some() {
                    lock(&self.stream).of_raster = true;
                }
                self.forward(event, forward)
            }
            _ if event.is_serialized() => self.forward(event, forward),
            _ => forward(event),
        }
    }

    /// Passes an event on; after caps, where it has to come after them.
    fn forward(&self, event: gst::Event, forward: impl FnOnce(gst::Event) -> bool) -> bool {
        let mut stream = lock(&self.stream);
        if event.type_() != gst::EventType::StreamStart && stream.output.is_none() {
            stream.waiting.push(event);
            return true;
        }
        drop(stream);
        forward(event)
    }

    /// Complains where a frame ends before its last tile.
    fn expect_no_frame(&self) {
        let frame = lock(&self.stream).frame.take();
        if let Some(frame) = frame {
            self.post(&format!(
                "the stream ended after {} of the last frame's {} tiles, which is lost; let every tile through from \
                 `tilesplit` to tilemerge",
                frame.next,
                frame.grid.count()
            ));
        }
    }

    fn set_caps(&self, caps: &gst::CapsRef) -> bool {
        let legal = Pixels::from_caps(caps).filter(|pixels| match pixels {
            Pixels::Video(info) => caps::MASK.contains(&info.format()),
            Pixels::Raster(format) => format.sample == Sample::F32Le && format.planar && !format.uncertainty,
        });
        let Some(pixels) = legal else {
            self.post(&format!(
                "the caps {caps} are neither labels (GRAY8, GRAY16_LE) nor scores (raster/x-raw, F32LE, planar); put \
                 `onnxsegment` before tilemerge"
            ));
            return false;
        };
        lock(&self.stream).tile = Some((pixels, caps.to_owned()));
        true
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Caps(query) => {
                let result = pads::filtered(self.sink_caps(), query.filter());
                query.set_result(&result);
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

    /// Scores, and labels in the formats that may follow: these leave as they come.
    fn sink_caps(&self) -> gst::Caps {
        let template = self.src.pad_template_caps();
        let follows = resize::any_size(&self.src.peer_query_caps(Some(&template)));
        let mut caps = scores();
        caps.merge(follows.intersect(&caps::video(caps::MASK.iter().copied())));
        caps
    }

    // ---- the source pad

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Latency(query) => {
                let mut upstream = gst::query::Latency::new();
                if !self.sink.peer_query(&mut upstream) {
                    return false;
                }
                let (live, least, most) = upstream.result();
                let own = {
                    let mut shared = lock(&self.shared);
                    shared.live = live;
                    if live { shared.latency } else { gst::ClockTime::ZERO }
                };
                gst::debug!(CAT, imp = self, "latency {own}, upstream live {live}, {least} to {most:?}");
                query.set(live, least + own, most.map(|most| most + own));
                true
            }
            gst::QueryViewMut::Caps(query) => {
                let result = pads::filtered(pad.pad_template_caps(), query.filter());
                query.set_result(&result);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    /// Tells a live pipeline when frames take longer than they did.
    fn note_latency(&self, took: gst::ClockTime) {
        let grown = {
            let mut shared = lock(&self.shared);
            // A little more is not worth a new latency for the whole pipeline.
            let grown = shared.live && took > shared.latency + shared.latency / 8;
            if took > shared.latency && (grown || !shared.live) {
                shared.latency = took;
            }
            grown
        };
        if grown {
            let obj = self.obj();
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
    }
}

/// The scores that this element takes and gives: without uncertainty, which cannot be decided from.
fn scores() -> gst::Caps {
    let mut caps = caps::scores();
    caps.make_mut().set("uncertainty", false);
    caps
}

/// Whether two buffers do not say that they are of different times.
fn same_time(a: &gst::BufferRef, b: &gst::BufferRef) -> bool {
    a.pts().is_none() || b.pts().is_none() || a.pts() == b.pts()
}

/// Draws a tile into its frame, as far as that is decided by now.
fn fill(
    frame: &mut Frame,
    output: &mut Output,
    floats: &mut Vec<f32>,
    meta: &TileMeta,
    buffer: gst::Buffer,
    pixels: &Pixels,
) -> Result<(), Fault> {
    let empty = buffer.flags().contains(gst::BufferFlags::GAP);
    let whole = frame.buffer.make_mut();
    if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
        whole.set_flags(gst::BufferFlags::CORRUPTED);
    }
    let unmapped = || "an output buffer cannot be mapped for writing".to_string();
    let unreadable = || {
        format!(
            "tile {} of {} is smaller than its caps say; take out what changes its memory",
            meta.index + 1,
            meta.grid.count()
        )
    };
    let Some(blender) = &mut frame.blender else {
        let Pixels::Video(info) = &output.pixels else {
            return Err(gst::FlowError::NotNegotiated.into());
        };
        let mut canvas = Canvas::new(whole, info).ok_or_else(unmapped)?;
        let tile = match empty {
            true => None,
            false => Some(MappedFrame::new(buffer, pixels).ok_or_else(unreadable)?),
        };
        canvas.copy_core(tile.as_ref(), meta).ok_or_else(unreadable)?;
        return Ok(());
    };
    let needed = meta.tile().area.area() * blender.bands();
    let data = (!empty).then(|| buffer.map_readable().map_err(|_| unreadable())).transpose()?;
    let scores = match &data {
        Some(data) => Some(labels::floats(data, floats).get(..needed).ok_or_else(unreadable)?),
        None => None,
    };
    match (&output.pixels, &mut output.labels) {
        (Pixels::Video(info), Some(labels)) => {
            let mut canvas = Canvas::new(whole, info).ok_or_else(unmapped)?;
            blender.add(meta.index, scores, |piece| canvas.draw(&piece, labels).ok_or_else(unmapped))?;
        }
        (Pixels::Raster(format), _) => {
            let mut data = whole.map_writable().map_err(|_| unmapped())?;
            let bands = blender.bands();
            blender
                .add(meta.index, scores, |piece| write_scores(&piece, bands, format, &mut data).ok_or_else(unmapped))?;
        }
        (Pixels::Video(_), None) => return Err(gst::FlowError::NotNegotiated.into()),
    }
    Ok(())
}

/// A frame of labels, mapped for writing.
struct Canvas<'a> {
    frame: gst_video::VideoFrameRef<&'a mut gst::BufferRef>,
    /// Bytes of a label.
    pixel: usize,
    stride: usize,
}

impl<'a> Canvas<'a> {
    fn new(buffer: &'a mut gst::BufferRef, info: &VideoInfo) -> Option<Self> {
        let frame = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, info).ok()?;
        let stride = usize::try_from(frame.plane_stride()[0]).ok()?;
        Some(Canvas { frame, pixel: info.format_info().pixel_stride()[0] as usize, stride })
    }

    /// `width` labels from (x, y) on.
    fn row(&mut self, x: i64, y: i64, width: i64) -> Option<&mut [u8]> {
        let at = y as usize * self.stride + x as usize * self.pixel;
        self.frame.plane_data_mut(0).ok()?.get_mut(at..at + width as usize * self.pixel)
    }

    /// Copies the core of a tile of labels; `None` has no data.
    fn copy_core(&mut self, tile: Option<&MappedFrame>, meta: &TileMeta) -> Option<()> {
        let (core, area) = (meta.tile().core, meta.tile().area);
        let view = tile.map(|tile| tile.view());
        for y in core.y..core.bottom() {
            let to = self.row(core.x, y, core.width)?;
            match &view {
                Some(view) => {
                    let band = view.bands.first()?;
                    let at = (y - area.y) as usize * band.stride + (core.x - area.x) as usize * band.step;
                    to.copy_from_slice(band.data.get(at..at + to.len())?);
                }
                // 255, and in 16 bit 65535.
                None => to.fill(u8::MAX),
            }
        }
        Some(())
    }

    /// Decides the labels of blended scores.
    fn draw(&mut self, piece: &Piece<'_>, labels: &mut Labels) -> Option<()> {
        let rect = piece.rect;
        let (mut fits, wide) = (true, self.pixel == 2);
        labels.rows(piece.scores, (rect.width as usize, rect.height as usize), |y, values| {
            match self.row(rect.x, rect.y + y as i64, rect.width) {
                Some(to) if wide => {
                    let (words, _) = to.as_chunks_mut::<2>();
                    words.iter_mut().zip(values).for_each(|(to, value)| *to = value.to_le_bytes());
                }
                Some(to) => to.iter_mut().zip(values).for_each(|(to, value)| *to = *value as u8),
                None => fits = false,
            }
        });
        fits.then_some(())
    }
}

/// Writes blended scores where they belong; NaN where there is no data.
fn write_scores(piece: &Piece<'_>, bands: usize, format: &RasterFormat, data: &mut [u8]) -> Option<()> {
    let (rect, width) = (piece.rect, piece.rect.width as usize);
    let (floats, _) = data.as_chunks_mut::<4>();
    for band in 0..bands {
        for y in 0..rect.height as usize {
            let at = (band * format.height + rect.y as usize + y) * format.width + rect.x as usize;
            let to = floats.get_mut(at..at + width)?;
            match &piece.scores {
                Some(planes) => {
                    to.iter_mut().zip(planes.row(band, y, width)).for_each(|(to, v)| *to = v.to_le_bytes());
                }
                None => to.fill(f32::NAN.to_le_bytes()),
            }
        }
    }
    Some(())
}
