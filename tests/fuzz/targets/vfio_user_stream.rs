//! Any bytes as a vfio-user message stream, with any file descriptors, to the emulated adapter's server: it goes on, and the
//! next client finds an adapter that works.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use opx_bus::{Irq, PciFunction, SharedMem};
use opx_defs::csr;
use opx_emu::server::SocketServer;
use opx_hw::vfio_user::VfioUserBus;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::cell::OnceCell;
use std::fs::File;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const MOST_MESSAGES: usize = 64;
const VERSION: &[u8] = b"\0\0\x01\0{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}\0";
/// How long the server may take for anything: it computes, and waits for nobody.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Arbitrary)]
struct Client {
    /// Whether it begins as it should.
    greets: bool,
    messages: Vec<Message>,
    /// Whether a driver opens the adapter afterwards; the registers are looked at in any case.
    driver: bool,
}

#[derive(Debug, Arbitrary)]
enum Message {
    /// Anything.
    Bytes(Vec<u8>),
    /// A header that speaks of the body, and any body.
    Framed {
        command: u8,
        no_reply: bool,
        body: Vec<u8>,
        fds: Vec<Descriptor>,
    },
    /// Memory, whole or in part.
    DmaMap {
        iova: Place,
        offset: Place,
        len: Place,
        fd: Descriptor,
    },
    DmaUnmap {
        iova: Place,
        len: Place,
        flags: u8,
    },
    Read {
        region: u8,
        at: Place,
        len: u16,
    },
    Write {
        region: u8,
        at: Place,
        data: Vec<u8>,
    },
    /// A register of the catalogue.
    Register {
        row: u16,
        index: u16,
        value: u64,
    },
    Irqs {
        index: u8,
        flags: u8,
        start: u8,
        count: u8,
        fds: Vec<Descriptor>,
    },
    Reset,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Descriptor {
    Memory,
    Event,
    Null,
}

/// A number that is more often at an edge than not.
#[derive(Debug, Clone, Copy)]
struct Place(u64);

impl<'a> Arbitrary<'a> for Place {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self(match u.int_in_range(0..=5)? {
            0 => u64::arbitrary(u)?,
            1 => 0u64.wrapping_sub(u8::arbitrary(u)?.into()),
            2 => 1 << u.int_in_range(0..=63)?,
            3 => u64::from(u8::arbitrary(u)?) * 4096,
            4 => (64 << 20) - u64::from(u8::arbitrary(u)?),
            _ => u16::arbitrary(u)?.into(),
        }))
    }
}

/// The descriptors that clients have.
struct Files {
    memory: SharedMem,
    event: Irq,
    null: File,
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        // As in any Rust program; libFuzzer's start isn't Rust's.
        signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::default()).expect("a signal handler");
        // The crate that does the protocol panics on version messages that it can't read, which `server.rs` knows and catches.
        let abort = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.location().is_some_and(|location| location.file().contains("/vfio_user-")) {
                abort(info);
            }
        }));
        Self {
            memory: SharedMem::new(64 << 10).expect("memory"),
            event: Irq::new().expect("an eventfd"),
            null: File::options().read(true).write(true).open("/dev/null").expect("/dev/null"),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn fd(&self, which: Descriptor) -> BorrowedFd<'_> {
        match which {
            Descriptor::Memory => self.memory.fd().expect("memory that can be handed on").0,
            Descriptor::Event => self.event.fd(),
            Descriptor::Null => self.null.as_fd(),
        }
    }
}

