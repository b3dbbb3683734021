//! `put`: files, folders and standard input become objects.

use super::{each, finish, hex};
use crate::args::Put;
use crate::failure::Failure;
use crate::http::Body;
use crate::name::{Name, upload_key};
use crate::output::Screen;
use crate::s3::{self, S3};
use indicatif::ProgressBar;
use md5::{Digest, Md5};
use serde_json::json;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

/// Up to this size a file is read whole, so that its digests go ahead of it and the store refuses any
/// other bytes; a larger one is streamed and its digest compared afterwards.
const WHOLE_BYTES_MAX: u64 = 1024 * 1024;
/// The deepest folder that `put -r` goes into, so that a loop of mounts comes to an end.
const DEPTH_MAX: usize = 128;

/// A file on its way to becoming an object.
#[derive(Debug, PartialEq, Eq)]
struct Upload {
    file: PathBuf,
    name: Name,
    bytes: u64,
}

/// `mobula put`.
pub fn put(s3: &S3<'_>, screen: &Screen, put: &Put) -> Result<(), Failure> {
    let (target, files) = put.names.split_last().expect("clap asks for two names or more");
    let target = Name::parse(target)?;
    // Standard input has no length, which a PUT announces: it waits in a file without a name.
    let input = spool(files)?;
    let uploads =
        plan(&target, files, put.recursive, input.as_ref().map(|(path, _)| path.as_path()))?;
    if put.make_bucket {
        s3.make_bucket(&target.with_key(""), true)?;
    }
    let start = Instant::now();
    let total = uploads.iter().map(|upload| upload.bytes).sum();
    let bar = screen.bytes_bar(total, &format!("put {} objects", uploads.len()));
    let kind = put.content_type.as_deref();
    let failures = each(&uploads, put.parallel, |upload| {
        let etag = upload_one(s3, upload, kind, &bar)?;
        if screen.json {
            let (name, bytes) = (upload.name.to_string(), upload.bytes);
            screen.value(&json!({ "put": name, "bytes": bytes, "etag": etag }))?;
        }
        Ok(())
    });
    bar.finish_and_clear();
    finish(screen, "put", failures, uploads.len(), total, start)
}

/// Reads standard input into a temporary file, if it is among the files.
fn spool(files: &[String]) -> Result<Option<(PathBuf, tempfile::NamedTempFile)>, Failure> {
    match files.iter().filter(|file| *file == "-").count() {
        0 => return Ok(None),
        1 => {}
        _ => return Err(Failure::Usage("standard input (-) can be stored once only".to_owned())),
    }
    let folder = std::env::temp_dir();
    let in_folder = |error| Failure::file("write standard input below", &folder, error);
    let mut file = tempfile::NamedTempFile::new().map_err(in_folder)?;
    io::copy(&mut io::stdin().lock(), &mut file).map_err(in_folder)?;
    Ok(Some((file.path().to_owned(), file)))
}

/// What is stored under which name.
fn plan(
    target: &Name,
    files: &[String],
    recursive: bool,
    input: Option<&Path>,
) -> Result<Vec<Upload>, Failure> {
    let mut uploads = Vec::new();
    for text in files {
        let (file, named) = match input {
            Some(input) if text == "-" => (input, false),
            _ => (Path::new(text), true),
        };
        let about = file.metadata().map_err(|error| Failure::file("read", file, error))?;
        if about.is_dir() {
            if !recursive {
                let message = format!("{file:?} is a folder: add -r to store what is in it");
                return Err(Failure::Usage(message));
            }
            walk(file, &target.with_key(target.folder()), 0, &mut uploads)?;
            continue;
        }
        if !named && (target.key.is_empty() || target.key.ends_with('/')) {
            let message = "standard input has no name: write the whole BUCKET/KEY".to_owned();
            return Err(Failure::Usage(message));
        }
        let several = files.len() > 1 || recursive;
        let key = upload_key(target, file, several)?;
        let name = target.with_key(key);
        uploads.push(Upload { file: file.to_owned(), name, bytes: about.len() });
    }
    let mut keys = HashSet::new();
    if let Some(twice) = uploads.iter().find(|upload| !keys.insert(&upload.name.key)) {
        let name = &twice.name;
        return Err(Failure::Usage(format!("two of the files would be stored as {name}")));
    }
    Ok(uploads)
}

