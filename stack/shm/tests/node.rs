//! Two nodes of one process: messages, offers, connections, and their ends.

use opx_bus::SharedMem;
use opx_shm::{
    Config, ConnectError, Event, Header, Large, Node, NotTaken, Offered, OpenError, PeerGone, PeerId, PullError,
    Refusal, SendError, Sink, Source, Taken,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static NUMBER: AtomicUsize = AtomicUsize::new(0);

fn open_with(config: Config) -> Node {
    let name = format!("node-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    Node::open(&name, config).unwrap()
}

fn pair_with(config: Config) -> (Node, Node, PeerId) {
    let (mut one, other) = (open_with(config.clone()), open_with(config));
    let peer = one.connect(other.name()).unwrap();
    (one, other, peer)
}

fn pair() -> (Node, Node, PeerId) {
    pair_with(Config::default())
}

/// What a node heard, to keep.
#[derive(Debug, Default)]
struct Heard {
    messages: Vec<(PeerId, Header, Vec<u8>)>,
    offers: Vec<(PeerId, Header, Offered)>,
    connected: Vec<PeerId>,
    pulled: Vec<(Vec<u8>, Result<usize, PullError>)>,
    released: Vec<Result<(), NotTaken>>,
    gone: Vec<(PeerId, PeerGone)>,
}

impl Heard {
    fn poll(&mut self, node: &mut Node) {
        node.poll(|event| match event {
            Event::Message(message) => self.messages.push((message.peer, message.header, message.to_vec())),
            Event::Offer { peer, header, offered, .. } => self.offers.push((peer, header, offered)),
            Event::Connected(peer) => self.connected.push(peer),
            Event::Pulled { sink, result, .. } => self.pulled.push((sink.into_vec().unwrap(), result)),
            Event::Released { result, .. } => self.released.push(result),
            Event::Gone { peer, reason } => self.gone.push((peer, reason)),
            other => panic!("{other:?}"),
        })
        .unwrap();
    }

    fn until(&mut self, node: &mut Node, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            assert!(node.wait(Some(Duration::from_secs(20))).unwrap(), "nothing comes: {self:?}");
            self.poll(node);
        }
    }
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + seed) as u8).collect()
}

#[test]
fn messages_of_every_length_arrive_in_order_both_ways() {
    let (mut one, mut other, peer) = pair();
    let (mut here, mut there) = (Heard::default(), Heard::default());
    there.until(&mut other, |heard| heard.connected.len() == 1);
    let back = there.connected[0];
    assert_eq!(other.peer_name(back), Some(one.name()));
    let longest = one.longest(peer).unwrap();
    let lengths = (0..300).chain([1000, 1024, 4096, 8192, longest - 1, longest]);
    let mut sent = 0;
    for len in lengths {
        let header = Header { kind: len as u16, words: [len as u64, !0] };
        let payload = bytes(len, sent);
        let (first, second) = payload.split_at(len / 3);
        loop {
            match (one.try_send(peer, header, &[first, second]), other.try_send(back, header, &[&payload])) {
                (Ok(()), Ok(())) => break,
                (a, b) => assert!(a == b && a == Err(SendError::Again), "{a:?} {b:?}"),
            }
            here.poll(&mut one);
            there.poll(&mut other);
        }
        sent += 1;
    }
    here.until(&mut one, |heard| heard.messages.len() == sent);
    there.until(&mut other, |heard| heard.messages.len() == sent);
    for (from, messages) in [(peer, here.messages), (back, there.messages)] {
        for (i, (by, header, payload)) in messages.into_iter().enumerate() {
            assert_eq!((by, header.words), (from, [payload.len() as u64, !0]));
            assert_eq!(payload, bytes(payload.len(), i));
        }
    }
    assert_eq!(
        one.try_send(peer, Header::default(), &[&vec![0; longest], b"x"]),
        Err(SendError::TooLong { len: longest + 1, longest })
    );
}

