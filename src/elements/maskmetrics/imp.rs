//! The element. Masks go through on the thread that brings them; each waits there for its truth. Not a GstAggregator:
//! what the tiler and what follows it ask each other (plans, allocation, latency, seeks) has to pass as if this element
//! were not there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::read::{self, Coding, Probability, Reader};
use super::settings::{self, Settings, Wanted};
use super::sides::{Side, Sides, Waiting};
use crate::elements::caps::{self, MappedFrame, Pixels};
use crate::elements::meta::{PlanRef, SegmentationInfo, TileMeta};
use crate::elements::pads;
use crate::engine::error::count;
use crate::engine::lock;
use crate::engine::metrics::{Evaluation, LabelMap, Report};
use crate::raster::Rect;

/// Name of the message at the end of the stream.
const MESSAGE: &str = "GstMaskMetrics";

/// Why a mask is not scored.
type Fault = pads::Fault<String>;

/// What only the prediction's thread knows.
#[derive(Default)]
struct Stream {
    pixels: Option<Pixels>,
    info: Option<SegmentationInfo>,
    scored: Option<Scored>,
    /// Masks after the end of the truth.
    unscored: u64,
    /// Masks after the end of the probabilities.
    uncalibrated: u64,
}

/// From the first scored mask on.
struct Scored {
    evaluation: Evaluation,
    masks: u64,
    predictions: Option<Reader>,
    truths: Option<Reader>,
    tile: Option<LastTile>,
}

/// The tile before this one.
#[derive(Clone, Copy)]
struct LastTile {
    index: usize,
    mosaic: (i64, i64),
}

pub struct MaskMetrics {
    sink: gst::Pad,
    truth: gst::Pad,
    src: gst::Pad,
    probability: Mutex<Option<gst::Pad>>,
    settings: Mutex<Settings>,
    /// What the settings said when the element started.
    wanted: Mutex<Option<Wanted>>,
    stream: Mutex<Stream>,
    sides: Sides,
    report: Mutex<Option<String>>,
    failed: AtomicBool,
}

#[glib::object_subclass]
impl ObjectSubclass for MaskMetrics {
    const NAME: &'static str = "GstOnnxSegmentMaskMetrics";
    type Type = super::MaskMetrics;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = |name| class.pad_template(name).expect("declared below");
        let src = gst::Pad::builder_from_template(&template("src"))
            .event_function(|_, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_event(event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_query(pad, query))
            })
            .build();
        MaskMetrics {
            sink: pads::sink(&template("sink"), Self::chain, Self::sink_event, Self::sink_query),
            truth: pads::sink::<Self>(
                &template("truth"),
                |imp, buffer| imp.side_chain(Side::Truth, buffer),
                |imp, pad, event| imp.side_event(Side::Truth, pad, event),
                |imp, pad, query| imp.side_query(pad, query, &masks()),
            ),
            src,
            probability: Mutex::default(),
            settings: Mutex::default(),
            wanted: Mutex::default(),
            stream: Mutex::default(),
            sides: Sides::default(),
            report: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }
}

impl ObjectImpl for MaskMetrics {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(value, pspec);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "report" => lock(&self.report).to_value(),
            _ => lock(&self.settings).get(pspec),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        for pad in [&self.sink, &self.truth, &self.src] {
            obj.add_pad(pad).expect("a new element has no pads");
        }
    }
}

impl GstObjectImpl for MaskMetrics {}

