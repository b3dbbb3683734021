//! The command line of `image`, and what each command does.

use crate::binaries::PROFILE;
use crate::build::{self, Product};
use crate::demo::{self, Plan};
use crate::deps;
use crate::kernel::Choice;
use crate::layout::Layout;
use crate::zone::{RECIPES, Recipe};
use clap::{Parser, Subcommand};
use std::error::Error;
use std::process::ExitCode;

/// Builds the appliance and boots it in QEMU.
#[derive(Debug, Parser)]
#[command(name = "image", version)]
pub struct Args {
    #[command(subcommand)]
    command: Task,
    /// The kernel: our own, or Debian's packaged one.
    #[arg(long, env = "KERNEL", value_enum, default_value = "own", global = true)]
    kernel: Choice,
    /// The cargo profile of the programs; only the default one is reproducible.
    #[arg(long, env = "IMAGE_PROFILE", default_value = PROFILE, global = true)]
    profile: String,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Builds kernel, zone image, programs and initramfs into out/.
    Build,
    /// Makes one zone image in out/, to be imported (`mobula image import`).
    ZoneImage {
        /// Which: base, media.
        #[arg(value_parser = recipe)]
        recipe: &'static Recipe,
    },
    /// Installs the Debian packages that building takes (as root), or says how.
    Deps,
    /// Writes image/packages.lock anew: which Debian packages are in the image.
    Lock {
        /// Take the newest packages that Debian has.
        #[arg(long, required = true)]
        update: bool,
    },
    /// Builds what has changed, boots it, and demonstrates a job on this machine's package index.
    Run {
        /// Shut the appliance down at the end instead of staying up.
        #[arg(long)]
        once: bool,
        /// Then alter one object and see the comparison fail.
        #[arg(long)]
        alter_one: bool,
        /// Boot what was built last.
        #[arg(long)]
        no_build: bool,
    },
    /// Builds twice and compares.
    VerifyReproducible,
}

/// Does what the command line asks for; errors are printed with their causes.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    match act(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn act(args: &Args) -> Result<(), Box<dyn Error>> {
    let layout = Layout::of_this_tree();
    match &args.command {
        Task::Build => {
            deps::ensure(args.kernel)?;
            let product = build::build(&layout, args.kernel, &args.profile)?;
            println!("{}", product.kernel.display());
            println!("{}", product.initramfs.display());
            println!("{}", product.zone_image.display());
        }
        Task::ZoneImage { recipe } => {
            deps::ensure(args.kernel)?;
            println!("{}", build::zone_image(&layout, recipe)?.display());
        }
        Task::Deps => deps::ensure(args.kernel)?,
        Task::Lock { update: _ } => {
            deps::ensure(args.kernel)?;
            build::update_lock(&layout)?;
        }
        Task::Run { once, alter_one, no_build } => {
            let product = if *no_build {
                Product::built(&layout, args.kernel)?
            } else {
                deps::ensure(args.kernel)?;
                build::build(&layout, args.kernel, &args.profile)?
            };
            demo::run(&layout, &product, Plan { once: *once, alter_one: *alter_one })?;
        }
        Task::VerifyReproducible => {
            deps::ensure(args.kernel)?;
            build::verify_reproducible(&layout, args.kernel, &args.profile)?;
        }
    }
    Ok(())
}

/// The recipe of this name.
fn recipe(name: &str) -> Result<&'static Recipe, String> {
    let found = RECIPES.into_iter().find(|recipe| recipe.name == name);
    let names = RECIPES.map(|recipe| recipe.name).join(", ");
    found.ok_or_else(|| format!("there is no recipe of that name, but of {names}"))
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
