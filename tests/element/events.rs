//! Events and queries: in order with the frames, or past them.

use gst::prelude::*;

use crate::common::*;

/// The order in which things reach a pad that follows: `"frame 40"`, `"gap"`, names of custom events.
fn record(pad: &gst::Pad) -> std::sync::Arc<std::sync::Mutex<Vec<String>>> {
    let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let writer = log.clone();
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let text = match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => format!("frame {}", buffer.pts().unwrap().mseconds() / 40),
            Some(gst::PadProbeData::Event(event)) => match event.structure() {
                Some(s) if event.type_() == gst::EventType::CustomDownstream => s.name().to_string(),
                Some(s) if event.type_() == gst::EventType::CustomDownstreamSticky => s.name().to_string(),
                _ => event.type_().to_string(),
            },
            _ => return gst::PadProbeReturn::Ok,
        };
        writer.lock().unwrap().push(text);
        gst::PadProbeReturn::Ok
    });
    log
}

#[test]
fn gaps_and_custom_events_stay_in_order_with_the_frames() {
    let _w = start();
    let element = element("sigmoid", &[("threads", "4"), ("tta", "flip3")]);
    let mut h = harness(&element);
    let other = view(&element, "overlay");
    h.play();
    h.set_src_caps_str(&caps("RGB", (40, 32)));
    let logs = ["src", "overlay"].map(|name| record(&element.static_pad(name).unwrap()));
    let mut expected = vec!["GstSegmentationInfo".to_string()];
    for k in 0..12 {
        h.push(picture((40, 32), k)).unwrap();
        expected.push(format!("frame {k}"));
        if k % 3 == 0 {
            h.push_event(gst::event::Gap::new(time(k), time(1)));
            expected.push("gap".to_string());
        }
        if k % 2 == 0 {
            h.push_event(gst::event::CustomDownstream::new(gst::Structure::new_empty(format!("custom-{k}"))));
            expected.push(format!("custom-{k}"));
        }
        if k == 5 {
            h.push_event(gst::event::CustomDownstreamSticky::new(gst::Structure::new_empty("sticky-5")));
            expected.push("sticky-5".to_string());
        }
    }
    h.push_event(gst::event::Eos::new());
    expected.push("eos".to_string());
    for log in logs {
        until("all are out", || log.lock().unwrap().last().is_some_and(|t| t == "eos"));
        let started = ["stream-start", "caps", "segment", "latency"];
        let found: Vec<_> = log.lock().unwrap().iter().filter(|t| !started.contains(&t.as_str())).cloned().collect();
        assert_eq!(found, expected);
    }
    drop(other);
}

#[test]
fn a_new_segment_stays_in_order_with_the_frames() {
    let _w = start();
    let element = element("sigmoid", &[("tta", "flips")]);
    let mut h = fed(&element, "RGB", (40, 32));
    let log = record(&element.static_pad("src").unwrap());
    h.push(picture((40, 32), 0)).unwrap();
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(time(1));
    h.push_event(gst::event::Segment::new(&segment));
    h.push(picture((40, 32), 1)).unwrap();
    h.pull().unwrap();
    h.pull().unwrap();
    let log = log.lock().unwrap();
    let at = |what: &str| log.iter().rposition(|t| t == what).unwrap();
    assert!(at("frame 0") < at("segment") && at("segment") < at("frame 1"), "{log:?}");
}