impl ElementImpl for MaskMetrics {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Mask metrics",
                "Filter/Analyzer/Video",
                "Scores masks against their truth: IoU, Dice, boundary IoU, objects, calibration, with intervals",
                "The onnxsegment authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            use gst::PadDirection::{Sink, Src};
            use gst::PadPresence::{Always, Request};
            let template = |name: &str, direction, presence, caps: &gst::Caps| {
                gst::PadTemplate::new(name, direction, presence, caps).expect("valid names and caps")
            };
            // Wider than what can be read, so that what cannot is an error that says why.
            let pixels = caps::pixels();
            vec![
                template("sink", Sink, Always, &pixels),
                template("truth", Sink, Always, &pixels),
                template("probability", Sink, Request, &pixels),
                template("src", Src, Always, &masks()),
            ]
        });
        &TEMPLATES
    }

    fn request_new_pad(
        &self,
        templ: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        let pad = {
            let mut probability = lock(&self.probability);
            if probability.is_some() {
                return None;
            }
            let pad = pads::sink::<Self>(
                templ,
                |imp, buffer| imp.side_chain(Side::Probability, buffer),
                |imp, pad, event| imp.side_event(Side::Probability, pad, event),
                |imp, pad, query| imp.side_query(pad, query, &probabilities()),
            );
            probability.insert(pad).clone()
        };
        self.sides.set_flushing(Side::Probability, false);
        pad.set_active(true).ok()?;
        self.obj().add_pad(&pad).ok()?;
        Some(pad)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let released = lock(&self.probability).take_if(|own| own == pad);
        if released.is_some() {
            self.sides.set_ended(Side::Probability, true);
            self.sides.set_flushing(Side::Probability, true);
            let _ = pad.set_active(false);
            let _ = self.obj().remove_pad(pad);
        }
    }

    fn change_state(&self, change: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match change {
            gst::StateChange::ReadyToPaused => {
                let wanted = lock(&self.settings).wanted().map_err(|e| {
                    gst::element_imp_error!(self, gst::ResourceError::Settings, ("{e}"));
                    gst::StateChangeError
                })?;
                *lock(&self.wanted) = Some(wanted);
                *lock(&self.stream) = Stream::default();
                *lock(&self.report) = None;
                self.failed.store(false, Ordering::SeqCst);
                self.sides.reset();
            }
            gst::StateChange::PausedToReady => {
                self.sides.set_stopped(true);
                for side in [Side::Truth, Side::Probability] {
                    self.sides.set_flushing(side, true);
                }
            }
            _ => {}
        }
        let success = self.parent_change_state(change);
        if change == gst::StateChange::PausedToReady {
            self.sides.reset();
            *lock(&self.stream) = Stream::default();
        }
        success
    }
}

