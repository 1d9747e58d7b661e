//! What goes over a TCP wire: frames with a magic, a version, a type, a length and a checksum.
//!
//! All numbers are little-endian. A frame begins with 16 bytes: `OPXW`, version (1 byte), type (1), zero (2), bytes of the body
//! (4), CRC-32 (4) over the 12 bytes before it and the body.

use crate::packet::{LARGEST_PACKET, Packet};
use crate::wire::{LinkMessage, VerifyCap};
use opx_defs::units::Vl;

/// What each frame begins with.
pub const MAGIC: [u8; 4] = *b"OPXW";
/// The version of the frames.
pub const VERSION: u8 = 1;
/// Bytes before a frame's body.
pub const HEADER: usize = 16;
/// Bytes of a packet frame's body before the packet: virtual lane, flags, and two zeros.
const PACKET_HEADER: usize = 4;
/// Bytes of the header that the checksum covers.
const SUMMED: usize = 12;

/// What an end tells of itself, first of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The largest packet that it takes, bytes.
    pub largest_packet: u32,
    /// Credit, in bytes, that packets may take up in all until it grants more.
    pub credit: u64,
    /// Milliseconds without a whole frame after which it takes the other end for gone.
    pub silence: u32,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first one each way.
    Hello(Hello),
    /// A packet, with what travels beside it.
    Packet(Packet),
    /// What one 8051 tells the other.
    Message(LinkMessage),
    /// Credit, in bytes, that packets may take up in all since the beginning of the connection.
    Credit(u64),
    /// Nothing: the end is still there.
    KeepAlive,
}

/// A frame that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// It doesn't begin like one.
    #[error("bytes that are no frame ({0:02x?}): whoever is at the other end isn't an opx-emu with a wire")]
    Magic([u8; 4]),
    /// It is of another version.
    #[error("a frame of version {0}, where this end speaks {VERSION}: run the same opx-emu at both ends")]
    Version(u8),
    /// There is no such type.
    #[error("a frame of unknown type {0}")]
    Kind(u8),
    /// Its body is longer or shorter than its type allows.
    #[error("a frame of type {kind} with {len} bytes, where {least} to {most} are allowed")]
    Length {
        /// The type.
        kind: u8,
        /// Bytes that it says it has.
        len: u32,
        /// The fewest.
        least: u32,
        /// The most.
        most: u32,
    },
    /// The checksum is wrong.
    #[error("a frame of type {0} with a wrong checksum")]
    Checksum(u8),
    /// The body of a frame with a right checksum makes no sense.
    #[error("a frame of type {0} with content that makes no sense")]
    Content(u8),
}

/// Types of frames.
mod kind {
    pub const HELLO: u8 = 1;
    pub const PACKET: u8 = 2;
    pub const MESSAGE: u8 = 3;
    pub const CREDIT: u8 = 4;
    pub const KEEP_ALIVE: u8 = 5;
}

/// Link messages, by the first byte of their frame's body.
mod message {
    pub const POLLING: u8 = 1;
    pub const VERIFY_CAP: u8 = 2;
    pub const READY: u8 = 3;
    pub const DOWN: u8 = 4;
    pub const IDLE: u8 = 5;
}

/// Fewest and most bytes of a type's body; `None` where there is no such type.
const fn bounds(kind: u8) -> Option<(u32, u32)> {
    match kind {
        kind::HELLO => Some((16, 16)),
        kind::PACKET => Some((PACKET_HEADER as u32 + 1, (PACKET_HEADER + LARGEST_PACKET) as u32)),
        kind::MESSAGE => Some((1, 21)),
        kind::CREDIT => Some((8, 8)),
        kind::KEEP_ALIVE => Some((0, 0)),
        _ => None,
    }
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Packet(_) => kind::PACKET,
            Self::Message(_) => kind::MESSAGE,
            Self::Credit(_) => kind::CREDIT,
            Self::KeepAlive => kind::KEEP_ALIVE,
        }
    }

    /// Appends it to `into`. A packet has from 1 to [`LARGEST_PACKET`] bytes, or the other end refuses it.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend(MAGIC);
        into.extend([VERSION, self.kind(), 0, 0]);
        into.extend([0; 8]);
        match self {
            Self::Hello(hello) => {
                into.extend(hello.largest_packet.to_le_bytes());
                into.extend(hello.credit.to_le_bytes());
                into.extend(hello.silence.to_le_bytes());
            }
            Self::Packet(packet) => {
                into.extend([packet.vl.0, u8::from(packet.sc4) | u8::from(packet.bypass) << 1, 0, 0]);
                into.extend(&packet.bytes);
            }
            Self::Message(message) => encode_message(*message, into),
            Self::Credit(limit) => into.extend(limit.to_le_bytes()),
            Self::KeepAlive => {}
        }
        let Some(frame) = into.get_mut(start..) else { return };
        let len = frame.len().saturating_sub(HEADER) as u32;
        if let Some(place) = frame.get_mut(8..SUMMED) {
            place.copy_from_slice(&len.to_le_bytes());
        }
        let sum = checksum(frame.get(..SUMMED).unwrap_or_default(), frame.get(HEADER..).unwrap_or_default());
        if let Some(place) = frame.get_mut(SUMMED..HEADER) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
    }
}

