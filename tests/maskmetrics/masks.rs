//! Whole masks: what they may look like, and what the report says of them.

use gstonnxsegment::engine::metrics::{Counts, bootstrap_iou};

use crate::common::*;
use crate::golden::cases;
use crate::*;

#[test]
fn golden_masks_score_as_in_the_reference_in_every_format() {
    let _w = start();
    for case in cases() {
        let masks = case.masks();
        let grey = |map: &gstonnxsegment::engine::metrics::LabelMap| Grey {
            width: map.width,
            height: map.height,
            values: map.data.clone(),
        };
        let (predicted, truth) = (grey(&masks.predicted), grey(&masks.truth));
        let narrow = |grey: &Grey| grey.values.iter().all(|v| *v < 255 || *v == 65535);
        for (of_prediction, of_truth) in
            [("GRAY16_LE", "GRAY16_BE"), ("GRAY8", "GRAY16_LE"), ("GRAY16_BE", "GRAY8"), ("GRAY8", "GRAY8")]
        {
            if (of_prediction == "GRAY8" && !narrow(&predicted)) || (of_truth == "GRAY8" && !narrow(&truth)) {
                continue;
            }
            let scoring = Scoring::new(&format!("bootstrap=0 {}", case.properties()), "");
            scoring.push_grey("prediction", of_prediction, &predicted);
            scoring.push_grey("truth", of_truth, &truth);
            case.compare(&scoring.report());
        }
    }
}

#[test]
fn masks_go_through_as_they_are() {
    let _w = start();
    let scoring = Scoring::new("", "");
    let sink = scoring.0.appsink("out");
    let masks: Vec<Grey> = (0..4).map(|k| discs(50, 40, k)).collect();
    for (k, mask) in masks.iter().enumerate() {
        scoring.push("prediction", &mask.caps("GRAY8"), stamped(mask.buffer("GRAY8"), k));
        scoring.push_grey("truth", "GRAY8", mask);
    }
    let report = scoring.report();
    assert_eq!((report.frames, report.mean.iou.value), (4, Some(1.0)));
    let out = rest(&sink);
    assert_eq!(out.len(), 4);
    for (k, (sample, mask)) in out.iter().zip(&masks).enumerate() {
        let buffer = sample.buffer().unwrap();
        assert_eq!((buffer.pts(), buffer.duration()), (Some(time(k)), Some(gst::ClockTime::from_mseconds(40))));
        let expected: Vec<u8> = mask.values.iter().map(|v| *v as u8).collect();
        assert_eq!(pixels(buffer, sample.caps().unwrap()), expected);
    }
}

#[test]
fn rows_with_padding_and_an_offset_are_read_where_they_lie() {
    let _w = start();
    let size = (37, 21);
    let values = Grey::new(size.0, size.1, |x, y| grey(1, x, y).into());
    let scoring = Scoring::new("bootstrap=0 classes=256 nodata=300", "");
    let padded = picture_in(gst_video::VideoFormat::Gray8, size, 1, 7, 13);
    scoring.push("prediction", &caps("GRAY8", size), padded);
    scoring.push_grey("truth", "GRAY8", &values);
    let report = scoring.report();
    assert_eq!((report.accuracy.value, report.pixels), (Some(1.0), (size.0 * size.1) as u64));
}

#[test]
fn scores_of_several_images_are_of_all_their_pixels_and_means_over_images_too() {
    let _w = start();
    let scoring = Scoring::new("", "");
    // IoU of class 1: 1/2 in the first image, 1 in the second, absent from the third.
    let images = [
        (Grey::new(4, 1, |x, _| u16::from(x < 2)), Grey::new(4, 1, |x, _| u16::from(x < 1))),
        (Grey::new(8, 2, |_, _| 1), Grey::new(8, 2, |_, _| 1)),
        (Grey::new(3, 3, |_, _| 0), Grey::new(3, 3, |_, _| 0)),
    ];
    for (prediction, truth) in &images {
        scoring.push_grey("prediction", "GRAY8", prediction);
        scoring.push_grey("truth", "GRAY8", truth);
    }
    let report = scoring.report();
    assert_eq!((report.frames, report.pixels), (3, 4 + 16 + 9));
    assert_eq!(report.classes[1].scores.iou.value, Some(17.0 / 18.0));
    let over = report.classes[1].over_frames.unwrap();
    assert_eq!((over.frames, over.iou), (2, 0.75));
    let [first, third] = [2.0 / 3.0, 1.0];
    let over = report.mean_over_frames.unwrap();
    assert!((over.iou - (0.75 + (first + third) / 2.0) / 2.0).abs() < 1e-12, "{over:?}");
    let distances = report.boundary.unwrap();
    assert_eq!((distances.smallest_distance, distances.largest_distance), (1, 1));
}

