//! The address of an endpoint.

use opx_defs::units::Lid;
use opx_defs::wire::opx::Origin;
use std::fmt;

/// Where an endpoint is: its port and its receive context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The port's LID.
    pub lid: Lid,
    /// The receive context.
    pub rx: u8,
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
