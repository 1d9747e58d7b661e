//! Peers on this machine, reached through shared memory: who they are, and how it was decided.
//!
//! A message is one message of the ring to its peer, or, if it is too long for that, an offer of its memory, which the receiver's
//! process fetches in one copy. What is asked of a peer's memory goes in the packets of the wire, so that it is done and
//! checked by the same code; they have no numbers and are never sent again, as the ring loses nothing.

mod crowded;
mod driving;
mod messages;
mod packets;
mod plain;
mod transfers;

pub(super) use plain::Heard;

use crate::Address;
use crate::completion::OperationError;
use crate::error::OpenError;
use crate::observe::explain::Reason;
use crate::observe::hmem::Medium;
use crate::operations::SendError;
use crate::shared_memory::{MOST_PORTS, Names, SharedMemory};
use crate::slots::SlotId;
use crate::table::Handle;
use crowded::Crowded;
use opx_bus::Irq;
use opx_defs::time::Instant;
use opx_defs::units::{JobKey, Lid};
use opx_shm::{ConnectError, Node, OfferId, PeerId, PullId};
use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;

/// Receive contexts that an address can name.
const CONTEXTS: usize = 256;

/// Kinds of messages in a ring, and what of a message is there.
mod kind {
    /// A message. Words: tag, data for the completion.
    pub(super) const MESSAGE: u16 = 1;
    /// A packet of the wire.
    pub(super) const PACKET: u16 = 2;
    /// So many packets have been used that were to be told of. First word: how many.
    pub(super) const USED: u16 = 3;
    /// These bits say which.
    pub(super) const BITS: u16 = 0xff;
    /// The message has a tag.
    pub(super) const TAGGED: u16 = 1 << 8;
    /// The message has data for its completion.
    pub(super) const WITH_DATA: u16 = 1 << 9;
    /// The sender wants to be told when the packet has been used.
    pub(super) const TELL: u16 = 1 << 8;
}

/// How the endpoint at an address is reached.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Nothing has been sent to it yet.
    Undecided,
    /// Through the ring to it.
    There(PeerId),
    /// It was, and has ended.
    Gone,
    /// Through the adapter, because of this.
    Elsewhere(Reason),
}

/// A port of this machine, with the endpoints on it.
#[derive(Debug)]
struct Port {
    lid: Lid,
    /// By receive context.
    ways: Vec<Way>,
}

/// Packets to a peer.
#[derive(Debug, Default)]
struct Line {
    /// Those that found no room in its ring.
    waiting: VecDeque<SlotId>,
    /// Those of which the peer has still to tell that it has used them, in their order.
    untold: VecDeque<SlotId>,
}

/// What is to be done with the node when it is there.
#[derive(Debug)]
enum Todo {
    /// A peer has connected: who is it?
    Meet(PeerId),
    /// Fetch a message for what is in the table of incoming ones.
    Pull(opx_shm::Offered, Handle),
    /// Nobody wants it.
    Decline(opx_shm::Offered),
}

/// The endpoint's part in the shared memory.
#[derive(Debug)]
pub(super) struct Local {
    /// Away while it is polled.
    node: Option<Box<Node>>,
    me: Address,
    names: Names,
    ports: Vec<Port>,
    addresses: HashMap<PeerId, Address>,
    /// Who was heard of last.
    last: Option<(PeerId, Address)>,
    /// To whom something was sent last, through the ring to it.
    last_to: Option<(Address, PeerId)>,
    /// Polls before everything is looked after although only messages come.
    turns: u32,
    lines: HashMap<Address, Line>,
    /// Packets of all lines that wait.
    waiting: usize,
    crowded: Crowded,
    /// Packets that are in their peer's hands, or that never will be.
    released: VecDeque<(SlotId, bool)>,
    /// Peers who are to be told how many of their packets were used.
    used: Vec<(PeerId, u64)>,
    /// Messages whose memory is offered, and whether the memory has moved there.
    offers: HashMap<OfferId, (Handle, bool)>,
    /// Messages that are being fetched, and whether the receive's memory has moved there.
    pulls: HashMap<PullId, (Handle, bool)>,
    todo: VecDeque<Todo>,
    /// Why its owner ends all transfers.
    ending: Option<OperationError>,
    /// Becomes readable when there is something to do, after `arm`.
    irq: Irq,
    /// Bytes of a packet or a message on its way from or to memory that isn't the process's own.
    scratch: Vec<u8>,
}

impl Local {
    /// Takes part in it, if that is wanted.
    pub(super) fn open(config: &SharedMemory, key: JobKey, me: Address) -> Result<Option<Box<Self>>, OpenError> {
        let Some(job) = config.job.as_ref().filter(|_| config.enabled) else { return Ok(None) };
        if !SharedMemory::is_job(job) {
            return Err(OpenError::Job(job.clone()));
        }
        if config.lids.len() >= MOST_PORTS {
            let (value, must) = (config.lids.len() as u64, "at most 15 LIDs");
            return Err(OpenError::Setting { name: "shared_memory.lids", value, must });
        }
        let names = Names::new(job, key);
        let node = Node::open(&names.of(me), opx_shm::Config::default()).map_err(OpenError::SharedMemory)?;
        let fd = node.fd().as_fd().try_clone_to_owned();
        let irq = fd.and_then(|fd| Irq::any_of(&[Irq::from(fd)]));
        let irq = irq.map_err(|source| OpenError::System { what: "make a descriptor", source })?;
        let mut lids = vec![me.lid];
        for lid in &config.lids {
            if !lids.contains(lid) {
                lids.push(*lid);
            }
        }
        let ports = lids.into_iter().map(|lid| Port { lid, ways: vec![Way::Undecided; CONTEXTS] }).collect();
        Ok(Some(Box::new(Self {
            node: Some(Box::new(node)),
            me,
            names,
            ports,
            addresses: HashMap::new(),
            last: None,
            last_to: None,
            turns: 0,
            lines: HashMap::new(),
            waiting: 0,
            crowded: Crowded::new(),
            released: VecDeque::new(),
            used: Vec::new(),
            offers: HashMap::new(),
            pulls: HashMap::new(),
            todo: VecDeque::new(),
            ending: None,
            irq,
            scratch: Vec::new(),
        })))
    }

