//! Two full stacks in two network namespaces, whose adapters are joined over TCP by a path that loses 1 % of the packets: one
//! rendezvous message crosses with every byte right.
//!
//! The message has 64 MiB, or OPX_WIRE_BYTES. It takes root and iproute2. The loss is netem's, with a millisecond of delay each
//! way; where the kernel has no netem, it is nftables', without delay. What can't be had is said, and the test does nothing;
//! with OPX_WIRE_REQUIRED set, it fails.

use opx_bus::Chance;
use opx_defs::units::Guid;
use opx_emu::tcp_wire::{TcpWire, WireOptions, WirePlace};
use opx_emu::{Config, EmuBus, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{Address, Completion, Endpoint, Pattern};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Makes this program one end: "a" receives, "b" sends.
const END: &str = "OPX_WIRE_END";
const BYTES: &str = "OPX_WIRE_BYTES";
const ADDRESS: &str = "10.77.0.1:4791";
/// For the whole message, on any machine.
const LIMIT: Duration = Duration::from_secs(1800);

fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command}: {said}")) }
}

/// Two network namespaces, each with an end of one path. Dropping them removes them.
struct Namespaces {
    names: [String; 2],
    loss: &'static str,
}

impl Namespaces {
    fn new() -> Result<Self, String> {
        let names = ["a", "b"].map(|end| format!("opx-wire-{}-{end}", std::process::id()));
        // Made first, so that what is there is removed however far this comes.
        let mut new = Self { names, loss: "" };
        let [a, b] = &new.names;
        run(&format!("ip netns add {a}"))?;
        run(&format!("ip netns add {b}"))?;
        run(&format!("ip link add path netns {a} type veth peer name path netns {b}"))?;
        for (name, address) in [(a, "10.77.0.1/24"), (b, "10.77.0.2/24")] {
            run(&format!("ip -n {name} addr add {address} dev path"))?;
            // Segments are lost one by one, not by the 64 KiB.
            run(&format!("ip -n {name} link set path gso_max_segs 1 up"))?;
        }
        let netem = |name: &String| run(&format!("tc -n {name} qdisc add dev path root netem loss 1% delay 1ms"));
        let nft = |name: &String| {
            let nft = |rule: &str| run(&format!("ip netns exec {name} nft {rule}"));
            nft("add table ip opx")?;
            nft("add chain ip opx lossy { type filter hook input priority 0 ; }")?;
            nft("add rule ip opx lossy numgen random mod 100 == 0 drop")
        };
        new.loss = match [a, b].into_iter().try_for_each(netem) {
            Ok(()) => "netem, 1 % and 1 ms each way",
            Err(no_netem) => match [a, b].into_iter().try_for_each(nft) {
                Ok(()) => "nftables, 1 % each way",
                Err(no_nft) => return Err(format!("no way to lose packets: {no_netem}; {no_nft}")),
            },
        };
        Ok(new)
    }

    fn start(&self, end: usize, bytes: usize) -> Child {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[end]]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "a_rendezvous_crosses_a_lossy_path_between_two_namespaces", "--nocapture"]);
        command.env(END, ["a", "b"][end]).env(BYTES, bytes.to_string()).stdout(Stdio::piped());
        command.spawn().unwrap()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = run(&format!("ip netns del {name}"));
        }
    }
}

#[test]
fn a_rendezvous_crosses_a_lossy_path_between_two_namespaces() {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let bytes = var(BYTES).map_or(64 << 20, |bytes| bytes.parse().expect("OPX_WIRE_BYTES is a number"));
    if let Some(end) = var(END) {
        return one_end(&end, bytes);
    }
    let namespaces = match Namespaces::new() {
        Ok(namespaces) => namespaces,
        Err(why) if var("OPX_WIRE_REQUIRED").is_none() => return eprintln!("not run: {why}"),
        Err(why) => panic!("{why}"),
    };
    let start = Instant::now();
    let ends = [0, 1].map(|end| Kept(namespaces.start(end, bytes)));
    let [received, sent] = ends.map(Kept::said);
    let value = |said: &[String], name: &str| {
        let found =
            said.iter().find_map(|line| line.split_once(name)).unwrap_or_else(|| panic!("no {name} in {said:?}"));
        found.1.to_owned()
    };
    assert_eq!(value(&sent, "sha256 "), value(&received, "sha256 "));
    let lost: u64 = value(&sent, "retransmitted ").parse().unwrap();
    // On a line of its own, whatever the test runner wrote before.
    println!(
        "\nreceived by {}: {bytes} bytes, loss by {}; {lost} TCP segments were sent again, {:.1} s",
        value(&received, "means "),
        namespaces.loss,
        start.elapsed().as_secs_f64(),
    );
    assert!(lost > 0, "nothing was lost on the way");
}

