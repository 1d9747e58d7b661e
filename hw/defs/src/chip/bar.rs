//! Where the chip's blocks lie in BAR0, and the sizes of the windows in it.
//!
//! Source: `chip_registers.h, chip.h`.

constants! {
    /// Origin of all block bases.
    CORE = 0x0;

    /// Base of the CCE block: revision, control, interrupts.
    CCE = 0x0;

    /// Base of the ASIC block, shared by both HFIs of one chip.
    ASIC = 0x40_0000;

    /// Base of the MISC block: firmware validation.
    MISC = 0x50_0000;

    /// Base of the DC (the link side of the chip).
    DC_TOP_CSRS = 0x60_0000;

    /// Base of the DCC block, the common part of the DC.
    DCC_CSRS = 0x60_0000;

    /// Base of the LCB, the link control block.
    DC_LCB_CSRS = 0x60_1000;

    /// Base of the 8051 microcontroller's block.
    DC_8051_CSRS = 0x60_2000;

    /// Base of the debug block; the driver never goes there.
    CHIP_DEBUG = 0x70_0000;

    /// Base of the receive engine.
    RXE = 0x100_0000;

    /// Base of the transmit engine.
    TXE = 0x180_0000;

    /// Offset of the MSI-X pending bits in BAR0.
    CCE_MSIX_PBA_OFFSET = 0x11_0000;

    /// First byte of the LCB, for dumps.
    LCB_START = 0x60_1000;

    /// First byte after the LCB.
    LCB_END = 0x60_2000;

    /// From the base of the receive engine to the user pages of the receive contexts, bytes.
    RXE_PER_CONTEXT_OFFSET = 0x30_0000;

    /// Size of a receive context's user page, bytes.
    RXE_PER_CONTEXT_SIZE = 0x1000;

    /// The user pages of the receive contexts in BAR0, RXE_PER_CONTEXT_SIZE each.
    RXE_PER_CONTEXT_USER = 0x130_0000;

    /// The PIO window in BAR0, 64 KiB for each send context.
    TXE_PIO_SEND = 0x200_0000;

    /// From the base of the transmit engine to the PIO window, bytes.
    TXE_PIO_SEND_OFFSET = 0x80_0000;

    /// Size of the PIO window, bytes; its second half is the start-of-packet view of the first.
    TXE_PIO_SIZE = 0x200_0000;
}
