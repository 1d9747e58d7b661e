//! Contexts and engines: packets through them, what happens when they run out, halt, or get garbage.

mod common;

use common::{Bench, header, packet, receive, send_pio, send_sdma};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::status::SendCtxtErrors;
use opx_defs::units::{Blocks, Dwords, JobKey, Lid, RcvCtxt};
use opx_defs::wire::rhf::{RcvType, Rhf};
use opx_emu::{DropReason, EmuBus, Icode};
use opx_hw::{ContextError, Hfi, RecvConfig, RecvContext};
use proptest::prelude::*;
use std::time::Duration;

const KEY: JobKey = JobKey(1);

fn small() -> RecvConfig {
    RecvConfig {
        header_entries: 64,
        eager_buffers: 8,
        eager_buffer_size: 16384,
        head_batch: 4,
        ..RecvConfig::default()
    }
}

fn payload(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn to(context: &RecvContext<EmuBus>, len: usize) -> [u8; 56] {
    header(Lid(1), Lid(1), context.number(), KEY, len)
}

#[test]
fn a_pio_packet_arrives_in_an_eager_buffer() {
    for icode in [Icode::Silicon, Icode::FunctionalSimulator] {
        let bench = Bench::new(icode);
        let hfi = bench.active();
        let mut recv = hfi.recv_context(RecvConfig::default()).unwrap();
        let send = hfi.send_context(Blocks(256)).unwrap();
        assert_eq!((recv.number(), send.number().0), (RcvCtxt(1), 159));
        for (len, seed) in [(0, 1), (4, 2), (64, 3), (2048, 4), (10240, 5)] {
            let sent = payload(len, seed);
            let header = to(&recv, len);
            let fill = send.credit_return().counter().0;
            send_pio(&send, fill, &packet(&header, &sent));
            let received = receive(&mut recv).unwrap();
            assert_eq!((received.errors(), recv.header(&received), received.payload_len()), (0, header, len));
            let mut got = vec![0; len];
            assert_eq!(recv.copy_payload(&received, &mut got), len);
            assert_eq!(got, sent);
            // A smaller buffer gets the beginning.
            assert_eq!(recv.copy_payload(&received, &mut got[..len / 2]), len / 2);
            recv.release();
            let blocks = (8 + 56 + len).div_ceil(64) as u16;
            let returned = opx_bus::poll::until(hfi.bus(), Duration::from_millis(10), || {
                (send.credit_return().counter().0 == fill + blocks).then_some(())
            });
            returned.unwrap();
        }
        assert!(!send.is_halted());
        assert_eq!(recv.counts().packets, 5);
        assert_eq!(recv.overflows().unwrap(), 0);
    }
}

#[test]
fn an_sdma_packet_arrives_in_an_eager_buffer() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut recv = hfi.recv_context(small()).unwrap();
    let mut engine = hfi.sdma_engine(64).unwrap();
    let memory = hfi.bus().dma_alloc(16384).unwrap();
    let mut tail = 0;
    // Several times round the ring, so that generations count.
    for round in 0..100u8 {
        let sent = payload(1024, round);
        let header = to(&recv, sent.len());
        tail = send_sdma(&engine, tail, &memory, &packet(&header, &sent));
        let received = receive(&mut recv).unwrap();
        assert_eq!((received.errors(), recv.header(&received)), (0, header));
        let mut got = vec![0; 1024];
        recv.copy_payload(&received, &mut got);
        assert_eq!(got, sent);
        recv.release();
        let head = opx_bus::poll::until(hfi.bus(), Duration::from_millis(10), || {
            (engine.head_from_memory() == tail & 63).then_some(engine.head_from_register())
        });
        assert_eq!(head.unwrap(), Some(tail & 63));
    }
    assert_eq!(engine.error_status(), 0);
    // From slot 0 again.
    engine.restart().unwrap();
    assert_eq!((engine.head_from_register(), engine.head_from_memory()), (Some(0), 0));
    send_sdma(&engine, 0, &memory, &packet(&to(&recv, 4), &[1, 2, 3, 4]));
    assert_eq!(receive(&mut recv).unwrap().payload_len(), 4);
}

