//! Which candidates are tried, in stages, because every combination of everything would be too many.
//!
//! 1. Sets of members × sets of transforms, merged by the mean of probabilities. Up to [`ALL_SUBSETS`] members: every set.
//!    More: for each set of transforms the best member, then again and again the member that adds most (greedy forward
//!    selection), n (n + 1) / 2 sets.
//! 2. Merges and domains, for the front: the candidates that no other of the same or a lower cost beats.
//! 3. Fitted temperatures, for the front of all so far.
//! 4. Fitted thresholds of two classes, for the front of all so far.
//!
//! Of all candidates whose score lies within the best one's interval the cheapest is taken. Among equally cheap ones it is the
//! one of the highest score; one with a fitted number only where it is better than the best without by more than chance (the
//! interval of their difference lies above 0).
//!
//! Folds are not compared with each other, and always run all. Their stages 1, 3 and 4 go over transforms alone; merges of
//! members cannot be scored where no pixel is unseen by two.

use super::candidate::{Candidate, Cut, score};
use super::ground::{scored, sum};
use super::study::{Basis, Cost, Options, Row, Selection, Study};
use crate::engine::error::{Error, Result};
use crate::engine::merge::{Domain, Merge};
use crate::engine::metrics::{ClassCounts, Interval, bootstrap};
use crate::engine::settings::Named;
use crate::engine::tta::Transform;

/// Up to so many members all their sets are tried: 63.
pub const ALL_SUBSETS: usize = 6;
/// Candidates by score that are worth a line, besides the front and the single models.
const LISTED: usize = 12;
/// Parts of the blocks by which thresholds are cross-fitted.
const PARTS: usize = 5;
/// Times that differ by no more than this factor are alike: no measurement is sharper.
const SAME_TIME: f64 = 1.1;
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
    let order = by_score(&rows);
    let best =
        *order.first().ok_or_else(|| Error::setting("tta", "", "no set of transforms is one that the models take"))?;
    let chosen = choose(&rows, &order, &study.classes, study.options());
    let single = |row: &Row| row.candidate.passes() == 1 && !row.candidate.is_fitted();
    let mut listed = front(&rows);
    listed.extend(order.iter().take(LISTED));
    listed.extend((0..rows.len()).filter(|row| single(&rows[*row]) || rows[*row].candidate.is_fitted()));
    listed.extend([best, chosen]);
    listed.sort_unstable();
    listed.dedup();
    let compared = rows[best].clone();
    for row in listed {
        let intervals = difference(&rows[row], &compared, &study.classes, study.options());
        rows[row].intervals = intervals;
    }

    let alone = |m: &usize| members[*m].score.map_or(f64::NEG_INFINITY, |score| score.iou);
    let strongest = (0..members.len()).rev().max_by(|a, b| alone(a).total_cmp(&alone(b))).unwrap_or(0);
    Ok(Selection {
        basis: study.basis(),
        members,
        rows,
        best,
        chosen,
        baseline: Candidate::plain(vec![strongest], vec![Transform::Identity]),
        pixels: study.pixels(),
        positives: study.positives(),
        blocks: study.blocks(),
    })
}

/// Rows from the highest score on; of equal scores the cheaper one first.
fn by_score(rows: &[Row]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| rows[*b].iou.total_cmp(&rows[*a].iou).then(cost(rows, *a, *b)).then(a.cmp(b)));
    order
}