#[test]
fn events_out_of_band_pass_at_once() {
    let _w = start();
    let element = element("identity1x1", &[("batch-size", "4")]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push(picture((16, 16), 0)).unwrap(); // waits for company
    h.push_event(gst::event::CustomDownstreamOob::new(gst::Structure::new_empty("at-once")));
    while h.pull_event().unwrap().type_() != gst::EventType::CustomDownstreamOob {}
    assert!(h.try_pull().is_none());
}

#[test]
fn a_drain_waits_for_the_frames() {
    let _w = start();
    let element = element("sigmoid", &[("batch-size", "4"), ("tta", "flips")]);
    let mut h = harness(&element);
    let mut other = view(&element, "overlay");
    h.play();
    h.set_src_caps_str(&caps("RGB", (40, 32)));
    for k in 0..2 {
        h.push(picture((40, 32), k)).unwrap();
    }
    assert!(h.srcpad().unwrap().peer_query(&mut gst::query::Drain::new()));
    assert_eq!((h.buffers_received(), other.buffers_received()), (2, 2));
    other.pull().unwrap();
}

/// A query of a type that only an application knows, serialized with the frames.
fn serialized_query() -> gst::Query {
    use gst::glib::translate::IntoGlibPtr;
    let flags = gst::ffi::GST_QUERY_TYPE_DOWNSTREAM | gst::ffi::GST_QUERY_TYPE_SERIALIZED;
    let kind = (4321 << gst::ffi::GST_QUERY_NUM_SHIFT) | flags as i32;
    let structure = gst::Structure::new_empty("plan").into_glib_ptr();
    // SAFETY: the query takes the structure, and this function the query.
    unsafe { gst::Query::from_glib_full(gst::ffi::gst_query_new_custom(kind, structure)) }
}

#[test]
fn a_serialized_query_comes_after_the_frames() {
    let _w = start();
    for batch in ["1", "4"] {
        let element = element("sigmoid", &[("tta", "flips"), ("batch-size", batch)]);
        let mut h = fed(&element, "RGB", (40, 32));
        let log = record(&element.static_pad("src").unwrap());
        let asked = log.clone();
        element.static_pad("src").unwrap().add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, move |_, info| {
            if let Some(gst::PadProbeData::Query(query)) = &info.data
                && query.structure().is_some_and(|s| s.name() == "plan")
            {
                asked.lock().unwrap().push("query".into());
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
        for k in 0..2 {
            h.push(picture((40, 32), k)).unwrap();
        }
        let mut query = serialized_query();
        assert!(query.is_serialized());
        assert!(h.srcpad().unwrap().peer_query(query.get_mut().unwrap()));
        h.push(picture((40, 32), 2)).unwrap();
        h.push_event(gst::event::Eos::new());
        until("all are out", || log.lock().unwrap().last().is_some_and(|t| t == "eos"));
        let log = log.lock().unwrap();
        let log: Vec<_> = log.iter().filter(|t| t.starts_with("frame") || *t == "query").collect();
        assert_eq!(log, ["frame 0", "frame 1", "query", "frame 2"], "batch {batch}");
    }
}

#[test]
fn other_queries_pass_at_once() {
    let _w = start();
    let element = element("identity1x1", &[("batch-size", "4")]);
    let mut h = fed(&element, "RGB", (16, 16));
    element.static_pad("src").unwrap().add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| match &info.data {
        Some(gst::PadProbeData::Query(query)) if query.type_() == gst::QueryType::Custom => {
            gst::PadProbeReturn::Handled
        }
        _ => gst::PadProbeReturn::Ok,
    });
    h.push(picture((16, 16), 0)).unwrap(); // waits for company
    let mut query = gst::query::Custom::new(gst::Structure::new_empty("at-once"));
    assert!(h.srcpad().unwrap().peer_query(&mut query));
    assert!(h.try_pull().is_none());
}

#[test]
fn a_flood_of_gaps_is_held_back() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
    let pad = element.static_pad("src").unwrap();
    let block = pad.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| gst::PadProbeReturn::Ok).unwrap();
    let source = h.srcpad().unwrap();
    let (sent, ended) = (std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)), Flag::default());
    let flood = std::thread::spawn({
        let (sent, ended) = (sent.clone(), ended.clone());
        move || {
            for k in 0..5000 {
                source.push_event(gst::event::Gap::new(time(k), time(1)));
                sent.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            ended.raise();
        }
    });
    // Whoever sends is stopped: the count stands still.
    let count = || sent.load(std::sync::atomic::Ordering::SeqCst);
    let last = std::cell::Cell::new(0);
    until("the flood is stopped", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let now = count();
        now > 0 && last.replace(now) == now
    });
    assert!(!ended.is_up());
    assert!(count() < 200, "{}", count());
    pad.remove_probe(block);
    flood.join().unwrap();
}

#[test]
fn events_behind_an_unfilled_batch_do_not_stop_the_stream() {
    let _w = start();
    let element = element("identity1x1", &[("batch-size", "4")]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push(picture((16, 16), 0)).unwrap();
    for k in 0..500 {
        h.push_event(gst::event::CustomDownstream::new(gst::Structure::new_empty(format!("custom-{k}"))));
    }
    h.pull().unwrap();
}

#[test]
fn a_new_stream_after_the_end_is_no_end_for_late_pads() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
    h.push_event(gst::event::Eos::new());
    h.push_event(gst::event::StreamStart::new("second"));
    h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    h.push_and_pull(picture((16, 16), 1)).unwrap();
    let mut late = view(&element, "overlay");
    h.push_and_pull(picture((16, 16), 2)).unwrap();
    assert_eq!(late.pull().unwrap().pts(), Some(time(2)));
}

#[test]
fn tags_reach_every_pad() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = harness(&element);
    let mut other = view(&element, "overlay");
    h.play();
    h.set_src_caps_str(&caps("RGB", (16, 16)));
    let mut tags = gst::TagList::new();
    tags.get_mut().unwrap().add::<gst::tags::Title>(&"house", gst::TagMergeMode::Append);
    h.push_event(gst::event::Tag::new(tags));
    h.push(picture((16, 16), 0)).unwrap();
    for h in [&mut h, &mut other] {
        h.pull().unwrap();
        assert!(event_types(h).contains(&gst::EventType::Tag));
    }
}
