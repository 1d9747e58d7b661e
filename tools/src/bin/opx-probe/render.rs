//! How results are written: plain tables for people, JSON for programs.

use crate::doctor::State;
use comfy_table::{Table, presets};
use serde::Serialize;

/// Version of the JSON forms; a change that could break a reader raises it.
pub const JSON_VERSION: u32 = 1;

/// A value as JSON, with a newline at its end.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Rows in aligned columns under a header, without colours and without blanks at the ends of lines.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    for row in rows {
        table.add_row(row);
    }
    let lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    // Columns are padded on both sides; the first needs no padding at its left.
    let padded = lines.iter().all(|line| line.starts_with(' ') || line.len() == 1);
    lines.iter().map(|line| if padded { line.strip_prefix(' ').unwrap_or(line) } else { line }).collect()
}

/// Columns that text for people keeps to.
pub const COLUMNS: usize = 80;

/// Text broken into lines of [`COLUMNS`], the first of which begins at column `indent` and the others are moved there.
pub fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = indent;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let len = word.chars().count();
        if column > indent && column + 1 + len > COLUMNS {
            lines += "\n";
            lines += &" ".repeat(indent);
            column = indent;
        } else if column > indent {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += len;
    }
    lines
}

/// A word in the colour of a state, with blanks after it up to four columns; colours are taken away again where they don't belong.
pub fn state(word: &str, state: State) -> String {
    let style = anstyle::Style::new().bold();
    let style = match state {
        State::Ok => anstyle::AnsiColor::Green.on_default(),
        State::Unknown => anstyle::AnsiColor::Blue.on_default(),
        State::Warn => style.fg_color(Some(anstyle::AnsiColor::Yellow.into())),
        State::Bad => style.fg_color(Some(anstyle::AnsiColor::Red.into())),
    };
    format!("{style}{word:<4}{style:#}")
}

/// A 64-bit value in hexadecimal, with all its digits: JSON's numbers hold only 53 bits.
pub fn hex64(value: u64) -> String {
    format!("{value:#018x}")
}

/// User input for a message: cut off where it would make the message unreadable.
pub fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_no_blanks_around() {
        let text = table(&["a", "bb"], [vec!["xxx".to_owned(), "y".to_owned()]]);
        assert_eq!(text, "a    bb\nxxx  y\n");
    }

    #[test]
    fn long_text_is_broken_between_words() {
        let text = "word ".repeat(40);
        let lines = wrapped(&text, 6);
        assert!(
            lines.lines().count() == 3 && lines.lines().skip(1).all(|line| line.starts_with("      word")),
            "{lines}"
        );
        assert!(lines.lines().all(|line| line.len() <= COLUMNS));
        assert_eq!(wrapped(&"x".repeat(100), 4).lines().count(), 1);
    }

    #[test]
    fn input_stays_one_short_line() {
        assert_eq!(shown("a\nb"), "a\\nb");
        assert_eq!(shown(&"x".repeat(1000)).len(), 80);
    }
}
