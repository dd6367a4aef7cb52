//! Every property: what is set is got, and has its effect.

use gst::glib;
use gst::prelude::*;

use crate::common::*;

/// Every property that can be set, and a value other than its default.
const SETTABLE: [(&str, &str); 40] = [
    ("model-file", "a.onnx,b*.onnx"),
    ("config-file", "c.toml"),
    ("weights", "1,2"),
    ("tta", "hflip+rot90"),
    ("samples", "20"),
    ("seed", "18446744073709551615"),
    ("merge", "gmean"),
    ("merge-domain", "logit"),
    ("activation", "softmax"),
    ("temperature", "1.5,0.8"),
    ("threshold", "0.25"),
    ("class-thresholds", "0.5,0.3"),
    ("class-index", "3"),
    ("mean", "0.1,0.2,0.3"),
    ("std", "0.5"),
    ("scale", "65535"),
    ("input-range", "0,4000"),
    ("channel-order", "bgr"),
    ("layout", "nhwc"),
    ("output-name", "scores"),
    ("size-multiple", "64"),
    ("label-offset", "7"),
    ("mask-values", "0,255"),
    ("model-card", "card.json"),
    ("labels-file", "names.txt"),
    ("execution-provider", "cuda,cpu"),
    ("provider-policy", "strict"),
    ("device-id", "2"),
    ("optimization-level", "enable-basic"),
    ("threads", "3"),
    ("batch-size", "8"),
    ("batch-timeout", "1000000"),
    ("uncertainty-kind", "mutual-information"),
    ("stacker", "meta.onnx"),
    ("cascade", "confident"),
    ("cascade-margin", "0.125"),
    ("cascade-limit", "0.25"),
    ("cascade-audit", "10"),
    ("skip-constant", "true"),
    ("palette", "none,#ff0000"),
];

fn text(element: &gst::Element, name: &str) -> String {
    let value = element.property_value(name);
    if let Some((_, variant)) = glib::EnumValue::from_value(&value) {
        return variant.nick().to_string();
    }
    if let Ok(yes) = value.get::<bool>() {
        return yes.to_string();
    }
    if let Ok(text) = value.get::<Option<String>>() {
        return text.unwrap_or_default();
    }
    value.transform::<String>().unwrap().get().unwrap()
}

#[test]
fn what_is_set_is_got() {
    let _w = start();
    let element = gst::ElementFactory::make("onnxsegment").build().unwrap();
    for (name, value) in SETTABLE {
        element.set_property_from_str(name, value);
    }
    for (name, value) in SETTABLE {
        let found = text(&element, name);
        assert!(
            found == value || found.parse::<f64>().ok().zip(value.parse::<f64>().ok()).is_some_and(|(a, b)| a == b),
            "{name}: {found}"
        );
    }
    element.set_property("overlay-alpha", 0.125);
    element.set_property("qos", false);
    assert_eq!(element.property::<f64>("overlay-alpha"), 0.125);
    assert!(!element.property::<bool>("qos"));
}

#[test]
fn what_was_set_may_be_unset() {
    let _w = start();
    let element = gst::ElementFactory::make("onnxsegment").build().unwrap();
    let defaults: Vec<_> = SETTABLE.iter().map(|(name, _)| text(&element, name)).collect();
    for (name, value) in SETTABLE {
        element.set_property_from_str(name, value);
        let default = element.find_property(name).unwrap().default_value().clone();
        element.set_property_from_value(name, &default);
    }
    for ((name, _), default) in SETTABLE.iter().zip(defaults) {
        assert_eq!(text(&element, name), default, "{name}");
    }
}

