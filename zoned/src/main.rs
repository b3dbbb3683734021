//! Zones and the tasks that run in them.
#![forbid(unsafe_code)]

fn main() {}
