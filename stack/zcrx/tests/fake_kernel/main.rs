//! The pool on a kernel in memory, which can be made to lack and to fail what the running one may.

#[path = "../common/mod.rs"]
mod common;
mod creating;
mod ingress;
mod owners;
mod receiving;
mod returning;

use common::{
    Checker, SMALL_POOL, Worker, alone, carry, connection, held, next, next_data, receive_until_end, send_pattern,
};
use opx_zcrx::{
    Answers, BadCompletion, Completion, CreateError, Event, EventTypes, ExportError, Fake, FakeQueue, Feature,
    HardwareQueue, ImportError, Incoming, Ingress, Means, OpenError, Operation, Options, OwnerGone, ReceiveError, Ring,
    Role, SharingError, Source, StreamError, StreamId, Unsupported, WhyNot, ZcrxAnswer, share_pools,
};
use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const PAGE: u32 = 4096;

fn owner() -> Options {
    Options::new().zero_copy_rx(Source::NoDevice).num_buffers(8).refill_entries(8)
}

fn device() -> Options {
    let queue = HardwareQueue { interface: "eth0".to_owned(), index: 2, queue: 1 };
    Options::new().zero_copy_rx(Source::Queue(queue)).num_buffers(32).refill_entries(8)
}

fn open(fake: &Fake, options: &Options) -> Ring<FakeQueue> {
    Ring::open_on(fake, options).unwrap()
}

fn with_pool(fake: &Fake, options: &Options) -> Ring<FakeQueue> {
    let ring = open(fake, options);
    ring.create_pool().unwrap();
    ring
}

fn lacking(change: impl FnOnce(&mut ZcrxAnswer)) -> Fake {
    let mut answers = Answers::default();
    let mut zcrx = answers.zcrx.unwrap();
    change(&mut zcrx);
    answers.zcrx = Ok(zcrx);
    Fake::new(answers)
}

/// A ring with one stream whose completions the test makes up, without anything being sent. The peer is kept.
fn scripted(options: &Options) -> (Fake, Ring<FakeQueue>, StreamId, TcpStream) {
    let fake = Fake::default();
    let ring = with_pool(&fake, options);
    let (sender, receiver) = connection();
    let stream = ring.receive(receiver).unwrap();
    (fake, ring, stream, sender)
}

/// Completes a receive of `len` bytes at `offset` of the ring's first stream.
fn complete(fake: &Fake, offset: u64, len: i32) {
    fake.complete(0, Completion { user_data: 0, result: len, more: true, offset });
}

fn refill(ring: &Ring<FakeQueue>) -> (u32, usize) {
    let refill = ring.pool().unwrap().refill;
    (refill.used, refill.overflow)
}
