//! What Mobula's daemons say to each other, and the data they share.
//!
//! Data only: messages, their framing, their limits. This crate opens no socket, reads no file and
//! asks no clock, so that whatever it does can be tested, and fuzzed, by calling it. A message is one
//! [`frame::Frame`] on a `SOCK_SEQPACKET` Unix socket, its file descriptors beside it (`SCM_RIGHTS`).
#![forbid(unsafe_code)]

pub mod account;
pub mod admin;
pub mod carve;
pub mod frame;
pub mod job;
pub mod kernel;
pub mod machine;
pub mod node;
pub mod prefetch;
pub mod service;
pub mod session;
pub mod standing;
pub mod task;
pub mod zone;
