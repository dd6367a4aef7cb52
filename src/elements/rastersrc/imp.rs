//! The element. It opens the raster on the way to PAUSED; its streaming thread then agrees with what follows on tiles, and
//! sends those that a thread of their own has read.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;
use gst_video::{VideoCapsBuilder, VideoFormat};

use super::settings::{Region, SPECS, Settings, Wanted};
use super::{CAT, Grid as GridChoice};
use crate::elements;
use crate::elements::caps::{self, RasterFormat};
use crate::elements::meta::{Plan, RasterInfo, RunAnswer, RunRequest, SourceLabels, TileMeta};
use crate::engine::lock;
use crate::engine::pixels::Sample;
use crate::raster::grid::{Preference, Work};
use crate::raster::source::{Counters, Info, ReadAhead, Reading, SampleType, Source};
use crate::raster::{Cell, Error, Grid, MaskGrid, Rect, Result, Share};

/// Tiles per second of stream time.
const RATE: u64 = 25;
/// Bytes of tiles that are read ahead.
const AHEAD: usize = 64 << 20;
/// GDAL may find much to warn of.
const MOST_WARNINGS: usize = 10;

/// A raster that is open, and what is wanted of it.
struct Open {
    source: Source,
    wanted: Wanted,
    settings: Settings,
}

/// What is sent.
struct Run {
    reader: ReadAhead,
    grid: Grid,
    tiles: Arc<[usize]>,
    format: Format,
    info: RasterInfo,
    /// The tile that the reader began with.
    first: usize,
}

/// How tiles leave.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Video(VideoFormat),
    Raster { sample: Sample, bands: usize },
}

impl Format {
    fn of(info: &Info) -> Self {
        match (info.sample, info.bands) {
            (SampleType::U8, 1) => Format::Video(VideoFormat::Gray8),
            (SampleType::U8, 3) => Format::Video(VideoFormat::Rgb),
            (SampleType::U16, 1) => Format::Video(VideoFormat::Gray16Le),
            (sample, bands) => Format::Raster {
                sample: match sample {
                    SampleType::U8 => Sample::U8,
                    SampleType::U16 => Sample::U16Le,
                    SampleType::I16 => Sample::I16Le,
                    SampleType::F32 => Sample::F32Le,
                },
                bands,
            },
        }
    }

    fn caps(self, area: &Rect) -> gst::Caps {
        let framerate = gst::Fraction::new(RATE as i32, 1);
        match self {
            Format::Video(format) => VideoCapsBuilder::new()
                .format(format)
                .width(area.width as i32)
                .height(area.height as i32)
                .framerate(framerate)
                .build(),
            Format::Raster { sample, bands } => {
                let (width, height) = (area.width as usize, area.height as usize);
                RasterFormat { sample, planar: true, bands, width, height, framerate, uncertainty: false }.to_caps()
            }
        }
    }

    /// Bytes of a tile.
    fn size(self, area: &Rect) -> usize {
        let (width, height) = (area.width as usize, area.height as usize);
        match self {
            Format::Video(VideoFormat::Rgb) => (width * 3).next_multiple_of(4) * height,
            Format::Video(VideoFormat::Gray16Le) => (width * 2).next_multiple_of(4) * height,
            Format::Video(_) => width.next_multiple_of(4) * height,
            Format::Raster { sample, bands } => width * height * bands * sample.size(),
        }
    }
}

/// Locked briefly.
#[derive(Default)]
struct State {
    open: Option<Open>,
    run: Option<Arc<Run>>,
    /// An error was posted, by this element or by the one that refused the run; nothing more comes.
    failed: bool,
    /// The run is planned; without tiles, it is over.
    planned: bool,
    flushing: bool,
    /// The tile to be sent first, where a seek came before the run.
    first: usize,
    /// Memory that tiles without data share, by size.
    nothing: HashMap<usize, gst::Memory>,
    warned: Vec<String>,
}

#[derive(Default)]
pub struct RasterSrc {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    /// `GstRasterInfo` is to be sent before the next buffer.
    info_due: AtomicBool,
    sent: AtomicU64,
    gaps: AtomicU64,
}

#[glib::object_subclass]
impl ObjectSubclass for RasterSrc {
    const NAME: &'static str = "GstRasterSrc";
    type Type = super::RasterSrc;
    type ParentType = gst_base::PushSrc;
}

