//! Any bytes, and frames with something wrong, in any pieces, from the other end of a wire: never a panic, at most one frame is
//! kept, and what comes out as frames goes back in as the same bytes.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_defs::units::Vl;
use opx_emu::Packet;
use opx_emu::tcp_wire::{Decoder, Frame, HEADER, Hello, LARGEST_PACKET, LinkMessage, VerifyCap};

#[derive(Arbitrary, Debug)]
enum Part {
    /// Anything.
    Bytes(Vec<u8>),
    Hello(u32, u64, u32),
    Packet {
        bytes: Vec<u8>,
        vl: u8,
        sc4: bool,
        bypass: bool,
    },
    Polling(bool),
    VerifyCap([u32; 5]),
    Ready(u64, bool),
    Down(Option<u8>),
    Idle(u64),
    Credit(u64),
    KeepAlive,
    /// A frame of any type and body under a right checksum.
    Forged {
        version: u8,
        kind: u8,
        body: Vec<u8>,
    },
}

#[derive(Arbitrary, Debug)]
struct Step {
    part: Part,
    /// A byte of it that is changed, and how.
    flip: Option<(u16, u8)>,
    /// Where it is cut in two.
    cut: u16,
}

fn bytes(part: Part) -> Vec<u8> {
    let frame = match part {
        Part::Bytes(bytes) => return bytes,
        Part::Hello(largest_packet, credit, silence) => Frame::Hello(Hello { largest_packet, credit, silence }),
        Part::Packet { bytes, vl, sc4, bypass } => Frame::Packet(Packet { bytes, vl: Vl(vl), sc4, bypass }),
        Part::Polling(reply) => Frame::Message(LinkMessage::Polling { reply }),
        Part::VerifyCap([tx_settings, phy, fabric, link_width, device]) => {
            Frame::Message(LinkMessage::VerifyCap(VerifyCap { tx_settings, phy, fabric, link_width, device }))
        }
        Part::Ready(guid, reply) => Frame::Message(LinkMessage::Ready { guid, reply }),
        Part::Down(why) => Frame::Message(LinkMessage::Down(why)),
        Part::Idle(message) => Frame::Message(LinkMessage::Idle(message)),
        Part::Credit(limit) => Frame::Credit(limit),
        Part::KeepAlive => Frame::KeepAlive,
        Part::Forged { version, kind, body } => {
            let mut bytes = b"OPXW".to_vec();
            bytes.extend([version, kind, 0, 0]);
            bytes.extend((body.len() as u32).to_le_bytes());
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&bytes);
            hasher.update(&body);
            bytes.extend(hasher.finalize().to_le_bytes());
            bytes.extend(body);
            return bytes;
        }
    };
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

fuzz_target!(|steps: Vec<Step>| {
    let mut decoder = Decoder::default();
    let (mut came, mut told) = (Vec::new(), Vec::new());
    for step in steps {
        let mut bytes = bytes(step.part);
        if let Some((at, by)) = step.flip
            && let Some(place) = Some(usize::from(at) % bytes.len().max(1)).and_then(|at| bytes.get_mut(at))
        {
            *place ^= by;
        }
        came.extend_from_slice(&bytes);
        let (one, two) = bytes.split_at(usize::from(step.cut) % (bytes.len() + 1));
        for mut piece in [one, two] {
            loop {
                match decoder.next(&mut piece) {
                    Ok(Some(frame)) => frame.encode(&mut told),
                    Ok(None) => break,
                    Err(_) => return,
                }
                // Each frame has one form.
                assert!(came.starts_with(&told));
            }
            assert!(piece.is_empty());
            assert!(decoder.kept() <= HEADER + 4 + LARGEST_PACKET);
        }
    }
    assert_eq!(came.len(), told.len() + decoder.kept());
});