/// The cheapest row whose score lies within the interval of the best, which is the first in the order of scores.
fn choose(rows: &[Row], order: &[usize], classes: &[usize], options: &Options) -> usize {
    let best = order[0];
    let least = scored(&rows[best].blocks, classes, options).map_or(0.0, |score| score.interval.0);
    let good: Vec<usize> = order.iter().copied().filter(|row| rows[*row].iou >= least).collect();
    let cheapest = good.iter().map(|row| rows[*row].cost).fold(f64::INFINITY, f64::min);
    let most = match options.cost {
        Cost::Passes => cheapest,
        Cost::Seconds => cheapest * SAME_TIME,
    };
    // By score, so that the first one is the best.
    let cheap = || good.iter().copied().filter(|row| rows[*row].cost <= most);
    let plain = cheap().find(|row| !rows[*row].candidate.is_fitted());
    let better = |row: &usize| match plain {
        Some(plain) => difference(&rows[*row], &rows[plain], classes, options).is_some_and(|(_, (low, _))| low > 0.0),
        None => true,
    };
    let fitted = cheap().filter(|row| rows[*row].candidate.is_fitted()).find(better);
    fitted.or(plain).unwrap_or(best)
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

/// The interval of a row's score, and that of how much it is higher than another's: both see the same draws. `None` where no
/// draw has a pixel that counts.
fn difference(row: &Row, other: &Row, classes: &[usize], options: &Options) -> Option<(Interval, Interval)> {
    let pairs: Vec<Pair> =
        row.blocks.iter().cloned().zip(other.blocks.iter().cloned()).map(|(a, b)| Pair(a, b)).collect();
    let drawn = bootstrap(&pairs, options.resamples, options.seed, |Pair(row, other)| {
        let (row, other) = (score(row, classes), score(other, classes));
        vec![row, row.zip(other).map(|(row, other)| row - other)]
    });
    drawn[0].zip(drawn[1])
}

/// What two candidates count in one block.
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
                    let Ok((channels, _)) = self.study.rule(&other.members, *merge, *domain) else { continue };
                    // The largest logit of one channel is the logit of the largest probability.
                    let same = *domain == Domain::Logit && channels == Some(1) && !merge.weighs();
                    if other != candidate && !same {
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

    /// Thresholds that score best.
    fn thresholds(&mut self) -> Result<()> {
        let cuts: Vec<Cut> = CUTS.map(Cut::Fitted).collect();
        for candidate in self.front() {
            if self.study.is_binary(&candidate) {
                let (best, blocks) = cross_fit(&self.study.counts(&candidate, &cuts)?, &self.study.classes);
                self.add(Candidate { cut: cuts[best], ..candidate }, blocks);
            }
        }
        Ok(())
    }
}

/// The cut that scores best, of the counts of every cut by block, and counts by block that do not flatter it: a cut's score on
/// the pixels that it was chosen by would. So the blocks are parted, and each part has the counts of the cut that is best for
/// the other parts.
fn cross_fit(counts: &[Vec<ClassCounts>], classes: &[usize]) -> (usize, Vec<ClassCounts>) {
    let count = counts[0].len();
    let parts = PARTS.min(count);
    let part = |block: usize| block * parts / count;
    let best = |keep: &dyn Fn(usize) -> bool| {
        let iou = |cut: &usize| {
            let blocks = counts[*cut].iter().enumerate().filter(|(block, _)| keep(*block));
            score(&sum(blocks.map(|(_, counts)| counts)), classes).unwrap_or(0.0)
        };
        // Of equals the one nearest to the middle: maxima of several elements are the last.
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|cut| std::cmp::Reverse((2 * cut + 1).abs_diff(counts.len())));
        order.into_iter().max_by(|a, b| iou(a).total_cmp(&iou(b))).unwrap_or(0)
    };
    let others: Vec<usize> = (0..parts).map(|p| best(&|block| part(block) != p)).collect();
    let blocks = (0..count).map(|block| counts[others[part(block)]][block].clone()).collect();
    (best(&|_| true), blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::metrics::Counts;

    /// Blocks of class 1 with so many pixels found, found wrongly, and missed.
    fn blocks(counts: &[[u64; 3]]) -> Vec<ClassCounts> {
        let block = |[found, wrong, missed]: &[u64; 3]| {
            let counts = Counts { true_positive: *found, false_positive: *wrong, false_negative: *missed };
            ClassCounts(vec![Counts::default(), counts])
        };
        counts.iter().map(block).collect()
    }

    /// A row of one member per pass, which finds `found` of 100 pixels in each block, give or take `spread`.
    fn row(passes: usize, cut: Cut, found: u64, spread: u64) -> Row {
        let block = |k: u64| {
            let found = if k.is_multiple_of(2) { found + spread } else { found - spread };
            [found, 0, 100 - found]
        };
        let blocks = blocks(&(0..30).map(block).collect::<Vec<_>>());
        let plain = Candidate::plain((0..passes).collect(), vec![Transform::Identity]);
        let iou = score(&sum(&blocks), &[1]).unwrap();
        Row { candidate: Candidate { cut, ..plain }, iou, cost: passes as f64, intervals: None, blocks }
    }

    fn chosen(rows: &[Row], cost: Cost) -> usize {
        choose(rows, &by_score(rows), &[1], &Options { cost, ..Options::default() })
    }

    #[test]
    fn the_cheapest_that_is_good_enough_is_chosen() {
        // The best one's interval is about 0.60 ± 0.10.
        let rows = [
            row(8, Cut::Stated, 60, 30),
            row(4, Cut::Stated, 55, 0),
            row(2, Cut::Stated, 54, 0),
            row(2, Cut::Stated, 56, 0),
            row(1, Cut::Stated, 30, 0),
        ];
        assert_eq!(chosen(&rows, Cost::Passes), 3);
        // No chance, no interval: only the best is good enough.
        let rows = [row(8, Cut::Stated, 60, 0), row(1, Cut::Stated, 59, 0)];
        assert_eq!(chosen(&rows, Cost::Passes), 0);
    }

    #[test]
    fn a_fitted_number_is_taken_where_it_is_better_by_more_than_chance() {
        let best = row(8, Cut::Stated, 60, 30);
        let rows = |spread| [best.clone(), row(1, Cut::Stated, 55, 0), row(1, Cut::Fitted(40), 57, spread)];
        assert_eq!(chosen(&rows(20), Cost::Passes), 1);
        assert_eq!(chosen(&rows(0), Cost::Passes), 2);
    }

    #[test]
    fn times_that_are_alike_are_equal() {
        let timed = |found, cost| Row { cost, ..row(1, Cut::Stated, found, 30) };
        let rows = |second| [timed(60, 5.0), timed(56, 1.0), timed(58, second)];
        assert_eq!((chosen(&rows(1.09), Cost::Seconds), chosen(&rows(1.11), Cost::Seconds)), (2, 1));
        assert_eq!(chosen(&rows(1.09), Cost::Passes), 1);
    }

    #[test]
    fn the_front_holds_what_nothing_cheaper_beats() {
        let rows = [
            row(4, Cut::Stated, 50, 0),
            row(1, Cut::Stated, 40, 0),
            row(2, Cut::Stated, 39, 0),
            row(1, Cut::Stated, 30, 0),
            row(4, Cut::Stated, 50, 0),
        ];
        assert_eq!(front(&rows), [1, 0]);
    }

    #[test]
    fn a_cut_is_scored_by_the_blocks_that_did_not_choose_it() {
        // Of three cuts the last is best for nine of ten blocks; without the ninth and the tenth, which are a part, as well.
        // The part of the first two is best cut by the first, which no other part wants.
        let (good, bad) = ([9, 0, 1], [1, 0, 9]);
        let mostly = |odd, rest| blocks(&[vec![odd; 2], vec![rest; 8]].concat());
        let counts = [mostly(good, bad), mostly(bad, bad), mostly(bad, good)];
        let (best, found) = cross_fit(&counts, &[1]);
        assert_eq!((best, &found), (2, &mostly(bad, good)));
        // Where every other part wants another, the score is that of the other.
        let counts = [blocks(&[good, bad]), blocks(&[bad, good])];
        assert_eq!(cross_fit(&counts, &[1]).1, blocks(&[bad, bad]));
        // Of equals the middle one.
        let same = vec![blocks(&[good; 3]); 5];
        assert_eq!(cross_fit(&same, &[1]).0, 2);
    }
}
