//! A link that goes down under a queue: the freeze that follows stops the engine, each packet ends exactly once, and nothing
//! of the old ring is sent later.

mod common;

use opx_bus::PciFunction;
use opx_defs::units::{Guid, Vl};
use opx_defs::wire::opx::Inject;
use opx_emu::{Adapter, Config, EmuBus, Icode, Lab, Pacing};
use opx_hw::{Hfi, LinkMode, Options};
use opx_sdma::{Fragment, Outcome, SdmaError, SdmaQueue};
use std::time::Duration;

/// Two adapters joined by a cable, with the link up.
struct Pair {
    lab: Lab,
    adapters: [Adapter; 2],
    hfis: [Hfi<EmuBus>; 2],
}

impl Pair {
    fn new() -> Self {
        let lab = Lab::new(Pacing::Virtual);
        let icode = Icode::FunctionalSimulator;
        let make = |guid| lab.add(Config { icode, guid: Guid(guid), ..Config::default() });
        let adapters = [make(0x0011_7501_0100_0b01), make(0x0011_7501_0200_0b02)];
        lab.cable(&adapters[0], &adapters[1]);
        let open = |adapter: &Adapter| Hfi::open(adapter.bus(), Options::default()).unwrap();
        let hfis = [open(&adapters[0]), open(&adapters[1])];
        let pair = Self { lab, adapters, hfis };
        let mode = LinkMode::Cable { timeout: Duration::from_secs(10) };
        for hfi in &pair.hfis {
            hfi.link_begin(mode).unwrap();
        }
        opx_bus::poll::until(pair.hfis[0].bus(), Duration::from_secs(10), || {
            let up = pair.hfis.iter().all(|hfi| hfi.link_advance().unwrap() == opx_hw::LinkState::Active);
            up.then_some(())
        })
        .unwrap();
        pair
    }
}

#[test]
fn packets_end_exactly_once_when_the_link_goes_down() {
    for before in [0, 3, 40] {
        let pair = Pair::new();
        let hfi = &pair.hfis[0];
        let memory = hfi.bus().dma_alloc(16384).unwrap();
        let route = hfi.route(1, pair.hfis[1].lid(), 1);
        let header = Inject { tag: Some(1), cq_data: None, data: b"x" }.encode(&route).unwrap();
        memory.write(0, &header.pbc(Vl(0)).0.to_le_bytes());
        memory.write(8, header.as_bytes());
        let whole = [Fragment::of(&memory, 0..64).unwrap()];
        let mut queue = SdmaQueue::new(hfi.sdma_engine(128).unwrap());
        for n in 0..before {
            queue.submit(&whole, n).unwrap();
        }
        queue.doorbell();
        let mut ended = Vec::new();
        opx_bus::poll::until(hfi.bus(), Duration::from_secs(1), || {
            ended.extend(queue.poll());
            (ended.len() == before).then_some(())
        })
        .unwrap();
        // Some more, half of them told to the engine, when the cable is pulled.
        let more = before..before + 20;
        for n in more.clone() {
            queue.submit(&whole, n).unwrap();
            if n == before + 10 {
                queue.doorbell();
            }
        }
        pair.lab.pull(&pair.adapters[0]);
        opx_bus::poll::until(hfi.bus(), Duration::from_secs(10), || {
            hfi.service_interrupts().unwrap();
            (!hfi.link_state().is_up()).then_some(())
        })
        .unwrap();

        assert!(matches!(queue.check(), Err(SdmaError::Frozen { .. })));
        queue.restart().expect_err("there is no link");
        ended.extend(std::iter::from_fn(|| queue.poll()));
        assert!(ended.iter().map(|(n, _)| *n).eq(0..before + 20), "each once, in order");
        assert!(ended[..before].iter().all(|(_, outcome)| *outcome == Outcome::Sent));
        assert!(ended[before + 11..].iter().all(|(_, outcome)| *outcome == Outcome::Failed), "nobody told the engine");
        let (error, token) = queue.submit(&whole, 99).unwrap_err();
        assert!(matches!(error, SdmaError::Stopped { .. }) && token == 99, "{error}");
        assert_eq!((queue.pending(), queue.poll()), (0, None));
    }
}
