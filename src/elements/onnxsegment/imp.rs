//! The element: states, the sink pad, and what the pads share.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, LazyLock, Mutex, Weak};
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::UniqueFlowCombiner;

use super::CAT;
use super::output::{Fault, Item, Look, Output, View};
use super::properties::{self, Properties};
use super::tiles;
use crate::elements::caps::{self, MappedFrame, Pixels};
use crate::elements::meta::{PlanRef, SegmentationInfo, TileMeta};
use crate::elements::pads;
use crate::engine::cascade::Cascade;
use crate::engine::pixels::{Frame as PixelFrame, FrameFormat, FrameView, Sample};
use crate::engine::{Ensemble, Error, Job, Plan, lock};

/// What holds from one caps event to the next.
pub struct Stream {
    pub pixels: Pixels,
    /// Pixel values that an overlay shows as black and white.
    pub display_range: (f32, f32),
    /// What the scores mean.
    info: SegmentationInfo,
    ensemble: Arc<Ensemble>,
    plan: Arc<Plan>,
}

impl Stream {
    /// Whether 8 bits hold every value of a mask, as far as the classes are known.
    pub fn fits_8_bit(&self) -> bool {
        self.ensemble.decision().fits_8_bit(self.ensemble.classes().unwrap_or(2))
    }

    /// Bands of merged scores; `None` when label models do not tell how many classes there are.
    pub fn score_bands(&self) -> Option<usize> {
        self.ensemble.channels()
    }
}

/// A frame under way, shared by the pads that show it.
pub struct Frame {
    pub buffer: gst::Buffer,
    pub stream: Arc<Stream>,
    /// `None` for a tile without data, which is not inferred.
    pub job: Option<Arc<Job>>,
    /// Which pixels have data, where not all do: one byte each, row by row.
    pub valid: Option<glib::Bytes>,
    /// Frames before this one were dropped.
    pub discont: bool,
    /// The uncertainty was asked for.
    pub uncertainty: bool,
    /// Counts the frame out when the last pad is done with it.
    _permit: Permit,
}

impl Frame {
    pub fn ensemble(&self) -> &Ensemble {
        &self.stream.ensemble
    }
}

/// A frame's pixels, and what tells it from others.
struct Keyed {
    frame: MappedFrame,
    key: u64,
}

impl PixelFrame for Keyed {
    fn view(&self) -> FrameView<'_> {
        self.frame.view()
    }

    fn key(&self) -> u64 {
        self.key
    }
}

/// Bounds the frames between the sink pad and the last source pad.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    /// Waits until fewer than `most` frames are under way.
    fn enter(self: &Arc<Self>, most: usize) -> Result<Permit, gst::FlowError> {
        let mut state = lock(&self.state);
        while state.0 >= most && !state.1 {
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        if state.1 {
            return Err(gst::FlowError::Flushing);
        }
        state.0 += 1;
        Ok(Permit(self.clone()))
    }

    fn set_flushing(&self, flushing: bool) {
        lock(&self.state).1 = flushing;
        self.changed.notify_all();
    }
}

struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.0.state).0 -= 1;
        self.0.changed.notify_all();
    }
}

/// What the streaming threads share; locked briefly.
struct State {
    ensemble: Option<Arc<Ensemble>>,
    stream: Option<Arc<Stream>>,
    outputs: Vec<Arc<Output>>,
    /// Sticky events that have passed, for pads that are requested later.
    sticky: Vec<gst::Event>,
    /// What downstream knows of the scores.
    told_info: Option<SegmentationInfo>,
    segment: gst::FormattedSegment<gst::ClockTime>,
    combiner: UniqueFlowCombiner,
    flow: Result<gst::FlowSuccess, gst::FlowError>,
    /// Upstream has been told of a flow that stops the stream.
    told: bool,
    /// An error was posted; the streaming threads only wind down.
    failed: bool,
    /// From PAUSED to READY: whatever is still to come is turned away.
    stopping: bool,
    ended: bool,
    jobs: Vec<Weak<Job>>,
    latency: gst::ClockTime,
    /// How long frames of the last formats take, for live sources.
    measured: VecDeque<(FrameFormat, Duration)>,
    live: bool,
    /// Frames that are due before this running time come too late.
    earliest: Option<gst::ClockTime>,
    discont: bool,
    received: u64,
    dropped: u64,
}

impl State {
    /// What a pad begins with where the stream is now: the sticky events, and the caps, that it does not have yet.
    fn beginning(&self, output: &Output) -> impl Iterator<Item = Item> + use<> {
        let had = pads::sticky_events(&output.pad);
        // A view's own stream-start is told by the number that it has from the original.
        let has = |event: &gst::Event| match event.type_() {
            gst::EventType::StreamStart => {
                had.iter().any(|h| h.type_() == event.type_() && h.seqnum() == event.seqnum())
            }
            _ => had.iter().any(|h| h.as_ptr() == event.as_ptr()),
        };
        let missing = self.sticky.iter().filter(|e| !has(e)).cloned();
        let (start, others): (Vec<_>, Vec<_>) = missing.partition(|e| e.type_() == gst::EventType::StreamStart);
        let start = start.into_iter().map(Item::Event);
        start.chain(self.stream.clone().map(Item::Stream)).chain(others.into_iter().map(Item::Event))
    }
}

pub struct OnnxSegment {
    sink: gst::Pad,
    properties: Mutex<Properties>,
    state: Mutex<State>,
    gate: Arc<Gate>,
}

