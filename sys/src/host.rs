//! The machine's name (sethostname(2)).

use std::io;

/// Sets it.
///
/// # Errors
/// What sethostname(2) says.
pub fn set_name(name: &str) -> io::Result<()> {
    Ok(nix::unistd::sethostname(name)?)
}

/// Lets this process have so many descriptors open at once (setrlimit(2), `RLIMIT_NOFILE`).
///
/// # Errors
/// EPERM for more than its hard limit, without CAP_SYS_RESOURCE.
pub fn allow_open_files(files: u64) -> std::io::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    Ok(setrlimit(Resource::RLIMIT_NOFILE, files, files)?)
}
