//! The contract suite on the emulated adapter behind a vfio-user socket.

use opx_emu::server::SocketServer;
use opx_emu::{Config, Lab, Pacing};
use opx_hw::vfio_user::VfioUserBus;
use opx_tests::rig::{OpenBus, Rig};

struct Socket;

impl OpenBus for Socket {
    type Bus = VfioUserBus;

    fn open(&self) -> Rig<VfioUserBus> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter.sock");
        let lab = Lab::new(Pacing::Real);
        let adapter = lab.add(Config::default());
        let server = SocketServer::start(adapter.clone(), &path).unwrap();
        let bus = VfioUserBus::open(&path).unwrap();
        Rig::new(bus, (server, folder, lab, adapter))
    }
}

opx_tests::contract_suite!(super::Socket);
