//! The sizes at which a message goes another way: OPX's, with its defaults. They can be changed while the endpoint runs.

use crate::MAX_PAYLOAD;
use opx_defs::units::Blocks;
use opx_defs::wire::opx::Padding;

/// Sizes in bytes at which a message goes by another protocol or another engine.
///
/// ```
/// use opx_stack::{Config, Thresholds};
/// let thresholds = Thresholds { rendezvous_min: 32_768, ..Thresholds::default() };
/// let config = Config { thresholds, ..Config::default() };
/// assert_eq!(config.thresholds.sdma_min, 16_385);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Longest message that goes as one eager packet, if the send context is large enough for that. At most
    /// [`MAX_PAYLOAD`].
    pub eager_max: usize,
    /// Shortest message that goes by rendezvous (`FI_OPX_RZV_MIN_PAYLOAD_BYTES`), when it is too long for one packet.
    /// Tagged messages between go in several eager packets. 64 to 65536.
    pub rendezvous_min: usize,
    /// No message goes in several eager packets (`FI_OPX_MP_EAGER_DISABLE`).
    pub no_multi_packet: bool,
    /// Longest payload of an eager packet that the processor writes itself (PIO); longer ones go by SDMA. OPX has all of them
    /// written by the processor.
    pub pio_max: usize,
    /// Shortest message whose bytes go by SDMA (`FI_OPX_SDMA_MIN_PAYLOAD_BYTES`) when it goes by rendezvous; those of shorter
    /// ones are written by the processor. 64 to 2147483646.
    pub sdma_min: usize,
    /// The processor writes all packets (`FI_OPX_SDMA_DISABLE`), but those that don't fit the send context.
    pub no_sdma: bool,
    /// Shortest message whose data isn't copied on its way out when it goes by rendezvous and SDMA
    /// (`FI_OPX_SDMA_BOUNCE_BUF_THRESHOLD`). Only memory that a device can reach ([`crate::Buffer::Shared`]) can do without.
    pub sdma_bounce_max: usize,
    /// No data is asked for in expected packets, and no message is offered so that it could be (`FI_OPX_TID_DISABLE`).
    pub no_tid: bool,
    /// Shortest message whose data is asked for in expected packets (`FI_OPX_TID_MIN_PAYLOAD_BYTES`), which the adapter puts into
    /// the buffer by itself. Only memory that a device can reach ([`crate::Buffer::Shared`]) can be asked for so, and
    /// [`Thresholds::sdma_min`] holds as well. At least 64.
    pub tid_min: usize,
    /// Most payload bytes in a packet (`FI_OPX_MAX_PKT_SIZE`): 2048, 4096 or 8192.
    pub packet_max: usize,
    /// The buffer of a multi-receive is used up when less is left of it (`FI_OPT_MIN_MULTI_RECV`). For those posted later.
    pub min_multi_receive: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            eager_max: MAX_PAYLOAD,
            rendezvous_min: 16385,
            no_multi_packet: false,
            pio_max: 512,
            sdma_min: 16385,
            no_sdma: false,
            sdma_bounce_max: 16385,
            no_tid: false,
            tid_min: 4096,
            packet_max: MAX_PAYLOAD,
            // fi_opx_msg.c: what the payload of a packet can hold.
            min_multi_receive: 10240,
        }
    }
}

/// A threshold that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("threshold {name} is {value}, it must be {must}")]
pub struct ThresholdError {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: usize,
    /// What it must be.
    pub must: &'static str,
}

/// Most bytes in a packet of a message of several (`fi_opx_ep.c`, for adapters of the first generation).
const CHUNK_MAX: usize = 4096;
/// What data packets that the processor writes are a multiple of.
const BLOCK: usize = 64;

/// What the thresholds come to with a send context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Longest message in one packet.
    pub(crate) eager: usize,
    /// Longest in several without asking.
    pub(crate) multi_packet: usize,
    /// Bytes in each of those.
    pub(crate) chunk: usize,
    /// Bytes in a data packet that the processor writes.
    pub(crate) pio_data: usize,
    /// Bytes in a data packet that the engine fetches.
    pub(crate) sdma_data: usize,
    /// Bytes in a data packet of a write, an atomic operation or an answer, which goes by its length.
    pub(crate) data: usize,
    /// Longest payload of a packet of its own that the processor writes; the engine fetches longer ones.
    pub(crate) by_processor: usize,
}

/// How a message goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Eager,
    MultiPacket,
    Rendezvous,
}

impl Limits {
    /// How a message goes.
    #[inline(always)]
    pub(crate) fn protocol(&self, tagged: bool, len: usize) -> Protocol {
        if len <= self.eager {
            Protocol::Eager
        } else if tagged && len <= self.multi_packet {
            Protocol::MultiPacket
        } else {
            Protocol::Rendezvous
        }
    }

