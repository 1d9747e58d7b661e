//! What can go wrong with an adapter: one enum for each operation, each message names the adapter and says what to do.

use opx_bus::BusError;
use opx_defs::units::{BarOff, Guid};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A register read as all ones: nothing answers at its address any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{adapter}: the adapter is gone: {register} at {offset} reads as all ones{why}; check that it is still plugged in, powered and served, then open it again"
)]
pub struct Gone {
    /// The adapter.
    pub adapter: String,
    /// Name of the register, with its index when there are several.
    pub register: String,
    /// Where it lies in BAR 0.
    pub offset: BarOff,
    /// What the bus knows about it, in parentheses, or empty.
    pub why: String,
}

/// A register didn't come to say what it was waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{adapter}: timed out after {limit:?} waiting for {register} to show {wanted}, it reads {value:#x}; reset the adapter by opening it again"
)]
pub struct Stuck {
    /// The adapter.
    pub adapter: String,
    /// Name of the register, with its index when there are several.
    pub register: String,
    /// What was waited for.
    pub wanted: &'static str,
    /// What it read last.
    pub value: u64,
    /// How long was waited.
    pub limit: Duration,
}

/// A failed access to the chip's registers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChipError {
    /// The adapter is gone.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// A wait ran out of time.
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

/// A failed start of the chip's firmware.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirmwareError {
    /// An access to the chip failed.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// The file can't be read.
    #[error(
        "can't read firmware file {path}: {source}; install the adapter's firmware there (Debian: firmware-intel-misc) or name another folder"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is too large to be firmware.
    #[error("firmware file {path} has {len} bytes, more than the {most} that firmware can have; install it again")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
        /// The most it may have.
        most: u64,
    },
    /// The file is too short for its header or has nothing behind it.
    #[error("firmware file {path} has {len} bytes, it must have more than {least}; install it again")]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: usize,
        /// It must be longer than this.
        least: usize,
    },
    /// A field of the header isn't what it must be.
    #[error(
        "firmware file {path}: header field {field} is {actual:#x}, it must be {expected:#x}; this isn't a firmware file of this adapter, install it again"
    )]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it says.
        actual: u32,
        /// What it must say.
        expected: u32,
    },
    /// The length in the header isn't that of the file.
    #[error(
        "firmware file {path}: header field size is {actual:#x} dwords, {expected:#x} fit the file's {len} bytes; the file is damaged, install it again"
    )]
    BadSize {
        /// The file.
        path: PathBuf,
        /// What the header says.
        actual: u32,
        /// What fits the file.
        expected: u64,
        /// The file's length.
        len: usize,
    },
    /// The file lacks what the chip needs to check the signature.
    #[error(
        "firmware file {path} has no R2 and mu behind its signature, so the chip can't check it; install the file made for this adapter"
    )]
    NotAugmented {
        /// The file.
        path: PathBuf,
    },
    /// The chip's security engine is busy.
    #[error("{adapter}: the security engine isn't idle before {what}: RSA_STATUS is {status}; reset the machine")]
    EngineBusy {
        /// The adapter.
        adapter: String,
        /// Which firmware.
        what: &'static str,
        /// RSA_STATUS.
        status: u64,
    },
    /// The chip refuses the firmware.
    #[error(
        "{adapter}: the chip refuses the {what} firmware: RSA_STATUS is {status}{detail}; install the file made for this adapter"
    )]
    Refused {
        /// The adapter.
        adapter: String,
        /// Which firmware.
        what: &'static str,
        /// RSA_STATUS.
        status: u64,
        /// What MISC_ERR_STATUS says about it, beginning with a separator, or empty.
        detail: &'static str,
    },
    /// Something that both functions of the chip share is taken by the other one.
    #[error(
        "{adapter}: {what} is held by the other function of the chip (register shows {value:#x}) for more than {limit:?}; stop the other function's driver or restart the machine"
    )]
    Shared {
        /// The adapter.
        adapter: String,
        /// What is held.
        what: &'static str,
        /// The register that shows it.
        value: u64,
        /// How long was waited.
        limit: Duration,
    },
    /// The 8051 refused a command.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// The chip's microcontroller didn't do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// An access to the chip failed.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// It answered with an error.
    #[error(
        "{adapter}: the 8051 refused to {what} (command {command:#x}, data {data:#x}): return code {code:#x}, 0x2 is success; open the adapter again"
    )]
    Refused {
        /// The adapter.
        adapter: String,
        /// What it was told.
        what: &'static str,
        /// Command code.
        command: u64,
        /// Its data.
        data: u64,
        /// What it answered.
        code: u64,
    },
    /// It didn't answer before and a reset didn't help.
    #[error("{adapter}: the 8051 no longer answers, command {command:#x} was not given to it; open the adapter again")]
    Dead {
        /// The adapter.
        adapter: String,
        /// Command code.
        command: u64,
    },
}

