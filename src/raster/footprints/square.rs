//! Buildings with right angles: edges turned onto the dominant direction of their outline or its normal.

use super::shape::{Point, Ring, Rings};

/// Edges that are not turned, between two that are, go where they are together no longer than so much of the outline: masks have round corners.
const CUT_CORNER: f64 = 0.125;

/// Lines that meet at less than this are parallel: sine of 10°.
const PARALLEL: f64 = 0.173_648;

/// What an edge becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Along the dominant direction, and across it.
    Along,
    Across,
    /// It is off by more than the tolerance from both, and stays.
    Free,
}

/// The line that an edge becomes: the points with `normal · p = offset`, with the dominant direction as x.
#[derive(Debug, Clone, Copy)]
struct Line {
    kind: Kind,
    normal: Point,
    offset: f64,
    length: f64,
    /// Where its edge begins.
    start: Point,
}

/// Turns the edges of a simplified polygon that are off by no more than `tolerance` degrees, and lets neighbours meet where their lines cross. A
/// turned edge lies in the middle of what it stands for: the outline of `original` between its ends has as much area on either side.
/// Parallel neighbours become one edge where they are no more than `distance` apart, by which the polygon was simplified, and else a step.
///
/// The points of `simple` are some of `original`'s. `None` where no polygon comes of it; whether one is valid and near the original is for
/// the caller to see.
pub fn square(original: &Rings, simple: &Rings, tolerance: f64, distance: f64) -> Option<Rings> {
    let direction = dominant(simple.first()?, tolerance);
    let (sine, cosine) = direction.sin_cos();
    let turned =
        |ring: &Ring| -> Ring { ring.iter().map(|[x, y]| [x * cosine + y * sine, y * cosine - x * sine]).collect() };
    let back = |[x, y]: Point| [x * cosine - y * sine, x * sine + y * cosine];
    let one = |(original, simple): (&Ring, &Ring)| {
        let chains = chains(original, simple)?;
        let (original, simple) = (turned(original), turned(simple));
        let mut lines: Vec<Line> = (0..simple.len())
            .map(|k| line(&original, chains[k], simple[k], simple[(k + 1) % simple.len()], tolerance))
            .collect();
        let outline: f64 = lines.iter().map(|line| line.length).sum();
        drop_cut_corners(&mut lines, (CUT_CORNER * outline).max(2.0 * distance));
        join_parallels(&mut lines, distance);
        Some(corners(&lines)?.into_iter().map(back).collect())
    };
    original.iter().zip(simple).map(one).collect()
}

