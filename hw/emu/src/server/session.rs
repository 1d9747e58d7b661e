//! One client's connection: vfio-user messages in, replies out.
//!
//! Source: the protocol's specification, `docs/interop/vfio-user.rst` of QEMU. All fields are in the host's byte order.

use super::device::{Device, MAX_ACCESS};
use crate::lab::Attention;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg};
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, vfio_region_info,
};

/// Bytes of the header that every message begins with.
const HEADER: usize = 16;
/// Bytes that follow the header of a region access, before the data.
const ACCESS: usize = 16;
/// The longest message: a write of the longest access.
const MAX_MESSAGE: usize = HEADER + ACCESS + MAX_ACCESS;
/// Descriptors that one message may bring.
const MAX_FDS: usize = 16;
/// Bytes that one call takes off the socket at most, unless a single message is longer.
const CHUNK: usize = 1 << 16;
/// How long the server looks away in the middle of a PIO packet. A guest stores a packet in qwords, each a message; a server
/// that wakes for every one takes the processor from the guest each time. Timers add about 50 us to it.
const PIO_NAP: Duration = Duration::from_micros(20);

/// Low bits of the flags: what kind of message it is.
const TYPE_MASK: u32 = 0xf;
const TYPE_REPLY: u32 = 1;
/// The sender wants no reply.
const NO_REPLY: u32 = 1 << 4;
/// The reply tells of an error; the error field holds an errno.
const ERROR: u32 = 1 << 5;

const VERSION: u16 = 1;
const DMA_MAP: u16 = 2;
const DMA_UNMAP: u16 = 3;
const DEVICE_GET_INFO: u16 = 4;
const DEVICE_GET_REGION_INFO: u16 = 5;
const DEVICE_GET_IRQ_INFO: u16 = 7;
const DEVICE_SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DEVICE_RESET: u16 = 13;

/// In the flags of DMA_UNMAP: every range.
const UNMAP_ALL: u32 = 1 << 1;

/// What the server can do. The text ends with a zero byte.
const CAPABILITIES: &[u8] = b"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}\0";
const _: () = assert!(MAX_FDS == 16 && MAX_ACCESS == 1_048_576);

/// Why a connection ended other than by the client's hanging up.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it sent a message of {0} bytes, which none has")]
    Framing(u32),
}

/// Serves one client until it hangs up.
pub(super) fn serve(stream: &UnixStream, device: &mut Device) -> Result<(), SessionError> {
    let mut incoming = Incoming::default();
    let mut out = Vec::new();
    loop {
        let mut in_packet = false;
        // This thread is awake: it does itself what the messages bring about, once the client has its answers.
        let mut attention = device.attend();
        while let Some((header, body, fds)) = incoming.next()? {
            in_packet = header.command == REGION_WRITE && header.flags & NO_REPLY != 0;
            reply(device, header, body, fds, &mut out);
            incoming.done(header);
            if out.len() >= CHUNK {
                send(stream, &mut out, &mut attention)?;
            }
        }
        send(stream, &mut out, &mut attention)?;
        drop(attention);
        if in_packet && device.in_pio_packet() {
            std::thread::sleep(PIO_NAP);
        }
        if !incoming.receive(stream)? {
            return Ok(());
        }
    }
}

/// Sends the answers. A client that doesn't take them must not hold up the chip: its thread then has it back.
fn send(mut stream: &UnixStream, out: &mut Vec<u8>, attention: &mut Option<Attention>) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let sent = match rustix::net::send(stream, out, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) => sent,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        Err(error) => return Err(error.into()),
    };
    let result = match out.get(sent..) {
        None | Some([]) => Ok(()),
        Some(rest) => {
            drop(attention.take());
            stream.write_all(rest)
        }
    };
    out.clear();
    result
}

/// A message's header.
#[derive(Debug, Clone, Copy)]
struct Header {
    id: u16,
    command: u16,
    /// Bytes of the whole message.
    size: u32,
    flags: u32,
}

/// A message: its header, what follows, and the descriptors that came with it.
type Message<'a> = (Header, &'a [u8], Vec<File>);

/// What has come in and wasn't handled yet.
#[derive(Default)]
struct Incoming {
    buffer: Vec<u8>,
    /// The part of the buffer that holds bytes.
    start: usize,
    end: usize,
    /// Descriptors, and where the chunk that they came with ends. The kernel ends a chunk with the bytes that were sent
    /// together with descriptors, so these belong to the message that the chunk's last byte is in.
    fds: Option<(usize, Vec<File>)>,
}

