//! How 64-byte blocks get into the PIO window: by stores of 8, 16, 32 or 64 bytes, as wide as the processor has them.
//!
//! Unsafe code lives here because blocks are copied between raw memory (a window of the device, memory that a device
//! reads) by instructions that Rust has no name for. Assembly also keeps the compiler from merging, splitting or leaving
//! out stores to a device. All paths store plainly: in a write-combining window each block fills a buffer, which the
//! processor then sends by itself. Blocks may arrive in any order (`pio_copy.c` has no fence either), so there is no fence.
//! PSM2 and OPX choose the same widths when they are compiled; here the running processor decides.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// The instructions that store a block; one that this processor has.
///
/// ```
/// use opx_bus::{BlockSource, BlockStore, SharedMem};
/// let window = SharedMem::new(4096)?;
/// let block = BlockSource::of_block(&[7; 8]);
/// window.store_blocks(64, BlockStore::best(), block);
/// assert_eq!((window.read_u64(56), window.read_u64(64)), (0, 7));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockStore(Path);

/// As wide as a register: an index into a table of jumps that needs no widening for each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
enum Path {
    /// Eight stores of 8 bytes.
    Qword,
    /// Four stores of 16 bytes.
    Sse2,
    /// Two stores of 32 bytes.
    Avx,
    /// One store of 64 bytes.
    Avx512,
    /// `movdir64b`: 64 bytes as one transaction, also through an uncached mapping.
    Movdir64b,
}

impl Path {
    /// The best last.
    const ALL: [Self; 5] = [Self::Qword, Self::Sse2, Self::Avx, Self::Avx512, Self::Movdir64b];

    const fn name(self) -> &'static str {
        match self {
            Self::Qword => "qword",
            Self::Sse2 => "sse2",
            Self::Avx => "avx",
            Self::Avx512 => "avx512",
            Self::Movdir64b => "movdir64b",
        }
    }

    /// Whether this processor, and the system on it, can do it.
    fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Qword | Self::Sse2 => true,
            Self::Avx => std::is_x86_feature_detected!("avx"),
            Self::Avx512 => std::is_x86_feature_detected!("avx512f"),
            Self::Movdir64b => x86::has_movdir64b(),
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Qword;
    }
}

impl BlockStore {
    /// The variable that chooses one by its name.
    pub const VARIABLE: &str = "OPX_PIO_STORE";

