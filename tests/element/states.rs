//! State changes at any moment, and what is left after them.

use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::common::*;

#[test]
fn the_element_stops_at_once_in_the_middle_of_inference() {
    let _w = start();
    let element = element("softmax4", &[("tta", "d4"), ("threads", "1")]);
    let size = (1600, 1600);
    let mut h = fed(&element, "RGB", size);
    h.push(picture(size, 0)).unwrap();
    h.push(picture(size, 1)).unwrap();
    let begin = Instant::now();
    element.set_state(gst::State::Null).unwrap();
    assert!(begin.elapsed() < Duration::from_millis(2500), "{:?}", begin.elapsed());
}

#[test]
fn a_pipeline_stops_at_any_moment() {
    let _w = start();
    for delay in 0..25 {
        let pipeline = launch(
            "videotestsrc ! video/x-raw,format=RGB,width=96,height=96 ! onnxsegment model-file={sigmoid} tta=flips name=s ! fakesink \
             s.overlay ! fakesink s.uncertainty ! videoconvert ! fakesink",
        );
        pipeline.set_state(gst::State::Playing).unwrap();
        std::thread::sleep(Duration::from_millis(delay * 2)); // any moment
        pipeline.set_state(gst::State::Null).unwrap();
        let errors = errors(&pipeline.bus().unwrap());
        assert!(errors.is_empty(), "{errors:?}");
    }
}

#[test]
fn a_pipeline_that_waits_for_a_batch_stops() {
    let _w = start();
    let pipeline = launch(
        "appsrc name=in format=time ! onnxsegment model-file={identity1x1} batch-size=8 name=s ! fakesink s.overlay ! fakesink",
    );
    let source = pipeline.appsrc("in");
    source.set_caps(Some(&caps("RGB", (16, 16)).parse().unwrap()));
    pipeline.set_state(gst::State::Playing).unwrap();
    source.push_buffer(picture((16, 16), 0)).unwrap();
    let element = pipeline.get("s");
    until("the frame is there", || element.property::<gst::Structure>("stats").get::<u64>("received") == Ok(1));
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_pipeline_may_pause_and_play_many_times() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc ! video/x-raw,format=RGB,width=48,height=32 ! onnxsegment model-file={identity1x1} name=s ! fakesink sync=true \
         s.overlay ! fakesink sync=true",
    );
    for _ in 0..20 {
        pipeline.reach(gst::State::Playing);
        pipeline.reach(gst::State::Paused);
    }
}

#[test]
fn a_pipeline_may_go_to_ready_and_back_many_times() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc ! video/x-raw,format=RGB,width=48,height=32 ! onnxsegment model-file={identity1x1} name=s ! fakesink sync=true \
         s.overlay ! fakesink sync=true s.probability ! fakesink",
    );
    for _ in 0..10 {
        pipeline.reach(gst::State::Paused);
        pipeline.reach(gst::State::Ready);
        pipeline.reach(gst::State::Playing);
        pipeline.reach(gst::State::Ready);
    }
}

#[test]
fn the_element_may_be_used_again_with_another_model() {
    let _w = start();
    let element = element("sigmoid", &[]);
    for model_name in ["sigmoid", "softmax4", "fixed64", "sigmoid"] {
        element.set_property("model-file", model(model_name));
        let mut h = fed(&element, "RGB", (64, 64));
        let buffer = h.push_and_pull(picture((64, 64), 1)).unwrap();
        assert!(pixels(&buffer, &caps_of(&h)) == mask(&engine(model_name, &[]), (64, 64), 1), "{model_name}");
        drop(h); // stops the element
    }
}

#[test]
fn a_failed_start_leaves_an_element_that_can_start() {
    let _w = start();
    let element = element("missing", &[]);
    assert!(element.set_state(gst::State::Paused).is_err());
    element.set_state(gst::State::Null).unwrap();
    element.set_property("model-file", model("identity1x1"));
    let mut h = fed(&element, "RGB", (16, 16));
    h.push_and_pull(picture((16, 16), 0)).unwrap();
}

#[test]
fn after_an_error_the_pipeline_stops_and_may_start_again() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc pattern=white num-buffers=5 name=in ! video/x-raw,format=RGB,width=64,height=64 ! onnxsegment model-file={nan} name=s ! fakesink",
    );
    assert!(matches!(pipeline.run(), End::Error(..)));
    pipeline.set_state(gst::State::Null).unwrap();
    pipeline.get("in").set_property_from_str("pattern", "black");
    pipeline.finish();
}

#[test]
fn the_element_is_gone_after_use() {
    let _w = start();
    let element = element("identity1x1", &[]);
    let gone = element.downgrade();
    let pads: Vec<_> = {
        let mut h = harness(&element);
        let mut other = view(&element, "overlay");
        h.play();
        h.set_src_caps_str(&caps("RGB", (16, 16)));
        h.push(picture((16, 16), 0)).unwrap();
        h.pull().unwrap();
        other.pull().unwrap();
        let pads = element.pads().iter().map(|p| p.downgrade()).collect();
        drop(other);
        pads
    };
    element.set_state(gst::State::Null).unwrap();
    assert_eq!(element.ref_count(), 1);
    drop(element);
    assert!(gone.upgrade().is_none());
    assert!(pads.iter().all(|p| p.upgrade().is_none()));
}

#[test]
fn the_element_is_gone_after_a_pipeline_that_was_stopped_in_flight() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc ! video/x-raw,format=RGB,width=96,height=96 ! onnxsegment model-file={sigmoid} name=s ! fakesink s.overlay ! fakesink",
    );
    let gone = pipeline.get("s").downgrade();
    pipeline.reach(gst::State::Playing);
    drop(pipeline);
    until("the element is gone", || gone.upgrade().is_none());
}

#[test]
fn pads_requested_while_the_state_changes_work() {
    let _w = start();
    for _ in 0..20 {
        let pipeline = launch(
            "videotestsrc num-buffers=200 ! video/x-raw,format=RGB,width=32,height=32 ! onnxsegment model-file={identity1x1} name=s ! fakesink sync=false",
        );
        let element = pipeline.get("s");
        let sink =
            gst::ElementFactory::make("fakesink").property("async", false).property("sync", false).build().unwrap();
        pipeline.add(&sink).unwrap();
        let requester = std::thread::spawn({
            let sink = sink.clone();
            move || {
                let pad = element.request_pad_simple("overlay").unwrap();
                pad.link(&sink.static_pad("sink").unwrap()).unwrap();
            }
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        requester.join().unwrap();
        pipeline.finish();
    }
}
