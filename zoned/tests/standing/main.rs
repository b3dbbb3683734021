//! Standing zones on this host: real zones, a small init, a storaged of a few lines.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod accounts;
mod ahead;
mod attacks;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod crash;
mod density;
mod images;
mod inside;
mod life;
mod machine;
mod metered;
mod network;
mod objects;
#[path = "../common/program.rs"]
mod program;
mod publish;
mod slow;
