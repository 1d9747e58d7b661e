//! A small fabric in simulated time: protocol cores at its nodes, a link from each to each, and everything that can go wrong.
//!
//! Packets cross it as headers that the codec wrote, and are read from those again. Nothing here is random but what comes from
//! the seed, so the same seed gives the same run, to the last packet.
#![allow(dead_code, reason = "each test uses its part")]

use opx_bus::chance::{Chance, FaultCounts, PacketFaults};
use opx_defs::time::Instant;
use opx_defs::units::{JobKey, Lid, Pkey, Psn, Sc, Sl};
use opx_defs::wire::opx::{Generation, Header, Inject, Opcode, Origin, Route, Ud, UdOp};
use opx_reliability::{Arrival, Config, Event, Reliability, Transmit, Verdict};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

/// A data packet, as its sender keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Its number among those from this node to that one.
    pub id: u32,
    pub psn: Psn,
    pub early: bool,
    pub ack_req: bool,
    pub bytes: u32,
}

/// A way from one node to another.
#[derive(Debug, Clone)]
pub struct Link {
    pub faults: PacketFaults,
    /// How long a packet is under way.
    pub delay: Duration,
    /// By how much more, at random: packets overtake each other.
    pub jitter: Duration,
    /// Nanoseconds for a byte, in 1/65536.
    pub byte_time: u64,
    /// When nothing comes through.
    pub cut: Option<(Instant, Instant)>,
    free_at: Instant,
}

impl Link {
    pub fn new(gigabits: u64, delay: Duration) -> Self {
        let byte_time = (8u64 << 16).checked_div(gigabits).unwrap_or(0);
        let (faults, jitter) = (PacketFaults::default(), Duration::ZERO);
        Self { faults, delay, jitter, byte_time, cut: None, free_at: Instant::ZERO }
    }
}

/// What a node has to send to another one.
#[derive(Debug, Default)]
pub struct Task {
    pub total: u32,
    pub sent: u32,
    released: u32,
}

/// What a node has got from another one.
#[derive(Debug, Default)]
struct Inbox {
    /// The ids used in order must grow.
    next: u32,
    in_order: u32,
    early: BTreeSet<u32>,
    early_used: u32,
    bytes: u64,
}

pub struct Node {
    pub core: Reliability<(usize, Packet), Packet>,
    origin: Origin,
    pub tasks: Vec<Task>,
    inboxes: Vec<Inbox>,
    next_send: Instant,
    /// Its process computes something else: what comes waits, and nothing is sent.
    pub asleep: Option<(Instant, Instant)>,
    /// It has no room for data, and drops what comes: its application takes nothing. No fault, and not over when those are.
    pub full: Option<(Instant, Instant)>,
    /// How many of a hundred service packets find no room in its adapter.
    pub no_credit: f64,
    /// Its port is down.
    pub unplugged: Option<(Instant, Instant)>,
    link_is_up: bool,
}

/// How packets are made.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    pub most_bytes: u32,
    pub least_bytes: u32,
    /// Share of packets that may be used early, of those that ask for an ACK, and chance of a pause after a packet; percent.
    pub early: f64,
    pub ack_req: f64,
    pub pause: f64,
    pub longest_pause: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Flying {
    from: usize,
    to: usize,
    header: Header,
    packet: Option<Packet>,
}

pub struct Net {
    pub chance: Chance,
    pub config: Config,
    pub generation: Generation,
    pub traffic: Traffic,
    pub nodes: Vec<Node>,
    /// The link from node to node is number `from * nodes + to`.
    pub links: Vec<Link>,
    /// From when on nothing goes wrong any more.
    pub calm: Instant,
    pub dealt: FaultCounts,
    /// Service packets that found no room in their sender's adapter.
    pub without_credit: u64,
    pub now: Instant,
    pub transmitted: u64,
    wire: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    /// Packets under way, by place; `None` for a free place.
    flying: Vec<Option<Flying>>,
    free: Vec<usize>,
    /// Most bytes that wait at a link before its sender waits, too.
    pub backlog: u64,
}

