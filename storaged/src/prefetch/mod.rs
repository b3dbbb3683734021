//! Reading objects ahead, in the process and cgroup that pay for their pages.
//!
//! ```text
//!   storaged: client ── Prefetch + descriptor ──▶ prefetcher: server ── sys::mapping ──▶ page cache
//!                    ◀── Done ──────────────────                └── cache: which to keep mapped
//! ```
//! A page is charged to whoever touches it first. So that a zone does not pay for an object that its neighbours
//! read too, and can't be made to thrash by its own memory limit, the prefetcher touches it before; [`share`] says
//! how much of it, and for whom no more. It never looks at a byte. Without it everything works, and pages are
//! charged where they fall.

mod cache;
pub mod client;
pub mod image;
pub mod log;
pub mod server;
mod share;

pub use client::Prefetcher;
