//! `tilesplit` alone.

use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use crate::common::*;
use crate::*;

fn split(properties: &str) -> gst_check::Harness {
    parsed(&format!("tilesplit {properties}"))
}

/// Bytes of all planes of a tightly stepped picture, plane by plane and row by row without padding.
fn planes(buffer: &gst::BufferRef, caps: &gst::CapsRef) -> Vec<Vec<u8>> {
    let info = VideoInfo::from_caps(caps).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
    let row = info.width() as usize * info.format_info().pixel_stride()[0] as usize;
    (0..info.n_planes())
        .map(|p| {
            let stride = frame.plane_stride()[p as usize] as usize;
            let data = frame.plane_data(p).unwrap();
            (0..info.height() as usize).flat_map(|y| data[y * stride..y * stride + row].to_vec()).collect()
        })
        .collect()
}

#[test]
fn tiles_are_the_frame_reflected_at_its_border() {
    let _w = start();
    // numpy.pad(numpy.arange(12).reshape(3, 4), ((2, 2), (2, 2)), "reflect")
    #[rustfmt::skip]
    let expected = [
        10, 9, 8, 9, 10, 11, 10, 9,
        6, 5, 4, 5, 6, 7, 6, 5,
        2, 1, 0, 1, 2, 3, 2, 1,
        6, 5, 4, 5, 6, 7, 6, 5,
        10, 9, 8, 9, 10, 11, 10, 9,
        6, 5, 4, 5, 6, 7, 6, 5,
        2, 1, 0, 1, 2, 3, 2, 1,
    ];
    let mut h = split("tile-size=100 overlap=4");
    h.play();
    h.set_src_caps_str(&caps("GRAY8", (4, 3)));
    let found = h.push_and_pull(gst::Buffer::from_mut_slice((0u8..12).collect::<Vec<_>>())).unwrap();
    assert_eq!(pixels(&found, &caps_of(&h)), expected);
    assert_eq!(area(&found), Rect::new(-2, -2, 8, 7));
}

#[test]
fn every_format_stride_and_size_is_cut_pixel_by_pixel() {
    let _w = start();
    let greys = [VideoFormat::Gray8, VideoFormat::Gray16Le, VideoFormat::Gray16Be];
    let formats = COLOURS.into_iter().chain(greys);
    let cases =
        [((1, 1), 8, 4), ((1, 7), 8, 2), ((23, 1), 8, 4), ((37, 29), 16, 4), ((31, 13), 12, 6), ((16, 17), 8, 0)];
    for format in formats {
        for (size, tile, overlap) in cases {
            for (padding, offset) in [(0, 0), (5, 3)] {
                // GStreamer wants 16-bit rows to begin at even addresses.
                let padding =
                    if matches!(format, VideoFormat::Gray16Le | VideoFormat::Gray16Be) { 2 * padding } else { padding };
                let mut h = split(&format!("tile-size={tile} overlap={overlap}"));
                h.play();
                let whole = caps(format.to_str().as_str(), size);
                h.set_src_caps_str(&whole);
                let picture = picture_in(format, size, 3, padding, offset);
                let from = planes(&picture, &whole.parse::<gst::Caps>().unwrap());
                h.push(picture).unwrap();
                let found = tiles(&mut h);
                let grid = grid((size.0 as i64, size.1 as i64), tile, overlap);
                assert_eq!(found.len(), grid.count(), "{format:?} {size:?}");
                for (index, (buffer, caps)) in found.iter().enumerate() {
                    let meta = meta(buffer, caps);
                    assert_eq!((meta.grid, meta.index, meta.valid.is_none()), (grid, index, true));
                    let area = grid.tile(index).area;
                    let step = from[0].len() / (size.0 * size.1);
                    let columns = walk(area.x, area.width, size.0 as i64);
                    let rows = walk(area.y, area.height, size.1 as i64);
                    for (from, found) in from.iter().zip(planes(buffer, caps)) {
                        let at = |x: usize, y: usize| &from[(y * size.0 + x) * step..][..step];
                        let expected: Vec<u8> =
                            rows.iter().flat_map(|y| columns.iter().flat_map(|x| at(*x, *y).to_vec())).collect();
                        assert!(found == expected, "{format:?} {size:?} tile {index}");
                    }
                }
            }
        }
    }
}

