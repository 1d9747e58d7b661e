//! Pictures of a report: how long messages take and how many pass, as SVG to be put into a page.

use crate::report::{Bandwidth, Latency};
use crate::sweep::LINK_GBPS;
use anyhow::Result;
use opx_tools::plot::{COLOURS, bounds};
use plotters::prelude::*;

/// Pixels.
const SIZE: (u32, u32) = (860, 380);
/// A number at an axis, to three digits.
fn shown(value: &f64) -> String {
    match *value {
        value if value >= 100.0 => format!("{value:.0}"),
        value => {
            let digits = (2.0 - value.log10().floor()).clamp(0.0, 9.0) as usize;
            format!("{value:.digits$}").trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// A histogram of latency, bars of a colour for each size.
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
            .x_label_formatter(&shown)
            .y_desc("share of the messages, %")
            .light_line_style(WHITE)
            .draw()?;
        for (row, colour) in rows.iter().zip(COLOURS.iter().cycle()) {
            let line = colour.stroke_width(2);
            let points = points(row);
            let bars = points.iter().map(|(time, share)| PathElement::new([(*time, 0.0), (*time, *share)], line));
            chart
                .draw_series(bars)?
                .label(format!("{} bytes", row.size))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], line));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 2, colour.filled())))?;
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
        let [colour, ..] = COLOURS;
        let line = colour.stroke_width(2);
        let points = rows.iter().map(|row| (row.size as f64, row.gbps.median));
        chart
            .draw_series(LineSeries::new(points.clone(), line))?
            .label("median, and all rounds")
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], line));
        chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
        let spread = |row: &Bandwidth| [(row.size as f64, row.gbps.min), (row.size as f64, row.gbps.max)];
        chart.draw_series(rows.iter().map(|row| PathElement::new(spread(row), line)))?;
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
        root.present()?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Bucket, Spread};

    #[test]
    fn numbers_at_an_axis_are_short() {
        let all = [0.30000000000000004, 0.1, 2.0, 12.5, 96.0, 1000.0, 65536.0].map(|value| shown(&value));
        assert_eq!(all, ["0.3", "0.1", "2", "12.5", "96", "1000", "65536"]);
    }

    #[test]
    fn what_was_measured_is_drawn_and_nothing_is_an_empty_picture() {
        let histogram = vec![Bucket { up_to_ns: 900, count: 3 }, Bucket { up_to_ns: 1000, count: 1 }];
        let row = Latency { size: 8, messages: 4, min_us: 0.8, p50_us: 0.9, p99_us: 1.0, max_us: 1.0, histogram };
        let picture = latency(&[row]).unwrap();
        assert!(picture.starts_with("<svg") && picture.contains("8 bytes"));
        // A bar and its head for each step.
        assert_eq!(picture.matches("<circle").count(), 2);
        let gbps = Spread { min: 1.0, median: 2.0, max: 3.0 };
        let row = Bandwidth { size: 64, window: 1, messages: 1, rounds: 3, copied: true, gbps, share_of_link: 0.02 };
        let picture = bandwidth(&[row]).unwrap();
        assert!(picture.contains("96.0 Gb/s") && picture.matches("<circle").count() == 1);
        assert_eq!((latency(&[]).unwrap().as_str(), bandwidth(&[]).unwrap().as_str()), ("", ""));
    }
}
