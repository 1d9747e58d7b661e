//! Fields of the PBC; [`crate::wire::pbc::Pbc`] is the typed form.
//!
//! Source: `chip.h PBC_*`.

constants! {
    /// Raise PBC_INT when the packet has been sent.
    PBC_INTR = 0x8000_0000;

    /// Position of PBC_DC_INFO.
    PBC_DC_INFO_SHIFT = 30;

    /// Bit 4 of the service class.
    PBC_DC_INFO = 0x4000_0000;

    /// Test: end the packet as a bad one.
    PBC_TEST_EBP = 0x2000_0000;

    /// The packet isn't a 9B one.
    PBC_PACKET_BYPASS = 0x1000_0000;

    /// Return credits when the packet's blocks are free.
    PBC_CREDIT_RETURN = 0x200_0000;

    /// Let the chip put an ICRC on a bypass packet.
    PBC_INSERT_BYPASS_ICRC = 0x100_0000;

    /// Test: send a wrong ICRC.
    PBC_TEST_BAD_ICRC = 0x80_0000;

    /// Mark a bypass packet with FECN.
    PBC_FECN = 0x40_0000;

    /// PBC_INSERT_HCRC: header checksum for a KDETH right after LRH and BTH.
    PBC_IHCRC_LKDETH = 0x0;

    /// PBC_INSERT_HCRC: header checksum for a KDETH behind a GRH.
    PBC_IHCRC_GKDETH = 0x1;

    /// PBC_INSERT_HCRC: no header checksum.
    PBC_IHCRC_NONE = 0x2;

    /// Position of the gap after the packet, core clocks.
    PBC_STATIC_RATE_CONTROL_COUNT_SHIFT = 32;

    /// Mask, before the shift, of the gap after the packet.
    PBC_STATIC_RATE_CONTROL_COUNT_MASK = 0xffff;

    /// Mask in place of the gap after the packet.
    PBC_STATIC_RATE_CONTROL_COUNT_SMASK = 0xffff_0000_0000;

    /// Position of the header checksum's place.
    PBC_INSERT_HCRC_SHIFT = 26;

    /// Mask, before the shift, of the header checksum's place.
    PBC_INSERT_HCRC_MASK = 0x3;

    /// Mask in place of the header checksum's place.
    PBC_INSERT_HCRC_SMASK = 0xc00_0000;

    /// Position of the virtual lane.
    PBC_VL_SHIFT = 12;

    /// Mask, before the shift, of the virtual lane.
    PBC_VL_MASK = 0xf;

    /// Mask in place of the virtual lane.
    PBC_VL_SMASK = 0xf000;

    /// Position of the length in dwords, PBC included and ICRC not.
    PBC_LENGTH_DWS_SHIFT = 0;

    /// Mask, before the shift, of the length.
    PBC_LENGTH_DWS_MASK = 0xfff;

    /// Mask in place of the length.
    PBC_LENGTH_DWS_SMASK = 0xfff;
}