#[test]
fn two_threads_that_sleep_between_messages_wake_each_other() {
    let (mut one, mut other, peer) = pair();
    const ROUNDS: u64 = 3000;
    let echo = std::thread::spawn(move || {
        let (mut heard, mut echoed) = (Heard::default(), 0);
        while echoed < ROUNDS {
            heard.until(&mut other, |heard| !heard.messages.is_empty());
            for (peer, header, payload) in heard.messages.drain(..) {
                other.try_send(peer, header, &[&payload]).unwrap();
                echoed += 1;
            }
        }
        other
    });
    let mut heard = Heard::default();
    for round in 0..ROUNDS {
        one.try_send(peer, Header { kind: 1, words: [round, 0] }, &[]).unwrap();
        heard.until(&mut one, |heard| !heard.messages.is_empty());
        let (_, header, _) = heard.messages.pop().unwrap();
        assert_eq!(header.words[0], round);
    }
    drop(echo.join().unwrap());
    heard.until(&mut one, |heard| !heard.gone.is_empty());
    assert_eq!(heard.gone, [(peer, PeerGone::Closed)]);
}

#[test]
fn a_sender_sleeps_until_there_is_room() {
    let (mut one, mut other, peer) = pair_with(Config { ring_bytes: 4096, ..Config::default() });
    const MESSAGES: u64 = 20_000;
    let reader = std::thread::spawn(move || {
        let mut heard = Heard::default();
        let mut next = 0;
        while next < MESSAGES {
            heard.until(&mut other, |heard| !heard.messages.is_empty());
            for (_, header, payload) in heard.messages.drain(..) {
                assert_eq!((header.words[0], payload.len() as u64), (next, next % 500));
                next += 1;
            }
        }
        other
    });
    let payload = bytes(500, 0);
    for round in 0..MESSAGES {
        while let Err(why) =
            one.try_send(peer, Header { kind: 0, words: [round, 0] }, &[&payload[..(round % 500) as usize]])
        {
            assert_eq!(why, SendError::Again);
            assert!(one.wait(Some(Duration::from_secs(20))).unwrap(), "no room comes");
            one.poll(|_| {}).unwrap();
        }
    }
    drop(reader.join().unwrap());
}

#[test]
fn who_sleeps_takes_no_processor_time() {
    let (mut one, mut other, peer) = pair();
    one.try_send(peer, Header::default(), &[b"x"]).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut other, |heard| heard.messages.len() == 1);
    // Whatever was still to come from connecting.
    while one.wait(Some(Duration::from_millis(1))).unwrap() {
        one.poll(|_| {}).unwrap();
    }
    while other.wait(Some(Duration::from_millis(1))).unwrap() {
        other.poll(|_| {}).unwrap();
    }
    let before = processor_time();
    assert!(!other.wait(Some(Duration::from_millis(500))).unwrap());
    assert!(processor_time() - before < Duration::from_millis(100), "{:?}", processor_time() - before);
}

fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn pull_all(large: Large, len: usize, room: usize) -> (Node, Node) {
    let (mut one, mut other, peer) = pair_with(Config { large, ..Config::default() });
    let memory = Arc::new(bytes(len, 9));
    let (mut here, mut there) = (Heard::default(), Heard::default());
    let header = Header { kind: 3, words: [4, 5] };
    one.try_send(peer, header, &[b"first"]).unwrap();
    one.offer(peer, header, Source::shared(Arc::clone(&memory))).unwrap();
    one.try_send(peer, header, &[b"last"]).unwrap();
    there.until(&mut other, |heard| heard.messages.len() == 2);
    let (by, said, offered) = there.offers.pop().unwrap();
    assert_eq!((said, offered.len(), there.messages[0].0), (header, len as u64, by));
    other.pull(offered, Sink::from(vec![0xee; room]));
    while there.pulled.is_empty() || here.released.is_empty() {
        here.poll(&mut one);
        there.poll(&mut other);
    }
    let (data, result) = there.pulled.pop().unwrap();
    let wanted = len.min(room);
    assert_eq!(result, Ok(wanted));
    assert_eq!(data[..wanted], memory[..wanted]);
    assert!(data[wanted..].iter().all(|byte| *byte == 0xee));
    assert_eq!(here.released, [Ok(())]);
    assert_eq!(Arc::strong_count(&memory), 1);
    (one, other)
}

