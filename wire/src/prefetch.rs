//! What storaged, zoned and the prefetcher say to each other.
//!
//! The prefetcher reads objects ahead, so that their pages are charged to its cgroup and not to the
//! zone that happens to touch them first, and keeps each mapped until storaged lets go of it. storaged
//! connects, as often as it has threads, and asks; the prefetcher only answers. When the last
//! connection that asks for objects is gone, every object is let go of. zoned asks for the images that zones
//! start from, by a connection each.

use serde::{Deserialize, Serialize};

/// The most bytes of one object that are read ahead and kept mapped: its first 256 MiB. A larger object
/// is read by its own reader's readahead from there on.
pub const OBJECT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The most bytes mapped at a time; over it, the objects asked for longest ago are let go of. Mappings
/// pin no memory: the bound keeps page tables small (8 MiB for 4 GiB).
pub const MAPPED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// The most objects mapped at a time, below the kernel's 65,530 mappings a process.
pub const OBJECTS_MAX: usize = 16 * 1024;

/// The most images that zoned has read ahead at a time, each by a connection of its own.
pub const IMAGES_MAX: usize = 16;

/// What storaged asks, and for images zoned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Read this object ahead, its descriptor beside the message, and keep it mapped.
    Prefetch {
        /// Names the object's file for ever: a blob id.
        id: u64,
        /// Bytes in it.
        length: u64,
    },
    /// Let go of it.
    Release {
        /// As in `Prefetch`.
        id: u64,
    },
    /// Read the programs of the zone image whose root is beside the message, and keep them mapped for as
    /// long as this connection is open. Answered by [`Reply::Done`] when they are read.
    Image,
    /// How are you?
    Status,
}

/// What the prefetcher answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// It is read and mapped, or was already.
    Done {
        /// How much of it.
        bytes: u64,
    },
    /// It is mapped no more.
    Released,
    /// How the prefetcher is.
    Status(Status),
}

/// How the prefetcher is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Objects mapped now.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Objects that it let go of to stay within its limits.
    pub evicted: u64,
}
