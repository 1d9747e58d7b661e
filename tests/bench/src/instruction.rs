//! What kind of x86-64 instruction some bytes are, as far as a hot path cares: system calls, fences, locks, divisions.

/// A kind that a hot path does without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None of the below.
    Plain,
    /// `syscall`.
    SystemCall,
    /// `lfence`, `mfence`, `sfence`.
    Fence,
    /// A `lock` prefix, or `xchg` with memory, which locks by itself.
    Locked,
    /// `div`, `idiv`.
    Division,
}

/// The kind of the instruction that begins with `bytes`.
pub(crate) fn kind(bytes: &[u8]) -> Kind {
    let mut rest = bytes;
    while let [prefix, after @ ..] = rest {
        match prefix {
            0xf0 => return Kind::Locked,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3 | 0x40..=0x4f => rest = after,
            _ => break,
        }
    }
    match *rest {
        [0x0f, 0x05, ..] => Kind::SystemCall,
        [0x0f, 0xae, modrm, ..] if modrm >= 0xe8 => Kind::Fence,
        [0x86 | 0x87, modrm, ..] if modrm < 0xc0 => Kind::Locked,
        [0xf6 | 0xf7, modrm, ..] if modrm & 0x30 == 0x30 => Kind::Division,
        _ => Kind::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(kind(&[0x0f, 0x05]), Kind::SystemCall);
        assert_eq!(kind(&[0x0f, 0xae, 0xf8]), Kind::Fence);
        assert_eq!(kind(&[0x0f, 0xae, 0xf0]), Kind::Fence);
        // clflush, ldmxcsr
        assert_eq!(kind(&[0x0f, 0xae, 0x38]), Kind::Plain);
        assert_eq!(kind(&[0x0f, 0xae, 0x10]), Kind::Plain);
        assert_eq!(kind(&[0xf0, 0x48, 0x0f, 0xb1, 0x0f]), Kind::Locked);
        assert_eq!(kind(&[0x48, 0x87, 0x07]), Kind::Locked);
        // xchg ax, ax (a nop) and between registers
        assert_eq!(kind(&[0x66, 0x90]), Kind::Plain);
        assert_eq!(kind(&[0x48, 0x87, 0xc1]), Kind::Plain);
        // div rcx, idiv esi; test and neg have the same opcode
        assert_eq!(kind(&[0x48, 0xf7, 0xf1]), Kind::Division);
        assert_eq!(kind(&[0xf7, 0xfe]), Kind::Division);
        assert_eq!(kind(&[0xf7, 0xd9]), Kind::Plain);
        assert_eq!(kind(&[0x48, 0xf7, 0xc1]), Kind::Plain);
        assert_eq!(kind(&[]), Kind::Plain);
    }
}