fn encode_message(message: LinkMessage, into: &mut Vec<u8>) {
    match message {
        LinkMessage::Polling { reply } => into.extend([message::POLLING, reply.into()]),
        LinkMessage::VerifyCap(cap) => {
            into.push(message::VERIFY_CAP);
            for field in [cap.tx_settings, cap.phy, cap.fabric, cap.link_width, cap.device] {
                into.extend(field.to_le_bytes());
            }
        }
        LinkMessage::Ready { guid, reply } => {
            into.extend([message::READY, reply.into()]);
            into.extend(guid.to_le_bytes());
        }
        LinkMessage::Down(None) => into.push(message::DOWN),
        LinkMessage::Down(Some(why)) => into.extend([message::DOWN, why]),
        LinkMessage::Idle(message) => {
            into.push(message::IDLE);
            into.extend(message.to_le_bytes());
        }
    }
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

/// A header that makes sense.
struct Head {
    summed: [u8; SUMMED],
    kind: u8,
    len: usize,
    sum: u32,
}

impl Head {
    fn read(header: &[u8; HEADER]) -> Result<Self, FrameError> {
        let [a, b, c, d, version, kind, x, y, l0, l1, l2, l3, s0, s1, s2, s3] = *header;
        if [a, b, c, d] != MAGIC {
            return Err(FrameError::Magic([a, b, c, d]));
        }
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let (least, most) = bounds(kind).ok_or(FrameError::Kind(kind))?;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        if len < least || len > most {
            return Err(FrameError::Length { kind, len, least, most });
        }
        let summed = [a, b, c, d, version, kind, x, y, l0, l1, l2, l3];
        Ok(Self { summed, kind, len: len as usize, sum: u32::from_le_bytes([s0, s1, s2, s3]) })
    }

    /// The frame with this body, which has the length that the header says.
    fn frame(&self, body: &[u8]) -> Result<Frame, FrameError> {
        if checksum(&self.summed, body) != self.sum {
            return Err(FrameError::Checksum(self.kind));
        }
        let [.., 0, 0, _, _, _, _] = self.summed else { return Err(FrameError::Content(self.kind)) };
        let frame = match self.kind {
            kind::HELLO => hello(body),
            kind::PACKET => packet(body),
            kind::MESSAGE => message(body).map(Frame::Message),
            kind::CREDIT => body.try_into().ok().map(u64::from_le_bytes).map(Frame::Credit),
            _ => Some(Frame::KeepAlive),
        };
        frame.ok_or(FrameError::Content(self.kind))
    }
}

fn hello(body: &[u8]) -> Option<Frame> {
    let (largest, rest) = body.split_first_chunk::<4>()?;
    let (credit, silence) = rest.split_first_chunk::<8>()?;
    Some(Frame::Hello(Hello {
        largest_packet: u32::from_le_bytes(*largest),
        credit: u64::from_le_bytes(*credit),
        silence: u32::from_le_bytes(silence.try_into().ok()?),
    }))
}

fn packet(body: &[u8]) -> Option<Frame> {
    let ([vl @ 0..=31, flags @ 0..=3, 0, 0], bytes) = body.split_first_chunk::<PACKET_HEADER>()? else { return None };
    Some(Frame::Packet(Packet { bytes: bytes.to_vec(), vl: Vl(*vl), sc4: flags & 1 != 0, bypass: flags & 2 != 0 }))
}

fn message(body: &[u8]) -> Option<LinkMessage> {
    let (kind, rest) = body.split_first()?;
    let flag = |byte: u8| match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    Some(match (*kind, rest) {
        (message::POLLING, [reply]) => LinkMessage::Polling { reply: flag(*reply)? },
        (message::VERIFY_CAP, rest) => {
            let (fields, []) = rest.as_chunks::<4>() else { return None };
            let [tx_settings, phy, fabric, link_width, device] = *fields.first_chunk::<5>()?;
            LinkMessage::VerifyCap(VerifyCap {
                tx_settings: u32::from_le_bytes(tx_settings),
                phy: u32::from_le_bytes(phy),
                fabric: u32::from_le_bytes(fabric),
                link_width: u32::from_le_bytes(link_width),
                device: u32::from_le_bytes(device),
            })
        }
        (message::READY, [reply, guid @ ..]) => {
            LinkMessage::Ready { guid: u64::from_le_bytes(guid.try_into().ok()?), reply: flag(*reply)? }
        }
        (message::DOWN, []) => LinkMessage::Down(None),
        (message::DOWN, [why]) => LinkMessage::Down(Some(*why)),
        (message::IDLE, message) => LinkMessage::Idle(u64::from_le_bytes(message.try_into().ok()?)),
        _ => return None,
    })
}

/// Cuts a stream of bytes into frames. It keeps at most the part of one frame that has come.
///
/// ```
/// use opx_emu::tcp_wire::{Decoder, Frame};
///
/// let mut sent = Vec::new();
/// Frame::KeepAlive.encode(&mut sent);
/// let (mut one, mut rest) = sent.split_at(5);
/// let mut decoder = Decoder::default();
/// assert_eq!(decoder.next(&mut one), Ok(None));
/// assert_eq!(decoder.next(&mut rest), Ok(Some(Frame::KeepAlive)));
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Vec<u8>,
}

