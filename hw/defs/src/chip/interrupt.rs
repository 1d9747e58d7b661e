//! Interrupt sources by number; [`crate::source::Source`] is the typed form.
//!
//! Source: `chip.h IS_*`.

constants! {
    /// Error of the CCE block.
    CCE_ERR_INT = 0;

    /// Error of the receive engine.
    RXE_ERR_INT = 1;

    /// Error of the MISC block.
    MISC_ERR_INT = 2;

    /// Error of the PIO send path.
    PIO_ERR_INT = 4;

    /// Error of the SDMA send path.
    SDMA_ERR_INT = 5;

    /// Error on egress.
    EGRESS_ERR_INT = 6;

    /// Error of the transmit engine.
    TXE_ERR_INT = 7;

    /// A packet's PBC asked for an interrupt.
    PBC_INT = 240;

    /// General-purpose pins.
    GPIO_ASSERT_INT = 241;

    /// Pins of HFI 0's cage.
    QSFP1_INT = 242;

    /// Pins of HFI 1's cage.
    QSFP2_INT = 243;

    /// Critical temperature.
    TCRIT_INT = 244;

    /// First source.
    IS_FIRST_SOURCE = 0;

    /// Last source.
    IS_LAST_SOURCE = 767;

    /// First block error.
    IS_GENERAL_ERR_START = 0;

    /// Last block error.
    IS_GENERAL_ERR_END = 7;

    /// Error of SDMA engine 0.
    IS_SDMAENG_ERR_START = 16;

    /// Error of the last SDMA engine.
    IS_SDMAENG_ERR_END = 31;

    /// Error of send context 0.
    IS_SENDCTXT_ERR_START = 32;

    /// Error of the last send context.
    IS_SENDCTXT_ERR_END = 191;

    /// Descriptor interrupt of SDMA engine 0.
    IS_SDMA_START = 192;

    /// Descriptor interrupt of the last SDMA engine.
    IS_SDMA_END = 207;

    /// Progress of SDMA engine 0.
    IS_SDMA_PROGRESS_START = 208;

    /// Progress of the last SDMA engine.
    IS_SDMA_PROGRESS_END = 223;

    /// SDMA engine 0 went idle.
    IS_SDMA_IDLE_START = 224;

    /// The last SDMA engine went idle.
    IS_SDMA_IDLE_END = 239;

    /// First of the sources of several kinds.
    IS_VARIOUS_START = 240;

    /// Last of the sources of several kinds.
    IS_VARIOUS_END = 244;

    /// First source of the DC: DCC, LCB, 8051, LBM.
    IS_DC_START = 248;

    /// Last source of the DC.
    IS_DC_END = 255;

    /// Packets in receive context 0.
    IS_RCVAVAIL_START = 256;

    /// Packets in the last receive context.
    IS_RCVAVAIL_END = 415;

    /// Urgent packet in receive context 0.
    IS_RCVURGENT_START = 416;

    /// Urgent packet in the last receive context.
    IS_RCVURGENT_END = 575;

    /// Credit returned to send context 0.
    IS_SENDCREDIT_START = 576;

    /// Credit returned to the last send context.
    IS_SENDCREDIT_END = 735;

    /// First unused source.
    IS_RESERVED_START = 736;

    /// Last unused source.
    IS_RESERVED_END = 767;
}
