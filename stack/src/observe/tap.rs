//! The tap: packets written to a pcapng file as they are sent, cross the wire and are received, for `tshark` and Wireshark with the
//! dissector in `tools/dissector/opx.lua`.
//!
//! Format: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>. Three kinds of block are all that is written, so this
//! file has them itself; the tests read them with a parser of somebody else's.

use opx_bus::ProcessMark;
use opx_defs::time::Instant;
use opx_defs::wire::opx::Generation;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a packet was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interface {
    /// Given to the adapter, by PIO or SDMA; a packet that is sent again is seen again.
    Send,
    /// Come off the wire of an emulated adapter, whole with its ICRC, after the faults that the wire was told to have.
    Wire,
    /// Taken from the header queue by an endpoint.
    Receive,
}

impl Interface {
    /// All of them, in the order of their numbers in a capture.
    pub const ALL: [Self; 3] = [Self::Send, Self::Wire, Self::Receive];

    /// Its name in a capture.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Wire => "wire",
            Self::Receive => "receive",
        }
    }
}

/// Bytes after which a capture ends, unless told otherwise.
pub const DEFAULT_LIMIT: u64 = 1 << 30;
/// LINKTYPE_USER0: packets begin with their LRH.
const LINKTYPE: u16 = 147;

/// A capture. Clones write to the same file; each packet is one write, so that the file is whole up to the last one whatever
/// happens to the process.
///
/// Times are those of the adapter's clock, not of the day.
///
/// ```
/// # use opx_defs::time::Instant;
/// # use opx_defs::wire::opx::Generation;
/// use opx_stack::observe::{Interface, Tap};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("run.pcapng");
/// let tap = Tap::create(&path, Generation::G4)?;
/// // Endpoints: `endpoint.set_tap(Some(tap.clone()))`. An emulated adapter: `adapter.set_tap(Some(tap.on_wire()))`.
/// tap.packet(Interface::Send, Instant::from_nanos(1500), &[&[0; 56]]);
/// assert_eq!(tap.packets(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tap {
    capture: Arc<Mutex<Capture>>,
    /// A child that is forked from it writes nothing: the file is its parent's, and so may be the lock for ever.
    process: ProcessMark,
}

#[derive(Debug)]
struct Capture {
    /// None once it has ended.
    file: Option<File>,
    left: u64,
    packets: u64,
    block: Vec<u8>,
}

impl Tap {
    /// A capture in a new file, of endpoints that speak `generation`; it ends after [`DEFAULT_LIMIT`] bytes.
    ///
    /// # Errors
    /// When the file can't be made or written.
    pub fn create(path: &Path, generation: Generation) -> io::Result<Self> {
        Self::with_limit(path, generation, DEFAULT_LIMIT)
    }

    /// As [`Tap::create`], but it ends before it has more than `limit` bytes.
    ///
    /// # Errors
    /// When the file can't be made or written.
    pub fn with_limit(path: &Path, generation: Generation, limit: u64) -> io::Result<Self> {
        let mut file = File::create(path)?;
        let start = start(generation);
        file.write_all(&start)?;
        let left = limit.saturating_sub(start.len() as u64);
        let capture = Capture { file: Some(file), left, packets: 0, block: Vec::new() };
        Ok(Self { capture: Arc::new(Mutex::new(capture)), process: ProcessMark::here() })
    }

    fn capture(&self) -> Option<MutexGuard<'_, Capture>> {
        self.process.is_here().then(|| self.capture.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes a packet, given in pieces. When that fails, or the limit is reached, the capture ends, with a line in the log. A
    /// child that was forked writes none.
    pub fn packet(&self, interface: Interface, at: Instant, pieces: &[&[u8]]) {
        let Some(mut capture) = self.capture() else { return };
        let Capture { file, left, packets, block } = &mut *capture;
        let Some(open) = file else { return };
        packet_block(block, interface, at, pieces);
        if block.len() as u64 > *left {
            log::warn!("the capture has reached its limit and ends after {packets} packets");
            *file = None;
            return;
        }
        match open.write_all(block) {
            Ok(()) => {
                *left -= block.len() as u64;
                *packets += 1;
            }
            Err(error) => {
                log::error!("the capture ends after {packets} packets: {error}; make room on its file system");
                *file = None;
            }
        }
    }

    /// Packets written so far; none to a child that was forked.
    pub fn packets(&self) -> u64 {
        self.capture().map_or(0, |capture| capture.packets)
    }

    /// What writes the packets of an emulated adapter's wire.
    pub fn on_wire(&self) -> impl Fn(Instant, &[u8]) + Send + Sync + 'static {
        let tap = self.clone();
        move |at, bytes| tap.packet(Interface::Wire, at, &[bytes])
    }
}

/// A block of a type, made by `body`; its length stands before and after it.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = (out.len() + 4 - start) as u32;
    out.extend_from_slice(&len.to_le_bytes());
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&len.to_le_bytes());
    }
}

