//! The element: tiles are blended as they come, finished cells go to the writer's thread, and with the last one the
//! rasters are made.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;

use super::CAT;
use super::products::{self, Sampler};
use super::settings::{self, Settings, Wanted};
use super::writer::Writer;
use crate::elements;
use crate::elements::blend;
use crate::elements::caps::{self, MappedFrame, Pixels};
use crate::elements::labels;
use crate::elements::meta::{PlanRef, RasterInfo, RunAnswer, RunModels, RunRequest, SegmentationInfo, TileMeta};
use crate::engine::lock;
use crate::engine::pixels::Frame as _;
use crate::raster::blend::{Blend, Blender, Piece};
use crate::raster::cells::{Cells, Depth, Whole, touches};
use crate::raster::grid::Work;
use crate::raster::parts::{Entry, Kind, Manifest, Outcome, Parts, Product};
use crate::raster::stac;
use crate::raster::{Cell, Error, Georeference, Grid, Rect, Result, Share};

/// A run that has been agreed on.
struct Run {
    wanted: Arc<Wanted>,
    parts: Arc<Parts>,
    grid: Grid,
    work: Work,
    georeference: Georeference,
    info: Option<SegmentationInfo>,
    /// The name of what is read.
    source: String,
    writer: Writer,
    cells: Cells,
    /// For scores, from the first tile with some on.
    blending: Option<Blending>,
    /// The tile that came last.
    last: Option<usize>,
    tiles: u64,
    resumed: usize,
    share: usize,
}

struct Blending {
    blender: Blender,
    sampler: Sampler,
    /// Bands of scores, without the uncertainty's.
    channels: usize,
}

#[derive(Default)]
struct State {
    /// What the settings said when the element started.
    wanted: Option<Arc<Wanted>>,
    pixels: Option<Pixels>,
    info: Option<SegmentationInfo>,
    raster: Option<RasterInfo>,
    run: Option<Run>,
    floats: Vec<f32>,
    /// The run was only looked at.
    is_look: bool,
    failed: bool,
}

/// What an announced run makes, what makes its parts belong together, and what its models tell.
type Announced = (Vec<Product>, Manifest, Option<SegmentationInfo>);

#[derive(Default)]
pub struct RasterSink {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    /// A flush or a state change wants the streaming thread back.
    stopping: AtomicBool,
}

#[glib::object_subclass]
impl ObjectSubclass for RasterSink {
    const NAME: &'static str = "GstOnnxSegmentRasterSink";
    type Type = super::RasterSink;
    type ParentType = gst_base::BaseSink;
}

impl ObjectImpl for RasterSink {
    fn properties() -> &'static [glib::ParamSpec] {
        &settings::SPECS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(value, pspec);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let known = lock(&self.settings).get(pspec);
        known.unwrap_or_else(|| self.stats().to_value())
    }

    fn constructed(&self) {
        self.parent_constructed();
        // A mosaic has no clock.
        self.obj().set_sync(false);
    }
}

impl GstObjectImpl for RasterSink {}

impl ElementImpl for RasterSink {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Raster sink",
                "Sink/File",
                "Blends tiles and writes them as georeferenced rasters, in bounded memory and resumable",
                "The onnxsegment authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            // Scores first, so that blending comes before the decision.
            let mut all = caps::scores();
            all.merge(caps::video(caps::MASK.iter().copied()));
            let template = gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, &all);
            vec![template.expect("valid names and caps")]
        });
        &TEMPLATES
    }

    fn change_state(&self, change: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        // Not in `start`, after whose failure GstBaseSink posts an error of its own.
        if change == gst::StateChange::ReadyToPaused {
            *lock(&self.state) = State::default();
            self.stopping.store(false, Ordering::SeqCst);
            let wanted = lock(&self.settings).wanted().map_err(|e| {
                self.fail(&e);
                gst::StateChangeError
            })?;
            lock(&self.state).wanted = Some(Arc::new(wanted));
        }
        self.parent_change_state(change)
    }
}

