//! Flushes and seeks, at any moment.

use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::common::*;

/// Quick, beside an inference that takes seconds.
const QUICK: Duration = Duration::from_millis(1500);

fn flush(h: &mut gst_check::Harness) {
    assert!(h.push_event(gst::event::FlushStart::new()));
    assert!(h.push_event(gst::event::FlushStop::new(true)));
    assert!(h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())));
}

#[test]
fn a_flush_in_the_middle_of_inference_returns_at_once() {
    let _w = start();
    // Some 40 passes of 100 ms and more each.
    let element = element("softmax4", &[("tta", "d4"), ("threads", "1")]);
    let size = (1600, 1600);
    let mut h = harness(&element);
    let mut other = view(&element, "overlay");
    h.play();
    h.set_src_caps_str(&caps("RGB", size));
    for k in 0..2 {
        h.push(picture(size, k)).unwrap();
    }
    let begin = Instant::now();
    flush(&mut h);
    assert!(begin.elapsed() < QUICK, "{:?}", begin.elapsed());
    h.set_src_caps_str(&caps("RGB", (16, 16)));
    h.push(picture((16, 16), 7)).unwrap();
    // Nothing of before, and the right frame after.
    for h in [&mut h, &mut other] {
        assert_eq!(h.pull().unwrap().pts(), Some(time(7)));
    }
}

#[test]
fn the_stream_goes_on_after_a_flush_with_the_right_frames() {
    let _w = start();
    let element = element("sigmoid", &[("threads", "4")]);
    let mut h = harness(&element);
    let mut other = view(&element, "probability");
    h.play();
    h.set_src_caps_str(&caps("RGB", (40, 32)));
    let ensemble = engine("sigmoid", &[]);
    for round in 0..30 {
        for k in 0..round % 4 {
            h.push(picture((40, 32), 1000 + k)).unwrap();
        }
        flush(&mut h);
        while h.try_pull().is_some() {}
        while other.try_pull().is_some() {}
        h.push(picture((40, 32), round)).unwrap();
        let buffer = h.pull().unwrap();
        assert_eq!(buffer.pts(), Some(time(round)));
        assert!(pixels(&buffer, &caps_of(&h)) == mask(&ensemble, (40, 32), round), "round {round}");
        assert_eq!(other.pull().unwrap().pts(), Some(time(round)));
    }
}

#[test]
fn a_flush_loses_no_caps_and_no_sticky_events() {
    let _w = start();
    for _ in 0..50 {
        let element = element("identity1x1", &[("batch-size", "4")]);
        let mut h = harness(&element);
        let mut other = view(&element, "overlay");
        h.play();
        h.set_src_caps_str(&caps("RGB", (40, 32)));
        h.push(picture((40, 32), 0)).unwrap();
        h.push_event(gst::event::CustomDownstreamSticky::new(gst::Structure::new_empty("test-sticky")));
        h.set_src_caps_str(&caps("RGB", (16, 24)));
        flush(&mut h);
        h.push(picture((16, 24), 3)).unwrap();
        h.push_event(gst::event::Eos::new());
        for h in [&mut h, &mut other] {
            let buffer = loop {
                let buffer = h.pull().unwrap();
                if buffer.pts() == Some(time(3)) {
                    break buffer;
                }
            };
            let pad = h.sinkpad().unwrap();
            assert_eq!(pad.current_caps().unwrap().structure(0).unwrap().get::<i32>("width"), Ok(16));
            assert_eq!(pixels(&buffer, &caps_of(h)).len() % (16 * 24), 0);
            assert!(pad.sticky_event::<gst::event::StreamStart>(0).is_some());
            assert!(pad.sticky_event::<gst::event::CustomDownstreamSticky>(0).is_some());
        }
    }
}

#[test]
fn a_flush_does_not_repeat_what_a_pad_has() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = harness(&element);
    let mut other = view(&element, "overlay");
    h.play();
    h.set_src_caps_str(&caps("RGB", (16, 16)));
    h.push(picture((16, 16), 0)).unwrap();
    for h in [&mut h, &mut other] {
        h.pull().unwrap();
        event_types(h);
    }
    flush(&mut h);
    h.push(picture((16, 16), 1)).unwrap();
    for h in [&mut h, &mut other] {
        h.pull().unwrap();
        use gst::EventType::*;
        assert_eq!(event_types(h), [FlushStart, FlushStop, Segment]);
    }
}

#[test]
fn a_flush_wakes_a_source_that_waits() {
    let _w = start();
    let element = element("softmax4", &[("tta", "d4"), ("threads", "1")]);
    let size = (1200, 1200);
    let mut h = fed(&element, "RGB", size);
    let (source, blocked) = (h.srcpad().unwrap(), Flag::default());
    let pusher = std::thread::spawn({
        let (source, blocked) = (source.clone(), blocked.clone());
        move || {
            let frame = picture(size, 0);
            while source.push(frame.clone()).is_ok() {}
            blocked.raise();
        }
    });
    until("frames are queued", || element.property::<gst::Structure>("stats").get::<u64>("received").unwrap() >= 2);
    let begin = Instant::now();
    h.push_event(gst::event::FlushStart::new());
    until("the source is woken", || blocked.is_up());
    pusher.join().unwrap();
    h.push_event(gst::event::FlushStop::new(true));
    assert!(begin.elapsed() < QUICK, "{:?}", begin.elapsed());
}

