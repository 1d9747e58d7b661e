//! Compares the register catalogue and the chip constants with the table taken from the Linux driver's headers, row by
//! row and in both directions.

use opx_defs::chip;
use opx_defs::credit::{CreditReason, CreditReturn};
use opx_defs::csr::{self, Csr, Field};
use opx_defs::source::{SOURCES, Source};
use opx_defs::units::{BarOff, Blocks, Dwords, RcvCtxt, Sc, SdmaEngine, SendCtxt, Vl};
use opx_defs::wire::pbc::{InsertHcrc, Pbc};
use std::collections::{BTreeMap, BTreeSet};

/// `name,offset_hex,kind,value` for each macro of `chip.h` and `chip_registers.h` that names a fact of the chip.
const TABLE: &str = include_str!("../../../tests/data/hfi1-csrs.csv");

/// Rows of kind "csr" that name the start of a window, not a register.
const WINDOWS: [&str; 2] = ["RXE_PER_CONTEXT_USER", "TXE_PIO_SEND"];

/// Registers that the driver's headers don't define.
const INFERRED: [&str; 4] = ["ASIC_GPIO_STATUS", "CCE_MSIX_PBA", "RCV_EGR_INDEX_TAIL", "RCV_EGR_OFFSET_TAIL"];

/// Reset values that the driver's headers don't define: identity, counts, and the state that the 8051 wakes up in.
const INFERRED_RESETS: [&str; 5] =
    ["CCE_REVISION", "DC_DC8051_STS_CUR_STATE", "RCV_CONTEXTS", "SEND_CONTEXTS", "SEND_DMA_ENGINES"];

/// The pins of a cage, named in qsfp.h.
const PINS: &[&str] = &["I2CCLK", "I2CDAT", "RESET_N", "INT_N", "MODPRST_N"];

/// Fields that the driver's headers don't define: it writes or reads them as plain numbers, or by a neighbour's name.
const INFERRED_FIELDS: [(&str, &[&str]); 42] = [
    ("ASIC_CFG_THERM_POLL_EN", &["EN"]),
    ("ASIC_EEP_ADDR_CMD", &["EP_CMD"]),
    ("ASIC_QSFP1_CLEAR", PINS),
    ("ASIC_QSFP1_FORCE", PINS),
    ("ASIC_QSFP1_IN", PINS),
    ("ASIC_QSFP1_INVERT", PINS),
    ("ASIC_QSFP1_MASK", PINS),
    ("ASIC_QSFP1_OE", PINS),
    ("ASIC_QSFP1_OUT", PINS),
    ("ASIC_QSFP1_STATUS", PINS),
    ("ASIC_QSFP2_CLEAR", PINS),
    ("ASIC_QSFP2_FORCE", PINS),
    ("ASIC_QSFP2_IN", PINS),
    ("ASIC_QSFP2_INVERT", PINS),
    ("ASIC_QSFP2_MASK", PINS),
    ("ASIC_QSFP2_OE", PINS),
    ("ASIC_QSFP2_OUT", PINS),
    ("ASIC_QSFP2_STATUS", PINS),
    ("CCE_INT_MAP", &["VECTOR0", "VECTOR1", "VECTOR2", "VECTOR3", "VECTOR4", "VECTOR5", "VECTOR6", "VECTOR7"]),
    ("CCE_MSIX_TABLE_LOWER", &["ADDRESS"]),
    ("CCE_MSIX_TABLE_UPPER", &["DATA", "MASKED"]),
    ("CCE_REVISION", &["ARCH"]),
    ("DC_DC8051_CFG_MODE", &["DISABLE_SELF_GUID_CHECK"]),
    ("DC_DC8051_STS_REMOTE_FM_SECURITY", &["DISABLED"]),
    ("DC_LCB_STS_LINK_TRANSFER_ACTIVE", &["VAL"]),
    ("MISC_CFG_FW_CTRL", &["ENABLE_SPICO"]),
    ("MISC_CFG_RSA_CMD", &["CMD"]),
    ("RCV_PARTITION_KEY", &["PARTITION_KEY_C", "PARTITION_KEY_D"]),
    (
        "RCV_QP_MAP_TABLE",
        &[
            "RCV_CONTEXT_A",
            "RCV_CONTEXT_B",
            "RCV_CONTEXT_C",
            "RCV_CONTEXT_D",
            "RCV_CONTEXT_E",
            "RCV_CONTEXT_F",
            "RCV_CONTEXT_G",
            "RCV_CONTEXT_H",
        ],
    ),
    ("RCV_RSM_CFG", &["ENABLE_OR_CHAIN_RSM1", "ENABLE_OR_CHAIN_RSM2", "ENABLE_OR_CHAIN_RSM3"]),
    (
        "RCV_RSM_MAP_TABLE",
        &[
            "RCV_CONTEXT_B",
            "RCV_CONTEXT_C",
            "RCV_CONTEXT_D",
            "RCV_CONTEXT_E",
            "RCV_CONTEXT_F",
            "RCV_CONTEXT_G",
            "RCV_CONTEXT_H",
        ],
    ),
    (
        "RCV_TID_FLOW_TABLE",
        &[
            "SEQ",
            "GENERATION",
            "FLOW_VALID",
            "HDR_SUPP_ENABLED",
            "KEEP_AFTER_SEQ_ERR",
            "KEEP_ON_GEN_ERR",
            "KEEP_PAYLOAD_ON_GEN_ERR",
            "SEQ_MISMATCH",
            "GEN_MISMATCH",
        ],
    ),
    ("SEND_CM_REMOTE_AU_TABLE0_TO3", &["REMOTE_AU_TABLE0", "REMOTE_AU_TABLE1", "REMOTE_AU_TABLE2", "REMOTE_AU_TABLE3"]),
    ("SEND_CM_REMOTE_AU_TABLE4_TO7", &["REMOTE_AU_TABLE4", "REMOTE_AU_TABLE5", "REMOTE_AU_TABLE6", "REMOTE_AU_TABLE7"]),
    ("SEND_CTXT_CHECK_VL", &["DISALLOWED_VL"]),
    ("SEND_DMA_CHECK_JOB_KEY", &["VALUE", "MASK", "ALLOW_PERMISSIVE"]),
    ("SEND_DMA_CHECK_OPCODE", &["VALUE", "MASK"]),
    ("SEND_DMA_CHECK_PARTITION_KEY", &["VALUE"]),
    ("SEND_DMA_CHECK_VL", &["DISALLOWED_VL"]),
    ("SEND_HIGH_PRIORITY_LIST", &["WEIGHT", "VL"]),
    ("SEND_LEN_CHECK0", &["LEN_VL2", "LEN_VL3"]),
    ("SEND_LEN_CHECK1", &["LEN_VL6", "LEN_VL7"]),
];

