//! The documents that list requirements, or programs, with their tests name tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The programs of docs/fabtests.md: fabtests/{functional, benchmarks, unit, regression, multinode, ubertest} of libfabric at
/// af8ddbe92 (August 2026), without those that are no program of their own.
const PROGRAMS: &str = "av_xfer cm_data cq_data dgram flood inject_test loopback mcast msg msg_epoll msg_sockets multi_ep multi_mr \
    multi_recv rdm rdm_atomic rdm_deferred_wq rdm_multi_client rdm_multi_domain rdm_rma_event rdm_rma_trigger rdm_shared_av rdm_stress \
    rdm_tagged_peek recv_cancel resmgmt_test scalable_ep shared_ctx unexpected_msg unmap_mem dgram_pingpong msg_bw msg_pingpong rdm_bw \
    rdm_bw_mt rdm_cntr_pingpong rdm_pingpong rdm_tagged_bw rdm_tagged_pingpong rma_bw rma_pingpong rma_tx_completion av_test check_hmem \
    cntr_test cq_test dom_test eq_test getinfo_test mr_cache_evict mr_test setopt_test sighandler_test multinode ubertest";

fn document(name: &str) -> String {
    fs::read_to_string(repository().join("docs").join(name)).unwrap()
}

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
fn missing<'a>(tests: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = BTreeSet::new();
    functions(&repository(), &mut found);
    tests.into_iter().filter(|name| !found.contains(*name)).collect()
}

#[test]
fn every_test_of_the_parity_table_exists() {
    let text = document("opx-parity.md");
    // Programs have their snapshots, which carry their names.
    let tests: Vec<&str> = named(&text).into_iter().filter(|name| name.contains('_')).collect();
    assert!(tests.len() > 50, "only {} names were found", tests.len());
    assert_eq!(missing(tests), Vec::<&str>::new());
}

#[test]
fn every_test_of_the_requirements_of_zero_copy_receive_exists() {
    let text = document("zero-copy.md");
    for number in 1..=19 {
        assert!(text.contains(&format!("| Z{number} |")), "Z{number} has no row");
    }
    let tests = words(&text);
    assert!(tests.len() > 80, "only {} names were found", tests.len());
    assert_eq!(missing(tests), Vec::<&str>::new());
}

#[test]
fn every_program_of_fabtests_has_a_row_and_every_test_it_names_exists() {
    let text = document("fabtests.md");
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| program"));
    let programs = rows.filter_map(|row| row.trim_matches('|').split(" | ").next());
    let programs: BTreeSet<&str> = programs.flat_map(|names| names.split(", ")).map(str::trim).collect();
    assert_eq!(programs, PROGRAMS.split_whitespace().collect());

    let named: BTreeSet<&str> = named(&text).into_iter().collect();
    assert_eq!(missing(named.iter().copied()), Vec::<&str>::new());
    // Each scenario is run, and has its row.
    let folder = repository().join("tests/src/fabtests");
    let text: String =
        fs::read_dir(&folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let scenarios = text.split("\npub fn ").skip(1).filter_map(|text| text.split_once("<B: PciFunction>(setting"));
    let scenarios: BTreeSet<&str> = scenarios.map(|(name, _)| name).collect();
    assert!(scenarios.len() > 30, "{scenarios:?}");
    let lists = fs::read_to_string(folder.join("mod.rs")).unwrap();
    let lists = lists.split("macro_rules! fabtests").nth(1).unwrap();
    let run: BTreeSet<&str> = lists.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for (what, names) in [("without a row", named), ("not run", run)] {
        let lost: Vec<_> = scenarios.difference(&names).collect();
        assert!(lost.is_empty(), "{what}: {lost:?}");
    }
}
