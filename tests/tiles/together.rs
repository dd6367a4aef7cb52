//! `tilesplit ! tilemerge`, with and without models between.

use gst::prelude::*;
use gst_video::VideoFormat;

use crate::common::*;
use crate::*;

#[test]
fn cut_and_put_together_a_frame_is_the_same() {
    let _w = start();
    let sizes = [(1, 1), (1, 7), (9, 1), (2, 3), (13, 17), (31, 29), (64, 64), (97, 53), (130, 7), (256, 101)];
    let cuts =
        ["tile-size=8 overlap=0", "tile-size=8 overlap=4", "tile-size=12 overlap=6", "tile-size=33 overlap=16", ""];
    for (format, name) in [(VideoFormat::Gray8, "GRAY8"), (VideoFormat::Gray16Le, "GRAY16_LE")] {
        for size in sizes {
            for cut in cuts {
                let mut h = parsed(&format!("tilesplit {cut} ! tilemerge"));
                h.play();
                h.set_src_caps_str(&caps(name, size));
                for seed in 0..2 {
                    let from = picture_in(format, size, seed, 2 * seed, seed);
                    let expected = pixels(&from, &caps(name, size).parse::<gst::Caps>().unwrap());
                    let found = h.push_and_pull(stamped(from, seed)).unwrap();
                    assert_eq!(found.pts(), Some(time(seed)));
                    assert!(pixels(&found, &caps_of(&h)) == expected, "{name} {size:?} {cut}");
                }
                let caps = caps_of(&h);
                let s = caps.structure(0).unwrap();
                assert_eq!((s.get::<i32>("width"), s.get::<i32>("height")), (Ok(size.0 as i32), Ok(size.1 as i32)));
                assert_eq!(s.get::<gst::Fraction>("framerate"), Ok(gst::Fraction::new(25, 1)));
                assert_eq!(s.get::<&str>("format"), Ok(name));
            }
        }
    }
}

#[test]
fn scores_that_tiles_agree_on_come_back() {
    let _w = start();
    for blend in ["crop", "linear", "hann", "gaussian", "gaussian-nnunet"] {
        for (width, height) in [(1, 1), (29, 37), (64, 5)] {
            let bands = 3;
            let mut h = parsed(&format!(
                "tilesplit tile-size=16 overlap=6 ! tilemerge blend={blend} ! capsfilter caps=raster/x-raw"
            ));
            h.play();
            h.set_src_caps_str(&format!(
                "raster/x-raw,format=F32LE,layout=planar,bands={bands},width={width},height={height},framerate=25/1,\
                 uncertainty=false"
            ));
            let scores: Vec<f32> = (0..bands * width * height).map(|k| (k * 37 % 101) as f32 / 101.0).collect();
            let bytes: Vec<u8> = scores.iter().flat_map(|v| v.to_le_bytes()).collect();
            let found = h.push_and_pull(gst::Buffer::from_mut_slice(bytes)).unwrap();
            let map = found.map_readable().unwrap();
            assert_eq!(map.len(), 4 * scores.len());
            for (found, expected) in map.as_chunks::<4>().0.iter().zip(&scores) {
                let found = f32::from_le_bytes(*found);
                assert!((found - expected).abs() < 1e-6, "{blend} {found} {expected}");
            }
        }
    }
}

#[test]
fn the_frame_gets_its_tiles_times_flags_and_metas() {
    let _w = start();
    let mut h = parsed("tilesplit tile-size=16 overlap=4 ! tilemerge");
    h.play();
    h.set_src_caps_str(&caps("GRAY8", (40, 20)));
    for _ in 0..3 {
        let mut buffer = stamped(picture_in(VideoFormat::Gray8, (40, 20), 1, 0, 0), 5);
        let b = buffer.get_mut().unwrap();
        b.set_offset(77);
        b.set_flags(gst::BufferFlags::DISCONT | gst::BufferFlags::CORRUPTED | gst::BufferFlags::GAP);
        let reference = gst::Caps::new_empty_simple("timestamp/x-test");
        gst::meta::ReferenceTimestampMeta::add(b, &reference, gst::ClockTime::from_seconds(9), gst::ClockTime::NONE);
        let found = h.push_and_pull(buffer).unwrap();
        assert_eq!((found.pts(), found.duration()), (Some(time(5)), Some(gst::ClockTime::from_mseconds(40))));
        assert_eq!(found.offset(), 77);
        assert!(found.flags().contains(gst::BufferFlags::DISCONT | gst::BufferFlags::CORRUPTED));
        assert!(!found.flags().contains(gst::BufferFlags::GAP));
        assert_eq!(found.iter_meta::<gst::meta::ReferenceTimestampMeta>().count(), 1);
        assert_eq!(tile_metas(&found), 0, "a frame is no tile");
        drop(found);
        let plain = h.push_and_pull(picture_in(VideoFormat::Gray8, (40, 20), 1, 0, 0)).unwrap();
        assert_eq!(plain.iter_meta::<gst::meta::ReferenceTimestampMeta>().count(), 0);
        assert!(!plain.flags().intersects(gst::BufferFlags::DISCONT | gst::BufferFlags::CORRUPTED));
    }
}

#[test]
fn frames_of_several_sizes_follow_each_other() {
    let _w = start();
    let mut h = parsed("tilesplit tile-size=16 overlap=4 ! tilemerge");
    h.play();
    for (k, size) in [(40, 20), (7, 90), (16, 16), (40, 20)].into_iter().enumerate() {
        h.set_src_caps_str(&caps("GRAY8", size));
        let from = picture_in(VideoFormat::Gray8, size, k, 0, 0);
        let expected = pixels(&from, &caps("GRAY8", size).parse::<gst::Caps>().unwrap_or_else(|_| unreachable!()));
        let found = h.push_and_pull(from).unwrap();
        assert!(pixels(&found, &caps_of(&h)) == expected, "{size:?}");
    }
}

