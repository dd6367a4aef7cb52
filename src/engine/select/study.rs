//! A comparison: members, the pixels that they are judged on, and what their ensembles score there.

use std::collections::BTreeSet;

use super::candidate::{Candidate, Cut, Score};
use super::ground::{Ground, Truth, scored};
use super::passes::{self, Kept};
use super::search;
use super::temperature::Logits;
use super::windows::{Area, Relation, Window};
use crate::engine::decide::{Decision, Threshold, Work};
use crate::engine::ensemble::{Member, agree};
use crate::engine::error::{Error, Result, count};
use crate::engine::merge::{self, Domain, Merge, Merged, Merger, Rows, Rule, Scratch};
use crate::engine::metrics::bootstrap::{BLOCK, RESAMPLES};
use crate::engine::metrics::{ClassCounts, Interval};
use crate::engine::pixels::{Frame, FrameFormat};
use crate::engine::settings::{Fact, MemberSettings, Settings, Source};
use crate::engine::spec::Form;
use crate::engine::tta::Transform;

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sets of transforms.
    pub sets: Vec<Vec<Transform>>,
    /// Classes whose mean IoU is the score; `None` = all but class 0.
    pub classes: Option<Vec<usize>>,
    pub cost: Cost,
    /// Members are folds of a cross-validation, whatever their windows have in common.
    pub folds: bool,
    /// Side of the bootstrap's blocks in pixels.
    pub block: usize,
    pub resamples: usize,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let sets: [&[Transform]; 1] = [&[Transform::Identity]];
        Options {
            sets: sets.map(<[Transform]>::to_vec).to_vec(),
            classes: None,
            cost: Cost::Passes,
            folds: false,
            block: BLOCK,
            resamples: RESAMPLES,
            seed: 1,
        }
    }
}

/// What is to be low.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cost {
    /// Passes per frame: the same on every machine.
    #[default]
    Passes,
    /// Seconds per megapixel as measured here: for members of different size.
    Seconds,
}

/// On which pixels candidates are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// All on the same, which no member was trained on.
    Shared,
    /// Each member on its own: no two have pixels in common that neither was trained on.
    Folds,
}

/// A member's temperature, fitted on its own pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    pub temperature: f32,
    /// Mean negative log-likelihood per pixel, in nats, as stated and as fitted.
    pub before: f64,
    pub after: f64,
}

/// What is to be told of a member.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberReport {
    pub name: String,
    /// Pixels with known truth that it was not trained on.
    pub pixels: usize,
    /// Those of them that belong to a class that counts.
    pub positives: usize,
    /// Alone, one pass, on these pixels; the score is not defined where no class that counts is there or found.
    pub score: Option<Score>,
    /// `None` for a model that gives labels.
    pub fit: Option<Fit>,
    pub seconds_per_megapixel: f64,
}

/// A candidate and what it scored.
#[derive(Debug, Clone)]
pub struct Row {
    pub candidate: Candidate,
    pub iou: f64,
    /// In the unit of [`Options::cost`].
    pub cost: f64,
    /// Of the candidates that are worth a line: the 95 % interval, and that of the difference to the best one.
    pub intervals: Option<(Interval, Interval)>,
    /// What was counted in each block.
    pub blocks: Vec<ClassCounts>,
}

/// Every candidate with its score, and the one to take.
#[derive(Debug, Clone)]
pub struct Selection {
    pub basis: Basis,
    pub members: Vec<MemberReport>,
    /// In the order in which they were tried.
    pub rows: Vec<Row>,
    /// The row of the highest score.
    pub best: usize,
    /// The row of the cheapest candidate whose score lies within the best one's interval.
    pub chosen: usize,
    /// The single model on one pass that scores best on its own pixels.
    pub baseline: Candidate,
    /// Pixels that were scored, those of them that belong to a class that counts, and the bootstrap's blocks.
    pub pixels: usize,
    pub positives: usize,
    pub blocks: usize,
}

/// Members with the pixels that they may be judged on.
pub struct Study {
    general: Settings,
    options: Options,
    /// Classes whose mean IoU is the score.
    pub classes: Vec<usize>,
    class_names: Option<Vec<String>>,
    members: Vec<Kept>,
    pub names: Vec<String>,
    /// Each member's own pixels.
    own: Vec<Ground>,
    /// Those that all share, where they are compared on these.
    shared: Option<Ground>,
    fits: Vec<Option<Fit>>,
    format: FrameFormat,
}

