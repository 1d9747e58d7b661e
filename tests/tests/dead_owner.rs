//! An adapter behind a vfio-user socket whose owner is killed in the midst of SDMA transfers: the next owner finds it quiet, and
//! nothing of the dead one's lands in memory that has the same I/O addresses now.

use opx_bus::PciFunction;
use opx_defs::units::Vl;
use opx_defs::wire::opx::Eager;
use opx_emu::server::SocketServer;
use opx_emu::{Config, Lab, Pacing};
use opx_hw::vfio_user::VfioUserBus;
use opx_hw::{Hfi, LinkMode, Options, RecvConfig};
use opx_sdma::{Fragment, Outcome, SdmaQueue};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Tells the process that is to die in which folder socket and firmware are.
const FOLDER: &str = "OPX_OWNER_THAT_DIES";
const LIMIT: Duration = Duration::from_secs(20);
/// Memory of the next owner, more than the dead one had.
const GUARDS: usize = 16;
const GUARD: usize = 4 << 20;
const PATTERN: u8 = 0xa5;

fn open(bus: &VfioUserBus, folder: &Path) -> Hfi<VfioUserBus> {
    let options = Options { firmware_dir: Some(folder.to_owned()), ..Options::default() };
    let hfi = Hfi::open(bus.clone(), options).unwrap();
    hfi.link_up(LinkMode::Loopback).unwrap();
    hfi
}

/// Sends packets to itself by SDMA, for ever or until `count` have arrived; calls `begun` when some have.
fn transfer(hfi: &Hfi<VfioUserBus>, count: u64, begun: impl FnOnce(u64)) {
    let job_key = hfi.options().job_key;
    let mut recv = hfi.recv_context(RecvConfig { job_key, ..RecvConfig::default() }).unwrap();
    let mut queue = SdmaQueue::new(hfi.sdma_engine(256).unwrap());
    let memory = hfi.bus().dma_alloc(16384).unwrap();
    let rx = recv.number().0 as u8;
    let mut payload = vec![0; 8192];
    let eager = Eager::of(Some(1), None, &[0x5a; 8000]);
    let (header, len) = eager.encode(&hfi.route(rx, hfi.lid(), rx), &mut payload).unwrap();
    memory.write(0, &header.pbc(Vl(0)).0.to_le_bytes());
    memory.write(8, header.as_bytes());
    memory.write(64, &payload[..len]);
    let packet = [Fragment::of(&memory, 0..64 + len).unwrap()];

    let (mut sent, mut arrived, mut begun) = (0, 0, Some(begun));
    let mut alive = hfi.bus().now();
    while arrived < count {
        while sent < count && queue.submit(&packet, sent).is_ok() {
            sent += 1;
        }
        queue.doorbell();
        while let Some((_, outcome)) = queue.poll() {
            assert_eq!(outcome, Outcome::Sent);
        }
        while let Some(received) = recv.poll() {
            assert_eq!(received.errors(), 0);
            recv.release();
            arrived += 1;
            alive = hfi.bus().now();
        }
        if arrived >= 100
            && let Some(begun) = begun.take()
        {
            begun(memory.iova(0).0);
        }
        assert!(hfi.bus().now().since(alive) < LIMIT, "nothing arrives: {sent} packets sent, {arrived} arrived");
        hfi.bus().relax();
    }
}

/// The process that dies: this test, started by the next one.
#[test]
fn an_owner() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let bus = VfioUserBus::open(&folder.join("adapter.sock")).unwrap();
    transfer(&open(&bus, folder), u64::MAX, |iova| println!("\nsending from {iova}"));
}

#[test]
fn nothing_of_a_killed_process_lands() {
    let folder = tempfile::tempdir().unwrap();
    opx_emu::firmware::write_files(folder.path()).unwrap();
    let path = folder.path().join("adapter.sock");
    let lab = Lab::new(Pacing::Real);
    let adapter = lab.add(Config { link_time: Duration::from_millis(1), ..Config::default() });
    let _server = SocketServer::start(adapter.clone(), &path).unwrap();
    for _ in 0..3 {
        let resets = adapter.counts().resets;
        let mut owner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_owner", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
        let iova = lines.find_map(|line| line.unwrap().strip_prefix("sending from ")?.parse::<u64>().ok());
        let iova = iova.expect("the owner sends");
        owner.kill().unwrap();
        owner.wait().unwrap();

        // One client at a time: this waits until the server is done with the dead one.
        let bus = VfioUserBus::open(&path).unwrap();
        let quiet = adapter.counts();
        assert!(quiet.sdma_packets >= 100 && quiet.resets > resets);
        let guards: Vec<_> = (0..GUARDS).map(|_| bus.dma_alloc(GUARD).unwrap()).collect();
        for guard in &guards {
            guard.write(0, &vec![PATTERN; GUARD]);
        }
        let reused = guards.iter().any(|guard| (guard.iova(0).0..guard.iova(0).0 + GUARD as u64).contains(&iova));
        assert!(reused, "the new owner's memory doesn't have the dead one's addresses");
        let hfi = open(&bus, folder.path());
        let after = adapter.counts();
        assert_eq!((after.packets_sent, after.packets_received), (quiet.packets_sent, quiet.packets_received));

        // The adapter is as good as new, and nobody wrote where the dead owner's memory was.
        transfer(&hfi, 1000, |_| {});
        let mut bytes = vec![0; GUARD];
        for (n, guard) in guards.iter().enumerate() {
            guard.read(0, &mut bytes);
            assert!(bytes.iter().all(|byte| *byte == PATTERN), "guard {n} was written to");
        }
    }
}
