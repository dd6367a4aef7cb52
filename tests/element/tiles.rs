//! Tiles of a mosaic: pixels that video caps cannot describe, scores as output, pixels without data, and what the
//! element tells of its models.

use gst::prelude::*;
use gstonnxsegment::elements::meta::{Plan, PlanRef, RasterInfo, RunRequest, SegmentationInfo, TileMeta};
use gstonnxsegment::raster::grid::Stated;
use gstonnxsegment::raster::{Georeference, Grid, Preference, Rect, Share};

use crate::common::*;

const SIZE: (usize, usize) = (40, 32);

/// Tiles of `SIZE`, one beside the other, without overlap.
fn grid() -> Grid {
    let fixed = Preference { fixed_width: Some(40), fixed_height: Some(32), ..Preference::default() };
    Grid::fit(100, 32, Stated { tile: None, overlap: Some(0) }, &fixed).unwrap()
}

fn tile(mut buffer: gst::Buffer, index: usize, valid: Option<Vec<u8>>) -> gst::Buffer {
    let meta = TileMeta { grid: grid(), index, valid: valid.map(gst::glib::Bytes::from_owned) };
    meta.attach(buffer.make_mut()).unwrap();
    buffer
}

fn raster_caps(format: &str, layout: &str, bands: usize) -> String {
    let (w, h) = SIZE;
    format!("raster/x-raw,format={format},layout={layout},bands={bands},width={w},height={h},framerate=25/1")
}

/// A harness whose sink takes scores.
fn scores_of(element: &gst::Element, uncertainty: bool) -> gst_check::Harness {
    let mut h = harness(element);
    h.set_sink_caps_str(&format!("raster/x-raw,format=F32LE,uncertainty={uncertainty}"));
    h.play();
    h
}

