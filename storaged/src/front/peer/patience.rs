//! How long a connection may take for what it does.

use super::{Hands, Peer, Verdict, Work};
use crate::front::refusal::Refusal;
use crate::front::request_body::{BodyError, Feed, Wish};
use std::time::Instant;

impl Peer {
    /// Ends what has taken too long.
    pub(in crate::front) fn check_time(&mut self, now: Instant, hands: &mut Hands) -> Verdict {
        let quiet = now.saturating_duration_since(self.touched);
        let times = hands.times;
        match &self.work {
            Work::Idle if self.is_handshaking() => {
                if now.saturating_duration_since(self.head_since) > times.head {
                    return Verdict::Close;
                }
            }
            Work::Idle if self.input.is_inside() => {
                if now.saturating_duration_since(self.head_since) > times.head {
                    return self.refuse(Refusal::Slow, hands).and(|| self.advance(hands));
                }
            }
            Work::Idle if quiet > times.keep_alive => return Verdict::Close,
            Work::Answering(_) => {
                let wish = self.feed.as_ref().map_or(Wish::Nothing, Feed::wish);
                if wish == Wish::Waiting && quiet > times.body_idle {
                    if let Some(feed) = self.feed.take() {
                        feed.fail(BodyError::Idle);
                    }
                    return self.refuse(Refusal::Slow, hands).and(|| self.advance(hands));
                }
                if quiet > times.handler {
                    return self.refuse(Refusal::NoAnswer, hands).and(|| self.advance(hands));
                }
            }
            Work::Sending(sending) => {
                let max = if sending.waits_for_client() { times.send_idle } else { times.handler };
                if quiet > max {
                    return Verdict::Close;
                }
            }
            Work::Answered(_) if quiet > times.send_idle => return Verdict::Close,
            Work::Discarding(_) | Work::Lingering if quiet > times.linger => {
                return Verdict::Close;
            }
            Work::Idle => self.input.release(),
            Work::Answered(_) | Work::Discarding(_) | Work::Lingering => {}
        }
        // A receive that found no buffer is tried again.
        self.tend_receive(hands);
        Verdict::Keep
    }
}
