//! Members × transforms × samples → passes, and their scheduling over sessions, batches and threads.
//!
//! One budget of threads: as many workers, each running one pass at a time on a session of its own. While fewer
//! passes are at hand than threads, a pass spreads over several. Passes are folded in their order, whichever
//! finishes first, so a result does not depend on timing or on the number of threads.

pub(super) mod agree;
pub(super) mod member;
mod schedule;
mod stacker;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ort::session::RunOptions;
use ort::value::DynValue;

pub use member::Member;

use super::cascade::Cascade;
use super::decide::Decision;
use super::error::{Error, Result};
use super::lock;
use super::memory;
use super::merge::{Domain, Merge, Merged, Merger, Rule, Uncertainty};
use super::pixels::{Conversion, Frame, FrameFormat, Planes};
use super::runtime::{Policy, Provider, SessionOptions};
use super::settings::Settings;
use super::spec::{Link, ModelSpec, OutputShape};
use super::tta::Transform;
use super::views::Palette;
use schedule::Queue;

/// Members, transforms and the rules of their merge, ready to run.
pub struct Ensemble {
    inner: Arc<Inner>,
    workers: Vec<JoinHandle<()>>,
}

struct Inner {
    members: Vec<Member>,
    /// What makes the final scores of the members', where it is not a merge.
    stacker: Option<Member>,
    transforms: Vec<Transform>,
    /// Stochastic passes of each member and transform.
    samples: usize,
    seed: u64,
    rule: Rule,
    /// Channels of the merge; `None` = as many classes as label models show.
    channels: Option<usize>,
    class_names: Option<Vec<String>>,
    decision: Decision,
    cascade: Option<Cascade>,
    /// Of every so many frames one runs in full although it could stop; 0 = none.
    audit: u64,
    skip_constant: bool,
    uncertainty: Uncertainty,
    threads: usize,
    batch: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
    counters: Counters,
    warnings: Vec<String>,
    active: String,
}

/// What has been done, since the ensemble was loaded.
#[derive(Debug, Default)]
struct Counters {
    submitted: AtomicU64,
    frames: AtomicU64,
    passes: AtomicU64,
    saved: AtomicU64,
    audited: AtomicU64,
    changed: AtomicU64,
    convert: AtomicU64,
    run: AtomicU64,
    merge: AtomicU64,
}

/// A reading of what has been done; times are summed over threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    pub frames: u64,
    pub passes: u64,
    /// Passes that did not run because a cascade stopped, or because the frame was constant and known.
    pub saved: u64,
    /// Pixels of frames that ran in full although they could have stopped, and of these the labels that stopping changed.
    pub audited: u64,
    pub changed: u64,
    /// Pixels to model inputs.
    pub convert: Duration,
    /// Inside ONNX Runtime.
    pub run: Duration,
    /// Model outputs to merged scores.
    pub merge: Duration,
}

/// How an ensemble treats frames of one format.
pub struct Plan {
    pub format: FrameFormat,
    /// The distinct conversions that members need.
    conversions: Vec<Conversion>,
    /// For each member, its conversion.
    by_member: Vec<usize>,
    /// Runs that may go on at a time: fewer than threads where memory holds no more.
    runs_at_once: usize,
    /// Memory of frames that are done, for those to come: for each conversion its planes, and scores.
    spare_planes: Vec<Mutex<Vec<Planes>>>,
    spare_scores: Mutex<Vec<Vec<f32>>>,
    /// What the last few constant frames came to.
    constants: Mutex<VecDeque<(Constant, Arc<Merged>)>>,
}

/// The pixel that a frame consists of, and whether its uncertainty was asked for.
type Constant = (Vec<u8>, bool);

/// Constant frames that a plan remembers.
const CONSTANTS: usize = 4;

impl Plan {
    fn size(&self, member: usize) -> (usize, usize) {
        let conversion = &self.conversions[self.by_member[member]];
        (conversion.height, conversion.width)
    }

