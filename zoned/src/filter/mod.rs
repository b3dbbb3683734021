//! The system-call filter of zones: [`policy`] says what is allowed, [`compile`] makes BPF of it.
//!
//! Both are pure. zone-init loads the result once, last of all its steps, and every process of the zone
//! inherits it. What is not named is answered with ENOSYS, as by an older kernel, so that libraries fall
//! back to what is allowed; what tenants might try on purpose is answered with EPERM.

pub mod compile;
mod lists;
pub mod policy;
