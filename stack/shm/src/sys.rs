//! The unsafe code of this crate: a page that a forked child finds empty, memory that a caller of the raw functions vouches
//! for, and what the kernel copies out of another process.
#![allow(unsafe_code)]

use crate::large::{Sink, Source};
use nix::libc::{iovec, process_vm_readv};
use opx_bus::SharedMem;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use rustix::process::Pid;
use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: usize = 4096;

/// Knows whether this process is the one that made it, or a forked child of that. Asking costs a load.
#[derive(Debug)]
pub(crate) struct ForkGuard {
    page: NonNull<AtomicU64>,
}

// SAFETY: the page is this value's own and is only seen as an atomic.
unsafe impl Send for ForkGuard {}
// SAFETY: the same.
unsafe impl Sync for ForkGuard {}

impl ForkGuard {
    pub(crate) fn new() -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice takes nothing from anybody.
        let at = unsafe { mmap_anonymous(ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE) }?;
        let page = NonNull::new(at.cast::<AtomicU64>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let guard = Self { page };
        // SAFETY: the page was just mapped and is nobody else's; a child finds zeros in it.
        unsafe { madvise(at, PAGE, Advice::LinuxWipeOnFork) }?;
        guard.word().store(1, Ordering::Relaxed);
        Ok(guard)
    }

