//! Many messages that come before they are asked for (libfabric's unexpected_msg), with data for their completions (cq_data), and
//! the smallest ones (inject_test).

mod common;

use common::{bench, data};
use opx_bus::PacketFaults;
use opx_stack::{Completion, Config, Outgoing, Pattern};

const MESSAGES: u64 = 60;

fn len(n: u64) -> usize {
    match n % 4 {
        0 => n as usize % 17,
        1 => 20 + n as usize * 97,
        2 => 8193 + n as usize * 131,
        _ => 16_385 + n as usize * 501,
    }
}

#[test]
fn unexpected_messages_of_every_protocol_are_received_in_order() {
    let faults = PacketFaults { loss: 5.0, duplicate: 3.0, reorder: 5.0, corrupt: 1.0 };
    for (receive_faults, tagged) in
        [(PacketFaults::default(), true), (PacketFaults::default(), false), (faults, true), (faults, false)]
    {
        let mut bench = bench(Config { receive_faults, ..Config::default() });
        let (from, to) = (bench.a.address(), bench.b.address());
        let mut sent = 0;
        bench.run(|bench| {
            while sent < MESSAGES {
                // Those with 16 bytes or less as injected ones.
                let (tag, told) = (tagged.then_some(7), Some(sent as u32));
                let sent_now = if len(sent) <= 16 {
                    bench.a.inject_message(to, tag, told, &data(sent, len(sent))).is_ok()
                } else {
                    let message = Outgoing { tag, data: told, ..Outgoing::new(to, data(sent, len(sent)), sent) };
                    bench.a.send_message(message).is_ok()
                };
                if !sent_now {
                    break;
                }
                sent += 1;
            }
            bench.b.counters().unexpected_messages == MESSAGES
        });
        for n in 0..MESSAGES {
            if tagged {
                bench.b.tag_receive(Pattern::exact(7), vec![0; len(n)], n).unwrap();
            } else {
                bench.b.receive(Some(from), vec![0; len(n)], n).unwrap();
            }
        }
        let mut left = MESSAGES;
        bench.run(|bench| {
            while let Some(completion) = bench.b.poll_completion() {
                let Completion::Received { context, tag, data: told, source, len: got, buffer } = completion else {
                    panic!("{completion:?}")
                };
                assert_eq!((tag, told, source), (tagged.then_some(7), Some(context as u32), from));
                assert_eq!((got, buffer), (len(context), data(context, len(context)).into()), "message {context}");
                left -= 1;
            }
            left == 0
        });
        bench.quiet();
    }
}

#[test]
fn a_receive_for_an_offer_that_waits_is_answered_at_once() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    bench.a.tag_send(to, 7, data(1, 40_000), 1).unwrap();
    bench.run(|bench| bench.b.counters().unexpected_messages == 1);
    // Until there is nothing to do but to wait for what time brings.
    let mut quiet = 0;
    while quiet < 10 {
        if bench.a.progress().unwrap() | bench.b.progress().unwrap() {
            quiet = 0;
        } else {
            quiet += 1;
        }
    }
    bench.b.tag_receive(Pattern::exact(7), vec![0; 40_000], 2).unwrap();
    assert!(bench.b.progress().unwrap(), "its answer waits for something else to happen");
    let Completion::Received { buffer, .. } = bench.next_at_b() else { panic!() };
    assert_eq!(buffer, data(1, 40_000));
}
