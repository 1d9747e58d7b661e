//! The contract suite on the emulated adapter in this process: in real and in simulated time, in both forms of the chip.

use opx_emu::{Config, EmuBus, Icode, Lab, Pacing};
use opx_tests::rig::{OpenBus, Rig};

struct InProcess(Pacing, Icode);

impl OpenBus for InProcess {
    type Bus = EmuBus;

    fn open(&self) -> Rig<EmuBus> {
        let lab = Lab::new(self.0);
        let adapter = lab.add(Config { icode: self.1, ..Config::default() });
        Rig::new(adapter.bus(), (lab, adapter))
    }
}

mod silicon {
    use super::*;
    mod real_time {
        use super::*;
        opx_tests::contract_suite!(super::super::super::InProcess(super::Pacing::Real, super::Icode::Silicon));
    }
    mod virtual_time {
        use super::*;
        opx_tests::contract_suite!(super::super::super::InProcess(super::Pacing::Virtual, super::Icode::Silicon));
    }
}

mod simulator {
    use super::*;
    mod virtual_time {
        use super::*;
        opx_tests::contract_suite!(super::super::super::InProcess(
            super::Pacing::Virtual,
            super::Icode::FunctionalSimulator
        ));
    }
}
