//! How a command fails: one type, and the exit status each failure has.

use crate::output::many;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thiserror::Error;

/// The most failures of one command that are told one by one: a screenful.
const REPORTED_MAX: usize = 20;

/// What the process tells its parent. The numbers are stable: scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All of it was done.
    Ok = 0,
    /// Something failed that none of the others names.
    Failed = 1,
    /// The command line, the environment or the configuration is wrong.
    Usage = 2,
    /// A bucket, object or job does not exist.
    NotFound = 3,
    /// The keys or the token were refused.
    Denied = 4,
    /// The endpoint, or the daemon behind it, cannot be reached.
    Unreachable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do all of what it was asked.
#[derive(Debug, Error)]
pub enum Failure {
    /// What the user said cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// The service refused, in its own words.
    #[error("{what}: {message} ({code}, HTTP {status}){hint}")]
    Refused {
        /// What was asked for.
        what: String,
        /// HTTP's status.
        status: u16,
        /// The service's word for it.
        code: String,
        /// The service's explanation.
        message: String,
        /// What to do next, with a separator before it, or nothing.
        hint: &'static str,
    },
    /// Nobody answers there.
    #[error("cannot reach {endpoint}: is the appliance up, and is this its address (see --help)?")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// What the network says.
        source: Box<ureq::Error>,
    },
    /// The connection broke.
    #[error("{what}: the connection to {endpoint} broke")]
    Broken {
        /// What was asked for.
        what: String,
        /// Where.
        endpoint: String,
        /// What the network says.
        source: Box<ureq::Error>,
    },
    /// What was to be sent could not be read.
    #[error("{what}: cannot read what was to be sent")]
    Source {
        /// What was asked for.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// The answer is not what the protocol asks for.
    #[error("{what}: the answer makes no sense: {why}")]
    Nonsense {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The bytes are not those that were stored.
    #[error(
        "{what}: damaged on the way: MD5 {got}, {want} was expected; nothing was kept, try again"
    )]
    Damaged {
        /// What was transferred.
        what: String,
        /// The digest of what came.
        got: String,
        /// The digest announced.
        want: String,
    },
    /// A local file cannot be read or written.
    #[error("cannot {verb} {path:?}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Stdout(#[from] io::Error),
    /// Some of many went wrong, each already reported.
    #[error("{failed} of {all} {things} failed, see above for the first of them")]
    Some {
        /// How many failed.
        failed: usize,
        /// Of how many.
        all: usize,
        /// Of what, in the plural.
        things: &'static str,
        /// What they all say, or the first of them.
        exit: Exit,
    },
    /// The node answers, and the daemon that was asked for does not.
    #[error("{0}")]
    Away(String),
    /// A zone is not where it was sent, or an image not what it was to be.
    #[error("{0}")]
    Zone(String),
    /// A job ended with errors, already shown.
    #[error("job {job} ended with {}: `mobula job errors {job}` shows all", many(*errors, "error"))]
    Job {
        /// Which job.
        job: String,
        /// How many errors.
        errors: u64,
    },
    /// A job was cancelled while it was waited for.
    #[error("job {job} was cancelled")]
    Cancelled {
        /// Which job.
        job: String,
    },
}

/// A failure as `--json` prints it.
#[derive(Serialize)]
pub struct FailureView {
    /// The whole chain of reasons.
    pub message: String,
    /// The service's word for it, if a service refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The exit status that follows.
    pub exit: u8,
}

impl Failure {
    /// A failure at a local file.
    pub fn file(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { verb, path: path.to_owned(), source }
    }

    /// The exit status that this failure asks for.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Refused { status: 404, .. } => Exit::NotFound,
            Self::Refused { status: 401 | 403, .. } => Exit::Denied,
            Self::Refused { status: 503, .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Away(_) => Exit::Unreachable,
            Self::Some { exit, .. } => *exit,
            Self::Refused { .. }
            | Self::Source { .. }
            | Self::Nonsense { .. }
            | Self::Damaged { .. }
            | Self::File { .. }
            | Self::Stdout(_)
            | Self::Zone(_)
            | Self::Job { .. }
            | Self::Cancelled { .. } => Exit::Failed,
        }
    }

    /// Whether the reader of our standard output has gone.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Stdout(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The message and the reasons behind it, on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }

    /// The failure as data.
    pub fn view(&self) -> FailureView {
        let code = match self {
            Self::Refused { code, .. } => Some(code.clone()),
            _ => None,
        };
        FailureView { message: self.chain(), code, exit: self.exit() as u8 }
    }

    /// What went wrong with several things at once: nothing if `failures` is empty, the failure itself
    /// if there was one thing, else a summary.
    pub fn summary(
        mut failures: Vec<Self>,
        all: usize,
        things: &'static str,
        report: impl Fn(&Self),
    ) -> Result<(), Self> {
        if all == 1 && failures.len() == 1 {
            return failures.pop().map_or(Ok(()), Err);
        }
        let Some(first) = failures.first() else { return Ok(()) };
        let exit = first.exit();
        let exit = if failures.iter().all(|f| f.exit() == exit) { exit } else { Exit::Failed };
        failures.iter().take(REPORTED_MAX).for_each(report);
        Err(Self::Some { failed: failures.len(), all, things, exit })
    }
}

/// What to do about an error code that has a usual cause.
pub fn hint(code: &str) -> &'static str {
    match code {
        "InvalidAccessKeyId" | "KeyDoesNotExist" => {
            "; check the access key (--access-key, MOBULA_ACCESS_KEY, access_key in mobula.toml)"
        }
        "SignatureDoesNotMatch" | "InvalidSignature" => {
            "; check the secret key (--secret-key, MOBULA_SECRET_KEY, secret_key in mobula.toml)"
        }
        "RequestTimeTooSkewed" => {
            "; the clocks differ: compare `date -u` with the clock in `mobula node status`"
        }
        "NoSuchBucket" => "; make it with `mobula mb`, or let `mobula put -p` do so",
        "BucketNotEmpty" => "; empty it first: `mobula rm -r BUCKET`",
        _ => "",
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn refused(status: u16) -> Failure {
        let (what, code, message) = (String::new(), String::new(), String::new());
        Failure::Refused { what, status, code, message, hint: "" }
    }

    #[test]
    fn the_exit_status_tells_refusals_apart() {
        let exits = [404, 401, 403, 503, 500, 409].map(|status| refused(status).exit() as u8);
        assert_eq!(exits, [3, 4, 4, 5, 1, 1]);
    }

    #[test]
    fn a_mistake_on_the_command_line_is_2() {
        assert_eq!(Failure::Usage(String::new()).exit() as u8, 2);
    }

    #[test]
    fn many_that_fail_alike_keep_their_status_and_others_do_not() {
        let alike = Failure::summary(vec![refused(404), refused(404)], 3, "objects", |_| ());
        assert_eq!(alike.unwrap_err().exit(), Exit::NotFound);
        let mixed = Failure::summary(vec![refused(404), refused(403)], 3, "objects", |_| ());
        assert_eq!(mixed.unwrap_err().exit(), Exit::Failed);
        assert!(Failure::summary(Vec::new(), 3, "objects", |_| ()).is_ok());
    }

    #[test]
    fn the_chain_names_what_the_system_said() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let text = Failure::file("read", Path::new("/x"), source).chain();
        assert_eq!(text, "cannot read \"/x\": permission denied");
    }
}
