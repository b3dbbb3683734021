//! Having images read ahead by the prefetcher, which pays for what zones share.
//!
//! Each mounted image has a connection of its own: over it goes the image's root, and as long as it is open
//! the prefetcher keeps the image's programs mapped. It answers when it has read them; zones of the image start
//! then, or when that takes too long. Without a prefetcher zones pay for the pages that they are the first to read.

use crate::chain;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sys::seqpacket::{RecvError, Socket};
use wire::frame::{Kind, encode};
use wire::prefetch::{IMAGES_MAX, Request};

/// The wait after a try that failed: the prefetcher is started again within a second.
const RETRY: Duration = Duration::from_secs(2);
/// How long zones wait for their image to be read: the prefetcher needs a second for `base`, and so long for all
/// that it takes of an image on a node of 10 GiB.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The images that are read ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The prefetcher's socket.
    prefetcher: Option<PathBuf>,
    held: BTreeMap<String, Held>,
    failed: Option<Instant>,
}

/// An image that the prefetcher was asked for.
#[derive(Debug)]
struct Held {
    socket: Socket,
    asked: Instant,
    /// It has answered.
    read: bool,
}

impl Ahead {
    pub(super) const fn new(prefetcher: Option<PathBuf>) -> Self {
        Self { prefetcher, held: BTreeMap::new(), failed: None }
    }

    /// Sees to it that what is mounted is read ahead, and that nothing else is held.
    pub(super) fn tend(&mut self, mounted: &BTreeMap<String, PathBuf>) {
        let Some(prefetcher) = &self.prefetcher else { return };
        self.held.retain(|name, held| mounted.contains_key(name) && held.hear(name));
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
                    let held = Held { socket, asked: Instant::now(), read: false };
                    self.held.insert(name.clone(), held);
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

    /// Whether nothing of an image is to be waited for, whatever else is known of it.
    pub(super) fn is_settled(&self, name: &str) -> bool {
        self.prefetcher.is_none() || self.held.get(name).is_some_and(|held| held.read)
    }

    /// Whether zones of an image are to wait for it at this time.
    pub(super) fn is_awaited(&self, name: &str, now: Instant) -> bool {
        self.held.get(name).is_some_and(|held| held.is_awaited(now))
    }

    /// The connections by which images are told to be read, as long as zones wait for that.
    pub(super) fn awaited(&self, now: Instant) -> impl Iterator<Item = BorrowedFd<'_>> {
        let awaited = self.held.values().filter(move |held| held.is_awaited(now));
        awaited.map(|held| held.socket.as_fd())
    }
}

impl Held {
    fn is_awaited(&self, now: Instant) -> bool {
        !self.read && now.saturating_duration_since(self.asked) < WAIT_MAX
    }

    /// Takes in what the prefetcher says of it; false if it has it no more.
    fn hear(&mut self, name: &str) -> bool {
        let mut message = Vec::new();
        loop {
            match self.socket.recv(&mut message) {
                // Read, or refused: either way there is nothing more to come.
                Ok(Some(_)) => self.read = true,
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
}

fn ask(prefetcher: &Path, root: &Path) -> Result<Socket, String> {
    let root = File::open(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let message = encode(Kind::Request, 1, &Request::Image, 1).map_err(|error| chain(&error))?;
    let socket = Socket::connect(prefetcher).map_err(|error| chain(&error))?;
    socket.set_nonblocking().map_err(|error| error.to_string())?;
    socket.send(&message, &[root.as_fd()]).map_err(|error| chain(&error))?;
    Ok(socket)
}

#[cfg(test)]
mod test {
    use super::*;
    use sys::seqpacket::Listener;
    use wire::frame::Frame;
    use wire::prefetch::Reply;

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
    fn zones_wait_until_their_image_is_read_or_it_takes_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sock");
        let listener = Listener::bind(&path, 0o600).unwrap();
        let mounted = ["base", "slow", "lost"].map(|name| (name.to_owned(), folder.path().into()));
        let mounted = BTreeMap::from(mounted);
        let mut ahead = Ahead::new(Some(path));
        let now = Instant::now();
        assert!(!ahead.is_settled("base") && !ahead.is_awaited("base", now));
        ahead.tend(&mounted);
        let awaited = |ahead: &Ahead, at| {
            mounted.keys().filter(|name| ahead.is_awaited(name, at)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(awaited(&ahead, now), ["base", "lost", "slow"]);
        assert_eq!(ahead.awaited(now).count(), 3);
        // By name, as they were asked for.
        let peers: Vec<Socket> = (0..3).map(|_| listener.accept().unwrap().unwrap()).collect();
        let done = encode(Kind::Reply, 1, &Reply::Done { bytes: 7 }, 0).unwrap();
        let [base, lost, _slow] = <[Socket; 3]>::try_from(peers).unwrap();
        base.send(&done, &[]).unwrap();
        drop((lost, listener));
        ahead.tend(&mounted);
        assert_eq!(awaited(&ahead, now), ["slow"]);
        assert!(ahead.is_settled("base") && !ahead.is_settled("slow"));
        assert!(awaited(&ahead, now + WAIT_MAX * 2).is_empty());
        assert!(Ahead::new(None).is_settled("base"));
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
