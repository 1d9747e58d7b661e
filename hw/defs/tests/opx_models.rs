//! Packets made from an endpoint's models, in 9B and in 16B form, against those that are made field by field.

use opx_defs::units::{JobKey, Lid, Pkey, Psn, Sc, SendCtxt, Sl, Vl};
use opx_defs::wire::opx::*;
use proptest::prelude::*;
use zerocopy::little_endian::U32;

/// Packets of each kind that an endpoint sends, with what `seed` says in them: header, and payload.
fn packets(way: &impl Begin, seed: u64, message: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let tag = (seed & 1 != 0).then_some(seed.rotate_left(7));
    let cq_data = (seed & 2 != 0).then_some(seed as u32);
    let iov = Iov { rbuf: seed, sbuf: !seed, bytes: seed & 0xffff, sbuf_device: 0, sbuf_iface: 0 };
    let mut all = Vec::new();
    let mut payload = vec![0; MAX_PAYLOAD_BYTES];
    let out = &mut payload[..];
    let mut add = |made: Result<(Header, usize), Unencodable>, out: &[u8]| {
        let (header, len) = made.unwrap();
        all.push((header, out[..len].to_vec()));
    };
    let bare = |made: Result<Header, Unencodable>| made.map(|header| (header, 0));

    add(bare(Inject { tag, cq_data, data: &message[..message.len() % 17] }.encode(way)), out);
    let made = Eager::of(tag, cq_data, message).encode(way, out);
    add(made, out);
    let made = MpFirst::of(way.generation(), tag, cq_data, message, 64).unwrap().encode(way, out);
    add(made, out);
    let (head, tail): (&[u8], &[u8]) =
        if way.generation() == Generation::G1 { (&message[..16], &[]) } else { (&[], &message[..3]) };
    let made = MpNth { uid: Psn::new(seed as u32 & 0xff_ffff), offset: 8192, head, body: &message[16..32], tail };
    let made = made.encode(way, out);
    add(made, out);

    let immediate = Immediate::of(message, seed & 8 != 0);
    let (len, origin_counter) = (message.len() as u64, seed);
    let made = RzvRts { tag, cq_data, len, src_vaddr: seed, src_device: 0, src_iface: 0, origin_counter, immediate };
    let made = made.encode(way, out);
    add(made, out);
    for op in [RzvOp::Rzv, RzvOp::NonContiguous] {
        let answer = Answer::Send { op, target_cookie: seed, iov, second: Some(iov) };
        let made = RzvCts { origin_counter, answer }.encode(way, out);
        add(made, out);
    }
    let made = RzvCts { origin_counter, answer: Answer::Truncated }.encode(way, out);
    add(made, out);
    let pairs = [U32::new(seed as u32), U32::new(7)];
    let made = RzvTidCts { origin_counter, target_cookie: seed, iov, offset: 64, adjust: 0, pairs: &pairs };
    let made = made.encode(way, out);
    add(made, out);

    let atomic = Atomic { datatype: 3, op: 1 };
    for op in [DputOp::Rzv, DputOp::RzvTid, DputOp::Put, DputOp::Get, DputOp::AtomicFetch, DputOp::AtomicCompareFetch] {
        let dput = Dput { op, atomic, name: seed, place: seed & !7, len: 64, ack_req: seed & 4 != 0 };
        add(bare(dput.encode(way, Padding::Qword)), out);
    }
    for op in [RmaOp::Get, RmaOp::PutCq] {
        let made = RmaCts { op, atomic, request: seed, target: !seed, iov }.encode(way, out);
        add(made, out);
    }
    let made = RmaRts { cq_data: seed as u32, atomic, key: seed, request: !seed, iov }.encode(way, out);
    add(made, out);
    for op in [UdOp::Ping, UdOp::Ack, UdOp::Nack] {
        let key = FlowKey { slid: Lid(1), dlid: Lid(2), src_rx: 3, dst_rx: 4 };
        add(Ok((Ud { op, key, start: Psn::new(9), count: 5 }.encode(way), 0)), out);
    }
    all
}

fn route() -> impl Strategy<Value = Route> {
    let generation = prop::sample::select(&Generation::ALL[..]);
    let lids = (0u32..0x10000, 0u32..0x10000, 0u32..0x100);
    (generation, lids, any::<(u8, u8)>(), any::<(u16, u16)>(), 0u8..15, 0u8..16).prop_map(
        |(generation, (slid, dlid, high), (src_rx, dst_rx), (pkey, job_key), sc, sl)| Route {
            slid: Lid(slid),
            dlid: Lid(dlid),
            primary_lid: Lid(slid | high << 16),
            src_rx,
            dst_rx,
            sc: Sc(sc),
            sl: Sl(sl),
            pkey: Pkey(pkey),
            job_key: JobKey(job_key),
            qp_prefix: 0x80,
            generation,
        },
    )
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 200..500)
}

