//! Tests of the register blocks around the data path.

use super::one;
use crate::{Config, Icode, Lab, Pacing};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::units::BarOff;
use std::time::Duration;

#[test]
fn identity() {
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Config { hfi_id: 1, board_id: 5, ..Config::default() });
    let bus = adapter.bus();
    assert_eq!(bus.read64(csr::CCE_REVISION.off()), 0x5_0302_0710);
    assert_eq!(bus.read64(csr::CCE_REVISION2.off()), 1);
    assert_eq!(bus.read64(csr::CCE_DC_CTRL.off()), 1);
    // chip.c:read_guid.
    bus.write64(csr::CCE_DC_CTRL.off(), 0);
    let guid = bus.read64(csr::DC_DC8051_CFG_LOCAL_GUID.off());
    assert_eq!((guid >> 40, guid >> 39 & 1), (0x001175, 1));
    assert_eq!(bus.read64(BarOff(0x400_0000)), u64::MAX);
    assert_eq!(bus.bar0_len(), 64 << 20);
    let mut id = [0; 4];
    bus.config_read(0, &mut id).unwrap();
    assert_eq!(id, [0x86, 0x80, 0xf0, 0x24]);
    assert!(bus.config_read(4094, &mut id).is_err());
}

#[test]
fn check_int_registers() {
    let (_lab, node) = one(Icode::Silicon);
    // chip.c:check_int_registers.
    node.put(csr::CCE_INT_MASK, 0);
    assert_eq!(node.get(csr::CCE_INT_MASK), 0);
    node.put(csr::CCE_INT_CLEAR, u64::MAX);
    assert_eq!(node.get(csr::CCE_INT_STATUS), 0);
    node.put(csr::CCE_INT_FORCE, u64::MAX);
    assert_eq!(node.get(csr::CCE_INT_STATUS), u64::MAX);
    node.put(csr::CCE_INT_CLEAR, u64::MAX);
    assert_eq!(node.get(csr::CCE_INT_STATUS), 0);
}

#[test]
fn one_message_is_out_for_a_vector_until_its_source_is_cleared() {
    let (_lab, node) = one(Icode::Silicon);
    let irqs = node.bus.irq_enable(4).unwrap();
    let taken = || irqs.iter().map(|irq| irq.take().unwrap()).collect::<Vec<_>>();
    // Sources 8 and 9 to vector 2, all others to vector 0.
    node.bus.write64(csr::CCE_INT_MAP.at(1), 0x0202);
    node.put(csr::CCE_INT_FORCE, 0x300);
    assert_eq!(taken(), [false; 4], "masked");
    node.put(csr::CCE_INT_MASK, 0x300);
    assert_eq!(taken(), [false, false, true, false]);
    node.put(csr::CCE_INT_FORCE, 0x100);
    assert_eq!(taken(), [false; 4], "one is out already");
    assert_eq!(node.get(csr::CCE_INT_BLOCKED), 0x300);
    node.put(csr::CCE_INT_CLEAR, 0x100);
    assert_eq!(taken(), [false, false, true, false], "the other source still stands");
    node.put(csr::CCE_INT_CLEAR, 0x200);
    assert_eq!(taken(), [false; 4]);
    assert_eq!(node.adapter.counts().interrupts, 2);
    assert_eq!(node.get(csr::CCE_INT_COUNTER_ARRAY32), 2);
}

#[test]
fn a_standing_error_asserts_its_source_again() {
    let (_lab, node) = one(Icode::Silicon);
    node.put(csr::CCE_INT_MASK, 0);
    let status = || node.bus.read64(csr::CCE_INT_STATUS.at(3));
    let qsfp1 = 1 << (242 - 192);
    // chip.c:init_qsfp_int without a module: no interrupt comes of it, though both lines idle high.
    node.put(csr::ASIC_QSFP1_CLEAR, 0x18);
    node.put(csr::ASIC_QSFP1_MASK, 0x18);
    node.put(csr::ASIC_QSFP1_INVERT, 0x18);
    assert_eq!((status() & qsfp1, node.get(csr::ASIC_QSFP1_STATUS)), (0, 0));
    // The presence line is sensed anew.
    node.put(csr::ASIC_QSFP1_INVERT, 0x08);
    assert_eq!(status() & qsfp1, qsfp1);
    node.bus.write64(csr::CCE_INT_CLEAR.at(3), qsfp1);
    assert_eq!(status() & qsfp1, qsfp1);
    node.put(csr::ASIC_QSFP1_CLEAR, 0x18);
    assert_eq!(node.get(csr::ASIC_QSFP1_STATUS), 0, "what stands is not sensed twice");
    node.bus.write64(csr::CCE_INT_CLEAR.at(3), qsfp1);
    assert_eq!(status() & qsfp1, 0);
}

