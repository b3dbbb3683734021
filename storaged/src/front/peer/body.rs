//! A request's body on its way from the connection to the handler.

use super::{Hands, Next, Peer, Receive, Verdict, Work};
use crate::front::input::Event;
use crate::front::request_body::{BodyError, Wish};

impl Peer {
    /// Sends a 100 once the handler has asked for the body.
    pub(super) fn grant_continue(&mut self, hands: &mut Hands) -> Next {
        let asked = self.feed.as_ref().is_some_and(|feed| feed.wish() == Wish::Waiting);
        // A client that has begun to send does not wait for it.
        if self.owes_continue && self.input.buffered() > 0 {
            self.owes_continue = false;
        }
        if self.owes_continue && asked && self.aside.is_none() {
            self.owes_continue = false;
            self.send_continue(hands);
        }
        Next::Wait
    }

    /// Hands over what has come of the body, as far as the handler has room.
    pub(super) fn feed_body(&mut self, hands: &mut Hands) -> Verdict {
        while let Some(feed) = self.feed.as_ref().filter(|feed| feed.has_room()) {
            match self.input.step() {
                Event::Body(bytes) => feed.push(bytes),
                Event::End => {
                    feed.end();
                    self.feed = None;
                }
                Event::Starved if matches!(self.receive, Receive::Ended) => {
                    self.keep_alive = false;
                    self.feed = None;
                }
                Event::Starved => break,
                Event::Refused(refusal) => {
                    feed.fail(BodyError::Malformed(refusal));
                    if matches!(self.work, Work::Answering(_)) {
                        return self.refuse(refusal, hands);
                    }
                    self.keep_alive = false;
                    self.feed = None;
                }
                Event::Request(_) => unreachable!("a body ends before the next head"),
            }
        }
        Verdict::Keep
    }
}
