//! TXE registers, the transmit engine: global ones, those of each send context and of each SDMA engine.

use super::csrs;

csrs! {
    /// Transmit engine on and off; CM_RESET falls by itself; VLs in UNSUPPORTED_VL send nothing.
    SEND_CTRL = 0x1800000, rw, reset 0, "pio.c:pio_send_control" {
        SEND_ENABLE [0:0],
        VL_ARBITER_ENABLE [1:1],
        CM_RESET [2:2],
        UNSUPPORTED_VL [10:3],
    }

    /// Number of send contexts.
    SEND_CONTEXTS = 0x1800010, ro, reset 0xa0, "chip.h:chip_send_contexts" {}

    /// Number of SDMA engines.
    SEND_DMA_ENGINES = 0x1800018, ro, reset 0x10, "chip.h:chip_sdma_engines" {}

    /// Size of the PIO memory, bytes; the chip's build sets it.
    SEND_PIO_MEM_SIZE = 0x1800020, ro, reset 0, "chip.h:chip_pio_mem_size" {}

    /// Size of the SDMA memory, bytes; the chip's build sets it.
    SEND_DMA_MEM_SIZE = 0x1800028, ro, reset 0, "chip.h:chip_sdma_mem_size" {}

    /// How much may go by the high-priority list before the low one has its turn; 64 times the manager's value.
    SEND_HIGH_PRIORITY_LIMIT = 0x1800030, rw, reset 0, "chip.c:hfi1_set_ib_cfg" {
        LIMIT [13:0],
    }

    /// Initializes one send context's memory, or all; ERR and IN_PROGRESS tell how it went.
    SEND_PIO_INIT_CTXT = 0x1800038, rw, reset 0, "pio.c:sc_enable" {
        PIO_ALL_CTXT_INIT [0:0],
        PIO_SINGLE_CTXT_INIT [1:1],
        PIO_INIT_IN_PROGRESS [2:2],
        PIO_INIT_ERR [3:3],
        PIO_CTXT_NUM [15:8],
    }

    /// Errors of the PIO send path; a bit stays until cleared through SEND_PIO_ERR_CLEAR.
    SEND_PIO_ERR_STATUS = 0x1800040, ro, reset 0, "chip.c:is_misc_err_int" {
        PIO_WRITE_BAD_CTXT_ERR [0:0],
        PIO_WRITE_ADDR_PARITY_ERR [1:1],
        PIO_CSR_PARITY_ERR [2:2],
        PIO_SB_MEM_FIFO0_ERR [3:3],
        PIO_SB_MEM_FIFO1_ERR [4:4],
        PIO_PCC_FIFO_PARITY_ERR [5:5],
        PIO_PEC_FIFO_PARITY_ERR [6:6],
        PIO_SBRDCTL_CRREL_PARITY_ERR [7:7],
        PIO_SBRDCTRL_CRREL_FIFO_PARITY_ERR [8:8],
        PIO_PKT_EVICT_FIFO_PARITY_ERR [9:9],
        PIO_SM_PKT_RESET_PARITY_ERR [10:10],
        PIO_VL_LEN_MEM_BANK0_UNC_ERR [11:11],
        PIO_VL_LEN_MEM_BANK1_UNC_ERR [12:12],
        PIO_VL_LEN_MEM_BANK0_COR_ERR [13:13],
        PIO_VL_LEN_MEM_BANK1_COR_ERR [14:14],
        PIO_CREDIT_RET_FIFO_PARITY_ERR [15:15],
        PIO_PPMC_PBL_FIFO_ERR [16:16],
        PIO_INIT_SM_IN_ERR [17:17],
        PIO_PKT_EVICT_SM_OR_ARB_SM_ERR [18:18],
        PIO_HOST_ADDR_MEM_UNC_ERR [19:19],
        PIO_HOST_ADDR_MEM_COR_ERR [20:20],
        PIO_WRITE_DATA_PARITY_ERR [21:21],
        PIO_STATE_MACHINE_ERR [22:22],
        PIO_WRITE_QW_VALID_PARITY_ERR [23:23],
        PIO_BLOCK_QW_COUNT_PARITY_ERR [24:24],
        PIO_VLF_VL_LEN_PARITY_ERR [25:25],
        PIO_VLF_SOP_PARITY_ERR [26:26],
        PIO_VL_FIFO_PARITY_ERR [27:27],
        PIO_PPMC_BQC_MEM_PARITY_ERR [28:28],
        PIO_PPMC_SOP_LEN_ERR [29:29],
        PIO_CURRENT_FREE_CNT_PARITY_ERR [32:32],
        PIO_LAST_RETURNED_CNT_PARITY_ERR [33:33],
        PIO_PCC_SOP_HEAD_PARITY_ERR [34:34],
        PIO_PEC_SOP_HEAD_PARITY_ERR [35:35],
    }

    /// Errors that raise PIO_ERR_INT, 1 = enabled; bits as in SEND_PIO_ERR_STATUS.
    SEND_PIO_ERR_MASK = 0x1800048, rw, reset 0, "chip.c:init_txe" {}

    /// Clears bits of SEND_PIO_ERR_STATUS.
    SEND_PIO_ERR_CLEAR = 0x1800050, w1c, reset 0, "chip.c:interrupt_clear_down" {
        PIO_INIT_SM_IN_ERR [17:17],
    }

    /// Errors of the SDMA send path; a bit stays until cleared through SEND_DMA_ERR_CLEAR.
    SEND_DMA_ERR_STATUS = 0x1800060, ro, reset 0, "chip.c:is_misc_err_int" {
        SDMA_RPY_TAG_ERR [0:0],
        SDMA_CSR_PARITY_ERR [1:1],
        SDMA_PCIE_REQ_TRACKING_UNC_ERR [2:2],
        SDMA_PCIE_REQ_TRACKING_COR_ERR [3:3],
    }

    /// Errors that raise SDMA_ERR_INT, 1 = enabled; bits as in SEND_DMA_ERR_STATUS.
    SEND_DMA_ERR_MASK = 0x1800068, rw, reset 0, "chip.c:init_txe" {}

    /// Clears bits of SEND_DMA_ERR_STATUS.
    SEND_DMA_ERR_CLEAR = 0x1800070, w1c, reset 0, "chip.c:interrupt_clear_down" {}

    /// Errors on egress; a bit stays until cleared through SEND_EGRESS_ERR_CLEAR.
    SEND_EGRESS_ERR_STATUS = 0x1800080, ro, reset 0, "chip.c:is_misc_err_int" {
        TX_PKT_INTEGRITY_MEM_COR_ERR [0:0],
        TX_PKT_INTEGRITY_MEM_UNC_ERR [1:1],
        TX_EGRESS_FIFO_UNDERRUN_OR_PARITY_ERR [3:3],
        TX_LINKDOWN_ERR [4:4],
        TX_INCORRECT_LINK_STATE_ERR [5:5],
        TX_PIO_LAUNCH_INTF_PARITY_ERR [7:7],
        TX_SDMA_LAUNCH_INTF_PARITY_ERR [8:8],
        TX_SBRD_CTL_STATE_MACHINE_PARITY_ERR [11:11],
        TX_ILLEGAL_VL_ERR [12:12],
        TX_LAUNCH_CSR_PARITY_ERR [13:13],
        TX_SBRD_CTL_CSR_PARITY_ERR [14:14],
        TX_CONFIG_PARITY_ERR [15:15],
        TX_SDMA0_DISALLOWED_PACKET_ERR [16:16],
        TX_SDMA1_DISALLOWED_PACKET_ERR [17:17],
        TX_SDMA2_DISALLOWED_PACKET_ERR [18:18],
        TX_SDMA3_DISALLOWED_PACKET_ERR [19:19],
        TX_SDMA4_DISALLOWED_PACKET_ERR [20:20],
        TX_SDMA5_DISALLOWED_PACKET_ERR [21:21],
        TX_SDMA6_DISALLOWED_PACKET_ERR [22:22],
        TX_SDMA7_DISALLOWED_PACKET_ERR [23:23],
        TX_SDMA8_DISALLOWED_PACKET_ERR [24:24],
        TX_SDMA9_DISALLOWED_PACKET_ERR [25:25],
        TX_SDMA10_DISALLOWED_PACKET_ERR [26:26],
        TX_SDMA11_DISALLOWED_PACKET_ERR [27:27],
        TX_SDMA12_DISALLOWED_PACKET_ERR [28:28],
        TX_SDMA13_DISALLOWED_PACKET_ERR [29:29],
        TX_SDMA14_DISALLOWED_PACKET_ERR [30:30],
        TX_SDMA15_DISALLOWED_PACKET_ERR [31:31],
        TX_LAUNCH_FIFO0_UNC_OR_PARITY_ERR [32:32],
        TX_LAUNCH_FIFO1_UNC_OR_PARITY_ERR [33:33],
        TX_LAUNCH_FIFO2_UNC_OR_PARITY_ERR [34:34],
        TX_LAUNCH_FIFO3_UNC_OR_PARITY_ERR [35:35],
        TX_LAUNCH_FIFO4_UNC_OR_PARITY_ERR [36:36],
        TX_LAUNCH_FIFO5_UNC_OR_PARITY_ERR [37:37],
        TX_LAUNCH_FIFO6_UNC_OR_PARITY_ERR [38:38],
        TX_LAUNCH_FIFO7_UNC_OR_PARITY_ERR [39:39],
        TX_LAUNCH_FIFO8_UNC_OR_PARITY_ERR [40:40],
        TX_CREDIT_RETURN_PARITY_ERR [41:41],
        TX_SB_HDR_UNC_ERR [42:42],
        TX_READ_SDMA_MEMORY_UNC_ERR [43:43],
        TX_READ_PIO_MEMORY_UNC_ERR [44:44],
        TX_EGRESS_FIFO_UNC_ERR [45:45],
        TX_HCRC_INSERTION_ERR [46:46],
        TX_CREDIT_RETURN_VL_ERR [47:47],
        TX_LAUNCH_FIFO0_COR_ERR [48:48],
        TX_LAUNCH_FIFO1_COR_ERR [49:49],
        TX_LAUNCH_FIFO2_COR_ERR [50:50],
        TX_LAUNCH_FIFO3_COR_ERR [51:51],
        TX_LAUNCH_FIFO4_COR_ERR [52:52],
        TX_LAUNCH_FIFO5_COR_ERR [53:53],
        TX_LAUNCH_FIFO6_COR_ERR [54:54],
        TX_LAUNCH_FIFO7_COR_ERR [55:55],
        TX_LAUNCH_FIFO8_COR_ERR [56:56],
        TX_CREDIT_OVERRUN_ERR [57:57],
        TX_SB_HDR_COR_ERR [58:58],
        TX_READ_SDMA_MEMORY_COR_ERR [59:59],
        TX_READ_PIO_MEMORY_COR_ERR [60:60],
        TX_EGRESS_FIFO_COR_ERR [61:61],
        TX_READ_SDMA_MEMORY_CSR_UNC_ERR [62:62],
        TX_READ_PIO_MEMORY_CSR_UNC_ERR [63:63],
    }

    /// Errors that raise EGRESS_ERR_INT, 1 = enabled; bits as in SEND_EGRESS_ERR_STATUS.
    SEND_EGRESS_ERR_MASK = 0x1800088, rw, reset 0, "chip.c:init_txe" {}

    /// Clears bits of SEND_EGRESS_ERR_STATUS.
    SEND_EGRESS_ERR_CLEAR = 0x1800090, w1c, reset 0, "chip.c:interrupt_clear_down" {}

    /// Top byte of the destination QPs that mean KDETH.
    SEND_BTH_QP = 0x18000a0, rw, reset 0, "chip.c:init_kdeth_qp" {
        KDETH_QP [23:16],
    }

    /// Least gap between packets.
    SEND_STATIC_RATE_CONTROL = 0x18000a8, rw, reset 0, "init.c:set_link_ipg" {
        CSR_SRC_RELOAD [15:0],
    }

    /// VL of service classes 0 to 7 for packets to send, 8 bits each.
    SEND_SC2VLT0 = 0x18000b0, rw, reset 0, "mad.c:set_sc2vlt_tables" {
        SC0 [7:0],
        SC1 [15:8],
        SC2 [23:16],
        SC3 [31:24],
        SC4 [39:32],
        SC5 [47:40],
        SC6 [55:48],
        SC7 [63:56],
    }

    /// VL of service classes 8 to 15 for packets to send, 8 bits each.
    SEND_SC2VLT1 = 0x18000b8, rw, reset 0, "mad.c:set_sc2vlt_tables" {
        SC8 [7:0],
        SC9 [15:8],
        SC10 [23:16],
        SC11 [31:24],
        SC12 [39:32],
        SC13 [47:40],
        SC14 [55:48],
        SC15 [63:56],
    }

    /// VL of service classes 16 to 23 for packets to send, 8 bits each.
    SEND_SC2VLT2 = 0x18000c0, rw, reset 0, "mad.c:set_sc2vlt_tables" {
        SC16 [7:0],
        SC17 [15:8],
        SC18 [23:16],
        SC19 [31:24],
        SC20 [39:32],
        SC21 [47:40],
        SC22 [55:48],
        SC23 [63:56],
    }

    /// VL of service classes 24 to 31 for packets to send, 8 bits each.
    SEND_SC2VLT3 = 0x18000c8, rw, reset 0, "mad.c:set_sc2vlt_tables" {
        SC24 [7:0],
        SC25 [15:8],
        SC26 [23:16],
        SC27 [31:24],
        SC28 [39:32],
        SC29 [47:40],
        SC30 [55:48],
        SC31 [63:56],
    }

    /// Longest packet on VL 0 to 3, dwords.
    SEND_LEN_CHECK0 = 0x18000d0, rw, reset 0, "chip.c:set_send_length" {
        LEN_VL0 [11:0],
        LEN_VL1 [23:12],
        LEN_VL2 [35:24],
        LEN_VL3 [47:36],
    }

    /// Longest packet on VL 4 to 7 and 15, dwords.
    SEND_LEN_CHECK1 = 0x18000d8, rw, reset 0, "chip.c:set_send_length" {
        LEN_VL4 [11:0],
        LEN_VL5 [23:12],
        LEN_VL6 [35:24],
        LEN_VL7 [47:36],
        LEN_VL15 [59:48],
    }

    /// Register access errors of the transmit engine; a bit stays until cleared through SEND_ERR_CLEAR.
    SEND_ERR_STATUS = 0x18000e0, ro, reset 0, "chip.c:is_misc_err_int" {
        SEND_CSR_PARITY_ERR [0:0],
        SEND_CSR_READ_BAD_ADDR_ERR [1:1],
        SEND_CSR_WRITE_BAD_ADDR_ERR [2:2],
    }

    /// Errors that raise TXE_ERR_INT, 1 = enabled; bits as in SEND_ERR_STATUS.
    SEND_ERR_MASK = 0x18000e8, rw, reset 0, "chip.c:init_txe" {}

    /// Clears bits of SEND_ERR_STATUS.
    SEND_ERR_CLEAR = 0x18000f0, w1c, reset 0, "chip.c:interrupt_clear_down" {}

    /// VL arbitration, low-priority list: a VL and its weight in 64-byte units.
    SEND_LOW_PRIORITY_LIST = 0x1800100 [16; 0x8], rw, reset 0, "chip.c:fm_set_table" {
        WEIGHT [7:0],
        VL [18:16],
    }

    /// VL arbitration, high-priority list: a VL and its weight in 64-byte units.
    SEND_HIGH_PRIORITY_LIST = 0x1800180 [16; 0x8], rw, reset 0, "chip.c:fm_set_table" {
        WEIGHT [7:0],
        VL [18:16],
    }

    /// A setting for each set of 8 send contexts; 0 as Linux leaves it.
    SEND_CONTEXT_SET_CTRL = 0x1800200 [20; 0x8], rw, reset 0, "chip.c:reset_txe_csrs" {}

    /// Counters of 32 bits, see chip::counter; writing 0 clears.
    SEND_COUNTER_ARRAY32 = 0x1800300 [7; 0x8], rw, reset 0, "chip.c:reset_txe_csrs" {}

    /// Counters of 64 bits, see chip::counter; writing 0 clears.
    SEND_COUNTER_ARRAY64 = 0x1800400 [30; 0x8], rw, reset 0, "chip.c:reset_txe_csrs" {}

    /// Link credit manager: how credits go back to the peer; forced with the 14-bit link CRC.
    SEND_CM_CTRL = 0x1800500, rw, reset 0x20, "chip.c:handle_verify_cap" {
        FORCE_CREDIT_MODE [3:3],
    }

    /// Link credits of the peer: all, those shared by VLs, and the exponent of their unit.
    SEND_CM_GLOBAL_CREDIT = 0x1800508, rw, reset 0x940_0003_0000, "chip.c:set_up_vl15" {
        SHARED_LIMIT [15:0],
        AU [18:16],
        TOTAL_CREDIT_LIMIT [47:32],
    }

    /// VLs with link credits in use.
    SEND_CM_CREDIT_USED_STATUS = 0x1800510, ro, reset 0, "chip.c:wait_for_vl_status_clear" {
        VL0_RETURN_CREDIT_STATUS [48:48],
        VL1_RETURN_CREDIT_STATUS [49:49],
        VL2_RETURN_CREDIT_STATUS [50:50],
        VL3_RETURN_CREDIT_STATUS [51:51],
        VL4_RETURN_CREDIT_STATUS [52:52],
        VL5_RETURN_CREDIT_STATUS [53:53],
        VL6_RETURN_CREDIT_STATUS [54:54],
        VL7_RETURN_CREDIT_STATUS [55:55],
        VL15_RETURN_CREDIT_STATUS [63:63],
    }

    /// How often link credits go back; the driver writes 100.
    SEND_CM_TIMER_CTRL = 0x1800518, rw, reset 0, "chip.c:init_txe" {}

    /// Units that a credit return code of this side stands for, codes 0 to 3.
    SEND_CM_LOCAL_AU_TABLE0_TO3 = 0x1800520, rw, reset 0, "chip.c:assign_local_cm_au_table" {
        LOCAL_AU_TABLE0 [15:0],
        LOCAL_AU_TABLE1 [31:16],
        LOCAL_AU_TABLE2 [47:32],
        LOCAL_AU_TABLE3 [63:48],
    }

    /// Units that a credit return code of this side stands for, codes 4 to 7.
    SEND_CM_LOCAL_AU_TABLE4_TO7 = 0x1800528, rw, reset 0, "chip.c:assign_local_cm_au_table" {
        LOCAL_AU_TABLE4 [15:0],
        LOCAL_AU_TABLE5 [31:16],
        LOCAL_AU_TABLE6 [47:32],
        LOCAL_AU_TABLE7 [63:48],
    }

    /// Units that a credit return code of the peer stands for, codes 0 to 3.
    SEND_CM_REMOTE_AU_TABLE0_TO3 = 0x1800530, rw, reset 0, "chip.c:assign_remote_cm_au_table" {
        REMOTE_AU_TABLE0 [15:0],
        REMOTE_AU_TABLE1 [31:16],
        REMOTE_AU_TABLE2 [47:32],
        REMOTE_AU_TABLE3 [63:48],
    }

    /// Units that a credit return code of the peer stands for, codes 4 to 7.
    SEND_CM_REMOTE_AU_TABLE4_TO7 = 0x1800538, rw, reset 0, "chip.c:assign_remote_cm_au_table" {
        REMOTE_AU_TABLE4 [15:0],
        REMOTE_AU_TABLE5 [31:16],
        REMOTE_AU_TABLE6 [47:32],
        REMOTE_AU_TABLE7 [63:48],
    }

    /// Link credits of a data VL: its own, and what it may take of the shared ones.
    SEND_CM_CREDIT_VL = 0x1800600 [8; 0x8], rw, reset 0, "chip.c:set_vl_dedicated" {
        DEDICATED_LIMIT_VL [15:0],
        SHARED_LIMIT_VL [31:16],
    }

    /// Link credits of VL 15.
    SEND_CM_CREDIT_VL15 = 0x1800678, rw, reset 0, "chip.c:set_up_vl15" {
        DEDICATED_LIMIT_VL [15:0],
    }

    /// A send context's packets on their way out, and whether it is halted there.
    SEND_EGRESS_CTXT_STATUS = 0x1800800 [160; 0x8], ro, reset 0, "pio.c:sc_wait_for_packet_egress" {
        CTXT_EGRESS_PACKET_OCCUPANCY [13:0],
        CTXT_EGRESS_HALT_STATUS [16:16],
    }

    /// An SDMA engine's packets on their way out.
    SEND_EGRESS_SEND_DMA_STATUS = 0x1800e00 [16; 0x8], ro, reset 0, "sdma.c:sdma_wait_for_packet_egress" {
        SDMA_EGRESS_PACKET_OCCUPANCY [13:0],
    }

    /// Which checks have failed, one bit each, for all contexts and engines together.
    SEND_EGRESS_ERR_INFO = 0x1800f00, w1c, reset 0, "chip.c:handle_send_egress_err_info" {
        VL_ERR [1:1],
        JOB_KEY_ERR [2:2],
        PARTITION_KEY_ERR [3:3],
        SLID_ERR [4:4],
        OPCODE_ERR [5:5],
        VL_MAPPING_ERR [6:6],
        RAW_ERR [8:8],
        RAW_IPV6_ERR [9:9],
        GRH_ERR [10:10],
        BYPASS_ERR [11:11],
        KDETH_PACKETS_ERR [12:12],
        NON_KDETH_PACKETS_ERR [13:13],
        TOO_SMALL_IB_PACKETS_ERR [14:14],
        TOO_SMALL_BYPASS_PACKETS_ERR [15:15],
        PBC_TEST_ERR [16:16],
        BAD_PKT_LEN_ERR [17:17],
        TOO_LONG_IB_PACKET_ERR [18:18],
        TOO_LONG_BYPASS_PACKETS_ERR [19:19],
        PBC_STATIC_RATE_CONTROL_ERR [20:20],
    }

    /// Who sent the packet that failed; read before SEND_EGRESS_ERR_INFO.
    SEND_EGRESS_ERR_SOURCE = 0x1800f08, ro, reset 0, "chip.c:handle_send_egress_err_info" {}

    /// A send context on and off, its first block in PIO memory and how many it has.
    SEND_CTXT_CTRL = 0x1900000 [160; 0x100], rw, reset 0, "pio.c:sc_enable" {
        CTXT_ENABLE [0:0],
        CTXT_BASE [45:32],
        CTXT_DEPTH [58:48],
    }

    /// Whether a send context has halted on an error.
    SEND_CTXT_STATUS = 0x1900008 [160; 0x100], ro, reset 0, "pio.c:sc_restart" {
        CTXT_HALTED [0:0],
    }

    /// How many freed blocks make a credit return, when, and whether with an interrupt.
    SEND_CTXT_CREDIT_CTRL = 0x1900010 [160; 0x100], rw, reset 0, "pio.c:sc_set_cr_threshold" {
        THRESHOLD [10:0],
        EARLY_RETURN [16:16],
        CREDIT_INTR [17:17],
    }

    /// Freed blocks: as last returned, and now.
    SEND_CTXT_CREDIT_STATUS = 0x1900018 [160; 0x100], ro, reset 0, "pio.c:seqfile_dump_sci" {
        LAST_RETURNED_COUNTER [10:0],
        CURRENT_FREE_COUNTER [42:32],
    }

    /// DMA address of the credit-return words, 64-byte aligned; a context writes word (context & 7).
    SEND_CTXT_CREDIT_RETURN_ADDR = 0x1900020 [160; 0x100], rw, reset 0, "pio.c:sc_alloc" {
        ADDRESS [47:6],
    }

    /// A change from 0 to 1 forces a credit return.
    SEND_CTXT_CREDIT_FORCE = 0x1900028 [160; 0x100], rw, reset 0, "pio.c:sc_return_credits" {
        FORCE_RETURN [0:0],
    }

    /// Errors of a send context, each halts it; a bit stays until cleared through SEND_CTXT_ERR_CLEAR.
    SEND_CTXT_ERR_STATUS = 0x1900040 [160; 0x100], ro, reset 0, "chip.c:is_sendctxt_err_int" {
        PIO_INCONSISTENT_SOP_ERR [0:0],
        PIO_DISALLOWED_PACKET_ERR [1:1],
        PIO_WRITE_CROSSES_BOUNDARY_ERR [2:2],
        PIO_WRITE_OVERFLOW_ERR [3:3],
        PIO_WRITE_OUT_OF_BOUNDS_ERR [4:4],
    }

    /// Errors that raise the context's error interrupt, 1 = enabled; bits as in SEND_CTXT_ERR_STATUS.
    SEND_CTXT_ERR_MASK = 0x1900048 [160; 0x100], rw, reset 0, "pio.c:sc_alloc" {}

    /// Clears bits of SEND_CTXT_ERR_STATUS.
    SEND_CTXT_ERR_CLEAR = 0x1900050 [160; 0x100], w1c, reset 0, "pio.c:sc_enable" {}

    /// Checks on the packets of a send context, 1 = checked or disallowed.
    SEND_CTXT_CHECK_ENABLE = 0x1900080 [160; 0x100], rw, reset 0, "pio.c:set_pio_integrity" {
        CHECK_ENABLE [0:0],
        CHECK_VL [1:1],
        CHECK_JOB_KEY [2:2],
        CHECK_PARTITION_KEY [3:3],
        CHECK_SLID [4:4],
        CHECK_OPCODE [5:5],
        CHECK_VL_MAPPING [6:6],
        CHECK_BYPASS_VL_MAPPING [7:7],
        DISALLOW_RAW [8:8],
        DISALLOW_RAW_IPV6 [9:9],
        DISALLOW_GRH [10:10],
        DISALLOW_BYPASS [11:11],
        DISALLOW_KDETH_PACKETS [12:12],
        DISALLOW_NON_KDETH_PACKETS [13:13],
        DISALLOW_TOO_SMALL_IB_PACKETS [14:14],
        DISALLOW_TOO_SMALL_BYPASS_PACKETS [15:15],
        DISALLOW_PBC_TEST [16:16],
        DISALLOW_BAD_PKT_LEN [17:17],
        DISALLOW_TOO_LONG_IB_PACKETS [18:18],
        DISALLOW_TOO_LONG_BYPASS_PACKETS [19:19],
        DISALLOW_PBC_STATIC_RATE_CONTROL [20:20],
        DISALLOW_BYPASS_BAD_PKT_LEN [21:21],
    }

    /// VLs that a send context may not use, one bit each.
    SEND_CTXT_CHECK_VL = 0x1900088 [160; 0x100], rw, reset 0, "pio.c:sc_alloc" {
        DISALLOWED_VL [15:0],
    }

    /// Job key that a send context's packets must carry under the mask.
    SEND_CTXT_CHECK_JOB_KEY = 0x1900090 [160; 0x100], rw, reset 0, "chip.c:hfi1_set_ctxt_jkey" {
        VALUE [15:0],
        MASK [31:16],
        ALLOW_PERMISSIVE [32:32],
    }

    /// Partition key that a send context's packets must carry.
    SEND_CTXT_CHECK_PARTITION_KEY = 0x1900098 [160; 0x100], rw, reset 0, "chip.c:hfi1_set_ctxt_pkey" {
        VALUE [15:0],
    }

    /// Source LID that a send context's packets must carry under the mask.
    SEND_CTXT_CHECK_SLID = 0x19000a0 [160; 0x100], rw, reset 0, "chip.c:set_lidlmc" {
        VALUE [15:0],
        MASK [31:16],
    }

    /// BTH opcode that a send context's packets must carry under the mask.
    SEND_CTXT_CHECK_OPCODE = 0x19000a8 [160; 0x100], rw, reset 0, "pio.c:sc_alloc" {
        VALUE [7:0],
        MASK [15:8],
    }

    /// An SDMA engine on and off, halt, clean-up (acts when written 1), interrupts.
    SEND_DMA_CTRL = 0x1a00000 [16; 0x100], rw, reset 0, "sdma.c:sdma_sendctrl" {
        SDMA_ENABLE [0:0],
        SDMA_HALT [1:1],
        SDMA_CLEANUP [2:2],
        SDMA_INT_ENABLE [3:3],
    }

    /// Whether an SDMA engine is halted, and whether its clean-up is done.
    SEND_DMA_STATUS = 0x1a00008 [16; 0x100], ro, reset 0, "sdma.c:sdma_err_halt_wait" {
        ENG_HALTED [56:56],
        ENG_CLEANED_UP [57:57],
    }

    /// DMA address of the descriptor ring.
    SEND_DMA_BASE_ADDR = 0x1a00010 [16; 0x100], rw, reset 0, "sdma.c:init_sdma_regs" {}

    /// Length of the descriptor ring in units of 64; writing generation 0, then 4, starts the generation check.
    SEND_DMA_LEN_GEN = 0x1a00018 [16; 0x100], rw, reset 0, "sdma.c:sdma_setlengen" {
        LENGTH [15:6],
        GENERATION [18:16],
    }

    /// Doorbell: index of the descriptor after the last one that is ready.
    SEND_DMA_TAIL = 0x1a00020 [16; 0x100], rw, reset 0, "sdma.c:sdma_update_tail" {}

    /// Index of the descriptor after the last one that is done.
    SEND_DMA_HEAD = 0x1a00028 [16; 0x100], ro, reset 0, "sdma.c:sdma_gethead" {}

    /// DMA address to which the head is written.
    SEND_DMA_HEAD_ADDR = 0x1a00030 [16; 0x100], rw, reset 0, "sdma.c:init_sdma_regs" {}

    /// Priority threshold of an engine; 0 as Linux leaves it.
    SEND_DMA_PRIORITY_THLD = 0x1a00038 [16; 0x100], rw, reset 0, "sdma.c:sdma_dumpstate" {}

    /// Core clocks left until the idle interrupt.
    SEND_DMA_IDLE_CNT = 0x1a00040 [16; 0x100], ro, reset 0, "sdma.c:sdma_dumpstate" {}

    /// Core clocks of idleness that raise the idle interrupt.
    SEND_DMA_RELOAD_CNT = 0x1a00048 [16; 0x100], rw, reset 0, "sdma.c:init_sdma_regs" {}

    /// Descriptors left until the progress interrupt; software fills it up.
    SEND_DMA_DESC_CNT = 0x1a00050 [16; 0x100], rw, reset 0, "sdma.c:sdma_set_desc_cnt" {
        CNT [15:0],
    }

    /// Counter of descriptors fetched.
    SEND_DMA_DESC_FETCHED_CNT = 0x1a00058 [16; 0x100], ro, reset 0, "chip.c:dev_cntrs" {}

    /// Errors of an SDMA engine, each halts it; a bit stays until cleared through SEND_DMA_ENG_ERR_CLEAR.
    SEND_DMA_ENG_ERR_STATUS = 0x1a00060 [16; 0x100], ro, reset 0, "chip.c:is_sdma_eng_err_int" {
        SDMA_WRONG_DW_ERR [0:0],
        SDMA_GEN_MISMATCH_ERR [1:1],
        SDMA_TOO_LONG_ERR [2:2],
        SDMA_TAIL_OUT_OF_BOUNDS_ERR [3:3],
        SDMA_FIRST_DESC_ERR [4:4],
        SDMA_MEM_READ_ERR [5:5],
        SDMA_HALT_ERR [6:6],
        SDMA_LENGTH_MISMATCH_ERR [7:7],
        SDMA_PACKET_DESC_OVERFLOW_ERR [8:8],
        SDMA_HEADER_SELECT_ERR [10:10],
        SDMA_HEADER_ADDRESS_ERR [11:11],
        SDMA_HEADER_LENGTH_ERR [12:12],
        SDMA_TIMEOUT_ERR [13:13],
        SDMA_DESC_TABLE_UNC_ERR [14:14],
        SDMA_ASSEMBLY_UNC_ERR [15:15],
        SDMA_PACKET_TRACKING_UNC_ERR [16:16],
        SDMA_HEADER_STORAGE_UNC_ERR [17:17],
        SDMA_HEADER_REQUEST_FIFO_UNC_ERR [18:18],
    }

    /// Errors that raise the engine's error interrupt, 1 = enabled; bits as in SEND_DMA_ENG_ERR_STATUS.
    SEND_DMA_ENG_ERR_MASK = 0x1a00068 [16; 0x100], rw, reset 0, "sdma.c:init_sdma_regs" {}

    /// Clears bits of SEND_DMA_ENG_ERR_STATUS.
    SEND_DMA_ENG_ERR_CLEAR = 0x1a00070 [16; 0x100], w1c, reset 0, "chip.c:interrupt_clear_down" {
        SDMA_HEADER_REQUEST_FIFO_UNC_ERR [18:18],
    }

    /// Checks on the packets of an SDMA engine, 1 = checked or disallowed.
    SEND_DMA_CHECK_ENABLE = 0x1a00080 [16; 0x100], rw, reset 0, "sdma.c:set_sdma_integrity" {
        CHECK_ENABLE [0:0],
        CHECK_VL [1:1],
        CHECK_JOB_KEY [2:2],
        CHECK_PARTITION_KEY [3:3],
        CHECK_SLID [4:4],
        CHECK_OPCODE [5:5],
        CHECK_VL_MAPPING [6:6],
        CHECK_BYPASS_VL_MAPPING [7:7],
        DISALLOW_RAW [8:8],
        DISALLOW_RAW_IPV6 [9:9],
        DISALLOW_TOO_SMALL_IB_PACKETS [14:14],
        DISALLOW_TOO_SMALL_BYPASS_PACKETS [15:15],
        DISALLOW_BAD_PKT_LEN [17:17],
        DISALLOW_TOO_LONG_IB_PACKETS [18:18],
        DISALLOW_TOO_LONG_BYPASS_PACKETS [19:19],
        DISALLOW_PBC_STATIC_RATE_CONTROL [20:20],
        DISALLOW_BYPASS_BAD_PKT_LEN [21:21],
    }

    /// VLs that an SDMA engine may not use, one bit each.
    SEND_DMA_CHECK_VL = 0x1a00088 [16; 0x100], rw, reset 0, "chip.c:reset_txe_csrs" {
        DISALLOWED_VL [15:0],
    }

    /// Job key that an SDMA engine's packets must carry under the mask; mask 0, any, as Linux leaves it.
    SEND_DMA_CHECK_JOB_KEY = 0x1a00090 [16; 0x100], rw, reset 0, "chip.c:reset_txe_csrs" {
        VALUE [15:0],
        MASK [31:16],
        ALLOW_PERMISSIVE [32:32],
    }

    /// Partition key that an SDMA engine's packets must carry.
    SEND_DMA_CHECK_PARTITION_KEY = 0x1a00098 [16; 0x100], rw, reset 0, "chip.c:reset_txe_csrs" {
        VALUE [15:0],
    }

    /// Source LID that an SDMA engine's packets must carry under the mask.
    SEND_DMA_CHECK_SLID = 0x1a000a0 [16; 0x100], rw, reset 0, "sdma.c:sdma_update_lmc" {
        VALUE [15:0],
        MASK [31:16],
    }

    /// BTH opcode that an SDMA engine's packets must carry under the mask.
    SEND_DMA_CHECK_OPCODE = 0x1a000a8 [16; 0x100], rw, reset 0, "sdma.c:init_sdma_regs" {
        VALUE [7:0],
        MASK [15:8],
    }

    /// An SDMA engine's part of the SDMA memory: first block and number, 64 bytes each.
    SEND_DMA_MEMORY = 0x1a000b0 [16; 0x100], rw, reset 0, "sdma.c:init_sdma_regs" {
        SDMA_MEMORY_INDEX [15:0],
        SDMA_MEMORY_CNT [31:16],
    }
}
