//! Source pads: the views, pads that come late and go early, links, and what flows return.

use std::time::Duration;

use gst::prelude::*;
use gst_video::VideoFormat;

use crate::common::*;

const VIEWS: [&str; 3] = ["probability", "uncertainty", "overlay"];

#[test]
fn the_probability_pad_shows_rounded_probabilities() {
    let _w = start();
    let element = element("softmax4", &[("class-index", "2")]);
    let mut h = harness(&element);
    let mut other = view(&element, "probability");
    h.play();
    h.set_src_caps_str(&caps("RGB", (37, 29)));
    h.push(picture((37, 29), 5)).unwrap();
    let found = other.pull().unwrap();
    let merged = merged(&engine("softmax4", &[]), (37, 29), 5);
    let mut scores = Vec::new();
    merged.probability_rows(0, 29, &mut scores, &mut Vec::new());
    let n = 37 * 29;
    let expected: Vec<u8> = scores[2 * n..3 * n].iter().map(|p| (p * 254.0).round() as u8).collect();
    assert!(pixels(&found, &caps_of(&other)) == expected);
}

#[test]
fn a_16_bit_probability_is_finer() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = harness(&element);
    let mut other = gst_check::Harness::with_element(&element, None, Some("probability"));
    other.set_sink_caps_str("video/x-raw,format=GRAY16_LE");
    other.play();
    h.play();
    h.set_src_caps_str(&caps("RGB", (37, 29)));
    h.push(picture((37, 29), 5)).unwrap();
    let found = other.pull().unwrap();
    let merged = merged(&engine("sigmoid", &[]), (37, 29), 5);
    let mut scores = Vec::new();
    merged.probability_rows(0, 29, &mut scores, &mut Vec::new());
    let expected: Vec<u8> = scores.iter().flat_map(|p| ((p * 65534.0 + 0.5) as u16).to_le_bytes()).collect();
    assert!(pixels(&found, &caps_of(&other)) == expected);
}

#[test]
fn the_uncertainty_pad_shows_the_entropy() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = harness(&element);
    let mut other = view(&element, "uncertainty");
    h.play();
    h.set_src_caps_str(&caps("RGB", (37, 29)));
    h.push(picture((37, 29), 5)).unwrap();
    let found = pixels(&other.pull().unwrap(), &caps_of(&other));
    let mut expected = Vec::new();
    merged(&engine("sigmoid", &[]), (37, 29), 5).uncertainty_rows(0, 29, &mut expected).unwrap();
    assert!(found.iter().zip(&expected).all(|(f, e)| (*f as f32 - e * 254.0).abs() <= 0.5 + 1e-3));
}

#[test]
fn the_overlay_pad_paints_the_classes_over_the_frame() {
    let _w = start();
    let element = element("sigmoid", &[("palette", "none,#ff0000"), ("overlay-alpha", "1")]);
    let mut h = harness(&element);
    let mut other = gst_check::Harness::with_element(&element, None, Some("overlay"));
    other.set_sink_caps_str("video/x-raw,format=RGBA");
    other.play();
    h.play();
    h.set_src_caps_str(&caps("BGRx", (37, 29)));
    h.push(stamped(picture_in(VideoFormat::Bgrx, (37, 29), 5, 8, 0), 5)).unwrap();
    let found = pixels(&other.pull().unwrap(), &caps_of(&other));
    let mask = mask(&engine("sigmoid", &[]), (37, 29), 5);
    for (k, (pixel, class)) in found.chunks(4).zip(mask).enumerate() {
        let [r, g, b] = if class == 1 { [255, 0, 0] } else { colour(5, k % 37, k / 37) };
        assert_eq!(pixel, [r, g, b, 255], "pixel {k}");
    }
}