impl Net {
    pub fn new(chance: Chance, config: Config, generation: Generation, first: u64, nodes: usize) -> Self {
        let node = |i: usize| {
            let origin = Origin { lid: Lid(1 + i as u32 * 0x111), rx: 3 + i as u8 };
            Node {
                core: Reliability::starting_at(config, origin, first).unwrap(),
                origin,
                tasks: (0..nodes).map(|_| Task::default()).collect(),
                inboxes: (0..nodes).map(|_| Inbox::default()).collect(),
                next_send: Instant::ZERO,
                asleep: None,
                full: None,
                no_credit: 0.0,
                unplugged: None,
                link_is_up: true,
            }
        };
        Self {
            chance,
            config,
            generation,
            traffic: Traffic {
                most_bytes: 8192,
                least_bytes: 0,
                early: 0.0,
                ack_req: 0.0,
                pause: 0.0,
                longest_pause: Duration::ZERO,
            },
            nodes: (0..nodes).map(node).collect(),
            links: vec![Link::new(100, Duration::from_micros(1)); nodes * nodes],
            calm: Instant::FAR,
            dealt: FaultCounts::default(),
            without_credit: 0,
            now: Instant::ZERO,
            transmitted: 0,
            wire: BinaryHeap::new(),
            flying: Vec::new(),
            free: Vec::new(),
            backlog: 1 << 16,
        }
    }

    fn route(&self, from: usize, to: usize) -> Route {
        let (from, to) = (self.nodes[from].origin, self.nodes[to].origin);
        Route {
            slid: from.lid,
            dlid: to.lid,
            primary_lid: from.lid,
            src_rx: from.rx,
            dst_rx: to.rx,
            sc: Sc(0),
            sl: Sl(0),
            pkey: Pkey(0x8001),
            job_key: JobKey(1),
            qp_prefix: 0x80,
            generation: self.generation,
        }
    }

    fn node_of(&self, origin: Origin) -> usize {
        self.nodes.iter().position(|node| node.origin == origin).expect("a peer that is no node")
    }

