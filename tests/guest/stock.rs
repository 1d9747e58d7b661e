//! The stock software for an adapter: Linux's driver, its firmware, the fabric manager, and the programs that judge.

use opx_tests::guest::{GuestError, Initrd};

/// Puts in the driver, its firmware, the fabric manager and the programs that judge a fabric.
pub fn stock_software(initrd: &mut Initrd<'_>, options: &str) -> Result<(), GuestError> {
    for module in ["ib_uverbs", "ib_umad"] {
        initrd.module(module, "")?;
    }
    initrd.module("hfi1", options)?;
    for file in ["dc8051", "fabric", "pcie", "sbus"] {
        initrd.packaged(&format!("usr/lib/firmware/hfi1_{file}.fw"))?;
    }
    for program in [
        "usr/bin/fi_pingpong",
        "usr/bin/ibv_devinfo",
        "usr/bin/ibv_rc_pingpong",
        "usr/bin/ibv_ud_pingpong",
        "usr/sbin/opainfo",
        "usr/sbin/saquery",
        "usr/lib/opa-fm/bin/opafmd",
        "usr/lib/opa-fm/runtime/sm",
        // Opened by name at run time: by the threads library, verbs, and the resolver.
        "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
        "usr/lib/x86_64-linux-gnu/libibverbs/libhfi1verbs-rdmav34.so",
        "usr/lib/x86_64-linux-gnu/libnss_files.so.2",
    ] {
        initrd.program(program)?;
    }
    initrd.packaged("etc/libibverbs.d/hfi1verbs.driver")?;
    // The fabric manager's configuration as it comes.
    initrd.packaged_folder("etc/opa-fm")?;
    initrd.packaged_folder("usr/share/opa-fm")?;
    Ok(())
}
