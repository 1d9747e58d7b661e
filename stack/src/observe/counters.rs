//! What an endpoint has counted, under the names of OPX's debug counters (`fi_opx_debug_counters.h`), so that a run can be
//! compared with one of libfabric; and which of those names mean nothing here, and why.

use super::hmem;
use crate::Counters;
use opx_hw::RecvCounts;
use opx_pio::PioCounters;
use opx_sdma::SdmaCounters;

/// What is counted for the sake of OPX's names alone, off the way of short messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// First packets of messages of several: sent, refused.
    pub(crate) first_sent: u64,
    pub(crate) first_refused: u64,
    /// Later ones.
    pub(crate) nth_sent: u64,
    pub(crate) nth_refused: u64,
    pub(crate) first_received: u64,
    pub(crate) nth_received: u64,
    pub(crate) nth_unknown: u64,
    /// Most messages of several packets that were under way at once.
    pub(crate) most_assembling: u64,
    /// Messages of several packets that were whole when they were asked for, with their first packet, with a later one.
    pub(crate) whole_when_asked: u64,
    pub(crate) whole_with_first: u64,
    pub(crate) whole_with_nth: u64,
    /// Of those that were whole, the ones that didn't fit.
    pub(crate) truncated: u64,
    /// Data of rendezvous: packets sent, refused for the peer's window, and because nothing more can be kept.
    pub(crate) pieces: u64,
    pub(crate) pieces_refused: u64,
    pub(crate) pieces_without_replay: u64,
    /// Packets that went to the engine again.
    pub(crate) engine_replays: u64,
    /// Offers that nobody waited for.
    pub(crate) offers_kept: u64,
    /// Messages that had come before they were asked for: untagged, tagged; and the most of them there were at once.
    pub(crate) claimed: [u64; 2],
    pub(crate) most_kept: [u64; 2],
    /// Multi-receives, and those that were posted since what had come didn't use them up.
    pub(crate) multi_receives: u64,
    pub(crate) multi_posted: u64,
    /// What they took: messages that had come before, whole ones, offers.
    pub(crate) multi_claimed: u64,
    pub(crate) multi_eager: u64,
    pub(crate) multi_offers: u64,
    /// Operations on memory of devices.
    pub(crate) hmem: hmem::Counts,
}

impl Tally {
    /// A packet of a rendezvous finds no room: here, or in its peer's window.
    pub(crate) fn refused(&mut self, no_replay: bool) {
        *(if no_replay { &mut self.pieces_without_replay } else { &mut self.pieces_refused }) += 1;
    }

    /// There are so many messages that nobody has asked for.
    pub(crate) fn kept(&mut self, tagged: bool, now: usize) {
        let most = &mut self.most_kept[usize::from(tagged)];
        *most = (*most).max(now as u64);
    }
}

/// All counts of an endpoint, taken together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) endpoint: Counters,
    pub(crate) reliability: opx_reliability::Counters,
    pub(crate) pio: PioCounters,
    pub(crate) sdma: SdmaCounters,
    pub(crate) recv: RecvCounts,
    pub(crate) tally: Tally,
    pub(crate) shm: opx_shm::Counters,
    /// Receives posted that found no message: untagged, tagged.
    pub(crate) posted: [u64; 2],
}

impl Counted {
    /// The values, by group and name.
    pub(crate) fn named(self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let groups = OPX.iter().chain(OWN);
        groups.flat_map(move |group| group.here.iter().map(move |(name, of)| (group.name, *name, of(&self))))
    }

    /// Receives for one message.
    fn receives(&self, tagged: bool) -> u64 {
        let at = usize::from(tagged);
        let many = if tagged { 0 } else { self.tally.multi_posted };
        self.posted[at].saturating_sub(many) + self.tally.claimed[at]
    }

    /// Messages that had come before they were asked for.
    fn found(&self, tagged: bool) -> u64 {
        self.tally.claimed[usize::from(tagged)] + if tagged { 0 } else { self.tally.multi_claimed }
    }
}

/// A counter of OPX that isn't kept here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Absent {
    /// OPX's group.
    pub group: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// Why.
    pub why: &'static str,
}

