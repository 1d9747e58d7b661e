//! A vfio-user server in a thread that behaves, but for one command.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const VERSION: u16 = 1;
pub const DMA_MAP: u16 = 2;
pub const DMA_UNMAP: u16 = 3;
pub const GET_INFO: u16 = 4;
pub const GET_REGION: u16 = 5;
pub const GET_IRQ: u16 = 7;
pub const SET_IRQS: u16 = 8;
pub const READ: u16 = 9;
pub const WRITE: u16 = 10;
pub const RESET: u16 = 13;

/// What the server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// It says no, with this errno.
    Error(u32),
    /// It sends half a header and closes.
    HalfHeader,
    /// It sends half a header and then nothing.
    HalfHeaderSilent,
    /// It sends a header and closes.
    NoBody,
    /// Its reply has another id.
    WrongId,
    /// Its reply is for another command.
    WrongCommand,
    /// It sends a request of its own.
    NotAReply,
    /// It says that the reply has 4 GiB.
    HugeSize,
    /// It says that the reply is shorter than a header.
    TinySize,
    /// Its reply is longer than asked for, and says so.
    Longer,
    /// Its reply is shorter than asked for, and says so.
    Shorter,
    /// It sends more bytes than it says.
    Trailing,
    /// It sends bytes that make no sense.
    Garbage,
    /// It sends its reply byte by byte, with pauses.
    Drip,
    /// It answers nothing.
    Silent,
    /// It closes the connection.
    Close,
}

/// What the server is like.
#[derive(Clone)]
pub struct Config {
    pub quirk: Option<(u16, Quirk)>,
    /// How many messages of that kind go well first.
    pub after: usize,
    pub capabilities: &'static [u8],
    pub version: (u16, u16),
    pub flags: u32,
    pub bar0_len: u64,
    pub config_len: u64,
    pub ids: [u8; 4],
    pub vectors: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            quirk: None,
            after: 0,
            capabilities: b"{\"capabilities\":{\"max_msg_fds\":3}}\0",
            version: (0, 0),
            flags: 3,
            bar0_len: 64 << 20,
            config_len: 4096,
            ids: [0x86, 0x80, 0xf0, 0x24],
            vectors: 256,
        }
    }
}

impl Config {
    /// Does one thing wrong.
    pub fn quirk(command: u16, quirk: Quirk) -> Self {
        Self { quirk: Some((command, quirk)), ..Self::default() }
    }
}

/// A request as it came: command, flags, body.
pub type Request = (u16, u32, Vec<u8>);

pub struct Fake {
    dir: tempfile::TempDir,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    pub fn serve(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            Session { stream, config, registers: HashMap::new(), log: kept }.run();
        });
        Self { dir, log }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The requests of one kind so far.
    pub fn requests(&self, command: u16) -> Vec<Request> {
        self.log.lock().unwrap().iter().filter(|(c, ..)| *c == command).cloned().collect()
    }
}

