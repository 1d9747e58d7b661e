//! opx-tools