#[test]
fn offered_memory_is_fetched_either_way() {
    for (len, room) in
        [(0, 10), (1, 1), (10, 0), (8192, 8192), (100_000, 100_001), (3_000_001, 3_000_001), (50_000, 20_001)]
    {
        for large in [Large::Ring, Large::Kernel, Large::Measured] {
            let (_, other) = pull_all(large, len, room);
            let counters = other.counters();
            assert_eq!((counters.ring_pulls + counters.kernel_pulls, counters.strays), (1, 0), "{large:?} {len}");
        }
    }
}

#[test]
fn memory_that_anybody_may_touch_is_offered_and_fetched_as_it_lies() {
    for (len, room) in [(0, 1), (1, 1), (8192, 8192), (100_000, 100_001), (1_000_001, 1_000_001), (50_000, 20_001)] {
        for large in [Large::Ring, Large::Kernel, Large::Measured] {
            let (mut one, mut other, peer) = pair_with(Config { large, ..Config::default() });
            let (from, to) = (SharedMem::new(len + 13).unwrap(), SharedMem::new(room + 9).unwrap());
            from.write(13, &bytes(len, 3));
            to.write(0, &vec![0xee; room + 9]);
            assert!(Source::mapped(from.clone(), from.len(), 1).is_none());
            one.offer(peer, Header::default(), Source::mapped(from, 13, len).unwrap()).unwrap();
            let (mut sink, mut pulled, mut released) = (Sink::mapped(to.clone(), 5, room), None, false);
            while pulled.is_none() || !released {
                one.poll(|event| released |= matches!(event, Event::Released { result: Ok(()), .. })).unwrap();
                let mut offer = None;
                other
                    .poll(|event| match event {
                        Event::Offer { offered, .. } => offer = Some(offered),
                        Event::Pulled { result, sink, .. } => pulled = Some((result, sink.len())),
                        _ => {}
                    })
                    .unwrap();
                if let Some(offered) = offer {
                    other.pull(offered, sink.take().unwrap());
                }
            }
            let wanted = len.min(room);
            assert_eq!(pulled, Some((Ok(wanted), room)), "{large:?} {len}");
            let mut all = vec![0; room + 9];
            to.read(0, &mut all);
            let (before, rest) = all.split_at(5);
            let (data, after) = rest.split_at(wanted);
            assert!(data == &bytes(len, 3)[..wanted], "{large:?} {len}");
            assert!(before.iter().chain(after).all(|byte| *byte == 0xee), "{large:?} {len}");
        }
    }
}

#[test]
fn the_kernel_copies_where_it_may() {
    // Both nodes are in one process, which may always read itself.
    let (_, other) = pull_all(Large::Kernel, 100_000, 100_000);
    assert_eq!((other.counters().kernel_pulls, other.counters().kernel_refusals), (1, 0));
    let (_, other) = pull_all(Large::Ring, 100_000, 100_000);
    assert_eq!(other.counters().kernel_pulls, 0);
}

#[test]
fn a_declined_offer_is_released() {
    let (mut one, mut other, peer) = pair();
    let (mut here, mut there) = (Heard::default(), Heard::default());
    one.offer(peer, Header::default(), Source::from(vec![1; 100])).unwrap();
    there.until(&mut other, |heard| heard.offers.len() == 1);
    other.decline(there.offers.pop().unwrap().2);
    here.until(&mut one, |heard| !heard.released.is_empty());
    assert_eq!(here.released, [Err(NotTaken::Declined)]);
}

