//! Two guests with an adapter each, and a cable between them: the fabric manager in one manages both, PSM2 and verbs go
//! from one to the other.

use crate::hfi1::{self, LIMIT};
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run,
};
use std::path::Path;

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let environment = Environment::get(Kernel::Trixie)?;
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 2, arguments: Vec::new() })?;
    let network = run.socket("network");
    let start = |here: usize| {
        let variables = format!("HERE={here}\n");
        let script = [hfi1::SHELL, &variables, include_str!("two_guests.sh")].concat();
        let mut initrd = Initrd::new(&environment, &script)?;
        initrd.module("virtio_net", "")?;
        hfi1::stock_software(&mut initrd, "")?;
        let options = GuestOptions {
            name: format!("guest{here}-"),
            adapters: emulator.sockets().iter().skip(here - 1).take(1).cloned().collect(),
            memory: if here == 1 { 3072 } else { 1024 },
            qemu_arguments: network_card(&network, here),
            ..GuestOptions::default()
        };
        Guest::start(run, &environment, &initrd.build(End::PowerOff), &options)
    };
    let (mut first, mut second) = (start(1)?, start(2)?);
    for guest in [&mut first, &mut second] {
        guest.wait_for("opx-ask: plug", LIMIT)?;
    }
    emulator.ask("plug")?;
    first.send("done")?;
    second.send("done")?;
    loop {
        let asked = first.wait_for("opx-ask: ", LIMIT)?;
        match asked.trim_start_matches("opx-ask: ") {
            "neighbour" => drop(second.wait_for("opx-ready", LIMIT)?),
            "end" => break,
            client => second.send(client.trim_start_matches("client "))?,
        }
        first.send("done")?;
    }
    // The first one then sees the link go down.
    second.send("end")?;
    hfi1::judge_guest(&environment, &mut second, &[])?;
    first.send("done")?;
    hfi1::judge_guest(&environment, &mut first, &[])?;
    let report = hfi1::judge_adapters(emulator)?;
    let counts = ["packets sent", "sent by SDMA", "placed by TID", "in flows", "headers suppressed"];
    hfi1::both_counted(&report, &counts)
}

/// A network card whose cable is a socket between the guests. It is the first guest that listens.
fn network_card(socket: &Path, here: usize) -> Vec<String> {
    let role = if here == 1 { "server=on" } else { "server=off,reconnect-ms=100" };
    let netdev = format!("stream,id=network,{role},addr.type=unix,addr.path={}", socket.display());
    // Without an option ROM: nothing is booted from it.
    let device = format!("virtio-net-pci,netdev=network,romfile=,mac=52:54:00:00:00:0{here}");
    ["-netdev", &netdev, "-device", &device].map(str::to_owned).to_vec()
}
