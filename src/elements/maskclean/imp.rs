//! The element: a frame is cleaned when it comes; a mosaic's tiles are held until what touches them is decided. Both leave
//! from the thread that brings the last of what they need.

use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use super::CAT;
use super::settings::{Masks, SPECS, Settings, Wanted};
use crate::elements::caps::{self, MappedFrame, Pixels};
use crate::elements::meta::{PlanRef, RasterInfo, RunAnswer, RunModels, RunRequest, SegmentationInfo, TileMeta};
use crate::elements::{self, labels, pads, resize};
use crate::engine::decide::NODATA_16;
use crate::engine::lock;
use crate::engine::pixels::Frame as _;
use crate::raster::clean::{Cleaned, Cleaner, Mosaic, Recipe};
use crate::raster::grid::Work;
use crate::raster::{Error, Lattice, Preference, Rect};

/// Why nothing comes out.
enum Fault {
    Flow(gst::FlowError),
    Error(Error),
}

impl From<gst::FlowError> for Fault {
    fn from(flow: gst::FlowError) -> Self {
        Fault::Flow(flow)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Error(error)
    }
}

fn fault(text: impl Into<String>) -> Fault {
    Fault::Error(Error::Tile(text.into()))
}

/// What is known of the stream.
#[derive(Default)]
struct Stream {
    /// What the settings said when the element started.
    wanted: Option<Wanted>,
    /// Of the frames that come now, and their caps.
    frames: Option<(VideoInfo, gst::Caps)>,
    info: Option<SegmentationInfo>,
    raster: Option<RasterInfo>,
    /// The region that a run is about, where a source has announced one.
    region: Option<Rect>,
    tiles: Option<Tiles>,
    seen: Seen,
    failed: bool,
}

/// Which labels have come, to tell when 255 may be a class.
#[derive(Default)]
struct Seen {
    class: bool,
    nodata: bool,
}

/// A mosaic of which some tiles have come.
struct Tiles {
    mosaic: Mosaic,
    recipe: Recipe,
    /// The caps without the size.
    kind: gst::Caps,
    /// The tiles that have come and not gone.
    waiting: VecDeque<Tile>,
}

/// A tile that waits for its labels.
struct Tile {
    meta: TileMeta,
    info: VideoInfo,
    caps: gst::Caps,
    /// Without memory: times, flags and metas.
    buffer: gst::Buffer,
}

pub struct MaskClean {
    sink: gst::Pad,
    src: gst::Pad,
    settings: Mutex<Settings>,
    stream: Mutex<Stream>,
}

#[glib::object_subclass]
impl ObjectSubclass for MaskClean {
    const NAME: &'static str = "GstOnnxSegmentMaskClean";
    type Type = super::MaskClean;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = class.pad_template("sink").expect("declared below");
        let sink = pads::sink(&template, Self::chain, Self::sink_event, Self::sink_query);
        sink.set_pad_flags(gst::PadFlags::PROXY_CAPS);
        let template = class.pad_template("src").expect("declared below");
        let src = gst::Pad::builder_from_template(&template)
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_event(pad, event))
            })
            .flags(gst::PadFlags::PROXY_CAPS)
            .build();
        MaskClean { sink, src, settings: Mutex::default(), stream: Mutex::default() }
    }
}

impl ObjectImpl for MaskClean {
    fn properties() -> &'static [glib::ParamSpec] {
        &SPECS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(value, pspec);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        lock(&self.settings).get(pspec)
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.add_pad(&self.sink).expect("a new element has no pads");
        obj.add_pad(&self.src).expect("a new element has no pads");
    }
}

impl GstObjectImpl for MaskClean {}

impl ElementImpl for MaskClean {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Mask cleaner",
                "Filter/Video",
                "Median, opening, closing, hole filling and minimum area of a mask's classes, exact over tiles",
                "The onnxsegment authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let masks = caps::video(caps::MASK.iter().copied());
            [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                .map(|(name, direction)| {
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &masks)
                        .expect("valid names and caps")
                })
                .into()
        });
        &TEMPLATES
    }

    fn change_state(&self, change: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if change == gst::StateChange::ReadyToPaused {
            let wanted = lock(&self.settings).wanted().map_err(|e| {
                elements::post(&*self.obj(), &e);
                gst::StateChangeError
            })?;
            *lock(&self.stream) = Stream { wanted: Some(wanted), ..Stream::default() };
        }
        let success = self.parent_change_state(change);
        if change == gst::StateChange::PausedToReady {
            *lock(&self.stream) = Stream::default();
        }
        success
    }
}

