//! What the programs share: how an adapter is named on the command line and opened, what its config space says, how bad input
//! is told, and the colours of pictures.
#![forbid(unsafe_code)]

pub mod adapter;
pub mod cli;
pub mod control;
pub mod firmware;
pub mod manual;
pub mod pci;
pub mod plot;
