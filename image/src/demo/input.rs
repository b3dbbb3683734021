//! The demonstration's input: the package index of this very machine, cut into objects.

use super::DemoError;
use crate::command;
use crate::file::failed;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where apt keeps what the archives publish.
const LISTS: &str = "/var/lib/apt/lists";
/// Reads such a file whatever it is compressed with.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
/// What makes the demonstration one on real data: this many bytes at least…
const BYTES_MIN: usize = 50_000_000;
/// … in this many objects at least. A tenth more are aimed at: a cut waits for the end of a stanza.
const OBJECTS_MIN: usize = 200;

/// The objects, as files in one folder.
#[derive(Debug)]
pub struct Input {
    /// The folder.
    pub folder: PathBuf,
    /// Its files, by name.
    pub files: Vec<PathBuf>,
    /// Bytes in all of them.
    pub bytes: u64,
}

/// Unpacks the machine's package indexes and cuts them into files in `folder`.
///
/// # Errors
/// When there are none, or less than the demonstration asks for.
pub fn prepare(folder: &Path) -> Result<Input, DemoError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(failed("remove", folder))?;
    }
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    let mut texts = Vec::new();
    for list in lists()? {
        texts.push(command::bytes(Command::new(APT_HELPER).arg("cat-file").arg(&list))?);
    }
    let bytes = texts.iter().map(Vec::len).sum::<usize>();
    if bytes < BYTES_MIN {
        return Err(DemoError::Input { bytes, wanted: BYTES_MIN });
    }
    let piece = bytes / (OBJECTS_MIN + OBJECTS_MIN / 10);
    let pieces = texts.iter().flat_map(|text| cut(text, piece).into_iter().map(|r| &text[r]));
    let mut files = Vec::new();
    for (number, piece) in (0..).zip(pieces) {
        let path = folder.join(format!("packages-{number:04}"));
        fs::write(&path, piece).map_err(failed("write", &path))?;
        files.push(path);
    }
    if files.len() < OBJECTS_MIN {
        return Err(DemoError::Objects { objects: files.len(), wanted: OBJECTS_MIN });
    }
    Ok(Input { folder: folder.to_owned(), files, bytes: bytes as u64 })
}

fn lists() -> Result<Vec<PathBuf>, DemoError> {
    let folder = Path::new(LISTS);
    let mut lists: Vec<_> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>())
        .map_err(failed("list", folder))?;
    lists.retain(|path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.contains("_Packages") && path.is_file()
    });
    lists.sort();
    Ok(lists)
}

/// Cuts text of stanzas (paragraphs that end in an empty line) into pieces of whole stanzas, each but the
/// last at least `piece` bytes long.
fn cut(text: &[u8], piece: usize) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let from = (start + piece).min(text.len());
        // The empty line may begin right where the piece is long enough.
        let look = from.saturating_sub(1).max(start);
        let end = text[look..]
            .windows(2)
            .position(|pair| pair == b"\n\n")
            .map_or(text.len(), |at| look + at + 2);
        pieces.push(start..end);
        start = end;
    }
    pieces
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_the_text_again_and_end_where_stanzas_do(
            stanzas in prop::collection::vec("[a-z]{1,9}\n([a-z]{1,9}\n)?", 0..40),
            piece in 1..60_usize,
        ) {
            let text = stanzas.iter().map(|stanza| format!("{stanza}\n")).collect::<String>();
            let pieces = cut(text.as_bytes(), piece);
            let joined: String = pieces.iter().map(|range| &text[range.clone()]).collect();
            prop_assert_eq!(joined, text.clone());
            for range in &pieces {
                prop_assert!(text[range.clone()].ends_with("\n\n"));
            }
            for range in pieces.iter().rev().skip(1) {
                prop_assert!(range.len() >= piece);
            }
        }
    }

    #[test]
    fn a_last_stanza_without_an_empty_line_is_not_lost() {
        assert_eq!(cut(b"a\n\nb\n", 1), [0..3, 3..5]);
    }
}