fn floats(buffer: &gst::BufferRef) -> Vec<f32> {
    let map = buffer.map_readable().unwrap();
    map.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn raster_caps_hold_the_same_pixels_as_video_caps() {
    let _w = start();
    let expected = mask(&engine("softmax4", &[]), SIZE, 3);
    let (w, h) = SIZE;
    for (layout, at) in [
        ("interleaved", (|c, x, y| (y * 40 + x) * 3 + c) as fn(usize, usize, usize) -> usize),
        ("planar", |c, x, y| (c * 32 + y) * 40 + x),
    ] {
        let element = element("softmax4", &[]);
        let mut harness = harness(&element);
        harness.play();
        harness.set_src_caps_str(&raster_caps("U8", layout, 3));
        let mut bytes = vec![0; 3 * w * h];
        for y in 0..h {
            for x in 0..w {
                colour(3, x, y).iter().enumerate().for_each(|(c, v)| bytes[at(c, x, y)] = *v);
            }
        }
        let found = harness.push_and_pull(stamped(gst::Buffer::from_mut_slice(bytes), 0)).unwrap();
        assert!(pixels(&found, &caps_of(&harness)) == expected, "{layout}");
    }
}

#[test]
fn samples_of_every_type_mean_their_value() {
    let _w = start();
    let (w, h) = SIZE;
    let value = |c: usize, x: usize, y: usize| colour(c, x, y)[c % 3] as f32;
    let all = || (0..5).flat_map(|c| (0..h).flat_map(move |y| (0..w).map(move |x| value(c, x, y))));
    let samples: [(&str, Vec<u8>); 4] = [
        ("U8", all().map(|v| v as u8).collect()),
        ("U16LE", all().flat_map(|v| (v as u16).to_le_bytes()).collect()),
        ("I16LE", all().flat_map(|v| (v as i16).to_le_bytes()).collect()),
        ("F32LE", all().flat_map(|v| v.to_le_bytes()).collect()),
    ];
    let mut results = Vec::new();
    for (format, bytes) in samples {
        let element = element("five", &[("scale", "255")]);
        let mut harness = scores_of(&element, false);
        harness.set_src_caps_str(&raster_caps(format, "planar", 5));
        let found = harness.push_and_pull(stamped(gst::Buffer::from_mut_slice(bytes), 0)).unwrap();
        results.push(floats(&found));
    }
    assert!(results[0].iter().any(|v| *v != results[0][0]), "a picture that tells nothing");
    assert!(results.iter().all(|r| *r == results[0]));
}

#[test]
fn scores_leave_as_they_were_merged() {
    let _w = start();
    for (name, domain, uncertainty) in
        [("softmax4", "probability", false), ("sigmoid", "logit", true), ("logits4", "logit", false)]
    {
        let properties: &[(&str, &str)] = match name {
            "logits4" => &[("merge-domain", domain), ("tta", "flips"), ("activation", "softmax")],
            _ => &[("merge-domain", domain), ("tta", "flips")],
        };
        let element = element(name, properties);
        let mut harness = scores_of(&element, uncertainty);
        harness.set_src_caps_str(&caps("RGB", SIZE));
        let found = floats(&harness.push_and_pull(picture(SIZE, 6)).unwrap());
        let merged = merged(&engine(name, properties), SIZE, 6);
        let mut expected = merged.scores.clone();
        if uncertainty {
            let mut band = Vec::new();
            merged.uncertainty_rows(0, SIZE.1, &mut band).unwrap();
            expected.extend(band);
        }
        assert!(found == expected, "{name}");
        let caps = caps_of(&harness);
        let bands = caps.structure(0).unwrap().get::<i32>("bands").unwrap() as usize;
        assert_eq!(bands, merged.channels + usize::from(uncertainty), "{name}");
    }
}

#[test]
fn whatever_comes_first_in_the_peers_caps_is_given() {
    let _w = start();
    for (wanted, found) in [
        ("video/x-raw,format=GRAY8; raster/x-raw,format=F32LE", "video/x-raw"),
        ("raster/x-raw,format=F32LE; video/x-raw,format=GRAY8", "raster/x-raw"),
    ] {
        let element = element("sigmoid", &[]);
        let mut h = harness(&element);
        h.set_sink_caps(wanted.parse().unwrap());
        h.play();
        h.set_src_caps_str(&caps("RGB", SIZE));
        h.push_and_pull(picture(SIZE, 0)).unwrap();
        assert_eq!(caps_of(&h).structure(0).unwrap().name(), found);
    }
}

#[test]
fn pixels_without_data_have_no_class_no_score_and_no_colour() {
    let _w = start();
    let valid: Vec<u8> = (0..40 * 32).map(|k| u8::from(k % 7 != 0)).collect();
    let nodata = |k: usize| k.is_multiple_of(7);

    let all = element("sigmoid", &[("palette", "#00ff00,#ff0000"), ("overlay-alpha", "1")]);
    let mut h = harness(&all);
    let mut views = ["probability", "uncertainty", "overlay"].map(|name| view(&all, name));
    h.play();
    h.set_src_caps_str(&caps("RGB", SIZE));
    h.push(tile(picture(SIZE, 2), 0, Some(valid.clone()))).unwrap();
    let expected = mask(&engine("sigmoid", &[]), SIZE, 2);
    let found = pixels(&h.pull().unwrap(), &caps_of(&h));
    for (k, found) in found.iter().enumerate() {
        assert_eq!(*found, if nodata(k) { 255 } else { expected[k] }, "pixel {k}");
    }
    for view in &mut views {
        let buffer = view.pull().unwrap();
        let caps = caps_of(view);
        let step = if caps.to_string().contains("RGB") { 3 } else { 1 };
        for (k, pixel) in pixels(&buffer, &caps).chunks(step).enumerate() {
            let empty: &[u8] = if step == 3 { &[0, 0, 0] } else { &[255] };
            assert_eq!(pixel == empty, nodata(k), "pixel {k} of {caps}");
        }
    }

    let element = element("softmax4", &[]);
    let mut h = scores_of(&element, false);
    h.set_src_caps_str(&caps("RGB", SIZE));
    let found = floats(&h.push_and_pull(tile(picture(SIZE, 2), 0, Some(valid))).unwrap());
    let expected = merged(&engine("softmax4", &[]), SIZE, 2);
    for (k, (found, expected)) in found.iter().zip(&expected.scores).enumerate() {
        assert!(if nodata(k % (40 * 32)) { found.is_nan() } else { found == expected }, "score {k}");
    }
}

#[test]
fn a_tile_without_data_is_not_inferred() {
    let _w = start();
    let frames = |element: &gst::Element| element.property::<gst::Structure>("stats").get::<u64>("frames").unwrap();
    for scores in [false, true] {
        let element = element("sigmoid", &[("threads", "3"), ("tta", "flips")]);
        let mut h = if scores { scores_of(&element, false) } else { fed(&element, "RGB", SIZE) };
        h.set_src_caps_str(&caps("RGB", SIZE));
        let gap = |k: usize| {
            let mut buffer = tile(picture(SIZE, k), k % 3, None);
            buffer.make_mut().set_flags(gst::BufferFlags::GAP);
            buffer
        };
        let order = [false, true, true, false, true];
        for (k, empty) in order.into_iter().enumerate() {
            h.push(if empty { gap(k) } else { tile(picture(SIZE, k), k % 3, None) }).unwrap();
        }
        for (k, empty) in order.into_iter().enumerate() {
            let found = h.pull().unwrap();
            assert_eq!(found.pts(), Some(time(k)));
            assert_eq!(found.flags().contains(gst::BufferFlags::GAP), empty);
            let meta = TileMeta::of(&found, 40, 32).unwrap().expect("the meta goes along");
            assert_eq!(meta.index, k % 3);
            let blank = match scores {
                true => floats(&found).iter().all(|v| v.is_nan()),
                false => pixels(&found, &caps_of(&h)).iter().all(|v| *v == 255),
            };
            assert_eq!(blank, empty, "tile {k}");
        }
        assert_eq!(frames(&element), 2);
    }
}

#[test]
fn without_tile_meta_a_gap_is_a_frame_like_others() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = fed(&element, "RGB", SIZE);
    let mut buffer = picture(SIZE, 1);
    buffer.make_mut().set_flags(gst::BufferFlags::GAP);
    let found = h.push_and_pull(buffer).unwrap();
    assert!(pixels(&found, &caps_of(&h)) == mask(&engine("sigmoid", &[]), SIZE, 1));
}

