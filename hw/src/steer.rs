//! Steering: which receive context gets the packets that don't name one.
//!
//! KDETH packets name their context in the destination queue pair. For others there are, in this order: the rules of the
//! receive-side mapping (RSM), for InfiniBand packets a table by queue pair, for bypass packets one context.

use crate::error::{ContextError, Gone};
use crate::hfi::{Hfi, Inner, lock};
use crate::ranges::Ranges;
use crate::regs::Regs;
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::chip;
use opx_defs::csr::{self, Csr};
use opx_defs::rsm::RsmRule;
use opx_defs::units::RcvCtxt;
use std::fmt;
use std::sync::Arc;

/// In the map table: no context.
const NOBODY: u8 = 0xff;
const PLACES: u32 = 256;
const RULES: usize = chip::RXE_NUM_RSM_INSTANCES as usize;

/// What is in use of rules and tables, and what the tables hold: their registers share bytes among users.
#[derive(Debug)]
pub(crate) struct Steer {
    rules: [bool; RULES],
    places: Ranges,
    map: [u8; PLACES as usize],
    queue_pairs: [u8; PLACES as usize],
}

impl Default for Steer {
    fn default() -> Self {
        Self {
            rules: [false; RULES],
            places: Ranges::new(0, PLACES),
            map: [NOBODY; PLACES as usize],
            queue_pairs: [0; PLACES as usize],
        }
    }
}

/// Writes the register that holds place `place` of a table.
fn write_place<B: PciFunction>(regs: &Regs<B>, csr: &Csr, table: &[u8], place: usize) {
    let first = place & !7;
    if let Some(bytes) = table.get(first..).and_then(<[u8]>::first_chunk::<8>) {
        regs.write_at(csr, first as u32 / 8, u64::from_le_bytes(*bytes));
    }
}

/// No rules, and a map without contexts (`chip.c:alloc_rsm_map_table, complete_rsm_map_table` of a B-step chip).
pub(crate) fn init<B: PciFunction>(regs: &Regs<B>) -> Result<(), Gone> {
    for slot in 0..csr::RCV_RSM_CFG.count {
        clear_rule(regs, slot);
    }
    for index in 0..csr::RCV_RSM_MAP_TABLE.count {
        regs.write_at(&csr::RCV_RSM_MAP_TABLE, index, ALL_ONES);
    }
    regs.modify(&csr::RCV_CTRL, |v| v | csr::RCV_CTRL::RCV_RSM_ENABLE.mask())
}

/// `chip.c:clear_rsm_rule`.
fn clear_rule<B: PciFunction>(regs: &Regs<B>, slot: u32) {
    for csr in [&csr::RCV_RSM_CFG, &csr::RCV_RSM_SELECT, &csr::RCV_RSM_MATCH] {
        regs.write_at(csr, slot, 0);
    }
}

/// A rule that is in force. Dropping it takes it away: do that before the contexts that it leads to are dropped, because
/// their numbers are given to others then.
pub struct Steering<B: PciFunction> {
    inner: Arc<Inner<B>>,
    slot: u32,
    first: u32,
    places: u32,
}

impl<B: PciFunction> Steering<B> {
    /// The rule's number; of several that match a packet the lowest counts.
    pub fn slot(&self) -> u32 {
        self.slot
    }
}

impl<B: PciFunction> fmt::Debug for Steering<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, first, places, .. } = self;
        f.debug_struct("Steering").field("slot", slot).field("first", first).field("places", places).finish()
    }
}

impl<B: PciFunction> Drop for Steering<B> {
    fn drop(&mut self) {
        // A child that was forked leaves its parent's rules alone.
        if !self.inner.regs.is_ours() {
            return;
        }
        let mut steer = lock(&self.inner.steer);
        clear_rule(&self.inner.regs, self.slot);
        set_places(&self.inner.regs, &mut steer.map, self.first, &vec![NOBODY; self.places as usize]);
        // The places aren't anybody else's before the rule is gone.
        let _ = self.inner.regs.read_any(&csr::RCV_RSM_CFG, self.slot);
        steer.places.give_back(self.first);
        if let Some(used) = steer.rules.get_mut(self.slot as usize) {
            *used = false;
        }
    }
}

fn set_places<B: PciFunction>(regs: &Regs<B>, map: &mut [u8], first: u32, contexts: &[u8]) {
    let first = first as usize;
    if let Some(places) = map.get_mut(first..first + contexts.len()) {
        places.copy_from_slice(contexts);
    }
    // One write for each register of eight places.
    for place in (first & !7..first + contexts.len()).step_by(8) {
        write_place(regs, &csr::RCV_RSM_MAP_TABLE, map, place);
    }
}

impl<B: PciFunction> Inner<B> {
    /// A receive context is dropped: no queue pair and no bypass packets are led to its number, which others get.
    pub(crate) fn lead_nothing_to(&self, context: RcvCtxt) -> Result<(), Gone> {
        use csr::RCV_BYPASS::BYPASS_CONTEXT;
        let Ok(number) = u8::try_from(context.0) else { return Ok(()) };
        let mut steer = lock(&self.steer);
        for place in 0..steer.queue_pairs.len() {
            if let Some(entry) = steer.queue_pairs.get_mut(place).filter(|entry| **entry == number) {
                *entry = 0;
                write_place(&self.regs, &csr::RCV_QP_MAP_TABLE, &steer.queue_pairs, place);
            }
        }
        if BYPASS_CONTEXT.get(self.regs.read(&csr::RCV_BYPASS)?) == u64::from(number) {
            self.regs.modify(&csr::RCV_BYPASS, |v| BYPASS_CONTEXT.set(v, 0))?;
        }
        Ok(())
    }
}