/// One row of the table.
struct Row {
    name: &'static str,
    offset: Option<u32>,
    kind: &'static str,
    value: u64,
}

/// A hexadecimal or decimal number, a negative one as its two's complement.
fn number(text: &str) -> u64 {
    let parse = |digits: &str, radix| u64::from_str_radix(digits, radix).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    match (text.strip_prefix("0x-"), text.strip_prefix("0x")) {
        (Some(digits), _) => parse(digits, 16).wrapping_neg(),
        (_, Some(digits)) => parse(digits, 16),
        _ => parse(text, 10),
    }
}

fn rows() -> Vec<Row> {
    TABLE
        .lines()
        .skip(1)
        .map(|line| {
            let [name, offset, kind, value] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
            let offset = (!offset.is_empty()).then(|| u32::try_from(number(offset)).unwrap());
            Row { name, offset, kind, value: number(value) }
        })
        .collect()
}

fn register(name: &str) -> &'static Csr {
    csr::by_name(name).unwrap_or_else(|| panic!("register {name} is not in the catalogue"))
}

fn constants() -> BTreeMap<&'static str, u64> {
    let mut constants = BTreeMap::new();
    for (topic, list) in chip::NAMED {
        for (name, value) in *list {
            assert_eq!(constants.insert(*name, *value), None, "constant {name} of {topic} is there twice");
        }
    }
    constants
}

