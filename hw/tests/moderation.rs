//! Interrupt moderation on the emulated adapter, in simulated time.

mod common;

use common::{Bench, header, packet, send_pio};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::units::Blocks;
use opx_emu::Icode;
use opx_hw::{Moderation, RecvConfig};
use std::time::Duration;

#[test]
fn an_interrupt_comes_after_the_packets_or_the_time_that_was_asked_for() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.active();
    let send = hfi.send_context(Blocks(64)).unwrap();
    let mut recv = hfi.recv_context(RecvConfig { interrupts: true, ..RecvConfig::default() }).unwrap();
    recv.set_moderation(Moderation { packets: 4, timeout: Duration::from_micros(20), adaptive: false });
    let irq = recv.irq().unwrap().clone();
    let mut fill = 0;
    let mut send_one = || {
        let header = header(hfi.lid(), hfi.lid(), opx_defs::units::RcvCtxt(1), hfi.options().job_key, 0);
        fill = send_pio(&send, fill, &packet(&header, &[]));
    };
    assert_eq!(recv.number().0, 1);
    let taken = |recv: &mut opx_hw::RecvContext<_>| std::iter::from_fn(|| recv.poll()).count();
    // By count: four packets are there in less than 2 us.
    assert!(!recv.arm().unwrap());
    (0..3).for_each(|_| send_one());
    assert!(!hfi.bus().wait_irq(&irq, Duration::from_micros(2)).unwrap());
    send_one();
    assert!(hfi.bus().wait_irq(&irq, Duration::from_micros(2)).unwrap());
    assert_eq!(taken(&mut recv), 4);
    // By time: one packet waits for 20 us.
    assert!(!recv.arm().unwrap());
    send_one();
    assert!(!hfi.bus().wait_irq(&irq, Duration::from_micros(15)).unwrap());
    assert!(hfi.bus().wait_irq(&irq, Duration::from_micros(10)).unwrap());
    assert_eq!(taken(&mut recv), 1);
}

#[test]
fn the_time_adapts_to_the_traffic() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.active();
    let send = hfi.send_context(Blocks(256)).unwrap();
    let mut recv = hfi.recv_context(RecvConfig { interrupts: true, ..RecvConfig::default() }).unwrap();
    let timeout = || hfi.bus().read64(csr::RCV_AVAIL_TIME_OUT.at(1));
    assert_eq!(timeout(), 10);
    let mut fill = 0;
    let mut round = |packets: usize| {
        for _ in 0..packets {
            let header = header(hfi.lid(), hfi.lid(), recv.number(), hfi.options().job_key, 0);
            fill = send_pio(&send, fill, &packet(&header, &[]));
        }
        hfi.bus().pause(Duration::from_micros(20));
        assert_eq!(std::iter::from_fn(|| recv.poll()).count(), packets);
        assert!(!recv.arm().unwrap());
        timeout()
    };
    assert_eq!([round(1), round(1), round(1), round(1)], [5, 2, 1, 1]);
    assert_eq!([round(16), round(20), round(16), round(16), round(16)], [2, 4, 8, 10, 10]);
    // An arm without packets says nothing about the traffic.
    assert_eq!(round(0), 10);
}

#[test]
fn an_engine_counts_as_idle_after_the_time_that_was_asked_for() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.active();
    let mut engine = hfi.sdma_engine(64).unwrap();
    let register = csr::SEND_DMA_RELOAD_CNT.at(engine.number().0.into());
    assert_eq!(hfi.bus().read64(register), 201);
    engine.set_idle_time(Duration::from_micros(10));
    assert_eq!(hfi.bus().read64(register), 8051);
    engine.set_idle_time(Duration::from_secs(1));
    assert_eq!(hfi.bus().read64(register), 0xffff);
}
