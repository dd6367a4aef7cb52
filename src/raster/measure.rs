//! Areas and lengths as users write them, in pixels or on the ground.

use std::fmt;
use std::str::FromStr;

/// An area: `50` pixels, or `30m2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Area {
    Pixels(u64),
    SquareMetres(f64),
}

impl FromStr for Area {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let metres = text.strip_suffix("m2").or(text.strip_suffix("m²")).map(|number| number.trim().parse::<f64>());
        match (metres, text.parse()) {
            (Some(Ok(metres)), _) if metres.is_finite() && metres >= 0.0 => Ok(Area::SquareMetres(metres)),
            (None, Ok(pixels)) => Ok(Area::Pixels(pixels)),
            _ => Err("use a whole number of pixels, such as 50, or square metres, such as 30m2".into()),
        }
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Area::Pixels(pixels) => write!(f, "{pixels}"),
            Area::SquareMetres(metres) => write!(f, "{metres}m2"),
        }
    }
}

/// A length: `1.5` or `1.5px`, or `0.8m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    Pixels(f64),
    Metres(f64),
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let length = match (text.strip_suffix("px"), text.strip_suffix('m')) {
            (Some(pixels), _) => number(pixels).map(Length::Pixels),
            (_, Some(metres)) => number(metres).map(Length::Metres),
            _ => number(text).map(Length::Pixels),
        };
        length.ok_or_else(|| "use pixels, such as 1.5, or metres, such as 0.8m".into())
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Length::Pixels(pixels) => write!(f, "{pixels}px"),
            Length::Metres(metres) => write!(f, "{metres}m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_pixels_or_square_metres() {
        for (text, area) in [
            ("0", Area::Pixels(0)),
            (" 50 ", Area::Pixels(50)),
            ("30m2", Area::SquareMetres(30.0)),
            ("1.5 m²", Area::SquareMetres(1.5)),
        ] {
            assert_eq!(text.parse(), Ok(area), "{text}");
        }
        for wrong in ["", "-1", "3.5", "m2", "infm2", "-1m2", "5 ha"] {
            assert!(wrong.parse::<Area>().unwrap_err().contains("such as 30m2"), "{wrong}");
        }
    }

    #[test]
    fn lengths_are_pixels_or_metres() {
        for (text, length) in
            [("1.5", Length::Pixels(1.5)), ("2px", Length::Pixels(2.0)), (" 0.8 m", Length::Metres(0.8))]
        {
            assert_eq!(text.parse(), Ok(length), "{text}");
        }
        for wrong in ["", "-1", "m", "px", "nan", "1cm", "1m2"] {
            assert!(wrong.parse::<Length>().unwrap_err().contains("such as 0.8m"), "{wrong}");
        }
    }
}
