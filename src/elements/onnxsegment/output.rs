//! One source pad: a bounded queue, filled by the sink pad's thread, and a task that empties it.
//!
//! Each pad has a thread of its own, because a sink that waits in preroll must not keep the others from theirs.
//! The task negotiates, draws its view of each frame's merged scores, and pushes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use super::CAT;
use super::imp::{Frame, Stream};
use crate::elements::caps;
use crate::engine::decide::Work;
use crate::engine::lock;
use crate::engine::merge::Merged;
use crate::engine::views::{self, Canvas, ColourCanvas, Depth, Palette};
use crate::engine::{Error, Result};

/// What a pad shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Mask,
    Probability,
    Uncertainty,
    Overlay,
}

impl View {
    pub const REQUESTED: [View; 3] = [View::Probability, View::Uncertainty, View::Overlay];

    /// Name of the pad and of its template.
    pub fn name(self) -> &'static str {
        match self {
            View::Mask => "src",
            View::Probability => "probability",
            View::Uncertainty => "uncertainty",
            View::Overlay => "overlay",
        }
    }

    pub fn formats(self) -> &'static [VideoFormat] {
        match self {
            View::Overlay => caps::OVERLAY,
            _ => caps::MASK,
        }
    }
}

/// Something on its way to a pad.
pub enum Item {
    /// A frame format that holds from here on.
    Stream(Arc<Stream>),
    Frame(Arc<Frame>),
    Event(gst::Event),
}

/// Events that may wait in a queue besides the frames, before the sink pad's thread waits too.
const EVENTS: usize = 64;

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Nothing is taken in and nothing handed out.
    flushing: bool,
    /// The task is at work on an item it has taken.
    busy: bool,
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
}

/// What the pad's task has negotiated, and its working memory.
#[derive(Default)]
struct Drawing {
    stream: Option<Arc<Stream>>,
    info: Option<VideoInfo>,
    pool: Option<gst::BufferPool>,
    work: Work,
}

