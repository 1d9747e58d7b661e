//! The one system call, and the structures that it fills.
//!
//! Source: `include/uapi/linux/io_uring/query.h` of Linux 7.2.
#![allow(unsafe_code)]

use std::io;

/// `IORING_REGISTER_QUERY`.
const REGISTER_QUERY: libc::c_uint = 35;
/// `IO_URING_QUERY_ZCRX`.
const QUERY_ZCRX: u32 = 1;

#[repr(C)]
#[derive(Default)]
struct QueryHeader {
    next_entry: u64,
    query_data: u64,
    query_op: u32,
    size: u32,
    result: i32,
    reserved: [u32; 3],
}

/// The kernel's answer about zero-copy receive.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ZcrxAnswer {
    /// Which `ZCRX_REG_*` flags may be given.
    pub(crate) register_flags: u64,
    /// Which `IORING_ZCRX_AREA_*` flags may be given.
    pub(crate) area_flags: u64,
    /// Number of `ZCRX_CTRL_*` operations.
    pub(crate) nr_ctrl_opcodes: u32,
    /// Features beyond flags and operations.
    pub(crate) features: u32,
    /// Bytes of the refill ring's header.
    pub(crate) rq_hdr_size: u32,
    /// Its alignment.
    pub(crate) rq_hdr_alignment: u32,
    /// Not used.
    pub(crate) reserved: u64,
}

const _: () = assert!(size_of::<QueryHeader>() == 40);
const _: () = assert!(size_of::<ZcrxAnswer>() == 40);

/// Asks the kernel about zero-copy receive. No ring is needed for it.
///
/// # Errors
/// `EINVAL` from a kernel that knows no queries, `EOPNOTSUPP` from one that has no zero-copy receive to speak of.
pub(crate) fn query_zcrx() -> io::Result<ZcrxAnswer> {
    let mut answer = ZcrxAnswer::default();
    let mut header = QueryHeader {
        query_data: &raw mut answer as u64,
        query_op: QUERY_ZCRX,
        size: size_of::<ZcrxAnswer>() as u32,
        ..QueryHeader::default()
    };
    // SAFETY: the header and the answer that it points to live beyond the call and have the sizes that they say; the
    // kernel writes at most that much. File descriptor -1 is what a query without a ring takes.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, -1, REGISTER_QUERY, &raw mut header, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if header.result < 0 {
        return Err(io::Error::from_raw_os_error(-header.result));
    }
    Ok(answer)
}