/// The register and the field that a field row means: the register at the row's offset whose name begins the row's.
fn field(row: &Row, offset: u32) -> (&'static Csr, Field) {
    let bare = match row.kind {
        "shift" => row.name.strip_suffix("_SHIFT"),
        "mask" => row.name.strip_suffix("_MASK"),
        // DCC_CFG_RESET's bits have no suffix in chip_registers.h.
        _ => row.name.strip_suffix("_SMASK").or(Some(row.name)),
    }
    .unwrap_or_else(|| panic!("{} does not end as a {} does", row.name, row.kind));
    let found = csr::all().filter(|csr| csr.offset.0 == offset).find_map(|csr| {
        let name = bare.strip_prefix(csr.name)?.strip_prefix('_')?;
        csr.fields.iter().find(|field| field.name == name).map(|field| (csr, *field))
    });
    found.unwrap_or_else(|| panic!("no register at {offset:#x} has the field of {}", row.name))
}

#[test]
fn every_row_of_the_table_is_in_the_crate() {
    let constants = constants();
    let rows = rows();
    let bases: Vec<u32> = rows.iter().filter(|row| row.kind == "base").filter_map(|row| row.offset).collect();
    let mut compared = BTreeMap::<&str, u32>::new();

    for row in &rows {
        let check = match (row.kind, row.offset) {
            ("csr", Some(offset)) => {
                let base = bases.iter().copied().filter(|base| *base <= offset).max().unwrap();
                assert_eq!(u64::from(offset - base), row.value, "{} within its block", row.name);
                if WINDOWS.contains(&row.name) {
                    assert_eq!(constants.get(row.name), Some(&u64::from(offset)), "{}", row.name);
                    "window"
                } else {
                    assert_eq!(register(row.name).offset.0, offset, "{}", row.name);
                    "register"
                }
            }
            ("reset", Some(offset)) => {
                let csr = register(row.name.strip_suffix("_RESETCSR").unwrap());
                assert_eq!((csr.offset.0, csr.reset), (offset, row.value), "{}", row.name);
                "reset"
            }
            ("shift", Some(offset)) => {
                let (csr, field) = field(row, offset);
                assert_eq!(u64::from(field.shift), row.value, "{}.{}", csr.name, field.name);
                "field shift"
            }
            ("mask", Some(offset)) => {
                let (csr, field) = field(row, offset);
                assert_eq!(field.mask() >> field.shift, row.value, "{}.{}", csr.name, field.name);
                "field mask"
            }
            ("smask", Some(offset)) => {
                let (csr, field) = field(row, offset);
                assert_eq!(field.mask(), row.value, "{}.{}", csr.name, field.name);
                "field mask in place"
            }
            ("base", Some(offset)) => {
                assert_eq!(u64::from(offset), row.value, "{}", row.name);
                assert_eq!(constants.get(row.name), Some(&row.value), "{}", row.name);
                "constant"
            }
            ("const" | "index" | "pcicfg", _) | ("shift" | "mask" | "smask", None) => {
                assert_eq!(constants.get(row.name), Some(&row.value), "{}", row.name);
                "constant"
            }
            (kind, offset) => panic!("{}: no rule to compare a {kind} at {offset:x?}", row.name),
        };
        *compared.entry(check).or_default() += 1;
    }

    let expected = BTreeMap::from([
        ("register", 301),
        ("window", 2),
        ("reset", 5),
        ("field shift", 202),
        ("field mask", 84),
        ("field mask in place", 511),
        ("constant", 451),
    ]);
    assert_eq!(compared, expected);
    assert_eq!(compared.values().sum::<u32>(), 1556);
    assert_eq!(rows.len(), 1556);
}

#[test]
fn everything_in_the_crate_is_in_the_table() {
    let rows = rows();
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();

    let constants = constants();
    for name in constants.keys() {
        assert!(names.contains(name), "constant {name} is not in the table");
    }

    let registers: BTreeSet<&str> = rows.iter().filter(|row| row.kind == "csr").map(|row| row.name).collect();
    let unnamed: BTreeSet<&str> = csr::all().map(|csr| csr.name).filter(|name| !registers.contains(name)).collect();
    assert_eq!(unnamed, BTreeSet::from(INFERRED));
    assert_eq!(csr::all().count(), registers.len() - WINDOWS.len() + INFERRED.len());

    let resets: BTreeSet<&str> =
        rows.iter().filter_map(|row| row.name.strip_suffix("_RESETCSR")).chain(INFERRED_RESETS).collect();
    let nonzero: BTreeSet<&str> = csr::all().filter(|csr| csr.reset != 0).map(|csr| csr.name).collect();
    assert_eq!(nonzero, resets);

    let mut unnamed = BTreeMap::<&str, Vec<&str>>::new();
    let (mut whole, mut without_width) = (0, 0);
    for csr in csr::all() {
        for field in csr.fields {
            let named = |end: &str| names.contains(format!("{}_{}{end}", csr.name, field.name).as_str());
            if named("_MASK") || named("_SMASK") || named("") {
                whole += 1;
            } else if named("_SHIFT") {
                without_width += 1;
            } else {
                unnamed.entry(csr.name).or_default().push(field.name);
            }
        }
    }
    assert_eq!((whole, without_width), (579, 120), "fields whose width the table tells, and doesn't");
    let expected: BTreeMap<&str, Vec<&str>> =
        INFERRED_FIELDS.iter().map(|(name, fields)| (*name, fields.to_vec())).collect();
    assert_eq!(unnamed, expected);
}

