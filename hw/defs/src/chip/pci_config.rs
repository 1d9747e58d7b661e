//! Offsets in PCI configuration space and fields there.
//!
//! Source: `chip_registers.h; pcie.c`.

constants! {
    /// Command and status.
    PCI_CFG_REG1 = 0x4;

    /// Subsystem ids.
    PCI_CFG_REG11 = 0x2c;

    /// First dword of the MSI-X capability.
    PCI_CFG_MSIX0 = 0xb0;

    /// Secondary PCIe capability, lane equalization.
    PCIE_CFG_SPCIE1 = 0x14c;

    /// Secondary PCIe capability, lane equalization, next dword.
    PCIE_CFG_SPCIE2 = 0x150;

    /// TPH requester capability.
    PCIE_CFG_TPH2 = 0x180;

    /// Port logic 2.
    PCIE_CFG_REG_PL2 = 0x708;

    /// Port logic 2: position of the low-power entrance count.
    PCIE_CFG_REG_PL2_LOW_PWR_ENT_CNT_SHIFT = 24;

    /// Port logic 3.
    PCIE_CFG_REG_PL3 = 0x70c;

    /// Port logic 3: position of the L1 entrance latency.
    PCIE_CFG_REG_PL3_L1_ENT_LATENCY_SHIFT = 27;

    /// Port logic 3: mask in place of the L1 entrance latency.
    PCIE_CFG_REG_PL3_L1_ENT_LATENCY_SMASK = 0x3800_0000;

    /// Port logic 100: Gen3 control.
    PCIE_CFG_REG_PL100 = 0x890;

    /// Port logic 100: reset the EIEOS count in equalization.
    PCIE_CFG_REG_PL100_EQ_EIEOS_CNT_SMASK = 0x400;

    /// Port logic 101: local figures for Gen3 equalization.
    PCIE_CFG_REG_PL101 = 0x894;

    /// Port logic 101: position of the full swing.
    PCIE_CFG_REG_PL101_GEN3_EQ_LOCAL_FS_SHIFT = 6;

    /// Port logic 101: position of the low frequency.
    PCIE_CFG_REG_PL101_GEN3_EQ_LOCAL_LF_SHIFT = 0;

    /// Port logic 102: the coefficients of a preset.
    PCIE_CFG_REG_PL102 = 0x898;

    /// Port logic 102: position of the post-cursor.
    PCIE_CFG_REG_PL102_GEN3_EQ_POST_CURSOR_PSET_SHIFT = 12;

    /// Port logic 102: position of the cursor.
    PCIE_CFG_REG_PL102_GEN3_EQ_CURSOR_PSET_SHIFT = 6;

    /// Port logic 102: position of the pre-cursor.
    PCIE_CFG_REG_PL102_GEN3_EQ_PRE_CURSOR_PSET_SHIFT = 0;

    /// Port logic 103: index of the preset in 102.
    PCIE_CFG_REG_PL103 = 0x89c;

    /// Port logic 105: status of the preset in 102.
    PCIE_CFG_REG_PL105 = 0x8a4;

    /// Port logic 105: the preset breaks the rules for coefficients.
    PCIE_CFG_REG_PL105_GEN3_EQ_VIOLATE_COEF_RULES_SMASK = 0x1;

    /// Port logic 106: control of Gen3 equalization.
    PCIE_CFG_REG_PL106 = 0x8a8;

    /// Port logic 106: position of the presets to ask for.
    PCIE_CFG_REG_PL106_GEN3_EQ_PSET_REQ_VEC_SHIFT = 8;

    /// Port logic 106: no 2 ms limit on evaluation.
    PCIE_CFG_REG_PL106_GEN3_EQ_EVAL2MS_DISABLE_SMASK = 0x20;

    /// Port logic 106: how phases 2 and 3 end.
    PCIE_CFG_REG_PL106_GEN3_EQ_PHASE23_EXIT_MODE_SMASK = 0x10;
}
