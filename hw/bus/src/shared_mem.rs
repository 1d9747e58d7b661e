//! Memory that is shared with a device: mapped once, most often from a memfd, and touched only through atomic accesses.
//!
//! Unsafe code lives here because a Rust reference to memory that a device writes would be undefined behaviour: the
//! mapping is only ever seen as atomic cells.
#![allow(unsafe_code)]

use crate::block_store::{BLOCK, BlockSource, BlockStore};
use crate::modelled::access;
use memmap2::{MmapMut, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

/// A mapped range of a memfd, or of memory that its owner gave away. Clones share it.
#[derive(Clone)]
pub struct SharedMem {
    inner: Arc<Inner>,
}

struct Inner {
    /// Where the mapping begins and how long it is: kept here so that an access costs no call.
    base: usize,
    len: usize,
    map: MmapRaw,
    /// Whole words of 8 bytes.
    words: usize,
    file: Option<(OwnedFd, u64)>,
    huge: bool,
}

impl std::fmt::Debug for SharedMem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedMem").field("len", &self.len()).field("huge", &self.inner.huge).finish()
    }
}

/// Shared memory as a place for pairs of qwords: what a ring of descriptors is. Where it lies is held by value, so that a run
/// of writes doesn't look it up each time.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    base: usize,
    /// Bytes, in whole pairs.
    end: usize,
    memory: PhantomData<&'a SharedMem>,
}

impl Pairs<'_> {
    /// Writes 16 bytes at `offset`, a multiple of 16, as two writes of 8, the lower first; after all that was written
    /// before.
    ///
    /// # Panics
    /// When they aren't inside or aligned.
    #[inline(always)]
    pub fn write(self, offset: usize, low: u64, high: u64) {
        if offset >= self.end || !offset.is_multiple_of(16) {
            Self::outside(offset);
        }
        access();
        let at = std::ptr::with_exposed_provenance_mut::<u64>(self.base.wrapping_add(offset));
        // SAFETY: in range and aligned (the mapping is page aligned), and mapped as long as what is borrowed; all accesses are
        // atomic.
        let [first, second] = unsafe { [AtomicU64::from_ptr(at), AtomicU64::from_ptr(at.add(1))] };
        first.store(low.to_le(), Ordering::Release);
        second.store(high.to_le(), Ordering::Release);
    }

    // Elsewhere, so that the check itself is small.
    #[cold]
    #[inline(never)]
    fn outside(offset: usize) -> ! {
        panic!("no 16 aligned bytes at {offset:#x} of shared memory");
    }
}

/// Bytes of a small page.
pub const PAGE: usize = 4096;
/// Bytes of a huge page.
pub const HUGE_PAGE: usize = 2 << 20;

impl SharedMem {
    /// Makes zeroed memory of `len` bytes, rounded up to whole pages; from huge pages when it fills at least one and the
    /// system has some free.
    ///
    /// # Errors
    /// When the system has no memory.
    pub fn new(len: usize) -> io::Result<Self> {
        if len >= HUGE_PAGE
            && let Ok(memory) = Self::create(len, HUGE_PAGE, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB)
        {
            return Ok(memory);
        }
        Self::create(len, PAGE, MemfdFlags::empty())
    }

    fn create(len: usize, page: usize, flags: MemfdFlags) -> io::Result<Self> {
        let len =
            len.max(1).checked_next_multiple_of(page).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let fd = memfd_create("opx-dma", flags | MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, len as u64)?;
        // Without MAP_POPULATE a lack of huge pages would only show as a SIGBUS at the first touch.
        let huge = flags.contains(MemfdFlags::HUGETLB);
        let map = MmapOptions::new().len(len).populate_if(huge).map_raw(&fd)?;
        Ok(Self::around(map, Some((fd, 0)), huge))
    }

    fn around(map: MmapRaw, file: Option<(OwnedFd, u64)>, huge: bool) -> Self {
        let (base, len) = (map.as_mut_ptr().expose_provenance(), map.len());
        Self { inner: Arc::new(Inner { base, len, map, words: len / 8, file, huge }) }
    }

    /// Maps `len` bytes at `offset` of a file that another process shares.
    ///
    /// # Errors
    /// When the file is shorter than that or can't be mapped.
    pub fn from_file(file: File, offset: u64, len: usize) -> io::Result<Self> {
        let map = Self::map_raw(&file, offset, len)?;
        Ok(Self::around(map, Some((file.into(), offset)), false))
    }

