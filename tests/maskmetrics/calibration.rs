//! The pad `probability`.

use gst::prelude::*;

use crate::common::*;
use crate::golden::cases;
use crate::*;

const PROBABILITY: &str = "appsrc name=probability format=time ! m.probability";

fn scores(width: usize, height: usize, bands: usize, values: &[f32]) -> (String, gst::Buffer) {
    let caps = format!(
        "raster/x-raw,format=F32LE,layout=planar,bands={bands},width={width},height={height},framerate=25/1,uncertainty=false"
    );
    (caps, gst::Buffer::from_slice(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()))
}

#[test]
fn golden_probabilities_give_the_references_errors() {
    let _w = start();
    let mut tested = 0;
    for case in cases() {
        let masks = case.masks();
        let Some(confidence) = &masks.confidence else { continue };
        let (width, height) = (masks.truth.width, masks.truth.height);
        // A band per class: the predicted class has its confidence, the others nothing.
        let bands = masks.predicted.data.iter().filter(|v| **v != 65535).max().unwrap() + 1;
        let mut planes = vec![0.0; width * height * usize::from(bands)];
        for (i, (label, c)) in masks.predicted.data.iter().zip(confidence).enumerate() {
            if *label != 65535 {
                planes[usize::from(*label) * width * height + i] = *c;
            }
        }
        let scoring = Scoring::new(&format!("bootstrap=0 {}", case.properties()), PROBABILITY);
        for (pad, map) in [("prediction", &masks.predicted), ("truth", &masks.truth)] {
            scoring.push_grey(pad, "GRAY16_LE", &Grey { width, height, values: map.data.clone() });
        }
        let (caps, buffer) = scores(width, height, bands.into(), &planes);
        scoring.push("probability", &caps, buffer);
        case.compare_calibration(&scoring.report());
        tested += 1;
    }
    assert!(tested >= 5, "{tested}");
}

#[test]
fn one_channel_is_class_1_and_nan_is_left_out() {
    let _w = start();
    let scoring = Scoring::new("", PROBABILITY);
    scoring.push_grey("prediction", "GRAY8", &Grey::new(4, 1, |x, _| u16::from(x > 1)));
    scoring.push_grey("truth", "GRAY8", &Grey::new(4, 1, |x, _| u16::from(x > 0)));
    let (caps, buffer) = scores(4, 1, 1, &[0.125, 0.25, 0.75, f32::NAN]);
    scoring.push("probability", &caps, buffer);
    let calibration = scoring.report().calibration.unwrap();
    assert_eq!(calibration.pixels, 3);
    // Two pixels at 0.75, one right; one at 0.875, right.
    let (expected, maximum) = (calibration.expected_error.unwrap(), calibration.maximum_error.unwrap());
    assert!((expected - (2.0 * 0.25 + 0.125) / 3.0).abs() < 1e-12, "{expected}");
    assert!((maximum - 0.25).abs() < 1e-12, "{maximum}");
}

#[test]
fn the_models_own_view_and_its_scores_agree() {
    let _w = start();
    let of = |probability: &str| {
        let pipeline = launch(&format!(
            "videotestsrc num-buffers=2 pattern=snow ! video/x-raw,format=RGB,width=64,height=48 ! tee name=t ! queue \
             ! onnxsegment model-file={{sigmoid}} name=s ! maskmetrics name=m truth-values=16,235 ! fakesink \
             videotestsrc num-buffers=2 pattern=black ! video/x-raw,format=GRAY8,width=64,height=48 ! m.truth {probability}"
        ));
        pipeline.finish();
        report(&pipeline).calibration.unwrap()
    };
    let narrow = of("s.probability ! video/x-raw,format=GRAY8 ! queue ! m.probability");
    let wide = of("s.probability ! video/x-raw,format=GRAY16_LE ! queue ! m.probability");
    let scores = of("t. ! queue ! onnxsegment model-file={sigmoid} ! raster/x-raw ! m.probability");
    assert_eq!((narrow.pixels, scores.pixels), (2 * 64 * 48, 2 * 64 * 48));
    let ece = [&narrow, &wide, &scores].map(|c| c.expected_error.unwrap());
    assert!((ece[0] - ece[2]).abs() < 2e-3 && (ece[1] - ece[2]).abs() < 1e-5, "{ece:?}");
}

#[test]
fn what_cannot_be_calibrated_is_said() {
    let _w = start();
    let three = Grey::new(6, 2, |x, _| x as u16 % 3);
    let of = |caps: &str, buffer: gst::Buffer| {
        let scoring = Scoring::new("", PROBABILITY);
        scoring.push_grey("prediction", "GRAY8", &three);
        scoring.push_grey("truth", "GRAY8", &three);
        scoring.push("probability", caps, buffer);
        scoring.error()
    };
    let error = of(&three.caps("GRAY8"), three.buffer("GRAY8"));
    assert!(error.contains("probability of every class") && error.contains("class 2"), "{error}");
    let (caps, buffer) = scores(6, 2, 2, &[0.5; 24]);
    let error = of(&caps, buffer);
    assert!(error.contains("those of 2 classes"), "{error}");
    let (caps, buffer) = scores(6, 2, 3, &[7.5; 36]);
    let error = of(&caps, buffer);
    assert!(error.contains("a probability of 7.5"), "{error}");
    let (caps, buffer) = scores(5, 2, 3, &[0.5; 30]);
    let error = of(&caps, buffer);
    assert!(error.contains("pad probability 5 x 2") && error.contains("6 x 2"), "{error}");
    let error = of("video/x-raw,format=RGB,width=6,height=2,framerate=25/1", gst::Buffer::from_slice(vec![0; 40]));
    assert!(error.contains("neither a probability of one class"), "{error}");
}

#[test]
fn the_pad_can_be_released_and_asked_for_again() {
    let _w = start();
    let element = gst::ElementFactory::make("maskmetrics").build().unwrap();
    let pad = element.request_pad_simple("probability").unwrap();
    element.release_request_pad(&pad);
    assert!(element.request_pad_simple("probability").is_some());
}
