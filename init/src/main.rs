//! PID 1 and supervisor, and noded, the machine's configuration brain.
#![forbid(unsafe_code)]

fn main() {}
