//! Looking into endpoints: counters by OPX's names, state dumps, the flight recorder, link checks, explanations.

mod common;

use common::{bench, data};
use opx_bus::{PacketFaults, PciFunction};
use opx_defs::wire::opx::{Generation, Opcode};
use opx_stack::observe::{Event, Message, Path, Reason, Recording};
use opx_stack::{Completion, Config, Endpoint, Outgoing, Pattern, SendError, Thresholds};
use std::collections::BTreeMap;
use std::time::Duration;

/// Counters by `group.name`.
fn counters(end: &Endpoint<opx_emu::EmuBus>) -> BTreeMap<String, u64> {
    end.named_counters().map(|(group, name, value)| (format!("{group}.{name}"), value)).collect()
}

#[test]
fn counters_say_what_happened_under_the_names_of_opx() {
    let mut bench = bench(Config::default());
    let to = bench.b.address();
    // One of each: injected, eager, of several packets (asked for before and after it came), offered (likewise).
    bench.b.receive(None, vec![0; 16], 1).unwrap();
    bench.b.tag_receive(Pattern::exact(2), vec![0; 20_000], 2).unwrap();
    bench.b.tag_receive(Pattern::exact(3), vec![0; 100_000], 3).unwrap();
    bench.a.inject(to, b"short").unwrap();
    for (tag, len) in [(2, 16_000), (3, 100_000), (4, 16_000), (5, 50_000), (6, 100)] {
        bench.a.tag_send(to, tag, data(tag, len), tag).unwrap();
    }
    bench.run(|bench| bench.b.counters().received_messages == 3 && bench.b.counters().unexpected_messages == 3);
    bench.run(|bench| bench.a.reliability_counters().acks_received > 0 && !bench.b.progress().unwrap());
    for tag in [4, 5, 6] {
        bench.b.tag_receive(Pattern::exact(tag), vec![0; if tag == 4 { 10 } else { 60_000 }], tag).unwrap();
    }
    bench.quiet();
    let ended: Vec<_> = std::iter::from_fn(|| bench.b.poll_completion()).collect();
    assert_eq!(ended.iter().filter(|end| matches!(end, Completion::Failed { .. })).count(), 1, "{ended:?}");
    let (sent, received) = (counters(&bench.a), counters(&bench.b));
    // 16,000 bytes are 3 packets of 4096 after the first one.
    for (name, value) in [
        ("mp_eager.send_first_packets", 2),
        ("mp_eager.send_nth_packets", 6),
        ("endpoint.sent_messages", 6),
        ("endpoint.offers_sent", 2),
        // Rendezvous data: 150,000 bytes in pieces of 8192, but for what went along.
        ("engine.rendezvous_packets", 13 + 7),
        ("rhf.error", 0),
        ("reliability.replay_rzv", 0),
    ] {
        assert_eq!(sent[name], value, "{name}");
    }
    for (name, value) in [
        ("mp_eager.recv_first_packets", 2),
        ("mp_eager.recv_nth_packets", 6),
        ("mp_eager.recv_nth_match", 6),
        ("mp_eager.recv_nth_no_match", 0),
        ("mp_eager.recv_completed_eager_nth", 1),
        ("mp_eager.recv_completed_process_context", 1),
        ("mp_eager.recv_truncation", 1),
        ("mp_eager.total_completed", 2),
        ("recv.posted_recv_msg", 1),
        ("recv.posted_recv_tag", 5),
        ("recv.rzv_rts_pkt_early.n", 1),
        ("recv.rzv_rts_rcv_early.n", 1),
        ("match.total_searches", 6),
        ("match.total_hits", 3),
        ("match.total_not_found", 3),
        ("match.default_searches", 1),
        ("match.ue_hash_tag_max_length", 3),
        ("expected_receive.rts_tid_ineligible", 2),
    ] {
        assert_eq!(received[name], value, "{name}");
    }
    assert_eq!(received["reliability_ping.acks_sent"], sent["reliability_ping.acks_received"]);
}

/// A state dump, read back: the value behind each name of the parts before the flows, and the cells of the lines of flows.
struct Dump {
    values: BTreeMap<String, String>,
    rx_flows: Vec<Vec<String>>,
    tx_flows: Vec<Vec<String>>,
    records: Vec<String>,
}