#[test]
fn what_was_sent_before_the_end_arrives_and_the_rest_is_told() {
    let (mut one, mut other, peer) = pair();
    let mut there = Heard::default();
    other.poll(|_| {}).unwrap();
    one.try_send(peer, Header::default(), &[b"last words"]).unwrap();
    one.offer(peer, Header::default(), Source::from(vec![1; 1 << 20])).unwrap();
    drop(one);
    there.until(&mut other, |heard| !heard.offers.is_empty());
    let (by, _, offered) = there.offers.pop().unwrap();
    assert_eq!(there.messages.pop().unwrap().2, b"last words");
    other.pull(offered, Sink::from(vec![0; 10]));
    there.until(&mut other, |heard| !heard.gone.is_empty() && !heard.pulled.is_empty());
    assert_eq!(there.gone, [(by, PeerGone::Closed)]);
    assert_eq!(there.pulled.pop().unwrap().1, Err(PullError::Gone(PeerGone::Closed)));
    assert_eq!(other.try_send(by, Header::default(), &[]), Err(SendError::Gone(PeerGone::Unknown)));
    assert_eq!(other.longest(by), Err(PeerGone::Unknown));
}

#[test]
fn a_closed_peer_gives_back_what_was_offered() {
    let (mut one, mut other, peer) = pair();
    let (mut here, mut there) = (Heard::default(), Heard::default());
    one.offer(peer, Header::default(), Source::from(vec![1; 100])).unwrap();
    there.until(&mut other, |heard| heard.offers.len() == 1);
    one.close(peer);
    here.poll(&mut one);
    assert_eq!(here.released, [Err(NotTaken::Gone(PeerGone::Unknown))]);
    assert_eq!(here.gone, [(peer, PeerGone::Unknown)]);
    there.until(&mut other, |heard| heard.gone.len() == 1);
    // And they can meet again, as other peers.
    assert_ne!(one.connect(other.name()).unwrap(), peer);
}

#[test]
fn whether_a_peer_has_ended_is_known_before_it_is_told() {
    let (one, mut other, _) = pair();
    let mut there = Heard::default();
    there.until(&mut other, |heard| heard.connected.len() == 1);
    let by = there.connected[0];
    assert!(!other.has_ended(by));
    drop(one);
    assert!(other.has_ended(by) && there.gone.is_empty());
    there.until(&mut other, |heard| heard.gone.len() == 1);
    assert!(there.gone == [(by, PeerGone::Closed)] && other.has_ended(by));
}

#[test]
fn who_is_connected_isnt_connected_twice() {
    let (mut one, mut other, peer) = pair();
    let mut there = Heard::default();
    assert_eq!(one.connect(other.name()).unwrap(), peer);
    there.until(&mut other, |heard| heard.connected.len() == 1);
    assert_eq!(other.connect(one.name()).unwrap(), there.connected[0]);
    // Both at the same time: still one peer for each, and messages in order.
    let (mut one, mut other) = (open_with(Config::default()), open_with(Config::default()));
    let to_other = one.connect(other.name()).unwrap();
    let to_one = other.connect(one.name()).unwrap();
    let (mut here, mut there) = (Heard::default(), Heard::default());
    for i in 0..10 {
        one.try_send(to_other, Header { kind: i, words: [0; 2] }, &[]).unwrap();
        other.try_send(to_one, Header { kind: i, words: [0; 2] }, &[]).unwrap();
    }
    here.until(&mut one, |heard| heard.messages.len() == 10);
    there.until(&mut other, |heard| heard.messages.len() == 10);
    assert!(here.messages.iter().enumerate().all(|(i, m)| m.0 == to_other && m.1.kind == i as u16));
    assert!(there.messages.iter().enumerate().all(|(i, m)| m.0 == to_one && m.1.kind == i as u16));
    assert!(here.connected.is_empty() && there.connected.is_empty());
    drop(one);
    there.until(&mut other, |heard| !heard.gone.is_empty());
    assert_eq!(there.gone, [(to_one, PeerGone::Closed)]);
}

