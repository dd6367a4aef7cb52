//! GStreamer's own elements: `onnxinference` gives the same numbers, and its overlays take what `image` gives.

use gst::prelude::*;

use crate::common::*;
use crate::named::{NAME, named};
use crate::read::{Tensor, tensors};

/// Multiples of 32: `onnxinference` pads no frames.
const SIZE: (usize, usize) = (96, 64);

/// The tensors of frames behind a line of elements; frames are test pictures.
fn tensors_behind(line: &str, frames: usize) -> Vec<Vec<Tensor>> {
    let pipeline = launch(&format!(
        "appsrc name=in format=time caps={} ! {line} ! appsink name=end sync=false async=false",
        caps("RGB", SIZE)
    ));
    pipeline.0.set_state(gst::State::Playing).unwrap();
    let source = pipeline.appsrc("in");
    for k in 0..frames {
        source.push_buffer(picture(SIZE, k)).unwrap();
    }
    source.end_of_stream().unwrap();
    let found: Vec<_> = rest(&pipeline.appsink("end")).iter().map(|s| tensors(s.buffer().unwrap())).collect();
    assert_eq!(found.len(), frames);
    found
}

/// `onnxinference` as 1.26 has it. Since 1.28 it has other properties, and wants a file beside the model.
fn comparable() -> bool {
    let element = gst::ElementFactory::make("onnxinference").build().expect("gstreamer1.0-plugins-bad");
    let comparable = element.has_property("input-tensor-scale");
    assert!(comparable || gst::version() >= (1, 28, 0, 0));
    if !comparable {
        println!("not looked at: onnxinference of {} has no properties for a model's input", gst::version_string());
    }
    comparable
}

/// The largest difference between the two elements' tensors, over three frames.
fn largest_difference(model: &str, theirs: &str, ours: &str) -> f32 {
    let folder = tempfile::tempdir().unwrap();
    let path = named(folder.path(), model.as_ref());
    let path = path.display();
    let of_theirs = tensors_behind(&format!("onnxinference model-file={path} {theirs}"), 3);
    let of_ours = tensors_behind(&format!("onnxsegment name=s model-file={path} {ours} s.image ! queue"), 3);
    let mut largest = 0f32;
    for (a, b) in of_theirs.iter().zip(&of_ours) {
        let ([a], [b]) = (&a[..], &b[..]) else { panic!("one tensor each") };
        assert_eq!(a.id, NAME);
        assert_eq!(a.values.len(), b.values.len(), "{:?} and {:?}", a.dims, b.dims);
        assert!(a.values.iter().any(|v| *v != a.values[0]), "not all the same");
        largest = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs()).fold(largest, f32::max);
    }
    println!("{model}: {:?} beside {:?}, largest difference {largest:e}", of_theirs[0][0].dims, of_ours[0][0].dims);
    largest
}

fn demo(name: &str) -> String {
    root().join(format!("models/{name}.onnx")).display().to_string()
}

#[test]
fn onnxinference_gives_the_same_probabilities() {
    let _w = start();
    if !comparable() {
        return;
    }
    let theirs = "input-image-format=chw input-tensor-scale=255";
    assert!(largest_difference(&demo("fold0"), theirs, "") < 1e-5);
    assert!(largest_difference(&model("softmax4"), theirs, "") < 1e-5);
}

#[test]
fn onnxinference_gives_the_same_logits() {
    let _w = start();
    if !comparable() {
        return;
    }
    let theirs = "input-image-format=chw input-tensor-scale=255";
    // Logits of this model lie between −20 and 10.
    assert!(largest_difference(&demo("snap0"), theirs, "merge-domain=logit") < 1e-4);
}

#[test]
fn onnxinference_gives_the_same_numbers_of_bytes() {
    let _w = start();
    if !comparable() {
        return;
    }
    // It refuses models of bytes whose channels come first.
    assert!(largest_difference(&model("u8-nhwc"), "input-image-format=hwc", "") < 1e-5);
}

#[test]
fn the_tensor_of_onnxinference_stays_beside_ours() {
    let _w = start();
    if !comparable() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = named(folder.path(), demo("fold0").as_ref());
    let found = tensors_behind(
        &format!(
            "onnxinference model-file={path} input-image-format=chw input-tensor-scale=255 \
             ! onnxsegment name=s model-file={path} s.image ! queue",
            path = path.display()
        ),
        1,
    );
    let ids: Vec<_> = found[0].iter().map(|t| t.id.as_str()).collect();
    assert_eq!(ids, [NAME, "onnxsegment-out-scores"]);
}

/// The bytes of a frame behind an overlay, in RGBA.
fn behind(overlay: &str) -> Vec<u8> {
    let pipeline = launch(&format!(
        "appsrc name=in format=time caps={} ! onnxsegment name=s model-file={{softmax4}} \
         s.image ! queue ! {overlay} ! appsink name=end sync=false async=false",
        caps("RGBA", SIZE)
    ));
    pipeline.0.set_state(gst::State::Playing).unwrap();
    let source = pipeline.appsrc("in");
    source.push_buffer(stamped(picture_in(gst_video::VideoFormat::Rgba, SIZE, 1, 0, 0), 0)).unwrap();
    source.end_of_stream().unwrap();
    let sample = pipeline.appsink("end").try_pull_sample(LONG).expect("a frame");
    pixels(sample.buffer().unwrap(), sample.caps().unwrap())
}

#[test]
fn an_overlay_of_detections_finds_none_and_draws_none() {
    let _w = start();
    let sent = picture_in(gst_video::VideoFormat::Rgba, SIZE, 1, 0, 0);
    assert!(behind("objectdetectionoverlay") == sent.map_readable().unwrap().to_vec());
}

#[test]
fn an_overlay_of_segments_paints_the_classes() {
    let _w = start();
    if gst::ElementFactory::find("segmentationoverlay").is_none() {
        assert!(gst::version() < (1, 28, 0, 0), "GStreamer 1.28 has segmentationoverlay; install its plugins-bad");
        println!("not looked at: segmentationoverlay came with GStreamer 1.28");
        return;
    }
    let sent = picture_in(gst_video::VideoFormat::Rgba, SIZE, 1, 0, 0);
    let sent = sent.map_readable().unwrap();
    let found = behind("segmentationoverlay");
    let classes = mask(&engine("softmax4", &[]), SIZE, 1);
    for (k, (found, sent)) in found.chunks(4).zip(sent.chunks(4)).enumerate() {
        assert_eq!(found[..3] != sent[..3], classes[k] != 0, "pixel {k} of class {}", classes[k]);
    }
}
