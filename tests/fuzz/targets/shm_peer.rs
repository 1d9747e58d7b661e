//! A peer of the shared memory that writes anything anywhere into the segment, at any time, and says anything on its socket:
//! never a panic, no poll without end, nothing is written outside of a buffer that was given for it, every transfer is
//! told about once, and an honest peer of the same node gets its messages across.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_bus::SharedMem;
use opx_shm::{Config, Event, Header, Large, Node, Offered, PeerId, SendError, Sink, Source};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, recv, send, sendmsg, socket_with,
};
use std::cell::Cell;
use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

const MOST_STEPS: usize = 200;
const RING: usize = 4096;
const SLOTS: usize = RING / 256;
const CONTROL: usize = 4096;
/// More events than two full rings hold aren't told by one poll.
const MOST_EVENTS: usize = 4 * SLOTS;
/// What a buffer holds that wasn't written.
const UNTOUCHED: u8 = 0xee;
const SECRET: u8 = 0x5e;

#[derive(Debug, Arbitrary)]
enum Step {
    /// Anything, anywhere.
    Scribble {
        word: u16,
        value: u64,
    },
    /// The word that a message begins with, in a ring to the node: likely classes, kinds and lengths.
    Message {
        slot: Option<u8>,
        class: u8,
        kind: u8,
        len: u16,
        words: [u64; 2],
        payload: [u64; 3],
    },
    /// What the receiver of the node's messages says.
    Given {
        back: u8,
        bytes: u16,
        state: u8,
    },
    /// The sender's wish for room.
    Want(u8),
    /// A record on the socket.
    Say(Vec<u8>),
    Ring,
    Hang,
    Poll,
    Arm,
    Send {
        len: u16,
    },
    Offer {
        len: u16,
    },
    /// Of what was offered by the hostile one.
    Pull {
        which: u8,
        room: u16,
    },
    Decline {
        which: u8,
    },
    /// The honest peer says something.
    Honest,
}

#[derive(Debug, Arbitrary)]
struct Input {
    /// Through the ring, or as the node likes.
    ring: bool,
    /// The first record, if it isn't a proper one.
    hello: Option<Vec<u8>>,
    ring_bytes: Option<u32>,
    steps: Vec<Step>,
}

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// The hostile one's end.
struct Hostile {
    memory: SharedMem,
    socket: Option<OwnedFd>,
    /// Where its next message begins.
    slot: usize,
}

impl Hostile {
    fn new(node: &str, input: &Input) -> Self {
        let len = CONTROL + 2 * (SLOTS * 64 + RING);
        let fd = memfd_create("hostile", MemfdFlags::ALLOW_SEALING).expect("a memfd");
        ftruncate(&fd, len as u64).expect("a length");
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW).expect("seals");
        let memory = SharedMem::map(&File::from(fd.try_clone().expect("a copy")), 0, len).expect("a mapping");
        let flags = SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket");
        let address = SocketAddrUnix::new_abstract_name(format!("opx-shm/{node}").as_bytes()).expect("an address");
        connect(&socket, &address).expect("the node listens");
        let hello = input.hello.clone().unwrap_or_else(|| {
            let mut hello = vec![b'H', 1, 0, 0];
            hello.extend_from_slice(&input.ring_bytes.unwrap_or(RING as u32).to_le_bytes());
            for word in [0x6f70_7873_686d_0003u64, 8, 8] {
                hello.extend_from_slice(&word.to_le_bytes());
            }
            hello.extend_from_slice(b"hostile");
            hello
        });
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let files = [fd.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        let _ = sendmsg(&socket, &[IoSlice::new(&hello)], &mut ancillary, SendFlags::NOSIGNAL);
        Self { memory, socket: Some(socket), slot: 0 }
    }

