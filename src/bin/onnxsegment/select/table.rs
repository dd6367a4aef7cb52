//! A selection as tables, as JSON, and as the comment above a configuration file.

use std::fmt::Write;

use gstonnxsegment::engine::metrics::Interval;
use gstonnxsegment::engine::select::{Basis, Candidate, Cost, Judged, Row, Score, Selection, Study};
use serde_json::{Value, json};

use super::{Report, listed, members};

/// Cells joined to a Markdown table whose columns are aligned.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |k: usize| {
        let cells = rows.iter().map(|row| row[k].chars().count());
        cells.chain([head[k].chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = line(&mut head.iter().copied());
    text += &line(&mut rule.iter().map(String::as_str));
    rows.iter().for_each(|row| text += &line(&mut row.iter().map(String::as_str)));
    text
}

fn number(iou: f64) -> String {
    format!("{iou:.3}")
}

fn span((low, high): Interval) -> String {
    format!("{low:.3} to {high:.3}")
}

/// Score and interval as two cells.
fn cells(score: Option<Score>) -> [String; 2] {
    score.map_or(["–".into(), "–".into()], |score| [number(score.iou), span(score.interval)])
}

fn cost(study: &Study, cost: f64) -> String {
    match study.options().cost {
        Cost::Passes => format!("{cost}"),
        Cost::Seconds => format!("{cost:.2}"),
    }
}

/// The classes that count.
fn classes(study: &Study) -> Vec<String> {
    let name = |class: &usize| match study.class_names().and_then(|names| names.get(*class)) {
        Some(name) => name.clone(),
        None => format!("class {class}"),
    };
    study.classes.iter().map(name).collect()
}

/// What the score is, such as `IoU of building`.
pub fn measure(study: &Study) -> String {
    let classes = classes(study);
    match classes.len() {
        1 => format!("IoU of {}", classes[0]),
        _ => format!("mean IoU of {}", classes.join(", ")),
    }
}

/// So many pixels, and so many of them of what counts.
fn pixels(study: &Study, pixels: usize, positives: usize) -> String {
    format!("{pixels} pixels ({positives} of {})", classes(study).join(", "))
}

fn passes(candidate: &Candidate) -> String {
    match candidate.passes() {
        1 => "1 pass".into(),
        n => format!("{n} passes"),
    }
}

/// A candidate in one line.
fn line(study: &Study, candidate: &Candidate) -> String {
    format!("{}, {}", members(study, &candidate.members), candidate.words())
}

pub fn text(study: &Study, selection: &Selection, report: Option<&Report>) -> String {
    let options = study.options();
    let mut out = String::new();
    let measure = measure(study);
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "{measure}, with 95 % intervals of a block bootstrap ({} draws of {} blocks of {} x {} pixels)\n",
        options.resamples, selection.blocks, options.block, options.block
    );
    let head = ["model", "own pixels", "positives", "alone", "95 % interval", "temperature", "NLL", "s per megapixel"];
    let rows = selection.members.iter().map(|m| {
        let [iou, interval] = cells(m.score);
        let (temperature, nll) = match m.fit {
            Some(fit) => (fit.temperature.to_string(), format!("{:.4} to {:.4}", fit.before, fit.after)),
            None => ("–".into(), "–".into()),
        };
        let seconds = format!("{:.2}", m.seconds_per_megapixel);
        vec![m.name.clone(), m.pixels.to_string(), m.positives.to_string(), iou, interval, temperature, nll, seconds]
    });
    out += &table(&head, &rows.collect::<Vec<_>>());
    let _ = writeln!(out, "\n{}\n", basis(study, selection));

    let cost_name = match options.cost {
        Cost::Passes => "passes",
        Cost::Seconds => "s per megapixel",
    };
    let rows = listed(selection).into_iter().map(|k| {
        let row = &selection.rows[k];
        let (interval, difference) = row.intervals.unwrap_or_default();
        let difference = if k == selection.best { "best".into() } else { span(difference) };
        let mark = if k == selection.chosen { "**take this**" } else { "" };
        vec![
            members(study, &row.candidate.members),
            row.candidate.words(),
            cost(study, row.cost),
            number(row.iou),
            span(interval),
            difference,
            mark.into(),
        ]
    });
    let rows: Vec<_> = rows.collect();
    out += &table(&["models", "setting", cost_name, "score", "95 % interval", "minus the best", ""], &rows);
    let (best, chosen) = (&selection.rows[selection.best], &selection.rows[selection.chosen]);
    let least = best.intervals.map_or(best.iou, |(interval, _)| interval.0);
    let within = selection.rows.iter().filter(|row| row.iou >= least).count();
    let _ = writeln!(
        out,
        "\n{} candidates were scored, {} are listed; {within} lie within the best one's interval, from {least:.3} up. The cheapest \
         of these is recommended: {}.",
        selection.rows.len(),
        rows.len(),
        line(study, &chosen.candidate)
    );
    if let Some(report) = report {
        let _ = writeln!(
            out,
            "\nOn {} that decided nothing:\n",
            pixels(study, report.chosen.pixels, report.chosen.positives)
        );
        let row = |what: &str, candidate: &Candidate, judged: &Judged| {
            let [iou, interval] = cells(judged.score);
            vec![what.to_string(), line(study, candidate), candidate.passes().to_string(), iou, interval]
        };
        let single = match selection.basis {
            Basis::Shared => "best single model",
            // Their scores are of different pixels, so that none is the best.
            Basis::Folds => "one fold alone",
        };
        let rows =
            [row("recommended", &chosen.candidate, &report.chosen), row(single, &selection.baseline, &report.baseline)];
        out += &table(&["", "setting", "passes", "score", "95 % interval"], &rows);
    }
    out
}

