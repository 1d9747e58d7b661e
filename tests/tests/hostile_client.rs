//! A vfio-user client that sends anything: whatever it says, the server goes on, and the next client finds an adapter that
//! comes up.

use opx_bus::{Chance, PciFunction};
use opx_defs::csr;
use opx_emu::server::SocketServer;
use opx_emu::{Config, Lab, Pacing};
use opx_hw::vfio_user::VfioUserBus;
use opx_hw::{Hfi, LinkMode, Options};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const VERSION: &[u8] = b"{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}\0";

fn message(id: u16, command: u16, size: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + body.len());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&command.to_le_bytes());
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A number that is more often at an edge than not.
fn edgy(chance: &mut Chance) -> u64 {
    match chance.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << chance.below(64),
        3 => (64 << 20) - chance.below(16),
        4 => chance.below(64 << 20) & !7,
        5 => 0x200_0000 + chance.below(32 << 20),
        _ => chance.next_u64() >> chance.below(64),
    }
}

/// One message, mostly well formed on the outside.
fn any_message(chance: &mut Chance, id: u16) -> Vec<u8> {
    let command = if chance.percent(90.0) { 1 + chance.below(15) as u16 } else { chance.next_u64() as u16 };
    let flags = if chance.percent(50.0) { 0x10 } else { 0 };
    let words = |chance: &mut Chance, count: usize| -> Vec<u8> {
        (0..count).flat_map(|_| edgy(chance).to_le_bytes()).collect()
    };
    let mut body = match command {
        1 if chance.percent(70.0) => [&[0, 0, 1, 0][..], VERSION].concat(),
        2 | 3 => {
            let mut body = words(chance, 4);
            body[..8].copy_from_slice(&[32, 0, 0, 0, 3, 0, 0, 0]);
            body.truncate(if command == 2 { 32 } else { 24 });
            body
        }
        9 | 10 => {
            let len = *[0u32, 1, 4, 8, 16, 64, 4096].get(chance.below(7) as usize).unwrap_or(&8);
            let mut body = edgy(chance).to_le_bytes().to_vec();
            body.extend_from_slice(&(chance.below(10) as u32).to_le_bytes());
            body.extend_from_slice(&len.to_le_bytes());
            if command == 10 {
                body.extend((0..len).map(|_| chance.next_u64() as u8));
            }
            body
        }
        _ => {
            let count = chance.below(9) as usize;
            words(chance, count)
        }
    };
    if chance.percent(5.0) {
        body.truncate(chance.below(body.len() as u64 + 1) as usize);
    }
    let size = if chance.percent(95.0) { 16 + body.len() as u32 } else { edgy(chance) as u32 };
    message(id, command, size, flags, &body)
}

/// One client's life: some messages, then it hangs up in the middle of anything.
fn hostile_client(path: &Path, chance: &mut Chance) {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_nonblocking(false).unwrap();
    let mut drain = stream.try_clone().unwrap();
    drain.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    if chance.percent(80.0) {
        let body = [&[0, 0, 1, 0][..], VERSION].concat();
        let _ = stream.write_all(&message(0, 1, 16 + body.len() as u32, 0, &body));
    }
    for id in 0..chance.below(60) {
        if stream.write_all(&any_message(chance, id as u16)).is_err() {
            break;
        }
        // Answers are read now and then, so that neither side waits for the other for ever.
        let _ = drain.read(&mut [0; 65536]);
    }
}

#[test]
fn whatever_a_client_sends_the_next_one_finds_an_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.sock");
    let firmware = folder.path().join("firmware");
    std::fs::create_dir(&firmware).unwrap();
    opx_emu::firmware::write_files(&firmware).unwrap();
    let lab = Lab::new(Pacing::Real);
    let adapter = lab.add(Config::default());
    let _server = SocketServer::start(adapter.clone(), &path).unwrap();
    let first: u64 = std::env::var("OPX_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + 150 {
        hostile_client(&path, &mut Chance::new(seed));
        let bus = VfioUserBus::open(&path).unwrap_or_else(|error| panic!("OPX_FUZZ_SEED={seed}: {error}"));
        let revision = bus.read64(csr::CCE_REVISION.off());
        assert_eq!(csr::CCE_REVISION::CHIP_REV_MAJOR.get(revision), 7, "OPX_FUZZ_SEED={seed}");
        if seed % 25 == 0 {
            let options = Options { firmware_dir: Some(firmware.clone()), ..Options::default() };
            let hfi = Hfi::open(bus, options).unwrap_or_else(|error| panic!("OPX_FUZZ_SEED={seed}: {error}"));
            hfi.link_up(LinkMode::Loopback).unwrap_or_else(|error| panic!("OPX_FUZZ_SEED={seed}: {error}"));
        }
    }
    // What it touched that isn't modelled was counted, in bounded memory.
    assert!(!adapter.unmodelled().is_empty(), "no access got through");
    assert!(adapter.unmodelled().len() < 100_000);
}
