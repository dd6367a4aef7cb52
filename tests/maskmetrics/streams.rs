//! Streams: ends that do not fit, seeks, the message, the file, what passes through.

use gst::prelude::*;
use gstonnxsegment::engine::metrics::Report;

use crate::common::*;
use crate::*;

#[test]
fn the_report_is_a_file_a_property_and_a_message() {
    let _w = start();
    let folder = std::env::temp_dir().join(format!("onnxsegment-metrics-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let location = folder.join("report.json");
    std::fs::write(&location, "older").unwrap();
    let table = folder.join("report.txt");
    let properties = format!("location={} table-location={}", location.display(), table.display());
    let scoring = Scoring::of(&properties, &discs(90, 80, 2), &discs(90, 80, 0));
    assert_eq!(scoring.0.get("m").property::<Option<String>>("report"), None);
    let bus = scoring.0.bus().unwrap();
    let (send, posted) = std::sync::mpsc::channel();
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Element(element) = message.view() {
            let _ = send.send(element.structure().unwrap().to_owned());
        }
        gst::BusSyncReply::Pass
    });
    let report = scoring.report();
    let text = scoring.0.get("m").property::<String>("report");
    assert_eq!(std::fs::read_to_string(&location).unwrap(), format!("{text}\n"));
    assert_eq!(std::fs::read_to_string(&table).unwrap(), format!("{report}\n"));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "nothing else stays");
    std::fs::remove_dir_all(&folder).unwrap();

    let s = posted.try_iter().find(|s| s.name() == "GstMaskMetrics").expect("the message");
    assert_eq!(s.get::<String>("report").unwrap(), text);
    assert_eq!(s.get::<u64>("frames").unwrap(), 1);
    assert_eq!(s.get::<u64>("pixels").unwrap(), 90 * 80);
    assert_eq!(Some(s.get::<f64>("mean-iou").unwrap()), report.mean.iou.value);
    let (low, high) = report.mean.iou.interval.unwrap();
    assert_eq!((s.get::<f64>("mean-iou-low").unwrap(), s.get::<f64>("mean-iou-high").unwrap()), (low, high));
    assert_eq!(Some(s.get::<f64>("mean-object-f1").unwrap()), report.mean.object_f1.value);
    assert_eq!(s.get::<gst::Array>("class-iou").unwrap().len(), 2);
    assert!(!s.has_field("expected-calibration-error"));
    assert!(report.left_out.iter().any(|l| l.score == "calibration"));
}

#[test]
fn a_truth_that_ends_early_leaves_masks_unscored_and_says_so() {
    let _w = start();
    let scoring = Scoring::new("bootstrap=0", "");
    for k in 0..5 {
        scoring.push_grey("prediction", "GRAY8", &discs(40, 40, k));
        if k < 3 {
            scoring.push_grey("truth", "GRAY8", &discs(40, 40, k));
        }
    }
    let sink = scoring.0.appsink("out");
    let (report, warned) = with_warnings(&scoring);
    assert_eq!((report.frames, report.mean.iou.value), (3, Some(1.0)));
    assert_eq!(report.notes, ["the truth ended after 3 masks; 2 more were not scored"]);
    assert_eq!(warned, report.notes);
    assert_eq!(rest(&sink).len(), 5, "all go through");
}

#[test]
fn a_truth_that_goes_on_is_told_of() {
    let _w = start();
    let scoring = Scoring::new("bootstrap=0", "");
    for k in 0..7 {
        scoring.push_grey("truth", "GRAY8", &discs(40, 40, k));
    }
    scoring.push_grey("prediction", "GRAY8", &discs(40, 40, 0));
    let (report, warned) = with_warnings(&scoring);
    assert_eq!((report.frames, report.mean.iou.value), (1, Some(1.0)));
    assert_eq!(report.notes, ["the prediction ended after 1 mask, and the truth has more"]);
    assert_eq!(warned, report.notes);
}

/// The report, and the texts of the warnings.
fn with_warnings(scoring: &Scoring) -> (Report, Vec<String>) {
    let (send, posted) = std::sync::mpsc::channel();
    scoring.0.bus().unwrap().set_sync_handler(move |_, message| {
        if let gst::MessageView::Warning(warning) = message.view() {
            let _ = send.send(warning.error().message().to_string());
        }
        gst::BusSyncReply::Pass
    });
    let report = scoring.report();
    (report, posted.try_iter().collect())
}

