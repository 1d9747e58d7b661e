//! An engine that halts on a bad packet: told with the reason, each packet ends exactly once, and it goes on afterwards.

use opx_bus::PciFunction;
use opx_defs::status::SdmaErrors;
use opx_defs::units::{Iova, Vl};
use opx_defs::wire::opx::Inject;
use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options, RecvConfig};
use opx_sdma::{Fragment, Outcome, SdmaError, SdmaQueue};

fn hfi() -> Hfi<EmuBus> {
    let lab = Lab::new(Pacing::Virtual);
    let adapter = lab.add(Config { icode: Icode::FunctionalSimulator, ..Config::default() });
    let hfi = Hfi::open(adapter.bus(), Options::default()).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    hfi
}

/// Sends five packets of which the third is `bad`; the queue halts, is restarted, and takes five good ones.
fn halt_by(bad: impl Fn(Fragment) -> Fragment, expected: SdmaErrors) {
    let hfi = hfi();
    let job_key = hfi.options().job_key;
    let mut recv = hfi.recv_context(RecvConfig { job_key, ..RecvConfig::default() }).unwrap();
    let rx = recv.number().0 as u8;
    let route = hfi.route(rx, hfi.lid(), rx);
    let header = Inject { tag: Some(1), cq_data: None, data: b"x" }.encode(&route).unwrap();
    let memory = hfi.bus().dma_alloc(4096).unwrap();
    memory.write(0, &header.pbc(Vl(0)).0.to_le_bytes());
    memory.write(8, header.as_bytes());
    let good = Fragment { iova: memory.iova(0), len: 64 };

    let mut queue = SdmaQueue::new(hfi.sdma_engine(64).unwrap());
    for n in 0..5 {
        let fragment = if n == 2 { bad(good) } else { good };
        queue.submit(&[fragment], n).unwrap();
    }
    queue.doorbell();
    let error = loop {
        hfi.bus().relax();
        if let Err(error) = queue.check() {
            break error;
        }
    };
    let SdmaError::Halted { errors, .. } = error else { panic!("{error}") };
    assert!(errors.contains(expected), "{error}");

    queue.restart().unwrap();
    let ended: Vec<_> = std::iter::from_fn(|| queue.poll()).collect();
    let outcomes = [Outcome::Sent, Outcome::Sent, Outcome::Failed, Outcome::Failed, Outcome::Failed];
    assert_eq!(ended, (0..5).zip(outcomes).collect::<Vec<_>>());
    assert_eq!((queue.free(), queue.pending()), (63, 0));

    for n in 5..10 {
        queue.submit(&[good], n).unwrap();
    }
    queue.doorbell();
    let mut done = Vec::new();
    let mut arrived = 0;
    while done.len() < 5 || arrived < 7 {
        hfi.bus().relax();
        done.extend(queue.poll());
        if recv.poll().is_some() {
            recv.release();
            arrived += 1;
        }
    }
    assert_eq!(done, (5..10).map(|n| (n, Outcome::Sent)).collect::<Vec<_>>());
    queue.check().unwrap();
    assert_eq!(queue.counters().restarts, 1);
}

#[test]
fn memory_that_isnt_mapped_halts_the_engine() {
    halt_by(|good| Fragment { iova: Iova(0x7777_0000_0000), ..good }, SdmaErrors::MEM_READ);
}

#[test]
fn a_length_that_isnt_the_pbcs_halts_the_engine() {
    halt_by(|good| Fragment { len: 60, ..good }, SdmaErrors::LENGTH_MISMATCH);
}

#[test]
fn what_is_no_packet_is_refused_before_the_engine_sees_it() {
    let hfi = hfi();
    let mut queue = SdmaQueue::<_, u8>::new(hfi.sdma_engine(64).unwrap());
    let fragment = |len| Fragment { iova: Iova(0x1000), len };
    for fragments in [vec![], vec![fragment(0)], vec![fragment(16384)], vec![fragment(6)], vec![fragment(4); 65]] {
        let (error, token) = queue.submit(&fragments, 9).unwrap_err();
        assert!(matches!(error, SdmaError::BadPacket { .. }), "{error}");
        assert_eq!((token, queue.free()), (9, 63));
    }
    // All or nothing: 64 pieces don't fit in 63 free slots.
    let (error, _) = queue.submit(&vec![fragment(4); 64], 9).unwrap_err();
    assert!(matches!(error, SdmaError::RingFull { needed: 64, free: 63, .. }), "{error}");
    assert_eq!(queue.free(), 63);
}
