//! opx-reliability
