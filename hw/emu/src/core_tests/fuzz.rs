//! Any accesses in any order: nothing panics and nothing grows without bound.

use super::one;
use crate::Icode;
use crate::wire::LINK_CREDIT_BYTES;
use opx_bus::PciFunction;
use opx_defs::csr;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Op {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Register(usize, u32, u64),
    Config(u16, Vec<u8>),
    Pause(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let registers = csr::all().count();
    prop_oneof![
        1 => (0u64..0x500_0000, 0usize..80).prop_map(|(at, len)| Op::Read(at, len)),
        1 => (0u64..0x500_0000, proptest::collection::vec(any::<u8>(), 0..80)).prop_map(|(at, data)| Op::Write(at, data)),
        8 => (0..registers, any::<u32>(), prop_oneof![any::<u64>(), 0u64..16, (0u32..64).prop_map(|bit| 1 << bit)])
            .prop_map(|(row, index, value)| Op::Register(row, index, value)),
        1 => (0u16..4200, proptest::collection::vec(any::<u8>(), 0..9)).prop_map(|(at, data)| Op::Config(at, data)),
        1 => (0u64..3_000_000).prop_map(Op::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn no_access_does_harm(ops in proptest::collection::vec(op(), 1..300)) {
        let (_lab, node) = one(Icode::FunctionalSimulator);
        let rows: Vec<_> = csr::all().collect();
        for op in ops {
            match op {
                Op::Read(at, len) => node.adapter.bar0_read(at, &mut vec![0; len]),
                Op::Write(at, data) => node.adapter.bar0_write(at, &data),
                Op::Register(row, index, value) => {
                    let at = rows[row].at(index % rows[row].count);
                    node.bus.write64(at, value);
                    node.bus.read64(at);
                }
                Op::Config(at, data) => {
                    node.adapter.config_write(at, &data);
                    node.adapter.config_read(at, &mut vec![0; data.len()]);
                }
                Op::Pause(nanos) => node.bus.pause(Duration::from_nanos(nanos)),
            }
        }
        prop_assert!(node.adapter.unmodelled().len() <= 4097);
        let chip = node.adapter.unit.lock();
        prop_assert!(chip.board.events.len() < 20_000, "{} events", chip.board.events.len());
        prop_assert!(chip.board.wires.own.bytes() <= LINK_CREDIT_BYTES);
    }
}
