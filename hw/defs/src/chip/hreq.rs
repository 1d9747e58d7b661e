//! Requests from 8051 to host, DC_DC8051_CFG_EXT_DEV_1, and the host's answers in _0.
//!
//! Source: `chip.h HREQ_*; chip.c:handle_8051_request`.

constants! {
    /// Request: load the external device's configuration.
    HREQ_LOAD_CONFIG = 0x1;

    /// Request: save it.
    HREQ_SAVE_CONFIG = 0x2;

    /// Request: read it.
    HREQ_READ_CONFIG = 0x3;

    /// Request: set the transmit equalizer.
    HREQ_SET_TX_EQ_ABS = 0x4;

    /// Request: change the transmit equalizer by a step.
    HREQ_SET_TX_EQ_REL = 0x5;

    /// Request: enable the external device.
    HREQ_ENABLE = 0x6;

    /// Request: reset LCB and both FPEs through DCC_CFG_RESET.
    HREQ_LCB_RESET = 0x7;

    /// Request: configuration is done, nothing more to do.
    HREQ_CONFIG_DONE = 0xfe;

    /// Request: answer with the same data.
    HREQ_INTERFACE_TEST = 0xff;

    /// Answer: no such request.
    HREQ_INVALID = 0x1;

    /// Answer: done.
    HREQ_SUCCESS = 0x2;

    /// Answer: this host doesn't do that.
    HREQ_NOT_SUPPORTED = 0x3;

    /// Answer: a part of the request isn't supported.
    HREQ_FEATURE_NOT_SUPPORTED = 0x4;

    /// Answer: refused.
    HREQ_REQUEST_REJECTED = 0xfe;

    /// Answer: still at it.
    HREQ_EXECUTION_ONGOING = 0xff;
}
