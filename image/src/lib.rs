//! Builds the appliance (kernel, initramfs, zone images) and boots it in QEMU. Needs no root to write
//! an image: it writes bytes into files, and takes the daemons as files, never as crates.
#![forbid(unsafe_code)]

pub mod newc;
pub mod qemu;
