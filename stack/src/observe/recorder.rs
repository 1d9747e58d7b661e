//! The flight recorder: the headers of the last packets of an endpoint, with the time and what was decided about each, in a ring
//! that another process can read while the endpoint runs, and after it has ended.
//!
//! An endpoint has one when [`crate::Config::recorder`] says so. Without, it costs two instructions a packet, which the tap
//! shares; with one, some 150: the clock is read once more, and the record is written so that a reader in another process
//! sees when it is torn.
//!
//! # Format
//! Words are little-endian u64. The first page: `"OPXREC01"`, number of entries, bytes of an entry, records written so far,
//! process id, LID, receive context, generation (1 to 4). Entries follow from byte 4096 on; record `n`, counted from 0, is in entry
//! `n` modulo their number:
//!
//! | word | content |
//! |---|---|
//! | 0 | `n + 1`; 0 while it is written |
//! | 1 | time in nanoseconds, of the adapter's clock |
//! | 2 | bits 7:0 [`Event::code`], 63:32 bytes of payload |
//! | 3 to 9 | the packet's header, LRH to KDETH; zeros for an event that is no packet |

use super::Interface;
use crate::Address;
use opx_bus::SharedMem;
use opx_defs::time::Instant;
use opx_defs::units::Lid;
use opx_defs::wire::opx::{Generation, Header, Opcode};
use opx_reliability::Verdict;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Records that a recorder keeps, as OPX's does.
pub const ENTRIES: usize = 1024;
const ENTRY_BYTES: usize = 128;
const HEAD_BYTES: usize = 4096;
const MAGIC: u64 = u64::from_le_bytes(*b"OPXREC01");
const WORD: usize = 8;

/// Word numbers of the first page.
mod head {
    pub(super) const MAGIC: usize = 0;
    pub(super) const ENTRIES: usize = 8;
    pub(super) const ENTRY_BYTES: usize = 16;
    pub(super) const WRITTEN: usize = 24;
    pub(super) const PROCESS: usize = 32;
    pub(super) const LID: usize = 40;
    pub(super) const RX: usize = 48;
    pub(super) const GENERATION: usize = 56;
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $interface:expr;)*) => {
        /// What happened, to a packet as a rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Event {
            $($(#[$doc])* $name,)*
        }

        impl Event {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its number in a recorder's file.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// A few words.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Where a capture shows it, when it is a packet that has left or has come.
            pub(crate) const fn interface(self) -> Option<Interface> {
                match self {
                    $(Self::$name => $interface,)*
                }
            }
        }
    };
}

events! {
    /// The processor wrote it to the adapter.
    Sent = 1, "sent by PIO", Some(Interface::Send);
    /// It was given to the SDMA engine.
    SentByEngine = 2, "sent by SDMA", Some(Interface::Send);
    /// It waits in line: no credit, or others are before it.
    Queued = 3, "waits to be sent", None;
    /// It was put in line again, for it may be lost.
    Replayed = 4, "to be sent again", None;
    /// A ping, ACK or NACK that was sent.
    ServiceSent = 5, "service sent", Some(Interface::Send);
    /// A ping, ACK or NACK that found no credit, and was dropped.
    ServiceDropped = 6, "service dropped, no credit", None;
    /// It came when its turn was, and was used.
    Delivered = 16, "delivered", Some(Interface::Receive);
    /// It came early and was used, since it names its place.
    Early = 17, "used early", Some(Interface::Receive);
    /// It came early and was kept.
    Held = 18, "kept until its turn", Some(Interface::Receive);
    /// It had come before.
    Duplicate = 19, "had come before", Some(Interface::Receive);
    /// The reliability protocol has no room for it, or its number can't be.
    Dropped = 20, "dropped by the protocol", Some(Interface::Receive);
    /// Nobody waits for it and too much is kept already.
    NoRoom = 21, "dropped, no room for unexpected messages", Some(Interface::Receive);
    /// Its content makes no sense.
    Malformed = 22, "dropped, malformed", Some(Interface::Receive);
    /// A ping, ACK or NACK that came.
    ServiceReceived = 23, "service received", Some(Interface::Receive);
    /// The adapter found it broken.
    Broken = 24, "dropped, the adapter found an error", Some(Interface::Receive);
    /// The link was found to be down.
    LinkDown = 32, "link down", None;
    /// The link was found to be up again.
    LinkUp = 33, "link up", None;
    /// A peer was given up.
    PeerLost = 34, "peer given up", None;
    /// The endpoint was put in order after a freeze, or after the link had been down.
    Recovered = 35, "recovered", None;
}

