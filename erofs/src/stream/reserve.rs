//! Files whose bytes come after the image is finished, in an order of their own.

use super::Stream;
use crate::error::Error;
use crate::meta::{Meta, attributes};
use crate::record::{INODE_BYTES, Kind, Layout, SLOT_BYTES};
use crate::space::byte_of;
use crate::{BLOCK_BYTES, Inode};
use std::io::{Seek, Write};

/// Where the bytes of a file go: first the whole blocks, then the rest, which may stand elsewhere. Until
/// they are written the file reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// Where the first bytes go.
    pub whole_at: u64,
    /// How many they are.
    pub whole_bytes: u64,
    /// Where the rest goes.
    pub tail_at: u64,
    /// How many they are.
    pub tail_bytes: u64,
}

impl<W: Write + Seek> Stream<W> {
    /// Adds a file as [`Stream::file`] does, without its bytes: they are to be written to the output once
    /// [`Stream::finish`] has given it back. The image is the same then.
    ///
    /// # Errors
    /// [`Error`].
    pub fn reserve(
        &mut self,
        name: &[u8],
        meta: &Meta,
        links: u32,
        size: u64,
    ) -> Result<(Inode, Reserved), Error> {
        let head = INODE_BYTES + attributes(meta)?.len();
        let rest = size % BLOCK_BYTES as u64;
        let inline = rest > 0 && head as u64 + rest <= BLOCK_BYTES as u64;
        let tail_bytes = if inline { rest } else { 0 };
        let whole_bytes = size - tail_bytes;
        let first = self.space.take(whole_bytes.div_ceil(BLOCK_BYTES as u64))?;
        let tail = vec![0; usize::try_from(tail_bytes).expect("it is below a block")];
        let layout = if inline { Layout::Tail { first } } else { Layout::Blocks { first } };
        let inode = self.settle(name, meta, Kind::File, (layout, size, links), &tail)?;
        let tail_at = inode.number * SLOT_BYTES as u64 + head as u64;
        Ok((inode, Reserved { whole_at: byte_of(first), whole_bytes, tail_at, tail_bytes }))
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    proptest! {
        #[test]
        fn an_image_filled_in_afterwards_is_the_same(
            sizes in proptest::collection::vec(0..10_000_usize, 0..12),
            seed: u8,
        ) {
            let meta = Meta::of_mode(0o644);
            let bytes = |number: usize, size: usize| -> Vec<u8> {
                (0..size).map(|at| (at * 7 + number) as u8 ^ seed).collect()
            };
            let begin = || Stream::begin(Cursor::new(Vec::new()), &Meta::of_mode(0o755)).unwrap();
            let (mut whole, mut late, mut places) = (begin(), begin(), Vec::new());
            for (number, size) in sizes.iter().enumerate() {
                let name = format!("{number:03}");
                let content = bytes(number, *size);
                whole.file(name.as_bytes(), &meta, 1, *size as u64, &mut &content[..]).unwrap();
                let placed = late.reserve(name.as_bytes(), &meta, 1, *size as u64);
                places.push((content, placed.unwrap().1));
            }
            let whole = whole.finish().unwrap().0.into_inner();
            let mut late = late.finish().unwrap().0.into_inner();
            late.resize(whole.len(), 0);
            for (content, place) in places.iter().rev() {
                let (first, tail) = content.split_at(place.whole_bytes as usize);
                late[place.whole_at as usize..][..first.len()].copy_from_slice(first);
                late[place.tail_at as usize..][..tail.len()].copy_from_slice(tail);
            }
            prop_assert!(whole == late);
        }
    }
}
