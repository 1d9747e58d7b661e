//! Fields of the credit-return word; [`crate::credit::CreditReturn`] is the typed form.
//!
//! Source: `chip.h CR_*`.

constants! {
    /// Position of the counter of freed blocks.
    CR_COUNTER_SHIFT = 0;

    /// Mask, before the shift, of the counter of freed blocks.
    CR_COUNTER_MASK = 0x7ff;

    /// Mask in place of the counter of freed blocks.
    CR_COUNTER_SMASK = 0x7ff;

    /// Position of the flag that the context has halted.
    CR_STATUS_SHIFT = 11;

    /// Mask, before the shift, of the halted flag.
    CR_STATUS_MASK = 0x1;

    /// Mask in place of the halted flag.
    CR_STATUS_SMASK = 0x800;

    /// Position of the reason "a packet's PBC asked for it".
    CR_CREDIT_RETURN_DUE_TO_PBC_SHIFT = 12;

    /// Mask, before the shift, of the reason "PBC".
    CR_CREDIT_RETURN_DUE_TO_PBC_MASK = 0x1;

    /// Mask in place of the reason "PBC".
    CR_CREDIT_RETURN_DUE_TO_PBC_SMASK = 0x1000;

    /// Position of the reason "threshold reached".
    CR_CREDIT_RETURN_DUE_TO_THRESHOLD_SHIFT = 13;

    /// Mask, before the shift, of the reason "threshold".
    CR_CREDIT_RETURN_DUE_TO_THRESHOLD_MASK = 0x1;

    /// Mask in place of the reason "threshold".
    CR_CREDIT_RETURN_DUE_TO_THRESHOLD_SMASK = 0x2000;

    /// Position of the reason "the context halted on an error".
    CR_CREDIT_RETURN_DUE_TO_ERR_SHIFT = 14;

    /// Mask, before the shift, of the reason "error".
    CR_CREDIT_RETURN_DUE_TO_ERR_MASK = 0x1;

    /// Mask in place of the reason "error".
    CR_CREDIT_RETURN_DUE_TO_ERR_SMASK = 0x4000;

    /// Position of the reason "software forced it".
    CR_CREDIT_RETURN_DUE_TO_FORCE_SHIFT = 15;

    /// Mask, before the shift, of the reason "force".
    CR_CREDIT_RETURN_DUE_TO_FORCE_MASK = 0x1;

    /// Mask in place of the reason "force".
    CR_CREDIT_RETURN_DUE_TO_FORCE_SMASK = 0x8000;
}
