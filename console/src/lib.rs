//! consoled: the admin API, JSON over HTTP, for `mobula node` and whatever else looks after a node.
//!
//! ```text
//!   client ── HTTP, bearer token ──▶ consoled ── wire ──▶ init, storaged, zoned
//! ```
//!
//! One thread and one event loop. consoled owns no state: it asks the daemons for each request, with a
//! deadline, and says which of them is away and what to do. It runs as a user of its own, opens no file
//! but the token and init's kernel report, and is the only daemon here whose address an administrator
//! gives to others, so everything that a client can make it do has a named limit.
#![forbid(unsafe_code)]

mod accounts;
mod activation;
mod answer;
mod body;
mod daemon;
mod logs;
mod metrics;
mod node;
mod problem;
mod route;
mod serve;
mod token;
mod zones;

use clap::Parser;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// How consoled is started.
#[derive(Debug, Clone, Parser)]
#[command(name = "consoled", version, about = "The admin API of a Mobula node")]
pub struct Options {
    /// Where to listen, if no supervisor hands over a socket named `admin`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The file that holds the token
    #[arg(long, value_name = "FILE", default_value = "/run/mobula/admin-token")]
    pub token_file: PathBuf,
    /// The folder of the daemons' sockets and of the kernel report
    #[arg(long, value_name = "DIR", default_value = "/run/mobula")]
    pub run: PathBuf,
    /// Where storaged tells its numbers
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9101")]
    pub store_metrics: SocketAddr,
    /// Where the data disk is mounted
    #[arg(long, value_name = "DIR", default_value = "/data")]
    pub data: PathBuf,
}

/// Why consoled cannot run.
#[derive(Debug, Error)]
pub enum RunError {
    /// No socket, or a wrong one.
    #[error("consoled has no socket to listen on")]
    Listen(#[from] activation::ListenError),
    /// The event loop cannot start or go on.
    #[error("consoled's event loop failed")]
    Loop(#[from] io::Error),
    /// The supervisor gave an ear that does not hear.
    #[error("the supervisor's NOTIFY_SOCKET cannot be written")]
    Notify(#[source] io::Error),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`] if it cannot begin; once it serves, nothing that a client or a daemon does ends it.
pub fn run(options: &Options) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = activation::listener(options.listen)?;
        let address = listener.local_addr()?;
        eprintln!("consoled: listening on {address}");
        activation::notify("READY=1").map_err(RunError::Notify)?;
        serve::until_told(listener, options).await?;
        activation::notify("STOPPING=1").map_err(RunError::Notify)?;
        Ok(())
    })
}

/// Says on standard error what went wrong, with all reasons.
pub fn complain(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    eprintln!("consoled: {text}");
}
