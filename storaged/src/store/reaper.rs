//! The reaper: a thread that unlinks, after the commit and in the background, files whose blobs are gone.

use crate::committer::{Committer, TransactError, wait};
use crate::files::{Files, SweepError, forget};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// After a failure, how long until the next try.
const RETRY: Duration = Duration::from_secs(5);

enum Message {
    Look,
    Stop,
}

/// The thread's handle.
pub(super) struct Reaper {
    stop: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Rings when there may be something to unlink.
#[derive(Clone)]
pub(super) struct Bell(Sender<Message>);

impl Bell {
    /// A bell, and what hears it. One ring waiting is as good as many.
    pub(super) fn new() -> (Self, BellEnd) {
        let (sender, receiver) = bounded(1);
        (Self(sender), BellEnd(receiver))
    }

    pub(super) fn ring(&self) {
        match self.0.try_send(Message::Look) {
            // It rings already, or nobody is there to hear it.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// Where a bell is heard.
pub(super) struct BellEnd(Receiver<Message>);

impl Reaper {
    pub(super) fn start(
        committer: Arc<Committer>,
        files: Files,
        bell: &Bell,
        end: BellEnd,
    ) -> std::io::Result<Self> {
        let stop = bell.0.clone();
        bell.ring();
        let thread = std::thread::Builder::new()
            .name("reaper".into())
            .spawn(move || run(&committer, &files, &end.0))?;
        Ok(Self { stop, thread: Mutex::new(Some(thread)) })
    }

    /// Has it look: files that waited may go now.
    pub(super) fn look(&self) {
        Bell(self.stop.clone()).ring();
    }

    /// Ends the thread; what it has not unlinked the next start will.
    pub(super) fn stop(&self) {
        let thread = self.thread.lock().expect("no holder of this lock panics").take();
        if let Some(thread) = thread {
            // Fails if the thread is gone already, which is what is wanted.
            drop(self.stop.send(Message::Stop));
            if thread.join().is_err() {
                log::error!("the reaper's thread panicked");
            }
        }
    }
}

fn run(committer: &Committer, files: &Files, bell: &Receiver<Message>) {
    let mut retry = false;
    loop {
        let message = if retry { bell.recv_timeout(RETRY).ok() } else { bell.recv().ok() };
        match message {
            Some(Message::Stop) => return,
            None if !retry => return,
            Some(Message::Look) | None => {}
        }
        retry = false;
        loop {
            match reap(committer, files) {
                Ok(0) => break,
                // There is more, but perhaps not for us: it may be the end.
                Ok(_) if !bell.is_empty() => break,
                Ok(_) => {}
                Err(error) => {
                    log::warn!("could not unlink files of deleted objects: {error}");
                    retry = true;
                    break;
                }
            }
        }
    }
}

fn reap(committer: &Committer, files: &Files) -> Result<usize, ReapError> {
    let view = committer.view();
    let blobs = files.unlink(&*view)?;
    drop(view);
    let count = blobs.len();
    if count > 0 {
        match wait(committer.transact(forget(blobs))) {
            Ok(()) => {}
            // For this run it is over: the next start goes on.
            Err(TransactError::ReadOnly(_) | TransactError::ShutDown) => return Ok(0),
            Err(error) => return Err(ReapError::Forget(error.to_string())),
        }
    }
    Ok(count)
}

#[derive(Debug, thiserror::Error)]
enum ReapError {
    #[error(transparent)]
    Sweep(#[from] SweepError),
    #[error("{0}")]
    Forget(String),
}
