//! Packets that nobody sent: copies of passing ones with a key or an address that is wrong here, under a right ICRC, so that
//! it is the receiver's checks, or software, that must see through them.

use crate::headers::Headers;
use crate::packet::Packet;
use opx_bus::Chance;
use opx_defs::wire::bth::BTH_BYTES;

/// BTH's queue-pair prefix of packets with a KDETH section (hfi1's parameter `kdeth_qp`).
const KDETH_PREFIX: u8 = 0x80;

/// What is wrong with a forged packet. Nothing is that the port's own tables hold: see `Forgery::apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgery {
    PartitionKey,
    JobKey,
    SourceLid,
    DestinationLid,
}

/// Percentages of the packets that arrive on data lanes before which a forged copy arrives.
///
/// ```
/// use opx_emu::{Config, Forgeries, Lab, Pacing};
///
/// let adapter = Lab::new(Pacing::Virtual).add(Config::default());
/// adapter.set_forgeries(Forgeries { job_key: 10.0, ..Forgeries::default() }, 1);
/// assert_eq!(adapter.forgery_counts().job_key, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Forgeries {
    /// With a partition key of another partition.
    pub partition_key: f64,
    /// With another job key; only packets with a KDETH section have one.
    pub job_key: f64,
    /// From another LID.
    pub source_lid: f64,
    /// To another LID.
    pub destination_lid: f64,
}

/// Forged packets that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ForgeryCounts {
    /// With a partition key of another partition.
    pub partition_key: u64,
    /// With another job key.
    pub job_key: u64,
    /// From another LID.
    pub source_lid: u64,
    /// To another LID.
    pub destination_lid: u64,
}

/// Forges copies of packets that come off the wire.
#[derive(Debug)]
pub struct Forger {
    shares: Forgeries,
    chance: Chance,
    counts: ForgeryCounts,
}

impl Default for Forger {
    fn default() -> Self {
        Self { shares: Forgeries::default(), chance: Chance::new(0), counts: ForgeryCounts::default() }
    }
}

impl Forger {
    /// Sets the shares and the seed.
    pub fn set(&mut self, shares: Forgeries, seed: u64) {
        (self.shares, self.chance) = (shares, Chance::new(seed));
    }

    /// How many were forged.
    pub fn counts(&self) -> ForgeryCounts {
        self.counts
    }

    /// The forged copies that arrive before `packet`.
    #[inline]
    pub fn copies(&mut self, packet: &Packet) -> Vec<Packet> {
        if self.shares == Forgeries::default() { Vec::new() } else { self.forge(packet) }
    }

    fn forge(&mut self, packet: &Packet) -> Vec<Packet> {
        // Management packets are looked at in other ways, and bypass packets have other headers.
        if packet.vl.0 == 15 || packet.bypass || !packet.icrc_ok() {
            return Vec::new();
        }
        let (shares, counts) = (&self.shares, &mut self.counts);
        let mut copies = Vec::new();
        for (forgery, share, count) in [
            (Forgery::PartitionKey, shares.partition_key, &mut counts.partition_key),
            (Forgery::JobKey, shares.job_key, &mut counts.job_key),
            (Forgery::SourceLid, shares.source_lid, &mut counts.source_lid),
            (Forgery::DestinationLid, shares.destination_lid, &mut counts.destination_lid),
        ] {
            // Every packet draws as often, so that one share doesn't shift the draws of another.
            if self.chance.percent(share)
                && let Some(copy) = forgery.apply(packet)
            {
                *count += 1;
                copies.push(copy);
            }
        }
        copies
    }
}

impl Forgery {
    /// A copy of `packet` with one field wrong; `None` when it has no such field.
    fn apply(self, packet: &Packet) -> Option<Packet> {
        let mut body = packet.body().to_vec();
        let headers = Headers::read(&body)?;
        let bth_at = headers.end - BTH_BYTES;
        // Where the field is, and bits that are flipped in it: LIDs stay unicast, the partition another one.
        let (at, flip) = match self {
            Self::DestinationLid => (2, [0x10, 0]),
            Self::SourceLid => (6, [0x10, 0]),
            Self::PartitionKey => (bth_at + 2, [0x12, 0x34]),
            Self::JobKey if headers.bth.qp_prefix() == KDETH_PREFIX => {
                headers.kdeth(&body)?;
                (headers.end + 4, [0x5a, 0xa5])
            }
            Self::JobKey => return None,
        };
        for (byte, bits) in body.get_mut(at..at + 2)?.iter_mut().zip(flip) {
            *byte ^= bits;
        }
        Some(Packet::seal(body, packet.vl, packet.sc4, false, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Vl;

    const ALL: Forgeries =
        Forgeries { partition_key: 100.0, job_key: 100.0, source_lid: 100.0, destination_lid: 100.0 };

    fn packet(prefix: u8, vl: u8) -> Packet {
        let mut bytes = vec![0; 64];
        bytes[1] = 2;
        bytes[13] = prefix;
        Packet::seal(bytes, Vl(vl), false, false, false)
    }

    #[test]
    fn each_copy_is_wrong_in_one_field_and_sound_otherwise() {
        let mut forger = Forger::default();
        forger.set(ALL, 3);
        let good = packet(KDETH_PREFIX, 0);
        let copies = forger.copies(&good);
        assert_eq!(copies.len(), 4);
        for (copy, field) in copies.iter().zip([10..12, 24..26, 6..8, 2..4]) {
            assert!(copy.icrc_ok());
            let differ: Vec<usize> = (0..good.body().len()).filter(|i| good.bytes[*i] != copy.bytes[*i]).collect();
            assert!(!differ.is_empty() && differ.iter().all(|i| field.contains(i)), "{field:?}: {differ:?}");
        }
        let counts = forger.counts();
        let counted = [counts.partition_key, counts.job_key, counts.source_lid, counts.destination_lid];
        assert_eq!(counted, [1; 4]);
    }

    #[test]
    fn what_lacks_the_field_is_left_alone() {
        let mut forger = Forger::default();
        forger.set(ALL, 3);
        assert_eq!(forger.copies(&packet(0, 0)).len(), 3);
        assert_eq!(forger.counts().job_key, 0);
        assert!(forger.copies(&packet(KDETH_PREFIX, 15)).is_empty());
        forger.set(Forgeries::default(), 3);
        assert!(forger.copies(&packet(KDETH_PREFIX, 0)).is_empty());
    }
}
