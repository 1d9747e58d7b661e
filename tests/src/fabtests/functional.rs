//! fabtests/functional, of messages: rdm, inject_test, cq_data, unexpected_msg, flood, loopback, rdm_tagged_peek, recv_cancel,
//! multi_recv, resmgmt_test.

use super::Setting;
use super::ends::{Ends, LENGTHS, Message, data};
use opx_bus::{PciFunction, SharedMem};
use opx_stack::regions::Access;
use opx_stack::{Completion, Config, OperationError, Outgoing, Pattern, SendError, Thresholds, Write};

/// A message of every length each way, one after the other.
pub fn rdm<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 2);
    for len in LENGTHS {
        ends.pass(0, 1, None, len);
        ends.pass(1, 0, None, len);
    }
    ends.quiet();
}

/// Injected messages, with and without tag and data: the buffer is the caller's again at once, nobody is told at the sender, and
/// one byte more than may be is refused.
pub fn inject_test<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 2);
    let (from, to) = (ends.address(0), ends.address(1));
    let mut scratch = [0; 17];
    for len in 0..=16 {
        for (tag, told) in [(None, None), (None, Some(5)), (Some(7), None), (Some(u64::MAX), Some(u32::MAX))] {
            ends.receive(1, tag, 16, len as u64);
            scratch[..len].copy_from_slice(&data(len as u64, len));
            ends.inject(0, to, tag, told, &scratch[..len]);
            scratch.fill(0xee);
            let message = Message { tag, data: told, source: from, bytes: data(len as u64, len) };
            assert_eq!(ends.received(1), (len as u64, message));
        }
    }
    assert_eq!(ends[0].inject(to, &scratch), Err(SendError::TooLong(17)));
    ends.quiet();
}

/// Data for the completion at the receiver, with messages by every protocol and with writes.
pub fn cq_data<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 2);
    let (from, to) = (ends.address(0), ends.address(1));
    let values = [0, 1, 0x1234_5678, u32::MAX];
    for (n, len) in LENGTHS.into_iter().enumerate() {
        for tag in [None, Some(n as u64)] {
            let (told, bytes) = (Some(values[n % 4]), data(n as u64, len));
            ends.receive(1, tag, len, 1);
            ends.send(0, Outgoing { tag, data: told, ..Outgoing::new(to, bytes.clone(), 2) });
            assert_eq!(ends.received(1), (1, Message { tag, data: told, source: from, bytes }));
            assert_eq!(ends.sent(0), 2);
        }
    }
    let window = ends.window(1, 1 << 18, Access::REMOTE_WRITE);
    for (n, len) in LENGTHS.into_iter().enumerate() {
        let (told, bytes) = (values[n % 4], data(n as u64, len));
        ends.write(0, &Write { data: Some(told), ..Write::new(window.remote, bytes.clone(), 3) });
        assert_eq!(ends.next(1), Completion::RemoteWrite { data: told, source: from, len: len as u64 });
        assert_eq!(window.bytes(0, len), bytes, "it is there when it is told of");
        assert!(matches!(ends.next(0), Completion::Written { context: 3, .. }));
    }
    ends.quiet();
}

/// Messages that come before anybody asks for them: received in order, whole.
pub fn unexpected_msg<B: PciFunction>(setting: Setting<B>) {
    const EACH: u64 = 4;
    let mut ends = Ends::open(setting, 2);
    let to = ends.address(1);
    for tag in [None, Some(3)] {
        for len in LENGTHS {
            let before = ends[1].counters().unexpected_messages;
            for n in 0..EACH {
                ends.send(0, Outgoing { tag, ..Outgoing::new(to, data(n, len), n) });
            }
            ends.until("all of them unasked", |ends| ends[1].counters().unexpected_messages == before + EACH);
            for n in 0..EACH {
                ends.receive(1, tag, len, n);
                let (context, message) = ends.received(1);
                assert!(context == n && message.bytes == data(n, len), "message {n} of {len} bytes");
            }
            let mut sent: Vec<_> = (0..EACH).map(|_| ends.sent(0)).collect();
            sent.sort();
            assert_eq!(sent, Vec::from_iter(0..EACH));
        }
    }
    ends.quiet();
}