impl BaseSinkImpl for RasterSink {
    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        // Without the lock: the writer still writes what it was given.
        let run = std::mem::take(&mut *lock(&self.state)).run;
        if let Some(run) = run {
            let parts = run.parts.clone();
            drop(run);
            parts.abandon();
        }
        Ok(())
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        self.stopping.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        self.stopping.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        let (labels, unit, uncertainty) = {
            let settings = lock(&self.settings);
            let wants = |kind| settings.wants(kind);
            (wants(Kind::Labels), wants(Kind::Probability), wants(Kind::Uncertainty))
        };
        let mut all = caps::scores();
        all.make_mut().set("uncertainty", uncertainty);
        if labels && !unit && !uncertainty {
            all.merge(caps::video(caps::MASK.iter().copied()));
        }
        Some(match filter {
            Some(filter) => all.intersect_with_mode(filter, gst::CapsIntersectMode::First),
            None => all,
        })
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let pixels = Pixels::from_caps(caps).ok_or_else(|| gst::loggable_error!(CAT, "no tiles: {caps}"))?;
        lock(&self.state).pixels = Some(pixels);
        Ok(())
    }

    fn render(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = lock(&self.state);
        if state.failed {
            return Err(gst::FlowError::Error);
        }
        let taken = self.take(&mut state, buffer);
        drop(state);
        match taken {
            Ok(()) => Ok(gst::FlowSuccess::Ok),
            Err(e) => {
                self.fail(&e);
                Err(gst::FlowError::Error)
            }
        }
    }

    fn event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::CustomDownstreamSticky(_) => {
                let mut state = lock(&self.state);
                if let Some(info) = SegmentationInfo::of(&event) {
                    state.info = Some(info);
                } else if let Some(raster) = RasterInfo::of(&event) {
                    state.raster = Some(raster);
                }
            }
            gst::EventView::FlushStop(_) => {
                if let Some(run) = &mut lock(&self.state).run {
                    run.begin_again();
                }
            }
            gst::EventView::Eos(_) => {
                if lock(&self.state).failed {
                    return false;
                }
                match self.preroll(&event).and_then(|()| self.finish()) {
                    Ok(()) => {}
                    Err(Error::Cancelled) => return false,
                    Err(e) => {
                        self.fail(&e);
                        return false;
                    }
                }
            }
            _ => {}
        }
        self.parent_event(event)
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        match PlanRef::of(query) {
            Some(mut plan) => match plan.request() {
                None if plan.without_data().is_some() => {
                    let written = self.without_data(&plan.without_data().unwrap_or_default());
                    written.inspect_err(|e| self.fail(e)).is_ok()
                }
                Some(request) => {
                    let answer = self.answer(&request, plan.models());
                    answer.iter().for_each(|answer| plan.set_answer(answer));
                    answer.is_some()
                }
                // Only models have preferences.
                None => false,
            },
            None => BaseSinkImplExt::parent_query(self, query),
        }
    }
}

impl Run {
    /// After a flush: whatever is not written comes again.
    fn begin_again(&mut self) {
        self.cells.clear();
        self.last = None;
        if let Some(blending) = &mut self.blending {
            blending.blender.clear();
        }
    }

    /// The blender and sampler for scores of so many bands.
    fn blending(&mut self, channels: usize, uncertainty: bool, info: Option<&SegmentationInfo>) -> Result<()> {
        let bands = channels + usize::from(uncertainty);
        if let Some(blending) = &self.blending {
            return match blending.blender.bands() == bands && blending.channels == channels {
                true => Ok(()),
                false => Err(Error::Tile(format!(
                    "the tiles' bands changed from {} to {bands} in the middle of a mosaic; take out what changes them",
                    blending.blender.bands()
                ))),
            };
        }
        let info = self.info.as_ref().or(info).ok_or_else(|| {
            Error::Tile(
                "scores have come, and no GstSegmentationInfo says how they become labels; put `onnxsegment` before \
                 rastersink"
                    .into(),
            )
        })?;
        let sampler = Sampler::new(info, channels, self.parts.products())?;
        self.cells.set_layout(sampler.layout());
        let (lattice, region, wanted) = (self.work.lattice, self.work.region, self.cells.wanted().clone());
        let blender =
            Blender::new(self.grid, self.wanted.blend, bands, move |rect| touches(&lattice, &region, &wanted, rect));
        self.blending = Some(Blending { blender, sampler, channels });
        Ok(())
    }

    /// Takes a tile of scores; `None` for one without data.
    fn take_scores(&mut self, index: usize, scores: Option<&[f32]>) -> Result<()> {
        let Some(Blending { blender, sampler, .. }) = &mut self.blending else {
            return Ok(());
        };
        let (cells, writer) = (&mut self.cells, &self.writer);
        blender.add(index, scores, |piece: Piece<'_>| {
            let samples = sampler.sample(&piece);
            cells.add(&piece.rect, samples.as_deref()).into_iter().try_for_each(|whole| writer.write(whole))
        })
    }

    /// Takes the labels of a tile's core; `None` for a tile without data.
    fn take_labels(&mut self, core: &Rect, values: Option<Vec<u16>>) -> Result<()> {
        let depth = self.parts.products()[0].depth;
        let samples = values.map(|values| products::labels(values, depth)).transpose()?.map(|s| vec![s]);
        let whole = self.cells.add(core, samples.as_deref());
        whole.into_iter().try_for_each(|whole| self.writer.write(whole))
    }

    /// Cells of this process's share that are finished.
    fn done(&self) -> usize {
        self.share - self.cells.wanted().len()
    }
}