impl MaskClean {
    /// Posts the one element error that a user sees.
    fn post(&self, error: &Error) {
        if !std::mem::replace(&mut lock(&self.stream).failed, true) {
            elements::post(&*self.obj(), error);
        }
    }

    // ---- the sink pad

    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let taken = {
            let mut stream = lock(&self.stream);
            if stream.failed { Err(gst::FlowError::Error.into()) } else { stream.take(buffer) }
        };
        // No lock is held while it pushes.
        match taken {
            Ok(masks) => masks.into_iter().try_fold(gst::FlowSuccess::Ok, |_, (buffer, caps)| {
                // A peer that refuses says so when the buffer comes.
                if self.src.current_caps().as_ref() != Some(&caps) {
                    self.src.push_event(gst::event::Caps::new(&caps));
                }
                self.src.push(buffer)
            }),
            Err(Fault::Flow(flow)) => Err(flow),
            Err(Fault::Error(error)) => {
                self.post(&error);
                Err(gst::FlowError::Error)
            }
        }
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        let forward = |event| gst::Pad::event_default(pad, Some(&*self.obj()), event);
        match event.view() {
            gst::EventView::FlushStop(_) => {
                lock(&self.stream).tiles = None;
                forward(event)
            }
            gst::EventView::Caps(caps) => self.set_caps(caps.caps_owned()),
            gst::EventView::StreamStart(_) | gst::EventView::SegmentDone(_) => {
                self.expect_no_tiles();
                forward(event)
            }
            gst::EventView::Eos(_) => {
                self.expect_no_tiles();
                self.warn_of_nodata();
                forward(event)
            }
            gst::EventView::CustomDownstreamSticky(_) => {
                let mut own = None;
                if let Some(info) = SegmentationInfo::of(&event) {
                    lock(&self.stream).info = Some(info);
                } else if let Some(raster) = RasterInfo::of(&event) {
                    let mut stream = lock(&self.stream);
                    if stream.info.is_none() {
                        own = raster.legend.clone().map(SegmentationInfo::of_legend);
                        stream.info = own.clone();
                    }
                    stream.raster = Some(raster);
                }
                let forwarded = forward(event);
                // What a raster of labels says of them is told as models would.
                own.is_none_or(|own| self.src.push_event(own.event())) && forwarded
            }
            _ => forward(event),
        }
    }

    fn set_caps(&self, caps: gst::Caps) -> bool {
        // Other formats than the template's do not come so far.
        let Ok(info) = VideoInfo::from_caps(&caps) else { return false };
        if self.src.is_linked() && !self.src.peer_query_accept_caps(&caps) {
            if self.src.pad_flags().contains(gst::PadFlags::FLUSHING) {
                return false;
            }
            self.post(&Error::Tile(format!(
                "what follows maskclean does not take the mask that it gives, {caps}, but {}; of rastersink's rasters, only \
                 `location` can be written from labels",
                self.src.peer_query_caps(None)
            )));
            return false;
        }
        gst::debug!(CAT, imp = self, "masks are {caps}");
        let mut stream = lock(&self.stream);
        stream.frames = Some((info, caps.clone()));
        drop(stream);
        // Later ones go out with the buffers that they are of.
        self.src.has_current_caps() || self.src.push_event(gst::event::Caps::new(&caps))
    }

    /// Complains where a mosaic ends before its last tile.
    fn expect_no_tiles(&self) {
        let tiles = lock(&self.stream).tiles.take();
        if let Some(Tiles { mosaic, .. }) = tiles {
            self.post(&Error::Tile(format!(
                "the stream ended after {} of a mosaic's {} tiles, and what was not decided is lost; let every tile \
                 through to maskclean",
                mosaic.come(),
                mosaic.count()
            )));
        }
    }

    /// Says that a mask of 0 and 255 is taken for one without classes.
    fn warn_of_nodata(&self) {
        let stream = lock(&self.stream);
        let stated = stream.raster.as_ref().and_then(|raster| raster.nodata).is_some();
        let guessed = stream.wanted.as_ref().is_some_and(Wanted::guesses_nodata) && stream.info.is_none() && !stated;
        let suspect = guessed && stream.seen.nodata && !stream.seen.class;
        drop(stream);
        if suspect {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Format,
                ("the mask has no label but the background and the highest value, which stands for pixels without data: \
                  nothing was cleaned. Where that value is a class, set nodata=none")
            );
        }
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        if PlanRef::of(query).is_some() {
            return self.plan_query(query);
        }
        match query.view_mut() {
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

    /// Wants labels in tiles that do not overlap; adds to a run what decides its pixels; and has every tile of a run sent,
    /// finished parts or not, because a pixel may depend on any.
    fn plan_query(&self, query: &mut gst::QueryRef) -> bool {
        let Some(mut plan) = PlanRef::of(query) else { return false };
        let Some(request) = plan.request() else {
            plan.set_preference(&Preference { overlap: Some(0.0), labels: true, ..Preference::default() });
            return true;
        };
        let Some(wanted) = lock(&self.stream).wanted.clone() else { return false };
        if request.shard.count > 1 {
            let shard = format!("{}/{}", request.shard.index, request.shard.count);
            let problem = "maskclean needs every tile of a mosaic; clean it in one process, without shards";
            self.post(&Error::setting("shard", shard, problem));
            let lattice = Lattice::default();
            plan.set_answer(&RunAnswer { lattice, cores: false, done: Vec::new(), refused: true });
            return true;
        }
        lock(&self.stream).region = Some(request.region);
        plan.set_models(&models(plan.models(), &request, &wanted));
        if !self.src.peer_query(query) {
            return false;
        }
        if let Some(mut plan) = PlanRef::of(query)
            && let Some(mut answer) = plan.answer()
        {
            let all = Work { region: request.region, shard: request.shard, lattice: answer.lattice }.cells().len();
            if answer.done.len() < all {
                answer.done.clear();
                plan.set_answer(&answer);
            }
        }
        true
    }

    // ---- the source pad

    /// A mosaic is cleaned from its first tile on, or not at all.
    fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        if let gst::EventView::Seek(seek) = event.view()
            && lock(&self.stream).region.is_some()
        {
            let (.., start_type, start, _, _) = seek.get();
            if start_type != gst::SeekType::None && start.value() > 0 {
                gst::info!(CAT, imp = self, "a mosaic is cleaned from its first tile on");
                return false;
            }
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }
}

