//! Having images read ahead by the prefetcher, which pays for what zones share.
//!
//! Each mounted image has a connection of its own: over it goes the image's root, and as long as it is open
//! the prefetcher keeps the image's programs mapped. Nobody waits for an answer, and without a prefetcher
//! zones pay for the pages that they are the first to read.

use crate::chain;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sys::seqpacket::{RecvError, Socket};
use wire::frame::{Kind, encode};
use wire::prefetch::{IMAGES_MAX, Request};

/// The wait after a try that failed: the prefetcher is started again within a second.
const RETRY: Duration = Duration::from_secs(2);

/// The images that are read ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The prefetcher's socket.
    prefetcher: Option<PathBuf>,
    held: BTreeMap<String, Socket>,
    failed: Option<Instant>,
}

impl Ahead {
    pub(super) const fn new(prefetcher: Option<PathBuf>) -> Self {
        Self { prefetcher, held: BTreeMap::new(), failed: None }
    }

    /// Sees to it that what is mounted is read ahead, and that nothing else is held.
    pub(super) fn tend(&mut self, mounted: &BTreeMap<String, PathBuf>) {
        let Some(prefetcher) = &self.prefetcher else { return };
        self.held.retain(|name, socket| mounted.contains_key(name) && is_open(name, socket));
        if self.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        for (name, root) in mounted {
            if self.held.contains_key(name) || self.held.len() >= IMAGES_MAX {
                continue;
            }
            match ask(prefetcher, root) {
                Ok(socket) => {
                    self.failed = None;
                    self.held.insert(name.clone(), socket);
                }
                Err(why) => {
                    if self.failed.is_none() {
                        eprintln!("zoned: images are not read ahead, zones pay for them: {why}");
                    }
                    self.failed = Some(Instant::now());
                    return;
                }
            }
        }
    }

    /// Lets go of an image that is to be unmounted.
    pub(super) fn forget(&mut self, name: &str) {
        self.held.remove(name);
    }
}

fn ask(prefetcher: &Path, root: &Path) -> Result<Socket, String> {
    let root = File::open(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let message = encode(Kind::Request, 1, &Request::Image, 1).map_err(|error| chain(&error))?;
    let socket = Socket::connect(prefetcher).map_err(|error| chain(&error))?;
    socket.set_nonblocking().map_err(|error| error.to_string())?;
    socket.send(&message, &[root.as_fd()]).map_err(|error| chain(&error))?;
    Ok(socket)
}

/// Whether the prefetcher still has it; what it says of it is only news.
fn is_open(name: &str, socket: &Socket) -> bool {
    let mut message = Vec::new();
    loop {
        match socket.recv(&mut message) {
            Ok(Some(_)) => {}
            Err(RecvError::Empty) => return true,
            Ok(None) | Err(_) => {
                eprintln!(
                    "zoned: the image {name} is not read ahead any more, and asked for again"
                );
                return false;
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use sys::seqpacket::Listener;
    use wire::frame::Frame;

    #[test]
    fn what_is_mounted_is_asked_for_once_and_let_go_of_when_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sock");
        let listener = Listener::bind(&path, 0o600).unwrap();
        let mut ahead = Ahead::new(Some(path));
        let mut mounted = BTreeMap::from([("base".to_owned(), folder.path().to_owned())]);
        ahead.tend(&mounted);
        ahead.tend(&mounted);
        let peer = listener.accept().unwrap().unwrap();
        let mut message = Vec::new();
        let fds = peer.recv(&mut message).unwrap().unwrap();
        let frame = Frame::parse(&message, fds.len()).unwrap();
        assert_eq!((frame.body::<Request>().unwrap(), fds.len()), (Request::Image, 1));
        mounted.clear();
        ahead.tend(&mounted);
        assert!(peer.recv(&mut message).unwrap().is_none());
    }

    #[test]
    fn one_that_was_lost_is_asked_for_again_and_a_prefetcher_that_is_away_harms_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sock");
        let mut ahead = Ahead::new(Some(path.clone()));
        let mounted = BTreeMap::from([("base".to_owned(), folder.path().to_owned())]);
        ahead.tend(&mounted);
        assert!(ahead.held.is_empty() && ahead.failed.is_some());
        let listener = Listener::bind(&path, 0o600).unwrap();
        // As if the wait were over.
        ahead.failed = None;
        ahead.tend(&mounted);
        drop(listener.accept().unwrap().unwrap());
        ahead.tend(&mounted);
        let again = listener.accept().unwrap().unwrap();
        assert!(again.recv(&mut Vec::new()).unwrap().is_some());
    }
}
