//! Live sources: latency, and frames that come too late.

use gst::prelude::*;

use crate::common::*;

fn stat(element: &gst::Element, name: &str) -> u64 {
    element.property::<gst::Structure>("stats").get(name).unwrap()
}

fn late(h: &mut gst_check::Harness, at: gst::ClockTime) {
    h.push_upstream_event(gst::event::Qos::new(gst::QOSType::Underflow, 2.0, 1, Some(at)));
}

#[test]
fn a_live_source_hears_of_the_elements_latency() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let bus = bus(&element);
    let mut h = harness(&element);
    h.set_upstream_latency(gst::ClockTime::from_mseconds(15));
    h.play();
    h.set_src_caps_str(&caps("RGB", (256, 256)));
    message(&bus, "latency", |m| m.type_() == gst::MessageType::Latency);
    let mut query = gst::query::Latency::new();
    assert!(element.static_pad("src").unwrap().query(&mut query));
    let (live, least, _) = query.result();
    assert!(live);
    let own: gst::ClockTime = element.property::<gst::Structure>("stats").get("latency").unwrap();
    assert!(own > gst::ClockTime::ZERO);
    assert_eq!(least, gst::ClockTime::from_mseconds(15) + own);
}

#[test]
fn the_wait_for_a_batch_is_part_of_the_latency() {
    let _w = start();
    let latency = |properties: &[(&str, &str)]| {
        let element = element("identity1x1", properties);
        let _h = fed(&element, "RGB", (16, 16));
        element.property::<gst::Structure>("stats").get::<gst::ClockTime>("latency").unwrap()
    };
    assert!(latency(&[("batch-size", "5")]) >= time(4));
    let capped = latency(&[("batch-size", "5"), ("batch-timeout", "60000000")]);
    assert!(capped >= gst::ClockTime::from_mseconds(60) && capped < time(4), "{capped}");
}

#[test]
fn a_source_that_is_not_live_has_no_latency() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc num-buffers=2 ! video/x-raw,format=RGB,width=64,height=64 ! onnxsegment model-file={sigmoid} name=s ! fakesink",
    );
    pipeline.reach(gst::State::Paused);
    let element = pipeline.get("s");
    let (mut before, mut after) = (gst::query::Latency::new(), gst::query::Latency::new());
    assert!(element.static_pad("sink").unwrap().peer_query(&mut before));
    assert!(element.static_pad("src").unwrap().query(&mut after));
    assert_eq!(after.result(), before.result());
    assert!(!after.result().0);
}

#[test]
fn a_live_pipeline_plays_with_synchronising_sinks() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc is-live=true num-buffers=10 ! video/x-raw,format=RGB,width=64,height=64,framerate=50/1 \
         ! onnxsegment model-file={identity1x1} name=s ! fakesink sync=true s.overlay ! fakesink sync=true",
    );
    pipeline.finish();
}

#[test]
fn late_frames_are_dropped_before_inference_counted_and_reported() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let bus = bus(&element);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
    late(&mut h, time(5));
    for k in 1..5 {
        h.push(picture((16, 16), k)).unwrap();
    }
    h.push(picture((16, 16), 10)).unwrap();
    let buffer = h.pull().unwrap();
    assert_eq!(buffer.pts(), Some(time(10)));
    assert!(buffer.flags().contains(gst::BufferFlags::DISCONT));
    assert_eq!((stat(&element, "received"), stat(&element, "dropped"), stat(&element, "frames")), (6, 4, 2));
    let report = message(&bus, "qos", |m| m.type_() == gst::MessageType::Qos);
    let gst::MessageView::Qos(qos) = report.view() else { unreachable!() };
    let (live, running, stream, timestamp, duration) = qos.get();
    assert!(live);
    assert_eq!((running, stream, timestamp), (Some(time(1)), Some(time(1)), Some(time(1))));
    assert_eq!(duration, Some(time(1)));
    let (processed, dropped) = qos.stats();
    assert_eq!(dropped.value(), 1);
    assert_eq!(processed.value(), 1);
}

#[test]
fn the_next_frame_after_a_drop_alone_is_discontinuous() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
    late(&mut h, time(5));
    h.push(picture((16, 16), 1)).unwrap();
    let flags: Vec<_> = (10..13).map(|k| h.push_and_pull(picture((16, 16), k)).unwrap().flags()).collect();
    let discont: Vec<_> = flags.iter().map(|f| f.contains(gst::BufferFlags::DISCONT)).collect();
    assert_eq!(discont, [true, false, false]);
}

#[test]
fn nothing_is_dropped_without_qos() {
    let _w = start();
    let element = element("identity1x1", &[("qos", "false")]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
    late(&mut h, time(50));
    for k in 1..5 {
        assert_eq!(h.push_and_pull(picture((16, 16), k)).unwrap().pts(), Some(time(k)));
    }
    assert_eq!(stat(&element, "dropped"), 0);
}

#[test]
fn qos_may_be_switched_while_playing() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
    late(&mut h, time(50));
    h.push(picture((16, 16), 1)).unwrap();
    element.set_property("qos", false);
    assert_eq!(h.push_and_pull(picture((16, 16), 2)).unwrap().pts(), Some(time(2)));
}

#[test]
fn a_sink_in_time_again_ends_the_dropping() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
    late(&mut h, time(50));
    h.push(picture((16, 16), 1)).unwrap();
    h.push_upstream_event(gst::event::Qos::new(gst::QOSType::Overflow, 0.5, -1, Some(time(1))));
    assert_eq!(h.push_and_pull(picture((16, 16), 2)).unwrap().pts(), Some(time(2)));
}

#[test]
fn lateness_of_before_a_flush_is_forgotten() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    late(&mut h, time(500));
    h.push_event(gst::event::FlushStart::new());
    h.push_event(gst::event::FlushStop::new(true));
    h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    assert_eq!(h.push_and_pull(picture((16, 16), 2)).unwrap().pts(), Some(time(2)));
}

#[test]
fn lateness_counts_in_running_time() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(time(1000));
    h.push_event(gst::event::Segment::new(&segment));
    late(&mut h, time(5));
    h.push(picture((16, 16), 1003)).unwrap();
    assert_eq!(h.push_and_pull(picture((16, 16), 1020)).unwrap().pts(), Some(time(1020)));
    assert_eq!(stat(&element, "dropped"), 1);
}

#[test]
fn reports_of_lateness_travel_on_upstream() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    late(&mut h, time(5));
    while h.pull_upstream_event().unwrap().type_() != gst::EventType::Qos {}
}
