//! The best means of receiving that a kernel has, and the same bytes by each.

use super::*;

/// Z18: the best means that there is, and the reason why not a better one.
#[test]
fn ingress_takes_the_best_means_and_says_why() {
    let _alone = alone();
    let before = held();
    let none = Fake::new(Answers { zcrx: Err(libc::EOPNOTSUPP), ..Answers::default() });
    let no_device = lacking(|zcrx| zcrx.register_flags = 1);
    let failing = |errnos: &[i32]| {
        let fake = Fake::default();
        errnos.iter().for_each(|errno| fake.fail_next(Operation::Register, *errno));
        fake
    };
    for (fake, options, means, reasons) in [
        (Fake::default(), device(), Means::Device, vec![]),
        (Fake::default(), Options::new(), Means::NoDevice, vec!["no hardware queue is named"]),
        (failing(&[libc::EOPNOTSUPP]), device(), Means::NoDevice, vec!["interface eth0, queue 1: "]),
        (no_device, device(), Means::Device, vec![]),
        (failing(&[libc::EPERM, libc::EPERM]), device(), Means::Plain, vec!["CAP_NET_ADMIN", "CAP_NET_ADMIN"]),
        (none, device(), Means::Plain, vec!["this kernel has no", "this kernel has no"]),
        (failing(&[libc::EPERM]), Options::new(), Means::Plain, vec!["no hardware queue is named", "CAP_NET_ADMIN"]),
    ] {
        let ingress = Ingress::auto_on(&fake, &options);
        assert_eq!(ingress.means(), means, "{options:?}");
        let told: Vec<String> = ingress.refusals().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), reasons.len(), "{told:?}");
        for (told, reason) in told.iter().zip(reasons) {
            assert!(told.contains(reason), "{told}");
        }
        assert_eq!(ingress.ring().is_some(), means != Means::Plain);
    }
    // No ring at all.
    let fake = Fake::default();
    for _ in 0..2 {
        fake.fail_next(Operation::Open, libc::ENOSYS);
    }
    let ingress = Ingress::auto_on(&fake, &device());
    assert_eq!(ingress.means(), Means::Plain);
    assert!(ingress.refusals().iter().all(|refusal| matches!(refusal.why, WhyNot::Open(_))));
    drop((fake, ingress));
    assert_eq!(held(), before);
}

/// Z18: by each means the same comes.
#[test]
fn the_same_comes_by_each_means() {
    const TOTAL: u64 = 500_000;
    let _alone = alone();
    let before = held();
    let refusing = Fake::default();
    refusing.fail_next(Operation::Register, libc::EPERM);
    for (fake, means) in [(Fake::default(), Means::NoDevice), (refusing, Means::Plain)] {
        let ingress = Ingress::auto_on(&fake, &Options::new().num_buffers(16));
        assert_eq!(ingress.means(), means);
        let mut checker = Checker::default();
        let mut senders = Vec::new();
        for seed in 0..3 {
            let (sender, receiver) = connection();
            checker.expect(ingress.receive(receiver).unwrap(), seed);
            senders.push(send_pattern(sender, seed, TOTAL));
        }
        let (_peer, receiver) = connection();
        let stopped = ingress.receive(receiver).unwrap();
        ingress.stop(stopped);
        while checker.ended < 4 {
            match ingress.next() {
                Some(Incoming::Data { stream, data }) => checker.check(stream, &data),
                Some(Incoming::End { .. }) => checker.ended += 1,
                Some(other) => panic!("{other:?}"),
                None => ingress.wait(Some(Duration::from_secs(20))).unwrap(),
            }
        }
        assert_eq!(checker.total(), 3 * TOTAL);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
    assert_eq!(held(), before);
}
