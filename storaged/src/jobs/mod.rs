//! Jobs.
pub mod progress;
