//! STAC items with the Machine Learning Model extension (MLM), read as version 1.5 has it:
//! <https://github.com/stac-extensions/mlm>. What the extension has no field for stands under `mlm:hyperparameters`, by the
//! names of this program's settings or of the Deepness plugin.

use std::path::Path;

use serde_json::Value;

use super::scaling::{self, Scaling};
use super::{Card, Colours};
use crate::engine::error::{Error, Result};
use crate::engine::settings::{Activation, ChannelOrder, Fact, Facts, Layout, Source};
use crate::engine::spec::{Overlap, Port, Tiling};
use crate::engine::tta;

/// Reads the item in `text`, of which `file` is the name; `None` where it is no MLM item.
///
/// # Errors
/// What the item says that cannot be used, or that the model contradicts.
pub fn read(file: &Path, text: &[u8], inputs: &[&Port], outputs: &[Port]) -> Result<Option<Card>> {
    let Some(item) = serde_json::from_slice::<Value>(text).ok().filter(is_item) else {
        return Ok(None);
    };
    let reader = Reader { file, properties: &item["properties"] };
    reader.check_version(&item)?;
    reader.card(inputs, outputs).map(Some)
}

/// Whether it is a STAC item that speaks of a model.
fn is_item(item: &Value) -> bool {
    let extends = extensions(item).any(|url| version(url).is_some());
    item["type"] == "Feature" && item["properties"].is_object() && extends
}

