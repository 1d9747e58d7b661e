//! The patterns that are measured: one end asks for them and takes the time, the other answers.
//!
//! Both ends can be in one process: then the asking end lets the answering one have its turn whenever it waits.

use crate::transport::{Access, Content, Event, Message, Sent, Transport, Window};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Tags: of what is asked for, of the answer that it can begin, of messages, of their echoes, and of the last answer.
const ASK: u64 = 1 << 60;
const READY: u64 = 2 << 60;
const DATA: u64 = 3 << 60;
const ECHO: u64 = 4 << 60;
const DONE: u64 = 5 << 60;
/// And of messages that nobody sends.
const NEVER: u64 = 6 << 60;

/// Longest time in which nothing comes.
pub const STALL: Duration = Duration::from_secs(60);
/// Of so many turns in which nothing comes one looks at the clock: that takes longer than a turn.
const LOOK: u32 = 1024;

/// Waits for something, but not for ever.
#[derive(Default)]
struct Patience {
    turns: u32,
    since: Option<Instant>,
}

impl Patience {
    /// Nothing has come again; `what` hasn't.
    fn turn(&mut self, what: &str) -> Result<()> {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(LOOK) {
            let since = *self.since.get_or_insert_with(Instant::now);
            ensure!(since.elapsed() < STALL, "{what} for {STALL:?}");
        }
        Ok(())
    }
}

/// What goes on between the ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// A message there and one back, one at a time: half of the round trip.
    Latency,
    /// Messages one way, a window of them under way: bytes and messages per second.
    Bandwidth,
    /// A write to the other end's memory, one at a time, until it is done.
    WriteLatency,
    /// Writes, a window of them under way.
    Write,
    /// A read of the other end's memory, one at a time, until it is done.
    ReadLatency,
    /// Reads, a window of them under way.
    Read,
    /// Numbers of 8 bytes added in the other end's memory, with what they were as the answer, one operation at a time.
    FetchLatency,
    /// The same, a window of operations under way.
    Fetch,
}

/// Most bytes of an atomic operation that is measured.
pub const FETCH_MAX: usize = 4096;

impl Pattern {
    /// What it does to the other end's memory, if anything.
    pub fn access(self) -> Option<Access> {
        match self {
            Self::Latency | Self::Bandwidth => None,
            Self::WriteLatency | Self::Write => Some(Access::Write),
            Self::ReadLatency | Self::Read => Some(Access::Read),
            Self::FetchLatency | Self::Fetch => Some(Access::Fetch),
        }
    }

    /// Whether there is one at a time, of which each is timed.
    pub fn is_latency(self) -> bool {
        matches!(self, Self::Latency | Self::WriteLatency | Self::ReadLatency | Self::FetchLatency)
    }

    /// Whether it can be measured with so many bytes.
    pub fn takes(self, size: usize) -> bool {
        match self.access() {
            None => true,
            Some(Access::Write | Access::Read) => size > 0,
            Some(Access::Fetch) => size > 0 && size.is_multiple_of(8) && size <= FETCH_MAX,
        }
    }

    /// As it is called on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// One measurement to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// What.
    pub pattern: Pattern,
    /// Bytes of a message.
    pub size: usize,
    /// Messages under way at a time.
    pub window: u32,
    /// Messages before time is taken.
    pub warmup: u64,
    /// Messages that count.
    pub count: u64,
    /// Whether each message is in other memory than those before, [`ROTATION`] in all, so that no cache holds it.
    pub rotating: bool,
}

/// Bytes of memory that messages rotate through.
pub const ROTATION: usize = 64 << 20;

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pattern, size, window, warmup, count, rotating } = self;
        let name = pattern.name();
        write!(f, "{name}:{size}:{window}:{warmup}:{count}:{rotating}")
    }
}

impl FromStr for Job {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let read = || {
            let mut words = text.split(':');
            let pattern = Pattern::from_str(words.next()?, false).ok()?;
            let (size, window) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let (warmup, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some(Self { pattern, size, window, warmup, count, rotating: words.next()?.parse().ok()? })
        };
        read().ok_or_else(|| format!("{text} is no measurement"))
    }
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Time for all messages that count.
    pub time: Duration,
    /// Half round trips, or whole operations on memory, in nanoseconds; empty unless each was timed.
    pub times: Histogram<u64>,
}

