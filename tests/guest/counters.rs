//! Counters that a guest's script prints, in lines `opx-counter: MOMENT ADAPTER NAME NUMBER`.

use opx_tests::guest::GuestError;
use std::collections::HashMap;

/// What the kernel has counted, by moment, adapter and name.
#[derive(Debug)]
pub struct Counters(HashMap<(String, String, String), u64>);

impl Counters {
    /// Takes them from what a guest has said.
    pub fn read(lines: &[String]) -> Self {
        let counter = |line: &String| {
            let mut words = line.strip_prefix("opx-counter: ")?.split(' ').map(str::to_owned);
            let key = (words.next()?, words.next()?, words.next()?);
            Some((key, words.next()?.parse().ok()?))
        };
        Self(lines.iter().filter_map(counter).collect())
    }

    /// A counter at a moment.
    pub fn at(&self, moment: &str, adapter: usize, name: &str) -> Result<u64, GuestError> {
        let count = self.0.get(&(moment.to_owned(), format!("hfi1_{adapter}"), name.to_owned()));
        count.copied().ok_or_else(|| GuestError::Judged(format!("hfi1_{adapter} has no {name} {moment}")))
    }

    /// By how much a counter rose between two moments.
    pub fn rise(&self, adapter: usize, name: &str, from: &str, to: &str) -> Result<u64, GuestError> {
        let (first, last) = (self.at(from, adapter, name)?, self.at(to, adapter, name)?);
        last.checked_sub(first)
            .ok_or_else(|| GuestError::Judged(format!("hfi1_{adapter}: {name} fell from {first} to {last}")))
    }
}

/// The number that `name=` has in an emulator's answer to `counts`; what isn't told hasn't happened.
pub fn told(answer: &str, name: &str) -> u64 {
    let number = |word: &str| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
    answer.split(' ').find_map(number).unwrap_or(0)
}
