//! Counters of errors, before and after.

use crate::report::ErrorCount;
use opx_hw::counters::{Counter, Counters};

/// Counters of the hardware that count errors, beside those that the driver makes of bits in error registers.
const OF_ERRORS: [&str; 38] = [
    "RcvOverflow",
    "RxLenErr",
    "RxShrErr",
    "RxICrcErr",
    "RxEbpCnt",
    "RxTIDFullEr",
    "RxTIDInvalid",
    "RxTidFLGMs",
    "RxTidFLSMs",
    "DcUnctblErr",
    "DcRecvErr",
    "DcFmCfgErr",
    "DcRmtPhyErr",
    "DcDroppedPkt",
    "DcXmitCorr",
    "DcRcvCorrCnt",
    "DcTotCrc",
    "DcCrcLn0",
    "DcCrcLn1",
    "DcCrcLn2",
    "DcCrcLn3",
    "DcMultLn",
    "DcTxReplay",
    "DcRxReplay",
    "DcLinkSeqCrc",
    "DcReinitPeer",
    "DcSbe",
    "DcMiscFlg",
    "DcStsTxSbe",
    "DcStsTxMbe",
    "TxUnVLErr",
    "TxInvalLen",
    "TxMMLenErr",
    "TxUnderrun",
    "TxDropped",
    "TxHdrErr",
    "RcvHdrOvr",
    "SwLinkDown",
];

fn tells_of_errors(counter: &Counter) -> bool {
    let of_a_bit = counter.register().is_none() && !counter.name.starts_with("Sw");
    of_a_bit || OF_ERRORS.contains(&counter.name)
}

/// Those that have grown from `before` to `after`, and how much of that came between the two looks of `measured`.
pub fn grown(before: &Counters, after: &Counters, measured: Option<(&Counters, &Counters)>) -> Vec<ErrorCount> {
    let meanwhile = measured.map(|(before, after)| after.since(before));
    let rows = after.iter().filter(|reading| tells_of_errors(reading.counter));
    rows.filter_map(|reading| {
        let name = reading.counter.name;
        let earlier = before.get(name, reading.index).unwrap_or(0);
        let of = |counters: &Counters| counters.get(name, reading.index).unwrap_or(0);
        (reading.value > earlier).then(|| ErrorCount {
            counter: name,
            index: reading.index,
            about: reading.counter.about,
            before: earlier,
            after: reading.value,
            while_measuring: meanwhile.as_ref().map_or(0, of),
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_hw::counters::catalogue;

    #[test]
    fn every_name_is_one_of_the_catalogue() {
        for name in OF_ERRORS {
            assert!(catalogue().any(|counter| counter.name == name && tells_of_errors(counter)), "{name}");
        }
        for name in ["DcXmitPkts", "SwLinkUp", "TxWait", "CceErrInt"] {
            assert!(catalogue().any(|counter| counter.name == name && !tells_of_errors(counter)), "{name}");
        }
    }
}
