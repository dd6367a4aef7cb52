//! GStreamer's `.modelinfo` beside a model, `fold0.onnx.modelinfo` for `fold0.onnx`: an INI file with a section for each
//! tensor. Of an input's section, `ranges` says what the bytes of a frame become. The rest serves upstream's own elements.
//! <https://gstreamer.freedesktop.org/documentation/analytics/GstAnalyticsModelInfo.html>

use std::path::{Path, PathBuf};

use super::scaling::{self, Scaling};
use crate::engine::error::{Error, Result};
use crate::engine::settings::Source;

/// Where a model's file lies.
pub fn path(model: &Path) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(".modelinfo");
    name.into()
}

/// The scaling that a model's file tells for the input `name`; `None` without a file, or where it says nothing of it.
///
/// # Errors
/// Ranges that cannot be read or expressed.
pub fn scaling(model: &Path, name: &str, channels: usize, bytes: bool) -> Result<Option<Scaling>> {
    let file = path(model);
    let Some(text) = super::small(&file) else {
        return Ok(None);
    };
    let wrong = |problem: String| {
        let problem = format!("[{name}] {problem}. Correct it, or set model-card=none, or scale, mean and std");
        Error::file("model-card", &file, problem)
    };
    let Some(text) = ranges_of(&String::from_utf8_lossy(&text), name) else {
        return Ok(None);
    };
    let ranges = ranges(&text).ok_or_else(|| wrong(format!("ranges is `{text}`; expected min,max;min,max;…")))?;
    scaling::of_ranges(&ranges, channels, bytes, Source::ModelInfo("ranges"))
        .map_err(|problem| wrong(format!("ranges {problem}")))
}

/// The `ranges` of the section of this name that is not one of an output.
fn ranges_of(text: &str, name: &str) -> Option<String> {
    let mut inside = false;
    let (mut ranges, mut output) = (None, false);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = section == name;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) {
            match key.trim() {
                "ranges" => ranges = Some(value.trim().to_string()),
                "dir" => output = value.trim() == "output",
                _ => {}
            }
        }
    }
    ranges.filter(|_| !output)
}

/// `min,max` pairs joined by semicolons.
fn ranges(text: &str) -> Option<Vec<(f64, f64)>> {
    let pairs = text.split(';').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs: Option<Vec<_>> = pairs
        .map(|pair| {
            let (min, max) = pair.split_once(',')?;
            let number = |text: &str| text.trim().parse::<f64>().ok().filter(|v| v.is_finite());
            Some((number(min)?, number(max)?))
        })
        .collect();
    pairs.filter(|pairs| !pairs.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_inputs_own_section_counts() {
        let text =
            "[a]\nranges=1,2\n#ranges=9,9\n[b]\n ranges = 3.0,4 ; 5,6; \ndir=input\n[c]\ndir=output\nranges=7,8\n";
        assert_eq!(ranges_of(text, "a").as_deref(), Some("1,2"));
        assert_eq!(ranges(&ranges_of(text, "b").unwrap()), Some(vec![(3.0, 4.0), (5.0, 6.0)]));
        assert_eq!(ranges_of(text, "c"), None);
        assert_eq!(ranges_of(text, "d"), None);
    }

    proptest! {
        #[test]
        fn any_text_ends(text in r"[\[\]a=;,\n0-9.e#-]{0,60}") {
            if let Some(text) = ranges_of(&text, "a") {
                let _ = ranges(&text);
            }
        }
    }
}
