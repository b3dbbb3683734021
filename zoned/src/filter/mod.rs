//! The system-call filter of zones: [`policy`] says what is allowed, [`compile`] makes BPF of it.
//!
//! Both are pure. Most of it the nursery loads, once for all that is copied from it; zone-init adds what it
//! still needed itself, last of all its steps, and every process of the zone inherits both. What is not
//! named is answered with ENOSYS, as by an older kernel, so that libraries fall back to what is allowed;
//! what tenants might try on purpose is answered with EPERM.

pub mod compile;
mod lists;
pub mod policy;
