//! Fields in the 8051's data memory, by id, and the parts of each.
//!
//! Source: `chip.h; chip.c:read_8051_config, load_8051_config`.

constants! {
    /// Size of the 8051's data memory, bytes.
    DC8051_DATA_MEM_SIZE = 0x1000;

    /// General fields; they are dwords at 4 * id.
    NUM_GENERAL_FIELDS = 0x17;

    /// Fields of each lane; they are dwords behind the general ones, lane after lane.
    NUM_LANE_FIELDS = 0x8;

    /// The lane number that stands for the general fields.
    GENERAL_CONFIG = 0x4;

    /// General field: link optimization.
    LINK_OPTIMIZATION_SETTINGS = 0x0;

    /// General field: how the SerDes is to be tuned.
    LINK_TUNING_PARAMETERS = 0x2;

    /// General field: what the external device (cable) can do.
    DC_HOST_COMM_SETTINGS = 0x3;

    /// General field: lanes, polarity, rate to transmit with.
    TX_SETTINGS = 0x6;

    /// General field: this side's physical capabilities.
    VERIFY_CAP_LOCAL_PHY = 0x7;

    /// General field: this side's link-transfer capabilities.
    VERIFY_CAP_LOCAL_FABRIC = 0x8;

    /// General field: this side's link widths; after negotiation the active ones.
    VERIFY_CAP_LOCAL_LINK_MODE = 0x9;

    /// General field: this side's device id and revision.
    LOCAL_DEVICE_ID = 0xa;

    /// General field: the host interface version is in here.
    RESERVED_REGISTERS = 0xb;

    /// General field: lanes enabled on this side by negotiation.
    LOCAL_LNI_INFO = 0xc;

    /// General field: what the peer told in negotiation.
    REMOTE_LNI_INFO = 0xd;

    /// General field: major and minor version of the firmware.
    MISC_STATUS = 0xe;

    /// General field: the peer's physical capabilities.
    VERIFY_CAP_REMOTE_PHY = 0xf;

    /// General field: the peer's link-transfer capabilities.
    VERIFY_CAP_REMOTE_FABRIC = 0x10;

    /// General field: the peer's link widths and transmit rate.
    VERIFY_CAP_REMOTE_LINK_WIDTH = 0x11;

    /// General field: the last step that this side finished in negotiation.
    LAST_LOCAL_STATE_COMPLETE = 0x12;

    /// General field: the last step that the peer finished in negotiation.
    LAST_REMOTE_STATE_COMPLETE = 0x13;

    /// General field: link quality, and the reason with which the peer took the link down.
    LINK_QUALITY_INFO = 0x14;

    /// General field: the peer's device id and revision.
    REMOTE_DEVICE_ID = 0x15;

    /// General field: in its lowest byte, why the link went down.
    LINK_DOWN_REASON = 0x16;

    /// General field: in its highest byte, the patch version of the firmware.
    VERSION_PATCH = 0x16;

    /// Lane field: transmit equalizer.
    TX_EQ_SETTINGS = 0x0;

    /// Lane field: attenuation of the channel.
    CHANNEL_LOSS_SETTINGS = 0x5;

    /// Lane field: version of the SerDes processor's ROM.
    SPICO_FW_VERSION = 0x7;

    /// LINK_TUNING_PARAMETERS: position of the tuning method.
    TUNING_METHOD_SHIFT = 24;

    /// LINK_OPTIMIZATION_SETTINGS: position of "configure the external device"; the driver never writes it.
    ENABLE_EXT_DEV_CONFIG_SHIFT = 24;

    /// TX_SETTINGS: position of the lanes to transmit on.
    ENABLE_LANE_TX_SHIFT = 0;

    /// TX_SETTINGS: mask of the lanes to transmit on, one bit each.
    ENABLE_LANE_TX_MASK = 0xff;

    /// TX_SETTINGS: position of the inverted transmit lanes.
    TX_POLARITY_INVERSION_SHIFT = 8;

    /// TX_SETTINGS: mask of the inverted transmit lanes.
    TX_POLARITY_INVERSION_MASK = 0xff;

    /// TX_SETTINGS: position of the inverted receive lanes.
    RX_POLARITY_INVERSION_SHIFT = 16;

    /// TX_SETTINGS: mask of the inverted receive lanes.
    RX_POLARITY_INVERSION_MASK = 0xff;

    /// TX_SETTINGS: position of the highest rate.
    MAX_RATE_SHIFT = 24;

    /// TX_SETTINGS: mask of the rate: 1 for 12.5, 2 for 25 Gbit/s; before firmware 0.20 0 and 1.
    MAX_RATE_MASK = 0xff;

    /// VERIFY_CAP_*_PHY: position of power management.
    POWER_MANAGEMENT_SHIFT = 0;

    /// VERIFY_CAP_*_PHY: mask of power management, PWRM_*.
    POWER_MANAGEMENT_MASK = 0xf;

    /// VERIFY_CAP_*_PHY: position of "takes equalizer updates at any time" (misspelt so in the driver).
    CONTINIOUS_REMOTE_UPDATE_SUPPORT_SHIFT = 4;

    /// VERIFY_CAP_*_PHY: mask of the same.
    CONTINIOUS_REMOTE_UPDATE_SUPPORT_MASK = 0x1;

    /// Power management: may trade bit errors.
    PWRM_BER_CONTROL = 0x1;

    /// Power management: may trade bandwidth.
    PWRM_BANDWIDTH_CONTROL = 0x2;

    /// SPICO_FW_VERSION: position of the ROM version.
    SPICO_ROM_VERSION_SHIFT = 0;

    /// SPICO_FW_VERSION: mask of the ROM version.
    SPICO_ROM_VERSION_MASK = 0xffff;

    /// SPICO_FW_VERSION: position of the product id.
    SPICO_ROM_PROD_ID_SHIFT = 16;

    /// SPICO_FW_VERSION: mask of the product id.
    SPICO_ROM_PROD_ID_MASK = 0xffff;

    /// VERIFY_CAP_*_FABRIC: position of the allocation unit's exponent, 8 << vAU bytes.
    VAU_SHIFT = 0;

    /// VERIFY_CAP_*_FABRIC: mask of the allocation unit's exponent.
    VAU_MASK = 0x7;

    /// VERIFY_CAP_*_FABRIC: position of the bit that tells whether credit 0 is returned.
    Z_SHIFT = 3;

    /// VERIFY_CAP_*_FABRIC: mask of the same.
    Z_MASK = 0x1;

    /// VERIFY_CAP_*_FABRIC: position of the credit unit's exponent.
    VCU_SHIFT = 4;

    /// VERIFY_CAP_*_FABRIC: mask of the credit unit's exponent.
    VCU_MASK = 0x7;

    /// VERIFY_CAP_*_FABRIC: position of the credits of VL 15.
    VL15BUF_SHIFT = 8;

    /// VERIFY_CAP_*_FABRIC: mask of the credits of VL 15, allocation units.
    VL15BUF_MASK = 0xfff;

    /// VERIFY_CAP_*_FABRIC: position of the link CRCs that are understood besides 16 bits.
    CRC_SIZES_SHIFT = 20;

    /// VERIFY_CAP_*_FABRIC: mask of the link CRCs: bit 0 14 bits, bit 1 48 bits, bit 2 by lane.
    CRC_SIZES_MASK = 0x7;

    /// VERIFY_CAP_LOCAL_LINK_MODE and VERIFY_CAP_REMOTE_LINK_WIDTH: position of the widths.
    LINK_WIDTH_SHIFT = 0;

    /// VERIFY_CAP_LOCAL_LINK_MODE and VERIFY_CAP_REMOTE_LINK_WIDTH: mask of the widths.
    LINK_WIDTH_MASK = 0xffff;

    /// VERIFY_CAP_LOCAL_LINK_MODE: position of the flags.
    LOCAL_FLAG_BITS_SHIFT = 16;

    /// VERIFY_CAP_LOCAL_LINK_MODE: mask of the flags.
    LOCAL_FLAG_BITS_MASK = 0xff;

    /// VERIFY_CAP_LOCAL_LINK_MODE: position of the options below.
    MISC_CONFIG_BITS_SHIFT = 24;

    /// VERIFY_CAP_LOCAL_LINK_MODE: mask of the options below.
    MISC_CONFIG_BITS_MASK = 0xff;

    /// Option: position of "loop in the SerDes".
    LOOPBACK_SERDES_CONFIG_BIT_MASK_SHIFT = 0;

    /// Option: position of "the host answers HREQ_LCB_RESET".
    EXT_CFG_LCB_RESET_SUPPORTED_SHIFT = 3;

    /// VERIFY_CAP_REMOTE_LINK_WIDTH: position of the peer's transmit rate.
    REMOTE_TX_RATE_SHIFT = 16;

    /// VERIFY_CAP_REMOTE_LINK_WIDTH: mask of the peer's transmit rate.
    REMOTE_TX_RATE_MASK = 0xff;

    /// LOCAL_DEVICE_ID: position of the revision.
    LOCAL_DEVICE_REV_SHIFT = 0;

    /// LOCAL_DEVICE_ID: mask of the revision.
    LOCAL_DEVICE_REV_MASK = 0xff;

    /// LOCAL_DEVICE_ID: position of the device id.
    LOCAL_DEVICE_ID_SHIFT = 8;

    /// LOCAL_DEVICE_ID: mask of the device id.
    LOCAL_DEVICE_ID_MASK = 0xffff;

    /// REMOTE_DEVICE_ID: position of the revision.
    REMOTE_DEVICE_REV_SHIFT = 0;

    /// REMOTE_DEVICE_ID: mask of the revision.
    REMOTE_DEVICE_REV_MASK = 0xff;

    /// REMOTE_DEVICE_ID: position of the device id.
    REMOTE_DEVICE_ID_SHIFT = 8;

    /// REMOTE_DEVICE_ID: mask of the device id.
    REMOTE_DEVICE_ID_MASK = 0xffff;

    /// LOCAL_LNI_INFO: position of the lanes that receive.
    ENABLE_LANE_RX_SHIFT = 16;

    /// LOCAL_LNI_INFO: mask of the lanes that receive, one bit each.
    ENABLE_LANE_RX_MASK = 0xff;

    /// REMOTE_LNI_INFO: position of "the peer lets this node manage".
    MGMT_ALLOWED_SHIFT = 23;

    /// REMOTE_LNI_INFO: mask of the same.
    MGMT_ALLOWED_MASK = 0x1;

    /// LINK_QUALITY_INFO: position of the link quality.
    LINK_QUALITY_SHIFT = 24;

    /// LINK_QUALITY_INFO: mask of the link quality, 0 (down) to 5 (excellent).
    LINK_QUALITY_MASK = 0x7;

    /// LINK_QUALITY_INFO: position of the reason for which the peer took the link down.
    DOWN_REMOTE_REASON_SHIFT = 16;

    /// LINK_QUALITY_INFO: mask of that reason.
    DOWN_REMOTE_REASON_MASK = 0xff;

    /// The version that the driver writes to RESERVED_REGISTERS.
    HOST_INTERFACE_VERSION = 0x1;

    /// RESERVED_REGISTERS: position of the host interface version.
    HOST_INTERFACE_VERSION_SHIFT = 16;

    /// RESERVED_REGISTERS: mask of the host interface version.
    HOST_INTERFACE_VERSION_MASK = 0xff;

    /// MISC_STATUS: position of the firmware's minor version.
    STS_FM_VERSION_MINOR_SHIFT = 16;

    /// MISC_STATUS: mask of the firmware's minor version.
    STS_FM_VERSION_MINOR_MASK = 0xff;

    /// MISC_STATUS: position of the firmware's major version.
    STS_FM_VERSION_MAJOR_SHIFT = 24;

    /// MISC_STATUS: mask of the firmware's major version.
    STS_FM_VERSION_MAJOR_MASK = 0xff;

    /// VERSION_PATCH: position of the firmware's patch version.
    STS_FM_VERSION_PATCH_SHIFT = 24;

    /// VERSION_PATCH: mask of the firmware's patch version.
    STS_FM_VERSION_PATCH_MASK = 0xff;

    /// LINK_DOWN_REASON: link transfer stopped.
    LDR_LINK_TRANSFER_ACTIVE_LOW = 0xa;

    /// LINK_DOWN_REASON: the peer said so.
    LDR_RECEIVED_LINKDOWN_IDLE_MSG = 0xb;

    /// LINK_DOWN_REASON: the host asked for offline.
    LDR_RECEIVED_HOST_OFFLINE_REQ = 0xc;

    /// DC_DC8051_CFG_MODE: don't refuse a peer with our own GUID, for loopback.
    DISABLE_SELF_GUID_CHECK = 0x2;
}
