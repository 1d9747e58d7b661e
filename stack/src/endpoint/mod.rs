//! The endpoint: what its owner calls, and the loop that moves everything on.

mod receive;
mod transmit;

use crate::completion::{Completion, OperationError};
use crate::config::{Config, MAX_PAYLOAD};
use crate::error::{EndpointError, OpenError};
use crate::operations::{Incoming, Matcher, Posted, ReceiveError, Rejected, Send, SendError, SendKind, Unexpected};
use crate::receive_faults::ReceiveFaults;
use crate::slots::{SlotId, Slots};
use crate::table::{Handle, Table};
use crate::{Address, Pattern};
use opx_bus::chance::FaultCounts;
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::csr;
use opx_defs::time::Instant;
use opx_defs::units::{Blocks, Lid, SdmaEngine, SendCtxt};
use opx_defs::wire::opx::{Eager, Header, Immediate, Inject, Origin, Route, RzvRts};
use opx_hw::{ContextError, Hfi, RecvConfig, RecvContext};
use opx_pio::{PioCounters, PioError, PioSender};
use opx_reliability::Reliability;
use opx_sdma::{SdmaCounters, SdmaError, SdmaQueue};
use std::collections::VecDeque;

/// What an endpoint has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages accepted for sending.
    pub sent_messages: u64,
    /// Messages delivered to their receives.
    pub received_messages: u64,
    /// Messages that came before they were asked for.
    pub unexpected_messages: u64,
    /// Packets taken from the header queue.
    pub packets_in: u64,
    /// Packets that the adapter found broken.
    pub packets_in_error: u64,
    /// Packets whose content makes no sense.
    pub malformed: u64,
    /// Packets left to be sent again because too much waits for a receive.
    pub no_room: u64,
    /// Packets that name an operation that isn't under way.
    pub stale: u64,
    /// Packets sent again.
    pub retransmits: u64,
    /// Of those, offers of rendezvous.
    pub replay_rts: u64,
    /// Of those, answers to offers.
    pub replay_cts: u64,
    /// Of those, data of rendezvous.
    pub replay_rzv: u64,
    /// ACKs, NACKs and pings that found no credit; the protocol makes up for them.
    pub service_dropped: u64,
    /// Freezes of the chip, and links that went down, after which context and engine were put in order again.
    pub recoveries: u64,
}

/// A packet held until the ones before it have come.
#[derive(Debug)]
struct Held {
    header: Header,
    payload: Vec<u8>,
}

/// An endpoint on adapter `B`.
#[derive(Debug)]
pub struct Endpoint<B: PciFunction> {
    hfi: Hfi<B>,
    config: Config,
    address: Address,
    /// The way back here; made once, because asking the adapter for its LID takes a lock.
    to_self: Route,
    recv: RecvContext<B>,
    pio: PioSender<B>,
    sdma: SdmaQueue<B, SlotId>,
    reliability: Reliability<SlotId, Held>,
    slots: Slots,
    /// Packets to be written to the adapter, in order.
    outbox: VecDeque<SlotId>,
    sends: Table<Send>,
    incoming: Table<Incoming>,
    /// Rendezvous that were matched and whose answer hasn't gone out.
    unanswered: VecDeque<transmit::Answering>,
    /// Rendezvous sends that have something to send, taking turns.
    sending: VecDeque<Handle>,
    matcher: Matcher,
    unexpected_bytes: usize,
    completions: VecDeque<Completion>,
    receive_faults: ReceiveFaults,
    scratch: Vec<u8>,
    /// Buffers of held packets, to be used again.
    spare: Vec<Vec<u8>>,
    counters: Counters,
    next_health: Instant,
    /// Packets received at the last look at the adapter's health.
    healthy_packets: u64,
    /// SDMA packets that were sent, and at the last look.
    sdma_done: (u64, u64),
    halts_in_a_row: u32,
    /// Freezes of the chip that have been recovered from.
    freezes: u32,
}