#[test]
fn an_engine_that_an_error_halted_is_restarted() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut recv = hfi.recv_context(small()).unwrap();
    let mut engine = hfi.sdma_engine(64).unwrap();
    let memory = hfi.bus().dma_alloc(4096).unwrap();
    // A generation that the engine doesn't expect.
    engine.write_descriptor(0, opx_defs::sdma::SdmaDesc::new(memory.iova(0), 64).first().last().generation(2));
    engine.ring_doorbell(1);
    let mismatch = csr::SEND_DMA_ENG_ERR_STATUS::SDMA_GEN_MISMATCH_ERR;
    let failed = opx_bus::poll::until(hfi.bus(), Duration::from_millis(10), || {
        mismatch.is_set(engine.error_status()).then_some(())
    });
    failed.unwrap();
    // The general interrupt takes the error from the register; its owner still sees it.
    hfi.service_interrupts().unwrap();
    assert_eq!(hfi.bus().read64(csr::SEND_DMA_ENG_ERR_STATUS.at(engine.number().0.into())), 0);
    assert!(mismatch.is_set(engine.error_status()));
    engine.restart().unwrap();
    assert_eq!(engine.error_status(), 0);
    send_sdma(&engine, 0, &memory, &packet(&to(&recv, 4), &[1, 2, 3, 4]));
    assert_eq!(receive(&mut recv).unwrap().payload_len(), 4);
}

#[test]
fn egress_checks_halt_a_context_and_restart_brings_it_back() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut recv = hfi.recv_context(small()).unwrap();
    let mut send = hfi.send_context(Blocks(64)).unwrap();
    let good = to(&recv, 0);
    let mut foreign_key = good;
    foreign_key[24] = 9;
    let mut foreign_slid = good;
    foreign_slid[7] = 9;
    let mut ib_opcode = good;
    ib_opcode[8] = 0x04;
    for bad in [foreign_key, foreign_slid, ib_opcode] {
        send_pio(&send, 0, &packet(&bad, &[]));
        let halted = opx_bus::poll::until(hfi.bus(), Duration::from_millis(10), || send.is_halted().then_some(()));
        halted.unwrap();
        assert!(send.error_status().contains(SendCtxtErrors::DISALLOWED_PACKET));
        hfi.service_interrupts().unwrap();
        send.restart().unwrap();
        assert!(!send.is_halted());
        send_pio(&send, 0, &packet(&good, &[]));
        let received = receive(&mut recv).unwrap();
        assert_eq!(recv.header(&received), good);
        // Restarting once more needs a halt first.
        let error = send.restart().unwrap_err();
        assert!(error.to_string().contains("SEND_CTXT_STATUS[159] to show CTXT_HALTED"), "{error}");
        // Credits count from 0 again.
        hfi.bus().pause(Duration::from_micros(100));
        drop(send);
        send = hfi.send_context(Blocks(64)).unwrap();
    }
    assert_eq!(hfi.counts().context_halts.load(std::sync::atomic::Ordering::Relaxed), 3);
    assert_eq!(bench.adapter.counts().dropped(DropReason::EgressCheck), 3);
}

#[test]
fn packets_with_another_job_key_stay_out() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut recv = hfi.recv_context(RecvConfig { job_key: JobKey(7), ..small() }).unwrap();
    let send = hfi.send_context(Blocks(64)).unwrap();
    send_pio(&send, 0, &packet(&to(&recv, 0), &[]));
    hfi.bus().pause(Duration::from_millis(1));
    assert!(recv.poll().is_none());
    assert_eq!(bench.adapter.counts().dropped(DropReason::JobKey), 1);
}