/// Far more messages than the receiver keeps: the sender is held back, and nothing is lost or overtakes.
pub fn flood<B: PciFunction>(setting: Setting<B>) {
    const MESSAGES: u64 = 400;
    /// More than can be kept.
    const MANY: u64 = 66;
    let mut ends = Ends::open_with(setting, 2, |config| Config { unexpected_bytes: 64 << 10, ..config });
    let to = ends.address(1);
    let (mut accepted, mut sent, mut asked, mut next) = (0, 0, 0, 0);
    let mut begun = false;
    ends.until("all messages", |ends| {
        while accepted < MESSAGES && ends[0].send(to, data(accepted, 1000), accepted).is_ok() {
            accepted += 1;
        }
        while let Some(completion) = ends.poll(0) {
            assert!(matches!(completion, Completion::Sent { .. }), "{completion:?}");
            sent += 1;
        }
        // One at a time, and only once there is more than is kept.
        begun |= accepted > MANY && ends[1].counters().unexpected_messages > MANY / 2;
        if begun && ends[1].peek(None).is_some() {
            ends.receive(1, None, 1000, asked);
            asked += 1;
        }
        while let Some(completion) = ends.poll(1) {
            let Completion::Received { context, buffer, .. } = completion else { panic!("{completion:?}") };
            assert_eq!((context, buffer), (next, data(next, 1000).into()));
            next += 1;
        }
        next == MESSAGES && sent == MESSAGES
    });
    ends.quiet();
}

/// An endpoint's messages to itself, asked for before and after.
pub fn loopback<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 1);
    let to = ends.address(0);
    for (n, len) in LENGTHS.into_iter().enumerate() {
        let (n, bytes) = (n as u64, data(n as u64, len));
        for early in [true, false] {
            let before = ends[0].counters().unexpected_messages;
            if early {
                ends.receive(0, Some(n), len, 1);
            }
            ends.send(0, Outgoing { tag: Some(n), ..Outgoing::new(to, bytes.clone(), 2) });
            if !early {
                ends.until("it unasked", |ends| ends[0].counters().unexpected_messages == before + 1);
                ends.receive(0, Some(n), len, 1);
            }
            let both = [ends.next(0), ends.next(0)];
            let received = both.iter().find_map(|completion| match completion {
                Completion::Received { context: 1, buffer, source, .. } => Some((buffer.bytes().to_vec(), *source)),
                _ => None,
            });
            assert_eq!(received, Some((bytes.clone(), to)));
            assert!(both.iter().any(|completion| matches!(completion, Completion::Sent { context: 2, .. })));
        }
    }
    ends.quiet();
}

/// Messages that nobody has asked for are looked at, claimed, discarded and received, not in their order; what isn't there
/// isn't seen.
pub fn rdm_tagged_peek<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 2);
    let (from, to) = (ends.address(0), ends.address(1));
    assert!(ends[1].tag_peek(Pattern::exact(0)).is_none());
    let lens = [12, 3000, 12_000, 20_000, 70_000, 100];
    for (tag, len) in (0..).zip(lens) {
        ends.send(0, Outgoing { tag: Some(tag), data: Some(9), ..Outgoing::new(to, data(tag, len), tag) });
    }
    ends.until("all of them unasked", |ends| ends[1].counters().unexpected_messages == lens.len() as u64);
    let told =
        |tag: u64| opx_stack::Peeked { tag: Some(tag), source: from, len: lens[tag as usize] as u64, data: Some(9) };
    assert!(ends[1].tag_peek(Pattern::exact(99)).is_none() && ends[1].peek(None).is_none());
    // From the last to the first: each is seen twice, then goes one of three ways.
    for tag in (0..lens.len() as u64).rev() {
        let (pattern, len) = (Pattern::exact(tag), lens[tag as usize]);
        assert_eq!([ends[1].tag_peek(pattern), ends[1].tag_peek(pattern)], [Some(told(tag)); 2]);
        match tag % 3 {
            0 => ends.receive(1, Some(tag), len, tag),
            1 => {
                let claimed = ends[1].tag_claim(pattern).unwrap();
                assert!(ends[1].tag_claim(pattern).is_none(), "it is claimed");
                ends[1].receive_claimed(claimed, vec![0; len], tag).unwrap();
            }
            _ => assert_eq!(ends[1].tag_discard(pattern), Ok(Some(told(tag)))),
        }
        assert!(ends[1].tag_peek(pattern).is_none(), "it is gone");
        if tag % 3 < 2 {
            let message = Message { tag: Some(tag), data: Some(9), source: from, bytes: data(tag, len) };
            assert_eq!(ends.received(1), (tag, message));
        }
    }
    let mut sent: Vec<_> = lens.iter().map(|_| ends.sent(0)).collect();
    sent.sort();
    assert_eq!(sent, Vec::from_iter(0..lens.len() as u64));
    ends.quiet();
}

