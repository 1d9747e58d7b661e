//! opx-pio