/// Adds to what decides a run's pixels.
fn models(models: Option<RunModels>, request: &RunRequest, wanted: &Wanted) -> RunModels {
    let mut models = models.unwrap_or_else(|| {
        let labels = request.labels.clone().unwrap_or_default();
        let info = labels.legend.map(SegmentationInfo::of_legend).unwrap_or_default();
        RunModels { info, settings: serde_json::Value::Null, wide: labels.wide }
    });
    if !models.settings.is_object() {
        models.settings = serde_json::json!({});
    }
    // One after the other, there may be several.
    let all = &mut models.settings["maskclean"];
    match all.as_array_mut() {
        Some(all) => all.push(wanted.manifest()),
        None => *all = serde_json::json!([wanted.manifest()]),
    }
    models
}

impl Stream {
    /// Takes a frame or a tile; gives what is cleaned by then, with its caps.
    fn take(&mut self, buffer: gst::Buffer) -> Result<Vec<(gst::Buffer, gst::Caps)>, Fault> {
        let (info, caps) = self.frames.clone().ok_or(gst::FlowError::NotNegotiated)?;
        match TileMeta::of(&buffer, info.width(), info.height())? {
            Some(meta) => self.take_tile(buffer, meta, info, caps),
            None => self.take_frame(buffer, info, caps),
        }
    }