impl From<Verdict> for Event {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Deliver => Self::Delivered,
            Verdict::ApplyEarly => Self::Early,
            Verdict::Held => Self::Held,
            Verdict::Duplicate => Self::Duplicate,
            Verdict::Dropped(_) => Self::Dropped,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// Whether an endpoint has a flight recorder, and where that keeps what it records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Recording {
    /// It has none.
    #[default]
    Off,
    /// In memory: it is in the endpoint's state dumps.
    Memory,
    /// Likewise, and in a file of this directory that others can read meanwhile and afterwards. Its name is that of the state dump
    /// with `.rec` for `.out`. Best on a file system in memory, `/dev/shm`.
    Directory(PathBuf),
}

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Which one it is, counted from 0.
    pub number: u64,
    /// When, by the adapter's clock.
    pub at: Instant,
    /// What.
    pub event: Event,
    /// Bytes of the packet's payload.
    pub payload: u32,
    /// The packet's header, if it is about a packet.
    pub header: Option<Header>,
}

impl Record {
    /// One line for a reader, with the packet as `generation` reads it.
    ///
    /// ```
    /// # use opx_defs::time::Instant;
    /// # use opx_defs::wire::opx::Generation;
    /// # use opx_stack::observe::{Event, Record};
    /// let at = Instant::from_nanos(1_000_500);
    /// let record = Record { number: 7, at, event: Event::LinkDown, payload: 0, header: None };
    /// assert_eq!(record.line(Generation::G4).trim_end(), "       7      0.001000500 link down");
    /// ```
    pub fn line(&self, generation: Generation) -> String {
        let Self { number, at, event, payload, .. } = self;
        let nanos = at.as_nanos();
        let start = format!("{number:8} {:6}.{:09} {event:40}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        let Some(Packet { kind, psn, from, to }) = self.packet(generation) else { return start };
        let psn = psn.map_or(String::new(), |psn| format!("PSN {psn:06X}"));
        format!("{start} {kind:8} {psn:10} {}/{} -> {}/{} {payload} bytes", from.lid, from.rx, to.lid, to.rx)
    }

    /// The packet that it is about, as `generation` reads it; none for an event that is no packet.
    pub fn packet(&self, generation: Generation) -> Option<Packet> {
        let header = self.header.as_ref()?;
        let opcode = header.opcode_in(generation);
        let kind = match opcode {
            Opcode::Other(byte) => format!("opcode {byte:#04x}"),
            known => format!("{known:?}").split('(').next().unwrap_or_default().to_owned(),
        };
        let psn = opcode.is_sequenced().then(|| header.psn().get());
        let to = Address { lid: header.dlid(), rx: header.dst_rx() };
        Some(Packet { kind, psn, from: header.origin_in(generation).into(), to })
    }
}

/// A packet of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packet {
    /// What it is: the name of its opcode.
    pub kind: String,
    /// Its number in its flow; none for ping, ACK and NACK.
    pub psn: Option<u32>,
    /// Who sent it.
    pub from: Address,
    /// Whom it is for.
    pub to: Address,
}

/// The ring of an endpoint.
#[derive(Debug)]
pub struct Recorder {
    memory: SharedMem,
    written: u64,
}

/// Why a recorder's file can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It can't be read.
    #[error("can't read {path}: {error}; name a .rec file that an endpoint with Config::recorder has made")]
    File {
        /// Its name.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// A part of it is missing.
    #[error("{path} was cut off: it has {len} bytes, a flight recorder's file has {}; copy it anew", HEAD_BYTES + ENTRIES * ENTRY_BYTES)]
    Truncated {
        /// Its name.
        path: String,
        /// Bytes of it.
        len: usize,
    },
    /// It isn't a recorder's.
    #[error("{path} isn't a flight recorder's file of this version; it has to begin with OPXREC01")]
    Format {
        /// Its name.
        path: String,
    },
}

