//! `tilemerge` alone, fed with tiles made by hand.

use gst::prelude::*;

use gstonnxsegment::elements::meta::{RasterInfo, SegmentationInfo};
use gstonnxsegment::engine::decide::Threshold;
use gstonnxsegment::raster::Grid;

use crate::common::*;
use crate::*;

const SIZE: (i64, i64) = (29, 23);

fn scores_caps(grid: &Grid, index: usize, bands: usize) -> String {
    let area = grid.tile(index).area;
    format!(
        "raster/x-raw,format=F32LE,layout=planar,bands={bands},width={},height={},framerate=25/1,uncertainty=false",
        area.width, area.height
    )
}

/// A score that differs from tile to tile, band to band and pixel to pixel.
fn score(tile: usize, band: usize, x: i64, y: i64) -> f32 {
    let h = (tile as u64 * 7919 + band as u64 * 104_729).wrapping_add((x + 50) as u64 * 31 + (y + 50) as u64 * 17);
    (h.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1u64 << 24) as f32
}

fn tile_of(grid: &Grid, index: usize, bands: usize, value: impl Fn(usize, i64, i64) -> f32) -> gst::Buffer {
    let area = grid.tile(index).area;
    let mut bytes = Vec::new();
    for band in 0..bands {
        for y in area.y..area.bottom() {
            (area.x..area.right()).for_each(|x| bytes.extend_from_slice(&value(band, x, y).to_le_bytes()));
        }
    }
    as_tile(gst::Buffer::from_mut_slice(bytes), grid, index)
}

fn as_tile(mut buffer: gst::Buffer, grid: &Grid, index: usize) -> gst::Buffer {
    TileMeta { grid: *grid, index, valid: None }.attach(buffer.make_mut()).unwrap();
    stamped(buffer, 3)
}

fn merger(properties: &str, follows: &str) -> gst_check::Harness {
    let mut h = parsed(&format!("tilemerge {properties}"));
    if !follows.is_empty() {
        h.set_sink_caps_str(follows);
    }
    h.play();
    h
}

fn info(channels: usize, domain: &str, link: &str) -> SegmentationInfo {
    SegmentationInfo { channels, domain: domain.into(), link: link.into(), ..SegmentationInfo::default() }
}

/// Pushes every tile of a frame and gives the frame.
fn whole(
    h: &mut gst_check::Harness,
    grid: &Grid,
    bands: usize,
    value: impl Fn(usize, usize, i64, i64) -> f32,
) -> gst::Buffer {
    for index in 0..grid.count() {
        assert!(h.try_pull().is_none(), "a frame before its last tile");
        h.set_src_caps_str(&scores_caps(grid, index, bands));
        h.push(tile_of(grid, index, bands, |band, x, y| value(index, band, x, y))).unwrap();
    }
    h.pull().unwrap()
}

fn floats(buffer: &gst::BufferRef) -> Vec<f32> {
    buffer.map_readable().unwrap().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The weight of pixel (x, y) of a T × T tile, written down from references.md.
fn weight(blend: &str, t: f64, o: f64, x: f64, y: f64) -> f64 {
    let r = |i: f64| if o == 0.0 { 1.0 } else { 1f64.min((i + 0.5) / o).min((t - i - 0.5) / o) };
    let bell = |i: f64, middle: f64| (-(i - middle).powi(2) / (2.0 * (t / 8.0).powi(2))).exp();
    let inside = |i: f64| f64::from(i >= o / 2.0 && i < t - o / 2.0);
    match blend {
        "crop" => inside(x) * inside(y),
        "linear" => r(x) * r(y),
        "hann" => {
            let s = |i: f64| (std::f64::consts::PI * r(i) / 2.0).sin().powi(2);
            s(x) * s(y)
        }
        "gaussian" => (bell(x, (t - 1.0) / 2.0) * bell(y, (t - 1.0) / 2.0)).max(1e-3),
        _ => bell(x, (t / 2.0).floor()) * bell(y, (t / 2.0).floor()),
    }
}

/// Σwp / Σw over the tiles that reach a pixel.
fn blended(blend: &str, grid: &Grid, band: usize, x: i64, y: i64) -> f64 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for index in 0..grid.count() {
        let area = grid.tile(index).area;
        if area.contains(&Rect::new(x, y, 1, 1)) {
            let (t, o) = (grid.x.tile as f64, grid.x.overlap as f64);
            let w = weight(blend, t, o, (x - area.x) as f64, (y - area.y) as f64);
            sum += w * score(index, band, x, y) as f64;
            weights += w;
        }
    }
    sum / weights
}