impl MaskMetrics {
    /// Posts the one element error that a user sees.
    fn post(&self, text: &str) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            gst::element_imp_error!(self, gst::StreamError::Format, ("{text}"));
        }
    }

    // ---- the prediction

    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(gst::FlowError::Error);
        }
        // Nobody waits for the lock while this thread waits for the truth.
        let mut stream = std::mem::take(&mut *lock(&self.stream));
        let result = self.score(&mut stream, &buffer);
        *lock(&self.stream) = stream;
        match result {
            Ok(()) => self.src.push(buffer),
            Err(Fault::Flow(flow)) => Err(flow),
            Err(Fault::Error(text)) => {
                self.post(&text);
                Err(gst::FlowError::Error)
            }
        }
    }

    fn score(&self, stream: &mut Stream, buffer: &gst::Buffer) -> Result<(), Fault> {
        let (Some(pixels), Some(wanted)) = (stream.pixels.clone(), lock(&self.wanted).clone()) else {
            return Err(gst::FlowError::NotNegotiated.into());
        };
        if !self.truth.is_linked() {
            return Err("nothing is linked to the pad truth; link the true masks to it".to_string().into());
        }
        let truth = self.sides.take(Side::Truth)?;
        let calibrates = lock(&self.probability).as_ref().is_some_and(|pad| pad.is_linked());
        let probability = if calibrates { self.sides.take(Side::Probability)? } else { None };
        let Some(truth) = truth else {
            stream.unscored += 1;
            return Ok(());
        };
        if calibrates && probability.is_none() {
            stream.uncalibrated += 1;
        }
        let [predictions, truths] = codings(&wanted, stream.info.as_ref());
        let scored = match &mut stream.scored {
            Some(scored) => scored,
            empty => empty.insert(Scored::new(&wanted, predictions.classes)?),
        };
        let prediction = Waiting { buffer: buffer.clone(), pixels, info: stream.info.clone() };
        scored.add(prediction, truth, probability, predictions, truths, wanted.class_index)
    }

    fn sink_event(&self, _pad: &gst::Pad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStart(_) => self.sides.set_stopped(true),
            gst::EventView::FlushStop(_) => {
                // What was counted comes again, or is not wanted.
                let mut stream = lock(&self.stream);
                *stream = Stream { pixels: stream.pixels.take(), info: stream.info.take(), ..Stream::default() };
                drop(stream);
                self.sides.set_stopped(false);
            }
            gst::EventView::Caps(caps) => match self.mask_caps("prediction", "sink", caps.caps()) {
                Some(pixels) => lock(&self.stream).pixels = Some(pixels),
                None => return false,
            },
            gst::EventView::CustomDownstreamSticky(_) => {
                if let Some(info) = SegmentationInfo::of(&event) {
                    lock(&self.stream).info = Some(info);
                }
            }
            gst::EventView::Eos(_) => {
                if self.failed.load(Ordering::SeqCst) {
                    return false;
                }
                if let Err(text) = self.finish() {
                    self.post(&text);
                    return false;
                }
            }
            _ => {}
        }
        self.src.push_event(event)
    }

    /// Masks of these caps; else the error is posted.
    fn mask_caps(&self, what: &str, pad: &str, caps: &gst::CapsRef) -> Option<Pixels> {
        let pixels = Pixels::from_caps(caps).filter(read::is_mask);
        if pixels.is_none() {
            self.post(&format!(
                "the {what} on pad {pad} comes as {caps}, and masks are one grey band of class values (GRAY8, \
                 GRAY16_LE, GRAY16_BE); put `videoconvert` before the pad"
            ));
        }
        pixels
    }

    fn sink_query(&self, _pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        if prefers_labels(query) {
            return true;
        }
        match query.view_mut() {
            gst::QueryViewMut::Caps(query) => {
                let follows = self.src.peer_query_caps(Some(&masks()));
                query.set_result(&preferred(&masks().intersect(&follows), query.filter()));
                true
            }
            gst::QueryViewMut::AcceptCaps(query) => {
                let accepted = query.caps().is_subset(&caps::pixels());
                query.set_result(accepted);
                true
            }
            _ => self.src.peer_query(query),
        }
    }

    // ---- truth and probabilities

    fn side_chain(&self, side: Side, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        match self.failed.load(Ordering::SeqCst) {
            true => Err(gst::FlowError::Error),
            false => self.sides.put(side, buffer),
        }
    }

    fn side_event(&self, side: Side, _pad: &gst::Pad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStart(_) => self.sides.set_flushing(side, true),
            gst::EventView::FlushStop(_) => self.sides.set_flushing(side, false),
            gst::EventView::StreamStart(_) => self.sides.set_ended(side, false),
            gst::EventView::Eos(_) => self.sides.set_ended(side, true),
            gst::EventView::Caps(caps) => {
                let pixels = match side {
                    Side::Truth => self.mask_caps("truth", side.name(), caps.caps()),
                    Side::Probability => Pixels::from_caps(caps.caps()),
                };
                match pixels {
                    Some(pixels) => self.sides.set_pixels(side, pixels),
                    None => return false,
                }
            }
            gst::EventView::CustomDownstreamSticky(_) => {
                if let Some(info) = SegmentationInfo::of(&event) {
                    self.sides.set_info(side, info);
                }
            }
            _ => {}
        }
        true
    }

    fn side_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef, wanted: &gst::Caps) -> bool {
        if prefers_labels(query) {
            return true;
        }
        match query.view_mut() {
            gst::QueryViewMut::Caps(query) => {
                query.set_result(&preferred(wanted, query.filter()));
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
            gst::QueryViewMut::Drain(_) => true,
            _ => false,
        }
    }

    // ---- the source pad

    fn src_event(&self, event: gst::Event) -> bool {
        match event.view() {
            // A mask that is dropped for being late would pair all that follow with the wrong truth.
            gst::EventView::Qos(_) => true,
            gst::EventView::Seek(seek) => {
                let flushes = seek.get().1.contains(gst::SeekFlags::FLUSH);
                let probability = lock(&self.probability).clone();
                let sides = [(Side::Truth, Some(self.truth.clone())), (Side::Probability, probability)];
                let mut done = true;
                for (side, pad) in sides.into_iter().filter_map(|(side, pad)| Some((side, pad?))) {
                    if !pad.is_linked() {
                        continue;
                    }
                    self.sides.set_stale(side, flushes);
                    if !pad.push_event(event.clone()) {
                        self.sides.set_stale(side, false);
                        done = false;
                    }
                }
                self.sink.push_event(event) && done
            }
            _ => self.sink.push_event(event),
        }
    }

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Caps(query) => {
                let comes = self.sink.peer_query_caps(Some(&masks()));
                query.set_result(&pads::filtered(masks().intersect(&comes), query.filter()));
                true
            }
            gst::QueryViewMut::AcceptCaps(query) => {
                let accepted = query.caps().is_subset(&pad.pad_template_caps());
                query.set_result(accepted);
                true
            }
            _ => self.sink.peer_query(query),
        }
    }

    // ---- the report

    /// Writes and posts the report.
    fn finish(&self) -> Result<(), String> {
        let more = self.truth.is_linked() && self.sides.finish(Side::Truth);
        let stream = lock(&self.stream);
        let Some(scored) = &stream.scored else {
            return Err(match stream.unscored {
                0 => "the prediction ended before its first frame, so there is nothing to score".into(),
                n => format!("the truth ended before its first frame, so that {} cannot be scored", count_masks(n)),
            });
        };
        let Some(wanted) = lock(&self.wanted).clone() else { return Ok(()) };
        let names = wanted.class_names.clone().or_else(|| stream.info.as_ref()?.class_names.clone());
        let mut report = scored.evaluation.report(&names.unwrap_or_default());
        let mut notes = Vec::new();
        if stream.unscored > 0 {
            let scored = count_masks(scored.masks);
            notes.push(format!("the truth ended after {scored}; {} more were not scored", stream.unscored));
        }
        if more {
            notes.push(format!("the prediction ended after {}, and the truth has more", count_masks(scored.masks)));
        }
        if stream.uncalibrated > 0 {
            notes.push(format!("{} came without a probability", count_masks(stream.uncalibrated)));
        }
        if report.pixels == 0 {
            notes.push("no pixel was scored: all are nodata in truth or prediction".into());
        } else if scored.lacks_a_class(&report) {
            notes.push(
                "the truth holds class 0 and nodata only; if what is taken for nodata is a class, say so by \
                 truth-values=0,255 for instance"
                    .into(),
            );
        }
        drop(stream);
        for note in &notes {
            gst::element_imp_warning!(self, gst::StreamError::Failed, ("{note}"));
        }
        report.notes.extend(notes);

        let text = serde_json::to_string_pretty(&report).map_err(|e| format!("the report cannot be written: {e}"))?;
        let table = report.to_string();
        for (setting, location, text) in
            [("location", &wanted.location, &text), ("table-location", &wanted.table_location, &table)]
        {
            let Some(location) = location else { continue };
            crate::files::replace(location, format!("{text}\n").as_bytes()).map_err(|e| {
                format!("{setting}={}: it cannot be written: {}", location.display(), crate::files::words(&e))
            })?;
        }
        gst::info!(CAT, imp = self, "\n{table}");
        let obj = self.obj();
        let message = gst::message::Element::builder(structure(&report, &text)).src(&*obj).build();
        *lock(&self.report) = Some(text);
        let _ = obj.post_message(message);
        obj.notify("report");
        Ok(())
    }
}

