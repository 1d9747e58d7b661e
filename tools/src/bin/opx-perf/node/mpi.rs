//! MPI, by a library that is loaded: what is measured is what osu_latency and osu_bw measure, in the same way.
//!
//! Open MPI's handles are addresses of the library's objects, MPICH's are numbers; both are passed in a word.
#![allow(unsafe_code)]

use super::{CHECKED, Cores, Library, Side, tell};
use crate::pattern::{Job, Pattern, ROTATION, content};
use anyhow::{Result, bail, ensure};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::time::{Duration, Instant};

/// The one tag.
const TAG: c_int = 1;
const MPICH_COMM_WORLD: usize = 0x4400_0000;
const MPICH_BYTE: usize = 0x4c00_010d;
/// Words of a status, in either library at most.
const STATUS_WORDS: usize = 8;

type Init = unsafe extern "C" fn(*mut c_int, *mut c_void) -> c_int;
type Finalize = unsafe extern "C" fn() -> c_int;
type Rank = unsafe extern "C" fn(usize, *mut c_int) -> c_int;
type Send = unsafe extern "C" fn(*const u8, c_int, usize, c_int, c_int, usize) -> c_int;
type Recv = unsafe extern "C" fn(*mut u8, c_int, usize, c_int, c_int, usize, *mut c_void) -> c_int;
type Isend = unsafe extern "C" fn(*const u8, c_int, usize, c_int, c_int, usize, *mut c_void) -> c_int;
type Irecv = unsafe extern "C" fn(*mut u8, c_int, usize, c_int, c_int, usize, *mut c_void) -> c_int;
type Waitall = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int;

/// The loaded library, initialised.
struct Mpi {
    world: usize,
    byte: usize,
    peer: c_int,
    /// Bytes of a request.
    request: usize,
    send: Send,
    recv: Recv,
    isend: Isend,
    irecv: Irecv,
    waitall: Waitall,
    finalize: Finalize,
    /// Requests and statuses of a window.
    requests: Vec<usize>,
    statuses: Vec<[usize; STATUS_WORDS]>,
}

/// Plays the rank that mpirun has given this process.
pub fn play(library: &Library, jobs: &[Job], cores: Cores) -> Result<()> {
    let window = jobs.iter().map(|job| job.window as usize).max().unwrap_or(1);
    let (mut mpi, rank) = Mpi::start(library, window)?;
    let side = if rank == 0 { Side::Asks } else { Side::Answers };
    cores.pin(side)?;
    for job in jobs {
        mpi.check(job.size, side)?;
        let mut buffer = vec![0x5a; if job.rotating { ROTATION.max(job.size) } else { job.size }];
        let mut memory = Memory { all: &mut buffer, size: job.size, at: 0 };
        let mut time = Duration::ZERO;
        for count in [job.warmup, job.count] {
            time = match job.pattern {
                Pattern::Latency => mpi.latency(&mut memory, count, side)?,
                Pattern::Bandwidth => mpi.bandwidth(&mut memory, job.window as usize, count, side)?,
                other => bail!("{} isn't measured by MPI", other.name()),
            };
        }
        if side == Side::Asks {
            tell(job, time);
        }
    }
    // SAFETY: initialised, and nothing is under way.
    let code = unsafe { (mpi.finalize)() };
    ensure!(code == 0, "MPI_Finalize fails ({code})");
    Ok(())
}

/// What messages are sent from and received into, in turn.
struct Memory<'a> {
    all: &'a mut [u8],
    size: usize,
    at: usize,
}

impl Memory<'_> {
    fn next(&mut self) -> &mut [u8] {
        if self.at + self.size > self.all.len() {
            self.at = 0;
        }
        let at = self.at;
        self.at += self.size;
        &mut self.all[at..at + self.size]
    }
}

