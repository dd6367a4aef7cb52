//! Which pass runs when, on how many threads; and the order in which outputs are folded.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ort::session::RunOptions;

use super::member::{self, cannot_run, output_shape};
use super::{Fold, Inner, Job, Output, Plan};
use crate::engine::cascade::Cascade;
use crate::engine::decide::Work;
use crate::engine::dropout::Draw;
use crate::engine::error::{Error, Result};
use crate::engine::lock;
use crate::engine::merge::{Merged, Merger};
use crate::engine::pixels::Planes;
use crate::engine::stage::{Slot, Stage};
use crate::engine::tta::Transform;
use crate::engine::views;

/// Frames that go through the models together, and the runs that this takes.
pub(super) struct Group {
    pub(super) jobs: Vec<Arc<Job>>,
    pub(super) runs: Vec<Run>,
    pub(super) progress: Mutex<Progress>,
}

pub(super) struct Progress {
    /// The next run to begin.
    pub(super) next: usize,
    /// Runs finished, from the first on without a gap.
    pub(super) frontier: usize,
    pub(super) finished: Vec<bool>,
}

/// One call of ONNX Runtime: a member on some (frame, pass) inputs.
pub(super) struct Run {
    pub(super) member: usize,
    /// Index of the job in its group, and of the pass in the job's order.
    pub(super) slots: Vec<(usize, usize)>,
    pub(super) batch: usize,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) groups: VecDeque<Arc<Group>>,
    /// Frames that wait for company.
    pub(super) gathering: Vec<Arc<Job>>,
    pub(super) deadline: Option<Instant>,
    pub(super) running: usize,
    pub(super) closed: bool,
}

