//! As many send contexts as the chip has, side by side.

mod common;

use common::Bench;
use opx_defs::units::{Blocks, Psn};
use opx_hw::ContextError;

#[test]
fn all_contexts_send_side_by_side() {
    let mut bench = Bench::new();
    let room = bench.hfi.pio_room();
    assert_eq!(room.contexts, 160);
    let share = (room.blocks / 160) as u16;
    let mut senders: Vec<_> = (0..160).map(|_| bench.sender(share)).collect();
    let after = bench.hfi.pio_room();
    assert_eq!((after.contexts, after.blocks), (0, room.blocks - 160 * u32::from(share)));
    let refused = bench.hfi.send_context(Blocks(1)).unwrap_err();
    assert!(matches!(refused, ContextError::Exhausted { count: 160, .. }), "{refused}");
    let mut numbers: Vec<u16> = senders.iter().map(|sender| sender.context().number().0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..160).collect::<Vec<_>>());
    for (psn, sender) in (0u32..).zip(&mut senders) {
        let mut head = bench.head(128);
        head.header.set_psn(Psn::new(psn));
        sender.send(&head, &[psn as u8; 128]).unwrap();
    }
    bench.settle();
    let mut arrived = bench.arrived();
    arrived.sort_unstable();
    assert_eq!(arrived, (0..160).map(|psn| (psn, vec![psn as u8; 128])).collect::<Vec<_>>());
    // One that is dropped makes room for another, of its size and no larger.
    senders.swap_remove(77);
    let largest = bench.hfi.pio_room().largest;
    assert!(matches!(bench.hfi.send_context(Blocks(largest as u16 + 1)).unwrap_err(), ContextError::NoRoom { .. }));
    let mut another = bench.sender(largest as u16);
    bench.is_in_order(&mut another);
}
