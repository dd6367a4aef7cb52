//! The passes of every member, run once and kept: what any ensemble of them would merge.
//!
//! Kept are the scores that a model gives, before temperature, activation and merge, at the pixels that it is judged on and
//! nowhere else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::ensemble::{Ensemble, Member};
use crate::engine::error::{Error, Result, count};
use crate::engine::memory;
use crate::engine::merge::{Domain, Merge};
use crate::engine::pixels::{Frame, FrameFormat};
use crate::engine::settings::{Fact, MemberSettings, Settings, Source};
use crate::engine::spec::{Form, Link};
use crate::engine::tta::Transform;

/// A member and its passes.
pub struct Kept {
    ensemble: Ensemble,
    pub settings: MemberSettings,
    /// The pixels that are kept, rising.
    pub pixels: Vec<usize>,
    /// Of each transform `channels × pixels`; of a model that gives labels, one label per pixel.
    passes: BTreeMap<Transform, Vec<f32>>,
    /// How long each pass took, with all threads.
    times: Vec<Duration>,
    megapixels: f64,
}

impl Kept {
    /// Opens a member alone. No pass is run yet.
    ///
    /// # Errors
    /// Everything that can be wrong with a model and what is stated of it.
    pub fn open(general: &Settings, member: &MemberSettings, pixels: Vec<usize>) -> Result<Self> {
        let ensemble = Ensemble::load(&alone(general, member, Transform::Identity, Domain::Probability))?;
        let settings = member.clone();
        Ok(Kept { ensemble, settings, pixels, passes: BTreeMap::new(), times: Vec::new(), megapixels: 0.0 })
    }

    pub fn member(&self) -> &Member {
        &self.ensemble.members()[0]
    }

    /// What the model's scores are, how they become probabilities, and the temperature that is stated of it.
    pub fn form(&self) -> (Form, Link, f32) {
        let temperature = self.settings.facts.temperature.as_ref().map_or(1.0, |fact| fact.value);
        (self.member().spec.output.form, self.member().spec.output.link, temperature)
    }

    /// Planes that a pass keeps.
    pub fn channels(&self) -> usize {
        self.member().output.channels
    }

    /// Bytes that a number of passes will take.
    pub fn size(&self, transforms: usize) -> usize {
        self.pixels.len().saturating_mul(4 * self.channels()).saturating_mul(transforms)
    }

    /// Runs one transform of a frame, and keeps its scores at the member's pixels.
    ///
    /// # Errors
    /// What a pass can meet.
    pub fn run(
        &mut self,
        general: &Settings,
        transform: Transform,
        (format, frame): (FrameFormat, Box<dyn Frame>),
    ) -> Result<()> {
        let label = self.member().spec.output.form == Form::Label;
        // In this domain the merge of the only pass is the pass itself, to the bit.
        let domain = match self.member().spec.output.form {
            Form::Logit | Form::LogProbability => Domain::Logit,
            Form::Probability | Form::Label => Domain::Probability,
        };
        // The session is shared with the one that is open.
        let ensemble = Ensemble::load(&alone(general, &self.settings, transform, domain))?;
        let begin = Instant::now();
        let merged = ensemble.run(format, frame)?;
        self.times.push(begin.elapsed());
        self.megapixels = (format.width * format.height) as f64 / 1e6;

        let size = format.width * format.height;
        let planes = || merged.scores.chunks_exact(size);
        let kept = match label {
            // Of one pass, each pixel has one vote.
            true => {
                let label = |pixel: usize| planes().position(|plane| plane[pixel] > 0.0).unwrap_or(0) as f32;
                self.pixels.iter().map(|pixel| label(*pixel)).collect()
            }
            false => planes().flat_map(|plane| self.pixels.iter().map(|pixel| plane[*pixel])).collect(),
        };
        self.passes.insert(transform, kept);
        Ok(())
    }

    /// The scores of a transform at some of the member's pixels, given by their places among these: `channels × places`.
    ///
    /// # Panics
    /// Where the transform has not been run.
    pub fn scores(&self, transform: Transform, places: &[usize], out: &mut Vec<f32>) {
        let n = self.pixels.len();
        out.clear();
        for plane in self.passes[&transform].chunks_exact(n.max(1)) {
            out.extend(places.iter().map(|place| plane[*place]));
        }
    }

    /// How long a pass takes, per megapixel: the quickest of those that were run, which was disturbed least.
    pub fn seconds_per_megapixel(&self) -> f64 {
        self.times.iter().min().map_or(0.0, |time| time.as_secs_f64() / self.megapixels)
    }
}

/// A member alone on one transform, its scores as they come.
fn alone(general: &Settings, member: &MemberSettings, transform: Transform, domain: Domain) -> Settings {
    let mut member = MemberSettings { weight: 1.0, ..member.clone() };
    member.facts.temperature = Some(Fact::new(1.0, Source::Property));
    let mut facts = general.facts.clone();
    facts.temperature = None;
    Settings {
        models: Vec::new(),
        members: vec![member],
        weights: None,
        activations: None,
        temperatures: None,
        facts,
        tta: Some(vec![transform]),
        merge: Some(Merge::Mean),
        domain: Some(domain),
        threshold: None,
        class_thresholds: None,
        label_offset: None,
        mask_values: None,
        // Passes are kept whole, and merged later.
        stacker: None,
        cascade: None,
        ..general.clone()
    }
}

/// # Errors
/// Passes that do not fit into the memory that is free.
pub fn fit_memory(members: &[Kept], transforms: usize) -> Result<()> {
    let needed = members.iter().map(|kept| kept.size(transforms)).fold(0, usize::saturating_add);
    let Some(available) = memory::available().filter(|available| needed > *available) else {
        return Ok(());
    };
    let gib = |bytes: usize| bytes as f64 / (1u64 << 30) as f64;
    Err(Error::Memory(format!(
        "the passes of {} x {} take {:.1} GiB at the pixels that are compared, and {:.1} GiB are free; state smaller \
         windows, fewer models or fewer transforms",
        count(members.len(), "model"),
        count(transforms, "transform"),
        gib(needed),
        gib(available)
    )))
}
