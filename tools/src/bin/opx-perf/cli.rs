//! Command line of opx-perf, checked as far as it can be before an adapter is touched.

use crate::node::{self, Cores, Library, Side};
use crate::pattern::{FETCH_MAX, Job, Pattern};
use crate::transport::Access;
use clap::{Parser, ValueEnum};
use opx_tools::adapter::AdapterSpec;
use opx_tools::cli::IcodeArg;
use std::path::PathBuf;

/// Bytes that a measurement moves unless told otherwise, as far as the bounds of its messages allow.
const BYTES: u64 = 32 << 20;
/// What is measured, unless told otherwise.
const PATTERNS: [Pattern; 2] = [Pattern::Latency, Pattern::Bandwidth];
const SIZES: [usize; 11] = [0, 8, 64, 1 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
const WINDOWS: [u32; 1] = [64];
/// Longest message.
const LONGEST: usize = 1 << 30;

/// Measure latency, bandwidth and message rate: of an adapter looped back to itself, or of two on a cable.
///
/// Exit code: 0 it was measured, 2 it couldn't be done.
#[derive(Debug, Parser)]
#[command(name = "opx-perf", version, about)]
pub struct Cli {
    /// Adapter: "emulated", "vfio-user:SOCKET", or a PCI address such as 0000:af:00.0.
    #[arg(long, value_name = "ADAPTER", default_value = "emulated")]
    pub adapter: AdapterSpec,

    /// Be one end of a cable: the client asks and measures, the server answers and takes no other options.
    #[arg(long, value_enum)]
    pub role: Option<Role>,

    /// What to measure [default: latency,bandwidth].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub pattern: Vec<Pattern>,

    /// Bytes of the messages, as 8, 4k or 1M [default: 0,8,64,1k,4k,8k,16k,64k,256k,1M,4M].
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = size)]
    pub sizes: Vec<usize>,

    /// Messages under way at a time when bandwidth is measured [default: 64].
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub window: Vec<u32>,

    /// Receives posted at each end for messages that nobody sends: the depth of the queue in which each message is looked for.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub posted: u64,

    /// Messages of a measurement; by default as many as make 32 MiB, from 20 to 10,000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub count: Option<u64>,

    /// Rounds of each measurement, those of several transports in turn; told is the median.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,

    /// Don't look at the content of some messages of each size first.
    #[arg(long)]
    pub unchecked: bool,

    /// Run the same on a provider of libfabric, in the same rounds: shm, tcp, psm2, opx.
    #[arg(long, value_name = "PROVIDER", value_delimiter = ',')]
    pub libfabric: Vec<String>,

    /// The library to load for that.
    #[arg(long, value_name = "FILE", default_value = "libfabric.so.1")]
    pub library: PathBuf,

    /// Measure shared memory between two processes of this node, without an adapter, by several libraries in turn:
    /// opx, libfabric:PROVIDER, openmpi, mpich, ucx. Without --pattern, --sizes and --window it is a list of its own; the result is a
    /// table in Markdown.
    #[arg(long, value_name = "LIBRARIES", value_delimiter = ',',
          conflicts_with_all = ["libfabric", "unchecked", "icode", "firmware", "histogram", "posted"])]
    pub node: Vec<Library>,

    /// The processors of the two ends.
    #[arg(long, value_name = "A,B", default_value = "0,1", requires = "node")]
    pub cores: Cores,

    /// This process is an end of such a measurement, and plays these.
    #[arg(long, value_delimiter = ',', hide = true)]
    pub node_end: Vec<Job>,

    /// Which.
    #[arg(long, value_enum, hide = true)]
    pub side: Option<Side>,

    /// What the emulated adapter is made of.
    #[arg(long, value_enum, default_value_t = IcodeArg::Simulator)]
    pub icode: IcodeArg,

    /// Folder with the adapter's firmware files. Without it, /lib/firmware, and for an emulated adapter files made for it.
    #[arg(long, value_name = "DIR")]
    pub firmware: Option<PathBuf>,

    /// Print a histogram of each ping-pong, too.
    #[arg(long)]
    pub histogram: bool,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,

    /// Write a picture (SVG).
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// Which end of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Answers.
    Server,
    /// Asks.
    Client,
}

