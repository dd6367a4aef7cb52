//! `tilesplit` and `tilemerge`: frames to tiles, tiles to frames.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/reference.rs"]
mod reference;

mod golden;
mod merge;
mod split;
mod together;

use gst::prelude::*;

use gstonnxsegment::elements::meta::TileMeta;
use gstonnxsegment::raster::{Axis, Grid, Rect};

/// A grid of square tiles.
pub fn grid((width, height): (i64, i64), tile: i64, overlap: i64) -> Grid {
    let axis = |length| Axis { length, tile, overlap, multiple: 1, fixed: false };
    Grid { x: axis(width), y: axis(height) }
}

/// The index of every pixel that `numpy.pad(range(length), …, "reflect")` shows from `from` on, by walking to and fro.
pub fn walk(from: i64, count: i64, length: i64) -> Vec<usize> {
    let step = |at: &mut i64, direction: &mut i64| {
        if length > 1 {
            if *at + *direction < 0 || *at + *direction >= length {
                *direction = -*direction;
            }
            *at += *direction;
        }
    };
    let (mut at, mut direction) = (0, 1);
    // To the left the walk is the same as to the right.
    let mut left = vec![0];
    for _ in 0..from.max(0).max(-from) {
        step(&mut at, &mut direction);
        left.push(at as usize);
    }
    if from >= 0 {
        return (0..count)
            .map(|_| {
                let found = at as usize;
                step(&mut at, &mut direction);
                found
            })
            .collect();
    }
    left.reverse();
    left.pop();
    let (mut at, mut direction) = (0, 1);
    while (left.len() as i64) < count {
        left.push(at as usize);
        step(&mut at, &mut direction);
    }
    left.truncate(count as usize);
    left
}

/// A harness around a piece of a pipeline.
pub fn parsed(description: &str) -> gst_check::Harness {
    gst_check::Harness::new_parse(description)
}

/// The tile meta of a buffer whose caps are those of the harness.
pub fn meta(buffer: &gst::BufferRef, caps: &gst::Caps) -> TileMeta {
    let s = caps.structure(0).unwrap();
    let side = |name: &str| s.get::<i32>(name).unwrap() as u32;
    TileMeta::of(buffer, side("width"), side("height")).unwrap().expect("a tile")
}

/// Everything that has come out: buffers with the caps that held.
pub fn tiles(harness: &mut gst_check::Harness) -> Vec<(gst::Buffer, gst::Caps)> {
    let mut found = Vec::new();
    let caps: Vec<gst::Caps> = std::iter::from_fn(|| harness.try_pull_event())
        .filter_map(|event| match event.view() {
            gst::EventView::Caps(caps) => Some(caps.caps_owned()),
            _ => None,
        })
        .collect();
    while let Some(buffer) = harness.try_pull() {
        // Events and buffers are kept apart: the size tells which caps belong to which.
        let area = area(&buffer);
        let fits = |caps: &&gst::Caps| {
            let s = caps.structure(0).unwrap();
            (s.get::<i32>("width"), s.get::<i32>("height")) == (Ok(area.width as i32), Ok(area.height as i32))
        };
        let caps = caps.iter().rev().find(fits).expect("caps of this size have come").clone();
        found.push((buffer, caps));
    }
    found
}

/// Where a tile says that it lies.
pub fn area(buffer: &gst::BufferRef) -> Rect {
    let meta = gst::meta::CustomMeta::from_buffer(buffer, "GstRasterTileMeta").unwrap();
    let number = |name: &str| meta.structure().get::<i64>(name).unwrap();
    Rect::new(number("x"), number("y"), number("width"), number("height"))
}

/// How many tile metas a buffer has.
pub fn tile_metas(buffer: &gst::BufferRef) -> usize {
    let mut count = 0;
    buffer.foreach_meta(|meta| {
        count += usize::from(meta.try_as_custom_meta().is_some_and(|m| m.has_name("GstRasterTileMeta")));
        std::ops::ControlFlow::Continue(())
    });
    count
}

/// The first error that an element posts.
pub fn error_of(bus: &gst::Bus) -> String {
    let found = common::errors(bus);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].1.clone()
}

#[test]
fn the_walk_is_numpys() {
    // numpy.pad(numpy.arange(4), (7, 6), "reflect")
    assert_eq!(walk(-7, 17, 4), [1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3]);
    assert_eq!(walk(2, 5, 4), [2, 3, 2, 1, 0]);
    assert_eq!(walk(-2, 4, 1), [0, 0, 0, 0]);
}

#[test]
fn both_are_registered_with_their_properties() {
    let _w = common::start();
    let split = gst::ElementFactory::make("tilesplit").build().unwrap();
    assert_eq!((split.property::<i32>("tile-size"), split.property::<i32>("overlap")), (0, -1));
    let merge = gst::ElementFactory::make("tilemerge").build().unwrap();
    let class = merge.property_value("blend");
    let (_, value) = gst::glib::EnumValue::from_value(&class).unwrap();
    assert_eq!(value.nick(), "linear");
    for nick in ["crop", "linear", "hann", "gaussian", "gaussian-nnunet"] {
        merge.set_property_from_str("blend", nick);
    }
}
