//! Frames: right pixels from every layout, right order, everything that they carry.

use gst::prelude::*;
use gst_video::VideoFormat;

use crate::common::*;

/// The mask that the element makes of a buffer.
fn masked(element: &gst::Element, format: VideoFormat, size: (usize, usize), buffer: gst::Buffer) -> Vec<u8> {
    let mut h = fed(element, format.to_str(), size);
    let buffer = h.push_and_pull(buffer).unwrap();
    pixels(&buffer, &caps_of(&h))
}

#[test]
fn the_mask_is_the_engines_own() {
    let _w = start();
    for model in ["sigmoid", "softmax4", "label-u8", "half", "nhwc"] {
        let found = masked(&element(model, &[]), VideoFormat::Rgb, (37, 29), picture((37, 29), 3));
        let expected = mask(&engine(model, &[]), (37, 29), 3);
        assert!(found == expected, "{model}");
        assert!(expected.iter().any(|v| *v != expected[0]), "{model}: a picture that shows nothing");
    }
}

/// The engine's results for these models are compared with an independent reference in `tests/golden`.
#[test]
fn every_classic_architecture_runs() {
    let _w = start();
    for (model, size) in [
        ("arch-fcn", (70, 50)),
        ("arch-unet", (70, 50)),
        ("arch-segnet", (70, 50)),
        ("arch-pspnet", (96, 96)),
        ("arch-deeplab", (70, 50)),
        ("arch-segformer", (70, 50)),
        ("arch-argmax", (70, 50)),
    ] {
        let found = masked(&element(model, &[("tta", "flips")]), VideoFormat::Rgb, size, picture(size, 3));
        let expected = mask(&engine(model, &[("tta", "flips")]), size, 3);
        assert!(found == expected, "{model}");
        assert!((0..3).all(|class| expected.contains(&class)), "{model}: a picture without one of the classes");
    }
}

#[test]
fn the_mask_is_the_engines_own_with_every_transform() {
    let _w = start();
    let properties = [("tta", "d4"), ("merge-domain", "logit"), ("threads", "3")];
    let found = masked(&element("softmax4", &properties), VideoFormat::Rgb, (37, 29), picture((37, 29), 3));
    assert!(found == mask(&engine("softmax4", &properties), (37, 29), 3));
}

#[test]
fn every_colour_format_gives_the_same_mask() {
    let _w = start();
    let expected = mask(&engine("sigmoid", &[]), (37, 29), 1);
    for format in COLOURS {
        let found = masked(&element("sigmoid", &[]), format, (37, 29), picture_in(format, (37, 29), 1, 0, 0));
        assert!(found == expected, "{format:?}");
    }
}

#[test]
fn every_grey_format_gives_the_same_mask() {
    let _w = start();
    let expected = mask(&engine("gray", &[]), (37, 29), 1);
    for format in [VideoFormat::Gray8, VideoFormat::Gray16Le, VideoFormat::Gray16Be] {
        let scale = if format == VideoFormat::Gray8 { "255" } else { "65535" };
        let found =
            masked(&element("gray", &[("scale", scale)]), format, (37, 29), picture_in(format, (37, 29), 1, 0, 0));
        assert!(found == expected, "{format:?}");
    }
}

#[test]
fn any_stride_and_offset_gives_the_same_mask() {
    let _w = start();
    let expected = mask(&engine("sigmoid", &[]), (37, 29), 1);
    for format in COLOURS {
        for (padding, offset) in [(4, 0), (0, 64), (13, 7)] {
            let buffer = picture_in(format, (37, 29), 1, padding, offset);
            let found = masked(&element("sigmoid", &[]), format, (37, 29), buffer);
            assert!(found == expected, "{format:?} with {padding} bytes per row and {offset} before");
        }
    }
    let expected = mask(&engine("gray", &[]), (37, 29), 1);
    for format in [VideoFormat::Gray8, VideoFormat::Gray16Le, VideoFormat::Gray16Be] {
        let scale = if format == VideoFormat::Gray8 { "255" } else { "65535" };
        let buffer = picture_in(format, (37, 29), 1, 6, 10);
        assert!(masked(&element("gray", &[("scale", scale)]), format, (37, 29), buffer) == expected, "{format:?}");
    }
}

