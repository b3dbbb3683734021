//! `put` and `get`: many files at once, each streamed, its digest checked.

use crate::args::{Get, Put};
use crate::failure::Failure;
use crate::http::{ATTEMPTS_MAX, Answer, Body, SILENT_RETRY};
use crate::name::{Name, local_path, upload_key};
use crate::output::{Screen, size, span};
use crate::s3::{self, S3};
use base64::{Engine, engine::general_purpose::STANDARD};
use indicatif::ProgressBar;
use md5::{Digest, Md5};
use serde_json::json;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Up to this size a file is read whole, so that its digests go ahead of it and the store refuses any
/// other bytes; a larger one is streamed and its digest compared afterwards.
const WHOLE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes that are moved at a time.
const CHUNK_BYTES: usize = 128 * 1024;
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

/// An object on its way to becoming a file.
#[derive(Debug)]
struct Download {
    name: Name,
    file: PathBuf,
    bytes: u64,
}

/// `mobula get`.
pub fn get(s3: &S3<'_>, screen: &Screen, get: &Get) -> Result<(), Failure> {
    if get.recursive {
        return get_below(s3, screen, get);
    }
    let name = Name::object(&get.name)?;
    let bar = screen.bytes_bar(0, &format!("get {name}"));
    let start = Instant::now();
    if get.file.as_deref() == Some(Path::new("-")) {
        let mut sink = Sink { writer: &mut io::stdout().lock(), file: None };
        fetch(&name.to_string(), &opener(s3, &name), &mut sink, &bar)?;
        bar.finish_and_clear();
        return Ok(());
    }
    let file = destination(&name, get.file.as_deref())?;
    let download = Download { name, file, bytes: 0 };
    let bytes = download_one(s3, &download, &bar, screen)?;
    bar.finish_and_clear();
    finish(screen, "fetched", Vec::new(), 1, bytes, start)
}

/// The file that an object goes into.
fn destination(name: &Name, file: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = match file {
        None => Path::new("."),
        Some(file) if file.is_dir() => file,
        Some(file) => return Ok(file.to_owned()),
    };
    let last = name.key.rsplit('/').next().unwrap_or_default();
    local_path(folder, last)
}

fn get_below(s3: &S3<'_>, screen: &Screen, get: &Get) -> Result<(), Failure> {
    let below = Name::parse(&get.name)?;
    let below = below.with_key(below.folder());
    let folder = get.file.as_deref().unwrap_or(Path::new("."));
    let start = Instant::now();
    let mut downloads = Vec::new();
    let mut failures = Vec::new();
    s3.walk(&below, false, |page| {
        for entry in page.entries {
            let rest = entry.key.strip_prefix(&below.key).unwrap_or(&entry.key);
            match local_path(folder, rest) {
                Ok(file) => {
                    let name = below.with_key(&entry.key);
                    downloads.push(Download { name, file, bytes: entry.size });
                }
                Err(failure) => failures.push(failure),
            }
        }
        Ok(())
    })?;
    let all = downloads.len() + failures.len();
    if all == 0 {
        let (what, code) = (format!("get {below}"), "NoSuchKey".to_owned());
        let message = "there is no object below it".to_owned();
        return Err(Failure::Refused { what, status: 404, code, message, hint: "" });
    }
    let total = downloads.iter().map(|download| download.bytes).sum();
    let bar = screen.bytes_bar(total, &format!("get {} objects", downloads.len()));
    failures.extend(each(&downloads, get.parallel, |download| {
        download_one(s3, download, &bar, screen).map(drop)
    }));
    bar.finish_and_clear();
    finish(screen, "fetched", failures, all, total, start)
}

/// Fetches into a temporary file beside the destination, which then takes its place at once.
fn download_one(
    s3: &S3<'_>,
    download: &Download,
    bar: &ProgressBar,
    screen: &Screen,
) -> Result<u64, Failure> {
    let file = &download.file;
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(|error| Failure::file("make", folder, error))?;
    let unwritten = |error| Failure::file("write", file, error);
    let mut builder = tempfile::Builder::new();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let builder = builder.prefix(".mobula-").permissions(mode);
    let mut temporary = builder.tempfile_in(folder).map_err(unwritten)?;
    let mut sink = Sink { writer: temporary.as_file_mut(), file: Some(file) };
    let name = &download.name;
    let bytes = fetch(&name.to_string(), &opener(s3, name), &mut sink, bar)?;
    temporary.persist(file).map_err(|error| unwritten(error.error))?;
    if screen.json {
        let name = name.to_string();
        screen
            .value(&json!({ "got": name, "file": file.display().to_string(), "bytes": bytes }))?;
    }
    Ok(bytes)
}

/// Where fetched bytes go.
pub struct Sink<'a> {
    /// Takes them.
    pub writer: &'a mut dyn Write,
    /// The file's name; standard output has none.
    pub file: Option<&'a Path>,
}

impl Sink<'_> {
    fn failure(&self, error: io::Error) -> Failure {
        match self.file {
            Some(file) => Failure::file("write", file, error),
            None => error.into(),
        }
    }
}

/// Asks for an object from byte number so-and-so, and only for the one with that entity tag if given.
pub type Open<'a> = dyn Fn(u64, Option<&str>) -> Result<Answer, Failure> + 'a;

