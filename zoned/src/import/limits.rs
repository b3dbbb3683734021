//! How large an archive may be, and what becomes of it.

/// Bytes in a MiB.
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bounds of one import. All of them are checked while the archive is read, before memory is taken for
/// what they bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in all layers together. With [`Self::name_bytes`] it bounds the memory of an import: an
    /// entry takes some 200 bytes.
    pub entries: u64,
    /// Bytes of names, of targets of links and of attributes in all layers together.
    pub name_bytes: u64,
    /// Bytes of all layers together, unpacked.
    pub unpacked_bytes: u64,
    /// How many bytes one packed byte may become, once a layer is larger than [`Self::ratio_from_bytes`].
    /// Text packs 1:10, and 1:1032 is the most that deflate can do (zlib, technical details).
    pub ratio: u64,
    /// Bytes of a layer that may come from any number of packed ones: zeros pack well, and a sparse file
    /// is no attack.
    pub ratio_from_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 400_000,
            name_bytes: 64 * MIB,
            unpacked_bytes: 16 * GIB,
            ratio: 200,
            ratio_from_bytes: GIB,
        }
    }
}

/// The most layers of an image: overlayfs in Docker takes 127.
pub const LAYERS_MAX: usize = 256;
/// The most bytes of a manifest, an index or a configuration (OCI distribution specification, 4 MiB).
pub const DOCUMENT_BYTES_MAX: u64 = 4 * MIB;
/// The most bytes of an extended header (Go's archive/tar, which writes most images, has the same).
pub const EXTENSION_BYTES_MAX: u64 = MIB;
/// The most bytes of one file's extended attributes, names and values: with them an inode still fits a block,
/// the root's too. ext4 without large inodes takes 4 KiB.
pub const ATTRIBUTE_BYTES_MAX: usize = 2048;
/// The most files of an archive that holds layers; one with more of them is a root.
pub const OUTER_ENTRIES_MAX: usize = 4096;
/// The most bytes of a path in an archive (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;
/// The most bytes of a name (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
/// The most directories one in another.
pub const DEPTH_MAX: usize = 256;
/// The most symbolic links followed on one path (`MAXSYMLINKS` of the kernel).
pub const LINKS_FOLLOWED_MAX: usize = 40;
/// The largest window of zstd that is kept in memory: `--ultra -21`; level 19 takes 8 MiB.
pub const WINDOW_BYTES_MAX: u64 = 64 * MIB;
/// The most memory of an xz decoder, in KiB: `xz -9` has a dictionary of 64 MiB; with it goes what the decoder
/// needs besides.
pub const XZ_MEMORY_KIB_MAX: u32 = 65 * 1024;
/// The most bytes of `/etc/passwd` and of `/etc/group` that are looked through for a user.
pub const USERS_BYTES_MAX: u64 = MIB;
