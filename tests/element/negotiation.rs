//! Caps, both ways and mid-stream; queries about them.

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use crate::common::*;

fn negotiated(description: &str) -> gst::Caps {
    let pipeline = launch(description);
    pipeline.reach(gst::State::Paused);
    pipeline.get("out").static_pad("sink").unwrap().current_caps().unwrap()
}

fn size(caps: &gst::Caps) -> (i32, i32) {
    let s = caps.structure(0).unwrap();
    (s.get("width").unwrap(), s.get("height").unwrap())
}

#[test]
fn the_peer_that_prefers_8_bit_gets_it() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = harness(&element);
    h.set_sink_caps_str("video/x-raw,format={GRAY8,GRAY16_LE}");
    h.play();
    h.set_src_caps_str(&caps("RGB", (40, 32)));
    h.push_and_pull(picture((40, 32), 0)).unwrap();
    assert_eq!(caps_of(&h).structure(0).unwrap().get::<&str>("format"), Ok("GRAY8"));
}

#[test]
fn the_peer_that_prefers_16_bit_gets_it() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = harness(&element);
    h.set_sink_caps_str("video/x-raw,format=GRAY16_LE;video/x-raw,format=GRAY8");
    h.play();
    h.set_src_caps_str(&caps("RGB", (40, 32)));
    let wide = h.push_and_pull(picture((40, 32), 0)).unwrap();
    assert_eq!(caps_of(&h).structure(0).unwrap().get::<&str>("format"), Ok("GRAY16_LE"));
    let expected: Vec<u8> = mask(&engine("sigmoid", &[]), (40, 32), 0).iter().flat_map(|v| [*v, 0]).collect();
    assert!(pixels(&wide, &caps_of(&h)) == expected);
}

#[test]
fn values_beyond_8_bits_leave_only_the_wide_format() {
    let _w = start();
    let element = element("sigmoid", &[("label-offset", "300")]);
    let mut h = fed(&element, "RGB", (32, 32));
    let wide = h.push_and_pull(picture((32, 32), 0)).unwrap();
    assert_eq!(caps_of(&h).structure(0).unwrap().get::<&str>("format"), Ok("GRAY16_LE"));
    let values: Vec<u16> = pixels(&wide, &caps_of(&h)).chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    let expected: Vec<u16> = mask(&engine("sigmoid", &[]), (32, 32), 0).iter().map(|v| *v as u16 + 300).collect();
    assert_eq!(values, expected);
}

#[test]
fn size_rate_and_pixel_aspect_ratio_are_those_of_the_input() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = harness(&element);
    h.play();
    h.set_src_caps_str("video/x-raw,format=RGB,width=37,height=23,framerate=30000/1001,pixel-aspect-ratio=4/3");
    h.push_and_pull(picture((37, 23), 0)).unwrap();
    let info = VideoInfo::from_caps(&caps_of(&h)).unwrap();
    assert_eq!((info.width(), info.height()), (37, 23));
    assert_eq!((info.fps(), info.par()), (gst::Fraction::new(30000, 1001), gst::Fraction::new(4, 3)));
}

#[test]
fn videoscale_adapts_to_a_model_of_fixed_size() {
    let _w = start();
    let caps = negotiated(
        "videotestsrc num-buffers=2 ! video/x-raw,width=320,height=240 ! videoconvert ! videoscale \
         ! onnxsegment model-file={fixed64} ! fakesink name=out",
    );
    assert_eq!(size(&caps), (64, 64));
}

