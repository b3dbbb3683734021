//! What a connection sends beside its responses: a 100, and whatever TLS has to say for itself. One such
//! send is in flight at a time, and none beside a response.

use super::{Hands, Next, Peer, Verdict, Work};
use crate::front::response;
use crate::front::tls::Received;
use crate::front::worker::{For, token};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;
use sys::ring::Operation;

/// A send in flight that is no response.
pub(super) struct Aside {
    pub(super) operation: Operation,
    pub(super) length: usize,
}

impl Peer {
    /// Takes received bytes to the requests, through TLS if that is between.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Verdict {
        let Some(tls) = &mut self.tls else {
            self.input.push(bytes);
            return Verdict::Keep;
        };
        let input = &mut self.input;
        match tls.receive(bytes, |plain| input.push(plain)) {
            Received::More => Verdict::Keep,
            Received::End if matches!(self.work, Work::Idle) && !self.input.is_inside() => {
                Verdict::Close
            }
            // What it has sent before is answered; the end of the socket follows.
            Received::End => Verdict::Keep,
            // Told why before the connection ends, if nothing else is being told.
            Received::Failed if matches!(self.work, Work::Idle) => {
                self.keep_alive = false;
                self.work = Work::Discarding(0);
                Verdict::Keep
            }
            Received::Failed => Verdict::Close,
        }
    }

    /// Sends what TLS has to say, unless a response is on its way, which takes it along.
    pub(super) fn tend_tls(&mut self, hands: &mut Hands) {
        if self.aside.is_some() || matches!(self.work, Work::Sending(_)) {
            return;
        }
        if let Some(bytes) = self.tls.as_mut().and_then(|tls| tls.take_out()) {
            self.send_aside(bytes, hands);
        }
    }

    /// Lets the client send its body.
    pub(super) fn send_continue(&mut self, hands: &mut Hands) {
        self.touched = Instant::now();
        let bytes = match &mut self.tls {
            Some(tls) => tls.seal(&[response::CONTINUE]),
            None => response::CONTINUE,
        };
        self.send_aside(bytes, hands);
    }

    fn send_aside(&mut self, bytes: Bytes, hands: &mut Hands) {
        let length = bytes.len();
        let token = token(For::Send, self.name);
        let operation = hands.ring.send(Arc::clone(&self.socket), vec![bytes], false, token);
        self.aside = Some(Aside { operation, length });
    }

    /// Shuts our side, after the last word of TLS.
    pub(super) fn finish_sending(&mut self, hands: &mut Hands) -> Next {
        if let Some(tls) = &mut self.tls {
            tls.close();
            self.tend_tls(hands);
            if self.aside.is_some() {
                return Next::Wait;
            }
        }
        if sys::listen::finish_sending(&self.socket).is_err() {
            // The client is gone already.
            return Next::Close;
        }
        self.touched = Instant::now();
        self.input = crate::front::input::Input::default();
        self.work = Work::Lingering;
        Next::Again
    }
}
