//! What can be set.

/// Settings of a [`crate::Node`].
///
/// ```
/// let config = opx_shm::Config { ring_bytes: 1 << 20, ..Default::default() };
/// assert_eq!(config.trust, opx_shm::Trust::SameUser);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes of a ring, each way, to peers that this process connects to: a power of two from 4 KiB to 16 MiB. The longest
    /// message is a quarter of it, at most 16 KiB ([`crate::Node::longest`]). It takes a quarter more for what comes with the bytes.
    /// Memory is taken as it is used.
    pub ring_bytes: u32,
    /// The most peers at a time.
    pub max_peers: usize,
    /// As many peers are looked at for messages without being rung for; of more, those that are silent have to ring, which
    /// costs their next message a system call.
    pub hot_peers: usize,
    /// Who may connect.
    pub trust: Trust,
    /// How offered memory is fetched.
    pub large: Large,
}

impl Default for Config {
    fn default() -> Self {
        Self { ring_bytes: 256 << 10, max_peers: 4096, hot_peers: 16, trust: Trust::SameUser, large: Large::Measured }
    }
}

/// Whose processes are connected to, and may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Those of this process's effective user.
    SameUser,
    /// Anyone's on this machine, as far as the network namespace goes.
    Anyone,
}

/// How offered memory is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Large {
    /// In the way that has been the faster one for this peer and size; from time to time the other is tried.
    Measured,
    /// Always through the ring, by both processes at the same time.
    Ring,
    /// By the kernel from process to process (`process_vm_readv`) wherever it allows that.
    Kernel,
}
