//! The vfio-user bus against servers that do something wrong: an error with its reason, never a hang.
#![cfg(feature = "vfio-user")]

mod fake;

use fake::{Config, Fake, Quirk};
use opx_bus::{ALL_ONES, BusError, PciFunction};
use opx_defs::units::BarOff;
use opx_hw::vfio_user::{Limits, OpenError, VfioUserBus};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

const SHORT: Limits = Limits { connect: Duration::from_millis(300), request: Duration::from_millis(300) };

fn open(fake: &Fake) -> Result<VfioUserBus, OpenError> {
    VfioUserBus::open_with(&fake.path(), SHORT)
}

fn refusal(path: &Path) -> OpenError {
    let error = VfioUserBus::open_with(path, SHORT).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n') && text.contains(path.to_str().unwrap()), "{text}");
    error
}

#[test]
fn what_is_no_server_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(refusal(&dir.path().join("none")), OpenError::Missing { .. }));
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(refusal(&file), OpenError::NotSocket { .. }));
    assert!(matches!(refusal(&file.join("below")), OpenError::Missing { .. }));
    assert!(matches!(refusal(dir.path()), OpenError::NotSocket { .. }));
    let stale = dir.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(matches!(refusal(&stale), OpenError::Refused { .. }));
    let long = dir.path().join("x".repeat(120));
    assert!(matches!(refusal(&long), OpenError::PathTooLong { .. }));
}

#[test]
fn a_socket_that_nobody_accepts_on_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, OpenError::Silent { .. }) && error.to_string().contains("one at a time"), "{error}");
}

#[test]
fn a_version_that_goes_wrong_ends_in_an_error() {
    for (quirk, want) in [
        (Quirk::Error(22), "refused"),
        (Quirk::HalfHeader, "closed"),
        (Quirk::HalfHeaderSilent, "no answer"),
        (Quirk::NoBody, "closed"),
        (Quirk::WrongId, "id"),
        (Quirk::WrongCommand, "command"),
        (Quirk::NotAReply, "request"),
        (Quirk::HugeSize, "bytes"),
        (Quirk::TinySize, "bytes"),
        (Quirk::Longer, "bytes"),
        (Quirk::Trailing, "bytes"),
        (Quirk::Garbage, "protocol"),
        (Quirk::Drip, "no answer"),
        (Quirk::Silent, "no answer"),
        (Quirk::Close, "closed"),
    ] {
        let fake = Fake::serve(Config::quirk(fake::VERSION, quirk));
        let error = refusal(&fake.path());
        let right = match error {
            OpenError::Silent { .. } => want == "no answer",
            OpenError::NotVfioUser { .. } => want != "no answer",
            _ => false,
        };
        assert!(right && error.to_string().contains(want), "{quirk:?}: {error}");
    }
}

#[test]
fn each_question_at_the_start_may_go_wrong() {
    for command in [fake::GET_INFO, fake::GET_REGION, fake::GET_IRQ, fake::READ] {
        for quirk in [Quirk::Error(22), Quirk::Shorter, Quirk::HugeSize, Quirk::WrongId, Quirk::Silent, Quirk::Close] {
            let fake = Fake::serve(Config::quirk(command, quirk));
            let error = open(&fake).unwrap_err();
            assert!(matches!(error, OpenError::NotVfioUser { .. } | OpenError::Bus(_)), "{command} {quirk:?}: {error}");
        }
    }
}

#[test]
fn another_device_is_refused() {
    let other = |config| refusal(&Fake::serve(config).path());
    assert!(matches!(other(Config { flags: 1, ..Config::default() }), OpenError::NotPci { .. }));
    let error = other(Config { ids: [0x86, 0x80, 0x34, 0x12], bar0_len: 4096, ..Config::default() });
    assert!(error.to_string().contains("8086:1234 is not an HFI1"), "{error}");
    let error = other(Config { bar0_len: 32 << 20, ..Config::default() });
    assert!(error.to_string().contains("BAR 0 has 0x2000000 bytes, an HFI1 has 0x4000000"), "{error}");
    let error = other(Config { config_len: 0, ..Config::default() });
    assert!(error.to_string().contains("config space has 0x0 bytes"), "{error}");
    let error = other(Config { version: (1, 0), ..Config::default() });
    assert!(matches!(error, OpenError::Version { major: 1, .. }), "{error}");
    let error = other(Config { capabilities: b"{\"capabilities\":", ..Config::default() });
    assert!(error.to_string().contains("JSON"), "{error}");
}

