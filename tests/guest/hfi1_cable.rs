//! Two cabled adapters under Linux's own driver and fabric manager, then PSM2 and verbs between them.

use crate::hfi1::{self, Cabled, Setup};
use opx_tests::guest::{End, GuestError, Iommu, Kernel, Run};

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

/// Silicon behind an IOMMU that translates. Of the buffer for returned credits, hfi1_file_mmap gives dma_mmap_coherent an
/// address inside where its beginning is expected, and PSM2 gets some other page: seen were one that makes no sense, and one
/// of an adapter's registers. So what the adapters lack isn't judged, nor what the kernel says of the killed process. Later
/// kernels, 6.12.117 among them, have this mended.
pub fn translated(run: &Run) -> Result<(), GuestError> {
    let report = cable(run, Kernel::Trixie, "silicon", Psm2::Breaks, Iommu::Translating)?;
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
    /// The kernel kills it, or it waits for ever once a context's first credits are used up.
    Breaks,
}

fn cable(run: &Run, kernel: Kernel, icode: &str, psm2: Psm2, iommu: Iommu) -> Result<Vec<String>, GuestError> {
    let variables = match psm2 {
        Psm2::Works => "PSM2=works\n",
        Psm2::Aborts => "PSM2=aborts\n",
        Psm2::Breaks => "PSM2=breaks\n",
    };
    let orderly = icode != "simulator" && !matches!(psm2, Psm2::Breaks);
    let end = if orderly { End::PowerOff } else { End::Reset };
    let script = include_str!("hfi1_cable.sh");
    let setup = Setup { kernel, icode, iommu, variables: variables.to_owned(), script, end, ..Setup::default() };
    let mut cabled = Cabled::start(run, &setup)?;
    if matches!(psm2, Psm2::Breaks) {
        cabled.judge_until(&[], Some("fi_pingpong: Corrupted page table"))?;
        return cabled.emulator.end();
    }
    cabled.judge(&[])?;
    hfi1::judge_adapters(cabled.emulator)
}
