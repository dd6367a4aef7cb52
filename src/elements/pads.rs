//! What elements do alike with their pads.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::caps::Pixels;
use crate::{engine, raster};

/// A sink pad whose functions are an element's. A panic in one becomes an element error and goes no further.
pub fn sink<T: ElementImpl>(
    template: &gst::PadTemplate,
    chain: fn(&T, gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError>,
    event: fn(&T, &gst::Pad, gst::Event) -> bool,
    query: fn(&T, &gst::Pad, &mut gst::QueryRef) -> bool,
) -> gst::Pad {
    gst::Pad::builder_from_template(template)
        .chain_function(move |_, parent, buffer| {
            T::catch_panic_pad_function(parent, || Err(gst::FlowError::Error), |imp| chain(imp, buffer))
        })
        .event_function(move |pad, parent, e| T::catch_panic_pad_function(parent, || false, |imp| event(imp, pad, e)))
        .query_function(move |pad, parent, q| T::catch_panic_pad_function(parent, || false, |imp| query(imp, pad, q)))
        .build()
}

/// A source pad whose queries an element answers, and whose events go upstream.
pub fn src<T: ElementImpl>(
    template: &gst::PadTemplate,
    query: fn(&T, &gst::Pad, &mut gst::QueryRef) -> bool,
) -> gst::Pad {
    gst::Pad::builder_from_template(template)
        .query_function(move |pad, parent, q| T::catch_panic_pad_function(parent, || false, |imp| query(imp, pad, q)))
        .build()
}

/// The sticky events that a pad has.
pub fn sticky_events(pad: &gst::Pad) -> Vec<gst::Event> {
    let mut all = Vec::new();
    pad.sticky_events_foreach(|event| {
        all.push(event.clone());
        std::ops::ControlFlow::Continue(gst::EventForeachAction::Keep)
    });
    all
}

/// What a caps query hears: of `allowed`, what its filter leaves, in the filter's order.
pub fn filtered(allowed: gst::Caps, filter: Option<&gst::CapsRef>) -> gst::Caps {
    match filter {
        Some(filter) => filter.to_owned().intersect_with_mode(&allowed, gst::CapsIntersectMode::First),
        None => allowed,
    }
}

/// The pool of whoever follows a pad, or else one of our own, with at least `least` buffers; `None` where neither can hold
/// such frames.
pub fn pool(pad: &gst::Pad, caps: &gst::Caps, pixels: &Pixels, least: u32) -> Option<gst::BufferPool> {
    let needed = u32::try_from(pixels.size()).ok()?;
    let mut query = gst::query::Allocation::new(Some(caps), true);
    let offered = match pad.peer_query(&mut query) {
        true => query.allocation_pools().next(),
        false => None,
    };
    let activate = |pool: &gst::BufferPool, size, least, most| {
        let mut config = pool.config();
        config.set_params(Some(caps), size, least, most);
        pool.set_config(config).and_then(|()| pool.set_active(true)).is_ok()
    };
    if let Some((Some(pool), size, least, most)) = offered
        && activate(&pool, size.max(needed), least, most)
    {
        return Some(pool);
    }
    let own = match pixels {
        Pixels::Video(_) => gst_video::VideoBufferPool::new().upcast(),
        Pixels::Raster(_) => gst::BufferPool::new(),
    };
    activate(&own, needed, least, 0).then_some(own)
}

/// Why nothing comes out of a pad: its flow, or an error that the user should read.
pub enum Fault<E> {
    Flow(gst::FlowError),
    Error(E),
}

impl<E> From<gst::FlowError> for Fault<E> {
    fn from(flow: gst::FlowError) -> Self {
        Fault::Flow(flow)
    }
}

impl From<engine::Error> for Fault<engine::Error> {
    fn from(error: engine::Error) -> Self {
        Fault::Error(error)
    }
}

impl From<raster::Error> for Fault<raster::Error> {
    fn from(error: raster::Error) -> Self {
        Fault::Error(error)
    }
}

impl From<String> for Fault<String> {
    fn from(text: String) -> Self {
        Fault::Error(text)
    }
}

impl From<engine::Error> for Fault<String> {
    fn from(error: engine::Error) -> Self {
        Fault::Error(error.to_string())
    }
}

impl From<raster::Error> for Fault<String> {
    fn from(error: raster::Error) -> Self {
        Fault::Error(error.to_string())
    }
}