/// All files below a folder, by their paths below it, in order. Links to folders are not followed.
fn walk(
    folder: &Path,
    target: &Name,
    depth: usize,
    found: &mut Vec<Upload>,
) -> Result<(), Failure> {
    if depth > DEPTH_MAX {
        let message = format!("{folder:?} is more than {DEPTH_MAX} folders deep: is it a loop?");
        return Err(Failure::Usage(message));
    }
    let unread = |error| Failure::file("read", folder, error);
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.map_err(unread)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type().map_err(unread)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(Failure::Usage(format!("the name of {path:?} is not UTF-8: rename it")));
        };
        let key = format!("{}{name}", target.key);
        if kind.is_dir() {
            walk(&path, &target.with_key(format!("{key}/")), depth + 1, found)?;
            continue;
        }
        let about = path.metadata().map_err(|error| Failure::file("read", &path, error))?;
        // Pipes, sockets and devices have no bytes that could be stored.
        if about.is_file() {
            let name = target.with_key(key);
            found.push(Upload { file: path, name, bytes: about.len() });
        }
    }
    Ok(())
}

fn upload_one(
    s3: &S3<'_>,
    upload: &Upload,
    kind: Option<&str>,
    bar: &ProgressBar,
) -> Result<String, Failure> {
    let unread = |error| Failure::file("read", &upload.file, error);
    if upload.bytes <= WHOLE_BYTES_MAX {
        let file = File::open(&upload.file).map_err(unread)?;
        let mut bytes = Vec::new();
        file.take(WHOLE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unread)?;
        if bytes.len() as u64 <= WHOLE_BYTES_MAX {
            let md5 = Md5::digest(&bytes);
            let etag = s3.put(&upload.name, Body::Bytes(&bytes), Some(&md5), kind)?;
            bar.inc(upload.bytes);
            return Ok(etag);
        }
    }
    let digest = Mutex::new(Md5::new());
    let sent = Mutex::new(0_u64);
    let mut open = || -> Result<Box<dyn Read + '_>, Failure> {
        let file = File::open(&upload.file).map_err(unread)?;
        *digest.lock().expect("no reader panics") = Md5::new();
        let before = std::mem::take(&mut *sent.lock().expect("no reader panics"));
        bar.set_position(bar.position().saturating_sub(before));
        Ok(Box::new(Watched { reader: file, digest: &digest, sent: &sent, bar }))
    };
    let body = Body::Stream { length: upload.bytes, open: &mut open };
    let etag = s3.put(&upload.name, body, None, kind)?;
    let ours = hex(&digest.into_inner().expect("no reader panics").finalize());
    if s3::is_md5(&etag) && etag != ours {
        let what = format!("put {}", upload.name);
        return Err(Failure::Damaged { what, got: etag, want: ours });
    }
    Ok(etag)
}

/// A reader that keeps the digest, and the bar, of what went through it.
struct Watched<'a> {
    reader: File,
    digest: &'a Mutex<Md5>,
    sent: &'a Mutex<u64>,
    bar: &'a ProgressBar,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.digest.lock().expect("no reader panics").update(&buffer[..got]);
        *self.sent.lock().expect("no reader panics") += got as u64;
        self.bar.inc(got as u64);
        Ok(got)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        std::fs::write(folder.path().join("d/b"), "22").unwrap();
        std::fs::write(folder.path().join("a"), "1").unwrap();
        folder
    }

    fn planned(files: &[&str], target: &str, recursive: bool) -> Result<Vec<String>, Failure> {
        let files: Vec<_> = files.iter().map(|file| (*file).to_owned()).collect();
        let uploads = plan(&Name::parse(target)?, &files, recursive, None)?;
        Ok(uploads.iter().map(|upload| format!("{} {}", upload.name, upload.bytes)).collect())
    }

    #[test]
    fn a_folder_is_stored_by_the_paths_below_it() {
        let folder = folder();
        let path = folder.path().to_str().unwrap();
        assert_eq!(planned(&[path], "b/p", true).unwrap(), ["b/p/a 1", "b/p/d/b 2"]);
        assert_eq!(planned(&[path], "b", true).unwrap(), ["b/a 1", "b/d/b 2"]);
    }

    #[test]
    fn a_folder_without_r_and_two_files_of_one_name_are_refused() {
        let folder = folder();
        let path = folder.path().to_str().unwrap();
        assert!(matches!(planned(&[path], "b", false), Err(Failure::Usage(_))));
        let file = format!("{path}/a");
        assert!(matches!(planned(&[&file, &file], "b", false), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = planned(&["/nowhere/x"], "b/k", false).unwrap_err();
        assert!(failure.chain().contains("/nowhere/x"));
    }
}
