//! Which candidates are tried, in stages, because every combination of everything would be too many.
//!
//! 1. Sets of members × sets of transforms, merged by the mean of probabilities. Up to [`ALL_SUBSETS`] members: every set.
//!    More: for each set of transforms the best member, then again and again the member that adds most (greedy forward
//!    selection), n (n + 1) / 2 sets.
//! 2. Merges and domains, for the front: the candidates that no other of the same or a lower cost beats.
//! 3. Fitted temperatures, for the front of all so far.
//! 4. Fitted thresholds of two classes, for the front of all so far.
//!
//! Folds are not compared with each other, and always run all. Their stages 1, 3 and 4 go over transforms alone; merges of
//! members cannot be scored where no pixel is unseen by two.

use super::candidate::{Candidate, Cut, score};
use super::ground::{scored, sum};
use super::study::{Basis, Row, Selection, Study};
use crate::engine::error::{Error, Result};
use crate::engine::merge::{Domain, Merge};
use crate::engine::metrics::{ClassCounts, bootstrap};
use crate::engine::settings::Named;
use crate::engine::tta::Transform;

/// Up to so many members all their sets are tried: 63.
pub const ALL_SUBSETS: usize = 6;
/// Candidates by score that are worth a line, besides the front and the single models.
const LISTED: usize = 12;
/// Parts of the blocks by which thresholds are cross-fitted.
const PARTS: usize = 5;
/// Thresholds that are tried, in hundredths.
const CUTS: std::ops::RangeInclusive<u8> = 1..=99;

pub fn select(study: &Study) -> Result<Selection> {
    let members: Result<Vec<_>> = (0..study.count()).map(|m| study.report(m)).collect();
    let members = members?;
    let mut search = Search { study, rows: Vec::new() };
    match study.basis() {
        Basis::Shared => {
            search.sets()?;
            search.merges()?;
        }
        Basis::Folds => {
            for transforms in study.sets() {
                search.try_one(Candidate::plain((0..study.count()).collect(), transforms))?;
            }
        }
    }
    search.temperatures()?;
    search.thresholds()?;

    let mut rows = search.rows;
    let by_score =
        |a: &usize, b: &usize| rows[*b].iou.total_cmp(&rows[*a].iou).then(cost(&rows, *a, *b)).then(a.cmp(b));
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(by_score);
    let best =
        *order.first().ok_or_else(|| Error::setting("tta", "", "no set of transforms is one that the models take"))?;
    let least = scored(&rows[best].blocks, &study.classes, study.options()).map_or(0.0, |score| score.interval.0);
    // The order is by score: the first of the cheapest is the best of them.
    let good = order.iter().copied().filter(|row| rows[*row].iou >= least);
    let chosen = good.min_by(|a, b| cost(&rows, *a, *b)).unwrap_or(best);

    let plain = |m: usize| Candidate::plain(vec![m], vec![Transform::Identity]);
    let alone = |m: &usize| members[*m].score.map_or(f64::NEG_INFINITY, |score| score.iou);
    let first = (0..members.len()).rev().max_by(|a, b| alone(a).total_cmp(&alone(b))).unwrap_or(0);
    let mut listed = front(&rows);
    listed.extend(order.iter().take(LISTED));
    listed.extend(
        (0..rows.len()).filter(|row| rows[*row].candidate.passes() == 1 && rows[*row].candidate.cut == Cut::Stated),
    );
    listed.extend([best, chosen]);
    intervals(study, &mut rows, &listed, best);
    Ok(Selection {
        basis: study.basis(),
        members,
        rows,
        best,
        chosen,
        baseline: plain(first),
        pixels: study.pixels(),
        positives: study.positives(),
        blocks: study.blocks(),
    })
}

fn cost(rows: &[Row], a: usize, b: usize) -> std::cmp::Ordering {
    rows[a].cost.total_cmp(&rows[b].cost)
}

/// Candidates that no other of the same or a lower cost beats, from the cheapest on.
fn front(rows: &[Row]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| cost(rows, *a, *b).then(rows[*b].iou.total_cmp(&rows[*a].iou)).then(a.cmp(b)));
    let mut best = f64::NEG_INFINITY;
    order.retain(|row| {
        let better = rows[*row].iou > best;
        best = best.max(rows[*row].iou);
        better
    });
    order
}

/// Bootstraps some rows: each with the best one, so that both see the same draws.
fn intervals(study: &Study, rows: &mut [Row], listed: &[usize], best: usize) {
    let (classes, options) = (&study.classes, study.options());
    let best = rows[best].blocks.clone();
    for row in listed {
        let row = &mut rows[*row];
        if row.intervals.is_some() {
            continue;
        }
        let pairs: Vec<Pair> =
            row.blocks.iter().cloned().zip(best.iter().cloned()).map(|(own, best)| Pair(own, best)).collect();
        let drawn = bootstrap(&pairs, options.resamples, options.seed, |Pair(own, best)| {
            let (own, best) = (score(own, classes), score(best, classes));
            vec![own, own.zip(best).map(|(own, best)| own - best)]
        });
        row.intervals = drawn[0].zip(drawn[1]);
    }
}

