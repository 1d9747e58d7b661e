//! What the send engines and the receive contexts must do, packet by packet.

use crate::rig::Rig;
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::csr;
use opx_defs::units::{Blocks, Psn, Vl};
use opx_defs::wire::opx::{Eager, Header, Route};
use opx_hw::{Hfi, RecvConfig, RecvContext};
use opx_pio::{Head, PioError, PioSender};
use opx_sdma::{Fragment, Outcome, SdmaQueue};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// A receive context and the way to it.
struct Target<B: PciFunction> {
    recv: RecvContext<B>,
    route: Route,
}

fn target<B: PciFunction>(hfi: &Hfi<B>, interrupts: bool) -> Target<B> {
    let job_key = hfi.options().job_key;
    let recv = hfi.recv_context(RecvConfig { job_key, interrupts, ..RecvConfig::default() }).unwrap();
    let rx = recv.number().0 as u8;
    let route = hfi.route(rx, hfi.lid(), rx);
    Target { recv, route }
}

fn message(n: u32) -> Vec<u8> {
    (0..n as usize * 61 % 4000).map(|i| (i as u32 * 7 + n) as u8).collect()
}

impl<B: PciFunction> Target<B> {
    fn packet(&self, n: u32, payload: &mut [u8]) -> (Header, usize) {
        let (mut header, len) = Eager::of(Some(n.into()), None, &message(n)).encode(&self.route, payload).unwrap();
        header.set_psn(Psn::new(n));
        (header, len)
    }

    /// Takes packets; each must be number `next` and have the right content.
    fn take(&mut self, next: &mut u32) {
        let mut payload = vec![0; 8192];
        while let Some(received) = self.recv.poll() {
            assert_eq!(received.errors(), 0);
            let len = self.recv.copy_payload(&received, &mut payload);
            let header = Header(self.recv.header(&received));
            let eager = Eager::decode(&header, &payload[..len]).unwrap();
            assert_eq!(eager.tag, Some(u64::from(*next)));
            assert_eq!([eager.tail, eager.body].concat(), message(*next));
            self.recv.release();
            *next += 1;
        }
    }
}

