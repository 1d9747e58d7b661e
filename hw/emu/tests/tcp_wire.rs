//! A wire whose other end is made by hand: what is no frame, comes too slowly, or is more than was granted ends the connection
//! with its own error, and the next connection works.
#![cfg(all(feature = "tcp", not(loom)))]

use opx_defs::units::Vl;
use opx_emu::tcp_wire::{
    Decoder, Frame, FrameError, Hello, LARGEST_PACKET, LinkMessage, StartWireError, TcpWire, WireError, WireOptions,
    WirePlace, WireStatus,
};
use opx_emu::{Adapter, Config, Lab, Pace, Pacing, Packet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For what must happen, on any machine.
const LIMIT: Duration = Duration::from_secs(60);
/// For a wire whose peer falls silent in the test.
const IMPATIENT: Duration = Duration::from_millis(300);

fn adapter() -> Adapter {
    Lab::new(Pacing::Real).add(Config::default())
}

fn options(silence: Duration) -> WireOptions {
    let soon = Duration::from_millis(10);
    WireOptions { silence, first_back_off: soon, longest_back_off: soon }
}

fn listening(silence: Duration) -> TcpWire {
    TcpWire::start(&adapter(), &WirePlace::Listen("127.0.0.1:0".to_owned()), options(silence)).unwrap()
}

fn until(what: &str, wire: &TcpWire, ready: impl Fn(&WireStatus) -> bool) -> WireStatus {
    let start = Instant::now();
    loop {
        let status = wire.status();
        if ready(&status) {
            return status;
        }
        assert!(start.elapsed() < LIMIT, "{what} doesn't come: {status:?}");
        std::thread::yield_now();
    }
}

/// The other end, made by hand.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    bytes: Vec<u8>,
}

impl Peer {
    fn connect(wire: &TcpWire) -> Self {
        Self::on(TcpStream::connect(wire.local_address().unwrap()).unwrap())
    }

    fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Self { stream, decoder: Decoder::default(), bytes: Vec::new() }
    }

    /// Greets and is greeted.
    fn greeted(wire: &TcpWire) -> Self {
        let mut peer = Self::connect(wire);
        let before = wire.status().connections;
        peer.send(&hello());
        assert!(matches!(peer.next(), Some(Frame::Hello(_))));
        until("the greeting", wire, |status| status.connections > before);
        peer
    }

    fn send(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        // Whether the other end still listens is not what is asked here.
        let _ = self.stream.write_all(&bytes);
    }

    /// The next frame; `None` at the end of the connection.
    fn next(&mut self) -> Option<Frame> {
        loop {
            let mut bytes = &self.bytes[..];
            let frame = self.decoder.next(&mut bytes).unwrap();
            self.bytes = bytes.to_vec();
            if frame.is_some() {
                return frame;
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more) {
                Ok(0) => return None,
                Ok(len) => self.bytes.extend(&more[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn until_closed(&mut self) {
        while self.next().is_some() {}
    }
}

fn hello() -> Frame {
    Frame::Hello(Hello { largest_packet: LARGEST_PACKET as u32, credit: 1 << 20, silence: 10_000 })
}

fn packet(len: usize) -> Frame {
    Frame::Packet(Packet { bytes: vec![0; len], vl: Vl(0), sc4: false, bypass: false })
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// What the wire says of a peer that sends this before or after its hello.
fn verdict(wire: &TcpWire, greet: bool, bytes: &[u8]) -> Arc<WireError> {
    let before = wire.status().failures;
    let mut peer = if greet { Peer::greeted(wire) } else { Peer::connect(wire) };
    let _ = peer.stream.write_all(bytes);
    peer.until_closed();
    until("the verdict", wire, |status| status.failures > before).last_failure.unwrap()
}

/// A frame with one byte changed.
fn spoilt(frame: &Frame, at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = encoded(frame);
    bytes[at] = byte;
    bytes
}

#[test]
fn a_peer_that_sends_nonsense_is_told_from_every_other() {
    let wire = listening(LIMIT);
    for greet in [false, true] {
        let say = |bytes: &[u8]| verdict(&wire, greet, bytes);
        assert!(matches!(*say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), WireError::Frame(FrameError::Magic(_))));
        assert!(matches!(*say(&spoilt(&hello(), 4, 0)), WireError::Frame(FrameError::Version(0))));
        assert!(matches!(*say(&spoilt(&hello(), 5, 99)), WireError::Frame(FrameError::Kind(99))));
        assert!(matches!(*say(&spoilt(&hello(), 16, 1)), WireError::Frame(FrameError::Checksum(_))));
        let oversize = encoded(&packet(LARGEST_PACKET + 1));
        assert!(matches!(*say(&oversize), WireError::Frame(FrameError::Length { .. })));
        // The header alone tells: nobody waits for 4 GiB.
        let mut endless = encoded(&packet(1))[..16].to_vec();
        endless[8..12].fill(0xff);
        assert!(matches!(*say(&endless), WireError::Frame(FrameError::Length { len: u32::MAX, .. })));
    }
    assert!(matches!(*verdict(&wire, false, &encoded(&Frame::KeepAlive)), WireError::NoHello));
    assert!(matches!(*verdict(&wire, true, &encoded(&hello())), WireError::SecondHello));
    for (hello, what) in [
        (Hello { largest_packet: 2048, credit: 1 << 20, silence: 1000 }, "largest packet"),
        (Hello { largest_packet: 1 << 20, credit: 4096, silence: 1000 }, "credit"),
        (Hello { largest_packet: 1 << 20, credit: 1 << 20, silence: 0 }, "time"),
    ] {
        let error = verdict(&wire, false, &encoded(&Frame::Hello(hello)));
        assert!(error.to_string().contains(what), "{error}");
    }
    let less = [encoded(&Frame::Credit(1 << 21)), encoded(&Frame::Credit(1 << 20))].concat();
    assert!(matches!(*verdict(&wire, true, &less), WireError::CreditTakenBack { .. }));
    Peer::greeted(&wire);
}

#[test]
fn a_peer_that_ends_in_the_midst_of_a_frame_is_gone() {
    let wire = listening(LIMIT);
    let bytes = encoded(&packet(2000));
    for greet in [false, true] {
        for len in [0, 1, 15, 16, 1000] {
            let before = wire.status().failures;
            let mut peer = if greet { Peer::greeted(&wire) } else { Peer::connect(&wire) };
            peer.stream.write_all(&bytes[..len]).unwrap();
            drop(peer);
            let status = until("the end", &wire, |status| status.failures > before);
            let error = status.last_failure.unwrap();
            // A connection that is closed with bytes unread is reset.
            assert!(matches!(*error, WireError::Ended { .. } | WireError::Stream(_) | WireError::System(_)), "{error}");
        }
    }
    Peer::greeted(&wire);
}

#[test]
fn a_peer_that_falls_silent_is_given_up_with_and_without_half_a_frame() {
    let wire = listening(IMPATIENT);
    let bytes = encoded(&packet(2000));
    for (greet, len) in [(false, 0), (false, 5), (true, 0), (true, 5), (true, 1000)] {
        let error = verdict(&wire, greet, &bytes[..len]);
        assert!(matches!(*error, WireError::Silent { kept, .. } if kept == len), "{error}");
    }
}

#[test]
fn bytes_that_trickle_dont_keep_a_peer_alive() {
    let wire = listening(IMPATIENT);
    let bytes = encoded(&packet(LARGEST_PACKET));
    for greet in [false, true] {
        let before = wire.status().failures;
        let mut peer = if greet { Peer::greeted(&wire) } else { Peer::connect(&wire) };
        let mut trickle = bytes.iter();
        while wire.status().failures == before {
            let byte = *trickle.next().expect("given up long before the frame is whole");
            let _ = peer.stream.write_all(&[byte]);
            std::thread::sleep(IMPATIENT / 30);
        }
        assert!(matches!(*wire.status().last_failure.unwrap(), WireError::Silent { .. }));
    }
}

#[test]
fn keep_alives_cross_in_both_directions() {
    let wire = listening(IMPATIENT);
    let mut peer = Peer::greeted(&wire);
    // Far longer in all than either end bears.
    for _ in 0..20 {
        assert_eq!(peer.next(), Some(Frame::KeepAlive));
        peer.send(&Frame::KeepAlive);
    }
    assert_eq!(wire.status().failures, 0);
}

#[test]
fn packets_without_credit_end_the_connection() {
    let adapter = adapter();
    let place = WirePlace::Listen("127.0.0.1:0".to_owned());
    let wire = TcpWire::start(&adapter, &place, options(LIMIT)).unwrap();
    let mut peer = Peer::connect(&wire);
    peer.send(&hello());
    let Some(Frame::Hello(theirs)) = peer.next() else { panic!("no hello") };
    until("the greeting", &wire, |status| status.connections == 1);
    // Otherwise the chip, which drops what comes while the link is down, might keep up.
    assert!(adapter.set_pace(Pace { megabits: 1, ..Pace::default() }));
    for _ in 0..4 * theirs.credit / LARGEST_PACKET as u64 {
        peer.send(&packet(LARGEST_PACKET));
    }
    peer.until_closed();
    let status = until("the verdict", &wire, |status| status.failures > 0);
    assert!(matches!(*status.last_failure.unwrap(), WireError::Overrun));
}

#[test]
fn a_peer_that_counts_its_credit_is_granted_more_for_ever() {
    let wire = listening(LIMIT);
    let mut peer = Peer::connect(&wire);
    peer.send(&hello());
    let Some(Frame::Hello(theirs)) = peer.next() else { panic!("no hello") };
    let (mut limit, mut sent) = (theirs.credit, 0);
    while sent < 20 * theirs.credit {
        if sent + LARGEST_PACKET as u64 <= limit {
            peer.send(&packet(LARGEST_PACKET));
            sent += LARGEST_PACKET as u64;
        } else if let Some(Frame::Credit(now)) = peer.next() {
            assert!(now > limit);
            limit = now;
        }
    }
    // More link messages than a lane holds are lost, as on a cable.
    for n in 0..2000 {
        peer.send(&Frame::Message(LinkMessage::Idle(n)));
    }
    peer.send(&Frame::KeepAlive);
    assert_eq!(wire.status().failures, 0);
}

#[test]
fn an_end_that_connects_tries_until_somebody_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let place = WirePlace::Connect(address.to_string());
    let wire = TcpWire::start(&adapter(), &place, options(LIMIT)).unwrap();
    assert_eq!((wire.place(), wire.local_address()), (&place, None));
    let status = until("a refusal", &wire, |status| status.failures > 2);
    assert!(matches!(*status.last_failure.unwrap(), WireError::Connect(_)));
    let listener = TcpListener::bind(address).unwrap();
    for round in 1..4 {
        let mut peer = Peer::on(listener.accept().unwrap().0);
        peer.send(&hello());
        assert!(matches!(peer.next(), Some(Frame::Hello(_))));
        until("the greeting", &wire, |status| status.connections == round);
        // Garbage from whoever is connected to is no better.
        peer.stream.write_all(b"220 mail.example ESMTP ready\r\n").unwrap();
        peer.until_closed();
    }
    assert!(matches!(*wire.status().last_failure.unwrap(), WireError::Frame(FrameError::Magic(_))));
}

#[test]
fn a_pulled_wire_stays_so_until_it_is_plugged_in() {
    let a = listening(LIMIT);
    let place = WirePlace::Connect(a.local_address().unwrap().to_string());
    let b = TcpWire::start(&adapter(), &place, options(LIMIT)).unwrap();
    let joined = |count: u64| {
        for wire in [&a, &b] {
            until("the connection", wire, |status| status.connected.is_some() && status.connections >= count);
        }
    };
    joined(1);
    b.pull();
    until("the end", &b, |status| status.connected.is_none());
    until("the end", &a, |status| status.connected.is_none());
    assert!(matches!(*b.status().last_failure.unwrap(), WireError::Pulled));
    let (failures, connections) = (b.status().failures, a.status().connections);
    std::thread::sleep(IMPATIENT);
    assert_eq!((b.status().failures, a.status().connections), (failures, connections));
    b.plug();
    joined(2);
    a.cut();
    joined(3);
}

#[test]
fn what_cant_be_started_is_told() {
    let simulated = Lab::new(Pacing::Virtual).add(Config::default());
    let anywhere = WirePlace::Listen("127.0.0.1:0".to_owned());
    let error = TcpWire::start(&simulated, &anywhere, WireOptions::default()).unwrap_err();
    assert!(matches!(error, StartWireError::VirtualTime));
    assert!(error.to_string().contains("real time"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = WirePlace::Listen(taken.local_addr().unwrap().to_string());
    let error = TcpWire::start(&adapter(), &place, WireOptions::default()).unwrap_err();
    assert!(matches!(error, StartWireError::Listen { .. }));
    for nonsense in ["", "listen", "listen:", "listen:here", "listen::1", "connect:host:70000", "throw:1.2.3.4:5"] {
        assert!(nonsense.parse::<WirePlace>().is_err(), "{nonsense}");
    }
}

#[test]
fn nothing_is_left_of_wires_that_ended() {
    fn held() -> usize {
        std::fs::read_dir("/proc/self/task").unwrap().count() + std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
    // Other tests of this file run at the same time, so this one has a process to itself.
    if std::env::var_os("OPX_ALONE").is_none() {
        let test = "nothing_is_left_of_wires_that_ended";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let status = command.args(["--exact", test]).env("OPX_ALONE", "1").status().unwrap();
        assert!(status.success());
        return;
    }
    let (here, there) = (adapter(), adapter());
    // With the chips' threads, which run for as long as the chips are there.
    let before = held();
    for _ in 0..3 {
        {
            let place = WirePlace::Listen("127.0.0.1:0".to_owned());
            let a = TcpWire::start(&here, &place, options(LIMIT)).unwrap();
            let mut garbage = Peer::connect(&a);
            garbage.stream.write_all(b"nothing that makes sense to a wire").unwrap();
            garbage.until_closed();
            let place = WirePlace::Connect(a.local_address().unwrap().to_string());
            let b = TcpWire::start(&there, &place, options(LIMIT)).unwrap();
            until("the connection", &b, |status| status.connected.is_some());
        }
        // The kernel shows a thread for a moment after it was joined.
        let start = Instant::now();
        while held() > before {
            assert!(start.elapsed() < LIMIT, "{} threads and file descriptors, {before} before", held());
            std::thread::yield_now();
        }
    }
}
