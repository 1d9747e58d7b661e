//! The wire: lanes that carry packets and link messages from one port to another, each way its own.

use crate::packet::Packet;
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering};
use opx_defs::time::Instant;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// What the receiver of a link can take in before it must return credit: 0x880 units of 64 bytes (the value that Linux's
/// driver sees as the peer's `vl15 credits` plus shared pool).
pub const LINK_CREDIT_BYTES: usize = 0x880 * 64;
/// The least credit that a far end is granted which counts it by itself: with two packets of the largest size it can always
/// send one, though it isn't told of the last quarter that became free.
#[cfg(feature = "tcp")]
pub const LEAST_GRANT: usize = 2 * crate::packet::LARGEST_PACKET;
/// Link messages that wait at the far end; the oldest are lost beyond it.
const MESSAGES: usize = 256;
/// Time for a bit to cross a cable of a few metres and the two ports' logic.
const FLIGHT: Duration = Duration::from_nanos(100);

/// What one 8051 tells the other outside of the packet stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkMessage {
    /// The far port is polling.
    Polling {
        /// It answers this port's own polling.
        reply: bool,
    },
    /// The far port's half of VerifyCap: its fields, as they lie in its RAM mirror.
    VerifyCap(VerifyCap),
    /// The far port is ready: the link is up once both are.
    Ready {
        /// Its GUID.
        guid: u64,
        /// It answers this port's own readiness.
        reply: bool,
    },
    /// The far port goes down, for this reason; without one, its signal is gone.
    Down(Option<u8>),
    /// An idle message (SMA).
    Idle(u64),
}

/// What a port tells about itself while the link is negotiated, by field of the 8051's RAM mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyCap {
    /// Field 0x06: lane rates, maximum rate.
    pub tx_settings: u32,
    /// Field 0x07: PHY capabilities.
    pub phy: u32,
    /// Field 0x08: fabric capabilities.
    pub fabric: u32,
    /// Field 0x09: link widths.
    pub link_width: u32,
    /// Field 0x0a: device.
    pub device: u32,
}

/// Wakes an adapter's thread.
#[derive(Debug, Default)]
pub struct Doorbell {
    rung: Mutex<bool>,
    condvar: Condvar,
}

impl Doorbell {
    /// Wakes it, or keeps it from falling asleep.
    pub fn ring(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !*rung {
            *rung = true;
            self.condvar.notify_one();
        }
    }

    /// Sleeps until rung, at most `limit` (for ever without one).
    pub fn wait(&self, limit: Option<Duration>) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rung = match limit {
            Some(limit) => {
                self.condvar.wait_timeout_while(rung, limit, |rung| !*rung).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.condvar.wait_while(rung, |rung| !*rung).unwrap_or_else(PoisonError::into_inner),
        };
        *rung = false;
    }
}

/// How fast packets cross a lane, and how many may be on it.
///
/// ```
/// use opx_emu::{Config, Lab, Pace, Pacing};
///
/// let lab = Lab::new(Pacing::Virtual);
/// let (a, b) = (lab.add(Config::default()), lab.add(Config::default()));
/// let slow = Pace { megabits: 10, credit: 4096 };
/// assert!(!b.set_pace(slow));
/// lab.cable(&a, &b);
/// assert!(b.set_pace(slow));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Megabits a second; 0 counts as 1.
    pub megabits: u32,
    /// What the receiver can take in before it returns credit, bytes. A packet goes onto an empty lane in any case.
    pub credit: usize,
}

impl Default for Pace {
    /// 100 Gb/s and the credit of a whole receive buffer.
    fn default() -> Self {
        Self { megabits: 100_000, credit: LINK_CREDIT_BYTES }
    }
}

impl Pace {
    /// Time that so many bytes are on the wire.
    fn serialisation(self, bytes: usize) -> Duration {
        Duration::from_nanos((bytes as u64 * 8000).div_ceil(self.megabits.max(1).into()))
    }
}

/// One thing on a lane.
#[derive(Debug)]
pub enum Item {
    /// A packet.
    Packet(Packet),
    /// A link message.
    Message(LinkMessage),
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<(Instant, Item)>,
    pace: Pace,
    bytes: usize,
    messages: usize,
    free_at: Instant,
    sender_waits: bool,
    /// Credit of all packets that the receiver has taken.
    taken: u64,
    /// The sender, which counts credit by itself, is woken when this much is taken.
    ring_at: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            pace: Pace::default(),
            bytes: 0,
            messages: 0,
            free_at: Instant::ZERO,
            sender_waits: false,
            taken: 0,
            ring_at: u64::MAX,
        }
    }
}