impl Output {
    pub fn new(view: View, pad: gst::Pad) -> Self {
        let queue = Queue { flushing: true, ..Queue::default() };
        Output { view, pad, queue: Mutex::new(queue), changed: Condvar::new(), drawing: Mutex::default() }
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

    /// Waits for the next item; `None` when flushing.
    pub fn pop(&self) -> Option<Item> {
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
                return Some(item);
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

    /// Drops what is queued, and lets nobody wait.
    pub fn begin_flush(&self) {
        let mut queue = lock(&self.queue);
        queue.flushing = true;
        // Freed without the lock: frames count themselves out when they go.
        let items = std::mem::take(&mut queue.items);
        drop(queue);
        self.changed.notify_all();
        drop(items);
    }

    pub fn end_flush(&self) {
        let mut queue = lock(&self.queue);
        queue.flushing = false;
        queue.busy = false;
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
        let info = &stream.info;
        gst_video::VideoCapsBuilder::new()
            .format_list(formats)
            .width(info.width() as i32)
            .height(info.height() as i32)
            .framerate(info.fps())
            .pixel_aspect_ratio(info.par())
            .build()
    }

    /// Agrees with the peer on a format for a stream, tells it the caps, and gets a pool for buffers.
    pub fn negotiate(&self, stream: &Arc<Stream>) -> Result<(), gst::FlowError> {
        let mut drawing = lock(&self.drawing);
        drawing.stream = Some(stream.clone());
        drawing.info = None;
        let allowed = self.allowed_caps(stream);
        let peer = self.pad.peer_query_caps(Some(&allowed));
        // The peer's order of preference decides.
        let mut caps = peer.intersect_with_mode(&allowed, gst::CapsIntersectMode::First);
        if caps.is_empty() {
            gst::error!(CAT, obj = self.pad, "no common format: peer takes {peer}, this pad gives {allowed}");
            return Err(gst::FlowError::NotNegotiated);
        }
        caps.truncate();
        caps.fixate();
        let info = VideoInfo::from_caps(&caps).map_err(|_| gst::FlowError::NotNegotiated)?;
        gst::debug!(CAT, obj = self.pad, "negotiated {caps}");
        if !self.pad.push_event(gst::event::Caps::new(&caps)) && self.pad.is_linked() {
            // A flushing peer refuses too, and must not look like a failed negotiation.
            return Err(match lock(&self.queue).flushing {
                true => gst::FlowError::Flushing,
                false => gst::FlowError::NotNegotiated,
            });
        }
        if let Some(pool) = drawing.pool.take() {
            let _ = pool.set_active(false);
        }
        drawing.pool = Some(self.pool(&caps, &info)?);
        drawing.info = Some(info);
        Ok(())
    }

    /// The peer's pool, or else one of our own.
    fn pool(&self, caps: &gst::Caps, info: &VideoInfo) -> Result<gst::BufferPool, gst::FlowError> {
        let mut query = gst::query::Allocation::new(Some(caps), true);
        let offered = match self.pad.peer_query(&mut query) {
            true => query.allocation_pools().into_iter().next(),
            false => None,
        };
        let own = || (gst_video::VideoBufferPool::new().upcast(), info.size() as u32, 2, 0);
        let (pool, size, least, most) = match offered {
            Some((Some(pool), size, least, most)) => (pool, size.max(info.size() as u32), least, most),
            _ => own(),
        };
        let activate = |pool: &gst::BufferPool, size, least, most| {
            let mut config = pool.config();
            config.set_params(Some(caps), size, least, most);
            pool.set_config(config).and_then(|()| pool.set_active(true)).is_ok()
        };
        if activate(&pool, size, least, most) {
            return Ok(pool);
        }
        let (pool, size, least, most) = own();
        match activate(&pool, size, least, most) {
            true => Ok(pool),
            false => Err(gst::FlowError::Error),
        }
    }

    /// Draws this pad's view of a frame and pushes it.
    pub fn show(&self, frame: &Frame, merged: &Merged, look: &Look) -> Result<gst::FlowSuccess, Fault> {
        if self.pad.check_reconfigure() {
            let stream = lock(&self.drawing).stream.clone();
            if let Some(stream) = stream
                && let Err(e) = self.negotiate(&stream)
            {
                self.pad.mark_reconfigure();
                return Err(e.into());
            }
        }
        let mut drawing = lock(&self.drawing);
        let Drawing { info: Some(info), pool: Some(pool), work, .. } = &mut *drawing else {
            return Err(gst::FlowError::NotNegotiated.into());
        };
        let info = info.clone();
        let mut buffer = pool.acquire_buffer(None)?;
        {
            let buffer = buffer.make_mut();
            let _ = frame.buffer.copy_into(buffer, gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS, ..);
            copy_metas(&frame.buffer, buffer);
            let mut picture = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &info)
                .map_err(|_| Error::Frame("an output buffer cannot be mapped for writing".into()))?;
            draw(self.view, frame, merged, look, &info, &mut picture, work)?;
        }
        if frame.discont {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        drop(drawing);
        gst::log!(CAT, obj = self.pad, "pushing {buffer:?}");
        Ok(self.pad.push(buffer)?)
    }
}

/// Why a frame was not pushed: a pad's flow, or an error that the user should read.
pub enum Fault {
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
        views::overlay(merged, decision, &frame.job.frame().view(), &style, &mut canvas, work);
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
                    format!("class {} becomes a value beyond 254; put `video/x-raw,format=GRAY16_LE` after onnxsegment", merged.classes() - 1),
                ));
            }
            views::mask(merged, decision, &mut canvas, work);
            Ok(())
        }
        View::Probability => views::probability(merged, look.class_index, &mut canvas, work),
        View::Uncertainty | View::Overlay => views::uncertainty(merged, &mut canvas, work),
    }
}
