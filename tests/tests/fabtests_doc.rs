//! docs/fabtests.md has a row for each program of libfabric's fabtests and names tests that exist, each scenario among them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The programs: fabtests/{functional, benchmarks, unit, regression, multinode, ubertest} of libfabric at af8ddbe92 (August 2026),
/// without those that are no program of their own.
const PROGRAMS: &str = "av_xfer cm_data cq_data dgram flood inject_test loopback mcast msg msg_epoll msg_sockets multi_ep multi_mr \
    multi_recv rdm rdm_atomic rdm_deferred_wq rdm_multi_client rdm_multi_domain rdm_rma_event rdm_rma_trigger rdm_shared_av rdm_stress \
    rdm_tagged_peek recv_cancel resmgmt_test scalable_ep shared_ctx unexpected_msg unmap_mem dgram_pingpong msg_bw msg_pingpong rdm_bw \
    rdm_bw_mt rdm_cntr_pingpong rdm_pingpong rdm_tagged_bw rdm_tagged_pingpong rma_bw rma_pingpong rma_tx_completion av_test check_hmem \
    cntr_test cq_test dom_test eq_test getinfo_test mr_cache_evict mr_test setopt_test sighandler_test multinode ubertest";

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

#[test]
fn every_program_has_a_row_and_every_test_it_names_exists() {
    let text = fs::read_to_string(repository().join("docs/fabtests.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| program"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let programs: BTreeSet<&str> = rows.iter().flat_map(|row| row[0].split(", ")).collect();
    assert_eq!(programs, PROGRAMS.split_whitespace().collect());

    let mut found = BTreeSet::new();
    functions(&repository(), &mut found);
    let named: BTreeSet<&str> =
        rows.iter().filter_map(|row| row.get(2)).flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let missing: Vec<_> = named.iter().filter(|name| !found.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");

    // The scenarios, as the macro lists them.
    let list = fs::read_to_string(repository().join("tests/src/fabtests/mod.rs")).unwrap();
    let list = list.split("$way;\n").nth(1).and_then(|rest| rest.split(");").next()).unwrap();
    let scenarios: BTreeSet<&str> = list
        .lines()
        .filter(|line| !line.trim().starts_with("//"))
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    assert!(scenarios.len() > 30, "{scenarios:?}");
    let untold: Vec<_> = scenarios.difference(&named).collect();
    assert!(untold.is_empty(), "{untold:?}");
}
