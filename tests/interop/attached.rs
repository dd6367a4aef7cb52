//! What is attached to a frame, against what the other pads show of it.

use gst_analytics::RelTypes;
use gst_video::VideoFormat;
use gstonnxsegment::elements::meta::TileMeta;
use gstonnxsegment::raster::grid::Stated;
use gstonnxsegment::raster::{Grid, Preference};

use crate::common::*;
use crate::read::{Segmentation, attach_tensor, floats, segmentation, tensors};

const SIZE: (usize, usize) = (40, 32);

/// What comes out of `src` and of `image` for a frame, `src` in the given caps.
fn both(element: &gst::Element, src: &str, frame: gst::Buffer) -> (gst::Buffer, gst::Buffer) {
    let mut h = harness(element);
    let mut image = view(element, "image");
    h.set_sink_caps_str(src);
    h.play();
    h.set_src_caps_str(&caps("RGB", SIZE));
    (h.push_and_pull(frame).unwrap(), image.pull().unwrap())
}

fn attached(name: &str, properties: &[(&str, &str)], frame: gst::Buffer) -> Segmentation {
    let element = element(name, properties);
    let (_, image) = both(&element, "video/x-raw", frame);
    segmentation(&image, RelTypes::N_TO_N).expect("a segmentation")
}

fn tile(valid: Option<Vec<u8>>) -> gst::Buffer {
    let fixed = Preference { fixed_width: Some(40), fixed_height: Some(32), ..Preference::default() };
    let grid = Grid::fit(100, 32, Stated { tile: None, overlap: Some(0) }, &fixed).unwrap();
    let mut buffer = picture(SIZE, 2);
    let meta = TileMeta { grid, index: 1, valid: valid.map(gst::glib::Bytes::from_owned) };
    meta.attach(buffer.make_mut()).unwrap();
    buffer
}

#[test]
fn the_tensor_holds_the_scores_that_src_gives() {
    let _w = start();
    // `quarter` gives scores of a quarter of the frame's sides; label models their votes.
    for (name, channels, properties) in [
        ("softmax4", 4, &[][..]),
        ("sigmoid", 1, &[("tta", "flips")]),
        ("logits4", 4, &[("activation", "softmax"), ("merge-domain", "logit")]),
        ("quarter", 1, &[]),
        ("label-i64", 4, &[("tta", "flips")]),
    ] {
        let element = element(name, properties);
        let (scores, image) = both(&element, "raster/x-raw,format=F32LE,uncertainty=false", picture(SIZE, 5));
        let found = tensors(&image);
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(found[0].id, "onnxsegment-out-scores");
        assert_eq!(found[0].dims, [1, channels, 32, 40], "{name}");
        assert!(found[0].values == floats(&scores), "{name}");
        assert!(found[0].values.iter().any(|v| *v != found[0].values[0]), "{name}: not all the same");
    }
}

#[test]
fn the_segmentation_holds_the_classes_that_src_shows() {
    let _w = start();
    for (name, classes) in [("softmax4", 4), ("sigmoid", 2), ("quarter", 2), ("label-i64", 4)] {
        let element = element(name, &[]);
        let (mask, image) = both(&element, "video/x-raw,format=GRAY8", picture(SIZE, 5));
        let found = segmentation(&image, RelTypes::N_TO_N).unwrap();
        let shown =
            pixels(&mask, &format!("{},colorimetry=1:1:0:0", caps("GRAY8", SIZE)).parse::<gst::Caps>().unwrap());
        assert_eq!(found.format, VideoFormat::Gray8);
        assert_eq!(found.size, (40, 32));
        assert_eq!(found.place, (0, 0, 40, 32), "the whole frame");
        assert_eq!(found.regions, (0..classes).collect::<Vec<u32>>(), "{name}");
        assert!(found.values == shown, "{name}");
    }
}

#[test]
fn region_ids_are_class_indices_whatever_masks_write() {
    let _w = start();
    let plain = attached("sigmoid", &[], picture(SIZE, 5));
    for properties in [[("mask-values", "0,255")], [("label-offset", "7")]] {
        let found = attached("sigmoid", &properties, picture(SIZE, 5));
        assert_eq!(found.regions, [0, 1]);
        assert!(found.values == plain.values);
    }
}