    /// As [`SharedMem::from_file`], but doesn't keep the file open: for a process that maps many and hands none on.
    ///
    /// # Errors
    /// When the file is shorter than that or can't be mapped.
    pub fn map(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        Ok(Self::around(Self::map_raw(file, offset, len)?, None, false))
    }

    fn map_raw(file: &File, offset: u64, len: usize) -> io::Result<MmapRaw> {
        let end = offset.checked_add(len as u64).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if len == 0 || file.metadata()?.len() < end {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is shorter than the range to map"));
        }
        MmapOptions::new().offset(offset).len(len).map_raw(file)
    }

    /// Takes over memory that was mapped by its owner, whatever is behind it. From now on it can only be seen through this
    /// type, because a device may write to it. Another process can't map it: a bus that needs that refuses it.
    ///
    /// # Errors
    /// When it doesn't consist of whole pages.
    pub fn from_map(map: MmapMut) -> io::Result<Self> {
        if map.is_empty() || !map.len().is_multiple_of(PAGE) || !map.as_ptr().addr().is_multiple_of(PAGE) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "memory for a device must consist of whole pages"));
        }
        Ok(Self::around(map.into(), None, false))
    }

    /// A page of this process' own that the kernel wipes in each child that is forked from it (MADV_WIPEONFORK).
    pub(crate) fn wiped_on_fork() -> io::Result<Self> {
        let mut map = MmapMut::map_anon(PAGE)?;
        // SAFETY: the page was just mapped, privately and with nothing behind it, and has no content yet; it changes in children
        // only, before they run.
        unsafe { rustix::mm::madvise(map.as_mut_ptr().cast(), PAGE, rustix::mm::Advice::LinuxWipeOnFork)? };
        Self::from_map(map)
    }

    /// The byte at `offset`, which is inside.
    #[inline]
    fn at<T>(&self, offset: usize) -> *mut T {
        std::ptr::with_exposed_provenance_mut::<T>(self.inner.base.wrapping_add(offset))
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it lies in huge pages.
    pub fn is_huge(&self) -> bool {
        self.inner.huge
    }

    /// The file behind it and the offset in it, when another process can map it by them.
    pub fn fd(&self) -> Option<(BorrowedFd<'_>, u64)> {
        self.inner.file.as_ref().map(|(fd, offset)| (fd.as_fd(), *offset))
    }

    /// How many handles to it there are, this one included. Another thread may change that at any time.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.inner)
    }

    /// Where this process sees it: for the kernel, that maps it for a device by this address.
    pub fn address(&self) -> u64 {
        self.inner.base as u64
    }

    #[inline]
    fn check(&self, offset: usize, len: usize) {
        if offset.checked_add(len).is_none_or(|end| end > self.len()) {
            self.outside(offset, len);
        }
    }

    // By value and elsewhere, so that the check itself is small.
    #[cold]
    #[inline(never)]
    fn outside(&self, offset: usize, len: usize) -> ! {
        panic!("access of {len} bytes at {offset:#x} leaves shared memory of {:#x} bytes", self.len());
    }

    #[cold]
    #[inline(never)]
    fn unaligned(offset: usize) -> ! {
        panic!("unaligned access at {offset:#x}");
    }

    /// All of it as words of 8 bytes, in the machine's byte order: the quickest way in, because an index needs one check
    /// only. Use `u64::from_le` on what a device wrote.
    #[inline]
    pub fn words(&self) -> &[AtomicU64] {
        access();
        // SAFETY: the mapping is page aligned and holds that many words; it lives as long as `self`; all accesses are
        // atomic, so that others may change it meanwhile.
        unsafe { std::slice::from_raw_parts(self.at(0), self.inner.words) }
    }

    /// The 8 bytes at `offset`, a multiple of 8, as an atomic cell.
    #[inline(always)]
    fn cell(&self, offset: usize) -> &AtomicU64 {
        access();
        self.check(offset, 8);
        if !offset.is_multiple_of(8) {
            Self::unaligned(offset);
        }
        // SAFETY: in range and aligned (the mapping is page aligned); lives as long as `self`; all accesses are atomic.
        unsafe { AtomicU64::from_ptr(self.at(offset)) }
    }

    /// `count` cells of 8 bytes from `offset`, a multiple of 8, on.
    #[inline(always)]
    fn cells(&self, offset: usize, count: usize) -> &[AtomicU64] {
        access();
        self.check(offset, count.saturating_mul(8));
        assert!(offset.is_multiple_of(8), "unaligned access at {offset:#x}");
        // SAFETY: in range and aligned (the mapping is page aligned); lives as long as `self`; all accesses are atomic.
        unsafe { std::slice::from_raw_parts(self.at(offset), count) }
    }

    #[inline]
    fn byte(&self, offset: usize) -> &AtomicU8 {
        access();
        self.check(offset, 1);
        // SAFETY: in range; lives as long as `self`; all accesses are atomic.
        unsafe { AtomicU8::from_ptr(self.at(offset)) }
    }

    /// Reads 8 bytes; what the device wrote before them is seen by later reads.
    ///
    /// # Panics
    /// As a slice does, when `offset` is out of range, and when it isn't a multiple of 8.
    #[inline]
    pub fn read_u64(&self, offset: usize) -> u64 {
        u64::from_le(self.cell(offset).load(Ordering::Acquire))
    }

    /// Writes 8 bytes, after all that was written before.
    ///
    /// # Panics
    /// As [`SharedMem::read_u64`].
    #[inline]
    pub fn write_u64(&self, offset: usize, value: u64) {
        self.cell(offset).store(value.to_le(), Ordering::Release);
    }

    /// The memory as a place for pairs of qwords.
    #[inline]
    pub fn pairs(&self) -> Pairs<'_> {
        Pairs { base: self.inner.base, end: self.inner.len & !15, memory: PhantomData }
    }

    /// Writes 64 bytes at `offset`, a multiple of 8, after all that was written before; gives them back as a block to be stored
    /// elsewhere.
    ///
    /// # Panics
    /// As [`SharedMem::read_u64`].
    #[inline(always)]
    pub fn write_block(&self, offset: usize, words: &[u64; 8]) -> BlockSource<'_> {
        if let ([a, b, c, d, e, f, g, h], [s, t, u, v, w, x, y, z]) = (self.cells(offset, words.len()), words) {
            fence(Ordering::Release);
            // One by one: the compiler leaves a loop as it is.
            a.store(s.to_le(), Ordering::Relaxed);
            b.store(t.to_le(), Ordering::Relaxed);
            c.store(u.to_le(), Ordering::Relaxed);
            d.store(v.to_le(), Ordering::Relaxed);
            e.store(w.to_le(), Ordering::Relaxed);
            f.store(x.to_le(), Ordering::Relaxed);
            g.store(y.to_le(), Ordering::Relaxed);
            h.store(z.to_le(), Ordering::Relaxed);
        }
        // SAFETY: in range, or there would be no cells; mapped as long as `self`.
        unsafe { BlockSource::of_shared(self.at(offset), 1) }
    }

    /// Has the processor fetch the cache line at `offset`, for who reads it soon. Nothing happens when it isn't inside.
    #[inline(always)]
    pub fn prefetch(&self, offset: usize) {
        if offset < self.inner.len {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: it is inside; and a prefetch reads nothing.
            unsafe {
                std::arch::x86_64::_mm_prefetch(self.at::<i8>(offset), std::arch::x86_64::_MM_HINT_T0);
            }
        }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// When the range isn't inside.
    #[inline]
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        self.check(offset, data.len());
        let (blocks, last) = (data.len() / BLOCK, data.len().wrapping_sub(BLOCK));
        if blocks == 0 {
            self.read_few(offset, data);
        } else {
            access();
            // SAFETY: as much of the mapping is in range, by the check above, and of what is written. The last block may overlap
            // with the one before, whose bytes are then read once more.
            unsafe {
                copy_blocks(self.at(offset), data.as_mut_ptr(), blocks);
                if !data.len().is_multiple_of(BLOCK) {
                    copy_blocks(self.at(offset.wrapping_add(last)), data.as_mut_ptr().wrapping_add(last), 1);
                }
            }
        }
        fence(Ordering::Acquire);
    }

    /// Copies less than a block out.
    fn read_few(&self, offset: usize, data: &mut [u8]) {
        let head = (offset.wrapping_neg() % 8).min(data.len());
        let (first, rest) = data.split_at_mut(head);
        for (i, byte) in first.iter_mut().enumerate() {
            *byte = self.byte(offset + i).load(Ordering::Relaxed);
        }
        let mut at = offset + head;
        let (words, last) = rest.as_chunks_mut::<8>();
        let count = words.len();
        if count != 0 {
            for (word, cell) in words.iter_mut().zip(self.cells(at, count)) {
                *word = cell.load(Ordering::Relaxed).to_ne_bytes();
            }
            at += count * 8;
        }
        for byte in last {
            *byte = self.byte(at).load(Ordering::Relaxed);
            at += 1;
        }
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// When the range isn't inside.
    #[inline]
    pub fn write(&self, offset: usize, data: &[u8]) {
        self.check(offset, data.len());
        fence(Ordering::Release);
        let (blocks, last) = (data.len() / BLOCK, data.len().wrapping_sub(BLOCK));
        if blocks == 0 {
            return self.write_few(offset, data);
        }
        access();
        // SAFETY: as much of the mapping is in range, by the check above, and of what is read. The last block may overlap with the
        // one before, whose bytes are then written once more.
        unsafe {
            copy_blocks(data.as_ptr(), self.at(offset), blocks);
            if !data.len().is_multiple_of(BLOCK) {
                copy_blocks(data.as_ptr().wrapping_add(last), self.at(offset.wrapping_add(last)), 1);
            }
        }
    }

    /// Copies less than a block in.
    fn write_few(&self, offset: usize, data: &[u8]) {
        let head = (offset.wrapping_neg() % 8).min(data.len());
        let (first, rest) = data.split_at(head);
        for (i, byte) in first.iter().enumerate() {
            self.byte(offset + i).store(*byte, Ordering::Relaxed);
        }
        let mut at = offset + head;
        let (words, last) = rest.as_chunks::<8>();
        if !words.is_empty() {
            for (word, cell) in words.iter().zip(self.cells(at, words.len())) {
                cell.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            }
            at += words.len() * 8;
        }
        for byte in last {
            self.byte(at).store(*byte, Ordering::Relaxed);
            at += 1;
        }
    }

    /// Copies bytes from `from` on of other memory, which may overlap with this one: then what is copied last is anybody's guess.
    ///
    /// # Panics
    /// When either range isn't inside.
    pub fn copy_from(&self, offset: usize, other: &Self, from: usize, len: usize) {
        self.check(offset, len);
        other.check(from, len);
        let blocks = len / BLOCK;
        if blocks != 0 {
            access();
            fence(Ordering::Release);
            // SAFETY: as much is in range in both, by the checks above; a copy upwards of what overlaps is defined, too.
            unsafe { copy_blocks(other.at(from), self.at(offset), blocks) };
            fence(Ordering::Acquire);
        }
        let done = blocks * BLOCK;
        let mut rest = [0; BLOCK];
        if let Some(rest) = rest.get_mut(..len - done).filter(|rest| !rest.is_empty()) {
            other.read(from + done, rest);
            self.write(offset + done, rest);
        }
    }

    /// The `count` 64-byte blocks at `offset`, to be stored elsewhere.
    ///
    /// # Panics
    /// When the range isn't inside.
    #[inline]
    pub fn blocks(&self, offset: usize, count: usize) -> BlockSource<'_> {
        access();
        self.check(offset, count.saturating_mul(BLOCK));
        // SAFETY: in range; mapped as long as `self`.
        unsafe { BlockSource::of_shared(self.inner.map.as_mut_ptr().add(offset), count) }
    }

    /// Stores blocks at `offset`, a multiple of 64.
    ///
    /// # Panics
    /// When the range isn't inside or isn't aligned.
    #[inline(always)]
    pub fn store_blocks(&self, offset: usize, store: BlockStore, blocks: BlockSource<'_>) {
        access();
        self.check(offset, blocks.len() * BLOCK);
        if !offset.is_multiple_of(BLOCK) {
            Self::unaligned(offset);
        }
        // SAFETY: in range and aligned (the mapping is page aligned); never seen as a Rust reference.
        unsafe { blocks.store_to(store, self.inner.map.as_mut_ptr().add(offset)) };
    }

    /// Sets a range to zero.
    ///
    /// # Panics
    /// When the range isn't inside.
    pub fn zero(&self, offset: usize, len: usize) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(ZEROS.len());
            self.write(offset + done, &ZEROS[..step]);
            done += step;
        }
    }
}