#[test]
fn header_queue_and_eager_buffers_go_round() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut recv = hfi.recv_context(small()).unwrap();
    let send = hfi.send_context(Blocks(64)).unwrap();
    let mut fill = 0;
    for round in 0..300u32 {
        let sent = payload(2000, round as u8);
        fill = send_pio(&send, fill, &packet(&to(&recv, sent.len()), &sent)) % 64;
        let received = receive(&mut recv).unwrap_or_else(|| panic!("packet {round} is missing"));
        let mut got = vec![0; sent.len()];
        recv.copy_payload(&received, &mut got);
        assert_eq!((received.errors(), got), (0, sent), "packet {round}");
        recv.release();
    }
    // Every 4 packets, as asked for.
    assert_eq!(recv.counts().head_updates, 300 / 4);
    assert_eq!(bench.adapter.counts().total_dropped(), 0);
}

#[test]
fn a_full_queue_drops_and_goes_on_after_release() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut recv = hfi.recv_context(small()).unwrap();
    let send = hfi.send_context(Blocks(64)).unwrap();
    let mut fill = 0;
    for _ in 0..80 {
        fill = send_pio(&send, fill, &packet(&to(&recv, 0), &[])) % 64;
        hfi.bus().pause(Duration::from_micros(10));
    }
    let taken = std::iter::from_fn(|| recv.poll()).count();
    assert_eq!(taken, 63);
    assert_eq!(recv.overflows().unwrap(), 17);
    recv.release_now();
    send_pio(&send, fill, &packet(&to(&recv, 0), &[]));
    assert!(receive(&mut recv).is_some());
}

#[test]
fn sleeping_on_the_interrupt_misses_nothing() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut recv = hfi.recv_context(RecvConfig { interrupts: true, ..small() }).unwrap();
    let irq = recv.irq().unwrap().clone();
    let send = hfi.send_context(Blocks(64)).unwrap();
    let bus = hfi.bus();
    let mut fill = 0;
    for round in 0..50 {
        // Nothing there: it may sleep, and nothing wakes it.
        assert!(!recv.arm().unwrap(), "round {round}");
        let _ = irq.take();
        assert!(!bus.wait_irq(&irq, Duration::from_millis(1)).unwrap(), "round {round}");
        for _ in 0..1 + round % 3 {
            fill = send_pio(&send, fill, &packet(&to(&recv, 0), &[])) % 64;
        }
        assert!(bus.wait_irq(&irq, Duration::from_millis(10)).unwrap(), "round {round}");
        for _ in 0..1 + round % 3 {
            assert!(receive(&mut recv).is_some());
        }
        // A packet that is there already is told at once.
        fill = send_pio(&send, fill, &packet(&to(&recv, 0), &[])) % 64;
        bus.pause(Duration::from_millis(1));
        assert!(recv.arm().unwrap());
        assert!(recv.poll().is_some());
        recv.release();
    }
}

#[test]
fn an_engine_raises_its_own_interrupt() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    let mut engine = hfi.sdma_engine(64).unwrap();
    let recv = hfi.recv_context(small()).unwrap();
    let memory = hfi.bus().dma_alloc(4096).unwrap();
    assert!(engine.irq().is_none());
    let irq = engine.enable_interrupts().unwrap().clone();
    let mut tail = 0;
    for _ in 0..3 {
        engine.arm().unwrap();
        let _ = irq.take();
        tail = send_sdma(&engine, tail, &memory, &packet(&to(&recv, 4), &[0; 4]));
        assert!(hfi.bus().wait_irq(&irq, Duration::from_millis(10)).unwrap());
        hfi.bus().pause(Duration::from_millis(1));
        assert_eq!(engine.head_from_memory(), tail);
    }
}

/// Takes contexts until there are no more; the message of the error.
fn exhaust<T>(mut take: impl FnMut() -> Result<T, ContextError>) -> (usize, String) {
    let mut held = Vec::new();
    loop {
        match take() {
            Ok(context) => held.push(context),
            Err(error) => return (held.len(), error.to_string()),
        }
        assert!(held.len() <= 200, "they never run out");
    }
}

