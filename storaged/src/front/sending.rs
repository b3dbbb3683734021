//! A response on its way to the client.
//!
//! What is in memory goes out in one message with the head. A file up to `ONE_SEND_BYTES_MAX` is read
//! first and joins it; a longer one is sent by sendfile(2) in slices while its pages are in memory, and
//! read ahead by a thread that may wait where they are not. A stream goes out as it comes.

use super::limits::ONE_SEND_BYTES_MAX;
use super::mailbox::Waker;
use super::response::{self, Asked, CHUNK_END, Framing, LAST_CHUNK, Length};
use super::sending_file::{File, FileWaits};
use super::tls::Tls;
use super::worker::{For, Hands, token};
use super::{FileRange, Quick, QuickBody};
use bytes::{Buf, Bytes};
use http::Response;
use http_body::Body as _;
use s3s::Body;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use sys::ring::{Descriptor, Operation, SEND_PARTS_MAX};
use sys::transfer::{self, Moved};

/// What a response goes out through.
pub(super) struct Line<'a> {
    pub(super) socket: &'a Descriptor,
    pub(super) waker: &'a Arc<Waker>,
    /// What it is encrypted by, if it is.
    pub(super) tls: Option<&'a mut Tls>,
}

/// Where a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something has to happen first.
    Waits,
    /// It is with the kernel, whole.
    Done,
    /// It can't go on, and the client must see that it is cut.
    Failed,
}

enum State {
    /// To be sent now, and what comes then.
    Ready(Vec<Bytes>, Then),
    /// So many bytes are being sent.
    InFlight(usize, Operation, Then),
    /// The head waits for the file's bytes.
    Reading(Bytes, u32),
    Stream(Stream),
    File(File),
    Done,
    Failed,
}

enum Then {
    Finish,
    Stream(Stream),
    File(File),
}

impl Then {
    /// What comes when the bytes of a file that were just read are sent.
    fn after(file: File) -> Then {
        if file.left == 0 { Then::Finish } else { Then::File(file) }
    }

    fn state(self) -> State {
        match self {
            Then::Finish => State::Done,
            Then::Stream(stream) => State::Stream(stream),
            Then::File(file) => State::File(file),
        }
    }
}

/// The parts of a message.
type SmallParts<'a> = [IoSlice<'a>; SEND_PARTS_MAX];

/// Takes so many bytes off the front.
fn drop_front(parts: &mut Vec<Bytes>, mut sent: usize) {
    parts.retain_mut(|part| {
        let gone = sent.min(part.len());
        part.advance(gone);
        sent -= gone;
        !part.is_empty()
    });
}

struct Stream {
    /// To be sent with the first bytes.
    head: Option<Bytes>,
    body: Body,
    chunked: bool,
    /// How much is still to come, if it was told.
    left: Option<u64>,
}

pub(super) struct Sending {
    name: u64,
    state: State,
    /// What a file read by the ring is a part of, should it come out short.
    small: Option<FileRange>,
    /// Bytes that went to the socket without the ring and are not counted yet.
    moved: u64,
}

impl Sending {
    /// A response that is ready as it is.
    pub(super) fn bytes(name: u64, bytes: Bytes) -> Sending {
        Sending { name, state: State::Ready(vec![bytes], Then::Finish), small: None, moved: 0 }
    }

    /// A handler's response. Clears `keep_alive` if only the connection's end can tell its own.
    pub(super) fn response(
        name: u64,
        asked: &Asked,
        response: Response<Body>,
        keep_alive: &mut bool,
        hands: &mut Hands,
    ) -> Sending {
        let (parts, body) = response.into_parts();
        let file = parts.extensions.get::<FileRange>().cloned();
        let length = match &file {
            Some(range) => Length::Known(range.length),
            None => body_length(&parts.headers, &body),
        };
        let framing = response::framing(asked, parts.status, length);
        *keep_alive &= framing != Framing::Close;
        let date = hands.clock.date();
        let head = response::encode_head(parts.status, &parts.headers, framing, *keep_alive, date);
        let mut sending = Sending { name, state: State::Done, small: None, moved: 0 };
        sending.state = match (framing, file) {
            (Framing::None, _) | (Framing::Length(0), _) => State::Ready(vec![head], Then::Finish),
            (_, Some(range)) => sending.file(head, range),
            (_, None) => match body.bytes() {
                Some(bytes) => State::Ready(vec![head, bytes], Then::Finish),
                None => State::Stream(Stream {
                    head: Some(head),
                    body,
                    chunked: framing == Framing::Chunked,
                    left: match length {
                        Length::Known(length) => Some(length),
                        Length::Unknown => None,
                    },
                }),
            },
        };
        sending
    }

