//! Frames, each a mask of its own.

use gst::prelude::*;

use gstonnxsegment::elements::meta::{RasterInfo, SegmentationInfo};
use gstonnxsegment::raster::clean::Recipe;

use crate::common::*;
use crate::{Mask, cleaner, error_of, frame};

#[test]
fn it_is_registered_with_every_operation_off() {
    let _w = start();
    let element = gst::ElementFactory::make("maskclean").build().unwrap();
    for name in ["median", "opening", "closing"] {
        assert_eq!(element.property::<u32>(name), 0);
    }
    for name in ["hole-area", "min-area", "classes"] {
        assert_eq!(element.property::<Option<String>>(name), None);
    }
    assert_eq!((element.property::<u32>("connectivity"), element.property::<i32>("background")), (4, -1));
    for nick in ["disk", "square", "diamond"] {
        element.set_property_from_str("shape", nick);
    }
    let mask = Mask::blots((31, 20), 1);
    assert!(frame(&mut cleaner(""), &mask, false) == mask);
}

#[test]
fn every_frame_is_cleaned_by_itself_and_keeps_its_time_and_flags() {
    let _w = start();
    let mut h = cleaner("opening=1 min-area=9");
    let recipe = Recipe { opening: 1, min_area: 9, ..Recipe::default() };
    for (k, size) in [(40, 30), (40, 30), (17, 51), (1, 1), (40, 30)].into_iter().enumerate() {
        let mask = Mask::blots(size, k);
        h.set_src_caps_str(&caps("GRAY8", size));
        let mut buffer = stamped(mask.buffer(false), k);
        buffer.make_mut().set_flags(gst::BufferFlags::MARKER | gst::BufferFlags::GAP);
        let found = h.push_and_pull(buffer).unwrap();
        assert_eq!((found.pts(), found.duration()), (Some(time(k)), Some(time(1))));
        assert!(found.flags().contains(gst::BufferFlags::MARKER | gst::BufferFlags::GAP));
        assert!(Mask::of(&found, &caps_of(&h)) == mask.cleaned(&recipe), "frame {k}");
    }
}

#[test]
fn any_stride_is_read() {
    let _w = start();
    for (format, wide) in [(gst_video::VideoFormat::Gray8, false), (gst_video::VideoFormat::Gray16Le, true)] {
        let mut h = cleaner("median=1");
        h.set_src_caps_str(&caps(Mask::format(wide), (21, 14)));
        let found = h.push_and_pull(picture_in(format, (21, 14), 3, 12, 20)).unwrap();
        let grey = |x: usize, y: usize| u16::from(grey(3, x, y)) * if wide { 257 } else { 1 };
        let no = |v: u16| if v == 255 && !wide { 65535 } else { v };
        let mask = Mask::new((21, 14), |x, y| no(grey(x, y)));
        assert!(Mask::of(&found, &caps_of(&h)) == mask.cleaned(&Recipe { median: 1, ..Recipe::default() }));
    }
}

#[test]
fn what_is_known_of_the_classes_goes_on_and_says_what_255_and_the_background_are() {
    let _w = start();
    let mask = Mask::new((9, 9), |x, y| if (x, y) == (4, 4) || x < 3 { 255 } else { 10 });
    let info = SegmentationInfo { mask_values: Some(vec![10, 255]), ..SegmentationInfo::default() };
    let clean = |h: &mut gst_check::Harness| {
        h.set_src_caps_str(&caps("GRAY8", (9, 9)));
        let found = h.push_and_pull(mask.buffer(false)).unwrap();
        pixels(&found, &caps_of(h))
    };
    let without_speck: Vec<u8> = (0..81).map(|k| if k % 9 < 3 { 255 } else { 10 }).collect();
    let with_speck: Vec<u8> = mask.labels.iter().map(|v| *v as u8).collect();
    let mut h = cleaner("min-area=4");
    h.push_event(info.event());
    assert_eq!(clean(&mut h), without_speck);
    let told = std::iter::from_fn(|| h.try_pull_event()).find_map(|event| SegmentationInfo::of(&event));
    assert_eq!(told, Some(info));
    // Nobody has said so: 255 is no data.
    assert_eq!(clean(&mut cleaner("min-area=4 background=10")), with_speck);
    assert_eq!(clean(&mut cleaner("min-area=4 background=10 nodata=none")), without_speck);
}

#[test]
fn a_mask_of_0_and_255_alone_is_warned_of() {
    let _w = start();
    let warnings = |properties: &str, labels: [u16; 2]| {
        let mut h = cleaner(properties);
        let bus = bus(&h.element().unwrap());
        frame(&mut h, &Mask::new((8, 8), |x, _| labels[x % 2]), false);
        h.push_event(gst::event::Eos::new());
        bus.iter().filter(|m| m.type_() == gst::MessageType::Warning).count()
    };
    assert_eq!(warnings("opening=1", [0, 255]), 1);
    for (properties, labels) in [("opening=1 nodata=none", [0, 255]), ("opening=1", [0, 0]), ("opening=1", [1, 255])] {
        assert_eq!(warnings(properties, labels), 0, "{properties} {labels:?}");
    }
}

