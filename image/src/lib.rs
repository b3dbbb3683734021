//! Builds the appliance (kernel, initramfs, zone images) and boots it in QEMU. Needs no root to write
//! an image: it writes bytes into files, and takes the daemons as files, never as crates.
#![forbid(unsafe_code)]

pub mod args;
pub mod binaries;
pub mod build;
pub mod command;
pub mod debs;
pub mod demo;
pub mod deps;
pub mod digest;
pub mod file;
pub mod initramfs;
pub mod kernel;
pub mod layout;
pub mod lock;
pub mod newc;
pub mod progress;
pub mod qemu;
pub mod zone;
