//! Instructions of a packet by PIO, from its model to its last store, with each store that this processor has.

mod common;

use common::{Bench, LONG, PAYLOAD};
use opx_bench::{Cases, Counted, Goal, Table};
use opx_bus::BlockStore;
use opx_defs::units::Blocks;

#[global_allocator]
static ALLOC: opx_bench::Allocator = opx_bench::ALLOCATOR;

/// Most instructions of a packet without payload.
const BARE: Goal = Goal::AtMost(60.0);

/// Most instructions of a packet with 1 KiB of payload. Narrower stores are only told: eight or four of them a block take what
/// they take.
fn long_goal(store: BlockStore) -> Goal {
    match store.name() {
        "avx512" | "movdir64b" => Goal::AtMost(150.0),
        "avx" => Goal::AtMost(200.0),
        _ => Goal::None,
    }
}

/// A context that runs out and wraps every few packets without payload, as a rule not.
const SHORT: Blocks = Blocks(30);

type Send = fn(&mut Bench) -> bool;
const WAYS: [(&str, Send); 3] = [
    ("no payload", |bench| bench.send_bare()),
    ("1 KiB from a slice", |bench| bench.send_long()),
    ("1 KiB from a slot", |bench| bench.send_stored()),
];

fn main() -> anyhow::Result<()> {
    assert_eq!(PAYLOAD, 1024);
    let stores: Vec<BlockStore> = BlockStore::available().collect();
    for name in BlockStore::names().filter(|name| stores.iter().all(|store| store.name() != *name)) {
        println!("SKIPPED: this processor has no {name}");
    }
    let mut cases = Cases::default();
    let give_back: fn(&mut Bench) = Bench::give_back;
    for store in &stores {
        cases.add_with("", Bench::new(*store, SHORT)?, give_back, |bench| assert!(bench.send_bare()));
        cases.add_with("", Bench::new(*store, LONG)?, give_back, |bench| assert!(bench.send_long()));
        cases.add_with("", Bench::new(*store, LONG)?, give_back, |bench| assert!(bench.send_stored()));
    }
    let counted = cases.count()?;

    let mut table = Table::new("pio");
    let mut clean = Vec::new();
    let mut counts = counted.iter();
    for store in &stores {
        let long = long_goal(*store);
        for ((way, _), goal) in WAYS.iter().zip([BARE, long, long]) {
            let Some(count) = counts.next() else { break };
            table.add(&format!("{way}, {store}"), count.median() as f64, "instructions", goal);
            table.add(&format!("{way}, {store}, with credit returns"), count.mean(), "instructions", Goal::None);
            clean.push(count);
        }
    }
    let all = |of: fn(&Counted) -> u64| clean.iter().map(|count| of(count)).sum::<u64>() as f64;
    let none = Goal::AtMost(0.0);
    table.add("fences of all packets", all(|c| c.total().fences), "", none);
    table.add("locked instructions of all packets", all(|c| c.total().locked), "", none);
    table.add("divisions of all packets", all(|c| c.total().divisions), "", none);
    table.add("system calls of all packets", all(|c| c.total().system_calls), "", none);
    let mut bench = Bench::new(BlockStore::best(), LONG)?;
    let allocated = opx_bench::allocations(|| {
        for (_, send) in WAYS.iter().cycle().take(3000) {
            bench.give_back();
            assert!(send(&mut bench));
        }
    });
    table.add("allocations of 3000 packets", allocated as f64, "", none);
    table.write()?;
    anyhow::ensure!(table.met(), "a goal isn't met");
    Ok(())
}