struct Session {
    stream: UnixStream,
    config: Config,
    registers: HashMap<u64, Vec<u8>>,
    log: Arc<Mutex<Vec<Request>>>,
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn header(id: u16, command: u16, size: usize, flags: u32, error: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(id.to_le_bytes());
    bytes.extend(command.to_le_bytes());
    for word in [size as u32, flags, error] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

impl Session {
    /// Serves until the client hangs up or a quirk ends it.
    fn run(mut self) {
        let mut head = [0; 16];
        while self.stream.read_exact(&mut head).is_ok() {
            let low = u32_at(&head, 0);
            let (id, command, flags) = (low as u16, (low >> 16) as u16, u32_at(&head, 8));
            let mut body = vec![0; u32_at(&head, 4) as usize - 16];
            if self.stream.read_exact(&mut body).is_err() {
                return;
            }
            self.log.lock().unwrap().push((command, flags, body.clone()));
            let reply = self.answer(command, &body);
            let quirk = match self.config.quirk {
                Some((at, _)) if at == command && self.config.after > 0 => {
                    self.config.after -= 1;
                    None
                }
                Some((at, quirk)) if at == command => Some(quirk),
                _ => None,
            };
            let wanted = flags & 0x10 == 0;
            let go_on = match quirk {
                Some(quirk) => self.misbehave(quirk, id, command, reply),
                None if wanted => {
                    let mut bytes = header(id, command, 16 + reply.len(), 1, 0);
                    bytes.extend(reply);
                    self.stream.write_all(&bytes).is_ok()
                }
                None => true,
            };
            if !go_on {
                return;
            }
        }
    }

    fn answer(&mut self, command: u16, body: &[u8]) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        match command {
            VERSION => {
                let (major, minor) = self.config.version;
                [&major.to_le_bytes()[..], &minor.to_le_bytes(), self.config.capabilities].concat()
            }
            GET_INFO => words(&[16, self.config.flags, 9, 5]),
            GET_REGION => {
                let index = u32_at(body, 8);
                let len = match index {
                    0 => self.config.bar0_len,
                    7 => self.config.config_len,
                    _ => 0,
                };
                words(&[32, 3, index, 0, len as u32, (len >> 32) as u32, 0, 0])
            }
            GET_IRQ => {
                let index = u32_at(body, 8);
                words(&[16, 1, index, if index == 2 { self.config.vectors } else { 0 }])
            }
            READ => {
                let (offset, region, count) = (u64_at(body, 0), u32_at(body, 8), u32_at(body, 12) as usize);
                let mut data = vec![0; count];
                if region == 7 {
                    let mut config = vec![0; 4096];
                    config[..4].copy_from_slice(&self.config.ids);
                    data.copy_from_slice(&config[offset as usize..offset as usize + count]);
                } else if let Some(value) = self.registers.get(&offset) {
                    data.copy_from_slice(&value[..count]);
                }
                [body, &data].concat()
            }
            WRITE => {
                self.registers.insert(u64_at(body, 0), body[16..].to_vec());
                body[..16].to_vec()
            }
            DMA_UNMAP => body.to_vec(),
            _ => Vec::new(),
        }
    }

    /// Answers wrongly; `false` when that ends the connection.
    fn misbehave(&mut self, quirk: Quirk, id: u16, command: u16, reply: Vec<u8>) -> bool {
        let full = 16 + reply.len();
        let head = |id, command, size, flags| header(id, command, size, flags, 0);
        let bytes = match quirk {
            Quirk::Error(errno) => header(id, command, 16, 0x21, errno),
            Quirk::HalfHeader | Quirk::HalfHeaderSilent => head(id, command, full, 1)[..7].to_vec(),
            Quirk::NoBody => head(id, command, full, 1),
            Quirk::WrongId => [head(id.wrapping_add(7), command, full, 1), reply].concat(),
            Quirk::WrongCommand => [head(id, command + 1, full, 1), reply].concat(),
            Quirk::NotAReply => [head(id, 11, full, 0), reply].concat(),
            Quirk::HugeSize => [head(id, command, u32::MAX as usize, 1), reply].concat(),
            Quirk::TinySize => [head(id, command, 5, 1), reply].concat(),
            Quirk::Longer => [head(id, command, full + 8192, 1), reply, vec![0; 8192]].concat(),
            Quirk::Shorter => [head(id, command, full - 1, 1), reply[..reply.len() - 1].to_vec()].concat(),
            Quirk::Trailing => [head(id, command, full, 1), reply, vec![0; 5]].concat(),
            Quirk::Garbage => b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec(),
            Quirk::Drip => {
                for byte in [head(id, command, full, 1), reply].concat() {
                    if self.stream.write_all(&[byte]).is_err() {
                        return false;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                return true;
            }
            Quirk::Silent => return true,
            Quirk::Close => return false,
        };
        let sent = self.stream.write_all(&bytes).is_ok();
        sent && !matches!(quirk, Quirk::HalfHeader | Quirk::NoBody)
    }
}
