//! `storaged`: the object store's daemon. Everything is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    storaged::run()
}