#[test]
fn a_threshold_decides_the_segmentation_too() {
    let _w = start();
    let all = attached("sigmoid", &[("threshold", "0")], picture(SIZE, 5));
    assert!(all.values.iter().all(|class| *class == 1));
    let few = attached("sigmoid", &[("threshold", "0.7")], picture(SIZE, 5)).values;
    assert!(few == mask(&engine("sigmoid", &[("threshold", "0.7")]), SIZE, 5));
}

#[test]
fn regions_have_the_names_that_the_model_tells() {
    let _w = start();
    let found = attached("label-i64", &[], picture(SIZE, 1));
    assert_eq!(found.classes, ["_background", "building", "road", "water"]);
    assert_eq!(found.confidences, [-1.0; 4], "a class of a whole frame has none");
}

#[test]
fn classes_without_names_are_numbered() {
    let _w = start();
    assert_eq!(attached("softmax4", &[], picture(SIZE, 1)).classes, ["class 0", "class 1", "class 2", "class 3"]);
    assert_eq!(attached("sigmoid", &[], picture(SIZE, 1)).classes, ["class 0", "class 1"]);
}

#[test]
fn the_classes_are_found_by_either_relation_that_gstreamer_uses() {
    let _w = start();
    let element = element("softmax4", &[]);
    let (_, image) = both(&element, "video/x-raw", picture(SIZE, 1));
    let by = |relation| segmentation(&image, relation).unwrap().classes;
    assert_eq!(by(RelTypes::N_TO_N), by(RelTypes::RELATE_TO));
}

#[test]
fn pixels_without_data_are_a_region_of_their_own() {
    let _w = start();
    let valid: Vec<u8> = (0..40 * 32).map(|k| u8::from(k % 7 != 0)).collect();
    let element = element("softmax4", &[]);
    let (_, image) = both(&element, "video/x-raw", tile(Some(valid.clone())));
    let found = segmentation(&image, RelTypes::N_TO_N).unwrap();
    let expected = mask(&engine("softmax4", &[]), SIZE, 2);
    assert_eq!(found.regions, [0, 1, 2, 3, 4]);
    assert_eq!(found.classes[4], "nodata");
    for (k, class) in found.values.iter().enumerate() {
        assert_eq!(*class, if valid[k] == 0 { 4 } else { expected[k] }, "pixel {k}");
    }
    for (k, score) in tensors(&image)[0].values.iter().enumerate() {
        assert_eq!(score.is_nan(), valid[k % valid.len()] == 0, "score {k}");
    }
}

#[test]
fn a_tile_without_data_passes_with_nothing_attached() {
    let _w = start();
    let element = element("softmax4", &[]);
    let mut gap = tile(None);
    gap.make_mut().set_flags(gst::BufferFlags::GAP);
    let sent = gap.map_readable().unwrap().to_vec();
    let (_, image) = both(&element, "video/x-raw", gap);
    assert!(image.flags().contains(gst::BufferFlags::GAP));
    assert!(image.map_readable().unwrap().as_slice() == sent);
    assert!(tensors(&image).is_empty());
    assert!(segmentation(&image, RelTypes::N_TO_N).is_none());
}

#[test]
fn tensors_that_a_frame_brings_stay_before_ours() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut frame = picture(SIZE, 1);
    attach_tensor(frame.make_mut(), "of-another", 7.0);
    let (_, image) = both(&element, "video/x-raw", frame);
    let found = tensors(&image);
    assert_eq!(found.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["of-another", "onnxsegment-out-scores"]);
    assert_eq!(found[0].values, [7.0]);
}

#[test]
fn detections_that_a_frame_brings_stay() {
    use gst_analytics::prelude::*;
    use gst_analytics::{AnalyticsODMtd, AnalyticsRelationMeta};
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut frame = picture(SIZE, 1);
    AnalyticsRelationMeta::add(frame.make_mut())
        .add_od_mtd(gst::glib::Quark::from_str("house"), 1, 2, 3, 4, 0.5)
        .unwrap();
    let (_, image) = both(&element, "video/x-raw", frame);
    let meta = image.meta::<AnalyticsRelationMeta>().unwrap();
    let found: Vec<_> = meta.iter::<AnalyticsODMtd>().map(|d| d.location().unwrap()).collect();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].x, found[0].y, found[0].w, found[0].h), (1, 2, 3, 4));
    assert!(segmentation(&image, RelTypes::N_TO_N).is_some());
}

#[test]
fn src_carries_none_of_it() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let (mask, _) = both(&element, "video/x-raw", picture(SIZE, 1));
    assert!(tensors(&mask).is_empty());
    assert!(segmentation(&mask, RelTypes::N_TO_N).is_none());
}
