//! What the STAC items of models and of rasters have in common. What such an item says is not here.

use std::time::SystemTime;

use serde_json::{Value, json};

/// A moment as RFC 3339 has it, in whole seconds of UTC. Before 1970 it is 1970.
pub fn rfc3339(time: SystemTime) -> String {
    utc(time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64), "")
}

/// Seconds since 1970 as RFC 3339 has them, with a fraction as text.
fn utc(seconds: i64, fraction: &str) -> String {
    let (days, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    // The civil calendar from days since 1970, counted in eras of 400 years that begin in March (Hinnant, "chrono-Compatible
    // Low-Level Date Algorithms").
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (date, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{:02}{fraction}Z", second % 60)
}

/// A moment as image files and STAC items tell it, `2019:05:28 10:11:12` and `2019-05-28T10:11:12.5+02:00` among them, as RFC 3339
/// has it in UTC; without a zone it is taken to be UTC. `None` of what is no moment, such as TIFF's `0000:00:00 00:00:00`.
pub fn moment(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let separator = |k: usize, known: &[u8]| bytes.get(k).filter(|byte| known.contains(byte)).map(|_| ());
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<i64>().ok()
    };
    for (k, known) in [(4, ":-"), (7, ":-"), (10, " Tt"), (13, ":"), (16, ":")] {
        separator(k, known.as_bytes())?;
    }
    let (year, month, date) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_one = (1..=12).contains(&month) && (1..=length).contains(&date) && hour < 24 && minute < 60 && second < 60;
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').map_or(0, |rest| 1 + rest.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, zone) = rest.split_at(digits);
    let offset = match zone.as_bytes() {
        b"" | b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, m1, m2] | [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let two =
                |a: &u8, b: &u8| Some(i64::from(char::from(*a).to_digit(10)? * 10 + char::from(*b).to_digit(10)?));
            let minutes = two(h1, h2)? * 60 + two(m1, m2)?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    if !is_one || fraction == "." {
        return None;
    }
    // As in `utc`, the other way.
    let (shifted, of_year) = (year - i64::from(month <= 2), (153 * ((month + 9) % 12) + 2) / 5 + date - 1);
    let (era, year) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let days = era * 146_097 + year * 365 + year / 4 - year / 100 + of_year - 719_468;
    Some(utc(days * 86400 + (hour * 60 + minute - offset) * 60 + second, fraction))
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
    fn moments_are_read_as_files_tell_them() {
        for (text, expected) in [
            ("2019:05:28 10:11:12", "2019-05-28T10:11:12Z"),
            ("2019-05-28 10:11:12", "2019-05-28T10:11:12Z"),
            ("2019-05-28T10:11:12.250Z", "2019-05-28T10:11:12.250Z"),
            ("2019:05:28 00:11:12+02:00", "2019-05-27T22:11:12Z"),
            ("2019-12-31T20:00:00-0430", "2020-01-01T00:30:00Z"),
            ("1944-02-29 23:59:59", "1944-02-29T23:59:59Z"),
            ("2100:03:01 00:00:00", "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(moment(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "0000:00:00 00:00:00",
            "2019-02-29 10:11:12",
            "2019-05-28",
            "2019-05-28 10:11:12.",
            "2019-05-28 24:00:00",
            "2019-05-28 10:11:12 CEST",
            "2019-05-28 10:11:1é",
            "+019-05-28 10:11:12",
        ] {
            assert_eq!(moment(text), None, "{text}");
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
