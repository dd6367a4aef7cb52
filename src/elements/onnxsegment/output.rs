//! One source pad: a bounded queue, filled by the sink pad's thread, and a task that empties it.
//!
//! Each pad has a thread of its own, because a sink that waits in preroll must not keep the others from theirs.
//! The task negotiates, draws its view of each frame's merged scores, and pushes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use super::CAT;
#[cfg(feature = "v1_26")]
use super::analytics;
use super::imp::{Frame, Stream};
use crate::elements::caps::{self, Pixels, RasterFormat};
use crate::elements::pads;
use crate::engine::decide::{NODATA, NODATA_16, Work};
use crate::engine::lock;
use crate::engine::merge::Merged;
use crate::engine::pixels::Sample;
use crate::engine::views::{self, Canvas, ColourCanvas, Depth, Palette};
use crate::engine::{Error, Result};

/// What a pad shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Mask,
    Probability,
    Uncertainty,
    Overlay,
    /// The frame as it came, with what was inferred attached.
    #[cfg(feature = "v1_26")]
    Image,
}

impl View {
    pub const REQUESTED: &[View] = &[
        View::Probability,
        View::Uncertainty,
        View::Overlay,
        #[cfg(feature = "v1_26")]
        View::Image,
    ];

    /// Name of the pad and of its template.
    pub fn name(self) -> &'static str {
        match self {
            View::Mask => "src",
            View::Probability => "probability",
            View::Uncertainty => "uncertainty",
            View::Overlay => "overlay",
            #[cfg(feature = "v1_26")]
            View::Image => "image",
        }
    }

    /// Whether frames pass as they came.
    pub fn passes_frames(self) -> bool {
        #[cfg(feature = "v1_26")]
        return self == View::Image;
        #[cfg(not(feature = "v1_26"))]
        false
    }

    fn formats(self) -> &'static [VideoFormat] {
        match self {
            View::Overlay => caps::OVERLAY,
            _ => caps::MASK,
        }
    }

    /// Everything that the pad can give. The mask's pad gives labels, or the scores that they are decided from.
    pub fn template_caps(self) -> gst::Caps {
        if self.passes_frames() {
            return caps::pixels();
        }
        let mut template = caps::video(self.formats().iter().copied());
        if self == View::Mask {
            template.merge(caps::scores());
        }
        template
    }
}

/// Something on its way to a pad.
#[derive(Clone)]
pub enum Item {
    /// A frame format that holds from here on.
    Stream(Arc<Stream>),
    Frame(Arc<Frame>),
    Event(gst::Event),
}

/// Events that may wait in a queue besides the frames, before the sink pad's thread waits too.
const EVENTS: usize = 64;

/// How long until a peer that is not active is looked at again.
const ASLEEP: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Nothing is taken in and nothing handed out.
    flushing: bool,
    /// The task is at work on an item it has taken.
    busy: bool,
    /// Counts flushes: what came of an item that was taken before the last one does not matter any more.
    generation: u64,
}

/// What a view is drawn with, read anew for each frame.
pub struct Look {
    pub class_index: usize,
    pub palette: Palette,
    pub alpha: f32,
}

pub struct Output {
    pub view: View,
    pub pad: gst::Pad,
    queue: Mutex<Queue>,
    changed: Condvar,
    drawing: Mutex<Drawing>,
    /// The peer shows the uncertainty, or takes it with the scores.
    uncertainty: AtomicBool,
    /// Whether the pad's task may be started; held while that is done.
    active: Mutex<bool>,
}

/// What the pad's task has negotiated, and its working memory.
#[derive(Default)]
struct Drawing {
    stream: Option<Arc<Stream>>,
    pixels: Option<Pixels>,
    pool: Option<gst::BufferPool>,
    /// What every tile without data shows.
    nothing: Option<gst::Memory>,
    work: Work,
    /// The peer reads from metas how rows lie in frames.
    #[cfg(feature = "v1_26")]
    reads_layout: bool,
}

