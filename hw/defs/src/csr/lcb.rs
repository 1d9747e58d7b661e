//! LCB registers, the link control block: link transfer, loopback, link errors and counters.

use super::csrs;

csrs! {
    /// Lets the LCB run.
    DC_LCB_CFG_RUN = 0x601000, rw, reset 0, "chip.c:do_quick_linkup" {
        EN [0:0],
    }

    /// 1 holds the transmit FIFOs in reset.
    DC_LCB_CFG_TX_FIFOS_RESET = 0x601008, rw, reset 0, "chip.c:init_lcb" {
        VAL [0:0],
    }

    /// Read address of the transmit FIFOs after reset; for FPGAs only.
    DC_LCB_CFG_TX_FIFOS_RADR = 0x601010, rw, reset 0, "chip.c:adjust_lcb_for_fpga_serdes" {
        RST_VAL [3:0],
    }

    /// Read addresses of the receive FIFOs; for FPGAs only.
    DC_LCB_CFG_RX_FIFOS_RADR = 0x601018, rw, reset 0, "chip.c:adjust_lcb_for_fpga_serdes" {
        RST_VAL [3:0],
        OK_TO_JUMP_VAL [7:4],
        DO_NOT_JUMP_VAL [11:8],
    }

    /// Goes on without the receive clock.
    DC_LCB_CFG_IGNORE_LOST_RCLK = 0x601020, rw, reset 0, "chip.c:force_logical_link_state_down" {
        EN [0:0],
    }

    /// Takes the slave's part when the link is initialized again.
    DC_LCB_CFG_REINIT_AS_SLAVE = 0x601030, rw, reset 0, "chip.c:init_lcb" {}

    /// How often flow is held for clock compensation; the driver writes 0x110.
    DC_LCB_CFG_CNT_FOR_SKIP_STALL = 0x601040, rw, reset 0, "chip.c:init_lcb" {}

    /// Link CRC, LCB_CRC_*.
    DC_LCB_CFG_CRC_MODE = 0x601058, rw, reset 0, "chip.c:handle_verify_cap" {
        TX_VAL [1:0],
    }

    /// Clock of the lanes; for FPGAs only.
    DC_LCB_CFG_LN_DCLK = 0x601060, rw, reset 0, "chip.c:adjust_lcb_for_fpga_serdes" {}

    /// 2 loops the LCB; also set by every init of the LCB, until it is reset.
    DC_LCB_CFG_LOOPBACK = 0x6010f8, rw, reset 0, "chip.c:do_quick_linkup" {
        VAL [1:0],
    }

    /// Lanes in use; 0 in loopback.
    DC_LCB_CFG_LANE_WIDTH = 0x601100, rw, reset 0, "chip.c:do_quick_linkup" {}

    /// Setting of the clock counter; the driver writes 8.
    DC_LCB_CFG_CLK_CNTR = 0x601110, rw, reset 0, "chip.c:init_lcb" {}

    /// Errors that take the link down; for A-step parts.
    DC_LCB_CFG_LINK_KILL_EN = 0x601120, rw, reset 0, "chip.c:handle_verify_cap" {
        FLIT_INPUT_BUF_MBE [20:20],
        REPLAY_BUF_MBE [22:22],
    }

    /// Lets the link go to link transfer.
    DC_LCB_CFG_ALLOW_LINK_UP = 0x601128, rw, reset 0, "chip.c:do_quick_linkup" {
        VAL [0:0],
    }

    /// Errors of the LCB; a bit stays until cleared through DC_LCB_ERR_CLR.
    DC_LCB_ERR_FLG = 0x601300, ro, reset 0, "chip.c:is_dc_int" {
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

    /// Clears bits of DC_LCB_ERR_FLG.
    DC_LCB_ERR_CLR = 0x601308, w1c, reset 0, "chip.c:interrupt_clear_down" {}

    /// Errors that raise the LCB interrupt, 1 = enabled; 0 while the 8051 owns the LCB.
    DC_LCB_ERR_EN = 0x601310, rw, reset 0, "chip.c:handle_verify_cap" {}

    /// Counter of link CRC errors; writing 0 clears.
    DC_LCB_ERR_INFO_TOTAL_CRC_ERR = 0x601320, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of link CRC errors on lane 0; writing 0 clears.
    DC_LCB_ERR_INFO_CRC_ERR_LN0 = 0x601328, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of link CRC errors on lane 1; writing 0 clears.
    DC_LCB_ERR_INFO_CRC_ERR_LN1 = 0x601330, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of link CRC errors on lane 2; writing 0 clears.
    DC_LCB_ERR_INFO_CRC_ERR_LN2 = 0x601338, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of link CRC errors on lane 3; writing 0 clears.
    DC_LCB_ERR_INFO_CRC_ERR_LN3 = 0x601340, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of link CRC errors on several lanes; writing 0 clears.
    DC_LCB_ERR_INFO_CRC_ERR_MULTI_LN = 0x601348, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of replays sent; writing 0 clears.
    DC_LCB_ERR_INFO_TX_REPLAY_CNT = 0x601350, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of replays asked for; writing 0 clears, done at each link-up.
    DC_LCB_ERR_INFO_RX_REPLAY_CNT = 0x601358, rw, reset 0, "mad.c:clear_linkup_counters" {}

    /// Counter of CRC errors one after the other; writing 0 clears, done at each link-up.
    DC_LCB_ERR_INFO_SEQ_CRC_CNT = 0x601360, rw, reset 0, "mad.c:clear_linkup_counters" {}

    /// Counter of escape 0 events alone; writing 0 clears.
    DC_LCB_ERR_INFO_ESCAPE_0_ONLY_CNT = 0x601368, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of escape 0 events with one more; writing 0 clears.
    DC_LCB_ERR_INFO_ESCAPE_0_PLUS1_CNT = 0x601370, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of escape 0 events with two more; writing 0 clears.
    DC_LCB_ERR_INFO_ESCAPE_0_PLUS2_CNT = 0x601378, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of link re-inits by the peer; writing 0 clears, done at each link-up.
    DC_LCB_ERR_INFO_REINIT_FROM_PEER_CNT = 0x601380, rw, reset 0, "mad.c:clear_linkup_counters" {}

    /// Counter of single-bit errors; writing 0 clears.
    DC_LCB_ERR_INFO_SBE_CNT = 0x601388, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of other error flags; writing 0 clears.
    DC_LCB_ERR_INFO_MISC_FLG_CNT = 0x601390, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of good link-transfer packets; writing 0 clears.
    DC_LCB_PRF_GOOD_LTP_CNT = 0x601400, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of accepted link-transfer packets; writing 0 clears.
    DC_LCB_PRF_ACCEPTED_LTP_CNT = 0x601408, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of flits received; writing 0 clears.
    DC_LCB_PRF_RX_FLIT_CNT = 0x601410, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of flits sent; writing 0 clears.
    DC_LCB_PRF_TX_FLIT_CNT = 0x601418, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of link clock ticks; writing 0 clears.
    DC_LCB_PRF_CLK_CNTR = 0x601420, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Whether link transfer is active.
    DC_LCB_STS_LINK_TRANSFER_ACTIVE = 0x601468, ro, reset 0, "chip.c:wait_link_transfer_active" {
        VAL [0:0],
    }

    /// Round trip to the peer in link-transfer packets, measured at link-up.
    DC_LCB_STS_ROUND_TRIP_LTP_CNT = 0x6014b0, ro, reset 0, "chip.c:handle_link_up" {}

    /// Counter of flit credits, for debugging; writing 0 clears.
    DC_LCB_PG_DBG_FLIT_CRDTS_CNT = 0x601580, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of completed pauses; writing 0 clears.
    DC_LCB_PG_STS_PAUSE_COMPLETE_CNT = 0x6015f8, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of single-bit errors on transmit; writing 0 clears.
    DC_LCB_PG_STS_TX_SBE_CNT = 0x601600, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of multi-bit errors on transmit; writing 0 clears.
    DC_LCB_PG_STS_TX_MBE_CNT = 0x601608, rw, reset 0, "chip.c:dev_cntrs" {}
}