#[test]
fn the_caps_query_names_the_size_of_a_fixed_model_and_any_filter_gets_an_answer() {
    let _w = start();
    let element = element("fixed-48x80", &[]);
    element.set_state(gst::State::Paused).unwrap();
    let sink = element.static_pad("sink").unwrap();
    assert_eq!(size(&sink.query_caps(None)), (80, 48));
    let wrong: gst::Caps = caps("RGB", (100, 100)).parse().unwrap();
    // The caps event will say what is wrong; an empty answer would say only "not-negotiated".
    assert_eq!(sink.query_caps(Some(&wrong)), wrong);
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn videoconvert_adapts_a_grey_source_to_a_colour_model() {
    let _w = start();
    negotiated(
        "videotestsrc num-buffers=2 ! video/x-raw,format=GRAY8,width=64,height=48 ! videoconvert \
         ! onnxsegment model-file={sigmoid} ! fakesink name=out",
    );
}

#[test]
fn videoconvert_adapts_a_colour_source_to_a_grey_model() {
    let _w = start();
    negotiated(
        "videotestsrc num-buffers=2 ! video/x-raw,format=RGB,width=64,height=48 ! videoconvert \
         ! onnxsegment model-file={gray} ! fakesink name=out",
    );
}

#[test]
fn a_size_that_follows_restricts_what_comes() {
    let _w = start();
    let caps = negotiated(
        "videotestsrc num-buffers=2 ! videoconvert ! videoscale ! onnxsegment model-file={sigmoid} \
         ! video/x-raw,width=72,height=56 ! fakesink name=out",
    );
    assert_eq!(size(&caps), (72, 56));
}

#[test]
fn a_size_that_follows_a_view_restricts_what_comes() {
    let _w = start();
    let caps = negotiated(
        "videotestsrc num-buffers=2 ! videoconvert ! videoscale ! onnxsegment model-file={sigmoid} name=s \
         s.overlay ! video/x-raw,width=72,height=56 ! fakesink name=out",
    );
    assert_eq!(size(&caps), (72, 56));
}

#[test]
fn a_rate_that_follows_restricts_what_comes() {
    let _w = start();
    let caps = negotiated(
        "videotestsrc num-buffers=2 ! videoconvert ! onnxsegment model-file={identity1x1} \
         ! video/x-raw,framerate=7/1 ! fakesink name=out",
    );
    assert_eq!(caps.structure(0).unwrap().get::<gst::Fraction>("framerate").unwrap(), gst::Fraction::new(7, 1));
}

#[test]
fn all_caps_of_the_template_are_accepted_and_others_are_not() {
    let _w = start();
    let element = element("fixed64", &[]);
    element.set_state(gst::State::Paused).unwrap();
    let sink = element.static_pad("sink").unwrap();
    for format in ["RGB", "xBGR", "RGBP", "GRAY8", "GRAY16_BE"] {
        assert!(sink.query_accept_caps(&caps(format, (500, 300)).parse::<gst::Caps>().unwrap()), "{format}");
    }
    for format in ["I420", "NV12", "Y444"] {
        assert!(!sink.query_accept_caps(&caps(format, (500, 300)).parse::<gst::Caps>().unwrap()), "{format}");
    }
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_wrong_size_is_one_error_that_names_both_sizes() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc ! video/x-raw,format=RGB,width=100,height=80 ! onnxsegment model-file={fixed64} ! fakesink",
    );
    let End::Error(own, _) = pipeline.run() else { panic!("it ran") };
    assert_eq!(own.len(), 1, "{own:?}");
    for part in ["fixed64.onnx", "64x64", "100x80", "videoscale"] {
        assert!(own[0].contains(part), "{part}: {own:?}");
    }
}

#[test]
fn wrong_bands_are_one_error_that_names_both_numbers() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc ! video/x-raw,format=GRAY8,width=64,height=64 ! onnxsegment model-file={sigmoid} ! fakesink",
    );
    let End::Error(own, _) = pipeline.run() else { panic!("it ran") };
    assert_eq!(own.len(), 1, "{own:?}");
    for part in ["sigmoid.onnx", "3 channels", "has 1", "videoconvert"] {
        assert!(own[0].contains(part), "{part}: {own:?}");
    }
}

#[test]
fn what_follows_and_does_not_fit_is_one_error_that_names_both() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc ! video/x-raw,format=RGB,width=100,height=80 ! onnxsegment model-file={sigmoid} \
         ! capsfilter name=filter ! fakesink",
    );
    pipeline.get("filter").set_property_from_str("caps", "video/x-raw,width=50,height=40");
    let End::Error(own, _) = pipeline.run() else { panic!("it ran") };
    assert_eq!(own.len(), 1, "{own:?}");
    for part in ["pad src", "100", "50", "videoscale"] {
        assert!(own[0].contains(part), "{part}: {own:?}");
    }
}

