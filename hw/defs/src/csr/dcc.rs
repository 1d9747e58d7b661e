//! DCC registers, the common part of the link side: reset, logical link state, LID, errors and port counters.

use super::csrs;

csrs! {
    /// Holds parts of the DC in reset.
    DCC_CFG_RESET = 0x600000, rw, reset 0, "chip.c:lcb_shutdown" {
        RESET_LCB [0:0],
        RESET_TX_FPE [1:1],
        RESET_RX_FPE [2:2],
        RESET_8051 [3:3],
        ENABLE_CCLK_BCC [4:4],
    }

    /// Logical link state, wanted when written and actual when read, and largest MTU (7 = 10240).
    DCC_CFG_PORT_CONFIG = 0x600008, rw, reset 0, "chip.c:set_logical_state" {
        MTU_CAP [34:32],
        LINK_STATE [50:48],
    }

    /// LID of the port and which of its bits count for received packets.
    DCC_CFG_PORT_CONFIG1 = 0x600010, rw, reset 0, "chip.c:set_lidlmc" {
        TARGET_DLID [15:0],
        DLID_MASK [31:16],
    }

    /// VL of service classes 0 to 15 for received packets, 4 bits each.
    DCC_CFG_SC_VL_TABLE_15_0 = 0x600028, rw, reset 0, "chip.c:set_sc2vlnt" {
        ENTRY0 [3:0],
        ENTRY1 [7:4],
        ENTRY2 [11:8],
        ENTRY3 [15:12],
        ENTRY4 [19:16],
        ENTRY5 [23:20],
        ENTRY6 [27:24],
        ENTRY7 [31:28],
        ENTRY8 [35:32],
        ENTRY9 [39:36],
        ENTRY10 [43:40],
        ENTRY11 [47:44],
        ENTRY12 [51:48],
        ENTRY13 [55:52],
        ENTRY14 [59:56],
        ENTRY15 [63:60],
    }

    /// VL of service classes 16 to 31 for received packets, 4 bits each.
    DCC_CFG_SC_VL_TABLE_31_16 = 0x600030, rw, reset 0, "chip.c:set_sc2vlnt" {
        ENTRY16 [3:0],
        ENTRY17 [7:4],
        ENTRY18 [11:8],
        ENTRY19 [15:12],
        ENTRY20 [19:16],
        ENTRY21 [23:20],
        ENTRY22 [27:24],
        ENTRY23 [31:28],
        ENTRY24 [35:32],
        ENTRY25 [39:36],
        ENTRY26 [43:40],
        ENTRY27 [47:44],
        ENTRY28 [51:48],
        ENTRY29 [55:52],
        ENTRY30 [59:56],
        ENTRY31 [63:60],
    }

    /// The port's LED: 0 the DC's, 0x10 off, 0x1f on.
    DCC_CFG_LED_CNTRL = 0x600040, rw, reset 0, "hfi.h:setextled" {
        LED_SW_BLINK_RATE [3:0],
        LED_CNTRL [4:4],
    }

    /// Errors of the DCC; a bit stays until cleared through DCC_ERR_FLG_CLR.
    DCC_ERR_FLG = 0x600050, ro, reset 0, "chip.c:is_dc_int" {
        BAD_L2_ERR [1:1],
        BAD_SC_ERR [2:2],
        BAD_MID_TAIL_ERR [3:3],
        BAD_PREEMPTION_ERR [4:4],
        PREEMPTION_ERR [5:5],
        PREEMPTIONVL15_ERR [6:6],
        BAD_VL_MARKER_ERR [7:7],
        BAD_DLID_TARGET_ERR [9:9],
        BAD_LVER_ERR [10:10],
        UNCORRECTABLE_ERR [13:13],
        BAD_CRDT_ACK_ERR [14:14],
        UNSUP_PKT_TYPE [15:15],
        BAD_CTRL_FLIT_ERR [16:16],
        EVENT_CNTR_PARITY_ERR [17:17],
        EVENT_CNTR_ROLLOVER_ERR [18:18],
        LINK_ERR [19:19],
        MISC_CNTR_ROLLOVER_ERR [20:20],
        BAD_CTRL_DIST_ERR [21:21],
        BAD_TAIL_DIST_ERR [22:22],
        BAD_HEAD_DIST_ERR [23:23],
        NONVL15_STATE_ERR [24:24],
        VL15_MULTI_ERR [25:25],
        BAD_PKT_LENGTH_ERR [26:26],
        UNSUP_VL_ERR [27:27],
        PERM_NVL15_ERR [28:28],
        SLID_ZERO_ERR [29:29],
        DLID_ZERO_ERR [30:30],
        LENGTH_MTU_ERR [31:31],
        RX_EARLY_DROP_ERR [33:33],
        LATE_SHORT_ERR [34:34],
        LATE_LONG_ERR [35:35],
        LATE_EBP_ERR [36:36],
        FPE_TX_FIFO_OVFLW_ERR [37:37],
        FPE_TX_FIFO_UNFLW_ERR [38:38],
        CSR_ACCESS_BLOCKED_HOST [39:39],
        CSR_ACCESS_BLOCKED_UC [40:40],
        TX_CTRL_PARITY_ERR [41:41],
        TX_CTRL_PARITY_MBE_ERR [42:42],
        TX_SC_PARITY_ERR [43:43],
        RX_CTRL_PARITY_MBE_ERR [44:44],
        CSR_PARITY_ERR [45:45],
        CSR_INVAL_ADDR [46:46],
        TX_BYTE_SHFT_PARITY_ERR [47:47],
        RX_BYTE_SHFT_PARITY_ERR [48:48],
        FMCONFIG_ERR [54:54],
        RCVPORT_ERR [55:55],
    }

    /// Errors that raise the DCC interrupt, 1 = enabled; bits as in DCC_ERR_FLG.
    DCC_ERR_FLG_EN = 0x600058, rw, reset 0, "chip.c:init_other" {
        CSR_ACCESS_BLOCKED_HOST [39:39],
        CSR_ACCESS_BLOCKED_UC [40:40],
    }

    /// Clears bits of DCC_ERR_FLG.
    DCC_ERR_FLG_CLR = 0x600060, w1c, reset 0, "chip.c:interrupt_clear_down" {}

    /// Code of the last bad packet received.
    DCC_ERR_INFO_PORTRCV = 0x600078, ro, reset 0, "chip.c:handle_dcc_err" {}

    /// First header flit of that packet.
    DCC_ERR_INFO_PORTRCV_HDR0 = 0x600080, ro, reset 0, "chip.c:handle_dcc_err" {}

    /// Second header flit of that packet.
    DCC_ERR_INFO_PORTRCV_HDR1 = 0x600088, ro, reset 0, "chip.c:handle_dcc_err" {}

    /// Code of the last error that the fabric manager's configuration caused.
    DCC_ERR_INFO_FMCONFIG = 0x600090, ro, reset 0, "chip.c:handle_dcc_err" {}

    /// Code of the last uncorrectable error.
    DCC_ERR_INFO_UNCORRECTABLE = 0x600098, ro, reset 0, "chip.c:handle_dcc_err" {}

    /// Counter of uncorrectable errors; writing 0 clears.
    DCC_ERR_UNCORRECTABLE_CNT = 0x600100, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of bad packets received; writing 0 clears, done at each link-up.
    DCC_ERR_PORTRCV_ERR_CNT = 0x600108, rw, reset 0, "mad.c:clear_linkup_counters" {}

    /// Counter of errors of the fabric manager's configuration; writing 0 clears.
    DCC_ERR_FMCONFIG_ERR_CNT = 0x600110, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of packets that a port before this one marked as bad; writing 0 clears.
    DCC_ERR_RCVREMOTE_PHY_ERR_CNT = 0x600118, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of packets dropped; writing 0 clears.
    DCC_ERR_DROPPED_PKT_CNT = 0x600120, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of multicast packets sent; writing 0 clears.
    DCC_PRF_PORT_XMIT_MULTICAST_CNT = 0x600128, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of multicast packets received; writing 0 clears.
    DCC_PRF_PORT_RCV_MULTICAST_PKT_CNT = 0x600130, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of corrected errors on transmit; writing 0 clears.
    DCC_PRF_PORT_XMIT_CORRECTABLE_CNT = 0x600138, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of corrected errors on receive; writing 0 clears.
    DCC_PRF_PORT_RCV_CORRECTABLE_CNT = 0x600140, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of flow-control flits received; writing 0 clears.
    DCC_PRF_RX_FLOW_CRTL_CNT = 0x600180, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of flow-control flits sent; writing 0 clears.
    DCC_PRF_TX_FLOW_CRTL_CNT = 0x600188, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counter of flits (8 bytes) sent; writing 0 clears.
    DCC_PRF_PORT_XMIT_DATA_CNT = 0x600190, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of flits (8 bytes) received; writing 0 clears.
    DCC_PRF_PORT_RCV_DATA_CNT = 0x600198, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of packets sent; writing 0 clears.
    DCC_PRF_PORT_XMIT_PKTS_CNT = 0x6001a0, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of packets received; writing 0 clears.
    DCC_PRF_PORT_RCV_PKTS_CNT = 0x6001a8, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counters of flits received on VL 0 to 7 and 15; writing 0 clears.
    DCC_PRF_PORT_VL_RCV_DATA_CNT = 0x6001b0 [9; 0x8], rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counters of packets received on VL 0 to 7 and 15; writing 0 clears.
    DCC_PRF_PORT_VL_RCV_PKTS_CNT = 0x6001f8 [9; 0x8], rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of packets received with FECN; writing 0 clears.
    DCC_PRF_PORT_RCV_FECN_CNT = 0x600240, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counters of packets received with FECN on VL 0 to 7 and 15; writing 0 clears.
    DCC_PRF_PORT_VL_RCV_FECN_CNT = 0x600248 [9; 0x8], rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of packets received with BECN; writing 0 clears.
    DCC_PRF_PORT_RCV_BECN_CNT = 0x600290, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counters of packets received with BECN on VL 0 to 7 and 15; writing 0 clears.
    DCC_PRF_PORT_VL_RCV_BECN_CNT = 0x600298 [9; 0x8], rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of idle flits inside received packets; writing 0 clears.
    DCC_PRF_PORT_RCV_BUBBLE_CNT = 0x6002e0, rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counters of idle flits inside packets received on VL 0 to 7 and 15; writing 0 clears.
    DCC_PRF_PORT_VL_RCV_BUBBLE_CNT = 0x6002e8 [9; 0x8], rw, reset 0, "mad.c:pma_set_opa_portstatus" {}

    /// Counter of packets that this port marked with FECN; writing 0 clears.
    DCC_PRF_PORT_MARK_FECN_CNT = 0x600330, rw, reset 0, "chip.c:dev_cntrs" {}

    /// Counters of packets marked with FECN on VL 0 to 7 and 15; writing 0 clears.
    DCC_PRF_PORT_VL_MARK_FECN_CNT = 0x600338 [9; 0x8], rw, reset 0, "chip.c:dev_cntrs" {}
}
