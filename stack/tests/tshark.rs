//! Captures, read by tshark with the dissector of `tools/dissector`: every packet kind that endpoints send, in the oldest and the
//! newest generation. Without tshark nothing is tested, which is said, unless `OPX_TSHARK_REQUIRED` is set.

mod common;

use common::{bench, data};
use opx_defs::wire::opx::Generation;
use opx_stack::observe::{Recording, Tap};
use opx_stack::{Config, Outgoing, Pattern};
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

const DISSECTOR: &str = concat!("lua_script:", env!("CARGO_MANIFEST_DIR"), "/../tools/dissector/opx.lua");
const FIELDS: [&str; 16] = [
    "frame.interface_name",
    "opx.generation",
    "opx.kind",
    "opx.psn",
    "opx.origin.lid",
    "opx.origin.rx",
    "opx.tag",
    "opx.cq_data",
    "opx.len",
    "opx.data",
    "opx.mp.offset",
    "opx.dput",
    "opx.bytes",
    "opx.ud.op",
    "opx.bth.dst_rx",
    "opx.icrc",
];

fn has_tshark() -> bool {
    let found = Command::new("tshark").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var_os("OPX_TSHARK_REQUIRED").is_none(),
            "tshark is required and isn't there: apt-get install tshark"
        );
        eprintln!("skipped: there is no tshark (apt-get install tshark); OPX_TSHARK_REQUIRED=1 makes that an error");
    }
    found
}

fn tshark(capture: &Path, arguments: &[&str]) -> String {
    let output = Command::new("tshark").args(["-X", DISSECTOR, "-r"]).arg(capture).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tshark_reads_every_packet_of_a_run() {
    if !has_tshark() {
        return;
    }
    for generation in [Generation::G1, Generation::G4] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.pcapng");
        let tap = Tap::create(&path, generation).unwrap();
        let mut bench = bench(Config { generation, recorder: Recording::Memory, ..Config::default() });
        bench.a.set_tap(Some(tap.clone()));
        bench.b.set_tap(Some(tap.clone()));
        bench.adapter.set_tap(tap.on_wire());
        let (me, to) = (bench.a.address(), bench.b.address());
        for tag in 1..=4 {
            bench.b.tag_receive(Pattern::exact(tag), vec![0; 200_000], tag).unwrap();
        }
        bench.a.inject_message(to, Some(1), None, b"hello").unwrap();
        // The oldest generation sends its first packet alone.
        bench.quiet();
        let eager = Outgoing { tag: Some(2), data: Some(0xabcd), ..Outgoing::new(to, data(2, 1003), 2) };
        bench.a.send_message(eager).unwrap();
        bench.a.tag_send(to, 3, data(3, 12_000), 3).unwrap();
        bench.a.tag_send(to, 4, data(4, 100_001), 4).unwrap();
        bench.quiet();
        bench.run(|bench| bench.b.counters().received_messages == 4);

        // Nothing that the dissector complains of, no error of its own.
        assert_eq!(tshark(&path, &["-Y", "_ws.expert || _ws.malformed"]), "");
        // As docs/observability.md has it.
        let received = tshark(&path, &["-Y", r#"opx.kind == "RZV_DATA" && frame.interface_name == "receive""#]);
        assert!(!received.is_empty());
        let fields: Vec<_> = FIELDS.iter().flat_map(|field| ["-e", field]).collect();
        let options = ["-T", "fields", "-E", "separator=;", "-E", "occurrence=f"];
        let text = tshark(&path, &[&options[..], &fields].concat());
        let packets: Vec<HashMap<&str, &str>> =
            text.lines().map(|line| FIELDS.into_iter().zip(line.split(';')).collect()).collect();
        assert_eq!(packets.len() as u64, tap.packets());
        let on =
            |interface: &str| packets.iter().filter(|it| it["frame.interface_name"] == interface).collect::<Vec<_>>();
        let (sent, wire, received) = (on("send"), on("wire"), on("receive"));
        assert!(sent.len() > 20 && sent.len() == wire.len() && wire.len() == received.len(), "{text}");
        assert!(wire.iter().all(|it| !it["opx.icrc"].is_empty()) && sent.iter().all(|it| it["opx.icrc"].is_empty()));
        assert!(packets.iter().all(|it| it["opx.generation"] == format!("{generation:?}")));

        // What a sent, and what b took, is the same.
        let of_a = |list: &[&HashMap<&str, &str>]| {
            let of_a = list.iter().filter(|it| it["opx.origin.rx"] == me.rx.to_string());
            of_a.map(|it| (it["opx.kind"].to_owned(), it["opx.psn"].to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(of_a(&sent), of_a(&received));
        // And what the endpoint itself says of it.
        let ours = bench.b.recorded().into_iter().filter_map(|record| record.header);
        let ours = ours.filter(|header| header.origin_in(generation).rx == me.rx && header.dst_rx() == to.rx);
        let psns: Vec<_> = ours
            .filter(|header| header.opcode_in(generation).is_sequenced())
            .map(|header| format!("0x{:06x}", header.psn().get()))
            .collect();
        let theirs: Vec<_> = of_a(&wire).into_iter().filter(|(kind, _)| kind != "UD").map(|(_, psn)| psn).collect();
        assert_eq!(psns, theirs);

        let of_kind = |kind: &str| sent.iter().filter(|it| it["opx.kind"] == kind).collect::<Vec<_>>();
        let [inject] = of_kind("INJECT")[..] else { panic!("{text}") };
        assert_eq!(
            (inject["opx.data"], inject["opx.len"], inject["opx.tag"]),
            ("68656c6c6f", "5", "0x0000000000000001")
        );
        assert_eq!(inject["opx.bth.dst_rx"], to.rx.to_string());
        let [eager] = of_kind("EAGER")[..] else { panic!("{text}") };
        assert_eq!((eager["opx.len"], eager["opx.cq_data"]), ("1003", "0x0000abcd"));
        assert_eq!(eager["opx.data"], data(2, 1003)[..3].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let [first] = of_kind("MP_EAGER_FIRST")[..] else { panic!("{text}") };
        assert_eq!((first["opx.len"], first["opx.tag"]), ("12000", "0x0000000000000003"));
        let later: Vec<_> = of_kind("MP_EAGER_NTH").iter().map(|it| it["opx.mp.offset"].to_owned()).collect();
        let start = if generation == Generation::G1 { 4112 } else { 4096 };
        assert_eq!(later[0], start.to_string());
        assert_eq!(later.len(), 2);
        let [offer] = of_kind("RZV_RTS")[..] else { panic!("{text}") };
        assert_eq!((offer["opx.len"], offer["opx.tag"]), ("100001", "0x0000000000000004"));
        let [answer] = of_kind("RZV_CTS")[..] else { panic!("{text}") };
        assert_eq!((answer["opx.dput"], answer["opx.origin.rx"]), ("0", &to.rx.to_string()[..]));
        // 33 bytes and a line of 64 went with the offer.
        let pieces: u64 = of_kind("RZV_DATA").iter().map(|it| it["opx.bytes"].parse::<u64>().unwrap()).sum();
        assert_eq!((pieces, answer["opx.bytes"]), (100_001 - 97, "99904"));
        assert!(of_kind("UD").iter().any(|it| it["opx.ud.op"] == "ACK" && it["opx.origin.rx"] == to.rx.to_string()));
        assert_eq!(first["opx.origin.lid"], me.lid.0.to_string());
    }
}
