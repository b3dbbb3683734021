//! Zones and the tasks that run in them: zoned, which makes and watches zones, and zone-init, which is
//! PID 1 in each.
//!
//! zoned runs attempts and holds nothing that can't be rebuilt: jobs belong to storaged. It never
//! touches the bytes of objects. Decisions are pure ([`scheduler`], [`attempt`], [`filter`]); acting on
//! them is thin ([`daemon`], [`zone`], [`carve`]).
#![forbid(unsafe_code)]

pub mod account;
pub mod args;
pub mod attempt;
pub mod carve;
pub mod daemon;
pub mod damage;
pub mod disk;
pub mod events;
pub mod failpoint;
pub mod filter;
pub mod images;
pub mod import;
pub mod inside;
pub mod link;
pub mod manifest;
pub mod meter;
mod metering;
pub mod network;
pub mod nursery;
pub mod publisher;
mod room;
mod running;
pub mod scheduler;
pub mod slot;
pub mod standing;
mod status;
mod tasks;
mod warm;
mod written;
pub mod zone;

/// An error and all that caused it, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