#[test]
fn a_flush_wakes_a_drain() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let mut h = fed(&element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
    let block = Flag::default();
    let told = block.clone();
    element.static_pad("src").unwrap().add_probe(gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER, move |_, _| {
        told.raise();
        gst::PadProbeReturn::Ok
    });
    h.push(picture((16, 16), 1)).unwrap();
    until("the pad is blocked", || block.is_up());
    let source = h.srcpad().unwrap();
    let drainer = std::thread::spawn(move || source.peer_query(&mut gst::query::Drain::new()));
    h.push_event(gst::event::FlushStart::new());
    assert!(!drainer.join().unwrap());
    h.push_event(gst::event::FlushStop::new(true));
}

#[test]
fn a_flush_of_an_unfilled_batch_gives_its_frames_back() {
    let _w = start();
    let element = element("identity1x1", &[("batch-size", "8")]);
    let mut h = fed(&element, "RGB", (16, 16));
    let frame = picture((16, 16), 0);
    h.push(frame.clone()).unwrap();
    assert!(!frame.is_writable());
    flush(&mut h);
    until("the frame is free", || frame.is_writable());
}

/// Seeks to the `k`-th frame; the stream ends before the `end`-th.
fn position(pipeline: &Pipeline, k: usize, end: usize) {
    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
    pipeline.seek(1.0, flags, gst::SeekType::Set, time(k), gst::SeekType::Set, time(end)).unwrap();
}

const SEEKABLE: &str = "videotestsrc ! video/x-raw,format=RGB,width=48,height=32,framerate=25/1 \
     ! onnxsegment model-file={identity1x1} name=s";

#[test]
fn a_seek_continues_at_the_new_position() {
    let _w = start();
    let pipeline = launch(&format!("{SEEKABLE} ! appsink name=out sync=false"));
    let sink = pipeline.appsink("out");
    pipeline.reach(gst::State::Paused);
    for k in [100, 3, 400, 0, 77] {
        position(&pipeline, k, 500);
        let sample = sink.try_pull_preroll(LONG).unwrap();
        assert_eq!(sample.buffer().unwrap().pts(), Some(time(k)));
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    for k in [200, 50, 490] {
        position(&pipeline, k, 500);
        let sample = sink.try_pull_sample(LONG).unwrap();
        assert_eq!(sample.buffer().unwrap().pts(), Some(time(k)));
    }
    let times: Vec<_> = rest(&sink).iter().map(|s| s.buffer().unwrap().pts().unwrap()).collect();
    assert_eq!(times, (491..500).map(time).collect::<Vec<_>>());
}

#[test]
fn seeks_work_with_every_view_linked() {
    let _w = start();
    let pipeline = launch(&format!(
        "{SEEKABLE} ! fakesink sync=false s.overlay ! fakesink sync=false s.probability ! fakesink sync=false \
         s.uncertainty ! appsink name=out sync=false"
    ));
    let sink = pipeline.appsink("out");
    pipeline.reach(gst::State::Paused);
    for k in [100, 3, 400] {
        position(&pipeline, k, 500);
        let sample = sink.try_pull_preroll(LONG).unwrap();
        assert_eq!(sample.buffer().unwrap().pts(), Some(time(k)));
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    assert_eq!(rest(&sink).len(), 100);
}

#[test]
fn a_seek_after_the_end_starts_again() {
    let _w = start();
    let pipeline = launch(&format!("{SEEKABLE} ! appsink name=out sync=false"));
    let sink = pipeline.appsink("out");
    pipeline.reach(gst::State::Paused);
    position(&pipeline, 0, 10);
    pipeline.set_state(gst::State::Playing).unwrap();
    assert_eq!(rest(&sink).len(), 10);
    position(&pipeline, 4, 10);
    let times: Vec<_> = rest(&sink).iter().map(|s| s.buffer().unwrap().pts().unwrap()).collect();
    assert_eq!(times, (4..10).map(time).collect::<Vec<_>>());
}

#[test]
fn seeks_through_a_video_file_come_out_right() {
    let _w = start();
    let folder = std::env::temp_dir().join(format!("onnxsegment-seek-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let pattern = folder.join("%03d.png");
    launch(&format!(
        "videotestsrc num-buffers=20 ! video/x-raw,format=RGB,width=48,height=32 ! pngenc ! multifilesink location={}",
        pattern.display()
    ))
    .finish();
    let pipeline = launch(&format!(
        "multifilesrc location={} caps=image/png,framerate=25/1 ! pngdec ! videoconvert ! onnxsegment model-file={{identity1x1}} \
         ! appsink name=out sync=false",
        pattern.display()
    ));
    let sink = pipeline.appsink("out");
    pipeline.set_state(gst::State::Playing).unwrap();
    assert_eq!(rest(&sink).len(), 20);
    drop(pipeline);
    std::fs::remove_dir_all(folder).unwrap();
}
