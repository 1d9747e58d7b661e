//! The counter counts: a known number of instructions, the same each time, with the kinds that it tells apart.

use opx_bench::{Cases, Steps};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering, fence};

fn main() -> ExitCode {
    let (mut small, mut large) = (0u64, 0u64);
    let cell = AtomicU64::new(0);
    let mut divisor = 3u64;
    let mut cases = Cases::default();
    cases.add("nothing", || {});
    cases.add("100 additions", || (0..100).for_each(|_| small = black_box(small + 1)));
    cases.add("200 additions", || (0..200).for_each(|_| large = black_box(large + 1)));
    cases.add("a fence", || fence(Ordering::SeqCst));
    cases.add("a locked addition", || {
        black_box(cell.fetch_add(1, Ordering::Relaxed));
    });
    cases.add("a division", || divisor = black_box(1000 / black_box(divisor)) | 1);
    cases.add("a system call", || drop(std::fs::metadata("/")));
    let counted = match cases.count() {
        Ok(counted) => counted,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let [nothing, hundred, two_hundred, fenced, locked, divided, called] = &counted[..] else {
        unreachable!("as many as there are cases");
    };
    let all_alike = |name: &str, runs: &[Steps]| {
        assert!(runs.iter().all(|run| *run == runs[0]), "{name} differs from run to run: {runs:?}");
    };
    for case in &counted {
        all_alike(&case.name, &case.runs);
    }
    assert!(nothing.median() <= 20, "{nothing:?}");
    let step = two_hundred.median() - hundred.median();
    assert!(step >= 100 && step.is_multiple_of(100), "100 additions more take {step} instructions");
    assert_eq!((fenced.runs[0].fences + fenced.runs[0].locked, nothing.runs[0].fences), (1, 0));
    assert_eq!((locked.runs[0].locked, nothing.runs[0].locked), (1, 0));
    assert_eq!((divided.runs[0].divisions, nothing.runs[0].divisions), (1, 0));
    assert_eq!((called.runs[0].system_calls, nothing.runs[0].system_calls), (1, 0));
    println!("counter: 7 cases counted");
    ExitCode::SUCCESS
}
