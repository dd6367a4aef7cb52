//! The outlines of a region: rings of pixel corners.
//!
//! A region of pixels that share edges has one outer ring, and a ring for each hole. A corner where two of its pixels meet
//! diagonally is passed by two rings, each of which goes around one of the two empty pixels there: those cannot be of one hole, because
//! the region runs around one of them. So no ring meets itself, and every polygon is valid. Rings of 8-connected regions, as
//! GDALPolygonize makes them, meet themselves; here such a region is several polygons.

use std::collections::BTreeMap;

use super::regions::Run;

/// A corner of pixels: column and row.
pub type Corner = (u32, u32);

/// One outer ring, then the holes. The last corner is not repeated. Seen with rows growing downwards, the outer ring runs clockwise, and holes
/// run counter-clockwise; each begins at its uppermost left corner.
pub type Polygon = Vec<Vec<Corner>>;

/// The polygons of a region, whose runs are given from top to bottom and from left to right: one for each part whose pixels share edges, in
/// the order of their first pixels.
pub fn polygons(runs: &[Run]) -> Vec<Polygon> {
    parts(runs).iter().map(|part| trace(part)).collect()
}

/// The parts of a region whose pixels share edges.
fn parts(runs: &[Run]) -> Vec<Vec<Run>> {
    let mut parent: Vec<usize> = (0..runs.len()).collect();
    fn root(parent: &mut [usize], mut of: usize) -> usize {
        while parent[of] != of {
            parent[of] = parent[parent[of]];
            of = parent[of];
        }
        of
    }
    let mut above = 0;
    for (k, run) in runs.iter().enumerate() {
        while runs[above].row + 1 < run.row || (runs[above].row + 1 == run.row && runs[above].end <= run.start) {
            above += 1;
        }
        for (j, other) in runs[above..k].iter().enumerate() {
            if other.row + 1 != run.row || other.start >= run.end {
                break;
            }
            let (a, b) = (root(&mut parent, k), root(&mut parent, above + j));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut parts: BTreeMap<usize, Vec<Run>> = BTreeMap::new();
    for (k, run) in runs.iter().enumerate() {
        parts.entry(root(&mut parent, k)).or_default().push(*run);
    }
    parts.into_values().collect()
}

/// Where a ring turns, once for each ring that turns there.
struct Turn {
    x: u32,
    y: u32,
    /// Of two turns at one corner, the one whose vertical edge leads down.
    down: bool,
}

/// The rings of a region whose pixels share edges.
///
/// Turns of one row, in their order, are the ends of horizontal edges by twos; turns of one column those of vertical edges.
fn trace(runs: &[Run]) -> Polygon {
    let turns = turns(runs);
    let mut by_column: Vec<usize> = (0..turns.len()).collect();
    by_column.sort_unstable_by_key(|k| (turns[*k].x, turns[*k].y, turns[*k].down));
    let mut across = vec![0; turns.len()];
    for pair in by_column.chunks_exact(2) {
        across[pair[0]] = pair[1];
        across[pair[1]] = pair[0];
    }
    drop(by_column);
    let mut seen = vec![false; turns.len()];
    let mut rings = Polygon::new();
    for first in 0..turns.len() {
        if seen[first] {
            continue;
        }
        let mut ring = Vec::new();
        let mut at = first;
        while !seen[at] {
            for end in [at, at ^ 1] {
                seen[end] = true;
                ring.push((turns[end].x, turns[end].y));
            }
            at = across[at ^ 1];
        }
        // The first is the outer one.
        if !rings.is_empty() {
            ring[1..].reverse();
        }
        rings.push(ring);
    }
    rings
}

/// All turns from top to bottom, from left to right.
fn turns(runs: &[Run]) -> Vec<Turn> {
    let mut turns = Vec::new();
    let rows: Vec<&[Run]> = runs.chunk_by(|a, b| a.row == b.row).collect();
    let (first, none) = (runs.first().map_or(0, |run| run.row), &[][..]);
    for k in 0..=rows.len() {
        let y = first + k as u32;
        let above = if k > 0 { rows[k - 1] } else { none };
        let below = rows.get(k).copied().unwrap_or(none);
        // Where the region begins (true) and ends in each of the two rows.
        let mut above = above.iter().flat_map(|run| [(run.start, true), (run.end, false)]).peekable();
        let mut below = below.iter().flat_map(|run| [(run.start, true), (run.end, false)]).peekable();
        loop {
            let x = match (above.peek(), below.peek()) {
                (Some(a), Some(b)) => a.0.min(b.0),
                (Some(a), None) => a.0,
                (None, Some(b)) => b.0,
                (None, None) => break,
            };
            let turn = |down| Turn { x, y, down };
            match (above.next_if(|a| a.0 == x), below.next_if(|b| b.0 == x)) {
                // A straight edge.
                (Some(a), Some(b)) if a.1 == b.1 => {}
                // Two pixels meet: the ring that comes from the left, and the one that leaves to the right. Where they are the upper right and
                // the lower left one, the empty pixel between left and up is the upper left one.
                (Some((_, upper_right)), Some(_)) => turns.extend([turn(!upper_right), turn(upper_right)]),
                _ => turns.push(turn(false)),
            }
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(rows: &[&str]) -> Vec<Run> {
        let mut runs = Vec::new();
        for (row, text) in rows.iter().enumerate() {
            let mut start = 0;
            for run in text.as_bytes().chunk_by(|a, b| a == b) {
                let end = start + run.len() as u32;
                if run[0] == b'#' {
                    runs.push(Run { row: row as u32, start, end });
                }
                start = end;
            }
        }
        runs
    }

    #[test]
    fn a_rectangle_has_four_corners_clockwise_from_its_upper_left_one() {
        assert_eq!(polygons(&runs(&["....", ".##.", ".##."])), [[[(1, 1), (3, 1), (3, 3), (1, 3)]]]);
    }

    #[test]
    fn holes_run_the_other_way() {
        let found = polygons(&runs(&["###", "#.#", "###"]));
        assert_eq!(found, [[[(0, 0), (3, 0), (3, 3), (0, 3)], [(1, 1), (1, 2), (2, 2), (2, 1)]]]);
    }

    #[test]
    fn a_hole_that_touches_the_outer_ring_in_a_corner_is_a_hole() {
        // In both diagonals.
        let found = polygons(&runs(&["##.", "#.#", "###"]));
        let outer = vec![(0, 0), (2, 0), (2, 1), (3, 1), (3, 3), (0, 3)];
        assert_eq!(found, [[outer, vec![(1, 1), (1, 2), (2, 2), (2, 1)]]]);
        let found = polygons(&runs(&[".##", "#.#", "###"]));
        let outer = vec![(1, 0), (3, 0), (3, 3), (0, 3), (0, 1), (1, 1)];
        assert_eq!(found, [[outer, vec![(1, 1), (1, 2), (2, 2), (2, 1)]]]);
    }

    #[test]
    fn holes_that_touch_in_a_corner_are_two() {
        let found = polygons(&runs(&["####", "#.##", "##.#", "####"]));
        assert_eq!(found[0].len(), 3);
        let found = polygons(&runs(&["####", "##.#", "#.##", "####"]));
        assert_eq!(found[0].len(), 3);
    }

    #[test]
    fn parts_that_share_corners_alone_are_polygons_of_their_own() {
        let found = polygons(&runs(&["#.#", ".#.", "#.."]));
        assert_eq!(found.iter().map(|p| p[0][0]).collect::<Vec<_>>(), [(0, 0), (2, 0), (1, 1), (0, 2)]);
        assert!(found.iter().all(|polygon| polygon.len() == 1 && polygon[0].len() == 4));
    }
}
