//! Operations under way, named by handles that a peer may echo but not forge into another operation.
//!
//! OPX puts raw pointers on the wire in these places; here it is an index and a generation, and both are checked.

/// Names an operation: index in the low half, generation in the high half; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle(pub(crate) u64);

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
}

impl<T> Table<T> {
    /// A table of at most `limit` operations.
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), limit: limit.min(u32::MAX as usize) }
    }

    /// Operations under way.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether one more can be added.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.entries.len() < self.limit
    }

    /// Adds an operation, or gives it back when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<Handle, T> {
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.value = Some(value);
            return Ok(Self::handle(index, entry.generation));
        }
        if self.entries.len() >= self.limit {
            return Err(value);
        }
        self.entries.push(Entry { generation: 1, value: Some(value) });
        Ok(Self::handle(self.entries.len() as u32 - 1, 1))
    }

    /// The operation that a handle names, if it is still under way.
    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let entry = self.entries.get_mut(handle.0 as u32 as usize)?;
        if entry.generation == (handle.0 >> 32) as u32 { entry.value.as_mut() } else { None }
    }

    /// Takes the operation out; its handle never names another one (until 2^32 more have used its place).
    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        let index = handle.0 as u32;
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
        live.map(|(index, entry)| Self::handle(index as u32, entry.generation)).collect()
    }

    fn handle(index: u32, generation: u32) -> Handle {
        Handle(u64::from(generation) << 32 | u64::from(index))
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
        assert_eq!(table.get_mut(c), Some(&mut 'c'));
        assert_eq!(table.get_mut(Handle(b.0 + 7)), None);
        assert_eq!(table.handles().len(), 2);
    }
}
