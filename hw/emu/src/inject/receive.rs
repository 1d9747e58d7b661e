//! Faults of a receive context, and of the receive engine at one of its packets.

use opx_defs::csr::{Field, RCV_ERR_STATUS as errors};
use opx_defs::wire::rhf::Rhf;

/// Faults that show as a flag of one packet or otherwise, and those that show as one bit of RCV_ERR_STATUS.
macro_rules! receive_faults {
    (
        $(#[$about:meta])*
        $name:ident {
            $($(#[$doc:meta])* $variant:ident = $text:literal,)+
        }
        errors {
            $($error:ident = $error_text:literal in $field:ident,)+
        }
    ) => {
        super::faults! {
            $(#[$about])*
            $name {
                $($(#[$doc])* $variant = $text,)+
                $(#[doc = concat!("RCV_ERR_STATUS.", stringify!($field), ".")] $error = $error_text,)+
            }
        }

        impl $name {
            /// The bit of RCV_ERR_STATUS that the fault sets, when that is how it shows.
            pub const fn error(self) -> Option<Field> {
                match self {
                    $(Self::$variant => None,)+
                    $(Self::$error => Some(errors::$field),)+
                }
            }
        }
    };
}

receive_faults! {
    /// A fault of a receive context at one of its packets.
    ReceiveFault {
        /// The packet is delivered with RHF.ICRC_ERR.
        Icrc = "receive-icrc",
        /// The packet is delivered with RHF.ECC_ERR: it was changed in the chip's memory.
        Ecc = "receive-ecc",
        /// The packet is delivered with RHF.LEN_ERR.
        Length = "receive-length",
        /// The packet is delivered with RHF.TID_ERR.
        Tid = "receive-tid",
        /// The packet is delivered with RHF.DC_ERR.
        Dc = "receive-dc",
        /// The packet is delivered with RHF.DC_UNC_ERR.
        DcUncorrectable = "receive-dc-uncorrectable",
        /// The packet is delivered with RHF.KHDR_LEN_ERR.
        KdethLength = "receive-kdeth-length",
        /// The packet is delivered as one of type "error", for its opcode.
        Opcode = "receive-opcode",
        /// The packet is delivered as one of type "error", for the checksum of its header.
        HeaderChecksum = "receive-header-checksum",
        /// The packet is delivered as one of type "error", for its context.
        Context = "receive-context",
        /// The packet is delivered as one of type "error", for its TID.
        TidHeader = "receive-tid-header",
        /// The packet is delivered, but the tail in host memory isn't written.
        LostTail = "receive-lost-tail",
        /// The tail, in memory and in the register, is 2 us ahead of the packet's flags.
        LateEntry = "receive-late-entry",
    }
    errors {
        DmaCsrCor = "rxe-dma-csr-cor" in RX_DMA_CSR_COR_ERR,
        DcIntfParity = "rxe-dc-intf-parity" in RX_DC_INTF_PARITY_ERR,
        RcvHdrUnc = "rxe-rcv-hdr-unc" in RX_RCV_HDR_UNC_ERR,
        RcvHdrCor = "rxe-rcv-hdr-cor" in RX_RCV_HDR_COR_ERR,
        RcvDataUnc = "rxe-rcv-data-unc" in RX_RCV_DATA_UNC_ERR,
        RcvDataCor = "rxe-rcv-data-cor" in RX_RCV_DATA_COR_ERR,
        RcvQpMapTableUnc = "rxe-rcv-qp-map-table-unc" in RX_RCV_QP_MAP_TABLE_UNC_ERR,
        RcvQpMapTableCor = "rxe-rcv-qp-map-table-cor" in RX_RCV_QP_MAP_TABLE_COR_ERR,
        RcvCsrParity = "rxe-rcv-csr-parity" in RX_RCV_CSR_PARITY_ERR,
        DcSopEopParity = "rxe-dc-sop-eop-parity" in RX_DC_SOP_EOP_PARITY_ERR,
        DmaFlagUnc = "rxe-dma-flag-unc" in RX_DMA_FLAG_UNC_ERR,
        DmaFlagCor = "rxe-dma-flag-cor" in RX_DMA_FLAG_COR_ERR,
        RcvFsmEncoding = "rxe-rcv-fsm-encoding" in RX_RCV_FSM_ENCODING_ERR,
        RbufFreeListUnc = "rxe-rbuf-free-list-unc" in RX_RBUF_FREE_LIST_UNC_ERR,
        RbufFreeListCor = "rxe-rbuf-free-list-cor" in RX_RBUF_FREE_LIST_COR_ERR,
        RbufLookupDesRegUnc = "rxe-rbuf-lookup-des-reg-unc" in RX_RBUF_LOOKUP_DES_REG_UNC_ERR,
        RbufLookupDesRegUncCor = "rxe-rbuf-lookup-des-reg-unc-cor" in RX_RBUF_LOOKUP_DES_REG_UNC_COR_ERR,
        RbufLookupDesUnc = "rxe-rbuf-lookup-des-unc" in RX_RBUF_LOOKUP_DES_UNC_ERR,
        RbufLookupDesCor = "rxe-rbuf-lookup-des-cor" in RX_RBUF_LOOKUP_DES_COR_ERR,
        RbufBlockListReadUnc = "rxe-rbuf-block-list-read-unc" in RX_RBUF_BLOCK_LIST_READ_UNC_ERR,
        RbufBlockListReadCor = "rxe-rbuf-block-list-read-cor" in RX_RBUF_BLOCK_LIST_READ_COR_ERR,
        RbufCsrQheadBufNumParity = "rxe-rbuf-csr-qhead-buf-num-parity" in RX_RBUF_CSR_QHEAD_BUF_NUM_PARITY_ERR,
        RbufCsrQentCntParity = "rxe-rbuf-csr-qent-cnt-parity" in RX_RBUF_CSR_QENT_CNT_PARITY_ERR,
        RbufCsrQnextBufParity = "rxe-rbuf-csr-qnext-buf-parity" in RX_RBUF_CSR_QNEXT_BUF_PARITY_ERR,
        RbufCsrQvldBitParity = "rxe-rbuf-csr-qvld-bit-parity" in RX_RBUF_CSR_QVLD_BIT_PARITY_ERR,
        RbufCsrQhdPtrParity = "rxe-rbuf-csr-qhd-ptr-parity" in RX_RBUF_CSR_QHD_PTR_PARITY_ERR,
        RbufCsrQtlPtrParity = "rxe-rbuf-csr-qtl-ptr-parity" in RX_RBUF_CSR_QTL_PTR_PARITY_ERR,
        RbufCsrQnumOfPktParity = "rxe-rbuf-csr-qnum-of-pkt-parity" in RX_RBUF_CSR_QNUM_OF_PKT_PARITY_ERR,
        RbufCsrQeopdwParity = "rxe-rbuf-csr-qeopdw-parity" in RX_RBUF_CSR_QEOPDW_PARITY_ERR,
        RbufCtxIdParity = "rxe-rbuf-ctx-id-parity" in RX_RBUF_CTX_ID_PARITY_ERR,
        RbufBadLookup = "rxe-rbuf-bad-lookup" in RX_RBUF_BAD_LOOKUP_ERR,
        RbufFull = "rxe-rbuf-full" in RX_RBUF_FULL_ERR,
        RbufEmpty = "rxe-rbuf-empty" in RX_RBUF_EMPTY_ERR,
        RbufFlRdAddrParity = "rxe-rbuf-fl-rd-addr-parity" in RX_RBUF_FL_RD_ADDR_PARITY_ERR,
        RbufFlWrAddrParity = "rxe-rbuf-fl-wr-addr-parity" in RX_RBUF_FL_WR_ADDR_PARITY_ERR,
        RbufFlInitdoneParity = "rxe-rbuf-fl-initdone-parity" in RX_RBUF_FL_INITDONE_PARITY_ERR,
        RbufFlInitWrAddrParity = "rxe-rbuf-fl-init-wr-addr-parity" in RX_RBUF_FL_INIT_WR_ADDR_PARITY_ERR,
        RbufNextFreeBufUnc = "rxe-rbuf-next-free-buf-unc" in RX_RBUF_NEXT_FREE_BUF_UNC_ERR,
        RbufNextFreeBufCor = "rxe-rbuf-next-free-buf-cor" in RX_RBUF_NEXT_FREE_BUF_COR_ERR,
        LookupDesPart1Unc = "rxe-lookup-des-part1-unc" in RX_LOOKUP_DES_PART1_UNC_ERR,
        LookupDesPart1UncCor = "rxe-lookup-des-part1-unc-cor" in RX_LOOKUP_DES_PART1_UNC_COR_ERR,
        LookupDesPart2Parity = "rxe-lookup-des-part2-parity" in RX_LOOKUP_DES_PART2_PARITY_ERR,
        LookupRcvArrayUnc = "rxe-lookup-rcv-array-unc" in RX_LOOKUP_RCV_ARRAY_UNC_ERR,
        LookupRcvArrayCor = "rxe-lookup-rcv-array-cor" in RX_LOOKUP_RCV_ARRAY_COR_ERR,
        LookupCsrParity = "rxe-lookup-csr-parity" in RX_LOOKUP_CSR_PARITY_ERR,
        HqIntrCsrParity = "rxe-hq-intr-csr-parity" in RX_HQ_INTR_CSR_PARITY_ERR,
        HqIntrFsm = "rxe-hq-intr-fsm" in RX_HQ_INTR_FSM_ERR,
        RbufDescPart1Unc = "rxe-rbuf-desc-part1-unc" in RX_RBUF_DESC_PART1_UNC_ERR,
        RbufDescPart1Cor = "rxe-rbuf-desc-part1-cor" in RX_RBUF_DESC_PART1_COR_ERR,
        RbufDescPart2Unc = "rxe-rbuf-desc-part2-unc" in RX_RBUF_DESC_PART2_UNC_ERR,
        RbufDescPart2Cor = "rxe-rbuf-desc-part2-cor" in RX_RBUF_DESC_PART2_COR_ERR,
        DmaHdrFifoRdUnc = "rxe-dma-hdr-fifo-rd-unc" in RX_DMA_HDR_FIFO_RD_UNC_ERR,
        DmaHdrFifoRdCor = "rxe-dma-hdr-fifo-rd-cor" in RX_DMA_HDR_FIFO_RD_COR_ERR,
        DmaDataFifoRdUnc = "rxe-dma-data-fifo-rd-unc" in RX_DMA_DATA_FIFO_RD_UNC_ERR,
        DmaDataFifoRdCor = "rxe-dma-data-fifo-rd-cor" in RX_DMA_DATA_FIFO_RD_COR_ERR,
        RbufDataUnc = "rxe-rbuf-data-unc" in RX_RBUF_DATA_UNC_ERR,
        RbufDataCor = "rxe-rbuf-data-cor" in RX_RBUF_DATA_COR_ERR,
        DmaCsrParity = "rxe-dma-csr-parity" in RX_DMA_CSR_PARITY_ERR,
        DmaEqFsmEncoding = "rxe-dma-eq-fsm-encoding" in RX_DMA_EQ_FSM_ENCODING_ERR,
        DmaDqFsmEncoding = "rxe-dma-dq-fsm-encoding" in RX_DMA_DQ_FSM_ENCODING_ERR,
        DmaCsrUnc = "rxe-dma-csr-unc" in RX_DMA_CSR_UNC_ERR,
        CsrReadBadAddr = "rxe-csr-read-bad-addr" in RX_CSR_READ_BAD_ADDR_ERR,
        CsrWriteBadAddr = "rxe-csr-write-bad-addr" in RX_CSR_WRITE_BAD_ADDR_ERR,
        CsrParity = "rxe-csr-parity" in RX_CSR_PARITY_ERR,
    }
}

impl ReceiveFault {
    /// The flag in the RHF that the fault sets, when that is how it shows.
    pub const fn flag(self) -> Option<u64> {
        Some(match self {
            Self::Icrc => Rhf::ICRC_ERR,
            Self::Ecc => Rhf::ECC_ERR,
            Self::Length => Rhf::LEN_ERR,
            Self::Tid => Rhf::TID_ERR,
            Self::Dc => Rhf::DC_ERR,
            Self::DcUncorrectable => Rhf::DC_UNC_ERR,
            Self::KdethLength => Rhf::KHDR_LEN_ERR,
            _ => return None,
        })
    }

    /// The RHF's error code of a packet of type "error", when that is how the fault shows (`common.h RHF_RTE_ERROR_*`).
    pub const fn broken(self) -> Option<u64> {
        Some(match self {
            Self::Opcode => 1,
            Self::HeaderChecksum => 3,
            Self::Context => 5,
            Self::TidHeader => 6,
            _ => return None,
        })
    }
}
