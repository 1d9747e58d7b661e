//! libfabric's objects as C has them: the layouts of `rdma/fabric.h`, `fi_domain.h`, `fi_endpoint.h`, `fi_tagged.h`, `fi_rma.h`,
//! `fi_atomic.h`, `fi_cm.h` and `fi_eq.h` of the 1.x interface, which 2.x keeps: tables and structures only grow at their end, and
//! nothing beyond what 1.9 had is touched.

use super::slot::Slot;
use std::ffi::{c_char, c_int, c_void};

/// The interface that is asked for: 1.9.
pub(super) const VERSION: u32 = 1 << 16 | 9;
pub(super) const FI_RMA: u64 = 1 << 2;
pub(super) const FI_TAGGED: u64 = 1 << 3;
pub(super) const FI_ATOMIC: u64 = 1 << 4;
pub(super) const FI_READ: u64 = 1 << 8;
pub(super) const FI_WRITE: u64 = 1 << 9;
pub(super) const FI_RECV: u64 = 1 << 10;
pub(super) const FI_SEND: u64 = 1 << 11;
pub(super) const FI_REMOTE_READ: u64 = 1 << 12;
pub(super) const FI_REMOTE_WRITE: u64 = 1 << 13;
/// Local memory must be registered, too.
pub(super) const FI_MR_LOCAL: c_int = 1 << 2;
/// Places are addresses.
pub(super) const FI_MR_VIRT_ADDR: c_int = 1 << 4;
pub(super) const FI_MR_ALLOCATED: c_int = 1 << 5;
pub(super) const FI_MR_PROV_KEY: c_int = 1 << 6;
pub(super) const FI_UINT64: c_int = 7;
pub(super) const FI_SUM: c_int = 2;
/// What the provider answers that has nothing of the kind.
pub(super) const ENODATA: c_int = 61;
/// `FI_CONTEXT` and `FI_CONTEXT2`: an operation lends the provider eight words.
pub(super) const FI_CONTEXT: u64 = 1 << 59;
pub(super) const FI_CONTEXT2: u64 = 1 << 52;
pub(super) const FI_EP_RDM: c_int = 3;
pub(super) const FI_AV_MAP: c_int = 1;
pub(super) const FI_CQ_FORMAT_TAGGED: c_int = 4;
pub(super) const FI_ENABLE: c_int = 6;
pub(super) const EAGAIN: isize = 11;
pub(super) const FI_EAVAIL: isize = 259;

pub(super) type Close = unsafe extern "C" fn(*mut Fid) -> c_int;
pub(super) type Bind = unsafe extern "C" fn(*mut Fid, *mut Fid, u64) -> c_int;
pub(super) type ControlFn = unsafe extern "C" fn(*mut Fid, c_int, *mut c_void) -> c_int;
/// An entry that isn't used.
pub(super) type Unused = *const c_void;

/// `struct fid`.
#[repr(C)]
pub(super) struct Fid {
    pub(super) class: usize,
    pub(super) context: *mut c_void,
    pub(super) ops: *const FidOps,
}

/// `struct fi_ops`.
#[repr(C)]
pub(super) struct FidOps {
    pub(super) size: usize,
    pub(super) close: Close,
    pub(super) bind: Bind,
    pub(super) control: ControlFn,
}

/// `struct fid_fabric`.
#[repr(C)]
pub(super) struct FabricObject {
    pub(super) fid: Fid,
    pub(super) ops: *const FabricOps,
}

/// `struct fi_ops_fabric`.
#[repr(C)]
pub(super) struct FabricOps {
    pub(super) size: usize,
    pub(super) domain: unsafe extern "C" fn(*mut FabricObject, *mut Info, *mut *mut DomainObject, *mut c_void) -> c_int,
}

/// `struct fid_domain`.
#[repr(C)]
pub(super) struct DomainObject {
    pub(super) fid: Fid,
    pub(super) ops: *const DomainOps,
    pub(super) mr: *const MrOps,
}

