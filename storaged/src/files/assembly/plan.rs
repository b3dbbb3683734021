//! What completing an upload has to copy. Pure.
//!
//! Of the files that the parts are in, the one that has most bytes where they are to be becomes the object's,
//! if nothing that a record names is in the way: the parts that are elsewhere are copied into it. Otherwise
//! everything is copied into a fresh file. Either way no byte of a recorded part is written over or cut off,
//! so that a completion that fails, or a crash, leaves the upload as it was.

use crate::store::uploads::{PartFile, Place, UploadedPart};
use std::collections::HashMap;
use std::ops::Range;

/// Bytes to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// From which file.
    pub from: PartFile,
    /// Starting at this byte of it.
    pub offset: u64,
    /// To this byte of the object.
    pub to: u64,
    /// So many.
    pub length: u64,
}

/// How an object is made of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// This file becomes the object, after these copies, cut to its length.
    Keep {
        /// Which file.
        file: PartFile,
        /// What is copied into it.
        copies: Vec<Copy>,
    },
    /// A new file becomes the object.
    Fresh {
        /// All of its bytes.
        copies: Vec<Copy>,
    },
}

/// How a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    /// Bytes in it.
    pub length: u64,
    /// It takes no writes any more: a completion had sealed it, and then failed.
    pub frozen: bool,
}

impl Plan {
    /// Bytes to be copied.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let (Self::Keep { copies, .. } | Self::Fresh { copies }) = self;
        copies.iter().map(|copy| copy.length).sum()
    }
}

/// How to make an object of the `chosen` parts, in this order, of all the `recorded` ones.
pub fn plan(
    chosen: &[UploadedPart],
    recorded: &[UploadedPart],
    state: impl Fn(PartFile) -> FileState,
) -> Plan {
    let total: u64 = chosen.iter().map(|part| part.size).sum();
    let mut at = 0;
    let mut placed = Vec::with_capacity(chosen.len());
    for part in chosen.iter().filter(|part| part.size > 0) {
        placed.push((at, part));
        at += part.size;
    }
    let stays =
        |file: PartFile, to: u64, place: Place| place.file() == file && place.offset() == to;
    if let Some(file) = best(&placed) {
        let copies = copies(placed.iter().filter(|(to, part)| !stays(file, *to, part.place)));
        let found = state(file);
        let untouched = copies.is_empty() && found.length == total;
        if untouched || (!found.frozen && is_free(file, &copies, recorded, total)) {
            return Plan::Keep { file, copies };
        }
    }
    Plan::Fresh { copies: copies(placed.iter()) }
}

/// The file with most bytes where they are to be.
fn best(placed: &[(u64, &UploadedPart)]) -> Option<PartFile> {
    let mut bytes: HashMap<PartFile, u64> = HashMap::new();
    for (to, part) in placed {
        if part.place.offset() == *to {
            *bytes.entry(part.place.file()).or_default() += part.size;
        }
    }
    bytes.into_iter().max_by_key(|&(file, bytes)| (bytes, file)).map(|(file, _)| file)
}

fn copies<'a>(placed: impl Iterator<Item = &'a (u64, &'a UploadedPart)>) -> Vec<Copy> {
    let copy = |(to, part): &(u64, &UploadedPart)| Copy {
        from: part.place.file(),
        offset: part.place.offset(),
        to: *to,
        length: part.size,
    };
    placed.map(copy).collect()
}