/// OPX's counters that aren't kept here, each with the reason. Together with those of [`crate::Endpoint::named_counters`] they are all
/// that OPX has.
///
/// ```
/// use opx_stack::observe::counters::absent;
/// let crk = absent().find(|absent| absent.name == "crkerr").unwrap();
/// assert_eq!(crk.why, "not on this adapter: an error bit of CN5000");
/// ```
pub fn absent() -> impl Iterator<Item = Absent> {
    OPX.iter().flat_map(|group| {
        let of_reason = |(why, names): &'static (&str, &[&str])| names.iter().map(|name| (*why, *name));
        group.absent.iter().flat_map(of_reason).map(|(why, name)| Absent { group: group.name, name, why })
    })
}

/// A counter that is kept: its name and how it is taken from the rest.
pub(super) type Kept = (&'static str, fn(&Counted) -> u64);

pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) here: &'static [Kept],
    /// By reason.
    pub(super) absent: &'static [(&'static str, &'static [&'static str])],
}

const NO_TIMES: &str = "times aren't taken: the clock would be read once more for each message";
const NO_WRITEV: &str = "not on this adapter: descriptors are written from user space, without a call into a driver";
const NO_WAITING_TO_SEND: &str = "a packet without PIO credit waits in the endpoint's line, none is refused for it";
const NO_WALK: &str = "messages and receives are found in an index: none that doesn't match is looked at";

