//! What travels over the WebSocket of a session in a zone (`exec`, `login`), message by message.
//!
//! ```text
//!   client                          consoled
//!     │ ── 5 Begin ───────────────────▶ │   once, first
//!     │ ── 0 input, 4 size ───────────▶ │   an empty input ends stdin
//!     │ ◀─────────── 1 output, 2 errors ── │   a terminal has output alone
//!     │ ◀──────────────────────── 3 End ── │   once, last
//! ```
//!
//! Every message is binary: its first byte says which channel it is of, the rest is its content, bytes or
//! JSON. The numbers 0 to 4 are those of Kubernetes' `remotecommand` channels.

use crate::frame::Refusal;
use crate::standing::WindowSize;
use crate::zone::Outcome;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most bytes in one message: a [`Begin`] has to carry a command and its environment as JSON.
pub const PACKET_BYTES_MAX: usize = 64 * 1024;
/// Bytes of input or output that are put into one message.
pub const PIECE_BYTES: usize = 16 * 1024;

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;
const END: u8 = 3;
const SIZE: u8 = 4;
const BEGIN: u8 = 5;

/// One message, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// For the program's stdin; nothing at all ends it.
    Input(&'a [u8]),
    /// From the program's stdout, or from its terminal.
    Output(&'a [u8]),
    /// From the program's stderr.
    Errors(&'a [u8]),
    /// It is over; nothing follows.
    End(End),
    /// The client's window has another size now.
    Size(WindowSize),
    /// What to run.
    Begin(Begin),
}

/// What to run in a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Begin {
    /// The program and its arguments; a login shell if empty.
    pub command: Vec<String>,
    /// Further variables.
    pub environment: Vec<(String, String)>,
    /// A terminal of this size; three pipes if none.
    pub terminal: Option<WindowSize>,
    /// It is left running, its output in the zone's log: the end comes at once, and a terminal it has none.
    pub detached: bool,
}

/// How a session went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The program has ended.
    Outcome(Outcome),
    /// It runs, and nobody waits for it.
    Detached {
        /// The number by which events name it.
        session: u64,
    },
    /// Nothing was run.
    Refused(Refusal),
    /// It cannot be known: a daemon went away while the program ran.
    Lost {
        /// What happened.
        message: String,
    },
}

/// What is wrong with a message.
#[derive(Debug, Error)]
pub enum PacketError {
    /// It has no first byte.
    #[error("a message without a channel: its first byte has to name one")]
    Empty,
    /// Longer than any may be.
    #[error("a message of {got} bytes is over the limit of {PACKET_BYTES_MAX}")]
    Long {
        /// Its length.
        got: usize,
    },
    /// A channel that there is not.
    #[error("channel {got} does not exist: there are 0 to 5")]
    Channel {
        /// The first byte.
        got: u8,
    },
    /// The content is not the JSON of its channel.
    #[error("the content of channel {channel} is not its JSON: {source}")]
    Content {
        /// Which channel.
        channel: u8,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl<'a> Packet<'a> {
    /// Takes a message apart.
    ///
    /// # Errors
    /// [`PacketError`]: whoever sent it does not speak this protocol.
    pub fn parse(message: &'a [u8]) -> Result<Self, PacketError> {
        if message.len() > PACKET_BYTES_MAX {
            return Err(PacketError::Long { got: message.len() });
        }
        let (&channel, rest) = message.split_first().ok_or(PacketError::Empty)?;
        let content = |source| PacketError::Content { channel, source };
        Ok(match channel {
            INPUT => Self::Input(rest),
            OUTPUT => Self::Output(rest),
            ERRORS => Self::Errors(rest),
            END => Self::End(serde_json::from_slice(rest).map_err(content)?),
            SIZE => Self::Size(serde_json::from_slice(rest).map_err(content)?),
            BEGIN => Self::Begin(serde_json::from_slice(rest).map_err(content)?),
            got => return Err(PacketError::Channel { got }),
        })
    }

    /// The message's bytes.
    ///
    /// # Errors
    /// [`PacketError::Long`] if no message can hold it.
    pub fn encode(&self) -> Result<Vec<u8>, PacketError> {
        let content = |channel| move |source| PacketError::Content { channel, source };
        let (channel, rest) = match self {
            Self::Input(bytes) => (INPUT, bytes.to_vec()),
            Self::Output(bytes) => (OUTPUT, bytes.to_vec()),
            Self::Errors(bytes) => (ERRORS, bytes.to_vec()),
            Self::End(end) => (END, serde_json::to_vec(end).map_err(content(END))?),
            Self::Size(size) => (SIZE, serde_json::to_vec(size).map_err(content(SIZE))?),
            Self::Begin(begin) => (BEGIN, serde_json::to_vec(begin).map_err(content(BEGIN))?),
        };
        if rest.len() >= PACKET_BYTES_MAX {
            return Err(PacketError::Long { got: rest.len() + 1 });
        }
        let mut message = vec![channel];
        message.extend(rest);
        Ok(message)
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_channel_has_its_number() {
        let size = WindowSize { rows: 24, columns: 80 };
        let begin = Begin { command: vec!["ls".to_owned()], ..Begin::default() };
        let packets = [
            Packet::Input(b"in"),
            Packet::Output(b"out"),
            Packet::Errors(b"err"),
            Packet::End(End::Outcome(Outcome::Exited { code: 7 })),
            Packet::Size(size),
            Packet::Begin(begin),
        ];
        for (number, packet) in packets.iter().enumerate() {
            let bytes = packet.encode().unwrap();
            assert_eq!(usize::from(bytes[0]), number);
            assert_eq!(Packet::parse(&bytes).unwrap(), *packet);
        }
    }

    #[test]
    fn the_end_is_said_in_few_words() {
        let end = Packet::End(End::Outcome(Outcome::Exited { code: 0 })).encode().unwrap();
        assert_eq!(&end[1..], br#"{"outcome":{"exited":{"code":0}}}"#);
    }

    #[test]
    fn a_command_may_be_left_out() {
        assert_eq!(Packet::parse(b"\x05{}").unwrap(), Packet::Begin(Begin::default()));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert!(matches!(Packet::parse(b""), Err(PacketError::Empty)));
        assert!(matches!(Packet::parse(b"\x06"), Err(PacketError::Channel { got: 6 })));
        assert!(matches!(Packet::parse(b"\x04{"), Err(PacketError::Content { channel: 4, .. })));
        let long = vec![0; PACKET_BYTES_MAX + 1];
        assert!(matches!(Packet::parse(&long), Err(PacketError::Long { .. })));
        assert!(Packet::Input(&long[1..]).encode().is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_alike(bytes: Vec<u8>) {
            if let Ok(packet) = Packet::parse(&bytes) {
                let again = packet.encode().unwrap();
                prop_assert_eq!(Packet::parse(&again).unwrap(), packet);
            }
        }
    }
}
