//! opx-stack