fn parse(text: &str) -> Dump {
    let mut dump = Dump { values: BTreeMap::new(), rx_flows: Vec::new(), tx_flows: Vec::new(), records: Vec::new() };
    let prefix = format!("({}) ", std::process::id());
    let mut rx = true;
    for line in text.lines() {
        let Some(line) = line.strip_prefix(&prefix) else { continue };
        if let Some(record) = line.strip_prefix("@ ") {
            dump.records.push(record.to_owned());
        } else if line.contains(" RX Flow RB Tree ") {
            rx = true;
        } else if line.contains(" TX Flow RB Tree ") {
            rx = false;
        } else if line.starts_with("# [") {
            let cells = line.trim_matches(['#', ' ']).split_whitespace().map(str::to_owned).collect();
            if rx { dump.rx_flows.push(cells) } else { dump.tx_flows.push(cells) }
        } else if let Some((name, value)) = line.split_once(": ").filter(|_| !line.starts_with('#')) {
            dump.values.entry(name.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
        }
    }
    dump
}

#[test]
fn a_dump_tells_the_state_in_opx_shape() {
    let mut bench = bench(Config { recorder: Recording::Memory, ..Config::default() });
    let (me, to) = (bench.a.address(), bench.b.address());
    bench.a.tag_receive(Pattern::exact(9), vec![0; 8], 9).unwrap();
    // What is sent isn't acknowledged yet; one message came unasked.
    bench.b.tag_inject(me, 1, b"early").unwrap();
    bench.run(|bench| bench.a.counters().unexpected_messages == 1);
    for n in 0..3 {
        bench.a.tag_send(to, n, vec![0; 100], n).unwrap();
    }
    bench.a.tag_send(to, 7, vec![0; 1 << 20], 7).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = bench.a.dump_state(directory.path()).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let expected = format!("{}-{}-{:06X}-{:02X}00.out", host.trim(), std::process::id(), me.lid.0, me.rx);
    assert_eq!(name, expected);
    let text = std::fs::read_to_string(&path).unwrap();
    let dump = parse(&text);
    for (name, value) in [
        ("work_pending_completion.head", "- (4)"),
        ("tx.cq_pending_ptr", "- (4)"),
        ("TAG     queue[0].mq.head", "- (1)"),
        ("TAG     queue[0].ue.head", "- (1)"),
        ("MSG     queue[1].mq.head", "- (0)"),
        ("endpoint.sent_messages", "4"),
        ("mp_eager.send_first_packets", "0"),
        ("tx->pio_state->credits_total", "256"),
        ("hfi->info.sdma.queue_size", "2048"),
        ("tx->pio_max_eager_tx_bytes", "8192"),
        ("opx_ep->rx->self.planes[OPX_PRIMARY_PLANE].lid", &format!("{:04X}", me.lid.0)),
    ] {
        assert_eq!(dump.values[name], value, "{name}\n{text}");
    }
    let total = |name: &str| dump.values[name].parse::<u32>().unwrap();
    assert_eq!(total("credits in use") + total("credits available"), 256);
    let key = |from: opx_stack::Address, to: opx_stack::Address| {
        format!("[{:06X}.{:02X}00.{:06X}.{:02X}00]", from.lid.0, from.rx, to.lid.0, to.rx)
    };
    // Next PSN, kept ones, first and last of them, pointer.
    assert_eq!(dump.rx_flows, [[&key(to, me), "00000001", "000000", "000000", "000000", "0000000000000000"]]);
    // Next PSN, throttle, NACKs, bytes, replays, first and last PSN. A header counts 56 bytes; 100 bytes are 96 of payload, and an offer has 128.
    let bytes = (3 * (56 + 96) + 56 + 128).to_string();
    assert_eq!(dump.tx_flows, [[&key(me, to), "000004", "0", "0", &bytes, "4", "000000", "000003"]]);
    let lines = |what: &str| dump.records.iter().filter(|record| record.contains(what)).count();
    assert_eq!((lines("sent by PIO"), lines("delivered")), (4, 1), "{text}");
    assert!(text.contains("observe::a_dump_tells_the_state"), "where the caller is:\n{text}");
    // A second one takes its place.
    bench.a.dump_state(directory.path()).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_dump_stays_small_however_much_there_is_to_tell() {
    let mut bench = bench(Config { recorder: Recording::Memory, slots: 8192, ..Config::default() });
    for n in 0..3000 {
        let to = opx_stack::Address { lid: opx_defs::units::Lid(2 + n), rx: 1 };
        bench.a.tag_inject(to, 1, b"x").unwrap();
    }
    let mut text = Vec::new();
    bench.a.write_state(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(parse(&text).tx_flows.len(), 1024);
    assert!(text.contains("# and 1976 more"));
    assert!(text.len() < 1 << 20, "{}", text.len());
}

#[test]
fn a_dump_that_cannot_be_written_is_an_error_and_no_more() {
    let mut bench = bench(Config::default());
    assert!(bench.a.dump_state(std::path::Path::new("/proc/none")).is_err());
    let mut full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    assert!(bench.a.write_state(&mut full).is_err());
    // Nothing is written through a link that waits under the name.
    let directory = tempfile::tempdir().unwrap();
    let path = bench.a.dump_state(directory.path()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let victim = directory.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    assert!(bench.a.dump_state(directory.path()).is_err());
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn the_recorder_tells_what_became_of_each_packet() {
    let mut bench = bench(Config { recorder: Recording::Memory, ..Config::default() });
    bench.adapter.set_wire_faults(PacketFaults { loss: 10.0, duplicate: 10.0, reorder: 10.0, corrupt: 5.0 }, 3);
    let to = bench.b.address();
    for n in 0..40 {
        bench.b.tag_receive(Pattern::exact(n), vec![0; 5000], n).unwrap();
        bench.a.tag_send(to, n, data(n, if n % 2 == 0 { 40 } else { 5000 }), n).unwrap();
    }
    bench.quiet();
    let (sent, received) = (bench.a.recorded(), bench.b.recorded());
    let count =
        |records: &[opx_stack::observe::Record], event| records.iter().filter(|it| it.event == event).count() as u64;
    assert_eq!(count(&sent, Event::Replayed), bench.a.counters().retransmits);
    assert_eq!(count(&received, Event::Duplicate), bench.b.reliability_counters().duplicates_received);
    assert_eq!(count(&received, Event::Held), bench.b.reliability_counters().uepkt_received);
    assert_eq!(count(&received, Event::Broken), bench.b.counters().packets_in_error);
    assert!(count(&received, Event::Duplicate) > 0 && count(&received, Event::Held) > 0);
    assert_eq!(count(&received, Event::Delivered) + count(&received, Event::Held), 40);
    assert!(count(&sent, Event::SentByEngine) >= 20);
    // Acknowledgements one way; what was lost of them isn't seen at the other end.
    let (answers, heard) = (count(&received, Event::ServiceSent), count(&sent, Event::ServiceReceived));
    assert!(heard > 0 && answers > 0);
    let protocol = bench.b.reliability_counters();
    assert_eq!(answers, protocol.acks_sent + protocol.nacks_sent + protocol.pings_sent);
    // In order, and each with the packet that it is about.
    assert!(sent.windows(2).all(|pair| pair[0].at <= pair[1].at && pair[0].number + 1 == pair[1].number));
    let eager = sent.iter().find(|record| record.event == Event::SentByEngine).unwrap();
    assert!(matches!(eager.header.unwrap().opcode(), Opcode::Eager(_)), "{eager:?}");
    assert_eq!(eager.payload, 5000);
}

#[test]
fn a_recording_outlives_its_endpoint() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recording::Directory(directory.path().to_owned());
    let mut bench = bench(Config { recorder, generation: Generation::G2, ..Config::default() });
    let to = bench.b.address();
    bench.a.tag_inject(to, 1, b"last words").unwrap();
    let dump = bench.a.dump_state(directory.path()).unwrap();
    let opened = opx_stack::observe::recorder::Reader::open(&dump.with_extension("rec")).unwrap();
    assert_eq!((opened.endpoint, opened.generation), (bench.a.address(), Generation::G2));
    drop(bench);
    let records = opened.records().unwrap();
    let [sent] = records[..] else { panic!("{records:?}") };
    assert_eq!(sent.event, Event::Sent);
    assert!(sent.line(Generation::G2).contains("Inject"), "{}", sent.line(Generation::G2));

    let nowhere = Config { recorder: Recording::Directory("/proc/none".into()), ..Config::default() };
    let bench = common::bench(Config::default());
    let refused = Endpoint::open(&bench.hfi, nowhere).unwrap_err();
    assert!(matches!(refused, opx_stack::OpenError::Recorder(_)), "{refused}");
}

#[test]
fn the_link_is_checked_at_once_and_then_four_times_a_second() {
    let config = Config::default();
    assert_eq!(config.health_interval, Duration::from_millis(250));
    assert_eq!(config.reliability.link_down_wait, Duration::from_secs(70));
    let mut bench = bench(config);
    assert_eq!(bench.a.counters().link_checks, 0);
    bench.a.progress().unwrap();
    assert_eq!(bench.a.counters().link_checks, 1, "the first poll after it was opened");
    bench.a.progress().unwrap();
    assert_eq!(bench.a.counters().link_checks, 1);
    // From then on at each multiple of the interval, whether there is traffic or not.
    let interval = 250_000_000;
    let looks = |bench: &common::Bench| bench.hfi.bus().now().as_nanos() / interval;
    let first = looks(&bench);
    let to = bench.b.address();
    for n in 0..20_000u64 {
        bench.hfi.bus().pause(Duration::from_micros(500));
        if n > 10_000 {
            let _ = bench.a.tag_inject(to, 1, b"x");
        }
        bench.a.progress().unwrap();
        bench.b.progress().unwrap();
        assert_eq!(bench.a.counters().link_checks, 1 + looks(&bench) - first, "at {:?}", bench.hfi.bus().now());
    }
    assert!(bench.a.counters().link_checks >= 40);
}

#[test]
fn messages_go_the_way_that_is_explained() {
    let usual = Thresholds::default();
    for (thresholds, pio_blocks) in [
        (usual, 256),
        (Thresholds { no_multi_packet: true, ..usual }, 256),
        (Thresholds { sdma_min: 5000, no_tid: true, ..usual }, 256),
        (Thresholds { eager_max: 2000, rendezvous_min: 9000, ..usual }, 256),
        (usual, 32),
        (Thresholds { rendezvous_min: 1000, no_sdma: true, ..usual }, 256),
        (Thresholds { packet_max: 2048, ..usual }, 256),
    ] {
        let name = format!("{thresholds:?} {pio_blocks}");
        let mut bench = bench(Config { recorder: Recording::Memory, thresholds, pio_blocks, ..Config::default() });
        let to = bench.b.address();
        for len in [0, 16, 500, 999, 1000, 1273, 2000, 2001, 8192, 8193, 8999, 9000, 16384, 16385, 100_000] {
            for tagged in [false, true] {
                let message = if tagged { Message::tagged(to, len) } else { Message::untagged(to, len) };
                let path = bench.a.explain(message).path.unwrap();
                let already = bench.a.recorded().last().map_or(0, |record| record.number + 1);
                let outgoing = Outgoing { tag: tagged.then_some(1), ..Outgoing::new(to, vec![0; len], 1) };
                bench.a.send_message(outgoing).unwrap();
                if tagged {
                    bench.b.tag_receive(Pattern::exact(1), vec![0; len], 1).unwrap();
                } else {
                    bench.b.receive(None, vec![0; len], 1).unwrap();
                }
                bench.quiet();
                let records: Vec<_> = bench.a.recorded().into_iter().filter(|it| it.number >= already).collect();
                let left = |what: &dyn Fn(Opcode) -> bool| {
                    let sent = records.iter().filter(|it| matches!(it.event, Event::Sent | Event::SentByEngine));
                    sent.filter(|it| it.header.is_some_and(|header| what(header.opcode())))
                        .map(|it| it.event)
                        .collect::<Vec<_>>()
                };
                let eager = left(&|opcode| matches!(opcode, Opcode::Inject(_) | Opcode::Eager(_)));
                let first = left(&|opcode| matches!(opcode, Opcode::MpFirst(_)));
                let pieces = left(&|opcode| matches!(opcode, Opcode::RzvData));
                let went = match (eager.len(), first.len(), pieces.first()) {
                    (1, 0, None) => Path::Eager,
                    (0, 1, None) => Path::MultiPacket,
                    (0, 0, Some(Event::SentByEngine)) => Path::RendezvousSdma,
                    (0, 0, Some(Event::Sent)) => Path::RendezvousPio,
                    other => panic!("{other:?}"),
                };
                assert_eq!(went, path, "{len} bytes, tagged: {tagged}, {name}");
            }
        }
    }
}

#[test]
fn a_slower_way_than_was_asked_for_is_an_error() {
    let mut bench = bench(Config { expect: Some(Path::MultiPacket), ..Config::default() });
    let to = bench.b.address();
    bench.a.tag_send(to, 1, vec![0; 16_384], 1).unwrap();
    let refused = bench.a.send(to, vec![7; 10_000], 2).unwrap_err();
    let SendError::Slower(slower) = refused.error else { panic!("{}", refused.error) };
    assert_eq!((slower.expected, slower.path, slower.why), (Path::MultiPacket, Path::RendezvousPio, Reason::Untagged));
    assert_eq!(refused.buffer, vec![7; 10_000], "the buffer comes back");
    assert_eq!(
        refused.error.to_string(),
        "it was to go by multi-packet eager or better and would go by rendezvous by PIO: multi-packet eager doesn't \
         take it, because only tagged messages go this way"
    );
    // A message may ask for less, or for more.
    let message = Outgoing::new(to, vec![0; 10_000], 3);
    bench.a.send_message(Outgoing { expect: Some(Path::RendezvousPio), ..message.clone() }).unwrap();
    let strict = Outgoing { expect: Some(Path::Inject), ..Outgoing::new(to, vec![0; 8], 4) };
    let SendError::Slower(slower) = bench.a.send_message(strict).unwrap_err().error else { panic!() };
    assert_eq!(slower.why, Reason::NotInjected);
    assert_eq!(bench.a.counters().sent_messages, 2);
}
