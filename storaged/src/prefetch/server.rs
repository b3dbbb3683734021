//! The prefetcher itself: a thread for each connection, answering in turn. It owns the mappings and
//! nothing else; storaged is the only one that connects, once for each of its threads, and whoever may
//! ask for status.

use super::cache::Cache;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sys::activation::{self, ActivationError};
use sys::mapping::Populated;
use sys::seqpacket::{Listener, RecvError, SendError, Socket, SocketError};
use thiserror::Error;
use wire::frame::{Frame, FrameError, Kind, Refusal, encode};
use wire::prefetch::{IMAGES_MAX, MAPPED_BYTES_MAX, OBJECT_BYTES_MAX, OBJECTS_MAX, Reply, Request};

/// Connections at a time, and threads: storaged's 8, one for each image, and a few that ask for status.
const CONNECTIONS_MAX: usize = 32 + IMAGES_MAX;
/// The users that may connect besides root and the prefetcher's own: storaged and consoled.
const USERS: [u32; 2] = [200, 202];
/// The socket's mode: who may connect is decided by [`USERS`].
const SOCKET_MODE: u32 = 0o666;

/// Why the prefetcher ended.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The supervisor's descriptors are not as announced.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// No socket to listen at.
    #[error("no socket to listen at: give --wire PATH, or start it with a socket named \"wire\"")]
    NoSocket,
    /// The socket could not be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The supervisor or the kernel refused something.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// Why a connection ended.
