//! What the tests of senders share: an adapter in loopback, a receiver on it, and packets between them.
#![allow(dead_code)]

use opx_bus::PciFunction;
use opx_defs::units::{Blocks, Lid, Psn, Vl};
use opx_defs::wire::opx::{Header, Inject};
use opx_emu::{Adapter, Config, EmuBus, Fault, Icode, Lab, Pacing, PioFault};
use opx_hw::{Hfi, LinkMode, Options, RecvConfig, RecvContext, SendConfig};
use opx_pio::{Head, PioError, PioSender};

pub struct Bench {
    pub hfi: Hfi<EmuBus>,
    pub adapter: Adapter,
    pub recv: RecvContext<EmuBus>,
    pub lab: Lab,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Pacing::Virtual)
    }

    pub fn with(pacing: Pacing) -> Self {
        let lab = Lab::new(pacing);
        let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let recv = hfi.recv_context(RecvConfig { job_key: hfi.options().job_key, ..RecvConfig::default() }).unwrap();
        Self { hfi, adapter, recv, lab }
    }

    pub fn sender(&self, blocks: u16) -> PioSender<EmuBus> {
        self.sender_with(SendConfig::new(Blocks(blocks)))
    }

    pub fn sender_with(&self, config: SendConfig) -> PioSender<EmuBus> {
        PioSender::new(self.hfi.send_context_with(config).unwrap())
    }

    /// A good packet of `payload` bytes, a multiple of 4.
    pub fn header(&self, payload: usize) -> Header {
        let rx = self.recv.number().0 as u8;
        let route = self.hfi.route(rx, self.hfi.lid(), rx);
        let mut header = Inject { tag: Some(1), cq_data: None, data: b"x" }.encode(&route).unwrap();
        header.set_payload_len(payload);
        header
    }

    pub fn head(&self, payload: usize) -> Head {
        let header = self.header(payload);
        Head::new(header.pbc(Vl(0)), &header)
    }

    pub fn lid(&self) -> Lid {
        self.hfi.lid()
    }

    /// Tells the adapter of a fault at the context's packet after `after` others.
    pub fn inject(&self, fault: PioFault, sender: &PioSender<EmuBus>, after: u64) {
        assert!(self.adapter.inject(Fault::Pio(fault), sender.context().number().0, after));
    }

    /// Lets everything that is under way arrive.
    pub fn settle(&self) {
        self.hfi.bus().pause(std::time::Duration::from_millis(1));
    }

    /// Takes what has arrived: sequence number and payload.
    pub fn arrived(&mut self) -> Vec<(u32, Vec<u8>)> {
        let mut arrived = Vec::new();
        while let Some(received) = self.recv.poll() {
            let mut payload = vec![0; received.payload_len()];
            self.recv.copy_payload(&received, &mut payload);
            assert_eq!(received.errors(), 0);
            arrived.push((Header(self.recv.header(&received)).psn().get(), payload));
            self.recv.release();
        }
        arrived
    }

    /// Sends packets until the sender says something else than that it has no credit.
    pub fn send_until_error(&self, sender: &mut PioSender<EmuBus>) -> PioError {
        for _ in 0..2_000_000 {
            match sender.send(&self.head(0), &[]) {
                Ok(()) | Err(PioError::NoCredit { .. }) => self.hfi.bus().relax(),
                Err(error) => return error,
            }
        }
        panic!("no error came");
    }

    /// Shows that the sender is in order: more packets than it has blocks go through it, each arrives once, and all credits
    /// come back.
    pub fn is_in_order(&mut self, sender: &mut PioSender<EmuBus>) {
        self.settle();
        self.arrived();
        let blocks = u32::from(sender.context().depth().0);
        let mut head = self.head(0);
        let mut psns = Vec::new();
        for psn in 0..3 * blocks {
            head.header.set_psn(Psn::new(psn));
            loop {
                match sender.send(&head, &[]) {
                    Ok(()) => break,
                    Err(PioError::NoCredit { .. }) => self.hfi.bus().relax(),
                    Err(error) => panic!("packet {psn}: {error}"),
                }
            }
            psns.extend(self.arrived().into_iter().map(|(psn, _)| psn));
        }
        self.settle();
        psns.extend(self.arrived().into_iter().map(|(psn, _)| psn));
        assert_eq!(psns, (0..3 * blocks).collect::<Vec<_>>());
        sender.context().force_credit_return();
        self.settle();
        assert_eq!(sender.outstanding(), Blocks(0));
    }
}