#[test]
fn a_picture_in_many_memories_gives_the_same_mask() {
    let _w = start();
    let whole = picture((37, 29), 1);
    let map = whole.map_readable().unwrap();
    let mut parts = gst::Buffer::new();
    for part in map.chunks(1000) {
        parts.get_mut().unwrap().append_memory(gst::Memory::from_slice(part.to_vec()));
    }
    let found = masked(&element("sigmoid", &[]), VideoFormat::Rgb, (37, 29), parts);
    assert!(found == mask(&engine("sigmoid", &[]), (37, 29), 1));
}

#[test]
fn a_padded_output_buffer_holds_the_same_mask() {
    let _w = start();
    // Rows of widths that are no multiple of 4 are padded.
    for width in [1, 2, 3, 5, 63, 64, 65] {
        let found = masked(&element("identity1x1", &[]), VideoFormat::Rgb, (width, 3), picture((width, 3), 2));
        assert!(found == mask(&engine("identity1x1", &[]), (width, 3), 2), "{width}");
    }
}

#[test]
fn strides_that_do_not_fit_the_buffer_are_one_error() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let bus = bus(&element);
    let mut h = fed(&element, "RGB", (16, 16));
    assert_eq!(h.push(gst::Buffer::from_slice(vec![0; 100])), Err(gst::FlowError::Error));
    let errors = errors(&bus);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].1.contains("100 bytes"), "{errors:?}");
}

#[test]
fn a_video_meta_of_another_format_is_one_error() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let bus = bus(&element);
    let mut h = fed(&element, "RGB", (16, 16));
    let buffer = picture_in(VideoFormat::Rgba, (16, 16), 0, 4, 0);
    assert_eq!(h.push(buffer), Err(gst::FlowError::Error));
    assert_eq!(errors(&bus).len(), 1);
}

#[test]
fn frames_come_out_in_order_with_many_in_flight() {
    let _w = start();
    let element = element("sigmoid", &[("threads", "4"), ("tta", "flip3")]);
    let pipeline = launch("appsrc name=in format=time max-bytes=0 ! identity name=here ! appsink name=out sync=false");
    let here = pipeline.get("here");
    let (source, sink) = (pipeline.appsrc("in"), pipeline.appsink("out"));
    pipeline.add(&element).unwrap();
    here.unlink(&sink);
    gst::Element::link_many([&here, &element, sink.upcast_ref()]).unwrap();
    source.set_caps(Some(&caps("RGB", (40, 32)).parse().unwrap()));
    for k in 0..40 {
        source.push_buffer(picture((40, 32), k)).unwrap();
    }
    source.end_of_stream().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let ensemble = engine("sigmoid", &[("tta", "flip3")]);
    let samples = rest(&sink);
    assert_eq!(samples.len(), 40);
    for (k, sample) in samples.iter().enumerate() {
        assert_eq!(sample.buffer().unwrap().pts(), Some(time(k)));
        assert!(pixels(sample.buffer().unwrap(), sample.caps().unwrap()) == mask(&ensemble, (40, 32), k), "frame {k}");
    }
}

#[test]
fn the_end_of_the_stream_lets_every_frame_of_an_unfilled_batch_out() {
    let _w = start();
    let element = element("sigmoid", &[("batch-size", "4")]);
    let mut h = fed(&element, "RGB", (40, 32));
    for k in 0..5 {
        h.push(picture((40, 32), k)).unwrap();
    }
    assert!(h.push_event(gst::event::Eos::new()));
    let ensemble = engine("sigmoid", &[]);
    for k in 0..5 {
        let buffer = h.pull().unwrap();
        assert_eq!(buffer.pts(), Some(time(k)));
        assert!(pixels(&buffer, &caps_of(&h)) == mask(&ensemble, (40, 32), k), "frame {k}");
    }
    while h.pull_event().unwrap().type_() != gst::EventType::Eos {}
    assert!(h.try_pull().is_none());
}

