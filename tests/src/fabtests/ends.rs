//! The endpoints of a scenario, driven together, and their completions.

use super::Setting;
use opx_bus::{Chance, PciFunction, SharedMem};
use opx_hw::Hfi;
use opx_stack::regions::{Access, MemoryRegion, Registration};
use opx_stack::{
    Address, Atomic, Completion, Config, Counters, Endpoint, Outgoing, Pattern, Read, Rejected, Remote, RequestError,
    SendError, Write,
};
use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::time::Duration;

/// How long anything may take, by the bus' clock: nothing takes a hundredth of it on a machine with nothing else to do.
pub const LIMIT: Duration = Duration::from_secs(300);

/// A length for each protocol and around the borders between them: injected, eager, several packets, rendezvous by PIO and by SDMA.
pub const LENGTHS: [usize; 12] = [0, 1, 16, 17, 64, 1024, 8192, 8193, 16_384, 16_385, 65_536, 200_001];

/// Bytes that tell their seed.
pub fn data(seed: u64, len: usize) -> Vec<u8> {
    let mut chance = Chance::new(seed + 1);
    (0..len).map(|_| chance.below(256) as u8).collect()
}

/// Some endpoints of one adapter.
pub struct Ends<B: PciFunction> {
    pub hfi: Hfi<B>,
    all: Vec<Endpoint<B>>,
    /// What has completed at each and wasn't looked at.
    done: Vec<VecDeque<Completion>>,
    /// What those had counted that were closed.
    closed: Vec<Counters>,
    change: Box<dyn Fn(Config) -> Config>,
    setting: Setting<B>,
}

impl<B: PciFunction> Index<usize> for Ends<B> {
    type Output = Endpoint<B>;

    fn index(&self, end: usize) -> &Endpoint<B> {
        &self.all[end]
    }
}

impl<B: PciFunction> IndexMut<usize> for Ends<B> {
    fn index_mut(&mut self, end: usize) -> &mut Endpoint<B> {
        &mut self.all[end]
    }
}

impl<B: PciFunction> Ends<B> {
    /// So many of them.
    pub fn open(setting: Setting<B>, count: usize) -> Self {
        Self::open_with(setting, count, |config| config)
    }

    /// So many of them, with settings of their own.
    pub fn open_with(setting: Setting<B>, count: usize, change: impl Fn(Config) -> Config + 'static) -> Self {
        let (hfi, change) = (setting.rig.bring_up(), Box::new(change));
        let mut ends = Self { hfi, all: Vec::new(), done: Vec::new(), closed: Vec::new(), change, setting };
        (0..count).for_each(|_| ends.add());
        ends
    }

    /// One more.
    pub fn add(&mut self) {
        let config = (self.change)(self.setting.config(self.all.len()));
        self.all.push(Endpoint::open(&self.hfi, config).unwrap());
        self.done.push(VecDeque::new());
    }

    /// Closes the last one.
    pub fn close_last(&mut self) {
        assert_eq!(self.done.pop(), Some(VecDeque::new()), "nothing has completed that wasn't looked at");
        self.closed.extend(self.all.pop().map(|end| end.counters()));
    }

    pub fn address(&self, end: usize) -> Address {
        self.all[end].address()
    }

    /// Moves everything on.
    pub fn turn(&mut self) {
        let mut busy = false;
        for (end, done) in self.all.iter_mut().zip(&mut self.done) {
            busy |= end.progress().unwrap();
            done.extend(std::iter::from_fn(|| end.poll_completion()));
        }
        if !busy {
            self.hfi.bus().relax();
        }
    }

