//! Messages by a provider of libfabric, loaded when it is asked for.
//!
//! libfabric's functions are pointers in tables behind its objects; the layouts here are those of `rdma/fabric.h`, `fi_domain.h`,
//! `fi_endpoint.h`, `fi_tagged.h`, `fi_rma.h`, `fi_atomic.h`, `fi_cm.h` and `fi_eq.h` of the 1.x interface, which 2.x keeps: tables and structures only grow
//! at their end, and nothing beyond what 1.9 had is touched.
#![allow(unsafe_code)]

use crate::pattern::STALL;
use crate::transport::{Access, Content, Event, Message, Sent, Transport, Window};
use anyhow::{Context, Result, bail, ensure};
use libloading::{Library, Symbol};
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

/// The interface that is asked for: 1.9.
const VERSION: u32 = 1 << 16 | 9;
const FI_RMA: u64 = 1 << 2;
const FI_TAGGED: u64 = 1 << 3;
const FI_ATOMIC: u64 = 1 << 4;
const FI_READ: u64 = 1 << 8;
const FI_WRITE: u64 = 1 << 9;
const FI_RECV: u64 = 1 << 10;
const FI_SEND: u64 = 1 << 11;
const FI_REMOTE_READ: u64 = 1 << 12;
const FI_REMOTE_WRITE: u64 = 1 << 13;
/// Local memory must be registered, too.
const FI_MR_LOCAL: c_int = 1 << 2;
/// Places are addresses.
const FI_MR_VIRT_ADDR: c_int = 1 << 4;
const FI_MR_ALLOCATED: c_int = 1 << 5;
const FI_MR_PROV_KEY: c_int = 1 << 6;
const FI_UINT64: c_int = 7;
const FI_SUM: c_int = 2;
/// What the provider answers that has nothing of the kind.
const ENODATA: c_int = 61;
/// `FI_CONTEXT` and `FI_CONTEXT2`: an operation lends the provider eight words.
const FI_CONTEXT: u64 = 1 << 59;
const FI_CONTEXT2: u64 = 1 << 52;
const FI_EP_RDM: c_int = 3;
const FI_AV_MAP: c_int = 1;
const FI_CQ_FORMAT_TAGGED: c_int = 4;
const FI_ENABLE: c_int = 6;
const EAGAIN: isize = 11;
const FI_EAVAIL: isize = 259;
/// Longest message that is injected, as the stack beside it does.
const INJECT: usize = 16;
/// Completions that are read at once.
const BATCH: usize = 16;
/// Longest name of an endpoint.
const NAME: usize = 512;

type Close = unsafe extern "C" fn(*mut Fid) -> c_int;
type Bind = unsafe extern "C" fn(*mut Fid, *mut Fid, u64) -> c_int;
type ControlFn = unsafe extern "C" fn(*mut Fid, c_int, *mut c_void) -> c_int;
/// An entry that isn't used.
type Unused = *const c_void;

/// `struct fid`.
#[repr(C)]
struct Fid {
    class: usize,
    context: *mut c_void,
    ops: *const FidOps,
}

/// `struct fi_ops`.
#[repr(C)]
struct FidOps {
    size: usize,
    close: Close,
    bind: Bind,
    control: ControlFn,
}

/// `struct fid_fabric`.
#[repr(C)]
struct FabricObject {
    fid: Fid,
    ops: *const FabricOps,
}

/// `struct fi_ops_fabric`.
#[repr(C)]
struct FabricOps {
    size: usize,
    domain: unsafe extern "C" fn(*mut FabricObject, *mut Info, *mut *mut DomainObject, *mut c_void) -> c_int,
}

/// `struct fid_domain`.
#[repr(C)]
struct DomainObject {
    fid: Fid,
    ops: *const DomainOps,
    mr: *const MrOps,
}

/// `struct fi_ops_mr`.
#[repr(C)]
struct MrOps {
    size: usize,
    reg: unsafe extern "C" fn(
        *mut Fid,
        *const c_void,
        usize,
        u64,
        u64,
        u64,
        u64,
        *mut *mut MrObject,
        *mut c_void,
    ) -> c_int,
}