#[test]
fn the_end_of_a_segment_lets_every_frame_of_an_unfilled_batch_out() {
    let _w = start();
    let element = element("identity1x1", &[("batch-size", "4")]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push(picture((16, 16), 0)).unwrap();
    assert!(h.push_event(gst::event::SegmentDone::new(time(1))));
    h.pull().unwrap();
    while h.pull_event().unwrap().type_() != gst::EventType::SegmentDone {}
}

#[test]
fn a_change_of_caps_lets_an_unfilled_batch_go() {
    let _w = start();
    let element = element("identity1x1", &[("batch-size", "4")]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push(picture((16, 16), 0)).unwrap();
    h.set_src_caps_str(&caps("RGB", (24, 16)));
    assert_eq!(h.pull().unwrap().pts(), Some(time(0)));
}

#[test]
fn an_unfilled_batch_goes_after_its_timeout() {
    let _w = start();
    let element = element("identity1x1", &[("batch-size", "4"), ("batch-timeout", "20000000")]);
    let mut h = fed(&element, "RGB", (16, 16));
    for k in 0..2 {
        h.push(picture((16, 16), k)).unwrap();
    }
    for k in 0..2 {
        assert_eq!(h.pull().unwrap().pts(), Some(time(k)));
    }
}

fn dressed(seed: usize) -> gst::Buffer {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| gst::meta::CustomMeta::register("OnnxSegmentTestMeta", &["video"]));
    let mut buffer = picture_in(VideoFormat::Rgb, (37, 29), seed, 5, 3);
    let b = buffer.get_mut().unwrap();
    b.set_pts(time(seed));
    b.set_dts(time(seed + 1));
    b.set_duration(gst::ClockTime::from_mseconds(7));
    b.set_offset(seed as u64 + 100);
    b.set_offset_end(seed as u64 + 101);
    b.set_flags(
        gst::BufferFlags::DISCONT | gst::BufferFlags::CORRUPTED | gst::BufferFlags::GAP | gst::BufferFlags::MARKER,
    );
    gst::meta::ReferenceTimestampMeta::add(
        b,
        &gst::Caps::new_empty_simple("timestamp/x-test"),
        gst::ClockTime::from_seconds(1234),
        gst::ClockTime::NONE,
    );
    let mut meta = gst::meta::CustomMeta::add(b, "OnnxSegmentTestMeta").unwrap();
    meta.mut_structure().set("tile", seed as i32);
    gst_video::VideoRegionOfInterestMeta::add(b, "house", (1, 2, 3, 4));
    buffer
}

#[test]
fn times_flags_and_metas_are_carried_to_every_output() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = harness(&element);
    let mut others: Vec<_> =
        ["probability", "uncertainty", "overlay"].into_iter().map(|name| view(&element, name)).collect();
    h.play();
    h.set_src_caps_str(&caps("RGB", (37, 29)));
    for seed in 0..3 {
        h.push(dressed(seed)).unwrap();
    }
    others.push(h);
    for h in &mut others {
        for seed in 0..3 {
            let buffer = h.pull().unwrap();
            assert_eq!((buffer.pts(), buffer.dts()), (Some(time(seed)), Some(time(seed + 1))));
            assert_eq!(buffer.duration(), Some(gst::ClockTime::from_mseconds(7)));
            assert_eq!((buffer.offset(), buffer.offset_end()), (seed as u64 + 100, seed as u64 + 101));
            let flags = gst::BufferFlags::DISCONT
                | gst::BufferFlags::CORRUPTED
                | gst::BufferFlags::GAP
                | gst::BufferFlags::MARKER;
            assert!(buffer.flags().contains(flags), "{:?}", buffer.flags());
            let clock = buffer.meta::<gst::meta::ReferenceTimestampMeta>().unwrap();
            assert_eq!(clock.timestamp(), gst::ClockTime::from_seconds(1234));
            let tile = gst::meta::CustomMeta::from_buffer(&buffer, "OnnxSegmentTestMeta").unwrap();
            assert_eq!(tile.structure().get::<i32>("tile"), Ok(seed as i32));
            assert_eq!(buffer.meta::<gst_video::VideoRegionOfInterestMeta>().unwrap().rect(), (1, 2, 3, 4));
            // Strides describe the input's memory, not this one's.
            if let Some(meta) = buffer.meta::<gst_video::VideoMeta>() {
                assert_eq!(meta.offset()[0], 0);
                assert_ne!(meta.format(), VideoFormat::Rgbx);
            }
            assert!(pixels(&buffer, &caps_of(h)).len().is_multiple_of(37 * 29));
        }
    }
}

