//! Registers of the 8051 microcontroller that trains the link: memory access, mailboxes, state.

use super::csrs;

csrs! {
    /// Which memory the host reaches (1 code, 0 data) and whether the address counts up.
    DC_DC8051_CFG_RAM_ACCESS_SETUP = 0x602000, rw, reset 0, "firmware.c:write_8051" {
        RAM_SEL [0:0],
        AUTO_INCR_ADDR [8:8],
    }

    /// Byte address in the memory, and the start of a read or of writes.
    DC_DC8051_CFG_RAM_ACCESS_CTRL = 0x602008, rw, reset 0, "firmware.c:read_8051_data" {
        ADDRESS [14:0],
        READ_ENA [16:16],
        WRITE_ENA [24:24],
    }

    /// 8 bytes to write.
    DC_DC8051_CFG_RAM_ACCESS_WR_DATA = 0x602010, rw, reset 0, "firmware.c:write_8051" {}

    /// Whether the access is done.
    DC_DC8051_CFG_RAM_ACCESS_STATUS = 0x602018, ro, reset 0, "firmware.c:__read_8051_data" {
        ACCESS_COMPLETED [16:16],
    }

    /// 8 bytes read, from the address rounded down to a multiple of 8.
    DC_DC8051_CFG_RAM_ACCESS_RD_DATA = 0x602020, ro, reset 0, "firmware.c:__read_8051_data" {}

    /// Command from the host, HCMD_*; REQ_NEW starts it and the host takes it away after the answer.
    DC_DC8051_CFG_HOST_CMD_0 = 0x602028, rw, reset 0, "chip.c:do_8051_command" {
        REQ_NEW [0:0],
        REQ_TYPE [15:8],
        REQ_DATA [63:16],
    }

    /// The 8051's answer; COMPLETED stands until REQ_NEW goes away.
    DC_DC8051_CFG_HOST_CMD_1 = 0x602030, ro, reset 0, "chip.c:do_8051_command" {
        COMPLETED [0:0],
        RETURN_CODE [15:8],
        RSP_DATA [63:16],
    }

    /// GUID of this port; bit 39 is the number of the HFI.
    DC_DC8051_CFG_LOCAL_GUID = 0x602038, ro, reset 0, "firmware.c:read_guid" {}

    /// GUID of the peer's node, valid while the link is up.
    DC_DC8051_STS_REMOTE_GUID = 0x602040, ro, reset 0, "intr.c:handle_linkup_change" {}

    /// What the peer is: 0 an HFI, 1 a switch.
    DC_DC8051_STS_REMOTE_NODE_TYPE = 0x602048, ro, reset 0, "intr.c:handle_linkup_change" {
        VAL [1:0],
    }

    /// Whether this side's checks on the fabric manager are off.
    DC_DC8051_STS_LOCAL_FM_SECURITY = 0x602050, ro, reset 0, "chip_registers.h" {
        DISABLED [0:0],
    }

    /// Whether the peer's checks on the fabric manager are off.
    DC_DC8051_STS_REMOTE_FM_SECURITY = 0x602058, ro, reset 0, "intr.c:handle_linkup_change" {
        DISABLED [0:0],
    }

    /// Physical link state (PLS_*), and the firmware's own: 0xa0 is ready for commands.
    DC_DC8051_STS_CUR_STATE = 0x602060, ro, reset 0x90, "chip.c:read_physical_state" {
        PORT [7:0],
        FIRMWARE [23:16],
    }

    /// Holds the 8051 or its memories in reset.
    DC_DC8051_CFG_RST = 0x602068, rw, reset 0, "chip.c:_dc_shutdown" {
        M8051W [0:0],
        CRAM [1:1],
        DRAM [2:2],
        IRAM [3:3],
        SFR [4:4],
    }

    /// Modes of the 8051's firmware.
    DC_DC8051_CFG_MODE = 0x602070, rw, reset 0, "chip.c:init_loopback" {
        DISABLE_SELF_GUID_CHECK [1:1],
    }

    /// What the 8051 has to tell, see chip::host_msg; valid with DC_DC8051_ERR_FLG.SET_BY_8051.
    DC_DC8051_DBG_ERR_INFO_SET_BY_8051 = 0x6020d8, ro, reset 0, "chip.c:handle_8051_interrupt" {
        HOST_MSG [15:0],
        ERROR [47:16],
    }

    /// Events and errors of the 8051; a bit stays until cleared through DC_DC8051_ERR_CLR.
    DC_DC8051_ERR_FLG = 0x6020e0, ro, reset 0, "chip.c:is_dc_int" {
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

    /// Clears bits of DC_DC8051_ERR_FLG.
    DC_DC8051_ERR_CLR = 0x6020e8, w1c, reset 0, "chip.c:interrupt_clear_down" {}

    /// Events that raise the 8051's interrupt, 1 = enabled; bits as in DC_DC8051_ERR_FLG.
    DC_DC8051_ERR_EN = 0x6020f0, rw, reset 0, "chip.c:init_other" {
        LOST_8051_HEART_BEAT [1:1],
    }

    /// Who owns the registers: a bit for LCB and one for DCC, 1 = the host.
    DC_DC8051_CFG_CSR_ACCESS_SEL = 0x602110, rw, reset 0, "chip.c:set_host_lcb_access" {
        LCB [0:0],
        DCC [1:1],
    }

    /// The host's answer to a request of the 8051; also carries data of a long host command.
    DC_DC8051_CFG_EXT_DEV_0 = 0x602118, rw, reset 0, "chip.c:hreq_response" {
        COMPLETED [0:0],
        RETURN_CODE [15:8],
        RSP_DATA [31:16],
    }

    /// Request from the 8051, HREQ_*; also carries data of a long answer.
    DC_DC8051_CFG_EXT_DEV_1 = 0x602120, ro, reset 0, "chip.c:handle_8051_request" {
        REQ_NEW [0:0],
        REQ_TYPE [15:8],
        REQ_DATA [31:16],
    }

    /// Port number at the peer.
    DC_DC8051_STS_REMOTE_PORT_NO = 0x602130, ro, reset 0, "intr.c:handle_linkup_change" {
        VAL [7:0],
    }
}