impl RasterSink {
    /// Posts the one element error that a user sees.
    fn fail(&self, error: &Error) {
        if !std::mem::replace(&mut lock(&self.state).failed, true) {
            elements::post(&*self.obj(), error);
        }
    }

    /// Agrees on a run that a source announces, or refuses it.
    fn answer(&self, request: &RunRequest, models: Option<RunModels>) -> Option<RunAnswer> {
        let wanted = lock(&self.state).wanted.clone()?;
        let cores = wanted.blend == Blend::Crop;
        let lattice = wanted.lattice;
        let answered = self.manifest(&wanted, request, models).and_then(|(products, manifest, info)| {
            let identity = manifest.identity();
            let done = if request.share == Share::None {
                lock(&self.state).is_look = true;
                Parts::look(products, manifest)?
            } else {
                let (run, done) = self.begin(wanted, request, (products, manifest, info))?;
                lock(&self.state).run = Some(run);
                done
            };
            Ok(RunAnswer { lattice, cores, done, identity, refused: false })
        });
        Some(answered.unwrap_or_else(|e| {
            self.fail(&e);
            RunAnswer { refused: true, ..RunAnswer::default() }
        }))
    }

    /// What an announced run makes, what makes its parts belong together, and what its models tell.
    fn manifest(&self, wanted: &Wanted, request: &RunRequest, models: Option<RunModels>) -> Result<Announced> {
        let wide = models.as_ref().is_some_and(|models| models.wide);
        let (info, settings) = models.map_or((None, serde_json::Value::Null), |m| (Some(m.info), m.settings));
        let label_depth = if wide { Depth::U16 } else { products::label_depth(info.as_ref())? };
        let depth = |kind| if kind == Kind::Labels { label_depth } else { wanted.depth };
        let product = |(kind, path): &(Kind, PathBuf)| Product { kind: *kind, depth: depth(*kind), path: path.clone() };
        let all: Vec<Product> = wanted.outputs.iter().map(product).collect();
        Parts::check_source(&all, &request.name)?;
        if let Some(info) = &info {
            blend::check(wanted.blend, info)?;
            let more = all.iter().find(|product| product.kind != Kind::Labels);
            if let Some(product) = more.filter(|_| info.labels_alone_are_exact()) {
                return Err(Error::setting(
                    product.kind.property(),
                    product.path.display(),
                    "onnxsegment runs with cascade=exact, which keeps labels and nothing else; leave it out, or set \
                     cascade=confident or none",
                ));
            }
        }
        let entries = all.iter().map(|p| Entry { kind: p.kind, depth: p.depth }).collect();
        let (lattice, blend) = (wanted.lattice, wanted.blend.name());
        let mut manifest = Manifest::new(request.grid, request.region, lattice, blend, entries);
        manifest.source = request.source.clone();
        manifest.mask_grid = request.mask_grid.clone();
        manifest.models = serde_json::json!(info.as_ref().map(|info| &info.models));
        manifest.settings = settings;
        for product in &all {
            let look = products::look(product.kind, product.depth, None, info.as_ref(), blend);
            wanted.format.rehearse(product, &look)?;
        }
        Ok((all, manifest, info))
    }

    /// Opens the parts of a run. Returns also the cells of the region that are finished.
    fn begin(&self, wanted: Arc<Wanted>, request: &RunRequest, announced: Announced) -> Result<(Run, Vec<Cell>)> {
        let (products, manifest, info) = announced;
        let lattice = wanted.lattice;
        let work = Work { region: request.region, share: request.share.clone(), lattice };
        let share = work.cells()?;
        let parts = Arc::new(Parts::open(products, manifest, wanted.resume, request.share.is_shared())?);
        let done: BTreeSet<Cell> = parts.done()?.into_iter().collect();
        let to_do: Vec<Cell> = share.iter().copied().filter(|cell| !done.contains(cell)).collect();
        let resumed = share.len() - to_do.len();
        gst::info!(CAT, imp = self, "{} parts to make, {resumed} are there", to_do.len());
        // Labels have one band; scores say theirs with the first tile.
        let layout = parts.products().iter().map(|p| (p.depth, 1)).collect();
        let run = Run {
            wanted,
            writer: self.writer(parts.clone())?,
            parts,
            grid: request.grid,
            work,
            georeference: request.georeference.clone(),
            info,
            source: request.name.clone(),
            cells: Cells::new(lattice, request.region, to_do, layout),
            blending: None,
            last: None,
            tiles: 0,
            resumed,
            share: share.len(),
        };
        Ok((run, done.into_iter().collect()))
    }