#[glib::object_subclass]
impl ObjectSubclass for OnnxSegment {
    const NAME: &'static str = "GstOnnxSegment";
    type Type = super::OnnxSegment;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = class.pad_template("sink").expect("declared below");
        let sink = pads::sink(&template, Self::chain, Self::sink_event, Self::sink_query);
        let template = class.pad_template("src").expect("declared below");
        let src = Self::output(View::Mask, &template);
        let mut combiner = UniqueFlowCombiner::new();
        combiner.add_pad(&src.pad);
        OnnxSegment {
            sink,
            properties: Mutex::default(),
            state: Mutex::new(State {
                ensemble: None,
                stream: None,
                outputs: vec![src],
                sticky: Vec::new(),
                told_info: None,
                segment: gst::FormattedSegment::new(),
                combiner,
                flow: Ok(gst::FlowSuccess::Ok),
                told: false,
                failed: false,
                stopping: false,
                ended: false,
                jobs: Vec::new(),
                latency: gst::ClockTime::ZERO,
                measured: VecDeque::new(),
                live: false,
                earliest: None,
                discont: false,
                received: 0,
                dropped: 0,
            }),
            gate: Arc::default(),
        }
    }
}

impl ObjectImpl for OnnxSegment {
    fn properties() -> &'static [glib::ParamSpec] {
        &properties::SPECS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.properties).set(value, pspec);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if let Some(value) = lock(&self.properties).get(pspec) {
            return value;
        }
        match pspec.name() {
            "stats" => self.stats().to_value(),
            "model-info" => self.model_info().to_value(),
            _ => {
                let ensemble = lock(&self.state).ensemble.clone();
                ensemble.map(|e| e.active_provider().to_string()).to_value()
            }
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let src = lock(&self.state).outputs[0].pad.clone();
        let obj = self.obj();
        obj.add_pad(&self.sink).expect("a new element has no pads");
        obj.add_pad(&src).expect("a new element has no pads");
    }
}

impl GstObjectImpl for OnnxSegment {}

impl ElementImpl for OnnxSegment {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "ONNX segmentation ensemble",
                "Filter/Video",
                "Runs every model of an ensemble over every test-time transform of a frame and merges them into a mask",
                "The onnxsegment authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            use gst::{PadDirection, PadPresence};
            let template = |name: &str, direction, presence, caps: &gst::Caps| {
                gst::PadTemplate::new(name, direction, presence, caps).expect("valid names and caps")
            };
            let source =
                |view: View, presence| template(view.name(), PadDirection::Src, presence, &view.template_caps());
            let mut templates = vec![
                template("sink", PadDirection::Sink, PadPresence::Always, &caps::pixels()),
                source(View::Mask, PadPresence::Always),
            ];
            templates.extend(View::REQUESTED.iter().map(|view| source(*view, PadPresence::Request)));
            templates
        });
        &TEMPLATES
    }

    fn change_state(&self, change: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match change {
            gst::StateChange::ReadyToPaused => self.start().map_err(|e| {
                self.post(&e);
                gst::StateChangeError
            })?,
            gst::StateChange::PausedToReady => {
                lock(&self.state).stopping = true;
                self.begin_flush();
            }
            _ => {}
        }
        let success = self.parent_change_state(change);
        // Also after a failed start, so that nothing of it stays.
        if change == gst::StateChange::PausedToReady || (change == gst::StateChange::ReadyToPaused && success.is_err())
        {
            self.stop();
        }
        success
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        let view = View::REQUESTED.iter().copied().find(|v| v.name() == template.name_template())?;
        let mut state = lock(&self.state);
        if state.outputs.iter().any(|o| o.view == view) {
            gst::warning!(CAT, imp = self, "there is a {} pad already; use tee after it", view.name());
            return None;
        }
        let output = Self::output(view, template);
        // Running: the pad starts where the stream is.
        if state.ensemble.is_some() && !state.stopping {
            output.begin_with(state.beginning(&output));
            output.pad.set_active(true).ok()?;
        }
        let pad = output.pad.clone();
        state.combiner.add_pad(&pad);
        state.outputs.push(output.clone());
        drop(state);
        self.obj().add_pad(&pad).ok()?;
        output.resume(std::iter::empty(), || self.start_task(&output)).ok()?;
        Some(pad)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let mut state = lock(&self.state);
        let Some(k) = state.outputs.iter().position(|o| o.pad == *pad) else {
            return;
        };
        let output = state.outputs.remove(k);
        state.combiner.remove_pad(pad);
        if !state.failed {
            // The flow of those that stay.
            state.flow = state.combiner.update_flow(Ok(gst::FlowSuccess::Ok));
        }
        drop(state);
        output.deactivate();
        // Its task may wait for a frame that waits for company.
        self.seal();
        let _ = pad.set_active(false);
        output.reset();
        let _ = self.obj().remove_pad(pad);
    }
}

impl OnnxSegment {
    fn output(view: View, template: &gst::PadTemplate) -> Arc<Output> {
        Arc::new_cyclic(|output: &Weak<Output>| {
            let output = output.clone();
            let pad = gst::Pad::builder_from_template(template)
                .name(view.name())
                .activatemode_function(move |_, parent, _mode, active| {
                    // A requested pad has no parent yet; its task starts when it has.
                    if parent.is_none() {
                        let output = output.upgrade();
                        return output.map_or(Ok(()), |output| {
                            if active {
                                return output.activate(|| Ok(()));
                            }
                            output.deactivate();
                            Ok(())
                        });
                    }
                    Self::catch_panic_pad_function(
                        parent,
                        || Err(gst::loggable_error!(CAT, "internal error while activating a pad")),
                        |imp| output.upgrade().map_or(Ok(()), |output| imp.activate(&output, active)),
                    )
                })
                .event_function(|pad, parent, event| {
                    Self::catch_panic_pad_function(parent, || false, |imp| imp.src_event(pad, event))
                })
                .query_function(|pad, parent, query| {
                    Self::catch_panic_pad_function(parent, || false, |imp| imp.src_query(pad, query))
                })
                .build();
            Output::new(view, pad)
        })
    }

