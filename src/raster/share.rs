//! Which cells of a run one process does.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::grid::{Cell, Shard};

/// The cells that one process does. Whoever does them, the pixels are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// A contiguous run of the region's cells.
    Shard(Shard),
    /// Cells by their place in the region's list, row by row from 0: ranges in order that do not touch.
    Listed(Vec<Range<usize>>),
    /// Those that the source is known to have no data in, which needs no tile: how a run is begun that others work on.
    Empty,
    /// None, and nothing is written: how a run is looked at.
    None,
}

impl Default for Share {
    fn default() -> Self {
        Share::Shard(Shard::default())
    }
}

impl Share {
    /// Reads `none`, `empty`, or numbers and ranges of cells such as `0-41,57`.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim() {
            "none" => return Ok(Share::None),
            "empty" => return Ok(Share::Empty),
            _ => {}
        }
        let item = |item: &str| -> Option<Range<usize>> {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
            (first <= last).then(|| Some(first..last.checked_add(1)?)).flatten()
        };
        let ranges: Option<Vec<_>> = text.split(',').map(item).collect();
        let problem = "use numbers and ranges of cells joined by commas, such as 0-41,57, counted row by row from 0; or \
                       empty, or none";
        ranges.map(|ranges| Share::Listed(merged(ranges))).ok_or_else(|| Error::setting("cells", text, problem))
    }

    /// This process's share of a region's cells, in their order. The empty ones are not known here.
    ///
    /// # Errors
    /// A cell that the region does not have.
    pub fn of(&self, all: &[Cell]) -> Result<Vec<Cell>> {
        match self {
            Share::Shard(shard) => Ok(shard.of(all).to_vec()),
            Share::Listed(ranges) => match ranges.iter().find(|range| range.end > all.len()) {
                Some(range) => {
                    let problem = format!("there is no cell {} among the {} of the region", range.end - 1, all.len());
                    Err(Error::setting("cells", self, problem))
                }
                None => Ok(ranges.iter().flat_map(|range| &all[range.clone()]).copied().collect()),
            },
            Share::Empty | Share::None => Ok(Vec::new()),
        }
    }

    /// Whether others do other cells of the same run.
    pub fn is_shared(&self) -> bool {
        match self {
            Share::Shard(shard) => shard.count > 1,
            Share::Listed(_) | Share::Empty => true,
            Share::None => false,
        }
    }

    /// Whether all cells are this process's.
    pub fn is_all(&self) -> bool {
        matches!(self, Share::Shard(Shard { count: 1, .. }))
    }

    /// The property that says so.
    pub fn property(&self) -> &'static str {
        if matches!(self, Share::Shard(_)) { "shard" } else { "cells" }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Shard(shard) => write!(f, "{}/{}", shard.index, shard.count),
            Share::Listed(ranges) => {
                for (k, range) in ranges.iter().enumerate() {
                    let comma = if k > 0 { "," } else { "" };
                    match range.len() {
                        1 => write!(f, "{comma}{}", range.start)?,
                        _ => write!(f, "{comma}{}-{}", range.start, range.end - 1)?,
                    }
                }
                Ok(())
            }
            Share::Empty => f.write_str("empty"),
            Share::None => f.write_str("none"),
        }
    }
}

/// Ranges in order, those that touch or overlap made one.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut all: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => all.push(range),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(n: usize) -> Vec<Cell> {
        (0..n as i64).map(|k| Cell { row: k / 7, column: k % 7 }).collect()
    }

    proptest! {
        #[test]
        fn listed_cells_come_once_and_in_order(places in proptest::collection::vec(0usize..60, 1..30)) {
            let text: Vec<String> = places.iter().map(usize::to_string).collect();
            let share = Share::parse(&text.join(",")).unwrap();
            let all = cells(60);
            let mut expected = places;
            expected.sort_unstable();
            expected.dedup();
            let expected: Vec<Cell> = expected.into_iter().map(|k| all[k]).collect();
            prop_assert_eq!(share.of(&all).unwrap(), expected);
            prop_assert_eq!(Share::parse(&share.to_string()).unwrap(), share);
        }
    }

    #[test]
    fn texts() {
        let all = cells(10);
        let of = |text: &str| Share::parse(text).unwrap().of(&all).unwrap().len();
        assert_eq!((of("0-3, 7"), of("9"), of("2-4,3-6"), of("none"), of("empty")), (5, 1, 5, 0, 0));
        assert_eq!(Share::parse("5,0-3,4").unwrap().to_string(), "0-5");
        for wrong in ["", "3-1", "a", "1,,2", "-1", "1-", "0-18446744073709551615"] {
            let said = Share::parse(wrong).unwrap_err().to_string();
            assert!(said.starts_with(&format!("cells={wrong}: use numbers and ranges")), "{said}");
        }
        let said = Share::parse("4,8-10").unwrap().of(&all).unwrap_err().to_string();
        assert_eq!(said, "cells=4,8-10: there is no cell 10 among the 10 of the region");
    }

    #[test]
    fn who_shares_with_others() {
        let shard = |index, count| Share::Shard(Shard { index, count });
        let listed = Share::parse("1").unwrap();
        let shared = [shard(2, 4), listed.clone(), Share::Empty, shard(1, 1), Share::None].map(|s| s.is_shared());
        assert_eq!(shared, [true, true, true, false, false]);
        assert!(shard(1, 1).is_all() && !shard(1, 2).is_all() && !listed.is_all() && !Share::None.is_all());
    }
}