    /// What writes parts and tells the application of each.
    fn writer(&self, parts: Arc<Parts>) -> Result<Writer> {
        let (element, manifest) = (self.obj().downgrade(), parts.clone());
        Writer::start(parts, move |whole: &Whole| {
            let Some(obj) = element.upgrade() else { return };
            let Manifest { lattice, region, .. } = manifest.manifest();
            let told = gst::Structure::builder("rastersink-part")
                .field("cell", lattice.place(whole.cell, region) as u64)
                .field("pixels", whole.rect.area() as u64)
                .field("without-data", whole.samples.is_none());
            let _ = obj.post_message(gst::message::Element::builder(told.build()).src(&obj).build());
        })
    }

    /// A run that nobody has announced: what its first tile tells.
    fn unannounced(&self, state: &State, wanted: Arc<Wanted>, meta: &TileMeta) -> Result<(Run, Vec<Cell>)> {
        let raster = state.raster.clone().unwrap_or_default();
        let request = RunRequest {
            source: serde_json::Value::Null,
            name: raster.source,
            georeference: raster.georeference,
            grid: meta.grid,
            region: meta.grid.bounds(),
            mask_grid: None,
            share: Share::default(),
            labels: None,
        };
        let models = state.info.clone().map(|info| RunModels { settings: info.settings(), info, wide: false });
        let announced = self.manifest(&wanted, &request, models)?;
        self.begin(wanted, &request, announced)
    }

    /// Finishes cells that have no data.
    fn without_data(&self, cells: &[Cell]) -> Result<()> {
        let parts = lock(&self.state).run.as_ref().map(|run| run.parts.clone());
        parts.map_or(Ok(()), |parts| parts.write_without_data(cells))
    }

    /// Takes a tile.
    fn take(&self, state: &mut State, buffer: &gst::Buffer) -> Result<()> {
        let pixels = state.pixels.clone().ok_or_else(|| Error::Tile("a tile has come before its caps".into()))?;
        let meta = TileMeta::of(buffer, pixels.width(), pixels.height())?.ok_or_else(|| {
            Error::Tile(
                "a buffer without GstRasterTileMeta has come, and rastersink cannot know where it belongs; read with \
                 `rastersrc` or put `tilesplit` before the models, and take out what drops metas on the way"
                    .into(),
            )
        })?;
        if state.run.is_none()
            && let Some(wanted) = state.wanted.clone()
        {
            state.run = Some(self.unannounced(state, wanted, &meta)?.0);
        }
        let State { run: Some(run), floats, info, .. } = state else {
            return Ok(());
        };
        if run.grid != meta.grid {
            return Err(Error::Tile(format!(
                "a tile of another grid has come, {:?} where the run has {:?}; one rastersink takes one raster",
                meta.grid, run.grid
            )));
        }
        if run.last.is_some_and(|last| meta.index <= last) {
            return Err(Error::Tile(format!(
                "tile {} of {} has come after tile {}; let tiles through in their order",
                meta.index + 1,
                meta.grid.count(),
                run.last.unwrap_or_default() + 1
            )));
        }
        run.last = Some(meta.index);
        run.tiles += 1;
        let tile = meta.tile();
        let empty = buffer.flags().contains(gst::BufferFlags::GAP);
        let unreadable = || Error::Tile(format!("a buffer of {} bytes cannot be read as its caps say", buffer.size()));
        match &pixels {
            Pixels::Raster(format) => {
                run.blending(format.bands - usize::from(format.uncertainty), format.uncertainty, info.as_ref())?;
                if empty {
                    return run.take_scores(tile.index, None);
                }
                let map = buffer.map_readable().map_err(|_| unreadable())?;
                let bytes = map.get(..pixels.size()).ok_or_else(unreadable)?;
                run.take_scores(tile.index, Some(labels::floats(bytes, floats)))
            }
            Pixels::Video(_) if empty => run.take_labels(&tile.core, None),
            Pixels::Video(_) => {
                let frame = MappedFrame::new(buffer.clone(), &pixels).ok_or_else(unreadable)?;
                let core = tile.core.relative_to(tile.area.x, tile.area.y);
                let values = labels::of_part(&frame.view(), &core, true).ok_or_else(unreadable)?;
                run.take_labels(&tile.core, Some(values))
            }
        }
    }

