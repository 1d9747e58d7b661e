//! Two processes: the test starts itself once more for the other one, and kills it.

use opx_shm::{Config, Event, Header, Large, Node, NotTaken, PeerGone, PeerId, PullError, SendError, Sink, Source};
use std::collections::VecDeque;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const ROLE: &str = "OPX_SHM_TEST_ROLE";
const PARENT: &str = "OPX_SHM_TEST_PARENT";
/// Memory that is offered.
const OFFERED: usize = 300_001;
/// Nothing takes so long that works.
const BOUND: Duration = Duration::from_secs(30);

/// The other process. It is killed when this is dropped.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn start(role: &str, parent: &Node) -> Other {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_other_process", "--nocapture"])
        .envs([(ROLE, role), (PARENT, parent.name())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Other(child)
}

fn payload(number: u64) -> Vec<u8> {
    (0..number as usize % 3000).map(|i| (i as u64 + number) as u8).collect()
}

fn memory() -> Vec<u8> {
    (0..OFFERED).map(|i| (i * 7 + i / 300) as u8).collect()
}

/// What the other process does, until it is killed or its parent is gone.
#[test]
#[ignore = "started by the other tests"]
fn the_other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let mut node = Node::open(&format!("child-{}", std::process::id()), Config::default()).unwrap();
    let parent = node.connect(&std::env::var(PARENT).unwrap()).unwrap();
    match &*role {
        "echo" => echo(&mut node),
        "flood" => flood(&mut node, parent),
        "offers" => offers(&mut node, parent),
        "pulls" => pulls(&mut node, parent),
        // Says that it is there, and doesn't read.
        "deaf" => {
            node.try_send(parent, Header::default(), &[]).unwrap();
            loop {
                std::thread::park();
            }
        }
        "leaves" => {
            node.try_send(parent, Header { kind: 5, words: [0; 2] }, &[b"good bye"]).unwrap();
            // Its parent may not have heard of it yet.
            let mut heard = false;
            while !heard {
                node.wait(None).unwrap();
                node.poll(|event| heard |= matches!(event, Event::Message(_))).unwrap();
            }
        }
        other => panic!("no role {other}"),
    }
}

fn echo(node: &mut Node) {
    let (mut queue, mut gone) = (VecDeque::new(), false);
    while !gone {
        node.wait(None).unwrap();
        node.poll(|event| match event {
            Event::Message(message) => queue.push_back((message.peer, message.header, message.to_vec())),
            Event::Gone { .. } => gone = true,
            _ => {}
        })
        .unwrap();
        // Those behind one that has to wait wait, too: there may be room by the time that they are tried.
        while let Some((peer, header, payload)) = queue.front() {
            if node.try_send(*peer, *header, &[payload]) == Err(SendError::Again) {
                break;
            }
            queue.pop_front();
        }
    }
}

fn flood(node: &mut Node, parent: PeerId) {
    for number in 0.. {
        let payload = payload(number);
        loop {
            match node.try_send(parent, Header { kind: 1, words: [number, 0] }, &[&payload]) {
                Ok(()) => break,
                Err(SendError::Again) => {
                    node.wait(None).unwrap();
                    node.poll(|_| {}).unwrap();
                }
                Err(_) => return,
            }
        }
    }
}

fn offers(node: &mut Node, parent: PeerId) {
    let (mut gone, mut open) = (false, 0);
    while !gone {
        while open < 3 && node.offer(parent, Header { kind: 2, words: [0; 2] }, Source::from(memory())).is_ok() {
            open += 1;
        }
        node.wait(None).unwrap();
        node.poll(|event| match event {
            Event::Released { .. } => open -= 1,
            Event::Gone { .. } => gone = true,
            _ => {}
        })
        .unwrap();
    }
}

fn pulls(node: &mut Node, parent: PeerId) {
    node.try_send(parent, Header::default(), &[]).unwrap();
    let (mut gone, mut offers) = (false, Vec::new());
    while !gone {
        node.wait(None).unwrap();
        node.poll(|event| match event {
            Event::Offer { offered, .. } => offers.push(offered),
            Event::Pulled { sink, result, .. } => {
                assert!(result.is_err() || sink.into_vec().unwrap() == memory());
            }
            Event::Gone { .. } => gone = true,
            _ => {}
        })
        .unwrap();
        for offered in offers.drain(..) {
            node.pull(offered, Sink::from(vec![0; OFFERED]));
        }
    }
}

fn open(what: &str, config: Config) -> Node {
    Node::open(&format!("parent-{what}-{}", std::process::id()), config).unwrap()
}

#[test]
fn two_processes_talk_and_one_leaves() {
    let mut node = open("talk", Config::default());
    let mut child = start("leaves", &node);
    let (mut heard, mut gone) = (Vec::new(), None);
    while heard.is_empty() {
        assert!(node.wait(Some(BOUND)).unwrap());
        node.poll(|event| {
            if let Event::Message(message) = event {
                heard.push((message.peer, message.header.kind, message.to_vec()));
            }
        })
        .unwrap();
    }
    let (peer, kind, words) = heard.pop().unwrap();
    assert_eq!((kind, &*words), (5, &b"good bye"[..]));
    node.try_send(peer, Header::default(), &[]).unwrap();
    while gone.is_none() {
        assert!(node.wait(Some(BOUND)).unwrap());
        node.poll(|event| {
            if let Event::Gone { peer, reason } = event {
                gone = Some((peer, reason));
            }
        })
        .unwrap();
    }
    assert_eq!(gone, Some((peer, PeerGone::Closed)));
    assert!(child.0.wait().unwrap().success());
}

