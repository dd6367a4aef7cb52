//! The page itself: HTML from what has been counted and drawn. Every text that comes from outside is escaped here.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::areas::{ClassArea, MaskAreas};
use super::{Run, name};

const STYLE: &str = include_str!("page.css");

/// Moves the edge between a picture and its mask.
const SCRIPT: &str = "for(const c of document.querySelectorAll('.compare input'))\
    c.addEventListener('input',()=>c.parentElement.style.setProperty('--at',c.value+'%'));";

/// Dark blue to yellow (viridis, CC0), for probabilities.
pub const PROBABILITY: &[[u8; 3]] = &[[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
/// Black over purple to light yellow (magma, CC0), for uncertainties.
pub const UNCERTAINTY: &[[u8; 3]] = &[[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];

/// Pictures of one input.
#[derive(Default)]
pub struct Pictures {
    pub size: (usize, usize),
    pub image: Option<Vec<u8>>,
    pub mask: Option<Vec<u8>>,
    pub probability: Option<(Vec<u8>, (usize, usize))>,
    pub uncertainty: Option<(Vec<u8>, (usize, usize))>,
    /// Metres that the picture's width covers.
    pub metres: Option<f64>,
}

/// What is shown of one input.
pub struct Shown {
    pub name: String,
    pub areas: Option<MaskAreas>,
    pub pictures: Option<Pictures>,
}

/// A text inside HTML, also inside an attribute.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Not allowed in HTML, not even escaped.
            c if c.is_control() && !c.is_whitespace() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A whole number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (k, digit) in digits.chars().enumerate() {
        if k > 0 && (digits.len() - k).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Three digits that count, never fewer than those of the whole number.
fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => grouped(v.round() as u64),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// An area in the unit that people use at its size.
pub fn ground(square_metres: f64) -> String {
    match square_metres {
        a if a >= 1e6 => format!("{} km²", digits(a / 1e6)),
        a if a >= 1e4 => format!("{} ha", digits(a / 1e4)),
        a => format!("{} m²", digits(a)),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 3600.0 => format!("{} h {:02} min", (s / 3600.0) as u64, (s % 3600.0 / 60.0) as u64),
        s if s >= 60.0 => format!("{} min {:02} s", (s / 60.0) as u64, (s % 60.0) as u64),
        s => format!("{} s", digits(s)),
    }
}

/// The share as percent; a share that is not 0 does not look like it.
fn percent(part: f64, whole: f64) -> String {
    match part / whole.max(f64::MIN_POSITIVE) * 100.0 {
        p if p > 0.0 && p < 0.01 => "&lt; 0.01".into(),
        p => format!("{p:.2}"),
    }
}

/// The page.
pub fn html(run: &Run<'_>, shown: &[Shown], all: &MaskAreas, warnings: &[String], written: &str) -> String {
    let mut page = String::new();
    let title = match run.inputs {
        [] => "A run".to_string(),
        [only] => name(only.image),
        inputs => format!("{} and {} more", name(inputs[0].image), inputs.len() - 1),
    };
    let title = escape(&title);
    put(
        &mut page,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title} · onnxsegment</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n<p>Segmentation report, {}</p>\n</header>\n",
            escape(written)
        ),
    );
    tiles(&mut page, run, all);
    if !warnings.is_empty() {
        page.push_str("<ul class=\"warnings\">\n");
        warnings.iter().for_each(|w| put(&mut page, format_args!("<li>{}</li>\n", escape(w))));
        page.push_str("</ul>\n");
    }
    let drawn: Vec<&Shown> = shown.iter().filter(|s| s.pictures.is_some()).collect();
    if !drawn.is_empty() {
        page.push_str("<h2>Result</h2>\n");
        for (k, input) in drawn.iter().enumerate() {
            if shown.len() > 1 {
                put(&mut page, format_args!("<h3>{}</h3>\n", escape(&input.name)));
            }
            if let Some(of_input) = &input.pictures {
                pictures(&mut page, of_input, k);
            }
        }
        let hidden = shown.len() - drawn.len();
        if hidden > 0 {
            put(
                &mut page,
                format_args!("<p class=\"note\">{} of {} inputs are shown.</p>\n", drawn.len(), shown.len()),
            );
        }
    }
    if !all.classes.is_empty() {
        page.push_str("<h2>Classes</h2>\n");
        classes(&mut page, all);
    }
    if shown.len() > 1 {
        page.push_str("<h2>Inputs</h2>\n");
        inputs(&mut page, shown, &all.classes);
    }
    details(&mut page, run);
    put(
        &mut page,
        format_args!(
            "<footer>onnxsegment {}</footer>\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
            escape(env!("CARGO_PKG_VERSION"))
        ),
    );
    page
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    // A String takes everything.
    let _ = page.write_fmt(text);
}

/// The figures on top.
fn tiles(page: &mut String, run: &Run<'_>, all: &MaskAreas) {
    let mut tiles: Vec<(String, &str)> = Vec::new();
    let pixels = run.pixels.unwrap_or(all.pixels() + all.nodata);
    if pixels > 0 {
        tiles.push((format!("{} MP", digits(pixels as f64 / 1e6)), "megapixels"));
    }
    let areas: Option<f64> = all.classes.iter().map(|class| class.area).sum();
    if let Some(area) = areas.filter(|area| *area > 0.0) {
        tiles.push((ground(area), "on the ground, with data"));
    }
    if let Some(seconds) = run.seconds.filter(|s| *s > 0.0) {
        tiles.push((duration(seconds), "time"));
        tiles.push((digits(pixels as f64 / 1e6 / seconds), "megapixels per second"));
        if let Some(frames) = run.frames {
            tiles.push((digits(frames as f64 / seconds), "frames per second"));
        }
    }
    if let Some(frames) = run.frames {
        tiles.push((grouped(frames), "frames or tiles"));
    }
    if let Some(skipped) = run.skipped.filter(|n| *n > 0) {
        tiles.push((grouped(skipped), "tiles without data, skipped"));
    }
    if let Some(passes) = run.passes {
        tiles.push((grouped(passes), "passes run"));
        if let Some(saved) = run.saved.filter(|n| *n > 0) {
            let share = saved as f64 / (saved + passes) as f64 * 100.0;
            tiles.push((format!("{share:.1} %"), "of all passes saved"));
        }
    }
    if let Some(provider) = run.provider {
        tiles.push((escape(provider), "execution provider"));
    }
    if tiles.is_empty() {
        return;
    }
    page.push_str("<section class=\"tiles\">\n");
    for (figure, what) in tiles {
        put(page, format_args!("<div class=\"tile\"><b>{figure}</b><span>{what}</span></div>\n"));
    }
    page.push_str("</section>\n");
}

fn data(kind: &str, bytes: &[u8]) -> String {
    format!("data:image/{kind};base64,{}", STANDARD.encode(bytes))
}

fn pictures(page: &mut String, pictures: &Pictures, number: usize) {
    let (w, h) = pictures.size;
    let svg = |content: &str, label: &str| {
        format!("<svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{label}\">{content}</svg>")
    };
    let image = |id: &str, kind: &str, bytes: &[u8], more: &str| {
        let data = data(kind, bytes);
        format!("<image{id} width=\"{w}\" height=\"{h}\" preserveAspectRatio=\"none\"{more} href=\"{data}\"/>")
    };
    let over = pictures
        .mask
        .as_ref()
        .map(|mask| image("", "png", mask, " opacity=\"0.6\" style=\"image-rendering:pixelated\""));
    match (&pictures.image, &over) {
        (Some(photograph), Some(over)) => {
            let id = format!(" id=\"image{number}\"");
            let scale = pictures.metres.and_then(scale_bar).unwrap_or_default();
            put(
                page,
                format_args!(
                    "<div class=\"compare\">\n<figure class=\"before\">{}<figcaption>image</figcaption></figure>\n\
                 <figure class=\"after\">{}<figcaption>mask over image</figcaption></figure>\n<div class=\"edge\"></div>{scale}\n\
                 <input type=\"range\" min=\"0\" max=\"100\" value=\"50\" step=\"0.1\" aria-label=\"where the image ends and the mask begins\">\n</div>\n",
                    svg(&image(&id, "jpeg", photograph, ""), "image"),
                    svg(&format!("<use href=\"#image{number}\"/>{over}"), "mask over image"),
                ),
            );
        }
        (Some(alone), None) => put(
            page,
            format_args!(
                "<div class=\"compare\"><figure class=\"before\">{}<figcaption>image</figcaption></figure></div>\n",
                svg(&image("", "jpeg", alone, ""), "image")
            ),
        ),
        (None, Some(over)) => put(
            page,
            format_args!(
                "<div class=\"compare\"><figure class=\"before\">{}<figcaption>mask</figcaption></figure></div>\n",
                svg(over, "mask")
            ),
        ),
        (None, None) => {}
    }
    let shares = [
        (&pictures.probability, "probability", "0", "1", PROBABILITY),
        (&pictures.uncertainty, "uncertainty", "sure", "unsure", UNCERTAINTY),
    ];
    let shares: Vec<_> = shares
        .into_iter()
        .filter_map(|(p, what, low, high, ramp)| p.as_ref().map(|p| (p, what, low, high, ramp)))
        .collect();
    if shares.is_empty() {
        return;
    }
    page.push_str("<div class=\"pictures\">\n");
    for ((bytes, (w, h)), what, low, high, ramp) in shares {
        let colours: Vec<String> = ramp.iter().map(|[r, g, b]| format!("rgb({r} {g} {b})")).collect();
        put(
            page,
            format_args!(
                "<figure><svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{what}\">\
             <image width=\"{w}\" height=\"{h}\" href=\"{}\"/></svg><figcaption>{what}<div class=\"ramp\">{low}\
             <i style=\"background:linear-gradient(to right,{})\"></i>{high}</div></figcaption></figure>\n",
                data("png", bytes),
                colours.join(",")
            ),
        );
    }
    page.push_str("</div>\n");
}

/// A bar of a round number of metres, at most a quarter of the picture.
fn scale_bar(width: f64) -> Option<String> {
    let most = width / 4.0;
    let power = 10f64.powf(most.log10().floor());
    let length = [5.0, 2.0, 1.0].into_iter().map(|n| n * power).find(|length| *length <= most)?;
    let text = match length {
        l if l >= 1000.0 => format!("{} km", l / 1000.0),
        l if l >= 1.0 => format!("{l} m"),
        l => format!("{} cm", (l * 100.0).round()),
    };
    Some(format!("<div class=\"scale\" style=\"width:{:.3}%\">{text}</div>", length / width * 100.0))
}

fn swatch(class: &ClassArea) -> String {
    let paint = class.colour.map(|[r, g, b]| format!("background:#{r:02x}{g:02x}{b:02x}")).unwrap_or_default();
    format!("<span class=\"swatch\" style=\"{paint}\"></span>")
}

fn classes(page: &mut String, all: &MaskAreas) {
    let pixels = all.pixels();
    let placed = all.classes.iter().any(|class| class.area.is_some());
    let area_head = if placed { "<th class=\"n\">m²</th><th class=\"n\">area</th>" } else { "" };
    put(
        page,
        format_args!(
            "<div class=\"scroll\"><table>\n<thead><tr><th>class</th><th class=\"n\">value</th><th class=\"n\">pixels</th>\
         {area_head}<th class=\"n\">%</th><th></th></tr></thead>\n<tbody>\n"
        ),
    );
    let area = |area: Option<f64>| match area {
        Some(a) => format!("<td class=\"n\">{}</td><td class=\"n\">{}</td>", square_metres(a), ground(a)),
        None if placed => "<td class=\"n\">–</td><td class=\"n\">–</td>".into(),
        None => String::new(),
    };
    for class in &all.classes {
        let share = class.pixels as f64 / pixels.max(1) as f64 * 100.0;
        put(
            page,
            format_args!(
                "<tr><td class=\"wide\">{}{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>{}<td class=\"n\">{}</td>\
             <td><span class=\"bar\"><i style=\"width:{share:.2}%\"></i></span></td></tr>\n",
                swatch(class),
                escape(&class.name),
                class.value,
                grouped(class.pixels),
                area(class.area),
                percent(class.pixels as f64, pixels as f64)
            ),
        );
    }
    let sum: Option<f64> = all.classes.iter().map(|class| class.area).sum();
    put(
        page,
        format_args!(
            "<tr class=\"all\"><td>all with data</td><td></td><td class=\"n\">{}</td>{}<td class=\"n\">100.00</td><td></td></tr>\n",
            grouped(pixels),
            area(sum)
        ),
    );
    if all.nodata > 0 {
        put(
            page,
            format_args!(
                "<tr class=\"none\"><td>no data</td><td></td><td class=\"n\">{}</td>{}<td></td><td></td></tr>\n",
                grouped(all.nodata),
                area(None)
            ),
        );
    }
    page.push_str("</tbody></table></div>\n");
    page.push_str(match placed {
        true => "<p class=\"note\">Every pixel is counted. Areas are those of the pixels on the ellipsoid of WGS 84. Percent are of pixels with data.</p>\n",
        false => "<p class=\"note\">Every pixel is counted. The mask does not say where it lies, so there are no areas. Percent are of pixels with data.</p>\n",
    });
}

fn square_metres(area: f64) -> String {
    match area {
        a if a >= 100.0 => grouped(a.round() as u64),
        a => format!("{a:.2}"),
    }
}

/// A row for each input, with the share of each class.
fn inputs(page: &mut String, shown: &[Shown], classes: &[ClassArea]) {
    // More columns than a page is wide help nobody.
    let classes = &classes[..classes.len().min(12)];
    page.push_str("<div class=\"scroll\"><table>\n<thead><tr><th>input</th><th class=\"n\">size</th>");
    for class in classes {
        put(page, format_args!("<th class=\"n\">{}{} %</th>", swatch(class), escape(&class.name)));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for input in shown {
        put(page, format_args!("<tr><td class=\"wide\">{}</td>", escape(&input.name)));
        match &input.areas {
            Some(areas) => {
                put(page, format_args!("<td class=\"n\">{} × {}</td>", areas.width, areas.height));
                for class in classes {
                    let own = areas.classes.iter().find(|own| own.value == class.value).map_or(0, |own| own.pixels);
                    put(page, format_args!("<td class=\"n\">{}</td>", percent(own as f64, areas.pixels() as f64)));
                }
            }
            None => put(page, format_args!("<td class=\"n\" colspan=\"{}\">–</td>", classes.len() + 1)),
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

/// What made the result.
fn details(page: &mut String, run: &Run<'_>) {
    if !run.models.is_empty() {
        page.push_str("<h2>Models</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>file</th><th class=\"n\">weight</th><th>SHA-256</th></tr></thead>\n<tbody>\n");
        for model in run.models {
            put(
                page,
                format_args!(
                    "<tr><td class=\"wide\">{}</td><td class=\"n\">{}</td><td class=\"wide\"><code>{}</code></td></tr>\n",
                    escape(&model.file),
                    escape(&model.weight),
                    escape(&model.sha256)
                ),
            );
        }
        page.push_str("</tbody></table></div>\n");
    }
    if !run.settings.is_empty() {
        page.push_str("<h2>Settings</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>setting</th><th>value</th><th>from</th></tr></thead>\n<tbody>\n");
        for setting in run.settings {
            put(
                page,
                format_args!(
                    "<tr><td>{}</td><td class=\"wide\"><code>{}</code></td><td>{}</td></tr>\n",
                    escape(&setting.name),
                    escape(&setting.value),
                    escape(&setting.from)
                ),
            );
        }
        page.push_str("</tbody></table></div>\n");
    }
    if !run.command.is_empty() {
        put(page, format_args!("<h2>Command</h2>\n<pre>{}</pre>\n", escape(run.command)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(escape("<b a=\"1\" b='2'>&\u{0}"), "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;\u{fffd}");
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(grouped(1234567).replace('\u{202f}', " "), "1 234 567");
        assert_eq!((grouped(0), grouped(999)), ("0".into(), "999".into()));
        assert_eq!(
            (ground(3.456), ground(25_000.0), ground(2.5e6)),
            ("3.46 m²".into(), "2.50 ha".into(), "2.50 km²".into())
        );
        assert_eq!(
            (percent(1.0, 1e9), percent(0.0, 5.0), percent(1.0, 3.0)),
            ("&lt; 0.01".into(), "0.00".into(), "33.33".into())
        );
        assert_eq!(
            (duration(3725.0), duration(61.0), duration(1.5)),
            ("1 h 02 min".into(), "1 min 01 s".into(), "1.50 s".into())
        );
    }

    #[test]
    fn scale_bars_are_round_and_short() {
        let bar = scale_bar(450.0).unwrap();
        assert!(bar.contains("100 m") && bar.contains("22.222%"), "{bar}");
        assert!(scale_bar(60_000.0).unwrap().contains("10 km"));
        assert!(scale_bar(1.0).unwrap().contains("20 cm"));
    }
}
