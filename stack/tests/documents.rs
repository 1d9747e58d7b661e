//! The documents that list requirements with their tests name tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The functions of all source files below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            functions(&path, found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1);
            found.extend(names.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()));
        }
    }
}

/// The names in back quotes in the last column of the tables.
fn named(text: &str) -> Vec<&str> {
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|--"));
    let last = rows.filter_map(|line| line.trim_end_matches('|').rsplit('|').next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// The words in tables, outside of back quotes, that can only be names of tests: those of three parts and more.
fn words(text: &str) -> Vec<&str> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let plain = rows.flat_map(|row| row.split('`').step_by(2));
    let words = plain.flat_map(|text| text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_'));
    words.filter(|word| word.matches('_').count() >= 2).collect()
}

/// Those of `tests` that don't exist.
fn missing<'a>(tests: &[&'a str]) -> Vec<&'a str> {
    let mut found = BTreeSet::new();
    functions(&repository(), &mut found);
    tests.iter().copied().filter(|name| !found.contains(*name)).collect()
}

#[test]
fn every_test_of_the_parity_table_exists() {
    let text = fs::read_to_string(repository().join("docs/opx-parity.md")).unwrap();
    // Programs have their snapshots, which carry their names.
    let tests: Vec<&str> = named(&text).into_iter().filter(|name| name.contains('_')).collect();
    assert!(tests.len() > 50, "only {} names were found", tests.len());
    assert_eq!(missing(&tests), Vec::<&str>::new());
}

#[test]
fn every_test_of_the_requirements_of_zero_copy_receive_exists() {
    let text = fs::read_to_string(repository().join("docs/zero-copy.md")).unwrap();
    for number in 1..=19 {
        assert!(text.contains(&format!("| Z{number} |")), "Z{number} has no row");
    }
    let tests = words(&text);
    assert!(tests.len() > 80, "only {} names were found", tests.len());
    assert_eq!(missing(&tests), Vec::<&str>::new());
}
