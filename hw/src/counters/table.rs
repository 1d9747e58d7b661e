//! The catalogue of counters: hfi1's names, where each is read, and what it counts.
//!
//! Source: `chip.c:dev_cntrs, port_cntrs`. Left out are counters of Linux's verbs layer and of its queues, which have nothing
//! to count here. RcvHdrOvr is one for each context there (RcvHdrOvr0 and so on).

use super::{Counter, Per, Place, Width};
use opx_defs::chip;
use opx_defs::csr;

macro_rules! first {
    () => {
        0
    };
    ($first:ident) => {
        chip::$first as u32
    };
}

macro_rules! registers {
    ($($name:literal = $csr:ident $(at $first:ident)?, $per:ident, $width:ident, $kind:ident, $about:literal;)*) => {
        pub(super) static REGISTERS: &[Counter] = &[$(Counter {
            name: $name,
            about: $about,
            per: Per::$per,
            width: Width::$width,
            synthesised: matches!(Kind::$kind, Kind::Synthesised),
            place: Place::Register(&csr::$csr, first!($($first)?)),
        },)*];
    };
}

/// Whether hfi1 makes up for a counter that wraps (CNTR_SYNTH) or not (CNTR_NORMAL).
#[allow(dead_code)]
enum Kind {
    Plain,
    Synthesised,
}

macro_rules! errors {
    ($($name:literal = $csr:ident::$field:ident;)*) => {
        pub(super) static ERRORS: &[Counter] = &[$(Counter {
            name: $name,
            about: concat!("times that ", stringify!($csr), ".", stringify!($field), " was seen"),
            per: Per::One,
            width: Width::B64,
            synthesised: false,
            place: Place::Error(&csr::$csr, csr::$csr::$field),
        },)*];
    };
}

