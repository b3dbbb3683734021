//! A job's inputs: names, prefixes and standard input, sent on in pieces as they are found.

use super::spec::full_name;
use crate::failure::Failure;
use crate::manta::Manta;
use crate::name::Name;
use crate::output::Screen;
use crate::s3::S3;
use std::io::BufRead;
use wire::job::{JobId, JobSpec, PhaseKind};

/// The most bytes of names in one request: well below what any front accepts as a body, and about a
/// thousand names.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// The most bytes in one name: an account, the area, a bucket and a key.
const NAME_BYTES_MAX: usize = 2048;

/// Makes the job, adds its inputs and ends its input; gives the job and the number of its inputs.
///
/// The job is made when the first piece of input is at hand, so that a name that is wrong from the start
/// leaves nothing behind. If something fails later, the job is cancelled.
pub fn submit(
    manta: &Manta<'_>,
    s3: &S3<'_>,
    screen: &Screen,
    spec: &JobSpec,
    inputs: &[String],
) -> Result<(JobId, u64), Failure> {
    let first_is_map = spec.phases.first().is_some_and(|phase| phase.kind == PhaseKind::Map);
    if inputs.is_empty() && first_is_map {
        let message =
            "the job has no input: name objects, a prefix BUCKET/PREFIX/, or `-`".to_owned();
        return Err(Failure::Usage(message));
    }
    let mut job = None;
    let spinner = screen.spinner("inputs");
    let outcome = feed(manta, s3, inputs, |piece| {
        let job = match job {
            Some(job) => job,
            None => *job.insert(manta.create(spec)?),
        };
        spinner.inc(piece.len() as u64);
        if piece.is_empty() { Ok(()) } else { manta.add_inputs(job, piece) }
    });
    let count = spinner.position();
    spinner.finish_and_clear();
    let Some(job) = job else {
        outcome?;
        unreachable!("the last piece, empty or not, made the job");
    };
    match outcome.and_then(|()| manta.end_input(job)) {
        Ok(()) => Ok((job, count)),
        Err(failure) => {
            if let Err(second) = manta.cancel(job) {
                screen.note(&format!("job {job} could not be cancelled: {}", second.chain()));
            }
            Err(failure)
        }
    }
}

/// Names that wait to be sent.
#[derive(Default)]
struct Piece {
    names: Vec<String>,
    bytes: usize,
}

impl Piece {
    /// Adds a name; gives the piece to `send` first, if it would become too large.
    fn push(
        &mut self,
        name: String,
        send: &mut impl FnMut(&[String]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.bytes + name.len() > PIECE_BYTES_MAX {
            send(&self.names)?;
            *self = Self::default();
        }
        self.bytes += name.len() + 1;
        self.names.push(name);
        Ok(())
    }
}

/// Gives `send` the inputs piece by piece, in their order; the last piece may be empty.
fn feed(
    manta: &Manta<'_>,
    s3: &S3<'_>,
    inputs: &[String],
    mut send: impl FnMut(&[String]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut piece = Piece::default();
    let account = manta.account;
    for input in inputs {
        if input == "-" {
            for line in names(&mut std::io::stdin().lock()) {
                piece.push(full_name(&line?, account)?, &mut send)?;
            }
        } else if input.ends_with('/') && !input.starts_with('/') {
            let prefix = Name::parse(input)?;
            let mut any = false;
            s3.walk(&prefix, false, |page| {
                for entry in page.entries {
                    any = true;
                    let name = prefix.with_key(entry.key).to_string();
                    piece.push(full_name(&name, account)?, &mut send)?;
                }
                Ok(())
            })?;
            if !any {
                return Err(Failure::Refused {
                    what: format!("list {input}"),
                    status: 404,
                    code: "NoSuchKey".to_owned(),
                    message: "there is no object below it".to_owned(),
                    hint: "",
                });
            }
        } else {
            piece.push(full_name(input, account)?, &mut send)?;
        }
    }
    send(&piece.names)
}

/// The lines of a list of names, without empty ones.
fn names(list: &mut dyn BufRead) -> impl Iterator<Item = Result<String, Failure>> {
    let next = move || loop {
        let mut line = Vec::new();
        let mut limited = std::io::Read::take(&mut *list, NAME_BYTES_MAX as u64 + 1);
        let wrong = |why: &str| {
            Some(Err(Failure::Usage(format!("a name on standard input {why}: one a line"))))
        };
        match limited.read_until(b'\n', &mut line) {
            Err(error) => {
                let what = "read names".to_owned();
                return Some(Err(Failure::Source { what, source: error }));
            }
            Ok(0) => return None,
            Ok(_) if line.len() > NAME_BYTES_MAX => return wrong("is too long"),
            Ok(_) => {}
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        match std::str::from_utf8(text) {
            Ok("") => {}
            Ok(text) => return Some(Ok(text.to_owned())),
            Err(_) => return wrong("is not UTF-8"),
        }
    };
    std::iter::from_fn(next)
}

#[cfg(test)]
mod test {
    use super::*;

    fn read(text: &[u8]) -> Vec<Option<String>> {
        let mut text = text;
        let mut failed = false;
        names(&mut text)
            .take_while(|name| !std::mem::replace(&mut failed, name.is_err()))
            .map(Result::ok)
            .collect()
    }

    #[test]
    fn names_end_with_either_line_break_or_the_end() {
        let want = ["a/b", "c/d", "e"].map(|name| Some(name.to_owned()));
        assert_eq!(read(b"a/b\r\n\nc/d\ne"), want);
    }

    #[test]
    fn an_endless_line_and_bad_bytes_are_refused() {
        assert_eq!(read(&[b'x'; NAME_BYTES_MAX + 1])[0], None);
        assert_eq!(read(b"\xff\n"), [None]);
    }

    #[test]
    fn pieces_stay_below_the_limit_and_lose_nothing() {
        let mut sent: Vec<Vec<String>> = Vec::new();
        let mut send = |names: &[String]| {
            sent.push(names.to_vec());
            Ok(())
        };
        let mut piece = Piece::default();
        for number in 0..5000 {
            piece.push(format!("/ada/stor/logs/{number:06}"), &mut send).unwrap();
        }
        send(&piece.names).unwrap();
        let size = |names: &Vec<String>| names.iter().map(|name| name.len() + 1).sum::<usize>();
        assert!(sent.iter().all(|names| size(names) <= PIECE_BYTES_MAX + NAME_BYTES_MAX));
        let all: Vec<_> = sent.concat();
        assert_eq!((all.len(), all[4999].as_str()), (5000, "/ada/stor/logs/004999"));
    }
}