/// A packet's payload with the widest MTU.
const MAX_SCRATCH: usize = 10240 + 64;

impl<B: PciFunction> Endpoint<B> {
    /// Opens an endpoint on an adapter whose link is up.
    ///
    /// # Errors
    /// When a setting makes no sense, or contexts, engines or memory run out.
    pub fn open(hfi: &Hfi<B>, config: Config) -> Result<Self, OpenError> {
        let limit = |name, value: usize, most: usize, must| {
            if value == 0 || value > most {
                Err(OpenError::Setting { name, value: value as u64, must })
            } else {
                Ok(())
            }
        };
        limit("eager_max", config.eager_max, MAX_PAYLOAD, "1 to 8192")?;
        limit("slots", config.slots, 1 << 16, "1 to 65536")?;
        limit("operations", config.operations, 1 << 24, "1 to 2^24")?;
        limit("pio_blocks", config.pio_blocks.into(), 1024, "1 to 1024")?;
        if (hfi.options().mtu as usize) < MAX_PAYLOAD {
            let must = "8192 or 10240: data packets carry 8192 bytes";
            return Err(OpenError::Setting { name: "mtu", value: hfi.options().mtu.into(), must });
        }

        let bus = hfi.bus();
        // Before anything is set up: what freezes from here on has to be recovered from.
        let freezes = hfi.freezes();
        let recv = hfi.recv_context(RecvConfig {
            header_entries: config.header_entries,
            eager_buffers: config.eager_buffers,
            eager_buffer_size: config.eager_buffer_size,
            job_key: hfi.options().job_key,
            ..RecvConfig::default()
        })?;
        let rx = u8::try_from(recv.number().0).map_err(|_| OpenError::RcvCtxt(recv.number()))?;
        let address = Address { lid: hfi.lid(), rx };
        let pio = PioSender::new(hfi.send_context(Blocks(config.pio_blocks))?);
        let mut engine = hfi.sdma_engine(config.sdma_entries)?;
        let slots = Slots::new(&mut engine, config.slots, MAX_PAYLOAD + 64)?;
        let sdma = SdmaQueue::new(engine);
        let reliability = Reliability::new(
            opx_reliability::Config {
                first_packet_alone: config.reliability.first_packet_alone
                    || config.generation.needs_first_packet_alone(),
                ..config.reliability
            },
            Origin::from(address),
        )?;
        let now = bus.now();
        Ok(Self {
            hfi: hfi.clone(),
            address,
            to_self: Route {
                sc: config.sc,
                sl: config.sl,
                generation: config.generation,
                ..hfi.route(rx, address.lid, rx)
            },
            recv,
            pio,
            sdma,
            reliability,
            slots,
            outbox: VecDeque::with_capacity(config.slots),
            sends: Table::new(config.operations),
            incoming: Table::new(config.operations),
            unanswered: VecDeque::new(),
            sending: VecDeque::new(),
            matcher: Matcher::new(),
            unexpected_bytes: 0,
            completions: VecDeque::new(),
            receive_faults: ReceiveFaults::new(config.receive_faults, config.seed),
            scratch: vec![0; MAX_SCRATCH],
            spare: Vec::new(),
            counters: Counters::default(),
            next_health: now + config.health_interval,
            healthy_packets: 0,
            sdma_done: (0, 0),
            halts_in_a_row: 0,
            freezes,
            config,
        })
    }

