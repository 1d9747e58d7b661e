//! How many of each thing the chip has, and the units its memories come in.
//!
//! Source: `chip.h, chip_registers.h`.

constants! {
    /// Bits in a register.
    BITS_PER_REGISTER = 64;

    /// Interrupt sources.
    NUM_INTERRUPT_SOURCES = 768;

    /// Receive contexts.
    RXE_NUM_CONTEXTS = 160;

    /// TID flows of one receive context.
    RXE_NUM_TID_FLOWS = 32;

    /// Data VLs of the receive engine.
    RXE_NUM_DATA_VL = 8;

    /// Receive-side-mapping rules.
    RXE_NUM_RSM_INSTANCES = 4;

    /// 32-bit counters of the receive engine.
    RXE_NUM_32_BIT_COUNTERS = 24;

    /// 64-bit counters of the receive engine.
    RXE_NUM_64_BIT_COUNTERS = 2;

    /// Send contexts.
    TXE_NUM_CONTEXTS = 160;

    /// SDMA engines.
    TXE_NUM_SDMA_ENGINES = 16;

    /// 32-bit counters of the transmit engine.
    TXE_NUM_32_BIT_COUNTER = 7;

    /// 64-bit counters of the transmit engine.
    TXE_NUM_64_BIT_COUNTER = 30;

    /// Data VLs of the transmit engine.
    TXE_NUM_DATA_VL = 8;

    /// Send contexts in one context set.
    NUM_CONTEXTS_PER_SET = 8;

    /// Entries of the high-priority VL arbitration list.
    VL_ARB_HIGH_PRIO_TABLE_SIZE = 16;

    /// Entries of the low-priority VL arbitration list.
    VL_ARB_LOW_PRIO_TABLE_SIZE = 16;

    /// Entries of either VL arbitration list.
    VL_ARB_TABLE_SIZE = 16;

    /// Size of a PIO block, the unit of send credit, bytes.
    PIO_BLOCK_SIZE = 64;

    /// Size of a block of SDMA memory, bytes.
    SDMA_BLOCK_SIZE = 64;

    /// Unit of a packet's offset in its eager buffer, bytes.
    RCV_BUF_BLOCK_SIZE = 64;

    /// Mask of the credit counters: they count modulo 2048.
    PIO_CMASK = 0x7ff;

    /// Most eager entries of a receive context.
    MAX_EAGER_ENTRIES = 2048;

    /// Most pairs of expected-receive entries of a receive context.
    MAX_TID_PAIR_ENTRIES = 1024;

    /// Exponent of the link credit's allocation unit: 8 << 3 = 64 bytes.
    CM_VAU = 3;

    /// Link credits of this port, the depth of its receive buffer, allocation units.
    CM_GLOBAL_CREDITS = 2176;

    /// Partition keys in the receive engine's table.
    MAX_PKEY_VALUES = 16;

    /// Scratch registers of the ASIC block.
    ASIC_NUM_SCRATCH = 4;

    /// Scratch registers of the CCE block.
    CCE_NUM_SCRATCH = 4;

    /// Performance counters of the CCE block.
    CCE_NUM_32_BIT_COUNTERS = 3;

    /// Interrupt counters of the CCE block.
    CCE_NUM_32_BIT_INT_COUNTERS = 6;

    /// Registers in each array with one bit for an interrupt source.
    CCE_NUM_INT_CSRS = 12;

    /// Registers of the map from interrupt source to MSI-X vector.
    CCE_NUM_INT_MAP_CSRS = 96;

    /// Registers of MSI-X pending bits.
    CCE_NUM_MSIX_PBAS = 4;

    /// MSI-X vectors.
    CCE_NUM_MSIX_VECTORS = 256;

    /// PCIe SerDes lanes on the SBus, for each HFI.
    NUM_PCIE_SERDES = 16;

    /// Smallest eager buffer, bytes.
    MIN_EAGER_BUFFER = 4096;

    /// Largest eager buffer, bytes.
    MAX_EAGER_BUFFER = 0x4_0000;

    /// Most bytes of eager buffers that the driver gives one context.
    MAX_EAGER_BUFFER_TOTAL = 0x400_0000;

    /// Largest buffer of one expected-receive entry, bytes.
    MAX_EXPECTED_BUFFER = 0x20_0000;

    /// A header queue must have more entries than this.
    HFI1_MIN_HDRQ_EGRBUF_CNT = 32;

    /// Most entries of a header queue.
    HFI1_MAX_HDRQ_EGRBUF_CNT = 16352;

    /// Exponent of RCV_INCREMENT.
    RCV_SHIFT = 3;

    /// Unit of RCV_EGR_CTRL and RCV_TID_CTRL, RcvArray entries.
    RCV_INCREMENT = 8;

    /// Exponent of HDRQ_INCREMENT.
    HDRQ_SIZE_SHIFT = 5;

    /// Unit of RCV_HDR_CNT, header queue entries.
    HDRQ_INCREMENT = 32;
}
