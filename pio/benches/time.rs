//! Time of a packet by PIO on plain memory, with each store that this processor has. What a device adds isn't in it.

mod common;

use common::{Bench, LONG};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use opx_bus::BlockStore;

fn time(criterion: &mut Criterion) {
    for store in BlockStore::available() {
        for (way, send) in [
            ("no payload", Bench::send_bare as fn(&mut Bench) -> bool),
            ("1 KiB", Bench::send_long),
            ("1 KiB slot", Bench::send_stored),
        ] {
            let Ok(mut bench) = Bench::new(store, LONG) else { panic!("the emulated adapter opens") };
            criterion.bench_function(&format!("pio/{way}/{store}"), |run| {
                run.iter_batched(
                    || (),
                    |()| {
                        bench.give_back();
                        assert!(send(&mut bench));
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

criterion_group!(benches, time);
criterion_main!(benches);
