//! `opx-probe eprom`: bytes of the adapter's EPROM, and the platform configuration in it.

use crate::cli;
use crate::places::Places;
use crate::view::{View, show};
use crate::{Outcome, choose};
use opx_hw::Board;
use serde::Serialize;
use std::fmt::Write;
use std::fs;

/// What was read.
#[derive(Debug, Serialize)]
struct Eprom {
    offset: u32,
    /// Hexadecimal, two digits a byte.
    bytes: String,
    /// Bytes of the platform configuration; none when there is none.
    platform_config_bytes: Option<usize>,
    /// Why there is none.
    platform_config_problem: Option<String>,
    /// Where it was saved.
    saved: Option<String>,
    #[serde(skip)]
    raw: Vec<u8>,
}

impl View for Eprom {
    fn text(&self) -> String {
        let mut text = match (&self.platform_config_bytes, &self.platform_config_problem) {
            (Some(bytes), _) => format!("platform configuration: {bytes} bytes\n"),
            (None, why) => format!("platform configuration: none: {}\n", why.as_deref().unwrap_or("no reason given")),
        };
        if let Some(path) = &self.saved {
            let _ = writeln!(text, "saved to {path}");
        }
        for (line, bytes) in self.raw.chunks(16).enumerate() {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let shown = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
            let letters: String = bytes.iter().map(shown).collect();
            let _ = writeln!(text, "{:06x}  {:<47}  {letters}", self.offset as usize + 16 * line, hex.join(" "));
        }
        text
    }
}

/// Shows it.
pub fn run(places: &Places, args: &cli::Eprom) -> anyhow::Result<Outcome> {
    let registers = choose::adapter(places, &args.target)?;
    let board = Board::new(registers.bus().clone())?;
    let mut raw = vec![0; args.length as usize];
    board.read_eprom(args.offset, &mut raw)?;
    let config = board.platform_config();
    let saved = match (&args.save, &config) {
        (Some(path), Ok(bytes)) => {
            fs::write(path, bytes).map_err(|error| anyhow::anyhow!("can't save to {}: {error}", path.display()))?;
            Some(path.display().to_string())
        }
        (Some(_), Err(_)) => return Err(config.map(drop).unwrap_err().into()),
        (None, _) => None,
    };
    let eprom = Eprom {
        offset: args.offset,
        bytes: raw.iter().map(|byte| format!("{byte:02x}")).collect(),
        platform_config_bytes: config.as_ref().ok().map(Vec::len),
        platform_config_problem: config.err().map(|error| error.to_string()),
        saved,
        raw,
    };
    show(&registers, &args.target, &eprom)
}
