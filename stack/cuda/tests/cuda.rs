//! CUDA's memory by a library that stands in for libcuda: what is what, messages from and into it, copies that fail, and what isn't
//! there. Never run on a GPU.
#![allow(unsafe_code)]

use opx_bus::PciFunction;
use opx_cuda::{BufferError, Cuda, LoadError};
use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{Buffer, Completion, Config, Endpoint, MemoryKind, OperationError, Pattern};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The library that stands in has one state.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const ON_DEVICE: u32 = 2;

/// The library, and what it offers to tests.
struct Fake {
    cuda: Cuda,
    library: libloading::Library,
    _alone: MutexGuard<'static, ()>,
}

fn library() -> PathBuf {
    // Cargo builds examples before tests, next to where those lie.
    let here = std::env::current_exe().unwrap();
    here.ancestors().nth(2).unwrap().join("examples/libfake_libcuda.so")
}

impl Fake {
    fn load() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let cuda = Cuda::load(&library()).unwrap();
        // SAFETY: it is the one that was just loaded.
        let library = unsafe { libloading::Library::new(library()) }.unwrap();
        let fake = Self { cuda, library, _alone: alone };
        fake.fail(0);
        fake
    }

    fn alloc(&self, size: usize, kind: u32, managed: bool, ordinal: i32, context: u64) -> *mut u8 {
        type Alloc = extern "C" fn(usize, u32, bool, i32, u64) -> u64;
        // SAFETY: this is its type.
        let alloc = unsafe { self.library.get::<Alloc>(b"fake_alloc") }.unwrap();
        alloc(size, kind, managed, ordinal, context) as *mut u8
    }

    fn fail(&self, result: i32) {
        // SAFETY: this is its type.
        unsafe { self.library.get::<extern "C" fn(i32)>(b"fake_copy_result") }.unwrap()(result);
    }

    fn copies(&self) -> u64 {
        // SAFETY: this is its type.
        unsafe { self.library.get::<extern "C" fn() -> u64>(b"fake_copies") }.unwrap()()
    }

    fn retained(&self) -> u64 {
        // SAFETY: this is its type.
        unsafe { self.library.get::<extern "C" fn() -> u64>(b"fake_retained") }.unwrap()()
    }

    fn buffer(&self, at: *mut u8, len: usize) -> Buffer {
        // SAFETY: what the library that stands in allocates is never freed, and used by one test at a time.
        unsafe { self.cuda.buffer(at, len) }.unwrap()
    }
}

/// As the "device" sees it.
fn bytes(at: *const u8, len: usize) -> Vec<u8> {
    // SAFETY: it is the process' own memory, which no operation has at the moment.
    unsafe { std::slice::from_raw_parts(at, len) }.to_vec()
}

#[test]
fn memory_is_what_the_driver_says() {
    let fake = Fake::load();
    assert_eq!(fake.cuda.devices(), 2);
    let kind = |at: *const u8| fake.cuda.classify(at).unwrap();
    let gpu = fake.alloc(4096, ON_DEVICE, false, 1, 7);
    assert_eq!(kind(gpu), MemoryKind::Device { interface: 1, device: 1 });
    assert_eq!(kind(gpu.wrapping_add(4095)), MemoryKind::Device { interface: 1, device: 1 });
    assert_eq!(kind(fake.alloc(64, ON_DEVICE, true, 0, 7)), MemoryKind::Managed);
    // Host memory that CUDA knows, and such that it doesn't.
    assert_eq!(kind(fake.alloc(64, 1, false, 0, 7)), MemoryKind::Host);
    assert_eq!(kind([1u8].as_ptr()), MemoryKind::Host);
    assert_eq!(kind(std::ptr::null()), MemoryKind::Host);

    assert_eq!(fake.buffer(gpu, 4096).kind(), MemoryKind::Device { interface: 1, device: 1 });
    let mut own = [0u8; 8];
    assert!(matches!(fake.buffer(own.as_mut_ptr(), 8), Buffer::Raw(_)));
    for (from, len) in [(0, 4097), (4095, 2), (1, usize::MAX)] {
        // SAFETY: it is refused.
        let refused = unsafe { fake.cuda.buffer(gpu.wrapping_add(from), len) };
        assert!(matches!(refused, Err(BufferError::Outside { .. })), "{len} bytes at {from}");
    }
    // Just behind it there is nothing of CUDA's.
    assert!(matches!(fake.buffer(gpu.wrapping_add(4096), 1), Buffer::Raw(_)));
}