#[test]
fn what_runs_out_is_named_and_comes_back() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.open();
    for _ in 0..2 {
        let (send, error) = exhaust(|| hfi.send_context(Blocks(8)));
        assert_eq!(
            (send, error.as_str()),
            (160, "emulated: no send context is free: all 160 are taken; drop one first")
        );
        // 16384 blocks less the first, which is never used.
        let (pio, error) = exhaust(|| hfi.send_context(Blocks(1024)));
        assert_eq!(pio, 15);
        assert!(error.contains("no room for 1024 blocks in PIO memory: the largest free range has 1023"), "{error}");
        let (sdma, error) = exhaust(|| hfi.sdma_engine(64));
        assert_eq!(sdma, 16);
        assert!(error.contains("no SDMA engine is free: all 16 are taken"), "{error}");
        let (recv, error) = exhaust(|| hfi.recv_context(small()));
        assert_eq!(recv, 159);
        assert!(error.contains("no receive context is free: all 159 are taken"), "{error}");
        let (vectors, error) = exhaust(|| hfi.recv_context(RecvConfig { interrupts: true, ..small() }));
        assert_eq!(vectors, 48);
        assert!(error.contains("no interrupt vector is free: all 48 are taken"), "{error}");
    }
}

#[test]
fn parameters_are_checked() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.open();
    let bad = |error: ContextError| assert!(matches!(error, ContextError::BadParameter { .. }), "{error}");
    bad(hfi.send_context(Blocks(0)).unwrap_err());
    bad(hfi.send_context(Blocks(1025)).unwrap_err());
    for entries in [0, 32, 96, 65536] {
        bad(hfi.sdma_engine(entries).unwrap_err());
    }
    let configs = [
        RecvConfig { header_entries: 32, ..small() },
        RecvConfig { header_entries: 100, ..small() },
        RecvConfig { header_entries: 16384, ..small() },
        // Old entries would have the sequence numbers of new ones.
        RecvConfig { header_entries: 416, ..small() },
        RecvConfig { expected_entries: 2056, ..small() },
        RecvConfig { expected_entries: 12, ..small() },
        RecvConfig { eager_buffers: 0, ..small() },
        RecvConfig { eager_buffers: 12, ..small() },
        RecvConfig { eager_buffers: 2056, ..small() },
        RecvConfig { eager_buffer_size: 5000, ..small() },
        RecvConfig { eager_buffer_size: 2048, ..small() },
        RecvConfig { eager_buffer_size: 524_288, ..small() },
        // Smaller than the MTU.
        RecvConfig { eager_buffer_size: 8192, ..small() },
        RecvConfig { eager_buffers: 512, eager_buffer_size: 262_144, ..small() },
        RecvConfig { head_batch: 0, ..small() },
        RecvConfig { head_batch: 33, ..small() },
    ];
    for config in configs {
        bad(hfi.recv_context(config).unwrap_err());
    }
}

#[test]
fn numbers_and_memory_are_used_again() {
    let bench = Bench::new(Icode::Silicon);
    let hfi = bench.active();
    for _ in 0..5 {
        let send = hfi.send_context(Blocks(64)).unwrap();
        let mut recv = hfi.recv_context(small()).unwrap();
        let engine = hfi.sdma_engine(64).unwrap();
        assert_eq!((send.number().0, recv.number().0, engine.number().0), (159, 1, 0));
        send_pio(&send, 0, &packet(&to(&recv, 4), &[1; 4]));
        assert!(receive(&mut recv).is_some());
        drop((send, recv, engine));
        for csr in [&csr::SEND_CTXT_CTRL, &csr::SEND_CTXT_CHECK_ENABLE, &csr::SEND_CTXT_CREDIT_RETURN_ADDR] {
            assert_eq!(hfi.bus().read64(csr.at(159)), 0, "{}", csr.name);
        }
        assert_eq!(hfi.bus().read64(csr::RCV_CTXT_CTRL.at(1)) & 1, 0);
        assert_eq!(hfi.bus().read64(csr::SEND_DMA_BASE_ADDR.at(0)), 0);
    }
    assert_eq!(bench.adapter.counts().dma_faults, 0);
}