/// `struct fid_mr`.
#[repr(C)]
struct MrObject {
    fid: Fid,
    mem_desc: *mut c_void,
    key: u64,
}

/// `struct fi_ops_domain`.
#[repr(C)]
struct DomainOps {
    size: usize,
    av_open: unsafe extern "C" fn(*mut DomainObject, *mut AvAttr, *mut *mut AvObject, *mut c_void) -> c_int,
    cq_open: unsafe extern "C" fn(*mut DomainObject, *mut CqAttr, *mut *mut CqObject, *mut c_void) -> c_int,
    endpoint: unsafe extern "C" fn(*mut DomainObject, *mut Info, *mut *mut EndpointObject, *mut c_void) -> c_int,
}

/// `struct fi_av_attr`.
#[repr(C)]
struct AvAttr {
    kind: c_int,
    rx_ctx_bits: c_int,
    count: usize,
    ep_per_node: usize,
    name: *const c_char,
    map_addr: *mut c_void,
    flags: u64,
}

/// `struct fi_cq_attr`.
#[repr(C)]
struct CqAttr {
    size: usize,
    flags: u64,
    format: c_int,
    wait_obj: c_int,
    signaling_vector: c_int,
    wait_cond: c_int,
    wait_set: *mut c_void,
    /// Since 2.x; nothing.
    xpu_ctx: *mut c_void,
}

/// `struct fid_av`.
#[repr(C)]
struct AvObject {
    fid: Fid,
    ops: *const AvOps,
}

/// `struct fi_ops_av`.
#[repr(C)]
struct AvOps {
    size: usize,
    insert: unsafe extern "C" fn(*mut AvObject, *const c_void, usize, *mut u64, u64, *mut c_void) -> c_int,
}

/// `struct fid_cq`.
#[repr(C)]
struct CqObject {
    fid: Fid,
    ops: *const CqOps,
}

/// `struct fi_ops_cq`.
#[repr(C)]
struct CqOps {
    size: usize,
    read: unsafe extern "C" fn(*mut CqObject, *mut c_void, usize) -> isize,
    readfrom: Unused,
    readerr: unsafe extern "C" fn(*mut CqObject, *mut CqError, u64) -> isize,
}

/// `struct fi_cq_tagged_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct CqEntry {
    context: *mut Slot,
    flags: u64,
    len: usize,
    buf: *mut c_void,
    data: u64,
    tag: u64,
}

/// `struct fi_cq_err_entry`.
#[repr(C)]
struct CqError {
    context: *mut c_void,
    flags: u64,
    len: usize,
    buf: *mut c_void,
    data: u64,
    tag: u64,
    olen: usize,
    err: c_int,
    prov_errno: c_int,
    err_data: *mut c_void,
    err_data_size: usize,
    src_addr: u64,
}

/// `struct fid_ep`.
#[repr(C)]
struct EndpointObject {
    fid: Fid,
    ops: Unused,
    cm: *const CmOps,
    msg: Unused,
    rma: *const RmaOps,
    tagged: *const TaggedOps,
    atomic: *const AtomicOps,
}

/// `struct fi_ops_rma`.
#[repr(C)]
struct RmaOps {
    size: usize,
    read:
        unsafe extern "C" fn(*mut EndpointObject, *mut c_void, usize, *mut c_void, u64, u64, u64, *mut c_void) -> isize,
    readv: Unused,
    readmsg: Unused,
    write: unsafe extern "C" fn(
        *mut EndpointObject,
        *const c_void,
        usize,
        *mut c_void,
        u64,
        u64,
        u64,
        *mut c_void,
    ) -> isize,
}

/// `struct fi_ops_atomic`.
#[repr(C)]
struct AtomicOps {
    size: usize,
    write: Unused,
    writev: Unused,
    writemsg: Unused,
    inject: Unused,
    readwrite: unsafe extern "C" fn(
        *mut EndpointObject,
        *const c_void,
        usize,
        *mut c_void,
        *mut c_void,
        *mut c_void,
        u64,
        u64,
        u64,
        c_int,
        c_int,
        *mut c_void,
    ) -> isize,
}

