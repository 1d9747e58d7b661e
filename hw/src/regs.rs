//! Access to the chip's registers with the check that the adapter is still there.

use crate::error::{ChipError, Gone, Stuck};
use opx_bus::{ALL_ONES, PciFunction, ProcessMark, poll};
use opx_defs::csr::{self, Csr};
use opx_defs::units::BarOff;
use std::time::Duration;

/// No wait for the hardware is shorter than this. Linux's limits for the fast ones are tens of microseconds, counted by
/// looks at the register; a look through a socket, or at an adapter whose thread isn't running just now, takes longer
/// than that. The limit only shows when the hardware is broken.
const LEAST_LIMIT: Duration = Duration::from_millis(500);

/// Linux's limits, from `chip.h`, `firmware.c`, `pio.c` and `sdma.c`.
pub(crate) mod limit {
    use std::time::Duration;

    /// `firmware.c:DC8051_ACCESS_TIMEOUT`.
    pub const RAM_ACCESS: Duration = Duration::from_micros(100);
    /// `firmware.c:RSA_ENGINE_TIMEOUT`.
    pub const RSA: Duration = Duration::from_millis(100);
    /// `chip.h:TIMEOUT_8051_START`.
    pub const START_8051: Duration = Duration::from_millis(5000);
    /// `chip.h:DC8051_COMMAND_TIMEOUT`.
    pub const COMMAND_8051: Duration = Duration::from_millis(1000);
    /// `chip.c:goto_offline`, the 8051's quiet time.
    pub const QUIET_8051: Duration = Duration::from_millis(7000);
    /// `chip.h:SBUS_TIMEOUT`.
    pub const SBUS_RESOURCE: Duration = Duration::from_millis(4000);
    /// `chip.h:QSFP_WAIT`.
    pub const I2C_RESOURCE: Duration = Duration::from_millis(20_000);
    /// `eprom.c:EPROM_TIMEOUT`.
    pub const EPROM_RESOURCE: Duration = Duration::from_millis(80_000);
    /// `firmware.c:SBUS_MAX_POLL_COUNT`, 1 us each.
    pub const SBUS_COUNTERS: Duration = Duration::from_micros(100);
    /// `firmware.c:HM_TIMEOUT`.
    pub const HW_MUTEX: Duration = Duration::from_millis(10);
    /// `chip.h:FREEZE_STATUS_TIMEOUT`.
    pub const FREEZE: Duration = Duration::from_millis(20);
    /// `chip.h:VL_STATUS_CLEAR_TIMEOUT`.
    pub const CREDIT_STATUS: Duration = Duration::from_millis(5000);
    /// `chip.c:set_link_state`, physical and logical states.
    pub const LINK_STATE: Duration = Duration::from_millis(1000);
    /// `chip.c:goto_offline`, any offline state.
    pub const OFFLINE: Duration = Duration::from_millis(10_000);
    /// `chip.c:goto_offline`, offline.quiet.
    pub const OFFLINE_QUIET: Duration = Duration::from_millis(30_000);
    /// `chip.c:do_quick_linkup`.
    pub const TRANSFER_ACTIVE: Duration = Duration::from_millis(10);
    /// `pio.c:pio_init_wait_progress`.
    pub const PIO_INIT: Duration = Duration::from_micros(25);
    /// `pio.c:sc_restart`.
    pub const CONTEXT_HALT: Duration = Duration::from_micros(100);
    /// `pio.c:sc_wait_for_packet_egress`: 50000 looks, 1 us each, without a change.
    pub const EGRESS: Duration = Duration::from_millis(50);
    /// `sdma.c:SDMA_ERR_HALT_TIMEOUT`.
    pub const SDMA_HALT: Duration = Duration::from_millis(10);
    /// Linux has no limit here (`sdma.c:sdma_hw_clean_up_task`, `pio.c:__cm_reset`); these end in microseconds.
    pub const UNBOUNDED_IN_LINUX: Duration = Duration::from_millis(1000);
    /// Time for the function to answer after its reset; the bus has waited already.
    pub const AFTER_RESET: Duration = Duration::from_millis(1000);
}

/// The registers of one adapter. In a child that was forked from the process that opened it they read as those of an adapter that
/// is gone, and can't be written: what the child has of contexts and engines are copies of its parent's, and it drops them when
/// it ends.
#[derive(Debug, Clone)]
pub(crate) struct Regs<B> {
    bus: B,
    process: ProcessMark,
}

