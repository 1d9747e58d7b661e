//! Messages by this project's own stack.

use crate::transport::{Access, Content, Event, Message, Sent, Transport, Window};
use anyhow::{Context, Result, bail};
use memmap2::MmapMut;
use opx_bus::shared_mem::PAGE;
use opx_bus::{PciFunction, SharedMem};
use opx_stack::atomics::{AtomicOp, Datatype, Op};
use opx_stack::regions::{self, MemoryRegion, Registration};
use opx_stack::{
    Address, Atomic, Buffer, Completion, Endpoint, Outgoing, Pattern, Read, Remote, RequestError, SendError,
    SharedRange, Write,
};
use std::collections::VecDeque;

/// Longest message that is injected: copied, without a completion.
const INJECT: usize = 16;
/// From here on messages lie in one piece of memory, all that are under way, as MPI's and UCX's programs have it.
const LONG: usize = 16 << 10;

/// An endpoint and its peer.
pub struct Opx<B: PciFunction> {
    end: Endpoint<B>,
    peer: Address,
    /// What lets others run when nothing is to be done; `None` where each end has a processor.
    bus: Option<B>,
    /// Buffers of operations that have ended, the last one last.
    spare: VecDeque<Vec<u8>>,
    /// See [`Transport::rotate`].
    rotation: usize,
    /// What has come last: its bytes, unless it lies in the one memory.
    last: Vec<u8>,
    last_long: Option<SharedRange>,
    /// What long messages lie in, those that are sent and those that come.
    one: [Option<SharedMem>; 2],
    /// Memory that the peer may use.
    exposed: Option<MemoryRegion>,
}

impl<B: PciFunction> Opx<B> {
    /// Talks over `end` with `peer`.
    pub fn new(end: Endpoint<B>, peer: Address, bus: Option<B>) -> Self {
        let (spare, last) = (VecDeque::new(), Vec::new());
        Self { end, peer, bus, spare, rotation: 0, last, last_long: None, one: [None, None], exposed: None }
    }

    /// Whether everything sent has been acknowledged.
    pub fn is_quiet(&self) -> bool {
        self.end.is_quiet()
    }

    /// Packets that have come.
    pub fn packets_in(&self) -> u64 {
        self.end.counters().packets_in
    }

    #[inline]
    fn buffer(&mut self, len: usize) -> Vec<u8> {
        // Most often the one that was used last.
        if self.rotation == 0
            && self.spare.back().is_some_and(|buffer| buffer.len() == len)
            && let Some(buffer) = self.spare.pop_back()
        {
            return buffer;
        }
        self.other_buffer(len)
    }

    #[inline(never)]
    fn other_buffer(&mut self, len: usize) -> Vec<u8> {
        let buffer = match self.rotation {
            0 => self.spare.pop_back(),
            bytes if self.spare.len() * len < bytes => None,
            _ => self.spare.pop_front(),
        };
        let mut buffer = buffer.unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    /// Whether messages of a length lie in the one memory that there is for them.
    #[inline]
    fn is_long(&self, len: usize) -> bool {
        self.rotation == 0 && len >= LONG
    }

    /// That memory, for one way.
    fn one(&mut self, way: usize, len: usize) -> Result<SharedRange> {
        let one = self.one.get_mut(way).context("memory for each way")?;
        let memory = match one {
            Some(memory) if memory.len() >= len => memory.clone(),
            _ => {
                // As MPI's and UCX's buffers: the kernel takes longer to fetch from memory that has a file.
                let map = MmapMut::map_anon(len.next_multiple_of(PAGE))?;
                one.insert(SharedMem::from_map(map)?).clone()
            }
        };
        SharedRange::new(memory, 0, len).context("memory of that length")
    }

    /// Has a buffer back.
    #[inline]
    fn spare(&mut self, buffer: Buffer) {
        if let Buffer::Bytes(bytes) = buffer {
            self.spare.push_back(bytes);
        }
    }

    /// A buffer that says what the message does.
    fn filled(&mut self, message: Message<'_>) -> Vec<u8> {
        let mut buffer = self.buffer(message.len());
        if let Message::These(bytes) = message {
            buffer.copy_from_slice(bytes);
        }
        buffer
    }

    /// Remembers what has come, until the next does.
    #[inline]
    fn keep(&mut self, buffer: Buffer) -> &[u8] {
        if let Buffer::Bytes(bytes) = buffer {
            let seen = std::mem::replace(&mut self.last, bytes);
            self.spare.push_back(seen);
        }
        &self.last
    }
}

impl<B: PciFunction> Transport for Opx<B> {
    fn label(&self) -> String {
        "opx".to_owned()
    }