/// Fills up to a multiple of 4 bytes.
fn pad(out: &mut Vec<u8>, len: usize) {
    out.resize(out.len() + len.wrapping_neg() % 4, 0);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

/// Section header and interfaces.
fn start(generation: Generation) -> Vec<u8> {
    const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    const BYTE_ORDER: u32 = 0x1a2b_3c4d;
    const INTERFACE: u32 = 1;
    const NAME: u16 = 2;
    const DESCRIPTION: u16 = 3;
    const TIME_UNIT: u16 = 9;
    const END: u16 = 0;
    let mut out = Vec::new();
    block(&mut out, SECTION_HEADER, |out| {
        out.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&u64::MAX.to_le_bytes());
    });
    for interface in Interface::ALL {
        block(&mut out, INTERFACE, |out| {
            out.extend_from_slice(&LINKTYPE.to_le_bytes());
            out.extend_from_slice(&[0; 6]);
            option(out, NAME, interface.name().as_bytes());
            // From this the dissector knows how to read what follows.
            option(out, DESCRIPTION, format!("OPX {generation:?}").as_bytes());
            // Nanoseconds.
            option(out, TIME_UNIT, &[9]);
            option(out, END, &[]);
        });
    }
    out
}

fn packet_block(out: &mut Vec<u8>, interface: Interface, at: Instant, pieces: &[&[u8]]) {
    const ENHANCED_PACKET: u32 = 6;
    out.clear();
    let len: usize = pieces.iter().map(|piece| piece.len()).sum();
    let number = match interface {
        Interface::Send => 0u32,
        Interface::Wire => 1,
        Interface::Receive => 2,
    };
    let nanos = at.as_nanos();
    block(out, ENHANCED_PACKET, |out| {
        for word in [number, (nanos >> 32) as u32, nanos as u32, len as u32, len as u32] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        pieces.iter().for_each(|piece| out.extend_from_slice(piece));
        pad(out, len);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_parser::traits::PcapReaderIterator;
    use pcap_parser::{Block, PcapBlockOwned, PcapNGReader};

    /// The packets of a capture: interface, nanoseconds, bytes.
    fn parsed(bytes: &[u8]) -> Vec<(u32, u64, Vec<u8>)> {
        let mut reader = PcapNGReader::new(1 << 16, bytes).unwrap();
        let (mut packets, mut interfaces) = (Vec::new(), Vec::new());
        while let Ok((consumed, block)) = reader.next() {
            match block {
                PcapBlockOwned::NG(Block::InterfaceDescription(it)) => {
                    assert_eq!((it.linktype.0, it.if_tsresol), (147, 9));
                    interfaces
                        .push(it.options.iter().map(|option| option.as_bytes().unwrap().to_vec()).collect::<Vec<_>>());
                }
                PcapBlockOwned::NG(Block::EnhancedPacket(it)) => {
                    let at = u64::from(it.ts_high) << 32 | u64::from(it.ts_low);
                    packets.push((it.if_id, at, it.data[..it.caplen as usize].to_vec()));
                }
                PcapBlockOwned::NG(Block::SectionHeader(it)) => {
                    assert_eq!((it.major_version, it.minor_version), (1, 0))
                }
                PcapBlockOwned::NG(other) => panic!("{other:?}"),
                _ => panic!("an old capture"),
            }
            reader.consume(consumed);
        }
        let names: Vec<_> = interfaces.iter().map(|options| options[0].clone()).collect();
        assert_eq!(names, [&b"send"[..], b"wire", b"receive"]);
        packets
    }

    #[test]
    fn what_is_written_is_read_by_another_parser() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pcapng");
        let tap = Tap::create(&path, Generation::G1).unwrap();
        let late = 5_000_000_001;
        tap.packet(Interface::Receive, Instant::from_nanos(late), &[&[1; 56], &[2; 3]]);
        (tap.on_wire())(Instant::from_nanos(7), &[9]);
        let packets = parsed(&std::fs::read(&path).unwrap());
        let both = [&[1; 56][..], &[2; 3]].concat();
        assert_eq!(packets, [(2, late, both), (1, 7, vec![9])]);
    }

    #[test]
    fn a_capture_ends_at_its_limit_and_stays_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pcapng");
        let tap = Tap::with_limit(&path, Generation::G4, 1000).unwrap();
        for n in 0..100 {
            tap.packet(Interface::Send, Instant::from_nanos(n), &[&[0; 56]]);
        }
        let bytes = std::fs::read(&path).unwrap();
        let packets = parsed(&bytes).len() as u64;
        assert!(bytes.len() <= 1000 && packets > 5 && packets == tap.packets(), "{packets}");
    }

    #[test]
    fn a_full_file_system_ends_it_without_harm() {
        let tap = Tap::create(Path::new("/dev/full"), Generation::G4);
        assert!(tap.is_err());
    }
}
