//! The system calls for zero-copy receive that crate `io-uring` doesn't have, and the structures that they fill.
//!
//! Source: `include/uapi/linux/io_uring/{zcrx,query}.h` and `include/uapi/linux/io_uring.h` of Linux 7.2.
#![allow(unsafe_code)]

use crate::memory::Memory;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `IORING_REGISTER_ZCRX_IFQ`.
const REGISTER_ZCRX_IFQ: libc::c_uint = 32;
/// `IORING_REGISTER_QUERY`.
const REGISTER_QUERY: libc::c_uint = 35;
/// `IORING_REGISTER_ZCRX_CTRL`.
const REGISTER_ZCRX_CTRL: libc::c_uint = 36;
/// `IO_URING_QUERY_ZCRX`.
const QUERY_ZCRX: u32 = 1;
/// `IO_URING_QUERY_ZCRX_EVENT`.
const QUERY_ZCRX_EVENT: u32 = 3;
/// `IORING_MEM_REGION_TYPE_USER`.
const REGION_TYPE_USER: u32 = 1;
/// `ZCRX_REG_IMPORT`.
pub(crate) const REG_IMPORT: u32 = 1;
/// `ZCRX_REG_NODEV`.
pub(crate) const REG_NODEV: u32 = 2;
/// `ZCRX_CTRL_FLUSH_RQ`.
pub(crate) const CTRL_FLUSH_RQ: u32 = 0;
/// `ZCRX_CTRL_EXPORT`.
pub(crate) const CTRL_EXPORT: u32 = 1;
/// `ZCRX_CTRL_ARM_EVENT`.
pub(crate) const CTRL_ARM_EVENT: u32 = 2;
/// `ZCRX_FEATURE_RX_PAGE_SIZE`.
pub(crate) const FEATURE_RX_PAGE_SIZE: u32 = 1;
/// `ZCRX_FEATURE_EVENT`.
pub(crate) const FEATURE_EVENT: u32 = 2;
/// `ZCRX_EVENT_DESC_FLAG_STATS`.
const EVENT_DESC_STATS: u32 = 1;
/// `IO_RQ_MAX_ENTRIES` of io_uring/zcrx.c.
pub(crate) const MOST_REFILL_ENTRIES: u32 = 32768;

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

/// The kernel's answer about zero-copy receive (`struct io_uring_query_zcrx`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxAnswer {
    /// Which `ZCRX_REG_*` flags may be given.
    pub register_flags: u64,
    /// Which `IORING_ZCRX_AREA_*` flags may be given.
    pub area_flags: u64,
    /// Number of `ZCRX_CTRL_*` operations.
    pub nr_ctrl_opcodes: u32,
    /// Features beyond flags and operations.
    pub features: u32,
    /// Bytes of the refill ring's header.
    pub rq_hdr_size: u32,
    /// Its alignment.
    pub rq_hdr_alignment: u32,
    /// Not used.
    pub reserved: u64,
}

/// The kernel's answer about events and statistics (`struct io_uring_query_zcrx_event`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventAnswer {
    /// Bit mask of event types.
    pub event_flags: u32,
    /// Bytes of the statistics.
    pub stats_size: u32,
    /// Their alignment in the region.
    pub stats_off_alignment: u32,
    /// Not used.
    pub reserved1: u32,
    /// Not used.
    pub reserved2: [u64; 4],
}

/// `struct io_uring_zcrx_offsets`.
#[repr(C)]
#[derive(Default)]
struct Offsets {
    head: u32,
    tail: u32,
    rqes: u32,
    reserved2: u32,
    reserved: [u64; 2],
}

/// `struct io_uring_zcrx_ifq_reg`.
#[repr(C)]
#[derive(Default)]
struct IfqReg {
    if_idx: u32,
    if_rxq: u32,
    rq_entries: u32,
    flags: u32,
    area_ptr: u64,
    region_ptr: u64,
    offsets: Offsets,
    zcrx_id: u32,
    rx_buf_len: u32,
    event_desc: u64,
    reserved: [u64; 2],
}

/// `struct io_uring_zcrx_area_reg`.
#[repr(C)]
#[derive(Default)]
struct AreaReg {
    addr: u64,
    len: u64,
    rq_area_token: u64,
    flags: u32,
    dmabuf_fd: u32,
    reserved: [u64; 2],
}

/// `struct io_uring_region_desc`.
#[repr(C)]
#[derive(Default)]
struct RegionDesc {
    user_addr: u64,
    size: u64,
    flags: u32,
    id: u32,
    mmap_offset: u64,
    reserved: [u64; 4],
}

/// `struct zcrx_event_desc`.
#[repr(C)]
#[derive(Default)]
struct EventDesc {
    user_data: u64,
    type_mask: u32,
    flags: u32,
    stats_offset: u64,
    reserved: [u64; 9],
}