impl Decoder {
    /// The next frame, which takes its bytes from the front of `bytes`; `None` once all of them are taken and more are needed.
    ///
    /// # Errors
    /// See [`FrameError`]. The stream can't be read on after one.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if self.partial.is_empty()
            && let Some((header, rest)) = bytes.split_first_chunk::<HEADER>()
        {
            let head = Head::read(header)?;
            if let Some((body, rest)) = rest.split_at_checked(head.len) {
                *bytes = rest;
                return head.frame(body).map(Some);
            }
        }
        self.keep(bytes, HEADER);
        let Some((header, _)) = self.partial.split_first_chunk::<HEADER>() else { return Ok(None) };
        let head = Head::read(header)?;
        self.keep(bytes, HEADER + head.len);
        let Some(body) = self.partial.get(HEADER..).filter(|body| body.len() == head.len) else { return Ok(None) };
        let frame = head.frame(body);
        self.partial.clear();
        frame.map(Some)
    }

    /// Bytes of a frame of which more has to come.
    pub fn kept(&self) -> usize {
        self.partial.len()
    }

    /// Moves bytes over until so many are kept.
    fn keep(&mut self, bytes: &mut &[u8], len: usize) {
        let missing = len.saturating_sub(self.partial.len()).min(bytes.len());
        let (more, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.partial.extend_from_slice(more);
        *bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> impl Strategy<Value = LinkMessage> {
        prop_oneof![
            any::<bool>().prop_map(|reply| LinkMessage::Polling { reply }),
            any::<[u32; 5]>().prop_map(|[tx_settings, phy, fabric, link_width, device]| {
                LinkMessage::VerifyCap(VerifyCap { tx_settings, phy, fabric, link_width, device })
            }),
            any::<(u64, bool)>().prop_map(|(guid, reply)| LinkMessage::Ready { guid, reply }),
            any::<Option<u8>>().prop_map(LinkMessage::Down),
            any::<u64>().prop_map(LinkMessage::Idle),
        ]
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let packet = (prop::collection::vec(any::<u8>(), 1..2000), 0_u8..32, any::<(bool, bool)>());
        prop_oneof![
            any::<(u32, u64, u32)>().prop_map(|(largest_packet, credit, silence)| {
                Frame::Hello(Hello { largest_packet, credit, silence })
            }),
            packet.prop_map(|(bytes, vl, (sc4, bypass))| Frame::Packet(Packet { bytes, vl: Vl(vl), sc4, bypass })),
            message().prop_map(Frame::Message),
            any::<u64>().prop_map(Frame::Credit),
            Just(Frame::KeepAlive),
        ]
    }

    fn encoded(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        bytes
    }

    /// What comes of bytes in pieces of these lengths.
    fn decode(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Frame>, FrameError> {
        let (mut decoder, mut frames, mut rest) = (Decoder::default(), Vec::new(), bytes);
        for piece in pieces.iter().copied().chain([usize::MAX]) {
            let (mut now, later) = rest.split_at(piece.min(rest.len()));
            rest = later;
            while let Some(frame) = decoder.next(&mut now)? {
                frames.push(frame);
            }
            assert!(now.is_empty());
        }
        assert_eq!(decoder.kept(), 0);
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in prop::collection::vec(frame(), 0..8),
            pieces in prop::collection::vec(0_usize..600, 0..20),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(encoded).collect();
            prop_assert_eq!(decode(&bytes, &pieces), Ok(frames));
        }

        #[test]
        fn a_flipped_bit_is_found(frame in frame(), bit in any::<prop::sample::Index>()) {
            let mut bytes = encoded(&frame);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut decoder = Decoder::default();
            // A longer length may leave the decoder waiting; nothing is taken for a frame.
            prop_assert!(!matches!(decoder.next(&mut &bytes[..]), Ok(Some(_))));
        }

        #[test]
        fn any_bytes_are_harmless_and_little_of_them_is_kept(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            begin in any::<bool>(),
        ) {
            let mut decoder = Decoder::default();
            let begin = if begin { vec![b'O', b'P', b'X', b'W', 1, 2] } else { Vec::new() };
            'all: for chunk in std::iter::once(begin).chain(chunks) {
                let mut bytes = &chunk[..];
                loop {
                    match decoder.next(&mut bytes) {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'all,
                    }
                }
                prop_assert!(decoder.kept() <= HEADER + PACKET_HEADER + LARGEST_PACKET);
            }
        }
    }

    fn first(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        Decoder::default().next(&mut &bytes[..])
    }

    /// A frame with this body under a right checksum.
    fn forged(kind: u8, zeros: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([VERSION, kind, zeros, 0]);
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(checksum(&bytes, body).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn each_thing_wrong_has_its_error() {
        let good = encoded(&Frame::Credit(7));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            first(&bytes)
        };
        assert_eq!(first(&good), Ok(Some(Frame::Credit(7))));
        assert_eq!(first(b"GET / HTTP/1.1\r\n"), Err(FrameError::Magic(*b"GET ")));
        assert_eq!(with(4, 0), Err(FrameError::Version(0)));
        assert_eq!(with(5, 6), Err(FrameError::Kind(6)));
        assert_eq!(with(8, 9), Err(FrameError::Length { kind: 4, len: 9, least: 8, most: 8 }));
        assert_eq!(with(HEADER, 8), Err(FrameError::Checksum(4)));
        assert_eq!(first(&forged(kind::CREDIT, 1, &[0; 8])), Err(FrameError::Content(4)));
        // Oversize is told by the header alone.
        let mut oversize = forged(kind::PACKET, 0, &[0; PACKET_HEADER + LARGEST_PACKET + 1]);
        oversize.truncate(HEADER);
        assert!(matches!(first(&oversize), Err(FrameError::Length { kind: 2, len: 10501, most: 10500, .. })));
        for body in
            [&[1][..], &[1, 2], &[2, 0], &[3, 0, 1], &[3, 2, 0, 0, 0, 0, 0, 0, 0, 0], &[4, 1, 1], &[5], &[0], &[6]]
        {
            assert_eq!(first(&forged(kind::MESSAGE, 0, body)), Err(FrameError::Content(3)), "{body:?}");
        }
        for body in [[32, 0, 0, 0, 1], [0, 4, 0, 0, 1], [0, 0, 1, 0, 1]] {
            assert_eq!(first(&forged(kind::PACKET, 0, &body)), Err(FrameError::Content(2)), "{body:?}");
        }
        let largest = Packet { bytes: vec![1; LARGEST_PACKET], vl: Vl(15), sc4: true, bypass: true };
        let largest = Frame::Packet(largest);
        assert_eq!(first(&encoded(&largest)), Ok(Some(largest)));
    }
}
