//! Memory of a device, faked.

use opx_bus::SharedMem;
use opx_stack::{Buffer, CopyError, DeviceMemory, DeviceRange, MemoryKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub const GPU: MemoryKind = MemoryKind::Device { interface: 1, device: 3 };

/// Memory that counts each byte that the processor has copied.
#[derive(Debug)]
pub struct Fake {
    pub memory: SharedMem,
    kind: MemoryKind,
    reachable: bool,
    copied: AtomicU64,
    broken: AtomicBool,
}

impl Fake {
    pub fn new(kind: MemoryKind, reachable: bool) -> Arc<Self> {
        let memory = SharedMem::new(1 << 20).unwrap();
        Arc::new(Self { memory, kind, reachable, copied: AtomicU64::new(0), broken: AtomicBool::new(false) })
    }

    pub fn range(self: &Arc<Self>, start: usize, len: usize) -> Buffer {
        DeviceRange::new(Arc::clone(self) as Arc<dyn DeviceMemory>, start, len).unwrap().into()
    }

    pub fn set_broken(&self, is: bool) {
        self.broken.store(is, Ordering::Relaxed);
    }

    pub fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    fn works(&self, at: usize, len: usize) -> Result<(), CopyError> {
        if !self.broken.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(CopyError { device: "fake".to_owned(), at: at as u64, len, why: "it was unplugged".to_owned() })
    }

    /// As the device sees it.
    pub fn bytes(&self, start: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(start, &mut bytes);
        bytes
    }
}

impl DeviceMemory for Fake {
    fn kind(&self) -> MemoryKind {
        self.kind
    }

    fn len(&self) -> usize {
        self.memory.len()
    }

    fn copy_out(&self, at: usize, to: &mut [u8]) -> Result<(), CopyError> {
        self.works(at, to.len())?;
        self.copied.fetch_add(to.len() as u64, Ordering::Relaxed);
        self.memory.read(at, to);
        Ok(())
    }

    fn copy_in(&self, at: usize, from: &[u8]) -> Result<(), CopyError> {
        self.works(at, from.len())?;
        self.copied.fetch_add(from.len() as u64, Ordering::Relaxed);
        self.memory.write(at, from);
        Ok(())
    }

    fn reachable(&self) -> Option<&SharedMem> {
        self.reachable.then_some(&self.memory)
    }
}
