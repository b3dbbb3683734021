//! The nursery: one process of this program, from which the first processes of all zones are copied.
//!
//! A program's start is a third of what making a zone takes: the exec, the C library's look at the processor,
//! relocations, the compilation of filters. Here it is done once. The copy begins in the zone's namespaces and
//! cgroup, as a child of zoned, and shares the pages that it never changes with all others.
//!
//! The nursery knows nothing of any tenant, so there is nothing in its memory that a copy should not have. Its
//! mount namespace has nothing but the /dev that zones share ([`super::system`]), which tells nothing. It is under
//! the filter and the limits that all zones share, so that a copy has them from its first moment
//! ([`privileges::prepare`]).
//!
//! ```text
//!   zoned                                     nursery
//!     │ ── (control socket, cgroup, image) ───▶ │   clone3
//!     │ ◀────────────── errno, the zone's pidfd ── │
//! ```

use super::privileges::{self, OomScore};
use super::{InsideError, call, system};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use sys::arena::Arena;
use sys::clone::{Fork, Namespaces, fork_sibling};
use sys::mountfd;
use sys::seqpacket::Socket;
use sys::text;

/// The name of the nursery's socket among the inherited descriptors.
pub const NURSERY: &str = "nursery";

/// What a new zone's first process is given.
#[derive(Debug)]
pub(super) struct Newborn {
    /// To zoned.
    pub(super) control: Socket,
    /// The mount of its image.
    pub(super) image: OwnedFd,
}

/// Makes zones' first processes until zoned is gone. Returns in each of them with what it was given; in the
/// nursery itself with nothing. `place` is a directory that is there to be mounted over.
pub(super) fn serve(socket: &Socket, place: &Path) -> Result<Option<Newborn>, InsideError> {
    // Without it a copy is slower, and does the same.
    if let Err(error) = text::move_to_large_pages() {
        eprintln!("zone-init: cannot move to large pages: {error}");
    }
    let score = call("open the out-of-memory score", OomScore::open())?;
    call("leave the node's mounts", leave(place))?;
    privileges::prepare()?;
    // Of what is used from here on, each birth makes the nursery copy its pages: they are few.
    Arena::begin_afresh();
    let mut message = Vec::new();
    loop {
        let Some(fds) = socket.recv(&mut message)? else { return Ok(None) };
        let [control, cgroup, image] = <[OwnedFd; 3]>::try_from(fds).map_err(|fds| {
            let got = format!("{} descriptors", fds.len());
            InsideError::Unexpected { got, expected: "a socket, a cgroup and an image" }
        })?;
        call("offer zones to the out-of-memory killer first", score.raise())?;
        let forked = fork_sibling(Namespaces::ZONE, cgroup.as_fd());
        if !matches!(forked, Ok(Fork::Child)) {
            call("take the nursery out of the out-of-memory killer's way", score.restore())?;
        }
        match forked {
            Ok(Fork::Child) => {
                Arena::begin_afresh();
                return Ok(Some(Newborn { control: control.into(), image }));
            }
            Ok(Fork::Parent(child)) => {
                socket.send(&0_i32.to_le_bytes(), &[child.pidfd.as_fd()])?;
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                socket.send(&errno.to_le_bytes(), &[])?;
            }
        }
    }
}

/// Makes the ground, which can't be written, this process's root, and the only mount it has.
fn leave(place: &Path) -> std::io::Result<()> {
    mountfd::make_all_private()?;
    let ground = system::ground()?;
    let place = CString::new(place.as_os_str().as_encoded_bytes())?;
    mountfd::place(ground.as_fd(), nix::fcntl::AT_FDCWD, &place)?;
    mountfd::make_root(ground.as_fd())
}