impl Scored {
    fn new(wanted: &Wanted, classes: Option<usize>) -> Result<Self, Fault> {
        let mut settings = wanted.evaluation.clone();
        settings.classes = settings.classes.or(classes);
        Ok(Scored { evaluation: Evaluation::new(settings)?, masks: 0, predictions: None, truths: None, tile: None })
    }

    /// Scores a mask.
    fn add(
        &mut self,
        prediction: Waiting,
        truth: Waiting,
        probability: Option<Waiting>,
        predictions: Coding,
        truths: Coding,
        class_index: usize,
    ) -> Result<(), Fault> {
        let tile = tile_of(&prediction, "prediction")?;
        let true_tile = tile_of(&truth, "truth")?;
        let part = match (&tile, &true_tile) {
            (None, None) => None,
            (Some(tile), Some(truth)) => {
                same_tile(tile, truth, "truth")?;
                Some(tile)
            }
            (Some(_), None) => return Err(one_in_tiles("prediction", "truth")),
            (None, Some(_)) => return Err(one_in_tiles("truth", "prediction")),
        };
        if part.is_some() != self.tile.is_some() && self.masks > 0 {
            return Err("tiles and whole frames have come in one stream; score them apart".to_string().into());
        }
        if part.is_none() {
            same_size(&prediction, &truth, "truth")?;
        }
        let which = self.masks + 1;
        let named = |what: &'static str| move |problem| Fault::Error(format!("the {what} {problem} (mask {which})"));
        let predicted =
            labels(&mut self.predictions, predictions, &prediction, tile.as_ref()).map_err(named("prediction"))?;
        let expected = labels(&mut self.truths, truths, &truth, true_tile.as_ref()).map_err(named("truth"))?;
        let confidence = match probability {
            Some(probability) => {
                let own = tile_of(&probability, "probability")?;
                match (part, &own) {
                    (Some(tile), Some(own)) => same_tile(tile, own, "probability")?,
                    (None, None) => same_size(&prediction, &probability, "probability")?,
                    (Some(_), None) => return Err(one_in_tiles("prediction", "probability")),
                    (None, Some(_)) => return Err(one_in_tiles("probability", "prediction")),
                }
                let info = probability.info.clone().or(prediction.info);
                confidence(&probability, own.as_ref(), &predicted, info.as_ref(), class_index)?
            }
            None => None,
        };
        match part {
            None => self.evaluation.add_frame(&predicted, &expected, confidence.as_deref())?,
            Some(tile) => {
                let mosaic = (tile.grid.x.length, tile.grid.y.length);
                if self.tile.is_none_or(|last| last.mosaic != mosaic || last.index >= tile.index) {
                    self.evaluation.begin_mosaic(mosaic.0 as usize, mosaic.1 as usize)?;
                }
                self.tile = Some(LastTile { index: tile.index, mosaic });
                let core = tile.tile().core;
                let at = (core.x as usize, core.y as usize);
                self.evaluation.add_tile(&predicted, &expected, confidence.as_deref(), at)?;
            }
        }
        self.masks += 1;
        Ok(())
    }

