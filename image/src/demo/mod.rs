//! The demonstration: boots the appliance, puts this machine's package index into it, runs a map-reduce
//! job where the objects are, and compares the result with the same pipeline run here.
//!
//! ```text
//!   boot ─▶ ready ─▶ put 200 objects ─▶ job ─▶ the same? ─▶ stay until Ctrl-C, or power off
//! ```
//!
//! It talks to the appliance with `mobula` only, as a person would.

mod guest;
pub mod input;
pub mod pipeline;

pub use guest::{Guest, Keys};

use crate::build::Product;
use crate::command::CommandError;
use crate::file::{FileError, failed};
use crate::layout::Layout;
use crate::progress::{self, Step};
use crate::qemu::QemuError;
use input::Input;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thiserror::Error;

/// Where the objects go.
const BUCKET: &str = "packages";
/// How often Ctrl-C is looked for.
const POLL: Duration = Duration::from_millis(100);

/// What goes wrong with the demonstration.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The machine.
    #[error(transparent)]
    Qemu(#[from] QemuError),
    /// A tool, `mobula` among them.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Too little to show.
    #[error(
        "this machine's package index has {bytes} bytes and the demonstration wants {wanted}: run apt-get update (as root)"
    )]
    Input {
        /// What there is.
        bytes: usize,
        /// What is wanted.
        wanted: usize,
    },
    /// Too few pieces.
    #[error("the package index gave {objects} objects and the demonstration wants {wanted}")]
    Objects {
        /// How many there are.
        objects: usize,
        /// How many are wanted.
        wanted: usize,
    },
    /// The job's result is not the pipeline's.
    #[error(
        "THE RESULTS DIFFER, first in line {line}:\n  appliance:    {appliance}\n  this machine: {machine}"
    )]
    Differs {
        /// The first line that differs, from 1.
        line: usize,
        /// That line, from the job.
        appliance: String,
        /// That line, from the pipeline on this machine.
        machine: String,
    },
    /// Nothing was counted, so nothing is proven.
    #[error("the pipeline gave nothing: the input has no maintainers")]
    Empty,
    /// An altered object went unnoticed.
    #[error("one object was altered and the comparison did not notice")]
    Unnoticed,
    /// `mobula` reported a failure, which it has already told.
    #[error("{what} failed ({status})")]
    Mobula {
        /// The command.
        what: String,
        /// Its exit status.
        status: std::process::ExitStatus,
    },
    /// The appliance did not shut down in order.
    #[error("the appliance did not shut down in order: {why}; its console ends with:\n{tail}")]
    Shutdown {
        /// What is wrong.
        why: String,
        /// The last lines of the console.
        tail: String,
    },
    /// No port to be had.
    #[error("no free port on 127.0.0.1")]
    Port(#[source] io::Error),
    /// Ctrl-C can't be watched for.
    #[error("can't watch for Ctrl-C")]
    Signal(#[source] io::Error),
    /// The kernel gives no random bytes.
    #[error("can't read /dev/urandom")]
    Random(#[source] io::Error),
    /// Keys that the configuration does not take.
    #[error("the configuration refuses the keys made for it: {0}")]
    Keys(&'static str),
    /// The configuration has no text form.
    #[error("can't write the configuration as TOML")]
    Toml(#[from] toml::ser::Error),
    /// Ctrl-C before the end.
    #[error("interrupted")]
    Interrupted,
}

/// What the demonstration is to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Shut down at the end instead of staying up.
    pub once: bool,
    /// Alter one object afterwards and run the job again: the comparison must fail.
    pub alter_one: bool,
}

/// Boots the appliance and demonstrates.
///
/// # Errors
/// Whatever did not hold.
pub fn run(layout: &Layout, product: &Product, plan: Plan) -> Result<(), DemoError> {
    let interrupts = watch_interrupts()?;
    let folder = layout.out("run");
    fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
    let mut guest = Guest::boot(product, &folder, plan.once)?;
    let shown = show(&guest, &folder, plan, &interrupts);
    if let Err(error) = shown {
        eprintln!("the appliance's console is in {}", guest.console().display());
        return Err(error);
    }
    if !plan.once {
        println!("{}", guest.how_to_reach());
        stay(&mut guest, &interrupts)?;
    }
    guest.shut_down(|| interrupts.load(Ordering::Relaxed) > 1)
}

/// Objects in, job, comparison; with `alter_one`, once more with another outcome.
fn show(
    guest: &Guest,
    folder: &Path,
    plan: Plan,
    interrupts: &AtomicUsize,
) -> Result<(), DemoError> {
    let go_on = || match interrupts.load(Ordering::Relaxed) {
        0 => Ok(()),
        _ => Err(DemoError::Interrupted),
    };
    let step = Step::start("input");
    let input = input::prepare(&folder.join("packages"))?;
    let size = progress::bytes(input.bytes);
    step.done(&format!("this machine's package index: {} objects, {size}", input.files.len()));
    go_on()?;
    let put = guest.put(&input.folder, BUCKET)?;
    eprintln!("{:22} {} objects ({})", "put", input.files.len(), progress::seconds(put));
    go_on()?;
    let expected = once(guest, &input)?;
    if plan.alter_one {
        go_on()?;
        alter_one(guest, &input, &expected)?;
    }
    Ok(())
}

fn once(guest: &Guest, input: &Input) -> Result<Vec<u8>, DemoError> {
    println!("\nmap     {}\nreduce  {}\n", pipeline::MAP, pipeline::REDUCE);
    let (result, in_appliance) = guest.job(pipeline::MAP, pipeline::REDUCE, BUCKET)?;
    println!("{}", String::from_utf8_lossy(&result));
    let (expected, on_machine) = pipeline::on_this_machine(input)?;
    pipeline::compare(&result, &expected)?;
    println!(
        "The same pipeline over the same files on this machine gives the same {} bytes.\n\
         job in the appliance {}, pipeline on this machine {}\n",
        expected.len(),
        progress::seconds(in_appliance),
        progress::seconds(on_machine)
    );
    Ok(expected)
}

/// One object is altered in the store; the result is compared with that of before, so the two must differ.
fn alter_one(guest: &Guest, input: &Input, expected: &[u8]) -> Result<(), DemoError> {
    let file = pipeline::alter_one(input, expected)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    guest.put_one(&file, &format!("{BUCKET}/{name}"))?;
    let (result, _) = guest.job(pipeline::MAP, pipeline::REDUCE, BUCKET)?;
    match pipeline::compare(&result, expected) {
        Err(DemoError::Differs { .. }) => {
            println!("One object was altered, and the comparison failed as it must.\n");
            Ok(())
        }
        Ok(()) => Err(DemoError::Unnoticed),
        Err(error) => Err(error),
    }
}

fn watch_interrupts() -> Result<Arc<AtomicUsize>, DemoError> {
    let count = Arc::new(AtomicUsize::new(0));
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(DemoError::Signal)?;
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for _ in signals.forever() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(count)
}

fn stay(guest: &mut Guest, interrupts: &AtomicUsize) -> Result<(), DemoError> {
    while interrupts.load(Ordering::Relaxed) == 0 {
        guest.still_up()?;
        std::thread::sleep(POLL);
    }
    eprintln!("\nshutting down; Ctrl-C again ends it at once");
    Ok(())
}
