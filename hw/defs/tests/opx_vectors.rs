//! The OPX codec against packets that libfabric 2.6.0 itself built.

use opx_defs::units::{Dwords, JobKey, Lid, Pkey, Psn, Sc, Sl, Vl};
use opx_defs::wire::opx::{
    Answer, Eager, FlowKey, Header, Immediate, Inject, Iov, Malformed, MpFirst, MpNth, Opcode, Origin, Packet, Padding,
    Route, RzvCts, RzvData, RzvOp, RzvRts, Ud, UdOp,
};

const VECTORS: &str = include_str!("../../../tests/data/opx-g4-vectors.txt");
const TAG: u64 = 0x1122_3344_5566_7788;
const CQ: u32 = 0xcafe_f00d;
const ORIGIN_COUNTER: u64 = 0x7f00_1122_3300;
const TARGET: u64 = 0x5577_aabb_cc00;
const BUFFER: u64 = 0x1_0000_0000;

struct Vector {
    pbc: u64,
    header: Header,
    payload: Vec<u8>,
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Bytes `from..to` of the message in every vector.
fn message(from: usize, to: usize) -> Vec<u8> {
    (from..to).map(|i| (7 * i + 3 + 13 * (i >> 8)) as u8).collect()
}

fn payload(text: &str) -> Vec<u8> {
    let mut words = text.split_whitespace();
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        if word == "b" {
            let mut number = || words.next().unwrap().parse().unwrap();
            out.extend(message(number(), number()));
        } else if let Some(zeros) = word.strip_prefix('+').and_then(|w| w.strip_suffix('z')) {
            out.resize(out.len() + zeros.parse::<usize>().unwrap(), 0);
        } else {
            out.extend(hex(word));
        }
    }
    out
}

fn vectors() -> Vec<(&'static str, Vector)> {
    let lines = VECTORS.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.split('|').map(str::trim);
            let name = parts.next().unwrap();
            let words = hex(&parts.next().unwrap().replace(' ', ""));
            let (pbc, header) = words.split_at(8);
            let header = Header(header.try_into().unwrap());
            let payload = payload(parts.next().unwrap_or(""));
            (name, Vector { pbc: u64::from_le_bytes(pbc.try_into().unwrap()), header, payload })
        })
        .collect()
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|(n, _)| *n == name).unwrap().1
}

fn route() -> Route {
    Route {
        slid: Lid(0x1ab),
        dlid: Lid(0xc8),
        primary_lid: Lid(0x1ab),
        src_rx: 5,
        dst_rx: 7,
        sc: Sc(0),
        sl: Sl(0),
        pkey: Pkey(0x8001),
        job_key: JobKey(0x83e8),
        qp_prefix: 0x80,
    }
}

/// The packet that was built is the vector, and the vector reads as `packet`.
fn check(name: &str, mut header: Header, payload: &[u8], psn: Option<u32>, packet: Packet<'_>) {
    let want = vector(name);
    if let Some(psn) = psn {
        header.set_psn(Psn::new(psn));
        assert_eq!(want.header.psn(), Psn::new(psn), "{name}");
        assert!(header.opcode().is_sequenced());
    }
    assert_eq!(header, want.header, "{name} header");
    assert_eq!(header.pbc(Vl(0)).0, want.pbc, "{name} PBC");
    assert_eq!(payload, want.payload, "{name} payload");
    assert_eq!(Packet::decode(&want.header, &want.payload), Ok(packet), "{name}");
}

#[test]
fn every_vector_has_the_common_fields() {
    let all = vectors();
    assert_eq!(all.len(), 24);
    for (name, v) in all {
        assert_eq!(v.header.validate(), Ok(()), "{name}");
        assert_eq!(v.header.origin(), Origin { lid: Lid(0x1ab), rx: 5 }, "{name}");
        assert_eq!((v.header.slid(), v.header.dlid(), v.header.dst_rx()), (Lid(0x1ab), Lid(0xc8), 7), "{name}");
        assert_eq!(v.header.payload_len(), v.payload.len(), "{name}");
        assert_eq!(v.header.pbc(Vl(0)).0, v.pbc, "{name}");
        assert_eq!(v.header.pbc(Vl(0)).length(), Dwords(16 + v.payload.len() as u32 / 4), "{name}");
        let mut same = v.header;
        same.set_psn(v.header.psn());
        assert_eq!(same, v.header, "{name}");
    }
}

#[test]
fn inject() {
    let one = Inject { tag: Some(TAG), cq_data: None, data: b"hello" };
    check("INJ1", one.encode(&route()).unwrap(), &[], Some(0x42), Packet::Inject(one));
    let data = message(0, 16);
    let two = Inject { tag: None, cq_data: Some(CQ), data: &data };
    check("INJ2", two.encode(&route()).unwrap(), &[], Some(0x43), Packet::Inject(two));
    assert!(Inject { tag: None, cq_data: None, data: &[0; 17] }.encode(&route()).is_err());
}

#[test]
fn eager() {
    for (name, len, psn) in [("EGR5", 5, 0x100), ("EGR8", 8, 0x101), ("EGR13", 13, 0x102), ("EGR64", 64, 0x103)] {
        let data = message(0, len);
        let packet = Eager::of(Some(TAG), None, &data);
        let mut out = [0; 64];
        let (header, n) = packet.encode(&route(), &mut out).unwrap();
        check(name, header, &out[..n], Some(psn), Packet::Eager(packet));
    }
    // A vector send pads 5 bytes to a block; only the header tells that it is padding.
    let padded = vector("EGRV5");
    let data = message(0, 5);
    let Ok(Packet::Eager(packet)) = Packet::decode(&padded.header, &padded.payload) else { panic!() };
    assert_eq!((packet.tail, packet.body, packet.message_len()), (&data[..], &[][..], 5));
}