    /// Whether the engine fetches a packet with so many bytes of payload.
    #[inline(always)]
    pub(crate) fn by_engine(&self, payload: usize) -> bool {
        payload > self.by_processor
    }

    /// How the payload of a data packet is filled up, by the way that it takes.
    pub(crate) fn padding(&self, len: usize) -> Padding {
        if self.by_engine(len) { Padding::Qword } else { Padding::Block }
    }
}

impl Thresholds {
    pub(crate) fn check(&self) -> Result<(), ThresholdError> {
        let check =
            |good: bool, name, value, must| if good { Ok(()) } else { Err(ThresholdError { name, value, must }) };
        check((1..=MAX_PAYLOAD).contains(&self.eager_max), "eager_max", self.eager_max, "1 to 8192")?;
        let rendezvous = 64..=1 << 16;
        check(rendezvous.contains(&self.rendezvous_min), "rendezvous_min", self.rendezvous_min, "64 to 65536")?;
        let sdma = 64..=(1 << 31) - 2;
        check(sdma.contains(&self.sdma_min), "sdma_min", self.sdma_min, "64 to 2147483646")?;
        check(self.tid_min >= 64, "tid_min", self.tid_min, "at least 64")?;
        let packets = [2048, 4096, 8192];
        check(packets.contains(&self.packet_max), "packet_max", self.packet_max, "2048, 4096 or 8192")
    }

    /// What they come to with a send context of `depth` blocks. Source: `fi_opx_ep.c:fi_opx_ep_tx_init`: a packet that the
    /// processor writes takes at most two thirds of the context.
    pub(crate) fn limits(&self, depth: Blocks) -> Limits {
        let two_thirds = usize::from(depth.0.saturating_sub(1)) * 66 / 100 * BLOCK;
        let eager = self.eager_max.min(self.rendezvous_min - 1).min(two_thirds).min(self.packet_max);
        let several = if self.no_multi_packet || self.rendezvous_min <= eager { 0 } else { self.rendezvous_min - 1 };
        // Later packets begin at multiples of 8.
        let chunk = eager.min(CHUNK_MAX) / 8 * 8;
        let (pio_data, sdma_data) = (two_thirds.min(self.packet_max).max(BLOCK), self.packet_max);
        // PBC and header are a block.
        let context = usize::from(depth.0.saturating_sub(1)) * BLOCK;
        Limits {
            eager,
            multi_packet: if chunk == 0 { 0 } else { several.min(usize::from(u16::MAX)) },
            chunk,
            pio_data,
            sdma_data,
            data: if self.no_sdma { pio_data } else { sdma_data },
            by_processor: if self.no_sdma { context } else { self.pio_max.min(context) },
        }
    }

    /// Whether a message of `len` bytes is offered so that its receiver may ask for it in expected packets, and whether one of
    /// which so much is left is asked for so (`fi_opx_hfi1.c:opx_hfi1_tx_send_rzv`, `opx_hfi1_rx_rzv_rts_tid_eligible`).
    pub(crate) fn by_tids(&self, len: u64) -> bool {
        !self.no_tid && !self.no_sdma && len >= self.tid_min as u64 && len >= self.sdma_min as u64
    }

    /// Whether the bytes of a message of `len` go by SDMA once its receiver has asked for them
    /// (`fi_opx_hfi1_sdma.h:fi_opx_hfi1_sdma_use_sdma`).
    pub(crate) fn by_sdma(&self, len: usize) -> bool {
        len >= self.sdma_min && !self.no_sdma
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_written_by_the_processor_fit_two_thirds_of_the_context() {
        let limits = |blocks| Thresholds::default().limits(Blocks(blocks));
        assert_eq!((limits(256).pio_data, limits(256).sdma_data, limits(256).chunk), (8192, 8192, 4096));
        assert_eq!((limits(64).pio_data, limits(64).eager, limits(64).chunk), (2624, 2624, 2624));
        assert_eq!((limits(1).pio_data, limits(1).eager), (64, 0));
        let small = Thresholds { packet_max: 2048, ..Thresholds::default() }.limits(Blocks(256));
        assert_eq!((small.eager, small.pio_data, small.sdma_data, small.chunk), (2048, 2048, 2048, 2048));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let good = Thresholds::default();
        assert_eq!(good.check(), Ok(()));
        for (bad, name) in [
            (Thresholds { eager_max: 0, ..good }, "eager_max"),
            (Thresholds { rendezvous_min: 63, ..good }, "rendezvous_min"),
            (Thresholds { rendezvous_min: 65_537, ..good }, "rendezvous_min"),
            (Thresholds { sdma_min: 63, ..good }, "sdma_min"),
            (Thresholds { tid_min: 63, ..good }, "tid_min"),
            (Thresholds { packet_max: 10_240, ..good }, "packet_max"),
        ] {
            assert_eq!(bad.check().map_err(|error| error.name), Err(name));
        }
    }
}