/// What the asking end tells the other to take part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Echo {
        size: usize,
        count: u64,
    },
    Take {
        size: usize,
        window: u64,
        count: u64,
    },
    /// As `Take`, but the content is looked at.
    Check {
        size: usize,
        count: u64,
    },
    /// From now on messages rotate through so many bytes.
    Rotate {
        rotation: usize,
    },
    /// So many receives are posted for messages that nobody sends.
    Deepen {
        count: u64,
    },
    /// Memory of the answering end's, with the content of message 0, may be used.
    Expose {
        size: usize,
    },
    End,
}

const ORDER_BYTES: usize = 32;

impl Order {
    fn bytes(self) -> [u8; ORDER_BYTES] {
        let words = match self {
            Self::End => [0, 0, 0, 0],
            Self::Echo { size, count } => [1, size as u64, 1, count],
            Self::Take { size, window, count } => [2, size as u64, window, count],
            Self::Check { size, count } => [3, size as u64, 1, count],
            Self::Rotate { rotation } => [4, rotation as u64, 0, 0],
            Self::Expose { size } => [5, size as u64, 1, 0],
            Self::Deepen { count } => [6, 0, 0, count],
        };
        let mut bytes = [0; ORDER_BYTES];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let &[what, size, window, count] = &words[..] else { bail!("the other end isn't opx-perf of this version") };
        let size = usize::try_from(size)?;
        Ok(match what {
            0 => Self::End,
            1 => Self::Echo { size, count },
            2 => Self::Take { size, window, count },
            3 => Self::Check { size, count },
            4 => Self::Rotate { rotation: size },
            5 => Self::Expose { size },
            6 => Self::Deepen { count },
            _ => bail!("the other end isn't opx-perf of this version"),
        })
    }
}

/// Byte `at` of checked message `number`.
pub fn content(number: u64, at: usize) -> u8 {
    (number as usize).wrapping_mul(31).wrapping_add(at.wrapping_mul(7)).wrapping_add(at >> 8) as u8
}

/// The end that asks.
pub struct Asker<'a, T: Transport> {
    /// Its end.
    end: &'a mut T,
    /// What is done while it waits.
    meanwhile: &'a mut dyn FnMut() -> Result<()>,
    /// Messages that haven't left, and operations on memory that haven't ended.
    under_way: u64,
    /// What was read last.
    read: Vec<u8>,
    /// Whether each message of a latency is timed.
    times_each: bool,
}

impl<'a, T: Transport> Asker<'a, T> {
    /// Asks over `end`; `meanwhile` is called again and again while it waits.
    pub fn new(end: &'a mut T, meanwhile: &'a mut dyn FnMut() -> Result<()>) -> Self {
        Self { end, meanwhile, under_way: 0, read: Vec::new(), times_each: true }
    }

    /// From now on only all messages of a latency are timed: to look at the clock takes as long as a short message does.
    pub fn time_all_only(&mut self) {
        self.times_each = false;
    }

    /// Posts `count` receives at each end for messages that nobody sends: each message that comes is looked for among them.
    ///
    /// # Errors
    /// When there is no room for as many.
    pub fn deepen(&mut self, count: u64) -> Result<()> {
        if count > 0 {
            self.order(Order::Deepen { count })?;
            self.settle()?;
            post_in_vain(self.end, count).context("there is no room for as many receives; give less (--posted)")?;
        }
        Ok(())
    }

    /// Looks at the content of some messages, or of memory.
    ///
    /// # Errors
    /// When it isn't what it must be.
    pub fn check(&mut self, pattern: Pattern, size: usize, count: u64) -> Result<()> {
        match pattern.access() {
            None => self.check_messages(size, count),
            Some(access) => self.check_memory(access, size),
        }
    }

    /// Sends messages whose content the other end looks at.
    fn check_messages(&mut self, size: usize, count: u64) -> Result<()> {
        self.order(Order::Check { size, count })?;
        self.end.post(DONE, 8)?;
        for number in 0..count {
            let bytes: Vec<u8> = (0..size).map(|at| content(number, at)).collect();
            self.send(DATA, Message::These(&bytes))?;
        }
        let wrong = self.until_received(DONE)?;
        self.settle()?;
        ensure!(wrong == 0, "{wrong} of {count} messages of {size} bytes arrived with other content");
        Ok(())
    }