#[test]
fn software_may_use_the_msix_table() {
    let (_lab, node) = one(Icode::Silicon);
    let irqs = node.bus.irq_enable(1).unwrap();
    assert_eq!(node.get(csr::CCE_MSIX_TABLE_UPPER), 1 << 32);
    // Linux writes it in dwords.
    node.adapter.bar0_write(0x10_000c, &1u32.to_le_bytes());
    node.put(csr::CCE_INT_MASK, 1);
    node.put(csr::CCE_INT_FORCE, 1);
    assert!(!irqs[0].take().unwrap());
    assert_eq!(node.bus.read64(BarOff(0x11_0000)), 1, "pending");
    node.adapter.bar0_write(0x10_000c, &0u32.to_le_bytes());
    assert!(irqs[0].take().unwrap());
    assert_eq!(node.bus.read64(BarOff(0x11_0000)), 0);
}

#[test]
fn the_mutex_is_refused_while_the_other_holds_it() {
    let (_lab, node) = one(Icode::Silicon);
    node.put(csr::ASIC_CFG_MUTEX, 2);
    node.put(csr::ASIC_CFG_MUTEX, 1);
    assert_eq!(node.get(csr::ASIC_CFG_MUTEX), 2);
    node.put(csr::ASIC_CFG_MUTEX, 0);
    node.put(csr::ASIC_CFG_MUTEX, 1);
    assert_eq!(node.get(csr::ASIC_CFG_MUTEX), 1);
}

#[test]
fn sbus_answers_slow_and_fast() {
    let (_lab, node) = one(Icode::Silicon);
    let request = |address: u64, command: u64, data: u64| 0x4f | address << 8 | command << 16 | data << 32;
    // firmware.c:sbus_request_slow.
    node.put(csr::ASIC_CFG_SBUS_REQUEST, request(3, 0x21, 0xabcd));
    node.put(csr::ASIC_CFG_SBUS_EXECUTE, 1);
    assert_eq!(node.get(csr::ASIC_STS_SBUS_RESULT) & 3, 3);
    node.put(csr::ASIC_CFG_SBUS_EXECUTE, 0);
    assert_eq!(node.get(csr::ASIC_STS_SBUS_RESULT) & 3, 0);
    // firmware.c:sbus_read in fast mode.
    node.put(csr::ASIC_CFG_SBUS_EXECUTE, 2);
    node.put(csr::ASIC_CFG_SBUS_REQUEST, request(3, 0x22, 0));
    let result = node.get(csr::ASIC_STS_SBUS_RESULT);
    assert_eq!((result >> 2 & 7, result >> 32), (4, 0xabcd));
    let counters = node.get(csr::ASIC_STS_SBUS_COUNTERS);
    assert_eq!(counters & 0xffff, counters >> 16);
    assert_eq!(counters & 0xffff, 2);
}

#[test]
fn the_eprom_is_blank_until_it_is_set() {
    let (_lab, node) = one(Icode::Silicon);
    let page = |address: u64| {
        // eprom.c:read_page.
        node.put(csr::ASIC_EEP_ADDR_CMD, 3 << 24 | address);
        let words = [node.get(csr::ASIC_EEP_DATA), node.get(csr::ASIC_EEP_DATA)];
        node.put(csr::ASIC_EEP_ADDR_CMD, 0);
        words
    };
    assert_eq!(page(0x20000), [0xffff_ffff; 2]);
    node.adapter.set_eprom(vec![1, 2, 3, 4, 5]);
    assert_eq!(page(0), [0x0403_0201, 0xffff_ff05]);
}

#[test]
fn the_empty_cage_reads_as_absent_and_its_lines_obey() {
    let (_lab, node) = one(Icode::Silicon);
    assert_eq!(node.get(csr::ASIC_QSFP1_IN), 0x1f);
    node.put(csr::ASIC_QSFP1_OE, 1);
    assert_eq!(node.get(csr::ASIC_QSFP1_IN), 0x1e, "clock pulled low");
    node.put(csr::ASIC_QSFP1_OE, 0);
    assert_eq!(node.get(csr::ASIC_QSFP1_IN), 0x1f);
}

