//! What a user sees while a run goes on: a bar on a terminal, a line now and then elsewhere, JSON lines for programs.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::drive::{Counts, Watcher};

/// How long nothing is said where it would stay.
const PAUSE: Duration = Duration::from_secs(10);
/// The same for programs.
const JSON_PAUSE: Duration = Duration::from_secs(1);

/// Tells of a run.
pub struct Progress {
    look: Look,
    /// "3 of 20: name", or the name alone.
    title: String,
    /// The input's name, as messages have it.
    input: String,
    last: Instant,
    warnings: Vec<String>,
    /// Warnings without the input's name, and how many inputs had each.
    kinds: HashMap<String, usize>,
}

enum Look {
    Bar(ProgressBar),
    Lines,
    Json,
    Quiet,
}

impl Progress {
    pub fn new(json: bool, quiet: bool) -> Self {
        let look = match (json, quiet) {
            (true, _) => Look::Json,
            (_, true) => Look::Quiet,
            _ if std::io::stderr().is_terminal() => {
                let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
                let style = ProgressStyle::with_template("{prefix} {wide_bar} {percent:>3} % {msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                Look::Bar(bar)
            }
            _ => Look::Lines,
        };
        Progress {
            look,
            title: String::new(),
            input: String::new(),
            last: Instant::now(),
            warnings: Vec::new(),
            kinds: HashMap::new(),
        }
    }

    /// Begins an input.
    pub fn begin(&mut self, input: &str, title: String) {
        self.input = input.to_string();
        self.last = Instant::now();
        if let Look::Bar(bar) = &self.look {
            bar.set_prefix(title.clone());
            bar.set_message("loading models");
            bar.set_length(1);
            bar.reset();
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        self.title = title;
    }

    /// Something that stays on the screen.
    pub fn say(&self, text: &str) {
        match &self.look {
            Look::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            _ => eprintln!("{text}"),
        }
    }

    /// A stage after the models have run: what it is, and how much of it is done.
    pub fn stage(&mut self, name: &str, percent: u64) {
        match &self.look {
            Look::Bar(bar) => {
                bar.set_length(100);
                bar.set_position(percent);
                bar.set_message(name.to_string());
            }
            Look::Lines if self.last.elapsed() >= PAUSE => {
                self.last = Instant::now();
                eprintln!("{}: {name}, {percent} %", self.title);
            }
            Look::Json if self.last.elapsed() >= JSON_PAUSE => {
                self.last = Instant::now();
                println!("{}", json!({"event": "stage", "input": self.title, "stage": name, "percent": percent}));
            }
            _ => {}
        }
    }

    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub fn end(&self) {
        if let Look::Bar(bar) = &self.look {
            bar.finish_and_clear();
        }
    }
}

impl Watcher for Progress {
    fn progress(&mut self, counts: &Counts) {
        match &self.look {
            Look::Bar(bar) => {
                bar.set_length(counts.frames_total.max(counts.frames).max(1));
                bar.set_position(counts.frames);
                bar.set_message(words(counts));
            }
            Look::Lines if self.last.elapsed() >= PAUSE => {
                self.last = Instant::now();
                eprintln!("{}: {}", self.title, words(counts));
            }
            Look::Json if self.last.elapsed() >= JSON_PAUSE => {
                self.last = Instant::now();
                println!("{}", json!({"event": "progress", "input": self.title, "counts": counts}));
            }
            _ => {}
        }
    }

    fn finishing(&mut self, percent: u64) {
        self.stage("making the raster", percent);
    }

    fn warning(&mut self, text: &str) {
        if self.warnings.iter().any(|known| known == text) {
            return;
        }
        // A folder of a thousand pictures without a place is told of once.
        let count = self.kinds.entry(text.replace(&self.input, "")).or_insert(0);
        *count += 1;
        match count {
            1 => self.say(&format!("onnxsegment: warning: {text}")),
            2 => self.say(&format!(
                "onnxsegment: warning: {text} (so with further inputs, of which this is not said again)"
            )),
            _ => return,
        }
        self.warnings.push(text.to_string());
    }

    fn stopping(&mut self) {
        self.say("onnxsegment: stopping when what is under way is done; Ctrl-C again stops at once");
    }
}

/// "120 of 400 tiles, 36 without data, 12.3 MP/s, 0:21 left, cpu"
fn words(counts: &Counts) -> String {
    let mosaic = counts.parts_total > 0;
    let unit = if mosaic { "tiles" } else { "frames" };
    let mut words = match counts.frames_total {
        0 => format!("{} {unit}", counts.frames),
        total => format!("{} of {total} {unit}", counts.frames),
    };
    if counts.frames_without_data > 0 {
        words += &format!(", {} without data", counts.frames_without_data);
    }
    if counts.passes_saved > 0 {
        words += &format!(", {} passes saved", counts.passes_saved);
    }
    if counts.frames > 0 && counts.seconds > 0.0 {
        words += &match mosaic {
            true => format!(", {:.1} MP/s", counts.pixels as f64 / 1e6 / counts.seconds),
            false => format!(", {:.1} frames/s", counts.frames as f64 / counts.seconds),
        };
        if counts.frames_total > counts.frames {
            let left = counts.seconds / counts.frames as f64 * (counts.frames_total - counts.frames) as f64;
            words += &format!(", {} left", clock(left));
        }
    }
    if !counts.provider.is_empty() {
        words += &format!(", {}", counts.provider);
    }
    words
}

/// Seconds as 0:21 or 1:02:03.
pub fn clock(seconds: f64) -> String {
    let all = seconds.round() as u64;
    match (all / 3600, all / 60 % 60, all % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_how_fast_and_how_long_it_takes() {
        let counts = Counts {
            seconds: 10.0,
            frames: 100,
            frames_total: 400,
            frames_without_data: 30,
            pixels: 50_000_000,
            parts_total: 8,
            provider: "cpu".into(),
            ..Counts::default()
        };
        assert_eq!(words(&counts), "100 of 400 tiles, 30 without data, 5.0 MP/s, 0:30 left, cpu");
        let counts = Counts { parts_total: 0, frames_total: 0, frames_without_data: 0, ..counts };
        assert_eq!(words(&counts), "100 frames, 10.0 frames/s, cpu");
        assert_eq!(clock(3723.4), "1:02:03");
    }
}
