//! Faults of an SDMA engine.

super::faults! {
    /// A fault of an SDMA engine at one of its packets.
    SdmaFault {
        /// The engine stops at the packet without any error bit.
        Stall = "sdma-stall",
    }
}
