//! What a PCI function must do, before any driver.

use crate::rig::Rig;
use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::csr;
use opx_defs::source::Source;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);

/// An HFI1 with its BAR, that answers.
pub fn identity<B: PciFunction>(rig: Rig<B>) {
    let mut id = [0; 4];
    rig.bus.config_read(0, &mut id).unwrap();
    assert_eq!(u32::from_le_bytes(id) & 0xffff, 0x8086);
    assert!(matches!(u32::from_le_bytes(id) >> 16, 0x24f0 | 0x24f1));
    assert_eq!(rig.bus.bar0_len(), 64 << 20);
    let revision = rig.bus.read64(csr::CCE_REVISION.off());
    assert_ne!(revision, ALL_ONES);
    assert_eq!(csr::CCE_REVISION::CHIP_REV_MAJOR.get(revision), 7);
    assert_eq!(rig.bus.gone(), None);
    assert!(!rig.bus.name().is_empty());
}

/// Writes keep their order, and a read sees the last one.
pub fn registers_hold_what_is_written<B: PciFunction>(rig: Rig<B>) {
    for round in 0..50u64 {
        for n in 0..csr::CCE_SCRATCH.count {
            rig.bus.write64(csr::CCE_SCRATCH.at(n), !round);
            rig.bus.write64(csr::CCE_SCRATCH.at(n), round << 32 | u64::from(n));
        }
        for n in 0..csr::CCE_SCRATCH.count {
            assert_eq!(rig.bus.read64(csr::CCE_SCRATCH.at(n)), round << 32 | u64::from(n));
        }
    }
}

/// Config space ends after 4 KiB, and saying so isn't the end of the function.
pub fn config_space_is_bounded<B: PciFunction>(rig: Rig<B>) {
    let mut byte = [0];
    rig.bus.config_read(0xfff, &mut byte).unwrap();
    assert!(rig.bus.config_read(0xfff, &mut [0; 2]).is_err());
    assert!(rig.bus.config_read(u16::MAX, &mut byte).is_err());
    assert_eq!(rig.bus.gone(), None);
    assert_ne!(rig.bus.read64(csr::CCE_REVISION.off()), ALL_ONES);
}

/// What the function writes to an address of a block is what the block reads: the credit-return word, here.
pub fn dma_memory_is_shared<B: PciFunction>(rig: Rig<B>) {
    let hfi = rig.bring_up();
    let blocks: Vec<_> = [1, 4096, 5000, 3 << 20].map(|len| hfi.bus().dma_alloc(len).unwrap()).into();
    for block in &blocks {
        assert_eq!(block.len() % 4096, 0);
        assert_eq!((block.read_u64(0), block.read_u64(block.len() - 8)), (0, 0));
    }
    let ctxt = hfi.send_context(opx_defs::units::Blocks(16)).unwrap();
    let before = ctxt.credit_return();
    ctxt.force_credit_return();
    assert!(rig.wait(LIMIT, || (ctxt.credit_return() != before).then_some(())).is_some(), "no word was written");
}

/// A block that is dropped can be taken again, for ever.
pub fn dma_memory_is_unmapped_when_dropped<B: PciFunction>(rig: Rig<B>) {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let block = rig.bus.dma_alloc(1 << 20).unwrap();
        seen.insert(block.iova(0));
    }
    assert!(seen.len() < 200, "addresses are never used again");
}

/// An interrupt arrives at the vector that its source is mapped to, and at no other.
pub fn interrupts_arrive_at_their_vector<B: PciFunction>(rig: Rig<B>) {
    let irqs = rig.bus.irq_enable(8).unwrap();
    for vector in 0..8u32 {
        // Source 256 + n stands for packets in receive context n, which is idle.
        let source = Source(256 + vector as u16);
        let map = csr::CCE_INT_MAP.at(u32::from(source.0) / 8);
        let shift = source.0 % 8 * 8;
        rig.bus.write64(map, rig.bus.read64(map) & !(0xff << shift) | u64::from(vector) << shift);
        rig.bus.write64(csr::CCE_INT_CLEAR.at(source.word()), source.bit());
        let mask = csr::CCE_INT_MASK.at(source.word());
        rig.bus.write64(mask, rig.bus.read64(mask) | source.bit());
        rig.bus.write64(csr::CCE_INT_FORCE.at(source.word()), source.bit());
        assert!(rig.bus.wait_irq(&irqs[vector as usize], LIMIT).unwrap(), "vector {vector} wasn't raised");
        for (other, irq) in irqs.iter().enumerate() {
            assert!(!irq.take().unwrap(), "vector {other} was raised, too");
        }
        rig.bus.write64(csr::CCE_INT_CLEAR.at(source.word()), source.bit());
    }
}

/// A reset takes registers to their reset values and leaves the function usable.
pub fn reset_brings_registers_back<B: PciFunction>(rig: Rig<B>) {
    let limit = csr::SEND_HIGH_PRIORITY_LIMIT.off();
    for _ in 0..3 {
        rig.bus.write64(limit, 0x123);
        assert_eq!(rig.bus.read64(limit), 0x123);
        rig.bus.reset().unwrap();
        assert_eq!(rig.bus.read64(limit), 0);
        assert_eq!(rig.bus.gone(), None);
    }
}