/// A candidate's counts and the best one's.
#[derive(Default)]
struct Pair(ClassCounts, ClassCounts);

impl std::ops::AddAssign<&Pair> for Pair {
    fn add_assign(&mut self, other: &Pair) {
        self.0 += &other.0;
        self.1 += &other.1;
    }
}

struct Search<'a> {
    study: &'a Study,
    rows: Vec<Row>,
}

impl Search<'_> {
    /// Scores a candidate; its row.
    fn try_one(&mut self, candidate: Candidate) -> Result<usize> {
        let blocks = self.study.counts(&candidate, &[candidate.cut])?.swap_remove(0);
        Ok(self.add(candidate, blocks))
    }

    fn add(&mut self, candidate: Candidate, blocks: Vec<ClassCounts>) -> usize {
        // There are positive pixels, so that the score is defined.
        let iou = score(&sum(&blocks), &self.study.classes).unwrap_or(0.0);
        let cost = self.study.cost(&candidate);
        self.rows.push(Row { candidate, iou, cost, intervals: None, blocks });
        self.rows.len() - 1
    }

    /// The candidates worth going on with.
    fn front(&self) -> Vec<Candidate> {
        front(&self.rows).into_iter().map(|row| self.rows[row].candidate.clone()).collect()
    }

    fn sets(&mut self) -> Result<()> {
        let count = self.study.count();
        for transforms in self.study.sets() {
            if count <= ALL_SUBSETS {
                let mut sets: Vec<Vec<usize>> =
                    (1u32..1 << count).map(|bits| (0..count).filter(|m| bits >> m & 1 == 1).collect()).collect();
                sets.sort_by_key(Vec::len);
                for members in sets {
                    self.try_one(Candidate::plain(members, transforms.clone()))?;
                }
                continue;
            }
            let mut taken: Vec<usize> = Vec::new();
            while taken.len() < count {
                let mut best: Option<(f64, usize)> = None;
                for m in (0..count).filter(|m| !taken.contains(m)) {
                    let mut members = taken.clone();
                    members.push(m);
                    members.sort_unstable();
                    let row = self.try_one(Candidate::plain(members, transforms.clone()))?;
                    let iou = self.rows[row].iou;
                    if best.is_none_or(|(most, _)| iou > most) {
                        best = Some((iou, m));
                    }
                }
                taken.extend(best.map(|(_, m)| m));
            }
        }
        Ok(())
    }

    fn merges(&mut self) -> Result<()> {
        for candidate in self.front().into_iter().filter(|candidate| candidate.passes() > 1) {
            for (_, merge) in Merge::NAMES {
                for (_, domain) in Domain::NAMES {
                    let other = Candidate { merge: *merge, domain: *domain, ..candidate.clone() };
                    // What the models cannot be merged by is no candidate.
                    if other != candidate && self.study.rule(&other.members, *merge, *domain).is_ok() {
                        self.try_one(other)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn temperatures(&mut self) -> Result<()> {
        for candidate in self.front() {
            // Of a single pass a temperature moves no label, and folds are scored one by one.
            let merged = match self.study.basis() {
                Basis::Shared => candidate.passes(),
                Basis::Folds => candidate.transforms.len(),
            };
            if merged > 1 && self.study.has_fits(&candidate) {
                self.try_one(Candidate { calibrated: true, ..candidate })?;
            }
        }
        Ok(())
    }

    /// Thresholds that score best. A threshold's score on the pixels that it was chosen by would flatter it, so the blocks
    /// are parted, and each part is scored with the threshold that is best for the others.
    fn thresholds(&mut self) -> Result<()> {
        let cuts: Vec<Cut> = CUTS.map(Cut::Fitted).collect();
        for candidate in self.front() {
            if !self.study.is_binary(&candidate) {
                continue;
            }
            let counts = self.study.counts(&candidate, &cuts)?;
            let count = counts[0].len();
            let part = |block: usize| block * PARTS.min(count) / count;
            let best = |keep: &dyn Fn(usize) -> bool| {
                let iou = |k: &usize| {
                    let blocks = counts[*k].iter().enumerate().filter(|(block, _)| keep(*block));
                    score(&sum(blocks.map(|(_, counts)| counts)), &self.study.classes).unwrap_or(0.0)
                };
                // Of equals the one nearest to one half.
                let off = |k: &usize| (k + 1).abs_diff(50);
                let mut order: Vec<usize> = (0..cuts.len()).collect();
                order.sort_by_key(off);
                order.into_iter().rev().max_by(|a, b| iou(a).total_cmp(&iou(b))).unwrap_or(49)
            };
            let others: Vec<usize> = (0..PARTS).map(|p| best(&|block| part(block) != p)).collect();
            let blocks = (0..count).map(|block| counts[others[part(block)]][block].clone()).collect();
            let cut = cuts[best(&|_| true)];
            self.add(Candidate { cut, ..candidate }, blocks);
        }
        Ok(())
    }
}