    /// Does what is measured once, and looks at what is in the memory before and after.
    fn check_memory(&mut self, access: Access, size: usize) -> Result<()> {
        let [before, operand] = [0, 1].map(|number| (0..size).map(|at| content(number, at)).collect::<Vec<_>>());
        let sums = |a: &[u8], b: &[u8]| {
            let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
            words.flat_map(|(a, b)| u64::from_le_bytes(*a).wrapping_add(u64::from_le_bytes(*b)).to_le_bytes()).collect()
        };
        let (answer, after) = match access {
            Access::Write => (vec![], operand.clone()),
            Access::Read => (before.clone(), before.clone()),
            Access::Fetch => (before.clone(), sums(&before, &operand)),
        };
        let window = self.expose(size)?;
        for (access, expected) in [(access, answer), (Access::Read, after)] {
            let read = self.access_once(access, window, Message::These(&operand))?;
            ensure!(read == expected, "{size} bytes of the other end's memory have other content");
        }
        Ok(())
    }

    /// Makes a measurement.
    ///
    /// # Errors
    /// When the transport fails, or nothing comes for a minute.
    pub fn measure(&mut self, job: &Job) -> Result<Measured> {
        let rotation = if job.rotating { ROTATION } else { 0 };
        self.order(Order::Rotate { rotation })?;
        self.end.rotate(rotation);
        match job.pattern {
            Pattern::Latency => self.latency(job),
            Pattern::Bandwidth => self.bandwidth(job),
            other => match other.access() {
                Some(access) if other.is_latency() => self.access_latency(access, job),
                Some(access) => self.access_bandwidth(access, job),
                None => bail!("nothing is measured by {}", other.name()),
            },
        }
    }