registers! {
    "RcvOverflow" = RCV_COUNTER_ARRAY32 at RCV_BUF_OVFL_CNT, One, B32, Synthesised, "packets dropped since the receive buffer was full";
    "RxLenErr" = RCV_COUNTER_ARRAY32 at RCV_LENGTH_ERR_CNT, One, B32, Synthesised, "packets of a wrong length";
    "RxShrErr" = RCV_COUNTER_ARRAY32 at RCV_SHORT_ERR_CNT, One, B32, Synthesised, "packets too short";
    "RxICrcErr" = RCV_COUNTER_ARRAY32 at RCV_ICRC_ERR_CNT, One, B32, Synthesised, "packets with a wrong ICRC";
    "RxEbpCnt" = RCV_COUNTER_ARRAY32 at RCV_EBP_CNT, One, B32, Synthesised, "packets that their sender ended as bad";
    "RxTIDFullEr" = RCV_COUNTER_ARRAY32 at RCV_TID_FULL_ERR_CNT, One, B32, Plain, "expected packets beyond the end of their TID";
    "RxTIDInvalid" = RCV_COUNTER_ARRAY32 at RCV_TID_VALID_ERR_CNT, One, B32, Plain, "expected packets to an entry without a buffer";
    "RxTidFLGMs" = RCV_COUNTER_ARRAY32 at RCV_TID_FLOW_GEN_MISMATCH_CNT, One, B32, Plain, "tID flow generation mismatches";
    "RxCtxEgrS" = RCV_COUNTER_ARRAY32 at RCV_CONTEXT_EGR_STALL, One, B32, Plain, "stalls for want of eager buffers";
    "RxTidFLSMs" = RCV_COUNTER_ARRAY32 at RCV_TID_FLOW_SEQ_MISMATCH_CNT, One, B32, Plain, "tID flow sequence mismatches";
    "CcePciCrSt" = CCE_COUNTER_ARRAY32 at CCE_PCIE_POSTED_CRDT_STALL_CNT, One, B32, Plain, "stalls for want of PCIe posted credits";
    "CcePciTrSt" = CCE_COUNTER_ARRAY32 at CCE_PCIE_TRGT_STALL_CNT, One, B32, Plain, "pCIe target stalls";
    "CcePioWrSt" = CCE_COUNTER_ARRAY32 at CCE_PIO_WR_STALL_CNT, One, B32, Plain, "pIO write stalls";
    "CceErrInt" = CCE_INT_COUNTER_ARRAY32 at CCE_ERR_INT_CNT, One, B32, Plain, "error interrupts";
    "CceSdmaInt" = CCE_INT_COUNTER_ARRAY32 at CCE_SDMA_INT_CNT, One, B32, Plain, "sDMA interrupts";
    "CceMiscInt" = CCE_INT_COUNTER_ARRAY32 at CCE_MISC_INT_CNT, One, B32, Plain, "other interrupts";
    "CceRcvAvInt" = CCE_INT_COUNTER_ARRAY32 at CCE_RCV_AVAIL_INT_CNT, One, B32, Plain, "receive-available interrupts";
    "CceRcvUrgInt" = CCE_INT_COUNTER_ARRAY32 at CCE_RCV_URGENT_INT_CNT, One, B32, Plain, "receive-urgent interrupts";
    "CceSndCrInt" = CCE_INT_COUNTER_ARRAY32 at CCE_SEND_CREDIT_INT_CNT, One, B32, Plain, "send-credit interrupts";
    "DcUnctblErr" = DCC_ERR_UNCORRECTABLE_CNT, One, B64, Synthesised, "uncorrectable errors";
    "DcRecvErr" = DCC_ERR_PORTRCV_ERR_CNT, One, B64, Synthesised, "bad packets received";
    "DcFmCfgErr" = DCC_ERR_FMCONFIG_ERR_CNT, One, B64, Synthesised, "errors of the fabric manager's configuration";
    "DcRmtPhyErr" = DCC_ERR_RCVREMOTE_PHY_ERR_CNT, One, B64, Synthesised, "packets that a port before this one marked as bad";
    "DcDroppedPkt" = DCC_ERR_DROPPED_PKT_CNT, One, B64, Synthesised, "packets dropped";
    "DcMcXmitPkts" = DCC_PRF_PORT_XMIT_MULTICAST_CNT, One, B64, Synthesised, "multicast packets sent";
    "DcMcRcvPkts" = DCC_PRF_PORT_RCV_MULTICAST_PKT_CNT, One, B64, Synthesised, "multicast packets received";
    "DcXmitCorr" = DCC_PRF_PORT_XMIT_CORRECTABLE_CNT, One, B64, Synthesised, "corrected errors on transmit";
    "DcRcvCorrCnt" = DCC_PRF_PORT_RCV_CORRECTABLE_CNT, One, B64, Synthesised, "corrected errors on receive";
    "DcRxFCntl" = DCC_PRF_RX_FLOW_CRTL_CNT, One, B64, Synthesised, "flow-control flits received";
    "DcXmitFCntl" = DCC_PRF_TX_FLOW_CRTL_CNT, One, B64, Synthesised, "flow-control flits sent";
    "DcXmitFlits" = DCC_PRF_PORT_XMIT_DATA_CNT, One, B64, Synthesised, "flits (8 bytes) sent";
    "DcRcvFlits" = DCC_PRF_PORT_RCV_DATA_CNT, One, B64, Synthesised, "flits (8 bytes) received";
    "DcXmitPkts" = DCC_PRF_PORT_XMIT_PKTS_CNT, One, B64, Synthesised, "packets sent";
    "DcRcvPkts" = DCC_PRF_PORT_RCV_PKTS_CNT, One, B64, Synthesised, "packets received";
    "DcRxFlitVl" = DCC_PRF_PORT_VL_RCV_DATA_CNT, Vl, B64, Synthesised, "counters of flits received on VL 0 to 7 and 15";
    "DcRxPktVl" = DCC_PRF_PORT_VL_RCV_PKTS_CNT, Vl, B64, Synthesised, "counters of packets received on VL 0 to 7 and 15";
    "DcRcvFcn" = DCC_PRF_PORT_RCV_FECN_CNT, One, B64, Synthesised, "packets received with FECN";
    "DcRcvFcnVl" = DCC_PRF_PORT_VL_RCV_FECN_CNT, Vl, B64, Synthesised, "counters of packets received with FECN on VL 0 to 7 and 15";
    "DcRcvBcn" = DCC_PRF_PORT_RCV_BECN_CNT, One, B64, Synthesised, "packets received with BECN";
    "DcRcvBcnVl" = DCC_PRF_PORT_VL_RCV_BECN_CNT, Vl, B64, Synthesised, "counters of packets received with BECN on VL 0 to 7 and 15";
    "DcRcvBbl" = DCC_PRF_PORT_RCV_BUBBLE_CNT, One, B64, Synthesised, "idle flits inside received packets";
    "DcRcvBblVl" = DCC_PRF_PORT_VL_RCV_BUBBLE_CNT, Vl, B64, Synthesised, "counters of idle flits inside packets received on VL 0 to 7 and 15";
    "DcMarkFcn" = DCC_PRF_PORT_MARK_FECN_CNT, One, B64, Synthesised, "packets that this port marked with FECN";
    "DcMarkFcnVl" = DCC_PRF_PORT_VL_MARK_FECN_CNT, Vl, B64, Synthesised, "counters of packets marked with FECN on VL 0 to 7 and 15";
    "DcTotCrc" = DC_LCB_ERR_INFO_TOTAL_CRC_ERR, One, B64, Synthesised, "link CRC errors";
    "DcCrcLn0" = DC_LCB_ERR_INFO_CRC_ERR_LN0, One, B64, Synthesised, "link CRC errors on lane 0";
    "DcCrcLn1" = DC_LCB_ERR_INFO_CRC_ERR_LN1, One, B64, Synthesised, "link CRC errors on lane 1";
    "DcCrcLn2" = DC_LCB_ERR_INFO_CRC_ERR_LN2, One, B64, Synthesised, "link CRC errors on lane 2";
    "DcCrcLn3" = DC_LCB_ERR_INFO_CRC_ERR_LN3, One, B64, Synthesised, "link CRC errors on lane 3";
    "DcMultLn" = DC_LCB_ERR_INFO_CRC_ERR_MULTI_LN, One, B64, Synthesised, "link CRC errors on several lanes";
    "DcTxReplay" = DC_LCB_ERR_INFO_TX_REPLAY_CNT, One, B64, Synthesised, "replays sent";
    "DcRxReplay" = DC_LCB_ERR_INFO_RX_REPLAY_CNT, One, B64, Synthesised, "replays asked for";
    "DcLinkSeqCrc" = DC_LCB_ERR_INFO_SEQ_CRC_CNT, One, B64, Synthesised, "cRC errors one after the other";
    "DcEsc0" = DC_LCB_ERR_INFO_ESCAPE_0_ONLY_CNT, One, B64, Synthesised, "escape 0 events alone";
    "DcEsc1" = DC_LCB_ERR_INFO_ESCAPE_0_PLUS1_CNT, One, B64, Synthesised, "escape 0 events with one more";
    "DcEsc0Plus2" = DC_LCB_ERR_INFO_ESCAPE_0_PLUS2_CNT, One, B64, Synthesised, "escape 0 events with two more";
    "DcReinitPeer" = DC_LCB_ERR_INFO_REINIT_FROM_PEER_CNT, One, B64, Synthesised, "link re-inits by the peer";
    "DcSbe" = DC_LCB_ERR_INFO_SBE_CNT, One, B64, Synthesised, "single-bit errors";
    "DcMiscFlg" = DC_LCB_ERR_INFO_MISC_FLG_CNT, One, B64, Synthesised, "other error flags";
    "DcGoodLTP" = DC_LCB_PRF_GOOD_LTP_CNT, One, B64, Synthesised, "good link-transfer packets";
    "DcAccLTP" = DC_LCB_PRF_ACCEPTED_LTP_CNT, One, B64, Synthesised, "accepted link-transfer packets";
    "DcPrfRxFlit" = DC_LCB_PRF_RX_FLIT_CNT, One, B64, Synthesised, "flits received";
    "DcPrfTxFlit" = DC_LCB_PRF_TX_FLIT_CNT, One, B64, Synthesised, "flits sent";
    "DcPrfClk" = DC_LCB_PRF_CLK_CNTR, One, B64, Synthesised, "link clock ticks";
    "DcFltCrdts" = DC_LCB_PG_DBG_FLIT_CRDTS_CNT, One, B64, Synthesised, "flit credits, for debugging";
    "DcPauseComp" = DC_LCB_PG_STS_PAUSE_COMPLETE_CNT, One, B64, Synthesised, "completed pauses";
    "DcStsTxSbe" = DC_LCB_PG_STS_TX_SBE_CNT, One, B64, Synthesised, "single-bit errors on transmit";
    "DcStsTxMbe" = DC_LCB_PG_STS_TX_MBE_CNT, One, B64, Synthesised, "multi-bit errors on transmit";
    "SDEDscFdCn" = SEND_DMA_DESC_FETCHED_CNT, Engine, B32, Plain, "descriptors fetched";
    "TxUnVLErr" = SEND_COUNTER_ARRAY32 at SEND_UNSUP_VL_ERR_CNT, One, B32, Plain, "packets to an unsupported VL";
    "TxInvalLen" = SEND_COUNTER_ARRAY32 at SEND_LEN_ERR_CNT, One, B32, Plain, "packets of a wrong length";
    "TxMMLenErr" = SEND_COUNTER_ARRAY32 at SEND_MAX_MIN_LEN_ERR_CNT, One, B32, Plain, "packets too long or too short";
    "TxUnderrun" = SEND_COUNTER_ARRAY32 at SEND_UNDERRUN_CNT, One, B32, Plain, "underruns";
    "TxFlowStall" = SEND_COUNTER_ARRAY32 at SEND_FLOW_STALL_CNT, One, B32, Plain, "flow stalls";
    "TxDropped" = SEND_COUNTER_ARRAY32 at SEND_DROPPED_PKT_CNT, One, B32, Plain, "packets dropped";
    "TxHdrErr" = SEND_COUNTER_ARRAY32 at SEND_HEADERS_ERR_CNT, One, B32, Plain, "packets with a bad header";
    "TxPkt" = SEND_COUNTER_ARRAY64 at SEND_DATA_PKT_CNT, One, B64, Plain, "packets";
    "TxWords" = SEND_COUNTER_ARRAY64 at SEND_DWORD_CNT, One, B64, Plain, "dwords";
    "TxWait" = SEND_COUNTER_ARRAY64 at SEND_WAIT_CNT, One, B64, Synthesised, "ticks in which a packet waited for credit";
    "TxFlitVL" = SEND_COUNTER_ARRAY64 at SEND_DATA_VL0_CNT, Vl, B64, Synthesised, "flits";
    "TxPktVL" = SEND_COUNTER_ARRAY64 at SEND_DATA_PKT_VL0_CNT, Vl, B64, Synthesised, "packets";
    "TxWaitVL" = SEND_COUNTER_ARRAY64 at SEND_WAIT_VL0_CNT, Vl, B64, Synthesised, "waiting ticks";
    "RxPkt" = RCV_COUNTER_ARRAY64 at RCV_DATA_PKT_CNT, One, B64, Plain, "packets";
    "RxWords" = RCV_COUNTER_ARRAY64 at RCV_DWORD_CNT, One, B64, Plain, "dwords";
    "RcvHdrOvr" = RCV_HDR_OVFL_CNT, Context, B64, Plain, "packets dropped since the header queue was full";
}

