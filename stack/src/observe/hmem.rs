//! Operations on memory of devices, counted where OPX counts them (`fi_opx_debug_counters.h`, the group hmem), besides with all others:
//! those whose own buffer is a device's. Managed memory is treated as the host's, here and there.

use super::counters::{Counted, Group};
use crate::buffer::Buffer;
use crate::requests::What;
use crate::thresholds::Protocol;
use opx_defs::wire::opx::INJECT_MAX_BYTES;

/// What is between an endpoint and its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    /// The adapter: OPX's "hfi".
    Adapter,
    /// This machine's memory: OPX's "intranode".
    Memory,
}

/// How a message goes. OPX tells what was injected from what was sent, and here both go in their packet's header when they are that short.
#[derive(Clone, Copy)]
enum How {
    Inject,
    Eager,
    /// Of several pieces of memory.
    EagerVector,
    MultiPacket,
    Rendezvous,
    RendezvousVector,
}

/// What is asked of a peer's memory. Updates, and writes with completion data, OPX doesn't count.
#[derive(Clone, Copy)]
enum Asked {
    Write,
    Read,
    Fetch,
    CompareFetch,
}

/// How the data of a rendezvous goes that a receiver has asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Data {
    Pio,
    Sdma,
    Tid,
}

/// The counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Messages by [`Medium`], untagged and tagged, and [`How`].
    sent: [[[u64; 6]; 2]; 2],
    received: [[[u64; 6]; 2]; 2],
    /// By [`Medium`] and [`Asked`].
    asked: [[u64; 4]; 2],
    /// Answers to offers, by [`Data`].
    data: [u64; 3],
    /// Receives: untagged, tagged.
    posted: [u64; 2],
    /// Times that TIDs were asked for, for memory of a device.
    pub(crate) tid_updates: u64,
}

impl Counts {
    /// A message is sent.
    pub(crate) fn sent(&mut self, medium: Medium, tagged: bool, protocol: Protocol, buffer: &Buffer) {
        if buffer.is_devices() && !buffer.is_empty() {
            let of_several = matches!(buffer, Buffer::Vector(parts) if parts.len() > 1);
            let how = match How::of(protocol, buffer.len()) {
                How::Inject | How::Eager if of_several => How::EagerVector,
                How::Rendezvous if of_several => How::RendezvousVector,
                how => how,
            };
            self.sent[medium as usize][usize::from(tagged)][how as usize] += 1;
        }
    }

    /// A message of so many bytes is taken into a buffer that it fits.
    pub(crate) fn received(&mut self, medium: Medium, tagged: bool, protocol: Protocol, buffer: &Buffer, len: usize) {
        if buffer.is_devices() && len > 0 {
            self.received[medium as usize][usize::from(tagged)][How::of(protocol, len) as usize] += 1;
        }
    }

    /// A receive is posted.
    pub(crate) fn posted(&mut self, tagged: bool, buffer: &Buffer) {
        self.posted[usize::from(tagged)] += u64::from(buffer.is_devices());
    }

    /// Something is asked of a peer's memory, whose buffers here are a device's.
    pub(crate) fn asked(&mut self, medium: Medium, what: &What) {
        let asked = match what {
            What::Write => Asked::Write,
            What::Read => Asked::Read,
            What::AtomicRead(_) | What::Fetch(_, None) => Asked::Fetch,
            What::Fetch(_, Some(_)) => Asked::CompareFetch,
            What::WriteWithData { .. } | What::Update(_) => return,
        };
        self.asked[medium as usize][asked as usize] += 1;
    }

    /// A receiver has asked for data of a message.
    pub(crate) fn data(&mut self, data: Data, buffer: &Buffer) {
        self.data[data as usize] += u64::from(buffer.is_devices());
    }
}

impl How {
    fn of(protocol: Protocol, len: usize) -> Self {
        match protocol {
            Protocol::Eager if len <= INJECT_MAX_BYTES => Self::Inject,
            Protocol::Eager => Self::Eager,
            Protocol::MultiPacket => Self::MultiPacket,
            Protocol::Rendezvous => Self::Rendezvous,
        }
    }
}

fn sent(counted: &Counted, medium: Medium, tagged: bool, how: How) -> u64 {
    counted.tally.hmem.sent[medium as usize][usize::from(tagged)][how as usize]
}

fn received(counted: &Counted, medium: Medium, tagged: bool, how: How) -> u64 {
    counted.tally.hmem.received[medium as usize][usize::from(tagged)][how as usize]
}

fn asked(counted: &Counted, medium: Medium, asked: Asked) -> u64 {
    counted.tally.hmem.asked[medium as usize][asked as usize]
}

