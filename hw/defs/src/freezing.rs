//! Errors that make the chip freeze itself: after them its engines stand still until software has set them up anew.
//!
//! Source: the masks of `chip.c`, names as there.

use crate::csr::{self, Csr, Field};

const fn any(fields: &[Field]) -> u64 {
    let (mut mask, mut index) = (0, 0);
    while index < fields.len() {
        mask |= fields[index].mask();
        index += 1;
    }
    mask
}

/// The bits of an error register that freeze the chip; 0 for one that has none.
///
/// ```
/// use opx_defs::{csr, freezing};
/// assert_eq!(freezing::bits_of(&csr::SEND_DMA_ERR_STATUS), 0b111);
/// assert_eq!(freezing::bits_of(&csr::CCE_ERR_STATUS), 0);
/// ```
pub const fn bits_of(status: &Csr) -> u64 {
    const PIO_STATUS: u32 = csr::SEND_PIO_ERR_STATUS.offset.0;
    const SDMA_STATUS: u32 = csr::SEND_DMA_ERR_STATUS.offset.0;
    const EGRESS_STATUS: u32 = csr::SEND_EGRESS_ERR_STATUS.offset.0;
    const RECEIVE_STATUS: u32 = csr::RCV_ERR_STATUS.offset.0;
    match status.offset.0 {
        PIO_STATUS => PIO,
        SDMA_STATUS => SDMA,
        EGRESS_STATUS => EGRESS,
        RECEIVE_STATUS => RECEIVE,
        _ => 0,
    }
}

/// Errors of the PIO send path: bits of SEND_PIO_ERR_STATUS (`chip.c:ALL_PIO_FREEZE_ERR`).
pub const PIO: u64 = {
    use csr::SEND_PIO_ERR_STATUS as errors;
    any(&[
        errors::PIO_WRITE_ADDR_PARITY_ERR,
        errors::PIO_CSR_PARITY_ERR,
        errors::PIO_SB_MEM_FIFO0_ERR,
        errors::PIO_SB_MEM_FIFO1_ERR,
        errors::PIO_PCC_FIFO_PARITY_ERR,
        errors::PIO_PEC_FIFO_PARITY_ERR,
        errors::PIO_SBRDCTL_CRREL_PARITY_ERR,
        errors::PIO_SBRDCTRL_CRREL_FIFO_PARITY_ERR,
        errors::PIO_PKT_EVICT_FIFO_PARITY_ERR,
        errors::PIO_SM_PKT_RESET_PARITY_ERR,
        errors::PIO_VL_LEN_MEM_BANK0_UNC_ERR,
        errors::PIO_VL_LEN_MEM_BANK1_UNC_ERR,
        errors::PIO_CREDIT_RET_FIFO_PARITY_ERR,
        errors::PIO_PPMC_PBL_FIFO_ERR,
        errors::PIO_PKT_EVICT_SM_OR_ARB_SM_ERR,
        errors::PIO_HOST_ADDR_MEM_UNC_ERR,
        errors::PIO_WRITE_DATA_PARITY_ERR,
        errors::PIO_STATE_MACHINE_ERR,
        errors::PIO_WRITE_QW_VALID_PARITY_ERR,
        errors::PIO_BLOCK_QW_COUNT_PARITY_ERR,
        errors::PIO_VLF_VL_LEN_PARITY_ERR,
        errors::PIO_VLF_SOP_PARITY_ERR,
        errors::PIO_VL_FIFO_PARITY_ERR,
        errors::PIO_PPMC_BQC_MEM_PARITY_ERR,
        errors::PIO_PPMC_SOP_LEN_ERR,
        errors::PIO_CURRENT_FREE_CNT_PARITY_ERR,
        errors::PIO_LAST_RETURNED_CNT_PARITY_ERR,
        errors::PIO_PCC_SOP_HEAD_PARITY_ERR,
        errors::PIO_PEC_SOP_HEAD_PARITY_ERR,
    ])
};

/// Errors of the SDMA send path: bits of SEND_DMA_ERR_STATUS (`chip.c:ALL_SDMA_FREEZE_ERR`).
pub const SDMA: u64 = {
    use csr::SEND_DMA_ERR_STATUS as errors;
    any(&[errors::SDMA_RPY_TAG_ERR, errors::SDMA_CSR_PARITY_ERR, errors::SDMA_PCIE_REQ_TRACKING_UNC_ERR])
};

