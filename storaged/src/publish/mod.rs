//! What a zone wrote to its `/out` becomes objects: copied by us, file by file, from a directory that we
//! trust in nothing.
//!
//! ```text
//!   zoned ─ the directory, read-only, its owner shown as ours ─▶ walk, beneath it, through no link
//!     each file ─▶ one name, no holes to speak of ─▶ read lease: no writer ─▶ staging ─▶ lease still there?
//!       ─▶ sealed ─▶ one record
//! ```
//! The zone may run meanwhile and do with the directory what it likes: what is read is what was opened, and
//! a file that somebody writes to is refused, not half taken. A file stays where it is; an object says of
//! which file it was made, so that the same one is not made again. Its bucket is made with it, if nobody has it.

pub mod judge;
mod place;
pub(crate) mod walk;

use crate::calendar::now_ms;
use crate::store::{
    AccountId, Area, Content, Metadata, ObjectPath, PATH_BYTES_MAX, Store, TransactError, TxnError,
    object,
};
use bytes::Bytes;
use judge::{Facts, HOLE_BYTES_MAX, Kind, Refusal, check_name, judge, line};
use md5::{Digest, Md5};
use place::Place;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use sys::lease::Lease;
use walk::{Entry, Walk};
use wire::standing::Published;

/// Refused files that are told by name; the others are counted.
const REFUSED_TOLD_MAX: usize = 32;
/// Bytes of the names of objects that are told; the others are counted. With what is told of refused files
/// they fit a message, whatever JSON makes of them.
const MADE_BYTES_MAX: usize = 6 * 1024;
/// Bytes read at once, between two looks whether a writer has come.
const READ_BYTES: usize = 1 << 20;
/// The most bytes in an object: S3's own limit, 5 TiB.
const OBJECT_BYTES_MAX: u64 = 5 << 40;
/// The user metadata of an object by which its file is known again: inode, change time, size.
const SOURCE: &str = "mobula-out";

/// Where files go.
#[derive(Debug, Clone)]
pub struct Target {
    /// Whose objects they become.
    pub account: AccountId,
    /// Under which top directory.
    pub area: Area,
    /// What stands before their names, without a slash at its end; it may be empty.
    pub path: String,
    /// The same as people have it: `/login/stor/…`.
    pub shown: String,
}

/// Makes objects of the files below `directory`.
///
/// # Errors
/// If the directory itself cannot be read; what is wrong with a file is in the answer.
pub fn publish(store: &Store, target: &Target, directory: BorrowedFd<'_>) -> io::Result<Published> {
    let (published, holes_left) = (Published::default(), HOLE_BYTES_MAX);
    let mut publication = Publication { store, target, published, made_bytes: 0, holes_left };
    let mut walk = Walk::begin(directory)?;
    while let Some((path, entry)) = walk.next() {
        let taken = match entry {
            Entry::File(file) => publication.take(&path, &file),
            Entry::Refused(refusal) => Err(refusal),
        };
        match taken {
            Ok(Some(bytes)) => publication.made(&path, bytes),
            Ok(None) => {}
            Err(refusal) => publication.refuse(&path, &refusal),
        }
    }
    Ok(publication.published)
}

struct Publication<'a> {
    store: &'a Store,
    target: &'a Target,
    published: Published,
    made_bytes: usize,
    holes_left: u64,
}

