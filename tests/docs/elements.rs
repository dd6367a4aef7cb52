//! docs/elements/: one page per element, made from what the element registers, so that it tells what is there.

use std::fmt::Write;

use gst::glib;
use gst::prelude::*;

use crate::common::{root, start};

const ELEMENTS: [&str; 7] =
    ["onnxsegment", "rastersrc", "rastersink", "tilesplit", "tilemerge", "maskclean", "maskmetrics"];

/// The pages that explain, by the properties that they explain: element, properties, page and anchor.
const EXPLAINED: &[(&str, &[&str], &str)] = &[
    ("onnxsegment", &["config-file"], "onnxsegment.md#configuration-file"),
    ("onnxsegment", &["tta"], "onnxsegment.md#transforms"),
    ("onnxsegment", &["samples", "seed"], "onnxsegment.md#samples"),
    ("onnxsegment", &["weights", "merge", "merge-domain", "temperature"], "onnxsegment.md#merging"),
    ("onnxsegment", &["activation", "output-name", "layout", "size-multiple"], "onnxsegment.md#what-a-model-is"),
    ("onnxsegment", &["threshold", "class-thresholds", "label-offset", "mask-values"], "onnxsegment.md#decision"),
    (
        "onnxsegment",
        &["execution-provider", "provider-policy", "active-provider"],
        "onnxsegment.md#execution-providers",
    ),
    ("onnxsegment", &["threads", "batch-size", "batch-timeout"], "onnxsegment.md#threads-and-batches"),
    ("onnxsegment", &["qos"], "onnxsegment.md#latency-and-qos"),
    ("onnxsegment", &["uncertainty-kind"], "onnxsegment.md#uncertainty"),
    ("onnxsegment", &["stacker"], "onnxsegment.md#a-second-level"),
    (
        "onnxsegment",
        &["cascade", "cascade-margin", "cascade-limit", "cascade-audit", "skip-constant"],
        "onnxsegment.md#stopping-early",
    ),
    ("rastersrc", &["tile-size", "overlap"], "rastersrc.md#what-comes-out"),
    ("rastersrc", &["nodata", "nodata-fill"], "rastersrc.md#no-data"),
    ("rastersrc", &["cache-size"], "rastersrc.md#reading"),
    ("rastersrc", &["resolution", "grid"], "rastersrc.md#ground-resolution"),
    ("rastersrc", &["shard"], "rastersink.md#parts"),
    ("rastersink", &["resume", "finish", "part-size"], "rastersink.md#parts"),
    ("rastersink", &["location", "probability-location", "uncertainty-location"], "rastersink.md#what-it-writes"),
    ("rastersink", &["blend"], "tiles.md#windows"),
    ("tilemerge", &["blend"], "tiles.md#windows"),
    ("maskclean", &["hole-area", "min-area"], "maskclean.md#properties"),
    ("maskclean", &["shape", "connectivity", "classes", "background"], "maskclean.md#what-happens-to-which-pixel"),
    ("maskmetrics", &["boundary-distance", "block-size", "bootstrap", "min-object-area"], "maskmetrics.md#scores"),
    ("maskmetrics", &["report", "location"], "maskmetrics.md#the-report"),
];

/// The page that explains each element.
fn concepts(element: &str) -> &str {
    match element {
        "tilesplit" | "tilemerge" => "tiles",
        other => other,
    }
}

/// Element messages: element, name of the structure, fields, when it comes. The code has no register of them; a test looks
/// for each name and field in the element's source.
const MESSAGES: &[(&str, &str, &[&str], &str)] = &[
    ("onnxsegment", "onnxsegment-provider", &["active-provider", "passes"], "each time the element goes to PAUSED"),
    (
        "onnxsegment",
        "onnxsegment-passes",
        &["frames", "passes", "passes-saved", "audited-pixels", "labels-changed"],
        "at the end of a stream of which frames could stop early or be skipped",
    ),
    (
        "rastersink",
        "rastersink-progress",
        &["stage", "done", "total"],
        "while the rasters are finished: stage `finishing` in percent, then `finished`; `parts` with `finish=false`",
    ),
    (
        "maskmetrics",
        "GstMaskMetrics",
        &["frames", "tiles", "pixels", "ignored-pixels", "class-names", "class-iou", "skipped-classes", "report"],
        "at the end of the stream, with every score and its interval: see [the report](../maskmetrics.md#the-report)",
    ),
];