#[test]
fn every_register_has_doc_and_source() {
    for csr in csr::all() {
        assert!(csr.doc.trim().len() > 10 && csr.doc.trim().ends_with('.'), "{}: doc {:?}", csr.name, csr.doc);
        let file = csr.source.split(':').next().unwrap();
        assert!(file.ends_with(".c") || file.ends_with(".h"), "{}: source {:?}", csr.name, csr.source);
        let inferred = csr.doc.trim().starts_with("INFERRED");
        assert_eq!(inferred, INFERRED.contains(&csr.name), "{}: doc {:?}", csr.name, csr.doc);
    }
}

#[test]
fn no_two_registers_overlap() {
    let mut places = Vec::new();
    for csr in csr::all() {
        for index in 0..csr.count {
            for element in 0..csr.len {
                places.push((csr.element(index, element), csr.name));
            }
        }
    }
    places.sort_unstable();
    for pair in places.windows(2) {
        assert!(pair[1].0.0 >= pair[0].0.0 + 8, "{} and {} overlap at {}", pair[0].1, pair[1].1, pair[1].0);
    }
    assert!(places.iter().all(|(offset, _)| offset.0.is_multiple_of(8)));
    assert!(places.last().is_some_and(|(offset, _)| u64::from(offset.0) < chip::TXE_PIO_SEND));
}

#[test]
fn no_two_fields_of_a_register_overlap() {
    for csr in csr::all() {
        let mut used = 0u64;
        for field in csr.fields {
            assert_eq!(used & field.mask(), 0, "{}.{} overlaps another field", csr.name, field.name);
            used |= field.mask();
        }
    }
}

#[test]
fn offsets_round_trip() {
    for csr in csr::all() {
        for index in 0..csr.count {
            for element in 0..csr.len {
                let offset = csr.element(index, element);
                assert_eq!(csr.locate(offset), Some((index, element)), "{} at {offset}", csr.name);
                let (found, at, of) = csr::by_offset(offset).unwrap_or_else(|| panic!("nothing found at {offset}"));
                assert_eq!((found.name, at, of), (csr.name, index, element), "at {offset}");
                assert!(csr::by_offset(offset.plus(4)).is_none(), "something found inside {}", csr.name);
            }
        }
        assert_eq!(csr::by_name(&csr.name.to_lowercase()).map(|found| found.offset), Some(csr.offset));
    }
}

/// The catalogue's lookup must also agree with a plain search where no register is.
#[test]
fn offsets_without_a_register_find_none() {
    let plain = |offset| csr::all().find(|csr| csr.locate(offset).is_some()).map(|csr| csr.name);
    let edges = csr::all().flat_map(|csr| {
        let end = csr.at(csr.count - 1).plus(csr.len * 8);
        [csr.offset.plus(csr.len * 8), end, end.plus(csr.stride), BarOff(csr.offset.0.saturating_sub(8))]
    });
    let corners = [0, 8, 0xf_fff8, 0x70_0000, 0xff_fff8, 0x17f_fff8, 0x200_0000, 0x3ff_fff8, 0xffff_fff8].map(BarOff);
    let mut missed = 0;
    for offset in edges.chain(corners) {
        let found = csr::by_offset(offset).map(|(csr, ..)| csr.name);
        assert_eq!(found, plain(offset), "at {offset}");
        missed += u32::from(found.is_none());
    }
    assert!(missed > 100, "only {missed} offsets without a register were tried");
}

#[test]
fn blocks_and_registers_are_in_order() {
    let offsets: Vec<BarOff> = csr::all().map(|csr| csr.offset).collect();
    assert!(offsets.is_sorted());
    for (block, csrs) in csr::BLOCKS {
        assert!(!csrs.is_empty(), "{block} has no registers");
    }
}