#[test]
fn a_class_that_is_nowhere_is_skipped_and_named() {
    let _w = start();
    let mask = discs(40, 40, 0);
    let report = Scoring::of("class-names=background,building,road bootstrap=0", &mask, &mask).report();
    assert_eq!(report.skipped_classes, ["road"]);
    assert!(report.classes[2].skipped && report.classes[2].scores.iou.value.is_none());
    assert_eq!(report.mean.iou.value, Some(1.0));
    assert!(report.to_string().contains("skipped, in neither truth nor prediction: road"), "{report}");
}

#[test]
fn values_of_classes_are_told_apart_for_prediction_and_truth() {
    let _w = start();
    let truth = discs(60, 50, 0);
    let white = Grey { values: truth.values.iter().map(|v| v * 255).collect(), ..truth.clone() };
    let report = Scoring::of("truth-values=0,255 bootstrap=0", &truth, &white).report();
    assert_eq!((report.mean.iou.value, report.ignored_pixels), (Some(1.0), 0));
    // The truth's values are the prediction's unless said otherwise.
    let report = Scoring::of("mask-values=0,255 bootstrap=0", &white, &white).report();
    assert_eq!((report.mean.iou.value, report.ignored_pixels), (Some(1.0), 0));
    let report = Scoring::of("nodata=0", &truth, &truth).report();
    assert_eq!(report.pixels, truth.values.iter().filter(|v| **v == 1).count() as u64);
}

#[test]
fn a_truth_whose_class_passes_for_nodata_is_warned_of() {
    let _w = start();
    let mask = discs(60, 50, 0);
    let white = Grey { values: mask.values.iter().map(|v| v * 255).collect(), ..mask.clone() };
    let scoring = Scoring::of("", &mask, &white);
    let report = scoring.report();
    assert!(report.notes.iter().any(|n| n.contains("truth-values=0,255")), "{:?}", report.notes);
}

#[test]
fn intervals_repeat_with_their_seed_and_can_be_left_out() {
    let _w = start();
    let (mask, truth) = (discs(200, 150, 3), discs(200, 150, 0));
    let of = |properties: &str| Scoring::of(properties, &mask, &truth).report();
    let first = of("block-size=16 seed=5");
    assert_eq!(first.mean.iou, of("block-size=16 seed=5").mean.iou);
    assert_ne!(first.mean.iou.interval, of("block-size=16 seed=6").mean.iou.interval);
    let (low, high) = first.classes[1].scores.iou.interval.unwrap();
    let value = first.classes[1].scores.iou.value.unwrap();
    assert!(low < value && value < high, "{low} {value} {high}");
    let blocks = first.bootstrap.unwrap();
    assert_eq!((blocks.block_size, blocks.blocks, blocks.resamples), (16, 13 * 10, 2000));
    let off = of("bootstrap=0");
    assert!(off.bootstrap.is_none() && off.mean.iou.interval.is_none());
    assert!(of("").notes.iter().any(|n| n.contains("only 6 blocks")));
}

#[test]
fn the_demo_folds_score_as_the_example_counts_them() {
    let _w = start_for(120);
    let root = root().display().to_string();
    let pipeline = launch(&format!(
        "filesrc location={root}/out/scene.png ! pngdec ! videoconvert ! onnxsegment model-file=\"{root}/models/fold*.onnx\" \
         ! videocrop left=600 ! tee name=masks ! queue ! maskmetrics name=m truth-values=0,255 seed=1 ! fakesink \
         masks. ! queue ! appsink name=mask sync=false wait-on-eos=false \
         filesrc location={root}/out/truth.png ! pngdec ! videocrop left=600 ! tee name=truths ! queue ! m.truth \
         truths. ! queue ! appsink name=truth sync=false wait-on-eos=false"
    ));
    let [mask, truth] = ["mask", "truth"].map(|name| pipeline.appsink(name));
    pipeline.finish();
    let [mask, truth] = [mask, truth].map(|sink| {
        let sample = &rest(&sink)[0];
        pixels(sample.buffer().unwrap(), sample.caps().unwrap())
    });
    // As the table of `make demo`: blocks of 75 × 75 of the 300 × 900 pixels that no model was trained on.
    let mut blocks = Vec::new();
    for y0 in (0..900).step_by(75) {
        for x0 in (0..300).step_by(75) {
            let at = (y0..y0 + 75).flat_map(|y| (x0..x0 + 75).map(move |x| y * 300 + x));
            blocks.push(Counts::of(at.map(|i| (mask[i] > 0, truth[i] > 0))));
        }
    }
    let sum: Counts = blocks.iter().copied().sum();
    let report = report(&pipeline);
    let building = &report.classes[1];
    assert_eq!((building.name.as_str(), report.classes.len()), ("building", 2));
    assert_eq!(building.scores.iou.value, sum.iou());
    assert_eq!(building.scores.iou.interval, bootstrap_iou(&blocks, 2000, 1));
    assert_eq!(building.truth_pixels, 7946, "models/README.md");
    let objects = building.objects.unwrap();
    assert!(objects.true_positive + objects.false_negative > 5, "{objects:?}");
}