    /// Tells the other end that nothing more comes.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn finish(&mut self) -> Result<()> {
        self.order(Order::End)
    }

    fn latency(&mut self, job: &Job) -> Result<Measured> {
        let all = job.warmup + job.count;
        self.order(Order::Echo { size: job.size, count: all })?;
        // Three digits: a bucket is at most a thousandth wide.
        let mut halves = Histogram::new(3)?;
        let mut begin = Instant::now();
        for number in 0..all {
            self.end.post(ECHO, job.size)?;
            if number == job.warmup {
                begin = Instant::now();
            }
            let start = self.times_each.then(Instant::now);
            self.send(DATA, Message::Any(job.size))?;
            self.until_received(ECHO)?;
            if let Some(start) = start.filter(|_| number >= job.warmup) {
                halves.record(start.elapsed().as_nanos() as u64 / 2)?;
            }
        }
        let time = begin.elapsed();
        self.settle()?;
        Ok(Measured { time, times: halves })
    }

    fn access_latency(&mut self, access: Access, job: &Job) -> Result<Measured> {
        let window = self.expose(job.size)?;
        let mut times = Histogram::new(3)?;
        let mut begin = Instant::now();
        for number in 0..job.warmup + job.count {
            let start = Instant::now();
            if number == job.warmup {
                begin = start;
            }
            self.begin_access(access, window, Message::Any(job.size))?;
            self.settle()?;
            if number >= job.warmup {
                times.record(start.elapsed().as_nanos() as u64)?;
            }
        }
        Ok(Measured { time: begin.elapsed(), times })
    }

    fn access_bandwidth(&mut self, access: Access, job: &Job) -> Result<Measured> {
        let window = self.expose(job.size)?;
        let mut time = Duration::ZERO;
        for count in [job.warmup, job.count] {
            let begin = Instant::now();
            for _ in 0..count {
                while self.under_way >= u64::from(job.window) {
                    self.wait_for_one()?;
                }
                self.begin_access(access, window, Message::Any(job.size))?;
            }
            self.settle()?;
            time = begin.elapsed();
        }
        Ok(Measured { time, times: Histogram::new(1)? })
    }

    /// Has the other end's memory opened, with what the first checked message says in it.
    fn expose(&mut self, size: usize) -> Result<Window> {
        self.end.post(READY, 16)?;
        self.send(ASK, Message::These(&Order::Expose { size }.bytes()))?;
        let (key, place) = self.until_received_both(READY)?;
        self.settle()?;
        Ok(Window { key, place })
    }

    /// Does something to the other end's memory, and waits until it is done; gives what was read.
    fn access_once(&mut self, access: Access, window: Window, message: Message<'_>) -> Result<Vec<u8>> {
        self.begin_access(access, window, message)?;
        self.wait_for_one()?;
        Ok(std::mem::take(&mut self.read))
    }

    fn begin_access(&mut self, access: Access, window: Window, message: Message<'_>) -> Result<()> {
        let mut patience = Patience::default();
        while self.end.access(access, window, message)? == Sent::Again {
            self.turn()?;
            patience.turn("there was no room for an operation")?;
        }
        self.under_way += 1;
        Ok(())
    }

    /// Waits until one of what is under way has ended.
    fn wait_for_one(&mut self) -> Result<()> {
        let mut patience = Patience::default();
        let before = self.under_way;
        while self.under_way == before {
            self.turn()?;
            patience.turn("nothing has ended")?;
        }
        Ok(())
    }

    fn bandwidth(&mut self, job: &Job) -> Result<Measured> {
        let mut time = Duration::ZERO;
        for count in [job.warmup, job.count] {
            if count == 0 {
                continue;
            }
            let window = u64::from(job.window);
            self.order(Order::Take { size: job.size, window: 2 * window, count })?;
            self.settle()?;
            self.end.post(DONE, 8)?;
            let begin = Instant::now();
            self.stream(job.size, window, count)?;
            time = begin.elapsed();
            self.settle()?;
        }
        Ok(Measured { time, times: Histogram::new(1)? })
    }

    /// Sends messages, a window at a time, until the other end says that it has them all.
    fn stream(&mut self, size: usize, window: u64, count: u64) -> Result<()> {
        let (mut sent, mut patience) = (0, Patience::default());
        loop {
            while sent < count && self.under_way < window {
                match self.end.send(DATA, Message::Any(size))? {
                    Sent::Again => break,
                    Sent::Later => self.under_way += 1,
                    Sent::Now => {}
                }
                sent += 1;
            }
            match self.turn()? {
                Turn::Received(DONE, ..) => return Ok(()),
                Turn::Received(tag, ..) => bail!("a message with tag {tag:#x} came that nobody asked for"),
                Turn::Sent => patience = Patience::default(),
                Turn::Nothing => patience.turn("nothing arrived")?,
            }
        }
    }

    /// Tells the other end what is wanted, and waits until it is ready.
    fn order(&mut self, order: Order) -> Result<()> {
        self.end.post(READY, 8)?;
        self.send(ASK, Message::These(&order.bytes()))?;
        self.until_received(READY).map(drop)
    }

    fn send(&mut self, tag: u64, message: Message<'_>) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            match self.end.send(tag, message)? {
                Sent::Again => {}
                Sent::Later => {
                    self.under_way += 1;
                    return Ok(());
                }
                Sent::Now => return Ok(()),
            }
            if let Turn::Received(tag, ..) = self.turn()? {
                bail!("a message with tag {tag:#x} came while one was being sent");
            }
            patience.turn("there was no room to send")?;
        }
    }

    /// Waits for a message with `wanted`; tells what its first 8 bytes say, if it has so many.
    fn until_received(&mut self, wanted: u64) -> Result<u64> {
        self.until_received_both(wanted).map(|(number, _)| number)
    }

    /// The same, and what its second 8 bytes say.
    fn until_received_both(&mut self, wanted: u64) -> Result<(u64, u64)> {
        let mut patience = Patience::default();
        loop {
            match self.turn()? {
                Turn::Received(tag, first, second) if tag == wanted => return Ok((first, second)),
                Turn::Received(tag, ..) => bail!("a message with tag {tag:#x} came that nobody asked for"),
                Turn::Sent => {}
                Turn::Nothing => patience.turn("nothing arrived")?,
            }
        }
    }

    /// Waits until all messages have left, and all operations have ended.
    fn settle(&mut self) -> Result<()> {
        let mut patience = Patience::default();
        while self.under_way > 0 {
            if let Turn::Received(tag, ..) = self.turn()? {
                bail!("a message with tag {tag:#x} came that nobody asked for");
            }
            patience.turn("messages haven't left")?;
        }
        Ok(())
    }

    /// Polls once; lets others have their turn when nothing has happened.
    fn turn(&mut self) -> Result<Turn> {
        Ok(match self.end.poll()? {
            Some(Event::Sent) => {
                self.under_way = self.under_way.checked_sub(1).context("more messages left than were sent")?;
                Turn::Sent
            }
            Some(Event::Done { bytes }) => {
                self.read.clear();
                // Only what is looked at.
                if self.under_way == 1 {
                    self.read.extend_from_slice(bytes);
                }
                self.under_way = self.under_way.checked_sub(1).context("more operations ended than were begun")?;
                Turn::Sent
            }
            Some(Event::Received { tag, content }) => {
                let [first, second] = content.words();
                Turn::Received(tag, first, second)
            }
            None => {
                (self.meanwhile)()?;
                self.end.relax();
                Turn::Nothing
            }
        })
    }
}

