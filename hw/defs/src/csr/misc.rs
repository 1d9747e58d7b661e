//! MISC registers: validation of firmware with RSA and SHA.

use super::csrs;

csrs! {
    /// RSA check of firmware: the constant r squared, 256 bytes.
    MISC_CFG_RSA_R2 = 0x500000 [32; 0x8], rw, reset 0, "firmware.c:load_security_variables" {}

    /// RSA check of firmware: signature, 256 bytes.
    MISC_CFG_RSA_SIGNATURE = 0x500200 [32; 0x8], rw, reset 0, "firmware.c:run_rsa" {}

    /// RSA check of firmware: public modulus, 256 bytes.
    MISC_CFG_RSA_MODULUS = 0x500400 [32; 0x8], rw, reset 0, "firmware.c:load_security_variables" {}

    /// RSA check of firmware: the header goes in here, 8 bytes a write; reads 0.
    MISC_CFG_SHA_PRELOAD = 0x500a00, wo, reset 0, "firmware.c:load_security_variables" {}

    /// RSA check of firmware: 1 resets the engine, 2 starts it.
    MISC_CFG_RSA_CMD = 0x500a08, rw, reset 0, "firmware.c:run_rsa" {
        CMD [1:0],
    }

    /// RSA check of firmware: the constant mu.
    MISC_CFG_RSA_MU = 0x500a10, rw, reset 0, "firmware.c:load_security_variables" {}

    /// Firmware control; RSA_STATUS is 0 idle, 1 active, 2 done, 3 failed.
    MISC_CFG_FW_CTRL = 0x501000, rw, reset 0, "firmware.c:load_8051_firmware" {
        ENABLE_SPICO [0:0],
        FW_8051_LOADED [1:1],
        RSA_STATUS [3:2],
    }

    /// Errors of the MISC block; a bit stays until cleared through MISC_ERR_CLEAR.
    MISC_ERR_STATUS = 0x502000, ro, reset 0, "firmware.c:run_rsa" {
        MISC_CSR_PARITY_ERR [0:0],
        MISC_CSR_READ_BAD_ADDR_ERR [1:1],
        MISC_CSR_WRITE_BAD_ADDR_ERR [2:2],
        MISC_SBUS_WRITE_FAILED_ERR [3:3],
        MISC_KEY_MISMATCH_ERR [4:4],
        MISC_FW_AUTH_FAILED_ERR [5:5],
        MISC_EFUSE_CSR_PARITY_ERR [6:6],
        MISC_EFUSE_READ_BAD_ADDR_ERR [7:7],
        MISC_EFUSE_WRITE_ERR [8:8],
        MISC_EFUSE_DONE_PARITY_ERR [9:9],
        MISC_INVALID_EEP_CMD_ERR [10:10],
        MISC_MBIST_FAIL_ERR [11:11],
        MISC_PLL_LOCK_FAIL_ERR [12:12],
    }

    /// Errors that raise MISC_ERR_INT, 1 = enabled; bits as in MISC_ERR_STATUS.
    MISC_ERR_MASK = 0x502008, rw, reset 0, "chip.c:init_other" {}

    /// Clears bits of MISC_ERR_STATUS.
    MISC_ERR_CLEAR = 0x502010, w1c, reset 0, "firmware.c:run_rsa" {}
}