/// Copies blocks of 64 bytes into shared memory or out of it: what relaxed atomic accesses do, 16 bytes at a time instead of
/// 8. Assembly, because others may write there meanwhile, which the compiler must not be told to rule out.
///
/// # Safety
/// `from` can be read and `to` written for so many blocks, one or more, and they don't overlap.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn copy_blocks(from: *const u8, to: *mut u8, blocks: usize) {
    // SAFETY: the caller's promise; nothing else is touched.
    unsafe {
        std::arch::asm!(
            "sub {blocks}, 2",
            "jb 3f",
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups {e}, [{from} + 64]",
            "movups {f}, [{from} + 80]",
            "movups {g}, [{from} + 96]",
            "movups {h}, [{from} + 112]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "movups [{to} + 64], {e}",
            "movups [{to} + 80], {f}",
            "movups [{to} + 96], {g}",
            "movups [{to} + 112], {h}",
            "add {from}, 128",
            "add {to}, 128",
            "sub {blocks}, 2",
            "jae 2b",
            // One is left.
            "3:",
            "test {blocks:l}, 1",
            "jz 4f",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "4:",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            blocks = inout(reg) blocks => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            e = out(xmm_reg) _,
            f = out(xmm_reg) _,
            g = out(xmm_reg) _,
            h = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// The same, byte by byte. One of the two is shared; both are accessed as if they were.
///
/// # Safety
/// As above.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_blocks(from: *const u8, to: *mut u8, blocks: usize) {
    for at in 0..blocks * BLOCK {
        // SAFETY: the caller's promise; a byte is always aligned, and atomic accesses may race.
        unsafe { AtomicU8::from_ptr(to.add(at)).store(from.add(at).read_volatile(), Ordering::Relaxed) };
    }
}

/// `MmapOptions::populate` when asked for.
trait PopulateIf {
    fn populate_if(&mut self, populate: bool) -> &mut Self;
}

impl PopulateIf for MmapOptions {
    fn populate_if(&mut self, populate: bool) -> &mut Self {
        if populate { self.populate() } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(offset in 0usize..200, data in proptest::collection::vec(any::<u8>(), 0..700)) {
            let memory = SharedMem::new(1).unwrap();
            memory.write(offset, &data);
            let mut back = vec![0xee; data.len()];
            memory.read(offset, &mut back);
            prop_assert_eq!(&back, &data);
            let mut around = vec![0xee; offset];
            memory.read(0, &mut around);
            prop_assert!(around.iter().all(|b| *b == 0));
        }
    }

    proptest! {
        #[test]
        fn what_is_in_one_memory_is_copied_to_another(
            (to, from) in (0usize..200, 0usize..200), data in proptest::collection::vec(any::<u8>(), 0..700),
        ) {
            let (here, there) = (SharedMem::new(1).unwrap(), SharedMem::new(1).unwrap());
            there.write(from, &data);
            here.copy_from(to, &there, from, data.len());
            let mut back = vec![0xee; data.len() + 1];
            here.read(to, &mut back);
            prop_assert_eq!(back.pop(), Some(0));
            prop_assert_eq!(&back, &data);
        }
    }

    #[test]
    fn two_mappings_of_one_file_are_one_memory() {
        let a = SharedMem::new(8192).unwrap();
        let (fd, offset) = a.fd().unwrap();
        let file = File::from(fd.try_clone_to_owned().unwrap());
        let b = SharedMem::from_file(file, offset + 4096, 4096).unwrap();
        a.write_u64(4096 + 8, 77);
        assert_eq!(b.read_u64(8), 77);
        let file = File::from(fd.try_clone_to_owned().unwrap());
        let c = SharedMem::map(&file, 4096, 4096).unwrap();
        assert_eq!((c.read_u64(8), c.fd().is_none()), (77, true));
        assert!(SharedMem::map(&file, 4096, 4097).is_err());
    }

    #[test]
    fn pairs_lie_inside() {
        let memory = SharedMem::new(4096).unwrap();
        memory.pairs().write(4080, 1, 2);
        assert_eq!((memory.read_u64(4080), memory.read_u64(4088)), (1, 2));
        for outside in [4088, 4096, 8, usize::MAX & !15] {
            assert!(std::panic::catch_unwind(|| memory.pairs().write(outside, 1, 2)).is_err(), "{outside}");
        }
    }

    #[test]
    fn a_short_file_is_refused() {
        let a = SharedMem::new(4096).unwrap();
        let file = File::from(a.fd().unwrap().0.try_clone_to_owned().unwrap());
        assert!(SharedMem::from_file(file, 0, 8192).is_err());
    }

    #[test]
    fn memory_of_an_owner_is_taken_over_in_whole_pages() {
        let mut map = MmapMut::map_anon(2 * PAGE).unwrap();
        map[PAGE] = 7;
        let memory = SharedMem::from_map(map).unwrap();
        assert_eq!((memory.len(), memory.read_u64(PAGE), memory.fd().is_none()), (2 * PAGE, 7, true));
        assert_eq!(memory.words()[PAGE / 8].load(Ordering::Relaxed), 7u64.to_le());
        assert_eq!(memory.words().len(), 2 * PAGE / 8);
        assert!(SharedMem::from_map(MmapMut::map_anon(PAGE + 1).unwrap()).is_err());
    }

    #[test]
    #[should_panic(expected = "leaves shared memory")]
    fn out_of_range_is_a_mistake() {
        SharedMem::new(4096).unwrap().read_u64(4096);
    }
}
