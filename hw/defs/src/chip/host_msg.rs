//! What the 8051 reports in DC_DC8051_DBG_ERR_INFO_SET_BY_8051: messages (HOST_MSG) and errors (ERROR), one bit each.
//!
//! Source: `chip.h; chip.c:handle_8051_interrupt`.

constants! {
    /// Message: a host command is done.
    HOST_REQ_DONE = 0x1;

    /// Message: power management from the peer.
    BC_PWR_MGM_MSG = 0x2;

    /// Message: an SMA idle message from the peer waits to be read.
    BC_SMA_MSG = 0x4;

    /// Message: a BCC frame that the 8051 doesn't know.
    BC_BCC_UNKNOWN_MSG = 0x8;

    /// Message: an idle message that the 8051 doesn't know.
    BC_IDLE_UNKNOWN_MSG = 0x10;

    /// Message: a request waits in DC_DC8051_CFG_EXT_DEV_1.
    EXT_DEVICE_CFG_REQ = 0x20;

    /// Message: the peer's capabilities are there; the 8051 waits for the host to go on.
    VERIFY_CAP_FRAME = 0x40;

    /// Message: the link is up.
    LINKUP_ACHIEVED = 0x80;

    /// Message: the link goes down.
    LINK_GOING_DOWN = 0x100;

    /// Message: lanes were dropped.
    LINK_WIDTH_DOWNGRADED = 0x200;

    /// Error: the SerDes processor's ROM check failed.
    SPICO_ROM_FAILED = 0x1;

    /// Error: a frame of an unknown kind.
    UNKNOWN_FRAME = 0x2;

    /// Error: the bit error rate is too high.
    TARGET_BER_NOT_MET = 0x4;

    /// Error: the SerDes loopback test failed.
    FAILED_SERDES_INTERNAL_LOOPBACK = 0x8;

    /// Error: the SerDes didn't initialize.
    FAILED_SERDES_INIT = 0x10;

    /// Error: link negotiation failed in polling.
    FAILED_LNI_POLLING = 0x20;

    /// Error: link negotiation failed in debounce.
    FAILED_LNI_DEBOUNCE = 0x40;

    /// Error: link negotiation failed while establishing communication.
    FAILED_LNI_ESTBCOMM = 0x80;

    /// Error: link negotiation failed while tuning equalizers.
    FAILED_LNI_OPTEQ = 0x100;

    /// Error: link negotiation failed in the first part of the capability exchange.
    FAILED_LNI_VERIFY_CAP1 = 0x200;

    /// Error: link negotiation failed in the second part of the capability exchange.
    FAILED_LNI_VERIFY_CAP2 = 0x400;

    /// Error: link negotiation failed while configuring link transfer.
    FAILED_LNI_CONFIGLT = 0x800;

    /// Error: the host didn't go on in time.
    HOST_HANDSHAKE_TIMEOUT = 0x1000;

    /// Error: the host didn't answer a request in time.
    EXTERNAL_DEVICE_REQ_TIMEOUT = 0x2000;

    /// All the errors that mean that link negotiation failed.
    FAILED_LNI = 0x3fe0;
}
