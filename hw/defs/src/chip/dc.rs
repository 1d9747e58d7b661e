//! Values for registers of DCC and LCB.
//!
//! Source: `chip.h`.

constants! {
    /// DCC_CFG_RESET: LCB and both FPEs held in reset.
    LCB_RX_FPE_TX_FPE_INTO_RESET = 0x17;

    /// DCC_CFG_RESET: all of them released.
    LCB_RX_FPE_TX_FPE_OUT_OF_RESET = 0x10;

    /// DC_LCB_CFG_CRC_MODE: 16-bit link CRC.
    LCB_CRC_16B = 0x0;

    /// DC_LCB_CFG_CRC_MODE: 14-bit link CRC, the sideband carries credits.
    LCB_CRC_14B = 0x1;

    /// DC_LCB_CFG_CRC_MODE: 48-bit overlapping link CRC.
    LCB_CRC_48B = 0x2;

    /// DC_LCB_CFG_CRC_MODE: a CRC of 12 to 16 bits on each lane.
    LCB_CRC_12B_16B_PER_LANE = 0x3;

    /// Code of a bad L2 frame in DCC_ERR_INFO_PORTRCV.
    BAD_L2_ERR = 0x6;

    /// Driver option `loopback`: none.
    LOOPBACK_NONE = 0x0;

    /// Driver option `loopback`: in the SerDes.
    LOOPBACK_SERDES = 0x1;

    /// Driver option `loopback`: in the LCB.
    LOOPBACK_LCB = 0x2;

    /// Driver option `loopback`: a plug that loops the cable.
    LOOPBACK_CABLE = 0x3;
}