    fn put(&mut self, at: Instant, packet: Flying) {
        self.transmitted += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.flying.push(None);
            self.flying.len() - 1
        });
        self.flying[place] = Some(packet);
        self.wire.push(Reverse((at, self.transmitted, place)));
    }

    fn transmit(&mut self, from: usize, to: usize, header: Header, packet: Option<Packet>) {
        let now = self.now;
        let calm = now >= self.calm;
        let within = |span: Option<(Instant, Instant)>| !calm && span.is_some_and(|(a, b)| a <= now && now < b);
        let down = within(self.nodes[from].unplugged) || within(self.nodes[to].unplugged);
        let link = &mut self.links[from * self.nodes.len() + to];
        let bytes = 80 + packet.map_or(0, |packet| u64::from(packet.bytes));
        link.free_at = link.free_at.max(now) + Duration::from_nanos((bytes * link.byte_time) >> 16);
        let quiet = PacketFaults::default();
        let fate = if calm { &quiet } else { &link.faults }.deal(&mut self.chance, &mut self.dealt);
        // A spoilt packet is dropped by the adapter, by its checksum.
        if down || within(link.cut) || fate.lost || fate.flipped.is_some() {
            return;
        }
        let (left, delay, jitter) = (link.free_at, link.delay, link.jitter.as_nanos() as u64);
        for _ in 0..1 + u32::from(fate.doubled) {
            let late = Duration::from_nanos(self.chance.below(jitter) + u64::from(fate.overtaken_by) * 5_000);
            self.put(left + delay + late, Flying { from, to, header, packet });
        }
    }

    fn is_asleep(&self, i: usize) -> Option<Instant> {
        self.nodes[i].asleep.filter(|(from, to)| *from <= self.now && self.now < *to).map(|(_, to)| to)
    }

    /// Whether the port to `to` takes another packet now.
    fn has_room(&self, from: usize, to: usize) -> bool {
        let link = &self.links[from * self.nodes.len() + to];
        (link.free_at.since(self.now).as_nanos() as u64) << 16 <= self.backlog * link.byte_time.max(1)
    }

    /// Lets a node send what it has to.
    fn pump(&mut self, i: usize) -> Result<(), String> {
        if self.is_asleep(i).is_some() {
            return Ok(());
        }
        let now = self.now;
        let is_up = now >= self.calm || self.nodes[i].unplugged.is_none_or(|(from, to)| now < from || to <= now);
        if is_up != self.nodes[i].link_is_up {
            self.nodes[i].link_is_up = is_up;
            let core = &mut self.nodes[i].core;
            if is_up { core.link_up(now) } else { core.link_down(now) }
        }
        self.nodes[i].core.on_timeout(now);
        loop {
            let (peer, ud, packet) = match self.nodes[i].core.poll_transmit(now) {
                Some(Transmit::Replay { psn, packet: (_, packet), .. }) if psn != packet.psn => {
                    return Err(format!("replay of {packet:?} as {psn}"));
                }
                Some(Transmit::Replay { peer, packet: (_, packet), .. }) => (peer, None, Some(*packet)),
                Some(Transmit::Ud { peer, ud }) => {
                    if ud.count == 0 || ud.start.get() + ud.count > Psn::SPACE {
                        return Err(format!("range past the wrap: {ud:?}"));
                    }
                    (peer, Some(ud), None)
                }
                None => break,
            };
            if let Some(ud) = ud
                && now < self.calm
                && self.chance.percent(self.nodes[i].no_credit)
            {
                self.without_credit += 1;
                if ud.op == UdOp::Ping {
                    self.nodes[i].core.ping_lost();
                }
                continue;
            }
            let to = self.node_of(peer);
            let route = self.route(i, to);
            let header = match (ud, packet) {
                (Some(ud), _) => ud.encode(&route),
                (_, Some(packet)) => header_of(&route, packet.psn),
                _ => continue,
            };
            self.transmit(i, to, header, packet);
        }
        self.send_new(i)?;
        self.take_back(i)?;
        let node = &self.nodes[i];
        let (replays, held, flows) = (node.core.replays_in_use(), node.core.held(), node.core.flows());
        let peers = self.nodes.len();
        if replays > self.config.replay_pool || held > self.config.max_held as usize || flows.0.max(flows.1) > peers {
            return Err(format!("{replays} replay entries, {held} packets held, {flows:?} flows"));
        }
        match self.nodes[i].core.poll_event() {
            Some(event) if !matches!(event, Event::PeerOutOfStep { .. }) => Err(format!("{event:?}")),
            _ => Ok(()),
        }
    }

    /// Takes back what was acknowledged.
    fn take_back(&mut self, i: usize) -> Result<(), String> {
        let node = &mut self.nodes[i];
        while let Some((to, packet)) = node.core.poll_released() {
            node.tasks[to].released += 1;
            if node.tasks[to].released > node.tasks[to].sent {
                return Err(format!("{packet:?} was released twice"));
            }
        }
        Ok(())
    }

    fn send_new(&mut self, i: usize) -> Result<(), String> {
        let (now, traffic) = (self.now, self.traffic);
        for to in 0..self.nodes.len() {
            while self.nodes[i].tasks[to].sent < self.nodes[i].tasks[to].total
                && self.nodes[i].next_send <= now
                && self.has_room(i, to)
            {
                let early = self.chance.percent(traffic.early);
                let ack_req = early && self.chance.percent(traffic.ack_req);
                let spread = u64::from(traffic.most_bytes - traffic.least_bytes) + 1;
                let bytes = traffic.least_bytes + self.chance.below(spread) as u32;
                let peer = self.nodes[to].origin;
                let node = &mut self.nodes[i];
                let id = node.tasks[to].sent;
                let make = |psn| Packet { id, psn, early, ack_req, bytes };
                match node.core.send(now, peer, bytes, |psn| (to, make(psn))) {
                    Ok(psn) => {
                        node.tasks[to].sent += 1;
                        if self.chance.percent(traffic.pause) {
                            let pause = self.chance.below(traffic.longest_pause.as_nanos() as u64);
                            self.nodes[i].next_send = now + Duration::from_nanos(pause);
                        }
                        let header = header_of(&self.route(i, to), psn);
                        self.transmit(i, to, header, Some(make(psn)));
                    }
                    Err(error) if error.is_temporary() => break,
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        Ok(())
    }

    fn deliver(&mut self, flying: Flying) -> Result<(), String> {
        let Flying { from, to, header, packet } = flying;
        let (now, generation) = (self.now, self.generation);
        let origin = header.origin_in(generation);
        if header.validate_in(generation).is_err() || origin != self.nodes[from].origin {
            return Err(format!("a header from {origin:?}: {header:?}"));
        }
        let node = &mut self.nodes[to];
        let Some(packet) = packet else {
            let ud = Ud::decode_in(generation, &header, &[]).map_err(|error| error.to_string())?;
            node.core.on_ud(now, origin, &ud);
            return Ok(());
        };
        if node.full.is_some_and(|(from, to)| from <= now && now < to) {
            return Ok(());
        }
        let Packet { ack_req, early, .. } = packet;
        let inbox = &mut node.inboxes[from];
        match node.core.on_data(Arrival { origin, psn: header.psn(), ack_req, early }, || Some(packet)) {
            Verdict::Deliver => inbox.use_in_order(packet)?,
            Verdict::ApplyEarly if !early => return Err(format!("{packet:?} isn't to be used early")),
            Verdict::ApplyEarly => {
                if packet.id < inbox.next || !inbox.early.insert(packet.id) {
                    return Err(format!("{packet:?} was used twice"));
                }
                inbox.early_used += 1;
                inbox.bytes += u64::from(packet.bytes);
                inbox.pass_early();
            }
            Verdict::Held | Verdict::Duplicate | Verdict::Dropped(_) => {}
        }
        // A caller that fetches late now and then.
        if self.chance.percent(95.0) {
            self.fetch(to)?;
        }
        Ok(())
    }

    fn fetch(&mut self, i: usize) -> Result<(), String> {
        while let Some((origin, packet)) = self.nodes[i].core.next_in_order() {
            let from = self.node_of(origin);
            self.nodes[i].inboxes[from].use_in_order(packet)?;
        }
        Ok(())
    }

    /// Bytes that node `to` has got from node `from`.
    pub fn got(&self, from: usize, to: usize) -> u64 {
        self.nodes[to].inboxes[from].bytes
    }

    /// Packets from node `from` that node `to` has acknowledged and node `from` has taken back.
    pub fn taken_back(&self, from: usize, to: usize) -> u32 {
        self.nodes[from].tasks[to].released
    }

    /// Lets the next thing happen. `false` when nothing will any more.
    pub fn step(&mut self) -> Result<bool, String> {
        for i in 0..self.nodes.len() {
            self.pump(i)?;
        }
        let mut next = self.wire.peek().map(|Reverse((at, ..))| *at);
        let mut sooner = |at: Instant| next = Some(next.map_or(at, |next: Instant| next.min(at)));
        for (i, node) in self.nodes.iter().enumerate() {
            if let Some(awake) = self.is_asleep(i) {
                sooner(awake);
                continue;
            }
            if let Some(timer) = node.core.poll_timeout() {
                sooner(timer.max(self.now));
            }
            if let Some((from, to)) = node.unplugged.filter(|_| !node.link_is_up || self.is_busy(i)) {
                [from, to, self.calm].into_iter().filter(|at| *at > self.now).for_each(&mut sooner);
            }
            for (to, task) in node.tasks.iter().enumerate().filter(|(_, task)| task.sent < task.total) {
                let _ = task;
                if node.next_send > self.now {
                    sooner(node.next_send);
                } else if !self.has_room(i, to) {
                    let link = &self.links[i * self.nodes.len() + to];
                    let room = Duration::from_nanos((self.backlog * link.byte_time) >> 16);
                    sooner(Instant::from_nanos(link.free_at.as_nanos().saturating_sub(room.as_nanos() as u64)));
                }
            }
        }
        let Some(at) = next else { return Ok(false) };
        self.now = self.now.max(at);
        while let Some(Reverse((at, order, place))) = self.wire.peek().copied().filter(|Reverse(key)| key.0 <= self.now)
        {
            self.wire.pop();
            let Some(flying) = self.flying[place] else { return Err(format!("nothing flies at {at:?}")) };
            if let Some(awake) = self.is_asleep(flying.to) {
                // It waits in the adapter's memory, in order.
                self.wire.push(Reverse((awake, order, place)));
                continue;
            }
            self.flying[place] = None;
            self.free.push(place);
            self.deliver(flying)?;
        }
        Ok(true)
    }

    fn is_busy(&self, i: usize) -> bool {
        let node = &self.nodes[i];
        node.tasks.iter().any(|task| task.sent < task.total) || !node.core.is_idle()
    }

    /// Whether all is sent, acknowledged and quiet, down to the last timer.
    pub fn is_done(&self) -> bool {
        let done = |node: &Node| {
            node.core.is_idle()
                && node.core.poll_timeout().is_none()
                && node.tasks.iter().all(|task| task.sent == task.total)
        };
        self.wire.is_empty() && self.nodes.iter().all(done)
    }

    /// Runs to the end and checks it: everything arrived once and in order, everything was given back, all of it within
    /// `patience` after the faults stopped, and without more packets than `most`.
    pub fn run(&mut self, patience: Duration, most: u64) -> Result<(), String> {
        while !self.is_done() {
            if self.transmitted > most || (self.calm < Instant::FAR && self.now > self.calm + patience) {
                let counters: Vec<_> = self.nodes.iter().map(|node| node.core.counters()).collect();
                return Err(format!("no end at {:?} after {} packets: {counters:?}", self.now, self.transmitted));
            }
            if !self.step()? && !self.is_done() {
                return Err(format!("nothing to wait for at {:?}", self.now));
            }
        }
        for i in 0..self.nodes.len() {
            self.fetch(i)?;
            self.take_back(i)?;
            if self.nodes[i].core.held() != 0 || self.nodes[i].core.replays_in_use() != 0 {
                return Err("something is kept at the end".into());
            }
        }
        for (from, node) in self.nodes.iter().enumerate() {
            for (to, task) in node.tasks.iter().enumerate() {
                let inbox = &self.nodes[to].inboxes[from];
                let used = inbox.in_order + inbox.early_used;
                if used != task.total || task.released != task.total || inbox.next != task.total {
                    return Err(format!("{used} of {} packets used, {} released", task.total, task.released));
                }
                if node.core.outstanding_bytes(self.nodes[to].origin) != 0 {
                    return Err("something is outstanding at the end".into());
                }
            }
        }
        Ok(())
    }
}

impl Inbox {
    fn use_in_order(&mut self, packet: Packet) -> Result<(), String> {
        if packet.id != self.next {
            return Err(format!("{packet:?} was used when {} was to be", self.next));
        }
        self.next += 1;
        self.in_order += 1;
        self.bytes += u64::from(packet.bytes);
        self.pass_early();
        Ok(())
    }

    fn pass_early(&mut self) {
        while self.early.remove(&self.next) {
            self.next += 1;
        }
    }
}

fn header_of(route: &Route, psn: Psn) -> Header {
    let mut header = Inject { tag: Some(0), cq_data: None, data: &[] }.encode(route).unwrap();
    assert!(matches!(header.opcode_in(route.generation), Opcode::Inject(_)));
    header.set_psn(psn);
    header
}
