//! Time of a run of packets by SDMA on plain memory. What a device adds isn't in it.

mod common;

use common::{Bench, RUN};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn time(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sdma");
    group.throughput(Throughput::Elements(RUN as u64));
    for (name, submit) in [
        ("run of one fragment", Bench::submit_run as fn(&mut Bench)),
        ("run with a stored header", Bench::submit_run_edited),
        ("one fragment", Bench::submit_singles),
        ("four fragments", Bench::submit_fours),
    ] {
        let Ok(mut bench) = Bench::new() else { panic!("the emulated adapter opens") };
        group.bench_function(name, |run| {
            run.iter(|| {
                submit(&mut bench);
                bench.work();
                assert!(bench.take() > 0);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, time);
criterion_main!(benches);
