//! What a zone's command wrote: the files that zone-init keeps, a line each.
//!
//! zone-init writes two bounded files in turn. A file is known by device and inode; one that has become
//! shorter was begun again. What is written between two looks and already overwritten is lost, and the log
//! goes on with the oldest that there still is.

use super::events::{AWAY_MAX, AWAY_PAUSE};
use super::{ask, line, stray};
use crate::answer::{Answer, lines};
use crate::body::Page;
use crate::daemon::{Daemon, Link};
use crate::problem::Problem;
use crate::serve::Context;
use bytes::Bytes;
use hyper::StatusCode;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc::Sender, watch};
use tokio::time::{Instant, sleep};
use wire::admin::LogLine;
use wire::standing::{ZoneName, ZoneReply, ZoneRequest};

/// The wait between two looks at a log that has not grown.
const LOOK_PAUSE: Duration = Duration::from_millis(300);
/// Bytes that are read at once.
const PIECE_BYTES: usize = 32 * 1024;
/// The most bytes in one line of an answer; a longer one goes on in the next.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Answers with the last lines, and goes on if asked to.
pub async fn tell(
    mut link: Link,
    name: ZoneName,
    last: Option<u32>,
    follow: bool,
    context: &Context,
) -> Result<Answer, Problem> {
    let place = context.follower()?;
    let kept = files(&mut link, &name).await?;
    let at = begin(&kept, last).map_err(|error| unreadable(&name, &error))?;
    let (out, page) = Page::stream(place);
    let teller = Teller { name, at, text: Lines::default(), out };
    let (run, stopping) = (context.options.run.clone(), context.stopping.clone());
    if follow {
        context.lasts();
    }
    tokio::spawn(teller.run(link, kept, follow, run, stopping));
    Ok(lines(page))
}

async fn files(link: &mut Link, name: &ZoneName) -> Result<Vec<File>, Problem> {
    match ask(link, ZoneRequest::Log(name.clone())).await? {
        (ZoneReply::Log { files }, fds) if fds.len() == files as usize => {
            Ok(fds.into_iter().map(File::from).collect())
        }
        (other, _) => Err(stray(&other)),
    }
}

fn unreadable(name: &ZoneName, error: &io::Error) -> Problem {
    let message =
        format!("the log of {name} cannot be read ({error}): see `mobula node logs zoned`");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "LogUnreadable", message)
}

/// A file, as it is told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id {
    device: u64,
    inode: u64,
}

/// Up to where a log has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    file: Id,
    offset: u64,
}

/// A file to read, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    file: usize,
    from: u64,
}

/// What there is to read after `at`, in files of these sizes, oldest first.
fn plan(at: Option<Place>, files: &[(Id, u64)]) -> Vec<Step> {
    let known = at.and_then(|at| {
        let file = files.iter().position(|(id, _)| *id == at.file)?;
        // One that became shorter was begun again, and so it is the newest.
        Some(Step { file, from: if files[file].1 < at.offset { 0 } else { at.offset } })
    });
    let first = known.unwrap_or(Step { file: 0, from: 0 });
    let later = (first.file + 1..files.len()).map(|file| Step { file, from: 0 });
    let steps = std::iter::once(first).chain(later);
    steps.filter(|step| files.get(step.file).is_some_and(|(_, size)| *size > step.from)).collect()
}

fn about(files: &[File]) -> io::Result<Vec<(Id, u64)>> {
    let about = |file: &File| {
        let about = file.metadata()?;
        Ok((Id { device: about.dev(), inode: about.ino() }, about.size()))
    };
    files.iter().map(about).collect()
}