impl Study {
    /// Opens the members of `settings`, each with the windows that it was not trained on, in their order. What lies in `holdout` is left out:
    /// neither its truth nor any score at its pixels gets in.
    ///
    /// # Errors
    /// Everything that can be wrong with settings and models, windows that have no pixels of a known class, or none in common.
    pub fn new(
        settings: &Settings,
        windows: &[Vec<Window>],
        holdout: &[Window],
        truth: Truth<'_>,
        format: FrameFormat,
        options: Options,
    ) -> Result<Study> {
        let size = (truth.width, truth.height);
        let stated = settings.resolve_members()?;
        let names = names(&stated);
        if windows.len() != stated.len() {
            let found = format!("are given for {} of {}", windows.len(), count(stated.len(), "model"));
            return Err(Error::setting("windows", "", format!("{found}; every model has to have its own")));
        }
        let beyond = |what: &str, window: Window| {
            let (w, h) = size;
            Error::setting(what, window, format!("reaches beyond the scene, which has {w}x{h} pixels"))
        };
        let unseen = Area::of(holdout, size).map_err(|window| beyond("holdout", window))?;
        let mut areas = Vec::new();
        let mut members = Vec::new();
        for ((member, windows), name) in stated.iter().zip(windows).zip(&names) {
            let area = Area::of(windows, size).map_err(|window| beyond(&format!("windows of {name}"), window))?;
            let area = area.with(|pixel| truth.classes[pixel].is_some() && !unseen.contains(pixel));
            if area.is_empty() {
                return Err(Error::setting(
                    "windows",
                    list(windows),
                    format!(
                        "of {name} hold no pixel that may be looked at: all lie in the holdout, or their class is not known"
                    ),
                ));
            }
            let kept = Kept::open(settings, member, area.pixels().collect())?;
            takes_scene(&kept, name, format)?;
            members.push(kept);
            areas.push(area);
        }
        let all: Vec<&Member> = members.iter().map(Kept::member).collect();
        let (channels, _) = agree::on_classes(&all, Domain::Probability, settings)?;
        let class_names = agree::on_names(&all, channels, settings)?;

        let known = |area: &Area| area.pixels().filter_map(|pixel| truth.classes[pixel]).max().unwrap_or(0);
        let largest = areas.iter().map(known).max().unwrap_or(0);
        if let Some(classes) = channels.map(|c| c.max(2)).filter(|classes| usize::from(largest) >= *classes) {
            return Err(Error::setting(
                "truth",
                "",
                format!("holds class {largest}, and the models know {}: 0 to {}", count(classes, "class"), classes - 1),
            ));
        }
        let classes = match &options.classes {
            Some(classes) => classes.clone(),
            None => (1..channels.unwrap_or(usize::from(largest) + 1).max(2)).collect(),
        };

        let numbered: Vec<(usize, &Kept)> = members.iter().enumerate().collect();
        let ground = |area: &Area, members: &[(usize, &Kept)]| Ground::new(area, &truth, members, options.block);
        let own = numbered.iter().map(|one| ground(&areas[one.0], &[*one])).collect();
        let shared = match Relation::of(&areas) {
            Relation::Shared(area) if !options.folds => Some(ground(&area, &numbered)),
            Relation::Mixed(a, b) if !options.folds => {
                return Err(mixed(&names, a, b));
            }
            _ => None,
        };
        let study = Study {
            general: settings.clone(),
            fits: vec![None; members.len()],
            options,
            classes,
            class_names,
            members,
            names,
            own,
            shared,
            format,
        };
        if study.positives() == 0 {
            let list: Vec<_> = study.classes.iter().map(usize::to_string).collect();
            let of = format!("class {}", list.join(" or "));
            return Err(Error::setting(
                "truth",
                "",
                format!(
                    "has no pixel of {of} among the {} that are compared; without any, no score means something. State other \
                     windows",
                    study.pixels()
                ),
            ));
        }
        passes::fit_memory(&study.members, study.transforms().len())?;
        Ok(study)
    }

