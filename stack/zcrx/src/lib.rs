//! io_uring zero-copy receive: a pool of buffers that the kernel fills and lends, so that received bytes can be kept and
//! passed on without a copy.
//!
//! A [`Ring`] belongs to one thread and has a pool, of its own or another ring's. What is received from its sockets comes
//! as [`Buffer`]s: views of exactly what arrived, which go back to the kernel when they are dropped, by any thread and in
//! any order. [`Ingress`] takes what the machine has, down to plain receive, and says why. What is required of all this,
//! and where it is tested, is in docs/zero-copy.md.
//!
//! ```
//! match opx_zcrx::query() {
//!     Ok(features) => println!("zero-copy receive without a network device: {}", features.no_device),
//!     Err(why) => println!("no zero-copy receive: {why}"),
//! }
//! ```

mod buffer;
mod completion;
mod error;
mod fake;
mod features;
mod here;
mod ingress;
mod kernel;
mod linux;
mod memory;
mod options;
mod owner;
mod plain;
mod pool;
mod receive;
mod refill;
mod ring;
mod sharing;
mod signal;
mod statistics;
mod sync;
mod sys;

pub use buffer::Buffer;
pub use completion::{BadCompletion, Layout, Place};
pub use error::{CreateError, ExportError, ImportError, OpenError, OwnerGone, ReceiveError, StreamError};
pub use fake::{Answers, Call, Fake, FakeQueue, Operation};
pub use features::{Feature, Features, StatisticsLayout, Unsupported, kernel_supports_zcrx, query};
pub use ingress::{Data, Incoming, Ingress, Means, Refusal, WhyNot};
pub use kernel::{Completion, Kernel, Queue, Registered, Registration};
pub use linux::{Linux, LinuxQueue};
pub use options::{BadOptions, EventTypes, HardwareQueue, Options, ResolveNapi, Setup, Source};
pub use owner::RingHandle;
pub use pool::Exported;
pub use receive::StreamId;
pub use refill::RefillState;
pub use ring::{Event, PoolInfo, Ring};
pub use sharing::{Role, SharingError, roles, share_pools};
pub use statistics::Statistics;
pub use sys::{EventAnswer, ZcrxAnswer};
