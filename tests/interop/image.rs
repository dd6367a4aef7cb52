//! The pad `image` as a pad: frames pass as they came, in order, with the events.

use gst::prelude::*;
use gst_video::{VideoFormat, VideoMeta};
use gstonnxsegment::elements::meta::TileMeta;
use gstonnxsegment::raster::grid::Stated;
use gstonnxsegment::raster::{Grid, Preference};

use crate::common::*;
use crate::read::tensors;

const SIZE: (usize, usize) = (40, 32);

fn address(buffer: &gst::BufferRef) -> *const u8 {
    buffer.map_readable().unwrap().as_ptr()
}

/// The element fed through its sink pad, followed on `image` alone.
fn image_alone(element: &gst::Element, format: &str) -> (gst_check::Harness, gst_check::Harness) {
    let mut h = gst_check::Harness::with_element(element, Some("sink"), None);
    let image = view(element, "image");
    h.play();
    h.set_src_caps_str(&caps(format, SIZE));
    (h, image)
}

#[test]
fn a_frame_passes_in_its_own_memory() {
    let _w = start();
    for format in [VideoFormat::Rgb, VideoFormat::Bgra, VideoFormat::Rgbp] {
        let element = element("sigmoid", &[]);
        let (mut h, mut image) = image_alone(&element, format.to_str());
        let frame = stamped(picture_in(format, SIZE, 3, 0, 0), 3);
        let (sent, at) = (frame.map_readable().unwrap().to_vec(), address(&frame));
        h.push(frame).unwrap();
        let found = image.pull().unwrap();
        assert_eq!(address(&found), at, "{format}");
        assert!(found.map_readable().unwrap().as_slice() == sent, "{format}");
        assert_eq!((found.pts(), found.duration()), (Some(time(3)), Some(time(1))));
        assert_eq!(tensors(&found).len(), 1);
    }
}

#[test]
fn a_frame_keeps_its_metas() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let (mut h, mut image) = image_alone(&element, "RGB");
    let fixed = Preference { fixed_width: Some(40), fixed_height: Some(32), ..Preference::default() };
    let grid = Grid::fit(100, 32, Stated { tile: None, overlap: Some(0) }, &fixed).unwrap();
    let mut frame = picture(SIZE, 0);
    TileMeta { grid, index: 2, valid: None }.attach(frame.make_mut()).unwrap();
    gst_video::VideoCropMeta::add(frame.make_mut(), (1, 2, 3, 4));
    h.push(frame).unwrap();
    let found = image.pull().unwrap();
    assert_eq!(TileMeta::of(&found, 40, 32).unwrap().unwrap().index, 2);
    assert_eq!(found.meta::<gst_video::VideoCropMeta>().unwrap().rect(), (1, 2, 3, 4));
}

#[test]
fn padded_rows_pass_to_who_reads_their_layout() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let mut h = gst_check::Harness::with_element(&element, Some("sink"), None);
    let mut image = gst_check::Harness::with_element(&element, None, Some("image"));
    image.add_propose_allocation_meta(VideoMeta::meta_api(), None);
    image.play();
    h.play();
    h.set_src_caps_str(&caps("RGB", SIZE));
    let frame = picture_in(VideoFormat::Rgb, SIZE, 3, 12, 8);
    let at = address(&frame);
    h.push(frame).unwrap();
    let found = image.pull().unwrap();
    assert_eq!(address(&found), at);
    assert_eq!(found.meta::<VideoMeta>().unwrap().stride()[0], 40 * 3 + 12);
}

#[test]
fn padded_rows_are_packed_for_who_does_not() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let (mut h, mut image) = image_alone(&element, "RGB");
    h.push(stamped(picture_in(VideoFormat::Rgb, SIZE, 3, 12, 8), 3)).unwrap();
    let found = image.pull().unwrap();
    let plain = picture(SIZE, 3);
    assert!(found.meta::<VideoMeta>().is_none());
    assert!(found.map_readable().unwrap().as_slice() == plain.map_readable().unwrap().as_slice());
    assert_eq!(found.pts(), plain.pts());
    assert_eq!(tensors(&found).len(), 1);
}

#[test]
fn pixels_that_video_caps_cannot_describe_pass_too() {
    let _w = start();
    let element = element("five", &[("scale", "1000")]);
    let mut h = gst_check::Harness::with_element(&element, Some("sink"), None);
    let mut image = view(&element, "image");
    h.play();
    h.set_src_caps_str("raster/x-raw,format=U16LE,layout=planar,bands=5,width=40,height=32,framerate=25/1");
    let frame = gst::Buffer::from_slice(vec![3u8; 2 * 5 * 40 * 32]);
    let at = address(&frame);
    h.push(stamped(frame, 0)).unwrap();
    let found = image.pull().unwrap();
    assert_eq!(address(&found), at);
    let caps = caps_of(&image);
    assert_eq!(caps.structure(0).unwrap().name(), "raster/x-raw");
    assert_eq!(tensors(&found)[0].dims, [1, 3, 32, 40]);
}

