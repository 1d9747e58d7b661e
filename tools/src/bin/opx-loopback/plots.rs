//! Pictures of a report: how long messages take and how many pass, as SVG to be put into a page.

use crate::report::{Bandwidth, Latency};
use crate::sweep::LINK_GBPS;
use anyhow::Result;
use plotters::prelude::*;

/// Pixels.
const SIZE: (u32, u32) = (860, 380);
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
];

/// The least and the largest of values, none of them 0.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values
        .filter(|value| value.is_finite() && *value > 0.0)
        .fold((f64::INFINITY, 0f64), |(low, high), value| (low.min(value), high.max(value)));
    (high > 0.0).then_some((low, high))
}

/// A histogram of latency, a curve for each size.
///
/// # Errors
/// When it can't be drawn.
pub fn latency(rows: &[Latency]) -> Result<String> {
    let points = |row: &Latency| {
        let all = row.messages.max(1) as f64;
        let buckets =
            row.histogram.iter().map(|bucket| (bucket.up_to_ns as f64 / 1e3, bucket.count as f64 / all * 100.0));
        buckets.collect::<Vec<_>>()
    };
    let mut text = String::new();
    let Some((left, right)) = bounds(rows.iter().flat_map(points).map(|(time, _)| time)) else { return Ok(text) };
    let top = rows.iter().flat_map(points).map(|(_, share)| share).fold(0.0, f64::max);
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((left / 1.1..right * 1.1).log_scale(), 0.0..top * 1.05)?;
        chart
            .configure_mesh()
            .x_desc("half of the round trip, microseconds")
            .y_desc("share of the messages, %")
            .light_line_style(WHITE)
            .draw()?;
        for (row, colour) in rows.iter().zip(COLOURS.iter().cycle()) {
            let shown = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points(row), shown))?
                .label(format!("{} bytes", row.size))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], shown));
        }
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
        root.present()?;
    }
    Ok(text)
}

/// Bandwidth over size, with the spread of the rounds, and what the link carries at most.
///
/// # Errors
/// When it can't be drawn.
pub fn bandwidth(rows: &[Bandwidth]) -> Result<String> {
    let mut text = String::new();
    let rates = rows.iter().flat_map(|row| [row.gbps.min, row.gbps.max]);
    let Some((low, high)) = bounds(rates) else { return Ok(text) };
    let Some((left, right)) = bounds(rows.iter().map(|row| row.size as f64)) else { return Ok(text) };
    let (left, right) = (left / 1.5, right * 1.5);
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((left..right).log_scale(), (low / 1.5..high.max(LINK_GBPS) * 1.5).log_scale())?;
        chart.configure_mesh().x_desc("bytes of a message").y_desc("payload, Gb/s").light_line_style(WHITE).draw()?;
        let limit = RED.stroke_width(1);
        chart
            .draw_series(LineSeries::new([(left, LINK_GBPS), (right, LINK_GBPS)], limit))?
            .label(format!("the link's {LINK_GBPS:.1} Gb/s"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], limit));
        let colour = RGBColor(31, 119, 180);
        let shown = colour.stroke_width(2);
        let points = rows.iter().map(|row| (row.size as f64, row.gbps.median));
        chart
            .draw_series(LineSeries::new(points.clone(), shown))?
            .label("median, and all rounds")
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], shown));
        chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
        let spread = |row: &Bandwidth| [(row.size as f64, row.gbps.min), (row.size as f64, row.gbps.max)];
        chart.draw_series(rows.iter().map(|row| PathElement::new(spread(row), shown)))?;
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
        root.present()?;
    }
    Ok(text)
}