/// `struct fi_ops_cm`.
#[repr(C)]
struct CmOps {
    size: usize,
    setname: Unused,
    getname: unsafe extern "C" fn(*mut Fid, *mut c_void, *mut usize) -> c_int,
}

/// `struct fi_ops_tagged`.
#[repr(C)]
struct TaggedOps {
    size: usize,
    recv:
        unsafe extern "C" fn(*mut EndpointObject, *mut c_void, usize, *mut c_void, u64, u64, u64, *mut c_void) -> isize,
    recvv: Unused,
    recvmsg: Unused,
    send: unsafe extern "C" fn(*mut EndpointObject, *const c_void, usize, *mut c_void, u64, u64, *mut c_void) -> isize,
    sendv: Unused,
    sendmsg: Unused,
    inject: unsafe extern "C" fn(*mut EndpointObject, *const c_void, usize, u64, u64) -> isize,
}

/// `struct fi_info`.
#[repr(C)]
struct Info {
    next: *mut Info,
    caps: u64,
    mode: u64,
    addr_format: u32,
    src_addrlen: usize,
    dest_addrlen: usize,
    src_addr: *mut c_void,
    dest_addr: *mut c_void,
    handle: *mut c_void,
    tx_attr: *mut c_void,
    rx_attr: *mut c_void,
    ep_attr: *mut EpAttr,
    domain_attr: *mut DomainAttr,
    fabric_attr: *mut FabricAttr,
}

/// The beginning of `struct fi_ep_attr`.
#[repr(C)]
struct EpAttr {
    kind: c_int,
}

/// The beginning of `struct fi_domain_attr`.
#[repr(C)]
struct DomainAttr {
    domain: *mut c_void,
    name: *mut c_char,
    threading: c_int,
    control_progress: c_int,
    data_progress: c_int,
    resource_mgmt: c_int,
    av_type: c_int,
    mr_mode: c_int,
}

/// The beginning of `struct fi_fabric_attr`.
#[repr(C)]
struct FabricAttr {
    fabric: *mut c_void,
    name: *mut c_char,
    prov_name: *mut c_char,
}

type GetInfo = unsafe extern "C" fn(u32, *const c_char, *const c_char, u64, *const Info, *mut *mut Info) -> c_int;
type DupInfo = unsafe extern "C" fn(*const Info) -> *mut Info;
type FreeInfo = unsafe extern "C" fn(*mut Info);
type OpenFabric = unsafe extern "C" fn(*mut FabricAttr, *mut *mut FabricObject, *mut c_void) -> c_int;
type StrError = unsafe extern "C" fn(c_int) -> *const c_char;

/// An operation: what it lends the provider, and its buffer. It stays where it is while the operation is under way.
#[repr(C)]
struct Slot {
    context: [u64; 8],
    index: usize,
    kind: Kind,
    buffer: Vec<u8>,
    /// Where the answer of an atomic operation goes.
    result: Vec<u8>,
    /// Registrations of the two, where the provider wants them.
    local: [Registered; 2],
}

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Receive,
    Send,
    Access(Access),
}

/// A registration, closed when it is dropped; or none.
struct Registered {
    mr: *mut MrObject,
    /// What it is of.
    memory: (*const u8, usize),
}

impl Registered {
    const NONE: Self = Self { mr: ptr::null_mut(), memory: (ptr::null(), 0) };

    fn desc(&self) -> *mut c_void {
        if self.mr.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: the provider gave it, and it isn't closed.
        unsafe { (*self.mr).mem_desc }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if !self.mr.is_null() {
            let fid = self.mr.cast::<Fid>();
            // SAFETY: it was registered and is closed once; the domain outlives it, and no operation has its memory any more.
            unsafe { ((*(*fid).ops).close)(fid) };
        }
    }
}

/// The loaded library.
struct Api {
    library: Library,
}

impl Api {
    fn load(file: &Path) -> Result<Self> {
        // SAFETY: the user names the library; libfabric's initialisers have no preconditions.
        let library = unsafe { Library::new(file) };
        let library = library.with_context(|| {
            format!("can't load {}; install libfabric (Debian: libfabric1) or name it with --library", file.display())
        })?;
        Ok(Self { library })
    }