#[test]
fn tables_have_the_lengths_of_the_headers() {
    let counts: &[(&Csr, u64)] = &[
        (&csr::CCE_SCRATCH, chip::CCE_NUM_SCRATCH),
        (&csr::CCE_COUNTER_ARRAY32, chip::CCE_NUM_32_BIT_COUNTERS),
        (&csr::CCE_INT_COUNTER_ARRAY32, chip::CCE_NUM_32_BIT_INT_COUNTERS),
        (&csr::CCE_MSIX_TABLE_LOWER, chip::CCE_NUM_MSIX_VECTORS),
        (&csr::CCE_MSIX_TABLE_UPPER, chip::CCE_NUM_MSIX_VECTORS),
        (&csr::CCE_MSIX_PBA, chip::CCE_NUM_MSIX_PBAS),
        (&csr::CCE_MSIX_INT_GRANTED, chip::CCE_NUM_MSIX_PBAS),
        (&csr::CCE_INT_MAP, chip::CCE_NUM_INT_MAP_CSRS),
        (&csr::CCE_INT_STATUS, chip::CCE_NUM_INT_CSRS),
        (&csr::CCE_INT_MASK, chip::CCE_NUM_INT_CSRS),
        (&csr::CCE_INT_CLEAR, chip::CCE_NUM_INT_CSRS),
        (&csr::CCE_INT_FORCE, chip::CCE_NUM_INT_CSRS),
        (&csr::CCE_INT_BLOCKED, chip::CCE_NUM_INT_CSRS),
        (&csr::RCV_COUNTER_ARRAY32, chip::RXE_NUM_32_BIT_COUNTERS),
        (&csr::RCV_COUNTER_ARRAY64, chip::RXE_NUM_64_BIT_COUNTERS),
        (&csr::RCV_RSM_CFG, chip::RXE_NUM_RSM_INSTANCES),
        (&csr::RCV_RSM_SELECT, chip::RXE_NUM_RSM_INSTANCES),
        (&csr::RCV_RSM_MATCH, chip::RXE_NUM_RSM_INSTANCES),
        (&csr::SEND_COUNTER_ARRAY32, chip::TXE_NUM_32_BIT_COUNTER),
        (&csr::SEND_COUNTER_ARRAY64, chip::TXE_NUM_64_BIT_COUNTER),
        (&csr::SEND_LOW_PRIORITY_LIST, chip::VL_ARB_LOW_PRIO_TABLE_SIZE),
        (&csr::SEND_HIGH_PRIORITY_LIST, chip::VL_ARB_HIGH_PRIO_TABLE_SIZE),
        (&csr::SEND_CONTEXT_SET_CTRL, chip::TXE_NUM_CONTEXTS / chip::NUM_CONTEXTS_PER_SET),
        (&csr::SEND_CM_CREDIT_VL, chip::TXE_NUM_DATA_VL),
        (&csr::SEND_EGRESS_CTXT_STATUS, chip::TXE_NUM_CONTEXTS),
        (&csr::SEND_EGRESS_SEND_DMA_STATUS, chip::TXE_NUM_SDMA_ENGINES),
        (&csr::RCV_PARTITION_KEY, chip::MAX_PKEY_VALUES / 4),
    ];
    for (csr, count) in counts {
        assert_eq!(u64::from(csr.count), *count, "{}", csr.name);
    }
    assert_eq!(u64::from(csr::RCV_TID_FLOW_TABLE.len), chip::RXE_NUM_TID_FLOWS);
    assert_eq!(u64::from(csr::CCE_MSIX_PBA.offset.0), chip::CCE_MSIX_PBA_OFFSET);

    let windows: &[(std::ops::Range<u32>, u64, u64)] = &[
        (0x110_0000..0x120_0000, chip::RXE_NUM_CONTEXTS, 0x100),
        (0x130_0000..0x180_0000, chip::RXE_NUM_CONTEXTS, chip::RXE_PER_CONTEXT_SIZE),
        (0x190_0000..0x1a0_0000, chip::TXE_NUM_CONTEXTS, 0x100),
        (0x1a0_0000..0x200_0000, chip::TXE_NUM_SDMA_ENGINES, 0x100),
    ];
    for (window, count, stride) in windows {
        let mut seen = 0;
        for csr in csr::all().filter(|csr| window.contains(&csr.offset.0)) {
            assert_eq!((u64::from(csr.count), u64::from(csr.stride)), (*count, *stride), "{}", csr.name);
            seen += 1;
        }
        assert!(seen >= 5, "{seen} registers in {window:x?}");
    }
}

