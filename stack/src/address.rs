//! The address of an endpoint.

use opx_defs::units::Lid;
use opx_defs::wire::opx::{EndpointName, Generation, Origin};
use std::fmt;

/// Where an endpoint is: its port and its receive context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The port's LID.
    pub lid: Lid,
    /// The receive context.
    pub rx: u8,
}

impl Address {
    /// The bytes of OPX's `fi_getname` for it, on a machine's first adapter of a fabric with the usual prefix.
    pub(crate) fn name(self, generation: Generation) -> Vec<u8> {
        let gid_high = EndpointName::DEFAULT_GID_HIGH;
        let name = EndpointName { unit: 0, rx: self.rx, lid: self.lid, gid_high }.to_bytes(generation);
        name.into_iter().take(EndpointName::len(generation)).collect()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoint {}/{}", self.lid, self.rx)
    }
}

impl From<Origin> for Address {
    fn from(origin: Origin) -> Self {
        Self { lid: origin.lid, rx: origin.rx }
    }
}

impl From<Address> for Origin {
    fn from(address: Address) -> Self {
        Self { lid: address.lid, rx: address.rx }
    }
}
