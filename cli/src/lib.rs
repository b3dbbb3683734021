//! mobula: objects, jobs, zones and nodes of a Mobula appliance from a shell.
//!
//! Speaks S3 for objects, Manta's job calls for jobs, and the admin API for zones and nodes. Owns no state but
//! the files a user asks it to write; never keeps an object in memory whole; never asks a question, so
//! that scripts can use it as people do.
#![forbid(unsafe_code)]

mod account;
mod admin;
mod args;
mod config;
mod endpoint;
mod failure;
mod http;
mod image;
mod job;
mod manta;
mod name;
mod node;
mod objects;
mod output;
mod resolve;
mod s3;
mod sign;
mod transfer;
mod zone;

use args::{Arguments, Command};
use clap::{CommandFactory, FromArgMatches};
use failure::{Exit, Failure};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let matches = match Arguments::command().try_get_matches_from(std::env::args_os()) {
        Ok(matches) => matches,
        Err(error) => return explain(&error),
    };
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    let json = arguments.json;
    let runs_in_a_zone = matches!(
        arguments.command,
        Command::Zone { command: zone::args::Zone::Exec(_) | zone::args::Zone::Login { .. } }
    );
    match execute(arguments, &matches) {
        Ok(status) => ExitCode::from(status),
        // Whoever read our output has seen enough; that is not a failure of ours.
        Err(failure) if failure.is_broken_pipe() => Exit::Ok.into(),
        Err(failure) => {
            output::report(&failure, json);
            // Every other status may be the command's own.
            if runs_in_a_zone { zone::NOT_RUN.into() } else { failure.exit().into() }
        }
    }
}

/// Prints what clap has to say: help and version on stdout (0), mistakes on stderr (2).
fn explain(error: &clap::Error) -> ExitCode {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
    match error.print() {
        Ok(()) => exit.into(),
        Err(_) => Exit::Failed.into(),
    }
}

/// Does what was asked, and gives the exit status: another than 0 is that of a command in a zone.
fn execute(arguments: Arguments, matches: &clap::ArgMatches) -> Result<u8, Failure> {
    let screen = output::Screen::new(arguments.json, arguments.quiet);
    if let Command::Completion { shell } = arguments.command {
        output::completion(shell, &mut Arguments::command())?;
        return Ok(0);
    }
    let variable = |name: &str| std::env::var_os(name).map(OsString::into_string);
    let settings = config::load(arguments.layer, arguments.config.as_deref(), &variable)?;
    let http = http::Http::new(screen.clone());
    match arguments.command {
        Command::Ls(ls) => objects::list(&s3::S3::new(&http, &settings)?, &screen, &ls),
        Command::Put(put) => transfer::put(&s3::S3::new(&http, &settings)?, &screen, &put),
        Command::Get(get) => transfer::get(&s3::S3::new(&http, &settings)?, &screen, &get),
        Command::Rm(rm) => objects::remove(&s3::S3::new(&http, &settings)?, &screen, &rm),
        Command::Mb { bucket } => {
            objects::make_bucket(&s3::S3::new(&http, &settings)?, &screen, &bucket)
        }
        Command::Rb { bucket } => {
            objects::remove_bucket(&s3::S3::new(&http, &settings)?, &screen, &bucket)
        }
        Command::Job { command } => job::run(&http, &settings, &screen, command, matches),
        Command::Zone { command } => return zone::run(&http, &settings, &screen, &command),
        Command::Account { command } => account::run(&http, &settings, &screen, &command),
        Command::Image { command } => image::run(&http, &settings, &screen, &command),
        Command::Node { command } => node::run(&http, &settings, &screen, &command),
        Command::Completion { .. } => Ok(()),
    }?;
    Ok(0)
}
