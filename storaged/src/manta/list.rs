//! Lists as bodies that are read from the index page by page while they are sent: a list of a million
//! lines is never in memory.

use crate::jobs::lists::Which;
use crate::jobs::{Jobs, JobsError};
use crate::store::AccountId;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use wire::job::JobId;

/// Lines read at a time: a page is read on the ring's thread and must be quick.
const PAGE: usize = 256;

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
    /// When it is not there.
    pub fn new(
        jobs: Jobs,
        account: AccountId,
        job: JobId,
        which: Which,
    ) -> Result<Self, JobsError> {
        jobs.view(account, job)?;
        Ok(Self { jobs, account, job, which, next: Some(0) })
    }

    fn page(&self, from: u64) -> Result<Vec<(u64, String)>, JobsError> {
        self.jobs.lines(self.account, self.job, self.which, from, PAGE)
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
