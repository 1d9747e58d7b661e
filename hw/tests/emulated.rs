//! The vfio-user bus against the emulated adapter's server, in one process.
#![cfg(feature = "vfio-user")]

use opx_bus::{ALL_ONES, PciFunction, poll};
use opx_defs::csr;
use opx_defs::units::BarOff;
use opx_emu::server::SocketServer;
use opx_emu::{Adapter, Config, Lab, Pacing, firmware};
use opx_hw::vfio_user::{Limits, OpenError, VfioUserBus};
use opx_hw::{Hfi, LinkMode, Options};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

struct Rig {
    dir: TempDir,
    adapter: Adapter,
    server: SocketServer,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let adapter = Lab::new(Pacing::Real).add(Config::default());
    let server = SocketServer::start(adapter.clone(), &dir.path().join("sock")).unwrap();
    Rig { dir, adapter, server }
}

impl Rig {
    fn path(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    fn open(&self) -> VfioUserBus {
        VfioUserBus::open(&self.path()).unwrap()
    }
}

#[test]
fn registers_and_identity_are_those_of_the_adapter() {
    let rig = rig();
    let (bus, direct) = (rig.open(), rig.adapter.bus());
    assert_eq!(bus.bar0_len(), direct.bar0_len());
    for offset in [csr::CCE_REVISION.at(0), csr::RCV_CONTEXTS.at(0), csr::SEND_CONTEXTS.at(0)] {
        assert_eq!(bus.read64(offset), direct.read64(offset), "{offset}");
        assert_ne!(bus.read64(offset), 0, "{offset}");
    }
    let scratch = csr::ASIC_CFG_SCRATCH.at(0);
    bus.write64(scratch, 0x0123_4567_89ab_cdef);
    assert_eq!(bus.read64(scratch), 0x0123_4567_89ab_cdef);
    assert_eq!(direct.read64(scratch), 0x0123_4567_89ab_cdef);
    let (mut there, mut here) = ([0; 256], [0; 256]);
    bus.config_read(0, &mut there).unwrap();
    direct.config_read(0, &mut here).unwrap();
    assert_eq!(there, here);
}

#[test]
fn one_client_at_a_time_and_the_next_finds_a_reset_function() {
    let rig = rig();
    let first = rig.open();
    first.config_write(4, &[6, 0]).unwrap();
    let mask = csr::CCE_INT_MASK.at(0);
    first.write64(mask, 0xff);
    assert_eq!(first.read64(mask), 0xff);
    let _block = first.dma_alloc(4096).unwrap();
    let short = Limits { connect: Duration::from_millis(100), ..Limits::default() };
    assert!(matches!(VfioUserBus::open_with(&rig.path(), short), Err(OpenError::Silent { .. })));
    let resets = rig.adapter.counts().resets;
    drop((_block, first));
    let next = rig.open();
    assert!(rig.adapter.counts().resets > resets);
    assert_eq!(next.read64(mask), 0);
    let mut command = [0xff; 2];
    next.config_read(4, &mut command).unwrap();
    assert_eq!(command, [0, 0]);
}

#[test]
fn a_reset_puts_registers_back() {
    let rig = rig();
    let bus = rig.open();
    let mask = csr::CCE_INT_MASK.at(1);
    bus.write64(mask, 5);
    assert_eq!(bus.read64(mask), 5);
    bus.reset().unwrap();
    assert_eq!(bus.read64(mask), 0);
}

#[test]
fn an_interrupt_comes_through() {
    let rig = rig();
    let bus = rig.open();
    let irqs = bus.irq_enable(256).unwrap();
    // Source 1 goes to vector 7: eight sources to a map register, a byte each (chip.c:remap_intr).
    bus.write64(csr::CCE_INT_MAP.at(0), 7 << 8);
    bus.write64(csr::CCE_INT_MASK.at(0), 1 << 1);
    bus.write64(csr::CCE_INT_FORCE.at(0), 1 << 1);
    assert!(bus.wait_irq(&irqs[7], Duration::from_secs(60)).unwrap());
    assert_eq!(irqs.iter().filter(|irq| irq.take().unwrap()).count(), 0);
    bus.write64(csr::CCE_INT_CLEAR.at(0), 1 << 1);
    let fewer = bus.irq_enable(1).unwrap();
    bus.write64(csr::CCE_INT_FORCE.at(0), 1 << 1);
    assert_ne!(bus.read64(csr::CCE_INT_STATUS.at(0)) & 1 << 1, 0);
    assert!(!fewer[0].take().unwrap() && !irqs[7].take().unwrap());
}

#[test]
fn the_adapter_reaches_memory_until_it_is_unmapped() {
    let rig = rig();
    let bus = rig.open();
    bus.config_write(4, &[6, 0]).unwrap();
    let block = bus.dma_alloc(4096).unwrap();
    block.write_u64(64, u64::MAX);
    // A send context of 64 blocks returns its credits to the block when told to (pio.c:sc_enable, sc_return_credits).
    let ctrl = (63 << csr::SEND_CTXT_CTRL::CTXT_DEPTH.shift) | csr::SEND_CTXT_CTRL::CTXT_ENABLE.mask();
    let force = || {
        bus.write64(csr::SEND_CTXT_CREDIT_FORCE.at(0), csr::SEND_CTXT_CREDIT_FORCE::FORCE_RETURN.mask());
        bus.write64(csr::SEND_CTXT_CREDIT_FORCE.at(0), 0);
    };
    bus.write64(csr::SEND_CTXT_CREDIT_RETURN_ADDR.at(0), block.iova(64).0);
    bus.write64(csr::SEND_CTXT_CTRL.at(0), ctrl);
    force();
    let written = || (block.read_u64(64) != u64::MAX).then_some(());
    poll::until(&bus, Duration::from_secs(60), written).unwrap();
    let faults = rig.adapter.counts().dma_faults;
    drop(block);
    force();
    let faulted = || (rig.adapter.counts().dma_faults > faults).then_some(());
    poll::until(&bus, Duration::from_secs(60), faulted).unwrap();
}

#[test]
fn nonsense_doesnt_end_the_server() {
    let rig = rig();
    let header = |command: u16, size: u32| {
        [&7u16.to_le_bytes()[..], &command.to_le_bytes(), &size.to_le_bytes(), &[0; 8]].concat()
    };
    let version = |text: &[u8]| [&header(1, 20 + text.len() as u32)[..], &[0; 4], text].concat();
    for nonsense in [
        version(b"{\"capabilities\":"),
        version(b"no zero at the end"),
        header(1, 3),
        [header(1, 3), vec![0; 4]].concat(),
        header(1, 20),
        header(99, 16),
        [header(9, 32), vec![0xff; 16]].concat(),
        vec![1, 2, 3],
        vec![0xff; 4096],
    ] {
        let mut stream = UnixStream::connect(rig.path()).unwrap();
        stream.write_all(&nonsense).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Whatever it says, it hangs up in the end.
        let _ = stream.read_to_end(&mut Vec::new());
        assert_eq!(rig.open().gone(), None);
    }
}

#[test]
fn accesses_of_any_width_are_survived() {
    let rig = rig();
    let direct = rig.adapter.bus();
    for offset in (0..64u32 << 20).step_by(0x1_0000) {
        let mut data = [0; 12];
        rig.adapter.bar0_read(u64::from(offset) + 2, &mut data);
        rig.adapter.bar0_write(u64::from(offset) + 4088, &[0; 4]);
    }
    assert_ne!(direct.read64(BarOff(0)), ALL_ONES);
}

#[test]
fn a_server_that_ends_takes_its_socket_along() {
    let rig = rig();
    let bus = rig.open();
    let path = rig.path();
    drop(rig.server);
    assert!(!path.exists());
    // The client that is connected keeps its adapter.
    assert_ne!(bus.read64(csr::CCE_REVISION.at(0)), ALL_ONES);
}

#[test]
fn the_driver_brings_the_link_up_across_the_socket() {
    let rig = rig();
    firmware::write_files(rig.dir.path()).unwrap();
    let options = Options { firmware_dir: Some(rig.dir.path().to_owned()), ..Options::default() };
    let hfi = Hfi::open(rig.open(), options).unwrap();
    let link = hfi.link_up(LinkMode::Loopback).unwrap();
    assert_eq!(link.peer_lid, link.lid);
    assert_eq!(hfi.bus().gone(), None);
}