    /// Where this endpoint is.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Sends `buffer` as a message with `tag`. The buffer comes back in the completion, which tells that the receiver has
    /// all of it.
    ///
    /// # Errors
    /// [`SendError::Again`] when there is no room now; the buffer comes back with the error.
    pub fn tag_send(
        &mut self,
        to: Address,
        tag: u64,
        buffer: Vec<u8>,
        context: u64,
    ) -> Result<(), Rejected<SendError>> {
        let len = buffer.len();
        let kind = if len <= self.config.eager_max {
            SendKind::Eager
        } else {
            SendKind::Rendezvous {
                grants: VecDeque::new(),
                ungranted: (len - Immediate::of(&buffer, false).message_bytes()) as u64,
                truncated: false,
            }
        };
        let route = self.route(to);
        let rendezvous = matches!(kind, SendKind::Rendezvous { .. });
        let send = Send { context, to, buffer, unacknowledged: 1, kind };
        let handle = match self.sends.insert(send) {
            Ok(handle) => handle,
            Err(send) => return Err(Rejected { error: SendError::Again(to), buffer: send.buffer }),
        };
        let message = self.sends.get_mut(handle).map_or(&[][..], |send| &send.buffer);
        let encoded = if rendezvous {
            let immediate = Immediate::of(message, false);
            let rts = RzvRts {
                tag: Some(tag),
                cq_data: None,
                len: len as u64,
                src_vaddr: immediate.message_bytes() as u64,
                src_device: 0,
                src_iface: 0,
                origin_counter: handle.0,
                immediate,
            };
            rts.encode(&route, &mut self.scratch[..])
        } else {
            Eager::of(Some(tag), None, message).encode(&route, &mut self.scratch[..])
        };
        let posted = match encoded {
            Ok((header, payload)) => self.post(self.hfi.bus().now(), to, Some(handle), header, payload),
            Err(_) => Err(SendError::TooLong(len)),
        };
        match posted {
            Ok(()) => {
                self.counters.sent_messages += 1;
                Ok(())
            }
            Err(error) => {
                let buffer = self.sends.remove(handle).map(|send| send.buffer).unwrap_or_default();
                Err(Rejected { error, buffer })
            }
        }
    }

    /// Sends up to 16 bytes with `tag`; they are copied and there is no completion.
    ///
    /// # Errors
    /// [`SendError::Again`] when there is no room now, [`SendError::TooLong`] for more than 16 bytes.
    pub fn tag_inject(&mut self, to: Address, tag: u64, data: &[u8]) -> Result<(), SendError> {
        let inject = Inject { tag: Some(tag), cq_data: None, data };
        let header = inject.encode(&self.route(to)).map_err(|_| SendError::TooLong(data.len()))?;
        self.post(self.hfi.bus().now(), to, None, header, 0)?;
        self.counters.sent_messages += 1;
        Ok(())
    }

    /// Posts `buffer` for the first message that `pattern` takes, of those that have come and those that will.
    ///
    /// # Errors
    /// [`ReceiveError::Again`] when too many receives are under way; the buffer comes back with the error.
    pub fn tag_receive(
        &mut self,
        pattern: Pattern,
        buffer: Vec<u8>,
        context: u64,
    ) -> Result<(), Rejected<ReceiveError>> {
        // Answers that a peer doesn't let out count too: each refused offer leaves one behind and takes no place.
        let under_way = (self.matcher.posted() + self.incoming.len()).max(self.unanswered.len());
        if under_way >= self.config.operations {
            return Err(Rejected { error: ReceiveError::Again(pattern), buffer });
        }
        let posted = Posted { context, buffer };
        match self.matcher.claim(&pattern) {
            None => self.matcher.post(pattern, posted),
            Some((tag, source, message)) => {
                self.unexpected_bytes -= message.footprint().min(self.unexpected_bytes);
                match message {
                    Unexpected::Eager(bytes) => self.complete_receive(posted, tag, source, &[&bytes]),
                    Unexpected::Offer(offer) => self.accept(posted, tag, source, &offer),
                }
            }
        }
        Ok(())
    }

    /// Takes the next completion.
    pub fn poll_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    /// Moves everything on that can be moved without waiting. `true` when something was done.
    ///
    /// # Errors
    /// When the adapter is gone or an engine can't be brought back.
    pub fn progress(&mut self) -> Result<bool, EndpointError> {
        let now = self.hfi.bus().now();
        let mut busy = self.receive(now);
        if self.hfi.freezes() != self.freezes && !busy {
            // All that had arrived before has been taken.
            busy = self.recover()?;
        }
        busy |= self.run_protocol(now);
        busy |= self.pump(now);
        busy |= self.flush()?;
        if now >= self.next_health {
            self.look_after_adapter(now)?;
        }
        Ok(busy)
    }

