//! Two cabled adapters under Linux's own driver and fabric manager, then PSM2 and verbs between them.

use crate::hfi1;
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Iommu, Kernel, Run,
};

/// Silicon, on the kernel where all of it works.
pub fn silicon(run: &Run) -> Result<(), GuestError> {
    let report = cable(run, Kernel::Trixie, "silicon", Psm2::Works, Iommu::None)?;
    hfi1::both_counted(&report, PSM2_COUNTS)
}

/// The functional simulator. The driver deadlocks on itself when such a link goes down (it takes the link's lock twice in
/// goto_offline), so the guest is reset at its end, not powered off.
pub fn functional(run: &Run) -> Result<(), GuestError> {
    let report = cable(run, Kernel::Trixie, "simulator", Psm2::Works, Iommu::None)?;
    hfi1::both_counted(&report, PSM2_COUNTS)
}

/// Silicon on the newer kernel. PSM2 can't work there: hfi1_file_mmap maps eager buffers one by one, and the second
/// remap_pfn_range of an area is refused.
pub fn backports(run: &Run) -> Result<(), GuestError> {
    let report = cable(run, Kernel::Backports, "silicon", Psm2::Aborts, Iommu::None)?;
    hfi1::both_counted(&report, VERBS_COUNTS)
}

/// Silicon behind an IOMMU that translates: verbs only. With PSM2 the older kernel maps a wrong page for the returned
/// credits, and the process dies of a corrupted page table.
pub fn translated(run: &Run) -> Result<(), GuestError> {
    let report = cable(run, Kernel::Trixie, "silicon", Psm2::Left, Iommu::Translating)?;
    hfi1::both_counted(&report, VERBS_COUNTS)
}

/// What verbs use.
const VERBS_COUNTS: &[&str] = &["packets sent", "sent by SDMA"];
/// What PSM2's large messages use.
const PSM2_COUNTS: &[&str] = &["packets sent", "sent by SDMA", "placed by TID", "in flows", "headers suppressed"];

/// What PSM2 is expected to do.
enum Psm2 {
    Works,
    Aborts,
    /// It isn't tried.
    Left,
}

fn cable(run: &Run, kernel: Kernel, icode: &str, psm2: Psm2, iommu: Iommu) -> Result<Vec<String>, GuestError> {
    let environment = Environment::get(kernel)?;
    let psm2 = match psm2 {
        Psm2::Works => "PSM2=works\n",
        Psm2::Aborts => "PSM2=aborts\n",
        Psm2::Left => "PSM2=left\n",
    };
    let end = if icode == "simulator" { End::Reset } else { End::PowerOff };
    let script = [hfi1::SHELL, psm2, include_str!("hfi1_cable.sh")].concat();
    let mut initrd = Initrd::new(&environment, &script)?;
    hfi1::stock_software(&mut initrd, "")?;
    // The driver crashes when the link comes up before it has registered its InfiniBand device (ib_cache_event_task).
    let arguments = ["--cable", "--icode", icode, "--link-time", "2"].map(str::to_owned).to_vec();
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 2, arguments })?;
    // The fabric manager alone takes 740 MB.
    let options =
        GuestOptions { adapters: emulator.sockets().to_vec(), memory: 3072, iommu, ..GuestOptions::default() };
    let guest = Guest::start(run, &environment, &initrd.build(end), &options)?;
    hfi1::judge(&environment, guest, emulator, &[])
}