proptest! {
    #[test]
    fn packets_of_models_are_those_that_are_made_field_by_field(
        route in route(), vl in 0u8..8, seed in any::<u64>(), message in message(),
    ) {
        let models = Models::new(&route, Vl(vl));
        let way = models.to(Origin { lid: route.dlid, rx: route.dst_rx });
        prop_assert_eq!(packets(&way, seed, &message), packets(&route, seed, &message));
        // The bare header of each kind that there is, and of those that there aren't.
        for byte in 0..=255 {
            let opcode = Opcode::from_byte_in(route.generation, byte);
            prop_assert_eq!(way.begin(opcode), Header::new(&route, opcode));
        }
    }

    #[test]
    fn packets_in_16b_form_are_what_opx_makes_of_its_models(
        route in route(), dlid in 0u32..1 << 24, ctxt in 0u16..160, psn in 0u32..1 << 24, seed in any::<u64>(), message in message(),
    ) {
        // There are no 16 bits of LID here: the LRH has all 24.
        let route = Route { slid: route.primary_lid, dlid: Lid(dlid), ..route };
        let (models, model16) = (Models::new(&route, Vl(0)), Model16::new(&route, Vl(0), SendCtxt(ctxt)));
        let to = Origin { lid: route.dlid, rx: route.dst_rx };
        for (mut header, payload) in packets(&models.to(to), seed, &message) {
            header.set_psn(Psn::new(psn));
            let packet = model16.packet(to, &header, payload.len());
            let qwords = payload.len().div_ceil(8);
            let mut expected = opx_lrh(&route, ctxt, 9 + qwords as u64).map(u64::to_le_bytes).concat();
            expected.extend_from_slice(&header.0[8..]);
            prop_assert_eq!(&packet.0[..], &expected[..]);
            prop_assert_eq!(packet.payload_len(), qwords * 8);
            prop_assert_eq!((packet.lrh().slid, packet.lrh().dlid), (route.slid, route.dlid));
            // 2 dwords of the PBC, 4 LRH, 3 BTH, 9 KDETH, 2 tail (fi_opx_ep_tx_model_init_16B), and the payload.
            let pbc = model16.pbc(&packet);
            prop_assert_eq!(pbc.length().0 as usize, 20 + qwords * 2);
            prop_assert!(pbc.is_bypass());
            prop_assert_eq!(pbc.0 >> 24 & 1, 1);
        }
    }
}

/// The two words of the LRH as OPX puts them together: the model's, or'ed with what a send knows
/// (`fi_opx_hfi1_transport.h:fi_opx_hfi1_tx_inject`).
fn opx_lrh(route: &Route, ctxt: u16, pktlen: u64) -> [u64; 2] {
    let (slid, dlid) = (u64::from(route.slid.0), u64::from(route.dlid.0));
    // Bit fields: slid 20, pktlen 11, b 1; dlid 20, sc 5, rc 3, f 1, l2 2, lt 1.
    let model0 = slid & 0xf_ffff | u64::from(route.sc.0) << 52 | 2 << 61;
    // l4 8, slid20 4, dlid20 4, pkey 16; entropy 16, age 3, cspec 5, r 8.
    let model1 = 9 | (slid >> 20) << 8 | u64::from(route.pkey.0) << 16 | u64::from(ctxt) << 32;
    let bth_rx = u64::from(route.dst_rx) << 56;
    [model0 | pktlen << 20 | (dlid & 0xf_ffff) << 32, model1 | (dlid & 0xf0_0000) >> 8 | bth_rx >> 16]
}

#[test]
fn an_inject_packet_in_16b_form_is_this_one() {
    let route = Route {
        slid: Lid(0x12_3456),
        dlid: Lid(0xab_cdef),
        primary_lid: Lid(0x12_3456),
        src_rx: 5,
        dst_rx: 7,
        sc: Sc(3),
        sl: Sl(0),
        pkey: Pkey(0x8001),
        job_key: JobKey(0x83e8),
        qp_prefix: 0x80,
        generation: Generation::G4,
    };
    let to = Origin { lid: route.dlid, rx: route.dst_rx };
    let header = Inject { tag: Some(0x0102_0304_0506_0708), cq_data: None, data: b"hello" }.encode(&route).unwrap();
    let packet = Model16::new(&route, Vl(0), SendCtxt(0x21)).packet(to, &header, 0);
    let words: Vec<u64> = packet.0.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    assert_eq!(words[0], 0x4030_0000_0000_0000 | 0xb_cdef << 32 | 9 << 20 | 0x2_3456);
    assert_eq!(words[1], 0x0721 << 32 | 0x8001 << 16 | 0xa << 12 | 1 << 8 | 9);
    assert_eq!(words[2] as u8, Opcode::Inject(Flavour { tagged: true, cq: false }).byte());
    assert_eq!((words[2] >> 51 & 31, words[2] >> 56), (5, 7));
    assert_eq!(words[5], u64::from_le_bytes(*b"hello\0\0\0"));
    assert_eq!(words[7], 0x0102_0304_0506_0708);
}