    /// After a freeze: puts receive context, send context and engine in order. What was in them is sent again by the
    /// reliability protocol. While the link is down nothing can be sent, so this is done when it is up again; bringing it up
    /// is the business of the adapter's owner.
    fn recover(&mut self) -> Result<bool, EndpointError> {
        let freezes = self.hfi.freezes();
        // The receive context doesn't need the link, so it is in order before the others: once is enough.
        let received = if self.recv.is_stale() { self.recv.recover() } else { Ok(()) };
        let recovered = received.and_then(|()| self.sdma.restart()).and_then(|()| self.pio.restart());
        match recovered {
            Ok(()) => {
                self.freezes = freezes;
                self.counters.recoveries += 1;
                log::info!("{}: {} recovered from a freeze", self.hfi.bus().name(), self.address);
                Ok(true)
            }
            Err(ContextError::Frozen { .. } | ContextError::LinkDown { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// When [`Endpoint::progress`] has something to do at the latest, if nothing arrives before.
    pub fn poll_timeout(&self) -> Instant {
        self.reliability.poll_timeout().map_or(self.next_health, |timer| timer.min(self.next_health))
    }

    /// Whether everything sent has been acknowledged, and nothing waits to be written.
    pub fn is_quiet(&self) -> bool {
        self.outbox.is_empty() && self.sends.len() == 0 && self.slots.available() == self.config.slots
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the reliability protocol counted so far.
    pub fn reliability_counters(&self) -> &opx_reliability::Counters {
        self.reliability.counters()
    }

    /// What the send context counted so far.
    pub fn pio_counters(&self) -> PioCounters {
        self.pio.counters()
    }

    /// What the SDMA engine counted so far.
    pub fn sdma_counters(&self) -> SdmaCounters {
        self.sdma.counters()
    }

    /// Hardware number of its send context.
    pub fn send_context(&self) -> SendCtxt {
        self.pio.context().number()
    }

    /// Number of its SDMA engine.
    pub fn sdma_engine(&self) -> SdmaEngine {
        self.sdma.engine().number()
    }

    /// Faults put into received packets so far.
    pub fn receive_fault_counts(&self) -> FaultCounts {
        self.receive_faults.counts()
    }

    /// Ends all operations: each completes as failed, and comes with its buffer.
    pub fn cancel_all(&mut self) {
        for handle in self.sends.handles() {
            if let Some(send) = self.sends.remove(handle) {
                self.fail(send.context, OperationError::Closed, send.buffer);
            }
        }
        for handle in self.incoming.handles() {
            if let Some(incoming) = self.incoming.remove(handle) {
                self.fail(incoming.context, OperationError::Closed, incoming.buffer);
            }
        }
        for posted in self.matcher.withdraw() {
            self.fail(posted.context, OperationError::Closed, posted.buffer);
        }
    }

    fn fail(&mut self, context: u64, error: OperationError, buffer: Vec<u8>) {
        self.completions.push_back(Completion::Failed { context, error, buffer });
    }

    /// The way from here to `to`.
    fn route(&self, to: Address) -> Route {
        Route { dlid: to.lid, dst_rx: to.rx, ..self.to_self }
    }

    /// Looks whether the adapter still answers and the engines still run; reads registers, so not often.
    fn look_after_adapter(&mut self, now: Instant) -> Result<(), EndpointError> {
        self.next_health = now + self.config.health_interval;
        let bus = self.hfi.bus();
        let silent = self.healthy_packets == self.counters.packets_in;
        self.healthy_packets = self.counters.packets_in;
        let why = bus.gone().or_else(|| {
            let gone = silent && bus.read64(csr::CCE_REVISION.off()) == ALL_ONES;
            gone.then(|| "CCE_REVISION reads as all ones".to_owned())
        });
        if let Some(why) = why {
            return Err(EndpointError::Gone { adapter: bus.name().to_owned(), why });
        }
        let link_is_up = self.hfi.link_state().is_up();
        if link_is_up {
            self.reliability.link_up(now);
        } else {
            self.reliability.link_down(now);
        }
        // What the adapter has to report, link events and errors, for whichever endpoint looks first: whether its interrupt
        // came or not, because one may get lost, and the chip sends no other before this one was seen to.
        if let Some(irq) = self.hfi.irq() {
            let _ = irq.take();
        }
        self.service_adapter()?;
        if self.hfi.freezes() != self.freezes {
            return Ok(());
        }
        // A sender that has credit left hears of a halt, or of packets that are stuck, only when it asks.
        let halted = self.pio.check_progress().err().filter(|_| link_is_up);
        let halted = halted.map(|halted| self.mend_send_context(&halted)).transpose()?;
        let stuck = link_is_up && self.sdma.pending() > 0 && self.sdma_done.0 == self.sdma_done.1;
        self.sdma_done.1 = self.sdma_done.0;
        let checked = if stuck { self.sdma.check() } else { Ok(()) };
        if let Err(SdmaError::Frozen { .. }) = checked {
            return Ok(());
        }
        if let Err(halted) = checked {
            log::warn!("{}: {halted}", self.hfi.bus().name());
            self.count_halt(&format!("SDMA engine {}", self.sdma.engine().number()), &halted.to_string())?;
            unless_frozen(self.sdma.restart())?;
        } else if !stuck && halted != Some(true) {
            self.halts_in_a_row = 0;
        }
        Ok(())
    }

    /// Restarts the send context when that helps; `true` when it did. What was in it is sent again by the reliability
    /// protocol.
    fn mend_send_context(&mut self, halted: &PioError) -> Result<bool, EndpointError> {
        let stalled = matches!(halted, PioError::Stalled { .. });
        // One that froze meanwhile, by another's doing, is left to `recover`.
        if matches!(halted, PioError::Frozen { .. }) || !(stalled || halted.needs_restart()) {
            return Ok(false);
        }
        log::warn!("{}: {halted}", self.hfi.bus().name());
        // Packets that don't leave may be the link's fault: for how long that is borne, the reliability protocol decides.
        if !stalled {
            self.count_halt(&format!("send context {}", self.pio.context().number()), &halted.to_string())?;
        }
        unless_frozen(self.pio.restart())?;
        Ok(true)
    }

    /// An event that can't be handled, such as the 8051 not answering, leaves the packets alone.
    fn service_adapter(&self) -> Result<(), EndpointError> {
        match self.hfi.service_interrupts() {
            Err(error) if error.is_gone() => Err(error.into()),
            Err(error) => {
                log::warn!("{error}");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    fn count_halt(&mut self, what: &str, last: &str) -> Result<(), EndpointError> {
        const MOST_HALTS: u32 = 16;
        self.halts_in_a_row += 1;
        if self.halts_in_a_row < MOST_HALTS {
            return Ok(());
        }
        Err(EndpointError::Halting {
            adapter: self.hfi.bus().name().to_owned(),
            what: what.to_owned(),
            times: self.halts_in_a_row,
            last: last.to_owned(),
        })
    }
}

/// What came of putting an engine in order. When the chip froze or its link went down just then, that is no error:
/// `recover` does it once they are up again.
fn unless_frozen(restarted: Result<(), ContextError>) -> Result<(), EndpointError> {
    match restarted {
        Ok(()) | Err(ContextError::Frozen { .. } | ContextError::LinkDown { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The LID that a 9B packet's 16 bits name.
const fn lid16(lid: Lid) -> Lid {
    Lid(lid.0 & 0xffff)
}