#[test]
fn a_tile_that_was_scaled_is_refused() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let bus = bus(&element);
    let mut h = fed(&element, "RGB", (20, 16));
    assert_eq!(h.push(tile(picture((20, 16), 0), 0, None)), Err(gst::FlowError::Error));
    let errors = errors(&bus);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].1.contains("40x32") && errors[0].1.contains("20x16"), "{errors:?}");
}

#[test]
fn a_late_tile_is_inferred_all_the_same() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = fed(&element, "RGB", SIZE);
    h.push_and_pull(picture(SIZE, 0)).unwrap();
    let late = gst::event::Qos::builder(gst::QOSType::Underflow, 1.0, 5_000_000_000).timestamp(time(1)).build();
    h.push_upstream_event(late);
    h.push(picture(SIZE, 1)).unwrap();
    let found = h.push_and_pull(tile(picture(SIZE, 2), 1, None)).unwrap();
    assert_eq!(found.pts(), Some(time(2)), "the frame before it is dropped, the tile is not");
}

#[test]
fn what_scores_mean_is_told_once_for_tiles_of_all_sizes() {
    let _w = start();
    let element = element("deepness", &[("tta", "hflip"), ("palette", "#102030,none,#ffffff"), ("label-offset", "1")]);
    let mut h = fed(&element, "RGB", SIZE);
    for (k, size) in [(40, 32), (20, 32), (40, 32)].into_iter().enumerate() {
        h.set_src_caps_str(&caps("RGB", size));
        h.push_and_pull(picture(size, k)).unwrap();
    }
    let told: Vec<_> =
        std::iter::from_fn(|| h.try_pull_event()).filter_map(|event| SegmentationInfo::of(&event)).collect();
    assert_eq!(told.len(), 1);
    let info = &told[0];
    assert_eq!(info.class_names.as_ref().unwrap().len(), 3);
    assert_eq!(info.colours, [Some([16, 32, 48]), None, Some([255, 255, 255])]);
    assert_eq!((info.channels, info.label_offset, info.tta.as_str()), (3, 1, "identity,hflip"));
    assert_eq!((info.domain.as_str(), info.link.as_str(), info.merge.as_str()), ("probability", "softmax", "mean"));
    let sum = std::process::Command::new("sha256sum").arg(model("deepness")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!((info.models[0].file.as_str(), info.models[0].sha256.as_str()), ("deepness.onnx", &sum[..64]));
}

#[test]
fn a_plan_learns_what_the_models_want_and_what_they_are() {
    let _w = start();
    let element = element("fixed64", &[("tta", "flips"), ("mean", "0.5"), ("std", "0.2")]);
    let mut h = harness(&element);
    h.play();
    // The sink that answers, behind the element.
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let writer = seen.clone();
    h.sinkpad().unwrap().add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Query(query)) = &mut info.data
            && let Some(plan) = PlanRef::of(query)
        {
            *writer.lock().unwrap() = plan.models();
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
    let src = h.srcpad().unwrap();
    let mut plan = Plan::preference();
    assert!(plan.send(&src));
    let preference = plan.preferred().unwrap();
    assert_eq!((preference.fixed_width, preference.fixed_height), (Some(64), Some(64)));
    assert_eq!(preference.fill, Some(vec![127.5; 3]));
    assert!(seen.lock().unwrap().is_none(), "a preference is the models' alone");

    let request = RunRequest {
        source: serde_json::json!({"name": "city.tif"}),
        name: "city.tif".into(),
        georeference: Georeference::default(),
        grid: Grid::fit(100, 100, Stated::default(), &preference).unwrap(),
        region: Rect::new(0, 0, 100, 100),
        mask_grid: None,
        share: Share::default(),
        labels: None,
    };
    assert!(Plan::run(&request).send(&src));
    let models = seen.lock().unwrap().take().unwrap();
    assert_eq!(models.info.models[0].file, "fixed64.onnx");
    assert_eq!(models.settings["tta"], "identity,hflip,vflip,rot180");
    assert_eq!(models.settings["model"][0]["mean"], "0.5");
}

#[test]
fn metadata_tells_how_a_raster_is_cut() {
    let _w = start();
    let element = element("deepness", &[]);
    let mut h = harness(&element);
    h.play();
    let mut plan = Plan::preference();
    assert!(plan.send(&h.srcpad().unwrap()));
    let preference = plan.preferred().unwrap();
    // As tests/models/make_models.py wrote them.
    assert_eq!((preference.tile, preference.overlap), (Some(64), Some(0.1)));
    assert!((preference.resolution.unwrap() - 0.5).abs() < 1e-6, "{preference:?}");
    assert_eq!(preference.multiple, 32);
}

#[test]
fn facts_of_the_raster_pass_through() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = fed(&element, "RGB", SIZE);
    let info = RasterInfo { source: "city.tif".into(), width: 100, height: 32, ..RasterInfo::default() };
    h.push_event(info.event());
    h.push_and_pull(tile(picture(SIZE, 0), 0, None)).unwrap();
    let found: Vec<_> = std::iter::from_fn(|| h.try_pull_event()).filter_map(|e| RasterInfo::of(&e)).collect();
    assert_eq!(found, [info]);
}