    /// An answer that was there at once.
    pub(super) fn quick(
        name: u64,
        quick: Quick,
        keep_alive: bool,
        is_sealed: bool,
        hands: &mut Hands,
    ) -> Sending {
        let head = response::finish_head(quick.head, keep_alive, hands.clock.date());
        let mut sending = Sending { name, state: State::Done, small: None, moved: 0 };
        sending.state = match quick.body {
            QuickBody::None => State::Ready(vec![head], Then::Finish),
            QuickBody::Bytes(bytes) => State::Ready(vec![head, bytes], Then::Finish),
            QuickBody::File(range) => sending.file(head, range),
            QuickBody::Memory(range) if is_sealed => {
                sending.small = Some(range);
                State::Reading(head, 0)
            }
            QuickBody::Memory(range) => {
                let file = File { warm_until: u64::MAX, ..File::new(range) };
                State::Ready(vec![head], Then::File(file))
            }
        };
        sending
    }

    /// A head and a part of a file.
    fn file(&mut self, head: Bytes, range: FileRange) -> State {
        if range.length <= ONE_SEND_BYTES_MAX {
            self.small = Some(range);
            State::Reading(head, 0)
        } else {
            State::Ready(vec![head], Then::File(File::new(range)))
        }
    }

    /// Whether it is the client's turn.
    pub(super) fn waits_for_client(&self) -> bool {
        match &self.state {
            State::InFlight(..) => true,
            State::File(file) => matches!(file.waits, FileWaits::ForSocket(_)),
            State::Ready(..)
            | State::Reading(..)
            | State::Stream(_)
            | State::Done
            | State::Failed => false,
        }
    }

    /// Bytes sent by other means than the ring since this was last asked.
    pub(super) fn take_moved(&mut self) -> u64 {
        std::mem::take(&mut self.moved)
    }

    /// Cancels what is in flight.
    pub(super) fn abandon(&self, hands: &mut Hands) {
        match &self.state {
            State::InFlight(_, operation, _)
            | State::File(File { waits: FileWaits::ForSocket(operation), .. }) => {
                hands.ring.cancel(*operation);
            }
            // A read of the ring's own ends by itself.
            State::File(_)
            | State::Ready(..)
            | State::Reading(..)
            | State::Stream(_)
            | State::Done
            | State::Failed => {}
        }
    }

    /// A send is over. False: it was cut short.
    pub(super) fn sent(&mut self, sent: usize) -> bool {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::InFlight(length, _, then) if sent == length => {
                self.state = then.state();
                true
            }
            _ => false,
        }
    }

    /// The socket has room again.
    pub(super) fn writable(&mut self) {
        if let State::File(file) = &mut self.state {
            file.waits = FileWaits::No;
        }
    }

    /// The ring has read a small file; an error leaves the response unsent.
    pub(super) fn file_read(&mut self, result: io::Result<Vec<u8>>) -> io::Result<()> {
        let bytes = result?;
        let wanted = self.small.take().map_or(0, |range| range.length);
        let State::Reading(head, _) = &self.state else { return Ok(()) };
        if bytes.len() as u64 != wanted {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} of {wanted} bytes are there", bytes.len()),
            ));
        }
        self.state = State::Ready(vec![head.clone(), bytes.into()], Then::Finish);
        Ok(())
    }

    /// Does what can be done now.
    pub(super) fn go_on(&mut self, line: &mut Line<'_>, hands: &mut Hands) -> Progress {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Failed) {
                State::Done => return self.stay(State::Done, Progress::Done),
                State::Failed => return Progress::Failed,
                state @ State::InFlight(..) => return self.stay(state, Progress::Waits),
                State::Ready(parts, then) => self.send(parts, then, line, hands),
                State::Reading(head, 0) => self.read_small(head, hands),
                state @ State::Reading(..) => return self.stay(state, Progress::Waits),
                State::Stream(stream) => match stream.poll(line.waker) {
                    Ok(state) => state,
                    Err(stream) => return self.stay(State::Stream(stream), Progress::Waits),
                },
                State::File(mut file) => {
                    let left = file.left;
                    let progress = match line.tls {
                        None => file.go_on(self.name, line, hands),
                        Some(_) => match file.read_on(line, hands) {
                            Ok(bytes) => {
                                self.state = State::Ready(vec![bytes], Then::after(file));
                                continue;
                            }
                            Err(progress) => progress,
                        },
                    };
                    self.moved += left - file.left;
                    match progress {
                        Progress::Waits => return self.stay(State::File(file), Progress::Waits),
                        Progress::Done => State::Done,
                        Progress::Failed => State::Failed,
                    }
                }
            };
        }
    }

    fn stay(&mut self, state: State, progress: Progress) -> Progress {
        self.state = state;
        progress
    }

    /// Sends what the socket takes now; the ring sends what is left.
    fn send(
        &mut self,
        mut parts: Vec<Bytes>,
        then: Then,
        line: &mut Line<'_>,
        hands: &mut Hands,
    ) -> State {
        if let Some(tls) = &mut line.tls {
            parts = vec![tls.seal(&parts)];
        }
        let more = matches!(then, Then::File(_));
        let sent = {
            let slices: SmallParts<'_> =
                std::array::from_fn(|at| IoSlice::new(parts.get(at).map_or(&[][..], |part| part)));
            transfer::send_parts(line.socket, &slices[..parts.len()], more)
        };
        match sent {
            Ok(Moved::Bytes(sent)) => {
                self.moved += sent as u64;
                drop_front(&mut parts, sent);
            }
            Ok(Moved::WouldWait) => {}
            // The client is gone.
            Err(e) => {
                log::debug!("can't send: {e}");
                return State::Failed;
            }
        }
        if parts.is_empty() {
            return then.state();
        }
        let length = parts.iter().map(Bytes::len).sum();
        let token = token(For::Send, self.name);
        let operation = hands.ring.send(Arc::clone(line.socket), parts, more, token);
        State::InFlight(length, operation, then)
    }

    fn read_small(&self, head: Bytes, hands: &mut Hands) -> State {
        let range = self.small.as_ref().expect("a small file is to be read");
        let length = range.length as u32;
        let mut buffer = vec![0; length as usize];
        match transfer::read_cached(&range.file, range.offset, &mut buffer) {
            Ok(Moved::Bytes(read)) if read == buffer.len() => {
                State::Ready(vec![head, buffer.into()], Then::Finish)
            }
            // Cold in part or wholly, or in error, which the ring's read will tell.
            Ok(Moved::Bytes(_) | Moved::WouldWait) | Err(_) => {
                let token = token(For::Read, self.name);
                hands.ring.read(Arc::clone(&range.file), range.offset, length, token);
                State::Reading(head, length)
            }
        }
    }
}

