//! The element: pads, events and queries. Masks leave from the thread that brings the last of what they need.

use std::sync::{LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoInfo;

use super::CAT;
use super::settings::{SPECS, Settings, Wanted};
use super::stream::{Fault, Stream, Tiles};
use crate::elements::caps;
use crate::elements::meta::{PlanRef, RasterInfo, RunAnswer, RunModels, RunRequest, SegmentationInfo};
use crate::elements::{self, pads};
use crate::engine::lock;
use crate::raster::Error;

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
            *lock(&self.stream) = Stream::new(wanted);
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
        let suspect = lock(&self.stream).seems_misread();
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
            plan.prefer_labels();
            return true;
        };
        let Some(wanted) = lock(&self.stream).wanted.clone() else { return false };
        if !request.share.is_all() {
            let problem = "maskclean needs every tile of a mosaic; clean it in one process, without shards";
            self.post(&Error::setting(request.share.property(), &request.share, problem));
            plan.set_answer(&RunAnswer { refused: true, ..RunAnswer::default() });
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
            let all = answer.lattice.cells(&request.region).len();
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
