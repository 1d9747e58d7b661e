//! Faults of the chip as a whole.

super::faults! {
    /// A fault of the whole chip at one of the packets that it sends.
    ChipFault {
        /// The chip asks to be frozen, as it does for an error that all of it has to stop for (SPC freeze).
        Freeze = "chip-freeze",
    }
}