#[test]
fn what_was_sent_before_the_peer_listened_arrives() {
    let (mut one, mut other) = (open_with(Config::default()), open_with(Config::default()));
    let to = other.connect(one.name()).unwrap();
    for kind in 0..20 {
        other.try_send(to, Header { kind, words: [0; 2] }, &[&bytes(100, kind.into())]).unwrap();
    }
    drop(other);
    let mut here = Heard::default();
    here.until(&mut one, |heard| !heard.gone.is_empty());
    assert_eq!((here.connected.len(), here.gone[0]), (1, (here.connected[0], PeerGone::Closed)));
    assert!((0..).zip(&here.messages).all(|(kind, it)| it.1.kind == kind && it.2 == bytes(100, kind.into())));
    assert_eq!(here.messages.len(), 20);
}

/// A node of this process ends, and the next one takes its name, before its peer has heard of either.
#[test]
fn who_takes_a_name_after_another_is_another_peer() {
    let (mut one, first) = (open_with(Config::default()), open_with(Config::default()));
    let (mut here, name) = (Heard::default(), first.name().to_owned());
    let mut before: Option<PeerId> = None;
    let mut nodes = vec![first];
    for round in 0..5 {
        let other = nodes.last_mut().unwrap();
        let to = other.connect(one.name()).unwrap();
        other.try_send(to, Header { kind: round, words: [0; 2] }, &[b"here"]).unwrap();
        here.until(&mut one, |heard| heard.messages.len() == 1 + usize::from(round));
        let (peer, header, _) = here.messages[usize::from(round)];
        assert_eq!((header.kind, before == Some(peer)), (round, false));
        one.try_send(peer, Header { kind: round, words: [1; 2] }, &[b"seen"]).unwrap();
        let mut there = Heard::default();
        there.until(other, |heard| !heard.messages.is_empty());
        assert_eq!(there.messages[0].1, Header { kind: round, words: [1; 2] });
        before = Some(peer);
        drop(nodes.pop());
        nodes.push(Node::open(&name, Config::default()).unwrap());
    }
    here.until(&mut one, |heard| heard.gone.len() == 5);
    assert!(here.gone.iter().all(|(_, reason)| *reason == PeerGone::Closed), "{:?}", here.gone);
}

#[test]
fn a_node_talks_to_itself() {
    let mut one = open_with(Config::default());
    let name = one.name().to_owned();
    let peer = one.connect(&name).unwrap();
    one.try_send(peer, Header::default(), &[b"me"]).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut one, |heard| heard.messages.len() == 1);
    assert_eq!((heard.messages[0].0, &*heard.messages[0].2), (peer, &b"me"[..]));
}

#[test]
fn what_cant_be_opened_or_connected_says_why() {
    let mut one = open_with(Config::default());
    assert!(matches!(Node::open(one.name(), Config::default()), Err(OpenError::NameTaken(_))));
    assert!(matches!(Node::open("", Config::default()), Err(OpenError::Name(0))));
    assert!(matches!(Node::open(&"x".repeat(81), Config::default()), Err(OpenError::Name(81))));
    let odd = Config { ring_bytes: 5000, ..Config::default() };
    assert!(matches!(Node::open("x", odd), Err(OpenError::RingBytes(5000))));
    assert!(matches!(one.connect("nobody is called this"), Err(ConnectError::NoSuchPeer(_))));

    let mut few = open_with(Config { max_peers: 1, ..Config::default() });
    let mut two = open_with(Config::default());
    one.connect(few.name()).unwrap();
    let refused = two.connect(few.name()).unwrap();
    let mut heard = Heard::default();
    few.poll(|_| {}).unwrap();
    heard.until(&mut two, |heard| !heard.gone.is_empty());
    assert_eq!(heard.gone, [(refused, PeerGone::Refused(Refusal::TooManyPeers))]);
    assert!(matches!(few.connect(two.name()), Err(ConnectError::TooManyPeers(1))));
}