/// Posts receives for messages that nobody sends, each of another tag.
fn post_in_vain<T: Transport>(end: &mut T, count: u64) -> Result<()> {
    (0..count).try_for_each(|number| end.post(NEVER | number, 8))
}

/// What a turn brought.
enum Turn {
    Sent,
    /// A message: its tag, and what its first and its second 8 bytes say.
    Received(u64, u64, u64),
    Nothing,
}

/// The end that answers.
#[derive(Debug)]
pub struct Answerer {
    order: Order,
    /// Messages that haven't come, and receives that haven't been posted for them.
    missing: u64,
    to_post: u64,
    /// Messages whose content was wrong.
    wrong: u64,
    /// What couldn't be sent yet.
    outgoing: VecDeque<(u64, Reply)>,
    is_over: bool,
}

/// What the answering end sends.
#[derive(Debug, Clone, Copy)]
enum Reply {
    Any(usize),
    Number(u64),
    Window(Window),
}

impl Answerer {
    /// An answering end that knows nothing yet.
    ///
    /// # Errors
    /// When no receive can be posted.
    pub fn new<T: Transport>(end: &mut T) -> Result<Self> {
        end.post(ASK, ORDER_BYTES)?;
        let (missing, to_post, wrong) = (0, 0, 0);
        Ok(Self { order: Order::End, missing, to_post, wrong, outgoing: VecDeque::new(), is_over: false })
    }

    /// Whether the asking end wants nothing more, and knows that this one knows.
    pub fn is_over(&self) -> bool {
        self.is_over && self.outgoing.is_empty()
    }

    /// Takes what came and answers; `true` when there was something.
    ///
    /// # Errors
    /// When the transport fails or the other end speaks another language.
    pub fn step<T: Transport>(&mut self, end: &mut T) -> Result<bool> {
        let mut busy = false;
        while let Some(event) = end.poll()? {
            busy = true;
            match event {
                Event::Sent | Event::Done { .. } => {}
                Event::Received { tag: ASK, content } => {
                    let order = Order::read(&content.to_vec())?;
                    self.begin(order, end)?;
                }
                Event::Received { tag: DATA, content } => {
                    self.look(content);
                    self.took(end)?;
                }
                Event::Received { tag, .. } => bail!("a message with tag {tag:#x} came that nobody asked for"),
            }
            self.flush(end)?;
        }
        self.flush(end)?;
        Ok(busy)
    }

    fn begin<T: Transport>(&mut self, order: Order, end: &mut T) -> Result<()> {
        self.order = order;
        self.wrong = 0;
        let (size, window, count) = match order {
            Order::End | Order::Expose { .. } => (0, 0, 0),
            Order::Deepen { count } => {
                post_in_vain(end, count)?;
                (0, 0, 0)
            }
            Order::Rotate { rotation } => {
                end.rotate(rotation);
                (0, 0, 0)
            }
            Order::Echo { size, count } | Order::Check { size, count } => (size, 1, count),
            Order::Take { size, window, count } => (size, window, count),
        };
        let now = window.min(count);
        for _ in 0..now {
            end.post(DATA, size)?;
        }
        (self.missing, self.to_post) = (count, count - now);
        self.is_over = order == Order::End;
        if !self.is_over {
            end.post(ASK, ORDER_BYTES)?;
        }
        let reply = match order {
            Order::Expose { size } => {
                Reply::Window(end.expose(&(0..size).map(|at| content(0, at)).collect::<Vec<_>>())?)
            }
            _ => Reply::Number(0),
        };
        self.outgoing.push_back((READY, reply));
        Ok(())
    }

