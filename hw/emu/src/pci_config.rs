//! PCI config space: 4 KiB of registers, each with the bits that software can write.
//!
//! Source: `pcie.c:pcie_speeds`, `tune_pcie_caps`, `save_pci_variables`, `do_pcie_gen3_transition`.

/// Bytes of config space.
pub const CONFIG_LEN: usize = 4096;
/// Where the PCI Express capability is.
const PCIE: usize = 0x70;
/// Where the MSI-X capability is: the driver saves and restores this very dword (`pcie.c PCI_CFG_MSIX0`).
const MSIX: usize = 0xb0;
const COMMAND: usize = 0x04;
const BAR0: usize = 0x10;
const DEVCTL: usize = PCIE + 8;
const COMMAND_MASTER: u16 = 1 << 2;
const DEVCTL_FLR: u16 = 1 << 15;
const MSIX_FUNCTION_MASK: u16 = 1 << 14;

/// What a write to config space asks of the chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effects {
    /// Function-level reset.
    pub reset: bool,
    /// Bus-master enable, as it is now.
    pub master: bool,
    /// MSI-X function mask, as it is now.
    pub function_mask: bool,
}

/// What a kernel's VFIO keeps for a function over its reset.
#[derive(Debug, Clone, Copy)]
pub struct Saved {
    command: u16,
    bars: u64,
    device_control: u16,
    msix_control: u16,
}

/// The registers and which of their bits can be written or cleared by writing a one.
pub struct PciConfig {
    bytes: Box<[u8; CONFIG_LEN]>,
    writable: Box<[u8; CONFIG_LEN]>,
    clears: Box<[u8; CONFIG_LEN]>,
}

impl std::fmt::Debug for PciConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PciConfig").field("command", &self.word(COMMAND)).finish_non_exhaustive()
    }
}

impl Default for PciConfig {
    fn default() -> Self {
        let mut config = Self {
            bytes: Box::new([0; CONFIG_LEN]),
            writable: Box::new([0; CONFIG_LEN]),
            clears: Box::new([0; CONFIG_LEN]),
        };
        config.header();
        config.capabilities();
        config.extended_capabilities();
        config
    }
}

impl PciConfig {
    fn put(&mut self, at: usize, value: u32) {
        put(&mut self.bytes, at, value);
    }

    fn let_write(&mut self, at: usize, mask: u32) {
        put(&mut self.writable, at, mask);
    }

    fn let_clear(&mut self, at: usize, mask: u32) {
        put(&mut self.clears, at, mask);
    }

    fn header(&mut self) {
        self.put(0x00, 0x24f0_8086);
        // Status: there is a capability list.
        self.put(COMMAND, 0x0010_0000);
        // Memory, bus master, parity response, SERR, interrupt disable; status bits clear by ones.
        self.let_write(COMMAND, 0x0546);
        self.let_clear(COMMAND, 0xf900_0000);
        // Class: fabric controller; revision B1.
        self.put(0x08, 0x0208_0011);
        self.let_write(0x0c, 0xff);
        // BAR 0: 64-bit memory, 64 MiB.
        self.put(BAR0, 0x4);
        self.let_write(BAR0, 0xfc00_0000);
        self.let_write(BAR0 + 4, 0xffff_ffff);
        self.put(0x2c, 0x2628_8086);
        self.put(0x34, 0x40);
        // Interrupt line and pin.
        self.put(0x3c, 0x0100);
        self.let_write(0x3c, 0xff);
    }

    fn capabilities(&mut self) {
        // Power management, version 3, D0 only but for D3hot; no soft reset.
        self.put(0x40, 0x0003_0001 | (PCIE as u32) << 8);
        self.put(0x44, 0x0008);
        self.let_write(0x44, 0x3);
        // PCI Express, version 2, endpoint.
        self.put(PCIE, 0x0002_0010 | (MSIX as u32) << 8);
        // DEVCAP: 256-byte payloads, extended tags, role-based errors, FLR.
        self.put(PCIE + 4, 1 << 28 | 1 << 15 | 1 << 5 | 1);
        self.put(DEVCTL, 0x2810);
        self.let_write(DEVCTL, 0x7fff);
        self.let_clear(DEVCTL, 0x000f_0000);
        // LNKCAP: 8 GT/s, 16 lanes, ASPM L1; LNKSTA: trained to that.
        self.put(PCIE + 0x0c, 16 << 4 | 3 | 2 << 10);
        self.put(PCIE + 0x10, (16 << 4 | 3 | 1 << 12) << 16);
        self.let_write(PCIE + 0x10, 0x0fff);
        // DEVCAP2: completion timeouts A to D.
        self.put(PCIE + 0x24, 0x1f);
        self.let_write(PCIE + 0x28, 0xffff);
        // LNKCAP2: 2.5, 5 and 8 GT/s; LNKCTL2: target 8 GT/s; LNKSTA2: equalised.
        self.put(PCIE + 0x2c, 0xe);
        self.put(PCIE + 0x30, 0x001e_0003);
        self.let_write(PCIE + 0x30, 0xffff);
        // MSI-X: 256 vectors, table and pending bits in BAR 0 (chip_registers.h CCE_MSIX_TABLE_LOWER, CCE_MSIX_PBA).
        self.put(MSIX, 0x00ff_0011);
        self.let_write(MSIX, 0xc000_0000);
        self.put(MSIX + 4, 0x10_0000);
        self.put(MSIX + 8, 0x11_0000);
    }

