//! Options that are properties of elements: the same names, the same values, the same words about them.
//!
//! They are read from what the elements declare, so that there is no second list of them.

use std::fmt;

use anyhow::{Result, ensure};
use clap::builder::{PossibleValue, PossibleValuesParser, ValueParser};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use gst::glib;
use gstonnxsegment::elements::onnxsegment::OnnxSegment;
use gstonnxsegment::elements::rastersink::RasterSink;
use gstonnxsegment::elements::rastersrc::RasterSrc;
use gstonnxsegment::elements::tilemerge::TileMerge;

/// An element of a pipeline that has properties for users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    OnnxSegment,
    RasterSrc,
    RasterSink,
    TileMerge,
}

impl Element {
    /// In the order in which help tells of them.
    const ALL: [Element; 4] = [Element::OnnxSegment, Element::RasterSrc, Element::RasterSink, Element::TileMerge];

    fn specs(self) -> &'static [glib::ParamSpec] {
        match self {
            Element::OnnxSegment => OnnxSegment::specs(),
            Element::RasterSrc => RasterSrc::specs(),
            Element::RasterSink => RasterSink::specs(),
            Element::TileMerge => TileMerge::specs(),
        }
    }

    /// The properties that options set: inputs, outputs and models are named by other means.
    fn settable(self) -> impl Iterator<Item = &'static glib::ParamSpec> {
        let writable = |spec: &&glib::ParamSpec| spec.flags().contains(glib::ParamFlags::WRITABLE);
        let elsewhere = |spec: &&glib::ParamSpec| matches!(spec.name(), "location" | "model-file");
        self.specs().iter().filter(writable).filter(move |spec| !elsewhere(spec))
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Element::OnnxSegment => "onnxsegment",
            Element::RasterSrc => "rastersrc",
            Element::RasterSink => "rastersink",
            Element::TileMerge => "tilemerge",
        })
    }
}

/// The properties that a user has set, by name, in the order of the elements' declarations.
#[derive(Debug, Clone, Default)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// What an element is to be given.
    pub fn of(&self, element: Element) -> impl Iterator<Item = (&str, &str)> {
        let has = move |name: &str| element.settable().any(|spec| spec.name() == name);
        self.0.iter().filter(move |(name, _)| has(name)).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Sets a property, whatever it was.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_string(), value.to_string()));
    }

    /// Reads properties by name, checked as options are.
    ///
    /// # Errors
    /// Names that no element has, and values that they do not take.
    pub fn read<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let words = all.into_iter().map(|(name, value)| format!("--{name}={value}"));
        let command = Self::augment_args(Command::new("settings").no_binary_name(true).disable_help_flag(true));
        let matches = command.try_get_matches_from(words).map_err(|e| {
            let text = e.to_string();
            let first = text.lines().next().unwrap_or_default();
            anyhow::anyhow!("{}", first.trim_start_matches("error: "))
        })?;
        Ok(Self::from_arg_matches(&matches)?)
    }

    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Refuses properties of elements that a pipeline does not have.
    ///
    /// # Errors
    /// The first of them, by name.
    pub fn check(&self, elements: &[Element], output: &str) -> Result<()> {
        for (name, _) in self.all() {
            let owners = Element::ALL.into_iter().filter(|e| e.settable().any(|spec| spec.name() == name));
            let owners: Vec<Element> = owners.collect();
            ensure!(
                owners.iter().any(|owner| elements.contains(owner)),
                "--{name} is a setting of {}, which {output} does without; leave it out, or write a mask by -o NAME.tif",
                owners[0]
            );
        }
        Ok(())
    }
}

