//! Rung "steering": 16B packets, led to two contexts by a rule and to a third one without.

use crate::report::Tally;
use crate::rig::{Failure, Outcome, Rig, Watch};
use opx_bus::PciFunction;
use opx_defs::csr::{self, SEND_CTXT_CHECK_ENABLE};
use opx_defs::rsm::{RsmRule, bit};
use opx_defs::units::{Blocks, Dwords, Sc};
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::lrh16::{L2_16B, L4_ETHERNET, L4_IB_LOCAL, LRH16_BYTES, Lrh16};
use opx_defs::wire::opx::Header;
use opx_defs::wire::pbc::Pbc;
use opx_defs::wire::rhf::RcvType;
use opx_hw::recv::PacketKind;
use opx_hw::{RecvConfig, RecvContext};
use opx_pio::{Head, PioError, PioSender};

const PACKETS: u16 = 300;
const PAYLOAD: usize = 512;

/// Sends 16B packets of two kinds; those of one kind are spread by their entropy, the others go where all go.
pub fn steering<B: PciFunction>(rig: &Rig<B>) -> Outcome {
    let contexts = [context(rig)?, context(rig)?, context(rig)?];
    let numbers = contexts.each_ref().map(RecvContext::number);
    let mut sender = PioSender::new(rig.hfi.send_context(Blocks(128))?);
    // Contexts of users may not send 16B packets as a rule.
    let (bus, n) = (rig.hfi.bus(), sender.context().number().0.into());
    let checks = bus.read64(csr::SEND_CTXT_CHECK_ENABLE.at(n));
    bus.write64(csr::SEND_CTXT_CHECK_ENABLE.at(n), checks & !SEND_CTXT_CHECK_ENABLE::DISALLOW_BYPASS.mask());
    bus.read64(csr::SEND_CTXT_CHECK_ENABLE.at(n));

    let rule = RsmRule::new(RcvType::Bypass)
        .field1(bit::L2, 3, L2_16B)
        .field2(bit::L4, 0xff, L4_ETHERNET)
        .index1(bit::ENTROPY, 1);
    let steering = rig.hfi.steer(rule, &numbers[..2])?;
    rig.hfi.bypass_to(Some(numbers[2]))?;
    let outcome = exchange(rig, &mut sender, contexts);
    drop(steering);
    rig.hfi.bypass_to(None)?;
    outcome
}

fn context<B: PciFunction>(rig: &Rig<B>) -> Result<RecvContext<B>, Failure> {
    Ok(rig.hfi.recv_context(RecvConfig { job_key: rig.hfi.options().job_key, ..RecvConfig::default() })?)
}

fn exchange<B: PciFunction>(rig: &Rig<B>, sender: &mut PioSender<B>, mut contexts: [RecvContext<B>; 3]) -> Outcome {
    let mut watch = Watch::of(rig);
    let mut tally = Tally::default();
    let payload = crate::data::make(rig.seed, PAYLOAD);
    for n in 0..PACKETS {
        let (l4, to) = if n % 3 == 2 { (L4_IB_LOCAL, 2) } else { (L4_ETHERNET, usize::from(n % 2)) };
        let header = Lrh16 {
            slid: rig.hfi.lid(),
            dlid: rig.hfi.lid(),
            qwords: ((OPX_HEADER_BYTES + PAYLOAD) / 8) as u16,
            sc: Sc(0),
            rc: 0,
            fecn: false,
            becn: false,
            l2: L2_16B,
            l4,
            pkey: rig.hfi.options().pkey,
            entropy: n,
            age: 0,
        };
        // What follows the 16 bytes is payload to the chip.
        let mut front = [n as u8; OPX_HEADER_BYTES];
        front[..LRH16_BYTES].copy_from_slice(&header.encode());
        let dwords = Dwords::holding((8 + OPX_HEADER_BYTES + PAYLOAD) as u32);
        let pbc = Pbc::new(dwords, rig.config.vl, Sc(0)).bypass().credit_return();
        let head = Head::new(pbc, &Header(front));
        loop {
            match sender.send(&head, &payload) {
                Ok(()) => break,
                Err(PioError::NoCredit { .. }) => watch.step(false)?,
                Err(error) => return Err(Failure::wrong(error.to_string())),
            }
        }
        let (at, received) = loop {
            let mut polled = contexts.iter_mut().enumerate();
            match polled.find_map(|(at, context)| context.poll().map(|received| (at, received))) {
                Some(found) => break found,
                None => watch.step(false)?,
            }
        };
        watch.alive();
        let Some(context) = contexts.get_mut(at) else { continue };
        if (at, received.kind(), received.errors()) != (to, PacketKind::Bypass, 0) {
            return Err(Failure::wrong(format!("packet {n} came to context {at} as {received:?}, not to {to}")));
        }
        let (mut got_header, mut got) = ([0; LRH16_BYTES], vec![0; received.payload_len()]);
        context.copy_header(&received, &mut got_header);
        context.copy_payload(&received, &mut got);
        context.release();
        if Lrh16::decode(got_header) != header || got != [&front[LRH16_BYTES..], &payload].concat() {
            return Err(Failure::wrong(format!("packet {n} arrived changed")));
        }
        tally.messages += 1;
        tally.bytes += got.len() as u64;
    }
    Ok(tally)
}