fn context_with(hfi: &Hfi<EmuBus>) -> RecvContext<EmuBus> {
    hfi.recv_context(small()).unwrap()
}

/// Puts a header queue entry where the chip would.
fn write_entry(recv: &RecvContext<EmuBus>, entry: usize, rhf: u64) {
    let (headers, _) = recv.memory();
    headers.write_u64(entry * 128 + 120, rhf);
}

#[test]
fn impossible_entries_are_skipped_and_counted() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.open();
    let mut recv = context_with(&hfi);
    let length = |bytes: u32| Dwords((60 + bytes) / 4);
    let at = |offset| Dwords(offset);
    let entries = [
        // A good one, to begin with.
        (Rhf::new(length(0), RcvType::Eager, 1, at(16)), true),
        // The header reaches into the RHF; the packet is shorter than its header; the payload is nowhere.
        (Rhf::new(length(0), RcvType::Eager, 2, at(17)), false),
        (Rhf::new(Dwords(14), RcvType::Eager, 3, at(16)), false),
        (Rhf::new(length(64), RcvType::Eager, 4, at(16)), false),
        // A buffer that isn't there; beyond the buffer's end.
        (Rhf::new(length(64), RcvType::Eager, 5, at(16)).eager(8, 0), false),
        (Rhf::new(length(64), RcvType::Eager, 6, at(16)).eager(7, 256), false),
        // The last 64 bytes of the last buffer.
        (Rhf::new(length(64), RcvType::Eager, 7, at(16)).eager(7, 255), true),
        // Other kinds.
        (Rhf::new(length(0), RcvType::Ib, 8, at(16)), true),
        (Rhf::new(length(0), RcvType::Error, 9, at(16)), true),
        (Rhf::new(length(0), RcvType::Bypass, 10, at(16)), true),
        (Rhf::new(length(0), RcvType::Invalid(7), 11, at(16)), false),
        // Broken on the wire, but with a header.
        (Rhf(Rhf::new(length(4), RcvType::Eager, 12, at(16)).0 | Rhf::ICRC_ERR), true),
    ];
    for (i, (rhf, _)) in entries.iter().enumerate() {
        write_entry(&recv, i, rhf.0);
    }
    for (rhf, good) in entries.iter().filter(|(_, good)| *good) {
        let received = recv.poll().unwrap();
        assert_eq!((received.rhf(), *good), (*rhf, true));
        recv.release();
    }
    assert!(recv.poll().is_none());
    let counts = recv.counts();
    assert_eq!((counts.packets, counts.errors, counts.by_error.icrc, counts.bad_entries), (6, 1, 1, 6));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a broken chip writes, nothing panics and nothing outside of the buffers is touched.
    #[test]
    fn garbage_in_the_header_queue_does_no_harm(words in proptest::collection::vec(any::<u64>(), 64 * 3), fix_seq: bool) {
        let bench = Bench::new(Icode::FunctionalSimulator);
        let hfi = bench.open();
        let mut recv = context_with(&hfi);
        let mut seq = Rhf::FIRST_SEQ;
        for (i, word) in words.iter().enumerate() {
            let sequenced = word & !(0xf << 28) | u64::from(seq) << 28;
            write_entry(&recv, i % 64, if fix_seq { sequenced } else { *word });
            seq = Rhf::next_seq(seq);
            if let Some(received) = recv.poll() {
                let mut buffer = vec![0; received.payload_len()];
                prop_assert_eq!(recv.copy_payload(&received, &mut buffer), buffer.len());
                recv.release();
            }
        }
        let counts = recv.counts();
        if fix_seq {
            prop_assert_eq!(counts.packets + counts.bad_entries, words.len() as u64);
        }
    }
}
