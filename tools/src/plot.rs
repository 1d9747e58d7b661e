//! What the programs' pictures share: colours, and how far values reach.

use plotters::style::RGBColor;

/// Colours of lines and bars, one after the other.
pub const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
];

/// The least and the largest of values, of those that an axis of powers can show; none when there are none.
pub fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values
        .filter(|value| value.is_finite() && *value > 0.0)
        .fold((f64::INFINITY, 0f64), |(low, high), value| (low.min(value), high.max(value)));
    (high > 0.0).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_of_what_can_be_shown() {
        assert_eq!(bounds([3.0, 0.0, f64::NAN, 0.5, f64::INFINITY].into_iter()), Some((0.5, 3.0)));
        assert_eq!(bounds([0.0].into_iter()), None);
    }
}
