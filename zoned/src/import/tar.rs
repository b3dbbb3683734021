//! A tar archive, entry by entry, from a stream: ustar, pax (POSIX.1-2017, `pax`) and GNU's long names.
//!
//! Written for hostile archives: nothing in a header makes it take memory or go anywhere. What has a size
//! for no reason (a link, a directory) has none, as in Go's reader, by whose writer most images are made.
//! It gives names as they stand in the archive; what they mean is [`super::merge`]'s to say.

use super::error::ImportError;
use super::limits::{ATTRIBUTE_BYTES_MAX, EXTENSION_BYTES_MAX, NAME_BYTES_MAX};
use super::source::Stream;
use std::collections::BTreeMap;
use std::io;

/// A block: headers are one, contents are filled up to one.
const BLOCK_BYTES: usize = 512;
/// What stands before the name of an extended attribute in a pax header (star's, and all others' since).
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with this many bytes of content.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// Another name of this entry.
    HardLink(Vec<u8>),
    /// A pipe.
    Fifo,
    /// A character or block device.
    Device,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as it stands there.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change, in seconds since 1970; before that is 0.
    pub mtime: u64,
    /// Bytes of content; of files only.
    pub size: u64,
    /// Where they begin in the stream.
    pub at: u64,
    /// Extended attributes of the kind that anyone may set, `user.…`.
    pub attributes: Vec<Attribute>,
    /// How many others there were.
    pub attributes_left_out: u64,
}

/// What is said of bytes that are no archive at all.
pub(super) const NO_TAR: &str = "it is no tar file, or an empty one";

/// An extended attribute: its whole name, its value (xattr(7)).
pub type Attribute = (Vec<u8>, Vec<u8>);

/// What extended headers said of the entry that follows them.
#[derive(Debug, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<u64>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    attributes_left_out: u64,
}

/// The archive.
pub struct Tar<'a> {
    stream: &'a mut dyn Stream,
    what: &'a str,
    at: u64,
    /// Bytes of the last entry that nobody has read.
    rest: u64,
    /// What fills up its last block.
    padding: usize,
    /// Whether an archive that ends without its mark is a damaged one.
    needs_end: bool,
    headers: u64,
    headers_max: u64,
}

impl<'a> Tar<'a> {
    /// The archive in `stream`, of at most `headers_max` headers; messages call it `what`.
    pub fn new(stream: &'a mut dyn Stream, what: &'a str, headers_max: u64) -> Self {
        Self { stream, what, at: 0, rest: 0, padding: 0, needs_end: false, headers: 0, headers_max }
    }

    /// Refuses an archive that is cut off between two entries: nothing else would show it.
    #[must_use]
    pub fn needing_its_end(self) -> Self {
        Self { needs_end: true, ..self }
    }