impl Cli {
    /// Checks what one option alone can't show.
    ///
    /// # Errors
    /// In a line that says what to do.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.role.is_some() && self.adapter == AdapterSpec::Emulated {
            anyhow::bail!("--role needs an adapter with a cable; serve two with opx-emu --cable and name a socket");
        }
        if !self.node.is_empty() && self.role.is_some() {
            anyhow::bail!("--node starts both of its ends by itself; leave out --role");
        }
        if !self.node.is_empty() && self.adapter != AdapterSpec::Emulated {
            anyhow::bail!("--node is for the machine's memory, and takes no --adapter");
        }
        if self.role.is_some() && !self.libfabric.is_empty() {
            anyhow::bail!("--libfabric runs both ends in this process; leave out --role");
        }
        let takes_none = |pattern: &&Pattern| !self.sizes().iter().any(|size| pattern.takes(*size));
        if let Some(pattern) = self.patterns().iter().find(takes_none) {
            anyhow::bail!(
                "--pattern {} takes none of --sizes: give 1 or more bytes, and for fetches a multiple of 8 up to {FETCH_MAX}",
                pattern.name()
            );
        }
        Ok(())
    }

    fn patterns(&self) -> &[Pattern] {
        if self.pattern.is_empty() { &PATTERNS } else { &self.pattern }
    }

    fn sizes(&self) -> &[usize] {
        if self.sizes.is_empty() { &SIZES } else { &self.sizes }
    }

    fn windows(&self) -> &[u32] {
        if self.window.is_empty() { &WINDOWS } else { &self.window }
    }

    /// What has to be done to the other end's memory.
    pub fn needs(&self) -> Vec<Access> {
        self.patterns().iter().filter_map(|pattern| pattern.access()).collect()
    }

    /// The measurements, in order.
    pub fn jobs(&self) -> Vec<Job> {
        self.each(|pattern, size, window| {
            let count = self.count.unwrap_or_else(|| (BYTES / (size as u64).max(1)).clamp(20, 10_000));
            Job { pattern, size, window, warmup: count / 10, count, rotating: false }
        })
    }

    /// Those between two processes of this node.
    pub fn node_jobs(&self) -> Vec<Job> {
        if self.pattern.is_empty() && self.sizes.is_empty() && self.window.is_empty() {
            return node::jobs(self.count);
        }
        self.each(|pattern, size, window| node::job(pattern, size, window, false, self.count))
    }

    fn each(&self, job: impl Fn(Pattern, usize, u32) -> Job) -> Vec<Job> {
        let mut jobs = Vec::new();
        for pattern in self.patterns() {
            for size in self.sizes() {
                let windows = if pattern.is_latency() { &[1] } else { self.windows() };
                let windows = windows.iter().filter(|_| pattern.takes(*size));
                jobs.extend(windows.map(|window| job(*pattern, *size, *window)));
            }
        }
        jobs
    }
}

/// Reads a size such as 8, 4k or 1M.
fn size(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor));
    bytes.filter(|bytes| *bytes <= LONGEST).ok_or_else(|| "give bytes as 8, 4k or 1M, at most 1024M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(
            (size("0"), size("8"), size("4k"), size("1M"), size("1024M")),
            (Ok(0), Ok(8), Ok(4096), Ok(1 << 20), Ok(1 << 30))
        );
        for text in ["", "k", "-1", "1G", "1025M", "99999999999999999999", "18446744073709551615k"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_ping_pong_has_one_window_and_bandwidth_all_of_them() {
        let cli = Cli::try_parse_from(["x", "--sizes", "8,1M", "--window", "1,64"]).unwrap();
        let jobs = cli.jobs();
        assert_eq!(jobs.iter().filter(|job| job.pattern == Pattern::Latency).count(), 2);
        assert_eq!(jobs.iter().filter(|job| job.pattern == Pattern::Bandwidth).count(), 4);
        assert_eq!((jobs[0].count, jobs[1].count), (10_000, 32));
        let cli = Cli::try_parse_from(["x", "--pattern", "fetch,write-latency", "--sizes", "0,8,12,4k,8k"]).unwrap();
        let jobs: Vec<_> = cli.jobs().iter().map(|job| (job.pattern, job.size)).collect();
        let fetches = [8, 4096].map(|size| (Pattern::Fetch, size));
        let writes = [8, 12, 4096, 8192].map(|size| (Pattern::WriteLatency, size));
        assert_eq!(jobs, [&fetches[..], &writes[..]].concat());
    }

    #[test]
    fn between_two_processes_what_is_asked_for_is_measured() {
        let jobs =
            |args: &[&str]| Cli::try_parse_from([&["x", "--node", "opx"][..], args].concat()).unwrap().node_jobs();
        assert!(jobs(&[]).iter().any(|job| job.rotating));
        let asked: Vec<_> =
            jobs(&["--sizes", "0,8,4k", "--window", "1,16", "--pattern", "read,latency", "--count", "9"])
                .iter()
                .map(|job| (job.pattern, job.size, job.window, job.count, job.rotating))
                .collect();
        let reads =
            [(8, 1), (8, 16), (4096, 1), (4096, 16)].map(|(size, window)| (Pattern::Read, size, window, 9, false));
        let latency = [0, 8, 4096].map(|size| (Pattern::Latency, size, 1, 9, false));
        assert_eq!(asked, [&reads[..], &latency].concat());
    }

    #[test]
    fn options_that_contradict_each_other_are_told() {
        let check = |args: &[&str]| Cli::try_parse_from(args).unwrap().check();
        assert!(check(&["x"]).is_ok());
        assert!(check(&["x", "--role", "client"]).is_err());
        assert!(check(&["x", "--pattern", "read", "--sizes", "0"]).is_err());
        assert!(check(&["x", "--role", "server", "--adapter", "vfio-user:/a", "--libfabric", "shm"]).is_err());
        assert!(check(&["x", "--role", "server", "--adapter", "vfio-user:/a"]).is_ok());
        assert!(check(&["x", "--node", "opx", "--adapter", "vfio-user:/a"]).is_err());
        for other in [&["--libfabric", "shm"][..], &["--histogram"], &["--unchecked"], &["--posted", "9"]] {
            assert!(Cli::try_parse_from([&["x", "--node", "opx"][..], other].concat()).is_err(), "{other:?}");
        }
    }
}
