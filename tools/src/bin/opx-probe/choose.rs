//! Which adapter a command works on: the one that was named, or the only one there is.

use crate::cli::Target;
use crate::csr::dump::Dump;
use crate::loaded::Loaded;
use crate::places::{Places, check_sockets};
use crate::registers::Registers;
use opx_emu::{Adapter, Pacing, QsfpModule};
use opx_tools::adapter::{AdapterSpec, AnyBus, Options, open};

/// No adapter was named, and there isn't exactly one.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// None.
    #[error("no adapter found: {looked}; name one with --adapter (`--adapter emulated` makes one for this command)")]
    None {
        /// What was looked for.
        looked: String,
    },
    /// Several.
    #[error("there are {} adapters: choose one with --adapter: {}", choices.len(), choices.join(", "))]
    Several {
        /// All of them.
        choices: Vec<String>,
    },
    /// A dump is for looking at.
    #[error("--load goes with --adapter emulated: a dump isn't written to a real adapter")]
    LoadOfReal,
}

/// The function that the commands work on.
pub type Bus = Loaded<AnyBus>;

/// Opens the adapter that was named, or the only one there is.
pub fn adapter(places: &Places, target: &Target) -> anyhow::Result<Registers<Bus>> {
    let spec = match &target.adapter {
        Some(spec) => spec.clone(),
        None => only(places)?,
    };
    // Before an adapter is opened: bad input is told first.
    let dump = target.load.as_deref().map(Dump::load).transpose()?;
    if dump.is_some() && spec != AdapterSpec::Emulated {
        return Err(ChooseError::LoadOfReal.into());
    }
    // Registers are all that is looked at, and on the simulated clock an emulated adapter needs no thread.
    let options = Options { pacing: Pacing::Virtual, roots: places.roots(), ..Options::default() };
    let bus = open(&spec, &options)?;
    if let Some(adapter) = bus.emulated() {
        equip(adapter);
    }
    Ok(Registers::new(Loaded::new(bus, dump.as_ref()))?)
}

/// Gives an emulated adapter what a real one has on its board: a cable in the cage, a platform configuration in the EPROM.
fn equip(adapter: &Adapter) {
    /// Where the file is in an EPROM of partitions, and what it begins and ends with (`eprom.c`).
    const FILE: (usize, &[u8]) = (128 << 10, b"APO=emulatedegamiAPO");
    adapter.set_module(Some(QsfpModule::copper("opx", "EMULATED-3M", "1", 3)));
    let mut eprom = vec![0xff; FILE.0];
    eprom.extend_from_slice(FILE.1);
    adapter.set_eprom(eprom);
}

fn only(places: &Places) -> Result<AdapterSpec, ChooseError> {
    let mut found: Vec<AdapterSpec> = places.pci().iter().map(|found| AdapterSpec::Vfio(found.address)).collect();
    let mut sockets = places.sockets();
    // A socket that is all there is may tell by itself what is wrong with it; among others it only counts if it lives.
    if found.len() + sockets.len() > 1 {
        let lives = check_sockets(&sockets).into_iter().map(|checked| checked.is_ok());
        sockets = sockets.into_iter().zip(lives).filter_map(|(path, lives)| lives.then_some(path)).collect();
    }
    found.extend(sockets.into_iter().map(AdapterSpec::VfioUser));
    match found.as_slice() {
        [] => Err(ChooseError::None { looked: places.looked() }),
        [one] => Ok(one.clone()),
        several => Err(ChooseError::Several { choices: several.iter().map(AdapterSpec::to_string).collect() }),
    }
}