    /// The next entry; none behind the last.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ImportError> {
        let mut extension = Extension::default();
        loop {
            self.stream.skip(self.rest).map_err(ImportError::read(self.what))?;
            self.at += self.rest;
            self.rest = 0;
            let mut padding = [0; BLOCK_BYTES];
            let padding = &mut padding[..std::mem::take(&mut self.padding)];
            let has_padding = padding.is_empty() || self.fill(padding)?;
            let at = self.at;
            // Some writers of layers leave out what comes after the last byte. Digests vouch for those.
            let mut block = [0; BLOCK_BYTES];
            if !has_padding || !self.fill(&mut block)? {
                if self.needs_end && at > 0 {
                    return Err(self.damaged(at, "it is the end, without the mark of one"));
                }
                return Ok(None);
            }
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            self.headers += 1;
            if self.headers > self.headers_max {
                return Err(ImportError::Limit { what: "entries", most: self.headers_max });
            }
            let header = Header::new(&block).map_err(|why| self.damaged(at, why))?;
            let size = header.number(124..136).map_err(|why| self.damaged(at, why))?;
            match header.kind() {
                b'L' => extension.path = Some(self.text(size)?),
                b'K' => extension.link = Some(self.text(size)?),
                b'x' => {
                    let records = self.contents(size)?;
                    extension.read(&records).map_err(|why| self.damaged(at, why))?;
                }
                // Defaults for the whole archive: comments of whoever made it, and nothing an image needs.
                b'g' => drop(self.contents(size)?),
                _ => {
                    let entry = extension.entry(&header, size, self.at);
                    let entry = entry.map_err(|why| self.damaged(at, why))?;
                    self.expect(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// How many headers there were.
    #[must_use]
    pub const fn headers(&self) -> u64 {
        self.headers
    }

    /// Reads the content of the header that came last, from its start.
    fn read_content(&mut self, buffer: &mut [u8]) -> Result<(), ImportError> {
        let taken = buffer.len() as u64;
        assert!(taken <= self.rest, "more than the entry has");
        self.stream.read_exact(buffer).map_err(ImportError::read(self.what))?;
        self.at += taken;
        self.rest -= taken;
        Ok(())
    }

    /// So many bytes of content come next.
    fn expect(&mut self, size: u64) {
        self.rest = size;
        let over = usize::try_from(size % BLOCK_BYTES as u64).expect("it is below a block");
        self.padding = (BLOCK_BYTES - over) % BLOCK_BYTES;
    }

    /// Fills the buffer; false if the stream has ended before it.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, ImportError> {
        let mut have = 0;
        while have < buffer.len() {
            match self.stream.read(&mut buffer[have..]) {
                Ok(0) if have == 0 => return Ok(false),
                // Less than one header.
                Ok(0) if self.at == 0 => return Err(ImportError::Kind(NO_TAR)),
                Ok(0) => {
                    let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(ImportError::read(self.what)(cut));
                }
                Ok(got) => have += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ImportError::read(self.what)(error)),
            }
        }
        self.at += have as u64;
        Ok(true)
    }

    /// The content of an extended header.
    fn contents(&mut self, size: u64) -> Result<Vec<u8>, ImportError> {
        if size > EXTENSION_BYTES_MAX {
            let what = "bytes of an extended header";
            return Err(ImportError::Limit { what, most: EXTENSION_BYTES_MAX });
        }
        let mut bytes = vec![0; usize::try_from(size).expect("it is small")];
        self.expect(size);
        self.read_content(&mut bytes)?;
        Ok(bytes)
    }

    /// A long name as GNU has it, with a zero byte at its end.
    fn text(&mut self, size: u64) -> Result<Vec<u8>, ImportError> {
        let mut bytes = self.contents(size)?;
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn damaged(&self, at: u64, why: &'static str) -> ImportError {
        ImportError::Header { what: self.what.to_owned(), at, why }
    }
}

/// A header block whose checksum is right.
struct Header<'a>(&'a [u8; BLOCK_BYTES]);

impl<'a> Header<'a> {
    fn new(block: &'a [u8; BLOCK_BYTES]) -> Result<Self, &'static str> {
        let header = Self(block);
        let told = header.number(148..156)?;
        // The checksum counts as spaces. Old programs summed bytes with a sign.
        let counted = || {
            let at = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
            block.iter().enumerate().map(at)
        };
        let unsigned: u64 = counted().map(u64::from).sum();
        let signed: i64 = counted().map(|byte| i64::from(byte.cast_signed())).sum();
        if told != unsigned && i64::try_from(told) != Ok(signed) {
            return Err("its checksum is wrong");
        }
        Ok(header)
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn text(&self, range: std::ops::Range<usize>) -> &'a [u8] {
        let field = &self.0[range];
        let end = field.iter().position(|byte| *byte == 0);
        &field[..end.unwrap_or(field.len())]
    }

    /// A number: octal digits, or, by GNU, binary behind a set first bit.
    fn number(&self, range: std::ops::Range<usize>) -> Result<u64, &'static str> {
        let field = &self.0[range];
        if field[0] & 0x80 != 0 {
            let mut value = u64::from(field[0] & 0x7f);
            for byte in &field[1..] {
                if value >> 56 != 0 {
                    return Err("a number is negative or too large");
                }
                value = value << 8 | u64::from(*byte);
            }
            return Ok(value);
        }
        let mut value = 0_u64;
        let padding = |byte: &u8| matches!(byte, b' ' | 0);
        let mut digits = field.iter().skip_while(|byte| padding(byte));
        for byte in digits.by_ref().take_while(|byte| !padding(byte)) {
            match byte {
                b'0'..=b'7' if value >> 61 == 0 => value = value << 3 | u64::from(byte - b'0'),
                _ => return Err("a number is none"),
            }
        }
        Ok(value)
    }

    fn path(&self) -> Vec<u8> {
        let name = self.text(0..100);
        // GNU's own format has other things where ustar has the start of the path.
        let prefix = if &self.0[257..263] == b"ustar\0" { self.text(345..500) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }
}

impl Extension {
    /// Takes in the records of a pax header: `LENGTH KEY=VALUE\n`.
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        const WRONG: &str = "a record of its extended header is wrong";
        while !bytes.is_empty() {
            let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or(WRONG)?;
            let length = decimal(&bytes[..space]).ok_or(WRONG)?;
            let length = usize::try_from(length).map_err(|_| WRONG)?;
            if length > bytes.len() || length < space + 3 || bytes[length - 1] != b'\n' {
                return Err(WRONG);
            }
            let record = &bytes[space + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(WRONG)?;
            self.set(&record[..equals], &record[equals + 1..])?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const NUMBER: &str = "a number of its extended header is none, or too large";
        let small = |value| decimal(value).and_then(|v| u32::try_from(v).ok()).ok_or(NUMBER);
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value).ok_or(NUMBER)?),
            b"uid" => self.uid = Some(small(value)?),
            b"gid" => self.gid = Some(small(value)?),
            b"mtime" if value.starts_with(b"-") => self.mtime = Some(0),
            b"mtime" => {
                let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                self.mtime = Some(decimal(whole).ok_or(NUMBER)?);
            }
            _ if key.starts_with(b"GNU.sparse.") => return Err("sparse files are not taken"),
            _ => {
                if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                    return self.set_attribute(name, value);
                }
                // Access times, comments: an image has none of them.
            }
        }
        Ok(())
    }

