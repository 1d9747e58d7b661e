//! Two drivers whose adapters are joined over TCP: the link comes up, messages of all sizes cross, a connection that breaks is a
//! link that goes down and comes up again, and a full wire holds the sender up.

use opx_emu::tcp_wire::{TcpWire, WireOptions, WirePlace};
use opx_emu::{Adapter, Config, EmuBus, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, LinkState, Options};
use opx_stack::{Address, Completion, Endpoint, Pattern};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For what must happen, on any machine.
const LIMIT: Duration = Duration::from_secs(120);
const CABLE: LinkMode = LinkMode::Cable { timeout: LIMIT };

struct End {
    wire: TcpWire,
    hfi: Hfi<EmuBus>,
    adapter: Adapter,
    _firmware: TempDir,
}

impl End {
    /// An adapter on a bench of its own, with a driver.
    fn new(place: &WirePlace, guid: u64) -> Self {
        let firmware = tempfile::tempdir().unwrap();
        opx_emu::firmware::write_files(firmware.path()).unwrap();
        let guid = opx_defs::units::Guid(guid);
        let link_time = Duration::from_millis(5);
        let adapter = Lab::new(Pacing::Real).add(Config { guid, link_time, ..Config::default() });
        let soon = Duration::from_millis(10);
        let options = WireOptions { silence: LIMIT, first_back_off: soon, longest_back_off: soon };
        let wire = TcpWire::start(&adapter, place, options).unwrap();
        let options = Options { firmware_dir: Some(firmware.path().to_owned()), ..Options::default() };
        let hfi = Hfi::open(adapter.bus(), options).unwrap();
        Self { wire, hfi, adapter, _firmware: firmware }
    }
}

fn two_ends() -> [End; 2] {
    let a = End::new(&WirePlace::Listen("127.0.0.1:0".to_owned()), 0x1175_0101);
    let b = End::new(&WirePlace::Connect(a.wire.local_address().unwrap().to_string()), 0x1175_0102);
    let ends = [a, b];
    link_up(&ends);
    ends
}

/// Brings the link up, as the fabric manager of each node.
fn link_up(ends: &[End; 2]) {
    std::thread::scope(|scope| {
        for end in ends {
            scope.spawn(|| end.hfi.link_up(CABLE).unwrap());
        }
    });
}

fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < LIMIT, "{what} doesn't come");
        std::thread::yield_now();
    }
}

fn content(n: usize, len: usize, end: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 3 + n * 5 + end) as u8).collect()
}

fn endpoints(ends: &[End; 2]) -> [Endpoint<EmuBus>; 2] {
    ends.each_ref().map(|end| Endpoint::open(&end.hfi, opx_stack::Config::default()).unwrap())
}

/// Sends messages of these lengths each way and checks every byte.
fn exchange(ends: &[End; 2], endpoints: &mut [Endpoint<EmuBus>; 2], lens: &[usize]) {
    let peers = [0, 1].map(|n| Address {
        lid: ends[n].hfi.link_info().expect("the link is up").peer_lid,
        rx: endpoints[1 - n].address().rx,
    });
    let (mut sent, mut done) = ([0, 0], 0);
    for endpoint in &mut *endpoints {
        for (n, len) in lens.iter().enumerate() {
            endpoint.tag_receive(Pattern::exact(n as u64), vec![0; *len], n as u64).unwrap();
        }
    }
    until("the last message", || {
        for (end, endpoint) in endpoints.iter_mut().enumerate() {
            while let Some(len) = lens.get(sent[end]) {
                let n = sent[end];
                if endpoint.tag_send(peers[end], n as u64, content(n, *len, end), n as u64).is_err() {
                    break;
                }
                sent[end] += 1;
            }
            endpoint.progress().unwrap();
            while let Some(completion) = endpoint.poll_completion() {
                match completion {
                    Completion::Received { context, buffer, len, .. } => {
                        let n = context as usize;
                        assert!(buffer.bytes()[..len] == content(n, lens[n], 1 - end), "message {n} to {end}");
                        done += 1;
                    }
                    Completion::Sent { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        done == 2 * lens.len() && endpoints.iter().all(Endpoint::is_quiet)
    });
}

#[test]
fn messages_of_all_sizes_cross_and_the_link_comes_back_after_a_break() {
    let ends = two_ends();
    let mut endpoints = endpoints(&ends);
    let lens: Vec<usize> = (0..100).map(|n| n * 83 % 8193).chain([100_003, 3_000_017]).collect();
    exchange(&ends, &mut endpoints, &lens);
    for round in 1..=3 {
        ends[round % 2].wire.cut();
        // Both drivers see the link go down, as with a cable that is pulled.
        for end in &ends {
            until("link down", || !matches!(end.hfi.link_advance().unwrap(), LinkState::Active));
            until("the next connection", || end.wire.status().connections > round as u64);
        }
        link_up(&ends);
        exchange(&ends, &mut endpoints, &[64, 5000, 500_009]);
    }
}

#[test]
fn a_connection_that_breaks_in_the_midst_of_a_message_loses_nothing_of_it() {
    let ends = two_ends();
    let mut endpoints = endpoints(&ends);
    let received = ends[1].adapter.counts().packets_received;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = || ends[1].adapter.counts().packets_received > received + 100;
            until("the first packets", begun);
            ends[0].wire.cut();
            let down = |end: &End| !matches!(end.hfi.link_state(), LinkState::Active);
            until("link down", || ends.iter().all(down));
            link_up(&ends);
        });
        exchange(&ends, &mut endpoints, &[8_000_009]);
    });
    assert!(ends[0].wire.status().connections > 1);
}

#[test]
fn a_full_wire_holds_the_sender_up_as_a_cable_does() {
    let ends = two_ends();
    // Slow at the receiver: its room is what the sender waits for.
    assert!(ends[1].adapter.set_pace(opx_emu::Pace { megabits: 200, credit: 8192 }));
    exchange(&ends, &mut endpoints(&ends), &[2_000_003]);
    let sender = ends[0].adapter.counts();
    assert!(sender.link_full > 0, "{sender:?}");
}