    /// `None` for an address at none of this machine's ports.
    fn way_mut(&mut self, to: Address) -> Option<&mut Way> {
        // It may be another one from now on.
        self.last_to = None;
        let port = self.ports.iter_mut().find(|port| port.lid == to.lid)?;
        port.ways.get_mut(usize::from(to.rx))
    }

    fn way(&self, to: Address) -> Option<Way> {
        way(&self.ports, to)
    }

    /// The peer at an address, if it is reached through the memory; decides it for one to whom nothing was sent before.
    #[inline]
    pub(super) fn peer(&mut self, to: Address) -> Result<Option<PeerId>, SendError> {
        if let Some((address, peer)) = self.last_to
            && address == to
        {
            return Ok(Some(peer));
        }
        self.find_peer(to)
    }

    #[inline(never)]
    fn find_peer(&mut self, to: Address) -> Result<Option<PeerId>, SendError> {
        match self.way(to) {
            Some(Way::There(peer)) => {
                self.last_to = Some((to, peer));
                Ok(Some(peer))
            }
            None | Some(Way::Elsewhere(_)) => Ok(None),
            Some(Way::Undecided | Way::Gone) => self.decide(to),
        }
    }

    /// Whether it was decided that an address is reached through the memory.
    pub(super) fn is_there(&self, to: Address) -> bool {
        matches!(self.way(to), Some(Way::There(_)))
    }

    #[cold]
    fn decide(&mut self, to: Address) -> Result<Option<PeerId>, SendError> {
        // It was there, so it isn't looked for elsewhere.
        let was_there = matches!(self.way(to), Some(Way::Gone));
        // While it is polled only answers are sent, and those can wait.
        let Some(node) = &mut self.node else { return Err(SendError::Again(to)) };
        let name = self.names.of(to);
        let why = match node.connect(&name) {
            Ok(peer) => {
                self.addresses.insert(peer, to);
                self.set_way(to, Way::There(peer));
                return Ok(Some(peer));
            }
            Err(ConnectError::Again(_)) => {
                self.crowded.add(to);
                return Err(SendError::Again(to));
            }
            Err(ConnectError::Forked(_)) => return Err(SendError::Forked),
            Err(_) if was_there => return Err(SendError::Unreachable(to)),
            Err(ConnectError::NoSuchPeer(_)) => Reason::NoNode,
            Err(ConnectError::NotTrusted { .. }) => Reason::OtherUser,
            Err(why) => {
                log::warn!("{}: {to} is reached through the adapter: {why}", self.me);
                Reason::NotConnected
            }
        };
        self.set_way(to, Way::Elsewhere(why));
        Ok(None)
    }

    fn set_way(&mut self, to: Address, way: Way) {
        if let Some(place) = self.way_mut(to) {
            *place = way;
        }
    }

    /// Why a message to an address wouldn't go through the memory.
    pub(super) fn obstacle(&self, to: Address) -> Option<Reason> {
        match self.way(to) {
            None => Some(Reason::OtherNode),
            Some(Way::There(_)) => None,
            Some(Way::Elsewhere(why)) => Some(why),
            Some(way @ (Way::Undecided | Way::Gone)) => {
                let node = self.node.as_ref()?;
                let why = if matches!(way, Way::Gone) { Reason::Ended } else { Reason::NoNode };
                (!node.is_there(&self.names.of(to))).then_some(why)
            }
        }
    }

    /// The address of a peer that has been met.
    #[inline]
    fn address_of(&mut self, peer: PeerId) -> Option<Address> {
        if let Some((last, address)) = self.last
            && last == peer
        {
            return Some(address);
        }
        let address = *self.addresses.get(&peer)?;
        self.last = Some((peer, address));
        Some(address)
    }

    /// Whether packets to an address wait for room, so that nothing may be sent before them.
    #[inline]
    fn is_in_line(&self, to: Address) -> bool {
        self.waiting > 0 && self.lines.get(&to).is_some_and(|line| !line.waiting.is_empty())
    }

    /// When peers that took no more connections are tried again.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.crowded.time()
    }

    /// What becomes readable when there is something to do, after the endpoint was armed.
    pub(super) fn irq(&self) -> &Irq {
        &self.irq
    }

    /// Packets that wait for room.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// What the node has counted.
    pub(super) fn counters(&self) -> opx_shm::Counters {
        self.node.as_ref().map(|node| node.counters()).unwrap_or_default()
    }
}

/// What is between here and an address; of one that hasn't been reached yet, what there will be.
pub(super) fn medium(local: Option<&Local>, to: Address) -> Medium {
    match local {
        Some(local) if local.obstacle(to).is_none() => Medium::Memory,
        _ => Medium::Adapter,
    }
}

/// `None` for an address at none of these ports.
fn way(ports: &[Port], to: Address) -> Option<Way> {
    let port = ports.iter().find(|port| port.lid == to.lid)?;
    port.ways.get(usize::from(to.rx)).copied()
}