    /// The names of all there are: `qword` (8 bytes a store), `sse2` (16), `avx` (32), `avx512` (64) and `movdir64b` (64 as
    /// one transaction, also through an uncached mapping).
    pub fn names() -> impl Iterator<Item = &'static str> {
        Path::ALL.into_iter().map(Path::name)
    }

    /// Those that this processor has, the best last.
    pub fn available() -> impl Iterator<Item = Self> {
        Path::ALL.into_iter().filter(|path| path.is_available()).map(Self)
    }

    /// The best that this processor has.
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Self(Path::Qword))
    }

    /// What `OPX_PIO_STORE` names, or the best. A name that can't be used is warned of.
    pub fn chosen() -> Self {
        let best = Self::best();
        match std::env::var(Self::VARIABLE) {
            Err(_) => best,
            Ok(name) => name.parse().unwrap_or_else(|why| {
                log::warn!("{}: {why}; blocks are stored by {best}", Self::VARIABLE);
                best
            }),
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0.name()
    }

    /// Copies `blocks` blocks.
    ///
    /// # Safety
    /// `from` can be read and `to` written for so many blocks, `to` is aligned to 64 bytes, and Rust has no reference to
    /// what is written.
    #[inline(always)]
    unsafe fn copy(self, from: *const u8, to: *mut u8, blocks: usize) {
        if blocks == 0 {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if blocks == 1 {
            // The first block of a packet is alone: no loop.
            // SAFETY: passed on; there is no `BlockStore` that this processor can't do.
            return unsafe {
                match self.0 {
                    Path::Qword => x86::qword_one(from, to),
                    Path::Sse2 => x86::sse2_one(from, to),
                    Path::Avx => x86::avx_one(from, to),
                    Path::Avx512 => x86::avx512_one(from, to),
                    Path::Movdir64b => x86::movdir64b_one(from, to),
                }
            };
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: passed on; there is no `BlockStore` that this processor can't do.
        unsafe {
            match self.0 {
                Path::Qword => x86::qword(from, to, blocks),
                Path::Sse2 => x86::sse2(from, to, blocks),
                Path::Avx => x86::avx(from, to, blocks),
                Path::Avx512 => x86::avx512(from, to, blocks),
                Path::Movdir64b => x86::movdir64b(from, to, blocks),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        for at in (0..blocks * BLOCK).step_by(8) {
            // SAFETY: passed on; each qword is inside.
            unsafe { to.add(at).cast::<u64>().write_volatile(from.add(at).cast::<u64>().read_unaligned()) };
        }
    }
}

impl fmt::Display for BlockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BlockStore {
    type Err = NoSuchStore;

    fn from_str(name: &str) -> Result<Self, NoSuchStore> {
        let found = Path::ALL.into_iter().find(|path| path.name() == name);
        let path = found.ok_or_else(|| NoSuchStore::Name(name.to_owned()))?;
        if path.is_available() { Ok(Self(path)) } else { Err(NoSuchStore::Processor(path.name())) }
    }
}

/// Why a store can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoSuchStore {
    /// There is none of that name.
    #[error("{0:?} is none of qword, sse2, avx, avx512, movdir64b")]
    Name(String),
    /// The processor can't do it.
    #[error("this processor has no {0}")]
    Processor(&'static str),
}

/// Whole blocks to be stored: a part of a slice or of memory that is shared with a device.
#[derive(Clone, Copy)]
pub struct BlockSource<'a> {
    from: *const u8,
    blocks: usize,
    memory: PhantomData<&'a [u8]>,
}

impl fmt::Debug for BlockSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockSource").field("blocks", &self.blocks).finish()
    }
}

impl<'a> BlockSource<'a> {
    /// The whole blocks at the start of `bytes`, and the bytes behind them.
    #[inline]
    pub fn of_bytes(bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        (Self { from: blocks.as_ptr().cast(), blocks: blocks.len(), memory: PhantomData }, rest)
    }

    /// One block.
    #[inline]
    pub fn of_block(block: &'a [u64; 8]) -> Self {
        Self { from: block.as_ptr().cast(), blocks: 1, memory: PhantomData }
    }

    /// Blocks of shared memory. `from` is the start of `blocks` blocks that stay mapped for `'a`.
    ///
    /// # Safety
    /// So many blocks can be read from there on for all of `'a`. Others may write to them meanwhile.
    pub(crate) unsafe fn of_shared(from: *const u8, blocks: usize) -> Self {
        Self { from, blocks, memory: PhantomData }
    }

    /// How many blocks.
    #[inline]
    pub fn len(self) -> usize {
        self.blocks
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.blocks == 0
    }

    /// The first `at` blocks, or all when there are fewer, and the others.
    #[inline]
    pub fn split_at(self, at: usize) -> (Self, Self) {
        let at = at.min(self.blocks);
        // SAFETY: `at` is no more than there are.
        let rest = unsafe { self.from.add(at * BLOCK) };
        (Self { blocks: at, ..self }, Self { from: rest, blocks: self.blocks - at, ..self })
    }

    /// Each block, for buses that have no window to store to.
    pub fn iter(self) -> impl Iterator<Item = [u64; 8]> + 'a {
        let mut rest = self;
        std::iter::from_fn(move || {
            let (first, others) = rest.split_at(1);
            rest = others;
            #[repr(align(64))]
            struct Aligned([u64; 8]);
            let mut block = Aligned([0; 8]);
            // SAFETY: `first` is one block or none, and the local has room for one, aligned.
            unsafe { first.store_to(BlockStore(Path::Qword), block.0.as_mut_ptr().cast()) };
            (!first.is_empty()).then_some(block.0)
        })
    }

    /// Stores the blocks, one behind the other, from `to` on.
    ///
    /// # Safety
    /// `to` can be written for so many blocks, is aligned to 64 bytes, and Rust has no reference to what is there.
    #[inline(always)]
    pub unsafe fn store_to(self, store: BlockStore, to: *mut u8) {
        // SAFETY: passed on; what is read stays mapped for `'a`.
        unsafe { store.copy(self.from, to, self.blocks) };
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! One block, and loops over many. A loop counts a negative index up to 0, so that one register serves both sides and
    //! the count.

    use super::BLOCK;
    use std::arch::asm;

    /// A function for one block and one for many. Each list copies a block, or as many as `$step` has bytes of, from
    /// `{from} + {at}` to `{to} + {at}`.
    macro_rules! copies {
        (
            $one:ident: [$($line:literal),+],
            $many:ident by $step:literal: [$($step_line:literal),+],
            after [$($after:literal)?],
            clobbers $($clobber:tt)+
        ) => {
            /// # Safety
            /// As [`super::BlockStore::copy`], for one block.
            #[inline(always)]
            pub unsafe fn $one(from: *const u8, to: *mut u8) {
                // SAFETY: reads and writes what the caller says it may.
                unsafe {
                    asm!(
                        $($line,)+
                        $($after,)?
                        from = in(reg) from,
                        to = in(reg) to,
                        at = const 0,
                        $($clobber)+
                        options(nostack, preserves_flags),
                    );
                }
            }

            /// # Safety
            /// As [`super::BlockStore::copy`].
            #[inline(always)]
            pub unsafe fn $many(mut from: *const u8, mut to: *mut u8, blocks: usize) {
                // SAFETY: reads and writes what the caller says it may: the odd blocks, then the others.
                unsafe {
                    let len = blocks * BLOCK / $step * $step;
                    for _ in 0..blocks - len / BLOCK {
                        $one(from, to);
                        (from, to) = (from.add(BLOCK), to.add(BLOCK));
                    }
                    if len == 0 {
                        return;
                    }
                    asm!(
                        "2:",
                        $($step_line,)+
                        concat!("add {at}, ", $step),
                        "jnz 2b",
                        $($after,)?
                        from = in(reg) from.add(len),
                        to = in(reg) to.add(len),
                        at = inout(reg) (len as isize).wrapping_neg() => _,
                        $($clobber)+
                        options(nostack),
                    );
                }
            }
        };
    }

    copies!(
        qword_one: [
            "mov {a}, [{from} + {at}]",
            "mov {b}, [{from} + {at} + 8]",
            "mov {c}, [{from} + {at} + 16]",
            "mov {d}, [{from} + {at} + 24]",
            "mov [{to} + {at}], {a}",
            "mov [{to} + {at} + 8], {b}",
            "mov [{to} + {at} + 16], {c}",
            "mov [{to} + {at} + 24], {d}",
            "mov {a}, [{from} + {at} + 32]",
            "mov {b}, [{from} + {at} + 40]",
            "mov {c}, [{from} + {at} + 48]",
            "mov {d}, [{from} + {at} + 56]",
            "mov [{to} + {at} + 32], {a}",
            "mov [{to} + {at} + 40], {b}",
            "mov [{to} + {at} + 48], {c}",
            "mov [{to} + {at} + 56], {d}"
        ],
        qword by 64: [
            "mov {a}, [{from} + {at}]",
            "mov {b}, [{from} + {at} + 8]",
            "mov {c}, [{from} + {at} + 16]",
            "mov {d}, [{from} + {at} + 24]",
            "mov [{to} + {at}], {a}",
            "mov [{to} + {at} + 8], {b}",
            "mov [{to} + {at} + 16], {c}",
            "mov [{to} + {at} + 24], {d}",
            "mov {a}, [{from} + {at} + 32]",
            "mov {b}, [{from} + {at} + 40]",
            "mov {c}, [{from} + {at} + 48]",
            "mov {d}, [{from} + {at} + 56]",
            "mov [{to} + {at} + 32], {a}",
            "mov [{to} + {at} + 40], {b}",
            "mov [{to} + {at} + 48], {c}",
            "mov [{to} + {at} + 56], {d}"
        ],
        after [],
        clobbers a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
    );

    copies!(
        sse2_one: [
            "movups xmm0, [{from} + {at}]",
            "movups xmm1, [{from} + {at} + 16]",
            "movups xmm2, [{from} + {at} + 32]",
            "movups xmm3, [{from} + {at} + 48]",
            "movaps [{to} + {at}], xmm0",
            "movaps [{to} + {at} + 16], xmm1",
            "movaps [{to} + {at} + 32], xmm2",
            "movaps [{to} + {at} + 48], xmm3"
        ],
        sse2 by 64: [
            "movups xmm0, [{from} + {at}]",
            "movups xmm1, [{from} + {at} + 16]",
            "movups xmm2, [{from} + {at} + 32]",
            "movups xmm3, [{from} + {at} + 48]",
            "movaps [{to} + {at}], xmm0",
            "movaps [{to} + {at} + 16], xmm1",
            "movaps [{to} + {at} + 32], xmm2",
            "movaps [{to} + {at} + 48], xmm3"
        ],
        after [],
        clobbers out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
    );

    // Without the vzeroupper later SSE code would be slow. It zeroes a part of all sixteen registers.
    copies!(
        avx_one: [
            "vmovdqu ymm0, [{from} + {at}]",
            "vmovdqu ymm1, [{from} + {at} + 32]",
            "vmovdqa [{to} + {at}], ymm0",
            "vmovdqa [{to} + {at} + 32], ymm1"
        ],
        avx by 256: [
            "vmovdqu ymm0, [{from} + {at}]",
            "vmovdqu ymm1, [{from} + {at} + 32]",
            "vmovdqu ymm2, [{from} + {at} + 64]",
            "vmovdqu ymm3, [{from} + {at} + 96]",
            "vmovdqu ymm4, [{from} + {at} + 128]",
            "vmovdqu ymm5, [{from} + {at} + 160]",
            "vmovdqu ymm6, [{from} + {at} + 192]",
            "vmovdqu ymm7, [{from} + {at} + 224]",
            "vmovdqa [{to} + {at}], ymm0",
            "vmovdqa [{to} + {at} + 32], ymm1",
            "vmovdqa [{to} + {at} + 64], ymm2",
            "vmovdqa [{to} + {at} + 96], ymm3",
            "vmovdqa [{to} + {at} + 128], ymm4",
            "vmovdqa [{to} + {at} + 160], ymm5",
            "vmovdqa [{to} + {at} + 192], ymm6",
            "vmovdqa [{to} + {at} + 224], ymm7"
        ],
        after ["vzeroupper"],
        clobbers out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
        out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
        out("xmm14") _, out("xmm15") _,
    );

    // Registers above 15 need no vzeroupper.
    copies!(
        avx512_one: ["vmovdqu64 zmm16, [{from} + {at}]", "vmovdqa64 [{to} + {at}], zmm16"],
        avx512 by 256: [
            "vmovdqu64 zmm16, [{from} + {at}]",
            "vmovdqu64 zmm17, [{from} + {at} + 64]",
            "vmovdqu64 zmm18, [{from} + {at} + 128]",
            "vmovdqu64 zmm19, [{from} + {at} + 192]",
            "vmovdqa64 [{to} + {at}], zmm16",
            "vmovdqa64 [{to} + {at} + 64], zmm17",
            "vmovdqa64 [{to} + {at} + 128], zmm18",
            "vmovdqa64 [{to} + {at} + 192], zmm19"
        ],
        after [],
        clobbers out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _,
    );

    copies!(
        movdir64b_one: ["lea {place}, [{to} + {at}]", "movdir64b {place}, [{from} + {at}]"],
        movdir64b by 256: [
            "lea {place}, [{to} + {at}]",
            "movdir64b {place}, [{from} + {at}]",
            "add {place}, 64",
            "movdir64b {place}, [{from} + {at} + 64]",
            "add {place}, 64",
            "movdir64b {place}, [{from} + {at} + 128]",
            "add {place}, 64",
            "movdir64b {place}, [{from} + {at} + 192]"
        ],
        after [],
        clobbers place = out(reg) _,
    );

    /// CPUID leaf 7, ECX bit 28; std has no name for it.
    pub fn has_movdir64b() -> bool {
        let cpuid = |leaf: u32| -> (u32, u32) {
            let (highest, ecx);
            // SAFETY: every 64-bit processor has CPUID; rbx, which the compiler keeps for itself, is put back.
            unsafe {
                asm!(
                    "mov {rbx}, rbx",
                    "cpuid",
                    "mov rbx, {rbx}",
                    rbx = out(reg) _,
                    inout("eax") leaf => highest,
                    inout("ecx") 0u32 => ecx,
                    out("edx") _,
                    options(nostack, nomem),
                );
            }
            (highest, ecx)
        };
        cpuid(0).0 >= 7 && cpuid(7).1 >> 28 & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SharedMem;
    use proptest::prelude::*;
    use std::sync::Once;

    /// The paths that this processor has; the others are named, so that a run shows what it didn't try.
    fn paths() -> Vec<BlockStore> {
        static TELL: Once = Once::new();
        let tried: Vec<BlockStore> = BlockStore::available().collect();
        TELL.call_once(|| {
            for name in BlockStore::names().filter(|name| tried.iter().all(|store| store.name() != *name)) {
                eprintln!("SKIPPED: this processor has no {name}");
            }
        });
        tried
    }

    proptest! {
        #[test]
        fn each_path_moves_the_same_bytes_and_no_others(
            skip in 0usize..64,
            at in 0usize..20,
            data in proptest::collection::vec(any::<u8>(), 0..1200),
        ) {
            for store in paths() {
                let memory = SharedMem::new(4096).unwrap();
                let bytes = &data[skip.min(data.len())..];
                let (source, rest) = BlockSource::of_bytes(bytes);
                prop_assert_eq!(source.len() * BLOCK + rest.len(), bytes.len());
                memory.store_blocks(at * BLOCK, store, source);
                let mut all = vec![0; memory.len()];
                memory.read(0, &mut all);
                let (before, from) = all.split_at(at * BLOCK);
                let (stored, after) = from.split_at(source.len() * BLOCK);
                prop_assert_eq!(stored, &bytes[..stored.len()], "{}", store);
                prop_assert!(before.iter().chain(after).all(|b| *b == 0), "{}", store);
                // From shared memory, in two parts.
                let (first, second) = memory.blocks(at * BLOCK, source.len()).split_at(at);
                prop_assert_eq!(first.len() + second.len(), source.len());
                let copy = SharedMem::new(4096).unwrap();
                copy.store_blocks(0, store, first);
                copy.store_blocks(first.len() * BLOCK, store, second);
                let again: Vec<u64> = copy.blocks(0, source.len()).iter().flatten().collect();
                let wanted: Vec<u64> = source.iter().flatten().collect();
                prop_assert_eq!(again, wanted);
            }
        }
    }

    #[test]
    fn names_lead_back_and_bad_ones_are_told() {
        let have = paths();
        for name in BlockStore::names() {
            let found = have.iter().find(|store| store.name() == name).copied();
            assert_eq!(name.parse::<BlockStore>().ok(), found);
        }
        assert_eq!("avx1024".parse::<BlockStore>(), Err(NoSuchStore::Name("avx1024".to_owned())));
        assert!(NoSuchStore::Processor("avx").to_string().contains("no avx"));
        assert_eq!(have.last(), Some(&BlockStore::best()));
    }

    #[test]
    #[should_panic(expected = "leaves shared memory")]
    fn blocks_beyond_the_end_are_a_mistake() {
        SharedMem::new(4096).unwrap().store_blocks(4096, BlockStore::best(), BlockSource::of_block(&[0; 8]));
    }
}
