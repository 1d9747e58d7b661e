//! libcuda's functions and what is made of them. All unsafe code is here.
//!
//! Signatures and numbers are those of `cuda.h` of the driver API, which are fixed by the ABI (`_v2` where there is such a name).
#![allow(unsafe_code)]

use crate::{BufferError, CudaError, LoadError};
use libloading::Library;
use opx_stack::{Buffer, CopyError, DeviceMemory, DeviceRange, Interfaces, MemoryKind, RawBuffer};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

/// `CUresult`; 0 is success.
type CuResult = c_int;
/// `CUdeviceptr`.
type DevicePtr = u64;
/// `CUcontext`.
type Context = *mut c_void;
/// `CUstream`.
type Stream = *mut c_void;

/// `CU_STREAM_LEGACY` by its other name: the stream that copies without one run in.
const DEFAULT_STREAM: Stream = ptr::null_mut();

// CUpointer_attribute.
const CONTEXT: c_uint = 1;
const MEMORY_TYPE: c_uint = 2;
const SYNC_MEMOPS: c_uint = 6;
const IS_MANAGED: c_uint = 8;
const DEVICE_ORDINAL: c_uint = 9;
const RANGE_START_ADDR: c_uint = 11;
const RANGE_SIZE: c_uint = 12;

/// `CU_MEMORYTYPE_DEVICE`.
const TYPE_DEVICE: c_uint = 2;
/// `enum fi_hmem_iface`: FI_HMEM_CUDA.
const FI_HMEM_CUDA: u32 = 1;
const LIBRARY: &str = "libcuda.so.1";

/// The functions that are used.
struct Api {
    pointer_get_attributes: unsafe extern "C" fn(c_uint, *const c_uint, *const *mut c_void, DevicePtr) -> CuResult,
    pointer_set_attribute: unsafe extern "C" fn(*const c_void, c_uint, DevicePtr) -> CuResult,
    memcpy: unsafe extern "C" fn(DevicePtr, DevicePtr, usize) -> CuResult,
    synchronize: unsafe extern "C" fn(Stream) -> CuResult,
    push: unsafe extern "C" fn(Context) -> CuResult,
    pop: unsafe extern "C" fn(*mut Context) -> CuResult,
    device_get: unsafe extern "C" fn(*mut c_int, c_int) -> CuResult,
    retain: unsafe extern "C" fn(*mut Context, c_int) -> CuResult,
    error_name: unsafe extern "C" fn(CuResult, *mut *const c_char) -> CuResult,
    devices: u32,
    /// The devices' primary contexts that have been needed, retained once each, for the process' life.
    primaries: Mutex<BTreeMap<c_int, Shared>>,
    /// The functions are its; it stays for as long as they do.
    _library: Library,
}

impl Api {
    fn check(&self, call: &'static str, code: CuResult) -> Result<(), CudaError> {
        if code == 0 {
            return Ok(());
        }
        let mut name = ptr::null();
        // SAFETY: it takes any number, and gives a string that stays, or nothing.
        let told = unsafe { (self.error_name)(code, &raw mut name) };
        let name = if told == 0 && !name.is_null() {
            // SAFETY: just checked: a string of the library's own.
            unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
        } else {
            "an error without a name".to_owned()
        };
        Err(CudaError { call, code, name })
    }
}

/// libcuda, loaded and started. Clones are handles to the same.
#[derive(Clone)]
pub struct Cuda {
    api: Arc<Api>,
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda").field("devices", &self.devices()).finish_non_exhaustive()
    }
}

/// What the driver says of an address.
#[derive(Debug, Clone, Copy)]
struct Found {
    kind: MemoryKind,
    ordinal: c_int,
    context: Context,
    base: DevicePtr,
    size: usize,
}

impl Cuda {
    /// Loads `libcuda.so.1`, if FI_HMEM allows that (see [`Interfaces`]).
    ///
    /// # Errors
    /// When it isn't allowed, isn't there or doesn't start.
    pub fn from_env() -> Result<Self, LoadError> {
        let interfaces = Interfaces::from_env();
        if !interfaces.allows("cuda") {
            return Err(LoadError::Excluded(interfaces.to_string()));
        }
        Self::load(Path::new(LIBRARY))
    }