/// The dominant direction of a ring's edges modulo 90°, in radians: the mean, weighted by length, of the directions near the one that has most
/// length around it.
fn dominant(ring: &Ring, tolerance: f64) -> f64 {
    let edges: Vec<(f64, f64)> = ring
        .iter()
        .zip(ring.iter().cycle().skip(1))
        .map(|(a, b)| (b[0] - a[0], b[1] - a[1]))
        .map(|(x, y)| (y.atan2(x).to_degrees().rem_euclid(90.0), x.hypot(y)))
        .collect();
    let mut bins = [0.0; 90];
    edges.iter().for_each(|(angle, length)| bins[*angle as usize % 90] += length);
    let reach = tolerance.ceil().min(44.0) as usize;
    let around = |k: usize| -> f64 { (0..=2 * reach).map(|j| bins[(k + 90 + j - reach) % 90]).sum() };
    // Of equals, the one that has more length itself, then the smallest.
    let best = (0..90).rev().max_by(|a, b| {
        (around(*a), bins[*a]).partial_cmp(&(around(*b), bins[*b])).unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut direction = best.map_or(0.0, |k| k as f64 + 0.5);
    for _ in 0..3 {
        let near = |angle: f64| (angle - direction + 45.0).rem_euclid(90.0) - 45.0;
        let close =
            edges.iter().map(|(angle, length)| (near(*angle), length)).filter(|(off, _)| off.abs() <= tolerance);
        let (off, length) = close.fold((0.0, 0.0), |(off, all), (angle, length)| (off + angle * length, all + length));
        if length > 0.0 {
            direction += off / length;
        }
    }
    direction.to_radians()
}

/// For each edge of a simplified ring, the points of the original that it stands for: from the first to the last, which may lie beyond the ring's end.
fn chains(original: &Ring, simple: &Ring) -> Option<Vec<(usize, usize)>> {
    let n = original.len();
    let begin = simple.first()?;
    let first = original.iter().position(|p| p == begin)?;
    let mut places = vec![first];
    for point in &simple[1..] {
        let from = places[places.len() - 1] + 1;
        places.push((from..first + n).find(|k| original[k % n] == *point)?);
    }
    places.push(first + n);
    Some(places.windows(2).map(|pair| (pair[0], pair[1])).collect())
}

/// The line of one edge from `a` to `b`.
fn line(original: &Ring, (from, to): (usize, usize), a: Point, b: Point, tolerance: f64) -> Line {
    let (x, y) = (b[0] - a[0], b[1] - a[1]);
    let length = x.hypot(y);
    let angle = y.atan2(x).to_degrees().rem_euclid(180.0);
    let kind = if angle <= tolerance || angle >= 180.0 - tolerance {
        Kind::Along
    } else if (angle - 90.0).abs() <= tolerance {
        Kind::Across
    } else {
        Kind::Free
    };
    let point = |k: usize| original[k % original.len()];
    // The mean of one coordinate over the other.
    let mean = |along: usize, across: usize| {
        let area: f64 = (from..to)
            .map(|k| (point(k), point(k + 1)))
            .map(|(p, q)| (p[across] + q[across]) / 2.0 * (q[along] - p[along]))
            .sum();
        area / (b[along] - a[along])
    };
    let (normal, offset) = match kind {
        Kind::Along => ([0.0, 1.0], mean(0, 1)),
        Kind::Across => ([1.0, 0.0], mean(1, 0)),
        Kind::Free => {
            let normal = [-y / length, x / length];
            (normal, normal[0] * a[0] + normal[1] * a[1])
        }
    };
    Line { kind, normal, offset, length, start: a }
}

/// Leaves out free lines between two others where they are together no longer than `most`.
fn drop_cut_corners(lines: &mut Vec<Line>, most: f64) {
    let Some(begin) = lines.iter().position(|line| line.kind != Kind::Free) else { return };
    lines.rotate_left(begin);
    let chains = lines.chunk_by(|a, b| (a.kind == Kind::Free) == (b.kind == Kind::Free));
    let stays =
        |chain: &[Line]| chain[0].kind != Kind::Free || chain.iter().map(|line| line.length).sum::<f64>() > most;
    *lines = chains.filter(|chain| stays(chain)).flatten().copied().collect();
}

/// Makes neighbours of one kind into one line, or puts a step between them.
fn join_parallels(lines: &mut Vec<Line>, distance: f64) {
    // Begin where no two of a kind meet, so that none is cut by the end of the list.
    let n = lines.len();
    if let Some(begin) = (0..n).find(|k| lines[*k].kind != lines[(k + n - 1) % n].kind) {
        lines.rotate_left(begin);
    }
    let mut joined: Vec<Line> = Vec::with_capacity(n);
    for line in lines.drain(..) {
        let Some(last) = joined.last_mut().filter(|last| last.kind == line.kind && line.kind != Kind::Free) else {
            joined.push(line);
            continue;
        };
        if (last.offset - line.offset).abs() <= distance {
            let length = last.length + line.length;
            last.offset = (last.offset * last.length + line.offset * line.length) / length;
            last.length = length;
            continue;
        }
        let (kind, normal, offset) = match line.kind {
            Kind::Along => (Kind::Across, [1.0, 0.0], line.start[0]),
            _ => (Kind::Along, [0.0, 1.0], line.start[1]),
        };
        let step = Line { kind, normal, offset, length: (last.offset - line.offset).abs(), start: line.start };
        joined.extend([step, line]);
    }
    *lines = joined;
}

/// Where each line meets the one before it.
fn corners(lines: &[Line]) -> Option<Ring> {
    let n = lines.len();
    if n < 3 {
        return None;
    }
    let mut ring: Ring = Vec::with_capacity(n);
    for k in 0..n {
        let (a, b) = (&lines[(k + n - 1) % n], &lines[k]);
        let sine = a.normal[0] * b.normal[1] - a.normal[1] * b.normal[0];
        let corner = match sine.abs() < PARALLEL {
            true => b.start,
            false => [
                (a.offset * b.normal[1] - b.offset * a.normal[1]) / sine,
                (b.offset * a.normal[0] - a.offset * b.normal[0]) / sine,
            ],
        };
        if ring.last() != Some(&corner) {
            ring.push(corner);
        }
    }
    (ring.len() >= 3).then_some(ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_dominant_direction_is_the_one_with_most_length() {
        let turned = |degrees: f64, points: &[Point]| -> Ring {
            let (s, c) = degrees.to_radians().sin_cos();
            points.iter().map(|[x, y]| [x * c - y * s, x * s + y * c]).collect()
        };
        let house = [[0.0, 0.0], [10.0, 0.0], [10.0, 6.0], [0.0, 6.0]];
        for degrees in [0.0, 0.4, 17.0, 44.9, 45.0, 60.0, 89.7] {
            let found = dominant(&turned(degrees, &house), 15.0).to_degrees();
            let off = (found - degrees + 45.0_f64).rem_euclid(90.0) - 45.0;
            assert!(off.abs() < 1e-9, "{degrees}: {found}");
        }
        // Edges of 3° and −3° are of one direction; that of 45° has no part in it.
        let off =
            dominant(&vec![[0.0, 0.0], [10.0, 0.5240778], [12.0, 2.5240778], [2.0, 3.0481556]], 15.0).to_degrees();
        assert!(off.abs() < 4.0 || off > 86.0, "{off}");
    }

    #[test]
    fn a_skewed_rectangle_becomes_one_of_equal_area() {
        let skewed = vec![vec![[0.0, 0.0], [20.0, 1.0], [19.0, 11.0], [-1.0, 10.0]]];
        let found = square(&skewed, &skewed, 15.0, 1.0).unwrap();
        let [a, b, c, d] = found[0][..] else { panic!("{found:?}") };
        let edge = |p: Point, q: Point| [q[0] - p[0], q[1] - p[1]];
        for (u, v) in [(edge(a, b), edge(b, c)), (edge(b, c), edge(c, d)), (edge(c, d), edge(d, a))] {
            assert!(near(u[0] * v[0] + u[1] * v[1], 0.0), "{found:?}");
        }
        let area = super::super::place::signed_area;
        assert!((area(&found[0]) / area(&skewed[0]) - 1.0).abs() < 0.01);
    }

    #[test]
    fn edges_beyond_the_tolerance_stay_and_steps_stay_steps() {
        let gable = vec![vec![[0.0, 0.0], [20.0, 0.0], [20.0, 10.0], [10.0, 18.0], [0.0, 10.0]]];
        assert_eq!(square(&gable, &gable, 15.0, 1.0).unwrap()[0].len(), 5);
        let step = vec![vec![[0.0, 0.0], [20.0, 0.0], [20.0, 10.0], [9.0, 9.8], [9.2, 14.0], [0.0, 14.0]]];
        let found = square(&step, &step, 15.0, 1.0).unwrap();
        assert_eq!(found[0].len(), 6);
        let edges = found[0].iter().zip(found[0].iter().cycle().skip(1));
        let directions: Vec<f64> =
            edges.map(|(p, q)| (q[1] - p[1]).atan2(q[0] - p[0]).to_degrees().rem_euclid(90.0)).collect();
        let first = directions[0];
        assert!(
            directions.iter().all(|d| {
                let off = (d - first + 45.0).rem_euclid(90.0) - 45.0;
                off.abs() < 1e-6
            }),
            "{directions:?}"
        );
    }

    #[test]
    fn a_cut_corner_is_made_whole() {
        let cut = vec![vec![[0.0, 0.0], [17.5, 0.0], [19.5, 1.0], [20.0, 2.0], [20.0, 10.0], [0.0, 10.0]]];
        let found = square(&cut, &cut, 15.0, 1.0).unwrap();
        assert_eq!(found[0].len(), 4);
        assert!(found[0].iter().any(|p| near(p[0], 20.0) && near(p[1], 0.0)), "{found:?}");
    }
}
