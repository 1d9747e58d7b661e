//! Any header-queue entries, as a broken chip would write them, under the driver's `RecvContext::poll`: never a panic, nothing
//! outside of the buffers is touched, and every entry is counted once.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_bus::PciFunction;
use opx_defs::units::Dwords;
use opx_defs::wire::rhf::{RcvType, Rhf};
use opx_emu::EmuBus;
use opx_hw::{Hfi, RecvConfig, RecvContext};
use std::cell::OnceCell;

const ENTRIES: usize = 64;
const ENTRY_BYTES: usize = 128;
const RHF_OFFSET: usize = ENTRY_BYTES - 8;
/// Lets an entry be more than the queue holds, so that it goes round.
const MOST_STEPS: usize = 4 * ENTRIES;

#[derive(Debug, Arbitrary)]
enum Step {
    /// The chip writes the next entry, with the sequence number that is expected.
    Entry(Flags),
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

fn context() -> RecvContext<EmuBus> {
    let config = RecvConfig {
        header_entries: ENTRIES as u32,
        eager_buffers: 8,
        eager_buffer_size: 16384,
        head_batch: 8,
        interrupts: true,
        ..RecvConfig::default()
    };
    ADAPTER.with(|hfi| {
        let hfi = hfi.get_or_init(|| opx_fuzz::bring_up(&opx_fuzz::adapter()));
        hfi.recv_context(config).expect("the context of the input before was given back")
    })
}

fuzz_target!(|steps: Vec<Step>| {
    opx_fuzz::log_everything();
    let mut recv = context();
    let (mut at, mut seq, mut written, mut wild) = (0, Rhf::FIRST_SEQ, 0, false);
    for step in steps.iter().take(MOST_STEPS) {
        match step {
            Step::Entry(flags) => {
                recv.memory().0.write_u64(at * ENTRY_BYTES + RHF_OFFSET, flags.rhf(seq).0);
                (at, seq, written) = ((at + 1) % ENTRIES, Rhf::next_seq(seq), written + 1);
            }
            Step::Anywhere { qword, value } => {
                recv.memory().0.write_u64(usize::from(*qword) % (ENTRIES * ENTRY_BYTES / 8) * 8, *value);
                wild = true;
            }
            Step::Poll => {
                if let Some(received) = recv.poll() {
                    let mut payload = vec![0; received.payload_len()];
                    assert_eq!(recv.copy_payload(&received, &mut payload), payload.len());
                }
            }
            Step::Release { now: true } => recv.release_now(),
            Step::Release { now: false } => recv.release(),
            Step::Arm => drop(recv.arm().expect("the adapter is there")),
        }
    }
    // One look at each entry at most, however many of them make sense.
    for _ in 0..2 * MOST_STEPS {
        if recv.poll().is_none() {
            break;
        }
        recv.release();
    }
    let counts = recv.counts();
    let seen = counts.packets + counts.bad_entries;
    assert!(counts.errors <= counts.packets);
    // Entries that were overwritten before they were looked at don't come out.
    assert!(wild || seen <= written, "{seen} of {written} entries");
    assert!(wild || written > ENTRIES as u64 || seen == written, "{seen} of {written} entries");
    recv.bus().relax();
});