    fn recipe(&self, info: &VideoInfo, tiles: bool) -> Result<Recipe, Fault> {
        let wanted = self.wanted.as_ref().ok_or(gst::FlowError::Flushing)?;
        let ground = self.raster.as_ref().and_then(|raster| raster.ground);
        Ok(wanted.recipe(&Masks { wide: is_wide(info), tiles, info: self.info.as_ref(), ground })?)
    }

    fn take_frame(
        &mut self,
        buffer: gst::Buffer,
        info: VideoInfo,
        caps: gst::Caps,
    ) -> Result<Vec<(gst::Buffer, gst::Caps)>, Fault> {
        if let Some(Tiles { mosaic, .. }) = &self.tiles {
            return Err(fault(format!(
                "a buffer without GstRasterTileMeta has come after {} of a mosaic's {} tiles; take out what drops metas \
                 before maskclean",
                mosaic.come(),
                mosaic.count()
            )));
        }
        let (width, height) = (i64::from(info.width()), i64::from(info.height()));
        if let Some(raster) = self.raster.as_ref().filter(|raster| (raster.width, raster.height) != (width, height)) {
            return Err(fault(format!(
                "a buffer of {width}x{height} pixels without GstRasterTileMeta has come, of a raster of {}x{}: maskclean \
                 cannot know where it belongs; take out what drops metas before it",
                raster.width, raster.height
            )));
        }
        let recipe = self.recipe(&info, false)?;
        let mut cleaner = Cleaner::new(&recipe, info.width() as usize);
        let mut shell = shell(&buffer);
        let labels = self.labels(&buffer, &info, Rect::new(0, 0, width, height), &recipe)?;
        let mut cleaned = Vec::with_capacity(labels.len());
        for row in labels.chunks_exact(info.width() as usize) {
            cleaner.push(row.to_vec(), |row| cleaned.extend(row))?;
        }
        cleaner.finish(|row| cleaned.extend(row));
        fill(&mut shell, &info, Rect::new(0, 0, width, height), &cleaned);
        Ok(vec![(shell, caps)])
    }

    fn take_tile(
        &mut self,
        buffer: gst::Buffer,
        meta: TileMeta,
        info: VideoInfo,
        caps: gst::Caps,
    ) -> Result<Vec<(gst::Buffer, gst::Caps)>, Fault> {
        let kind = resize::any_size(&caps);
        let mut tiles = match self.tiles.take() {
            Some(tiles) => tiles,
            None => {
                let recipe = self.recipe(&info, true)?;
                let region = self.region.unwrap_or(meta.grid.bounds());
                let mosaic = Mosaic::new(&recipe, meta.grid, region)?;
                Tiles { mosaic, recipe, kind: kind.clone(), waiting: VecDeque::new() }
            }
        };
        check(&tiles, &meta, &kind)?;
        let part = tiles.mosaic.part(meta.index);
        let area = meta.tile().area;
        let labels = match buffer.flags().contains(gst::BufferFlags::GAP) {
            true => vec![NODATA_16; part.area()],
            false => {
                let part = part.relative_to(area.x, area.y);
                let mut labels = self.labels(&buffer, &info, part, &tiles.recipe)?;
                if let Some(valid) = &meta.valid {
                    hide(&mut labels, part, valid, area.width as usize);
                }
                labels
            }
        };
        tiles.waiting.push_back(Tile { meta, info, caps, buffer: shell(&buffer) });
        let mut masks = Vec::new();
        let Tiles { mosaic, waiting, .. } = &mut tiles;
        mosaic.add(&labels, |cleaned| masks.extend(waiting.pop_front().map(|tile| finished(tile, &cleaned))))?;
        if mosaic.due().is_some() {
            self.tiles = Some(tiles);
        }
        masks.into_iter().collect()
    }

