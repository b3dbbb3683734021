//! TLS between a connection's socket and its requests: bytes in, bytes out, no socket of its own.
//!
//! rustls keeps the protocol; what it wants sent is taken out in its order and goes with whatever is sent
//! next, or by itself when nothing is.

use bytes::Bytes;
use rustls::{ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::sync::Arc;

/// Plaintext taken out at once, in bytes: TLS's longest record (RFC 8446, 5.1).
const PLAIN_BYTES: usize = 16 * 1024;

/// What came of received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// The connection goes on.
    More,
    /// The client says that nothing more comes.
    End,
    /// These bytes are no TLS, or not for us. What is to be said about it waits to be sent.
    Failed,
}

/// One connection's TLS.
pub(super) struct Tls {
    connection: ServerConnection,
    failed: bool,
    closed: bool,
}

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Tls, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        // What is buffered is what the caller gives at once, and taken out before it returns.
        connection.set_buffer_limit(None);
        Ok(Tls { connection, failed: false, closed: false })
    }

    /// Whether no request can have come yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes what the socket gave, and gives what is in it.
    pub(super) fn receive(&mut self, mut bytes: &[u8], mut plain: impl FnMut(&[u8])) -> Received {
        let mut ended = false;
        while !bytes.is_empty() && !self.failed {
            let state = self
                .connection
                .read_tls(&mut bytes)
                .map_err(|e| rustls::Error::General(e.to_string()))
                .and_then(|_| self.connection.process_new_packets());
            match state {
                Ok(state) => {
                    self.take_plain(state.plaintext_bytes_to_read(), &mut plain);
                    ended |= state.peer_has_closed();
                }
                Err(e) => {
                    log::debug!("a TLS connection failed: {e}");
                    self.failed = true;
                }
            }
            if ended {
                // Whatever follows is no part of the conversation (RFC 8446, 6.1).
                break;
            }
        }
        match (self.failed, ended) {
            (true, _) => Received::Failed,
            (false, true) => Received::End,
            (false, false) => Received::More,
        }
    }

    fn take_plain(&mut self, mut left: usize, plain: &mut impl FnMut(&[u8])) {
        let mut buffer = [0; PLAIN_BYTES];
        while left > 0 {
            let length = left.min(PLAIN_BYTES);
            // As many are there, it was told; an error would be an end, which is told as well.
            let Ok(read @ 1..) = self.connection.reader().read(&mut buffer[..length]) else {
                break;
            };
            plain(&buffer[..read]);
            left -= read;
        }
    }

    /// The parts as records, after whatever else has to be sent before them.
    pub(super) fn seal(&mut self, parts: &[Bytes]) -> Bytes {
        for part in parts {
            let written = self.connection.writer().write_all(part);
            written.expect("a buffer without a limit takes everything");
        }
        self.take_out().unwrap_or_default()
    }

    /// What has to be sent, if anything.
    pub(super) fn take_out(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut out).expect("a vector takes all that is written to it");
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// Says that nothing more comes from here, once.
    pub(super) fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) && !self.failed {
            self.connection.send_close_notify();
        }
    }
}