    fn say(&self, record: &[u8]) {
        if let Some(socket) = &self.socket {
            let _ = recv(socket, &mut [0u8; 64], RecvFlags::DONTWAIT);
            let _ = send(socket, record, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }
}

/// What the node's user has.
#[derive(Default)]
struct User {
    hostile: Option<PeerId>,
    offered: Vec<Offered>,
    pulls: usize,
    offers: usize,
    honest: u64,
}

impl User {
    fn poll(&mut self, node: &mut Node, honest: &str) {
        let (mut events, mut new) = (0, None);
        let Self { offered, pulls, offers, .. } = self;
        let mut honest_peers = Vec::new();
        node.poll(|event| {
            events += 1;
            match event {
                Event::Message(message) => {
                    let mut bytes = vec![UNTOUCHED; message.len() + 8];
                    assert_eq!(message.read(0, &mut bytes), message.len());
                    assert!(bytes[message.len()..].iter().all(|byte| *byte == UNTOUCHED));
                    if message.header.kind == 777 {
                        honest_peers.push((message.peer, message.header.words[0], bytes.starts_with(b"honest")));
                    }
                }
                Event::Offer { offered: more, .. } if offered.len() < 50 => offered.push(more),
                Event::Pulled { sink, result, .. } => {
                    *pulls -= 1;
                    let bytes = sink.into_vec().expect("a buffer");
                    if let Ok(len) = result {
                        assert!(len <= bytes.len() && bytes[len..].iter().all(|byte| *byte == UNTOUCHED));
                    }
                }
                Event::Released { source, .. } => {
                    *offers -= 1;
                    drop(source);
                }
                Event::Connected(peer) => new = Some(peer),
                _ => {}
            }
        })
        .expect("polls");
        assert!(events <= MOST_EVENTS, "{events} events in one poll");
        if let Some(peer) = new.filter(|peer| node.peer_name(*peer) != Some(honest)) {
            self.hostile = Some(peer);
        }
        for (_, number, whole) in honest_peers.iter().filter(|(peer, ..)| node.peer_name(*peer) == Some(honest)) {
            assert_eq!((*number, *whole), (self.honest, true), "the honest peer's messages come whole and in order");
            self.honest += 1;
        }
    }
}

fuzz_target!(|input: Input| {
    let number = NUMBER.get();
    NUMBER.set(number + 1);
    let config = Config {
        ring_bytes: RING as u32,
        large: if input.ring { Large::Ring } else { Large::Measured },
        ..Config::default()
    };
    let names = ["victim", "honest"].map(|name| format!("fuzz-{name}-{}-{number}", std::process::id()));
    let mut node = Node::open(&names[0], config.clone()).expect("a node");
    let mut honest = Node::open(&names[1], config).expect("a node");
    let to_node = honest.connect(&names[0]).expect("the node listens");
    let mut user = User::default();
    user.poll(&mut node, &names[1]);
    let mut hostile = Hostile::new(&names[0], &input);
    let mut said = 0;
    // What it introduces itself by is heard when the node looks.
    let _ = node.arm();
    user.poll(&mut node, &names[1]);
    assert!(user.hostile.is_some() || input.hello.is_some() || input.ring_bytes.is_some(), "a proper one is known");
    for step in input.steps.iter().take(MOST_STEPS) {
        match step {
            Step::Scribble { word, value } => {
                hostile.memory.write_u64(usize::from(*word) * 8 % hostile.memory.len(), *value);
            }
            Step::Message { slot, class, kind, len, words, payload } => {
                let slot = slot.map_or(hostile.slot, usize::from);
                let at = CONTROL + slot % SLOTS * 64;
                // Which round of the ring it belongs to.
                let round = u64::from(slot / SLOTS % 2 == 0) << 63;
                for (i, word) in words.iter().chain(payload).enumerate() {
                    hostile.memory.write_u64(at + 8 + i * 8, *word);
                }
                let class = if *class < 0xf0 { class % 6 } else { *class };
                let header = u64::from(class) << 48 | u64::from(*kind) << 32 | u64::from(*len % 1100);
                hostile.memory.write_u64(at, header ^ round);
                // A payload that goes on there takes the next slot as well.
                hostile.slot = slot + if (41..=96).contains(&(len % 1100)) { 2 } else { 1 };
            }
            Step::Given { back, bytes, state } => {
                hostile.memory.write_u64(256 + 128 + 16, u64::from(*bytes));
                hostile.memory.write_u64(256 + 128, u64::from(*state) << 32 | u64::from(*back));
            }
            Step::Want(word) => hostile.memory.write_u64(0, u64::from(*word)),
            Step::Say(record) => hostile.say(record),
            Step::Ring => hostile.say(b"D"),
            Step::Hang => hostile.socket = None,
            Step::Poll => user.poll(&mut node, &names[1]),
            Step::Arm => drop(node.arm()),
            Step::Send { len } => {
                if let Some(peer) = user.hostile {
                    let _ = node.try_send(peer, Header::default(), &[&vec![SECRET; usize::from(*len)]]);
                }
            }
            Step::Offer { len } => {
                if let Some(peer) = user.hostile.filter(|_| user.offers < 50) {
                    let offer = node.offer(peer, Header::default(), Source::from(vec![SECRET; usize::from(*len)]));
                    user.offers += usize::from(offer.is_ok());
                }
            }
            Step::Pull { which, room } => {
                if !user.offered.is_empty() {
                    let offered = user.offered.swap_remove(usize::from(*which) % user.offered.len());
                    node.pull(offered, Sink::from(vec![UNTOUCHED; usize::from(*room)]));
                    user.pulls += 1;
                }
            }
            Step::Decline { which } => {
                if !user.offered.is_empty() {
                    node.decline(user.offered.swap_remove(usize::from(*which) % user.offered.len()));
                }
            }
            Step::Honest => match honest.try_send(to_node, Header { kind: 777, words: [said, 0] }, &[b"honest"]) {
                Ok(()) => said += 1,
                Err(why) => assert_eq!(why, SendError::Again),
            },
        }
    }
    hostile.socket = None;
    for _ in 0..40 {
        let _ = node.arm();
        user.poll(&mut node, &names[1]);
    }
    assert_eq!(user.honest, said, "the honest peer's messages");
    assert_eq!((user.pulls, user.offers), (0, 0), "every transfer ends with its peer");
});
