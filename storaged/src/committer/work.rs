//! A queued transaction: the closure, then its result, then the one who waits for it.

use super::TransactError;
use crate::store::Txn;
use futures_channel::oneshot;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Why a whole batch, or one transaction of it, did not happen.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Full,
    TooLarge { bytes: usize },
    ReadOnly(Arc<str>),
}

/// A transaction of any type.
pub(super) trait Work: Send {
    /// Runs the closure; whether its changes are to be kept.
    fn run(&mut self, txn: &mut Txn<'_>) -> bool;
    /// Answers.
    fn done(self: Box<Self>, failure: Option<Failure>);
}

enum State<T, E, F> {
    Waiting(F),
    Ran(Result<T, E>),
    Panicked,
}

pub(super) struct Transaction<T, E, F> {
    state: State<T, E, F>,
    reply: oneshot::Sender<Result<T, TransactError<E>>>,
}

impl<T, E, F> Transaction<T, E, F> {
    pub(super) fn new(work: F, reply: oneshot::Sender<Result<T, TransactError<E>>>) -> Self {
        Self { state: State::Waiting(work), reply }
    }
}

impl<T, E, F> Work for Transaction<T, E, F>
where
    F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn run(&mut self, txn: &mut Txn<'_>) -> bool {
        let State::Waiting(work) = std::mem::replace(&mut self.state, State::Panicked) else {
            unreachable!("a transaction is run once");
        };
        // A closure that panics must not take everyone's commits with it. What it may leave half done is
        // the transaction, which is thrown away.
        match catch_unwind(AssertUnwindSafe(|| work(txn))) {
            Ok(result) => {
                let keep = result.is_ok();
                self.state = State::Ran(result);
                keep
            }
            Err(_) => false,
        }
    }

    fn done(self: Box<Self>, failure: Option<Failure>) {
        let answer = match (failure, self.state) {
            (Some(Failure::Full), _) => Err(TransactError::Full),
            (Some(Failure::TooLarge { bytes }), _) => Err(TransactError::TooLarge { bytes }),
            (Some(Failure::ReadOnly(why)), _) => Err(TransactError::ReadOnly(why)),
            (None, State::Ran(Ok(value))) => Ok(value),
            (None, State::Ran(Err(error))) => Err(TransactError::Refused(error)),
            (None, State::Panicked) => Err(TransactError::Panicked),
            (None, State::Waiting(_)) => Err(TransactError::ShutDown),
        };
        // Whoever asked may have gone away; what was committed stays.
        drop(self.reply.send(answer));
    }
}
