//! Makes an image of the archive at stdin, a file, in the empty file at stdout, and says on stderr, in one
//! line of JSON, what became of it. The one program of a zone that zoned makes for it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use zoned::import::error::ImportError;
use zoned::import::limits::Limits;
use zoned::import::{Imported, Report, import};

fn main() -> ExitCode {
    let (report, code) = match run() {
        Ok(imported) => (Report::Imported(imported), ExitCode::SUCCESS),
        Err(error) => (Report::Failed(zoned::chain(&error)), ExitCode::FAILURE),
    };
    let line = serde_json::to_string(&report).expect("texts and numbers have a JSON form");
    match writeln!(io::stderr(), "{line}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> Result<Imported, ImportError> {
    let stdin = io::stdin().as_fd().try_clone_to_owned();
    let source = File::from(stdin.map_err(ImportError::read("the archive"))?);
    let bytes = source.metadata().map_err(ImportError::read("the archive"))?.len();
    let out = io::stdout().as_fd().try_clone_to_owned().map_err(ImportError::Write)?;
    import(&source, bytes, File::from(out), &Limits::default())
}