/// On which pixels, and why so.
fn basis(study: &Study, selection: &Selection) -> String {
    let pixels = pixels(study, selection.pixels, selection.positives);
    let count = study.names.len();
    match selection.basis {
        Basis::Shared => format!("All candidates are scored on the same {pixels}, which no model was trained on."),
        Basis::Folds => {
            let why = match study.options().folds {
                true => "These models are taken as folds of a cross-validation, as asked for: no set of them is scored",
                false => {
                    "These models are folds of a cross-validation: no pixel is unseen by two of them, so that no set of them \
                     can be scored"
                }
            };
            format!(
                "{why}, nor one against another. All {count} are taken. Transforms, temperatures and thresholds are scored \
                 model by model on its own pixels, counted together: {pixels}. What merging the models adds is not measured \
                 here."
            )
        }
    }
}

/// What stands above the recommended setting in its file.
pub fn comment(study: &Study, selection: &Selection) -> String {
    let scored = |row: &Row| {
        let interval = row.intervals.unwrap_or_default().0;
        format!("{} ({}) with {}", number(row.iou), span(interval), passes(&row.candidate))
    };
    let (chosen, best) = (&selection.rows[selection.chosen], &selection.rows[selection.best]);
    remarks(&[
        "Chosen by `onnxsegment select`: the cheapest within the 95 % interval of the best.".into(),
        format!("{}: {}", measure(study), scored(chosen)),
        format!("The best, {}: {}", line(study, &best.candidate), scored(best)),
    ])
}

/// Lines of a TOML comment. Names are a model's or a user's, and may hold anything.
fn remarks(lines: &[String]) -> String {
    let line = |text: &String| format!("# {}\n", text.replace(char::is_control, " "));
    lines.iter().map(line).collect::<String>() + "\n"
}

pub fn json(study: &Study, selection: &Selection, report: Option<&Report>) -> Value {
    let score = |score: Option<Score>| score.map(|s| json!({"score": s.iou, "interval": s.interval}));
    let candidate = |c: &Candidate| {
        let names: Vec<&str> = c.members.iter().map(|m| study.names[*m].as_str()).collect();
        json!({"models": names, "setting": c.words(), "passes": c.passes()})
    };
    let row = |k: usize| {
        let row = &selection.rows[k];
        let mut value = candidate(&row.candidate);
        value["cost"] = row.cost.into();
        value["score"] = row.iou.into();
        value["interval"] = json!(row.intervals.map(|i| i.0));
        value["minus_best"] = json!(row.intervals.map(|i| i.1));
        value
    };
    let judged = |c: &Candidate, j: &Judged| {
        let mut value = candidate(c);
        value["result"] = json!(score(j.score));
        value["pixels"] = j.pixels.into();
        value["positives"] = j.positives.into();
        value
    };
    json!({
        "measure": measure(study),
        "basis": match selection.basis { Basis::Shared => "shared", Basis::Folds => "folds" },
        "cost": match study.options().cost { Cost::Passes => "passes", Cost::Seconds => "seconds per megapixel" },
        "pixels": selection.pixels,
        "positives": selection.positives,
        "blocks": selection.blocks,
        "members": selection.members.iter().map(|m| json!({
            "name": m.name,
            "pixels": m.pixels,
            "positives": m.positives,
            "alone": score(m.score),
            "temperature": m.fit.map(|f| f.temperature),
            "nll": m.fit.map(|f| [f.before, f.after]),
            "seconds_per_megapixel": m.seconds_per_megapixel,
        })).collect::<Vec<_>>(),
        "candidates": (0..selection.rows.len()).map(row).collect::<Vec<_>>(),
        "best": selection.best,
        "recommended": selection.chosen,
        "holdout": report.map(|report| json!({
            "recommended": judged(&selection.rows[selection.chosen].candidate, &report.chosen),
            "single_model": judged(&selection.baseline, &report.baseline),
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_end_a_comment() {
        let lines = ["IoU of a\nmerge = \"vote\"".to_string(), "b\r\u{7f}".to_string()];
        assert_eq!(remarks(&lines), "# IoU of a merge = \"vote\"\n# b  \n\n");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".into(), "0.123".into()], vec!["long × name".into(), "–".into()]];
        let lines =
            "| m           | score |\n| ----------- | ----- |\n| a           | 0.123 |\n| long × name | –     |\n";
        assert_eq!(table(&["m", "score"], &rows), lines);
    }
}
