//! What is sent again is what was sent: of each packet, all that was given to the adapter and all that came off its wire is compared
//! byte by byte, while a quarter of the packets gets lost.

mod common;

use common::{bench, data};
use opx_bus::{PacketFaults, SharedMem};
use opx_defs::wire::opx::{Generation, Header, Opcode};
use opx_stack::atomics::{AtomicOp, Datatype, Op};
use opx_stack::observe::Tap;
use opx_stack::regions::{Access, Registration};
use opx_stack::{Atomic, Completion, Config, Pattern, Remote, Write};
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, PcapBlockOwned, PcapError, PcapNGReader};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

const LOSS: PacketFaults = PacketFaults { loss: 25.0, duplicate: 0.0, reorder: 0.0, corrupt: 0.0 };
const ROUNDS: u64 = 40;

/// Behind what is given to the adapter it puts four bytes.
const ICRC: usize = 4;

/// The packets of a capture, by sender, receiver and number.
#[derive(Default)]
struct Seen {
    first: HashMap<(u8, u8, u32), Vec<u8>>,
    /// How many were given to the adapter again, by kind.
    again: BTreeMap<&'static str, u32>,
    /// How many came off its wire.
    arrived: u32,
    different: Vec<String>,
}

fn kind(opcode: Opcode) -> &'static str {
    match opcode {
        Opcode::RzvCts => "CTS",
        Opcode::RzvData => "DATA",
        Opcode::RmaRts => "RMA_RTS",
        Opcode::MpNth => "MP_EAGER_NTH",
        Opcode::MpFirst(_) => "MP_EAGER_FIRST",
        Opcode::Inject(_) => "INJECT",
        Opcode::Eager(_) => "EAGER",
        Opcode::RzvRts(_) => "RTS",
        Opcode::Ud | Opcode::Other(_) => "none",
    }
}

impl Seen {
    fn read(capture: &Path, generation: Generation) -> Self {
        let bytes = std::fs::read(capture).unwrap();
        let mut reader = PcapNGReader::new(1 << 16, &bytes[..]).unwrap();
        let mut seen = Self::default();
        loop {
            let (consumed, block) = match reader.next() {
                Ok(next) => next,
                Err(PcapError::Eof) => break,
                Err(PcapError::Incomplete(_)) => {
                    reader.refill().unwrap();
                    continue;
                }
                Err(error) => panic!("{error:?}"),
            };
            if let PcapBlockOwned::NG(Block::EnhancedPacket(packet)) = block {
                let bytes = &packet.data[..packet.caplen as usize];
                match packet.if_id {
                    0 => seen.packet(generation, true, bytes),
                    1 => seen.packet(generation, false, &bytes[..bytes.len() - ICRC]),
                    _ => {}
                }
            }
            reader.consume(consumed);
        }
        seen
    }

    fn packet(&mut self, generation: Generation, is_given: bool, bytes: &[u8]) {
        let header = Header(*bytes.first_chunk().unwrap());
        let opcode = header.opcode_in(generation);
        if !opcode.is_sequenced() {
            return;
        }
        let key = (header.origin_in(generation).rx, header.dst_rx(), header.psn().get());
        let Some(first) = self.first.get(&key) else {
            assert!(is_given, "{opcode:?} {key:?} came and wasn't sent");
            self.first.insert(key, bytes.to_vec());
            return;
        };
        if is_given {
            *self.again.entry(kind(opcode)).or_default() += 1;
        } else {
            self.arrived += 1;
        }
        if first != bytes {
            let at = first.iter().zip(bytes).position(|(one, other)| one != other);
            self.different.push(format!("{opcode:?} {key:?}: {} and {} bytes, at {at:?}", first.len(), bytes.len()));
        }
    }
}

#[test]
fn a_packet_that_is_sent_again_is_the_one_that_was_sent() {
    for generation in Generation::ALL {
        let mut bench = bench(Config { generation, ..Config::default() });
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.pcapng");
        let tap = Tap::create(&path, generation).unwrap();
        bench.a.set_tap(Some(tap.clone()));
        bench.b.set_tap(Some(tap.clone()));
        bench.adapter.set_tap(tap.on_wire());
        bench.adapter.set_wire_faults(LOSS, 11);

        let memory = SharedMem::new(1 << 16).unwrap();
        let region = bench.b.regions().register(Registration::of(memory, Access::ATOMIC)).unwrap();
        let there = Remote { peer: bench.b.address(), key: region.key(), place: 64 };
        let sum = AtomicOp::new(Op::Sum, Datatype::Uint64).unwrap();
        let swap = AtomicOp::new(Op::Cswap, Datatype::Uint64).unwrap();
        let to = bench.b.address();
        for round in 0..ROUNDS {
            for tag in 0..4 {
                bench.b.tag_receive(Pattern::exact(tag), vec![0; 50_000], tag).unwrap();
            }
            // The oldest generations send a peer's first packet alone.
            bench.a.tag_inject(to, 0, &data(round, 9)).unwrap();
            bench.quiet();
            for (tag, len) in [(1, 700), (2, 13_001), (3, 40_003)] {
                bench.a.tag_send(to, tag, data(round, len + round as usize), tag).unwrap();
            }
            bench.a.write(there, data(round, 9000), 10).unwrap();
            bench.a.write_with(Write { data: Some(7), ..Write::new(there, data(round, 300), 11) }).unwrap();
            bench.a.read(there, vec![0; 9000], 12).unwrap();
            let operand = || 1u64.to_le_bytes().to_vec();
            bench.a.atomic(Atomic::update(there, sum, operand(), 13)).unwrap();
            bench.a.atomic(Atomic::fetch(there, sum, operand(), vec![0; 8], 14)).unwrap();
            bench.a.atomic(Atomic::compare(there, swap, operand(), operand(), vec![0; 8], 15)).unwrap();
            let (mut at_a, mut at_b) = (BTreeSet::new(), 0);
            bench.run(|bench| {
                while let Some(done) = bench.a.poll_completion() {
                    let context = match done {
                        Completion::Sent { context, .. }
                        | Completion::Written { context, .. }
                        | Completion::Read { context, .. }
                        | Completion::Fetched { context, .. } => context,
                        other => panic!("{other:?}"),
                    };
                    assert!(at_a.insert(context));
                }
                at_b += std::iter::from_fn(|| bench.b.poll_completion()).count();
                at_a.len() == 9 && at_b == 5 && bench.a.is_quiet() && bench.b.is_quiet()
            });
        }
        let seen = Seen::read(&path, generation);
        assert!(seen.different.is_empty(), "{generation}: {:#?}", seen.different);
        let kinds: Vec<_> = seen.again.keys().copied().collect();
        let all = ["CTS", "DATA", "EAGER", "INJECT", "MP_EAGER_FIRST", "MP_EAGER_NTH", "RMA_RTS", "RTS"];
        assert_eq!(kinds, all, "{generation}: {:?}", seen.again);
        assert!(seen.arrived as usize >= seen.first.len(), "{} of {} arrived", seen.arrived, seen.first.len());
    }
}
