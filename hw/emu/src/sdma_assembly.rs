//! How descriptors become a packet: the bytes they name, and header edits (AHG).

use crate::dma::DmaSpace;
use crate::packet::ICRC_BYTES;
use crate::txe_sdma::Done;
use opx_defs::csr::{self, SEND_DMA_ENG_ERR_STATUS as ERR};
use opx_defs::sdma::{DESC_MAX_BYTES, SdmaDesc};
use opx_defs::wire::pbc::Pbc;

/// Most descriptors of one packet (`sdma.h MAX_DESC`).
const MAX_DESCS: u16 = 64;
/// Header dwords that an engine stores for one entry: 64 bytes, PBC included.
const HEADER_DWORDS: usize = 16;
const PBC_BYTES: usize = 8;

/// The headers that an engine keeps for automatic header generation.
#[derive(Debug, Default)]
pub struct HeaderStore {
    entries: [Option<[u32; HEADER_DWORDS]>; 32],
}

/// A packet that is being put together.
#[derive(Debug, Default)]
pub struct Assembly {
    bytes: Vec<u8>,
    done: Done,
    descs: u16,
    /// The first descriptor has been seen.
    open: bool,
    /// The header, all in the first descriptor, goes to this entry of the store as well.
    copy_to: Option<usize>,
    /// Bytes of the first descriptor.
    first_bytes: usize,
    /// Slots with header edits still to come.
    edit_slots: u8,
}

/// What a descriptor brought.
#[derive(Debug)]
pub enum Step {
    /// The packet goes on.
    More,
    /// The packet is complete.
    Packet {
        /// Its PBC.
        pbc: Pbc,
        /// LRH to the end of the payload.
        body: Vec<u8>,
        /// What its descriptors ask for.
        done: Done,
    },
}

impl Assembly {
    /// Forgets what it has.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether a packet has begun.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the next slot carries header edits instead of a descriptor.
    pub fn expects_edits(&self) -> bool {
        self.edit_slots != 0
    }

    /// Takes the next slot of the ring.
    pub fn add(&mut self, dma: &mut DmaSpace, headers: &mut HeaderStore, desc: SdmaDesc) -> Result<Step, csr::Field> {
        self.done.slots += 1;
        self.descs += 1;
        if self.descs > MAX_DESCS {
            return Err(ERR::SDMA_PACKET_DESC_OVERFLOW_ERR);
        }
        if self.edit_slots != 0 {
            self.edit_slots -= 1;
            for qword in [desc.qw0.get(), desc.qw1.get()] {
                self.edit(qword as u32);
                self.edit((qword >> 32) as u32);
            }
            return Ok(Step::More);
        }
        // The first descriptor of a packet says so, and no other.
        if desc.is_first() == self.open {
            return Err(ERR::SDMA_FIRST_DESC_ERR);
        }
        if !self.open {
            self.open = true;
            self.first_bytes = desc.bytes() as usize;
            self.begin(headers, desc)?;
        }
        self.done.head_to_host |= desc.wants_head();
        self.done.interrupt |= desc.wants_interrupt();
        let (old, more) = (self.bytes.len(), desc.bytes() as usize);
        if old + more > DESC_MAX_BYTES as usize {
            return Err(ERR::SDMA_TOO_LONG_ERR);
        }
        // The ICRC will follow.
        self.bytes.reserve(more + ICRC_BYTES);
        self.bytes.resize(old + more, 0);
        if let Some(place) = self.bytes.get_mut(old..).filter(|place| !place.is_empty()) {
            dma.read(desc.addr(), place).map_err(|_| ERR::SDMA_MEM_READ_ERR)?;
        }
        if !desc.is_last() {
            return Ok(Step::More);
        }
        self.finish(headers)
    }

