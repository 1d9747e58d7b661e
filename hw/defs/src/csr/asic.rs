//! ASIC registers, shared by both HFIs of a chip: SBus, mutex, scratch, GPIO, QSFP pins, EPROM, thermal sensor.

use super::csrs;

csrs! {
    /// SBus request: receiver, address, command, data.
    ASIC_CFG_SBUS_REQUEST = 0x400000, rw, reset 0, "firmware.c:sbus_request" {
        RECEIVER_ADDR [7:0],
        DATA_ADDR [15:8],
        COMMAND [31:16],
        DATA_IN [63:32],
    }

    /// Runs the SBus request; in fast mode each write of the request runs by itself.
    ASIC_CFG_SBUS_EXECUTE = 0x400008, rw, reset 0, "firmware.c:sbus_request_slow" {
        EXECUTE [0:0],
        FAST_MODE [1:1],
    }

    /// Result of the SBus request; code 4 is a completed read.
    ASIC_STS_SBUS_RESULT = 0x400010, ro, reset 0, "firmware.c:sbus_read" {
        DONE [0:0],
        RCV_DATA_VALID [1:1],
        RESULT_CODE [4:2],
        DATA_OUT [63:32],
    }

    /// SBus requests run and answers received; equal when all is done.
    ASIC_STS_SBUS_COUNTERS = 0x400018, ro, reset 0, "firmware.c:clear_sbus_fast_mode" {
        EXECUTE_CNT [15:0],
        RCV_DATA_VALID_CNT [31:16],
    }

    /// Owners of the resources that both HFIs of a chip share, CR_* bits; written under ASIC_CFG_MUTEX.
    ASIC_CFG_SCRATCH = 0x400020, rw, reset 0, "firmware.c:__acquire_chip_resource" {}

    /// Platform configuration of integrated parts: port types and attenuations.
    ASIC_CFG_SCRATCH_1 = 0x400028, rw, reset 0, "platform.c:save_platform_config_fields" {}

    /// Platform configuration of integrated parts: power class and presets of HFI 0.
    ASIC_CFG_SCRATCH_2 = 0x400030, rw, reset 0, "platform.c:save_platform_config_fields" {}

    /// Platform configuration of integrated parts: power class and presets of HFI 1.
    ASIC_CFG_SCRATCH_3 = 0x400038, rw, reset 0, "platform.c:save_platform_config_fields" {}

    /// Mutex between the two HFIs: owned by HFI n while it reads 1 << n; 0 frees it.
    ASIC_CFG_MUTEX = 0x400040, rw, reset 0, "firmware.c:acquire_hw_mutex" {}

    /// Drive strength of pins; the driver never uses it.
    ASIC_CFG_DRV_STR = 0x400048, rw, reset 0, "chip_registers.h" {}

    /// Lets the hardware poll the thermal sensor over the SBus.
    ASIC_CFG_THERM_POLL_EN = 0x400050, rw, reset 0, "chip.c:thermal_init" {
        EN [0:0],
    }

    /// Temperature and its limits, units of 0.25 degree Celsius; LOW is the lowest of three trigger bits.
    ASIC_STS_THERM = 0x400058, ro, reset 0, "chip.c:hfi1_tempsense_rd" {
        CURR_TEMP [12:2],
        LOW [15:13],
        CRIT_TEMP [28:18],
        LO_TEMP [44:34],
        HI_TEMP [60:50],
    }

    /// Arms the logic that runs the PCIe SerDes' interrupts around a secondary bus reset.
    ASIC_PCIE_SD_HOST_CMD = 0x400100, rw, reset 0, "pcie.c:arm_gasket_logic" {
        INTRPT_CMD [1:0],
        SBUS_RCVR_ADDR [9:2],
        SBR_MODE [10:10],
        TIMER [31:12],
    }

    /// How the download to the PCIe SerDes went.
    ASIC_PCIE_SD_HOST_STATUS = 0x400108, ro, reset 0, "pcie.c:do_pcie_gen3_transition" {
        FW_DNLD_STS [1:0],
        FW_DNLD_ERR [4:2],
    }

    /// Interrupt to the PCIe SerDes, data and code; the driver never uses it.
    ASIC_PCIE_SD_INTRPT_DATA_CODE = 0x400110, rw, reset 0, "chip_registers.h" {}

    /// Enables interrupts to the PCIe SerDes; the driver never uses it.
    ASIC_PCIE_SD_INTRPT_ENABLE = 0x400118, rw, reset 0, "chip_registers.h" {}

    /// State of interrupts to the PCIe SerDes; the driver never uses it.
    ASIC_PCIE_SD_INTRPT_STATUS = 0x400128, ro, reset 0, "chip_registers.h" {}

    /// Interrupts that the armed logic sends to the PCIe SerDes, in turn.
    ASIC_PCIE_SD_INTRPT_LIST = 0x400180 [16; 0x8], rw, reset 0, "pcie.c:write_gasket_interrupt" {
        INTRPT_DATA [15:0],
        INTRPT_CODE [31:16],
    }

    /// Level of the general-purpose pins, one bit each.
    ASIC_GPIO_IN = 0x400200, ro, reset 0, "chip_registers.h" {}

    /// General-purpose pins that are driven, 1 = driven.
    ASIC_GPIO_OE = 0x400208, rw, reset 0, "debugfs.c:exprom_wp_set" {}

    /// General-purpose pins that are sensed inverted.
    ASIC_GPIO_INVERT = 0x400210, rw, reset 0, "chip_registers.h" {}

    /// Level of the general-purpose pins that are driven.
    ASIC_GPIO_OUT = 0x400218, rw, reset 0, "debugfs.c:exprom_wp_set" {}

    /// General-purpose pins that may raise GPIO_ASSERT_INT.
    ASIC_GPIO_MASK = 0x400220, rw, reset 0, "chip_registers.h" {}

    /// INFERRED from its neighbours: general-purpose pins whose interrupt is asserted.
    ASIC_GPIO_STATUS = 0x400228, ro, reset 0, "chip_registers.h" {}

    /// Clears bits of ASIC_GPIO_STATUS.
    ASIC_GPIO_CLEAR = 0x400230, w1c, reset 0, "chip_registers.h" {}

    /// Sets bits of ASIC_GPIO_STATUS.
    ASIC_GPIO_FORCE = 0x400238, w1s, reset 0, "chip_registers.h" {}

    /// Level of the pins of HFI 0's cage.
    ASIC_QSFP1_IN = 0x400240, ro, reset 0, "qsfp.c:i2c_in_csr" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Pins of HFI 0's cage that are driven; the two I2C lines are pulled low so, and let go with 0.
    ASIC_QSFP1_OE = 0x400248, rw, reset 0, "qsfp.c:i2c_oe_csr" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Pins of HFI 0's cage that are sensed inverted, so that the next change interrupts.
    ASIC_QSFP1_INVERT = 0x400250, rw, reset 0, "chip.c:init_qsfp_int" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Level of the pins of HFI 0's cage that are driven; resets the module by RESET_N.
    ASIC_QSFP1_OUT = 0x400258, rw, reset 0, "chip.c:reset_qsfp" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Pins of HFI 0's cage that may raise QSFP1_INT.
    ASIC_QSFP1_MASK = 0x400260, rw, reset 0, "chip.c:set_qsfp_int_n" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Pins of HFI 0's cage whose interrupt is asserted.
    ASIC_QSFP1_STATUS = 0x400268, ro, reset 0, "chip.c:is_various_int" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Clears bits of ASIC_QSFP1_STATUS.
    ASIC_QSFP1_CLEAR = 0x400270, w1c, reset 0, "chip.c:set_qsfp_int_n" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Sets bits of ASIC_QSFP1_STATUS.
    ASIC_QSFP1_FORCE = 0x400278, w1s, reset 0, "chip_registers.h" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Level of the pins of HFI 1's cage.
    ASIC_QSFP2_IN = 0x400280, ro, reset 0, "qsfp.c:i2c_in_csr" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Pins of HFI 1's cage that are driven; the two I2C lines are pulled low so, and let go with 0.
    ASIC_QSFP2_OE = 0x400288, rw, reset 0, "qsfp.c:i2c_oe_csr" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Pins of HFI 1's cage that are sensed inverted, so that the next change interrupts.
    ASIC_QSFP2_INVERT = 0x400290, rw, reset 0, "chip.c:init_qsfp_int" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Level of the pins of HFI 1's cage that are driven; resets the module by RESET_N.
    ASIC_QSFP2_OUT = 0x400298, rw, reset 0, "chip.c:reset_qsfp" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Pins of HFI 1's cage that may raise QSFP2_INT.
    ASIC_QSFP2_MASK = 0x4002a0, rw, reset 0, "chip.c:set_qsfp_int_n" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Pins of HFI 1's cage whose interrupt is asserted.
    ASIC_QSFP2_STATUS = 0x4002a8, ro, reset 0, "chip.c:is_various_int" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Clears bits of ASIC_QSFP2_STATUS.
    ASIC_QSFP2_CLEAR = 0x4002b0, w1c, reset 0, "chip.c:set_qsfp_int_n" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Sets bits of ASIC_QSFP2_STATUS.
    ASIC_QSFP2_FORCE = 0x4002b8, w1s, reset 0, "chip_registers.h" {
        I2CCLK [0:0],
        I2CDAT [1:1],
        RESET_N [2:2],
        INT_N [3:3],
        MODPRST_N [4:4],
    }

    /// Resets the EPROM's controller and sets its SPI rate; width of RATE_SPI is INFERRED.
    ASIC_EEP_CTL_STAT = 0x400300, rw, reset 0x8381_8000, "eprom.c:eprom_init" {
        EP_RESET [2:2],
        RATE_SPI [9:8],
    }

    /// EPROM address and command: 0x03 read, 0xab leave power-down, 0 close.
    ASIC_EEP_ADDR_CMD = 0x400308, rw, reset 0, "eprom.c:read_page" {
        EP_ADDR [23:0],
        EP_CMD [31:24],
    }

    /// EPROM data: each read after a read command returns the next 4 bytes.
    ASIC_EEP_DATA = 0x400310, rw, reset 0, "eprom.c:read_page" {}
}
