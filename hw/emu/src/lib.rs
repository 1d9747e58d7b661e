//! opx-emu
