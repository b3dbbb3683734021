//! Uploads in parts against their files: each part on record is where its record says.

use super::files::names;
use super::records::shown;
use super::{CheckError, Depth, Finding, Report};
use crate::format::{Keyspace, Value, upload_key};
use crate::index::View;
use crate::store::ViewExt;
use crate::store::uploads::{UploadId, UploadedPart, parts, upload};
use md5::{Digest as _, Md5};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a part that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// Checks the parts of all uploads that have not ended.
pub(super) fn check(
    data: &Path,
    view: &dyn View,
    depth: Depth,
    report: &mut Report,
) -> Result<(), CheckError> {
    let uploads = data.join("uploads");
    let mut rows = Vec::new();
    view.within(&Keyspace::Uploads.key(b"p"), &mut |key, value| {
        // Malformed ones were found before.
        let id = key.get(2..10).and_then(|id| <[u8; 8]>::try_from(id).ok());
        if let (Some(id), Ok(part)) = (id, UploadedPart::decode(value.to_vec())) {
            rows.push((UploadId(u64::from_be_bytes(id)), part, key.to_vec()));
        }
        ControlFlow::Continue(())
    })?;
    for (id, found, key) in rows {
        if view.get(&upload_key(id))?.is_none() {
            report.add(Finding::Record { key: shown(&key), problem: "its upload is gone".into() });
            continue;
        }
        let path = uploads.join(id.to_string()).join(found.place.file().to_string());
        if found.size > 0
            && let Err(error) = part(&path, &found, depth, &mut report.checked.bytes)
        {
            let problem = format!("its bytes: {error}");
            report.add(Finding::Part { upload: id.to_string(), number: found.number, problem });
        }
    }
    left_over(&uploads, view, report)
}

fn part(path: &Path, part: &UploadedPart, depth: Depth, read: &mut u64) -> io::Result<()> {
    let file = File::open(path)?;
    let end = part.place.offset() + part.size;
    let length = file.metadata()?.len();
    if length < end {
        return Err(io::Error::other(format!("its file ends at {length}, the part at {end}")));
    }
    if depth == Depth::Usual {
        return Ok(());
    }
    let (mut md5, mut buffer, mut at) = (Md5::new(), vec![0; READ_BYTES], part.place.offset());
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(READ_BYTES).min(READ_BYTES);
        file.read_exact_at(&mut buffer[..want], at)?;
        md5.update(&buffer[..want]);
        at += want as u64;
    }
    *read += part.size;
    if md5.finalize()[..] != part.md5 {
        return Err(io::Error::other("they are not those of the part's entity tag"));
    }
    Ok(())
}

/// Counts what the next start removes.
fn left_over(uploads: &Path, view: &dyn View, report: &mut Report) -> Result<(), CheckError> {
    for name in names(uploads)? {
        let Some(id) = UploadId::parse(&name) else {
            report.add(Finding::Foreign { path: format!("uploads/{name}") });
            continue;
        };
        let files = names(&uploads.join(&name))?;
        let Some(upload) = upload(view, id)? else {
            report.left_over.uploads += files.len() as u64;
            continue;
        };
        let (parts, _) = parts(view, id, 0, usize::MAX)?;
        let mut known: BTreeSet<_> = parts.iter().map(|part| part.place.file().0).collect();
        known.extend(upload.shared.map(|shared| shared.file.0));
        let loose = |name: &&String| {
            u64::from_str_radix(name, 16).is_ok_and(|number| !known.contains(&number))
        };
        report.left_over.uploads += files.iter().filter(loose).count() as u64;
    }
    Ok(())
}
