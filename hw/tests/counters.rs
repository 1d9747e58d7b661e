//! Counters of the emulated adapter, under hfi1's names.

mod common;

use common::{Bench, header, packet, receive, send_pio};
use opx_bus::PciFunction;
use opx_defs::csr;
use opx_defs::units::Blocks;
use opx_emu::Icode;
use opx_hw::RecvConfig;

#[test]
fn packets_are_counted_by_every_block_that_they_pass() {
    for icode in [Icode::Silicon, Icode::FunctionalSimulator] {
        let bench = Bench::new(icode);
        let hfi = bench.active();
        let send = hfi.send_context(Blocks(64)).unwrap();
        let mut recv = hfi.recv_context(RecvConfig::default()).unwrap();
        let before = hfi.counters().unwrap();
        let mut fill = 0;
        for _ in 0..5 {
            let header = header(hfi.lid(), hfi.lid(), recv.number(), hfi.options().job_key, 64);
            fill = send_pio(&send, fill, &packet(&header, &[7; 64]));
            receive(&mut recv).unwrap();
            recv.release();
        }
        let grown = hfi.counters().unwrap().since(&before);
        // LRH to ICRC: 56 + 64 + 4 bytes.
        for (name, index, value) in [
            ("TxPkt", None, 5),
            ("TxPktVL", Some(0), 5),
            ("TxPktVL", Some(1), 0),
            ("DcXmitPkts", None, 5),
            ("DcRcvPkts", None, 5),
            ("DcRxPktVl", Some(0), 5),
            ("DcXmitFlits", None, 5 * 16),
            ("RxPkt", None, 5),
            ("RxWords", None, 5 * 31),
            ("RcvHdrOvr", Some(recv.number().0), 0),
            ("CceMsixCsrParityErr", None, 0),
            ("SDEDscFdCn", Some(3), 0),
            ("SwLinkDown", None, 0),
        ] {
            assert_eq!(grown.get(name, index), Some(value), "{name} {index:?}");
        }
        // The LCB's are the 8051's while the link is up; the simulator's can't be asked.
        let flits = (icode == Icode::Silicon).then_some(5 * 16);
        assert_eq!(grown.get("DcPrfRxFlit", None), flits);
        assert_eq!(grown.get("NoSuchCounter", None), None);
        assert_eq!(bench.adapter.unmodelled(), []);
    }
}

/// hfi1's CNTR_SYNTH: the value goes on when the register begins anew.
#[test]
fn a_counter_of_32_bits_goes_on_when_it_wraps() {
    let bench = Bench::new(Icode::FunctionalSimulator);
    let hfi = bench.active();
    let overflows = csr::RCV_COUNTER_ARRAY32.at(opx_defs::chip::RCV_BUF_OVFL_CNT as u32);
    let seen = |value| {
        hfi.bus().write64(overflows, value);
        hfi.counters().unwrap().get("RcvOverflow", None).unwrap()
    };
    assert_eq!(
        [seen(10), seen(0xffff_fff0), seen(3), seen(4), seen(1)],
        [10, 0xffff_fff0, 1 << 32 | 3, 1 << 32 | 4, 2 << 32 | 1]
    );
    // hfi1 has this one as CNTR_NORMAL.
    let full = csr::RCV_COUNTER_ARRAY32.at(opx_defs::chip::RCV_TID_FULL_ERR_CNT as u32);
    hfi.bus().write64(full, 9);
    hfi.counters().unwrap();
    hfi.bus().write64(full, 2);
    assert_eq!(hfi.counters().unwrap().get("RxTIDFullEr", None), Some(2));
}