#[test]
fn pages_of_elements_are_current() {
    let _watchdog = start();
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    for name in ELEMENTS {
        let file = root().join(format!("docs/elements/{name}.md"));
        let page = page(name);
        if update {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, page).unwrap();
        } else {
            let there = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(there == page, "docs/elements/{name}.md is out of date: run make docs");
        }
    }
}

#[test]
fn every_element_of_the_plugin_has_a_page() {
    let _watchdog = start();
    let factories = gst::Registry::get().features_by_plugin("onnxsegment");
    let mut names: Vec<_> = factories.iter().map(|f| f.name().to_string()).collect();
    names.sort();
    let mut pages = ELEMENTS;
    pages.sort();
    assert_eq!(names, pages);
}

#[test]
fn messages_and_explained_properties_are_there() {
    let _watchdog = start();
    for (element, message, fields, _) in MESSAGES {
        let folder = root().join("src/elements").join(element);
        let source: String = std::fs::read_dir(folder).unwrap().map(|e| crate::read(&e.unwrap().path())).collect();
        for text in fields.iter().chain([message]) {
            assert!(source.contains(&format!("\"{text}\"")), "{element} has no {text}");
        }
    }
    for (element, properties, _) in EXPLAINED {
        let element = gst::ElementFactory::make(element).build().unwrap();
        for property in *properties {
            assert!(element.find_property(property).is_some(), "{element:?} has no property {property}");
        }
    }
}

fn page(name: &str) -> String {
    let element = gst::ElementFactory::make(name).build().unwrap();
    let factory = element.factory().unwrap();
    let data = |key| factory.metadata(key).unwrap_or_default().replace('|', "\\|");
    let mut page = format!(
        "<!-- Made by `make docs` from what the element registers. Change it there. -->\n\n# {name}: reference\n\n{}. \
         [{}.md](../{}.md) explains it.\n\n| | |\n|---|---|\n",
        data("description"),
        concepts(name),
        concepts(name)
    );
    for (key, value) in [
        ("name", data("long-name")),
        ("class", data("klass")),
        ("type", format!("`{}`, a `{}`", element.type_(), element.type_().parent().unwrap())),
        ("rank", if factory.rank() == gst::Rank::NONE { "none".into() } else { format!("{:?}", factory.rank()) }),
    ] {
        writeln!(page, "| {key} | {value} |").unwrap();
    }
    page.push_str("\n## Pads\n");
    let mut templates: Vec<_> = element.pad_template_list().into_iter().collect();
    templates.sort_by_key(|t| {
        (t.direction() != gst::PadDirection::Sink, t.presence() != gst::PadPresence::Always, t.name().to_string())
    });
    for template in templates {
        pad(&mut page, &template);
    }
    properties(&mut page, name, &element);
    others(&mut page, name, &element);
    page
}

fn pad(page: &mut String, template: &gst::PadTemplate) {
    let direction = if template.direction() == gst::PadDirection::Sink { "input" } else { "output" };
    let presence = match template.presence() {
        gst::PadPresence::Always => "always there",
        gst::PadPresence::Sometimes => "there at times",
        _ => "on request",
    };
    writeln!(page, "\n### {}\n\n{direction}, {presence}\n\n```", template.name_template()).unwrap();
    let caps = template.caps();
    for structure in caps.iter() {
        writeln!(page, "{}", structure.name()).unwrap();
        for (field, value) in structure.iter() {
            let value = value.serialize().unwrap().replace("(string)", "").replace("(boolean)", "");
            writeln!(page, "    {field}: {value}").unwrap();
        }
    }
    if caps.is_any() {
        page.push_str("ANY\n");
    }
    page.push_str("```\n");
}

