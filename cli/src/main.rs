//! mobula, the operator's and tenant's command: arguments in, exit status out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
