//! One connection: requests in, one at a time to its service, responses out in their order.
//!
//! ```text
//!          head            answer            sent                    rest of the body is small
//!   Idle ───────▶ Answering ─────▶ Sending ───────▶ Discarding ─────────────────────────▶ Idle
//!    │               │                │                 │ else, or the last response
//!    └──refused──────┴────────────────┴──▶ Lingering ◀──┘     our side is shut; until the client's is
//! ```
//!
//! The request's body is fed to the handler beside all this. What is sent is in `sending`.

mod body;
mod counting;
mod patience;
mod secure;

use crate::front::counts::Class;
use crate::front::head::{Framing, Head};
use crate::front::input::{Event, Input};
use crate::front::limits::{BODY_WINDOW_BYTES, DISCARD_BYTES_MAX};
use crate::front::mailbox::Waker;
use crate::front::refusal::Refusal;
use crate::front::request_body::{self, Feed};
use crate::front::response::{self, Asked};
use crate::front::sending::{Line, Progress, Sending};
use crate::front::tls::Tls;
use crate::front::worker::{For, Hands, token};
use crate::front::{Answer, Origin, Service};
use counting::Running;
use http::{HeaderName, Request, Response};
use rustls::ServerConfig;
use s3s::Body;
use secure::Aside;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use sys::ring::{CANCELED, Descriptor, NO_BUFFERS, Operation};

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(in crate::front) enum Verdict {
    Keep,
    Close,
}

impl Verdict {
    pub(in crate::front) fn and(self, then: impl FnOnce() -> Verdict) -> Verdict {
        match self {
            Verdict::Keep => then(),
            Verdict::Close => Verdict::Close,
        }
    }
}

/// The receiving side of the socket.
enum Receive {
    /// The ring receives.
    Armed(Operation),
    /// It was told to stop and has not yet.
    Stopping,
    /// It does not: there is enough to go on with, or it ran out of buffers.
    Off,
    /// The client has closed its side.
    Ended,
}

enum Work {
    Idle,
    Answering(Answer),
    /// Answered, and not yet being sent.
    Answered(Box<Response<Body>>),
    Sending(Box<Sending>),
    /// Bytes of an unread body that have been thrown away.
    Discarding(usize),
    Lingering,
}

/// What a step came to.
enum Next {
    /// There may be more to do.
    Again,
    /// Nothing until something comes in, goes out or wakes.
    Wait,
    Close,
}

/// The port a connection came in at.
pub(in crate::front) struct Entrance {
    /// Its number.
    pub(in crate::front) port: usize,
    pub(in crate::front) service: Arc<dyn Service>,
    /// How it is encrypted, if it is.
    pub(in crate::front) tls: Option<Arc<ServerConfig>>,
}

pub(in crate::front) struct Peer {
    name: u64,
    socket: Descriptor,
    entrance: Entrance,
    waker: Arc<Waker>,
    input: Input,
    receive: Receive,
    feed: Option<Feed>,
    work: Work,
    asked: Option<Asked>,
    /// The request that is being answered, as it will be counted.
    running: Option<Running>,
    /// Whether the client wants another request on this connection, and we too.
    keep_alive: bool,
    /// Where the other end is.
    origin: Origin,
    /// Whether the client waits for a 100 before it sends the body.
    owes_continue: bool,
    /// The send in flight that is no response.
    aside: Option<Aside>,
    tls: Option<Box<Tls>>,
    /// When something last happened.
    touched: Instant,
    /// When the head that is arriving began to, or the connection was made.
    head_since: Instant,
}

impl Peer {
    pub(in crate::front) fn new(
        name: u64,
        socket: Descriptor,
        mut entrance: Entrance,
        waker: Arc<Waker>,
    ) -> Result<Peer, rustls::Error> {
        let now = Instant::now();
        let mut origin = Origin::of(&socket);
        let tls = entrance.tls.take().map(Tls::new).transpose()?;
        origin.secure = tls.is_some();
        Ok(Peer {
            name,
            socket,
            entrance,
            waker,
            input: Input::default(),
            receive: Receive::Off,
            feed: None,
            work: Work::Idle,
            asked: None,
            running: None,
            keep_alive: true,
            origin,
            owes_continue: false,
            aside: None,
            tls: tls.map(Box::new),
            touched: now,
            head_since: now,
        })
    }

