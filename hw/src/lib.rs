//! opx-hw