fn opener<'a>(
    s3: &'a S3<'_>,
    name: &'a Name,
) -> impl Fn(u64, Option<&str>) -> Result<Answer, Failure> {
    move |from, etag| s3.get(name, from, etag)
}

/// Writes an object's bytes to `sink`, going on where a broken connection stopped, and checks them.
pub fn fetch(
    name: &str,
    open: &Open<'_>,
    sink: &mut Sink<'_>,
    bar: &ProgressBar,
) -> Result<u64, Failure> {
    let mut answer = open(0, None)?;
    let etag = s3::etag(&answer);
    let want = announced_md5(&answer);
    let length = answer.body().content_length();
    if bar.length() == Some(0) {
        bar.set_length(length.unwrap_or(0));
    }
    let mut digest = Md5::new();
    let mut done = 0;
    let mut attempt = 1;
    loop {
        let outcome = drain(&mut answer, sink.writer, &mut |bytes| {
            digest.update(bytes);
            done += bytes.len() as u64;
            bar.inc(bytes.len() as u64);
        });
        match (outcome, &etag) {
            (Ok(()), _) if length.is_none_or(|length| done >= length) => break,
            (Err(Broken::Sink(error)), _) => return Err(sink.failure(error)),
            (Ok(()) | Err(Broken::Source), Some(etag)) if attempt < ATTEMPTS_MAX => {
                std::thread::sleep(SILENT_RETRY);
                attempt += 1;
                answer = open(done, Some(etag))?;
            }
            (Ok(()) | Err(Broken::Source), _) => {
                let what = format!("get {name}");
                let why = format!("it ended after {done} of {} bytes", length.unwrap_or(0));
                return Err(Failure::Nonsense { what, why });
            }
        }
    }
    let got = digest.finalize();
    match want {
        Some(want) if want != got[..] => {
            let (got, want) = (hex(&got), hex(&want));
            Err(Failure::Damaged { what: format!("get {name}"), got, want })
        }
        Some(_) | None => Ok(done),
    }
}

/// The MD5 that an answer announces: `Content-MD5`, else an entity tag that is one.
fn announced_md5(answer: &Answer) -> Option<Vec<u8>> {
    let header = answer.headers().get("content-md5");
    let header = header.and_then(|value| STANDARD.decode(value.as_bytes()).ok());
    header.filter(|md5| md5.len() == 16).or_else(|| {
        let etag = s3::etag(answer).filter(|etag| s3::is_md5(etag))?;
        let byte = |at| u8::from_str_radix(&etag[at..at + 2], 16).ok();
        (0..32).step_by(2).map(byte).collect()
    })
}

enum Broken {
    Source,
    Sink(io::Error),
}

fn drain(
    answer: &mut Answer,
    sink: &mut dyn Write,
    seen: &mut dyn FnMut(&[u8]),
) -> Result<(), Broken> {
    let mut reader = answer.body_mut().as_reader();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let got = match reader.read(&mut buffer) {
            Ok(0) => return sink.flush().map_err(Broken::Sink),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Broken::Source),
        };
        sink.write_all(&buffer[..got]).map_err(Broken::Sink)?;
        seen(&buffer[..got]);
    }
}

/// Does `work` on each item, several at a time; gives the failures.
fn each<T: Sync>(
    items: &[T],
    parallel: u8,
    work: impl Fn(&T) -> Result<(), Failure> + Sync,
) -> Vec<Failure> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..usize::from(parallel).min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Err(failure) = work(item) else { continue };
                    let hopeless = matches!(failure, Failure::Unreachable { .. });
                    failures.lock().expect("no worker panics").push(failure);
                    if hopeless {
                        // Nobody is there for the others either.
                        next.store(items.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failures.into_inner().expect("no worker panics")
}

/// Says how it went.
fn finish(
    screen: &Screen,
    verb: &str,
    failures: Vec<Failure>,
    all: usize,
    bytes: u64,
    start: Instant,
) -> Result<(), Failure> {
    if failures.is_empty() && !screen.json {
        let (bytes, time) = (size(bytes), span(start.elapsed()));
        let things = if all == 1 { "object" } else { "objects" };
        screen.note(&format!("{verb} {all} {things}, {bytes} in {time}"));
    }
    Failure::summary(failures, all, "objects", |failure| screen.report(failure))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

    #[test]
    fn an_object_goes_into_a_folder_under_its_last_name() {
        let folder = folder();
        let name = Name::parse("b/x/y").unwrap();
        let inside = destination(&name, Some(folder.path())).unwrap();
        assert_eq!(inside, folder.path().join("y"));
        assert_eq!(destination(&name, Some(Path::new("/n/z"))).unwrap(), Path::new("/n/z"));
        assert!(destination(&Name::parse("b/x/..").unwrap(), None).is_err());
    }

    #[test]
    fn every_item_is_worked_on_once_and_failures_are_kept() {
        let items: Vec<u64> = (1..=100).collect();
        let sum = std::sync::atomic::AtomicU64::new(0);
        let failures = each(&items, 8, |item| {
            sum.fetch_add(*item, Ordering::Relaxed);
            if item % 10 == 0 { Err(Failure::Usage(item.to_string())) } else { Ok(()) }
        });
        assert_eq!((sum.into_inner(), failures.len()), (5050, 10));
    }
}
