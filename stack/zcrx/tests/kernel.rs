//! The pool on the running kernel. Some tests need zero-copy receive (Linux 7.2 and CAP_NET_ADMIN; connections are over
//! loopback), others a kernel without it, or a user without the right. A test that doesn't fit says so, and passes;
//! with OPX_ZCRX=kernel or OPX_ZCRX=user one that needs that and doesn't find it fails.

mod common;

use common::{Checker, Worker, alone, carry, connection, held, next, next_data, receive_until_end, send_pattern};
use opx_zcrx::{
    CreateError, Event, EventTypes, Feature, Features, ImportError, Incoming, Ingress, Kernel, Linux, Means, Options,
    Queue, Ring, Setup, Source, Unsupported, kernel_supports_zcrx, query, share_pools,
};
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const PAGE: u64 = 4096;
/// CAP_NET_ADMIN.
const NET_ADMIN: u32 = 12;

/// Whether this process may use zero-copy receive.
fn privileged() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() >> NET_ADMIN & 1 == 1
}

/// Says why a test isn't run, and fails it if this is where it must be.
fn skip(needs: &str, why: &str) {
    assert_ne!(std::env::var("OPX_ZCRX").as_deref(), Ok(needs), "this must be run here: {why}");
    println!("skipped: {why}");
}

/// The kernel's features, where a pool can be made.
fn zcrx() -> Option<Features> {
    match query() {
        Ok(_) if !privileged() => skip("kernel", "CAP_NET_ADMIN is needed"),
        Ok(features) if features.no_device => return Some(features),
        Ok(_) => skip("kernel", "this kernel receives only from devices"),
        Err(why) => skip("kernel", &why.to_string()),
    }
    None
}

fn owner() -> Options {
    Options::new().zero_copy_rx(Source::NoDevice).num_buffers(64).refill_entries(64)
}

fn with_pool(options: &Options) -> Ring {
    let ring = Ring::open(options).unwrap();
    ring.create_pool().unwrap();
    ring
}

