//! Pools that are made, handed on and given back: features, refusals, file descriptors, sizes.

use super::*;

/// Z2: what the kernel lacks is found before anything is registered.
#[test]
fn a_missing_feature_is_found_before_any_call() {
    let _alone = alone();
    let before = held();
    let no_device = lacking(|zcrx| zcrx.register_flags = 1);
    let refused = open(&no_device, &owner()).create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Unsupported(Unsupported::Lacks(Feature::NoDevice))), "{refused}");

    let no_flush = lacking(|zcrx| zcrx.nr_ctrl_opcodes = 0);
    let refused = open(&no_flush, &owner()).create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Unsupported(Unsupported::Lacks(Feature::Flush))), "{refused}");

    let no_query = Fake::new(Answers { zcrx: Err(libc::EINVAL), ..Answers::default() });
    let refused = open(&no_query, &owner()).create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Unsupported(Unsupported::NoQuery)), "{refused}");

    let no_zcrx = Fake::new(Answers { zcrx: Err(libc::EOPNOTSUPP), ..Answers::default() });
    let refused = open(&no_zcrx, &device()).create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Unsupported(Unsupported::NoZcrx)), "{refused}");

    for fake in [no_device, no_flush, no_query, no_zcrx] {
        assert_eq!(fake.count(Operation::Register), 0);
    }

    let no_export = lacking(|zcrx| zcrx.nr_ctrl_opcodes = 1);
    let refused = with_pool(&no_export, &owner()).export_pool().unwrap_err();
    assert!(matches!(refused, ExportError::Unsupported(Unsupported::Lacks(Feature::Export))), "{refused}");
    assert_eq!(no_export.count(Operation::Export), 0);

    let no_import = lacking(|zcrx| zcrx.register_flags = 2);
    let ring = with_pool(&no_import, &owner());
    let exported = ring.export_pool().unwrap();
    let refused = open(&no_import, &Options::new().zc_rx_import()).import_pool(exported).unwrap_err();
    assert!(matches!(refused, ImportError::Unsupported(Unsupported::Lacks(Feature::Import))), "{refused}");
    assert_eq!(no_import.count(Operation::Import), 0);
    drop((ring, no_export, no_import));
    assert_eq!(held(), before);
}

/// Each call that the kernel refuses has its error, which says what to do, and leaves nothing behind.
#[test]
fn a_refusal_is_typed_and_leaves_nothing() {
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let refused = |options: &Options, errno| {
        fake.fail_next(Operation::Register, errno);
        open(&fake, options).create_pool().unwrap_err()
    };
    assert!(matches!(refused(&owner(), libc::EPERM), CreateError::NotPermitted));
    assert!(refused(&owner(), libc::EPERM).to_string().contains("CAP_NET_ADMIN"));
    assert!(matches!(refused(&owner(), libc::ENOMEM), CreateError::Locked));
    assert!(matches!(refused(&owner(), libc::EINVAL), CreateError::Kernel(_)));
    assert!(matches!(refused(&device(), libc::EOPNOTSUPP), CreateError::Interface { queue: 1, .. }));
    fake.fail_next(Operation::Open, libc::EPERM);
    assert!(matches!(Ring::open_on(&fake, &owner()).unwrap_err(), OpenError::Kernel(_)));
    assert!(matches!(Ring::open_on(&fake, &owner().num_buffers(0)).unwrap_err(), OpenError::Options(_)));
    assert!(matches!(open(&fake, &Options::new().zc_rx_import()).create_pool(), Err(CreateError::NoSource)));
    assert!(matches!(open(&fake, &Options::new()).export_pool(), Err(ExportError::NoPool)));
    assert!(matches!(open(&fake, &Options::new()).receive(connection().0), Err(ReceiveError::NoPool)));
    let huge = owner().num_buffers(1 << 23);
    match open(&fake, &huge).create_pool() {
        // A machine that overcommits memory maps it.
        Ok(()) => {}
        Err(error) => assert!(matches!(error, CreateError::Memory { bytes, .. } if bytes > 1 << 35), "{error}"),
    }
    let ring = with_pool(&fake, &owner());
    assert!(matches!(ring.create_pool(), Err(CreateError::HasPool)));
    drop((ring, fake));
    assert_eq!(held(), before);
}

