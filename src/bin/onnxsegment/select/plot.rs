//! A selection as a picture: quality, with its interval, against cost.

use std::collections::BTreeMap;

use anyhow::Result;
use gstonnxsegment::engine::select::{Cost, Row, Selection, Study};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{listed, members, table};
use crate::plot::{self, Area, BLUE, Drawn, FAMILY, GREY, ORANGE, SIZE};

/// Height of the legend.
const LEGEND: i32 = 52;
/// The share of a column that bars stand in.
const SPREAD: f64 = 0.8;

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
            None => format!("{at:.1}"),
        }
    }
}

/// The picture as PNG.
pub fn draw(study: &Study, selection: &Selection) -> Result<Vec<u8>> {
    plot::draw(|area| paint(area, study, selection))
}

fn paint(area: &Area<'_>, study: &Study, selection: &Selection) -> Drawn {
    area.fill(&WHITE)?;
    // Below the plot, where it hides nothing.
    let (area, strip) = area.split_vertically(SIZE.1 as i32 - LEGEND);
    legend(&strip, selection.rows.len())?;
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
    let mut chart = ChartBuilder::on(&area)
        .caption(title, text(24))
        .margin(16)
        .margin_right(32)
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
        chart.draw_series(line)?;
    }
    let dots = rows.iter().map(|row| Circle::new((places.of(row), row.iou), 3, GREY.filled()));
    chart.draw_series(dots)?;

    // Bars of one cost stand side by side.
    let mut beside: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    with_bars.iter().for_each(|k| beside.entry(rows[*k].cost.to_bits()).or_default().push(*k));
    let spread = if places.columns.is_some() { SPREAD } else { 0.0 };
    let column = f64::from(SIZE.0) / (right - left);
    for (colour, is_chosen) in [(BLUE, false), (ORANGE, true)] {
        let mut bars = Vec::new();
        let mut dots = Vec::new();
        for group in beside.values() {
            let step = spread / group.len() as f64;
            let cap = if step > 0.0 { (step * column * 0.6).clamp(3.0, 10.0) as u32 } else { 10 };
            for (n, k) in group.iter().enumerate().filter(|(_, k)| (**k == selection.chosen) == is_chosen) {
                let x = places.of(&rows[*k]) + (n as f64 - (group.len() - 1) as f64 / 2.0) * step;
                let (low, high) = bar(k).unwrap_or((rows[*k].iou, rows[*k].iou));
                bars.push(ErrorBar::new_vertical(x, low, rows[*k].iou, high, colour.filled().stroke_width(2), cap));
                dots.push(Circle::new((x, rows[*k].iou), 5, colour.filled()));
            }
        }
        chart.draw_series(bars)?;
        chart.draw_series(dots)?;
    }
    Ok(())
}

/// What the marks mean, in a line.
fn legend(strip: &Area<'_>, candidates: usize) -> Drawn {
    const MARK: i32 = 40;
    const GAP: i32 = 36;
    let style = (FAMILY, 18).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
    let all = format!("all {candidates} candidates");
    let items = [
        (Some(GREY), all.as_str()),
        (Some(BLUE), "best of each cost, and single models"),
        (Some(ORANGE), "recommended"),
        (None, "lower end of the best one's interval"),
    ];
    let mut widths = Vec::new();
    for (_, text) in items {
        widths.push(strip.estimate_text_size(text, &style)?.0 as i32 + MARK);
    }
    let mut x = (SIZE.0 as i32 - widths.iter().sum::<i32>() - GAP * (items.len() as i32 - 1)) / 2;
    let y = LEGEND / 3;
    for ((colour, text), width) in items.into_iter().zip(widths) {
        match colour {
            Some(colour) => strip.draw(&Circle::new((x + MARK / 2, y), 5, colour.filled()))?,
            None => {
                for dash in [2, 14, 26] {
                    strip.draw(&PathElement::new([(x + dash, y), (x + dash + 8, y)], BLACK))?;
                }
            }
        }
        strip.draw_text(text, &style, (x + MARK, y))?;
        x += width + GAP;
    }
    Ok(())
}

/// Rows that are drawn with their interval: single models, the best of each cost that no cheaper one beats, and the recommended.
fn with_bars(selection: &Selection) -> Vec<usize> {
    let rows = &selection.rows;
    let beaten = |k: &usize| rows.iter().any(|other| other.cost <= rows[*k].cost && other.iou > rows[*k].iou);
    let single = |k: &usize| rows[*k].candidate.passes() == 1;
    let worth = |k: &usize| *k == selection.chosen || single(k) || !beaten(k);
    let mut shown: Vec<usize> = listed(selection).into_iter().filter(worth).collect();
    shown.sort_unstable();
    shown
}
