//! Time limits of the driver, and the chip's clock.
//!
//! Source: `chip.h`.

constants! {
    /// Pause before a link restart, milliseconds; nothing in Linux 6.12 uses it.
    LINK_RESTART_DELAY = 1000;

    /// Limit for the 8051 to come up after its reset, milliseconds.
    TIMEOUT_8051_START = 5000;

    /// Limit for an 8051 host command, milliseconds.
    DC8051_COMMAND_TIMEOUT = 1000;

    /// Limit for the freeze bits of CCE_STATUS to follow a request, milliseconds.
    FREEZE_STATUS_TIMEOUT = 20;

    /// Limit for a VL's link credits to come home, milliseconds.
    VL_STATUS_CLEAR_TIMEOUT = 5000;

    /// Limit for the paused bits of CCE_STATUS to clear, milliseconds.
    CCE_STATUS_TIMEOUT = 10;

    /// Period of the core clock (805 MHz) on silicon, picoseconds.
    ASIC_CCLOCK_PS = 1242;

    /// Period of the core clock on an FPGA, picoseconds.
    FPGA_CCLOCK_PS = 30300;

    /// Limit to wait for the SBus resource, milliseconds.
    SBUS_TIMEOUT = 4000;

    /// Limit to wait for an I2C chain, milliseconds.
    QSFP_WAIT = 20000;
}