/// Errors on egress: bits of SEND_EGRESS_ERR_STATUS (`chip.c:ALL_TXE_EGRESS_FREEZE_ERR`).
pub const EGRESS: u64 = {
    use csr::SEND_EGRESS_ERR_STATUS as errors;
    any(&[
        errors::TX_EGRESS_FIFO_UNDERRUN_OR_PARITY_ERR,
        errors::TX_PIO_LAUNCH_INTF_PARITY_ERR,
        errors::TX_SDMA_LAUNCH_INTF_PARITY_ERR,
        errors::TX_SBRD_CTL_STATE_MACHINE_PARITY_ERR,
        errors::TX_LAUNCH_CSR_PARITY_ERR,
        errors::TX_SBRD_CTL_CSR_PARITY_ERR,
        errors::TX_CONFIG_PARITY_ERR,
        errors::TX_LAUNCH_FIFO0_UNC_OR_PARITY_ERR,
        errors::TX_LAUNCH_FIFO1_UNC_OR_PARITY_ERR,
        errors::TX_LAUNCH_FIFO2_UNC_OR_PARITY_ERR,
        errors::TX_LAUNCH_FIFO3_UNC_OR_PARITY_ERR,
        errors::TX_LAUNCH_FIFO4_UNC_OR_PARITY_ERR,
        errors::TX_LAUNCH_FIFO5_UNC_OR_PARITY_ERR,
        errors::TX_LAUNCH_FIFO6_UNC_OR_PARITY_ERR,
        errors::TX_LAUNCH_FIFO7_UNC_OR_PARITY_ERR,
        errors::TX_LAUNCH_FIFO8_UNC_OR_PARITY_ERR,
        errors::TX_CREDIT_RETURN_PARITY_ERR,
    ])
};

/// Errors of the receive engine: bits of RCV_ERR_STATUS (`chip.c:ALL_RXE_FREEZE_ERR`).
pub const RECEIVE: u64 = {
    use csr::RCV_ERR_STATUS as errors;
    any(&[
        errors::RX_RCV_QP_MAP_TABLE_UNC_ERR,
        errors::RX_RCV_CSR_PARITY_ERR,
        errors::RX_DMA_FLAG_UNC_ERR,
        errors::RX_RCV_FSM_ENCODING_ERR,
        errors::RX_RBUF_FREE_LIST_UNC_ERR,
        errors::RX_RBUF_LOOKUP_DES_REG_UNC_ERR,
        errors::RX_RBUF_LOOKUP_DES_REG_UNC_COR_ERR,
        errors::RX_RBUF_LOOKUP_DES_UNC_ERR,
        errors::RX_RBUF_BLOCK_LIST_READ_UNC_ERR,
        errors::RX_RBUF_CSR_QHEAD_BUF_NUM_PARITY_ERR,
        errors::RX_RBUF_CSR_QENT_CNT_PARITY_ERR,
        errors::RX_RBUF_CSR_QNEXT_BUF_PARITY_ERR,
        errors::RX_RBUF_CSR_QVLD_BIT_PARITY_ERR,
        errors::RX_RBUF_CSR_QHD_PTR_PARITY_ERR,
        errors::RX_RBUF_CSR_QTL_PTR_PARITY_ERR,
        errors::RX_RBUF_CSR_QNUM_OF_PKT_PARITY_ERR,
        errors::RX_RBUF_CSR_QEOPDW_PARITY_ERR,
        errors::RX_RBUF_CTX_ID_PARITY_ERR,
        errors::RX_RBUF_BAD_LOOKUP_ERR,
        errors::RX_RBUF_FULL_ERR,
        errors::RX_RBUF_EMPTY_ERR,
        errors::RX_RBUF_FL_RD_ADDR_PARITY_ERR,
        errors::RX_RBUF_FL_WR_ADDR_PARITY_ERR,
        errors::RX_RBUF_FL_INITDONE_PARITY_ERR,
        errors::RX_RBUF_FL_INIT_WR_ADDR_PARITY_ERR,
        errors::RX_RBUF_NEXT_FREE_BUF_UNC_ERR,
        errors::RX_LOOKUP_DES_PART1_UNC_ERR,
        errors::RX_LOOKUP_DES_PART1_UNC_COR_ERR,
        errors::RX_LOOKUP_DES_PART2_PARITY_ERR,
        errors::RX_LOOKUP_RCV_ARRAY_UNC_ERR,
        errors::RX_LOOKUP_CSR_PARITY_ERR,
        errors::RX_HQ_INTR_CSR_PARITY_ERR,
        errors::RX_HQ_INTR_FSM_ERR,
        errors::RX_RBUF_DESC_PART1_UNC_ERR,
        errors::RX_RBUF_DESC_PART1_COR_ERR,
        errors::RX_RBUF_DESC_PART2_UNC_ERR,
        errors::RX_DMA_HDR_FIFO_RD_UNC_ERR,
        errors::RX_DMA_DATA_FIFO_RD_UNC_ERR,
        errors::RX_RBUF_DATA_UNC_ERR,
        errors::RX_DMA_CSR_PARITY_ERR,
        errors::RX_DMA_EQ_FSM_ENCODING_ERR,
        errors::RX_DMA_DQ_FSM_ENCODING_ERR,
        errors::RX_DMA_CSR_UNC_ERR,
        errors::RX_CSR_PARITY_ERR,
    ])
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_were_corrected_freeze_nothing() {
        for status in [csr::SEND_PIO_ERR_STATUS, csr::SEND_DMA_ERR_STATUS, csr::SEND_EGRESS_ERR_STATUS] {
            for field in status.fields.iter().filter(|field| field.name.ends_with("_COR_ERR")) {
                assert_eq!(bits_of(&status) & field.mask(), 0, "{}", field.name);
            }
        }
        let counts = [PIO, SDMA, EGRESS, RECEIVE].map(u64::count_ones);
        assert_eq!(counts, [29, 3, 17, 44]);
    }
}
