//! Receives that are cancelled (libfabric's recv_cancel).

mod common;

use common::{bench, data};
use opx_stack::{Completion, Config, OperationError, Pattern};

#[test]
fn a_cancelled_receive_comes_back_with_its_buffer_and_leaves_the_others_alone() {
    let mut bench = bench(Config::default());
    let tagged: Vec<_> =
        (0..10).map(|n| bench.b.tag_receive(Pattern::exact(1), vec![n as u8; 20], n).unwrap()).collect();
    let untagged: Vec<_> = (10..20).map(|n| bench.b.receive(None, vec![n as u8; 20], n).unwrap()).collect();
    for n in [0, 4, 9] {
        for (ids, context) in [(&tagged, n), (&untagged, n + 10)] {
            assert!(bench.b.cancel(ids[n as usize]));
            assert!(!bench.b.cancel(ids[n as usize]), "only once");
            let Some(Completion::Failed { context: told, error, buffer }) = bench.b.poll_completion() else { panic!() };
            assert_eq!((told, error, buffer), (context, OperationError::Cancelled, vec![context as u8; 20].into()));
            assert_eq!(bench.b.poll_completion(), None);
        }
    }
    let to = bench.b.address();
    for n in 0..7 {
        bench.a.tag_send(to, 1, data(n, 20), 0).unwrap();
        bench.a.send(to, data(n, 20), 0).unwrap();
    }
    let mut order = Vec::new();
    bench.run(|bench| {
        while let Some(completion) = bench.b.poll_completion() {
            let Completion::Received { context, .. } = completion else { panic!("{completion:?}") };
            order.push(context);
        }
        order.len() == 14
    });
    let of = |least| order.iter().copied().filter(|n| (least..least + 10).contains(n)).collect::<Vec<_>>();
    assert_eq!((of(0), of(10)), (vec![1, 2, 3, 5, 6, 7, 8], vec![11, 12, 13, 15, 16, 17, 18]));
}

#[test]
fn a_receive_that_has_its_message_is_not_cancelled() {
    for len in [10, 3000, 16_000, 100_000] {
        let mut bench = bench(Config::default());
        let to = bench.b.address();
        // The message is there, or on its way, when it is asked for.
        bench.a.tag_send(to, 1, data(1, len), 0).unwrap();
        bench.run(|bench| bench.b.counters().unexpected_messages == 1);
        let late = bench.b.tag_receive(Pattern::exact(1), vec![0; len], 1).unwrap();
        assert!(!bench.b.cancel(late));
        assert!(matches!(bench.next_at_b(), Completion::Received { context: 1, .. }));
        // It comes after it was asked for: cancelled at any time, it ends once.
        let early = bench.b.tag_receive(Pattern::exact(2), vec![0; len], 2).unwrap();
        bench.a.tag_send(to, 2, data(2, len), 0).unwrap();
        let before = bench.b.counters().packets_in;
        bench.run(|bench| bench.b.counters().packets_in > before);
        assert!(!bench.b.cancel(early), "its first packet has come");
        assert!(matches!(bench.next_at_b(), Completion::Received { context: 2, .. }));
        assert!(!bench.b.cancel(early));
        bench.quiet();
        assert_eq!(bench.b.poll_completion(), None);
    }
}

#[test]
fn a_name_of_a_receive_never_means_another() {
    let mut bench = bench(Config::default());
    let first = bench.b.tag_receive(Pattern::exact(1), vec![0; 8], 1).unwrap();
    assert!(bench.b.cancel(first));
    let second = bench.b.tag_receive(Pattern::exact(1), vec![0; 8], 2).unwrap();
    assert!(!bench.b.cancel(first));
    assert!(matches!(bench.b.poll_completion(), Some(Completion::Failed { context: 1, .. })));
    assert_eq!(bench.b.poll_completion(), None);
    assert!(bench.b.cancel(second));
}