/// Z1: an export that fails gives an error and no file descriptor; afterwards all is as before.
#[test]
fn a_failed_export_gives_no_fd() {
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner());
    let with_ring = held();
    fake.fail_next(Operation::Export, libc::ENXIO);
    match ring.export_pool().unwrap_err() {
        ExportError::Kernel(error) => assert_eq!(error.raw_os_error(), Some(libc::ENXIO)),
        other => panic!("{other}"),
    }
    assert_eq!(held(), with_ring);
    drop((ring, fake));
    assert_eq!(held(), before);
}

/// Z3: an importer doesn't hand the pool on.
#[test]
fn only_the_owner_exports() {
    let _alone = alone();
    let fake = Fake::default();
    let owner = with_pool(&fake, &owner());
    let importer = open(&fake, &Options::new().zc_rx_import());
    importer.import_pool(owner.export_pool().unwrap()).unwrap();
    assert!(matches!(importer.export_pool(), Err(ExportError::NotOwner)));
    assert_eq!(fake.count(Operation::Export), 1);
}

/// Z12: the pool's file descriptor is closed, whether the import works, is refused, or never comes; what the owner knows
/// of its queue comes with it.
#[test]
fn the_fd_of_a_pool_is_closed_on_every_path() {
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let ring = with_pool(&fake, &device().resolve_napi(|index, queue| Some(index * 100 + queue)));
    let importer = open(&fake, &Options::new().zc_rx_import());
    let plain = open(&fake, &Options::new());
    let with_rings = held();
    drop(ring.export_pool().unwrap());
    assert_eq!(held(), with_rings);
    fake.fail_next(Operation::Import, libc::ENOMEM);
    assert!(matches!(importer.import_pool(ring.export_pool().unwrap()), Err(ImportError::Kernel(_))));
    fake.fail_next(Operation::Import, libc::EPERM);
    assert!(matches!(importer.import_pool(ring.export_pool().unwrap()), Err(ImportError::NotPermitted)));
    let refused = plain.import_pool(ring.export_pool().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("zc_rx_import"), "{refused}");
    assert_eq!(held(), with_rings);
    let exported = ring.export_pool().unwrap();
    assert_eq!((exported.napi_id(), exported.queue_id()), (Some(201), 1));
    importer.import_pool(exported).unwrap();
    let info = importer.pool().unwrap();
    assert_eq!((info.own, info.napi_id, info.queue_id), (false, Some(201), 1));
    assert!(matches!(importer.import_pool(ring.export_pool().unwrap()), Err(ImportError::HasPool)));
    assert_eq!(held(), with_rings);
    drop((ring, importer, plain, fake));
    assert_eq!(held(), before);
}

/// Z5: what becomes of a hint.
#[test]
fn a_buffer_size_is_a_hint() {
    let _alone = alone();
    let fake = Fake::default();
    let old = lacking(|zcrx| zcrx.features = 2);
    for (fake, options, hint, size) in [
        (&fake, device(), 0, PAGE),
        (&fake, device(), 512, PAGE),
        (&fake, device(), 6000, PAGE),
        (&fake, device(), PAGE, PAGE),
        (&fake, device(), 65536, 65536),
        (&fake, owner(), 65536, PAGE),
        (&old, device(), 65536, PAGE),
    ] {
        let ring = with_pool(fake, &options.buffer_size_hint(hint));
        assert_eq!(ring.pool().unwrap().buffer_size, size, "hint {hint}");
    }
    // The kernel is told a size only when it isn't a page.
    let told: Vec<u32> =
        fake.calls().into_iter().filter(|c| c.operation == Operation::Register).map(|c| c.value).collect();
    assert_eq!(told, [0, 0, 0, 0, 65536, 0]);
}