    /// Every transform of any set.
    pub fn transforms(&self) -> Vec<Transform> {
        let mut all: Vec<Transform> = self.sets().into_iter().flatten().collect();
        all.push(Transform::Identity);
        all.sort();
        all.dedup();
        all
    }

    /// The sets of transforms that all members can take, each once.
    pub(super) fn sets(&self) -> Vec<Vec<Transform>> {
        let all: Vec<&Member> = self.members.iter().map(Kept::member).collect();
        let mut sets: Vec<Vec<Transform>> = Vec::new();
        for set in &self.options.sets {
            if !sets.contains(set) && agree::on_size(&all, set).is_ok() {
                sets.push(set.clone());
            }
        }
        sets
    }

    /// Runs every member on every transform, and fits temperatures. `before` is told of each pass, by member and transform.
    ///
    /// # Errors
    /// What a pass can meet.
    pub fn run(&mut self, frame: &dyn Fn() -> Box<dyn Frame>, mut before: impl FnMut(usize, Transform)) -> Result<()> {
        let transforms = self.transforms();
        for (m, kept) in self.members.iter_mut().enumerate() {
            for transform in &transforms {
                before(m, *transform);
                kept.run(&self.general, *transform, (self.format, frame()))?;
            }
        }
        self.fits = (0..self.members.len()).map(|m| self.fit(m)).collect();
        Ok(())
    }

    /// Scores candidates and takes one. After [`Study::run`].
    pub fn select(&self) -> Result<Selection> {
        search::select(self)
    }

    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// What candidates are scored on.
    pub fn basis(&self) -> Basis {
        if self.shared.is_some() { Basis::Shared } else { Basis::Folds }
    }

    fn grounds(&self) -> &[Ground] {
        self.shared.as_ref().map_or(self.own.as_slice(), std::slice::from_ref)
    }

    /// Pixels that candidates are scored on.
    pub(super) fn pixels(&self) -> usize {
        self.grounds().iter().map(|ground| ground.truth.len()).sum()
    }

    /// Those of a class that counts.
    pub(super) fn positives(&self) -> usize {
        self.grounds().iter().map(|ground| ground.of_classes(&self.classes)).sum()
    }

    pub(super) fn blocks(&self) -> usize {
        self.grounds().iter().map(|ground| ground.count).sum()
    }

    /// The temperature that makes a member's single passes most likely on its own pixels.
    fn fit(&self, member: usize) -> Option<Fit> {
        let kept = &self.members[member];
        let (form, link, stated) = kept.form();
        if form == Form::Label {
            return None;
        }
        let ground = &self.own[member];
        let mut values = Vec::new();
        kept.scores(Transform::Identity, &ground.places[0].1, &mut values);
        merge::to_logit(&mut values, kept.channels(), form, link);
        let logits = Logits { values: &values, channels: kept.channels(), link, truth: &ground.truth };
        let temperature = logits.fit();
        Some(Fit { temperature, before: logits.nll(f64::from(stated)), after: logits.nll(f64::from(temperature)) })
    }

    /// A member's temperature in a candidate.
    fn temperature(&self, member: usize, candidate: &Candidate) -> f32 {
        match self.fits[member].filter(|_| candidate.calibrated) {
            Some(fit) => fit.temperature,
            None => self.members[member].form().2,
        }
    }

    /// Whether a candidate tells two classes apart by scores, which one threshold does.
    pub(super) fn is_binary(&self, candidate: &Candidate) -> bool {
        let rule = self.rule(&candidate.members, candidate.merge, candidate.domain);
        let scores = |m: &usize| self.members[*m].form().0 != Form::Label;
        matches!(rule, Ok((Some(1 | 2), _))) && candidate.members.iter().any(scores)
    }

    pub(super) fn has_fits(&self, candidate: &Candidate) -> bool {
        candidate.members.iter().any(|m| self.fits[*m].is_some())
    }

