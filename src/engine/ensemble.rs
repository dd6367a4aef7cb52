//! Members × transforms → passes, and their scheduling over sessions, batches and threads.
//!
//! One budget of threads: as many workers, each running one pass at a time on a session of its own. While fewer
//! passes are at hand than threads, a pass spreads over several. Passes are folded in their order, whichever
//! finishes first, so a result does not depend on timing or on the number of threads.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ort::session::{RunOptions, Session};
use ort::value::DynValue;

use super::decide::{Decision, Threshold};
use super::error::{Error, Result, count};
use super::lock;
use super::merge::{Domain, Merge, Merged, Merger, Rule, Uncertainty};
use super::onnx::OnnxFile;
use super::pixels::{Conversion, Frame, FrameFormat, Planes};
use super::runtime::{self, Model, Policy, Provider, SessionOptions};
use super::settings::{Fact, MemberSettings, Named, Settings, Source};
use super::spec::{self, Form, Link, ModelSpec, OutputShape};
use super::stage::{Slot, Stage};
use super::tta::Transform;

/// One model of the ensemble.
pub struct Member {
    pub spec: ModelSpec,
    pub weight: f32,
    /// What the probe run found.
    pub output: OutputShape,
    sha256: OnceLock<Result<String>>,
    options: SessionOptions,
    /// The opened model by the number of threads that a run spreads over.
    models: Mutex<BTreeMap<usize, Arc<Model>>>,
    working_memory: Mutex<Option<usize>>,
}

impl Member {
    /// SHA-256 of the model's file and of its weights' files, in hexadecimal. Computed when first asked for.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub fn sha256(&self) -> Result<String> {
        self.sha256.get_or_init(|| OnnxFile::sha256(&self.spec.path)).clone()
    }

    fn model(&self, threads: usize, most: usize) -> Result<Arc<Model>> {
        let mut models = lock(&self.models);
        if let Some(model) = models.get(&threads) {
            return Ok(model.clone());
        }
        let options = SessionOptions { intra_threads: threads, ..self.options.clone() };
        let model = Model::open(&self.spec.path, &options, most)?;
        models.insert(threads, model.clone());
        Ok(model)
    }
}

/// Frames of as many pixels or more may need more memory than there is, so that the models' own is measured first.
const LARGE: usize = 16 << 20;

impl Member {
    /// Working memory of a run on the CPU, in bytes per pixel: how much more the process holds after a large run than
    /// after a small one, on a session of its own. 0 where that does not apply: on GPUs and for models of fixed size.
    ///
    /// # Errors
    /// What opening or running the model can meet.
    fn working_memory(&self) -> Result<usize> {
        let mut known = lock(&self.working_memory);
        if let Some(known) = *known {
            return Ok(known);
        }
        let model = self.model(1, 1)?;
        let input = &self.spec.input;
        let mut bytes = 0;
        if !model.on_gpu() && input.height.is_none() && input.width.is_none() {
            let mut session = model.separate_session()?;
            let side = |n: usize| n.next_multiple_of(input.size_multiple.value);
            let (small, large) = (side(256), side(1024));
            let mut held = [0; 2];
            for (held, side) in held.iter_mut().zip([small, large]) {
                probe(&mut session, &self.spec, (side, side))?;
                *held = resident_memory().unwrap_or(0);
            }
            let grown = held[1].saturating_sub(held[0]).div_ceil((large * large - small * small).max(1));
            // The arena takes memory in growing steps, of which the last is not filled; half as much again has been
            // seen. A process that is killed says less than one that refuses.
            bytes = grown + grown / 2;
        }
        *known = Some(bytes);
        Ok(bytes)
    }
}

/// Members, transforms and the rules of their merge, ready to run.
pub struct Ensemble {
    inner: Arc<Inner>,
    workers: Vec<JoinHandle<()>>,
}

struct Inner {
    members: Vec<Member>,
    transforms: Vec<Transform>,
    rule: Rule,
    /// Channels of the merge; `None` = as many classes as label models show.
    channels: Option<usize>,
    class_names: Option<Vec<String>>,
    decision: Decision,
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
    frames: AtomicU64,
    passes: AtomicU64,
    convert: AtomicU64,
    run: AtomicU64,
    merge: AtomicU64,
}

