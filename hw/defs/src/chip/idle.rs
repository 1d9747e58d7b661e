//! Idle flit messages: short words between the two ends of a link, sent in idle flits.
//!
//! Source: `chip.h IDLE_*, SMA_IDLE_*`.

constants! {
    /// Type: physical link management.
    IDLE_PHYSICAL_LINK_MGMT = 0x1;

    /// Type: CRU.
    IDLE_CRU = 0x2;

    /// Type: subnet management agent.
    IDLE_SMA = 0x3;

    /// Type: power management.
    IDLE_POWER_MGMT = 0x4;

    /// Mask of the payload.
    IDLE_PAYLOAD_MASK = 0xff_ffff_ffff;

    /// Position of the payload.
    IDLE_PAYLOAD_SHIFT = 8;

    /// Mask of the type.
    IDLE_MSG_TYPE_MASK = 0xf;

    /// Position of the type.
    IDLE_MSG_TYPE_SHIFT = 0;

    /// Mask of the type in HCMD_READ_LCB_IDLE_MSG.
    READ_IDLE_MSG_TYPE_MASK = 0xf;

    /// Position of the type in HCMD_READ_LCB_IDLE_MSG.
    READ_IDLE_MSG_TYPE_SHIFT = 0;

    /// Payload of an SMA message: this end is armed.
    SMA_IDLE_ARM = 0x1;

    /// Payload of an SMA message: this end is active.
    SMA_IDLE_ACTIVE = 0x2;
}