    fn outputs(&self) -> Vec<Arc<Output>> {
        lock(&self.state).outputs.clone()
    }

    /// Posts the one element error that a user sees for `error`.
    fn post(&self, error: &Error) {
        {
            let mut state = lock(&self.state);
            if state.failed {
                return;
            }
            state.failed = true;
            state.flow = Err(gst::FlowError::Error);
        }
        match error {
            Error::Setting { .. } => gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error}")),
            Error::File { .. } => gst::element_imp_error!(self, gst::ResourceError::OpenRead, ("{error}")),
            Error::Model { .. } => gst::element_imp_error!(self, gst::LibraryError::Failed, ("{error}")),
            Error::Runtime(_) | Error::Provider(_) => {
                gst::element_imp_error!(self, gst::ResourceError::NotFound, ("{error}"))
            }
            Error::Frame(_) => gst::element_imp_error!(self, gst::StreamError::Format, ("{error}")),
            Error::Memory(_) => gst::element_imp_error!(self, gst::ResourceError::NoSpaceLeft, ("{error}")),
            Error::Cancelled => {}
        }
    }

    // ---- states

    fn start(&self) -> Result<(), Error> {
        {
            let mut state = lock(&self.state);
            state.failed = false;
            state.stopping = false;
            (state.ended, state.told) = (false, false);
            state.flow = Ok(gst::FlowSuccess::Ok);
            state.combiner.reset();
            state.earliest = None;
            state.latency = gst::ClockTime::ZERO;
            state.measured.clear();
            (state.received, state.dropped) = (0, 0);
        }
        let properties = lock(&self.properties).clone();
        let ensemble = Arc::new(Ensemble::load(&properties.engine()?)?);
        properties.palette(&ensemble)?;
        if let Some(classes) = ensemble.classes()
            && properties.class_index as usize >= classes
        {
            return Err(Error::setting(
                "class-index",
                properties.class_index,
                format!("there are {classes} classes; use 0 to {}", classes - 1),
            ));
        }
        for warning in ensemble.warnings() {
            gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{warning}"));
        }
        gst::info!(CAT, imp = self, "{} passes per frame on {}", ensemble.passes(), ensemble.active_provider());
        let told = gst::Structure::builder("onnxsegment-provider")
            .field("active-provider", ensemble.active_provider())
            .field("passes", ensemble.passes() as u32)
            .build();
        lock(&self.state).ensemble = Some(ensemble);
        self.gate.set_flushing(false);
        let obj = self.obj();
        let _ = obj.post_message(gst::message::Element::builder(told).src(&*obj).build());
        obj.notify("active-provider");
        obj.notify("model-info");
        Ok(())
    }

    fn stop(&self) {
        let mut state = lock(&self.state);
        let ensemble = state.ensemble.take();
        let stream = state.stream.take();
        state.sticky.clear();
        state.told_info = None;
        state.jobs.clear();
        state.segment = gst::FormattedSegment::new();
        let outputs = state.outputs.clone();
        drop(state);
        outputs.iter().for_each(|o| {
            o.deactivate();
            o.reset();
        });
        // The workers are joined here, without a lock.
        drop((stream, ensemble));
    }

    /// Wakes everything that waits, and withdraws the frames under way.
    fn begin_flush(&self) {
        self.gate.set_flushing(true);
        self.outputs().iter().for_each(|o| o.begin_flush());
        // Only now: every frame that a task has taken is listed, and no task takes another.
        let jobs = std::mem::take(&mut lock(&self.state).jobs);
        jobs.iter().filter_map(Weak::upgrade).for_each(|job| job.cancel());
        // Withdrawn frames leave the batch that they waited for.
        self.seal();
    }

    /// Starts or stops a source pad's task.
    fn activate(&self, output: &Arc<Output>, active: bool) -> Result<(), gst::LoggableError> {
        if active {
            return output.activate(|| self.start_task(output)).map_err(|e| gst::loggable_error!(CAT, "{e}"));
        }
        output.deactivate();
        // A flush that ended after the state change began may have let frames in.
        if lock(&self.state).stopping {
            self.begin_flush();
        }
        output.pad.stop_task().map_err(|e| gst::loggable_error!(CAT, "{e}"))
    }

    fn start_task(&self, output: &Arc<Output>) -> Result<(), glib::BoolError> {
        let (element, weak) = (self.obj().downgrade(), Arc::downgrade(output));
        output.pad.start_task(move || {
            let (Some(element), Some(output)) = (element.upgrade(), weak.upgrade()) else {
                return;
            };
            let imp = element.imp();
            if catch_unwind(AssertUnwindSafe(|| imp.run(&output))).is_err() {
                imp.post(&Error::Runtime("internal error in a pad's thread; please report it".into()));
                let _ = output.pad.pause_task();
            }
        })
    }

    // ---- source pads

    /// One turn of a source pad's task.
    fn run(&self, output: &Arc<Output>) {
        let Some((item, generation)) = output.pop() else {
            let _ = output.pad.pause_task(); // flushing; fails only when the task is gone
            return;
        };
        match item {
            // After an error there is nothing more to show.
            Item::Stream(_) | Item::Frame(_) if lock(&self.state).failed => {}
            Item::Event(event) => {
                if event.type_() == gst::EventType::Eos && !output.prepare_end() {
                    return;
                }
                // Every frame has been shown by now.
                if event.type_() == gst::EventType::Eos && output.view == View::Mask {
                    self.report_passes();
                }
                gst::debug!(CAT, obj = output.pad, "pushing {event:?}");
                output.pad.push_event(own_stream_id(output.view, event));
            }
            Item::Stream(stream) => {
                if let Err(fault) = output.agree(&stream) {
                    let flow = self.fault(output, generation, fault);
                    self.set_flow(output, generation, Err(flow));
                }
            }
            Item::Frame(frame) => {
                let result = self.show(output, &frame).map_err(|fault| self.fault(output, generation, fault));
                drop(frame);
                self.set_flow(output, generation, result);
            }
        }
    }

    /// Tells how many passes were saved, where any could be.
    fn report_passes(&self) {
        let ensemble = lock(&self.state).ensemble.clone();
        let Some(ensemble) = ensemble.filter(|e| e.may_save_passes()) else {
            return;
        };
        let stats = ensemble.stats();
        let report = gst::Structure::builder("onnxsegment-passes")
            .field("frames", stats.frames)
            .field("passes", stats.passes)
            .field("passes-saved", stats.saved)
            .field("audited-pixels", stats.audited)
            .field("labels-changed", stats.changed)
            .build();
        let obj = self.obj();
        let _ = obj.post_message(gst::message::Element::builder(report).src(&*obj).build());
    }

    /// The flow that a fault means, after its error has been posted.
    fn fault(&self, output: &Output, generation: u64, fault: Fault) -> gst::FlowError {
        match fault {
            Fault::Flow(flow) => flow,
            Fault::Error(_) if output.generation() != generation => gst::FlowError::Flushing,
            Fault::Error(e) => {
                self.post(&e);
                gst::FlowError::Error
            }
        }
    }

    fn show(&self, output: &Output, frame: &Frame) -> Result<gst::FlowSuccess, Fault> {
        // A view that is not linked is not computed; one that was linked just now begins with the next frame.
        if !output.pad.is_linked() || (output.view == View::Uncertainty && !frame.uncertainty) {
            return Err(gst::FlowError::NotLinked.into());
        }
        let Some(job) = &frame.job else {
            return output.show_nothing(frame);
        };
        let merged = match job.wait() {
            Ok(merged) => merged,
            Err(Error::Cancelled) => return Err(gst::FlowError::Flushing.into()),
            Err(e) => return Err(e.into()),
        };
        let look = {
            let properties = lock(&self.properties);
            properties.palette(&frame.stream.ensemble).map(|palette| Look {
                class_index: properties.class_index as usize,
                palette,
                alpha: properties.overlay_alpha as f32,
            })
        };
        output.show(frame, &merged, &look?)
    }

    /// Notes a pad's flow, for the sink pad to return.
    fn set_flow(&self, output: &Output, generation: u64, result: Result<gst::FlowSuccess, gst::FlowError>) {
        let mut state = lock(&self.state);
        // From before a flush, or of a pad that was released.
        if output.generation() != generation {
            return;
        }
        // A branch that was unlinked and taken down during the push.
        let result = match result {
            Err(gst::FlowError::Flushing) if !output.pad.is_linked() => Err(gst::FlowError::NotLinked),
            result => result,
        };
        let flow = state.combiner.update_pad_flow(&output.pad, result);
        if state.failed {
            return;
        }
        state.flow = flow;
        let unheard = state.ended && !state.told;
        drop(state);
        match flow {
            Err(gst::FlowError::NotNegotiated) => self.post(&Error::Frame(format!(
                "what follows pad {} does not take what it gives, {}; put `videoconvert` behind it",
                output.pad.name(),
                output.pad.current_caps().unwrap_or_else(|| output.pad.pad_template_caps())
            ))),
            Err(flow) if unheard => self.complain(flow),
            _ => {}
        }
    }

    /// Posts why the stream stopped, where nobody upstream hears of it because nothing is to come.
    fn complain(&self, flow: gst::FlowError) {
        let problem = match flow {
            gst::FlowError::NotLinked => "no source pad is linked; link src or request another pad",
            gst::FlowError::Error => "what follows onnxsegment failed on one of the last frames",
            _ => return,
        };
        self.post(&Error::Frame(problem.into()));
    }

    fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        if let gst::EventView::Qos(qos) = event.view() {
            let (_, _, jitter, timestamp) = qos.get();
            if let Some(timestamp) = timestamp {
                let frame = lock(&self.state).stream.as_ref().and_then(|s| frame_duration(s.pixels.framerate()));
                // As GstBaseTransform has it: late by d means that what is due before t + 2 d + one frame is late too.
                let late = jitter.max(0) as u64;
                let slack = if late > 0 { 2 * late + frame.map_or(0, |f| f.nseconds()) } else { 0 };
                let earliest = gst::ClockTime::from_nseconds(timestamp.nseconds().saturating_add(slack));
                lock(&self.state).earliest = (late > 0).then_some(earliest);
            }
        }
        if event.type_() == gst::EventType::Reconfigure {
            self.linked(pad);
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    /// A pad may have been linked: that nothing was is forgotten, and if the stream has ended, the pad is told.
    fn linked(&self, pad: &gst::Pad) {
        let mut state = lock(&self.state);
        if state.flow == Err(gst::FlowError::NotLinked) && !state.failed {
            state.flow = Ok(gst::FlowSuccess::Ok);
        }
        if state.ended
            && let Some(output) = state.outputs.iter().find(|o| o.pad == *pad)
            && let Some(end) = state.sticky.iter().find(|e| e.type_() == gst::EventType::Eos)
        {
            output.begin_with(std::iter::once(Item::Event(end.clone())));
        }
    }

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Latency(query) => {
                let mut upstream = gst::query::Latency::new();
                if !self.sink.peer_query(&mut upstream) {
                    return false;
                }
                let (live, least, most) = upstream.result();
                let own = if live { lock(&self.state).latency } else { gst::ClockTime::ZERO };
                gst::debug!(CAT, imp = self, "latency {own}, upstream live {live}, {least} to {most:?}");
                query.set(live, least + own, most.map(|most| most + own));
                true
            }
            gst::QueryViewMut::Caps(query) => {
                let result = pads::filtered(self.src_caps(pad), query.filter());
                query.set_result(&result);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    /// What a source pad can give: its formats, at the size and rate of the input.
    fn src_caps(&self, pad: &gst::Pad) -> gst::Caps {
        let template = pad.pad_template_caps();
        let (stream, output) = {
            let state = lock(&self.state);
            (state.stream.clone(), state.outputs.iter().find(|o| o.pad == *pad).cloned())
        };
        match (stream, output) {
            (Some(stream), Some(output)) => output.allowed_caps(&stream),
            _ => same_size(&template, &self.sink.peer_query_caps(Some(&self.sink.pad_template_caps()))),
        }
    }

    // ---- sink pad

    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let properties = {
            let p = lock(&self.properties);
            (p.qos, p.patience())
        };
        let (stream, received) = {
            let mut state = lock(&self.state);
            state.told = state.flow.is_err();
            state.flow?;
            let stream = state.stream.clone().ok_or(gst::FlowError::NotNegotiated)?;
            state.received += 1;
            (stream, state.received)
        };
        let failed = |error: Error| {
            self.post(&error);
            gst::FlowError::Error
        };
        let tile = TileMeta::of(&buffer, stream.pixels.width(), stream.pixels.height());
        let tile = tile.map_err(|e| failed(Error::Frame(e.to_string())))?;
        // A mosaic would miss a tile that comes too late.
        if properties.0
            && tile.is_none()
            && let Some(message) = self.too_late(&buffer)
        {
            let _ = self.obj().post_message(message);
            return Ok(gst::FlowSuccess::Ok);
        }
        // What the frame is, whichever run it comes in: its place in the mosaic, or its time.
        let key = match (&tile, buffer.pts()) {
            (Some(tile), _) => tile.index as u64,
            (None, Some(time)) => time.nseconds(),
            (None, None) => received,
        };
        // Elsewhere GAP means other things: videorate marks its duplicates so.
        let empty = tile.is_some() && buffer.flags().contains(gst::BufferFlags::GAP);
        let valid = tile.and_then(|tile| tile.valid);
        let mapped = match empty {
            true => None,
            false => Some(MappedFrame::new(buffer.clone(), &stream.pixels).ok_or_else(|| {
                failed(Error::Frame(format!(
                    "a buffer of {} bytes cannot be read as {}: its size or strides do not fit the caps",
                    buffer.size(),
                    stream.pixels.to_caps().map_or("its caps".into(), |caps| caps.to_string())
                )))
            })?),
        };
        // Once: tiles of several sizes follow each other, and what their scores mean stays the same.
        let news = {
            let mut state = lock(&self.state);
            let known = state.told_info.as_ref() == Some(&stream.info);
            (!known).then(|| state.told_info.insert(stream.info.clone()).event())
        };
        news.map(|event| self.pass(Item::Event(event)));
        let most = stream.ensemble.frames_in_flight();
        let permit = self.gate.enter(most)?;
        let outputs = self.outputs();
        if stream.ensemble.cascade() == Some(Cascade::Exact)
            && let Some(view) = outputs.iter().find(|o| o.shows_more_than_labels())
        {
            return Err(failed(Error::setting(
                "cascade",
                Cascade::Exact.text(),
                format!(
                    "keeps every label and nothing else, and what follows pad {} shows more than labels; link src \
                     alone, ask it for no uncertainty, or use cascade=confident or none",
                    view.pad.name()
                ),
            )));
        }
        let uncertainty = outputs.iter().any(|o| o.wants_uncertainty());
        let discont = std::mem::take(&mut lock(&self.state).discont);
        let job = mapped.map(|mapped| {
            let frame = Keyed { frame: mapped, key };
            let job = stream.ensemble.submit(&stream.plan, Box::new(frame), uncertainty, properties.1);
            let mut state = lock(&self.state);
            state.jobs.retain(|job| job.strong_count() > 0);
            state.jobs.push(Arc::downgrade(&job));
            job
        });
        let frame = Arc::new(Frame { buffer, stream, job: job.clone(), valid, discont, uncertainty, _permit: permit });
        if !self.deliver(&outputs, Some(&frame.stream.ensemble), &Item::Frame(frame.clone())) {
            job.iter().for_each(|job| job.cancel());
            return Err(gst::FlowError::Flushing);
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// Whether a sink would drop this frame: then a QoS message, and the frame is not worth inferring.
    fn too_late(&self, buffer: &gst::BufferRef) -> Option<gst::Message> {
        let mut state = lock(&self.state);
        let earliest = state.earliest?;
        let time = state.segment.to_running_time(buffer.pts())?;
        if time >= earliest {
            return None;
        }
        state.dropped += 1;
        state.discont = true;
        let obj = self.obj();
        gst::debug!(CAT, imp = self, "dropping the frame of {time}, due before {earliest}");
        Some(
            gst::message::Qos::builder(state.live)
                .running_time(time)
                .stream_time(state.segment.to_stream_time(buffer.pts()))
                .timestamp(buffer.pts())
                .duration(buffer.duration())
                .values(earliest.nseconds().saturating_sub(time.nseconds()) as i64, 1.0, 1_000_000)
                .stats(
                    gst::format::Buffers::from_u64(state.received - state.dropped),
                    gst::format::Buffers::from_u64(state.dropped),
                )
                .src(&*obj)
                .build(),
        )
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStart(_) => {
                self.begin_flush();
                let outputs = self.outputs();
                outputs.iter().for_each(|o| {
                    o.pad.push_event(event.clone());
                });
                // The tasks see the flush and pause; this waits for what they are doing, which nothing blocks now.
                outputs.iter().for_each(|o| {
                    let _ = o.pad.pause_task();
                });
                true
            }
            gst::EventView::FlushStop(_) => {
                let (outputs, stopping) = {
                    let mut state = lock(&self.state);
                    state.combiner.reset();
                    if !state.failed {
                        state.flow = Ok(gst::FlowSuccess::Ok);
                    }
                    (state.ended, state.told) = (false, false);
                    state.earliest = None;
                    state.segment = gst::FormattedSegment::new();
                    state.sticky.retain(|e| !matches!(e.type_(), gst::EventType::Segment | gst::EventType::Eos));
                    (state.outputs.clone(), state.stopping)
                };
                for output in &outputs {
                    output.pad.push_event(event.clone());
                }
                if !stopping {
                    for output in &outputs {
                        // What was flushed away, but holds on.
                        let items = lock(&self.state).beginning(output);
                        let _ = output.resume(items, || self.start_task(output));
                    }
                    self.gate.set_flushing(false);
                }
                true
            }
            gst::EventView::Caps(caps) => self.set_caps(caps.caps()),
            gst::EventView::Segment(segment) => {
                match segment.segment().downcast_ref::<gst::ClockTime>() {
                    Some(segment) => lock(&self.state).segment = segment.clone(),
                    // Without times there is no lateness.
                    None => lock(&self.state).segment = gst::FormattedSegment::new(),
                }
                self.pass(Item::Event(event.clone()))
            }
            gst::EventView::StreamStart(_) => {
                let mut state = lock(&self.state);
                (state.ended, state.told) = (false, false);
                state.sticky.retain(|e| e.type_() != gst::EventType::Eos);
                drop(state);
                self.pass(Item::Event(event))
            }
            gst::EventView::Eos(_) => {
                let (flow, known) = {
                    let mut state = lock(&self.state);
                    state.ended = true;
                    (state.flow, state.failed || state.told)
                };
                if let Err(flow) = flow
                    && !known
                {
                    self.complain(flow);
                }
                self.seal();
                self.pass(Item::Event(event))
            }
            // No frame comes for a while, if ever.
            gst::EventView::Gap(_) | gst::EventView::SegmentDone(_) | gst::EventView::StreamGroupDone(_) => {
                self.seal();
                self.pass(Item::Event(event))
            }
            _ if event.is_serialized() => self.pass(Item::Event(event)),
            _ => gst::Pad::event_default(pad, Some(&*self.obj()), event),
        }
    }

    /// Lets the frames that wait for company go.
    fn seal(&self) {
        let ensemble = lock(&self.state).ensemble.clone();
        if let Some(ensemble) = ensemble {
            ensemble.seal();
        }
    }

    /// Sends something in order to every source pad.
    fn pass(&self, item: Item) -> bool {
        let (outputs, ensemble) = {
            let mut state = lock(&self.state);
            if let Item::Event(event) = &item
                && event.is_sticky()
            {
                let name = |e: &gst::Event| e.structure().map(|s| s.name().to_string());
                state.sticky.retain(|e| e.type_() != event.type_() || name(e) != name(event));
                state.sticky.push(event.clone());
            }
            (state.outputs.clone(), state.ensemble.clone())
        };
        self.deliver(&outputs, ensemble.as_ref(), &item)
    }

    /// Puts an item into every pad's queue; whether any took it.
    fn deliver(&self, outputs: &[Arc<Output>], ensemble: Option<&Arc<Ensemble>>, item: &Item) -> bool {
        let most = ensemble.map_or(1, |e| e.frames_in_flight());
        let mut taken = false;
        for output in outputs {
            // Full of events behind a frame that waits for company, which cannot come while this waits.
            if output.is_full(most)
                && let Some(ensemble) = ensemble
            {
                ensemble.seal();
            }
            taken |= output.push(item.clone(), most).is_ok();
        }
        taken
    }

    fn set_caps(&self, caps: &gst::CapsRef) -> bool {
        gst::debug!(CAT, imp = self, "caps {caps}");
        let Some(pixels) = Pixels::from_caps(caps) else {
            // GStreamer itself refuses frames of some gigabytes; anything else is no raster.
            let sized = caps.structure(0).is_some_and(|s| s.has_field("width") && s.has_field("height"));
            let problem = match sized {
                true => {
                    "are no frame that GStreamer can hold in memory; scale it down, or read the file by `rastersrc`"
                }
                false => "are no raw pixels that this element takes; put `videoconvert` before onnxsegment",
            };
            self.post(&Error::Frame(format!("the caps {caps} {problem}")));
            return false;
        };
        let ensemble = {
            let state = lock(&self.state);
            if state.stream.as_ref().is_some_and(|s| s.pixels == pixels) {
                return true;
            }
            state.ensemble.clone()
        };
        let Some(ensemble) = ensemble else {
            return false;
        };
        // Frames of the old format need not wait for company that cannot come.
        ensemble.seal();
        let palette = lock(&self.properties).palette(&ensemble);
        let result = ensemble.plan(pixels.format()).and_then(|plan| {
            let latency = self.live_latency(&ensemble, &plan, &pixels)?;
            Ok((plan, latency, tiles::segmentation_info(&ensemble, &palette?)?))
        });
        let (plan, latency, info) = match result {
            Ok(found) => found,
            Err(e) => {
                self.post(&e);
                return false;
            }
        };
        let stated = ensemble.members().iter().find_map(|m| m.spec.input.input_range.as_ref().map(|f| f.value));
        let display_range = match (pixels.format().sample, stated) {
            (Sample::U8, _) => (0.0, 255.0),
            (_, Some(range)) => range,
            (_, None) => (0.0, 65535.0),
        };
        let stream = Arc::new(Stream { pixels, display_range, info, ensemble, plan });
        self.outputs().iter().for_each(|o| o.preview(&stream));
        let changed = {
            let mut state = lock(&self.state);
            state.stream = Some(stream.clone());
            state.live = latency.is_some();
            let latency = latency.unwrap_or(gst::ClockTime::ZERO);
            std::mem::replace(&mut state.latency, latency) != latency
        };
        if changed {
            let obj = self.obj();
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
        self.pass(Item::Stream(stream));
        true
    }

    /// For live sources, how long a frame may take from the sink pad to the last source pad, measured by a run.
    fn live_latency(&self, ensemble: &Ensemble, plan: &Plan, pixels: &Pixels) -> Result<Option<gst::ClockTime>, Error> {
        let mut query = gst::query::Latency::new();
        if !self.sink.peer_query(&mut query) || !query.result().0 {
            return Ok(None);
        }
        let format = pixels.format();
        if !lock(&self.state).measured.iter().any(|(known, _)| *known == format) {
            let took = ensemble.measure(plan)?;
            let mut state = lock(&self.state);
            state.measured.push_front((format, took));
            state.measured.truncate(SIZES_OF_TILES);
        }
        let frame = lock(&self.state).measured.iter().map(|(_, took)| *took).max().unwrap_or_default();
        let batch = ensemble.frames_per_batch() as u32 - 1;
        let company = frame_duration(pixels.framerate()).map_or(Duration::ZERO, |d| Duration::from(d) * batch);
        let patience = lock(&self.properties).patience();
        let wait = patience.map_or(company, |p| p.min(company));
        let latency = frame * ensemble.frames_in_flight() as u32 + wait;
        Ok(gst::ClockTime::try_from(latency).ok())
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        if PlanRef::of(query).is_some() {
            return self.plan_query(query);
        }
        let serialized = query.is_serialized();
        match query.view_mut() {
            gst::QueryViewMut::Caps(query) => {
                let template = pad.pad_template_caps();
                let strict = self.sink_caps();
                let result = match query.filter() {
                    None => strict,
                    Some(filter) => {
                        let result = filter.intersect_with_mode(&strict, gst::CapsIntersectMode::First);
                        // The caps event will say what is wrong; an empty answer would say only "not-negotiated".
                        if result.is_empty() {
                            filter.intersect_with_mode(&template, gst::CapsIntersectMode::First)
                        } else {
                            result
                        }
                    }
                };
                query.set_result(&result);
                true
            }
            gst::QueryViewMut::AcceptCaps(query) => {
                let accepted = query.caps().is_subset(&pad.pad_template_caps());
                query.set_result(accepted);
                true
            }
            gst::QueryViewMut::Allocation(query) => {
                // Any stride and offset will do; a pool must be large enough for the frames that are held.
                query.add_allocation_meta::<gst_video::VideoMeta>(None);
                let held = lock(&self.state).ensemble.as_ref().map_or(1, |e| e.frames_in_flight() as u32);
                let (caps, wanted) = query.get_owned();
                if wanted && let Some(pixels) = caps.and_then(|caps| Pixels::from_caps(&caps)) {
                    query.add_allocation_pool(None::<&gst::BufferPool>, pixels.size() as u32, held + 1, 0);
                }
                true
            }
            gst::QueryViewMut::Drain(_) => {
                self.seal();
                self.outputs().iter().all(|o| o.drain())
            }
            _ if serialized => {
                self.seal();
                let outputs = self.outputs();
                outputs.iter().all(|o| o.drain()) && outputs.iter().any(|o| o.pad.peer_query(query))
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    /// Adds what the models want of tiles, or what they are; an announced run goes on to whoever keeps its parts.
    fn plan_query(&self, query: &mut gst::QueryRef) -> bool {
        let ensemble = lock(&self.state).ensemble.clone();
        let (Some(ensemble), Some(mut plan)) = (ensemble, PlanRef::of(query)) else {
            return false;
        };
        if plan.without_data().is_some() {
            return self.outputs().iter().any(|o| o.pad.peer_query(query));
        }
        let palette = lock(&self.properties).palette(&ensemble);
        let run = plan.request().is_some();
        let added = match run {
            false => tiles::preference(&ensemble).map(|preference| plan.set_preference(&preference)),
            true => palette
                .and_then(|palette| tiles::run_models(&ensemble, &palette))
                .map(|models| plan.set_models(&models)),
        };
        match added {
            Ok(()) => !run || self.outputs().iter().any(|o| o.pad.peer_query(query)),
            Err(e) => {
                self.post(&e);
                false
            }
        }
    }

    /// What the models can take, at the size and rate that follows the mask.
    fn sink_caps(&self) -> gst::Caps {
        let (ensemble, outputs) = {
            let state = lock(&self.state);
            (state.ensemble.clone(), state.outputs.clone())
        };
        let as_followed = |caps: gst::Caps| {
            outputs.iter().filter(|o| o.pad.is_linked()).fold(caps, |caps, output| {
                let followed = output.pad.peer_query_caps(Some(&output.pad.pad_template_caps()));
                match output.view.passes_frames() {
                    true => same_pixels(&caps, &followed),
                    false => same_size(&caps, &followed),
                }
            })
        };
        let Some(ensemble) = ensemble else {
            return as_followed(self.sink.pad_template_caps());
        };
        let members = ensemble.members();
        let deep = members.iter().all(|m| m.spec.input.scale.is_some() || m.spec.input.input_range.is_some());
        // A three-channel model leaves alpha aside.
        let fits =
            |bands: usize| members.iter().map(|m| m.spec.input.channels).all(|c| c == bands || (c == 3 && bands == 4));
        let channels = members[0].spec.input.channels;
        let mut formats: Vec<gst_video::VideoFormat> = match channels {
            1 if deep => caps::GRAY.to_vec(),
            1 => vec![gst_video::VideoFormat::Gray8],
            3 => caps::COLOUR.to_vec(),
            4 => caps::COLOUR_ALPHA.to_vec(),
            _ => Vec::new(),
        };
        if !fits(channels) {
            formats.retain(|f| fits(4) && caps::COLOUR_ALPHA.contains(f));
        }
        let mut caps = gst::Caps::new_empty();
        if !formats.is_empty() {
            caps.merge(caps::video(formats));
        }
        let samples: &[Sample] = match deep {
            true => &[Sample::U8, Sample::U16Le, Sample::I16Le, Sample::F32Le],
            false => &[Sample::U8],
        };
        for bands in [channels, 4].into_iter().filter(|bands| fits(*bands)) {
            let mut raster = caps::raster(samples);
            raster.make_mut().set("bands", bands as i32);
            caps.merge(raster);
        }
        let (height, width) = ensemble.fixed_size();
        for (side, fixed) in [("width", width), ("height", height)] {
            if let Some(fixed) = fixed {
                caps.make_mut().set(side, fixed as i32);
            }
        }
        as_followed(caps)
    }

    // ---- read-only properties

    fn stats(&self) -> gst::Structure {
        let state = lock(&self.state);
        let (received, dropped, latency) = (state.received, state.dropped, state.latency);
        let stats = state.ensemble.as_ref().map(|e| e.stats());
        drop(state);
        let seconds =
            |f: fn(&crate::engine::ensemble::Stats) -> Duration| stats.as_ref().map_or(0.0, |s| f(s).as_secs_f64());
        gst::Structure::builder("onnxsegment-stats")
            .field("received", received)
            .field("dropped", dropped)
            .field("frames", stats.as_ref().map_or(0, |s| s.frames))
            .field("passes", stats.as_ref().map_or(0, |s| s.passes))
            .field("passes-saved", stats.as_ref().map_or(0, |s| s.saved))
            .field("audited-pixels", stats.as_ref().map_or(0, |s| s.audited))
            .field("labels-changed", stats.as_ref().map_or(0, |s| s.changed))
            .field("convert-seconds", seconds(|s| s.convert))
            .field("inference-seconds", seconds(|s| s.run))
            .field("merge-seconds", seconds(|s| s.merge))
            .field("latency", latency)
            .build()
    }

    fn model_info(&self) -> Option<gst::Structure> {
        let ensemble = lock(&self.state).ensemble.clone()?;
        let mut info = gst::Structure::new_empty("onnxsegment-models");
        let names = (0..).map(|k| format!("model-{k}")).zip(ensemble.members());
        for (name, member) in names.chain(ensemble.stacker().map(|stacker| ("stacker".to_string(), stacker))) {
            let mut facts = gst::Structure::new_empty("model");
            facts.set("model-file", member.spec.path.display().to_string());
            facts.set("weight", member.weight);
            for (name, value, source) in member.spec.describe().into_iter().chain(member.spec.describe_card()) {
                facts.set(name, format!("{value} ({source})"));
            }
            facts.set("classes", member.output.channels as u32);
            info.set(name, facts);
        }
        Some(info)
    }
}

/// The first pad keeps the stream's id; a further view of it is a stream of its own.
fn own_stream_id(view: View, event: gst::Event) -> gst::Event {
    let gst::EventView::StreamStart(start) = event.view() else {
        return event;
    };
    if view == View::Mask {
        return event;
    }
    let id = format!("{}/{}", start.stream_id(), view.name());
    let mut own = gst::event::StreamStart::builder(&id).flags(start.stream_flags()).seqnum(event.seqnum());
    if let Some(group) = start.group_id() {
        own = own.group_id(group);
    }
    own.build()
}

/// Tiles of a frame take turns in so many sizes: whole ones, and cut at its right, its lower end, or both. Neither is
/// each turn measured, nor does the latency of the stream change with it.
const SIZES_OF_TILES: usize = 4;

fn frame_duration(framerate: gst::Fraction) -> Option<gst::ClockTime> {
    let (n, d) = (framerate.numer(), framerate.denom());
    (n > 0).then(|| gst::ClockTime::SECOND.mul_div_round(d as u64, n as u64)).flatten()
}

/// `caps` in the formats, sizes and rates of `other`, where they have any in common.
fn same_pixels(caps: &gst::Caps, other: &gst::Caps) -> gst::Caps {
    let found = caps.intersect_with_mode(other, gst::CapsIntersectMode::First);
    if found.is_empty() { caps.clone() } else { found }
}

/// `caps` with the sizes and rates of `other`, where those are raw pixels.
fn same_size(caps: &gst::Caps, other: &gst::Caps) -> gst::Caps {
    if other.is_any() {
        return caps.clone();
    }
    const FIELDS: [&str; 4] = ["width", "height", "framerate", "pixel-aspect-ratio"];
    let mut sizes = gst::Caps::new_empty();
    for structure in other.iter() {
        // A mask of either kind comes from frames of either kind.
        for (name, fields) in [("video/x-raw", &FIELDS[..]), (caps::RASTER, &FIELDS[..3])] {
            let mut size = gst::Structure::new_empty(name);
            for field in fields {
                if let Ok(value) = structure.value(*field) {
                    size.set_value(*field, value.clone());
                }
            }
            sizes.merge_structure(size);
        }
    }
    let found = caps.intersect(&sizes);
    if found.is_empty() { caps.clone() } else { found }
}