/// A failed opening of an adapter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// An access to the chip failed.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// The firmware can't be loaded.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// It is another device.
    #[error(
        "{adapter}: PCI device {vendor:04x}:{device:04x} is no HFI1 adapter (8086:24f0 or 8086:24f1); give another address"
    )]
    NotAnHfi {
        /// The adapter.
        adapter: String,
        /// Vendor id.
        vendor: u16,
        /// Device id.
        device: u16,
    },
    /// BAR 0 has another size.
    #[error(
        "{adapter}: BAR 0 has {len:#x} bytes, an HFI1 has {expected:#x}; this is another device, or its address space was not assigned"
    )]
    BarLength {
        /// The adapter.
        adapter: String,
        /// What it has.
        len: u64,
        /// What it must have.
        expected: u64,
    },
    /// A register of identity says something that this driver doesn't know.
    #[error("{adapter}: {register} is {value:#x}: {problem}; this driver can't run it")]
    Unsupported {
        /// The adapter.
        adapter: String,
        /// The register.
        register: &'static str,
        /// What it says.
        value: u64,
        /// What is wrong with that.
        problem: &'static str,
    },
    /// The chip isn't quiet after its reset.
    #[error(
        "{adapter}: after the reset {register} is {value:#x}, not 0: the chip is not quiet; unload other drivers of the adapter, then open it again"
    )]
    NotQuiet {
        /// The adapter.
        adapter: String,
        /// The register.
        register: String,
        /// What it says.
        value: u64,
    },
    /// An option has a value that can't be used.
    #[error("option {option} is {value}: {problem}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        problem: &'static str,
    },
}

impl From<Gone> for OpenError {
    fn from(gone: Gone) -> Self {
        Self::Chip(gone.into())
    }
}

impl From<Gone> for FirmwareError {
    fn from(gone: Gone) -> Self {
        Self::Chip(gone.into())
    }
}

impl From<Gone> for CommandError {
    fn from(gone: Gone) -> Self {
        Self::Chip(gone.into())
    }
}

/// A link that can't be brought up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// An access to the chip failed.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// The 8051 didn't do what it was told.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The serdes firmware can't be loaded again.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// The link didn't get to ACTIVE in time.
    #[error(
        "{adapter}: the link is still {state} after {limit:?}{last}; check the cable and that the other end is started, then try again"
    )]
    Timeout {
        /// The adapter.
        adapter: String,
        /// How far it got.
        state: &'static str,
        /// How long was waited.
        limit: Duration,
        /// The last failure of a negotiation, beginning with a separator, or empty.
        last: String,
    },
    /// Both ends have the same GUID, so neither can tell which LID is its own.
    #[error(
        "{adapter}: both ends of the cable have GUID {guid}; give one of the adapters another GUID, or bring the link up in loopback"
    )]
    SameGuid {
        /// The adapter.
        adapter: String,
        /// The GUID.
        guid: Guid,
    },
    /// A lane's credits don't fit its MTU.
    #[error(
        "{adapter}: SEND_CM_CREDIT_VL[{vl}] reads {credits:#x} after credits were set for VL 0 alone; open the adapter again"
    )]
    Credits {
        /// The adapter.
        adapter: String,
        /// The lane.
        vl: u32,
        /// Its register.
        credits: u64,
    },
    /// The chip can't do that kind of link.
    #[error("{adapter}: {what} isn't possible on this implementation of the chip (code {icode})")]
    NotPossible {
        /// The adapter.
        adapter: String,
        /// What was asked for.
        what: &'static str,
        /// Implementation code.
        icode: u8,
    },
    /// The chip reached its critical temperature and stays frozen.
    #[error("{adapter}: the chip was too hot and is frozen for good; let it cool, then open the adapter again")]
    Overheated {
        /// The adapter.
        adapter: String,
    },
}