#[test]
fn bands_of_any_kind_are_cut() {
    let _w = start();
    let (width, height, bands) = (13, 9, 5);
    for (format, bytes) in [("U8", 1), ("U16LE", 2), ("I16LE", 2), ("F32LE", 4)] {
        for planar in [true, false] {
            let layout = if planar { "planar" } else { "interleaved" };
            let data: Vec<u8> = (0..width * height * bands * bytes).map(|k| (k % 251) as u8).collect();
            let mut h = split("tile-size=8 overlap=4");
            h.play();
            h.set_src_caps_str(&format!(
                "raster/x-raw,format={format},layout={layout},bands={bands},width={width},height={height},framerate=25/1"
            ));
            h.push(gst::Buffer::from_mut_slice(data.clone())).unwrap();
            let found = tiles(&mut h);
            let grid = grid((width as i64, height as i64), 8, 4);
            assert_eq!(found.len(), grid.count());
            for (index, (buffer, caps)) in found.iter().enumerate() {
                assert_eq!(caps.structure(0).unwrap().get::<i32>("bands"), Ok(bands as i32));
                assert_eq!(caps.structure(0).unwrap().get::<&str>("layout"), Ok(layout));
                let area = grid.tile(index).area;
                let sample = |band: usize, x: usize, y: usize| {
                    let at = if planar { (band * height + y) * width + x } else { (y * width + x) * bands + band };
                    &data[at * bytes..(at + 1) * bytes]
                };
                let (columns, rows) =
                    (walk(area.x, area.width, width as i64), walk(area.y, area.height, height as i64));
                let mut expected = Vec::new();
                let mut put = |band: usize, x: usize, y: usize| expected.extend_from_slice(sample(band, x, y));
                if planar {
                    (0..bands).for_each(|b| rows.iter().for_each(|y| columns.iter().for_each(|x| put(b, *x, *y))));
                } else {
                    rows.iter().for_each(|y| columns.iter().for_each(|x| (0..bands).for_each(|b| put(b, *x, *y))));
                }
                assert!(*buffer.map_readable().unwrap() == expected[..], "{format} {layout} tile {index}");
            }
        }
    }
}

#[test]
fn caps_say_each_tiles_size_and_keep_the_rest() {
    let _w = start();
    let mut h = split("tile-size=16 overlap=4");
    h.play();
    h.set_src_caps_str(
        "video/x-raw,format=RGB,width=30,height=20,framerate=7/2,pixel-aspect-ratio=3/2,colorimetry=sRGB,interlace-mode=progressive",
    );
    h.push(picture((30, 20), 0)).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| h.try_pull_event()).collect();
    let sizes: Vec<_> = events
        .iter()
        .filter_map(|event| match event.view() {
            gst::EventView::Caps(caps) => Some(caps.caps_owned()),
            _ => None,
        })
        .map(|caps| {
            let s = caps.structure(0).unwrap();
            assert_eq!(s.get::<gst::Fraction>("framerate"), Ok(gst::Fraction::new(7, 2)));
            assert_eq!(s.get::<gst::Fraction>("pixel-aspect-ratio"), Ok(gst::Fraction::new(3, 2)));
            assert_eq!(s.get::<&str>("colorimetry"), Ok("sRGB"));
            (s.get::<i32>("width").unwrap(), s.get::<i32>("height").unwrap())
        })
        .collect();
    // Three columns (the last one 8 + 2 wide, and cut), two rows.
    assert_eq!(sizes, [(16, 16), (10, 16), (16, 12), (10, 12)]);
    assert_eq!(tiles_of(&mut h), 6);
    // The next frame begins with the first size again.
    h.push(picture((30, 20), 1)).unwrap();
    assert_eq!(tiles_of(&mut h), 6);
}

fn tiles_of(h: &mut gst_check::Harness) -> usize {
    std::iter::from_fn(|| h.try_pull()).count()
}

