//! What the STAC items of models and of rasters have in common. What such an item says is not here.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

/// A moment as RFC 3339 has it, in whole seconds of UTC.
pub fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A class as the classification extension has it.
pub fn class(value: u16, name: &str, colour: Option<[u8; 3]>) -> Value {
    let mut said = json!({"value": value, "name": slug(name, value), "title": name});
    if let Some([r, g, b]) = colour {
        said["color_hint"] = format!("{r:02X}{g:02X}{b:02X}").into();
    }
    said
}

/// A name of letters, digits, `-` and `_`, as the classification extension wants it.
fn slug(name: &str, value: u16) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let slug: String = name.chars().map(|c| if fits(c) { c } else { '-' }).collect();
    if slug.chars().any(|c| c.is_ascii_alphanumeric()) { slug } else { format!("class-{value}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        // date -u -d @N +%FT%TZ
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn names_of_classes_are_as_the_extension_wants_them() {
        assert_eq!(slug("building_2-a", 1), "building_2-a");
        assert_eq!(slug("farmer's field", 1), "farmer-s-field");
        assert_eq!(slug("水", 3), "class-3");
        assert_eq!(slug("", 0), "class-0");
    }
}
