//! Freezes: what the chip does when an error or a dead link leaves packets half-way, and how contexts and engines learn of it.
//!
//! A freeze stops every engine and loses what was in it. The chip's part is done here, at once and by whoever finds it
//! (`chip.c:start_freeze_handling, handle_freeze`); each handle does its own part when its owner calls `recover`, as Linux
//! leaves the contexts of users to them (`file_ops.c:user_ctxt_reset`). Between the two stands what
//! `frozen.rs` keeps.

use crate::error::{ChipError, ContextError, Gone};
use crate::frozen::Standstill;
use crate::hfi::{Inner, lock};
use crate::regs::limit;
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::units::SdmaEngine;
use std::sync::atomic::Ordering;

/// All four blocks of CCE_STATUS (`chip.h:ALL_FROZE`).
const ALL_FROZE: u64 = 0xf;

/// Whether packets may come in.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Port {
    /// The link has been up far enough.
    open: bool,
    /// A freeze is being dealt with.
    frozen: bool,
}

/// Why the chip freezes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An error, after which it has begun to by itself.
    Error,
    /// The link went down, so packets are stuck on their way out: the driver asks for it.
    LinkDown,
}

impl<B: PciFunction> Inner<B> {
    /// The chip's part of a freeze, from its beginning to its end: `chip.c:start_freeze_handling, handle_freeze`. An
    /// indicator that doesn't come is waited for in bounds and then done without, as in Linux
    /// (`chip.c:wait_for_freeze_status`).
    pub fn freeze_and_unfreeze(&self, cause: Cause) -> Result<(), Gone> {
        let _one_at_a_time = lock(&self.freezing);
        if cause == Cause::LinkDown {
            self.frozen.link_is_down();
        }
        if self.frozen.is_for_good() {
            return Ok(());
        }
        self.frozen.begin();
        let done = self.pass_through();
        // Even of a chip that is gone nobody must think that it is still being worked on.
        self.frozen.end();
        self.counts.freezes.fetch_add(1, Ordering::Relaxed);
        let open = lock(&self.pool).open();
        log::warn!("{}: the chip was frozen ({cause:?}); {open} contexts and engines have to recover", self.info.name);
        done
    }

    fn pass_through(&self) -> Result<(), Gone> {
        // Asking a chip that freezes already changes nothing, and it makes up for an error whose freeze was ended by one
        // that came before it.
        self.regs.write(&csr::CCE_CTRL, csr::CCE_CTRL::SPC_FREEZE.mask());
        self.wait_frozen("all blocks frozen", |status| status & ALL_FROZE == ALL_FROZE)?;
        for engine in 0..self.info.sizes.sdma_engines {
            let ctrl = self.regs.read_at(&csr::SEND_DMA_CTRL, engine)?;
            if !csr::SEND_DMA_CTRL::SDMA_ENABLE.is_set(ctrl) {
                // Unused, or an earlier freeze has stopped it, and its owner hasn't started it since.
                continue;
            }
            // sdma.c:sdma_sw_clean_up_task: before the unfreeze clears the head.
            let slot = self.regs.read_at(&csr::SEND_DMA_HEAD, engine)? & 0xffff;
            self.frozen.keep_head(SdmaEngine(engine as u8), slot as u32);
            // sdma.c:sdma_freeze_notify, s80: no longer enabled. The unfreeze leaves an engine neither halted nor in need of a
            // clean-up; still enabled, it would start on the old ring when an owner who doesn't know yet rings.
            self.regs.write_at(&csr::SEND_DMA_CTRL, engine, 0);
        }
        // chip.c:rxe_freeze.
        self.freeze_port(true)?;
        for ctxt in 0..self.info.sizes.recv_contexts {
            let enable = csr::RCV_CTXT_CTRL::ENABLE;
            let ctrl = self.regs.read_at(&csr::RCV_CTXT_CTRL, ctxt)?;
            if enable.is_set(ctrl) {
                self.regs.write_at(&csr::RCV_CTXT_CTRL, ctxt, ctrl & !enable.mask());
            }
        }
        self.regs.write(&csr::CCE_CTRL, csr::CCE_CTRL::SPC_UNFREEZE.mask());
        self.wait_frozen("no block frozen", |status| status & ALL_FROZE == 0)?;
        // chip.c:rxe_kernel_unfreeze. A port that is closed, since the link is down, stays so.
        self.freeze_port(false)
    }

    /// Opens or closes the port for packets that arrive; during a freeze it stays closed until that is over.
    pub fn open_port(&self, open: bool) -> Result<(), Gone> {
        let mut port = lock(&self.port);
        port.open = open;
        self.set_port(*port)
    }

    fn freeze_port(&self, frozen: bool) -> Result<(), Gone> {
        let mut port = lock(&self.port);
        port.frozen = frozen;
        self.set_port(*port)
    }

    fn set_port(&self, port: Port) -> Result<(), Gone> {
        let enable = u64::from(port.open && !port.frozen);
        self.regs.modify(&csr::RCV_CTRL, |control| csr::RCV_CTRL::RCV_PORT_ENABLE.set(control, enable))
    }

