//! consoled: the admin API.
#![forbid(unsafe_code)]

fn main() {}