#[test]
fn size_and_format_may_change_mid_stream_without_a_drain() {
    let _w = start();
    let element = element("sigmoid", &[("threads", "4")]);
    let mut h = harness(&element);
    h.play();
    let streams = [
        (VideoFormat::Rgb, (40, 32)),
        (VideoFormat::Rgb, (64, 24)),
        (VideoFormat::Bgrx, (24, 64)),
        (VideoFormat::Rgbp, (33, 17)),
    ];
    let mut k = 0;
    for (format, size) in streams {
        h.set_src_caps_str(&caps(format.to_str(), size));
        for _ in 0..3 {
            h.push(stamped(picture_in(format, size, k, 0, 0), k)).unwrap();
            k += 1;
        }
    }
    let ensemble = engine("sigmoid", &[]);
    for k in 0..12 {
        let buffer = h.pull().unwrap();
        assert_eq!(buffer.pts(), Some(time(k)));
        let size = streams[k / 3].1;
        assert_eq!(buffer.size(), size.0.next_multiple_of(4) * size.1);
        let caps: gst::Caps = caps("GRAY8", size).parse().unwrap();
        assert!(pixels(&buffer, &caps) == mask(&ensemble, size, k), "frame {k}");
    }
    // Each stream's caps came once, and nothing after its own frames.
    let types = event_types(&mut h);
    assert_eq!(types.iter().filter(|t| **t == gst::EventType::Caps).count(), 4, "{types:?}");
}

#[test]
fn the_same_caps_again_change_nothing() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
    let caps: gst::Caps = caps("RGB", (16, 16)).parse().unwrap();
    assert!(h.push_event(gst::event::Caps::new(&caps)));
    h.push_and_pull(picture((16, 16), 1)).unwrap();
    let types = event_types(&mut h);
    assert_eq!(types.iter().filter(|t| **t == gst::EventType::Caps).count(), 1, "{types:?}");
}

#[test]
fn what_follows_may_ask_for_another_format_mid_stream() {
    let _w = start();
    let pipeline = launch(
        "appsrc name=in format=time ! onnxsegment model-file={identity1x1} ! capsfilter name=filter ! appsink name=out sync=false",
    );
    let (source, sink, filter) = (pipeline.appsrc("in"), pipeline.appsink("out"), pipeline.get("filter"));
    source.set_caps(Some(&caps("RGB", (16, 16)).parse().unwrap()));
    pipeline.set_state(gst::State::Playing).unwrap();
    let next = |k: usize| {
        source.push_buffer(picture((16, 16), k)).unwrap();
        let sample = sink.try_pull_sample(LONG).unwrap();
        sample.caps().unwrap().structure(0).unwrap().get::<String>("format").unwrap()
    };
    assert_eq!(next(0), "GRAY8");
    filter.set_property_from_str("caps", "video/x-raw,format=GRAY16_LE");
    assert_eq!(next(1), "GRAY16_LE");
    filter.set_property_from_str("caps", "video/x-raw,format=GRAY8");
    assert_eq!(next(2), "GRAY8");
}

#[test]
fn allocation_is_answered_with_the_video_meta() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let h = fed(&element, "RGB", (16, 16));
    let caps: gst::Caps = caps("RGB", (16, 16)).parse().unwrap();
    let mut query = gst::query::Allocation::new(Some(&caps), true);
    assert!(h.srcpad().unwrap().peer_query(&mut query));
    assert!(query.find_allocation_meta::<gst_video::VideoMeta>().is_some());
    let (_, size, least, _) = query.allocation_pools().next().unwrap();
    assert!(size >= 3 * 16 * 16 && least >= 2, "{size} {least}");
}

#[test]
fn the_elements_pads_offer_only_what_the_stream_gives() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = fed(&element, "RGB", (40, 24));
    h.push_and_pull(picture((40, 24), 0)).unwrap();
    assert_eq!(size(&element.static_pad("src").unwrap().query_caps(None)), (40, 24));
}
