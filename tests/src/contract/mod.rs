//! The contracts, by what they are about.

pub mod engines;
pub mod function;
pub mod messages;