/// `struct fi_ops_mr`.
#[repr(C)]
pub(super) struct MrOps {
    pub(super) size: usize,
    pub(super) reg: unsafe extern "C" fn(
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
pub(super) struct MrObject {
    pub(super) fid: Fid,
    pub(super) mem_desc: *mut c_void,
    pub(super) key: u64,
}

/// `struct fi_ops_domain`.
#[repr(C)]
pub(super) struct DomainOps {
    pub(super) size: usize,
    pub(super) av_open: unsafe extern "C" fn(*mut DomainObject, *mut AvAttr, *mut *mut AvObject, *mut c_void) -> c_int,
    pub(super) cq_open: unsafe extern "C" fn(*mut DomainObject, *mut CqAttr, *mut *mut CqObject, *mut c_void) -> c_int,
    pub(super) endpoint:
        unsafe extern "C" fn(*mut DomainObject, *mut Info, *mut *mut EndpointObject, *mut c_void) -> c_int,
}

/// `struct fi_av_attr`.
#[repr(C)]
pub(super) struct AvAttr {
    pub(super) kind: c_int,
    pub(super) rx_ctx_bits: c_int,
    pub(super) count: usize,
    pub(super) ep_per_node: usize,
    pub(super) name: *const c_char,
    pub(super) map_addr: *mut c_void,
    pub(super) flags: u64,
}

/// `struct fi_cq_attr`.
#[repr(C)]
pub(super) struct CqAttr {
    pub(super) size: usize,
    pub(super) flags: u64,
    pub(super) format: c_int,
    pub(super) wait_obj: c_int,
    pub(super) signaling_vector: c_int,
    pub(super) wait_cond: c_int,
    pub(super) wait_set: *mut c_void,
    /// Since 2.x; nothing.
    pub(super) xpu_ctx: *mut c_void,
}

/// `struct fid_av`.
#[repr(C)]
pub(super) struct AvObject {
    pub(super) fid: Fid,
    pub(super) ops: *const AvOps,
}

/// `struct fi_ops_av`.
#[repr(C)]
pub(super) struct AvOps {
    pub(super) size: usize,
    pub(super) insert: unsafe extern "C" fn(*mut AvObject, *const c_void, usize, *mut u64, u64, *mut c_void) -> c_int,
}

/// `struct fid_cq`.
#[repr(C)]
pub(super) struct CqObject {
    pub(super) fid: Fid,
    pub(super) ops: *const CqOps,
}

/// `struct fi_ops_cq`.
#[repr(C)]
pub(super) struct CqOps {
    pub(super) size: usize,
    pub(super) read: unsafe extern "C" fn(*mut CqObject, *mut c_void, usize) -> isize,
    pub(super) readfrom: Unused,
    pub(super) readerr: unsafe extern "C" fn(*mut CqObject, *mut CqError, u64) -> isize,
}

/// `struct fi_cq_tagged_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CqEntry {
    pub(super) context: *mut Slot,
    pub(super) flags: u64,
    pub(super) len: usize,
    pub(super) buf: *mut c_void,
    pub(super) data: u64,
    pub(super) tag: u64,
}

/// `struct fi_cq_err_entry`.
#[repr(C)]
pub(super) struct CqError {
    pub(super) context: *mut c_void,
    pub(super) flags: u64,
    pub(super) len: usize,
    pub(super) buf: *mut c_void,
    pub(super) data: u64,
    pub(super) tag: u64,
    pub(super) olen: usize,
    pub(super) err: c_int,
    pub(super) prov_errno: c_int,
    pub(super) err_data: *mut c_void,
    pub(super) err_data_size: usize,
    pub(super) src_addr: u64,
}

/// `struct fid_ep`.
#[repr(C)]
pub(super) struct EndpointObject {
    pub(super) fid: Fid,
    pub(super) ops: Unused,
    pub(super) cm: *const CmOps,
    pub(super) msg: Unused,
    pub(super) rma: *const RmaOps,
    pub(super) tagged: *const TaggedOps,
    pub(super) atomic: *const AtomicOps,
}

/// `struct fi_ops_rma`.
#[repr(C)]
pub(super) struct RmaOps {
    pub(super) size: usize,
    pub(super) read:
        unsafe extern "C" fn(*mut EndpointObject, *mut c_void, usize, *mut c_void, u64, u64, u64, *mut c_void) -> isize,
    pub(super) readv: Unused,
    pub(super) readmsg: Unused,
    pub(super) write: unsafe extern "C" fn(
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
pub(super) struct AtomicOps {
    pub(super) size: usize,
    pub(super) write: Unused,
    pub(super) writev: Unused,
    pub(super) writemsg: Unused,
    pub(super) inject: Unused,
    pub(super) readwrite: unsafe extern "C" fn(
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
pub(super) struct CmOps {
    pub(super) size: usize,
    pub(super) setname: Unused,
    pub(super) getname: unsafe extern "C" fn(*mut Fid, *mut c_void, *mut usize) -> c_int,
}

/// `struct fi_ops_tagged`.
#[repr(C)]
pub(super) struct TaggedOps {
    pub(super) size: usize,
    pub(super) recv:
        unsafe extern "C" fn(*mut EndpointObject, *mut c_void, usize, *mut c_void, u64, u64, u64, *mut c_void) -> isize,
    pub(super) recvv: Unused,
    pub(super) recvmsg: Unused,
    pub(super) send:
        unsafe extern "C" fn(*mut EndpointObject, *const c_void, usize, *mut c_void, u64, u64, *mut c_void) -> isize,
    pub(super) sendv: Unused,
    pub(super) sendmsg: Unused,
    pub(super) inject: unsafe extern "C" fn(*mut EndpointObject, *const c_void, usize, u64, u64) -> isize,
}

/// `struct fi_info`.
#[repr(C)]
pub(super) struct Info {
    pub(super) next: *mut Info,
    pub(super) caps: u64,
    pub(super) mode: u64,
    pub(super) addr_format: u32,
    pub(super) src_addrlen: usize,
    pub(super) dest_addrlen: usize,
    pub(super) src_addr: *mut c_void,
    pub(super) dest_addr: *mut c_void,
    pub(super) handle: *mut c_void,
    pub(super) tx_attr: *mut c_void,
    pub(super) rx_attr: *mut c_void,
    pub(super) ep_attr: *mut EpAttr,
    pub(super) domain_attr: *mut DomainAttr,
    pub(super) fabric_attr: *mut FabricAttr,
}

/// The beginning of `struct fi_ep_attr`.
#[repr(C)]
pub(super) struct EpAttr {
    pub(super) kind: c_int,
}

/// The beginning of `struct fi_domain_attr`.
#[repr(C)]
pub(super) struct DomainAttr {
    pub(super) domain: *mut c_void,
    pub(super) name: *mut c_char,
    pub(super) threading: c_int,
    pub(super) control_progress: c_int,
    pub(super) data_progress: c_int,
    pub(super) resource_mgmt: c_int,
    pub(super) av_type: c_int,
    pub(super) mr_mode: c_int,
}

/// The beginning of `struct fi_fabric_attr`.
#[repr(C)]
pub(super) struct FabricAttr {
    pub(super) fabric: *mut c_void,
    pub(super) name: *mut c_char,
    pub(super) prov_name: *mut c_char,
}

pub(super) type GetInfo =
    unsafe extern "C" fn(u32, *const c_char, *const c_char, u64, *const Info, *mut *mut Info) -> c_int;
pub(super) type DupInfo = unsafe extern "C" fn(*const Info) -> *mut Info;
pub(super) type FreeInfo = unsafe extern "C" fn(*mut Info);
pub(super) type OpenFabric = unsafe extern "C" fn(*mut FabricAttr, *mut *mut FabricObject, *mut c_void) -> c_int;
pub(super) type StrError = unsafe extern "C" fn(c_int) -> *const c_char;
