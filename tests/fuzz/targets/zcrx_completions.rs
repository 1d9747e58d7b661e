//! Any completions, in any order, on a ring with a pool: never a panic, never a byte outside of the area, and each buffer
//! that was lent goes back once.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_zcrx::{Completion, Event, Fake, HardwareQueue, Layout, Operation, Options, Ring, Source};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

const BUFFERS: u32 = 16;
const BUFFER_SIZE: u32 = 4096;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A completion of one of four streams, two of which there are, or of an event.
    Complete {
        of: u8,
        result: i32,
        more: bool,
        offset: u64,
    },
    /// One that makes sense.
    Receive {
        buffer: u8,
        start: u16,
        len: u16,
        more: bool,
    },
    /// One of the buffers that are held is let go.
    Drop(u8),
    /// The kernel takes some that were returned.
    TakeBack(u8),
    /// The next flush fails.
    FailFlush,
    Wait,
    Stop,
    Export,
}

/// A socket that nothing ever comes from.
fn socket() -> OwnedFd {
    static PAIR: OnceLock<(UnixStream, UnixStream)> = OnceLock::new();
    let (socket, _) = PAIR.get_or_init(|| UnixStream::pair().expect("two sockets"));
    socket.try_clone().expect("another file descriptor").into()
}

fuzz_target!(|input: (bool, u8, Vec<Step>)| {
    let (device, refill, steps) = input;
    let queue = HardwareQueue { interface: "eth0".to_owned(), index: 1, queue: 0 };
    let source = if device { Source::Queue(queue) } else { Source::NoDevice };
    let options = Options::new().zero_copy_rx(source).num_buffers(BUFFERS).refill_entries(1 + u32::from(refill % 32));
    let fake = Fake::default();
    let ring = Ring::open_on(&fake, &options).expect("a ring");
    ring.create_pool().expect("a pool");
    let first = ring.receive(socket()).expect("a stream");
    ring.receive(socket()).expect("a stream");
    let (mut held, mut lent) = (Vec::new(), 0_u64);
    for step in steps.into_iter().take(64) {
        match step {
            Step::Complete { of, result, more, offset } => {
                let user_data = match of % 6 {
                    4 => u64::MAX,
                    5 => u64::from(of) << 32,
                    stream => u64::from(stream),
                };
                fake.complete(0, Completion { user_data, result, more, offset });
            }
            Step::Receive { buffer, start, len, more } => {
                let offset = u64::from(buffer) % u64::from(BUFFERS) * u64::from(BUFFER_SIZE) + u64::from(start % 4096);
                let place = Layout { buffers: BUFFERS, buffer_size: BUFFER_SIZE }.locate(offset, i32::from(len));
                assert_eq!(place.is_ok(), len > 0 && u32::from(start % 4096) + u32::from(len) <= BUFFER_SIZE);
                fake.complete(0, Completion { user_data: 0, result: i32::from(len), more, offset });
            }
            Step::Drop(which) if !held.is_empty() => drop(held.swap_remove(usize::from(which) % held.len())),
            Step::Drop(_) => {}
            Step::TakeBack(most) => drop(fake.take_back(0, most.into())),
            Step::FailFlush => fake.fail_next(Operation::Flush, 6),
            Step::Wait => ring.wait(Some(Duration::ZERO)).expect("no error of its own"),
            Step::Stop => ring.stop(first),
            Step::Export => drop(ring.export_pool()),
        }
        while let Some(event) = ring.next_event() {
            if let Event::Data { data, .. } = event {
                assert!(!data.is_empty() && data.len() <= BUFFER_SIZE as usize);
                assert!(data.iter().all(|byte| *byte == 0), "not the area");
                lent += 1;
                held.push(data);
            }
        }
    }
    // Bytes of streams that aren't known any more were returned at once.
    let returned = ring.pool().expect("the pool").refill.returned;
    assert!(returned + held.len() as u64 >= lent);
    drop(ring);
    drop(held);
});