#[test]
fn typed_sources_agree_with_the_constants() {
    let (sdma, send, rcv) = (SdmaEngine(0), SendCtxt(0), RcvCtxt(0));
    let pairs = [
        (Source::CCE_ERR, chip::CCE_ERR_INT),
        (Source::RXE_ERR, chip::RXE_ERR_INT),
        (Source::MISC_ERR, chip::MISC_ERR_INT),
        (Source::PIO_ERR, chip::PIO_ERR_INT),
        (Source::SDMA_ERR, chip::SDMA_ERR_INT),
        (Source::EGRESS_ERR, chip::EGRESS_ERR_INT),
        (Source::TXE_ERR, chip::TXE_ERR_INT),
        (Source::PBC, chip::PBC_INT),
        (Source::GPIO, chip::GPIO_ASSERT_INT),
        (Source::QSFP1, chip::QSFP1_INT),
        (Source::QSFP2, chip::QSFP2_INT),
        (Source::TCRIT, chip::TCRIT_INT),
        (Source::DCC, chip::IS_DC_START),
        (Source::sdma_error(sdma), chip::IS_SDMAENG_ERR_START),
        (Source::send_ctxt_error(send), chip::IS_SENDCTXT_ERR_START),
        (Source::sdma_int(sdma), chip::IS_SDMA_START),
        (Source::sdma_progress(sdma), chip::IS_SDMA_PROGRESS_START),
        (Source::sdma_idle(sdma), chip::IS_SDMA_IDLE_START),
        (Source::rcv_avail(rcv), chip::IS_RCVAVAIL_START),
        (Source::rcv_urgent(rcv), chip::IS_RCVURGENT_START),
        (Source::send_credit(send), chip::IS_SENDCREDIT_START),
    ];
    for (source, number) in pairs {
        assert_eq!(u64::from(source.0), number);
    }
    assert_eq!(u64::from(SOURCES), chip::NUM_INTERRUPT_SOURCES);
}

#[test]
fn typed_words_agree_with_the_constants() {
    let plain = Pbc::new(Dwords(chip::PBC_LENGTH_DWS_MASK as u32), Vl(chip::PBC_VL_MASK as u8), Sc(0));
    assert_eq!(plain.0, chip::PBC_LENGTH_DWS_SMASK | chip::PBC_VL_SMASK);
    let sc4 = Pbc::new(Dwords(0), Vl(0), Sc(16)).credit_return().interrupt();
    assert_eq!(sc4.0, chip::PBC_DC_INFO | chip::PBC_CREDIT_RETURN | chip::PBC_INTR);
    for (place, code) in [
        (InsertHcrc::Local, chip::PBC_IHCRC_LKDETH),
        (InsertHcrc::Global, chip::PBC_IHCRC_GKDETH),
        (InsertHcrc::No, chip::PBC_IHCRC_NONE),
    ] {
        assert_eq!(Pbc::default().insert_hcrc(place).0, code << chip::PBC_INSERT_HCRC_SHIFT);
    }
    assert!(Pbc(chip::PBC_PACKET_BYPASS).is_bypass() && Pbc(chip::PBC_TEST_BAD_ICRC).test_bad_icrc());

    let counter = Blocks(chip::CR_COUNTER_MASK as u16);
    for (reason, bit) in [
        (CreditReason::Pbc, chip::CR_CREDIT_RETURN_DUE_TO_PBC_SMASK),
        (CreditReason::Threshold, chip::CR_CREDIT_RETURN_DUE_TO_THRESHOLD_SMASK),
        (CreditReason::Error, chip::CR_CREDIT_RETURN_DUE_TO_ERR_SMASK),
        (CreditReason::Force, chip::CR_CREDIT_RETURN_DUE_TO_FORCE_SMASK),
    ] {
        let word = CreditReturn::new(counter, true, reason).0;
        assert_eq!(word, chip::CR_COUNTER_SMASK | chip::CR_STATUS_SMASK | bit);
    }
}