#[test]
fn registers_and_config_space_are_read_and_written() {
    let fake = Fake::serve(Config::default());
    let bus = open(&fake).unwrap();
    assert_eq!(bus.name(), format!("vfio-user:{}", fake.path().display()));
    assert_eq!(bus.bar0_len(), 64 << 20);
    bus.write64(BarOff(0x100), 0x1122_3344_5566_7788);
    assert_eq!(bus.read64(BarOff(0x100)), 0x1122_3344_5566_7788);
    bus.write_block(BarOff(0x200_0000), &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bus.read64(BarOff(0x200_0000)), 1);
    let posted = fake.requests(fake::WRITE);
    assert_eq!(posted.len(), 2);
    assert!(posted.iter().all(|(_, flags, _)| *flags == 0x10));
    assert_eq!(posted[1].2.len(), 16 + 64);
    bus.config_write(4, &[6, 0]).unwrap();
    assert_eq!(fake.requests(fake::WRITE)[2].1, 0);
    // Outside of the BAR and of config space, nothing reaches the server.
    assert_eq!(bus.read64(BarOff(64 << 20)), ALL_ONES);
    bus.write64(BarOff((64 << 20) - 4), 1);
    bus.write_block(BarOff(u32::MAX - 63), &[0; 8]);
    assert!(matches!(bus.config_read(4095, &mut [0; 2]), Err(BusError::Config { offset: 4095, len: 2, .. })));
    bus.reset().unwrap();
    assert_eq!((fake.requests(fake::WRITE).len(), fake.requests(fake::RESET).len()), (3, 1));
    assert_eq!(bus.gone(), None);
}