/// Two identical streams in which each frame differs from the one before.
fn pair(limit: &str) -> Pipeline {
    let source =
        format!("videotestsrc pattern=ball {limit} ! video/x-raw,format=GRAY8,width=64,height=48,framerate=25/1");
    launch(&format!(
        "{source} ! maskmetrics name=m bootstrap=0 classes=256 nodata=300 ! fakesink sync=false {source} ! queue ! m.truth"
    ))
}

#[test]
fn a_flushing_seek_begins_anew_and_pairs_what_belongs_together() {
    let _w = start();
    let pipeline = pair("");
    pipeline.reach(gst::State::Paused);
    for from in [5, 2, 7] {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        pipeline.seek(1.0, flags, gst::SeekType::Set, time(from), gst::SeekType::Set, time(12)).unwrap();
        pipeline.reach(gst::State::Paused);
    }
    pipeline.finish();
    let report = report(&pipeline);
    assert_eq!((report.frames, report.accuracy.value), (5, Some(1.0)));
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn a_stopped_element_starts_anew() {
    let _w = start();
    let pipeline = pair("num-buffers=12");
    pipeline.reach(gst::State::Paused);
    pipeline.reach(gst::State::Ready);
    pipeline.finish();
    assert_eq!(report(&pipeline).frames, 12);
    pipeline.reach(gst::State::Ready);
    pipeline.finish();
    assert_eq!(report(&pipeline).frames, 12);
}

#[test]
fn a_wait_for_the_truth_ends_with_the_state() {
    let _w = start();
    let scoring = Scoring::new("", "");
    scoring.push_grey("prediction", "GRAY8", &discs(40, 40, 0));
    scoring.0.set_state(gst::State::Playing).unwrap();
    until("the prediction waits", || scoring.0.appsrc("prediction").current_level_buffers() == 0);
    scoring.0.set_state(gst::State::Null).unwrap();
}

#[test]
fn what_upstream_tells_goes_through_in_its_order() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=48,height=32 ! tee name=t ! queue \
         ! onnxsegment model-file={sigmoid} mask-values=0,255 ! maskmetrics name=m ! appsink name=out sync=false wait-on-eos=false \
         t. ! queue ! onnxsegment model-file={sigmoid} mask-values=0,255 ! m.truth",
    );
    let sink = pipeline.appsink("out");
    pipeline.finish();
    let mut names = Vec::new();
    sink.static_pad("sink").unwrap().sticky_events_foreach(|event| {
        if let Some(s) = event.structure() {
            names.push(s.name().to_string());
        }
        std::ops::ControlFlow::Continue(gst::EventForeachAction::Keep)
    });
    assert!(names.contains(&"GstSegmentationInfo".to_string()), "{names:?}");
    // 255 is a class here, as upstream says.
    let report = report(&pipeline);
    assert_eq!((report.accuracy.value, report.pixels), (Some(1.0), 48 * 32));
    assert_eq!(report.classes.len(), 2);
}

#[test]
fn a_live_pipeline_keeps_its_latency() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc is-live=true num-buffers=5 ! video/x-raw,format=GRAY8,framerate=25/1 ! tee name=t ! queue \
         ! maskmetrics name=m bootstrap=0 classes=256 nodata=300 ! fakesink sync=true t. ! queue ! m.truth",
    );
    pipeline.set_state(gst::State::Playing).unwrap();
    let src = pipeline.get("m").static_pad("src").unwrap();
    until("upstream is known to be live", || {
        let mut query = gst::query::Latency::new();
        src.query(&mut query) && query.result().0
    });
    pipeline.finish();
    assert_eq!(report(&pipeline).frames, 5);
}

#[test]
fn properties_have_their_documented_defaults() {
    let _w = start();
    let element = gst::ElementFactory::make("maskmetrics").build().unwrap();
    assert_eq!(element.property::<u32>("block-size"), 75);
    assert_eq!(element.property::<u32>("bootstrap"), 2000);
    assert_eq!(element.property::<u32>("connectivity"), 4);
    assert_eq!(element.property::<u32>("boundary-distance"), 0);
    assert_eq!(element.property::<i32>("background"), 0);
    assert_eq!(element.property::<i32>("nodata"), -1);
    assert_eq!(element.property::<u64>("seed"), 0);
    element.set_property("seed", 9u64);
    assert_eq!(element.property::<u64>("seed"), 9);
}
