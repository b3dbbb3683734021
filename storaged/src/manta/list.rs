//! Lists as bodies that are read from the index page by page while they are sent: a list of a million
//! lines is never in memory.

use super::error::MantaError;
use crate::jobs::key::List;
use crate::jobs::{Jobs, JobsError};
use crate::store::AccountId;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use wire::job::JobId;

/// Lines read at a time: a page is read on the ring's thread and must be quick.
const PAGE: usize = 256;

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
    /// The list's content type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Inputs | Self::Outputs | Self::Failures => "text/plain",
            Self::Errors => "application/x-json-stream; type=job-error",
        }
    }
}

/// A job's list on its way out.
pub struct ListBody {
    jobs: Jobs,
    account: AccountId,
    job: JobId,
    which: Which,
    next: Option<u64>,
}

impl ListBody {
    /// A job's list; the job is looked for here.
    ///
    /// # Errors
    /// What to answer if it is not there.
    pub fn new(
        jobs: Jobs,
        account: AccountId,
        job: JobId,
        which: Which,
    ) -> Result<Self, MantaError> {
        jobs.view(account, job)?;
        Ok(Self { jobs, account, job, which, next: Some(0) })
    }

    fn page(&self, from: u64) -> Result<Vec<(u64, String)>, JobsError> {
        let names = |list| self.jobs.names(self.account, self.job, list, from, PAGE);
        let errors = || self.jobs.errors(self.account, self.job, from, PAGE);
        match self.which {
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

impl Body for ListBody {
    type Data = Bytes;
    type Error = JobsError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, JobsError>>> {
        let Some(from) = self.next else { return Poll::Ready(None) };
        let page = match self.page(from) {
            Ok(page) => page,
            Err(error) => {
                self.next = None;
                return Poll::Ready(Some(Err(error)));
            }
        };
        self.next = match page.last() {
            Some((last, _)) if page.len() == PAGE => Some(last + 1),
            Some(_) | None => None,
        };
        let mut text = String::new();
        for (_, line) in page.iter().filter(|(_, line)| !line.is_empty()) {
            text.push_str(line);
            text.push('\n');
        }
        if text.is_empty() && self.next.is_none() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }
}