/// More packets than the context's buffer holds, by PIO.
pub fn pio_packets_arrive_in_order<B: PciFunction>(rig: Rig<B>) {
    let hfi = rig.bring_up();
    let mut target = target(&hfi, false);
    let mut sender = PioSender::new(hfi.send_context(Blocks(97)).unwrap());
    let (mut sent, mut next) = (0, 0);
    let mut payload = vec![0; 8192];
    rig.wait(LIMIT, || {
        while sent < 300 {
            let (header, len) = target.packet(sent, &mut payload);
            match sender.send(&Head::new(header.pbc(Vl(0)), &header), &payload[..len]) {
                Ok(()) => sent += 1,
                Err(PioError::NoCredit { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        target.take(&mut next);
        (next == 300).then_some(())
    })
    .unwrap_or_else(|| panic!("{sent} packets were sent, {next} arrived"));
    assert!(sender.counters().no_credit > 0);
}

/// Every block of a context comes back.
pub fn credits_all_come_back<B: PciFunction>(rig: Rig<B>) {
    let hfi = rig.bring_up();
    let mut target = target(&hfi, false);
    let mut sender = PioSender::new(hfi.send_context(Blocks(40)).unwrap());
    for n in 0..200 {
        let header = Eager::of(Some(n), None, b"1234567").encode(&target.route, &mut []).unwrap().0;
        while sender.send(&Head::new(header.pbc(Vl(0)).credit_return(), &header), &[]).is_err() {
            rig.bus.relax();
        }
        if target.recv.poll().is_some() {
            target.recv.release();
        }
    }
    rig.wait(LIMIT, || (sender.outstanding() == Blocks(0)).then_some(())).expect("all credits come back");
    assert_eq!(sender.available(), Blocks(40));
}

/// More packets than the ring holds, by SDMA; each completes once, in order.
pub fn sdma_packets_arrive_in_order<B: PciFunction>(rig: Rig<B>) {
    const SLOT: usize = 8192;
    let hfi = rig.bring_up();
    let mut target = target(&hfi, false);
    let mut queue = SdmaQueue::new(hfi.sdma_engine(64).unwrap());
    let memory = hfi.bus().dma_alloc(64 * SLOT).unwrap();
    let (mut sent, mut done, mut next) = (0, 0, 0);
    let mut payload = vec![0; 8192];
    rig.wait(LIMIT, || {
        while sent < 300 && sent - done < 64 {
            let (header, len) = target.packet(sent, &mut payload);
            let at = sent as usize % 64 * SLOT;
            memory.write(at, &header.pbc(Vl(0)).0.to_le_bytes());
            memory.write(at + 8, header.as_bytes());
            memory.write(at + 64, &payload[..len]);
            let whole = [Fragment::of(&memory, at..at + 64 + len).unwrap()];
            if queue.submit(&whole, sent).is_err() {
                break;
            }
            sent += 1;
        }
        queue.doorbell();
        while let Some(ended) = queue.poll() {
            assert_eq!(ended, (done, Outcome::Sent));
            done += 1;
        }
        target.take(&mut next);
        (next == 300 && done == 300).then_some(())
    })
    .unwrap_or_else(|| panic!("{sent} packets were sent, {done} done, {next} arrived"));
}

/// An engine that is sent to memory that isn't mapped any more halts and says why; started anew, it sends again.
pub fn sdma_from_an_unmapped_address_is_refused<B: PciFunction>(rig: Rig<B>) {
    let hfi = rig.bring_up();
    let mut target = target(&hfi, false);
    let mut queue = SdmaQueue::new(hfi.sdma_engine(64).unwrap());
    let memory = hfi.bus().dma_alloc(4096).unwrap();
    let unmapped = hfi.bus().dma_alloc(1 << 20).unwrap().iova(0);
    queue.submit(&[Fragment::raw(unmapped, 128)], 0).unwrap();
    queue.doorbell();
    let status = rig.wait(LIMIT, || Some(queue.engine().error_status()).filter(|status| *status != 0));
    let status = status.expect("the engine halts");
    assert_ne!(status, ALL_ONES);
    assert!(csr::SEND_DMA_ENG_ERR_STATUS::SDMA_MEM_READ_ERR.is_set(status), "{status:#x}");
    queue.restart().unwrap();
    assert_eq!(queue.poll(), Some((0, Outcome::Failed)));

    let (header, len) = target.packet(0, &mut []);
    assert_eq!(len, 0);
    memory.write(0, &header.pbc(Vl(0)).0.to_le_bytes());
    memory.write(8, header.as_bytes());
    queue.submit(&[Fragment::of(&memory, 0..64).unwrap()], 1).unwrap();
    queue.doorbell();
    let ended = rig.wait(LIMIT, || queue.poll());
    assert_eq!(ended, Some((1, Outcome::Sent)));
    let mut next = 0;
    rig.wait(LIMIT, || {
        target.take(&mut next);
        (next == 1).then_some(())
    })
    .expect("the packet arrives");
}

/// Who armed a context and sleeps is woken by the next packet, every time.
pub fn a_sleeper_is_woken_by_a_packet<B: PciFunction>(rig: Rig<B>) {
    let hfi = rig.bring_up();
    let mut target = target(&hfi, true);
    let mut sender = PioSender::new(hfi.send_context(Blocks(64)).unwrap());
    let irq = target.recv.irq().unwrap().clone();
    let mut next = 0;
    for n in 0..50 {
        let there_already = target.recv.arm().unwrap();
        assert!(!there_already);
        // Every 4000th message is empty.
        let (header, len) = target.packet(n * 4000, &mut []);
        assert_eq!(len, 0);
        while sender.send(&Head::new(header.pbc(Vl(0)), &header), &[]).is_err() {
            rig.bus.relax();
        }
        assert!(rig.bus.wait_irq(&irq, LIMIT).unwrap(), "packet {n} raised no interrupt");
        rig.wait(LIMIT, || target.recv.poll()).expect("the packet that woke us");
        target.recv.release();
        next += 1;
    }
    assert_eq!(next, 50);
}