#[test]
fn buffers_are_copied_by_the_driver_in_their_context() {
    let fake = Fake::load();
    // Of a pool: it has no context, and that of its device is used; nor can its copies be made to end before they return.
    for context in [7, 0] {
        let gpu = fake.alloc(1000, ON_DEVICE, false, 1, context);
        let mut buffer = fake.buffer(gpu.wrapping_add(100), 50);
        let before = fake.copies();
        buffer.write(10, b"hello");
        assert_eq!((bytes(gpu.wrapping_add(110), 5), fake.copies() - before), (b"hello".to_vec(), 1));
        assert_eq!(buffer.into_vec()[10..15], *b"hello");
        assert_eq!(bytes(gpu, 100), [0; 100]);
    }
}

#[test]
fn a_context_is_retained_once_however_many_buffers_it_is_for() {
    let fake = Fake::load();
    let pool = [0, 1].map(|ordinal| fake.alloc(64, ON_DEVICE, false, ordinal, 0));
    let before = fake.retained();
    for _ in 0..10 {
        for at in pool {
            fake.buffer(at, 64).write(0, b"x");
        }
    }
    assert_eq!(fake.retained() - before, 2, "once for each device");
}

fn pair() -> (Lab, Hfi<EmuBus>, Endpoint<EmuBus>, Endpoint<EmuBus>) {
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    let [a, b] = [0, 1].map(|_| Endpoint::open(&hfi, Config::default()).unwrap());
    (lab, hfi, a, b)
}

/// A message from one memory to the other; both completions.
fn pass(fake: &Fake, from: Buffer, to: Buffer, broken: bool) -> [Completion; 2] {
    let (_lab, hfi, mut a, mut b) = pair();
    b.tag_receive(Pattern::exact(1), to, 1).unwrap();
    fake.fail(if broken { 700 } else { 0 });
    a.tag_send(b.address(), 1, from, 2).unwrap();
    let limit = hfi.bus().now() + Duration::from_secs(60);
    let mut ends = [None, None];
    while ends.iter().any(Option::is_none) {
        assert!(hfi.bus().now() < limit, "{ends:?}");
        for (end, done) in [&mut a, &mut b].into_iter().zip(&mut ends) {
            end.progress().unwrap();
            *done = done.take().or_else(|| end.poll_completion());
        }
        hfi.bus().relax();
    }
    fake.fail(0);
    ends.map(Option::unwrap)
}

#[test]
fn messages_go_from_and_into_memory_of_devices() {
    let fake = Fake::load();
    for len in [10, 3000, 12_000, 100_000] {
        for managed in [false, true] {
            let (from, to) = (fake.alloc(len, ON_DEVICE, managed, 0, 7), fake.alloc(len, ON_DEVICE, false, 1, 0));
            let message: Vec<u8> = (0..len).map(|n| ((n * 7) >> 2) as u8).collect();
            fake.buffer(from, len).write(0, &message);
            let [sent, received] = pass(&fake, fake.buffer(from, len), fake.buffer(to, len), false);
            assert!(matches!(sent, Completion::Sent { context: 2, .. }), "{sent:?}");
            assert!(matches!(received, Completion::Received { context: 1, .. }), "{received:?}");
            assert!(bytes(to, len) == message, "{len} bytes");
        }
    }
}

#[test]
fn a_copy_that_fails_fails_its_operation() {
    let fake = Fake::load();
    let (from, to) = (fake.alloc(3000, ON_DEVICE, false, 0, 7), fake.alloc(3000, ON_DEVICE, false, 1, 7));
    let ends = pass(&fake, fake.buffer(from, 3000), fake.buffer(to, 3000), true);
    for end in ends {
        assert!(matches!(end, Completion::Failed { error: OperationError::Device, .. }), "{end:?}");
    }
}

#[test]
fn what_isnt_there_is_told() {
    let absent = Cuda::load(Path::new("/nonexistent/libcuda.so.1")).unwrap_err();
    assert!(matches!(absent, LoadError::NotThere { .. }), "{absent}");
    let other = Cuda::load(Path::new("libc.so.6")).unwrap_err();
    assert!(matches!(other, LoadError::Missing { symbol: "cuInit", .. }), "{other}");
}
