//! PIO send contexts: buffers, credits, returns.
