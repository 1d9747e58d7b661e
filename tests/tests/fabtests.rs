//! The scenarios named after libfabric's fabtests, on the emulated adapter in this process (in simulated time) and behind a
//! vfio-user socket.

use opx_emu::server::SocketServer;
use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::vfio_user::VfioUserBus;
use opx_tests::rig::{OpenBus, Rig};

fn chip() -> Config {
    Config { icode: Icode::FunctionalSimulator, ..Config::default() }
}

mod in_process {
    use super::*;

    pub struct InProcess;

    impl OpenBus for InProcess {
        type Bus = EmuBus;

        fn open(&self) -> Rig<EmuBus> {
            let lab = Lab::new(Pacing::Virtual);
            let adapter = lab.add(chip());
            Rig::new(adapter.bus(), (lab, adapter))
        }
    }

    opx_tests::fabtests!(crate::in_process::InProcess);
}

mod vfio_user {
    use super::*;

    pub struct Socket;

    impl OpenBus for Socket {
        type Bus = VfioUserBus;

        fn open(&self) -> Rig<VfioUserBus> {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("adapter.sock");
            let lab = Lab::new(Pacing::Real);
            let adapter = lab.add(chip());
            let server = SocketServer::start(adapter.clone(), &path).unwrap();
            let bus = VfioUserBus::open(&path).unwrap();
            Rig::new(bus, (server, folder, lab, adapter))
        }
    }

    opx_tests::fabtests!(crate::vfio_user::Socket);
}
