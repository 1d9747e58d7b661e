//! The EPROM of a discrete adapter: its bytes, and the platform configuration file in it.
//!
//! Source: `eprom.c`.

use crate::asic::Asic;
use crate::error::EpromError;
use crate::hfi::{Hfi, Inner};
use crate::regs::{Regs, limit};
use opx_bus::PciFunction;
use opx_defs::chip;
use opx_defs::csr;

/// Bytes that a read command reaches (24 bits of address).
const LEN: u32 = 1 << 24;
/// Bytes of a page, the unit of reading.
const PAGE: u32 = 256;
/// The file's place in an EPROM of partitions, and how long it may be.
const PARTITION: u32 = 128 << 10;
const MOST_FILE: u32 = 4 << 10;
/// In an EPROM of segments: the first ends in a directory.
const SEGMENT: u32 = 128 << 10;
const FOOTER: u32 = 12;
const ENTRY: u32 = 12;
const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"eprm");
const FOOTER_VERSION: u32 = 1;
const PLATFORM_CONFIG: u32 = 2;
/// The device id of discrete adapters; integrated ones have no EPROM.
pub(crate) const DISCRETE: u16 = 0x24f0;
const IMAGE_START: &[u8] = b"APO=";
const IMAGE_END: &[u8] = b"egamiAPO";
/// Commands, in the top byte (`eprom.c:CMD_*`).
const CLOSE: u64 = 0;
const READ: u64 = 0x03 << 24;
const WAKE: u64 = 0xab << 24;
/// RATE_SPI at full speed.
const FULL_SPEED: u64 = 2;

impl<B: PciFunction> Hfi<B> {
    /// Reads bytes of the adapter's EPROM from `offset` on.
    ///
    /// # Errors
    /// When the adapter has none, the range lies beyond its 16 MiB, or it is in use.
    pub fn read_eprom(&self, offset: u32, bytes: &mut [u8]) -> Result<(), EpromError> {
        self.inner.with_eprom(|eprom| eprom.read(offset, bytes))
    }

    /// The platform configuration file in the adapter's EPROM: port type, attenuations and presets of the serdes.
    ///
    /// # Errors
    /// As [`Hfi::read_eprom`], and when there is no such file or what there is makes no sense.
    pub fn platform_config(&self) -> Result<Vec<u8>, EpromError> {
        self.inner.with_eprom(|eprom| eprom.platform_config())
    }
}

/// The EPROM, while the chip's resource for it is held.
pub(crate) struct Eprom<'a, B: PciFunction> {
    regs: &'a Regs<B>,
}

impl<B: PciFunction> Inner<B> {
    fn with_eprom<T>(&self, work: impl FnOnce(&Eprom<'_, B>) -> Result<T, EpromError>) -> Result<T, EpromError> {
        with_eprom(&self.regs, self.asic, self.info.device, work)
    }
}

/// `eprom.c:eprom_init` before each use: it costs nothing and finds the EPROM in a good state whoever used it last.
pub(crate) fn with_eprom<B: PciFunction, T>(
    regs: &Regs<B>,
    asic: Asic,
    device: u16,
    work: impl FnOnce(&Eprom<'_, B>) -> Result<T, EpromError>,
) -> Result<T, EpromError> {
    if device != DISCRETE {
        return Err(EpromError::None { adapter: regs.adapter() });
    }
    let (eprom, what) = (chip::CR_EPROM, "the chip's EPROM");
    asic.holding(regs, eprom, eprom, limit::EPROM_RESOURCE, what, || {
        use csr::ASIC_EEP_CTL_STAT as control;
        regs.write(&csr::ASIC_EEP_CTL_STAT, control::EP_RESET.mask());
        regs.write(&csr::ASIC_EEP_CTL_STAT, control::RATE_SPI.put(FULL_SPEED));
        regs.write(&csr::ASIC_EEP_ADDR_CMD, WAKE);
        work(&Eprom { regs })
    })
}

impl<B: PciFunction> Eprom<'_, B> {
    fn bad(&self, problem: &'static str, value: u32) -> EpromError {
        EpromError::Bad { adapter: self.regs.adapter(), problem, value }
    }

    /// `eprom.c:read_page`.
    fn page(&self, offset: u32) -> Result<[u8; PAGE as usize], EpromError> {
        let regs = self.regs;
        let mut page = [0; PAGE as usize];
        regs.write(&csr::ASIC_EEP_ADDR_CMD, READ | u64::from(offset));
        for dword in page.as_chunks_mut::<4>().0 {
            *dword = (regs.read_any(&csr::ASIC_EEP_DATA, 0)? as u32).to_le_bytes();
        }
        regs.write(&csr::ASIC_EEP_ADDR_CMD, CLOSE);
        Ok(page)
    }

    /// `eprom.c:read_length`.
    pub fn read(&self, offset: u32, mut bytes: &mut [u8]) -> Result<(), EpromError> {
        if u64::from(offset) + bytes.len() as u64 > u64::from(LEN) {
            return Err(EpromError::Beyond { adapter: self.regs.adapter(), offset, len: bytes.len() });
        }
        let mut at = offset;
        while !bytes.is_empty() {
            let page = self.page(at & !(PAGE - 1))?;
            let from = page.get((at % PAGE) as usize..).unwrap_or_default();
            let (part, rest) = bytes.split_at_mut(bytes.len().min(from.len()));
            part.copy_from_slice(from.get(..part.len()).unwrap_or_default());
            at += part.len() as u32;
            bytes = rest;
        }
        Ok(())
    }

    fn dwords<const N: usize>(&self, offset: u32) -> Result<[u32; N], EpromError> {
        let mut bytes = vec![0; 4 * N];
        self.read(offset, &mut bytes)?;
        let mut dwords = [0; N];
        for (dword, bytes) in dwords.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *dword = u32::from_le_bytes(*bytes);
        }
        Ok(dwords)
    }

