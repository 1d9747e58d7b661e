//! Indexes into the counter arrays of CCE, RXE and TXE.
//!
//! Source: `chip_registers.h`.

constants! {
    /// CCE_COUNTER_ARRAY32: PCIe target stalls.
    CCE_PCIE_TRGT_STALL_CNT = 0;

    /// CCE_COUNTER_ARRAY32: PIO write stalls.
    CCE_PIO_WR_STALL_CNT = 1;

    /// CCE_COUNTER_ARRAY32: stalls for want of PCIe posted credits.
    CCE_PCIE_POSTED_CRDT_STALL_CNT = 2;

    /// CCE_INT_COUNTER_ARRAY32: error interrupts.
    CCE_ERR_INT_CNT = 0;

    /// CCE_INT_COUNTER_ARRAY32: SDMA interrupts.
    CCE_SDMA_INT_CNT = 1;

    /// CCE_INT_COUNTER_ARRAY32: other interrupts.
    CCE_MISC_INT_CNT = 2;

    /// CCE_INT_COUNTER_ARRAY32: receive-available interrupts.
    CCE_RCV_AVAIL_INT_CNT = 3;

    /// CCE_INT_COUNTER_ARRAY32: receive-urgent interrupts.
    CCE_RCV_URGENT_INT_CNT = 4;

    /// CCE_INT_COUNTER_ARRAY32: send-credit interrupts.
    CCE_SEND_CREDIT_INT_CNT = 5;

    /// RCV_COUNTER_ARRAY32: packets of a wrong length.
    RCV_LENGTH_ERR_CNT = 0;

    /// RCV_COUNTER_ARRAY32: packets too short.
    RCV_SHORT_ERR_CNT = 2;

    /// RCV_COUNTER_ARRAY32: packets with a wrong ICRC.
    RCV_ICRC_ERR_CNT = 6;

    /// RCV_COUNTER_ARRAY32: packets that their sender ended as bad.
    RCV_EBP_CNT = 9;

    /// RCV_COUNTER_ARRAY32: packets dropped since the receive buffer was full.
    RCV_BUF_OVFL_CNT = 10;

    /// RCV_COUNTER_ARRAY32: expected packets beyond the end of their TID.
    RCV_TID_FULL_ERR_CNT = 18;

    /// RCV_COUNTER_ARRAY32: expected packets to an entry without a buffer.
    RCV_TID_VALID_ERR_CNT = 19;

    /// RCV_COUNTER_ARRAY32: TID flow generation mismatches.
    RCV_TID_FLOW_GEN_MISMATCH_CNT = 20;

    /// RCV_COUNTER_ARRAY32: stalls for want of eager buffers.
    RCV_CONTEXT_EGR_STALL = 22;

    /// RCV_COUNTER_ARRAY32: TID flow sequence mismatches.
    RCV_TID_FLOW_SEQ_MISMATCH_CNT = 23;

    /// RCV_COUNTER_ARRAY64: packets.
    RCV_DATA_PKT_CNT = 0;

    /// RCV_COUNTER_ARRAY64: dwords.
    RCV_DWORD_CNT = 1;

    /// SEND_COUNTER_ARRAY32: packets to an unsupported VL.
    SEND_UNSUP_VL_ERR_CNT = 0;

    /// SEND_COUNTER_ARRAY32: packets of a wrong length.
    SEND_LEN_ERR_CNT = 1;

    /// SEND_COUNTER_ARRAY32: packets too long or too short.
    SEND_MAX_MIN_LEN_ERR_CNT = 2;

    /// SEND_COUNTER_ARRAY32: underruns.
    SEND_UNDERRUN_CNT = 3;

    /// SEND_COUNTER_ARRAY32: flow stalls.
    SEND_FLOW_STALL_CNT = 4;

    /// SEND_COUNTER_ARRAY32: packets dropped.
    SEND_DROPPED_PKT_CNT = 5;

    /// SEND_COUNTER_ARRAY32: packets with a bad header.
    SEND_HEADERS_ERR_CNT = 6;

    /// SEND_COUNTER_ARRAY64: packets.
    SEND_DATA_PKT_CNT = 0;

    /// SEND_COUNTER_ARRAY64: dwords.
    SEND_DWORD_CNT = 1;

    /// SEND_COUNTER_ARRAY64: ticks in which a packet waited for credit.
    SEND_WAIT_CNT = 2;

    /// SEND_COUNTER_ARRAY64: flits of VL 0; those of VL 1 to 7 and 15 follow.
    SEND_DATA_VL0_CNT = 3;

    /// SEND_COUNTER_ARRAY64: packets of VL 0; those of VL 1 to 7 and 15 follow.
    SEND_DATA_PKT_VL0_CNT = 12;

    /// SEND_COUNTER_ARRAY64: waiting ticks of VL 0; those of VL 1 to 7 and 15 follow.
    SEND_WAIT_VL0_CNT = 21;
}