impl From<Gone> for LinkError {
    fn from(gone: Gone) -> Self {
        Self::Chip(gone.into())
    }
}

/// A context or engine that can't be had or restarted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// An access to the chip failed.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// All are taken.
    #[error("{adapter}: no {what} is free: all {count} are taken; drop one first")]
    Exhausted {
        /// The adapter.
        adapter: String,
        /// What ran out.
        what: &'static str,
        /// How many there are.
        count: u32,
    },
    /// The chip's memory for it ran out.
    #[error(
        "{adapter}: no room for {asked} {unit} in {what}: the largest free range has {largest}; ask for less or drop a context first"
    )]
    NoRoom {
        /// The adapter.
        adapter: String,
        /// Which memory.
        what: &'static str,
        /// What it is counted in.
        unit: &'static str,
        /// How much was asked for.
        asked: u32,
        /// The largest range that is free.
        largest: u32,
    },
    /// A parameter has a value that the hardware can't use.
    #[error("{adapter}: {parameter} is {value}, it must be {rule}")]
    BadParameter {
        /// The adapter.
        adapter: String,
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        rule: &'static str,
    },
    /// An error or a link that went down has frozen the chip, and that isn't dealt with yet.
    #[error(
        "{adapter}: the chip is frozen; call Hfi::service_interrupts until it isn't, then recover the context or engine"
    )]
    Frozen {
        /// The adapter.
        adapter: String,
    },
    /// The chip reached its critical temperature and stays frozen.
    #[error("{adapter}: the chip was too hot and is frozen for good; let it cool, then open the adapter again")]
    Overheated {
        /// The adapter.
        adapter: String,
    },
    /// The link is down, so what is sent would be lost.
    #[error("{adapter}: the link is down; bring it up, then recover the context or engine")]
    LinkDown {
        /// The adapter.
        adapter: String,
    },
    /// Too many RcvArray entries of a receive context are in use.
    #[error(
        "{adapter}: receive context {context} needs {lacking} more entries for expected packets than are free; drop expected buffers first, or make the context with more expected_entries"
    )]
    NoEntries {
        /// The adapter.
        adapter: String,
        /// Hardware number of the context.
        context: u16,
        /// How many more there should be.
        lacking: u16,
    },
    /// Too much memory is in use for expected packets.
    #[error(
        "{adapter}: receive context {context} would have {lacking} bytes more than its limit of {most} in use for expected packets; drop expected buffers first, or make the context with more expected_bytes"
    )]
    TooManyBytes {
        /// The adapter.
        adapter: String,
        /// Hardware number of the context.
        context: u16,
        /// How many bytes there are too many.
        lacking: u64,
        /// How many there may be.
        most: u64,
    },
    /// What belongs to a context was used after it was dropped.
    #[error("{adapter}: receive context {context} was dropped; make a new one")]
    Closed {
        /// The adapter.
        adapter: String,
        /// Hardware number of the context.
        context: u16,
    },
    /// The chip couldn't initialise the context's PIO memory.
    #[error(
        "{adapter}: SEND_PIO_INIT_CTXT reports an error ({value:#x}) for send context {context}; open the adapter again"
    )]
    PioInit {
        /// The adapter.
        adapter: String,
        /// Hardware number of the context.
        context: u16,
        /// The register.
        value: u64,
    },
}

impl From<Gone> for ContextError {
    fn from(gone: Gone) -> Self {
        Self::Chip(gone.into())
    }
}

