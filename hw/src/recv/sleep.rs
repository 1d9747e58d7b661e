//! Sleeping until a packet comes: the context's interrupt, and how none is missed.

use super::RecvContext;
use crate::error::Gone;
use crate::moderation::{Moderation, Moderator};
use opx_bus::{Irq, PciFunction};
use opx_defs::csr;
use opx_defs::source::Source;

impl<B: PciFunction> RecvContext<B> {
    pub(super) fn source(&self) -> Source {
        Source::rcv_avail(self.number)
    }

    /// The interrupt that packets raise, when the context was made with one.
    pub fn irq(&self) -> Option<&Irq> {
        self.vector.and_then(|vector| self.inner.irqs.get(usize::from(vector)))
    }

    /// Changes when packets raise the interrupt, from the next [`RecvContext::arm`] on.
    pub fn set_moderation(&mut self, moderation: Moderation) {
        self.moderator = Moderator::new(moderation);
        self.inner.regs.write_at(&csr::RCV_AVAIL_TIME_OUT, self.index(), self.moderator.timeout());
    }

    /// Prepares to sleep on [`RecvContext::irq`]: `true` when a packet is there already, so don't. When it isn't, any
    /// packet from now on raises the interrupt. Releases what was taken.
    ///
    /// # Errors
    /// When the adapter is gone.
    pub fn arm(&mut self) -> Result<bool, Gone> {
        let (n, source) = (self.index(), self.source());
        // chip.c:__hfi1_rcd_eoi_intr: clear first, then look, so that a packet between the two is seen by the look and
        // one after it raises the interrupt anew. The read makes sure that the clear arrived.
        self.inner.regs.write_at(&csr::CCE_INT_CLEAR, source.word(), source.bit());
        self.inner.regs.read_any(&csr::CCE_INT_CLEAR, source.word())?;
        if self.queue.next().is_some() {
            return Ok(true);
        }
        // chip.c:update_usrhead: the time first, so that it counts when the head starts it.
        let taken = self.counts.packets.wrapping_sub(self.armed_at);
        self.armed_at = self.counts.packets;
        if taken > 0
            && let Some(timeout) = self.moderator.adjust(taken)
        {
            self.inner.regs.write_at(&csr::RCV_AVAIL_TIME_OUT, n, timeout);
        }
        // Writing the head starts the interrupt's count of packets and time anew.
        self.released = self.queue.place();
        let tail = self.inner.regs.read_at(&csr::RCV_HDR_TAIL, n)?;
        let head = self.queue.head_dwords();
        self.update_heads();
        if tail == head {
            return Ok(self.queue.next().is_some());
        }
        // The chip counts a packet before its entry is in memory. Its copy of the tail may also have been lost.
        self.counts.lost_tails += u64::from(self.queue.note_tail(tail));
        Ok(true)
    }
}
