//! TIDs as a receiver tells them to a sender: which RcvArray entries an expected packet's payload goes to.
//!
//! Source: `exp_rcv.h EXP_TID_*, create_tid`, PSM2 `ips_proto_expected.c:ips_tid_send_handle_tidreq`.

/// Which entries of a pair a TID means: the code of TIDCTRL in KDETH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TidCtrl {
    /// The even one.
    Even,
    /// The odd one.
    Odd,
    /// Both, one after the other, as one range that begins at 0.
    Both,
}

impl TidCtrl {
    /// The 2-bit code; 0 would be an eager packet.
    pub const fn code(self) -> u32 {
        match self {
            Self::Even => 1,
            Self::Odd => 2,
            Self::Both => 3,
        }
    }

    /// The meaning of a code; `None` for 0, which is no TID.
    pub const fn from_code(code: u32) -> Option<Self> {
        match code & 3 {
            1 => Some(Self::Even),
            2 => Some(Self::Odd),
            3 => Some(Self::Both),
            _ => None,
        }
    }
}

/// One element of the list that a receiver sends: a pair of RcvArray entries, which of them, and how long they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tid(u32);

impl Tid {
    /// Bytes of a page, the unit of length.
    pub const PAGE: u32 = 4096;
    /// Most pages of one element (`MAX_EXPECTED_BUFFER`); also of two merged ones.
    pub const MAX_PAGES: u32 = 512;
    const LEN: u32 = 0x7ff;
    const CTRL_SHIFT: u32 = 20;
    const IDX_SHIFT: u32 = 22;

    /// The element for RcvArray entry `entry`, counted from the context's first expected one, of `pages` pages; `None` when
    /// there is no such entry (0 to 2047) or length (1 to 512).
    pub const fn of_entry(entry: u16, pages: u32) -> Option<Self> {
        if entry > 2047 || pages == 0 || pages > Self::MAX_PAGES {
            return None;
        }
        let ctrl = 1 << (entry & 1);
        Some(Self(((entry as u32) >> 1) << Self::IDX_SHIFT | ctrl << Self::CTRL_SHIFT | pages))
    }

    /// Reads an element that a peer sent; `None` when it can't be one.
    pub const fn decode(raw: u32) -> Option<Self> {
        let tid = Self(raw);
        let pages = raw & Self::LEN;
        // Bits 11 to 19 have no meaning yet.
        let reserved = raw >> 11 & 0x1ff;
        if raw >> Self::CTRL_SHIFT & 3 == 0 || pages == 0 || pages > Self::MAX_PAGES || reserved != 0 {
            return None;
        }
        Some(tid)
    }

    /// The 32 bits as they are sent.
    pub const fn encode(self) -> u32 {
        self.0
    }

    /// Index of the pair, 0 to 1023: TID in KDETH.
    pub const fn pair(self) -> u16 {
        (self.0 >> Self::IDX_SHIFT) as u16
    }

    /// Which entries of the pair.
    pub const fn ctrl(self) -> TidCtrl {
        match self.0 >> Self::CTRL_SHIFT & 3 {
            1 => TidCtrl::Even,
            2 => TidCtrl::Odd,
            _ => TidCtrl::Both,
        }
    }

    /// Bytes behind it.
    pub const fn bytes(self) -> u32 {
        (self.0 & Self::LEN) * Self::PAGE
    }

    /// This element and the one after it as one, when they are the two halves of a pair that together aren't too long.
    pub const fn merge(self, next: Self) -> Option<Self> {
        let pages = (self.0 & Self::LEN) + (next.0 & Self::LEN);
        let halves = matches!((self.ctrl(), next.ctrl()), (TidCtrl::Even, TidCtrl::Odd));
        if !halves || self.pair() != next.pair() || pages > Self::MAX_PAGES {
            return None;
        }
        Some(Self(self.0 & !Self::LEN | 3 << Self::CTRL_SHIFT | pages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_those_of_the_driver() {
        // create_tid(5, 2): pair 2, CTRL 2, 2 pages.
        let tid = Tid::of_entry(5, 2).unwrap();
        assert_eq!(tid.encode(), 2 << 22 | 2 << 20 | 2);
        assert_eq!((tid.pair(), tid.ctrl(), tid.bytes()), (2, TidCtrl::Odd, 8192));
        assert_eq!(Tid::of_entry(2047, 512).unwrap().pair(), 1023);
        assert_eq!((Tid::of_entry(2048, 1), Tid::of_entry(0, 0), Tid::of_entry(0, 513)), (None, None, None));
    }

    #[test]
    fn halves_of_a_pair_merge() {
        let (even, odd) = (Tid::of_entry(4, 500).unwrap(), Tid::of_entry(5, 12).unwrap());
        let both = even.merge(odd).unwrap();
        assert_eq!((both.pair(), both.ctrl(), both.bytes()), (2, TidCtrl::Both, 512 * 4096));
        assert_eq!(odd.merge(even), None);
        assert_eq!(even.merge(Tid::of_entry(5, 13).unwrap()), None);
        assert_eq!(even.merge(Tid::of_entry(7, 1).unwrap()), None);
        assert_eq!(both.merge(odd), None);
    }

    #[test]
    fn what_a_peer_sends_is_looked_at() {
        for raw in [0, 1, 1 << 20, 1 << 20 | 513, 1 << 20 | 1 << 11 | 1, u32::MAX] {
            assert_eq!(Tid::decode(raw), None, "{raw:#x}");
        }
        let tid = Tid::of_entry(9, 3).unwrap();
        assert_eq!(Tid::decode(tid.encode()), Some(tid));
    }
}
