//! Whether the members of an ensemble fit together: sizes, classes, names, merge and thresholds.

use std::path::Path;

use super::member::Member;
use crate::engine::cascade::{self, Cascade, Mode};
use crate::engine::decide::Threshold;
use crate::engine::error::{Error, Result, count};
use crate::engine::merge::{Domain, Merge, Rule};
use crate::engine::settings::{self, Fact, Named, Settings};
use crate::engine::spec::{Form, Link};
use crate::engine::tta::{self, Transform};

fn files(a: &Member, b: &Member) -> String {
    format!("{} and {}", a.spec.path.display(), b.spec.path.display())
}

pub(in crate::engine) fn on_size(members: &[&Member], transforms: &[Transform]) -> Result<()> {
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
pub(in crate::engine) fn on_classes(
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
        true => {
            let own = m.spec.class_names.as_ref().ok().and_then(Option::as_ref);
            settings.class_names.as_ref().or(own).map(|names| names.value.len().max(2))
        }
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
pub(in crate::engine) fn on_merge(members: &[&Member], rule: Rule) -> Result<()> {
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

/// When frames stop early, if they may.
pub(in crate::engine) fn on_cascade(
    channels: Option<usize>,
    rule: Rule,
    settings: &Settings,
) -> Result<Option<Cascade>> {
    let mode = settings.cascade.unwrap_or_default();
    let wrong = |problem: String| Err(Error::setting("cascade", mode.name(), problem));
    let cascade = match mode {
        Mode::None => return Ok(None),
        Mode::Exact => Cascade::Exact,
        Mode::Confident => Cascade::Confident {
            margin: settings.cascade_margin.unwrap_or(cascade::MARGIN),
            limit: settings.cascade_limit.unwrap_or(cascade::LIMIT),
        },
    };
    if let Some(why) = cascade.refuses(rule) {
        let fitting = Domain::NAMES
            .iter()
            .flat_map(|(d, domain)| Merge::NAMES.iter().map(move |(m, merge)| (d, *domain, m, *merge)));
        let fitting: Vec<_> = fitting
            .filter(|(_, domain, _, merge)| merge.refuses(*domain).is_none())
            .filter(|(_, domain, _, merge)| cascade.refuses(Rule { merge: *merge, domain: *domain, ..rule }).is_none())
            .map(|(d, _, m, _)| format!("merge={m} merge-domain={d}"))
            .collect();
        let found = format!("merge={} merge-domain={}", rule.merge.name(), rule.domain.name());
        return wrong(format!("does not go with {found}: {why}; use {}, or cascade=none", fitting.join(", ")));
    }
    if channels.is_none() {
        return wrong(
            "needs to know the classes, and these models give labels without naming them; set labels-file".into(),
        );
    }
    Ok(Some(cascade))
}

pub(in crate::engine) fn on_names(
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
            None => Ok(Some(of_both(names.clone()))),
        };
    }
    let mut named = Vec::new();
    for member in members {
        if let Some(names) = member.spec.class_names.clone()? {
            named.push((member, names));
        }
    }
    let Some((first, names)) = named.first() else {
        return Ok(None);
    };
    if let Some((other, others)) = named.iter().find(|(_, n)| n.value != names.value) {
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
        Some(misfit) => {
            Err(Error::model(&first.spec.path, format!("{}: {misfit}; correct it, or set labels-file", names.source)))
        }
        None => Ok(Some(of_both(names.value.clone()))),
    }
}

/// The lone name of a one-channel model is that of class 1, which its channel is the probability of.
fn of_both(mut names: Vec<String>) -> Vec<String> {
    if names.len() == 1 {
        names.insert(0, "background".into());
    }
    names
}

/// The transforms of every frame: as set, else as the members' cards have it.
pub(in crate::engine) fn on_transforms(members: &[&Member], settings: &Settings) -> Result<Vec<Transform>> {
    if let Some(transforms) = &settings.tta {
        return Ok(transforms.clone());
    }
    let mut told = members.iter().filter_map(|m| Some((m, &m.spec.tta.as_ref()?.value)));
    let Some((first, transforms)) = told.next() else {
        return Ok(vec![Transform::Identity]);
    };
    match told.find(|(_, other)| *other != transforms) {
        None => Ok(transforms.clone()),
        Some((other, others)) => Err(Error::setting(
            "model-file",
            files(first, other),
            format!(
                "the models' cards name different transforms, {} and {}; set tta",
                tta::name(transforms),
                tta::name(others)
            ),
        )),
    }
}

pub(in crate::engine) fn on_threshold(members: &[&Member], settings: &Settings) -> Result<Threshold> {
    if let (Some(each), Some(one)) = (&settings.class_thresholds, &settings.threshold) {
        let problem = format!("and threshold={} exclude each other; set one of them", one.value);
        return Err(Error::setting("class-thresholds", settings::join(each), problem));
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
            format!("the models name different thresholds, {threshold} and {second}; set threshold"),
        )),
    }
}