/// An end, killed when the test ends in any way.
struct Kept(Child);

impl Kept {
    /// What it said, once it has ended well.
    fn said(mut self) -> Vec<String> {
        let out = BufReader::new(self.0.stdout.take().unwrap());
        let lines: Vec<String> = out.lines().map_while(Result::ok).collect();
        assert!(self.0.wait().unwrap().success(), "{lines:?}");
        lines
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// TCP segments that this namespace has sent again.
fn retransmitted() -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(|row| row.split(' '));
    let (names, numbers) = (rows.next().unwrap(), rows.next().unwrap());
    names.zip(numbers).find(|(name, _)| *name == "RetransSegs").unwrap().1.parse().unwrap()
}

fn one_end(end: &str, bytes: usize) {
    let receives = end == "a";
    let (place, guid) = match receives {
        true => (WirePlace::Listen(ADDRESS.to_owned()), Guid(0x1175_0101)),
        false => (WirePlace::Connect(ADDRESS.to_owned()), Guid(0x1175_0102)),
    };
    let firmware = tempfile::tempdir().unwrap();
    opx_emu::firmware::write_files(firmware.path()).unwrap();
    let adapter = Lab::new(Pacing::Real).add(Config { guid, ..Config::default() });
    let wire = TcpWire::start(&adapter, &place, WireOptions::default()).unwrap();
    let options = Options { firmware_dir: Some(firmware.path().to_owned()), ..Options::default() };
    let hfi = Hfi::open(adapter.bus(), options).unwrap();
    let peer = hfi.link_up(LinkMode::Cable { timeout: Duration::from_secs(120) }).unwrap().peer_lid;
    let mut endpoint = Endpoint::open(&hfi, opx_stack::Config::default()).unwrap();
    let to = Address { lid: peer, rx: endpoint.address().rx };
    println!("means {}", wire.status().connected.unwrap());
    let start = Instant::now();
    if receives {
        endpoint.tag_receive(Pattern::exact(1), vec![0; bytes], 0).unwrap();
        let message = wait(&mut endpoint, start, |completion| match completion {
            Completion::Received { buffer, len, .. } => Some(buffer.bytes()[..len].to_vec()),
            other => panic!("{other:?}"),
        });
        println!("sha256 {:x}", Sha256::digest(message));
        // The sender may not know yet that all has arrived: it ends when it does.
        while wire.status().connected.is_some() {
            progress(&mut endpoint, start);
        }
        return;
    }
    let mut chance = Chance::new(7);
    let message: Vec<u8> =
        std::iter::repeat_with(|| chance.next_u64().to_le_bytes()).take(bytes / 8).flatten().collect();
    println!("sha256 {:x}", Sha256::digest(&message));
    endpoint.tag_send(to, 1, message, 0).map_err(|no| no.error).unwrap();
    wait(&mut endpoint, start, |completion| matches!(completion, Completion::Sent { .. }).then_some(()));
    while !endpoint.is_quiet() {
        progress(&mut endpoint, start);
    }
    println!("retransmitted {}", retransmitted());
}

/// Goes on until a completion gives something.
fn wait<T>(endpoint: &mut Endpoint<EmuBus>, start: Instant, mut ready: impl FnMut(Completion) -> Option<T>) -> T {
    loop {
        progress(endpoint, start);
        if let Some(value) = endpoint.poll_completion().and_then(&mut ready) {
            return value;
        }
    }
}

fn progress(endpoint: &mut Endpoint<EmuBus>, start: Instant) {
    if !endpoint.progress().unwrap() {
        std::thread::yield_now();
    }
    assert!(start.elapsed() < LIMIT, "the message doesn't get across");
}
