//! The patterns that are measured: one end asks for them and takes the time, the other answers.
//!
//! Both ends can be in one process: then the asking end lets the answering one have its turn whenever it waits.

use crate::transport::{Event, Message, Sent, Transport};
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

/// Longest time in which nothing comes.
const STALL: Duration = Duration::from_secs(60);

/// What goes on between the ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// A message there and one back, one at a time: half of the round trip.
    Latency,
    /// Messages one way, a window of them under way: bytes and messages per second.
    Bandwidth,
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
        let pattern = pattern.to_possible_value();
        let name = pattern.as_ref().map_or("", |value| value.get_name());
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
    /// Half round trips in nanoseconds; empty but for [`Pattern::Latency`].
    pub halves: Histogram<u64>,
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
    /// Messages that haven't left.
    under_way: u64,
}

impl<'a, T: Transport> Asker<'a, T> {
    /// Asks over `end`; `meanwhile` is called again and again while it waits.
    pub fn new(end: &'a mut T, meanwhile: &'a mut dyn FnMut() -> Result<()>) -> Self {
        Self { end, meanwhile, under_way: 0 }
    }

    /// Sends messages whose content the other end looks at.
    ///
    /// # Errors
    /// When something else arrives there, or nothing.
    pub fn check(&mut self, size: usize, count: u64) -> Result<()> {
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
            let start = Instant::now();
            if number == job.warmup {
                begin = start;
            }
            self.send(DATA, Message::Any(job.size))?;
            self.until_received(ECHO)?;
            if number >= job.warmup {
                halves.record(start.elapsed().as_nanos() as u64 / 2)?;
            }
        }
        let time = begin.elapsed();
        self.settle()?;
        Ok(Measured { time, halves })
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
        Ok(Measured { time, halves: Histogram::new(1)? })
    }

    /// Sends messages, a window at a time, until the other end says that it has them all.
    fn stream(&mut self, size: usize, window: u64, count: u64) -> Result<()> {
        let (mut sent, mut alive) = (0, Instant::now());
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
                Turn::Received(DONE, _) => return Ok(()),
                Turn::Received(tag, _) => bail!("a message with tag {tag:#x} came that nobody asked for"),
                Turn::Sent => alive = Instant::now(),
                Turn::Nothing => ensure!(alive.elapsed() < STALL, "nothing arrived for {STALL:?}"),
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
        let begin = Instant::now();
        loop {
            match self.end.send(tag, message)? {
                Sent::Again => {}
                Sent::Later => {
                    self.under_way += 1;
                    return Ok(());
                }
                Sent::Now => return Ok(()),
            }
            if let Turn::Received(tag, _) = self.turn()? {
                bail!("a message with tag {tag:#x} came while one was being sent");
            }
            ensure!(begin.elapsed() < STALL, "there was no room to send for {STALL:?}");
        }
    }

    /// Waits for a message with `wanted`; tells what its first 8 bytes say, if it has so many.
    fn until_received(&mut self, wanted: u64) -> Result<u64> {
        let begin = Instant::now();
        loop {
            match self.turn()? {
                Turn::Received(tag, number) if tag == wanted => return Ok(number),
                Turn::Received(tag, _) => bail!("a message with tag {tag:#x} came that nobody asked for"),
                Turn::Sent => {}
                Turn::Nothing => ensure!(begin.elapsed() < STALL, "nothing arrived for {STALL:?}"),
            }
        }
    }

    /// Waits until all messages have left.
    fn settle(&mut self) -> Result<()> {
        let begin = Instant::now();
        while self.under_way > 0 {
            if let Turn::Received(tag, _) = self.turn()? {
                bail!("a message with tag {tag:#x} came that nobody asked for");
            }
            ensure!(begin.elapsed() < STALL, "messages haven't left for {STALL:?}");
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
            Some(Event::Received { tag, bytes }) => {
                Turn::Received(tag, bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)))
            }
            None => {
                (self.meanwhile)()?;
                self.end.relax();
                Turn::Nothing
            }
        })
    }
}

/// What a turn brought.
enum Turn {
    Sent,
    /// A message: its tag, and what its first 8 bytes say.
    Received(u64, u64),
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
                Event::Sent => {}
                Event::Received { tag: ASK, bytes } => {
                    let order = Order::read(bytes)?;
                    self.begin(order, end)?;
                }
                Event::Received { tag: DATA, bytes } => {
                    self.look(bytes);
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
            Order::End => (0, 0, 0),
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
        self.outgoing.push_back((READY, Reply::Number(0)));
        Ok(())
    }

    fn look(&mut self, bytes: &[u8]) {
        if let Order::Check { size, count } = self.order {
            let number = count - self.missing;
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
            Order::End | Order::Rotate { .. } => bail!("a message came although nothing was announced"),
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
            let number;
            let message = match reply {
                Reply::Any(size) => Message::Any(*size),
                Reply::Number(value) => {
                    number = value.to_le_bytes();
                    Message::These(&number)
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

        fn poll(&mut self) -> Result<Option<Event<'_>>> {
            let Some((tag, bytes)) = self.from.borrow_mut().pop_front() else { return Ok(None) };
            self.last = bytes;
            Ok(Some(Event::Received { tag, bytes: &self.last }))
        }
    }

    fn pair(spoil: bool) -> (Plain, Plain) {
        let (one, other) = <(Rc<RefCell<_>>, Rc<RefCell<_>>)>::default();
        let end = |to: &Rc<_>, from: &Rc<_>| Plain {
            to: Rc::clone(to),
            from: Rc::clone(from),
            last: Vec::new(),
            refusals: 0,
            spoil,
        };
        (end(&one, &other), end(&other, &one))
    }

    fn with(spoil: bool, run: impl FnOnce(&mut Asker<'_, Plain>) -> Result<()>) -> Result<bool> {
        let (mut a, mut b) = pair(spoil);
        let mut answerer = Answerer::new(&mut b)?;
        let mut meanwhile = || answerer.step(&mut b).map(drop);
        run(&mut Asker::new(&mut a, &mut meanwhile))?;
        Ok(answerer.is_over())
    }

    #[test]
    fn both_patterns_run_to_their_end_and_the_other_side_knows() {
        let over = with(false, |asker| {
            let job = Job { pattern: Pattern::Latency, size: 8, window: 1, warmup: 3, count: 10, rotating: false };
            assert_eq!(asker.measure(&job)?.halves.len(), 10);
            let job = Job { pattern: Pattern::Bandwidth, size: 100, window: 7, warmup: 5, count: 50, rotating: false };
            assert!(asker.measure(&job)?.halves.is_empty());
            asker.check(1000, 5)?;
            asker.finish()
        });
        assert!(over.unwrap());
    }

    #[test]
    fn spoilt_messages_are_told() {
        let error = with(true, |asker| asker.check(64, 5)).unwrap_err().to_string();
        assert_eq!(error, "5 of 5 messages of 64 bytes arrived with other content");
    }

    #[test]
    fn orders_survive_the_way() {
        for order in [
            Order::End,
            Order::Echo { size: 9, count: 4 },
            Order::Take { size: 1 << 20, window: 64, count: 1 << 40 },
            Order::Check { size: 0, count: 1 },
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
