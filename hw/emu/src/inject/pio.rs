//! Faults of a send context.

super::faults! {
    /// A fault of a send context at one of its packets.
    PioFault {
        /// The blocks of the packet leave, but their credits never come back.
        LostCredits = "pio-lost-credits",
    }
}
