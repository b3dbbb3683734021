//! Names in an archive: taken apart, and refused if they are none.

use super::error::ImportError;
use super::limits::{DEPTH_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX};

/// The parts of an entry's path. It counts from the root of the image wherever it starts (archives begin
/// with `./`, `/` or neither); what leads up is refused, whether it would stay inside or not.
///
/// # Errors
/// [`ImportError::Entry`].
pub fn parts(path: &[u8]) -> Result<Vec<&[u8]>, ImportError> {
    let refused = |why| Err(ImportError::entry(path, why));
    if path.len() > PATH_BYTES_MAX {
        return Err(ImportError::entry(&path[..64], "has a path that is too long"));
    }
    if path.contains(&0) {
        return refused("has a zero byte in its path");
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return refused("leads up"),
            _ if part.len() > NAME_BYTES_MAX => return refused("has a name that is too long"),
            _ => parts.push(part),
        }
    }
    if parts.len() > DEPTH_MAX {
        return refused("lies in too many directories");
    }
    Ok(parts)
}