/// A raw ring that is fit for a pool.
fn raw() -> impl Queue + Send {
    Linux.open(&Setup { entries: 4, completions: 8, zero_copy: true }).unwrap()
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// Z2, Z18: a kernel without zero-copy receive is found out before it is asked for anything, and bytes come plainly.
#[test]
fn a_kernel_without_it_is_refused_and_received_from_plainly() {
    let _alone = alone();
    let why = match query() {
        Ok(_) => return skip("old kernel", "this kernel has zero-copy receive"),
        Err(why) => why,
    };
    println!("{why}");
    assert!(!kernel_supports_zcrx());
    let before = held();
    let ring = Ring::open(&owner()).unwrap();
    let refused = ring.create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::Unsupported(Unsupported::NoQuery | Unsupported::NoZcrx)), "{refused}");
    drop(ring);
    // The gate is right: what it keeps from the kernel, the kernel refuses.
    let raw = raw();
    assert_eq!(errno(raw.flush(0)), libc::EINVAL);
    assert_eq!(errno(raw.export(0)), libc::EINVAL);
    assert!(raw.import(fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    drop(raw);
    let ingress = Ingress::auto(&Options::new());
    assert_eq!(ingress.means(), Means::Plain);
    assert!(ingress.refusals().iter().any(|refusal| refusal.to_string().contains(&why.to_string())));
    receive_some(&ingress);
    drop(ingress);
    assert_eq!(held(), before);
}

/// Z18: the kernel can, the user may not: bytes come plainly, and why is told.
#[test]
fn a_user_without_the_right_receives_plainly() {
    let _alone = alone();
    if query().is_err() {
        return skip("user", "this kernel has no zero-copy receive");
    }
    if privileged() {
        return skip("user", "this process has CAP_NET_ADMIN");
    }
    let before = held();
    let refused = Ring::open(&owner()).unwrap().create_pool().unwrap_err();
    assert!(matches!(refused, CreateError::NotPermitted), "{refused}");
    let ingress = Ingress::auto(&Options::new());
    assert_eq!(ingress.means(), Means::Plain);
    assert!(ingress.refusals().iter().any(|refusal| refusal.to_string().contains("CAP_NET_ADMIN")));
    receive_some(&ingress);
    drop(ingress);
    assert_eq!(held(), before);
}

/// Z18: the best that this machine has.
#[test]
fn ingress_takes_the_pool_where_there_is_one() {
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let ingress = Ingress::auto(&Options::new());
    assert_eq!(ingress.means(), Means::NoDevice);
    receive_some(&ingress);
    assert!(ingress.take_statistics().copied_bytes > 0);
}

fn receive_some(ingress: &Ingress) {
    const TOTAL: u64 = 300_000;
    let (sender, receiver) = connection();
    let mut checker = Checker::default();
    checker.expect(ingress.receive(receiver).unwrap(), 9);
    let sender = send_pattern(sender, 9, TOTAL);
    while checker.ended == 0 {
        match ingress.next() {
            Some(Incoming::Data { stream, data }) => checker.check(stream, &data),
            Some(Incoming::End { .. }) => checker.ended += 1,
            Some(other) => panic!("{other:?}"),
            None => ingress.wait(Some(Duration::from_secs(20))).unwrap(),
        }
    }
    sender.join().unwrap();
    assert_eq!(checker.total(), TOTAL);
}

/// Z13: what a ring's own thread may do, another may not.
#[test]
fn the_kernel_refuses_another_thread() {
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let raw = raw();
    let refused = thread::spawn(move || (errno(raw.flush(0)), errno(raw.export(0)))).join().unwrap();
    assert_eq!(refused, (libc::EEXIST, libc::EEXIST));
}

/// Z2: all that Linux 7.2 has.
#[test]
fn the_kernel_has_all_features() {
    let _alone = alone();
    let Some(features) = zcrx() else { return };
    println!("{features:?}");
    assert!(kernel_supports_zcrx());
    assert!(features.import && features.export && features.flush && features.no_device);
    assert!(features.events && features.buffer_size);
    assert_eq!(features.event_types, 3);
    assert_eq!(features.statistics.map(|layout| (layout.size, layout.align)), Some((16, 8)));
}

/// Z1: what is exported is the kernel's file descriptor of the pool; a number that isn't known is an error.
#[test]
fn an_exported_fd_is_the_pools() {
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let before = held();
    assert_eq!(errno(raw().export(77)), libc::ENXIO);
    let ring = with_pool(&owner());
    let exported = ring.export_pool().unwrap();
    let fd = exported.as_fd().as_raw_fd();
    assert!(fd > 2);
    let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    assert_eq!(link.to_str(), Some("anon_inode:[zcrx]"));
    drop((exported, ring));
    assert_eq!(held(), before);
}

/// Z5: without a device a buffer is a page.
#[test]
fn a_large_hint_ends_at_a_page() {
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let ring = with_pool(&owner().buffer_size_hint(65536));
    assert_eq!(ring.pool().unwrap().buffer_size, 4096);
    // 60 entries are 64 to the kernel.
    let ring = with_pool(&owner().refill_entries(60));
    assert_eq!(ring.pool().unwrap().refill.free, 64);
}

/// Z9: twice the area with a short refill ring, dropped where it is received, and elsewhere.
#[test]
fn a_short_refill_ring_loses_no_buffer() {
    const TOTAL: u64 = 2 * 64 * PAGE;
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let before = held();
    for elsewhere in [false, true] {
        let ring = with_pool(&owner().refill_entries(16));
        let (sender, receiver) = connection();
        let mut checker = Checker::default();
        checker.expect(ring.receive(receiver).unwrap(), 2);
        let sender = send_pattern(sender, 2, TOTAL);
        let (send, receive) = mpsc::channel();
        let dropper = thread::spawn(move || receive.into_iter().for_each(drop));
        let mut held_back = Vec::new();
        while checker.ended == 0 {
            match ring.next_event() {
                Some(Event::Data { stream, data }) => {
                    checker.check(stream, &data);
                    held_back.push(data);
                }
                Some(Event::End { .. }) => checker.ended += 1,
                Some(other) => panic!("{other:?}"),
                None => {
                    // More at once than the refill ring takes.
                    if held_back.len() >= 48 || checker.total() == TOTAL {
                        if elsewhere {
                            held_back.drain(..).for_each(|data| send.send(data).unwrap());
                        } else {
                            held_back.clear();
                        }
                    }
                    ring.wait(Some(Duration::from_millis(50))).unwrap();
                }
            }
        }
        assert_eq!(checker.total(), TOTAL);
        sender.join().unwrap();
        drop((send, held_back));
        dropper.join().unwrap();
        ring.wait(Some(Duration::ZERO)).unwrap();
        let statistics = ring.take_statistics();
        assert_eq!((statistics.flush_failures, statistics.bad_completions), (0, 0), "{statistics:?}");
        assert!(statistics.flushes > 0);
        // All 64 can be lent at once: none was lost.
        let (mut sender, receiver) = connection();
        ring.receive(receiver).unwrap();
        let mut all = Vec::new();
        while all.len() < 64 {
            sender.write_all(&[1; 100]).unwrap();
            match next(&ring) {
                Event::Data { data, .. } => all.push(data),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(held(), before);
}

/// Z10: far more than the pool holds.
#[test]
fn a_hundred_times_the_area_goes_through_the_pool() {
    const TOTAL: u64 = 100 * 64 * PAGE;
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let before = held();
    let ring = with_pool(&owner());
    carry(&ring, TOTAL);
    let statistics = ring.take_statistics();
    println!("{statistics:?}");
    assert_eq!((statistics.flush_failures, statistics.bad_completions), (0, 0));
    drop(ring);
    assert_eq!(held(), before);
}

/// Z10, Z17: the kernel runs out of buffers while another thread holds them, and goes on when it lets them go.
#[test]
fn exhaustion_ends_with_a_return_from_another_thread() {
    const TOTAL: u64 = 200 * PAGE;
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let ring = with_pool(&owner().num_buffers(8));
    let (sender, receiver) = connection();
    let mut checker = Checker::default();
    checker.expect(ring.receive(receiver).unwrap(), 4);
    let sender = send_pattern(sender, 4, TOTAL);
    let (send, receive) = mpsc::channel();
    let mut dropper = None;
    let mut receive = Some(receive);
    let mut starved = 0;
    while checker.ended == 0 {
        match ring.next_event() {
            Some(Event::Data { stream, data }) => {
                checker.check(stream, &data);
                send.send(data).unwrap();
            }
            Some(Event::End { .. }) => checker.ended += 1,
            Some(other) => panic!("{other:?}"),
            None => ring.wait(Some(Duration::from_secs(20))).unwrap(),
        }
        starved += ring.take_statistics().starved;
        if let Some(receive) = receive.take_if(|_| starved > 0) {
            dropper = Some(thread::spawn(move || receive.into_iter().for_each(drop)));
        }
    }
    drop(send);
    dropper.expect("the pool is smaller than what is sent").join().unwrap();
    sender.join().unwrap();
    assert_eq!(checker.total(), TOTAL);
}

/// Z11: bytes outlive their ring and pool.
#[test]
fn bytes_outlive_ring_and_pool() {
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let before = held();
    let ring = with_pool(&owner());
    let (mut sender, receiver) = connection();
    ring.receive(receiver).unwrap();
    sender.write_all(b"as they came").unwrap();
    let data = next_data(&ring);
    drop(ring);
    // The kernel goes on; it doesn't write here.
    let _ = sender.write_all(&[0xff; 20_000]);
    drop(sender);
    assert!(held().1 > before.1);
    assert_eq!(&data[..], b"as they came");
    thread::spawn(move || drop(data)).join().unwrap();
    assert_eq!(held(), before);
}

/// Z12: an importer receives, also when the owner is gone; nothing is left.
#[test]
fn an_importer_receives_and_outlives_the_owner() {
    const TOTAL: u64 = 300 * PAGE;
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let before = held();
    let ring = with_pool(&owner());
    let exported = ring.export_pool().unwrap();
    let (importing, imported) = mpsc::channel();
    let (ending, ended) = mpsc::channel::<()>();
    let importer = thread::spawn(move || {
        let importer = Ring::open(&Options::new().zc_rx_import()).unwrap();
        importer.import_pool(exported).unwrap();
        let receive = |seed| {
            let (sender, receiver) = connection();
            let mut checker = Checker::default();
            checker.expect(importer.receive(receiver).unwrap(), seed);
            let sender = send_pattern(sender, seed, TOTAL);
            receive_until_end(&importer, &mut checker, 1);
            sender.join().unwrap();
            assert_eq!(checker.total(), TOTAL);
        };
        receive(1);
        importing.send(()).unwrap();
        ended.recv().unwrap();
        receive(2);
    });
    imported.recv().unwrap();
    drop(ring);
    ending.send(()).unwrap();
    importer.join().unwrap();
    assert_eq!(held(), before);
}

/// Z15: a ring that wasn't made for it can't import; the error says what to do.
#[test]
fn a_plain_ring_cant_import() {
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let before = held();
    let ring = with_pool(&owner());
    let refused = Ring::open(&Options::new()).unwrap().import_pool(ring.export_pool().unwrap()).unwrap_err();
    assert!(matches!(refused, ImportError::Ring(_)), "{refused}");
    assert!(refused.to_string().contains("zc_rx_import"));
    drop(ring);
    assert_eq!(held(), before);
}

fn worker(options: Options) -> Worker<<Linux as Kernel>::Queue> {
    Worker::start(move || Ring::open(&options).unwrap())
}

/// Z14: four threads with two pools between them, eight connections.
#[test]
fn four_threads_share_two_pools() {
    const TOTAL: u64 = 300_000;
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let before = held();
    let workers = [(); 4].map(|()| worker(owner().zc_rx_import()));
    let rings: Vec<_> = workers.iter().map(|worker| worker.handle.clone()).collect();
    share_pools(&rings, 2).unwrap();
    let own = rings.iter().filter(|ring| ring.run_and_wait(|ring| ring.pool().unwrap().own).unwrap()).count();
    assert_eq!(own, 2);
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for (at, ring) in rings.iter().enumerate() {
        let mut sockets = Vec::new();
        for n in 0..2 {
            let (sender, receiver) = connection();
            senders.push(send_pattern(sender, (2 * at + n) as u64, TOTAL));
            sockets.push(receiver);
        }
        let ring = ring.clone();
        receivers.push(thread::spawn(move || {
            ring.run_and_wait(move |ring| {
                let mut checker = Checker::default();
                for (n, socket) in sockets.into_iter().enumerate() {
                    checker.expect(ring.receive(socket).unwrap(), (2 * at + n) as u64);
                }
                receive_until_end(ring, &mut checker, 2);
                let statistics = ring.take_statistics();
                assert_eq!((statistics.flush_failures, statistics.bad_completions), (0, 0));
                checker.total()
            })
        }));
    }
    for receiver in receivers {
        assert_eq!(receiver.join().unwrap(), Ok(2 * TOTAL));
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    workers.into_iter().for_each(Worker::end);
    drop(rings);
    assert_eq!(held(), before);
}

/// Z16: the kernel's counts, and an event for the first copy after each time that it was asked for.
#[test]
fn copies_are_counted_and_told() {
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let ring = with_pool(&owner().events(Some(EventTypes { exhausted: true, copied: true })));
    let (mut sender, receiver) = connection();
    ring.receive(receiver).unwrap();
    let mut copies = 0;
    for len in [3000, 40_000] {
        sender.write_all(&vec![1; len]).unwrap();
        let mut came = 0;
        while came < len {
            came += next_data(&ring).len();
        }
        ring.wait(Some(Duration::ZERO)).unwrap();
        assert!(ring.next_event().is_none());
        let statistics = ring.take_statistics();
        println!("{statistics:?}");
        // How many pieces there are is up to the kernel: it counts parts of packets.
        assert_eq!(statistics.copied_bytes, len as u64);
        assert!(statistics.copy_events > 0);
        assert_eq!(statistics.rearm_failures, 0);
        copies += statistics.copies;
    }
    assert!(copies > 0);
    assert_eq!(ring.take_statistics().copied_bytes, 0);
}

/// Z17: the kernel's completion queue is too short for the stream: it stops and is begun again, in order.
#[test]
fn a_stream_goes_on_after_its_completions_overflowed() {
    const TOTAL: u64 = 1 << 20;
    let _alone = alone();
    if zcrx().is_none() {
        return;
    }
    let ring = with_pool(&owner().entries(4, 8));
    let (sender, receiver) = connection();
    let mut checker = Checker::default();
    checker.expect(ring.receive(receiver).unwrap(), 5);
    // All of it is there before the first look.
    send_pattern(sender, 5, TOTAL / 8).join().unwrap();
    receive_until_end(&ring, &mut checker, 1);
    let (sender, receiver) = connection();
    checker.expect(ring.receive(receiver).unwrap(), 6);
    let sender = send_pattern(sender, 6, TOTAL);
    receive_until_end(&ring, &mut checker, 2);
    sender.join().unwrap();
    println!("{:?}", ring.take_statistics());
    assert_eq!(checker.total(), TOTAL + TOTAL / 8);
}

/// Z13: work wakes a ring that waits without limit; on any kernel with io_uring. Nothing is left of it.
#[test]
fn work_wakes_a_ring_that_waits() {
    let _alone = alone();
    let before = held();
    for options in [Options::new(), owner(), Options::new().zc_rx_import()] {
        let worker = worker(options);
        for _ in 0..100 {
            let thread = worker.handle.run_and_wait(|_| thread::current().id());
            assert_eq!(thread, Ok(worker.thread.thread().id()));
        }
        worker.end();
    }
    assert_eq!(held(), before);
}

/// What the kernel lacks has its name.
#[test]
fn a_missing_feature_has_its_name() {
    let told = Unsupported::Lacks(Feature::NoDevice).to_string();
    assert!(told.contains("ZCRX_REG_NODEV") && told.contains("7.2"), "{told}");
}