    /// A wake has arrived and is acted on next.
    pub(in crate::front) fn heard(&mut self) {
        self.waker.heard();
        self.touch();
    }

    /// Something happened. What a client does while we wait for it to go away does not count.
    fn touch(&mut self) {
        if !matches!(self.work, Work::Discarding(_) | Work::Lingering) {
            self.touched = Instant::now();
        }
    }

    /// Takes received bytes.
    pub(in crate::front) fn take_in(&mut self, bytes: &[u8], more: bool, hands: &Hands) -> Verdict {
        self.touch();
        self.counts(hands).received.add(bytes.len() as u64);
        if matches!(self.work, Work::Idle) && !self.input.is_inside() && !self.is_handshaking() {
            self.head_since = Instant::now();
        }
        self.receive_stopped_unless(more);
        match self.work {
            Work::Lingering => Verdict::Keep,
            _ => self.push(bytes),
        }
    }

    /// The client has closed its side.
    pub(in crate::front) fn input_ended(&mut self, hands: &mut Hands) -> Verdict {
        self.receive = Receive::Ended;
        self.advance(hands)
    }

    pub(in crate::front) fn receive_failed(
        &mut self,
        error: &io::Error,
        hands: &mut Hands,
    ) -> Verdict {
        self.receive_stopped_unless(false);
        match error.raw_os_error() {
            // Stopped by us, or there was no buffer: started again when there is room.
            Some(CANCELED | NO_BUFFERS) => self.advance(hands),
            _ => Verdict::Close,
        }
    }

    fn receive_stopped_unless(&mut self, more: bool) {
        if !more && !matches!(self.receive, Receive::Ended) {
            self.receive = Receive::Off;
        }
    }

    pub(in crate::front) fn sent(
        &mut self,
        result: Result<&usize, &io::Error>,
        hands: &mut Hands,
    ) -> Verdict {
        self.touched = Instant::now();
        if let Ok(&sent) = result {
            self.count_sent(sent as u64, hands);
        }
        if let Some(aside) = self.aside.take() {
            return match result {
                Ok(&sent) if sent == aside.length => self.advance(hands),
                _ => Verdict::Close,
            };
        }
        let Work::Sending(sending) = &mut self.work else { return Verdict::Close };
        match result {
            Ok(&sent) if sending.sent(sent) => self.advance(hands),
            _ => Verdict::Close,
        }
    }

    pub(in crate::front) fn writable(
        &mut self,
        result: io::Result<()>,
        hands: &mut Hands,
    ) -> Verdict {
        self.touch();
        match (result, &mut self.work) {
            (Ok(()), Work::Sending(sending)) => {
                sending.writable();
                self.advance(hands)
            }
            _ => Verdict::Close,
        }
    }

    pub(in crate::front) fn file_read(
        &mut self,
        result: io::Result<Vec<u8>>,
        hands: &mut Hands,
    ) -> Verdict {
        let Work::Sending(sending) = &mut self.work else { return Verdict::Close };
        match sending.file_read(result) {
            Ok(()) => self.advance(hands),
            Err(e) => {
                log::error!("can't read an object: {e}");
                self.work = Work::Idle;
                self.refuse(Refusal::Internal, hands).and(|| self.advance(hands))
            }
        }
    }

    /// Lets go of everything: the ring's operations end soon after.
    pub(in crate::front) fn abandon(&mut self, hands: &mut Hands) {
        self.counts(hands).closed.add(1);
        self.count_request(Class::Cut, hands);
        if let Receive::Armed(operation) = self.receive {
            hands.ring.cancel(operation);
        }
        if let Some(aside) = &self.aside {
            hands.ring.cancel(aside.operation);
        }
        if let Work::Sending(sending) = &self.work {
            sending.abandon(hands);
        }
    }

