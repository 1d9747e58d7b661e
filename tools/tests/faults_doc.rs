//! docs/faults.md has a row for each fault that the emulated adapter can be told to have, and the tests named there exist.

use opx_emu::Fault;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// docs/faults.md, and the parts beside it if there are any.
fn text() -> String {
    let docs = root().join("docs");
    let mut text = fs::read_to_string(docs.join("faults.md")).unwrap();
    for part in fs::read_dir(docs.join("faults.d")).into_iter().flatten() {
        text.push_str(&fs::read_to_string(part.unwrap().path()).unwrap());
    }
    text
}

/// The cells of each row of a table with the five columns.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").collect()).filter(|cells: &Vec<&str>| cells[0] != "fault").collect()
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_fault_has_a_row() {
    let text = text();
    let rows = rows(&text);
    for fault in Fault::all() {
        let has_row = rows.iter().any(|cells| quoted(cells[0]).any(|name| name == fault.name()));
        assert!(has_row, "`{fault}` has no row in docs/faults.md or docs/faults.d");
    }
}

/// Whether a source file has a test of this name: a function right below `#[test]`, other attributes and comments between.
fn has_test(source: &str, name: &str) -> bool {
    let mut lines = source.lines().map(str::trim);
    let mut is_test = false;
    lines.any(|line| {
        if line.starts_with(&format!("fn {name}(")) && is_test {
            return true;
        }
        is_test = line == "#[test]" || (is_test && (line.starts_with("#[") || line.starts_with("//")));
        false
    })
}

#[test]
fn every_row_is_whole_and_its_tests_exist() {
    let text = text();
    for cells in rows(&text) {
        let row = cells.join(" | ");
        assert_eq!(cells.len(), 5, "five columns: {row}");
        let mut tests = quoted(cells[4]).peekable();
        assert!(tests.peek().is_some(), "names a test: {row}");
        for named in tests {
            let (file, name) = named.rsplit_once("::").unwrap_or_else(|| panic!("{named} isn't file::name: {row}"));
            let source = fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("there is no {file}: {row}"));
            assert!(has_test(&source, name), "{file} has no #[test] fn {name}: {row}");
        }
    }
}

#[test]
fn a_function_that_is_no_test_is_not_taken_for_one() {
    let source = "#[test]\n#[ignore]\nfn a() {}\nfn b() {}\n    #[test]\n    /// Why.\n    fn c() {}\n";
    assert_eq!(["a", "b", "c", "d"].map(|name| has_test(source, name)), [true, false, true, false]);
}