#[test]
fn multi_packet_eager() {
    let data = message(0, 8205);
    let mut out = vec![0; 8192];
    let first = MpFirst { tag: Some(TAG), cq_data: Some(CQ), message_len: 8205, data: &data[..4096] };
    let (header, n) = first.encode(&route(), &mut out).unwrap();
    check("MPF", header, &out[..n], Some(0x200), Packet::MpFirst(first));
    for (name, from, to, psn) in [("MPN1", 4096, 8192, 0x201), ("MPN2", 8192, 8205, 0x202), ("MPN3", 8192, 8197, 0x203)]
    {
        let nth = MpNth::of(Psn::new(0x200), from as u32, &data[from..to]);
        let (header, n) = nth.encode(&route(), &mut out).unwrap();
        check(name, header, &out[..n], Some(psn), Packet::MpNth(nth));
    }
}

#[test]
fn rendezvous_offer() {
    let data = message(0, 20013);
    let cases = [
        ("RTS1", 20013, true, Some(CQ), 0x6d, 0x300),
        ("RTS2", 20013, false, None, 0x2d, 0x301),
        ("RTS3", 16448, false, None, 0, 0x302),
    ];
    for (name, len, expected, cq_data, sent, psn) in cases {
        let immediate = Immediate::of(&data[..len], expected);
        assert_eq!(immediate.message_bytes(), sent);
        let rts = RzvRts {
            tag: Some(TAG),
            cq_data,
            len: len as u64,
            src_vaddr: BUFFER + sent as u64,
            src_device: 0,
            src_iface: 0,
            origin_counter: 0,
            immediate,
        };
        let mut out = [0xee; 192];
        let (header, n) = rts.encode(&route(), &mut out).unwrap();
        check(name, header, &out[..n], Some(psn), Packet::RzvRts(rts));
        assert_eq!(rts.src_len() % 64, 0);
    }
}

#[test]
fn rendezvous_answer() {
    let cts = RzvCts {
        origin_counter: ORIGIN_COUNTER,
        answer: Answer::Send {
            op: RzvOp::Rzv,
            target_cookie: TARGET,
            iov: Iov { rbuf: 0x7f11_2233_4455, sbuf: BUFFER + 0x45, bytes: 19904, ..Iov::default() },
            second: None,
        },
    };
    let mut out = [0xee; 128];
    let (header, n) = cts.encode(&route(), &mut out).unwrap();
    check("CTS1", header, &out[..n], Some(0x400), Packet::RzvCts(cts));
    let refusal = RzvCts { origin_counter: ORIGIN_COUNTER, answer: Answer::Truncated };
    let (header, n) = refusal.encode(&route(), &mut out).unwrap();
    check("CTS3", header, &out[..n], Some(0x402), Packet::RzvCts(refusal));
    for name in ["CTS2", "GETQ"] {
        let other = vector(name);
        assert!(matches!(Packet::decode(&other.header, &other.payload), Err(Malformed::Unsupported { .. })), "{name}");
    }
}

#[test]
fn rendezvous_data() {
    let data = message(0, 100);
    let mut packet =
        RzvData { op: RzvOp::Rzv, target_cookie: TARGET, rbuf: 0x7f11_2233_4455, len: 100, ack_req: false };
    let header = packet.encode(&route(), Padding::Block).unwrap();
    let padded: Vec<u8> = data.iter().copied().chain([0; 28]).collect();
    check("DAT1", header, &padded, Some(0x500), Packet::RzvData(packet, &data));

    packet.ack_req = true;
    let mut header = packet.encode(&route(), Padding::Qword).unwrap();
    header.set_psn(Psn::new(0xab_cdef));
    assert!(header.ack_req());
    assert_eq!(header.as_bytes()[16..20], [0x80, 0xab, 0xcd, 0xef]);
    assert_eq!((header.psn(), header.payload_len()), (Psn::new(0xab_cdef), 104));
    assert_eq!(RzvData::decode(&header, &padded), Ok((packet, &data[..])));

    let put = vector("PUT1");
    assert!(put.header.ack_req());
    let error = Malformed::Unsupported { name: "DPUT opcode", value: 1 };
    assert_eq!(Packet::decode(&put.header, &put.payload), Err(error));
}

#[test]
fn reliability() {
    let ours = FlowKey { slid: Lid(0x1ab), dlid: Lid(0xc8), src_rx: 5, dst_rx: 7 };
    let theirs = FlowKey { slid: Lid(0xc8), dlid: Lid(0x1ab), src_rx: 7, dst_rx: 5 };
    let ud = |op, key, start, count| Ud { op, key, start: Psn::new(start), count };
    let cases = [
        ("PING", ud(UdOp::Ping, ours, 0x40, 3)),
        ("ACK", ud(UdOp::Ack, theirs, 0x40, 3)),
        ("NACK", ud(UdOp::Nack, theirs, 0x43, 1)),
    ];
    for (name, packet) in cases {
        check(name, packet.encode(&route()), &[], None, Packet::Ud(packet));
        assert!(!packet.encode(&route()).opcode().is_sequenced());
    }
    // A range that goes past the highest PSN is cut there.
    let cut = ud(UdOp::Ping, ours, 0xff_fffe, 2);
    check("PINGW", ud(UdOp::Ping, ours, 0xff_fffe, 16).encode(&route()), &[], None, Packet::Ud(cut));
    assert_eq!(cut.encode(&route()).opcode(), Opcode::Ud);
}
