//! Standing zones: machines of a tenant's own, until they are deleted.

pub mod life;
pub mod record;