    #[inline(always)]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: mapped, aligned and zeroed at first; it lives until `self` is dropped.
        unsafe { self.page.as_ref() }
    }

    /// Whether this is a forked child of the process that made it.
    #[inline(always)]
    pub(crate) fn is_child(&self) -> bool {
        self.word().load(Ordering::Relaxed) == 0
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new`, so long, and nobody refers to it any more.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), PAGE) };
    }
}

/// Memory that its owner keeps as it is until it is told otherwise.
#[derive(Debug)]
pub(crate) struct RawSource {
    at: *const u8,
    len: usize,
}

// SAFETY: `RawSource::new` asks for memory that any thread may read.
unsafe impl Send for RawSource {}

impl RawSource {
    /// # Safety
    /// The memory can be read by any thread and isn't written, as long as the value lives.
    pub(crate) unsafe fn new(at: *const u8, len: usize) -> Self {
        Self { at, len }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: what `new` asks for.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

/// Memory that its owner leaves to this crate until it is told otherwise.
#[derive(Debug)]
pub(crate) struct RawSink {
    at: *mut u8,
    len: usize,
}

// SAFETY: `RawSink::new` asks for memory that any thread may write.
unsafe impl Send for RawSink {}

impl RawSink {
    /// # Safety
    /// The memory can be read and written by any thread, holds bytes (it is initialized), and nobody else touches it, as
    /// long as the value lives.
    pub(crate) unsafe fn new(at: *mut u8, len: usize) -> Self {
        Self { at, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: what `new` asks for.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

/// Copies from `remote` of another process; tells how many bytes.
pub(crate) fn read_from(process: Pid, remote: usize, room: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: a slice may be written.
    unsafe { process_read(process, remote, room.as_mut_ptr(), room.len()) }
}

/// The same to a part of shared memory.
///
/// # Panics
/// When the part isn't inside.
pub(crate) fn read_into_mapped(process: Pid, remote: usize, to: &SharedMem, part: Range<usize>) -> nix::Result<usize> {
    assert!(part.start <= part.end && part.end <= to.len(), "a part that is inside");
    let at = ptr::with_exposed_provenance_mut::<u8>(to.address() as usize + part.start);
    // SAFETY: the part is inside, as was just seen, and mapped as long as `to` lives; there are no references to it, so
    // that the kernel may write to it as another process may.
    unsafe { process_read(process, remote, at, part.len()) }
}

/// # Safety
/// The memory can be written.
unsafe fn process_read(process: Pid, remote: usize, to: *mut u8, len: usize) -> nix::Result<usize> {
    let local = iovec { iov_base: to.cast(), iov_len: len };
    // An address of the other process, which isn't used in this one.
    let remote = iovec { iov_base: ptr::without_provenance_mut(remote), iov_len: len };
    let process = process.as_raw_nonzero().get();
    // SAFETY: one part each; the caller's promise for the one that is written.
    let count = unsafe { process_vm_readv(process, &raw const local, 1, &raw const remote, 1, 0) };
    nix::errno::Errno::result(count).map(|count| count as usize)
}

impl Source {
    /// Memory of a caller that vouches for it: for bindings. It is released by [`crate::Event::Released`], or when the node
    /// is dropped.
    ///
    /// # Safety
    /// Until it is released the memory can be read by any thread and isn't written.
    pub unsafe fn raw(at: *const u8, len: usize) -> Self {
        // SAFETY: what this function asks for.
        Self::from_raw(unsafe { RawSource::new(at, len) })
    }
}

impl Sink {
    /// Memory of a caller that vouches for it: for bindings. It is given back by [`crate::Event::Pulled`], or when the node
    /// is dropped.
    ///
    /// # Safety
    /// Until it is given back the memory can be read and written by any thread, holds bytes, and nobody else touches it.
    pub unsafe fn raw(at: *mut u8, len: usize) -> Self {
        // SAFETY: what this function asks for.
        Self::from_raw(unsafe { RawSink::new(at, len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, ConnectError, Forked, Header, Node, PollError, SendError};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    #[test]
    fn a_forked_child_is_told_and_does_no_harm() {
        let names = [1, 2].map(|number| format!("fork-{}-{number}", std::process::id()));
        let [mut one, mut other] = names.each_ref().map(|name| Node::open(name, Config::default()).unwrap());
        let peer = one.connect(&names[1]).unwrap();
        one.try_send(peer, Header::default(), &[b"before"]).unwrap();
        // SAFETY: the child calls nothing that takes a lock which another thread may have held: it doesn't allocate.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let sent =
                    one.try_send(peer, Header::default(), &[b"from the child"]) == Err(SendError::Forked(Forked));
                let polled = matches!(one.poll(|_| {}), Err(PollError::Forked(Forked)));
                let waited = matches!(one.wait(None), Err(PollError::Forked(Forked)));
                let connected = matches!(one.connect("x"), Err(ConnectError::Forked(Forked)));
                drop(one);
                drop(other);
                let code = if sent && polled && waited && connected { 0 } else { 1 };
                // SAFETY: ends the child without running what the parent has set up for its own end.
                unsafe { nix::libc::_exit(code) }
            }
            ForkResult::Parent { child } => assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0))),
        }
        one.try_send(peer, Header::default(), &[b"after"]).unwrap();
        let mut heard = Vec::new();
        while heard.len() < 2 {
            other
                .poll(|event| match event {
                    crate::Event::Message(message) => heard.push(message.to_vec()),
                    crate::Event::Gone { reason, .. } => panic!("{reason}"),
                    _ => {}
                })
                .unwrap();
        }
        assert_eq!(heard, [b"before".to_vec(), b"after".to_vec()]);
    }

    #[test]
    fn raw_memory_is_pulled() {
        let names = [1, 2].map(|number| format!("raw-{}-{number}", std::process::id()));
        let [mut one, mut other] = names.each_ref().map(|name| Node::open(name, Config::default()).unwrap());
        let peer = one.connect(&names[1]).unwrap();
        let from: Vec<u8> = (0..100_000).map(|i| i as u8).collect();
        let mut to = vec![0u8; 100_000];
        // SAFETY: both live, and are left alone, until the nodes are done with them, at the end of the loop.
        let (source, sink) = unsafe { (Source::raw(from.as_ptr(), from.len()), Sink::raw(to.as_mut_ptr(), to.len())) };
        one.offer(peer, Header::default(), source).unwrap();
        let (mut released, mut pulled, mut offer, mut sink) = (false, None, None, Some(sink));
        while !released || pulled.is_none() {
            one.poll(|event| released |= matches!(event, crate::Event::Released { result: Ok(()), .. })).unwrap();
            other
                .poll(|event| match event {
                    crate::Event::Offer { offered, .. } => offer = Some(offered),
                    crate::Event::Pulled { result, .. } => pulled = Some(result),
                    _ => {}
                })
                .unwrap();
            if let Some((offered, sink)) = offer.take().zip(sink.take()) {
                other.pull(offered, sink);
            }
        }
        assert_eq!(pulled, Some(Ok(100_000)));
        assert_eq!(to, from);
    }
}
