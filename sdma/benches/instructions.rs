//! Instructions for each descriptor of a run of packets, from the fragments to the packet's token back.

mod common;

use common::{Bench, RUN};
use opx_bench::{Cases, Goal, Table};

#[global_allocator]
static ALLOC: opx_bench::Allocator = opx_bench::ALLOCATOR;

/// What is counted: how it queues a run, the tokens that come back, slots of the ring, and the goal for each.
type Way = (&'static str, fn(&mut Bench), usize, usize, Goal);
const GOAL: Goal = Goal::AtMost(40.0);
const WAYS: [Way; 5] = [
    ("a run of packets of one fragment", Bench::submit_run, 1, RUN, GOAL),
    ("a run of packets of two fragments", Bench::submit_run_of_pairs, 1, RUN, GOAL),
    ("a run of packets with a stored header, five edits", Bench::submit_run_edited, 1, 3 * RUN, Goal::None),
    ("packets of one fragment, each with a token", Bench::submit_singles, RUN, RUN, Goal::None),
    ("packets of four fragments, each with a token", Bench::submit_fours, RUN, 4 * RUN, Goal::None),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut cases = Cases::default();
    for (name, submit, tokens, ..) in WAYS {
        let nothing: fn(&mut Bench) = |_| {};
        cases.add_with(name, Bench::new()?, nothing, move |bench| {
            submit(bench);
            bench.work();
            assert_eq!(bench.take(), tokens);
        });
    }
    let counted = cases.count()?;

    let mut table = Table::new("sdma");
    for ((name, _, _, slots, goal), count) in WAYS.iter().zip(&counted) {
        // All of it: checks, descriptors, tail write, head, and the tokens back.
        let each = count.most() as f64 / *slots as f64;
        table.add(&format!("descriptor of {name}"), each, "instructions", *goal);
    }
    let none = Goal::AtMost(0.0);
    let all = |of: fn(&opx_bench::Counted) -> u64| counted.iter().map(of).sum::<u64>() as f64;
    table.add("fences of all runs", all(|c| c.total().fences), "", none);
    table.add("locked instructions of all runs", all(|c| c.total().locked), "", none);
    table.add("divisions of all runs", all(|c| c.total().divisions), "", none);
    table.add("system calls of all runs", all(|c| c.total().system_calls), "", none);

    let mut bench = Bench::new()?;
    let (before, mut runs) = (bench.doorbells(), 0);
    let allocated = opx_bench::allocations(|| {
        for (_, submit, tokens, ..) in WAYS.iter().cycle().take(300) {
            submit(&mut bench);
            bench.work();
            assert_eq!(bench.take(), *tokens);
            runs += 1;
        }
    });
    table.add("allocations of 300 runs", allocated as f64, "", none);
    table.add("tail writes a run", (bench.doorbells() - before) as f64 / f64::from(runs), "", Goal::AtMost(1.0));
    table.write()?;
    if table.met() { Ok(()) } else { Err("a goal isn't met".into()) }
}