    /// A function by its name, which must be of type `F`.
    fn get<F>(&self, name: &str) -> Result<Symbol<'_, F>> {
        // SAFETY: the callers name types that are those of `rdma/fabric.h`.
        unsafe { self.library.get(name.as_bytes()) }
            .with_context(|| format!("the library has no {name}: is it libfabric?"))
    }

    /// What went wrong, unless nothing did.
    fn check(&self, what: &str, code: impl Into<i64>) -> Result<()> {
        let code = code.into();
        if code >= 0 {
            return Ok(());
        }
        let text = self.get::<StrError>("fi_strerror").ok().map(|explain| {
            // SAFETY: fi_strerror takes any number and gives a string that stays.
            unsafe { CStr::from_ptr(explain(code.unsigned_abs() as c_int)) }.to_string_lossy().into_owned()
        });
        bail!("libfabric's {what} fails: {} ({code})", text.unwrap_or_default())
    }
}

/// An endpoint of a provider with all that it needs, and its peer.
pub struct Libfabric {
    api: Arc<Api>,
    provider: String,
    info: *mut Info,
    fabric: *mut FabricObject,
    domain: *mut DomainObject,
    av: *mut AvObject,
    cq: *mut CqObject,
    end: *mut EndpointObject,
    peer: u64,
    #[expect(clippy::vec_box, reason = "the provider has pointers to them while the list grows")]
    slots: Vec<Box<Slot>>,
    /// Those that nobody uses, the last used last.
    free: VecDeque<usize>,
    /// See [`Transport::rotate`].
    rotation: usize,
    /// Completions that were read and not told yet, last first.
    read: Vec<CqEntry>,
    last: Option<usize>,
    /// What it can do beside messages.
    caps: u64,
    /// How the provider wants memory registered.
    mr_mode: c_int,
    /// Memory that the peer may use, and its registration.
    exposed: Option<(Registered, Vec<u8>)>,
    /// Keys that were chosen so far, where the provider doesn't.
    keys: u64,
}

/// Two endpoints of `provider` in this process that know each other. What of `needs` the provider doesn't have they can't do.
///
/// # Errors
/// When the library or the provider isn't there, or refuses.
pub fn pair(library: &Path, provider: &str, needs: &[Access]) -> Result<(Libfabric, Libfabric)> {
    let api = Arc::new(Api::load(library)?);
    let (mut one, mut other) = (Libfabric::open(&api, provider, needs)?, Libfabric::open(&api, provider, needs)?);
    let names = (one.name()?, other.name()?);
    one.know(&names.1)?;
    other.know(&names.0)?;
    Ok((one, other))
}

