//! Single packets without a protocol above them: made, sent, and checked when they arrive.

use crate::data;
use crate::report::Tally;
use crate::rig::{Failure, Rig};
use opx_bus::PciFunction;
use opx_defs::units::{Psn, SendCtxt, Vl};
use opx_defs::wire::opx::{Eager, Header, Route};
use opx_defs::wire::pbc::Pbc;
use opx_hw::{RecvConfig, RecvContext};

/// The largest payload of a packet.
pub const MAX_PAYLOAD: usize = 8192;

/// A receive context that expects packets number 0, 1, 2, … to arrive in order.
pub struct RawReceiver<B: PciFunction> {
    /// The context.
    pub recv: RecvContext<B>,
    route: Route,
    seed: u64,
    vl: Vl,
    payload: Vec<u8>,
    /// Where a packet is made once more, to compare headers.
    again: Vec<u8>,
    /// Number of the next packet to arrive.
    pub next: u32,
    /// What has arrived.
    pub tally: Tally,
}

impl<B: PciFunction> RawReceiver<B> {
    /// A receiver on a context of its own.
    pub fn new(rig: &Rig<B>, config: RecvConfig) -> Result<Self, Failure> {
        let config = RecvConfig { job_key: rig.hfi.options().job_key, ..config };
        let recv = rig.hfi.recv_context(config)?;
        let rx = recv.number().0 as u8;
        let route = rig.hfi.route(rx, rig.hfi.lid(), rx);
        let (payload, again) = (vec![0; MAX_PAYLOAD], vec![0; MAX_PAYLOAD]);
        Ok(Self { recv, route, seed: rig.seed, vl: rig.config.vl, payload, again, next: 0, tally: Tally::default() })
    }

    /// Packet number `n` of `len` message bytes: its PBC and header; the payload is put into `out`, its length returned.
    pub fn packet(&self, n: u32, len: usize, out: &mut [u8]) -> Result<(Pbc, Header, usize), Failure> {
        let message = data::make(self.seed.wrapping_add(n.into()), len);
        let eager = Eager::of(Some(n.into()), None, &message);
        let encoded = eager.encode(&self.route, out);
        let (mut header, payload) = encoded.map_err(|why| Failure::wrong(format!("packet {n}: {why}")))?;
        header.set_psn(Psn::new(n));
        Ok((header.pbc(self.vl), header, payload))
    }

    /// Takes everything that has arrived and checks it; `true` when there was something.
    pub fn take(&mut self) -> Result<bool, Failure> {
        self.take_up_to(usize::MAX)
    }

    /// As [`RawReceiver::take`], at most `most` packets.
    pub fn take_up_to(&mut self, most: usize) -> Result<bool, Failure> {
        let mut any = false;
        for _ in 0..most {
            let Some(n) = self.take_one()? else { break };
            if n != self.next {
                return Err(Failure::wrong(format!("packet {n} arrived where {} was due", self.next)));
            }
            self.next += 1;
            any = true;
        }
        Ok(any)
    }

    /// Takes one packet, checks its content and gives its number.
    pub fn take_one(&mut self) -> Result<Option<u32>, Failure> {
        let Some(received) = self.recv.poll() else { return Ok(None) };
        let header = Header(self.recv.header(&received));
        let len = self.recv.copy_payload(&received, &mut self.payload);
        let errors = received.errors();
        self.recv.release();
        if errors != 0 {
            return Err(Failure::wrong(format!("a packet arrived with error flags {errors:#x}")));
        }
        let n = header.psn().get();
        let decoded = Eager::decode(&header, &self.payload[..len]);
        let eager = decoded.map_err(|why| Failure::wrong(format!("packet {n} arrived broken: {why}")))?;
        if eager.tag != Some(n.into()) {
            return Err(Failure::wrong(format!("packet {n} arrived with tag {:?}", eager.tag)));
        }
        let message = [eager.tail, eager.body].concat();
        if let Some(at) = data::first_difference(self.seed.wrapping_add(n.into()), &message) {
            return Err(Failure::wrong(format!("packet {n} of {} bytes differs from byte {at} on", message.len())));
        }
        let mut again = std::mem::take(&mut self.again);
        let made = self.packet(n, message.len(), &mut again);
        self.again = again;
        if header != made?.1 {
            return Err(Failure::wrong(format!("packet {n} arrived with another header than it was sent with")));
        }
        self.tally.messages += 1;
        self.tally.bytes += message.len() as u64;
        Ok(Some(n))
    }
}

/// A length for packet `n`: all the small ones, then steps that meet every remainder of 8 and of 64.
pub fn length(n: u32) -> usize {
    match n as usize {
        small @ 0..=130 => small,
        n => (n * 137) % (MAX_PAYLOAD + 1),
    }
}

/// The send context's number in an error.
pub fn ctxt(number: SendCtxt) -> String {
    format!("send context {number}")
}
