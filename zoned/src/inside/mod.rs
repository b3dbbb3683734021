//! What zone-init does: makes the zone from within, then is PID 1 in it for one task.
//!
//! This module has the control socket and the beginning and the end of a zone; between them runs a task ([`task`]),
//! or a machine stands until it is told to end ([`standing`]). How it went goes to zoned, which acknowledges it;
//! only then does this process end, and the zone with it. When zoned goes away this process ends at once, and the
//! kernel kills the rest.

pub mod build;
mod damage;
pub mod desk;
pub mod feeder;
pub mod log;
pub mod nursery;
pub mod privileges;
mod program;
pub mod publish;
mod resolver;
mod session;
mod standing;
pub mod system;
mod task;

use self::nursery::Newborn;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use sys::activation;
use sys::seqpacket::{RecvError, SendError, Socket, SocketError};
use thiserror::Error;
use wire::frame::{Frame, FrameError, Kind, encode};
use wire::zone::{Order, Outcome, Plan, Report};

/// Why zone-init ended without having done its work.
#[derive(Debug, Error)]
pub enum InsideError {
    /// It was started by hand.
    #[error("there is no control socket: this program is started by zoned, and only by it")]
    NoControl,
    /// It is not the first process of a PID namespace.
    #[error("this program is PID 1 of a zone and of nothing else")]
    NotFirst,
    /// What was inherited makes no sense.
    #[error("cannot take the control socket")]
    Activation(#[from] activation::ActivationError),
    /// zoned said something else than what was to come.
    #[error("zoned sent {got} where {expected} was expected")]
    Unexpected {
        /// What came.
        got: String,
        /// What should have.
        expected: &'static str,
    },
    /// zoned went away.
    #[error("zoned has closed the control socket")]
    Gone,
    /// A message that is none.
    #[error("zoned sent a damaged message")]
    Frame(#[from] FrameError),
    /// No message came.
    #[error("cannot hear zoned")]
    Receive(#[from] RecvError),
    /// No message went.
    #[error("cannot tell zoned")]
    Send(#[from] SendError),
    /// The zone could not be made.
    #[error("cannot make the zone")]
    Build(#[from] build::BuildError),
    /// Its programs would have nobody to ask.
    #[error("cannot listen in the zone")]
    Listen(#[from] SocketError),
    /// Privileges could not be given up.
    #[error("cannot give up privileges")]
    Privileges(#[from] privileges::PrivilegeError),
    /// A call failed.
    #[error("cannot {act}")]
    Call {
        /// What was tried.
        act: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn call<T, E: Into<io::Error>>(act: &'static str, result: Result<T, E>) -> Result<T, InsideError> {
    result.map_err(|source| InsideError::Call { act, source: source.into() })
}

/// Runs as the nursery, and in each process that is copied from it as PID 1 of a zone, until its end.
///
/// # Errors
/// [`InsideError`], if zoned could not be told.
pub fn run() -> Result<(), InsideError> {
    let socket = activation::listeners()?
        .into_iter()
        .find(|(name, _)| name == nursery::NURSERY)
        .map(|(_, fd)| Socket::from(fd))
        .ok_or(InsideError::NoControl)?;
    let place = std::env::args_os().nth(1).ok_or(InsideError::NoControl)?;
    let newborn = nursery::serve(&socket, Path::new(&place))?;
    // A zone has no use for it, nor anybody in one.
    drop(socket);
    match newborn {
        Some(newborn) => first_process(newborn),
        None => Ok(()),
    }
}

/// Runs as PID 1 of a zone until its task is over.
fn first_process(newborn: Newborn) -> Result<(), InsideError> {
    // It kills every process it can see at the end: never do that on a node.
    if nix::unistd::getpid() != Pid::from_raw(1) {
        return Err(InsideError::NotFirst);
    }
    let Newborn { control, image } = newborn;
    match work(&control, image) {
        Ok(()) => Ok(()),
        Err(InsideError::Gone) => Err(InsideError::Gone),
        Err(error) => {
            let outcome = Outcome::Broken { message: crate::chain(&error) };
            finish(&control, &outcome)
        }
    }
}

/// The zone's whole life, as the first order says.
fn work(control: &Socket, image: OwnedFd) -> Result<(), InsideError> {
    match receive(control)? {
        (Order::Build(plan), fds) => {
            let stdin = prepare(&plan, image.as_fd(), fds)?;
            drop(image);
            task::run_all(control, stdin)
        }
        (Order::Stand(plan), fds) => standing::run(control, *plan, image, fds),
        (order, _) => Err(unexpected(&order, "Build or Stand")),
    }
}

/// Makes the zone and gives up everything that is not needed to run in it; gives a map's stdin.
fn prepare(
    plan: &Plan,
    image: BorrowedFd<'_>,
    mut fds: Vec<OwnedFd>,
) -> Result<Option<OwnedFd>, InsideError> {
    if fds.len() < 2 {
        return Err(InsideError::Unexpected {
            got: format!("{} descriptors", fds.len()),
            expected: "two namespaces and a mount for each file",
        });
    }
    let mounts = fds.split_off(2);
    let (users, network) = (&fds[0], &fds[1]);
    let stdin = build::build(plan, image, users.as_fd(), network.as_fd(), mounts)?;
    privileges::give_up(users.as_fd(), privileges::Kind::Task)?;
    Ok(stdin)
}

/// Kills and reaps everything else in the zone, then tells zoned how it went and waits for its answer.
fn finish(control: &Socket, outcome: &Outcome) -> Result<(), InsideError> {
    call("kill the zone's processes", empty_zone())?;
    let over = Report::Over(outcome.clone());
    tell(control, &over)?;
    loop {
        match receive(control) {
            Ok((Order::Acknowledged, _)) | Err(InsideError::Gone) => return Ok(()),
            // A zoned that was started again: the one before it may have heard how it went, and told nobody.
            Ok((Order::Who, _)) => tell(control, &over)?,
            // They were on their way; there is nobody left to have them.
            Ok((
                Order::Run(_)
                | Order::Inputs { .. }
                | Order::Terminate
                | Order::Exec(_)
                | Order::EndSession { .. }
                | Order::Published { .. }
                | Order::NotPublished { .. },
                _,
            )) => {}
            Ok((order, _)) => return Err(unexpected(&order, "Acknowledged")),
            Err(error) => return Err(error),
        }
    }
}

/// Returns once this process is alone in its PID namespace.
fn empty_zone() -> nix::Result<()> {
    // Whoever loses its parent in here becomes this process's child: without a child it is alone, and has
    // nothing to kill.
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(WaitStatus::StillAlive) => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(error),
    }
    loop {
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn tell(control: &Socket, report: &Report) -> Result<(), InsideError> {
    Ok(control.send(&encode(Kind::Push, 0, report, 0)?, &[])?)
}

fn receive(control: &Socket) -> Result<(Order, Vec<OwnedFd>), InsideError> {
    let mut message = Vec::new();
    let fds = control.recv(&mut message)?.ok_or(InsideError::Gone)?;
    Ok((Frame::parse(&message, fds.len())?.body()?, fds))
}

fn unexpected(order: &Order, expected: &'static str) -> InsideError {
    let got = match order {
        Order::Build(_) => "Build",
        Order::Run(_) => "Run",
        Order::Inputs { .. } => "Inputs",
        Order::Acknowledged => "Acknowledged",
        Order::Stay => "Stay",
        Order::Stand(_) => "Stand",
        Order::Who => "Who",
        Order::Terminate => "Terminate",
        Order::Exec(_) => "Exec",
        Order::EndSession { .. } => "EndSession",
        Order::Published { .. } => "Published",
        Order::NotPublished { .. } => "NotPublished",
    };
    InsideError::Unexpected { got: got.to_owned(), expected }
}