    /// Keeps as many as frames may run side by side, and one that is shown meanwhile.
    fn keep<T>(&self, spare: &Mutex<Vec<T>>, memory: Option<T>) {
        let mut spare = lock(spare);
        if spare.len() <= self.runs_at_once {
            spare.extend(memory);
        }
    }
}

/// A frame on its way to merged scores.
pub struct Job {
    plan: Arc<Plan>,
    frame: Box<dyn Frame>,
    planes: Vec<OnceLock<Planes>>,
    fold: Mutex<Fold>,
    /// Runs in full although it could stop.
    audited: bool,
    constant: Option<Constant>,
    /// Passes that have run.
    ran: AtomicU64,
    outcome: Mutex<Option<Result<Arc<Merged>>>>,
    done: Condvar,
    cancelled: AtomicBool,
    running: Mutex<Vec<Arc<RunOptions>>>,
}

struct Fold {
    /// The next pass in order.
    next: usize,
    /// Outputs that came before their turn.
    parked: BTreeMap<usize, Output>,
    merger: Option<Merger>,
    /// The members' own means, for a stacker.
    members: Vec<Merger>,
    /// What an audited frame would have stopped with.
    stopped: Option<Merged>,
}

struct Output {
    value: Arc<DynValue>,
    shape: OutputShape,
    slot: usize,
}

impl Job {
    /// Waits for the merged scores.
    ///
    /// # Errors
    /// The first failure of a pass, or [`Error::Cancelled`].
    pub fn wait(&self) -> Result<Arc<Merged>> {
        let mut outcome = lock(&self.outcome);
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            outcome = self.done.wait(outcome).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Withdraws the frame: passes not begun are skipped, those under way are terminated.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.finish(Err(Error::Cancelled));
        for options in lock(&self.running).iter() {
            // Termination can fail only for options that are gone.
            let _ = options.terminate();
        }
    }

    /// The frame that was submitted.
    pub fn frame(&self) -> &dyn Frame {
        &*self.frame
    }

    fn is_over(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst) || lock(&self.outcome).is_some()
    }

    /// Whether the scores are there, so that no further pass is needed.
    fn is_merged(&self) -> bool {
        matches!(*lock(&self.outcome), Some(Ok(_)))
    }

    /// Sets the outcome, unless there is one.
    fn finish(&self, result: Result<Arc<Merged>>) {
        if let (Some(constant), Ok(merged)) = (&self.constant, &result) {
            let mut known = lock(&self.plan.constants);
            if !known.iter().any(|(known, _)| known == constant) {
                known.truncate(CONSTANTS - 1);
                known.push_front((constant.clone(), merged.clone()));
            }
        }
        lock(&self.outcome).get_or_insert(result);
        self.done.notify_all();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        for (planes, spare) in self.planes.iter_mut().zip(&self.plan.spare_planes) {
            self.plan.keep(spare, planes.take());
        }
        let merged = lock(&self.outcome).take().and_then(Result::ok).and_then(Arc::into_inner);
        self.plan.keep(&self.plan.spare_scores, merged.map(|m| m.scores));
    }
}

impl Ensemble {
    /// Opens every member, probes it, and checks that the members fit together.
    ///
    /// # Errors
    /// Everything that can be wrong with settings, files and the runtime; see [`Error`].
    pub fn load(settings: &Settings) -> Result<Ensemble> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = match settings.threads {
            None | Some(0) => cores,
            Some(n) => n.min(256),
        };
        let domain = settings.domain.unwrap_or_default();
        let merge = settings.merge.unwrap_or_default();
        let options = SessionOptions {
            providers: settings.providers.clone().unwrap_or(vec![Provider::Cpu]),
            policy: settings.policy.unwrap_or(Policy::Fallback),
            device_id: settings.device_id.unwrap_or(0),
            optimization: settings.optimization.unwrap_or_default(),
            intra_threads: 1,
            execution: settings.execution.clone(),
            // Also with one sample: whoever states how many wants them random.
            sampled: settings.samples.is_some(),
            bare: None,
        };
        if options.providers.is_empty() {
            return Err(Error::setting("execution-provider", "", "name at least one of cpu, cuda, tensorrt"));
        }

