//! Any header-queue entries, as a broken chip would write them, under the driver's `RecvContext::poll`, in each set-up of a
//! context: never a panic, nothing outside of the buffers is touched, every entry is counted once, and packets behind a GRH
//! aren't taken for others.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_bus::PciFunction;
use opx_defs::units::Dwords;
use opx_defs::wire::rhf::{RcvType, Rhf};
use opx_emu::EmuBus;
use opx_hw::recv::{Detect, EntrySize, PacketKind};
use opx_hw::{Hfi, Received, RecvConfig, RecvContext};
use std::cell::OnceCell;

const ENTRIES: usize = 64;
const RHF_BYTES: usize = 8;
/// LRH, BTH and KDETH.
const KDETH_HEADER: usize = 56;
/// Lets an entry be more than the queue holds, so that it goes round.
const MOST_STEPS: usize = 4 * ENTRIES;

/// How the context is set up.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Setup {
    small_entries: bool,
    by_tail: bool,
    one_packet_per_buffer: bool,
    /// What expected packets have besides.
    flows: bool,
}

impl Setup {
    fn config(self) -> RecvConfig {
        RecvConfig {
            header_entries: ENTRIES as u32,
            header_entry: if self.small_entries { EntrySize::Bytes64 } else { EntrySize::Bytes128 },
            detect: if self.by_tail { Detect::Tail } else { Detect::Sequence },
            eager_buffers: 8,
            eager_buffer_size: 16384,
            one_packet_per_buffer: self.one_packet_per_buffer,
            expected_entries: 8,
            flows: self.flows,
            head_batch: 8,
            interrupts: true,
            ..RecvConfig::default()
        }
    }

    fn entry_bytes(self) -> usize {
        if self.small_entries { 64 } else { 128 }
    }
}

#[derive(Debug, Arbitrary)]
enum Step {
    /// The chip writes the next entry, with the sequence number that is expected, and this where its header begins. The tail
    /// may come later.
    Entry { flags: Flags, header: [u8; 8], late_tail: bool },
    /// The chip writes the tail as it is, or anything.
    Tail(Option<u64>),
    /// The chip writes anything anywhere in the queue.
    Anywhere { qword: u16, value: u64 },
    /// The driver takes a packet.
    Poll,
    /// The driver gives back what it has taken.
    Release { now: bool },
    /// The driver is about to sleep.
    Arm,
}

#[derive(Debug, Arbitrary)]
enum Flags {
    Any(u64),
    Likely { length: u8, kind: u8, header: u8, eager: Option<(u8, u8)>, errors: u8 },
}

impl Flags {
    fn rhf(&self, seq: u8) -> Rhf {
        match *self {
            Self::Any(value) => Rhf(value & !(0xf << 28) | u64::from(seq) << 28),
            Self::Likely { length, kind, header, eager, errors } => {
                let kind = match kind % 8 {
                    0 => RcvType::Expected,
                    1 | 2 => RcvType::Eager,
                    3 => RcvType::Ib,
                    4 => RcvType::Error,
                    5 => RcvType::Bypass,
                    code => RcvType::Invalid(code),
                };
                let rhf = Rhf::new(Dwords(length.into()), kind, seq, Dwords(u32::from(header % 40)));
                let rhf = eager.map_or(rhf, |(index, offset)| rhf.eager((index % 10).into(), offset.into()));
                Rhf(rhf.0 | u64::from(errors & 0xf) << 60)
            }
        }
    }
}

thread_local! {
    static ADAPTER: OnceCell<Hfi<EmuBus>> = const { OnceCell::new() };
}

fn context(setup: Setup) -> RecvContext<EmuBus> {
    ADAPTER.with(|hfi| {
        let hfi = hfi.get_or_init(|| opx_fuzz::bring_up(&opx_fuzz::adapter()));
        hfi.recv_context(setup.config()).expect("the context of the input before was given back")
    })
}

/// The chip's side of a queue.
struct Chip {
    setup: Setup,
    at: usize,
    seq: u8,
    written: u64,
    /// It has written what fits nothing that it wrote before.
    wild: bool,
}

