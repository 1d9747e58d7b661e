//! A module in the cage: its memory (SFF-8636) and its side of the I2C bus.
//!
//! Source: `qsfp.c`, `qsfp.h` for what the driver reads, `i2c-algo-bit.c` for the edges that it makes. What else a module does
//! (its pins' meaning, writes that change something) isn't modelled: writes other than the page go unheeded.

/// The module's address, without the bit for reading (`qsfp.h:QSFP_DEV`).
const ADDRESS: u8 = 0x50;
const PAGE_SELECT: u8 = 127;
/// The lower half, and pages 0 to 3.
const LEN: usize = 5 * 128;

/// What a module's memory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QsfpModule(Vec<u8>);

impl QsfpModule {
    /// A module whose memory is `bytes`: the lower half, then pages 0 to 3, 128 bytes each. What is missing is 0.
    pub fn from_bytes(mut bytes: Vec<u8>) -> Self {
        bytes.resize(LEN, 0);
        Self(bytes)
    }

    /// A passive copper cable.
    pub fn copper(vendor: &str, part: &str, serial: &str, metres: u8) -> Self {
        let mut bytes = vec![0; LEN];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + value.len()) {
                place.copy_from_slice(value);
            }
        };
        let text = |text: &str| -> [u8; 16] {
            let mut padded = [b' '; 16];
            padded.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
            padded
        };
        // QSFP28, in both halves; power class 1; length, copper without equaliser; attenuations at four rates.
        put(0, &[0x11, 7]);
        put(128, &[0x11]);
        put(146, &[metres, 0xa0]);
        put(148, &text(vendor));
        put(165, &[0x00, 0x11, 0x75]);
        put(168, &text(part));
        put(184, b"A1");
        put(186, &[3, 5, 7, 9]);
        put(196, &text(serial));
        put(212, b"151031");
        let sum = |range: std::ops::Range<usize>| {
            bytes.get(range).unwrap_or_default().iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte))
        };
        let (base, extended) = (sum(128..191), sum(192..223));
        for (at, value) in [(191, base), (223, extended)] {
            if let Some(place) = bytes.get_mut(at) {
                *place = value;
            }
        }
        Self(bytes)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Until the next start condition.
    #[default]
    Idle,
    Address,
    Writing,
    Reading,
}

/// A module as it sits on the bus.
#[derive(Debug)]
pub struct Plugged {
    module: QsfpModule,
    phase: Phase,
    /// The transfer that follows the address is a read.
    reads: bool,
    /// The next byte written is where to go on.
    expects_offset: bool,
    offset: u8,
    page: u8,
    /// The byte under way, and its clocks so far: 8, then one for the acknowledgement.
    shift: u8,
    clocks: u8,
    acknowledged: bool,
    /// It pulls the data line low.
    pulls: bool,
    clock: bool,
    data: bool,
}

impl Plugged {
    /// A module that was just plugged in.
    pub fn new(module: QsfpModule) -> Self {
        Self {
            module,
            phase: Phase::Idle,
            reads: false,
            expects_offset: false,
            offset: 0,
            page: 0,
            shift: 0,
            clocks: 0,
            acknowledged: false,
            pulls: false,
            clock: true,
            data: true,
        }
    }

    /// What it was made of.
    pub fn into_module(self) -> QsfpModule {
        self.module
    }

    /// Whether it pulls the data line low.
    pub fn pulls_data(&self) -> bool {
        self.pulls
    }

    fn byte(&self) -> u8 {
        let at = match usize::from(self.offset) {
            lower @ 0..128 => lower,
            upper => usize::from(self.page) * 128 + upper,
        };
        self.module.0.get(at).copied().unwrap_or(0)
    }

    /// The host lets the lines go (`true`) or pulls them low.
    pub fn on_lines(&mut self, clock: bool, host_data: bool) {
        let data = host_data && !self.pulls;
        match (self.clock, clock) {
            (true, true) if self.data && !data => {
                // Start.
                (self.phase, self.shift, self.clocks) = (Phase::Address, 0, 0);
            }
            (true, true) if !self.data && data => {
                // Stop.
                (self.phase, self.pulls) = (Phase::Idle, false);
            }
            (false, true) => self.on_rise(data),
            (true, false) => self.on_fall(),
            _ => {}
        }
        self.clock = clock;
        self.data = host_data && !self.pulls;
    }

    fn on_rise(&mut self, data: bool) {
        if self.phase == Phase::Idle {
            return;
        }
        if self.clocks < 8 {
            self.shift = self.shift << 1 | u8::from(data);
        } else {
            self.acknowledged = !data;
        }
        self.clocks += 1;
    }

    fn on_fall(&mut self) {
        match (self.phase, self.clocks) {
            (Phase::Idle, _) => {}
            (Phase::Reading, 8) => self.pulls = false,
            (_, 8) => self.pulls = self.take(self.shift),
            (phase, 9) => {
                (self.clocks, self.pulls) = (0, false);
                match phase {
                    Phase::Address => self.phase = if self.reads { Phase::Reading } else { Phase::Writing },
                    // The host has enough.
                    Phase::Reading if !self.acknowledged => self.phase = Phase::Idle,
                    _ => {}
                }
                if self.phase == Phase::Reading {
                    self.shift = self.byte();
                    self.offset = self.offset.wrapping_add(1);
                    self.show();
                }
            }
            (Phase::Reading, 1..8) => self.show(),
            _ => {}
        }
    }

    /// Puts the next bit on the line. What is shifted in as the host clocks is the line itself, so the byte turns around.
    fn show(&mut self) {
        self.pulls = self.shift & 0x80 == 0;
    }

    /// A byte from the host; whether it is acknowledged.
    fn take(&mut self, byte: u8) -> bool {
        match self.phase {
            Phase::Address if byte >> 1 == ADDRESS => {
                (self.reads, self.expects_offset) = (byte & 1 != 0, byte & 1 == 0);
            }
            Phase::Address => {
                self.phase = Phase::Idle;
                return false;
            }
            _ if std::mem::take(&mut self.expects_offset) => self.offset = byte,
            _ => {
                if self.offset == PAGE_SELECT {
                    self.page = byte;
                }
                self.offset = self.offset.wrapping_add(1);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_device_is_not_answered() {
        let mut plugged = Plugged::new(QsfpModule::copper("A", "B", "C", 1));
        plugged.on_lines(true, false);
        plugged.on_lines(false, false);
        let mut clock = |data| {
            plugged.on_lines(false, data);
            plugged.on_lines(true, data);
            plugged.on_lines(false, data);
            plugged.pulls_data()
        };
        let acknowledged = (0..8).rev().map(|bit| clock(0xa2 >> bit & 1 != 0)).next_back();
        assert_eq!(acknowledged, Some(false));
    }
}
