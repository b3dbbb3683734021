//! Names of objects as jobs spell them: read, and made for outputs.
//!
//! A name is `/login/area/path`. As with Manta, `//` counts as `/` and a last `/` as nothing. `.` and
//! `..` are refused: no path in a zone could show them.

use crate::store::{AccountId, Area, ObjectPath, PathError};
use thiserror::Error;
use uuid::{Builder, Uuid};
use wire::job::{JobId, PhaseKind};

/// The most bytes in a name that is an input of a job. With what each of the phases adds, an output's
/// path stays below [`crate::store::PATH_BYTES_MAX`].
pub const NAME_BYTES_MAX: usize = 2048;
/// The most bytes in a piece of a path (`NAME_MAX` of Linux).
const PIECE_BYTES_MAX: usize = 255;
/// What a shortened piece of a path ends with.
const SHORTENED: &str = "_...";

/// A name that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Whose object it is.
    pub login: String,
    /// Under which top directory.
    pub area: Area,
    /// What follows; empty for the top directory itself.
    pub path: String,
}

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not `/login/area/…`.
    #[error("it must be /LOGIN/stor/… or another top directory")]
    Shape,
    /// `.`, `..` or a byte 0 in it.
    #[error("it must not hold \".\", \"..\" or a zero byte")]
    Piece,
    /// Over [`NAME_BYTES_MAX`].
    #[error("it is over {NAME_BYTES_MAX} bytes long")]
    TooLong,
}

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        Self::parse_long(text)
    }

    /// Reads a name of any length: those of outputs grow with each phase.
    ///
    /// # Errors
    /// [`NameError::Shape`] and [`NameError::Piece`].
    pub fn parse_long(text: &str) -> Result<Self, NameError> {
        let rest = text.strip_prefix('/').ok_or(NameError::Shape)?;
        let mut pieces = rest.split('/').filter(|piece| !piece.is_empty());
        let (Some(login), Some(area)) = (pieces.next(), pieces.next()) else {
            return Err(NameError::Shape);
        };
        let area = Area::from_name(area).ok_or(NameError::Shape)?;
        let pieces: Vec<&str> = pieces.collect();
        if pieces.iter().any(|piece| matches!(*piece, "." | "..") || piece.contains('\0')) {
            return Err(NameError::Piece);
        }
        Ok(Self { login: login.to_owned(), area, path: pieces.join("/") })
    }

    /// The object's path in `account`, which is [`Self::login`]'s.
    ///
    /// # Errors
    /// [`PathError::Empty`] for a top directory.
    pub fn object(&self, account: AccountId) -> Result<ObjectPath, PathError> {
        ObjectPath::new(account, self.area, self.path.as_bytes())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}/{}", self.login, self.area.name())?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

/// A task as the names of its outputs show it: the same for each attempt, unlike any other task's.
#[must_use]
pub fn task_id(job: JobId, phase: usize, number: u64) -> Uuid {
    let mut bytes = *job.0.as_bytes();
    bytes[7] = u8::try_from(phase).expect("a job has at most 16 phases");
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// The most bytes of an output's name before phase and task: the whole must be a key that S3 can ask for, at
/// most 1024 bytes, with room for what a task adds to `MANTA_OUTPUT_BASE`.
const STEM_BYTES_MAX: usize = 900;

/// What the names of a task's outputs start with: all but `<task>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputBase {
    stem: String,
    phase: usize,
    task: Uuid,
}

impl OutputBase {
    /// For a task of `kind`. `origin` is the job's input from which its input came; where none is known
    /// (behind a reduce phase), the name of the input itself is used, without the job's own directory.
    #[must_use]
    pub fn new(
        login: &str,
        job: JobId,
        kind: PhaseKind,
        (phase, number): (usize, u64),
        origin: Option<&str>,
        input: Option<&str>,
    ) -> Self {
        let directory = directory(login, job);
        let name = match (kind, origin, input) {
            (PhaseKind::Map, Some(name), _) => name,
            (PhaseKind::Map, None, Some(input)) => input.strip_prefix(&directory).unwrap_or(input),
            (PhaseKind::Map, None, None) | (PhaseKind::Reduce, _, _) => "/reduce",
        };
        let mut stem = format!("{directory}{name}");
        // The task's number tells it from others, however much of the name is left.
        stem.truncate(stem.floor_char_boundary(STEM_BYTES_MAX));
        Self { stem, phase, task: task_id(job, phase, number) }
    }

