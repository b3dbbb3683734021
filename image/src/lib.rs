//! Builds the appliance and boots it in QEMU.
#![forbid(unsafe_code)]