    /// Whether the truth looks as if its class were taken for nodata.
    fn lacks_a_class(&self, report: &Report) -> bool {
        self.truths.as_ref().is_some_and(|t| t.saw_nodata)
            && report.classes.iter().all(|class| class.index == 0 || class.truth_pixels == 0)
    }
}

fn count_masks(n: u64) -> String {
    count(n as usize, "mask")
}

/// What the values of prediction and truth mean.
fn codings(wanted: &Wanted, info: Option<&SegmentationInfo>) -> [Coding; 2] {
    let told = |info: &SegmentationInfo| match (info.channels, &info.class_names) {
        (0, names) => names.as_ref().map(Vec::len),
        (channels, _) => Some(channels.max(2)),
    };
    let classes = wanted.evaluation.classes.or_else(|| told(info?));
    let values = wanted.mask_values.clone().or_else(|| info?.mask_values.clone());
    let offset = if values.is_none() { info.map_or(0, |info| info.label_offset) } else { 0 };
    let predictions = Coding { values, offset, classes, nodata: wanted.nodata };
    let truths = match &wanted.truth_values {
        Some(values) => Coding { values: Some(values.clone()), offset: 0, ..predictions.clone() },
        None => predictions.clone(),
    };
    [predictions, truths]
}

fn tile_of(frame: &Waiting, what: &str) -> Result<Option<TileMeta>, Fault> {
    TileMeta::of(&frame.buffer, frame.pixels.width(), frame.pixels.height())
        .map_err(|e| Fault::Error(format!("the {what}: {e}")))
}

