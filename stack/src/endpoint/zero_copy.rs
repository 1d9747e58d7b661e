//! Data that the engine takes from the application's memory: when it can, and when the memory may go back to its owner.

use super::Endpoint;
use crate::completion::OperationError;
use crate::operations::{Send, SendKind, Source};
use crate::table::Handle;
use opx_bus::PciFunction;
use opx_hw::Memory;

impl<B: PciFunction> Endpoint<B> {
    /// The memory from which the engine takes the data of a rendezvous, and where the buffer begins in it; `None` when the data
    /// is copied.
    pub(super) fn mapped_source(&mut self, handle: Handle) -> Option<(Memory, usize)> {
        let send = self.sends.get_mut(handle)?;
        let len = send.buffer.len();
        let SendKind::Rendezvous { source, .. } = &mut send.kind else { return None };
        if let Source::Unknown = source {
            let thresholds = &self.config.thresholds;
            let long = thresholds.by_sdma(len) && len >= thresholds.sdma_bounce_max;
            let reachable = send.buffer.reachable().filter(|_| long);
            let mapped = reachable.and_then(|(memory, start)| Some((self.mappings.get(&self.hfi, memory)?, start)));
            *source = mapped.map_or(Source::Copied, |(memory, start)| Source::Mapped(memory, start));
        }
        match source {
            Source::Mapped(memory, start) => Some((memory.clone(), *start)),
            Source::Unknown | Source::Copied => None,
        }
    }

    /// The engine has read the memory of an operation for one packet.
    pub(super) fn read_once(&mut self, reader: Handle) {
        let Some(send) = self.sends.get_mut(reader) else { return };
        send.reading = send.reading.saturating_sub(1);
        match send.failed {
            Some(error) => self.fail_send(reader, error),
            None => self.finish_send(reader),
        }
    }

    /// Takes out a send that fails, unless the engine may be reading its buffer: then it fails when that is done.
    pub(super) fn take_send_unless_read(&mut self, handle: Handle, error: OperationError) -> Option<Send> {
        let send = self.sends.get_mut(handle)?;
        if send.reading > 0 {
            send.failed.get_or_insert(error);
            return None;
        }
        if let SendKind::Rendezvous { source: Source::Mapped(..), .. } = send.kind {
            // Its packets have numbers that the receiver waits for, so they may have to be sent again all the same.
            for slot in self.slots.read_for(handle) {
                self.slots.bring_in(slot);
            }
        }
        self.take_send(handle)
    }

    /// The link stays down, so the engine can't finish: what it has not read it doesn't read any more.
    pub(super) fn stop_reading(&mut self) {
        let handles = self.sends.handles();
        if !handles.into_iter().any(|handle| self.sends.get_mut(handle).is_some_and(|send| send.failed.is_some())) {
            return;
        }
        if let Err(error) = self.sdma.stop() {
            log::warn!("{}: {error}", self.hfi.bus().name());
        }
        self.take_back_slots();
        // Otherwise `recover` does it.
        if self.hfi.freezes() == self.freezes
            && let Err(error) = self.sdma.restart()
        {
            log::warn!("{}: {error}", self.hfi.bus().name());
        }
    }
}
