//! What zoned has on disk, and the threads that put it there.
//!
//! When tenants keep the disk busy, a sync takes seconds, and so may whatever else the filesystem's journal has to
//! take in. The daemon's loop waits for none of it: it hands a [`Job`] to a [`Worker`] and goes on, and what hangs
//! on the job is done when the worker's descriptor tells that it is over.
//!
//! ```text
//!   loop ── jobs, at the end of a turn ──▶ queue ── batch ──▶ disk
//!     ▲                                                        │
//!     └────── descriptor ◀── results, in the order of the jobs ┘
//! ```
//!
//! [`file`] replaces record files durably, [`tree`] removes folders, [`batch`] decides what shares a sync,
//! [`worker`] is the thread. Nobody is told that something is on disk before the worker has said so; what failed is
//! not tried again.

pub mod batch;
pub mod file;
pub mod tree;
pub mod worker;

pub use file::{FileError, Replacement};
pub use worker::{Job, Worker, WorkerError};
