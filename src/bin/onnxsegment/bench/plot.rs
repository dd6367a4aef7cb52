//! Speed by tile size, as a picture.

use std::collections::BTreeMap;

use anyhow::Result;
use plotters::prelude::*;

use super::Row;
use crate::plot::{self, Area, BLUE, Drawn, FAMILY, GREY, ORANGE};

const COLOURS: [RGBColor; 4] = [BLUE, ORANGE, RGBColor(20, 130, 60), RGBColor(130, 60, 160)];

/// The picture as PNG.
pub fn draw(rows: &[Row]) -> Result<Vec<u8>> {
    plot::draw(|area| paint(area, rows))
}

fn paint(area: &Area<'_>, rows: &[Row]) -> Drawn {
    area.fill(&WHITE)?;
    let side = |row: &Row| ((row.width * row.height) as f64).sqrt();
    let most = rows.iter().map(|row| row.element.most.max(row.plain.most)).fold(0.0, f64::max);
    let (small, large) = rows.iter().map(side).fold((f64::MAX, 0.0_f64), |(a, b), s| (a.min(s), b.max(s)));
    // A logarithm's own marks are powers of ten, of which there may be none.
    let mut sides: Vec<f64> = rows.iter().map(side).collect();
    sides.sort_by(f64::total_cmp);
    sides.dedup();
    let text = |size: u32| (FAMILY, size).into_font();
    let mut chart = ChartBuilder::on(area)
        .caption("Millions of pixels a second, beside plain ONNX Runtime", text(24))
        .margin(16)
        .margin_right(32)
        .x_label_area_size(56)
        .y_label_area_size(76)
        .build_cartesian_2d((small / 1.2..large * 1.2).log_scale().with_key_points(sides), 0.0..most * 1.1)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("side of a frame, pixels").y_desc("million pixels per second");
    mesh.axis_desc_style(text(20)).label_style(text(18)).light_line_style(WHITE);
    mesh.x_label_formatter(&|side| format!("{side:.0}")).draw()?;

    let mut lines: BTreeMap<(u32, u32), Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| lines.entry((row.threads, row.batch_size)).or_default().push(row));
    for (k, ((threads, batch), rows)) in lines.into_iter().enumerate() {
        let colour = COLOURS[k % COLOURS.len()];
        let plain = rows.iter().map(|row| (side(row), row.plain.median));
        chart
            .draw_series(DashedLineSeries::new(plain, 8, 6, GREY.stroke_width(2)))?
            .label(format!("plain, threads {threads}, batch {batch}"))
            .legend(|(x, y)| PathElement::new([(x, y), (x + 24, y)], GREY.stroke_width(2)));
        chart
            .draw_series(LineSeries::new(
                rows.iter().map(|row| (side(row), row.element.median)),
                colour.stroke_width(3),
            ))?
            .label(format!("onnxsegment, threads {threads}, batch {batch}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(3)));
        chart.draw_series(rows.iter().map(|row| {
            let s = row.element;
            ErrorBar::new_vertical(side(row), s.least, s.median, s.most, colour.filled(), 10)
        }))?;
    }
    let labels = chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).label_font(text(18)).draw();
    Ok(labels.map_err(|e| format!("{e}"))?)
}
