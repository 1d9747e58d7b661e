//! A picture of a run: time and bandwidth over the size of messages, a line for each transport.

use crate::report::{Line, Report};
use anyhow::{Context, Result};
use opx_tools::plot::{COLOURS, bounds};
use plotters::prelude::*;
use std::path::Path;

/// Pixels.
const SIZE: (u32, u32) = (900, 900);

/// Writes an SVG file.
///
/// # Errors
/// When it can't be written.
pub fn write(path: &Path, report: &Report) -> Result<()> {
    let text = svg(report)?;
    std::fs::write(path, text)
        .with_context(|| format!("can't write {}; name a file that can be written", path.display()))
}

fn svg(report: &Report) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (upper, lower) = root.split_vertically(SIZE.1 / 2);
        chart(&upper, "half round trip or operation, microseconds", report, true, |line| line.microseconds)?;
        chart(&lower, "bandwidth, MB/s", report, false, |line| line.megabytes_per_second)?;
        root.present()?;
    }
    Ok(text)
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    report: &Report,
    is_latency: bool,
    value: fn(&Line) -> f64,
) -> Result<()> {
    let lines = || report.lines.iter().filter(|line| line.pattern.is_latency() == is_latency);
    let (Some((left, right)), Some((low, high))) =
        (bounds(lines().map(|line| line.size.max(1) as f64)), bounds(lines().map(value)))
    else {
        return Ok(());
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(70)
        .build_cartesian_2d((left..right.max(left * 2.0)).log_scale(), (low / 1.5..high * 1.5).log_scale())?;
    chart.configure_mesh().x_desc("bytes of a message").light_line_style(WHITE).draw()?;
    let mut series: Vec<String> = lines().map(label).collect();
    series.sort_unstable();
    series.dedup();
    for (label, colour) in series.into_iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<_> = lines()
            .filter(|line| self::label(line) == label)
            .map(|line| (line.size.max(1) as f64, value(line)))
            .collect();
        let shown = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), shown))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], shown));
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}

/// What a line of the picture is of.
fn label(line: &Line) -> String {
    let mut label = format!("{}, {}", line.transport, line.pattern.name());
    if line.window != 1 {
        label += &format!(", window {}", line.window);
    }
    if line.rotating {
        label += ", memory that rotates";
    }
    if let Some(processors) = line.processors {
        label += &format!(", {processors}");
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::{Job, Measured, Pattern};
    use hdrhistogram::Histogram;
    use std::time::Duration;

    #[test]
    fn each_transport_has_its_line() {
        let mut report = Report::new("emulated".to_owned(), "one process");
        for transport in ["opx", "libfabric shm"] {
            for (size, pattern) in [(8, Pattern::Latency), (4096, Pattern::Latency), (8, Pattern::Bandwidth)] {
                let job = Job { pattern, size, window: 1, warmup: 0, count: 10, rotating: false };
                let time = Duration::from_micros(10 + size as u64);
                report.lines.push(Line::new(transport, &job, &[Measured { time, times: Histogram::new(3).unwrap() }]));
            }
        }
        let text = svg(&report).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for expected in ["libfabric shm", "half round trip or operation, microseconds", "bandwidth, MB/s"] {
            assert!(text.contains(expected), "{expected} isn't in the picture");
        }
    }

    #[test]
    fn a_run_without_measurements_is_an_empty_picture() {
        assert!(svg(&Report::new("emulated".to_owned(), "one process")).unwrap().contains("</svg>"));
    }
}
