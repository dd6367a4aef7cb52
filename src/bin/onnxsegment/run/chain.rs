//! A pipeline as the words of a `gst-launch-1.0` line: printed for a shell, or run here. There is no other description.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;

use super::options::{Element, Properties};

/// The words behind `gst-launch-1.0`.
#[derive(Debug, Clone, Default)]
pub struct Chain(Vec<String>);

impl Chain {
    /// Links another element.
    pub fn then(mut self, factory: impl ToString) -> Self {
        if !self.0.is_empty() {
            self.0.push("!".into());
        }
        self.0.push(factory.to_string());
        self
    }

    /// Goes on from a pad of an element that has a name, as `name.pad`.
    pub fn from_pad(mut self, pad: &str) -> Self {
        self.0.push(pad.to_string());
        self
    }

    /// Sets a property of the last element.
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.0.push(format!("{name}={}", quoted(&value.to_string())));
        self
    }

    pub fn with_path(self, name: &str, path: &Path) -> Self {
        self.with(name, path.display())
    }

    /// Links one of our elements with what the user has set of it.
    pub fn then_ours(self, element: Element, properties: &Properties) -> Self {
        properties.of(element).fold(self.then(element), |chain, (name, value)| chain.with(name, value))
    }

    /// The same with a property before the user's.
    pub fn then_ours_with(self, element: Element, first: (&str, &str), properties: &Properties) -> Self {
        let chain = self.then(element).with(first.0, first.1);
        properties.of(element).fold(chain, |chain, (name, value)| chain.with(name, value))
    }

    /// Makes the pipeline.
    ///
    /// # Errors
    /// Elements that are not installed, in GStreamer's words.
    pub fn build(&self) -> Result<gst::Pipeline> {
        let words: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let mut context = gst::ParseContext::new();
        let element = gst::parse::launchv_full(&words, Some(&mut context), gst::ParseFlags::FATAL_ERRORS);
        let element = element.map_err(|e| match context.missing_elements().as_slice() {
            [] => anyhow!("{}", e.message()),
            missing => anyhow!(
                "GStreamer has no element {}; install the plugin that holds it (`onnxsegment doctor` tells which)",
                missing.join(", ")
            ),
        })?;
        element
            .downcast::<gst::Pipeline>()
            .map_err(|e| anyhow!("{} is no pipeline", e.name()))
            .context(self.to_string())
    }
}

/// For a shell, by copy and paste.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("gst-launch-1.0 -e")?;
        self.0.iter().try_for_each(|word| write!(f, " {}", shell(word)))
    }
}

/// A property's value as GStreamer's parser takes it.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./,:+*?%@-[]#".contains(c) || !c.is_ascii();
    match !value.is_empty() && value.chars().all(plain) {
        true => value.to_string(),
        false => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// A word as a shell takes it.
pub fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./,:+=%@-".contains(c) || !c.is_ascii();
    match word == "!" || (!word.is_empty() && word.chars().all(plain)) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_printed_as_a_shell_takes_it() {
        let chain = Chain::default().then("filesrc").with("location", "my file's.png").then("fakesink").with("x", 3);
        assert_eq!(chain.to_string(), r#"gst-launch-1.0 -e filesrc 'location="my file'\''s.png"' ! fakesink x=3"#);
        let chain = Chain::default().then("onnxsegment").with("model-file", "models/fold*.onnx");
        assert_eq!(chain.to_string(), "gst-launch-1.0 -e onnxsegment 'model-file=models/fold*.onnx'");
    }

    #[test]
    fn values_arrive_as_they_are() {
        gst::init().unwrap();
        for value in
            ["a", "with space", "quo\"te", "back\\slash", "it's", "a ! b", "dollar$(x)", "ünï", "(a,b)", "a=b;c"]
        {
            let chain = Chain::default().then("filesrc").with("location", value).then("fakesink");
            let pipeline = chain.build().unwrap();
            let source = pipeline.iterate_sources().next().unwrap().unwrap();
            assert_eq!(source.property::<String>("location"), value);
        }
    }

    #[test]
    fn an_element_that_is_not_installed_is_named() {
        gst::init().unwrap();
        let error = Chain::default().then("filesrc").then("nosuchelement").build().unwrap_err().to_string();
        assert!(error.contains("no element nosuchelement"), "{error}");
    }
}