    /// Moves everything on until it is so.
    pub fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let start = self.hfi.bus().now();
        while !so(self) {
            let counters = || self.all.iter().map(Endpoint::counters).collect::<Vec<_>>();
            assert!(self.hfi.bus().now().since(start) < LIMIT, "{what}: {:?} {:#?}", self.done, counters());
            self.turn();
        }
    }

    /// The next completion of an endpoint's, if there is one by now.
    pub fn poll(&mut self, end: usize) -> Option<Completion> {
        self.done[end].pop_front()
    }

    /// The next completion of an endpoint's.
    pub fn next(&mut self, end: usize) -> Completion {
        self.until(&format!("the next completion at end {end}"), |ends| !ends.done[end].is_empty());
        self.poll(end).unwrap()
    }

    /// The next completion of an endpoint's, which is that of a receive: its context, and all else of the message.
    pub fn received(&mut self, end: usize) -> (u64, Message) {
        match self.next(end) {
            Completion::Received { context, tag, data, source, len, buffer } => {
                (context, Message { tag, data, source, bytes: buffer.bytes()[..len].to_vec() })
            }
            other => panic!("{other:?} at end {end}"),
        }
    }

    /// The next completion of an endpoint's, which is that of a send: its context.
    pub fn sent(&mut self, end: usize) -> u64 {
        match self.next(end) {
            Completion::Sent { context, .. } => context,
            other => panic!("{other:?} at end {end}"),
        }
    }

    /// Until all that was sent has been acknowledged; nothing else has completed.
    pub fn quiet(&mut self) {
        self.until("quiet", |ends| ends.all.iter().all(Endpoint::is_quiet));
        assert!(self.done.iter().all(VecDeque::is_empty), "{:?}", self.done);
    }

    /// Sends as soon as there is room.
    pub fn send(&mut self, from: usize, message: Outgoing) {
        self.until("room for a message", |ends| match ends[from].send_message(message.clone()) {
            Ok(()) => true,
            Err(Rejected { error: SendError::Again(_), .. }) => false,
            Err(Rejected { error, .. }) => panic!("{error}"),
        });
    }

    /// Injects as soon as there is room.
    pub fn inject(&mut self, from: usize, to: Address, tag: Option<u64>, told: Option<u32>, bytes: &[u8]) {
        self.until("room for an injected message", |ends| match ends[from].inject_message(to, tag, told, bytes) {
            Ok(()) => true,
            Err(SendError::Again(_)) => false,
            Err(error) => panic!("{error}"),
        });
    }

    /// Posts a receive for a message with this tag, or one without.
    pub fn receive(&mut self, end: usize, tag: Option<u64>, room: usize, context: u64) {
        match tag {
            Some(tag) => self[end].tag_receive(Pattern::exact(tag), vec![0; room], context),
            None => self[end].receive(None, vec![0; room], context),
        }
        .unwrap();
    }

    /// A message from one to another, which has posted a receive for it: it arrives whole, and both are told once.
    pub fn pass(&mut self, from: usize, to: usize, tag: Option<u64>, len: usize) {
        let (bytes, context) = (data(len as u64, len), 1000 + len as u64);
        self.receive(to, tag, len, context);
        self.send(from, Outgoing { tag, ..Outgoing::new(self.address(to), bytes.clone(), context) });
        let message = Message { tag, data: None, source: self.address(from), bytes };
        assert_eq!(self.received(to), (context, message));
        assert_eq!(self.sent(from), context);
    }

    /// Has a write, a read or an atomic operation accepted as soon as there is room.
    fn ask(&mut self, from: usize, mut ask: impl FnMut(&mut Endpoint<B>) -> Result<(), Rejected<RequestError>>) {
        self.until("room for a request", |ends| match ask(&mut ends[from]) {
            Ok(()) => true,
            Err(Rejected { error: RequestError::Send(SendError::Again(_)), .. }) => false,
            Err(Rejected { error, .. }) => panic!("{error}"),
        });
    }

    pub fn write(&mut self, from: usize, write: &Write) {
        self.ask(from, |end| end.write_with(write.clone()));
    }

    pub fn read(&mut self, from: usize, read: &Read) {
        self.ask(from, |end| end.read_with(read.clone()));
    }

    pub fn atomic(&mut self, from: usize, atomic: &Atomic) {
        self.ask(from, |end| end.atomic(atomic.clone()));
    }

    /// Memory of an endpoint's that its peers may use.
    pub fn window(&self, end: usize, len: usize, access: Access) -> Window {
        let region = self[end].regions().register(Registration::of(SharedMem::new(len).unwrap(), access)).unwrap();
        let remote = Remote { peer: self.address(end), key: region.key(), place: 0 };
        Window { region, remote }
    }
}

impl<B: PciFunction> Drop for Ends<B> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.closed.extend(self.all.iter().map(Endpoint::counters));
            self.setting.judge(&self.closed);
        }
    }
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: Option<u64>,
    pub data: Option<u32>,
    pub source: Address,
    pub bytes: Vec<u8>,
}

/// Memory that peers may use.
pub struct Window {
    pub region: MemoryRegion,
    pub remote: Remote,
}

impl Window {
    pub fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.region.memory().read(at, &mut bytes);
        bytes
    }

    pub fn at(&self, place: usize) -> Remote {
        Remote { place: place as u64, ..self.remote }
    }
}
