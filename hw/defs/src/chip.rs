//! Constants of the chip, under the names of `chip.h` and `chip_registers.h`.