    /// Capabilities, labels and the like mean nothing in a zone, or too much: they are left out.
    fn set_attribute(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let own = name.strip_prefix(b"user.").is_some_and(|rest| !rest.is_empty());
        if !own {
            self.attributes_left_out += 1;
            return Ok(());
        }
        if name.len() > NAME_BYTES_MAX || name.contains(&0) {
            return Err("the name of an attribute is none");
        }
        self.attributes.insert(name.to_vec(), value.to_vec());
        let bytes = self.attributes.iter().map(|(name, value)| name.len() + value.len());
        if bytes.sum::<usize>() > ATTRIBUTE_BYTES_MAX {
            return Err("it has more than 2048 bytes of attributes");
        }
        Ok(())
    }

    fn entry(self, header: &Header<'_>, size: u64, at: u64) -> Result<Entry, &'static str> {
        let path = self.path.unwrap_or_else(|| header.path());
        let link = || self.link.unwrap_or_else(|| header.text(157..257).to_vec());
        let kind = match header.kind() {
            // Before POSIX directories were told by their names.
            b'0' | 0 | b'7' if path.last() == Some(&b'/') => EntryKind::Directory,
            b'0' | 0 | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink(link()),
            b'2' => EntryKind::Symlink(link()),
            b'3' | b'4' => EntryKind::Device,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => return Err("sparse files are not taken"),
            _ => return Err("it is of a type that is not known"),
        };
        let small =
            |number: u64| u32::try_from(number).map_err(|_| "an owner's number is too large");
        let owner = |told: Option<u32>, range| match told {
            Some(told) => Ok(told),
            None => small(header.number(range)?),
        };
        Ok(Entry {
            mode: u16::try_from(header.number(100..108)? & 0o7777).expect("twelve bits"),
            uid: owner(self.uid, 108..116)?,
            gid: owner(self.gid, 116..124)?,
            // A time before 1970 is one that nobody set.
            mtime: self.mtime.unwrap_or_else(|| header.number(136..148).unwrap_or(0)),
            size: if kind == EntryKind::File { self.size.unwrap_or(size) } else { 0 },
            path,
            kind,
            at,
            attributes: self.attributes.into_iter().collect(),
            attributes_left_out: self.attributes_left_out,
        })
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    // `parse` takes a sign.
    text.first().filter(|byte| byte.is_ascii_digit())?;
    std::str::from_utf8(text).ok()?.parse().ok()
}
