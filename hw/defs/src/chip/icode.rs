//! Implementation codes of CCE_REVISION2: what kind of chip this is.
//!
//! Source: `chip.h`.

constants! {
    /// The real chip.
    ICODE_RTL_SILICON = 0x0;

    /// Simulation of the chip's logic.
    ICODE_RTL_VCS_SIMULATION = 0x1;

    /// The chip's logic in FPGAs.
    ICODE_FPGA_EMULATION = 0x2;

    /// A functional model, without SerDes and 8051 firmware.
    ICODE_FUNCTIONAL_SIMULATOR = 0x3;
}
