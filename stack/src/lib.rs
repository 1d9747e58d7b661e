//! Endpoints that exchange messages over an HFI1 adapter, in the wire format of libfabric's OPX provider.
//!
//! An endpoint owns one receive context, one send context and one SDMA engine. Short messages go as one eager packet, longer
//! ones as several or by rendezvous; all packets are delivered exactly once and in order by [`opx_reliability`]. Nothing happens
//! behind the caller's back: [`Endpoint::progress`] does the work.
//!
//! ```
//! # use opx_emu::{Config as Chip, Icode, Lab, Pacing};
//! # use opx_hw::{Hfi, LinkMode, Options};
//! use opx_stack::{Completion, Config, Endpoint, Pattern};
//! # let lab = Lab::new(Pacing::Virtual);
//! # let adapter = lab.add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
//! let hfi = Hfi::open(adapter.bus(), Options::default())?;
//! hfi.link_up(LinkMode::Loopback)?;
//! let mut a = Endpoint::open(&hfi, Config::default())?;
//! let mut b = Endpoint::open(&hfi, Config::default())?;
//!
//! b.tag_receive(Pattern::exact(7), vec![0; 64], 1).unwrap();
//! a.tag_send(b.address(), 7, b"hello".to_vec(), 2).unwrap();
//! let received = loop {
//!     a.progress()?;
//!     b.progress()?;
//!     if let Some(completion) = b.poll_completion() {
//!         break completion;
//!     }
//!     hfi.bus().relax();
//! };
//! let Completion::Received { len, buffer, .. } = received else { panic!() };
//! assert_eq!(&buffer.into_vec()[..len], b"hello");
//! # use opx_bus::PciFunction;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]

mod address;
pub mod atomics;
mod buffer;
mod completion;
mod completions;
mod config;
mod endpoint;
mod error;
pub mod fabric;
mod hfi_service;
mod hmem;
mod mappings;
pub mod matching;
mod memory_kind;
pub mod observe;
mod one_sided;
mod operations;
mod posted;
mod raw;
mod receive_faults;
pub mod regions;
mod requests;
mod shared_memory;
mod slots;
mod table;
mod thresholds;
mod variables;
mod view;

pub use address::Address;
pub use buffer::{Buffer, SharedRange};
pub use completion::{Completion, Level, OperationError};
pub use config::{Config, MAX_PAYLOAD, job_key_of_this_process, job_key_of_user};
pub use endpoint::{Counters, Endpoint, ExpectedReceive};
pub use error::{EndpointError, OpenError};
pub use fabric::{
    AddressVector, Completed, CompletionQueue, Counter, CounterError, Counting, Domain, EndpointFailed, EndpointId,
    Event, EventQueue, Fabric, FiAddr, InsertError, PollSet, Reported, SharedEndpoint, WaitError,
};
pub use hfi_service::KernelService;
pub use hmem::Interfaces;
pub use mappings::MappingCounts;
pub use matching::Pattern;
pub use memory_kind::{CopyError, DeviceMemory, DeviceRange, MemoryKind};
pub use one_sided::{Asked, Atomic, Read, Refusal, Remote, RequestError, Write};
pub use operations::{Outgoing, ReceiveError, Rejected, SendError};
pub use opx_defs::wire::opx::{EndpointName, Generation};
pub use posted::{Claimed, Peeked, ReceiveId, RejectedClaim};
pub use raw::RawBuffer;
pub use shared_memory::{MOST_PORTS, SharedMemory};
pub use thresholds::{ThresholdError, Thresholds};
pub use variables::{Setting, Values, Variable, Warning, settings};
pub use view::View;