#[test]
fn a_second_request_of_the_same_view_is_refused() {
    let _w = start();
    let element = element("identity1x1", &[]);
    for name in VIEWS {
        let template = element.pad_template(name).unwrap();
        assert!(element.request_pad(&template, None, None).is_some(), "{name}");
        assert!(element.request_pad(&template, None, None).is_none(), "{name}");
    }
    assert_eq!(element.src_pads().len(), 4);
}

#[test]
fn a_released_view_may_be_requested_again() {
    let _w = start();
    let element = element("identity1x1", &[]);
    for _ in 0..3 {
        let pad = element.request_pad_simple("overlay").unwrap();
        element.release_request_pad(&pad);
        assert_eq!(element.src_pads().len(), 1);
    }
}

#[test]
fn a_pad_requested_mid_stream_starts_where_the_stream_is() {
    let _w = start();
    for name in VIEWS {
        let element = element("identity1x1", &[]);
        let mut h = fed(&element, "RGB", (16, 16));
        h.push_event(gst::event::CustomDownstreamSticky::new(gst::Structure::new_empty("test-sticky")));
        for k in 0..3 {
            h.push_and_pull(picture((16, 16), k)).unwrap();
        }
        let mut late = view(&element, name);
        for k in 3..6 {
            h.push_and_pull(picture((16, 16), k)).unwrap();
            assert_eq!(late.pull().unwrap().pts(), Some(time(k)), "{name}");
        }
        let types = event_types(&mut late);
        use gst::EventType::*;
        // The test's own, and what scores mean.
        assert_eq!(types, [StreamStart, Caps, Segment, CustomDownstreamSticky, CustomDownstreamSticky], "{name}");
    }
}

/// A harness around an element that has had a frame and the end.
fn ended(element: &gst::Element) -> gst_check::Harness {
    let mut h = fed(element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
    h.push_event(gst::event::Eos::new());
    while h.pull_event().unwrap().type_() != gst::EventType::Eos {}
    h
}

#[test]
fn a_pad_requested_after_the_end_is_told_so() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let _h = ended(&element);
    let mut late = view(&element, "overlay");
    use gst::EventType::*;
    let types: Vec<_> = (0..5).map(|_| late.pull_event().unwrap().type_()).collect();
    assert_eq!(types, [StreamStart, Caps, Segment, CustomDownstreamSticky, Eos]);
}

#[test]
fn what_is_linked_after_the_end_and_activated_later_still_is_told_so() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let _h = ended(&element);
    let pad = element.request_pad_simple("overlay").unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let sink = gst::Pad::builder(gst::PadDirection::Sink).event_function(move |_, _, e| send.send(e.type_()).is_ok());
    let sink = sink.build();
    // As an application does it: `link`, then `sync_state_with_parent`.
    pad.link(&sink).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    sink.set_active(true).unwrap();
    let types: Vec<_> = (0..5).map(|_| receive.recv_timeout(Duration::from_secs(20)).unwrap()).collect();
    use gst::EventType::*;
    assert_eq!(types, [StreamStart, Caps, Segment, CustomDownstreamSticky, Eos]);
    sink.set_active(false).unwrap();
    element.release_request_pad(&pad);
}

#[test]
fn releasing_a_pad_mid_stream_leaves_the_others_alone() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    for round in 0..20 {
        let other = view(&element, "overlay");
        for k in 0..3 {
            h.push(picture((16, 16), round * 3 + k)).unwrap();
        }
        drop(other); // releases the pad, frames on their way or not
        for k in 0..3 {
            assert_eq!(h.pull().unwrap().pts(), Some(time(round * 3 + k)));
        }
    }
}

#[test]
fn a_pad_that_waits_for_a_batch_can_be_released() {
    let _w = start();
    let element = element("identity1x1", &[("batch-size", "4")]);
    let mut h = harness(&element);
    let other = view(&element, "overlay");
    h.play();
    h.set_src_caps_str(&caps("RGB", (16, 16)));
    h.push(picture((16, 16), 0)).unwrap();
    drop(other);
    h.push_event(gst::event::Eos::new());
    h.pull().unwrap();
}

