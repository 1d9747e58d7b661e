//! A wire over TCP: joins the port of an adapter with that of another in a different process, or on a different machine.
//!
//! The chip sees a cable. It is plugged in once both ends have greeted each other on a TCP connection, and pulled when that
//! ends, so a connection that breaks shows as link down, and the next one as a link that trains. What crosses is told in
//! docs/emulator.md.
//!
//! Nobody is asked who he is: whoever reaches the address can be the other end. He can send what he likes, as anybody on a
//! cable can; he can't make this end keep more than the lane holds, wait for longer than [`WireOptions::silence`], or fall over.

mod connection;
mod frame;

pub use self::connection::WireError;
pub use self::frame::{Decoder, Frame, FrameError, HEADER, Hello, MAGIC, VERSION};
pub use crate::packet::LARGEST_PACKET;
pub use crate::wire::{LinkMessage, VerifyCap};
pub use opx_zcrx::Means;

use self::connection::Connection;
use crate::lab::Adapter;
use rustix::net::shutdown;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest time to wait for an answer from one address.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Which end of the TCP connection this is, and its address: `listen:ADDRESS:PORT` or `connect:ADDRESS:PORT`.
///
/// ```
/// use opx_emu::tcp_wire::WirePlace;
///
/// assert!("listen:[::]:4791".parse::<WirePlace>().is_ok());
/// assert_eq!("connect:10.0.0.1:4791".parse(), Ok(WirePlace::Connect("10.0.0.1:4791".to_owned())));
/// assert!("10.0.0.1:4791".parse::<WirePlace>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WirePlace {
    /// Waits for the other end there.
    Listen(String),
    /// Goes to the other end there, again and again.
    Connect(String),
}

impl FromStr for WirePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = match text.split_once(':') {
            Some(("listen", address)) => Self::Listen(address.to_owned()),
            Some(("connect", address)) => Self::Connect(address.to_owned()),
            _ => return Err("a wire's place is listen:ADDRESS:PORT or connect:ADDRESS:PORT".to_owned()),
        };
        let (Self::Listen(address) | Self::Connect(address)) = &place;
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(place),
            _ => Err("the address needs a port from 0 to 65535 behind it, as in 10.0.0.1:4791".to_owned()),
        }
    }
}

impl fmt::Display for WirePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address) => write!(f, "listen:{address}"),
            Self::Connect(address) => write!(f, "connect:{address}"),
        }
    }
}

/// How long a wire waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireOptions {
    /// Without a whole frame from the other end for this long, or without it taking what is sent, the connection is ended. At
    /// least 50 ms. Both ends send something four times as often as the more impatient of them asks.
    pub silence: Duration,
    /// Before the first try to connect again; each further one is twice as far away.
    pub first_back_off: Duration,
    /// Longest time between two tries.
    pub longest_back_off: Duration,
}

impl Default for WireOptions {
    /// 10 s of silence, and tries from 100 ms to 5 s apart. A path that loses a tenth of the packets seldom is silent for so
    /// long: TCP has sent a segment six times by then.
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(10),
            first_back_off: Duration::from_millis(100),
            longest_back_off: Duration::from_secs(5),
        }
    }
}

/// A wire that can't be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartWireError {
    /// The adapter's time is simulated.
    #[error(
        "a wire to another process needs real time, and this adapter's is simulated; make the lab with Pacing::Real"
    )]
    VirtualTime,
    /// It can't listen there.
    #[error("can't listen on {address}: {source}; use an address of this machine, and a port that is free")]
    Listen {
        /// The address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// There is no thread to be had.
    #[error("can't start the wire's thread: {0}")]
    Thread(#[source] io::Error),
}

/// How a wire has fared.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WireStatus {
    /// By which means what comes is received, while the cable is plugged in.
    pub connected: Option<Means>,
    /// How often the two ends greeted each other.
    pub connections: u64,
    /// How often a connection ended, or didn't come about.
    pub failures: u64,
    /// Why the last time.
    pub last_failure: Option<Arc<WireError>>,
}

