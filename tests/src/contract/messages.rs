//! What endpoints must do.

use crate::rig::Rig;
use opx_bus::{PacketFaults, PciFunction};
use opx_stack::{Completion, Config, Endpoint, Pattern};
use std::time::Duration;

/// Sends `lens.len()` messages each way and checks all of them.
fn exchange<B: PciFunction>(rig: &Rig<B>, config: &Config, lens: &[usize]) -> [Endpoint<B>; 2] {
    let hfi = rig.bring_up();
    let mut ends = [Endpoint::open(&hfi, config.clone()).unwrap(), Endpoint::open(&hfi, config.clone()).unwrap()];
    let to = [ends[1].address(), ends[0].address()];
    let content = |n: usize, end: usize| (0..lens[n]).map(|i| (i * 3 + n * 5 + end) as u8).collect::<Vec<_>>();
    let (mut sent, mut received) = ([0, 0], 0);
    for end in &mut ends {
        for (n, len) in lens.iter().enumerate() {
            end.tag_receive(Pattern::exact(n as u64 % 3), vec![0; *len], n as u64).unwrap();
        }
    }
    rig.wait(Duration::from_secs(60), || {
        for (n, end) in ends.iter_mut().enumerate() {
            while sent[n] < lens.len() {
                let context = sent[n] as u64;
                match end.tag_send(to[n], context % 3, content(sent[n], n), context) {
                    Ok(()) => sent[n] += 1,
                    Err(_) => break,
                }
            }
            end.progress().unwrap();
            while let Some(completion) = end.poll_completion() {
                match completion {
                    Completion::Received { context, buffer, len, .. } => {
                        assert_eq!(buffer.bytes()[..len], content(context as usize, 1 - n), "message {context}");
                        received += 1;
                    }
                    Completion::Sent { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        (received == 2 * lens.len() && ends.iter().all(Endpoint::is_quiet)).then_some(())
    })
    .unwrap_or_else(|| panic!("{sent:?} messages were sent, {received} arrived"));
    ends
}

/// One packet each.
pub fn eager_both_ways<B: PciFunction>(rig: Rig<B>) {
    let lens: Vec<_> = (0..200).map(|n| n * 41 % 8193).collect();
    exchange(&rig, &Config::default(), &lens);
}

/// Many packets each.
pub fn rendezvous_both_ways<B: PciFunction>(rig: Rig<B>) {
    let lens: Vec<_> = (0..12).map(|n| 8193 + n * 40_009).collect();
    exchange(&rig, &Config::default(), &lens);
}

/// With packets lost, doubled, late and broken on their way into the endpoint.
pub fn wire_or_receive_faults_are_recovered_from<B: PciFunction>(rig: Rig<B>) {
    let receive_faults = PacketFaults { loss: 3.0, duplicate: 2.0, reorder: 3.0, corrupt: 1.0 };
    let config = Config { receive_faults, seed: 9, ..Config::default() };
    let lens: Vec<_> = (0..60).map(|n| if n % 10 == 0 { 30_000 } else { n * 97 }).collect();
    let ends = exchange(&rig, &config, &lens);
    assert!(ends.iter().any(|end| end.receive_fault_counts().total() > 0));
    assert!(ends.iter().any(|end| end.reliability_counters().replays_sent > 0));
}