/// A reading of what has been done; times are summed over threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    pub frames: u64,
    pub passes: u64,
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
}

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

    /// Sets the outcome, unless there is one.
    fn finish(&self, result: Result<Arc<Merged>>) {
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

/// Frames that go through the models together, and the runs that this takes.
struct Group {
    jobs: Vec<Arc<Job>>,
    runs: Vec<Run>,
    progress: Mutex<Progress>,
}

struct Progress {
    /// The next run to begin.
    next: usize,
    /// Runs finished, from the first on without a gap.
    frontier: usize,
    finished: Vec<bool>,
}

/// One call of ONNX Runtime: a member on some (frame, pass) inputs.
struct Run {
    member: usize,
    /// Index of the job in its group, and of the pass in the job's order.
    slots: Vec<(usize, usize)>,
    batch: usize,
}

#[derive(Default)]
struct Queue {
    groups: VecDeque<Arc<Group>>,
    /// Frames that wait for company.
    gathering: Vec<Arc<Job>>,
    deadline: Option<Instant>,
    running: usize,
    closed: bool,
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
        let transforms = settings.tta.clone().unwrap_or(vec![Transform::Identity]);
        let domain = settings.domain.unwrap_or_default();
        let merge = settings.merge.unwrap_or_default();
        let options = SessionOptions {
            providers: settings.providers.clone().unwrap_or(vec![Provider::Cpu]),
            policy: settings.policy.unwrap_or(Policy::Fallback),
            device_id: settings.device_id.unwrap_or(0),
            optimization: settings.optimization.unwrap_or_default(),
            intra_threads: 1,
            execution: settings.execution.clone(),
        };
        if options.providers.is_empty() {
            return Err(Error::setting("execution-provider", "", "name at least one of cpu, cuda, tensorrt"));
        }

        let mut warnings = Vec::new();
        let mut active = Vec::new();
        let mut members = Vec::new();
        for stated in settings.resolve_members()? {
            let (member, warning, provider) = open(&stated, &options, threads)?;
            for (text, list) in [(warning, &mut warnings), (Some(provider), &mut active)] {
                list.extend(text.filter(|text| !list.contains(text)));
            }
            warnings.extend(activation_warning(&member));
            members.push(member);
        }
        let all: Vec<&Member> = members.iter().collect();
        agree_on_size(&all, &transforms)?;
        let (channels, link) = agree_on_classes(&all, domain, settings)?;
        let rule = Rule { merge, domain, link };
        agree_on_merge(&all, rule)?;
        let class_names = agree_on_names(&all, channels, settings)?;
        let classes = channels.map(|c| c.max(2));
        let threshold = agree_on_threshold(&all, settings)?;
        let decision =
            Decision::new(threshold, settings.label_offset.unwrap_or(0), settings.mask_values.clone(), classes)?;
        let on_gpu = lock(&members[0].models).values().any(|m| m.on_gpu());
        let inner = Arc::new(Inner {
            members,
            transforms,
            rule,
            channels,
            class_names,
            decision,
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

    pub fn decision(&self) -> &Decision {
        &self.inner.decision
    }

    /// Things that work otherwise than asked, each a sentence.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// The execution providers that really run, the busiest first.
    pub fn active_provider(&self) -> &str {
        &self.inner.active
    }

    /// Passes per frame: members × transforms.
    pub fn passes(&self) -> usize {
        self.inner.members.len() * self.inner.transforms.len()
    }

    /// Frames that are gathered for one batch.
    pub fn frames_per_batch(&self) -> usize {
        self.inner.batch.div_ceil(self.inner.transforms.len())
    }

    /// Frames worth having under way at once: enough to keep every worker busy, no more.
    pub fn frames_in_flight(&self) -> usize {
        let running = self.workers.len().div_ceil(self.passes());
        // One more is ready to begin; where frames run side by side, another makes up for one that ends out of turn.
        (running + 1 + usize::from(running > 1)) * self.frames_per_batch()
    }

    pub fn stats(&self) -> Stats {
        let c = &self.inner.counters;
        let time = |t: &AtomicU64| Duration::from_nanos(t.load(Ordering::Relaxed));
        Stats {
            frames: c.frames.load(Ordering::Relaxed),
            passes: c.passes.load(Ordering::Relaxed),
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
        let mut plan = Plan {
            format,
            spare_planes: conversions.iter().map(|_| Mutex::default()).collect(),
            spare_scores: Mutex::default(),
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
        let Some(available) = available_memory() else {
            return Ok(self.inner.threads);
        };
        let planes = plan.conversions.iter().map(Conversion::size).fold(0, usize::saturating_add);
        let pixels = plan.format.width.saturating_mul(plan.format.height);
        let base = pixels.saturating_mul(4 * self.inner.channels.unwrap_or(2)).saturating_add(planes);
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
            Err(not_enough_memory(&frame, base.saturating_add(run), available))
        };
        // What needs no run to know, first: the frame may be too large for any.
        refuse(per_run(&|_| Ok(0))?)?;
        if pixels < LARGE {
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
        let uncertainty = uncertainty.then_some(inner.uncertainty);
        let size = (plan.format.height, plan.format.width);
        let scores = lock(&plan.spare_scores).pop().unwrap_or_default();
        let job = Arc::new(Job {
            plan: plan.clone(),
            frame,
            planes: plan.conversions.iter().map(|_| OnceLock::new()).collect(),
            fold: Mutex::new(Fold {
                next: 0,
                parked: BTreeMap::new(),
                merger: Some(Merger::over(scores, inner.rule, inner.channels, size, uncertainty)),
            }),
            outcome: Mutex::new(None),
            done: Condvar::new(),
            cancelled: AtomicBool::new(false),
            running: Mutex::default(),
        });
        if let Err(e) = checked {
            job.finish(Err(e));
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
            probe(&mut session, &member.spec, plan.size(m))?;
            total += begin.elapsed() * self.inner.transforms.len() as u32;
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

impl Inner {
    fn seal(&self, queue: &mut Queue) {
        queue.deadline = None;
        if queue.gathering.is_empty() {
            return;
        }
        let jobs = std::mem::take(&mut queue.gathering);
        let runs = self.runs(&jobs[0].plan, jobs.len());
        let finished = vec![false; runs.len()];
        let progress = Mutex::new(Progress { next: 0, frontier: 0, finished });
        queue.groups.push_back(Arc::new(Group { jobs, runs, progress }));
    }

    /// The runs of a group of frames, member by member. Inputs of one run have the same size: on frames that are
    /// not square, transforms that swap the axes go apart.
    fn runs(&self, plan: &Plan, jobs: usize) -> Vec<Run> {
        let mut runs = Vec::new();
        for (m, member) in self.members.iter().enumerate() {
            let (height, width) = plan.size(m);
            let batch = member.spec.input.batch.unwrap_or(self.batch);
            let swaps = |t: &Transform| height != width && t.swaps_axes();
            for swapped in [false, true] {
                let passes = self.transforms.iter().enumerate().filter(|(_, t)| swaps(t) == swapped);
                let slots: Vec<_> =
                    passes.flat_map(|(k, _)| (0..jobs).map(move |job| (job, m * self.transforms.len() + k))).collect();
                for slots in slots.chunks(batch) {
                    runs.push(Run {
                        member: m,
                        slots: slots.to_vec(),
                        batch: member.spec.input.batch.unwrap_or(slots.len()),
                    });
                }
            }
        }
        runs
    }

    fn work(&self) {
        let mut stage = Stage::default();
        while let Some((group, run, threads)) = self.next() {
            let outcome = catch_unwind(AssertUnwindSafe(|| self.run(&group, run, threads, &mut stage)));
            let error = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some(e),
                Err(panic) => {
                    stage = Stage::default();
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                    Some(Error::Runtime(format!(
                        "internal error in a pass ({}); please report it",
                        text.unwrap_or_else(|| "no message".into())
                    )))
                }
            };
            if let Some(error) = error {
                group.jobs.iter().for_each(|job| job.finish(Err(error.clone())));
            }
            let mut progress = lock(&group.progress);
            progress.finished[run] = true;
            while progress.finished.get(progress.frontier) == Some(&true) {
                progress.frontier += 1;
            }
            drop(progress);
            lock(&self.queue).running -= 1;
            self.changed.notify_all();
        }
    }

    /// Waits for a run to do; also says over how many threads it may spread. `None` when the ensemble closes.
    fn next(&self) -> Option<(Arc<Group>, usize, usize)> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return None;
            }
            let now = Instant::now();
            if queue.deadline.is_some_and(|d| d <= now) {
                self.seal(&mut queue);
            }
            if let Some((group, run)) = self.pick(&mut queue) {
                queue.running += 1;
                // Frames of few runs may leave threads idle: each run then spreads over its share of them. Sessions
                // are kept by their number of threads, so only powers of two are used.
                let waiting: usize = queue.groups.iter().map(|g| g.runs.len() - lock(&g.progress).next).sum();
                let at_once = group.jobs[0].plan.runs_at_once;
                let share = match group.runs.len().min(at_once) < self.threads {
                    true => (self.threads / (queue.running + waiting).min(at_once)).max(1),
                    false => 1,
                };
                return Some((group, run, 1 << share.ilog2()));
            }
            queue = match queue.deadline {
                None => self.changed.wait(queue).unwrap_or_else(|e| e.into_inner()),
                Some(deadline) => {
                    let result = self.changed.wait_timeout(queue, deadline - now);
                    result.unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
    }

    /// The first run that may begin. A run too far ahead of the oldest unfinished one waits, so that few outputs
    /// are parked.
    fn pick(&self, queue: &mut Queue) -> Option<(Arc<Group>, usize)> {
        for k in 0..queue.groups.len() {
            let group = queue.groups[k].clone();
            let at_once = group.jobs[0].plan.runs_at_once;
            let mut progress = lock(&group.progress);
            if queue.running >= at_once || progress.next >= progress.frontier + 2 * at_once {
                continue;
            }
            let run = progress.next;
            progress.next += 1;
            let begun = progress.next == group.runs.len();
            drop(progress);
            if begun {
                queue.groups.remove(k);
            }
            return Some((group, run));
        }
        None
    }

    fn run(&self, group: &Group, run: usize, threads: usize, stage: &mut Stage) -> Result<()> {
        let run = &group.runs[run];
        if run.slots.iter().all(|(job, _)| group.jobs[*job].is_over()) {
            return Ok(());
        }
        let member = &self.members[run.member];
        let plan = &group.jobs[0].plan;
        let conversion = plan.by_member[run.member];
        let size = plan.size(run.member);
        let slots: Vec<Slot> = run
            .slots
            .iter()
            .map(|(job, pass)| Slot {
                planes: self.planes(&group.jobs[*job], conversion),
                transform: self.transforms[pass % self.transforms.len()],
            })
            .collect();
        let begin = Instant::now();
        let failed = |e: ort::Error| cannot_run(&member.spec, size, e);
        let input = stage.prepare(&member.spec, &slots, run.batch, size).map_err(failed)?;
        self.count(&self.counters.convert, begin);

        let options = Arc::new(RunOptions::new().map_err(failed)?);
        let jobs = || run.slots.iter().map(|(job, _)| &group.jobs[*job]);
        jobs().for_each(|job| lock(&job.running).push(options.clone()));
        let result = (|| {
            if jobs().all(|job| job.is_over()) {
                return Ok(None);
            }
            let mut session = member.model(threads, self.threads)?.session()?;
            let begin = Instant::now();
            let mut outputs = session.run_with_options([input], &options).map_err(failed)?;
            self.count(&self.counters.run, begin);
            Ok(outputs.remove(&member.spec.output.name))
        })();
        jobs().for_each(|job| lock(&job.running).retain(|o| !Arc::ptr_eq(o, &options)));
        let value = match result {
            Ok(Some(value)) => Arc::new(value),
            Ok(None) => return Ok(()),
            Err(_) if jobs().all(|job| job.is_over()) => return Ok(()), // terminated
            Err(e) => return Err(e),
        };
        let shape = output_shape(&member.spec, slots[0].transform.size(size), run.batch, &value)?;
        if shape.channels != member.output.channels {
            return Err(Error::model(
                &member.spec.path,
                format!("gave {} channels on this frame and {} before", shape.channels, member.output.channels),
            ));
        }
        self.counters.passes.fetch_add(run.slots.len() as u64, Ordering::Relaxed);
        for (slot, (job, pass)) in run.slots.iter().enumerate() {
            let output = Output { value: value.clone(), shape, slot };
            self.fold(&group.jobs[*job], *pass, output, stage)?;
        }
        Ok(())
    }

    fn planes<'a>(&self, job: &'a Job, conversion: usize) -> &'a Planes {
        job.planes[conversion].get_or_init(|| {
            let begin = Instant::now();
            let spare = lock(&job.plan.spare_planes[conversion]).pop();
            let planes = job.plan.conversions[conversion].run(&job.frame.view(), spare);
            self.count(&self.counters.convert, begin);
            planes
        })
    }

    /// Folds a pass's output and every parked one whose turn it then is.
    fn fold(&self, job: &Job, pass: usize, output: Output, stage: &mut Stage) -> Result<()> {
        let mut fold = lock(&job.fold);
        fold.parked.insert(pass, output);
        let Fold { next, parked, merger } = &mut *fold;
        let Some(running) = merger else {
            return Ok(());
        };
        let begin = Instant::now();
        while let Some(output) = parked.remove(next) {
            if job.is_over() {
                return Ok(());
            }
            let m = *next / self.transforms.len();
            let member = &self.members[m];
            stage.fold(
                &member.spec,
                output.shape,
                &output.value,
                output.slot,
                self.transforms[*next % self.transforms.len()],
                job.plan.size(m),
                (job.plan.format.height, job.plan.format.width),
                member.weight,
                running,
            )?;
            *next += 1;
        }
        if *next == self.members.len() * self.transforms.len()
            && let Some(merger) = merger.take()
        {
            let merged = Arc::new(merger.finish());
            self.count(&self.counters.merge, begin);
            self.counters.frames.fetch_add(1, Ordering::Relaxed);
            job.finish(Ok(merged));
        } else {
            self.count(&self.counters.merge, begin);
        }
        Ok(())
    }

    fn count(&self, counter: &AtomicU64, begin: Instant) {
        counter.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Opens and probes a member: the member, a warning, and the provider that runs it.
fn open(stated: &MemberSettings, options: &SessionOptions, threads: usize) -> Result<(Member, Option<String>, String)> {
    let path = &stated.model;
    let onnx = OnnxFile::read(path)?;
    let model = Model::open(path, options, threads)?;
    let spec = ModelSpec::resolve(path, &onnx, &model.inputs, &model.outputs, &stated.facts)?;
    let (size, output) = {
        let mut session = model.session()?;
        probe_smallest(&mut session, &spec)?
    };
    let provider = model.active_provider(|session| probe(session, &spec, size).map(|_| ()))?;
    let warning = model.warning.clone();
    let member = Member {
        spec,
        weight: stated.weight,
        output,
        sha256: OnceLock::new(),
        options: options.clone(),
        models: Mutex::new(BTreeMap::from([(1, model)])),
        working_memory: Mutex::new(None),
    };
    Ok((member, warning, provider))
}

/// Runs a model on zeros at the smallest size it can take; the shapes of its outputs are not trusted, but tried.
fn probe_smallest(session: &mut Session, spec: &ModelSpec) -> Result<((usize, usize), OutputShape)> {
    const LARGEST: usize = 512;
    let input = &spec.input;
    let mut side = input.size_multiple.value;
    loop {
        // Unequal sides, so that rows and columns cannot be confused.
        let size = (input.height.unwrap_or(side), input.width.unwrap_or(2 * side));
        match probe(session, spec, size) {
            Ok(shape) => return Ok((size, shape)),
            // Pyramids and deep encoders may need more than one multiple.
            Err(Error::Model { .. }) if side < LARGEST && (input.height.is_none() || input.width.is_none()) => {
                side *= 2;
            }
            Err(e) => return Err(e),
        }
    }
}

fn probe(session: &mut Session, spec: &ModelSpec, (height, width): (usize, usize)) -> Result<OutputShape> {
    let count = spec.input.channels.saturating_mul(height).saturating_mul(width);
    let planes = Planes::zeros(spec.input.element, count);
    let batch = spec.input.batch.unwrap_or(1);
    let slot = Slot { planes: &planes, transform: Transform::Identity };
    let needed = count.saturating_mul(spec.input.element.size());
    if let Some(available) = available_memory().filter(|available| needed > *available) {
        return Err(not_enough_memory(
            &format!("a {width}x{height} input of {}", spec.path.display()),
            needed,
            available,
        ));
    }
    let failed = |e: ort::Error| cannot_run(spec, (height, width), e);
    let mut stage = Stage::default();
    let input = stage.prepare(spec, &[slot], batch, (height, width)).map_err(failed)?;
    let outputs = session.run([input]).map_err(failed)?;
    let output = outputs.get(&spec.output.name).ok_or_else(|| Error::model(&spec.path, "gave no output"))?;
    output_shape(spec, (height, width), batch, output)
}

fn output_shape(spec: &ModelSpec, size: (usize, usize), batch: usize, output: &DynValue) -> Result<OutputShape> {
    let dims: Vec<i64> = match output.dtype() {
        ort::value::ValueType::Tensor { shape, .. } => shape.to_vec(),
        _ => Vec::new(),
    };
    let label = spec.output.form == Form::Label;
    let shape = spec::output_shape(&spec.path, &spec.output.name, label, spec.input.layout.value, size, &dims)?;
    if dims[0] != batch as i64 {
        return Err(Error::model(
            &spec.path,
            format!(
                "output `{}` is {dims:?} for a batch of {batch}; expected as many outputs as inputs",
                spec.output.name
            ),
        ));
    }
    Ok(shape)
}

/// An activation that would be applied twice.
fn activation_warning(member: &Member) -> Option<String> {
    let output = &member.spec.output;
    let twice = output.form == Form::Logit && output.activation.source != Source::Graph && member.spec.graph_activates;
    twice.then(|| {
        format!(
            "{}: activation={} ({}) is applied to output `{}`, which the graph has activated already; if that is not \
             meant, leave activation unset or set none",
            member.spec.path.display(),
            output.activation.value.name(),
            output.activation.source,
            output.name
        )
    })
}

fn files(a: &Member, b: &Member) -> String {
    format!("{} and {}", a.spec.path.display(), b.spec.path.display())
}

pub(super) fn agree_on_size(members: &[&Member], transforms: &[Transform]) -> Result<()> {
    let size = |m: &Member| (m.spec.input.width, m.spec.input.height);
    let mut fixed = members.iter().filter(|m| size(m) != (None, None));
    let Some(first) = fixed.next() else {
        return Ok(());
    };
    let show = |m: &Member| {
        let dim = |d: Option<usize>| d.map_or("any".to_string(), |d| d.to_string());
        format!("{}x{}", dim(size(m).0), dim(size(m).1))
    };
    if let Some(other) = fixed.find(|m| size(m) != size(first)) {
        return Err(Error::setting(
            "model-file",
            files(first, other),
            format!(
                "the models have different fixed input sizes, {} and {} (width x height); all fixed sizes of an \
                 ensemble must be equal: export one of them with dynamic height and width",
                show(first),
                show(other)
            ),
        ));
    }
    let swapping: Vec<_> = transforms.iter().filter(|t| t.swaps_axes()).map(|t| t.name()).collect();
    if size(first).0 != size(first).1 && !swapping.is_empty() {
        return Err(Error::setting(
            "tta",
            swapping.join(","),
            format!(
                "{} has the fixed, not square input size {} and cannot take transforms that swap height and width; \
                 use flips, or a model with dynamic height and width",
                first.spec.path.display(),
                show(first)
            ),
        ));
    }
    Ok(())
}

/// The number of channels of the merge, and how its scores become probabilities.
pub(super) fn agree_on_classes(
    members: &[&Member],
    domain: Domain,
    settings: &Settings,
) -> Result<(Option<usize>, Link)> {
    let is_label = |m: &Member| m.spec.output.form == Form::Label;
    if let (Domain::Logit, Some(label)) = (domain, members.iter().find(|m| is_label(m))) {
        return Err(Error::setting(
            "merge-domain",
            "logit",
            format!(
                "{} gives labels, which have no logits; use merge-domain=probability, where they count as votes",
                label.spec.path.display()
            ),
        ));
    }
    // Classes that a member is sure of; a lone channel stands for two.
    let told = |m: &Member| match is_label(m) {
        false => Some(m.output.channels.max(2)),
        true => match (&settings.class_names, &m.spec.class_names) {
            (Some(names), _) | (None, Some(names)) => Some(names.value.len().max(2)),
            (None, None) => None,
        },
    };
    let mut sure = members.iter().filter(|m| told(m).is_some());
    let Some(first) = sure.next() else {
        return Ok((None, Link::Softmax));
    };
    if let Some(other) = sure.find(|m| told(m) != told(first)) {
        return Err(Error::setting(
            "model-file",
            files(first, other),
            format!(
                "the models have different numbers of classes, {} and {}; all members of an ensemble must have the \
                 same: leave one of them out",
                told(first).unwrap_or(0),
                told(other).unwrap_or(0)
            ),
        ));
    }
    let classes = told(first).unwrap_or(2);
    let scoring: Vec<_> = members.iter().filter(|m| !is_label(m)).collect();
    if scoring.iter().all(|m| m.output.channels == 1) && !scoring.is_empty() {
        return Ok((Some(1), Link::Sigmoid));
    }
    let mut several = scoring.iter().filter(|m| m.output.channels > 1);
    let Some(leader) = several.next() else {
        return Ok((Some(classes), Link::Softmax));
    };
    let link = leader.spec.output.link;
    if let (Domain::Logit, Some(other)) = (domain, several.find(|m| m.spec.output.link != link)) {
        return Err(Error::setting(
            "merge-domain",
            "logit",
            format!(
                "{} use sigmoid and softmax, whose logits cannot be averaged; use merge-domain=probability",
                files(leader, other)
            ),
        ));
    }
    Ok((Some(classes), link))
}

/// Whether the members' scores, labels and weights can be merged so.
pub(super) fn agree_on_merge(members: &[&Member], rule: Rule) -> Result<()> {
    let wrong = |problem: String| Err(Error::setting("merge", rule.merge.name(), problem));
    let others = |suits: &dyn Fn(Merge) -> bool| {
        let names: Vec<_> = Merge::NAMES.iter().filter(|(_, m)| suits(*m)).map(|(name, _)| *name).collect();
        names.join("|")
    };
    if let Some(why) = rule.merge.refuses(rule.domain) {
        let fitting = others(&|m| m.refuses(rule.domain).is_none());
        return wrong(format!(
            "{why}, and merge-domain={} merges something else; use merge-domain=probability, or merge={fitting}",
            rule.domain.name()
        ));
    }
    let label = members.iter().find(|m| m.spec.output.form == Form::Label);
    if let (false, Some(label)) = (rule.merge.counts_labels(), label) {
        return wrong(format!(
            "{} gives labels, which can only be counted; use merge={}",
            label.spec.path.display(),
            others(&|m| m.counts_labels())
        ));
    }
    let first = members.first().map_or(1.0, |m| m.weight);
    if let (false, Some(other)) = (rule.merge.weighs(), members.iter().find(|m| m.weight != first)) {
        return wrong(format!(
            "takes every pass alike, and the weights differ ({first} and {}); leave them out, or use merge={}",
            other.weight,
            others(&|m| m.weighs())
        ));
    }
    Ok(())
}

pub(super) fn agree_on_names(
    members: &[&Member],
    channels: Option<usize>,
    settings: &Settings,
) -> Result<Option<Vec<String>>> {
    let misfit = |names: &[String]| {
        let classes = channels.filter(|c| names.len() != *c && names.len() != (*c).max(2))?.max(2);
        let (found, wanted) = (count(names.len(), "name"), count(classes, "class"));
        Some(format!("{found} for {wanted} ({})", names.join(",")))
    };
    if let Some(Fact { value: names, .. }) = &settings.class_names {
        let file = settings.labels_file.as_deref().unwrap_or(Path::new(""));
        return match misfit(names) {
            Some(misfit) => {
                Err(Error::file("labels-file", file, format!("{misfit}; give one per class, each on a line")))
            }
            None => Ok(Some(names.clone())),
        };
    }
    let mut named = members.iter().filter_map(|m| Some((m, m.spec.class_names.as_ref()?)));
    let Some((first, names)) = named.next() else {
        return Ok(None);
    };
    if let Some((other, others)) = named.find(|(_, n)| n.value != names.value) {
        return Err(Error::setting(
            "model-file",
            files(first, other),
            format!(
                "the models name different classes, {} and {}; if they mean the same, set labels-file",
                names.value.join(","),
                others.value.join(",")
            ),
        ));
    }
    match misfit(&names.value) {
        Some(misfit) => Err(Error::model(
            &first.spec.path,
            format!("metadata class_names: {misfit}; correct it, or set labels-file"),
        )),
        None => Ok(Some(names.value.clone())),
    }
}

pub(super) fn agree_on_threshold(members: &[&Member], settings: &Settings) -> Result<Threshold> {
    if let (Some(each), Some(one)) = (&settings.class_thresholds, &settings.threshold) {
        let problem = format!("and threshold={} exclude each other; set one of them", one.value);
        return Err(Error::setting("class-thresholds", super::settings::join(each), problem));
    }
    if let Some(each) = &settings.class_thresholds {
        return Ok(Threshold::Each(each.clone()));
    }
    if let Some(threshold) = &settings.threshold {
        return Ok(Threshold::All(threshold.value));
    }
    let mut told = members.iter().filter_map(|m| Some((m, m.spec.threshold.as_ref()?.value)));
    let Some((first, threshold)) = told.next() else {
        return Ok(Threshold::None);
    };
    match told.find(|(_, t)| *t != threshold) {
        None => Ok(Threshold::All(threshold)),
        Some((other, second)) => Err(Error::setting(
            "model-file",
            files(first, other),
            format!("the models' metadata name different thresholds, {threshold} and {second}; set threshold"),
        )),
    }
}

/// What ONNX Runtime says of a run that failed.
fn cannot_run(spec: &ModelSpec, (height, width): (usize, usize), e: ort::Error) -> Error {
    let hint = match (spec.input.height, spec.input.width) {
        (Some(_), Some(_)) => String::new(),
        _ => format!(
            "; if it needs sides of a larger multiple than {}, set size-multiple",
            spec.input.size_multiple.value
        ),
    };
    Error::model(
        &spec.path,
        format!("ONNX Runtime cannot run it on a {width}x{height} input: {}{hint}", runtime::reason(e)),
    )
}

fn not_enough_memory(what: &str, needed: usize, available: usize) -> Error {
    let gib = |bytes: usize| bytes as f64 / (1u64 << 30) as f64;
    Error::Memory(format!(
        "{what} needs at least {:.1} GiB, and {:.1} GiB are free; scale it down, or cut it \
         into smaller frames with `tilesplit` or `rastersrc`",
        gib(needed),
        gib(available)
    ))
}

/// A line of one of the kernel's tables, `name: … kB`, in bytes.
fn kernel_bytes(table: &str, name: &str) -> Option<usize> {
    let text = std::fs::read_to_string(table).ok()?;
    let line = text.lines().find(|l| l.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? * 1024)
}

/// Memory that this process holds, in bytes.
fn resident_memory() -> Option<usize> {
    kernel_bytes("/proc/self/status", "VmRSS:")
}

/// Memory that is free, in bytes: the machine's, or the control group's where that is less.
pub(super) fn available_memory() -> Option<usize> {
    let machine = kernel_bytes("/proc/meminfo", "MemAvailable:")?;
    let number =
        |path: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(path)).ok()?.trim().parse::<usize>().ok();
    let group = number("memory.max").zip(number("memory.current")).map(|(most, now)| most.saturating_sub(now));
    Some(group.map_or(machine, |group| group.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_memory_is_that_of_a_convolutional_network() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/size-multiple-16.onnx");
        let mut settings = Settings::default();
        settings.set("model-file", &model.display().to_string(), Source::Property, Path::new("")).unwrap();
        let ensemble = Ensemble::load(&settings).unwrap();
        let bytes = ensemble.members()[0].working_memory().unwrap();
        // Its first layers hold a few float32 channels at full size.
        assert!((8..2000).contains(&bytes), "{bytes} bytes per pixel");
    }
}
