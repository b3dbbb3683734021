//! The object store: S3 and Manta fronts on io_uring, a journal, an index, sealed files.
//!
//! ```text
//!   fronts ──▶ store ──▶ committer ──▶ journal (the truth) ──▶ index (its view)
//!                 └────▶ files (objects above the inline threshold, sealed)
//! ```
#![forbid(unsafe_code)]

pub mod accounts;
pub mod args;
pub mod calendar;
pub mod certificate;
pub mod check;
pub mod committer;
mod daemon;
pub mod events;
pub mod files;
pub mod format;
pub mod front;
pub mod hourly;
pub mod index;
pub mod jobs;
pub mod journal;
pub mod lifecycle;
pub mod manifest;
pub mod manta;
pub mod metrics;
pub mod prefetch;
pub mod publish;
pub mod s3;
pub mod scrub;
pub mod snapshot;
pub mod store;
pub mod tools;
pub mod wire_server;

pub use daemon::run;