    /// Waits until the pipeline plays: a paused one makes no rasters.
    ///
    /// # Errors
    /// [`Error::Cancelled`] on a flush or a stop.
    fn preroll(&self, event: &gst::EventRef) -> Result<()> {
        // SAFETY: the element and the event live until the end of the call, which only looks whether the event is a
        // buffer; GstBaseSink holds its preroll lock while it hands serialised events over, as the call demands.
        let flow = unsafe {
            gst_base::ffi::gst_base_sink_do_preroll(
                self.obj().upcast_ref::<gst_base::BaseSink>().as_ptr(),
                event.as_ptr().cast_mut().cast(),
            )
        };
        if flow == gst::ffi::GST_FLOW_OK { Ok(()) } else { Err(Error::Cancelled) }
    }

    /// Whether to go on making rasters. A pause is waited for.
    fn goes_on(&self) -> bool {
        while self.stopping.load(Ordering::SeqCst) {
            if self.obj().wait_preroll().is_err() {
                return false;
            }
        }
        true
    }

    /// At the end of the stream: writes what is left, and makes the rasters when every part is there.
    fn finish(&self) -> Result<()> {
        // Taken out, so that statistics need not wait.
        if lock(&self.state).is_look {
            return Ok(());
        }
        let Some(mut run) = lock(&self.state).run.take() else {
            return Err(Error::Tile(
                "the stream ended before any tile came, and nothing was written; put `rastersrc` or `tilesplit` before \
                 rastersink"
                    .into(),
            ));
        };
        let finished = self.finish_run(&mut run);
        lock(&self.state).run = Some(run);
        finished
    }

    fn finish_run(&self, run: &mut Run) -> Result<()> {
        run.writer.finish()?;
        let folder = run.parts.folder().display().to_string();
        if !run.wanted.finish {
            let (done, total) = (run.parts.done()?.len(), run.parts.total());
            gst::info!(CAT, imp = self, "finish=false: {done} of {total} parts are in {folder}");
            self.tell("parts", done, total);
            return Ok(());
        }
        let look = |kind: Kind, bands: Option<usize>| {
            let depth = run.parts.products().iter().find(|p| p.kind == kind).map_or(Depth::U8, |p| p.depth);
            products::look(
                kind,
                depth,
                bands,
                run.info.as_ref().or(lock(&self.state).info.as_ref()),
                run.wanted.blend.name(),
            )
        };
        let mut told = 0;
        let mut progress = |done: f64| {
            let percent = (done * 100.0) as usize;
            if percent > told {
                told = percent;
                self.tell("finishing", percent, 100);
            }
            self.goes_on()
        };
        match run.parts.finish(&run.georeference, &run.wanted.format, &look, &mut progress)? {
            Outcome::Finished => {
                if run.wanted.stac_item {
                    self.describe(run)?;
                }
                self.tell("finished", run.parts.total(), run.parts.total());
                Ok(())
            }
            Outcome::Missing { missing, total } => {
                // Other shards may be under way; else a run was stopped.
                let done = total - missing;
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::NotFound,
                    ("{done} of {total} parts are in {folder}; run again to resume")
                );
                Ok(())
            }
        }
    }

    /// Writes the STAC item of rasters that are there.
    fn describe(&self, run: &Run) -> Result<()> {
        let info = run.info.clone().or_else(|| lock(&self.state).info.clone());
        let about = products::about(&run.source, info.as_ref(), run.wanted.blend.name());
        if let stac::Outcome::Kept(path) = stac::write(run.parts.products(), &about)? {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::OpenWrite,
                (
                    "stac-item=true: {} is there and was not made by this program, so it is left as it is, and the rasters have \
                     no item; move it away, name the rasters otherwise, or set stac-item=false",
                    path.display()
                )
            );
        }
        Ok(())
    }

    /// Tells the application how far it is.
    fn tell(&self, stage: &str, done: usize, total: usize) {
        let told = gst::Structure::builder("rastersink-progress")
            .field("stage", stage)
            .field("done", done as u64)
            .field("total", total as u64)
            .build();
        let obj = self.obj();
        let _ = obj.post_message(gst::message::Element::builder(told).src(&*obj).build());
    }

    fn stats(&self) -> gst::Structure {
        let state = lock(&self.state);
        let of = |f: fn(&Run) -> u64| state.run.as_ref().map_or(0, f);
        gst::Structure::builder("rastersink-stats")
            .field("tiles", of(|run| run.tiles))
            .field("parts-done", of(|run| run.done() as u64))
            .field("parts-total", of(|run| run.share as u64))
            .field("parts-resumed", of(|run| run.resumed as u64))
            .build()
    }
}