    /// The mode of header generation in the first descriptor.
    ///
    /// Source: `sdma.h:sdma_txinit_ahg`, `sdma.c:_sdma_txreq_ahgadd`. Which error an undefined mode or an empty entry
    /// brings is INFERRED from the names of the error bits.
    fn begin(&mut self, headers: &HeaderStore, desc: SdmaDesc) -> Result<(), csr::Field> {
        let index = (desc.qw1.get() >> 8) as usize & 0x1f;
        let mode = desc.ahg_mode();
        match mode {
            0 => {}
            1 => self.copy_to = Some(index),
            2..=4 => {
                // A count of 0 means all 16 dwords; a PBC that is cut in two isn't allowed.
                let dwords = match (desc.qw1.get() >> 4) as usize & 0xf {
                    0 => HEADER_DWORDS,
                    1 => return Err(ERR::SDMA_HEADER_LENGTH_ERR),
                    dwords => dwords,
                };
                let entry = headers.entries.get(index).copied().flatten().ok_or(ERR::SDMA_HEADER_SELECT_ERR)?;
                self.bytes.extend(entry.iter().take(dwords).flat_map(|dword| dword.to_le_bytes()));
                self.edit((desc.qw1.get() >> 32) as u32);
                self.edit_slots = (mode - 2) as u8;
            }
            _ => return Err(ERR::SDMA_HEADER_SELECT_ERR),
        }
        Ok(())
    }

    /// Changes a field of the header, which counts from the PBC.
    ///
    /// Source: `sdma.h:sdma_build_ahg_descriptor`.
    fn edit(&mut self, edit: u32) {
        if edit & 1 << 31 == 0 {
            return;
        }
        let (value, dword, start) = (edit & 0xffff, (edit >> 16) as usize & 0xf, edit >> 24 & 0x1f);
        let width = match edit >> 20 & 0xf {
            0 => 16,
            width => width,
        };
        let mask = ((1u64 << width) - 1) << start;
        if let Some(place) = self.bytes.get_mut(dword * 4..).and_then(<[u8]>::first_chunk_mut::<4>) {
            let old = u64::from(u32::from_le_bytes(*place));
            let new = old & !mask | u64::from(value) << start & mask;
            *place = (new as u32).to_le_bytes();
        }
    }

