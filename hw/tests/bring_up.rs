//! Opening an adapter and bringing its link up, on silicon and on the functional simulator.

mod common;

use common::{Bench, options, pair};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::units::{Guid, Lid};
use opx_emu::{Config, Icode, Lab, Pacing};
use opx_hw::{DownReason, Hfi, LinkError, LinkMode, LinkState, OpenError, Options};
use std::time::Duration;

const BOTH: [Icode; 2] = [Icode::Silicon, Icode::FunctionalSimulator];

#[test]
fn loopback_reaches_active() {
    for icode in BOTH {
        let bench = Bench::new(icode);
        let hfi = bench.open();
        assert_eq!((hfi.link_state(), hfi.lid()), (LinkState::Offline, Lid(0)));
        let link = hfi.link_up(LinkMode::Loopback).unwrap();
        assert_eq!(hfi.link_state(), LinkState::Active);
        assert_eq!((link.lid, link.peer_lid, hfi.lid()), (Lid(1), Lid(1), Lid(1)));
        assert_eq!((link.lanes, link.lane_rate_mbps, link.mtu), (4, 25_000, 10240));
        // Once more does nothing.
        assert_eq!(hfi.link_up(LinkMode::Loopback).unwrap(), link);
        assert_eq!(hfi.service_interrupts().unwrap().link, LinkState::Active);
        assert_eq!(bench.adapter.unmodelled(), []);
    }
}

#[test]
fn a_mutex_full_of_ones_is_broken_and_is_no_adapter_that_is_gone() {
    let bench = Bench::new(Icode::Silicon);
    bench.bus().write64(csr::ASIC_CFG_MUTEX.off(), u64::MAX);
    bench.open();
}

#[test]
fn identity_is_read() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.open();
    let info = hfi.info();
    assert_eq!((info.chip_revision(), info.icode, info.hfi_id), ((7, 0x10), 0, 0));
    assert_eq!((info.sizes.send_contexts, info.sizes.recv_contexts, info.sizes.sdma_engines), (160, 160, 16));
    assert_eq!((info.sizes.pio_blocks, info.sizes.rcv_array), (16384, 32768));
    assert_eq!(info.firmware.unwrap().to_string(), "1.27.0");
    assert_ne!(info.guid, Guid(0));
    assert_eq!(Bench::new(Icode::FunctionalSimulator).open().info().firmware, None);
}

/// The values that a stock fabric manager leaves behind on an ACTIVE port.
#[test]
fn an_active_port_is_set_up_as_by_a_fabric_manager() {
    for icode in BOTH {
        let bench = Bench::new(icode);
        let hfi = bench.active();
        let read = |csr: &csr::Csr| hfi.bus().read64(csr.off());
        assert_eq!(read(&csr::SEND_CTRL), 0x7f3);
        assert_eq!(read(&csr::SEND_CM_GLOBAL_CREDIT), 0x0880_0003_0752);
        assert_eq!(read(&csr::SEND_CM_CREDIT_VL), 0x0752_00c6);
        assert_eq!(hfi.bus().read64(csr::SEND_CM_CREDIT_VL.at(1)), 0);
        assert_eq!(read(&csr::SEND_CM_CREDIT_VL15), 0x0752_0068);
        assert_eq!(read(&csr::SEND_LEN_CHECK0), 0x01f0_1f01_fa1f);
        assert_eq!(read(&csr::SEND_LEN_CHECK1), 0x021f_01f0_1f01_f01f);
        assert_eq!(read(&csr::DCC_CFG_PORT_CONFIG), 0x0004_0007_0000_0000);
        assert_eq!(read(&csr::DCC_CFG_PORT_CONFIG1), 0xffff_0001);
        assert_eq!(read(&csr::SEND_SC2VLT0), 0x0706_0504_0302_0100);
        assert_eq!(read(&csr::SEND_SC2VLT1), 0x0f00_0000_0000_0000);
        assert_eq!(read(&csr::DCC_CFG_SC_VL_TABLE_15_0), 0xf000_0000_7654_3210);
        assert_eq!(read(&csr::RCV_PARTITION_KEY), 0xffff_7fff_8001);
        assert_eq!(read(&csr::SEND_LOW_PRIORITY_LIST), 0xa0);
        assert_eq!(hfi.bus().read64(csr::SEND_CTXT_CHECK_SLID.at(7)), 0xffff_0001);
        assert_eq!(hfi.bus().read64(csr::SEND_DMA_CHECK_SLID.at(15)), 0xffff_0001);
    }
}

/// Brings both ends of a cable up by turns, in one thread.
fn bring_up(pair: &[Hfi<opx_emu::EmuBus>; 2]) {
    let timeout = Duration::from_secs(5);
    for hfi in pair {
        hfi.link_begin(LinkMode::Cable { timeout }).unwrap();
    }
    opx_bus::poll::until(pair[0].bus(), timeout, || {
        let states = [pair[0].link_advance().unwrap(), pair[1].link_advance().unwrap()];
        (states == [LinkState::Active; 2]).then_some(())
    })
    .unwrap();
}

#[test]
fn two_adapters_negotiate_over_a_cable() {
    for icode in BOTH {
        let (_lab, adapters) = pair(icode);
        let firmware = common::firmware();
        let pair = adapters.each_ref().map(|adapter| Hfi::open(adapter.bus(), options(firmware.path())).unwrap());
        bring_up(&pair);
        let links = pair.each_ref().map(|hfi| hfi.link_info().unwrap());
        assert_eq!((links[0].lid, links[0].peer_lid), (Lid(1), Lid(2)));
        assert_eq!((links[1].lid, links[1].peer_lid), (Lid(2), Lid(1)));
        assert_eq!(links[0].neighbor_guid, pair[1].info().guid);
        assert_eq!((links[0].lanes, links[0].lane_rate_mbps, links[0].neighbor_is_hfi), (4, 25_000, true));
        if icode == Icode::Silicon {
            assert_eq!(links[1].crc_mode, 1);
        }
    }
}