/// OPX's groups.
const OPX: &[Group] = &[
    Group {
        name: "mp_eager",
        here: &[
            ("send_first_packets", |c| c.tally.first_sent),
            ("send_first_eagain_reliability", |c| c.tally.first_refused),
            ("send_nth_packets", |c| c.tally.nth_sent),
            ("send_nth_eagain_reliability", |c| c.tally.nth_refused),
            ("recv_max_mq_queue_length", |c| c.tally.most_assembling),
            ("recv_first_packets", |c| c.tally.first_received),
            ("recv_nth_packets", |c| c.tally.nth_received),
            ("recv_completed_process_context", |c| c.tally.whole_when_asked),
            ("recv_completed_eager_first", |c| c.tally.whole_with_first),
            ("recv_completed_eager_nth", |c| c.tally.whole_with_nth),
            ("recv_truncation", |c| c.tally.truncated),
            ("recv_nth_no_match", |c| c.tally.nth_unknown),
            ("recv_nth_match", |c| c.tally.nth_received.saturating_sub(c.tally.nth_unknown)),
            ("total_completed", |c| c.tally.whole_when_asked + c.tally.whole_with_first + c.tally.whole_with_nth),
        ],
        absent: &[
            (NO_WAITING_TO_SEND, &["send_first_eagain_credits", "send_nth_eagain_credits"]),
            (
                "packets are taken in order: no later packet comes before the first of its message",
                &["recv_max_ue_queue_length"],
            ),
        ],
    },
    Group {
        name: "reliability_ping",
        here: &[
            ("acks_sent", |c| c.reliability.acks_sent),
            ("acks_preemptive_sent", |c| c.reliability.acks_preemptive_sent),
            ("acks_received", |c| c.reliability.acks_received),
            ("acks_ignored", |c| c.reliability.acks_ignored),
            ("nacks_sent", |c| c.reliability.nacks_sent),
            ("nacks_received", |c| c.reliability.nacks_received),
            ("nacks_ignored", |c| c.reliability.nacks_ignored),
            ("pings_sent", |c| c.reliability.pings_sent),
            ("pings_received", |c| c.reliability.pings_received),
            ("uepkt_received", |c| c.reliability.uepkt_received),
            ("throttled_max_outstanding", |c| c.reliability.throttled_max_outstanding),
            ("throttled_nacks", |c| c.reliability.throttled_nacks),
            ("throttled", |c| c.reliability.throttled),
        ],
        absent: &[("none are sent unasked, as in OPX, where they are switched off", &["nacks_preemptive_sent"])],
    },
    Group {
        name: "reliability",
        here: &[
            ("replay_rts", |c| c.endpoint.replay_rts),
            ("replay_cts", |c| c.endpoint.replay_cts),
            ("replay_rzv", |c| c.endpoint.replay_rzv),
            ("rzv_data_ooo", |c| c.reliability.rzv_data_ooo),
        ],
        absent: &[],
    },
    Group {
        name: "sdma",
        here: &[
            // Packets, where OPX counts requests of several.
            ("nontid_requests", |c| {
                c.sdma.packets.saturating_sub(c.tally.engine_replays + c.endpoint.expected.tid_sent_pkts)
            }),
            ("tid_requests", |c| c.endpoint.expected.tid_sent_pkts),
            ("replay_requests", |c| c.tally.engine_replays),
            ("eagain_fill_index", |c| c.sdma.ring_full),
            ("eagain_psn", |c| c.tally.pieces_refused),
            ("eagain_replay", |c| c.tally.pieces_without_replay),
            // What stands for the call into the driver: the ring's tail is told to the engine.
            ("writev_all.n", |c| c.sdma.doorbells),
            ("completion.n", |c| c.sdma.packets),
        ],
        absent: &[
            (
                NO_WRITEV,
                &[
                    "writev_count",
                    "writev_time_ns_total",
                    "writev_time_ns_min",
                    "writev_time_ns_max",
                    "writev_time_ns_avg",
                    "writev[*].n",
                    "writev[*].min",
                    "writev[*].max",
                    "writev[*].avg",
                    "writev[*].sum",
                    "writev_all.min",
                    "writev_all.max",
                    "writev_all.avg",
                    "writev_all.sum",
                    "eagain_iov_limit",
                    "proc_reqs_calls",
                    "proc_reqs_no_fill_slots",
                    "proc_reqs_more_avail",
                    "eagain_pending_writev",
                ],
            ),
            (
                "packets go to the engine from their slots: there are no work entries to run out of or to wait for",
                &[
                    "eagain_sdma_we_none_free",
                    "eagain_sdma_we_max_used",
                    "eagain_pending_sdma_completion",
                    "eagain_pending_dc",
                ],
            ),
            (
                NO_TIMES,
                &[
                    "early_acks_delta.n",
                    "early_acks_delta.min",
                    "early_acks_delta.max",
                    "early_acks_delta.avg",
                    "early_acks_delta.sum",
                    "send_bw.n",
                    "send_bw.min",
                    "send_bw.max",
                    "send_bw.avg",
                    "send_bw.sum",
                    "completion.min",
                    "completion.max",
                    "completion.avg",
                    "completion.sum",
                ],
            ),
        ],
    },
    Group {
        name: "expected_receive",
        here: &[
            ("rts_tid_eligible", |c| c.endpoint.expected.rts_tid_eligible),
            ("rts_tid_ineligible", |c| c.endpoint.expected.rts_tid_ineligible),
            ("rts_tid_setup_success", |c| c.endpoint.expected.rts_tid_setup_success),
            ("tid_update_success_partial", |c| c.endpoint.expected.tid_update_success_partial),
            ("rts_fallback_eager_reg_rzv", |c| c.endpoint.expected.rts_fallback_eager_reg_rzv),
            ("tid_rcv_pkts", |c| c.endpoint.expected.tid_rcv_pkts),
            ("tid_rcv_pkts_replays", |c| c.endpoint.expected.tid_rcv_pkts_replays),
        ],
        absent: &[
            (
                "not on this adapter: TIDs are written to the chip from user space, without a call into a driver",
                &["tid_updates", "tid_update_fail", "tid_update_success"],
            ),
            (
                "TIDs are for one transfer: there is no cache of them",
                &[
                    "tid_cache_flush_not_lru",
                    "tid_cache_flush_not_lru_helped",
                    "tid_cache_flush_lru",
                    "tid_cache_flush_lru_helped",
                    "tid_cache_full",
                    "tid_cache_miss",
                    "tid_cache_hit",
                    "tid_cache_found_entry_in_use",
                    "tid_cache_found_entry_invalid",
                    "tid_cache_overlap_left",
                    "tid_cache_overlap_right",
                ],
            ),
            (
                "what finds no TIDs at once comes without them: there is no other way back, and no second try",
                &["rts_fallback_eager_immediate", "rts_tid_setup_retries"],
            ),
            (
                "not measured: shapes of transfers, which OPX needs for its cache",
                &[
                    "tid_buckets[0]",
                    "tid_buckets[1]",
                    "tid_buckets[2]",
                    "tid_buckets[3]",
                    "first_tidpair_minlen",
                    "first_tidpair_maxlen",
                    "first_tidpair_minoffset",
                    "first_tidpair_maxoffset",
                ],
            ),
            ("TID flows, which have generations, aren't used by endpoints", &["generation_wrap"]),
            (
                "memory is mapped as a whole when it is first used, not for a part of a transfer",
                &["reg_for_rzv_get_initial", "reg_for_rzv_get_remaining"],
            ),
        ],
    },
    Group {
        name: "match",
        here: &[
            ("total_searches", |c| c.found(false) + c.found(true) + c.posted[0] + c.posted[1]),
            ("total_hits", |c| c.found(false) + c.found(true)),
            ("total_not_found", |c| c.posted[0] + c.posted[1]),
            ("default_searches", |c| c.found(false) + c.posted[0]),
            ("default_hits", |c| c.found(false)),
            ("default_not_found", |c| c.posted[0]),
            ("default_max_length", |c| c.tally.most_kept[0]),
            ("ue_hash_tag_searches", |c| c.found(true) + c.posted[1]),
            ("ue_hash_tag_hits", |c| c.found(true)),
            ("ue_hash_tag_not_found", |c| c.posted[1]),
            ("ue_hash_tag_max_length", |c| c.tally.most_kept[1]),
        ],
        absent: &[
            (NO_WALK, &["total_misses", "default_misses", "ue_hash_tag_misses", "ue_hash_linear_misses"]),
            (
                "patterns with ignored bits have indices too, and are counted as ue_hash_tag",
                &[
                    "ue_hash_linear_searches",
                    "ue_hash_linear_hits",
                    "ue_hash_linear_not_found",
                    "ue_hash_linear_max_length",
                ],
            ),
        ],
    },
    Group {
        name: "recv",
        here: &[
            ("posted_recv_msg", |c| c.receives(false)),
            ("posted_recv_tag", |c| c.receives(true)),
            ("posted_multi_recv", |c| c.tally.multi_receives),
            ("multi_recv_eager", |c| c.tally.multi_eager),
            ("multi_recv_rzv_contig", |c| c.tally.multi_offers),
            ("rzv_rts_pkt_early.n", |c| c.tally.offers_kept),
            ("rzv_rts_rcv_early.n", |c| c.endpoint.offers.saturating_sub(c.tally.offers_kept)),
        ],
        absent: &[
            ("injected messages are counted as multi_recv_eager: both are whole", &["multi_recv_inject"]),
            ("offers of several pieces aren't taken", &["multi_recv_rzv_noncontig"]),
            (
                NO_TIMES,
                &[
                    "rzv_rts_pkt_early.min",
                    "rzv_rts_pkt_early.max",
                    "rzv_rts_pkt_early.avg",
                    "rzv_rts_pkt_early.sum",
                    "rzv_rts_rcv_early.min",
                    "rzv_rts_rcv_early.max",
                    "rzv_rts_rcv_early.avg",
                    "rzv_rts_rcv_early.sum",
                ],
            ),
        ],
    },
    Group {
        name: "rhf",
        here: &[
            ("rcvtypeexp", |c| c.recv.by_error.of_kind[0]),
            ("rcvtypeegr", |c| c.recv.by_error.of_kind[1]),
            ("rcvtypeoth", |c| c.recv.by_error.of_kind[2]),
            ("error", |c| c.recv.errors),
            ("icrcerr", |c| c.recv.by_error.icrc),
            ("lenerr", |c| c.recv.by_error.length),
            ("eccerr", |c| c.recv.by_error.ecc),
            ("tiderr", |c| c.recv.by_error.tid),
            ("dcerr", |c| c.recv.by_error.dc),
            ("dcuncerr", |c| c.recv.by_error.dc_uncorrectable),
            ("khdrlenerr", |c| c.recv.by_error.kdeth_length),
            ("rcvtypeerr", |c| c.recv.by_error.broken.iter().sum()),
            ("flowgenerr", |c| c.recv.by_error.flow_generation),
            ("flowseqerr", |c| c.recv.by_error.flow_sequence),
        ],
        absent: &[("not on this adapter: an error bit of CN5000", &["tidbypasserr", "crkerr", "crkuncerr"])],
    },
    hmem::GROUP,
    Group {
        name: "hfisvc",
        here: &[],
        absent: &[(
            "not on this adapter: a service of the firmware of CN5000 and later",
            &[
                "rzv_send_rts.attempt",
                "rzv_send_rts.success",
                "rzv_send_rts.completed",
                "rzv_send_rts.eagain_access_key",
                "rzv_send_rts.eagain_credits",
                "rzv_send_rts.eagain_psn",
                "rzv_send_rts.eagain_hfisvc",
                "rzv_send_rts.enomem_completion",
                "rzv_send_rts.enomem_context",
                "rzv_send_rts.reg_dma_buf",
                "rzv_recv_rts.rdma_read",
                "rzv_recv_rts.truncation_rdma_read",
                "rzv_recv_rts.deferred",
                "rzv_recv_rts.eagain_hfisvc",
                "rzv_recv_rts.completed",
                "access_key.alloc",
                "access_key.alloc_enospc",
                "access_key.free",
                "access_key.keyset_grow",
                "doorbell_ring.poll_many",
                "doorbell_ring.reliability_timer_pop",
                "doorbell_ring.deferred_work",
                "internal_completion.success",
                "internal_completion.error",
            ],
        )],
    },
];