/// `struct zcrx_ctrl`. The union's members are a word, of which export and arming use the lower half, and padding.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Ctrl {
    pub(crate) zcrx_id: u32,
    pub(crate) op: u32,
    pub(crate) reserved: [u64; 2],
    /// The exported file descriptor, or the event's type.
    pub(crate) value: u32,
    pub(crate) rest: [u32; 11],
}

macro_rules! layout {
    ($type:ty, $size:literal $(, $field:ident @ $offset:literal)*) => {
        const _: () = assert!(size_of::<$type>() == $size);
        $(const _: () = assert!(std::mem::offset_of!($type, $field) == $offset);)*
    };
}
layout!(QueryHeader, 40, query_data @ 8, query_op @ 16, size @ 20, result @ 24);
layout!(ZcrxAnswer, 40, area_flags @ 8, nr_ctrl_opcodes @ 16, features @ 20, rq_hdr_size @ 24, rq_hdr_alignment @ 28);
layout!(EventAnswer, 48, stats_size @ 4, stats_off_alignment @ 8);
layout!(Offsets, 32, tail @ 4, rqes @ 8);
layout!(IfqReg, 96, if_rxq @ 4, rq_entries @ 8, flags @ 12, area_ptr @ 16, region_ptr @ 24, offsets @ 32, zcrx_id @ 64,
    rx_buf_len @ 68, event_desc @ 72);
layout!(AreaReg, 48, len @ 8, rq_area_token @ 16, flags @ 24, dmabuf_fd @ 28);
layout!(RegionDesc, 64, size @ 8, flags @ 16, id @ 20, mmap_offset @ 24);
layout!(EventDesc, 96, type_mask @ 8, flags @ 12, stats_offset @ 16);
layout!(Ctrl, 72, op @ 4, reserved @ 8, value @ 24, rest @ 28);

/// One system call, with the one structure that it reads and fills.
///
/// # Safety
/// `argument` is the structure that `operation` takes, and what its addresses point to may be read and written as the
/// operation does.
unsafe fn register<T>(ring: RawFd, operation: libc::c_uint, argument: &mut T, count: u32) -> io::Result<libc::c_long> {
    // SAFETY: the structure lives beyond the call; the rest is up to the caller.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, operation, argument as *mut T, count) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A structure that a query fills.
///
/// # Safety
/// Any bytes are a valid value of it.
unsafe trait Answer: Default {
    const QUERY: u32;
}

// SAFETY: integers only.
unsafe impl Answer for ZcrxAnswer {
    const QUERY: u32 = QUERY_ZCRX;
}

// SAFETY: integers only.
unsafe impl Answer for EventAnswer {
    const QUERY: u32 = QUERY_ZCRX_EVENT;
}

fn query<T: Answer>() -> io::Result<T> {
    let mut answer = T::default();
    let mut header = QueryHeader {
        query_data: &raw mut answer as u64,
        query_op: T::QUERY,
        size: size_of::<T>() as u32,
        ..QueryHeader::default()
    };
    // SAFETY: the header and the answer that it points to live beyond the call and have the sizes that they say; the
    // kernel writes at most that much. File descriptor -1 is what a query without a ring takes.
    unsafe { register(-1, REGISTER_QUERY, &mut header, 0)? };
    if header.result < 0 { Err(io::Error::from_raw_os_error(-header.result)) } else { Ok(answer) }
}

/// Asks the kernel about zero-copy receive. No ring is needed for it.
///
/// # Errors
/// `EINVAL` from a kernel that knows no queries, `EOPNOTSUPP` from one that has no zero-copy receive to speak of.
pub(crate) fn query_zcrx() -> io::Result<ZcrxAnswer> {
    query()
}

/// Asks the kernel about events and statistics.
///
/// # Errors
/// As [`query_zcrx`].
pub(crate) fn query_events() -> io::Result<EventAnswer> {
    query()
}

/// What a pool is registered with.
pub(crate) struct Wanted<'a> {
    pub(crate) memory: &'a Memory,
    /// Interface and queue; without one there is no device.
    pub(crate) queue: Option<(u32, u32)>,
    pub(crate) refill_entries: u32,
    /// Bytes of a buffer, 0 for a page.
    pub(crate) buffer_len: u32,
    /// User data of event completions, and which types of them.
    pub(crate) events: Option<(u64, u32)>,
    /// Offset of the statistics in the region.
    pub(crate) stats: Option<u64>,
}

/// What the kernel made of it.
pub(crate) struct Given {
    pub(crate) id: u32,
    pub(crate) refill_entries: u32,
    pub(crate) head: u32,
    pub(crate) tail: u32,
    pub(crate) rqes: u32,
    pub(crate) area_token: u64,
}

