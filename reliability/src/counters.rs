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
    /// Links that were down for too long.
    pub links_lost: u64,
}

impl Counters {
    /// All of them by name: first those that OPX has, under its names (`fi_opx_debug_counters.h`), then our own.
    ///
    /// ```
    /// let counters = opx_reliability::Counters { pings_sent: 3, ..Default::default() };
    /// assert!(counters.named().contains(&("pings_sent", 3)));
    /// ```
    pub const fn named(&self) -> [(&'static str, u64); 28] {
        [
            ("acks_sent", self.acks_sent),
            ("acks_preemptive_sent", self.acks_preemptive_sent),
            ("acks_received", self.acks_received),
            ("acks_ignored", self.acks_ignored),
            ("nacks_sent", self.nacks_sent),
            // OPX has them switched off, too.
            ("nacks_preemptive_sent", 0),
            ("nacks_received", self.nacks_received),
            ("nacks_ignored", self.nacks_ignored),
            ("pings_sent", self.pings_sent),
            ("pings_received", self.pings_received),
            ("uepkt_received", self.uepkt_received),
            ("throttled_max_outstanding", self.throttled_max_outstanding),
            ("throttled_nacks", self.throttled_nacks),
            ("throttled", self.throttled),
            ("rzv_data_ooo", self.rzv_data_ooo),
            ("pings_ignored", self.pings_ignored),
            ("pings_merged", self.pings_merged),
            ("throttled_replay_pool", self.throttled_replay_pool),
            ("replays_sent", self.replays_sent),
            ("replays_unasked", self.replays_unasked),
            ("duplicates_received", self.duplicates_received),
            ("dropped_out_of_window", self.dropped_out_of_window),
            ("dropped_no_room", self.dropped_no_room),
            ("dropped_too_many_flows", self.dropped_too_many_flows),
            ("answers_dropped", self.answers_dropped),
            ("ud_foreign", self.ud_foreign),
            ("peers_given_up", self.peers_given_up),
            ("links_lost", self.links_lost),
        ]
    }
}