#[derive(Debug, Error)]
enum Dropped {
    #[error(transparent)]
    Recv(#[from] RecvError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it sent a {0:?}, which nobody sends here")]
    Kind(Kind),
    #[error("it sent a Prefetch or an Image with {0} descriptors, one is needed")]
    Descriptors(usize),
}

#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

struct State {
    cache: Cache<Populated>,
    connections: usize,
    /// Of them those that hold images, and ask for no object.
    images: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is whole before anything in it could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens where the supervisor says, else at `path`, and serves until it fails.
///
/// # Errors
/// [`ServeError`], when there is nothing to listen at.
pub fn run(path: Option<PathBuf>) -> Result<(), ServeError> {
    let handed = activation::listeners()?.into_iter().find(|(name, _)| name == "wire");
    let listener = match (handed, path) {
        (Some((_, fd)), _) => Listener::from_fd(fd),
        (None, Some(path)) => Listener::bind(&path, SOCKET_MODE)?,
        (None, None) => return Err(ServeError::NoSocket),
    };
    let ready = activation::notify("READY=1");
    ready.map_err(|source| ServeError::Io { doing: "tell the supervisor", source })?;
    serve(&listener)
}

/// Serves at `listener` until accepting fails.
///
/// # Errors
/// [`ServeError::Io`].
pub fn serve(listener: &Listener) -> Result<(), ServeError> {
    let cache = Cache::new(MAPPED_BYTES_MAX, OBJECTS_MAX);
    let shared = Shared(Arc::new(Mutex::new(State { cache, connections: 0, images: 0 })));
    loop {
        let accepted = listener.accept();
        let socket = accepted.map_err(|source| ServeError::Io { doing: "accept", source })?;
        let Some(socket) = socket else { continue };
        if let Err(why) = admit(&socket, &shared) {
            log::warn!("a connection was refused: {why}");
            continue;
        }
        let state = shared.clone();
        let thread = std::thread::Builder::new().spawn(move || {
            // Held until the connection is over.
            let mut images = Vec::new();
            if let Err(why) = converse(&socket, &state, &mut images) {
                log::warn!("a connection was dropped: {why}");
            }
            leave(&state, !images.is_empty());
        });
        if let Err(error) = thread {
            log::warn!("a connection was refused: no thread for it: {error}");
            leave(&shared, false);
        }
    }
}

fn admit(socket: &Socket, shared: &Shared) -> Result<(), String> {
    let peer = socket.peer().map_err(|error| error.to_string())?;
    let own = nix::unistd::geteuid().as_raw();
    if peer.uid != 0 && peer.uid != own && !USERS.contains(&peer.uid) {
        return Err(format!("user {} may not ask for anything here", peer.uid));
    }
    let mut state = shared.lock();
    if state.connections >= CONNECTIONS_MAX {
        return Err(format!("there are {CONNECTIONS_MAX} already"));
    }
    state.connections += 1;
    Ok(())
}

/// The last one that asked for objects lets go of them: what storaged held is over when storaged is.
fn leave(shared: &Shared, held_image: bool) {
    let mut state = shared.lock();
    state.connections -= 1;
    state.images -= usize::from(held_image);
    if state.connections == state.images {
        state.cache.clear();
    }
}

fn converse(
    socket: &Socket,
    shared: &Shared,
    images: &mut Vec<Vec<Populated>>,
) -> Result<(), Dropped> {
    let mut message = Vec::new();
    while let Some(fds) = socket.recv(&mut message)? {
        let frame = Frame::parse(&message, fds.len())?;
        if frame.kind != Kind::Request {
            return Err(Dropped::Kind(frame.kind));
        }
        let answer = match frame.body()? {
            Request::Prefetch { id, length } => prefetch(shared, id, length, fds)?,
            Request::Release { id } => {
                drop(shared.lock().cache.remove(id));
                Ok(Reply::Released)
            }
            Request::Image => {
                if images.is_empty() {
                    shared.lock().images += 1;
                }
                // Another one on the same connection takes its place.
                *images = vec![Vec::new()];
                image(fds)?.map(|mappings| {
                    let bytes = mappings.iter().map(|mapping| mapping.length().get() as u64).sum();
                    *images = vec![mappings];
                    Reply::Done { bytes }
                })
            }
            Request::Status => Ok(Reply::Status(shared.lock().cache.status())),
        };
        let answer = match answer {
            Ok(reply) => encode(Kind::Reply, frame.id, &reply, 0)?,
            Err(refusal) => encode(Kind::Refusal, frame.id, &refusal, 0)?,
        };
        socket.send(&answer, &[])?;
    }
    Ok(())
}

fn image(fds: Vec<OwnedFd>) -> Result<Result<Vec<Populated>, Refusal>, Dropped> {
    let [root] = <[OwnedFd; 1]>::try_from(fds).map_err(|fds| Dropped::Descriptors(fds.len()))?;
    Ok(super::image::read(root.as_fd()).map_err(|error| {
        let message = format!("an image's root: {error}");
        log::warn!("{message}");
        Refusal { code: "CannotRead".to_owned(), message }
    }))
}

fn prefetch(
    shared: &Shared,
    id: u64,
    length: u64,
    fds: Vec<OwnedFd>,
) -> Result<Result<Reply, Refusal>, Dropped> {
    let [fd] = <[OwnedFd; 1]>::try_from(fds).map_err(|fds| Dropped::Descriptors(fds.len()))?;
    if let Some(bytes) = shared.lock().cache.touch(id) {
        return Ok(Ok(Reply::Done { bytes }));
    }
    let bytes = length.min(OBJECT_BYTES_MAX);
    let some = usize::try_from(bytes).ok().and_then(NonZeroUsize::new);
    let Some(some) = some else { return Ok(Ok(Reply::Done { bytes: 0 })) };
    // Not under the lock: this waits for the disk.
    match Populated::map(fd.as_fd(), some) {
        Ok(mapping) => {
            shared.lock().cache.insert(id, bytes, mapping);
            Ok(Ok(Reply::Done { bytes }))
        }
        Err(error) => {
            let reason =
                std::error::Error::source(&error).map_or(String::new(), |e| format!(": {e}"));
            let message = format!("object file {id}: {error}{reason}");
            Ok(Err(Refusal { code: "CannotRead".to_owned(), message }))
        }
    }
}