#[test]
fn frames_and_events_come_in_order() {
    let _w = start();
    let element = element("sigmoid", &[("threads", "3")]);
    let (mut h, mut image) = image_alone(&element, "RGB");
    for k in 0..7 {
        h.push(picture(SIZE, k)).unwrap();
    }
    h.push_event(gst::event::Eos::new());
    for k in 0..7 {
        let found = image.pull().unwrap();
        assert_eq!(found.pts(), Some(time(k)));
        assert!(found.map_readable().unwrap().as_slice() == picture(SIZE, k).map_readable().unwrap().as_slice());
    }
    until("the end comes", || image.sinkpad().unwrap().sticky_event::<gst::event::Eos>(0).is_some());
    let types = event_types(&mut image);
    let at = |wanted| types.iter().position(|t| *t == wanted).unwrap_or_else(|| panic!("{wanted:?} in {types:?}"));
    assert!(at(gst::EventType::StreamStart) < at(gst::EventType::Caps));
    assert!(at(gst::EventType::Caps) < at(gst::EventType::Segment));
    assert_eq!(at(gst::EventType::Eos), types.len() - 1);
}

#[test]
fn the_pad_has_a_stream_id_of_its_own() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let (mut h, mut image) = image_alone(&element, "RGB");
    h.push(picture(SIZE, 0)).unwrap();
    image.pull().unwrap();
    let id = element.static_pad("image").unwrap().stream_id().unwrap();
    assert!(id.ends_with("/image"), "{id}");
}

#[test]
fn new_caps_hold_from_their_frame_on() {
    let _w = start();
    let element = element("sigmoid", &[]);
    let (mut h, mut image) = image_alone(&element, "RGB");
    h.push(picture(SIZE, 0)).unwrap();
    assert_eq!(image.pull().unwrap().size(), 40 * 32 * 3);
    h.set_src_caps_str(&caps("RGBA", (20, 16)));
    h.push(stamped(picture_in(VideoFormat::Rgba, (20, 16), 1, 0, 0), 1)).unwrap();
    let found = image.pull().unwrap();
    assert_eq!(found.size(), 20 * 16 * 4);
    assert_eq!(tensors(&found)[0].dims, [1, 1, 16, 20]);
    let caps = caps_of(&image);
    assert_eq!(caps.structure(0).unwrap().get::<&str>("format").unwrap(), "RGBA");
}

#[test]
fn what_follows_the_pad_chooses_the_format_of_frames() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc num-buffers=2 ! videoconvert ! onnxsegment model-file={sigmoid} name=s \
         s.image ! video/x-raw,format=BGRA,width=48,height=32 ! fakesink sync=false",
    );
    pipeline.finish();
    let text = pipeline
        .get("s")
        .static_pad("sink")
        .unwrap()
        .current_caps()
        .expect("they stay until the pad is stopped")
        .to_string();
    assert!(text.contains("BGRA"), "{text}");
}

#[test]
fn a_seek_flushes_the_pad() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc num-buffers=50 ! video/x-raw,format=RGB,width=48,height=32,framerate=25/1 \
         ! onnxsegment model-file={sigmoid} name=s ! fakesink sync=false s.image ! appsink name=end sync=false",
    );
    pipeline.reach(gst::State::Paused);
    pipeline.seek_simple(gst::SeekFlags::FLUSH, time(20)).unwrap();
    pipeline.reach(gst::State::Paused);
    pipeline.0.set_state(gst::State::Playing).unwrap();
    let first = pipeline.appsink("end").try_pull_sample(LONG).unwrap();
    assert_eq!(first.buffer().unwrap().pts(), Some(time(20)));
    assert_eq!(tensors(first.buffer().unwrap()).len(), 1);
}

#[test]
fn a_pad_that_is_not_linked_costs_nothing_and_stops_nothing() {
    let _w = start();
    let element = element("sigmoid", &[]);
    element.request_pad_simple("image").unwrap();
    let mut h = fed(&element, "RGB", SIZE);
    for k in 0..3 {
        assert!(
            pixels(&h.push_and_pull(picture(SIZE, k)).unwrap(), &caps_of(&h)) == mask(&engine("sigmoid", &[]), SIZE, k)
        );
    }
}

#[test]
fn a_cascade_that_keeps_labels_alone_refuses_it() {
    let _w = start();
    let element = element("sigmoid", &[("tta", "flips"), ("cascade", "exact")]);
    let bus = bus(&element);
    let (mut h, _image) = image_alone(&element, "RGB");
    assert_eq!(h.push(picture(SIZE, 0)), Err(gst::FlowError::Error));
    let found = errors(&bus);
    assert!(found.len() == 1 && found[0].1.contains("pad image shows more than labels"), "{found:?}");
}
