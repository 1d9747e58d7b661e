//! Commands from host to 8051, DC_DC8051_CFG_HOST_CMD_0 and _1.
//!
//! Source: `chip.h HCMD_*, LOAD_DATA_*, READ_DATA_*; chip.c:do_8051_command`.

constants! {
    /// Store a field; data is value, lane and field id.
    HCMD_LOAD_CONFIG_DATA = 0x1;

    /// Read a field back; Linux reads the 8051's data memory instead.
    HCMD_READ_CONFIG_DATA = 0x2;

    /// Change the physical link state; data is one of PLS_*, for offline with the reason above it.
    HCMD_CHANGE_PHY_STATE = 0x3;

    /// Send an idle flit message to the peer.
    HCMD_SEND_LCB_IDLE_MSG = 0x4;

    /// A function of HCMD_MISC_*, its number at bit 40.
    HCMD_MISC = 0x5;

    /// Fetch the idle flit message that came from the peer.
    HCMD_READ_LCB_IDLE_MSG = 0x6;

    /// Read an LCB register; data is its index in the block, 8 bytes each.
    HCMD_READ_LCB_CSR = 0x7;

    /// Write an LCB register; data is the index and the low 40 bits of the value.
    HCMD_WRITE_LCB_CSR = 0x8;

    /// Does nothing but answer.
    HCMD_INTERFACE_TEST = 0xff;

    /// Return code: done.
    HCMD_SUCCESS = 0x2;

    /// HCMD_MISC: the host wants the LCB's registers.
    HCMD_MISC_REQUEST_LCB_ACCESS = 0x1;

    /// HCMD_MISC: the host gives the LCB's registers to the 8051.
    HCMD_MISC_GRANT_LCB_ACCESS = 0x2;

    /// HCMD_LOAD_CONFIG_DATA: position of the field id.
    LOAD_DATA_FIELD_ID_SHIFT = 40;

    /// HCMD_LOAD_CONFIG_DATA: mask of the field id as in the driver, which has no id above 0xf to load.
    LOAD_DATA_FIELD_ID_MASK = 0xf;

    /// HCMD_LOAD_CONFIG_DATA: position of the lane.
    LOAD_DATA_LANE_ID_SHIFT = 32;

    /// HCMD_LOAD_CONFIG_DATA: mask of the lane.
    LOAD_DATA_LANE_ID_MASK = 0xf;

    /// HCMD_LOAD_CONFIG_DATA: position of the value.
    LOAD_DATA_DATA_SHIFT = 0;

    /// HCMD_LOAD_CONFIG_DATA: mask of the value.
    LOAD_DATA_DATA_MASK = 0xffff_ffff;

    /// HCMD_READ_CONFIG_DATA: position of the field id.
    READ_DATA_FIELD_ID_SHIFT = 40;

    /// HCMD_READ_CONFIG_DATA: mask of the field id.
    READ_DATA_FIELD_ID_MASK = 0xff;

    /// HCMD_READ_CONFIG_DATA: position of the lane.
    READ_DATA_LANE_ID_SHIFT = 32;

    /// HCMD_READ_CONFIG_DATA: mask of the lane.
    READ_DATA_LANE_ID_MASK = 0xff;

    /// HCMD_READ_CONFIG_DATA: position of the value.
    READ_DATA_DATA_SHIFT = 0;

    /// HCMD_READ_CONFIG_DATA: mask of the value.
    READ_DATA_DATA_MASK = 0xffff_ffff;
}