    /// `eprom.c:eprom_read_platform_config`.
    pub fn platform_config(&self) -> Result<Vec<u8>, EpromError> {
        let [oprom_size, counts, magic] = self.dwords::<3>(SEGMENT - FOOTER)?;
        if magic == FOOTER_MAGIC { self.file_of_segments(oprom_size, counts) } else { self.file_of_partition() }
    }

    /// `eprom.c:read_partition_platform_config`.
    fn file_of_partition(&self) -> Result<Vec<u8>, EpromError> {
        let mut bytes = vec![0; MOST_FILE as usize];
        self.read(PARTITION, &mut bytes)?;
        if !bytes.starts_with(IMAGE_START) {
            return Err(EpromError::NoFile { adapter: self.regs.adapter() });
        }
        let end = bytes.windows(IMAGE_END.len()).position(|window| window == IMAGE_END);
        bytes.truncate(end.unwrap_or(bytes.len()));
        Ok(bytes)
    }

    /// `eprom.c:read_segment_platform_config`.
    fn file_of_segments(&self, oprom_size: u32, counts: u32) -> Result<Vec<u8>, EpromError> {
        let (entries, version) = (counts & 0xffff, counts >> 16);
        if version != FOOTER_VERSION {
            return Err(self.bad("the version of its directory", version));
        }
        if oprom_size >= SEGMENT {
            return Err(self.bad("the length of its boot ROM", oprom_size));
        }
        if entries > (SEGMENT - oprom_size).saturating_sub(FOOTER) / ENTRY {
            return Err(self.bad("the number of its files", entries));
        }
        let directory = FOOTER + ENTRY * entries;
        let mut found = None;
        for entry in 0..entries {
            let [kind, offset, size] = self.dwords::<3>(SEGMENT - directory + ENTRY * entry)?;
            if kind == PLATFORM_CONFIG {
                found = Some((offset, size));
                break;
            }
        }
        let Some((offset, size)) = found else { return Err(EpromError::NoFile { adapter: self.regs.adapter() }) };
        if size > MOST_FILE {
            return Err(self.bad("the length of the file", size));
        }
        // A file goes on behind the boot ROM's place in the next segment.
        let (mut within, mut base) = (offset % SEGMENT, offset - offset % SEGMENT);
        let mut bytes = vec![0; size as usize];
        let mut rest = &mut bytes[..];
        while !rest.is_empty() {
            let end = if base == 0 { SEGMENT - directory } else { SEGMENT };
            let Some(room) = end.checked_sub(within).filter(|room| *room > 0) else {
                return Err(self.bad("the place of the file", offset));
            };
            let (part, after) = rest.split_at_mut(rest.len().min(room as usize));
            self.read(base.checked_add(within).ok_or_else(|| self.bad("the place of the file", offset))?, part)?;
            rest = after;
            within = oprom_size;
            base = base.checked_add(SEGMENT).ok_or_else(|| self.bad("the place of the file", offset))?;
        }
        Ok(bytes)
    }
}