impl Recorder {
    /// A recorder in memory, or in a new file.
    pub(crate) fn new(me: Address, generation: Generation, file: Option<&Path>) -> io::Result<Self> {
        let len = HEAD_BYTES + ENTRIES * ENTRY_BYTES;
        let memory = match file {
            None => SharedMem::new(len)?,
            Some(path) => {
                // A new file each time: a reader of an earlier one keeps what it has.
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
                // Not a hole: a full file system would kill the writer later.
                let zeros = vec![0; len];
                io::Write::write_all(&mut &file, &zeros)?;
                SharedMem::map(&file, 0, len)?
            }
        };
        let put = |at: usize, value: u64| memory.write_u64(at, value);
        put(head::ENTRIES, ENTRIES as u64);
        put(head::ENTRY_BYTES, ENTRY_BYTES as u64);
        put(head::PROCESS, std::process::id().into());
        put(head::LID, me.lid.0.into());
        put(head::RX, me.rx.into());
        put(head::GENERATION, number(generation));
        put(head::MAGIC, MAGIC);
        Ok(Self { memory, written: 0 })
    }

    /// Records one thing.
    pub(crate) fn record(&mut self, at: Instant, event: Event, header: &Header, payload: usize) {
        let memory = &self.memory;
        let entry = HEAD_BYTES + (self.written % ENTRIES as u64) as usize * ENTRY_BYTES;
        memory.write_u64(entry, 0);
        memory.write_u64(entry + WORD, at.as_nanos());
        memory.write_u64(entry + 2 * WORD, u64::from(event.code()) | (payload as u64) << 32);
        memory.write(entry + 3 * WORD, &header.0);
        self.written = self.written.wrapping_add(1);
        memory.write_u64(entry, self.written);
        memory.write_u64(head::WRITTEN, self.written);
    }

    /// What is recorded, oldest first.
    pub fn records(&self) -> Vec<Record> {
        let mut bytes = vec![0; HEAD_BYTES + ENTRIES * ENTRY_BYTES];
        self.memory.read(0, &mut bytes);
        Image(&bytes).records().collect()
    }
}

/// A recorder's file, seen by anybody.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// Which process wrote it.
    pub process: u32,
    /// Which endpoint.
    pub endpoint: Address,
    /// Whose packets that speaks.
    pub generation: Generation,
}

impl Reader {
    /// Opens a recorder's file. It may be written to meanwhile.
    ///
    /// # Errors
    /// When it can't be read, or isn't one.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let bytes = read(path)?;
        let image = Image(&bytes);
        let endpoint = Address { lid: Lid(image.word(head::LID) as u32), rx: image.word(head::RX) as u8 };
        let process = image.word(head::PROCESS) as u32;
        let generation = image.generation().ok_or_else(|| ReadError::Format { path: path.display().to_string() })?;
        Ok(Self { path: path.to_owned(), process, endpoint, generation })
    }

    /// What is recorded now, oldest first, without what is just being written.
    ///
    /// # Errors
    /// When the file can't be read any more.
    pub fn records(&self) -> Result<Vec<Record>, ReadError> {
        // A record that is the same twice wasn't written meanwhile.
        let (first, second) = (read(&self.path)?, read(&self.path)?);
        let again = Image(&second);
        Ok(Image(&first).records().filter(|record| again.record(record.number).as_ref() == Some(record)).collect())
    }
}

/// A recorder's file, checked.
fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    let name = || path.display().to_string();
    let mut bytes = Vec::new();
    let most = HEAD_BYTES + ENTRIES * ENTRY_BYTES;
    let opened = File::open(path).and_then(|file| file.take(most as u64).read_to_end(&mut bytes));
    opened.map_err(|error| ReadError::File { path: name(), error })?;
    let image = Image(&bytes);
    if bytes.len() < most && image.word(head::MAGIC) == MAGIC {
        return Err(ReadError::Truncated { path: name(), len: bytes.len() });
    }
    let right = bytes.len() == most
        && image.word(head::MAGIC) == MAGIC
        && image.word(head::ENTRIES) == ENTRIES as u64
        && image.word(head::ENTRY_BYTES) == ENTRY_BYTES as u64
        && image.generation().is_some();
    if right { Ok(bytes) } else { Err(ReadError::Format { path: name() }) }
}

/// A copy of all of it.
struct Image<'a>(&'a [u8]);

