//! Why an endpoint can't be opened, and why it can't go on.

use crate::{KernelService, ThresholdError};
use opx_bus::BusError;
use opx_defs::units::RcvCtxt;
use opx_hw::{ContextError, Gone, LinkError};

/// Why an endpoint can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The adapter has no context or engine for it, or it doesn't come up.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The adapter, the domain or the queue belongs to the process that this one was forked from.
    #[error(
        "the adapter, domain or queue belongs to the process that this one was forked from; open an endpoint there, or open the adapter after forking"
    )]
    Forked,
    /// No memory for packets.
    #[error(transparent)]
    Memory(#[from] BusError),
    /// The receive context's number doesn't fit an address.
    #[error("receive context {0} has a number that OPX addresses can't name (above 255)")]
    RcvCtxt(RcvCtxt),
    /// A setting of the reliability protocol makes no sense.
    #[error(transparent)]
    Reliability(#[from] opx_reliability::ConfigError),
    /// The HFI service was asked for; what the kernel's driver says of it.
    #[error("the HFI service was asked for (FI_OPX_HFISVC), and this generation of adapters has none; unset it ({0})")]
    HfiService(KernelService),
    /// Packets with 16B headers were asked for.
    #[error(
        "packets with 16B headers were asked for (Config::headers_16b), and this generation of adapters hands all of them to one \
         context; unset it, and have CN5000 peers speak 9B (FI_OPX_OPA100_INTEROP=1)"
    )]
    Headers16B,
    /// A threshold makes no sense.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// The system has no thread or file descriptor left for what drives the endpoint.
    #[error("can't {what}: {source}; close what isn't needed, or raise the limit (ulimit -n, ulimit -u)")]
    System {
        /// What.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The flight recorder's memory or file can't be made.
    #[error("can't make the flight recorder: {0}; check the directory of Config::recorder")]
    Recorder(#[source] std::io::Error),
    /// A job can't be called so.
    #[error("{0:?} is no name of a job; it has 1 to 48 visible ASCII characters (shared_memory.job, FI_OPX_UUID)")]
    Job(String),
    /// No part can be taken in the shared memory.
    #[error(
        "no part can be taken in the machine's shared memory: {0}; give each job of the machine a name of its own \
         (shared_memory.job, FI_OPX_UUID), or switch it off (FI_OPX_SHM_ENABLE=0)"
    )]
    SharedMemory(#[source] opx_shm::OpenError),
    /// A setting makes no sense.
    #[error("endpoint setting {name} is {value}, it must be {must}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        must: &'static str,
    },
}

/// Why an endpoint can't go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The adapter no longer answers.
    #[error(
        "{adapter}: the adapter is gone ({why}); check that it is still plugged in, powered and served, then open it again"
    )]
    Gone {
        /// The adapter.
        adapter: String,
        /// What was seen.
        why: String,
    },
    /// The endpoint belongs to the process that this one was forked from.
    #[error(
        "the endpoint belongs to the process that this one was forked from; use it there, or open one after forking"
    )]
    Forked,
    /// The system refuses to tell of peers on this machine.
    #[error("nothing is heard of peers on this machine any more: {0}")]
    SharedMemory(#[from] opx_shm::PollError),
    /// A send engine halted and can't be restarted.
    #[error(transparent)]
    Restart(ContextError),
    /// The link can't be kept.
    #[error(transparent)]
    Link(LinkError),
    /// A send engine halts again and again.
    #[error(
        "{adapter}: {what} halted {times} times in a row (last error: {last}); the packets or its set-up are refused"
    )]
    Halting {
        /// The adapter.
        adapter: String,
        /// Which engine.
        what: String,
        /// How often.
        times: u32,
        /// The last error.
        last: String,
    },
}

/// An adapter that goes away while something else is done with it is one that is gone.
macro_rules! unless_gone {
    ($($error:ident => $variant:ident;)*) => {
        $(impl From<$error> for EndpointError {
            fn from(error: $error) -> Self {
                match error.gone() {
                    Some((adapter, why)) => Self::Gone { adapter: adapter.to_owned(), why },
                    None => Self::$variant(error),
                }
            }
        })*
    };
}

unless_gone! {
    ContextError => Restart;
    LinkError => Link;
}

impl From<Gone> for EndpointError {
    fn from(gone: Gone) -> Self {
        ContextError::from(gone).into()
    }
}
