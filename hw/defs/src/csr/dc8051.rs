//! Registers of the DC8051 block.

use super::csrs;

csrs! {
    /// .
    DC_DC8051_CFG_RAM_ACCESS_SETUP = 0x602000, rw, reset 0, "" {
        RAM_SEL [0:0],
        AUTO_INCR_ADDR [8:8],
    }

    /// .
    DC_DC8051_CFG_RAM_ACCESS_CTRL = 0x602008, rw, reset 0, "" {
        ADDRESS [14:0],
        READ_ENA [16:16],
        WRITE_ENA [24:24],
    }

    /// .
    DC_DC8051_CFG_RAM_ACCESS_WR_DATA = 0x602010, rw, reset 0, "" {}

    /// .
    DC_DC8051_CFG_RAM_ACCESS_STATUS = 0x602018, ro, reset 0, "" {
        ACCESS_COMPLETED [16:16],
    }

    /// .
    DC_DC8051_CFG_RAM_ACCESS_RD_DATA = 0x602020, ro, reset 0, "" {}

    /// .
    DC_DC8051_CFG_HOST_CMD_0 = 0x602028, rw, reset 0, "" {
        REQ_NEW [0:0],
        REQ_TYPE [15:8],
        REQ_DATA [63:16],
    }

    /// .
    DC_DC8051_CFG_HOST_CMD_1 = 0x602030, rw, reset 0, "" {
        COMPLETED [0:0],
        RETURN_CODE [15:8],
        RSP_DATA [63:16],
    }

    /// .
    DC_DC8051_CFG_LOCAL_GUID = 0x602038, ro, reset 0, "" {}

    /// .
    DC_DC8051_STS_REMOTE_GUID = 0x602040, ro, reset 0, "" {}

    /// .
    DC_DC8051_STS_REMOTE_NODE_TYPE = 0x602048, ro, reset 0, "" {
        VAL [1:0],
    }

    /// .
    DC_DC8051_STS_LOCAL_FM_SECURITY = 0x602050, ro, reset 0, "" {
        DISABLED [0:0],
    }

    /// .
    DC_DC8051_STS_REMOTE_FM_SECURITY = 0x602058, ro, reset 0, "" {}

    /// .
    DC_DC8051_STS_CUR_STATE = 0x602060, ro, reset 0, "" {
        PORT [7:0],
        FIRMWARE [23:16],
    }

    /// .
    DC_DC8051_CFG_RST = 0x602068, rw, reset 0, "" {
        M8051W [0:0],
        CRAM [1:1],
        DRAM [2:2],
        IRAM [3:3],
        SFR [4:4],
    }

    /// .
    DC_DC8051_CFG_MODE = 0x602070, rw, reset 0, "" {}

    /// .
    DC_DC8051_DBG_ERR_INFO_SET_BY_8051 = 0x6020d8, rw, reset 0, "" {
        HOST_MSG [15:0],
        ERROR [47:16],
    }

    /// .
    DC_DC8051_ERR_FLG = 0x6020e0, ro, reset 0, "" {
        SET_BY_8051 [0:0],
        LOST_8051_HEART_BEAT [1:1],
        CRAM_MBE [2:2],
        CRAM_SBE [3:3],
        DRAM_MBE [4:4],
        DRAM_SBE [5:5],
        IRAM_MBE [6:6],
        IRAM_SBE [7:7],
        UNMATCHED_SECURE_MSG_ACROSS_BCC_LANES [8:8],
        INVALID_CSR_ADDR [10:10],
    }

    /// .
    DC_DC8051_ERR_CLR = 0x6020e8, w1c, reset 0, "" {}

    /// .
    DC_DC8051_ERR_EN = 0x6020f0, rw, reset 0, "" {
        LOST_8051_HEART_BEAT [1:1],
    }

    /// .
    DC_DC8051_CFG_CSR_ACCESS_SEL = 0x602110, rw, reset 0, "" {
        LCB [0:0],
        DCC [1:1],
    }

    /// .
    DC_DC8051_CFG_EXT_DEV_0 = 0x602118, rw, reset 0, "" {
        COMPLETED [0:0],
        RETURN_CODE [15:8],
        RSP_DATA [63:16],
    }

    /// .
    DC_DC8051_CFG_EXT_DEV_1 = 0x602120, rw, reset 0, "" {
        REQ_NEW [0:0],
        REQ_TYPE [15:8],
        REQ_DATA [31:16],
    }

    /// .
    DC_DC8051_STS_REMOTE_PORT_NO = 0x602130, ro, reset 0, "" {
        VAL [7:0],
    }
}
