//! SDMA engines: rings, descriptors, completion, halt.
