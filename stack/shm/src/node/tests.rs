//! What only the inside of a node shows.

use super::*;
use crate::config::Large;
use crate::error::PullError;
use crate::large::{Offered, Sink, Source};

fn pair(what: &str, large: Large) -> (Node, Node, PeerId) {
    let open = |side: &str| {
        let name = format!("unit-{what}-{side}-{}", std::process::id());
        Node::open(&name, Config { large, ..Config::default() }).unwrap()
    };
    let (mut one, mut other) = (open("one"), open("other"));
    let peer = one.connect(other.name()).unwrap();
    other.poll(|_| {}).unwrap();
    one.look(Some(Duration::ZERO)).unwrap();
    assert_eq!(one.kernel_copy(peer), if large == Large::Ring { Err(KernelCopy::Off) } else { Ok(()) });
    (one, other, peer)
}

/// Polls both until a pull of `one` has ended.
fn pulled(one: &mut Node, other: &mut Node) -> (Sink, Result<usize, PullError>) {
    let mut ended = None;
    while ended.is_none() {
        other.poll(|_| {}).unwrap();
        one.poll(|event| {
            if let Event::Pulled { sink, result, .. } = event {
                ended = Some((sink, result));
            }
        })
        .unwrap();
    }
    ended.unwrap()
}

#[test]
fn what_the_kernel_refuses_comes_through_the_ring() {
    let (mut one, mut other, peer) = pair("refused", Large::Kernel);
    let memory: Vec<u8> = (0..100_000).map(|i| i as u8).collect();
    let back = other.connect(one.name()).unwrap();
    other.offer(back, Header::default(), Source::from(memory.clone())).unwrap();
    let mut offer = None;
    while offer.is_none() {
        one.poll(|event| {
            if let Event::Offer { offered, .. } = event {
                offer = Some(offered);
            }
        })
        .unwrap();
    }
    // As if the peer were in another namespace, which the first try didn't show.
    one.links.get_mut(peer.0).unwrap().pid = None;
    one.pull(offer.unwrap(), Sink::from(vec![0; 100_000]));
    let (sink, result) = pulled(&mut one, &mut other);
    assert_eq!((result, sink.into_vec()), (Ok(100_000), Some(memory)));
    assert_eq!(one.kernel_copy(peer), Err(KernelCopy::OtherNamespace));
    let counters = one.counters();
    assert_eq!((counters.kernel_refusals, counters.kernel_pulls, counters.ring_pulls), (1, 0, 1));
}

#[test]
fn memory_that_isnt_there_is_an_error() {
    let (mut one, mut other, peer) = pair("unmapped", Large::Kernel);
    for (address, len) in [(8, 100), (u64::MAX - 10, 100), (0, u64::MAX)] {
        one.pull(Offered { link: peer.0, id: 77, address, len }, Sink::from(vec![0; 200]));
        assert_eq!(pulled(&mut one, &mut other).1, Err(PullError::Unmapped), "{address:#x}");
    }
    assert_eq!(one.kernel_copy(peer), Ok(()));
}

#[test]
fn answers_that_nobody_reads_are_bounded() {
    let (mut one, _other, peer) = pair("deaf", Large::Ring);
    let mut most = 0;
    for id in 0..MOST_NOTES as u64 * 2 {
        one.decline(Offered { link: peer.0, id, address: 0, len: 1 });
        most = most.max(one.links.get(peer.0).map_or(0, |link| link.notes.len()));
    }
    assert_eq!(most, MOST_NOTES);
    let refused = one.try_send(peer, Header::default(), &[]);
    assert!(matches!(refused, Err(SendError::Gone(PeerGone::Broken(_)))), "{refused:?}");
}

/// A message that was left in the ring, because too much was, is taken in the end: the one that comes after it keeps who would sleep awake.
#[test]
fn what_comes_after_what_was_held_isnt_slept_over() {
    let (mut one, mut other, peer) = pair("held", Large::Ring);
    let header = Header::default();
    let held = |other: &Node| other.links.iter().any(|(_, link)| link.is_held);
    let refuse = |event: Event<'_>| if let Event::Message(_) = event { Taken::NotNow } else { Taken::Yes };
    // More than is left, and than the ring holds.
    for _ in 0..1 << 20 {
        let full = one.try_send(peer, header, &[&[1; 100]]).is_err();
        other.poll_some(refuse).unwrap();
        if full && held(&other) {
            break;
        }
    }
    assert!(held(&other) && other.has_left());
    while !other.arm().unwrap() {
        other.poll_some(refuse).unwrap();
    }
    // All of it is taken, and none is there any more.
    while other.poll(|_| {}).unwrap() > 0 {}
    assert!(!held(&other) && !other.has_left());
    one.try_send(peer, header, &[b"one more"]).unwrap();
    assert!(!other.arm().unwrap(), "it is slept over");
    let mut last = None;
    other
        .poll(|event| {
            if let Event::Message(message) = event {
                last = Some(message.to_vec());
            }
        })
        .unwrap();
    assert_eq!(last.as_deref(), Some(&b"one more"[..]));
}
