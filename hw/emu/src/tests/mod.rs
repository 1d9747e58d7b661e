//! The data path driven by its registers alone: one chip in loopback, simulated time.

mod pio;
mod receive;
mod rig;
mod sdma;
