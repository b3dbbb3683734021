//! Tells the stories: boots the image that is shipped, and holds it to what it promises.
//!
//! `stories [--out DIR] [WORD …]` tells those whose name holds one of the words, or all. Stories that get on
//! with each other share a boot. The last line says how many passed and how many failed.
#![forbid(unsafe_code)]

mod bad_tasks;
mod daily;
mod faults;
mod garbage;
mod jobs;
mod objects;
mod odd;
mod powercut;
mod teller;
mod zerocopy;

use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;
use teller::Teller;
use tests::appliance::Artefacts;
use tests::build::workspace;

fn main() -> Result<ExitCode> {
    let mut out = workspace().join("out");
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--out" => out = PathBuf::from(arguments.next().unwrap_or_default()),
            _ => words.push(argument),
        }
    }
    let artefacts = Artefacts::find(&out, &workspace().join("target/stories"))?;
    let mut teller = Teller::new(words);
    daily::tell(&mut teller, &artefacts);
    odd::tell(&mut teller, &artefacts);
    powercut::tell(&mut teller, &artefacts);
    teller.tell("the image that was tested is the image that is shipped", || {
        println!("  initramfs sha256 {}", artefacts.shipped()?);
        Ok(())
    });
    Ok(teller.end())
}
