//! A token goes round a ring of ranks, a thread with an endpoint each, and collects their numbers:
//!
//!     cargo run -p opx-stack --example ring [RANKS [LAPS]]

mod emulated;

use anyhow::{Context, ensure};
use opx_emu::EmuBus;
use opx_stack::{Address, Completion, Config, Domain, EndpointId, PollSet};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

const LIMIT: Option<Duration> = Some(Duration::from_secs(120));

struct Rank {
    number: u64,
    set: PollSet<EmuBus>,
    endpoint: EndpointId,
    next: Address,
}

impl Rank {
    fn send(&mut self, token: u64) -> anyhow::Result<()> {
        let next = self.next;
        // At most 16 bytes: the endpoint keeps a copy, and nobody is told of its end.
        Ok(self.set.endpoint(self.endpoint)?.inject(next, &token.to_le_bytes())?)
    }

    /// Waits for the token; sleeps meanwhile.
    fn receive(&mut self) -> anyhow::Result<u64> {
        self.set.endpoint(self.endpoint)?.receive(None, vec![0; 8], 0).map_err(|refused| refused.error)?;
        let Completion::Received { buffer, .. } = self.set.wait(LIMIT)?.completion else {
            anyhow::bail!("that was no token");
        };
        Ok(u64::from_le_bytes(buffer.into_vec().try_into().ok().context("a token of 8 bytes")?))
    }

    /// What the token has come to when it comes back to the first; the others pass it on.
    fn run(mut self, laps: u64, ranks: usize, quiet: &AtomicUsize) -> anyhow::Result<Option<u64>> {
        let mut token = 0;
        for _ in 0..laps {
            if self.number == 0 {
                self.send(token)?;
                token = self.receive()?;
            } else {
                token = self.receive()? + self.number;
                self.send(token)?;
            }
        }
        emulated::leave_together(&mut self.set, self.endpoint, quiet, ranks)?;
        Ok((self.number == 0).then_some(token))
    }
}

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u64>());
    let ranks = numbers.next().transpose()?.unwrap_or(4);
    let laps = numbers.next().transpose()?.unwrap_or(100);
    ensure!((2..=16).contains(&ranks), "a ring has 2 to 16 ranks");

    let (_lab, hfi) = emulated::adapter()?;
    let domain = Domain::open(&hfi)?;
    let mut all = Vec::new();
    for _ in 0..ranks {
        let mut set = domain.poll_set();
        let endpoint = set.open(Config::default())?;
        let address = set.endpoint(endpoint)?.address();
        all.push((set, endpoint, address));
    }
    let mut next: Vec<_> = all.iter().map(|(_, _, address)| *address).collect();
    next.rotate_left(1);

    let quiet = AtomicUsize::new(0);
    let ends = std::thread::scope(|scope| {
        let members = all.into_iter().zip(next).zip(0..);
        let threads: Vec<_> = members
            .map(|(((set, endpoint, _), next), number)| {
                let rank = Rank { number, set, endpoint, next };
                let quiet = &quiet;
                scope.spawn(move || rank.run(laps, ranks as usize, quiet))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a rank panicked")).collect::<anyhow::Result<Vec<_>>>()
    })?;
    let token = ends.into_iter().flatten().next().context("the first rank has the token")?;
    println!("{laps} laps of {ranks} ranks: the token has come to {token}");
    ensure!(token == laps * ranks * (ranks - 1) / 2);
    Ok(())
}