/// Z5: the device can't have buffers of that size: once more with a page, in memory of the right size.
#[test]
fn a_refused_buffer_size_falls_back_to_a_page() {
    let _alone = alone();
    let before = held();
    for errno in [libc::ERANGE, libc::EINVAL, libc::EOPNOTSUPP] {
        let fake = Fake::default();
        fake.fail_next(Operation::Register, errno);
        let ring = open(&fake, &device().buffer_size_hint(1 << 20));
        let (_, maps) = held();
        ring.create_pool().unwrap();
        assert_eq!(held().1, maps + SMALL_POOL, "the larger mapping is gone");
        assert_eq!(ring.pool().unwrap().buffer_size, PAGE);
        assert_eq!(fake.calls().iter().map(|call| call.value).collect::<Vec<_>>(), [0, 1 << 20, 0]);
        assert_eq!(fake.free_buffers(0), 32);
    }
    // Refused for good.
    let fake = Fake::default();
    fake.fail_next(Operation::Register, libc::ERANGE);
    fake.fail_next(Operation::Register, libc::ERANGE);
    let refused = open(&fake, &device().buffer_size_hint(1 << 20)).create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Interface { .. }), "{refused}");
    assert_eq!(held(), before);
}

/// Z11: bytes outlive their ring and pool; the memory goes with the last of them.
#[test]
fn bytes_outlive_ring_and_pool() {
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner());
    let (mut sender, receiver) = connection();
    ring.receive(receiver).unwrap();
    sender.write_all(&[1; 5000]).unwrap();
    let first = next_data(&ring);
    let second = next_data(&ring);
    drop(sender);
    drop(first);
    drop((ring, fake));
    assert_eq!(held().1, before.1 + SMALL_POOL, "the memory is still there");
    assert!(second.iter().all(|byte| *byte == 1));
    thread::spawn(move || drop(second)).join().unwrap();
    assert_eq!(held(), before);
}

/// Z11: rings and bytes go in any order, on any thread, and nothing is left.
#[test]
fn pools_end_cleanly_in_any_order() {
    let _alone = alone();
    let before = held();
    for round in 0..50 {
        let fake = Fake::default();
        let ring = with_pool(&fake, &owner().num_buffers(16));
        let exported = (round % 2 == 0).then(|| ring.export_pool().unwrap());
        let (mut sender, receiver) = connection();
        ring.receive(receiver).unwrap();
        sender.write_all(&vec![7; 12 * PAGE as usize]).unwrap();
        drop(sender);
        let mut buffers: Vec<_> = (0..8).map(|_| next_data(&ring)).collect();
        thread::scope(|scope| {
            for _ in 0..3 {
                let share = buffers.split_off(buffers.len() - 2);
                scope.spawn(move || drop(share));
            }
            scope.spawn(move || drop(exported));
            drop(ring);
        });
        assert!(buffers.iter().all(|buffer| buffer.iter().all(|byte| *byte == 7)));
    }
    assert_eq!(held(), before);
}

/// Z12: an importer goes on when the owner is gone.
#[test]
fn an_importer_outlives_the_owner() {
    const TOTAL: u64 = 100 * PAGE as u64;
    let _alone = alone();
    let before = held();
    let fake = Fake::default();
    let ring = with_pool(&fake, &owner());
    let importer = open(&fake, &Options::new().zc_rx_import());
    importer.import_pool(ring.export_pool().unwrap()).unwrap();
    drop(ring);
    let (sender, receiver) = connection();
    let mut checker = Checker::default();
    checker.expect(importer.receive(receiver).unwrap(), 3);
    let sender = send_pattern(sender, 3, TOTAL);
    receive_until_end(&importer, &mut checker, 1);
    sender.join().unwrap();
    assert_eq!(checker.total(), TOTAL);
    drop((importer, fake));
    assert_eq!(held(), before);
}