    /// The labels of a part of a frame.
    fn labels(
        &mut self,
        buffer: &gst::Buffer,
        info: &VideoInfo,
        part: Rect,
        recipe: &Recipe,
    ) -> Result<Vec<u16>, Fault> {
        let frame = MappedFrame::new(buffer.clone(), &Pixels::Video(info.clone()));
        let unreadable = || fault("a mask is smaller than its caps say; take out what changes its memory");
        let frame = frame.ok_or_else(unreadable)?;
        let nodata = self.wanted.as_ref().is_some_and(|wanted| wanted.has_nodata(is_wide(info), self.info.as_ref()));
        let labels = labels::of_part(&frame.view(), &part, nodata).ok_or_else(unreadable)?;
        if !self.seen.class {
            self.seen.class = labels.iter().any(|label| *label != recipe.background && *label != NODATA_16);
            self.seen.nodata |= labels.contains(&NODATA_16);
        }
        Ok(labels)
    }
}

fn is_wide(info: &VideoInfo) -> bool {
    info.format() == VideoFormat::Gray16Le
}

/// Whether a tile is the one that is due.
fn check(tiles: &Tiles, meta: &TileMeta, kind: &gst::Caps) -> Result<(), Fault> {
    let (mosaic, count) = (&tiles.mosaic, meta.grid.count());
    if tiles.kind != *kind {
        return Err(fault(format!(
            "the format changed from {} to {kind} after {} of a mosaic's {} tiles; change it between mosaics",
            tiles.kind,
            mosaic.come(),
            mosaic.count()
        )));
    }
    if *mosaic.grid() != meta.grid {
        return Err(fault(format!(
            "a tile of another grid has come, {:?} where the mosaic has {:?}; one maskclean takes one mosaic after the other",
            meta.grid,
            mosaic.grid()
        )));
    }
    match mosaic.due() {
        Some(due) if due == meta.index => Ok(()),
        due => Err(fault(format!(
            "tile {} of {count} has come where tile {} was due; let every tile through to maskclean, in order and from the \
             first on (a leaky queue drops some, and a seek leaves some out)",
            meta.index + 1,
            due.map_or(0, |due| due + 1)
        ))),
    }
}

/// Takes the labels from pixels that have no data.
fn hide(labels: &mut [u16], part: Rect, valid: &[u8], stride: usize) {
    let width = part.width as usize;
    for (labels, y) in labels.chunks_exact_mut(width).zip(part.y as usize..) {
        let at = y * stride + part.x as usize;
        for (label, valid) in labels.iter_mut().zip(&valid[at..at + width]) {
            if *valid == 0 {
                *label = NODATA_16;
            }
        }
    }
}

/// A buffer with another's times, flags and metas, that has no memory yet.
fn shell(buffer: &gst::BufferRef) -> gst::Buffer {
    let mut shell = gst::Buffer::new();
    let to = shell.make_mut();
    let _ = buffer.copy_into(to, gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS, ..);
    resize::copy_metas(buffer, to);
    shell
}

/// A tile with its labels.
fn finished(tile: Tile, cleaned: &Cleaned) -> Result<(gst::Buffer, gst::Caps), Fault> {
    let Tile { meta, info, caps, mut buffer } = tile;
    let area = meta.tile().area;
    fill(&mut buffer, &info, cleaned.rect.relative_to(area.x, area.y), &cleaned.labels);
    meta.attach(buffer.make_mut()).map_err(|_| fault("a tile takes no meta"))?;
    Ok((buffer, caps))
}

/// Gives a buffer the memory of a frame: labels in `part`, and no data elsewhere.
fn fill(buffer: &mut gst::Buffer, info: &VideoInfo, part: Rect, labels: &[u16]) {
    // 255, and in 16 bits 65535.
    let mut data = vec![u8::MAX; info.size()];
    let (stride, pixel) = (info.stride()[0] as usize, info.format_info().pixel_stride()[0] as usize);
    let width = part.width as usize;
    for (row, y) in labels.chunks_exact(width).zip(part.y as usize..) {
        let at = y * stride + part.x as usize * pixel;
        let to = &mut data[at..at + width * pixel];
        match is_wide(info) {
            true => to.as_chunks_mut::<2>().0.iter_mut().zip(row).for_each(|(to, v)| *to = v.to_le_bytes()),
            false => to.iter_mut().zip(row).for_each(|(to, v)| *to = *v as u8),
        }
    }
    buffer.make_mut().append_memory(gst::Memory::from_mut_slice(data));
}
