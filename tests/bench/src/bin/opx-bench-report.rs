//! Joins the tables of all benches that ran into one: `target/opx-bench/all.md` and `all.json`. `.ci/bench` runs it last.

use std::process::ExitCode;

fn main() -> ExitCode {
    match opx_bench::report() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a goal isn't met by a count, see NO above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("can't join the tables in target/opx-bench: {error}; run .ci/bench");
            ExitCode::FAILURE
        }
    }
}