#[test]
fn freeze_takes_time_and_ends() {
    let (_lab, node) = one(Icode::Silicon);
    node.put(csr::CCE_CTRL, 1 << 8);
    assert_eq!(node.get(csr::CCE_STATUS), 0);
    node.until("freeze", || node.get(csr::CCE_STATUS) == 0xf);
    node.put(csr::CCE_CTRL, 1 << 9);
    assert_eq!(node.get(csr::CCE_STATUS), 0xf);
    node.until("unfreeze", || node.get(csr::CCE_STATUS) == 0);
    // Taken back before it happened.
    node.put(csr::CCE_CTRL, 1 << 8);
    node.put(csr::CCE_CTRL, 1 << 9);
    node.bus.pause(Duration::from_millis(1));
    assert_eq!(node.get(csr::CCE_STATUS), 0);
}

#[test]
fn a_function_reset_keeps_scratch_dc_ctrl_and_the_link() {
    let (_lab, node) = one(Icode::Silicon);
    node.load_8051();
    node.quick_linkup();
    node.wait_linkup();
    node.put(csr::ASIC_CFG_SCRATCH, 0x10000);
    node.put(csr::CCE_SCRATCH, 7);
    node.put(csr::CCE_INT_MASK, 1);
    node.put(csr::ASIC_QSFP1_OUT, 0x1f);
    node.bus.config_write(4, &[6, 0]).unwrap();
    node.bus.reset().unwrap();
    let mut command = [0; 2];
    node.bus.config_read(4, &mut command).unwrap();
    assert_eq!(command, [6, 0]);
    assert_eq!(node.get(csr::ASIC_CFG_SCRATCH), 0x10000);
    assert_eq!(node.get(csr::CCE_DC_CTRL), 0);
    assert_eq!([csr::CCE_SCRATCH, csr::CCE_INT_MASK, csr::ASIC_QSFP1_OUT].map(|row| node.get(row)), [0; 3]);
    assert_eq!(node.physical(), 0x50);
    assert_eq!(node.adapter.counts().resets, 1);
    // With the DC held, as Linux does it, the link goes too.
    node.put(csr::CCE_DC_CTRL, 1);
    node.bus.reset().unwrap();
    assert_eq!(node.get(csr::CCE_DC_CTRL), 1);
    node.put(csr::CCE_DC_CTRL, 0);
    assert_eq!((node.physical(), node.logical(), node.firmware_ready()), (0x90, 1, false));
}

#[test]
fn dma_memory_is_unmapped_with_its_block() {
    let (_lab, node) = one(Icode::Silicon);
    let block = node.bus.dma_alloc(8192).unwrap();
    let other = node.bus.dma_alloc(4096).unwrap();
    assert_ne!(block.iova(0), other.iova(0));
    block.write_u64(8, 99);
    let at = block.iova(8);
    let read = || node.adapter.unit.lock().board.dma.read_u64(at);
    assert!(read().is_err(), "bus mastering is off");
    node.bus.config_write(4, &[6, 0]).unwrap();
    assert_eq!(read().unwrap(), 99);
    drop(block);
    assert!(read().is_err());
    assert_eq!(node.adapter.counts().dma_faults, 2);
}

#[test]
fn every_register_of_the_catalogue_is_modelled() {
    let (_lab, node) = one(Icode::Silicon);
    for row in csr::all() {
        // The RcvArray may be larger than this chip has it.
        for index in [0, row.count.min(32768) - 1] {
            node.bus.read64(row.element(index, row.len - 1));
        }
    }
    let names: Vec<_> = node
        .adapter
        .unmodelled()
        .iter()
        .map(|access| csr::by_offset(access.offset).map(|(row, ..)| row.name))
        .collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn an_adapter_that_was_removed_reads_as_all_ones_and_does_nothing() {
    let (lab, node) = one(Icode::Silicon);
    let irqs = node.bus.irq_enable(1).unwrap();
    assert_eq!(node.bus.gone(), None);
    lab.remove(&node.adapter);
    assert_eq!(node.bus.read64(csr::CCE_REVISION.off()), opx_bus::ALL_ONES);
    let mut ids = [0; 4];
    node.bus.config_read(0, &mut ids).unwrap();
    assert_eq!(ids, [0xff; 4]);
    node.bus.write64(csr::CCE_INT_MASK.off(), 1);
    node.bus.write64(csr::CCE_INT_FORCE.off(), 1);
    node.bus.pause(Duration::from_millis(10));
    assert!(!irqs[0].take().unwrap());
    assert!(node.bus.gone().is_some());
}