fn properties(page: &mut String, name: &str, element: &gst::Element) {
    let own: Vec<_> = element.list_properties().iter().filter(|p| p.owner_type() == element.type_()).cloned().collect();
    page.push_str(
        "\n## Properties\n\n*any*: may be changed in any state; *READY*: up to READY, and checked when the element goes to PAUSED. \
         A text that holds a list has its items joined by commas.\n\n\
         | property | type | default | changes in | meaning |\n|---|---|---|---|---|\n",
    );
    for p in &own {
        let (kind, default) = kind(p);
        let changes = match p.flags() {
            flags if !flags.contains(glib::ParamFlags::WRITABLE) => "read-only",
            flags if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) => "any",
            flags if flags.contains(gst::PARAM_FLAG_MUTABLE_PAUSED) => "PAUSED",
            _ => "READY",
        };
        let mut meaning = escaped(p.blurb().unwrap_or_default());
        let explained = EXPLAINED.iter().find(|(e, names, _)| *e == name && names.contains(&p.name()));
        if let Some((_, _, target)) = explained {
            write!(meaning, " ([more](../{target}))").unwrap();
        }
        writeln!(page, "| `{}` | {kind} | {default} | {changes} | {meaning} |", p.name()).unwrap();
    }
    let parent = element.type_().parent().unwrap();
    if parent != gst::Element::static_type() {
        writeln!(page, "\nBesides, those of `{parent}`: `gst-inspect-1.0 {name}` lists them.").unwrap();
    }
    let enums: Vec<_> = own.iter().filter(|p| p.downcast_ref::<glib::ParamSpecEnum>().is_some()).collect();
    for p in enums {
        writeln!(page, "\n### Values of `{}`\n\n| value | meaning |\n|---|---|", p.name()).unwrap();
        for value in glib::EnumClass::with_type(p.value_type()).unwrap().values() {
            writeln!(page, "| `{}` | {} |", value.nick(), escaped(value.name())).unwrap();
        }
    }
}

/// A property's type with its range, and its default.
fn kind(p: &glib::ParamSpec) -> (String, String) {
    macro_rules! number {
        ($($spec:ty, $noun:literal);+ $(;)?) => {
            $(if let Some(spec) = p.downcast_ref::<$spec>() {
                return (format!("{}, {}…{}", $noun, spec.minimum(), spec.maximum()), spec.default_value().to_string());
            })+
        };
    }
    number!(
        glib::ParamSpecInt, "whole number";
        glib::ParamSpecUInt, "whole number";
        glib::ParamSpecInt64, "whole number";
        glib::ParamSpecUInt64, "whole number";
    );
    if let Some(spec) = p.downcast_ref::<glib::ParamSpecDouble>() {
        let bound = |v: f64| if v.abs() >= f32::MAX.into() { "∞".to_string() } else { v.to_string() };
        let default = (spec.default_value() as f32).to_string();
        return (format!("number, {}…{}", bound(spec.minimum()), bound(spec.maximum())), default);
    }
    if let Some(spec) = p.downcast_ref::<glib::ParamSpecBoolean>() {
        return ("boolean".into(), spec.default_value().to_string());
    }
    if p.value_type().is_a(glib::Type::ENUM) {
        let (_, value) = glib::EnumValue::from_value(p.default_value()).unwrap();
        return (format!("[enum](#values-of-{})", p.name()), format!("`{}`", value.nick()));
    }
    let kind = match p.value_type() {
        t if t == glib::Type::STRING => "text".to_string(),
        t if t == gst::Structure::static_type() => "structure".into(),
        t => format!("`{t}`"),
    };
    (kind, "unset".into())
}

fn others(page: &mut String, name: &str, element: &gst::Element) {
    let signals = signals(element.type_());
    if !signals.is_empty() {
        page.push_str("\n## Signals\n\n");
        for signal in signals {
            writeln!(page, "* `{signal}`").unwrap();
        }
    }
    let messages: Vec<_> = MESSAGES.iter().filter(|(e, ..)| *e == name).collect();
    if !messages.is_empty() {
        page.push_str("\n## Element messages\n\n| message | fields | comes |\n|---|---|---|\n");
        for (_, message, fields, when) in messages {
            writeln!(page, "| `{message}` | `{}` | {when} |", fields.join("`, `")).unwrap();
        }
    }
    page.push_str("\nWhat goes wrong is one error message whose text says what to do: [troubleshooting](../troubleshooting.md).\n");
}

/// The names of a type's own signals.
fn signals(type_: glib::Type) -> Vec<String> {
    use glib::gobject_ffi;
    use glib::translate::IntoGlib;
    let mut count = 0;
    // SAFETY: the type is that of a living object, so its class is loaded; GLib gives a list of `count` ids that are the
    // caller's to free, and names that live for ever.
    unsafe {
        let ids = gobject_ffi::g_signal_list_ids(type_.into_glib(), &mut count);
        let names = (0..count as usize).map(|k| {
            let name = gobject_ffi::g_signal_name(*ids.add(k));
            std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
        });
        let names = names.collect();
        glib::ffi::g_free(ids.cast());
        names
    }
}

/// A text that holds no markup of tables.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*").replace('<', "&lt;").replace("[[", "\\[\\[")
}
