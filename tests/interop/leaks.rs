//! Nothing of what the pad `image` attaches is left alive.

use gst::prelude::*;

use crate::common;

#[test]
fn nothing_is_left_alive() {
    let alive = common::left_alive("leaks::the_traced_pipeline");
    assert!(alive.is_empty(), "left alive:\n{}", alive.join("\n"));
}

#[test]
#[ignore = "run by nothing_is_left_alive, under the tracer"]
fn the_traced_pipeline() {
    let watchdog = common::start();
    {
        let pipeline = common::launch(
            "videotestsrc num-buffers=60 ! capsfilter name=caps ! onnxsegment model-file={sigmoid} tta=flips batch-size=2 name=s \
             ! fakesink sync=false s.image ! tee name=t ! queue ! videoconvert ! video/x-raw,format=I420 ! fakesink sync=false \
             t. ! queue ! identity drop-allocation=true ! fakesink sync=false",
        );
        let caps = pipeline.get("caps");
        caps.set_property_from_str("caps", "video/x-raw,format=RGB,width=48,height=32,framerate=25/1");
        pipeline.reach(gst::State::Paused);
        pipeline.seek_simple(gst::SeekFlags::FLUSH, common::time(20)).unwrap();
        caps.set_property_from_str("caps", "video/x-raw,format=BGRx,width=64,height=40,framerate=25/1");
        pipeline.finish();
        // Stopped in the middle.
        pipeline.reach(gst::State::Ready);
        pipeline.reach(gst::State::Playing);
        pipeline.set_state(gst::State::Null).unwrap();
    }
    {
        let pipeline = common::launch(
            "videotestsrc num-buffers=9 ! video/x-raw,format=RGB,width=75,height=50 ! tilesplit tile-size=32 overlap=0 \
             ! onnxsegment model-file={label-i64} name=s s.image ! fakesink sync=false",
        );
        pipeline.finish();
    }
    drop(watchdog);
    // SAFETY: the last use of GStreamer in this process; the tracer reports here.
    unsafe { gst::deinit() };
}
