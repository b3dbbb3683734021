//! What changed in jobs since zoned was last told: names only, each once, until it is taken.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wire::job::JobId;

/// Called after each notice; wakes whoever takes them.
type Bell = Box<dyn Fn() + Send + Sync>;

/// Changes that wait to be taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Jobs whose ready tasks changed.
    pub changed: BTreeSet<JobId>,
    /// Jobs that were cancelled.
    pub cancelled: BTreeSet<JobId>,
}

#[derive(Default)]
struct Board {
    news: News,
    bell: Option<Bell>,
}

/// A board of notices. Clones share it. It is bounded by the number of jobs that are not done.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<Board>>);

impl Notices {
    fn board(&self) -> MutexGuard<'_, Board> {
        // The board holds sets of names, which no panic leaves half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the one who takes notices.
    pub fn listen(&self, bell: impl Fn() + Send + Sync + 'static) {
        self.board().bell = Some(Box::new(bell));
    }

    /// The ready tasks of this job changed.
    pub fn changed(&self, job: JobId) {
        let mut board = self.board();
        board.news.changed.insert(job);
        if let Some(bell) = &board.bell {
            bell();
        }
    }

    /// This job was cancelled.
    pub fn cancelled(&self, job: JobId) {
        self.board().news.cancelled.insert(job);
        self.changed(job);
    }

    /// Takes all notices.
    #[must_use]
    pub fn take(&self) -> News {
        std::mem::take(&mut self.board().news)
    }
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.board().news.fmt(f)
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn many_changes_of_one_job_are_one_notice() {
        let notices = Notices::default();
        let rung = Arc::new(AtomicU32::new(0));
        let bell = Arc::clone(&rung);
        notices.listen(move || {
            bell.fetch_add(1, Ordering::Relaxed);
        });
        let job = JobId(uuid::Uuid::from_u128(1));
        notices.changed(job);
        notices.cancelled(job);
        let news = notices.take();
        assert_eq!((news.changed.len(), news.cancelled.len()), (1, 1));
        assert_eq!(rung.load(Ordering::Relaxed), 2);
        assert_eq!(notices.take(), News::default());
    }
}