    /// Loads this library, which is libcuda.
    ///
    /// # Errors
    /// When it isn't there or doesn't start.
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        // SAFETY: libcuda's initialisers have no preconditions. Whoever names another library answers for its.
        let library = unsafe { Library::new(file) }
            .map_err(|why| LoadError::NotThere { file: file.to_owned(), why: why.to_string() })?;
        /// A function by its name.
        fn get<F: Copy>(library: &Library, file: &Path, symbol: &'static str) -> Result<F, LoadError> {
            // SAFETY: the types are those of `cuda.h`; they are used while the library is loaded only.
            unsafe { library.get::<F>(symbol.as_bytes()) }
                .map(|found| *found)
                .map_err(|_| LoadError::Missing { file: file.to_owned(), symbol })
        }
        let init: unsafe extern "C" fn(c_uint) -> CuResult = get(&library, file, "cuInit")?;
        let count: unsafe extern "C" fn(*mut c_int) -> CuResult = get(&library, file, "cuDeviceGetCount")?;
        let mut api = Api {
            pointer_get_attributes: get(&library, file, "cuPointerGetAttributes")?,
            pointer_set_attribute: get(&library, file, "cuPointerSetAttribute")?,
            memcpy: get(&library, file, "cuMemcpy")?,
            synchronize: get(&library, file, "cuStreamSynchronize")?,
            push: get(&library, file, "cuCtxPushCurrent_v2")?,
            pop: get(&library, file, "cuCtxPopCurrent_v2")?,
            device_get: get(&library, file, "cuDeviceGet")?,
            retain: get(&library, file, "cuDevicePrimaryCtxRetain")?,
            error_name: get(&library, file, "cuGetErrorName")?,
            devices: 0,
            primaries: Mutex::default(),
            _library: library,
        };
        let mut devices = 0;
        // SAFETY: it may be called at any time, by any thread; 0 is the only flag there is.
        api.check("cuInit", unsafe { init(0) })?;
        // SAFETY: CUDA has been started, and there is room for the answer.
        api.check("cuDeviceGetCount", unsafe { count(&raw mut devices) })?;
        api.devices = devices.max(0) as u32;
        Ok(Self { api: Arc::new(api) })
    }

    /// Devices that there are.
    pub fn devices(&self) -> u32 {
        self.api.devices
    }

    fn find(&self, address: *const u8) -> Result<Found, CudaError> {
        let (mut context, mut kind, mut managed, mut ordinal) = (ptr::null_mut::<c_void>(), 0u32, 0u32, 0i32);
        let (mut base, mut size) = (0u64, 0usize);
        let attributes = [CONTEXT, MEMORY_TYPE, IS_MANAGED, DEVICE_ORDINAL, RANGE_START_ADDR, RANGE_SIZE];
        let answers: [*mut c_void; 6] = [
            (&raw mut context).cast(),
            (&raw mut kind).cast(),
            (&raw mut managed).cast(),
            (&raw mut ordinal).cast(),
            (&raw mut base).cast(),
            (&raw mut size).cast(),
        ];
        // SAFETY: as many attributes as answers, each with a place of its type. The address is asked about, not used; of one that
        // isn't CUDA's all answers are 0.
        let code = unsafe {
            (self.api.pointer_get_attributes)(
                attributes.len() as c_uint,
                attributes.as_ptr(),
                answers.as_ptr(),
                address as u64,
            )
        };
        self.api.check("cuPointerGetAttributes", code)?;
        let kind = match (kind, managed) {
            (_, 1..) => MemoryKind::Managed,
            (TYPE_DEVICE, _) => MemoryKind::Device { interface: FI_HMEM_CUDA, device: ordinal.max(0) as u64 },
            // The machine's own, registered with CUDA or not.
            _ => MemoryKind::Host,
        };
        Ok(Found { kind, ordinal, context, base, size })
    }

    /// Whose memory is at an address. Nothing is read there.
    ///
    /// # Errors
    /// When the driver refuses to tell.
    pub fn classify(&self, address: *const u8) -> Result<MemoryKind, CudaError> {
        self.find(address).map(|found| found.kind)
    }

    /// The `len` bytes at `address`, whosever they are, as a buffer.
    ///
    /// # Safety
    /// As of [`RawBuffer::from_raw_parts`], but that memory of a device needn't be initialised: until the buffer is dropped nobody
    /// frees it, nor changes it while it is sent from, nor uses it while it is received into, the device included.
    ///
    /// # Errors
    /// When the bytes aren't inside of one allocation, or the driver refuses.
    pub unsafe fn buffer(&self, address: *mut u8, len: usize) -> Result<Buffer, BufferError> {
        let mut found = self.find(address)?;
        if found.kind == MemoryKind::Host {
            // SAFETY: the caller promises what it asks for.
            return Ok(unsafe { RawBuffer::from_raw_parts(address, len) }.into());
        }
        let (at, Found { base, size, .. }) = (address as u64, found);
        let offset = at.checked_sub(base).and_then(|offset| usize::try_from(offset).ok());
        let inside = offset.and_then(|offset| offset.checked_add(len)).is_some_and(|end| end <= size);
        if !inside {
            return Err(BufferError::Outside { address: at, len, base, size });
        }
        if found.context.is_null() {
            found.context = self.primary_context(found.ordinal)?;
        }
        let context = Shared(found.context);
        let is_synchronous = self.make_synchronous(context, at);
        let memory = CudaMemory { cuda: self.clone(), kind: found.kind, at, len, context, is_synchronous };
        DeviceRange::new(Arc::new(memory), 0, len).map(Buffer::from).ok_or(BufferError::Outside {
            address: at,
            len,
            base,
            size,
        })
    }

    /// The context that a device's runtime uses: memory of pools belongs to none.
    fn primary_context(&self, ordinal: c_int) -> Result<Context, CudaError> {
        // The driver counts how often it is retained, so that is done once.
        let mut primaries = self.api.primaries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Shared(context)) = primaries.get(&ordinal) {
            return Ok(*context);
        }
        let (mut device, mut context) = (0, ptr::null_mut());
        // SAFETY: CUDA has been started, and there is room for the answers.
        unsafe {
            self.api.check("cuDeviceGet", (self.api.device_get)(&raw mut device, ordinal.max(0)))?;
            self.api.check("cuDevicePrimaryCtxRetain", (self.api.retain)(&raw mut context, device))?;
        }
        primaries.insert(ordinal, Shared(context));
        Ok(context)
    }

    /// Has copies into the allocation at `address` end before they return, as libfabric's OPX provider does
    /// (`fi_opx_mr.c: cuda_set_sync_memops`): from pageable memory they may otherwise return as soon as the bytes are on their way
    /// (CUDA Driver API, "API synchronization behavior"), and a kernel that is started once a message is told of wouldn't see them. `false`
    /// when the driver doesn't do that for such memory.
    fn make_synchronous(&self, context: Shared, address: DevicePtr) -> bool {
        let on: c_uint = 1;
        let set = self.within(context, |api| {
            // SAFETY: the attribute is a number that is 0 or not, and is read before this returns. The memory isn't touched.
            let code = unsafe { (api.pointer_set_attribute)((&raw const on).cast(), SYNC_MEMOPS, address) };
            api.check("cuPointerSetAttribute", code)
        });
        set.inspect_err(|why| log::debug!("copies to {address:#x} are waited for one by one: {why}")).is_ok()
    }

    /// Calls the driver in a context. Whoever drives an endpoint may be a thread that CUDA doesn't know, so it is set for each call.
    fn within(&self, context: Shared, call: impl FnOnce(&Api) -> Result<(), CudaError>) -> Result<(), CudaError> {
        let api = &*self.api;
        let mut popped = ptr::null_mut();
        // SAFETY: the context is one of the driver's.
        api.check("cuCtxPushCurrent", unsafe { (api.push)(context.0) })?;
        let called = call(api);
        // SAFETY: there is room for the answer.
        api.check("cuCtxPopCurrent", unsafe { (api.pop)(&raw mut popped) }).and(called)
    }

    /// Copies between memories, of devices or the host's, in a context. With `wait` it has ended when this returns.
    ///
    /// # Safety
    /// `len` bytes at `from` may be read, and at `to` written, by this thread or by the device.
    unsafe fn copy(
        &self,
        context: Shared,
        to: DevicePtr,
        from: DevicePtr,
        len: usize,
        wait: bool,
    ) -> Result<(), CudaError> {
        self.within(context, |api| {
            // SAFETY: the caller answers for the memory.
            api.check("cuMemcpy", unsafe { (api.memcpy)(to, from, len) })?;
            if !wait {
                return Ok(());
            }
            // SAFETY: the stream is the context's own, and this is no callback of it.
            api.check("cuStreamSynchronize", unsafe { (api.synchronize)(DEFAULT_STREAM) })
        })
    }
}

