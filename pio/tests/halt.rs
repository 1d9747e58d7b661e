//! A send context that the chip halts: told with the reason, restarted, and good for further packets.

use opx_bus::PciFunction;
use opx_defs::status::SendCtxtErrors;
use opx_defs::units::{Blocks, Pkey, Vl};
use opx_defs::wire::opx::{Header, Inject, Route};
use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options, RecvConfig};
use opx_pio::{PioError, PioSender};

fn hfi() -> Hfi<EmuBus> {
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    hfi
}

fn header(hfi: &Hfi<EmuBus>, rx: u8, pkey: Pkey) -> Header {
    let route = Route { pkey, ..hfi.route(rx, hfi.lid(), rx) };
    Inject { tag: Some(1), cq_data: None, data: b"x" }.encode(&route).unwrap()
}

#[test]
fn a_refused_packet_halts_the_context_until_it_is_restarted() {
    let hfi = hfi();
    let job_key = hfi.options().job_key;
    let mut recv = hfi.recv_context(RecvConfig { job_key, ..RecvConfig::default() }).unwrap();
    let rx = recv.number().0 as u8;
    let mut sender = PioSender::new(hfi.send_context(Blocks(4)).unwrap());
    let good = header(&hfi, rx, hfi.options().pkey);
    let bad = header(&hfi, rx, Pkey(0x1234));

    sender.send(bad.pbc(Vl(0)), bad.as_bytes(), 0, |_, _| {}).unwrap();
    let error = loop {
        hfi.bus().relax();
        match sender.send(good.pbc(Vl(0)), good.as_bytes(), 0, |_, _| {}) {
            Ok(()) | Err(PioError::NoCredit { .. }) => {}
            Err(error) => break error,
        }
    };
    let PioError::Halted { errors, .. } = error else { panic!("{error}") };
    assert_eq!(errors, SendCtxtErrors::DISALLOWED_PACKET);
    assert!(error.to_string().contains("DISALLOWED_PACKET"), "{error}");
    assert!(recv.poll().is_none(), "a halted context sends nothing");

    sender.restart().unwrap();
    assert_eq!(sender.available(), Blocks(4));
    for _ in 0..20 {
        while sender.send(good.pbc(Vl(0)), good.as_bytes(), 0, |_, _| {}).is_err() {
            hfi.bus().relax();
        }
    }
    let mut arrived = 0;
    while arrived < 20 {
        hfi.bus().relax();
        while recv.poll().is_some() {
            recv.release();
            arrived += 1;
        }
    }
    assert_eq!(sender.counters().restarts, 1);
}

#[test]
fn what_can_never_be_sent_is_told_and_writes_nothing() {
    let hfi = hfi();
    let mut sender = PioSender::new(hfi.send_context(Blocks(4)).unwrap());
    let mut long = header(&hfi, 1, hfi.options().pkey);
    long.set_payload_len(4096);
    let refused = sender.send(long.pbc(Vl(0)), long.as_bytes(), 4096, |_, _| {}).unwrap_err();
    assert!(matches!(refused, PioError::TooLong { needed: Blocks(65), depth: Blocks(4), .. }), "{refused}");
    let refused = sender.send(long.pbc(Vl(0)), long.as_bytes(), 64, |_, _| {}).unwrap_err();
    assert!(matches!(refused, PioError::Length { .. }), "{refused}");
    assert_eq!((sender.counters().blocks, sender.available()), (0, Blocks(4)));
}
