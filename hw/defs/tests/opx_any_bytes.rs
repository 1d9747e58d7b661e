//! The OPX codec against any bytes at all: it never panics, and what it accepts it can write again.

use opx_defs::units::{JobKey, Lid, Pkey, Psn, Sc, Sl, Vl};
use opx_defs::wire::opx::{
    Atomic, Dput, DputOp, Eager, Fetch, FlowKey, Generation, Header, Immediate, Inject, Iov, MpFirst, MpNth, Opcode,
    Origin, Packet, Padding, RmaCts, RmaOp, RmaRts, Route, RzvRts, RzvTidCts, Ud, UdOp,
};
use proptest::prelude::*;
use zerocopy::little_endian::U32;

fn route(generation: Generation, lid: u32, src_rx: u8, dst_rx: u8) -> Route {
    Route {
        slid: Lid(lid & 0xffff),
        dlid: Lid(9),
        primary_lid: Lid(lid),
        src_rx,
        dst_rx,
        sc: Sc(3),
        sl: Sl(2),
        pkey: Pkey(0xffff),
        job_key: JobKey(7),
        qp_prefix: 0x80,
        generation,
    }
}

/// Writes a decoded packet again and reads that.
fn again(generation: Generation, packet: &Packet<'_>, payload: &[u8]) {
    let route = route(generation, 0x12_3456, 5, 7);
    let mut out = vec![0; 20_000];
    let (header, len) = match packet {
        Packet::Inject(p) => (p.encode(&route).unwrap(), 0),
        Packet::Eager(p) => match p.encode(&route, &mut out) {
            Ok(done) => done,
            // Longer than any packet that OPX sends; LRH can say so nonetheless.
            Err(_) => return assert!(p.body.len() > 10_240),
        },
        Packet::MpFirst(p) => match p.encode(&route, &mut out) {
            Ok(done) => done,
            // Or one of G1 with a tail of 16 bytes that the message has no room for.
            Err(_) => return assert!(p.data.len() > 10_240),
        },
        Packet::MpNth(p) => match p.encode(&route, &mut out) {
            Ok(done) => done,
            Err(_) => return assert!(p.body.len() > 10_240),
        },
        Packet::RzvRts(p) => p.encode(&route, &mut out).unwrap(),
        Packet::RzvCts(p) => p.encode(&route, &mut out).unwrap(),
        Packet::RzvData(p, data) => {
            out[..data.len()].copy_from_slice(data);
            (p.encode(&route, Padding::Qword).unwrap(), Padding::Qword.pad(data.len()))
        }
        Packet::Dput(p, data) => {
            out[..data.len()].copy_from_slice(data);
            let padding = if data.len() % 8 == 0 { Padding::Qword } else { Padding::Block };
            if p.op == DputOp::RzvTid && data.len() % 8 != 0 {
                return;
            }
            if let Ok(fetch) = Fetch::decode(p, data) {
                let mut payload = vec![0; data.len()];
                assert_eq!(fetch.encode(p.atomic, p.name, p.place, &mut payload), Ok(Dput { ack_req: false, ..*p }));
                assert_eq!(payload, *data);
            }
            (p.encode(&route, padding).unwrap(), padding.pad(data.len()))
        }
        Packet::RzvTidCts(p) => p.encode(&route, &mut out).unwrap(),
        Packet::RmaCts(p) => p.encode(&route, &mut out).unwrap(),
        Packet::RmaRts(p) => p.encode(&route, &mut out).unwrap(),
        Packet::Ud(p) => (p.encode(&route), 0),
        other => panic!("{other:?}"),
    };
    assert_eq!(header.payload_len(), len);
    assert!(len <= payload.len().next_multiple_of(64));
    let there = Packet::decode_in(generation, &header, &out[..len]).unwrap();
    assert_eq!(*packet, there);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_panic(
        mut bytes in prop::array::uniform32(any::<u8>()).prop_flat_map(|a| (Just(a), prop::array::uniform24(any::<u8>()))),
        opcode in prop::sample::select(
            vec![0xc1u8, 0xc2, 0xc3, 0xc6, 0xeb, 0xec, 0xef, 0xf0, 0xf3, 0xf5, 0xf6, 0xf8, 0xfb, 0xfe, 0x00]
        ),
        generation in prop::sample::select(Generation::ALL.to_vec()),
        tidy in any::<[bool; 6]>(),
        dwords in 15u16..80,
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        // Some fields are put right, so that the decoders get further than the first check.
        let [lnh, op, version, subctxt, length, small] = tidy;
        if lnh { bytes.0[1] = 2; }
        if op { bytes.0[8] = opcode; }
        if version { bytes.0[23] = 0x40; }
        if subctxt { bytes.0[14] &= 0xf8; bytes.0[20] = if generation == Generation::G4 { bytes.0[20] & 0xf8 } else { 0 }; bytes.0[19] &= 0xfe; bytes.0[31] = 0; bytes.1[0] &= 0xf8; }
        if length { [bytes.0[4], bytes.0[5]] = dwords.to_be_bytes(); }
        if small { bytes.1[1] = 0; bytes.1[2] = 0; bytes.1[4] = 0; bytes.1[5] = 0; bytes.1[6] = 1; bytes.1[7] = 0; }
        let mut header = Header([0; 56]);
        header.0[..32].copy_from_slice(&bytes.0);
        header.0[32..].copy_from_slice(&bytes.1);
        let _ = (header.origin_in(generation), header.ack_req(), header.pbc(Vl(0)), format!("{header:?}"));
        let psn = header.psn();
        header.set_psn(Psn::MAX);
        prop_assert_eq!(header.psn(), Psn::MAX);
        header.set_psn(psn);
        if let Ok(packet) = Packet::decode_in(generation, &header, &payload) {
            prop_assert!(header.payload_len() <= payload.len());
            again(generation, &packet, &payload);
        }
    }

    #[test]
    fn origin_comes_back(
        generation in prop::sample::select(Generation::ALL.to_vec()),
        lid in 0u32..0x100_0000, src_rx: u8, dst_rx: u8, opcode: u8, psn in 0u32..0x100_0000,
    ) {
        let route = route(generation, lid, src_rx, dst_rx);
        let mut header = Header::new(&route, Opcode::from_byte_in(generation, opcode));
        if opcode != 0xc6 {
            header.set_psn(Psn::new(psn));
            prop_assert_eq!(header.psn(), Psn::new(psn));
        }
        prop_assert_eq!(header.opcode_in(generation).byte_in(generation), opcode);
        prop_assert_eq!(header.dst_rx(), dst_rx);
        // Of data it is put in with the rest of what is its own.
        let rx = if opcode == 0xc2 { 0 } else { src_rx };
        let lid = if generation == Generation::G4 { Lid(lid) } else { route.slid };
        prop_assert_eq!(header.origin_in(generation), Origin { lid, rx });
    }

    #[test]
    fn messages_come_back(
        message in prop::collection::vec(any::<u8>(), 0..1200),
        generation in prop::sample::select(Generation::ALL.to_vec()),
        tag: Option<u64>, cq_data: Option<u32>, expected: bool, slack in 0usize..100,
    ) {
        let route = route(generation, 1, 2, 3);
        let mut out = [0; 1400];
        if message.len() <= 16 {
            let packet = Inject { tag, cq_data, data: &message };
            let header = packet.encode(&route).unwrap();
            prop_assert_eq!(Inject::decode_in(generation, &header, &[]), Ok(packet));
        }
        let packet = Eager::of(tag, cq_data, &message);
        let (header, len) = packet.encode(&route, &mut out).unwrap();
        prop_assert_eq!(Eager::decode_in(generation, &header, &out[..len + slack]), Ok(packet));

        let packet = MpNth::of_in(generation, Psn::MAX, 5, &message);
        let (header, len) = packet.encode(&route, &mut out).unwrap();
        prop_assert_eq!(MpNth::decode_in(generation, &header, &out[..len + slack]), Ok(packet));

        if message.len() >= 16 {
            let chunk = (message.len() - 16) / 4 * 4;
            let packet = MpFirst::of(generation, tag, cq_data, &message, chunk).unwrap();
            let (header, len) = packet.encode(&route, &mut out).unwrap();
            prop_assert_eq!(MpFirst::decode_in(generation, &header, &out[..len + slack]), Ok(packet));
        }

        let immediate = Immediate::of(&message, expected);
        prop_assert_eq!((message.len() - immediate.message_bytes()) % 64, 0);
        let packet = RzvRts {
            tag, cq_data, len: message.len() as u64, src_vaddr: 1, src_device: 2, src_iface: 3, origin_counter: 4, immediate,
        };
        let (header, len) = packet.encode(&route, &mut out).unwrap();
        prop_assert_eq!(RzvRts::decode_in(generation, &header, &out[..len]), Ok(packet));
        prop_assert!(RzvRts::decode_in(generation, &header, &out[..len - 1]).is_err());
    }

    #[test]
    fn requests_and_data_come_back(
        generation in prop::sample::select(Generation::ALL.to_vec()),
        words: [u64; 5], datatype: u8, op: u8, fetch: bool, ack_req: bool, bytes in 1u16..9000, adjust: i32,
        pairs in prop::collection::vec(any::<u32>(), 0..100),
    ) {
        let route = route(generation, 1, 2, 3);
        let mut out = vec![0; 9216];
        let [a, b, rbuf, sbuf, len] = words;
        let (atomic, iov) = (Atomic { datatype, op }, Iov { rbuf, sbuf, bytes: len, ..Iov::default() });

        let cts = RmaCts { op: if fetch { RmaOp::Get } else { RmaOp::PutCq }, atomic, request: a, target: b, iov };
        let (header, n) = cts.encode(&route, &mut out).unwrap();
        prop_assert_eq!(Packet::decode_in(generation, &header, &out[..n]), Ok(Packet::RmaCts(cts)));

        let rts = RmaRts { cq_data: a as u32, atomic, key: a, request: b, iov };
        let (header, n) = rts.encode(&route, &mut out).unwrap();
        prop_assert_eq!(Packet::decode_in(generation, &header, &out[..n]), Ok(Packet::RmaRts(rts)));

        let pairs: Vec<U32> = pairs.into_iter().map(U32::new).collect();
        let cts = RzvTidCts { origin_counter: a, target_cookie: b, iov, offset: a as u32, adjust, pairs: &pairs };
        let (header, n) = cts.encode(&route, &mut out).unwrap();
        prop_assert_eq!(Packet::decode_in(generation, &header, &out[..n]), Ok(Packet::RzvTidCts(cts)));
        prop_assert!(Packet::decode_in(generation, &header, &out[..n - 4]).is_err());

        let op = if fetch { DputOp::AtomicFetch } else { DputOp::Put };
        let dput = Dput { op, atomic, name: a, place: b, len: bytes, ack_req };
        let header = dput.encode(&route, Padding::Block).unwrap();
        let data = &out[..usize::from(bytes)];
        let padded = &out[..Padding::Block.pad(data.len())];
        prop_assert_eq!(Packet::decode_in(generation, &header, padded), Ok(Packet::Dput(dput, data)));

        let operand = vec![a as u8; usize::from(bytes) / 3 + 1];
        let fetch = Fetch { rbuf: a, request: b, operand: &operand, compare: fetch.then_some(&operand) };
        let dput = fetch.encode(atomic, a, b, &mut out).unwrap();
        let header = dput.encode(&route, Padding::Qword).unwrap();
        let Ok(Packet::Dput(read, data)) = Packet::decode_in(generation, &header, &out) else { panic!() };
        prop_assert_eq!(read, dput);
        prop_assert_eq!(Fetch::decode(&read, data), Ok(fetch));
    }

    #[test]
    fn no_range_goes_past_the_highest_psn(
        generation in prop::sample::select(Generation::ALL.to_vec()),
        lids in any::<(u16, u16)>(), rxs in any::<(u8, u8)>(), start in 0u32..0x100_0000, count: u32,
    ) {
        let key = FlowKey { slid: Lid(lids.0.into()), dlid: Lid(lids.1.into()), src_rx: rxs.0, dst_rx: rxs.1 };
        for op in [UdOp::Ping, UdOp::Ack, UdOp::Nack] {
            let header = Ud { op, key, start: Psn::new(start), count }.encode(&route(generation, 1, 3, 4));
            let ud = Ud::decode_in(generation, &header, &[]).unwrap();
            prop_assert!(ud.count >= 1 && ud.start.get() + ud.count <= 0x100_0000);
            prop_assert_eq!((ud.op, ud.key), (op, key));
        }
    }
}
