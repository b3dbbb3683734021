//! Builds the appliance (kernel, initramfs, zone images) and boots it in QEMU.
#![forbid(unsafe_code)]

fn main() {}