    fn extended_capabilities(&mut self) {
        // Advanced error reporting, version 2.
        self.put(0x100, 0x1482_0001);
        self.let_clear(0x104, 0x0ff5_f010);
        self.let_write(0x108, 0x0ff5_f010);
        self.put(0x10c, 0x0046_2030);
        self.let_write(0x10c, 0x0ff5_f010);
        self.let_clear(0x110, 0xf1c1);
        self.put(0x114, 0x2000);
        self.let_write(0x114, 0xf1c1);
        self.put(0x118, 0xa0);
        self.let_write(0x118, 0x140);
        // Secondary PCI Express: the driver writes its lane error register at 0x150 (pcie.c PCI_CFG_SPCIE2).
        self.put(0x148, 0x0001_0019);
        self.let_write(0x14c, 0x3);
        self.let_clear(0x150, 0xffff);
        // Port logic, vendor specific; PL105 (0x8a4, equalisation check) reads 0: no violation.
        for at in (0x700..0x900).step_by(4).filter(|at| *at != 0x8a4) {
            self.let_write(at, 0xffff_ffff);
        }
    }

    fn word(&self, at: usize) -> u16 {
        match self.bytes.get(at..).and_then(|bytes| bytes.first_chunk::<2>()) {
            Some(bytes) => u16::from_le_bytes(*bytes),
            None => 0,
        }
    }

    fn set_word(&mut self, at: usize, value: u16) {
        if let Some(bytes) = self.bytes.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut::<2>()) {
            *bytes = value.to_le_bytes();
        }
    }

    fn effects(&self, reset: bool) -> Effects {
        Effects {
            reset,
            master: self.word(COMMAND) & COMMAND_MASTER != 0,
            function_mask: self.word(MSIX + 2) & MSIX_FUNCTION_MASK != 0,
        }
    }

    /// Reads bytes; those beyond the end read as 0.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (at, byte) in (usize::from(offset)..).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }

    /// Writes bytes; those that can't be written stay as they are.
    pub fn write(&mut self, offset: u16, data: &[u8]) -> Effects {
        let mut reset = false;
        for (at, &value) in (usize::from(offset)..).zip(data) {
            let (Some(byte), Some(&writable), Some(&clears)) =
                (self.bytes.get_mut(at), self.writable.get(at), self.clears.get(at))
            else {
                break;
            };
            *byte = *byte & !writable | value & writable;
            *byte &= !(value & clears);
            reset |= at == DEVCTL + 1 && u16::from(value) << 8 & DEVCTL_FLR != 0;
        }
        if reset {
            *self = Self::default();
        }
        self.effects(reset)
    }

    /// What is to be kept over a reset that the kernel does for a user.
    pub fn save(&self) -> Saved {
        let mut bars = [0; 8];
        self.read(BAR0 as u16, &mut bars);
        Saved {
            command: self.word(COMMAND),
            bars: u64::from_le_bytes(bars),
            device_control: self.word(DEVCTL),
            msix_control: self.word(MSIX + 2),
        }
    }

    /// Puts it back.
    pub fn restore(&mut self, saved: Saved) -> Effects {
        self.set_word(COMMAND, saved.command);
        self.set_word(DEVCTL, saved.device_control);
        self.set_word(MSIX + 2, saved.msix_control);
        self.write(BAR0 as u16, &saved.bars.to_le_bytes())
    }
}

fn put(bytes: &mut [u8; CONFIG_LEN], at: usize, value: u32) {
    if let Some(slot) = bytes.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut::<4>()) {
        *slot = value.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dword(config: &PciConfig, at: u16) -> u32 {
        let mut bytes = [0; 4];
        config.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn capabilities_are_linked() {
        let config = PciConfig::default();
        assert_eq!(dword(&config, 0), 0x24f0_8086);
        let (mut at, mut ids) = (dword(&config, 0x34) as u16 & 0xff, Vec::new());
        while at != 0 {
            ids.push((at, dword(&config, at) & 0xff));
            at = (dword(&config, at) >> 8) as u16 & 0xff;
        }
        assert_eq!(ids, [(0x40, 1), (0x70, 0x10), (0xb0, 0x11)]);
        assert_eq!(dword(&config, 0x100) >> 20, 0x148);
        assert_eq!(dword(&config, 0x148) & 0xffff, 0x19);
    }

    #[test]
    fn the_bar_sizes_as_64_mib() {
        let mut config = PciConfig::default();
        config.write(0x10, &[0xff; 8]);
        assert_eq!(dword(&config, 0x10), 0xfc00_0004);
        assert_eq!(dword(&config, 0x14), 0xffff_ffff);
    }

    #[test]
    fn flr_falls_back_and_restore_brings_back() {
        let mut config = PciConfig::default();
        assert!(config.write(4, &[6, 0]).master);
        config.write(0x10, &[0, 0, 0, 0xf8, 1, 0, 0, 0]);
        let saved = config.save();
        let effects = config.write(0x79, &[0x80]);
        assert!(effects.reset && !effects.master);
        assert_eq!(dword(&config, 0x10), 4);
        assert!(config.restore(saved).master);
        assert_eq!(dword(&config, 0x10), 0xf800_0004);
        assert_eq!(dword(&config, 0x78) & 0xffff, 0x2810);
    }

    #[test]
    fn odd_accesses_are_harmless() {
        let mut config = PciConfig::default();
        config.write(4095, &[1; 8]);
        config.write(65535, &[1; 8]);
        let mut bytes = [1; 8];
        config.read(4093, &mut bytes);
        config.read(65535, &mut bytes);
        assert_eq!(bytes, [0; 8]);
    }
}