#[test]
fn tiles_have_their_frames_times_flags_and_metas() {
    let _w = start();
    let mut h = split("tile-size=16 overlap=0");
    h.play();
    h.set_src_caps_str(&caps("RGB", (40, 20)));
    let mut buffer = picture((40, 20), 5);
    {
        let b = buffer.get_mut().unwrap();
        b.set_dts(time(4));
        b.set_offset(77);
        use gst::BufferFlags as F;
        b.set_flags(F::DISCONT | F::CORRUPTED | F::GAP | F::MARKER | F::RESYNC);
        let reference = gst::Caps::new_empty_simple("timestamp/x-test");
        gst::meta::ReferenceTimestampMeta::add(b, &reference, gst::ClockTime::from_seconds(9), gst::ClockTime::NONE);
        gst_video::VideoRegionOfInterestMeta::add(b, "house", (1, 2, 3, 4));
    }
    h.push(buffer).unwrap();
    for index in 0..6 {
        let tile = h.pull().unwrap();
        assert_eq!((tile.pts(), tile.dts()), (Some(time(5)), Some(time(4))));
        assert_eq!((tile.duration(), tile.offset()), (Some(gst::ClockTime::from_mseconds(40)), 77));
        let flags = tile.flags();
        assert!(flags.contains(gst::BufferFlags::CORRUPTED | gst::BufferFlags::MARKER));
        assert_eq!(flags.contains(gst::BufferFlags::DISCONT | gst::BufferFlags::RESYNC), index == 0, "{index}");
        // It would mean that there is no data.
        assert!(!flags.contains(gst::BufferFlags::GAP));
        let clock = tile.meta::<gst::meta::ReferenceTimestampMeta>().unwrap();
        assert_eq!(clock.timestamp(), gst::ClockTime::from_seconds(9));
        assert!(
            tile.meta::<gst_video::VideoRegionOfInterestMeta>().is_none(),
            "says where in the frame, not in the tile"
        );
        assert_eq!(tile_metas(&tile), 1);
    }
    // Memory is used again: nothing of the first frame stays on it.
    h.push(picture_in(VideoFormat::Rgb, (40, 20), 0, 0, 0)).unwrap();
    for _ in 0..6 {
        let tile = h.pull().unwrap();
        assert_eq!((tile.pts(), tile.duration()), (None, None));
        assert!(tile.meta::<gst::meta::ReferenceTimestampMeta>().is_none());
        assert!(!tile.flags().intersects(gst::BufferFlags::DISCONT | gst::BufferFlags::CORRUPTED));
        assert_eq!(tile_metas(&tile), 1);
    }
}

#[test]
fn without_models_tiles_are_1024_with_64_in_common() {
    let _w = start();
    let mut h = split("");
    h.play();
    h.set_src_caps_str(&caps("GRAY8", (2000, 100)));
    h.push(picture_in(VideoFormat::Gray8, (2000, 100), 0, 0, 0)).unwrap();
    let areas: Vec<_> = tiles(&mut h).iter().map(|(buffer, _)| area(buffer)).collect();
    assert_eq!(areas[..2], [Rect::new(-32, -32, 1024, 164), Rect::new(928, -32, 1024, 164)]);
    assert_eq!(areas.len(), 3);
}

#[test]
fn models_that_follow_say_what_tiles_they_want() {
    let _w = start();
    for (model, properties, more, size) in [
        ("fixed64", "", "", (64, 64)),
        ("fixed-48x80", "overlap=8", "", (80, 48)),
        ("deepness", "", "", (64, 64)),
        ("sigmoid", "", "", (1024, 1024)),
        ("sigmoid", "tile-size=96", "", (96, 96)),
        ("size-multiple-16", "tile-size=48 overlap=0", "", (48, 48)),
        ("sigmoid", "tile-size=90 overlap=30", "size-multiple=5", (90, 90)),
    ] {
        let file = crate::common::model(model);
        let h = parsed(&format!("tilesplit name=t {properties} ! queue ! onnxsegment model-file={file} {more}"));
        let mut h = h;
        h.play();
        h.set_src_caps_str(&caps("RGB", (3000, 2000)));
        let tilesplit = h.element().unwrap().downcast::<gst::Bin>().unwrap().by_name("t").unwrap();
        let caps = tilesplit.static_pad("src").unwrap().current_caps().unwrap();
        let s = caps.structure(0).unwrap();
        assert_eq!((s.get::<i32>("width"), s.get::<i32>("height")), (Ok(size.0), Ok(size.1)), "{model} {properties}");
    }
}

#[test]
fn tiles_that_models_refuse_are_one_error_that_tells_what_to_do() {
    let _w = start();
    for (model, properties, words) in [
        ("size-multiple-16", "tile-size=100", &["tile-size=100", "multiples of 16", "use 112"][..]),
        ("size-multiple-16", "tile-size=64 overlap=8", &["overlap=8", "multiple of 32", "use 32"]),
        ("fixed64", "tile-size=128", &["tile-size=128", "64 pixels only"]),
    ] {
        let file = crate::common::model(model);
        let pipeline = launch(&format!(
            "videotestsrc num-buffers=2 ! video/x-raw,format=RGB,width=300,height=200 ! tilesplit {properties} ! \
             onnxsegment model-file={file} ! fakesink"
        ));
        let End::Error(_, others) = pipeline.run() else { panic!("it ran") };
        let own: Vec<_> = others.iter().filter(|text| words.iter().all(|word| text.contains(word))).collect();
        assert_eq!(own.len(), 1, "{others:?}");
    }
    let bus = {
        let element =
            gst::ElementFactory::make("tilesplit").property("tile-size", 16).property("overlap", 10).build().unwrap();
        let bus = bus(&element);
        let mut h = harness(&element);
        h.play();
        h.set_src_caps_str(&caps("RGB", (40, 20)));
        assert!(h.push(picture((40, 20), 0)).is_err());
        assert!(h.push(picture((40, 20), 0)).is_err());
        bus
    };
    let text = error_of(&bus);
    assert!(text.contains("overlap=10") && text.contains("use 8"), "{text}");
}

