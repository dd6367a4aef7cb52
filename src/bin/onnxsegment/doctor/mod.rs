//! `onnxsegment doctor`: what a machine has of what this program needs, and how to get the rest.
//!
//! It looks, and changes nothing. What is missing is a line of its answer, never an error of its own.

mod gdal;
mod gpu;
mod gstreamer;
mod machine;
mod runtime;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

#[derive(clap::Args)]
pub struct Arguments {
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Ok,
    /// Worth knowing; most uses do without it.
    Note,
    /// Needed, and not there.
    Missing,
}

/// One thing that was looked for.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    part: &'static str,
    state: State,
    what: String,
    /// What was found.
    found: String,
    /// What it is for.
    #[serde(skip_serializing_if = "str::is_empty")]
    purpose: &'static str,
    /// How to get it, where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    get: Option<String>,
}

/// Findings of one part of the machine.
struct Part {
    name: &'static str,
    findings: Vec<Finding>,
}

impl Part {
    fn new(name: &'static str) -> Self {
        Part { name, findings: Vec::new() }
    }

    fn add(&mut self, state: State, what: &str, found: impl Into<String>, purpose: &'static str, get: Option<String>) {
        let finding = Finding { part: self.name, state, what: what.into(), found: found.into(), purpose, get };
        self.findings.push(finding);
    }

    fn ok(&mut self, what: &str, found: impl Into<String>, purpose: &'static str) {
        self.add(State::Ok, what, found, purpose, None);
    }

    fn note(&mut self, what: &str, found: impl Into<String>, purpose: &'static str, get: &str) {
        self.add(State::Note, what, found, purpose, Some(get.to_string()).filter(|get| !get.is_empty()));
    }

    fn missing(&mut self, what: &str, found: impl Into<String>, purpose: &'static str, get: &str) {
        self.add(State::Missing, what, found, purpose, Some(get.to_string()));
    }
}

/// Exit code 1 where something needed is missing.
pub fn run(arguments: Arguments) -> ExitCode {
    let parts = [gstreamer::look(), runtime::look(), gdal::look(), gpu::look(), machine::look()];
    let missing = parts.iter().flat_map(|part| &part.findings).filter(|f| f.state == State::Missing).count();
    let text = match arguments.json {
        true => json(&parts, missing),
        false => lines(&parts, missing, std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()),
    };
    // Whoever closes the pipe wants no more of it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn json(parts: &[Part], missing: usize) -> String {
    let findings: Vec<&Finding> = parts.iter().flat_map(|part| &part.findings).collect();
    let answer = serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "ok": missing == 0, "findings": findings });
    format!("{answer:#}\n")
}

fn lines(parts: &[Part], missing: usize, coloured: bool) -> String {
    let paint = |state: State| {
        let (word, code) = match state {
            State::Ok => ("ok     ", 32),
            State::Note => ("note   ", 33),
            State::Missing => ("missing", 31),
        };
        if coloured { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_string() }
    };
    let mut text = String::new();
    for part in parts {
        text += &format!("{}\n", part.name);
        for f in &part.findings {
            let purpose = if f.purpose.is_empty() { String::new() } else { format!("  ({})", f.purpose) };
            text += &format!("  {}  {}: {}{purpose}\n", paint(f.state), f.what, f.found);
            text.extend(f.get.iter().map(|get| format!("           {get}\n")));
        }
        text.push('\n');
    }
    text += &match missing {
        0 => "Everything that is needed on the CPU is here.\n".to_string(),
        1 => "One thing that is needed is missing: see the line that begins with `missing`.\n".to_string(),
        n => format!("{n} things that are needed are missing: see the lines that begin with `missing`.\n"),
    };
    text
}

/// How to get a Debian package.
fn apt(package: &str) -> String {
    format!("to get it: apt-get install {package}")
}
