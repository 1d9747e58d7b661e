//! Physical link states, DC_DC8051_STS_CUR_STATE.PORT: the upper nibble is the state, the lower one a step in it.
//!
//! Source: `chip.h PLS_*`.

constants! {
    /// Disabled.
    PLS_DISABLED = 0x30;

    /// Offline; also the request to go there.
    PLS_OFFLINE = 0x90;

    /// Offline: lanes quiet, the state at rest.
    PLS_OFFLINE_QUIET = 0x90;

    /// Offline: telling the peer that the link goes down by intent.
    PLS_OFFLINE_PLANNED_DOWN_INFORM = 0x91;

    /// Offline: leaving link transfer for quiet.
    PLS_OFFLINE_READY_TO_QUIET_LT = 0x92;

    /// Offline: reporting why the link failed.
    PLS_OFFLINE_REPORT_FAILURE = 0x93;

    /// Offline: leaving the BCC for quiet.
    PLS_OFFLINE_READY_TO_QUIET_BCC = 0x94;

    /// Offline: sitting out the least time of quiet.
    PLS_OFFLINE_QUIET_DURATION = 0x95;

    /// Polling; also the request to start.
    PLS_POLLING = 0x20;

    /// Polling: listening only.
    PLS_POLLING_QUIET = 0x20;

    /// Polling: sending the polling pattern.
    PLS_POLLING_ACTIVE = 0x21;

    /// Training the lanes.
    PLS_CONFIGPHY = 0x40;

    /// Training: debounce (misspelt so in the driver).
    PLS_CONFIGPHY_DEBOUCE = 0x40;

    /// Training: establishing communication.
    PLS_CONFIGPHY_ESTCOMM = 0x41;

    /// Training: hunting for the peer's frames.
    PLS_CONFIGPHY_ESTCOMM_TXRX_HUNT = 0x42;

    /// Training: communication stands on this side.
    PLS_CONFIGPHY_ESTCOMM_LOCAL_COMPLETE = 0x43;

    /// Training: tuning the equalizers.
    PLS_CONFIGPHY_OPTEQ = 0x44;

    /// Training: equalizer tuning under way.
    PLS_CONFIGPHY_OPTEQ_OPTIMIZING = 0x44;

    /// Training: equalizers tuned on this side.
    PLS_CONFIGPHY_OPTEQ_LOCAL_COMPLETE = 0x45;

    /// Training: exchanging capabilities.
    PLS_CONFIGPHY_VERIFYCAP = 0x46;

    /// Training: capability exchange under way; waits for the host.
    PLS_CONFIGPHY_VERIFYCAP_EXCHANGE = 0x46;

    /// Training: capabilities done on this side.
    PLS_CONFIGPHY_VERIFYCAP_LOCAL_COMPLETE = 0x47;

    /// Configuring link transfer.
    PLS_CONFIGLT = 0x48;

    /// Link transfer: being configured.
    PLS_CONFIGLT_CONFIGURE = 0x48;

    /// Link transfer: active.
    PLS_CONFIGLT_LINK_TRANSFER_ACTIVE = 0x49;

    /// The link is up; also the host's word to go on after the capability exchange.
    PLS_LINKUP = 0x50;

    /// Test of the physical layer.
    PLS_PHYTEST = 0xb0;

    /// Request only: loop inside the SerDes.
    PLS_INTERNAL_SERDES_LOOPBACK = 0xe1;

    /// Request only: come up without training and capability exchange.
    PLS_QUICK_LINKUP = 0xe2;
}