#[derive(Debug, Default)]
struct State {
    ending: bool,
    pulled: bool,
    /// The connection, for ending it.
    stream: Option<TcpStream>,
    status: WireStatus,
}

#[derive(Debug)]
struct Shared {
    place: WirePlace,
    adapter: Adapter,
    options: WireOptions,
    state: Mutex<State>,
    changed: Condvar,
}

/// A wire from an adapter's port to that of another process. Dropping it pulls the cable and ends its threads.
///
/// ```
/// use opx_emu::tcp_wire::{TcpWire, WireOptions, WirePlace};
/// use opx_emu::{Config, Lab, Pacing};
///
/// let (here, there) = (Lab::new(Pacing::Real), Lab::new(Pacing::Real));
/// let (a, b) = (here.add(Config::default()), there.add(Config::default()));
/// let listen = WirePlace::Listen("127.0.0.1:0".to_owned());
/// let a = TcpWire::start(&a, &listen, WireOptions::default())?;
/// let connect = WirePlace::Connect(a.local_address().unwrap().to_string());
/// let b = TcpWire::start(&b, &connect, WireOptions::default())?;
/// while a.status().connected.is_none() || b.status().connected.is_none() {
///     std::thread::yield_now();
/// }
/// # Ok::<(), opx_emu::tcp_wire::StartWireError>(())
/// ```
#[derive(Debug)]
pub struct TcpWire {
    shared: Arc<Shared>,
    listener: Option<(TcpListener, SocketAddr)>,
    thread: Option<JoinHandle<()>>,
}

