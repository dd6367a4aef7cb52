//! A second level over the members: a model that takes their probabilities and gives the final scores (Wolpert,
//! "Stacked generalization", 1992).

use std::path::Path;

use super::member::{self, Member, cannot_run, output_shape};
use super::{Inner, Job};
use crate::engine::cascade::Mode;
use crate::engine::error::{Error, Result};
use crate::engine::merge::{Domain, Merge, Merged, Merger, Rule};
use crate::engine::pixels::Planes;
use crate::engine::runtime::SessionOptions;
use crate::engine::settings::{Facts, MemberSettings, Named, Settings};
use crate::engine::spec::{ElementType, Form};
use crate::engine::stage::{Slot, Stage};
use crate::engine::tta::Transform;

/// Opens the stacker of a setting, if there is one, and checks that it takes what the members give: N × members·C × H × W,
/// member by member, and gives N × C × H × W.
///
/// # Errors
/// A file that is no such model, and settings that mean something else.
pub(super) fn open(
    settings: &Settings,
    options: &SessionOptions,
    threads: usize,
    members: &[Member],
    (channels, rule): (Option<usize>, Rule),
) -> Result<Option<Member>> {
    let Some(path) = &settings.stacker else {
        return Ok(None);
    };
    let wrong = |problem: String| Err(Error::file("stacker", path, problem));
    let settled = |name: &str, value: &str| {
        wrong(format!("takes the place of a merge, and {name}={value} asks for one; leave one of the two out"))
    };
    match (rule.merge, rule.domain, settings.cascade.unwrap_or_default()) {
        (Merge::Mean, Domain::Probability, Mode::None) => {}
        (Merge::Mean, Domain::Probability, mode) => {
            return wrong(format!(
                "needs every pass, and cascade={} leaves some out; leave one of the two out",
                mode.name()
            ));
        }
        (Merge::Mean, domain, _) => return settled("merge-domain", domain.name()),
        (merge, ..) => return settled("merge", merge.name()),
    }
    if members.iter().any(|m| m.weight != members[0].weight) {
        return wrong("weighs the models itself, and weights do so too; leave one of the two out".into());
    }
    let Some(channels) = channels else {
        return wrong(
            "needs to know the classes, and these models give labels without naming them; set labels-file".into(),
        );
    };
    let stated = MemberSettings { model: path.clone(), weight: 1.0, facts: Facts::default() };
    let (stacker, ..) = member::open(&stated, &SessionOptions { sampled: false, ..options.clone() }, threads, false)
        .map_err(|e| of_stacker(path, e))?;
    let input = &stacker.spec.input;
    let expected = members.len() * channels;
    if input.channels != expected {
        return wrong(format!(
            "takes {} channels, and {} models of {channels} channels give {expected}; train it on these models \
             (models/train_stacker.py shows how)",
            input.channels,
            members.len(),
        ));
    }
    if input.element != ElementType::F32 {
        return wrong(format!("takes other numbers than float32 (input `{}`); export it with float32", input.name));
    }
    if stacker.spec.output.form == Form::Label {
        return wrong("gives labels; export it with scores, one channel per class".into());
    }
    if stacker.output.channels != channels || stacker.output.reduction != 1 {
        let found = match stacker.output.reduction {
            1 => format!("{} channels", stacker.output.channels),
            by => format!("scores {by} times smaller than its input"),
        };
        return wrong(format!("gives {found}; expected {channels} channels of the size of its input"));
    }
    Ok(Some(stacker))
}

/// Whether a stacker takes frames of `size` = height × width: they come to it without padding.
///
/// # Errors
/// A fixed size that is another.
pub(super) fn check_size(stacker: &Member, size: (usize, usize)) -> Result<()> {
    let input = &stacker.spec.input;
    let (height, width) = (input.height.unwrap_or(size.0), input.width.unwrap_or(size.1));
    match (height, width) == size {
        true => Ok(()),
        false => Err(Error::file(
            "stacker",
            &stacker.spec.path,
            format!(
                "takes frames of {width}x{height} (width x height), and the frame is {}x{}; export it with dynamic height \
                 and width",
                size.1, size.0
            ),
        )),
    }
}

/// An error about the stacker's file under the name of its setting.
fn of_stacker(path: &Path, error: Error) -> Error {
    match error {
        Error::Model { problem, .. } | Error::File { problem, .. } => Error::file("stacker", path, problem),
        other => other,
    }
}

impl Inner {
    /// What the stacker makes of the members' probabilities. Uncertainty stays that of the passes, which `passes` holds.
    pub(super) fn stack(
        &self,
        stacker: &Member,
        job: &Job,
        members: Vec<Merger>,
        passes: Merger,
        stage: &mut Stage,
    ) -> Result<Merged> {
        let size = (job.plan.format.height, job.plan.format.width);
        let failed = |e: ort::Error| of_stacker(&stacker.spec.path, cannot_run(&stacker.spec, size, e));
        let stacked = Planes::F32(members.into_iter().flat_map(|member| member.finish().scores).collect());
        let batch = stacker.spec.input.batch.unwrap_or(1);
        let slot = Slot { planes: &stacked, transform: Transform::Identity };
        let input = stage.prepare(&stacker.spec, &[slot], batch, size).map_err(failed)?;
        let mut session = stacker.model(1, self.threads)?.session()?;
        let mut outputs = session.run([input]).map_err(failed)?;
        let name = &stacker.spec.output.name;
        let value = outputs.remove(name).ok_or_else(|| Error::model(&stacker.spec.path, "gave no output"))?;
        let shape = output_shape(&stacker.spec, size, batch, &value)?;
        let rule = Rule { link: stacker.spec.output.link, ..self.rule };
        let mut merger = Merger::new(rule, Some(shape.channels), size, None);
        stage.fold(&stacker.spec, shape, &value, 0, Transform::Identity, size, size, 1.0, &mut merger)?;
        Ok(passes.finish().with_scores(merger.finish()))
    }
}
