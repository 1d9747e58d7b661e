//! RXE registers, the receive engine: global ones, those of each receive context, the RcvArray and the user pages.

use super::csrs;

csrs! {
    /// Receive engine on and off, with its lookups; RX_RBUF_INIT acts when written 1.
    RCV_CTRL = 0x1000000, rw, reset 0, "chip.c:adjust_rcvctrl" {
        RCV_PORT_ENABLE [0:0],
        RCV_QP_MAP_ENABLE [1:1],
        RCV_PARTITION_KEY_ENABLE [2:2],
        RCV_BYPASS_ENABLE [4:4],
        RCV_RSM_ENABLE [5:5],
        RCV_EXTENDED_PSN_ENABLE [6:6],
        RX_RBUF_INIT [9:9],
    }

    /// Whether packets are on their way in, and whether the receive buffer is initialized.
    RCV_STATUS = 0x1000008, ro, reset 0, "chip.c:init_rbufs" {
        RX_PKT_IN_PROGRESS [0:0],
        RX_RBUF_PKT_PENDING [6:6],
        RX_RBUF_INIT_DONE [9:9],
    }

    /// Number of receive contexts.
    RCV_CONTEXTS = 0x1000010, ro, reset 0xa0, "chip.h:chip_rcv_contexts" {}

    /// Number of RcvArray entries; the chip's build sets it.
    RCV_ARRAY_CNT = 0x1000018, ro, reset 0, "chip.h:chip_rcv_array_count" {}

    /// Top byte of the destination QPs that mean KDETH.
    RCV_BTH_QP = 0x1000028, rw, reset 0, "chip.c:init_kdeth_qp" {
        KDETH_QP [23:16],
    }

    /// Receive context for multicast; 0, the control context, as Linux leaves it.
    RCV_MULTICAST = 0x1000030, rw, reset 0, "chip.c:reset_rxe_csrs" {}

    /// Receive context for bypass packets, and how many dwords of them are header.
    RCV_BYPASS = 0x1000038, rw, reset 0, "chip.c:init_rxe" {
        BYPASS_CONTEXT [7:0],
        HDR_SIZE [20:16],
    }

    /// Receive context for VL 15.
    RCV_VL15 = 0x1000048, rw, reset 0, "chip.c:hfi1_rcvctrl" {}

    /// Service class of the first packet that overran the buffer; writing the overrun bit clears.
    RCV_ERR_INFO = 0x1000050, w1c, reset 0, "mad.c:pma_set_opa_errorinfo" {
        RCV_EXCESS_BUFFER_OVERRUN_SC [4:0],
        RCV_EXCESS_BUFFER_OVERRUN [5:5],
    }

    /// Errors of the receive engine; a bit stays until cleared through RCV_ERR_CLEAR.
    RCV_ERR_STATUS = 0x1000060, ro, reset 0, "chip.c:is_misc_err_int" {
        RX_DMA_CSR_COR_ERR [0:0],
        RX_DC_INTF_PARITY_ERR [1:1],
        RX_RCV_HDR_UNC_ERR [2:2],
        RX_RCV_HDR_COR_ERR [3:3],
        RX_RCV_DATA_UNC_ERR [4:4],
        RX_RCV_DATA_COR_ERR [5:5],
        RX_RCV_QP_MAP_TABLE_UNC_ERR [6:6],
        RX_RCV_QP_MAP_TABLE_COR_ERR [7:7],
        RX_RCV_CSR_PARITY_ERR [8:8],
        RX_DC_SOP_EOP_PARITY_ERR [9:9],
        RX_DMA_FLAG_UNC_ERR [10:10],
        RX_DMA_FLAG_COR_ERR [11:11],
        RX_RCV_FSM_ENCODING_ERR [12:12],
        RX_RBUF_FREE_LIST_UNC_ERR [13:13],
        RX_RBUF_FREE_LIST_COR_ERR [14:14],
        RX_RBUF_LOOKUP_DES_REG_UNC_ERR [15:15],
        RX_RBUF_LOOKUP_DES_REG_UNC_COR_ERR [16:16],
        RX_RBUF_LOOKUP_DES_UNC_ERR [17:17],
        RX_RBUF_LOOKUP_DES_COR_ERR [18:18],
        RX_RBUF_BLOCK_LIST_READ_UNC_ERR [19:19],
        RX_RBUF_BLOCK_LIST_READ_COR_ERR [20:20],
        RX_RBUF_CSR_QHEAD_BUF_NUM_PARITY_ERR [21:21],
        RX_RBUF_CSR_QENT_CNT_PARITY_ERR [22:22],
        RX_RBUF_CSR_QNEXT_BUF_PARITY_ERR [23:23],
        RX_RBUF_CSR_QVLD_BIT_PARITY_ERR [24:24],
        RX_RBUF_CSR_QHD_PTR_PARITY_ERR [25:25],
        RX_RBUF_CSR_QTL_PTR_PARITY_ERR [26:26],
        RX_RBUF_CSR_QNUM_OF_PKT_PARITY_ERR [27:27],
        RX_RBUF_CSR_QEOPDW_PARITY_ERR [28:28],
        RX_RBUF_CTX_ID_PARITY_ERR [29:29],
        RX_RBUF_BAD_LOOKUP_ERR [30:30],
        RX_RBUF_FULL_ERR [31:31],
        RX_RBUF_EMPTY_ERR [32:32],
        RX_RBUF_FL_RD_ADDR_PARITY_ERR [33:33],
        RX_RBUF_FL_WR_ADDR_PARITY_ERR [34:34],
        RX_RBUF_FL_INITDONE_PARITY_ERR [35:35],
        RX_RBUF_FL_INIT_WR_ADDR_PARITY_ERR [36:36],
        RX_RBUF_NEXT_FREE_BUF_UNC_ERR [37:37],
        RX_RBUF_NEXT_FREE_BUF_COR_ERR [38:38],
        RX_LOOKUP_DES_PART1_UNC_ERR [39:39],
        RX_LOOKUP_DES_PART1_UNC_COR_ERR [40:40],
        RX_LOOKUP_DES_PART2_PARITY_ERR [41:41],
        RX_LOOKUP_RCV_ARRAY_UNC_ERR [42:42],
        RX_LOOKUP_RCV_ARRAY_COR_ERR [43:43],
        RX_LOOKUP_CSR_PARITY_ERR [44:44],
        RX_HQ_INTR_CSR_PARITY_ERR [45:45],
        RX_HQ_INTR_FSM_ERR [46:46],
        RX_RBUF_DESC_PART1_UNC_ERR [47:47],
        RX_RBUF_DESC_PART1_COR_ERR [48:48],
        RX_RBUF_DESC_PART2_UNC_ERR [49:49],
        RX_RBUF_DESC_PART2_COR_ERR [50:50],
        RX_DMA_HDR_FIFO_RD_UNC_ERR [51:51],
        RX_DMA_HDR_FIFO_RD_COR_ERR [52:52],
        RX_DMA_DATA_FIFO_RD_UNC_ERR [53:53],
        RX_DMA_DATA_FIFO_RD_COR_ERR [54:54],
        RX_RBUF_DATA_UNC_ERR [55:55],
        RX_RBUF_DATA_COR_ERR [56:56],
        RX_DMA_CSR_PARITY_ERR [57:57],
        RX_DMA_EQ_FSM_ENCODING_ERR [58:58],
        RX_DMA_DQ_FSM_ENCODING_ERR [59:59],
        RX_DMA_CSR_UNC_ERR [60:60],
        RX_CSR_READ_BAD_ADDR_ERR [61:61],
        RX_CSR_WRITE_BAD_ADDR_ERR [62:62],
        RX_CSR_PARITY_ERR [63:63],
    }

    /// Errors that raise RXE_ERR_INT, 1 = enabled; bits as in RCV_ERR_STATUS.
    RCV_ERR_MASK = 0x1000068, rw, reset 0, "chip.c:init_rxe" {}

    /// Clears bits of RCV_ERR_STATUS.
    RCV_ERR_CLEAR = 0x1000070, w1c, reset 0, "chip.c:interrupt_clear_down" {}

    /// Receive context by bits 8:1 of the destination QP: byte i % 8 of register i / 8.
    RCV_QP_MAP_TABLE = 0x1000100 [32; 0x8], rw, reset 0, "chip.c:init_qpmap_table" {
        RCV_CONTEXT_A [7:0],
        RCV_CONTEXT_B [15:8],
        RCV_CONTEXT_C [23:16],
        RCV_CONTEXT_D [31:24],
        RCV_CONTEXT_E [39:32],
        RCV_CONTEXT_F [47:40],
        RCV_CONTEXT_G [55:48],
        RCV_CONTEXT_H [63:56],
    }

    /// The port's partition keys, four in each register.
    RCV_PARTITION_KEY = 0x1000200 [4; 0x8], rw, reset 0, "chip.c:set_partition_keys" {
        PARTITION_KEY_A [15:0],
        PARTITION_KEY_B [31:16],
        PARTITION_KEY_C [47:32],
        PARTITION_KEY_D [63:48],
    }

    /// Counters of 32 bits, see chip::counter; writing 0 clears.
    RCV_COUNTER_ARRAY32 = 0x1000400 [24; 0x8], rw, reset 0, "chip.c:reset_rxe_csrs" {}

    /// Counters of 64 bits, see chip::counter; writing 0 clears.
    RCV_COUNTER_ARRAY64 = 0x1000500 [2; 0x8], rw, reset 0, "chip.c:reset_rxe_csrs" {}

    /// Receive-side mapping rule n: on by bit n, offset in the map, kind of packet.
    RCV_RSM_CFG = 0x1000600 [4; 0x8], rw, reset 0, "chip.c:add_rsm_rule" {
        ENABLE_OR_CHAIN_RSM0 [0:0],
        ENABLE_OR_CHAIN_RSM1 [1:1],
        ENABLE_OR_CHAIN_RSM2 [2:2],
        ENABLE_OR_CHAIN_RSM3 [3:3],
        OFFSET [39:32],
        PACKET_TYPE [63:60],
    }

    /// Receive-side mapping rule: where in the header the two fields and the two indexes lie, in bits.
    RCV_RSM_SELECT = 0x1000700 [4; 0x8], rw, reset 0, "chip.c:add_rsm_rule" {
        FIELD1_OFFSET [8:0],
        FIELD2_OFFSET [24:16],
        INDEX1_OFFSET [40:32],
        INDEX1_WIDTH [47:44],
        INDEX2_OFFSET [56:48],
        INDEX2_WIDTH [63:60],
    }

    /// Receive-side mapping rule: masks and values that the two fields must match.
    RCV_RSM_MATCH = 0x1000800 [4; 0x8], rw, reset 0, "chip.c:add_rsm_rule" {
        MASK1 [7:0],
        VALUE1 [15:8],
        MASK2 [23:16],
        VALUE2 [31:24],
    }

    /// Receive context by mapping index: byte i % 8 of register i / 8; 0xff is none.
    RCV_RSM_MAP_TABLE = 0x1000900 [32; 0x8], rw, reset 0, "chip.c:complete_rsm_map_table" {
        RCV_CONTEXT_A [7:0],
        RCV_CONTEXT_B [15:8],
        RCV_CONTEXT_C [23:16],
        RCV_CONTEXT_D [31:24],
        RCV_CONTEXT_E [39:32],
        RCV_CONTEXT_F [47:40],
        RCV_CONTEXT_G [55:48],
        RCV_CONTEXT_H [63:56],
    }

    /// A receive context's switches; setting ENABLE starts its queues from 0.
    RCV_CTXT_CTRL = 0x1100000 [160; 0x100], rw, reset 0, "chip.c:hfi1_rcvctrl" {
        ENABLE [0:0],
        ONE_PACKET_PER_EGR_BUFFER [1:1],
        DONT_DROP_EGR_FULL [2:2],
        DONT_DROP_RHQ_FULL [3:3],
        TID_FLOW_ENABLE [4:4],
        INTR_AVAIL [5:5],
        TAIL_UPD [6:6],
        EGR_BUF_SIZE [10:8],
    }

    /// Not 0 when the context is held up by a full header queue; sticky.
    RCV_CTXT_STATUS = 0x1100008 [160; 0x100], ro, reset 0, "chip.c:hfi1_rcvctrl" {}

    /// A context's eager entries in the RcvArray: first one and number, units of 8.
    RCV_EGR_CTRL = 0x1100010 [160; 0x100], rw, reset 0, "chip.c:hfi1_rcvctrl" {
        EGR_BASE_INDEX [12:0],
        EGR_CNT [40:32],
    }

    /// A context's expected entries in the RcvArray: first one in units of 8, number in units of 4 pairs.
    RCV_TID_CTRL = 0x1100018 [160; 0x100], rw, reset 0, "chip.c:hfi1_rcvctrl" {
        TID_BASE_INDEX [12:0],
        TID_PAIR_CNT [40:32],
    }

    /// A context's job key, and whether packets must carry it.
    RCV_KEY_CTRL = 0x1100020 [160; 0x100], rw, reset 0, "chip.c:hfi1_set_ctxt_jkey" {
        JOB_KEY_VALUE [15:0],
        JOB_KEY_ENABLE [33:33],
    }

    /// DMA address of a context's header queue.
    RCV_HDR_ADDR = 0x1100028 [160; 0x100], rw, reset 0, "chip.c:hfi1_rcvctrl" {}

    /// Entries of a context's header queue, units of 32.
    RCV_HDR_CNT = 0x1100030 [160; 0x100], rw, reset 0, "chip.c:set_hdrq_regs" {
        CNT [8:0],
    }

    /// Size of a header queue entry: 1 is 2 dwords, 2 is 16, 4 is 32.
    RCV_HDR_ENT_SIZE = 0x1100038 [160; 0x100], rw, reset 0, "chip.c:set_hdrq_regs" {
        ENT_SIZE [2:0],
    }

    /// Dwords behind the BTH of a KDETH packet that count as header.
    RCV_HDR_SIZE = 0x1100040 [160; 0x100], rw, reset 0, "chip.c:set_hdrq_regs" {
        HDR_SIZE [4:0],
    }

    /// DMA address to which the header queue's tail is written, in dwords.
    RCV_HDR_TAIL_ADDR = 0x1100048 [160; 0x100], rw, reset 0, "chip.c:hfi1_rcvctrl" {}

    /// Time after which packets raise an interrupt even below the count, units of 64 core clocks.
    RCV_AVAIL_TIME_OUT = 0x1100050 [160; 0x100], rw, reset 0, "chip.c:adjust_rcv_timeout" {
        TIME_OUT_RELOAD [7:0],
    }

    /// Packets dropped since a context's header queue was full, 32 bits; writing 0 clears.
    RCV_HDR_OVFL_CNT = 0x1100058 [160; 0x100], rw, reset 0, "chip.c:reset_rxe_csrs" {}

    /// Eager and expected buffers of all contexts; ignored without RT_WRITE_ENABLE, never read.
    RCV_ARRAY = 0x1200000 [131072; 0x8], wo, reset 0, "chip.c:hfi1_put_tid" {
        RT_ADDR [35:0],
        RT_BUF_SIZE [39:36],
        RT_WRITE_ENABLE [63:63],
    }

    /// Where the next header goes, in dwords from the queue's start; in the user page.
    RCV_HDR_TAIL = 0x1300000 [160; 0x1000], ro, reset 0, "chip.c:hdrqempty" {}

    /// Up to where software has read, in dwords, and packets until the next interrupt; in the user page.
    RCV_HDR_HEAD = 0x1300008 [160; 0x1000], rw, reset 0, "chip.c:update_usrhead" {
        HEAD [18:0],
        COUNTER [39:32],
    }

    /// INFERRED from its neighbours: eager buffer in use now; in the user page.
    RCV_EGR_INDEX_TAIL = 0x1300010 [160; 0x1000], ro, reset 0, "chip.c:reset_rxe_csrs" {}

    /// Eager buffer up to which software is done; in the user page.
    RCV_EGR_INDEX_HEAD = 0x1300018 [160; 0x1000], rw, reset 0, "chip.c:update_usrhead" {
        HEAD [10:0],
    }

    /// INFERRED from its neighbours: offset in the eager buffer in use; in the user page.
    RCV_EGR_OFFSET_TAIL = 0x1300020 [160; 0x1000], ro, reset 0, "chip.c:reset_rxe_csrs" {}

    /// Expected-receive flows of a context; the two MISMATCH bits clear by writing 1; in the user page.
    RCV_TID_FLOW_TABLE = 0x1300800 [160; 0x1000] x 32, rw, reset 0, "tid_rdma.c:kern_set_hw_flow" {
        SEQ [10:0],
        GENERATION [30:11],
        FLOW_VALID [32:32],
        HDR_SUPP_ENABLED [33:33],
        KEEP_AFTER_SEQ_ERR [34:34],
        KEEP_ON_GEN_ERR [35:35],
        KEEP_PAYLOAD_ON_GEN_ERR [36:36],
        SEQ_MISMATCH [37:37],
        GEN_MISMATCH [38:38],
    }
}