#[test]
fn square_metres_need_pixels_of_a_known_size() {
    let _w = start();
    let mask = Mask::blots((30, 20), 5);
    let mut h = cleaner("min-area=3m2");
    let text = error_of(&mut h, |h| {
        h.set_src_caps_str(&caps("GRAY8", (30, 20)));
        assert_eq!(h.push(mask.buffer(false)), Err(gst::FlowError::Error));
        assert_eq!(h.push(mask.buffer(false)), Err(gst::FlowError::Error));
    });
    assert!(text.starts_with("min-area=3m2: nothing says how large these pixels are on the ground"), "{text}");
    // A raster that was put together before it comes here.
    let mut h = cleaner("min-area=3m2");
    let raster = RasterInfo { width: 30, height: 20, ground: Some((0.5, 0.5)), ..RasterInfo::default() };
    h.push_event(raster.event());
    let expected = mask.cleaned(&Recipe { min_area: 12, ..Recipe::default() });
    assert!(frame(&mut h, &mask, false) == expected && expected != mask);
}

#[test]
fn properties_that_cannot_be_used_are_one_error_on_the_way_to_paused() {
    let _w = start();
    for (name, value, says) in [
        ("min-area", "ten", "min-area=ten: use a whole number of pixels, such as 50, or square metres, such as 30m2"),
        ("hole-area", "1.5", "hole-area=1.5: use a whole number of pixels"),
        ("classes", "road", "classes=road: use values of the mask from 0 to 65535 joined by commas"),
        ("connectivity", "6", "connectivity=6: use 4 or 8 neighbours"),
    ] {
        let element = gst::ElementFactory::make("maskclean").build().unwrap();
        element.set_property_from_str(name, value);
        let bus = bus(&element);
        assert!(element.set_state(gst::State::Paused).is_err());
        let found = errors(&bus);
        assert!(found.len() == 1 && found[0].1.contains(says), "{found:?}");
        element.set_state(gst::State::Null).unwrap();
    }
    let mut h = cleaner("background=300");
    let text = error_of(&mut h, |h| {
        h.set_src_caps_str(&caps("GRAY8", (8, 8)));
        assert_eq!(h.push(Mask::blots((8, 8), 0).buffer(false)), Err(gst::FlowError::Error));
    });
    assert!(text.contains("background=300: is more than the 8 bits of this mask hold"), "{text}");
}

#[test]
fn colours_and_scores_are_not_its_business() {
    let _w = start();
    let element = gst::ElementFactory::make("maskclean").build().unwrap();
    let pad = element.static_pad("sink").unwrap();
    for refused in ["video/x-raw,format=RGB", "video/x-raw,format=GRAY16_BE", "raster/x-raw,format=F32LE,layout=planar"]
    {
        assert!(!pad.query_caps(None).can_intersect(&refused.parse::<gst::Caps>().unwrap()), "{refused}");
    }
}

#[test]
fn what_follows_and_does_not_take_the_mask_is_one_error() {
    let _w = start();
    let mut h = gst_check::Harness::new("maskclean");
    h.set_sink_caps_str("video/x-raw,format=GRAY16_LE");
    h.play();
    let text = error_of(&mut h, |h| h.set_src_caps_str(&caps("GRAY8", (8, 8))));
    assert!(text.starts_with("what follows maskclean does not take the mask that it gives"), "{text}");
}

#[test]
fn a_stream_with_models_is_cleaned() {
    let _w = start();
    let line = |clean: &str| {
        let pipeline = launch(&format!(
            "videotestsrc num-buffers=3 pattern=smpte ! video/x-raw,format=RGB,width=80,height=60,framerate=25/1 \
             ! onnxsegment model-file={{sigmoid}} mask-values=0,255 ! {clean} appsink name=out sync=false"
        ));
        pipeline.set_state(gst::State::Playing).unwrap();
        let samples = rest(&pipeline.appsink("out"));
        assert_eq!(samples.len(), 3);
        samples.iter().map(|s| pixels(s.buffer().unwrap(), s.caps().unwrap())).collect::<Vec<_>>()
    };
    let recipe = Recipe { closing: 2, hole_area: u64::MAX, min_area: 200, ..Recipe::default() };
    for (before, after) in line("").iter().zip(line("maskclean closing=2 hole-area=all min-area=200 !")) {
        let mask = Mask::new((80, 60), |x, y| u16::from(before[y * 80 + x]));
        assert!(after.iter().map(|v| u16::from(*v)).eq(mask.cleaned(&recipe).labels));
        assert!(*before != after);
    }
}