fn extensions(item: &Value) -> impl Iterator<Item = &str> {
    item["stac_extensions"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The version in the address of the extension's schema, `1.5.2` for example.
fn version(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("/mlm/v").or_else(|| url.split_once("/mlm-extension/v"))?;
    rest.split('/').next()
}

struct Reader<'a> {
    file: &'a Path,
    properties: &'a Value,
}

impl<'a> Reader<'a> {
    fn wrong(&self, problem: String) -> Error {
        Error::file("model-card", self.file, format!("{problem}. Correct it, or set model-card=none"))
    }

    /// # Errors
    /// A version of another major number, whose fields may mean something else.
    fn check_version(&self, item: &Value) -> Result<()> {
        match extensions(item).filter_map(version).find(|version| !version.starts_with("1.")) {
            None => Ok(()),
            Some(other) => Err(self.wrong(format!("follows version {other} of the MLM extension; expected 1.x"))),
        }
    }

    fn card(&self, inputs: &[&Port], outputs: &[Port]) -> Result<Card> {
        let inputs: Vec<(&str, &[i64])> = inputs.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
        let input = self.entry("mlm:input", &inputs.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
        let names: Vec<&str> = outputs.iter().map(|port| port.name.as_str()).collect();
        let output = self.entry("mlm:output", &names)?;
        let more = Hyperparameters { reader: self, map: &self.properties["mlm:hyperparameters"] };
        let mut facts = Facts { size_multiple: more.whole(&["size_multiple"], 4096)?, ..Facts::default() };
        facts.activation = match more.named("activation")? {
            Some(told) => Some(told),
            None => after(&output["post_processing_function"])
                .map(|told| Fact::new(told, Source::Card("post_processing_function"))),
        };
        facts.channel_order = more.named("channel_order")?;
        facts.temperature = more.number(&["temperature"], "a number greater than 0", |v| v > 0.0)?;
        let name = output["name"].as_str().filter(|name| names.contains(name));
        facts.output_name = name.map(|name| Fact::new(name.to_string(), Source::Card("mlm:output")));

        let shape = self.shape(input, inputs.first().map_or(&[], |(_, shape)| shape))?;
        facts.layout = shape.layout.map(|layout| Fact::new(layout, Source::Card("dim_order")));
        let bands = self.bands(input)?;
        if let (Some(bands), Some(channels)) = (&bands, shape.channels)
            && bands.len() != channels
        {
            let count = crate::engine::error::count(bands.len(), "band");
            return Err(self.wrong(format!("names {count} ({}) for {channels} channels", bands.join(","))));
        }
        if let (None, Some(bands)) = (&facts.channel_order, &bands) {
            facts.channel_order = order(bands).map(|order| Fact::new(order, Source::Card("bands")));
        }
        let (class_names, colours) = self.classes(output)?.unzip();
        let tile = match more.whole(&["tile_size", "tiles_size"], 1 << 16)? {
            None => shape.side.map(|side| Fact::new(side, Source::Card("shape"))),
            told => told,
        };
        Ok(Card {
            file: self.file.to_path_buf(),
            facts,
            scaling: self.scaling(input, shape.channels.unwrap_or(1)),
            bands: bands.map(|bands| Fact::new(bands, Source::Card("bands"))),
            class_names: class_names.map(|names| Fact::new(names, Source::Card("classification:classes"))),
            colours: colours
                .filter(|colours: &Colours| colours.iter().any(Option::is_some))
                .map(|colours| Fact::new(colours, Source::Card("color_hint"))),
            threshold: more
                .number(&["threshold", "seg_thresh"], "a number from 0 to 1", |v| (0.0..=1.0).contains(&v))?,
            tiling: Tiling {
                tile,
                overlap: more.overlap()?,
                resolution: more.number(&["resolution"], "centimetres per pixel, more than 0", |v| v > 0.0)?,
            },
            tta: more.transforms()?,
        })
    }

    /// The entry of a list that speaks of one of `names`, or the only one; null where there is no list.
    fn entry(&self, key: &'static str, names: &[&str]) -> Result<&'a Value> {
        let list = match &self.properties[key] {
            Value::Null => return Ok(&Value::Null),
            Value::Array(list) if list.iter().all(Value::is_object) => list,
            _ => return Err(self.wrong(format!("{key} is not a list of objects"))),
        };
        let named = |entry: &&Value| entry["name"].as_str().is_some_and(|name| names.contains(&name));
        match (list.iter().find(named), list.as_slice()) {
            (Some(entry), _) => Ok(entry),
            (None, []) => Ok(&Value::Null),
            (None, [only]) => Ok(only),
            (None, _) => Err(self.wrong(format!(
                "{key} has {} entries, and none has the name of the model's ({})",
                list.len(),
                names.join(", ")
            ))),
        }
    }

    /// What the input's structure says, held against the model's own.
    fn shape(&self, input: &Value, port: &[i64]) -> Result<Shape> {
        let structure = &input["input"];
        let whole = |key: &str| structure[key].as_array().map(|list| list.iter().map(Value::as_i64).collect());
        let (Some(Some(shape)), Some(order)): (Option<Option<Vec<i64>>>, _) =
            (whole("shape"), structure["dim_order"].as_array())
        else {
            return match structure {
                Value::Null => Ok(Shape::default()),
                _ => Err(self.wrong("mlm:input has no input.shape and input.dim_order".into())),
            };
        };
        let place = |names: &[&str]| order.iter().position(|dim| dim.as_str().is_some_and(|dim| names.contains(&dim)));
        let channel = place(&["bands", "channel", "channels", "C", "c"]);
        let height = place(&["height", "y", "h", "H"]);
        let width = place(&["width", "x", "w", "W"]);
        let layout = match (order.len(), channel, height, width) {
            (4, Some(1), Some(2), Some(3)) => Layout::Nchw,
            (4, Some(3), Some(1), Some(2)) => Layout::Nhwc,
            _ => {
                return Err(self.wrong(format!(
                    "dim_order is {}; expected batch, bands or channel, height, width, or bands last",
                    structure["dim_order"]
                )));
            }
        };
        let fits = |stated: &i64, own: &i64| *stated < 1 || *own < 1 || stated == own;
        if shape.len() != 4 || (port.len() == 4 && !shape.iter().zip(port).skip(1).all(|(a, b)| fits(a, b))) {
            return Err(self.wrong(format!(
                "shape is {shape:?}, and the model's input is {port:?}: this is the card of another model"
            )));
        }
        let of = |place: Option<usize>| place.and_then(|k| usize::try_from(shape[k]).ok()).filter(|n| *n > 0);
        let side = of(height).filter(|side| of(width) == Some(*side));
        let known = |stated: Option<usize>| stated.or(usize::try_from(*port.get(channel?)?).ok()).filter(|n| *n > 0);
        Ok(Shape { layout: Some(layout), channels: known(of(channel)), side })
    }

    fn bands(&self, input: &Value) -> Result<Option<Vec<String>>> {
        let Some(list) = input["bands"].as_array().filter(|list| !list.is_empty()) else {
            return Ok(None);
        };
        let name = |band: &Value| band.as_str().or(band["name"].as_str()).map(str::to_string);
        let names: Option<Vec<String>> = list.iter().map(name).collect();
        names.map(Some).ok_or_else(|| self.wrong("mlm:input names a band that is no text and has no name".into()))
    }

    fn scaling(&self, input: &Value, channels: usize) -> Result<Option<Scaling>> {
        let wrong = |problem: String| {
            let problem = format!("{problem}; set scale or input-range, mean and std, which replace all of it");
            Error::file("model-card", self.file, problem)
        };
        let computed = input["bands"].as_array().into_iter().flatten().find(|band| !band["expression"].is_null());
        if let Some(band) = computed {
            return Err(wrong(format!(
                "band {} is computed by the expression {}, which is not done here: give the models a raster that has it",
                band["name"], band["expression"]
            )));
        }
        if !input["pre_processing_function"].is_null() {
            let function = &input["pre_processing_function"];
            return Err(wrong(format!("pre_processing_function is {function}, which is not run here")));
        }
        match input.get("value_scaling") {
            // Silence is no statement; the explicit null is.
            None => Ok(None),
            Some(value) => scaling::of_value_scaling(value, channels, Source::Card("value_scaling"))
                .map(Some)
                .map_err(|problem| wrong(format!("value_scaling {problem}"))),
        }
    }

    /// Names and colours of the classes, from value 0 on. Classes that stand for missing data are none.
    fn classes(&self, output: &Value) -> Result<Option<(Vec<String>, Colours)>> {
        // Both spellings are in the extension's own examples.
        let list = match [&output["classification:classes"], &output["classification_classes"]] {
            [Value::Array(list), _] | [_, Value::Array(list)] => list,
            _ => return Ok(None),
        };
        let mut classes = Vec::new();
        for class in list.iter().filter(|class| class["nodata"] != true) {
            let value = class["value"].as_u64();
            let name = class["title"].as_str().or(class["name"].as_str()).unwrap_or_default();
            let value = value.ok_or_else(|| self.wrong(format!("the class {class} has no whole number `value`")))?;
            classes.push((value, name.to_string(), self.colour(class)?));
        }
        classes.sort();
        // A lone class is the one that is looked for.
        if classes.len() == 1 && classes[0].0 <= 1 {
            classes.insert(0, (0, "background".into(), None));
            classes[1].0 = 1;
        }
        if classes.iter().enumerate().any(|(k, (value, ..))| k as u64 != *value) {
            let values: Vec<_> = classes.iter().map(|(value, ..)| value.to_string()).collect();
            return Err(self.wrong(format!(
                "classification:classes have the values {}; expected 0, 1, 2 and so on, one per channel",
                values.join(", ")
            )));
        }
        let (names, colours): (Vec<_>, Vec<_>) = classes.into_iter().map(|(_, name, colour)| (name, colour)).unzip();
        Ok((!names.is_empty()).then_some((names, colours)))
    }

    fn colour(&self, class: &Value) -> Result<Option<[u8; 3]>> {
        let Some(hint) = class["color_hint"].as_str() else {
            return Ok(None);
        };
        let colour = crate::engine::views::hex(hint.strip_prefix('#').unwrap_or(hint));
        colour
            .map(Some)
            .ok_or_else(|| self.wrong(format!("color_hint is `{hint}`; expected six digits such as FF4040")))
    }
}

#[derive(Default)]
struct Shape {
    layout: Option<Layout>,
    channels: Option<usize>,
    /// Of a square input of fixed size.
    side: Option<usize>,
}

/// Red, green and blue in either order, by the common names of STAC or their initials.
fn order(bands: &[String]) -> Option<ChannelOrder> {
    let initials: Vec<char> = bands
        .iter()
        .map(|band| band.to_lowercase())
        .map(|band| match band.as_str() {
            "red" | "r" => 'r',
            "green" | "g" => 'g',
            "blue" | "b" => 'b',
            _ => '?',
        })
        .collect();
    match initials[..] {
        ['r', 'g', 'b'] => Some(ChannelOrder::Rgb),
        ['b', 'g', 'r'] => Some(ChannelOrder::Bgr),
        _ => None,
    }
}

/// The activation that a `post_processing_function` names: the last word of an expression such as
/// `torch.nn.functional.softmax`. What else may follow, an argmax for instance, decides nothing here.
fn after(function: &Value) -> Option<Activation> {
    let of_one = |function: &Value| {
        let text = function["expression"].as_str()?;
        let text = text.split('(').next().unwrap_or_default();
        let word = text.rsplit(['.', ':', '/']).next().unwrap_or_default().trim();
        match word.to_lowercase().as_str() {
            "sigmoid" | "expit" => Some(Activation::Sigmoid),
            "softmax" => Some(Activation::Softmax),
            _ => None,
        }
    };
    match function {
        Value::Array(list) => list.iter().find_map(of_one),
        function => of_one(function),
    }
}

/// `mlm:hyperparameters`: an open object, of which this program knows some keys.
struct Hyperparameters<'a> {
    reader: &'a Reader<'a>,
    map: &'a Value,
}

impl Hyperparameters<'_> {
    fn wrong(&self, key: &str, expected: &str) -> Error {
        self.reader.wrong(format!("mlm:hyperparameters.{key} is {}; expected {expected}", self.map[key]))
    }

    /// The first of these keys that is there.
    fn find(&self, keys: &[&'static str]) -> Option<(&'static str, &Value)> {
        keys.iter().map(|key| (*key, &self.map[*key])).find(|(_, value)| !value.is_null())
    }

    fn number(&self, keys: &[&'static str], expected: &str, suits: fn(f32) -> bool) -> Result<Option<Fact<f32>>> {
        let Some((key, value)) = self.find(keys) else {
            return Ok(None);
        };
        let number = value.as_f64().map(|v| v as f32).filter(|v| v.is_finite() && suits(*v));
        let number = number.ok_or_else(|| self.wrong(key, expected))?;
        Ok(Some(Fact::new(number, Source::Card(key))))
    }

    fn whole(&self, keys: &[&'static str], most: u64) -> Result<Option<Fact<usize>>> {
        let Some((key, value)) = self.find(keys) else {
            return Ok(None);
        };
        let number = value.as_u64().filter(|n| (1..=most).contains(n));
        let number = number.ok_or_else(|| self.wrong(key, &format!("a whole number from 1 to {most}")))?;
        Ok(Some(Fact::new(number as usize, Source::Card(key))))
    }

    fn named<T: crate::engine::settings::Named>(&self, key: &'static str) -> Result<Option<Fact<T>>> {
        let Some((_, value)) = self.find(&[key]) else {
            return Ok(None);
        };
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        let found = value.as_str().and_then(|text| T::parse(key, text).ok());
        let found = found.ok_or_else(|| self.wrong(key, &format!("one of {}", names.join(", "))))?;
        Ok(Some(Fact::new(found, Source::Card(key))))
    }

    /// `overlap` of neighbouring tiles or `halo` around each in pixels, or `tiles_overlap` in percent.
    fn overlap(&self) -> Result<Option<Fact<Overlap>>> {
        for (key, times) in [("overlap", 1), ("halo", 2)] {
            if let Some((_, value)) = self.find(&[key]) {
                let pixels = value.as_u64().filter(|n| *n <= 1 << 15);
                let pixels = pixels.ok_or_else(|| self.wrong(key, "a whole number of pixels from 0 to 32768"))?;
                return Ok(Some(Fact::new(Overlap::Pixels(pixels as usize * times), Source::Card(key))));
            }
        }
        let percent = self.number(&["tiles_overlap"], "a percentage from 0 to 50", |v| (0.0..=50.0).contains(&v))?;
        Ok(percent.map(|told| Fact::new(Overlap::Percent(told.value), told.source)))
    }

    /// `tta` as the setting has it, or a list of the same names.
    fn transforms(&self) -> Result<Option<Fact<Vec<tta::Transform>>>> {
        let Some((key, value)) = self.find(&["tta"]) else {
            return Ok(None);
        };
        let text = match value {
            Value::String(text) => Some(text.clone()),
            Value::Array(list) => {
                let names: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                names.map(|names| names.join(","))
            }
            _ => None,
        };
        let text = text.ok_or_else(|| self.wrong(key, "a text or a list of texts, as the setting tta has it"))?;
        let transforms = tta::parse(&text).map_err(|e| self.reader.wrong(format!("mlm:hyperparameters.{e}")))?;
        Ok(Some(Fact::new(transforms, Source::Card(key))))
    }
}
