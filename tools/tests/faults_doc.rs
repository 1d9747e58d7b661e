//! docs/faults.md names each fault that the emulated adapter can be told to have, and the tests named there exist.

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

#[test]
fn every_fault_is_there() {
    let text = text();
    for fault in Fault::all() {
        assert!(text.contains(&format!("`{fault}`")), "{fault} isn't in docs/faults.md");
    }
}

/// A file that a row names: from the root of the repository, or by its name among a crate's tests.
fn source(file: &str) -> Option<String> {
    let homes = ["", "pio/tests", "sdma/tests", "hw/tests", "stack/tests", "hw/src", "pio/src", "sdma/src"];
    homes.iter().find_map(|home| fs::read_to_string(root().join(home).join(file)).ok())
}

#[test]
fn every_row_is_whole_and_its_test_exists() {
    let text = text();
    let mut known = false;
    for cells in rows(&text) {
        let row = cells.join(" | ");
        assert_eq!(cells.len(), 5, "five columns: {row}");
        for named in cells[4].split('`').filter(|part| part.contains("::")) {
            let (file, name) = named.rsplit_once("::").unwrap();
            let source = source(file).unwrap_or_else(|| panic!("there is no {file}: {row}"));
            assert!(source.contains(&format!("fn {name}(")), "{file} has no fn {name}: {row}");
            known = true;
        }
        assert!(cells[4].contains("::") || known && cells[4] == "the same", "names a test: {row}");
    }
}
