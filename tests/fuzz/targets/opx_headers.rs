//! Any bytes as an OPX packet: reading them never panics, and what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use opx_defs::units::{JobKey, Lid, Pkey, Psn, Sc, Sl, Vl};
use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::bth::Bth;
use opx_defs::wire::lrh::Lrh;
use opx_defs::wire::opx::{Dput, DputOp, Fetch, Generation, Header, Packet, Padding, Route, Unencodable};
use opx_defs::wire::rhf::Rhf;

/// The longest payload that OPX sends; LRH can speak of more.
const LONGEST: usize = 10_240;

fuzz_target!(|bytes: &[u8]| {
    let Some((header, payload)) = bytes.split_first_chunk::<OPX_HEADER_BYTES>() else { return };
    let mut header = Header(*header);
    let [word, ..] = header.word_bytes::<0>().map(u64::from);
    let _ = (header.ack_req(), header.pbc(Vl(0)), header.dst_rx(), format!("{header:?} {:?}", Rhf(word)));
    let lrh = Lrh::decode(*header.word_bytes::<0>());
    assert_eq!(Lrh::decode(lrh.encode()), lrh);
    let bth = Bth::decode(*header.word_bytes::<1>());
    assert_eq!(Bth::decode(bth.encode()), bth);

    let (psn, origin) = (header.psn(), header.origin());
    header.set_psn(Psn::MAX);
    assert_eq!((header.psn(), header.origin()), (Psn::MAX, origin));
    header.set_psn(psn);
    for generation in Generation::ALL {
        let _ = header.origin_in(generation);
        match Packet::decode_in(generation, &header, payload) {
            Ok(packet) => {
                assert!(header.payload_len() <= payload.len());
                again(generation, &packet);
            }
            Err(malformed) => drop(malformed.to_string()),
        }
    }
});

/// Writes a packet, and reads what was written.
fn again(generation: Generation, packet: &Packet<'_>) {
    let route = Route {
        slid: Lid(1),
        dlid: Lid(9),
        primary_lid: Lid(1),
        src_rx: 5,
        dst_rx: 7,
        sc: Sc(3),
        sl: Sl(2),
        pkey: Pkey(0xffff),
        job_key: JobKey(7),
        qp_prefix: 0x80,
        generation,
    };
    let mut out = vec![0; 20_000];
    let written = match packet {
        Packet::Inject(packet) => packet.encode(&route).map(|header| (header, 0)),
        Packet::Eager(packet) => packet.encode(&route, &mut out),
        Packet::MpFirst(packet) => packet.encode(&route, &mut out),
        Packet::MpNth(packet) => packet.encode(&route, &mut out),
        Packet::RzvRts(packet) => packet.encode(&route, &mut out),
        Packet::RzvCts(packet) => packet.encode(&route, &mut out),
        Packet::RzvData(packet, data) => {
            out[..data.len()].copy_from_slice(data);
            packet.encode(&route, Padding::Qword).map(|header| (header, Padding::Qword.pad(data.len())))
        }
        // Of an expected packet the length in LRH is the data's, and only whole qwords come without padding.
        Packet::Dput(packet, data) if packet.op == DputOp::RzvTid && !data.len().is_multiple_of(8) => return,
        Packet::Dput(packet, data) => {
            if let Ok(fetch) = Fetch::decode(packet, data) {
                let written = fetch.encode(packet.atomic, packet.name, packet.place, &mut out);
                assert_eq!(written, Ok(Dput { ack_req: false, ..*packet }));
                assert_eq!(out.get(..data.len()), Some(*data));
            }
            out[..data.len()].copy_from_slice(data);
            packet.encode(&route, Padding::Qword).map(|header| (header, Padding::Qword.pad(data.len())))
        }
        Packet::RzvTidCts(packet) => packet.encode(&route, &mut out),
        Packet::RmaCts(packet) => packet.encode(&route, &mut out),
        Packet::RmaRts(packet) => packet.encode(&route, &mut out),
        Packet::Ud(packet) => Ok((packet.encode(&route), 0)),
        other => panic!("no way to write {other:?}"),
    };
    match written {
        Ok((header, len)) => {
            assert_eq!(header.payload_len(), len);
            assert_eq!(Packet::decode_in(generation, &header, &out[..len]), Ok(*packet));
        }
        Err(Unencodable::TooLong { have, limit, .. }) => assert!(have > limit && limit >= LONGEST),
        Err(other) => panic!("{packet:?}: {other}"),
    }
}
