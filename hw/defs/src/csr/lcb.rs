//! Registers of the LCB block.

use super::csrs;

csrs! {
    /// .
    DC_LCB_CFG_RUN = 0x601000, rw, reset 0, "" {
        EN [63:0],
    }

    /// .
    DC_LCB_CFG_TX_FIFOS_RESET = 0x601008, rw, reset 0, "" {
        VAL [63:0],
    }

    /// .
    DC_LCB_CFG_TX_FIFOS_RADR = 0x601010, rw, reset 0, "" {
        RST_VAL [63:0],
    }

    /// .
    DC_LCB_CFG_RX_FIFOS_RADR = 0x601018, rw, reset 0, "" {
        RST_VAL [3:0],
        OK_TO_JUMP_VAL [7:4],
        DO_NOT_JUMP_VAL [63:8],
    }

    /// .
    DC_LCB_CFG_IGNORE_LOST_RCLK = 0x601020, rw, reset 0, "" {
        EN [0:0],
    }

    /// .
    DC_LCB_CFG_REINIT_AS_SLAVE = 0x601030, rw, reset 0, "" {}

    /// .
    DC_LCB_CFG_CNT_FOR_SKIP_STALL = 0x601040, rw, reset 0, "" {}

    /// .
    DC_LCB_CFG_CRC_MODE = 0x601058, rw, reset 0, "" {
        TX_VAL [63:0],
    }

    /// .
    DC_LCB_CFG_LN_DCLK = 0x601060, rw, reset 0, "" {}

    /// .
    DC_LCB_CFG_LOOPBACK = 0x6010f8, rw, reset 0, "" {
        VAL [63:0],
    }

    /// .
    DC_LCB_CFG_LANE_WIDTH = 0x601100, rw, reset 0, "" {}

    /// .
    DC_LCB_CFG_CLK_CNTR = 0x601110, rw, reset 0, "" {}

    /// .
    DC_LCB_CFG_LINK_KILL_EN = 0x601120, rw, reset 0, "" {
        FLIT_INPUT_BUF_MBE [20:20],
        REPLAY_BUF_MBE [22:22],
    }

    /// .
    DC_LCB_CFG_ALLOW_LINK_UP = 0x601128, rw, reset 0, "" {
        VAL [63:0],
    }

    /// .
    DC_LCB_ERR_FLG = 0x601300, ro, reset 0, "" {
        CSR_PARITY_ERR [0:0],
        INVALID_CSR_ADDR [1:1],
        RST_FOR_FAILED_DESKEW [2:2],
        ALL_LNS_FAILED_REINIT_TEST [3:3],
        LOST_REINIT_STALL_OR_TOS [4:4],
        TX_LESS_THAN_FOUR_LNS [5:5],
        RX_LESS_THAN_FOUR_LNS [6:6],
        SEQ_CRC_ERR [7:7],
        REINIT_FROM_PEER [8:8],
        REINIT_FOR_LN_DEGRADE [9:9],
        CRC_ERR_CNT_HIT_LIMIT [10:10],
        RCLK_STOPPED [11:11],
        UNEXPECTED_REPLAY_MARKER [12:12],
        UNEXPECTED_ROUND_TRIP_MARKER [13:13],
        ILLEGAL_NULL_LTP [14:14],
        ILLEGAL_FLIT_ENCODING [15:15],
        FLIT_INPUT_BUF_OFLW [16:16],
        VL_ACK_INPUT_BUF_OFLW [17:17],
        VL_ACK_INPUT_PARITY_ERR [18:18],
        VL_ACK_INPUT_WRONG_CRC_MODE [19:19],
        FLIT_INPUT_BUF_MBE [20:20],
        FLIT_INPUT_BUF_SBE [21:21],
        REPLAY_BUF_MBE [22:22],
        REPLAY_BUF_SBE [23:23],
        CREDIT_RETURN_FLIT_MBE [24:24],
        RST_FOR_LINK_TIMEOUT [25:25],
        RST_FOR_INCOMPLT_RND_TRIP [26:26],
        HOLD_REINIT [27:27],
        NEG_EDGE_LINK_TRANSFER_ACTIVE [28:28],
        REDUNDANT_FLIT_PARITY_ERR [29:29],
    }

    /// .
    DC_LCB_ERR_CLR = 0x601308, w1c, reset 0, "" {}

    /// .
    DC_LCB_ERR_EN = 0x601310, rw, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_TOTAL_CRC_ERR = 0x601320, rw, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_CRC_ERR_LN0 = 0x601328, rw, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_CRC_ERR_LN1 = 0x601330, rw, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_CRC_ERR_LN2 = 0x601338, rw, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_CRC_ERR_LN3 = 0x601340, rw, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_CRC_ERR_MULTI_LN = 0x601348, rw, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_TX_REPLAY_CNT = 0x601350, ro, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_RX_REPLAY_CNT = 0x601358, ro, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_SEQ_CRC_CNT = 0x601360, ro, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_ESCAPE_0_ONLY_CNT = 0x601368, ro, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_ESCAPE_0_PLUS1_CNT = 0x601370, ro, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_ESCAPE_0_PLUS2_CNT = 0x601378, ro, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_REINIT_FROM_PEER_CNT = 0x601380, ro, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_SBE_CNT = 0x601388, ro, reset 0, "" {}

    /// .
    DC_LCB_ERR_INFO_MISC_FLG_CNT = 0x601390, ro, reset 0, "" {}

    /// .
    DC_LCB_PRF_GOOD_LTP_CNT = 0x601400, ro, reset 0, "" {}

    /// .
    DC_LCB_PRF_ACCEPTED_LTP_CNT = 0x601408, ro, reset 0, "" {}

    /// .
    DC_LCB_PRF_RX_FLIT_CNT = 0x601410, ro, reset 0, "" {}

    /// .
    DC_LCB_PRF_TX_FLIT_CNT = 0x601418, ro, reset 0, "" {}

    /// .
    DC_LCB_PRF_CLK_CNTR = 0x601420, rw, reset 0, "" {}

    /// .
    DC_LCB_STS_LINK_TRANSFER_ACTIVE = 0x601468, ro, reset 0, "" {}

    /// .
    DC_LCB_STS_ROUND_TRIP_LTP_CNT = 0x6014b0, ro, reset 0, "" {}

    /// .
    DC_LCB_PG_DBG_FLIT_CRDTS_CNT = 0x601580, ro, reset 0, "" {}

    /// .
    DC_LCB_PG_STS_PAUSE_COMPLETE_CNT = 0x6015f8, ro, reset 0, "" {}

    /// .
    DC_LCB_PG_STS_TX_SBE_CNT = 0x601600, ro, reset 0, "" {}

    /// .
    DC_LCB_PG_STS_TX_MBE_CNT = 0x601608, ro, reset 0, "" {}
}