fn name_of(csr: &Csr, index: u32) -> String {
    if csr.count > 1 { format!("{}[{index}]", csr.name) } else { csr.name.to_owned() }
}

impl<B: PciFunction> Regs<B> {
    pub fn new(bus: B) -> Self {
        Self { bus, process: ProcessMark::here() }
    }

    pub fn bus(&self) -> &B {
        &self.bus
    }

    pub fn adapter(&self) -> String {
        self.bus.name().to_owned()
    }

    /// The error for a register that reads as all ones.
    pub fn gone(&self, csr: &Csr, index: u32) -> Gone {
        let why = if self.process.is_here() {
            self.bus.gone().map_or_else(String::new, |why| format!(" ({why})"))
        } else {
            " (it belongs to the process that this one was forked from)".to_owned()
        };
        Gone { adapter: self.adapter(), register: name_of(csr, index), offset: csr.at(index), why }
    }

    /// Whether the adapter is this process', rather than that of the one it was forked from. A child leaves alone what it drops:
    /// it isn't its own, and a lock may be held by a thread that only its parent has.
    pub fn is_ours(&self) -> bool {
        self.process.is_here()
    }

    /// That it is; the error for a child that would have to take a lock first.
    pub fn check_ours(&self) -> Result<(), Gone> {
        if self.is_ours() { Ok(()) } else { Err(self.gone(&csr::CCE_REVISION, 0)) }
    }

    fn read_bus(&self, offset: BarOff) -> u64 {
        if self.process.is_here() { self.bus.read64(offset) } else { ALL_ONES }
    }

    /// Reads a register that has one instance and never reads as all ones.
    pub fn read(&self, csr: &Csr) -> Result<u64, Gone> {
        self.read_at(csr, 0)
    }

    /// Reads an instance of a register that never reads as all ones.
    pub fn read_at(&self, csr: &Csr, index: u32) -> Result<u64, Gone> {
        match self.read_bus(csr.at(index)) {
            ALL_ONES => Err(self.gone(csr, index)),
            value => Ok(value),
        }
    }

    /// Reads an instance of a register all of whose bits may be set, such as an error status or an enable mask.
    /// CCE_REVISION, which is never all ones, then tells whether the adapter is there.
    pub fn read_any(&self, csr: &Csr, index: u32) -> Result<u64, Gone> {
        let value = self.read_bus(csr.at(index));
        if value == ALL_ONES && self.read_bus(csr::CCE_REVISION.off()) == ALL_ONES {
            return Err(self.gone(csr, index));
        }
        Ok(value)
    }

    pub fn write(&self, csr: &Csr, value: u64) {
        self.write_off(csr.off(), value);
    }

    pub fn write_at(&self, csr: &Csr, index: u32, value: u64) {
        self.write_off(csr.at(index), value);
    }

    pub fn write_off(&self, offset: BarOff, value: u64) {
        if self.process.is_here() {
            self.bus.write64(offset, value);
        }
    }

    /// Reads, changes and writes back a register that has one instance.
    pub fn modify(&self, csr: &Csr, change: impl FnOnce(u64) -> u64) -> Result<(), Gone> {
        let value = self.read(csr)?;
        self.write(csr, change(value));
        Ok(())
    }

    /// Lets time pass.
    pub fn pause(&self, duration: Duration) {
        self.bus.pause(duration);
    }

    /// Waits until a register satisfies `ready`, and gives what it read then.
    pub fn wait(
        &self,
        csr: &Csr,
        index: u32,
        limit: Duration,
        wanted: &'static str,
        mut ready: impl FnMut(u64) -> bool,
    ) -> Result<u64, ChipError> {
        let limit = limit.max(LEAST_LIMIT);
        let mut last = 0;
        let seen = poll::until(&self.bus, limit, || match self.read_at(csr, index) {
            Err(gone) => Some(Err(gone)),
            Ok(value) => {
                last = value;
                ready(value).then_some(Ok(value))
            }
        });
        match seen {
            Ok(result) => Ok(result?),
            Err(_) => {
                let register = name_of(csr, index);
                Err(Stuck { adapter: self.adapter(), register, wanted, value: last, limit }.into())
            }
        }
    }
}