/// An endpoint of `provider` whose peer is in another process: `exchange` gives it this one's name for the other's.
///
/// # Errors
/// When the library or the provider isn't there, or refuses.
pub fn one(library: &Path, provider: &str, exchange: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Result<Libfabric> {
    let mut one = Libfabric::open(&Arc::new(Api::load(library)?), provider, &[])?;
    let theirs = exchange(&one.name()?)?;
    one.know(&theirs)?;
    Ok(one)
}

impl Libfabric {
    fn open(api: &Arc<Api>, provider: &str, needs: &[Access]) -> Result<Self> {
        let null = ptr::null_mut::<c_void>();
        let mut this = Self {
            api: Arc::clone(api),
            provider: provider.to_owned(),
            info: null.cast(),
            fabric: null.cast(),
            domain: null.cast(),
            av: null.cast(),
            cq: null.cast(),
            end: null.cast(),
            peer: 0,
            slots: Vec::new(),
            free: VecDeque::new(),
            rotation: 0,
            read: Vec::new(),
            last: None,
            caps: FI_TAGGED,
            mr_mode: 0,
            exposed: None,
            keys: 0,
        };
        let rma = if needs.iter().any(|access| *access != Access::Fetch) { FI_RMA } else { 0 };
        // What a fetch has done is read, to be looked at.
        let atomic = if needs.contains(&Access::Fetch) { FI_ATOMIC | FI_RMA } else { 0 };
        let mut choices = vec![FI_TAGGED | rma | atomic, FI_TAGGED | rma | atomic & FI_RMA, FI_TAGGED];
        choices.dedup();
        for caps in choices {
            (this.info, this.caps) = (this.find(provider, caps)?.unwrap_or(ptr::null_mut()), caps);
            if !this.info.is_null() {
                break;
            }
        }
        ensure!(
            !this.info.is_null(),
            "libfabric's provider {provider} has no reliable datagrams with tagged messages here"
        );
        // SAFETY: fi_getinfo has filled the structure.
        this.mr_mode = unsafe { (*(*this.info).domain_attr).mr_mode };
        // SAFETY: fi_getinfo has filled the structure; each object is opened by the one before with pointers to live places, and
        // closed in `drop` if it was opened.
        unsafe {
            let open = api.get::<OpenFabric>("fi_fabric")?;
            api.check("fi_fabric", open((*this.info).fabric_attr, &raw mut this.fabric, null))?;
            let code = ((*(*this.fabric).ops).domain)(this.fabric, this.info, &raw mut this.domain, null);
            api.check("fi_domain", code)?;
            let ops = &*(*this.domain).ops;
            let mut attr = AvAttr {
                kind: FI_AV_MAP,
                rx_ctx_bits: 0,
                count: 2,
                ep_per_node: 0,
                name: ptr::null(),
                map_addr: null,
                flags: 0,
            };
            api.check("fi_av_open", (ops.av_open)(this.domain, &raw mut attr, &raw mut this.av, null))?;
            let mut attr = CqAttr {
                size: 0,
                flags: 0,
                format: FI_CQ_FORMAT_TAGGED,
                wait_obj: 0,
                signaling_vector: 0,
                wait_cond: 0,
                wait_set: null,
                xpu_ctx: null,
            };
            api.check("fi_cq_open", (ops.cq_open)(this.domain, &raw mut attr, &raw mut this.cq, null))?;
            api.check("fi_endpoint", (ops.endpoint)(this.domain, this.info, &raw mut this.end, null))?;
            let (end, fid) = (this.end.cast::<Fid>(), (*this.end).fid.ops);
            api.check("fi_ep_bind", ((*fid).bind)(end, this.av.cast(), 0))?;
            api.check("fi_ep_bind", ((*fid).bind)(end, this.cq.cast(), FI_SEND | FI_RECV))?;
            api.check("fi_enable", ((*fid).control)(end, FI_ENABLE, null))?;
        }
        Ok(this)
    }

    /// The provider's first offer of what is needed, if it has one.
    fn find(&self, provider: &str, caps: u64) -> Result<Option<*mut Info>> {
        let name = CString::new(provider).context("a provider's name has no zeros")?;
        let api = &self.api;
        let (get, dup, free) =
            (api.get::<GetInfo>("fi_getinfo")?, api.get::<DupInfo>("fi_dupinfo")?, api.get::<FreeInfo>("fi_freeinfo")?);
        let mut found = ptr::null_mut();
        // SAFETY: fi_dupinfo of nothing makes an empty structure with all its parts; the name is taken back out before it is
        // freed, as libfabric would free it by itself.
        let code = unsafe {
            let hints = dup(ptr::null());
            ensure!(!hints.is_null(), "libfabric has no memory");
            (*hints).caps = caps;
            if caps != FI_TAGGED {
                (*(*hints).domain_attr).mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
            }
            (*hints).mode = FI_CONTEXT | FI_CONTEXT2;
            (*(*hints).ep_attr).kind = FI_EP_RDM;
            (*(*hints).fabric_attr).prov_name = name.as_ptr().cast_mut();
            let code = get(VERSION, ptr::null(), ptr::null(), 0, hints, &raw mut found);
            (*(*hints).fabric_attr).prov_name = ptr::null_mut();
            free(hints);
            code
        };
        if code == -ENODATA && caps != FI_TAGGED {
            return Ok(None);
        }
        api.check(&format!("fi_getinfo of provider {provider}"), code)?;
        Ok(Some(found))
    }

    fn name(&self) -> Result<Vec<u8>> {
        let (mut name, mut len) = (vec![0u8; NAME], NAME);
        // SAFETY: the endpoint is open, and the buffer as long as said.
        let code = unsafe { ((*(*self.end).cm).getname)(self.end.cast(), name.as_mut_ptr().cast(), &raw mut len) };
        self.api.check("fi_getname", code)?;
        name.truncate(len);
        Ok(name)
    }

    fn know(&mut self, name: &[u8]) -> Result<()> {
        // SAFETY: the address vector is open, and the name is one whole address of the same provider.
        let code = unsafe {
            ((*(*self.av).ops).insert)(self.av, name.as_ptr().cast(), 1, &raw mut self.peer, 0, ptr::null_mut())
        };
        ensure!(code == 1, "libfabric's fi_av_insert doesn't take the other end's name ({code})");
        Ok(())
    }

    /// A place for an operation with a buffer of `len` bytes.
    fn slot(&mut self, len: usize, kind: Kind) -> &mut Slot {
        let free = match self.rotation {
            0 => self.free.pop_back(),
            bytes if self.free.len() * len < bytes => None,
            _ => self.free.pop_front(),
        };
        let index = free.unwrap_or_else(|| {
            let index = self.slots.len();
            let local = [Registered::NONE, Registered::NONE];
            let (buffer, result) = (Vec::new(), Vec::new());
            self.slots.push(Box::new(Slot { context: [0; 8], index, kind, buffer, result, local }));
            index
        });
        let slot = &mut self.slots[index];
        slot.kind = kind;
        slot.buffer.resize(len, 0);
        slot
    }

    /// Registers memory, with a key if others are to use it.
    fn register(&mut self, memory: *const u8, len: usize, access: u64) -> Result<Registered> {
        self.keys += 1;
        let mut registered = Registered { mr: ptr::null_mut(), memory: (memory, len) };
        // SAFETY: the domain is open; the memory is a buffer's, which stays where it is until the registration is closed.
        let code = unsafe {
            let ops = &*(*self.domain).mr;
            let (domain, mr) = (self.domain.cast(), &raw mut registered.mr);
            (ops.reg)(domain, memory.cast(), len, access, 0, self.keys, 0, mr, ptr::null_mut())
        };
        self.api.check("fi_mr_reg", code)?;
        Ok(registered)
    }

    /// Sees to it that the buffers of an operation are registered, where the provider wants that; gives what it calls them.
    fn describe(&mut self, index: usize) -> Result<[*mut c_void; 2]> {
        if self.mr_mode & FI_MR_LOCAL == 0 {
            return Ok([ptr::null_mut(); 2]);
        }
        for which in 0..2 {
            let slot = &self.slots[index];
            let buffer = if which == 0 { &slot.buffer } else { &slot.result };
            let memory = (buffer.as_ptr(), buffer.len());
            if memory.1 > 0 && slot.local[which].memory != memory {
                // The one before first: its memory may be gone.
                self.slots[index].local[which] = Registered::NONE;
                self.slots[index].local[which] = self.register(memory.0, memory.1, FI_READ | FI_WRITE)?;
            }
        }
        Ok([0, 1].map(|which| self.slots[index].local[which].desc()))
    }

    /// Reads completions; the first is told next.
    fn read(&mut self) -> Result<()> {
        let none = CqEntry { context: ptr::null_mut(), flags: 0, len: 0, buf: ptr::null_mut(), data: 0, tag: 0 };
        let mut entries = [none; BATCH];
        // SAFETY: the queue is open and has entries of this form; there is room for as many as said.
        let code = unsafe { ((*(*self.cq).ops).read)(self.cq, entries.as_mut_ptr().cast(), BATCH) };
        if code == -EAGAIN {
            return Ok(());
        }
        if code == -FI_EAVAIL {
            return self.explain();
        }
        self.api.check("fi_cq_read", code as i64)?;
        self.read.extend(entries[..(code as usize).min(BATCH)].iter().rev());
        Ok(())
    }

    #[cold]
    fn explain(&self) -> Result<()> {
        // SAFETY: all of it may be zero.
        let mut error: CqError = unsafe { std::mem::zeroed() };
        // SAFETY: the queue is open, and the structure has the form of 1.9, which the call was compiled for.
        let code = unsafe { ((*(*self.cq).ops).readerr)(self.cq, &raw mut error, 0) };
        self.api.check("fi_cq_readerr", code as i64)?;
        self.api.check("operation", -i64::from(error.err))
    }
}

impl Transport for Libfabric {
    fn label(&self) -> String {
        format!("libfabric {}", self.provider)
    }

    fn post(&mut self, tag: u64, len: usize) -> Result<()> {
        let slot: *mut Slot = self.slot(len, Kind::Receive);
        let begin = Instant::now();
        loop {
            // SAFETY: the endpoint is open; slot and buffer stay where they are until the completion, as nobody touches a slot
            // that isn't free.
            let code = unsafe {
                let ops = &*(*self.end).tagged;
                (ops.recv)(
                    self.end,
                    (*slot).buffer.as_mut_ptr().cast(),
                    len,
                    ptr::null_mut(),
                    self.peer,
                    tag,
                    0,
                    slot.cast(),
                )
            };
            if code != -EAGAIN {
                return self.api.check("fi_trecv", code as i64);
            }
            ensure!(begin.elapsed() < STALL, "there was no room for a receive for {STALL:?}");
            self.read()?;
        }
    }

    fn send(&mut self, tag: u64, message: Message<'_>) -> Result<Sent> {
        let len = message.len();
        if len <= INJECT {
            let zeros = [0; INJECT];
            let bytes = match message {
                Message::Any(len) => &zeros[..len],
                Message::These(bytes) => bytes,
            };
            // SAFETY: the endpoint is open; the bytes are copied before this returns.
            let code = unsafe { ((*(*self.end).tagged).inject)(self.end, bytes.as_ptr().cast(), len, self.peer, tag) };
            if code == -EAGAIN {
                return Ok(Sent::Again);
            }
            self.api.check("fi_tinject", code as i64)?;
            return Ok(Sent::Now);
        }
        let slot = self.slot(len, Kind::Send);
        if let Message::These(bytes) = message {
            slot.buffer.copy_from_slice(bytes);
        }
        let slot: *mut Slot = slot;
        // SAFETY: as for receives.
        let code = unsafe {
            let ops = &*(*self.end).tagged;
            (ops.send)(self.end, (*slot).buffer.as_ptr().cast(), len, ptr::null_mut(), self.peer, tag, slot.cast())
        };
        if code == -EAGAIN {
            // SAFETY: it wasn't taken, so that the slot is this end's alone.
            self.free.push_back(unsafe { (*slot).index });
            return Ok(Sent::Again);
        }
        self.api.check("fi_tsend", code as i64)?;
        Ok(Sent::Later)
    }

    fn can(&self, access: Access) -> bool {
        let cap = if access == Access::Fetch { FI_ATOMIC } else { FI_RMA };
        self.caps & cap != 0
    }

    fn expose(&mut self, content: &[u8]) -> Result<Window> {
        // The registration first.
        self.exposed = None;
        let memory = content.to_vec();
        let access = FI_REMOTE_READ | FI_REMOTE_WRITE;
        let registered = self.register(memory.as_ptr(), memory.len(), access)?;
        // SAFETY: it was registered just now.
        let key = unsafe { (*registered.mr).key };
        let place = if self.mr_mode & FI_MR_VIRT_ADDR == 0 { 0 } else { memory.as_ptr() as u64 };
        self.exposed = Some((registered, memory));
        Ok(Window { key, place })
    }

    fn access(&mut self, access: Access, window: Window, message: Message<'_>) -> Result<Sent> {
        let len = message.len();
        let slot = self.slot(len, Kind::Access(access));
        if let Message::These(bytes) = message {
            slot.buffer.copy_from_slice(bytes);
        }
        slot.result.resize(if access == Access::Fetch { len } else { 0 }, 0);
        let index = slot.index;
        let [desc, result_desc] = self.describe(index)?;
        let (end, peer, Window { key, place }) = (self.end, self.peer, window);
        let slot: *mut Slot = &raw mut *self.slots[index];
        // SAFETY: the endpoint is open and has these tables, as the provider offers what they are for; the slot and its buffers
        // stay where they are until the operation ends.
        let code = unsafe {
            let buffer = (*slot).buffer.as_mut_ptr().cast::<c_void>();
            match access {
                Access::Write => ((*(*end).rma).write)(end, buffer, len, desc, peer, place, key, slot.cast()),
                Access::Read => ((*(*end).rma).read)(end, buffer, len, desc, peer, place, key, slot.cast()),
                Access::Fetch => {
                    let (result, count) = ((*slot).result.as_mut_ptr().cast(), len / 8);
                    let fetch = (*(*end).atomic).readwrite;
                    fetch(
                        end,
                        buffer,
                        count,
                        desc,
                        result,
                        result_desc,
                        peer,
                        place,
                        key,
                        FI_UINT64,
                        FI_SUM,
                        slot.cast(),
                    )
                }
            }
        };
        if code == -EAGAIN {
            self.free.push_back(index);
            return Ok(Sent::Again);
        }
        let call = match access {
            Access::Write => "fi_write",
            Access::Read => "fi_read",
            Access::Fetch => "fi_fetch_atomic",
        };
        self.api.check(call, code as i64)?;
        Ok(Sent::Later)
    }

    fn poll(&mut self) -> Result<Option<Event<'_>>> {
        self.free.extend(self.last.take());
        if self.read.is_empty() {
            self.read()?;
        }
        let Some(entry) = self.read.pop() else { return Ok(None) };
        ensure!(!entry.context.is_null(), "a completion of no operation came");
        // SAFETY: contexts are those of slots, which live as long as the endpoint.
        let index = unsafe { (*entry.context).index };
        let slot = &self.slots[index];
        match slot.kind {
            Kind::Send => {
                self.free.push_back(index);
                return Ok(Some(Event::Sent));
            }
            Kind::Access(access) => {
                self.last = Some(index);
                let bytes = match access {
                    Access::Write => &[][..],
                    Access::Read => &slot.buffer,
                    Access::Fetch => &slot.result,
                };
                return Ok(Some(Event::Done { bytes }));
            }
            Kind::Receive => {}
        }
        // Its content is looked at before it is used again.
        self.last = Some(index);
        let content = Content::Bytes(slot.buffer.get(..entry.len).unwrap_or_default());
        Ok(Some(Event::Received { tag: entry.tag, content }))
    }

    fn rotate(&mut self, bytes: usize) {
        self.rotation = bytes;
    }
}

