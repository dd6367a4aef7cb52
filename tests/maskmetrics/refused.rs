//! Bad input: one error that says what was found, and where.

use gst::prelude::*;

use crate::common::*;
use crate::*;

#[track_caller]
fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

/// What the element says to settings when it is to start.
fn refusal(properties: &[(&str, &str)]) -> String {
    let element = gst::ElementFactory::make("maskmetrics").build().unwrap();
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
    let bus = bus(&element);
    assert!(element.set_state(gst::State::Paused).is_err());
    let found = errors(&bus);
    element.set_state(gst::State::Null).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].1.clone()
}

#[test]
fn a_truth_of_another_size() {
    let _w = start();
    let error = Scoring::of("", &discs(50, 40, 0), &discs(49, 40, 0)).error();
    says(&error, &["prediction on pad sink is 50 x 40", "truth on pad truth 49 x 40", "one size", "videoscale"]);
}

#[test]
fn no_truth_at_all() {
    let _w = start();
    let pipeline = launch("videotestsrc num-buffers=2 ! video/x-raw,format=GRAY8 ! maskmetrics ! fakesink");
    says(&error(pipeline.run()), &["nothing is linked to the pad truth"]);
}

#[test]
fn a_truth_in_colours() {
    let _w = start();
    let mask = discs(20, 20, 0);
    let scoring = Scoring::new("", "");
    scoring.push_grey("prediction", "GRAY8", &mask);
    scoring.push("truth", &caps("RGB", (20, 20)), picture((20, 20), 0));
    says(&scoring.error(), &["truth on pad truth", "RGB", "GRAY8", "videoconvert"]);
    let scoring = Scoring::new("", "");
    scoring.push_grey("truth", "GRAY8", &mask);
    scoring.push("prediction", &caps("RGB", (20, 20)), picture((20, 20), 0));
    says(&scoring.error(), &["prediction on pad sink", "RGB", "videoconvert"]);
}

#[test]
fn a_value_beyond_the_classes() {
    let _w = start();
    let seven = Grey::new(20, 10, |x, _| if x == 9 { 7 } else { 1 });
    let error = Scoring::of("classes=2", &discs(20, 10, 0), &seven).error();
    says(&error, &["truth holds the value 7", "2 classes, with values 0 to 1", "truth-values", "nodata"]);
    let error = Scoring::of("classes=2", &seven, &discs(20, 10, 0)).error();
    says(&error, &["prediction holds the value 7", "mask 1"]);
    let error = Scoring::of("truth-values=0,255", &discs(20, 10, 0), &seven).error();
    says(&error, &["truth holds the value", "values of the classes are 0,255"]);
}

#[test]
fn more_classes_than_are_counted() {
    let _w = start();
    let scoring = Scoring::new("", "");
    scoring.push_grey("prediction", "GRAY16_LE", &Grey::new(4, 4, |_, _| 1));
    scoring.push_grey("truth", "GRAY16_LE", &Grey::new(4, 4, |x, _| if x == 2 { 40_000 } else { 1 }));
    says(&scoring.error(), &["truth holds the value 40000", "at most 1024 classes"]);
}

#[test]
fn a_truth_without_any_frame() {
    let _w = start();
    let scoring = Scoring::new("", "");
    scoring.push_grey("prediction", "GRAY8", &discs(20, 20, 0));
    says(&scoring.error(), &["truth ended before its first frame", "1 mask"]);
    says(&Scoring::new("", "").error(), &["prediction ended before its first frame"]);
}

#[test]
fn files_that_cannot_be_written() {
    let _w = start();
    says(&refusal(&[("location", "/no/such/folder/report.json")]), &["location=/no/such", "folder /no/such/folder"]);
    let folder = std::env::temp_dir().display().to_string();
    says(&refusal(&[("location", &folder)]), &["location=", "this is a folder"]);
}

#[test]
fn settings_that_contradict_each_other() {
    let _w = start();
    says(&refusal(&[("mask-values", "0,x")]), &["mask-values=0,x", "whole numbers"]);
    says(&refusal(&[("mask-values", "0,70000")]), &["mask-values=0,70000", "0 to 65535"]);
    says(&refusal(&[("truth-values", "3,3")]), &["truth-values=3,3", "twice"]);
    says(&refusal(&[("truth-values", "0,9"), ("nodata", "9")]), &["truth-values=0,9", "9 is nodata too"]);
    says(&refusal(&[("mask-values", "0,1"), ("truth-values", "0,1,2")]), &["truth-values=0,1,2", "mask-values has 2"]);
    says(&refusal(&[("classes", "3"), ("truth-values", "0,1")]), &["classes=3", "2 values are listed"]);
    says(&refusal(&[("classes", "3"), ("class-names", "a,b")]), &["class-names=a,b", "2 names for 3 classes"]);
    says(&refusal(&[("connectivity", "6")]), &["connectivity=6", "4 or 8"]);
}
