//! How peers find each other and wake each other: Unix sockets in the abstract namespace, which no file system knows and
//! which go with their processes. Each connection carries the segment once, and afterwards the rings of the doorbell.

use crate::error::Refusal;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, recvmsg, send, sendmsg,
    socket_with,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Bytes: an abstract address holds 107.
pub(crate) const LONGEST_NAME: usize = 80;
const PREFIX: &str = "opx-shm/";
const BACKLOG: i32 = 4096;
/// "opxshm" and the version of all that the processes share: segment, rings, records.
const MAGIC: u64 = 0x6f70_7873_686d_0003;
/// The longest record.
const RECORD: usize = 40 + LONGEST_NAME;

/// What a process tells about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Introduction {
    /// It takes part in the kernel's fences.
    pub(crate) fences: bool,
    /// Where in its memory it keeps which value, to try whether the kernel copies from it.
    pub(crate) probe: (u64, u64),
}

/// What passes over a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// The first, with the segment.
    Hello { this: Introduction, ring_bytes: u32, name: String },
    /// The answer.
    Welcome(Introduction),
    /// The other answer.
    Refused(Refusal),
    /// Look at your rings.
    Doorbell,
    /// The connection is closed on purpose.
    Bye,
}

impl Record {
    const HELLO: u8 = b'H';
    const WELCOME: u8 = b'W';
    const REFUSED: u8 = b'R';
    const DOORBELL: u8 = b'D';
    const BYE: u8 = b'B';

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello { this, ring_bytes, name } => {
                let mut bytes = this.encode(Self::HELLO, *ring_bytes);
                bytes.extend_from_slice(name.as_bytes());
                bytes
            }
            Self::Welcome(this) => this.encode(Self::WELCOME, 0),
            Self::Refused(why) => vec![Self::REFUSED, refusal_code(*why)],
            Self::Doorbell => vec![Self::DOORBELL],
            Self::Bye => vec![Self::BYE],
        }
    }

    /// None when it is nothing that this version knows.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match *bytes.first()? {
            Self::HELLO => {
                let (this, ring_bytes, name) = Introduction::decode(bytes)?;
                let name = std::str::from_utf8(name).ok().filter(|name| is_name(name))?;
                Some(Self::Hello { this, ring_bytes, name: name.to_owned() })
            }
            Self::WELCOME => Introduction::decode(bytes).map(|(this, ..)| Self::Welcome(this)),
            Self::REFUSED => Some(Self::Refused(refusal(*bytes.get(1)?))),
            Self::DOORBELL => Some(Self::Doorbell),
            Self::BYE => Some(Self::Bye),
            _ => None,
        }
    }
}

impl Introduction {
    /// Kind, fences, two bytes of nothing, size of a ring; magic, probe.
    fn encode(self, kind: u8, ring_bytes: u32) -> Vec<u8> {
        let mut bytes = vec![kind, self.fences.into(), 0, 0];
        bytes.extend_from_slice(&ring_bytes.to_le_bytes());
        for word in [MAGIC, self.probe.0, self.probe.1] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<(Self, u32, &[u8])> {
        let (first, rest) = bytes.split_first_chunk::<8>()?;
        let (words, rest) = rest.split_first_chunk::<24>()?;
        let &[_, fences, _, _, a, b, c, d] = first;
        let (words, _) = words.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let (magic, at, value) = (words.next()?, words.next()?, words.next()?);
        (magic == MAGIC).then_some((
            Self { fences: fences == 1, probe: (at, value) },
            u32::from_le_bytes([a, b, c, d]),
            rest,
        ))
    }
}

fn refusal_code(why: Refusal) -> u8 {
    match why {
        Refusal::NotTrusted => 1,
        Refusal::TooManyPeers => 2,
        Refusal::Segment => 3,
        Refusal::Version => 4,
        Refusal::Other(code) => code,
    }
}

fn refusal(code: u8) -> Refusal {
    match code {
        1 => Refusal::NotTrusted,
        2 => Refusal::TooManyPeers,
        3 => Refusal::Segment,
        4 => Refusal::Version,
        code => Refusal::Other(code),
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
}

fn address(name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(format!("{PREFIX}{name}").as_bytes())?)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

/// Takes a name and listens. EADDRINUSE when it is taken.
pub(crate) fn publish(name: &str) -> io::Result<OwnedFd> {
    let socket = socket()?;
    bind(&socket, &address(name)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects to who has a name. ECONNREFUSED when nobody has, EAGAIN when too many want to.
pub(crate) fn reach(name: &str) -> io::Result<OwnedFd> {
    let socket = socket()?;
    retry_on_intr(|| connect(&socket, &address(name).map_err(|_| rustix::io::Errno::INVAL)?))?;
    Ok(socket)
}

/// The next who wants to connect.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    match retry_on_intr(|| accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)) {
        Ok(socket) => Ok(Some(socket)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED) => Ok(None),
        Err(why) => Err(why.into()),
    }
}

/// Who is at the other end, as the kernel says: its process, unless that is in another namespace, and its user.
pub(crate) fn credentials(socket: BorrowedFd<'_>) -> io::Result<(Option<rustix::process::Pid>, u32)> {
    // Not rustix's: there a process of another namespace, number 0, would be a value that its type can't have.
    let peer = getsockopt(&socket, PeerCredentials).map_err(|errno: Errno| io::Error::from(errno))?;
    Ok((rustix::process::Pid::from_raw(peer.pid()), peer.uid()))
}

/// Sends a record, with a file or without. EAGAIN when the other end reads none.
pub(crate) fn tell(socket: BorrowedFd<'_>, record: &Record, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = record.encode();
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = file.map(|file| [file]);
    if let Some(files) = &files {
        ancillary.push(SendAncillaryMessage::ScmRights(files));
    }
    retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, flags))?;
    Ok(())
}

