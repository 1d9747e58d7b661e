//! The rungs of the ladder, from single registers to reliable messages.

mod eager_receive;
mod expected_receive;
mod file;
mod interrupts;
mod messages;
mod pio;
mod pio_errors;
mod raw;
mod registers;
mod sdma;
mod sdma_errors;
mod sdma_runs;
mod steering;
mod zero_copy;

pub use eager_receive::eager_receive;
pub use expected_receive::expected_receive;
pub use file::{file, receive_file, send_file};
pub use interrupts::interrupts;
pub use messages::{messages, reliability, rendezvous};
pub use pio::pio;
pub use pio_errors::pio_errors;
pub use registers::registers;
pub use sdma::sdma;
pub use sdma_errors::sdma_errors;
pub use sdma_runs::sdma_runs;
pub use steering::steering;
pub use zero_copy::zero_copy;