        let mut warnings = Vec::new();
        let mut active = Vec::new();
        let mut members = Vec::new();
        for stated in settings.resolve_members()? {
            let (member, told, provider) = member::open(&stated, &options, threads, domain == Domain::Probability)?;
            for (texts, list) in [(told, &mut warnings), (vec![provider], &mut active)] {
                for text in texts {
                    if !list.contains(&text) {
                        list.push(text);
                    }
                }
            }
            members.push(member);
        }
        let all: Vec<&Member> = members.iter().collect();
        let transforms = agree::on_transforms(&all, settings)?;
        agree::on_size(&all, &transforms)?;
        let (channels, link) = agree::on_classes(&all, domain, settings)?;
        let rule = Rule { merge, domain, link };
        agree::on_merge(&all, rule)?;
        if settings.samples.is_some() && settings.skip_constant == Some(true) {
            let problem = "and samples exclude each other: the samples of two equal frames differ; set one of the two";
            return Err(Error::setting("skip-constant", true, problem));
        }
        let stacker = stacker::open(settings, &options, threads, &members, (channels, rule))?;
        let cascade = agree::on_cascade(channels, rule, settings)?;
        let class_names = agree::on_names(&all, channels, settings)?;
        let classes = channels.map(|c| c.max(2));
        let threshold = agree::on_threshold(&all, settings)?;
        let decision =
            Decision::new(threshold, settings.label_offset.unwrap_or(0), settings.mask_values.clone(), classes)?;
        let on_gpu = lock(&members[0].models).values().any(|m| m.on_gpu());
        let inner = Arc::new(Inner {
            members,
            stacker,
            transforms,
            samples: settings.samples.unwrap_or(1),
            seed: settings.seed.unwrap_or(0),
            rule,
            channels,
            class_names,
            decision,
            cascade,
            audit: settings.cascade_audit.unwrap_or(0).into(),
            skip_constant: settings.skip_constant.unwrap_or(false),
            uncertainty: settings.uncertainty.unwrap_or_default(),
            threads,
            batch: settings.batch_size.unwrap_or(1),
            queue: Mutex::default(),
            changed: Condvar::new(),
            counters: Counters::default(),
            warnings,
            active: active.join(","),
        });
        // A GPU runs one pass at a time; a second worker prepares and folds meanwhile.
        let count = if on_gpu { threads.min(2) } else { threads };
        let mut workers = Vec::new();
        for k in 0..count {
            let inner = inner.clone();
            let worker = std::thread::Builder::new()
                .name(format!("onnxsegment-{k}"))
                .spawn(move || inner.work())
                .map_err(|e| Error::Runtime(format!("a worker thread cannot be started: {e}; lower threads")))?;
            workers.push(worker);
        }
        Ok(Ensemble { inner, workers })
    }

    pub fn members(&self) -> &[Member] {
        &self.inner.members
    }

    /// The model that makes the final scores of the members'.
    pub fn stacker(&self) -> Option<&Member> {
        self.inner.stacker.as_ref()
    }

    pub fn transforms(&self) -> &[Transform] {
        &self.inner.transforms
    }

    /// Number of classes, 2 for one-channel models; `None` when label models do not tell.
    pub fn classes(&self) -> Option<usize> {
        self.inner.channels.map(|c| c.max(2))
    }

    /// Channels of merged scores: 1 for one-channel models; `None` when label models do not tell.
    pub fn channels(&self) -> Option<usize> {
        self.inner.channels
    }

    /// What merged scores are.
    pub fn domain(&self) -> Domain {
        self.inner.rule.domain
    }

    /// How merged logits become probabilities.
    pub fn link(&self) -> Link {
        self.inner.rule.link
    }

    pub fn merge(&self) -> Merge {
        self.inner.rule.merge
    }

    pub fn uncertainty(&self) -> Uncertainty {
        self.inner.uncertainty
    }

    pub fn class_names(&self) -> Option<&[String]> {
        self.inner.class_names.as_deref()
    }

    /// The colours of the classes: as `palette` has them, a text of the user's; else those of the first member whose card has
    /// some; else distinct ones.
    ///
    /// # Errors
    /// A palette that cannot be read.
    pub fn palette(&self, palette: Option<&str>) -> Result<Palette> {
        let told = self.inner.members.iter().find_map(|m| m.spec.colours.as_ref());
        match (palette, told) {
            (Some(text), _) => Palette::parse(text),
            (None, Some(colours)) => Ok(Palette::of_card(&colours.value)),
            (None, None) => Ok(Palette::default()),
        }
    }

    pub fn decision(&self) -> &Decision {
        &self.inner.decision
    }

    /// When a frame stops early.
    pub fn cascade(&self) -> Option<Cascade> {
        self.inner.cascade
    }

    /// Whether frames may take fewer passes than [`Ensemble::passes`].
    pub fn may_save_passes(&self) -> bool {
        self.inner.cascade.is_some() || self.inner.skip_constant
    }

    /// Things that work otherwise than asked, each a sentence.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// The execution providers that really run, the busiest first.
    pub fn active_provider(&self) -> &str {
        &self.inner.active
    }

    /// Stochastic passes of each member and transform, and the seed of their draws; `None` where nothing is drawn.
    pub fn samples(&self) -> Option<(usize, u64)> {
        let drawn = self.inner.members.iter().any(|m| m.spec.dropouts > 0);
        drawn.then_some((self.inner.samples, self.inner.seed))
    }

    /// Passes per frame: members × transforms × samples.
    pub fn passes(&self) -> usize {
        self.inner.passes()
    }

    /// Frames that are gathered for one batch.
    pub fn frames_per_batch(&self) -> usize {
        self.inner.batch.div_ceil(self.inner.passes_of_member())
    }

    /// Frames worth having under way at once: enough to keep every worker busy, no more.
    pub fn frames_in_flight(&self) -> usize {
        // Passes of a frame that may stop run one after the other.
        let side_by_side = if self.inner.cascade.is_some() { 1 } else { self.passes() };
        let running = self.workers.len().div_ceil(side_by_side);
        // One more is ready to begin; where frames run side by side, another makes up for one that ends out of turn.
        (running + 1 + usize::from(running > 1)) * self.frames_per_batch()
    }

    pub fn stats(&self) -> Stats {
        let c = &self.inner.counters;
        let time = |t: &AtomicU64| Duration::from_nanos(t.load(Ordering::Relaxed));
        Stats {
            frames: c.frames.load(Ordering::Relaxed),
            passes: c.passes.load(Ordering::Relaxed),
            saved: c.saved.load(Ordering::Relaxed),
            audited: c.audited.load(Ordering::Relaxed),
            changed: c.changed.load(Ordering::Relaxed),
            convert: time(&c.convert),
            run: time(&c.run),
            merge: time(&c.merge),
        }
    }

    /// The frame size that fixed-size members want, as height × width; `None` where any will do.
    pub fn fixed_size(&self) -> (Option<usize>, Option<usize>) {
        let first = |f: fn(&ModelSpec) -> Option<usize>| self.inner.members.iter().find_map(|m| f(&m.spec));
        (first(|s| s.input.height), first(|s| s.input.width))
    }

    /// Fits the ensemble to frames of one format.
    ///
    /// # Errors
    /// A size or number of bands that a member cannot take, pixels whose scale nothing tells, or too little memory.
    pub fn plan(&self, format: FrameFormat) -> Result<Arc<Plan>> {
        let mut conversions: Vec<Conversion> = Vec::new();
        let mut by_member = Vec::new();
        for member in &self.inner.members {
            let input = &member.spec.input;
            let wanted = [(input.width, format.width), (input.height, format.height)];
            if wanted.iter().any(|(fixed, found)| fixed.is_some_and(|f| f != *found)) {
                let dim = |d: Option<usize>| d.map_or("any".to_string(), |d| d.to_string());
                return Err(Error::Frame(format!(
                    "model-file={}: takes frames of {}x{} (width x height), and the frame is {}x{}; put `videoconvert \
                     ! videoscale` before onnxsegment, or `tilesplit` to cut it into such frames",
                    input.file,
                    dim(input.width),
                    dim(input.height),
                    format.width,
                    format.height
                )));
            }
            let conversion = Conversion::plan(input, &format)?;
            let k = conversions.iter().position(|c| *c == conversion).unwrap_or_else(|| {
                conversions.push(conversion);
                conversions.len() - 1
            });
            by_member.push(k);
        }
        if let Some(stacker) = &self.inner.stacker {
            stacker::check_size(stacker, (format.height, format.width))?;
        }
        let mut plan = Plan {
            format,
            spare_planes: conversions.iter().map(|_| Mutex::default()).collect(),
            spare_scores: Mutex::default(),
            constants: Mutex::default(),
            conversions,
            by_member,
            runs_at_once: self.inner.threads,
        };
        plan.runs_at_once = self.fit_memory(&plan)?;
        Ok(Arc::new(plan))
    }

    /// How many runs the free memory holds at a time.
    ///
    /// # Errors
    /// Not even one: planes, scores, the tensors of a run, and for large frames the model's working memory.
    fn fit_memory(&self, plan: &Plan) -> Result<usize> {
        let Some(available) = memory::available() else {
            return Ok(self.inner.threads);
        };
        let planes = plan.conversions.iter().map(Conversion::size).fold(0, usize::saturating_add);
        let pixels = plan.format.width.saturating_mul(plan.format.height);
        // The merged scores, and those of each member where a stacker takes them.
        let scores = 1 + self.inner.stacker.as_ref().map_or(0, |_| 2 * self.inner.members.len());
        let base = pixels.saturating_mul(4 * self.inner.channels.unwrap_or(2) * scores).saturating_add(planes);
        let per_run = |working: &dyn Fn(&Member) -> Result<usize>| -> Result<usize> {
            let mut most = 0;
            for (m, member) in self.inner.members.iter().enumerate() {
                let (height, width) = plan.size(m);
                let per_pixel = (4 * member.output.channels).saturating_add(working(member)?);
                let tensors = height.saturating_mul(width).saturating_mul(per_pixel);
                most = most.max(plan.conversions[plan.by_member[m]].size().saturating_add(tensors));
            }
            Ok(most.saturating_mul(self.inner.batch))
        };
        let refuse = |run: usize| -> Result<()> {
            if base.saturating_add(run) <= available {
                return Ok(());
            }
            let frame = format!("a {}x{} frame", plan.format.width, plan.format.height);
            Err(memory::not_enough(&frame, base.saturating_add(run), available))
        };
        // What needs no run to know, first: the frame may be too large for any.
        refuse(per_run(&|_| Ok(0))?)?;
        if pixels < member::LARGE {
            return Ok(self.inner.threads);
        }
        let run = per_run(&Member::working_memory)?;
        refuse(run)?;
        Ok(((available - base) / run.max(1)).clamp(1, self.inner.threads))
    }

    /// Gives a frame to the workers. `uncertainty` asks for that view too.
    ///
    /// Frames of a batch wait for company until [`Ensemble::frames_per_batch`] are there, `patience` has passed,
    /// or [`Ensemble::seal`] is called.
    pub fn submit(
        &self,
        plan: &Arc<Plan>,
        frame: Box<dyn Frame>,
        uncertainty: bool,
        patience: Option<Duration>,
    ) -> Arc<Job> {
        let inner = &self.inner;
        let checked = frame.view().check();
        let constant = match &checked {
            Ok(()) if inner.skip_constant => frame.view().constant().map(|pixel| (pixel, uncertainty)),
            _ => None,
        };
        let known = constant.as_ref().and_then(|constant| {
            let known = lock(&plan.constants);
            known.iter().find(|(known, _)| known == constant).map(|(_, merged)| merged.clone())
        });
        let uncertainty = uncertainty.then_some(inner.uncertainty);
        let number = inner.counters.submitted.fetch_add(1, Ordering::Relaxed);
        let size = (plan.format.height, plan.format.width);
        let mean = Rule { merge: Merge::Mean, ..inner.rule };
        let stacked = match inner.stacker {
            Some(_) => inner.members.iter().map(|_| Merger::new(mean, inner.channels, size, None)).collect(),
            None => Vec::new(),
        };
        let scores = lock(&plan.spare_scores).pop().unwrap_or_default();
        let job = Arc::new(Job {
            plan: plan.clone(),
            frame,
            planes: plan.conversions.iter().map(|_| OnceLock::new()).collect(),
            fold: Mutex::new(Fold {
                next: 0,
                parked: BTreeMap::new(),
                merger: Some(Merger::over(scores, inner.rule, inner.channels, size, uncertainty)),
                members: stacked,
                stopped: None,
            }),
            audited: inner.cascade.is_some() && inner.audit > 0 && number.is_multiple_of(inner.audit),
            constant,
            ran: AtomicU64::new(0),
            outcome: Mutex::new(None),
            done: Condvar::new(),
            cancelled: AtomicBool::new(false),
            running: Mutex::default(),
        });
        if let Err(e) = checked {
            job.finish(Err(e));
            return job;
        }
        if let Some(merged) = known {
            inner.counters.frames.fetch_add(1, Ordering::Relaxed);
            inner.counters.saved.fetch_add(self.passes() as u64, Ordering::Relaxed);
            job.finish(Ok(merged));
            return job;
        }
        let mut queue = lock(&inner.queue);
        if queue.gathering.first().is_some_and(|first| !Arc::ptr_eq(&first.plan, plan)) {
            inner.seal(&mut queue);
        }
        queue.gathering.push(job.clone());
        if queue.gathering.len() >= self.frames_per_batch() {
            inner.seal(&mut queue);
        } else if queue.deadline.is_none() {
            queue.deadline = patience.map(|p| Instant::now() + p);
        }
        drop(queue);
        inner.changed.notify_all();
        job
    }

    /// Runs a single frame, and waits for its merged scores.
    ///
    /// # Errors
    /// What [`Ensemble::plan`] and a pass can meet.
    pub fn run(&self, format: FrameFormat, frame: Box<dyn Frame>) -> Result<Arc<Merged>> {
        let plan = self.plan(format)?;
        let job = self.submit(&plan, frame, false, None);
        self.seal();
        job.wait()
    }

    /// Lets an unfilled batch go: no further frame will join it.
    pub fn seal(&self) {
        self.inner.seal(&mut lock(&self.inner.queue));
        self.inner.changed.notify_all();
    }

    /// Measures the time that one frame of a plan takes with all workers busy, by running one pass of each member.
    ///
    /// # Errors
    /// What a pass can meet.
    pub fn measure(&self, plan: &Plan) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for (m, member) in self.inner.members.iter().enumerate() {
            let mut session = member.model(1, self.inner.threads)?.session()?;
            let begin = Instant::now();
            member::probe(&mut session, &member.spec, plan.size(m))?;
            total += begin.elapsed() * self.inner.passes_of_member() as u32;
        }
        if let Some(stacker) = &self.inner.stacker {
            let mut session = stacker.model(1, self.inner.threads)?.session()?;
            let begin = Instant::now();
            member::probe(&mut session, &stacker.spec, (plan.format.height, plan.format.width))?;
            total += begin.elapsed();
        }
        Ok(total / self.workers.len() as u32)
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        let mut queue = lock(&self.inner.queue);
        queue.closed = true;
        let waiting = queue.gathering.drain(..).collect::<Vec<_>>();
        let jobs: Vec<_> = queue.groups.drain(..).flat_map(|g| g.jobs.clone()).chain(waiting).collect();
        drop(queue);
        jobs.iter().for_each(|job| job.cancel());
        self.inner.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has failed its job already.
            let _ = worker.join();
        }
    }
}