impl ObjectImpl for RasterSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        &SPECS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(value, pspec);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        lock(&self.settings).get(pspec).unwrap_or_else(|| self.stats().to_value())
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_format(gst::Format::Time);
        obj.set_live(false);
        // The base class sends the segment itself, just before the first buffer: only there can what follows it be sent.
        let element = obj.downgrade();
        obj.src_pad().add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
            if let Some(element) = element.upgrade() {
                element.imp().send_info(pad);
            }
            gst::PadProbeReturn::Ok
        });
    }
}

impl GstObjectImpl for RasterSrc {}

impl ElementImpl for RasterSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Raster source",
                "Source/File",
                "Reads any raster that GDAL opens, of any size, as overlapping tiles",
                "The onnxsegment authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let mut all = caps::video([VideoFormat::Rgb, VideoFormat::Gray8, VideoFormat::Gray16Le]);
            let mut raster = caps::raster(&[Sample::U8, Sample::U16Le, Sample::I16Le, Sample::F32Le]);
            raster.make_mut().structure_mut(0).expect("built with one").set("layout", "planar");
            all.merge(raster);
            let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Always);
            vec![gst::PadTemplate::new("src", direction, presence, &all).expect("a valid name and caps")]
        });
        &TEMPLATES
    }

    fn send_event(&self, event: gst::Event) -> bool {
        !self.is_backwards(&event) && self.parent_send_event(event)
    }

    fn change_state(
        &self,
        change: gst::StateChange,
    ) -> std::result::Result<gst::StateChangeSuccess, gst::StateChangeError> {
        // Not in start(), after whose error the base class posts one of its own.
        if change == gst::StateChange::ReadyToPaused {
            self.open().map_err(|e| {
                elements::post(&*self.obj(), &e);
                gst::StateChangeError
            })?;
        }
        let success = self.parent_change_state(change);
        if change == gst::StateChange::PausedToReady || (change == gst::StateChange::ReadyToPaused && success.is_err())
        {
            let state = std::mem::take(&mut *lock(&self.state));
            drop(state); // waits for the reader
        }
        success
    }
}

impl BaseSrcImpl for RasterSrc {
    fn is_seekable(&self) -> bool {
        true
    }

    fn unlock(&self) -> std::result::Result<(), gst::ErrorMessage> {
        self.set_flushing(true);
        Ok(())
    }

    fn unlock_stop(&self) -> std::result::Result<(), gst::ErrorMessage> {
        self.set_flushing(false);
        Ok(())
    }

    fn negotiate(&self) -> std::result::Result<(), gst::LoggableError> {
        self.begin();
        let run = lock(&self.state).run.clone().filter(|_| !self.obj().src_pad().has_current_caps());
        match run.as_ref().and_then(|run| Some((run, *run.tiles.first()?))) {
            Some((run, first)) => self.set_size(run, &run.grid.tile(first).area),
            None => Ok(()),
        }
    }

    fn event(&self, event: &gst::Event) -> bool {
        !self.is_backwards(event) && self.parent_event(event)
    }

    fn do_seek(&self, segment: &mut gst::Segment) -> bool {
        let Some(segment) = segment.downcast_ref::<gst::ClockTime>() else {
            return false;
        };
        let position = frame_at(segment.position().unwrap_or(gst::ClockTime::ZERO)) as usize;
        let run = {
            let mut state = lock(&self.state);
            state.first = position;
            state.run.clone()
        };
        self.info_due.store(true, Ordering::Relaxed);
        if let Some(run) = run {
            run.reader.seek(position);
        }
        true
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        let run = || lock(&self.state).run.clone();
        match query.view_mut() {
            gst::QueryViewMut::Convert(q) => {
                let (from, to) = q.get();
                match converted(from, to) {
                    Some(converted) => {
                        q.set(from, converted);
                        true
                    }
                    None => false,
                }
            }
            gst::QueryViewMut::Duration(q) => match (run(), q.format()) {
                (Some(run), gst::Format::Time) => {
                    q.set(time_of(run.tiles.len() as u64));
                    true
                }
                (Some(run), gst::Format::Default) => {
                    q.set(gst::format::Default::from_u64(run.tiles.len() as u64));
                    true
                }
                _ => BaseSrcImplExt::parent_query(self, query),
            },
            gst::QueryViewMut::Seeking(q) => match (run(), q.format()) {
                (Some(run), gst::Format::Time) => {
                    q.set(true, gst::ClockTime::ZERO, time_of(run.tiles.len() as u64));
                    true
                }
                (Some(run), gst::Format::Default) => {
                    let last = gst::format::Default::from_u64(run.tiles.len() as u64);
                    q.set(true, gst::format::Default::from_u64(0), last);
                    true
                }
                _ => BaseSrcImplExt::parent_query(self, query),
            },
            _ => BaseSrcImplExt::parent_query(self, query),
        }
    }
}

