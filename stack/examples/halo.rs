//! Heat spreads along a rod that ranks share out among them. After each step a rank writes its outermost cells into its
//! neighbours' memory, one-sided; data that goes with a write tells its target that it is there:
//!
//!     cargo run -p opx-stack --example halo [RANKS [STEPS]]
//!
//! The result is compared, bit by bit, with that of one rank alone.

mod emulated;

use anyhow::{Context, ensure};
use opx_bus::SharedMem;
use opx_emu::EmuBus;
use opx_stack::regions::{Access, MemoryRegion, Registration};
use opx_stack::{Completion, Config, Domain, EndpointId, PollSet, Remote, RequestError, SendError, Write};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Cells of a rank.
const CELLS: usize = 50;
const LIMIT: Option<Duration> = Some(Duration::from_secs(120));

/// One step: each cell moves towards its neighbours.
fn step(cells: &[f64], left: f64, right: f64) -> Vec<f64> {
    let at = |n: usize| n.checked_sub(1).map_or(left, |n| cells.get(n).copied().unwrap_or(right));
    cells.iter().enumerate().map(|(n, cell)| cell + 0.25 * (at(n) - 2.0 * cell + at(n + 2))).collect()
}

/// How it begins: hot at one end.
fn start(ranks: usize) -> Vec<f64> {
    (0..ranks * CELLS).map(|n| if n < 10 { 100.0 } else { 0.0 }).collect()
}

struct Rank {
    set: PollSet<EmuBus>,
    endpoint: EndpointId,
    /// What the neighbours write: the cell left of the first one and that right of the last, for even steps and for odd ones. A
    /// neighbour may be one step ahead, but not two, as that takes a write from here.
    halo: MemoryRegion,
    /// The halos of the neighbours, if there are any.
    neighbours: [Option<Remote>; 2],
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// Where in a halo the cell of a side is.
fn place(step: usize, side: usize) -> usize {
    (step % 2 * 2 + side) * 8
}

impl Rank {
    fn run(mut self, mut cells: Vec<f64>, steps: usize) -> anyhow::Result<(Self, Vec<f64>)> {
        // How many steps the cells of each side have come for.
        let mut come = [0; 2];
        for n in 0..steps {
            let edges = [cells.first(), cells.last()].map(|cell| cell.copied().unwrap_or_default());
            for side in [LEFT, RIGHT] {
                // What is left of here is written to the right of there.
                self.write(side, n, edges[side])?;
            }
            while (0..2).any(|side| self.neighbours[side].is_some() && come[side] <= n) {
                match self.set.wait(LIMIT)?.completion {
                    Completion::RemoteWrite { data, .. } => come[data as usize % 2] += 1,
                    other => anyhow::bail!("{other:?}"),
                }
            }
            let [left, right] = [LEFT, RIGHT].map(|side| match self.neighbours[side] {
                Some(_) => f64::from_bits(self.halo.memory().read_u64(place(n, side))),
                // At the end of the rod nothing gets lost.
                None => edges[side],
            });
            cells = step(&cells, left, right);
        }
        Ok((self, cells))
    }

    fn write(&mut self, side: usize, step: usize, cell: f64) -> anyhow::Result<()> {
        let Some(neighbour) = self.neighbours[side] else { return Ok(()) };
        let there = 1 - side;
        let to = Remote { place: place(step, there) as u64, ..neighbour };
        let bytes = cell.to_bits().to_le_bytes().to_vec();
        let write = Write { data: Some(there as u32), silent: true, ..Write::new(to, bytes, 0) };
        while let Err(refused) = self.set.endpoint(self.endpoint)?.write_with(write.clone()) {
            ensure!(matches!(refused.error, RequestError::Send(SendError::Again(_))), refused.error);
            self.set.progress()?;
        }
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>());
    let ranks = numbers.next().transpose()?.unwrap_or(4);
    let steps = numbers.next().transpose()?.unwrap_or(100);
    ensure!((1..=16).contains(&ranks), "1 to 16 ranks share the rod");

    let (_lab, hfi) = emulated::adapter()?;
    let domain = Domain::open(&hfi)?;
    let mut all = Vec::new();
    let mut halos = Vec::new();
    for _ in 0..ranks {
        let mut set = domain.poll_set();
        let endpoint = set.open(Config::default())?;
        let halo = domain.regions().register(Registration::of(SharedMem::new(32)?, Access::REMOTE_WRITE))?;
        halos.push(Remote { peer: set.endpoint(endpoint)?.address(), key: halo.key(), place: 0 });
        all.push((set, endpoint, halo));
    }
    let rod = start(ranks);
    let quiet = AtomicUsize::new(0);
    let result = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for ((n, (set, endpoint, halo)), cells) in all.into_iter().enumerate().zip(rod.chunks(CELLS)) {
            let neighbours = [n.checked_sub(1), Some(n + 1)].map(|n| n.and_then(|n| halos.get(n).copied()));
            let rank = Rank { set, endpoint, halo, neighbours };
            let quiet = &quiet;
            threads.push(scope.spawn(move || {
                let (mut rank, cells) = rank.run(cells.to_vec(), steps)?;
                emulated::leave_together(&mut rank.set, rank.endpoint, quiet, ranks)?;
                anyhow::Ok(cells)
            }));
        }
        let parts = threads.into_iter().map(|thread| thread.join().expect("a rank panicked"));
        parts.collect::<anyhow::Result<Vec<_>>>()
    })?
    .concat();

    let mut alone = rod;
    for _ in 0..steps {
        let [left, right] = [alone.first(), alone.last()].map(|cell| cell.copied().unwrap_or_default());
        alone = step(&alone, left, right);
    }
    ensure!(result == alone, "the ranks' result isn't that of one alone");
    let hottest = result.iter().copied().reduce(f64::max).context("a rod has cells")?;
    println!("{steps} steps on {ranks} ranks of {CELLS} cells: the hottest has {hottest:.3}, as with one rank");
    Ok(())
}