/// Whether neither the copies nor the cut touch a byte that a record names.
fn is_free(file: PartFile, copies: &[Copy], recorded: &[UploadedPart], total: u64) -> bool {
    let range = |part: &UploadedPart| {
        let start = part.place.offset();
        start..start + part.size
    };
    let inside = |part: &&UploadedPart| part.place.file() == file && part.size > 0;
    let mut taken: Vec<Range<u64>> = recorded.iter().filter(inside).map(range).collect();
    taken.sort_by_key(|range| range.start);
    let cut = taken.last().is_some_and(|last| last.end > total);
    // Both are in order, and neither overlaps itself.
    !cut && copies.iter().all(|copy| {
        let next = taken.partition_point(|range| range.end <= copy.to);
        taken.get(next).is_none_or(|range| range.start >= copy.to + copy.length)
    })
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const SHARED: PartFile = PartFile(1);

    fn part(number: u32, size: u64, place: Place) -> UploadedPart {
        UploadedPart { number, size, md5: [0; 16], modified_ms: 0, sum: None, place }
    }

    fn shared(number: u32, size: u64, offset: u64) -> UploadedPart {
        part(number, size, Place::Shared { file: SHARED, offset })
    }

    fn own(number: u32, size: u64) -> UploadedPart {
        part(number, size, Place::Own { file: PartFile(100 + u64::from(number)) })
    }

    fn open(length: u64) -> impl Fn(PartFile) -> FileState {
        move |_| FileState { length, frozen: false }
    }

    #[test]
    fn parts_in_their_places_cost_nothing() {
        let parts = [shared(1, 10, 0), shared(2, 10, 10), shared(3, 4, 20)];
        let plan = plan(&parts, &parts, open(24));
        assert_eq!(plan, Plan::Keep { file: SHARED, copies: vec![] });
    }

    #[test]
    fn a_part_sent_again_is_copied_over_its_dead_place() {
        let parts = [shared(1, 10, 0), own(2, 10), shared(3, 4, 20)];
        let copies = vec![Copy { from: PartFile(102), offset: 0, to: 10, length: 10 }];
        assert_eq!(plan(&parts, &parts, open(24)), Plan::Keep { file: SHARED, copies });
    }

    #[test]
    fn a_gap_is_closed_in_a_fresh_file() {
        let parts = [shared(1, 10, 0), shared(2, 10, 10), shared(4, 10, 30)];
        let plan = plan(&parts, &parts, open(40));
        assert!(matches!(plan, Plan::Fresh { .. }));
        assert_eq!(plan.bytes(), 30);
    }

    #[test]
    fn a_part_that_is_left_out_is_not_cut_off() {
        let parts = [shared(1, 10, 0), shared(2, 10, 10)];
        assert!(matches!(plan(&parts[..1], &parts, open(20)), Plan::Fresh { .. }));
        let dirt = plan(&parts[..1], &parts[..1], open(20));
        assert_eq!(dirt, Plan::Keep { file: SHARED, copies: vec![] });
    }

    #[test]
    fn a_frozen_file_is_kept_only_if_it_is_the_object() {
        let parts = [shared(1, 10, 0), shared(2, 10, 10)];
        let frozen = |length| move |_| FileState { length, frozen: true };
        assert!(matches!(plan(&parts, &parts, frozen(20)), Plan::Keep { .. }));
        assert!(matches!(plan(&parts, &parts, frozen(30)), Plan::Fresh { .. }));
        let more = [shared(1, 10, 0), shared(2, 10, 10), own(3, 5)];
        assert!(matches!(plan(&more, &more, frozen(20)), Plan::Fresh { .. }));
    }

    #[test]
    fn nothing_at_all_is_a_fresh_file() {
        let parts = [own(1, 0)];
        assert_eq!(plan(&parts, &parts, open(0)), Plan::Fresh { copies: vec![] });
    }

    /// Parts as uploads leave them: in slots of one or two shared files, or in files of their own.
    fn uploaded() -> impl Strategy<Value = Vec<UploadedPart>> {
        let one = (1_u32..4, 1_u64..9, 0_u8..4);
        proptest::collection::vec(one, 1..9).prop_map(|parts| {
            let mut number = 0;
            let made = parts.into_iter().map(|(skip, size, kind)| {
                number += if skip > 2 { 2 } else { 1 };
                let offset = u64::from(number - 1) * 8;
                match kind {
                    0 => own(number, size),
                    1 => part(
                        number,
                        size.min(4),
                        Place::Shared { file: PartFile(2), offset: offset / 2 },
                    ),
                    _ => shared(number, if skip == 1 { 8 } else { size.min(8) }, offset),
                }
            });
            made.collect()
        })
    }

    /// The bytes of every file, each byte named by its part and its place in it.
    type Disk = HashMap<PartFile, Vec<Option<(u32, u64)>>>;

    fn disk(parts: &[UploadedPart]) -> Disk {
        let mut disk = Disk::new();
        for part in parts {
            let file = disk.entry(part.place.file()).or_default();
            for at in 0..part.size {
                let index = (part.place.offset() + at) as usize;
                file.resize(file.len().max(index + 1), None);
                assert_eq!(file[index].replace((part.number, at)), None, "parts do not overlap");
            }
        }
        disk
    }

    fn carry_out(disk: &mut Disk, plan: &Plan, total: usize) -> PartFile {
        let (file, copies) = match plan {
            Plan::Keep { file, copies } => (*file, copies),
            Plan::Fresh { copies } => (PartFile(0), copies),
        };
        for copy in copies {
            for at in 0..copy.length {
                let byte = disk[&copy.from][(copy.offset + at) as usize];
                let to = disk.entry(file).or_default();
                to.resize(to.len().max((copy.to + at) as usize + 1), None);
                to[(copy.to + at) as usize] = byte;
            }
        }
        disk.entry(file).or_default().resize(total, None);
        file
    }

    proptest! {
        #[test]
        fn the_object_is_its_parts_and_every_record_still_holds(
            parts in uploaded(), chosen in proptest::collection::vec(any::<bool>(), 9)
        ) {
            let all = parts;
            let listed = all.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(part, _)| part);
            let listed: Vec<_> = listed.cloned().collect();
            let mut disk = disk(&all);
            let lengths: HashMap<_, _> = disk.iter().map(|(file, bytes)| (*file, bytes.len() as u64)).collect();
            let plan = plan(&listed, &all, |file| FileState { length: lengths[&file], frozen: false });
            let want: Vec<_> = listed
                .iter()
                .flat_map(|part| (0..part.size).map(|at| Some((part.number, at))))
                .collect();
            let file = carry_out(&mut disk, &plan, want.len());
            prop_assert_eq!(&disk[&file], &want);
            for part in &all {
                for at in 0..part.size {
                    let found = disk[&part.place.file()].get((part.place.offset() + at) as usize);
                    prop_assert_eq!(found, Some(&Some((part.number, at))), "{:?}", part);
                }
            }
        }
    }
}