/// Where the last lines begin; nothing is the beginning of all.
fn begin(files: &[File], last: Option<u32>) -> io::Result<Option<Place>> {
    let Some(last) = last else { return Ok(None) };
    let mut breaks = 0_u64;
    let mut buffer = vec![0; PIECE_BYTES];
    for (at, (file, size)) in about(files)?.into_iter().enumerate().rev() {
        let mut end = size;
        while end > 0 {
            let begin = end.saturating_sub(PIECE_BYTES as u64);
            let piece = &mut buffer[..usize::try_from(end - begin).unwrap_or(PIECE_BYTES)];
            files[at].read_exact_at(piece, begin)?;
            for (place, byte) in piece.iter().enumerate().rev() {
                let offset = begin + place as u64 + 1;
                // The break at the very end belongs to the last line.
                let ends_all = at + 1 == files.len() && offset == size;
                if *byte == b'\n' && !(ends_all && last > 0) {
                    breaks += 1;
                    if breaks >= u64::from(last.max(1)) {
                        return Ok(Some(Place { file, offset }));
                    }
                }
            }
            end = begin;
        }
    }
    Ok(None)
}

/// Bytes on their way to being lines.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes bytes in, and gives the lines that they end.
    fn take(&mut self, bytes: &[u8]) -> Vec<LogLine> {
        self.rest.extend_from_slice(bytes);
        let mut lines = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            pieces(&self.rest[begin..begin + length], &mut lines);
            begin += length + 1;
        }
        self.rest.drain(..begin);
        while self.rest.len() > LINE_BYTES_MAX {
            let end = whole(&self.rest[..LINE_BYTES_MAX]);
            lines.push(LogLine { text: text(&self.rest[..end]), cut: true });
            self.rest.drain(..end);
        }
        lines
    }

    /// What there is of a line that has not ended, such as a prompt.
    fn begun(&mut self) -> Option<LogLine> {
        let end = whole(&self.rest);
        if end == 0 {
            return None;
        }
        let begun = LogLine { text: text(&self.rest[..end]), cut: true };
        self.rest.drain(..end);
        Some(begun)
    }
}

fn pieces(mut rest: &[u8], lines: &mut Vec<LogLine>) {
    while rest.len() > LINE_BYTES_MAX {
        let end = whole(&rest[..LINE_BYTES_MAX]);
        lines.push(LogLine { text: text(&rest[..end]), cut: true });
        rest = &rest[end..];
    }
    lines.push(LogLine { text: text(rest), cut: false });
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How many bytes there are without a letter at the end of which only the beginning is there.
fn whole(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let at = bytes.len() - back;
        let needs = match bytes[at] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => break,
        };
        return if needs > back { at } else { bytes.len() };
    }
    bytes.len()
}

/// Reads on and tells.
struct Teller {
    name: ZoneName,
    at: Option<Place>,
    text: Lines,
    out: Sender<Bytes>,
}

