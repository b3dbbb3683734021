//! Tells the stories: boots the image that is shipped, and holds it to what it promises.
//!
//! `stories [WORD …]` tells those whose name holds one of the words, or all; `KERNEL=debian` boots Debian's
//! packaged kernel. Stories that get on with each other share a boot. The last line says how many passed and
//! how many failed.
#![forbid(unsafe_code)]

mod accounts;
mod attacks;
mod bad_tasks;
mod carve;
mod clients;
mod daily;
mod density;
mod faults;
mod garbage;
mod hooks;
mod images;
mod jobs;
mod neighbour;
mod network;
mod objects;
mod odd;
mod powercut;
mod standing;
mod teller;
mod zerocopy;

use anyhow::Result;
use image::kernel::Choice;
use std::process::ExitCode;
use teller::Teller;
use tests::appliance::Artefacts;
use tests::build::workspace;

fn main() -> Result<ExitCode> {
    let words = std::env::args().skip(1).collect();
    let kernel = match std::env::var("KERNEL").as_deref() {
        Err(_) | Ok("" | "own") => Choice::Own,
        Ok("debian") => Choice::Debian,
        Ok(other) => anyhow::bail!("KERNEL is own or debian, not {other:?}"),
    };
    let artefacts = Artefacts::find(kernel, &workspace().join("target/stories"))?;
    let mut teller = Teller::new(words);
    clients::tell(&mut teller);
    daily::tell(&mut teller, &artefacts);
    odd::tell(&mut teller, &artefacts);
    attacks::tell(&mut teller, &artefacts);
    neighbour::tell(&mut teller, &artefacts);
    powercut::tell(&mut teller, &artefacts);
    density::tell(&mut teller, &artefacts);
    teller.tell("the image that was tested is the image that is shipped", || {
        println!("  initramfs sha256 {}", artefacts.shipped()?);
        Ok(())
    });
    Ok(teller.end())
}
