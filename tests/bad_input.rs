//! Everything that a user can get wrong, through real pipelines: each gives exactly one element error, whose text
//! says what was found, what was expected and what to do, and the pipeline goes to NULL as if nothing had happened.
//!
//! `cargo test --release --test bad_input -- --nocapture --test-threads=1` prints every text, to be read aloud.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;

fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        // As G_DEBUG=fatal_warnings, however the test is started.
        glib::log_set_always_fatal(glib::LogLevels::LEVEL_WARNING | glib::LogLevels::LEVEL_CRITICAL);
        gstonnxsegment::plugin_register_static().unwrap();
    });
}

fn model(name: &str) -> String {
    format!("{}/tests/models/{name}.onnx", env!("CARGO_MANIFEST_DIR"))
}

/// A folder that is removed with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("onnxsegment-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    /// Writes a file and gives its path.
    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A message of the bus: the factory of the element that sent it, and the text that a user reads.
#[derive(Debug)]
struct Told {
    factory: String,
    text: String,
}

#[derive(Debug, Default)]
struct Outcome {
    errors: Vec<Told>,
    warnings: Vec<Told>,
    ended: bool,
    /// `active-provider` just before NULL.
    provider: Option<String>,
}

fn told(message: &gst::MessageRef, error: glib::Error) -> Told {
    let element = message.src().and_then(|s| s.downcast_ref::<gst::Element>());
    Told {
        factory: element.and_then(|e| e.factory()).map(|f| f.name().to_string()).unwrap_or_default(),
        text: error.message().to_string(),
    }
}

/// Plays a pipeline until it ends or fails, stops it, and gives all that it said.
fn play(pipeline: gst::Pipeline) -> Outcome {
    const PATIENCE: Duration = Duration::from_secs(60);
    pipeline.set_auto_flush_bus(false);
    let bus = pipeline.bus().unwrap();
    let mut outcome = Outcome::default();
    let failed = pipeline.set_state(gst::State::Playing).is_err();
    let mut messages = Vec::new();
    if !failed {
        let ends = [gst::MessageType::Error, gst::MessageType::Eos];
        let begin = Instant::now();
        loop {
            let message = bus.timed_pop(gst::ClockTime::SECOND);
            let last = message.as_ref().is_some_and(|m| ends.contains(&m.type_()));
            messages.extend(message);
            if last {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "the pipeline neither ends nor fails");
        }
        // Whatever follows from the error.
        while let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(20)) {
            messages.push(message);
        }
    }
    outcome.provider = element(&pipeline).and_then(|e| e.property::<Option<String>>("active-provider"));
    let begin = Instant::now();
    pipeline.set_state(gst::State::Null).expect("a failed pipeline goes to NULL");
    assert_eq!(pipeline.state(gst::ClockTime::from_seconds(10)).1, gst::State::Null);
    assert!(begin.elapsed() < Duration::from_secs(10), "NULL took {:?}", begin.elapsed());
    messages.extend(std::iter::from_fn(|| bus.pop()));
    for message in &messages {
        match message.view() {
            gst::MessageView::Error(e) => outcome.errors.push(told(message, e.error())),
            gst::MessageView::Warning(w) => outcome.warnings.push(told(message, w.error())),
            gst::MessageView::Eos(_) => outcome.ended = true,
            _ => {}
        }
    }
    outcome
}

fn element(pipeline: &gst::Pipeline) -> Option<gst::Element> {
    let of_ours = |e: &gst::Element| e.factory().is_some_and(|f| f.name() == "onnxsegment");
    pipeline.iterate_elements().into_iter().flatten().find(of_ours)
}

fn launch(description: &str) -> gst::Pipeline {
    init();
    gst::parse::launch(description)
        .unwrap_or_else(|e| panic!("{description}: {e}"))
        .downcast()
        .expect("several elements make a pipeline")
}