#[test]
fn scores_are_blended_by_their_windows() {
    let _w = start();
    for blend in ["crop", "linear", "hann", "gaussian", "gaussian-nnunet"] {
        for (size, tile, overlap) in [(SIZE, 12, 4), (SIZE, 16, 8), ((7, 40), 11, 2), ((1, 1), 12, 4), (SIZE, 10, 0)] {
            let grid = grid(size, tile, overlap);
            let mut h = merger(&format!("blend={blend}"), "raster/x-raw");
            let found = floats(&whole(&mut h, &grid, 2, score));
            for band in 0..2 {
                for y in 0..size.1 {
                    for x in 0..size.0 {
                        let at = (band as i64 * size.1 + y) * size.0 + x;
                        let (found, expected) = (found[at as usize], blended(blend, &grid, band, x, y));
                        assert!(
                            (found as f64 - expected).abs() < 1e-5,
                            "{blend} {tile}/{overlap} ({x}, {y}): {found} {expected}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn labels_are_decided_after_blending() {
    let _w = start();
    let grid = grid(SIZE, 12, 4);
    let pixels_of = |f: &dyn Fn(i64, i64) -> u16| -> Vec<u16> {
        (0..SIZE.1).flat_map(|y| (0..SIZE.0).map(move |x| (x, y))).map(|(x, y)| f(x, y)).collect()
    };
    // Differences that rounding could decide.
    let near = |a: f64, b: f64| (a - b).abs() < 1e-5;

    let mut h = merger("", "");
    h.push_event(
        SegmentationInfo { threshold: Threshold::All(0.6), label_offset: 2, ..info(1, "probability", "sigmoid") }
            .event(),
    );
    let found = whole(&mut h, &grid, 1, score);
    assert_eq!(caps_of(&h).structure(0).unwrap().get::<&str>("format"), Ok("GRAY8"));
    let found = pixels(&found, &caps_of(&h));
    let p = |x, y| blended("linear", &grid, 0, x, y);
    let expected = pixels_of(&|x, y| if p(x, y) >= 0.6 { 3 } else { 2 });
    for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let at = (k as i64 % SIZE.0, k as i64 / SIZE.0);
        assert!(*found as u16 == *expected || near(p(at.0, at.1), 0.6), "{at:?}");
    }

    // Logits: blended as they are, and the best of three.
    let mut h = merger("blend=hann", "video/x-raw,format=GRAY16_LE");
    h.push_event(SegmentationInfo { mask_values: Some(vec![7, 9, 1000]), ..info(3, "logit", "softmax") }.event());
    let found = whole(&mut h, &grid, 3, |tile, band, x, y| 8.0 * score(tile, band, x, y) - 4.0);
    let data = pixels(&found, &caps_of(&h));
    for (k, found) in data.as_chunks::<2>().0.iter().enumerate() {
        let (x, y) = (k as i64 % SIZE.0, k as i64 / SIZE.0);
        let z: Vec<f64> = (0..3).map(|band| blended("hann", &grid, band, x, y)).collect();
        let best = (0..3).fold(0, |best, k| if z[k] > z[best] { k } else { best });
        let tie = (0..3).any(|k| k != best && near(z[k], z[best]));
        assert!(u16::from_le_bytes(*found) == [7, 9, 1000][best] || tie, "({x}, {y})");
    }

    // One logit under a threshold for probabilities, of both classes or of one: 0.7 is the logit 0.8473.
    for threshold in [Threshold::All(0.7), Threshold::Each(vec![0.0, 0.7])] {
        let mut h = merger("", "");
        h.push_event(SegmentationInfo { threshold, ..info(1, "logit", "sigmoid") }.event());
        let found = whole(&mut h, &grid, 1, |tile, band, x, y| 8.0 * score(tile, band, x, y) - 4.0);
        for (k, found) in pixels(&found, &caps_of(&h)).iter().enumerate() {
            let z = 8.0 * blended("linear", &grid, 0, k as i64 % SIZE.0, k as i64 / SIZE.0) - 4.0;
            assert!(u16::from(*found) == u16::from(z >= 0.847_297_860_387_203) || near(z, 0.847_297_860_387_203));
        }
    }
}

#[test]
fn what_has_no_data_stays_without() {
    let _w = start();
    let grid = grid(SIZE, 12, 4);
    // Columns from 10 on, up to where tile 1 ends, and a pixel.
    let empty = |x: i64, y: i64| x >= 4 && y < 10 || (x, y) == (2, 21);
    let nan = |tile: usize, band: usize, x: i64, y: i64| match empty(x, y) && y >= 0 {
        true => f32::NAN,
        false => score(tile, band, x, y),
    };
    for (follows, format) in [("video/x-raw,format=GRAY8", 1), ("video/x-raw,format=GRAY16_LE", 2), ("raster/x-raw", 8)]
    {
        let mut h = merger("", follows);
        h.push_event(info(2, "probability", "softmax").event());
        for index in 0..grid.count() {
            h.set_src_caps_str(&scores_caps(&grid, index, 2));
            let core = grid.tile(index).area.intersect(&grid.bounds());
            let nothing = (core.y..core.bottom()).all(|y| (core.x..core.right()).all(|x| empty(x, y)));
            let mut tile = tile_of(&grid, index, 2, |band, x, y| nan(index, band, x, y));
            if nothing {
                // Whatever it holds does not count.
                tile = tile_of(&grid, index, 2, |_, _, _| 0.25);
                tile.make_mut().set_flags(gst::BufferFlags::GAP);
            }
            assert_eq!(nothing, [1, 2, 3].contains(&index), "{index}");
            h.push(tile).unwrap();
        }
        let found = h.pull().unwrap();
        assert!(!found.flags().contains(gst::BufferFlags::GAP));
        let n = (SIZE.0 * SIZE.1) as usize;
        let nodata: Vec<bool> = match format {
            1 => pixels(&found, &caps_of(&h)).iter().map(|v| *v == 255).collect(),
            2 => pixels(&found, &caps_of(&h)).as_chunks::<2>().0.iter().map(|v| *v == [255, 255]).collect(),
            _ => {
                let found = floats(&found);
                assert!((0..n).all(|k| found[k].is_nan() == found[n + k].is_nan()));
                found[..n].iter().map(|v| v.is_nan()).collect()
            }
        };
        for (k, nodata) in nodata.iter().enumerate() {
            assert_eq!(*nodata, empty(k as i64 % SIZE.0, k as i64 / SIZE.0), "{follows} {k}");
        }
    }
}

#[test]
fn labels_are_cropped_whatever_blend_says() {
    let _w = start();
    let grid = grid(SIZE, 12, 4);
    for (format, bytes) in [("GRAY8", 1), ("GRAY16_LE", 2)] {
        let mut h = merger("blend=gaussian", "");
        for index in 0..grid.count() {
            let area = grid.tile(index).area;
            let (w, height) = (area.width as usize, area.height as usize);
            h.set_src_caps_str(&caps(format, (w, height)));
            let stride = (w * bytes).next_multiple_of(4);
            let mut data = vec![99u8; stride * height];
            for y in 0..height {
                data[y * stride..y * stride + w * bytes].fill(index as u8);
            }
            let mut tile = as_tile(gst::Buffer::from_mut_slice(data), &grid, index);
            if index == 4 {
                tile.make_mut().set_flags(gst::BufferFlags::GAP);
            }
            h.push(tile).unwrap();
        }
        let found = h.pull().unwrap();
        let found = pixels(&found, &caps_of(&h));
        for (k, pixel) in found.chunks_exact(bytes).enumerate() {
            let at = Rect::new(k as i64 % SIZE.0, k as i64 / SIZE.0, 1, 1);
            let tile = (0..grid.count()).find(|i| grid.tile(*i).core.contains(&at)).unwrap();
            let expected = if tile == 4 { 255 } else { tile as u8 };
            assert!(pixel.iter().all(|v| *v == expected), "{format} {at:?}");
        }
    }
}

#[test]
fn tiles_of_a_raster_have_times_of_their_own() {
    let _w = start();
    let grid = grid(SIZE, 12, 4);
    let mut h = merger("", "");
    h.set_src_caps_str(&scores_caps(&grid, 0, 1));
    h.push_event(RasterInfo { source: "a.tif".into(), width: SIZE.0, height: SIZE.1, ..RasterInfo::default() }.event());
    h.push_event(info(1, "probability", "sigmoid").event());
    for index in 0..grid.count() {
        h.set_src_caps_str(&scores_caps(&grid, index, 1));
        h.push(stamped(tile_of(&grid, index, 1, |band, x, y| score(index, band, x, y)), index)).unwrap();
    }
    assert_eq!(h.pull().unwrap().pts(), Some(time(0)));
}

#[test]
fn events_come_after_the_caps_and_in_order() {
    let _w = start();
    let grid = grid(SIZE, 12, 4);
    let mut h = merger("", "");
    h.set_src_caps_str(&scores_caps(&grid, 0, 1));
    h.push_event(info(1, "probability", "sigmoid").event());
    h.push_event(gst::event::Tag::new(gst::TagList::new()));
    whole(&mut h, &grid, 1, score);
    use gst::EventType as T;
    // The harness repeats its segment with every caps.
    let without_repeats = |h: &mut gst_check::Harness| {
        let mut types = event_types(h);
        let first = types.iter().position(|t| *t == T::Segment).unwrap_or(0);
        let mut k = 0;
        types.retain(|t| (*t != T::Segment || k <= first, k += 1).0);
        types
    };
    let types = without_repeats(&mut h);
    assert_eq!(types, [T::StreamStart, T::Caps, T::Segment, T::CustomDownstreamSticky, T::Tag]);
    // Sizes of tiles are nobody's business downstream.
    whole(&mut h, &grid, 1, score);
    assert_eq!(without_repeats(&mut h), [T::Segment]);
    assert!(h.push_event(gst::event::Eos::new()));
    assert_eq!(event_types(&mut h), [T::Eos]);
}

#[test]
fn a_stream_without_tiles_ends_in_order() {
    let _w = start();
    let mut h = merger("", "");
    h.set_src_caps_str(&scores_caps(&grid(SIZE, 12, 4), 0, 1));
    assert!(h.push_event(gst::event::Eos::new()));
    use gst::EventType as T;
    assert_eq!(event_types(&mut h), [T::StreamStart, T::Segment, T::Eos]);
}

#[test]
fn a_flush_forgets_the_frame_under_way() {
    let _w = start();
    let grid = grid(SIZE, 12, 4);
    let element = gst::ElementFactory::make("tilemerge").build().unwrap();
    let bus = bus(&element);
    let mut h = harness(&element);
    h.play();
    h.push_event(info(1, "probability", "sigmoid").event());
    for before in [1, 3, grid.count()] {
        for index in 0..before {
            h.set_src_caps_str(&scores_caps(&grid, index, 1));
            h.push(tile_of(&grid, index, 1, |band, x, y| score(index, band, x, y))).unwrap();
        }
        while h.try_pull().is_some() {}
        assert!(h.push_event(gst::event::FlushStart::new()));
        assert!(h.push_event(gst::event::FlushStop::new(true)));
        assert!(h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())));
        whole(&mut h, &grid, 1, score);
    }
    assert!(errors(&bus).is_empty());
}

#[test]
fn other_facts_hold_from_the_next_frame_on() {
    let _w = start();
    let grid = grid(SIZE, 12, 4);
    let mut h = merger("", "");
    let high = |_: usize, _: usize, _: i64, _: i64| 0.9;
    for (offset, values, format) in [(0, None, "GRAY8"), (4, None, "GRAY8"), (0, Some(vec![0, 500]), "GRAY16_LE")] {
        let facts = SegmentationInfo { label_offset: offset, mask_values: values, ..info(1, "probability", "sigmoid") };
        h.push_event(facts.event());
        let found = whole(&mut h, &grid, 1, high);
        assert_eq!(caps_of(&h).structure(0).unwrap().get::<&str>("format"), Ok(format));
        let found = pixels(&found, &caps_of(&h));
        let expected = if format == "GRAY8" { vec![1 + offset as u8] } else { 500u16.to_le_bytes().to_vec() };
        assert!(found.chunks_exact(expected.len()).all(|v| v == expected), "{offset}");
    }
}

#[test]
fn scores_are_asked_for_first_and_only_formats_that_may_leave() {
    let _w = start();
    for (follows, formats) in
        [("", &["GRAY8", "GRAY16_LE"][..]), ("video/x-raw,format=GRAY8,width=29", &["GRAY8"]), ("raster/x-raw", &[])]
    {
        let h = merger("", follows);
        let sink = h.element().unwrap().static_pad("sink").unwrap();
        let asked = sink.query_caps(None);
        let first = asked.structure(0).unwrap();
        assert_eq!((first.name().as_str(), first.get::<bool>("uncertainty")), ("raster/x-raw", Ok(false)), "{asked}");
        for format in ["GRAY8", "GRAY16_LE"] {
            let tile: gst::Caps = caps(format, (12, 12)).parse().unwrap();
            assert_eq!(asked.can_intersect(&tile), formats.contains(&format), "{asked} {format}");
        }
        let mut query = gst::query::Allocation::new(Some(&caps("GRAY8", (12, 12)).parse().unwrap()), true);
        assert!(sink.query(&mut query));
        assert!(query.find_allocation_meta::<gst_video::VideoMeta>().is_some());
    }
}

#[test]
fn a_live_pipeline_is_told_how_long_a_frame_takes() {
    let _w = start();
    let grid = grid(SIZE, 12, 4);
    let element = gst::ElementFactory::make("tilemerge").build().unwrap();
    let bus = bus(&element);
    let mut h = harness(&element);
    h.play();
    h.push_event(info(1, "probability", "sigmoid").event());
    let before = h.query_latency().unwrap();
    for index in 0..grid.count() {
        h.set_src_caps_str(&scores_caps(&grid, index, 1));
        h.push(tile_of(&grid, index, 1, |band, x, y| score(index, band, x, y))).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    message(&bus, "a new latency", |m| m.type_() == gst::MessageType::Latency);
    let after = h.query_latency().unwrap();
    assert!(after >= before + gst::ClockTime::from_mseconds(5) * (grid.count() as u64 - 1), "{before} {after}");
}

#[test]
fn everything_that_can_be_wrong_with_tiles_is_one_error() {
    let _w = start();
    let grid = grid(SIZE, 12, 4);
    let other = crate::grid((60, 60), 12, 4);
    let tile = |index: usize| tile_of(&grid, index, 1, |band, x, y| score(index, band, x, y));
    let bare = |index: usize| {
        let area = grid.tile(index).area.area();
        gst::Buffer::with_size(area * 4).unwrap()
    };
    let later = |index: usize| stamped(tile(index), 9);
    type Step = (String, gst::Buffer);
    type Case = (Option<SegmentationInfo>, &'static str, Vec<Step>, &'static [&'static str]);
    let step = |index: usize, buffer: gst::Buffer| -> Step { (scores_caps(&grid, index, 1), buffer) };
    let named = || Some(info(1, "probability", "sigmoid"));
    let cases: Vec<Case> = vec![
        (named(), "", vec![step(0, bare(0))], &["without GstRasterTileMeta", "put `tilesplit` before"]),
        (named(), "", vec![step(1, tile(0)), step(5, tile(5))], &["tile 6 of 12", "where tile 2 of 12", "was due"]),
        (named(), "", vec![step(2, tile(2))], &["tile 3 of 12 has come where a frame begins"]),
        (named(), "", vec![step(0, tile(0)), step(0, tile(0))], &["tile 1 of 12", "where tile 2 of 12"]),
        (named(), "", vec![step(0, tile(0)), step(1, later(1))], &["frame at 0:00:00.360", "frame at 0:00:00.120"]),
        (
            named(),
            "",
            vec![step(0, tile(0)), step(1, tile_of(&other, 1, 1, |_, _, _| 0.5))],
            &["tile 2 of 64", "where tile 2 of 12"],
        ),
        (named(), "", vec![step(3, tile(0))], &["says 12x12", "caps say 9x12", "scaled or cropped"]),
        (None, "", vec![step(0, tile(0))], &["no GstSegmentationInfo has come", "put `onnxsegment` before"]),
        (Some(info(4, "probability", "softmax")), "", vec![step(0, tile(0))], &["4 bands of scores", "the caps say 1"]),
        (
            named(),
            "",
            vec![step(0, as_tile(gst::Buffer::with_size(40).unwrap(), &grid, 0))],
            &["tile 1 of 12 is smaller than its caps say"],
        ),
        (
            named(),
            "video/x-raw,format=GRAY8,width=30",
            vec![step(0, tile(0))],
            &["no format in common", "width=(int)29", "width=(int)30", "videoscale"],
        ),
        (
            named(),
            "",
            vec![step(0, tile(0)), (scores_caps(&grid, 1, 2), tile_of(&grid, 1, 2, |_, _, _| 0.5))],
            &["the format changed", "after 1 of a frame's 12 tiles"],
        ),
        (
            Some(SegmentationInfo { mask_values: Some(vec![1, 2, 3]), ..info(1, "probability", "sigmoid") }),
            "",
            vec![step(0, tile(0))],
            &["mask-values=1,2,3", "2 classes"],
        ),
    ];
    for (facts, follows, steps, words) in cases {
        let element = gst::ElementFactory::make("tilemerge").build().unwrap();
        let bus = bus(&element);
        let mut h = harness(&element);
        if !follows.is_empty() {
            h.set_sink_caps_str(follows);
        }
        h.play();
        if let Some(facts) = facts {
            h.push_event(facts.event());
        }
        let mut last = Ok(gst::FlowSuccess::Ok);
        // The first step of some says other caps than its tile: the step's caps come first, as a stream has them.
        for (caps, buffer) in steps {
            h.set_src_caps_str(&caps);
            last = h.push(buffer);
        }
        assert_eq!(last, Err(gst::FlowError::Error), "{words:?}");
        assert_eq!(h.push(tile(0)), Err(gst::FlowError::Error));
        let text = error_of(&bus);
        println!("{text}\n");
        assert!(words.iter().all(|word| text.contains(word)), "{text}\n{words:?}");
    }
}

#[test]
fn a_stream_that_ends_within_a_frame_is_one_error() {
    let _w = start();
    let grid = grid(SIZE, 12, 4);
    let element = gst::ElementFactory::make("tilemerge").build().unwrap();
    let bus = bus(&element);
    let mut h = harness(&element);
    h.play();
    h.push_event(info(1, "probability", "sigmoid").event());
    for index in 0..2 {
        h.set_src_caps_str(&scores_caps(&grid, index, 1));
        h.push(tile_of(&grid, index, 1, |band, x, y| score(index, band, x, y))).unwrap();
    }
    h.push_event(gst::event::Eos::new());
    let text = error_of(&bus);
    assert!(text.contains("after 2 of the last frame's 12 tiles"), "{text}");
    assert!(event_types(&mut h).contains(&gst::EventType::Eos));
}

#[test]
fn frames_beyond_memory_are_one_error() {
    let _w = start();
    let grid = grid((100_000, 100_000), 1024, 64);
    let element = gst::ElementFactory::make("tilemerge").build().unwrap();
    let bus = bus(&element);
    let mut h = harness(&element);
    h.play();
    h.push_event(info(1, "probability", "sigmoid").event());
    h.set_src_caps_str(&scores_caps(&grid, 0, 1));
    assert_eq!(h.push(tile_of(&grid, 0, 1, |_, _, _| 0.5)), Err(gst::FlowError::Error));
    let text = error_of(&bus);
    assert!(text.contains("100000x100000") && text.contains("rastersink"), "{text}");
}

#[test]
fn only_labels_and_scores_are_accepted() {
    let _w = start();
    let h = merger("", "");
    let sink = h.element().unwrap().static_pad("sink").unwrap();
    let scores = scores_caps(&grid(SIZE, 12, 4), 0, 2);
    for (caps, accepted) in [
        (scores.clone(), true),
        (scores.replace("uncertainty=false", "uncertainty=true"), false),
        (scores.replace("F32LE", "U8"), false),
        (scores.replace("planar", "interleaved"), false),
        (caps("GRAY8", (12, 12)), true),
        (caps("RGB", (12, 12)), false),
    ] {
        assert_eq!(sink.query_accept_caps(&caps.parse::<gst::Caps>().unwrap()), accepted, "{caps}");
    }
}