/// A context, which any thread may make its own.
#[derive(Debug, Clone, Copy)]
struct Shared(Context);

// SAFETY: the driver's contexts may be used by any thread, and by several at a time.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Memory of a device's, or managed.
pub struct CudaMemory {
    cuda: Cuda,
    kind: MemoryKind,
    at: DevicePtr,
    len: usize,
    context: Shared,
    /// The driver ends copies into it before they return.
    is_synchronous: bool,
}

impl fmt::Debug for CudaMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, at, len, .. } = self;
        f.debug_struct("CudaMemory").field("kind", kind).field("at", at).field("len", len).finish_non_exhaustive()
    }
}

impl CudaMemory {
    fn error(&self, at: usize, len: usize, why: impl fmt::Display) -> CopyError {
        CopyError { device: "CUDA".to_owned(), at: self.at + at as u64, len, why: why.to_string() }
    }

    /// Where bytes of it are.
    fn place(&self, at: usize, len: usize) -> Result<DevicePtr, CopyError> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(self.at + at as u64),
            _ => Err(self.error(at, len, "they aren't inside of the buffer")),
        }
    }
}

impl DeviceMemory for CudaMemory {
    fn kind(&self) -> MemoryKind {
        self.kind
    }

    fn len(&self) -> usize {
        self.len
    }

    fn copy_out(&self, at: usize, to: &mut [u8]) -> Result<(), CopyError> {
        let from = self.place(at, to.len())?;
        // What the host reads is there when the copy returns, whatever the memory.
        // SAFETY: the bytes are inside of what `Cuda::buffer` was promised, and the slice is this thread's.
        let copied = unsafe { self.cuda.copy(self.context, to.as_mut_ptr() as u64, from, to.len(), false) };
        copied.map_err(|why| self.error(at, to.len(), why))
    }

    fn copy_in(&self, at: usize, from: &[u8]) -> Result<(), CopyError> {
        let to = self.place(at, from.len())?;
        let (from_host, wait) = (from.as_ptr() as u64, !self.is_synchronous);
        // SAFETY: as above.
        let copied = unsafe { self.cuda.copy(self.context, to, from_host, from.len(), wait) };
        copied.map_err(|why| self.error(at, from.len(), why))
    }
}
