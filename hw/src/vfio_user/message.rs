//! The vfio-user messages that the client sends and receives, as bytes.
//!
//! Source: the protocol's specification, `docs/interop/vfio-user.rst` of QEMU. All fields are in the host's byte order,
//! which is little endian on every machine that has the adapter.

/// Bytes of the header that every message begins with.
pub(super) const HEADER_LEN: usize = 16;
/// Bytes that follow the header of a region access, before the data.
pub(super) const ACCESS_LEN: usize = 16;
/// The longest reply the client ever asks for: a config space read, or the server's capabilities.
pub(super) const MAX_REPLY: usize = HEADER_LEN + 8192;

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Command {
    Version = 1,
    DmaMap = 2,
    DmaUnmap = 3,
    DeviceGetInfo = 4,
    DeviceGetRegionInfo = 5,
    DeviceGetIrqInfo = 7,
    DeviceSetIrqs = 8,
    RegionRead = 9,
    RegionWrite = 10,
    DeviceReset = 13,
}

/// The low four bits of the flags: what kind of message it is.
const TYPE_MASK: u32 = 0xf;
const TYPE_REPLY: u32 = 1;
/// The sender wants no reply.
const NO_REPLY: u32 = 1 << 4;
/// The reply tells of an error; the error field holds an errno.
const ERROR: u32 = 1 << 5;

/// A message's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub id: u16,
    pub command: u16,
    /// Bytes of the whole message.
    pub size: u32,
    pub flags: u32,
    pub error: u32,
}

impl Header {
    /// The header of a request with `len` bytes behind it.
    pub fn request(id: u16, command: Command, len: usize, no_reply: bool) -> Self {
        // The client's own messages are at most a few hundred bytes.
        let size = u32::try_from(HEADER_LEN + len).unwrap_or(u32::MAX);
        Self { id, command: command as u16, size, flags: if no_reply { NO_REPLY } else { 0 }, error: 0 }
    }

    pub fn is_reply(&self) -> bool {
        self.flags & TYPE_MASK == TYPE_REPLY
    }

    pub fn is_error(&self) -> bool {
        self.flags & ERROR != 0
    }

    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..2].copy_from_slice(&self.id.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.command.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.error.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, when they hold one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let low = u32_at(bytes, 0)?;
        Some(Self {
            id: low as u16,
            command: (low >> 16) as u16,
            size: u32_at(bytes, 4)?,
            flags: u32_at(bytes, 8)?,
            error: u32_at(bytes, 12)?,
        })
    }
}

/// The 32-bit field at `offset`, when it is there.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The 64-bit field at `offset`, when it is there.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Where a region access goes: what follows the header of REGION_READ and REGION_WRITE.
pub(super) fn access(region: u32, offset: u64, count: usize) -> [u8; ACCESS_LEN] {
    let mut bytes = [0; ACCESS_LEN];
    bytes[0..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..12].copy_from_slice(&region.to_le_bytes());
    bytes[12..16].copy_from_slice(&(count as u32).to_le_bytes());
    bytes
}

/// The body of a request, field by field.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<u8>);

impl Fields {
    /// Adds a 32-bit field.
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Adds a 64-bit field.
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_laid_out_as_the_protocol_says() {
        let header = Header::request(0x1234, Command::RegionWrite, 0x20, true);
        let bytes = header.to_bytes();
        assert_eq!(bytes, [0x34, 0x12, 10, 0, 0x30, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Header::from_bytes(&bytes), Some(header));
        assert_eq!(Header::from_bytes(&bytes[..15]), None);
    }
}