#[test]
fn peers_that_were_silent_are_heard_again() {
    let config = Config { hot_peers: 2, ..Config::default() };
    let mut hub = open_with(config);
    let mut spokes: Vec<(Node, PeerId)> = (0..20)
        .map(|_| {
            let mut spoke = open_with(Config::default());
            let peer = spoke.connect(hub.name()).unwrap();
            (spoke, peer)
        })
        .collect();
    let mut heard = Heard::default();
    heard.until(&mut hub, |heard| heard.connected.len() == 20);
    for round in 0..5 {
        while hub.counters().retired < (round + 1) * 18 {
            heard.poll(&mut hub);
        }
        for (spoke, peer) in &mut spokes {
            spoke.try_send(*peer, Header { kind: round as u16, words: [0; 2] }, &[]).unwrap();
        }
        while heard.messages.len() < 20 {
            heard.poll(&mut hub);
        }
        assert!(heard.messages.drain(..).all(|(_, header, _)| u64::from(header.kind) == round));
    }
}

/// What isn't taken is left, keeps its order and no memory back that is fetched, and no more is sent than the ring holds.
#[test]
fn what_isnt_taken_is_left_and_keeps_nothing_else_back() {
    let (mut one, mut other, peer) = pair_with(Config { large: Large::Ring, ..Config::default() });
    let kind = |kind: u16| Header { kind, words: [0; 2] };
    let memory = bytes(300_000, 5);
    one.offer(peer, kind(1), Source::from(memory.clone())).unwrap();
    let (mut sent, mut passed) = (0u64, 0u64);
    let (mut offered, mut pulled, mut refused) = (None, None, 0);
    // None of kind 2 is taken before the memory has come; those of kind 3 may overtake.
    for round in 0.. {
        assert!(round < 1_000_000, "the memory doesn't come");
        let header = Header { kind: 2, words: [sent, 0] };
        match one.try_send_if_wanted(peer, header, &[&bytes(sent as usize % 500, 1)]) {
            Ok(()) => sent += 1,
            Err(why) => assert_eq!(why, SendError::Again),
        }
        passed += u64::from(round % 16 == 0 && one.try_send(peer, kind(3), &[]).is_ok());
        one.poll(|_| {}).unwrap();
        other
            .poll_some(|event| match event {
                Event::Message(message) if message.header.kind == 2 => {
                    refused += 1;
                    Taken::NotNow
                }
                Event::Message(_) => {
                    passed -= 1;
                    Taken::Yes
                }
                Event::Offer { offered: new, .. } => {
                    offered = Some(new);
                    Taken::Yes
                }
                Event::Pulled { sink, result, .. } => {
                    pulled = Some((sink.into_vec(), result));
                    Taken::Yes
                }
                _ => Taken::Yes,
            })
            .unwrap();
        // Only once as much was sent as can be.
        if offered.is_some() && one.try_send_if_wanted(peer, kind(9), &[]).is_err() && round > 3000 {
            other.pull(offered.take().unwrap(), Sink::from(vec![0; memory.len()]));
        }
        if pulled.is_some() {
            break;
        }
    }
    assert_eq!(pulled, Some((Some(memory), Ok(300_000))));
    assert!(refused > 0 && sent > 0 && sent < 2100, "{sent}");
    // What is left keeps nobody awake, and then it comes, in order; and more is wanted again.
    while other.poll_some(|event| if let Event::Message(_) = event { Taken::NotNow } else { Taken::Yes }).unwrap() > 0 {
    }
    assert!(other.arm().unwrap());
    let mut next = 0;
    while next < sent || passed > 0 {
        other
            .poll_some(|event| {
                if let Event::Message(message) = event {
                    match message.header.kind {
                        2 => {
                            assert!(message.header.words[0] == next && !message.overtakes);
                            assert_eq!(message.to_vec(), bytes(next as usize % 500, 1));
                            next += 1;
                        }
                        _ => passed -= 1,
                    }
                }
                Taken::Yes
            })
            .unwrap();
    }
    while one.try_send_if_wanted(peer, kind(2), &[]).is_err() {
        one.poll(|_| {}).unwrap();
    }
}