#[test]
fn frames_that_cannot_be_read_are_one_error() {
    let _w = start();
    let element = gst::ElementFactory::make("tilesplit").build().unwrap();
    let bus = bus(&element);
    let mut h = fed(&element, "RGB", (40, 20));
    assert_eq!(h.push(gst::Buffer::with_size(100).unwrap()), Err(gst::FlowError::Error));
    assert_eq!(h.push(picture((40, 20), 0)), Err(gst::FlowError::Error));
    let text = error_of(&bus);
    assert!(text.contains("as its caps say") && text.contains("videoconvert"), "{text}");
}

#[test]
fn a_change_of_size_changes_the_grid() {
    let _w = start();
    let mut h = split("tile-size=16 overlap=4");
    h.play();
    for (k, size) in [(30, 20), (5, 70), (30, 20)].into_iter().enumerate() {
        h.set_src_caps_str(&caps("RGB", size));
        h.push(picture(size, k)).unwrap();
        let grid = grid((size.0 as i64, size.1 as i64), 16, 4);
        let found = tiles(&mut h);
        assert_eq!(found.len(), grid.count());
        for (index, (buffer, caps)) in found.iter().enumerate() {
            assert_eq!((meta(buffer, caps).grid, meta(buffer, caps).index), (grid, index));
        }
    }
}

#[test]
fn any_size_and_stride_is_accepted() {
    let _w = start();
    let file = crate::common::model("fixed64");
    let mut h = parsed(&format!("tilesplit ! onnxsegment model-file={file}"));
    h.play();
    let sink = h.element().unwrap().static_pad("sink").unwrap();
    let accepted = sink.query_caps(None);
    let wide: gst::Caps = caps("RGB", (7680, 4320)).parse().unwrap();
    assert!(accepted.can_intersect(&wide), "{accepted}");
    assert!(!accepted.can_intersect(&caps("GRAY8", (64, 64)).parse::<gst::Caps>().unwrap()), "{accepted}");
    let mut query = gst::query::Allocation::new(Some(&wide), true);
    assert!(sink.query(&mut query));
    assert!(query.find_allocation_meta::<gst_video::VideoMeta>().is_some());
    // Nor does a filter's size get in the way.
    let filtered = sink.query_caps(Some(&wide));
    assert!(filtered.is_strictly_equal(&wide) || filtered.is_subset(&wide) && !filtered.is_empty(), "{filtered}");
    h.set_src_caps(wide);
}

#[test]
fn events_and_queries_pass() {
    let _w = start();
    let mut h = split("tile-size=16 overlap=4");
    h.play();
    h.set_src_caps_str(&caps("RGB", (30, 20)));
    h.push(picture((30, 20), 0)).unwrap();
    let types = event_types(&mut h);
    let order: Vec<_> = types.iter().filter(|t| **t != gst::EventType::Caps).collect();
    assert_eq!(order, [&gst::EventType::StreamStart, &gst::EventType::Segment]);
    assert_eq!(types[1], gst::EventType::Caps);
    for event in [
        gst::event::Seek::new(
            1.0,
            gst::SeekFlags::FLUSH,
            gst::SeekType::Set,
            gst::ClockTime::from_seconds(3),
            gst::SeekType::None,
            gst::ClockTime::NONE,
        ),
        gst::event::Qos::builder(gst::QOSType::Underflow, 2.0, 5).timestamp(time(1)).build(),
    ] {
        let kind = event.type_();
        assert!(h.push_upstream_event(event));
        let arrived = std::iter::from_fn(|| h.try_pull_upstream_event()).any(|e| e.type_() == kind);
        assert!(arrived, "{kind:?}");
    }
    h.set_upstream_latency(gst::ClockTime::from_mseconds(30));
    assert_eq!(h.query_latency(), Some(gst::ClockTime::from_mseconds(30)));
    assert!(h.push_event(gst::event::FlushStart::new()));
    assert_eq!(h.push(picture((30, 20), 1)), Err(gst::FlowError::Flushing));
    assert!(h.push_event(gst::event::FlushStop::new(true)));
    assert!(h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())));
    h.push(picture((30, 20), 2)).unwrap();
    assert!(h.push_event(gst::event::Eos::new()));
    assert!(event_types(&mut h).contains(&gst::EventType::Eos));
}
