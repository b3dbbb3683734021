//! Loading a module into the kernel (finit_module(2)).

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use std::fs::File;
use std::io;
use std::path::Path;

/// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h (Linux 5.17): the kernel unpacks it.
const COMPRESSED: u32 = 4;

/// Loads the module in this file, compressed if its name ends so; one that is there already is no error.
///
/// # Errors
/// What open(2) and finit_module(2) say.
pub fn load(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let packed =
        path.extension().is_some_and(|end| ["xz", "gz", "zst"].iter().any(|one| end == *one));
    let flags = if packed { COMPRESSED } else { 0 };
    match finit_module(&file, c"", ModuleInitFlags::from_bits_retain(flags)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
