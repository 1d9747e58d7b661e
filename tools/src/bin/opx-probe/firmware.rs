//! `opx-probe firmware`: the files that would be loaded into the chip, and whether its microcontroller runs.

use crate::cli;
use crate::places::Places;
use crate::registers::Registers;
use crate::render::table;
use crate::view::{View, show};
use crate::{Outcome, choose};
use opx_bus::{BusError, PciFunction};
use opx_defs::csr;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The files of silicon (`firmware.c:hfi1_firmware_init`), and whether they are loaded here: the last two are for the step to PCIe
/// generation 3, which Linux's driver makes.
const FILES: [(&str, &str); 4] = [
    ("hfi1_dc8051.fw", "the link's microcontroller"),
    ("hfi1_fabric.fw", "the link's serdes"),
    ("hfi1_sbus.fw", "hfi1 only"),
    ("hfi1_pcie.fw", "hfi1 only"),
];
/// No such file is longer.
const MOST_BYTES: u64 = 1 << 20;

/// Firmware, in files and in the chip.
#[derive(Debug, Serialize)]
struct Firmware {
    folder: String,
    files: Vec<FirmwareFile>,
    /// None while the link side is held in reset.
    firmware_state: Option<String>,
    /// Whether the 8051 takes commands.
    runs: bool,
}

/// One file.
#[derive(Debug, Serialize)]
struct FirmwareFile {
    name: &'static str,
    purpose: &'static str,
    bytes: Option<u64>,
    sha256: Option<String>,
    /// Why it can't be loaded.
    problem: Option<String>,
}

impl FirmwareFile {
    fn look(folder: &Path, name: &'static str, purpose: &'static str) -> Self {
        let mut bytes = Vec::new();
        let read = File::open(folder.join(name)).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
        match read {
            Ok(_) => Self {
                name,
                purpose,
                bytes: Some(bytes.len() as u64),
                sha256: Some(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()),
                // The two others aren't loaded here, and have another form.
                problem: (purpose != "hfi1 only")
                    .then(|| opx_hw::check_firmware(bytes).err().map(|error| error.to_string()))
                    .flatten(),
            },
            Err(error) => {
                let why =
                    if error.kind() == io::ErrorKind::NotFound { "not there".to_owned() } else { error.to_string() };
                Self { name, purpose, bytes: None, sha256: None, problem: Some(why) }
            }
        }
    }
}

impl Firmware {
    fn read<B: PciFunction>(registers: &Registers<B>, folder: &Path) -> Result<Self, BusError> {
        let state = if registers.dc_in_reset()? {
            None
        } else {
            Some(csr::DC_DC8051_STS_CUR_STATE::FIRMWARE.get(registers.get(&csr::DC_DC8051_STS_CUR_STATE)?))
        };
        Ok(Self {
            folder: folder.display().to_string(),
            files: FILES.iter().map(|(name, purpose)| FirmwareFile::look(folder, name, purpose)).collect(),
            firmware_state: state.map(|state| format!("{state:#x}")),
            // chip.c:wait_fm_ready: ready for commands.
            runs: state == Some(0xa0),
        })
    }
}

impl View for Firmware {
    fn text(&self) -> String {
        let rows = self.files.iter().map(|file| {
            let bytes = file.bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
            let state = file.problem.clone().unwrap_or_else(|| "ok".to_owned());
            vec![file.name.to_owned(), bytes, file.purpose.to_owned(), state]
        });
        let state = match (&self.firmware_state, self.runs) {
            (None, _) => "unknown: the DC is held in reset".to_owned(),
            (Some(state), true) => format!("runs (state {state})"),
            (Some(state), false) => format!("doesn't run (state {state}): nobody has loaded it since the reset"),
        };
        format!(
            "files in {}\n{}8051 in the chip: {state}\n",
            self.folder,
            table(&["file", "bytes", "for", "state"], rows)
        )
    }
}

/// Shows it.
pub fn run(places: &Places, args: &cli::Firmware) -> anyhow::Result<Outcome> {
    let registers = choose::adapter(places, &args.target)?;
    show(&registers, &args.target, &Firmware::read(&registers, &args.firmware)?)
}