#[test]
fn the_blocks_of_a_packet_keep_their_place_and_half_a_packet_is_not_kept_for_ever() {
    let fake = Fake::serve(Config::default());
    let bus = open(&fake).unwrap();
    // 32 dwords: two blocks.
    let first = [32, 1, 2, 3, 4, 5, 6, 7];
    bus.write_block(BarOff(0x300_0000), &first);
    bus.write_block(BarOff(0x200_0040), &[8; 8]);
    bus.write64(BarOff(0x100), 9);
    bus.write_block(BarOff(0x300_0080), &first);
    assert_eq!(bus.read64(BarOff(0x100)), 9);
    let offsets = |count: usize| {
        let posted = fake.requests(fake::WRITE);
        assert_eq!(posted.len(), count);
        posted.iter().map(|(_, _, body)| u32::from_le_bytes(*body.first_chunk().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(offsets(4), [0x300_0000, 0x200_0040, 0x100, 0x300_0080]);
    bus.write_block(BarOff(0x300_00c0), &first);
    let start = std::time::Instant::now();
    while fake.requests(fake::WRITE).len() < 5 && start.elapsed() < Duration::from_secs(10) {
        bus.now();
        std::thread::yield_now();
    }
    assert_eq!(offsets(5).last(), Some(&0x300_00c0));
}

#[test]
fn a_register_read_that_goes_wrong_is_the_end() {
    for quirk in [
        Quirk::Error(22),
        Quirk::HalfHeader,
        Quirk::HalfHeaderSilent,
        Quirk::NoBody,
        Quirk::WrongId,
        Quirk::WrongCommand,
        Quirk::NotAReply,
        Quirk::HugeSize,
        Quirk::TinySize,
        Quirk::Longer,
        Quirk::Shorter,
        Quirk::Trailing,
        Quirk::Garbage,
        Quirk::Drip,
        Quirk::Silent,
        Quirk::Close,
    ] {
        // The first read is of config space, at the start.
        let fake = Fake::serve(Config { after: 3, ..Config::quirk(fake::READ, quirk) });
        let bus = open(&fake).unwrap();
        assert_eq!((bus.read64(BarOff(0)), bus.read64(BarOff(8))), (0, 0), "{quirk:?}");
        assert_eq!(bus.read64(BarOff(16)), ALL_ONES, "{quirk:?}");
        let why = bus.gone();
        assert!(why.is_some(), "{quirk:?}");
        let asked = fake.requests(fake::READ).len();
        for offset in 0..1000 {
            assert_eq!(bus.read64(BarOff(offset * 8)), ALL_ONES);
            bus.write64(BarOff(offset * 8), 1);
        }
        assert!(matches!(bus.config_read(0, &mut [0; 4]), Err(BusError::Gone { .. })), "{quirk:?}");
        assert!(matches!(bus.dma_alloc(4096), Err(BusError::Gone { .. })), "{quirk:?}");
        assert!(matches!(bus.irq_enable(1), Err(BusError::Gone { .. })), "{quirk:?}");
        assert!(matches!(bus.reset(), Err(BusError::Gone { .. })), "{quirk:?}");
        assert_eq!(bus.gone(), why, "the first reason is kept");
        assert_eq!((fake.requests(fake::READ).len(), fake.requests(fake::WRITE).len()), (asked, 0));
    }
}

#[test]
fn a_posted_write_that_is_refused_is_noticed() {
    let fake = Fake::serve(Config::quirk(fake::WRITE, Quirk::Error(22)));
    let bus = open(&fake).unwrap();
    bus.write64(BarOff(0), 1);
    assert_eq!(bus.read64(BarOff(0)), ALL_ONES);
    let why = bus.gone().unwrap();
    assert!(why.contains("refused posted command 10 (errno 22)"), "{why}");
}

#[test]
fn refusals_are_errors_of_their_operation() {
    let serve = |command| open(&Fake::serve(Config::quirk(command, Quirk::Error(12)))).unwrap();
    let bus = serve(fake::DMA_MAP);
    let error = bus.dma_alloc(100).unwrap_err();
    assert!(
        matches!(&error, BusError::DmaMap { len: 4096, source, .. } if source.raw_os_error() == Some(12)),
        "{error}"
    );
    assert_eq!((bus.read64(BarOff(0)), bus.gone()), (0, None));
    let bus = serve(fake::SET_IRQS);
    assert!(matches!(bus.irq_enable(4), Err(BusError::Irq { count: 4, .. })));
    assert_eq!(bus.gone(), None);
    let bus = serve(fake::RESET);
    assert!(matches!(bus.reset(), Err(BusError::Reset { .. })));
    assert_eq!(bus.gone(), None);
    let bus = serve(fake::WRITE);
    assert!(matches!(bus.config_write(4, &[0, 0]), Err(BusError::Config { operation: "write", .. })));
    assert_eq!(bus.gone(), None);
}

#[test]
fn memory_is_mapped_and_unmapped() {
    let fake = Fake::serve(Config::default());
    let bus = open(&fake).unwrap();
    let block = bus.dma_alloc(5000).unwrap();
    assert_eq!(block.len(), 8192);
    let map = fake.requests(fake::DMA_MAP).remove(0).2;
    let want = (32, 3, 0, block.iova(0).0, 8192);
    let word = fake::u64_at;
    assert_eq!((fake::u32_at(&map, 0), fake::u32_at(&map, 4), word(&map, 8), word(&map, 16), word(&map, 24)), want);
    let at = block.iova(0).0;
    drop(block);
    let unmap = fake.requests(fake::DMA_UNMAP).remove(0).2;
    assert_eq!((word(&unmap, 8), word(&unmap, 16)), (at, 8192));
    assert_eq!(bus.dma_alloc(4096).unwrap().iova(0).0, at, "the address is free again");
}

#[test]
fn memory_that_isnt_unmapped_keeps_its_address() {
    let fake = Fake::serve(Config::quirk(fake::DMA_UNMAP, Quirk::Error(22)));
    let bus = open(&fake).unwrap();
    let at = bus.dma_alloc(4096).unwrap().iova(0);
    assert_ne!(bus.dma_alloc(4096).unwrap().iova(0), at);
}

#[test]
fn eventfds_go_in_batches_that_the_server_takes() {
    for (capabilities, want) in [
        (&b"{\"capabilities\":{\"max_msg_fds\":3}}\0"[..], vec![(0, 0), (0, 3), (3, 3), (6, 1)]),
        (b"{\"capabilities\":{\"max_msg_fds\":1000}}\0", vec![(0, 0), (0, 7)]),
        (b"{\"capabilities\":{\"max_msg_fds\":0}}", (0..8u32).map(|n| (n.saturating_sub(1), n.min(1))).collect()),
        (b"", (0..8u32).map(|n| (n.saturating_sub(1), n.min(1))).collect()),
    ] {
        let fake = Fake::serve(Config { capabilities, ..Config::default() });
        let bus = open(&fake).unwrap();
        assert_eq!(bus.irq_enable(7).unwrap().len(), 7);
        let sent = fake.requests(fake::SET_IRQS);
        let sent: Vec<_> = sent.iter().map(|(_, _, b)| (fake::u32_at(b, 12), fake::u32_at(b, 16))).collect();
        assert_eq!(sent, want);
    }
    let bus = open(&Fake::serve(Config { vectors: 8, ..Config::default() })).unwrap();
    let error = bus.irq_enable(9).unwrap_err();
    assert!(error.to_string().contains("the function has 8 vectors"), "{error}");
}

#[test]
fn a_dead_server_is_noticed_without_an_access() {
    let fake = Fake::serve(Config::quirk(fake::RESET, Quirk::Close));
    let bus = open(&fake).unwrap();
    let irqs = bus.irq_enable(1).unwrap();
    assert!(!bus.wait_irq(&irqs[0], Duration::from_millis(1)).unwrap());
    irqs[0].raise();
    assert!(bus.wait_irq(&irqs[0], Duration::from_secs(60)).unwrap());
    let other = bus.clone();
    let waiter = std::thread::spawn(move || other.wait_irq(&irqs[0], Duration::from_secs(600)));
    assert!(matches!(bus.reset(), Err(BusError::Gone { .. })));
    assert!(matches!(waiter.join().unwrap(), Err(BusError::Gone { .. })));
    assert!(bus.gone().unwrap().contains("closed"));
    assert!(fake.dir().exists());
}
