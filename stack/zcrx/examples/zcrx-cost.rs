//! What a byte costs to receive, in processor time of all threads of this process, the kernel's for them included: by a pool of
//! the kernel's, by plain receive, and by read(2) into one buffer. `zcrx-cost [MIB]`, 64 by default.
//!
//! On a machine that counts instructions as time, such as QEMU with `-icount shift=0`, a nanosecond is an instruction. Each means
//! has its turn twice, so that the first one's page faults show.

use opx_zcrx::{Answers, Fake, Incoming, Ingress, Kernel, Linux, LinuxQueue, Options, Queue};
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

type Failed = Box<dyn Error + Send + Sync>;

/// Bytes sent before the count begins, so that connection and pool are warm.
const WARM: u64 = 1 << 20;
/// EOPNOTSUPP.
const NOT_SUPPORTED: i32 = 95;
/// Bytes of one write.
const PIECE: usize = 64 << 10;

/// Nanoseconds on a processor, of this process' threads that are there, io_uring's among them.
fn processor_time() -> Result<u64, Failed> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let times = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += times.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

/// What sends: a thread that ends when its channel does.
type Sender = (TcpStream, mpsc::Sender<()>, thread::JoinHandle<Result<(), std::io::Error>>);

/// A connection whose other end sends so many bytes, and then waits until its thread's time was read.
fn sender(bytes: u64) -> Result<Sender, Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut to = TcpStream::connect(listener.local_addr()?)?;
    let (done, wait) = mpsc::channel();
    let thread = thread::spawn(move || {
        let piece = vec![0x5a; PIECE];
        for _ in 0..bytes / PIECE as u64 {
            to.write_all(&piece)?;
        }
        // Ends when the receiver lets go.
        let _ = wait.recv();
        Ok(())
    });
    Ok((listener.accept()?.0, done, thread))
}

/// A means to receive, with a connection.
enum Receiver<Q: Queue> {
    Ingress(Ingress<Q>),
    Read(TcpStream, Vec<u8>),
}

impl<Q: Queue> Receiver<Q> {
    fn ingress<K: Kernel<Queue = Q> + Clone + 'static>(kernel: &K, stream: TcpStream) -> Result<Self, Failed> {
        let ingress = Ingress::auto_on(kernel, &Options::new());
        ingress.receive(stream)?;
        Ok(Self::Ingress(ingress))
    }

    /// Receives something; how many bytes.
    fn some(&mut self) -> Result<u64, Failed> {
        match self {
            Self::Read(stream, buffer) => Ok(stream.read(buffer)? as u64),
            Self::Ingress(ingress) => loop {
                match ingress.next() {
                    Some(Incoming::Data { data, .. }) => return Ok(data.len() as u64),
                    Some(other) => return Err(format!("{other:?}").into()),
                    None => ingress.wait(None)?,
                }
            },
        }
    }
}

/// Prints what a KiB costs, after the first ones.
fn count<Q: Queue>(bytes: u64, make: impl FnOnce(TcpStream) -> Result<Receiver<Q>, Failed>) -> Result<(), Failed> {
    let (stream, done, thread) = sender(WARM + bytes)?;
    let mut receiver = make(stream)?;
    let mut came = 0;
    while came < WARM {
        came += receiver.some()?;
    }
    if let Receiver::Ingress(ingress) = &receiver {
        ingress.take_statistics();
    }
    let (before, first) = (processor_time()?, came);
    while came < WARM + bytes {
        came += receiver.some()?;
    }
    let time = processor_time()? - before;
    let kib = time as f64 * 1024.0 / (came - first) as f64;
    match &receiver {
        Receiver::Ingress(ingress) => {
            println!("{}: {kib:.0} ns a KiB; {:?}", ingress.means(), ingress.take_statistics())
        }
        Receiver::Read(..) => println!("read(2) into one buffer: {kib:.0} ns a KiB"),
    }
    drop(done);
    thread.join().map_err(|_| "the sender fell over")??;
    Ok(())
}

fn run() -> Result<(), Failed> {
    let mib: u64 = std::env::args().nth(1).map_or(Ok(64), |mib| mib.parse())?;
    for _ in 0..2 {
        count(mib << 20, |stream| Receiver::ingress(&Linux, stream))?;
        let without = Fake::new(Answers { zcrx: Err(NOT_SUPPORTED), ..Answers::default() });
        count(mib << 20, |stream| Receiver::ingress(&without, stream))?;
        count(mib << 20, |stream| Ok(Receiver::<LinuxQueue>::Read(stream, vec![0; PIECE])))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zcrx-cost: {error}");
            ExitCode::FAILURE
        }
    }
}
