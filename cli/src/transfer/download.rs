//! `get`: objects become files, each of which takes its place at once and whole.

use super::{each, finish, hex};
use crate::args::Get;
use crate::failure::Failure;
use crate::http::{ATTEMPTS_MAX, Answer, SILENT_RETRY};
use crate::name::{Name, local_path};
use crate::output::Screen;
use crate::s3::{self, S3};
use base64::{Engine, engine::general_purpose::STANDARD};
use indicatif::ProgressBar;
use md5::{Digest, Md5};
use serde_json::json;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes that are moved at a time.
const CHUNK_BYTES: usize = 128 * 1024;

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
    let start = Instant::now();
    if get.file.as_deref() == Some(Path::new("-")) {
        let mut sink = Sink { writer: &mut io::stdout().lock(), file: None };
        let bar = screen.stdout_bar(&format!("get {name}"));
        fetch(&name.to_string(), &opener(s3, &name), &mut sink, &bar)?;
        bar.finish_and_clear();
        return Ok(());
    }
    let bar = screen.bytes_bar(0, &format!("get {name}"));
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

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_object_goes_into_a_folder_under_its_last_name() {
        let folder = tempfile::tempdir().unwrap();
        let name = Name::parse("b/x/y").unwrap();
        let inside = destination(&name, Some(folder.path())).unwrap();
        assert_eq!(inside, folder.path().join("y"));
        assert_eq!(destination(&name, Some(Path::new("/n/z"))).unwrap(), Path::new("/n/z"));
        assert!(destination(&Name::parse("b/x/..").unwrap(), None).is_err());
    }
}