#[test]
fn an_unlinked_view_does_not_stop_the_others() {
    let _w = start();
    let element = element("identity1x1", &[]);
    for name in VIEWS {
        element.request_pad_simple(name).unwrap();
    }
    let mut h = fed(&element, "RGB", (16, 16));
    for k in 0..30 {
        assert_eq!(h.push_and_pull(picture((16, 16), k)).unwrap().pts(), Some(time(k)));
    }
}

#[test]
fn a_view_works_without_the_mask() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc num-buffers=10 ! video/x-raw,format=RGB,width=64,height=48 ! onnxsegment model-file={identity1x1} name=s \
         s.overlay ! appsink name=out sync=false",
    );
    pipeline.set_state(gst::State::Playing).unwrap();
    assert_eq!(rest(&pipeline.appsink("out")).len(), 10);
}

#[test]
fn nothing_linked_is_an_error() {
    let _w = start();
    for frames in [1, 1000] {
        let pipeline = launch(&format!(
            "videotestsrc num-buffers={frames} ! video/x-raw,format=RGB,width=64,height=48 ! onnxsegment model-file={{identity1x1}}"
        ));
        let End::Error(own, others) = pipeline.run() else { panic!("it ran") };
        assert_eq!(own.len() + others.len(), 1, "{own:?} {others:?}");
    }
}

#[test]
fn a_link_made_after_nothing_was_linked_counts() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = gst_check::Harness::with_element(&element, Some("sink"), None);
    h.play();
    h.set_src_caps_str(&caps("RGB", (16, 16)));
    until("not-linked", || h.srcpad().unwrap().push(picture((16, 16), 0)) == Err(gst::FlowError::NotLinked));
    let mut late = gst_check::Harness::with_element(&element, None, Some("src"));
    late.play();
    h.push(picture((16, 16), 7)).unwrap();
    assert_eq!(late.pull().unwrap().pts(), Some(time(7)));
}

#[test]
fn every_pad_has_a_stream_id_of_its_own_in_the_same_group() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = harness(&element);
    let mut all: Vec<_> = VIEWS.iter().map(|name| view(&element, name)).collect();
    h.play();
    let group = gst::GroupId::next();
    h.push_event(
        gst::event::StreamStart::builder("the-stream").group_id(group).flags(gst::StreamFlags::SELECT).build(),
    );
    h.push_event(gst::event::Caps::new(&caps("RGB", (16, 16)).parse().unwrap()));
    h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    h.push(picture((16, 16), 0)).unwrap();
    all.insert(0, h);
    let mut ids = Vec::new();
    for h in &mut all {
        h.pull().unwrap();
        let start = loop {
            let event = h.pull_event().unwrap();
            if event.type_() == gst::EventType::StreamStart {
                break event;
            }
        };
        let gst::EventView::StreamStart(start) = start.view() else { unreachable!() };
        assert_eq!((start.group_id(), start.stream_flags()), (Some(group), gst::StreamFlags::SELECT));
        ids.push(start.stream_id().to_string());
    }
    assert_eq!(ids[0], "the-stream");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
}

#[test]
fn several_sinks_in_one_pipeline_preroll_without_queues() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc num-buffers=20 ! video/x-raw,format=RGB,width=64,height=48 ! onnxsegment model-file={identity1x1} name=s \
         ! fakesink sync=true s.overlay ! videoconvert ! fakesink sync=true s.probability ! fakesink sync=true s.uncertainty ! fakesink sync=true",
    );
    pipeline.reach(gst::State::Paused);
    pipeline.finish();
}

#[test]
fn one_pad_at_its_end_does_not_end_the_others() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc num-buffers=30 ! video/x-raw,format=RGB,width=64,height=48 ! onnxsegment model-file={identity1x1} name=s \
         ! identity eos-after=3 ! fakesink s.overlay ! appsink name=out sync=false",
    );
    pipeline.set_state(gst::State::Playing).unwrap();
    assert_eq!(rest(&pipeline.appsink("out")).len(), 30);
}

