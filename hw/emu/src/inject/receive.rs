//! Faults of a receive context.

super::faults! {
    /// A fault of a receive context at one of its packets.
    ReceiveFault {
        /// The packet is delivered with RHF.ICRC_ERR.
        Icrc = "receive-icrc",
    }
}
