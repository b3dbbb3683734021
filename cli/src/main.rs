//! mobula, the operator's and tenant's command.
#![forbid(unsafe_code)]

fn main() {}
