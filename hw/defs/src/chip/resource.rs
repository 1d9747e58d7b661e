//! Resource bits in ASIC_CFG_SCRATCH, shared by the two HFIs of a chip, and SBus commands.
//!
//! Source: `chip.h CR_*; firmware.c:acquire_chip_resource`.

constants! {
    /// The SBus is taken.
    CR_SBUS = 0x1;

    /// The EPROM is taken.
    CR_EPROM = 0x2;

    /// The first I2C chain is taken.
    CR_I2C1 = 0x4;

    /// The second I2C chain is taken.
    CR_I2C2 = 0x8;

    /// HFI 1's bits stand this much higher than HFI 0's.
    CR_DYN_SHIFT = 8;

    /// Mask of one HFI's bits.
    CR_DYN_MASK = 0xff;

    /// The thermal sensor was set up; stays set.
    CR_THERM_INIT = 0x1_0000;

    /// SBus receiver address of the master.
    SBUS_MASTER_BROADCAST = 0xfd;

    /// SBus command: reset the receiver.
    RESET_SBUS_RECEIVER = 0x20;

    /// SBus command: write.
    WRITE_SBUS_RECEIVER = 0x21;

    /// SBus command: read.
    READ_SBUS_RECEIVER = 0x22;
}
