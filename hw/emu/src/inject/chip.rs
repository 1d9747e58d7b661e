//! Faults of the chip as a whole.

use opx_defs::csr::{self, Csr, Field};

/// Faults that show as one bit of an error register, beside those that show otherwise.
macro_rules! chip_faults {
    (
        $(#[$about:meta])*
        $name:ident {
            $($(#[$doc:meta])* $variant:ident = $text:literal,)+
        }
        errors {
            $($error:ident = $error_text:literal in $register:ident::$field:ident,)+
        }
    ) => {
        super::faults! {
            $(#[$about])*
            $name {
                $($(#[$doc])* $variant = $text,)+
                $(#[doc = concat!(stringify!($register), ".", stringify!($field), ".")] $error = $error_text,)+
            }
        }

        impl $name {
            /// The error register and the bit of it that the fault sets, when that is how it shows.
            pub const fn error(self) -> Option<(Csr, Field)> {
                match self {
                    $(Self::$variant => None,)+
                    $(Self::$error => Some((csr::$register, csr::$register::$field)),)+
                }
            }
        }
    };
}

chip_faults! {
    /// A fault of the whole chip at one of the packets that it sends.
    ChipFault {
        /// The chip freezes for an error (SEND_EGRESS_ERR_STATUS.TX_CONFIG_PARITY_ERR), and the receive engine doesn't say
        /// that it has.
        FreezeUnseen = "chip-freeze-unseen",
        /// The same error, and after the unfreeze the receive engine goes on saying that it is frozen.
        UnfreezeUnseen = "chip-unfreeze-unseen",
        /// The temperature is critical (TCritInt).
        Overheated = "chip-overheated",
        /// The next message of vector 0 gets lost on its way to the host.
        LostInterrupt = "chip-lost-interrupt",
        /// Vector 0 sends a message without any source being set.
        SpuriousInterrupt = "chip-spurious-interrupt",
        /// The signal of the link is gone for a moment.
        LinkSignalLost = "link-signal-lost",
        /// The neighbour says that it takes the link down, for reason 37 (the fabric manager bounces it).
        LinkDownByNeighbor = "link-down-by-neighbor",
        /// The 8051 stops: its heartbeat is lost, and it takes no commands until its core is reset.
        Dc8051Dead = "8051-dead",
        /// The 8051 takes no commands until its core is reset, its heart beats on.
        Dc8051Mute = "8051-mute",
    }
    errors {
        CceCsrParity = "cce-csr-parity" in CCE_ERR_STATUS::CCE_CSR_PARITY_ERR,
        CceCsrReadBadAddr = "cce-csr-read-bad-addr" in CCE_ERR_STATUS::CCE_CSR_READ_BAD_ADDR_ERR,
        CceCsrWriteBadAddr = "cce-csr-write-bad-addr" in CCE_ERR_STATUS::CCE_CSR_WRITE_BAD_ADDR_ERR,
        CceTrgtAsyncFifoParity = "cce-trgt-async-fifo-parity" in CCE_ERR_STATUS::CCE_TRGT_ASYNC_FIFO_PARITY_ERR,
        CceTrgtAccess = "cce-trgt-access" in CCE_ERR_STATUS::CCE_TRGT_ACCESS_ERR,
        CceRspdDataParity = "cce-rspd-data-parity" in CCE_ERR_STATUS::CCE_RSPD_DATA_PARITY_ERR,
        CceCli0AsyncFifoParity = "cce-cli0-async-fifo-parity" in CCE_ERR_STATUS::CCE_CLI0_ASYNC_FIFO_PARITY_ERR,
        CceCsrCfgBusParity = "cce-csr-cfg-bus-parity" in CCE_ERR_STATUS::CCE_CSR_CFG_BUS_PARITY_ERR,
        CceCli2AsyncFifoParity = "cce-cli2-async-fifo-parity" in CCE_ERR_STATUS::CCE_CLI2_ASYNC_FIFO_PARITY_ERR,
        CceCli1AsyncFifoPioCrdtParity = "cce-cli1-async-fifo-pio-crdt-parity" in CCE_ERR_STATUS::CCE_CLI1_ASYNC_FIFO_PIO_CRDT_PARITY_ERR,
        CceCli1AsyncFifoSdmaHdParity = "cce-cli1-async-fifo-sdma-hd-parity" in CCE_ERR_STATUS::CCE_CLI1_ASYNC_FIFO_SDMA_HD_PARITY_ERR,
        CceCli1AsyncFifoRxdmaParity = "cce-cli1-async-fifo-rxdma-parity" in CCE_ERR_STATUS::CCE_CLI1_ASYNC_FIFO_RXDMA_PARITY_ERROR,
        CceCli1AsyncFifoDbgParity = "cce-cli1-async-fifo-dbg-parity" in CCE_ERR_STATUS::CCE_CLI1_ASYNC_FIFO_DBG_PARITY_ERROR,
        CcePcicRetryMemCor = "cce-pcic-retry-mem-cor" in CCE_ERR_STATUS::PCIC_RETRY_MEM_COR_ERR,
        CcePcicRetrySotMemCor = "cce-pcic-retry-sot-mem-cor" in CCE_ERR_STATUS::PCIC_RETRY_SOT_MEM_COR_ERR,
        CcePcicPostHdQcor = "cce-pcic-post-hd-qcor" in CCE_ERR_STATUS::PCIC_POST_HD_QCOR_ERR,
        CcePcicPostDatQcor = "cce-pcic-post-dat-qcor" in CCE_ERR_STATUS::PCIC_POST_DAT_QCOR_ERR,
        CcePcicCplHdQcor = "cce-pcic-cpl-hd-qcor" in CCE_ERR_STATUS::PCIC_CPL_HD_QCOR_ERR,
        CcePcicCplDatQcor = "cce-pcic-cpl-dat-qcor" in CCE_ERR_STATUS::PCIC_CPL_DAT_QCOR_ERR,
        CcePcicNpostHqParity = "cce-pcic-npost-hq-parity" in CCE_ERR_STATUS::PCIC_NPOST_HQ_PARITY_ERR,
        CcePcicNpostDatQparity = "cce-pcic-npost-dat-qparity" in CCE_ERR_STATUS::PCIC_NPOST_DAT_QPARITY_ERR,
        CcePcicRetryMemUnc = "cce-pcic-retry-mem-unc" in CCE_ERR_STATUS::PCIC_RETRY_MEM_UNC_ERR,
        CcePcicRetrySotMemUnc = "cce-pcic-retry-sot-mem-unc" in CCE_ERR_STATUS::PCIC_RETRY_SOT_MEM_UNC_ERR,
        CcePcicPostHdQunc = "cce-pcic-post-hd-qunc" in CCE_ERR_STATUS::PCIC_POST_HD_QUNC_ERR,
        CcePcicPostDatQunc = "cce-pcic-post-dat-qunc" in CCE_ERR_STATUS::PCIC_POST_DAT_QUNC_ERR,
        CcePcicCplHdQunc = "cce-pcic-cpl-hd-qunc" in CCE_ERR_STATUS::PCIC_CPL_HD_QUNC_ERR,
        CcePcicCplDatQunc = "cce-pcic-cpl-dat-qunc" in CCE_ERR_STATUS::PCIC_CPL_DAT_QUNC_ERR,
        CcePcicTransmitFrontParity = "cce-pcic-transmit-front-parity" in CCE_ERR_STATUS::PCIC_TRANSMIT_FRONT_PARITY_ERR,
        CcePcicTransmitBackParity = "cce-pcic-transmit-back-parity" in CCE_ERR_STATUS::PCIC_TRANSMIT_BACK_PARITY_ERR,
        CcePcicReceiveParity = "cce-pcic-receive-parity" in CCE_ERR_STATUS::PCIC_RECEIVE_PARITY_ERR,
        CceTrgtCplTimeout = "cce-trgt-cpl-timeout" in CCE_ERR_STATUS::CCE_TRGT_CPL_TIMEOUT_ERR,
        CceLaTriggered = "cce-la-triggered" in CCE_ERR_STATUS::LA_TRIGGERED,
        CceSegReadBadAddr = "cce-seg-read-bad-addr" in CCE_ERR_STATUS::CCE_SEG_READ_BAD_ADDR_ERR,
        CceSegWriteBadAddr = "cce-seg-write-bad-addr" in CCE_ERR_STATUS::CCE_SEG_WRITE_BAD_ADDR_ERR,
        CceRcplAsyncFifoParity = "cce-rcpl-async-fifo-parity" in CCE_ERR_STATUS::CCE_RCPL_ASYNC_FIFO_PARITY_ERR,
        CceRxdmaConvFifoParity = "cce-rxdma-conv-fifo-parity" in CCE_ERR_STATUS::CCE_RXDMA_CONV_FIFO_PARITY_ERR,
        CceMsixTableCor = "cce-msix-table-cor" in CCE_ERR_STATUS::CCE_MSIX_TABLE_COR_ERR,
        CceMsixTableUnc = "cce-msix-table-unc" in CCE_ERR_STATUS::CCE_MSIX_TABLE_UNC_ERR,
        CceIntMapCor = "cce-int-map-cor" in CCE_ERR_STATUS::CCE_INT_MAP_COR_ERR,
        CceIntMapUnc = "cce-int-map-unc" in CCE_ERR_STATUS::CCE_INT_MAP_UNC_ERR,
        CceMsixCsrParity = "cce-msix-csr-parity" in CCE_ERR_STATUS::CCE_MSIX_CSR_PARITY_ERR,
        MiscCsrParity = "misc-csr-parity" in MISC_ERR_STATUS::MISC_CSR_PARITY_ERR,
        MiscCsrReadBadAddr = "misc-csr-read-bad-addr" in MISC_ERR_STATUS::MISC_CSR_READ_BAD_ADDR_ERR,
        MiscCsrWriteBadAddr = "misc-csr-write-bad-addr" in MISC_ERR_STATUS::MISC_CSR_WRITE_BAD_ADDR_ERR,
        MiscSbusWriteFailed = "misc-sbus-write-failed" in MISC_ERR_STATUS::MISC_SBUS_WRITE_FAILED_ERR,
        MiscEfuseCsrParity = "misc-efuse-csr-parity" in MISC_ERR_STATUS::MISC_EFUSE_CSR_PARITY_ERR,
        MiscEfuseReadBadAddr = "misc-efuse-read-bad-addr" in MISC_ERR_STATUS::MISC_EFUSE_READ_BAD_ADDR_ERR,
        MiscEfuseWrite = "misc-efuse-write" in MISC_ERR_STATUS::MISC_EFUSE_WRITE_ERR,
        MiscEfuseDoneParity = "misc-efuse-done-parity" in MISC_ERR_STATUS::MISC_EFUSE_DONE_PARITY_ERR,
        MiscInvalidEepCmd = "misc-invalid-eep-cmd" in MISC_ERR_STATUS::MISC_INVALID_EEP_CMD_ERR,
        MiscMbistFail = "misc-mbist-fail" in MISC_ERR_STATUS::MISC_MBIST_FAIL_ERR,
        MiscPllLockFail = "misc-pll-lock-fail" in MISC_ERR_STATUS::MISC_PLL_LOCK_FAIL_ERR,
        PioWriteAddrParity = "txe-pio-write-addr-parity" in SEND_PIO_ERR_STATUS::PIO_WRITE_ADDR_PARITY_ERR,
        PioCsrParity = "txe-pio-csr-parity" in SEND_PIO_ERR_STATUS::PIO_CSR_PARITY_ERR,
        PioSbMemFifo0 = "txe-pio-sb-mem-fifo0" in SEND_PIO_ERR_STATUS::PIO_SB_MEM_FIFO0_ERR,
        PioSbMemFifo1 = "txe-pio-sb-mem-fifo1" in SEND_PIO_ERR_STATUS::PIO_SB_MEM_FIFO1_ERR,
        PioPccFifoParity = "txe-pio-pcc-fifo-parity" in SEND_PIO_ERR_STATUS::PIO_PCC_FIFO_PARITY_ERR,
        PioPecFifoParity = "txe-pio-pec-fifo-parity" in SEND_PIO_ERR_STATUS::PIO_PEC_FIFO_PARITY_ERR,
        PioSbrdctlCrrelParity = "txe-pio-sbrdctl-crrel-parity" in SEND_PIO_ERR_STATUS::PIO_SBRDCTL_CRREL_PARITY_ERR,
        PioSbrdctrlCrrelFifoParity = "txe-pio-sbrdctrl-crrel-fifo-parity" in SEND_PIO_ERR_STATUS::PIO_SBRDCTRL_CRREL_FIFO_PARITY_ERR,
        PioPktEvictFifoParity = "txe-pio-pkt-evict-fifo-parity" in SEND_PIO_ERR_STATUS::PIO_PKT_EVICT_FIFO_PARITY_ERR,
        PioSmPktResetParity = "txe-pio-sm-pkt-reset-parity" in SEND_PIO_ERR_STATUS::PIO_SM_PKT_RESET_PARITY_ERR,
        PioVlLenMemBank0Unc = "txe-pio-vl-len-mem-bank0-unc" in SEND_PIO_ERR_STATUS::PIO_VL_LEN_MEM_BANK0_UNC_ERR,
        PioVlLenMemBank1Unc = "txe-pio-vl-len-mem-bank1-unc" in SEND_PIO_ERR_STATUS::PIO_VL_LEN_MEM_BANK1_UNC_ERR,
        PioVlLenMemBank0Cor = "txe-pio-vl-len-mem-bank0-cor" in SEND_PIO_ERR_STATUS::PIO_VL_LEN_MEM_BANK0_COR_ERR,
        PioVlLenMemBank1Cor = "txe-pio-vl-len-mem-bank1-cor" in SEND_PIO_ERR_STATUS::PIO_VL_LEN_MEM_BANK1_COR_ERR,
        PioCreditRetFifoParity = "txe-pio-credit-ret-fifo-parity" in SEND_PIO_ERR_STATUS::PIO_CREDIT_RET_FIFO_PARITY_ERR,
        PioPpmcPblFifo = "txe-pio-ppmc-pbl-fifo" in SEND_PIO_ERR_STATUS::PIO_PPMC_PBL_FIFO_ERR,
        PioPktEvictSmOrArbSm = "txe-pio-pkt-evict-sm-or-arb-sm" in SEND_PIO_ERR_STATUS::PIO_PKT_EVICT_SM_OR_ARB_SM_ERR,
        PioHostAddrMemUnc = "txe-pio-host-addr-mem-unc" in SEND_PIO_ERR_STATUS::PIO_HOST_ADDR_MEM_UNC_ERR,
        PioHostAddrMemCor = "txe-pio-host-addr-mem-cor" in SEND_PIO_ERR_STATUS::PIO_HOST_ADDR_MEM_COR_ERR,
        PioWriteDataParity = "txe-pio-write-data-parity" in SEND_PIO_ERR_STATUS::PIO_WRITE_DATA_PARITY_ERR,
        PioStateMachine = "txe-pio-state-machine" in SEND_PIO_ERR_STATUS::PIO_STATE_MACHINE_ERR,
        PioWriteQwValidParity = "txe-pio-write-qw-valid-parity" in SEND_PIO_ERR_STATUS::PIO_WRITE_QW_VALID_PARITY_ERR,
        PioBlockQwCountParity = "txe-pio-block-qw-count-parity" in SEND_PIO_ERR_STATUS::PIO_BLOCK_QW_COUNT_PARITY_ERR,
        PioVlfVlLenParity = "txe-pio-vlf-vl-len-parity" in SEND_PIO_ERR_STATUS::PIO_VLF_VL_LEN_PARITY_ERR,
        PioVlfSopParity = "txe-pio-vlf-sop-parity" in SEND_PIO_ERR_STATUS::PIO_VLF_SOP_PARITY_ERR,
        PioVlFifoParity = "txe-pio-vl-fifo-parity" in SEND_PIO_ERR_STATUS::PIO_VL_FIFO_PARITY_ERR,
        PioPpmcBqcMemParity = "txe-pio-ppmc-bqc-mem-parity" in SEND_PIO_ERR_STATUS::PIO_PPMC_BQC_MEM_PARITY_ERR,
        PioPpmcSopLen = "txe-pio-ppmc-sop-len" in SEND_PIO_ERR_STATUS::PIO_PPMC_SOP_LEN_ERR,
        PioCurrentFreeCntParity = "txe-pio-current-free-cnt-parity" in SEND_PIO_ERR_STATUS::PIO_CURRENT_FREE_CNT_PARITY_ERR,
        PioLastReturnedCntParity = "txe-pio-last-returned-cnt-parity" in SEND_PIO_ERR_STATUS::PIO_LAST_RETURNED_CNT_PARITY_ERR,
        PioPccSopHeadParity = "txe-pio-pcc-sop-head-parity" in SEND_PIO_ERR_STATUS::PIO_PCC_SOP_HEAD_PARITY_ERR,
        PioPecSopHeadParity = "txe-pio-pec-sop-head-parity" in SEND_PIO_ERR_STATUS::PIO_PEC_SOP_HEAD_PARITY_ERR,
        SdmaRpyTag = "txe-sdma-rpy-tag" in SEND_DMA_ERR_STATUS::SDMA_RPY_TAG_ERR,
        SdmaCsrParity = "txe-sdma-csr-parity" in SEND_DMA_ERR_STATUS::SDMA_CSR_PARITY_ERR,
        SdmaPcieReqTrackingUnc = "txe-sdma-pcie-req-tracking-unc" in SEND_DMA_ERR_STATUS::SDMA_PCIE_REQ_TRACKING_UNC_ERR,
        SdmaPcieReqTrackingCor = "txe-sdma-pcie-req-tracking-cor" in SEND_DMA_ERR_STATUS::SDMA_PCIE_REQ_TRACKING_COR_ERR,
        EgressPktIntegrityMemCor = "egress-pkt-integrity-mem-cor" in SEND_EGRESS_ERR_STATUS::TX_PKT_INTEGRITY_MEM_COR_ERR,
        EgressPktIntegrityMemUnc = "egress-pkt-integrity-mem-unc" in SEND_EGRESS_ERR_STATUS::TX_PKT_INTEGRITY_MEM_UNC_ERR,
        EgressEgressFifoUnderrunOrParity = "egress-egress-fifo-underrun-or-parity" in SEND_EGRESS_ERR_STATUS::TX_EGRESS_FIFO_UNDERRUN_OR_PARITY_ERR,
        EgressPioLaunchIntfParity = "egress-pio-launch-intf-parity" in SEND_EGRESS_ERR_STATUS::TX_PIO_LAUNCH_INTF_PARITY_ERR,
        EgressSdmaLaunchIntfParity = "egress-sdma-launch-intf-parity" in SEND_EGRESS_ERR_STATUS::TX_SDMA_LAUNCH_INTF_PARITY_ERR,
        EgressSbrdCtlStateMachineParity = "egress-sbrd-ctl-state-machine-parity" in SEND_EGRESS_ERR_STATUS::TX_SBRD_CTL_STATE_MACHINE_PARITY_ERR,
        EgressLaunchCsrParity = "egress-launch-csr-parity" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_CSR_PARITY_ERR,
        EgressSbrdCtlCsrParity = "egress-sbrd-ctl-csr-parity" in SEND_EGRESS_ERR_STATUS::TX_SBRD_CTL_CSR_PARITY_ERR,
        EgressConfigParity = "egress-config-parity" in SEND_EGRESS_ERR_STATUS::TX_CONFIG_PARITY_ERR,
        EgressLaunchFifo0UncOrParity = "egress-launch-fifo0-unc-or-parity" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO0_UNC_OR_PARITY_ERR,
        EgressLaunchFifo1UncOrParity = "egress-launch-fifo1-unc-or-parity" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO1_UNC_OR_PARITY_ERR,
        EgressLaunchFifo2UncOrParity = "egress-launch-fifo2-unc-or-parity" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO2_UNC_OR_PARITY_ERR,
        EgressLaunchFifo3UncOrParity = "egress-launch-fifo3-unc-or-parity" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO3_UNC_OR_PARITY_ERR,
        EgressLaunchFifo4UncOrParity = "egress-launch-fifo4-unc-or-parity" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO4_UNC_OR_PARITY_ERR,
        EgressLaunchFifo5UncOrParity = "egress-launch-fifo5-unc-or-parity" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO5_UNC_OR_PARITY_ERR,
        EgressLaunchFifo6UncOrParity = "egress-launch-fifo6-unc-or-parity" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO6_UNC_OR_PARITY_ERR,
        EgressLaunchFifo7UncOrParity = "egress-launch-fifo7-unc-or-parity" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO7_UNC_OR_PARITY_ERR,
        EgressLaunchFifo8UncOrParity = "egress-launch-fifo8-unc-or-parity" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO8_UNC_OR_PARITY_ERR,
        EgressCreditReturnParity = "egress-credit-return-parity" in SEND_EGRESS_ERR_STATUS::TX_CREDIT_RETURN_PARITY_ERR,
        EgressSbHdrUnc = "egress-sb-hdr-unc" in SEND_EGRESS_ERR_STATUS::TX_SB_HDR_UNC_ERR,
        EgressReadSdmaMemoryUnc = "egress-read-sdma-memory-unc" in SEND_EGRESS_ERR_STATUS::TX_READ_SDMA_MEMORY_UNC_ERR,
        EgressReadPioMemoryUnc = "egress-read-pio-memory-unc" in SEND_EGRESS_ERR_STATUS::TX_READ_PIO_MEMORY_UNC_ERR,
        EgressEgressFifoUnc = "egress-egress-fifo-unc" in SEND_EGRESS_ERR_STATUS::TX_EGRESS_FIFO_UNC_ERR,
        EgressHcrcInsertion = "egress-hcrc-insertion" in SEND_EGRESS_ERR_STATUS::TX_HCRC_INSERTION_ERR,
        EgressCreditReturnVl = "egress-credit-return-vl" in SEND_EGRESS_ERR_STATUS::TX_CREDIT_RETURN_VL_ERR,
        EgressLaunchFifo0Cor = "egress-launch-fifo0-cor" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO0_COR_ERR,
        EgressLaunchFifo1Cor = "egress-launch-fifo1-cor" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO1_COR_ERR,
        EgressLaunchFifo2Cor = "egress-launch-fifo2-cor" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO2_COR_ERR,
        EgressLaunchFifo3Cor = "egress-launch-fifo3-cor" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO3_COR_ERR,
        EgressLaunchFifo4Cor = "egress-launch-fifo4-cor" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO4_COR_ERR,
        EgressLaunchFifo5Cor = "egress-launch-fifo5-cor" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO5_COR_ERR,
        EgressLaunchFifo6Cor = "egress-launch-fifo6-cor" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO6_COR_ERR,
        EgressLaunchFifo7Cor = "egress-launch-fifo7-cor" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO7_COR_ERR,
        EgressLaunchFifo8Cor = "egress-launch-fifo8-cor" in SEND_EGRESS_ERR_STATUS::TX_LAUNCH_FIFO8_COR_ERR,
        EgressCreditOverrun = "egress-credit-overrun" in SEND_EGRESS_ERR_STATUS::TX_CREDIT_OVERRUN_ERR,
        EgressSbHdrCor = "egress-sb-hdr-cor" in SEND_EGRESS_ERR_STATUS::TX_SB_HDR_COR_ERR,
        EgressReadSdmaMemoryCor = "egress-read-sdma-memory-cor" in SEND_EGRESS_ERR_STATUS::TX_READ_SDMA_MEMORY_COR_ERR,
        EgressReadPioMemoryCor = "egress-read-pio-memory-cor" in SEND_EGRESS_ERR_STATUS::TX_READ_PIO_MEMORY_COR_ERR,
        EgressEgressFifoCor = "egress-egress-fifo-cor" in SEND_EGRESS_ERR_STATUS::TX_EGRESS_FIFO_COR_ERR,
        EgressReadSdmaMemoryCsrUnc = "egress-read-sdma-memory-csr-unc" in SEND_EGRESS_ERR_STATUS::TX_READ_SDMA_MEMORY_CSR_UNC_ERR,
        EgressReadPioMemoryCsrUnc = "egress-read-pio-memory-csr-unc" in SEND_EGRESS_ERR_STATUS::TX_READ_PIO_MEMORY_CSR_UNC_ERR,
        SendCsrParity = "send-csr-parity" in SEND_ERR_STATUS::SEND_CSR_PARITY_ERR,
        SendCsrReadBadAddr = "send-csr-read-bad-addr" in SEND_ERR_STATUS::SEND_CSR_READ_BAD_ADDR_ERR,
        SendCsrWriteBadAddr = "send-csr-write-bad-addr" in SEND_ERR_STATUS::SEND_CSR_WRITE_BAD_ADDR_ERR,
        DccBadL2 = "dcc-bad-l2" in DCC_ERR_FLG::BAD_L2_ERR,
        DccBadSc = "dcc-bad-sc" in DCC_ERR_FLG::BAD_SC_ERR,
        DccBadMidTail = "dcc-bad-mid-tail" in DCC_ERR_FLG::BAD_MID_TAIL_ERR,
        DccBadPreemption = "dcc-bad-preemption" in DCC_ERR_FLG::BAD_PREEMPTION_ERR,
        DccPreemption = "dcc-preemption" in DCC_ERR_FLG::PREEMPTION_ERR,
        DccPreemptionvl15 = "dcc-preemptionvl15" in DCC_ERR_FLG::PREEMPTIONVL15_ERR,
        DccBadVlMarker = "dcc-bad-vl-marker" in DCC_ERR_FLG::BAD_VL_MARKER_ERR,
        DccBadLver = "dcc-bad-lver" in DCC_ERR_FLG::BAD_LVER_ERR,
        DccUncorrectable = "dcc-uncorrectable" in DCC_ERR_FLG::UNCORRECTABLE_ERR,
        DccBadCrdtAck = "dcc-bad-crdt-ack" in DCC_ERR_FLG::BAD_CRDT_ACK_ERR,
        DccUnsupPktType = "dcc-unsup-pkt-type" in DCC_ERR_FLG::UNSUP_PKT_TYPE,
        DccBadCtrlFlit = "dcc-bad-ctrl-flit" in DCC_ERR_FLG::BAD_CTRL_FLIT_ERR,
        DccEventCntrParity = "dcc-event-cntr-parity" in DCC_ERR_FLG::EVENT_CNTR_PARITY_ERR,
        DccEventCntrRollover = "dcc-event-cntr-rollover" in DCC_ERR_FLG::EVENT_CNTR_ROLLOVER_ERR,
        DccLink = "dcc-link" in DCC_ERR_FLG::LINK_ERR,
        DccMiscCntrRollover = "dcc-misc-cntr-rollover" in DCC_ERR_FLG::MISC_CNTR_ROLLOVER_ERR,
        DccBadCtrlDist = "dcc-bad-ctrl-dist" in DCC_ERR_FLG::BAD_CTRL_DIST_ERR,
        DccBadTailDist = "dcc-bad-tail-dist" in DCC_ERR_FLG::BAD_TAIL_DIST_ERR,
        DccBadHeadDist = "dcc-bad-head-dist" in DCC_ERR_FLG::BAD_HEAD_DIST_ERR,
        DccVl15Multi = "dcc-vl15-multi" in DCC_ERR_FLG::VL15_MULTI_ERR,
        DccUnsupVl = "dcc-unsup-vl" in DCC_ERR_FLG::UNSUP_VL_ERR,
        DccPermNvl15 = "dcc-perm-nvl15" in DCC_ERR_FLG::PERM_NVL15_ERR,
        DccSlidZero = "dcc-slid-zero" in DCC_ERR_FLG::SLID_ZERO_ERR,
        DccDlidZero = "dcc-dlid-zero" in DCC_ERR_FLG::DLID_ZERO_ERR,
        DccLengthMtu = "dcc-length-mtu" in DCC_ERR_FLG::LENGTH_MTU_ERR,
        DccRxEarlyDrop = "dcc-rx-early-drop" in DCC_ERR_FLG::RX_EARLY_DROP_ERR,
        DccLateLong = "dcc-late-long" in DCC_ERR_FLG::LATE_LONG_ERR,
        DccLateEbp = "dcc-late-ebp" in DCC_ERR_FLG::LATE_EBP_ERR,
        DccFpeTxFifoOvflw = "dcc-fpe-tx-fifo-ovflw" in DCC_ERR_FLG::FPE_TX_FIFO_OVFLW_ERR,
        DccFpeTxFifoUnflw = "dcc-fpe-tx-fifo-unflw" in DCC_ERR_FLG::FPE_TX_FIFO_UNFLW_ERR,
        DccCsrAccessBlockedUc = "dcc-csr-access-blocked-uc" in DCC_ERR_FLG::CSR_ACCESS_BLOCKED_UC,
        DccTxCtrlParity = "dcc-tx-ctrl-parity" in DCC_ERR_FLG::TX_CTRL_PARITY_ERR,
        DccTxCtrlParityMbe = "dcc-tx-ctrl-parity-mbe" in DCC_ERR_FLG::TX_CTRL_PARITY_MBE_ERR,
        DccTxScParity = "dcc-tx-sc-parity" in DCC_ERR_FLG::TX_SC_PARITY_ERR,
        DccRxCtrlParityMbe = "dcc-rx-ctrl-parity-mbe" in DCC_ERR_FLG::RX_CTRL_PARITY_MBE_ERR,
        DccCsrParity = "dcc-csr-parity" in DCC_ERR_FLG::CSR_PARITY_ERR,
        DccCsrInvalAddr = "dcc-csr-inval-addr" in DCC_ERR_FLG::CSR_INVAL_ADDR,
        DccTxByteShftParity = "dcc-tx-byte-shft-parity" in DCC_ERR_FLG::TX_BYTE_SHFT_PARITY_ERR,
        DccRxByteShftParity = "dcc-rx-byte-shft-parity" in DCC_ERR_FLG::RX_BYTE_SHFT_PARITY_ERR,
        DccFmconfig = "dcc-fmconfig" in DCC_ERR_FLG::FMCONFIG_ERR,
        LcbCsrParity = "lcb-csr-parity" in DC_LCB_ERR_FLG::CSR_PARITY_ERR,
        LcbInvalidCsrAddr = "lcb-invalid-csr-addr" in DC_LCB_ERR_FLG::INVALID_CSR_ADDR,
        LcbRstForFailedDeskew = "lcb-rst-for-failed-deskew" in DC_LCB_ERR_FLG::RST_FOR_FAILED_DESKEW,
        LcbAllLnsFailedReinitTest = "lcb-all-lns-failed-reinit-test" in DC_LCB_ERR_FLG::ALL_LNS_FAILED_REINIT_TEST,
        LcbLostReinitStallOrTos = "lcb-lost-reinit-stall-or-tos" in DC_LCB_ERR_FLG::LOST_REINIT_STALL_OR_TOS,
        LcbTxLessThanFourLns = "lcb-tx-less-than-four-lns" in DC_LCB_ERR_FLG::TX_LESS_THAN_FOUR_LNS,
        LcbRxLessThanFourLns = "lcb-rx-less-than-four-lns" in DC_LCB_ERR_FLG::RX_LESS_THAN_FOUR_LNS,
        LcbSeqCrc = "lcb-seq-crc" in DC_LCB_ERR_FLG::SEQ_CRC_ERR,
        LcbReinitFromPeer = "lcb-reinit-from-peer" in DC_LCB_ERR_FLG::REINIT_FROM_PEER,
        LcbReinitForLnDegrade = "lcb-reinit-for-ln-degrade" in DC_LCB_ERR_FLG::REINIT_FOR_LN_DEGRADE,
        LcbCrcErrCntHitLimit = "lcb-crc-err-cnt-hit-limit" in DC_LCB_ERR_FLG::CRC_ERR_CNT_HIT_LIMIT,
        LcbRclkStopped = "lcb-rclk-stopped" in DC_LCB_ERR_FLG::RCLK_STOPPED,
        LcbUnexpectedReplayMarker = "lcb-unexpected-replay-marker" in DC_LCB_ERR_FLG::UNEXPECTED_REPLAY_MARKER,
        LcbUnexpectedRoundTripMarker = "lcb-unexpected-round-trip-marker" in DC_LCB_ERR_FLG::UNEXPECTED_ROUND_TRIP_MARKER,
        LcbIllegalNullLtp = "lcb-illegal-null-ltp" in DC_LCB_ERR_FLG::ILLEGAL_NULL_LTP,
        LcbIllegalFlitEncoding = "lcb-illegal-flit-encoding" in DC_LCB_ERR_FLG::ILLEGAL_FLIT_ENCODING,
        LcbFlitInputBufOflw = "lcb-flit-input-buf-oflw" in DC_LCB_ERR_FLG::FLIT_INPUT_BUF_OFLW,
        LcbVlAckInputBufOflw = "lcb-vl-ack-input-buf-oflw" in DC_LCB_ERR_FLG::VL_ACK_INPUT_BUF_OFLW,
        LcbVlAckInputParity = "lcb-vl-ack-input-parity" in DC_LCB_ERR_FLG::VL_ACK_INPUT_PARITY_ERR,
        LcbVlAckInputWrongCrcMode = "lcb-vl-ack-input-wrong-crc-mode" in DC_LCB_ERR_FLG::VL_ACK_INPUT_WRONG_CRC_MODE,
        LcbFlitInputBufMbe = "lcb-flit-input-buf-mbe" in DC_LCB_ERR_FLG::FLIT_INPUT_BUF_MBE,
        LcbFlitInputBufSbe = "lcb-flit-input-buf-sbe" in DC_LCB_ERR_FLG::FLIT_INPUT_BUF_SBE,
        LcbReplayBufMbe = "lcb-replay-buf-mbe" in DC_LCB_ERR_FLG::REPLAY_BUF_MBE,
        LcbReplayBufSbe = "lcb-replay-buf-sbe" in DC_LCB_ERR_FLG::REPLAY_BUF_SBE,
        LcbCreditReturnFlitMbe = "lcb-credit-return-flit-mbe" in DC_LCB_ERR_FLG::CREDIT_RETURN_FLIT_MBE,
        LcbRstForLinkTimeout = "lcb-rst-for-link-timeout" in DC_LCB_ERR_FLG::RST_FOR_LINK_TIMEOUT,
        LcbRstForIncompltRndTrip = "lcb-rst-for-incomplt-rnd-trip" in DC_LCB_ERR_FLG::RST_FOR_INCOMPLT_RND_TRIP,
        LcbHoldReinit = "lcb-hold-reinit" in DC_LCB_ERR_FLG::HOLD_REINIT,
        LcbNegEdgeLinkTransferActive = "lcb-neg-edge-link-transfer-active" in DC_LCB_ERR_FLG::NEG_EDGE_LINK_TRANSFER_ACTIVE,
        LcbRedundantFlitParity = "lcb-redundant-flit-parity" in DC_LCB_ERR_FLG::REDUNDANT_FLIT_PARITY_ERR,
        Dc8051CramMbe = "8051-cram-mbe" in DC_DC8051_ERR_FLG::CRAM_MBE,
        Dc8051CramSbe = "8051-cram-sbe" in DC_DC8051_ERR_FLG::CRAM_SBE,
        Dc8051DramMbe = "8051-dram-mbe" in DC_DC8051_ERR_FLG::DRAM_MBE,
        Dc8051DramSbe = "8051-dram-sbe" in DC_DC8051_ERR_FLG::DRAM_SBE,
        Dc8051IramMbe = "8051-iram-mbe" in DC_DC8051_ERR_FLG::IRAM_MBE,
        Dc8051IramSbe = "8051-iram-sbe" in DC_DC8051_ERR_FLG::IRAM_SBE,
        Dc8051UnmatchedSecureMsgAcrossBccLanes = "8051-unmatched-secure-msg-across-bcc-lanes" in DC_DC8051_ERR_FLG::UNMATCHED_SECURE_MSG_ACROSS_BCC_LANES,
        Dc8051InvalidCsrAddr = "8051-invalid-csr-addr" in DC_DC8051_ERR_FLG::INVALID_CSR_ADDR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All errors that freeze the chip in its send paths are there: nothing but a fault raises them.
    #[test]
    fn every_error_that_freezes_the_senders_can_be_had() {
        for status in [csr::SEND_PIO_ERR_STATUS, csr::SEND_DMA_ERR_STATUS, csr::SEND_EGRESS_ERR_STATUS] {
            let faults = ChipFault::ALL.iter().filter_map(|fault| fault.error());
            let had = faults.filter(|(of, _)| of.name == status.name).fold(0, |bits, (_, field)| bits | field.mask());
            assert_eq!(opx_defs::freezing::bits_of(&status) & !had, 0, "{}", status.name);
        }
    }
}
