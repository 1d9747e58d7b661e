//! The sender's rules, one test each.

use opx_defs::time::Instant;
use opx_defs::units::{Lid, Psn};
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use opx_reliability::{Config, Event, Reliability, SendError, Transmit};
use std::time::Duration;

const ME: Origin = Origin { lid: Lid(1), rx: 5 };
const PEER: Origin = Origin { lid: Lid(2), rx: 7 };
const T0: Instant = Instant::ZERO;

type Core = Reliability<u32, ()>;

fn core(config: Config) -> Core {
    Core::new(config, ME).unwrap()
}

fn sent(config: Config, first: u64, count: u32) -> Core {
    let mut core = Core::starting_at(config, ME, first).unwrap();
    for i in 0..count {
        let psn = core.send(T0, PEER, 100, |psn| psn.get()).unwrap();
        assert_eq!(psn, Psn::new(first as u32 + i));
    }
    core
}

fn key(peer: Origin) -> FlowKey {
    FlowKey { slid: ME.lid, dlid: peer.lid, src_rx: ME.rx, dst_rx: peer.rx }
}

fn answer(core: &mut Core, now: Instant, op: UdOp, start: u32, count: u32) {
    core.on_ud(now, PEER, &Ud { op, key: key(PEER), start: Psn::new(start), count });
}

fn released(core: &mut Core) -> Vec<u32> {
    std::iter::from_fn(|| core.poll_released()).collect()
}