impl Drop for Libfabric {
    fn drop(&mut self) {
        // The endpoint first, so that no operation has their memory; then they, before their domain.
        if !self.end.is_null() {
            let fid = self.end.cast::<Fid>();
            // SAFETY: it was opened and is closed once; buffers are freed after it.
            unsafe { ((*(*fid).ops).close)(fid) };
        }
        self.exposed = None;
        self.slots.iter_mut().for_each(|slot| slot.local = [Registered::NONE, Registered::NONE]);
        let objects = [self.cq.cast::<Fid>(), self.av.cast(), self.domain.cast(), self.fabric.cast()];
        for object in objects {
            if !object.is_null() {
                // SAFETY: it was opened and is closed once, after what was made of it; buffers are freed after their endpoint.
                unsafe { ((*(*object).ops).close)(object) };
            }
        }
        if !self.info.is_null()
            && let Ok(free) = self.api.get::<FreeInfo>("fi_freeinfo")
        {
            // SAFETY: fi_getinfo gave it, and nothing uses it any more.
            unsafe { free(self.info) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_isnt_there_is_told_with_what_to_do() {
        let error = pair(Path::new("/nonexistent/libfabric.so.1"), "shm", &[]).err().unwrap();
        assert!(error.to_string().contains("--library"), "{error}");
        // A library, but not this one.
        let error = pair(Path::new("libc.so.6"), "shm", &[]).err().unwrap();
        assert!(error.to_string().contains("is it libfabric?"), "{error}");
    }
}