    fn post(&mut self, tag: u64, len: usize) -> Result<()> {
        let pattern = Pattern { source: Some(self.peer), ..Pattern::exact(tag) };
        let posted = if self.is_long(len) {
            let range = self.one(1, len)?;
            self.end.tag_receive(pattern, range, tag)
        } else {
            let bytes = self.buffer(len);
            self.end.tag_receive(pattern, bytes, tag)
        };
        posted.map_err(|no| no.error)?;
        Ok(())
    }

    fn send(&mut self, tag: u64, message: Message<'_>) -> Result<Sent> {
        let again = |error| match error {
            SendError::Again(_) => Ok(Sent::Again),
            other => Err(other.into()),
        };
        if message.len() <= INJECT {
            let zeros = [0; INJECT];
            let bytes = match message {
                Message::Any(len) => &zeros[..len],
                Message::These(bytes) => bytes,
            };
            return match self.end.inject_message(self.peer, Some(tag), None, bytes) {
                Ok(()) => Ok(Sent::Now),
                Err(error) => again(error),
            };
        }
        let buffer = match message {
            Message::Any(len) if self.is_long(len) => Buffer::from(self.one(0, len)?),
            Message::Any(len) => self.buffer(len).into(),
            // What says something keeps saying it until it has left.
            Message::These(_) => self.filled(message).into(),
        };
        match self.end.send_message(Outgoing { tag: Some(tag), ..Outgoing::new(self.peer, buffer, tag) }) {
            Ok(()) => Ok(Sent::Later),
            Err(no) => {
                self.spare(no.buffer);
                again(no.error)
            }
        }
    }

    fn can(&self, _: Access) -> bool {
        true
    }

    fn expose(&mut self, content: &[u8]) -> Result<Window> {
        let memory = SharedMem::new(content.len().max(1))?;
        memory.write(0, content);
        let region = self.end.regions().register(Registration::of(memory, regions::Access::ATOMIC))?;
        let window = Window { key: region.key(), place: region.base() };
        self.exposed = Some(region);
        Ok(window)
    }

    fn access(&mut self, access: Access, window: Window, message: Message<'_>) -> Result<Sent> {
        let there = Remote { peer: self.peer, key: window.key, place: window.place };
        let asked = match access {
            Access::Write => {
                let buffer = self.filled(message);
                self.end.write_with(Write::new(there, buffer, 0))
            }
            Access::Read => {
                let buffer = self.buffer(message.len());
                self.end.read_with(Read::new(there, buffer, 0))
            }
            Access::Fetch => {
                let (operand, result) = (self.filled(message), self.buffer(message.len()));
                let sum = AtomicOp::new(Op::Sum, Datatype::Uint64)?;
                self.end.atomic(Atomic::fetch(there, sum, operand, result, 0))
            }
        };
        match asked {
            Ok(()) => Ok(Sent::Later),
            Err(no) => match no.error {
                RequestError::Send(SendError::Again(_)) => {
                    // As they were taken, so that trying again costs no memory.
                    match no.buffer {
                        Buffer::Vector(both) => self.spare.extend(both.into_iter().rev().map(Buffer::into_vec)),
                        one => self.spare.push_back(one.into_vec()),
                    }
                    Ok(Sent::Again)
                }
                error => Err(error.into()),
            },
        }
    }

    fn poll(&mut self) -> Result<Option<Event<'_>>> {
        // What has ended comes first: who moves on before that takes messages that no receive was posted for again.
        let mut ended = self.end.poll_completion();
        if ended.is_none() {
            self.end.progress()?;
            ended = self.end.poll_completion();
        }
        match ended {
            None => Ok(None),
            Some(Completion::Sent { buffer, .. }) => {
                self.spare(buffer);
                Ok(Some(Event::Sent))
            }
            Some(Completion::Received { tag: Some(tag), len, buffer, .. }) => {
                let content = match buffer {
                    Buffer::Shared(range) => Content::Shared(self.last_long.insert(range)),
                    buffer => Content::Bytes(self.keep(buffer).get(..len).unwrap_or_default()),
                };
                Ok(Some(Event::Received { tag, content }))
            }
            Some(Completion::Written { buffer, .. }) => {
                self.spare(buffer);
                Ok(Some(Event::Done { bytes: &[] }))
            }
            Some(Completion::Read { buffer, .. }) => Ok(Some(Event::Done { bytes: self.keep(buffer) })),
            Some(Completion::Fetched { operands, result, .. }) => {
                self.spare(operands);
                Ok(Some(Event::Done { bytes: self.keep(result) }))
            }
            Some(Completion::Failed { error, .. }) => Err(error.into()),
            Some(other) => bail!("nobody asked for {other:?}"),
        }
    }

    fn rotate(&mut self, bytes: usize) {
        self.rotation = bytes;
        self.spare.clear();
    }

    fn relax(&mut self) {
        if let Some(bus) = &self.bus {
            bus.relax();
        }
    }
}