/// One direction of a link: what is on it waits at the receiver until that takes it.
#[derive(Debug)]
pub struct Lane {
    queue: Mutex<Queue>,
    /// Arrival of the first item, `u64::MAX` without one: looked at without the lock.
    head_at: AtomicU64,
    /// The sender waited for room and there is some now.
    room: AtomicBool,
    sender: Arc<Doorbell>,
    receiver: Arc<Doorbell>,
}

impl Lane {
    /// A lane between the owners of two doorbells.
    pub fn new(sender: Arc<Doorbell>, receiver: Arc<Doorbell>) -> Self {
        Self {
            queue: Mutex::default(),
            head_at: AtomicU64::new(u64::MAX),
            room: AtomicBool::new(false),
            sender,
            receiver,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, queue: &mut Queue, at: Instant, item: Item) {
        queue.items.push_back((at, item));
        if queue.items.len() == 1 {
            self.head_at.store(at.as_nanos(), Ordering::Release);
        }
    }

    /// Sets the pace of what is sent from now on.
    pub fn set_pace(&self, pace: Pace) {
        self.lock().pace = pace;
        self.sender.ring();
    }

    /// Puts a packet on the lane; gives it back when the receiver has no room. [`Lane::take_room`] then tells when it has.
    pub fn send(&self, now: Instant, packet: Packet) -> Result<(), Packet> {
        let mut queue = self.lock();
        let credit = credit(&packet);
        // An empty lane takes any packet, so that no limit can wedge it.
        if queue.bytes != 0 && queue.bytes + credit > queue.pace.credit {
            queue.sender_waits = true;
            return Err(packet);
        }
        self.put_packet(&mut queue, now, packet);
        drop(queue);
        self.receiver.ring();
        Ok(())
    }

    fn put_packet(&self, queue: &mut Queue, now: Instant, packet: Packet) {
        queue.bytes += credit(&packet);
        let done = queue.free_at.max(now) + queue.pace.serialisation(packet.bytes.len());
        queue.free_at = done;
        self.push(queue, done + FLIGHT, Item::Packet(packet));
    }

    /// Puts a packet on the lane whose sender keeps to what [`Lane::grant`] told it.
    #[cfg(feature = "tcp")]
    pub fn put(&self, now: Instant, packet: Packet) {
        let mut queue = self.lock();
        self.put_packet(&mut queue, now, packet);
        drop(queue);
        self.receiver.ring();
    }

    /// How much credit packets may have taken up in all, since the lane was made, when that is a quarter of the lane more than
    /// was `told` before; else the sender is woken once it is.
    #[cfg(feature = "tcp")]
    pub fn grant(&self, told: u64) -> Option<u64> {
        let mut queue = self.lock();
        let credit = queue.pace.credit.max(LEAST_GRANT) as u64;
        let (limit, step) = (queue.taken + credit, credit / 4);
        if limit >= told + step {
            queue.ring_at = u64::MAX;
            return Some(limit);
        }
        queue.ring_at = (told + step).saturating_sub(credit);
        None
    }

    /// Puts a link message on the lane. They share the wire with packets, so order is kept.
    pub fn tell(&self, now: Instant, message: LinkMessage) {
        let mut queue = self.lock();
        if queue.messages >= MESSAGES {
            return;
        }
        queue.messages += 1;
        let at = queue.free_at.max(now) + FLIGHT;
        self.push(&mut queue, at, Item::Message(message));
        drop(queue);
        self.receiver.ring();
    }

    /// When the first item arrives.
    pub fn next_due(&self) -> Option<Instant> {
        match self.head_at.load(Ordering::Acquire) {
            u64::MAX => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }

    /// Takes the first item, if it has arrived at `now`.
    pub fn receive(&self, now: Instant) -> Option<(Instant, Item)> {
        if self.next_due()? > now {
            return None;
        }
        let mut queue = self.lock();
        let (at, item) = queue.items.pop_front()?;
        let mut granted = false;
        match &item {
            Item::Packet(packet) => {
                let credit = credit(packet);
                queue.bytes -= credit;
                queue.taken += credit as u64;
                granted = queue.taken >= queue.ring_at;
            }
            Item::Message(_) => queue.messages -= 1,
        }
        if granted {
            queue.ring_at = u64::MAX;
        }
        let head = queue.items.front().map_or(u64::MAX, |(at, _)| at.as_nanos());
        self.head_at.store(head, Ordering::Release);
        // Half of the credit is returned at once: a sender that waited doesn't wake for each packet.
        let room = queue.sender_waits && queue.bytes <= queue.pace.credit / 2;
        if room {
            queue.sender_waits = false;
        }
        drop(queue);
        if room {
            self.room.store(true, Ordering::Release);
        }
        if room || granted {
            self.sender.ring();
        }
        Some((at, item))
    }

    /// Credit that the first item takes up: 0 for a message, and without one.
    #[cfg(feature = "tcp")]
    pub fn next_credit(&self) -> usize {
        match self.lock().items.front() {
            Some((_, Item::Packet(packet))) => credit(packet),
            _ => 0,
        }
    }

    /// Wakes the receiver, which has to look at something else than the lane.
    pub fn ring_receiver(&self) {
        self.receiver.ring();
    }

    /// When the first link message arrives, for a receiver that has no room for packets.
    pub fn next_message_due(&self) -> Option<Instant> {
        self.next_due()?;
        let queue = self.lock();
        queue.items.iter().find_map(|(at, item)| matches!(item, Item::Message(_)).then_some(*at))
    }

    /// Takes the first link message past the packets that wait before it, if it has arrived at `now`.
    pub fn receive_message(&self, now: Instant) -> Option<(Instant, Item)> {
        let mut queue = self.lock();
        let place = queue.items.iter().position(|(_, item)| matches!(item, Item::Message(_)))?;
        if queue.items.get(place)?.0 > now {
            return None;
        }
        let message = queue.items.remove(place)?;
        queue.messages -= 1;
        let head = queue.items.front().map_or(u64::MAX, |(at, _)| at.as_nanos());
        self.head_at.store(head, Ordering::Release);
        Some(message)
    }

    /// Credit taken up by the packets on it.
    #[cfg(all(test, not(loom)))]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether there is news of room.
    pub fn has_room_news(&self) -> bool {
        self.room.load(Ordering::Acquire)
    }

    /// Takes the news of room.
    pub fn take_room(&self) -> bool {
        self.room.swap(false, Ordering::AcqRel)
    }
}

/// Credit that a packet takes up at the receiver, in whole units of 64 bytes.
pub fn credit(packet: &Packet) -> usize {
    packet.bytes.len().max(1).next_multiple_of(64)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use opx_defs::units::Vl;

    fn packet(len: usize) -> Packet {
        Packet { bytes: vec![0; len], vl: Vl(0), sc4: false, bypass: false }
    }

    #[test]
    fn a_full_lane_refuses_and_tells_of_room() {
        let lane = Lane::new(Arc::default(), Arc::default());
        let mut sent = 0;
        while lane.send(Instant::ZERO, packet(8192)).is_ok() {
            sent += 1;
        }
        assert_eq!(sent, LINK_CREDIT_BYTES / 8192);
        assert!(!lane.take_room());
        let mut last = Instant::ZERO;
        while let Some((at, _)) = lane.receive(Instant::FAR) {
            assert!(at > last);
            last = at;
        }
        assert_eq!(last.as_nanos(), sent as u64 * 656 + 100);
        assert!(lane.take_room());
        assert!(!lane.take_room());
        assert_eq!(lane.next_due(), None);
    }

    #[test]
    fn a_narrow_lane_is_slow_and_soon_full() {
        let lane = Lane::new(Arc::default(), Arc::default());
        lane.set_pace(Pace { megabits: 8, credit: 100 });
        lane.send(Instant::ZERO, packet(1000)).unwrap();
        assert!(lane.send(Instant::ZERO, packet(1)).is_err());
        // A byte takes a microsecond.
        assert_eq!(lane.receive(Instant::FAR).unwrap().0, Instant::from_nanos(1_000_100));
        assert!(lane.take_room());
        lane.set_pace(Pace { megabits: 0, credit: 0 });
        lane.send(Instant::FAR, packet(1)).unwrap();
    }

    #[test]
    fn nothing_arrives_before_its_time() {
        let lane = Lane::new(Arc::default(), Arc::default());
        lane.send(Instant::from_nanos(1000), packet(125)).unwrap();
        lane.tell(Instant::from_nanos(1000), LinkMessage::Polling { reply: false });
        assert_eq!(lane.next_due(), Some(Instant::from_nanos(1110)));
        assert!(lane.receive(Instant::from_nanos(1109)).is_none());
        assert!(matches!(lane.receive(Instant::from_nanos(1110)), Some((_, Item::Packet(_)))));
        assert!(matches!(
            lane.receive(Instant::from_nanos(1110)),
            Some((_, Item::Message(LinkMessage::Polling { .. })))
        ));
    }
}
