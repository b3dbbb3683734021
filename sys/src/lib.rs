//! The kernel, wrapped once: one module a facility, one safe function a meaning.
//!
//! This is the only crate of the workspace that may hold `unsafe` code; a module that needs it opts
//! in at its top with `#![allow(unsafe_code)]`, and every block carries a proof. Functions take and
//! give `OwnedFd` and `BorrowedFd`, never integers, and name the man page and the kernel they need.
//! The crate decides nothing: policy lives in the daemons.

pub mod activation;
pub mod arena;
pub mod attempt;
pub mod bpf;
pub mod caps;
pub mod clock;
pub mod clone;
pub mod event;
pub mod file;
pub mod host;
pub mod landlock;
pub mod lease;
pub mod listen;
pub mod mapping;
pub mod md5;
pub mod module;
pub mod mount;
pub mod mountfd;
pub mod namespace;
pub mod netlink;
pub mod partition;
pub mod power;
pub mod priority;
pub mod probe;
pub mod process;
pub mod project;
pub mod pty;
pub mod quota;
pub mod ring;
pub mod seccomp;
pub mod seqpacket;
pub mod sha256;
pub mod signal;
pub mod socket;
pub mod text;
pub mod transfer;
pub mod udp;
pub mod verity;
pub mod wait;
pub mod xattr;