impl Publication<'_> {
    fn made(&mut self, path: &[u8], bytes: u64) {
        self.published.objects += 1;
        self.published.bytes += bytes;
        let name = format!("{}/{}", self.target.shown, String::from_utf8_lossy(path));
        self.made_bytes += name.len();
        if self.made_bytes <= MADE_BYTES_MAX {
            self.published.made.push(name);
        }
    }

    fn refuse(&mut self, path: &[u8], refusal: &Refusal) {
        self.published.refused_count += 1;
        if self.published.refused.len() < REFUSED_TOLD_MAX {
            self.published.refused.push(line(path, refusal));
        }
    }

    /// Makes an object of a file; its size, or nothing if it is one already.
    fn take(&mut self, path: &[u8], file: &File) -> Result<Option<u64>, Refusal> {
        let failed = |error: io::Error| Refusal::Failed(format!("it cannot be read: {error}"));
        let name = self.name(path)?;
        let before = file.metadata().map_err(failed)?;
        let facts = Facts {
            kind: Kind::of(before.mode()),
            links: before.nlink(),
            size: before.size(),
            allocated: before.blocks() * 512,
        };
        let holes = judge(&facts, self.holes_left, OBJECT_BYTES_MAX)?;
        let place = self.place(&name)?;
        let source =
            format!("{}.{}.{}.{}", before.ino(), before.ctime(), before.ctime_nsec(), facts.size);
        if self.is_there(&name, &source)? {
            return Ok(None);
        }
        // From here to the end of this function whoever opens it for writing waits, or is seen.
        let lease = match Lease::take(file.as_fd()) {
            Ok(Some(lease)) => lease,
            Ok(None) => return Err(Refusal::Writer),
            Err(nix::errno::Errno::EACCES) => return Err(Refusal::Owner),
            Err(errno) => return Err(failed(errno.into())),
        };
        // Only now does its size stay.
        let now = file.metadata().map_err(failed)?;
        if (now.size(), now.ctime(), now.ctime_nsec())
            != (before.size(), before.ctime(), before.ctime_nsec())
        {
            return Err(Refusal::Changed);
        }
        let (content, mut meta) = self.read(file, facts.size, &lease)?;
        if lease.holds().map_err(|errno| failed(errno.into()))? {
            drop(lease);
        } else {
            return Err(Refusal::Changed);
        }
        meta.user.push((SOURCE.to_owned(), source));
        self.commit(place, name, content, meta)?;
        self.holes_left -= holes;
        Ok(Some(facts.size))
    }

    fn name(&self, path: &[u8]) -> Result<ObjectPath, Refusal> {
        let Target { account, area, path: before, .. } = self.target;
        let bytes = before.len() + 1 + path.len();
        let name = check_name(path, bytes, PATH_BYTES_MAX)?;
        let name = if before.is_empty() { name.to_owned() } else { format!("{before}/{name}") };
        ObjectPath::new(*account, *area, name).map_err(|_| Refusal::Name("it is empty or too long"))
    }

    /// Where the object goes, if that is not another account's: that is known before its bytes are copied.
    fn place(&self, name: &ObjectPath) -> Result<Place, Refusal> {
        let index = |error| Refusal::Failed(format!("the index failed: {error}"));
        let place = Place::of(name)?;
        let view = self.store.read().map_err(index)?;
        if place.is_anothers(&view, name).map_err(index)? {
            return Err(Refusal::Bucket);
        }
        Ok(place)
    }

    /// Whether the object of this name was made of this very file.
    fn is_there(&self, name: &ObjectPath, source: &str) -> Result<bool, Refusal> {
        let index = |error| Refusal::Failed(format!("the index failed: {error}"));
        let view = self.store.read().map_err(index)?;
        let known = object(&view, name).map_err(index)?;
        Ok(known.is_some_and(|record| {
            record.meta.user.iter().any(|(key, value)| key == SOURCE && value == source)
        }))
    }

    fn read(
        &self,
        file: &File,
        size: u64,
        lease: &Lease<'_>,
    ) -> Result<(Content, Metadata), Refusal> {
        let inline = size <= self.store.inline_bytes() as u64;
        let full =
            |error: &(dyn std::error::Error + 'static)| Refusal::Failed(crate::s3::chain(error));
        let mut staging = if inline {
            None
        } else {
            let staged = self.store.wait(self.store.stage(Some(size), None));
            Some(staged.map_err(|error| full(&error))?)
        };
        let (mut here, mut at) = (Bytes::new(), 0);
        while at < size {
            let length = usize::try_from(size - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            let piece = read_piece(file, at, length)?;
            at += piece.len() as u64;
            match &mut staging {
                None => here = piece,
                Some(staging) => {
                    let written = self.store.wait(staging.write(piece));
                    written.map_err(|error| full(&error))?;
                }
            }
            // They wait for us: the sooner we know, the sooner they go on.
            if lease.holds() != Ok(true) {
                return Err(Refusal::Changed);
            }
        }
        let mut meta = Metadata { modified_ms: now_ms(), ..Metadata::default() };
        let Some(staging) = staging else {
            let md5: [u8; 16] = Md5::digest(&here).into();
            meta.etag = md5.into();
            return Ok((Content::Inline(here), meta));
        };
        let sealed = self.store.wait(self.store.seal(staging)).map_err(|error| full(&error))?;
        meta.etag = sealed.md5().into();
        Ok((Content::Blob(sealed), meta))
    }

    fn commit(
        &self,
        place: Place,
        name: ObjectPath,
        content: Content,
        meta: Metadata,
    ) -> Result<(), Refusal> {
        let put = move |txn: &mut crate::store::Txn<'_>| {
            if !place.make(txn, &name)? {
                return Ok(false);
            }
            txn.put_object(&name, content, meta).map(|_| true)
        };
        match self.store.transact_wait(put) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Bucket),
            Err(TransactError::Refused(TxnError::Locked)) => Err(Refusal::Locked),
            Err(error) => Err(Refusal::Failed(crate::s3::chain(&error))),
        }
    }
}

/// So many bytes of a file, or the refusal of one that has fewer.
fn read_piece(file: &File, at: u64, length: usize) -> Result<Bytes, Refusal> {
    let mut piece = vec![0; length];
    match file.read_exact_at(&mut piece, at) {
        Ok(()) => Ok(piece.into()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Refusal::Changed),
        Err(error) => Err(Refusal::Failed(format!("it cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod test;