/// Receives are cancelled, and come back with their buffers; the others get their messages.
pub fn recv_cancel<B: PciFunction>(setting: Setting<B>) {
    let mut ends = Ends::open(setting, 2);
    let to = ends.address(1);
    let receives: Vec<_> =
        (0..9).map(|n| ends[1].tag_receive(Pattern::exact(n / 3), vec![n as u8; 100], n).unwrap()).collect();
    for n in [1, 3, 8] {
        assert!(ends[1].cancel(receives[n as usize]));
        assert!(!ends[1].cancel(receives[n as usize]), "once");
        let buffer = vec![n as u8; 100].into();
        assert_eq!(ends.next(1), Completion::Failed { context: n, error: OperationError::Cancelled, buffer });
    }
    for tag in [2, 1, 0, 0, 1, 2] {
        ends.send(0, Outgoing { tag: Some(tag), ..Outgoing::new(to, data(tag, 100), 0) });
        assert_eq!(ends.sent(0), 0);
    }
    let order: Vec<_> = (0..6).map(|_| ends.received(1).0).collect();
    assert_eq!(order, [6, 4, 0, 2, 5, 7]);
    ends.quiet();
}

/// Many messages in buffers that are posted again when they are used up.
pub fn multi_recv<B: PciFunction>(setting: Setting<B>) {
    const MESSAGES: u64 = 60;
    let thresholds = Thresholds { min_multi_receive: 4096, ..Thresholds::default() };
    let mut ends = Ends::open_with(setting, 2, move |config| Config { thresholds, ..config });
    let to = ends.address(1);
    let memory = [0, 1].map(|_| SharedMem::new(48 << 10).unwrap());
    let len = |n: u64| [1, 64, 1000, 4096, 9000, 20_000][n as usize % 6];
    for (n, memory) in memory.iter().enumerate() {
        ends[1].multi_receive(None, memory.clone(), n as u64).unwrap();
    }
    let (mut sent, mut used_up, mut left) = (0, 0, Vec::from_iter(0..MESSAGES));
    ends.until("all messages", |ends| {
        if sent < MESSAGES && ends[0].send(to, data(sent, len(sent)), sent).is_ok() {
            sent += 1;
        }
        while let Some(completion) = ends.poll(1) {
            match completion {
                // Long ones are finished later than short ones that came after them.
                Completion::MultiReceived { context, offset, len: got, .. } => {
                    let mut bytes = vec![0; got];
                    memory[context as usize].read(offset, &mut bytes);
                    let n = left.iter().position(|n| len(*n) == got && data(*n, got) == bytes);
                    let n = n.unwrap_or_else(|| panic!("{got} bytes at {offset} of buffer {context} are no message"));
                    left.remove(n);
                }
                Completion::MultiReceiveDone { context, .. } => {
                    used_up += 1;
                    ends[1].multi_receive(None, memory[context as usize].clone(), context).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        left.is_empty()
    });
    assert!(used_up > 2, "{used_up} times was a buffer used up");
    for _ in 0..MESSAGES {
        ends.sent(0);
    }
}

/// Everything is small: what finds no room is refused with everything given back, and what was accepted ends once.
pub fn resmgmt_test<B: PciFunction>(setting: Setting<B>) {
    let small = |config| Config { operations: 8, completions: 16, slots: 8, ..config };
    let mut ends = Ends::open_with(setting, 2, small);
    let to = ends.address(1);
    let mut receives = 0;
    let full = loop {
        match ends[1].receive(None, vec![0; 500], receives) {
            Ok(_) => receives += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((receives, full.buffer.len()), (8, 500));
    let (mut accepted, mut refused, mut received, mut sent) = (0, 0, 0, Vec::new());
    ends.until("200 messages", |ends| {
        while accepted < 200 {
            match ends[0].send(to, data(accepted, 500), accepted) {
                Ok(()) => accepted += 1,
                Err(again) => {
                    assert_eq!((again.error, again.buffer), (SendError::Again(to), data(accepted, 500).into()));
                    refused += 1;
                    break;
                }
            }
        }
        while let Some(completion) = ends.poll(0) {
            let Completion::Sent { context, .. } = completion else { panic!("{completion:?}") };
            sent.push(context);
        }
        while let Some(completion) = ends.poll(1) {
            let Completion::Received { buffer, .. } = completion else { panic!("{completion:?}") };
            assert_eq!(buffer, data(received, 500));
            received += 1;
            if receives < 200 && ends[1].receive(None, vec![0; 500], receives).is_ok() {
                receives += 1;
            }
        }
        (sent.len(), received) == (200, 200)
    });
    assert!(refused > 0);
    sent.sort();
    assert_eq!(sent, Vec::from_iter(0..200));
    ends.quiet();
}