impl Teller {
    async fn run(
        mut self,
        mut link: Link,
        mut kept: Vec<File>,
        follow: bool,
        run: PathBuf,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut heard = Instant::now();
        loop {
            let told = match self.once(&kept).await {
                Ok(Some(told)) => told,
                Ok(None) => return,
                Err(error) => return self.end(unreadable(&self.name, &error)).await,
            };
            if !told && let Some(begun) = self.text.begun() {
                if self.out.send(line(&begun)).await.is_err() {
                    return;
                }
            } else if !follow && !told {
                return;
            }
            if !follow {
                continue;
            }
            tokio::select! {
                () = sleep(if told { Duration::ZERO } else { LOOK_PAUSE }) => {}
                () = self.out.closed() => return,
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            match files(&mut link, &self.name).await {
                Ok(found) => {
                    kept = found;
                    heard = Instant::now();
                }
                Err(problem) if problem.is_refusal() || heard.elapsed() > AWAY_MAX => {
                    return self.end(problem).await;
                }
                Err(_) => {
                    sleep(AWAY_PAUSE).await;
                    if let Ok(found) = Link::open(Daemon::Zoned, &run).await {
                        link = found;
                    }
                }
            }
        }
    }

    /// The last line says why it is the last; if nobody reads it, nobody asks.
    async fn end(&self, problem: Problem) {
        drop(self.out.send(line(&problem.words())).await);
    }

    /// Tells what there is now, and says whether there was anything; nothing if nobody reads any more.
    async fn once(&mut self, kept: &[File]) -> io::Result<Option<bool>> {
        let known = about(kept)?;
        let steps = plan(self.at, &known);
        let mut buffer = vec![0; PIECE_BYTES];
        for step in &steps {
            let (file, size) = known[step.file];
            let mut offset = step.from;
            while offset < size {
                let most = usize::try_from(size - offset).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
                let got = kept[step.file].read_at(&mut buffer[..most], offset)?;
                if got == 0 {
                    break;
                }
                offset += got as u64;
                let mut text = Vec::new();
                for told in self.text.take(&buffer[..got]) {
                    text.extend_from_slice(&line(&told));
                }
                if !text.is_empty() && self.out.send(text.into()).await.is_err() {
                    return Ok(None);
                }
            }
            self.at = Some(Place { file, offset });
        }
        Ok(Some(!steps.is_empty()))
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const A: Id = Id { device: 1, inode: 1 };
    const B: Id = Id { device: 1, inode: 2 };

    fn at(file: Id, offset: u64) -> Option<Place> {
        Some(Place { file, offset })
    }

    #[test]
    fn a_log_goes_on_where_it_was_left() {
        assert_eq!(plan(None, &[]), []);
        assert_eq!(plan(None, &[(A, 5)]), [Step { file: 0, from: 0 }]);
        assert_eq!(plan(at(A, 5), &[(A, 5)]), []);
        assert_eq!(plan(at(A, 5), &[(A, 9)]), [Step { file: 0, from: 5 }]);
        let both = [Step { file: 0, from: 5 }, Step { file: 1, from: 0 }];
        assert_eq!(plan(at(A, 5), &[(A, 9), (B, 3)]), both);
    }

    #[test]
    fn a_file_begun_again_is_told_from_its_beginning() {
        assert_eq!(plan(at(A, 5), &[(B, 9), (A, 2)]), [Step { file: 1, from: 0 }]);
        let all = [Step { file: 0, from: 0 }];
        assert_eq!(plan(at(A, 5), &[(B, 9)]), all, "what is gone is gone");
    }

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn the_last_lines_are_counted_over_all_files() {
        let files = [file("1\n2\n"), file("3\n4\n")];
        let ids: Vec<_> = about(&files).unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(begin(&files, Some(1)).unwrap(), at(ids[1], 2));
        assert_eq!(begin(&files, Some(2)).unwrap(), at(ids[0], 4));
        assert_eq!(begin(&files, Some(3)).unwrap(), at(ids[0], 2));
        assert_eq!(begin(&files, Some(9)).unwrap(), None);
        assert_eq!(begin(&files, Some(0)).unwrap(), at(ids[1], 4));
        assert_eq!(begin(&[file("1\n2")], Some(1)).unwrap().unwrap().offset, 2);
    }

    #[test]
    fn letters_are_not_torn() {
        let mut lines = Lines::default();
        assert!(lines.take("x\u{e9}".as_bytes().split_at(2).0).is_empty());
        assert_eq!(lines.begun().unwrap().text, "x");
        assert_eq!(lines.take(b"\xa9\n"), [LogLine { text: "\u{e9}".to_owned(), cut: false }]);
        assert!(lines.begun().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn whatever_the_pieces_the_text_is_the_same(
            text in "([a-zé€\u{1f600}\n]|[a-z]{3000}){0,20}", cut in 1_usize..9000
        ) {
            let mut lines = Lines::default();
            let mut told = String::new();
            let mut add = |line: LogLine| {
                assert!(line.text.len() <= LINE_BYTES_MAX);
                told.push_str(&line.text);
                if !line.cut {
                    told.push('\n');
                }
            };
            for piece in text.as_bytes().chunks(cut) {
                lines.take(piece).into_iter().for_each(&mut add);
                lines.begun().into_iter().for_each(&mut add);
            }
            prop_assert_eq!(told, text);
        }
    }
}