    fn look(&mut self, came: Content<'_>) {
        if let Order::Check { size, count } = self.order {
            let (number, bytes) = (count - self.missing, came.to_vec());
            let right = bytes.len() == size && bytes.iter().enumerate().all(|(at, byte)| *byte == content(number, at));
            self.wrong += u64::from(!right);
        }
    }

    fn took<T: Transport>(&mut self, end: &mut T) -> Result<()> {
        self.missing = self.missing.checked_sub(1).context("more messages came than were announced")?;
        let size = match self.order {
            Order::Echo { size, .. } => {
                self.outgoing.push_back((ECHO, Reply::Any(size)));
                size
            }
            Order::Take { size, .. } | Order::Check { size, .. } => size,
            Order::End | Order::Rotate { .. } | Order::Expose { .. } | Order::Deepen { .. } => {
                bail!("a message came although nothing was announced")
            }
        };
        if self.to_post > 0 {
            self.to_post -= 1;
            end.post(DATA, size)?;
        }
        if self.missing == 0 && !matches!(self.order, Order::Echo { .. }) {
            self.outgoing.push_back((DONE, Reply::Number(self.wrong)));
        }
        Ok(())
    }

    fn flush<T: Transport>(&mut self, end: &mut T) -> Result<()> {
        while let Some((tag, reply)) = self.outgoing.front() {
            let number: [u8; 8];
            let window: [[u8; 8]; 2];
            let message = match reply {
                Reply::Any(size) => Message::Any(*size),
                Reply::Number(value) => {
                    number = value.to_le_bytes();
                    Message::These(&number)
                }
                Reply::Window(Window { key, place }) => {
                    window = [key.to_le_bytes(), place.to_le_bytes()];
                    Message::These(window.as_flattened())
                }
            };
            if end.send(*tag, message)? == Sent::Again {
                break;
            }
            self.outgoing.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    type Queue = Rc<RefCell<VecDeque<(u64, Vec<u8>)>>>;

    /// Two queues, one each way; a message that is spoilt on request.
    struct Plain {
        to: Queue,
        from: Queue,
        last: Vec<u8>,
        refusals: u32,
        spoil: bool,
        exposed: Rc<RefCell<Vec<u8>>>,
        /// What was done to the other end's memory, and what was read.
        done: VecDeque<Vec<u8>>,
        others: Rc<RefCell<Vec<u8>>>,
    }

    impl Transport for Plain {
        fn rotate(&mut self, _bytes: usize) {}

        fn label(&self) -> String {
            "plain".to_owned()
        }

        fn post(&mut self, _: u64, _: usize) -> Result<()> {
            Ok(())
        }

        fn send(&mut self, tag: u64, message: Message<'_>) -> Result<Sent> {
            self.refusals += 1;
            if self.refusals.is_multiple_of(3) {
                return Ok(Sent::Again);
            }
            let mut bytes = match message {
                Message::Any(len) => vec![0; len],
                Message::These(bytes) => bytes.to_vec(),
            };
            if self.spoil && tag == DATA {
                bytes[0] ^= 1;
            }
            self.to.borrow_mut().push_back((tag, bytes));
            Ok(Sent::Now)
        }

        fn can(&self, _: Access) -> bool {
            true
        }

        fn expose(&mut self, content: &[u8]) -> Result<Window> {
            *self.exposed.borrow_mut() = content.to_vec();
            Ok(Window { key: 5, place: 6 })
        }

        fn access(&mut self, access: Access, window: Window, message: Message<'_>) -> Result<Sent> {
            assert_eq!(window, Window { key: 5, place: 6 });
            self.refusals += 1;
            if self.refusals.is_multiple_of(3) {
                return Ok(Sent::Again);
            }
            let mut memory = self.others.borrow_mut();
            let before = memory.clone();
            if let (Access::Write, Message::These(bytes)) = (access, message) {
                memory.copy_from_slice(bytes);
                memory[0] ^= u8::from(self.spoil);
            }
            if let (Access::Fetch, Message::These(bytes)) = (access, message) {
                for (to, add) in memory.as_chunks_mut::<8>().0.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *to = u64::from_le_bytes(*to).wrapping_add(u64::from_le_bytes(*add)).to_le_bytes();
                }
            }
            self.done.push_back(if access == Access::Write { vec![] } else { before });
            Ok(Sent::Later)
        }

        fn poll(&mut self) -> Result<Option<Event<'_>>> {
            if let Some(read) = self.done.pop_front() {
                self.last = read;
                return Ok(Some(Event::Done { bytes: &self.last }));
            }
            let Some((tag, bytes)) = self.from.borrow_mut().pop_front() else { return Ok(None) };
            self.last = bytes;
            Ok(Some(Event::Received { tag, content: Content::Bytes(&self.last) }))
        }
    }