#[test]
fn there_are_no_other_properties_and_each_says_what_it_is() {
    let _w = start();
    let element = gst::ElementFactory::make("onnxsegment").build().unwrap();
    let own =
        element.list_properties().iter().filter(|p| p.owner_type() == element.type_()).cloned().collect::<Vec<_>>();
    let mut names: Vec<_> = own.iter().map(|p| p.name().to_string()).collect();
    let mut expected: Vec<_> = SETTABLE.iter().map(|(name, _)| name.to_string()).collect();
    expected.extend(["overlay-alpha", "qos", "stats", "active-provider", "model-info"].map(String::from));
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
    for property in own {
        assert!(property.blurb().is_some_and(|b| b.len() > 10), "{}", property.name());
    }
}

#[test]
fn the_provider_that_runs_is_told_and_shown() {
    let _w = start();
    let element = element("sigmoid", &[("tta", "flips")]);
    assert_eq!(element.property::<Option<String>>("active-provider"), None);
    assert!(element.property::<Option<gst::Structure>>("model-info").is_none());
    let bus = bus(&element);
    element.set_state(gst::State::Paused).unwrap();
    assert_eq!(element.property::<String>("active-provider"), "cpu");
    let told = message(&bus, "provider", |m| m.structure().is_some_and(|s| s.name() == "onnxsegment-provider"));
    let told = told.structure().unwrap();
    assert_eq!((told.get::<&str>("active-provider"), told.get::<u32>("passes")), (Ok("cpu"), Ok(4)));
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_models_are_described_with_where_each_fact_came_from() {
    let _w = start();
    let element = element("softmax4", &[("mean", "0.5")]);
    element.set_state(gst::State::Paused).unwrap();
    let info = element.property::<gst::Structure>("model-info");
    let model = info.get::<gst::Structure>("model-0").unwrap();
    assert!(model.get::<String>("model-file").unwrap().ends_with("softmax4.onnx"));
    assert_eq!(model.get::<u32>("classes"), Ok(4));
    let facts: Vec<_> = model.iter().filter_map(|(n, v)| Some((n.to_string(), v.get::<String>().ok()?))).collect();
    let mean = facts.iter().find(|(n, _)| n == "mean").unwrap();
    assert!(mean.1.contains("0.5") && mean.1.contains("property"), "{facts:?}");
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_statistics_count_frames_and_passes() {
    let _w = start();
    let element = element("sigmoid", &[("tta", "flip3")]);
    let mut h = fed(&element, "RGB", (40, 32));
    for k in 0..3 {
        h.push_and_pull(picture((40, 32), k)).unwrap();
    }
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!((stats.get::<u64>("received"), stats.get::<u64>("dropped")), (Ok(3), Ok(0)));
    assert_eq!(stats.get::<u64>("frames"), Ok(3));
    assert_eq!(stats.get::<u64>("passes").unwrap() % 3, 0);
    for seconds in ["convert-seconds", "inference-seconds", "merge-seconds"] {
        assert!(stats.get::<f64>(seconds).unwrap() > 0.0, "{seconds}");
    }
}

#[test]
fn offsets_and_values_are_in_the_mask() {
    let _w = start();
    let plain = mask(&engine("softmax4", &[]), (37, 29), 2);
    let masked = |properties: &[(&str, &str)]| {
        let element = element("softmax4", properties);
        let mut h = fed(&element, "RGB", (37, 29));
        let buffer = h.push_and_pull(picture((37, 29), 2)).unwrap();
        pixels(&buffer, &caps_of(&h))
    };
    assert!(masked(&[("label-offset", "5")]) == plain.iter().map(|v| v + 5).collect::<Vec<_>>());
    assert!(
        masked(&[("mask-values", "9,255,0,40")])
            == plain.iter().map(|v| [9, 255, 0, 40][*v as usize]).collect::<Vec<_>>()
    );
}

#[test]
fn the_class_shown_may_change_while_playing() {
    let _w = start();
    let element = element("softmax4", &[]);
    let mut h = harness(&element);
    let mut other = view(&element, "probability");
    h.play();
    h.set_src_caps_str(&caps("RGB", (37, 29)));
    let merged = merged(&engine("softmax4", &[]), (37, 29), 2);
    let mut scores = Vec::new();
    merged.probability_rows(0, 29, &mut scores, &mut Vec::new());
    for class in [1, 3, 0] {
        element.set_property("class-index", class as u32);
        h.push(picture((37, 29), 2)).unwrap();
        let found = pixels(&other.pull().unwrap(), &caps_of(&other));
        let expected: Vec<u8> = scores[class * 37 * 29..][..37 * 29].iter().map(|p| (p * 254.0 + 0.5) as u8).collect();
        assert!(found == expected, "class {class}");
    }
}

#[test]
fn the_overlays_look_may_change_while_playing() {
    let _w = start();
    let element = element("sigmoid", &[("palette", "#000000,#ffffff"), ("overlay-alpha", "1")]);
    let mut h = harness(&element);
    let mut other = view(&element, "overlay");
    h.play();
    h.set_src_caps_str(&caps("RGB", (37, 29)));
    let mut look = |other: &mut gst_check::Harness| {
        h.push(picture((37, 29), 2)).unwrap();
        pixels(&other.pull().unwrap(), &caps_of(other))
    };
    let mask = mask(&engine("sigmoid", &[]), (37, 29), 2);
    assert!(look(&mut other) == mask.iter().flat_map(|v| [*v * 255; 3]).collect::<Vec<_>>());
    element.set_property("palette", "#ffffff,#000000");
    assert!(look(&mut other) == mask.iter().flat_map(|v| [255 - *v * 255; 3]).collect::<Vec<_>>());
    element.set_property("overlay-alpha", 0.0);
    let picture: Vec<u8> = (0..29).flat_map(|y| (0..37).flat_map(move |x| colour(2, x, y))).collect();
    assert!(look(&mut other) == picture);
}

#[test]
fn a_class_that_there_is_not_is_one_error_that_names_the_property() {
    let _w = start();
    let element = element("softmax4", &[("class-index", "4")]);
    let bus = bus(&element);
    assert!(element.set_state(gst::State::Paused).is_err());
    let errors = errors(&bus);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].1.contains("class-index=4") && errors[0].1.contains("0 to 3"), "{errors:?}");
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_configuration_file_stands_in_for_properties_and_properties_win() {
    let _w = start();
    let file = std::env::temp_dir().join(format!("onnxsegment-config-{}.toml", std::process::id()));
    let models = [model("sigmoid"), model("logit1")];
    let text = format!(
        "tta = \"flips\"\nmask-values = [0, 200]\n[[member]]\nmodel-file = {:?}\n[[member]]\nmodel-file = {:?}\nactivation = \"sigmoid\"\nweight = 2.0\n",
        models[0], models[1]
    );
    std::fs::write(&file, text).unwrap();
    let element =
        gst::ElementFactory::make("onnxsegment").property("config-file", file.display().to_string()).build().unwrap();
    let values = |element: &gst::Element| {
        let bus = bus(element);
        let mut h = fed(element, "RGB", (37, 29));
        let buffer = h.push_and_pull(picture((37, 29), 2)).unwrap();
        let told = message(&bus, "provider", |m| m.structure().is_some_and(|s| s.name() == "onnxsegment-provider"));
        let mut values = pixels(&buffer, &caps_of(&h));
        values.sort();
        values.dedup();
        (told.structure().unwrap().get::<u32>("passes").unwrap(), values)
    };
    assert_eq!(values(&element), (8, vec![0, 200]));
    element.set_property("tta", "none");
    element.set_property("mask-values", "3,4");
    assert_eq!(values(&element), (2, vec![3, 4]));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn several_models_by_a_glob_are_merged() {
    let _w = start();
    let pattern = model("member-a").replace("member-a", "member-?");
    let element = gst::ElementFactory::make("onnxsegment").property("model-file", pattern).build().unwrap();
    let mut h = fed(&element, "RGB", (37, 29));
    let info = element.property::<gst::Structure>("model-info");
    assert!(info.has_field("model-2") && !info.has_field("model-3"));
    h.push_and_pull(picture((37, 29), 2)).unwrap();
}
