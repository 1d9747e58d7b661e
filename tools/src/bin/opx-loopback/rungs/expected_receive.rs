//! Rung "expected receive": messages that go straight to memory behind TIDs, with one header each, and one that loses a packet.

use crate::data;
use crate::report::Tally;
use crate::rig::{Failure, Outcome, Rig, Watch};
use opx_bus::PciFunction;
use opx_defs::flow::FlowPsn;
use opx_defs::tid::Tid;
use opx_defs::units::{Blocks, Dwords, Sc, Sl};
use opx_defs::wire::bth::Bth;
use opx_defs::wire::kdeth::Kdeth;
use opx_defs::wire::lrh::{Lrh, NextHeader};
use opx_defs::wire::opx::Header;
use opx_defs::wire::pbc::Pbc;
use opx_defs::wire::{ICRC_DWORDS, OPX_HEADER_BYTES};
use opx_hw::recv::PacketKind;
use opx_hw::{ExpectedBuffer, Flow, Memory, RecvConfig, RecvContext};
use opx_pio::{Head, PioError, PioSender};

const MEMORY: usize = 1 << 20;
/// Where messages go, and how long they are: less than a page, across pages, more than one entry can hold.
const MESSAGES: [(usize, usize); 7] =
    [(0, 64), (4096, 4096), (5000, 300), (4092, 8), (128 << 10, 300_000), (4, MEMORY - 8), (4096, 4096)];
const PACKET: usize = 4096;
const OPCODE: u8 = 0xc2;

/// A packet of a message: which TID, where in the TID's memory, and which part of the message.
struct Piece {
    tid: Tid,
    offset: u32,
    from: usize,
    len: usize,
}

struct Ends<'a, B: PciFunction> {
    rig: &'a Rig<B>,
    recv: RecvContext<B>,
    sender: PioSender<B>,
    memory: Memory,
    watch: Watch<B>,
}

/// Receives messages of many places and lengths, then one whose third packet is lost the first time.
pub fn expected_receive<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let config =
        RecvConfig { expected_entries: 64, flows: true, job_key: rig.hfi.options().job_key, ..RecvConfig::default() };
    let mut ends = Ends {
        rig,
        recv: rig.hfi.recv_context(config)?,
        sender: PioSender::new(rig.hfi.send_context(Blocks(512))?),
        memory: rig.hfi.memory(MEMORY)?,
        watch: Watch::of(rig),
    };
    let mut tally = Tally::default();
    for (n, (at, len)) in MESSAGES.into_iter().enumerate() {
        let message = data::make(rig.seed.wrapping_add(n as u64), len);
        let buffer = ends.recv.expect(&ends.memory, at..at + len)?;
        let flow = ends.recv.flow(true)?;
        let pieces = cut(&buffer, len);
        let mut psn = FlowPsn { generation: flow.generation(), seq: 0 };
        for (i, piece) in pieces.iter().enumerate() {
            ends.send(&flow, psn, piece, &message, i + 1 < pieces.len())?;
            psn = psn.next();
        }
        ends.await_last()?;
        if flow.state()?.psn() != psn {
            return Err(Failure::wrong(format!("the flow expects {}, not {psn}", flow.state()?.psn())));
        }
        ends.check(at, len, n as u64)?;
        tally.messages += 1;
        tally.bytes += len as u64;
        ends.watch.alive();
    }
    if ends.recv.expected_counts().hits == 0 {
        return Err(Failure::wrong("memory that was there already wasn't used again"));
    }
    ends.lose_a_packet()?;
    tally.retransmits += 1;
    Ok(tally)
}

/// The packets of a message: each within one TID.
fn cut<B: PciFunction>(buffer: &ExpectedBuffer<B>, len: usize) -> Vec<Piece> {
    let (mut pieces, mut from, mut offset) = (Vec::new(), 0, buffer.offset());
    for tid in buffer.tids() {
        while offset < tid.bytes() && from < len {
            // Offsets into large TIDs count in units of 64 bytes.
            let unaligned = offset % 64;
            let most = if unaligned == 0 { PACKET } else { 64 - unaligned as usize };
            let len = most.min((tid.bytes() - offset) as usize).min(len - from);
            pieces.push(Piece { tid: *tid, offset, from, len });
            (from, offset) = (from + len, offset + len as u32);
        }
        offset = 0;
    }
    pieces
}