/// Registers a pool with a ring.
///
/// # Errors
/// The kernel's.
pub(crate) fn register_pool(ring: BorrowedFd<'_>, wanted: &Wanted<'_>) -> io::Result<Given> {
    let mut area = AreaReg { addr: wanted.memory.area_address(), len: wanted.memory.area_len(), ..AreaReg::default() };
    let mut region = RegionDesc {
        user_addr: wanted.memory.region_address(),
        size: wanted.memory.region_len(),
        flags: REGION_TYPE_USER,
        ..RegionDesc::default()
    };
    let mut events = EventDesc::default();
    if let Some((user_data, types)) = wanted.events {
        (events.user_data, events.type_mask) = (user_data, types);
    }
    if let Some(offset) = wanted.stats {
        (events.flags, events.stats_offset) = (EVENT_DESC_STATS, offset);
    }
    let described = wanted.events.is_some() || wanted.stats.is_some();
    let (interface, queue) = wanted.queue.unwrap_or((0, 0));
    let mut reg = IfqReg {
        if_idx: interface,
        if_rxq: queue,
        rq_entries: wanted.refill_entries,
        flags: if wanted.queue.is_none() { REG_NODEV } else { 0 },
        area_ptr: &raw mut area as u64,
        region_ptr: &raw mut region as u64,
        rx_buf_len: wanted.buffer_len,
        event_desc: if described { &raw mut events as u64 } else { 0 },
        ..IfqReg::default()
    };
    // SAFETY: the structures live beyond the call. The kernel pins the memory, so it stays the kernel's own even when it is
    // unmapped here; what it writes there is reached by atomics, or as bytes of buffers that it has handed out.
    unsafe { register(ring.as_raw_fd(), REGISTER_ZCRX_IFQ, &mut reg, 1)? };
    Ok(Given {
        id: reg.zcrx_id,
        refill_entries: reg.rq_entries,
        head: reg.offsets.head,
        tail: reg.offsets.tail,
        rqes: reg.offsets.rqes,
        area_token: area.rq_area_token,
    })
}

/// Attaches an exported pool to another ring: its number there.
///
/// # Errors
/// The kernel's.
pub(crate) fn import_pool(ring: BorrowedFd<'_>, pool: BorrowedFd<'_>) -> io::Result<u32> {
    let mut reg = IfqReg { if_idx: pool.as_raw_fd().cast_unsigned(), flags: REG_IMPORT, ..IfqReg::default() };
    // SAFETY: the structure lives beyond the call and holds no addresses.
    unsafe { register(ring.as_raw_fd(), REGISTER_ZCRX_IFQ, &mut reg, 1)? };
    Ok(reg.zcrx_id)
}

/// Does an operation on a registered pool. What the call returns besides errors means nothing.
///
/// # Errors
/// The kernel's.
pub(crate) fn control(ring: BorrowedFd<'_>, ctrl: &mut Ctrl) -> io::Result<libc::c_long> {
    // SAFETY: the structure lives beyond the call and holds no addresses.
    unsafe { register(ring.as_raw_fd(), REGISTER_ZCRX_CTRL, ctrl, 0) }
}

/// The file descriptor of a pool that was exported, from what the call returned and from its control block.
fn exported_fd(result: io::Result<libc::c_long>, ctrl: &Ctrl) -> io::Result<RawFd> {
    // A success is 0, which isn't the file descriptor.
    result?;
    RawFd::try_from(ctrl.value).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))
}

/// Exports a registered pool as a file descriptor.
///
/// # Errors
/// The kernel's.
pub(crate) fn export_pool(ring: BorrowedFd<'_>, id: u32) -> io::Result<OwnedFd> {
    let mut ctrl = Ctrl { zcrx_id: id, op: CTRL_EXPORT, ..Ctrl::default() };
    let result = control(ring, &mut ctrl);
    let fd = exported_fd(result, &ctrl)?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Queues an entry for submission; false when there is no room.
///
/// # Errors
/// None: what is wrong with an entry comes back as its completion.
pub(crate) fn push(queue: &mut io_uring::SubmissionQueue<'_>, entry: &io_uring::squeue::Entry) -> bool {
    // SAFETY: of all our entries none has an address in it: they name file descriptors, and a pool by its number. A file
    // descriptor that was closed makes the entry fail.
    unsafe { queue.push(entry) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32) -> io::Result<libc::c_long> {
        Err(io::Error::from_raw_os_error(errno))
    }

    /// Z1.
    #[test]
    fn an_exported_fd_is_read_from_the_control_block() {
        let ctrl = |value| Ctrl { value, ..Ctrl::default() };
        assert_eq!(exported_fd(Ok(0), &ctrl(7)).unwrap(), 7);
        assert_eq!(exported_fd(Ok(0), &ctrl(0)).unwrap(), 0, "a legal file descriptor");
        assert_eq!(exported_fd(Ok(5), &ctrl(7)).unwrap(), 7, "what the call returns is no file descriptor");
        assert_eq!(exported_fd(Ok(0), &ctrl(u32::MAX)).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    /// Z1: nothing is made of a file descriptor that a failed call left in the block.
    #[test]
    fn a_refused_export_gives_no_fd() {
        let ctrl = Ctrl { value: 1, ..Ctrl::default() };
        assert_eq!(exported_fd(refused(libc::ENXIO), &ctrl).unwrap_err().raw_os_error(), Some(libc::ENXIO));
    }
}
