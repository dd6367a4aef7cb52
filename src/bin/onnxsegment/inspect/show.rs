//! A report as text for people, and as JSON.

use anyhow::Result;
use gstonnxsegment::engine::inspect::{self, Inspection};
use gstonnxsegment::engine::runtime;
use gstonnxsegment::engine::settings::Named;
use gstonnxsegment::engine::spec::{Form, Port};
use gstonnxsegment::raster::grid::{OVERLAP, TILE};
use serde_json::{Value, json};

use super::Report;
use super::line::Lines;

/// All facts of a model with where each came from.
fn facts(model: &Inspection) -> Vec<(&'static str, String, String)> {
    let spec = model.spec.iter();
    spec.flat_map(|spec| spec.describe_card().into_iter().chain(spec.describe()))
        .filter(|(_, value, _)| value != "unset")
        .collect()
}

/// What would be assumed of a model, and of the tiles that it sees.
fn assumed(model: &Inspection) -> Vec<(&'static str, String, &'static str)> {
    let mut all = model.assumed.clone();
    if let Some(spec) = &model.spec
        && let Ok(tiling) = &spec.tiling
    {
        if tiling.tile.is_none() && spec.input.height.is_none() {
            all.push(("tile-size", TILE.to_string(), "pixels, of rasters that are cut into tiles"));
        }
        if tiling.overlap.is_none() {
            all.push(("overlap", OVERLAP.to_string(), "pixels, of neighbouring tiles"));
        }
        if tiling.resolution.is_none() {
            all.push(("resolution", "the raster's".into(), "rastersrc resamples to a stated one"));
        }
    }
    all
}

/// What the output is.
fn output(model: &Inspection) -> Option<String> {
    let spec = model.spec.as_ref()?;
    let form = match spec.output.form {
        _ if model.missing.iter().any(|missing| missing.answer.starts_with("activation=")) => "scores",
        Form::Probability => "probabilities",
        Form::Logit => "logits",
        Form::LogProbability => "logarithms of probabilities",
        Form::Label => "labels",
    };
    let shape = model.output?;
    let size = match shape.reduction {
        1 => "of the input's size".to_string(),
        by => format!("{by} times smaller than the input, enlarged"),
    };
    Some(match shape.channels {
        _ if spec.output.form == Form::Label => format!("{form} {size}"),
        1 => format!("{form} of class 1, {size}"),
        n => format!("{form} of {n} classes, {size}"),
    })
}

fn dims(port: &Port) -> String {
    let dims: Vec<String> = port.shape.iter().map(|d| if *d > 0 { d.to_string() } else { "?".into() }).collect();
    format!("{} {}", port.element, dims.join("x"))
}

pub fn text(report: &Report, stated: &[(String, String)]) -> Result<()> {
    for model in &report.models {
        println!("{}", model.path.display());
        for (kind, ports) in [("input", &model.inputs), ("output", &model.outputs)] {
            for port in ports {
                println!("  {kind:<15} {} {}", port.name, dims(port));
            }
        }
        if let Some(output) = output(model) {
            println!("  gives           {output}");
        }
        if let Some(names) = model.class_names() {
            let names: Vec<String> = names.iter().enumerate().map(|(k, name)| format!("{k} {name}")).collect();
            println!("  classes         {}", names.join(", "));
        }
        section(
            "Known",
            facts(model)
                .into_iter()
                .filter(|(_, _, source)| source != "default")
                .map(|(n, v, s)| (n, format!("{v}  ({s})"))),
        );
        section("Assumed", assumed(model).into_iter().map(|(name, value, why)| (name, format!("{value}  {why}"))));
        if !model.missing.is_empty() {
            println!("\n  Missing");
        }
        for missing in &model.missing {
            println!("    {}", missing.problem);
            if !missing.answer.is_empty() {
                println!("    answer it by --set {}", missing.answer);
            }
        }
        let notes = model.notes.iter().map(|note| ("", note.clone()));
        section("Notes", notes);
        println!();
    }
    for (k, warning) in report.warnings.iter().enumerate() {
        println!("{}{warning}", if k == 0 { "Together: " } else { "          " });
    }
    if let Some(apart) = &report.apart {
        println!("These models cannot run together so: {apart}\n");
    }
    println!("Execution providers here, by {}", runtime::library_path()?.display());
    for (provider, usable) in inspect::providers()? {
        match usable {
            Ok(()) => println!("  {:<10} can be used", provider.name()),
            Err(why) => println!("  {:<10} cannot: {why}", provider.name()),
        }
    }
    if let Some(lines) = Lines::new(report, stated).filter(|_| report.apart.is_none()) {
        let provided = lines.provided.map_or(String::new(), |provided| format!(", {provided}"));
        println!("\nTo run {}{provided}:", if report.models.len() == 1 { "it" } else { "them" });
        println!("  {}\n  {}", lines.run, lines.launch);
    }
    Ok(())
}

/// A heading and lines under it, where there are any.
fn section(heading: &str, lines: impl Iterator<Item = (&'static str, String)>) {
    for (k, (name, value)) in lines.enumerate() {
        if k == 0 {
            println!("\n  {heading}");
        }
        match name {
            "" => println!("    {value}"),
            name => println!("    {name:<18} {value}"),
        }
    }
}

pub fn json(report: &Report, stated: &[(String, String)]) -> Result<()> {
    let port = |port: &Port| json!({"name": port.name, "type": port.element, "shape": port.shape});
    let model = |model: &Inspection| {
        let classes = (0..model.classes().unwrap_or(0)).map(|k| {
            let name = model.class_names().and_then(|names| names.get(k));
            let colour = model.spec.as_ref().and_then(|spec| *spec.colours.as_ref()?.value.get(k)?);
            let hex = colour.map(|[r, g, b]| format!("#{r:02x}{g:02x}{b:02x}"));
            json!({"value": k, "name": name, "colour": hex})
        });
        let fact =
            |(name, value, source): (&str, String, String)| json!({"name": name, "value": value, "source": source});
        let assumed = assumed(model).into_iter();
        let missing = |missing: &inspect::Missing| {
            let answer = Some(missing.answer).filter(|answer| !answer.is_empty());
            json!({"problem": missing.problem, "answer": answer})
        };
        json!({
            "model": model.path.display().to_string(),
            "inputs": model.inputs.iter().map(port).collect::<Value>(),
            "outputs": model.outputs.iter().map(port).collect::<Value>(),
            "gives": output(model),
            "classes": classes.collect::<Value>(),
            "facts": facts(model).into_iter().map(fact).collect::<Value>(),
            "assumed": assumed.map(|(name, value, why)| json!({"name": name, "value": value, "why": why})).collect::<Value>(),
            "missing": model.missing.iter().map(missing).collect::<Value>(),
            "notes": model.notes,
        })
    };
    let provider = |(provider, usable): (runtime::Provider, Result<(), String>)| json!({"name": provider.name(), "available": usable.is_ok(), "reason": usable.err()});
    let lines = Lines::new(report, stated).filter(|_| report.apart.is_none());
    let all = json!({
        "models": report.models.iter().map(model).collect::<Value>(),
        "together": {"problem": report.apart, "warnings": report.warnings},
        "onnxruntime": runtime::library_path()?.display().to_string(),
        "providers": inspect::providers()?.into_iter().map(provider).collect::<Value>(),
        "run": lines.as_ref().map(|lines| &lines.run),
        "gst-launch": lines.as_ref().map(|lines| &lines.launch),
    });
    println!("{}", serde_json::to_string_pretty(&all)?);
    Ok(())
}
