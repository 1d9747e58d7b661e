//! Registers of the DCC block.

use super::csrs;

csrs! {
    /// .
    DCC_CFG_RESET = 0x600000, rw, reset 0, "" {
        RESET_LCB [0:0],
        RESET_TX_FPE [1:1],
        RESET_RX_FPE [2:2],
        RESET_8051 [3:3],
        ENABLE_CCLK_BCC [4:4],
    }

    /// .
    DCC_CFG_PORT_CONFIG = 0x600008, rw, reset 0, "" {
        MTU_CAP [34:32],
        LINK_STATE [50:48],
    }

    /// .
    DCC_CFG_PORT_CONFIG1 = 0x600010, rw, reset 0, "" {
        TARGET_DLID [15:0],
        DLID_MASK [31:16],
    }

    /// .
    DCC_CFG_SC_VL_TABLE_15_0 = 0x600028, rw, reset 0, "" {
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

    /// .
    DCC_CFG_SC_VL_TABLE_31_16 = 0x600030, rw, reset 0, "" {
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

    /// .
    DCC_CFG_LED_CNTRL = 0x600040, rw, reset 0, "" {
        LED_SW_BLINK_RATE [3:0],
        LED_CNTRL [4:4],
    }

    /// .
    DCC_ERR_FLG = 0x600050, ro, reset 0, "" {
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

    /// .
    DCC_ERR_FLG_EN = 0x600058, ro, reset 0, "" {
        CSR_ACCESS_BLOCKED_HOST [39:39],
        CSR_ACCESS_BLOCKED_UC [40:40],
    }

    /// .
    DCC_ERR_FLG_CLR = 0x600060, ro, reset 0, "" {}

    /// .
    DCC_ERR_INFO_PORTRCV = 0x600078, rw, reset 0, "" {}

    /// .
    DCC_ERR_INFO_PORTRCV_HDR0 = 0x600080, rw, reset 0, "" {}

    /// .
    DCC_ERR_INFO_PORTRCV_HDR1 = 0x600088, rw, reset 0, "" {}

    /// .
    DCC_ERR_INFO_FMCONFIG = 0x600090, rw, reset 0, "" {}

    /// .
    DCC_ERR_INFO_UNCORRECTABLE = 0x600098, rw, reset 0, "" {}

    /// .
    DCC_ERR_UNCORRECTABLE_CNT = 0x600100, ro, reset 0, "" {}

    /// .
    DCC_ERR_PORTRCV_ERR_CNT = 0x600108, ro, reset 0, "" {}

    /// .
    DCC_ERR_FMCONFIG_ERR_CNT = 0x600110, ro, reset 0, "" {}

    /// .
    DCC_ERR_RCVREMOTE_PHY_ERR_CNT = 0x600118, ro, reset 0, "" {}

    /// .
    DCC_ERR_DROPPED_PKT_CNT = 0x600120, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_XMIT_MULTICAST_CNT = 0x600128, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_RCV_MULTICAST_PKT_CNT = 0x600130, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_XMIT_CORRECTABLE_CNT = 0x600138, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_RCV_CORRECTABLE_CNT = 0x600140, ro, reset 0, "" {}

    /// .
    DCC_PRF_RX_FLOW_CRTL_CNT = 0x600180, ro, reset 0, "" {}

    /// .
    DCC_PRF_TX_FLOW_CRTL_CNT = 0x600188, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_XMIT_DATA_CNT = 0x600190, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_RCV_DATA_CNT = 0x600198, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_XMIT_PKTS_CNT = 0x6001a0, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_RCV_PKTS_CNT = 0x6001a8, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_VL_RCV_DATA_CNT = 0x6001b0 [9; 0x8], ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_VL_RCV_PKTS_CNT = 0x6001f8 [9; 0x8], ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_RCV_FECN_CNT = 0x600240, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_VL_RCV_FECN_CNT = 0x600248 [9; 0x8], ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_RCV_BECN_CNT = 0x600290, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_VL_RCV_BECN_CNT = 0x600298 [9; 0x8], ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_RCV_BUBBLE_CNT = 0x6002e0, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_VL_RCV_BUBBLE_CNT = 0x6002e8 [9; 0x8], ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_MARK_FECN_CNT = 0x600330, ro, reset 0, "" {}

    /// .
    DCC_PRF_PORT_VL_MARK_FECN_CNT = 0x600338 [9; 0x8], ro, reset 0, "" {}
}
