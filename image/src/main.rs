//! Builds the appliance (kernel, initramfs, zone images) and boots it in QEMU.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    image::args::run(&image::args::Args::parse())
}