    /// Does all that can be done now.
    pub(in crate::front) fn advance(&mut self, hands: &mut Hands) -> Verdict {
        loop {
            let next = match self.feed_body(hands) {
                Verdict::Close => Next::Close,
                Verdict::Keep => self.work_on(hands),
            };
            match next {
                Next::Again => {}
                Next::Wait => break,
                Next::Close => return Verdict::Close,
            }
        }
        self.tend_tls(hands);
        self.tend_receive(hands);
        Verdict::Keep
    }

    fn work_on(&mut self, hands: &mut Hands) -> Next {
        match &mut self.work {
            Work::Idle => self.next_request(hands),
            Work::Answering(_) => self.poll_answer(hands),
            Work::Answered(_) => self.start_sending(hands),
            Work::Sending(_) if self.aside.is_some() => Next::Wait,
            Work::Sending(sending) => {
                let tls = self.tls.as_deref_mut();
                let mut line = Line { socket: &self.socket, waker: &self.waker, tls };
                let progress = sending.go_on(&mut line, hands);
                let moved = sending.take_moved();
                self.count_sent(moved, hands);
                match progress {
                    Progress::Waits => Next::Wait,
                    Progress::Done => {
                        self.finish_response(hands);
                        Next::Again
                    }
                    Progress::Failed => Next::Close,
                }
            }
            Work::Discarding(_) => self.discard(hands),
            Work::Lingering => match self.receive {
                Receive::Ended => Next::Close,
                Receive::Armed(_) | Receive::Stopping | Receive::Off => Next::Wait,
            },
        }
    }

    /// Starts or stops receiving, as there is room.
    fn tend_receive(&mut self, hands: &mut Hands) {
        let full = self.input.buffered() >= BODY_WINDOW_BYTES;
        match self.receive {
            Receive::Armed(operation) if full => {
                hands.ring.cancel(operation);
                self.receive = Receive::Stopping;
            }
            Receive::Off if !full => {
                let token = token(For::Receive, self.name);
                let operation = hands.ring.receive(Arc::clone(&self.socket), token);
                self.receive = Receive::Armed(operation);
            }
            Receive::Armed(_) | Receive::Off | Receive::Stopping | Receive::Ended => {}
        }
    }

    fn next_request(&mut self, hands: &mut Hands) -> Next {
        match self.input.step() {
            Event::Request(head) => {
                self.call(*head, hands);
                Next::Again
            }
            Event::Refused(refusal) => match self.refuse(refusal, hands) {
                Verdict::Keep => Next::Again,
                Verdict::Close => Next::Close,
            },
            Event::Starved => match self.receive {
                Receive::Ended => Next::Close,
                _ if hands.draining && !self.input.is_inside() => Next::Close,
                Receive::Armed(_) | Receive::Stopping | Receive::Off => Next::Wait,
            },
            Event::Body(_) | Event::End => unreachable!("a body ends before the next head"),
        }
    }

    fn call(&mut self, head: Head, hands: &mut Hands) {
        self.touched = Instant::now();
        self.begin_counting(&head, hands);
        self.keep_alive = head.keep_alive;
        self.owes_continue = false;
        let (method, version) = (head.request.method().clone(), head.request.version());
        self.asked = Some(Asked { method, version });
        let (parts, ()) = head.request.into_parts();
        let body = match self.input.whole_body() {
            Some(bytes) if bytes.is_empty() => {
                // A panic there leaves the request to the long way, which catches its own.
                let quick = catch_unwind(AssertUnwindSafe(|| self.entrance.service.quick(&parts)));
                if let Ok(Some(mut quick)) = quick {
                    if let Some((field, id)) = self.id_field(hands) {
                        quick.put_field(field, id.as_str());
                    }
                    self.keep_alive &= !hands.draining;
                    self.answered(quick.status);
                    let is_sealed = self.tls.is_some();
                    let sending =
                        Sending::quick(self.name, quick, self.keep_alive, is_sealed, hands);
                    self.work = Work::Sending(Box::new(sending));
                    return;
                }
                Body::empty()
            }
            Some(bytes) => Body::from(bytes),
            None => {
                self.owes_continue = head.expects_continue;
                let length = match head.framing {
                    Framing::Length(length) => Some(length),
                    Framing::Chunked => None,
                };
                let (feed, body) = request_body::channel(length, Arc::clone(&self.waker));
                self.feed = Some(feed);
                Body::http_body(body)
            }
        };
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(self.origin);
        if let Some((_, id)) = self.id_field(hands) {
            request.extensions_mut().insert(id);
        }
        let service = Arc::clone(&self.entrance.service);
        // Called within the future, so that a panic there is caught where all are.
        self.work = Work::Answering(Box::pin(async move { service.call(request).await }));
    }