    /// Channels and link of a merge; an error says why these members do not merge so.
    pub(super) fn rule(&self, members: &[usize], merge: Merge, domain: Domain) -> Result<(Option<usize>, Rule)> {
        let all: Vec<&Member> = members.iter().map(|m| self.members[*m].member()).collect();
        let (channels, link) = agree::on_classes(&all, domain, &self.general)?;
        let rule = Rule { merge, domain, link };
        agree::on_merge(&all, rule)?;
        let weight = |m: &usize| self.members[*m].settings.weight;
        if !merge.weighs() && members.iter().any(|m| weight(m) != weight(&members[0])) {
            return Err(Error::setting("merge", "", "takes every pass alike, and the weights differ"));
        }
        Ok((channels, rule))
    }

    /// What scores have to reach where no threshold is fitted: as it is stated, or as metadata tell.
    fn stated_threshold(&self, members: &[usize], channels: usize) -> Threshold {
        let all: Vec<&Member> = members.iter().map(|m| self.members[*m].member()).collect();
        // Models that tell different ones: as if none did.
        agree::on_threshold(&all, &self.general).unwrap_or(match channels {
            1 | 2 => Threshold::All(0.5),
            _ => Threshold::All(0.0),
        })
    }

    fn threshold(&self, candidate: &Candidate, channels: usize) -> Threshold {
        candidate.cut.threshold(channels).unwrap_or_else(|| self.stated_threshold(&candidate.members, channels))
    }

    /// The merged scores of some of a candidate's members at a ground's pixels, as a frame of one row.
    fn merged(&self, candidate: &Candidate, members: &[usize], ground: &Ground) -> Result<Merged> {
        let (channels, rule) = self.rule(members, candidate.merge, candidate.domain)?;
        let n = ground.truth.len();
        let mut merger = Merger::new(rule, channels, (1, n), None);
        let (mut scores, mut scratch) = (Vec::new(), Scratch::default());
        for m in members {
            let kept = &self.members[*m];
            let (form, link, _) = kept.form();
            let weight = kept.settings.weight;
            let (_, places) = ground.places.iter().find(|(member, _)| member == m).expect("a ground of this member");
            for transform in &candidate.transforms {
                kept.scores(*transform, places, &mut scores);
                if form == Form::Label {
                    merger.fold_labels(0, &scores, weight).map_err(|label| {
                        let path = &kept.settings.model;
                        Error::model(path, format!("gives the label {label}, which is no class of this ensemble"))
                    })?;
                } else {
                    let rows = Rows { y: 0, scores: &mut scores, channels: kept.channels() };
                    let output = (form, link, self.temperature(*m, candidate));
                    merger.fold(rows, output, weight, &mut scratch);
                }
                merger.end_pass(weight);
            }
        }
        Ok(merger.finish())
    }

    /// Which members are scored together, and where.
    fn parts(&self, candidate: &Candidate) -> Vec<(Vec<usize>, &Ground)> {
        match &self.shared {
            Some(ground) => vec![(candidate.members.clone(), ground)],
            None => candidate.members.iter().map(|m| (vec![*m], &self.own[*m])).collect(),
        }
    }

    /// Counts a candidate with several cuts, from one merge: for each cut the counts by block.
    pub(super) fn counts(&self, candidate: &Candidate, cuts: &[Cut]) -> Result<Vec<Vec<ClassCounts>>> {
        let mut all = vec![Vec::new(); cuts.len()];
        for (members, ground) in self.parts(candidate) {
            let merged = self.merged(candidate, &members, ground)?;
            for (cut, all) in cuts.iter().zip(&mut all) {
                let labels = self.decide(&Candidate { cut: *cut, ..candidate.clone() }, &merged)?;
                all.extend(ground.count(labels));
            }
        }
        Ok(all)
    }

    /// Classes of merged scores. A fold is decided as all of them together will be.
    fn decide(&self, candidate: &Candidate, merged: &Merged) -> Result<Vec<u16>> {
        let threshold = self.threshold(candidate, merged.channels);
        let decision = Decision::new(threshold, 0, None, Some(merged.classes()))?;
        let mut labels = Vec::new();
        decision.classes(merged, 0, 1, &mut labels, &mut Work::default());
        Ok(labels)
    }

    /// The classes that a candidate gives at the pixels that all members share, by pixel number; `None` where they share
    /// none.
    ///
    /// # Errors
    /// Members that do not merge so.
    pub fn labels(&self, candidate: &Candidate) -> Result<Option<Vec<(usize, u16)>>> {
        let Some(ground) = &self.shared else { return Ok(None) };
        let merged = self.merged(candidate, &candidate.members, ground)?;
        let labels = self.decide(candidate, &merged)?;
        let (m, places) = &ground.places[0];
        let pixels = places.iter().map(|place| self.members[*m].pixels[*place]);
        Ok(Some(pixels.zip(labels).collect()))
    }

