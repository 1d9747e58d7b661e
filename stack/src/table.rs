//! Operations under way, named by handles that a peer may echo but not forge into another operation.
//!
//! OPX puts raw pointers on the wire in these places; here it is an index and a generation, and both are checked.

/// Names an operation: index in the low half, generation in the high half; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle(pub(crate) u64);

/// What a handle is of: the highest bits of the index. A peer can't take one for another either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// A message, in or out.
    Message = 0,
    /// What is asked of a peer's memory.
    Request = 1 << 30,
    /// A write with completion data that comes in.
    Landing = 2 << 30,
    /// The answer to a peer's request.
    Reply = 3 << 30,
}

impl Kind {
    const BITS: u32 = 3 << 30;
}

impl Handle {
    /// What it is of.
    #[inline]
    pub(crate) fn kind(self) -> Kind {
        const KINDS: [Kind; 4] = [Kind::Message, Kind::Request, Kind::Landing, Kind::Reply];
        KINDS[((self.0 as u32 & Kind::BITS) >> 30) as usize]
    }
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// Operations of one kind.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    limit: usize,
    kind: Kind,
}

impl<T> Table<T> {
    /// A table of at most `limit` messages.
    pub(crate) fn new(limit: usize) -> Self {
        Self::of(Kind::Message, limit)
    }

    /// A table of at most `limit` operations of a kind.
    pub(crate) fn of(kind: Kind, limit: usize) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), limit: limit.min(!Kind::BITS as usize), kind }
    }

    /// Operations under way.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len().wrapping_sub(self.free.len())
    }

    /// Whether one more can be added.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.entries.len() < self.limit
    }

    /// Adds an operation, or gives it back when the table is full.
    #[inline(always)]
    pub(crate) fn insert(&mut self, value: T) -> Result<Handle, T> {
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            // An assignment would look whether there is anything to be dropped.
            std::mem::forget(entry.value.replace(value));
            let generation = entry.generation;
            return Ok(self.handle(index, generation));
        }
        self.add(value)
    }

    #[cold]
    #[inline(never)]
    fn add(&mut self, value: T) -> Result<Handle, T> {
        if self.entries.len() >= self.limit {
            return Err(value);
        }
        self.entries.push(Entry { generation: 1, value: Some(value) });
        Ok(self.handle(self.entries.len() as u32 - 1, 1))
    }

    /// The operation that a handle names, if it is still under way.
    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        // Beyond all entries if it is of another kind.
        let entry = self.entries.get_mut((handle.0 as u32 ^ self.kind as u32) as usize)?;
        if entry.generation == (handle.0 >> 32) as u32 { entry.value.as_mut() } else { None }
    }

    /// Takes the operation out; its handle never names another one (until 2^32 more have used its place).
    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        let index = handle.0 as u32 ^ self.kind as u32;
        let entry = self.entries.get_mut(index as usize)?;
        if entry.generation != (handle.0 >> 32) as u32 {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1).max(1);
        self.free.push(index);
        Some(value)
    }

    /// The handles of all operations under way.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        let live = self.entries.iter().enumerate().filter(|(_, entry)| entry.value.is_some());
        live.map(|(index, entry)| self.handle(index as u32, entry.generation)).collect()
    }

    #[inline]
    fn handle(&self, index: u32, generation: u32) -> Handle {
        Handle(u64::from(generation) << 32 | u64::from(index | self.kind as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_handle_names_nothing() {
        let mut table = Table::new(2);
        let a = table.insert('a').unwrap();
        let b = table.insert('b').unwrap();
        assert_eq!(table.insert('c'), Err('c'));
        assert_ne!(a.0, 0);
        assert_eq!(table.remove(a), Some('a'));
        assert_eq!(table.remove(a), None);
        let c = table.insert('c').unwrap();
        assert_eq!(table.get_mut(a), None);
        assert_eq!(table.remove(a), None, "its place is another's");
        assert_eq!(table.get_mut(c), Some(&mut 'c'));
        assert_eq!(table.get_mut(Handle(b.0 + 7)), None);
        assert_eq!(table.handles().len(), 2);
    }

    #[test]
    fn generations_that_have_all_been_begin_again_at_one() {
        let mut table = Table::new(1);
        let first = table.insert('a').unwrap();
        table.entries[0].generation = u32::MAX;
        let last = table.handles()[0];
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(last), Some('a'));
        assert_eq!(table.insert('b').unwrap(), first, "a handle is never 0");
    }

    #[test]
    fn no_index_reaches_into_the_bits_of_the_kind() {
        let table = Table::<()>::of(Kind::Reply, usize::MAX);
        assert_eq!((table.limit as u32 - 1) & Kind::BITS, 0);
    }

    #[test]
    fn a_handle_of_another_kind_names_nothing() {
        let kinds = [Kind::Message, Kind::Request, Kind::Landing, Kind::Reply];
        let mut tables = kinds.map(|kind| Table::of(kind, 4));
        let handles = [0, 1, 2, 3].map(|i: usize| tables[i].insert(i).unwrap());
        for (table, own) in tables.iter_mut().zip(handles) {
            for (handle, kind) in handles.iter().zip(kinds) {
                assert_eq!(handle.kind(), kind);
                assert_eq!(table.get_mut(*handle).is_some(), *handle == own);
            }
        }
    }
}
