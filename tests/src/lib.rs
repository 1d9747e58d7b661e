//! opx-tests
