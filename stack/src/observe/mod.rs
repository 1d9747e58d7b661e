//! Looking into an endpoint while it runs: what it has counted, what state it is in, what passed through it, and why a message
//! goes the way it goes. `docs/observability.md` shows how to use each.

pub mod counters;
pub mod dump;
pub mod explain;
pub(crate) mod hmem;
pub mod recorder;
pub mod tap;

pub use dump::dump_on_sigusr2;
pub use explain::{Explanation, Message, OneSided, OneSidedPath, Path, Reason};
pub use recorder::{Event, Packet, Record, Recorder, Recording};
pub use tap::{Interface, Tap};

use opx_defs::time::Instant;
use opx_defs::wire::opx::Header;

/// What sees each packet of an endpoint. An endpoint that nobody watches has none.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) recorder: Option<Recorder>,
    pub(crate) tap: Option<Tap>,
}

impl Watch {
    /// A packet, and what became of it.
    pub(crate) fn packet(&mut self, now: Instant, event: Event, header: &Header, payload: &[u8]) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(now, event, header, payload.len());
        }
        if let Some((tap, interface)) = self.tap.as_ref().zip(event.interface()) {
            tap.packet(interface, now, &[&header.0, payload]);
        }
    }

    /// Something that isn't a packet.
    pub(crate) fn event(&mut self, now: Instant, event: Event) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(now, event, &NO_HEADER, 0);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.recorder.is_none() && self.tap.is_none()
    }
}

const NO_HEADER: Header = Header([0; opx_defs::wire::OPX_HEADER_BYTES]);
