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

/// The variables of OPX 2.6 without their FI_OPX_: those of `fi_opx_init.c`, and what else it takes from the environment.
const VARIABLES: &str = "UUID FORCE_CPUAFFINITY RELIABILITY_SERVICE_USEC_MAX RELIABILITY_SERVICE_MAX_OUTSTANDING_BYTES \
    RELIABILITY_MAX_UNCONGESTED_PINGS RELIABILITY_MAX_CONGESTED_PINGS RELIABILITY_SERVICE_PRE_ACK_RATE \
    RELIABILITY_SERVICE_DROP_PACKET_MASK SELINUX HFI_SELECT VERBOSE_SELECTION MP_EAGER_DISABLE RZV_MIN_PAYLOAD_BYTES \
    DELIVERY_COMPLETION_THRESHOLD SDMA_BOUNCE_BUF_THRESHOLD SDMA_DISABLE SDMA_MIN_PAYLOAD_BYTES SDMA_MAX_WRITEVS_PER_CYCLE \
    SDMA_MAX_IOVS_PER_WRITEV SDMA_MAX_PKTS_TID SDMA_MAX_PKTS TID_MIN_PAYLOAD_BYTES TID_DISABLE EXPECTED_RECEIVE_ENABLE \
    PROG_AFFINITY AUTO_PROGRESS_INTERVAL_USEC PKEY SL SHM_ENABLE PORT LINK_DOWN_WAIT_TIME_MAX_SEC DEV_REG_SEND_THRESHOLD \
    DEV_REG_RECV_THRESHOLD GPU_IPC_INTRANODE ROUTE_CONTROL OPA100_INTEROP MIXED_NETWORK CONTEXT_SHARING \
    ENDPOINTS_PER_HFI_CONTEXT MAX_PKT_SIZE MMAP_GUARD HFISVC MULTI_HFI_STRIPING RZV_STRIPING_MIN_PAYLOAD_BYTES \
    TRACER_OUT_PATH TRACER_BUFFER_SIZE TRACER_FILTER SIMPCI_V";

/// The changes of OPX, October 2024 to March 2026, that brought a behaviour or were to be looked at.
const CHANGES: &str = "24c1a59c2 c8689a5bb f432626bc bce26734f 35f6a601e 203769d05 6a19d326b 56276597d 2a422b48f b3e86a2f5 596c76afb \
    62621933a 8faea14db be61122a3 7aca0438d 3b2a25c7b 033c64699 be5b1089e e8e41f64d f5da118ab b2e995563 95c4132d6 674193eea \
    ea1db8a8d dd941d50a 231fb65c5 530be9c01 4c73112f0 7d6592ec5 2033f0506 e80040bd6 fbccd99cf 2ca42b257 41ab8209a 804f4eee9 \
    6f1016716 d01c74460 3ba7e4818 09b1e5d2e f5493fed9 7660f36ec fd003d3b5 cb32a7d34 7c84875a0 8d9d52490 9b04f7010 4f13c760d \
    7daf15b72 24f0c0ea8 dabeaab96 303e7199b 56f1b3da4 319ffc81c 13850e70a";

/// The functions below a folder that are tests.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            tests_below(&path, found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn ")).map(|(_, rest)| rest);
            found.extend(names.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()));
        }
    }
}

#[test]
fn every_test_of_the_parity_table_exists() {
    let text = document("opx-parity.md");
    let named = named(&text);
    assert!(named.len() > 150, "only {} names were found", named.len());
    let mut found = BTreeSet::new();
    tests_below(&repository(), &mut found);
    let missing: Vec<_> = named.into_iter().filter(|name| !found.contains(*name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn every_row_of_the_parity_table_has_a_test_or_says_why_not() {
    let text = document("opx-parity.md");
    let rows: Vec<&str> =
        text.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| shown by |")).collect();
    assert!(rows.len() > 140, "only {} rows were found", rows.len());
    for row in &rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [.., here, shown] = &cells[..] else { panic!("{row}") };
        let why_not = ["not here", "nothing to test"].iter().any(|words| here.starts_with(words));
        assert!(why_not || shown.contains('`'), "neither a test nor a reason: {row}");
    }
    let firsts: Vec<&str> = rows.iter().filter_map(|row| row.trim_matches('|').split(" | ").next()).collect();
    for (what, names) in [("variable", VARIABLES), ("change", CHANGES)] {
        for name in names.split_whitespace() {
            let is =
                |first: &&str| first.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name);
            assert!(firsts.iter().any(is), "{what} {name} has no row");
        }
    }
}

#[test]
fn every_variable_of_opx_is_known_here() {
    // These aren't looked at, as the table says; the job's name is a string and no setting of numbers.
    let others = ["UUID", "SIMPCI_V"];
    for name in VARIABLES.split_whitespace().filter(|name| !others.contains(name)) {
        let variable = format!("FI_OPX_{name}");
        let has_effect = opx_stack::settings().iter().any(|setting| setting.name == variable);
        let mut config = opx_stack::Config::default();
        let warnings = config.set_from(|asked| (asked == variable).then(|| "1".to_owned()));
        assert!(has_effect || warnings.len() == 1, "{variable} is neither taken nor warned of");
    }
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
