//! The endpoint as what is measured: messages and accesses to its peer's memory.

use super::abi::{EAGAIN, FI_ATOMIC, FI_MR_VIRT_ADDR, FI_REMOTE_READ, FI_REMOTE_WRITE, FI_RMA, FI_SUM, FI_UINT64};
use super::endpoint::Libfabric;
use super::slot::{Kind, Slot};
use crate::pattern::STALL;
use crate::transport::{Access, Content, Event, Message, Sent, Transport, Window};
use anyhow::{Result, ensure};
use std::ffi::c_void;
use std::ptr;
use std::time::Instant;

/// Longest message that is injected, as the stack beside it does.
const INJECT: usize = 16;

impl Transport for Libfabric {
    fn label(&self) -> String {
        format!("libfabric {}", self.provider)
    }

    fn post(&mut self, tag: u64, len: usize) -> Result<()> {
        let slot: *mut Slot = self.slots.take(len, Kind::Receive);
        let begin = Instant::now();
        loop {
            // SAFETY: the endpoint is open; slot and buffer stay where they are until the completion, as nobody touches a slot
            // that isn't free.
            let code = unsafe {
                let ops = &*(*self.end).tagged;
                (ops.recv)(
                    self.end,
                    (*slot).buffer.as_mut_ptr().cast(),
                    len,
                    ptr::null_mut(),
                    self.peer,
                    tag,
                    0,
                    slot.cast(),
                )
            };
            if code != -EAGAIN {
                return self.api.check("fi_trecv", code as i64);
            }
            ensure!(begin.elapsed() < STALL, "there was no room for a receive for {STALL:?}");
            self.read()?;
        }
    }

    fn send(&mut self, tag: u64, message: Message<'_>) -> Result<Sent> {
        let len = message.len();
        if len <= INJECT {
            let zeros = [0; INJECT];
            let bytes = match message {
                Message::Any(len) => &zeros[..len],
                Message::These(bytes) => bytes,
            };
            // SAFETY: the endpoint is open; the bytes are copied before this returns.
            let code = unsafe { ((*(*self.end).tagged).inject)(self.end, bytes.as_ptr().cast(), len, self.peer, tag) };
            if code == -EAGAIN {
                return Ok(Sent::Again);
            }
            self.api.check("fi_tinject", code as i64)?;
            return Ok(Sent::Now);
        }
        let slot = self.slots.take(len, Kind::Send);
        if let Message::These(bytes) = message {
            slot.buffer.copy_from_slice(bytes);
        }
        let slot: *mut Slot = slot;
        // SAFETY: as for receives.
        let code = unsafe {
            let ops = &*(*self.end).tagged;
            (ops.send)(self.end, (*slot).buffer.as_ptr().cast(), len, ptr::null_mut(), self.peer, tag, slot.cast())
        };
        if code == -EAGAIN {
            // SAFETY: it wasn't taken, so that the slot is this end's alone.
            self.slots.refuse(unsafe { (*slot).index });
            return Ok(Sent::Again);
        }
        self.api.check("fi_tsend", code as i64)?;
        Ok(Sent::Later)
    }

    fn can(&self, access: Access) -> bool {
        let cap = if access == Access::Fetch { FI_ATOMIC } else { FI_RMA };
        self.caps & cap != 0
    }

    fn expose(&mut self, content: &[u8]) -> Result<Window> {
        // The registration first.
        self.exposed = None;
        let memory = content.to_vec();
        let access = FI_REMOTE_READ | FI_REMOTE_WRITE;
        let registered = self.register(memory.as_ptr(), memory.len(), access)?;
        // SAFETY: it was registered just now.
        let key = unsafe { (*registered.mr).key };
        let place = if self.mr_mode & FI_MR_VIRT_ADDR == 0 { 0 } else { memory.as_ptr() as u64 };
        self.exposed = Some((registered, memory));
        Ok(Window { key, place })
    }

    fn access(&mut self, access: Access, window: Window, message: Message<'_>) -> Result<Sent> {
        let len = message.len();
        let slot = self.slots.take(len, Kind::Access(access));
        if let Message::These(bytes) = message {
            slot.buffer.copy_from_slice(bytes);
        }
        slot.result.resize(if access == Access::Fetch { len } else { 0 }, 0);
        let index = slot.index;
        let [desc, result_desc] = self.describe(index)?;
        let (end, peer, Window { key, place }) = (self.end, self.peer, window);
        let slot: *mut Slot = &raw mut self.slots[index];
        // SAFETY: the endpoint is open and has these tables, as the provider offers what they are for; the slot and its buffers
        // stay where they are until the operation ends.
        let code = unsafe {
            let buffer = (*slot).buffer.as_mut_ptr().cast::<c_void>();
            match access {
                Access::Write => ((*(*end).rma).write)(end, buffer, len, desc, peer, place, key, slot.cast()),
                Access::Read => ((*(*end).rma).read)(end, buffer, len, desc, peer, place, key, slot.cast()),
                Access::Fetch => {
                    let (result, count) = ((*slot).result.as_mut_ptr().cast(), len / 8);
                    let fetch = (*(*end).atomic).readwrite;
                    fetch(
                        end,
                        buffer,
                        count,
                        desc,
                        result,
                        result_desc,
                        peer,
                        place,
                        key,
                        FI_UINT64,
                        FI_SUM,
                        slot.cast(),
                    )
                }
            }
        };
        if code == -EAGAIN {
            self.slots.refuse(index);
            return Ok(Sent::Again);
        }
        let call = match access {
            Access::Write => "fi_write",
            Access::Read => "fi_read",
            Access::Fetch => "fi_fetch_atomic",
        };
        self.api.check(call, code as i64)?;
        Ok(Sent::Later)
    }

    fn poll(&mut self) -> Result<Option<Event<'_>>> {
        if let Some(seen) = self.last.take() {
            self.slots.end(seen);
        }
        if self.read.is_empty() {
            self.read()?;
        }
        let Some(entry) = self.read.pop() else { return Ok(None) };
        ensure!(!entry.context.is_null(), "a completion of no operation came");
        // SAFETY: contexts are those of slots, which live as long as the endpoint.
        let index = unsafe { (*entry.context).index };
        match self.slots[index].kind {
            Kind::Send => {
                self.slots.end(index);
                return Ok(Some(Event::Sent));
            }
            Kind::Access(access) => {
                self.last = Some(index);
                let slot = &self.slots[index];
                let bytes = match access {
                    Access::Write => &[][..],
                    Access::Read => &slot.buffer,
                    Access::Fetch => &slot.result,
                };
                return Ok(Some(Event::Done { bytes }));
            }
            Kind::Receive => {}
        }
        // Its content is looked at before it is used again.
        self.last = Some(index);
        let content = Content::Bytes(self.slots[index].buffer.get(..entry.len).unwrap_or_default());
        Ok(Some(Event::Received { tag: entry.tag, content }))
    }

    fn rotate(&mut self, bytes: usize) {
        self.slots.rotate(bytes);
    }
}