impl Incoming {
    /// The header of the message at the front, when it is there.
    fn header(&self) -> Result<Option<Header>, SessionError> {
        let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
        let words = (u32_at(bytes, 0), u32_at(bytes, 4), u32_at(bytes, 8));
        let (Ok(low), Ok(size), Ok(flags)) = words else { return Ok(None) };
        if !(HEADER..=MAX_MESSAGE).contains(&(size as usize)) {
            return Err(SessionError::Framing(size));
        }
        Ok((bytes.len() >= HEADER).then_some(Header { id: low as u16, command: (low >> 16) as u16, size, flags }))
    }

    /// The message at the front, when it is there as a whole.
    fn next(&mut self) -> Result<Option<Message<'_>>, SessionError> {
        let Some(header) = self.header()? else { return Ok(None) };
        let after = self.start + header.size as usize;
        if after > self.end {
            return Ok(None);
        }
        let fds = match self.fds.take_if(|(chunk_end, _)| *chunk_end <= after) {
            Some((_, fds)) => fds,
            None => Vec::new(),
        };
        Ok(Some((header, self.buffer.get(self.start + HEADER..after).unwrap_or_default(), fds)))
    }

    /// The message at the front has been handled.
    fn done(&mut self, header: Header) {
        self.start += header.size as usize;
    }

    /// Waits for more; `false` when the client has hung up.
    fn receive(&mut self, stream: &UnixStream) -> Result<bool, SessionError> {
        // What is left moves to the front: at most the beginning of one message.
        self.buffer.copy_within(self.start..self.end, 0);
        if let Some((chunk_end, _)) = &mut self.fds {
            *chunk_end -= self.start;
        }
        (self.start, self.end) = (0, self.end - self.start);
        let wanted = self.header()?.map_or(HEADER, |header| header.size as usize);
        self.buffer.resize(wanted.max(CHUNK), 0);
        // The next message's descriptors must not come while this one's are here.
        let limit = if self.fds.is_some() { wanted } else { self.buffer.len() };
        let Some(room) = self.buffer.get_mut(self.end..limit) else { return Ok(false) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let count = loop {
            match recvmsg(stream, &mut [IoSliceMut::new(room)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                result => break result.map_err(io::Error::from)?.bytes,
            }
        };
        self.end += count;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                fds.extend(files.map(File::from));
            }
        }
        if !fds.is_empty() {
            self.fds = Some((self.end, fds));
        }
        Ok(count != 0)
    }
}

