//! What pictures of measurements share: the font, the size, the colours, the PNG.

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

/// No font has to be installed.
const FONT: &[u8] = include_bytes!("fonts/DejaVuSans-subset.ttf");
pub const FAMILY: &str = "sans-serif";
pub const SIZE: (u32, u32) = (1200, 800);
/// Pixels per metre of a screen of 96 dots per inch.
const DOTS: u32 = 3780;

pub const GREY: RGBColor = RGBColor(170, 170, 170);
pub const BLUE: RGBColor = RGBColor(0, 90, 170);
pub const ORANGE: RGBColor = RGBColor(214, 96, 0);

pub type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;
pub type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A picture of [`SIZE`] as PNG.
pub fn draw(paint: impl FnOnce(&Area<'_>) -> Drawn) -> Result<Vec<u8>> {
    // Registering it again changes nothing.
    plotters::style::register_font(FAMILY, FontStyle::Normal, FONT)
        .map_err(|_| anyhow!("the built-in font cannot be read"))?;
    let mut pixels = vec![0; 3 * (SIZE.0 * SIZE.1) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
        // Everything is drawn in memory; what can fail is the font.
        paint(&area).map_err(|e| anyhow!("the plot cannot be drawn: {e}"))?;
        area.present().map_err(|e| anyhow!("the plot cannot be drawn: {e}"))?;
    }
    encode(&pixels).context("the plot cannot be encoded")
}

fn encode(pixels: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: DOTS, yppu: DOTS, unit: png::Unit::Meter }));
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}
