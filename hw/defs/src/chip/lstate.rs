//! Logical link states, DCC_CFG_PORT_CONFIG.LINK_STATE.
//!
//! Source: `chip.h LSTATE_*`.

constants! {
    /// The physical link isn't up.
    LSTATE_DOWN = 0x1;

    /// The link is up; only VL 15 carries packets.
    LSTATE_INIT = 0x2;

    /// Data packets are received, not yet sent.
    LSTATE_ARMED = 0x3;

    /// Data packets flow both ways.
    LSTATE_ACTIVE = 0x4;
}
