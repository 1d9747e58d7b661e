//! Flows of expected packets: the chip counts along, drops or reports what is out of order, and can leave out headers.

use super::RecvContext;
use crate::error::ContextError;
use crate::hfi::{Inner, lock};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::flow::{FlowPsn, TidFlow};
use opx_defs::units::RcvCtxt;
use std::fmt;
use std::sync::{Arc, Mutex};

const FLOWS: usize = csr::RCV_TID_FLOW_TABLE.len as usize;

/// The flow table of one context.
pub(super) struct FlowTable<B: PciFunction> {
    inner: Arc<Inner<B>>,
    context: RcvCtxt,
    state: Mutex<State>,
}

struct State {
    /// A bit for each flow that is free; none are when the context has no flows or is closed.
    free: u32,
    closed: bool,
    /// The generation that each flow gets next: no packet of an earlier use may fit.
    generation: [u32; FLOWS],
}

impl<B: PciFunction> FlowTable<B> {
    pub fn new(inner: &Arc<Inner<B>>, context: RcvCtxt, on: bool) -> Arc<Self> {
        // As tid_rdma.c:hfi1_kern_init_ctxt_generations begins at random: packets of an earlier owner aren't to fit either.
        let start = inner.regs.bus().now().since(opx_defs::time::Instant::ZERO).as_nanos() as u32;
        let generation = FlowPsn { generation: start & FlowPsn::RESERVED, seq: 0 }.next_generation();
        let state = State { free: if on { u32::MAX } else { 0 }, closed: false, generation: [generation; FLOWS] };
        Arc::new(Self { inner: Arc::clone(inner), context, state: Mutex::new(state) })
    }

    fn write(&self, flow: u8, entry: TidFlow) {
        let at = csr::RCV_TID_FLOW_TABLE.element(self.context.0.into(), flow.into());
        self.inner.regs.write_off(at, entry.0);
    }

    /// All flows are nobody's.
    pub fn set_up(&self) {
        let on = lock(&self.state).free != 0;
        for flow in 0..FLOWS as u8 {
            self.write(flow, if on { TidFlow::CLOSED } else { TidFlow::OFF });
        }
    }

    /// The context is closed: nothing is written any more.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        (state.free, state.closed) = (0, true);
    }

    fn closed(&self) -> ContextError {
        ContextError::Closed { adapter: self.inner.adapter(), context: self.context.0 }
    }

    fn new_generation(state: &mut State, flow: u8) -> u32 {
        let Some(next) = state.generation.get_mut(usize::from(flow)) else { return 0 };
        let generation = *next;
        *next = FlowPsn { generation, seq: 0 }.next_generation();
        generation
    }
}

/// A flow of expected packets. Dropping it closes the flow: packets that still come for it are dropped by the chip.
pub struct Flow<B: PciFunction> {
    table: Arc<FlowTable<B>>,
    index: u8,
    suppress: bool,
    generation: u32,
}

impl<B: PciFunction> Flow<B> {
    /// Its number: bits 15:11 of the destination queue pair.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// The generation that the flow takes.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What the chip has noted: the number that it expects next, and whether others came. With header suppression this is the
    /// only way to see how far the packets got.
    ///
    /// # Errors
    /// When the adapter or the context is gone.
    pub fn state(&self) -> Result<TidFlow, ContextError> {
        self.table.inner.regs.check_ours()?;
        let state = lock(&self.table.state);
        if state.closed {
            return Err(self.table.closed());
        }
        self.read()
    }

    fn read(&self) -> Result<TidFlow, ContextError> {
        let regs = &self.table.inner.regs;
        let at = csr::RCV_TID_FLOW_TABLE.element(self.table.context.0.into(), self.index.into());
        match regs.bus().read64(at) {
            opx_bus::ALL_ONES => Err(regs.gone(&csr::RCV_TID_FLOW_TABLE, self.table.context.0.into()).into()),
            value => Ok(TidFlow(value)),
        }
    }

    /// With the table locked, so that it isn't closed meanwhile.
    fn set(&self, seq: u16) -> FlowPsn {
        let psn = FlowPsn { generation: self.generation, seq: seq & FlowPsn::MAX_SEQ };
        self.table.write(self.index, TidFlow::expecting(psn, self.suppress));
        psn
    }

    /// Expects `seq` next, in the same generation: packets up to it are accounted for in another way.
    ///
    /// # Errors
    /// When the context is gone.
    pub fn advance(&mut self, seq: u16) -> Result<FlowPsn, ContextError> {
        self.table.inner.regs.check_ours()?;
        let state = lock(&self.table.state);
        if state.closed {
            return Err(self.table.closed());
        }
        Ok(self.set(seq))
    }

    /// Starts anew after a packet was lost or came out of order: what got here in order stays good, the rest has to be sent
    /// again. The result is what the sender has to go on with: a new generation, so that packets of the old one that
    /// are still underway don't disturb (PSM2 `ips_proto_expected.c:ips_protoexp_do_tf_seqerr`).
    ///
    /// # Errors
    /// When the adapter or the context is gone.
    pub fn rearm(&mut self) -> Result<FlowPsn, ContextError> {
        self.table.inner.regs.check_ours()?;
        let mut state = lock(&self.table.state);
        if state.closed {
            return Err(self.table.closed());
        }
        let reached = self.read()?.psn().seq;
        self.generation = FlowTable::<B>::new_generation(&mut state, self.index);
        Ok(self.set(reached))
    }
}

impl<B: PciFunction> fmt::Debug for Flow<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("index", &self.index).field("generation", &self.generation).finish()
    }
}

impl<B: PciFunction> Drop for Flow<B> {
    fn drop(&mut self) {
        // A child that was forked leaves its parent's flows alone.
        if !self.table.inner.regs.is_ours() {
            return;
        }
        let mut state = lock(&self.table.state);
        if !state.closed {
            self.table.write(self.index, TidFlow::CLOSED);
            state.free |= 1 << self.index;
        }
    }
}

impl<B: PciFunction> RecvContext<B> {
    /// Takes a flow that nobody uses and lets it expect sequence number 0 of a new generation. With `suppress` the chip
    /// leaves out the headers that the sender marks so.
    ///
    /// # Errors
    /// When all are taken, or the context was made without flows.
    pub fn flow(&self, suppress: bool) -> Result<Flow<B>, ContextError> {
        self.inner.regs.check_ours()?;
        let mut state = lock(&self.flows.state);
        if state.free == 0 {
            let adapter = self.inner.adapter();
            let count = if self.config.flows { FLOWS as u32 } else { 0 };
            return Err(ContextError::Exhausted { adapter, what: "flow", count });
        }
        let index = state.free.trailing_zeros() as u8;
        state.free &= !(1 << index);
        let generation = FlowTable::<B>::new_generation(&mut state, index);
        let flow = Flow { table: Arc::clone(&self.flows), index, suppress, generation };
        flow.set(0);
        Ok(flow)
    }
}