impl Stream {
    /// The next state, or itself while its body has nothing.
    fn poll(mut self, waker: &Arc<Waker>) -> Result<State, Stream> {
        let waker = std::task::Waker::from(Arc::clone(waker));
        let mut cx = Context::from_waker(&waker);
        let frame = Pin::new(&mut self.body).poll_frame(&mut cx);
        let mut parts: Vec<Bytes> = Vec::with_capacity(4);
        parts.extend(match (&frame, &self.head) {
            (Poll::Pending, None) => return Err(self),
            (_, _) => self.head.take(),
        });
        match frame {
            Poll::Pending => {}
            Poll::Ready(None) if self.left.is_some_and(|left| left > 0) => {
                log::error!("a response ended {} bytes before its length", self.left.unwrap_or(0));
                return Ok(State::Failed);
            }
            Poll::Ready(None) => {
                if self.chunked {
                    parts.push(LAST_CHUNK);
                }
                return Ok(match parts.is_empty() {
                    true => State::Done,
                    false => State::Ready(parts, Then::Finish),
                });
            }
            Poll::Ready(Some(Err(e))) => {
                log::error!("a response broke off: {e}");
                return Ok(State::Failed);
            }
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                if let Some(left) = &mut self.left {
                    let Some(rest) = left.checked_sub(data.len() as u64) else {
                        log::error!("a response is longer than its length");
                        return Ok(State::Failed);
                    };
                    *left = rest;
                }
                if !data.is_empty() && self.chunked {
                    parts.extend([response::chunk_start(data.len()), data, CHUNK_END]);
                } else if !data.is_empty() {
                    parts.push(data);
                }
            }
        }
        Ok(match parts.is_empty() {
            true => State::Stream(self),
            false => State::Ready(parts, Then::Stream(self)),
        })
    }
}

fn body_length(headers: &http::HeaderMap, body: &Body) -> Length {
    let exact = body.bytes().map(|b| b.len() as u64).or_else(|| body.size_hint().exact());
    let told = || {
        let value = headers.get(http::header::CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    };
    exact.or_else(told).map_or(Length::Unknown, Length::Known)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_was_sent_is_taken_off_the_front() {
        let all = || vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cde")];
        let left = |sent| {
            let mut parts = all();
            drop_front(&mut parts, sent);
            parts.concat()
        };
        assert_eq!(left(0), b"abcde");
        assert_eq!(left(1), b"bcde");
        assert_eq!(left(2), b"cde");
        assert_eq!(left(4), b"e");
        assert_eq!(left(5), b"");
    }
}