    fn poll_answer(&mut self, hands: &mut Hands) -> Next {
        let Work::Answering(answer) = &mut self.work else { return Next::Wait };
        let waker = std::task::Waker::from(Arc::clone(&self.waker));
        let mut cx = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => self.grant_continue(hands),
            Ok(Poll::Ready(response)) => {
                self.work = Work::Answered(Box::new(response));
                Next::Again
            }
            Err(_) => {
                log::error!("a handler panicked");
                match self.refuse(Refusal::Internal, hands) {
                    Verdict::Keep => Next::Again,
                    Verdict::Close => Next::Close,
                }
            }
        }
    }

    fn start_sending(&mut self, hands: &mut Hands) -> Next {
        let Work::Answered(mut response) = std::mem::replace(&mut self.work, Work::Idle) else {
            unreachable!("called on an answer");
        };
        if let Some((field, id)) = self.id_field(hands) {
            response.headers_mut().insert(HeaderName::from_static(field), id.value());
        }
        self.touched = Instant::now();
        let small_rest =
            self.input.body_left().is_some_and(|left| left <= DISCARD_BYTES_MAX as u64);
        self.keep_alive &= !hands.draining && !self.owes_continue && small_rest;
        self.answered(response.status());
        let asked = self.asked.clone().expect("a request was made");
        let sending = Sending::response(self.name, &asked, *response, &mut self.keep_alive, hands);
        self.work = Work::Sending(Box::new(sending));
        Next::Again
    }

    /// Answers with a refusal, then closes.
    fn refuse(&mut self, refusal: Refusal, hands: &mut Hands) -> Verdict {
        self.touched = Instant::now();
        match self.running {
            Some(_) => self.answered(refusal.status()),
            None => self.counts(hands).refused.add(1),
        }
        self.keep_alive = false;
        self.feed = None;
        let bytes = response::encode_refusal(refusal, self.asked.as_ref(), hands.clock.date());
        self.work = Work::Sending(Box::new(Sending::bytes(self.name, bytes)));
        Verdict::Keep
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn finish_response(&mut self, hands: &mut Hands) {
        self.touched = Instant::now();
        let class = self.running.as_ref().map_or(Class::Cut, Running::class);
        self.count_request(class, hands);
        // The handler is done with the body, whatever is left of it.
        self.feed = None;
        self.work = Work::Discarding(0);
    }

    /// Gets rid of what is left of a body, then goes on to the next request or closes.
    fn discard(&mut self, hands: &mut Hands) -> Next {
        let Work::Discarding(so_far) = &mut self.work else { return Next::Wait };
        while self.keep_alive && !self.input.is_complete() {
            match self.input.step() {
                Event::Body(bytes) => {
                    *so_far += bytes.len();
                    self.keep_alive = *so_far <= DISCARD_BYTES_MAX;
                }
                Event::End => break,
                Event::Starved if !matches!(self.receive, Receive::Ended) => return Next::Wait,
                Event::Starved | Event::Refused(_) => self.keep_alive = false,
                Event::Request(_) => unreachable!("a body ends before the next head"),
            }
        }
        if self.keep_alive {
            self.input.next();
            self.asked = None;
            self.head_since = Instant::now();
            self.work = Work::Idle;
            return Next::Again;
        }
        self.finish_sending(hands)
    }
}