/// The text of the one error that an outcome holds, all of whose `words` must be in it.
fn one_error(outcome: &Outcome, words: &[&str]) -> String {
    let (ours, others): (Vec<_>, Vec<_>) = outcome.errors.iter().partition(|e| e.factory == "onnxsegment");
    assert_eq!(ours.len(), 1, "one error was expected, not {outcome:#?}");
    // A source that is told of a flow error says so too.
    for other in others {
        assert!(other.text.contains("Internal data stream error"), "{other:#?}");
    }
    assert!(outcome.warnings.is_empty(), "{:#?}", outcome.warnings);
    let text = ours[0].text.clone();
    println!("\n{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(!text.contains("panicked") && !text.contains("internal error"), "{text}");
    text
}

/// Plays a pipeline that must fail with one error.
fn bad(description: &str, words: &[&str]) -> String {
    one_error(&play(launch(description)), words)
}

/// Three small frames into the element with these properties, which must refuse.
fn refused(properties: &str, words: &[&str]) -> String {
    let outcome = frames("video/x-raw,format=RGB,width=64,height=64", properties);
    assert!(!outcome.ended, "onnxsegment {properties}: ended as if all were well");
    one_error(&outcome, words)
}

/// Three frames of these caps into the element with these properties; no mask may be half-written.
fn frames(caps: &str, properties: &str) -> Outcome {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let folder = Folder::new(&format!("masks-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
    let outcome = play(launch(&format!(
        "videotestsrc pattern=white num-buffers=3 ! {caps},framerate=25/1 ! onnxsegment {properties} \
         ! videoconvert ! pngenc ! multifilesink location={}",
        folder.path("mask-%d.png")
    )));
    if !outcome.errors.is_empty() {
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "a mask was written");
    }
    outcome
}

// ---- model files

#[test]
fn a_missing_model() {
    let file = "/nonexistent/model.onnx";
    refused(&format!("model-file={file}"), &["model-file", file, "No such file", "check the path"]);
}

#[test]
fn a_missing_model_beside_one_that_is_there() {
    let file = "/nonexistent/model.onnx";
    refused(&format!("model-file={},{file}", model("sigmoid")), &["model-file", file, "No such file"]);
}

#[test]
fn a_folder_instead_of_a_model() {
    let folder = Folder::new("folder");
    refused(&format!("model-file={}", folder.path("")), &["model-file", &folder.path(""), "folder", "*.onnx"]);
}

#[test]
fn an_empty_model() {
    let folder = Folder::new("empty");
    let file = folder.write("empty.onnx", "");
    refused(&format!("model-file={file}"), &["model-file", &file, "empty", "download it again, or export it"]);
}

#[test]
fn a_model_that_git_lfs_has_not_fetched() {
    let folder = Folder::new("lfs");
    let file = folder.write("model.onnx", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    refused(&format!("model-file={file}"), &["model-file", &file, "Git LFS pointer", "git lfs pull"]);
}

#[test]
fn a_text_file_as_model() {
    let folder = Folder::new("text");
    let file = folder.write("notes.onnx", "This is not a model, but a text about one.\n".repeat(20));
    refused(&format!("model-file={file}"), &["model-file", &file, "not an ONNX model", "860 bytes"]);
}

#[test]
fn a_truncated_model() {
    let folder = Folder::new("truncated");
    let whole = std::fs::read(model("size-multiple-16")).unwrap();
    for (k, part) in [1, 10, 50, 90, 99].into_iter().enumerate() {
        let file = folder.write(&format!("part{k}.onnx"), &whole[..whole.len() * part / 100]);
        refused(&format!("model-file={file}"), &["model-file", &file, "not an ONNX model", "truncated"]);
    }
}

/// A file that parses, but that ONNX Runtime refuses: the operator is unknown.
#[test]
fn a_model_that_onnx_runtime_refuses() {
    let folder = Folder::new("operator");
    let mut bytes = std::fs::read(model("sigmoid")).unwrap();
    for at in 0..bytes.len() - 7 {
        if &bytes[at..at + 7] == b"Sigmoid" {
            bytes[at..at + 7].copy_from_slice(b"Sigmoit");
        }
    }
    let file = folder.write("operator.onnx", bytes);
    refused(&format!("model-file={file}"), &["model-file", &file, "ONNX Runtime", "Sigmoit"]);
}

#[test]
fn a_glob_that_matches_nothing() {
    let folder = Folder::new("glob");
    let pattern = folder.path("fold*.onnx");
    let text = refused(&format!("model-file=\"{pattern}\""), &["model-file", &pattern, "matches no file"]);
    assert!(text.contains(folder.0.to_str().unwrap()), "{text}");
}

#[test]
fn a_glob_that_is_none() {
    let text = "models/[fold.onnx";
    refused(&format!("model-file=\"{text}\""), &["model-file", text, "glob"]);
}

#[test]
fn no_model_at_all() {
    refused("", &["model-file", "no model is named", "config-file"]);
}

// ---- what models are

#[test]
fn a_model_whose_input_has_the_wrong_rank() {
    refused(&format!("model-file={}", model("rank3")), &["model-file", "rank3.onnx", "`image`", "rank 3", "rank 4"]);
}

#[test]
fn a_classifier() {
    refused(
        &format!("model-file={}", model("scalar-out")),
        &["model-file", "scalar-out.onnx", "`scores`", "rank 2", "rank 4"],
    );
}

#[test]
fn a_model_with_32_bit_integer_input() {
    refused(
        &format!("model-file={}", model("int32-in")),
        &["model-file", "int32-in.onnx", "int32", "float32, float16 or uint8"],
    );
}

#[test]
fn a_model_whose_output_is_no_fraction_of_its_input() {
    refused(
        &format!("model-file={}", model("odd-ratio")),
        &["model-file", "odd-ratio.onnx", "`scores`", "height 512", "width 1024", "510", "1022", "expected the same"],
    );
}

#[test]
fn an_activation_that_cannot_be_known() {
    refused(
        &format!("model-file={}", model("logit1")),
        &["model-file", "logit1.onnx", "activation", "Conv", "sigmoid", "softmax", "none", "log-softmax"],
    );
}

#[test]
fn an_output_that_there_is_not() {
    for name in ["mask", "2"] {
        refused(
            &format!("model-file={} output-name={name}", model("multi")),
            &["model-file", "multi.onnx", &format!("output-name={name}"), "aux, main"],
        );
    }
}

#[test]
fn outputs_of_nan_and_infinity_name_the_model() {
    for (name, what) in [("nan", "NaN"), ("inf", "infinite")] {
        let text = refused(
            &format!("model-file={}", model(name)),
            &["model-file", &format!("{name}.onnx"), "`scores`", what, "scale"],
        );
        assert!(!text.contains("logit1"), "{text}");
    }
    // Among others, and seen through transforms.
    let files = format!("{},{}", model("sigmoid"), model("nan"));
    refused(&format!("model-file={files} tta=d4 threads=2"), &["nan.onnx", "NaN"]);
}

/// The frames before the one that fails are written whole, and nothing after them.
#[test]
fn a_model_that_fails_later_leaves_whole_masks_only() {
    let folder = Folder::new("later");
    let outcome = play(launch(&format!(
        "videotestsrc pattern=black num-buffers=2 ! video/x-raw,format=RGB,width=64,height=64,framerate=25/1 ! c. \
             videotestsrc pattern=white num-buffers=2 ! video/x-raw,format=RGB,width=64,height=64,framerate=25/1 ! c. \
             concat name=c ! onnxsegment model-file={} ! pngenc ! multifilesink location={}",
        model("nan"),
        folder.path("mask-%d.png")
    )));
    one_error(&outcome, &["nan.onnx", "NaN"]);
    let mut names: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|f| f.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["mask-0.png", "mask-1.png"]);
    for name in names {
        let bytes = std::fs::read(folder.0.join(name)).unwrap();
        assert_eq!(&bytes[bytes.len() - 8..bytes.len() - 4], b"IEND");
    }
}

// ---- frames

#[test]
fn the_wrong_number_of_channels_for_the_caps() {
    let outcome = frames("video/x-raw,format=RGB,width=64,height=64", &format!("model-file={}", model("gray")));
    one_error(&outcome, &["model-file", "gray.onnx", "1 channel", "3", "videoconvert ! video/x-raw,format=GRAY8"]);
    let outcome = frames("video/x-raw,format=GRAY8,width=64,height=64", &format!("model-file={}", model("sigmoid")));
    one_error(&outcome, &["model-file", "sigmoid.onnx", "3 channels", "1", "videoconvert"]);
    let outcome = frames("video/x-raw,format=RGB,width=64,height=64", &format!("model-file={}", model("five")));
    one_error(&outcome, &["model-file", "five.onnx", "5 channels", "3"]);
    let outcome = frames("video/x-raw,format=RGB,width=64,height=64", &format!("model-file={}", model("rgba")));
    one_error(&outcome, &["model-file", "rgba.onnx", "4 channels", "3", "RGBA"]);
}

#[test]
fn a_fixed_size_model_with_another_size() {
    let outcome = frames("video/x-raw,format=RGB,width=100,height=80", &format!("model-file={}", model("fixed64")));
    one_error(&outcome, &["model-file", "fixed64.onnx", "64x64", "100x80", "videoscale", "tilesplit"]);
}

/// The element names its size, so that a scaler adapts by itself.
#[test]
fn a_fixed_size_model_behind_videoscale_is_fine() {
    let outcome = play(launch(&format!(
        "videotestsrc num-buffers=3 ! video/x-raw,width=100,height=80 ! videoconvert ! videoscale \
         ! onnxsegment model-file={} ! fakesink",
        model("fixed64")
    )));
    assert!(outcome.ended && outcome.errors.is_empty(), "{outcome:#?}");
}

#[test]
fn sixteen_bits_without_a_scale() {
    for format in ["GRAY16_LE", "GRAY16_BE"] {
        let outcome = frames(
            &format!("video/x-raw,format={format},width=64,height=64"),
            &format!("model-file={}", model("gray")),
        );
        one_error(&outcome, &["model-file", "gray.onnx", "16-bit", "scale", "input-range"]);
    }
    let caps = "video/x-raw,format=GRAY16_LE,width=64,height=64";
    let outcome = frames(caps, &format!("model-file={} scale=65535", model("gray")));
    assert!(outcome.ended && outcome.errors.is_empty(), "{outcome:#?}");
}

/// One buffer of some bytes, whatever the caps say, into the element.
fn pushed(size: &str, properties: &str, bytes: usize) -> Outcome {
    let pipeline =
        launch(&format!("appsrc name=a ! onnxsegment model-file={} {properties} ! fakesink", model("sigmoid")));
    let source: gst_app::AppSrc = pipeline.by_name("a").unwrap().downcast().unwrap();
    source.set_caps(Some(&format!("video/x-raw,format=RGB,{size},framerate=25/1").parse().unwrap()));
    source.set_format(gst::Format::Time);
    source.push_buffer(gst::Buffer::with_size(bytes).unwrap()).unwrap();
    source.end_of_stream().unwrap();
    drop(source);
    play(pipeline)
}

#[test]
fn a_frame_larger_than_memory() {
    // Only its caps are ever made. A batch of 1024 such frames is more than any machine has.
    let outcome = pushed("width=30000,height=30000", "batch-size=1024", 16);
    one_error(&outcome, &["30000x30000", "GiB", "are free", "scale it down", "smaller frames", "tilesplit"]);
    // GStreamer itself refuses frames of some gigabytes.
    let outcome = pushed("width=60000,height=60000", "", 16);
    one_error(&outcome, &["60000", "no frame that GStreamer can hold", "scale it down"]);
}

#[test]
fn a_buffer_that_is_too_short_for_its_caps() {
    one_error(&pushed("width=64,height=64", "", 100), &["100 bytes", "width=(int)64", "caps"]);
}

/// A U-Net that needs a multiple of 16: the frame of 50 x 50 fails in ONNX Runtime.
#[test]
fn a_size_multiple_that_is_too_small() {
    let outcome = frames(
        "video/x-raw,format=RGB,width=50,height=50",
        &format!("model-file={} size-multiple=1", model("size-multiple-16")),
    );
    one_error(&outcome, &["model-file", "size-multiple-16.onnx", "50x50", "larger multiple than 1", "size-multiple"]);
}

#[test]
fn a_label_that_is_no_class() {
    let folder = Folder::new("two-names");
    let names = folder.write("two.txt", "ground\nroof\n");
    let pipeline = format!(
        "videotestsrc num-buffers=3 ! video/x-raw,format=RGB,width=64,height=64 \
         ! onnxsegment model-file={} labels-file={names} ! fakesink",
        model("label-i64")
    );
    bad(&pipeline, &["model-file", "label-i64.onnx", "label", "no class", "labels-file"]);
}

// ---- members that do not fit together

#[test]
fn fixed_sizes_that_disagree_name_both_files() {
    let files = format!("{},{}", model("fixed64"), model("fixed-48x80"));
    refused(
        &format!("model-file={files}"),
        &["model-file", "fixed64.onnx", "fixed-48x80.onnx", "64x64", "80x48", "width x height", "dynamic"],
    );
}

#[test]
fn a_fixed_size_that_is_not_square_refuses_rotations_by_name() {
    refused(
        &format!("model-file={} tta=hflip,rot90,transpose", model("fixed-48x80")),
        &["tta", "rot90,transpose", "fixed-48x80.onnx", "80x48", "flips"],
    );
}

#[test]
fn classes_that_disagree_name_both_files() {
    let files = format!("{},{}", model("softmax2"), model("softmax4"));
    refused(&format!("model-file={files}"), &["model-file", "softmax2.onnx", "softmax4.onnx", "2 and 4", "classes"]);
    let files = format!("{},{}", model("sigmoid"), model("label-i64"));
    refused(&format!("model-file={files}"), &["model-file", "sigmoid.onnx", "label-i64.onnx", "2 and 4", "classes"]);
}

#[test]
fn labels_have_no_logits() {
    refused(
        &format!("model-file={} merge-domain=logit", model("label-i64")),
        &["merge-domain", "label-i64.onnx", "probability"],
    );
}

#[test]
fn sigmoid_and_softmax_logits_do_not_mix() {
    let files = format!("{},{}", model("logits2-meta-sigmoid"), model("softmax2"));
    refused(
        &format!("model-file={files} merge-domain=logit"),
        &["merge-domain", "logits2-meta-sigmoid.onnx", "softmax2.onnx", "sigmoid and softmax", "probability"],
    );
}

#[test]
fn metadata_that_names_different_thresholds() {
    let folder = Folder::new("thresholds");
    let a = folder.write("a.onnx", with_metadata("sigmoid", &[("seg_thresh", "0.4")]));
    let b = folder.write("b.onnx", with_metadata("sigmoid", &[("seg_thresh", "0.6")]));
    refused(&format!("model-file={a},{b}"), &["model-file", &a, &b, "0.4 and 0.6", "set threshold"]);
    let outcome = frames("video/x-raw,format=RGB,width=64,height=64", &format!("model-file={a},{b} threshold=0.5"));
    assert!(outcome.ended && outcome.errors.is_empty(), "{outcome:#?}");
}

#[test]
fn metadata_that_names_different_classes() {
    let folder = Folder::new("names");
    let a = folder.write("a.onnx", with_metadata("sigmoid", &[("class_names", r#"["ground","roof"]"#)]));
    let b = folder.write("b.onnx", with_metadata("sigmoid", &[("class_names", r#"["land","water"]"#)]));
    refused(&format!("model-file={a},{b}"), &["model-file", &a, &b, "ground,roof", "land,water", "labels-file"]);
}

// ---- metadata

/// Bytes of a model with more metadata: `metadata_props` is field 14 of ModelProto, and fields may follow in any order.
fn with_metadata(name: &str, pairs: &[(&str, &str)]) -> Vec<u8> {
    fn field(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
        bytes.push(tag << 3 | 2);
        let mut length = value.len();
        while length > 127 {
            bytes.push(length as u8 | 128);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(value);
    }
    let mut bytes = std::fs::read(model(name)).unwrap();
    for (key, value) in pairs {
        let mut entry = Vec::new();
        field(&mut entry, 1, key.as_bytes());
        field(&mut entry, 2, value.as_bytes());
        field(&mut bytes, 14, &entry);
    }
    bytes
}

#[test]
fn metadata_that_cannot_be_used() {
    let folder = Folder::new("metadata");
    let cases = [
        ("standardization_mean", "[0.4, 0.5", "list of numbers"),
        ("standardization_mean", r#"["a","b","c"]"#, "list of numbers"),
        ("standardization_mean", "[1e300, 0, 0]", "list of numbers"),
        ("standardization_std", "[0.2, 0, 0.2]", "greater than 0"),
        ("standardization_std", "{}", "list of numbers"),
        ("class_names", r#"{"zero":"a"}"#, "list of names"),
        ("class_names", r#"{"0":"a","2":"b"}"#, "every class from"),
        ("class_names", "[1,2]", "list of names"),
        ("class_names", "{'0': 'a'", "list of names"),
        ("seg_thresh", "high", "number from 0 to 1"),
        ("seg_thresh", "60", "number from 0 to 1"),
        ("activation", "[1]", "sigmoid"),
        ("activation", "\"tanh\"", "sigmoid, softmax"),
        ("size_multiple", "-3", "whole number from 1 to 4096"),
        ("size_multiple", "1e12", "whole number from 1 to 4096"),
        ("size_multiple", "32.5", "whole number from 1 to 4096"),
        ("input_range", "[255, 0]", "lo < hi"),
        ("input_range", "[0]", "lo < hi"),
    ];
    for (k, (key, value, expected)) in cases.into_iter().enumerate() {
        let file = folder.write(&format!("{k}.onnx"), with_metadata("sigmoid", &[(key, value)]));
        refused(&format!("model-file={file}"), &["model-file", &file, "metadata", key, value, expected]);
    }
}

/// A property outranks metadata, also metadata that cannot be read.
#[test]
fn a_property_replaces_unusable_metadata() {
    let folder = Folder::new("replace");
    let broken = [
        ("standardization_mean", "?"),
        ("standardization_std", "?"),
        ("activation", "tanh"),
        ("size_multiple", "?"),
        ("input_range", "?"),
    ];
    let file = folder.write("broken.onnx", with_metadata("sigmoid", &broken));
    let properties = format!("model-file={file} mean=0 std=1 activation=none size-multiple=32 input-range=0,255");
    let outcome = frames("video/x-raw,format=RGB,width=64,height=64", &properties);
    assert!(outcome.ended && outcome.errors.is_empty(), "{outcome:#?}");
}

#[test]
fn metadata_names_of_the_wrong_number() {
    let folder = Folder::new("wrong-names");
    let file = folder.write("a.onnx", with_metadata("softmax4", &[("class_names", r#"["a","b","c"]"#)]));
    refused(&format!("model-file={file}"), &["class_names", &file, "a,b,c", "3 names for 4 classes", "labels-file"]);
}

// ---- properties

#[test]
fn unknown_names_list_the_known_ones() {
    let file = model("sigmoid");
    refused(
        &format!("model-file={file} tta=flips,mirror"),
        &["tta=flips,mirror", "mirror", "none", "hflip", "flip3", "flips", "d4", "antitranspose"],
    );
    refused(
        &format!("model-file={file} execution-provider=cpu,rocm"),
        &["execution-provider", "rocm", "cpu, cuda, tensorrt"],
    );
    refused(
        &format!("model-file={file} activation=relu"),
        &["activation", "relu", "none, sigmoid, softmax, log-softmax"],
    );
}

#[test]
fn weights() {
    let files = format!("{},{}", model("sigmoid"), model("logit1-meta"));
    for (weights, words) in [
        ("1", &["1 value for 2 models", "sigmoid.onnx", "logit1-meta.onnx", "one per model"][..]),
        ("1,2,3", &["3 values for 2 models", "one per model"]),
        ("1,-2", &["0 or more"]),
        ("0,0", &["sum to zero", "greater than 0"]),
        ("1,heavy", &["heavy", "numbers"]),
        ("1,nan", &["finite"]),
        ("3e38,3e38", &["too large"]),
    ] {
        let words: Vec<_> = ["weights="].iter().chain(words).copied().collect();
        refused(&format!("model-file={files} weights={weights}"), &words);
    }
}

#[test]
fn merges_that_make_no_sense() {
    let file = model("sigmoid");
    for (merge, why) in
        [("gmean", "logarithms"), ("hmean", "divides"), ("tsharpen", "roots"), ("vote", "counts labels")]
    {
        let words = [&format!("merge={merge}: "), why, "merge-domain=probability", "merge=mean|max|min"];
        refused(&format!("model-file={file} merge={merge} merge-domain=logit"), &words);
    }
    let files = format!("{file},{}", model("logit1-meta"));
    for merge in ["max", "min"] {
        let words = [&format!("merge={merge}: "), "every pass alike", "1 and 2", "mean|gmean|hmean|tsharpen|vote"];
        refused(&format!("model-file={files} merge={merge} weights=1,2"), &words);
    }
    for merge in ["gmean", "hmean", "max", "min", "tsharpen"] {
        let words = [&format!("merge={merge}: "), "label-i64.onnx gives labels", "merge=mean|vote"];
        refused(&format!("model-file={} merge={merge}", model("label-i64")), &words);
    }
}

#[test]
fn samples_of_models_that_have_none() {
    init();
    let sampled = |name: &str, words: &[&str]| {
        refused(&format!("model-file={} samples=4", model(name)), &[&["model-file=", name], words].concat());
    };
    sampled("sigmoid", &["has no Dropout", "every sample would be the same", "training mode", "samples=1"]);
    sampled("dropout-in-use", &["has 2 Dropout", "none that is active", "training mode"]);
    sampled("dropout-computed", &["computes the ratio", "export it with a constant one"]);
    sampled("dropout-branch", &["in functions or in graphs within nodes", "inlined"]);
    // One among several.
    let both = [model("dropout"), model("sigmoid")].join(",");
    refused(&format!("model-file=\"{both}\" samples=4"), &["sigmoid.onnx", "has no Dropout"]);
    let words = ["skip-constant=true", "samples", "two equal frames differ"];
    refused(&format!("model-file={} samples=4 skip-constant=true", model("dropout")), &words);
    let folder = Folder::new("samples");
    let config = folder.write("c.toml", "samples = 2000\n");
    refused(&format!("model-file={} config-file={config}", model("dropout")), &["samples=2000", "from 1 to 1024"]);
}

#[test]
fn stackers_that_do_not_fit() {
    init();
    let two = format!("{},{}", model("sigmoid"), model("logit1"));
    let with = |stacker: &str, more: &str, words: &[&str]| {
        let stacker = if stacker.contains('/') { stacker.to_string() } else { model(stacker) };
        let all = [&["stacker=", stacker.rsplit('/').next().unwrap()], words].concat();
        refused(&format!("model-file=\"{two}\" activation=none,sigmoid stacker={stacker} {more}"), &all);
    };
    with("/nowhere/meta.onnx", "", &["cannot be read", "check the path"]);
    with("stack2", "", &["takes 6 channels", "2 models of 1 channels give 2", "train_stacker.py"]);
    with("gray", "", &["takes 1 channels", "give 2"]);
    with("stack1", "merge=gmean", &["takes the place of a merge", "merge=gmean"]);
    with("stack1", "merge-domain=logit", &["takes the place of a merge", "merge-domain=logit"]);
    with("stack1", "weights=1,2", &["weighs the models itself"]);
    with("stack1", "cascade=confident", &["needs every pass", "cascade=confident"]);
    let folder = Folder::new("stackers");
    with(&folder.write("text.onnx", "no model"), "", &["is not an ONNX model"]);
    // Two channels of colour and alpha to two classes, where one is wanted; labels; a half-size output.
    let three = [model("sigmoid"), model("sigmoid"), model("sigmoid")].join(",");
    let refuse = |stacker: &str, words: &[&str]| {
        refused(&format!("model-file=\"{three}\" stacker={}", model(stacker)), &[&["stacker="], words].concat());
    };
    refuse("softmax4", &["gives 4 channels", "expected 1 channels"]);
    refuse("label-i64", &["gives labels", "export it with scores"]);
    refuse("quarter", &["4 times smaller", "of the size of its input"]);
    refuse("u8", &["other numbers than float32"]);
    refuse("fixed-48x80", &["takes frames of 80x48", "the frame is 64x64"]);
}

#[test]
fn cascades_that_make_no_sense() {
    init();
    let file = model("sigmoid");
    for (settings, why) in [
        ("cascade=exact merge=max", "one more pass"),
        ("cascade=exact merge=gmean", "one more pass"),
        ("cascade=exact merge-domain=logit", "no bounds"),
    ] {
        let words = ["cascade=exact: ", why, "merge=vote merge-domain=probability", "cascade=none"];
        refused(&format!("model-file={file} {settings}"), &words);
    }
    let words = ["cascade=confident: ", "unanimous", "merge=mean merge-domain=logit"];
    refused(&format!("model-file={file} cascade=confident merge=vote"), &words);
    let words = ["cascade=exact: ", "labels without naming them", "labels-file"];
    refused(&format!("model-file={} cascade=exact", model("label-i64-bare")), &words);
    // Numbers that are no probabilities, although they are said to be.
    let words = ["model-file=", "cascade=exact", "from 0 to 1", "activation"];
    refused(&format!("model-file={} activation=none cascade=exact tta=hflip", model("logit1")), &words);
    let folder = Folder::new("cascade-settings");
    for (line, words) in [
        ("cascade = \"fast\"", ["cascade=fast", "none, exact, confident"]),
        ("cascade-margin = 0.7", ["cascade-margin=0.7", "from 0 to 0.5"]),
        ("cascade-limit = -1", ["cascade-limit=-1", "from 0 to 1"]),
        ("skip-constant = 3", ["skip-constant=3", "true or false"]),
    ] {
        let config = folder.write("c.toml", line);
        refused(&format!("model-file={file} config-file={config}"), &words);
    }
}

#[test]
fn thresholds_per_class() {
    let file = model("softmax4");
    for (settings, words) in [
        ("class-thresholds=0.5,0.5", &["class-thresholds=0.5,0.5", "2 values for 4 classes", "one per class"][..]),
        ("class-thresholds=0.5,0.5,2,0", &["class-thresholds=0.5,0.5,2,0", "0 to 1"]),
        ("class-thresholds=0,0,0,0 threshold=0.5", &["class-thresholds=0,0,0,0", "threshold=0.5", "exclude"]),
    ] {
        refused(&format!("model-file={file} {settings}"), words);
    }
}

#[test]
fn temperatures() {
    let files = format!("{},{}", model("sigmoid"), model("logit1-meta"));
    for (temperature, words) in [
        ("1,2,3", &["3 values for 2 models", "one for all, or one per model"][..]),
        ("0", &["temperature=0", "greater than 0"]),
        ("1,-2", &["greater than 0"]),
        ("warm", &["warm"]),
    ] {
        refused(&format!("model-file={files} temperature={temperature}"), words);
    }
    let words = ["temperature=2: ", "label-i64.onnx gives labels"];
    refused(&format!("model-file={} temperature=2", model("label-i64")), &words);
}

#[test]
fn an_activation_list_of_the_wrong_length() {
    let files = format!("{},{}", model("logit1"), model("logit1-meta"));
    refused(
        &format!("model-file={files} activation=sigmoid,sigmoid,none"),
        &["activation=sigmoid,sigmoid,none", "3 values for 2 models", "logit1.onnx", "one for all, or one per model"],
    );
}

#[test]
fn mask_values() {
    let file = model("sigmoid");
    refused(&format!("model-file={file} mask-values=0,1,2"), &["mask-values=0,1,2", "3 values for 2 classes"]);
    refused(&format!("model-file={file} mask-values=0,70000"), &["mask-values=0,70000", "70000", "65535"]);
    refused(&format!("model-file={file} mask-values=0,-1"), &["mask-values=0,-1", "-1", "65535"]);
    refused(
        &format!("model-file={file} mask-values=0,255 label-offset=1"),
        &["mask-values=0,255", "label-offset=1", "exclude"],
    );
    refused(&format!("model-file={file} label-offset=65534"), &["label-offset=65534", "65535"]);
}

/// Values that 8 bits cannot hold: a peer that takes only GRAY8 gets an error that says which format to ask for.
#[test]
fn mask_values_that_8_bits_cannot_hold() {
    bad(
        &format!(
            "videotestsrc num-buffers=3 ! video/x-raw,format=RGB,width=64,height=64 \
             ! onnxsegment model-file={} mask-values=0,1000 ! video/x-raw,format=GRAY8 ! fakesink",
            model("sigmoid")
        ),
        &["src", "GRAY16_LE"],
    );
}

#[test]
fn labels_files() {
    let folder = Folder::new("labels");
    let file = model("softmax4");
    refused(
        &format!("model-file={file} labels-file=/nonexistent/labels.txt"),
        &["labels-file", "/nonexistent/labels.txt", "No such file"],
    );
    let empty = folder.write("empty.txt", "\n\n");
    refused(
        &format!("model-file={file} labels-file={empty}"),
        &["labels-file", &empty, "empty", "one class name per line"],
    );
    let three = folder.write("three.txt", "a\nb\nc\n");
    refused(
        &format!("model-file={file} labels-file={three}"),
        &["labels-file", &three, "a,b,c", "3 names for 4 classes"],
    );
    let latin = folder.write("latin1.txt", b"stra\xdfe\n");
    refused(&format!("model-file={file} labels-file={latin}"), &["labels-file", &latin, "UTF-8"]);
}

#[test]
fn a_class_that_there_is_not() {
    refused(&format!("model-file={} class-index=4", model("softmax4")), &["class-index=4", "4 classes", "0 to 3"]);
    refused(&format!("model-file={} class-index=2", model("sigmoid")), &["class-index=2", "2 classes", "0 to 1"]);
}

#[test]
fn a_palette_that_cannot_be_read() {
    for palette in ["red,blue", "#ff00", "#gg0000", "none,#ff404"] {
        refused(
            &format!("model-file={} palette=\"{palette}\"", model("sigmoid")),
            &["palette=", palette, "#ff4040", "none"],
        );
    }
}

#[test]
fn scaling() {
    let file = model("sigmoid");
    for name in ["mean", "std"] {
        refused(
            &format!("model-file={file} {name}=0.5,0.5"),
            &[&format!("{name}=0.5,0.5"), "2 values", "3 channels", "sigmoid.onnx", "one per channel"],
        );
        refused(&format!("model-file={file} {name}=0.5,much,1"), &[&format!("{name}=0.5,much,1"), "much", "numbers"]);
        refused(&format!("model-file={file} {name}=inf"), &[&format!("{name}=inf"), "finite"]);
    }
    refused(&format!("model-file={file} std=0.2,0,0.2"), &["std=0.2,0,0.2", "greater than 0"]);
    refused(&format!("model-file={file} std=-1"), &["std=-1", "greater than 0"]);
    for range in ["255,0", "1,1", "5", "1,2,3", "0,nan", "a,b"] {
        refused(&format!("model-file={file} input-range={range}"), &[&format!("input-range={range}"), "lo,hi"]);
    }
    refused(&format!("model-file={file} scale=255 input-range=0,255"), &["scale=255", "input-range=0,255", "exclude"]);
}

#[test]
fn a_threshold_below_zero() {
    refused(&format!("model-file={} threshold=-0.5", model("sigmoid")), &["threshold=-0.5", "0 to 1"]);
}

// ---- the configuration file

#[test]
fn configuration_files() {
    let folder = Folder::new("config");
    refused("config-file=/nonexistent/ensemble.toml", &["config-file", "/nonexistent/ensemble.toml", "No such file"]);
    let file = model("sigmoid");
    let cases: &[(&str, String, &[&str])] = &[
        ("toml", "model-file = ".into(), &["TOML", "line 1"]),
        ("key", format!("model-file = '{file}'\nthresold = 0.5"), &["thresold", "no such setting", "threshold"]),
        ("element-key", format!("model-file = '{file}'\noverlay-alpha = 0.5"), &["overlay-alpha", "no such setting"]),
        (
            "member-key",
            format!("[[member]]\nmodel-file = '{file}'\ntta = 'd4'"),
            &["[[member]] 1: tta=d4", "no such setting", "activation", "weight"],
        ),
        (
            "both",
            format!("model-file = '{file}'\n[[member]]\nmodel-file = '{file}'"),
            &["model-file", "[[member]]", "one of the two"],
        ),
        ("no-model", "tta = 'd4'".into(), &["model-file", "no model is named"]),
        ("member-no-model", "[[member]]\nweight = 2".into(), &["[[member]] 1: model-file", "is missing"]),
        (
            "member-glob",
            format!("[[member]]\nmodel-file = '{}'", model("softmax*")),
            &["[[member]] 1: model-file", "2 files", "one model"],
        ),
        ("member-weight", format!("[[member]]\nmodel-file = '{file}'\nweight = 'much'"), &["weight", "much"]),
        ("member-negative", format!("[[member]]\nmodel-file = '{file}'\nweight = -1"), &["weight=-1", "0 or more"]),
        (
            "member-missing",
            "[[member]]\nmodel-file = 'beside.onnx'".into(),
            &["model-file", "beside.onnx", "No such file"],
        ),
        (
            "member-activation",
            format!("[[member]]\nmodel-file = '{file}'\nactivation = 'tanh'"),
            &["activation", "tanh", "sigmoid"],
        ),
        ("not-array", format!("[member]\nmodel-file = '{file}'"), &["member", "[[member]]"]),
        ("empty-activation", format!("model-file = '{file}'\nactivation = ''"), &["activation"]),
        (
            "type",
            format!("model-file = '{file}'\nthreshold = 1979-05-27"),
            &["threshold", "1979-05-27", "text, a number"],
        ),
        ("table", format!("model-file = '{file}'\n[threshold]\na = 1"), &["threshold", "text, a number"]),
        ("merge", format!("model-file = '{file}'\nmerge = 'median'"), &["merge", "median", "mean"]),
        ("multiple", format!("model-file = '{file}'\nsize-multiple = 0"), &["size-multiple", "1 to 4096"]),
        ("batch", format!("model-file = '{file}'\nbatch-size = 0"), &["batch-size", "1 or more"]),
        ("threshold", format!("model-file = '{file}'\nthreshold = 50"), &["threshold=50", "0 to 1"]),
        ("cuda", format!("model-file = '{file}'\n[cuda]\ntf16 = true"), &["[cuda]", "tf16", "tf32"]),
        ("tensorrt", format!("model-file = '{file}'\n[tensorrt]\nfp16 = 'yes'"), &["[tensorrt]", "fp16", "boolean"]),
        ("device", format!("model-file = '{file}'\ndevice-id = -1"), &["device-id", "-1", "0 or more"]),
        (
            "provider",
            format!("model-file = '{file}'\nexecution-provider = []"),
            &["execution-provider", "cpu, cuda, tensorrt"],
        ),
    ];
    for (name, text, words) in cases {
        let config = folder.write(&format!("{name}.toml"), text);
        let text = refused(&format!("config-file={config}"), words);
        // A file beside the configuration is named by its own path, everything else by the configuration's.
        let from_config = !["no-model", "member-missing"].contains(name);
        assert!(!from_config || (text.contains("config-file") && text.contains(&config)), "{text}");
    }
    let not_text = folder.write("not-text.toml", [0xff, 0xfe, 0]);
    refused(&format!("config-file={not_text}"), &["config-file", &not_text, "UTF-8"]);
}

// ---- execution providers

/// No machine has this many GPUs, so that these hold on one that has some.
const NO_DEVICE: &str = "device-id=63";

#[test]
fn a_demanded_provider_that_is_not_to_be_had() {
    refused(
        &format!("model-file={} execution-provider=cuda provider-policy=strict {NO_DEVICE}", model("sigmoid")),
        &["execution-provider=cuda", "provider-policy=strict", "cuda", "make setup ORT=gpu", "cpu"],
    );
}

#[test]
fn a_fallback_is_one_warning() {
    let files = format!("{},{}", model("sigmoid"), model("logit1-meta"));
    let properties = format!("model-file={files} execution-provider=cuda,cpu {NO_DEVICE}");
    let outcome = frames("video/x-raw,format=RGB,width=64,height=64", &properties);
    assert!(outcome.ended && outcome.errors.is_empty(), "{outcome:#?}");
    assert_eq!(outcome.provider.as_deref(), Some("cpu"));
    let [warning] = &outcome.warnings[..] else {
        panic!("{outcome:#?}");
    };
    println!("\n{}", warning.text);
    for word in ["execution-provider=cuda,cpu", "running on cpu instead", "make setup ORT=gpu"] {
        assert!(warning.text.contains(word), "{word} is not in: {warning:?}");
    }
}

/// An activation that the graph holds already is a warning, as a user may mean it.
#[test]
fn an_activation_applied_twice_is_a_warning() {
    let properties = format!("model-file={} activation=sigmoid", model("sigmoid"));
    let outcome = frames("video/x-raw,format=RGB,width=64,height=64", &properties);
    assert!(outcome.ended && outcome.errors.is_empty(), "{outcome:#?}");
    assert_eq!(outcome.warnings.len(), 1, "{outcome:#?}");
    let text = &outcome.warnings[0].text;
    assert!(text.contains("activation=sigmoid") && text.contains("sigmoid.onnx") && text.contains("already"), "{text}");
}

// ---- without ONNX Runtime, in processes of their own

/// The plugin as `make build` has made it, whatever profile the tests have.
fn plugin() -> PathBuf {
    let profile = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
    let places = [profile.parent().unwrap().join("release"), profile];
    let file = places.iter().map(|p| p.join("libgstonnxsegment.so")).find(|f| f.exists());
    file.expect("no libgstonnxsegment.so; run `make build`, or `make test` for both")
}

/// A command for which no ONNX Runtime is installed, except where a system's own folders hold one.
fn without_runtime(program: impl AsRef<OsStr>, folder: &Folder) -> Command {
    let mut command = Command::new(program);
    command
        .env("HOME", folder.0.join("home"))
        .env("XDG_DATA_HOME", folder.0.join("data"))
        .env("GST_PLUGIN_PATH", plugin().parent().unwrap())
        .env("GST_REGISTRY", folder.0.join("registry.bin"))
        .env("G_DEBUG", "fatal_warnings")
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("ORT_DYLIB_PATH");
    command
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("GStreamer's tools are installed");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// Not a test of its own: what the next test runs in a process without ONNX Runtime, `WORDS` being what it must say.
#[test]
#[ignore = "run by without_onnx_runtime_it_says_where_to_get_it"]
fn child_without_onnx_runtime() {
    let words = std::env::var("WORDS").expect("set by the test that runs this one");
    let words: Vec<&str> = words.split('\n').collect();
    refused(&format!("model-file={}", model("sigmoid")), &words);
}

#[test]
fn without_onnx_runtime_it_says_where_to_get_it() {
    let folder = Folder::new("no-runtime");
    let child = |library: Option<&str>, words: &[&str]| {
        let mut command = without_runtime(std::env::current_exe().unwrap(), &folder);
        command
            .args(["--exact", "child_without_onnx_runtime", "--ignored", "--nocapture"])
            .env("WORDS", words.join("\n"));
        if let Some(library) = library {
            command.env("ORT_DYLIB_PATH", library);
        }
        let (success, text) = run(&mut command);
        println!("{text}");
        assert!(success && text.contains("1 passed"), "{text}");
    };
    let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let system = ["/usr/local/lib", &triplet, "/usr/lib64", "/usr/lib", "/opt/onnxruntime/lib"];
    let installed = system
        .iter()
        .flat_map(|folder| std::fs::read_dir(Path::new(folder)).into_iter().flatten().flatten())
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libonnxruntime.so"));
    // A system's own library cannot be hidden from a process.
    if !installed {
        let searched = folder.path("data/onnxsegment/onnxruntime");
        let words =
            [&["ONNX Runtime", "libonnxruntime.so", &searched, "make setup", "ORT_DYLIB_PATH"], &system[..]].concat();
        child(None, &words);
    }
    // A variable that points nowhere is not passed over, nor is one that points to something else.
    let nowhere = folder.path("nowhere/libonnxruntime.so");
    child(Some(&nowhere), &[&format!("ORT_DYLIB_PATH={nowhere}"), "does not exist", "make setup"]);
    let no_library = folder.write("libonnxruntime.so", "no library");
    child(Some(&no_library), &[&no_library, "cannot be used", "ldd", "make setup"]);
}

// ---- what GStreamer's tools show

#[test]
fn the_plugin_loads_without_onnx_runtime() {
    let folder = Folder::new("inspect");
    let (success, text) = run(without_runtime("gst-inspect-1.0", &folder).arg("onnxsegment"));
    assert!(success && text.contains("model-file") && text.contains("SINK template"), "{text}");
}

#[test]
fn gst_launch_shows_the_text_and_fails() {
    let folder = Folder::new("launch");
    let line = "videotestsrc num-buffers=1 ! videoconvert ! onnxsegment model-file=/nonexistent.onnx ! fakesink";
    let (success, text) = run(without_runtime("gst-launch-1.0", &folder).args(line.split(' ')));
    println!("\n{text}");
    assert!(!success && text.contains("/nonexistent.onnx") && text.contains("check the path"), "{text}");
    assert_eq!(text.matches("ERROR: from element").count(), 1, "{text}");
}