#[test]
fn metas_do_not_pile_up_on_pooled_buffers() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (37, 29));
    for seed in 0..20 {
        let buffer = h.push_and_pull(dressed(seed)).unwrap();
        assert_eq!(buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>().count(), 1);
        drop(buffer);
        let plain = h.push_and_pull(picture((37, 29), seed)).unwrap();
        assert_eq!(plain.iter_meta::<gst_video::VideoRegionOfInterestMeta>().count(), 0);
        assert!(!plain.flags().contains(gst::BufferFlags::DISCONT));
    }
}

#[test]
fn a_frame_without_times_passes() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    let buffer = h.push_and_pull(picture_in(VideoFormat::Rgb, (16, 16), 0, 0, 0)).unwrap();
    assert_eq!((buffer.pts(), buffer.duration()), (None, None));
}

#[test]
fn gap_frames_without_tile_meta_are_inferred_like_any_other() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = fed(&element, "RGB", (37, 29));
    let mut buffer = picture((37, 29), 4);
    buffer.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
    let found = h.push_and_pull(buffer).unwrap();
    assert!(pixels(&found, &caps_of(&h)) == mask(&engine("sigmoid", &[]), (37, 29), 4));
}

#[test]
fn not_finite_scores_are_one_error_that_names_the_model() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc pattern=white ! video/x-raw,format=RGB,width=64,height=64 ! onnxsegment model-file={nan} name=s ! fakesink \
         s.overlay ! fakesink s.probability ! fakesink",
    );
    let End::Error(own, _) = pipeline.run() else { panic!("it ran") };
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(own[0].contains("nan.onnx"), "{own:?}");
}

#[test]
fn not_finite_scores_of_the_last_frame_are_one_error_too() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc pattern=white num-buffers=1 ! video/x-raw,format=RGB,width=64,height=64 ! onnxsegment model-file={nan} ! fakesink",
    );
    let End::Error(own, _) = pipeline.run() else { panic!("it ran") };
    assert_eq!(own.len(), 1, "{own:?}");
}

#[test]
fn instances_in_one_process_give_their_own_results() {
    let _w = start();
    let all: Vec<_> = [("sigmoid", "none"), ("sigmoid", "flips"), ("softmax4", "d4"), ("sigmoid", "none")]
        .into_iter()
        .enumerate()
        .map(|(k, (model, tta))| {
            std::thread::spawn(move || {
                let element = element(model, &[("tta", tta)]);
                let mut h = fed(&element, "RGB", (40, 32));
                let ensemble = engine(model, &[("tta", tta)]);
                for seed in k..k + 10 {
                    let buffer = h.push_and_pull(picture((40, 32), seed)).unwrap();
                    assert!(pixels(&buffer, &caps_of(&h)) == mask(&ensemble, (40, 32), seed));
                }
            })
        })
        .collect();
    all.into_iter().for_each(|t| t.join().unwrap());
}