impl From<Stuck> for ContextError {
    fn from(stuck: Stuck) -> Self {
        Self::Chip(stuck.into())
    }
}

/// A module that can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QsfpError {
    /// An access to the chip failed, or its other function holds the bus.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// There is none.
    #[error("{adapter}: the cage is empty; plug in a cable or module")]
    Empty {
        /// The adapter.
        adapter: String,
    },
    /// It doesn't acknowledge.
    #[error("{adapter}: the module doesn't acknowledge byte {place} sent to I2C address {device:#x}; plug it in again")]
    NoAnswer {
        /// The adapter.
        adapter: String,
        /// Address as it is sent.
        device: u8,
        /// Which byte, the address being byte 0.
        place: usize,
    },
    /// It holds a line low.
    #[error("{adapter}: the module holds the I2C {line} line low for more than {limit:?}; plug it in again")]
    Held {
        /// The adapter.
        adapter: String,
        /// Clock or data.
        line: &'static str,
        /// How long was waited.
        limit: Duration,
    },
}

/// An EPROM that can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EpromError {
    /// An access to the chip failed, or its other function holds the EPROM.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// Integrated adapters have none.
    #[error("{adapter}: only discrete adapters (8086:24f0) have an EPROM")]
    None {
        /// The adapter.
        adapter: String,
    },
    /// The range isn't in it.
    #[error("{adapter}: {len} bytes at {offset:#x} lie beyond the EPROM's 16 MiB; ask for less")]
    Beyond {
        /// The adapter.
        adapter: String,
        /// First byte.
        offset: u32,
        /// How many.
        len: usize,
    },
    /// It holds no platform configuration.
    #[error("{adapter}: the EPROM holds no platform configuration file; write one with the maker's tool (hfi1_eprom)")]
    NoFile {
        /// The adapter.
        adapter: String,
    },
    /// Its contents make no sense.
    #[error(
        "{adapter}: the EPROM is damaged: {problem} is {value:#x}; write it anew with the maker's tool (hfi1_eprom)"
    )]
    Bad {
        /// The adapter.
        adapter: String,
        /// What is wrong.
        problem: &'static str,
        /// What it says.
        value: u32,
    },
}

/// A temperature that can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ThermalError {
    /// An access to the chip failed, or its other function holds the SBus.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// There is no sensor.
    #[error("{adapter}: this implementation of the chip (code {icode}) has no thermometer")]
    None {
        /// The adapter.
        adapter: String,
        /// Implementation code.
        icode: u8,
    },
}

impl From<Gone> for QsfpError {
    fn from(gone: Gone) -> Self {
        Self::Firmware(gone.into())
    }
}

impl From<Gone> for EpromError {
    fn from(gone: Gone) -> Self {
        Self::Firmware(gone.into())
    }
}

macro_rules! gone {
    ($($error:ident: $($variant:ident($inner:ident))|+;)*) => {
        $(impl $error {
            /// Whether the adapter itself is gone: nothing but opening it again helps.
            pub fn is_gone(&self) -> bool {
                self.gone().is_some()
            }

            /// The adapter and what was seen of it, when it is itself gone.
            pub fn gone(&self) -> Option<(&str, String)> {
                match self {
                    $(Self::$variant($inner) => $inner.gone(),)+
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }
        })*
    };
}

impl Gone {
    /// The adapter and what was seen of it.
    pub fn gone(&self) -> Option<(&str, String)> {
        Some((&self.adapter, format!("{} at {} reads as all ones{}", self.register, self.offset, self.why)))
    }
}

gone! {
    ChipError: Gone(e);
    CommandError: Chip(e);
    FirmwareError: Chip(e) | Command(e);
    OpenError: Bus(e) | Chip(e) | Firmware(e);
    LinkError: Chip(e) | Command(e) | Firmware(e);
    ContextError: Bus(e) | Chip(e);
    QsfpError: Firmware(e);
    EpromError: Firmware(e);
    ThermalError: Firmware(e);
}
