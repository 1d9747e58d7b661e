//! An endpoint of a provider with the objects that it needs: opened in their order, driven, and closed.

use super::abi::{
    AvAttr, AvObject, CqAttr, CqEntry, CqError, CqObject, DomainObject, DupInfo, EAGAIN, ENODATA, EndpointObject,
    FI_ATOMIC, FI_AV_MAP, FI_CONTEXT, FI_CONTEXT2, FI_CQ_FORMAT_TAGGED, FI_EAVAIL, FI_ENABLE, FI_EP_RDM,
    FI_MR_ALLOCATED, FI_MR_LOCAL, FI_MR_PROV_KEY, FI_MR_VIRT_ADDR, FI_READ, FI_RECV, FI_RMA, FI_SEND, FI_TAGGED,
    FI_WRITE, FabricObject, Fid, FreeInfo, GetInfo, Info, OpenFabric, VERSION,
};
use super::library::Api;
use super::slot::{Registered, Slots};
use crate::transport::Access;
use anyhow::{Context, Result, ensure};
use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::Arc;

/// Completions that are read at once.
const BATCH: usize = 16;
/// Longest name of an endpoint.
const NAME: usize = 512;

/// An endpoint of a provider with all that it needs, and its peer.
pub struct Libfabric {
    pub(super) api: Arc<Api>,
    pub(super) provider: String,
    pub(super) info: *mut Info,
    pub(super) fabric: *mut FabricObject,
    pub(super) domain: *mut DomainObject,
    pub(super) av: *mut AvObject,
    pub(super) cq: *mut CqObject,
    pub(super) end: *mut EndpointObject,
    pub(super) peer: u64,
    pub(super) slots: Slots,
    /// Completions that were read and not told yet, last first.
    pub(super) read: Vec<CqEntry>,
    pub(super) last: Option<usize>,
    /// What it can do beside messages.
    pub(super) caps: u64,
    /// How the provider wants memory registered.
    pub(super) mr_mode: c_int,
    /// Memory that the peer may use, and its registration.
    pub(super) exposed: Option<(Registered, Vec<u8>)>,
    /// Keys that were chosen so far, where the provider doesn't.
    pub(super) keys: u64,
}

impl Libfabric {
    pub(super) fn open(api: &Arc<Api>, provider: &str, needs: &[Access]) -> Result<Self> {
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
            slots: Slots::new(),
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
    pub(super) fn find(&self, provider: &str, caps: u64) -> Result<Option<*mut Info>> {
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

    pub(super) fn name(&self) -> Result<Vec<u8>> {
        let (mut name, mut len) = (vec![0u8; NAME], NAME);
        // SAFETY: the endpoint is open, and the buffer as long as said.
        let code = unsafe { ((*(*self.end).cm).getname)(self.end.cast(), name.as_mut_ptr().cast(), &raw mut len) };
        self.api.check("fi_getname", code)?;
        name.truncate(len);
        Ok(name)
    }

    pub(super) fn know(&mut self, name: &[u8]) -> Result<()> {
        // SAFETY: the address vector is open, and the name is one whole address of the same provider.
        let code = unsafe {
            ((*(*self.av).ops).insert)(self.av, name.as_ptr().cast(), 1, &raw mut self.peer, 0, ptr::null_mut())
        };
        ensure!(code == 1, "libfabric's fi_av_insert doesn't take the other end's name ({code})");
        Ok(())
    }

    /// Registers memory, with a key if others are to use it.
    pub(super) fn register(&mut self, memory: *const u8, len: usize, access: u64) -> Result<Registered> {
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
    pub(super) fn describe(&mut self, index: usize) -> Result<[*mut c_void; 2]> {
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
    pub(super) fn read(&mut self) -> Result<()> {
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
    pub(super) fn explain(&self) -> Result<()> {
        // SAFETY: all of it may be zero.
        let mut error: CqError = unsafe { std::mem::zeroed() };
        // SAFETY: the queue is open, and the structure has the form of 1.9, which the call was compiled for.
        let code = unsafe { ((*(*self.cq).ops).readerr)(self.cq, &raw mut error, 0) };
        self.api.check("fi_cq_readerr", code as i64)?;
        self.api.check("operation", -i64::from(error.err))
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
        self.slots.unregister();
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