impl PushSrcImpl for RasterSrc {
    fn create(&self, _buffer: Option<&mut gst::BufferRef>) -> std::result::Result<CreateSuccess, gst::FlowError> {
        self.begin();
        let run = {
            let state = lock(&self.state);
            if state.failed {
                // One error is enough: the base class would post another for any flow but this.
                return Err(gst::FlowError::Flushing);
            }
            state.run.clone().ok_or(gst::FlowError::Eos)?
        };
        let tile = match run.reader.next(run.tiles.len()) {
            Ok(Some(tile)) => tile,
            Ok(None) => return Err(gst::FlowError::Eos),
            Err(e) => {
                self.fail(&e);
                return Err(gst::FlowError::Flushing);
            }
        };
        self.warn(&tile.warnings);
        if run.reader.counters().crowded.load(Ordering::Relaxed) {
            let size = lock(&self.settings).cache_size;
            self.warn(&[format!(
                "a row of tiles needs more than cache-size={size} MiB of pixels, so blocks are read more than once: set a \
                 larger cache-size, or make a tiled copy with `gdal_translate -co TILED=YES`"
            )]);
        }
        let area = tile.tile.area;
        self.set_size(&run, &area).map_err(|e| {
            gst::debug!(CAT, imp = self, "{e}");
            // Nobody takes caps while a seek flushes the stream.
            match self.obj().src_pad().pad_flags().contains(gst::PadFlags::FLUSHING) {
                true => gst::FlowError::Flushing,
                false => gst::FlowError::NotNegotiated,
            }
        })?;

        let gap = tile.pixels.is_none();
        let mut buffer = match tile.pixels {
            Some(pixels) => gst::Buffer::from_mut_slice(pixels),
            None => {
                let size = run.format.size(&area);
                let mut state = lock(&self.state);
                let memory = state.nothing.entry(size).or_insert_with(|| gst::Memory::from_slice(vec![0u8; size]));
                let mut buffer = gst::Buffer::new();
                buffer.get_mut().expect("it is new").append_memory(memory.clone());
                buffer
            }
        };
        let b = buffer.get_mut().expect("it is new");
        if gap {
            b.set_flags(gst::BufferFlags::GAP);
        }
        let k = tile.position as u64;
        b.set_pts(time_of(k));
        b.set_duration(time_of(1));
        b.set_offset(k);
        b.set_offset_end(k + 1);
        let valid = tile.valid.map(glib::Bytes::from_owned);
        let meta = TileMeta { grid: run.grid, index: tile.tile.index, valid };
        meta.attach(b).map_err(|e| {
            gst::error!(CAT, imp = self, "{e}");
            gst::FlowError::Error
        })?;
        gst::log!(CAT, imp = self, "tile {}, {}{:?}", tile.tile.index, if gap { "without data, " } else { "" }, area);
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.gaps.fetch_add(gap as u64, Ordering::Relaxed);
        Ok(CreateSuccess::NewBuffer(buffer))
    }
}

