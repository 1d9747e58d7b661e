//! Registers of the MISC block.

use super::csrs;

csrs! {
    /// .
    MISC_CFG_RSA_R2 = 0x500000 [32; 0x8], rw, reset 0, "" {}

    /// .
    MISC_CFG_RSA_SIGNATURE = 0x500200 [32; 0x8], rw, reset 0, "" {}

    /// .
    MISC_CFG_RSA_MODULUS = 0x500400 [32; 0x8], rw, reset 0, "" {}

    /// .
    MISC_CFG_SHA_PRELOAD = 0x500a00, rw, reset 0, "" {}

    /// .
    MISC_CFG_RSA_CMD = 0x500a08, rw, reset 0, "" {}

    /// .
    MISC_CFG_RSA_MU = 0x500a10, rw, reset 0, "" {}

    /// .
    MISC_CFG_FW_CTRL = 0x501000, rw, reset 0, "" {
        FW_8051_LOADED [1:1],
        RSA_STATUS [3:2],
    }

    /// .
    MISC_ERR_STATUS = 0x502000, ro, reset 0, "" {
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

    /// .
    MISC_ERR_MASK = 0x502008, rw, reset 0, "" {}

    /// .
    MISC_ERR_CLEAR = 0x502010, w1c, reset 0, "" {}
}