impl Chip {
    fn entry(&mut self, recv: &RecvContext<EmuBus>, flags: &Flags, header: [u8; 8]) {
        let (queue, rhf) = (recv.memory().0, flags.rhf(self.seq));
        let entry = self.at * self.setup.entry_bytes();
        let flags_at = entry + self.setup.entry_bytes() - RHF_BYTES;
        let header_at = entry + rhf.header_offset().bytes() as usize;
        if header_at < flags_at {
            queue.write(header_at, &header[..header.len().min(flags_at - header_at)]);
        }
        queue.write_u64(flags_at, rhf.0);
        (self.at, self.seq, self.written) = ((self.at + 1) % ENTRIES, Rhf::next_seq(self.seq), self.written + 1);
    }

    fn tail(&self, recv: &RecvContext<EmuBus>) {
        if let Some(tail) = recv.tail_memory() {
            tail.write_u64(0, (self.at * self.setup.entry_bytes() / 4) as u64);
        }
    }
}

/// What was handed up lies where it says.
fn look_at(recv: &RecvContext<EmuBus>, setup: Setup, received: &Received) {
    let mut payload = vec![0; received.payload_len()];
    assert_eq!(recv.copy_payload(received, &mut payload), payload.len());
    let mut header = vec![0; setup.entry_bytes()];
    assert_eq!(recv.copy_header(received, &mut header), received.header_len());
    let whole = recv.header(received);
    let both = received.header_len().min(whole.len());
    assert_eq!(whole[..both], header[..both]);
    let (kind, rhf) = (received.kind(), received.rhf());
    assert!(!matches!(kind, PacketKind::Eager | PacketKind::Expected) || received.header_len() >= KDETH_HEADER);
    if kind == PacketKind::Bypass && rhf.uses_eager() {
        assert_eq!(received.header_len() + payload.len(), rhf.length().bytes() as usize);
    }
    // An entry with room for a GRH tells by its length whether there is one.
    let told_by_length = !setup.small_entries && !setup.by_tail && received.header_len() == KDETH_HEADER;
    let grh = header.get(1).is_some_and(|lnh| lnh & 3 == 3);
    assert!(
        told_by_length || !grh || !matches!(kind, PacketKind::Eager | PacketKind::Expected),
        "read without its GRH"
    );
    assert!(grh || kind != PacketKind::Routed);
}

fuzz_target!(|input: (Setup, Vec<Step>)| {
    opx_fuzz::log_everything();
    let (setup, steps) = input;
    let mut recv = context(setup);
    let mut chip = Chip { setup, at: 0, seq: Rhf::FIRST_SEQ, written: 0, wild: false };
    for step in steps.iter().take(MOST_STEPS) {
        match step {
            Step::Entry { flags, header, late_tail } => {
                chip.entry(&recv, flags, *header);
                if !late_tail {
                    chip.tail(&recv);
                }
            }
            Step::Tail(None) => chip.tail(&recv),
            Step::Tail(Some(value)) => {
                if let Some(tail) = recv.tail_memory() {
                    tail.write_u64(0, *value);
                }
            }
            Step::Anywhere { qword, value } => {
                let words = ENTRIES * setup.entry_bytes() / 8;
                recv.memory().0.write_u64(usize::from(*qword) % words * 8, *value);
                chip.wild = true;
            }
            Step::Poll => {
                if let Some(received) = recv.poll() {
                    look_at(&recv, setup, &received);
                }
            }
            Step::Release { now: true } => recv.release_now(),
            Step::Release { now: false } => recv.release(),
            Step::Arm => drop(recv.arm().expect("the adapter is there")),
        }
    }
    chip.tail(&recv);
    // One look at each entry at most, however many of them make sense.
    for _ in 0..2 * MOST_STEPS {
        let Some(received) = recv.poll() else { break };
        look_at(&recv, setup, &received);
        recv.release();
    }
    let counts = recv.counts();
    let (seen, written) = (counts.packets + counts.bad_entries, chip.written);
    assert!(counts.errors <= counts.packets);
    // Entries that were overwritten before they were looked at don't come out, nor do those of a tail that has gone round.
    let most = if setup.by_tail { ENTRIES as u64 - 1 } else { ENTRIES as u64 };
    assert!(chip.wild || seen <= written, "{seen} of {written} entries");
    assert!(chip.wild || written > most || seen == written, "{seen} of {written} entries");
    recv.bus().relax();
});
