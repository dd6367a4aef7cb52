//! Tiles of a mosaic, made by hand.

use gst::glib;
use proptest::prelude::*;

use gstonnxsegment::elements::meta::{RasterInfo, TileMeta};
use gstonnxsegment::raster::Grid;
use gstonnxsegment::raster::clean::Recipe;

use crate::common::*;
use crate::{Mask, by_tiles, cleaner, error_of, frame, grid, tile, together};

const PROPERTIES: &str = "median=1 opening=1 closing=2 hole-area=12 min-area=15";

fn recipe() -> Recipe {
    Recipe { median: 1, opening: 1, closing: 2, hole_area: 12, min_area: 15, ..Recipe::default() }
}

fn push(h: &mut gst_check::Harness, (buffer, caps): (gst::Buffer, String)) -> Result<gst::FlowSuccess, gst::FlowError> {
    h.set_src_caps_str(&caps);
    h.push(buffer)
}

/// The error at the last of some tiles.
fn refused(mask: &Mask, tiles: &[(&Grid, usize)]) -> String {
    let mut h = cleaner(PROPERTIES);
    error_of(&mut h, |h| {
        for (k, (grid, index)) in tiles.iter().enumerate() {
            assert_eq!(push(h, tile(mask, grid, *index, false)).is_ok(), k + 1 < tiles.len(), "tile {index}");
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn tiles_of_any_size_are_the_frame(
        size in (1usize..90, 1usize..60), tile in (1i64..70, 1i64..50), seed in 0usize..1000, wide in any::<bool>(),
    ) {
        let _w = start();
        let mask = Mask::blots(size, seed);
        let whole = frame(&mut cleaner(PROPERTIES), &mask, wide);
        prop_assert!(whole == mask.cleaned(&recipe()));
        prop_assert!(by_tiles(&mut cleaner(PROPERTIES), &mask, &grid(&mask, tile, 0), wide) == whole);
    }
}

#[test]
fn tiles_go_as_soon_as_they_are_decided() {
    let _w = start();
    let mask = Mask::blots((60, 400), 2);
    let grid = grid(&mask, (30, 10), 0);
    let mut h = cleaner("closing=2 min-area=15");
    let mut gone = 0;
    for index in 0..grid.count() {
        push(&mut h, tile(&mask, &grid, index, false)).unwrap();
        gone += std::iter::from_fn(|| h.try_pull()).count();
        // A region of less than 15 pixels and the shape reach over less than 18 rows.
        assert!(gone + 2 * 3 > index, "{gone} of {}", index + 1);
    }
    assert_eq!(gone, grid.count());
}

#[test]
fn one_mosaic_may_follow_another() {
    let _w = start();
    let mut h = cleaner(PROPERTIES);
    for (seed, size) in [(1, (50, 40)), (2, (50, 40)), (3, (33, 9))] {
        let mask = Mask::blots(size, seed);
        let grid = grid(&mask, (16, 12), 0);
        assert!(by_tiles(&mut h, &mask, &grid, false) == mask.cleaned(&recipe()));
    }
}

#[test]
fn pixels_that_the_source_marks_and_tiles_without_any_stay_without_data() {
    let _w = start();
    let mut mask = Mask::blots((45, 40), 4);
    let grid = grid(&mask, (15, 10), 0);
    let hidden = |x: usize, y: usize| (x * 7 + y * 3).is_multiple_of(11);
    let mut h = cleaner(PROPERTIES);
    for index in 0..grid.count() {
        let (mut buffer, caps) = tile(&mask, &grid, index, false);
        let area = grid.tile(index).area;
        if [0, 5, 7].contains(&index) {
            buffer.make_mut().set_flags(gst::BufferFlags::GAP);
        } else if index % 2 == 0 {
            let at = |k: usize| (area.x as usize + k % 15, area.y as usize + k / 15);
            let valid: Vec<u8> = (0..150).map(at).map(|(x, y)| u8::from(!hidden(x, y))).collect();
            let mut marked = mask.part((area.x as usize, area.y as usize, 15, 10)).buffer(false);
            let meta = TileMeta { grid, index, valid: Some(glib::Bytes::from_owned(valid)) };
            meta.attach(marked.make_mut()).unwrap();
            buffer = stamped(marked, index);
        }
        push(&mut h, (buffer, caps)).unwrap();
    }
    for y in 0..40 {
        for x in 0..45 {
            let index = y / 10 * 3 + x / 15;
            if [0, 5, 7].contains(&index) || (index % 2 == 0 && hidden(x, y)) {
                mask.labels[y * 45 + x] = 65535;
            }
        }
    }
    let found = together(&mut h, &mask, &grid, false);
    assert!(found == mask.cleaned(&recipe()));
}

#[test]
fn a_tile_without_data_stays_flagged_and_others_are_not() {
    let _w = start();
    let mask = Mask::new((20, 10), |x, _| if x < 10 { 65535 } else { 1 });
    let grid = grid(&mask, (10, 10), 0);
    let mut h = cleaner("opening=1");
    for index in 0..2 {
        let (mut buffer, caps) = tile(&mask, &grid, index, false);
        if index == 0 {
            buffer.make_mut().set_flags(gst::BufferFlags::GAP);
        }
        push(&mut h, (buffer, caps)).unwrap();
    }
    let gaps: Vec<bool> = (0..2).map(|_| h.pull().unwrap().flags().contains(gst::BufferFlags::GAP)).collect();
    assert_eq!(gaps, [true, false]);
}

#[test]
fn tiles_that_are_padded_beyond_the_mosaic_keep_their_size() {
    let _w = start();
    let mask = Mask::blots((40, 32), 6);
    let inner = Mask { width: 37, height: 30, labels: mask.part((0, 0, 37, 30)).labels };
    let mut grid = grid(&inner, (8, 8), 0);
    (grid.x.multiple, grid.y.multiple) = (8, 8);
    let mut h = cleaner(PROPERTIES);
    for index in 0..grid.count() {
        push(&mut h, tile(&mask, &grid, index, false)).unwrap();
    }
    let found = together(&mut h, &mask, &grid, false);
    assert!(found.part((0, 0, 37, 30)) == inner.cleaned(&recipe()));
    assert!(found.part((37, 0, 3, 32)).labels.iter().all(|label| *label == 65535));
}

#[test]
fn tiles_that_overlap_are_refused() {
    let _w = start();
    let mask = Mask::blots((60, 40), 1);
    let mut overlapping = grid(&mask, (24, 24), 8);
    (overlapping.x.length, overlapping.y.length) = (32, 32);
    let mut h = cleaner("opening=1");
    let text = error_of(&mut h, |h| {
        let area = overlapping.tile(0).area;
        let mut buffer = mask.part((0, 0, area.width as usize, area.height as usize)).buffer(false);
        TileMeta { grid: overlapping, index: 0, valid: None }.attach(buffer.make_mut()).unwrap();
        let caps = caps("GRAY8", (area.width as usize, area.height as usize));
        assert_eq!(push(h, (buffer, caps)), Err(gst::FlowError::Error));
    });
    let expected = "these tiles overlap by 8 pixels, and their labels are no one mask; put maskclean behind `tilemerge`, or \
                    read the finished mask with `rastersrc overlap=0`";
    assert_eq!(text, expected);
}

#[test]
fn tiles_that_are_missing_twice_there_or_of_another_mosaic_are_one_error() {
    let _w = start();
    let mask = Mask::blots((60, 40), 1);
    let (one, other) = (grid(&mask, (20, 20), 0), grid(&mask, (30, 20), 0));
    for (tiles, says) in [
        (&[(&one, 1)][..], "tile 2 of 6 has come where tile 1 was due"),
        (&[(&one, 0), (&one, 2)], "tile 3 of 6 has come where tile 2 was due"),
        (&[(&one, 0), (&one, 0)], "tile 1 of 6 has come where tile 2 was due"),
        (&[(&one, 0), (&other, 1)], "a tile of another grid has come"),
    ] {
        let text = refused(&mask, tiles);
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn a_mosaic_that_ends_early_or_changes_its_format_is_one_error() {
    let _w = start();
    let mask = Mask::blots((60, 40), 1);
    let grid = grid(&mask, (20, 20), 0);
    let mut h = cleaner(PROPERTIES);
    let text = error_of(&mut h, |h| {
        push(h, tile(&mask, &grid, 0, false)).unwrap();
        h.push_event(gst::event::Eos::new());
    });
    assert!(text.contains("the stream ended after 1 of a mosaic's 6 tiles"), "{text}");
    let mut h = cleaner(PROPERTIES);
    let text = error_of(&mut h, |h| {
        push(h, tile(&mask, &grid, 0, false)).unwrap();
        assert_eq!(push(h, tile(&mask, &grid, 1, true)), Err(gst::FlowError::Error));
    });
    assert!(text.contains("the format changed from") && text.contains("after 1 of a mosaic's 6 tiles"), "{text}");
}

#[test]
fn tiles_without_their_place_are_one_error() {
    let _w = start();
    let mask = Mask::blots((60, 40), 1);
    let grid = grid(&mask, (20, 20), 0);
    let bare = |h: &mut gst_check::Harness| {
        let mask = mask.part((0, 0, 20, 20));
        assert_eq!(push(h, (mask.buffer(false), caps("GRAY8", (20, 20)))), Err(gst::FlowError::Error));
    };
    let mut h = cleaner("");
    let text = error_of(&mut h, |h| {
        push(h, tile(&mask, &grid, 0, false)).unwrap();
        bare(h);
    });
    assert!(text.contains("without GstRasterTileMeta has come after 1 of a mosaic's 6 tiles"), "{text}");
    let mut h = cleaner("");
    h.push_event(RasterInfo { width: 60, height: 40, ..RasterInfo::default() }.event());
    let text = error_of(&mut h, bare);
    assert!(
        text.contains("a buffer of 20x20 pixels without GstRasterTileMeta has come, of a raster of 60x40"),
        "{text}"
    );
}

#[test]
fn holes_of_any_size_are_for_frames_alone() {
    let _w = start();
    let mask = Mask::blots((60, 40), 1);
    frame(&mut cleaner("hole-area=all"), &mask, false);
    let mut h = cleaner("hole-area=all");
    let text = error_of(&mut h, |h| {
        assert!(push(h, tile(&mask, &grid(&mask, (20, 20), 0), 0, false)).is_err());
    });
    assert!(text.starts_with("hole-area=all: would keep a whole mosaic in memory"), "{text}");
}

#[test]
fn after_a_flush_a_mosaic_begins_again() {
    let _w = start();
    let mask = Mask::blots((60, 40), 1);
    let grid = grid(&mask, (20, 10), 0);
    let mut h = cleaner(PROPERTIES);
    for stop in [1, 5, 11] {
        (0..stop).for_each(|index| {
            push(&mut h, tile(&mask, &grid, index, false)).unwrap();
        });
        h.push_event(gst::event::FlushStart::new());
        h.push_event(gst::event::FlushStop::new(true));
        while h.try_pull().is_some() {}
        h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    }
    assert!(by_tiles(&mut h, &mask, &grid, false) == mask.cleaned(&recipe()));
}
