//! Memory that a device can reach, with canaries around the part that is used.

use opx_bus::SharedMem;
use opx_stack::{Buffer, SharedRange};

/// What is in all bytes that nobody may write.
const CANARY: u8 = 0xa5;

/// A part of some memory.
#[derive(Clone)]
pub struct Guarded {
    memory: SharedMem,
    start: usize,
    len: usize,
}

impl Guarded {
    /// `len` bytes from `start` on, and at least as many pages around them as they have.
    pub fn new(start: usize, len: usize) -> Self {
        let memory = SharedMem::new(start + len + 8192).unwrap();
        memory.write(0, &vec![CANARY; memory.len()]);
        Self { memory, start, len }
    }

    /// The same with these bytes.
    pub fn with(start: usize, bytes: &[u8]) -> Self {
        let new = Self::new(start, bytes.len());
        new.memory.write(start, bytes);
        new
    }

    pub fn buffer(&self) -> Buffer {
        SharedRange::new(self.memory.clone(), self.start, self.len).unwrap().into()
    }

    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(self.start, &mut bytes);
        bytes
    }

    pub fn fill(&self, byte: u8) {
        self.memory.write(self.start, &vec![byte; self.len]);
    }

    /// Whether nothing around it was written.
    pub fn is_unharmed(&self) -> bool {
        let mut all = vec![0; self.memory.len()];
        self.memory.read(0, &mut all);
        let end = self.start + self.len;
        all[..self.start].iter().chain(&all[end..]).all(|byte| *byte == CANARY)
    }
}
