//! The endpoint: what its owner calls, and the loop that moves everything on.

mod arrivals;
mod atomics;
mod driving;
mod expected;
mod health;
mod lending;
mod local;
mod multi_packet;
mod multi_receive;
mod observed;
mod offers;
mod output;
mod plain;
mod plain_send;
mod posting;
mod protocol;
mod queues;
mod rendezvous;
mod rma;
mod send;
mod targets;
mod unexpected;
mod zero_copy;

pub use expected::ExpectedReceive;

pub(crate) use driving::Rest;

use local::Heard;

use crate::Address;
use crate::buffer::Buffer;
use crate::completion::{Completion, OperationError};
use crate::completions::Completions;
use crate::config::{Config, MAX_PAYLOAD};
use crate::error::{EndpointError, OpenError};
use crate::fabric::Reporter;
use crate::hfi_service::KernelService;
use crate::mappings::{MappingCounts, Mappings};
use crate::observe::Watch;
use crate::observe::counters::Tally;
use crate::one_sided::Refusal;
use crate::operations::{Incoming, Matcher, Send};
use crate::posted::DroppedClaims;
use crate::receive_faults::ReceiveFaults;
use crate::regions::{Regions, RegionsConfig};
use crate::requests::{Landing, Reply, Request};
use crate::slots::{SlotId, Slots};
use crate::table::{Handle, Kind, Table};
use crate::thresholds::{Limits, ThresholdError, Thresholds};
use opx_bus::chance::FaultCounts;
use opx_bus::{PciFunction, ProcessMark};
use opx_defs::time::Instant;
use opx_defs::units::{Blocks, Lid, Psn, SdmaEngine, SendCtxt};
use opx_defs::wire::opx::{Header, Models, Origin, Route};
use opx_hw::{ContextError, Hfi, RecvConfig, RecvContext};
use opx_pio::{PioCounters, PioSender};
use opx_reliability::Reliability;
use opx_sdma::{SdmaCounters, SdmaQueue};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// What an endpoint has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages accepted for sending.
    pub sent_messages: u64,
    /// Of those, the ones that have got as far as they were asked to, with a completion or without.
    pub sends_done: u64,
    /// Of those, the ones that failed.
    pub sends_failed: u64,
    /// Reads, writes and atomic operations that were done; not those that were injected.
    pub requests_done: u64,
    /// Those that failed.
    pub requests_failed: u64,
    /// Messages sent through the machine's shared memory, of all that were sent.
    pub sent_locally: u64,
    /// Messages that came through it.
    pub received_locally: u64,
    /// Messages delivered to their receives.
    pub received_messages: u64,
    /// Messages for views that were lent.
    pub lent_messages: u64,
    /// Those that were copied because too many eager buffers are held.
    pub copied_none_spare: u64,
    /// Those that were copied because they are short.
    pub copied_short: u64,
    /// Those that were copied because they came before their turn, or before they were asked for.
    pub copied_early: u64,
    /// Those that were put together from several packets.
    pub copied_pieces: u64,
    /// Receives that failed.
    pub receives_failed: u64,
    /// Messages of peers on this machine that weren't in their memory any more when they were fetched.
    pub unmapped: u64,
    /// Messages that came before they were asked for.
    pub unexpected_messages: u64,
    /// Of the messages that were sent, those offered for a rendezvous.
    pub offers_sent: u64,
    /// Of those that came, likewise.
    pub offers: u64,
    /// Writes, reads and atomic operations accepted.
    pub requests: u64,
    /// Of those that peers made, the ones that were answered with data.
    pub replies: u64,
    /// Packets that name no memory region of ours.
    pub refused_keys: u64,
    /// Packets that ask for more than a memory region grants.
    pub refused_access: u64,
    /// Packets that name a place outside of their memory region.
    pub refused_places: u64,
    /// Packets with an atomic operation that doesn't exist, or not so.
    pub refused_atomics: u64,
    /// Packets taken from the header queue.
    pub packets_in: u64,
    /// Packets that the adapter found broken.
    pub packets_in_error: u64,
    /// Packets whose content makes no sense.
    pub malformed: u64,
    /// Packets left to be sent again because too much waits for a receive, or too many answers for their peer.
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
    /// Bytes that the processor copied of data that was asked for in a rendezvous, on their way out and in. What goes with
    /// offers isn't counted.
    pub rendezvous_bytes_copied: u64,
    /// Expected packets, and what was asked for in them.
    pub expected: ExpectedReceive,
    /// Looks at the adapter and its link.
    pub link_checks: u64,
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
    limits: Limits,
    address: Address,
    /// A child that is forked from it has a copy of the endpoint that must touch nothing.
    process: ProcessMark,
    /// What its packets have in common; made once, also because asking the adapter for its LID takes a lock.
    models: Models,
    /// Peers that are reached through the machine's memory. It goes before the memory of operations does, which it may refer to.
    local: Option<Box<local::Local>>,
    recv: RecvContext<B>,
    pio: PioSender<B>,
    sdma: SdmaQueue<B, SlotId>,
    reliability: Reliability<SlotId, Held>,
    slots: Slots,
    /// Packets to be written to the adapter, in order.
    outbox: VecDeque<SlotId>,
    sends: Table<Send>,
    incoming: Table<Incoming>,
    /// The memory that peers may ask for.
    regions: Regions,
    /// What was asked of peers.
    requests: Table<Request>,
    /// Requests that wait for the packets before theirs.
    parked: VecDeque<Handle>,
    /// When the requests that wait for answers are looked at.
    next_look: Instant,
    /// Answers that wait to be sent.
    replies: Table<Reply>,
    /// Writes with completion data that aren't all here.
    landings: Table<Landing>,
    /// How many of these two a peer has.
    owed: HashMap<Address, usize>,
    /// Buffers of answers, to be used again.
    spare_results: Vec<Vec<u8>>,
    refusals: VecDeque<Refusal>,
    /// Messages of several packets that aren't whole, by their sender and their first packet.
    assembling: HashMap<(Address, Psn), Handle>,
    /// Incoming messages that nobody has asked for.
    unasked: usize,
    /// Those that go into the buffers of multi-receives.
    parts: usize,
    multi_receives: Table<multi_receive::MultiReceive>,
    /// Messages that were claimed.
    claims: Table<unexpected::Claim>,
    dropped_claims: DroppedClaims,
    /// Rendezvous under way, messages that aren't whole and requests, which wait for their peer while nothing is outstanding.
    by_peer: BTreeSet<(Address, rendezvous::Role, u64)>,
    queues: queues::Queues,
    /// Of the incoming, those in expected packets.
    expected: expected::Transfers<B>,
    /// The application's memory that the adapter reaches.
    mappings: Mappings,
    tagged: Matcher,
    untagged: Matcher,
    unexpected_bytes: usize,
    completions: Completions,
    /// While so many completions wait, no operation is accepted that would have one.
    completion_limit: usize,
    /// Who is told of events.
    reporter: Option<Reporter>,
    receive_faults: ReceiveFaults,
    /// The payload of a packet that is made or taken.
    scratch: Vec<u8>,
    /// Bytes of a message that doesn't lie in one piece.
    gathered: Vec<u8>,
    /// Buffers of held packets, to be used again.
    spare: Vec<Vec<u8>>,
    /// The packet that is being taken would have been lent, had there been an eager buffer to spare.
    none_spare: bool,
    counters: Counters,
    /// Messages that were injected into the adapter, each sent and done at once: counted once, and not among the others.
    injected: u64,
    /// What is counted for OPX's names alone.
    tally: Tally,
    /// Who sees each packet, if anybody.
    watch: Option<Box<Watch>>,
    /// State dumps that had been asked for when this endpoint last looked.
    dumps: u32,
    /// When there is something to do at the latest, if nothing arrives; [`Instant::ZERO`] when there may be something at once.
    /// Timers of packets that were sent since count as well.
    wake: Instant,
    /// Nothing that was asked for keeps packets from the short way.
    plain: bool,
    next_health: Instant,
    /// At the last look.
    link_was_up: bool,
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
    /// Opens an endpoint on an adapter whose link is up, with memory regions of its own.
    ///
    /// # Errors
    /// When a setting makes no sense, or contexts, engines or memory run out.
    pub fn open(hfi: &Hfi<B>, config: Config) -> Result<Self, OpenError> {
        Self::open_with(hfi, config, Regions::new(RegionsConfig::default()))
    }

    /// Opens an endpoint on an adapter whose link is up. Its peers reach what is in `regions`, which it may share with others.
    ///
    /// # Errors
    /// As [`Endpoint::open`].
    pub fn open_with(hfi: &Hfi<B>, mut config: Config, regions: Regions) -> Result<Self, OpenError> {
        if !hfi.is_ours() {
            return Err(OpenError::Forked);
        }
        let limit = |name, value: usize, most: usize, must| {
            if value == 0 || value > most {
                Err(OpenError::Setting { name, value: value as u64, must })
            } else {
                Ok(())
            }
        };
        config.thresholds.check()?;
        if config.hfi_service {
            return Err(OpenError::HfiService(KernelService::find()));
        }
        if config.headers_16b {
            return Err(OpenError::Headers16B);
        }
        limit("slots", config.slots, 1 << 16, "1 to 65536")?;
        limit("operations", config.operations, 1 << 24, "1 to 2^24")?;
        limit("completions", config.completions, 1 << 24, "1 to 2^24")?;
        limit("answers", config.answers, 1 << 16, "1 to 65536")?;
        limit("pio_blocks", config.pio_blocks.into(), 1024, "1 to 1024")?;
        if (hfi.options().mtu as usize) < MAX_PAYLOAD {
            let must = "8192 or 10240: data packets carry 8192 bytes";
            return Err(OpenError::Setting { name: "mtu", value: hfi.options().mtu.into(), must });
        }

        let bus = hfi.bus();
        // Before anything is set up: what freezes from here on has to be recovered from.
        let freezes = hfi.freezes();
        let recv_config = RecvConfig {
            header_entries: config.header_entries,
            eager_buffers: config.eager_buffers,
            eager_buffer_size: config.eager_buffer_size,
            spare_buffers: config.lent_buffers,
            transfer_entries: config.tid_entries,
            job_key: hfi.options().job_key,
            interrupts: config.interrupts,
            ..RecvConfig::default()
        };
        let recv = match hfi.recv_context(recv_config) {
            Err(ContextError::NoRoom { .. }) => {
                log::warn!("{}: no RcvArray entries are left for expected packets", bus.name());
                hfi.recv_context(RecvConfig { transfer_entries: 0, ..recv_config })
            }
            other => other,
        }?;
        let rx = u8::try_from(recv.number().0).map_err(|_| OpenError::RcvCtxt(recv.number()))?;
        let address = Address { lid: hfi.lid(), rx };
        let pio = PioSender::new(hfi.send_context(Blocks(config.pio_blocks))?);
        let mut engine = hfi.sdma_engine(config.sdma_entries)?;
        let slots = Slots::new(&mut engine, config.slots, MAX_PAYLOAD + 64)?;
        let sdma = SdmaQueue::new(engine);
        let local = local::Local::open(&config.shared_memory, hfi.options().job_key, address)?;
        // The pool is shared out fairly, and each of its packets needs a slot; some slots are left to peers on this machine.
        let kept = if local.is_some() { config.slots / 16 } else { 0 };
        let most = u32::try_from(config.slots - kept).unwrap_or(u32::MAX);
        config.reliability.replay_pool = config.reliability.replay_pool.min(most);
        let reliability = Reliability::new(
            opx_reliability::Config {
                first_packet_alone: config.reliability.first_packet_alone
                    || config.generation.needs_first_packet_alone(),
                ..config.reliability
            },
            Origin::from(address),
        )?;
        let now = bus.now();
        let limits = config.thresholds.limits(pio.context().depth());
        let route =
            Route { sc: config.sc, sl: config.sl, generation: config.generation, ..hfi.route(rx, address.lid, rx) };
        let mut endpoint = Self {
            hfi: hfi.clone(),
            limits,
            address,
            process: ProcessMark::here(),
            local,
            models: Models::new(&route, config.vl),
            recv,
            pio,
            sdma,
            reliability,
            slots,
            outbox: VecDeque::with_capacity(config.slots),
            sends: Table::new(config.operations),
            // As many that were asked for as that weren't, and as many parts of multi-receives; and what had been taken out of
            // its turn when there was still room.
            incoming: Table::new(3 * config.operations + config.reliability.max_held as usize),
            regions,
            requests: Table::of(Kind::Request, config.operations),
            parked: VecDeque::new(),
            next_look: now,
            // These are bounded by what each peer may have.
            replies: Table::of(Kind::Reply, usize::MAX),
            landings: Table::of(Kind::Landing, usize::MAX),
            owed: HashMap::new(),
            spare_results: Vec::new(),
            refusals: VecDeque::new(),
            assembling: HashMap::new(),
            unasked: 0,
            parts: 0,
            multi_receives: Table::new(config.operations),
            claims: Table::new(usize::MAX),
            dropped_claims: DroppedClaims::default(),
            by_peer: BTreeSet::new(),
            queues: queues::Queues::default(),
            expected: expected::Transfers::new(),
            mappings: Mappings::new(config.mapped_bytes),
            tagged: Matcher::new(),
            untagged: Matcher::new(),
            unexpected_bytes: 0,
            completions: Completions::default(),
            completion_limit: config.completions,
            reporter: None,
            receive_faults: ReceiveFaults::new(config.receive_faults, config.seed),
            scratch: vec![0; MAX_SCRATCH],
            gathered: Vec::new(),
            spare: Vec::new(),
            none_spare: false,
            counters: Counters::default(),
            injected: 0,
            tally: Tally::default(),
            watch: observed::watch(&config, address)?,
            dumps: crate::observe::dump::asked(),
            wake: Instant::ZERO,
            plain: false,
            // At once.
            next_health: now,
            link_was_up: true,
            healthy_packets: 0,
            sdma_done: (0, 0),
            halts_in_a_row: 0,
            freezes,
            config,
        };
        endpoint.note_plain();
        Ok(endpoint)
    }

    /// Where this endpoint is.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What peers put into their address vectors, by whatever way it gets to them: the bytes of OPX's `fi_getname`, in the form of
    /// this endpoint's generation. Where a fabric manager has given GIDs another prefix than the usual one, and peers are libfabric's,
    /// make an [`EndpointName`](crate::EndpointName) with that.
    ///
    /// ```
    /// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, LinkMode, Options};
    /// use opx_stack::{AddressVector, Config, Endpoint};
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// # hfi.link_up(LinkMode::Loopback)?;
    /// let config = Config::default();
    /// let generation = config.generation;
    /// let endpoint = Endpoint::open(&hfi, config)?;
    ///
    /// let mut peers = AddressVector::new();
    /// let peer = peers.insert_name(generation, &endpoint.name())?;
    /// assert_eq!(peers.address(peer), Some(endpoint.address()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(&self) -> Vec<u8> {
        self.address.name(self.config.generation)
    }

    /// The memory regions that peers of this endpoint reach by their keys.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Takes the next completion. In a forked child there is none.
    pub fn poll_completion(&mut self) -> Option<Completion> {
        if self.completions.is_empty() {
            return None;
        }
        if !self.process.is_surely_here() {
            return self.poll_carefully();
        }
        self.completions.pop()
    }

    /// The same, where it isn't certain that the completions aren't a parent's.
    // A function of its own that is the last thing called: so the short way saves no registers.
    #[cold]
    #[inline(never)]
    fn poll_carefully(&mut self) -> Option<Completion> {
        if self.process.is_here() { self.completions.pop() } else { None }
    }

    /// Moves everything on that can be moved without waiting. `true` when something was done.
    ///
    /// # Errors
    /// When the adapter is gone or an engine can't be brought back, and in a child of the process that opened the endpoint.
    #[inline]
    pub fn progress(&mut self) -> Result<bool, EndpointError> {
        if !self.process.is_here() {
            return Err(EndpointError::Forked);
        }
        let heard = match self.hear()? {
            Heard::Messages => return Ok(true),
            heard => heard == Heard::Something,
        };
        let now = self.hfi.bus().now();
        // What nearly every poll finds.
        if now < self.wake && now < self.reliability.first_timer() && self.hfi.freezes() == self.freezes {
            let Some(flags) = self.recv.peek() else { return Ok(heard) };
            if self.take_plain(flags).is_some() {
                return Ok(true);
            }
        }
        Ok(self.turn(now)? | heard)
    }

    /// Does all that there is to do.
    fn turn(&mut self, now: Instant) -> Result<bool, EndpointError> {
        let mut busy = self.take_arrivals(now);
        if self.claims.len() > 0 {
            self.discard_dropped_claims();
        }
        if self.hfi.freezes() != self.freezes && !busy {
            // All that had arrived before has been taken.
            busy = self.recover()?;
        }
        if self.reliability.has_something() || self.reliability.poll_timeout().is_some_and(|timer| now >= timer) {
            busy |= self.run_protocol(now);
        }
        if self.queues.is_ready() {
            busy |= self.pump(now);
        }
        if !self.outbox.is_empty() || self.sdma.pending() > 0 {
            busy |= self.flush()?;
        }
        if now >= self.next_health {
            self.look_after_adapter(now)?;
        }
        if now >= self.next_look {
            self.look_at_requests(now);
        }
        self.try_crowded_again(now);
        let stirred = busy
            || !self.outbox.is_empty()
            || self.sdma.pending() > 0
            || self.queues.is_ready()
            || self.reliability.has_something()
            || !self.receive_faults.is_off();
        self.wake = if stirred { Instant::ZERO } else { self.poll_timeout() };
        Ok(busy)
    }

    /// When [`Endpoint::progress`] has something to do at the latest, if nothing arrives before.
    pub fn poll_timeout(&self) -> Instant {
        let look = if self.requests.len() > 0 { self.next_look.min(self.next_health) } else { self.next_health };
        let look = self.local.as_ref().map_or(look, |local| look.min(local.poll_timeout()));
        self.reliability.poll_timeout().map_or(look, |timer| timer.min(look))
    }

    /// Whether everything sent has been acknowledged, and nothing waits to be written.
    pub fn is_quiet(&self) -> bool {
        let under_way = self.sends.len() + self.requests.len() + self.replies.len() + self.landings.len();
        self.outbox.is_empty() && under_way == 0 && self.slots.available() == self.config.slots
    }

    /// The sizes at which a message goes another way.
    pub fn thresholds(&self) -> Thresholds {
        self.config.thresholds
    }

    /// Changes the sizes at which a message goes another way. Messages that are under way keep to their protocol.
    ///
    /// # Errors
    /// When one makes no sense; nothing is changed then.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) -> Result<(), ThresholdError> {
        thresholds.check()?;
        self.config.thresholds = thresholds;
        self.limits = thresholds.limits(self.pio.context().depth());
        Ok(())
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        let Counters { sent_messages, sends_done, .. } = self.counters;
        Counters {
            sent_messages: sent_messages.wrapping_add(self.injected),
            sends_done: sends_done.wrapping_add(self.injected),
            ..self.counters
        }
    }

    /// What became of the application's memory that the adapter was to reach.
    pub fn mapping_counts(&self) -> MappingCounts {
        self.mappings.counts()
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

    /// Ends all operations: each completes as failed, and comes with its buffer. Sends whose buffers the adapter is reading do
    /// so when it is done, by [`Endpoint::progress`].
    /// In a forked child there are none.
    pub fn cancel_all(&mut self) {
        if self.process.is_here() {
            self.fail_all(OperationError::Closed);
        }
    }

    fn fail_all(&mut self, error: OperationError) {
        self.end_transfers(error);
        for handle in self.sends.handles() {
            self.fail_send(handle, error);
        }
        for handle in self.incoming.handles() {
            if let Some(incoming) = self.take_incoming(handle) {
                self.fail_incoming(incoming, error);
            }
        }
        for handle in self.requests.handles() {
            self.fail_request(handle, error);
        }
        for handle in self.replies.handles() {
            self.drop_reply(handle);
        }
        for handle in self.landings.handles() {
            self.drop_landing(handle);
        }
        self.assembling.clear();
        self.queues.clear();
        for posted in self.tagged.withdraw().into_iter().chain(self.untagged.withdraw()) {
            self.end_receive(posted, error);
        }
    }

    /// A receive failed.
    fn fail(&mut self, context: u64, error: OperationError, buffer: Buffer) {
        self.counters.receives_failed += 1;
        self.completions.push(Completion::Failed { context, error, buffer });
    }
}

/// The LID that a 9B packet's 16 bits name.
const fn lid16(lid: Lid) -> Lid {
    Lid(lid.0 & 0xffff)
}
