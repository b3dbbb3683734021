//! The QEMU harness and the stories told to a booted appliance.
#![forbid(unsafe_code)]