impl Image<'_> {
    /// The word at a byte offset; 0 behind the end.
    fn word(&self, at: usize) -> u64 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn generation(&self) -> Option<Generation> {
        Generation::ALL.into_iter().find(|generation| number(*generation) == self.word(head::GENERATION))
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        let written = self.word(head::WRITTEN);
        let first = written.saturating_sub(ENTRIES as u64);
        (first..written).filter_map(|number| self.record(number))
    }

    /// A record, if it is there.
    fn record(&self, number: u64) -> Option<Record> {
        let entry = HEAD_BYTES + (number % ENTRIES as u64) as usize * ENTRY_BYTES;
        let word = |at: usize| self.word(entry + at * WORD);
        if word(0) != number.wrapping_add(1) {
            return None;
        }
        let what = word(2);
        let event = *Event::ALL.iter().find(|event| event.code() == what as u8)?;
        let header = Header(*self.0.get(entry + 3 * WORD..)?.first_chunk()?);
        let header = (header != super::NO_HEADER).then_some(header);
        Some(Record { number, at: Instant::from_nanos(word(1)), event, payload: (what >> 32) as u32, header })
    }
}

fn number(generation: Generation) -> u64 {
    match generation {
        Generation::G1 => 1,
        Generation::G2 => 2,
        Generation::G3 => 3,
        Generation::G4 => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const ME: Address = Address { lid: Lid(3), rx: 9 };

    #[test]
    fn the_last_ones_are_kept_in_order() {
        let mut recorder = Recorder::new(ME, Generation::G4, None).unwrap();
        for n in 0..ENTRIES as u64 + 10 {
            let mut header = Header([0; 56]);
            header.set_word::<4>(n + 1);
            recorder.record(Instant::from_nanos(n), Event::Sent, &header, n as usize);
        }
        let records = recorder.records();
        assert_eq!(records.len(), ENTRIES);
        for (record, n) in records.iter().zip(10..) {
            assert_eq!((record.number, record.at.as_nanos(), record.payload), (n, n, n as u32));
            assert_eq!(record.header.unwrap().word::<4>(), n + 1);
        }
    }

    #[test]
    fn another_reads_the_file_while_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.rec");
        let mut recorder = Recorder::new(ME, Generation::G1, Some(&path)).unwrap();
        let reader = Reader::open(&path).unwrap();
        assert_eq!((reader.endpoint, reader.generation, reader.process), (ME, Generation::G1, std::process::id()));
        assert!(reader.records().unwrap().is_empty());
        recorder.record(Instant::from_nanos(5), Event::LinkUp, &super::super::NO_HEADER, 0);
        let [record] = reader.records().unwrap()[..] else { panic!() };
        assert_eq!((record.event, record.header, record.at.as_nanos()), (Event::LinkUp, None, 5));
        // One that is just being written isn't shown.
        recorder.memory.write_u64(HEAD_BYTES, 0);
        assert!(reader.records().unwrap().is_empty());
        // A second recorder of that name takes a file of its own.
        Recorder::new(ME, Generation::G1, Some(&path)).unwrap();
    }

    #[test]
    fn what_is_no_recorders_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("b.rec");
        let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Reader::open(&path), Err(ReadError::File { .. })));
        for (word, value) in [(head::MAGIC, 0), (head::ENTRIES, 0), (head::ENTRIES, u64::MAX), (head::ENTRIES, 1025)] {
            Recorder::new(ME, Generation::G4, Some(&path)).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[word..word + 8].copy_from_slice(&value.to_le_bytes());
            write(&bytes);
            assert!(matches!(Reader::open(&path), Err(ReadError::Format { .. })), "{word} {value}");
        }
        write(&[0; 100]);
        assert!(matches!(Reader::open(&path), Err(ReadError::Format { .. })));
        Recorder::new(ME, Generation::G4, Some(&path)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for len in [8, HEAD_BYTES, whole.len() - 1] {
            write(&whole[..len]);
            assert!(matches!(Reader::open(&path), Err(ReadError::Truncated { len: had, .. }) if had == len));
        }
    }

    #[test]
    fn every_event_has_a_code_of_its_own() {
        let codes: HashSet<_> = Event::ALL.iter().map(|event| event.code()).collect();
        assert_eq!(codes.len(), Event::ALL.len());
    }
}