impl FromArgMatches for Properties {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut properties = Vec::new();
        for spec in Element::ALL.into_iter().flat_map(Element::settable) {
            let name = spec.name();
            if properties.iter().all(|(known, _)| known != name)
                && let Some(value) = matches.get_one::<String>(name)
            {
                properties.push((name.to_string(), value.clone()));
            }
        }
        Ok(Properties(properties))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Properties {
    fn augment_args(command: Command) -> Command {
        let mut command = command;
        let mut known: Vec<&str> = Vec::new();
        for element in Element::ALL {
            for spec in element.settable() {
                // What two elements have in common means the same.
                if !known.contains(&spec.name()) {
                    known.push(spec.name());
                    command = command.arg(argument(spec).help_heading(format!("Properties of {element}")));
                }
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(spec: &'static glib::ParamSpec) -> Arg {
    let blurb = spec.blurb().unwrap_or_default();
    let (value, help, parser) = if let Some(spec) = spec.downcast_ref::<glib::ParamSpecEnum>() {
        let class = spec.enum_class();
        let possible = class.values().iter().map(|value| {
            // GLib keeps the names of a type for as long as the program runs.
            let nick = value.nick().to_string();
            // "Auto: what it does": the nick need not be told twice.
            let words = value.name().split_once(": ").map_or(value.name(), |(_, words)| words).to_string();
            PossibleValue::new(nick).help(words)
        });
        let default = class.value(spec.default_value_as_i32()).map_or("", |value| value.nick()).to_string();
        let parser = PossibleValuesParser::new(possible.collect::<Vec<_>>());
        ("NAME", format!("{blurb} [default: {default}]"), ValueParser::from(parser))
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecBoolean>() {
        let parser = PossibleValuesParser::new(["true", "false"]);
        ("BOOL", format!("{blurb} [default: {}]", spec.default_value()), ValueParser::from(parser))
    } else if let Some(range) = Range::of(spec) {
        ("NUMBER", blurb.to_string(), ValueParser::from(move |text: &str| range.check(text)))
    } else {
        ("TEXT", blurb.to_string(), ValueParser::string())
    };
    let argument = Arg::new(spec.name()).long(spec.name()).value_name(value).help(help).value_parser(parser);
    // -1 means "not set" to some.
    argument.allow_negative_numbers(true).hide_possible_values(false)
}

/// The numbers that a property takes.
#[derive(Clone, Copy)]
enum Range {
    Whole(i128, i128),
    Real(f64, f64),
}

impl Range {
    fn of(spec: &glib::ParamSpec) -> Option<Self> {
        if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt>() {
            return Some(Range::Whole(spec.minimum().into(), spec.maximum().into()));
        }
        if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
            return Some(Range::Whole(spec.minimum().into(), spec.maximum().into()));
        }
        if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt64>() {
            return Some(Range::Whole(spec.minimum().into(), spec.maximum().into()));
        }
        let spec = spec.downcast_ref::<glib::ParamSpecDouble>()?;
        Some(Range::Real(spec.minimum(), spec.maximum()))
    }

    fn check(self, text: &str) -> Result<String, String> {
        let (fits, words) = match self {
            Range::Whole(least, most) => (
                text.parse::<i128>().is_ok_and(|value| (least..=most).contains(&value)),
                format!("a whole number from {least} to {most}"),
            ),
            Range::Real(least, most) => (
                text.parse::<f64>().is_ok_and(|value| (least..=most).contains(&value)),
                format!("a number from {least} to {most}"),
            ),
        };
        match fits {
            true => Ok(text.to_string()),
            false => Err(format!("it has to be {words}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Properties, clap::Error> {
        let command = Properties::augment_args(Command::new("run").no_binary_name(true));
        Properties::from_arg_matches(&command.try_get_matches_from(line)?)
    }

    #[test]
    fn every_property_that_can_be_written_is_an_option_of_its_name() {
        let command = Properties::augment_args(Command::new("run"));
        for element in Element::ALL {
            for spec in element.specs().iter().filter(|spec| spec.flags().contains(glib::ParamFlags::WRITABLE)) {
                let named = command.get_arguments().any(|argument| argument.get_long() == Some(spec.name()));
                assert_eq!(named, !matches!(spec.name(), "location" | "model-file"), "{element} {}", spec.name());
            }
        }
    }

    #[test]
    fn an_option_goes_to_the_elements_that_have_it() {
        let properties = parse(&["--tta", "d4", "--blend", "hann", "--tile-size", "256"]).unwrap();
        assert_eq!(properties.of(Element::OnnxSegment).collect::<Vec<_>>(), [("tta", "d4")]);
        assert_eq!(properties.of(Element::RasterSrc).collect::<Vec<_>>(), [("tile-size", "256")]);
        assert_eq!(properties.of(Element::RasterSink).collect::<Vec<_>>(), [("blend", "hann")]);
        assert_eq!(properties.of(Element::TileMerge).collect::<Vec<_>>(), [("blend", "hann")]);
    }

    #[test]
    fn values_are_checked_before_anything_runs() {
        let text = |line: &[&str]| parse(line).unwrap_err().to_string();
        assert!(text(&["--merge", "median"]).contains("gmean"));
        assert!(text(&["--threshold", "1.5"]).contains("a number from -1 to 1"));
        assert!(text(&["--threshold", "nan"]).contains("a number from -1 to 1"));
        assert!(text(&["--threads", "-1"]).contains("a whole number from 0 to 256"));
        assert!(text(&["--cog", "maybe"]).contains("true, false"));
        assert!(parse(&["--threshold", "-1"]).is_ok());
    }

    #[test]
    fn a_setting_of_an_element_that_is_not_there_is_refused() {
        let properties = parse(&["--cog", "false"]).unwrap();
        assert!(properties.check(&[Element::RasterSink], "a mask").is_ok());
        let error = properties.check(&[Element::OnnxSegment], "a video").unwrap_err().to_string();
        assert!(error.contains("--cog is a setting of rastersink, which a video does without"), "{error}");
    }
}