fn same_tile(tile: &TileMeta, other: &TileMeta, what: &str) -> Result<(), Fault> {
    let mosaic = |tile: &TileMeta| (tile.grid.x.length, tile.grid.y.length);
    if mosaic(tile) != mosaic(other) {
        let ((w, h), (ow, oh)) = (mosaic(tile), mosaic(other));
        return Err(Fault::Error(format!(
            "the prediction is of a raster of {w} x {h} pixels and the {what} of one of {ow} x {oh}; both must be of one size"
        )));
    }
    let (core, other_core) = (tile.tile().core, other.tile().core);
    if core != other_core {
        let text = |r: Rect| format!("{} x {} pixels at ({}, {})", r.width, r.height, r.x, r.y);
        return Err(Fault::Error(format!(
            "a tile of the prediction covers {} and the tile of the {what} that belongs to it {}; cut both with the same \
             tile-size and overlap, and let every tile through",
            text(core),
            text(other_core)
        )));
    }
    Ok(())
}

fn same_size(prediction: &Waiting, other: &Waiting, what: &str) -> Result<(), Fault> {
    let size = |frame: &Waiting| (frame.pixels.width(), frame.pixels.height());
    if size(prediction) == size(other) {
        return Ok(());
    }
    let ((w, h), (ow, oh)) = (size(prediction), size(other));
    Err(Fault::Error(format!(
        "the prediction on pad sink is {w} x {h} and the {what} on pad {what} {ow} x {oh}; both must be of one size: \
         take them from the same picture, or put `videoscale method=nearest-neighbour` before the pad whose size may change"
    )))
}

fn one_in_tiles(tiled: &str, whole: &str) -> Fault {
    Fault::Error(format!(
        "the {tiled} comes in tiles and the {whole} does not; cut both with the same `rastersrc` or `tilesplit`, or put \
         `tilemerge` before maskmetrics"
    ))
}

/// The part of a frame that counts: all of it, or a tile's own pixels.
fn part(frame: &Waiting, tile: Option<&TileMeta>) -> Rect {
    match tile.map(TileMeta::tile) {
        Some(tile) => tile.core.relative_to(tile.area.x, tile.area.y),
        None => Rect::new(0, 0, frame.pixels.width().into(), frame.pixels.height().into()),
    }
}

/// Whether a tile says that it has no data at all.
fn is_empty(frame: &Waiting, tile: Option<&TileMeta>) -> bool {
    tile.is_some() && frame.buffer.flags().contains(gst::BufferFlags::GAP)
}

/// The class indices of a mask, by the reader of its pad.
fn labels(
    reader: &mut Option<Reader>,
    coding: Coding,
    mask: &Waiting,
    tile: Option<&TileMeta>,
) -> Result<LabelMap, String> {
    let part = part(mask, tile);
    if is_empty(mask, tile) {
        return read::nothing(part);
    }
    let wide = read::is_wide(&mask.pixels);
    let reader = match reader {
        Some(reader) if reader.reads(&coding, wide) => reader,
        other => other.insert(Reader::new(coding, wide)),
    };
    let frame = MappedFrame::new(mask.buffer.clone(), &mask.pixels).ok_or("is smaller than its caps say")?;
    reader.read(&frame, part, tile)
}

