//! What is known of a file besides its bytes.

use crate::error::{Error, shown};

/// Who owns a file, what may be done with it, and when it was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, set-user-id and sticky bits included (`07777`).
    pub mode: u16,
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
    /// When its bytes were changed.
    pub modified: Time,
    /// Extended attributes by their whole name, `user.mime`; `user.`, `trusted.`, `security.` and the two of
    /// POSIX access lists can be kept.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Meta {
    /// With these permissions, root's, of 1970.
    #[must_use]
    pub fn of_mode(mode: u16) -> Self {
        Self { mode, ..Self::default() }
    }
}

/// A time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds, below 10⁹.
    pub nanoseconds: u32,
}

/// What is neither file nor directory nor link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// A character device.
    Character {
        /// Its driver.
        major: u32,
        /// Which of the driver's.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Its driver.
        major: u32,
        /// Which of the driver's.
        minor: u32,
    },
    /// A pipe with a name.
    Fifo,
    /// A socket's name.
    Socket,
}

impl Device {
    /// As the kernel packs it into 32 bits (`new_encode_dev`).
    pub(crate) fn packed(self) -> Result<u32, Error> {
        /// 12 bits for the driver, 20 for its device (`MINORBITS`).
        const MAJOR_MAX: u32 = 0xfff;
        const MINOR_MAX: u32 = 0xf_ffff;
        match self {
            Self::Character { major, minor } | Self::Block { major, minor } => {
                if major > MAJOR_MAX || minor > MINOR_MAX {
                    return Err(Error::Device { major, minor });
                }
                Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
            }
            Self::Fifo | Self::Socket => Ok(0),
        }
    }
}

/// The bytes of extended attributes behind an inode: a header, then each at a multiple of 4. Sorted, so that
/// their order of coming does not matter.
pub(crate) fn attributes(meta: &Meta) -> Result<Vec<u8>, Error> {
    /// `erofs_xattr_ibody_header`: a filter that we do not have, and no shared attributes.
    const HEADER: [u8; 12] = [0; 12];
    if meta.attributes.is_empty() {
        return Ok(Vec::new());
    }
    let mut entries = Vec::with_capacity(meta.attributes.len());
    for (name, value) in &meta.attributes {
        let failed = |why| Error::Attribute { name: shown(name), why };
        let (index, rest) = numbered(name).ok_or_else(|| failed("its kind is not known"))?;
        let length = u8::try_from(rest.len()).map_err(|_| failed("its name is too long"))?;
        let size = u16::try_from(value.len()).map_err(|_| failed("its value is too long"))?;
        entries.push((index, rest, length, size, value));
    }
    entries.sort_unstable_by_key(|&(index, rest, ..)| (index, rest));
    if let Some(pair) =
        entries.windows(2).find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1))
    {
        return Err(Error::Attribute { name: shown(pair[0].1), why: "it is there twice" });
    }
    let mut bytes = HEADER.to_vec();
    for (index, rest, length, size, value) in entries {
        bytes.extend_from_slice(&[length, index]);
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    // `i_xattr_icount` counts words in 16 bits.
    if (bytes.len() - HEADER.len()) / 4 >= usize::from(u16::MAX) {
        let name = shown(&meta.attributes[0].0);
        return Err(Error::Attribute { name, why: "all of them together are too long" });
    }
    Ok(bytes)
}

/// The number of an attribute's prefix (`EROFS_XATTR_INDEX_*`) and what follows it.
fn numbered(name: &[u8]) -> Option<(u8, &[u8])> {
    const WHOLE: [(u8, &[u8]); 2] =
        [(2, b"system.posix_acl_access"), (3, b"system.posix_acl_default")];
    const PREFIXES: [(u8, &[u8]); 3] = [(1, b"user."), (4, b"trusted."), (6, b"security.")];
    if let Some((index, _)) = WHOLE.into_iter().find(|&(_, whole)| whole == name) {
        return Some((index, b""));
    }
    let found = PREFIXES
        .into_iter()
        .find_map(|(index, prefix)| name.strip_prefix(prefix).map(|rest| (index, rest)));
    found.filter(|(_, rest)| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_packed_as_the_kernel_does() {
        assert_eq!(Device::Character { major: 1, minor: 3 }.packed().unwrap(), 0x103);
        assert_eq!(Device::Block { major: 259, minor: 0x1_23 }.packed().unwrap(), 0x110_323);
        assert!(Device::Block { major: 4096, minor: 0 }.packed().is_err());
    }

    #[test]
    fn attributes_come_in_one_order_and_unknown_kinds_are_refused() {
        let named = |names: &[&str]| Meta {
            attributes: names.iter().map(|n| (n.as_bytes().to_vec(), b"v".to_vec())).collect(),
            ..Meta::default()
        };
        let there = attributes(&named(&["trusted.b", "user.a"])).unwrap();
        assert_eq!(there, attributes(&named(&["user.a", "trusted.b"])).unwrap());
        for bad in [&["user."][..], &["lustre.a"], &["user.a", "user.a"], &[&"user.".repeat(60)]] {
            assert!(attributes(&named(bad)).is_err(), "{bad:?}");
        }
    }
}
