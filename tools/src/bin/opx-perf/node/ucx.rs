//! UCX, measured by its own program: `ucx_perftest` of Debian's package ucx-utils.

use super::{Plan, Player, Side, Timed};
use crate::pattern::{Job, Pattern};
use anyhow::{Context, Result, bail, ensure};
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

/// Shared memory and the kernel's copy between processes.
const TRANSPORTS: &str = "posix,cma,self";
/// Longest time until the server listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(20);

/// Runs the jobs in one pair of processes.
pub fn play(plan: &Plan, jobs: &[Job]) -> Result<Vec<Timed>> {
    let mut batch = tempfile::NamedTempFile::new().context("can't write a file for ucx_perftest")?;
    for (number, job) in jobs.iter().enumerate() {
        let test = if job.pattern == Pattern::Latency { "tag_lat" } else { "tag_bw" };
        let Job { size, count, warmup, window, .. } = job;
        writeln!(batch, "job{number} -t {test} -s {size} -n {count} -w {warmup} -O {window}")?;
    }
    // The kernel's choice of a port, which the server takes next.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let perftest = |side| {
        let mut command = Command::new("ucx_perftest");
        command.env("UCX_TLS", TRANSPORTS).args(["-f", "-v", "-p", &port.to_string()]);
        command.args(["-c", &plan.cores.of(side).to_string(), "-b"]).arg(batch.path());
        command
    };
    let _server = Player::start(perftest(Side::Answers))?;
    let until = Instant::now() + LISTEN_LIMIT;
    let out = loop {
        let mut client = perftest(Side::Asks);
        client.arg("127.0.0.1").stderr(std::process::Stdio::null());
        let mut client = Player::start(client)?;
        let lines = client.lines()?;
        if client.0.wait()?.success() {
            break lines;
        }
        ensure!(Instant::now() < until, "ucx_perftest fails, or doesn't listen");
        std::thread::yield_now();
    };
    let mut found = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        let name = format!("job{number},");
        let Some(values) = out.iter().find_map(|line| line.strip_prefix(&name)) else { bail!("no result of {job}") };
        // Iterations, median, average, overall: microseconds, half a round trip of a ping-pong.
        let micros: f64 = values.split(',').nth(3).unwrap_or_default().parse().context("ucx_perftest's output")?;
        let trips = if job.pattern == Pattern::Latency { 2 } else { 1 };
        found.push((*job, Duration::from_secs_f64(micros * 1e-6 * (trips * job.count) as f64)));
    }
    Ok(found)
}