/// Each pixel's probability of its label; `None` for a tile without data.
fn confidence(
    probability: &Waiting,
    tile: Option<&TileMeta>,
    labels: &LabelMap,
    info: Option<&SegmentationInfo>,
    class_index: usize,
) -> Result<Option<Vec<f32>>, Fault> {
    if is_empty(probability, tile) {
        return Ok(None);
    }
    let mut reader = Probability::new(&probability.pixels, info, class_index)
        .map_err(|e| format!("the caps of the pad probability do not fit: {e}"))?;
    let frame = MappedFrame::new(probability.buffer.clone(), &probability.pixels)
        .ok_or("a buffer on the pad probability is smaller than its caps say")
        .map_err(String::from)?;
    Ok(Some(reader.of_labels(&frame, part(probability, tile), labels)?))
}

/// Masks: what is read from `sink` and `truth`, and goes out.
fn masks() -> gst::Caps {
    caps::video(caps::GRAY.iter().copied())
}

/// What is read from `probability`.
fn probabilities() -> gst::Caps {
    let mut caps = caps::video(caps::MASK.iter().copied());
    caps.merge(caps::scores());
    caps
}

/// Answers a raster's source that asks how masks are wanted; `false` for every other query.
fn prefers_labels(query: &mut gst::QueryRef) -> bool {
    let Some(mut plan) = PlanRef::of(query).filter(|plan| plan.request().is_none()) else { return false };
    plan.prefer_labels();
    true
}

/// What a caps query on a sink pad hears: what can be read; if that is none of what the peer has, then what it has, so
/// that the caps event can say what is wrong.
fn preferred(readable: &gst::Caps, filter: Option<&gst::CapsRef>) -> gst::Caps {
    let caps = pads::filtered(readable.clone(), filter);
    match filter {
        Some(filter) if caps.is_empty() => {
            filter.to_owned().intersect_with_mode(&caps::pixels(), gst::CapsIntersectMode::First)
        }
        _ => caps,
    }
}

/// The report as a message: the numbers that most ask for, and all of it as JSON.
fn structure(report: &Report, json: &str) -> gst::Structure {
    let mut s = gst::Structure::new_empty(MESSAGE);
    s.set("frames", report.frames);
    s.set("tiles", report.tiles);
    s.set("pixels", report.pixels);
    s.set("ignored-pixels", report.ignored_pixels);
    let mean = &report.mean;
    for (name, score) in [
        ("mean-iou", mean.iou),
        ("mean-dice", mean.dice),
        ("mean-precision", mean.precision),
        ("mean-recall", mean.recall),
        ("mean-boundary-iou", mean.boundary_iou),
        ("mean-object-f1", mean.object_f1),
        ("accuracy", report.accuracy),
        ("kappa", report.kappa),
    ] {
        if let Some(value) = score.value {
            s.set(name, value);
        }
        if let Some((low, high)) = score.interval {
            s.set(format!("{name}-low"), low);
            s.set(format!("{name}-high"), high);
        }
    }
    let present = || report.classes.iter().filter(|class| !class.skipped);
    s.set("class-names", gst::Array::new(present().map(|class| class.name.as_str())));
    s.set("class-iou", gst::Array::new(present().filter_map(|class| class.scores.iou.value)));
    s.set("skipped-classes", gst::Array::new(&report.skipped_classes));
    if let Some(calibration) = &report.calibration {
        for (name, value) in [
            ("expected-calibration-error", calibration.expected_error),
            ("maximum-calibration-error", calibration.maximum_error),
        ] {
            if let Some(value) = value {
                s.set(name, value);
            }
        }
    }
    s.set("report", json);
    s
}
