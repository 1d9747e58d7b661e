//! The endpoint as `observe` sees it: what goes into counters, state dumps, recordings and explanations.

use super::Endpoint;
use crate::Address;
use crate::Config;
use crate::completion::Completion;
use crate::error::OpenError;
use crate::observe::counters::Counted;
use crate::observe::dump::{MOST_FLOWS, State, Value, asked, file_name};
use crate::observe::explain::{Facts, Reason, Slower};
use crate::observe::{Event, Explanation, Message, OneSided, OneSidedPath, Record, Recorder, Recording, Tap, Watch};
use crate::one_sided::RequestError;
use crate::operations::Outgoing;
use crate::requests::Request;
use crate::slots::SlotId;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_defs::wire::opx::Header;
use opx_hw::recv::Lent;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where a new endpoint's packets are seen, if anywhere.
pub(super) fn watch(config: &Config, me: Address) -> Result<Option<Box<Watch>>, OpenError> {
    let file = match &config.recorder {
        Recording::Off => return Ok(None),
        Recording::Memory => None,
        Recording::Directory(directory) => Some(directory.join(file_name(me, "rec"))),
    };
    let recorder = Recorder::new(me, config.generation, file.as_deref()).map_err(OpenError::Recorder)?;
    Ok(Some(Box::new(Watch { recorder: Some(recorder), ..Watch::default() })))
}