#[test]
fn one_tile_is_what_the_model_alone_gives() {
    let _w = start();
    // No halo and one tile: nothing that could differ.
    for (model, format) in [("sigmoid", "GRAY8"), ("softmax4", "GRAY8"), ("softmax4", "GRAY16_LE")] {
        let file = crate::common::model(model);
        let size = (40, 32);
        let mut h = parsed(&format!(
            "tilesplit tile-size=64 overlap=0 ! onnxsegment model-file={file} ! tilemerge ! capsfilter caps=video/x-raw,format={format}"
        ));
        h.play();
        h.set_src_caps_str(&caps("RGB", size));
        let found = h.push_and_pull(picture(size, 4)).unwrap();
        let expected = mask(&engine(model, &[]), size, 4);
        let found = pixels(&found, &caps_of(&h));
        let found: Vec<u8> = if format == "GRAY8" {
            found
        } else {
            assert!(found.iter().skip(1).step_by(2).all(|high| *high == 0));
            found.into_iter().step_by(2).collect()
        };
        assert!(found == expected, "{model}");
    }
}

#[test]
fn large_values_need_16_bits_and_get_them() {
    let _w = start();
    let file = crate::common::model("softmax4");
    let mut h = parsed(&format!(
        "tilesplit tile-size=32 overlap=0 ! onnxsegment model-file={file} mask-values=1,300,60000,4 ! tilemerge"
    ));
    h.play();
    h.set_src_caps_str(&caps("RGB", (40, 32)));
    let found = h.push_and_pull(picture((40, 32), 4)).unwrap();
    assert_eq!(caps_of(&h).structure(0).unwrap().get::<&str>("format"), Ok("GRAY16_LE"));
    let data = pixels(&found, &caps_of(&h));
    let values: Vec<u16> = data.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
    assert!(values.iter().all(|v| [1, 300, 60000, 4].contains(v)));
    assert!(values.iter().any(|v| *v > 255), "a picture that tells nothing");
}

#[test]
fn a_pipeline_runs_to_its_end_and_again_after_a_seek() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc ! video/x-raw,format=RGB,width=150,height=90,framerate=25/1 ! \
         tilesplit tile-size=64 overlap=0 ! queue ! onnxsegment model-file={sigmoid} ! queue ! tilemerge ! \
         appsink name=out sync=false",
    );
    let sink = pipeline.appsink("out");
    pipeline.reach(gst::State::Paused);
    for first in [0, 7, 3] {
        let (from, to) = (gst::SeekType::Set, gst::SeekType::Set);
        pipeline.seek(1.0, gst::SeekFlags::FLUSH, from, time(first), to, time(first + 5)).unwrap();
        pipeline.reach(gst::State::Playing);
        let found = rest(&sink);
        assert_eq!(found.len(), 5);
        for (k, sample) in found.iter().enumerate() {
            assert_eq!(sample.buffer().unwrap().pts(), Some(time(first + k)));
            assert_eq!(sample.buffer().unwrap().size(), 152 * 90);
        }
    }
}

#[test]
fn live_frames_come_in_time() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc is-live=true num-buffers=12 ! video/x-raw,format=RGB,width=150,height=90,framerate=25/1 ! \
         tilesplit tile-size=64 overlap=0 ! onnxsegment model-file={identity1x1} ! tilemerge ! fakesink name=out sync=true qos=true",
    );
    pipeline.finish();
    let stats = pipeline.get("out").property::<gst::Structure>("stats");
    assert!(stats.get::<u64>("rendered").unwrap() >= 6, "{stats}");
}

#[test]
fn tiles_of_another_size_do_not_change_a_live_streams_latency() {
    let _w = start();
    let file = crate::common::model("sigmoid");
    let mut h = parsed(&format!("tilesplit tile-size=64 overlap=0 ! onnxsegment model-file={file} name=s"));
    let bin = h.element().unwrap();
    let bus = bus(&bin);
    h.play();
    let news = || std::iter::from_fn(|| bus.pop()).filter(|m| m.type_() == gst::MessageType::Latency).count();
    h.set_src_caps_str(&caps("RGB", (150, 90)));
    // The first tile of each size is measured, and whole tiles are the largest and come first.
    h.push(picture((150, 90), 0)).unwrap();
    (0..6).for_each(|_| drop(h.pull().unwrap()));
    news();
    let latency = h.query_latency();
    for k in 1..6 {
        h.push(picture((150, 90), k)).unwrap();
        (0..6).for_each(|_| drop(h.pull().unwrap()));
        assert_eq!((news(), h.query_latency()), (0, latency));
    }
}

#[test]
fn flushing_seeks_in_the_middle_of_frames_leave_whole_frames() {
    let _w = start();
    let pipeline = launch(
        "videotestsrc ! video/x-raw,format=GRAY8,width=200,height=200,framerate=25/1 ! \
         tilesplit tile-size=16 overlap=4 ! queue max-size-buffers=3 ! tilemerge ! appsink name=out sync=false max-buffers=2",
    );
    let sink = pipeline.appsink("out");
    pipeline.reach(gst::State::Playing);
    for k in 0..20 {
        let at = gst::ClockTime::from_mseconds(40 * (7 * k % 90));
        pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, at).unwrap();
        let sample = sink.try_pull_sample(LONG).expect("frames go on");
        assert_eq!(sample.buffer().unwrap().pts(), Some(at));
        assert_eq!(sample.buffer().unwrap().size(), 200 * 200);
        std::thread::sleep(std::time::Duration::from_millis(k % 7));
    }
    assert!(errors(&pipeline.bus().unwrap()).is_empty());
}