/// What is to be sent: replays as (PSN, handle), pings as ranges.
fn transmits(core: &mut Core, now: Instant) -> (Vec<u32>, Vec<(Origin, u32, u32)>) {
    let (mut replays, mut pings) = (Vec::new(), Vec::new());
    while let Some(packet) = core.poll_transmit(now) {
        match packet {
            Transmit::Replay { peer, psn, packet } => {
                assert_eq!((peer, psn.get()), (PEER, *packet), "a replay is the packet that was registered");
                replays.push(*packet);
            }
            Transmit::Ud { peer, ud } => {
                assert_eq!((ud.op, ud.key), (UdOp::Ping, key(peer)));
                pings.push((peer, ud.start.get(), ud.count));
            }
        }
    }
    (replays, pings)
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

#[test]
fn an_ack_releases_what_it_covers() {
    let mut core = sent(Config::default(), 0, 10);
    assert_eq!(core.outstanding_bytes(PEER), 10 * 156);
    answer(&mut core, T0, UdOp::Ack, 0, 3);
    assert_eq!(released(&mut core), [0, 1, 2]);
    answer(&mut core, T0, UdOp::Ack, 5, 2);
    assert_eq!(released(&mut core), [5, 6]);
    // Again, and in part: only what is new.
    answer(&mut core, T0, UdOp::Ack, 5, 2);
    answer(&mut core, T0, UdOp::Ack, 2, 4);
    assert_eq!(released(&mut core), [3, 4]);
    assert_eq!(core.outstanding_bytes(PEER), 3 * 156);
    answer(&mut core, T0, UdOp::Ack, 7, 3);
    assert_eq!(released(&mut core), [7, 8, 9]);
    assert!(core.is_idle());
    assert_eq!(core.poll_timeout(), None);
    assert_eq!((core.counters().acks_received, core.counters().acks_ignored), (5, 1));
}

#[test]
fn acks_for_what_was_never_sent_are_ignored() {
    let mut core = sent(Config::default(), 0, 4);
    for (start, count) in
        [(0, 5), (4, 1), (3, 2), (0xff_ffff, 1), (0x80_0000, 1), (0, 0x100_0000), (0, u32::MAX), (0, 0)]
    {
        answer(&mut core, T0, UdOp::Ack, start, count);
        assert_eq!(released(&mut core), [], "{start:#x},+{count}");
    }
    assert_eq!(core.counters().acks_ignored, 8);
    // Nor are those of a flow that doesn't exist, or from someone else.
    let stranger = Origin { lid: Lid(3), rx: 7 };
    let ud = Ud { op: UdOp::Ack, key: key(stranger), start: Psn::new(0), count: 1 };
    core.on_ud(T0, stranger, &ud);
    core.on_ud(T0, stranger, &Ud { key: key(PEER), ..ud });
    core.on_ud(T0, PEER, &Ud { key: FlowKey { src_rx: 6, ..key(PEER) }, ..ud });
    assert_eq!(released(&mut core), []);
    assert_eq!((core.counters().acks_ignored, core.counters().ud_foreign), (9, 2));
}

#[test]
fn a_nack_repeats_up_to_32_packets_and_holds_new_ones_back() {
    let mut core = sent(Config::default(), 0, 50);
    answer(&mut core, T0, UdOp::Nack, 1, 49);
    assert_eq!(transmits(&mut core, T0).0, (1..33).collect::<Vec<_>>());
    // The same NACK again finds them on their way.
    answer(&mut core, T0, UdOp::Nack, 1, 49);
    assert_eq!(transmits(&mut core, T0).0, []);
    assert_eq!(core.send(T0, PEER, 1, |_| unreachable!()), Err(SendError::Throttled));
    answer(&mut core, T0, UdOp::Ack, 0, 49);
    assert_eq!(core.send(T0, PEER, 1, |_| unreachable!()), Err(SendError::Throttled));
    answer(&mut core, T0, UdOp::Ack, 49, 1);
    assert!(core.send(T0, PEER, 1, |psn| psn.get()).is_ok());
    // One for what was acknowledged does nothing.
    answer(&mut core, T0, UdOp::Nack, 1, 10);
    assert_eq!(transmits(&mut core, T0).0, []);
    let counters = core.counters();
    assert_eq!((counters.nacks_received, counters.nacks_ignored, counters.throttled_nacks), (3, 1, 2));
    assert_eq!(counters.replays_sent, 32);
}

#[test]
fn a_replay_that_was_acknowledged_meanwhile_is_not_sent() {
    let mut core = sent(Config::default(), 0, 3);
    answer(&mut core, T0, UdOp::Nack, 0, 3);
    answer(&mut core, T0, UdOp::Ack, 0, 2);
    assert_eq!(transmits(&mut core, T0).0, [2]);
    assert_eq!(released(&mut core), [0, 1]);
}

#[test]
fn an_ack_behind_a_gap_repeats_the_gap_and_asks_again() {
    let mut core = sent(Config::default(), 0, 20);
    let at = core.poll_timeout().unwrap();
    assert_eq!(at, T0 + micros(500));
    core.on_timeout(at);
    assert_eq!(transmits(&mut core, at), (vec![], vec![(PEER, 0, 20)]));
    let later = at + micros(20);
    answer(&mut core, later, UdOp::Ack, 0, 10);
    answer(&mut core, later, UdOp::Ack, 12, 2);
    assert_eq!(transmits(&mut core, later), (vec![10, 11], vec![(PEER, 10, 10)]));
    assert_eq!(core.counters().replays_unasked, 2);
    assert!(core.send(later, PEER, 1, |psn| psn.get()).is_ok(), "nothing was NACKed");
}

#[test]
fn an_ack_that_nobody_asked_for_repeats_nothing() {
    // The receiver's ACK of the first 64 was lost, that of the next ones wasn't.
    let mut core = sent(Config::default(), 0, 200);
    answer(&mut core, T0, UdOp::Ack, 65, 64);
    assert_eq!(transmits(&mut core, T0), (vec![], vec![]));
    assert_eq!(released(&mut core).len(), 64);
    assert!(core.poll_timeout().is_some());
}

#[test]
fn limits_refuse_and_acks_lift_them() {
    let config = Config { window: 4, max_outstanding_bytes: 1000, ..Config::default() };
    let mut core = sent(config, 0, 4);
    assert_eq!(core.send(T0, PEER, 1, |_| unreachable!()), Err(SendError::Window));
    answer(&mut core, T0, UdOp::Ack, 0, 4);
    // Strictly above the limit: the packet that crosses it still goes.
    assert!(core.send(T0, PEER, 944, |psn| psn.get()).is_ok());
    assert!(core.send(T0, PEER, 944, |psn| psn.get()).is_ok());
    assert_eq!(core.send(T0, PEER, 1, |_| unreachable!()), Err(SendError::OutstandingBytes));
    assert!(SendError::OutstandingBytes.is_temporary());
    let other = Origin { lid: Lid(8), rx: 0 };
    assert!(core.send(T0, other, 1, |psn| psn.get()).is_ok(), "each flow has its own limits");
    answer(&mut core, T0, UdOp::Ack, 4, 1);
    assert!(core.send(T0, PEER, 1, |psn| psn.get()).is_ok());
    assert_eq!((core.counters().throttled, core.counters().throttled_max_outstanding), (2, 1));
    // The span counts, not how many are missing in it.
    let mut core = sent(config, 0, 4);
    answer(&mut core, T0, UdOp::Ack, 1, 3);
    assert_eq!(core.send(T0, PEER, 1, |_| unreachable!()), Err(SendError::Window));
}

#[test]
fn one_peer_more_than_is_set_is_refused() {
    let mut core = core(Config { max_flows: 2, ..Config::default() });
    let send = |core: &mut Core, lid| core.send(T0, Origin { lid: Lid(lid), rx: 0 }, 1, |psn| psn.get());
    assert!(send(&mut core, 1).is_ok() && send(&mut core, 2).is_ok() && send(&mut core, 1).is_ok());
    assert_eq!(send(&mut core, 3), Err(SendError::TooManyPeers { limit: 2 }));
}

#[test]
fn pings_slow_down_in_silence_and_speed_up_with_an_answer() {
    let mut core = sent(Config::default(), 0, 3);
    let mut now = T0;
    let mut waits = Vec::new();
    for _ in 0..8 {
        let at = core.poll_timeout().unwrap();
        waits.push(at.since(now));
        now = at;
        core.on_timeout(now);
        assert_eq!(transmits(&mut core, now).1, [(PEER, 0, 3)]);
    }
    let want = [500, 500, 1000, 2000, 4000, 8000, 16000, 20000].map(micros);
    assert_eq!(waits, want);
    answer(&mut core, now, UdOp::Nack, 0, 1);
    assert_eq!(core.poll_timeout(), Some(now + micros(500)));
}

#[test]
fn pings_wait_for_a_peer_that_takes_long() {
    let mut core = sent(Config::default(), 0, 3);
    let at = core.poll_timeout().unwrap();
    core.on_timeout(at);
    transmits(&mut core, at);
    // It took 2 ms to answer: three times that is waited the next time, RFC 6298's first guess.
    let now = at + micros(2000);
    answer(&mut core, now, UdOp::Ack, 0, 1);
    assert_eq!(core.poll_timeout(), Some(now + micros(6000)));
}

#[test]
fn a_ping_does_not_span_the_wrap() {
    let mut core = sent(Config::default(), 0xff_fffe, 5);
    let at = core.poll_timeout().unwrap();
    core.on_timeout(at);
    assert_eq!(transmits(&mut core, at).1, [(PEER, 0xff_fffe, 2)]);
    answer(&mut core, at, UdOp::Ack, 0xff_fffe, 2);
    assert_eq!(released(&mut core), [0xff_fffe, 0xff_ffff]);
    let at = core.poll_timeout().unwrap();
    core.on_timeout(at);
    assert_eq!(transmits(&mut core, at).1, [(PEER, 0, 3)]);
    answer(&mut core, at, UdOp::Ack, 0, 3);
    assert!(core.is_idle());
}

#[test]
fn pings_take_turns_within_a_budget() {
    let config = Config { max_uncongested_pings: 5, max_congested_pings: 2, ..Config::default() };
    let mut core = core(config);
    let peer = |lid| Origin { lid: Lid(lid), rx: 0 };
    for lid in 0..9 {
        core.send(T0, peer(lid), 1, |psn| psn.get()).unwrap();
    }
    let mut rounds = Vec::new();
    while rounds.len() < 3 {
        let now = core.poll_timeout().unwrap();
        core.on_timeout(now);
        rounds.push(transmits(&mut core, now).1.iter().map(|(peer, _, _)| peer.lid.0).collect::<Vec<_>>());
    }
    // Five of nine at first; not all, so two a tick: first those that had no turn yet.
    assert_eq!(rounds, [vec![0, 1, 2, 3, 4], vec![5, 6], vec![7, 8]]);
}

#[test]
fn a_peer_that_acknowledges_nothing_is_given_up() {
    let config = Config { give_up_after: Duration::from_millis(100), ..Config::default() };
    let mut core = sent(config, 0, 3);
    let mut now = T0;
    while let Some(at) = core.poll_timeout() {
        now = at;
        core.on_timeout(now);
        transmits(&mut core, now);
        // It lives, but never has anything: so does one that took the place of the one we knew.
        answer(&mut core, now, UdOp::Nack, 0, 1);
        assert!(now < T0 + Duration::from_secs(1), "no end");
    }
    assert!(now >= T0 + config.give_up_after);
    assert_eq!(core.poll_event(), Some(Event::PeerUnreachable { peer: PEER, unacked: 3 }));
    assert_eq!(core.poll_event(), None);
    assert_eq!(released(&mut core), [0, 1, 2]);
    assert_eq!(core.send(now, PEER, 1, |_| unreachable!()), Err(SendError::Unreachable { peer: PEER }));
    assert!(core.is_idle());
    assert_eq!(core.counters().peers_given_up, 1);
    assert!(core.send(now, Origin { lid: Lid(3), rx: 1 }, 1, |psn| psn.get()).is_ok());
}

#[test]
fn nacks_all_the_time_do_not_put_the_end_off() {
    let config = Config { give_up_after: Duration::from_millis(10), ..Config::default() };
    let mut core = sent(config, 0, 3);
    for tick in 0..2000 {
        let now = T0 + micros(tick * 10);
        core.on_timeout(now);
        transmits(&mut core, now);
        answer(&mut core, now, UdOp::Nack, 0, 3);
    }
    assert_eq!(core.counters().peers_given_up, 1);
}

#[test]
fn settings_are_checked() {
    let bad = [
        Config { pre_ack_rate: 3, ..Config::default() },
        Config { window: 10240, ..Config::default() },
        Config { window: 0, ..Config::default() },
        Config { max_nack: 33, ..Config::default() },
        Config { ping_interval: Duration::ZERO, ..Config::default() },
        Config { max_ping_interval: micros(1), ..Config::default() },
        Config { max_congested_pings: 0, ..Config::default() },
    ];
    for config in bad {
        assert!(Core::new(config, ME).is_err(), "{config:?}");
    }
    let error = Core::new(bad[1], ME).unwrap_err();
    assert_eq!(error.to_string(), "reliability setting window is 10240, it must be 1 to 10239");
}
