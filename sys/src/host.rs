//! The machine's name (sethostname(2)).

use std::io;

/// Sets it.
///
/// # Errors
/// What sethostname(2) says.
pub fn set_name(name: &str) -> io::Result<()> {
    Ok(nix::unistd::sethostname(name)?)
}
