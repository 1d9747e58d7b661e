//! io_uring zero-copy receive. What is here so far is the question that has to be asked first: what can this kernel do?
//!
//! The buffer pool that will stand on it isn't built yet.
//!
//! ```
//! match opx_zcrx::query() {
//!     Ok(features) => println!("zero-copy receive without a network device: {}", features.no_device),
//!     Err(why) => println!("no zero-copy receive: {why}"),
//! }
//! ```

mod features;
mod sys;

pub use features::{Features, Unsupported, query};