/// Wakes the other end. A full buffer means that it was woken already; a broken connection is noticed by whoever reads it.
pub(crate) fn ring(socket: BorrowedFd<'_>) {
    let _ = send(socket, &[Record::DOORBELL], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

/// What was read from a connection.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Nothing more at present.
    Nothing,
    /// The other end is closed.
    End,
    /// A record, and the file that came with it.
    Record(Record, Option<OwnedFd>),
    /// Something else.
    Junk,
}

/// Reads the next record.
pub(crate) fn hear(socket: BorrowedFd<'_>) -> Heard {
    let mut bytes = [0; RECORD];
    // Room for one file. Of more the kernel closes the rest.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut receive = || retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags));
    let read = match receive() {
        // Told once, before what was sent, when the other end closed without having read everything.
        Err(rustix::io::Errno::CONNRESET) => receive(),
        read => read,
    };
    let read = match read {
        Ok(read) => read,
        Err(rustix::io::Errno::AGAIN) => return Heard::Nothing,
        Err(_) => return Heard::End,
    };
    let file = ancillary
        .drain()
        .filter_map(|message| if let RecvAncillaryMessage::ScmRights(files) = message { Some(files) } else { None })
        .flatten()
        .last();
    if read.bytes == 0 {
        return Heard::End;
    }
    match bytes.get(..read.bytes).and_then(Record::decode) {
        Some(record) => Heard::Record(record, file),
        None => Heard::Junk,
    }
}

/// Whether a process has ended, by its pidfd, and whether there is something to be read from its socket.
pub(crate) fn news(process: Option<BorrowedFd<'_>>, socket: BorrowedFd<'_>) -> (bool, bool) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let fd = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut fds = [fd(socket), fd(process.unwrap_or(socket))];
    if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_err() {
        // To be on the safe side.
        return (false, true);
    }
    let [speaks, ended] = fds.map(|fd| !fd.revents().is_empty());
    (ended && process.is_some(), speaks)
}

/// Its pidfd, which becomes readable when it ends.
pub(crate) fn watch(process: rustix::process::Pid) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        let name = format!("socket-test-{}-{:?}", std::process::id(), std::thread::current().id());
        let listener = publish(&name).unwrap();
        let one = reach(&name).unwrap();
        (one, accept(listener.as_fd()).unwrap().unwrap())
    }

    proptest! {
        #[test]
        fn records_are_read_as_they_are_written(fences: bool, at: u64, value: u64, ring_bytes: u32, name in "[a-zß/]{1,40}", code: u8) {
            let this = Introduction { fences, probe: (at, value) };
            for record in [
                Record::Hello { this, ring_bytes, name },
                Record::Welcome(this),
                Record::Refused(refusal(code)),
                Record::Doorbell,
                Record::Bye,
            ] {
                let bytes = record.encode();
                prop_assert!(bytes.len() <= RECORD);
                prop_assert_eq!(Record::decode(&bytes), Some(record));
            }
        }

        #[test]
        fn anything_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(record) = Record::decode(&bytes) {
                prop_assert_eq!(Record::decode(&record.encode()), Some(record));
            }
        }
    }

    #[test]
    fn records_and_a_file_pass() {
        let (one, other) = pair();
        assert!(matches!(hear(other.as_fd()), Heard::Nothing));
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        tell(one.as_fd(), &Record::Bye, Some(reader.as_fd())).unwrap();
        ring(one.as_fd());
        let Heard::Record(Record::Bye, Some(file)) = hear(other.as_fd()) else { panic!("no file") };
        rustix::io::write(&writer, b"x").unwrap();
        assert_eq!(rustix::io::read(&file, &mut [0; 2]).unwrap(), 1);
        assert!(matches!(hear(other.as_fd()), Heard::Record(Record::Doorbell, None)));
        let (pid, uid) = credentials(other.as_fd()).unwrap();
        assert_eq!((pid, uid), (Some(rustix::process::getpid()), rustix::process::geteuid().as_raw()));
        drop(one);
        assert!(matches!(hear(other.as_fd()), Heard::End));
    }

    #[test]
    fn a_name_is_taken_once_and_free_afterwards() {
        let name = format!("taken-{}", std::process::id());
        let first = publish(&name).unwrap();
        assert_eq!(publish(&name).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert_eq!(reach(&name).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        publish(&name).unwrap();
    }
}