/// What OPX doesn't count.
const OWN: &[Group] = &[
    Group {
        name: "shm",
        here: &[
            ("again", |c| c.shm.again),
            ("rings", |c| c.shm.rings),
            ("retired", |c| c.shm.retired),
            ("refused", |c| c.shm.refused),
            ("strays", |c| c.shm.strays),
            ("ring_pulls", |c| c.shm.ring_pulls),
            ("kernel_pulls", |c| c.shm.kernel_pulls),
            ("kernel_refusals", |c| c.shm.kernel_refusals),
        ],
        absent: &[],
    },
    Group {
        name: "endpoint",
        here: &[
            ("sent_messages", |c| c.endpoint.sent_messages),
            ("sends_done", |c| c.endpoint.sends_done),
            ("sends_failed", |c| c.endpoint.sends_failed),
            ("requests_done", |c| c.endpoint.requests_done),
            ("requests_failed", |c| c.endpoint.requests_failed),
            ("sent_locally", |c| c.endpoint.sent_locally),
            ("received_locally", |c| c.endpoint.received_locally),
            ("received_messages", |c| c.endpoint.received_messages),
            ("lent_messages", |c| c.endpoint.lent_messages),
            ("copied_none_spare", |c| c.endpoint.copied_none_spare),
            ("copied_short", |c| c.endpoint.copied_short),
            ("copied_early", |c| c.endpoint.copied_early),
            ("copied_pieces", |c| c.endpoint.copied_pieces),
            ("receives_failed", |c| c.endpoint.receives_failed),
            ("unmapped", |c| c.endpoint.unmapped),
            ("unexpected_messages", |c| c.endpoint.unexpected_messages),
            ("offers_sent", |c| c.endpoint.offers_sent),
            ("offers", |c| c.endpoint.offers),
            ("requests", |c| c.endpoint.requests),
            ("replies", |c| c.endpoint.replies),
            ("refused_keys", |c| c.endpoint.refused_keys),
            ("refused_access", |c| c.endpoint.refused_access),
            ("refused_places", |c| c.endpoint.refused_places),
            ("refused_atomics", |c| c.endpoint.refused_atomics),
            ("packets_in", |c| c.endpoint.packets_in),
            ("packets_in_error", |c| c.endpoint.packets_in_error),
            ("malformed", |c| c.endpoint.malformed),
            ("no_room", |c| c.endpoint.no_room),
            ("stale", |c| c.endpoint.stale),
            ("retransmits", |c| c.endpoint.retransmits),
            ("service_dropped", |c| c.endpoint.service_dropped),
            ("recoveries", |c| c.endpoint.recoveries),
            ("rendezvous_bytes_copied", |c| c.endpoint.rendezvous_bytes_copied),
            ("link_checks", |c| c.endpoint.link_checks),
            ("tid_misplaced", |c| c.endpoint.expected.tid_misplaced),
            ("overwritten", |c| c.endpoint.expected.overwritten),
            ("tid_sent_pkts", |c| c.endpoint.expected.tid_sent_pkts),
        ],
        absent: &[],
    },
    Group {
        name: "protocol",
        here: &[
            ("pings_ignored", |c| c.reliability.pings_ignored),
            ("pings_merged", |c| c.reliability.pings_merged),
            ("throttled_replay_pool", |c| c.reliability.throttled_replay_pool),
            ("replays_sent", |c| c.reliability.replays_sent),
            ("replays_unasked", |c| c.reliability.replays_unasked),
            ("duplicates_received", |c| c.reliability.duplicates_received),
            ("dropped_out_of_window", |c| c.reliability.dropped_out_of_window),
            ("dropped_no_room", |c| c.reliability.dropped_no_room),
            ("dropped_too_many_flows", |c| c.reliability.dropped_too_many_flows),
            ("answers_dropped", |c| c.reliability.answers_dropped),
            ("ud_foreign", |c| c.reliability.ud_foreign),
            ("peers_given_up", |c| c.reliability.peers_given_up),
            ("links_lost", |c| c.reliability.links_lost),
        ],
        absent: &[],
    },
    Group {
        name: "pio",
        here: &[
            ("packets", |c| c.pio.packets),
            ("blocks", |c| c.pio.blocks),
            ("no_credit", |c| c.pio.no_credit),
            ("forced_returns", |c| c.pio.forced_returns),
            ("bad_credit_words", |c| c.pio.bad_credit_words),
            ("register_returns", |c| c.pio.register_returns),
            ("restarts", |c| c.pio.restarts),
        ],
        absent: &[],
    },
    Group {
        name: "engine",
        here: &[
            ("packets", |c| c.sdma.packets),
            ("descriptors", |c| c.sdma.descriptors),
            ("rendezvous_packets", |c| c.tally.pieces),
            ("doorbells", |c| c.sdma.doorbells),
            ("bad_heads", |c| c.sdma.bad_heads),
            ("failed", |c| c.sdma.failed),
            ("restarts", |c| c.sdma.restarts),
        ],
        absent: &[],
    },
    Group {
        name: "receive",
        here: &[
            ("bad_entries", |c| c.recv.bad_entries),
            ("head_updates", |c| c.recv.head_updates),
            ("lost_tails", |c| c.recv.lost_tails),
            ("recoveries", |c| c.recv.recoveries),
        ],
        absent: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_counter_of_opx_is_kept_or_has_a_reason_why_not() {
        // As they stand in libfabric's header, whose arrays of 129 are written [*] here.
        let theirs: BTreeSet<_> = include_str!("opx_counters.txt").lines().map(str::to_owned).collect();
        let kept = OPX.iter().flat_map(|group| group.here.iter().map(|(name, _)| format!("{}.{name}", group.name)));
        let left_out = absent().map(|absent| format!("{}.{}", absent.group, absent.name));
        let ours: Vec<_> = kept.chain(left_out).collect();
        let set: BTreeSet<_> = ours.iter().cloned().collect();
        assert_eq!(set.len(), ours.len(), "one is there twice");
        let difference: Vec<_> = set.symmetric_difference(&theirs).collect();
        assert!(difference.is_empty(), "{difference:?}");
        assert!(theirs.len() > 240);
        assert!(absent().all(|absent| !absent.why.is_empty()));
    }

    #[test]
    fn no_counter_of_ours_has_the_name_of_one_of_opx() {
        let names: Vec<_> = Counted::default().named().map(|(group, name, _)| (group, name)).collect();
        let set: BTreeSet<_> = names.iter().collect();
        assert_eq!(set.len(), names.len());
        for group in OWN {
            assert!(OPX.iter().all(|theirs| theirs.name != group.name), "{}", group.name);
        }
    }

    #[test]
    fn an_endpoint_counts_nothing_that_has_no_name() {
        let text = format!("{:?}", Counters::default());
        let fields = text.split([' ', '{', ',']).filter_map(|word| word.strip_suffix(':'));
        let ours: Vec<_> = OPX.iter().chain(OWN).flat_map(|group| group.here).map(|(name, _)| *name).collect();
        let missing: Vec<_> = fields.filter(|name| !ours.contains(name) && *name != "expected").collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn the_protocol_counts_nothing_that_has_no_name() {
        // A new counter there must be named here: all set to one add up to so many.
        let names: Vec<_> = opx_reliability::Counters::default().named().iter().map(|(name, _)| *name).collect();
        let ours: Vec<_> = OPX.iter().chain(OWN).flat_map(|group| group.here).map(|(name, _)| *name).collect();
        let none = ["nacks_preemptive_sent"];
        let missing: Vec<_> = names.into_iter().filter(|name| !ours.contains(name) && !none.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