/// What the element returns to its source when its pads' peers return these.
fn flow(
    of_src: Result<gst::FlowSuccess, gst::FlowError>,
    of_view: Result<gst::FlowSuccess, gst::FlowError>,
    expected: gst::FlowError,
) {
    let element = element("identity1x1", &[]);
    let source = gst::Pad::builder(gst::PadDirection::Src).build();
    let sinks = [("src", of_src), ("overlay", of_view)].map(|(name, result)| {
        let sink = gst::Pad::builder(gst::PadDirection::Sink).chain_function(move |_, _, _| result).build();
        sink.set_active(true).unwrap();
        let pad = element.static_pad(name).or_else(|| element.request_pad_simple(name)).unwrap();
        pad.link(&sink).unwrap();
        sink
    });
    source.set_active(true).unwrap();
    source.link(&element.static_pad("sink").unwrap()).unwrap();
    element.set_state(gst::State::Playing).unwrap();
    source.push_event(gst::event::StreamStart::new("x"));
    source.push_event(gst::event::Caps::new(&caps("RGB", (16, 16)).parse().unwrap()));
    source.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    let mut k = 0;
    let mut last = Ok(gst::FlowSuccess::Ok);
    while last == Ok(gst::FlowSuccess::Ok) {
        last = source.push(picture((16, 16), k));
        k += 1;
    }
    assert_eq!(last, Err(expected));
    element.set_state(gst::State::Null).unwrap();
    sinks.iter().for_each(|s| s.set_active(false).unwrap());
    source.set_active(false).unwrap();
}

#[test]
fn the_end_downstream_on_every_pad_is_the_end_upstream() {
    let _w = start();
    flow(Err(gst::FlowError::Eos), Err(gst::FlowError::Eos), gst::FlowError::Eos);
}

#[test]
fn an_error_downstream_on_one_pad_is_an_error_upstream() {
    let _w = start();
    flow(Err(gst::FlowError::Error), Ok(gst::FlowSuccess::Ok), gst::FlowError::Error);
}

#[test]
fn not_linked_on_every_pad_is_not_linked_upstream() {
    let _w = start();
    flow(Err(gst::FlowError::NotLinked), Err(gst::FlowError::NotLinked), gst::FlowError::NotLinked);
}

#[test]
fn a_pad_at_its_end_beside_one_not_linked_is_the_end() {
    let _w = start();
    flow(Err(gst::FlowError::NotLinked), Err(gst::FlowError::Eos), gst::FlowError::Eos);
}

#[test]
fn a_branch_may_be_added_and_taken_away_while_playing() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc is-live=true ! video/x-raw,format=RGB,width=32,height=32,framerate=100/1 ! onnxsegment model-file={identity1x1} name=s qos=false \
         ! appsink name=out sync=false max-buffers=1 drop=true",
    );
    pipeline.set_state(gst::State::Playing).unwrap();
    let (element, out) = (pipeline.get("s"), pipeline.appsink("out"));
    out.try_pull_sample(LONG).unwrap();
    for name in ["uncertainty", "overlay", "probability", "uncertainty"] {
        let sink =
            gst::ElementFactory::make("appsink").property("sync", false).property("async", false).build().unwrap();
        let sink: gst_app::AppSink = sink.downcast().unwrap();
        pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        let pad = element.request_pad_simple(name).unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        for _ in 0..3 {
            sink.try_pull_sample(LONG).unwrap();
        }
        pad.unlink(&sink.static_pad("sink").unwrap()).unwrap();
        element.release_request_pad(&pad);
        sink.set_state(gst::State::Null).unwrap();
        pipeline.remove(&sink).unwrap();
        for _ in 0..3 {
            out.try_pull_sample(LONG).unwrap();
        }
    }
    assert!(errors(&pipeline.bus().unwrap()).is_empty());
}