impl Mpi {
    fn start(library: &Library, window: usize) -> Result<(Self, c_int)> {
        let (file, is_mpich) = match library {
            Library::Mpich => ("libmpich.so.12", true),
            _ => ("libmpi.so.40", false),
        };
        // SAFETY: MPI's initialisers have no preconditions. RTLD_GLOBAL: Open MPI's plugins look for its symbols.
        let loaded = unsafe {
            use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
            Library::open(Some(file), RTLD_NOW | RTLD_GLOBAL)?
        };
        // SAFETY: the types are those of mpi.h, with handles as words: a C int is passed in the lower half of one.
        unsafe {
            let (world, byte) = if is_mpich {
                (MPICH_COMM_WORLD, MPICH_BYTE)
            } else {
                let object = |name: &[u8]| loaded.get::<*const c_void>(name).map(|symbol| symbol.as_raw_ptr() as usize);
                (object(b"ompi_mpi_comm_world")?, object(b"ompi_mpi_byte")?)
            };
            let code = loaded.get::<Init>(b"MPI_Init")?(ptr::null_mut(), ptr::null_mut());
            ensure!(code == 0, "MPI_Init fails ({code})");
            let mut rank = 0;
            let code = loaded.get::<Rank>(b"MPI_Comm_rank")?(world, &raw mut rank);
            ensure!(code == 0 && (0..2).contains(&rank), "two ranks are needed ({code}, rank {rank})");
            let this = Self {
                world,
                byte,
                peer: 1 - rank,
                request: if is_mpich { size_of::<c_int>() } else { size_of::<usize>() },
                send: *loaded.get(b"MPI_Send")?,
                recv: *loaded.get(b"MPI_Recv")?,
                isend: *loaded.get(b"MPI_Isend")?,
                irecv: *loaded.get(b"MPI_Irecv")?,
                waitall: *loaded.get(b"MPI_Waitall")?,
                finalize: *loaded.get(b"MPI_Finalize")?,
                requests: vec![0; window],
                statuses: vec![[0; STATUS_WORDS]; window],
            };
            // It stays: its functions are called until the process ends.
            std::mem::forget(loaded);
            Ok((this, rank))
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        // SAFETY: initialised; the bytes are there until it returns.
        let code = unsafe { (self.send)(bytes.as_ptr(), len(bytes)?, self.byte, self.peer, TAG, self.world) };
        ensure!(code == 0, "MPI_Send fails ({code})");
        Ok(())
    }

    fn recv(&mut self, bytes: &mut [u8]) -> Result<()> {
        let status = self.statuses.as_mut_ptr().cast();
        let len = len(bytes)?;
        // SAFETY: as for `send`; a status has room.
        let code = unsafe { (self.recv)(bytes.as_mut_ptr(), len, self.byte, self.peer, TAG, self.world, status) };
        ensure!(code == 0, "MPI_Recv fails ({code})");
        Ok(())
    }

    /// Messages whose content is looked at.
    fn check(&mut self, size: usize, side: Side) -> Result<()> {
        for number in 0..CHECKED {
            let expected: Vec<u8> = (0..size).map(|at| content(number, at)).collect();
            if side == Side::Asks {
                self.send(&expected)?;
                continue;
            }
            let mut bytes = vec![0; size];
            self.recv(&mut bytes)?;
            ensure!(bytes == expected, "a message of {size} bytes arrived with other content");
        }
        Ok(())
    }

    fn latency(&mut self, memory: &mut Memory<'_>, count: u64, side: Side) -> Result<Duration> {
        let begin = Instant::now();
        for _ in 0..count {
            let buffer = memory.next();
            if side == Side::Asks {
                self.send(buffer)?;
                self.recv(buffer)?;
            } else {
                self.recv(buffer)?;
                self.send(buffer)?;
            }
        }
        Ok(begin.elapsed())
    }

    /// Windows one way, each waited for; a message of nothing back at the end.
    fn bandwidth(&mut self, memory: &mut Memory<'_>, window: usize, count: u64, side: Side) -> Result<Duration> {
        let begin = Instant::now();
        let mut left = count;
        while left > 0 {
            let now = left.min(window as u64) as usize;
            self.window(memory, now.min(self.requests.len()), side)?;
            left -= now as u64;
        }
        if side == Side::Asks {
            self.recv(&mut [])?;
        } else {
            self.send(&[])?;
        }
        Ok(begin.elapsed())
    }

    fn window(&mut self, memory: &mut Memory<'_>, count: usize, side: Side) -> Result<()> {
        let (byte, peer, world) = (self.byte, self.peer, self.world);
        for number in 0..count {
            // Without rotation all into one buffer, as the known programs do.
            let buffer = memory.next();
            let size = len(buffer)?;
            // SAFETY: within `requests`, whose words are as long as the longer kind of request; the buffer outlives the window.
            let code = unsafe {
                let request = self.requests.as_mut_ptr().cast::<u8>().add(number * self.request).cast::<c_void>();
                match side {
                    Side::Asks => (self.isend)(buffer.as_ptr(), size, byte, peer, TAG, world, request),
                    Side::Answers => (self.irecv)(buffer.as_mut_ptr(), size, byte, peer, TAG, world, request),
                }
            };
            ensure!(code == 0, "MPI_Isend or MPI_Irecv fails ({code})");
        }
        let (requests, statuses) = (self.requests.as_mut_ptr().cast(), self.statuses.as_mut_ptr().cast());
        // SAFETY: as many requests were made, and there is room for as many statuses.
        let code = unsafe { (self.waitall)(c_int::try_from(count)?, requests, statuses) };
        ensure!(code == 0, "MPI_Waitall fails ({code})");
        Ok(())
    }
}

fn len(bytes: &[u8]) -> Result<c_int> {
    Ok(c_int::try_from(bytes.len())?)
}
