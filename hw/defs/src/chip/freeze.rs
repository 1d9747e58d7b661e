//! The driver's freeze flags and the error masks it programs.
//!
//! Source: `chip.h`.

constants! {
    /// Freeze without recovery afterwards.
    FREEZE_ABORT = 0x1;

    /// The driver itself asks the chip to freeze.
    FREEZE_SELF = 0x2;

    /// The freeze is part of a link-down.
    FREEZE_LINK_DOWN = 0x4;

    /// Value for MISC_ERR_MASK: all but the two RSA errors, which can't be cleared like the others.
    DRIVER_MISC_MASK = 0xffff_ffff_ffff_ffcf;
}
