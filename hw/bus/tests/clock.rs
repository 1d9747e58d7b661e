//! The clock of real time: it doesn't go backwards between threads, it agrees with the system's, and the user can name it.

use opx_bus::clock::RealClock;
use opx_bus::clock_choice::{ClockChoice, ClockSource};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[test]
fn time_never_goes_backwards_between_threads() {
    const THREADS: usize = 4;
    const LOOKS: usize = 300_000;
    let clock = RealClock::default();
    let latest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..LOOKS {
                    let seen = latest.load(Ordering::Acquire);
                    let now = clock.now().as_nanos();
                    assert!(now >= seen, "{now} ns, after another thread had seen {seen} ns");
                    latest.fetch_max(now, Ordering::AcqRel);
                }
            });
        }
    });
    assert!(latest.into_inner() > 0);
}

/// However long either is held up: what one clock saw inside of what the other saw isn't longer.
#[test]
fn it_runs_as_fast_as_the_system_s_clock() {
    let clock = RealClock::default();
    // NTP alone may make the system's run 500 ppm faster or slower than a moment ago.
    let slack = |time: Duration| time + time / 1000 + Duration::from_nanos(10);
    let (outer, inner) = (Instant::now(), clock.now());
    clock.pause(Duration::from_millis(20));
    let (inner, outer) = (clock.now().since(inner), outer.elapsed());
    assert!(inner <= slack(outer), "{inner:?} in {outer:?} of the system's");
    assert!(inner >= Duration::from_millis(19), "{inner:?} in a pause of 20 ms");
    let (outer, inner) = (clock.now(), Instant::now());
    clock.pause(Duration::from_millis(20));
    let (inner, outer) = (inner.elapsed(), clock.now().since(outer));
    assert!(inner <= slack(outer), "{inner:?} of the system's in {outer:?}");
}

/// Prints what this process reads, for the test below.
#[test]
fn it_names_what_it_reads() {
    let clock = RealClock::default();
    let choice = ClockChoice::of_this_process();
    assert_eq!(clock.source(), choice.source());
    assert_eq!(choice.why_system().is_some(), choice.source() == ClockSource::System);
    println!("source={}.", clock.source());
}

#[test]
fn the_user_can_name_the_clock() {
    let run = |name: Option<&str>| {
        let mut run = Command::new(std::env::current_exe().unwrap());
        run.args(["--exact", "it_names_what_it_reads", "--nocapture"]).env_remove(ClockChoice::VARIABLE);
        if let Some(name) = name {
            run.env(ClockChoice::VARIABLE, name);
        }
        String::from_utf8(run.output().unwrap().stdout).unwrap()
    };
    assert!(run(Some("system")).contains("source=system."));
    // Where it can be had it differs from "system"; elsewhere the process has still run.
    let by_itself = run(None);
    if by_itself.contains("source=cycles.") {
        assert!(run(Some("cycles")).contains("source=cycles."));
    }
    // A name that isn't one changes nothing.
    assert_eq!(by_itself.contains("source=cycles."), run(Some("sundial")).contains("source=cycles."));
}
