//! The object store: S3 and Manta fronts on io_uring, a journal, an index, sealed files.
#![forbid(unsafe_code)]

fn main() {}
