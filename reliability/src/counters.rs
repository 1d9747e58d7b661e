//! What happened, under the names of OPX's debug counters where OPX counts the same.

/// Counters of one endpoint; they only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// ACKs sent, the pre-emptive ones included.
    pub acks_sent: u64,
    /// ACKs sent without a ping.
    pub acks_preemptive_sent: u64,
    /// ACKs received.
    pub acks_received: u64,
    /// Of those, the ones that acknowledged nothing new or nothing that was ever sent.
    pub acks_ignored: u64,
    /// NACKs sent.
    pub nacks_sent: u64,
    /// NACKs received.
    pub nacks_received: u64,
    /// Of those, the ones that asked for nothing that is unacknowledged.
    pub nacks_ignored: u64,
    /// Pings sent.
    pub pings_sent: u64,
    /// Pings received.
    pub pings_received: u64,
    /// Of those, the ones about PSNs that can't be, or not for this endpoint.
    pub pings_ignored: u64,
    /// Of those, repeats that were merged with an earlier one.
    pub pings_merged: u64,
    /// Sends refused because of the bytes outstanding.
    pub throttled_max_outstanding: u64,
    /// Sends refused because a NACK's packets are still outstanding.
    pub throttled_nacks: u64,
    /// Sends refused because the replay pool is used up.
    pub throttled_replay_pool: u64,
    /// Sends refused for any reason that passes.
    pub throttled: u64,
    /// Packets handed out to be sent again.
    pub replays_sent: u64,
    /// Of those, the ones that no NACK had asked for: packets sent after them had been acknowledged.
    pub replays_unasked: u64,
    /// Data packets that came a second time.
    pub duplicates_received: u64,
    /// Data packets kept because an earlier one was missing.
    pub uepkt_received: u64,
    /// Rendezvous data used ahead of its turn.
    pub rzv_data_ooo: u64,
    /// Data packets dropped: PSN too far from the expected one.
    pub dropped_out_of_window: u64,
    /// Data packets dropped: no room to keep them.
    pub dropped_no_room: u64,
    /// Data packets dropped: too many peers.
    pub dropped_too_many_flows: u64,
    /// ACKs and NACKs dropped because too many were waiting to be sent.
    pub answers_dropped: u64,
    /// Reliability packets whose origin isn't a side of the flow they speak of.
    pub ud_foreign: u64,
    /// Peers given up.
    pub peers_given_up: u64,
}