impl<B: PciFunction> Hfi<B> {
    fn byte(&self, context: RcvCtxt) -> Result<u8, ContextError> {
        let count = self.info().sizes.recv_contexts;
        match u8::try_from(context.0) {
            Ok(byte) if u32::from(byte) < count => Ok(byte),
            _ => {
                let rule = "the number of a receive context of this adapter";
                let (adapter, value) = (self.inner.adapter(), context.0.into());
                Err(ContextError::BadParameter { adapter, parameter: "context", value, rule })
            }
        }
    }

    /// Leads packets that match `rule` to `contexts`: the rule's index says which of them.
    ///
    /// ```
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// # use opx_emu::{Config, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, Options, RecvConfig};
    /// use opx_defs::rsm::{RsmRule, bit};
    /// use opx_defs::wire::rhf::RcvType;
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// // 16B packets with an Ethernet frame, to two contexts by the lowest bit of their entropy.
    /// let (a, b) = (hfi.recv_context(RecvConfig::default())?, hfi.recv_context(RecvConfig::default())?);
    /// let rule = RsmRule::new(RcvType::Bypass).field1(bit::L2, 3, 2).field2(bit::L4, 0xff, 0x78).index1(bit::ENTROPY, 1);
    /// let steering = hfi.steer(rule, &[a.number(), b.number()])?;
    /// # drop(steering);
    /// # Ok(())
    /// # }
    /// # run().unwrap();
    /// ```
    ///
    /// # Errors
    /// When all four rules are in use, the map has no room, or there aren't as many contexts as the index has values.
    pub fn steer(&self, rule: RsmRule, contexts: &[RcvCtxt]) -> Result<Steering<B>, ContextError> {
        let inner = &self.inner;
        inner.regs.check_ours()?;
        let places = rule.places();
        if contexts.len() != places as usize {
            let rule = "as many as the rule's index has values";
            let (adapter, value) = (inner.adapter(), contexts.len() as u64);
            return Err(ContextError::BadParameter { adapter, parameter: "number of contexts", value, rule });
        }
        let bytes = contexts.iter().map(|context| self.byte(*context)).collect::<Result<Vec<_>, _>>()?;
        let mut steer = lock(&inner.steer);
        let Some(slot) = steer.rules.iter().position(|used| !used) else {
            let count = RULES as u32;
            return Err(ContextError::Exhausted { adapter: inner.adapter(), what: "steering rule", count });
        };
        let first = steer.places.take(places).map_err(|largest| {
            let (adapter, what, unit) = (inner.adapter(), "the receive-side map", "places");
            ContextError::NoRoom { adapter, what, unit, asked: places, largest }
        })?;
        if let Some(used) = steer.rules.get_mut(slot) {
            *used = true;
        }
        let slot = slot as u32;
        set_places(&inner.regs, &mut steer.map, first, &bytes);
        // The rule comes into force with its last register: before that it would match with half of its conditions.
        inner.regs.write_at(&csr::RCV_RSM_SELECT, slot, rule.select());
        inner.regs.write_at(&csr::RCV_RSM_MATCH, slot, rule.matching());
        inner.regs.write_at(&csr::RCV_RSM_CFG, slot, rule.cfg(slot, first as u8));
        drop(steer);
        let steering = Steering { inner: Arc::clone(inner), slot, first, places };
        inner.regs.read_any(&csr::RCV_RSM_CFG, slot)?;
        Ok(steering)
    }

    /// Leads InfiniBand packets to `context` by their destination queue pair: bits 8:1 of it count, so that 256 groups can be
    /// told apart (`chip.c:init_qpmap_table`). `None` gives them back to the control context, which drops them; so does dropping
    /// the context.
    ///
    /// # Errors
    /// When there is no such context.
    pub fn map_queue_pair(&self, queue_pair: u32, context: Option<RcvCtxt>) -> Result<(), ContextError> {
        let byte = context.map_or(Ok(0), |context| self.byte(context))?;
        let place = (queue_pair >> 1) as usize & 0xff;
        self.inner.regs.check_ours()?;
        let mut steer = lock(&self.inner.steer);
        if let Some(entry) = steer.queue_pairs.get_mut(place) {
            *entry = byte;
        }
        write_place(&self.inner.regs, &csr::RCV_QP_MAP_TABLE, &steer.queue_pairs, place);
        Ok(())
    }

    /// Leads bypass packets that no rule takes to `context`; `None` gives them back to the control context, which drops
    /// them; so does dropping the context.
    ///
    /// # Errors
    /// When there is no such context, or the adapter is gone.
    pub fn bypass_to(&self, context: Option<RcvCtxt>) -> Result<(), ContextError> {
        let byte = context.map_or(Ok(0), |context| self.byte(context))?;
        self.inner.regs.check_ours()?;
        let _one_at_a_time = lock(&self.inner.steer);
        self.inner.regs.modify(&csr::RCV_BYPASS, |v| csr::RCV_BYPASS::BYPASS_CONTEXT.set(v, byte.into()))?;
        Ok(())
    }
}