impl Output {
    pub fn new(view: View, pad: gst::Pad) -> Self {
        Output {
            view,
            pad,
            queue: Mutex::default(),
            changed: Condvar::new(),
            drawing: Mutex::default(),
            uncertainty: AtomicBool::new(view == View::Uncertainty),
            active: Mutex::default(),
        }
    }

    /// Whether [`Output::push`] would have to wait.
    pub fn is_full(&self, most_frames: usize) -> bool {
        lock(&self.queue).items.len() >= most_frames + EVENTS
    }

    /// Takes an item in, waiting while too many are there.
    ///
    /// # Errors
    /// The pad is flushing.
    pub fn push(&self, item: Item, most_frames: usize) -> Result<(), gst::FlowError> {
        let mut queue = lock(&self.queue);
        while !queue.flushing && queue.items.len() >= most_frames + EVENTS {
            queue = self.changed.wait(queue).unwrap_or_else(|e| e.into_inner());
        }
        if queue.flushing {
            return Err(gst::FlowError::Flushing);
        }
        queue.items.push_back(item);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes in the few items that a pad begins with, never waiting.
    pub fn begin_with(&self, items: impl Iterator<Item = Item>) {
        lock(&self.queue).items.extend(items);
        self.changed.notify_all();
    }

    /// Waits for the next item, and says in which generation it was taken; `None` when flushing.
    pub fn pop(&self) -> Option<(Item, u64)> {
        let mut queue = lock(&self.queue);
        queue.busy = false;
        self.changed.notify_all();
        loop {
            if queue.flushing {
                return None;
            }
            if let Some(item) = queue.items.pop_front() {
                queue.busy = true;
                self.changed.notify_all();
                return Some((item, queue.generation));
            }
            queue = self.changed.wait(queue).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Waits until every item has been pushed downstream. `false` when flushing.
    pub fn drain(&self) -> bool {
        let mut queue = lock(&self.queue);
        while !queue.flushing && (queue.busy || !queue.items.is_empty()) {
            queue = self.changed.wait(queue).unwrap_or_else(|e| e.into_inner());
        }
        !queue.flushing
    }

    /// Before the end of the stream is pushed, after which a pad takes nothing more: waits for a peer that is not active yet,
    /// and tells it what it has not heard. `false` = nobody is linked, and the end is left for a link to come.
    pub fn prepare_end(&self) -> bool {
        self.await_active_peer();
        if !self.pad.is_linked() {
            return false;
        }
        // GStreamer sends sticky events by the number of their type, and would send the end before custom ones.
        let events = pads::sticky_events(&self.pad).into_iter();
        for event in events.filter(|e| e.type_() == gst::EventType::CustomDownstreamSticky) {
            self.pad.push_event(event);
        }
        true
    }

    /// Waits while what the pad is linked to is not active yet, and nothing new is queued. Nobody tells when that is over.
    fn await_active_peer(&self) {
        let asleep = || self.pad.peer().is_some_and(|p| p.pad_flags().contains(gst::PadFlags::FLUSHING));
        let mut queue = lock(&self.queue);
        queue.busy = false; // whoever drains does not wait for this
        self.changed.notify_all();
        let is_end = |item: &Item| matches!(item, Item::Event(e) if e.type_() == gst::EventType::Eos);
        while !queue.flushing && queue.items.iter().all(is_end) && asleep() {
            queue = self.changed.wait_timeout(queue, ASLEEP).unwrap_or_else(|e| e.into_inner()).0;
        }
        queue.busy = true;
    }

    /// Drops what is queued, and lets nobody wait.
    pub fn begin_flush(&self) {
        let mut queue = lock(&self.queue);
        queue.flushing = true;
        queue.generation += 1;
        // Freed without the lock: frames count themselves out when they go.
        let items = std::mem::take(&mut queue.items);
        drop(queue);
        self.changed.notify_all();
        drop(items);
    }

    pub fn end_flush(&self) {
        lock(&self.queue).flushing = false;
    }

    pub fn generation(&self) -> u64 {
        lock(&self.queue).generation
    }

    /// Lets the pad's task run, and starts it.
    pub fn activate<E>(&self, start: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut active = lock(&self.active);
        *active = true;
        self.end_flush();
        start()
    }

    /// From here on, only [`Output::activate`] starts the task.
    pub fn deactivate(&self) {
        *lock(&self.active) = false;
        self.begin_flush();
    }

    /// Starts the task again after a flush, unless the pad was deactivated meanwhile. The pad begins with `items`.
    pub fn resume<E>(&self, items: impl Iterator<Item = Item>, start: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let active = lock(&self.active);
        if !*active {
            return Ok(());
        }
        self.begin_with(items);
        self.end_flush();
        start()
    }

    /// Whether the pad or its queue turns everything away.
    fn is_flushing(&self) -> bool {
        lock(&self.queue).flushing || self.pad.pad_flags().contains(gst::PadFlags::FLUSHING)
    }

    /// Forgets what was negotiated.
    pub fn reset(&self) {
        let mut drawing = lock(&self.drawing);
        if let Some(pool) = drawing.pool.take() {
            let _ = pool.set_active(false);
        }
        *drawing = Drawing::default();
    }

    /// The caps that this pad can give for a stream.
    pub fn allowed_caps(&self, stream: &Stream) -> gst::Caps {
        let formats: Vec<VideoFormat> = match self.view {
            // Values beyond 8 bits leave only the wide format.
            View::Mask if !stream.fits_8_bit() => vec![VideoFormat::Gray16Le],
            view => view.formats().to_vec(),
        };
        let pixels = &stream.pixels;
        if self.view.passes_frames()
            && let Some(caps) = pixels.to_caps()
        {
            return caps;
        }
        let mut allowed = gst_video::VideoCapsBuilder::new()
            .format_list(formats)
            .width(pixels.width() as i32)
            .height(pixels.height() as i32)
            .framerate(pixels.framerate())
            .pixel_aspect_ratio(pixels.pixel_aspect_ratio())
            .build();
        if let (View::Mask, Some(bands)) = (self.view, stream.score_bands()) {
            for uncertainty in [false, true] {
                let scores = RasterFormat {
                    sample: Sample::F32Le,
                    planar: true,
                    bands: bands + usize::from(uncertainty),
                    width: pixels.width() as usize,
                    height: pixels.height() as usize,
                    framerate: pixels.framerate(),
                    uncertainty,
                };
                allowed.merge(scores.to_caps());
            }
        }
        allowed
    }

    /// What the peer prefers of what this pad can give for a stream; empty where there is nothing in common.
    fn preferred_caps(&self, stream: &Stream) -> gst::Caps {
        let allowed = self.allowed_caps(stream);
        // A filter would put its own order over the peer's.
        let peer = self.pad.peer_query_caps(None);
        let mut caps = peer.intersect_with_mode(&allowed, gst::CapsIntersectMode::First);
        if !caps.is_empty() {
            caps.truncate();
            caps.fixate();
        }
        caps
    }

    /// Asks the peer whether it would have the uncertainty with the scores of a stream, before its frames are inferred.
    pub fn preview(&self, stream: &Stream) {
        if self.view == View::Mask && self.pad.is_linked() {
            let format = RasterFormat::from_caps(&self.preferred_caps(stream));
            self.uncertainty.store(format.is_some_and(|f| f.uncertainty), Ordering::Relaxed);
        }
    }

    /// Whether what follows needs more than the classes of pixels.
    pub fn shows_more_than_labels(&self) -> bool {
        self.pad.is_linked() && (self.view != View::Mask || self.wants_uncertainty())
    }

    pub fn wants_uncertainty(&self) -> bool {
        self.pad.is_linked() && self.uncertainty.load(Ordering::Relaxed)
    }

    /// Agrees with the peer on a format for a stream, unless that has been done and still holds.
    ///
    /// # Errors
    /// There is no common format, or the pad is flushing.
    pub fn agree(&self, stream: &Arc<Stream>) -> Result<(), Fault> {
        let changed = self.pad.check_reconfigure();
        {
            let drawing = lock(&self.drawing);
            let same = drawing.stream.as_ref().is_some_and(|s| Arc::ptr_eq(s, stream));
            if same && drawing.pixels.is_some() && !changed {
                return Ok(());
            }
        }
        self.negotiate(stream).inspect_err(|_| self.pad.mark_reconfigure())
    }

    /// Chooses a format, tells the peer the caps, and gets a pool for buffers.
    fn negotiate(&self, stream: &Arc<Stream>) -> Result<(), Fault> {
        let old = std::mem::take(&mut *lock(&self.drawing));
        if let Some(pool) = old.pool {
            let _ = pool.set_active(false);
        }
        let caps = self.preferred_caps(stream);
        if caps.is_empty() {
            if self.is_flushing() {
                return Err(gst::FlowError::Flushing.into());
            }
            let (allowed, wanted) = (self.allowed_caps(stream), self.pad.peer_query_caps(None));
            return Err(Error::Frame(format!(
                "pad {} and what follows it have no format in common: it gives {allowed}, and what follows takes \
                 {wanted}; put `videoconvert` behind it where the formats differ, `videoscale` where the sizes do",
                self.pad.name()
            ))
            .into());
        }
        let pixels = Pixels::from_caps(&caps).ok_or(gst::FlowError::NotNegotiated)?;
        gst::debug!(CAT, obj = self.pad, "negotiated {caps}");
        // Caps that the pad has already also reach a peer that was linked later.
        let known = self.pad.current_caps().is_some_and(|c| c == caps);
        // Refused only while flushing; a peer that refuses the caps says so when the buffer comes.
        if !known && !self.pad.push_event(gst::event::Caps::new(&caps)) && self.is_flushing() {
            return Err(gst::FlowError::Flushing.into());
        }
        // A view that nobody sees needs no buffers.
        if !self.pad.is_linked() {
            return Ok(());
        }
        let pool = match self.view.passes_frames() {
            true => None,
            false => Some(pads::pool(&self.pad, &caps, &pixels, 2).ok_or(gst::FlowError::Error)?),
        };
        *lock(&self.drawing) = Drawing {
            stream: Some(stream.clone()),
            pixels: Some(pixels),
            pool,
            nothing: None,
            work: old.work,
            #[cfg(feature = "v1_26")]
            reads_layout: self.view.passes_frames() && analytics::reads_layout(&self.pad, &caps),
        };
        Ok(())
    }

    /// Pushes a frame as it came, with what was inferred of it, if it was.
    #[cfg(feature = "v1_26")]
    fn pass_on(&self, frame: &Frame, merged: Option<&Merged>) -> Result<gst::FlowSuccess, Fault> {
        self.agree(&frame.stream)?;
        let mut drawing = lock(&self.drawing);
        let mut buffer = analytics::passed(frame, drawing.reads_layout)?;
        if let Some(merged) = merged {
            analytics::attach(frame, merged, buffer.make_mut(), &mut drawing.work)?;
        }
        drop(drawing);
        self.push_out(frame, buffer)
    }

    /// Draws this pad's view of a frame and pushes it.
    pub fn show(&self, frame: &Frame, merged: &Merged, look: &Look) -> Result<gst::FlowSuccess, Fault> {
        #[cfg(feature = "v1_26")]
        if self.view == View::Image {
            return self.pass_on(frame, Some(merged));
        }
        self.agree(&frame.stream)?;
        let mut drawing = lock(&self.drawing);
        let Drawing { pixels: Some(pixels), pool: Some(pool), work, .. } = &mut *drawing else {
            return Err(gst::FlowError::NotNegotiated.into());
        };
        let mut buffer = pool.acquire_buffer(None)?;
        {
            let buffer = buffer.make_mut();
            describe(frame, buffer);
            let unmapped = || Error::Frame("an output buffer cannot be mapped for writing".into());
            match pixels {
                Pixels::Video(info) => {
                    let mut picture =
                        gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, info).map_err(|_| unmapped())?;
                    draw(self.view, frame, merged, look, info, &mut picture, work)?;
                }
                Pixels::Raster(format) => {
                    let mut data = buffer.map_writable().map_err(|_| unmapped())?;
                    write_scores(frame, merged, format, &mut data)?;
                }
            }
        }
        drop(drawing);
        self.push_out(frame, buffer)
    }

    /// Pushes what stands for a tile without data: nodata everywhere, in memory that all such tiles share.
    pub fn show_nothing(&self, frame: &Frame) -> Result<gst::FlowSuccess, Fault> {
        #[cfg(feature = "v1_26")]
        if self.view == View::Image {
            return self.pass_on(frame, None);
        }
        self.agree(&frame.stream)?;
        let mut drawing = lock(&self.drawing);
        let Drawing { pixels: Some(pixels), nothing, .. } = &mut *drawing else {
            return Err(gst::FlowError::NotNegotiated.into());
        };
        let memory = nothing.get_or_insert_with(|| {
            let bytes = match &*pixels {
                Pixels::Raster(format) => f32::NAN.to_le_bytes().repeat(pixels.size() / format.sample.size()),
                // Black, and transparent where that can be said.
                Pixels::Video(_) if self.view == View::Overlay => vec![0; pixels.size()],
                Pixels::Video(_) => vec![NODATA; pixels.size()],
            };
            gst::Memory::from_slice(bytes)
        });
        let mut buffer = gst::Buffer::new();
        {
            let buffer = buffer.make_mut();
            buffer.append_memory(memory.clone());
            describe(frame, buffer);
            buffer.set_flags(gst::BufferFlags::GAP);
        }
        drop(drawing);
        self.push_out(frame, buffer)
    }

    fn push_out(&self, frame: &Frame, mut buffer: gst::Buffer) -> Result<gst::FlowSuccess, Fault> {
        if frame.discont {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        gst::log!(CAT, obj = self.pad, "pushing {buffer:?}");
        Ok(self.pad.push(buffer)?)
    }
}

/// Why a frame was not pushed.
pub type Fault = pads::Fault<Error>;

/// Gives an output the time, flags and metas of its frame.
pub(super) fn describe(frame: &Frame, to: &mut gst::BufferRef) {
    // Fails only for another size, which neither is.
    let _ = frame.buffer.copy_into(to, gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS, ..);
    copy_metas(&frame.buffer, to);
}

/// Metas describe the frame and stay true of its mask, except those that describe the frame's memory.
fn copy_metas(from: &gst::BufferRef, to: &mut gst::BufferRef) {
    let whole = gst::meta::MetaTransformCopy::new(..);
    from.foreach_meta(|meta| {
        let about_memory = meta.has_tag::<gst::meta::tags::Memory>()
            || meta.has_tag::<gst::meta::tags::MemoryReference>()
            || meta.api() == gst_video::VideoMeta::meta_api();
        if !about_memory {
            // A meta that cannot be copied is one that its owner forbids to.
            let _ = meta.transform(to, &whole);
        }
        std::ops::ControlFlow::Continue(())
    });
}

fn draw(
    view: View,
    frame: &Frame,
    merged: &Merged,
    look: &Look,
    info: &VideoInfo,
    picture: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
    work: &mut Work,
) -> Result<()> {
    let stride = picture.plane_stride()[0] as usize;
    let data = picture.plane_data_mut(0).map_err(|e| Error::Frame(format!("an output buffer has no plane: {e}")))?;
    let decision = frame.ensemble().decision();
    if view == View::Overlay {
        let step = info.format_info().pixel_stride()[0] as usize;
        let mut canvas = ColourCanvas { data, stride, step };
        let style = views::Style { palette: &look.palette, alpha: look.alpha, range: frame.stream.display_range };
        if let Some(job) = &frame.job {
            views::overlay(merged, decision, &job.frame().view(), &style, &mut canvas, work);
        }
        // Black, and transparent where that can be said.
        mark(frame, data, stride, &[0; 4][..step]);
        return Ok(());
    }
    let depth = match info.format() {
        VideoFormat::Gray16Le => Depth::U16Le,
        _ => Depth::U8,
    };
    let mut canvas = Canvas { data, stride, depth };
    match view {
        View::Mask => {
            // Label models without class names may show classes that 8 bits cannot hold.
            if depth == Depth::U8 && !decision.fits_8_bit(merged.classes()) {
                return Err(Error::setting(
                    "label-offset",
                    decision.offset,
                    format!(
                        "class {} becomes a value beyond 254; put `video/x-raw,format=GRAY16_LE` after onnxsegment",
                        merged.classes() - 1
                    ),
                ));
            }
            views::mask(merged, decision, &mut canvas, work);
        }
        View::Probability => views::probability(merged, look.class_index, &mut canvas, work)?,
        _ => views::uncertainty(merged, &mut canvas, work)?,
    }
    // In 16 bit nodata is the same byte twice.
    const { assert!(NODATA_16.to_le_bytes()[0] == NODATA && NODATA_16.to_le_bytes()[1] == NODATA) }
    mark(frame, data, stride, &[NODATA; 2][..if depth == Depth::U8 { 1 } else { 2 }]);
    Ok(())
}

/// Writes `nodata` for every pixel without data.
pub(super) fn mark(frame: &Frame, data: &mut [u8], stride: usize, nodata: &[u8]) {
    let Some(valid) = &frame.valid else {
        return;
    };
    for (row, valid) in data.chunks_mut(stride).zip(valid.chunks_exact(frame.stream.pixels.width() as usize)) {
        for (pixel, valid) in row.chunks_exact_mut(nodata.len()).zip(valid) {
            if *valid == 0 {
                pixel.copy_from_slice(nodata);
            }
        }
    }
}

/// Merged scores, and the uncertainty where the format has it, as little-endian floats; NaN where there is no data.
pub(super) fn write_scores(frame: &Frame, merged: &Merged, format: &RasterFormat, data: &mut [u8]) -> Result<()> {
    let plane = format.width * format.height;
    let bands = format.bands - usize::from(format.uncertainty);
    if merged.channels != bands {
        return Err(Error::Frame(format!(
            "{} bands of scores were expected, and there are {}",
            bands, merged.channels
        )));
    }
    let (floats, _) = data.as_chunks_mut::<4>();
    let write = |to: &mut [[u8; 4]], from: &[f32]| to.iter_mut().zip(from).for_each(|(to, v)| *to = v.to_le_bytes());
    write(floats, &merged.scores);
    if format.uncertainty {
        let mut uncertainty = Vec::new();
        merged.uncertainty_rows(0, format.height, &mut uncertainty).ok_or_else(|| {
            Error::Frame(
                "what follows asked for the uncertainty while frames were under way; ask before the first".into(),
            )
        })?;
        write(&mut floats[bands * plane..], &uncertainty);
    }
    if let Some(valid) = &frame.valid {
        for band in floats.chunks_exact_mut(plane) {
            for (to, _) in band.iter_mut().zip(valid.iter()).filter(|(_, valid)| **valid == 0) {
                *to = f32::NAN.to_le_bytes();
            }
        }
    }
    Ok(())
}