/// The group.
pub(super) const GROUP: Group = Group {
    name: "hmem",
    here: &[
        ("hfi.kind[tag].send.inject", |c| sent(c, Medium::Adapter, true, How::Inject)),
        ("hfi.kind[tag].send.eager", |c| sent(c, Medium::Adapter, true, How::Eager)),
        ("hfi.kind[tag].send.eager_noncontig", |c| sent(c, Medium::Adapter, true, How::EagerVector)),
        ("hfi.kind[tag].send.mp_eager", |c| sent(c, Medium::Adapter, true, How::MultiPacket)),
        ("hfi.kind[tag].send.rzv", |c| sent(c, Medium::Adapter, true, How::Rendezvous)),
        ("hfi.kind[tag].send.rzv_noncontig", |c| sent(c, Medium::Adapter, true, How::RendezvousVector)),
        ("hfi.kind[tag].recv.inject", |c| received(c, Medium::Adapter, true, How::Inject)),
        ("hfi.kind[tag].recv.eager", |c| received(c, Medium::Adapter, true, How::Eager)),
        ("hfi.kind[tag].recv.mp_eager", |c| received(c, Medium::Adapter, true, How::MultiPacket)),
        ("hfi.kind[tag].recv.rzv", |c| received(c, Medium::Adapter, true, How::Rendezvous)),
        ("hfi.kind[msg].send.inject", |c| sent(c, Medium::Adapter, false, How::Inject)),
        ("hfi.kind[msg].send.eager", |c| sent(c, Medium::Adapter, false, How::Eager)),
        ("hfi.kind[msg].send.eager_noncontig", |c| sent(c, Medium::Adapter, false, How::EagerVector)),
        ("hfi.kind[msg].send.rzv", |c| sent(c, Medium::Adapter, false, How::Rendezvous)),
        ("hfi.kind[msg].send.rzv_noncontig", |c| sent(c, Medium::Adapter, false, How::RendezvousVector)),
        ("hfi.kind[msg].recv.inject", |c| received(c, Medium::Adapter, false, How::Inject)),
        ("hfi.kind[msg].recv.eager", |c| received(c, Medium::Adapter, false, How::Eager)),
        ("hfi.kind[msg].recv.mp_eager", |c| received(c, Medium::Adapter, false, How::MultiPacket)),
        ("hfi.kind[msg].recv.rzv", |c| received(c, Medium::Adapter, false, How::Rendezvous)),
        ("intranode.kind[tag].send.inject", |c| sent(c, Medium::Memory, true, How::Inject)),
        ("intranode.kind[tag].send.eager", |c| sent(c, Medium::Memory, true, How::Eager)),
        ("intranode.kind[tag].send.eager_noncontig", |c| sent(c, Medium::Memory, true, How::EagerVector)),
        ("intranode.kind[tag].send.rzv", |c| sent(c, Medium::Memory, true, How::Rendezvous)),
        ("intranode.kind[tag].send.rzv_noncontig", |c| sent(c, Medium::Memory, true, How::RendezvousVector)),
        ("intranode.kind[tag].recv.inject", |c| received(c, Medium::Memory, true, How::Inject)),
        ("intranode.kind[tag].recv.eager", |c| received(c, Medium::Memory, true, How::Eager)),
        ("intranode.kind[tag].recv.rzv", |c| received(c, Medium::Memory, true, How::Rendezvous)),
        ("intranode.kind[msg].send.inject", |c| sent(c, Medium::Memory, false, How::Inject)),
        ("intranode.kind[msg].send.eager", |c| sent(c, Medium::Memory, false, How::Eager)),
        ("intranode.kind[msg].send.eager_noncontig", |c| sent(c, Medium::Memory, false, How::EagerVector)),
        ("intranode.kind[msg].send.rzv", |c| sent(c, Medium::Memory, false, How::Rendezvous)),
        ("intranode.kind[msg].send.rzv_noncontig", |c| sent(c, Medium::Memory, false, How::RendezvousVector)),
        ("intranode.kind[msg].recv.inject", |c| received(c, Medium::Memory, false, How::Inject)),
        ("intranode.kind[msg].recv.eager", |c| received(c, Medium::Memory, false, How::Eager)),
        ("intranode.kind[msg].recv.rzv", |c| received(c, Medium::Memory, false, How::Rendezvous)),
        ("dput_rzv_pio", |c| c.tally.hmem.data[Data::Pio as usize]),
        ("dput_rzv_sdma", |c| c.tally.hmem.data[Data::Sdma as usize]),
        ("dput_rzv_tid", |c| c.tally.hmem.data[Data::Tid as usize]),
        ("posted_recv_msg", |c| c.tally.hmem.posted[0]),
        ("posted_recv_tag", |c| c.tally.hmem.posted[1]),
        ("rma_read_intranode", |c| asked(c, Medium::Memory, Asked::Read)),
        ("rma_read_hfi", |c| asked(c, Medium::Adapter, Asked::Read)),
        ("rma_write_intranode", |c| asked(c, Medium::Memory, Asked::Write)),
        ("rma_write_hfi", |c| asked(c, Medium::Adapter, Asked::Write)),
        ("rma_atomic_fetch_hfi", |c| asked(c, Medium::Adapter, Asked::Fetch)),
        ("rma_atomic_fetch_intranode", |c| asked(c, Medium::Memory, Asked::Fetch)),
        ("rma_atomic_cmp_fetch_hfi", |c| asked(c, Medium::Adapter, Asked::CompareFetch)),
        ("rma_atomic_cmp_fetch_intranode", |c| asked(c, Medium::Memory, Asked::CompareFetch)),
        // What stands for the call into the driver: TIDs are asked for.
        ("tid_update", |c| c.tally.hmem.tid_updates),
    ],
    absent: &[
        ("only tagged messages go in several packets, as in OPX", &["hfi.kind[msg].send.mp_eager"]),
        (
            "between processes of one machine no message goes in several packets, as in OPX",
            &[
                "intranode.kind[tag].send.mp_eager",
                "intranode.kind[tag].recv.mp_eager",
                "intranode.kind[msg].send.mp_eager",
                "intranode.kind[msg].recv.mp_eager",
            ],
        ),
        (
            "what a process of this machine is offered it fetches itself: its sender puts nothing",
            &["dput_rzv_intranode"],
        ),
        ("OPX has the name and counts nothing under it", &["tid_recv"]),
    ],
};