/// Does what a message asks for and adds the reply to `out`, when it wants one.
fn reply(device: &mut Device, header: Header, body: &[u8], fds: Vec<File>, out: &mut Vec<u8>) {
    if header.flags & TYPE_MASK == TYPE_REPLY {
        // The server asks nothing.
        log::warn!("a reply to nothing (command {}) came from the client", header.command);
        return;
    }
    let at = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let result = answer(device, header.command, body, fds, out);
    if let Err(errno) = result {
        log::warn!("command {} of {} bytes is refused: {errno}", header.command, header.size);
        out.truncate(at + HEADER);
    }
    if header.flags & NO_REPLY != 0 {
        return out.truncate(at);
    }
    let (flags, error) = match result {
        Ok(()) => (TYPE_REPLY, 0),
        Err(errno) => (TYPE_REPLY | ERROR, errno.raw_os_error() as u32),
    };
    let size = (out.len() - at) as u32;
    let words = [u32::from(header.id) | u32::from(header.command) << 16, size, flags, error];
    let place = out.get_mut(at..).unwrap_or_default();
    for (place, word) in place.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

/// Does what a message asks for; what the reply says goes to `out`.
fn answer(device: &mut Device, command: u16, body: &[u8], mut fds: Vec<File>, out: &mut Vec<u8>) -> Result<(), Errno> {
    let mut put = |words: &[u32]| words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    match command {
        VERSION => {
            if u32_at(body, 0)? as u16 != 0 {
                return Err(Errno::NOTSUP);
            }
            put(&[0]);
            out.extend_from_slice(CAPABILITIES);
        }
        DMA_MAP => {
            let (offset, address, len) = (u64_at(body, 8)?, u64_at(body, 16)?, u64_at(body, 24)?);
            if fds.len() > 1 {
                return Err(Errno::INVAL);
            }
            device.dma_map(offset, address, len, fds.pop());
        }
        DMA_UNMAP => {
            let (argsz, flags, address, len) =
                (u32_at(body, 0)?, u32_at(body, 4)?, u64_at(body, 8)?, u64_at(body, 16)?);
            device.dma_unmap(flags & UNMAP_ALL != 0, address, len);
            put(&[argsz, flags, address as u32, (address >> 32) as u32, len as u32, (len >> 32) as u32]);
        }
        DEVICE_GET_INFO => {
            put(&[16, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET, VFIO_PCI_NUM_REGIONS, VFIO_PCI_NUM_IRQS]);
        }
        DEVICE_GET_REGION_INFO => {
            let index = u32_at(body, 8)?;
            let (len, flags) = Device::region(index).ok_or(Errno::INVAL)?;
            let argsz = size_of::<vfio_region_info>() as u32;
            put(&[argsz, flags, index, 0, len as u32, (len >> 32) as u32, 0, 0]);
        }
        DEVICE_GET_IRQ_INFO => {
            let index = u32_at(body, 8)?;
            let (count, flags) = Device::irqs(index).ok_or(Errno::INVAL)?;
            put(&[16, flags, index, count]);
        }
        DEVICE_SET_IRQS => {
            let (flags, index, start, count) =
                (u32_at(body, 4)?, u32_at(body, 8)?, u32_at(body, 12)?, u32_at(body, 16)?);
            device.set_irqs(index, flags, start, count, fds)?;
        }
        REGION_READ => {
            let (offset, region, count) = (u64_at(body, 0)?, u32_at(body, 8)?, u32_at(body, 12)? as usize);
            if count > MAX_ACCESS || Device::region(region).is_none() {
                return Err(Errno::INVAL);
            }
            out.extend_from_slice(body.get(..ACCESS).ok_or(Errno::INVAL)?);
            let data_at = out.len();
            out.resize(data_at + count, 0);
            device.region_read(region, offset, out.get_mut(data_at..).unwrap_or_default());
        }
        REGION_WRITE => {
            let (offset, region, count) = (u64_at(body, 0)?, u32_at(body, 8)?, u32_at(body, 12)? as usize);
            let (access, data) = body.split_at_checked(ACCESS).ok_or(Errno::INVAL)?;
            if Device::region(region).is_none() {
                return Err(Errno::INVAL);
            }
            device.region_write(region, offset, data.get(..count).ok_or(Errno::INVAL)?);
            out.extend_from_slice(access);
        }
        DEVICE_RESET => device.reset(),
        _ => return Err(Errno::NOTSUP),
    }
    Ok(())
}

/// The 32-bit field at `offset`.
fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, Errno> {
    let field = bytes.get(offset..).and_then(|bytes| bytes.first_chunk());
    field.map(|field| u32::from_le_bytes(*field)).ok_or(Errno::INVAL)
}

/// The 64-bit field at `offset`.
fn u64_at(bytes: &[u8], offset: usize) -> Result<u64, Errno> {
    let field = bytes.get(offset..).and_then(|bytes| bytes.first_chunk());
    field.map(|field| u64::from_le_bytes(*field)).ok_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Lab, Pacing};
    use opx_bus::Irq;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
    use std::io::{IoSlice, Read};
    use vfio_bindings::bindings::vfio::{
        VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    };

    fn message(id: u16, command: u16, flags: u32, body: &[u8]) -> Vec<u8> {
        let words = [u32::from(id) | u32::from(command) << 16, (HEADER + body.len()) as u32, flags, 0];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend_from_slice(body);
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A read of 4 bytes of config space, and what they are.
    const ID: [u32; 4] = [0, 0, 7, 4];
    const ID_VALUE: [u8; 4] = [0x86, 0x80, 0xf0, 0x24];

    /// What the server answers to what `client` sends before it hangs up, and how the session ended.
    fn session(client: impl FnOnce(&mut UnixStream)) -> (Vec<u8>, Result<(), SessionError>) {
        let (server, mut stream) = UnixStream::pair().unwrap();
        let mut device = Device::new(Lab::new(Pacing::Real).add(Config::default()));
        std::thread::scope(|scope| {
            let served = scope.spawn(move || serve(&server, &mut device));
            client(&mut stream);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answers = Vec::new();
            stream.read_to_end(&mut answers).unwrap();
            (answers, served.join().unwrap())
        })
    }

    #[test]
    fn messages_may_come_in_any_pieces() {
        let sent: Vec<u8> = (0..4).flat_map(|id| message(id, REGION_READ, 0, &words(&ID))).collect();
        let whole = session(|stream| stream.write_all(&sent).unwrap()).0;
        assert_eq!(whole.len(), 4 * (HEADER + ACCESS + 4));
        assert!(whole.ends_with(&ID_VALUE));
        for size in [1, 15, 33] {
            let pieces = session(|stream| sent.chunks(size).for_each(|piece| stream.write_all(piece).unwrap())).0;
            assert_eq!(pieces, whole, "{size}");
        }
    }

    #[test]
    fn posted_messages_have_no_reply_not_even_an_error() {
        let sent = [
            message(1, REGION_WRITE, NO_REPLY, &words(&[0, 0, 0, 64])),
            message(2, 99, NO_REPLY, &[]),
            message(3, DEVICE_RESET, NO_REPLY, &[]),
            message(4, DEVICE_RESET, TYPE_REPLY, &[]),
            message(5, 99, 0, &[]),
        ]
        .concat();
        let (answers, _) = session(|stream| stream.write_all(&sent).unwrap());
        let refused = Errno::NOTSUP.raw_os_error() as u32;
        assert_eq!(answers, words(&[5 | 99 << 16, 16, TYPE_REPLY | ERROR, refused]));
    }

    #[test]
    fn bodies_that_are_too_short_are_refused_and_the_next_message_is_understood() {
        for command in [VERSION, DMA_MAP, DMA_UNMAP, DEVICE_GET_REGION_INFO, DEVICE_SET_IRQS, REGION_READ, REGION_WRITE]
        {
            let sent = [message(1, command, 0, &[0; 3]), message(2, REGION_READ, 0, &words(&ID))].concat();
            let (answers, end) = session(|stream| stream.write_all(&sent).unwrap());
            assert_eq!(u32_at(&answers, 8), Ok(TYPE_REPLY | ERROR), "{command}");
            assert!(answers.ends_with(&ID_VALUE) && end.is_ok(), "{command}");
        }
    }

    #[test]
    fn a_length_that_no_message_has_ends_the_session() {
        for size in [0, 15, MAX_MESSAGE as u32 + 1, u32::MAX] {
            let (answers, end) = session(|stream| stream.write_all(&words(&[1, size, 0, 0])).unwrap());
            assert!(matches!(end, Err(SessionError::Framing(wrong)) if wrong == size), "{size}: {answers:?}");
        }
    }

    #[test]
    fn the_longest_access_goes_through() {
        let access = words(&[0, 0, 0, MAX_ACCESS as u32]);
        let write = message(1, REGION_WRITE, 0, &[&access[..], &vec![0; MAX_ACCESS]].concat());
        let (answers, end) = session(|stream| {
            stream.write_all(&write).unwrap();
            stream.write_all(&message(2, REGION_READ, 0, &access)).unwrap();
        });
        assert_eq!(answers.len(), HEADER + ACCESS + MAX_MESSAGE);
        assert!(end.is_ok());
    }

    #[test]
    fn descriptors_belong_to_the_message_that_they_came_with() {
        let irqs = [Irq::new().unwrap(), Irq::new().unwrap()];
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        let (_, end) = session(|stream| {
            for (vector, irq) in irqs.iter().enumerate() {
                // It comes after another message, with the first half of its own.
                let set = message(1, DEVICE_SET_IRQS, 0, &words(&[20, flags, 2, vector as u32, 1]));
                let (first, rest) = set.split_at(HEADER + 3);
                let sent = [&message(0, REGION_READ, 0, &words(&ID)), first].concat();
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let fds = [irq.fd()];
                assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
                let count = sendmsg(&*stream, &[IoSlice::new(&sent)], &mut control, SendFlags::empty()).unwrap();
                assert_eq!(count, sent.len());
                stream.write_all(rest).unwrap();
            }
            let test = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
            stream.write_all(&message(2, DEVICE_SET_IRQS, 0, &words(&[20, test, 2, 1, 1]))).unwrap();
        });
        assert!(end.is_ok());
        assert_eq!(irqs.each_ref().map(|irq| irq.take().unwrap()), [false, true]);
    }
}
