//! What can be set, with OPX's defaults where OPX has the same thing.

use std::time::Duration;
use thiserror::Error;

/// Sizes, rates and times of the protocol. Source of the defaults: `fi_opx_reliability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long a sender waits before it asks what has arrived (`RELIABILITY_SERVICE_USEC_MAX`), and how long a receiver
    /// merges repeats of a question.
    pub ping_interval: Duration,
    /// The least wait before the first ping to a peer whose answer time is known: then the sender waits for as long as an
    /// answer usually takes, and some more. OPX always waits for `ping_interval`.
    pub min_ping_interval: Duration,
    /// The longest wait between two pings to a peer that doesn't answer. OPX pings at the same pace for ever.
    pub max_ping_interval: Duration,
    /// A receiver ACKs every so many packets unasked (`RELIABILITY_SERVICE_PRE_ACK_RATE`): a power of two, or 0 for never.
    pub pre_ack_rate: u32,
    /// Bytes a flow may have unacknowledged before it takes no more (`RELIABILITY_SERVICE_MAX_OUTSTANDING_BYTES`).
    pub max_outstanding_bytes: u32,
    /// Packets a flow may have unacknowledged. Beyond 10239 an OPX receiver takes the newest for old ones around a wrap.
    pub window: u32,
    /// Packets that all flows together may have unacknowledged: entries of the replay pool, which is made once. A flow may have
    /// four for each that is free, so that peers that give nothing back leave some to others. OPX has 2048 and 8192 of two
    /// sizes, first come first served.
    pub replay_pool: u32,
    /// Sends the first packet to a peer alone: OPX up to 2.3 (G1, G2) acknowledges packets that it never had when the first one
    /// is lost and a later one comes.
    pub first_packet_alone: bool,
    /// Tells senders at once of packets that come behind a gap, and says all that was received in every unasked ACK, so that losses are repaired
    /// within one round trip. Off is what OPX does: it lets the sender ask, which costs `ping_interval` for each gap.
    pub selective_acks: bool,
    /// Pings sent in one `ping_interval` while they find room (`RELIABILITY_MAX_UNCONGESTED_PINGS`).
    pub max_uncongested_pings: u32,
    /// Pings sent in one `ping_interval` once one found none, until none waits (`RELIABILITY_MAX_CONGESTED_PINGS`).
    pub max_congested_pings: u32,
    /// Packets sent again for one NACK (`OPX_RELIABILITY_TX_MAX_REPLAYS`).
    pub max_replays_per_nack: u32,
    /// PSNs that one of our NACKs asks for at most, when all of them are missing. OPX asks for 1 and honours 32.
    pub max_nack: u32,
    /// How far ahead of the expected PSN a packet may be to be kept.
    pub receive_window: u32,
    /// Packets kept out of order for one peer.
    pub max_held_per_flow: u32,
    /// Packets kept out of order altogether.
    pub max_held: u32,
    /// Peers remembered in each direction. A flow lives as long as the endpoint: the protocol has no way to end one.
    pub max_flows: u32,
    /// ACKs and NACKs waiting to be sent; more are dropped and asked for again by the peer's next ping.
    pub max_answers: u32,
    /// How long a peer may be silent, with packets to it unacknowledged, before it counts as unreachable. A peer that computes
    /// answers nothing meanwhile, so this is long.
    pub give_up_after: Duration,
    /// How long the link may be down before everything unacknowledged is given up (`FI_OPX_LINK_DOWN_WAIT_TIME_MAX_SEC`; OPX
    /// ends the process then).
    pub link_down_wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_micros(500),
            min_ping_interval: Duration::from_micros(100),
            max_ping_interval: Duration::from_millis(20),
            pre_ack_rate: 64,
            max_outstanding_bytes: 7 << 20,
            window: 8192,
            replay_pool: 10240,
            first_packet_alone: false,
            selective_acks: true,
            max_uncongested_pings: 128,
            max_congested_pings: 4,
            max_replays_per_nack: 32,
            max_nack: 32,
            receive_window: 32768,
            max_held_per_flow: 2048,
            max_held: 8192,
            max_flows: 1 << 17,
            max_answers: 4096,
            give_up_after: Duration::from_secs(60),
            link_down_wait: Duration::from_secs(70),
        }
    }
}

/// A setting that can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("reliability setting {name} is {value}, it must be {rule}")]
pub struct ConfigError {
    /// Name of the setting.
    pub name: &'static str,
    /// Its value; times in nanoseconds.
    pub value: u64,
    /// What it must be.
    pub rule: &'static str,
}

impl Config {
    /// Settings that make every answer the one that OPX gives, for comparing the two.
    pub fn as_opx() -> Self {
        Self { selective_acks: false, max_nack: 1, ..Self::default() }
    }

    /// PSNs with none of these bits set are acknowledged unasked.
    pub(crate) fn pre_ack_mask(&self) -> u64 {
        u64::from(self.pre_ack_rate).wrapping_sub(1)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let check =
            |good: bool, name, value: u64, rule| if good { Ok(()) } else { Err(ConfigError { name, value, rule }) };
        let rate = self.pre_ack_rate;
        check(
            rate == 0 || (rate.is_power_of_two() && rate <= 32768),
            "pre_ack_rate",
            rate.into(),
            "0 or a power of two up to 32768",
        )?;
        check((1..10240).contains(&self.window), "window", self.window.into(), "1 to 10239")?;
        check(
            (1..1 << 22).contains(&self.receive_window),
            "receive_window",
            self.receive_window.into(),
            "1 to 4194303",
        )?;
        let most = 1 << 27;
        check(
            (1..=most).contains(&self.max_outstanding_bytes.div_ceil(2)),
            "max_outstanding_bytes",
            self.max_outstanding_bytes.into(),
            "1 to 2^28",
        )?;
        check((1..=1 << 20).contains(&self.replay_pool), "replay_pool", self.replay_pool.into(), "1 to 2^20")?;
        check((1..=1 << 20).contains(&self.max_flows), "max_flows", self.max_flows.into(), "1 to 2^20")?;
        for (name, value) in [
            ("max_uncongested_pings", self.max_uncongested_pings),
            ("max_congested_pings", self.max_congested_pings),
            ("max_replays_per_nack", self.max_replays_per_nack),
            ("max_answers", self.max_answers),
        ] {
            check(value > 0, name, value.into(), "more than 0")?;
        }
        check((1..=32).contains(&self.max_nack), "max_nack", self.max_nack.into(), "1 to 32")?;
        check(!self.ping_interval.is_zero(), "ping_interval", 0, "more than 0")?;
        check(
            self.max_ping_interval >= self.ping_interval,
            "max_ping_interval",
            nanos(self.max_ping_interval),
            "at least ping_interval",
        )
    }
}