impl TcpWire {
    /// Joins the adapter's port with that of whoever is at the other end, now and whenever there is somebody.
    ///
    /// # Errors
    /// In simulated time, and when it can't listen. That nobody answers is no error: it is tried again.
    pub fn start(adapter: &Adapter, place: &WirePlace, options: WireOptions) -> Result<Self, StartWireError> {
        if adapter.is_virtual() {
            return Err(StartWireError::VirtualTime);
        }
        let listener = match place {
            WirePlace::Listen(address) => {
                let listen = || TcpListener::bind(address).and_then(|socket| Ok((socket.local_addr()?, socket)));
                let (local, socket) =
                    listen().map_err(|source| StartWireError::Listen { address: address.clone(), source })?;
                Some((socket, local))
            }
            WirePlace::Connect(_) => None,
        };
        let shared = Arc::new(Shared {
            place: place.clone(),
            adapter: adapter.clone(),
            options,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let theirs = listener.as_ref().map(|(socket, _)| socket.try_clone()).transpose();
        let theirs = theirs.map_err(StartWireError::Thread)?;
        let running = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("wire".to_owned())
            .spawn(move || running.run(theirs.as_ref()))
            .map_err(StartWireError::Thread)?;
        Ok(Self { shared, listener, thread: Some(thread) })
    }

    /// Where it listens, with the port that the system chose; `None` for the end that connects.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(|(_, local)| *local)
    }

    /// Which end it is.
    pub fn place(&self) -> &WirePlace {
        &self.shared.place
    }

    /// How it fares.
    pub fn status(&self) -> WireStatus {
        self.shared.lock().status.clone()
    }

    /// Ends the connection and pulls the cable, until it is plugged in again.
    pub fn pull(&self) {
        self.shared.change(|state| state.pulled = true);
    }

    /// Takes a pulled wire into use again.
    pub fn plug(&self) {
        self.shared.change(|state| state.pulled = false);
    }

    /// Ends the connection, as a fault of the network does; the next one follows.
    pub fn cut(&self) {
        self.shared.change(|_| {});
    }
}

impl Drop for TcpWire {
    fn drop(&mut self) {
        self.shared.change(|state| state.ending = true);
        if let Some((socket, _)) = &self.listener {
            // Wakes the thread when it waits for a connection.
            let _ = shutdown(socket, rustix::net::Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and ends the connection.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if let Some(stream) = &state.stream {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The wire's thread: one connection after the other.
    fn run(&self, listener: Option<&TcpListener>) {
        let WireOptions { first_back_off, longest_back_off, .. } = self.options;
        let mut back_off = first_back_off;
        while self.wait_while_pulled() {
            let connections = self.lock().status.connections;
            let why = match self.stream(listener) {
                Ok(stream) => self.carry(&stream),
                Err(why) => why,
            };
            let greeted = self.failed(why, connections);
            if greeted {
                back_off = first_back_off;
            }
            match listener {
                // Whoever connects waits by himself; only what isn't a wire keeps this end busy.
                Some(_) if greeted => {}
                Some(_) => self.pause(first_back_off),
                None => {
                    self.pause(back_off);
                    back_off = (back_off * 2).min(longest_back_off);
                }
            }
        }
    }

    /// Sleeps while the wire is pulled; `false` at the end.
    fn wait_while_pulled(&self) -> bool {
        let waits = |state: &mut State| state.pulled && !state.ending;
        let state = self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        !state.ending
    }

    fn pause(&self, time: Duration) {
        let waits = |state: &mut State| !state.ending;
        drop(self.changed.wait_timeout_while(self.lock(), time, waits));
    }

    /// The next connection.
    fn stream(&self, listener: Option<&TcpListener>) -> Result<TcpStream, WireError> {
        let (WirePlace::Listen(address) | WirePlace::Connect(address)) = &self.place;
        if let Some(listener) = listener {
            return listener.accept().map(|(stream, _)| stream).map_err(WireError::Accept);
        }
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in address.to_socket_addrs().map_err(WireError::Resolve)? {
            match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
                // A port of this machine's own choice, on which nobody listens, can answer itself.
                Ok(stream) if stream.local_addr().is_ok_and(|local| local == address) => {
                    last = io::ErrorKind::ConnectionRefused.into();
                }
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(WireError::Connect(last))
    }

    /// Carries a connection on until it ends.
    fn carry(&self, stream: &TcpStream) -> WireError {
        let ending = stream.try_clone();
        {
            let mut state = self.lock();
            if state.ending || state.pulled {
                return WireError::Pulled;
            }
            match ending {
                Ok(ending) => state.stream = Some(ending),
                Err(error) => return error.into(),
            }
        }
        let silence = self.options.silence.max(connection::LEAST_SILENCE);
        let why = Connection::new(&self.adapter, stream, silence).run(|means| {
            let mut state = self.lock();
            state.status.connected = Some(means);
            state.status.connections += 1;
            drop(state);
            let peer = stream.peer_addr().map_or_else(|_| "somebody".to_owned(), |peer| peer.to_string());
            log::info!("wire {}: joined with {peer}", self.place);
        });
        let _ = stream.shutdown(Shutdown::Both);
        let mut state = self.lock();
        state.stream = None;
        // Whoever pulled or ended it did so by ending the connection.
        if state.pulled || state.ending { WireError::Pulled } else { why }
    }

    /// Notes and logs why a connection ended; whether the ends had greeted each other on it.
    fn failed(&self, why: WireError, connections_before: u64) -> bool {
        let mut state = self.lock();
        let status = &mut state.status;
        // In one step with the reason, so that whoever sees the end can ask why.
        status.connected = None;
        let greeted = status.connections != connections_before;
        let (was_first, quiet) = (status.failures == 0, matches!(why, WireError::Connect(_) | WireError::Pulled));
        let same = status.last_failure.as_deref().is_some_and(|last| last.to_string() == why.to_string());
        let level = match (quiet, greeted || was_first || !same) {
            (true, true) => log::Level::Info,
            (false, true) => log::Level::Warn,
            // It is tried again and again.
            (_, false) => log::Level::Debug,
        };
        status.failures += 1;
        if !state.ending {
            log::log!(level, "wire {}: {why}", self.place);
        }
        state.status.last_failure = Some(Arc::new(why));
        greeted
    }
}
