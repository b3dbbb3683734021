//! The appliance, proven: what is needed to boot it, speak to it, break it and look inside.
//!
//! Stories are told by the binary `stories`; this library holds its tools, each tested by itself.
#![forbid(unsafe_code)]

pub mod agent;
pub mod appliance;
pub mod blocklog;
pub mod build;
pub mod clients;
pub mod cuts;
pub mod load;
pub mod local;
pub mod manta;
pub mod output;
pub mod recorded;
pub mod s3;
pub mod sigv4;
pub mod tarball;
pub mod uploads;
pub mod usage;
pub mod zoned;
