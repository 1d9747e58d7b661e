//! One thing that a flight recorder has, as it is shown: from a recorder's file, or from a line of a state dump.

use crate::render::{COLUMNS, wrapped};
use opx_defs::wire::opx::Generation;
use opx_stack::Address;
use opx_stack::observe::Record;
use serde::Serialize;

/// Characters of an event in a line of a state dump.
const EVENT_WIDTH: usize = 40;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Which one, counted from 0.
    pub number: u64,
    /// When, nanoseconds of the adapter's clock.
    pub nanoseconds: u64,
    /// What.
    pub event: String,
    /// The packet, if it is about one.
    pub packet: Option<Packet>,
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Packet {
    /// The name of its opcode.
    pub kind: String,
    /// Its number in its flow, hexadecimal; none for ping, ACK and NACK.
    pub psn: Option<String>,
    /// Who sent it, as "LID/context".
    pub from: String,
    /// Whom it is for.
    pub to: String,
    /// Whether this endpoint sent it.
    pub outgoing: bool,
    /// Bytes of its payload.
    pub payload: u64,
}

impl Row {
    /// A record of the endpoint `me`.
    pub fn new(record: &Record, generation: Generation, me: Address) -> Self {
        let packet = record.packet(generation).map(|packet| {
            let name = |address: Address| format!("{}/{}", address.lid, address.rx);
            Packet {
                kind: packet.kind,
                psn: packet.psn.map(|psn| format!("{psn:06X}")),
                from: name(packet.from),
                to: name(packet.to),
                outgoing: packet.from == me,
                payload: record.payload.into(),
            }
        });
        let event = record.event.text().to_owned();
        Self { number: record.number, nanoseconds: record.at.as_nanos(), event, packet }
    }

    /// What `Record::line` of the endpoint `me` has written; none when it is something else.
    pub fn parse(line: &str, me: &str) -> Option<Self> {
        let (number, rest) = line.trim_start().split_once(' ')?;
        let (time, rest) = rest.trim_start().split_once(' ')?;
        let (seconds, nanos) = time.split_once('.')?;
        let at = rest.char_indices().nth(EVENT_WIDTH).map_or(rest.len(), |(at, _)| at);
        let (event, packet) = rest.split_at(at);
        let nanoseconds = seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos.parse().ok()?)?;
        let packet = match packet.trim() {
            "" => None,
            packet => Some(Packet::parse(packet, me)?),
        };
        Some(Self { number: number.parse().ok()?, nanoseconds, event: event.trim().to_owned(), packet })
    }
}

impl Packet {
    /// "Eager PSN 000001 0x1/5 -> 0x2/6 100 bytes", "opcode 0x12 …".
    fn parse(text: &str, me: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [start @ .., from, "->", to, payload, "bytes"] = words.as_slice() else { return None };
        let (kind, psn) = match start {
            [kind @ .., "PSN", psn] => (kind, Some((*psn).to_owned())),
            kind => (kind, None),
        };
        Some(Self {
            kind: kind.join(" "),
            psn,
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            outgoing: *from == me,
            payload: payload.parse().ok()?,
        })
    }
}

/// The last so many.
pub fn last(mut rows: Vec<Row>, last: Option<usize>) -> Vec<Row> {
    let first = last.map_or(0, |last| rows.len().saturating_sub(last));
    rows.split_off(first)
}

/// Rows in 80 columns, with the time since the first of them.
pub fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return "nothing is recorded\n".to_owned() };
    let start = format!("{}.{:09}", first.nanoseconds / 1_000_000_000, first.nanoseconds % 1_000_000_000);
    let mut text = format!("times in microseconds since {start} s of the adapter's clock\n");
    text += &line(["number", "time", "", "peer", "packet", "PSN", "bytes"], "what became of it");
    for row in rows {
        let nanos = row.nanoseconds.saturating_sub(first.nanoseconds);
        let time = format!("{}.{:03}", nanos / 1000, nanos % 1000);
        let number = row.number.to_string();
        text += &match &row.packet {
            None => line([&number, &time, "", "", "", "", ""], &row.event),
            Some(packet) => {
                let (way, peer) = if packet.outgoing { ("to", &packet.to) } else { ("of", &packet.from) };
                let (psn, bytes) = (packet.psn.as_deref().unwrap_or("-"), packet.payload.to_string());
                line([&number, &time, way, peer, &packet.kind, psn, &bytes], &row.event)
            }
        };
    }
    text
}

/// A line of the table; an event that is too long goes on in the next.
fn line([number, time, way, peer, kind, psn, bytes]: [&str; 7], event: &str) -> String {
    let start = format!("{number:>7} {time:>11} {way:2} {peer:<9} {kind:<7} {psn:>6} {bytes:>5}  ");
    let indent = start.chars().count();
    if indent + event.chars().count() <= COLUMNS {
        return format!("{start}{event}").trim_end().to_owned() + "\n";
    }
    format!("{start}{}", wrapped(event, indent.min(COLUMNS / 2 + 16))).trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::time::Instant;
    use opx_defs::units::Lid;
    use opx_stack::observe::Event;

    const ME: Address = Address { lid: Lid(1), rx: 5 };

    #[test]
    fn a_line_of_a_dump_says_what_the_recorder_has() {
        for event in Event::ALL.iter().copied() {
            let at = Instant::from_nanos(12_000_000_345);
            let record = Record { number: 123_456_789, at, event, payload: 0, header: None };
            let row = Row::new(&record, Generation::G4, ME);
            assert_eq!(Row::parse(&record.line(Generation::G4), "0x1/5"), Some(row));
        }
        let line =
            format!("       7      0.001000500 {:40} Eager    PSN 00002A 0x1/5 -> 0x2/6 100 bytes", "sent by PIO");
        let row = Row::parse(&line, "0x1/5").unwrap();
        assert_eq!((row.number, row.nanoseconds, row.event.as_str()), (7, 1_000_500, "sent by PIO"));
        let packet = row.packet.unwrap();
        assert_eq!((packet.kind.as_str(), packet.psn.as_deref(), packet.payload), ("Eager", Some("00002A"), 100));
        assert!(packet.outgoing && packet.to == "0x2/6");
        for bad in ["", "x", "7 0.1", "x 0.1 sent", "7 01 sent", &line.replace("->", "-"), &line.replace("100", "x")] {
            assert!(Row::parse(bad, "").is_none_or(|row| row.packet.is_none()), "{bad}");
        }
    }

    #[test]
    fn the_last_ones_are_kept() {
        let row = |number| Row { number, nanoseconds: 0, event: String::new(), packet: None };
        let numbers =
            |last| super::last((0..3).map(row).collect(), last).iter().map(|row| row.number).collect::<Vec<_>>();
        assert_eq!((numbers(None), numbers(Some(2)), numbers(Some(9))), (vec![0, 1, 2], vec![1, 2], vec![0, 1, 2]));
    }
}