impl RasterSrc {
    /// Opens the raster and checks what needs no pixels.
    fn open(&self) -> Result<()> {
        let settings = lock(&self.settings).clone();
        let wanted = settings.wanted()?;
        let source = Source::open(&wanted.options)?;
        // Both again when the pixels' size is settled.
        self.region(&source, &wanted)?;
        fill(&source, &wanted, None)?;
        let info = source.info();
        gst::info!(CAT, imp = self, "{info:?}, {}", source.fingerprint());
        *lock(&self.state) = State { open: Some(Open { source, wanted, settings }), ..State::default() };
        self.info_due.store(true, Ordering::Relaxed);
        self.sent.store(0, Ordering::Relaxed);
        self.gaps.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Whether an event asks for tiles from the last to the first. To be known before the base class flushes for a seek:
    /// one that it then learns to be impossible leaves the stream without a segment.
    fn is_backwards(&self, event: &gst::Event) -> bool {
        let backwards = matches!(event.view(), gst::EventView::Seek(seek) if seek.get().0 < 0.0);
        if backwards {
            gst::info!(CAT, imp = self, "tiles come in one order only");
        }
        backwards
    }

    fn region(&self, source: &Source, wanted: &Wanted) -> Result<Rect> {
        let info = source.info();
        match wanted.region {
            Region::Whole => Ok(Rect::new(0, 0, info.width, info.height)),
            Region::Window(window) => source.window(window),
            Region::Box(corners) => source.bbox(corners),
        }
    }

    /// Plans the run, once, on the streaming thread.
    fn begin(&self) {
        let open = {
            let mut state = lock(&self.state);
            if state.planned || state.failed {
                return;
            }
            state.open.take()
        };
        let Some(open) = open else { return };
        match self.plan(open) {
            Ok(run) => {
                let mut state = lock(&self.state);
                state.planned = true;
                state.run = run.map(Arc::new);
                // A flush or a seek may have come meanwhile.
                if let Some(run) = &state.run {
                    run.reader.interrupt(state.flushing);
                    if state.first != run.first {
                        run.reader.seek(state.first);
                    }
                }
                drop(state);
                let message = gst::message::DurationChanged::builder().src(&*self.obj()).build();
                let _ = self.obj().post_message(message);
            }
            // Whoever refused has said why.
            Err(Error::Cancelled) => lock(&self.state).failed = true,
            Err(e) => self.fail(&e),
        }
    }

    /// Agrees on tiles with what follows. `None` when all is done; `Cancelled` when the run is refused.
    fn plan(&self, open: Open) -> Result<Option<Run>> {
        let Open { mut source, wanted, settings } = open;
        let obj = self.obj();
        let pad = obj.src_pad();
        let mut plan = Plan::preference();
        let answered = plan.send(pad);
        let preference = plan.preferred().filter(|_| answered).unwrap_or_default();
        gst::debug!(CAT, imp = self, "{preference:?}");
        if preference.labels {
            source = source.as_labels(&wanted.options)?;
        }

        let own = source.info().clone();
        self.warn_of_place(&own);
        let window = self.region(&source, &wanted)?;
        let resampled = self.resample(&mut source, &settings, &preference)?;
        let info = source.info().clone();
        let grid = Grid::fit(info.width, info.height, wanted.stated, &preference)?;
        let mask_grid = (resampled && settings.grid == GridChoice::Source).then(|| MaskGrid {
            georeference: own.georeference,
            window,
            factors: source.factors(),
        });
        let region = match &mask_grid {
            // All that the wanted pixels of the source reach into.
            Some(grid) => source.window(grid.window)?,
            None => self.region(&source, &wanted)?,
        };
        let fill = fill(&source, &wanted, preference.fill.as_deref())?;
        let format = Format::of(&info);
        self.check_format(format, &grid)?;

        let labels = preference
            .labels
            .then(|| SourceLabels { wide: format == Format::Video(VideoFormat::Gray16Le), legend: source.legend() });
        let mut mark = source.fingerprint().clone();
        mark["fill"] = fill.clone().into();
        let request = RunRequest {
            source: mark,
            name: info.location.clone(),
            georeference: info.georeference.clone(),
            grid,
            region,
            mask_grid,
            share: wanted.share.clone(),
            labels: labels.clone(),
        };
        let mut plan = Plan::run(&request);
        let answered = plan.send(pad);
        let answer = plan.answer().filter(|_| answered).unwrap_or_default();
        if answer.refused {
            return Err(Error::Cancelled);
        }
        let work = Work { region, share: wanted.share, lattice: answer.lattice };
        let done: BTreeSet<_> = answer.done.iter().copied().collect();
        let cells: Vec<_> = work.cells()?.into_iter().filter(|cell| !done.contains(cell)).collect();
        if matches!(work.share, Share::None | Share::Empty) {
            self.tell_plan(&source, &request, &answer);
        }
        let tiles: Arc<[usize]> = work.tiles(&grid, &cells, answer.cores).into();
        gst::info!(CAT, imp = self, "{} of {} tiles, region {region:?}", tiles.len(), grid.count());
        if tiles.is_empty() {
            return Ok(None);
        }
        let reading = Reading {
            grid,
            tiles: tiles.clone(),
            fill,
            interleaved: format == Format::Video(VideoFormat::Rgb),
            row_multiple: if matches!(format, Format::Video(_)) { 4 } else { 1 },
            cache: (settings.cache_size as usize) << 20,
            ahead: AHEAD,
        };
        let raster = RasterInfo {
            source: info.location,
            width: info.width,
            height: info.height,
            nodata: info.nodata,
            georeference: info.georeference,
            ground: info.ground,
            legend: labels.and_then(|labels| labels.legend),
        };
        let first = lock(&self.state).first;
        let reader = ReadAhead::start(source, reading, first)?;
        Ok(Some(Run { reader, grid, tiles, format, info: raster, first }))
    }

    /// Tells the application what there is to do, and where the run is begun has the cells finished that have no data.
    fn tell_plan(&self, source: &Source, request: &RunRequest, answer: &RunAnswer) {
        let all = answer.lattice.cells(&request.region);
        let places = |of: &dyn Fn(&Cell) -> bool| -> Vec<usize> { (0..all.len()).filter(|k| of(&all[*k])).collect() };
        let done: BTreeSet<_> = answer.done.iter().copied().collect();
        let is_empty = |cell: &Cell| source.is_empty(answer.lattice.rect(*cell, &request.region));
        let empty = places(&|cell| !done.contains(cell) && is_empty(cell));
        if request.share == Share::Empty && !empty.is_empty() {
            let cells: Vec<Cell> = empty.iter().map(|k| all[*k]).collect();
            if !Plan::without_data(&cells).send(self.obj().src_pad()) {
                return; // who refused has said why
            }
        }
        let plan = serde_json::json!({
            "identity": answer.identity,
            "source": request.source,
            "region": request.region,
            "grid": request.grid,
            "lattice": answer.lattice,
            "cores": answer.cores,
            "cells": all.len(),
            "empty": empty,
            "done": places(&|cell| done.contains(cell)),
        });
        let told = gst::Structure::builder("rastersrc-plan").field("plan", plan.to_string()).build();
        let obj = self.obj();
        let _ = obj.post_message(gst::message::Element::builder(told).src(&*obj).build());
    }

    /// Resamples where the user or the models ask for it; whether it was done.
    fn resample(&self, source: &mut Source, settings: &Settings, preference: &Preference) -> Result<bool> {
        if settings.resolution == 0.0 {
            return Ok(false);
        }
        if settings.resolution > 0.0 && preference.labels {
            let problem = "would average labels, which are no amounts; use resolution=0, and resample the mask by its \
                           nearest pixels, as gdalwarp does";
            return Err(Error::setting("resolution", settings.resolution, problem));
        }
        if settings.resolution > 0.0 {
            return source.resample(settings.resolution);
        }
        let Some(metres) = preference.resolution.filter(|m| *m > 0.0) else { return Ok(false) };
        if source.info().ground.is_none() {
            let location = &source.info().location;
            self.warn(&[format!(
                "location={location}: does not say how large its pixels are, and the models were trained on {metres} m; \
                 its pixels are taken as they are"
            )]);
            return Ok(false);
        }
        source.resample(metres)
    }

    /// A raster that does not say where it lies is as good as any, but its mask will not say so either.
    fn warn_of_place(&self, info: &Info) {
        let g = &info.georeference;
        let missing = match (&g.crs, g.geotransform, g.gcps.is_empty()) {
            (Some(_), Some(_), _) => return,
            (_, None, false) if g.gcp_crs.is_some() => return,
            (None, None, true) => {
                "no coordinate reference system and no geotransform; the mask will not say where it lies"
            }
            (None, ..) => "no coordinate reference system; the mask will have none either",
            (Some(_), None, _) => "a coordinate reference system but no geotransform; the mask will have none either",
        };
        self.warn(&[format!("location={}: has {missing}", info.location)]);
    }

    /// An element that cannot take the tiles gives no reason that users could act on.
    fn check_format(&self, format: Format, grid: &Grid) -> Result<()> {
        let caps = format.caps(&grid.tile(0).area);
        if self.obj().src_pad().peer_query_accept_caps(&caps) {
            return Ok(());
        }
        let next = self.obj().src_pad().peer().and_then(|p| p.parent_element()).map(|e| e.name().to_string());
        Err(Error::setting(
            "bands",
            lock(&self.settings).bands.clone().unwrap_or_default(),
            format!(
                "these tiles leave as {caps}, which {} does not take; choose other bands, or put onnxsegment there",
                next.unwrap_or_else(|| "what follows".into())
            ),
        ))
    }

    /// Tells the size of tiles, unless the pad's caps have it already: those that a flush has kept from going on stay with the
    /// pad all the same, and would go before the next tile.
    fn set_size(&self, run: &Run, area: &Rect) -> std::result::Result<(), gst::LoggableError> {
        let caps = run.format.caps(area);
        self.obj().set_caps(&caps).map_err(|_| gst::loggable_error!(CAT, "{caps} refused"))
    }

    fn send_info(&self, pad: &gst::Pad) {
        if self.info_due.swap(false, Ordering::Relaxed)
            && let Some(run) = lock(&self.state).run.clone()
        {
            pad.push_event(run.info.event());
        }
    }

    fn set_flushing(&self, flushing: bool) {
        let mut state = lock(&self.state);
        state.flushing = flushing;
        if let Some(run) = &state.run {
            run.reader.interrupt(flushing);
        }
    }

    fn stats(&self) -> gst::Structure {
        let run = lock(&self.state).run.clone();
        let none = Counters::default();
        let counters = run.as_ref().map_or(&none, |run| run.reader.counters());
        gst::Structure::builder("rastersrc-stats")
            .field("tiles", run.as_ref().map_or(0, |run| run.tiles.len() as u64))
            .field("sent", self.sent.load(Ordering::Relaxed))
            .field("without-data", self.gaps.load(Ordering::Relaxed))
            .field("blocks-read", counters.read.load(Ordering::Relaxed))
            .field("blocks-read-again", counters.again.load(Ordering::Relaxed))
            .build()
    }

    /// Posts each text once, and not too many.
    fn warn(&self, texts: &[String]) {
        for text in texts {
            {
                let mut state = lock(&self.state);
                if state.warned.len() >= MOST_WARNINGS || state.warned.contains(text) {
                    continue;
                }
                state.warned.push(text.clone());
            }
            gst::element_imp_warning!(self, gst::StreamError::Format, ("{text}"));
        }
    }

    fn fail(&self, error: &Error) {
        if matches!(error, Error::Cancelled) {
            return; // flushing
        }
        lock(&self.state).failed = true;
        elements::post(&*self.obj(), error);
    }
}

/// What takes the place of invalid pixels, per band: the user's values, else the models', else 0.
fn fill(source: &Source, wanted: &Wanted, models: Option<&[f64]>) -> Result<Vec<f64>> {
    let bands = source.info().bands;
    let per_band = |values: &[f64]| match values {
        [one] => Some(vec![*one; bands]),
        _ => (values.len() == bands).then(|| values.to_vec()),
    };
    if let Some(values) = &wanted.fill {
        return per_band(values).ok_or_else(|| {
            let text: Vec<String> = values.iter().map(f64::to_string).collect();
            let problem = format!("names {} values for {bands} bands; use one, or one per band", values.len());
            Error::setting("nodata-fill", text.join(","), problem)
        });
    }
    // Models that take another number of bands will say so themselves.
    Ok(models.and_then(per_band).unwrap_or_else(|| vec![0.0; bands]))
}

/// When a tile is shown.
fn time_of(frame: u64) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(frame * (gst::ClockTime::SECOND.nseconds() / RATE))
}

/// The tile that is shown at a time.
fn frame_at(time: gst::ClockTime) -> u64 {
    time.nseconds() / (gst::ClockTime::SECOND.nseconds() / RATE)
}

/// Converts between times and tiles.
fn converted(from: gst::GenericFormattedValue, to: gst::Format) -> Option<gst::GenericFormattedValue> {
    use gst::GenericFormattedValue::{Default, Time};
    Some(match (from, to) {
        (_, to) if from.format() == to => from,
        (Time(time), gst::Format::Default) => Default(time.map(|t| gst::format::Default::from_u64(frame_at(t)))),
        (Default(frame), gst::Format::Time) => Time(frame.map(|f| time_of(*f))),
        _ => return None,
    })
}