    fn finish(&mut self, headers: &mut HeaderStore) -> Result<Step, csr::Field> {
        if !self.bytes.len().is_multiple_of(4) {
            return Err(ERR::SDMA_WRONG_DW_ERR);
        }
        let Some(pbc) = self.bytes.first_chunk::<PBC_BYTES>().map(|raw| Pbc(u64::from_le_bytes(*raw))) else {
            return Err(ERR::SDMA_LENGTH_MISMATCH_ERR);
        };
        if pbc.length().bytes() as usize != self.bytes.len() {
            return Err(ERR::SDMA_LENGTH_MISMATCH_ERR);
        }
        if let Some(entry) = self.copy_to.and_then(|index| headers.entries.get_mut(index)) {
            let mut stored = [0; HEADER_DWORDS];
            // `sdma.h`, SDMA_TXREQ_F_AHG_COPY: the header is what the first descriptor names.
            let header = self.bytes.get(..self.first_bytes).unwrap_or(&self.bytes);
            for (place, raw) in stored.iter_mut().zip(header.as_chunks::<4>().0) {
                *place = u32::from_le_bytes(*raw);
            }
            *entry = Some(stored);
        }
        let Self { bytes: mut body, done, .. } = std::mem::take(self);
        body.drain(..PBC_BYTES);
        Ok(Step::Packet { pbc, body, done })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_bus::SharedMem;
    use opx_defs::units::{Dwords, Iova, Sc, Vl};
    use zerocopy::little_endian::U64;

    struct Bench {
        dma: DmaSpace,
        memory: SharedMem,
        headers: HeaderStore,
        assembly: Assembly,
    }

    const AT: Iova = Iova(0x1000);

    impl Bench {
        fn new() -> Self {
            let memory = SharedMem::new(32768).unwrap();
            let mut dma = DmaSpace::default();
            dma.master = true;
            dma.map(AT, 32768, memory.clone(), 0).unwrap();
            let data: Vec<u8> = (0..32768u32).map(|i| i as u8).collect();
            memory.write(0, &data);
            Self { dma, memory, headers: HeaderStore::default(), assembly: Assembly::default() }
        }

        fn pbc(&self, dwords: u32) {
            self.memory.write_u64(0, Pbc::new(Dwords(dwords), Vl(0), Sc(0)).0);
        }

        fn add(&mut self, desc: SdmaDesc) -> Result<Option<Vec<u8>>, csr::Field> {
            match self.assembly.add(&mut self.dma, &mut self.headers, desc)? {
                Step::More => Ok(None),
                Step::Packet { body, .. } => Ok(Some(body)),
            }
        }
    }

    fn ahg(mut desc: SdmaDesc, mode: u64, index: u64, dwords: u64, edit: u32) -> SdmaDesc {
        desc.qw1 = U64::new(desc.qw1.get() | dwords << 4 | index << 8 | mode << 13 | u64::from(edit) << 32);
        desc
    }

    fn edit(value: u32, dword: u32, start: u32, width: u32) -> u32 {
        1 << 31 | start << 24 | (width & 0xf) << 20 | dword << 16 | value
    }

    #[test]
    fn pieces_of_any_length_make_a_packet() {
        let mut bench = Bench::new();
        bench.pbc(16);
        assert_eq!(bench.add(SdmaDesc::new(AT, 13).first()), Ok(None));
        assert_eq!(bench.add(SdmaDesc::new(AT.plus(13), 50)), Ok(None));
        let body = bench.add(SdmaDesc::new(AT.plus(63), 1).last()).unwrap().unwrap();
        assert_eq!(body, (8..64).collect::<Vec<u8>>());
    }

    #[test]
    fn faults_are_told_apart() {
        let run = |pbc: u32, descs: &[SdmaDesc]| {
            let mut bench = Bench::new();
            bench.pbc(pbc);
            descs.iter().map(|desc| bench.add(*desc)).find_map(Result::err)
        };
        let desc = |at: u64, bytes| SdmaDesc::new(AT.plus(at), bytes);
        assert_eq!(run(16, &[desc(0, 64).last()]), Some(ERR::SDMA_FIRST_DESC_ERR));
        assert_eq!(run(16, &[desc(0, 32).first(), desc(32, 32).first()]), Some(ERR::SDMA_FIRST_DESC_ERR));
        assert_eq!(run(17, &[desc(0, 64).first().last()]), Some(ERR::SDMA_LENGTH_MISMATCH_ERR));
        assert_eq!(run(16, &[desc(0, 63).first().last()]), Some(ERR::SDMA_WRONG_DW_ERR));
        assert_eq!(run(16, &[desc(0, 16380).first(), desc(0, 4).last()]), Some(ERR::SDMA_TOO_LONG_ERR));
        assert_eq!(run(16, &[desc(1 << 20, 64).first()]), Some(ERR::SDMA_MEM_READ_ERR));
        assert_eq!(run(16, &[desc(0, 4).first().last()]), Some(ERR::SDMA_LENGTH_MISMATCH_ERR));
        let mut many = vec![desc(0, 4); 65];
        many[0] = many[0].first();
        assert_eq!(run(64, &many), Some(ERR::SDMA_PACKET_DESC_OVERFLOW_ERR));
        assert_eq!(run(16, &[ahg(desc(0, 0).first(), 2, 3, 0, 0)]), Some(ERR::SDMA_HEADER_SELECT_ERR));
        assert_eq!(run(16, &[ahg(desc(0, 0).first(), 7, 3, 0, 0)]), Some(ERR::SDMA_HEADER_SELECT_ERR));
        assert_eq!(run(16, &[ahg(desc(0, 0).first(), 2, 3, 1, 0)]), Some(ERR::SDMA_HEADER_LENGTH_ERR));
    }

    #[test]
    fn a_stored_header_is_edited() {
        let mut bench = Bench::new();
        bench.pbc(20);
        bench.add(ahg(SdmaDesc::new(AT, 64).first(), 1, 5, 0, 0)).unwrap();
        let first = bench.add(SdmaDesc::new(AT.plus(64), 16).last()).unwrap().unwrap();
        assert_eq!(first.len(), 72);
        // The second packet has only 4 bytes of payload: its PBC is edited too, and two edits are in an extra slot.
        let empty = SdmaDesc::new(Iova(0), 0).first();
        bench.add(ahg(empty, 3, 5, 0, edit(17, 0, 0, 12))).unwrap();
        let two = U64::new(u64::from(edit(0xabcd, 7, 16, 16)) | u64::from(edit(1, 8, 4, 1)) << 32);
        let slot = SdmaDesc { qw0: two, ..SdmaDesc::default() };
        assert!(bench.assembly.expects_edits());
        bench.add(slot).unwrap();
        let body = bench.add(SdmaDesc::new(AT.plus(100), 4).last()).unwrap().unwrap();
        let mut wanted: Vec<u8> = (8..64).collect();
        wanted[7 * 4 - 8 + 2..7 * 4 - 8 + 4].copy_from_slice(&[0xcd, 0xab]);
        wanted[8 * 4 - 8] |= 1 << 4;
        wanted.extend(100..104);
        assert_eq!(body, wanted);
    }
}
