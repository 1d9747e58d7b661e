//! Cable pulled and put back, also under traffic and many times; driver taken out and put back; functions reset; an orderly
//! power-off: Linux's own driver recovers from each.

use crate::hfi1::{self, Cabled, Setup};
use opx_tests::guest::{GuestError, Run};

/// Link bounces in a row.
const BOUNCES: u32 = 20;

/// The fabric manager asks for what suits the state in which it saw the ports last. If the cable was pulled meanwhile, the driver
/// refuses and says so: a port that is down or starts anew can't be armed or active at once, and one whose neighbour lost its own
/// order to arm can't become active (`mad.c:port_states_transition_allowed`, `set_port_states`). A port whose cable is pulled after the
/// order was taken isn't armed or active within the second that the driver waits for it (`chip.c:set_link_state`,
/// `wait_logical_linkstate`). The manager then sweeps again.
const TOO_LATE: &[&str] = &[
    "invalid logical state transition PORT_DOWN -> PORT_ARMED",
    "invalid logical state transition PORT_DOWN -> PORT_ACTIVE",
    "invalid logical state transition PORT_INIT -> PORT_ACTIVE",
    "timeout waiting for link state 0x3",
    "set_link_state: logical state did not change to ARMED",
    "timeout waiting for link state 0x4",
    "set_link_state: logical state did not change to ACTIVE",
    "SubnSet(OPA_PortInfo) Cannot move to Active with NeighborNormal 0",
];

/// The scenario.
pub fn run(run: &Run) -> Result<(), GuestError> {
    let variables = format!("BOUNCES={BOUNCES}\n");
    let setup = Setup { variables, script: include_str!("hfi1_events.sh"), ..Setup::default() };
    let mut cabled = Cabled::start(run, &setup)?;
    // Two pulls, the bounces, and two times out of the fabric, each with its plug.
    for _ in 0..2 + BOUNCES + 2 {
        for act in ["pull", "plug"] {
            cabled.answer(act, |emulator| emulator.ask(act).map(drop))?;
        }
    }
    cabled.judge(TOO_LATE)?;
    hfi1::judge_adapters(cabled.emulator).map(drop)
}