    fn pair(spoil: bool) -> (Plain, Plain) {
        let (one, other) = <(Rc<RefCell<_>>, Rc<RefCell<_>>)>::default();
        let (here, there) = <(Rc<RefCell<Vec<u8>>>, Rc<RefCell<Vec<u8>>>)>::default();
        let end = |to: &Rc<_>, from: &Rc<_>, exposed: &Rc<_>, others: &Rc<_>| Plain {
            to: Rc::clone(to),
            from: Rc::clone(from),
            last: Vec::new(),
            refusals: 0,
            spoil,
            exposed: Rc::clone(exposed),
            done: VecDeque::new(),
            others: Rc::clone(others),
        };
        (end(&one, &other, &here, &there), end(&other, &one, &there, &here))
    }

    fn with(spoil: bool, run: impl FnOnce(&mut Asker<'_, Plain>) -> Result<()>) -> Result<bool> {
        let (mut a, mut b) = pair(spoil);
        let mut answerer = Answerer::new(&mut b)?;
        let mut meanwhile = || answerer.step(&mut b).map(drop);
        run(&mut Asker::new(&mut a, &mut meanwhile))?;
        Ok(answerer.is_over())
    }

    #[test]
    fn all_patterns_run_to_their_end_and_the_other_side_knows() {
        let over = with(false, |asker| {
            let job = Job { pattern: Pattern::Latency, size: 8, window: 1, warmup: 3, count: 10, rotating: false };
            assert_eq!(asker.measure(&job)?.times.len(), 10);
            let job = Job { pattern: Pattern::Bandwidth, size: 100, window: 7, warmup: 5, count: 50, rotating: false };
            assert!(asker.measure(&job)?.times.is_empty());
            asker.deepen(3)?;
            asker.check(Pattern::Bandwidth, 1000, 5)?;
            for (pattern, window) in [(Pattern::WriteLatency, 1), (Pattern::ReadLatency, 1), (Pattern::FetchLatency, 1)]
            {
                asker.check(pattern, 64, 5)?;
                let job = Job { pattern, size: 64, window, warmup: 2, count: 10, rotating: false };
                assert_eq!(asker.measure(&job)?.times.len(), 10);
            }
            for pattern in [Pattern::Write, Pattern::Read, Pattern::Fetch] {
                let job = Job { pattern, size: 64, window: 4, warmup: 0, count: 30, rotating: false };
                assert!(asker.measure(&job)?.times.is_empty());
            }
            asker.finish()
        });
        assert!(over.unwrap());
    }

    #[test]
    fn spoilt_messages_are_told() {
        let error = with(true, |asker| asker.check(Pattern::Latency, 64, 5)).unwrap_err().to_string();
        assert_eq!(error, "5 of 5 messages of 64 bytes arrived with other content");
        let error = with(true, |asker| asker.check(Pattern::Write, 64, 5)).unwrap_err().to_string();
        assert_eq!(error, "64 bytes of the other end's memory have other content");
    }

    #[test]
    fn orders_survive_the_way() {
        for order in [
            Order::End,
            Order::Echo { size: 9, count: 4 },
            Order::Take { size: 1 << 20, window: 64, count: 1 << 40 },
            Order::Check { size: 0, count: 1 },
            Order::Expose { size: 77 },
            Order::Deepen { count: 1000 },
        ] {
            assert_eq!(Order::read(&order.bytes()).unwrap(), order);
        }
        assert!(Order::read(&[9; 32]).is_err());
        assert!(Order::read(&[1; 31]).is_err());
    }

    #[test]
    fn jobs_are_read_as_they_are_written() {
        let job = Job { pattern: Pattern::Bandwidth, size: 8, window: 64, warmup: 1, count: 2, rotating: true };
        assert_eq!(job.to_string().parse(), Ok(job));
        for text in ["", "latency", "latency:8:1:1:1", "both:8:1:1:1:true", "latency:8:1:1:1:maybe"] {
            assert!(text.parse::<Job>().is_err(), "{text}");
        }
    }
}