/// What this process has open and mapped because of its peers.
fn traces() -> (usize, usize) {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (files, maps.lines().filter(|line| line.contains("memfd:opx-shm")).count())
}

/// A generator of its own, so that a seed means the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One child in each role, killed after a number of events and a number of empty polls that the seed says. Run alone in this
/// process, because it counts files.
fn kill_one(node: &mut Node, role: &str, seed: u64) {
    let mut chance = Chance(seed);
    let mut child = Some(start(role, node));
    let (events, polls) = (1 + chance.below(if role == "flood" { 5000 } else { 30 }), chance.below(3000));
    let (mut peer, mut count, mut next, mut sent, mut echoed) = (None, 0, 0, 0u64, 0u64);
    let (mut offered, mut pulling, mut serving) = (Vec::new(), 0, 0);
    let (mut gone, mut killed, mut left) = (None, false, polls);
    while gone.is_none() {
        if killed {
            assert!(node.wait(Some(BOUND)).unwrap(), "{role} {seed}: its end isn't noticed");
        }
        node.poll(|event| match event {
            Event::Connected(who) => peer = Some(who),
            Event::Message(message) => {
                count += 1;
                let number = message.header.words[0];
                match role {
                    "flood" => {
                        assert_eq!((number, message.to_vec()), (next, payload(next)), "{role} {seed}");
                        next += 1;
                    }
                    "echo" => {
                        assert_eq!((number, message.to_vec()), (echoed, payload(echoed)), "{role} {seed}");
                        echoed += 1;
                    }
                    _ => {}
                }
            }
            Event::Offer { offered: new, .. } => offered.push(new),
            Event::Pulled { sink, result, .. } => {
                count += 1;
                pulling -= 1;
                match result {
                    Ok(len) => {
                        assert_eq!((len, sink.into_vec().unwrap() == memory()), (OFFERED, true), "{role} {seed}")
                    }
                    Err(why) => {
                        assert!(killed, "{role} {seed}: {why}");
                        assert!(
                            matches!(why, PullError::Gone(PeerGone::Died) | PullError::Unmapped),
                            "{role} {seed}: {why}"
                        );
                    }
                }
            }
            Event::Released { result, .. } => {
                count += 1;
                serving -= 1;
                assert!(matches!(result, Ok(()) | Err(NotTaken::Gone(PeerGone::Died))), "{role} {seed}: {result:?}");
            }
            Event::Gone { peer: who, reason } => gone = Some((who, reason)),
            other => panic!("{other:?}"),
        })
        .unwrap();
        for offered in offered.drain(..) {
            pulling += 1;
            node.pull(offered, Sink::from(vec![0; OFFERED]));
        }
        if let Some(peer) = peer.filter(|_| !killed) {
            if role == "echo" && node.try_send(peer, Header { kind: 1, words: [sent, 0] }, &[&payload(sent)]).is_ok() {
                sent += 1;
            }
            if role == "deaf" {
                let sent = node.try_send(peer, Header::default(), &[&payload(2999)]);
                count += u64::from(sent == Err(SendError::Again));
            }
            if role == "pulls" && serving < 3 {
                let offer = node.offer(peer, Header::default(), Source::from(memory()));
                serving += i32::from(offer.is_ok());
            }
        }
        if count >= events && !killed {
            if left == 0 {
                child = None;
                killed = true;
            }
            left = left.saturating_sub(1);
        }
    }
    assert!(child.is_none(), "{role} {seed}: {gone:?} before it was killed");
    assert_eq!(gone, peer.map(|peer| (peer, PeerGone::Died)), "{role} {seed}");
    assert_eq!((pulling, serving), (0, 0), "{role} {seed}: all are told");
    let again = node.try_send(peer.unwrap(), Header::default(), &[]);
    assert_eq!(again, Err(SendError::Gone(PeerGone::Unknown)), "{role} {seed}");
}

#[test]
#[ignore = "started by the next one, in a process of its own"]
fn kills() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    for large in [Large::Measured, Large::Ring, Large::Kernel] {
        let mut node = open("kills", Config { large, ..Config::default() });
        let before = traces();
        assert_eq!(before.1, 0);
        for seed in 0..8 {
            for role in ["flood", "echo", "offers", "pulls", "deaf"] {
                if large == Large::Measured || role == "offers" {
                    kill_one(&mut node, role, seed);
                    assert_eq!(traces(), before, "{role} {seed}: something is left");
                }
            }
        }
    }
}

#[test]
fn a_peer_that_is_killed_at_any_instant_leaves_nothing_behind() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "kills", "--nocapture"])
        .env(ROLE, "kills")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}
