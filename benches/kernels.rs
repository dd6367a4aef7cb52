//! Criterion benchmarks of the kernels on one 512 × 512 frame, each beside a copy of the same bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gstonnxsegment::engine::decide::{Decision, Threshold, Work};
use gstonnxsegment::engine::merge::{Domain, Merge, Merger, Rows, Rule, Scratch, Uncertainty};
use gstonnxsegment::engine::pixels::{Band, Conversion, FrameFormat, FrameView, Sample, Scaling, Unit};
use gstonnxsegment::engine::spec::{ElementType, Form, Link};
use gstonnxsegment::engine::tta::{Transform, gather};
use gstonnxsegment::engine::views::{self, Canvas, Depth};
use gstonnxsegment::raster::clean::{Cleaner, Recipe};

const SIDE: usize = 512;

fn conversion(c: &mut Criterion) {
    let mut group = c.benchmark_group("conversion");
    group.throughput(Throughput::Elements((SIDE * SIDE) as u64));
    for (name, step, sample) in [("RGB", 3, Sample::U8), ("RGBA", 4, Sample::U8), ("planar", 1, Sample::U8)] {
        let bytes = vec![100u8; 4 * SIDE * SIDE + 4];
        let format = FrameFormat { width: SIDE, height: SIDE, bands: 3, sample };
        let start = |k| if step == 1 { k * SIDE * SIDE } else { k };
        let bands = (0..3).map(|k| Band { data: &bytes[start(k)..], step, stride: SIDE * step }).collect();
        let frame = FrameView { format, bands };
        let plan = Conversion {
            element: ElementType::F32,
            scaling: Scaling { unit: Unit::Divisor(255.0), mean: vec![0.5; 3], std: vec![0.25; 3] },
            bands: vec![0, 1, 2],
            height: SIDE,
            width: SIDE,
        };
        let mut planes = None;
        group.bench_function(format!("{name} to float planes"), |b| {
            b.iter(|| planes = Some(plan.run(&frame, planes.take())))
        });
    }
    let from = vec![1f32; 3 * SIDE * SIDE];
    group.bench_function("copy of float planes", |b| b.iter(|| from.clone()));
    group.finish();
}

fn transforms(c: &mut Criterion) {
    let mut group = c.benchmark_group("transform");
    group.throughput(Throughput::Elements((SIDE * SIDE) as u64));
    let from = vec![1f32; SIDE * SIDE];
    let mut to = vec![0f32; SIDE * SIDE];
    for t in Transform::ALL {
        let walk = t.walk(SIDE, SIDE, SIDE as isize, 1);
        group.bench_function(t.name(), |b| b.iter(|| gather(&from, walk, &mut to, (SIDE, 1), (SIDE, SIDE), |v| v)));
    }
    group.finish();
}

fn rule(merge: Merge, link: Link) -> Rule {
    Rule { merge, domain: Domain::Probability, link }
}

fn merges(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge of one pass");
    group.throughput(Throughput::Elements((SIDE * SIDE) as u64));
    let cases = [
        ("1 channel, probabilities", 1, Form::Probability, Merge::Mean, None),
        ("1 channel, logits", 1, Form::Logit, Merge::Mean, None),
        ("4 channels, logits", 4, Form::Logit, Merge::Mean, None),
        ("1 channel, mutual information", 1, Form::Probability, Merge::Mean, Some(Uncertainty::MutualInformation)),
        ("1 channel, geometric mean", 1, Form::Probability, Merge::Gmean, None),
        ("4 channels, votes", 4, Form::Probability, Merge::Vote, None),
    ];
    for (name, channels, form, merge, uncertainty) in cases {
        let link = if channels == 1 { Link::Sigmoid } else { Link::Softmax };
        let mut merger = Merger::new(rule(merge, link), Some(channels), (SIDE, SIDE), uncertainty);
        let (mut scores, mut scratch) = (Vec::new(), Scratch::default());
        group.bench_function(name, |b| {
            b.iter(|| {
                for y in (0..SIDE).step_by(16) {
                    scores.clear();
                    scores.resize(channels * 16 * SIDE, 0.3f32);
                    merger.fold(Rows { y, scores: &mut scores, channels }, (form, link, 1.0), 1.0, &mut scratch);
                }
            })
        });
    }
    group.finish();
}

fn masks(c: &mut Criterion) {
    let mut group = c.benchmark_group("mask");
    group.throughput(Throughput::Elements((SIDE * SIDE) as u64));
    for channels in [1, 4] {
        let mut merger = Merger::new(rule(Merge::Mean, Link::Softmax), Some(channels), (SIDE, SIDE), None);
        merger.end_pass(1.0);
        let merged = merger.finish();
        let decision = Decision::new(Threshold::None, 0, None, Some(channels.max(2))).expect("valid");
        let (mut data, mut work) = (vec![0u8; SIDE * SIDE], Work::default());
        group.bench_function(format!("{channels} channels"), |b| {
            b.iter(|| {
                let mut canvas = Canvas { data: &mut data, stride: SIDE, depth: Depth::U8 };
                views::mask(&merged, &decision, &mut canvas, &mut work)
            })
        });
    }
    group.finish();
}

/// A mask of round blots, as buildings are, with a speck or a gap in every fiftieth pixel.
fn cleaning(c: &mut Criterion) {
    let mut group = c.benchmark_group("maskclean");
    group.throughput(Throughput::Elements((SIDE * SIDE) as u64));
    let label = |x: usize, y: usize| {
        let (dx, dy) = ((x % 64).abs_diff(32), (y % 64).abs_diff(32));
        let speck = (x * 7919 + y * 104_729).is_multiple_of(50);
        u16::from((dx * dx + dy * dy < 400) != speck)
    };
    let rows: Vec<Vec<u16>> = (0..SIDE).map(|y| (0..SIDE).map(|x| label(x, y)).collect()).collect();
    let off = Recipe::default();
    for (name, recipe) in [
        ("median of radius 2", Recipe { median: 2, ..off.clone() }),
        ("opening by a disk of radius 5", Recipe { opening: 5, ..off.clone() }),
        ("closing by a disk of radius 5", Recipe { closing: 5, ..off.clone() }),
        ("holes up to 50 pixels", Recipe { hole_area: 50, ..off.clone() }),
        ("regions from 50 pixels on", Recipe { min_area: 50, ..off.clone() }),
        ("all of it", Recipe { median: 1, opening: 1, closing: 1, hole_area: 50, min_area: 50, ..off.clone() }),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut cleaner = Cleaner::new(&recipe, SIDE);
                let mut pixels = 0;
                for row in &rows {
                    cleaner.push(row.clone(), |row| pixels += row.len()).expect("two labels are not too many");
                }
                cleaner.finish(|row| pixels += row.len());
                pixels
            })
        });
    }
    group.finish();
}

criterion_group!(kernels, conversion, transforms, merges, masks, cleaning);
criterion_main!(kernels);