    pub(super) fn cost(&self, candidate: &Candidate) -> f64 {
        match self.options.cost {
            Cost::Passes => candidate.passes() as f64,
            Cost::Seconds => {
                let seconds: f64 = candidate.members.iter().map(|m| self.members[*m].seconds_per_megapixel()).sum();
                seconds * candidate.transforms.len() as f64
            }
        }
    }

    /// What is to be told of the members by themselves.
    pub(super) fn report(&self, member: usize) -> Result<MemberReport> {
        let ground = &self.own[member];
        let candidate = Candidate::plain(vec![member], vec![Transform::Identity]);
        let merged = self.merged(&candidate, &[member], ground)?;
        let counts = ground.count(self.decide(&candidate, &merged)?);
        Ok(MemberReport {
            name: self.names[member].clone(),
            pixels: ground.truth.len(),
            positives: ground.of_classes(&self.classes),
            score: scored(&counts, &self.classes, &self.options),
            fit: self.fits[member],
            seconds_per_megapixel: self.members[member].seconds_per_megapixel(),
        })
    }

    /// The settings that run a candidate.
    pub fn settings(&self, candidate: &Candidate) -> Settings {
        let members = candidate.members.iter().map(|m| {
            let mut member = self.members[*m].settings.clone();
            if self.fits[*m].is_some() {
                member.facts.temperature = match self.temperature(*m, candidate) {
                    1.0 => None,
                    other => Some(Fact::new(other, Source::ConfigFile)),
                };
            }
            member
        });
        let rule = self.rule(&candidate.members, candidate.merge, candidate.domain);
        let channels = rule.ok().and_then(|(channels, _)| channels).unwrap_or(2);
        let (threshold, class_thresholds) = match self.threshold(candidate, channels) {
            Threshold::None => (None, None),
            Threshold::All(threshold) => (Some(Fact::new(threshold, Source::ConfigFile)), None),
            Threshold::Each(all) => (None, Some(all)),
        };
        Settings {
            models: Vec::new(),
            members: members.collect(),
            weights: None,
            activations: None,
            temperatures: None,
            facts: Default::default(),
            tta: Some(candidate.transforms.clone()),
            merge: Some(candidate.merge),
            domain: Some(candidate.domain),
            threshold,
            class_thresholds,
            ..self.general.clone()
        }
    }
}

/// Short names that tell members apart: the file's, without folder and extension, or the whole path where several have it.
fn names(members: &[MemberSettings]) -> Vec<String> {
    let short = |m: &MemberSettings| m.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let distinct = members.iter().map(short).collect::<BTreeSet<_>>().len() == members.len();
    members.iter().map(|m| if distinct { short(m) } else { m.model.display().to_string() }).collect()
}

fn list(windows: &[Window]) -> String {
    windows.iter().map(Window::to_string).collect::<Vec<_>>().join(";")
}

/// # Errors
/// A model of fixed size that is not the scene's.
fn takes_scene(kept: &Kept, name: &str, format: FrameFormat) -> Result<()> {
    let input = &kept.member().spec.input;
    let (w, h) = (input.width.unwrap_or(format.width), input.height.unwrap_or(format.height));
    if (w, h) == (format.width, format.height) {
        return Ok(());
    }
    let problem = format!(
        "{name} takes images of {w}x{h} pixels only, and models run over the scene as a whole; cut the scene and its truth to \
         that size, or export the model with dynamic height and width"
    );
    Err(Error::setting("image", format!("{}x{}", format.width, format.height), problem))
}

/// Two models share pixels, and not all do.
fn mixed(names: &[String], a: usize, b: usize) -> Error {
    let problem = format!(
        "{} and {} share pixels that neither was trained on, but there are none that all {} models share, so that they cannot \
         be compared with each other; compare those that share windows by themselves, or say that all are folds of a \
         cross-validation",
        names[a],
        names[b],
        names.len()
    );
    Error::setting("windows", "", problem)
}