errors! {
    "MISC_PLL_LOCK_FAIL_ERR" = MISC_ERR_STATUS::MISC_PLL_LOCK_FAIL_ERR;
    "MISC_MBIST_FAIL_ERR" = MISC_ERR_STATUS::MISC_MBIST_FAIL_ERR;
    "MISC_INVALID_EEP_CMD_ERR" = MISC_ERR_STATUS::MISC_INVALID_EEP_CMD_ERR;
    "MISC_EFUSE_DONE_PARITY_ERR" = MISC_ERR_STATUS::MISC_EFUSE_DONE_PARITY_ERR;
    "MISC_EFUSE_WRITE_ERR" = MISC_ERR_STATUS::MISC_EFUSE_WRITE_ERR;
    "MISC_EFUSE_READ_BAD_ADDR_ERR" = MISC_ERR_STATUS::MISC_EFUSE_READ_BAD_ADDR_ERR;
    "MISC_EFUSE_CSR_PARITY_ERR" = MISC_ERR_STATUS::MISC_EFUSE_CSR_PARITY_ERR;
    "MISC_FW_AUTH_FAILED_ERR" = MISC_ERR_STATUS::MISC_FW_AUTH_FAILED_ERR;
    "MISC_KEY_MISMATCH_ERR" = MISC_ERR_STATUS::MISC_KEY_MISMATCH_ERR;
    "MISC_SBUS_WRITE_FAILED_ERR" = MISC_ERR_STATUS::MISC_SBUS_WRITE_FAILED_ERR;
    "MISC_CSR_WRITE_BAD_ADDR_ERR" = MISC_ERR_STATUS::MISC_CSR_WRITE_BAD_ADDR_ERR;
    "MISC_CSR_READ_BAD_ADDR_ERR" = MISC_ERR_STATUS::MISC_CSR_READ_BAD_ADDR_ERR;
    "MISC_CSR_PARITY_ERR" = MISC_ERR_STATUS::MISC_CSR_PARITY_ERR;
    "CceMsixCsrParityErr" = CCE_ERR_STATUS::CCE_MSIX_CSR_PARITY_ERR;
    "CceIntMapUncErr" = CCE_ERR_STATUS::CCE_INT_MAP_UNC_ERR;
    "CceIntMapCorErr" = CCE_ERR_STATUS::CCE_INT_MAP_COR_ERR;
    "CceMsixTableUncErr" = CCE_ERR_STATUS::CCE_MSIX_TABLE_UNC_ERR;
    "CceMsixTableCorErr" = CCE_ERR_STATUS::CCE_MSIX_TABLE_COR_ERR;
    "CceRxdmaConvFifoParityErr" = CCE_ERR_STATUS::CCE_RXDMA_CONV_FIFO_PARITY_ERR;
    "CceRcplAsyncFifoParityErr" = CCE_ERR_STATUS::CCE_RCPL_ASYNC_FIFO_PARITY_ERR;
    "CceSegWriteBadAddrErr" = CCE_ERR_STATUS::CCE_SEG_WRITE_BAD_ADDR_ERR;
    "CceSegReadBadAddrErr" = CCE_ERR_STATUS::CCE_SEG_READ_BAD_ADDR_ERR;
    "Cce LATriggered" = CCE_ERR_STATUS::LA_TRIGGERED;
    "CceTrgtCplTimeoutErr" = CCE_ERR_STATUS::CCE_TRGT_CPL_TIMEOUT_ERR;
    "PcicReceiveParityErr" = CCE_ERR_STATUS::PCIC_RECEIVE_PARITY_ERR;
    "PcicTransmitBackParityErr" = CCE_ERR_STATUS::PCIC_TRANSMIT_BACK_PARITY_ERR;
    "PcicTransmitFrontParityErr" = CCE_ERR_STATUS::PCIC_TRANSMIT_FRONT_PARITY_ERR;
    "PcicCplDatQUncErr" = CCE_ERR_STATUS::PCIC_CPL_DAT_QUNC_ERR;
    "PcicCplHdQUncErr" = CCE_ERR_STATUS::PCIC_CPL_HD_QUNC_ERR;
    "PcicPostDatQUncErr" = CCE_ERR_STATUS::PCIC_POST_DAT_QUNC_ERR;
    "PcicPostHdQUncErr" = CCE_ERR_STATUS::PCIC_POST_HD_QUNC_ERR;
    "PcicRetrySotMemUncErr" = CCE_ERR_STATUS::PCIC_RETRY_SOT_MEM_UNC_ERR;
    "PcicRetryMemUncErr" = CCE_ERR_STATUS::PCIC_RETRY_MEM_UNC_ERR;
    "PcicNPostDatQParityErr" = CCE_ERR_STATUS::PCIC_NPOST_DAT_QPARITY_ERR;
    "PcicNPostHQParityErr" = CCE_ERR_STATUS::PCIC_NPOST_HQ_PARITY_ERR;
    "PcicCplDatQCorErr" = CCE_ERR_STATUS::PCIC_CPL_DAT_QCOR_ERR;
    "PcicCplHdQCorErr" = CCE_ERR_STATUS::PCIC_CPL_HD_QCOR_ERR;
    "PcicPostDatQCorErr" = CCE_ERR_STATUS::PCIC_POST_DAT_QCOR_ERR;
    "PcicPostHdQCorErr" = CCE_ERR_STATUS::PCIC_POST_HD_QCOR_ERR;
    "PcicRetrySotMemCorErr" = CCE_ERR_STATUS::PCIC_RETRY_SOT_MEM_COR_ERR;
    "PcicRetryMemCorErr" = CCE_ERR_STATUS::PCIC_RETRY_MEM_COR_ERR;
    "CceCli1AsyncFifoDbgParityError" = CCE_ERR_STATUS::CCE_CLI1_ASYNC_FIFO_DBG_PARITY_ERROR;
    "CceCli1AsyncFifoRxdmaParityError" = CCE_ERR_STATUS::CCE_CLI1_ASYNC_FIFO_RXDMA_PARITY_ERROR;
    "CceCli1AsyncFifoSdmaHdParityErr" = CCE_ERR_STATUS::CCE_CLI1_ASYNC_FIFO_SDMA_HD_PARITY_ERR;
    "CceCli1AsyncFifoPioCrdtParityErr" = CCE_ERR_STATUS::CCE_CLI1_ASYNC_FIFO_PIO_CRDT_PARITY_ERR;
    "CceCli2AsyncFifoParityErr" = CCE_ERR_STATUS::CCE_CLI2_ASYNC_FIFO_PARITY_ERR;
    "CceCsrCfgBusParityErr" = CCE_ERR_STATUS::CCE_CSR_CFG_BUS_PARITY_ERR;
    "CceCli0AsyncFifoParityErr" = CCE_ERR_STATUS::CCE_CLI0_ASYNC_FIFO_PARITY_ERR;
    "CceRspdDataParityErr" = CCE_ERR_STATUS::CCE_RSPD_DATA_PARITY_ERR;
    "CceTrgtAccessErr" = CCE_ERR_STATUS::CCE_TRGT_ACCESS_ERR;
    "CceTrgtAsyncFifoParityErr" = CCE_ERR_STATUS::CCE_TRGT_ASYNC_FIFO_PARITY_ERR;
    "CceCsrWriteBadAddrErr" = CCE_ERR_STATUS::CCE_CSR_WRITE_BAD_ADDR_ERR;
    "CceCsrReadBadAddrErr" = CCE_ERR_STATUS::CCE_CSR_READ_BAD_ADDR_ERR;
    "CceCsrParityErr" = CCE_ERR_STATUS::CCE_CSR_PARITY_ERR;
    "RxCsrParityErr" = RCV_ERR_STATUS::RX_CSR_PARITY_ERR;
    "RxCsrWriteBadAddrErr" = RCV_ERR_STATUS::RX_CSR_WRITE_BAD_ADDR_ERR;
    "RxCsrReadBadAddrErr" = RCV_ERR_STATUS::RX_CSR_READ_BAD_ADDR_ERR;
    "RxDmaCsrUncErr" = RCV_ERR_STATUS::RX_DMA_CSR_UNC_ERR;
    "RxDmaDqFsmEncodingErr" = RCV_ERR_STATUS::RX_DMA_DQ_FSM_ENCODING_ERR;
    "RxDmaEqFsmEncodingErr" = RCV_ERR_STATUS::RX_DMA_EQ_FSM_ENCODING_ERR;
    "RxDmaCsrParityErr" = RCV_ERR_STATUS::RX_DMA_CSR_PARITY_ERR;
    "RxRbufDataCorErr" = RCV_ERR_STATUS::RX_RBUF_DATA_COR_ERR;
    "RxRbufDataUncErr" = RCV_ERR_STATUS::RX_RBUF_DATA_UNC_ERR;
    "RxDmaDataFifoRdCorErr" = RCV_ERR_STATUS::RX_DMA_DATA_FIFO_RD_COR_ERR;
    "RxDmaDataFifoRdUncErr" = RCV_ERR_STATUS::RX_DMA_DATA_FIFO_RD_UNC_ERR;
    "RxDmaHdrFifoRdCorErr" = RCV_ERR_STATUS::RX_DMA_HDR_FIFO_RD_COR_ERR;
    "RxDmaHdrFifoRdUncErr" = RCV_ERR_STATUS::RX_DMA_HDR_FIFO_RD_UNC_ERR;
    "RxRbufDescPart2CorErr" = RCV_ERR_STATUS::RX_RBUF_DESC_PART2_COR_ERR;
    "RxRbufDescPart2UncErr" = RCV_ERR_STATUS::RX_RBUF_DESC_PART2_UNC_ERR;
    "RxRbufDescPart1CorErr" = RCV_ERR_STATUS::RX_RBUF_DESC_PART1_COR_ERR;
    "RxRbufDescPart1UncErr" = RCV_ERR_STATUS::RX_RBUF_DESC_PART1_UNC_ERR;
    "RxHqIntrFsmErr" = RCV_ERR_STATUS::RX_HQ_INTR_FSM_ERR;
    "RxHqIntrCsrParityErr" = RCV_ERR_STATUS::RX_HQ_INTR_CSR_PARITY_ERR;
    "RxLookupCsrParityErr" = RCV_ERR_STATUS::RX_LOOKUP_CSR_PARITY_ERR;
    "RxLookupRcvArrayCorErr" = RCV_ERR_STATUS::RX_LOOKUP_RCV_ARRAY_COR_ERR;
    "RxLookupRcvArrayUncErr" = RCV_ERR_STATUS::RX_LOOKUP_RCV_ARRAY_UNC_ERR;
    "RxLookupDesPart2ParityErr" = RCV_ERR_STATUS::RX_LOOKUP_DES_PART2_PARITY_ERR;
    "RxLookupDesPart1UncCorErr" = RCV_ERR_STATUS::RX_LOOKUP_DES_PART1_UNC_COR_ERR;
    "RxLookupDesPart1UncErr" = RCV_ERR_STATUS::RX_LOOKUP_DES_PART1_UNC_ERR;
    "RxRbufNextFreeBufCorErr" = RCV_ERR_STATUS::RX_RBUF_NEXT_FREE_BUF_COR_ERR;
    "RxRbufNextFreeBufUncErr" = RCV_ERR_STATUS::RX_RBUF_NEXT_FREE_BUF_UNC_ERR;
    "RxRbufFlInitWrAddrParityErr" = RCV_ERR_STATUS::RX_RBUF_FL_INIT_WR_ADDR_PARITY_ERR;
    "RxRbufFlInitdoneParityErr" = RCV_ERR_STATUS::RX_RBUF_FL_INITDONE_PARITY_ERR;
    "RxRbufFlWrAddrParityErr" = RCV_ERR_STATUS::RX_RBUF_FL_WR_ADDR_PARITY_ERR;
    "RxRbufFlRdAddrParityErr" = RCV_ERR_STATUS::RX_RBUF_FL_RD_ADDR_PARITY_ERR;
    "RxRbufEmptyErr" = RCV_ERR_STATUS::RX_RBUF_EMPTY_ERR;
    "RxRbufFullErr" = RCV_ERR_STATUS::RX_RBUF_FULL_ERR;
    "RxRBufBadLookupErr" = RCV_ERR_STATUS::RX_RBUF_BAD_LOOKUP_ERR;
    "RxRbufCtxIdParityErr" = RCV_ERR_STATUS::RX_RBUF_CTX_ID_PARITY_ERR;
    "RxRbufCsrQEOPDWParityErr" = RCV_ERR_STATUS::RX_RBUF_CSR_QEOPDW_PARITY_ERR;
    "RxRbufCsrQNumOfPktParityErr" = RCV_ERR_STATUS::RX_RBUF_CSR_QNUM_OF_PKT_PARITY_ERR;
    "RxRbufCsrQTlPtrParityErr" = RCV_ERR_STATUS::RX_RBUF_CSR_QTL_PTR_PARITY_ERR;
    "RxRbufCsrQHdPtrParityErr" = RCV_ERR_STATUS::RX_RBUF_CSR_QHD_PTR_PARITY_ERR;
    "RxRbufCsrQVldBitParityErr" = RCV_ERR_STATUS::RX_RBUF_CSR_QVLD_BIT_PARITY_ERR;
    "RxRbufCsrQNextBufParityErr" = RCV_ERR_STATUS::RX_RBUF_CSR_QNEXT_BUF_PARITY_ERR;
    "RxRbufCsrQEntCntParityErr" = RCV_ERR_STATUS::RX_RBUF_CSR_QENT_CNT_PARITY_ERR;
    "RxRbufCsrQHeadBufNumParityErr" = RCV_ERR_STATUS::RX_RBUF_CSR_QHEAD_BUF_NUM_PARITY_ERR;
    "RxRbufBlockListReadCorErr" = RCV_ERR_STATUS::RX_RBUF_BLOCK_LIST_READ_COR_ERR;
    "RxRbufBlockListReadUncErr" = RCV_ERR_STATUS::RX_RBUF_BLOCK_LIST_READ_UNC_ERR;
    "RxRbufLookupDesCorErr" = RCV_ERR_STATUS::RX_RBUF_LOOKUP_DES_COR_ERR;
    "RxRbufLookupDesUncErr" = RCV_ERR_STATUS::RX_RBUF_LOOKUP_DES_UNC_ERR;
    "RxRbufLookupDesRegUncCorErr" = RCV_ERR_STATUS::RX_RBUF_LOOKUP_DES_REG_UNC_COR_ERR;
    "RxRbufLookupDesRegUncErr" = RCV_ERR_STATUS::RX_RBUF_LOOKUP_DES_REG_UNC_ERR;
    "RxRbufFreeListCorErr" = RCV_ERR_STATUS::RX_RBUF_FREE_LIST_COR_ERR;
    "RxRbufFreeListUncErr" = RCV_ERR_STATUS::RX_RBUF_FREE_LIST_UNC_ERR;
    "RxRcvFsmEncodingErr" = RCV_ERR_STATUS::RX_RCV_FSM_ENCODING_ERR;
    "RxDmaFlagCorErr" = RCV_ERR_STATUS::RX_DMA_FLAG_COR_ERR;
    "RxDmaFlagUncErr" = RCV_ERR_STATUS::RX_DMA_FLAG_UNC_ERR;
    "RxDcSopEopParityErr" = RCV_ERR_STATUS::RX_DC_SOP_EOP_PARITY_ERR;
    "RxRcvCsrParityErr" = RCV_ERR_STATUS::RX_RCV_CSR_PARITY_ERR;
    "RxRcvQpMapTableCorErr" = RCV_ERR_STATUS::RX_RCV_QP_MAP_TABLE_COR_ERR;
    "RxRcvQpMapTableUncErr" = RCV_ERR_STATUS::RX_RCV_QP_MAP_TABLE_UNC_ERR;
    "RxRcvDataCorErr" = RCV_ERR_STATUS::RX_RCV_DATA_COR_ERR;
    "RxRcvDataUncErr" = RCV_ERR_STATUS::RX_RCV_DATA_UNC_ERR;
    "RxRcvHdrCorErr" = RCV_ERR_STATUS::RX_RCV_HDR_COR_ERR;
    "RxRcvHdrUncErr" = RCV_ERR_STATUS::RX_RCV_HDR_UNC_ERR;
    "RxDcIntfParityErr" = RCV_ERR_STATUS::RX_DC_INTF_PARITY_ERR;
    "RxDmaCsrCorErr" = RCV_ERR_STATUS::RX_DMA_CSR_COR_ERR;
    "PioPecSopHeadParityErr" = SEND_PIO_ERR_STATUS::PIO_PEC_SOP_HEAD_PARITY_ERR;
    "PioPccSopHeadParityErr" = SEND_PIO_ERR_STATUS::PIO_PCC_SOP_HEAD_PARITY_ERR;
    "PioLastReturnedCntParityErr" = SEND_PIO_ERR_STATUS::PIO_LAST_RETURNED_CNT_PARITY_ERR;
    "PioCurrentFreeCntParityErr" = SEND_PIO_ERR_STATUS::PIO_CURRENT_FREE_CNT_PARITY_ERR;
    "PioPpmcSopLenErr" = SEND_PIO_ERR_STATUS::PIO_PPMC_SOP_LEN_ERR;
    "PioPpmcBqcMemParityErr" = SEND_PIO_ERR_STATUS::PIO_PPMC_BQC_MEM_PARITY_ERR;
    "PioVlFifoParityErr" = SEND_PIO_ERR_STATUS::PIO_VL_FIFO_PARITY_ERR;
    "PioVlfSopParityErr" = SEND_PIO_ERR_STATUS::PIO_VLF_SOP_PARITY_ERR;
    "PioVlfVlLenParityErr" = SEND_PIO_ERR_STATUS::PIO_VLF_VL_LEN_PARITY_ERR;
    "PioBlockQwCountParityErr" = SEND_PIO_ERR_STATUS::PIO_BLOCK_QW_COUNT_PARITY_ERR;
    "PioWriteQwValidParityErr" = SEND_PIO_ERR_STATUS::PIO_WRITE_QW_VALID_PARITY_ERR;
    "PioStateMachineErr" = SEND_PIO_ERR_STATUS::PIO_STATE_MACHINE_ERR;
    "PioWriteDataParityErr" = SEND_PIO_ERR_STATUS::PIO_WRITE_DATA_PARITY_ERR;
    "PioHostAddrMemCorErr" = SEND_PIO_ERR_STATUS::PIO_HOST_ADDR_MEM_COR_ERR;
    "PioHostAddrMemUncErr" = SEND_PIO_ERR_STATUS::PIO_HOST_ADDR_MEM_UNC_ERR;
    "PioPktEvictSmOrArbSmErr" = SEND_PIO_ERR_STATUS::PIO_PKT_EVICT_SM_OR_ARB_SM_ERR;
    "PioInitSmInErr" = SEND_PIO_ERR_STATUS::PIO_INIT_SM_IN_ERR;
    "PioPpmcPblFifoErr" = SEND_PIO_ERR_STATUS::PIO_PPMC_PBL_FIFO_ERR;
    "PioCreditRetFifoParityErr" = SEND_PIO_ERR_STATUS::PIO_CREDIT_RET_FIFO_PARITY_ERR;
    "PioVlLenMemBank1CorErr" = SEND_PIO_ERR_STATUS::PIO_VL_LEN_MEM_BANK1_COR_ERR;
    "PioVlLenMemBank0CorErr" = SEND_PIO_ERR_STATUS::PIO_VL_LEN_MEM_BANK0_COR_ERR;
    "PioVlLenMemBank1UncErr" = SEND_PIO_ERR_STATUS::PIO_VL_LEN_MEM_BANK1_UNC_ERR;
    "PioVlLenMemBank0UncErr" = SEND_PIO_ERR_STATUS::PIO_VL_LEN_MEM_BANK0_UNC_ERR;
    "PioSmPktResetParityErr" = SEND_PIO_ERR_STATUS::PIO_SM_PKT_RESET_PARITY_ERR;
    "PioPktEvictFifoParityErr" = SEND_PIO_ERR_STATUS::PIO_PKT_EVICT_FIFO_PARITY_ERR;
    "PioSbrdctrlCrrelFifoParityErr" = SEND_PIO_ERR_STATUS::PIO_SBRDCTRL_CRREL_FIFO_PARITY_ERR;
    "PioSbrdctlCrrelParityErr" = SEND_PIO_ERR_STATUS::PIO_SBRDCTL_CRREL_PARITY_ERR;
    "PioPecFifoParityErr" = SEND_PIO_ERR_STATUS::PIO_PEC_FIFO_PARITY_ERR;
    "PioPccFifoParityErr" = SEND_PIO_ERR_STATUS::PIO_PCC_FIFO_PARITY_ERR;
    "PioSbMemFifo1Err" = SEND_PIO_ERR_STATUS::PIO_SB_MEM_FIFO1_ERR;
    "PioSbMemFifo0Err" = SEND_PIO_ERR_STATUS::PIO_SB_MEM_FIFO0_ERR;
    "PioCsrParityErr" = SEND_PIO_ERR_STATUS::PIO_CSR_PARITY_ERR;
    "PioWriteAddrParityErr" = SEND_PIO_ERR_STATUS::PIO_WRITE_ADDR_PARITY_ERR;
    "PioWriteBadCtxtErr" = SEND_PIO_ERR_STATUS::PIO_WRITE_BAD_CTXT_ERR;
    "SDmaPcieReqTrackingCorErr" = SEND_DMA_ERR_STATUS::SDMA_PCIE_REQ_TRACKING_COR_ERR;
    "SDmaPcieReqTrackingUncErr" = SEND_DMA_ERR_STATUS::SDMA_PCIE_REQ_TRACKING_UNC_ERR;
    "SDmaCsrParityErr" = SEND_DMA_ERR_STATUS::SDMA_CSR_PARITY_ERR;
    "SDmaRpyTagErr" = SEND_DMA_ERR_STATUS::SDMA_RPY_TAG_ERR;
    "TxReadPioMemoryCsrUncErr" = SEND_EGRESS_ERR_STATUS::TX_READ_PIO_MEMORY_CSR_UNC_ERR;
    "TxReadSdmaMemoryCsrUncErr" = SEND_EGRESS_ERR_STATUS::TX_READ_SDMA_MEMORY_CSR_UNC_ERR;
    "TxEgressFifoCorErr" = SEND_EGRESS_ERR_STATUS::TX_EGRESS_FIFO_COR_ERR;
    "TxReadPioMemoryCorErr" = SEND_EGRESS_ERR_STATUS::TX_READ_PIO_MEMORY_COR_ERR;
    "TxReadSdmaMemoryCorErr" = SEND_EGRESS_ERR_STATUS::TX_READ_SDMA_MEMORY_COR_ERR;
    "TxSbHdrCorErr" = SEND_EGRESS_ERR_STATUS::TX_SB_HDR_COR_ERR;
    "TxCreditOverrunErr" = SEND_EGRESS_ERR_STATUS::TX_CREDIT_OVERRUN_ERR;
    "TxLaunchFifo8CorErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO8_COR_ERR;
    "TxLaunchFifo7CorErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO7_COR_ERR;
    "TxLaunchFifo6CorErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO6_COR_ERR;
    "TxLaunchFifo5CorErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO5_COR_ERR;
    "TxLaunchFifo4CorErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO4_COR_ERR;
    "TxLaunchFifo3CorErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO3_COR_ERR;
    "TxLaunchFifo2CorErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO2_COR_ERR;
    "TxLaunchFifo1CorErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO1_COR_ERR;
    "TxLaunchFifo0CorErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO0_COR_ERR;
    "TxCreditReturnVLErr" = SEND_EGRESS_ERR_STATUS::TX_CREDIT_RETURN_VL_ERR;
    "TxHcrcInsertionErr" = SEND_EGRESS_ERR_STATUS::TX_HCRC_INSERTION_ERR;
    "TxEgressFifoUncErr" = SEND_EGRESS_ERR_STATUS::TX_EGRESS_FIFO_UNC_ERR;
    "TxReadPioMemoryUncErr" = SEND_EGRESS_ERR_STATUS::TX_READ_PIO_MEMORY_UNC_ERR;
    "TxReadSdmaMemoryUncErr" = SEND_EGRESS_ERR_STATUS::TX_READ_SDMA_MEMORY_UNC_ERR;
    "TxSbHdrUncErr" = SEND_EGRESS_ERR_STATUS::TX_SB_HDR_UNC_ERR;
    "TxCreditReturnParityErr" = SEND_EGRESS_ERR_STATUS::TX_CREDIT_RETURN_PARITY_ERR;
    "TxLaunchFifo8UncOrParityErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO8_UNC_OR_PARITY_ERR;
    "TxLaunchFifo7UncOrParityErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO7_UNC_OR_PARITY_ERR;
    "TxLaunchFifo6UncOrParityErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO6_UNC_OR_PARITY_ERR;
    "TxLaunchFifo5UncOrParityErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO5_UNC_OR_PARITY_ERR;
    "TxLaunchFifo4UncOrParityErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO4_UNC_OR_PARITY_ERR;
    "TxLaunchFifo3UncOrParityErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO3_UNC_OR_PARITY_ERR;
    "TxLaunchFifo2UncOrParityErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO2_UNC_OR_PARITY_ERR;
    "TxLaunchFifo1UncOrParityErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO1_UNC_OR_PARITY_ERR;
    "TxLaunchFifo0UncOrParityErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO0_UNC_OR_PARITY_ERR;
    "TxSdma15DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA15_DISALLOWED_PACKET_ERR;
    "TxSdma14DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA14_DISALLOWED_PACKET_ERR;
    "TxSdma13DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA13_DISALLOWED_PACKET_ERR;
    "TxSdma12DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA12_DISALLOWED_PACKET_ERR;
    "TxSdma11DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA11_DISALLOWED_PACKET_ERR;
    "TxSdma10DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA10_DISALLOWED_PACKET_ERR;
    "TxSdma9DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA9_DISALLOWED_PACKET_ERR;
    "TxSdma8DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA8_DISALLOWED_PACKET_ERR;
    "TxSdma7DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA7_DISALLOWED_PACKET_ERR;
    "TxSdma6DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA6_DISALLOWED_PACKET_ERR;
    "TxSdma5DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA5_DISALLOWED_PACKET_ERR;
    "TxSdma4DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA4_DISALLOWED_PACKET_ERR;
    "TxSdma3DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA3_DISALLOWED_PACKET_ERR;
    "TxSdma2DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA2_DISALLOWED_PACKET_ERR;
    "TxSdma1DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA1_DISALLOWED_PACKET_ERR;
    "TxSdma0DisallowedPacketErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA0_DISALLOWED_PACKET_ERR;
    "TxConfigParityErr" = SEND_EGRESS_ERR_STATUS::TX_CONFIG_PARITY_ERR;
    "TxSbrdCtlCsrParityErr" = SEND_EGRESS_ERR_STATUS::TX_SBRD_CTL_CSR_PARITY_ERR;
    "TxLaunchCsrParityErr" = SEND_EGRESS_ERR_STATUS::TX_LAUNCH_CSR_PARITY_ERR;
    "TxIllegalVLErr" = SEND_EGRESS_ERR_STATUS::TX_ILLEGAL_VL_ERR;
    "TxSbrdCtlStateMachineParityErr" = SEND_EGRESS_ERR_STATUS::TX_SBRD_CTL_STATE_MACHINE_PARITY_ERR;
    "TxSdmaLaunchIntfParityErr" = SEND_EGRESS_ERR_STATUS::TX_SDMA_LAUNCH_INTF_PARITY_ERR;
    "TxPioLaunchIntfParityErr" = SEND_EGRESS_ERR_STATUS::TX_PIO_LAUNCH_INTF_PARITY_ERR;
    "TxIncorrectLinkStateErr" = SEND_EGRESS_ERR_STATUS::TX_INCORRECT_LINK_STATE_ERR;
    "TxLinkdownErr" = SEND_EGRESS_ERR_STATUS::TX_LINKDOWN_ERR;
    "TxPktIntegrityMemUncErr" = SEND_EGRESS_ERR_STATUS::TX_PKT_INTEGRITY_MEM_UNC_ERR;
    "TxPktIntegrityMemCorErr" = SEND_EGRESS_ERR_STATUS::TX_PKT_INTEGRITY_MEM_COR_ERR;
    "SendCsrWriteBadAddrErr" = SEND_ERR_STATUS::SEND_CSR_WRITE_BAD_ADDR_ERR;
    "SendCsrReadBadAddrErr" = SEND_ERR_STATUS::SEND_CSR_READ_BAD_ADDR_ERR;
    "SendCsrParityErr" = SEND_ERR_STATUS::SEND_CSR_PARITY_ERR;
    "EgressFifoUnderrunOrParityErr" = SEND_EGRESS_ERR_STATUS::TX_EGRESS_FIFO_UNDERRUN_OR_PARITY_ERR;
}
