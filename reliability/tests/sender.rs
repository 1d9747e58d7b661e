//! The sender's rules, one test each.

use opx_defs::time::Instant;
use opx_defs::units::{Lid, Psn};
use opx_defs::wire::opx::{FlowKey, Origin, Ud, UdOp};
use opx_reliability::{Arrival, Config, Event, Reliability, SendError, Transmit};
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
    // Until it has them; not until it has all that was sent, as OPX does.
    answer(&mut core, T0, UdOp::Ack, 0, 32);
    assert_eq!(core.send(T0, PEER, 1, |_| unreachable!()), Err(SendError::Throttled));
    answer(&mut core, T0, UdOp::Ack, 32, 1);
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
    // One between two that are still missing.
    let mut core = sent(Config::default(), 0, 3);
    answer(&mut core, T0, UdOp::Nack, 0, 3);
    answer(&mut core, T0, UdOp::Ack, 1, 1);
    assert_eq!(transmits(&mut core, T0).0, [0, 2]);
}

#[test]
fn what_is_to_be_sent_again_stands_in_line_once() {
    // However often it is asked for.
    let mut core = sent(Config::default(), 0, 3);
    for _ in 0..100 {
        answer(&mut core, T0, UdOp::Nack, 0, 1);
    }
    assert!(matches!(core.poll_transmit(T0), Some(Transmit::Replay { packet: 0, .. })));
    assert!(!core.has_something());
    // And however often it shows that it is lost.
    let mut core = sent(Config::default(), 0, 10);
    answer(&mut core, T0, UdOp::Ack, 5, 1);
    assert_eq!(core.counters().replays_unasked, 5);
    answer(&mut core, T0, UdOp::Ack, 7, 1);
    assert_eq!(core.counters().replays_unasked, 6);
    assert_eq!(transmits(&mut core, T0).0, [0, 1, 2, 3, 4, 6]);
}

#[test]
fn a_nack_for_less_does_not_let_new_packets_out_before_what_was_asked_for_before() {
    let mut core = sent(Config::default(), 0, 10);
    answer(&mut core, T0, UdOp::Nack, 5, 3);
    answer(&mut core, T0, UdOp::Nack, 0, 2);
    answer(&mut core, T0, UdOp::Ack, 0, 2);
    assert_eq!(core.send(T0, PEER, 1, |_| unreachable!()), Err(SendError::Throttled));
    answer(&mut core, T0, UdOp::Ack, 2, 6);
    assert!(core.send(T0, PEER, 1, |psn| psn.get()).is_ok());
}

#[test]
fn a_near_peer_that_asks_all_the_time_is_not_answered_all_the_time() {
    let mut core = sent(Config::default(), 0, 2);
    // It answers within a microsecond.
    answer(&mut core, T0 + micros(1), UdOp::Ack, 0, 1);
    let asked = |core: &mut Core, at| {
        answer(core, T0 + micros(at), UdOp::Nack, 1, 1);
        transmits(core, T0 + micros(at)).0
    };
    assert_eq!(asked(&mut core, 2), [1]);
    for at in 3..12 {
        assert_eq!(asked(&mut core, at), [], "after {at} us");
    }
    assert_eq!(asked(&mut core, 12), [1]);
}

