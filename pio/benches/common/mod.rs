//! A sender on a bus of plain memory, and packets for it. The bench plays the chip: it gives all credits back.

use anyhow::Context;
use opx_bench::PlainBus;
use opx_bus::{BlockStore, PciFunction, SharedMem};
use opx_defs::csr;
use opx_defs::units::{Blocks, Iova, JobKey, Lid, Pkey, Psn, Sc, Sl, Vl};
use opx_defs::wire::opx::{Header, Inject, Route};
use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_pio::{Head, PioSender};

/// Bytes of the larger payload.
pub const PAYLOAD: usize = 1024;
/// Credits and wraps come rarely: they count in the mean, not in the median.
pub const LONG: Blocks = Blocks(200);

/// A sender and what it sends.
pub struct Bench {
    pub sender: PioSender<PlainBus<EmuBus>>,
    bus: PlainBus<EmuBus>,
    credits: (SharedMem, usize),
    /// Models of packets without and with payload.
    bare: Head,
    long: Head,
    payload: Vec<u8>,
    stored: SharedMem,
    psn: Psn,
    word2: u64,
    data: u64,
    _lab: Lab,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.bus.attach();
    }
}

impl Bench {
    pub fn new(store: BlockStore, depth: Blocks) -> anyhow::Result<Self> {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let bus = PlainBus::new(adapter.bus(), store)?;
        let hfi = Hfi::open(bus.clone(), Options::default())?;
        hfi.link_up(LinkMode::Loopback)?;
        let ctxt = hfi.send_context(depth)?;
        let number = ctxt.number();
        let line = Iova(bus.read64(csr::SEND_CTXT_CREDIT_RETURN_ADDR.at(number.0.into())));
        let word = line.plus(8 * u64::from(number.0 & 7));
        let credits = bus.host(word).context("the credit word lies in host memory")?;
        let route = Route {
            slid: Lid(1),
            dlid: Lid(1),
            primary_lid: Lid(1),
            src_rx: 1,
            dst_rx: 1,
            sc: Sc(0),
            sl: Sl(0),
            pkey: Pkey(0x8001),
            job_key: JobKey(1),
            qp_prefix: 0x80,
            generation: Default::default(),
        };
        let header = Inject { tag: Some(1), cq_data: None, data: b"12345678" }.encode(&route)?;
        let mut long = header;
        long.set_payload_len(PAYLOAD);
        let head = |header: &Header| Head::new(header.pbc(Vl(0)), header);
        let stored = SharedMem::new(64 + PAYLOAD)?;
        let payload: Vec<u8> = (0..PAYLOAD).map(|i| i as u8).collect();
        stored.write(0, &long.pbc(Vl(0)).0.to_le_bytes());
        stored.write(8, long.as_bytes());
        stored.write(64, &payload);
        bus.detach();
        let sender = PioSender::new(ctxt);
        let (bare, long) = (head(&header), head(&long));
        Ok(Self {
            sender,
            bus,
            credits,
            bare,
            long,
            payload,
            stored,
            psn: Psn::new(0),
            word2: header.word::<2>(),
            data: 7,
            _lab: lab,
        })
    }

    /// Plays the chip: everything that was written has left.
    pub fn give_back(&mut self) {
        let (memory, at) = &self.credits;
        memory.write_u64(*at, self.sender.counters().blocks % 2048);
    }

    /// The model becomes a packet: sequence number, tag and eight bytes of data. Then it is sent.
    #[inline(always)]
    pub fn send_bare(&mut self) -> bool {
        let psn = self.next_psn();
        Self::fill(&mut self.bare, self.word2, psn, self.data);
        self.sender.send(&self.bare, &[]).is_ok()
    }

    /// As [`Bench::send_bare`], with payload from a slice.
    #[inline(always)]
    pub fn send_long(&mut self) -> bool {
        let psn = self.next_psn();
        Self::fill(&mut self.long, self.word2, psn, self.data);
        self.sender.send(&self.long, &self.payload).is_ok()
    }

    /// A packet that lies complete in memory that a device can reach, as the stack keeps it for replays.
    #[inline(always)]
    pub fn send_stored(&mut self) -> bool {
        self.sender.send_stored(&self.stored, 0, PAYLOAD).is_ok()
    }

    #[inline(always)]
    fn next_psn(&mut self) -> Psn {
        self.psn = self.psn.plus(1);
        self.psn
    }

    /// Word 2 of a model without a sequence number is kept with it, as OPX does.
    #[inline(always)]
    fn fill(head: &mut Head, word2: u64, psn: Psn, data: u64) {
        head.header.set_word::<2>(word2 | u64::from(psn.get()));
        head.header.set_word::<4>(data);
        head.header.set_word::<6>(psn.get().into());
    }
}
