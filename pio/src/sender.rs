//! The sender: writes packets block by block into a send context's buffer.

use crate::credits::Credits;
use opx_bus::PciFunction;
use opx_defs::status::SendCtxtErrors;
use opx_defs::units::{Blocks, Dwords, SendCtxt};
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::pbc::Pbc;
use opx_hw::{ContextError, SendContext};

/// Bytes of a PIO block.
pub const BLOCK: usize = 64;

/// Why a packet wasn't sent. Nothing of it has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PioError {
    /// Too few blocks are free; try again when the chip has returned some.
    #[error("send context {ctxt}: {needed} blocks needed, {available} free; try again after credits return")]
    NoCredit {
        /// The context.
        ctxt: SendCtxt,
        /// Blocks that the packet takes.
        needed: Blocks,
        /// Blocks that are free.
        available: Blocks,
    },
    /// The packet is larger than the whole context.
    #[error("send context {ctxt}: a packet of {needed} blocks never fits into {depth}; send it by SDMA")]
    TooLong {
        /// The context.
        ctxt: SendCtxt,
        /// Blocks that the packet takes.
        needed: Blocks,
        /// Blocks that the context has.
        depth: Blocks,
    },
    /// The PBC's length and the packet's differ; the chip would halt the context.
    #[error("send context {ctxt}: PBC says {pbc} dwords, the packet has {packet}")]
    Length {
        /// The context.
        ctxt: SendCtxt,
        /// Length in the PBC.
        pbc: Dwords,
        /// Length of the packet with its PBC.
        packet: Dwords,
    },
    /// The chip has halted the context on an error; restart it.
    #[error("send context {ctxt} halted ({errors}); restart it")]
    Halted {
        /// The context.
        ctxt: SendCtxt,
        /// Why.
        errors: SendCtxtErrors,
    },
}

/// What a sender has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PioCounters {
    /// Packets written.
    pub packets: u64,
    /// Blocks written.
    pub blocks: u64,
    /// Times that a packet didn't fit.
    pub no_credit: u64,
    /// Credit returns that were forced.
    pub forced_returns: u64,
    /// Credit words that can't be right, and were ignored.
    pub bad_credit_words: u64,
    /// Restarts after a halt.
    pub restarts: u64,
}

/// Sends packets through one send context.
///
/// ```
/// # use opx_emu::{Config, Icode, Lab, Pacing};
/// # use opx_hw::{Hfi, LinkMode, Options};
/// # use opx_defs::units::*;
/// # use opx_defs::wire::pbc::Pbc;
/// # let lab = Lab::new(Pacing::Virtual);
/// # let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
/// let hfi = Hfi::open(adapter.bus(), Options::default())?;
/// hfi.link_up(LinkMode::Loopback)?;
/// let mut sender = opx_pio::PioSender::new(hfi.send_context(Blocks(64))?);
/// assert_eq!(sender.available(), Blocks(64));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PioSender<B: PciFunction> {
    ctxt: SendContext<B>,
    credits: Credits,
    next_block: u16,
    forced: bool,
    counters: PioCounters,
}

impl<B: PciFunction> PioSender<B> {
    /// A sender on an enabled, unused send context.
    pub fn new(ctxt: SendContext<B>) -> Self {
        let credits = Credits::new(ctxt.depth());
        Self { ctxt, credits, next_block: 0, forced: false, counters: PioCounters::default() }
    }

    /// Blocks that are free, after a look at what the chip has returned.
    pub fn available(&mut self) -> Blocks {
        self.take_returns();
        self.credits.available()
    }

    /// Blocks written that haven't been returned yet, after a look at what the chip has returned.
    pub fn outstanding(&mut self) -> Blocks {
        self.take_returns();
        self.credits.outstanding()
    }

    /// The send context.
    pub fn context(&self) -> &SendContext<B> {
        &self.ctxt
    }

    /// What was done so far.
    pub fn counters(&self) -> &PioCounters {
        &self.counters
    }

    /// Sends one packet: `pbc`, `header`, and `payload_len` bytes that `payload` supplies.
    ///
    /// `payload(offset, block)` fills `block`, 1 to 64 bytes, from byte `offset` of the payload. Bytes beyond the payload,
    /// up to the whole block, are zeros that the chip doesn't send.
    ///
    /// # Errors
    /// See [`PioError`]; nothing has been written then.
    pub fn send(
        &mut self,
        pbc: Pbc,
        header: &[u8; OPX_HEADER_BYTES],
        payload_len: usize,
        mut payload: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), PioError> {
        let packet = Dwords::holding((BLOCK + payload_len) as u32);
        if pbc.length() != packet {
            return Err(PioError::Length { ctxt: self.ctxt.number(), pbc: pbc.length(), packet });
        }
        self.take(packet.blocks())?;

        let mut block = [0; 8];
        block[0] = pbc.0;
        for (qword, bytes) in block[1..].iter_mut().zip(header.as_chunks::<8>().0) {
            *qword = u64::from_le_bytes(*bytes);
        }
        self.write(true, &block);
        for offset in (0..payload_len).step_by(BLOCK) {
            let mut bytes = [0; BLOCK];
            payload(offset, &mut bytes[..(payload_len - offset).min(BLOCK)]);
            for (qword, bytes) in block.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *qword = u64::from_le_bytes(*bytes);
            }
            self.write(false, &block);
        }
        self.counters.packets += 1;
        Ok(())
    }

    /// Restarts the context after a halt: all its blocks are free again, packets in it are lost.
    ///
    /// # Errors
    /// When the chip doesn't do it in time.
    pub fn restart(&mut self) -> Result<(), ContextError> {
        self.ctxt.restart()?;
        self.credits = Credits::new(self.ctxt.depth());
        self.next_block = 0;
        self.forced = false;
        self.counters.restarts += 1;
        Ok(())
    }

    fn take(&mut self, needed: Blocks) -> Result<(), PioError> {
        let (ctxt, depth) = (self.ctxt.number(), self.ctxt.depth());
        if needed > depth {
            return Err(PioError::TooLong { ctxt, needed, depth });
        }
        // The word in host memory is only looked at when it is needed: it shares a cache line with the chip's writes.
        if self.credits.take(needed) {
            return Ok(());
        }
        let word = self.take_returns();
        if word {
            let errors = self.ctxt.error_status();
            return Err(PioError::Halted { ctxt, errors });
        }
        if self.credits.take(needed) {
            return Ok(());
        }
        // Below the threshold the chip returns nothing by itself, so a small context could starve: ask, once until it
        // answers.
        if !self.forced {
            self.ctxt.force_credit_return();
            self.forced = true;
            self.counters.forced_returns += 1;
        }
        self.counters.no_credit += 1;
        Err(PioError::NoCredit { ctxt, needed, available: self.credits.available() })
    }

    /// Takes what the chip has returned; `true` when it says that the context is halted.
    fn take_returns(&mut self) -> bool {
        let word = self.ctxt.credit_return();
        let before = self.credits.outstanding();
        if !self.credits.returned(word.counter()) {
            self.counters.bad_credit_words += 1;
        }
        if self.credits.outstanding() != before {
            self.forced = false;
        }
        word.halted()
    }

    fn write(&mut self, sop: bool, block: &[u64; 8]) {
        self.ctxt.bus().write_block(self.ctxt.block_offset(self.next_block, sop), block);
        self.next_block = if self.next_block + 1 == self.ctxt.depth().0 { 0 } else { self.next_block + 1 };
        self.counters.blocks += 1;
    }
}
