//! Registers of the ASIC block.

use super::csrs;

csrs! {
    /// .
    ASIC_CFG_SBUS_REQUEST = 0x400000, rw, reset 0, "" {
        RECEIVER_ADDR [7:0],
        DATA_ADDR [15:8],
        COMMAND [31:16],
        DATA_IN [63:32],
    }

    /// .
    ASIC_CFG_SBUS_EXECUTE = 0x400008, rw, reset 0, "" {
        EXECUTE [0:0],
        FAST_MODE [1:1],
    }

    /// .
    ASIC_STS_SBUS_RESULT = 0x400010, ro, reset 0, "" {
        DONE [0:0],
        RCV_DATA_VALID [1:1],
        RESULT_CODE [4:2],
        DATA_OUT [63:32],
    }

    /// .
    ASIC_STS_SBUS_COUNTERS = 0x400018, ro, reset 0, "" {
        EXECUTE_CNT [15:0],
        RCV_DATA_VALID_CNT [31:16],
    }

    /// .
    ASIC_CFG_SCRATCH = 0x400020, rw, reset 0, "" {}

    /// .
    ASIC_CFG_SCRATCH_1 = 0x400028, rw, reset 0, "" {}

    /// .
    ASIC_CFG_SCRATCH_2 = 0x400030, rw, reset 0, "" {}

    /// .
    ASIC_CFG_SCRATCH_3 = 0x400038, rw, reset 0, "" {}

    /// .
    ASIC_CFG_MUTEX = 0x400040, rw, reset 0, "" {}

    /// .
    ASIC_CFG_DRV_STR = 0x400048, rw, reset 0, "" {}

    /// .
    ASIC_CFG_THERM_POLL_EN = 0x400050, rw, reset 0, "" {}

    /// .
    ASIC_STS_THERM = 0x400058, ro, reset 0, "" {
        CURR_TEMP [12:2],
        LOW [17:13],
        CRIT_TEMP [28:18],
        LO_TEMP [44:34],
        HI_TEMP [60:50],
    }

    /// .
    ASIC_PCIE_SD_HOST_CMD = 0x400100, rw, reset 0, "" {
        INTRPT_CMD [1:0],
        SBUS_RCVR_ADDR [9:2],
        SBR_MODE [10:10],
        TIMER [31:12],
    }

    /// .
    ASIC_PCIE_SD_HOST_STATUS = 0x400108, ro, reset 0, "" {
        FW_DNLD_STS [1:0],
        FW_DNLD_ERR [4:2],
    }

    /// .
    ASIC_PCIE_SD_INTRPT_DATA_CODE = 0x400110, rw, reset 0, "" {}

    /// .
    ASIC_PCIE_SD_INTRPT_ENABLE = 0x400118, rw, reset 0, "" {}

    /// .
    ASIC_PCIE_SD_INTRPT_STATUS = 0x400128, ro, reset 0, "" {}

    /// .
    ASIC_PCIE_SD_INTRPT_LIST = 0x400180 [16; 0x8], rw, reset 0, "" {
        INTRPT_DATA [15:0],
        INTRPT_CODE [63:16],
    }

    /// .
    ASIC_GPIO_IN = 0x400200, ro, reset 0, "" {}

    /// .
    ASIC_GPIO_OE = 0x400208, rw, reset 0, "" {}

    /// .
    ASIC_GPIO_INVERT = 0x400210, rw, reset 0, "" {}

    /// .
    ASIC_GPIO_OUT = 0x400218, rw, reset 0, "" {}

    /// .
    ASIC_GPIO_MASK = 0x400220, rw, reset 0, "" {}

    /// .
    ASIC_GPIO_CLEAR = 0x400230, w1c, reset 0, "" {}

    /// .
    ASIC_GPIO_FORCE = 0x400238, w1s, reset 0, "" {}

    /// .
    ASIC_QSFP1_IN = 0x400240, ro, reset 0, "" {}

    /// .
    ASIC_QSFP1_OE = 0x400248, rw, reset 0, "" {}

    /// .
    ASIC_QSFP1_INVERT = 0x400250, rw, reset 0, "" {}

    /// .
    ASIC_QSFP1_OUT = 0x400258, rw, reset 0, "" {}

    /// .
    ASIC_QSFP1_MASK = 0x400260, rw, reset 0, "" {}

    /// .
    ASIC_QSFP1_STATUS = 0x400268, ro, reset 0, "" {}

    /// .
    ASIC_QSFP1_CLEAR = 0x400270, w1c, reset 0, "" {}

    /// .
    ASIC_QSFP1_FORCE = 0x400278, w1s, reset 0, "" {}

    /// .
    ASIC_QSFP2_IN = 0x400280, ro, reset 0, "" {}

    /// .
    ASIC_QSFP2_OE = 0x400288, rw, reset 0, "" {}

    /// .
    ASIC_QSFP2_INVERT = 0x400290, rw, reset 0, "" {}

    /// .
    ASIC_QSFP2_OUT = 0x400298, rw, reset 0, "" {}

    /// .
    ASIC_QSFP2_MASK = 0x4002a0, rw, reset 0, "" {}

    /// .
    ASIC_QSFP2_STATUS = 0x4002a8, ro, reset 0, "" {}

    /// .
    ASIC_QSFP2_CLEAR = 0x4002b0, w1c, reset 0, "" {}

    /// .
    ASIC_QSFP2_FORCE = 0x4002b8, w1s, reset 0, "" {}

    /// .
    ASIC_EEP_CTL_STAT = 0x400300, rw, reset 0x83818000, "" {
        EP_RESET [2:2],
        RATE_SPI [63:8],
    }

    /// .
    ASIC_EEP_ADDR_CMD = 0x400308, rw, reset 0, "" {
        EP_ADDR [23:0],
    }

    /// .
    ASIC_EEP_DATA = 0x400310, rw, reset 0, "" {}
}
