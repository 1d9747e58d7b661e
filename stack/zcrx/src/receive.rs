//! One connection being received: what a completion means for it, and when to begin again.

use std::os::fd::OwnedFd;

/// A connection on a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    index: u32,
    /// Which of those that had the index one after another.
    generation: u32,
}

/// Generations have so many bits: no stream's user data is one of the reserved ones at the end.
const GENERATIONS: u32 = 1 << 31;

impl StreamId {
    pub(crate) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn of(user_data: u64) -> Self {
        Self { index: user_data as u32, generation: (user_data >> 32) as u32 }
    }
}

/// What a completion means for its stream, besides the bytes that it may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// More will come.
    Goes,
    /// The kernel stopped; it is to begin again at once.
    Again,
    /// The kernel found no free buffer; it is to begin again when one was returned.
    Starves,
    /// The peer closed the connection.
    Closed,
    /// It was stopped from here.
    Stopped,
    /// This error number.
    Failed(i32),
}

/// What a completion means. Without `more`, the kernel has stopped (io_uring/net.c:io_recvzc).
pub(crate) fn verdict(result: i32, more: bool) -> Verdict {
    match result {
        1.. if more => Verdict::Goes,
        1.. => Verdict::Again,
        0 => Verdict::Closed,
        _ => match -i64::from(result) as i32 {
            libc::ENOMEM => Verdict::Starves,
            // The completion queue was full: it has been emptied meanwhile.
            libc::ENOSPC | libc::EOVERFLOW | libc::EAGAIN | libc::EINTR => Verdict::Again,
            libc::ECANCELED => Verdict::Stopped,
            error => Verdict::Failed(error),
        },
    }
}

/// How a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The kernel receives.
    Armed,
    /// Nothing was free.
    Starving,
    /// It is being stopped, after a bad completion or because it was asked for.
    Stopping { told: bool },
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) socket: OwnedFd,
    pub(crate) state: State,
    /// So many buffers had been returned, and given to the kernel, when it was last begun.
    pub(crate) fed: u64,
}

/// The streams of a ring.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    slots: Vec<Option<Stream>>,
    generations: Vec<u32>,
    free: Vec<u32>,
}

impl Streams {
    /// Adds one. `None` when there are too many.
    pub(crate) fn add(&mut self, socket: OwnedFd) -> Option<StreamId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(None);
                self.generations.push(0);
                index
            }
        };
        let id = StreamId { index, generation: self.generations[index as usize] };
        self.slots[index as usize] = Some(Stream { id, socket, state: State::Armed, fed: 0 });
        Some(id)
    }

    /// The stream, unless it has ended.
    #[inline]
    pub(crate) fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.slots.get_mut(id.index as usize)?.as_mut().filter(|stream| stream.id == id)
    }

    /// Ends it.
    pub(crate) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        self.get(id)?;
        let stream = self.slots.get_mut(id.index as usize)?.take();
        if let Some(generation) = self.generations.get_mut(id.index as usize) {
            *generation = (*generation + 1) % GENERATIONS;
        }
        self.free.push(id.index);
        stream
    }

    /// All of them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Z17: each way in which the kernel stops, and what is done then.
    #[test]
    fn each_completion_has_its_meaning() {
        for (result, more, meaning) in [
            (1500, true, Verdict::Goes),
            (1500, false, Verdict::Again),
            (0, false, Verdict::Closed),
            (-libc::ENOMEM, false, Verdict::Starves),
            (-libc::ENOSPC, false, Verdict::Again),
            (-libc::EINTR, false, Verdict::Again),
            (-libc::ECANCELED, false, Verdict::Stopped),
            (-libc::ECONNRESET, false, Verdict::Failed(libc::ECONNRESET)),
        ] {
            assert_eq!(verdict(result, more), meaning, "{result} {more}");
        }
        // Not an error number of any kernel, but no reason to fall over.
        assert!(matches!(verdict(i32::MIN, true), Verdict::Failed(_)));
    }

    #[test]
    fn a_late_completion_doesnt_reach_the_next_stream_in_its_place() {
        let socket = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut streams = Streams::default();
        let first = streams.add(socket()).unwrap();
        assert!(streams.remove(first).is_some());
        assert!(streams.remove(first).is_none());
        let second = streams.add(socket()).unwrap();
        assert_eq!(first.index, second.index);
        assert_ne!(first.user_data(), second.user_data());
        assert!(streams.get(StreamId::of(first.user_data())).is_none());
        assert!(streams.get(StreamId::of(second.user_data())).is_some());
        assert!(streams.get(StreamId::of(u64::MAX)).is_none());
    }
}