    /// The output object's name.
    #[must_use]
    pub fn stdout(&self) -> String {
        format!("{}{}", self.prefix(), self.task)
    }

    /// The name of the object that holds the stderr of a failed task.
    #[must_use]
    pub fn stderr(&self) -> String {
        format!("{}.{}.err.{}", self.stem, self.phase, self.task)
    }

    /// `MANTA_OUTPUT_BASE`: a name is made by adding to it.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}.{}.", self.stem, self.phase)
    }
}

/// Where a job's outputs stand, without a slash at the end.
#[must_use]
pub fn directory(login: &str, job: JobId) -> String {
    format!("/{login}/jobs/{job}/stor")
}

/// The path below `/manta` at which a zone shows the object of this name: the name, but for pieces that
/// no Linux path may have.
#[must_use]
pub fn in_zone(name: &str) -> String {
    let pieces = name.split('/').map(|piece| {
        if piece.len() <= PIECE_BYTES_MAX {
            return piece.to_owned();
        }
        let kept = piece.floor_char_boundary(PIECE_BYTES_MAX - SHORTENED.len());
        format!("{}{SHORTENED}", &piece[..kept])
    });
    pieces.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const JOB: JobId = JobId(Uuid::from_bytes([0xab; 16]));

    #[test]
    fn a_name_is_read_as_manta_reads_it() {
        let name = Name::parse("//ann/stor//logs/a.txt/").unwrap();
        assert_eq!(name.to_string(), "/ann/stor/logs/a.txt");
        assert_eq!(Name::parse("ann/stor/a"), Err(NameError::Shape));
        assert_eq!(Name::parse("/ann/elsewhere/a"), Err(NameError::Shape));
        assert_eq!(Name::parse("/ann/stor/../bob"), Err(NameError::Piece));
    }

    #[test]
    fn outputs_are_named_after_the_jobs_input() {
        let base = |kind, at, origin, input| OutputBase::new("ann", JOB, kind, at, origin, input);
        let map = base(PhaseKind::Map, (1, 5), Some("/ann/stor/b/k.txt"), Some("/x"));
        let expected = format!("/ann/jobs/{JOB}/stor/ann/stor/b/k.txt.1.{}", task_id(JOB, 1, 5));
        assert_eq!(map.stdout(), expected);
        assert!(map.stderr().contains("k.txt.1.err."));
        let reduce = base(PhaseKind::Reduce, (2, 0), None, None);
        assert!(reduce.stdout().starts_with(&format!("/ann/jobs/{JOB}/stor/reduce.2.")));
        let after = base(PhaseKind::Map, (3, 0), None, Some(&reduce.stdout()));
        assert!(after.stdout().starts_with(&format!("{}.3.", reduce.stdout())));
    }

    proptest! {
        #[test]
        fn an_output_s_name_can_be_asked_for_whatever_its_input_s(name in "/ann/stor/[aä/]{0,1100}") {
            let base = OutputBase::new("ann", JOB, PhaseKind::Map, (15, u64::MAX), Some(&name), None);
            for output in [base.stdout(), base.stderr()] {
                prop_assert!(output.len() <= 1000, "{} bytes", output.len());
                prop_assert!(Name::parse(&output).is_ok());
            }
        }

        #[test]
        fn tasks_have_names_of_their_own(a in 0..1_u64 << 62, b in 0..1_u64 << 62, p in 0..16_usize) {
            prop_assert_eq!(task_id(JOB, p, a) == task_id(JOB, p, b), a == b);
            prop_assert_ne!(task_id(JOB, p, a), task_id(JOB, (p + 1) % 16, a));
        }

        #[test]
        fn a_name_that_was_read_reads_the_same_again(text in "/{0,2}[a-c./]{0,12}/stor/[a-cä./]{0,40}") {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(Name::parse(&name.to_string()), Ok(name));
            }
        }

        #[test]
        fn every_piece_fits_a_path_in_the_zone(name in "/[aä]{0,600}/[ab]{0,10}") {
            prop_assert!(in_zone(&name).split('/').all(|piece| piece.len() <= PIECE_BYTES_MAX));
        }
    }
}
