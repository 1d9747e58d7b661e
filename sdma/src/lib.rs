//! opx-sdma
