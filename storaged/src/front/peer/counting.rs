//! What is counted and written of a connection's requests.

use super::{Hands, Peer};
use crate::front::RequestId;
use crate::front::counts::{Class, PortCounts};
use crate::front::head::Head;
use crate::front::line::Ended;
use crate::front::lines::Gathered;
use http::StatusCode;
use std::time::Instant;

/// A request until it is counted.
pub(super) struct Running {
    pub(super) id: RequestId,
    kind: usize,
    since: Instant,
    /// Of the answer that is on its way.
    status: Option<StatusCode>,
    /// When it began to be.
    answered: Option<Instant>,
    /// Bytes that have been sent.
    sent: u64,
    /// What is written of it, if anything is.
    line: Option<String>,
}

impl Running {
    /// As it is counted if all of its answer has gone out.
    pub(super) fn class(&self) -> Class {
        self.status.map_or(Class::Cut, Class::of)
    }
}

impl Peer {
    pub(super) fn counts<'a>(&self, hands: &'a Hands) -> &'a PortCounts {
        &hands.counts[self.entrance.port]
    }

    /// A request begins.
    pub(super) fn begin_counting(&mut self, head: &Head, hands: &mut Hands) {
        let kinds = &hands.kinds[self.entrance.port];
        let kind = (kinds.of)(&head.request);
        let line = &mut hands.lines;
        let id = hands.ids.next();
        let begin = |lines: &mut Gathered| lines.begin(kinds, kind, self.origin, id, &head.request);
        let line = line.as_mut().map(begin);
        let (since, status, answered) = (self.touched, None, None);
        self.running = Some(Running { id, kind, since, status, answered, sent: 0, line });
        self.counts(hands).begun.add(1);
    }

    /// The field that tells what the running request is called, and its value, if its answer is to tell.
    pub(super) fn id_field(&self, hands: &Hands) -> Option<(&'static str, RequestId)> {
        hands.kinds[self.entrance.port].id.zip(self.running.as_ref().map(|running| running.id))
    }

    /// The request that is running has its answer.
    pub(super) fn answered(&mut self, status: StatusCode) {
        if let Some(running) = &mut self.running {
            running.status = Some(status);
            running.answered = Some(self.touched);
        }
    }

    /// Bytes have gone out.
    pub(super) fn count_sent(&mut self, bytes: u64, hands: &Hands) {
        self.counts(hands).sent.add(bytes);
        if let Some(running) = &mut self.running {
            running.sent += bytes;
        }
    }

    /// Counts the request that is over, if there is one.
    pub(super) fn count_request(&mut self, class: Class, hands: &mut Hands) {
        let Some(running) = self.running.take() else { return };
        let since = |time: Instant| time.saturating_duration_since(running.since);
        let time = since(self.touched);
        self.counts(hands).request(running.kind, class, time);
        if let (Some(lines), Some(line)) = (&mut hands.lines, running.line) {
            let status = running.status.filter(|_| class != Class::Cut).map(|s| s.as_u16());
            let to_answer = running.answered.map(since);
            lines.end(line, &Ended { status, sent: running.sent, time, to_answer });
        }
    }
}