impl Message {
    /// Its bytes and descriptors.
    fn encode(&self, id: u16) -> (Vec<u8>, Vec<Descriptor>) {
        let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let framed = |command, flags, body: Vec<u8>| frame(id, command, flags, &body);
        match self {
            Self::Bytes(bytes) => (bytes.clone(), Vec::new()),
            Self::Framed { command, no_reply, body, fds } => {
                (framed(u16::from(*command % 20), u32::from(*no_reply) << 4, body.clone()), fds.clone())
            }
            Self::DmaMap { iova, offset, len, fd } => {
                (framed(2, 0, words(&[3 << 32 | 32, offset.0, iova.0, len.0])), vec![*fd])
            }
            Self::DmaUnmap { iova, len, flags } => {
                (framed(3, 0, words(&[u64::from(flags & 3) << 32 | 24, iova.0, len.0])), Vec::new())
            }
            Self::Read { region, at, len } => {
                let access = u64::from(*len) << 32 | u64::from(region % 10);
                (framed(9, 0, words(&[at.0, access])), Vec::new())
            }
            Self::Write { region, at, data } => {
                let access = (data.len() as u64) << 32 | u64::from(region % 10);
                (framed(10, 1 << 4, [words(&[at.0, access]), data.clone()].concat()), Vec::new())
            }
            Self::Register { row, index, value } => {
                let row = csr::all().nth(usize::from(*row) % csr::all().count()).expect("the catalogue isn't empty");
                let at = row.at(u32::from(*index) % row.count);
                (framed(10, 1 << 4, words(&[at.0.into(), 8 << 32, *value])), Vec::new())
            }
            Self::Irqs { index, flags, start, count, fds } => {
                let flags = 1 << (flags % 4) | 1 << (3 + flags / 4 % 4);
                let body = words(&[flags << 32 | 20, u64::from(*start) << 32 | u64::from(index % 6)]);
                let body = [body, u32::from(*count).to_le_bytes().to_vec()].concat();
                (framed(8, 0, body), fds.clone())
            }
            Self::Reset => (framed(13, 0, Vec::new()), Vec::new()),
        }
    }
}

fn frame(id: u16, command: u16, flags: u32, body: &[u8]) -> Vec<u8> {
    let size = 16 + body.len() as u32;
    let mut bytes = [id.to_le_bytes(), command.to_le_bytes()].concat();
    bytes.extend([size, flags, 0].into_iter().flat_map(u32::to_le_bytes));
    bytes.extend(body);
    bytes
}

/// Sends what the server takes, and reads what it answers, so that neither waits for the other.
fn send(stream: &mut UnixStream, files: &Files, bytes: &[u8], fds: &[Descriptor]) -> std::io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().take(16).map(|fd| files.fd(*fd)).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let sent = sendmsg(&*stream, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        match sent {
            Ok(sent) => {
                rest = &rest[sent..];
                control.clear();
            }
            Err(rustix::io::Errno::AGAIN) => drain(stream)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads what is there.
fn drain(stream: &mut UnixStream) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut buffer = vec![0; 1 << 16];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    stream.set_nonblocking(false)
}

/// One client's life, to the moment when the server has hung up, too.
fn live(path: &Path, files: &Files, client: &Client) {
    let mut stream = UnixStream::connect(path).expect("the server listens");
    let mut sent = Ok(());
    if client.greets {
        sent = send(&mut stream, files, &frame(0, 1, 0, VERSION), &[]);
    }
    for (id, message) in (1..).zip(client.messages.iter().take(MOST_MESSAGES)) {
        if sent.is_err() {
            break;
        }
        let (bytes, fds) = message.encode(id);
        sent = send(&mut stream, files, &bytes, &fds);
    }
    let _ = stream.shutdown(Shutdown::Write);
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the server hangs"),
            Err(_) => return,
        }
    }
}

thread_local! {
    static FILES: OnceCell<Files> = const { OnceCell::new() };
}

fuzz_target!(|client: Client| {
    opx_fuzz::log_everything();
    FILES.with(|files| {
        let files = files.get_or_init(Files::new);
        let path = files.folder.path().join("adapter.sock");
        let adapter = opx_fuzz::adapter();
        let _server = SocketServer::start(adapter.clone(), &path).expect("a server");
        live(&path, files, &client);
        adapter.bus().pause(Duration::from_millis(1));
        // While it is served, what the client before it left has been cleaned up.
        let bus = VfioUserBus::open(&path).expect("the next client is served");
        let revision = bus.read64(csr::CCE_REVISION.off());
        assert_eq!(csr::CCE_REVISION::CHIP_REV_MAJOR.get(revision), 7);
        assert!(adapter.unmodelled().len() <= 4097);
        if client.driver {
            opx_fuzz::bring_up(&adapter);
        }
    });
});