impl<B: PciFunction> Ends<'_, B> {
    /// Sends a packet of a message; waits for credit where there is none.
    fn send(
        &mut self,
        flow: &Flow<B>,
        psn: FlowPsn,
        piece: &Piece,
        message: &[u8],
        suppress: bool,
    ) -> Result<(), Failure> {
        let (hfi, options) = (&self.rig.hfi, self.rig.hfi.options());
        let dwords = Dwords::holding((OPX_HEADER_BYTES + piece.len) as u32);
        let length = Dwords(dwords.0 + ICRC_DWORDS);
        let lrh = Lrh { sc: Sc(0), sl: Sl(0), next: NextHeader::Bth, dlid: hfi.lid(), slid: hfi.lid(), length };
        let dest_qp = 0x80_0000 | u32::from(flow.index()) << 11 | u32::from(self.recv.number().0);
        let bth = Bth { opcode: OPCODE, pkey: options.pkey, dest_qp };
        let kdeth = Kdeth::expected(options.job_key, piece.tid, piece.offset)
            .ok_or_else(|| Failure::wrong(format!("offset {} can't be in a packet", piece.offset)))?;
        let kdeth = if suppress { kdeth.suppress() } else { kdeth };
        let mut header = [0; OPX_HEADER_BYTES];
        header[..8].copy_from_slice(&lrh.encode());
        header[8..16].copy_from_slice(&bth.encode());
        header[16..20].copy_from_slice(&psn.bits().to_be_bytes());
        header[20..28].copy_from_slice(&kdeth.encode());
        let pbc = Pbc::new(Dwords(dwords.0 + 2), self.rig.config.vl, Sc(0)).credit_return();
        let payload = &message[piece.from..piece.from + piece.len];
        let head = Head::new(pbc, &Header(header));
        loop {
            match self.sender.send(&head, payload) {
                Ok(()) => return Ok(()),
                Err(PioError::NoCredit { .. }) => self.watch.step(false)?,
                Err(error) => return Err(Failure::wrong(error.to_string())),
            }
        }
    }

    /// The next header that comes: its error bits.
    fn header(&mut self) -> Result<u64, Failure> {
        loop {
            if let Some(received) = self.recv.poll() {
                let (kind, errors) = (received.kind(), received.errors());
                self.recv.release();
                if kind != PacketKind::Expected {
                    return Err(Failure::wrong(format!("a packet came as {kind:?}, with errors {errors:#x}")));
                }
                return Ok(errors);
            }
            self.watch.step(false)?;
        }
    }

    /// Waits for the last packet's header; it is the only one.
    fn await_last(&mut self) -> Result<(), Failure> {
        match self.header()? {
            0 if self.recv.poll().is_none() => Ok(()),
            0 => Err(Failure::wrong("headers that should be suppressed came")),
            errors => Err(Failure::wrong(format!("an expected packet came with error flags {errors:#x}"))),
        }
    }

    fn check(&self, at: usize, len: usize, n: u64) -> Result<(), Failure> {
        let mut found = vec![0; len];
        self.memory.memory().read(at, &mut found);
        match data::first_difference(self.rig.seed.wrapping_add(n), &found) {
            Some(at) => Err(Failure::wrong(format!("message {n} of {len} bytes differs from byte {at} on"))),
            None => Ok(()),
        }
    }

    /// Leaves out the third packet; the flow says so and goes on from there in a new generation.
    fn lose_a_packet(&mut self) -> Result<(), Failure> {
        const LEN: usize = 6 * PACKET;
        const LOST: usize = 2;
        let n = MESSAGES.len() as u64;
        let message = data::make(self.rig.seed.wrapping_add(n), LEN);
        let buffer = self.recv.expect(&self.memory, 0..LEN)?;
        let mut flow = self.recv.flow(true)?;
        let pieces = cut(&buffer, LEN);
        let mut psn = FlowPsn { generation: flow.generation(), seq: 0 };
        for (i, piece) in pieces.iter().enumerate() {
            if i != LOST {
                self.send(&flow, psn, piece, &message, i + 1 < pieces.len())?;
            }
            psn = psn.next();
        }
        // Each packet behind the lost one comes with its header, and says why.
        for _ in LOST + 1..pieces.len() {
            let errors = self.header()?;
            if errors >> 56 & 7 != 2 {
                return Err(Failure::wrong(format!("error flags {errors:#x} where a wrong sequence number was due")));
            }
        }
        let mut psn = flow.rearm()?;
        if usize::from(psn.seq) != LOST {
            return Err(Failure::wrong(format!("the flow goes on at {psn}, not at packet {LOST}")));
        }
        for (i, piece) in pieces.iter().enumerate().skip(LOST) {
            self.send(&flow, psn, piece, &message, i + 1 < pieces.len())?;
            psn = psn.next();
        }
        self.await_last()?;
        self.check(0, LEN, n)
    }
}
