//! The program opx-emu from outside: sockets, signals, bad input, and a client that outlives it.

mod serve;

use opx_bus::{ALL_ONES, PciFunction};
use opx_defs::csr;
use opx_hw::vfio_user::VfioUserBus;
use rustix::process::Signal;
use serve::Serving;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_opx-emu");

fn refusal(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new(PROGRAM).args(arguments).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stdout.len(), stderr.lines().count()), (Some(2), 0, 1), "{arguments:?}: {stderr}");
    stderr
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let socket = at("sock");
    assert!(refusal(&[]).contains("--socket"));
    for percent in ["101", "-1", "NaN", "many"] {
        let error = refusal(&["--socket", &socket, "--loss", percent]);
        assert!(error.contains(percent) && error.contains("0 to 100"), "{error}");
    }
    assert!(refusal(&["--socket", &socket, "--link-time", "soon"]).contains("0 to 3600"));
    assert!(refusal(&["--socket", &socket, "--icode", "clay"]).contains("clay"));
    assert!(refusal(&["--socket", &socket, "--cable"]).contains("--socket twice"));
    assert!(refusal(&["--socket", &socket, "--wire", "10.0.0.1:4791"]).contains("listen:ADDRESS:PORT"));
    assert!(refusal(&["--socket", &socket, "--wire", "listen:here"]).contains("port"));
    let two = ["--socket", &socket, "--socket", &at("other")];
    assert!(refusal(&[&two[..], &["--wire", "listen:127.0.0.1:0"]].concat()).contains("--socket once"));
    assert!(refusal(&[&two[..], &["--cable", "--wire", "listen:127.0.0.1:0"]].concat()).contains("--cable"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("listen:{}", taken.local_addr().unwrap());
    assert!(refusal(&["--socket", &socket, "--wire", &place]).contains("can't listen"));
    assert!(refusal(&["--socket", &at(&"x".repeat(120))]).contains("107"));
    assert!(refusal(&["--socket", &at("no/dir")]).contains("no/dir"));
    std::fs::write(at("file"), "").unwrap();
    // The first socket, that could be had, is removed again.
    assert!(refusal(&["--socket", &socket, "--socket", &at("file")]).contains("is not a socket"));
    assert!(!Path::new(&socket).exists());
    let _listener = UnixListener::bind(&socket).unwrap();
    assert!(refusal(&["--socket", &socket]).contains("another server listens"));
    assert!(Path::new(&socket).exists());
}

#[test]
fn adapters_are_served_until_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    drop(UnixListener::bind(&b).unwrap());
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = Serving::start(&[&a, &b], &["--cable", "--loss", "5", "--icode", "simulator"]);
        let (one, two) = (VfioUserBus::open(&a).unwrap(), VfioUserBus::open(&b).unwrap());
        let code = |bus: &VfioUserBus| csr::CCE_REVISION2::IMPL_CODE.get(bus.read64(csr::CCE_REVISION2.at(0)));
        assert_eq!((code(&one), code(&two)), (3, 3));
        running.signal(Signal::USR1);
        assert_eq!(running.line(), format!("{}:", a.display()));
        assert!(running.line().contains("packets sent 0"));
        running.signal(signal);
        let mut rest = String::new();
        running.out.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("aren't modelled"), "{rest}");
        assert_eq!(running.child.wait().unwrap().code(), Some(0));
        assert!(!a.exists() && !b.exists());
        assert_eq!(one.read64(csr::CCE_REVISION.at(0)), ALL_ONES);
        assert!(one.gone().is_some() && two.gone().is_some());
    }
}

#[test]
fn a_killed_server_is_an_error_and_its_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let mut running = Serving::start(&[&path], &[]);
    let bus = VfioUserBus::open(&path).unwrap();
    let block = bus.dma_alloc(4096).unwrap();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    for _ in 0..100 {
        bus.write64(csr::CCE_INT_MASK.at(0), 0);
        assert_eq!(bus.read64(csr::CCE_INT_MASK.at(0)), ALL_ONES);
    }
    let why = bus.gone().unwrap();
    assert!(why.contains("closed the connection"), "{why}");
    assert!(bus.dma_alloc(4096).is_err() && bus.reset().is_err());
    drop(block);
    assert!(path.exists());
    let _again = Serving::start(&[&path], &[]);
    assert!(VfioUserBus::open(&path).is_ok());
}
