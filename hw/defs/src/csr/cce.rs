//! CCE registers: identity, freeze, MSI-X and the 768 interrupt sources.

use super::csrs;

csrs! {
    /// What chip this is; low 32 bits are the users' hw_version. Reset value is that of a B0 part.
    CCE_REVISION = 0x0, ro, reset 0x302_0710, "chip.c:hfi1_init_dd" {
        CHIP_REV_MINOR [7:0],
        CHIP_REV_MAJOR [15:8],
        ARCH [23:16],
        SW [31:24],
        BOARD_ID_LOWER_NIBBLE [35:32],
    }

    /// Which of the chip's two HFIs this is, and how the chip is made (ICODE_*).
    CCE_REVISION2 = 0x8, ro, reset 0, "chip.c:hfi1_init_dd" {
        HFI_ID [0:0],
        IMPL_CODE [15:8],
        IMPL_REVISION [23:16],
    }

    /// Starts and ends a freeze (SPC), ends a pause; bits act when written 1 and don't stay.
    CCE_CTRL = 0x10, wo, reset 0, "chip.c:start_freeze_handling" {
        SPC_FREEZE [8:8],
        SPC_UNFREEZE [9:9],
        RXE_RESUME [11:11],
        TXE_RESUME [13:13],
    }

    /// Which engines are frozen, and which are paused.
    CCE_STATUS = 0x18, ro, reset 0, "chip.c:wait_for_freeze_status" {
        SDMA_FROZE [0:0],
        RXE_FROZE [1:1],
        TXE_FROZE [2:2],
        TXE_PIO_FROZE [3:3],
        SDMA_PAUSED [4:4],
        RXE_PAUSED [5:5],
        TXE_PAUSED [6:6],
        TXE_PIO_PAUSED [7:7],
    }

    /// Scratch words for software.
    CCE_SCRATCH = 0x20 [4; 0x8], rw, reset 0, "chip.c:reset_cce_csrs" {}

    /// Errors of the CCE block; a bit stays until cleared through CCE_ERR_CLEAR.
    CCE_ERR_STATUS = 0x40, ro, reset 0, "chip.c:is_misc_err_int" {
        CCE_CSR_PARITY_ERR [0:0],
        CCE_CSR_READ_BAD_ADDR_ERR [1:1],
        CCE_CSR_WRITE_BAD_ADDR_ERR [2:2],
        CCE_TRGT_ASYNC_FIFO_PARITY_ERR [3:3],
        CCE_TRGT_ACCESS_ERR [4:4],
        CCE_RSPD_DATA_PARITY_ERR [5:5],
        CCE_CLI0_ASYNC_FIFO_PARITY_ERR [6:6],
        CCE_CSR_CFG_BUS_PARITY_ERR [7:7],
        CCE_CLI2_ASYNC_FIFO_PARITY_ERR [8:8],
        CCE_CLI1_ASYNC_FIFO_PIO_CRDT_PARITY_ERR [9:9],
        CCE_CLI1_ASYNC_FIFO_SDMA_HD_PARITY_ERR [10:10],
        CCE_CLI1_ASYNC_FIFO_RXDMA_PARITY_ERROR [11:11],
        CCE_CLI1_ASYNC_FIFO_DBG_PARITY_ERROR [12:12],
        PCIC_RETRY_MEM_COR_ERR [13:13],
        PCIC_RETRY_SOT_MEM_COR_ERR [14:14],
        PCIC_POST_HD_QCOR_ERR [15:15],
        PCIC_POST_DAT_QCOR_ERR [16:16],
        PCIC_CPL_HD_QCOR_ERR [17:17],
        PCIC_CPL_DAT_QCOR_ERR [18:18],
        PCIC_NPOST_HQ_PARITY_ERR [19:19],
        PCIC_NPOST_DAT_QPARITY_ERR [20:20],
        PCIC_RETRY_MEM_UNC_ERR [21:21],
        PCIC_RETRY_SOT_MEM_UNC_ERR [22:22],
        PCIC_POST_HD_QUNC_ERR [23:23],
        PCIC_POST_DAT_QUNC_ERR [24:24],
        PCIC_CPL_HD_QUNC_ERR [25:25],
        PCIC_CPL_DAT_QUNC_ERR [26:26],
        PCIC_TRANSMIT_FRONT_PARITY_ERR [27:27],
        PCIC_TRANSMIT_BACK_PARITY_ERR [28:28],
        PCIC_RECEIVE_PARITY_ERR [29:29],
        CCE_TRGT_CPL_TIMEOUT_ERR [30:30],
        LA_TRIGGERED [31:31],
        CCE_SEG_READ_BAD_ADDR_ERR [32:32],
        CCE_SEG_WRITE_BAD_ADDR_ERR [33:33],
        CCE_RCPL_ASYNC_FIFO_PARITY_ERR [34:34],
        CCE_RXDMA_CONV_FIFO_PARITY_ERR [35:35],
        CCE_MSIX_TABLE_COR_ERR [36:36],
        CCE_MSIX_TABLE_UNC_ERR [37:37],
        CCE_INT_MAP_COR_ERR [38:38],
        CCE_INT_MAP_UNC_ERR [39:39],
        CCE_MSIX_CSR_PARITY_ERR [40:40],
    }

    /// Errors that raise CCE_ERR_INT, 1 = enabled; bits as in CCE_ERR_STATUS.
    CCE_ERR_MASK = 0x48, rw, reset 0, "chip.c:init_other" {}

    /// Clears bits of CCE_ERR_STATUS.
    CCE_ERR_CLEAR = 0x50, w1c, reset 0, "chip.c:interrupt_clear_down" {}

    /// Performance counters of 32 bits, see chip::counter; writing 0 clears.
    CCE_COUNTER_ARRAY32 = 0x60 [3; 0x8], rw, reset 0, "chip.c:reset_cce_csrs" {}

    /// Holds the DC in reset; survives a function-level reset.
    CCE_DC_CTRL = 0xb8, rw, reset 0x1, "chip.c:init_chip" {
        DC_RESET [0:0],
    }

    /// PCIe lane bundling and transmit margins; for the Gen3 transition.
    CCE_PCIE_CTRL = 0xc0, rw, reset 0, "pcie.c:write_xmt_margin" {
        PCIE_LANE_BUNDLE [1:0],
        PCIE_LANE_DELAY [5:2],
        XMT_MARGIN_OVERWRITE_ENABLE [8:8],
        XMT_MARGIN [11:9],
        XMT_MARGIN_GEN1_GEN2_OVERWRITE_ENABLE [12:12],
        XMT_MARGIN_GEN1_GEN2 [15:13],
    }

    /// MSI-X table, first qword of an entry: message address.
    CCE_MSIX_TABLE_LOWER = 0x100000 [256; 0x10], rw, reset 0, "chip.c:reset_cce_csrs" {
        ADDRESS [63:0],
    }

    /// MSI-X table, second qword of an entry: message data and the entry's mask bit.
    CCE_MSIX_TABLE_UPPER = 0x100008 [256; 0x10], rw, reset 0x1_0000_0000, "chip.c:reset_cce_csrs" {
        DATA [31:0],
        MASKED [32:32],
    }

    /// INFERRED: MSI-X pending bits, at CCE_MSIX_PBA_OFFSET; one bit for each vector.
    CCE_MSIX_PBA = 0x110000 [4; 0x8], ro, reset 0, "chip.c:reset_cce_csrs" {}

    /// Vectors whose interrupt was granted; one bit for each vector.
    CCE_MSIX_INT_GRANTED = 0x110200 [4; 0x8], w1c, reset 0, "chip.c:reset_cce_csrs" {}

    /// Vectors whose pending bit fell before the interrupt was sent; one bit for each vector.
    CCE_MSIX_VEC_CLR_WITHOUT_INT = 0x110400 [4; 0x8], w1c, reset 0, "chip.c:reset_cce_csrs" {}

    /// MSI-X vector of each interrupt source: byte s % 8 of register s / 8.
    CCE_INT_MAP = 0x110500 [96; 0x8], rw, reset 0, "chip.c:remap_intr" {
        VECTOR0 [7:0],
        VECTOR1 [15:8],
        VECTOR2 [23:16],
        VECTOR3 [31:24],
        VECTOR4 [39:32],
        VECTOR5 [47:40],
        VECTOR6 [55:48],
        VECTOR7 [63:56],
    }

    /// State of the 768 interrupt sources, set whether enabled in CCE_INT_MASK or not.
    CCE_INT_STATUS = 0x110800 [12; 0x8], ro, reset 0, "chip.c:general_interrupt" {}

    /// Interrupt sources that may raise their vector, 1 = enabled.
    CCE_INT_MASK = 0x110900 [12; 0x8], rw, reset 0, "chip.c:read_mod_write" {}

    /// Clears bits of CCE_INT_STATUS; drivers read it only to flush the write.
    CCE_INT_CLEAR = 0x110a00 [12; 0x8], w1c, reset 0, "chip.c:clear_recv_intr" {}

    /// Sets bits of CCE_INT_STATUS.
    CCE_INT_FORCE = 0x110b00 [12; 0x8], w1s, reset 0, "chip.c:force_recv_intr" {}

    /// Interrupt sources that are asserted and held back.
    CCE_INT_BLOCKED = 0x110c00 [12; 0x8], ro, reset 0, "sdma.c:sdma_dumpstate" {}

    /// Interrupts counted by kind, 32 bits, see chip::counter; writing 0 clears.
    CCE_INT_COUNTER_ARRAY32 = 0x110d00 [6; 0x8], rw, reset 0, "chip.c:reset_cce_csrs" {}
}