    fn wait_frozen(&self, wanted: &'static str, ready: impl Fn(u64) -> bool) -> Result<(), Gone> {
        match self.regs.wait(&csr::CCE_STATUS, 0, limit::FREEZE, wanted, ready) {
            Err(ChipError::Gone(gone)) => Err(gone),
            Err(ChipError::Stuck(stuck)) => {
                self.counts.freeze_timeouts.fetch_add(1, Ordering::Relaxed);
                log::warn!("{stuck}; going on");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Freezes the chip for good, since it is too hot: `chip.c:handle_temp_err`. What it does beyond that is the link's.
    pub fn freeze_for_good(&self) {
        let _one_at_a_time = lock(&self.freezing);
        self.frozen.stays();
        self.regs.write(&csr::CCE_CTRL, csr::CCE_CTRL::SPC_FREEZE.mask());
        self.frozen.begin();
    }

    /// The epoch that a receive context which is set up from here on belongs to. Taken before the first register is
    /// touched: a freeze in between then makes it one of the past.
    pub fn running_epoch(&self) -> Result<u32, ContextError> {
        self.regs.check_ours()?;
        self.frozen.running().map_err(|why| self.standstill(why))
    }

    /// The same for a send context or engine that recovers: what it sends while the link is down is lost
    /// (`pio.c:pio_kernel_linkup`).
    pub fn sending_epoch(&self) -> Result<u32, ContextError> {
        self.regs.check_ours()?;
        self.frozen.sending().map_err(|why| self.standstill(why))
    }

    /// Why something of that epoch couldn't be set up: a freeze that came meanwhile undoes it half-way.
    pub fn unless_frozen_since(&self, epoch: u32, error: ContextError) -> ContextError {
        let undone = !error.is_gone() && self.frozen.is_stale(epoch);
        if undone { self.standstill(Standstill::Frozen) } else { error }
    }

    fn standstill(&self, why: Standstill) -> ContextError {
        let adapter = self.adapter();
        match why {
            Standstill::Overheated => ContextError::Overheated { adapter },
            Standstill::Frozen => ContextError::Frozen { adapter },
            Standstill::LinkDown => ContextError::LinkDown { adapter },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hfi, LinkMode, Options};
    use opx_defs::sdma::SdmaDesc;
    use opx_defs::units::Vl;
    use opx_defs::wire::opx::Inject;
    use opx_emu::{Adapter, Config, EmuBus, Icode, Lab, Pacing};
    use std::time::Duration;

    /// An engine on an adapter in loopback, with a packet in each of its first slots.
    fn engine(adapter: &Adapter) -> (Hfi<EmuBus>, crate::SdmaEngine<EmuBus>) {
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let mut engine = hfi.sdma_engine(64).unwrap();
        let memory = hfi.bus().dma_alloc(4096).unwrap();
        let header = Inject { tag: Some(1), cq_data: None, data: b"hi" }.encode(&hfi.route(1, hfi.lid(), 1)).unwrap();
        memory.write_u64(0, header.pbc(Vl(0)).0);
        memory.write(8, header.as_bytes());
        for slot in 0..8 {
            engine.write_descriptor(slot, SdmaDesc::new(memory.iova(0), 64).first().last());
        }
        engine.hold(memory);
        (hfi, engine)
    }

    /// The chip is unfrozen before all owners know that it was frozen.
    #[test]
    fn a_doorbell_after_a_freeze_starts_nothing() {
        let adapter = Lab::new(Pacing::Virtual).add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let (hfi, mut engine) = engine(&adapter);
        let ring = |engine: &crate::SdmaEngine<EmuBus>, tail| {
            engine.ring_doorbell(tail);
            hfi.bus().pause(Duration::from_millis(1));
            adapter.counts().packets_sent
        };
        let before = adapter.counts().packets_sent;
        assert_eq!(ring(&engine, 3), before + 3);
        hfi.inner.freeze_and_unfreeze(Cause::Error).unwrap();
        assert_eq!(ring(&engine, 5), before + 3, "packets of before the freeze were sent again");
        engine.restart().unwrap();
        assert_eq!(ring(&engine, 2), before + 5);
    }

    #[test]
    fn where_a_freeze_stopped_an_engine_is_known_after_others() {
        let adapter = Lab::new(Pacing::Virtual).add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let (hfi, mut engine) = engine(&adapter);
        for (tail, freezes) in [(3, 1), (5, 2), (0, 3)] {
            engine.ring_doorbell(tail);
            hfi.bus().pause(Duration::from_millis(1));
            for _ in 0..freezes {
                hfi.inner.freeze_and_unfreeze(Cause::Error).unwrap();
            }
            assert_eq!(engine.halt().unwrap(), Some(tail));
            engine.resume().unwrap();
        }
    }

    /// An error's freeze is dealt with by one thread while another works on the link.
    #[test]
    fn a_port_that_changes_during_a_freeze_stays_changed() {
        let adapter = Lab::new(Pacing::Virtual).add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
        let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let inner = &hfi.inner;
        let is_open = || csr::RCV_CTRL::RCV_PORT_ENABLE.is_set(inner.regs.read(&csr::RCV_CTRL).unwrap());
        assert!(is_open());
        for open in [false, true] {
            inner.freeze_port(true).unwrap();
            inner.open_port(open).unwrap();
            assert!(!is_open());
            inner.freeze_port(false).unwrap();
            assert_eq!(is_open(), open);
        }
        inner.freeze_and_unfreeze(Cause::Error).unwrap();
        assert!(is_open());
    }
}
