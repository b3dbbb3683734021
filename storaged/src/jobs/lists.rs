//! The lists of a job, line by line, as they are read while it is kept and as they are put away with it.

use super::key::List;
use super::{Jobs, JobsError};
use crate::store::AccountId;
use wire::job::JobId;

/// Which list of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Its inputs.
    Inputs,
    /// Its outputs.
    Outputs,
    /// The job inputs of its errors.
    Failures,
    /// Its errors, a JSON document a line.
    Errors,
}

impl Which {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Inputs, Self::Outputs, Self::Failures, Self::Errors];

    /// The list's content type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Inputs | Self::Outputs | Self::Failures => "text/plain",
            Self::Errors => "application/x-json-stream; type=job-error",
        }
    }

    /// The file that holds it beside the outputs of a job that is put away, as with Manta.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Inputs => "in.txt",
            Self::Outputs => "out.txt",
            Self::Failures => "fail.txt",
            Self::Errors => "err.txt",
        }
    }
}

impl Jobs {
    /// At most `max` entries of a list, each with its number, from number `from` on. An entry may be empty: it is no
    /// line then.
    ///
    /// # Errors
    /// [`JobsError::NoSuchJob`], or what the index says.
    pub fn lines(
        &self,
        account: AccountId,
        id: JobId,
        which: Which,
        from: u64,
        max: usize,
    ) -> Result<Vec<(u64, String)>, JobsError> {
        let names = |list| self.names(account, id, list, from, max);
        let errors = || self.errors(account, id, from, max);
        match which {
            Which::Inputs => names(List::Inputs),
            Which::Outputs => names(List::Outputs),
            Which::Failures => {
                let lines = errors()?.into_iter().map(|(number, error)| {
                    (number, error.p0input.or(error.input).unwrap_or_default())
                });
                Ok(lines.collect())
            }
            Which::Errors => {
                let lines = errors()?.into_iter().map(|(number, error)| {
                    let line = serde_json::to_string(&error);
                    (number, line.expect("an error is texts, which have a JSON form"))
                });
                Ok(lines.collect())
            }
        }
    }
}
