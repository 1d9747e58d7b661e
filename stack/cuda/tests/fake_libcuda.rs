//! Stands in for libcuda: "devices" whose memory is the process' own, contexts that must be current, copies that are still under way
//! when they return, where the real ones may be, and copies that fail on request. A library of its own, so that it is loaded as the real one is.
#![allow(unsafe_code, missing_docs, non_snake_case, clippy::missing_safety_doc)]

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

const INVALID_VALUE: c_int = 1;
const INVALID_CONTEXT: c_int = 201;
const NOT_SUPPORTED: c_int = 801;

const TYPE_DEVICE: c_uint = 2;
/// Bytes behind each allocation that are nobody's.
const GAP: usize = 64;

struct Allocation {
    base: u64,
    size: usize,
    /// CUmemorytype.
    kind: c_uint,
    managed: bool,
    ordinal: c_int,
    context: u64,
    /// CU_POINTER_ATTRIBUTE_SYNC_MEMOPS.
    sync_memops: bool,
}

impl Allocation {
    fn has(&self, address: u64) -> bool {
        (self.base..self.base + self.size as u64).contains(&address)
    }
}

static MEMORY: Mutex<Vec<Allocation>> = Mutex::new(Vec::new());
/// The result of the next copies, and how many there were.
static COPY_RESULT: AtomicI32 = AtomicI32::new(0);
static COPIES: AtomicU64 = AtomicU64::new(0);
static RETAINED: AtomicU64 = AtomicU64::new(0);
/// Copies into devices that have returned and not been done: where to, and what.
static UNDER_WAY: Mutex<Vec<(u64, Vec<u8>)>> = Mutex::new(Vec::new());

thread_local! {
    static CURRENT: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// For the tests: memory of this kind; with context 0 it belongs to a pool.
#[unsafe(no_mangle)]
pub extern "C" fn fake_alloc(size: usize, kind: c_uint, managed: bool, ordinal: c_int, context: u64) -> u64 {
    let base = Box::leak(vec![0u8; size + GAP].into_boxed_slice()).as_mut_ptr() as u64;
    MEMORY.lock().unwrap().push(Allocation { base, size, kind, managed, ordinal, context, sync_memops: false });
    base
}

/// For the tests: what copies return from now on.
#[unsafe(no_mangle)]
pub extern "C" fn fake_copy_result(result: c_int) {
    COPY_RESULT.store(result, Ordering::SeqCst);
}

#[unsafe(no_mangle)]
pub extern "C" fn fake_copies() -> u64 {
    COPIES.load(Ordering::SeqCst)
}

/// For the tests: how often primary contexts were retained.
#[unsafe(no_mangle)]
pub extern "C" fn fake_retained() -> u64 {
    RETAINED.load(Ordering::SeqCst)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> c_int {
    if flags == 0 { 0 } else { INVALID_VALUE }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    // SAFETY: as in `cuda.h`: a place for a number.
    unsafe { *count = 2 };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { *device = 10 + ordinal };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut u64, device: c_int) -> c_int {
    RETAINED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { *context = 0x1000 + device as u64 };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuPointerGetAttributes(
    count: c_uint,
    attributes: *const c_uint,
    answers: *const *mut c_void,
    address: u64,
) -> c_int {
    let memory = MEMORY.lock().unwrap();
    let found = memory.iter().find(|it| it.has(address));
    for n in 0..count as usize {
        // SAFETY: as in `cuda.h`: so many attributes, and a place of the right type for each.
        unsafe {
            let to = *answers.add(n);
            match *attributes.add(n) {
                1 => *to.cast::<u64>() = found.map_or(0, |it| it.context),
                2 => *to.cast::<c_uint>() = found.map_or(0, |it| it.kind),
                8 => *to.cast::<c_uint>() = found.map_or(0, |it| it.managed.into()),
                9 => *to.cast::<c_int>() = found.map_or(-2, |it| it.ordinal),
                11 => *to.cast::<u64>() = found.map_or(0, |it| it.base),
                12 => *to.cast::<usize>() = found.map_or(0, |it| it.size),
                _ => return INVALID_VALUE,
            }
        }
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuPointerSetAttribute(value: *const c_void, attribute: c_uint, address: u64) -> c_int {
    let mut memory = MEMORY.lock().unwrap();
    match memory.iter_mut().find(|it| it.has(address)) {
        // Memory of pools doesn't have it.
        Some(found) if found.context == 0 => NOT_SUPPORTED,
        Some(found) if attribute == 6 => {
            // SAFETY: as in `cuda.h`: a number.
            found.sync_memops = unsafe { *value.cast::<c_uint>() } != 0;
            0
        }
        _ => INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(context: u64) -> c_int {
    CURRENT.with_borrow_mut(|stack| stack.push(context));
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxPopCurrent_v2(context: *mut u64) -> c_int {
    match CURRENT.with_borrow_mut(Vec::pop) {
        Some(top) => {
            // SAFETY: as above.
            unsafe { *context = top };
            0
        }
        None => INVALID_CONTEXT,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpy(to: u64, from: u64, len: usize) -> c_int {
    if CURRENT.with_borrow(|stack| stack.last().is_none_or(|context| *context == 0)) {
        return INVALID_CONTEXT;
    }
    let result = COPY_RESULT.load(Ordering::SeqCst);
    if result == 0 {
        COPIES.fetch_add(1, Ordering::SeqCst);
        // What was to be written before comes first.
        finish_copies();
        let memory = MEMORY.lock().unwrap();
        let into_device = memory.iter().find(|it| it.has(to) && (it.kind == TYPE_DEVICE || it.managed));
        if into_device.is_some_and(|it| !it.sync_memops) && !memory.iter().any(|it| it.has(from)) {
            // SAFETY: as in `cuda.h`: memory of so many bytes, to be read before this returns.
            let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, len) };
            UNDER_WAY.lock().unwrap().push((to, bytes.to_vec()));
        } else {
            // SAFETY: as in `cuda.h`: both are memory of so many bytes; here all of it is the process' own.
            unsafe { std::ptr::copy(from as *const u8, to as *mut u8, len) };
        }
    }
    result
}

fn finish_copies() {
    for (to, bytes) in UNDER_WAY.lock().unwrap().drain(..) {
        // SAFETY: whoever asked for the copy answers for the memory until it has ended; none is ever freed.
        unsafe { std::ptr::copy(bytes.as_ptr(), to as *mut u8, bytes.len()) };
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: u64) -> c_int {
    if stream != 0 || CURRENT.with_borrow(Vec::is_empty) {
        return INVALID_CONTEXT;
    }
    finish_copies();
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(code: c_int, name: *mut *const c_char) -> c_int {
    let text = match code {
        700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        _ => return INVALID_VALUE,
    };
    // SAFETY: as in `cuda.h`: a place for a string that stays.
    unsafe { *name = text.as_ptr() };
    0
}