#[test]
fn nobody_is_asked_who_has_acknowledged_everything_before_his_turn() {
    let mut core = sent(Config::default(), 0, 2);
    let now = core.poll_timeout().unwrap();
    core.on_timeout(now);
    answer(&mut core, now, UdOp::Ack, 0, 2);
    assert_eq!(transmits(&mut core, now), (vec![], vec![]));
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
fn an_ack_for_what_was_sent_later_repeats_what_was_sent_before() {
    // Nobody asked: an OPX receiver's ACK at its rate, or one of our receivers at a gap.
    let mut core = sent(Config::default(), 0, 200);
    answer(&mut core, T0 + micros(5), UdOp::Ack, 65, 64);
    assert_eq!(transmits(&mut core, T0 + micros(5)), ((0..32).collect(), vec![]));
    // Another ACK for packets that were sent before those were sent again says nothing about them, but about others.
    answer(&mut core, T0 + micros(6), UdOp::Ack, 129, 2);
    assert_eq!(transmits(&mut core, T0 + micros(6)), (vec![], vec![]));
    // One for a packet sent later does.
    core.send(T0 + micros(7), PEER, 100, |psn| psn.get()).unwrap();
    answer(&mut core, T0 + micros(12), UdOp::Ack, 200, 1);
    assert_eq!(transmits(&mut core, T0 + micros(12)), ((0..32).collect(), vec![]));
    assert_eq!(core.counters().replays_unasked, 64);
}

#[test]
fn packets_that_are_only_late_teach_the_sender_to_wait() {
    let mut core = core(Config::default());
    let mut now = T0;
    let mut replays = Vec::new();
    // Each second packet overtakes the one before it by a microsecond; the answer takes ten.
    for round in 0..200u32 {
        for psn in [2 * round, 2 * round + 1] {
            assert_eq!(core.send(now, PEER, 100, |psn| psn.get()), Ok(Psn::new(psn)));
        }
        now = now + micros(10);
        answer(&mut core, now, UdOp::Ack, 2 * round + 1, 1);
        let again = transmits(&mut core, now).0;
        answer(&mut core, now + micros(1), UdOp::Ack, 2 * round, 1);
        if !again.is_empty() {
            // It has the packet already and says so.
            answer(&mut core, now + micros(2), UdOp::Ack, 2 * round, 1);
        }
        replays.extend(again);
        now = now + micros(10);
    }
    assert!(!replays.is_empty() && replays.len() < 20, "{replays:?}");
}

#[test]
fn a_gap_that_may_only_be_late_is_closed_when_its_time_has_passed() {
    let mut core = core(Config::default());
    // A packet sent in vain: from now on there is a window.
    for psn in 0..2 {
        core.send(T0, PEER, 100, |_| psn).unwrap();
    }
    answer(&mut core, T0 + micros(10), UdOp::Ack, 1, 1);
    assert_eq!(transmits(&mut core, T0 + micros(10)).0, [0]);
    answer(&mut core, T0 + micros(11), UdOp::Ack, 0, 1);
    answer(&mut core, T0 + micros(12), UdOp::Ack, 0, 1);
    let t1 = T0 + micros(100);
    for psn in 2..4 {
        core.send(t1, PEER, 100, |_| psn).unwrap();
    }
    answer(&mut core, t1 + micros(10), UdOp::Ack, 3, 1);
    assert_eq!(transmits(&mut core, t1 + micros(10)), (vec![], vec![]));
    let at = loop {
        let at = core.poll_timeout().unwrap();
        core.on_timeout(at);
        let (replays, pings) = transmits(&mut core, at);
        assert_eq!(pings, []);
        if !replays.is_empty() {
            assert_eq!(replays, [2]);
            break at;
        }
    };
    assert!(at > t1 + micros(20) && at < t1 + micros(50), "{at:?}");
    assert!(core.poll_timeout().is_some());
}

#[test]
fn only_an_answer_that_comes_too_soon_shows_that_a_packet_was_late() {
    // An answer takes 10 µs. A packet is sent again and acknowledged so much later: at once, so it had been there before, or
    // after 10 µs, so it was lost. What was late makes the sender wait the next time.
    for (after, waits) in [(1, true), (9, true), (10, false), (11, false)] {
        let mut core = core(Config::default());
        for psn in 0..3 {
            core.send(T0, PEER, 100, |_| psn).unwrap();
        }
        answer(&mut core, T0 + micros(10), UdOp::Ack, 2, 1);
        assert_eq!(transmits(&mut core, T0 + micros(10)).0, [0, 1]);
        let now = T0 + micros(10 + after);
        answer(&mut core, now, UdOp::Ack, 0, 2);
        // One more ACK, as for a packet that the fabric doubled, shows nothing.
        answer(&mut core, now, UdOp::Ack, 1, 1);
        assert!(core.is_idle());
        for psn in 3..5 {
            core.send(now, PEER, 100, |_| psn).unwrap();
        }
        answer(&mut core, now + micros(10), UdOp::Ack, 4, 1);
        assert_eq!(transmits(&mut core, now + micros(10)).0.is_empty(), waits, "{after} µs");
    }
}

#[test]
fn the_replay_pool_is_shared_and_says_again_when_it_is_used_up() {
    let mut core = core(Config { replay_pool: 3, ..Config::default() });
    let peer = |lid| Origin { lid: Lid(lid), rx: 0 };
    for lid in 0..3 {
        core.send(T0, peer(lid), 1, |psn| psn.get()).unwrap();
    }
    assert_eq!(core.replays_in_use(), 3);
    let refused = core.send(T0, peer(3), 1, |_| unreachable!()).unwrap_err();
    assert_eq!((refused, refused.is_temporary()), (SendError::ReplayPool, true));
    let ud = Ud { op: UdOp::Ack, key: key(peer(1)), start: Psn::new(0), count: 1 };
    core.on_ud(T0, peer(1), &ud);
    assert!(core.send(T0, peer(3), 1, |psn| psn.get()).is_ok());
    assert_eq!(core.counters().throttled_replay_pool, 1);
}

#[test]
fn the_first_packet_goes_alone_where_that_is_set() {
    let mut core = core(Config { first_packet_alone: true, ..Config::default() });
    core.send(T0, PEER, 1, |psn| psn.get()).unwrap();
    assert_eq!(core.send(T0, PEER, 1, |_| unreachable!()), Err(SendError::Window));
    answer(&mut core, T0, UdOp::Ack, 0, 1);
    for _ in 0..5 {
        core.send(T0, PEER, 1, |psn| psn.get()).unwrap();
    }
}

#[test]
fn the_clock_stands_still_while_the_link_is_down() {
    let config = Config { give_up_after: Duration::from_secs(10), ..Config::default() };
    let mut core = sent(config, 0, 2);
    core.link_down(T0 + micros(100));
    // What is registered now goes out later.
    core.send(T0 + micros(200), PEER, 1, |psn| psn.get()).unwrap();
    assert_eq!(core.poll_timeout(), Some(T0 + micros(100) + config.link_down_wait));
    let back = T0 + Duration::from_secs(60);
    core.on_timeout(back);
    assert_eq!(transmits(&mut core, back), (vec![], vec![]));
    core.link_up(back);
    core.on_timeout(back);
    assert_eq!(transmits(&mut core, back), (vec![], vec![(PEER, 0, 3)]));
    assert_eq!(core.poll_event(), None, "nobody is blamed for the time without a link");
    answer(&mut core, back + micros(10), UdOp::Nack, 0, 1);
    assert_eq!(transmits(&mut core, back + micros(10)).0, [0]);
    answer(&mut core, back + micros(20), UdOp::Ack, 0, 3);
    assert!(core.is_idle());
}

#[test]
fn a_link_that_stays_down_fails_what_is_outstanding() {
    let mut core = sent(Config::default(), 0, 2);
    let idle = Origin { lid: Lid(9), rx: 1 };
    core.send(T0, idle, 1, |_| 7).unwrap();
    core.on_ud(T0, idle, &Ud { op: UdOp::Ack, key: key(idle), start: Psn::new(0), count: 1 });
    assert_eq!(released(&mut core), [7]);
    core.link_down(T0);
    let limit = core.poll_timeout().unwrap();
    core.on_timeout(limit);
    assert_eq!(core.poll_event(), Some(Event::LinkLost));
    assert_eq!(core.poll_event(), Some(Event::PeerUnreachable { peer: PEER, unacked: 2 }));
    assert_eq!((core.poll_event(), released(&mut core)), (None, vec![0, 1]));
    assert!(core.is_idle() && core.poll_timeout().is_none());
    assert_eq!(core.send(limit, idle, 1, |_| unreachable!()), Err(SendError::LinkDown));
    // The peer that lost nothing can be talked to again.
    core.link_up(limit);
    assert!(core.send(limit, idle, 1, |psn| psn.get()).is_ok());
    assert_eq!(core.send(limit, PEER, 1, |_| unreachable!()), Err(SendError::Unreachable { peer: PEER }));
}

#[test]
fn a_link_that_stays_down_fails_those_that_wait_to_ask_as_well() {
    let mut core = core(Config { max_uncongested_pings: 1, ..Config::default() });
    for lid in 2..5 {
        core.send(T0, Origin { lid: Lid(lid), rx: 7 }, 1, |_| lid).unwrap();
    }
    let now = core.poll_timeout().unwrap();
    core.on_timeout(now);
    assert_eq!(transmits(&mut core, now).1.len(), 1, "the others wait for their turn");
    core.link_down(now);
    core.on_timeout(core.poll_timeout().unwrap());
    assert_eq!(released(&mut core).len(), 3);
    assert_eq!((core.is_idle(), core.counters().peers_given_up), (true, 3));
}

#[test]
fn a_link_that_stays_down_refuses_what_is_new_and_spoils_no_flow() {
    let config = Config { link_down_wait: Duration::from_secs(3), ..Config::default() };
    let mut core = sent(config, 0, 1);
    answer(&mut core, T0, UdOp::Ack, 0, 1);
    assert_eq!(released(&mut core), [0]);
    // Nothing is outstanding when the link goes down.
    core.link_down(T0);
    let limit = core.poll_timeout().unwrap();
    assert_eq!(limit, T0 + config.link_down_wait);
    core.on_timeout(limit);
    assert_eq!((core.poll_event(), core.poll_event()), (Some(Event::LinkLost), None));
    assert_eq!(core.poll_timeout(), None);
    assert_eq!(core.send(limit, PEER, 1, |_| unreachable!()), Err(SendError::LinkDown));
    core.link_up(limit);
    assert_eq!(core.send(limit, PEER, 1, |psn| psn.get()), Ok(Psn::new(1)));
}

#[test]
fn the_wrap_is_passed_with_a_gap_open() {
    let mut core = sent(Config::default(), 0xff_fff0, 32);
    answer(&mut core, T0 + micros(2), UdOp::Ack, 0, 8);
    answer(&mut core, T0 + micros(2), UdOp::Ack, 0xff_fff8, 8);
    assert_eq!(transmits(&mut core, T0 + micros(2)).0, (0xff_fff0..0xff_fff8).collect::<Vec<_>>());
    answer(&mut core, T0 + micros(4), UdOp::Ack, 0xff_fff0, 8);
    assert_eq!(released(&mut core).len(), 24);
    answer(&mut core, T0 + micros(4), UdOp::Ack, 8, 8);
    assert!(core.is_idle());
    assert_eq!(core.replays_in_use(), 0);
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
    let tick = |core: &mut Core| {
        let now = core.poll_timeout().unwrap();
        core.on_timeout(now);
        now
    };
    let lids = |core: &mut Core, now| transmits(core, now).1.iter().map(|(peer, _, _)| peer.lid.0).collect::<Vec<_>>();
    // Five of nine at first, then those that had no turn yet.
    let rounds: [Vec<u32>; 2] = std::array::from_fn(|_| {
        let now = tick(&mut core);
        lids(&mut core, now)
    });
    assert_eq!(rounds, [vec![0, 1, 2, 3, 4], vec![5, 6, 7, 8, 0]]);
    // One that finds no room ends its round; then it is two a tick, until all have had their turn.
    let now = tick(&mut core);
    assert!(core.poll_transmit(now).is_some());
    core.ping_lost();
    assert_eq!(core.poll_transmit(now), None);
    let mut rounds = Vec::new();
    while rounds.last().is_none_or(|last: &Vec<u32>| last.len() == 2) {
        let now = tick(&mut core);
        rounds.push(lids(&mut core, now));
    }
    assert!(rounds.len() >= 4, "{rounds:?}");
}

#[test]
fn a_thousand_peers_are_asked_at_the_uncongested_rate() {
    let mut core = core(Config::default());
    for lid in 0..1000 {
        core.send(T0, Origin { lid: Lid(2 + lid), rx: 0 }, 1, |psn| psn.get()).unwrap();
    }
    let (mut asked, mut ticks) = (0, 0);
    while asked < 1000 {
        let now = core.poll_timeout().unwrap();
        core.on_timeout(now);
        let pings = transmits(&mut core, now).1;
        for (peer, start, count) in &pings {
            core.on_ud(now, *peer, &Ud { op: UdOp::Ack, key: key(*peer), start: Psn::new(*start), count: *count });
        }
        (asked, ticks) = (asked + pings.len(), ticks + 1);
    }
    assert!(core.is_idle());
    assert_eq!(ticks, 8, "128 a tick");
}

/// Lets the timers run until `until`, as if the peer answered each ping with what `answers` gives; the packets sent.
fn run(core: &mut Core, until: Instant, answers: impl Fn(u32) -> Option<(UdOp, u32, u32)>) -> usize {
    let mut packets = 0;
    while let Some(now) = core.poll_timeout().filter(|at| *at < until) {
        core.on_timeout(now);
        let (_, pings) = transmits(core, now);
        packets += pings.len();
        for (op, start, count) in pings.iter().filter_map(|(_, start, _)| answers(*start)) {
            answer(core, now, op, start, count);
        }
        packets += transmits(core, now).0.len();
    }
    packets
}

#[test]
fn a_peer_that_is_silent_is_given_up() {
    let config = Config { give_up_after: Duration::from_millis(100), ..Config::default() };
    let mut core = sent(config, 0, 3);
    run(&mut core, T0 + config.give_up_after, |_| None);
    assert_eq!(core.poll_event(), None);
    let now = core.poll_timeout().unwrap();
    assert!(now < T0 + config.give_up_after + config.max_ping_interval);
    core.on_timeout(now);
    assert_eq!(core.poll_event(), Some(Event::PeerUnreachable { peer: PEER, unacked: 3 }));
    assert_eq!(core.poll_event(), None);
    assert_eq!(released(&mut core), [0, 1, 2]);
    assert_eq!(core.send(now, PEER, 1, |_| unreachable!()), Err(SendError::Unreachable { peer: PEER }));
    assert!(core.is_idle() && core.poll_timeout().is_none());
    assert_eq!(core.counters().peers_given_up, 1);
    assert!(core.send(now, Origin { lid: Lid(3), rx: 1 }, 1, |psn| psn.get()).is_ok());
}

#[test]
fn a_peer_that_answers_and_takes_nothing_is_asked_ever_more_slowly_and_not_given_up() {
    let config = Config { give_up_after: Duration::from_secs(1), ..Config::default() };
    let mut core = sent(config, 0, 40);
    let nack = |start| Some((UdOp::Nack, start, 32));
    run(&mut core, T0 + Duration::from_secs(10), nack);
    // Once in 20 ms: a ping, and 32 packets.
    let packets = run(&mut core, T0 + Duration::from_secs(20), nack);
    assert!((500..=501 * 33).contains(&packets), "{packets}");
    assert_eq!((core.poll_event(), released(&mut core).len()), (None, 0));
    // It takes them at last; then it is silent.
    let now = T0 + Duration::from_secs(20);
    answer(&mut core, now, UdOp::Ack, 0, 39);
    assert_eq!(released(&mut core).len(), 39);
    assert!(core.poll_timeout().unwrap() <= now + micros(500), "asked soon again");
    run(&mut core, now + config.give_up_after, |_| None);
    assert_eq!(core.poll_event(), None);
    run(&mut core, now + config.give_up_after * 2, |_| None);
    assert_eq!(core.poll_event(), Some(Event::PeerUnreachable { peer: PEER, unacked: 1 }));
}

#[test]
fn pings_and_data_show_that_a_peer_lives() {
    let config = Config { give_up_after: Duration::from_millis(100), ..Config::default() };
    let theirs = FlowKey { slid: PEER.lid, dlid: ME.lid, src_rx: PEER.rx, dst_rx: ME.rx };
    let ping = Ud { op: UdOp::Ping, key: theirs, start: Psn::new(0), count: 1 };
    // A ping; data in order; data again; data ahead that finds no room.
    type Sign = fn(&mut Core, Instant, u32, Ud);
    let signs: [Sign; 4] = [
        |core, now, _, ping| core.on_ud(now, PEER, &ping),
        |core, _, n, _| arrives(core, n),
        |core, _, _, _| arrives(core, 0),
        |core, _, _, _| arrives(core, 9),
    ];
    for (which, sign) in signs.into_iter().enumerate() {
        let mut core = sent(config, 0, 3);
        arrives(&mut core, 0);
        let mut now = T0;
        for n in 1..20 {
            sign(&mut core, now, n, ping);
            while core.poll_transmit(now).is_some() {}
            now = now + micros(60_000);
            while let Some(at) = core.poll_timeout().filter(|at| *at < now) {
                core.on_timeout(at);
                while core.poll_transmit(at).is_some() {}
            }
            assert_eq!(core.poll_event(), None, "sign {which} at {now:?}");
        }
        run(&mut core, now + micros(200_000), |_| None);
        assert!(core.poll_event().is_some(), "sign {which}");
    }
}

fn arrives(core: &mut Core, psn: u32) {
    core.on_data(Arrival { origin: PEER, psn: Psn::new(psn), ack_req: false, early: false }, || None);
}

#[test]
fn a_peer_that_forgot_what_it_had_is_given_up_although_it_answers() {
    // Another process has its LID and context now, and waits for our first packet.
    let config = Config { give_up_after: Duration::from_millis(100), ..Config::default() };
    let mut core = sent(config, 0, 5);
    answer(&mut core, T0, UdOp::Ack, 0, 3);
    let nack = |_| Some((UdOp::Nack, 0, 1));
    run(&mut core, T0 + Duration::from_millis(200), nack);
    assert_eq!(core.poll_event(), Some(Event::PeerUnreachable { peer: PEER, unacked: 2 }));
    // Whatever else it says of what it had before.
    let mut core = sent(config, 0, 5);
    answer(&mut core, T0, UdOp::Ack, 0, 3);
    answer(&mut core, T0, UdOp::Nack, 0, 1);
    run(&mut core, T0 + Duration::from_millis(200), |_| Some((UdOp::Ack, 0, 1)));
    assert_eq!(core.poll_event(), Some(Event::PeerUnreachable { peer: PEER, unacked: 2 }));
    // An old NACK that comes late is no sign of that.
    let mut core = sent(config, 0, 5);
    answer(&mut core, T0, UdOp::Ack, 0, 3);
    answer(&mut core, T0, UdOp::Nack, 0, 1);
    run(&mut core, T0 + Duration::from_millis(200), |start| Some((UdOp::Nack, start, 1)));
    assert_eq!(core.poll_event(), None);
}

#[test]
fn a_peer_that_gives_nothing_back_leaves_others_their_share_of_the_pool() {
    let mut core = core(Config { replay_pool: 1000, ..Config::default() });
    let peer = |lid| Origin { lid: Lid(lid), rx: 0 };
    let fill = |core: &mut Core, lid| (0..).find(|_| core.send(T0, peer(lid), 1, |psn| psn.get()).is_err()).unwrap();
    // Each gets four for one that is left.
    assert_eq!([1, 2, 3].map(|lid| fill(&mut core, lid)), [800, 160, 32]);
    assert_eq!(core.send(T0, peer(1), 1, |_| unreachable!()), Err(SendError::ReplayPool));
    assert_eq!([4, 5, 6].map(|lid| fill(&mut core, lid)), [7, 1, 0]);
    // All of it is of use, and what comes back goes to those who have little.
    let ud = Ud { op: UdOp::Ack, key: key(peer(1)), start: Psn::new(0), count: 5 };
    core.on_ud(T0, peer(1), &ud);
    assert_eq!(core.send(T0, peer(1), 1, |_| unreachable!()), Err(SendError::ReplayPool));
    assert_eq!([6, 4].map(|lid| fill(&mut core, lid)), [4, 0]);
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

#[test]
fn counters_have_their_names() {
    let mut core = sent(Config::default(), 0, 2);
    answer(&mut core, T0, UdOp::Ack, 0, 1);
    answer(&mut core, T0, UdOp::Nack, 0, 1);
    let named: std::collections::BTreeMap<_, _> = core.counters().named().into_iter().collect();
    assert_eq!(named.len(), 28, "no name twice");
    assert_eq!((named["acks_received"], named["nacks_received"], named["nacks_ignored"]), (1, 1, 1));
}