impl Inner {
    pub(super) fn seal(&self, queue: &mut Queue) {
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
            // Within a batch, Dropout's draws are told apart by the first axis of what it is applied to, which need not be
            // the batch.
            let most = if member.spec.dropouts > 0 { 1 } else { self.batch };
            let batch = member.spec.input.batch.unwrap_or(most);
            let swaps = |t: &Transform| height != width && t.swaps_axes();
            for swapped in [false, true] {
                let passes = (0..self.passes_of_member()).map(|k| m * self.passes_of_member() + k);
                let passes = passes.filter(|pass| swaps(&self.transform(*pass)) == swapped);
                let slots: Vec<_> = passes.flat_map(|pass| (0..jobs).map(move |job| (job, pass))).collect();
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

    pub(super) fn work(&self) {
        let fresh = || Stage::new(self.cascade == Some(Cascade::Exact));
        let mut stage = fresh();
        while let Some((group, run, threads)) = self.next() {
            let outcome = catch_unwind(AssertUnwindSafe(|| self.run(&group, run, threads, &mut stage)));
            let error = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some(e),
                Err(panic) => {
                    stage = fresh();
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
                let at_once = group.jobs[0].plan.runs_at_once;
                let side_by_side = |runs: usize| if self.cascade.is_some() { runs.min(1) } else { runs };
                let waiting = queue.groups.iter().map(|g| side_by_side(g.runs.len() - lock(&g.progress).next));
                let waiting: usize = waiting.sum();
                let share = match side_by_side(group.runs.len()).min(at_once) < self.threads {
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
            if queue.running >= at_once || progress.next >= progress.frontier + self.ahead(at_once) {
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

    /// How far a run may be ahead of the oldest unfinished one of its frame.
    fn ahead(&self, at_once: usize) -> usize {
        // What a frame that stops has begun is lost.
        if self.cascade.is_some() { 1 } else { 2 * at_once }
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
                transform: self.transform(*pass),
            })
            .collect();
        let draw = |(job, pass): &(usize, usize)| Draw {
            seed: self.seed,
            member: run.member,
            transform: self.transform(*pass),
            sample: pass % self.samples,
            frame: group.jobs[*job].frame.key(),
        };
        let draws: Vec<Draw> = run.slots.iter().map(draw).collect();
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
            let inputs = member::inputs(&member.spec, input, &draws, run.batch).map_err(failed)?;
            let mut outputs = session.run_with_options(inputs.as_slice(), &options).map_err(failed)?;
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
        for job in jobs() {
            // Counted as saved when its frame stopped, and run all the same for the company of another.
            match job.is_merged() {
                true => self.counters.saved.fetch_sub(1, Ordering::Relaxed),
                false => job.ran.fetch_add(1, Ordering::Relaxed),
            };
        }
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
        let Fold { next, parked, merger, members, stopped } = &mut *fold;
        let Some(running) = merger else {
            return Ok(());
        };
        let begin = Instant::now();
        while let Some(output) = parked.remove(next) {
            if job.is_over() {
                return Ok(());
            }
            let m = *next / self.passes_of_member();
            let member = &self.members[m];
            let mut fold = |weight: f32, into: &mut Merger| {
                stage.fold(
                    &member.spec,
                    output.shape,
                    &output.value,
                    output.slot,
                    self.transform(*next),
                    job.plan.size(m),
                    (job.plan.format.height, job.plan.format.width),
                    weight,
                    into,
                )
            };
            if let Some(member) = members.get_mut(m) {
                fold(1.0, member)?;
            }
            // A stacker leaves only the uncertainty to be merged.
            if members.is_empty() || running.has_uncertainty() {
                fold(member.weight, running)?;
            }
            *next += 1;
            let left = self.weight_from(*next);
            let stops = *next < self.passes()
                && stopped.is_none()
                && self.cascade.is_some_and(|cascade| cascade.suffices(running, left, &self.decision));
            if stops && job.audited {
                *stopped = Some(running.clone().finish());
            } else if stops {
                *next = self.passes();
            }
        }
        if *next == self.passes()
            && let Some(merger) = merger.take()
        {
            let mut merged = match &self.stacker {
                None => merger.finish(),
                Some(stacker) => self.stack(stacker, job, std::mem::take(members), merger, stage)?,
            };
            if let Some(stopped) = stopped.take() {
                self.audit(&stopped, &merged);
                merged = stopped;
            }
            self.count(&self.counters.merge, begin);
            self.counters.frames.fetch_add(1, Ordering::Relaxed);
            let saved = self.passes() as u64 - job.ran.load(Ordering::Relaxed);
            self.counters.saved.fetch_add(saved, Ordering::Relaxed);
            job.finish(Ok(Arc::new(merged)));
        } else {
            self.count(&self.counters.merge, begin);
        }
        Ok(())
    }

    /// Passes of a frame: member by member, transform by transform, sample by sample.
    pub(super) fn passes(&self) -> usize {
        self.members.len() * self.passes_of_member()
    }

    pub(super) fn passes_of_member(&self) -> usize {
        self.transforms.len() * self.samples
    }

    fn transform(&self, pass: usize) -> Transform {
        self.transforms[pass % self.passes_of_member() / self.samples]
    }

    /// What the passes from one on weigh together.
    fn weight_from(&self, pass: usize) -> f32 {
        (pass..self.passes()).map(|pass| self.members[pass / self.passes_of_member()].weight).sum()
    }

    /// Counts the labels that stopping early changed.
    fn audit(&self, stopped: &Merged, whole: &Merged) {
        let (mut work, mut early, mut late) = (Work::default(), Vec::new(), Vec::new());
        let mut changed = 0;
        for (y, rows) in views::bands(whole) {
            self.decision.classes(stopped, y, rows, &mut early, &mut work);
            self.decision.classes(whole, y, rows, &mut late, &mut work);
            changed += early.iter().zip(&late).filter(|(early, late)| early != late).count();
        }
        self.counters.audited.fetch_add((whole.width * whole.height) as u64, Ordering::Relaxed);
        self.counters.changed.fetch_add(changed as u64, Ordering::Relaxed);
    }

    fn count(&self, counter: &AtomicU64, begin: Instant) {
        counter.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}
