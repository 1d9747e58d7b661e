//! The far end of a cable that leads out of the lab: what the port puts on it is taken here and carried elsewhere, and what
//! comes from there is put on it.

use crate::lab::{Adapter, SLACK};
use crate::wire::{Doorbell, Item, Lane};
use std::sync::Arc;
use std::time::Duration;

/// The far end of a cable whose near end is in an adapter's port. Dropping it pulls the cable.
///
/// Its two lanes are those of any cable, so the port behaves as with one: what finds no room on them waits in the chip. Whoever
/// holds the far end counts credit by itself, since the room is at the port on the other side.
#[derive(Debug)]
pub struct FarEnd {
    adapter: Adapter,
    /// From the port.
    out: Arc<Lane>,
    /// To the port.
    into: Arc<Lane>,
    /// Rung when there is something to take, and when there is credit to grant.
    bell: Arc<Doorbell>,
}

impl FarEnd {
    /// Plugs the near end into the adapter's port.
    pub fn plug(adapter: &Adapter) -> Self {
        let bell = Arc::new(Doorbell::default());
        let port = adapter.doorbell();
        let out = Arc::new(Lane::new(Arc::clone(&port), Arc::clone(&bell)));
        let into = Arc::new(Lane::new(Arc::clone(&bell), port));
        adapter.plug(Arc::clone(&out), Arc::clone(&into));
        Self { adapter: adapter.clone(), out, into, bell }
    }

    /// Whether the near end is still in the port.
    pub fn is_plugged(&self) -> bool {
        self.adapter.sends_into(&self.out)
    }

    /// Takes what the port has put on the cable next, with the credit that it takes up. A packet that takes more than `room`
    /// waits; link messages pass it.
    pub fn take(&self, room: u64) -> Option<(u64, Item)> {
        let now = self.adapter.now() + SLACK;
        let credit = self.out.next_credit() as u64;
        let taken = if credit <= room { self.out.receive(now) } else { self.out.receive_message(now) };
        taken.map(|(_, item)| match item {
            Item::Packet(_) => (credit, item),
            Item::Message(_) => (0, item),
        })
    }

    /// Puts something on the cable for the port. Packets keep to the credit that was granted.
    pub fn put(&self, item: Item) {
        let now = self.adapter.now();
        match item {
            Item::Packet(packet) => self.into.put(now, packet),
            Item::Message(message) => self.into.tell(now, message),
        }
    }

    /// As [`Lane::grant`], for what is put on the cable here.
    pub fn grant(&self, told: u64) -> Option<u64> {
        self.into.grant(told)
    }

    /// Sleeps until something can be taken or granted, somebody rings, or for so long. It may return early.
    pub fn wait(&self, room: u64, limit: Duration) {
        let fits = self.out.next_credit() as u64 <= room;
        let due = if fits { self.out.next_due() } else { self.out.next_message_due() };
        let limit = due.map_or(limit, |due| due.since(self.adapter.now()).min(limit));
        if !limit.is_zero() {
            self.bell.wait(Some(limit));
        }
    }

    /// Ends a wait.
    pub fn ring(&self) {
        self.bell.ring();
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.adapter.unplug(&self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{LARGEST_PACKET, Packet};
    use crate::wire::{LEAST_GRANT, LINK_CREDIT_BYTES, Pace};
    use crate::{Config, Lab, Pacing};
    use opx_bus::PciFunction;
    use opx_defs::units::Vl;

    fn packet(len: usize) -> Item {
        Item::Packet(Packet { bytes: vec![0; len], vl: Vl(0), sc4: false, bypass: false })
    }

    #[test]
    fn the_cable_is_pulled_with_its_far_end_and_by_the_lab() {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Config::default());
        let first = FarEnd::plug(&adapter);
        assert!(first.is_plugged());
        let second = FarEnd::plug(&adapter);
        assert!(!first.is_plugged());
        drop(first);
        assert!(second.is_plugged());
        lab.pull(&adapter);
        assert!(!second.is_plugged());
    }

    #[test]
    fn credit_is_granted_by_the_quarter_as_packets_are_taken() {
        let lab = Lab::new(Pacing::Virtual);
        let adapter = lab.add(Config::default());
        let end = FarEnd::plug(&adapter);
        let all = LINK_CREDIT_BYTES as u64;
        assert_eq!(end.grant(0), Some(all));
        assert_eq!(end.grant(all), None);
        let mut put = 0;
        while put + LARGEST_PACKET as u64 <= all {
            end.put(packet(LARGEST_PACKET));
            put += LARGEST_PACKET as u64;
        }
        assert_eq!(end.grant(all), None);
        // With the link down the chip takes packets and drops them.
        adapter.bus().pause(Duration::from_millis(1));
        let granted = end.grant(all).unwrap();
        assert_eq!(granted, all + put);
    }

    #[test]
    fn however_narrow_the_lane_a_largest_packet_can_always_be_sent() {
        let lane = Lane::new(Arc::default(), Arc::default());
        lane.set_pace(Pace { credit: 0, ..Pace::default() });
        let (mut sent, mut limit) = (0, lane.grant(0).unwrap());
        assert_eq!(limit, LEAST_GRANT as u64);
        for _ in 0..100 {
            assert!(sent + LARGEST_PACKET as u64 <= limit);
            let Item::Packet(packet) = packet(LARGEST_PACKET) else { return };
            lane.put(opx_defs::time::Instant::ZERO, packet);
            sent += LARGEST_PACKET as u64;
            lane.receive(opx_defs::time::Instant::FAR).unwrap();
            limit = lane.grant(limit).unwrap_or(limit);
        }
    }
}
