//! A selection as a picture: quality, with its interval, against cost.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use gstonnxsegment::engine::select::{Cost, Row, Selection, Study};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{listed, members, table};

/// No font has to be installed.
const FONT: &[u8] = include_bytes!("../fonts/DejaVuSans-subset.ttf");
const FAMILY: &str = "sans-serif";
const SIZE: (u32, u32) = (1200, 800);
/// Pixels per metre of a screen of 96 dots per inch.
const DOTS: u32 = 3780;

const GREY: RGBColor = RGBColor(170, 170, 170);
const BLUE: RGBColor = RGBColor(0, 90, 170);
const ORANGE: RGBColor = RGBColor(214, 96, 0);

/// Where a row stands on the axis of costs.
struct Places {
    /// Passes are few different numbers: each has a column of its own.
    columns: Option<BTreeMap<u64, usize>>,
    most: f64,
}

impl Places {
    fn new(study: &Study, rows: &[Row]) -> Self {
        let columns = (study.options().cost == Cost::Passes).then(|| {
            let mut costs: Vec<u64> = rows.iter().map(|row| row.cost as u64).collect();
            costs.sort_unstable();
            costs.dedup();
            costs.into_iter().enumerate().map(|(k, cost)| (cost, k)).collect::<BTreeMap<_, _>>()
        });
        Places { columns, most: rows.iter().map(|row| row.cost).fold(0.0, f64::max) }
    }

    fn of(&self, row: &Row) -> f64 {
        match &self.columns {
            Some(columns) => columns.get(&(row.cost as u64)).map_or(0.0, |k| *k as f64),
            None => row.cost,
        }
    }

    /// Both ends of the axis.
    fn range(&self) -> (f64, f64) {
        match &self.columns {
            Some(columns) => (-0.5, columns.len() as f64 - 0.5),
            None => (0.0, self.most * 1.05),
        }
    }

    fn label(&self, at: f64) -> String {
        match &self.columns {
            Some(columns) => {
                let column = columns.iter().find(|(_, k)| **k as f64 == at);
                column.map_or(String::new(), |(cost, _)| cost.to_string())
            }
            None => format!("{at:.2}"),
        }
    }
}

/// The picture as PNG.
pub fn draw(study: &Study, selection: &Selection) -> Result<Vec<u8>> {
    // Registering it again changes nothing.
    plotters::style::register_font(FAMILY, FontStyle::Normal, FONT)
        .map_err(|_| anyhow!("the built-in font cannot be read"))?;
    let mut pixels = vec![0; 3 * (SIZE.0 * SIZE.1) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
        // Everything is drawn in memory; what can fail is the font.
        paint(&area, study, selection).map_err(|e| anyhow!("the plot cannot be drawn: {e}"))?;
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

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn paint(area: &Area<'_>, study: &Study, selection: &Selection) -> Drawn {
    area.fill(&WHITE)?;
    let rows = &selection.rows;
    let places = Places::new(study, rows);
    let with_bars = with_bars(selection);
    let bar = |k: &usize| rows[*k].intervals.map(|(interval, _)| interval);
    let ends = || rows.iter().map(|row| (row.iou, row.iou)).chain(with_bars.iter().filter_map(bar));
    let low = ends().map(|end| end.0).fold(1.0, f64::min);
    let high = ends().map(|end| end.1).fold(0.0, f64::max);
    let margin = ((high - low) * 0.06).max(0.005);
    let (left, right) = places.range();

    let chosen = &rows[selection.chosen];
    let title = format!("Recommended: {}, {}", members(study, &chosen.candidate.members), chosen.candidate.words());
    let text = |size: u32| (FAMILY, size).into_font();
    let mut chart = ChartBuilder::on(area)
        .caption(title, text(24))
        .margin(16)
        .x_label_area_size(56)
        .y_label_area_size(76)
        .build_cartesian_2d(left..right, (low - margin).max(0.0)..(high + margin).min(1.0))?;
    let cost = match study.options().cost {
        Cost::Passes => "passes per frame",
        Cost::Seconds => "seconds per megapixel",
    };
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(cost).y_desc(table::measure(study)).axis_desc_style(text(20)).label_style(text(18));
    mesh.y_label_formatter(&|iou| format!("{iou:.2}")).light_line_style(WHITE);
    let label = |at: &f64| places.label(*at);
    mesh.x_label_formatter(&label);
    match &places.columns {
        // Columns are labelled below, one by one.
        Some(_) => mesh.disable_x_mesh().x_labels(0),
        None => mesh.x_labels(10),
    };
    mesh.draw()?;
    if let Some(columns) = &places.columns {
        let style = text(18).color(&BLACK).pos(Pos::new(HPos::Center, VPos::Top));
        let bottom = chart.y_range().start;
        for (cost, k) in columns {
            let (x, y) = chart.backend_coord(&(*k as f64, bottom));
            area.draw_text(&cost.to_string(), &style, (x, y + 8))?;
        }
    }

    let best = &rows[selection.best];
    if let Some((interval, _)) = best.intervals {
        let line = DashedLineSeries::new([(left, interval.0), (right, interval.0)], 8, 6, BLACK.into());
        chart
            .draw_series(line)?
            .label("lower end of the best one's interval")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 24, y)], BLACK));
    }
    let dots = rows.iter().map(|row| Circle::new((places.of(row), row.iou), 3, GREY.filled()));
    chart.draw_series(dots)?.label(format!("all {} candidates", rows.len())).legend(legend(GREY));

    // Bars of one cost stand side by side.
    let mut beside: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    with_bars.iter().for_each(|k| beside.entry(rows[*k].cost.to_bits()).or_default().push(*k));
    let spread = if places.columns.is_some() { 0.7 } else { 0.0 };
    for (colour, is_chosen, name) in
        [(BLUE, false, "best of each cost, and single models"), (ORANGE, true, "recommended")]
    {
        let mut elements = Vec::new();
        for group in beside.values() {
            for (n, k) in group.iter().enumerate().filter(|(_, k)| (**k == selection.chosen) == is_chosen) {
                let step = spread / group.len() as f64;
                let x = places.of(&rows[*k]) + (n as f64 - (group.len() - 1) as f64 / 2.0) * step;
                let (low, high) = bar(k).unwrap_or((rows[*k].iou, rows[*k].iou));
                elements.push(ErrorBar::new_vertical(x, low, rows[*k].iou, high, colour.filled().stroke_width(2), 10));
            }
        }
        chart.draw_series(elements)?.label(name).legend(legend(colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(GREY)
        .label_font(text(18))
        .margin(12)
        .draw()?;
    Ok(())
}

fn legend(colour: RGBColor) -> impl Fn((i32, i32)) -> Circle<(i32, i32), i32> {
    move |(x, y)| Circle::new((x + 12, y), 5, colour.filled())
}

/// Rows that are drawn with their interval: single models, the best of each cost that no cheaper one beats, and the recommended.
fn with_bars(selection: &Selection) -> Vec<usize> {
    let rows = &selection.rows;
    let beaten = |k: &usize| rows.iter().any(|other| other.cost <= rows[*k].cost && other.iou > rows[*k].iou);
    let single = |k: &usize| rows[*k].candidate.passes() == 1;
    let worth = |k: &usize| *k == selection.chosen || *k == selection.best || single(k) || !beaten(k);
    let mut shown: Vec<usize> = listed(selection).into_iter().filter(worth).collect();
    shown.sort_unstable();
    shown
}