#[test]
fn a_pulled_cable_is_noticed_and_can_be_put_back() {
    let (lab, adapters) = pair(Icode::Silicon);
    let firmware = common::firmware();
    let pair = adapters.each_ref().map(|adapter| Hfi::open(adapter.bus(), options(firmware.path())).unwrap());
    bring_up(&pair);
    lab.pull(&adapters[0]);
    for hfi in &pair {
        let down = opx_bus::poll::until(hfi.bus(), Duration::from_secs(1), || {
            let serviced = hfi.service_interrupts().unwrap();
            matches!(serviced.link, LinkState::Down(_)).then_some(serviced.link)
        });
        assert_eq!(down.unwrap(), LinkState::Down(DownReason::SignalLost));
        assert!(hfi.link_info().is_none());
    }
    lab.cable(&adapters[0], &adapters[1]);
    bring_up(&pair);
    assert!(!pair[0].send_context(common::blocks(64)).unwrap().is_halted());
}

#[test]
fn a_cable_without_another_end_times_out() {
    for icode in BOTH {
        let bench = Bench::new(icode);
        let hfi = bench.open();
        let error = hfi.link_up(LinkMode::Cable { timeout: Duration::from_secs(2) }).unwrap_err();
        assert!(matches!(error, LinkError::Timeout { state: "polling", .. }), "{error}");
        // Loopback works after that.
        hfi.link_up(LinkMode::Loopback).unwrap();
    }
}

#[test]
fn an_adapter_can_be_opened_again_and_again() {
    let bench = Bench::new(Icode::Silicon);
    for _ in 0..3 {
        let hfi = bench.active();
        let context = hfi.send_context(common::blocks(64)).unwrap();
        let _other_handle = hfi.clone();
        drop(hfi);
        assert!(!context.is_halted());
    }
}

#[test]
fn equal_guids_are_told() {
    let lab = Lab::new(Pacing::Virtual);
    let make = || lab.add(Config { icode: Icode::FunctionalSimulator, guid: Guid(0x11), ..Config::default() });
    let adapters = [make(), make()];
    lab.cable(&adapters[0], &adapters[1]);
    let pair = adapters.each_ref().map(|adapter| Hfi::open(adapter.bus(), Options::default()).unwrap());
    let mode = LinkMode::Cable { timeout: Duration::from_secs(1) };
    pair[1].link_begin(mode).unwrap();
    let error = pair[0].link_up(mode).unwrap_err();
    assert!(matches!(error, LinkError::SameGuid { guid: Guid(0x11), .. }), "{error}");
}

#[test]
fn chips_that_the_driver_does_not_know_are_refused() {
    let open = |config| {
        let lab = Lab::new(Pacing::Virtual);
        let config = Config { icode: Icode::FunctionalSimulator, ..config };
        Hfi::open(lab.add(config).bus(), Options::default()).unwrap_err()
    };
    let another = open(Config { revision: 0x0302_0810, ..Config::default() });
    assert!(matches!(another, OpenError::Unsupported { register: "CCE_REVISION", .. }), "{another}");
    let a_step = open(Config { revision: 0x0302_0701, ..Config::default() });
    assert!(a_step.to_string().contains("A-step"), "{a_step}");
}

#[test]
fn options_are_checked() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let refused = |options: Options| {
        let error = Hfi::open(bench.bus(), options).unwrap_err();
        assert!(matches!(error, OpenError::BadOption { .. }), "{error}");
    };
    refused(Options { mtu: 1500, ..Options::default() });
    refused(Options { vectors: 0, ..Options::default() });
    refused(Options { vectors: 256, ..Options::default() });
    refused(Options { pkey: opx_defs::units::Pkey(0xffff), ..Options::default() });
    let smaller = Hfi::open(bench.bus(), Options { mtu: 4096, vectors: 1, ..Options::default() }).unwrap();
    assert_eq!(smaller.link_up(LinkMode::Loopback).unwrap().mtu, 4096);
    assert_eq!(smaller.bus().read64(csr::SEND_LEN_CHECK0.off()) & 0xfff, (4096 + 124) / 4);
}

/// In real time, with a thread at each end, as two processes would do it.
#[test]
fn two_adapters_come_up_in_real_time() {
    let lab = Lab::new(Pacing::Real);
    let adapters = [1, 2]
        .map(|guid| lab.add(Config { guid: Guid(guid), link_time: Duration::from_millis(2), ..Config::default() }));
    lab.cable(&adapters[0], &adapters[1]);
    let firmware = common::firmware();
    let mode = LinkMode::Cable { timeout: Duration::from_secs(30) };
    std::thread::scope(|scope| {
        let up = adapters.each_ref().map(|adapter| {
            let options = options(firmware.path());
            scope.spawn(move || {
                let hfi = Hfi::open(adapter.bus(), options).unwrap();
                let link = hfi.link_up(mode).unwrap();
                (hfi, link)
            })
        });
        let [a, b] = up.map(|thread| thread.join().unwrap());
        assert_eq!((a.1.lid, b.1.lid), (Lid(1), Lid(2)));
        // One end is closed; the other sees that.
        drop(a);
        let down = opx_bus::poll::until(b.0.bus(), Duration::from_secs(10), || {
            let link = b.0.service_interrupts().unwrap().link;
            matches!(link, LinkState::Down(_)).then_some(link)
        });
        assert_eq!(down.unwrap(), LinkState::Down(DownReason::Neighbor(35)));
    });
}
