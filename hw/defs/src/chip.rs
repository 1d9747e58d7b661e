//! Constants of the chip, under the names of `chip.h` and `chip_registers.h`, grouped by topic.
//!
//! All are `u64`, as register values are. Each topic is a module, and all names can also be used straight from here:
//! `chip::PLS_LINKUP` is `chip::pls::PLS_LINKUP`.

/// Writes a topic's constants and the list of them.
macro_rules! constants {
    ($(
        #[doc = $doc:literal]
        $name:ident = $value:literal;
    )*) => {
        $(
            #[doc = $doc]
            pub const $name: u64 = $value;
        )*

        /// The constants of this topic by name.
        pub(super) static NAMED: &[(&str, u64)] = &[$((stringify!($name), $name),)*];
    };
}

pub mod bar;
pub mod counter;
pub mod credit_return;
pub mod dc;
pub mod dc8051_field;
pub mod freeze;
pub mod hcmd;
pub mod host_msg;
pub mod hreq;
pub mod icode;
pub mod idle;
pub mod interrupt;
pub mod limits;
pub mod lstate;
pub mod pbc;
pub mod pci_config;
pub mod pls;
pub mod resource;
pub mod timing;

pub use bar::*;
pub use counter::*;
pub use credit_return::*;
pub use dc::*;
pub use dc8051_field::*;
pub use freeze::*;
pub use hcmd::*;
pub use host_msg::*;
pub use hreq::*;
pub use icode::*;
pub use idle::*;
pub use interrupt::*;
pub use limits::*;
pub use lstate::*;
pub use pbc::*;
pub use pci_config::*;
pub use pls::*;
pub use resource::*;
pub use timing::*;

/// Every constant by name, one list for each topic.
pub static NAMED: &[(&str, &[(&str, u64)])] = &[
    ("bar", bar::NAMED),
    ("limits", limits::NAMED),
    ("timing", timing::NAMED),
    ("icode", icode::NAMED),
    ("freeze", freeze::NAMED),
    ("interrupt", interrupt::NAMED),
    ("pbc", pbc::NAMED),
    ("credit_return", credit_return::NAMED),
    ("lstate", lstate::NAMED),
    ("pls", pls::NAMED),
    ("hcmd", hcmd::NAMED),
    ("hreq", hreq::NAMED),
    ("host_msg", host_msg::NAMED),
    ("dc8051_field", dc8051_field::NAMED),
    ("idle", idle::NAMED),
    ("dc", dc::NAMED),
    ("resource", resource::NAMED),
    ("counter", counter::NAMED),
    ("pci_config", pci_config::NAMED),
];