impl<B: PciFunction> Endpoint<B> {
    /// All counters by group and name: first those that OPX has, under its names, then our own.
    /// [`crate::observe::counters::absent`] tells which of OPX's aren't among them, and why.
    ///
    /// ```
    /// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, LinkMode, Options};
    /// # use opx_stack::{Config, Endpoint};
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// # hfi.link_up(LinkMode::Loopback)?;
    /// let endpoint = Endpoint::open(&hfi, Config::default())?;
    /// let pings = endpoint.named_counters().find(|(group, name, _)| (*group, *name) == ("reliability_ping", "pings_sent"));
    /// assert_eq!(pings.unwrap().2, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn named_counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<B> {
        let counted = Counted {
            endpoint: self.counters(),
            reliability: *self.reliability.counters(),
            pio: self.pio.counters(),
            sdma: self.sdma.counters(),
            recv: self.recv.counts(),
            tally: self.tally,
            shm: self.local.as_ref().map(|local| local.counters()).unwrap_or_default(),
            posted: [self.untagged.posted_so_far(), self.tagged.posted_so_far()],
        };
        counted.named()
    }

    /// Writes this endpoint's state as [`crate::observe::dump_on_sigusr2`] has it written.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_state(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.state().write(out)
    }

    /// Writes this endpoint's state to a file of `directory`, under the name that OPX gives it, in place of an earlier one; gives
    /// the file's path.
    ///
    /// # Errors
    /// When the file can't be made or written.
    pub fn dump_state(&mut self, directory: &Path) -> io::Result<PathBuf> {
        self.state().write_file(directory)
    }

    /// Writes this endpoint's state to the working directory if the process was asked to.
    pub(super) fn dump_if_asked(&mut self) {
        let asked = asked();
        if std::mem::replace(&mut self.dumps, asked) == asked {
            return;
        }
        match self.dump_state(Path::new("")) {
            Ok(path) => log::info!("{}: state written to {}", self.address, path.display()),
            Err(error) => {
                let name = file_name(self.address, "out");
                log::error!("{}: can't write state to {name} in the working directory: {error}", self.address);
            }
        }
    }

    /// From now on this endpoint's packets are written to a capture, or no longer.
    pub fn set_tap(&mut self, tap: Option<Tap>) {
        let mut watch = self.watch.take().unwrap_or_default();
        watch.tap = tap;
        self.watch = (!watch.is_idle()).then_some(watch);
        self.note_plain();
    }

    /// What the flight recorder has, oldest first; nothing without one.
    pub fn recorded(&self) -> Vec<Record> {
        let recorder = self.watch.as_ref().and_then(|watch| watch.recorder.as_ref());
        recorder.map(Recorder::records).unwrap_or_default()
    }

    /// Which way a message goes, and why it doesn't go the others. Nothing is sent.
    ///
    /// ```
    /// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, LinkMode, Options};
    /// # use opx_stack::{Config, Endpoint};
    /// use opx_stack::observe::{Message, Path};
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// # hfi.link_up(LinkMode::Loopback)?;
    /// let endpoint = Endpoint::open(&hfi, Config::default())?;
    /// let explanation = endpoint.explain(Message::untagged(endpoint.address(), 12_000));
    /// assert_eq!(explanation.path, Some(Path::RendezvousPio));
    /// assert_eq!(explanation.why_not(Path::MultiPacket).unwrap().to_string(), "only tagged messages go this way");
    /// println!("{explanation}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain(&self, message: Message) -> Explanation {
        self.facts(message.to).explain(message)
    }

    /// Which way a write, a read or an atomic operation goes, and why it doesn't go the others. Nothing is sent.
    ///
    /// ```
    /// # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
    /// # use opx_hw::{Hfi, LinkMode, Options};
    /// # use opx_stack::{Config, Endpoint};
    /// use opx_stack::observe::{OneSided, OneSidedPath};
    /// # let lab = Lab::new(Pacing::Virtual);
    /// # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    /// # let hfi = Hfi::open(adapter.bus(), Options::default())?;
    /// # hfi.link_up(LinkMode::Loopback)?;
    /// let endpoint = Endpoint::open(&hfi, Config::default())?;
    /// let explanation = endpoint.explain_one_sided(OneSided::write(endpoint.address(), 100));
    /// assert_eq!(explanation.path, Some(OneSidedPath::OnePacket));
    /// assert_eq!(
    ///     explanation.why_not(OneSidedPath::Sdma).unwrap().to_string(),
    ///     "packets have 128 bytes of payload, and the engine fetches only those of more than 512 (pio_max)"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain_one_sided(&self, asked: OneSided) -> Explanation<OneSided, OneSidedPath> {
        self.facts(asked.peer).explain_one_sided(asked)
    }

    /// Whether a request would go a slower way than was asked for.
    #[cold]
    pub(super) fn check_path(&mut self, request: &Request, expected: OneSidedPath) -> Result<(), RequestError> {
        let (peer, len) = (request.remote.peer, request.len);
        // Who wasn't sent anything before is looked for now.
        self.local_peer(peer)?;
        let asked = OneSided::new(peer, request.what.kind(), len);
        match self.facts(peer).slower_one_sided(&asked, expected) {
            Some(slower) => Err(RequestError::Slower(slower)),
            None => Ok(()),
        }
    }

    /// Whether a message would go a slower way than was asked for.
    #[cold]
    pub(super) fn slower_than_expected(&self, outgoing: &Outgoing) -> Option<Slower> {
        // What the message says counts before what the endpoint was told.
        let expected = outgoing.expect.or(self.config.expect)?;
        let message =
            Message { tagged: outgoing.tag.is_some(), ..Message::untagged(outgoing.to, outgoing.buffer.len()) };
        self.facts(message.to).slower(&message, expected)
    }

    fn facts(&self, to: Address) -> Facts {
        let no_memory = match &self.local {
            Some(local) => local.obstacle(to),
            None if to.lid != self.address.lid => Some(Reason::OtherNode),
            None if self.config.shared_memory.enabled => Some(Reason::NoJob),
            None => Some(Reason::Off("shared_memory.enabled, FI_OPX_SHM_ENABLE")),
        };
        Facts { no_memory, thresholds: self.config.thresholds, limits: self.limits }
    }

    /// A packet came, and this became of it.
    #[inline(always)]
    pub(super) fn watch_arrival(&mut self, now: Instant, event: Event, header: &Header, payload: &[u8]) {
        if let Some(watch) = &mut self.watch {
            watch.packet(now, event, header, payload);
        }
    }

    /// A packet came that was lent, and this became of it.
    #[inline]
    pub(super) fn watch_lent(&mut self, event: Event, header: &Header, lent: &Lent) {
        if let Some(watch) = &mut self.watch {
            let mut payload = vec![0; lent.len()];
            lent.read(0, &mut payload);
            watch.packet(self.hfi.bus().now(), event, header, &payload);
        }
    }

    /// Something happened to a packet in a slot.
    #[inline(always)]
    pub(super) fn watch_slot(&mut self, event: Event, slot: SlotId) {
        if self.watch.is_some() {
            self.watch_departure(event, slot);
        }
    }

    #[cold]
    fn watch_departure(&mut self, event: Event, slot: SlotId) {
        let Some(watch) = &mut self.watch else { return };
        let len = self.slots.payload(slot);
        // Only a capture wants the payload.
        let mut payload = vec![0; if watch.tap.is_some() { len } else { 0 }];
        self.slots.copy_payload(slot, &mut payload);
        let now = self.hfi.bus().now();
        let header = self.slots.header(slot);
        match watch.tap {
            Some(_) => watch.packet(now, event, &header, &payload),
            None => watch.recorder.iter_mut().for_each(|recorder| recorder.record(now, event, &header, len)),
        }
    }

    /// Something happened that isn't a packet.
    #[cold]
    pub(super) fn watch_event(&mut self, now: Instant, event: Event) {
        if let Some(watch) = &mut self.watch {
            watch.event(now, event);
        }
    }

    fn state(&mut self) -> State {
        let sections = vec![
            ("Deferred work", self.deferred_work()),
            ("Pending/Completion Queues", self.completion_queues()),
            ("Match Queues", self.match_queues()),
            ("Counters", self.counter_lines()),
            ("PIO  Info", self.pio_lines()),
            ("SDMA Info", self.sdma_lines()),
            ("Reliability", self.own_address()),
        ];
        let (tx, rx) = self.reliability.flows();
        let flows = self.reliability.tx_flows();
        let busy = flows.filter(|flow| flow.outstanding.is_some() || flow.dead);
        let idle = self.reliability.tx_flows().filter(|flow| flow.outstanding.is_none() && !flow.dead);
        let tx_flows = (busy.chain(idle).take(MOST_FLOWS).collect(), tx);
        let waiting = self.reliability.rx_flows().filter(|flow| flow.early > 0);
        let quiet = self.reliability.rx_flows().filter(|flow| flow.early == 0);
        let rx_flows = (waiting.chain(quiet).take(MOST_FLOWS).collect(), rx);
        let recorder = self.watch.as_ref().and_then(|watch| watch.recorder.as_ref());
        State {
            adapter: self.hfi.bus().name().to_owned(),
            me: self.address,
            generation: self.config.generation,
            sections,
            rx_flows,
            tx_flows,
            records: recorder.map(Recorder::records),
        }
    }

    fn deferred_work(&self) -> Vec<(String, Value)> {
        let by_engine = self.outbox.iter().filter(|slot| self.slots.is_by_engine(**slot)).count();
        lines([
            ("work_pending[SDMA].head", Value::Queue(by_engine)),
            ("work_pending[PIO].head", Value::Queue(self.outbox.len() - by_engine)),
            ("work_pending[SHM].head", Value::Queue(self.local.as_ref().map_or(0, |local| local.waiting()))),
            ("work_pending[TID_SETUP].head", Value::Queue(0)),
            ("work_pending[HFISVC].head", Value::Queue(0)),
            ("sdma_request_queue.list.head", Value::Queue(self.queues.transfers())),
            ("sdma_pending_queue.head", Value::Queue(self.sdma.pending())),
            ("work_pending_completion.head", Value::Queue(self.sends.len())),
            ("reliability->service.work_pending.head", Value::Queue(self.queues.answers())),
        ])
    }

    fn completion_queues(&self) -> Vec<(String, Value)> {
        let [sent, received, failed] = self.ended();
        lines([
            ("tx.cq_pending_ptr", Value::Queue(self.sends.len())),
            ("tx.cq_completed_ptr", Value::Queue(sent)),
            // One queue has the errors of both directions.
            ("tx.cq_err_ptr", Value::Queue(failed)),
            ("rx.cq_pending_ptr", Value::Queue(self.incoming.len().saturating_sub(self.unasked))),
            ("rx.cq_completed_ptr", Value::Queue(received)),
            ("rx.cq_err_ptr", Value::Queue(failed)),
        ])
    }

    /// Completions that nobody has fetched: of what we began, of what came, failed ones.
    fn ended(&self) -> [usize; 3] {
        let mut ended = [0; 3];
        for completion in self.completions.iter() {
            let kind = match completion {
                Completion::Sent { .. }
                | Completion::Written { .. }
                | Completion::Read { .. }
                | Completion::Fetched { .. } => 0,
                Completion::Failed { .. } | Completion::MultiReceiveFailed { .. } => 2,
                _ => 1,
            };
            ended[kind] += 1;
        }
        ended
    }

    fn match_queues(&self) -> Vec<(String, Value)> {
        lines([
            ("TAG     queue[0].mq.head", Value::Queue(self.tagged.posted())),
            ("TAG     queue[0].ue.head", Value::Queue(self.tagged.kept())),
            ("MSG     queue[1].mq.head", Value::Queue(self.untagged.posted())),
            ("MSG     queue[1].ue.head", Value::Queue(self.untagged.kept())),
            ("MP-EGR  mp_egr_queue.mq.head", Value::Queue(self.assembling.len())),
            ("MP-EGR  mp_egr_queue.ue.head", Value::Queue(self.unasked)),
        ])
    }

    fn counter_lines(&self) -> Vec<(String, Value)> {
        let named = self.named_counters().map(|(group, name, value)| (format!("{group}.{name}"), Value::Number(value)));
        let [sent, received, failed] = self.ended();
        // The queue that both directions share, as it is bound to the endpoint twice.
        let queue = |name: &str, pending: usize, completed: usize| {
            [
                (format!("opx_ep->{name}"), Value::Queue(completed + failed)),
                ("       pending".to_owned(), Value::Queue(pending)),
                ("       completed".to_owned(), Value::Queue(completed)),
                ("       err".to_owned(), Value::Queue(failed)),
            ]
        };
        let receiving = self.incoming.len().saturating_sub(self.unasked);
        let queues =
            queue("init_tx_cq", self.sends.len(), sent).into_iter().chain(queue("init_rx_cq", receiving, received));
        named.chain(queues).collect()
    }

    fn pio_lines(&mut self) -> Vec<(String, Value)> {
        let total = self.pio.context().depth().0;
        let (used, free) = (self.pio.outstanding().0, self.pio.available().0);
        lines([
            ("tx->pio_state->credits_total", Value::Number(total.into())),
            ("credits in use", Value::Number(used.into())),
            ("credits available", Value::Number(free.into())),
            ("tx->pio_max_eager_tx_bytes", Value::Number(self.limits.eager as u64)),
        ])
    }

    fn sdma_lines(&self) -> Vec<(String, Value)> {
        let (fill, done) = self.sdma.positions();
        lines([
            ("hfi->info.sdma.queue_size", Value::Number(self.sdma.engine().entries().into())),
            ("hfi->info.sdma.fill_index", Value::Number(fill.into())),
            ("hfi->info.sdma.done_index", Value::Number(done.into())),
            ("hfi->info.sdma.available_counter", Value::Number(self.sdma.free().into())),
            ("tx->sdma_request_queue.num_reqs", Value::Number(self.queues.transfers() as u64)),
            ("tx->sdma_request_queue.slots_avail", Value::Number(self.slots.available() as u64)),
        ])
    }

    fn own_address(&self) -> Vec<(String, Value)> {
        let me = self.address;
        let first = "opx_ep->rx->self.planes[OPX_PRIMARY_PLANE]";
        vec![
            (format!("{first}.lid"), Value::Hex(me.lid.0.into(), 4)),
            (format!("{first}.hfi1_subctxt_rx"), Value::Hex(u64::from(me.rx) << 8, 4)),
        ]
    }
}

fn lines<const N: usize>(lines: [(&str, Value); N]) -> Vec<(String, Value)> {
    lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
